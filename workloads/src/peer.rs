//! The peer: the far end of the network workloads, outside every environment and the same for all.
//!
//! A connection's first line names its workload; the rest is between that workload and its [`crate::Peer`]. Datagrams to the
//! same port are those of `net/rr`.
//!
//! Connections are served by a thread each. A thread that has served one waits for the next: so a workload that does nothing
//! but connect finds one waiting, and its operation has no thread's start in it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::network::{MAX_CONNECTIONS, inbound, rr, without_greeting};
use crate::registry;

/// Threads kept for connections to come.
const MAX_IDLE: usize = 64;

/// Of a thread that serves a connection, bytes: its buffers are on the heap.
const STACK: usize = 256 << 10;

/// Connections that the kernel keeps until a thread takes them.
const BACKLOG: i32 = 1024;

/// Ports tried until one is free for TCP and for UDP.
const PORTS: u32 = 16;

/// The longest first line: no workload's name is nearly as long.
const MAX_NAME: usize = 64;

/// How long a new connection may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);

/// After so long without a word the kernel asks whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// A peer that listens, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    pool: Arc<Pool>,
    ends: Vec<End>,
}

/// One address with its sockets.
#[derive(Debug)]
struct End {
    address: SocketAddr,
    connections: Arc<TcpListener>,
    datagrams: Arc<UdpSocket>,
}

/// State that the threads share.
#[derive(Debug, Default)]
struct Pool {
    ending: AtomicBool,
    /// Connections that are being served.
    serving: AtomicUsize,
    /// One is warned of: whoever calls again and again is to fill no terminal.
    warned: Warned,
}

/// The kinds of trouble that there was already.
#[derive(Debug, Default)]
struct Warned {
    accept: AtomicBool,
    crowd: AtomicBool,
    thread: AtomicBool,
    call: AtomicBool,
}

/// A warning for the first of its kind; the others are there for who looks for them.
fn level(warned: &AtomicBool) -> log::Level {
    if warned.swap(true, Ordering::Relaxed) { log::Level::Debug } else { log::Level::Warn }
}

impl Listening {
    /// Starts to serve at `listen`, TCP and UDP; port 0 takes any that is free for both. `[::]` means IPv4 as well.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        Self::start_all(&[listen])
    }

    /// Starts to serve at several addresses; a port of 0 becomes that of the address before.
    ///
    /// # Errors
    /// When an address can't be bound.
    pub fn start_all(listen: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut listening = Self { pool: Arc::default(), ends: Vec::new() };
        for address in listen {
            let mut address = *address;
            if let (0, Some(before)) = (address.port(), listening.ends.first()) {
                address.set_port(before.address.port());
            }
            let end = End::bind(address)?;
            let idle = Arc::new(AtomicUsize::new(0));
            spawn_acceptor(&listening.pool, &end.connections, &idle).context("the peer can't start a thread")?;
            let (pool, datagrams) = (Arc::clone(&listening.pool), Arc::clone(&end.datagrams));
            std::thread::Builder::new()
                .name("peer datagrams".into())
                .stack_size(STACK)
                .spawn(move || echo(&datagrams, &pool))
                .context("the peer can't start a thread")?;
            listening.ends.push(end);
        }
        anyhow::ensure!(!listening.ends.is_empty(), "the peer needs an address to listen on");
        Ok(listening)
    }

    /// Where it listens; of several addresses the first.
    pub fn address(&self) -> SocketAddr {
        self.ends[0].address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.pool.ending.store(true, Ordering::Release);
        for end in &self.ends {
            // Wakes every thread that waits there, and refuses connections from now on. Connections that are being served end
            // with their other side.
            if let Err(e) = SockRef::from(&*end.connections).shutdown(Shutdown::Both) {
                log::debug!("the peer can't stop listening: {e}");
            }
            // A datagram to itself wakes the thread that waits for one. `shutdown` would too, but as a datagram from no address,
            // which `recv_from` can't stand.
            if let Err(e) = end.datagrams.send_to(&[], end.address) {
                log::debug!("the peer can't stop waiting for datagrams: {e}");
            }
        }
    }
}

