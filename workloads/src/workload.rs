//! The interface of a workload: where it is prepared, how it is driven, and what proves that it was done.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::load;
use crate::parcel::Brought;
use crate::settings::{Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;

/// The part of the machine that a workload leans on; it decides which canary watches over its rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Arithmetic, memory and system calls.
    Processor,
    /// The file system of the data directory.
    Disk,
    /// The path to the peer.
    Network,
}

/// Where and with what a workload is prepared: once for each of its jobs.
#[derive(Debug, Clone)]
pub struct Place {
    /// An empty directory of the job's own, as seen inside the environment.
    pub directory: PathBuf,
    /// A directory that all jobs of the workload share; that of the first job. Jobs are prepared one after the other.
    pub shared: PathBuf,
    /// Which of the jobs, from 0.
    pub job: u32,
    /// How many jobs there are.
    pub jobs: u32,
    /// The same seed gives the same operations everywhere. Each job has its own, the first the run's.
    pub seed: u64,
    /// Complete and checked against [`load::settings`] of the workload.
    pub settings: Settings,
    /// Memory that the environment has by the suite, bytes: what a [`crate::settings::Kind::Amount`] is a multiple of.
    pub memory: u64,
    /// The far end, for workloads that have a [`Peer`].
    pub peer: Option<PeerAddress>,
    /// What [`Workload::brings`] named, where there was something: an archive for [`crate::parcel::unpack`].
    pub parcel: Option<PathBuf>,
}

impl Place {
    /// That of a workload's only job, as tests and benches have it: seed 1, 512 MiB of memory, no far end, no files.
    pub fn alone(directory: impl Into<PathBuf>, settings: Settings) -> Self {
        let directory = directory.into();
        let shared = directory.clone();
        Self { directory, shared, job: 0, jobs: 1, seed: 1, settings, memory: 1 << 29, peer: None, parcel: None }
    }
}

/// Where the peer is to be reached from inside an environment: TCP and UDP, the same port for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    /// Over IPv4.
    pub v4: Option<SocketAddr>,
    /// Over IPv6.
    pub v6: Option<SocketAddr>,
    /// The environment's port that the peer reaches by the same number, where an engine publishes one.
    pub published: Option<u16>,
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self { v4: Some(address), v6: None, published: None },
            SocketAddr::V6(_) => Self { v4: None, v6: Some(address), published: None },
        }
    }
}

/// Disk and memory of one job, by its settings: checked before anything is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes written to the data directory at most.
    pub disk: u64,
    /// Bytes of memory held, page cache not included.
    pub memory: u64,
}

