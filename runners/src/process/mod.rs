//! Programs and processes of the host: found, asked, confined, kept beside an environment, listed, removed.

mod ask;
#[cfg(target_os = "linux")]
mod beside;
#[cfg_attr(not(target_os = "linux"), path = "../elsewhere/confine.rs")]
mod confine;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "engines on Linux share it"))]
mod find;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "engines on Linux share it"))]
mod remove;
pub(crate) mod table;

pub(crate) use ask::{ask, ask_all, ask_patiently};
#[cfg(target_os = "linux")]
pub(crate) use beside::Beside;
pub(crate) use confine::confine;
#[cfg(target_os = "linux")]
pub(crate) use confine::{hide, own_run_directory, unmount};
pub(crate) use find::{find, require, version};
pub(crate) use remove::{discard, kill_below, kill_marked, mark, remove_tree, unmount_below};
