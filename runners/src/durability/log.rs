//! The log of a disk: every write and every flush that reached it, in order.
//!
//! In the format of Linux's dm-log-writes, so that other tools can replay it too (Documentation/admin-guide/device-mapper/log-writes.rst):
//! a superblock, then each entry's header in a sector of its own and its data behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, ensure};

/// Bytes of a sector: no disk tears one.
pub(crate) const SECTOR: u64 = 512;

/// What a disk that lost its power has kept for certain: everything before this entry, where it has the flag.
pub(crate) const FLUSH: u64 = 1;
/// The entry's own data was on the medium before it was answered.
pub(crate) const FUA: u64 = 2;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Where the superblock counts the entries.
const COUNT: u64 = 16;

/// Grows by an entry at a time.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    entries: u64,
    end: u64,
}

impl LogWriter {
    /// Makes an empty one.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        let mut superblock = [0; SECTOR as usize];
        let fields = [MAGIC, VERSION, 0, SECTOR];
        for (place, field) in superblock.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        file.write_all_at(&superblock, 0)?;
        Ok(Self { file, entries: 0, end: SECTOR })
    }

    /// Adds an entry; it counts only when it is all there. `data` is a whole number of sectors.
    pub(crate) fn append(&mut self, sector: u64, flags: u64, data: &[u8]) -> io::Result<()> {
        let mut header = [0; SECTOR as usize];
        let fields = [sector, data.len() as u64 / SECTOR, flags, 0];
        for (place, field) in header.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.file.write_all_at(&header, self.end)?;
        write_sparsely(&self.file, data, self.end + SECTOR)?;
        self.end += SECTOR + data.len() as u64;
        self.file.set_len(self.end)?;
        self.entries += 1;
        self.file.write_all_at(&self.entries.to_le_bytes(), COUNT)
    }
}

/// Writes where there is nothing yet; zeros stay the hole that they are.
fn write_sparsely(file: &File, data: &[u8], at: u64) -> io::Result<()> {
    if is_zero(data) { Ok(()) } else { file.write_all_at(data, at) }
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    data.iter().all(|byte| *byte == 0)
}

/// The number of entries that a log has by now.
pub(crate) fn count(log: &File) -> io::Result<u64> {
    let mut count = [0; 8];
    log.read_exact_at(&mut count, COUNT)?;
    Ok(u64::from_le_bytes(count))
}

/// An entry, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
    pub(crate) flags: u64,
    /// Where its data is in the log's file.
    pub(crate) at: u64,
}

/// A log that is read.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    /// Opens it and reads the headers of all entries that are complete.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let naming = || format!("can't read the disk's log {}", path.display());
        let file = File::open(path).with_context(naming)?;
        let number = |at: u64| -> io::Result<u64> {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at)?;
            Ok(u64::from_le_bytes(bytes))
        };
        ensure!(number(0).with_context(naming)? == MAGIC, "{} is no log of a disk", path.display());
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for _ in 0..count(&file).with_context(naming)? {
            let [sector, sectors, flags] =
                [number(at), number(at + 8), number(at + 16)].map(|read| read.with_context(naming));
            let entry = Entry { sector: sector?, sectors: sectors?, flags: flags?, at: at + SECTOR };
            at = entry.at + entry.sectors * SECTOR;
            entries.push(entry);
        }
        Ok(Self { file, entries })
    }

    /// What an entry wrote.
    pub(crate) fn data(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut data = vec![0; (entry.sectors * SECTOR) as usize];
        self.file.read_exact_at(&mut data, entry.at)?;
        Ok(data)
    }
}
