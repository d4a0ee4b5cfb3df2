//! Several operations in flight at a time, by io_uring: one system call hands in what is new and waits for what ends first.
//!
//! An operation that has ended is replaced at once, not when all that have ended are seen: with 16 in flight on a virtio disk that
//! works on what it is given while we look at the next, handing in by the batch gave three quarters of the operations per second.
//!
//! Set up as fio sets up its own by default, since we are compared with it: plain descriptors and plain buffers, completions
//! run when the waiting thread asks for them. A ring belongs to the thread that makes it, so each burst makes its own.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

/// `IORING_ENTER_GETEVENTS` of io_uring_enter(2).
const GETEVENTS: u32 = 1;

/// A ring, and the buffers that the kernel may be writing to: they live until it has ended with them.
pub struct Queue<T> {
    ring: IoUring,
    /// How the ring is set up, as the kernel calls it.
    pub setup: &'static str,
    /// Where the buffers are.
    pub kept: Vec<T>,
    in_flight: usize,
}

impl<T> Queue<T> {
    /// A ring with room for `depth` operations.
    ///
    /// # Errors
    /// When the environment has no io_uring or forbids it, in its own words and with what to set instead.
    pub fn new(depth: u32) -> anyhow::Result<Self> {
        let build = |flags: fn(&mut io_uring::Builder) -> &mut io_uring::Builder| {
            let mut builder = IoUring::builder();
            flags(&mut builder).build(depth)
        };
        // What a kernel before 6.1 doesn't know it answers with EINVAL; before 5.19 it knows neither.
        let ring = build(|b| b.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun())
            .map(|ring| (ring, "defer_taskrun"))
            .or_else(|e| or_older(e, || build(|b| b.setup_coop_taskrun())).map(|ring| (ring, "coop_taskrun")))
            .or_else(|e| or_older(e, || build(|b| b)).map(|ring| (ring, "plain")));
        let (ring, setup) = ring.map_err(explain)?;
        Ok(Self { ring, setup, kept: Vec::new(), in_flight: 0 })
    }

