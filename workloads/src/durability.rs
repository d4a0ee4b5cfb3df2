//! Data that is acknowledged and looked for after the power was cut: the writer in the box, and the reader outside of it.
//!
//! Each way to write is made of numbered items. An item's bytes tell its number and end with a checksum, so that what is read back
//! is an item, or it isn't. Nothing here is timed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::content;
use crate::sqlite::kept::{self, Kept};

crate::words! {
    /// A way to write and to be sure of it.
    #[derive(Hash, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Way {
        /// SQLite with a write-ahead log and `synchronous = off`: a commit flushes nothing.
        WalOff = "sqlite-wal-off",
        /// The same with `normal`: only a checkpoint flushes.
        WalNormal = "sqlite-wal-normal",
        /// The same with `full`: every commit flushes the log.
        WalFull = "sqlite-wal-full",
        /// SQLite with a rollback journal and `synchronous = off`.
        DeleteOff = "sqlite-delete-off",
        /// The same with `normal`: journal and database are flushed, the directory is not.
        DeleteNormal = "sqlite-delete-normal",
        /// The same with `full`: as `normal`, more carefully.
        DeleteFull = "sqlite-delete-full",
        /// The same with `extra`: the directory too, once the journal is deleted.
        DeleteExtra = "sqlite-delete-extra",
        /// Records at the end of a file, `fdatasync` after each.
        Append = "append",
        /// Messages as a mail server delivers them: written in `tmp`, `fsync`, renamed into `new`, `fsync` of both directories.
        Maildir = "maildir",
        /// Two files that are replaced in turn: a new one is written, `fsync`, renamed over the old one; then `fsync` of the directory.
        Rename = "rename",
    }
}

/// The promise of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Promise {
    /// What was acknowledged is there.
    Durable,
    /// What was acknowledged last may be missing; the rest is whole and in order.
    Whole,
    /// None: anything may be missing or broken.
    Nothing,
}

impl Way {
    /// As its documentation has it; SQLite's says of a rollback journal that only `extra` makes the last commit durable.
    pub fn promise(self) -> Promise {
        match self {
            Self::WalOff | Self::DeleteOff => Promise::Nothing,
            Self::WalNormal | Self::DeleteNormal | Self::DeleteFull => Promise::Whole,
            Self::WalFull | Self::DeleteExtra | Self::Append | Self::Maildir | Self::Rename => Promise::Durable,
        }
    }

    /// The directory that its files are in, within the data directory: a name that is found again.
    pub fn directory(self) -> String {
        format!("durable-{self}")
    }

    fn sqlite(self) -> Option<Kept> {
        Some(match self {
            Self::WalOff => Kept { log: true, synchronous: "off" },
            Self::WalNormal => Kept { log: true, synchronous: "normal" },
            Self::WalFull => Kept { log: true, synchronous: "full" },
            Self::DeleteOff => Kept { log: false, synchronous: "off" },
            Self::DeleteNormal => Kept { log: false, synchronous: "normal" },
            Self::DeleteFull => Kept { log: false, synchronous: "full" },
            Self::DeleteExtra => Kept { log: false, synchronous: "extra" },
            Self::Append | Self::Maildir | Self::Rename => return None,
        })
    }
}

/// Bytes of a row and of a record: no divisor of a page, so that some lie across two.
pub(crate) const SHORT: usize = 300;

/// Bytes of a message and of a file that is replaced: more than a page.
const LONG: usize = 6000;

/// Tells this use of a generator from others.
const STREAM: u64 = 0x6475_7261;

/// The item of this number: the number, bytes drawn from it, and a checksum of both.
pub(crate) fn item(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    content::fill(&mut content::generator(0, STREAM, number), &mut bytes);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..length - 4]);
    bytes[length - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The number of an item; `None` where these are not the bytes of one.
pub(crate) fn number_of(bytes: &[u8], length: usize) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes.len() == length && bytes == item(number, length)).then_some(number)
}

