//! `sqlite/replay`: an operation is one transaction of a file of statements, on a copy of a database of the user's own.
//!
//! Timed: each statement of the transaction compiled, stepped through to its end and finalized, as SQLite's shell does it. The files are the
//! user's: neither a statement nor a value nor SQLite's words, which may name tables, get into an error or a fact.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle, ffi};

use super::database::{Database, beside};
use super::options::{SYNCHRONOUS, Synchronous};
use super::rehearsal::{self, Guard};
use super::script::{self, Statement};
use crate::content::{Digest, mix};
use crate::deadline::Deadline;
use crate::facts;
use crate::parcel::{self, Brought};
use crate::sample::PILOTS;
use crate::settings::{Kind, Setting, SettingError, Settings};
use crate::stopwatch::{self, Stopwatch};
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// Names of the files inside.
const DATABASE: &str = "database";
const STATEMENTS: &str = "statements";

/// Bytes of all copies that a burst works on at most.
const MOST: u64 = 512 << 20;
/// Copies of a burst at most: each takes a few open files.
const COPIES: u64 = 100;
/// Copies of a pass that only sizes a burst, which makes them anew when they are used up.
const FEW: u64 = 16;

/// Bytes of a value or a row at most. No file that is brought has a longer one, and what a statement makes of them would end the agent where
/// memory is limited.
const LONGEST: i32 = 64 << 20;

/// Transactions of our own example.
const EXAMPLE: u64 = 64;

const FILE: Setting = Setting::new("database", Kind::File).with_about(
    "Full path of an SQLite database of the host, up to 64 MiB with the statements; each burst works on fresh copies",
);
const SCRIPT: Setting = Setting::new("statements", Kind::File).with_about(
    "Full path of a file of SQL statements that end in semicolons. What stands between BEGIN and COMMIT is one operation, any other \
     statement is one by itself. Neither file: a small example of our own",
);

crate::settings! {
    struct Options {
        database: Option<PathBuf> as FILE,
        statements: Option<PathBuf> as SCRIPT,
        synchronous: Synchronous as SYNCHRONOUS,
        /// A transaction that takes longer is interrupted, and is a failure
        timeout: Duration = "30s" in 100_000_000..=50_000_000_000,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Replay;

impl Workload for Replay {
    fn name(&self) -> &'static str {
        "sqlite/replay"
    }

    fn about(&self) -> &'static str {
        "Replays a file of your own statements on a copy of a database of yours, a transaction an operation"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let Options { database, statements, .. } = Options::read(settings);
        let unfinished = |path: &PathBuf| {
            ["-wal", "-journal"].into_iter().find(|end| beside(path, end).metadata().is_ok_and(|about| about.len() > 0))
        };
        if let Some((path, end)) = database.as_ref().and_then(|path| Some((path, unfinished(path)?))) {
            let path = path.display();
            return Err(SettingError::Conflict(format!(
                "{path} isn't whole without {path}{end}, which is beside it; make a copy that is: sqlite3 {path} \"VACUUM INTO 'COPY'\""
            )));
        }
        match (database, statements) {
            (Some(_), None) => {
                Err(SettingError::Conflict("database needs statements to be done on it; set both".into()))
            }
            (None, Some(_)) => Err(SettingError::Conflict("statements need a database; set both".into())),
            _ => Ok(()),
        }
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        matches!(Options::read(settings).synchronous, Synchronous::Full | Synchronous::Extra)
    }

    fn whole(&self, settings: &Settings) -> Option<u64> {
        let read = |path: PathBuf| fs::read_to_string(path).ok().and_then(|text| script::transactions(&text));
        Options::read(settings).statements.map_or(Some(EXAMPLE), read)
    }

    fn brings(&self, settings: &Settings) -> Vec<Brought> {
        let Options { database, statements, .. } = Options::read(settings);
        let brought = |path: Option<PathBuf>, setting: &'static str, name: &str| {
            path.map(|path| Brought { setting, path, name: name.into() })
        };
        let all = [brought(database, FILE.name, DATABASE), brought(statements, SCRIPT.name, STATEMENTS)];
        all.into_iter().flatten().collect()
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let options = Options::read(&place.settings);
        match &place.parcel {
            Some(parcel) => parcel::unpack(parcel, &place.directory)?,
            None => example(&place.directory, place.seed)?,
        }
        let called = options.statements.clone().unwrap_or_else(|| STATEMENTS.into());
        let read = |name: &str| {
            let path = place.directory.join(name);
            fs::read(&path).with_context(|| format!("can't read {}", path.display()))
        };
        let (original, bytes) = (read(DATABASE)?, read(STATEMENTS)?);
        let hash = |bytes: &[u8]| {
            let mut digest = Digest::default();
            digest.add(bytes);
            digest.value()
        };
        let hashes = [hash(&original), hash(&bytes)];
        let text = String::from_utf8(bytes).with_context(|| format!("{} is no UTF-8 text", called.display()))?;
        let statements = script::split(&text).with_context(|| format!("can't use {}", called.display()))?;
        let handles: Arc<Mutex<Vec<InterruptHandle>>> = Arc::default();
        let to_end = Arc::clone(&handles);
        let end = move |which: i32| {
            let handles = to_end.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(handle) = handles.get(which as usize - 1) {
                handle.interrupt();
            }
        };
        let deadline = Deadline::start(options.timeout, end).context("can't start a thread for the deadline")?;
        let mut replaying = Replaying {
            copies: Vec::new(),
            handles,
            deadline,
            transactions: Vec::new(),
            directory: place.directory.clone(),
            seed: place.seed,
            original,
            text,
            called,
            hashes,
            readonly: true,
            whole_ns: 0,
            writes: 0,
            options,
        };
        replaying.rehearse(&statements)?;
        Ok(Box::new(replaying))
    }
}

