//! Stores that travel: runs that go into a file of their own, come back from one, or are given up.
//!
//! A file from elsewhere is whatever somebody wrote. It is copied and only the copy is looked at: whether its tables are those that we
//! make, whether SQLite finds it whole, and whether every row of every run can be understood. All of that comes before anything is
//! written, so a file that is refused has changed nothing.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::figures::Figure;
use super::load::WRITTEN;
use super::rows::{FigureRow, RunRow};
use super::{MIGRATIONS, PATIENCE, Store, StoreError, check_ours, connect_reading, migrate, sound};
use crate::record::{GROWING, Run, Stored};

/// The longest value of a file from elsewhere, bytes: many times the largest histogram.
const LONGEST: i32 = 8 << 20;

/// The longest id of a run from elsewhere.
const LONGEST_ID: usize = 32;

/// Tables with the rows of a run.
const ROWS: [&str; 4] = ["start", "burst", "void", "checked"];

/// Pages that are copied at a time.
const PAGES: i32 = 4096;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A run with all that is kept of it.
struct Whole {
    stored: Stored,
    /// When its rows were removed, and what was left.
    pruned: Option<(String, Vec<Figure>)>,
}

/// What became of the runs of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Runs that were not here.
    pub added: Vec<String>,
    /// Runs that were here and have got more rows.
    pub grown: Vec<String>,
    /// Runs that were here already, with all that the file has of them.
    pub known: Vec<String>,
}

/// How a run of a file stands to the one of the same id here.
enum Standing {
    New,
    Grown,
    Known,
}

