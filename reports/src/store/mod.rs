//! The store: one SQLite file with every run, every burst and its histogram.
//!
//! Each round is a transaction in WAL mode, and so is each other row, so that killing the program at any moment leaves all rounds
//! that were finished. `synchronous` is NORMAL: a loss of power may cost the last rows, never the file.

mod calibrations;
mod error;
mod figures;
mod find;
mod key;
mod load;
mod rows;
mod sound;
mod travel;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, params};
use workloads::evidence::ClockFit;

pub use error::StoreError;
pub use figures::{Accepted, Figure, Gated, Overhead, Past};
pub use key::{HOST_CLASS, Key};
pub use load::Summary;
pub use travel::Merged;

use crate::record::{Checked, Ending, Record, Run, Start, Stored, Void};
use rows::{Bits, BurstRow, CheckedRow, Json, RunRow, StartRow, Table, VoidRow};

/// In the header of every store: `tare` in ASCII.
const APPLICATION_ID: i32 = 0x7461_7265;

/// One script per version, applied in order. Append only: a store remembers by number how many it has seen.
const MIGRATIONS: &[&str] = &[
    include_str!("schema1.sql"),
    include_str!("schema2.sql"),
    include_str!("schema3.sql"),
    include_str!("schema4.sql"),
    include_str!("schema5.sql"),
    include_str!("schema6.sql"),
    include_str!("schema7.sql"),
    include_str!("schema8.sql"),
];

/// The version that all scripts together make.
const VERSION: u32 = MIGRATIONS.len() as u32;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said of a store that can only be read, of its path.
type Refusal = fn(PathBuf) -> StoreError;

/// One SQLite file with runs.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    /// Why nothing can be written, where that is so: it lies on a medium or in a directory that doesn't allow it, or on a disk that is
    /// full.
    refused: Option<Refusal>,
}

