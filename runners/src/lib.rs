//! Where it is done: the runners, what a session stands on, and the host's side of a measurement.
//!
//! This crate knows nothing of SQLite or of statistics. A runner is one file in a folder of [`boxes`], its `mod` line and its
//! line in [`registry`].

mod advice;
pub mod boxes;
mod cache;
pub mod container;
#[cfg(target_os = "linux")]
pub mod durability;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
pub mod fingerprint;
pub mod host;
mod launch;
pub mod leftovers;
pub mod machine;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "engines on Linux share it"))]
pub mod names;
mod path;
pub mod probe;
#[cfg_attr(not(target_os = "linux"), expect(unused_imports, reason = "engines on Linux share it"))]
mod process;
pub mod programs;
pub mod quota;
pub mod registry;
pub mod session;
pub mod stage;
mod unavailable;

pub use advice::on_limit;
pub use boxes::enter;
pub use host::journal::Made;
pub use launch::{Cleanup, Launch, Runner};
pub use path::PathToPeer;
pub use process::Program;
pub use unavailable::Unavailable;
pub use workloads::facts::Network;
