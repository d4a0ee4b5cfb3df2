//! A database in a file of ours: made, set, flushed and dropped from the caches, with errors that say what to do about them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use super::options::{Journal, Synchronous};
use crate::residency;
use crate::settings::Bytes;

/// SQLite checkpoints its log by itself at so many pages.
const CHECKPOINT: u64 = 1000;
/// Times that the kernel is asked to drop a file's pages: it may hold some for a moment longer.
const ASKED: u32 = 5;

/// An open database.
pub(super) struct Database {
    /// The connection. Dropped before the file: closing any descriptor of a file gives up the process's locks on it.
    pub db: Connection,
    file: File,
    path: PathBuf,
}

impl Database {
    /// Opens the database, or makes it. What SQLite needs beside its files it keeps in memory: a box may have no `/tmp`.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let db = Connection::open(path).with_context(|| format!("can't open the database {}", path.display()))?;
        Self::of(db, path)
    }

    /// A database that is open already.
    pub fn of(db: Connection, path: &Path) -> anyhow::Result<Self> {
        // SQLite makes the file when it first writes to it; whoever comes first makes it here.
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("can't open the database {}", path.display()))?;
        let database = Self { db, file, path: path.to_path_buf() };
        database.set("temp_store", "2", "temp_store")?;
        Ok(database)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets a PRAGMA and reads it back; `setting` is what the user knows it as.
    pub fn set(&self, name: &str, value: &str, setting: &str) -> anyhow::Result<()> {
        let set = || -> rusqlite::Result<()> {
            let mut pragma = self.db.prepare(&format!("PRAGMA {name} = {value}"))?;
            // Some answer with a row, and some with none.
            let mut rows = pragma.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        set()
            .map_err(|e| self.explain(e))
            .with_context(|| format!("can't set {name} to {value} on {}", self.path.display()))?;
        let got = self.pragma(name)?;
        anyhow::ensure!(
            got == value,
            "SQLite refused {name} = {value} on {} and stayed with {got}; set {setting} = {got} for all environments",
            self.path.display()
        );
        Ok(())
    }

    /// Sets journal_mode; a mode that the environment can't do is an error.
    pub fn journal(&self, mode: Journal) -> anyhow::Result<()> {
        self.set("journal_mode", mode.word(), "journal")?;
        if mode == Journal::Wal {
            // The log's index is shared memory, and whether there is any shows with the first transaction.
            self.db.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(|e| {
                let advice = format!(
                    "the file system of {} has no shared memory for a write-ahead log; set journal = delete for all environments",
                    self.path.display()
                );
                match no_shared_memory(&e) {
                    true => anyhow::anyhow!("{e}").context(advice),
                    false => self.explain(e),
                }
            })?;
        }
        Ok(())
    }

    /// Sets synchronous.
    pub fn synchronous(&self, synchronous: Synchronous) -> anyhow::Result<()> {
        self.set("synchronous", synchronous.number(), "synchronous")
    }

    /// Sets the size of SQLite's own cache.
    pub fn cache(&self, Bytes(bytes): Bytes) -> anyhow::Result<()> {
        anyhow::ensure!(bytes.is_multiple_of(1024), "cache_size has to be a multiple of 1 KiB, and is {bytes} bytes");
        self.set("cache_size", &format!("-{}", bytes / 1024), "cache_size")
    }

    /// A PRAGMA's value as SQLite now has it, as text.
    pub fn pragma(&self, name: &str) -> anyhow::Result<String> {
        let value: Value = self
            .db
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
            .map_err(|e| self.explain(e))
            .with_context(|| format!("can't read PRAGMA {name} of {}", self.path.display()))?;
        Ok(match value {
            Value::Integer(n) => n.to_string(),
            Value::Text(t) => t,
            other => format!("{other:?}"),
        })
    }

    /// PRAGMAs as SQLite now has them, and the size of the database's file.
    pub fn facts(&self, pragmas: &[&str]) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let all = ["journal_mode", "synchronous", "page_size", "cache_size", "temp_store"];
        for name in all.iter().chain(pragmas) {
            facts.insert(name.to_string(), self.pragma(name).unwrap_or_else(|e| format!("{e:#}")));
        }
        let size = self.size().map_or_else(|e| format!("{e:#}"), |bytes| bytes.to_string());
        facts.insert("database_bytes".into(), size);
        facts
    }

    /// Bytes of the database's file.
    pub fn size(&self) -> anyhow::Result<u64> {
        let size = self.file.metadata().map(|m| m.len());
        size.with_context(|| format!("can't ask for the size of {}", self.path.display()))
    }

    /// Makes the write-ahead log as long as it gets before SQLite checkpoints, so that no burst pays for making it longer. Leaves the
    /// database as it is: what is written there is rolled back.
    pub fn grow_log(&self) -> anyhow::Result<()> {
        if self.pragma("journal_mode")? != "wal" {
            return Ok(());
        }
        let page: u64 = self.pragma("page_size")?.parse().context("page_size isn't a number")?;
        let cache = self.pragma("cache_size")?;
        // With a cache as small as this, pages go to the log before the transaction ends.
        let script = format!(
            "PRAGMA cache_size = 10;
             BEGIN;
             CREATE TABLE ballast (value BLOB NOT NULL);
             INSERT INTO ballast (value) VALUES (zeroblob({}));
             ROLLBACK;
             PRAGMA cache_size = {cache};",
            (CHECKPOINT + 50) * page
        );
        self.db
            .execute_batch(&script)
            .map_err(|e| self.explain(e))
            .with_context(|| format!("can't make the write-ahead log of {} long enough", self.path.display()))
    }

    /// Writes the log's pages to the database and begins it anew, at the length it has. Nothing to do with other journals.
    pub fn checkpoint(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.try_checkpoint()?,
            "the write-ahead log of {} is in use by someone else",
            self.path.display()
        );
        Ok(())
    }

    /// As [`Database::checkpoint`]; `false` where somebody else uses the log.
    pub fn try_checkpoint(&self) -> anyhow::Result<bool> {
        if self.pragma("journal_mode")? != "wal" {
            return Ok(true);
        }
        let busy: i64 = self
            .db
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))
            .map_err(|e| self.explain(e))
            .with_context(|| format!("can't checkpoint the write-ahead log of {}", self.path.display()))?;
        Ok(busy == 0)
    }

    /// Forces the database's files to the device, so that nothing written before is paid for by what is timed later.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("can't flush {}", self.path.display()))?;
        let log = beside(&self.path, "-wal");
        match File::open(&log) {
            Ok(file) => file.sync_all().with_context(|| format!("can't flush {}", log.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).with_context(|| format!("can't open {} to flush it", log.display())),
        }
    }

    /// Drops what SQLite and the kernel hold of the database in memory.
    ///
    /// # Errors
    /// When pages stay in the kernel's page cache all the same.
    pub fn chill(&self) -> anyhow::Result<()> {
        self.db.release_memory().context("can't drop SQLite's cache")?;
        self.flush()?;
        let mut resident = 0.0;
        for attempt in 0..ASKED {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(1 << attempt));
            }
            residency::forget(&self.file)?;
            resident = self.resident()?;
            if resident == 0.0 {
                return Ok(());
            }
        }
        anyhow::bail!(
            "{:.1} % of {} stay in the page cache after the kernel was asked to drop them, so reads would not be cold; \
             set cache = warm for all environments",
            100.0 * resident,
            self.path.display()
        )
    }

    /// Share of the database's pages that are in the page cache of the kernel that serves it, 0..1.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let looked = residency::resident(&self.file, self.size()?);
        looked.map(|(share, _)| share).with_context(|| format!("can't see what of {} is cached", self.path.display()))
    }

    /// Fails unless SQLite finds the whole database sound.
    pub fn check_integrity(&self) -> anyhow::Result<()> {
        let verdict = self.pragma("integrity_check")?;
        anyhow::ensure!(verdict == "ok", "integrity_check of {} says: {verdict}", self.path.display());
        Ok(())
    }

    /// An error in SQLite's words, with the file and, where something can be done about it, with that.
    #[cold]
    pub fn explain(&self, error: rusqlite::Error) -> anyhow::Error {
        let code = error.sqlite_error().map_or(0, |e| e.extended_code);
        // SAFETY: the connection is open, and the call only reads a number from it.
        let errno = unsafe { ffi::sqlite3_system_errno(self.db.handle()) };
        // As text: the chain of the original would say everything twice.
        let said = match code {
            0 => anyhow::Error::from(error),
            code => anyhow::anyhow!("{error} (SQLite's error {code})"),
        };
        match advice(code, errno, &self.path) {
            Some(advice) => said.context(advice),
            None => said,
        }
    }
}

