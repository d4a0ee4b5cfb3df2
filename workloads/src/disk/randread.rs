//! `disk/randread`: an operation reads one block at a random place of a file, past the page cache.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::blocks::{self, Aligned, Filled};
use crate::content::{self, Digest};
use crate::settings::{Kind, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

/// Reads that the check value covers, beside the whole file.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5244;

/// What can be set for files of random access.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "size",
        kind: Kind::Bytes { min: 4096, max: 64 << 30 },
        default: "16MiB",
        about: "Bytes of the file",
    },
    Setting {
        name: "block",
        kind: Kind::Bytes { min: 512, max: 1 << 20 },
        default: "4KiB",
        about: "Bytes that an operation moves",
    },
    Setting {
        name: "direct",
        kind: Kind::Switch,
        default: "true",
        about: "Past the page cache, with O_DIRECT; where that is refused it is an error",
    },
];

/// The workload.
#[derive(Debug)]
pub struct RandRead;

impl Workload for RandRead {
    fn name(&self) -> &'static str {
        "disk/randread"
    }

    fn about(&self) -> &'static str {
        "Reads 4 KiB at a random place of a file, past the page cache"
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

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let file = Filled::create(&place.directory.join("randread.dat"), place.seed, &place.settings)?;
        let buffer = Aligned::new(file.block);
        Ok(Box::new(Reading { file, seed: place.seed, buffer, bursts: 0 }))
    }
}

struct Reading {
    file: Filled,
    seed: u64,
    buffer: Aligned,
    bursts: u64,
}

impl Reading {
    #[inline]
    fn read(&mut self, number: u64) -> anyhow::Result<()> {
        self.file.read(number, self.buffer.get_mut()).with_context(|| format!("can't read block {number}"))?;
        anyhow::ensure!(
            blocks::stamped(self.buffer.get(), self.seed, number, 0),
            "block {number} came back as something else"
        );
        Ok(())
    }
}

impl Prepared for Reading {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.file.calm()?;
        // Other places in each burst, so that no cache below learns them; the same in the same burst of any environment.
        let mut choice = content::generator(self.seed, STREAM, self.bursts);
        self.bursts += 1;
        let bytes = self.file.block as u64;
        watch.start();
        while watch.running() {
            self.read(content::below(&mut choice, self.file.blocks))?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut digest = Digest::new("disk/randread", self.seed);
        digest.add(&self.file.compare_initial()?.to_le_bytes());
        let mut choice = content::generator(self.seed, STREAM, 0);
        for _ in 0..CHECKED {
            self.read(content::below(&mut choice, self.file.blocks))?;
            digest.add(self.buffer.get());
        }
        let detail = format!("{} blocks of {} bytes as written", self.file.blocks, self.file.block);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        facts(&self.file)
    }
}

/// What came to be of a file of random access.
pub(super) fn facts(file: &Filled) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("blocks".into(), file.blocks.to_string()),
        ("block_bytes".into(), file.block.to_string()),
        ("direct".into(), file.direct.to_string()),
    ]);
    match file.resident() {
        Ok(share) => facts.insert("resident".into(), format!("{share:.4}")),
        Err(e) => facts.insert("resident_unknown".into(), format!("{e:#}")),
    };
    facts
}
