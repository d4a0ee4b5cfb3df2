//! `sqlite/writers`: several connections write to one database at the same time; an operation is a transaction of one row.
//!
//! SQLite has one writer at a time. Who finds another at work is told that the database is busy, and waits and tries again: how, is a setting, and
//! how often and how long, is counted. The waiting is part of the operation's time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{ErrorCode, Statement, params};

use super::database::Database;
use super::options::{JOURNAL, Journal, SYNCHRONOUS, Synchronous, durable};
use crate::content::{self, Digest};
use crate::load::{BurstLength, MAX_JOBS};
use crate::settings::{Bytes, Setting, Settings};
use crate::stopwatch::{Stopwatch, now};
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Rows that are there before a burst.
const ROWS: u64 = 1000;
/// Operations that the check value covers, for each writer.
const CHECKED: u64 = 8;
/// The rows of a writer begin at its number, from 1, times this.
const REACH: i64 = 1 << 32;
/// A writer that has waited so long for the others gives up.
const DEADLINE: Duration = Duration::from_secs(10);
const STREAM: u64 = 0x5150_4c38;
const INSERT: &str = "INSERT INTO entry (id, value) VALUES (?1, ?2)";

crate::words! {
    /// How a writer waits for another.
    enum Manner { Backoff = "backoff", Poll = "poll", Yield = "yield" }
}

crate::settings! {
    struct Options {
        /// Connections that write to the same database, each in a thread of its own
        jobs: u64 = 4 in 1..=MAX_JOBS,
        journal: Journal as JOURNAL = "wal" of ["wal", "delete", "truncate", "persist"],
        synchronous: Synchronous as SYNCHRONOUS,
        /// How a writer waits for another: longer each time from 1 to 100 ms as SQLite's own timeout does, 1 ms each time, or giving way
        /// to other threads only
        busy: Manner = "backoff",
        /// Bytes of a row's value
        row: Bytes = "100" in 1..=64 << 10,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Writers;

impl Workload for Writers {
    fn name(&self) -> &'static str {
        "sqlite/writers"
    }

    fn about(&self) -> &'static str {
        "Four connections insert rows of 100 bytes into one database, each in a durable transaction; who finds it busy waits"
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
        let Options { jobs, row: Bytes(row), .. } = Options::read(settings);
        let row = row + 64;
        let operations = match BurstLength::read(settings).operations {
            // As many as a writer gets done in the time of a burst on a fast disk.
            0 => 1000,
            n => n / jobs / 4 * 5 + 1,
        };
        Needs { disk: operations.saturating_mul(row) + ROWS * row + (4 << 20), memory: 0 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { journal, synchronous, busy: manner, row: Bytes(row), .. } = Options::read(&place.settings);
        let mut database = Database::open(&place.shared.join("writers.db"))?;
        let row = row as usize;
        // The others find the file as the first has made it, the journal mode of a log included.
        if place.job == 0 {
            database.journal(journal)?;
            database.synchronous(Synchronous::Off)?;
            lay_out(&database, place.seed, row)
                .map_err(|e| database.explain(e))
                .with_context(|| format!("can't fill the database {}", database.path().display()))?;
            database.grow_log()?;
        } else {
            database.journal(journal)?;
        }
        database.synchronous(synchronous)?;
        database.db.busy_handler(Some(wait)).context("can't have SQLite ask what to do when it's busy")?;
        let mut writer = Writer {
            first: REACH * (i64::from(place.job) + 1),
            seed: place.seed,
            row,
            manner,
            deadline: DEADLINE,
            done: 0,
            waited: Waited::default(),
            database,
        };
        writer.reset()?;
        Ok(Box::new(writer))
    }
}

fn lay_out(database: &Database, seed: u64, row: usize) -> rusqlite::Result<()> {
    let db = &database.db;
    db.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB NOT NULL); BEGIN;")?;
    let mut insert = db.prepare(INSERT)?;
    let mut bytes = vec![0; row];
    for id in 0..ROWS {
        content::fill(&mut content::generator(seed, STREAM + 1, id), &mut bytes);
        insert.execute(params![id as i64, bytes])?;
    }
    db.execute_batch("COMMIT")
}

impl Manner {
    /// Before the next try, after so many.
    fn pause(self, tries: u32) {
        /// Milliseconds, as those of SQLite's own busy timeout.
        const BACKOFF: [u64; 12] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100];
        match self {
            Self::Backoff => {
                std::thread::sleep(Duration::from_millis(BACKOFF[(tries as usize).min(BACKOFF.len() - 1)]))
            }
            Self::Poll => std::thread::sleep(Duration::from_millis(1)),
            Self::Yield => std::thread::yield_now(),
        }
    }
}

/// Waits of a writer for others.
#[derive(Debug, Clone, Copy, Default)]
struct Waited {
    /// Times it was told that the database is busy.
    times: u64,
    /// Operations in which it was told so at least once.
    operations: u64,
    /// Time between being told so and the next try, nanoseconds.
    ns: u64,
}

