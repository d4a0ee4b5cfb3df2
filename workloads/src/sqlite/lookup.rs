//! `sqlite/lookup`: an operation is one row found through an index; by default in a database that fits into SQLite's own cache.
//!
//! Each lookup is a read transaction of its own, with the file locks that SQLite takes for it: that is what a program
//! pays for a single SELECT, and where system calls are dear it is most of it.

use std::collections::BTreeMap;

use super::entries::{Entries, Options, VALUE, key, mark, needs};
use crate::content;
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

const STREAM: u64 = 0x5150_4c33;
const SELECT: &str = "SELECT value FROM entry WHERE key = ?1";

/// The workload.
#[derive(Debug)]
pub struct Lookup;

impl Workload for Lookup {
    fn name(&self) -> &'static str {
        "sqlite/lookup"
    }

    fn about(&self) -> &'static str {
        "Finds a row of 100 bytes by an indexed key, by default in a database held in SQLite's cache"
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
        needs(settings, memory)
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Finding { entries: Entries::create(place, "lookup.db")?, drawn: 0 }))
    }
}

struct Finding {
    entries: Entries,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Prepared for Finding {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let Entries { database, seed, rows, .. } = &self.entries;
        let mut select = database.db.prepare(SELECT)?;
        let mut choice = content::generator(*seed, STREAM, watch.number());
        self.entries.settle()?;
        let failed = |e| database.explain(e).context(format!("can't look a row up in {}", database.path().display()));
        watch.start();
        while watch.running() {
            let row = content::below(&mut choice, *rows);
            let key = key(*seed, row);
            select.raw_bind_parameter(1, key).map_err(failed)?;
            let mut found = select.raw_query();
            let answer = found.next().map_err(failed)?;
            let right = match answer {
                Some(row) => row.get_ref(0)?.as_blob()?.starts_with(&mark(key)),
                None => false,
            };
            drop(found);
            anyhow::ensure!(right, "the lookup of row {row} found nothing or another value");
            watch.lap(VALUE as u64);
        }
        self.drawn = content::state(&choice);
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let detail = self.entries.compare(&BTreeMap::new())?;
        Ok(Check { value: self.entries.digest("sqlite/lookup")?.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        self.entries.facts()
    }
}
