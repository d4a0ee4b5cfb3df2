//! `disk/metadata`: an operation is about a file rather than its content: open and close one, ask for its size, or create one and
//! remove it again, in a directory of many.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use rand_pcg::Pcg64Mcg;

use super::blocks;
use super::maildir::{enough_inodes, flush};
use crate::content::{self, Digest};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

/// Files that the check value asks for the size of.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x4d54;
const CONTENT: u64 = 0x4d43;
/// Bytes of the smallest file; the others have up to 999 more.
const SMALLEST: usize = 32;
/// Names that are created and removed, in turn.
const FRESH: usize = 64;

/// Percent of the operations of `kind = mix`: `stat` (the median is one of theirs), open and close; the others create and unlink.
const STATS: u64 = 60;
const OPENS: u64 = 30;

crate::words! {
    /// Kinds of operations.
    enum Operations { Mix = "mix", Stat = "stat", Open = "open", Create = "create" }
}

crate::settings! {
    struct Options {
        /// Files in the directory
        files: u64 = 1000 in 1..=1_000_000,
        /// What an operation is: stat; open and close; create, close and unlink; mix: 60, 30 and 10 % of them
        kind: Operations = "mix",
    }
}

/// The workload.
#[derive(Debug)]
pub struct Metadata;

impl Workload for Metadata {
    fn name(&self) -> &'static str {
        "disk/metadata"
    }

    fn about(&self) -> &'static str {
        "Asks for sizes of files, opens and closes them, and creates and removes them, in a directory of many"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn batchable(&self) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        let files = Options::read(settings).files;
        // A block and an inode each; the path of each in memory.
        Needs { disk: files * (4096 + 512), memory: files * 512 }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let directory = place.directory.join("metadata");
        fs::create_dir_all(&directory)
            .map_err(|e| blocks::explain(e, false))
            .with_context(|| format!("can't make the directory {}", directory.display()))?;
        let Options { files, kind } = Options::read(&place.settings);
        enough_inodes(&directory, files)?;
        for number in 0..files {
            let path = directory.join(name(number));
            File::create(&path)
                .and_then(|mut file| file.write_all(&content_of(place.seed, number)))
                .map_err(|e| blocks::explain(e, false))
                .with_context(|| format!("can't write {}", path.display()))?;
        }
        flush(&File::open(&directory).context("can't open the directory")?)?;
        let path = |name: String| -> anyhow::Result<CString> {
            CString::new(directory.join(name).as_os_str().as_bytes()).context("a path has no zero byte")
        };
        let kind = match kind {
            Operations::Stat => Some(Act::Stat),
            Operations::Open => Some(Act::Open),
            Operations::Create => Some(Act::Create),
            Operations::Mix => None,
        };
        Ok(Box::new(Asking {
            paths: (0..files).map(|number| path(name(number))).collect::<Result<_, _>>()?,
            fresh: (0..FRESH).map(|n| path(format!("fresh{n:02}"))).collect::<Result<_, _>>()?,
            directory,
            kind,
            seed: place.seed,
            created: 0,
            broken: false,
            drawn: 0,
        }))
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Stat,
    Open,
    Create,
}

fn name(number: u64) -> String {
    format!("file{number:06}")
}

/// Bytes of a file.
#[inline]
fn size_of(number: u64) -> usize {
    SMALLEST + (number % 1000) as usize
}

fn content_of(seed: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; size_of(number)];
    content::fill(&mut content::generator(seed, CONTENT, number), &mut bytes);
    bytes
}

