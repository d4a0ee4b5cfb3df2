//! Sandboxes by a tool that is run once: no daemon, no image, and a root that is ours.

pub mod bubblewrap;
pub mod firejail;
pub mod lxc;
pub mod nspawn;

use std::path::PathBuf;

use workloads::settings;
use workloads::settings::{Setting, Value as _};
use workloads::words;

use crate::process::BINARY;
use crate::stage::data::{DATA, Data};
use crate::stage::network::{Net, links};

/// The network of a runner that can be given a namespace to start in, or none.
pub(crate) const NETWORK: Setting = links::NETWORK
    .with_words(&["veth", "none"])
    .with_about("Path to the peer: a veth pair (without privileges the host's loopback), or none");

words! {
    /// Which system calls an engine filters that has a filter which can be left away.
    pub(crate) enum Filter {
        /// Those that the engine's own filter denies.
        Default = "default",
        /// None.
        None = "none",
    }
}

/// For engines with such a filter.
pub(crate) const SECCOMP: Setting = Setting::new("seccomp", Filter::KIND)
    .with_default("default")
    .with_about("The engine's own filter of system calls, or none");

settings! {
    /// The settings of an engine that makes a container from a directory.
    pub(crate) struct Options {
        binary: Option<PathBuf> as BINARY,
        network: Net as NETWORK,
        data: Data as DATA,
        seccomp: Filter as SECCOMP,
    }
}

#[cfg(test)]
impl Options {
    fn of(given: &[(&str, &str)]) -> Self {
        Self::read(&workloads::settings::Settings::of(Self::TABLE, given))
    }
}
