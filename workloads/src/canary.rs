//! The canary: small operations of the host itself, between two bursts, that tell a calm moment from a rough one.
//!
//! It never looks at an environment: judging rounds by the latencies that are to be compared would bias them.

use std::fs::File;
use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::content::{self, mix};
use crate::stopwatch;
use crate::workload::Resource;

/// Operations of one look.
const OPERATIONS: usize = 20;
/// A look ends after so long, with what it has: it stands beside every burst of a few milliseconds, and must not take as long.
const ENOUGH_NS: u64 = 500_000;
/// But it has at least so many.
const AT_LEAST: usize = 5;
/// A look at the disk that takes less than this has reached no device: a write to memory and a flush that does nothing take 1 to
/// 2 us, and the fastest disks with a cache that outlives a loss of power some 10 us.
pub const NO_DISK_NS: u64 = 4_000;
/// Bytes of a write.
const BLOCK: usize = 4096;
/// Blocks of the file that is overwritten.
const BLOCKS: usize = 16;
/// Rounds of mixing that are one operation: some 5 us.
const MIXES: u64 = 5_000;
/// A datagram to ourselves that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Datagrams of which one has to come through a new link.
const TRIES: u64 = 5;

/// Buffers and files to look at each resource, made in advance; a look allocates nothing.
#[derive(Debug)]
pub struct Canaries {
    file: File,
    block: Vec<u8>,
    /// Pings, and is the far end as well where there is no other.
    near: UdpSocket,
    far: Option<UdpSocket>,
    spent: [u64; OPERATIONS],
}

impl Canaries {
    /// Makes a small file in `directory`, which is to be on the file system of the data. It has no name there: nobody else gets at it,
    /// and it goes with this process, however that ends.
    ///
    /// # Errors
    /// When the file can't be written, or there is no loopback network.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let file = tempfile::tempfile_in(directory)
            .with_context(|| format!("can't make the canary's file in {}", directory.display()))?;
        // An address, not a name: for names the whole resolver of the C library would be part of the program.
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("the canary can't open a socket on loopback")?;
        let mut canaries = Self { file, block: vec![0; BLOCKS * BLOCK], near, far: None, spent: [0; OPERATIONS] };
        content::fill(&mut content::generator(0, 0x4341, 0), &mut canaries.block);
        canaries.file.write_all_at(&canaries.block, 0).context("can't fill the canary's file")?;
        canaries.file.sync_all().context("can't flush the canary's file")?;
        let own = canaries.near.local_addr().context("the canary can't tell its own address")?;
        canaries
            .near
            .connect(own)
            .context("the canary can't connect to itself; where loopback is down: `ip link set lo up`")?;
        canaries.near.set_read_timeout(Some(PATIENCE))?;
        Ok(canaries)
    }

    /// Pings over the link between these sockets from now on, which are connected with each other, to and fro.
    ///
    /// # Errors
    /// When nothing comes through.
    pub fn ping_over(&mut self, [near, far]: [UdpSocket; 2]) -> anyhow::Result<()> {
        near.set_read_timeout(Some(PATIENCE))?;
        far.set_read_timeout(Some(PATIENCE))?;
        (self.near, self.far) = (near, Some(far));
        // The first one has to find the other end's hardware address, and is lost where the link is still coming up.
        let first = (1..TRIES).fold(self.ping(u64::MAX), |last, nth| last.or_else(|_| self.ping(u64::MAX - nth)));
        first.context("the canary's own link carries nothing")
    }

    /// Median of a look's operations on one resource, nanoseconds: 4 KiB overwritten and flushed, a datagram to itself,
    /// or a little arithmetic.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn measure(&mut self, resource: Resource) -> anyhow::Result<u64> {
        let begun = stopwatch::now();
        let (mut previous, mut count) = (begun, 0);
        while count < OPERATIONS && (count < AT_LEAST || previous - begun < ENOUGH_NS) {
            match resource {
                Resource::Disk => self.write(count % BLOCKS).context("the canary can't write and flush its file")?,
                Resource::Network => self.ping(count as u64).context("the canary can't reach its other end")?,
                Resource::Processor => compute(),
            }
            let now = stopwatch::now();
            self.spent[count] = now - previous;
            previous = now;
            count += 1;
        }
        let spent = &mut self.spent[..count];
        spent.sort_unstable();
        Ok(spent[count / 2])
    }

    fn write(&self, number: usize) -> std::io::Result<()> {
        let start = number * BLOCK;
        self.file.write_all_at(&self.block[start..start + BLOCK], start as u64)?;
        self.file.sync_data()
    }

    fn ping(&self, number: u64) -> std::io::Result<()> {
        let sent = number.to_le_bytes();
        self.near.send(&sent)?;
        if let Some(far) = &self.far {
            receive(far, sent)?;
            far.send(&sent)?;
        }
        receive(&self.near, sent)
    }
}

