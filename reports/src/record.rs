//! The rows of a run: what the harness writes as it measures, and all that reports are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use workloads::evidence::{Canary, ClockFit, Evidence};
use workloads::facts::{DataFacts, Network, Program, Sandbox};
use workloads::protocol::{Hello, Identity, Sample};
use workloads::{Check, Resource};

/// The kind of all workloads that were imported from fio's output.
pub const FIO: &str = "fio";

/// The kind of all workloads that were imported from sockperf's output.
pub const SOCKPERF: &str = "sockperf";

/// The kind of all workloads that were imported from iperf3's output.
pub const IPERF3: &str = "iperf3";

/// The kind of all workloads that were imported from files of HdrHistogram.
pub const HDR: &str = "hdr";

/// The kinds of workloads that other programs measured: nothing that we know of our own workloads holds for them.
const IMPORTED: [&str; 4] = [FIO, SOCKPERF, IPERF3, HDR];

/// The name of the second baseline: the A/A pair that shows what a machine can resolve.
pub const CONTROL: &str = "control";

/// In why a run stopped: it was to go on until it is sure enough, and is not.
pub const NOT_SURE: &str = "it is not sure to";

/// The fact of the host that a run was gone on with after it had ended: when, and after how many blocks.
pub const RESUMED: &str = "resumed";

/// Facts of a host that a run may get more of while it goes on.
pub const GROWING: [&str; 3] = [RESUMED, OTHER_RUN, UNSEEN_RUN];

/// The fact of the host that another run was measuring there meanwhile, in words.
pub const OTHER_RUN: &str = "other run";

/// The fact of the host that nobody could say whether another run was measuring there, and why.
pub const UNSEEN_RUN: &str = "other run unknown";

/// The fact of the host that settings of its kernel were changed for the time of the run: which, and what they were.
pub const TUNED: &str = "tuned";

/// The fact of the host that this machine was calibrated before: when, and what it sees.
pub const CALIBRATED: &str = "calibrated";

/// One suite on one host at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Short and unique, sorts by time: `toxmnjf2`.
    pub id: String,
    /// UTC, RFC 3339, to the second.
    pub started: String,
    /// Name of a built-in suite or the path that was given.
    pub suite: String,
    /// The suite in full, as TOML, after `--env`, `--workload` and the rest were applied.
    pub suite_toml: String,
    /// All random order and all content follow from it.
    pub seed: u64,
    /// Blocks planned.
    pub blocks: u32,
    /// Rounds planned per block and workload.
    pub rounds: u32,
    /// Name of the environment the others are divided by.
    pub baseline: String,
    /// The command to reproduce, seed included.
    pub command: String,
    /// SHA-256 of the binary that measured, hex.
    pub binary_sha256: String,
    /// `tarebench`'s version.
    pub version: String,
    /// From `--label`.
    pub labels: BTreeMap<String, String>,
    /// Facts of the host by name, in the order to show them: kernel, cpu, memory, disk, file system, clock source, hypervisor, ...
    pub host: Vec<(String, String)>,
    /// Whether the host is itself a guest, with the evidence.
    pub nested: Option<String>,
    /// The workloads of the run, in order.
    pub workloads: Vec<WorkloadPlan>,
    /// The environments of the run, in order; the baseline first, the control second.
    pub environments: Vec<EnvironmentPlan>,
    /// How it is pinned, in words: `work on CPU 0; harness and peer on CPU 1`.
    pub pinning: String,
}

impl Run {
    /// Whether another program measured all of it: then nobody of ours watched the host.
    pub fn is_imported(&self) -> bool {
        !self.workloads.is_empty() && self.workloads.iter().all(WorkloadPlan::is_imported)
    }
}

/// A workload as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadPlan {
    /// Name in the suite: that of the registry, or an alias.
    pub name: String,
    /// Name in the registry; empty in runs that were stored before it was asked for, see [`WorkloadPlan::kind`].
    #[serde(default)]
    pub kind: String,
    /// One sentence.
    pub about: String,
    /// Complete, canonical.
    pub settings: BTreeMap<String, String>,
    /// The resource that it leans on.
    pub resource: Resource,
    /// An operation promises durability.
    pub durable: bool,
    /// Reads or writes promise to go round the page cache.
    pub direct: bool,
    /// Bytes per second are the figure to look at.
    pub streams: bool,
    /// The workload has a schedule of its own, so that how much is done says nothing of the environment.
    #[serde(default)]
    pub paced: bool,
}

impl WorkloadPlan {
    /// The name in the registry; of a run that doesn't have it, the name in the suite.
    pub fn kind(&self) -> &str {
        if self.kind.is_empty() { &self.name } else { &self.kind }
    }

