//! The comparison of a run: every environment against the baseline, with the uncertainty, the doubts and what is missing.
//!
//! These are the types that reports, gates and plots think with. Nothing in them is serialized as it stands: each format
//! chooses its own names. A value never goes without its uncertainty, and a cell that has no value says why.

mod claims;
mod compute;
mod flags;
mod heat;
pub mod hints;
mod insertions;
mod merge;
mod neighbour;
mod packed;
pub mod precision;
mod seen;
mod stated;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

#[cfg(test)]
pub(crate) use claims::judge as claim;
pub use compute::compare;
pub(crate) use compute::connection_of;
pub(crate) use flags::TWO_STORIES;
pub(crate) use flags::imported::{is_direct, unequal_options};
pub use heat::HeatMap;
pub use hints::Hint;
pub use insertions::{Insertions, Population, Standing};
pub use neighbour::BesideNeighbour;
pub use packed::Packed;
pub use seen::{Seen, Split};
pub use stated::Stated;

use crate::record::{Ending, EnvironmentPlan, Run, Step, Void, WorkloadPlan};
use crate::statistics::Estimate;

/// A run, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The run as it was planned and started: suite, seed, host facts, command.
    pub run: Run,
    /// How it ended.
    pub ending: Ending,
    /// Wall time, seconds; `None` while unfinished.
    pub seconds: Option<f64>,
    /// Why it ended where that wasn't by plan.
    pub stopped: Option<String>,
    /// The constants everything here was worked out with.
    pub method: Method,
    /// Blocks that have at least one burst.
    pub blocks: u32,
    /// Every environment of the suite in its order: baseline, control, the others; skipped ones included.
    pub environments: Vec<Environment>,
    /// Workload by workload, then environment by environment, then metric by metric ([`Metric::ALL`]). Neither the
    /// baseline nor the control nor a skipped environment has cells here.
    pub cells: Vec<Cell>,
    /// The cells of the second baseline, in the same order.
    pub control: Vec<Cell>,
    /// All latencies, per workload and environment that has any, baseline and control included.
    pub distributions: Vec<Distribution>,
    /// Resolution of this run, per workload and metric.
    pub resolution: Vec<Resolution>,
    /// Where the environments stand in the published insertion test: the baseline and those compared with it.
    pub insertions: Vec<Insertions>,
    /// Rounds that were dropped for all environments.
    pub voids: Vec<Void>,
    /// Rounds that began, void ones included: what the number of voids is a share of.
    pub rounds_begun: u64,
    /// Everything that did not work, in the order of writing.
    pub failures: Vec<FailureRow>,
    /// Why nothing that the baseline made durable outlives a loss of power; `None` where nothing says so.
    pub forgets: Option<String>,
    /// Why nothing in this run should be believed; empty for a sound run.
    pub invalid: Vec<String>,
    /// The environments of a ladder that are called otherwise in lists, by name: by the setting that tells them from the one before.
    pub labels: BTreeMap<String, String>,
    /// Remarks on the run as a whole, one line each: fewer blocks than an interval needs, a nested host, ...
    pub remarks: Vec<String>,
}

/// The constants of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// Of all intervals: 0.95.
    pub confidence: f64,
    /// The relative change that is worth deciding about, 0.05 for 5 %: measures whether the control is good enough.
    pub margin: f64,
    /// The largest share of void rounds that a run survives: 0.25.
    pub void_limit: f64,
    /// A percentile needs this many operations beyond it in every block: 50.
    pub beyond: u64,
    /// An operation is a stall when it takes more than this many times its environment's median: 10.
    pub stall: f64,
}

impl Default for Method {
    fn default() -> Self {
        Self { confidence: 0.95, margin: 0.05, void_limit: 0.25, beyond: 50, stall: 10.0 }
    }
}

/// A figure of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Median latency.
    P50,
    /// 90th percentile of latency.
    P90,
    /// 99th percentile of latency.
    P99,
    /// 99.9th percentile of latency.
    P999,
    /// Mean latency.
    Mean,
    /// Largest latency; it grows with the number of operations, and its interval means little.
    Max,
    /// Work done per second.
    Throughput,
}