/// Writes items, each of which is as durable as its way makes it when [`Writer::write`] returns.
pub struct Writer {
    directory: PathBuf,
    kind: Open,
}

/// The open files of a way to write.
enum Open {
    Database(kept::Database),
    Log(File),
    Maildir { tmp: File, new: File },
    Pair(File),
}

impl Writer {
    /// Makes what is there before the first item, and flushes it with its directories.
    ///
    /// # Errors
    /// When something can't be made or flushed.
    pub fn begin(way: Way, directory: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| directory.join(name);
        let folder = |name: &str| -> anyhow::Result<File> {
            fs::create_dir(at(name)).with_context(|| format!("can't make {}", at(name).display()))?;
            open(&at(name))
        };
        let kind = match (way.sqlite(), way) {
            (Some(kept), _) => Open::Database(kept.make(&at(DATABASE))?),
            (None, Way::Append) => {
                let log = File::create_new(at(LOG)).with_context(|| format!("can't make {}", at(LOG).display()))?;
                log.sync_all().with_context(|| format!("can't flush {}", at(LOG).display()))?;
                Open::Log(log)
            }
            (None, Way::Maildir) => Open::Maildir { tmp: folder("tmp")?, new: folder("new")? },
            (None, _) => Open::Pair(open(directory)?),
        };
        for folder in directory.ancestors().take(2) {
            open(folder)?.sync_all().with_context(|| format!("can't flush {}", folder.display()))?;
        }
        Ok(Self { directory: directory.to_path_buf(), kind })
    }

    /// Writes the item of this number; they go up by one from 1.
    ///
    /// # Errors
    /// When it can't be written or flushed: then it isn't acknowledged.
    pub fn write(&mut self, number: u64) -> anyhow::Result<()> {
        match &mut self.kind {
            Open::Database(database) => database.insert(number),
            Open::Log(log) => {
                let written = log.write_all(&item(number, SHORT)).and_then(|()| log.sync_data());
                written.with_context(|| format!("can't append record {number}"))
            }
            Open::Maildir { tmp, new } => {
                let name = format!("{number}.tarebench");
                let (from, to) = (self.directory.join("tmp").join(&name), self.directory.join("new").join(&name));
                replace(&from, &to, number)?;
                let flushed = new.sync_all().and_then(|()| tmp.sync_all());
                flushed.with_context(|| format!("can't flush the directories of message {number}"))
            }
            Open::Pair(directory) => {
                for name in PAIR {
                    replace(&self.directory.join("unfinished"), &self.directory.join(name), number)?;
                }
                directory.sync_all().with_context(|| format!("can't flush the directory of version {number}"))
            }
        }
    }
}

const DATABASE: &str = "kept.db";
const LOG: &str = "log";
/// In the order in which they are replaced.
const PAIR: [&str; 2] = ["first", "second"];

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("can't open {}", path.display()))
}

/// Writes a file, flushes it, and only then gives it its name.
fn replace(from: &Path, to: &Path, number: u64) -> anyhow::Result<()> {
    let mut file = File::create(from).with_context(|| format!("can't make {}", from.display()))?;
    let written = file.write_all(&item(number, LONG)).and_then(|()| file.sync_all());
    written.with_context(|| format!("can't write {}", from.display()))?;
    fs::rename(from, to).with_context(|| format!("can't rename {}", from.display()))
}

/// All that was found of a writer's items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The numbers of those that are whole.
    pub items: BTreeSet<u64>,
    /// The numbers of those whose place holds something else.
    pub torn: BTreeSet<u64>,
    /// A rename came to be and the one before it did not.
    pub reordered: bool,
    /// Why what holds them can't be read, or is broken.
    pub corrupt: Option<String>,
}

impl Found {
    /// Notes the place of an item, and whether it holds it.
    pub(crate) fn saw(&mut self, number: u64, whole: bool) {
        if whole { &mut self.items } else { &mut self.torn }.insert(number);
    }
}

