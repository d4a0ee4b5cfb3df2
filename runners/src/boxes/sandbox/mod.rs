//! Sandboxes by a tool that is run once: no daemon, no image, and a root that is ours.

pub mod bubblewrap;
pub mod firejail;
pub mod lxc;
pub mod nspawn;

use workloads::settings::{Kind, Setting};

use crate::stage::network::links;

/// The network of a runner that can be given a namespace to start in, or none.
pub(crate) const NETWORK: Setting = links::NETWORK
    .with_words(&["veth", "none"])
    .with_about("Path to the peer: a veth pair (without privileges the host's loopback), or none");

/// A filter of system calls, where the engine has one that can be left away.
pub(crate) const SECCOMP: Setting = Setting {
    name: "seccomp",
    kind: Kind::Choice(&["default", "none"]),
    default: "default",
    about: "The engine's own filter of system calls, or none",
};
