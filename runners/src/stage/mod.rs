//! What the sessions of one environment stand on: root file system, data directory, network, cgroup. Made when first asked
//! for, kept for the next block, removed on drop.

#[cfg_attr(not(target_os = "linux"), path = "../elsewhere/cgroup.rs")]
pub mod cgroup;
#[cfg(target_os = "linux")]
pub(crate) mod data;
pub mod disk;
pub mod evidence;
pub(crate) mod loopback;
pub mod network;
pub mod peer;

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use workloads::facts::Network;

use crate::host::Host;
use crate::host::journal::Made;
use crate::names::safe_name;
use crate::process::remove_tree;
#[cfg(target_os = "linux")]
use crate::unavailable::Unavailable;
use cgroup::Cgroup;
use disk::Disk;
use evidence::Witness;
use network::{PREFIX, PREFIX6, TapLink, Veth, Vif};
use peer::PeerProcess;

/// How long a peer of an environment's own may take to say its port.
const PEER: Duration = Duration::from_secs(5);

/// How the peer is reached from an environment that shares a kernel with the host.
#[derive(Debug, Clone)]
pub struct PathToPeer {
    /// The environment's network namespace, where it has one of its own.
    pub netns: Option<PathBuf>,
    /// The kind of path.
    pub network: Network,
    /// The peer's address as seen from inside.
    pub peer: Option<IpAddr>,
    /// The peer's IPv6 address as seen from inside; `None` where the host has no IPv6.
    pub peer6: Option<Ipv6Addr>,
    /// The environment's own address and the length of its prefix, where it has a link.
    pub own: Option<(IpAddr, u8)>,
    /// The same in IPv6.
    pub own6: Option<(Ipv6Addr, u8)>,
    /// The device in the environment's namespace, where it has one.
    pub device: Option<String>,
    /// Why it is not a link of its own, where it isn't.
    pub because: Option<String>,
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
    /// The guest's IPv6 address and the length of its prefix; `None` where the host has no IPv6.
    pub guest6: Option<(Ipv6Addr, u8)>,
    /// The peer's address.
    pub peer: IpAddr,
    /// The peer's IPv6 address.
    pub peer6: Option<Ipv6Addr>,
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
    disk: Option<Disk>,
    root: Option<PathBuf>,
    cgroup: Option<Arc<Cgroup>>,
    veth: Option<Veth>,
    tap: Option<TapLink>,
    vif: Option<Vif>,
    #[cfg(target_os = "linux")]
    link: Option<network::links::Link>,
    own_peer: Option<PeerProcess>,
}

impl Stage {
    /// A stage whose data lies in a fresh directory below `data_dir`.
    ///
    /// # Errors
    /// When the directories can't be made.
    pub fn new(host: Arc<Host>, environment: &str, data_dir: &Path) -> anyhow::Result<Self> {
        let name = safe_name(environment);
        let scratch = host.scratch.join(&name);
        fs::create_dir(&scratch).with_context(|| format!("can't make {}", scratch.display()))?;
        let data_dir = data_dir.canonicalize().with_context(|| format!("can't find {}", data_dir.display()))?;
        let data = data_dir.join(format!("tarebench-{}-{name}", host.id));
        host.journal.note(&Made::Directory(data.clone()))?;
        fs::create_dir(&data).with_context(|| format!("can't make {}", data.display()))?;
        let environment = environment.to_string();
        let disk = Disk::under(&data).inspect_err(|e| log::debug!("{e:#}")).ok();
        Ok(Self {
            host,
            environment,
            scratch,
            data,
            disk,
            root: None,
            cgroup: None,
            veth: None,
            tap: None,
            vif: None,
            #[cfg(target_os = "linux")]
            link: None,
            own_peer: None,
        })
    }

    /// What watches this environment's counters while it works.
    pub fn witness(&mut self) -> Witness {
        Witness::new(Some(self.cgroup()), self.disk.as_ref())
    }

    /// A name for one start of this environment that nothing else on this host has: `tarebench-<run>-<environment>-<n>`.
    pub fn next_id(&self) -> String {
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let n = STARTS.fetch_add(1, Ordering::Relaxed);
        let environment = safe_name(&self.environment);
        format!("tarebench-{}-{environment}-{n}", self.host.id)
    }

    /// The cgroup with the suite's limits. [`Cgroup::unequal`] says why, where they can't be enforced.
    pub fn cgroup(&mut self) -> Arc<Cgroup> {
        let make = || Arc::new(Cgroup::make(&self.host, &self.environment, self.disk.as_ref()));
        Arc::clone(self.cgroup.get_or_insert_with(make))
    }

