//! `net/stream`: an operation moves one large block to the peer, from it, or one each way; the figure to look at is bytes per
//! second.
//!
//! What sits in a buffer has not arrived. So the last blocks sent in the warm-up and in the measured part ask the peer what it
//! has received, and the time until it has answered belongs to the last operation. Where the limit ends one of the two, blocks
//! that are no operations ask, and count as bytes.
//!
//! The peer sends only what it has been asked for, `WINDOW` bytes ahead of what has arrived, and nothing is asked for beyond the
//! end of the warm-up or of the measured part: both begin with nothing under way.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;

use anyhow::Context as _;

use super::inbound::{self, CONNECTION, Connection, Far};
use super::{FAMILY, Family, described, halves, read_answer, read_numbers, read_whole, sized, whole};
use crate::content::{self, Digest};
use crate::settings::{Bytes, Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Peer, Place, Prepared, Resource, Workload};

/// Blocks that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5354;
pub(super) const MIN: u64 = 64;
pub(super) const MAX: u64 = 4 << 20;
/// Head of a block: number, and whether the peer is to answer.
const HEAD: usize = 16;
/// End of a block, which is looked at in every one.
const TAIL: usize = 8;
/// An answer: blocks received, and the sum over them.
const ANSWER: usize = 16;
/// One block of so many is looked at in full where a sample is checked.
const SAMPLE: u64 = 16;
/// Bytes that the peer may have been asked for and not delivered: more than links of ours hold, 0.2 ms of 10 GB/s.
const WINDOW: usize = 2 << 20;

crate::words! {
    enum Direction { Send = "send", Receive = "receive", Both = "both" }
}

crate::words! {
    /// Blocks that the receiver sums up.
    enum Checked { Sample = "sample", All = "all" }
}

crate::settings! {
    struct Options {
        /// Whether the environment sends, receives, or does both at the same time over two connections
        direction: Direction = "send",
        /// Parallel connections of one job, or pairs of them; blocks take turns
        streams: u64 = 1 in 1..=16,
        /// Bytes that an operation hands to a connection, and takes from one
        block: Bytes = "64KiB" in MIN..=MAX,
        /// Which blocks the receiver sums up in full: 1 of 16, or all; of the others it looks at head and end
        check: Checked = "sample",
        family: Family as FAMILY,
        connection: Connection as CONNECTION,
    }
}

/// The workload, and its peer.
#[derive(Debug)]
pub struct Stream;

impl Workload for Stream {
    fn name(&self) -> &'static str {
        "net/stream"
    }

    fn about(&self) -> &'static str {
        "Moves blocks of 64 KiB to or from the peer over TCP, and counts what has arrived"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let Options { family, connection, .. } = Options::read(settings);
        inbound::check(connection, family, true)
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn streams(&self) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        let Options { block: Bytes(block), streams, .. } = Options::read(settings);
        Needs { memory: (2 * block).max(1 << 20) + streams * block, ..Needs::default() }
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { direction, streams, block, check, family, connection } = Options::read(&place.settings);
        let far = Far::of(place, family, connection, self.name())?;
        let blocks = Blocks { size: block.0 as usize, seed: place.seed, all: check == Checked::All };
        let mut streaming = Streaming {
            bodies: Bodies::make(blocks),
            senders: Vec::new(),
            receivers: Vec::new(),
            far,
            streams,
            done: 0,
        };
        for _ in 0..streams {
            if direction != Direction::Receive {
                streaming.senders.push(Sender::open(far, blocks)?);
            }
            if direction != Direction::Send {
                streaming.receivers.push(Receiver::open(far, blocks)?);
            }
        }
        Ok(Box::new(streaming))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&Stream)
    }
}

/// Size and content of the blocks of a connection; both ends are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    /// Bytes of a block.
    pub(super) size: usize,
    /// Seed of their content.
    pub(super) seed: u64,
    /// Whether all are looked at in full.
    pub(super) all: bool,
}

/// Which way blocks go on a connection, in its greeting.
const TO_PEER: u32 = 0;
const FROM_PEER: u32 = 1;