/// Reads back what a writer of this way left in its directory. A database is opened for writing, so that SQLite recovers it.
///
/// # Errors
/// When the directory can't be read; what is broken in it is a finding.
pub fn read_back(way: Way, directory: &Path) -> anyhow::Result<Found> {
    let naming = || format!("can't read {}", directory.display());
    if way.sqlite().is_some() {
        return Ok(kept::read_back(&directory.join(DATABASE)));
    }
    let mut found = Found::default();
    match way {
        Way::Append => {
            for (at, record) in (1..).zip(read(&directory.join(LOG)).with_context(naming)?.chunks(SHORT)) {
                found.saw(at, number_of(record, SHORT) == Some(at));
            }
        }
        Way::Maildir => {
            let entries = match fs::read_dir(directory.join("new")) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
                entries => entries.with_context(naming)?,
            };
            for entry in entries {
                let path = entry.with_context(naming)?.path();
                let named = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0);
                found.saw(named, number_of(&read(&path).with_context(naming)?, LONG) == Some(named));
            }
        }
        _ => {
            let mut versions = [0; 2];
            for (version, name) in versions.iter_mut().zip(PAIR) {
                let bytes = read(&directory.join(name)).with_context(naming)?;
                match number_of(&bytes, LONG) {
                    Some(number) => *version = number,
                    // It wasn't there before the first item.
                    None if bytes.is_empty() && !directory.join(name).exists() => {}
                    None => {
                        found.torn.insert(0);
                    }
                }
            }
            found.reordered = found.torn.is_empty() && versions[0] < versions[1];
            found.items = (1..=versions[0].min(versions[1])).collect();
        }
    }
    Ok(found)
}

/// A file's bytes; none where there is no file.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes,
    }
}

/// What a cut did to a writer's items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Acknowledged and not there, or not whole.
    pub lost: u64,
    /// Not whole under a name or in a place that only whole ones get.
    pub torn: u64,
    /// Missing, though a later one is there.
    pub reordered: u64,
    /// As [`Found::corrupt`].
    pub corrupt: Option<String>,
}

impl Damage {
    /// Holds what was found against the number of items that were acknowledged.
    pub fn of(way: Way, acknowledged: u64, found: &Found) -> Self {
        let missing = |up_to: u64| (1..=up_to).filter(|number| !found.items.contains(number)).count() as u64;
        // The end of a log may be half written as long as nobody was told that it is there.
        let matters = |number: &&u64| way != Way::Append || **number <= acknowledged;
        Self {
            lost: missing(acknowledged),
            torn: found.torn.iter().filter(matters).count() as u64,
            reordered: missing(found.items.last().copied().unwrap_or(0)) + u64::from(found.reordered),
            corrupt: found.corrupt.clone(),
        }
    }

