//! Errors of a store, each with the way out.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory for the file isn't there.
    #[error("there is no directory {}: create it, or choose another place with --store", .0.display())]
    NoDirectory(PathBuf),
    /// There is no file to read.
    #[error("there is no store at {}: measure something with `tarebench run`, or name another with --store", .0.display())]
    Missing(PathBuf),
    /// There is no file to take runs from.
    #[error("there is no file {}: nothing was taken from it", .0.display())]
    NoSource(PathBuf),
    /// It is no file.
    #[error("{path} is a directory: name the file in it, as in --store {file}", path = .0.display(), file = .0.join("tarebench.db").display())]
    Directory(PathBuf),
    /// A device, a pipe or a socket.
    #[error("{} is not a regular file: copy the store to a disk first", .0.display())]
    NoFile(PathBuf),
    /// A file from elsewhere without a byte in it.
    #[error("{} is empty: a truncated copy? copy it again, or `tarebench export` on the machine that measured", .0.display())]
    Empty(PathBuf),
    /// The file isn't SQLite's.
    #[error("{} is not a database: it was left as it is; choose another file with --store", .0.display())]
    NotDatabase(PathBuf),
    /// A database of another program.
    #[error("{path} is a database of another program (tables: {tables}): it was left as it is; choose another file with --store", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// A few of its tables.
        tables: String,
    },
    /// Written by a later version of this program.
    #[error("{path} has schema version {found} and this program knows up to {known}: use the newer tarebench that wrote it, or another file with --store", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Damaged.
    #[error("{path} is damaged ({because}): save what can be saved with `sqlite3 {path} .recover`, and go on with another file", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's finding.
        because: String,
    },
    /// Another process holds it.
    #[error("{} is locked by another process: wait for it to finish, or use another file with --store", .0.display())]
    Locked(PathBuf),
    /// No space left.
    #[error("the disk that holds {} is full: make room; what was stored before is safe", .0.display())]
    Full(PathBuf),
    /// It may not be read or written.
    #[error("may not read and write {}: check its owner and mode and those of its directory", .0.display())]
    Denied(PathBuf),
    /// No run is called so.
    #[error("no run in {path} is called `{wanted}`: {hint}", path = .path.display())]
    NoRun {
        /// The store.
        path: PathBuf,
        /// The id or label asked for.
        wanted: String,
        /// The runs that there are.
        hint: String,
    },
    /// Several runs or commits begin so.
    #[error("`{wanted}` could be any of {candidates}: write more of it")]
    Ambiguous {
        /// The id or label asked for.
        wanted: String,
        /// Ids and commits.
        candidates: String,
    },
    /// A store that somebody is writing, or was, where nothing can be written.
    #[error("{path} can't be read where it is: it has a log beside it, and reading both takes writing; copy {path} and {path}-wal to a disk, or `tarebench export` its runs where it was made", path = .0.display())]
    Unfinished(PathBuf),
    /// There is something in the place of a file to be written.
    #[error("there is something at {} already: choose another name, or `tarebench merge` the runs into it", .0.display())]
    Exists(PathBuf),
    /// A store from elsewhere that isn't as we make them.
    #[error("{path} was changed by hand or made by another program: {what}; nothing was taken from it. `tarebench export` on the machine that measured makes a sound file", path = .path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// The first finding.
        what: String,
    },
    /// A value of a store from elsewhere that is longer than any of ours.
    #[error("{} holds a value that is larger than any of tarebench's: nothing was taken from it", .0.display())]
    Oversize(PathBuf),
    /// Two runs of one id that aren't the same.
    #[error(
        "run {run} is here already, and is not the one in the file: nothing was taken; remove ours with `tarebench remove {run}` if theirs is the right one"
    )]
    OtherRun {
        /// The id of both.
        run: String,
    },
    /// A run that is still measured, or was killed.
    #[error(
        "run {run} has not ended: wait for it, go on with `tarebench run --resume {run}`, or give it up with `tarebench remove {run}`"
    )]
    NotEnded {
        /// Its id.
        run: String,
    },
    /// A run whose rows were removed.
    #[error(
        "the bursts of run {run} were removed on {at}: what it cost is still in `tarebench trend {run}`, and there is nothing to draw a report from"
    )]
    Pruned {
        /// Its id.
        run: String,
        /// When.
        at: String,
    },
    /// A run that has nothing to stand for.
    #[error(
        "run {run} can't be accepted: it has not ended, or has no overhead that can be believed and has an interval, which takes 6 blocks; measure again, with more blocks or on a quieter machine"
    )]
    NothingToAccept {
        /// Its id.
        run: String,
    },
    /// A row can't be understood.
    #[error("can't understand {what} of a run in {path}: it was changed by hand or is damaged", path = .path.display())]
    Row {
        /// The store.
        path: PathBuf,
        /// Table and column.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else.
    #[error("could not {doing} in {path}", path = .path.display())]
    Sqlite {
        /// The store.
        path: PathBuf,
        /// The attempted step.
        doing: &'static str,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn from_sqlite(path: &Path, doing: &'static str, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        // The index of the log is a file as well, and the first that a full disk has no room for.
        if error.sqlite_error().is_some_and(|e| e.extended_code == SQLITE_IOERR_SHMSIZE) {
            return Self::Full(path);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) if path.is_dir() => Self::Directory(path),
            Some(ErrorCode::NotADatabase) => Self::NotDatabase(path),
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, because: error.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::DiskFull) => Self::Full(path),
            Some(ErrorCode::TooBig) => Self::Oversize(path),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::Denied(path),
            _ => Self::Sqlite { path, doing, source: error },
        }
    }
}