struct Asking {
    directory: PathBuf,
    paths: Vec<CString>,
    /// Of what is created and removed.
    fresh: Vec<CString>,
    /// The kind of every operation; `None` for a mix.
    kind: Option<Act>,
    seed: u64,
    created: usize,
    /// The last burst failed, and may have left a file.
    broken: bool,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Asking {
    #[inline]
    fn stat(&self, number: u64) -> anyhow::Result<()> {
        let path = self.paths[number as usize].as_c_str();
        let found = nix::sys::stat::stat(path).with_context(|| format!("can't stat {}", path.to_string_lossy()))?;
        anyhow::ensure!(found.st_size as usize == size_of(number), "{} has another size", path.to_string_lossy());
        Ok(())
    }

    #[inline]
    fn open(&self, number: u64) -> anyhow::Result<()> {
        let path = self.paths[number as usize].as_c_str();
        nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| blocks::explain(e.into(), false))
            .with_context(|| format!("can't open {}", path.to_string_lossy()))
            .map(drop)
    }

    #[inline]
    fn create(&mut self) -> anyhow::Result<()> {
        let path = self.fresh[self.created % FRESH].as_c_str();
        self.created += 1;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o644))
            .map(drop)
            .map_err(|e| blocks::explain(e.into(), false))
            .with_context(|| format!("can't create {}", path.to_string_lossy()))?;
        nix::unistd::unlink(path).with_context(|| format!("can't remove {}", path.to_string_lossy()))
    }

    #[inline]
    fn perform(&mut self, choice: &mut Pcg64Mcg) -> anyhow::Result<()> {
        let act = self.kind.unwrap_or_else(|| match content::below(choice, 100) {
            n if n < STATS => Act::Stat,
            n if n < STATS + OPENS => Act::Open,
            _ => Act::Create,
        });
        let files = self.paths.len() as u64;
        match act {
            Act::Stat => self.stat(content::below(choice, files)),
            Act::Open => self.open(content::below(choice, files)),
            Act::Create => self.create(),
        }
    }

    /// Removes what a burst that failed may have left.
    fn restore(&mut self) {
        if std::mem::take(&mut self.broken) {
            for path in &self.fresh {
                // Most of them are not there.
                let _ = nix::unistd::unlink(path.as_c_str());
            }
        }
        self.created = 0;
    }

    /// Compares the directory's names and all content with what the seed says; gives the checksum of all, in their order.
    fn compare(&self) -> anyhow::Result<u32> {
        let mut found: BTreeSet<OsString> = BTreeSet::new();
        for entry in fs::read_dir(&self.directory).context("can't list the directory")? {
            found.insert(entry.context("can't list the directory")?.file_name());
        }
        let mut sum = crc32fast::Hasher::new();
        for number in 0..self.paths.len() as u64 {
            let name = name(number);
            let path = self.directory.join(&name);
            anyhow::ensure!(found.remove(Path::new(&name).as_os_str()), "the directory doesn't list {name}");
            let bytes = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            anyhow::ensure!(bytes == content_of(self.seed, number), "{name} doesn't hold what was written to it");
            sum.update(&bytes);
        }
        match found.first() {
            None => Ok(sum.finalize()),
            Some(name) => anyhow::bail!("the directory lists {}, which should have been removed", name.display()),
        }
    }
}

impl Prepared for Asking {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.restore();
        let mut choice = content::generator(self.seed, STREAM, watch.number());
        self.broken = true;
        watch.start();
        while watch.running() {
            self.perform(&mut choice)?;
            watch.lap(0);
        }
        self.broken = false;
        self.drawn = content::state(&choice);
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        self.restore();
        let mut digest = Digest::new("disk/metadata", self.seed);
        digest.add(&self.compare()?.to_le_bytes());
        let mut choice = content::generator(self.seed, STREAM, 0);
        for _ in 0..CHECKED {
            let number = content::below(&mut choice, self.paths.len() as u64);
            self.stat(number)?;
            self.open(number)?;
            self.create()?;
            digest.add(&number.to_le_bytes());
        }
        let sum = self.compare().context("after the check's own operations")?;
        digest.add(&sum.to_le_bytes());
        Ok(Check { value: digest.value(), detail: format!("{} files compared", self.paths.len()) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([("files".into(), self.paths.len().to_string())])
    }
}
