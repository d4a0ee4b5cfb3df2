//! The table that `sqlite/lookup`, `sqlite/scan` and `sqlite/mixed` share: rows of 100 bytes with an indexed key, as many as fill the size that is set.
//!
//! Keys grow with the rows, so that table and index are both filled at their ends: a database of many gigabytes is laid out in
//! one transaction, at the speed of the disk, without sorting and without memory of its size.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use rusqlite::params;

use super::database::Database;
use super::options::{CACHE_SIZE, Journal, SAFE_JOURNAL, Synchronous};
use crate::content::{self, Digest, mix};
use crate::settings::{Amount, Bytes, Settings};
use crate::workload::{Needs, Place};

/// Bytes of a row's value.
pub(super) const VALUE: usize = 100;
/// Bytes of the database that a row takes up with its index entry, measured.
const FOOTPRINT: u64 = 144;
/// Rows that are compared in a database too large to read all of it back, and the size that is too large, bytes.
const SAMPLED: (u64, u64) = (4096, 64 << 20);
/// Lookups that a check value covers.
const CHECKED: u64 = 256;
const STREAM: u64 = 0x5150_4c32;

crate::words! {
    /// The state of the caches when a burst begins.
    pub(super) enum Cache { Warm = "warm", Cold = "cold" }
}

crate::settings! {
    pub(super) struct Options {
        /// Size of the database, about: bytes, or a multiple of the environment's memory such as 0.5x or 2x
        size: Amount = "4MiB" in 64 << 10..=1 << 42,
        /// Whether a burst begins with what was read before still in memory, or with SQLite's and the kernel's caches dropped
        cache: Cache = "warm",
        // The default database fits.
        cache_size: Bytes as CACHE_SIZE = "8MiB",
        // With a rollback journal every read looks for a hot journal by its path, and what is measured then is how deep the data
        // directory lies: 2.5 % on a host whose bare path had two folders more than the containers' /data. Hence wal.
        journal: Journal as SAFE_JOURNAL,
    }
}

/// Disk and memory of a database with these settings.
pub(super) fn needs(settings: &Settings, memory: u64) -> Needs {
    let Options { size, cache_size, .. } = Options::read(settings);
    let size = size.of(memory);
    Needs { disk: size + size / 10 + (16 << 20), memory: cache_size.0 }
}

/// The database.
pub(super) struct Entries {
    pub database: Database,
    pub seed: u64,
    /// Rows in it.
    pub rows: u64,
    cache: Cache,
    /// The environment's, bytes.
    memory: u64,
}

impl Entries {
    /// Lays the database out by its settings.
    pub fn create(place: &Place, file: &str) -> anyhow::Result<Self> {
        let Options { size, cache, cache_size, journal } = Options::read(&place.settings);
        let rows = size.of(place.memory) / FOOTPRINT;
        anyhow::ensure!(
            rows >= 256,
            "a database of {} bytes holds next to nothing; set a size of 64KiB or more",
            rows * FOOTPRINT
        );
        let database = Database::open(&place.directory.join(file))?;
        lay_out(&database, place.seed, rows)
            .map_err(|e| database.explain(e))
            .with_context(|| format!("can't fill the database {}", database.path().display()))?;
        database.journal(journal)?;
        database.synchronous(Synchronous::Full)?;
        database.cache(cache_size)?;
        database.checkpoint()?;
        database.flush()?;
        let entries = Self { database, seed: place.seed, rows, cache, memory: place.memory };
        entries.warm()?;
        entries.settle()?;
        Ok(entries)
    }

    /// Reads all rows and keys once: what has room in the caches is there then, wherever it was written.
    fn warm(&self) -> anyhow::Result<()> {
        if self.cache == Cache::Warm {
            for pass in
                ["SELECT sum(amount) FROM entry NOT INDEXED", "SELECT count(key) FROM entry INDEXED BY entry_key"]
            {
                let _: i64 = self
                    .database
                    .db
                    .query_row(pass, [], |row| row.get(0))
                    .map_err(|e| self.database.explain(e))
                    .context("can't read the database once")?;
            }
        }
        Ok(())
    }

    /// The caches as a burst finds them. Statements are to be prepared before, since that reads the schema.
    pub fn settle(&self) -> anyhow::Result<()> {
        match self.cache {
            Cache::Warm => Ok(()),
            Cache::Cold => self.database.chill(),
        }
    }

