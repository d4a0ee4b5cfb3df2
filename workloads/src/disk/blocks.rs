//! Blocks that say what they are: a head with number and version, a body that can't be compressed, both from the seed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use crate::content::{self, mix};
use crate::settings::Settings;

/// Alignment of buffers: what O_DIRECT wants on every device in use.
const ALIGN: usize = 4096;
/// Bytes of the head: number, version, and a word mixed from both and the seed.
const HEAD: usize = 24;
const STREAM: u64 = 0x4449_534b;

/// A zeroed buffer whose first byte is aligned for O_DIRECT.
#[derive(Debug)]
pub struct Aligned {
    bytes: Vec<u8>,
    offset: usize,
    length: usize,
}

impl Aligned {
    /// A buffer of `length` bytes.
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + ALIGN];
        let offset = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, offset, length }
    }

    /// The bytes.
    #[inline]
    pub fn get(&self) -> &[u8] {
        &self.bytes[self.offset..self.offset + self.length]
    }

    /// The bytes, to be written.
    #[inline]
    pub fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + self.length]
    }
}

/// Stamps the head of a block.
#[inline]
pub fn stamp(block: &mut [u8], seed: u64, number: u64, version: u64) {
    block[..HEAD].copy_from_slice(&head(seed, number, version));
}

/// Whether a block has the head it should have.
#[inline]
pub fn stamped(block: &[u8], seed: u64, number: u64, version: u64) -> bool {
    block.starts_with(&head(seed, number, version))
}

#[inline]
fn head(seed: u64, number: u64, version: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..16].copy_from_slice(&version.to_le_bytes());
    head[16..].copy_from_slice(&mix(seed ^ mix(number ^ mix(version))).to_le_bytes());
    head
}

/// A block of the initial content (version 0): every byte behind the head is its own.
pub fn initial(block: &mut [u8], seed: u64, number: u64) {
    content::fill(&mut content::generator(seed, STREAM, number), &mut block[HEAD..]);
    stamp(block, seed, number, 0);
}

/// Bodies made in advance, so that a timed write costs no more than stamping a head.
#[derive(Debug)]
pub struct Pool {
    seed: u64,
    buffer: Aligned,
    block: usize,
}

impl Pool {
    /// As many bodies as fit into 1 MiB, at most 64 and at least 2: writes that follow each other differ everywhere.
    pub fn new(seed: u64, block: usize) -> Self {
        let bodies = ((1 << 20) / block).clamp(2, 64);
        let mut buffer = Aligned::new(bodies * block);
        content::fill(&mut content::generator(seed, STREAM + 1, 0), buffer.get_mut());
        Self { seed, buffer, block }
    }

    /// The block to write as operation `version`, at place `number`.
    #[inline]
    pub fn block(&mut self, number: u64, version: u64) -> &[u8] {
        let bodies = (self.buffer.length / self.block) as u64;
        let start = (version % bodies) as usize * self.block;
        let block = &mut self.buffer.get_mut()[start..start + self.block];
        stamp(block, self.seed, number, version);
        block
    }
}

/// Opens a file for reading and writing, past the page cache if `direct`.
pub fn open(path: &Path, direct: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path).map_err(|e| explain(e, direct)).with_context(|| format!("can't open {}", path.display()))
}

/// What to do about a refused O_DIRECT, on top of the system's own words.
fn explain(error: io::Error, direct: bool) -> anyhow::Error {
    let refused = direct && error.raw_os_error() == Some(libc::EINVAL);
    let error = anyhow::Error::from(error);
    if refused {
        error.context("the file system refuses O_DIRECT; set direct = false for all environments")
    } else {
        error
    }
}

/// A file full of initial blocks, on the device and out of the page cache.
#[derive(Debug)]
pub struct Filled {
    file: File,
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of a block.
    pub block: usize,
    /// Whether it was opened with O_DIRECT.
    pub direct: bool,
    seed: u64,
}

impl Filled {
    /// Writes the file by its settings `size`, `block` and `direct`.
    pub fn create(path: &Path, seed: u64, settings: &Settings) -> anyhow::Result<Self> {
        let (size, block) = (settings.number("size"), settings.number("block"));
        let direct = settings.switch("direct");
        anyhow::ensure!(
            !direct || block.is_multiple_of(512),
            "direct = true needs a block that is a multiple of 512 bytes, and block is {block}"
        );
        let blocks = size / block;
        anyhow::ensure!(blocks > 0, "a file of {size} bytes has no room for a block of {block}; set a larger size");
        let block = block as usize;
        write_initial(path, seed, blocks, block).with_context(|| format!("can't fill {}", path.display()))?;
        let file = open(path, direct)?;
        let filled = Self { file, blocks, block, direct, seed };
        // Some file systems take the flag and refuse the first transfer.
        let mut buffer = Aligned::new(block);
        filled.read(0, buffer.get_mut()).with_context(|| format!("can't read {}", path.display()))?;
        Ok(filled)
    }

    /// The state that every burst starts from: nothing of the burst before waits to be written, and without O_DIRECT nothing
    /// of the file is in the page cache.
    pub fn calm(&self) -> anyhow::Result<()> {
        self.file.sync_all().context("can't flush the file")?;
        if self.direct { Ok(()) } else { forget(&self.file) }
    }

