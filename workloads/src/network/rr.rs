//! `net/rr`: an operation sends a small message to the peer and waits until all of it has come back.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;

use anyhow::Context as _;

use super::{connect, read_size, read_whole};
use crate::content::{self, Digest};
use crate::settings::{Kind, Setting};
use crate::stopwatch::Stopwatch;
use crate::{Check, Peer, Place, Prepared, Resource, Workload};

/// Exchanges that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x5252;
const MIN: u64 = 8;
const MAX: u64 = 64 << 10;

/// The workload, and its peer.
#[derive(Debug)]
pub struct RequestResponse;

impl Workload for RequestResponse {
    fn name(&self) -> &'static str {
        "net/rr"
    }

    fn about(&self) -> &'static str {
        "Sends 64 bytes to the peer over TCP and waits for them to come back"
    }

    fn settings(&self) -> &'static [Setting] {
        &[Setting {
            name: "size",
            kind: Kind::Bytes { min: MIN, max: MAX },
            default: "64",
            about: "Bytes of a message, the same in both directions",
        }]
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let size = place.settings.number("size");
        let stream = connect(place, self.name(), size as u32)?;
        let mut request = vec![0; size as usize];
        content::fill(&mut content::generator(place.seed, STREAM, 0), &mut request);
        let answer = vec![0; request.len()];
        Ok(Box::new(Asking { stream, seed: place.seed, request, answer, done: 0 }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&RequestResponse)
    }
}

struct Asking {
    stream: TcpStream,
    seed: u64,
    /// The first eight bytes number the exchange, so that an old answer isn't taken for a new one.
    request: Vec<u8>,
    answer: Vec<u8>,
    done: u64,
}

impl Asking {
    #[inline]
    fn exchange(&mut self, number: u64) -> anyhow::Result<()> {
        self.request[..8].copy_from_slice(&number.to_le_bytes());
        self.stream.write_all(&self.request).context("can't send to the peer")?;
        anyhow::ensure!(read_whole(&mut self.stream, &mut self.answer)?, "the peer closed the connection");
        anyhow::ensure!(self.answer == self.request, "the peer's answer {number} is not what was sent");
        Ok(())
    }
}

impl Prepared for Asking {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = 2 * self.request.len() as u64;
        watch.start();
        while watch.running() {
            self.done += 1;
            self.exchange(CHECKED + self.done)?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut digest = Digest::new("net/rr", self.seed);
        for number in 0..CHECKED {
            self.exchange(number)?;
            digest.add(&self.answer);
        }
        Ok(Check { value: digest.value(), detail: format!("{} answers as sent", self.done) })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let name =
            |address: std::io::Result<std::net::SocketAddr>| address.map_or_else(|e| e.to_string(), |a| a.to_string());
        BTreeMap::from([
            ("local".into(), name(self.stream.local_addr())),
            ("peer".into(), name(self.stream.peer_addr())),
        ])
    }
}

impl Peer for RequestResponse {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut message = vec![0; read_size(&mut stream, MIN, MAX)?];
        while read_whole(&mut stream, &mut message)? {
            stream.write_all(&message).context("can't send the answer")?;
        }
        Ok(())
    }
}
