//! What a rehearsal has and a burst hasn't: an eye on what statements ask for, and a clock that is ahead.

use std::ffi::{CStr, c_int};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, ensure};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags, ffi};

use super::database::Database;

/// PRAGMAs that a file may read and may not set, and why. A report says how durable a workload is by its settings.
const PRAGMAS: &[(&str, &str)] = &[
    ("synchronous", "it sets synchronous; leave it out, and set the workload's synchronous instead"),
    ("journal_mode", "it sets journal_mode; leave it out: the journal is the one that the database came with"),
    ("locking_mode", "it sets locking_mode, which has to stay as it is; leave it out"),
    ("fullfsync", "it sets fullfsync, on which durability rests; leave it out"),
    ("checkpoint_fullfsync", "it sets checkpoint_fullfsync, on which durability rests; leave it out"),
    ("temp_store_directory", "it names a folder outside of the workload's; leave it out"),
    ("data_store_directory", "it names a folder outside of the workload's; leave it out"),
];
const FILES: &str = "a file of statements has the one database; leave out ATTACH, DETACH and VACUUM INTO";

/// Why an action may not be. SQLite's VACUUM attaches a database without a name while it executes.
fn denied(action: AuthAction<'_>, executing: bool) -> Option<&'static str> {
    match action {
        AuthAction::Attach { filename: "" } if executing => None,
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Some(FILES),
        // The name is an expression.
        AuthAction::Unknown { code: ffi::SQLITE_ATTACH | ffi::SQLITE_DETACH, .. } => Some(FILES),
        AuthAction::Pragma { pragma_name, pragma_value: Some(_) } => {
            PRAGMAS.iter().find(|(name, _)| pragma_name.eq_ignore_ascii_case(name)).map(|(_, why)| *why)
        }
        _ => None,
    }
}

#[derive(Default)]
struct Seen {
    executing: bool,
    why: Option<&'static str>,
}

/// Denies a connection's statements what may not be.
#[derive(Clone, Default)]
pub(super) struct Guard(Arc<Mutex<Seen>>);

impl Guard {
    /// A guard over all that the connection does from here on.
    pub fn over(db: &mut Connection) -> rusqlite::Result<Self> {
        let guard = Self::default();
        let asked = guard.clone();
        db.authorizer(Some(move |context: AuthContext<'_>| asked.ask(context.action)))?;
        Ok(guard)
    }

    fn seen<T>(&self, with: impl FnOnce(&mut Seen) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, action: AuthAction<'_>) -> Authorization {
        self.seen(|seen| match denied(action, seen.executing) {
            Some(why) => {
                seen.why = Some(why);
                Authorization::Deny
            }
            None => Authorization::Allow,
        })
    }

    /// Whether a statement executes now, or is only compiled.
    pub fn executing(&self, executing: bool) {
        self.seen(|seen| seen.executing = executing);
    }

    /// Why something was denied, where something was.
    pub fn why(&self) -> Option<&'static str> {
        self.seen(|seen| seen.why)
    }
}

/// SQLite's name for its usual file system with the clock that is ahead.
const LATER: &CStr = c"tarebench-later";
/// 400 days, 7 hours, 13 minutes and 11 seconds, in ms: each part of a date differs.
const AHEAD: i64 = (((400 * 24 + 7) * 60 + 13) * 60 + 11) * 1000;

unsafe extern "C" fn later(_: *mut ffi::sqlite3_vfs, now: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite's own file system is there as long as the process, and `now` is SQLite's to be written to.
    unsafe {
        let usual = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(clock) = usual.as_ref().and_then(|vfs| vfs.xCurrentTimeInt64) else { return ffi::SQLITE_ERROR };
        let code = clock(usual, now);
        if code == ffi::SQLITE_OK {
            *now += AHEAD;
        }
        code
    }
}

/// Makes the file system with the clock that is ahead known to SQLite, once in a process.
fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        // SAFETY: a copy of SQLite's own file system, which is never freed, and that isn't made the usual one.
        unsafe {
            let Some(usual) = ffi::sqlite3_vfs_find(std::ptr::null()).as_ref() else { return false };
            let ahead = ffi::sqlite3_vfs {
                zName: LATER.as_ptr(),
                xCurrentTimeInt64: Some(later),
                pNext: std::ptr::null_mut(),
                ..*usual
            };
            ffi::sqlite3_vfs_register(Box::leak(Box::new(ahead)), 0) == ffi::SQLITE_OK
        }
    })
}

/// Opens a database for which it is more than a year later.
pub(super) fn open_later(path: &Path) -> anyhow::Result<Database> {
    ensure!(register(), "SQLite takes no second clock");
    let db = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), LATER)
        .with_context(|| format!("can't open the database {}", path.display()))?;
    Database::of(db, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_more_than_a_year_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let seconds = |database: Database| -> i64 {
            let sql = "SELECT CAST(strftime('%s', CURRENT_TIMESTAMP) AS INTEGER)";
            database.db.query_row(sql, [], |row| row.get(0)).expect("a number")
        };
        let now = seconds(Database::open(&directory.path().join("a.db")).expect("opened"));
        let then = seconds(open_later(&directory.path().join("a.db")).expect("opened"));
        assert!((then - now - AHEAD / 1000).abs() < 3600, "{now} {then}");
    }
}
