//! The way of `tarebench enter`: from a plain process into a root file system of ours, by system calls alone, then on to the
//! agent in it. The mounts live in a mount namespace of their own and go with the last process, even after SIGKILL.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, chroot, execv, fork, getegid, geteuid, pivot_root, sethostname};

use crate::boxes::own::overlay;
use crate::boxes::own::seccomp::{self, Seccomp};
use crate::stage::data::Data;

/// Name of the hidden subcommand.
pub(crate) const COMMAND: &str = "enter";

const NONE: Option<&str> = None;

/// Places of the data that we can mount.
const LAYERS: [Data; 3] = [Data::Bind, Data::Overlay, Data::Tmpfs];

/// How far inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Another root, and nothing else.
    Chroot,
    /// User, mount, PID, IPC and UTS namespaces; the network namespace was entered before.
    Namespaces,
}

impl How {
    pub(crate) fn word(self) -> &'static str {
        match self {
            How::Chroot => "chroot",
            How::Namespaces => "namespaces",
        }
    }
}

#[derive(Debug)]
struct Order {
    how: How,
    root: PathBuf,
    data: PathBuf,
    layer: Data,
    filtered: bool,
    user: bool,
    pid: bool,
    /// Whether the network namespace is a new, empty one.
    cut_off: bool,
    command: Vec<CString>,
}