impl End {
    fn bind(listen: SocketAddr) -> anyhow::Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let bound = Self::bind_once(listen);
            match bound {
                // Another program has the UDP port of the same number.
                Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && listen.port() == 0 && tries < PORTS => {}
                bound => return bound.with_context(|| format!("the peer can't listen on {listen}")),
            }
        }
    }

    fn bind_once(listen: SocketAddr) -> std::io::Result<Self> {
        let socket = |address: SocketAddr, kind| {
            let socket = Socket::new(Domain::for_address(address), kind, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(!address.ip().is_unspecified())?;
            }
            Ok::<_, std::io::Error>(socket)
        };
        let connections = socket(listen, Type::STREAM)?;
        // Connections of a peer before may still be in their last minute.
        connections.set_reuse_address(true)?;
        // Those that come inherit these. Between bursts a connection is silent for as long as the other environments have
        // their turn. But an environment that was killed, or whose link is gone, never closes its own: the kernel has to ask.
        connections.set_tcp_nodelay(true)?;
        connections.set_tcp_keepalive(&keepalive())?;
        connections.bind(&listen.into())?;
        connections.listen(BACKLOG)?;
        let connections = TcpListener::from(connections);
        let address = connections.local_addr()?;
        let datagrams = socket(address, Type::DGRAM)?;
        datagrams.bind(&address.into())?;
        Ok(Self { address, connections: Arc::new(connections), datagrams: Arc::new(datagrams.into()) })
    }
}

/// Serves as a process of its own: prints the first address that it is bound to as one line on stdout, and ends when stdin
/// is closed.
///
/// # Errors
/// When an address can't be bound or stdout can't be written.
pub fn serve(listen: &[SocketAddr]) -> anyhow::Result<()> {
    allow_open_files();
    let listening = Listening::start_all(listen)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", listening.address()).and_then(|()| out.flush()).context("the peer can't say its address")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).context("the peer can't wait for its end")?;
    Ok(())
}

/// Raises the limit of open files as far as it may be: the usual 1024 are not enough for [`MAX_CONNECTIONS`].
fn allow_open_files() {
    let raise = || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    };
    if let Err(e) = raise() {
        log::debug!("the peer can't have more open files: {e}");
    }
}

