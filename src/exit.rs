//! Exit codes: an interface, all in one place.

use std::process::ExitCode;

/// How the program ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for was done.
    Done = 0,
    /// The command line, the suite or a file to import can't be understood or contradicts itself; nothing was touched.
    Usage = 2,
    /// No environment, or not the baseline, could be measured.
    NothingMeasured = 3,
    /// Measured, but the control says that this machine was too unquiet to tell.
    Inconclusive = 4,
    /// The store can't be opened, read or written.
    Store = 5,
    /// The host does not allow it: data directory, disk space, permissions.
    Host = 6,
    /// Measured, but a workload failed or a check differed in some environment; the report says where.
    SomeFailed = 7,
    /// A mistake of ours, or an error nobody thought of.
    Internal = 70,
    /// Ended by Ctrl-C; what was finished is in the store.
    Interrupted = 130,
    /// Ended by SIGTERM; what was finished is in the store.
    Terminated = 143,
}

/// Code, name and meaning of every exit, for `--help` and the manual page.
pub const TABLE: &str = "\
Exit codes:
    0  done
    1  regressed (kept for gates)
    2  usage: the command line, the suite or a file to import can't be understood
    3  nothing could be measured
    4  inconclusive: the control run shows that this machine was too unquiet
    5  the store can't be opened, read or written
    6  the host does not allow it: data directory, disk space, permissions
    7  measured, but a workload failed in some environment
   70  internal error
  130  ended by Ctrl-C, 143 by SIGTERM; finished rounds are in the store";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct Coded {
    /// The code.
    pub exit: Exit,
    /// The error.
    pub error: anyhow::Error,
}

/// Gives errors their exit code.
pub trait OrExit<T> {
    /// The same result, whose error ends the program with `exit`.
    fn or_exit(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|e| Coded { exit, error: e.into() }.into())
    }
}

/// The exit code of an error: its own, else [`Exit::Internal`].
pub fn code_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Coded>().map_or(Exit::Internal, |c| c.exit)
}
