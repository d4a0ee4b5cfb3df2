//! `sqlite/insertions`: 7,500 inserts into an indexed table that begins empty, each in a transaction of its own.
//!
//! It is comparable in kind with a published test (pts/sqlite), whose results people know their machines by: rows of a number, a moment and two
//! short texts, autocommit, a rollback journal that is deleted, synchronous = full. Ours has its own rows, its own version of
//! SQLite and no shell that parses statements. An operation is one insert; the time of all is that of the burst.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use rusqlite::params;

use super::database::{Database, beside};
use super::options::{JOURNAL, Journal, SYNCHRONOUS, Synchronous, durable};
use super::untimed;
use crate::content::{Digest, mix};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Operations that the check value covers.
const CHECKED: u64 = 8;
/// Bytes of a row: a number of two, and texts of 19, 4 and 16.
const ROW: u64 = 41;
const STREAM: u64 = 0x5150_4c37;
const INSERT: &str = "INSERT INTO record (number, moment, short, long) VALUES (?1, ?2, ?3, ?4)";

crate::settings! {
    struct Options {
        /// Inserts of a burst; 0: as many as fill its time
        operations: u64 = 7500 in 0..=100_000_000,
        journal: Journal as JOURNAL = "delete",
        synchronous: Synchronous as SYNCHRONOUS,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Insertions;

impl Workload for Insertions {
    fn name(&self) -> &'static str {
        "sqlite/insertions"
    }

    fn about(&self) -> &'static str {
        "Inserts 7,500 short rows into an empty indexed table, each in a durable transaction of its own, as a published test does"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        let Options { journal, synchronous, .. } = Options::read(settings);
        durable(journal, synchronous)
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        // A quarter more is done to warm up.
        Needs { disk: Options::read(settings).operations / 4 * 5 * 2 * ROW + (8 << 20), memory: 0 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let mut prepared = Inserting {
            path: place.directory.join("insertions.db"),
            seed: place.seed,
            options: Options::read(&place.settings),
            done: 0,
            database: None,
        };
        prepared.begin_anew()?;
        Ok(Box::new(prepared))
    }
}

/// Columns of a row beside its number.
struct Row {
    moment: [u8; 19],
    short: [u8; 4],
    long: [u8; 16],
}

impl Row {
    #[inline]
    fn of(seed: u64, number: u64) -> Self {
        let word = mix(number ^ mix(seed ^ STREAM));
        let second = number % 86_400;
        let mut moment = *b"2009-01-01 00:00:00";
        for (at, part) in [(11, second / 3600), (14, second / 60 % 60), (17, second % 60)] {
            moment[at..at + 2].copy_from_slice(&[b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
        }
        let mut short = [0; 4];
        let mut digits = word % 10_000;
        for digit in short.iter_mut().rev() {
            *digit = b'0' + (digits % 10) as u8;
            digits /= 10;
        }
        let letter = |at: u32| b'a' + (word >> (4 * at) & 15) as u8;
        let mut long = [0; 16];
        for (letter_of, at) in long.iter_mut().zip(0..) {
            *letter_of = letter(at);
        }
        Self { moment, short, long }
    }

    #[inline]
    fn texts(&self) -> [&str; 3] {
        let text = |bytes| str::from_utf8(bytes).expect("digits and letters");
        [text(&self.moment), text(&self.short), text(&self.long)]
    }
}

struct Inserting {
    path: PathBuf,
    seed: u64,
    options: Options,
    /// Rows inserted since the table was empty.
    done: u64,
    /// Open but for the moment in which it's made anew.
    database: Option<Database>,
}

impl Inserting {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("only begin_anew closes it, and fails the burst where it can't open it")
    }

    /// An empty table in a new file.
    fn begin_anew(&mut self) -> anyhow::Result<()> {
        self.database = None;
        self.done = 0;
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let file = beside(&self.path, suffix);
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("can't remove {}", file.display()));
                }
                _ => {}
            }
        }
        let database = self.database.insert(Database::open(&self.path)?);
        database.journal(self.options.journal)?;
        database
            .db
            .execute_batch(
                "CREATE TABLE record (
                     number INTEGER NOT NULL, moment TEXT NOT NULL, short TEXT NOT NULL, long TEXT NOT NULL);
                 CREATE UNIQUE INDEX record_number ON record (number);",
            )
            .map_err(|e| database.explain(e))
            .with_context(|| format!("can't make the table in {}", self.path.display()))?;
        database.synchronous(self.options.synchronous)?;
        database.grow_log()?;
        database.checkpoint()?;
        database.flush()
    }

    fn work(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.begin_anew()?;
        let database = self.database();
        let mut insert = database.db.prepare(INSERT)?;
        let mut number = 0;
        watch.start();
        while watch.running() {
            let row = Row::of(self.seed, number);
            let [moment, short, long] = row.texts();
            insert.execute(params![number as i64, moment, short, long]).map_err(|e| {
                database.explain(e).context(format!("can't insert row {number} into {}", self.path.display()))
            })?;
            number += 1;
            watch.lap(ROW);
        }
        drop(insert);
        self.done = number;
        Ok(())
    }

    /// Compares all rows with what the seed says and gives their digest.
    fn read_back(&self) -> anyhow::Result<String> {
        let database = self.database.as_ref().context("the database couldn't be opened again")?;
        let mut digest = Digest::new("sqlite/insertions", self.seed);
        let mut select = database.db.prepare("SELECT number, moment, short, long FROM record ORDER BY number")?;
        let mut rows = select.query([])?;
        let mut expected = 0;
        while let Some(row) = rows.next().map_err(|e| database.explain(e)).context("can't read the rows back")? {
            let number: i64 = row.get(0)?;
            anyhow::ensure!(number as u64 == expected, "row {expected} is missing; the next there is {number}");
            let right = Row::of(self.seed, expected);
            let found = [row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?];
            anyhow::ensure!(found == right.texts(), "row {number} doesn't hold what was inserted: {found:?}");
            found.iter().for_each(|text| digest.add(text.as_bytes()));
            expected += 1;
        }
        anyhow::ensure!(expected == self.done, "there should be {} rows and there are {expected}", self.done);
        Ok(digest.value())
    }
}

impl Prepared for Inserting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.work(watch)
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back()?;
        self.database().check_integrity()?;
        let rows = self.done;
        self.work(&mut untimed(CHECKED))?;
        Ok(Check { value: self.read_back()?, detail: format!("integrity_check ok, {rows} rows as inserted") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let Some(database) = &self.database else { return BTreeMap::new() };
        let mut facts = database.facts(&["wal_autocheckpoint", "locking_mode"]);
        facts.insert("rows".into(), self.done.to_string());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_made_of_short_texts_of_its_own() {
        let row = Row::of(1, 3661);
        let [moment, short, long] = row.texts();
        assert_eq!(moment, "2009-01-01 01:01:01");
        assert!(short.bytes().all(|b| b.is_ascii_digit()) && long.bytes().all(|b| b.is_ascii_lowercase()));
        assert_ne!(Row::of(1, 3662).texts()[2], long);
        assert_ne!(Row::of(2, 3661).texts()[2], long);
    }
}
