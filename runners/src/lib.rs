//! Where it is done: the runners, what a session stands on, and the host's side of a measurement.
//!
//! This crate knows nothing of SQLite or of statistics. A runner is one file and one line in [`registry`].

pub mod bare;
pub mod bubblewrap;
pub mod engine;
pub mod gvisor;
pub mod oci;
pub mod runc;
pub mod host;
pub mod registry;
pub mod session;
pub mod stage;

use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use workloads::settings::{Setting, Settings};

use host::Host;
use stage::Stage;

/// A way to isolate a process: it turns the agent's command line into one that runs it elsewhere, with stdin and stdout still ours.
pub trait Runner: Sync + Debug {
    /// As in `--env` and in suites: `runc`.
    fn name(&self) -> &'static str;
    /// One sentence, shown by `list` and in reports.
    fn about(&self) -> &'static str;
    /// What can be set, with defaults.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }
    /// The engine's version, found without starting anything in it. That it works is shown by [`probe::probe`](crate::registry),
    /// which starts a trivial agent through the same [`Runner::launch`] as every measurement.
    ///
    /// # Errors
    /// What is missing and how to get it.
    fn version(&self, host: &Host) -> Result<String, Unavailable>;
    /// Prepares the stage and says how the agent is started there. Called once per start; what it needs again and again
    /// (root file system, image, network) the stage keeps.
    ///
    /// # Errors
    /// When the stage can't be made, or these settings can't work on this host.
    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch>;
}

/// Why a runner can't run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{because}")]
pub struct Unavailable {
    /// The engine's own words where it has any.
    pub because: String,
    /// The command or the step that would change it.
    pub fix: String,
    /// The engine is there but does not work, as opposed to not being there.
    pub broken: bool,
}

/// How an environment reaches the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Not at all.
    None,
    /// Over the host's loopback: no link between environment and peer.
    Loopback,
    /// A veth pair from the environment's network namespace into the peer's.
    Veth,
    /// A tap device of the VM in the peer's network namespace.
    Tap,
    /// User-mode address translation by the engine.
    UserNat,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::None => "none",
            Network::Loopback => "loopback",
            Network::Veth => "veth",
            Network::Tap => "tap",
            Network::UserNat => "user NAT",
        })
    }
}

/// How to start the agent in an environment. [`session::Session::start`] adds the pipes, the process group, the cgroup,
/// the CPU affinity and the parent-death signal.
pub struct Launch {
    /// Ends up running `tarebench agent --data DIR` inside, its stdin and stdout passed through.
    pub command: Command,
    /// Network namespace that the command is started in, where it is not the harness's own.
    pub netns: Option<PathBuf>,
    /// How the peer is reached.
    pub network: Network,
    /// The peer's address as seen from inside; `None` without a network.
    pub peer: Option<IpAddr>,
    /// Why its CPU counts as emulated, where it does: `QEMU TCG: ...`.
    pub emulated: Option<String>,
    /// How data is reached, in words.
    pub data_path: String,
    /// Run in order once the command's process group is gone: `runc delete`, unmounts, ...
    pub cleanup: Vec<Box<dyn FnOnce() + Send>>,
}

impl Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("command", &self.command)
            .field("netns", &self.netns)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