/// A database of a shop and what its customers do, for those who want to see it work.
fn example(directory: &Path, seed: u64) -> anyhow::Result<()> {
    let database = Database::open(&directory.join(DATABASE))?;
    database.db.execute_batch(
        "BEGIN;
         CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, stock INTEGER NOT NULL);
         CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER NOT NULL, count INTEGER NOT NULL);
         WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 500)
             INSERT INTO item SELECT id, 'item ' || id, 1000 FROM n;
         COMMIT;",
    )?;
    let one = |number: u64| {
        let (item, count) = (mix(seed ^ number) % 500 + 1, number % 7 + 1);
        match number % 4 {
            0 => format!(
                "BEGIN;\nUPDATE item SET stock = stock - {count} WHERE id = {item};\n\
                 INSERT INTO sale (item, count) VALUES ({item}, {count});\nCOMMIT;\n"
            ),
            1 => format!("SELECT name, stock FROM item WHERE id = {item};\n"),
            2 => format!("SELECT item, sum(count) FROM sale WHERE item <= {item} GROUP BY item;\n"),
            _ => format!("UPDATE item SET stock = stock + 1 WHERE id = {item};\n"),
        }
    };
    let text: String = (0..EXAMPLE).map(one).collect();
    fs::write(directory.join(STATEMENTS), text).context("can't write the statements of the example")
}

/// One operation.
struct Transaction {
    statements: Vec<Statement>,
    /// Whether it writes.
    writes: bool,
    /// Rows that it gives, and rows that it changes.
    rows: (u64, u64),
}

/// Why a transaction wasn't done: nothing that is the user's.
struct Refused {
    line: usize,
    code: i32,
}

struct Replaying {
    copies: Vec<Database>,
    /// How to interrupt what runs on each copy.
    handles: Arc<Mutex<Vec<InterruptHandle>>>,
    deadline: Deadline,
    transactions: Vec<Transaction>,
    directory: PathBuf,
    seed: u64,
    /// The database as it came.
    original: Vec<u8>,
    text: String,
    /// The file of statements as the user knows it.
    called: PathBuf,
    /// Of the database and of the statements.
    hashes: [String; 2],
    /// Whether no statement writes: one copy then serves any number of passes.
    readonly: bool,
    /// How long all transactions took once, nanoseconds.
    whole_ns: u64,
    /// Transactions of the last burst that wrote.
    writes: u64,
    options: Options,
}

fn code(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(ffi::SQLITE_ERROR, |e| e.extended_code)
}

/// SQLite's words for this kind of error, in which nothing of a database is.
fn kind(error: &rusqlite::Error) -> &'static str {
    ffi::code_to_str(code(error))
}

/// Does statements one after the other: rows given, rows changed.
#[inline]
fn run(database: &Database, text: &str, statements: &[Statement]) -> Result<(u64, u64), Refused> {
    let before = database.db.total_changes();
    let mut rows = 0;
    for Statement { at, line } in statements {
        let step = || -> rusqlite::Result<u64> {
            let mut statement = database.db.prepare(&text[at.clone()])?;
            let mut answer = statement.raw_query();
            let mut rows = 0;
            while answer.next()?.is_some() {
                rows += 1;
            }
            Ok(rows)
        };
        rows += step().map_err(|e| Refused { line: *line, code: code(&e) })?;
    }
    Ok((rows, database.db.total_changes() - before))
}

impl Replaying {
    /// So many copies of the database as it came, open and flushed.
    fn make(&mut self, count: u64) -> anyhow::Result<()> {
        self.make_with(count, Database::open)
    }

