//! Other paths to the peer than a plain veth pair: through a bridge, through a router that translates addresses, through a
//! program that does so in user space, or from the host's own network stack. What is made lies in namespaces of ours, but for
//! one end of the host's pair, which goes with the other.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use workloads::facts::Network;
use workloads::settings::{Kind, Setting, SettingError, Value as _};

use super::translator::{self, Translator};
use super::{
    Net, Netns, PREFIX, PREFIX6, PeerNetwork, add_address6, addresses, addresses6, device_name, ip, namespace_name,
};
use crate::host::journal::Journal;
use crate::path::PathToPeer;
use crate::process;
use crate::process::Beside;

/// The network of a runner that starts in whichever network namespace we give it, and can have an empty one.
pub(crate) const NETWORK: Setting = Setting::new("network", Net::KIND).with_default("veth").with_about(
    "Path to the peer: a veth pair (without privileges the host's loopback), through a bridge, through a router with \
     nftables masquerade, through address translation in user space by slirp4netns or pasta, from the host's own stack, or none",
);

/// The same for a runner without a network namespace of its own making.
pub(crate) const NETWORK_GIVEN: Setting =
    NETWORK.with_words(&["veth", "bridge", "nat", "slirp4netns", "pasta", "host"]).with_about(
        "Path to the peer: a veth pair, through a bridge, through a router with nftables masquerade, through address \
         translation in user space by slirp4netns or pasta, or from the host's own stack",
    );

/// Another build of the program that translates addresses.
pub(crate) const TRANSLATOR: Setting = Setting::new("translator.binary", Kind::Program).with_about(
    "Full path of the program that network=slirp4netns or pasta starts, for another build than the installed one; by default \
     the one in PATH",
);

/// Refuses a program that would not be started.
pub(crate) fn check_translator(network: Net, translator: Option<&Path>) -> Result<(), SettingError> {
    match (network, translator) {
        (Net::Slirp4netns | Net::Pasta, _) | (_, None) => Ok(()),
        (_, Some(path)) => Err(SettingError::Conflict(format!(
            "translator.binary={} has no effect with network={network}; leave it away, or set network=slirp4netns or pasta",
            path.display()
        ))),
    }
}

/// A path and everything it is made of, removed on drop.
#[derive(Debug)]
pub(crate) struct Link {
    path: PathToPeer,
    // In the order of removal: a namespace takes its ends of the pairs along.
    _translator: Option<Beside>,
    _own: Option<Netns>,
    _router: Option<Netns>,
    _device: Option<Device>,
}

impl Link {
    /// Makes the path that was asked for; `cpus` are the environment's.
    ///
    /// # Errors
    /// When it can't be made, with what to do.
    pub(crate) fn make(
        net: Net,
        translator: Option<&Path>,
        peer: &PeerNetwork,
        environment: &str,
        journal: &Journal,
        cpus: &[usize],
    ) -> anyhow::Result<Self> {
        match net {
            Net::Slirp4netns => peer.translated(Translator::Slirp4netns, translator, environment, journal, cpus),
            Net::Pasta => peer.translated(Translator::Pasta, translator, environment, journal, cpus),
            Net::Bridge => peer.bridge(environment, journal).context("can't make the bridge"),
            Net::Nat => peer.router(environment, journal).context("can't make the router for network=nat"),
            Net::Host => peer.join_host().context("can't join the host's network to the peer's"),
            Net::Veth | Net::None => bail!("network={net} takes no more than a veth pair"),
        }
    }

    pub(crate) fn path(&self) -> PathToPeer {
        self.path.clone()
    }
}

/// A device that doesn't go with a namespace of its environment.
#[derive(Debug)]
struct Device {
    /// `None` where it is in the harness's own namespace.
    netns: Option<String>,
    name: String,
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut words = Vec::new();
        if let Some(netns) = &self.netns {
            words.extend(["-n", netns]);
        }
        words.extend(["link", "delete", &self.name]);
        if let Err(e) = ip(&words) {
            log::warn!("{e:#}");
        }
    }
}

