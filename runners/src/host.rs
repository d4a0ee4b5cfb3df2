//! The host as the harness finds it: who we are, which binary is copied, where scratch files go.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::journal::Journal;
use crate::network::PeerNetwork;

/// CPUs for the work and for everything that watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinning {
    /// CPUs of every environment.
    pub work: Vec<usize>,
    /// CPUs of the harness and the peer; the same as `work` where there are not enough.
    pub harness: Vec<usize>,
}

/// Limits that hold for every environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// What all stages share. Dropping it removes the scratch directory.
#[derive(Debug)]
pub struct Host {
    /// Short id of the run, at most 8 characters of `[0-9a-z]`: part of the name of everything we make.
    pub id: String,
    /// The binary that is copied into every environment.
    pub binary: PathBuf,
    /// Its SHA-256, hex.
    pub binary_sha256: String,
    /// Whether it runs without a dynamic loader.
    pub static_binary: bool,
    /// Effective user id 0.
    pub privileged: bool,
    /// `uname -r`.
    pub kernel: String,
    /// `/tmp/tarebench-<id>`: roots, bundles, sockets, logs. Never on the timed path.
    pub scratch: PathBuf,
    /// Where work and harness run.
    pub pinning: Pinning,
    /// Limits for every environment.
    pub resources: Resources,
    /// Set by a signal handler: every wait of every session then ends within 50 ms.
    pub interrupt: Arc<AtomicBool>,
    /// What was made on the host, for the case that we are killed.
    pub journal: Journal,
    peer_network: OnceLock<Result<PeerNetwork, String>>,
}

impl Host {
    /// Looks at the host and makes the scratch directory.
    ///
    /// # Errors
    /// When the binary can't be read or the scratch directory can't be made.
    pub fn new(id: &str, binary: &Path, resources: Resources) -> anyhow::Result<Self> {
        let bytes = std::fs::read(binary).with_context(|| format!("can't read our own binary {}", binary.display()))?;
        let scratch = std::env::temp_dir().join(format!("tarebench-{id}"));
        std::fs::create_dir(&scratch).with_context(|| format!("can't make {}", scratch.display()))?;
        let journal = Journal::open(&scratch)?;
        let cpus: Vec<usize> = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
        let split = (resources.cpus as usize).min(cpus.len());
        let harness = if split < cpus.len() { cpus[split..].to_vec() } else { cpus.clone() };
        Ok(Self {
            id: id.to_string(),
            binary: binary.to_path_buf(),
            binary_sha256: Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect(),
            static_binary: true,
            privileged: nix::unistd::geteuid().is_root(),
            kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
            scratch,
            pinning: Pinning { work: cpus[..split].to_vec(), harness },
            resources,
            interrupt: Arc::new(AtomicBool::new(false)),
            journal,
            peer_network: OnceLock::new(),
        })
    }

    /// The peer's network namespace, made when first asked for; or why there is none.
    ///
    /// # Errors
    /// A reason in words, for the report: no privileges, no `ip`, or what `ip` said.
    pub fn peer_network(&self) -> Result<&PeerNetwork, &str> {
        let make = || {
            if !self.privileged {
                return Err("network namespaces need root; the peer is on the host's loopback".to_string());
            }
            PeerNetwork::make(&self.id, &self.journal).map_err(|e| format!("no network namespaces: {e:#}"))
        };
        self.peer_network.get_or_init(make).as_ref().map_err(String::as_str)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.peer_network.take();
        if self.privileged {
            crate::cgroup::remove(&format!("tarebench-{}", self.id));
        }
        if let Err(e) = std::fs::remove_dir_all(&self.scratch) {
            log::warn!("can't remove {}: {e}", self.scratch.display());
        }
    }
}