    /// Whether another program measured it.
    pub fn is_imported(&self) -> bool {
        IMPORTED.contains(&self.kind.as_str())
    }

    /// Operations that are to arrive per second, over all jobs; `None` in closed loop.
    pub fn rate(&self) -> Option<u64> {
        // fio's option `rate` is a number of bytes, and its latencies are service times.
        let set = self.settings.get("rate").filter(|_| !self.is_imported())?;
        set.parse().ok().filter(|rate| *rate > 0)
    }

    /// Whether a schedule, the harness's or the workload's own, and not the environment says how much is done.
    pub fn scheduled(&self) -> bool {
        self.paced || self.open_loop()
    }

    /// Whether operations arrive by a schedule, and latencies are therefore response times.
    pub fn open_loop(&self) -> bool {
        self.rate().is_some()
    }
}

/// An environment as planned and as found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentPlan {
    /// Name in the suite.
    pub name: String,
    /// Name of the runner; to be shown, not to be asked for.
    pub runner: String,
    /// Complete, canonical.
    pub settings: BTreeMap<String, String>,
    /// The runner's own version: `runc 1.1.5`; `None` where it is not available.
    pub version: Option<String>,
    /// Why it was skipped, in the engine's own words, and how to get it; `None` where it runs.
    pub skipped: Option<String>,
    /// How it reaches the peer.
    pub network: Network,
    /// Where its data lies, as flags judge it; unknown in runs that were stored before it was asked for.
    #[serde(default)]
    pub data: DataFacts,
    /// Whether the CPU is emulated in software (TCG, UML).
    pub emulated: Option<String>,
    /// What it does by programs of its own, as its runner says; nothing in runs of before.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Why the suite's CPUs and memory are not enforced; `None` where they are.
    pub unequal: Option<String>,
    /// The quota on its CPU time that was asked for, in words; `None` where it has none.
    #[serde(default)]
    pub quota: Option<String>,
    /// The same for people: `bind mount of ext4 on vda`, `raw image on ext4 on vda, virtio-blk, cache=none`.
    pub data_path: String,
    /// Programs of the host that it ran on, the engine's own first; empty where there are none, and in runs that were stored
    /// before it was asked for.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// Who works beside it while it is measured; `None` too in runs of before.
    #[serde(default)]
    pub neighbour: Option<Neighbour>,
}

/// A tenant in a box of its own beside an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The environment that its box is like.
    pub like: String,
    /// Name of its workload.
    pub workload: String,
    /// Complete settings of the workload.
    pub settings: BTreeMap<String, String>,
    /// The environment that is the same without it.
    pub without: String,
}

impl EnvironmentPlan {
    /// Whether another environment of the same run is this one again: the same programs, byte for byte, wherever they lie, under
    /// the same settings, and none of them a script. Whatever differs between two such environments is error.
    pub fn same_code(&self, other: &Self) -> bool {
        self.same_files(other) && self.unseen().is_none()
    }

    /// The first program that may start anything, whatever its hash is: a script, or one that nobody looked at.
    pub fn unseen(&self) -> Option<&Program> {
        self.programs.iter().find(|program| program.script != Some(false))
    }

    /// The same of the files alone: what a script starts isn't in it.
    pub fn same_files(&self, other: &Self) -> bool {
        let hashes = |plan: &Self| plan.programs.iter().map(|p| p.sha256.clone()).collect::<Option<Vec<_>>>();
        self.runner == other.runner
            && self.settings_beside_programs() == other.settings_beside_programs()
            && hashes(self).is_some_and(|own| hashes(other) == Some(own))
    }

    /// The settings but for those that say where a program lies: what ran there its hash says.
    fn settings_beside_programs(&self) -> BTreeMap<&str, &str> {
        let says_where = |value: &str| value.is_empty() || self.programs.iter().any(|p| p.path == value);
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        settings.filter(|(_, value)| !says_where(value)).collect()
    }
}

/// One start of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The block it belongs to, from 0.
    pub block: u32,
    /// Name of the environment.
    pub environment: String,
    /// From the first that is made for it (a bundle, a disk image, a container) to the agent's first frame, nanoseconds; or why it didn't start.
    pub outcome: Result<u64, Failure>,
    /// Memory held when idle after the start, bytes: of the environment's cgroup, else the resident size of its processes.
    pub memory_bytes: Option<u64>,
    /// The agent's first frame.
    pub hello: Option<Hello>,
    /// The agent's look at the environment and at itself.
    pub identity: Option<Identity>,
    /// Filled in when the block ends.
    pub clock: Option<ClockFit>,
    /// From the order to go until nothing of it was left, nanoseconds; filled in when the block ends, unless it ended in another way.
    pub stop_ns: Option<u64>,
}

