//! `disk/maildir`: the huge pile of files. An operation does what a mail server does to a folder that is a directory and to
//! messages that are files: deliver one, read one, remove one, or list them all.
//!
//! A delivery writes the message to `tmp/`, waits until it is on the device, and renames it into `new/`, which holds the folder's
//! other messages. Each burst starts from the same folder: what the burst before delivered is removed and what it removed is
//! written again, outside of all timing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use rand_pcg::Pcg64Mcg;

use super::blocks::{self, Pool};
use crate::content::{self, Digest};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Deliveries that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x4d44;
const SIZES: u64 = 0x4d53;

/// Bounds of the tenths of all messages by size, bytes: half of them are smaller than 5.8 kB, the mean is 9.8 kB. Close to a
/// log-normal distribution (median 6 kB, sigma 0.9) between 2 and 50 kB, which is the shape that mail has; as a table of
/// whole numbers, so that no processor's logarithm has a say in it.
const TENTHS: [u64; 11] = [2_000, 2_600, 3_200, 3_900, 4_700, 5_800, 7_200, 9_300, 13_000, 22_000, 50_000];
const LARGEST: usize = 50_000;

/// Percent of the operations of `kind = mix`: deliveries (the median is one of theirs), reads, removals; the others list.
const DELIVERIES: u64 = 60;
const READS: u64 = 25;
const REMOVALS: u64 = 10;

/// Messages of a burst that are laid out for in advance at most: noting more than these may allocate.
const NOTED: u64 = 1 << 20;

crate::words! {
    /// Kinds of operations.
    enum Operations { Mix = "mix", Deliver = "deliver", Read = "read", List = "list" }
}

crate::settings! {
    struct Options {
        /// Messages in the folder before a burst
        messages: u64 = 1000 in 1..=100_000,
        /// What an operation is; mix: 60 % deliver, 25 % read, 10 % remove a message, 5 % list the folder
        kind: Operations = "mix",
        /// Whether a delivery waits until the message is on the device
        fsync: bool = true,
        /// Whether it also waits for its name, with an fsync of the folder
        fsync_directory: bool = false,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Maildir;

impl Workload for Maildir {
    fn name(&self) -> &'static str {
        "disk/maildir"
    }

    fn about(&self) -> &'static str {
        "Delivers messages of 2 to 50 kB as files (write, fsync, rename) into a folder of many, and reads, removes and lists them"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        let Options { kind, fsync, .. } = Options::read(settings);
        fsync && matches!(kind, Operations::Mix | Operations::Deliver)
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        let messages = Options::read(settings).messages;
        // 9.8 kB in whole blocks of 4 KiB, an inode and a name; and what a burst delivers.
        Needs { disk: messages * (16 << 10) + (64 << 20), memory: messages * 64 + NOTED * 16 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { messages, kind, fsync, fsync_directory } = Options::read(&place.settings);
        let root = place.directory.join("maildir");
        for folder in ["tmp", "new"] {
            let path = root.join(folder);
            fs::create_dir_all(&path)
                .map_err(|e| blocks::explain(e, false))
                .with_context(|| format!("can't make the directory {}", path.display()))?;
        }
        enough_inodes(&root, messages)?;
        let folder = File::open(root.join("new")).context("can't open the folder")?;
        let kind = match kind {
            Operations::Deliver => Some(Act::Deliver),
            Operations::Read => Some(Act::Read),
            Operations::List => Some(Act::List),
            Operations::Mix => None,
        };
        let mut delivering = Delivering {
            tmp: Name::new(&root, "tmp")?,
            new: Name::new(&root, "new")?,
            listed: CString::new(root.join("new").as_os_str().as_encoded_bytes()).context("a path has no zero byte")?,
            root,
            folder,
            kind,
            fsync,
            fsync_directory,
            seed: place.seed,
            messages,
            pool: Pool::new(place.seed, LARGEST),
            buffer: vec![0xff; LARGEST],
            live: (0..messages).collect(),
            removed: Vec::new(),
            next: messages,
            drawn: 0,
        };
        for id in 0..messages {
            delivering.put(id)?;
        }
        // One for all of them: a thousand would take a second.
        flush(&delivering.folder)?;
        Ok(Box::new(delivering))
    }
}

/// Refuses a number of files that the file system has no inodes for, before any is made.
pub(super) fn enough_inodes(path: &Path, files: u64) -> anyhow::Result<()> {
    let room = nix::sys::statvfs::statvfs(path)
        .with_context(|| format!("can't ask how many inodes there are in {}", path.display()))?;
    let free = room.files_available() as u64;
    // Some file systems make inodes as they need them, and say that there are none.
    anyhow::ensure!(
        room.files() == 0 || files <= free,
        "{files} files are to be made in {}, which has {free} inodes free; set fewer",
        path.display()
    );
    Ok(())
}

/// Waits until everything of the file system is on the device.
#[cfg(target_os = "linux")]
pub(super) fn flush(on: &File) -> anyhow::Result<()> {
    nix::unistd::syncfs(on).context("can't flush the file system")
}

/// Asks for everything to be written to the devices.
#[cfg(not(target_os = "linux"))]
pub(super) fn flush(_on: &File) -> anyhow::Result<()> {
    nix::unistd::sync();
    Ok(())
}

/// How many names a directory has, without those that begin with a dot: its own and its parent's, since no other does.
///
/// Not by nix or std: they allocate for each name.
fn count(directory: &CStr) -> io::Result<usize> {
    // SAFETY: a string that ends with a zero byte.
    let open = unsafe { libc::opendir(directory.as_ptr()) };
    if open.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut seen = 0;
    let outcome = loop {
        // The end and an error look the same but for errno.
        Errno::clear();
        // SAFETY: `open` is open, and nobody else uses it.
        let entry = unsafe { libc::readdir(open) };
        if entry.is_null() {
            break if Errno::last_raw() == 0 { Ok(seen) } else { Err(io::Error::last_os_error()) };
        }
        // SAFETY: an entry has a name, at least the zero byte that ends it, and is valid until the next call.
        let first = unsafe { (*entry).d_name[0] };
        seen += usize::from(first != b'.' as libc::c_char);
    };
    // SAFETY: opened above and closed once.
    unsafe { libc::closedir(open) };
    outcome
}

/// An operation on the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Deliver,
    Read,
    Remove,
    List,
}