impl Store {
    /// Opens the store at `path`; makes it where there is none.
    ///
    /// # Errors
    /// When the directory is missing, or the file isn't a store of ours, is newer than us, damaged or locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match directory.metadata() {
            Ok(about) if about.is_dir() => {}
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(StoreError::Denied(path.to_path_buf())),
            _ => return Err(StoreError::NoDirectory(directory.to_path_buf())),
        }
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens the store at `path`, which must exist. Where nothing can be written, on a full disk, or on a medium or in a directory that
    /// doesn't allow it, the store can be read.
    ///
    /// # Errors
    /// As for [`Store::open`], and when there is no file.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        match path.try_exists() {
            Ok(true) => {}
            // In a folder that isn't to be entered nobody knows what there is.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Err(StoreError::Denied(path.to_path_buf())),
            Ok(false) | Err(_) => return Err(StoreError::Missing(path.to_path_buf())),
        }
        match Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Err(StoreError::Denied(_)) => Self::open_to_read(path, StoreError::Denied),
            Err(StoreError::Full(_)) => Self::open_to_read(path, StoreError::Full),
            result => result,
        }
    }

    /// Opens a store that can't be written. One of an older version is copied, since it has to be brought up to date.
    fn open_to_read(path: &Path, refused: Refusal) -> Result<Self, StoreError> {
        let failed = |e| StoreError::from_sqlite(path, "open", e);
        let mut db = connect_reading(path)?;
        if check_ours(&mut db, path)? < VERSION {
            let mut copy = Connection::open("").map_err(failed)?;
            Backup::new(&db, &mut copy)
                .and_then(|b| b.run_to_completion(4096, Duration::ZERO, None))
                .map_err(failed)?;
            migrate(&mut copy, MIGRATIONS).map_err(failed)?;
            db = copy;
        }
        Ok(Self { db, path: path.to_path_buf(), refused: Some(refused) })
    }

    /// Says before any other reason that nothing can be written.
    fn writable(&self) -> Result<(), StoreError> {
        self.refused.map_or(Ok(()), |refused| Err(refused(self.path.clone())))
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
        Ok(Self { db, path: path.to_path_buf(), refused: None })
    }

    /// Stores a new run, unfinished.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn begin(&self, run: &Run) -> Result<(), StoreError> {
        self.insert("store a new run", &RunRow::new(run))
    }

    /// Stores a start.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn start(&self, run: &str, start: &Start) -> Result<(), StoreError> {
        self.insert("store a start", &StartRow::new(run, start))
    }

    /// Stores a burst.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn record(&self, run: &str, record: &Record) -> Result<(), StoreError> {
        self.insert("store a burst", &BurstRow::new(run, record))
    }

    /// Stores a round that is over, all of it or nothing: its bursts, and why it doesn't count, where it doesn't.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn round(&self, run: &str, bursts: &[Record], void: Option<&Void>) -> Result<(), StoreError> {
        self.together("store a round", || {
            bursts.iter().try_for_each(|burst| self.record(run, burst))?;
            void.map_or(Ok(()), |void| self.void(run, void))
        })
    }

    /// Stores that a round doesn't count.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn void(&self, run: &str, void: &Void) -> Result<(), StoreError> {
        self.insert("store a void round", &VoidRow::new(run, void))
    }

    /// Stores a check.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn check(&self, run: &str, checked: &Checked) -> Result<(), StoreError> {
        self.insert("store a check", &CheckedRow::new(run, checked))
    }

    /// Adds the clock fit to a start that is stored already.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn clock(&self, run: &str, block: u32, environment: &str, fit: &ClockFit) -> Result<(), StoreError> {
        let sql = "UPDATE start SET clock = ?4 WHERE run = ?1 AND block = ?2 AND environment = ?3";
        self.written("store a clock fit", self.db.execute(sql, params![run, block, environment, Json(*fit)]))
    }

    /// Adds to a start that is stored already how long it took to end what was started, nanoseconds.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn stop(&self, run: &str, block: u32, environment: &str, ns: u64) -> Result<(), StoreError> {
        let sql = "UPDATE start SET stop_ns = ?4 WHERE run = ?1 AND block = ?2 AND environment = ?3";
        self.written("store an end", self.db.execute(sql, params![run, block, environment, Bits(ns)]))
    }

    /// Opens a run again, which is to have so many blocks, by that command, and on a host of which that is known. Its figures will be
    /// others.
    ///
    /// # Errors
    /// When its rows were removed, or the store can't be written.
    pub fn resume(&self, run: &Run) -> Result<(), StoreError> {
        self.writable()?;
        let sql = "UPDATE run SET ending = ?2, blocks = ?3, command = ?4, host = ?5, stopped = NULL, figured = NULL, bursts = NULL, gated = NULL
                   WHERE id = ?1 AND pruned IS NULL";
        let opened = params![run.id, Ending::Unfinished, run.blocks, run.command, Json(&run.host)];
        match self.db.execute(sql, opened) {
            Ok(0) => Err(self.no_run(&run.id)),
            rows => self.written("open a run again", rows),
        }
    }

    /// Stores how a run ended, why where that wasn't by plan, and how long it took.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn finish(&self, run: &str, ending: Ending, stopped: Option<&str>, seconds: f64) -> Result<(), StoreError> {
        let sql = "UPDATE run SET ending = ?2, stopped = ?3, seconds = ?4 WHERE id = ?1";
        self.written("store the end of a run", self.db.execute(sql, params![run, ending, stopped, seconds]))
    }

    /// Stores a whole run, all rows or none.
    ///
    /// # Errors
    /// When the store can't be written; it is then as it was.
    pub fn import(&self, stored: &Stored) -> Result<(), StoreError> {
        self.together("store an imported run", || self.write(stored))
    }

    /// The rows of a whole run, within a transaction.
    fn write(&self, stored: &Stored) -> Result<(), StoreError> {
        self.begin(&stored.run)?;
        self.write_rows(stored)
    }

    /// The same of a run that is here, and whose rows were removed.
    fn rewrite(&self, stored: &Stored) -> Result<(), StoreError> {
        self.resume(&stored.run)?;
        self.write_rows(stored)
    }

    fn write_rows(&self, stored: &Stored) -> Result<(), StoreError> {
        let id = &stored.run.id;
        stored.starts.iter().try_for_each(|start| self.start(id, start))?;
        stored.records.iter().try_for_each(|record| self.record(id, record))?;
        stored.voids.iter().try_for_each(|void| self.void(id, void))?;
        stored.checks.iter().try_for_each(|check| self.check(id, check))?;
        match stored.seconds {
            Some(seconds) => self.finish(id, stored.ending, stored.stopped.as_deref(), seconds),
            None => Ok(()),
        }
    }

    /// Several rows, all or none.
    fn together(&self, doing: &'static str, write: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let failed = |e| StoreError::from_sqlite(&self.path, doing, e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        write()?;
        transaction.commit().map_err(failed)
    }

    fn insert(&self, doing: &'static str, row: &impl Table) -> Result<(), StoreError> {
        self.written(doing, row.insert(&self.db))
    }

    fn written(&self, doing: &'static str, rows: rusqlite::Result<usize>) -> Result<(), StoreError> {
        rows.map(|_| ()).map_err(|e| self.failed(doing, e))
    }

    fn failed(&self, doing: &'static str, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, doing, error)
    }
}

