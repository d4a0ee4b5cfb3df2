//! Network: connections and datagrams to the peer, which stands outside every environment.
//!
//! A connection begins with a greeting: the workload's name, a line feed, and the numbers that both ends have to agree on.

pub mod chatty;
pub mod crr;
pub mod imap;
pub(crate) mod inbound;
pub mod loaded_rr;
pub mod rr;
pub mod stream;

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::settings::{Setting, Value as _};
use crate::workload::Place;

/// Connections served at a time; more are closed at once, so that a flood can't take the host's memory.
pub const MAX_CONNECTIONS: usize = 1024;

/// After so long without an answer the connection counts as broken. Who has lost segments asks again after 1, 2, 4 and 8 s.
const PATIENCE: Duration = Duration::from_secs(30);

crate::words! {
    /// The protocol below TCP and UDP.
    enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
}

/// The setting `family`.
const FAMILY: Setting = Setting::new("family", Family::KIND)
    .with_default("ipv4")
    .with_about("The protocol that carries everything to the peer");

/// The peer's address of this family.
fn peer_address(place: &Place, family: Family, name: &str) -> anyhow::Result<SocketAddr> {
    let peer = place.peer.with_context(|| {
        format!("{name} needs a peer, and the environment has no path to one; give it a network other than none, as root where that is a tap")
    })?;
    match family {
        Family::Ipv6 => {
            let address = peer.v6.context("the environment has no IPv6 path to the peer; set family = ipv4")?;
            // Nothing is sent: the kernel only looks for a route and for an address to send from.
            Socket::new(Domain::IPV6, Type::DGRAM, None)
                .and_then(|socket| socket.connect(&address.into()))
                .with_context(|| format!("the environment has no IPv6 that leads to {address}; set family = ipv4"))?;
            Ok(address)
        }
        Family::Ipv4 => peer.v4.context("the environment has no IPv4 path to the peer; set family = ipv6"),
    }
}

/// A socket that waits for nothing longer than [`PATIENCE`].
fn bounded(address: SocketAddr, kind: Type, patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

/// A connection to the peer, without a greeting yet. Allocates nothing unless it fails.
#[inline]
fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connect = || {
        let socket = bounded(address, Type::STREAM, PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        socket.connect(&SockAddr::from(address))?;
        Ok(socket.into())
    };
    connect().map_err(|e: io::Error| unreachable(address, e))
}

/// Why a connection could not be made.
#[cold]
fn unreachable(address: SocketAddr, error: io::Error) -> anyhow::Error {
    let words = match error.raw_os_error() {
        // gVisor says the latter.
        Some(libc::EADDRNOTAVAIL | libc::EAGAIN) => format!(
            "can't reach the peer at {address}: the environment's ephemeral ports are used up; set fewer jobs or streams, or \
             widen net.ipv4.ip_local_port_range in it"
        ),
        Some(libc::EMFILE) => format!(
            "can't reach the peer at {address}: the environment allows no more open files; set fewer jobs or streams"
        ),
        Some(libc::EINPROGRESS) => {
            format!("can't reach the peer at {address}: no answer within {} s", PATIENCE.as_secs())
        }
        _ => format!("can't reach the peer at {address}; is there a route from inside the environment?"),
    };
    anyhow::Error::new(error).context(words)
}

/// The first bytes of a connection.
fn greeting(name: &str, numbers: &[u32]) -> Vec<u8> {
    let mut greeting = format!("{name}\n").into_bytes();
    numbers.iter().for_each(|number| greeting.extend_from_slice(&number.to_le_bytes()));
    greeting
}

/// Connects to the peer and tells it the workload, and the numbers that both ends have to agree on.
fn connect(address: SocketAddr, name: &str, numbers: &[u32]) -> anyhow::Result<TcpStream> {
    let mut stream = open(address)?;
    stream.write_all(&greeting(name, numbers)).with_context(|| format!("can't greet the peer at {address}"))?;
    Ok(stream)
}

/// Fills `buffer` from the connection; `false` where the other side has closed it between two messages.
#[inline]
fn read_whole(stream: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => anyhow::bail!("the connection was closed within a message"),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(silent(e)),
        }
    }
    Ok(true)
}

