//! `sqlite/mixed`: lookups and durable updates of single rows, in a share that is set.
//!
//! A write replaces the value of a row, found by its key, in a transaction of its own with synchronous = full. Before each burst the rows of the
//! burst before get back what was laid out, so that every burst starts from the same rows.

use std::collections::BTreeMap;

use anyhow::Context as _;
use rand_pcg::Pcg64Mcg;
use rusqlite::params;

use super::entries::{self, Entries, VALUE, key, mark, needs, value};
use super::untimed;
use crate::content;
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Operations that the check value covers.
const CHECKED: u64 = 64;
const STREAM: u64 = 0x5150_4c35;
const SELECT: &str = "SELECT value FROM entry WHERE key = ?1";
const UPDATE: &str = "UPDATE entry SET value = ?2 WHERE key = ?1";

crate::settings! {
    struct Options {
        /// Share of the operations that read, percent; the others write
        reads: u64 = 90 in 0..=100,
        entries: entries::Options,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Mixed;

impl Workload for Mixed {
    fn name(&self) -> &'static str {
        "sqlite/mixed"
    }

    fn about(&self) -> &'static str {
        "Finds rows of 100 bytes by an indexed key, and replaces every tenth in a durable transaction of its own"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        Options::read(settings).reads < 100
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        needs(settings, memory)
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let entries = Entries::create(place, "mixed.db")?;
        entries.database.grow_log()?;
        let mut mixing = Mixing { entries, reads: Options::read(&place.settings).reads, burst: 0, done: 0, drawn: 0 };
        mixing.restore()?;
        mixing.entries.settle()?;
        Ok(Box::new(mixing))
    }
}

struct Mixing {
    entries: Entries,
    /// Percent of the operations.
    reads: u64,
    /// The burst that was done last, one more than its number; 0 before the first and for the check.
    burst: u64,
    /// Operations of it that were begun.
    done: u64,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

/// The row of the next operation, and whether it is read.
#[inline]
fn next(choice: &mut Pcg64Mcg, rows: u64, reads: u64) -> (u64, bool) {
    (content::below(choice, rows), content::below(choice, 100) < reads)
}

/// Never 0, which is what is laid out.
#[inline]
fn version(burst: u64, operation: u64) -> u64 {
    burst << 40 | (operation + 1)
}

impl Mixing {
    /// The rows that the last burst wrote, and the version that each has now.
    fn written(&self) -> BTreeMap<u64, u64> {
        let mut choice = content::generator(self.entries.seed, STREAM, self.burst);
        let mut written = BTreeMap::new();
        for operation in 0..self.done {
            let (row, read) = next(&mut choice, self.entries.rows, self.reads);
            if !read {
                written.insert(row, version(self.burst, operation));
            }
        }
        written
    }

    /// How many operations of the last burst wrote.
    fn writes(&self) -> u64 {
        let mut choice = content::generator(self.entries.seed, STREAM, self.burst);
        let draws = (0..self.done).map(|_| next(&mut choice, self.entries.rows, self.reads));
        draws.filter(|(_, read)| !read).count() as u64
    }

    /// Gives the rows that were written back what was laid out, with an empty log that keeps its size.
    fn restore(&mut self) -> anyhow::Result<()> {
        let Entries { database, seed, rows, .. } = &self.entries;
        let mut choice = content::generator(*seed, STREAM, self.burst);
        let mut write = || -> rusqlite::Result<()> {
            let transaction = database.db.unchecked_transaction()?;
            let mut update = transaction.prepare(UPDATE)?;
            for _ in 0..self.done {
                let (row, read) = next(&mut choice, *rows, self.reads);
                if !read {
                    update.execute(params![key(*seed, row), value(*seed, row, 0)])?;
                }
            }
            drop(update);
            transaction.commit()
        };
        write().map_err(|e| database.explain(e)).context("can't restore the rows of the burst before")?;
        self.done = 0;
        self.entries.database.checkpoint()?;
        self.entries.database.flush()
    }

    fn work(&mut self, watch: &mut Stopwatch, burst: u64) -> anyhow::Result<u64> {
        self.restore()?;
        self.burst = burst;
        let Self { entries, reads, done, .. } = self;
        let Entries { database, seed, rows, .. } = &*entries;
        let (seed, rows, reads) = (*seed, *rows, *reads);
        let mut select = database.db.prepare(SELECT)?;
        let mut update = database.db.prepare(UPDATE)?;
        let mut choice = content::generator(seed, STREAM, burst);
        entries.settle()?;
        let failed =
            |e| database.explain(e).context(format!("can't read or write a row of {}", database.path().display()));
        watch.start();
        while watch.running() {
            let (row, read) = next(&mut choice, rows, reads);
            let key = key(seed, row);
            let operation = *done;
            // Counted before it is tried: what became of one that fails is unknown, and restoring it does no harm.
            *done += 1;
            if read {
                let mut found = select.query([key]).map_err(failed)?;
                let right = match found.next().map_err(failed)? {
                    Some(row) => row.get_ref(0)?.as_blob()?.starts_with(&mark(key)),
                    None => false,
                };
                drop(found);
                anyhow::ensure!(right, "the lookup of row {row} found nothing or another value");
            } else {
                let changed =
                    update.execute(params![key, value(seed, row, version(burst, operation))]).map_err(failed)?;
                anyhow::ensure!(changed == 1, "the update of row {row} changed {changed} rows");
            }
            watch.lap(VALUE as u64);
        }
        Ok(content::state(&choice))
    }
}

impl Prepared for Mixing {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.drawn = self.work(watch, watch.number() + 1)?;
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let detail = self.entries.compare(&self.written())?;
        let last = self.burst;
        self.restore()?;
        let mut digest = self.entries.digest("sqlite/mixed")?;
        self.work(&mut untimed(CHECKED), 0)?;
        let written = self.written();
        self.entries.compare_some(&written)?;
        for (row, version) in written {
            digest.add(&value(self.entries.seed, row, version));
        }
        self.restore()?;
        self.burst = last;
        Ok(Check { value: digest.value(), detail })
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::from([("writes".into(), self.writes())])
    }

    fn durable_writes(&self, _operations: u64) -> u64 {
        self.writes()
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        self.entries.facts()
    }
}
