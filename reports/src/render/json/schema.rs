//! The fields of `tarebench.report/1`. What is said of them here is what `docs/report.schema.json` says, which a test makes of
//! these types.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::record;

/// A run, understood: net, gross and tare of every workload in every environment, with the uncertainty and the doubts.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Report<'a> {
    /// A field keeps its name, meaning and unit for as long as this number stays; new fields may come.
    #[cfg_attr(test, schemars(extend("enum" = [super::SCHEMA])))]
    pub(super) schema: &'static str,
    /// The run as it was planned and started.
    pub(super) run: Run<'a>,
    /// The constants of the comparison.
    pub(super) method: Method,
    /// All of the suite in its order, skipped ones included.
    pub(super) environments: Vec<Environment<'a>>,
    /// The workloads of the run, in order.
    pub(super) workloads: Vec<Workload<'a>>,
    /// A line per workload, environment and metric; without the baseline and the control.
    pub(super) cells: Vec<Cell<'a>>,
    /// The cells of the second baseline: a ratio that differs from 1 here is noise.
    pub(super) control: Vec<Cell<'a>>,
    /// The smallest differences that this run could see, per workload and metric.
    pub(super) resolution: Vec<Resolution<'a>>,
    /// All operations of a workload in an environment, the baseline's too.
    pub(super) distributions: Vec<Distribution<'a>>,
    /// The baseline and the environments compared with it in the published insertion test; empty without it.
    pub(super) insertions: Vec<Insertions<'a>>,
    /// An environment taken apart, by `explain`; null where the run doesn't do that.
    pub(super) explanation: Option<Explanation<'a>>,
    /// Rounds that were dropped for all environments.
    pub(super) voids: Vec<Void<'a>>,
    /// Everything that did not work, in the order of writing.
    pub(super) failures: Vec<Failure<'a>>,
    /// Why nothing that the baseline made durable outlives a loss of power; null where nothing says so.
    pub(super) not_durable: Option<&'a str>,
    /// Why nothing in this run should be believed; empty for a sound run.
    pub(super) invalid: &'a [String],
    /// Remarks on the run as a whole.
    pub(super) remarks: &'a [String],
}

/// Which setting of an environment costs what.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Explanation<'a> {
    /// Name of the environment.
    pub(super) environment: &'a str,
    /// Settings and values that the run left out, and why, one line each.
    pub(super) left_out: &'a [String],
    /// The way from the baseline to the environment, for each workload.
    pub(super) ladders: Vec<Ladder<'a>>,
}

/// The way from the baseline to the environment in a workload. All times are nanoseconds of an operation.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Ladder<'a> {
    /// Name of the workload.
    pub(super) workload: &'a str,
    /// The same in words.
    pub(super) sentence: String,
    /// Blocks that all rungs have in common.
    pub(super) blocks: u32,
    /// The least that can be told from noise here, by what two copies of the baseline may differ by; null where nobody knows.
    pub(super) noise_floor_ns: Option<f64>,
    /// What the environment costs over the baseline; null where one of them has no figure.
    pub(super) whole: Option<Part>,
    /// The steps added up. In each block they are the whole; each of them is a median of its own.
    pub(super) sum: f64,
    /// Of the sum, what lies in steps of which an end is suspect or invalid.
    pub(super) doubted: f64,
    /// From the baseline to the environment.
    pub(super) rungs: Vec<Rung<'a>>,
    /// The environment with one setting changed, each.
    pub(super) alternatives: Vec<Alternative<'a>>,
    /// What the settings cost together beyond what changing each of them alone gives back; null where that isn't known.
    pub(super) interaction: Option<Part>,
}

