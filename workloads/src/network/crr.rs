//! `net/crr`: an operation connects to the peer, exchanges one message, and closes.
//!
//! The peer closes first, so that the connection's last minute (TIME_WAIT) is spent at its end: an environment that closed
//! first would have used up its ephemeral ports after some ten thousand operations, and no longer measure connections but
//! the search for a free port.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::Context as _;

use super::rr::{Asking, MAX, MIN};
use super::{FAMILY, Family, greeting, open, peer_address, read_answer, read_numbers, read_whole, silent, sized};
use crate::settings::{Bytes, Setting};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Peer, Place, Prepared, Resource, Workload};

crate::settings! {
    struct Options {
        /// Bytes of a message, the same in both directions
        size: Bytes = "64" in MIN..=MAX,
        family: Family as FAMILY,
    }
}

/// The workload, and its peer.
#[derive(Debug)]
pub struct ConnectRequestResponse;

impl Workload for ConnectRequestResponse {
    fn name(&self) -> &'static str {
        "net/crr"
    }

    fn about(&self) -> &'static str {
        "Connects to the peer over TCP, sends a small request, receives the answer and the end, and closes"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Network
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { size: Bytes(size), family } = Options::read(&place.settings);
        let address = peer_address(place, family, self.name())?;
        let sent = greeting(self.name(), &[size as u32]);
        let asking = Asking::new(place.seed, size as usize, size as usize);
        let mut connecting =
            Connecting { address, message: [&sent, &*asking.request].concat(), greeting: sent.len(), asking };
        connecting.exchange(u64::MAX)?;
        Ok(Box::new(connecting))
    }

    fn peer(&self) -> Option<&'static dyn Peer> {
        Some(&ConnectRequestResponse)
    }
}

struct Connecting {
    address: SocketAddr,
    /// Greeting and request.
    message: Vec<u8>,
    /// Length of the greeting.
    greeting: usize,
    asking: Asking,
}

impl Connecting {
    #[inline]
    fn exchange(&mut self, number: u64) -> anyhow::Result<()> {
        self.asking.number(number);
        self.message[self.greeting..].copy_from_slice(&self.asking.request);
        let mut stream = open(self.address)?;
        stream.write_all(&self.message).context("can't send to the peer")?;
        read_answer(&mut stream, &mut self.asking.answer)?;
        self.asking.check(number)?;
        // The peer's end has to be here before ours is sent.
        match stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => anyhow::bail!("the peer's answer {number} is longer than it should be"),
            Err(e) => Err(silent(e)),
        }
    }
}

impl Prepared for Connecting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.asking.bytes();
        watch.start();
        while watch.running() {
            let number = self.asking.next();
            self.exchange(number)?;
            watch.lap(bytes);
        }
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let digest = Asking::digest("net/crr", self.asking.seed, |number, digest| {
            self.exchange(number)?;
            digest.add(&self.asking.answer);
            Ok(())
        })?;
        Ok(Check { value: digest.value(), detail: self.asking.detail() })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([("peer".into(), self.address.to_string())])
    }
}

impl Peer for ConnectRequestResponse {
    fn serve(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let [size] = read_numbers(&mut stream)?;
        let mut message = vec![0; sized(size, MIN, MAX)?];
        anyhow::ensure!(read_whole(&mut stream, &mut message)?, "the connection was closed before it asked anything");
        // Dropping the connection closes it right behind the answer.
        stream.write_all(&message).context("can't send the answer")
    }
}
