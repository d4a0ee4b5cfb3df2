//! From rows to blocks: what counts of a run, with the histograms of a block's rounds added up.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use workloads::protocol::{self, Sample};
use workloads::stopwatch::HIGHEST_NS;

use super::{FailureRow, Metric};
use crate::record::{Failure, Record, Step, Stored, WorkloadPlan};

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
        }
    }

    /// Service times, in open loop and in closed loop.
    pub fn service(&self) -> &Histogram<u64> {
        self.open.as_ref().map_or(&self.histogram, |open| &open.service)
    }

    fn add_sample(&mut self, sample: &Sample, latencies: &Latencies) -> Result<(), String> {
        let misfit = |e| format!("its histogram doesn't fit the others: {e}");
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

    pub fn add(&mut self, other: &Merged) {
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
        if self.operations == 0 || self.elapsed_ns == 0 {
            return None;
        }
        let seconds = self.elapsed_ns as f64 / 1e9;
        let value = match metric {
            Metric::Mean => self.histogram.mean(),
            Metric::Max => self.histogram.max() as f64,
            Metric::Throughput if workload.streams => self.bytes as f64 / seconds,
            Metric::Throughput => self.operations as f64 / seconds,
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => {
                self.quantile(metric.quantile().expect("these are percentiles"))
            }
        };
        (value > 0.0).then_some(value)
    }

    /// A latency, nanoseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        super::quantile(&self.histogram, quantile)
    }

    /// Time of one operation, nanoseconds: the metric itself for latencies, wall time per operation for throughput.
    pub fn per_operation(&self, metric: Metric, workload: &WorkloadPlan) -> Option<f64> {
        match metric {
            Metric::Throughput if self.operations == 0 => None,
            Metric::Throughput => Some(self.elapsed_ns as f64 / self.operations as f64),
            _ => self.value(metric, workload),
        }
    }
}

/// Everything of one workload in one environment that counts, by block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(pub BTreeMap<u32, Merged>);

/// The part of a run that counts.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    /// By workload and environment.
    pub blocks: BTreeMap<(&'a str, &'a str), Blocks>,
    /// The rows behind them.
    pub records: BTreeMap<(&'a str, &'a str), Vec<&'a Record>>,
    /// In the order of starts, bursts, checks.
    pub failures: Vec<FailureRow>,
    /// Checks of these workloads and environments failed or differed: the message.
    pub disproved: BTreeMap<(&'a str, &'a str), String>,
    /// Rounds that began.
    pub rounds_begun: u64,
}

impl<'a> Counted<'a> {
    pub fn new(stored: &'a Stored) -> Self {
        let void: BTreeSet<_> = stored.voids.iter().map(|v| (v.workload.as_str(), v.block, v.round)).collect();
        let rounds: BTreeSet<_> = stored.records.iter().map(|r| (r.workload.as_str(), r.block, r.round)).collect();
        let mut counted = Self {
            blocks: BTreeMap::new(),
            records: BTreeMap::new(),
            failures: Vec::new(),
            disproved: BTreeMap::new(),
            rounds_begun: rounds.union(&void).count() as u64,
        };
        for start in &stored.starts {
            if let Err(failure) = &start.outcome {
                counted.fail(&start.environment, None, start.block, None, failure);
            }
        }
        let mut incomplete = BTreeSet::new();
        for record in &stored.records {
            counted.burst(
                stored,
                record,
                void.contains(&(record.workload.as_str(), record.block, record.round)),
                &mut incomplete,
            );
        }
        counted.checks(stored, &mut incomplete);
        // What was lost or wrong in a part of a block is in doubt in all of it.
        for (workload, environment, block) in incomplete {
            if let Some(blocks) = counted.blocks.get_mut(&(workload, environment)) {
                blocks.0.remove(&block);
            }
        }
        counted
    }

    fn burst(
        &mut self,
        stored: &Stored,
        record: &'a Record,
        void: bool,
        incomplete: &mut BTreeSet<(&'a str, &'a str, u32)>,
    ) {
        let place = (record.workload.as_str(), record.environment.as_str());
        let sample = match &record.outcome {
            Ok(sample) => sample,
            Err(failure) => {
                self.fail(&record.environment, Some(&record.workload), record.block, Some(record.round), failure);
                if !void {
                    incomplete.insert((place.0, place.1, record.block));
                }
                return;
            }
        };
        if void {
            return;
        }
        let read = Latencies::of(sample, stored.run.workloads.iter().find(|w| w.name == place.0));
        let merged = self.blocks.entry(place).or_default().0.entry(record.block).or_insert_with(Merged::new);
        match read.and_then(|latencies| merged.add_sample(sample, &latencies)) {
            Ok(()) => {
                merged.rounds.insert(record.round);
                self.records.entry(place).or_default().push(record);
            }
            Err(message) => {
                let failure = Failure { step: Step::Burst, message };
                self.fail(&record.environment, Some(&record.workload), record.block, Some(record.round), &failure);
                incomplete.insert((place.0, place.1, record.block));
            }
        }
    }

    fn checks(&mut self, stored: &'a Stored, incomplete: &mut BTreeSet<(&'a str, &'a str, u32)>) {
        for checked in &stored.checks {
            let place = (checked.workload.as_str(), checked.environment.as_str());
            // Of the same block: others draw from other seeds.
            let proof = stored.checks.iter().find(|c| {
                c.workload == checked.workload && c.environment == stored.run.baseline && c.block == checked.block
            });
            let proof = proof.and_then(|c| c.outcome.as_ref().ok());
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
            self.fail(&checked.environment, Some(&checked.workload), checked.block, None, &failure);
            // A lost burst was dealt with where it was lost; if its round is void, the block stands.
            if failure.step != Step::Burst {
                incomplete.insert((place.0, place.1, checked.block));
            }
            if failure.step == Step::Verify {
                self.disproved.entry(place).or_insert(failure.message);
            }
        }
    }

    fn fail(&mut self, environment: &str, workload: Option<&str>, block: u32, round: Option<u32>, failure: &Failure) {
        self.failures.push(FailureRow {
            environment: environment.into(),
            workload: workload.map(Into::into),
            block,
            round,
            step: failure.step,
            message: failure.message.clone(),
        });
    }
}
