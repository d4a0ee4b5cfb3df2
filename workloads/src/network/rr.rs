//! `net/rr`: an operation sends a request to the peer and waits until all of the answer has come back.
//!
//! A datagram may be lost: it is asked for again after [`DATAGRAM_PATIENCE`], and the operation takes as long as that takes.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use socket2::Type;

use super::inbound::{self, CONNECTION, Connection, Far};
use super::{
    FAMILY, Family, bounded, described, ends, nothing_came, peer_address, read_answer, read_numbers, read_whole, sized,
};
use crate::content::{self, Digest};
use crate::settings::{Bytes, Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

/// Exchanges that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5252;
/// A message over TCP holds its number at least.
pub(super) const MIN: u64 = 8;
pub(super) const MAX: u64 = 64 << 10;

/// Head of a datagram: four bytes that say it is ours, the length of the answer, the number of the exchange.
const HEAD: usize = 16;
const MAGIC: [u8; 4] = *b"tare";
/// The largest datagram that IPv4 carries.
pub(crate) const MAX_DATAGRAM: usize = 65_507;
/// After so long without an answer a datagram counts as lost.
pub const DATAGRAM_PATIENCE: Duration = Duration::from_millis(200);
/// So many datagrams lost one after the other are a failure.
pub const TRIES: u32 = 10;

crate::words! {
    enum Protocol { Tcp = "tcp", Udp = "udp" }
}

crate::settings! {
    struct Options {
        /// One TCP connection that stays open, or UDP datagrams
        protocol: Protocol = "tcp",
        /// Bytes of a request; at least 16 and at most 65507 over UDP
        size: Bytes = "64" in MIN..=MAX,
        /// Bytes of an answer, with the same bounds; 0: as many as the request has
        answer: Bytes = "0" in 0..=MAX,
        family: Family as FAMILY,
        connection: Connection as CONNECTION,
    }
}

impl Options {
    /// Bytes of an answer.
    fn answered(&self) -> u64 {
        if self.answer.0 > 0 { self.answer.0 } else { self.size.0 }
    }
}

/// The workload, and its peer.
#[derive(Debug)]
pub struct RequestResponse;

impl Workload for RequestResponse {
    fn name(&self) -> &'static str {
        "net/rr"
    }

    fn about(&self) -> &'static str {
        "Sends a small request to the peer over TCP or UDP and waits for the answer"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let options = Options::read(settings);
        let (min, max) = match options.protocol {
            Protocol::Udp => (HEAD as u64, MAX_DATAGRAM as u64),
            Protocol::Tcp => (MIN, MAX),
        };
        for (name, bytes) in [("size", options.size.0), ("answer", options.answered())] {
            if !(min..=max).contains(&bytes) {
                return Err(SettingError::Conflict(format!(
                    "{name} = {bytes} doesn't fit a message over {}: set it from {min} to {max}",
                    options.protocol
                )));
            }
        }
        inbound::check(options.connection, options.family, options.protocol == Protocol::Tcp)
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let options = Options::read(&place.settings);
        let (size, answer) = (options.size.0, options.answered());
        let address = peer_address(place, options.family, self.name())?;
        let mut asking = Asking::new(place.seed, size as usize, answer as usize);
        if options.protocol == Protocol::Udp {
            let connect = || {
                let socket = bounded(address, Type::DGRAM, DATAGRAM_PATIENCE)?;
                socket.connect(&address.into())?;
                Ok(UdpSocket::from(socket))
            };
            let socket = connect().map_err(|e: std::io::Error| {
                anyhow::Error::new(e).context(format!("can't reach the peer at {address}"))
            })?;
            let mut asking = AskingDatagrams { socket, asking: asking.headed(), lost: 0, strays: 0 };
            // A connection says by itself that the peer is there.
            asking.exchange(u64::MAX)?;
            asking.lost = 0;
            return Ok(Box::new(asking));
        }
        asking.number_at = 0;
        let far = Far::of(place, options.family, options.connection, self.name())?;
        let stream = far.connect(self.name(), &[size as u32, answer as u32])?;
        Ok(Box::new(AskingStream { stream, asking, far }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&RequestResponse)
    }
}

/// Request and expected answer, and what has been asked.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) seed: u64,
    /// Holds the number of the exchange, so that an old answer isn't taken for a new one.
    pub(super) request: Vec<u8>,
    expected: Vec<u8>,
    pub(super) answer: Vec<u8>,
    number_at: usize,
    done: u64,
}

