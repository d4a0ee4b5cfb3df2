//! The steps of a child between fork and exec on FreeBSD: keep to its CPUs, die with us.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// As on Linux, but for network namespaces and cgroups, which don't exist here.
///
/// # Errors
/// When a network namespace or a cgroup is asked for.
pub(crate) fn confine(
    command: &mut Command,
    netns: Option<&Path>,
    entrances: &[PathBuf],
    cpus: &[usize],
) -> io::Result<()> {
    if netns.is_some() || !entrances.is_empty() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "network namespaces and cgroups need Linux"));
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).map_err(io::Error::from)?;
    }
    let pinned = !cpus.is_empty();
    let parent = std::process::id();
    let between = move || {
        if pinned {
            sched_setaffinity(Pid::from_raw(0), &set).map_err(io::Error::from)?;
        }
        let mut signal = libc::SIGKILL;
        // SAFETY: the kernel reads one int; id 0 stands for the caller (procctl(2)).
        if unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: getppid has no preconditions.
        if unsafe { libc::getppid() } as u32 != parent {
            // The parent died before the signal was set.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(between) };
    Ok(())
}