/// The waiting of the writer that runs in this thread.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    manner: Manner,
    /// For the locks of one operation.
    deadline_ns: u64,
    /// Since when this operation has been waiting.
    since: u64,
    /// Times that it has waited.
    tries: u32,
    waited: Waited,
}

thread_local! {
    // A busy handler gets nothing from its caller, and SQLite calls it in the thread that wants the lock.
    static WAITING: Cell<Waiting> = const {
        Cell::new(Waiting {
            manner: Manner::Yield,
            deadline_ns: 0,
            since: 0,
            tries: 0,
            waited: Waited { times: 0, operations: 0, ns: 0 },
        })
    };
}

/// Busy handler: whether to try again where somebody else has the lock. It returns when it's time to.
fn wait(_count: i32) -> bool {
    let mut waiting = WAITING.get();
    let told = now();
    if waiting.tries == 0 {
        waiting.since = told;
        waiting.waited.operations += 1;
    }
    waiting.waited.times += 1;
    let patient = told.saturating_sub(waiting.since) < waiting.deadline_ns;
    if patient {
        waiting.manner.pause(waiting.tries);
        waiting.tries += 1;
        waiting.waited.ns += now().saturating_sub(told);
    }
    WAITING.set(waiting);
    patient
}

/// Runs a statement that needs a lock, as often as it takes.
#[inline]
fn run(statement: &mut Statement<'_>) -> rusqlite::Result<()> {
    loop {
        match statement.execute([]) {
            // SQLite doesn't ask where waiting could be a deadlock, or where a log is being recovered.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && wait(0) => {}
            done => return done.map(|_| ()),
        }
    }
}

/// Forgets how often the lock of the operation before was asked for.
#[inline]
fn forget_tries() {
    let waiting = WAITING.get();
    if waiting.tries > 0 {
        WAITING.set(Waiting { tries: 0, ..waiting });
    }
}

struct Writer {
    /// The id of its first row.
    first: i64,
    seed: u64,
    /// Bytes of a value.
    row: usize,
    manner: Manner,
    deadline: Duration,
    /// Rows inserted since the last reset.
    done: u64,
    /// In the last burst.
    waited: Waited,
    database: Database,
}

impl Writer {
    fn begin_waiting(&self) {
        let deadline_ns = self.deadline.as_nanos() as u64;
        let (manner, waited) = (self.manner, Waited::default());
        WAITING.set(Waiting { manner, deadline_ns, since: 0, tries: 0, waited });
    }