/// An environment of a ladder.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Rung<'a> {
    /// Its name.
    pub(super) environment: &'a str,
    /// What it has that the rung before it hasn't.
    pub(super) change: &'a str,
    /// The baseline's net, the steps so far added; null where the rung was left out, and the next step holds its change too.
    pub(super) cost: Option<f64>,
    /// The difference to the rung before it; null for the first.
    pub(super) step: Option<Part>,
    /// Of the whole; null where that can't be told from noise.
    pub(super) share: Option<f64>,
    /// The worse one of both ends of the step.
    #[cfg_attr(test, schemars(extend("enum" = names::verdicts())))]
    pub(super) verdict: &'static str,
    /// Names of the flags behind it.
    pub(super) doubts: &'a [&'static str],
    /// Why it was left out, or null.
    pub(super) because: Option<&'a str>,
}

/// The environment with one setting changed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Alternative<'a> {
    /// Its name.
    pub(super) environment: &'a str,
    /// The setting with the value that it has here.
    pub(super) change: &'a str,
    /// The time that this alone gives back; below 0 it costs more. Null where there is none.
    pub(super) gain: Option<Part>,
    /// Of the whole; null where that can't be told from noise, or the verdict is `invalid`.
    pub(super) share: Option<f64>,
    /// The worse one of the two.
    #[cfg_attr(test, schemars(extend("enum" = names::verdicts())))]
    pub(super) verdict: &'static str,
    /// Names of the flags behind it.
    pub(super) doubts: &'a [&'static str],
    /// Why it was left out, or null.
    pub(super) because: Option<&'a str>,
}

/// A difference with its interval.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Part {
    /// The best single figure.
    pub(super) value: f64,
    /// Lower end of the interval; null where there are too few blocks.
    pub(super) low: Option<f64>,
    /// Upper end.
    pub(super) high: Option<f64>,
    /// Whether it can be told from noise: 0 lies outside of the interval, and it is no smaller than the noise floor.
    pub(super) told: bool,
}

/// One suite on one host at one time.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Run<'a> {
    /// Short and unique; sorts by time.
    pub(super) id: &'a str,
    /// UTC, RFC 3339.
    pub(super) started: &'a str,
    /// Name of a built-in suite, or the path that was given.
    pub(super) suite: &'a str,
    /// All random order and all content follow from it.
    pub(super) seed: u64,
    /// Blocks with at least one burst.
    pub(super) blocks: u32,
    /// Blocks of the plan.
    pub(super) blocks_planned: u32,
    /// Rounds planned per block and workload.
    pub(super) rounds: u32,
    /// Rounds that began, void ones included.
    pub(super) rounds_begun: u64,
    /// Name of the environment that the others are divided by.
    pub(super) baseline: &'a str,
    /// The command to reproduce, seed included.
    pub(super) command: &'a str,
    /// SHA-256 of the binary that measured, in hex.
    pub(super) binary_sha256: &'a str,
    /// tarebench's version.
    pub(super) version: &'a str,
    /// How it ended.
    #[cfg_attr(test, schemars(with = "String", extend("enum" = names::endings())))]
    pub(super) ending: record::Ending,
    /// Wall time, seconds; null while unfinished.
    pub(super) seconds: Option<f64>,
    /// From `--label`.
    pub(super) labels: &'a BTreeMap<String, String>,
    /// How it is pinned, in words.
    pub(super) pinning: &'a str,
    /// Why the host is itself a guest, or null.
    pub(super) nested: Option<&'a str>,
    /// Facts of the host by name.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(super) host: Pairs<'a>,
    /// The suite in full, as TOML.
    pub(super) suite_toml: &'a str,
}

/// Facts in the order to show them. A name that comes twice keeps its last value.
pub(super) struct Pairs<'a>(pub(super) &'a [(String, String)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let last = |i: usize, name: &str| !self.0[i + 1..].iter().any(|(other, _)| other == name);
        let once = self.0.iter().enumerate().filter(|(i, (name, _))| last(*i, name));
        s.collect_map(once.map(|(_, (name, value))| (name, value)))
    }
}

/// The constants of a comparison.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Method {
    /// Of all intervals, 0 to 1.
    pub(super) confidence: f64,
    /// The relative change that is worth deciding about: 0.05 is 5 %.
    pub(super) margin: f64,
    /// The largest share of void rounds that a run survives.
    pub(super) void_limit: f64,
    /// Operations that a percentile needs beyond it in every block.
    pub(super) operations_beyond_a_percentile: u64,
    /// An operation is a stall when it takes more than this many times the median.
    pub(super) stall_factor: f64,
}

