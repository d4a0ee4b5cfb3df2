//! One run measures on a host at a time: two would each be in the other's figures.
//!
//! Whose turn it is a lock says, on a file that has the same place for everybody. Another user's is seen too, since a lock needs
//! no right to write. What runs in a container with a `/tmp` of its own isn't seen.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Where it is, whatever TMPDIR says.
const PLACE: &str = "/tmp/tarebench.lock";

/// How often the file may go away between opening and locking it.
const TRIES: u32 = 100;

/// The right to measure; given back on drop, and by the kernel where we are killed.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Another run that is measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherRun {
    /// Its process, where the kernel says.
    pub pid: Option<u32>,
}

impl std::fmt::Display for OtherRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "another run (process {pid})"),
            None => f.write_str("another run"),
        }
    }
}

impl Turn {
    /// Takes it where nobody has it. `None` where nobody can say, since the file can't be opened.
    ///
    /// # Errors
    /// Who has it.
    pub fn take() -> Result<Option<Self>, OtherRun> {
        Self::take_at(Path::new(PLACE))
    }

    fn take_at(path: &Path) -> Result<Option<Self>, OtherRun> {
        for _ in 0..TRIES {
            let file = match open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => {
                    log::info!("whether another run is measuring can't be seen: {}: {e}", path.display());
                    return Ok(None);
                }
            };
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map_err(|(file, _)| OtherRun { pid: holder(&file) })?;
            // One who ended meanwhile has removed it: then it is nobody's lock any more.
            if same(&lock, path) {
                return Ok(Some(Self { path: path.to_path_buf(), _lock: lock }));
            }
        }
        Ok(None)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // While it is still locked. Another user's can't be removed, and does no harm.
        if let Err(e) = fs::remove_file(&self.path) {
            log::debug!("{}: {e}", self.path.display());
        }
    }
}

/// In a folder where everybody may write: no link is followed, and nothing that isn't ours is written to.
fn open(path: &Path) -> io::Result<File> {
    let there = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match there {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
        }
        other => other,
    }
}

fn same(file: &File, path: &Path) -> bool {
    let number = |about: fs::Metadata| (about.dev(), about.ino());
    let (open, there) = (file.metadata().map(number), fs::symlink_metadata(path).map(number));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

/// The process that holds a lock on this file, by the kernel's table (proc(5), `/proc/locks`).
fn holder(file: &File) -> Option<u32> {
    let about = file.metadata().ok()?;
    holder_in(&fs::read_to_string("/proc/locks").ok()?, about.ino())
}

/// The device's number there is that of the file system, which isn't always the one that a file says: the file's own has to do.
fn holder_in(table: &str, inode: u64) -> Option<u32> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        (file.rsplit(':').next()? == inode.to_string()).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_turn_and_the_other_knows_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mine = Turn::take_at(&path).expect("nobody has it").expect("it can be seen");
        let other = Turn::take_at(&path).expect_err("it is taken");
        if cfg!(target_os = "linux") {
            assert_eq!(other.to_string(), format!("another run (process {})", std::process::id()));
        }
        drop(mine);
        assert!(!path.exists(), "nothing stays");
        drop(Turn::take_at(&path).expect("it is free again").expect("it can be seen"));
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "").unwrap();
        let old = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(!same(&old, &path));
        assert!(same(&open(&path).unwrap(), &path));
    }

    #[test]
    fn where_somebody_planted_a_link_nothing_is_known_and_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let (path, letter) = (folder.path().join("lock"), folder.path().join("letter"));
        fs::write(&letter, "keep me").unwrap();
        std::os::unix::fs::symlink(&letter, &path).unwrap();
        assert!(Turn::take_at(&path).expect("nobody has it").is_none());
        assert_eq!(fs::read_to_string(&letter).unwrap(), "keep me");
        assert!(Turn::take_at(&folder.path().join("no such folder/lock")).expect("nobody").is_none());
    }

    #[test]
    fn the_kernels_table_names_the_holder() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 123 fe:00:42 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 fe:00:43 0 EOF\n";
        assert_eq!(holder_in(table, 42), Some(123));
        assert_eq!(holder_in(table, 43), None);
    }
}