    fn make_with(&mut self, count: u64, open: fn(&Path) -> anyhow::Result<Database>) -> anyhow::Result<()> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.copies.clear();
        for number in 0..count {
            let path = self.directory.join(format!("copy{number}.db"));
            for suffix in ["-journal", "-wal", "-shm"] {
                // Of the burst before; mostly there is none.
                let file = beside(&path, suffix);
                match fs::remove_file(&file) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(e).with_context(|| format!("can't remove {}", file.display()));
                    }
                    _ => {}
                }
            }
            fs::write(&path, &self.original).with_context(|| format!("can't write {}", path.display()))?;
            let database = open(&path)?;
            database.db.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST).context("can't limit SQLite's values")?;
            database.synchronous(self.options.synchronous)?;
            database.flush()?;
            self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(database.db.get_interrupt_handle());
            self.copies.push(database);
        }
        Ok(())
    }

    /// Does everything on a copy, learns which statements go together and how many rows there are, and refuses what fails, what a file of
    /// statements may not do, and what isn't the same work a second time.
    fn rehearse(&mut self, statements: &[Statement]) -> anyhow::Result<()> {
        self.open_original()?;
        self.make(1)?;
        let guard = Guard::over(&mut self.copies[0].db).context("can't watch a copy of the database")?;
        let mut open: Option<Transaction> = None;
        for statement in statements {
            let database = &self.copies[0];
            let one = std::slice::from_ref(statement);
            guard.executing(false);
            self.readonly &= database.db.prepare(&self.text[statement.at.clone()]).is_ok_and(|s| s.readonly());
            self.deadline.begin(1);
            guard.executing(true);
            let done = run(database, &self.text, one);
            self.deadline.end();
            if let Some(why) = guard.why() {
                bail!("{}, line {}: {why}", self.called.display(), statement.line);
            }
            let (rows, changes) = done.map_err(|refused| self.explain(&refused))?;
            let transaction = open.get_or_insert(Transaction { statements: Vec::new(), writes: false, rows: (0, 0) });
            transaction.statements.push(statement.clone());
            transaction.writes |= changes > 0;
            transaction.rows = (transaction.rows.0 + rows, transaction.rows.1 + changes);
            if database.db.is_autocommit() {
                self.transactions.extend(open.take());
            }
        }
        if let Some(first) = open.iter().flat_map(|transaction| &transaction.statements).next() {
            bail!(
                "{}, line {}: the transaction that begins there has no end; add COMMIT",
                self.called.display(),
                first.line
            );
        }
        self.rehearse_later()
    }

    /// Does everything again with another clock, and refuses what then ends in another state.
    fn rehearse_later(&mut self) -> anyhow::Result<()> {
        let first = self.end()?;
        self.make_with(1, rehearsal::open_later)?;
        let began = stopwatch::now();
        let again = self.transactions.iter().try_for_each(|transaction| self.once(0, transaction));
        self.whole_ns = stopwatch::now() - began;
        again.context("when all was rehearsed again, with a clock that is 400 days ahead")?;
        ensure!(
            self.end()? == first,
            "{}: the statements give another result each time (random(), date('now'), CURRENT_TIMESTAMP also as a column's default, ...), \
             which would not be the same work everywhere; write values in their place",
            self.called.display()
        );
        Ok(())
    }

    /// Hash and number of the rows of the first copy.
    fn end(&self) -> anyhow::Result<(String, u64)> {
        self.digest(&self.copies[0]).map_err(|e| anyhow::anyhow!("can't read the database back: {}", kind(&e)))
    }

    /// Refuses a file that is no database, in SQLite's word for the kind of failure: what else it says may name a table.
    fn open_original(&self) -> anyhow::Result<()> {
        let tried = Connection::open(self.directory.join(DATABASE))
            .and_then(|db| db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0)));
        let named = self.options.database.clone().unwrap_or_else(|| DATABASE.into());
        tried.map(drop).map_err(|e| anyhow::anyhow!("{} can't be opened as a database: {}", named.display(), kind(&e)))
    }

    #[cold]
    fn explain(&self, refused: &Refused) -> anyhow::Error {
        let place = format!("{}, line {}", self.called.display(), refused.line);
        if refused.code & 0xff == ffi::SQLITE_INTERRUPT && self.deadline.passed() {
            let timeout = humantime::format_duration(self.options.timeout);
            return anyhow::anyhow!(
                "{place}: its transaction ran longer than {timeout} and was interrupted; set a longer timeout"
            );
        }
        let said = ffi::code_to_str(refused.code);
        let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        let database = self.options.database.as_deref().unwrap_or(Path::new(DATABASE));
        anyhow::anyhow!(
            "{place}: SQLite refuses the statement: {said} (error {}); its own words aren't kept here, and these show them: \
             cp {} COPY && sqlite3 COPY < {}",
            refused.code,
            quoted(database),
            quoted(&self.called)
        )
    }

    /// One transaction on one copy, with the rows that it must have.
    #[inline]
    fn once(&self, copy: usize, transaction: &Transaction) -> anyhow::Result<()> {
        self.deadline.begin(copy as i32 + 1);
        let done = run(&self.copies[copy], &self.text, &transaction.statements);
        self.deadline.end();
        match done {
            Ok(rows) if rows == transaction.rows => Ok(()),
            Ok(rows) => Err(self.other_rows(transaction, rows)),
            Err(refused) => Err(self.explain(&refused)),
        }
    }

    #[cold]
    fn other_rows(&self, transaction: &Transaction, found: (u64, u64)) -> anyhow::Error {
        let (line, right) = (transaction.statements[0].line, transaction.rows);
        anyhow::anyhow!(
            "{}, line {line}: the transaction gave {} rows and changed {}, and when it was rehearsed {} and {}; does it use random() or the time?",
            self.called.display(),
            found.0,
            found.1,
            right.0,
            right.1
        )
    }

    /// Content of all tables, whatever the pages look like.
    fn digest(&self, database: &Database) -> rusqlite::Result<(String, u64)> {
        let mut digest = Digest::new("sqlite/replay", self.seed);
        let mut tables = database.db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?;
        let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut count = 0;
        for name in names {
            digest.add(name.as_bytes());
            let mut all = database.db.prepare(&format!("SELECT * FROM \"{}\"", name.replace('"', "\"\"")))?;
            let columns = all.column_count();
            let mut rows = all.raw_query();
            while let Some(row) = rows.next()? {
                count += 1;
                for column in 0..columns {
                    match row.get_ref(column)? {
                        ValueRef::Null => digest.add(b"n"),
                        ValueRef::Integer(n) => digest.add(&[b"i".as_slice(), &n.to_le_bytes()].concat()),
                        ValueRef::Real(x) => digest.add(&[b"r".as_slice(), &x.to_bits().to_le_bytes()].concat()),
                        ValueRef::Text(t) => digest.add(&[b"t".as_slice(), t].concat()),
                        ValueRef::Blob(b) => digest.add(&[b"b".as_slice(), b].concat()),
                    }
                }
            }
        }
        Ok((digest.value(), count))
    }
}