/// Up to this size a store is checked to its last page when it is opened, bytes; beyond, all but its bursts, whose pages SQLite looks
/// at when they are read.
const CHECKED_WHOLE: u64 = 64 << 20;

/// A connection that changes nothing, not even the files beside the store.
fn connect_reading(path: &Path) -> Result<Connection, StoreError> {
    // SQLite's log lies beside the file that a link leads to.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let path = real.as_path();
    let failed = |e| StoreError::from_sqlite(path, "open", e);
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        std::fs::metadata(name).is_ok_and(|m| m.len() > 0)
    };
    // Somebody is writing, or was killed: only SQLite knows how to read both files as one, and writes for it.
    if beside("-wal") || beside("-journal") {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let db = db.map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        let read = db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        return read.map(|()| db).map_err(|e| match StoreError::from_sqlite(path, "open", e) {
            StoreError::Denied(path) => StoreError::Unfinished(path),
            other => other,
        });
    }
    let name = path.to_str().ok_or_else(|| StoreError::Denied(path.to_path_buf()))?;
    let name = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).map_err(failed)
}

/// Says what the file is, if it isn't an intact store of ours or an empty file; else its version.
fn check_ours(db: &mut Connection, path: &Path) -> Result<u32, StoreError> {
    let failed = |e| StoreError::from_sqlite(path, "read", e);
    // One look at one state: between two, another process may have made the store.
    let db = db.transaction().map_err(failed)?;
    let id: i32 = db.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(failed)?;
    let version: u32 = db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(failed)?;
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 50")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .map_err(failed)?;
    let fresh = id == 0 && version == 0 && tables.is_empty();
    if !fresh && id != APPLICATION_ID {
        let tables = tables.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        return Err(StoreError::Foreign { path: path.to_path_buf(), tables });
    }
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_path_buf(), found: version, known: VERSION });
    }
    // Milliseconds for a store of megabytes, and a damaged page is better found now than in the middle of a run.
    let large = std::fs::metadata(path).is_ok_and(|m| m.len() > CHECKED_WHOLE);
    let parts = if large { tables.into_iter().filter(|t| t != "burst").map(Some).collect() } else { vec![None] };
    for part in parts {
        let check =
            part.map_or("quick_check(1)".into(), |table| format!("quick_check(\"{}\")", table.replace('"', "\"\"")));
        let answer: String = db.query_row(&format!("PRAGMA {check}"), [], |r| r.get(0)).map_err(failed)?;
        if answer != "ok" {
            return Err(StoreError::Corrupt { path: path.to_path_buf(), because: answer });
        }
    }
    Ok(version)
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

#[cfg(test)]
mod tests;
