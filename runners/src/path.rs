//! How the peer is reached from an environment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use workloads::PeerAddress;
use workloads::facts::Network;

/// One way to the peer, made by the stage. Having none is a value too. (`Path` alone is the standard library's.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathToPeer {
    /// The kind of path.
    pub network: Network,
    /// Network namespace that the environment's command is started in, where it is not the harness's own.
    pub netns: Option<PathBuf>,
    /// The device that belongs to the environment alone: in its namespace, or a guest's tap or back end in the peer's.
    pub device: Option<String>,
    /// The environment's own address and the length of its prefix, where it has a link.
    pub own: Option<(Ipv4Addr, u8)>,
    /// The same in IPv6; `None` where environment or host have no IPv6.
    pub own6: Option<(Ipv6Addr, u8)>,
    /// The peer's address as seen from inside; `None` without a network.
    pub peer: Option<IpAddr>,
    /// The peer's IPv6 address as seen from inside; `None` where environment or host have no IPv6.
    pub peer6: Option<Ipv6Addr>,
    /// The port of a peer of the environment's own, where the one of all is out of its reach.
    pub port: Option<u16>,
    /// The largest packet, where the link's own is another than its device would have.
    pub mtu: Option<u32>,
    /// Whether the peer's end of it is a device of ours, which the limits of links hold for.
    pub ours: bool,
    /// The environment's port that an engine publishes under the same number, to be reached by the peer at the address that the
    /// environment's own connections come from.
    pub published: Option<u16>,
    /// The program that translates addresses on the way, where it is one of the host.
    pub translator: Option<PathBuf>,
}

impl PathToPeer {
    /// No network at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same for an engine whose command stays in the harness's namespace.
    #[must_use]
    pub fn from_outside(self) -> Self {
        Self { netns: None, ..self }
    }

    /// The peer as a workload inside is told of it: `port` is that of the one of all, where there is one; a peer of the
    /// environment's own comes first. `None` where neither can be reached.
    pub fn peer_address(&self, port: Option<u16>) -> Option<PeerAddress> {
        let port = self.port.or(port)?;
        let v6 = self.peer6.map(|address| SocketAddr::new(address.into(), port));
        let address = match self.peer {
            Some(address) => PeerAddress::from(SocketAddr::new(address, port)),
            None => PeerAddress { v4: None, v6: None, published: None },
        };
        let address = PeerAddress { v6: v6.or(address.v6), published: self.published, ..address };
        (address.v4.is_some() || address.v6.is_some()).then_some(address)
    }
}