impl Metric {
    /// In the order of reports.
    pub const ALL: [Metric; 7] =
        [Metric::P50, Metric::P90, Metric::P99, Metric::P999, Metric::Mean, Metric::Max, Metric::Throughput];

    /// `p50`, `p90`, `p99`, `p99.9`, `mean`, `max`, `throughput`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Mean => "mean",
            Metric::Max => "max",
            Metric::Throughput => "throughput",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Metric> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// 0.5 for the median; `None` for what isn't a percentile.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P90 => Some(0.9),
            Metric::P99 => Some(0.99),
            Metric::P999 => Some(0.999),
            Metric::Mean | Metric::Max | Metric::Throughput => None,
        }
    }

    /// The figure to look at first for a workload: its cost, which is the time for all of the work and so throughput turned
    /// round. A median sees nothing of a box that is stopped between operations. Where a schedule and not the environment says
    /// how much is done, it is the median.
    pub fn primary(workload: &WorkloadPlan) -> Metric {
        if workload.scheduled() { Metric::P50 } else { Metric::Throughput }
    }

    /// Whether it is the figure to look at first for the workload of this name.
    fn leads(self, workload: &str, workloads: &[WorkloadPlan]) -> bool {
        workloads.iter().any(|w| w.name == workload && Self::primary(w) == self)
    }

    /// The metrics that claims may be made about, the figure to look at first before the others.
    pub fn primaries(workload: &WorkloadPlan) -> &'static [Metric] {
        match () {
            () if workload.streams => &[Metric::Throughput],
            () if workload.scheduled() => &[Metric::P50, Metric::P99],
            () => &[Metric::Throughput, Metric::P50, Metric::P99],
        }
    }

    /// Whether it is about the slowest operations.
    pub fn is_tail(self) -> bool {
        matches!(self, Metric::P90 | Metric::P99 | Metric::P999 | Metric::Max)
    }

    /// The unit of this metric for a workload.
    pub fn unit(self, workload: &WorkloadPlan) -> Unit {
        match self {
            Metric::Throughput if workload.streams => Unit::BytesPerSecond,
            Metric::Throughput => Unit::OperationsPerSecond,
            _ => Unit::Nanoseconds,
        }
    }
}

/// From which moment a latency counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Open loop: from the moment at which the operation should have begun, so that it includes the wait.
    Response,
    /// Closed loop: from the moment at which the operation began.
    Service,
}

impl Latency {
    /// The kind of a workload's latencies.
    pub fn of(workload: &WorkloadPlan) -> Latency {
        if workload.open_loop() { Latency::Response } else { Latency::Service }
    }

    /// `response`, `service`.
    pub fn name(self) -> &'static str {
        match self {
            Latency::Response => "response",
            Latency::Service => "service",
        }
    }
}

/// Unit of net and gross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds per operation: lower is better.
    Nanoseconds,
    /// Operations per second: higher is better.
    OperationsPerSecond,
    /// Bytes per second: higher is better.
    BytesPerSecond,
}

impl Unit {
    /// `ns`, `op/s`, `B/s`.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::OperationsPerSecond => "op/s",
            Unit::BytesPerSecond => "B/s",
        }
    }

    /// Whether a larger value is the better one.
    pub fn more_is_better(self) -> bool {
        !matches!(self, Unit::Nanoseconds)
    }
}

/// One metric of one workload in one environment, against the baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// Which figure it is of.
    pub metric: Metric,
    /// Of net and gross.
    pub unit: Unit,
    /// Blocks in which both the environment and the baseline have this workload: the n of the interval.
    pub blocks: u32,
    /// The environment's operations in those blocks.
    pub operations: u64,
    /// The numbers, or why there are none.
    pub finding: Result<Finding, Withheld>,
    /// The claim that the run may make of it beside all else that it compares.
    pub claim: Claim,
    /// Whether to believe it.
    pub verdict: Verdict,
    /// The doubts, gravest first.
    pub flags: Vec<Flag>,
}