/// Bytes of a message.
#[inline]
fn size_of(seed: u64, id: u64) -> usize {
    let mut draw = content::generator(seed, SIZES, id);
    let tenth = content::below(&mut draw, 10) as usize;
    (TENTHS[tenth] + content::below(&mut draw, TENTHS[tenth + 1] - TENTHS[tenth])) as usize
}

/// The path of a message in a folder, written over in place for each message.
struct Name {
    path: String,
    folder: usize,
}

impl Name {
    fn new(root: &Path, folder: &str) -> anyhow::Result<Self> {
        let path = root.join(folder);
        let mut path = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?.to_string();
        path.push('/');
        let folder = path.len();
        path.reserve(128);
        Ok(Self { path, folder })
    }

    /// As mail servers name files: an unchanging time here, so that names are equal everywhere, a number, who, and the size.
    #[inline]
    fn of(&mut self, id: u64, size: usize) -> &Path {
        self.path.truncate(self.folder);
        write!(self.path, "1254355200.M{id:06}.tarebench,S={size}").expect("writing to a string can't fail");
        Path::new(&self.path)
    }
}

struct Delivering {
    root: PathBuf,
    tmp: Name,
    new: Name,
    /// `new/`, open.
    folder: File,
    /// Its path.
    listed: CString,
    /// The kind of every operation; `None` for a mix.
    kind: Option<Act>,
    fsync: bool,
    fsync_directory: bool,
    seed: u64,
    /// In the folder before a burst: their numbers are those below.
    messages: u64,
    /// Messages are cut from these.
    pool: Pool,
    buffer: Vec<u8>,
    /// Numbers of the messages in the folder.
    live: Vec<u64>,
    /// Numbers of those that were there before and aren't now.
    removed: Vec<u64>,
    /// Number of the message to be delivered next.
    next: u64,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Delivering {
    /// Writes a message straight into the folder, without waiting for anything.
    fn put(&mut self, id: u64) -> anyhow::Result<()> {
        let size = size_of(self.seed, id);
        let path = self.new.of(id, size);
        File::create(path)
            .and_then(|mut file| file.write_all(&self.pool.block(id, id)[..size]))
            .map_err(|e| blocks::explain(e, false))
            .with_context(|| format!("can't write the message {}", path.display()))
    }

    /// Delivers the next message; gives its size.
    #[inline]
    fn deliver(&mut self) -> anyhow::Result<u64> {
        let id = self.next;
        let size = size_of(self.seed, id);
        let (tmp, new) = (self.tmp.of(id, size), self.new.of(id, size));
        let mut delivered = || -> io::Result<()> {
            let mut file = File::create_new(tmp)?;
            file.write_all(&self.pool.block(id, id)[..size])?;
            if self.fsync {
                file.sync_all()?;
            }
            drop(file);
            fs::rename(tmp, new)?;
            if self.fsync_directory { self.folder.sync_all() } else { Ok(()) }
        };
        delivered()
            .map_err(|e| blocks::explain(e, false))
            .with_context(|| format!("can't deliver the message {}", new.display()))?;
        self.next += 1;
        self.live.push(id);
        Ok(size as u64)
    }

    /// Reads a whole message; gives its size.
    #[inline]
    fn read(&mut self, id: u64) -> anyhow::Result<u64> {
        let size = size_of(self.seed, id);
        let path = self.new.of(id, size);
        let message = &mut self.buffer[..size];
        File::open(path)
            .and_then(|mut file| file.read_exact(message))
            .map_err(|e| blocks::explain(e, false))
            .with_context(|| format!("can't read the message {}", path.display()))?;
        anyhow::ensure!(blocks::stamped(message, self.seed, id, id), "message {id} came back as something else");
        Ok(size as u64)
    }

    #[inline]
    fn remove(&mut self, at: usize) -> anyhow::Result<()> {
        let id = self.live[at];
        let path = self.new.of(id, size_of(self.seed, id));
        fs::remove_file(path).with_context(|| format!("can't remove the message {}", path.display()))?;
        self.live.swap_remove(at);
        if id < self.messages {
            self.removed.push(id);
        }
        Ok(())
    }

    /// Reads the names of the folder's messages and counts them.
    #[inline]
    fn list(&mut self) -> anyhow::Result<()> {
        let seen =
            count(&self.listed).with_context(|| format!("can't list the folder {}", self.listed.to_string_lossy()))?;
        anyhow::ensure!(seen == self.live.len(), "the folder lists {seen} messages and has {}", self.live.len());
        Ok(())
    }

    /// One operation; gives the bytes that it moved.
    #[inline]
    fn perform(&mut self, choice: &mut Pcg64Mcg) -> anyhow::Result<u64> {
        let act = self.kind.unwrap_or_else(|| match content::below(choice, 100) {
            n if n < DELIVERIES => Act::Deliver,
            n if n < DELIVERIES + READS => Act::Read,
            n if n < DELIVERIES + READS + REMOVALS => Act::Remove,
            _ => Act::List,
        });
        match act {
            Act::List => self.list().map(|()| 0),
            // A folder from which everything was removed can only grow.
            _ if act == Act::Deliver || self.live.is_empty() => self.deliver(),
            _ => {
                let at = content::below(choice, self.live.len() as u64) as usize;
                if act == Act::Read { self.read(self.live[at]) } else { self.remove(at).map(|()| 0) }
            }
        }
    }

    /// Back to the folder that every burst starts from.
    fn restore(&mut self) -> anyhow::Result<()> {
        let tmp = self.root.join("tmp");
        // What a delivery that failed has left there.
        for left in fs::read_dir(&tmp).with_context(|| format!("can't list {}", tmp.display()))? {
            let path = left.with_context(|| format!("can't list {}", tmp.display()))?.path();
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
        }
        if self.next == self.messages && self.removed.is_empty() {
            return Ok(());
        }
        while let Some(id) = self.live.pop() {
            if id >= self.messages {
                let path = self.new.of(id, size_of(self.seed, id));
                fs::remove_file(path).with_context(|| format!("can't remove the message {}", path.display()))?;
            }
        }
        while let Some(id) = self.removed.pop() {
            self.put(id)?;
        }
        self.live.extend(0..self.messages);
        self.next = self.messages;
        flush(&self.folder)
    }

    /// Compares the folder's names and all messages with what the seed says; gives the checksum of all, in their order.
    fn compare(&mut self) -> anyhow::Result<u32> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(self.root.join("new")).context("can't list the folder")? {
            found.insert(entry.context("can't list the folder")?.file_name());
        }
        // Bodies of its own, so that what was damaged in memory before writing is found as well.
        let mut pool = Pool::new(self.seed, LARGEST);
        let mut sum = crc32fast::Hasher::new();
        let mut ids = self.live.clone();
        ids.sort_unstable();
        for id in &ids {
            let size = size_of(self.seed, *id);
            let path = self.new.of(*id, size);
            let name = path.file_name().expect("the path of a message ends with its name");
            anyhow::ensure!(found.remove(name), "the folder doesn't list the message {}", path.display());
            let message = fs::read(path).with_context(|| format!("can't read the message {}", path.display()))?;
            anyhow::ensure!(message == pool.block(*id, *id)[..size], "message {id} doesn't hold what was delivered");
            sum.update(name.as_encoded_bytes());
            sum.update(&message);
        }
        if let Some(name) = found.first() {
            anyhow::bail!("the folder lists {}, which was never delivered or was removed", name.display());
        }
        Ok(sum.finalize())
    }
}