/// Answers datagrams until the peer ends. What isn't ours gets no answer.
fn echo(socket: &UdpSocket, pool: &Pool) {
    let mut request = vec![0; rr::MAX_DATAGRAM];
    let mut buffer = vec![0; rr::MAX_DATAGRAM];
    loop {
        let received = socket.recv_from(&mut request);
        if pool.ending.load(Ordering::Acquire) {
            return;
        }
        match received {
            Ok((n, from)) => {
                // One that can't be sent is a lost one, and whoever asked sees that.
                if let Some(answer) = rr::answer_datagram(&request[..n], &mut buffer)
                    && let Err(e) = socket.send_to(answer, from)
                {
                    log::debug!("the peer can't answer {from}: {e}");
                }
            }
            Err(e) => {
                log::warn!("the peer can't receive datagrams: {e}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn spawn_acceptor(pool: &Arc<Pool>, listener: &Arc<TcpListener>, idle: &Arc<AtomicUsize>) -> std::io::Result<()> {
    let (pool, listener, waiting) = (Arc::clone(pool), Arc::clone(listener), Arc::clone(idle));
    idle.fetch_add(1, Ordering::AcqRel);
    let started = std::thread::Builder::new()
        .name("peer connection".into())
        .stack_size(STACK)
        .spawn(move || accept(&pool, &listener, &waiting));
    if started.is_err() {
        idle.fetch_sub(1, Ordering::AcqRel);
    }
    started.map(drop)
}

/// Serves one connection after the other. `idle` counts the threads that wait for one: there is always another.
fn accept(pool: &Arc<Pool>, listener: &Arc<TcpListener>, idle: &Arc<AtomicUsize>) {
    while !pool.ending.load(Ordering::Acquire) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if pool.ending.load(Ordering::Acquire) => return,
            Err(e) => {
                // Out of descriptors, or a connection that was gone again: neither must spin or end the peer.
                log::log!(level(&pool.warned.accept), "the peer can't accept a connection: {e}");
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let serving = Serving::begin(pool);
        if serving.number >= MAX_CONNECTIONS {
            let level = level(&pool.warned.crowd);
            log::log!(level, "the peer has {MAX_CONNECTIONS} connections already and closes another");
            continue;
        }
        if idle.fetch_sub(1, Ordering::AcqRel) == 1
            && let Err(e) = spawn_acceptor(pool, listener, idle)
        {
            // The connection is closed: nobody would wait for the next while it is served.
            log::log!(level(&pool.warned.thread), "the peer can't start a thread: {e}");
            idle.fetch_add(1, Ordering::AcqRel);
            continue;
        }
        if let Err(e) = attend(stream) {
            log::log!(level(&pool.warned.call), "a connection of the peer failed: {e:#}");
        }
        drop(serving);
        if idle.fetch_add(1, Ordering::AcqRel) >= MAX_IDLE {
            idle.fetch_sub(1, Ordering::AcqRel);
            return;
        }
    }
}

/// Counts a connection from its begin to its end, by a panic too.
struct Serving<'a> {
    pool: &'a Pool,
    /// How many there were before it.
    number: usize,
}

impl<'a> Serving<'a> {
    fn begin(pool: &'a Pool) -> Self {
        Self { pool, number: pool.serving.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.pool.serving.fetch_sub(1, Ordering::AcqRel);
    }
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 6)
}

fn attend(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(GREETING))?;
    let mut name = read_name(&mut stream)?;
    if name == inbound::NAME {
        stream = inbound::call(stream)?;
        SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
        stream.set_read_timeout(Some(GREETING))?;
        name = read_name(&mut stream)?;
    }
    let peer = registry::find(&name)
        .and_then(crate::Workload::peer)
        .with_context(|| format!("no workload with a peer is called `{}`", name.escape_debug()))?;
    stream.set_read_timeout(None)?;
    peer.serve(stream)
}

/// The first line and no more: what follows belongs to the workload. Looked at first, so that it is one read where it came
/// in one piece.
fn read_name(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut line = [0; MAX_NAME + 1];
    let mut filled = 0;
    loop {
        let seen = stream.peek(&mut line[filled..]).map_err(|e| without_greeting(stream, e))?;
        anyhow::ensure!(seen > 0, "a connection ended before it named a workload");
        let end = line[filled..][..seen].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(seen, |at| at + 1);
        stream.read_exact(&mut line[filled..][..take]).context("a connection ended within its first line")?;
        filled += take;
        match end {
            Some(_) => {
                let name = line[..filled - 1].to_vec();
                return String::from_utf8(name).context("the name of a workload is not UTF-8");
            }
            None if filled > MAX_NAME => anyhow::bail!("a connection's first line has more than {MAX_NAME} bytes"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Instant;

    use super::*;

    fn listen() -> Listening {
        Listening::start((Ipv4Addr::LOCALHOST, 0).into()).expect("listens")
    }

    fn answer(sent: &[&[u8]]) -> Vec<u8> {
        let listening = listen();
        let mut stream = TcpStream::connect(listening.address()).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        for piece in sent {
            // The peer may have closed already, with unread bytes, which resets the connection: as good as closed.
            let _ = stream.write_all(piece);
            if sent.len() > 1 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    #[test]
    fn a_named_workload_is_served() {
        let greeting = b"net/rr\n\x08\0\0\0\x08\0\0\0";
        assert_eq!(answer(&[&greeting[..], b"abcdefgh"]), b"abcdefgh");
        assert_eq!(answer(&[b"net/", b"rr\n\x08\0", &greeting[9..], b"abcdefgh"]), b"abcdefgh", "in pieces");
    }

    #[test]
    fn nonsense_is_closed_without_an_answer() {
        for nonsense in [
            &b"sqlite/commit\n"[..],
            b"net/rr\n\xff\xff\xff\xff\x08\0\0\0",
            b"net/rr\n\x08\0\0\0",
            b"net/stream\n\0\0\0\0",
            b"net/crr\n\x08\0\0\0abc",
            b"net/chatty\n\0\0\0\0",
            b"net/imap\n12345678a1 DANCE\r\n",
            &[b'x'; 1000],
            b"\xff\xfe\n",
        ] {
            assert_eq!(answer(&[nonsense]), b"", "to {}", nonsense.escape_ascii());
        }
    }

    #[test]
    fn who_says_nothing_was_waited_for_as_long_as_is_said() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let mut silent = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let name = read_name(&mut stream).expect_err("nothing came").to_string();
        assert!(name.starts_with("a connection had no whole greeting after 2"), "{name}");
        silent.write_all(&[0; 4]).expect("sent");
        // The kernel rounds it up to its ticks.
        let call = inbound::call(stream).expect_err("a part came").to_string();
        assert!(call.starts_with("a connection had no whole greeting after 2"), "{call}");
    }

    #[test]
    fn trouble_of_a_kind_is_warned_of_once() {
        let warned = Warned::default();
        let levels = [(); 3].map(|()| level(&warned.call));
        assert_eq!(levels, [log::Level::Warn, log::Level::Debug, log::Level::Debug]);
        assert_eq!(level(&warned.crowd), log::Level::Warn, "another kind");
    }

    #[test]
    fn both_families_and_both_protocols_have_the_same_port() {
        let listening = Listening::start((Ipv6Addr::UNSPECIFIED, 0).into()).expect("this host has IPv6");
        let pair = Listening::start_all(&[(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]);
        for port in [listening.address().port(), pair.as_ref().expect("listens").address().port()] {
            for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
                let stream = TcpStream::connect(address).expect("connects");
                let own = SocketAddr::new(address.ip(), 0);
                let socket = UdpSocket::bind(own).expect("bound");
                socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
                socket.connect(address).expect("connected");
                // Somebody else's datagram first: it must not stop the echo.
                socket.send(b"who are you").expect("sent");
                let request = b"tare\x12\0\0\0numberedxy";
                socket.send(request).expect("sent");
                let mut answer = [0; 100];
                let n = socket.recv(&mut answer).expect("answered");
                assert_eq!(&answer[..n], request);
                drop(stream);
            }
        }
    }

    #[test]
    fn a_dropped_peer_neither_listens_nor_leaves_threads() {
        let listening = listen();
        let (address, pool) = (listening.address(), Arc::downgrade(&listening.pool));
        drop(listening);
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).expect_err("nobody listens");
        let until = Instant::now() + Duration::from_secs(5);
        while pool.strong_count() > 0 {
            assert!(Instant::now() < until, "threads are left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_that_has_served_serves_again() {
        let listening = listen();
        for _ in 0..200 {
            let mut stream = TcpStream::connect(listening.address()).expect("connects");
            stream.write_all(b"net/crr\n\x08\0\0\0abcdefgh").expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("answered");
            assert_eq!(answer, b"abcdefgh");
        }
        let end = &listening.ends[0];
        // One waits in accept for each that was ever needed at a time; the pool's other holders are not threads. On a busy machine one
        // that has served is often still on its way back when the next connection comes.
        let threads = Arc::strong_count(&end.connections);
        assert!(threads < 100, "a thread for each connection: {threads}");
    }

    #[test]
    fn connections_inherit_their_options() {
        let end = End::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let _client = TcpStream::connect(end.address).expect("connects");
        let (stream, _) = end.connections.accept().expect("accepted");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("asked") && socket.keepalive().expect("asked"));
    }
}
