//! A log replayed up to a cut, as a disk that loses its volatile cache would have it.
//!
//! Everything before the last flush is there, and so is what was written past the cache. Of the rest each write may be there,
//! be missing, or have some of its physical sectors: a disk writes back its cache in the order that suits it. A physical sector has
//! 4096 bytes, as today's disks have it. One of 512 could tear ext4's own superblock, which is no fault of a box.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use workloads::content;

use super::log::{Entry, FLUSH, FUA, Log, SECTOR, is_zero};

/// Tells this use of the seed from others.
const STREAM: u64 = 0x6375_7473;

/// Sectors of a physical one, which is never torn.
const PHYSICAL: u64 = 8;

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 16;

/// The states of a disk, from its log.
pub(crate) struct Replay<'a> {
    log: &'a Log,
    /// What is on the medium for certain, as far as it has been replayed.
    medium: File,
    path: PathBuf,
    /// Entries that are on it.
    flushed: usize,
}

impl<'a> Replay<'a> {
    /// Begins with the disk as it was before the first entry: a file that is changed from now on.
    pub(crate) fn new(log: &'a Log, medium: &Path) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(medium);
        let file = file.with_context(|| format!("can't open {}", medium.display()))?;
        Ok(Self { log, medium: file, path: medium.to_path_buf(), flushed: 0 })
    }

    /// Writes into `image` the disk as it is where the power goes after so many entries. Cuts go forward: one that is earlier than
    /// the flush before the last one can't be made any more.
    pub(crate) fn cut(&mut self, after: usize, seed: u64, number: u64, image: &Path) -> anyhow::Result<()> {
        let naming = || format!("can't replay the disk's log from {} to {}", self.path.display(), image.display());
        let entries = &self.log.entries[..after];
        let flush = entries.iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0);
        for entry in entries.iter().take(flush).skip(self.flushed) {
            let data = self.log.data(entry).with_context(naming)?;
            apply(&self.medium, entry.sector, &data).with_context(naming)?;
        }
        self.flushed = self.flushed.max(flush);
        let file = copy(&self.medium, image).with_context(naming)?;
        let mut random = content::generator(seed, STREAM, number);
        for entry in &entries[self.flushed..] {
            let data = self.log.data(entry).with_context(naming)?;
            for (first, sectors) in survivors(entry, &mut |bound| content::below(&mut random, bound)) {
                let part = &data[(first * SECTOR) as usize..((first + sectors) * SECTOR) as usize];
                apply(&file, entry.sector + first, part).with_context(naming)?;
            }
        }
        Ok(())
    }
}

/// The parts of a write in the cache that reach the medium, as first sector and number of sectors.
fn survivors(entry: &Entry, below: &mut impl FnMut(u64) -> u64) -> Vec<(u64, u64)> {
    if entry.sectors == 0 {
        return Vec::new();
    }
    match below(5) {
        _ if entry.flags & FUA != 0 => vec![(0, entry.sectors)],
        0 | 1 => vec![(0, entry.sectors)],
        2 | 3 => Vec::new(),
        _ => {
            let end = entry.sector + entry.sectors;
            let physical = (entry.sector / PHYSICAL..end.div_ceil(PHYSICAL)).filter(|_| below(2) == 0);
            let part = |number: u64| (number * PHYSICAL).max(entry.sector)..((number + 1) * PHYSICAL).min(end);
            physical.map(part).map(|part| (part.start - entry.sector, part.end - part.start)).collect()
        }
    }
}

/// Writes sectors; zeros as a hole, so that an image takes no more memory than what is in it.
pub(crate) fn apply(file: &File, sector: u64, data: &[u8]) -> io::Result<()> {
    let at = sector * SECTOR;
    if data.is_empty() || !is_zero(data) {
        return file.write_all_at(data, at);
    }
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, hole, at as i64, data.len() as i64)?)
}

