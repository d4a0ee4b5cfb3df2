//! From rows to blocks: what counts of a run, with the histograms of a block's rounds added up.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use workloads::protocol::{self, Sample};
use workloads::stopwatch::HIGHEST_NS;

use super::{FailureRow, Metric, Stated};
use crate::record::{Checked, Failure, Record, Step, Stored, WorkloadPlan};

/// All that one environment did of one workload in one block, or in all of them.
#[derive(Debug, Clone)]
pub(crate) struct Merged {
    /// Latencies that metrics are of: response times in open loop, service times in closed loop.
    pub histogram: Histogram<u64>,
    /// In open loop, what the histogram leaves out of its response times.
    pub open: Option<Open>,
    pub operations: u64,
    /// Operations of the warm-ups, which counters saw too.
    pub warmup_operations: u64,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Wall time times operations in flight, nanoseconds: what service times can add up to.
    pub capacity_ns: f64,
    /// How many operations may have begun before the measured part of their burst, and count in full.
    pub overhang: u64,
    pub bytes: u64,
    pub elapsed_ns: u64,
    pub batch: u32,
    /// Which rounds are in it.
    pub rounds: BTreeSet<u32>,
    /// What another program says of its latencies.
    pub stated: Option<Stated>,
    /// How much each of its rounds counts for.
    shares: Shares,
}

/// How much each round of a block counts for: all the same. Where all did the same number of operations, their sums say so by
/// themselves.
#[derive(Debug, Clone)]
enum Shares {
    /// No rounds, or no longer rounds but blocks.
    Sums,
    /// So many operations in each.
    Same(u64),
    /// Rounds that the time limit ended at different lengths.
    Equal(Box<Equal>),
}

/// Rounds of different lengths, each with the same weight.
#[derive(Debug, Clone)]
struct Equal {
    histogram: Histogram<u64>,
    rounds: f64,
    /// Sums over the rounds of nanoseconds per operation and per byte.
    per_operation: f64,
    per_byte: f64,
}

/// Entries of a histogram that a round counts for among others of another length.
const WEIGHT: u64 = 1 << 32;

impl Equal {
    fn add(&mut self, histogram: &Histogram<u64>, rounds: u32, operations: u64, bytes: u64, ns: u64) {
        let each = u64::from(rounds) * WEIGHT / histogram.len().max(1);
        for bucket in histogram.iter_recorded() {
            let count = bucket.count_at_value().saturating_mul(each);
            self.histogram.saturating_record_n(bucket.value_iterated_to(), count);
        }
        self.rounds += f64::from(rounds);
        self.per_operation += f64::from(rounds) * ns as f64 / operations.max(1) as f64;
        self.per_byte += f64::from(rounds) * ns as f64 / bytes.max(1) as f64;
    }
}

/// Histograms of an open loop, beside that of its response times.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    /// From the actual start of an operation.
    pub service: Histogram<u64>,
    /// How late the generator began operations that nothing held up.
    pub lateness: Histogram<u64>,
}

impl Open {
    fn new() -> Self {
        Self { service: empty(), lateness: empty() }
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit")
}

/// The histograms of one burst, read.
struct Latencies {
    histogram: Histogram<u64>,
    open: Option<Open>,
}

impl Latencies {
    fn of(sample: &Sample, workload: Option<&WorkloadPlan>) -> Result<Self, String> {
        let protocol::Latencies { service, response, lateness } = sample.latencies()?;
        if !workload.is_some_and(WorkloadPlan::open_loop) {
            return Ok(Self { histogram: service, open: None });
        }
        let (Some(histogram), Some(lateness)) = (response, lateness) else {
            return Err("operations arrived by a schedule, but no response times were kept".into());
        };
        Ok(Self { histogram, open: Some(Open { service, lateness }) })
    }
}

impl Merged {
    pub fn new() -> Self {
        Self {
            histogram: empty(),
            open: None,
            operations: 0,
            warmup_operations: 0,
            counters: BTreeMap::new(),
            capacity_ns: 0.0,
            overhang: 0,
            bytes: 0,
            elapsed_ns: 0,
            batch: 1,
            rounds: BTreeSet::new(),
            stated: None,
            shares: Shares::Sums,
        }
    }