/// Runs `tarebench enter --how chroot|namespaces --root DIR --data DIR [--layer bind|overlay|tmpfs]
/// [--seccomp none|docker-like] [--without user|pid]... [--network none] -- COMMAND...`; `args` begin after `enter`. Call it
/// first thing in `main`: entering a user namespace needs a process with a single thread. Doesn't return when it works.
///
/// # Errors
/// When a step is refused; the message says which.
pub fn enter(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Infallible> {
    let order = parse(args)?;
    match order.how {
        How::Chroot => {
            unshare(CloneFlags::CLONE_NEWNS).context("can't make a mount namespace")?;
            furnish(&order)?;
            chroot(&order.root).with_context(|| format!("can't chroot to {}", order.root.display()))?;
            chdir("/").context("can't enter the new root")?;
            execute(&order)
        }
        How::Namespaces => enter_namespaces(&order),
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Order> {
    let mut args = args.into_iter();
    let (mut how, mut root, mut data) = (None, None, None);
    let (mut layer, mut filtered, mut user, mut pid, mut cut_off) = (Data::Bind, false, true, true, false);
    loop {
        let key = args.next().context("`enter` needs --how, --root, --data, `--` and a command")?;
        if key == "--" {
            break;
        }
        let value = args.next().with_context(|| format!("{} needs a value", key.display()))?;
        match key.to_str() {
            Some("--how") if value == "chroot" => how = Some(How::Chroot),
            Some("--how") if value == "namespaces" => how = Some(How::Namespaces),
            Some("--root") => root = Some(PathBuf::from(value)),
            Some("--data") => data = Some(PathBuf::from(value)),
            Some("--layer") if LAYERS.iter().any(|l| value == l.word()) => {
                layer = LAYERS.into_iter().find(|l| value == l.word()).unwrap_or(layer);
            }
            Some("--seccomp") if value == "none" => filtered = false,
            Some("--seccomp") if value == Seccomp::DockerLike.word() => filtered = true,
            Some("--without") if value == "user" => user = false,
            Some("--without") if value == "pid" => pid = false,
            Some("--network") if value == "none" => cut_off = true,
            _ => bail!("`enter` doesn't know {} {}", key.display(), value.display()),
        }
    }
    let command =
        args.map(|a| CString::new(a.into_vec())).collect::<Result<Vec<_>, _>>().context("a NUL in an argument")?;
    if command.is_empty() {
        bail!("`enter` needs a command after `--`");
    }
    let (how, root) = (how.context("--how is missing")?, root.context("--root is missing")?);
    let data = data.context("--data is missing")?;
    Ok(Order { how, root, data, layer, filtered, user, pid, cut_off, command })
}

fn enter_namespaces(order: &Order) -> anyhow::Result<Infallible> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWUSER, order.user);
    flags.set(CloneFlags::CLONE_NEWPID, order.pid);
    flags.set(CloneFlags::CLONE_NEWNET, order.cut_off);
    unshare(flags).context("can't make user, mount, PID, IPC and UTS namespaces")?;
    if order.user {
        fs::write("/proc/self/setgroups", "deny").context("can't write setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("can't map our user id")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("can't map our group id")?;
    }
    // The new credentials have cleared it.
    die_with_parent()?;
    if !order.pid {
        move_in(order)?;
        return execute(order);
    }
    block_signals()?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("can't fork the init of the PID namespace")? {
        ForkResult::Parent { child } => supervise(child),
        ForkResult::Child => {
            die_with_parent()?;
            move_in(order)?;
            // SAFETY: this process has one thread.
            match unsafe { fork() }.context("can't fork the agent")? {
                ForkResult::Parent { child } => supervise(child),
                ForkResult::Child => {
                    SigSet::all().thread_unblock().context("can't unblock signals")?;
                    execute(order)
                }
            }
        }
    }
}

/// Furnishes the root and makes it ours.
fn move_in(order: &Order) -> anyhow::Result<()> {
    furnish(order)?;
    sethostname("tarebench").context("can't set the host name")?;
    chdir(&order.root).context("can't enter the root")?;
    // Stacks the old root on the new one, from where it is taken off: no directory for it is needed.
    pivot_root(".", ".").context("can't pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).context("can't detach the old root")?;
    chdir("/").context("can't enter the new root")
}

/// Mounts what stands in the root: itself, the data, /proc, /dev, /tmp, and what tells about clocks and disks of /sys.
fn furnish(order: &Order) -> anyhow::Result<()> {
    let root = &order.root;
    let at = |name: &str| root.join(name);
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("can't make our mounts private")?;
    bind(root, root)?;
    match order.layer {
        Data::Bind => bind(&order.data, &at("data"))?,
        Data::Overlay => {
            let options = overlay::options(&order.data, order.how == How::Namespaces && order.user)?;
            mount(Some("overlay"), &at("data"), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .context("can't mount the overlay for /data; set data=bind")?;
            // The kernel leaves it without permissions, and then its owner alone, who is not root, can't remove it.
            let inner = order.data.join("work/work");
            fs::set_permissions(&inner, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("can't change the mode of {}", inner.display()))?;
        }
        Data::Tmpfs => mount(Some("tmpfs"), &at("data"), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, NONE)
            .context("can't mount memory on /data")?,
        other => bail!("`enter` mounts no {other}"),
    }
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if order.how == How::Namespaces && order.user && !order.pid {
        // A fresh one belongs to the owner of the PID namespace, which is not ours then.
        mount(Some("/proc"), &at("proc"), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
            .context("can't bind /proc")?;
    } else {
        mount(Some("proc"), &at("proc"), Some("proc"), strict, NONE).context("can't mount /proc")?;
    }
    mount(Some("tmpfs"), &at("tmp"), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=64m"))
        .context("can't mount /tmp")?;
    mount(Some("tmpfs"), &at("dev"), Some("tmpfs"), MsFlags::MS_NOSUID, Some("size=64k,mode=755"))
        .context("can't mount /dev")?;
    for name in ["null", "zero", "full", "random", "urandom"] {
        let place = at("dev").join(name);
        fs::write(&place, "").with_context(|| format!("can't make {}", place.display()))?;
        bind(&Path::new("/dev").join(name), &place)?;
    }
    mount(Some("tmpfs"), &at("sys"), Some("tmpfs"), strict, Some("size=64k,mode=755")).context("can't mount /sys")?;
    for name in ["devices", "class", "block", "dev"] {
        let (from, to) = (Path::new("/sys").join(name), at("sys").join(name));
        fs::create_dir(&to).with_context(|| format!("can't make {}", to.display()))?;
        if from.is_dir() {
            bind(&from, &to)?;
            mount(NONE, &to, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | strict, NONE)
                .with_context(|| format!("can't make {} read-only", to.display()))?;
        }
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("can't bind {} to {}", from.display(), to.display()))
}

fn execute(order: &Order) -> anyhow::Result<Infallible> {
    let command = &order.command;
    // SAFETY: no pointers are involved; later calls of execve can't gain privileges.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error()).context("can't set no_new_privs");
    }
    if order.filtered {
        seccomp::apply()?;
    }
    execv(&command[0], command).with_context(|| format!("can't execute {:?} inside", command[0]))
}

fn die_with_parent() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("can't set the parent-death signal")
}

fn block_signals() -> anyhow::Result<()> {
    let mut set = SigSet::empty();
    for signal in PASSED_ON.iter().chain(&[Signal::SIGCHLD]) {
        set.add(*signal);
    }
    set.thread_block().context("can't block signals")
}

const PASSED_ON: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// The life of the front process and of the init: reaps whatever dies, passes signals on, and ends as the child ends.
fn supervise(child: Pid) -> ! {
    let mut awaited = SigSet::empty();
    for signal in PASSED_ON.iter().chain(&[Signal::SIGCHLD]) {
        awaited.add(*signal);
    }
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => std::process::exit(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => std::process::exit(128 + signal as i32),
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(_) => std::process::exit(125),
            }
        }
        if let Ok(signal) = awaited.wait() {
            // A child that is gone already is reaped in the next turn.
            if signal != Signal::SIGCHLD && kill(child, signal).is_err() {
                continue;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(words: &str) -> anyhow::Result<Order> {
        parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn the_order_is_read_and_mistakes_are_named() {
        let o = order("--how namespaces --root /r --data /d -- /tarebench agent --data /data").unwrap();
        assert_eq!((o.how, o.command.len()), (How::Namespaces, 4));
        assert!(o.layer == Data::Bind && o.user && o.pid && !o.filtered && !o.cut_off);
        let o = order(
            "--how namespaces --root /r --data /d --layer overlay --seccomp docker-like --without user --without pid \
             --network none -- x",
        )
        .unwrap();
        assert!(o.layer == Data::Overlay && !o.user && !o.pid && o.filtered && o.cut_off);
        for wrong in [
            "--how jail --root /r --data /d -- x",
            "--root /r --data /d -- x",
            "--how chroot --root /r --data /d --",
            "--how chroot --layer zfs --root /r --data /d -- x",
        ] {
            order(wrong).expect_err(wrong);
        }
    }
}
