//! A system-call filter of the shape that containers have: what Docker's default profile denies is denied, every other
//! system call is allowed one by one, by its number, so that a call pays for its place in the list as it does there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use workloads::settings::{Setting, Value as _};
use workloads::words;

/// For runners whose filter is ours.
pub(crate) const SECCOMP: Setting = Setting::new("seccomp", Seccomp::KIND)
    .with_default("none")
    .with_about("No system-call filter, or one that denies what Docker's default profile denies (io_uring among it)");

words! {
    /// Which system calls are filtered.
    pub enum Seccomp {
        /// None.
        None = "none",
        /// Those that Docker's default profile denies.
        DockerLike = "docker-like",
    }
}

/// Beyond the last system call that a kernel of today has (Linux 6.10: mseal is 462).
const LAST: i64 = 462;

/// System calls that the profile denies to a container without further capabilities, where the kernel has them
/// (docs.docker.com/engine/security/seccomp, as of Docker 25: ptrace is allowed since Linux 4.8).
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    KEXEC_FILE_LOAD,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The crate libc lacks it for RISC-V, whose number is the one that all newer architectures share.
#[cfg(target_arch = "riscv64")]
const KEXEC_FILE_LOAD: i64 = 294;
#[cfg(not(target_arch = "riscv64"))]
const KEXEC_FILE_LOAD: i64 = libc::SYS_kexec_file_load;

/// Those of them that not every architecture's table has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[libc::SYS_lookup_dcookie, libc::SYS_nfsservctl];

/// The bits of clone(2) that make namespaces, all but that of time.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Personalities that may be asked for.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter, in two programs of which the stricter answer counts: a program can give one kind of refusal only, and
/// clone3 must look as if it were not there, so that the C library falls back to clone, whose flags can be seen.
///
/// # Errors
/// When it can't be compiled: on a processor that the compiler doesn't know.
pub(crate) fn programs() -> anyhow::Result<Vec<BpfProgram>> {
    let when = |op, value| -> anyhow::Result<SeccompRule> {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, op, value)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        (0..=LAST).filter(|n| !DENIED.contains(n) && !DENIED_HERE.contains(n)).map(|n| (n, Vec::new())).collect();
    allowed.insert(libc::SYS_clone, vec![when(SeccompCmpOp::MaskedEq(NEW_NAMESPACES), 0)?]);
    let personalities = PERSONALITIES.map(|p| when(SeccompCmpOp::Eq, p)).into_iter().collect::<Result<_, _>>()?;
    allowed.insert(libc::SYS_personality, personalities);
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refuse = |error: i32| SeccompAction::Errno(error as u32);
    let compile = |rules, otherwise, matched| -> anyhow::Result<BpfProgram> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        Ok(SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?)
    };
    let all = || -> anyhow::Result<Vec<BpfProgram>> {
        Ok(vec![
            compile(allowed, refuse(libc::EPERM), SeccompAction::Allow)?,
            compile(absent, SeccompAction::Allow, refuse(libc::ENOSYS))?,
        ])
    };
    all().context("can't compile the system-call filter; set seccomp=none")
}

/// Filters this process and what it becomes, for good. `no_new_privs` must be set.
///
/// # Errors
/// When the kernel refuses: it may be built without seccomp.
pub(crate) fn apply() -> anyhow::Result<()> {
    // The first one still allows seccomp(2) for the second.
    for program in programs()? {
        seccompiler::apply_filter(&program).context("can't filter system calls; set seccomp=none")?;
    }
    Ok(())
}

/// Gives the command open files with the programs, as numbers for bwrap's `--add-seccomp-fd`.
///
/// # Errors
/// When no file can be made.
pub(crate) fn pass_to(command: &mut Command) -> anyhow::Result<Vec<i32>> {
    let files = programs()?.iter().map(in_memory).collect::<anyhow::Result<Vec<File>>>()?;
    let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let between = move || {
        for file in &files {
            // Only the child keeps them open: the harness's own copies close on exec.
            // SAFETY: the descriptor is open; no pointers are involved.
            if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes an async-signal-safe system call and allocates nothing.
    unsafe { command.pre_exec(between) };
    Ok(numbers)
}

fn in_memory(program: &BpfProgram) -> anyhow::Result<File> {
    // SAFETY: the name is static and ends in a zero.
    let number = unsafe { libc::memfd_create(c"tarebench-seccomp".as_ptr(), libc::MFD_CLOEXEC) };
    if number < 0 {
        return Err(std::io::Error::last_os_error()).context("can't make a file in memory for the system-call filter");
    }
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(number) };
    // `struct sock_filter` of linux/filter.h, in the machine's byte order.
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|i| {
            let [c0, c1] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
        })
        .collect();
    file.write_all(&bytes).and_then(|()| file.rewind()).context("can't write the system-call filter")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_filter_compiles_and_fits_the_kernels_limit() {
        let programs = programs().expect("compiles");
        assert_eq!(programs.len(), 2);
        // BPF_MAXINSNS of linux/bpf_common.h.
        assert!(programs[0].len() > 400 && programs[0].len() <= 4096, "{}", programs[0].len());
        assert!(!DENIED.iter().any(|n| *n > LAST));
    }

    #[test]
    fn a_filtered_process_works_and_is_denied_what_docker_denies() {
        let filtered = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(words);
            // SAFETY: a test of one short command; the allocations between fork and exec meet no other thread's lock
            // that its own allocator doesn't handle.
            unsafe {
                command.pre_exec(|| {
                    libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                    apply().map_err(|e| std::io::Error::other(format!("{e:#}")))
                })
            };
            command.output().expect("starts")
        };
        let fine = filtered("sh", &["-c", "ls / | wc -l"]);
        assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
        let denied = filtered("unshare", &["--user", "true"]);
        let words = String::from_utf8_lossy(&denied.stderr).into_owned();
        assert!(!denied.status.success() && words.contains("Operation not permitted"), "{words}");
    }
}
