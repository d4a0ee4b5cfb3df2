//! SQLite: the work of a small database, in the version that is compiled into the program.

pub mod commit;
pub mod lookup;

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::Connection;

/// SQLite's version and the start of its source id.
pub fn version() -> String {
    let id = Connection::open_in_memory()
        .and_then(|db| db.query_row("SELECT sqlite_source_id()", [], |row| row.get::<_, String>(0)));
    let id = id.unwrap_or_else(|e| format!("unknown: {e}"));
    format!("{} {}", rusqlite::version(), id.get(..36).unwrap_or(&id))
}

/// What SQLite was compiled with, as it says itself; empty where it doesn't say.
pub fn compile_options() -> Vec<String> {
    let list = |db: Connection| {
        let mut pragma = db.prepare("PRAGMA compile_options")?;
        pragma.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    Connection::open_in_memory().and_then(list).unwrap_or_default()
}

/// A new database with the given journal mode; a mode that the environment can't do is an error.
fn create(path: &Path, journal: &str) -> anyhow::Result<Connection> {
    let db = Connection::open(path).with_context(|| format!("can't create the database {}", path.display()))?;
    let got: String = db
        .query_row(&format!("PRAGMA journal_mode = {journal}"), [], |row| row.get(0))
        .with_context(|| format!("can't set journal_mode to {journal} on {}", path.display()))?;
    anyhow::ensure!(
        got == journal,
        "SQLite refused journal_mode {journal} on {} and stayed with {got}; set journal = {got} for all environments",
        path.display()
    );
    Ok(db)
}

/// Forces a database's files to the device, so that nothing written before is paid for by what is timed later.
fn flush(path: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match File::open(&name) {
            Ok(file) => file.sync_all().with_context(|| format!("can't flush {}", name.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("can't open {} to flush it", name.display())),
        }
    }
    Ok(())
}

/// A PRAGMA's value as SQLite now has it, as text.
fn pragma(db: &Connection, name: &str) -> anyhow::Result<String> {
    use rusqlite::types::Value;
    let value: Value = db
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .with_context(|| format!("can't read PRAGMA {name}"))?;
    Ok(match value {
        Value::Integer(n) => n.to_string(),
        Value::Text(t) => t,
        other => format!("{other:?}"),
    })
}

/// Fails unless SQLite finds the whole database sound.
fn check_integrity(db: &Connection) -> anyhow::Result<()> {
    let verdict = pragma(db, "integrity_check")?;
    anyhow::ensure!(verdict == "ok", "integrity_check says: {verdict}");
    Ok(())
}
