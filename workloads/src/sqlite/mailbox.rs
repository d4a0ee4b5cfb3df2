//! `sqlite/mailbox`: what a mail mover of 2009 did to its database: an operation is a transaction of its, on folders with messages.
//!
//! The mix, in percent: 20 insert a message after looking whether its message-id is there, which it isn't; 10 do so in vain; 10 list a folder; 25
//! set the flags of a message; 15 move one to another folder, where it gets a new UID; 20 delete one. Inserts and deletes balance. Which
//! message and which folder is drawn from the seed.
//!
//! Every burst starts from the same database, byte for byte: what the burst before has changed is put back from a copy, page by page.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use rand::Rng as _;
use rand_pcg::Pcg64Mcg;
use rusqlite::{OptionalExtension as _, Statement, params};

use super::database::{Database, beside};
use super::options::{CACHE_SIZE, JOURNAL, Journal, SYNCHRONOUS, Synchronous, durable};
use super::untimed;
use crate::content::{self, Digest, below, mix};
use crate::load::BurstLength;
use crate::settings::{Bytes, Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Sizes of messages, bytes, at every 32nd part of all messages: log-normal with a median of 7,000 and a sigma of 0.9, of which what is below 2,000 and
/// above 50,000 is left out. The mean is 10.4 kB. A table, since no processor's logarithm must have a say in it.
const SIZES: [u32; 33] = [
    2000, 2323, 2631, 2931, 3228, 3527, 3830, 4139, 4456, 4783, 5123, 5477, 5848, 6238, 6650, 7088, 7555, 8055, 8595,
    9182, 9823, 10529, 11315, 12198, 13205, 14369, 15745, 17412, 19507, 22277, 26256, 32921, 50000,
];
/// The mean of them.
const MEAN: u64 = 10_413;
/// Bytes from which the bodies are cut.
const POOL: usize = 1 << 20;
/// Different flags a message can have set: seen, answered, flagged, deleted, draft.
const FLAGS: u64 = 1 << 5;
/// Indexes in the order in which they are made.
const INDEXES: [&str; 5] = [
    "CREATE UNIQUE INDEX message_by_id ON message (message_id)",
    "CREATE UNIQUE INDEX message_by_uid ON message (folder, uid)",
    "CREATE INDEX message_by_flags ON message (folder, flags)",
    "CREATE INDEX message_by_date ON message (folder, date)",
    "CREATE INDEX message_by_size ON message (size)",
];
/// Operations that the check value covers.
const CHECKED: u64 = 24;
/// Operations for which room is made in advance.
const ROOM: u64 = 1 << 20;
/// Bytes that are compared at a time when the database is put back.
const CHUNK: usize = 64 << 10;
const STREAM: u64 = 0x5150_4c39;

crate::words! {
    /// SQLite's auto_vacuum.
    enum AutoVacuum { None = "none", Full = "full", Incremental = "incremental" }
}

impl AutoVacuum {
    /// As the PRAGMA gives it back.
    fn number(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Full => "1",
            Self::Incremental => "2",
        }
    }
}