/// A copy that has holes where the file has them, or zeros: a disk is mostly that.
pub(crate) fn copy(from: &File, to: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(to)?;
    file.set_len(from.metadata()?.len())?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let seek = |whence| lseek(from.as_fd(), at, whence);
        let start = match seek(Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(file),
            start => start?,
        };
        at = start;
        let end = lseek(from.as_fd(), at, Whence::SeekHole)?;
        while at < end {
            let part = &mut buffer[..(end - at).min(PIECE as i64) as usize];
            from.read_exact_at(part, at as u64)?;
            if !is_zero(part) {
                file.write_all_at(part, at as u64)?;
            }
            at += part.len() as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::log::LogWriter;
    use super::*;

    const SIZE: u64 = 16 * PHYSICAL * SECTOR;
    const LETTER: usize = (PHYSICAL * SECTOR) as usize;

    /// Writes a letter for each physical sector.
    fn log(folder: &Path, writes: &[(u64, &str, u64)]) -> Log {
        let path = folder.join("log");
        let mut log = LogWriter::create(&path).expect("made");
        for (sector, text, flags) in writes {
            let data: Vec<u8> = text.bytes().flat_map(|byte| [byte; LETTER]).collect();
            log.append(*sector * PHYSICAL, *flags, &data).expect("written");
        }
        Log::open(&path).expect("opened")
    }

    /// Every state that a hundred cuts after so many entries leave, a letter a sector.
    fn states(writes: &[(u64, &str, u64)], after: usize) -> BTreeSet<String> {
        let folder = tempfile::tempdir().expect("a directory");
        let log = log(folder.path(), writes);
        let (medium, image) = (folder.path().join("medium"), folder.path().join("image"));
        File::create(&medium).and_then(|file| file.set_len(SIZE)).expect("made");
        let mut replay = Replay::new(&log, &medium).expect("opened");
        let state = |number| {
            replay.cut(after, 1, number, &image).expect("cut");
            let bytes = std::fs::read(&image).expect("read");
            let letter = |sector: &[u8]| if sector[0] == 0 { '-' } else { char::from(sector[0]) };
            bytes.chunks(LETTER).take(4).map(letter).collect()
        };
        (0..100).map(state).collect()
    }

    #[test]
    fn what_was_flushed_is_kept() {
        let one = |text: &str| BTreeSet::from([text.to_string()]);
        let writes = [(0, "ab", 0), (2, "c", 0), (0, "", FLUSH)];
        assert_eq!(states(&writes, 3), one("abc-"));
        // Zeros are written too.
        assert_eq!(states(&[(0, "abc", 0), (1, "\0", 0), (0, "", FLUSH)], 3), one("a-c-"));
        // The cut comes before the flush is answered.
        assert!(states(&writes, 2).contains("----"));
        assert_eq!(states(&writes, 0), one("----"));
    }

    #[test]
    fn what_was_written_past_the_cache_is_kept_and_nothing_else() {
        let seen = states(&[(0, "a", 0), (1, "b", FUA)], 2);
        assert_eq!(seen, BTreeSet::from(["-b--".to_string(), "ab--".to_string()]));
    }

    #[test]
    fn without_a_flush_between_them_the_second_write_may_come_first() {
        let seen = states(&[(0, "a", 0), (1, "b", 0)], 2);
        let all = ["----", "-b--", "a---", "ab--"].map(String::from);
        assert_eq!(seen, BTreeSet::from(all), "the reordered one, too");
        let seen = states(&[(0, "a", 0), (0, "", FLUSH), (1, "b", 0)], 3);
        assert!(!seen.contains("-b--"), "a flush between them keeps the order: {seen:?}");
    }

    #[test]
    fn a_write_is_torn_between_physical_sectors_and_the_last_of_two_stays() {
        let seen = states(&[(0, "abc", 0)], 1);
        assert!(seen.contains("a-c-") && seen.contains("abc-") && seen.contains("----"), "{seen:?}");
        let entry = |sector, sectors| Entry { sector, sectors, flags: 0, at: 0 };
        let parts = |entry: Entry| {
            let mut choices = [4].into_iter().chain(std::iter::repeat(0));
            survivors(&entry, &mut |_| choices.next().expect("endless"))
        };
        assert_eq!(parts(entry(6, 12)), [(0, 2), (2, 8), (10, 2)], "where it doesn't begin on one, too");
        let seen = states(&[(0, "a", 0), (0, "b", 0)], 2);
        assert_eq!(seen, BTreeSet::from(["----".to_string(), "a---".to_string(), "b---".to_string()]));
    }

    #[test]
    fn cuts_go_forward_over_one_medium() {
        let folder = tempfile::tempdir().expect("a directory");
        let log = log(folder.path(), &[(0, "a", 0), (0, "", FLUSH), (1, "b", 0), (0, "", FLUSH), (2, "c", 0)]);
        let (medium, image) = (folder.path().join("medium"), folder.path().join("image"));
        File::create(&medium).and_then(|file| file.set_len(SIZE)).expect("made");
        let mut replay = Replay::new(&log, &medium).expect("opened");
        for (after, kept) in [(2, "a"), (4, "ab"), (5, "ab")] {
            replay.cut(after, 1, 0, &image).expect("cut");
            let bytes = std::fs::read(&image).expect("read");
            for (at, letter) in kept.bytes().enumerate() {
                assert_eq!(bytes[at * LETTER], letter, "after {after}");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(4096).expect("long");
        let error = Log::open(file.path()).expect_err("refused").to_string();
        assert!(error.ends_with("is no log of a disk"), "{error}");
    }
}
