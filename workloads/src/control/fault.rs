//! `control/fault`: an operation is the first touch of a run of pages, one byte each: what memory costs that a program has
//! asked for and never used.
//!
//! The run is always the same one. Before it is touched, its pages are given back to the kernel by one system call, which is
//! part of the operation: freeing pages is half of what they cost, and an operation that left it out would have to stop
//! the clock in between. So the operation is short, any number of them need no more memory than one, and every burst starts
//! from the same state.

use std::collections::BTreeMap;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};

use super::pages::{HUGE_PAGES, Pages};
use crate::content::{Digest, mix};
use crate::settings::{Bytes, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

crate::settings! {
    struct Options {
        /// Bytes of the run of pages that is touched in an operation; a multiple of a page
        size: Bytes = "256KiB" in 4096..=1 << 30,
        huge: bool as HUGE_PAGES,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Fault;

impl Workload for Fault {
    fn name(&self) -> &'static str {
        "control/fault"
    }

    fn about(&self) -> &'static str {
        "Gives a run of pages back and touches each again for the first time: what a page fault costs"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        Needs { memory: Options::read(settings).size.0, ..Needs::default() }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { size: Bytes(size), huge } = Options::read(&place.settings);
        let pages = Pages::map(size as usize, huge)?;
        let mut touching = Touching { seed: place.seed, pages, faults: 0, last: None };
        touching.faults = touching.count_faults()?;
        let small = (touching.pages.bytes().len() / touching.pages.page()) as i64;
        anyhow::ensure!(
            !huge || touching.faults < small,
            "huge pages were asked for and the kernel gave small ones ({} faults for {small} pages): see \
             /sys/kernel/mm/transparent_hugepage/enabled, or set huge = false",
            touching.faults
        );
        Ok(Box::new(touching))
    }
}

struct Touching {
    seed: u64,
    pages: Pages,
    /// Of one operation, as the kernel counts them; 0 where it doesn't.
    faults: i64,
    /// The word that the last operation of the last burst wrote.
    last: Option<u8>,
}

impl Touching {
    fn count_faults(&mut self) -> anyhow::Result<i64> {
        let faults =
            || getrusage(UsageWho::RUSAGE_SELF).context("can't count page faults").map(|u| u.minor_page_faults());
        self.pages.give_back().context("can't give pages back")?;
        let before = faults()?;
        self.pages.touch(1);
        Ok(faults()? - before)
    }

    /// Every page holds what was written last, and is in memory.
    fn check_touched(&self, value: u8) -> anyhow::Result<()> {
        let page = self.pages.page();
        let bytes = self.pages.bytes();
        if let Some(at) = bytes.iter().step_by(page).position(|byte| *byte != value) {
            anyhow::bail!("page {at} holds {} where {value} was written", bytes[at * page]);
        }
        let (wanted, resident) = (bytes.len() / page, self.pages.resident().context("can't ask what is in memory")?);
        anyhow::ensure!(resident == wanted, "{resident} pages are in memory of {wanted} that were touched");
        Ok(())
    }
}

/// Never 0, which is what an untouched page holds.
#[inline]
fn value(operation: u64) -> u8 {
    (operation % 255) as u8 + 1
}

impl Prepared for Touching {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.pages.bytes().len() as u64;
        let mut operation = 0;
        watch.start();
        while watch.running() {
            self.pages.give_back().context("can't give pages back")?;
            self.pages.touch(value(operation));
            operation += 1;
            watch.lap(bytes);
        }
        self.last = operation.checked_sub(1).map(value);
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        if let Some(value) = self.last {
            self.check_touched(value)?;
        }
        self.pages.give_back().context("can't give pages back")?;
        let left = self.pages.bytes().iter().position(|byte| *byte != 0);
        anyhow::ensure!(left.is_none(), "byte {left:?} of pages that were given back is not zero");
        let value = value(mix(self.seed));
        self.pages.touch(value);
        self.check_touched(value)?;
        self.last = Some(value);
        let mut digest = Digest::new("control/fault", self.seed);
        digest.add(&[value]);
        let count = self.pages.bytes().len() / self.pages.page();
        Ok(Check {
            value: digest.value(),
            detail: format!("{count} pages empty when given back, in memory when touched"),
        })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("page_bytes".into(), self.pages.page().to_string()),
            ("faults_per_operation".into(), self.faults.to_string()),
        ])
    }
}