impl Prepared for Replaying {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let each = self.transactions.len() as u64;
        let sizing = watch.number() >= PILOTS;
        let fit = (MOST / (self.original.len() as u64).max(1)).clamp(1, COPIES);
        let needed = if self.readonly { 1 } else { watch.planned().div_ceil(each) };
        let few = needed.min(fit).min(if sizing { FEW } else { COPIES });
        self.make(few)?;
        let (mut copy, mut next) = (0, 0);
        self.writes = 0;
        watch.start();
        while watch.running() {
            if next == self.transactions.len() {
                (copy, next) = (if self.readonly { 0 } else { copy + 1 }, 0);
                if copy == self.copies.len() {
                    // A pass that only sizes a burst can't know how many it will need.
                    ensure!(
                        sizing,
                        "a burst replays the {each} transactions of the file more than {few} times, each time on a copy of its own, \
                         and more don't fit; set operations={each}, or a multiple of it"
                    );
                    self.make(few)?;
                    copy = 0;
                }
            }
            let transaction = &self.transactions[next];
            self.once(copy, transaction)?;
            self.writes += u64::from(transaction.writes);
            next += 1;
            watch.lap(0);
        }
        Ok(())
    }

    fn durable_writes(&self, _operations: u64) -> u64 {
        self.writes
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.copies.iter().try_for_each(|copy| {
            copy.check_integrity().map_err(|_| anyhow::anyhow!("a copy of the database is no longer sound"))
        })?;
        self.make(1)?;
        for transaction in &self.transactions {
            self.once(0, transaction)?;
        }
        let (value, rows) = self.end()?;
        Ok(Check { value, detail: format!("{} transactions, {rows} rows at their end", self.transactions.len()) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut all = self.copies.first().map(|copy| copy.facts(&[])).unwrap_or_default();
        let [database, statements] = self.hashes.clone();
        all.extend([
            ("database_hash".to_string(), database),
            ("statements_hash".to_string(), statements),
            ("statements_bytes".to_string(), self.text.len().to_string()),
            (facts::WHOLE.to_string(), self.transactions.len().to_string()),
            (facts::WHOLE_NS.to_string(), self.whole_ns.to_string()),
        ]);
        all
    }
}