impl Cell {
    /// The flags that a table shows beside its figures, gravest first: all that weigh more than a note, and that its mean and its
    /// median tell different stories.
    pub fn marks(&self) -> impl Iterator<Item = &Flag> {
        self.flags.iter().filter(|flag| flag.severity > Severity::Note || flag.name == flags::MEAN_APART)
    }

    /// The overhead, where there is one.
    pub fn overhead(&self) -> Option<Estimate> {
        self.finding.as_ref().ok().map(|f| f.overhead)
    }
}

/// A claim about a cell: beyond the margin, outside the control's own interval, and with at most one false claim in
/// twenty runs in which nothing differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Claim {
    /// The environment is worse than the baseline.
    Worse,
    /// It is better.
    Better,
    /// Neither: the interval says what is excluded.
    #[default]
    None,
}

impl Claim {
    /// `worse`, `better`, `none`.
    pub fn name(self) -> &'static str {
        match self {
            Claim::Worse => "worse",
            Claim::Better => "better",
            Claim::None => "none",
        }
    }
}

/// The numbers of a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The baseline's value, pooled over the blocks of the cell.
    pub net: f64,
    /// The environment's value, pooled likewise.
    pub gross: f64,
    /// How many times worse the environment is, from the ratios within blocks; above 1 is worse, for throughput too.
    pub overhead: Estimate,
    /// Additional time of an operation, nanoseconds, whatever the unit of net and gross (throughput: wall time per
    /// operation); above 0 is worse.
    pub difference: Estimate,
    /// The geometric mean of the ratios with Student's t interval: what a few extreme blocks pull and the overhead doesn't follow.
    pub geometric: Estimate,
    /// Mean of the environment's block values over the mean of the baseline's, turned so that above 1 is worse.
    pub ratio_of_means: f64,
    /// The ratio in each block that counted, with the block's number; above 1 is worse.
    pub ratios: Vec<(u32, f64)>,
    /// The environment's time of an operation in the same blocks, nanoseconds, whatever the unit of net and gross.
    pub costs: Vec<(u32, f64)>,
}

impl Finding {
    /// Logarithms of the ratios, one for each block that counted.
    pub(crate) fn logs(&self) -> Vec<f64> {
        self.ratios.iter().map(|(_, ratio)| ratio.ln()).collect()
    }

    /// The difference of net and gross in the cell's own unit: the tare. Above 0 is worse: what a latency is longer, what a
    /// throughput is less.
    pub fn tare(&self, unit: Unit) -> f64 {
        if unit.more_is_better() { self.net - self.gross } else { self.gross - self.net }
    }
}

/// Why a cell has no numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withheld {
    /// The percentile lies too far out for the operations there are.
    TooFewOperations {
        /// Operations of the smallest block.
        have: u64,
        /// How many more each block needs.
        more: u64,
    },
    /// An entry of the histogram is the mean of several operations, since the clock is too dear to be read for each: that has no
    /// tail.
    Batched {
        /// Operations per entry.
        batch: u32,
    },
    /// Another program measured, and its output doesn't have it.
    NotStated,
    /// The environment and the baseline have no block in common: one of them failed, or the run ended before.
    NoCommonBlock,
    /// It ran, but what it did can't be compared: the message of the failure.
    Failed(String),
}

/// Whether to believe a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing speaks against it.
    Trusted,
    /// Something does: read the flags.
    Suspect,
    /// It doesn't measure what it says; it may be shown, never ranked.
    Invalid,
}

impl Verdict {
    /// From the best to the worst.
    pub const ALL: [Verdict; 3] = [Verdict::Trusted, Verdict::Suspect, Verdict::Invalid];

    /// `trusted`, `suspect`, `invalid`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Trusted => "trusted",
            Verdict::Suspect => "suspect",
            Verdict::Invalid => "invalid",
        }
    }
}

