//! `disk/rename`: an operation gives a file its other name: what a file system does for names alone.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::content::{self, Digest};
use crate::settings::{Bytes, Setting};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

crate::settings! {
    struct Options {
        /// Bytes in the file
        size: Bytes = "4KiB" in 1..=1 << 30,
    }
}

/// Tells this use of the seed from others.
const STREAM: u64 = 0x524e;

/// The workload.
#[derive(Debug)]
pub struct Rename;

impl Workload for Rename {
    fn name(&self) -> &'static str {
        "disk/rename"
    }

    fn about(&self) -> &'static str {
        "Renames a file within its directory, to and fro"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    // Untimed, and once for each job.
    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let size = Options::read(&place.settings).size.0;
        let names = ["here", "there"].map(|name| place.directory.join(name));
        let mut content = vec![0; size as usize];
        content::fill(&mut content::generator(place.seed, STREAM, 0), &mut content);
        fs::write(&names[0], &content).with_context(|| format!("can't write {}", names[0].display()))?;
        Ok(Box::new(Renaming { seed: place.seed, names, renamed: 0, content }))
    }
}

struct Renaming {
    seed: u64,
    names: [PathBuf; 2],
    /// How often, since it was made.
    renamed: usize,
    content: Vec<u8>,
}

impl Prepared for Renaming {
    // Timed: nothing but the work between `running` and `lap`.
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        watch.start();
        while watch.running() {
            fs::rename(&self.names[self.renamed % 2], &self.names[(self.renamed + 1) % 2])?;
            self.renamed += 1;
            watch.lap(0);
        }
        Ok(())
    }

    // Untimed. The value depends on the seed and the settings, and on nothing else: not on how much was done.
    fn verify(&mut self) -> anyhow::Result<Check> {
        let [now, other] = [self.renamed % 2, (self.renamed + 1) % 2].map(|i| &self.names[i]);
        let found = fs::read(now).with_context(|| format!("can't read {}", now.display()))?;
        ensure!(found == self.content, "{} has another content than it was written with", now.display());
        ensure!(!other.exists(), "{} is still there beside its new name", other.display());
        let mut digest = Digest::new("disk/rename", self.seed);
        digest.add(&found);
        Ok(Check { value: digest.value(), detail: format!("one file, {} bytes as written", found.len()) })
    }
}
