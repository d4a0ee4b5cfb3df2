//! `control/bandwidth`: an operation moves one block of a memory larger than the caches, block after block and round again:
//! how much memory can be read, written or copied in a second by one thread.
//!
//! Counted are the bytes of the block: a copy reads them and writes them and counts them once, as `memcpy` does and STREAM does not.

use std::hint::black_box;

use super::pages::Pages;
use crate::content::{self, Digest, mix};
use crate::settings::{Amount, Bytes, Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

const STREAM: u64 = 0x4241_4e44;

crate::words! {
    /// The work on a block.
    enum Work { Copy = "copy", Read = "read", Write = "write" }
}

crate::settings! {
    struct Options {
        /// What is done with a block: copied from one half of the memory to the other, added up, or filled
        work: Work = "copy",
        /// Bytes of memory, both halves together
        size: Amount = "64MiB" in 128 << 10..=128 << 30,
        /// Bytes of an operation
        block: Bytes = "1MiB" in 4096..=1 << 30,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Bandwidth;

impl Workload for Bandwidth {
    fn name(&self) -> &'static str {
        "control/bandwidth"
    }

    fn about(&self) -> &'static str {
        "Copies, reads or writes blocks of a memory beyond the caches: bytes per second of one thread"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let Bytes(block) = Options::read(settings).block;
        if !block.is_multiple_of(4096) {
            let why = format!("a block of {block} bytes is no multiple of 4096; set another block");
            return Err(SettingError::Conflict(why));
        }
        Ok(())
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn streams(&self) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        Needs { memory: Options::read(settings).size.of(memory), ..Needs::default() }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { work, size, block: Bytes(block) } = Options::read(&place.settings);
        let size = size.of(place.memory);
        let half = size / 2 / block * block;
        anyhow::ensure!(
            half > 0,
            "half of {size} bytes has no room for a block of {block}; set a smaller block or a larger size"
        );
        let map = || Pages::map(half as usize, false);
        let (mut source, mut target) = (map()?, map()?);
        fill(source.bytes_mut(), block as usize, place.seed);
        target.touch(0);
        let blocks = half / block * if work == Work::Copy { 1 } else { 2 };
        Ok(Box::new(Moving { seed: place.seed, work, block: block as usize, blocks, source, target, done: 0, sum: 0 }))
    }
}

/// The first block comes from the seed; the others are its copies, told apart by their first word.
fn fill(bytes: &mut [u8], block: usize, seed: u64) {
    let (first, others) = bytes.split_at_mut(block);
    content::fill(&mut content::generator(seed, STREAM, 0), first);
    for (at, other) in others.chunks_exact_mut(block).enumerate() {
        other.copy_from_slice(first);
        other[..8].copy_from_slice(&mix(seed ^ (at as u64 + 1)).to_le_bytes());
    }
}

/// The words of a block added up, wrapping around.
#[inline]
fn sum(block: &[u8]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

/// Content of the block that the operation of this number fills: never 0, which is there before.
#[inline]
fn filling(operation: u64) -> u8 {
    (operation % 251) as u8 + 1
}

struct Moving {
    seed: u64,
    work: Work,
    block: usize,
    /// Blocks that the work goes round: of one half for a copy, of both for anything else.
    blocks: u64,
    source: Pages,
    target: Pages,
    /// Operations of the last burst.
    done: u64,
    /// Of all blocks that it read.
    sum: u64,
}

impl Moving {
    /// A block of both halves, one after the other.
    #[inline]
    fn nth(&self, at: u64) -> &[u8] {
        let (half, at) = (self.source.bytes().len(), at as usize * self.block);
        if at < half {
            &self.source.bytes()[at..][..self.block]
        } else {
            &self.target.bytes()[at - half..][..self.block]
        }
    }

    /// As [`Moving::nth`], to be written.
    #[inline]
    fn nth_mut(&mut self, at: u64) -> &mut [u8] {
        let (half, at) = (self.source.bytes().len(), at as usize * self.block);
        if at < half {
            &mut self.source.bytes_mut()[at..][..self.block]
        } else {
            &mut self.target.bytes_mut()[at - half..][..self.block]
        }
    }

    #[inline]
    fn copy(&mut self, at: u64) {
        let at = at as usize * self.block;
        self.target.bytes_mut()[at..][..self.block].copy_from_slice(&self.source.bytes()[at..][..self.block]);
    }

    /// Spoils the first byte of every block that is to be written, so that work that wasn't done would be seen.
    fn spoil(&mut self) {
        for at in 0..self.blocks {
            match self.work {
                Work::Copy => {
                    let at = at as usize * self.block;
                    self.target.bytes_mut()[at] = !self.source.bytes()[at];
                }
                Work::Write => self.nth_mut(at)[0] = 0,
                Work::Read => {}
            }
        }
    }

    /// Compares the memory with what the last burst should have left: `done` operations round the blocks, and none more.
    fn check_burst(&self) -> anyhow::Result<()> {
        let mut total = 0_u64;
        for at in 0..self.blocks {
            let turns = (self.done + self.blocks - 1 - at) / self.blocks;
            let block = self.nth(at);
            let right = match self.work {
                Work::Read => {
                    total = total.wrapping_add(sum(block).wrapping_mul(turns));
                    true
                }
                Work::Write if turns == 0 => block[0] == 0,
                Work::Write => block.iter().all(|byte| *byte == filling((turns - 1) * self.blocks + at)),
                Work::Copy => {
                    let copy = &self.target.bytes()[at as usize * self.block..][..self.block];
                    if turns == 0 { copy[0] != block[0] } else { copy == block }
                }
            };
            anyhow::ensure!(right, "block {at} doesn't hold what {} operations should have left there", self.done);
        }
        anyhow::ensure!(
            self.work != Work::Read || total == self.sum,
            "the blocks add up to {total:x}, and {} operations found {:x}",
            self.done,
            self.sum
        );
        Ok(())
    }
}

impl Prepared for Moving {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.spoil();
        let (bytes, blocks) = (self.block as u64, self.blocks);
        let (mut done, mut at, mut total) = (0, 0, 0_u64);
        watch.start();
        while watch.running() {
            match self.work {
                Work::Copy => self.copy(at),
                Work::Read => total = total.wrapping_add(black_box(sum(self.nth(at)))),
                Work::Write => self.nth_mut(at).fill(filling(done)),
            }
            done += 1;
            at = if at + 1 == blocks { 0 } else { at + 1 };
            watch.lap(bytes);
        }
        (self.done, self.sum) = (done, total);
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        if self.done > 0 {
            self.check_burst()?;
        }
        let mut digest = Digest::new("control/bandwidth", self.seed);
        if self.work != Work::Write {
            digest.add(self.nth(0));
        }
        Ok(Check { value: digest.value(), detail: format!("{} blocks as the work leaves them", self.blocks) })
    }
}
