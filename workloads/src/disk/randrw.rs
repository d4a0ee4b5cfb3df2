//! `disk/randrw`: an operation reads or writes one block at a random place of a file, past the page cache, without a flush.

use super::access::{self, Work};
use crate::settings::{Kind, Setting, Settings};
use crate::{Needs, Place, Prepared, Resource, Workload};

const SETTINGS: &[Setting] = &[
    access::SIZE,
    access::block("4KiB"),
    Setting {
        name: "reads",
        kind: Kind::Number { min: 1, max: 99 },
        default: "70",
        about: "Operations in a hundred that read; the others write",
    },
    access::DIRECT,
    access::ENGINE,
    access::DEPTH,
];

const WORK: Work = Work { name: "disk/randrw", file: "randrw.dat", stream: 0x5256, sequential: false, reads: 70 };

/// The workload.
#[derive(Debug)]
pub struct RandRw;

impl Workload for RandRw {
    fn name(&self) -> &'static str {
        WORK.name
    }

    fn about(&self) -> &'static str {
        "Reads (70 %) or writes 4 KiB at a random place of a file, past the page cache, without waiting for a flush"
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

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        WORK.needs(settings, memory)
    }

    fn in_flight(&self, settings: &Settings) -> u32 {
        access::in_flight(settings)
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Work { reads: place.settings.number("reads"), ..WORK }.prepare(place)
    }
}