    /// Service times, in open loop and in closed loop.
    pub fn service(&self) -> &Histogram<u64> {
        self.open.as_ref().map_or(&self.histogram, |open| &open.service)
    }

    fn add_sample(&mut self, sample: &Sample, latencies: &Latencies) -> Result<(), String> {
        let misfit = |e| format!("its histogram doesn't fit the others: {e}");
        self.share(sample, latencies);
        self.histogram.add(&latencies.histogram).map_err(misfit)?;
        if let Some(open) = &latencies.open {
            let own = self.open.get_or_insert_with(Open::new);
            own.service.add(&open.service).map_err(misfit)?;
            own.lateness.add(&open.lateness).map_err(misfit)?;
        }
        self.operations = self.operations.saturating_add(sample.operations);
        self.warmup_operations = self.warmup_operations.saturating_add(sample.warmup_operations);
        for (name, count) in &sample.counters {
            let total = self.counters.entry(name.clone()).or_default();
            *total = total.saturating_add(*count);
        }
        let concurrency = sample.concurrency.max(1);
        self.capacity_ns += f64::from(concurrency) * sample.elapsed_ns as f64;
        // One at a time, an operation begins when the last one ends: none reaches over from the warm-up.
        self.overhang += if concurrency > 1 { u64::from(concurrency) } else { 0 };
        self.bytes = self.bytes.saturating_add(sample.bytes);
        self.elapsed_ns = self.elapsed_ns.saturating_add(sample.elapsed_ns);
        self.batch = self.batch.max(sample.batch);
        Ok(())
    }

    /// Before a round is added.
    fn share(&mut self, sample: &Sample, latencies: &Latencies) {
        let first = self.operations == 0;
        match &mut self.shares {
            Shares::Sums if first => self.shares = Shares::Same(sample.operations),
            Shares::Same(operations) if *operations != sample.operations => {
                let rounds = self.operations / (*operations).max(1);
                let mut equal = Box::new(Equal { histogram: empty(), rounds: 0.0, per_operation: 0.0, per_byte: 0.0 });
                equal.add(
                    &self.histogram,
                    rounds as u32,
                    self.operations / rounds.max(1),
                    self.bytes / rounds.max(1),
                    self.elapsed_ns / rounds.max(1),
                );
                equal.add(&latencies.histogram, 1, sample.operations, sample.bytes, sample.elapsed_ns);
                self.shares = Shares::Equal(equal);
            }
            Shares::Equal(equal) => {
                equal.add(&latencies.histogram, 1, sample.operations, sample.bytes, sample.elapsed_ns);
            }
            Shares::Same(_) | Shares::Sums => {}
        }
    }

    /// Adds another block: from then on it is all operations that count, and not rounds.
    pub fn add(&mut self, other: &Merged) {
        self.shares = Shares::Sums;
        match (&mut self.stated, &other.stated) {
            (Some(own), Some(other)) => own.add(other),
            (own @ None, other) => own.clone_from(other),
            (Some(_), None) => {}
        }
        const BOUNDS: &str = "all merged histograms have the same bounds";
        self.histogram.add(&other.histogram).expect(BOUNDS);
        if let Some(open) = &other.open {
            let own = self.open.get_or_insert_with(Open::new);
            own.service.add(&open.service).expect(BOUNDS);
            own.lateness.add(&open.lateness).expect(BOUNDS);
        }
        self.operations = self.operations.saturating_add(other.operations);
        self.warmup_operations = self.warmup_operations.saturating_add(other.warmup_operations);
        for (name, count) in &other.counters {
            let total = self.counters.entry(name.clone()).or_default();
            *total = total.saturating_add(*count);
        }
        self.capacity_ns += other.capacity_ns;
        self.overhang = self.overhang.saturating_add(other.overhang);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.elapsed_ns = self.elapsed_ns.saturating_add(other.elapsed_ns);
        self.batch = self.batch.max(other.batch);
    }

    /// In the unit of the metric; `None` where nothing was done.
    pub fn value(&self, metric: Metric, workload: &WorkloadPlan) -> Option<f64> {
        // Only a program that isn't ours doesn't say how long it took.
        if self.operations == 0 || (metric == Metric::Throughput && self.elapsed_ns == 0) {
            return None;
        }
        let seconds = self.elapsed_ns as f64 / 1e9;
        let value = match (metric, &self.stated) {
            (Metric::Mean, Some(stated)) => stated.mean()?,
            (Metric::Max, Some(stated)) => stated.max()? as f64,
            (metric, _) => self.measured(metric, workload, seconds),
        };
        (value > 0.0).then_some(value)
    }

