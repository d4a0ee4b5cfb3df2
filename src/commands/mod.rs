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

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use anyhow::Context;

use crate::cli;
use crate::exit::{Exit, OrExit};

/// Writes to stdout and says so when that fails.
fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Whether this is a name of stdout where a file is named. What goes there goes behind what is there already.
fn is_stdout(file: &Path) -> bool {
    ["-", "/dev/stdout"].iter().any(|name| file == Path::new(name))
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

/// Every database of SQLite begins so.
const DATABASE: &[u8] = b"SQLite format 3\0";

/// Writes a file over. Where there is no room for the new one the old one, where it can be read, stands there again: its room isn't given
/// away before. It is the same file as ever, with its owner, its mode and its names. No store is written over.
fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return file.write_all(bytes);
    }
    refuse_database(path)?;
    let old = if about.len() <= LONGEST { fs::read(path).ok() } else { None };
    let mut write = || {
        file.write_all(bytes)?;
        // Some disks say only now that they are full, and what is behind the new is still there.
        file.sync_data()?;
        file.set_len(bytes.len() as u64)
    };
    write().inspect_err(|_| {
        let restored = if is_new { remove_target(path) } else { old.map_or(Ok(()), |old| put_back(&mut file, &old)) };
        if let Err(e) = restored {
            log::warn!("what was in {} before could not be put back: {e}", path.display());
        }
    })
}

/// Puts back what was written over, up to where the file was written to.
fn put_back(file: &mut File, old: &[u8]) -> io::Result<()> {
    let changed = old.len().min(file.stream_position()? as usize);
    file.rewind()?;
    file.write_all(&old[..changed])?;
    file.set_len(old.len() as u64)
}

/// Removes the file that a name stands for, through a link that stays.
fn remove_target(path: &Path) -> io::Result<()> {
    fs::remove_file(path.canonicalize()?)
}

/// A store, or another program's, isn't written over; what can't be read isn't known.
fn refuse_database(path: &Path) -> io::Result<()> {
    let mut begin = Vec::new();
    if let Ok(file) = File::open(path) {
        file.take(DATABASE.len() as u64).read_to_end(&mut begin)?;
    }
    if begin == DATABASE {
        let problem = format!("{} is a database, and is left as it is: name another file", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    }
    Ok(())
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
    match fs::metadata(path) {
        // Whoever waits at the other end of a pipe would see its end.
        Ok(about) if !about.is_file() && !about.is_dir() => Ok(()),
        Ok(_) => {
            drop(OpenOptions::new().append(true).open(path)?);
            refuse_database(path)
        }
        Err(_) => {
            // Through a link that leads nowhere yet; nothing stands there until there is something to write.
            let target = fs::read_link(path).map_or_else(|_| path.to_path_buf(), |to| path.with_file_name(to));
            drop(OpenOptions::new().append(true).create_new(true).open(&target)?);
            fs::remove_file(&target)
        }
    }
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
        fs::write(&file, [DATABASE, b"rows"].concat()).expect("a store");
        for refused in [write_over(&link, b"a report"), writable(&file)] {
            assert!(refused.expect_err("a store").to_string().contains("name another file"));
        }
        holds("SQLite format 3\0rows");
        // A disk that is full takes root: tests/trouble.rs has one.
        let full = Path::new("/dev/full");
        assert!(!full.exists() || write_over(full, b"sixth").is_err());
    }

    #[test]
    fn whether_a_file_can_be_written_is_known_beforehand_and_leaves_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link, lost] = ["file", "link", "lost"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink("file", &link).expect("links");
        std::os::unix::fs::symlink("no/file", &lost).expect("links");
        for path in [&file, &link] {
            writable(path).expect("it can be made");
            assert!(!file.exists() && link.is_symlink());
        }
        writable(&lost).expect_err("there is no folder");
        writable(&folder.path().join("x".repeat(300))).expect_err("so long is no name");
        writable(folder.path()).expect_err("a folder");
        // To open a pipe is to begin with it: nobody reads this one, and opening it would not end.
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        writable(&pipe).expect("it is written when it is read");
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
