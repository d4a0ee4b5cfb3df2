//! The store: one SQLite file with every run, every burst and its histogram.
//!
//! Each row is a transaction of its own in WAL mode, so that killing the program at any moment leaves all bursts that
//! were finished. `synchronous` is NORMAL: a loss of power may cost the last rows, never the file.

mod error;
mod load;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;
use workloads::evidence::ClockFit;

pub use error::StoreError;
pub use load::Summary;

use crate::record::{Checked, Ending, Failure, Record, Run, Start, Step, Stored, Void};

/// In the header of every store: `tare` in ASCII.
const APPLICATION_ID: i32 = 0x7461_7265;

/// One script per version, applied in order. Append only: a store remembers by number how many it has seen.
const MIGRATIONS: &[&str] = &[include_str!("store/schema1.sql"), include_str!("store/schema2.sql")];

/// The version that all scripts together make.
const VERSION: u32 = MIGRATIONS.len() as u32;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// One SQLite file with runs.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the store at `path`; makes it where there is none.
    ///
    /// # Errors
    /// When the directory is missing, or the file isn't a store of ours, is newer than us, damaged or locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(StoreError::NoDirectory(directory.to_path_buf()));
        }
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens the store at `path`, which must exist.
    ///
    /// # Errors
    /// As for [`Store::open`], and when there is no file.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing(path.to_path_buf()));
        }
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Waits where others hold the file. Their read of a store that is just being made stands against the switch to WAL, and
    /// for that SQLite gives up at once, whatever its timeout is.
    fn open_with(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::try_open(path, flags) {
                Err(StoreError::Locked(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                result => return result,
            }
        }
    }

    fn try_open(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let failed = |e| StoreError::from_sqlite(path, "open", e);
        let mut db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        check_ours(&mut db, path)?;
        db.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        db.pragma_update(None, "synchronous", "normal").map_err(failed)?;
        db.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        migrate(&mut db, MIGRATIONS).map_err(failed)?;
        Ok(Self { db, path: path.to_path_buf() })
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores a new run, unfinished.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn begin(&self, run: &Run) -> Result<(), StoreError> {
        self.write(
            "store a new run",
            "INSERT INTO run VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
             'unfinished', NULL)",
            params![
                run.id,
                run.started,
                run.suite,
                run.suite_toml,
                run.seed as i64,
                run.blocks,
                run.rounds,
                run.baseline,
                run.command,
                run.binary_sha256,
                run.version,
                json(&run.labels),
                json(&run.host),
                run.nested,
                json(&run.workloads),
                json(&run.environments),
                run.pinning,
            ],
        )
    }

    /// Stores a start.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn start(&self, run: &str, start: &Start) -> Result<(), StoreError> {
        let (step, message) = failure(&start.outcome);
        self.write(
            "store a start",
            "INSERT INTO start (run, block, environment, start_ns, step, message, memory_bytes, hello, identity, clock)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                run,
                start.block,
                start.environment,
                start.outcome.as_ref().ok().map(|ns| *ns as i64),
                step,
                message,
                start.memory_bytes.map(|b| b as i64),
                start.hello.as_ref().map(json),
                start.identity.as_ref().map(json),
                start.clock.as_ref().map(json),
            ],
        )
    }

    /// Stores a burst.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn record(&self, run: &str, record: &Record) -> Result<(), StoreError> {
        let (step, message) = failure(&record.outcome);
        let sample = record.outcome.as_ref().ok();
        self.write(
            "store a burst",
            "INSERT INTO burst (run, block, round, position, workload, environment, operations, bytes, elapsed_ns,
             warmup_operations, warmup_ns, batch, cut_short, histogram, step, message, canary_before_ns,
             canary_after_ns, evidence, response, lateness, timeline, concurrency, counters)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
             ?23, ?24)",
            params![
                run,
                record.block,
                record.round,
                record.position,
                record.workload,
                record.environment,
                sample.map(|s| s.operations as i64),
                sample.map(|s| s.bytes as i64),
                sample.map(|s| s.elapsed_ns as i64),
                sample.map(|s| s.warmup_operations as i64),
                sample.map(|s| s.warmup_ns as i64),
                sample.map(|s| s.batch),
                sample.map(|s| s.cut_short),
                sample.map(|s| &s.histogram),
                step,
                message,
                record.canary.before_ns as i64,
                record.canary.after_ns as i64,
                json(&record.evidence),
                sample.and_then(|s| s.response.as_ref()),
                sample.and_then(|s| s.lateness.as_ref()),
                sample.map(|s| &s.timeline),
                sample.map_or(1, |s| s.concurrency),
                sample.map(|s| json(&s.counters)),
            ],
        )
    }

    /// Stores that a round doesn't count.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn void(&self, run: &str, void: &Void) -> Result<(), StoreError> {
        self.write(
            "store a void round",
            "INSERT INTO void (run, block, round, workload, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![run, void.block, void.round, void.workload, void.reason],
        )
    }

    /// Stores a check.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn check(&self, run: &str, checked: &Checked) -> Result<(), StoreError> {
        let (step, message) = failure(&checked.outcome);
        let check = checked.outcome.as_ref().ok();
        self.write(
            "store a check",
            "INSERT INTO checked (run, block, workload, environment, value, detail, step, message, facts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                run,
                checked.block,
                checked.workload,
                checked.environment,
                check.map(|c| &c.value),
                check.map(|c| &c.detail),
                step,
                message,
                json(&checked.facts),
            ],
        )
    }

    /// Adds the clock fit to a start that is stored already.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn clock(&self, run: &str, block: u32, environment: &str, fit: &ClockFit) -> Result<(), StoreError> {
        self.write(
            "store a clock fit",
            "UPDATE start SET clock = ?4 WHERE run = ?1 AND block = ?2 AND environment = ?3",
            params![run, block, environment, json(fit)],
        )
    }

    /// Stores how a run ended and how long it took.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn finish(&self, run: &str, ending: Ending, seconds: f64) -> Result<(), StoreError> {
        let ending = ending_name(ending);
        self.write(
            "store the end of a run",
            "UPDATE run SET ending = ?2, seconds = ?3 WHERE id = ?1",
            params![run, ending, seconds],
        )
    }

    /// Stores a whole run, all rows or none.
    ///
    /// # Errors
    /// When the store can't be written; it is then as it was.
    pub fn import(&self, stored: &Stored) -> Result<(), StoreError> {
        let failed = |e| StoreError::from_sqlite(&self.path, "store an imported run", e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        let id = &stored.run.id;
        self.begin(&stored.run)?;
        stored.starts.iter().try_for_each(|start| self.start(id, start))?;
        stored.records.iter().try_for_each(|record| self.record(id, record))?;
        stored.voids.iter().try_for_each(|void| self.void(id, void))?;
        stored.checks.iter().try_for_each(|check| self.check(id, check))?;
        self.finish(id, stored.ending, stored.seconds.unwrap_or(0.0))?;
        transaction.commit().map_err(failed)
    }

    fn write(&self, doing: &'static str, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        // Preparing a statement takes tens of microseconds, between bursts: not worth a cache.
        let written = self.db.execute(sql, params);
        written.map(|_| ()).map_err(|e| StoreError::from_sqlite(&self.path, doing, e))
    }
}

