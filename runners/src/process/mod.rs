//! Programs and processes of the host: found, asked, confined, kept beside an environment, listed, removed.

mod ask;
#[cfg(target_os = "linux")]
mod beside;
#[cfg_attr(not(target_os = "linux"), path = "../elsewhere/confine.rs")]
mod confine;
mod find;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "engines on Linux share it"))]
mod program;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "engines on Linux share it"))]
mod remove;
pub(crate) mod table;

pub(crate) use ask::{ask, ask_all, ask_patiently};
#[cfg(target_os = "linux")]
pub(crate) use beside::Beside;
pub(crate) use confine::confine;
#[cfg(target_os = "linux")]
pub(crate) use confine::{freeze_mounts, hide, own_run_directory, unmount};
pub(crate) use find::{find, require, version_of};
pub use program::Program;
pub(crate) use program::{BINARY, binary, check_files};
pub(crate) use remove::{RUN, discard, is_our_directory, kill_left, kill_marked, mark, remove_tree, unmount_below};

/// Writes a program that a test is about to start. A child does: what this process has open for writing is open in every child
/// that another test forks meanwhile, and until that one has executed its own program the kernel starts ours for nobody.
#[cfg(test)]
pub(crate) fn write_program(path: &std::path::Path, text: &str) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(path).arg(text);
    ask(shell).expect("written");
}