impl Blocks {
    fn connect(self, far: Far, way: u32) -> anyhow::Result<TcpStream> {
        let [low, high] = halves(self.seed);
        far.connect("net/stream", &[self.size as u32, u32::from(self.all), way, low, high])
    }

    /// Several different blocks, one after the other.
    fn make(self) -> Vec<u8> {
        let bodies = ((1 << 20) / self.size).clamp(2, 16);
        let mut blocks = vec![0; bodies * self.size];
        content::fill(&mut content::generator(self.seed, STREAM, 0), &mut blocks);
        blocks
    }

    /// The summand of a block: a checksum of its body, or the end of the body alone.
    #[inline]
    fn sum(self, number: u64, block: &[u8]) -> u64 {
        if self.all || content::mix(number).is_multiple_of(SAMPLE) {
            u64::from(crc32fast::hash(&block[HEAD..]))
        } else {
            tail(block)
        }
    }
}

#[inline]
fn tail(block: &[u8]) -> u64 {
    block.last_chunk::<TAIL>().map_or(0, |tail| u64::from_le_bytes(*tail))
}

/// Adds a block to the sum that both ends keep; a block that is lost, doubled or out of order changes it.
#[inline]
fn add(sum: u64, number: u64, body: u64) -> u64 {
    sum.wrapping_add(content::mix(number).wrapping_mul(body | 1))
}

/// Content of blocks, with what they add to the sum. The connections of a job share it.
pub(super) struct Bodies {
    pub(super) blocks: Blocks,
    bytes: Vec<u8>,
    /// Checksum and end of each body.
    sums: Vec<(u64, u64)>,
}

impl Bodies {
    pub(super) fn make(blocks: Blocks) -> Self {
        let bytes = blocks.make();
        let sums = bytes
            .chunks_exact(blocks.size)
            .map(|block| (u64::from(crc32fast::hash(&block[HEAD..])), tail(block)))
            .collect();
        Self { blocks, bytes, sums }
    }

    /// The block of this number, ready to go.
    #[inline]
    fn block(&mut self, number: u64, flag: u64) -> &[u8] {
        let size = self.blocks.size;
        let block = &mut self.bytes[(number % self.sums.len() as u64) as usize * size..][..size];
        block[..8].copy_from_slice(&number.to_le_bytes());
        block[8..HEAD].copy_from_slice(&flag.to_le_bytes());
        block
    }

    /// [`Blocks::sum`] at the other end.
    #[inline]
    fn sum(&self, number: u64) -> u64 {
        let (body, tail) = self.sums[(number % self.sums.len() as u64) as usize];
        if self.blocks.all || content::mix(number).is_multiple_of(SAMPLE) { body } else { tail }
    }
}

fn parse_pair(bytes: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*bytes);
    (both as u64, (both >> 64) as u64)
}

/// A connection that blocks are sent over.
pub(super) struct Sender {
    stream: TcpStream,
    /// Blocks sent over this connection.
    sent: u64,
    /// The sum that the peer should have.
    expected: u64,
    /// The answer that the peer owes where it has been asked and not been heard: blocks sent until then, and their sum.
    asked: Option<(u64, u64)>,
}

impl Sender {
    pub(super) fn open(far: Far, blocks: Blocks) -> anyhow::Result<Self> {
        let stream = blocks.connect(far, TO_PEER)?;
        Ok(Self { stream, sent: 0, expected: 0, asked: None })
    }

    /// Sends a block; with `ask` the peer says afterwards what it has received, which [`Sender::confirm`] waits for.
    #[inline]
    pub(super) fn send(&mut self, bodies: &mut Bodies, ask: bool) -> anyhow::Result<()> {
        self.stream.write_all(bodies.block(self.sent, u64::from(ask))).context("can't send to the peer")?;
        self.expected = add(self.expected, self.sent, bodies.sum(self.sent));
        self.sent += 1;
        if ask {
            // A part that the limit ends has asked on some connections and not waited: that answer comes first.
            self.confirm()?;
            self.asked = Some((self.sent, self.expected));
        }
        Ok(())
    }