    /// Worked out from our own histogram.
    fn measured(&self, metric: Metric, workload: &WorkloadPlan, seconds: f64) -> f64 {
        match metric {
            Metric::Mean => self.latencies().mean(),
            Metric::Max => self.histogram.max() as f64,
            Metric::Throughput => match &self.shares {
                Shares::Equal(equal) if workload.streams => 1e9 * equal.rounds / equal.per_byte,
                Shares::Equal(equal) => 1e9 * equal.rounds / equal.per_operation,
                _ if workload.streams => self.bytes as f64 / seconds,
                _ => self.operations as f64 / seconds,
            },
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => {
                self.quantile(metric.quantile().expect("these are percentiles"))
            }
        }
    }

    /// Whether whoever measured it says this metric.
    pub fn says(&self, metric: Metric) -> bool {
        let Some(stated) = &self.stated else { return true };
        match metric {
            Metric::Throughput => self.elapsed_ns > 0,
            Metric::Mean | Metric::Max => stated.latencies > 0,
            metric => metric.quantile().is_some_and(|q| stated.has(q)),
        }
    }

    /// Latencies in which every round of a block counts for the same.
    fn latencies(&self) -> &Histogram<u64> {
        match &self.shares {
            Shares::Equal(equal) => &equal.histogram,
            _ => &self.histogram,
        }
    }

    /// A latency, nanoseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        super::quantile(self.latencies(), quantile)
    }

    /// Time of one operation, nanoseconds: the metric itself for latencies, wall time per operation for throughput.
    pub fn per_operation(&self, metric: Metric, workload: &WorkloadPlan) -> Option<f64> {
        match metric {
            Metric::Throughput if self.operations == 0 => None,
            Metric::Throughput => Some(match &self.shares {
                Shares::Equal(equal) => equal.per_operation / equal.rounds,
                _ => self.elapsed_ns as f64 / self.operations as f64,
            }),
            _ => self.value(metric, workload),
        }
    }
}

/// Everything of one workload in one environment that counts, by block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(pub BTreeMap<u32, Merged>);

/// The part of a run that counts, workload by workload: the histograms of all of them at a time may not fit into memory.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    stored: &'a Stored,
    /// Rounds that don't count.
    void: BTreeSet<(&'a str, u32, u32)>,
    /// Bursts and checks by workload, with their place among all.
    rows: BTreeMap<&'a str, Rows<'a>>,
    /// With where they stand in the order of starts, bursts, checks.
    failures: Vec<(Place, FailureRow)>,
    /// Environments that have a block that counts, among the workloads that were counted.
    pub measured: BTreeSet<&'a str>,
    /// Rounds that began.
    pub rounds_begun: u64,
}

/// The kind of row, and its number.
type Place = (u8, usize);

