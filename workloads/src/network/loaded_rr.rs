//! `net/loaded-rr`: an operation is a small exchange with the peer, while blocks stream to it or from it beside.
//!
//! The stream has a thread of its own in the job and a connection of its own, and runs before the first operation begins and
//! until the last has ended. Only the exchanges are timed; what the stream moved is a counter.
//!
//! A stack that is short of CPU can serve the stream and never the exchange: each time its answer is lost, the next try comes
//! after twice the time. So the stream stands still when an answer has not come for `STARVED`, until it has; the exchange
//! takes as long as all of that takes, and is counted.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use super::inbound::{Connection, Far};
use super::rr::{self, Asking, RequestResponse};
use super::stream::{self, Blocks, Bodies, Receiver, Sender};
use super::{FAMILY, Family, PATIENCE, ends, nothing_came};
use crate::settings::{Bytes, Setting};
use crate::stopwatch::{self, Stopwatch};
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

/// After so long without an answer the stream stands still until it has come.
const STARVED: Duration = Duration::from_secs(5);

crate::words! {
    enum Direction { Send = "send", Receive = "receive" }
}

crate::settings! {
    struct Options {
        /// Bytes of a message, the same in both directions
        size: Bytes = "64" in rr::MIN..=rr::MAX,
        /// Whether the environment sends or receives the stream
        direction: Direction = "send",
        /// Bytes that the stream hands to its connection at a time
        block: Bytes = "64KiB" in stream::MIN..=stream::MAX,
        family: Family as FAMILY,
    }
}

/// The workload.
#[derive(Debug)]
pub struct LoadedRequestResponse;

impl Workload for LoadedRequestResponse {
    fn name(&self) -> &'static str {
        "net/loaded-rr"
    }

    fn about(&self) -> &'static str {
        "Sends a small request to the peer over TCP and waits for the answer, while a stream runs beside"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { size, direction, block, family } = Options::read(&place.settings);
        let size = size.0 as usize;
        let blocks = Blocks { size: block.0 as usize, seed: place.seed, all: false };
        let far = Far::of(place, family, Connection::Outbound, self.name())?;
        let stream = far.connect("net/rr", &[size as u32; 2])?;
        stream.set_read_timeout(Some(STARVED)).context("can't set how long to wait for an answer")?;
        let load = Load::open(far, blocks, direction == Direction::Send)?;
        let asking = Asking::new(place.seed, size, size);
        Ok(Box::new(Loaded { stream, asking, load, streamed: Streamed::default(), starved: 0 }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        // Its connections greet as `net/rr` and as `net/stream`.
        Some(&RequestResponse)
    }
}

struct Loaded {
    stream: TcpStream,
    asking: Asking,
    load: Load,
    /// Of the last burst.
    streamed: Streamed,
    /// Exchanges of the last burst that the stream had to stand still for.
    starved: u64,
}

/// The stream beside the exchanges.
struct Load {
    bodies: Bodies,
    lane: Lane,
}

enum Lane {
    Send(Sender),
    Receive(Receiver),
}

/// Bytes that the stream has moved, and the time it took.
#[derive(Debug, Clone, Copy, Default)]
struct Streamed {
    bytes: u64,
    nanoseconds: u64,
}

/// Whether the stream is to go, to stand still, or to end.
#[derive(Debug, Default)]
struct Signal(AtomicU8);

impl Signal {
    const GO: u8 = 0;
    const STAND: u8 = 1;
    const END: u8 = 2;

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    /// Waits while the stream is to stand still; `false` when it is to end.
    fn goes(&self) -> bool {
        loop {
            match self.0.load(Ordering::Relaxed) {
                Self::GO => return true,
                Self::STAND => std::thread::sleep(Duration::from_millis(1)),
                _ => return false,
            }
        }
    }
}

/// Ends the load when the exchanges have ended, however they have.
struct Ending<'a>(&'a Signal);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.set(Signal::END);
    }
}

/// The connection of the exchanges, which has the stream stand still where nothing comes.
struct Waiting<'a> {
    stream: &'a mut TcpStream,
    signal: &'a Signal,
    starved: &'a mut u64,
}

