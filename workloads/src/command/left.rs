//! What commands leave running out of reach of their process group. Two things tell it: a variable in its environment, which it inherits
//! from the command; and, where it has emptied that, that it becomes a child of ours when its own parent ends.
//!
//! The latter needs Linux, where a process can ask for that ("child subreaper") and PID 1 of a box gets it unasked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stopwatch::now;

/// The variable.
const NAME: &str = "TAREBENCH_COMMAND";

/// Values that are in use in this process.
static IN_USE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the jobs of this process do with commands.
static JOBS: Mutex<Jobs> = Mutex::new(Jobs { prepared: 0, executing: 0, adopts: false, others: Vec::new() });

struct Jobs {
    /// Jobs that there are.
    prepared: usize,
    /// Jobs that execute commands now: children of ours that somebody waits for.
    executing: usize,
    /// Whether this process got orphans already before the first job.
    adopts: bool,
    /// Children of this process that were there before the first job, which are none of a command's.
    others: Vec<i32>,
}

fn jobs() -> MutexGuard<'static, Jobs> {
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mark of one job's commands. What still has it when it is dropped is killed, and while there is one, orphans of commands become
/// children of this process.
pub(super) struct Mark(String);

/// Commands are being executed: no child of this process is taken for an orphan.
pub(super) struct Executing(());

impl Mark {
    /// One that nobody else has, in whatever box.
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{NAME}={}-{number}-{}", std::process::id(), now());
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(mark.clone());
        let mut jobs = jobs();
        if jobs.prepared == 0 {
            (jobs.others, jobs.adopts) = (orphans::all(), orphans::adopt(true));
        }
        jobs.prepared += 1;
        Self(mark)
    }

    /// As it stands in an environment.
    pub fn variable(&self) -> &str {
        &self.0
    }

    /// Kills everything that has it when commands have been executed, and says how many that were. The last of the jobs that execute side by
    /// side kills orphans, too: as long as one does, a child may be its command.
    pub fn kill(&self, executing: Executing) -> u64 {
        let mut jobs = jobs();
        std::mem::forget(executing);
        jobs.executing -= 1;
        sweep(&self.0, &jobs)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut jobs = jobs();
        sweep(&self.0, &jobs);
        jobs.prepared -= 1;
        if jobs.prepared == 0 {
            orphans::adopt(jobs.adopts);
        }
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).retain(|mark| *mark != self.0);
    }
}

impl Executing {
    /// From now on, and not while somebody looks for what was left.
    pub fn begin() -> Self {
        jobs().executing += 1;
        Self(())
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        jobs().executing -= 1;
    }
}

/// Kills the commands of this process and what they have started, for when it is about to end in the middle of one.
pub(crate) fn kill_all() {
    let marks = IN_USE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if marks.is_empty() {
        return;
    }
    let others = jobs().others.clone();
    kill(|| marks.iter().flat_map(|mark| marked(mark)).chain(orphans::alive(&others)).collect());
}

fn sweep(mark: &str, jobs: &Jobs) -> u64 {
    if jobs.executing > 0 {
        return kill(|| marked(mark));
    }
    let killed = kill(|| marked(mark).into_iter().chain(orphans::alive(&jobs.others)).collect());
    orphans::reap(&jobs.others);
    killed
}

#[cfg(target_os = "linux")]
fn kill(find: impl Fn() -> Vec<i32>) -> u64 {
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let until = Instant::now() + Duration::from_secs(2);
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let found = find();
        if found.is_empty() {
            return killed.len() as u64;
        }
        if Instant::now() > until {
            log::warn!("what a command has left outlives SIGKILL: {found:?}");
            return killed.len() as u64;
        }
        for pid in found {
            killed.insert(pid);
            if let Err(e) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                log::debug!("kill {pid}: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All processes that can be seen; none where `/proc` is that of another PID namespace, whose numbers mean others here.
#[cfg(target_os = "linux")]
fn pids() -> Vec<i32> {
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse::<i32>().ok();
    let ours = std::fs::read_link("/proc/self").ok().and_then(|link| number(link.as_os_str()));
    if ours != Some(std::process::id() as i32) {
        return Vec::new();
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| number(&entry.file_name())).collect()
}

/// A zombie has no environment: it is gone as far as we are concerned.
#[cfg(target_os = "linux")]
fn marked(mark: &str) -> Vec<i32> {
    let has_it = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids().into_iter().filter(has_it).collect()
}

/// Children of this process that it hasn't started.
#[cfg(target_os = "linux")]
mod orphans {
    use nix::sys::wait::{WaitPidFlag, waitpid};
    use nix::unistd::{Pid, getpid, getsid};

    /// A process, as `/proc/PID/stat` has it.
    struct Process {
        pid: i32,
        ended: bool,
        parent: i32,
        session: i32,
    }

    fn look(pid: i32) -> Option<Process> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name before it is the process's own choice, and may look like anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Process { pid, ended: matches!(state, "Z" | "X"), parent, session })
    }

    fn children() -> impl Iterator<Item = Process> {
        let us = getpid().as_raw();
        super::pids().into_iter().filter_map(look).filter(move |process| process.parent == us)
    }

    /// Commands are in sessions of their own, and so are their orphans: no process gets back into ours, where children of other
    /// workloads are.
    fn orphans(others: &[i32]) -> impl Iterator<Item = Process> {
        let session = getsid(None).map_or(0, Pid::as_raw);
        children().filter(move |process| process.session != session && !others.contains(&process.pid))
    }

    /// Every child of this process.
    pub fn all() -> Vec<i32> {
        children().map(|process| process.pid).collect()
    }

    /// Those that run.
    pub fn alive(others: &[i32]) -> Vec<i32> {
        orphans(others).filter(|process| !process.ended).map(|process| process.pid).collect()
    }

    /// Takes note that the others have ended, as PID 1 would.
    pub fn reap(others: &[i32]) {
        for Process { pid, .. } in orphans(others).filter(|process| process.ended) {
            if let Err(e) = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                log::debug!("reap {pid}: {e}");
            }
        }
    }

    /// Has orphans become children of this process, or not, and says whether they did.
    pub fn adopt(wanted: bool) -> bool {
        use nix::sys::prctl::{get_child_subreaper, set_child_subreaper};
        let before = get_child_subreaper().unwrap_or(false);
        if let Err(e) = set_child_subreaper(wanted) {
            log::debug!("can't get orphans of commands: {e}");
        }
        before
    }
}

/// Without Linux's `/proc` nobody's environment can be seen: the process group is all that is known of a command there.
#[cfg(not(target_os = "linux"))]
fn kill(_find: impl Fn() -> Vec<i32>) -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
fn marked(_mark: &str) -> Vec<i32> {
    Vec::new()
}

/// Elsewhere orphans are the init's.
#[cfg(not(target_os = "linux"))]
mod orphans {
    pub fn all() -> Vec<i32> {
        Vec::new()
    }

    pub fn alive(_others: &[i32]) -> Vec<i32> {
        Vec::new()
    }

    pub fn reap(_others: &[i32]) {}

    pub fn adopt(_wanted: bool) -> bool {
        false
    }
}
