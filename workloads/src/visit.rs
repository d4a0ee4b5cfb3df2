//! What an agent does in a box that was there before us: it makes a folder of its own, and takes all of it away when it goes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Every name that a visit leaves in a box begins with this; nothing else is ever removed.
pub const MARK: &str = "tarebench-";

/// A visit: the folder for the data, and the copy of the binary where one was brought. Dropping it removes both.
#[derive(Debug)]
pub struct Visit {
    paths: Vec<PathBuf>,
}

impl Visit {
    /// Makes the folder. `copy` is the binary that was brought for this visit.
    ///
    /// # Errors
    /// When a name is not of a visit, or the folder can't be made.
    pub fn begin(folder: &Path, copy: Option<&Path>) -> anyhow::Result<Self> {
        let paths: Vec<PathBuf> = [Some(folder), copy].into_iter().flatten().map(Path::to_path_buf).collect();
        paths.iter().try_for_each(|p| check(p))?;
        let visit = Self { paths };
        fs::create_dir(folder).with_context(|| {
            format!("can't make {}; is the folder above it there and writable for user {}?", folder.display(), uid())
        })?;
        Ok(visit)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(e) = leave(&self.paths) {
            log::warn!("{e:#}");
        }
    }
}

/// Removes what an agent that was killed has left of its visit, itself included.
///
/// # Errors
/// When a name is not of a visit, before anything is removed; else what could not be removed, after the rest was.
pub fn leave(paths: &[PathBuf]) -> anyhow::Result<()> {
    paths.iter().try_for_each(|p| check(p))?;
    let mut outcome = Ok(());
    for path in paths {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                outcome = Err(e).with_context(|| format!("can't remove {}", path.display()));
            }
            _ => {}
        }
    }
    outcome
}

fn check(path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !path.is_absolute() || !name.starts_with(MARK) {
        bail!("{} is not of a visit: an absolute path whose last part begins with `{MARK}` is", path.display());
    }
    Ok(())
}

fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (folder, copy) = (dir.path().join("tarebench-x"), dir.path().join("tarebench-x-agent"));
        fs::write(&copy, "").expect("written");
        let visit = Visit::begin(&folder, Some(&copy)).expect("begins");
        fs::write(folder.join("f"), "").expect("the folder is there");
        Visit::begin(&folder, None).map(std::mem::forget).expect_err("somebody else's");
        fs::create_dir_all(folder.join("g")).expect("made again");
        drop(visit);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn only_what_carries_the_name_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, other) = (dir.path().join("tarebench-y"), dir.path().join("y"));
        fs::write(&ours, "").expect("written");
        fs::write(&other, "").expect("written");
        leave(&[ours.clone(), other.clone()]).expect_err("refused");
        leave(&["tarebench-y".into()]).expect_err("relative");
        assert!(ours.exists() && other.exists(), "nothing is removed when something is wrong");
        leave(&[ours.clone()]).expect("removed");
        leave(&[ours.clone()]).expect("twice does no harm");
        assert!(!ours.exists());
    }
}
