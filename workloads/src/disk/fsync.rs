//! `disk/fsync`: an operation writes a block to a file and waits until it is on the device.
//!
//! Appending, each burst starts from an empty file, so each operation also makes the file longer: that is what a log does.
//! Overwriting, it goes round in a file of a fixed size, written in full before: that is what a log does that has its space already.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::blocks::{self, Aligned, Filled, Pool};
use super::transfer;
use crate::content::Digest;
use crate::settings::{Amount, Bytes, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Operations that the check value covers.
const CHECKED: u64 = 8;

crate::words! {
    /// The wait for the device.
    enum Sync {
        /// fdatasync(2).
        Data = "fdatasync",
        /// fsync(2).
        Everything = "fsync",
        /// The write itself, to a file opened with O_DSYNC.
        Write = "dsync",
    }
}

crate::words! {
    enum Pattern { Append = "append", Overwrite = "overwrite" }
}

crate::settings! {
    struct Options {
        /// Bytes that an operation writes
        block: Bytes = "4KiB" in 512..=16 << 20,
        /// What waits for the device: a system call after the write, or the write itself (O_DSYNC)
        sync: Sync = "fdatasync",
        /// Whether the file becomes longer, or is gone round in
        pattern: Pattern = "append",
        /// Bytes of the file that pattern = overwrite goes round in, written in full before
        size: Amount as transfer::SIZE,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Fsync;

impl Workload for Fsync {
    fn name(&self) -> &'static str {
        "disk/fsync"
    }

    fn about(&self) -> &'static str {
        "Appends 4 KiB to a file and waits until it is on the device"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, _settings: &Settings) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        let Options { block: Bytes(block), pattern, size, .. } = Options::read(settings);
        match pattern {
            Pattern::Overwrite => {
                let size = size.of(memory);
                Needs { disk: size, memory: size / block * 8 + 2 * block + (2 << 20) + blocks::HUGE as u64 }
            }
            Pattern::Append => Needs::default(),
        }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let path = place.directory.join("fsync.dat");
        let Options { block: Bytes(block), sync, pattern, size } = Options::read(&place.settings);
        let seed = place.seed;
        let flags = if sync == Sync::Write { libc::O_DSYNC } else { 0 };
        let pool = Pool::new(seed, block as usize);
        if pattern == Pattern::Overwrite {
            let file = Filled::create(&path, seed, size.of(place.memory), block, flags)?;
            let last = vec![0; file.blocks as usize];
            return Ok(Box::new(Overwriting { file, seed, sync, pool, last, written: 0, next: 0 }));
        }
        File::create(&path).with_context(|| format!("can't create {}", path.display()))?;
        let file = blocks::open(&path, flags)?;
        Ok(Box::new(Appending { file, path, seed, block: block as usize, sync, pool, done: 0 }))
    }
}

