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

use std::io::Write;
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
            std::fs::write(path, bytes).with_context(|| format!("can't write {}", path.display())).or_exit(Exit::Host)
        }
        _ => print_bytes(bytes),
    }
}

/// Writes to stdout, all of it: what a buffer keeps back could fail when nobody listens any more. A reader that has gone, as `head`
/// does, is no error: what the command found and its exit code are the same without one.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't write to stdout").or_exit(Exit::Host),
    }
}

/// Whether a file could be written, without writing it.
fn writable(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return std::fs::OpenOptions::new().append(true).open(path).map(drop);
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
    fn what_is_to_be_typed_can_be_pasted() {
        assert_eq!(quoted("qemu:disk.cache=none"), "qemu:disk.cache=none");
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
        let gate = |store: &str| typed(&["tarebench", "gate", "x", "--policy", "my gate.toml"], Path::new(store));
        assert_eq!(gate("tarebench.db"), "tarebench gate x --policy 'my gate.toml'");
        assert_eq!(gate("a/b.db"), "tarebench gate x --policy 'my gate.toml' --store a/b.db");
    }
}
