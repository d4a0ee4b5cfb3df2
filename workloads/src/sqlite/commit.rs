//! `sqlite/commit`: an operation is one transaction that inserts rows, durable with the default settings.
//!
//! Each burst starts from the database of a process that has been running for a while: the same rows, free pages to
//! grow into, and a write-ahead log that has its full size already, so that no burst pays for making files longer.

use std::collections::BTreeMap;

use anyhow::Context as _;
use rusqlite::{Connection, params};

use super::database::Database;
use super::options::{CACHE_SIZE, JOURNAL, Journal, SYNCHRONOUS, Synchronous, durable};
use super::untimed;
use crate::content::{self, Digest};
use crate::load::BurstLength;
use crate::settings::{Bytes, Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Rows that are there before a burst; fewer where they are large.
const ROWS: u64 = 1000;
/// Bytes of the rows that are there before a burst, about, where they are large.
const FILLED: u64 = 8 << 20;
/// Pages written and freed again while preparing: more than the 1000 at which SQLite checkpoints its log by itself.
const BALLAST: u64 = 1050;
/// Bytes at the start of a value that are its own; what is behind them comes from a pool.
const FRESH: usize = 100;
/// Bytes that one transaction inserts at most.
const LARGEST: u64 = 64 << 20;
/// Operations that the check value covers, and about how many rows at most.
const CHECKED: (u64, u64) = (8, 1024);
const STREAM: u64 = 0x5150_4c31;
const INSERT: &str = "INSERT INTO entry (id, value) VALUES (?1, ?2)";

crate::settings! {
    struct Options {
        /// Rows that a transaction inserts
        rows: u64 = 1 in 1..=100_000,
        /// Bytes of a row's value
        row: Bytes = "100" in 1..=1 << 20,
        journal: Journal as JOURNAL,
        synchronous: Synchronous as SYNCHRONOUS,
        /// Bytes of a page of the database, a power of two
        page_size: Bytes = "4KiB" in 512..=65536,
        cache_size: Bytes as CACHE_SIZE,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Commit;

impl Workload for Commit {
    fn name(&self) -> &'static str {
        "sqlite/commit"
    }

    fn about(&self) -> &'static str {
        "Inserts a row of 100 bytes in a transaction of its own, durable with synchronous = full"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let Options { rows, row: Bytes(row), .. } = Options::read(settings);
        if rows * row > LARGEST {
            return Err(SettingError::Conflict(format!(
                "{rows} rows of {row} bytes are more than the {LARGEST} bytes that a transaction may have; set fewer rows or a \
                 smaller row"
            )));
        }
        Ok(())
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        let Options { journal, synchronous, .. } = Options::read(settings);
        durable(journal, synchronous)
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        let Options { rows, row: Bytes(row), page_size: Bytes(page), cache_size, .. } = Options::read(settings);
        let transaction = rows * (row + row / 4 + 32);
        let burst = match BurstLength::read(settings).operations {
            // As many as fill its time: so much is written by the fastest of disks.
            0 => (1000 * transaction).min(256 << 20),
            n => n.saturating_add(n / 4).saturating_mul(transaction),
        };
        let laid_out = base(row) * (row + 32) + 2 * BALLAST * page;
        Needs { disk: laid_out.saturating_add(burst).saturating_add(transaction), memory: cache_size.0 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let options = Options::read(&place.settings);
        let (rows, row, page) = (options.rows, options.row.0, options.page_size.0);
        let database = Database::open(&place.directory.join("commit.db"))?;
        database.set("page_size", &page.to_string(), "page_size")?;
        database.journal(options.journal)?;
        database.cache(options.cache_size)?;
        let mut values = Values::new(place.seed, row as usize);
        let base = base(row);
        lay_out(&database.db, &mut values, base, page)
            .map_err(|e| database.explain(e))
            .with_context(|| format!("can't fill the database {}", database.path().display()))?;
        database.synchronous(options.synchronous)?;
        let mut prepared = Inserting { rows, base, values, done: 0, database };
        prepared.reset()?;
        Ok(Box::new(prepared))
    }
}

/// Rows that are there before a burst.
fn base(row: u64) -> u64 {
    ROWS.min((FILLED / row).max(16))
}

fn lay_out(db: &Connection, values: &mut Values, rows: u64, page: u64) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA synchronous = OFF;
         CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
         CREATE TABLE ballast (value BLOB NOT NULL);
         BEGIN;",
    )?;
    let mut insert = db.prepare(INSERT)?;
    for id in 0..rows {
        insert.execute(params![id as i64, values.of(id)])?;
    }
    let mut ballast = vec![0; (BALLAST * page) as usize];
    content::fill(&mut content::generator(values.seed, STREAM + 1, 0), &mut ballast);
    db.execute("INSERT INTO ballast (value) VALUES (?1)", [&ballast])?;
    db.execute_batch("COMMIT; DROP TABLE ballast;")
}

/// The values of rows: each begins with bytes of its own, and goes on with bytes made in advance.
struct Values {
    seed: u64,
    row: usize,
    fresh: usize,
    /// Some bodies of `row` bytes each; neighbours take different ones.
    bodies: Vec<u8>,
}

