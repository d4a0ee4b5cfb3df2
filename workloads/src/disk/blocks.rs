//! Blocks that say what they are: a head with number and version, a body that can't be compressed, both from the seed.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use anyhow::Context as _;

use crate::content::{self, mix};
use crate::residency::{forget, resident};

/// Alignment of buffers: what O_DIRECT wants on every device in use.
const ALIGN: usize = 4096;
/// A huge page, where the small ones have 4 KiB.
pub const HUGE: usize = 2 << 20;
/// From so many bytes on, memory is asked for in huge pages.
const WORTH_A_HUGE_PAGE: usize = 64 << 10;
/// Bytes of the head: number, version, and a word mixed from both and the seed.
const HEAD: usize = 24;
const STREAM: u64 = 0x4449_534b;

/// Memory of buffers, zeroed: in huge pages where it is worth one and the kernel has some.
///
/// Small pages lie wherever there was room, so the kernel hands a device a block of 128 KiB in 32 parts, or in fewer where a start was
/// lucky. On a virtio disk a read took 151 us into 32 parts and 88 into one, and one of 1 MiB 1057 us into 256 and 415 into one (medians
/// of 1500 in turns, 2026-11-26): that luck is no property of an environment.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is memory of its own; who may touch which part of it is for `Aligned` to say.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(length: usize) -> Self {
        let align = if length >= WORTH_A_HUGE_PAGE { HUGE } else { ALIGN };
        let layout =
            Layout::from_size_align(length.max(1).next_multiple_of(align), align).expect("it is far below 2^63");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        if align == HUGE {
            advise_huge(start, layout.size());
        }
        // Touched here, after the advice, and never for the first time within a burst.
        // SAFETY: so many bytes have just been allocated.
        unsafe { start.write_bytes(0, layout.size()) };
        Self { start, layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and every part of it is gone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Asks for huge pages. Where there are none the memory is as good as any other, only in more parts.
#[cfg(target_os = "linux")]
fn advise_huge(start: NonNull<u8>, length: usize) {
    // SAFETY: the range has just been allocated and is whole pages; the advice doesn't change what is in it.
    unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_start: NonNull<u8>, _length: usize) {}

/// Bytes of this process that lie in huge pages; `None` where the kernel doesn't say.
fn in_huge_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")?.trim().strip_suffix(" kB"))?;
    Some(kibibytes.trim().parse::<u64>().ok()? << 10)
}

/// A zeroed buffer whose first byte is aligned for O_DIRECT.
#[derive(Debug)]
pub struct Aligned {
    memory: Arc<Memory>,
    offset: usize,
    length: usize,
}

impl Aligned {
    /// A buffer of `length` bytes.
    pub fn new(length: usize) -> Self {
        Self { memory: Arc::new(Memory::new(length)), offset: 0, length }
    }

    /// So many pairs of buffers of these lengths, beside each other in the same memory.
    pub fn pairs(count: usize, lengths: [usize; 2]) -> Vec<[Self; 2]> {
        let rooms = lengths.map(|length| length.next_multiple_of(ALIGN));
        let memory = Arc::new(Memory::new(count * (rooms[0] + rooms[1])));
        let part = |offset, length| Self { memory: memory.clone(), offset, length };
        let pair = |nth: usize| {
            let first = nth * (rooms[0] + rooms[1]);
            [part(first, lengths[0]), part(first + rooms[0], lengths[1])]
        };
        (0..count).map(pair).collect()
    }

    /// The bytes.
    #[inline]
    pub fn get(&self) -> &[u8] {
        // SAFETY: the range lies within the memory, was zeroed, and belongs to this buffer alone.
        unsafe { slice::from_raw_parts(self.memory.start.add(self.offset).as_ptr(), self.length) }
    }

    /// The bytes, to be written.
    #[inline]
    pub fn get_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; whoever has the buffer has it to themselves.
        unsafe { slice::from_raw_parts_mut(self.memory.start.add(self.offset).as_ptr(), self.length) }
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

/// Bodies of a pool where `pools` of them share the memory: as many as fit into 1 MiB, at most 64 and at least 2, so that
/// writes that follow each other differ everywhere.
pub fn bodies(block: usize, pools: u32) -> usize {
    ((1 << 20) / block / pools.max(1) as usize).clamp(2, 64)
}

impl Pool {
    /// For one who writes a block at a time.
    pub fn new(seed: u64, block: usize) -> Self {
        Self::with(seed, block, bodies(block, 1))
    }

