//! Disk: blocks written through to the device, moved past the page cache by one engine or another, and files by the thousand.

pub mod access;
pub mod fsync;
pub mod maildir;
pub mod metadata;

mod blocks;
#[cfg(target_os = "linux")]
mod queue;
#[cfg(not(target_os = "linux"))]
#[path = "no_queue.rs"]
mod queue;
mod transfer;
mod whole;