/// An environment as planned and as found.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Environment<'a> {
    /// Name in the suite.
    pub(super) name: &'a str,
    /// Name of the runner.
    pub(super) runner: &'a str,
    /// In the runner's own words; null where it isn't available.
    pub(super) version: Option<&'a str>,
    /// Complete, canonical.
    pub(super) settings: &'a BTreeMap<String, String>,
    /// The part that it plays in the run.
    #[cfg_attr(test, schemars(extend("enum" = names::roles())))]
    pub(super) role: &'static str,
    /// From the first that is made for a start to the agent's first word, milliseconds: median.
    pub(super) start_ms: Option<f64>,
    /// Lower end of its interval.
    pub(super) start_ms_low: Option<f64>,
    /// Upper end of its interval.
    pub(super) start_ms_high: Option<f64>,
    /// Every start that succeeded, milliseconds.
    pub(super) starts_ms: &'a [f64],
    /// From the order to go until nothing of it was left, milliseconds: median; null in runs of before.
    pub(super) stop_ms: Option<f64>,
    /// Lower end of its interval.
    pub(super) stop_ms_low: Option<f64>,
    /// Upper end of its interval.
    pub(super) stop_ms_high: Option<f64>,
    /// Every one that was so ended, milliseconds.
    pub(super) stops_ms: &'a [f64],
    /// Held when idle after the start, bytes, median.
    pub(super) memory_bytes: Option<u64>,
    /// Cost of one clock reading inside, nanoseconds.
    pub(super) clock_ns: Option<f64>,
    /// How it reaches the peer.
    #[cfg_attr(test, schemars(with = "String", extend("enum" = names::networks())))]
    pub(super) network: workloads::facts::Network,
    /// Where its data lies, in words.
    pub(super) data_path: &'a str,
    /// Programs of the host that it ran on, the engine's own first.
    #[cfg_attr(test, schemars(with = "Vec<names::Program>"))]
    pub(super) programs: &'a [workloads::facts::Program],
    /// Whether it ran.
    #[cfg_attr(test, schemars(extend("enum" = names::outcomes())))]
    pub(super) outcome: &'static str,
    /// Why the outcome is not `measured`.
    pub(super) because: Option<&'a str>,
    /// Its cost in words; empty for baseline and control.
    pub(super) sentence: String,
    /// Facts found inside, by name.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, String>"))]
    pub(super) facts: Pairs<'a>,
    /// Flags of all its cells.
    pub(super) flags: Vec<Flag<'a>>,
    /// Why it may cost what it costs.
    pub(super) hints: Vec<Hint<'a>>,
    /// Who worked beside it while it was measured; null where nobody did.
    pub(super) neighbour: Option<Neighbour<'a>>,
}

/// A tenant in a box of its own beside an environment.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Neighbour<'a> {
    /// The environment that its box is like.
    pub(super) like: &'a str,
    /// Its workload.
    pub(super) workload: &'a str,
    /// Settings of its workload, complete.
    pub(super) settings: &'a BTreeMap<String, String>,
    /// The environment that is the same without it.
    pub(super) without: &'a str,
    /// What it costs, workload by workload.
    pub(super) beside: Vec<BesideNeighbour<'a>>,
}

/// A workload beside a neighbour.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BesideNeighbour<'a> {
    /// The workload.
    pub(super) workload: &'a str,
    /// Time of an operation with the neighbour over that without; null where one of the two has no figure.
    pub(super) overhead: Option<f64>,
    /// Lower end of its interval.
    pub(super) low: Option<f64>,
    /// Upper end of its interval.
    pub(super) high: Option<f64>,
    /// The claim that the run may make of it, beside those of all neighbours.
    #[cfg_attr(test, schemars(extend("enum" = names::claims())))]
    pub(super) claim: &'static str,
    /// Operations that the neighbour did a second.
    pub(super) rate: f64,
    /// CPUs that its box used; null where that couldn't be read.
    pub(super) cpus: Option<f64>,
}