    /// A pool of so many bodies. The body of a number is the same in each pool that has it.
    pub fn with(seed: u64, block: usize, bodies: usize) -> Self {
        Self::of(seed, block, Aligned::new(bodies * block))
    }

    /// A pool in this buffer, of as many bodies as it has room for.
    pub fn of(seed: u64, block: usize, mut buffer: Aligned) -> Self {
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

/// Opens a file for reading and writing, with more flags of open(2): `O_DIRECT` past the page cache, `O_DSYNC` through to the device.
pub fn open(path: &Path, flags: libc::c_int) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options
        .open(path)
        .map_err(|e| explain(e, flags & libc::O_DIRECT != 0))
        .with_context(|| format!("can't open {}", path.display()))
}

/// The system's own words, and on top of them what to do about those that have a known cause.
#[cold]
pub fn explain(error: io::Error, direct: bool) -> anyhow::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EINVAL) if direct => "the file system refuses O_DIRECT; set direct = false for all environments",
        Some(libc::ENOSPC) => "the file system is full; free room there (bytes or inodes), or set the workload smaller",
        Some(libc::EDQUOT) => "the quota of the file system is used up; raise it, or set the workload smaller",
        Some(libc::EFBIG) => {
            "a file may not become so large here; raise the limit (ulimit -f), or set the workload smaller"
        }
        Some(libc::EMFILE | libc::ENFILE) => "too many files are open; raise the limit (ulimit -n)",
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(advice)
}

fn in_sectors(sector: usize, block: usize) -> anyhow::Error {
    anyhow::anyhow!(
        "the disk takes direct I/O only in sectors of {sector} bytes, and block is {block}; set block = {sector} or a multiple, or \
         direct = false, for all environments"
    )
}

/// A file full of initial blocks, on the device and out of the page cache.
#[derive(Debug)]
pub struct Filled {
    /// Open for reading and writing.
    pub file: File,
    path: PathBuf,
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of a block.
    pub block: usize,
    /// Whether it was opened with O_DIRECT.
    pub direct: bool,
}

impl Filled {
    /// Writes a file of `size` bytes, less what is left over after its last whole block, and opens it with more `flags`.
    pub fn create(path: &Path, seed: u64, size: u64, block: u64, flags: libc::c_int) -> anyhow::Result<Self> {
        let direct = flags & libc::O_DIRECT != 0;
        anyhow::ensure!(
            !direct || block.is_multiple_of(512),
            "direct = true needs a block that is a multiple of 512 bytes, and block is {block}"
        );
        let blocks = size / block;
        anyhow::ensure!(blocks > 0, "a file of {size} bytes has no room for a block of {block}; set a larger size");
        let block = block as usize;
        write_initial(path, seed, blocks, block).with_context(|| format!("can't fill {}", path.display()))?;
        let file = open(path, flags)?;
        let filled = Self { file, path: path.to_path_buf(), blocks, block, direct };
        // Some file systems take the flag and refuse the first transfer; others only one that isn't of whole sectors.
        filled.read(0, Aligned::new(block).get_mut()).map_err(|e| match filled.least_sector() {
            Some(sector) => filled.failed(in_sectors(sector, block), true, 0),
            None => e,
        })?;
        Ok(filled)
    }

    /// The least size larger than the block in which direct I/O is done here; `None` where it is done in none.
    fn least_sector(&self) -> Option<usize> {
        let whole = |size: &usize| {
            let read = self.file.read_at(Aligned::new(*size).get_mut(), 0);
            read.is_ok_and(|bytes| bytes == *size)
        };
        [1024, 2048, 4096, 8192, 16_384, 65_536]
            .into_iter()
            .filter(|size| !self.block.is_multiple_of(*size))
            .find(whole)
    }

    /// The state that every burst starts from: nothing of the burst before waits to be written, and without O_DIRECT nothing
    /// of the file is in the page cache.
    pub fn calm(&self) -> anyhow::Result<()> {
        self.file.sync_all().context("can't flush the file")?;
        if self.direct { Ok(()) } else { forget(&self.file) }
    }

    /// Reads one whole block, or as many as fit into the buffer.
    #[inline]
    pub fn read(&self, number: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.file
            .read_exact_at(buffer, number * self.block as u64)
            .map_err(|e| self.failed(explain(e, self.direct), true, number))
    }

    /// Writes one whole block.
    #[inline]
    pub fn write(&self, number: u64, buffer: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all_at(buffer, number * self.block as u64)
            .map_err(|e| self.failed(explain(e, self.direct), false, number))
    }