impl Values {
    fn new(seed: u64, row: usize) -> Self {
        let bodies = if row > FRESH { ((1 << 20) / row).clamp(2, 64) } else { 1 };
        let mut values = Self { seed, row, fresh: row.min(FRESH), bodies: vec![0; bodies * row] };
        content::fill(&mut content::generator(seed, STREAM + 2, 0), &mut values.bodies);
        values
    }

    #[inline]
    fn of(&mut self, id: u64) -> &[u8] {
        let bodies = (self.bodies.len() / self.row) as u64;
        let start = (id % bodies) as usize * self.row;
        let value = &mut self.bodies[start..start + self.row];
        content::fill(&mut content::generator(self.seed, STREAM, id), &mut value[..self.fresh]);
        value
    }
}

struct Inserting {
    /// Rows of a transaction.
    rows: u64,
    /// Rows that are there before a burst.
    base: u64,
    values: Values,
    /// Rows inserted since the last reset.
    done: u64,
    database: Database,
}

impl Inserting {
    /// Back to the rows that every burst starts from, with an empty log that keeps its size.
    fn reset(&mut self) -> anyhow::Result<()> {
        self.database
            .db
            .execute("DELETE FROM entry WHERE id >= ?1", [self.base as i64])
            .map_err(|e| self.database.explain(e))
            .context("can't remove the rows of the burst before")?;
        self.done = 0;
        self.database.checkpoint()?;
        self.database.flush()
    }

    fn work(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let Self { rows, base, values, database, .. } = self;
        let (rows, base, db) = (*rows, *base, &database.db);
        let mut insert = db.prepare(INSERT)?;
        let (mut begin, mut commit) = (db.prepare("BEGIN")?, db.prepare("COMMIT")?);
        let failed = |e, id: u64| {
            let operation = (id - base) / rows;
            database.explain(e).context(format!("can't commit operation {operation} to {}", database.path().display()))
        };
        let bytes = rows * values.row as u64;
        let mut id = base;
        watch.start();
        while watch.running() {
            if rows == 1 {
                // A hundred bytes from the generator are some 20 ns, a thousandth of the cheapest commit.
                insert.execute(params![id as i64, values.of(id)]).map_err(|e| failed(e, id))?;
                id += 1;
            } else {
                begin.execute([]).map_err(|e| failed(e, id))?;
                for id in id..id + rows {
                    insert.execute(params![id as i64, values.of(id)]).map_err(|e| failed(e, id))?;
                }
                commit.execute([]).map_err(|e| failed(e, id))?;
                id += rows;
            }
            watch.lap(bytes);
        }
        self.done = id - base;
        Ok(())
    }

    /// Reads all rows back, compares them with what the seed says, and gives the digest of the first `digested`.
    fn read_back(&mut self, digested: u64) -> anyhow::Result<String> {
        let mut digest = Digest::new("sqlite/commit", self.values.seed);
        let mut select = self.database.db.prepare("SELECT id, value FROM entry ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut expected = 0;
        while let Some(row) = rows.next().context("can't read the rows back")? {
            let id: i64 = row.get(0)?;
            anyhow::ensure!(id as u64 == expected, "row {expected} is missing; the next there is {id}");
            let found = row.get_ref(1)?.as_blob()?;
            anyhow::ensure!(found == self.values.of(expected), "row {id} doesn't hold what was inserted");
            if expected < digested {
                digest.add(found);
            }
            expected += 1;
        }
        let rows = self.base + self.done;
        anyhow::ensure!(expected == rows, "there should be {rows} rows and there are {expected}");
        Ok(digest.value())
    }
}

impl Prepared for Inserting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        // What a burst that failed has left is open still.
        if !self.database.db.is_autocommit() {
            self.database.db.execute_batch("ROLLBACK").map_err(|e| self.database.explain(e))?;
        }
        self.reset()?;
        self.work(watch)
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back(0)?;
        self.database.check_integrity()?;
        let rows = self.base + self.done;
        self.reset()?;
        self.work(&mut untimed(CHECKED.0.min((CHECKED.1 / self.rows).max(1))))?;
        let value = self.read_back(u64::MAX)?;
        Ok(Check { value, detail: format!("integrity_check ok, {rows} rows as inserted") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.database.facts(&["wal_autocheckpoint", "locking_mode"]);
        facts.insert("rows".into(), (self.base + self.done).to_string());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_from_their_neighbours_and_come_again() {
        for row in [1, 100, 5000, 1 << 20] {
            let mut values = Values::new(1, row);
            let (first, second) = (values.of(0).to_vec(), values.of(1).to_vec());
            assert_eq!((first.len(), values.of(0)), (row, first.as_slice()));
            assert_ne!(first, second);
            assert!(row <= FRESH || first[FRESH..] != second[FRESH..], "bodies of {row} bytes");
        }
    }

    #[test]
    fn large_rows_are_fewer_beforehand() {
        assert_eq!([base(100), base(1 << 16), base(1 << 20)], [1000, 128, 16]);
    }
}