/// A reason to trust a cell less, or to read it with care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// `fsync-not-durable`, `clock-drift`, ...: stable, for programs.
    pub name: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// The observation, with numbers, in one line.
    pub evidence: String,
}

/// Weight of a flag in the verdict of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the cell stays trusted.
    Note,
    /// The cell is suspect.
    Doubt,
    /// The cell is invalid.
    Fatal,
}

impl Severity {
    /// `note`, `doubt`, `fatal`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Doubt => "doubt",
            Severity::Fatal => "fatal",
        }
    }
}

/// Part that an environment plays in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The others are divided by it.
    Baseline,
    /// The baseline a second time.
    Control,
    /// To be compared.
    Compared,
}

/// An environment as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// Name, runner, version, settings, network and data path.
    pub plan: EnvironmentPlan,
    /// The part that it plays.
    pub role: Role,
    /// Whether it ran.
    pub outcome: Outcome,
    /// From the first that is made for a start to the agent's first frame, milliseconds, one per start that succeeded, in order of blocks.
    pub starts_ms: Vec<f64>,
    /// Median of the starts with its interval, milliseconds; `None` without a start.
    pub start_ms: Option<Estimate>,
    /// From the order to go until nothing of it was left, milliseconds, one per start that was ended so, in order of blocks.
    pub stops_ms: Vec<f64>,
    /// Median of those with its interval, milliseconds; `None` without any.
    pub stop_ms: Option<Estimate>,
    /// Median of the memory held when idle, bytes; `None` where it couldn't be read.
    pub memory_bytes: Option<u64>,
    /// Cost of one clock reading inside, nanoseconds.
    pub clock_ns: Option<f64>,
    /// Facts found inside, by name, in the order to show them: kernel, clock source, file system, device, ...
    pub facts: Vec<(String, String)>,
    /// The overhead of each workload's primary metric, in the order of workloads: what a sentence about this environment
    /// is made of. Empty for the baseline and for what didn't run.
    pub headlines: Vec<Headline>,
    /// What its neighbour costs it, where it has one.
    pub beside: Vec<BesideNeighbour>,
    /// Flags of all its cells, those of the baseline itself included.
    pub flags: Vec<Flag>,
    /// Why it may cost what it costs, with the evidence.
    pub hints: Vec<Hint>,
}

/// Whether an environment ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was begun came out.
    Measured,
    /// Some of it: what failed first, and how many failures there are.
    Partial(String),
    /// Nothing came out: the first failure.
    Failed(String),
    /// Not available here: the engine's own words, and how to get it.
    Skipped(String),
}

impl Outcome {
    /// `measured`, `partial`, `failed`, `skipped`.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Measured => "measured",
            Outcome::Partial(_) => "partial",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
        }
    }

    /// Why it isn't [`Outcome::Measured`].
    pub fn because(&self) -> Option<&str> {
        match self {
            Outcome::Measured => None,
            Outcome::Partial(why) | Outcome::Failed(why) | Outcome::Skipped(why) => Some(why),
        }
    }
}

/// A workload's primary overhead in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Headline {
    /// Name of the workload.
    pub workload: String,
    /// Which metric it is.
    pub metric: Metric,
    /// As in the cell; `None` where the cell has none.
    pub overhead: Option<Estimate>,
    /// As in the cell.
    pub verdict: Verdict,
}

