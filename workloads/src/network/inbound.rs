//! A connection that the peer opens into the environment, through the port that an engine publishes where it publishes one.
//!
//! The environment listens and asks the peer, over a connection of the usual kind, to call it back: at the address that the asking
//! came from, since a box may have nobody else called, and at the port that it says. The peer's first bytes are the number that it
//! was asked with, so that nobody else's connection is taken for its own. From then on the connection is like any other.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use socket2::SockRef;

use super::{Family, PATIENCE, connect, greeting, halves, peer_address, read_numbers, whole};
use crate::facts;
use crate::settings::{Setting, SettingError, Value as _};
use crate::workload::Place;

crate::words! {
    /// The side that opens a connection, as the environment sees it.
    pub(super) enum Connection { Outbound = "outbound", Inbound = "inbound" }
}

/// The setting `connection`.
pub(super) const CONNECTION: Setting =
    Setting::new(facts::CONNECTION, Connection::KIND).with_default("outbound").with_about(
        "Who opens connections: the environment, or the peer, into it and through a published port where there is one",
    );

/// In place of a workload's name in the greeting of an asking.
pub(crate) const NAME: &str = "inbound";

/// How long the peer's connection may take.
const CALL: Duration = Duration::from_secs(5);

/// So many connections of others in the place of the peer's are enough.
const STRANGERS: usize = 16;

/// Below are ports that only system programs listen on.
const FIRST_PORT: u16 = 1024;

/// The way out of having no way in.
const FIX: &str = "set publish = true (podman) or net.publish = true (qemu), or a network that leads into the environment (veth, tap)";

/// The peer, and how a connection with it is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Far {
    address: SocketAddr,
    connection: Connection,
    published: Option<u16>,
    seed: u64,
}

impl Far {
    /// The one of this place.
    pub(super) fn of(place: &Place, family: Family, connection: Connection, name: &str) -> anyhow::Result<Self> {
        let address = peer_address(place, family, name)?;
        Ok(Self { address, connection, published: place.peer.and_then(|peer| peer.published), seed: place.seed })
    }

    /// A connection on which the peer knows its workload, and the numbers that both ends have to agree on.
    pub(super) fn connect(self, name: &str, numbers: &[u32]) -> anyhow::Result<TcpStream> {
        if self.connection == Connection::Outbound {
            return connect(self.address, name, numbers);
        }
        let mut stream = receive(self.address, self.published, self.seed)?;
        stream.write_all(&greeting(name, numbers)).context("can't greet the peer")?;
        Ok(stream)
    }

    /// How its connections come into the environment, for the record.
    pub(super) fn fact(self) -> Option<(String, String)> {
        let words = if self.published.is_some() { "inbound, by a published port" } else { "inbound, directly" };
        (self.connection == Connection::Inbound).then(|| (facts::CONNECTION.into(), words.into()))
    }
}

/// Refuses what a port that is published for TCP over IPv4 doesn't carry.
pub(super) fn check(connection: Connection, family: Family, tcp: bool) -> Result<(), SettingError> {
    if connection == Connection::Inbound && (family == Family::Ipv6 || !tcp) {
        let protocol = if tcp { "" } else { "protocol = tcp and " };
        return Err(SettingError::Conflict(format!(
            "connection = inbound is for TCP over IPv4: set {protocol}family = ipv4, or connection = outbound"
        )));
    }
    Ok(())
}

/// Has the peer connect into the environment. It connects to `published`, or to any port where none is.
pub(super) fn receive(peer: SocketAddr, published: Option<u16>, seed: u64) -> anyhow::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, published.unwrap_or(0)))
        .context("can't listen for the peer's connection in the environment")?;
    let port = listener.local_addr()?.port();
    let [low, high] = halves(seed);
    let mut asking = connect(peer, NAME, &[port.into(), low, high])?;
    let mut refusal = String::new();
    asking
        .read_to_string(&mut refusal)
        .context("the peer doesn't say whether it could connect into the environment")?;
    anyhow::ensure!(refusal.is_empty(), "the peer can't connect into the environment at {refusal}; {FIX}");
    // What translates on the way may have taken the connection without handing it on.
    SockRef::from(&listener).set_read_timeout(Some(CALL))?;
    for _ in 0..STRANGERS {
        let (mut stream, _) = listener.accept().with_context(|| {
            format!(
                "the peer connected, and nothing came to port {port} of the environment in {} s; {FIX}",
                CALL.as_secs()
            )
        })?;
        if says(&mut stream, seed) {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(stream);
        }
    }
    anyhow::bail!("{STRANGERS} others than the peer connected into the environment")
}

/// Whether it is the peer's connection: a port of the host's loopback is open to everybody there.
fn says(stream: &mut TcpStream, seed: u64) -> bool {
    let mut said = [0; 8];
    stream.set_read_timeout(Some(CALL)).is_ok()
        && stream.read_exact(&mut said).is_ok()
        && u64::from_le_bytes(said) == seed
}

/// The peer's part: connects to whoever asks, and tells them where it can't.
pub(crate) fn call(mut asking: TcpStream) -> anyhow::Result<TcpStream> {
    let [port, low, high] = read_numbers(&mut asking)?;
    let port = u16::try_from(port).ok().filter(|port| *port >= FIRST_PORT).context("a port out of bounds")?;
    let address = SocketAddr::new(asking.peer_addr()?.ip().to_canonical(), port);
    let open = || {
        let mut stream = TcpStream::connect_timeout(&address, CALL)?;
        stream.set_nodelay(true)?;
        stream.write_all(&whole([low, high]).to_le_bytes())?;
        Ok(stream)
    };
    open().map_err(|e: std::io::Error| {
        let words = format!("{address}: {e}");
        // Who has gone meanwhile needs no answer.
        let _ = asking.write_all(words.as_bytes());
        anyhow::anyhow!("can't connect to {words}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_else_connects_is_sent_away_and_the_peer_is_waited_for() {
        let peer = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = peer.local_addr().expect("an address");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut asking, _) = peer.accept().expect("an asking");
                let mut name = [0; NAME.len() + 1];
                asking.read_exact(&mut name).expect("its name");
                let [port, low, high] = read_numbers(&mut asking).expect("its numbers");
                let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, port as u16)).expect("connected");
                open().write_all(&[9; 8]).expect("said");
                drop(open());
                open().write_all(&whole([low, high]).to_le_bytes()).expect("said");
            });
            receive(address, None, 0x1234_5678_9abc).expect("the peer's");
        });
    }
}
