//! `net/chatty`: an operation asks the peer for a set of rows, either a row at a time, or all of it with one request.
//!
//! The same rows come both ways, so the difference is that of the round trips.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;

use anyhow::Context as _;

use super::{FAMILY, Family, connect, ends, halves, peer_address, read_answer, read_numbers, read_whole, whole};
use crate::content::{self, Digest};
use crate::settings::Setting;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

/// Bytes of a row.
const ROW: usize = 100;
/// Different rows that there are. Sets begin one after the other and go round.
const ROWS: u64 = 10_000;
/// Bytes of a request: the first row, and how many.
const REQUEST: usize = 16;
/// Sets that the check value covers.
const CHECKED: u64 = 4;
const STREAM: u64 = 0x4348;

crate::words! {
    enum Way { Rows = "rows", Set = "set" }
}

crate::settings! {
    struct Options {
        /// A request for each row, after the answer to the one before; or one for the whole set
        way: Way = "rows",
        /// Rows of a set, 100 bytes each
        rows: u64 = 100 in 1..=ROWS,
        family: Family as FAMILY,
    }
}

/// The workload, and its peer.
#[derive(Debug)]
pub struct Chatty;

impl Workload for Chatty {
    fn name(&self) -> &'static str {
        "net/chatty"
    }

    fn about(&self) -> &'static str {
        "Asks the peer for a set of rows over TCP, a row at a time or all with one request"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { way, rows, family } = Options::read(&place.settings);
        let stream = connect(peer_address(place, family, self.name())?, self.name(), &halves(place.seed))?;
        Ok(Box::new(Asking {
            stream,
            seed: place.seed,
            table: table(place.seed, rows),
            at_a_time: match way {
                Way::Rows => 1,
                Way::Set => rows,
            },
            rows,
            set: vec![0; rows as usize * ROW],
            done: 0,
        }))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&Chatty)
    }
}

/// All rows, and the first `more` of them again: a set is one piece wherever it begins.
fn table(seed: u64, more: u64) -> Vec<u8> {
    let mut table = vec![0; ROWS as usize * ROW];
    content::fill(&mut content::generator(seed, STREAM, 0), &mut table);
    table.extend_from_within(..more as usize * ROW);
    table
}

struct Asking {
    stream: TcpStream,
    seed: u64,
    table: Vec<u8>,
    /// Rows that one request asks for.
    at_a_time: u64,
    rows: u64,
    /// The set that has come.
    set: Vec<u8>,
    done: u64,
}

impl Asking {
    /// Asks for the set that begins with this row.
    #[inline]
    fn ask(&mut self, first: u64) -> anyhow::Result<()> {
        let mut request = [0; REQUEST];
        request[8..].copy_from_slice(&self.at_a_time.to_le_bytes());
        for (rows, at) in self.set.chunks_exact_mut(self.at_a_time as usize * ROW).zip(0..) {
            request[..8].copy_from_slice(&((first + at) % ROWS).to_le_bytes());
            self.stream.write_all(&request).context("can't send to the peer")?;
            read_answer(&mut self.stream, rows)?;
        }
        anyhow::ensure!(
            self.set == self.table[first as usize * ROW..][..self.set.len()],
            "the rows from {first} on are not what the peer should have"
        );
        Ok(())
    }
}

impl Prepared for Asking {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.set.len() as u64;
        watch.start();
        while watch.running() {
            self.ask((self.done * self.rows) % ROWS)?;
            self.done += 1;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let mut digest = Digest::new("net/chatty", self.seed);
        for set in 0..CHECKED {
            self.ask((set * self.rows) % ROWS)?;
            digest.add(&self.set);
        }
        let detail = format!("{} sets of {} rows as expected", self.done, self.rows);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        ends(self.stream.local_addr(), self.stream.peer_addr())
    }
}

impl Peer for Chatty {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let table = table(whole(read_numbers(&mut stream)?), ROWS);
        let mut request = [0; REQUEST];
        while read_whole(&mut stream, &mut request)? {
            let both = u128::from_le_bytes(request);
            let (first, rows) = (both as u64, (both >> 64) as u64);
            anyhow::ensure!(first < ROWS && (1..=ROWS).contains(&rows), "there are no {rows} rows from {first} on");
            let set = &table[first as usize * ROW..][..rows as usize * ROW];
            stream.write_all(set).context("can't send the rows")?;
        }
        Ok(())
    }
}