crate::settings! {
    struct Options {
        /// Messages that are there when a burst begins, 10.4 kB each in the mean
        messages: u64 = 500 in 10..=1_000_000,
        /// Folders that hold them
        folders: u64 = 8 in 1..=1000,
        journal: Journal as JOURNAL = "delete",
        synchronous: Synchronous as SYNCHRONOUS,
        cache_size: Bytes as CACHE_SIZE,
        /// SQLite's auto_vacuum: whether a commit that frees pages moves others to shorten the file, or notes what it takes to do so later
        auto_vacuum: AutoVacuum = "none",
        /// Indexes of the messages: by message-id, folder and UID, folder and flags, folder and date, size
        indexes: u64 = 3 in 1..=5,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Mailbox;

impl Workload for Mailbox {
    fn name(&self) -> &'static str {
        "sqlite/mailbox"
    }

    fn about(&self) -> &'static str {
        "Inserts, lists, flags, moves and deletes messages of 2 to 50 kB, each step a transaction, as a mail mover of 2009 did"
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
        let Options { messages, cache_size, .. } = Options::read(settings);
        // A fifth of the operations insert a message, and a quarter more operations are done to warm up.
        let grown = BurstLength::read(settings).operations / 4 * MEAN;
        // The database, a copy of it, and a log or journal.
        let disk = 2 * messages * (MEAN + MEAN / 5) + grown + (16 << 20);
        Needs { disk, memory: cache_size.0 + 64 * messages + POOL as u64 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let path = place.directory.join("mailbox.db");
        let original = beside(&path, ".original");
        let options = Options::read(&place.settings);
        let mails = Mails::new(place.seed);
        let state = State::initial(&mails, options.messages, options.folders);
        let database = Database::open(&path)?;
        lay_out(&database, &mails, &state, &options)?;
        drop(database);
        let copied = std::fs::copy(&path, &original).and_then(|_| File::open(&original)).and_then(|file| {
            file.sync_all()?;
            Ok(file)
        });
        let original = copied.with_context(|| format!("can't copy {} to {}", path.display(), original.display()))?;
        let mut mover = Mover {
            path,
            original,
            options,
            mails,
            initial: state.clone(),
            state,
            drawn: 0,
            writes: 0,
            database: None,
        };
        mover.restore()?;
        Ok(Box::new(mover))
    }
}

/// Content of messages, by their number.
struct Mails {
    seed: u64,
    pool: Vec<u8>,
}

impl Mails {
    fn new(seed: u64) -> Self {
        let mut pool = vec![0; POOL];
        content::fill(&mut content::generator(seed, STREAM, 0), &mut pool);
        Self { seed, pool }
    }

    #[inline]
    fn word(&self, number: u64) -> u64 {
        mix(number ^ mix(self.seed ^ STREAM))
    }

    /// Bytes of the body.
    #[inline]
    fn size(&self, number: u64) -> u32 {
        let part = self.word(number) as u32 & 0xffff;
        let (at, between) = ((part >> 11) as usize, part & 0x7ff);
        SIZES[at] + (SIZES[at + 1] - SIZES[at]) * between / 0x800
    }

    /// Cut from the pool: where it begins differs from message to message.
    #[inline]
    fn body(&self, number: u64) -> &[u8] {
        let size = self.size(number) as usize;
        let start = (self.word(number) >> 16) as usize % (POOL - size);
        &self.pool[start..start + size]
    }

    /// Seconds since 1970, in 2008.
    #[inline]
    fn date(&self, number: u64) -> i64 {
        1_199_145_600 + (self.word(number) >> 40) as i64
    }

    /// As `<0123456789abcdef@mail.example>`.
    #[inline]
    fn id(&self, number: u64) -> MessageId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let word = mix(self.word(number));
        let mut text = *b"<0123456789abcdef@mail.example>";
        for (digit, shift) in text[1..17].iter_mut().zip((0..64).step_by(4)) {
            *digit = DIGITS[(word >> shift & 15) as usize];
        }
        MessageId(text)
    }
}

struct MessageId([u8; 31]);

impl MessageId {
    #[inline]
    fn text(&self) -> &str {
        str::from_utf8(&self.0).expect("hex digits")
    }
}

/// A message where it is now.
#[derive(Debug, Clone, Copy)]
struct Message {
    number: u64,
    folder: u32,
    uid: u32,
    flags: u32,
}

/// A folder as it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Folder {
    /// The UID of the message that comes next.
    next: u32,
    messages: i64,
    /// Of their bodies.
    bytes: i64,
}

/// The expected content of the database: the mover's own idea of it, with which every answer is compared.
#[derive(Debug, Clone)]
struct State {
    messages: Vec<Message>,
    folders: Vec<Folder>,
    /// The number of the message that comes next.
    next: u64,
}

