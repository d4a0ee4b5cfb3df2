//! What an environment stands on, as facts: how the peer is reached, and who keeps the data. Runners state them, the store
//! keeps them, and reports judge by them alone: they know no runner by its name.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A program of the host that an environment ran on, or the kernel that it booted: what tells one release or build from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Where it lies on the host.
    pub path: String,
    /// By its own word; `None` where it wasn't asked.
    pub version: Option<String>,
    /// SHA-256 of the file, hex; `None` where it can't be read.
    pub sha256: Option<String>,
    /// Whether it is a script, of which the hash says nothing of what it starts; `None` where nobody looked.
    #[serde(default)]
    pub script: Option<bool>,
}

/// The fact of a workload with an end, as a file of statements has: the operations of all of it.
pub const WHOLE: &str = "whole_operations";

/// How long all of it took once, nanoseconds.
pub const WHOLE_NS: &str = "whole_ns";

/// The fact of a workload that says how its connections came into the environment, where they did.
pub const CONNECTION: &str = "connection";

/// How an environment reaches the peer. Stored by the words that reports show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Not at all.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Over the host's loopback: no link between environment and peer.
    #[serde(rename = "loopback")]
    Loopback,
    /// A veth pair from the environment's network namespace into the peer's.
    #[serde(rename = "veth")]
    Veth,
    /// A tap device of the VM in the peer's network namespace.
    #[serde(rename = "tap")]
    Tap,
    /// The same, its packets passed on by the host's kernel instead of the VM's monitor.
    #[serde(rename = "tap with vhost-net")]
    Vhost,
    /// The back end of a Xen domain's interface (netback), moved into the peer's network namespace.
    #[serde(rename = "vif")]
    Vif,
    /// A bridge: ours in the peer's namespace, or the engine's between its containers and the host.
    #[serde(rename = "bridge")]
    Bridge,
    /// Address translation by a kernel: in a router's namespace of ours, or behind the engine's bridge.
    #[serde(rename = "kernel NAT")]
    Nat,
    /// The host's own network stack, joined to the peer's namespace by a veth pair.
    #[serde(rename = "host")]
    Host,
    /// A pair of Ethernet interfaces (epair) between the host and a jail with a network stack of its own.
    #[serde(rename = "epair")]
    Epair,
    /// User-mode address translation by the engine.
    #[serde(rename = "user NAT")]
    UserNat,
    /// User-mode address translation by passt, a process of its own.
    #[serde(rename = "user NAT (passt)")]
    Passt,
    /// Whatever the box had before us.
    #[serde(rename = "the box's own")]
    Own,
    /// A word that this version doesn't know: of a later one, or written by hand. A run that has it can still be read.
    #[serde(rename = "unknown", other)]
    Unknown,
}

impl Network {
    /// Every kind of path that is known.
    pub const ALL: &'static [Self] = &[
        Self::None,
        Self::Loopback,
        Self::Veth,
        Self::Tap,
        Self::Vhost,
        Self::Vif,
        Self::Bridge,
        Self::Nat,
        Self::Host,
        Self::Epair,
        Self::UserNat,
        Self::Passt,
        Self::Own,
    ];

    /// Whether every packet passes through a program that translates it, outside the kernel.
    pub fn is_user_mode(self) -> bool {
        matches!(self, Self::UserNat | Self::Passt)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Where the data of an environment lies, as far as it is known before anything runs there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataFacts {
    /// Who keeps what is written.
    pub keeper: Keeper,
    /// What becomes of a flush on its way to the host's disk.
    pub flushes: Flushes,
    /// Whose kernel serves the file system that the work sees.
    pub kernel: Kernel,
    /// The host's whole disk under the data, as the kernel names it (`vda`), where there is one and it is known.
    pub device: Option<String>,
    /// Why nothing that is flushed there outlives a loss of power, where the host's own file system or disk forgets it.
    pub forgets: Option<String>,
}

/// Who keeps what is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeper {
    /// A disk, or a file system of the host on one.
    Disk,
    /// Memory, or a file that nobody ever flushes: it is gone with the environment.
    Memory,
    /// Not known beforehand, as in a box that is there already, and in runs stored before this was asked.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What becomes of a flush on its way to the host's disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flushes {
    /// It is passed on.
    Passed,
    /// None is needed: every write is on the disk before it is done (write through), so that none need be offered.
    WrittenThrough,
    /// It is answered and forgotten, as that environment was told to.
    Forgotten,
    /// Not known beforehand.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Whose kernel serves the file system that the work sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// The host's, directly or through a sandbox.
    Host,
    /// The environment's own, on a disk that a virtual machine's monitor gives it: what the guest says of that disk counts.
    Guest,
    /// Not known beforehand.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a sandbox does for the work by programs of its own, where elsewhere the kernel does it; in words, to be shown. `None`: not so,
/// or nobody says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// How it catches system calls.
    pub calls: Option<String>,
    /// Its own network stack.
    pub stack: Option<String>,
    /// How it gets at files of the host.
    pub files: Option<String>,
    /// By setting, another value that this engine takes on this machine.
    pub instead: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stored_by_the_words_that_are_shown() {
        for network in Network::ALL {
            let stored = serde_json::to_string(network).expect("a word");
            assert_eq!(stored, format!("\"{network}\""));
            assert_eq!(serde_json::from_str::<Network>(&stored).expect("the same"), *network);
        }
        assert_eq!(Network::UserNat.to_string(), "user NAT");
        assert_eq!(Network::Vhost.to_string(), "tap with vhost-net");
    }

    #[test]
    fn words_of_a_later_version_are_unknown_and_no_error() {
        assert_eq!(serde_json::from_str::<Network>("\"by pigeon\"").expect("a path"), Network::Unknown);
        assert_eq!(Network::Unknown.to_string(), "unknown");
        let later = r#"{"keeper": "tape", "flushes": "guessed", "kernel": "none", "more": 1}"#;
        assert_eq!(serde_json::from_str::<DataFacts>(later).expect("facts"), DataFacts::default());
    }

    #[test]
    fn facts_that_a_store_does_not_have_are_unknown() {
        assert_eq!(serde_json::from_str::<DataFacts>("{}").expect("facts"), DataFacts::default());
        let facts = DataFacts { keeper: Keeper::Memory, flushes: Flushes::WrittenThrough, ..DataFacts::default() };
        let text = serde_json::to_string(&facts).expect("JSON");
        assert!(text.contains(r#""keeper":"memory","flushes":"written-through""#), "{text}");
    }
}