/// A reason that follows from evidence. Verdicts are made of flags alone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Hint<'a> {
    /// Stable.
    pub(super) name: &'a str,
    /// The reason, in a few words.
    pub(super) what: &'a str,
    /// The workloads of the run in which its evidence stands.
    pub(super) workloads: &'a [String],
    /// Whether bursts of those workloads show it; else it is in their surroundings, where it can be felt.
    pub(super) felt: bool,
    /// The observation, with numbers.
    pub(super) evidence: &'a str,
    /// What would change it, with the settings as they are and, where one is known, with values to try.
    pub(super) change: &'a str,
}

/// A workload as planned.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Workload<'a> {
    /// Name in the suite.
    pub(super) name: &'a str,
    /// Name in the registry.
    pub(super) kind: &'a str,
    /// One sentence.
    pub(super) about: &'a str,
    /// Complete, canonical.
    pub(super) settings: &'a BTreeMap<String, String>,
    /// An operation promises durability.
    pub(super) durable: bool,
    /// Reads or writes promise to go round the page cache.
    pub(super) direct: bool,
    /// The metric to look at first.
    #[cfg_attr(test, schemars(extend("enum" = names::metrics())))]
    pub(super) primary: &'static str,
    /// The kind of all latencies: `response` in open loop, `service` in closed loop.
    #[cfg_attr(test, schemars(extend("enum" = names::latencies())))]
    pub(super) latency: &'static str,
    /// Operations asked for per second; null in closed loop.
    pub(super) rate: Option<u64>,
}

/// One metric of one workload in one environment, against the baseline.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Cell<'a> {
    /// Name of the workload.
    pub(super) workload: &'a str,
    /// Name of the environment.
    pub(super) environment: &'a str,
    /// The metric.
    #[cfg_attr(test, schemars(extend("enum" = names::metrics())))]
    pub(super) metric: &'static str,
    /// Of net, gross and tare.
    #[cfg_attr(test, schemars(extend("enum" = names::units())))]
    pub(super) unit: &'static str,
    /// The baseline's value.
    pub(super) net: Option<f64>,
    /// The environment's value.
    pub(super) gross: Option<f64>,
    /// What lies between: above 0 is worse, so of a throughput net less gross, else gross less net.
    pub(super) tare: Option<f64>,
    /// How many times worse than the baseline; above 1 is worse, for throughput too. Hodges-Lehmann over blocks.
    pub(super) overhead: Option<f64>,
    /// Lower end of its exact interval; null where there are too few blocks.
    pub(super) low: Option<f64>,
    /// Upper end.
    pub(super) high: Option<f64>,
    /// Of the interval, 0 to 1.
    pub(super) confidence: Option<f64>,
    /// Additional time of an operation.
    pub(super) difference: Option<f64>,
    /// Nanoseconds, whatever the unit of the cell.
    #[cfg_attr(test, schemars(extend("enum" = ["ns"])))]
    pub(super) difference_unit: &'static str,
    /// Lower end of its interval.
    pub(super) difference_low: Option<f64>,
    /// Upper end.
    pub(super) difference_high: Option<f64>,
    /// The geometric mean of the ratios, for comparison.
    pub(super) geometric_mean: Option<f64>,
    /// Lower end of its Student's t interval.
    pub(super) geometric_low: Option<f64>,
    /// Upper end.
    pub(super) geometric_high: Option<f64>,
    /// Ratio of the means of block values, for comparison.
    pub(super) ratio_of_means: Option<f64>,
    /// The ratios that the estimate is made of.
    pub(super) ratios: Vec<BlockRatio>,
    /// Blocks that the cell rests on.
    pub(super) blocks: u32,
    /// The environment's operations in those blocks.
    pub(super) operations: u64,
    /// The claim that the run may make of the cell beside all else that it compares.
    #[cfg_attr(test, schemars(extend("enum" = names::claims())))]
    pub(super) claim: &'static str,
    /// Whether to believe it.
    #[cfg_attr(test, schemars(extend("enum" = names::verdicts())))]
    pub(super) verdict: &'static str,
    /// Whether it may be ranked: an invalid cell never is.
    pub(super) ranked: bool,
    /// Why there are no numbers; null where there are.
    pub(super) withheld: Option<Withheld<'a>>,
    /// The doubts, gravest first.
    pub(super) flags: Vec<Flag<'a>>,
}