impl Sync {
    /// One system call, or none; std's `sync_data` and `sync_all` are the same on Linux, but on other systems they add calls of
    /// their own.
    #[inline]
    fn wait(self, file: &File) -> std::io::Result<()> {
        loop {
            // SAFETY: both take an open descriptor and nothing else.
            let failed = unsafe {
                match self {
                    Self::Data => libc::fdatasync(file.as_raw_fd()),
                    Self::Everything => libc::fsync(file.as_raw_fd()),
                    Self::Write => return Ok(()),
                }
            };
            if failed == 0 {
                return Ok(());
            }
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn facts(self, pattern: Pattern) -> BTreeMap<String, String> {
        BTreeMap::from([("sync".into(), self.to_string()), ("pattern".into(), pattern.to_string())])
    }
}

struct Appending {
    file: File,
    path: PathBuf,
    seed: u64,
    block: usize,
    sync: Sync,
    pool: Pool,
    done: u64,
}

impl Appending {
    /// Back to the empty file that every burst starts from.
    fn reset(&mut self) -> anyhow::Result<()> {
        self.file.set_len(0).context("can't empty the file")?;
        self.file.sync_all().context("can't flush the empty file")?;
        self.done = 0;
        Ok(())
    }

    #[inline]
    fn append(&mut self) -> anyhow::Result<()> {
        let number = self.done;
        self.file
            .write_all_at(self.pool.block(number, number), number * self.block as u64)
            .and_then(|()| self.sync.wait(&self.file))
            .map_err(|e| blocks::explain(e, false))
            .with_context(|| format!("can't append block {number} to {}", self.path.display()))?;
        self.done += 1;
        Ok(())
    }

    /// Reads the file back and compares it with what the seed says; gives the digest.
    fn read_back(&self) -> anyhow::Result<String> {
        let length = self.file.metadata().context("can't look at the file")?.len();
        let wanted = self.done * self.block as u64;
        anyhow::ensure!(length == wanted, "the file should have {wanted} bytes and has {length}");
        let mut digest = Digest::new("disk/fsync", self.seed);
        // A pool of its own, so that what was damaged in memory before writing is found as well.
        let mut pool = Pool::new(self.seed, self.block);
        let mut found = vec![0; self.block];
        for number in 0..self.done {
            self.file
                .read_exact_at(&mut found, number * self.block as u64)
                .with_context(|| format!("can't read block {number} back"))?;
            anyhow::ensure!(found == pool.block(number, number), "block {number} doesn't hold what was appended");
            if number < CHECKED {
                digest.add(&found);
            }
        }
        Ok(digest.value())
    }
}

impl Prepared for Appending {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.reset()?;
        watch.start();
        while watch.running() {
            self.append()?;
            watch.lap(self.block as u64);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back()?;
        let detail = format!("{} blocks of {} bytes as appended", self.done, self.block);
        self.reset()?;
        for _ in 0..CHECKED {
            self.append()?;
        }
        Ok(Check { value: self.read_back()?, detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.sync.facts(Pattern::Append);
        facts.insert("block_bytes".into(), self.block.to_string());
        facts
    }
}

struct Overwriting {
    file: Filled,
    seed: u64,
    sync: Sync,
    pool: Pool,
    /// The version that each block should have.
    last: Vec<u64>,
    /// Writes since the file was filled: the version of the block written last.
    written: u64,
    /// The block whose turn it is.
    next: u64,
}

impl Overwriting {
    #[inline]
    fn overwrite(&mut self) -> anyhow::Result<()> {
        let (number, version) = (self.next, self.written + 1);
        self.file.write(number, self.pool.block(number, version))?;
        self.sync.wait(&self.file.file).map_err(|e| self.file.failed(blocks::explain(e, false), false, number))?;
        (self.written, self.last[number as usize]) = (version, version);
        self.next = if number + 1 == self.file.blocks { 0 } else { number + 1 };
        Ok(())
    }
}

impl Prepared for Overwriting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.file.file.sync_all().context("can't flush the file")?;
        self.next = 0;
        let bytes = self.file.block as u64;
        watch.start();
        while watch.running() {
            self.overwrite()?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut pool = Pool::new(self.seed, self.file.block);
        let mut expected = |number: u64, version: u64, block: &mut [u8]| match version {
            0 => blocks::initial(block, self.seed, number),
            version => block.copy_from_slice(pool.block(number, version)),
        };
        let overwritten = self.last.iter().filter(|version| **version > 0).count();
        self.file.compare(|number, block| expected(number, self.last[number as usize], block))?;
        // The same first writes as where the file is appended to, read back, and what was there put back.
        let mut digest = Digest::new("disk/fsync", self.seed);
        let mut standard = Pool::new(self.seed, self.file.block);
        let mut buffer = Aligned::new(self.file.block);
        for number in 0..CHECKED.min(self.file.blocks) {
            let flush = || self.sync.wait(&self.file.file).context("can't flush the file");
            self.file.write_and_read(number, standard.block(number, number), &mut buffer, flush)?;
            digest.add(buffer.get());
            expected(number, self.last[number as usize], buffer.get_mut());
            self.file.write(number, buffer.get())?;
        }
        let detail = format!("{} blocks compared, {overwritten} of them overwritten", self.file.blocks);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.sync.facts(Pattern::Overwrite);
        facts.insert("blocks".into(), self.file.blocks.to_string());
        facts.insert("block_bytes".into(), self.file.block.to_string());
        facts
    }
}
