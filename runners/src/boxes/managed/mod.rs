//! Containers by an engine that keeps images, volumes and networks of its own.

pub mod docker;
pub mod nerdctl;
pub mod podman;

use workloads::words;

words! {
    /// The engine's own filter of system calls.
    pub enum Seccomp {
        /// With it.
        Default = "default",
        /// Without.
        None = "none",
    }
}