impl State {
    fn initial(mails: &Mails, messages: u64, folders: u64) -> Self {
        let mut state = Self {
            messages: Vec::new(),
            folders: vec![Folder { next: 1, ..Folder::default() }; folders as usize],
            next: 0,
        };
        let mut choice = content::generator(mails.seed, STREAM + 1, 0);
        for _ in 0..messages {
            let (folder, flags) = (below(&mut choice, folders) as u32, below(&mut choice, FLAGS) as u32);
            let number = state.next;
            state.next += 1;
            let uid = state.enter(folder, mails.size(number));
            state.messages.push(Message { number, folder, uid, flags });
        }
        state
    }

    /// A message of this size comes to a folder. Gives its UID there.
    #[inline]
    fn enter(&mut self, folder: u32, size: u32) -> u32 {
        let folder = &mut self.folders[folder as usize];
        folder.next += 1;
        folder.messages += 1;
        folder.bytes += i64::from(size);
        folder.next - 1
    }

    #[inline]
    fn leave(&mut self, folder: u32, size: u32) {
        let folder = &mut self.folders[folder as usize];
        folder.messages -= 1;
        folder.bytes -= i64::from(size);
    }
}

/// The mover's next transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    /// A message that isn't there yet, into a folder.
    Insert(u32),
    /// A message that is there: its place among the messages.
    InsertInVain(usize),
    List(u32),
    Flag(usize, u32),
    Move(usize, u32),
    Delete(usize),
}

impl Transaction {
    /// Whether it changes anything.
    #[inline]
    fn writes(self) -> bool {
        !matches!(self, Self::InsertInVain(_) | Self::List(_))
    }

    #[inline]
    fn draw(choice: &mut Pcg64Mcg, state: &State) -> Self {
        let kind = below(choice, 100);
        let message = below(choice, state.messages.len() as u64) as usize;
        let word = choice.next_u64();
        let folder = (((word >> 32) * state.folders.len() as u64) >> 32) as u32;
        match kind {
            20..30 => Self::InsertInVain(message),
            30..40 => Self::List(folder),
            40..65 => Self::Flag(message, (word % FLAGS) as u32),
            65..80 => Self::Move(message, folder),
            // A small mailbox isn't emptied by chance.
            80.. if state.messages.len() > 5 => Self::Delete(message),
            _ => Self::Insert(folder),
        }
    }
}

/// The mover's statements.
struct Statements<'a> {
    begin: Statement<'a>,
    commit: Statement<'a>,
    find: Statement<'a>,
    next: Statement<'a>,
    advance: Statement<'a>,
    insert: Statement<'a>,
    list: Statement<'a>,
    flag: Statement<'a>,
    shift: Statement<'a>,
    delete: Statement<'a>,
}

impl<'a> Statements<'a> {
    fn new(database: &'a Database) -> rusqlite::Result<Self> {
        let prepare = |sql| database.db.prepare(sql);
        Ok(Self {
            begin: prepare("BEGIN")?,
            commit: prepare("COMMIT")?,
            find: prepare("SELECT id FROM message WHERE message_id = ?1")?,
            next: prepare("SELECT uid_next FROM folder WHERE id = ?1")?,
            advance: prepare("UPDATE folder SET uid_next = uid_next + 1 WHERE id = ?1")?,
            insert: prepare(INSERT)?,
            list: prepare("SELECT uid, flags, date, size FROM message WHERE folder = ?1 ORDER BY uid")?,
            flag: prepare("UPDATE message SET flags = ?3 WHERE folder = ?1 AND uid = ?2")?,
            shift: prepare("UPDATE message SET folder = ?3, uid = ?4 WHERE folder = ?1 AND uid = ?2")?,
            delete: prepare("DELETE FROM message WHERE folder = ?1 AND uid = ?2")?,
        })
    }

