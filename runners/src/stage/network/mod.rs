//! Named network namespaces: one for the peer, one for every environment, joined by veth pairs; taps for VMs.
//!
//! All by iproute2's `ip`, so that every step can be repeated by hand. Both ends of every link lie in namespaces of ours,
//! so that the addresses (198.18.0.0/15, reserved for benchmarks by RFC 2544, and 2001:2::/48, by RFC 5180) can't meet any
//! of the host's.

#[cfg(target_os = "linux")]
pub(crate) mod links;
mod shape;
#[cfg(target_os = "linux")]
mod translator;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use workloads::facts::Network;
use workloads::words;

use crate::host::LinkLimits;
use crate::host::journal::{Journal, Made};
use crate::names::{device_name, safe_name};
use crate::path::PathToPeer;

words! {
    /// How an environment on the host's kernel is to reach the peer. A runner offers some of these.
    pub enum Net {
        /// A veth pair; without privileges the host's loopback.
        Veth = "veth",
        /// A veth pair whose far end is a port of a bridge.
        Bridge = "bridge",
        /// A router that translates addresses.
        Nat = "nat",
        /// slirp4netns, which translates in user space.
        Slirp4netns = "slirp4netns",
        /// pasta, which does so too.
        Pasta = "pasta",
        /// The host's own network stack; without privileges its loopback.
        Host = "host",
        /// Not at all.
        None = "none",
    }
}

/// Length of the prefix of every link: two hosts.
pub(crate) const PREFIX: u8 = 30;

/// Length of the prefix of every link in IPv6.
pub(crate) const PREFIX6: u8 = 64;

/// First address of 198.18.0.0/15.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);

/// Number of /30 networks in a /15. There are twice as many /64 in a /48.
const LINKS: u32 = 1 << 15;

/// An address of 2001:2::/48 that no link has.
const TRIAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0xffff, 0, 0, 0, 1);

/// Whether the kernel speaks IPv6.
fn kernel_has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Whether the loopback of this network namespace has an IPv6 address.
pub(crate) fn loopback_has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A named network namespace, removed on drop with every link in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes the namespace and brings its loopback up.
    pub(crate) fn make(name: String, journal: &Journal) -> anyhow::Result<Self> {
        journal.note(&Made::Netns(name.clone()))?;
        // Before it is there: where `ip` makes it and can't enter it, as in a user namespace, its file stays.
        let netns = Self { name };
        ip(&["netns", "add", &netns.name])?;
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// As `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(e) = delete_netns(&self.name) {
            log::warn!("{e:#}");
        }
    }
}

/// Where iproute2 keeps the namespace of this name.
pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Removes a named namespace where there is one. Its links go with it.
pub(crate) fn delete_netns(name: &str) -> anyhow::Result<()> {
    if path_of(name).exists() { ip(&["netns", "delete", name]) } else { Ok(()) }
}

/// The peer's namespace and what hands out names and addresses to the links that end there.
#[derive(Debug)]
pub struct PeerNetwork {
    netns: Netns,
    id: String,
    next: AtomicU32,
    /// Whether namespaces of ours can have IPv6 addresses.
    ipv6: bool,
    /// What every link to it is held to.
    limits: LinkLimits,
}

impl PeerNetwork {
    /// Makes the peer's namespace; links are held to the limits.
    pub(crate) fn make(id: &str, limits: LinkLimits, journal: &Journal) -> anyhow::Result<Self> {
        let netns = Netns::make(format!("tarebench-{id}-peer"), journal)?;
        // A kernel may have IPv6 and be told not to use it: only an address that sticks is an answer.
        let try_ipv6 =
            || add_address6(netns.name(), TRIAL6, "lo").inspect_err(|e| log::info!("no IPv6 on links: {e:#}"));
        let ipv6 = kernel_has_ipv6() && try_ipv6().is_ok();
        Ok(Self { netns, id: id.to_string(), next: AtomicU32::new(0), ipv6, limits })
    }

    /// Where the peer runs.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Whether links have IPv6 addresses.
    pub(crate) fn ipv6(&self) -> bool {
        self.ipv6
    }

