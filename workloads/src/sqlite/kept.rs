//! A database whose rows are looked for after the power was cut.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::{Connection, params};

use super::options::{Journal, Synchronous};
use crate::durability::{Found, SHORT, item, number_of};
use crate::settings::Value as _;

/// Pages of the log after which SQLite checkpoints it: a few dozen commits, so that a short run has some.
const CHECKPOINT: &str = "100";

/// The settings of such a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// A write-ahead log, else a rollback journal.
    pub log: bool,
    /// SQLite's synchronous.
    pub synchronous: &'static str,
}

/// One that is open.
pub(crate) struct Database(super::database::Database);

impl Kept {
    /// Makes it, empty and flushed whatever its settings.
    pub(crate) fn make(self, path: &Path) -> anyhow::Result<Database> {
        let database = super::database::Database::open(path)?;
        database.journal(if self.log { Journal::Wal } else { Journal::Delete })?;
        database.synchronous(Synchronous::Extra)?;
        database.set("wal_autocheckpoint", CHECKPOINT, "wal_autocheckpoint")?;
        let table = "CREATE TABLE item (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL)";
        database.db.execute_batch(table).with_context(|| format!("can't make a table in {}", path.display()))?;
        database.synchronous(Synchronous::parse(self.synchronous))?;
        Ok(Database(database))
    }
}

impl Database {
    /// One transaction.
    pub(crate) fn insert(&mut self, number: u64) -> anyhow::Result<()> {
        let insert = self.0.db.prepare("INSERT INTO item VALUES (?1, ?2)");
        let inserted = insert.and_then(|mut insert| insert.execute(params![number as i64, item(number, SHORT)]));
        inserted.with_context(|| format!("can't commit row {number} to {}", self.0.path().display()))?;
        Ok(())
    }
}

/// Opens it as its program would after a boot, which recovers it, and reads all rows.
pub(crate) fn read_back(path: &Path) -> Found {
    let mut found = Found::default();
    if !path.exists() {
        return found;
    }
    if let Err(e) = read_rows(path, &mut found) {
        found.corrupt.get_or_insert_with(|| e.to_string());
    }
    found
}

fn read_rows(path: &Path, found: &mut Found) -> rusqlite::Result<()> {
    let db = Connection::open(path)?;
    let told: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if told != "ok" {
        found.corrupt = Some(told);
    }
    let mut rows = db.prepare("SELECT number, bytes FROM item")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, Vec<u8>>(1)?)))?;
    for row in rows {
        let (number, bytes) = row?;
        found.saw(number, number_of(&bytes, SHORT) == Some(number));
    }
    Ok(())
}