/// The ratio within a block; above 1 is worse.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct BlockRatio {
    /// The block, from 0.
    pub(super) block: u32,
    /// Its ratio.
    pub(super) ratio: f64,
}

/// Why a cell has no numbers.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Withheld<'a> {
    /// The reason.
    #[cfg_attr(test, schemars(extend("enum" = names::reasons())))]
    pub(super) reason: &'static str,
    /// In words.
    pub(super) message: String,
    /// Operations of the smallest block.
    pub(super) have: Option<u64>,
    /// How many more each block needs.
    pub(super) more: Option<u64>,
    /// The message of the failure.
    pub(super) failure: Option<&'a str>,
}

/// A reason to trust a cell less.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Flag<'a> {
    /// Stable, as `fsync-not-durable`.
    pub(super) name: &'static str,
    /// How much it weighs.
    #[cfg_attr(test, schemars(extend("enum" = names::severities())))]
    pub(super) severity: &'static str,
    /// The observation, with numbers, in one line.
    pub(super) evidence: &'a str,
}

/// Resolution in one metric of one workload, by the control.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Resolution<'a> {
    /// Name of the workload.
    pub(super) workload: &'a str,
    /// The metric.
    #[cfg_attr(test, schemars(extend("enum" = names::metrics())))]
    pub(super) metric: &'static str,
    /// The control's overhead, which should be 1.
    pub(super) control: Option<f64>,
    /// Lower end of its interval.
    pub(super) low: Option<f64>,
    /// Upper end.
    pub(super) high: Option<f64>,
    /// Half the width of the interval, relative: 0.02 is 2 %.
    pub(super) noise_floor: Option<f64>,
    /// The smallest relative change that would be seen four times in five.
    pub(super) smallest_visible: Option<f64>,
    /// Whether the two baselines agree.
    #[cfg_attr(test, schemars(extend("enum" = names::states())))]
    pub(super) state: &'static str,
    /// Why the state is not `sound`.
    pub(super) because: Option<&'a str>,
}

/// All latencies of one workload in one environment.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Distribution<'a> {
    /// Name of the workload.
    pub(super) workload: &'a str,
    /// Name of the environment.
    pub(super) environment: &'a str,
    /// The kind of latency that `overhead` and `stalls_per_million` are of.
    #[cfg_attr(test, schemars(extend("enum" = names::latencies())))]
    pub(super) latency: &'static str,
    /// Service times, in closed loop too.
    pub(super) service: Service,
    /// How late the generator was; null in closed loop.
    pub(super) lateness: Option<Lateness>,
    /// Null in closed loop.
    pub(super) operations_asked_per_second: Option<f64>,
    /// By name, in all rounds that count, warm-ups included.
    pub(super) counters: &'a BTreeMap<String, u64>,
    /// Operations of the warm-ups, which only `counters` and `seen` count.
    pub(super) warmup_operations: u64,
    /// Operations in all.
    pub(super) operations: u64,
    /// Bytes in all.
    pub(super) bytes: u64,
    /// Over the measured time; null where another program doesn't say how long it took.
    pub(super) operations_per_second: Option<f64>,
    /// Over the measured time, likewise.
    pub(super) bytes_per_second: Option<f64>,
    /// Operations per clock reading.
    pub(super) batch: u32,
    /// Blocks that contribute.
    pub(super) blocks: u32,
    /// Operations of more than `stall_factor` times the median, per million.
    pub(super) stalls_per_million: Option<f64>,
    /// The largest percentile that the operations carry, 0 to 1.
    pub(super) carried_quantile: f64,
    /// The overhead along the percentiles; empty for the baseline.
    pub(super) overhead: Vec<OverheadAt>,
    /// The host's counters beside the operations.
    pub(super) seen: Seen,
    /// The doubts of this workload in this environment, whatever the metric.
    pub(super) flags: Vec<Flag<'a>>,
}

