//! `disk/seqread`: an operation reads the block behind the last one; behind the end of the file comes its beginning.

use super::access::{self, Work};
use crate::settings::{Setting, Settings};
use crate::{Needs, Place, Prepared, Resource, Workload};

const WORK: Work = Work { name: "disk/seqread", file: "seqread.dat", stream: 0x5351, sequential: true, reads: 100 };

/// The workload.
#[derive(Debug)]
pub struct SeqRead;

impl Workload for SeqRead {
    fn name(&self) -> &'static str {
        WORK.name
    }

    fn about(&self) -> &'static str {
        "Reads a file from one end to the other and again, 128 KiB at a time, past the page cache"
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
