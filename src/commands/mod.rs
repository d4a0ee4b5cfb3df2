//! One file per command.

pub mod compare;
pub mod doctor;
pub mod gate;
mod gated;
pub mod import;
pub mod list;
pub mod man;
pub mod plan;
pub mod report;
pub mod run;
pub mod stores;
pub mod trend;
pub mod verify;

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::exit::{Exit, OrExit};

/// Writes to stdout and says so when that fails.
fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes into the file that is named, else to stdout.
fn hand_out(bytes: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(path) => {
            std::fs::write(path, bytes).with_context(|| format!("can't write {}", path.display())).or_exit(Exit::Host)
        }
        None => print_bytes(bytes),
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
