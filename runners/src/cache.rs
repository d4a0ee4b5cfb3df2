//! The folder for what is remembered from run to run.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The user's cache directory with our name; `None` where there is none that is this user's alone. `sudo` keeps HOME on some
/// systems: what root wrote there would be in somebody else's hands, who may also have put a link in the way.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name);
    folder_of(set("XDG_CACHE_HOME"), set("HOME"), nix::unistd::geteuid().as_raw())
}

fn folder_of(cache: Option<OsString>, home: Option<OsString>, user: u32) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|p| p.is_absolute());
    let (base, folder) = match absolute(cache) {
        Some(cache) => (cache.clone(), cache.join("tarebench")),
        None => absolute(home).map(|home| (home.clone(), home.join(".cache/tarebench")))?,
    };
    owned_by(user, &base, &folder).then_some(folder)
}

/// Whether the user owns `base`, all that is there on the way from it to `folder`, and what it would have to be made in.
fn owned_by(user: u32, base: &Path, folder: &Path) -> bool {
    for path in folder.ancestors() {
        match fs::metadata(path) {
            Ok(about) if about.uid() != user || !about.is_dir() => return false,
            Ok(_) if base.starts_with(path) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_in_a_home_of_somebody_else() {
        let home = tempfile::tempdir().expect("a directory");
        let (me, own) = (nix::unistd::geteuid().as_raw(), Some(home.path().as_os_str().to_owned()));
        assert_eq!(folder_of(None, own.clone(), me), Some(home.path().join(".cache/tarebench")));
        assert_eq!(folder_of(own.clone(), None, me), Some(home.path().join("tarebench")));
        assert_eq!(folder_of(None, own.clone(), me + 1), None, "HOME is another user's");
        assert_eq!(folder_of(own, None, me + 1), None);
        let unmade = Some(home.path().join("a/b").into_os_string());
        assert_eq!(folder_of(unmade.clone(), None, me), Some(home.path().join("a/b/tarebench")));
        assert_eq!(folder_of(unmade, None, me + 1), None, "it would be made in another user's");
        assert_eq!(folder_of(Some("cache".into()), None, me), None, "which depends on where one is");
        assert_eq!(folder_of(None, None, me), None);
    }

    #[test]
    fn nothing_is_remembered_below_a_folder_that_root_made_in_a_home_of_somebody_else() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a directory away");
            return;
        }
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(home.path().join(".cache/tarebench")).expect("made");
        std::os::unix::fs::chown(home.path(), Some(1000), None).expect("given away");
        assert_eq!(folder_of(None, Some(home.path().into()), 0), None);
    }
}
