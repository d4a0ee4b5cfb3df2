//! Exit codes: an interface, all in one place.

use std::process::ExitCode;

use reports::record::{CONTROL, Stored};

/// Makes the codes and the table that tells of them out of one list.
macro_rules! exits {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $line:literal;)*) => {
        /// How the program ended, for scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $($(#[doc = $doc])* $name = $code,)*
        }

        /// Every end with its line in the table; an empty one shares the line before.
        const LINES: &[(Exit, &str)] = &[$((Exit::$name, $line),)*];
    };
}

exits! {
    /// What was asked for was done.
    Done = 0, "done";
    /// A gate found it worse than it may be.
    Regressed = 1, "regressed: the gate found it worse than the policy allows";
    /// The command line, the suite, the policy or a file to import can't be understood or contradicts itself, or no
    /// run is called so; nothing was touched.
    Usage = 2, "usage: command line, suite, policy or file to import not understood, or no run is called so";
    /// No environment, not the baseline, or nothing of what was asked for by name could be measured.
    NothingMeasured = 3, "nothing could be measured or proved, or nothing of what --env asked for";
    /// Measured, but the control or the void rounds say that this machine was too unquiet to tell, or a gate could show neither a regression nor its
    /// absence.
    Inconclusive = 4, "inconclusive: the machine was too unquiet, by its control or void rounds, or a gate can't tell yet";
    /// The store can't be opened, read or written, or what was asked for can't be done with what it has of a run.
    Store = 5, "the store can't be opened, read or written, or what it has of a run is not enough for this";
    /// The host does not allow it: data directory, disk space, permissions.
    Host = 6, "the host does not allow it: data directory, disk space, permissions";
    /// Measured, but a workload failed or a check differed in some environment, or one that was asked for by name can't run
    /// here; the report says where.
    SomeFailed = 7, "measured, but a workload failed in some environment, or one that --env asked for can't run, or a box broke its promise";
    /// A gate can't judge: something that the policy asks for was not measured, or not soundly.
    Invalid = 8, "invalid: what the gate was to judge was not measured, or not soundly";
    /// A gate has too few accepted runs to judge by.
    NoBaseline = 9, "no-baseline: too few accepted runs for the gate to judge by";
    /// A mistake of ours, or an error nobody thought of.
    Internal = 70, "internal error";
    /// Ended by Ctrl-C; what was finished is in the store.
    Interrupted = 130, "ended by Ctrl-C, 143 by SIGTERM, SIGHUP or SIGQUIT; finished rounds are in the store";
    /// Ended by SIGTERM, a closed terminal (SIGHUP) or Ctrl-\\ (SIGQUIT); what was finished is in the store.
    Terminated = 143, "";
}

/// Code and meaning of every exit, for `--help` and the manual page.
pub fn table() -> String {
    let told = LINES.iter().filter(|(_, line)| !line.is_empty());
    told.fold("Exit codes:".into(), |table, (exit, line)| format!("{table}\n{:>5}  {line}", *exit as u8))
}

impl Exit {
    /// The end of a run by its rows: what could not be measured, what failed, or done.
    pub fn of_run(stored: &Stored, too_unquiet: bool) -> Self {
        let Stored { run, starts, records, checks, .. } = stored;
        if !records.iter().any(|r| r.environment == run.baseline && r.outcome.is_ok()) {
            return Exit::NothingMeasured;
        }
        if starts.iter().any(|s| s.outcome.is_err())
            || records.iter().any(|r| r.outcome.is_err())
            || checks.iter().any(|c| c.outcome.is_err())
        {
            return Exit::SomeFailed;
        }
        if too_unquiet { Exit::Inconclusive } else { Exit::Done }
    }

    /// The same where environments were `asked` for one by one: one that was skipped then is no matter of the host's alone.
    #[must_use]
    pub fn or_missing(self, stored: &Stored, asked: &[String]) -> Self {
        let run = &stored.run;
        let beside = || run.environments.iter().filter(|e| e.name != run.baseline && e.name != CONTROL);
        let skipped = beside().filter(|e| e.skipped.is_some()).count();
        if asked.is_empty() || skipped == 0 || self == Exit::NothingMeasured {
            return self;
        }
        let baseline = asked.contains(&run.baseline);
        if skipped == beside().count() && !baseline { Exit::NothingMeasured } else { Exit::SomeFailed }
    }

    /// This end, though it could not be told everywhere: what was found out counts more than that it didn't reach a file.
    ///
    /// # Errors
    /// The one of telling, where there is no other news.
    pub fn or_untold(self, told: anyhow::Result<()>) -> anyhow::Result<Self> {
        match told {
            Err(error) if self == Exit::Done => return Err(error),
            Err(error) => tell!("error: {error:#}"),
            Ok(()) => {}
        }
        Ok(self)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_not_lost_where_it_can_not_be_written() {
        let full = || Err(anyhow::anyhow!("the disk is full")).or_exit(Exit::Host);
        let code = |exit: Exit, told| exit.or_untold(told).unwrap_or_else(|error| code_of(&error));
        assert_eq!((code(Exit::Regressed, full()), code(Exit::Done, full())), (Exit::Regressed, Exit::Host));
        assert_eq!(code(Exit::Regressed, Ok(())), Exit::Regressed);
    }

    #[test]
    fn every_code_is_in_the_table() {
        let table = table();
        assert!(table.starts_with("Exit codes:\n    0  done\n    1  regressed"), "{table}");
        let told = |exit: Exit| table.split(|c: char| !c.is_ascii_digit()).any(|n| n.parse() == Ok(exit as u8));
        assert!(LINES.iter().all(|(exit, _)| told(*exit)), "{table}");
    }
}