    /// Puts a read in line, to be known by `tag`.
    ///
    /// # Safety
    /// `buffer` has `length` bytes, belongs to [`Queue::kept`], and is neither read nor written until the operation has ended.
    #[inline]
    pub unsafe fn read(&mut self, file: &File, tag: usize, buffer: *mut u8, length: usize, offset: u64) {
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer, length as u32).offset(offset).build();
        // SAFETY: the caller's promise; the file is open for as long as the caller waits.
        unsafe { self.push(entry, tag) };
    }

    /// Puts a write in line, to be known by `tag`.
    ///
    /// # Safety
    /// As for [`Queue::read`].
    #[inline]
    pub unsafe fn write(&mut self, file: &File, tag: usize, buffer: *const u8, length: usize, offset: u64) {
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), buffer, length as u32).offset(offset).build();
        // SAFETY: the caller's promise.
        unsafe { self.push(entry, tag) };
    }

    /// # Safety
    /// What the entry points to lives, untouched, until its completion is taken.
    #[inline]
    unsafe fn push(&mut self, entry: squeue::Entry, tag: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(&entry.user_data(tag as u64)) }
            .expect("no more is in flight than the ring was made for");
        self.in_flight += 1;
    }

    /// Whether an operation has ended that nobody has taken yet.
    #[inline]
    pub fn ready(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Hands in what is in line, without waiting for anything to end: one system call.
    ///
    /// # Errors
    /// As the kernel gives them.
    #[inline]
    pub fn submit(&mut self) -> io::Result<()> {
        loop {
            let waiting = self.ring.submission().len() as u32;
            // SAFETY: no argument is passed, and all buffers of entries in line live in `kept`.
            match unsafe { self.ring.submitter().enter::<libc::sigset_t>(waiting, 0, GETEVENTS, None) } {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Hands in what is in line and waits until an operation has ended: one system call. What bounds the wait is what bounds
    /// a plain read, the harness's deadline.
    ///
    /// # Errors
    /// As the kernel gives them.
    #[inline]
    pub fn wait(&mut self) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// An operation that has ended, if there is one: its tag, and bytes moved or the negative number of an error.
    #[inline]
    pub fn next(&mut self) -> Option<(usize, i32)> {
        let entry = self.ring.completion().next()?;
        self.in_flight -= 1;
        Some((entry.user_data() as usize, entry.result()))
    }

    /// Waits until nothing is in flight, and tells `done` what ended. Untimed.
    ///
    /// # Errors
    /// When something is still in flight after `limit`.
    pub fn drain(&mut self, limit: Duration, mut done: impl FnMut(&mut T, i32)) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while self.in_flight > 0 {
            match self.submit() {
                Ok(()) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {}
                Err(e) => return Err(explain(e)),
            }
            while let Some((tag, result)) = self.next() {
                done(&mut self.kept[tag], result);
            }
            if self.in_flight > 0 {
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "{} operations of io_uring have not ended after {limit:?}; set engine = psync for all environments",
                    self.in_flight
                );
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    /// The buffers, for the next ring; nothing where the kernel hasn't ended with them.
    pub fn give_back(&mut self) -> Vec<T> {
        if self.in_flight == 0 { std::mem::take(&mut self.kept) } else { Vec::new() }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        if self.drain(Duration::from_secs(10), |_, _| ()).is_err() {
            // The kernel may still write to them: lost memory is better than memory that changes by itself.
            std::mem::forget(std::mem::take(&mut self.kept));
        }
    }
}

/// Tries again with less where the kernel doesn't know a flag.
fn or_older(error: io::Error, again: impl FnOnce() -> io::Result<IoUring>) -> io::Result<IoUring> {
    if error.raw_os_error() == Some(libc::EINVAL) { again() } else { Err(error) }
}

/// The environment's own words, and what they mean.
#[cold]
pub fn explain(error: io::Error) -> anyhow::Error {
    let words = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the environment's kernel or its seccomp filter has no io_uring",
        Some(libc::EPERM | libc::EACCES) => {
            "the environment forbids io_uring (its seccomp filter, kernel.io_uring_disabled, or another policy)"
        }
        Some(libc::ENOMEM) => "io_uring may not lock as much memory as it needs (ulimit -l)",
        Some(libc::EINVAL | libc::EOPNOTSUPP) => "the environment has an io_uring that refuses reads and writes",
        _ => "io_uring failed",
    };
    anyhow::Error::from(error).context(format!("{words}; set engine = psync for all environments"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn what_is_never_answered_is_given_up_after_the_limit() {
        let mut queue = match Queue::<[u8; 8]>::new(4) {
            Ok(queue) => queue,
            Err(e) => return eprintln!("SKIPPED: {e:#}"),
        };
        let (reader, writer) = io::pipe().expect("a pipe");
        let reader = File::from(std::os::fd::OwnedFd::from(reader));
        queue.kept = vec![[0; 8]];
        let buffer = queue.kept[0].as_mut_ptr();
        // SAFETY: the buffer is in `kept` and not touched before the operation has ended.
        unsafe { queue.read(&reader, 0, buffer, 8, u64::MAX) };
        let error = queue.drain(Duration::from_millis(30), |_, _| ()).expect_err("nobody writes to the pipe");
        assert!(error.to_string().starts_with("1 operations of io_uring have not ended after 30ms"), "{error}");
        assert!(queue.give_back().is_empty(), "the kernel still has the buffer");
        drop(writer);
        let mut seen = Vec::new();
        queue.drain(Duration::from_secs(5), |_, result| seen.push(result)).expect("the end of the pipe");
        assert_eq!((seen, queue.give_back().len()), (vec![0], 1));
    }

    #[test]
    fn reads_carry_their_tag_and_errors_their_number() {
        let mut queue = match Queue::<[u8; 4]>::new(2) {
            Ok(queue) => queue,
            Err(e) => return eprintln!("SKIPPED: {e:#}"),
        };
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(b"abcdefgh", 0).expect("written");
        queue.kept = vec![[0; 4]; 2];
        let buffer = queue.kept[1].as_mut_ptr();
        // SAFETY: the buffer is in `kept` and not touched before the operation has ended.
        unsafe { queue.read(&file, 1, buffer, 4, 2) };
        queue.wait().expect("waited");
        assert_eq!(queue.next(), Some((1, 4)));
        assert_eq!(queue.next(), None);
        assert_eq!(&queue.kept[1], b"cdef");
        // SAFETY: a null buffer is refused by the kernel and nobody touches it.
        unsafe { queue.read(&file, 0, std::ptr::null_mut(), 4, 0) };
        queue.wait().expect("waited");
        assert_eq!(queue.next(), Some((0, -libc::EFAULT)));
    }

    #[test]
    fn a_refusal_names_the_other_engine() {
        for (code, words) in [(libc::ENOSYS, "seccomp filter has no io_uring"), (libc::EPERM, "forbids io_uring")] {
            let text = format!("{:#}", explain(io::Error::from_raw_os_error(code)));
            assert!(text.contains(words) && text.contains("set engine = psync"), "{text}");
        }
    }
}