    fn number(&self) -> anyhow::Result<u32> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= LINKS { bail!("all {LINKS} links of 198.18.0.0/15 are in use by this run") } else { Ok(n) }
    }

    /// Tries the limits of links.
    ///
    /// # Errors
    /// When this kernel can't hold a link to them, with what to do.
    pub(crate) fn try_limits(&self) -> anyhow::Result<()> {
        self.limits.try_on(self.netns.name())
    }

    /// Joins a namespace of the environment's own to the peer's.
    pub(crate) fn join(&self, environment: &str, journal: &Journal) -> anyhow::Result<Veth> {
        self.join_by(environment, self.limits, journal)
    }

    fn join_by(&self, environment: &str, limits: LinkLimits, journal: &Journal) -> anyhow::Result<Veth> {
        let number = self.number()?;
        let netns = Netns::make(namespace_name(&self.id, environment), journal)?;
        let (near, far) = (device_name(&self.id, number, 'e'), device_name(&self.id, number, 'p'));
        let (peer, own) = addresses(number);
        let six = self.ipv6.then(|| addresses6(number));
        let (p, e) = (self.netns.name(), netns.name());
        ip(&["-n", p, "link", "add", &far, "type", "veth", "peer", "name", &near, "netns", e])?;
        // No IPv6 chatter (router solicitations, duplicate address detection) on a link that is measured.
        ip(&["-n", p, "link", "set", &far, "addrgenmode", "none"])?;
        ip(&["-n", e, "link", "set", &near, "addrgenmode", "none"])?;
        ip(&["-n", p, "addr", "add", &format!("{peer}/{PREFIX}"), "dev", &far])?;
        if let Some((peer6, _)) = six {
            add_address6(p, peer6, &far)?;
        }
        ip(&["-n", p, "link", "set", &far, "up"])?;
        limits.shape(p, &far)?;
        limits.narrow(&["-n", e], &near)?;
        let path = straight(Network::Veth, near, (peer, own), six);
        let path = PathToPeer { netns: Some(netns.path()), mtu: limits.mtu, ours: true, ..path };
        let veth = Veth { netns, path };
        veth.restore()?;
        Ok(veth)
    }

    /// A link like an environment's, with a socket at either end. No limits hold for it: it tells a calm moment from a rough one.
    pub(crate) fn own_link(&self, journal: &Journal) -> anyhow::Result<OwnLink> {
        let veth = self.join_by("canary", LinkLimits::default(), journal)?;
        let (Some((own, _)), Some(peer)) = (veth.path.own, veth.path.peer) else { bail!("the link has no addresses") };
        let near = socket_in(&veth.netns.path(), own.into())?;
        let far = socket_in(&self.netns.path(), peer)?;
        near.connect(far.local_addr()?)
            .and_then(|()| far.connect(near.local_addr()?))
            .context("can't connect the link")?;
        Ok(OwnLink { sockets: Some([near, far]), _veth: veth })
    }

    /// Makes a tap in the peer's namespace.
    pub(crate) fn tap(&self) -> anyhow::Result<TapLink> {
        let number = self.number()?;
        let device = device_name(&self.id, number, 't');
        let (peer, guest) = addresses(number);
        let six = self.ipv6.then(|| addresses6(number));
        let p = self.netns.name();
        ip(&["-n", p, "tuntap", "add", "dev", &device, "mode", "tap"])?;
        let path = straight(Network::Tap, device.clone(), (peer, guest), six);
        let path = PathToPeer { netns: Some(self.netns.path()), mtu: self.limits.mtu, ours: true, ..path };
        let tap = TapLink { path, device: device.clone(), netns: p.to_string() };
        ip(&["-n", p, "link", "set", &device, "addrgenmode", "none"])?;
        ip(&["-n", p, "addr", "add", &format!("{peer}/{PREFIX}"), "dev", &device])?;
        if let Some((peer6, _)) = six {
            add_address6(p, peer6, &device)?;
        }
        ip(&["-n", p, "link", "set", &device, "up"])?;
        self.limits.shape(p, &device)?;
        Ok(tap)
    }

    /// Name and addresses for the interface of a Xen domain. Xen makes it with the domain and takes it away again.
    pub(crate) fn vif(&self) -> anyhow::Result<PathToPeer> {
        let number = self.number()?;
        let six = self.ipv6.then(|| addresses6(number));
        Ok(straight(Network::Vif, device_name(&self.id, number, 'v'), addresses(number), six))
    }
}

/// An environment's namespace with its end of a veth pair.
#[derive(Debug)]
pub struct Veth {
    netns: Netns,
    path: PathToPeer,
}

/// A link of the harness's own.
#[derive(Debug)]
pub struct OwnLink {
    /// Connected with each other: the one at our end and the one in the peer's namespace.
    pub sockets: Option<[UdpSocket; 2]>,
    _veth: Veth,
}

/// A socket in another network namespace.
fn socket_in(netns: &Path, address: IpAddr) -> anyhow::Result<UdpSocket> {
    let naming = || format!("can't open a socket on {address} in {}", netns.display());
    within(netns, || Ok(UdpSocket::bind((address, 0))?)).with_context(naming)
}