/// One burst, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 0.
    pub block: u32,
    /// From 0, within the block and workload; a replaced round has a new number.
    pub round: u32,
    /// Position within the round, from 0: the random order.
    pub position: u32,
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// A failure is a row, never a zero.
    pub outcome: Result<Sample, Failure>,
    /// The host's own small operations around the burst.
    pub canary: Canary,
    /// The host's counters over the burst.
    pub evidence: Evidence,
}

/// Something that did not work, in a row of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In which step.
    pub step: Step,
    /// The chain of causes and the last words of the engine, on one or several lines.
    pub message: String,
}

/// The steps that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Launching, or waiting for the first frame.
    Start,
    /// Making the workload ready.
    Prepare,
    /// The timed pass.
    Burst,
    /// The check afterwards, a check value that differs from the baseline's included.
    Verify,
}

impl Step {
    /// In the order in which they are taken.
    pub const ALL: [Step; 4] = [Step::Start, Step::Prepare, Step::Burst, Step::Verify];

    /// `start`, `prepare`, `burst`, `verify`.
    pub fn name(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::Prepare => "prepare",
            Step::Burst => "burst",
            Step::Verify => "verify",
        }
    }
}

/// A round that does not count, for any environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// The block.
    pub block: u32,
    /// The round.
    pub round: u32,
    /// The workload.
    pub workload: String,
    /// With the numbers.
    pub reason: String,
}

/// The check of one workload in one environment and block, after its bursts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The block.
    pub block: u32,
    /// The workload.
    pub workload: String,
    /// The environment.
    pub environment: String,
    /// The check, or what failed: a failure of any step but `Burst` invalidates the block's cell.
    pub outcome: Result<Check, Failure>,
    /// Facts of the prepared workload: PRAGMAs read back, residency, ...
    pub facts: BTreeMap<String, String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Not yet, or the harness was killed.
    Unfinished,
    /// As planned.
    Complete,
    /// By Ctrl-C, SIGTERM or the budget; what was finished counts.
    Interrupted,
}

impl Ending {
    /// All of them.
    pub const ALL: [Ending; 3] = [Ending::Unfinished, Ending::Complete, Ending::Interrupted];

    /// `unfinished`, `complete`, `interrupted`.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Unfinished => "unfinished",
            Ending::Complete => "complete",
            Ending::Interrupted => "interrupted",
        }
    }
}

/// A run with all its rows, as loaded from the store, each list in the order of writing.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The run.
    pub run: Run,
    /// How it ended.
    pub ending: Ending,
    /// Wall time, seconds; `None` while unfinished.
    pub seconds: Option<f64>,
    /// Why it ended where that wasn't by plan, in words: that it was sure enough, or that its budget was spent.
    pub stopped: Option<String>,
    /// Starts.
    pub starts: Vec<Start>,
    /// Bursts.
    pub records: Vec<Record>,
    /// Void rounds.
    pub voids: Vec<Void>,
    /// Checks.
    pub checks: Vec<Checked>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(binary: &str, sha256: Option<&str>, more: (&str, &str)) -> EnvironmentPlan {
        let mut plan = crate::example::stored().run.environments.remove(2);
        plan.settings = [("binary", binary), more].map(|(name, value)| (name.into(), value.into())).into();
        let path = if binary.is_empty() { "/usr/sbin/runc" } else { binary };
        let sha256 = sha256.map(String::from);
        plan.programs = vec![Program { path: path.into(), version: None, sha256, script: Some(false) }];
        plan
    }

    #[test]
    fn the_same_bytes_at_two_places_are_the_same_code() {
        let plain = ("data", "bind");
        let head = on("/x/runc", Some("aa"), plain);
        assert!(head.same_code(&on("/y/runc", Some("aa"), plain)));
        assert!(head.same_code(&on("", Some("aa"), plain)), "the one in PATH may be the same");
        assert!(!head.same_code(&on("/x/runc", Some("bb"), plain)), "the same place with other bytes");
        assert!(!head.same_code(&on("/y/runc", Some("aa"), ("data", "tmpfs"))), "another setting");
        let unread = || on("/x/runc", None, plain);
        assert!(!unread().same_code(&unread()), "nobody knows what could not be read");
        let scripts = |script: Option<bool>| {
            let mut both = [on("/x/runc", Some("aa"), plain), on("/y/runc", Some("aa"), plain)];
            both.iter_mut().for_each(|plan| plan.programs[0].script = script);
            (both[0].same_files(&both[1]), both[0].same_code(&both[1]))
        };
        assert_eq!(scripts(Some(true)), (true, false), "nobody knows what a script starts");
        assert_eq!(scripts(None), (true, false), "a store of before doesn't say");
        let other = EnvironmentPlan { runner: "crun".into(), ..on("/y/runc", Some("aa"), plain) };
        assert!(!head.same_code(&other));
    }
}
