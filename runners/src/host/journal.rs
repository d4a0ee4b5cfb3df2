//! The list of all that a run has made on the host, written down before it is made: after a SIGKILL the next run removes it
//! from here.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::machine::tune::Setting;

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
    /// A cgroup beside the run's own that holds, as long as the run lives, what was in the group above.
    Leaf(String),
    /// A directory and all that is in it.
    Directory(#[serde(with = "as_bytes")] PathBuf),
    /// An interface in the host's own network stack, with the one that it is paired with.
    Interface(String),
    /// An address that the host's loopback has besides its own.
    Alias(Ipv4Addr),
    /// Something of an engine's own: the command that removes it, program first.
    Engine(Vec<String>),
    /// A setting of the kernel that was changed for the time of the run.
    Setting(Setting),
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
            Made::Netns(_) | Made::Cgroup(_) | Made::Leaf(_) | Made::Directory(_) | Made::Setting(_) => None,
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
            // Whoever may write it says what is removed.
            .mode(0o644)
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

/// Opens a journal to do what it says; `None` where there is none.
///
/// # Errors
/// When it can't be opened, or anybody else may have written it: its folder may be one that others put files into.
pub(crate) fn open_ours(path: &Path) -> anyhow::Result<Option<File>> {
    // A pipe of that name would keep us waiting.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("can't open {}", path.display()))?,
    };
    let about = file.metadata().with_context(|| format!("can't look at {}", path.display()))?;
    let shown = path.display();
    ensure!(about.is_file(), "{shown} is no file");
    ensure!(about.uid() == geteuid().as_raw(), "{shown} belongs to user {}", about.uid());
    ensure!(about.mode() & 0o022 == 0, "{shown} may be written by others");
    // A second name may be a stranger's, for a file that was never a journal.
    ensure!(about.nlink() == 1, "{shown} has another name besides");
    Ok(Some(file))
}

/// All entries of an open journal, oldest first. A last line that was cut by the kill is left out: what it names was not made yet.
pub(crate) fn entries(mut journal: &File) -> Vec<Made> {
    let mut text = String::new();
    if let Err(e) = journal.read_to_string(&mut text) {
        log::warn!("a journal can't be read: {e}");
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The entries of a journal of this name.
#[cfg(test)]
pub(crate) fn entries_of(journal: &Path) -> Vec<Made> {
    File::open(journal).map(|file| entries(&file)).unwrap_or_default()
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
        assert_eq!(entries_of(&dir.path().join(JOURNAL)), made);
        assert!(Journal::open(dir.path()).is_err(), "a second owner must be refused");
    }

    #[test]
    fn a_journal_that_somebody_else_may_have_written_is_refused() {
        use std::fs::{self, Permissions};
        use std::os::unix::fs::{PermissionsExt, chown, symlink};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JOURNAL);
        let refused = || open_ours(&path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(open_ours(&path).unwrap().is_none(), "there is none");
        drop(Journal::at(&path).unwrap());
        assert!(open_ours(&path).unwrap().is_some(), "as a run makes it");
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(refused().contains("written by others"), "{mode:o}: {}", refused());
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(&path, dir.path().join("second")).unwrap();
        assert!(refused().contains("another name"), "{}", refused());
        fs::remove_file(&path).unwrap();
        symlink("second", &path).unwrap();
        assert!(refused().contains("can't open"), "{}", refused());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(refused().contains("is no file"), "{}", refused());
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a journal away");
            return;
        }
        fs::rename(dir.path().join("second"), &path).unwrap();
        chown(&path, Some(65534), None).unwrap();
        assert!(refused().contains("belongs to user 65534"), "{}", refused());
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
