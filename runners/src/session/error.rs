//! Why a session could not do what was asked, with the environment's last words.

use std::time::Duration;

/// Why a session could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The engine's command could not be started.
    #[error("can't start `{program}`: {reason}")]
    Spawn {
        /// Program name.
        program: String,
        /// The system's. It stands in the message, and so is no source that a chain of causes would repeat.
        reason: std::io::Error,
    },
    /// The terminal that it is started on can't be had.
    #[error(
        "can't make a terminal for `{program}`: {reason}; `mount -t devpts devpts /dev/pts` where it isn't mounted"
    )]
    Terminal {
        /// Program name.
        program: String,
        /// The system's. It stands in the message too.
        reason: std::io::Error,
    },
    /// The environment ended by itself.
    #[error("the environment ended while we waited for {what} ({status}){}{tail}", advice(.status))]
    Died {
        /// The message that was awaited.
        what: &'static str,
        /// How it ended.
        status: String,
        /// The environment's last words.
        tail: Tail,
    },
    /// The deadline passed.
    #[error("{what} did not come within {}{tail}", humantime::format_duration(*.after))]
    Deadline {
        /// The message that was awaited.
        what: &'static str,
        /// The time that it had.
        after: Duration,
        /// The environment's last words.
        tail: Tail,
    },
    /// The answer is not what the protocol says.
    #[error("the environment answered with garbage instead of {what}: {problem}{tail}")]
    Garbage {
        /// The message that was awaited.
        what: &'static str,
        /// The fault.
        problem: String,
        /// The environment's last words.
        tail: Tail,
    },
    /// Another program than ours answers.
    #[error("the agent inside is not our binary: its SHA-256 is {inside}, ours is {ours}; nothing was measured")]
    WrongBinary {
        /// That of the agent's own file.
        inside: String,
        /// That of the file which the harness copied there.
        ours: String,
    },
    /// Its I/O can't be held to the suite's limits.
    #[error("the environment is up, but its I/O isn't limited as the suite says: {0}")]
    Unlimited(String),
    /// The agent could not do it, and says why; the session goes on.
    #[error("{0}")]
    Refused(String),
    /// It says what can't be; the session goes on.
    #[error("its sample can't be true: {0}")]
    Unbelievable(String),
    /// The run is being ended by a signal.
    #[error("interrupted")]
    Interrupted,
}

impl SessionError {
    /// Whether the session is of no more use.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, SessionError::Refused(_) | SessionError::Unbelievable(_))
    }
}

/// The cause of an end that says nothing by itself. SQLite keeps its index of a write-ahead log in a mapped file, for whose pages a file
/// system that copies on write (btrfs) wants new room.
fn advice(status: &str) -> &'static str {
    // 128 and the number, where a shell or an engine passes it on.
    if status.contains("SIGBUS") || status.ends_with(": 135") {
        ": there was no room for a page of a mapped file, so the data's file system is full or its quota used up; make room there, \
         or raise it"
    } else {
        ""
    }
}

/// The last lines of stderr and console, as an error shows them.
#[derive(Debug, Clone, Default)]
pub struct Tail(pub String);

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last words:\n{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_for_want_of_room_says_so() {
        let died = |status: &str| {
            SessionError::Died { what: "a burst", status: status.into(), tail: Tail::default() }.to_string()
        };
        for status in ["signal: 7 (SIGBUS)", "signal: 7 (SIGBUS) (core dumped)", "exit status: 135"] {
            assert!(died(status).contains("its quota used up"), "{status}");
        }
        assert_eq!(died("exit status: 1"), "the environment ended while we waited for a burst (exit status: 1)");
    }
}
