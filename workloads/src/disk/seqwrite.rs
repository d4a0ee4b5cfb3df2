//! `disk/seqwrite`: an operation writes the block behind the last one over, without a flush; behind the end of the file comes its beginning.

use super::access::{self, Work};
use crate::settings::{Setting, Settings};
use crate::{Needs, Place, Prepared, Resource, Workload};

const WORK: Work = Work { name: "disk/seqwrite", file: "seqwrite.dat", stream: 0x5357, sequential: true, reads: 0 };

/// The workload.
#[derive(Debug)]
pub struct SeqWrite;

impl Workload for SeqWrite {
    fn name(&self) -> &'static str {
        WORK.name
    }

    fn about(&self) -> &'static str {
        "Writes a file over from one end to the other and again, 128 KiB at a time, past the page cache"
    }

    fn settings(&self) -> &'static [Setting] {
        access::SEQUENTIAL
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn direct(&self, settings: &Settings) -> bool {
        settings.switch("direct")
    }

    fn streams(&self) -> bool {
        true
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
