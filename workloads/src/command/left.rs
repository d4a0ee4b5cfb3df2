//! What commands leave running out of reach of their process group: found by a variable in their environment, which they inherit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::stopwatch::now;

/// The variable.
const NAME: &str = "TAREBENCH_COMMAND";

/// Values that are in use in this process.
static IN_USE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The mark of one job's commands. What still has it when it is dropped is killed.
pub(super) struct Mark(String);

impl Mark {
    /// One that nobody else has, in whatever box.
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{NAME}={}-{number}-{}", std::process::id(), now());
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(mark.clone());
        Self(mark)
    }

    /// As it stands in an environment.
    pub fn variable(&self) -> &str {
        &self.0
    }

    /// Kills everything that has it, and says how many that were.
    pub fn kill(&self) -> u64 {
        kill(&self.0)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.kill();
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).retain(|mark| *mark != self.0);
    }
}

/// Kills the commands of this process and what they have started, for when it is about to end in the middle of one.
pub(crate) fn kill_all() {
    let marks = IN_USE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    marks.iter().for_each(|mark| {
        kill(mark);
    });
}

#[cfg(target_os = "linux")]
fn kill(mark: &str) -> u64 {
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};

    let until = Instant::now() + Duration::from_secs(2);
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let found = marked(mark);
        if found.is_empty() {
            return killed.len() as u64;
        }
        if Instant::now() > until {
            log::warn!("what a command has left outlives SIGKILL: {found:?}");
            return killed.len() as u64;
        }
        for pid in found {
            killed.insert(pid);
            if let Err(e) = kill(pid, Signal::SIGKILL) {
                log::debug!("kill {pid}: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A zombie has no environment: it is gone as far as we are concerned.
#[cfg(target_os = "linux")]
fn marked(mark: &str) -> Vec<nix::unistd::Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_it = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids.filter(has_it).map(nix::unistd::Pid::from_raw).collect()
}

/// Without Linux's `/proc` nobody's environment can be seen: the process group is all that is known of a command there.
#[cfg(not(target_os = "linux"))]
fn kill(_mark: &str) -> u64 {
    0
}
