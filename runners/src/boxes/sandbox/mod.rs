//! Sandboxes by a tool that is run once: no daemon, no image, and a root that is ours.

pub mod bubblewrap;
pub mod firejail;
pub mod lxc;
pub mod nspawn;

use workloads::settings::{Kind, Setting};

/// The network of a runner that can be given a namespace to start in, or none.
pub(crate) const NETWORK: Setting = Setting {
    name: "network",
    kind: Kind::Choice(&["veth", "none"]),
    default: "veth",
    about: "Path to the peer: a veth pair (without privileges the host's loopback), or none",
};

/// Where data lies in a runner that can show a directory in several ways.
pub(crate) const DATA: Setting = Setting {
    name: "data",
    kind: Kind::Choice(&["bind", "overlay", "tmpfs"]),
    default: "bind",
    about: "Where data lies: a bind mount of the data directory, an overlay whose upper layer is there, or memory",
};

/// A filter of system calls, where the engine has one that can be left away.
pub(crate) const SECCOMP: Setting = Setting {
    name: "seccomp",
    kind: Kind::Choice(&["default", "none"]),
    default: "default",
    about: "The engine's own filter of system calls, or none",
};