impl Store {
    /// Writes runs into a new store at `to`: one file, which can be read where nothing can be written.
    ///
    /// # Errors
    /// When there is something at `to`, or it can't be written, or a run can't be read; there is then no file.
    pub fn export(&self, ids: &[String], to: &Path) -> Result<()> {
        if to.exists() {
            return Err(StoreError::Exists(to.to_path_buf()));
        }
        let directory = to.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(StoreError::NoDirectory(directory.to_path_buf()));
        }
        let denied = |_| StoreError::Denied(to.to_path_buf());
        // Its name is nobody else's, and whatever is in it when this fails goes with it.
        let folder = tempfile::Builder::new().prefix(".tarebench-export-").tempdir_in(directory).map_err(denied)?;
        let part = folder.path().join("export.db");
        self.export_to(ids, &part)?;
        // The last connection is closed: its log is gone, and the file whole.
        std::fs::rename(&part, to).map_err(denied)
    }

    fn export_to(&self, ids: &[String], part: &Path) -> Result<()> {
        let out = Store::open(part)?;
        for id in ids {
            out.put(&self.whole(id)?)?;
            // Where the file can't be written they couldn't be kept.
            out.figures(id)?;
        }
        // Without a log a store can be opened on a medium that can't be written.
        out.db.pragma_update(None, "journal_mode", "delete").map_err(|e| out.failed("finish the file", e))
    }

    /// Takes the runs of another store into this one. Each is taken whole or not at all; what is here already is left as it is, so
    /// that a file can be merged twice, and by two at a time.
    ///
    /// # Errors
    /// When the file is not a sound store, or a run of the same id here is another one: nothing of the file is then taken. When this
    /// store can't be written: runs that were taken before stay.
    pub fn merge(&self, file: &Path) -> Result<Merged> {
        let theirs = Store { db: copy(file)?, path: file.to_path_buf(), refused: Some(StoreError::Denied) };
        let ids: Vec<String> = theirs.runs()?.into_iter().map(|run| run.id).collect();
        for id in &ids {
            check_id(file, id)?;
            let whole = theirs.whole(id)?;
            if let Some(what) = sound::finding(&whole.stored) {
                return Err(StoreError::Altered { path: file.to_path_buf(), what });
            }
            self.standing(&whole)?;
        }
        let mut merged = Merged::default();
        for id in ids {
            let list = match self.take(&theirs.whole(&id)?)? {
                Standing::New => &mut merged.added,
                Standing::Grown => &mut merged.grown,
                Standing::Known => &mut merged.known,
            };
            list.push(id);
        }
        Ok(merged)
    }

    /// Takes a run, under a lock that another who merges waits for.
    fn take(&self, whole: &Whole) -> Result<Standing> {
        let failed = |e| self.failed("merge a run", e);
        let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate).map_err(failed)?;
        let standing = self.standing(whole)?;
        match standing {
            Standing::Known => return Ok(standing),
            Standing::New => self.write(&whole.stored)?,
            // What was accepted stays accepted: the row of the run is changed, and its own rows are written anew.
            Standing::Grown => {
                self.clear("merge a run", &whole.stored.run.id, &[&ROWS[..], &["figure"]].concat())?;
                self.rewrite(&whole.stored)?;
            }
        }
        self.keep_pruned(whole)?;
        transaction.commit().map_err(failed)?;
        Ok(standing)
    }

    fn put(&self, whole: &Whole) -> Result<()> {
        self.together("store a run", || {
            self.write(&whole.stored)?;
            self.keep_pruned(whole)
        })
    }

    fn keep_pruned(&self, whole: &Whole) -> Result<()> {
        let Some((at, figures)) = &whole.pruned else { return Ok(()) };
        let id = &whole.stored.run.id;
        self.write_figures(id, figures)?;
        self.written("store a run", self.db.execute("UPDATE run SET pruned = ?2 WHERE id = ?1", params![id, at]))
    }

    /// A run with everything that is kept of it.
    fn whole(&self, id: &str) -> Result<Whole> {
        let Some(at) = self.pruned(id)? else { return Ok(Whole { stored: self.load(id)?, pruned: None }) };
        let rows = self.rows("WHERE id = ?1", id, |row: RunRow| Ok(row.into_run()))?;
        let stored = rows.into_iter().next().ok_or_else(|| self.no_run(id))?;
        let figures = self.rows(WRITTEN, id, |row: FigureRow| Ok(row.into_figure()))?;
        if !figures.iter().all(Figure::is_sound) {
            return Err(StoreError::Altered {
                path: self.path.clone(),
                what: format!("a figure of run {id} is no number"),
            });
        }
        Ok(Whole { stored, pruned: Some((at, figures)) })
    }

    /// When the rows of a run were removed; `None` where they are there.
    pub(super) fn pruned(&self, id: &str) -> Result<Option<String>> {
        let found = self.db.query_row("SELECT pruned FROM run WHERE id = ?1", [id], |r| r.get(0)).optional();
        Ok(found.map_err(|e| self.failed("read a run", e))?.flatten())
    }

    fn standing(&self, theirs: &Whole) -> Result<Standing> {
        let id = &theirs.stored.run.id;
        let ours = match self.whole(id) {
            Ok(ours) => ours,
            Err(StoreError::NoRun { .. }) => return Ok(Standing::New),
            Err(e) => return Err(e),
        };
        if !is_same(&ours.stored.run, &theirs.stored.run) {
            return Err(StoreError::OtherRun { run: id.clone() });
        }
        if ours.pruned.is_some() || theirs.pruned.is_some() || begins(&ours.stored, &theirs.stored) {
            return Ok(Standing::Known);
        }
        if begins(&theirs.stored, &ours.stored) {
            Ok(Standing::Grown)
        } else {
            Err(StoreError::OtherRun { run: id.clone() })
        }
    }

    /// Removes runs, with everything that is kept of them.
    ///
    /// # Errors
    /// When there is no run of an id, or the store can't be written; nothing is then removed.
    pub fn remove(&self, ids: &[String]) -> Result<()> {
        self.writable()?;
        let failed = |e| self.failed("remove a run", e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        for id in ids {
            if self.db.execute("DELETE FROM run WHERE id = ?1", [id]).map_err(failed)? == 0 {
                return Err(self.no_run(id));
            }
        }
        transaction.commit().map_err(failed)
    }

    /// Removes all rows of a run but for its figures; says whether there were any.
    ///
    /// # Errors
    /// When the run has not ended, or the store can't be written.
    pub fn prune(&self, id: &str, at: &str) -> Result<bool> {
        self.writable()?;
        if self.pruned(id)?.is_some() {
            return Ok(false);
        }
        self.kept_figures(id)?;
        if !self.is_figured(id)? {
            return Err(StoreError::NotEnded { run: id.into() });
        }
        let failed = |e| self.failed("prune a run", e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        self.clear("prune a run", id, &ROWS)?;
        self.db.execute("UPDATE run SET pruned = ?2 WHERE id = ?1", params![id, at]).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(true)
    }

    /// Gives the space of what was removed back to the disk. Nobody can write meanwhile.
    ///
    /// # Errors
    /// When the store can't be written, somebody else writes, or there is no room for the copy that it takes.
    pub fn shrink(&self) -> Result<()> {
        self.writable()?;
        let shrunk = self.db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
        shrunk.map_err(|e| self.failed("give back what was removed", e))
    }

    fn clear(&self, doing: &'static str, id: &str, tables: &[&str]) -> Result<()> {
        let clear = |table: &&str| self.db.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [id]);
        tables.iter().try_for_each(|table| self.written(doing, clear(table)))
    }
}

