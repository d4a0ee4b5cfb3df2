//! Everything that the sessions of one environment stand on: root file system, data directory, network, cgroup. Made when
//! first asked for, kept for the next block, removed on drop.

#[cfg_attr(not(target_os = "linux"), path = "../elsewhere/cgroup.rs")]
pub mod cgroup;
pub mod data;
pub mod disk;
pub mod evidence;
pub(crate) mod loopback;
pub mod network;
pub mod peer;
pub mod shared;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use workloads::facts::{DataFacts, Network};

use crate::host::Host;
use crate::host::journal::Made;
use crate::names::safe_name;
use crate::path::PathToPeer;
use crate::process::remove_tree;
#[cfg(target_os = "linux")]
use crate::unavailable::Unavailable;
use cgroup::Cgroup;
use disk::Disk;
use evidence::{LinkCounters, Witness};
#[cfg(target_os = "linux")]
use network::Net;
use network::{PeerNetwork, TapLink, Veth};
use peer::PeerProcess;
use shared::Shared;

/// How long a peer of an environment's own may take to say its port.
const PEER: Duration = Duration::from_secs(5);

/// Everything that the sessions of one environment stand on.
#[derive(Debug)]
pub struct Stage {
    /// The run's host.
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
    vif: Option<PathToPeer>,
    #[cfg(target_os = "linux")]
    link: Option<network::links::Link>,
    own_peer: Option<PeerProcess>,
    #[cfg(target_os = "linux")]
    published: Option<u16>,
    shared: Arc<Shared>,
}

