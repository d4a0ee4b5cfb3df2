//! The work that is measured: the workloads, the agent that runs them inside an environment, and the protocol it speaks with the harness.
//!
//! This crate knows nothing of containers or reports. A workload is its file, its `mod` line, its line in [`registry`], and a pinned check value.

pub mod agent;
pub mod canary;
pub mod command;
pub mod content;
pub mod control;
mod deadline;
pub mod disk;
pub mod durability;
pub mod evidence;
pub mod facts;
pub mod histogram;
pub mod hypervisor;
pub mod identity;
#[cfg(target_os = "linux")]
pub mod init;
pub mod inside;
pub mod load;
pub mod mounts;
pub mod network;
pub mod parcel;
pub mod peer;
pub mod protocol;
pub mod registry;
mod residency;
mod sample;
pub mod settings;
pub mod sqlite;
pub mod stopwatch;
pub mod timeline;
pub mod visit;
mod workload;

pub use workload::{Check, Needs, Peer, PeerAddress, Place, Prepared, Resource, Workload};
