//! The peer: the far end of the network workloads, outside every environment and the same for all.
//!
//! A connection's first line names its workload; the rest is between that workload and its [`crate::Peer`].

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use socket2::{SockRef, TcpKeepalive};

use crate::registry;

/// Connections served at a time; more are closed at once, so that a flood can't take the host's memory.
pub const MAX_CONNECTIONS: usize = 128;

/// The longest first line: no workload's name is nearly as long.
const MAX_NAME: usize = 64;

/// How long a new connection may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);

/// After so long without a word the kernel asks whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// A peer that listens, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Listening {
    /// Starts to serve at `listen`; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).with_context(|| format!("the peer can't listen on {listen}"))?;
        let address = listener.local_addr().context("the peer can't tell its own address")?;
        let ending = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ending);
        let accepting = std::thread::Builder::new()
            .name("peer".into())
            .spawn(move || accept(&listener, &seen))
            .context("the peer can't start a thread")?;
        Ok(Self { address, ending, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // A connection wakes the thread that waits for one. Connections that are being served end with their other side.
        if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _ = accepting.join();
        }
    }
}

/// Serves as a process of its own: prints the bound address as one line on stdout, and ends when stdin is closed.
///
/// # Errors
/// When the address can't be bound or stdout can't be written.
pub fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listening = Listening::start(listen)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", listening.address()).and_then(|()| out.flush()).context("the peer can't say its address")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).context("the peer can't wait for its end")?;
    Ok(())
}

fn accept(listener: &TcpListener, ending: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if ending.load(Ordering::Relaxed) {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) => {
                // Out of descriptors, or a connection that was gone again: neither must spin or end the peer.
                log::warn!("the peer can't accept a connection: {e}");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            log::warn!("the peer has {MAX_CONNECTIONS} connections already and closes another");
            continue;
        }
        let counted = Arc::clone(&open);
        let started = std::thread::Builder::new().name("peer connection".into()).spawn(move || {
            let _count = Count(counted);
            if let Err(e) = attend(stream) {
                log::warn!("a connection of the peer failed: {e:#}");
            }
        });
        if let Err(e) = started {
            // The closure, and with it the connection, is gone; its count isn't.
            open.fetch_sub(1, Ordering::Relaxed);
            log::warn!("the peer can't start a thread: {e}");
        }
    }
}

/// Takes a connection off the count when it ends, by a panic too.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn attend(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GREETING))?;
    let name = read_name(&mut stream)?;
    let peer = registry::find(&name)
        .and_then(crate::Workload::peer)
        .with_context(|| format!("no workload with a peer is called `{}`", name.escape_debug()))?;
    // Between bursts a connection is silent for as long as the other environments have their turn. But an environment that
    // was killed, or whose link is gone, never closes its own: the kernel has to ask.
    stream.set_read_timeout(None)?;
    let asking = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 6);
    SockRef::from(&stream).set_tcp_keepalive(&asking).context("can't have the connection watched")?;
    peer.serve(stream)
}

/// Byte by byte, because what follows the line belongs to the workload.
fn read_name(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut name = Vec::with_capacity(MAX_NAME);
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).context("a connection ended before it named a workload")?;
        match byte[0] {
            b'\n' => return String::from_utf8(name).context("the name of a workload is not UTF-8"),
            _ if name.len() == MAX_NAME => anyhow::bail!("a connection's first line has more than {MAX_NAME} bytes"),
            b => name.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sent: &[u8]) -> Vec<u8> {
        let listening = Listening::start(([127, 0, 0, 1], 0).into()).expect("listens");
        let mut stream = TcpStream::connect(listening.address()).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        stream.write_all(sent).expect("sent");
        // The peer may have closed already, with unread bytes, which resets the connection: as good as closed.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    #[test]
    fn a_named_workload_is_served() {
        assert_eq!(answer(b"net/rr\n\x08\0\0\0abcdefgh"), b"abcdefgh");
    }

    #[test]
    fn nonsense_is_closed_without_an_answer() {
        assert_eq!(answer(b"sqlite/commit\n"), b"");
        assert_eq!(answer(b"net/rr\n\xff\xff\xff\xff"), b"");
        assert_eq!(answer(b"net/stream\n\0\0\0\0"), b"");
        assert_eq!(answer(&[b'x'; 1000]), b"");
        assert_eq!(answer(b"\xff\xfe\n"), b"");
    }
}
