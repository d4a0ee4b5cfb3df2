//! `control/spawn`: an operation is one process started, run and awaited: fork, exec and wait of a program that does nothing.
//!
//! The program is our own binary, which is there in every environment: told [`WORD`], it exits before anything else, with
//! a status that proves it was run. What it costs to load is the same everywhere but for what the environment adds.

use std::ffi::{CString, OsString};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::content::{Digest, mix};
use crate::settings::Setting;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// The first argument that makes the program exit at once, with the status that the second one gives.
pub const WORD: &str = "exit";

/// The status of a child that couldn't become the program: the shell's for a command that isn't there.
pub(crate) const NOT_RUN: i32 = 127;

/// Processes that `verify` starts.
const CHECKED: u64 = 3;

/// To be called first in `main`, before anything that costs time: ends the process where it was started to do only that.
pub fn exit_if_told(mut arguments: impl Iterator<Item = OsString>) {
    if arguments.nth(1).is_some_and(|word| word == WORD) {
        let status = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(NOT_RUN);
        // SAFETY: ends the process at once. Nothing is open and nothing buffered yet.
        unsafe { libc::_exit(status) }
    }
}

crate::words! {
    /// How a child comes to be.
    enum Call { Fork = "fork", PosixSpawn = "posix_spawn" }
}

crate::settings! {
    struct Options {
        /// Whether the agent's memory map is copied for the child, or lent to it until it is another program (vfork)
        call: Call = "fork",
    }
}

/// The workload.
#[derive(Debug)]
pub struct Spawn;

impl Workload for Spawn {
    fn name(&self) -> &'static str {
        "control/spawn"
    }

    fn about(&self) -> &'static str {
        "Starts a program that exits at once and waits for it: fork, exec, wait"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let status = (mix(place.seed) % 100) as i32 + 1;
        let program = program()?;
        let text = |text: &str| CString::new(text).expect("a constant or a number has no zero byte");
        let arguments = [text("tarebench"), text(WORD), text(&status.to_string())];
        let fork = Options::read(&place.settings).call == Call::Fork;
        let mut spawning =
            Spawning { seed: place.seed, status, fork, program, arguments, _children: Children::awaited()? };
        // A program that can't be run is said now and not in the burst.
        spawning.run()?;
        Ok(Box::new(spawning))
    }
}

/// Our own binary: by the name that the kernel has for it, which holds in a root that was changed after the start too.
#[cfg(target_os = "linux")]
pub(crate) fn program() -> anyhow::Result<CString> {
    Ok(c"/proc/self/exe".to_owned())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn program() -> anyhow::Result<CString> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = std::env::current_exe().context("can't find our own binary")?;
    CString::new(path.into_os_string().into_vec()).context("the path of our own binary has a zero byte")
}

struct Spawning {
    seed: u64,
    /// Exit status of the program.
    status: i32,
    fork: bool,
    program: CString,
    arguments: [CString; 3],
    _children: Children,
}

impl Spawning {
    /// Starts the program and waits until it has exited as it was told.
    #[inline]
    fn run(&mut self) -> anyhow::Result<()> {
        let child = if self.fork { self.fork() } else { self.posix_spawn() };
        let child = child.context("can't start a process")?;
        let status = loop {
            match waitpid(child, None) {
                Err(Errno::EINTR) => {}
                other => break other.with_context(|| format!("can't wait for process {child}"))?,
            }
        };
        match status {
            WaitStatus::Exited(_, code) if code == self.status => Ok(()),
            WaitStatus::Exited(_, NOT_RUN) => {
                anyhow::bail!(
                    "can't run {}: is /proc mounted, and the binary executable inside",
                    self.program.to_string_lossy()
                )
            }
            other => anyhow::bail!("the program should have exited with {}: {other:?}", self.status),
        }
    }

    #[inline]
    fn pointers(&self) -> [*const libc::c_char; 4] {
        let [name, word, status] = self.arguments.each_ref().map(|argument| argument.as_ptr());
        [name, word, status, std::ptr::null()]
    }

    #[inline]
    fn fork(&self) -> nix::Result<Pid> {
        let arguments = self.pointers();
        let environment = [std::ptr::null()];
        // SAFETY: the child makes two system calls on memory that was laid out before, and allocates nothing.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: the program is a string and both lists end with a null pointer.
                unsafe { libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
                // SAFETY: it ends the child, which must not go on as a second agent.
                unsafe { libc::_exit(NOT_RUN) }
            }
            child => Errno::result(child).map(Pid::from_raw),
        }
    }

    #[inline]
    fn posix_spawn(&self) -> nix::Result<Pid> {
        let arguments = self.pointers().map(<*const libc::c_char>::cast_mut);
        let environment = [std::ptr::null_mut()];
        let mut child = 0;
        // SAFETY: as for execve; nothing is to be done in between and no attributes are given, which null pointers say.
        let error = unsafe {
            libc::posix_spawn(
                &raw mut child,
                self.program.as_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        if error == 0 { Ok(Pid::from_raw(child)) } else { Err(Errno::from_raw(error)) }
    }
}

impl Prepared for Spawning {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        watch.start();
        while watch.running() {
            self.run()?;
            watch.lap(0);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        for _ in 0..CHECKED {
            self.run()?;
        }
        let mut digest = Digest::new("control/spawn", self.seed);
        digest.add(&self.status.to_le_bytes());
        Ok(Check { value: digest.value(), detail: format!("{CHECKED} programs exited with {}", self.status) })
    }
}

/// While this lives, children that end can be waited for. PID 1 of a guest ignores SIGCHLD, so that the kernel reaps its
/// orphans; but then a status is lost before it is asked for.
pub(crate) struct Children;

/// How many want to wait, and what was done with SIGCHLD before the first.
static WAITING: Mutex<(usize, SigHandler)> = Mutex::new((0, SigHandler::SigDfl));

impl Children {
    /// The first of them has ended children kept until they are waited for.
    pub fn awaited() -> anyhow::Result<Self> {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.0 == 0 {
            // SAFETY: the default is no handler of ours.
            waiting.1 = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.context("can't wait for children")?;
        }
        waiting.0 += 1;
        Ok(Self)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0 -= 1;
        if waiting.0 == 0 {
            // SAFETY: it is what was there before.
            if let Err(e) = unsafe { signal(Signal::SIGCHLD, waiting.1) } {
                log::warn!("can't put back what is done when children end: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{ForkResult, fork};

    use super::*;

    #[test]
    fn the_word_ends_the_program_with_the_status_that_follows() {
        for (arguments, wanted) in [
            (vec!["tarebench", "exit", "42"], 42),
            (vec!["tarebench", "exit", "soon"], NOT_RUN),
            (vec!["tarebench", "exit"], NOT_RUN),
            (vec!["tarebench", "run", "exit"], 3),
            (vec![], 3),
        ] {
            let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
            let arguments = arguments.into_iter();
            // SAFETY: the child parses what is laid out already and exits.
            match unsafe { fork() }.expect("forked") {
                ForkResult::Child => {
                    exit_if_told(arguments);
                    // SAFETY: ends the child without running what belongs to the parent.
                    unsafe { libc::_exit(3) }
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).expect("awaited"), WaitStatus::Exited(child, wanted));
                }
            }
        }
    }
}
