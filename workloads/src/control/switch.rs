//! `control/switch`: an operation is one byte through a pipe to a second process and one byte back: two wake-ups and, on one CPU,
//! two switches between them.
//!
//! The far end is a process forked from the agent, as two programs that talk would be, or (`between = threads`) a thread of it,
//! which spares the change of address space. Both run where the environment lets them: with one CPU they take turns on it,
//! with more the scheduler may place them apart, and then it is wake-ups from idle that are timed.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::content::{Digest, mix};
use crate::settings::Setting;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// Exchanges that the check value covers.
const CHECKED: u8 = 16;

/// File descriptors below this are closed in the far end: the agent has a handful.
const DESCRIPTORS: i32 = 256;

crate::words! {
    enum Between { Processes = "processes", Threads = "threads" }
}

crate::settings! {
    struct Options {
        /// Whether the far end is another process or another thread of the same
        between: Between = "processes",
    }
}

/// The workload.
#[derive(Debug)]
pub struct Switch;

impl Workload for Switch {
    fn name(&self) -> &'static str {
        "control/switch"
    }

    fn about(&self) -> &'static str {
        "Sends a byte through a pipe to another process and gets one back: what waking and switching cost"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        // The far end answers with the byte plus this, so that an echo of the pipe's own would be seen.
        let step = mix(place.seed) as u8 | 1;
        let echo = match Options::read(&place.settings).between {
            Between::Threads => Echo::thread(step),
            Between::Processes => Echo::process(step),
        }?;
        Ok(Box::new(Exchanging { seed: place.seed, step, echo }))
    }
}

/// Reads a byte and sends it back with `step` added, until the other side closes its end.
fn answer(mut from: PipeReader, mut to: PipeWriter, step: u8) {
    let mut byte = [0];
    while from.read_exact(&mut byte).is_ok() {
        byte[0] = byte[0].wrapping_add(step);
        if to.write_all(&byte).is_err() {
            return;
        }
    }
}

/// The far end, with the near ends of both pipes. Ended and awaited on drop.
struct Echo {
    to: Option<PipeWriter>,
    from: PipeReader,
    kind: EchoKind,
}

enum EchoKind {
    Process(Pid),
    /// `None` once it has been joined.
    Thread(Option<JoinHandle<()>>),
}

impl Echo {
    fn thread(step: u8) -> anyhow::Result<Self> {
        let ((far_from, to), (from, far_to)) = pipes()?;
        let thread = std::thread::Builder::new()
            .name("switch".into())
            .spawn(move || answer(far_from, far_to, step))
            .context("can't start a thread")?;
        Ok(Self { to: Some(to), from, kind: EchoKind::Thread(Some(thread)) })
    }

    fn process(step: u8) -> anyhow::Result<Self> {
        let ((far_from, to), (from, far_to)) = pipes()?;
        // SAFETY: the child only makes system calls: it closes, reads, writes and exits, and never returns from here.
        match unsafe { fork() }.context("can't fork")? {
            ForkResult::Parent { child } => Ok(Self { to: Some(to), from, kind: EchoKind::Process(child) }),
            ForkResult::Child => {
                // The agent's channel, and pipes of other jobs: held open here, they would hide that their owner has gone.
                let kept = [far_from.as_raw_fd(), far_to.as_raw_fd()];
                for descriptor in (0..DESCRIPTORS).filter(|d| !kept.contains(d)) {
                    // SAFETY: whoever owned it in this process is never run again, not even to be dropped.
                    unsafe { libc::close(descriptor) };
                }
                answer(far_from, far_to, step);
                // SAFETY: ends this process at once, without what the agent would do on its way out.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// A byte there and the answer back.
    #[inline]
    fn exchange(&mut self, byte: u8) -> std::io::Result<u8> {
        let mut answer = [byte];
        self.to.as_mut().expect("open until it is dropped").write_all(&answer)?;
        self.from.read_exact(&mut answer)?;
        Ok(answer[0])
    }
}

type Pipe = (PipeReader, PipeWriter);

fn pipes() -> anyhow::Result<(Pipe, Pipe)> {
    let pipe = || std::io::pipe().context("can't make a pipe");
    Ok((pipe()?, pipe()?))
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It reads the end of the pipe and goes.
        self.to = None;
        match &mut self.kind {
            EchoKind::Thread(thread) => {
                if thread.take().is_some_and(|thread| thread.join().is_err()) {
                    log::warn!("the far end of a pipe panicked");
                }
            }
            EchoKind::Process(child) => {
                // Not left to the end of the pipe: a process that is stopped would keep us waiting.
                if let Err(e) = kill(*child, Signal::SIGKILL) {
                    log::warn!("can't end process {child}: {e}");
                }
                // As PID 1 we ignore SIGCHLD, the kernel reaps for us, and waiting ends with ECHILD.
                while waitpid(*child, None) == Err(nix::errno::Errno::EINTR) {}
            }
        }
    }
}

struct Exchanging {
    seed: u64,
    step: u8,
    echo: Echo,
}

impl Prepared for Exchanging {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let mut byte = 0_u8;
        watch.start();
        while watch.running() {
            let got = self.echo.exchange(byte).context("the far end of the pipe is gone")?;
            byte = byte.wrapping_add(self.step);
            anyhow::ensure!(got == byte, "the far end answered {got} instead of {byte}");
            watch.lap(2);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut digest = Digest::new("control/switch", self.seed);
        for byte in 0..CHECKED {
            let got = self.echo.exchange(byte).context("the far end of the pipe is gone")?;
            let wanted = byte.wrapping_add(self.step);
            anyhow::ensure!(got == wanted, "the far end answered {got} instead of {wanted}");
            digest.add(&[got]);
        }
        Ok(Check { value: digest.value(), detail: format!("{CHECKED} bytes there and back") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_far_ends_answer_and_go() {
        for make in [Echo::thread, Echo::process] {
            let mut echo = make(3).expect("started");
            assert_eq!(echo.exchange(254).expect("answered"), 1);
        }
        let echo = Echo::process(1).expect("started");
        let EchoKind::Process(child) = echo.kind else { panic!("no process") };
        drop(echo);
        assert_eq!(kill(child, None), Err(nix::errno::Errno::ESRCH), "ended and reaped");
    }

    #[test]
    fn a_far_end_that_dies_is_an_error_and_not_a_wait() {
        let mut echo = Echo::process(1).expect("started");
        let EchoKind::Process(child) = echo.kind else { panic!("no process") };
        kill(child, Signal::SIGKILL).expect("killed");
        // It may still take a byte, but can't answer it.
        let error = (0..2).find_map(|_| echo.exchange(0).err()).expect("an error");
        let kinds = [std::io::ErrorKind::UnexpectedEof, std::io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}