/// A copy of a store from elsewhere, brought up to date; nothing else is done with the file.
fn copy(file: &Path) -> Result<Connection> {
    check_file(file)?;
    let failed = |e| StoreError::from_sqlite(file, "read", e);
    let mut theirs = connect_reading(file)?;
    let version = check_ours(&mut theirs, file)?;
    // Lies on disk beyond what fits into memory, and is gone when it is closed.
    let mut copy = Connection::open("").map_err(failed)?;
    Backup::new(&theirs, &mut copy).and_then(|b| b.run_to_completion(PAGES, PATIENCE / 500, None)).map_err(failed)?;
    copy.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST).map_err(failed)?;
    copy.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(failed)?;
    copy.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(failed)?;
    check_schema(&copy, file, version)?;
    let answer: String = copy.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0)).map_err(failed)?;
    if answer != "ok" {
        return Err(StoreError::Corrupt { path: file.to_path_buf(), because: answer });
    }
    migrate(&mut copy, MIGRATIONS).map_err(failed)?;
    Ok(copy)
}

/// What is no file has no end, or is waited for: it is not opened.
fn check_file(file: &Path) -> Result<()> {
    let path = || file.to_path_buf();
    match std::fs::metadata(file) {
        Ok(about) if about.is_dir() => Err(StoreError::Directory(path())),
        Ok(about) if !about.is_file() => Err(StoreError::NoFile(path())),
        Ok(about) if about.len() == 0 => Err(StoreError::Empty(path())),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(StoreError::Denied(path())),
        Err(_) => Err(StoreError::NoSource(path())),
    }
}

/// Refuses views, triggers, and tables that aren't made as ours are.
fn check_schema(copy: &Connection, file: &Path, version: u32) -> Result<()> {
    let failed = |e| StoreError::from_sqlite(file, "read", e);
    let schema = |db: &Connection| -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
        let mut all = db.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?;
        all.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
    };
    let mut pristine = Connection::open_in_memory().map_err(failed)?;
    migrate(&mut pristine, &MIGRATIONS[..version as usize]).map_err(failed)?;
    let (found, ours) = (schema(copy).map_err(failed)?, schema(&pristine).map_err(failed)?);
    let odd = found.iter().find(|f| !ours.contains(f)).or_else(|| ours.iter().find(|o| !found.contains(o)));
    match odd {
        None => Ok(()),
        Some((kind, name, _)) => {
            let what = format!("its {kind} `{name}` is not as tarebench makes it");
            Err(StoreError::Altered { path: file.to_path_buf(), what })
        }
    }
}

/// An id is typed on command lines and printed in lists.
fn check_id(file: &Path, id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(plain) && id != "latest" {
        return Ok(());
    }
    let shown: String = id.escape_debug().take(LONGEST_ID).collect();
    Err(StoreError::Altered { path: file.to_path_buf(), what: format!("`{shown}` is no id of a run") })
}

/// Whether it is the same run: what it is to have in all may have grown, the command that says so, and what is known of the host.
fn is_same(ours: &Run, theirs: &Run) -> bool {
    let fixed = |run: &Run| {
        let host = run.host.iter().filter(|(name, _)| !GROWING.contains(&name.as_str())).cloned().collect();
        Run { blocks: 0, command: String::new(), host, ..run.clone() }
    };
    fixed(ours) == fixed(theirs)
}

/// Whether all rows of `short` are the first ones of `long`.
fn begins(long: &Stored, short: &Stored) -> bool {
    // A start gets its clock fit and its end when its block ends.
    let start = |s: &crate::record::Start| crate::record::Start { clock: None, stop_ns: None, ..s.clone() };
    long.records.starts_with(&short.records)
        && long.voids.starts_with(&short.voids)
        && long.checks.starts_with(&short.checks)
        && long.starts.len() >= short.starts.len()
        && long.starts.iter().zip(&short.starts).all(|(a, b)| start(a) == start(b))
        // Rows being equal, the end says which is the later state.
        && (long.seconds, long.records.len()) >= (short.seconds, short.records.len())
}

#[cfg(test)]
mod tests;
