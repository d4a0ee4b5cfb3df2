//! `disk/fsync`: an operation appends a block to a file and waits until it is on the device.
//!
//! Each burst starts from an empty file, so each operation also makes the file longer: that is what a log does.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;

use super::blocks::{self, Pool};
use crate::content::Digest;
use crate::settings::{Kind, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

/// Operations that the check value covers.
const CHECKED: u64 = 8;

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
        &[
            Setting {
                name: "block",
                kind: Kind::Bytes { min: 512, max: 1 << 20 },
                default: "4KiB",
                about: "Bytes that an operation appends",
            },
            Setting {
                name: "sync",
                kind: Kind::Choice(&["fdatasync", "fsync"]),
                default: "fdatasync",
                about: "The system call that waits for the device",
            },
        ]
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, _settings: &Settings) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let path = place.directory.join("fsync.dat");
        File::create(&path).with_context(|| format!("can't create {}", path.display()))?;
        let file = blocks::open(&path, false)?;
        let block = place.settings.number("block") as usize;
        let pool = Pool::new(place.seed, block);
        let metadata = place.settings.get("sync") == "fsync";
        Ok(Box::new(Appending { file, seed: place.seed, block, metadata, pool, done: 0 }))
    }
}

struct Appending {
    file: File,
    seed: u64,
    block: usize,
    /// fsync rather than fdatasync.
    metadata: bool,
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
    fn append(&mut self) -> std::io::Result<()> {
        let number = self.done;
        self.file.write_all_at(self.pool.block(number, number), number * self.block as u64)?;
        sync(&self.file, self.metadata)?;
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

/// One system call; std's `sync_data` and `sync_all` are the same on Linux, but on other systems they add calls of their own.
#[inline]
fn sync(file: &File, metadata: bool) -> std::io::Result<()> {
    loop {
        // SAFETY: both take an open descriptor and nothing else.
        let failed =
            unsafe { if metadata { libc::fsync(file.as_raw_fd()) } else { libc::fdatasync(file.as_raw_fd()) } };
        if failed == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl Prepared for Appending {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.reset()?;
        watch.start();
        while watch.running() {
            self.append().with_context(|| format!("can't append block {}", self.done))?;
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
        let call = if self.metadata { "fsync" } else { "fdatasync" };
        BTreeMap::from([("sync".into(), call.into()), ("block_bytes".into(), self.block.to_string())])
    }
}