impl Asking {
    pub(super) fn new(seed: u64, size: usize, answer: usize) -> Self {
        let mut request = vec![0; size];
        content::fill(&mut content::generator(seed, STREAM, 0), &mut request);
        let mut expected = vec![0; answer];
        fill_answer(&request, MIN as usize, &mut expected);
        Self { seed, request, answer: vec![0; answer], expected, number_at: 0, done: 0 }
    }

    /// With the head of a datagram.
    fn headed(mut self) -> Self {
        self.request[..4].copy_from_slice(&MAGIC);
        self.request[4..8].copy_from_slice(&(self.answer.len() as u32).to_le_bytes());
        self.number_at = 8;
        fill_answer(&self.request, HEAD, &mut self.expected);
        self
    }

    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        for message in [&mut self.request, &mut self.expected] {
            message[self.number_at..][..8].copy_from_slice(&number.to_le_bytes());
        }
    }

    #[inline]
    pub(super) fn check(&self, number: u64) -> anyhow::Result<()> {
        anyhow::ensure!(self.answer == self.expected, "the peer's answer {number} is not the one to what was sent");
        Ok(())
    }

    /// One exchange over a connection.
    #[inline]
    pub(super) fn exchange(&mut self, stream: &mut (impl Read + Write), number: u64) -> anyhow::Result<()> {
        self.number(number);
        stream.write_all(&self.request).context("can't send to the peer")?;
        read_answer(stream, &mut self.answer)?;
        self.check(number)
    }

    /// The number of the next exchange that the check value doesn't cover.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.done += 1;
        CHECKED + self.done
    }

    /// Bytes of an exchange, both ways.
    pub(super) fn bytes(&self) -> u64 {
        (self.request.len() + self.answer.len()) as u64
    }

    /// A digest over a fixed number of exchanges, which `exchange` does: by their number, to the digest of their answers.
    pub(super) fn digest(
        name: &str,
        seed: u64,
        mut exchange: impl FnMut(u64, &mut Digest) -> anyhow::Result<()>,
    ) -> anyhow::Result<Digest> {
        let mut digest = Digest::new(name, seed);
        for number in 0..CHECKED {
            exchange(number, &mut digest)?;
        }
        Ok(digest)
    }

    /// Summary of the checks, in words.
    pub(super) fn detail(&self) -> String {
        format!("{} answers as expected", self.done)
    }
}

/// An answer holds the beginning of its request; where it is longer, the part after the head over and over.
fn fill_answer(request: &[u8], head: usize, answer: &mut [u8]) {
    let (same, rest) = answer.split_at_mut(answer.len().min(request.len()));
    same.copy_from_slice(&request[..same.len()]);
    match request.get(head..).filter(|payload| !payload.is_empty()) {
        None => rest.fill(0),
        Some(payload) => {
            for chunk in rest.chunks_mut(payload.len()) {
                chunk.copy_from_slice(&payload[..chunk.len()]);
            }
        }
    }
}

struct AskingStream {
    stream: TcpStream,
    asking: Asking,
    far: Far,
}

impl Prepared for AskingStream {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.asking.bytes();
        watch.start();
        while watch.running() {
            let number = self.asking.next();
            self.asking.exchange(&mut self.stream, number)?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let Self { stream, asking, .. } = self;
        let digest = Asking::digest("net/rr", asking.seed, |number, digest| {
            asking.exchange(stream, number)?;
            digest.add(&asking.answer);
            Ok(())
        })?;
        Ok(Check { value: digest.value(), detail: self.asking.detail() })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = described(&self.stream);
        facts.extend(self.far.fact());
        facts
    }
}

struct AskingDatagrams {
    socket: UdpSocket,
    asking: Asking,
    /// Exchanges of this burst that had no answer in time and were repeated.
    lost: u64,
    /// Answers in all to exchanges that had been given up: there can't be more than that.
    strays: u64,
}

impl AskingDatagrams {
    #[inline]
    fn exchange(&mut self, number: u64) -> anyhow::Result<()> {
        self.asking.number(number);
        for _ in 0..TRIES {
            self.socket.send(&self.asking.request).map_err(gone)?;
            if self.receive(number)? {
                return Ok(());
            }
            self.lost += 1;
            self.strays += 1;
        }
        anyhow::bail!(
            "no answer to {TRIES} datagrams in a row, {} ms each; is the peer there, and does the path carry {} bytes?",
            DATAGRAM_PATIENCE.as_millis(),
            self.asking.request.len().max(self.asking.answer.len())
        )
    }

