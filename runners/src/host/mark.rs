//! Signs of a run where others look for what it left: its journal lies in a directory for scratch, which another user's TMPDIR hides
//! and a boot may empty.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::journal::{Journal, Made};
use super::scratch;

/// The name of a mark in a data directory.
pub(crate) fn name(id: &str) -> String {
    format!("tarebench-{id}.journal")
}

/// A journal in each data directory of the run, of the directories in it alone. They go with it.
#[derive(Debug, Default)]
pub(crate) struct Marks(Mutex<BTreeMap<PathBuf, Journal>>);

impl Marks {
    /// Writes down a directory that is about to be made in a data directory. Without a mark the run's journal still knows it.
    pub(crate) fn note(&self, id: &str, data_dir: &Path, directory: &Path) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = data_dir.join(name(id));
        if !marks.contains_key(&path) {
            match Journal::at(&path) {
                Ok(journal) => drop(marks.insert(path.clone(), journal)),
                // One that can't be locked would pass for a dead run's.
                Err(e) => {
                    log::debug!("no mark: {e:#}");
                    remove(&path);
                }
            }
        }
        let noted = marks.get(&path).map(|journal| journal.note(&Made::Directory(directory.to_path_buf())));
        if let Some(Err(e)) = noted {
            log::debug!("{}: {e:#}", path.display());
        }
    }

    /// Removes the mark of a data directory that ends before the run does: an open file would hold its file system.
    pub(crate) fn forget(&self, id: &str, data_dir: &Path) {
        let path = data_dir.join(name(id));
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.contains_key(&path) {
            // While it is still locked.
            remove(&path);
            marks.remove(&path);
        }
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // While they are still locked.
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).keys().for_each(|path| remove(path));
    }
}

/// A link to the scratch directory in a place where everybody's runs look; `None` where scratch lies in one. It goes with the run.
#[derive(Debug)]
pub(crate) struct Pointer(PathBuf);

impl Pointer {
    pub(crate) fn to(scratch: &Path) -> Option<Self> {
        let fixed = scratch::fixed();
        if scratch.parent().is_none_or(|place| fixed.iter().any(|f| f == place)) {
            return None;
        }
        let name = scratch.file_name()?;
        fixed.iter().map(|place| place.join(name)).find(|link| symlink(scratch, link).is_ok()).map(Self)
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a file or a link that may not be there.
pub(crate) fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        log::debug!("{}: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::journal::entries_of;

    #[test]
    fn a_mark_names_the_directories_of_its_own_place_and_goes_with_the_run() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let marks = Marks::default();
        let at = |dir: &tempfile::TempDir, box_name: &str| dir.path().join(format!("tarebench-x-{box_name}"));
        for (dir, box_name) in [(&one, "a"), (&one, "b"), (&other, "c")] {
            marks.note("x", dir.path(), &at(dir, box_name));
        }
        let noted = |dir: &tempfile::TempDir| entries_of(&dir.path().join(name("x")));
        assert_eq!(noted(&one), [Made::Directory(at(&one, "a")), Made::Directory(at(&one, "b"))]);
        assert_eq!(noted(&other), [Made::Directory(at(&other, "c"))]);
        marks.forget("x", other.path());
        assert!(one.path().join(name("x")).exists() && !other.path().join(name("x")).exists());
        drop(marks);
        assert!(!one.path().join(name("x")).exists());
    }

    #[test]
    fn scratch_in_a_place_of_its_own_is_pointed_at() {
        let own = tempfile::tempdir().unwrap();
        let scratch = own.path().join(format!("tarebench-p{:x}", std::process::id() & 0xff_ffff));
        let pointer = Pointer::to(&scratch).expect("some place can be written to");
        let link = pointer.0.clone();
        assert_eq!(fs::read_link(&link).unwrap(), scratch);
        drop(pointer);
        assert!(fs::symlink_metadata(link).is_err());
        assert!(Pointer::to(Path::new("/tmp/tarebench-p1")).is_none(), "everybody looks there");
    }
}