#[derive(Debug, Default)]
struct Rows<'a> {
    records: Vec<(usize, &'a Record)>,
    checks: Vec<(usize, &'a Checked)>,
}

/// The part of one workload that counts, by environment.
#[derive(Debug, Default)]
pub(crate) struct OfWorkload<'a> {
    pub blocks: BTreeMap<&'a str, Blocks>,
    /// The rows behind them.
    pub records: BTreeMap<&'a str, Vec<&'a Record>>,
    /// Checks of all environments.
    pub checks: Vec<&'a Checked>,
    /// Checks of these environments failed or differed: the message.
    pub disproved: BTreeMap<&'a str, String>,
    /// Blocks of environments of which something was lost or wrong.
    incomplete: BTreeSet<(&'a str, u32)>,
}

impl<'a> Counted<'a> {
    pub fn new(stored: &'a Stored) -> Self {
        let void: BTreeSet<_> = stored.voids.iter().map(|v| (v.workload.as_str(), v.block, v.round)).collect();
        let rounds: BTreeSet<_> = stored.records.iter().map(|r| (r.workload.as_str(), r.block, r.round)).collect();
        let mut rows: BTreeMap<&str, Rows> = BTreeMap::new();
        for (nth, record) in stored.records.iter().enumerate() {
            rows.entry(&record.workload).or_default().records.push((nth, record));
        }
        for (nth, checked) in stored.checks.iter().enumerate() {
            rows.entry(&checked.workload).or_default().checks.push((nth, checked));
        }
        let rounds_begun = rounds.union(&void).count() as u64;
        let mut counted = Self { stored, void, rows, failures: Vec::new(), measured: BTreeSet::new(), rounds_begun };
        for (nth, start) in stored.starts.iter().enumerate() {
            if let Err(failure) = &start.outcome {
                counted.fail((0, nth), &start.environment, None, start.block, None, failure);
            }
        }
        counted
    }

    /// Counts one workload.
    pub fn workload(&mut self, name: &str) -> OfWorkload<'a> {
        let mut own = OfWorkload::default();
        let Some((_, rows)) = self.rows.remove_entry(name) else { return own };
        let plan = self.stored.run.workloads.iter().find(|w| w.name == name);
        for (nth, record) in rows.records {
            self.burst(nth, record, plan, &mut own);
        }
        self.checks(&rows.checks, &mut own);
        // What was lost or wrong in a part of a block is in doubt in all of it.
        for (environment, block) in std::mem::take(&mut own.incomplete) {
            if let Some(blocks) = own.blocks.get_mut(environment) {
                blocks.0.remove(&block);
            }
        }
        self.measured.extend(own.blocks.iter().filter(|(_, blocks)| !blocks.0.is_empty()).map(|(e, _)| *e));
        own
    }

    /// All that failed, in the order of starts, bursts, checks.
    pub fn failures(mut self) -> Vec<FailureRow> {
        // Rows of workloads that the run doesn't plan.
        while let Some(name) = self.rows.keys().next().copied() {
            self.workload(name);
        }
        self.failures.sort_by_key(|(place, _)| *place);
        self.failures.into_iter().map(|(_, failure)| failure).collect()
    }

    /// The first failure of an environment that concerns this workload, of those that have been counted.
    pub fn failure(&self, workload: &str, environment: &str) -> Option<&FailureRow> {
        let concerns =
            |f: &FailureRow| f.environment == environment && f.workload.as_deref().is_none_or(|name| name == workload);
        self.failures.iter().filter(|(_, f)| concerns(f)).min_by_key(|(place, _)| *place).map(|(_, f)| f)
    }

    fn burst(&mut self, nth: usize, record: &'a Record, plan: Option<&WorkloadPlan>, own: &mut OfWorkload<'a>) {
        let environment = record.environment.as_str();
        let void = self.void.contains(&(record.workload.as_str(), record.block, record.round));
        let mut fail = |failure: &Failure| {
            self.fail((1, nth), environment, Some(&record.workload), record.block, Some(record.round), failure);
        };
        let sample = match &record.outcome {
            Ok(sample) => sample,
            Err(failure) => {
                fail(failure);
                if !void {
                    own.incomplete.insert((environment, record.block));
                }
                return;
            }
        };
        if void {
            return;
        }
        let read = Latencies::of(sample, plan);
        let merged = own.blocks.entry(environment).or_default().0.entry(record.block).or_insert_with(Merged::new);
        match read.and_then(|latencies| merged.add_sample(sample, &latencies)) {
            Ok(()) => {
                merged.rounds.insert(record.round);
                own.records.entry(environment).or_default().push(record);
            }
            Err(message) => {
                fail(&Failure { step: Step::Burst, message });
                own.incomplete.insert((environment, record.block));
            }
        }
    }

    fn checks(&mut self, checks: &[(usize, &'a Checked)], own: &mut OfWorkload<'a>) {
        // Of the same block: others draw from other seeds.
        let mut proofs = BTreeMap::new();
        for (_, checked) in checks.iter().filter(|(_, c)| c.environment == self.stored.run.baseline) {
            proofs.entry(checked.block).or_insert(*checked);
        }
        for (nth, checked) in checks {
            let environment = checked.environment.as_str();
            own.checks.push(checked);
            if let Some(block) = own.blocks.get_mut(environment).and_then(|blocks| blocks.0.get_mut(&checked.block)) {
                block.stated = Stated::of(&checked.facts);
            }
            let proof = proofs.get(&checked.block).and_then(|c| c.outcome.as_ref().ok());
            let failure = match (&checked.outcome, proof) {
                (Err(failure), _) => failure.clone(),
                (Ok(check), Some(proof)) if check.value != proof.value => Failure {
                    step: Step::Verify,
                    message: format!(
                        "the check value is {} ({}) where the baseline has {} ({}): it did not do the same work",
                        check.value, check.detail, proof.value, proof.detail
                    ),
                },
                (Ok(_), _) => continue,
            };
            self.fail((2, *nth), environment, Some(&checked.workload), checked.block, None, &failure);
            // A lost burst was dealt with where it was lost; if its round is void, the block stands.
            if failure.step != Step::Burst {
                own.incomplete.insert((environment, checked.block));
            }
            if failure.step == Step::Verify {
                own.disproved.entry(environment).or_insert(failure.message);
            }
        }
    }

    fn fail(
        &mut self,
        place: Place,
        environment: &str,
        workload: Option<&str>,
        block: u32,
        round: Option<u32>,
        failure: &Failure,
    ) {
        let row = FailureRow {
            environment: environment.into(),
            workload: workload.map(Into::into),
            block,
            round,
            step: failure.step,
            message: failure.message.clone(),
        };
        self.failures.push((place, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{histogram, stored};

    /// A round of so many operations, each of which took so long.
    fn round(operations: u64, ns: u64) -> Sample {
        Sample {
            operations,
            bytes: operations * 10,
            elapsed_ns: operations * ns,
            batch: 1,
            histogram: histogram(std::iter::repeat_n(ns, operations as usize)),
            ..Sample::default()
        }
    }

    fn merged(rounds: &[Sample]) -> Merged {
        let mut merged = Merged::new();
        for sample in rounds {
            let latencies = Latencies::of(sample, None).expect("reads");
            merged.add_sample(sample, &latencies).expect("fits");
        }
        merged
    }

    fn workload(streams: bool) -> WorkloadPlan {
        let mut plan = stored().run.workloads.swap_remove(0);
        plan.streams = streams;
        plan
    }

    #[track_caller]
    fn assert_about(found: Option<f64>, right: f64) {
        let found = found.expect("a value");
        assert!((found / right - 1.0).abs() < 0.002, "{found}, {right} is right");
    }

    #[test]
    fn rounds_that_the_limit_ended_count_as_much_as_whole_ones() {
        let plan = workload(false);
        // Three calm rounds and a rough one, which ends early: half of one round's operations are a fifth of the time.
        let rounds = [round(100, 10_000), round(100, 10_000), round(20, 50_000), round(100, 10_000)];
        let block = merged(&rounds);
        assert_about(block.per_operation(Metric::Throughput, &plan), 20_000.0);
        assert_about(block.value(Metric::Throughput, &plan), 1e9 / 20_000.0);
        assert_about(block.value(Metric::Throughput, &workload(true)), 10e9 / 20_000.0);
        assert_about(block.value(Metric::Mean, &plan), 20_000.0);
        assert_about(Some(block.quantile(0.74)), 10_000.0);
        assert_about(Some(block.quantile(0.76)), 50_000.0);
        assert_eq!((block.operations, block.histogram.len()), (320, 320), "and what was done is what was done");
        // The order of rounds is no matter.
        let [a, b, c, d] = rounds;
        let other = merged(&[c, a, b, d]);
        assert_about(other.per_operation(Metric::Throughput, &plan), 20_000.0);
        assert_about(Some(other.quantile(0.74)), 10_000.0);
    }

    #[test]
    fn whole_rounds_are_added_up_as_they_are() {
        let plan = workload(false);
        let block = merged(&[round(100, 10_000), round(100, 50_000)]);
        assert_eq!(block.value(Metric::Throughput, &plan), Some(200.0 / 6e-3));
        assert!(matches!(block.shares, Shares::Same(100)));
        let mut all = Merged::new();
        for block in [block, merged(&[round(100, 10_000), round(10, 50_000)])] {
            all.add(&block);
        }
        assert_eq!(
            all.value(Metric::Throughput, &plan),
            Some(310.0 / 7.5e-3),
            "of several blocks all operations count"
        );
    }
}
