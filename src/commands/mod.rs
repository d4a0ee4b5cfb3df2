//! One file per command.

pub mod calibrate;
pub mod compare;
pub mod doctor;
pub mod explain;
pub mod gate;
mod gated;
pub mod import;
pub mod list;
pub mod man;
pub mod plan;
#[cfg_attr(not(target_os = "linux"), path = "prove_elsewhere.rs")]
pub mod prove;
pub mod report;
pub mod run;
pub mod stores;
pub mod trend;
pub mod verify;

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use anyhow::Context;

use crate::cli;
use crate::exit::{Exit, OrExit};

/// Writes to stdout and says so when that fails.
fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Whether this is the word for stdout where a file is named.
fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// Writes into the file that is named, else to stdout.
fn hand_out(bytes: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(path) if !is_stdout(path) => {
            write_whole(path, bytes).with_context(|| format!("can't write {}", path.display())).or_exit(Exit::Host)
        }
        _ => print_bytes(bytes),
    }
}

/// Writes a file whole or not at all: where there is no room for the new one, the old one still stands there. What isn't a file with
/// one name, or lies in a folder where nothing can be made, is written in place.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let in_place = || fs::write(path, bytes);
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if path.is_symlink() => return in_place(),
        Err(_) => path.to_path_buf(),
    };
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file() || old.nlink() > 1) {
        return in_place();
    }
    let mode = Permissions::from_mode(0o666);
    let Ok(mut new) = tempfile::Builder::new().prefix(".tarebench-").permissions(mode).tempfile_in(folder_of(&target))
    else {
        return in_place();
    };
    if let Some(old) = old {
        if fchown(new.as_file(), Some(old.uid()), Some(old.gid())).is_err() {
            return in_place();
        }
        new.as_file().set_permissions(old.permissions())?;
    }
    new.write_all(bytes)?;
    new.persist(&target)?;
    Ok(())
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes to stdout, all of it: what a buffer keeps back could fail when nobody listens any more. A reader that has gone, as `head`
/// does, is no error: what the command found and its exit code are the same without one.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to stdout").or_exit(Exit::Host),
    }
}

/// Whether a file could be written, without writing it.
fn writable(path: &Path) -> io::Result<()> {
    if path.exists() {
        return fs::OpenOptions::new().append(true).open(path).map(drop);
    }
    // A file without a name: nothing stands there until there is something to write.
    tempfile::tempfile_in(folder_of(path)).map(drop)
}

/// A command with its words as a shell wants them, and the store where it isn't the one that is looked into unasked.
fn typed(words: &[&str], store: &Path) -> String {
    let store = (store != Path::new(cli::STORE)).then(|| ["--store".into(), store.display().to_string()]);
    let words = words.iter().map(ToString::to_string).chain(store.into_iter().flatten());
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// As a shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_stays_whose_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link, hard] = ["file", "link", "hard"].map(|name| folder.path().join(name));
        let holds = |text: &str| assert_eq!(fs::read_to_string(&file).expect("reads"), text);
        write_whole(&file, b"first, and long").expect("makes one");
        holds("first, and long");
        let made = fs::metadata(&file).expect("is there");
        assert_ne!(made.mode() & 0o777, 0o600, "as this process makes files, not as it makes temporary ones");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("its own file");
        std::os::unix::fs::symlink("file", &link).expect("links");
        write_whole(&link, b"second").expect("replaces");
        holds("second");
        let now = fs::metadata(&file).expect("is there");
        assert!(link.is_symlink() && now.mode() & 0o777 == 0o640 && now.ino() != made.ino());
        fs::hard_link(&file, &hard).expect("links");
        write_whole(&hard, b"third").expect("writes in place");
        holds("third");
        write_whole(Path::new("/dev/null"), b"fourth").expect("a device takes it");
        let names = fs::read_dir(folder.path()).expect("lists").count();
        assert_eq!(names, 3, "nothing else is left");
        write_whole(&folder.path().join("no/such"), b"fifth").expect_err("no folder");
        let full = Path::new("/dev/full");
        assert!(!full.exists() || write_whole(full, b"sixth").is_err());
    }

    #[test]
    fn what_is_to_be_typed_can_be_pasted() {
        assert_eq!(quoted("qemu:disk.cache=none"), "qemu:disk.cache=none");
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
        let gate = |store: &str| typed(&["tarebench", "gate", "x", "--policy", "my gate.toml"], Path::new(store));
        assert_eq!(gate("tarebench.db"), "tarebench gate x --policy 'my gate.toml'");
        assert_eq!(gate("a/b.db"), "tarebench gate x --policy 'my gate.toml' --store a/b.db");
    }
}