impl Waiting<'_> {
    #[cold]
    fn longer(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        *self.starved += 1;
        self.signal.set(Signal::STAND);
        let tries = PATIENCE.as_secs() / STARVED.as_secs();
        let read = (1..tries).map(|_| self.stream.read(buffer)).find(|read| !read.as_ref().is_err_and(nothing_came));
        self.signal.set(Signal::GO);
        read.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Waiting<'_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Err(e) if nothing_came(&e) => self.longer(buffer),
            read => read,
        }
    }
}

impl Write for Waiting<'_> {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Whether the stream runs: not yet, yes, or never. (A channel's end that has to wait allocates, and one that needn't doesn't.)
#[derive(Default)]
struct Begun {
    runs: Mutex<Option<bool>>,
    said: Condvar,
}

/// What the stream's thread has to say of it. It goes with the thread: one that fails before it streams must not be waited for.
struct Saying<'a>(&'a Begun);

impl Begun {
    fn say(&self, runs: bool) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(runs);
        self.said.notify_one();
    }

    /// Waits until it is said.
    fn wait(&self) -> bool {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let said = self.said.wait_while(runs, |runs| runs.is_none()).unwrap_or_else(PoisonError::into_inner);
        *said == Some(true)
    }
}

impl Drop for Saying<'_> {
    fn drop(&mut self) {
        self.0.say(false);
    }
}

impl Load {
    fn open(far: Far, blocks: Blocks, send: bool) -> anyhow::Result<Self> {
        let lane =
            if send { Lane::Send(Sender::open(far, blocks)?) } else { Lane::Receive(Receiver::open(far, blocks)?) };
        Ok(Self { bodies: Bodies::make(blocks), lane })
    }

    fn step(&mut self) -> anyhow::Result<()> {
        match &mut self.lane {
            Lane::Send(sender) => sender.send(&mut self.bodies, false),
            Lane::Receive(receiver) => receiver.receive(&self.bodies, u64::MAX),
        }
    }

    /// Streams until the signal says to end; `begun` is called when it runs.
    fn run(&mut self, signal: &Signal, begun: impl FnOnce()) -> anyhow::Result<Streamed> {
        let start = stopwatch::now();
        let mut blocks = 1;
        self.step()?;
        begun();
        while signal.goes() {
            self.step()?;
            blocks += 1;
        }
        // Only what has arrived counts.
        if let Lane::Send(sender) = &mut self.lane {
            sender.send(&mut self.bodies, true)?;
            sender.confirm()?;
            blocks += 1;
        }
        let bytes = blocks * self.bodies.blocks.size as u64;
        let streamed = Streamed { bytes, nanoseconds: stopwatch::now() - start };
        if let Lane::Receive(receiver) = &mut self.lane {
            receiver.drain(&self.bodies)?;
        }
        Ok(streamed)
    }
}

