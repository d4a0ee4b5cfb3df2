//! `control/memory`: an operation is one load whose address the load before it gave, at a random place of a memory larger than
//! what the caches and the TLB cover: what waiting for memory costs, with the page walk in front of it.
//!
//! The places are cache lines, joined into a single ring by Sattolo's algorithm, so that a walk comes by all of them before it
//! comes by one again, and no prefetcher can know the next. Under a hypervisor each page walk has two dimensions: that
//! is what shows here. Each line also has its number on the ring, by which a walk of any length is checked at once.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::Context as _;

use super::pages::{HUGE, HUGE_PAGES, LINE_BYTES, Pages};
use crate::content::{self, Digest};
use crate::settings::{Amount, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Where in a line the index of the next one is, and the line's number on the ring.
const NEXT: usize = 0;
const NUMBER: usize = 1;
/// Steps that the check value covers.
const CHECKED: usize = 1000;
const STREAM: u64 = 0x4d45_4d31;

crate::settings! {
    struct Options {
        /// Bytes of memory that the walk goes through
        size: Amount = "64MiB" in 64 << 10..=128 << 30,
        huge: bool as HUGE_PAGES,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Memory;

impl Workload for Memory {
    fn name(&self) -> &'static str {
        "control/memory"
    }

    fn about(&self) -> &'static str {
        "Follows a chain of random places in memory: what a load costs beyond the caches and the TLB"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        // The ring is drawn in integers, one for each line, before it is laid out.
        let size = Options::read(settings).size.of(memory);
        Needs { memory: size + size / 16, ..Needs::default() }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        // A multiple of the environment's memory is seldom one of a page.
        let Options { size, huge } = Options::read(&place.settings);
        let unit = if huge { HUGE as u64 } else { 64 << 10 };
        let size = size.of(place.memory) / unit * unit;
        anyhow::ensure!(size > 0, "size is less than {unit} bytes; set a larger one");
        let mut pages = Pages::map(size as usize, huge)?;
        lay_out(&mut pages, place.seed)?;
        Ok(Box::new(Walking { seed: place.seed, pages, at: 0 }))
    }
}

/// Draws the ring and writes it: by the line's place first, which touches the pages in order, then by its number.
fn lay_out(pages: &mut Pages, seed: u64) -> anyhow::Result<()> {
    let lines = pages.lines_mut();
    let count = u32::try_from(lines.len()).context("more lines than 32 bits can number; set a smaller size")?;
    let ring = ring(seed, count);
    for (line, next) in lines.iter_mut().zip(&ring) {
        line[NEXT] = *next;
    }
    let mut at = 0;
    for number in 0..count {
        lines[at][NUMBER] = number;
        at = ring[at] as usize;
    }
    Ok(())
}

/// For each of `count` places the next one, all on one ring (Sattolo 1986).
fn ring(seed: u64, count: u32) -> Vec<u32> {
    let mut random = content::generator(seed, STREAM, 0);
    let mut ring: Vec<u32> = (0..count).collect();
    for i in (1..ring.len()).rev() {
        ring.swap(i, content::below(&mut random, i as u64) as usize);
    }
    ring
}

struct Walking {
    seed: u64,
    pages: Pages,
    at: u32,
}

impl Walking {
    /// Whether so many steps lead from one line to the other.
    fn check_walk(&self, from: u32, to: u32, steps: u64) -> anyhow::Result<()> {
        let lines = self.pages.lines();
        let number = |at: u32| u64::from(lines[at as usize][NUMBER]);
        let count = lines.len() as u64;
        let wanted = (number(from) + steps % count) % count;
        anyhow::ensure!(number(to) == wanted, "{steps} steps led to line {} of the ring, not {wanted}", number(to));
        Ok(())
    }
}

impl Prepared for Walking {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let lines = self.pages.lines();
        // Each burst goes on where the one before ended: from the same line again it would find the caches full of its way.
        let from = self.at;
        let mut at = from;
        watch.start();
        while watch.running() {
            at = lines[at as usize][NEXT];
            watch.lap(0);
        }
        self.at = black_box(at);
        self.check_walk(from, at, watch.operations())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let lines = self.pages.lines();
        let count = lines.len();
        for (at, line) in lines.iter().enumerate() {
            let next = lines.get(line[NEXT] as usize).with_context(|| format!("line {at} leads out of the memory"))?;
            let wanted = (line[NUMBER] as usize + 1) % count;
            anyhow::ensure!(next[NUMBER] as usize == wanted, "line {at} doesn't lead to the next on the ring");
        }
        let mut digest = Digest::new("control/memory", self.seed);
        let mut at = 0;
        for _ in 0..CHECKED {
            at = lines[at as usize][NEXT];
            digest.add(&at.to_le_bytes());
        }
        self.check_walk(0, at, CHECKED as u64)?;
        Ok(Check { value: digest.value(), detail: format!("{count} lines on one ring") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("bytes".into(), (self.pages.lines().len() * LINE_BYTES).to_string()),
            ("page_bytes".into(), self.pages.page().to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ring_is_a_single_one() {
        for count in [1, 2, 3, 1024, 4097] {
            let ring = ring(7, count);
            let (mut at, mut steps) = (0, 0);
            loop {
                at = ring[at as usize];
                steps += 1;
                if at == 0 {
                    break;
                }
            }
            assert_eq!(steps, count);
        }
    }

    #[test]
    fn a_walk_that_skipped_a_step_is_seen() {
        let mut pages = Pages::map(1 << 16, false).expect("mapped");
        lay_out(&mut pages, 3).expect("laid out");
        let first = pages.lines()[0][NEXT];
        let walking = Walking { seed: 3, pages, at: 0 };
        walking.check_walk(0, first, 1).expect("one step");
        walking.check_walk(0, first, 1025).expect("and once around");
        walking.check_walk(0, first, 2).expect_err("not two");
    }
}
