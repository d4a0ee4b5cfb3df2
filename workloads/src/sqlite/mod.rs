//! SQLite: the work of a small database, in the version that is compiled into the program.

pub mod chatty;
pub mod commit;
pub mod insertions;
pub mod lookup;
pub mod mailbox;
pub mod mixed;
pub mod scan;
pub mod set;
pub mod writers;

mod database;
mod entries;
mod join;

use rusqlite::Connection;

use crate::protocol::BurstPlan;
use crate::settings::{Kind, Setting, Settings};
use crate::stopwatch::Stopwatch;

/// SQLite's version and the start of its source id.
pub fn version() -> String {
    let id = Connection::open_in_memory()
        .and_then(|db| db.query_row("SELECT sqlite_source_id()", [], |row| row.get::<_, String>(0)));
    let id = id.unwrap_or_else(|e| format!("unknown: {e}"));
    format!("{} {}", rusqlite::version(), id.get(..36).unwrap_or(&id))
}

/// What SQLite was compiled with, as it says itself; empty where it doesn't say.
pub fn compile_options() -> Vec<String> {
    let list = |db: Connection| {
        let mut pragma = db.prepare("PRAGMA compile_options")?;
        pragma.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    Connection::open_in_memory().and_then(list).unwrap_or_default()
}

/// The setting `journal` of workloads that write.
const fn journal(default: &'static str) -> Setting {
    Setting {
        name: "journal",
        kind: Kind::Choice(&["delete", "truncate", "persist", "wal", "memory", "off"]),
        default,
        about: "SQLite's journal_mode; with memory and off a crash can corrupt the database",
    }
}

/// The setting `journal` of workloads that mostly read: those modes that lose nothing.
const SAFE_JOURNAL: Setting = Setting {
    name: "journal",
    kind: Kind::Choice(&["wal", "delete", "truncate", "persist"]),
    default: "wal",
    about: "SQLite's journal_mode; with all but wal every read also looks for a journal that was left behind",
};

/// The setting `synchronous`.
const SYNCHRONOUS: Setting = Setting {
    name: "synchronous",
    kind: Kind::Choice(&["off", "normal", "full", "extra"]),
    default: "full",
    about: "SQLite's synchronous; with off and normal a commit is not promised to survive a loss of power",
};

/// The setting `cache_size`.
const fn cache_size(default: &'static str) -> Setting {
    Setting {
        name: "cache_size",
        kind: Kind::Bytes { min: 16 << 10, max: 1 << 40 },
        default,
        about: "Size of SQLite's own cache, bytes, a multiple of 1 KiB",
    }
}

/// Whether a commit with these settings promises that its data survives a loss of power.
///
/// With memory or off as the journal, the data is flushed, but the next transaction that is interrupted may take all of it along. With normal a
/// WAL commit isn't flushed at all, and one with a rollback journal not against every loss of power.
fn durable(settings: &Settings) -> bool {
    matches!(settings.get("synchronous"), "full" | "extra") && !matches!(settings.get("journal"), "memory" | "off")
}

/// A stopwatch for a pass that isn't timed: so many operations, as they are done in a burst.
fn untimed(operations: u64) -> Stopwatch {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX });
    watch
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::registry;

    #[test]
    fn only_what_survives_a_loss_of_power_is_called_durable() {
        let commit = registry::find("sqlite/commit").expect("registered");
        let durable = |journal: &str, synchronous: &str| {
            let given = BTreeMap::from([
                ("journal".to_string(), journal.to_string()),
                ("synchronous".to_string(), synchronous.to_string()),
            ]);
            commit.durable(&commit.resolve(&given).expect("valid"))
        };
        for journal in ["delete", "truncate", "persist", "wal"] {
            assert!(durable(journal, "full") && durable(journal, "extra"), "{journal}");
            assert!(!durable(journal, "normal") && !durable(journal, "off"), "{journal}");
        }
        for synchronous in ["off", "normal", "full", "extra"] {
            assert!(!durable("memory", synchronous) && !durable("off", synchronous), "{synchronous}");
        }
    }
}