/// The name of a file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Advice for an error of SQLite, by its extended code and the system's error under it.
fn advice(code: i32, errno: i32, path: &Path) -> Option<String> {
    let path = path.display();
    let smaller = "or set fewer or smaller rows, a smaller size or fewer operations";
    let input_output = code & 0xff == ffi::SQLITE_IOERR;
    match errno {
        libc::EDQUOT if input_output || code == ffi::SQLITE_FULL => {
            Some(format!("the disk quota that holds for {path} is used up; raise it {smaller}"))
        }
        _ if code == ffi::SQLITE_FULL || (input_output && errno == libc::ENOSPC) => {
            Some(format!("the file system of {path} is full; make room in the data directory {smaller}"))
        }
        libc::EFBIG if input_output => {
            Some(format!("{path} may not get longer; raise the limit of file sizes {smaller}"))
        }
        _ if code & 0xff == ffi::SQLITE_READONLY || errno == libc::EROFS => {
            Some(format!("{path} can't be written to; put the data directory on a file system that is writable"))
        }
        _ if matches!(code & 0xff, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => Some(format!(
            "the database {path} is broken; with journal = off a transaction that fails in the middle does that, for which \
             another journal is to be set"
        )),
        0 => None,
        _ if input_output => {
            let system = io::Error::from_raw_os_error(errno);
            Some(format!("the system says of {path}: {system}; see the kernel's log"))
        }
        _ => None,
    }
}

/// Whether an error is that of a file system without what a write-ahead log's index needs.
fn no_shared_memory(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    matches!(
        code,
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMMAP | ffi::SQLITE_IOERR_SHMLOCK | ffi::SQLITE_IOERR_LOCK
    ) || matches!(code & 0xff, ffi::SQLITE_CANTOPEN | ffi::SQLITE_PROTOCOL)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory beside the test itself, on a disk, which `/tmp` may not be.
    fn disk() -> tempfile::TempDir {
        let test = std::env::current_exe().expect("a path");
        tempfile::tempdir_in(test.parent().expect("a folder")).expect("a directory")
    }

    #[test]
    fn a_log_grows_to_its_full_size_and_the_database_does_not() {
        let directory = disk();
        let path = directory.path().join("a.db");
        let database = Database::open(&path).expect("opened");
        database.journal(Journal::Wal).expect("a log");
        database.cache(Bytes(2 << 20)).expect("set");
        database.db.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY)").expect("made");
        database.checkpoint().expect("checkpointed");
        let before = std::fs::read(&path).expect("read");
        database.grow_log().expect("grown");
        let log = || beside(&path, "-wal").metadata().expect("there").len();
        assert!(log() >= CHECKPOINT * 4096, "{}", log());
        database.checkpoint().expect("checkpointed");
        assert!(log() >= CHECKPOINT * 4096, "a checkpoint keeps the length");
        assert_eq!(database.pragma("cache_size").expect("read"), "-2048");
        drop(database);
        assert!(std::fs::read(&path).expect("read") == before, "and nothing came to the database");
    }

    #[test]
    fn a_log_without_shared_memory_names_the_journal_to_set() {
        let directory = disk();
        let path = directory.path().join("a.db");
        // Where the index should be, there is what SQLite doesn't follow.
        std::os::unix::fs::symlink("nowhere", beside(&path, "-shm")).expect("made");
        let error = Database::open(&path).expect("opened").journal(Journal::Wal).expect_err("no shared memory");
        let said = format!("{error:#}");
        assert!(said.contains("has no shared memory") && said.contains("set journal = delete"), "{said}");
        assert!(said.contains("a.db") && said.contains("unable to open"), "{said}");
    }

    #[test]
    fn a_refused_pragma_says_what_to_set() {
        let directory = disk();
        let database = Database::open(&directory.path().join("a.db")).expect("opened");
        let error = database.set("page_size", "5000", "page_size").expect_err("no power of two").to_string();
        assert!(error.contains("stayed with 4096; set page_size = 4096 for all"), "{error}");
    }

    #[test]
    fn a_cold_database_is_read_from_its_file_again() {
        let directory = disk();
        let database = Database::open(&directory.path().join("a.db")).expect("opened");
        database.cache(Bytes(8 << 20)).expect("set");
        database
            .db
            .execute_batch("CREATE TABLE entry (value BLOB); INSERT INTO entry VALUES (randomblob(1000000))")
            .expect("filled");
        let read = || {
            let sum: i64 =
                database.db.query_row("SELECT length(hex(value)) FROM entry", [], |r| r.get(0)).expect("read");
            assert_eq!(sum, 2_000_000);
        };
        read();
        database.chill().expect("this file system drops pages");
        assert_eq!(database.resident().expect("seen"), 0.0);
        read();
        assert!(database.resident().expect("seen") > 0.9, "SQLite's own cache was dropped too");
    }

    #[test]
    fn what_is_full_is_told_apart_from_what_is_broken() {
        let say = |code, errno| advice(code, errno, Path::new("/data/x.db")).unwrap_or_default();
        assert!(say(ffi::SQLITE_FULL, 0).contains("file system of /data/x.db is full"));
        assert!(say(ffi::SQLITE_IOERR_SHMSIZE, libc::ENOSPC).contains("is full"));
        assert!(say(ffi::SQLITE_IOERR_WRITE, libc::EDQUOT).contains("quota"));
        assert!(say(ffi::SQLITE_IOERR_FSYNC, libc::EIO).contains("kernel's log"));
        assert_eq!(say(ffi::SQLITE_CONSTRAINT, 0), "");
    }
}