impl Prepared for Delivering {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.restore()?;
        let planned = watch.planned().min(NOTED) as usize;
        self.live.reserve(planned);
        self.removed.reserve(planned.min(self.messages as usize));
        let mut choice = content::generator(self.seed, STREAM, watch.number());
        watch.start();
        while watch.running() {
            let bytes = self.perform(&mut choice)?;
            watch.lap(bytes);
        }
        self.drawn = content::state(&choice);
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn durable_writes(&self, _operations: u64) -> u64 {
        self.next - self.messages
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        if self.next != self.messages || !self.removed.is_empty() {
            self.compare()?;
        }
        let (delivered, removed) = (self.next - self.messages, self.removed.len());
        self.restore()?;
        let mut digest = Digest::new("disk/maildir", self.seed);
        digest.add(&self.compare()?.to_le_bytes());
        // The same first deliveries, whatever came before.
        for _ in 0..CHECKED {
            let id = self.next;
            let size = self.deliver()? as usize;
            self.read(id)?;
            digest.add(&self.buffer[..size]);
        }
        self.list()?;
        self.restore()?;
        let detail = format!("{} messages compared, {delivered} delivered and {removed} removed before", self.messages);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let bytes: usize = (0..self.messages).map(|id| size_of(self.seed, id)).sum();
        BTreeMap::from([
            ("messages".into(), self.messages.to_string()),
            ("message_bytes".into(), bytes.to_string()),
            ("fsync".into(), self.fsync.to_string()),
            ("fsync_directory".into(), self.fsync_directory.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_mail() {
        let mut sizes: Vec<usize> = (0..10_000).map(|id| size_of(1, id)).collect();
        sizes.sort_unstable();
        assert!(sizes[0] >= 2_000 && sizes[9_999] < LARGEST);
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((9_500..10_100).contains(&mean), "{mean}");
        assert!((5_600..6_000).contains(&sizes[5_000]), "{}", sizes[5_000]);
    }

    #[test]
    fn shares_leave_something_to_list() {
        assert_eq!(DELIVERIES + READS + REMOVALS, 95);
    }

    #[test]
    fn names_are_counted_and_a_missing_directory_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path =
            |name: &str| CString::new(directory.path().join(name).as_os_str().as_encoded_bytes()).expect("no zero");
        for n in 0..700 {
            File::create(directory.path().join(n.to_string())).expect("made");
        }
        assert_eq!(count(&path("")).expect("listed"), 700);
        assert_eq!(count(&path("nowhere")).expect_err("not there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn too_many_files_are_refused_before_any_is_made() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        enough_inodes(here, 1).expect("one is there");
        let room = nix::sys::statvfs::statvfs(here).expect("asked");
        if room.files() > 0 {
            let error = enough_inodes(here, u64::MAX).expect_err("nobody has so many");
            assert!(error.to_string().contains("inodes free; set fewer"), "{error}");
        }
    }
}
