//! The steps of a child between fork and exec: enter the network namespace and the cgroup, keep to its CPUs, die with us.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Makes the command enter `netns` and the cgroups whose `cgroup.procs` are given, run on `cpus` (all where empty), and
/// die when the thread that started it dies. Start sessions and peers from threads that outlive them, therefore.
///
/// # Errors
/// When a file of these can't be opened: they are opened here, since nothing may be allocated after the fork.
pub(crate) fn confine(
    command: &mut Command,
    netns: Option<&Path>,
    entrances: &[PathBuf],
    cpus: &[usize],
) -> io::Result<()> {
    let naming = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let netns = netns.map(|p| File::open(p).map_err(|e| naming(p, e))).transpose()?;
    let open = |p: &PathBuf| OpenOptions::new().write(true).open(p).map_err(|e| naming(p, e));
    let entrances = entrances.iter().map(open).collect::<io::Result<Vec<File>>>()?;
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|c| **c < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    let pinned = !cpus.is_empty();
    let parent = std::process::id();
    let between = move || {
        if let Some(netns) = &netns {
            // SAFETY: the descriptor is open; the call touches no memory of ours.
            check(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) })?;
        }
        for entrance in &entrances {
            // `0` stands for the writer, so no number has to be formatted here.
            // SAFETY: the buffer is one byte of static memory.
            check(unsafe { libc::write(entrance.as_raw_fd(), b"0".as_ptr().cast(), 1) } as libc::c_int)?;
        }
        if pinned {
            // After the cgroup: entering a CPU set resets the affinity.
            // SAFETY: the set is initialised and of the size given.
            check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
        }
        // SAFETY: no pointers are involved.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
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

/// Makes the command see an empty directory of its own in place of this one, in a mount namespace of its own; what an engine
/// keeps there is gone with its last process. Needs root; the directory must be there.
pub(crate) fn hide(command: &mut Command, directory: &'static CStr, read_only: bool) {
    const SOURCE: &CStr = c"none";
    const TMPFS: &CStr = c"tmpfs";
    let mode = if read_only { libc::MS_RDONLY } else { 0 };
    let hide = move || {
        own_mounts()?;
        let flags = mode | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        // SAFETY: the strings are static and end in a zero.
        check(unsafe {
            libc::mount(SOURCE.as_ptr(), directory.as_ptr(), TMPFS.as_ptr(), flags, c"mode=755".as_ptr().cast())
        })
    };
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(hide) };
}

/// Gives the engine a run-time directory of its own in place of the one that all its instances share: what it forgets there
/// when it is killed goes with its last process.
///
/// # Errors
/// When there is no such directory and it can't be made.
pub(crate) fn own_run_directory(command: &mut Command, directory: &'static CStr) -> anyhow::Result<()> {
    let path = Path::new(OsStr::from_bytes(directory.to_bytes()));
    fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))?;
    hide(command, directory, false);
    Ok(())
}

/// Makes the command not see what is mounted here, in a mount namespace of its own. Needs root.
pub(crate) fn unmount(command: &mut Command, point: &'static CStr) {
    let unmount = move || {
        own_mounts()?;
        // SAFETY: the string is static and ends in a zero.
        check(unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) })
    };
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(unmount) };
}

/// Makes the command see the mounts as they are now, whatever is mounted or unmounted beside it from here on: for engines that
/// read the table of mounts and then go over it entry by entry, and fail when one has gone in between. Needs root.
pub(crate) fn freeze_mounts(command: &mut Command) {
    // What is unmounted on the host lives on in here only until its mount point is removed, which takes it from everybody.
    let freeze = || new_mounts(libc::MS_PRIVATE);
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(freeze) };
}

/// Gives the calling process, which has one thread between fork and exec, a mount namespace of its own.
fn own_mounts() -> io::Result<()> {
    // A slave, not private: what is unmounted on the host must not live on in here.
    new_mounts(libc::MS_SLAVE)
}

fn new_mounts(propagation: libc::c_ulong) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (none, flags) = (std::ptr::null(), libc::MS_REC | propagation);
    // SAFETY: the string is static and ends in a zero; the kernel takes null for the others.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