    /// Waits for the answer; `false` where none came in time.
    #[inline]
    fn receive(&mut self, number: u64) -> anyhow::Result<bool> {
        loop {
            match self.socket.recv(&mut self.asking.answer) {
                Ok(n) if n == self.asking.answer.len() => {
                    if self.asking.answer == self.asking.expected {
                        return Ok(true);
                    }
                    // It may be the answer to a datagram that was given up too early.
                    anyhow::ensure!(
                        self.strays > 0 && self.asking.answer[..8] == self.asking.expected[..8],
                        "the peer's answer {number} is not the one to what was sent"
                    );
                    self.strays -= 1;
                }
                Ok(n) => anyhow::bail!("the peer's answer {number} has {n} bytes, not {}", self.asking.answer.len()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if nothing_came(&e) => return Ok(false),
                Err(e) => return Err(gone(e)),
            }
        }
    }
}

#[cold]
fn gone(error: std::io::Error) -> anyhow::Error {
    let words = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "can't exchange datagrams with the peer: it is no longer there",
        Some(libc::EMSGSIZE) => "can't exchange datagrams with the peer: set a smaller size",
        _ => "can't exchange datagrams with the peer",
    };
    anyhow::Error::new(error).context(words)
}

impl Prepared for AskingDatagrams {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.asking.bytes();
        self.lost = 0;
        watch.start();
        while watch.running() {
            let number = self.asking.next();
            self.exchange(number)?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::from([("lost".into(), self.lost)])
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let digest = Asking::digest("net/rr", self.asking.seed, |number, digest| {
            self.exchange(number)?;
            digest.add(&self.asking.answer);
            Ok(())
        })?;
        Ok(Check { value: digest.value(), detail: self.asking.detail() })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        ends(self.socket.local_addr(), self.socket.peer_addr())
    }
}

impl Peer for RequestResponse {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let [size, answer] = read_numbers(&mut stream)?;
        let mut request = vec![0; sized(size, MIN, MAX)?];
        let mut answer = vec![0; sized(answer, MIN, MAX)?];
        while read_whole(&mut stream, &mut request)? {
            if answer.len() == request.len() {
                stream.write_all(&request).context("can't send the answer")?;
            } else {
                fill_answer(&request, MIN as usize, &mut answer);
                stream.write_all(&answer).context("can't send the answer")?;
            }
        }
        Ok(())
    }
}

/// The peer's answer to a datagram; `None` where it is not one of ours, and then nothing is said.
pub(crate) fn answer_datagram<'a>(request: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let (magic, rest) = request.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    if *magic != MAGIC || request.len() < HEAD || !(HEAD..=MAX_DATAGRAM).contains(&length) {
        return None;
    }
    let answer = buffer.get_mut(..length)?;
    fill_answer(request, HEAD, answer);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_as_its_request_and_goes_on_with_the_payload() {
        let mut answer = [9; 14];
        fill_answer(b"12345678abc", 8, &mut answer);
        assert_eq!(&answer, b"12345678abcabc");
        fill_answer(b"12345678", 8, &mut answer);
        assert_eq!(&answer, b"12345678\0\0\0\0\0\0");
        let mut short = [0; 8];
        fill_answer(b"12345678abc", 8, &mut short);
        assert_eq!(&short, b"12345678");
    }

    #[test]
    fn only_our_datagrams_are_answered_and_by_no_more_than_one_carries() {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let request = |length: u32| [&MAGIC[..], &length.to_le_bytes(), &[7; 8], b"xy"].concat();
        assert_eq!(answer_datagram(&request(18), &mut buffer), Some(&request(18)[..]));
        assert_eq!(answer_datagram(&request(16), &mut buffer), Some(&request(16)[..16]));
        assert_eq!(answer_datagram(&request(65_507), &mut buffer).map(<[u8]>::len), Some(65_507));
        for bad in [request(15), request(65_508), request(u32::MAX), request(18)[..15].to_vec(), Vec::new()] {
            assert_eq!(answer_datagram(&bad, &mut buffer), None, "{bad:?}");
        }
        assert_eq!(answer_datagram(b"Tare\x12\0\0\0........xy", &mut buffer), None);
    }
}