    /// Performs a transaction in the database and in the state. Gives the bytes of bodies that were written.
    #[inline]
    fn take(&mut self, transaction: Transaction, state: &mut State, mails: &Mails) -> anyhow::Result<u64> {
        match transaction {
            Transaction::Insert(folder) => {
                let number = state.next;
                let (id, size) = (mails.id(number), mails.size(number));
                self.begin.execute([])?;
                let found: Option<i64> = self.find.query_row([id.text()], |row| row.get(0)).optional()?;
                anyhow::ensure!(found.is_none(), "message {number} is there before it was inserted");
                let uid: u32 = self.next.query_row([folder], |row| row.get(0))?;
                anyhow::ensure!(uid == state.enter(folder, size), "folder {folder} has {uid} as its next UID");
                let (date, body) = (mails.date(number), mails.body(number));
                self.insert.execute(params![number as i64, folder, uid, id.text(), 0, date, size, body])?;
                self.advance.execute([folder])?;
                self.commit.execute([])?;
                state.next += 1;
                state.messages.push(Message { number, folder, uid, flags: 0 });
                return Ok(u64::from(size));
            }
            Transaction::InsertInVain(at) => {
                let number = state.messages[at].number;
                self.begin.execute([])?;
                let found: Option<i64> = self.find.query_row([mails.id(number).text()], |row| row.get(0)).optional()?;
                self.commit.execute([])?;
                anyhow::ensure!(
                    found == Some(number as i64),
                    "message {number} isn't found by its message-id, but {found:?}"
                );
            }
            Transaction::List(folder) => {
                let (mut messages, mut bytes, mut last) = (0, 0, 0);
                let mut rows = self.list.query([folder])?;
                while let Some(row) = rows.next()? {
                    let uid: u32 = row.get(0)?;
                    let (_flags, _date): (u32, i64) = (row.get(1)?, row.get(2)?);
                    anyhow::ensure!(uid > last, "folder {folder} lists UID {uid} after {last}");
                    last = uid;
                    messages += 1;
                    bytes += row.get::<_, i64>(3)?;
                }
                drop(rows);
                let right = state.folders[folder as usize];
                anyhow::ensure!(
                    (messages, bytes) == (right.messages, right.bytes),
                    "folder {folder} lists {messages} messages of {bytes} bytes, and {right:?} is right"
                );
            }
            Transaction::Flag(at, flags) => {
                let message = &mut state.messages[at];
                let changed = self.flag.execute(params![message.folder, message.uid, flags])?;
                anyhow::ensure!(changed == 1, "setting the flags of {message:?} changed {changed} messages");
                message.flags = flags;
            }
            Transaction::Move(at, folder) => {
                let Message { number, folder: from, uid: old, .. } = state.messages[at];
                let size = mails.size(number);
                self.begin.execute([])?;
                let uid: u32 = self.next.query_row([folder], |row| row.get(0))?;
                state.leave(from, size);
                anyhow::ensure!(uid == state.enter(folder, size), "folder {folder} has {uid} as its next UID");
                let changed = self.shift.execute([from, old, folder, uid])?;
                anyhow::ensure!(changed == 1, "moving message {number} changed {changed} messages");
                self.advance.execute([folder])?;
                self.commit.execute([])?;
                let message = &mut state.messages[at];
                (message.folder, message.uid) = (folder, uid);
            }
            Transaction::Delete(at) => {
                let Message { number, folder, uid, .. } = state.messages.swap_remove(at);
                let changed = self.delete.execute([folder, uid])?;
                anyhow::ensure!(changed == 1, "deleting message {number} removed {changed} messages");
                state.leave(folder, mails.size(number));
            }
        }
        Ok(0)
    }
}

const INSERT: &str = "INSERT INTO message (id, folder, uid, message_id, flags, date, size, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