    /// Compares the rows with what the seed says, each in the version that was written last; of a large database the written ones and a sample.
    /// Gives words for it.
    pub fn compare(&self, written: &BTreeMap<u64, u64>) -> anyhow::Result<String> {
        let db = &self.database.db;
        let rows: i64 =
            db.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).map_err(|e| self.database.explain(e))?;
        anyhow::ensure!(rows as u64 == self.rows, "there should be {} rows and there are {rows}", self.rows);
        let small = self.database.size()? <= SAMPLED.1;
        let compared = if small { self.compare_all(written)? } else { self.compare_some(written)? };
        let sound = if small { "integrity_check ok, " } else { "" };
        Ok(format!("{sound}{rows} rows, {compared} compared"))
    }

    /// Compares every row, in order. Gives their number.
    fn compare_all(&self, written: &BTreeMap<u64, u64>) -> anyhow::Result<u64> {
        self.database.check_integrity()?;
        let mut select = self.database.db.prepare("SELECT id, key, amount, value FROM entry ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut compared = 0;
        while let Some(row) = rows.next().map_err(|e| self.database.explain(e)).context("can't read the rows back")? {
            let version = written.get(&compared).copied().unwrap_or(0);
            let right = row.get::<_, i64>(0)? as u64 == compared
                && row.get::<_, i64>(1)? == key(self.seed, compared)
                && row.get::<_, i64>(2)? == amount(self.seed, compared)
                && row.get_ref(3)?.as_blob()? == value(self.seed, compared, version);
            anyhow::ensure!(right, "row {compared} doesn't hold what was written to it");
            compared += 1;
        }
        Ok(compared)
    }

    /// Compares the written rows and a sample of the others. Gives their number.
    pub fn compare_some(&self, written: &BTreeMap<u64, u64>) -> anyhow::Result<u64> {
        let mut choice = content::generator(self.seed, STREAM + 4, 0);
        let mut looked_at: BTreeSet<_> = (0..SAMPLED.0).map(|_| content::below(&mut choice, self.rows)).collect();
        looked_at.extend(written.keys());
        let mut select = self.database.db.prepare("SELECT id, amount, value FROM entry WHERE key = ?1")?;
        for row in &looked_at {
            let version = written.get(row).copied().unwrap_or(0);
            let right = select.query_row([key(self.seed, *row)], |found| {
                Ok(found.get::<_, i64>(0)? as u64 == *row
                    && found.get::<_, i64>(1)? == amount(self.seed, *row)
                    && found.get_ref(2)?.as_blob()? == value(self.seed, *row, version))
            });
            let right =
                right.map_err(|e| self.database.explain(e)).with_context(|| format!("can't read row {row} back"))?;
            anyhow::ensure!(right, "row {row} doesn't hold what was written to it");
        }
        Ok(looked_at.len() as u64)
    }

    /// A digest over some rows, found by their keys.
    pub fn digest(&self, name: &str) -> anyhow::Result<Digest> {
        let mut digest = Digest::new(name, self.seed);
        digest.add(&self.rows.to_le_bytes());
        let mut select = self.database.db.prepare("SELECT value FROM entry WHERE key = ?1")?;
        let mut choice = content::generator(self.seed, STREAM + 1, 0);
        for _ in 0..CHECKED {
            let row = content::below(&mut choice, self.rows);
            let found: Vec<u8> = select.query_row([key(self.seed, row)], |row| row.get(0))?;
            anyhow::ensure!(found == value(self.seed, row, 0), "row {row} doesn't hold what was inserted");
            digest.add(&found);
        }
        Ok(digest)
    }

    /// PRAGMAs, sizes, and how much of the file the kernel holds in memory now.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = self.database.facts(&["locking_mode", "wal_autocheckpoint"]);
        let ratio = self.database.size().map(|size| size as f64 / self.memory.max(1) as f64);
        let four = |share: anyhow::Result<f64>| share.map_or_else(|e| format!("{e:#}"), |share| format!("{share:.4}"));
        facts.insert("memory_ratio".into(), four(ratio));
        facts.insert("resident".into(), four(self.database.resident()));
        facts.insert("rows".into(), self.rows.to_string());
        facts
    }
}

