//! A process that works beside an environment: a file server, a translator of addresses. Ended on drop.

use std::process::{Child, Command, ExitStatus};

use anyhow::Context;

/// One at work.
#[derive(Debug)]
pub(crate) struct Beside {
    name: &'static str,
    child: Child,
}

impl Beside {
    /// Starts it; `name` stands in errors.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(command: &mut Command, name: &'static str) -> anyhow::Result<Self> {
        log::debug!("beside: {command:?}");
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        let child = command.spawn().with_context(|| format!("can't start {:?}", command.get_program()))?;
        Ok(Self { name, child })
    }

    /// How it ended, where it has.
    ///
    /// # Errors
    /// When that can't be known.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("can't wait for {}", self.name))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(e) = self.child.kill().and_then(|()| self.child.wait()) {
            log::warn!("can't end {}: {e}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_ends_with_its_owner_and_says_when_it_ended_before() {
        let beside = Beside::start(Command::new("sleep").arg("100"), "sleep").expect("starts");
        let pid = nix::unistd::Pid::from_raw(beside.child.id() as i32);
        drop(beside);
        assert!(nix::sys::signal::kill(pid, None).is_err(), "it is killed and reaped");
        let mut beside = Beside::start(&mut Command::new("false"), "false").expect("starts");
        let until = Instant::now() + Duration::from_secs(5);
        let status = loop {
            match beside.ended().expect("known") {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it does not end"),
            }
        };
        assert_eq!(status.code(), Some(1));
        let error = Beside::start(&mut Command::new("/no/such/program"), "it").expect_err("not there");
        assert!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
    }
}