/// A datagram that came too late for the look before is not this one's.
fn receive(socket: &UdpSocket, sent: [u8; 8]) -> std::io::Result<()> {
    let mut answer = [0; 8];
    while answer != sent {
        socket.recv(&mut answer)?;
    }
    Ok(())
}

fn compute() {
    let mut word = black_box(1);
    for _ in 0..MIXES {
        word = mix(word);
    }
    black_box(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_link_may_lose_its_first_datagram() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut canaries = Canaries::new(directory.path()).expect("made");
        let [near, far, link] = [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let address = |socket: &UdpSocket| socket.local_addr().expect("bound");
        let (one, other) = (address(&near), address(&far));
        link.set_read_timeout(Some(10 * PATIENCE)).expect("set");
        near.connect(address(&link)).and_then(|()| far.connect(address(&link))).expect("connected");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut datagram = [0; 8];
                link.recv(&mut datagram).expect("the first, which is lost");
                for _ in 0..2 {
                    let (_, from) = link.recv_from(&mut datagram).expect("another");
                    link.send_to(&datagram, if from == one { other } else { one }).expect("passed on");
                }
            });
            canaries.ping_over([near, far]).expect("the second comes through");
        });
    }

    #[test]
    fn every_resource_has_a_canary_and_its_file_goes_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut canaries = Canaries::new(directory.path()).expect("made");
        for resource in [Resource::Disk, Resource::Network, Resource::Processor] {
            let median = canaries.measure(resource).expect("measured");
            assert!((100..10_000_000_000).contains(&median), "{resource:?}: {median} ns");
        }
        let entries = || std::fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(entries(), 0, "a process that is killed now would leave it");
        drop(canaries);
        assert_eq!(entries(), 0);
    }

    #[test]
    fn a_ping_goes_to_the_other_end_and_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut canaries = Canaries::new(directory.path()).expect("made");
        let [near, far] = [0, 0].map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("bound"));
        near.connect(far.local_addr().expect("known")).expect("connected");
        far.connect(near.local_addr().expect("known")).expect("connected");
        let watching = far.try_clone().expect("cloned");
        canaries.ping_over([near, far]).expect("it carries something");
        canaries.measure(Resource::Network).expect("measured");
        watching.set_nonblocking(true).expect("set");
        assert!(watching.recv(&mut [0; 8]).is_err(), "all that came was answered");
        drop(canaries.far.take());
        canaries.near.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        assert!(canaries.measure(Resource::Network).is_err(), "nobody answers");
    }

    #[test]
    fn nothing_is_written_through_a_link_that_somebody_planted() {
        let directory = tempfile::tempdir().expect("a directory");
        let letter = directory.path().join("letter");
        std::fs::write(&letter, "keep me").expect("written");
        for end in ["", "-0", "-1"] {
            let name = format!("tarebench-canary-{}{end}", std::process::id());
            std::os::unix::fs::symlink(&letter, directory.path().join(name)).expect("planted");
        }
        drop(Canaries::new(directory.path()).expect("made under another name"));
        assert_eq!(std::fs::read_to_string(&letter).expect("there"), "keep me");
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 4, "and what was there stays");
    }
}