fn lay_out(database: &Database, mails: &Mails, state: &State, options: &Options) -> anyhow::Result<()> {
    let number = options.auto_vacuum.number();
    // Before there are tables: later it can't be changed.
    database.set("auto_vacuum", number, "auto_vacuum")?;
    let fill = || -> rusqlite::Result<()> {
        let db = &database.db;
        db.execute_batch(
            "PRAGMA journal_mode = OFF;
             PRAGMA synchronous = OFF;
             PRAGMA cache_size = -16384;
             BEGIN;
             CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uid_next INTEGER NOT NULL);
             CREATE TABLE message (
                 id INTEGER PRIMARY KEY,
                 folder INTEGER NOT NULL,
                 uid INTEGER NOT NULL,
                 message_id TEXT NOT NULL,
                 flags INTEGER NOT NULL,
                 date INTEGER NOT NULL,
                 size INTEGER NOT NULL,
                 body BLOB NOT NULL);",
        )?;
        let mut insert = db.prepare("INSERT INTO folder (id, name, uid_next) VALUES (?1, ?2, ?3)")?;
        for (id, folder) in state.folders.iter().enumerate() {
            insert.execute(params![id as i64, format!("Folder {id}"), folder.next])?;
        }
        let mut insert = db.prepare(INSERT)?;
        for Message { number, folder, uid, flags } in &state.messages {
            let (id, date, size, body) =
                (mails.id(*number), mails.date(*number), mails.size(*number), mails.body(*number));
            insert.execute(params![*number as i64, folder, uid, id.text(), flags, date, size, body])?;
        }
        for index in &INDEXES[..options.indexes as usize] {
            db.execute_batch(index)?;
        }
        db.execute_batch("COMMIT")
    };
    fill()
        .map_err(|e| database.explain(e))
        .with_context(|| format!("can't fill the database {}", database.path().display()))?;
    database.journal(options.journal)?;
    database.checkpoint()?;
    database.flush()
}

struct Mover {
    path: PathBuf,
    /// The database as every burst finds it.
    original: File,
    options: Options,
    mails: Mails,
    initial: State,
    state: State,
    /// See [`Prepared::drawn`].
    drawn: u64,
    /// Transactions of the last burst that wrote.
    writes: u64,
    /// Open but for the moments in which it's put back.
    database: Option<Database>,
}