    /// Waits for the peer's word, where it has been asked.
    pub(super) fn confirm(&mut self) -> anyhow::Result<()> {
        let Some((sent, expected)) = self.asked.take() else { return Ok(()) };
        let mut answer = [0; ANSWER];
        read_answer(&mut self.stream, &mut answer)?;
        let (count, sum) = parse_pair(&answer);
        anyhow::ensure!(count == sent, "{sent} blocks were sent and {count} have arrived");
        anyhow::ensure!(sum == expected, "what has arrived is not what was sent: the sum over {count} blocks differs");
        Ok(())
    }
}

/// A connection that blocks come over.
pub(super) struct Receiver {
    stream: TcpStream,
    block: Vec<u8>,
    /// Blocks that have come.
    received: u64,
    /// Blocks that the peer has been asked for.
    granted: u64,
    /// Blocks asked for at a time: half of the window.
    grant: u64,
}

impl Receiver {
    pub(super) fn open(far: Far, blocks: Blocks) -> anyhow::Result<Self> {
        let stream = blocks.connect(far, FROM_PEER)?;
        let grant = (WINDOW / 2 / blocks.size).max(1) as u64;
        let block = vec![0; blocks.size];
        Ok(Self { stream, block, received: 0, granted: 0, grant })
    }

    /// Receives a block. `wanted` is how many are still to come, this one included: no more are asked for.
    #[inline]
    pub(super) fn receive(&mut self, bodies: &Bodies, wanted: u64) -> anyhow::Result<()> {
        let ahead = self.granted - self.received;
        if ahead <= self.grant && wanted > ahead {
            self.ask(wanted - ahead)?;
        }
        read_answer(&mut self.stream, &mut self.block)?;
        let (number, _) = parse_pair(self.block.first_chunk().expect("a block is longer than its head"));
        let body = bodies.blocks.sum(number, &self.block);
        anyhow::ensure!(
            number == self.received && body == bodies.sum(number),
            "block {number} has come where block {} should have, or has other content",
            self.received
        );
        self.received += 1;
        Ok(())
    }

    fn ask(&mut self, wanted: u64) -> anyhow::Result<()> {
        let more = wanted.min(if self.granted == self.received { 2 * self.grant } else { self.grant });
        self.stream.write_all(&more.to_le_bytes()).context("can't ask the peer for more")?;
        self.granted += more;
        Ok(())
    }

    /// Takes what was asked for and has not come: a burst that was cut short leaves some.
    pub(super) fn drain(&mut self, bodies: &Bodies) -> anyhow::Result<()> {
        while self.received < self.granted {
            self.receive(bodies, 0)?;
        }
        Ok(())
    }
}

/// The connections of a job. Where blocks go both ways, there are as many of each.
struct Streaming {
    bodies: Bodies,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    far: Far,
    streams: u64,
    /// Operations done.
    done: u64,
}

impl Streaming {
    /// One block each way that there is. The last on each connection asks, and the very last waits.
    #[inline]
    fn operate(&mut self, ask: bool, last: bool, wanted: u64) -> anyhow::Result<()> {
        let lane = (self.done % self.streams) as usize;
        self.done += 1;
        if let Some(sender) = self.senders.get_mut(lane) {
            sender.send(&mut self.bodies, ask)?;
        }
        if let Some(receiver) = self.receivers.get_mut(lane) {
            receiver.receive(&self.bodies, wanted)?;
        }
        if last {
            self.senders.iter_mut().try_for_each(Sender::confirm)?;
        }
        Ok(())
    }

    /// Waits until everything that is under way has arrived. The limit came between two blocks, so none of them asked: blocks that
    /// are no operations ask instead. What the peer was asked for in vain is taken, and counts as nothing.
    #[cold]
    fn arrive(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let Self { bodies, senders, receivers, .. } = self;
        if !senders.is_empty() {
            senders.iter_mut().try_for_each(|sender| sender.send(bodies, true))?;
            senders.iter_mut().try_for_each(Sender::confirm)?;
            watch.settle((senders.len() * bodies.blocks.size) as u64);
        }
        receivers.iter_mut().try_for_each(|receiver| receiver.drain(bodies))
    }
}

