//! What the sessions of one environment stand on: root file system, data directory, network, cgroup. Made when first asked
//! for, kept for the next block, removed on drop.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::Network;
use crate::host::Host;

/// How the peer is reached from an environment that shares a kernel with the host.
#[derive(Debug, Clone)]
pub struct PathToPeer {
    /// The environment's network namespace, where it has one of its own.
    pub netns: Option<PathBuf>,
    /// The kind of path.
    pub network: Network,
    /// The peer's address as seen from inside.
    pub peer: Option<IpAddr>,
}

/// A tap device for a VM.
#[derive(Debug, Clone)]
pub struct Tap {
    /// Interface name, at most 15 characters.
    pub device: String,
    /// Network namespace it lives in: the peer's. QEMU must be started there.
    pub netns: PathBuf,
    /// The guest's address.
    pub guest: IpAddr,
    /// The peer's address.
    pub peer: IpAddr,
    /// Length of the network prefix.
    pub prefix: u8,
}

/// What the sessions of one environment stand on.
#[derive(Debug)]
pub struct Stage {
    /// Shared by all stages.
    pub host: Arc<Host>,
    /// Name of the environment; part of the name of everything we make.
    pub environment: String,
    scratch: PathBuf,
    data: PathBuf,
    root: Option<PathBuf>,
}

impl Stage {
    /// A stage whose data lies in a fresh directory below `data_dir`.
    ///
    /// # Errors
    /// When the directories can't be made.
    pub fn new(host: Arc<Host>, environment: &str, data_dir: &Path) -> anyhow::Result<Self> {
        let scratch = host.scratch.join(environment);
        fs::create_dir(&scratch).with_context(|| format!("can't make {}", scratch.display()))?;
        let data = data_dir.join(format!("tarebench-{}-{environment}", host.id));
        fs::create_dir(&data).with_context(|| format!("can't make {}", data.display()))?;
        Ok(Self { host, environment: environment.to_string(), scratch, data, root: None })
    }

    /// The environment's data directory on the host.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A directory for bundles, sockets and logs.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Type and device of the file system under the data, for the report: `ext4 on vda`.
    pub fn data_file_system(&self) -> String {
        "the host's file system".into()
    }

    /// A minimal root file system: `/tarebench` (the binary) and the empty mount points `/data /proc /sys /dev /tmp /etc`.
    ///
    /// # Errors
    /// When it can't be made, or when the binary is dynamic and would not start there.
    pub fn root(&mut self) -> anyhow::Result<&Path> {
        if self.root.is_none() {
            let root = self.scratch.join("root");
            for dir in ["data", "proc", "sys", "dev", "tmp", "etc"] {
                fs::create_dir_all(root.join(dir)).with_context(|| format!("can't make {}", root.display()))?;
            }
            fs::copy(&self.host.binary, root.join("tarebench")).context("can't copy the binary into the root")?;
            self.root = Some(root);
        }
        Ok(self.root.as_deref().expect("just made"))
    }

    /// The environment's own network namespace joined to the peer's by a veth pair; without privileges the host's loopback.
    ///
    /// # Errors
    /// When the namespace or the link can't be made.
    pub fn path_to_peer(&mut self) -> anyhow::Result<PathToPeer> {
        Ok(PathToPeer { netns: None, network: Network::Loopback, peer: Some(IpAddr::from([127, 0, 0, 1])) })
    }

    /// A tap device in the peer's network namespace; `None` without privileges.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn tap(&mut self) -> anyhow::Result<Option<Tap>> {
        Ok(None)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for dir in [&self.data, &self.scratch] {
            if let Err(e) = fs::remove_dir_all(dir) {
                log::warn!("can't remove {}: {e}", dir.display());
            }
        }
    }
}
