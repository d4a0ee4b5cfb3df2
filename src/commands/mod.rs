//! One file per command.

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

use anyhow::Context;

/// Writes to stdout and says so when that fails.
fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("can't write to stdout")
}