impl Prepared for Streaming {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let ways = u64::from(!self.senders.is_empty()) + u64::from(!self.receivers.is_empty());
        let bytes = ways * self.bodies.blocks.size as u64;
        watch.start();
        while watch.running() {
            let wanted = watch.left().div_ceil(self.streams);
            self.operate(watch.closing_within(self.streams), watch.closing(), wanted)?;
            watch.lap(bytes);
            if watch.cut_short() {
                self.arrive(watch)?;
            }
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let done = self.done;
        let Blocks { size, seed, .. } = self.bodies.blocks;
        let mut digest = Digest::new("net/stream", seed);
        // The receiver confirms the bytes; the value covers what they are made from.
        for body in 0..CHECKED {
            self.operate(true, true, 1)?;
            let sums = &self.bodies.sums;
            digest.add(&(sums[(body % sums.len() as u64) as usize].0 as u32).to_le_bytes());
        }
        let detail = format!("{done} operations with blocks of {size} bytes, which arrived as sent");
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let stream = self.senders.first().map(|lane| &lane.stream);
        let stream = stream.or(self.receivers.first().map(|lane| &lane.stream));
        let mut facts = stream.map(described).unwrap_or_default();
        facts.insert("block_bytes".into(), self.bodies.blocks.size.to_string());
        facts.extend(self.far.fact());
        facts.insert("connections".into(), (self.senders.len() + self.receivers.len()).to_string());
        facts
    }
}

impl Peer for Stream {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let [size, all, way, low, high] = read_numbers(&mut stream)?;
        let blocks = Blocks { size: sized(size, MIN, MAX)?, all: all != 0, seed: whole([low, high]) };
        match way {
            TO_PEER => take(stream, blocks),
            FROM_PEER => give(stream, blocks),
            other => anyhow::bail!("{other} is no direction of a stream"),
        }
    }
}

/// Takes blocks and answers those that ask.
fn take(mut stream: TcpStream, blocks: Blocks) -> anyhow::Result<()> {
    let mut block = vec![0; blocks.size];
    let (mut count, mut sum) = (0_u64, 0);
    while read_whole(&mut stream, &mut block)? {
        let (number, asked) = parse_pair(block.first_chunk().context("a block is shorter than its head")?);
        sum = add(sum, number, blocks.sum(number, &block));
        count += 1;
        if asked != 0 {
            let mut answer = [0; ANSWER];
            answer[..8].copy_from_slice(&count.to_le_bytes());
            answer[8..].copy_from_slice(&sum.to_le_bytes());
            stream.write_all(&answer).context("can't send the answer")?;
        }
    }
    Ok(())
}

/// Gives as many blocks as it is asked for.
fn give(mut stream: TcpStream, blocks: Blocks) -> anyhow::Result<()> {
    let mut bodies = Bodies::make(blocks);
    let mut asked = [0; 8];
    let mut number = 0;
    while read_whole(&mut stream, &mut asked)? {
        for _ in 0..u64::from_le_bytes(asked) {
            stream.write_all(bodies.block(number, 0)).context("can't send a block")?;
            number += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_sum_up_the_same() {
        for all in [false, true] {
            let blocks = Blocks { size: 4096, seed: 3, all };
            let mut bodies = Bodies::make(blocks);
            for number in 0..100 {
                let block = bodies.block(number, 0).to_vec();
                assert_eq!(blocks.sum(number, &block), bodies.sum(number));
            }
            let full = (0..16_000).filter(|n| all || content::mix(*n).is_multiple_of(SAMPLE)).count();
            assert!(all || (800..1200).contains(&full), "{full} of 16000 are looked at in full");
        }
    }

    #[test]
    fn a_sum_tells_lost_doubled_and_changed_blocks() {
        let sum = |blocks: &[(u64, u64)]| blocks.iter().fold(0, |sum, (number, body)| add(sum, *number, *body));
        let right = sum(&[(0, 5), (1, 6), (2, 7)]);
        for wrong in
            [&[(0, 5), (1, 6)][..], &[(0, 5), (1, 6), (1, 6)], &[(0, 6), (1, 5), (2, 7)], &[(0, 5), (1, 9), (2, 7)]]
        {
            assert_ne!(sum(wrong), right, "{wrong:?}");
        }
    }
}
