//! The list of all that a run has made on the host, written down before it is made: after a SIGKILL the next run removes it
//! from here.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Name of the journal in a scratch directory.
pub(crate) const JOURNAL: &str = "journal";

/// One thing on the host that outlives a killed harness. Removing it twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Made {
    /// A named network namespace, with the links in it.
    Netns(String),
    /// A cgroup below the root of every hierarchy, with its children.
    Cgroup(String),
    /// A directory and all that is in it.
    Directory(#[serde(with = "as_bytes")] PathBuf),
    /// An interface in the host's own network stack, with the one that it is paired with.
    Interface(String),
    /// An address that the host's loopback has besides its own.
    Alias(Ipv4Addr),
    /// Something of an engine's own: the command that removes it, program first.
    Engine(Vec<String>),
}

/// A path in JSON: as text where it is text, else as an array of its bytes.
mod as_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        let name =
            path.to_str().map_or_else(|| Name::Bytes(path.as_os_str().as_bytes().into()), |t| Name::Text(t.into()));
        name.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match Name::deserialize(from)? {
            Name::Text(text) => text.into(),
            Name::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

impl Made {
    /// The command that removes it, program first; `None` where that takes no program, or more than one.
    pub(crate) fn removal(&self) -> Option<Vec<String>> {
        let words = |all: &[&str]| Some(all.iter().map(|w| w.to_string()).collect());
        match self {
            Made::Engine(argv) => Some(argv.clone()),
            Made::Interface(name) => words(&["ifconfig", name, "destroy"]),
            Made::Alias(address) => words(&["ifconfig", "lo0", "inet", &format!("{address}/32"), "-alias"]),
            Made::Netns(_) | Made::Cgroup(_) | Made::Directory(_) => None,
        }
    }
}

/// The journal of a live run. Its lock tells the living from the dead: the kernel drops it with the process.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<Flock<File>>,
}

impl Journal {
    /// Opens and locks the journal of a scratch directory.
    ///
    /// # Errors
    /// When it can't be made, or another process holds it.
    pub(crate) fn open(scratch: &Path) -> anyhow::Result<Self> {
        Self::at(&scratch.join(JOURNAL))
    }

    /// Opens and locks a journal of this name.
    ///
    /// # Errors
    /// See [`Journal::open`].
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .with_context(|| format!("can't make {}", path.display()))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, e)| e)
            .with_context(|| format!("can't lock {}: does another run use it?", path.display()))?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Writes down what is about to be made.
    ///
    /// # Errors
    /// When the line can't be written; the thing should then not be made.
    pub fn note(&self, made: &Made) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(made)?;
        line.push('\n');
        let mut file = self.file.lock().map_err(|_| anyhow::anyhow!("the journal's lock is poisoned"))?;
        file.write_all(line.as_bytes()).context("can't write the journal in the scratch directory")
    }
}

/// All entries of a journal, oldest first. A last line that was cut by the kill is left out: what it names was not made yet.
pub(crate) fn entries(scratch: &Path) -> Vec<Made> {
    entries_of(&scratch.join(JOURNAL))
}

/// The same of a journal of this name.
pub(crate) fn entries_of(journal: &Path) -> Vec<Made> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn entries_come_back_and_a_cut_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let made = [
            Made::Netns("tarebench-x-peer".into()),
            Made::Engine(vec!["runc".into(), "delete".into()]),
            Made::Interface("tarex07p".into()),
            Made::Alias(Ipv4Addr::new(198, 19, 1, 2)),
            Made::Directory("/data/tarebench-x-box".into()),
            Made::Directory(OsString::from_vec(b"/d\xff\xfe/tarebench-x-box".into()).into()),
        ];
        for m in &made {
            journal.note(m).unwrap();
        }
        journal.file.lock().unwrap().write_all(b"{\"cgr").unwrap();
        assert_eq!(entries(dir.path()), made);
        assert!(Journal::open(dir.path()).is_err(), "a second owner must be refused");
    }

    #[test]
    fn what_has_no_name_of_the_runs_is_removed_by_ifconfig() {
        let removal = |made: Made| made.removal().map(|words| words.join(" "));
        assert_eq!(removal(Made::Interface("tarex07p".into())).as_deref(), Some("ifconfig tarex07p destroy"));
        let alias = removal(Made::Alias(Ipv4Addr::new(198, 19, 1, 2)));
        assert_eq!(alias.as_deref(), Some("ifconfig lo0 inet 198.19.1.2/32 -alias"));
        assert_eq!(removal(Made::Netns("tarebench-x-peer".into())), None);
    }
}
