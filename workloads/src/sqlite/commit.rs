//! `sqlite/commit`: an operation is one transaction that inserts one row, durable with the default settings.
//!
//! Each burst starts from the database of a process that has been running for a while: the same rows, free pages to
//! grow into, and a write-ahead log that has its full size already, so that no burst pays for making files longer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rusqlite::{Connection, params};

use super::{check_integrity, create, flush, pragma};
use crate::content::{self, Digest};
use crate::settings::{Kind, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::{Check, Place, Prepared, Resource, Workload};

/// Rows that are there before a burst.
const ROWS: u64 = 1000;
/// Bytes of a row's value.
const VALUE: usize = 100;
/// Bytes written and freed again while preparing: more than the 1000 pages at which SQLite checkpoints its log by itself.
const BALLAST: usize = 4200 << 10;
/// Operations that the check value covers.
const CHECKED: u64 = 8;
const STREAM: u64 = 0x5150_4c31;
const INSERT: &str = "INSERT INTO entry (id, value) VALUES (?1, ?2)";

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
        &[
            Setting {
                name: "journal",
                kind: Kind::Choice(&["wal", "delete"]),
                default: "wal",
                about: "SQLite's journal_mode",
            },
            Setting {
                name: "synchronous",
                kind: Kind::Choice(&["full", "normal", "off"]),
                default: "full",
                about: "SQLite's synchronous; only with full is a commit promised to survive a loss of power",
            },
        ]
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        // With normal a WAL commit isn't flushed at all, and one with a rollback journal not against every loss of power.
        settings.get("synchronous") == "full"
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let path = place.directory.join("commit.db");
        let journal = place.settings.get("journal");
        let db = create(&path, journal)?;
        lay_out(&db, place.seed).with_context(|| format!("can't fill the database {}", path.display()))?;
        let wanted = match place.settings.get("synchronous") {
            "off" => "0",
            "normal" => "1",
            _ => "2",
        };
        db.execute_batch(&format!("PRAGMA synchronous = {wanted}")).context("can't set synchronous")?;
        let got = pragma(&db, "synchronous")?;
        anyhow::ensure!(got == wanted, "SQLite refused synchronous = {wanted} and stayed with {got}");
        let mut prepared = Inserting { path, seed: place.seed, wal: journal == "wal", done: 0, db };
        prepared.reset()?;
        Ok(Box::new(prepared))
    }
}

fn lay_out(db: &Connection, seed: u64) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA synchronous = OFF;
         CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
         CREATE TABLE ballast (value BLOB NOT NULL);
         BEGIN;",
    )?;
    let mut insert = db.prepare(INSERT)?;
    for id in 0..ROWS {
        insert.execute(params![id as i64, value(seed, id)])?;
    }
    let mut ballast = vec![0; BALLAST];
    content::fill(&mut content::generator(seed, STREAM + 1, 0), &mut ballast);
    db.execute("INSERT INTO ballast (value) VALUES (?1)", [&ballast])?;
    db.execute_batch("COMMIT; DROP TABLE ballast;")
}

#[inline]
fn value(seed: u64, id: u64) -> [u8; VALUE] {
    let mut bytes = [0; VALUE];
    content::fill(&mut content::generator(seed, STREAM, id), &mut bytes);
    bytes
}

struct Inserting {
    path: PathBuf,
    seed: u64,
    wal: bool,
    /// Rows inserted since the last reset.
    done: u64,
    db: Connection,
}

impl Inserting {
    /// Back to the rows that every burst starts from, with an empty log that keeps its size.
    fn reset(&mut self) -> anyhow::Result<()> {
        self.db
            .execute("DELETE FROM entry WHERE id >= ?1", [ROWS as i64])
            .context("can't remove the rows of the burst before")?;
        self.done = 0;
        if self.wal {
            let busy: i64 = self
                .db
                .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))
                .context("can't checkpoint the write-ahead log")?;
            anyhow::ensure!(busy == 0, "the write-ahead log is in use by someone else");
        }
        flush(&self.path)
    }

    /// Reads all rows back, compares them with what the seed says, and gives the digest of the first `digested`.
    fn read_back(&self, digested: u64) -> anyhow::Result<String> {
        let mut digest = Digest::new("sqlite/commit", self.seed);
        let mut select = self.db.prepare("SELECT id, value FROM entry ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut expected = 0;
        while let Some(row) = rows.next().context("can't read the rows back")? {
            let id: i64 = row.get(0)?;
            anyhow::ensure!(id as u64 == expected, "row {expected} is missing; the next there is {id}");
            let found = row.get_ref(1)?.as_blob()?;
            anyhow::ensure!(found == value(self.seed, expected), "row {id} doesn't hold what was inserted");
            if expected < digested {
                digest.add(found);
            }
            expected += 1;
        }
        let rows = ROWS + self.done;
        anyhow::ensure!(expected == rows, "there should be {rows} rows and there are {expected}");
        Ok(digest.value())
    }
}

impl Prepared for Inserting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.reset()?;
        let mut insert = self.db.prepare(INSERT)?;
        let mut id = ROWS;
        watch.start();
        while watch.running() {
            // A hundred bytes from the generator are some 20 ns, a thousandth of the cheapest commit.
            insert
                .execute(params![id as i64, value(self.seed, id)])
                .with_context(|| format!("can't commit operation {}", id - ROWS))?;
            id += 1;
            watch.lap(VALUE as u64);
        }
        self.done = id - ROWS;
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back(0)?;
        check_integrity(&self.db)?;
        let rows = ROWS + self.done;
        self.reset()?;
        let mut insert = self.db.prepare(INSERT)?;
        for id in ROWS..ROWS + CHECKED {
            insert.execute(params![id as i64, value(self.seed, id)])?;
        }
        drop(insert);
        self.done = CHECKED;
        let value = self.read_back(ROWS + CHECKED)?;
        Ok(Check { value, detail: format!("integrity_check ok, {rows} rows as inserted") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let size = |path: &Path| path.metadata().map(|m| m.len().to_string()).unwrap_or_default();
        let mut facts = BTreeMap::new();
        for name in ["journal_mode", "synchronous", "page_size", "wal_autocheckpoint", "locking_mode"] {
            facts.insert(name.into(), pragma(&self.db, name).unwrap_or_else(|e| format!("{e:#}")));
        }
        facts.insert("database_bytes".into(), size(&self.path));
        facts.insert("rows".into(), (ROWS + self.done).to_string());
        facts
    }
}