/// What the host counted by operation, operations of warm-ups included; null where a counter couldn't be read.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Seen {
    /// CPU time of everything in the environment, nanoseconds.
    pub(super) cpu_ns: Option<f64>,
    /// How many times that of the baseline it is, from the ratios within blocks; null for the baseline.
    pub(super) cpu_ratio: Option<f64>,
    /// Lower end of its interval.
    pub(super) cpu_ratio_low: Option<f64>,
    /// Upper end.
    pub(super) cpu_ratio_high: Option<f64>,
    /// Share of the CPU time of all bursts that was spent outside the kernel, 0..1; null below 1 s of it, since the kernel counts by ticks.
    pub(super) cpu_user_share: Option<f64>,
    /// The share in the kernel.
    pub(super) cpu_system_share: Option<f64>,
    /// The share of guests that ran on the CPU itself; where null, they are in `cpu_user_share`.
    pub(super) cpu_guest_share: Option<f64>,
    /// The CPU time that those are shares of, nanoseconds.
    pub(super) cpu_split_ns: Option<u64>,
    /// Reads of the device under the data.
    pub(super) device_reads: Option<f64>,
    /// Bytes read from it.
    pub(super) device_bytes_read: Option<f64>,
    /// Writes to it.
    pub(super) device_writes: Option<f64>,
    /// Bytes written to it.
    pub(super) device_bytes_written: Option<f64>,
    /// Its flushes.
    pub(super) device_flushes: Option<f64>,
    /// How often its threads were given a CPU; null where one went meanwhile.
    pub(super) context_switches: Option<f64>,
    /// Packets on its own link, both ways; null where it has none that the host can watch.
    pub(super) packets: Option<f64>,
    /// After a burst, not by operation: pages of files in the host's page cache, bytes, the mean.
    pub(super) cache_bytes: Option<f64>,
    /// After a burst, not by operation: memory held by its processes, bytes, the mean.
    pub(super) memory_bytes: Option<f64>,
    /// Not by operation: how long the host's counters were read before and after bursts, as a share of the time between.
    pub(super) looks: Option<f64>,
}

/// Service times, nanoseconds; null where the operations don't carry a percentile.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Service {
    /// Median.
    pub(super) p50: Option<f64>,
    /// 90th percentile.
    pub(super) p90: Option<f64>,
    /// 99th percentile.
    pub(super) p99: Option<f64>,
    /// Largest.
    pub(super) max: Option<u64>,
}

/// Lateness of the generator, nanoseconds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Lateness {
    /// Median.
    pub(super) p50: f64,
    /// 99th percentile.
    pub(super) p99: f64,
    /// Largest.
    pub(super) max: u64,
}

/// A place in the published insertion test.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Insertions<'a> {
    /// Name of the workload.
    pub(super) workload: &'a str,
    /// Name of the environment.
    pub(super) environment: &'a str,
    /// Time for 7,500 inserts, seconds.
    pub(super) seconds: f64,
    /// Lower end of its interval.
    pub(super) low: Option<f64>,
    /// Upper end.
    pub(super) high: Option<f64>,
    /// Inserts that were done.
    pub(super) operations_done: u64,
    /// Whether bursts did fewer or more inserts than the test.
    pub(super) scaled: bool,
    /// Among the published population.
    #[cfg_attr(test, schemars(extend("enum" = names::standings())))]
    pub(super) standing: &'static str,
    /// The flags that leave it nowhere.
    pub(super) disqualified: &'a [&'static str],
}

