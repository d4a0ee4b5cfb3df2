//! Signals that end a run: the first asks for a clean end, a second one ends at once and leaves the rest to the next run. A closed
//! terminal (SIGHUP) and Ctrl-\ (SIGQUIT) are taken as SIGTERM is: else all that was made would stay.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::Context;
use nix::libc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level;
use workloads::stopwatch;

use crate::exit::Exit;

/// The same signal once more within so many nanoseconds is still the first one: `timeout` sends its own to the process and then to
/// the group that it is in.
const ECHO_NS: u64 = 100_000_000;

/// Said at the first signal.
const CLEANING: &str = "\ncleaning up ...\n";

/// Which signal came, if any.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// Set by the first signal; waits look at it.
    pub flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
    /// When the first came, on the monotonic clock.
    came: Arc<AtomicU64>,
    /// What is left where a second one ends us: nothing as long as nothing was made.
    left: Arc<OnceLock<String>>,
}

impl Interrupt {
    /// Starts listening.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn listen() -> anyhow::Result<Self> {
        let this = Self { flag: Arc::default(), signal: Arc::default(), came: Arc::default(), left: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            // As nohup asks for.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            let (here, terminals) = (this.clone(), [1, 2].map(is_terminal));
            let handler = move || here.take(signal, terminals);
            // SAFETY: the handler reads and sets atomics and makes system calls that are allowed in one: it allocates nothing,
            // takes no lock (a cell that is set is only read) and can't panic.
            unsafe { low_level::register(signal, handler) }
                .with_context(|| format!("can't listen for signal {signal}"))?;
        }
        Ok(this)
    }

    /// Says what a second signal leaves on this host.
    pub fn will_leave(&self, id: &str) {
        // There is one host in a process.
        let _ = self.left.set(format!(
            "\nended at once: everything called tarebench-{id} is left on this host; `tarebench doctor --clean` removes it, and so \
             does the next run\n"
        ));
    }

    /// In the signal's handler.
    fn take(&self, signal: c_int, terminals: [bool; 2]) {
        if signal == SIGHUP {
            to_nowhere(terminals);
        }
        if !self.flag.swap(true, Ordering::SeqCst) {
            self.signal.store(signal as usize, Ordering::SeqCst);
            self.came.store(stopwatch::now(), Ordering::SeqCst);
            say(CLEANING);
        } else if signal != SIGHUP && !self.echoes(signal) {
            // A terminal that goes sends several SIGHUP, and service managers send one beside SIGTERM: those are no haste.
            say(self.left.get().map_or("", String::as_str));
            low_level::exit(code(signal) as c_int);
        }
    }

    /// Whether it is the first signal once more.
    fn echoes(&self, signal: c_int) -> bool {
        let since = stopwatch::now().saturating_sub(self.came.load(Ordering::SeqCst));
        signal as usize == self.signal.load(Ordering::SeqCst) && since < ECHO_NS
    }

    /// The exit code that tells of the signal, where one came.
    pub fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::SeqCst) as c_int {
            0 => None,
            signal => Some(code(signal)),
        }
    }
}

fn code(signal: c_int) -> Exit {
    if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated }
}

fn is_ignored(signal: c_int) -> bool {
    // SAFETY: an all-zero sigaction is one, and the kernel fills it in; no new one is given.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

fn is_terminal(descriptor: c_int) -> bool {
    // SAFETY: the call looks at a descriptor and touches no memory.
    unsafe { libc::isatty(descriptor) == 1 }
}

fn say(words: &str) {
    // SAFETY: the buffer is valid for its length. Nobody may be there to read, which is no reason to stop.
    unsafe { libc::write(2, words.as_ptr().cast(), words.len()) };
}

/// What is written to a terminal that is gone is an error, and would be a panic while we clean up.
fn to_nowhere(terminals: [bool; 2]) {
    // SAFETY: the path ends in a zero, and open, dup2 and close may be called in a signal's handler.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        if null < 0 {
            return;
        }
        for (descriptor, _) in [1, 2].into_iter().zip(terminals).filter(|(_, terminal)| *terminal) {
            libc::dup2(null, descriptor);
        }
        libc::close(null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_at_once_is_still_the_first_one() {
        let now = stopwatch::now();
        let came = |signal: c_int, at: u64| Interrupt {
            flag: Arc::new(AtomicBool::new(true)),
            signal: Arc::new(AtomicUsize::new(signal as usize)),
            came: Arc::new(AtomicU64::new(at)),
            left: Arc::default(),
        };
        // In a moment that can't pass meanwhile.
        assert!(came(SIGTERM, now + ECHO_NS).echoes(SIGTERM));
        assert!(!came(SIGTERM, now + ECHO_NS).echoes(SIGINT), "another one is haste");
        assert!(!came(SIGTERM, now - 2 * ECHO_NS).echoes(SIGTERM), "so is one that comes later");
    }
}
