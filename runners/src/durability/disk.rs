//! A disk that keeps a log: one file in user space (FUSE), over which the kernel makes a loop device.
//!
//! The kernel's own file system lies on it, and below that its own block layer: what arrives here are the writes and flushes that it
//! would send to a disk with a volatile cache. No kernel module is needed. It is served by a process of its own: a process whose own
//! thread waits for its own file system could not even be killed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::libc;

use super::log::{FLUSH, LogWriter, SECTOR};
use super::replay::apply;

// From the kernel's include/uapi/linux/fuse.h, which is an ABI.
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH_FILE: u32 = 25;
const INIT: u32 = 26;
const NO_ANSWER: [u32; 3] = [2, 36, 42];
/// Major and minor version that we speak: the oldest with everything that is used here.
const VERSION: [u32; 2] = [7, 31];
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;
const DIRECT_IO: u32 = 1;

/// Bytes of a request's header and of what a write has between it and its data.
const HEADER: usize = 40;
const WRITE_HEADER: usize = 40;
/// The longest write, bytes.
const LONGEST: usize = 1 << 20;

/// Serves the disk until it is unmounted: `fuse` is the descriptor that it was mounted with, `image` its content, `log` what is made.
///
/// # Errors
/// When a file can't be used, or the kernel asks for what no disk does.
pub fn serve(fuse: File, image: &Path, log: &Path) -> anyhow::Result<()> {
    let file = File::options().read(true).write(true).open(image);
    let file = file.with_context(|| format!("can't open {}", image.display()))?;
    let size = file.metadata().with_context(|| format!("can't look at {}", image.display()))?.len();
    let log = LogWriter::create(log).with_context(|| format!("can't make {}", log.display()))?;
    let mut disk = Disk { file, size, log };
    let mut buffer = vec![0; LONGEST + HEADER + WRITE_HEADER + 4096];
    loop {
        let length = match (&fuse).read(&mut buffer) {
            Ok(length) => length,
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(e) if [Some(libc::EINTR), Some(libc::ENOENT), Some(libc::EAGAIN)].contains(&e.raw_os_error()) => {
                continue;
            }
            Err(e) => return Err(e).context("can't read what the kernel asks of the disk"),
        };
        let request = &buffer[..length];
        let Some((operation, unique)) = u32_at(request, 4).zip(u64_at(request, 8)).filter(|_| length >= HEADER) else {
            bail!("the kernel asks {length} bytes of the disk, less than a request has");
        };
        if NO_ANSWER.contains(&operation) {
            continue;
        }
        let (error, answer) = match disk.answer(operation, &request[HEADER..]) {
            Ok(answer) => (0, answer),
            Err(e) => (-e.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
        };
        let mut whole = Vec::with_capacity(16 + answer.len());
        whole.extend((16 + answer.len() as u32).to_le_bytes());
        whole.extend(error.to_le_bytes());
        whole.extend(unique.to_le_bytes());
        whole.extend(answer);
        match (&fuse).write_all(&whole) {
            // It was unmounted meanwhile, or nobody waits for this answer any more.
            Err(e) if [Some(libc::ENODEV), Some(libc::ENOENT)].contains(&e.raw_os_error()) => {}
            written => written.context("can't answer what the kernel asks of the disk")?,
        }
    }
}

struct Disk {
    file: File,
    size: u64,
    log: LogWriter,
}

impl Disk {
    fn answer(&mut self, operation: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        let malformed = || io::Error::from_raw_os_error(libc::EINVAL);
        match operation {
            INIT => Ok(init()),
            GETATTR | SETATTR => Ok(self.attributes()),
            OPEN => Ok([&0u64.to_le_bytes()[..], &DIRECT_IO.to_le_bytes(), &[0; 4]].concat()),
            READ => {
                let (at, length) = u64_at(body, 8).zip(u32_at(body, 16)).ok_or_else(malformed)?;
                let length = u64::from(length).min(self.size.saturating_sub(at)).min(LONGEST as u64);
                let mut data = vec![0; length as usize];
                self.file.read_exact_at(&mut data, at)?;
                Ok(data)
            }
            WRITE => {
                let (at, length) = u64_at(body, 8).zip(u32_at(body, 16)).ok_or_else(malformed)?;
                let data = body.get(WRITE_HEADER..WRITE_HEADER + length as usize).ok_or_else(malformed)?;
                let whole = at.is_multiple_of(SECTOR) && u64::from(length).is_multiple_of(SECTOR);
                if !whole || at + u64::from(length) > self.size {
                    return Err(malformed());
                }
                // In the log first: what is answered is in it.
                self.log.append(at / SECTOR, 0, data)?;
                apply(&self.file, at / SECTOR, data)?;
                Ok([length.to_le_bytes(), [0; 4]].concat())
            }
            FSYNC => self.log.append(0, FLUSH, &[]).map(|()| Vec::new()),
            RELEASE | FLUSH_FILE => Ok(Vec::new()),
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }

    /// One regular file, the root of the file system itself.
    fn attributes(&self) -> Vec<u8> {
        let mut attributes = Vec::with_capacity(104);
        // Valid for a day, in seconds and nanoseconds.
        attributes.extend(86_400u64.to_le_bytes());
        attributes.extend([0; 8]);
        for field in [1, self.size, self.size / SECTOR, 0, 0, 0] {
            attributes.extend(field.to_le_bytes());
        }
        for field in [0, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0] {
            attributes.extend(field.to_le_bytes());
        }
        attributes
    }
}

/// The answer to the kernel's first request.
fn init() -> Vec<u8> {
    let mut answer = Vec::with_capacity(64);
    // Version, read-ahead, and what we want.
    for field in [VERSION[0], VERSION[1], 0, BIG_WRITES | MAX_PAGES] {
        answer.extend(field.to_le_bytes());
    }
    // Requests in the background, and how many of them are many.
    answer.extend(16u16.to_le_bytes());
    answer.extend(12u16.to_le_bytes());
    answer.extend((LONGEST as u32).to_le_bytes());
    // Granularity of times, and the most pages of a request.
    answer.extend(1u32.to_le_bytes());
    answer.extend(((LONGEST / 4096) as u16).to_le_bytes());
    answer.resize(64, 0);
    answer
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
