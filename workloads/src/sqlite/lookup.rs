//! `sqlite/lookup`: an operation is one row found through an index, in a database that fits into SQLite's own cache.
//!
//! Each lookup is a read transaction of its own, with the file locks that SQLite takes for it: that is what a program
//! pays for a single SELECT, and where system calls are dear it is most of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use rusqlite::{Connection, params};

use super::{check_integrity, create, flush, pragma};
use crate::content::{self, Digest, mix};
use crate::settings::{Kind, Setting};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

/// Bytes of a row's value.
const VALUE: usize = 100;
/// Lookups that the check value covers.
const CHECKED: u64 = 256;
const STREAM: u64 = 0x5150_4c32;
const SELECT: &str = "SELECT value FROM entry WHERE key = ?1";

/// The workload.
#[derive(Debug)]
pub struct Lookup;

impl Workload for Lookup {
    fn name(&self) -> &'static str {
        "sqlite/lookup"
    }

    fn about(&self) -> &'static str {
        "Finds a row of 100 bytes by an indexed key, in a database held in SQLite's cache"
    }

    fn settings(&self) -> &'static [Setting] {
        &[Setting {
            name: "rows",
            kind: Kind::Number { min: 1, max: 1_000_000 },
            default: "20000",
            about: "Rows in the database; 20000 are about 3.5 MB",
        }]
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let path = place.directory.join("lookup.db");
        let rows = place.settings.number("rows");
        // With a rollback journal every read looks for a hot journal by its path, and what is measured then is how deep the data
        // directory lies: 2.5 % on a host whose bare path had two folders more than the containers' /data.
        let db = create(&path, "wal")?;
        lay_out(&db, place.seed, rows).with_context(|| format!("can't fill the database {}", path.display()))?;
        flush(&path)?;
        Ok(Box::new(Finding { path, seed: place.seed, rows, bursts: 0, db }))
    }
}

fn lay_out(db: &Connection, seed: u64, rows: u64) -> rusqlite::Result<()> {
    // Room for 256 bytes a row: more than a row and its index entry need.
    let cache = 4096 + rows / 4;
    db.execute_batch(&format!(
        "PRAGMA synchronous = OFF;
         PRAGMA cache_size = -{cache};
         BEGIN;
         CREATE TABLE entry (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, value BLOB NOT NULL);"
    ))?;
    let mut insert = db.prepare("INSERT INTO entry (id, key, value) VALUES (?1, ?2, ?3)")?;
    for row in 0..rows {
        insert.execute(params![row as i64, key(seed, row), value(seed, row)])?;
    }
    // Sorting all keys once is several times faster than placing each.
    db.execute_batch("CREATE UNIQUE INDEX entry_key ON entry (key); COMMIT;")
}

/// Distinct for distinct rows, because [`mix`] is a bijection; in no order.
#[inline]
fn key(seed: u64, row: u64) -> i64 {
    mix(row ^ mix(seed ^ STREAM)) as i64
}

/// The first eight bytes depend on the key alone, so that an answer can be checked in a nanosecond.
fn value(seed: u64, row: u64) -> [u8; VALUE] {
    let mut bytes = [0; VALUE];
    content::fill(&mut content::generator(seed, STREAM, row), &mut bytes);
    bytes[..8].copy_from_slice(&mark(key(seed, row)));
    bytes
}

#[inline]
fn mark(key: i64) -> [u8; 8] {
    mix(key as u64).to_le_bytes()
}

struct Finding {
    path: PathBuf,
    seed: u64,
    rows: u64,
    bursts: u64,
    db: Connection,
}

impl Prepared for Finding {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let mut select = self.db.prepare(SELECT)?;
        let mut choice = content::generator(self.seed, STREAM + 1, self.bursts);
        self.bursts += 1;
        watch.start();
        while watch.running() {
            let row = content::below(&mut choice, self.rows);
            let key = key(self.seed, row);
            let mut found = select.query([key]).context("can't look a row up")?;
            let answer = found.next().context("can't look a row up")?;
            let right = match answer {
                Some(row) => row.get_ref(0)?.as_blob()?.starts_with(&mark(key)),
                None => false,
            };
            drop(found);
            anyhow::ensure!(right, "the lookup of row {row} found nothing or another value");
            watch.lap(VALUE as u64);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        check_integrity(&self.db)?;
        let rows: i64 = self.db.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?;
        anyhow::ensure!(rows as u64 == self.rows, "there should be {} rows and there are {rows}", self.rows);
        let mut digest = Digest::new("sqlite/lookup", self.seed);
        let mut select = self.db.prepare(SELECT)?;
        let mut choice = content::generator(self.seed, STREAM + 1, 0);
        for _ in 0..CHECKED {
            let row = content::below(&mut choice, self.rows);
            let found: Vec<u8> = select.query_row([key(self.seed, row)], |row| row.get(0))?;
            anyhow::ensure!(found == value(self.seed, row), "row {row} doesn't hold what was inserted");
            digest.add(&found);
        }
        Ok(Check { value: digest.value(), detail: format!("integrity_check ok, {rows} rows, {CHECKED} compared") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        for name in ["journal_mode", "cache_size", "page_size", "locking_mode"] {
            facts.insert(name.into(), pragma(&self.db, name).unwrap_or_else(|e| format!("{e:#}")));
        }
        let size = self.path.metadata().map(|m| m.len().to_string());
        facts.insert("database_bytes".into(), size.unwrap_or_default());
        facts
    }
}