/// All latencies of one workload in one environment, over all blocks and rounds that count.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// The kind of latency in the histogram, the curve and the cells.
    pub latency: Latency,
    /// Nanoseconds; one entry per operation, or per batch.
    pub histogram: Packed,
    /// Service times and lateness in open loop; `None` in closed loop.
    pub open: Option<OpenLoop>,
    /// Counters by name, warm-ups included.
    pub counters: BTreeMap<String, u64>,
    /// Operations of the warm-ups, which are in no histogram.
    pub warmup_operations: u64,
    /// When which latencies came; `None` where nobody kept it.
    pub heat: Option<HeatMap>,
    /// Operations per entry.
    pub batch: u32,
    /// Operations in all.
    pub operations: u64,
    /// Bursts that the time limit ended, and all of them.
    pub cut_short: (usize, usize),
    /// The share of the measured time that went into the slower half of the operations, or passed between operations; `None` where
    /// several are under way at a time, or nobody knows.
    pub beyond_half: Option<f64>,
    /// Bytes in all.
    pub bytes: u64,
    /// Operations a second over the measured time; 0 where nobody said how long that was.
    pub operations_per_second: f64,
    /// Bytes a second over the measured time, likewise.
    pub bytes_per_second: f64,
    /// Blocks that contribute.
    pub blocks: u32,
    /// Operations of more than [`Method::stall`] times this environment's own median, per million; `None` where only a few
    /// percentiles are known.
    pub stalls_per_million: Option<f64>,
    /// The largest percentile that the operations of every block carry, 0..1; a curve is honest up to here.
    pub carried: f64,
    /// The overhead along the percentiles, as far as they are carried; empty for the baseline.
    pub overhead: Vec<OverheadAt>,
    /// What the host's counters saw beside the operations.
    pub seen: Seen,
    /// What another program says of its latencies; `None` where the histogram is all there is.
    pub stated: Option<Stated>,
    /// The doubts of this workload in this environment, whatever the metric; the baseline has them too.
    pub flags: Vec<Flag>,
}

impl Distribution {
    /// Service times, nanoseconds, in open and in closed loop.
    pub fn service(&self) -> &Packed {
        self.open.as_ref().map_or(&self.histogram, |open| &open.service)
    }

    /// A percentile of the service time, nanoseconds; `None` where nobody measured it, whatever the number of operations.
    pub fn service_quantile(&self, q: f64) -> Option<f64> {
        let stated = self.stated.as_ref().is_none_or(|stated| stated.has(q));
        (stated && !self.service().is_empty()).then(|| quantile(&self.service().open(), q))
    }

    /// The largest service time, nanoseconds.
    pub fn service_max(&self) -> Option<u64> {
        match &self.stated {
            Some(stated) => stated.max(),
            None => (!self.service().is_empty()).then(|| self.service().open().max()),
        }
    }

    /// Whether the histogram is one: else only a few of its percentiles were measured.
    pub fn is_whole(&self) -> bool {
        self.stated.as_ref().is_none_or(|stated| stated.percentiles.is_none())
    }

    /// A counter per thousand operations, those of the warm-ups included: they were counted too.
    pub fn per_thousand(&self, count: u64) -> f64 {
        1000.0 * count as f64 / (self.operations + self.warmup_operations).max(1) as f64
    }
}

/// An open loop beside its response times.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenLoop {
    /// Service times, nanoseconds: from the actual start.
    pub service: Packed,
    /// How late the generator began operations that no operation before them held up, nanoseconds.
    pub lateness: Histogram<u64>,
    /// Operations asked for per second.
    pub rate: f64,
    /// Operations done per second.
    pub done: f64,
}

/// A latency, nanoseconds. The middle of the bucket: its end, which the histogram returns, is up to 0.1 % too high.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    let end = histogram.value_at_quantile(quantile);
    (histogram.lowest_equivalent(end) as f64 + histogram.highest_equivalent(end) as f64) / 2.0
}

/// One point of the overhead along the percentiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverheadAt {
    /// 0..1.
    pub quantile: f64,
    /// Above 1 is worse.
    pub overhead: Estimate,
}

/// Resolution in one metric of one workload, by the control.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// Name of the workload.
    pub workload: String,
    /// The metric.
    pub metric: Metric,
    /// The control's overhead, which should be 1; `None` where the control has no value.
    pub control: Option<Estimate>,
    /// Half the width of the control's interval, relative: 0.02 for 2 %. Smaller differences are noise.
    pub noise_floor: Option<f64>,
    /// The smallest relative change that would be seen four times in five: 0.03 for 3 %.
    pub smallest_visible: Option<f64>,
    /// Whether the two baselines agree.
    pub state: ControlState,
}

