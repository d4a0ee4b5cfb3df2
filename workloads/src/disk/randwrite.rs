//! `disk/randwrite`: an operation writes one block at a random place of a file, past the page cache, without a flush.

use super::access::{self, Work};
use crate::settings::{Setting, Settings};
use crate::{Needs, Place, Prepared, Resource, Workload};

const WORK: Work = Work { name: "disk/randwrite", file: "randwrite.dat", stream: 0x5752, sequential: false, reads: 0 };

/// The workload.
#[derive(Debug)]
pub struct RandWrite;

impl Workload for RandWrite {
    fn name(&self) -> &'static str {
        WORK.name
    }

    fn about(&self) -> &'static str {
        "Writes 4 KiB at a random place of a file, past the page cache, without waiting for a flush"
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