/// Opens something in another network namespace: it stays there, and the thread that went to open it ends.
pub(crate) fn within<T: Send>(netns: &Path, open: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let go = || enter(netns).and_then(|()| open());
        let thread = std::thread::Builder::new().spawn_scoped(scope, go).context("no thread can be made")?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread panicked")).flatten()
    })
}

#[cfg(target_os = "linux")]
fn enter(netns: &Path) -> anyhow::Result<()> {
    Ok(nix::sched::setns(std::fs::File::open(netns)?, nix::sched::CloneFlags::CLONE_NEWNET)?)
}

#[cfg(not(target_os = "linux"))]
fn enter(_: &Path) -> anyhow::Result<()> {
    bail!("there are no network namespaces here")
}

impl Veth {
    /// Puts addresses and state back: an engine with a network stack of its own (gVisor) takes them off the device.
    pub(crate) fn restore(&self) -> anyhow::Result<()> {
        let (e, path) = (self.netns.name(), &self.path);
        let device = path.device.as_deref().expect("a veth pair has a device");
        ip(&["-n", e, "addr", "replace", "127.0.0.1/8", "dev", "lo"])?;
        ip(&["-n", e, "link", "set", "lo", "up"])?;
        if let Some((own, prefix)) = path.own {
            ip(&["-n", e, "addr", "replace", &format!("{own}/{prefix}"), "dev", device])?;
        }
        if let Some((own6, _)) = path.own6 {
            ip(&["-n", e, "addr", "replace", "::1/128", "dev", "lo"])?;
            add_address6(e, own6, device)?;
        }
        ip(&["-n", e, "link", "set", device, "up"])
    }

    /// Over the pair.
    pub(crate) fn path(&self) -> PathToPeer {
        self.path.clone()
    }
}

/// A tap in the peer's namespace, removed on drop.
#[derive(Debug)]
pub struct TapLink {
    path: PathToPeer,
    device: String,
    netns: String,
}

impl TapLink {
    /// Over the tap, for a monitor that is started where it lies.
    pub(crate) fn path(&self) -> PathToPeer {
        self.path.clone()
    }
}

impl Drop for TapLink {
    fn drop(&mut self) {
        if let Err(e) = ip(&["-n", &self.netns, "link", "delete", &self.device]) {
            log::warn!("{e:#}");
        }
    }
}

/// From end to end of a link of two hosts: peer's and environment's addresses.
fn straight(
    network: Network,
    device: String,
    (peer, own): (Ipv4Addr, Ipv4Addr),
    six: Option<(Ipv6Addr, Ipv6Addr)>,
) -> PathToPeer {
    let (peer6, own6) = six.map(|(peer6, own6)| (peer6, (own6, PREFIX6))).unzip();
    let (own, peer) = (Some((own, PREFIX)), Some(peer.into()));
    PathToPeer { network, device: Some(device), own, own6, peer, peer6, ..PathToPeer::none() }
}

/// Peer's and environment's address of a link.
fn addresses(number: u32) -> (Ipv4Addr, Ipv4Addr) {
    let base = FIRST + 4 * number;
    (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2))
}

/// The same in IPv6: a /64 each of 2001:2::/48.
fn addresses6(number: u32) -> (Ipv6Addr, Ipv6Addr) {
    let at = |host| Ipv6Addr::new(0x2001, 2, 0, number as u16, 0, 0, 0, host);
    (at(1), at(2))
}

/// Gives a device an IPv6 address that works at once: nobody else is on the link, so none is asked whether it is taken.
fn add_address6(netns: &str, address: Ipv6Addr, device: &str) -> anyhow::Result<()> {
    ip(&["-n", netns, "addr", "replace", &format!("{address}/{PREFIX6}"), "dev", device, "nodad"])
}

/// A name that fits a file name and a shell, whatever the environment is called; different names stay different.
pub(crate) fn namespace_name(id: &str, environment: &str) -> String {
    format!("tarebench-{id}-{}", safe_name(environment))
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    // Its own group, so that Ctrl-C in a terminal doesn't stop a removal half-way.
    command.args(args).stdin(Stdio::null()).process_group(0);
    log::debug!("{command:?}");
    let output = command.output().context("can't run `ip`; install iproute2")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {}", args.join(" "), words.trim().replace('\n', "; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_in_the_benchmark_range() {
        assert_eq!(addresses(0), (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)));
        assert_eq!(addresses(LINKS - 1).1, Ipv4Addr::new(198, 19, 255, 254));
        assert_eq!(addresses6(0).0.to_string(), "2001:2::1");
        assert_eq!(addresses6(LINKS - 1).1.to_string(), "2001:2:0:7fff::2");
    }
}