fn lay_out(database: &Database, seed: u64, rows: u64) -> rusqlite::Result<()> {
    let db = &database.db;
    // Nothing is lost with the journal: what fails half-way is thrown away.
    db.execute_batch(
        "PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -16384;
         BEGIN;
         CREATE TABLE entry (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, amount INTEGER NOT NULL, value BLOB NOT NULL);
         CREATE UNIQUE INDEX entry_key ON entry (key);",
    )?;
    let mut insert = db.prepare("INSERT INTO entry (id, key, amount, value) VALUES (?1, ?2, ?3, ?4)")?;
    for row in 0..rows {
        insert.execute(params![row as i64, key(seed, row), amount(seed, row), value(seed, row, 0)])?;
    }
    db.execute_batch("COMMIT")
}

/// Grows with the row, and can't be guessed from it.
#[inline]
pub(super) fn key(seed: u64, row: u64) -> i64 {
    (row << 20 | mix(row ^ mix(seed ^ STREAM)) >> 44) as i64
}

/// The first eight bytes depend on the key alone, so that an answer can be checked in a nanosecond. Version 0 is what is laid out.
#[inline]
pub(super) fn value(seed: u64, row: u64, version: u64) -> [u8; VALUE] {
    let mut bytes = [0; VALUE];
    let number = if version == 0 { row } else { row ^ mix(version) };
    content::fill(&mut content::generator(seed, STREAM, number), &mut bytes);
    bytes[..8].copy_from_slice(&mark(key(seed, row)));
    bytes
}

/// How the value begins that belongs to a key.
#[inline]
pub(super) fn mark(key: i64) -> [u8; 8] {
    mix(key as u64).to_le_bytes()
}

/// A number in no order, and yet the sum over any range of rows is known without adding: see [`amounts`].
#[inline]
fn amount(seed: u64, row: u64) -> i64 {
    amounts(seed, row, row + 1)
}

/// The sum of the amounts of the rows from `first` up to and without `end`: the steps of a random walk of which each point can be computed.
#[inline]
pub(super) fn amounts(seed: u64, first: u64, end: u64) -> i64 {
    let point = |row: u64| (mix(row ^ mix(seed ^ (STREAM + 3))) >> 24) as i64;
    point(end) - point(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    pub(crate) fn place(directory: &std::path::Path, name: &str, given: &[(&str, &str)]) -> Place {
        let workload = registry::find(name).expect("registered");
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let settings = workload.resolve(&given).expect("valid");
        Place::alone(directory, settings)
    }

    #[test]
    fn a_database_has_about_the_size_that_was_set() {
        for (size, bytes) in [("64KiB", 65536.0), ("4MiB", 4194304.0), ("0.03x", 0.03 * f64::from(1 << 29))] {
            let directory = tempfile::tempdir().expect("a directory");
            let entries =
                Entries::create(&place(directory.path(), "sqlite/lookup", &[("size", size)]), "a.db").expect("made");
            let ratio = entries.database.size().expect("there") as f64 / bytes;
            // Of a small one, pages that are half full count for more.
            let off = if bytes < 1e6 { 0.25 } else { 0.04 };
            assert!((1.0 - off..1.0 + off).contains(&ratio), "{size}: {ratio}");
            let needs = needs(&place(directory.path(), "sqlite/lookup", &[("size", size)]).settings, 1 << 29);
            assert!(needs.disk as f64 > bytes);
        }
    }

    #[test]
    fn keys_grow_and_amounts_add_up() {
        for row in 0..1000 {
            assert!(key(7, row) < key(7, row + 1));
        }
        let sum: i64 = (10..500).map(|row| amount(7, row)).sum();
        assert_eq!(sum, amounts(7, 10, 500));
        assert_ne!(sum, amounts(7, 11, 500));
    }

    #[test]
    fn a_changed_row_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let entries =
            Entries::create(&place(directory.path(), "sqlite/lookup", &[("size", "64KiB")]), "a.db").expect("made");
        entries.compare(&BTreeMap::new()).expect("as laid out");
        entries.database.db.execute("UPDATE entry SET amount = amount + 1 WHERE id = 77", []).expect("changed");
        let error = entries.compare(&BTreeMap::new()).expect_err("changed").to_string();
        assert_eq!(error, "row 77 doesn't hold what was written to it");
    }
}
