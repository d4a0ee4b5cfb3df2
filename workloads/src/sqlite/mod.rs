//! SQLite: the work of a small database, in the version that is compiled into the program.

pub mod chatty;
pub mod commit;
pub mod insertions;
pub mod lookup;
pub mod mailbox;
pub mod mixed;
pub mod replay;
pub mod scan;
pub mod set;
pub mod writers;

mod database;
mod entries;
mod join;
pub(crate) mod kept;
mod options;
mod rehearsal;
mod script;

use rusqlite::Connection;

use crate::sample::BurstPlan;
use crate::stopwatch::Stopwatch;

/// SQLite's version and the start of its source id.
pub fn version() -> String {
    let id = Connection::open_in_memory()
        .and_then(|db| db.query_row("SELECT sqlite_source_id()", [], |row| row.get::<_, String>(0)));
    let id = id.unwrap_or_else(|e| format!("unknown: {e}"));
    format!("{} {}", rusqlite::version(), id.get(..36).unwrap_or(&id))
}

/// SQLite's compile options, as it says itself; empty where it doesn't say.
pub fn compile_options() -> Vec<String> {
    let list = |db: Connection| {
        let mut pragma = db.prepare("PRAGMA compile_options")?;
        pragma.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    Connection::open_in_memory().and_then(list).unwrap_or_default()
}

/// A stopwatch for a pass that isn't timed: so many operations, as they are done in a burst.
fn untimed(operations: u64) -> Stopwatch {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
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
