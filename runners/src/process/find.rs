//! Programs of the host: where they are, and what to do where they aren't.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ask::ask;
use crate::unavailable::Unavailable;

/// Searched after PATH: engines are often installed where an ordinary user's PATH does not look.
const MORE_PLACES: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program of this name, or at this path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| executable(p));
    }
    find_all(program).next()
}

/// Every program of this name, in the order of PATH.
pub(super) fn find_all(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let folders = folders.into_iter().chain(MORE_PLACES.iter().map(PathBuf::from));
    folders.map(move |dir| dir.join(program)).filter(|p| executable(p))
}

pub(super) fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The program of this name, or how to get it.
///
/// # Errors
/// When it is neither in PATH nor in the usual places.
pub(crate) fn require(program: &str, package: &str) -> Result<PathBuf, Unavailable> {
    find(program).ok_or_else(|| Unavailable {
        because: format!("`{program}` is not in PATH"),
        fix: format!("apt install {package}"),
        broken: false,
    })
}

/// First line of `program --version` with the words before the number taken off: `1.1.5+ds1`.
///
/// # Errors
/// The program's own words, where it fails or does not answer in time.
pub(crate) fn version_of(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version");
    // Asked by a user who has no directory for this, podman makes two in /tmp that stay.
    let place = std::env::var_os("XDG_RUNTIME_DIR").is_none().then(tempfile::tempdir).and_then(Result::ok);
    command.envs(place.iter().map(|place| ("XDG_RUNTIME_DIR", place.path())));
    let text = ask(command)?;
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(line.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line).to_string())
}