/// Why nothing could be read.
#[cold]
fn silent(error: io::Error) -> anyhow::Error {
    let words = if nothing_came(&error) {
        format!("can't read from the connection: nothing came for {} s", PATIENCE.as_secs())
    } else {
        "can't read from the connection".into()
    };
    anyhow::Error::new(error).context(words)
}

/// Whether a socket's own patience has ended.
fn nothing_came(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Fills `buffer` with an answer of the peer.
#[inline]
fn read_answer(stream: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<()> {
    anyhow::ensure!(
        read_whole(stream, buffer)?,
        "the peer closed the connection: it was ended, or serves {MAX_CONNECTIONS} others already"
    );
    Ok(())
}

/// The numbers that follow the workload's name on a new connection, as the peer reads them.
fn read_numbers<const N: usize>(stream: &mut TcpStream) -> anyhow::Result<[u32; N]> {
    let mut bytes = [[0; 4]; N];
    stream.read_exact(bytes.as_flattened_mut()).map_err(|e| without_greeting(stream, e))?;
    Ok(bytes.map(u32::from_le_bytes))
}

/// Why a connection has no whole greeting; the socket knows how long was waited for it.
#[cold]
pub(crate) fn without_greeting(stream: &TcpStream, error: io::Error) -> anyhow::Error {
    let patience = stream.read_timeout().ok().flatten().filter(|_| nothing_came(&error));
    let words = match patience {
        Some(patience) => format!("a connection had no whole greeting after {patience:?}"),
        None => "a connection ended within its greeting".into(),
    };
    anyhow::Error::new(error).context(words)
}

/// A number of a greeting as a size, where it is within bounds: whoever sent it may be anybody.
fn sized(number: u32, min: u64, max: u64) -> anyhow::Result<usize> {
    anyhow::ensure!((min..=max).contains(&number.into()), "a size of {number} bytes is not between {min} and {max}");
    Ok(number as usize)
}

/// A seed as two numbers of a greeting.
fn halves(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// The seed of [`halves`].
fn whole(halves: [u32; 2]) -> u64 {
    u64::from(halves[0]) | u64::from(halves[1]) << 32
}

/// The largest packet on the way to the other end, as the kernel that sends it knows it; `None` where it doesn't say.
#[cfg(target_os = "linux")]
fn mtu(socket: &impl std::os::fd::AsRawFd) -> Option<u32> {
    let ask = |level, name| {
        let (mut mtu, mut size) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: both options write one int, for which there is room, and its size.
        let failed = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut size) };
        u32::try_from(mtu).ok().filter(|mtu| failed == 0 && *mtu > 0)
    };
    ask(libc::IPPROTO_IP, libc::IP_MTU).or_else(|| ask(libc::IPPROTO_IPV6, libc::IPV6_MTU))
}

#[cfg(not(target_os = "linux"))]
fn mtu(_socket: &impl std::os::fd::AsRawFd) -> Option<u32> {
    None
}

/// The ends of a connection, with its MTU.
fn described(stream: &TcpStream) -> BTreeMap<String, String> {
    let mut facts = ends(stream.local_addr(), stream.peer_addr());
    facts.extend(mtu(stream).map(|bytes| ("mtu".to_string(), bytes.to_string())));
    facts
}

/// Both ends of a connection, for the record.
fn ends(local: io::Result<SocketAddr>, peer: io::Result<SocketAddr>) -> BTreeMap<String, String> {
    let name = |address: io::Result<SocketAddr>| address.map_or_else(|e| e.to_string(), |a| a.to_string());
    BTreeMap::from([("local".into(), name(local)), ("peer".into(), name(peer))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_survives_the_greeting() {
        for seed in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(whole(halves(seed)), seed);
        }
    }

    #[test]
    fn used_up_ports_are_told_from_a_missing_route() {
        let address = ([198, 18, 0, 1], 7).into();
        let text = |code| format!("{:#}", unreachable(address, io::Error::from_raw_os_error(code)));
        assert!(text(libc::EADDRNOTAVAIL).contains("ephemeral ports are used up"));
        assert!(text(libc::EHOSTUNREACH).contains("is there a route"));
        assert!(text(libc::EINPROGRESS).contains("no answer within 30 s"));
    }
}