impl Stage {
    /// A stage whose data lies in a fresh directory below `data_dir`.
    ///
    /// # Errors
    /// When the directories can't be made.
    pub fn new(shared: Arc<Shared>, environment: &str, data_dir: &Path) -> anyhow::Result<Self> {
        let host = Arc::clone(&shared.host);
        let name = safe_name(environment);
        let scratch = host.scratch.join(&name);
        fs::create_dir(&scratch).with_context(|| format!("can't make {}", scratch.display()))?;
        let data_dir = data_dir.canonicalize().with_context(|| format!("can't find {}", data_dir.display()))?;
        let data = data_dir.join(format!("tarebench-{}-{name}", host.id));
        host.note_data(&data_dir, &data)?;
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
            #[cfg(target_os = "linux")]
            published: None,
            shared,
        })
    }

    /// The witness of this environment's counters while it works, with the disk that its launch says is under its data.
    pub fn witness(&mut self, data: &DataFacts) -> Witness {
        Witness::new(Some(self.cgroup()), &self.host.pinning.work, data, self.disk.as_ref()).over(self.counters())
    }

    /// The counters of the environment's own link, where we have made it one.
    fn counters(&self) -> Option<LinkCounters> {
        let made = || self.veth.as_ref().map(Veth::path).or_else(|| self.tap.as_ref().map(TapLink::path));
        #[cfg(target_os = "linux")]
        let path = self.link.as_ref().map(network::links::Link::path).or_else(made)?;
        #[cfg(not(target_os = "linux"))]
        let path = made()?;
        LinkCounters::open(path.netns.as_deref()?, path.device.as_deref()?).inspect_err(|e| log::debug!("{e:#}")).ok()
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

    /// The disk under the data, where it is known.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
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
            copy_program(&self.host.binary, &root.join("tarebench")).context("can't copy the binary into the root")?;
            self.root = Some(root);
        }
        Ok(self.root.as_deref().expect("just made"))
    }

    /// A fresh copy of [`Stage::root`] on the file system of the data, for boxes whose data lies in their root: the scratch
    /// directory may be on another one. The one before is removed: a box that owned it may have left links in it, through
    /// which we would write on the host.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn root_beside_data(&mut self) -> anyhow::Result<PathBuf> {
        let root = self.data().join("root");
        let source = self.root()?.to_path_buf();
        let naming = || format!("can't copy {} to {}", source.display(), root.display());
        remove_tree(&root)?;
        fs::create_dir(&root).with_context(naming)?;
        for entry in fs::read_dir(&source).with_context(naming)? {
            let entry = entry.with_context(naming)?;
            let target = root.join(entry.file_name());
            if entry.file_type().with_context(naming)?.is_dir() {
                fs::create_dir(&target).with_context(naming)?;
            } else {
                copy_program(&entry.path(), &target).with_context(naming)?;
                // Else it is written back beside a measurement.
                fs::File::open(&target).and_then(|copy| copy.sync_all()).with_context(naming)?;
            }
        }
        Ok(root)
    }

    /// The peer's network namespace; or why there is none, in words.
    ///
    /// # Errors
    /// See [`Shared::peer_network`].
    pub fn peer_network(&self) -> Result<&PeerNetwork, &str> {
        self.shared.peer_network()
    }

    /// The address of the peer where it is on the host's loopback.
    pub fn loopback(&self) -> Ipv4Addr {
        self.shared.loopback()
    }

    /// The environment's own network namespace joined to the peer's by a veth pair; without privileges the host's loopback.
    ///
    /// # Errors
    /// When the namespace or the link can't be made.
    pub fn path_to_peer(&mut self) -> anyhow::Result<PathToPeer> {
        let Ok(peer_network) = self.shared.peer_network() else {
            return Ok(PathToPeer {
                network: Network::Loopback,
                peer: Some(IpAddr::V4(self.shared.loopback())),
                peer6: network::loopback_has_ipv6().then_some(Ipv6Addr::LOCALHOST),
                ..PathToPeer::none()
            });
        };
        let veth = match &mut self.veth {
            Some(veth) => {
                veth.restore()?;
                veth
            }
            none => none.insert(peer_network.join(&self.environment, &self.host.journal)?),
        };
        Ok(veth.path())
    }

    /// The path to the peer that was asked for: a veth pair is that of [`Stage::path_to_peer`], others are those of
    /// `network/links.rs`; the host's stack is its loopback without privileges.
    ///
    /// # Errors
    /// When it can't be made, or needs root.
    #[cfg(target_os = "linux")]
    pub fn path(&mut self, net: Net) -> anyhow::Result<PathToPeer> {
        self.path_by(net, None)
    }

    /// The same, by another program than the installed one where one is `set` and the path needs one.
    ///
    /// # Errors
    /// See [`Stage::path`].
    #[cfg(target_os = "linux")]
    pub fn path_by(&mut self, net: Net, set: Option<&Path>) -> anyhow::Result<PathToPeer> {
        match net {
            Net::None => return Ok(PathToPeer::none()),
            Net::Veth => return self.path_to_peer(),
            Net::Host if self.shared.peer_network().is_err() => return self.path_to_peer(),
            _ => {}
        }
        let peer_network = self.shared.peer_network().map_err(|because| Unavailable {
            because: format!("network={net} is not possible: {because}"),
            fix: "run tarebench as root, or set network=veth or network=host".into(),
            broken: false,
        })?;
        let (host, environment) = (&self.host, &self.environment);
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(network::links::Link::make(
                net,
                set,
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

    /// A port for a start of this environment, for an engine to publish under the same number.
    ///
    /// # Errors
    /// When the host's loopback has none that is free.
    #[cfg(target_os = "linux")]
    pub(crate) fn port_to_publish(&mut self) -> anyhow::Result<u16> {
        use std::net::TcpListener;
        // In namespaces of ours nobody else listens. It is above those of system programs, and below those that connections are
        // made from.
        static NEXT: AtomicU32 = AtomicU32::new(4000);
        if self.shared.peer_network().is_err() {
            // Of the host's own any other program may take one between two starts.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of the loopback is free")?;
            return Ok(free.local_addr()?.port());
        }
        if let Some(port) = self.published {
            return Ok(port);
        }
        let port = u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).context("no port is left to publish")?;
        Ok(*self.published.insert(port))
    }

    /// Over a tap device in the peer's network namespace; `None` without privileges, for the reason that
    /// [`Stage::peer_network`] gives.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn tap(&mut self) -> anyhow::Result<Option<PathToPeer>> {
        let Ok(peer_network) = self.shared.peer_network() else { return Ok(None) };
        let tap = match &mut self.tap {
            Some(tap) => tap,
            none => none.insert(peer_network.tap()?),
        };
        Ok(Some(tap.path()))
    }

    /// Over the interface of a Xen domain: how it is to be called and addressed; `None` without privileges, for the reason
    /// that [`Stage::peer_network`] gives.
    ///
    /// # Errors
    /// When all addresses are in use.
    pub fn vif(&mut self) -> anyhow::Result<Option<PathToPeer>> {
        let Ok(peer_network) = self.shared.peer_network() else { return Ok(None) };
        let vif = match &mut self.vif {
            Some(vif) => vif,
            none => none.insert(peer_network.vif()?),
        };
        Ok(Some(vif.clone()))
    }
}

