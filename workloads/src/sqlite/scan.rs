//! `sqlite/scan`: an operation reads a range of rows in the order of their keys and adds up a column.
//!
//! The sum is compared with what the seed says it must be: a row that was left out, read twice or read wrong shows at once.

use std::collections::BTreeMap;

use super::entries::{self, Entries, VALUE, amounts, key, needs};
use crate::content;
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Scans that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5150_4c34;
const SELECT: &str =
    "SELECT count(*), sum(amount), sum(length(value)) FROM entry INDEXED BY entry_key WHERE key BETWEEN ?1 AND ?2";

crate::settings! {
    struct Options {
        /// Rows that an operation reads
        rows: u64 = 100 in 1..=1_000_000_000,
        entries: entries::Options,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Scan;

impl Workload for Scan {
    fn name(&self) -> &'static str {
        "sqlite/scan"
    }

    fn about(&self) -> &'static str {
        "Reads a range of 100 rows in the order of an indexed key and adds up a column of theirs"
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
        let entries = Entries::create(place, "scan.db")?;
        let range = Options::read(&place.settings).rows;
        anyhow::ensure!(
            range <= entries.rows,
            "a scan of {range} rows needs a larger database than one of {} rows; set a larger size or fewer rows",
            entries.rows
        );
        Ok(Box::new(Scanning { entries, range, drawn: 0 }))
    }
}

struct Scanning {
    entries: Entries,
    /// Rows of an operation.
    range: u64,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Scanning {
    fn work(&self, watch: &mut Stopwatch, burst: u64, mut summed: impl FnMut(i64)) -> anyhow::Result<u64> {
        let Entries { database, seed, rows, .. } = &self.entries;
        let (seed, range) = (*seed, self.range);
        let mut select = database.db.prepare(SELECT)?;
        let mut choice = content::generator(seed, STREAM, burst);
        self.entries.settle()?;
        let failed = |e| database.explain(e).context(format!("can't scan {}", database.path().display()));
        let bytes = range * VALUE as u64;
        watch.start();
        while watch.running() {
            let first = content::below(&mut choice, rows - range + 1);
            let (low, high) = (key(seed, first), key(seed, first + range - 1));
            let found = select
                .query_row([low, high], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
                .map_err(failed)?;
            let expected = (range as i64, amounts(seed, first, first + range), bytes as i64);
            anyhow::ensure!(
                found == expected,
                "the scan of {range} rows from row {first} gave {found:?}, and {expected:?} is right"
            );
            summed(found.1);
            watch.lap(bytes);
        }
        Ok(content::state(&choice))
    }
}

impl Prepared for Scanning {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.drawn = self.work(watch, watch.number() + 1, |_| ())?;
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let detail = self.entries.compare(&BTreeMap::new())?;
        let mut digest = self.entries.digest("sqlite/scan")?;
        self.work(&mut super::untimed(CHECKED), 0, |sum| digest.add(&sum.to_le_bytes()))?;
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        self.entries.facts()
    }
}
