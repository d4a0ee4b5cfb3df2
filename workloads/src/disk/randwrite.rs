//! `disk/randwrite`: an operation writes one block at a random place of a file, past the page cache, without a flush.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::blocks::{self, Filled, Pool};
use super::randread::{SETTINGS, facts};
use crate::content::{self, Digest};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

/// Writes that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5752;

/// The workload.
#[derive(Debug)]
pub struct RandWrite;

impl Workload for RandWrite {
    fn name(&self) -> &'static str {
        "disk/randwrite"
    }

    fn about(&self) -> &'static str {
        "Writes 4 KiB at a random place of a file, past the page cache, without waiting for a flush"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn direct(&self, settings: &Settings) -> bool {
        settings.switch("direct")
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let file = Filled::create(&place.directory.join("randwrite.dat"), place.seed, &place.settings)?;
        let pool = Pool::new(place.seed, file.block);
        let last = vec![0; file.blocks as usize];
        Ok(Box::new(Writing { file, seed: place.seed, pool, bursts: 0, written: 0, last }))
    }
}

struct Writing {
    file: Filled,
    seed: u64,
    pool: Pool,
    bursts: u64,
    /// Writes since the file was filled: the version of the block written last.
    written: u64,
    /// The version that each block should have.
    last: Vec<u64>,
}

impl Writing {
    #[inline]
    fn write(&mut self, number: u64) -> anyhow::Result<()> {
        let block = self.pool.block(number, self.written + 1);
        self.file.write(number, block).with_context(|| format!("can't write block {number}"))?;
        self.written += 1;
        Ok(())
    }

    /// Notes what the last `count` writes, drawn from the sequence of `burst`, have left behind: outside of all timing.
    fn note(&mut self, burst: u64, count: u64) {
        let mut choice = content::generator(self.seed, STREAM, burst);
        for version in self.written - count + 1..=self.written {
            self.last[content::below(&mut choice, self.file.blocks) as usize] = version;
        }
    }
}

impl Prepared for Writing {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.file.calm()?;
        let burst = self.bursts;
        self.bursts += 1;
        let mut choice = content::generator(self.seed, STREAM, burst);
        let (bytes, before) = (self.file.block as u64, self.written);
        watch.start();
        while watch.running() {
            self.write(content::below(&mut choice, self.file.blocks))?;
            watch.lap(bytes);
        }
        self.note(burst, self.written - before);
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        // Bodies of its own, so that what was damaged in memory before writing is found as well.
        let mut pool = Pool::new(self.seed, self.file.block);
        let (seed, last) = (self.seed, &self.last);
        let overwritten = last.iter().filter(|version| **version > 0).count();
        self.file.compare(|number, block| match last[number as usize] {
            0 => blocks::initial(block, seed, number),
            version => block.copy_from_slice(pool.block(number, version)),
        })?;
        // The same first writes to the same places, whatever came before: their content is the check value.
        let mut digest = Digest::new("disk/randwrite", self.seed);
        let mut choice = content::generator(self.seed, STREAM, 0);
        let mut buffer = blocks::Aligned::new(self.file.block);
        for version in 1..=CHECKED {
            let number = content::below(&mut choice, self.file.blocks);
            self.file.write(number, pool.block(number, version))?;
            self.file.read(number, buffer.get_mut())?;
            anyhow::ensure!(
                buffer.get() == pool.block(number, version),
                "block {number} doesn't hold what was just written to it"
            );
            self.last[number as usize] = version;
            digest.add(buffer.get());
        }
        let detail = format!("{} blocks compared, {overwritten} of them overwritten", self.file.blocks);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        facts(&self.file)
    }
}
