//! A file written over from one end to the other through the page cache, and flushed once at its end: what copies and archives do.
//! The flush is within the operation, so that what the page cache took is paid for where it was taken.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::blocks::{self, Aligned, Filled, Pool};
use super::transfer::{Extent, Pattern};
use crate::content::Digest;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared};

/// Blocks that the check value covers.
const CHECKED: u64 = 16;

/// A file, written in full. Every write has a version of its own, so that blocks beside each other differ everywhere.
pub(super) struct Whole {
    name: &'static str,
    file: Filled,
    seed: u64,
    pool: Pool,
    passes: u64,
}

impl Whole {
    pub(super) fn prepare(pattern: Pattern, extent: &Extent, place: &Place) -> anyhow::Result<Self> {
        let path = place.directory.join(pattern.name.replace("disk/", "")).with_extension("dat");
        let file = Filled::create(&path, place.seed, extent.size.of(place.memory), extent.block.0, 0)?;
        let pool = Pool::new(place.seed, file.block);
        Ok(Self { name: pattern.name, file, seed: place.seed, pool, passes: 0 })
    }

    #[inline]
    fn pass(&mut self) -> anyhow::Result<()> {
        let before = self.passes * self.file.blocks;
        self.passes += 1;
        for number in 0..self.file.blocks {
            self.file.write(number, self.pool.block(number, before + number))?;
        }
        self.file.file.sync_all().map_err(|e| blocks::explain(e, false)).context("can't flush the file")
    }
}

impl Prepared for Whole {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.file.calm()?;
        let bytes = self.file.blocks * self.file.block as u64;
        watch.start();
        while watch.running() {
            self.pass()?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let (seed, passes) = (self.seed, self.passes);
        // Bodies of its own, so that what was damaged in memory before writing is found as well.
        let mut pool = Pool::new(seed, self.file.block);
        let all = self.file.blocks;
        let mut expected = |number: u64, block: &mut [u8]| match passes {
            0 => blocks::initial(block, seed, number),
            _ => block.copy_from_slice(pool.block(number, (passes - 1) * all + number)),
        };
        self.file.compare(&mut expected)?;
        // The same blocks whatever came before: their content is the check value.
        let mut digest = Digest::new(self.name, seed);
        let mut found = Aligned::new(self.file.block);
        for number in 0..all.min(CHECKED) {
            self.file.write_and_read(number, self.pool.block(number, number), &mut found, || Ok(()))?;
            digest.add(found.get());
            expected(number, found.get_mut());
            self.file.write(number, found.get())?;
        }
        let detail = format!("{all} blocks compared after {passes} passes");
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.file.facts();
        facts.insert("sync".into(), "end".into());
        facts
    }
}
