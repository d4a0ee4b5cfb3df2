//! `net/stream`: an operation sends one large block to the peer; the figure to look at is bytes per second.
//!
//! What sits in a buffer has not arrived. So the last block of the warm-up and of the measured part asks the peer what
//! it has received, and the time until it has answered belongs to that operation.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;

use anyhow::Context as _;

use super::{connect, read_size, read_whole};
use crate::content::{self, Digest};
use crate::settings::{Kind, Setting};
use crate::stopwatch::Stopwatch;
use crate::{Check, Peer, Place, Prepared, Resource, Workload};

/// Blocks that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5354;
const MIN: u64 = 64;
const MAX: u64 = 4 << 20;
/// Head of a block: number, and whether the peer is to answer.
const HEAD: usize = 16;
/// An answer: blocks received, and the sum over them.
const ANSWER: usize = 16;

/// The workload, and its peer.
#[derive(Debug)]
pub struct Stream;

impl Workload for Stream {
    fn name(&self) -> &'static str {
        "net/stream"
    }

    fn about(&self) -> &'static str {
        "Sends blocks of 64 KiB to the peer over TCP, and counts what the peer says has arrived"
    }

    fn settings(&self) -> &'static [Setting] {
        &[Setting {
            name: "block",
            kind: Kind::Bytes { min: MIN, max: MAX },
            default: "64KiB",
            about: "Bytes that an operation hands to the connection",
        }]
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn streams(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let size = place.settings.number("block") as usize;
        let stream = connect(place, self.name(), size as u32)?;
        let bodies = ((1 << 20) / size).clamp(2, 16);
        let mut blocks = vec![0; bodies * size];
        content::fill(&mut content::generator(place.seed, STREAM, 0), &mut blocks);
        let sums = blocks.chunks_exact(size).map(|block| crc32fast::hash(&block[HEAD..])).collect();
        Ok(Box::new(Sending { stream, seed: place.seed, size, blocks, sums, sent: 0, expected: 0 }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&Stream)
    }
}

struct Sending {
    stream: TcpStream,
    seed: u64,
    size: usize,
    blocks: Vec<u8>,
    /// Checksum of each body.
    sums: Vec<u32>,
    /// Blocks sent over this connection.
    sent: u64,
    /// What the peer should have added up.
    expected: u64,
}

/// Adds a block to the sum that both ends keep; a block that is lost, doubled or out of order changes it.
#[inline]
fn add(sum: u64, number: u64, body: u32) -> u64 {
    sum.wrapping_add(content::mix(number).wrapping_mul(u64::from(body) | 1))
}

impl Sending {
    #[inline]
    fn send(&mut self, answer: bool) -> anyhow::Result<()> {
        let body = (self.sent % self.sums.len() as u64) as usize;
        let block = &mut self.blocks[body * self.size..][..self.size];
        block[..8].copy_from_slice(&self.sent.to_le_bytes());
        block[8..HEAD].copy_from_slice(&u64::from(answer).to_le_bytes());
        self.stream.write_all(block).context("can't send to the peer")?;
        self.expected = add(self.expected, self.sent, self.sums[body]);
        self.sent += 1;
        if answer { self.confirm() } else { Ok(()) }
    }

    /// Waits for the peer's word on everything sent so far.
    fn confirm(&mut self) -> anyhow::Result<()> {
        let mut answer = [0; ANSWER];
        anyhow::ensure!(read_whole(&mut self.stream, &mut answer)?, "the peer closed the connection");
        let (count, sum) = parse_pair(&answer);
        anyhow::ensure!(count == self.sent, "{} blocks were sent and {count} have arrived", self.sent);
        anyhow::ensure!(
            sum == self.expected,
            "what has arrived is not what was sent: the sum over {count} blocks differs"
        );
        Ok(())
    }
}

fn parse_pair(bytes: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*bytes);
    (both as u64, (both >> 64) as u64)
}

impl Prepared for Sending {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.size as u64;
        watch.start();
        while watch.running() {
            let closing = watch.closing();
            self.send(closing)?;
            watch.lap(bytes);
        }
        if watch.cut_short() {
            // The limit came between two blocks, so none of them asked: a block that isn't counted asks instead.
            self.send(true)?;
            watch.settle();
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let sent = self.sent;
        let mut digest = Digest::new("net/stream", self.seed);
        // The peer confirms the bytes; the value covers what they are made from.
        for body in 0..CHECKED as usize {
            self.send(true)?;
            digest.add(&self.sums[body % self.sums.len()].to_le_bytes());
        }
        Ok(Check { value: digest.value(), detail: format!("{sent} blocks of {} bytes arrived as sent", self.size) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let name =
            |address: std::io::Result<std::net::SocketAddr>| address.map_or_else(|e| e.to_string(), |a| a.to_string());
        BTreeMap::from([
            ("local".into(), name(self.stream.local_addr())),
            ("peer".into(), name(self.stream.peer_addr())),
            ("block_bytes".into(), self.size.to_string()),
        ])
    }
}

impl Peer for Stream {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut block = vec![0; read_size(&mut stream, MIN, MAX)?];
        let (mut count, mut sum) = (0_u64, 0);
        while read_whole(&mut stream, &mut block)? {
            let (head, body) = block.split_first_chunk::<HEAD>().context("a block is shorter than its head")?;
            let (number, asked) = parse_pair(head);
            sum = add(sum, number, crc32fast::hash(body));
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
}
