//! Where an environment's data lies: what a suite may ask for, and what a launch states of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use workloads::facts::{DataFacts, Flushes, Keeper, Kernel};
use workloads::settings::{Setting, Value as _};
use workloads::words;

use super::Stage;
use super::disk::Disk;

words! {
    /// Where data lies in an environment that runs on the host's kernel. A runner offers some of these.
    pub enum Data {
        /// The data directory itself, mounted inside.
        Bind = "bind",
        /// An overlay whose upper layer lies in the data directory.
        Overlay = "overlay",
        /// Memory.
        Tmpfs = "tmpfs",
        /// The environment's own root directory, beside the data directory.
        Root = "root",
        /// A volume that the engine keeps.
        Volume = "named",
        /// The container's writable layer.
        Layer = "layer",
    }
}

/// The setting of a runner that can show a directory in several ways.
pub const DATA: Setting =
    Setting::new("data", Data::KIND).with_words(&["bind", "overlay", "tmpfs"]).with_default("bind").with_about(
        "Where data lies: a bind mount of the data directory, an overlay whose upper layer is there, or memory",
    );

impl Data {
    /// The path to it on the host's file system `below`, in words.
    pub fn describe(self, below: &str) -> String {
        match self {
            Self::Bind => format!("bind mount of {below}"),
            Self::Overlay => format!("overlay with its upper layer on {below}"),
            Self::Tmpfs => "tmpfs: memory".into(),
            Self::Root => format!("the container's root directory on {below}"),
            Self::Volume => format!("a named volume on {below}"),
            Self::Layer => format!("the container's writable layer on {below}"),
        }
    }

    /// The same, with what it stands on as facts.
    pub fn on(self, stage: &Stage) -> DataPath {
        match self {
            Self::Tmpfs => DataPath::in_memory(self.describe("")),
            _ => DataPath::on_host(stage, self.describe(&stage.data_file_system())),
        }
    }
}

/// The path from an environment to its data, as a launch states it: in words, for the report, and as facts, to be judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataPath {
    /// From the inside down to the disk: `bind mount of ext4 on vda`.
    pub words: String,
    /// Who keeps what is written, and what becomes of a flush.
    pub facts: DataFacts,
}

impl DataPath {
    /// On the disk under the stage's data, by the host's kernel, which flushes pass on the way.
    pub fn on_host(stage: &Stage, words: impl Into<String>) -> Self {
        let keeper = match stage.disk() {
            Some(disk) if disk.is_memory() => Keeper::Memory,
            Some(_) => Keeper::Disk,
            None => Keeper::Unknown,
        };
        let device = stage.disk().and_then(|disk| disk.device.clone());
        let forgets = stage.disk().and_then(Disk::forgets);
        let facts = DataFacts { keeper, flushes: Flushes::Passed, kernel: Kernel::Host, device, forgets };
        Self { words: words.into(), facts }
    }

    /// On a disk that a virtual machine's monitor makes of a file in the data directory.
    pub fn on_image(stage: &Stage, words: impl Into<String>, flushes: Flushes) -> Self {
        let on_host = Self::on_host(stage, words);
        Self { facts: DataFacts { flushes, kernel: Kernel::Guest, ..on_host.facts }, ..on_host }
    }

    /// In memory of the host's, where a flush has nowhere to go.
    pub fn in_memory(words: impl Into<String>) -> Self {
        let facts = DataFacts { keeper: Keeper::Memory, flushes: Flushes::Forgotten, ..DataFacts::default() };
        let facts = DataFacts { kernel: Kernel::Host, ..facts };
        Self { words: words.into(), facts }
    }

    /// On the disk under a directory that an engine keeps, where it says which; what becomes of a flush there is its own affair.
    pub fn somewhere(directory: &Path, words: impl Into<String>) -> Self {
        let disk = Disk::under(directory).inspect_err(|e| log::debug!("{e:#}")).ok();
        let device = disk.and_then(|disk| disk.device);
        Self { words: words.into(), facts: DataFacts { device, ..DataFacts::default() } }
    }

    /// Where nobody can know before somebody looks.
    pub fn unknown(words: impl Into<String>) -> Self {
        Self { words: words.into(), facts: DataFacts::default() }
    }

    /// With more words behind those that there are.
    #[must_use]
    pub fn noting(mut self, words: &str) -> Self {
        self.words += words;
        self
    }

    /// With another answer to flushes.
    #[must_use]
    pub fn with_flushes(mut self, flushes: Flushes) -> Self {
        self.facts.flushes = flushes;
        self
    }

    /// With another keeper: what is written stays in memory, or in a file that is never flushed.
    #[must_use]
    pub fn with_keeper(mut self, keeper: Keeper) -> Self {
        self.facts.keeper = keeper;
        self
    }
}

/// The directories of an overlay over an empty one, for an engine that mounts it.
#[derive(Debug)]
pub struct Layers {
    /// The directory under it, with nothing in it.
    pub lower: PathBuf,
    /// The layer that takes everything written.
    pub upper: PathBuf,
    /// overlayfs's working directory.
    pub work: PathBuf,
}

impl Layers {
    /// Makes them below the data directory.
    ///
    /// # Errors
    /// When they can't be made.
    pub fn make(stage: &Stage) -> anyhow::Result<Self> {
        let at = |name: &str| stage.data().join(name);
        let layers = Self { lower: at("lower"), upper: at("upper"), work: at("work") };
        for layer in [&layers.lower, &layers.upper, &layers.work] {
            fs::create_dir_all(layer).with_context(|| format!("can't make {}", layer.display()))?;
        }
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_stated_by_the_disk_under_it() {
        let (_data, mut stage) = Stage::of_a_test("da");
        let mut on = |disk: Option<Disk>| {
            stage.disk = disk;
            let image = DataPath::on_image(&stage, "an image", Flushes::WrittenThrough).facts;
            (Data::Bind.on(&stage).facts, Data::Tmpfs.on(&stage).facts, image)
        };
        let disk = |file_system: &str, device: Option<&str>| {
            Some(Disk { file_system: file_system.into(), options: String::new(), device: device.map(Into::into) })
        };
        let (bound, memory, image) = on(disk("ext4", Some("vda")));
        let passed = DataFacts {
            keeper: Keeper::Disk,
            flushes: Flushes::Passed,
            kernel: Kernel::Host,
            device: Some("vda".into()),
            forgets: None,
        };
        assert_eq!(bound, passed);
        assert_eq!(
            image,
            DataFacts { flushes: Flushes::WrittenThrough, kernel: Kernel::Guest, ..passed },
            "the guest's kernel answers, on the same disk"
        );
        assert_eq!((memory.keeper, memory.flushes, memory.device), (Keeper::Memory, Flushes::Forgotten, None));
        let (bound, _, image) = on(disk("tmpfs", None));
        assert_eq!((bound.keeper, image.keeper), (Keeper::Memory, Keeper::Memory), "an image in memory is in memory");
        assert_eq!(bound.forgets.as_deref(), Some("tmpfs is memory"));
        assert_eq!(on(None).0.keeper, Keeper::Unknown);
    }

    #[test]
    fn where_data_lies_is_said_in_the_words_of_reports() {
        let all = Data::WORDS.iter().map(|word| Data::parse(word).describe("ext4 on vda"));
        assert_eq!(
            all.collect::<Vec<_>>().join("; "),
            "bind mount of ext4 on vda; overlay with its upper layer on ext4 on vda; tmpfs: memory; the container's root \
             directory on ext4 on vda; a named volume on ext4 on vda; the container's writable layer on ext4 on vda"
        );
    }
}
