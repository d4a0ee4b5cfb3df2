//! A process that becomes a program: started and awaited with nothing of ours between but the system calls.
//!
//! On Linux the child borrows our memory until it is another program (vfork's way, and posix_spawn's): what starting costs
//! doesn't depend on how large the agent is. It is clone(2) and not posix_spawn(3) that does it, because the latter has no word for
//! "die with your parent", which is what keeps a command from outliving an agent that is killed.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The status of a child that couldn't become the program.
const NOT_RUN: c_int = 127;

/// Bytes of the stack on which a child of ours makes a dozen system calls.
#[cfg(target_os = "linux")]
const STACK: usize = 64 << 10;

/// A null-terminated array of strings, as execve(2) takes it.
struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    fn of(owned: Vec<CString>) -> Self {
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _owned: owned }
    }
}

/// A program with its arguments, laid out for any number of starts.
pub(super) struct Program {
    path: CString,
    arguments: Strings,
    environment: Strings,
    directory: CString,
    null: File,
    parent: libc::pid_t,
    #[cfg(target_os = "linux")]
    stack: Vec<u8>,
}

// SAFETY: the pointers lead to strings on the heap that are owned beside them and never changed.
unsafe impl Send for Program {}

/// How a process ended and what it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub status: WaitStatus,
    /// CPU time in user space, of the process and of those that it has waited for.
    pub user: Duration,
    /// The same in the kernel.
    pub system: Duration,
}

/// What a child is to do, and why it couldn't.
struct Orders<'a> {
    program: &'a Program,
    stderr: c_int,
    failed: Cell<c_int>,
}

impl Program {
    /// The program at `path`, with `arguments` (its name first) and `environment`, in `directory`.
    pub fn new(
        path: CString,
        arguments: Vec<CString>,
        environment: Vec<CString>,
        directory: CString,
    ) -> io::Result<Self> {
        Ok(Self {
            path,
            arguments: Strings::of(arguments),
            environment: Strings::of(environment),
            directory,
            null: File::options().read(true).write(true).open("/dev/null")?,
            parent: Pid::this().as_raw(),
            #[cfg(target_os = "linux")]
            stack: vec![0; STACK],
        })
    }

    /// Its file.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Starts it in a session of its own, with nothing to read, and with nobody who reads what it says, but `stderr` where given.
    #[inline]
    pub fn start(&mut self, stderr: Option<BorrowedFd<'_>>) -> nix::Result<Pid> {
        let stderr = stderr.map_or_else(|| self.null.as_raw_fd(), |fd| fd.as_raw_fd());
        #[cfg(target_os = "linux")]
        let top = {
            let end = self.stack.as_mut_ptr_range().end;
            // Every ABI wants a stack that is aligned to 16 bytes.
            end.wrapping_sub(end.addr() % 16)
        };
        let orders = Orders { program: self, stderr, failed: Cell::new(0) };
        #[cfg(target_os = "linux")]
        // SAFETY: the stack is ours and large enough, and we stand still until the child has left it (CLONE_VFORK). What the child
        // touches of our memory is on that stack, in `orders`, and the errno of this thread.
        let child = unsafe {
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(become_program, top.cast(), flags, (&raw const orders).cast_mut().cast())
        };
        #[cfg(not(target_os = "linux"))]
        // SAFETY: the child makes system calls on memory that was laid out before, and allocates nothing.
        let child = match unsafe { libc::fork() } {
            0 => become_program((&raw const orders).cast_mut().cast()),
            child => child,
        };
        let child = Errno::result(child).map(Pid::from_raw)?;
        match orders.failed.get() {
            0 => Ok(child),
            errno => {
                waitpid(child, None)?;
                Err(Errno::from_raw(errno))
            }
        }
    }
}

/// The child's part. It never returns.
extern "C" fn become_program(orders: *mut c_void) -> c_int {
    // SAFETY: `start` gives its own orders, and stands still or is another process.
    let orders = unsafe { &*orders.cast_const().cast::<Orders<'_>>() };
    let failed = |result: c_int| {
        if result < 0 {
            orders.failed.set(Errno::last_raw());
            // SAFETY: it ends the child, which must not go on as a second agent.
            unsafe { libc::_exit(NOT_RUN) }
        }
    };
    let Program { path, arguments, environment, directory, null, parent, .. } = orders.program;
    // SAFETY: system calls on descriptors and strings that are there, and an empty set of signals.
    unsafe {
        failed(libc::setsid());
        #[cfg(target_os = "linux")]
        {
            failed(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
            if libc::getppid() != *parent {
                libc::_exit(NOT_RUN)
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = parent;
        // What Rust's start does with this signal is no command's business.
        if libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR {
            failed(-1);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        failed(libc::sigemptyset(&raw mut none));
        failed(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()));
        failed(libc::dup2(null.as_raw_fd(), 0));
        failed(libc::dup2(null.as_raw_fd(), 1));
        failed(libc::dup2(orders.stderr, 2));
        failed(libc::chdir(directory.as_ptr()));
        failed(libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()));
        libc::_exit(NOT_RUN)
    }
}

/// Waits until a child has ended.
#[inline]
pub(super) fn wait(child: Pid) -> nix::Result<Ended> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both are valid places for the answer.
        match Errno::result(unsafe { libc::wait4(child.as_raw(), &raw mut status, 0, &raw mut usage) }) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    let time = |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec as u32 * 1000);
    Ok(Ended { status: WaitStatus::from_raw(child, status)?, user: time(usage.ru_utime), system: time(usage.ru_stime) })
}

/// Kills the process group of a child that runs.
pub(super) fn kill(child: i32) {
    if let Err(e) = killpg(Pid::from_raw(child), Signal::SIGKILL) {
        log::debug!("kill process group {child}: {e}");
    }
}

/// Kills what a child that has ended has left in its process group, and says whether there was something.
///
/// The child's number can't be another's by now: the kernel gives numbers out in a circle, and none that is still a group's.
#[inline]
pub(super) fn kill_group(child: Pid) -> bool {
    killpg(child, Signal::SIGKILL).is_ok() && reap_group(child)
}

/// How often it is asked whether what was killed has ended, a millisecond apart.
const ASKED: usize = 2000;

/// Orphans of a command become children of ours, which have to be reaped. Those that had ended by themselves were not left behind.
#[cold]
fn reap_group(child: Pid) -> bool {
    let group = Pid::from_raw(-child.as_raw());
    // A program with another's rights can't be killed, and isn't waited for without end.
    for _ in 0..ASKED {
        let Ok(status) = waitpid(group, Some(WaitPidFlag::WNOHANG)) else { break };
        match status {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(1)),
            WaitStatus::Exited(..) if killpg(child, None).is_err() => return false,
            _ => {}
        }
    }
    true
}
