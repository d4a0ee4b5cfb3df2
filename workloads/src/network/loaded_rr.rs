//! `net/loaded-rr`: an operation is a small exchange with the peer, while blocks stream to it or from it beside.
//!
//! The stream has a thread of its own in the job and a connection of its own, and runs before the first operation begins and
//! until the last has ended. Only the exchanges are timed; what the stream moved is a counter.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Context as _;

use super::inbound::{Connection, Far};
use super::rr::{self, Asking, RequestResponse};
use super::stream::{self, Blocks, Bodies, Receiver, Sender};
use super::{FAMILY, Family, ends};
use crate::settings::{Bytes, Setting};
use crate::stopwatch::{self, Stopwatch};
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

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
        Ok(Box::new(Loaded {
            stream: far.connect("net/rr", &[size as u32; 2])?,
            asking: Asking::new(place.seed, size, size),
            load: Load::open(far, blocks, direction == Direction::Send)?,
            streamed: Streamed::default(),
        }))
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

/// Ends the load when the exchanges have ended, however they have.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

    /// Streams until `ending` is set; `begun` is called when it runs.
    fn run(&mut self, ending: &AtomicBool, begun: impl FnOnce()) -> anyhow::Result<Streamed> {
        let start = stopwatch::now();
        let mut blocks = 1;
        self.step()?;
        begun();
        while !ending.load(Ordering::Relaxed) {
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
        let Self { stream, asking, load, streamed } = self;
        let ending = AtomicBool::new(false);
        let begun = Begun::default();
        *streamed = std::thread::scope(|scope| {
            let guard = Ending(&ending);
            let loading = std::thread::Builder::new()
                .name("stream".into())
                .spawn_scoped(scope, || {
                    let saying = Saying(&begun);
                    load.run(&ending, || saying.0.say(true))
                })
                .context("can't start a thread for the stream")?;
            // An error where the stream has failed already: that is what the thread then says.
            let asked = if begun.wait() { ask(stream, asking, watch) } else { Ok(()) };
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
        BTreeMap::from([("stream_bytes".into(), bytes), ("stream_bytes_per_second".into(), rate as u64)])
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let Self { stream, asking, .. } = self;
        let digest = Asking::digest("net/loaded-rr", asking.seed, |number, digest| {
            asking.exchange(stream, number)?;
            digest.add(&asking.answer);
            Ok(())
        })?;
        Ok(Check { value: digest.value(), detail: format!("{} beside a stream", self.asking.detail()) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        ends(self.stream.local_addr(), self.stream.peer_addr())
    }
}

fn ask(stream: &mut TcpStream, asking: &mut Asking, watch: &mut Stopwatch) -> anyhow::Result<()> {
    let bytes = asking.bytes();
    watch.start();
    while watch.running() {
        let number = asking.next();
        asking.exchange(stream, number)?;
        watch.lap(bytes);
    }
    Ok(())
}