impl PeerNetwork {
    fn bridge(&self, environment: &str, journal: &Journal) -> anyhow::Result<Link> {
        let number = self.number()?;
        let own_ns = Netns::make(namespace_name(&self.id, environment), journal)?;
        let [near, far, bridge] = ['e', 'p', 'b'].map(|end| device_name(&self.id, number, end));
        let (peer, own) = addresses(number);
        let (p, e) = (self.netns.name(), own_ns.name());
        // Without the spanning tree a port forwards at once.
        ip(&["-n", p, "link", "add", &bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        let device = Device { netns: Some(p.to_string()), name: bridge.clone() };
        ip(&["-n", p, "link", "add", &far, "type", "veth", "peer", "name", &near, "netns", e])?;
        ip(&["-n", p, "link", "set", &far, "addrgenmode", "none"])?;
        ip(&["-n", p, "link", "set", &far, "master", &bridge])?;
        ip(&["-n", p, "link", "set", &far, "up"])?;
        address(Some(p), &bridge, peer)?;
        address(Some(e), &near, own)?;
        let six = self.ipv6().then(|| addresses6(number));
        if let Some((peer6, own6)) = six {
            add_address6(p, peer6, &bridge)?;
            add_address6(e, own6, &near)?;
        }
        self.limits.shape(p, &far)?;
        self.limits.narrow(&["-n", e], &near)?;
        let (peer6, own6) = six.map(|(peer6, own6)| (peer6, (own6, PREFIX6))).unzip();
        let path = self.path(Network::Bridge, Some(&own_ns), peer, own);
        let path = PathToPeer { device: Some(near), peer6, own6, ..path };
        Ok(Link { path, _translator: None, _own: Some(own_ns), _router: None, _device: Some(device) })
    }

    fn router(&self, environment: &str, journal: &Journal) -> anyhow::Result<Link> {
        process::require("nft", "nftables")?;
        let (inside, outside) = (self.number()?, self.number()?);
        let own_ns = Netns::make(namespace_name(&self.id, environment), journal)?;
        let router_ns = Netns::make(format!("{}-nat", namespace_name(&self.id, environment)), journal)?;
        let [near, port] = ['e', 'r'].map(|end| device_name(&self.id, inside, end));
        let [uplink, far] = ['u', 'p'].map(|end| device_name(&self.id, outside, end));
        let (gateway, own) = addresses(inside);
        let (peer, translated) = addresses(outside);
        let (p, e, r) = (self.netns.name(), own_ns.name(), router_ns.name());
        ip(&["-n", r, "link", "add", &port, "type", "veth", "peer", "name", &near, "netns", e])?;
        ip(&["-n", r, "link", "add", &uplink, "type", "veth", "peer", "name", &far, "netns", p])?;
        address(Some(r), &port, gateway)?;
        address(Some(r), &uplink, translated)?;
        address(Some(p), &far, peer)?;
        address(Some(e), &near, own)?;
        self.limits.shape(p, &far)?;
        for (netns, device) in [(r, &uplink), (r, &port), (e, &near)] {
            self.limits.narrow(&["-n", netns], device)?;
        }
        ip(&["-n", e, "route", "add", "default", "via", &gateway.to_string()])?;
        forward_in(&router_ns)?;
        let table = format!("tarebench_{}", self.id);
        let rules = format!(
            "add table ip {table}; add chain ip {table} out {{ type nat hook postrouting priority 100; }}; add rule ip {table} \
             out oifname \"{uplink}\" masquerade"
        );
        ip(&["netns", "exec", r, "nft", &rules])?;
        let path = PathToPeer { device: Some(near), ..self.path(Network::Nat, Some(&own_ns), peer, own) };
        Ok(Link { path, _translator: None, _own: Some(own_ns), _router: Some(router_ns), _device: None })
    }

    /// Through a program in user space, on the environment's CPUs: what it sends costs time there.
    fn translated(
        &self,
        program: Translator,
        set: Option<&Path>,
        environment: &str,
        journal: &Journal,
        cpus: &[usize],
    ) -> anyhow::Result<Link> {
        let found = program.program().require(set)?;
        let number = self.number()?;
        let own_ns = Netns::make(namespace_name(&self.id, environment), journal)?;
        let gate_ns = Netns::make(format!("{}-nat", namespace_name(&self.id, environment)), journal)?;
        let [uplink, far] = ['u', 'p'].map(|end| device_name(&self.id, number, end));
        let (peer, translated) = addresses(number);
        let (p, g) = (self.netns.name(), gate_ns.name());
        ip(&["-n", p, "link", "add", &far, "type", "veth", "peer", "name", &uplink, "netns", g])?;
        address(Some(p), &far, peer)?;
        address(Some(g), &uplink, translated)?;
        self.limits.shape(p, &far)?;
        self.limits.narrow(&["-n", g], &uplink)?;
        // pasta takes the device of the default route.
        ip(&["-n", g, "route", "add", "default", "via", &peer.to_string()])?;
        let translator = translator::start(&found, program, &gate_ns, &own_ns, cpus)?;
        let path = PathToPeer {
            own: None,
            device: Some(translator::DEVICE.into()),
            translator: Some(found),
            ..self.path(program.network(), Some(&own_ns), peer, peer)
        };
        Ok(Link { path, _translator: Some(translator), _own: Some(own_ns), _router: Some(gate_ns), _device: None })
    }

    fn join_host(&self) -> anyhow::Result<Link> {
        let number = self.number()?;
        let [near, far] = ['e', 'p'].map(|end| device_name(&self.id, number, end));
        let (peer, own) = addresses(number);
        let p = self.netns.name();
        let here = std::process::id().to_string();
        ip(&["-n", p, "link", "add", &far, "type", "veth", "peer", "name", &near, "netns", &here])?;
        let device = Device { netns: None, name: near.clone() };
        address(Some(p), &far, peer)?;
        address(None, &near, own)?;
        self.limits.shape(p, &far)?;
        self.limits.narrow(&[], &near)?;
        let path = PathToPeer { device: Some(near), ..self.path(Network::Host, None, peer, own) };
        Ok(Link { path, _translator: None, _own: None, _router: None, _device: Some(device) })
    }

    /// In IPv4 alone: nothing here translates IPv6, and the host's own stack may be without it.
    fn path(&self, network: Network, netns: Option<&Netns>, peer: Ipv4Addr, own: Ipv4Addr) -> PathToPeer {
        PathToPeer {
            netns: netns.map(Netns::path),
            network,
            peer: Some(IpAddr::V4(peer)),
            own: Some((own, PREFIX)),
            mtu: self.limits.mtu,
            ours: true,
            ..PathToPeer::none()
        }
    }
}

/// Gives a device its address and brings it up, without IPv6 chatter.
fn address(netns: Option<&str>, device: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let whole = format!("{address}/{PREFIX}");
    let place: &[&str] = match &netns {
        Some(name) => &["-n", name],
        None => &[],
    };
    for step in [
        &["link", "set", device, "addrgenmode", "none"][..],
        &["addr", "add", &whole, "dev", device],
        &["link", "set", device, "up"],
    ] {
        ip(&[place, step].concat())?;
    }
    Ok(())
}

/// Lets a namespace pass packets on. The file shows the network namespace of the thread that opens it, so a thread of
/// its own goes there and ends there.
fn forward_in(netns: &Netns) -> anyhow::Result<()> {
    let file = File::open(netns.path()).with_context(|| format!("can't open {}", netns.path().display()))?;
    let write = move || -> anyhow::Result<()> {
        nix::sched::setns(file.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET)
            .context("can't enter the router's namespace")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("can't switch forwarding on in the router")
    };
    let thread = std::thread::Builder::new().spawn(write).context("can't make a thread for the router")?;
    thread.join().map_err(|_| anyhow::anyhow!("the thread that makes the router panicked"))?
}
