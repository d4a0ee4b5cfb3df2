//! `disk/randread`: an operation reads one block at a random place of a file, past the page cache.

use super::access::{self, Work};
use crate::settings::{Setting, Settings};
use crate::{Needs, Place, Prepared, Resource, Workload};

const WORK: Work = Work { name: "disk/randread", file: "randread.dat", stream: 0x5244, sequential: false, reads: 100 };

/// The workload.
#[derive(Debug)]
pub struct RandRead;

impl Workload for RandRead {
    fn name(&self) -> &'static str {
        WORK.name
    }

    fn about(&self) -> &'static str {
        "Reads 4 KiB at a random place of a file, past the page cache"
    }

    fn settings(&self) -> &'static [Setting] {
        access::RANDOM
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn direct(&self, settings: &Settings) -> bool {
        settings.switch("direct")
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        WORK.needs(settings, memory)
    }

    fn in_flight(&self, settings: &Settings) -> u32 {
        access::in_flight(settings)
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        WORK.prepare(place)
    }
}
