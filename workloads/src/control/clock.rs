//! `control/clock`: an operation is one reading of the clock that everything else is timed with.

use std::hint::black_box;

use crate::content::Digest;
use crate::stopwatch::{self, Stopwatch};
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// The workload.
#[derive(Debug)]
pub struct Clock;

impl Workload for Clock {
    fn name(&self) -> &'static str {
        "control/clock"
    }

    fn about(&self) -> &'static str {
        "Reads the monotonic clock: what timing itself costs inside"
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Reading { seed: place.seed }))
    }
}

struct Reading {
    seed: u64,
}

impl Prepared for Reading {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        watch.start();
        while watch.running() {
            black_box(stopwatch::now());
            watch.lap(0);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut last = 0;
        for _ in 0..CHECKED {
            let now = stopwatch::now();
            anyhow::ensure!(now >= last, "the monotonic clock went back by {} ns", last - now);
            last = now;
        }
        let value = Digest::new("control/clock", self.seed).value();
        Ok(Check { value, detail: format!("{CHECKED} readings in order") })
    }
}

/// Readings that `verify` looks at: about 50 ms where one costs 50 us.
const CHECKED: u32 = 1000;