    /// Whether it breaks the promise.
    pub fn breaks(&self, promise: Promise) -> bool {
        let broken = self.torn > 0 || self.reordered > 0 || self.corrupt.is_some();
        match promise {
            Promise::Durable => broken || self.lost > 0,
            Promise::Whole => broken,
            Promise::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value as _;

    const ITEMS: u64 = 7;

    /// Items of this way, and what a change of their files makes of them.
    fn after(way: Way, change: impl FnOnce(&Path)) -> (Damage, Found) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut writer = Writer::begin(way, directory.path()).expect("begun");
        (1..=ITEMS).for_each(|number| writer.write(number).expect("written"));
        drop(writer);
        change(directory.path());
        let found = read_back(way, directory.path()).expect("read");
        (Damage::of(way, ITEMS, &found), found)
    }

    fn counts(damage: &Damage) -> (u64, u64, u64) {
        (damage.lost, damage.torn, damage.reordered)
    }

    #[test]
    fn what_is_written_is_read_back_whichever_way() {
        for word in Way::WORDS {
            let (damage, found) = after(Way::parse(word), |_| {});
            assert_eq!(damage, Damage::default(), "{word}: {found:?}");
            assert_eq!(found.items, (1..=ITEMS).collect(), "{word}");
        }
    }

    #[test]
    fn a_database_without_its_last_pages_is_corrupt_and_one_without_its_log_has_lost_rows() {
        let path = |directory: &Path| directory.join(DATABASE);
        let cut = |directory: &Path| {
            let file = File::options().write(true).open(path(directory)).expect("there");
            file.set_len(4096).expect("shortened");
        };
        let (damage, _) = after(Way::DeleteFull, cut);
        assert!(damage.corrupt.is_some() && damage.breaks(Promise::Whole), "{damage:?}");
        let (damage, found) = after(Way::DeleteFull, |directory| fs::remove_file(path(directory)).expect("there"));
        assert_eq!((counts(&damage), found.corrupt), ((ITEMS, 0, 0), None));
        assert!(!damage.breaks(Promise::Whole) && damage.breaks(Promise::Durable));
    }

    #[test]
    fn the_end_of_a_log_may_be_torn_only_where_nobody_was_told_of_it() {
        let shorten = |by: u64| {
            move |directory: &Path| {
                let file = File::options().write(true).open(directory.join(LOG)).expect("there");
                file.set_len(ITEMS * SHORT as u64 - by).expect("shortened");
            }
        };
        let (damage, found) = after(Way::Append, shorten(1));
        assert_eq!(counts(&damage), (1, 1, 0));
        assert_eq!(Damage::of(Way::Append, ITEMS - 1, &found), Damage::default());
        assert_eq!(counts(&after(Way::Append, shorten(SHORT as u64)).0), (1, 0, 0));
    }

    #[test]
    fn a_message_without_the_one_before_it_is_reordered_and_half_a_one_torn() {
        let message = |directory: &Path, number: u64| directory.join("new").join(format!("{number}.tarebench"));
        let (damage, _) = after(Way::Maildir, |d| fs::remove_file(message(d, ITEMS)).expect("there"));
        assert_eq!(counts(&damage), (1, 0, 0));
        let (damage, found) = after(Way::Maildir, |d| fs::remove_file(message(d, 3)).expect("there"));
        assert_eq!(counts(&damage), (1, 0, 1));
        assert_eq!(counts(&Damage::of(Way::Maildir, 2, &found)), (0, 0, 1), "whoever was told of it");
        let (damage, found) = after(Way::Maildir, |d| fs::write(message(d, ITEMS), "half").expect("written"));
        assert_eq!(counts(&damage), (1, 1, 0));
        assert_eq!(counts(&Damage::of(Way::Maildir, 2, &found)), (0, 1, 0), "its name says that it is whole");
    }

    #[test]
    fn the_second_file_never_has_a_newer_version_than_the_first() {
        let write = |number: u64, name: &'static str| {
            move |directory: &Path| fs::write(directory.join(name), item(number, LONG)).expect("written")
        };
        assert_eq!(counts(&after(Way::Rename, write(ITEMS + 1, "first")).0), (0, 0, 0));
        assert_eq!(counts(&after(Way::Rename, write(ITEMS + 1, "second")).0), (0, 0, 1));
        assert_eq!(counts(&after(Way::Rename, write(2, "second")).0), (ITEMS - 2, 0, 0));
        let (damage, _) = after(Way::Rename, |d| fs::write(d.join("first"), "half").expect("written"));
        assert_eq!(counts(&damage), (ITEMS, 1, 0));
    }

    #[test]
    fn an_item_is_no_other_and_no_zeros() {
        assert_eq!(number_of(&item(5, SHORT), SHORT), Some(5));
        assert_eq!(number_of(&vec![0; SHORT], SHORT), None);
        let mut torn = item(5, LONG);
        torn[512..1024].copy_from_slice(&item(6, LONG)[512..1024]);
        assert_eq!(number_of(&torn, LONG), None);
    }
}
