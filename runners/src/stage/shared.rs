//! Everything that the stages of a run share beyond the host itself: the network of the one peer, its address without one,
//! and the cgroup that holds those of the environments. Networks and address are made when first asked for.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use super::cgroup;
use super::loopback::Loopback;
use super::network::{OwnLink, PeerNetwork};
use crate::host::Host;
use crate::leftovers;
use crate::process::kill_left;

/// Everything that the stages of a run share. Each of them keeps it, so that it goes after the last; the host with its
/// journal goes after it.
#[derive(Debug)]
pub struct Shared {
    /// The host that it is made on.
    pub host: Arc<Host>,
    peer_network: OnceLock<Result<PeerNetwork, String>>,
    loopback: OnceLock<Loopback>,
}

impl Shared {
    /// Of the run that this host was looked at for. Nothing is made yet.
    pub fn new(host: Arc<Host>) -> Arc<Self> {
        Arc::new(Self { host, peer_network: OnceLock::new(), loopback: OnceLock::new() })
    }

    /// The address of the peer where it is on the host's loopback.
    pub fn loopback(&self) -> Ipv4Addr {
        self.loopback.get_or_init(|| Loopback::make(&self.host)).address
    }

    /// A link of the harness's own into the peer's namespace, for its own pings; `None` without privileges.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn own_link(&self) -> anyhow::Result<Option<OwnLink>> {
        self.peer_network().ok().map(|network| network.own_link(&self.host.journal)).transpose()
    }

    /// Looks whether links can be held to the limits that all of them are to have.
    ///
    /// # Errors
    /// When there are no links of ours, or this kernel can't, with what to do.
    pub fn check_link_limits(&self) -> anyhow::Result<()> {
        let limits = self.host.resources.link;
        if !limits.is_set() {
            return Ok(());
        }
        let no = |why: &str| {
            anyhow::anyhow!("{limits} can't be had: {why}; run tarebench as root, or leave link away in resources")
        };
        self.peer_network().map_err(no)?.try_limits()
    }

    /// The peer's network namespace, made when first asked for; or why there is none.
    ///
    /// # Errors
    /// A reason in words, for the report: no privileges, no `ip`, or what `ip` said.
    pub fn peer_network(&self) -> Result<&PeerNetwork, &str> {
        let host = &self.host;
        let make = || {
            if cfg!(not(target_os = "linux")) {
                return Err(format!("{} has no network namespaces; the peer is on the host's loopback", host.system));
            }
            if !host.privileged {
                return Err("network namespaces need root; the peer is on the host's loopback".to_string());
            }
            PeerNetwork::make(&host.id, host.resources.link, &host.journal)
                .map_err(|e| format!("no network namespaces: {e:#}"))
        };
        self.peer_network.get_or_init(make).as_ref().map_err(String::as_str)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        (self.peer_network, self.loopback) = (OnceLock::new(), OnceLock::new());
        // Without a cgroup a command of the user's may have left something that got away from its process group.
        kill_left(Some(&self.host.id), &[]);
        if self.host.privileged {
            cgroup::remove(&format!("tarebench-{}", self.host.id));
            cgroup::leaf::undo_of_the_gone(leftovers::lives);
            let live = |id: &str| id != self.host.id && leftovers::lives(id);
            match cgroup::leaf::undo(&cgroup::leaf::name(&self.host.id)) {
                Err(e) if cgroup::leaf::others_are_here(live) => {
                    log::info!("the processes of this container come back when the other run has ended: {e:#}");
                }
                Err(e) => log::warn!("processes of this container stay in a cgroup of ours: {e:#}"),
                Ok(()) => {}
            }
        }
    }
}