impl Prepared for Loaded {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let Self { stream, asking, load, streamed, starved } = self;
        *starved = 0;
        let signal = Signal::default();
        let mut waiting = Waiting { stream, signal: &signal, starved };
        let begun = Begun::default();
        *streamed = std::thread::scope(|scope| {
            let guard = Ending(&signal);
            let loading = std::thread::Builder::new()
                .name("stream".into())
                .spawn_scoped(scope, || {
                    let saying = Saying(&begun);
                    load.run(&signal, || saying.0.say(true))
                })
                .context("can't start a thread for the stream")?;
            // An error where the stream has failed already: that is what the thread then says.
            let asked = if begun.wait() { ask(&mut waiting, asking, watch) } else { Ok(()) };
            drop(guard);
            let streamed = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            asked?;
            streamed.context("the stream beside the exchanges failed")
        })?;
        Ok(())
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let Streamed { bytes, nanoseconds } = self.streamed;
        let rate = u128::from(bytes) * 1_000_000_000 / u128::from(nanoseconds.max(1));
        let mut counters =
            BTreeMap::from([("stream_bytes".into(), bytes), ("stream_bytes_per_second".into(), rate as u64)]);
        if self.starved > 0 {
            counters.insert("starved".into(), self.starved);
        }
        counters
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let Self { stream, asking, starved, .. } = self;
        let mut waiting = Waiting { stream, signal: &Signal::default(), starved };
        let digest = Asking::digest("net/loaded-rr", asking.seed, |number, digest| {
            asking.exchange(&mut waiting, number)?;
            digest.add(&asking.answer);
            Ok(())
        })?;
        Ok(Check { value: digest.value(), detail: format!("{} beside a stream", self.asking.detail()) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        ends(self.stream.local_addr(), self.stream.peer_addr())
    }
}

fn ask(stream: &mut Waiting, asking: &mut Asking, watch: &mut Stopwatch) -> anyhow::Result<()> {
    let bytes = asking.bytes();
    watch.start();
    while watch.running() {
        let number = asking.next();
        asking.exchange(stream, number)?;
        watch.lap(bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::peer::Listening;
    use crate::sample::BurstPlan;

    const SIZE: usize = 64;
    /// The exchange whose answer comes only when the stream stands still.
    const HELD: u64 = 20;
    /// What `STARVED` is elsewhere.
    const PATIENT: Duration = Duration::from_millis(400);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    /// Whether the stream stands still at last, some time after the answer should have come.
    fn stands_still(passed: &AtomicU64) -> bool {
        std::thread::sleep(2 * PATIENT);
        (0..30).any(|_| {
            let before = passed.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
            passed.load(Ordering::Relaxed) == before
        })
    }

    #[test]
    fn the_stream_stands_still_for_an_answer_that_does_not_come_beside_it() {
        let peer = Listening::start("127.0.0.1:0".parse().expect("an address")).expect("listening");
        let (streams, way) = listener();
        let (exchanges, address) = listener();
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            // Everything that streams goes through here.
            scope.spawn(|| {
                let (mut near, _) = streams.accept().expect("a stream");
                let mut far = TcpStream::connect(peer.address()).expect("the peer");
                let mut back = (far.try_clone().expect("cloned"), near.try_clone().expect("cloned"));
                scope.spawn(move || io::copy(&mut back.0, &mut back.1));
                let mut bytes = vec![0; 64 << 10];
                while let Ok(n @ 1..) = near.read(&mut bytes) {
                    far.write_all(&bytes[..n]).expect("sent");
                    passed.fetch_add(n as u64, Ordering::Relaxed);
                }
                far.shutdown(std::net::Shutdown::Both).expect("ended");
            });
            scope.spawn(|| {
                let (mut near, _) = exchanges.accept().expect("a connection");
                let mut message = [0; SIZE];
                for number in 0..u64::MAX {
                    if near.read_exact(&mut message).is_err() {
                        break;
                    }
                    if number == HELD && !stands_still(&passed) {
                        break;
                    }
                    near.write_all(&message).expect("answered");
                }
            });
            let stream = TcpStream::connect(address).expect("connected");
            stream.set_read_timeout(Some(PATIENT)).expect("set");
            let blocks = Blocks { size: 64 << 10, seed: 7, all: false };
            let settings = LoadedRequestResponse.resolve(&BTreeMap::new()).expect("defaults");
            let place = Place { peer: Some(way.into()), ..Place::alone("/nonexistent", settings) };
            let far = Far::of(&place, Family::Ipv4, Connection::Outbound, "net/loaded-rr").expect("a way");
            let mut loaded = Loaded {
                stream,
                asking: Asking::new(7, SIZE, SIZE),
                load: Load::open(far, blocks, true).expect("a stream"),
                streamed: Streamed::default(),
                starved: 0,
            };
            let mut watch = Stopwatch::new();
            watch.arm(BurstPlan { operations: 2 * HELD, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
            loaded.burst(&mut watch).expect("the answer comes");
            let counters = loaded.counters();
            assert_eq!(counters["starved"], 1, "{counters:?}");
            assert_eq!(watch.sample().expect("a sample").operations, 2 * HELD);
        });
    }
}