    /// Writes down what an engine is about to make outside the scratch directory, with the command that removes it: it is
    /// run by the next run should this one be killed. Some argument must hold `tarebench-<id>`, as the scratch directory
    /// and every name we make do: other commands are never run.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn note(&self, removal: &[&str]) -> anyhow::Result<()> {
        self.host.journal.note(&Made::Engine(removal.iter().map(|s| s.to_string()).collect()))
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
        match &self.disk {
            Some(disk) => disk.to_string(),
            None => "the host's file system".into(),
        }
    }

    /// A minimal root file system: `/tarebench` (the binary) and the empty mount points `/data /proc /sys /dev /tmp /etc`.
    ///
    /// # Errors
    /// When it can't be made, or when the binary is dynamic and would not start there.
    pub fn root(&mut self) -> anyhow::Result<&Path> {
        if self.root.is_none() {
            // Elsewhere a runner mounts the host's libraries.
            if cfg!(target_os = "linux") {
                self.host.require_static()?;
            }
            let root = self.scratch.join("root");
            for dir in ["data", "proc", "sys", "dev", "tmp", "etc"] {
                fs::create_dir_all(root.join(dir)).with_context(|| format!("can't make {}", root.display()))?;
            }
            fs::copy(&self.host.binary, root.join("tarebench")).context("can't copy the binary into the root")?;
            self.root = Some(root);
        }
        Ok(self.root.as_deref().expect("just made"))
    }

    /// A copy of [`Stage::root`] on the file system of the data, for boxes whose data lies in their root: the scratch
    /// directory may be on another one.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn root_beside_data(&mut self) -> anyhow::Result<PathBuf> {
        let root = self.data().join("root");
        let source = self.root()?.to_path_buf();
        let naming = || format!("can't copy {} to {}", source.display(), root.display());
        for entry in fs::read_dir(&source).with_context(naming)? {
            let entry = entry.with_context(naming)?;
            let target = root.join(entry.file_name());
            if entry.file_type().with_context(naming)?.is_dir() {
                fs::create_dir_all(&target).with_context(naming)?;
            } else if !target.exists() {
                fs::create_dir_all(&root).with_context(naming)?;
                fs::copy(entry.path(), &target).with_context(naming)?;
            }
        }
        Ok(root)
    }

    /// The environment's own network namespace joined to the peer's by a veth pair; without privileges the host's loopback.
    ///
    /// # Errors
    /// When the namespace or the link can't be made.
    pub fn path_to_peer(&mut self) -> anyhow::Result<PathToPeer> {
        let peer_network = match self.host.peer_network() {
            Ok(network) => network,
            Err(because) => {
                return Ok(PathToPeer {
                    netns: None,
                    network: Network::Loopback,
                    peer: Some(IpAddr::V4(self.host.loopback())),
                    peer6: network::loopback_has_ipv6().then_some(Ipv6Addr::LOCALHOST),
                    own: None,
                    own6: None,
                    device: None,
                    because: Some(because.to_string()),
                });
            }
        };
        let veth = match &mut self.veth {
            Some(veth) => {
                veth.restore()?;
                veth
            }
            none => none.insert(peer_network.join(&self.environment, &self.host.journal)?),
        };
        Ok(PathToPeer {
            netns: Some(veth.netns.path()),
            network: Network::Veth,
            peer: Some(IpAddr::V4(veth.peer)),
            peer6: veth.peer6,
            own: Some((IpAddr::V4(veth.own), PREFIX)),
            own6: veth.own6.map(|own6| (own6, PREFIX6)),
            device: Some(veth.device.clone()),
            because: None,
        })
    }

    /// The path to the peer that a setting's word stands for: `veth` as [`Stage::path_to_peer`], else one of
    /// `network/links.rs`; `host` without privileges is the host's loopback.
    ///
    /// # Errors
    /// When it can't be made, or needs root.
    #[cfg(target_os = "linux")]
    pub fn path_over(&mut self, word: &str) -> anyhow::Result<PathToPeer> {
        if word == "veth" || (word == "host" && self.host.peer_network().is_err()) {
            return self.path_to_peer();
        }
        let peer_network = self.host.peer_network().map_err(|because| Unavailable {
            because: format!("network={word} is not possible: {because}"),
            fix: "run tarebench as root, or set network=veth or network=host".into(),
            broken: false,
        })?;
        let (host, environment) = (&self.host, &self.environment);
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(network::links::Link::make(
                word,
                peer_network,
                environment,
                &host.journal,
                &host.pinning.work,
            )?),
        };
        Ok(link.path())
    }

    /// The port of a peer that listens on an address of the harness's own network, for a box that no link of ours leads to.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub fn peer_on(&mut self, address: IpAddr) -> anyhow::Result<u16> {
        let peer = match self.own_peer.take() {
            Some(peer) => peer,
            None => PeerProcess::start_on(&self.host, address, PEER).with_context(|| {
                format!("no peer on {address}: it has to be an address of this host, as the box sees it")
            })?,
        };
        Ok(self.own_peer.insert(peer).port)
    }

    /// A tap device in the peer's network namespace; `None` without privileges, for the reason that
    /// [`Host::peer_network`] gives.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn tap(&mut self) -> anyhow::Result<Option<Tap>> {
        let Ok(peer_network) = self.host.peer_network() else { return Ok(None) };
        let tap = match &mut self.tap {
            Some(tap) => tap,
            none => none.insert(peer_network.tap()?),
        };
        Ok(Some(Tap {
            device: tap.device.clone(),
            netns: tap.netns(),
            guest: IpAddr::V4(tap.guest),
            guest6: tap.guest6.map(|guest6| (guest6, PREFIX6)),
            peer: IpAddr::V4(tap.peer),
            peer6: tap.peer6,
            prefix: PREFIX,
        }))
    }

    /// What the interface of a Xen domain is to be called and how it is addressed; `None` without privileges, for the reason
    /// that [`Host::peer_network`] gives.
    ///
    /// # Errors
    /// When all addresses are in use.
    pub fn vif(&mut self) -> anyhow::Result<Option<Vif>> {
        let Ok(peer_network) = self.host.peer_network() else { return Ok(None) };
        let vif = match &mut self.vif {
            Some(vif) => vif,
            none => none.insert(peer_network.vif()?),
        };
        Ok(Some(vif.clone()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        drop(self.link.take());
        (self.tap, self.veth, self.cgroup) = (None, None, None);
        for dir in [&self.data, &self.scratch] {
            if let Err(e) = remove_tree(dir) {
                log::warn!("{e:#}");
            }
        }
    }
}