#[cfg(test)]
impl Stage {
    /// A stage of a run of its own, with its data in a directory that goes with the first of the pair.
    pub(crate) fn of_a_test(test: &str) -> (tempfile::TempDir, Self) {
        let data = tempfile::tempdir().expect("a directory");
        let id = format!("{test}{:x}", std::process::id() & 0xff_ffff);
        let host =
            Host::new(&id, Path::new("/proc/self/exe"), crate::host::Resources::new(1, 1 << 28)).expect("a host");
        let stage = Self::new(Shared::new(Arc::new(host)), "box", data.path()).expect("a stage");
        (data, stage)
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

/// How long a process that another thread starts may have what is ours: until it executes its program.
const BETWEEN_FORK_AND_EXECVE: Duration = Duration::from_secs(2);

/// Copies a program, and waits until nobody has the copy open for writing any more: the kernel executes no such file, and a process
/// that is being started in another thread has all our descriptors for a moment.
fn copy_program(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to)?;
    let copy = fs::File::open(to)?;
    let until = std::time::Instant::now() + BETWEEN_FORK_AND_EXECVE;
    while written_to(&copy) && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether somebody has a file open for writing: the kernel then gives no lease on it.
#[cfg(target_os = "linux")]
fn written_to(file: &fs::File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and the lease is given back at once.
    let refused = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } != 0;
    if refused {
        // Any other reason says that this file system has no leases.
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    }
    // SAFETY: as above.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    false
}

#[cfg(not(target_os = "linux"))]
fn written_to(_file: &fs::File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::Resources;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_somebody_may_still_write_is_waited_for() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let kind = nix::sys::statfs::statfs(folder.path()).expect("there").filesystem_type();
        if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
            eprintln!("SKIPPED: an overlay may have no leases");
            return;
        }
        let program = folder.path().join("program");
        fs::copy("/bin/true", &program).expect("copied");
        let writer = fs::File::options().append(true).open(&program).expect("ours");
        let file = fs::File::open(&program).expect("ours");
        assert!(written_to(&file));
        drop(writer);
        // Processes that other tests start have it for a moment too.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while written_to(&file) {
            assert!(std::time::Instant::now() < until, "nobody has it");
        }
        let copy = folder.path().join("copy");
        // A process in its first moment has what we have.
        fs::write(&copy, "").expect("written");
        let held = fs::File::options().append(true).open(&copy).expect("ours");
        let copied = std::thread::scope(|scope| {
            let copying = scope.spawn(|| copy_program(&program, &copy));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!copying.is_finished(), "it waits");
            drop(held);
            copying.join().expect("no panic")
        });
        copied.expect("copied");
        assert!(std::process::Command::new(&copy).status().expect("it can be executed").success());
    }

    #[test]
    fn a_root_that_a_container_owned_is_made_anew() {
        let data = tempfile::tempdir().expect("a directory");
        let host = Host::new(
            &format!("rb{:x}", std::process::id() & 0xff_ffff),
            Path::new("/proc/self/exe"),
            Resources::new(1, 1 << 28),
        );
        let mut stage = Stage::new(Shared::new(Arc::new(host.expect("made"))), "box", data.path()).expect("made");
        let root = stage.root_beside_data().expect("made");
        // As its container leaves it, who is root in there.
        let elsewhere = data.path().join("elsewhere");
        fs::remove_file(root.join("tarebench")).expect("there");
        symlink(&elsewhere, root.join("tarebench")).expect("planted");
        fs::remove_dir(root.join("etc")).expect("there");
        symlink(data.path(), root.join("etc")).expect("planted");
        let root = stage.root_beside_data().expect("made anew");
        assert!(!elsewhere.exists(), "nothing is written through a link that the container made");
        let kind = |name: &str| fs::symlink_metadata(root.join(name)).expect("there").file_type();
        assert!(kind("tarebench").is_file() && kind("etc").is_dir());
    }
}