/// Whether two identical environments came out equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlState {
    /// They did, and well enough to see the margin.
    Sound,
    /// They did, but so roughly that changes of the margin can't be told from noise: the numbers.
    Coarse(String),
    /// They did not: what the method measures here is not the environment alone. The numbers.
    Failed(String),
    /// There is no control, or it has too few blocks: why.
    Unknown(String),
}

/// Something that did not work, with its place in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRow {
    /// Name of the environment.
    pub environment: String,
    /// Name of the workload; `None` for a start.
    pub workload: Option<String>,
    /// The block.
    pub block: u32,
    /// The round; `None` for what isn't a burst.
    pub round: Option<u32>,
    /// In which step.
    pub step: Step,
    /// The chain of causes.
    pub message: String,
}

impl Comparison {
    /// Whether to believe a cell, and the run that it is of.
    pub fn verdict(&self, cell: &Cell) -> Verdict {
        if self.invalid.is_empty() { cell.verdict } else { Verdict::Invalid }
    }

    /// Where the two copies of the baseline differ in the figure to look at first: such a machine is too unquiet to tell.
    pub fn failed_controls(&self) -> impl Iterator<Item = &Resolution> {
        let failed = |r: &&Resolution| matches!(r.state, ControlState::Failed(_));
        self.resolution.iter().filter(failed).filter(|r| r.metric.leads(&r.workload, &self.run.workloads))
    }

    /// The share by which a ratio is surely not worse, 0.04 for 4 %, and never less than what this run can tell in this workload:
    /// what its control's interval reaches, and the smallest visible change. `None` without an interval, where the control has
    /// none or failed, and in an invalid run.
    pub fn excluded(&self, workload: &str, metric: Metric, ratio: Estimate) -> Option<f64> {
        let own = ratio.interval?.high - 1.0;
        let told = if self.invalid.is_empty() { self.told(workload, metric) } else { None };
        Some(own.max(told?))
    }

    /// The share below which nothing is told; 0 where no control was run, which speaks against nothing.
    pub fn told(&self, workload: &str, metric: Metric) -> Option<f64> {
        if !self.control.iter().any(|cell| cell.workload == workload && cell.metric == metric) {
            return Some(0.0);
        }
        let resolution = self.resolution(workload, metric)?;
        if matches!(resolution.state, ControlState::Failed(_)) {
            return None;
        }
        let reach = resolution.control?.interval?;
        Some((reach.high.max(1.0 / reach.low) - 1.0).max(resolution.smallest_visible?))
    }

    /// Another metric of the same workload and environment; `None` where it is the cell's own.
    pub fn beside(&self, cell: &Cell, metric: Metric) -> Option<&Cell> {
        self.cell(&cell.workload, &cell.environment, metric).filter(|other| other.metric != cell.metric)
    }

    /// The cell of these coordinates, the control's included.
    pub fn cell(&self, workload: &str, environment: &str, metric: Metric) -> Option<&Cell> {
        let here = |c: &&Cell| c.workload == workload && c.environment == environment && c.metric == metric;
        self.cells.iter().find(here).or_else(|| self.control.iter().find(here))
    }

    /// The latencies of a workload in an environment.
    pub fn distribution(&self, workload: &str, environment: &str) -> Option<&Distribution> {
        self.distributions.iter().find(|d| d.workload == workload && d.environment == environment)
    }

    /// The resolution in a metric of a workload.
    pub fn resolution(&self, workload: &str, metric: Metric) -> Option<&Resolution> {
        self.resolution.iter().find(|r| r.workload == workload && r.metric == metric)
    }

    /// The environment of this name.
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|e| e.plan.name == name)
    }

    /// What an environment is called in lists and pictures: its name, or in a ladder the setting that changes there.
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.labels.get(name).map_or(name, String::as_str)
    }

    /// The environment the others are divided by.
    pub fn baseline(&self) -> Option<&Environment> {
        self.environments.iter().find(|e| e.role == Role::Baseline)
    }
}
