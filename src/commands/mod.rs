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

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, Write};
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
            write_over(path, bytes).with_context(|| format!("can't write {}", path.display())).or_exit(Exit::Host)
        }
        _ => print_bytes(bytes),
    }
}

/// A file that is longer isn't one of ours, and isn't kept while it is written over.
const LONGEST: u64 = 256 << 20;

/// Writes a file over. Where there is no room for the new one the old one stands there again: its room isn't given away before. It is
/// the same file as ever, with its owner, its mode and its names.
fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = fs::symlink_metadata(path).is_err();
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return file.write_all(bytes);
    }
    let old = if about.len() <= LONGEST { fs::read(path).ok() } else { None };
    let mut hold = |bytes: &[u8]| {
        file.rewind()?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        // Some disks say only now that they are full.
        file.sync_all()
    };
    hold(bytes).inspect_err(|_| {
        let restored = if is_new { fs::remove_file(path) } else { old.map_or(Ok(()), |old| hold(&old)) };
        if let Err(e) = restored {
            log::warn!("what was in {} before could not be put back: {e}", path.display());
        }
    })
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
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    // A file without a name: nothing stands there until there is something to write.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map(drop)
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
    fn a_file_that_is_written_over_holds_the_new_and_stays_the_same_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        let holds = |text: &str| assert_eq!(fs::read_to_string(&file).expect("reads"), text);
        write_over(&file, b"first").expect("makes one");
        holds("first");
        std::os::unix::fs::symlink("file", &link).expect("links");
        write_over(&link, b"second, and longer").expect("writes through the link");
        holds("second, and longer");
        write_over(&file, b"third").expect("writes over");
        holds("third");
        assert!(link.is_symlink());
        write_over(Path::new("/dev/null"), b"fourth").expect("a device takes it");
        write_over(&folder.path().join("no/such"), b"fifth").expect_err("no folder");
        // A disk that is full takes root: tests/trouble.rs has one.
        let full = Path::new("/dev/full");
        assert!(!full.exists() || write_over(full, b"sixth").is_err());
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