/// Says what the file is, if it isn't an intact store of ours or an empty file.
fn check_ours(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::from_sqlite(path, "read", e);
    // One look at one state: between two, another process may have made the store.
    let db = db.transaction().map_err(failed)?;
    let id: i32 = db.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(failed)?;
    let version: u32 = db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(failed)?;
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 5")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .map_err(failed)?;
    let fresh = id == 0 && version == 0 && tables.is_empty();
    if !fresh && id != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_path_buf(), tables: tables.join(", ") });
    }
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_path_buf(), found: version, known: VERSION });
    }
    // Milliseconds for a store of megabytes, and a damaged page is better found now than in the middle of a run.
    let answer: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(failed)?;
    if answer != "ok" {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), because: answer });
    }
    Ok(())
}

/// Brings the schema up to date. Immediate, so that of two processes one waits and then finds nothing left to do.
fn migrate(db: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let seen = |db: &Connection| db.pragma_query_value(None, "user_version", |r| r.get::<_, u32>(0));
    if seen(db)? as usize >= migrations.len() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for (version, script) in migrations.iter().enumerate().skip(seen(&transaction)? as usize) {
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "user_version", version as u32 + 1)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("rows are maps with string keys, lists and numbers")
}

fn failure<T>(outcome: &Result<T, Failure>) -> (Option<&'static str>, Option<&str>) {
    match outcome {
        Ok(_) => (None, None),
        Err(f) => (Some(step_name(f.step)), Some(&f.message)),
    }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Start => "start",
        Step::Prepare => "prepare",
        Step::Burst => "burst",
        Step::Verify => "verify",
    }
}

fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Unfinished => "unfinished",
        Ending::Complete => "complete",
        Ending::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests;