/// A point of the overhead along the percentiles.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct OverheadAt {
    /// 0 to 1.
    pub(super) quantile: f64,
    /// Above 1 is worse.
    pub(super) overhead: f64,
    /// Lower end of its interval.
    pub(super) low: Option<f64>,
    /// Upper end.
    pub(super) high: Option<f64>,
}

/// A round that does not count, for any environment.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Void<'a> {
    /// The workload.
    pub(super) workload: &'a str,
    /// The block.
    pub(super) block: u32,
    /// The round.
    pub(super) round: u32,
    /// With the numbers.
    pub(super) reason: &'a str,
}

/// Something that did not work.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Failure<'a> {
    /// Name of the environment.
    pub(super) environment: &'a str,
    /// Name of the workload; null for a start.
    pub(super) workload: Option<&'a str>,
    /// The block.
    pub(super) block: u32,
    /// The round; null outside bursts.
    pub(super) round: Option<u32>,
    /// In which step.
    #[cfg_attr(test, schemars(extend("enum" = names::steps())))]
    pub(super) step: &'static str,
    /// The chain of causes.
    pub(super) message: &'a str,
}

/// The names that a field may have.
#[cfg(test)]
mod names {
    use crate::comparison::{Claim, Latency, Metric, Role, Severity, Standing, Unit, Verdict};
    use crate::record::{Ending, Step};

    /// A program of the host, as the record has it.
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "the shape of a type that is serialized as it is stored")]
    pub(super) struct Program {
        /// Where it lies on the host.
        path: String,
        /// By its own word; null where it wasn't asked.
        version: Option<String>,
        /// SHA-256 of the file, in hex; null where it can't be read.
        sha256: Option<String>,
        /// Whether it is a script, of which the hash says nothing of what it starts; null where nobody looked.
        script: Option<bool>,
    }

    type Names = Vec<&'static str>;

    pub(super) fn metrics() -> Names {
        Metric::ALL.map(Metric::name).to_vec()
    }

    pub(super) fn units() -> Names {
        [Unit::Nanoseconds, Unit::OperationsPerSecond, Unit::BytesPerSecond].map(Unit::name).to_vec()
    }

    pub(super) fn claims() -> Names {
        [Claim::Worse, Claim::Better, Claim::None].map(Claim::name).to_vec()
    }

    pub(super) fn verdicts() -> Names {
        [Verdict::Trusted, Verdict::Suspect, Verdict::Invalid].map(Verdict::name).to_vec()
    }

    pub(super) fn severities() -> Names {
        [Severity::Note, Severity::Doubt, Severity::Fatal].map(Severity::name).to_vec()
    }

    pub(super) fn latencies() -> Names {
        [Latency::Response, Latency::Service].map(Latency::name).to_vec()
    }

    pub(super) fn steps() -> Names {
        Step::ALL.map(Step::name).to_vec()
    }

    pub(super) fn endings() -> Names {
        Ending::ALL.map(Ending::name).to_vec()
    }

    pub(super) fn roles() -> Names {
        [Role::Baseline, Role::Control, Role::Compared].map(super::super::role).to_vec()
    }

    pub(super) fn standings() -> Names {
        use Standing::{AboutMedian, BeyondFastest, BeyondSlowest, FasterHalf, Nowhere, SlowerHalf};
        [BeyondFastest, FasterHalf, AboutMedian, SlowerHalf, BeyondSlowest, Nowhere].map(Standing::name).to_vec()
    }

    pub(super) fn outcomes() -> Names {
        vec!["measured", "partial", "failed", "skipped"]
    }

    pub(super) fn states() -> Names {
        vec!["sound", "coarse", "failed", "unknown"]
    }

    pub(super) fn reasons() -> Names {
        vec!["too-few-operations", "batched", "not-stated", "no-common-block", "failed"]
    }

    pub(super) fn networks() -> Vec<String> {
        use workloads::facts::Network;
        Network::ALL.iter().chain(&[Network::Unknown]).map(ToString::to_string).collect()
    }
}