    /// Reads one whole block.
    #[inline]
    pub fn read(&self, number: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.file.read_exact_at(buffer, number * self.block as u64).map_err(|e| explain(e, self.direct))
    }

    /// Writes one whole block.
    #[inline]
    pub fn write(&self, number: u64, buffer: &[u8]) -> anyhow::Result<()> {
        self.file.write_all_at(buffer, number * self.block as u64).map_err(|e| explain(e, self.direct))
    }

    /// Reads everything back and compares each block with what `expected` says it holds; gives the bodies' checksum.
    pub fn compare(&self, mut expected: impl FnMut(u64, &mut [u8])) -> anyhow::Result<u32> {
        let per_read = ((1 << 20) / self.block).max(1);
        let mut found = Aligned::new(per_read * self.block);
        let mut right = vec![0; self.block];
        let mut sum = crc32fast::Hasher::new();
        let mut number = 0;
        while number < self.blocks {
            let count = (per_read as u64).min(self.blocks - number) as usize;
            let part = &mut found.get_mut()[..count * self.block];
            self.read(number, part).with_context(|| format!("can't read block {number} back"))?;
            for block in part.chunks_exact(self.block) {
                expected(number, &mut right);
                anyhow::ensure!(block == right, "block {number} doesn't hold what was written to it");
                sum.update(block);
                number += 1;
            }
        }
        Ok(sum.finalize())
    }

    /// Compares the whole file with its initial content.
    pub fn compare_initial(&self) -> anyhow::Result<u32> {
        self.compare(|number, block| initial(block, self.seed, number))
    }

    /// Share of the file's pages that are in the page cache of the kernel that serves it, 0..1.
    pub fn resident(&self) -> anyhow::Result<f64> {
        resident(&self.file, (self.blocks * self.block as u64) as usize)
    }
}

fn write_initial(path: &Path, seed: u64, blocks: u64, block: usize) -> anyhow::Result<()> {
    let file = File::create(path)?;
    let per_write = ((1 << 20) / block).max(1);
    let mut buffer = vec![0; per_write * block];
    let mut number = 0;
    while number < blocks {
        let first = number;
        let count = (per_write as u64).min(blocks - number) as usize;
        let part = &mut buffer[..count * block];
        for block in part.chunks_exact_mut(block) {
            initial(block, seed, number);
            number += 1;
        }
        file.write_all_at(part, first * block as u64)?;
    }
    file.sync_all()?;
    forget(&file)
}

/// Asks the kernel to drop the file's pages; they are clean.
fn forget(file: &File) -> anyhow::Result<()> {
    // SAFETY: plain numbers and an open descriptor.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    // A sandbox that doesn't know the call keeps its pages, and `resident` shows them.
    if error != 0 && error != libc::ENOSYS {
        return Err(io::Error::from_raw_os_error(error)).context("can't drop the file's pages from the cache");
    }
    Ok(())
}

fn resident(file: &File, length: usize) -> anyhow::Result<f64> {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(ALIGN).max(1);
    let mut pages = vec![0; length.div_ceil(page)];
    // SAFETY: a new shared read-only mapping of an open file; nobody reads through it, and it's removed below.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("can't map the file to see what is in the page cache");
    }
    // SAFETY: the mapping is `length` bytes long, and `pages` has a byte for each of its pages.
    let result = match unsafe { libc::mincore(map, length, pages.as_mut_ptr()) } {
        0 => Ok(pages.iter().filter(|p| **p & 1 != 0).count() as f64 / pages.len() as f64),
        _ => Err(io::Error::last_os_error()).context("can't see what is in the page cache"),
    };
    // SAFETY: exactly the mapping made above, of which no reference exists.
    unsafe { libc::munmap(map, length) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_has_its_length() {
        for length in [1, 4096, 5000] {
            let buffer = Aligned::new(length);
            assert_eq!(buffer.get().len(), length);
            assert_eq!(buffer.get().as_ptr() as usize % ALIGN, 0);
        }
    }

    #[test]
    fn a_head_tells_number_version_and_seed_apart() {
        let mut block = vec![0; 4096];
        stamp(&mut block, 1, 2, 3);
        assert!(stamped(&block, 1, 2, 3));
        assert!(!stamped(&block, 2, 2, 3) && !stamped(&block, 1, 3, 3) && !stamped(&block, 1, 2, 4));
    }

    #[test]
    fn writes_that_follow_each_other_have_different_bodies() {
        let mut pool = Pool::new(1, 1 << 20);
        let first = pool.block(0, 0).to_vec();
        assert_ne!(first[HEAD..], pool.block(0, 1)[HEAD..]);
        assert_eq!(first, pool.block(0, 0));
    }

    #[test]
    fn a_changed_byte_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data");
        write_initial(&path, 1, 8, 4096).expect("written");
        let file = open(&path, false).expect("opened");
        let filled = Filled { file, blocks: 8, block: 4096, direct: false, seed: 1 };
        filled.compare_initial().expect("as written");
        filled.file.write_all_at(b"x", 5 * 4096 + 100).expect("changed");
        let error = filled.compare_initial().expect_err("changed");
        assert_eq!(error.to_string(), "block 5 doesn't hold what was written to it");
        assert!(filled.resident().expect("mincore works") > 0.0);
    }
}
