//! Network: one TCP connection to the peer, which stands outside every environment.

pub mod rr;
pub mod stream;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

use crate::Place;

/// After so long without an answer the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the peer and tells it the workload, and the size that both ends have to agree on.
fn connect(place: &Place, name: &str, size: u32) -> anyhow::Result<TcpStream> {
    let address = place
        .peer
        .and_then(|peer| peer.v4.or(peer.v6))
        .with_context(|| format!("{name} needs a peer, and no address of one was given"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("can't reach the peer at {address}; is there a route from inside the environment?"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut greeting = format!("{name}\n").into_bytes();
    greeting.extend_from_slice(&size.to_le_bytes());
    stream.write_all(&greeting).with_context(|| format!("can't greet the peer at {address}"))?;
    Ok(stream)
}

/// Fills `buffer` from the connection; `false` where the other side has closed it between two messages.
fn read_whole(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<bool> {
    use std::io::{ErrorKind, Read as _};
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => anyhow::bail!("the connection was closed within a message"),
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("can't read from the connection"),
        }
    }
    Ok(true)
}

/// The size that follows the workload's name on a new connection, as the peer reads it.
fn read_size(stream: &mut TcpStream, min: u64, max: u64) -> anyhow::Result<usize> {
    let mut size = [0; 4];
    anyhow::ensure!(read_whole(stream, &mut size)?, "the connection was closed before it said its size");
    let size = u32::from_le_bytes(size);
    anyhow::ensure!((min..=max).contains(&size.into()), "a size of {size} bytes is not between {min} and {max}");
    Ok(size as usize)
}