    /// An error of SQLite, and of a writer that waited in vain what that means.
    #[cold]
    fn explain(&self, error: rusqlite::Error) -> anyhow::Error {
        if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
            let waiting = WAITING.get();
            return anyhow::anyhow!("{error}").context(format!(
                "other connections held the lock of {} for {:.1?}, over {} tries; set fewer jobs",
                self.database.path().display(),
                Duration::from_nanos(now().saturating_sub(waiting.since)),
                waiting.tries
            ));
        }
        self.database.explain(error)
    }

    /// Takes its rows out again and begins the log anew. The writers do so at the same time, so each may wait for others; the last
    /// to come finds all rows gone, and leaves an empty log.
    fn reset(&mut self) -> anyhow::Result<()> {
        let db = &self.database.db;
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").map_err(|e| self.explain(e))?;
        }
        self.begin_waiting();
        let clear = || -> rusqlite::Result<()> {
            run(&mut db.prepare("BEGIN IMMEDIATE")?)?;
            db.execute("DELETE FROM entry WHERE id >= ?1 AND id < ?2", [self.first, self.first + REACH])?;
            run(&mut db.prepare("COMMIT")?)
        };
        clear().map_err(|e| self.explain(e)).context("can't remove the rows of the burst before")?;
        self.done = 0;
        let begun = now();
        // While another checkpoints, SQLite says so at once.
        while !self.database.try_checkpoint()? {
            anyhow::ensure!(
                now().saturating_sub(begun) < self.deadline.as_nanos() as u64,
                "other connections used the write-ahead log of {} for {:.1?}; set fewer jobs",
                self.database.path().display(),
                self.deadline
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        self.database.flush()
    }

    fn work(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.reset()?;
        let db = &self.database.db;
        let (mut begin, mut commit) = (db.prepare("BEGIN IMMEDIATE")?, db.prepare("COMMIT")?);
        let mut insert = db.prepare(INSERT)?;
        let mut value = vec![0; self.row];
        let failed = |e, done: u64| self.explain(e).context(format!("can't commit operation {done} of this writer"));
        let mut done = 0;
        self.begin_waiting();
        watch.start();
        while watch.running() {
            content::fill(&mut content::generator(self.seed, STREAM, done), &mut value);
            forget_tries();
            run(&mut begin).map_err(|e| failed(e, done))?;
            insert.execute(params![self.first + done as i64, value]).map_err(|e| failed(e, done))?;
            run(&mut commit).map_err(|e| failed(e, done))?;
            done += 1;
            watch.lap(self.row as u64);
        }
        drop((begin, commit, insert));
        self.done = done;
        self.waited = WAITING.get().waited;
        Ok(())
    }

    /// Compares its rows with what the seed says and gives their digest.
    fn read_back(&self) -> anyhow::Result<String> {
        let mut digest = Digest::new("sqlite/writers", self.seed);
        let mut select =
            self.database.db.prepare("SELECT id, value FROM entry WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        let mut rows = select.query([self.first, self.first + REACH])?;
        let (mut expected, mut right) = (0, vec![0; self.row]);
        while let Some(row) = rows.next().map_err(|e| self.explain(e)).context("can't read the rows back")? {
            let number = row.get::<_, i64>(0)? - self.first;
            anyhow::ensure!(
                number as u64 == expected,
                "row {expected} of this writer is missing; the next there is {number}"
            );
            content::fill(&mut content::generator(self.seed, STREAM, expected), &mut right);
            let found = row.get_ref(1)?.as_blob()?;
            anyhow::ensure!(found == right, "row {number} of this writer doesn't hold what was inserted");
            digest.add(found);
            expected += 1;
        }
        anyhow::ensure!(expected == self.done, "there should be {} rows and there are {expected}", self.done);
        Ok(digest.value())
    }
}

impl Prepared for Writer {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.waited = Waited::default();
        self.work(watch)
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let Waited { times, operations, ns } = self.waited;
        BTreeMap::from([("busy".into(), times), ("busy_operations".into(), operations), ("busy_ns".into(), ns)])
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back()?;
        self.database.check_integrity()?;
        let rows = self.done;
        self.work(&mut super::untimed(CHECKED))?;
        Ok(Check {
            value: self.read_back()?,
            detail: format!("integrity_check ok, {rows} rows of each writer as inserted"),
        })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        self.database.facts(&["wal_autocheckpoint", "locking_mode"])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::registry;

    fn writer(directory: &std::path::Path, job: u32, given: &[(&str, &str)]) -> Place {
        let workload = registry::find("sqlite/writers").expect("registered");
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let settings = workload.resolve(&given).expect("valid");
        Place { job, jobs: 2, ..Place::alone(directory, settings) }
    }

    #[test]
    fn a_lock_that_never_comes_is_a_failure_that_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        for (busy, mode) in [("backoff", Journal::Wal), ("poll", Journal::Delete), ("yield", Journal::Truncate)] {
            let path = directory.path().join(mode.word());
            std::fs::create_dir(&path).expect("made");
            let place = writer(&path, 0, &[("busy", busy), ("journal", mode.word())]);
            drop(Writers.prepare(&place).expect("prepared"));
            let mut database = Database::open(&path.join("writers.db")).expect("opened");
            database.journal(mode).expect("set");
            database.db.busy_handler(Some(wait)).expect("set");
            let holder = rusqlite::Connection::open(path.join("writers.db")).expect("opened");
            holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
            let mut writer = Writer {
                first: REACH,
                seed: 1,
                row: 100,
                manner: if busy == "poll" { Manner::Poll } else { Manner::Backoff },
                deadline: Duration::from_millis(40),
                done: 0,
                waited: Waited::default(),
                database,
            };
            let begun = std::time::Instant::now();
            let error = format!("{:#}", writer.work(&mut super::super::untimed(1)).expect_err("locked"));
            assert!(begun.elapsed() < Duration::from_secs(5), "it gives up");
            assert!(error.contains("held the lock of") && error.contains("set fewer jobs"), "{error}");
            assert!(WAITING.get().waited.times > 1);
            holder.execute_batch("ROLLBACK").expect("given back");
            writer.work(&mut super::super::untimed(3)).expect("the lock is free");
            writer.read_back().expect("three rows");
        }
    }

    /// Times that the writer of the test below was told that the database is busy.
    static TOLD: AtomicU64 = AtomicU64::new(0);

    fn told(count: i32) -> bool {
        TOLD.fetch_add(1, Ordering::SeqCst);
        wait(count)
    }

    #[test]
    fn one_that_waits_is_counted_with_its_time() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(Writers.prepare(&writer(directory.path(), 0, &[])).expect("prepared"));
        let path = directory.path().join("writers.db");
        let mut db = rusqlite::Connection::open(&path).expect("opened");
        db.busy_handler(Some(told)).expect("set");
        let holder = rusqlite::Connection::open(&path).expect("opened");
        holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
        let until_told = std::thread::spawn(move || {
            while TOLD.load(Ordering::SeqCst) < 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            holder.execute_batch("ROLLBACK").expect("given back");
        });
        let deadline_ns = DEADLINE.as_nanos() as u64;
        WAITING.set(Waiting { manner: Manner::Poll, deadline_ns, since: 0, tries: 0, waited: Waited::default() });
        run(&mut db.prepare("BEGIN IMMEDIATE").expect("prepared")).expect("given back in time");
        until_told.join().expect("no panic");
        let Waited { times, operations, ns } = WAITING.get().waited;
        assert_eq!((times, operations), (TOLD.load(Ordering::SeqCst), 1));
        assert!(ns >= 2_000_000, "two waits of a millisecond were sat through: {ns}");
        forget_tries();
        run(&mut db.prepare("COMMIT").expect("prepared")).expect("nobody else is there");
        assert_eq!(WAITING.get().waited.times, times, "who needn't wait isn't counted");
    }
}