    /// Writes a block, has it settled, and reads it into `found`; refuses another content than was just written.
    ///
    /// # Errors
    /// See above, and when the file can't be read or written.
    pub fn write_and_read(
        &self,
        number: u64,
        content: &[u8],
        found: &mut Aligned,
        settle: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.write(number, content)?;
        settle()?;
        self.read(number, found.get_mut())?;
        anyhow::ensure!(found.get() == content, "block {number} doesn't hold what was just written to it");
        Ok(())
    }

    /// An error with its attempt: the verb, the block and the file.
    #[cold]
    pub fn failed(&self, why: anyhow::Error, read: bool, number: u64) -> anyhow::Error {
        let verb = if read { "read" } else { "write" };
        why.context(format!("can't {verb} block {number} of {}", self.path.display()))
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
            self.read(number, part)?;
            for block in part.chunks_exact(self.block) {
                expected(number, &mut right);
                anyhow::ensure!(block == right, "block {number} doesn't hold what was written to it");
                sum.update(block);
                number += 1;
            }
        }
        Ok(sum.finalize())
    }

    /// Geometry of the file, and how much of it is in the page cache of the kernel that serves it.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from([
            ("blocks".into(), self.blocks.to_string()),
            ("block_bytes".into(), self.block.to_string()),
            ("direct".into(), self.direct.to_string()),
        ]);
        if let Some(bytes) = in_huge_pages() {
            facts.insert("huge_page_bytes".into(), bytes.to_string());
        }
        match resident(&self.file, self.blocks * self.block as u64) {
            Ok((share, by)) => {
                facts.insert("resident".into(), format!("{share:.4}"));
                facts.insert("resident_by".into(), by.into());
            }
            Err(e) => drop(facts.insert("resident_unknown".into(), format!("{e:#}"))),
        }
        facts
    }
}

fn write_initial(path: &Path, seed: u64, blocks: u64, block: usize) -> anyhow::Result<()> {
    let file = File::create(path).map_err(|e| explain(e, false))?;
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
        file.write_all_at(part, first * block as u64).map_err(|e| explain(e, false))?;
    }
    file.sync_all().map_err(|e| explain(e, false))?;
    forget(&file)
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
    fn buffers_beside_each_other_have_nothing_in_common() {
        let mut pairs = Aligned::pairs(3, [512, 40_000]);
        for (value, buffer) in pairs.iter_mut().flatten().enumerate() {
            assert_eq!(buffer.get().as_ptr() as usize % ALIGN, 0);
            buffer.get_mut().fill(value as u8);
        }
        for (value, buffer) in pairs.iter().flatten().enumerate() {
            assert_eq!(buffer.get().len(), [512, 40_000][value % 2]);
            assert!(buffer.get().iter().all(|byte| *byte == value as u8));
        }
    }

    #[test]
    fn a_large_buffer_begins_a_huge_page_and_lives_as_long_as_a_part_of_it() {
        assert_eq!(Aligned::new(WORTH_A_HUGE_PAGE).get().as_ptr() as usize % HUGE, 0);
        let last = Aligned::pairs(2, [HUGE, 0]).pop().expect("there are two");
        assert!(last[0].get().iter().all(|byte| *byte == 0));
        assert_eq!((Aligned::new(0).get().len(), last[1].get().len()), (0, 0));
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
    fn the_body_of_a_number_is_the_same_in_pools_of_any_size() {
        let (mut small, mut large) = (Pool::with(1, 4096, 2), Pool::new(1, 4096));
        assert_eq!(small.block(9, 1), large.block(9, 1));
        assert_eq!((bodies(4096, 1), bodies(4096, 16), bodies(1 << 20, 32)), (64, 16, 2));
    }

    fn initially(filled: &Filled) -> anyhow::Result<u32> {
        filled.compare(|number, block| initial(block, 1, number))
    }

    #[test]
    fn a_changed_byte_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let filled = Filled::create(&directory.path().join("data"), 1, 8 * 4096, 4096, 0).expect("made");
        initially(&filled).expect("as written");
        filled.file.write_all_at(b"x", 5 * 4096 + 100).expect("changed");
        let error = initially(&filled).expect_err("changed");
        assert_eq!(error.to_string(), "block 5 doesn't hold what was written to it");
    }

    #[test]
    fn errors_say_what_to_do() {
        let of = |code, direct| format!("{:#}", explain(io::Error::from_raw_os_error(code), direct));
        assert!(of(libc::ENOSPC, true).starts_with("the file system is full; free room"));
        assert!(of(libc::EDQUOT, false).contains("quota"));
        assert!(of(libc::EINVAL, true).contains("set direct = false"));
        assert!(of(libc::EINVAL, false).starts_with("Invalid argument"));
    }
}
