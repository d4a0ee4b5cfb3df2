//! One run measures on a host at a time: two would each be in the other's figures.
//!
//! Whose turn it is a lock says, on a file that has the same place for everybody. Another user's is seen too, since a lock needs
//! no right to write. What runs in a container with a `/tmp` of its own isn't seen, but where `TAREBENCH_LOCK` names a file that both
//! share.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Where it is, whatever TMPDIR says.
const PLACE: &str = "/tmp/tarebench.lock";

/// The variable that names another place.
const VARIABLE: &str = "TAREBENCH_LOCK";

/// How often the file may go away between opening and locking it.
const TRIES: u32 = 100;

/// The right to measure; given back on drop, and by the kernel where we are killed.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    lock: Flock<File>,
}

/// Another run that is measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherRun {
    /// Its process, where the kernel says.
    pub pid: Option<u32>,
}

/// Why nobody gets the turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTurn {
    /// Another run has it.
    Taken(OtherRun),
    /// Nobody can say whether another one has it, since the lock can't be looked at: why.
    Unseen(String),
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
    /// Takes it where nobody has it.
    ///
    /// # Errors
    /// Who has it, or that nobody can say.
    pub fn take() -> Result<Self, NoTurn> {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        Self::take_at(&named.map_or_else(|| PathBuf::from(PLACE), PathBuf::from))
    }

    /// The same with the lock in another place.
    ///
    /// # Errors
    /// Who has it, or that nobody can say.
    pub fn take_at(path: &Path) -> Result<Self, NoTurn> {
        let unseen = |because: String| NoTurn::Unseen(format!("{}: {because}", path.display()));
        for _ in 0..TRIES {
            let file = match open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(unseen(e.to_string())),
            };
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, e)| match e {
                Errno::EWOULDBLOCK => NoTurn::Taken(OtherRun { pid: holder(&file) }),
                e => unseen(e.desc().to_string()),
            })?;
            // One who ended meanwhile has removed it: then it is nobody's lock any more.
            if same(&lock, path) {
                return Ok(Self { path: path.to_path_buf(), lock });
            }
        }
        Err(unseen("it goes away whenever it is looked at".into()))
    }

    /// Removes the file of a lock that nobody holds: who was killed has left it.
    pub fn clear() {
        if let Err(e) = Self::take() {
            log::debug!("the lock of runs stays: {e:?}");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What has something in it was not made by us.
        if self.lock.metadata().map_or(true, |about| about.len() > 0) {
            return;
        }
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
            let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
            // Whatever the umask is: who can't read it can't see that it is locked.
            made.set_permissions(fs::Permissions::from_mode(0o644))?;
            Ok(made)
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
        let mine = Turn::take_at(&path).expect("nobody has it");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "others can look at it");
        let Err(NoTurn::Taken(other)) = Turn::take_at(&path) else { panic!("it is taken") };
        if cfg!(target_os = "linux") {
            assert_eq!(other.to_string(), format!("another run (process {})", std::process::id()));
        }
        drop(mine);
        assert!(!path.exists(), "nothing stays");
        drop(Turn::take_at(&path).expect("it is free again"));
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
        let unseen = |path: &Path| matches!(Turn::take_at(path), Err(NoTurn::Unseen(why)) if why.contains("lock"));
        assert!(unseen(&path));
        assert_eq!(fs::read_to_string(&letter).unwrap(), "keep me");
        assert!(unseen(&folder.path().join("no such folder/lock")));
    }

    #[test]
    fn a_file_that_is_somebodys_stays() {
        let folder = tempfile::tempdir().unwrap();
        let letter = folder.path().join("letter");
        fs::write(&letter, "keep me").unwrap();
        drop(Turn::take_at(&letter).expect("nobody has it"));
        assert_eq!(fs::read_to_string(&letter).unwrap(), "keep me");
    }

    #[test]
    fn the_kernels_table_names_the_holder() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n2: FLOCK  ADVISORY  WRITE 123 fe:00:42 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 fe:00:43 0 EOF\n";
        assert_eq!(holder_in(table, 42), Some(123));
        assert_eq!(holder_in(table, 43), None);
    }
}