impl Mover {
    /// The database as it was laid out, in the file, in SQLite's cache and in the log; as the program has it that was started a while ago.
    fn restore(&mut self) -> anyhow::Result<()> {
        self.database = None;
        // A burst that failed may have left a journal that would be played back.
        for suffix in ["-journal", "-wal", "-shm"] {
            let file = beside(&self.path, suffix);
            match std::fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("can't remove {}", file.display()));
                }
                _ => {}
            }
        }
        self.put_back().with_context(|| format!("can't put {} back as it was", self.path.display()))?;
        self.state.clone_from(&self.initial);
        let database = self.database.insert(Database::open(&self.path)?);
        let options = &self.options;
        database.journal(options.journal)?;
        database.synchronous(options.synchronous)?;
        database.cache(options.cache_size)?;
        let (got, wanted) = (database.pragma("auto_vacuum")?, options.auto_vacuum.number());
        anyhow::ensure!(got == wanted, "auto_vacuum is {got} and not {wanted} in {}", self.path.display());
        database.grow_log()?;
        database.checkpoint()?;
        database.flush()?;
        let read: i64 = database
            .db
            .query_row(
                "SELECT count(*) FROM (SELECT folder, uid, size FROM message NOT INDEXED WHERE size > 0)",
                [],
                |r| r.get(0),
            )
            .map_err(|e| database.explain(e))
            .with_context(|| format!("can't read {} once", self.path.display()))?;
        let right = self.state.messages.len();
        anyhow::ensure!(read as usize == right, "there should be {right} messages and there are {read}");
        Ok(())
    }

    /// Writes what differs from the copy, and nothing else.
    fn put_back(&self) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(&self.path)?;
        let length = self.original.metadata()?.len();
        file.set_len(length)?;
        let (mut found, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
        for offset in (0..length).step_by(CHUNK) {
            let size = CHUNK.min((length - offset) as usize);
            self.original.read_exact_at(&mut right[..size], offset)?;
            file.read_exact_at(&mut found[..size], offset)?;
            if found[..size] != right[..size] {
                file.write_all_at(&right[..size], offset)?;
            }
        }
        file.sync_all()
    }

    fn work(&mut self, watch: &mut Stopwatch, burst: u64) -> anyhow::Result<u64> {
        self.restore()?;
        let Self { path, mails, state, database, writes, .. } = self;
        *writes = 0;
        let database = database.as_ref().context("the database couldn't be opened again")?;
        let mut statements = Statements::new(database).map_err(|e| database.explain(e))?;
        state.messages.reserve(watch.planned().min(ROOM) as usize);
        let mut choice = content::generator(mails.seed, STREAM + 2, burst);
        watch.start();
        while watch.running() {
            let transaction = Transaction::draw(&mut choice, state);
            let bytes = match statements.take(transaction, state, mails) {
                Ok(bytes) => bytes,
                Err(e) => {
                    let e = match e.downcast::<rusqlite::Error>() {
                        Ok(e) => database.explain(e),
                        Err(e) => e,
                    };
                    return Err(e.context(format!("can't {transaction:?} in {}", path.display())));
                }
            };
            *writes += u64::from(transaction.writes());
            watch.lap(bytes);
        }
        Ok(content::state(&choice))
    }

    /// Compares folders and messages with the state, and gives a digest of them.
    fn read_back(&mut self) -> anyhow::Result<String> {
        let database = self.database.as_ref().context("the database couldn't be opened again")?;
        let mut digest = Digest::new("sqlite/mailbox", self.mails.seed);
        self.state.messages.sort_unstable_by_key(|message| message.number);
        let mut select = database.db.prepare(
            "SELECT id, folder, uid, flags, message_id, date, size, body FROM message NOT INDEXED ORDER BY id",
        )?;
        let mut rows = select.query([])?;
        let mut messages = self.state.messages.iter();
        while let Some(row) = rows.next().map_err(|e| database.explain(e)).context("can't read the messages back")? {
            let found: [i64; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let message = messages.next().with_context(|| format!("message {} should not be there", found[0]))?;
            let Message { number, folder, uid, flags } = *message;
            let right = [number as i64, i64::from(folder), i64::from(uid), i64::from(flags)];
            anyhow::ensure!(found == right, "a message is {found:?}, and {right:?} is right");
            let mails = &self.mails;
            let (id, date, size) = (row.get_ref(4)?.as_str()?, row.get::<_, i64>(5)?, row.get::<_, u32>(6)?);
            anyhow::ensure!(
                id == mails.id(number).text() && date == mails.date(number) && size == mails.size(number),
                "message {number} has the message-id {id}, the date {date} or the size {size} of another"
            );
            let body = row.get_ref(7)?.as_blob()?;
            anyhow::ensure!(body == mails.body(number), "message {number} doesn't hold the body that was inserted");
            found.iter().for_each(|part| digest.add(&part.to_le_bytes()));
            digest.add(id.as_bytes());
            digest.add(&crc32fast::hash(body).to_le_bytes());
        }
        let missing = messages.count();
        anyhow::ensure!(missing == 0, "{missing} messages are missing");
        let mut select = database.db.prepare("SELECT uid_next FROM folder ORDER BY id")?;
        let found = select.query_map([], |row| row.get::<_, u32>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        let right: Vec<_> = self.state.folders.iter().map(|folder| folder.next).collect();
        anyhow::ensure!(found == right, "the folders' next UIDs are {found:?}, and {right:?} is right");
        found.iter().for_each(|next| digest.add(&next.to_le_bytes()));
        Ok(digest.value())
    }
}

impl Prepared for Mover {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.drawn = self.work(watch, watch.number() + 1)?;
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn durable_writes(&self, _operations: u64) -> u64 {
        self.writes
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.read_back()?;
        if let Some(database) = &self.database {
            database.check_integrity()?;
        }
        let messages = self.state.messages.len();
        self.work(&mut untimed(CHECKED), 0)?;
        Ok(Check { value: self.read_back()?, detail: format!("integrity_check ok, {messages} messages compared") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let Some(database) = &self.database else { return BTreeMap::new() };
        let mut facts = database.facts(&["auto_vacuum", "freelist_count", "wal_autocheckpoint", "locking_mode"]);
        let indexes = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'message'";
        let indexes = database.db.query_row(indexes, [], |row| row.get::<_, i64>(0));
        facts.insert("indexes".into(), indexes.map_or_else(|e| e.to_string(), |n| n.to_string()));
        facts.insert("messages".into(), self.state.messages.len().to_string());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    fn place(directory: &std::path::Path, given: &[(&str, &str)]) -> Place {
        let workload = registry::find("sqlite/mailbox").expect("registered");
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let settings = workload.resolve(&given).expect("valid");
        Place::alone(directory, settings)
    }

    /// Share of a standard normal distribution below `x`, by Simpson's rule.
    fn normal(x: f64) -> f64 {
        let n = 2000;
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let h = (x + 10.0) / f64::from(n);
        let inner = (1..n).map(|i| density(-10.0 + h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum::<f64>();
        h / 3.0 * (density(-10.0) + inner + density(x))
    }

    #[test]
    fn the_table_of_sizes_is_the_distribution_it_says() {
        let share = |size: f64| normal((size / 7000.0).ln() / 0.9);
        let (low, high) = (share(2000.0), share(50000.0));
        for (i, size) in SIZES.iter().enumerate() {
            let expected = low + (high - low) * i as f64 / 32.0;
            assert!((share(f64::from(*size)) - expected).abs() < 1e-4, "{size}");
        }
    }

    #[test]
    fn sizes_are_within_the_bounds_and_have_the_mean() {
        let mails = Mails::new(7);
        let sizes: Vec<u64> = (0..20_000).map(|number| u64::from(mails.size(number))).collect();
        assert!(sizes.iter().all(|size| (2000..=50_000).contains(size)));
        let mean = sizes.iter().sum::<u64>() / 20_000;
        assert!(mean.abs_diff(MEAN) < 200, "{mean}");
    }

    #[test]
    fn the_steps_are_the_documented_mix() {
        let mails = Mails::new(3);
        let state = State::initial(&mails, 500, 8);
        let mut choice = content::generator(3, STREAM + 2, 1);
        let mut counts = [0_i64; 6];
        for _ in 0..100_000 {
            let kind = match Transaction::draw(&mut choice, &state) {
                Transaction::Insert(_) => 0,
                Transaction::InsertInVain(_) => 1,
                Transaction::List(_) => 2,
                Transaction::Flag(..) => 3,
                Transaction::Move(..) => 4,
                Transaction::Delete(_) => 5,
            };
            counts[kind] += 1;
        }
        for (count, percent) in counts.iter().zip([20, 10, 10, 25, 15, 20]) {
            assert!((count - percent * 1000).abs() < 600, "{counts:?}");
        }
    }

    #[test]
    fn a_burst_starts_from_the_same_file_whatever_was_done_before() {
        for settings in [
            &[][..],
            &[("auto_vacuum", "full"), ("indexes", "5"), ("synchronous", "off")],
            &[("auto_vacuum", "incremental"), ("journal", "wal"), ("folders", "1")],
            &[("journal", "persist"), ("indexes", "1"), ("messages", "10"), ("cache_size", "8000KiB")],
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("mailbox.db");
            let place = place(directory.path(), settings);
            let mut prepared = Mailbox.prepare(&place).expect("prepared");
            let before = std::fs::read(&path).expect("read");
            let values: Vec<String> = (0..2)
                .map(|_| {
                    prepared.burst(&mut untimed(150)).expect("done");
                    prepared.verify().expect("as it should be").value
                })
                .collect();
            assert_eq!(values[0], values[1], "{settings:?}");
            // An operation of none: only what goes before it.
            let error = prepared.burst(&mut untimed(0));
            assert!(error.is_ok() && std::fs::read(&path).expect("read") == before, "{settings:?}");
        }
    }

    #[test]
    fn the_check_covers_what_is_stored_and_not_how() {
        let value = |given: &[(&str, &str)]| {
            let directory = tempfile::tempdir().expect("a directory");
            let mut prepared = Mailbox.prepare(&place(directory.path(), given)).expect("prepared");
            prepared.verify().expect("as it should be").value
        };
        let usual = value(&[]);
        for given in [
            ("synchronous", "off"),
            ("cache_size", "8000KiB"),
            ("auto_vacuum", "full"),
            ("indexes", "5"),
            ("journal", "wal"),
        ] {
            assert_eq!(value(&[given]), usual, "{given:?}");
        }
        assert_ne!(value(&[("messages", "499")]), usual);
    }
}