/// A kind of work. Implementations are stateless; the state is in what [`Workload::prepare`] returns.
pub trait Workload: Sync + Debug {
    /// `family/name`, for example `sqlite/commit`.
    fn name(&self) -> &'static str;
    /// One sentence, shown by `list` and in reports.
    fn about(&self) -> &'static str;
    /// Its own settings, beside [`load::Common`].
    fn settings(&self) -> &'static [Setting] {
        &[]
    }
    /// Refuses settings that exclude each other, before anything is started.
    ///
    /// # Errors
    /// [`SettingError::Conflict`], with what to set instead.
    fn check(&self, _settings: &Settings) -> Result<(), SettingError> {
        Ok(())
    }
    /// The settings that are given and the defaults of the others, those of [`load::Common`] among them, all checked.
    ///
    /// # Errors
    /// See [`Settings::resolve`] and [`Workload::check`].
    fn resolve(&self, given: &BTreeMap<String, String>) -> Result<Settings, SettingError> {
        let settings = Settings::resolve(&load::settings(self.settings()), given)?;
        self.check(&settings)?;
        load::check(&settings, self.in_flight(&settings))?;
        Ok(settings)
    }
    /// The part of the machine it leans on.
    fn resource(&self) -> Resource;
    /// Whether several operations may share one clock reading where the clock is too coarse or dear for one.
    fn batchable(&self) -> bool {
        false
    }
    /// Whether, with these settings, an operation promises that its data survives a loss of power.
    fn durable(&self, _settings: &Settings) -> bool {
        false
    }
    /// Whether, with these settings, reads or writes promise to go round the page cache.
    fn direct(&self, _settings: &Settings) -> bool {
        false
    }
    /// Whether the figure to look at is bytes per second rather than the latency of an operation.
    fn streams(&self) -> bool {
        false
    }
    /// Whether a schedule of its own, and not the environment, says how many operations are done a second.
    fn paced(&self) -> bool {
        false
    }
    /// Disk and memory of a job with these settings in an environment with `memory` bytes. An estimate on the safe side: a refusal before the start is kinder than a full
    /// disk in the middle. What is below 64 MiB needn't be said.
    fn needs(&self, _settings: &Settings, _memory: u64) -> Needs {
        Needs::default()
    }
    /// Operations that a job has in flight at a time with these settings.
    fn in_flight(&self, _settings: &Settings) -> u32 {
        1
    }
    /// About how many operations all of it has with these settings, where it has an end. Asked on the host alone, for an estimate of how
    /// long it takes.
    fn whole(&self, _settings: &Settings) -> Option<u64> {
        None
    }
    /// Files and folders of the host that are sent into every environment before it is prepared there. Asked on the host alone.
    fn brings(&self, _settings: &Settings) -> Vec<Brought> {
        Vec::new()
    }
    /// Makes files, connections and content of one job. Untimed.
    ///
    /// # Errors
    /// Where the environment can't do what the settings ask for; there is no silent fallback.
    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>>;
    /// The far end, for network workloads.
    fn peer(&self) -> Option<&'static dyn Peer> {
        None
    }
}

/// A job of a workload that is ready to run.
pub trait Prepared: Send {
    /// One timed pass. Restores the state that every burst starts from, calls [`Stopwatch::start`], and then does
    /// nothing but the work while [`Stopwatch::running`], with one [`Stopwatch::lap`] after each operation.
    ///
    /// # Errors
    /// When an operation fails; the burst is then a failure, not a shorter sample.
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()>;
    /// Counters of the last burst beside its operations, warm-up included, by name. Untimed.
    fn counters(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
    /// A digest of what the last burst drew: equal where the same operations were done, whatever each of them took. 0 where
    /// nothing is drawn and all operations are alike. Untimed.
    fn drawn(&self) -> u64 {
        0
    }
    /// How many operations of the last burst promised that their data survives a loss of power, of all its `operations`, warm-up
    /// included. Asked only where [`Workload::durable`] says that there are such. Untimed.
    fn durable_writes(&self, operations: u64) -> u64 {
        operations
    }
    /// Checks everything that the bursts should have left behind. Untimed.
    ///
    /// # Errors
    /// When content, counts or integrity are not what the seed says they must be.
    fn verify(&mut self) -> anyhow::Result<Check>;
    /// The outcome of preparing, for the record: PRAGMAs read back, sizes, whether pages stayed resident after direct I/O.
    /// Keys of note: `resident` (share of the file's pages in the page cache after direct I/O, 0..1). The agent adds
    /// `clock_ns`, what a clock reading cost right after the bursts, to the facts of a `Verify`.
    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// The far end of a network workload; runs outside every environment.
pub trait Peer: Sync {
    /// Serves one accepted connection until the other side closes it.
    ///
    /// # Errors
    /// When the connection breaks; the peer goes on with the next one.
    fn serve(&self, stream: TcpStream) -> anyhow::Result<()>;
}

/// The proof that the work was done: equal in every environment for one seed and one set of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Hex digest over the prepared state and a fixed number of operations, whatever the number of bursts.
    pub value: String,
    /// The things that were looked at, in words: `integrity_check ok, 5000 rows`.
    pub detail: String,
}
