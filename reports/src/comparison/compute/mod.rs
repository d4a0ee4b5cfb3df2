//! The comparison itself: ratios within blocks, and the statistics over blocks.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::{Blocks, Counted, Merged, OfWorkload};
use super::{
    Cell, Claim, Comparison, ControlState, Distribution, Environment, FailureRow, Finding, Flag, Headline, HeatMap,
    Latency, Method, Metric, OpenLoop, Outcome, OverheadAt, Packed, Resolution, Role, Seen, Severity, Verdict,
    Withheld, claims, flags, hints, insertions, neighbour,
};
use workloads::agent::CLOCK;
use workloads::facts::{CONNECTION, WHOLE};

use crate::record::{CONTROL, Ending, EnvironmentPlan, Record, Run, Stored, WorkloadPlan};
use crate::statistics::{
    FEWEST_FOR_INTERVAL, hodges_lehmann, median, noise_floor, robust_sigma, sigma, smallest_visible, student_mean,
};

/// Where the curves of overhead along the percentiles have their points.
const QUANTILES: [f64; 19] =
    [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999];

/// Works out what a run says: every environment against the baseline.
///
/// Rounds that are void are dropped for all environments; a block in which an environment lost a burst or failed a check
/// is dropped for that environment. An interrupted run gives what its finished blocks carry.
pub fn compare(stored: &Stored, method: Method) -> Comparison {
    let mut counted = Counted::new(stored);
    let run = &stored.run;
    let mut c = Comparison {
        run: run.clone(),
        ending: stored.ending,
        seconds: stored.seconds,
        stopped: stored.stopped.clone(),
        method,
        blocks: stored.records.iter().map(|r| r.block).collect::<BTreeSet<_>>().len() as u32,
        environments: Vec::new(),
        cells: Vec::new(),
        control: Vec::new(),
        distributions: Vec::new(),
        resolution: Vec::new(),
        insertions: Vec::new(),
        voids: stored.voids.clone(),
        rounds_begun: counted.rounds_begun,
        failures: Vec::new(),
        forgets: flags::disk::baseline_forgets(stored),
        invalid: Vec::new(),
        labels: BTreeMap::new(),
        remarks: Vec::new(),
    };
    for workload in &run.workloads {
        let own = counted.workload(&workload.name);
        for plan in run.environments.iter().filter(|e| e.skipped.is_none()) {
            let failed = counted.failure(&workload.name, &plan.name).cloned();
            compare_pair(&mut c, stored, &own, failed.as_ref(), workload, plan);
        }
    }
    let measured = counted.measured.clone();
    c.failures = counted.failures();
    c.environments = run.environments.iter().map(|e| environment(stored, &c.failures, &measured, e, method)).collect();
    let own = |name: &str| {
        let own = c.distributions.iter().filter(|d| d.environment == name);
        own.flat_map(|d| d.flags.iter().map(|flag| (d.workload.as_str(), flag))).collect::<Vec<_>>()
    };
    let hints = hints::of(stored, &c.environments, own);
    c.environments.iter_mut().zip(hints).for_each(|(e, hints)| e.hints = hints);
    let differing = claims::disagreeing(&c.control, &run.workloads);
    for workload in &run.workloads {
        resolve(&mut c, workload, &differing);
    }
    claims::judge(&mut c);
    for e in &mut c.environments {
        let cells = if e.role == Role::Control { &c.control } else { &c.cells };
        e.headlines = headlines(cells, &run.workloads, &e.plan.name);
    }
    let beside: Vec<_> = run.environments.iter().map(|plan| neighbour::of(&c, stored, plan)).collect();
    c.environments.iter_mut().zip(beside).for_each(|(e, beside)| e.beside = beside);
    claims::judge_neighbours(&mut c);
    c.labels = crate::explain::labels(&c);
    remark(&mut c, stored);
    c
}

/// Distribution and cells of one workload in one environment.
fn compare_pair(
    c: &mut Comparison,
    stored: &Stored,
    counted: &OfWorkload,
    failed: Option<&FailureRow>,
    workload: &WorkloadPlan,
    plan: &EnvironmentPlan,
) {
    let (w, e, base) = (workload.name.as_str(), plan.name.as_str(), stored.run.baseline.as_str());
    let none = Blocks::default();
    let own = counted.blocks.get(e).unwrap_or(&none);
    let net = counted.blocks.get(base).unwrap_or(&none);
    // Both copies of the baseline: what one burst of it happened to be is then shared by half as much.
    let second = counted.blocks.get(CONTROL).filter(|_| e != CONTROL && e != base);
    let pair = Pair::new(own, net, second, workload, c.method);
    let mut found = flags::of(&flags::Case {
        stored,
        workload,
        plan,
        merged: &pooled(own.0.values()),
        records: counted.records.get(e).map_or(&[], Vec::as_slice),
        checks: &counted.checks,
        baseline: &pooled(net.0.values()),
        baseline_records: counted.records.get(base).map_or(&[], Vec::as_slice),
        overhead: pair.finding(Metric::primary(workload)).ok().map(|f| f.overhead),
        forgets: c.forgets.as_deref(),
    });
    if let Some(message) = counted.disproved.get(e) {
        let evidence = message.lines().next().unwrap_or_default().to_string();
        found.push(Flag { name: "check-failed", severity: Severity::Fatal, evidence });
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    if !own.0.is_empty() {
        let curve = if e == base { Vec::new() } else { pair.curve() };
        let records = counted.records.get(e).map_or(&[][..], Vec::as_slice);
        let baseline = counted.records.get(base).filter(|_| e != base).map_or(&[][..], Vec::as_slice);
        let seen = Seen::of(&in_blocks(records, own), &in_blocks(baseline, net), c.method.confidence);
        c.distributions.push(distribution(stored, workload, e, own, records, curve, seen, &found, c.method));
        c.insertions.extend(insertions::place(workload, e, own, records, &found, c.method.confidence));
    }
    if e == base {
        return;
    }
    let [cost, median] = [Metric::Throughput, Metric::P50].map(|metric| Some(pair.finding(metric).ok()?.overhead));
    let bursts = counted.records.get(e).map_or(&[][..], Vec::as_slice);
    let apart = cost.zip(median).filter(|_| !workload.scheduled() && !workload.is_imported());
    let apart = apart.and_then(|(cost, median)| flags::mean_apart(cost, median, bursts, c.method.margin));
    for metric in Metric::ALL {
        let mut flags = found.clone();
        let finding = pair.finding(metric).map_err(|why| match (why, counted.disproved.get(e), failed) {
            (Withheld::NoCommonBlock, Some(message), _) => Withheld::Failed(message.clone()),
            (Withheld::NoCommonBlock, None, Some(f)) => Withheld::Failed(f.message.clone()),
            (why, _, _) => why,
        });
        if let Ok(f) = &finding {
            flags.extend(flags::heavy_tail(metric, f));
            flags.extend(flags::one_value(metric));
        }
        if matches!(metric, Metric::Throughput | Metric::Mean) {
            flags.extend(apart.clone());
            flags.sort_by_key(|f| std::cmp::Reverse(f.severity));
        }
        let verdict = verdict(&flags);
        let cell = Cell {
            workload: w.into(),
            environment: e.into(),
            metric,
            unit: metric.unit(workload),
            blocks: pair.common.len() as u32,
            operations: pair.common.iter().map(|c| c.own.operations).sum(),
            finding,
            claim: Claim::None,
            verdict,
            flags,
        };
        if e == CONTROL { c.control.push(cell) } else { c.cells.push(cell) }
    }
}

/// The gravest flag decides.
fn verdict(flags: &[Flag]) -> Verdict {
    match flags.iter().map(|f| f.severity).max() {
        Some(Severity::Fatal) => Verdict::Invalid,
        Some(Severity::Doubt) => Verdict::Suspect,
        Some(Severity::Note) | None => Verdict::Trusted,
    }
}

/// A block of an environment beside those of the baseline: one, and where it is whole that of the control.
struct Common<'a> {
    block: u32,
    own: &'a Merged,
    nets: Vec<&'a Merged>,
}

impl Common<'_> {
    /// The baseline's value: the geometric mean of both, since ratios are what is formed with it.
    fn net(&self, value: impl Fn(&Merged) -> Option<f64>) -> Option<f64> {
        // A logarithm and back is not quite the number, and an environment that is the same as its baseline costs exactly 1.
        if let [only] = self.nets.as_slice() {
            return value(only);
        }
        let logs: Option<Vec<f64>> = self.nets.iter().map(|net| Some(value(net)?.ln())).collect();
        let logs = logs?;
        Some((logs.iter().sum::<f64>() / logs.len() as f64).exp())
    }
}

/// The blocks that an environment and the baseline have in common.
struct Pair<'a> {
    common: Vec<Common<'a>>,
    /// All common blocks of the environment, and of the baseline, added up.
    pools: (Merged, Merged),
    workload: &'a WorkloadPlan,
    method: Method,
}

impl<'a> Pair<'a> {
    fn new(
        own: &'a Blocks,
        net: &'a Blocks,
        second: Option<&'a Blocks>,
        workload: &'a WorkloadPlan,
        method: Method,
    ) -> Self {
        // A block that was cut off leaves rounds on one side only, taken under other weather: it can't be paired.
        let paired = |(block, own): (&u32, &'a Merged)| {
            let whole = |side: &'a Blocks| side.0.get(block).filter(|net| net.rounds == own.rounds);
            let nets = [Some(whole(net)?), second.and_then(whole)].into_iter().flatten().collect();
            Some(Common { block: *block, own, nets })
        };
        let common: Vec<_> = own.0.iter().filter_map(paired).collect();
        let pools = (pooled(common.iter().map(|c| c.own)), pooled(common.iter().flat_map(|c| c.nets.iter().copied())));
        Self { common, pools, workload, method }
    }

    /// Entries of the smallest histogram of any block on either side.
    fn smallest(&self) -> u64 {
        let sides = self.common.iter().flat_map(|c| c.nets.iter().copied().chain([c.own]));
        sides.map(|side| side.histogram.len()).min().unwrap_or(0)
    }

    /// Operations per entry, on whichever side there are more.
    fn batch(&self) -> u32 {
        self.pools.0.batch.max(self.pools.1.batch)
    }

    fn finding(&self, metric: Metric) -> Result<Finding, Withheld> {
        if self.common.is_empty() {
            return Err(Withheld::NoCommonBlock);
        }
        if !self.common.iter().all(|c| c.own.says(metric) && c.nets.iter().all(|net| net.says(metric))) {
            return Err(Withheld::NotStated);
        }
        if metric.is_tail() && self.batch() > 1 {
            return Err(Withheld::Batched { batch: self.batch() });
        }
        if let Some(quantile) = metric.quantile() {
            let (have, need) = (self.smallest(), needed(quantile, self.method.beyond));
            if have < need {
                return Err(Withheld::TooFewOperations { have, more: need - have });
            }
        }
        let confidence = self.method.confidence;
        let worse = |own: f64, net: f64| if metric == Metric::Throughput { net / own } else { own / net };
        let value = |side: &Merged| side.value(metric, self.workload);
        let cost = |side: &Merged| side.per_operation(metric, self.workload);
        let values: Vec<(u32, f64, f64, f64, f64)> = self
            .common
            .iter()
            .filter_map(|c| Some((c.block, value(c.own)?, c.net(value)?, cost(c.own)?, c.net(cost)?)))
            .collect();
        let ratios: Vec<(u32, f64)> = values.iter().map(|(b, own, net, ..)| (*b, worse(*own, *net))).collect();
        let logs: Vec<f64> = ratios.iter().map(|(_, r)| r.ln()).collect();
        let differences: Vec<f64> = values.iter().map(|v| v.3 - v.4).collect();
        let pool = |side: &Merged| side.value(metric, self.workload).ok_or(Withheld::NoCommonBlock);
        Ok(Finding {
            net: pool(&self.pools.1)?,
            gross: pool(&self.pools.0)?,
            overhead: hodges_lehmann(&logs, confidence).ok_or(Withheld::NoCommonBlock)?.map(f64::exp),
            difference: hodges_lehmann(&differences, confidence).ok_or(Withheld::NoCommonBlock)?,
            geometric: student_mean(&logs, confidence).ok_or(Withheld::NoCommonBlock)?.map(f64::exp),
            ratio_of_means: worse(values.iter().map(|v| v.1).sum(), values.iter().map(|v| v.2).sum()),
            ratios,
            costs: values.iter().map(|v| (v.0, v.3)).collect(),
        })
    }

    fn curve(&self) -> Vec<OverheadAt> {
        let smallest = self.smallest();
        let said = |side: &Merged, q| side.stated.as_ref().is_none_or(|stated| stated.has(q));
        let stated = |q: f64| self.common.iter().all(|c| said(c.own, q) && c.nets.iter().all(|net| said(net, q)));
        let carried = QUANTILES.into_iter().filter(|q| stated(*q) && smallest >= needed(*q, self.method.beyond));
        let point = |quantile: f64| {
            let at = |side: &Merged| Some(side.quantile(quantile));
            let logs = self.common.iter().filter_map(|c| Some((at(c.own)? / c.net(at)?).ln()));
            let overhead = hodges_lehmann(&logs.collect::<Vec<_>>(), self.method.confidence)?.map(f64::exp);
            Some(OverheadAt { quantile, overhead })
        };
        carried.filter_map(point).collect()
    }
}

/// Entries that a block needs for a median.
const FEWEST_FOR_MEDIAN: u64 = 5;

/// Looks at the host's counters that take less of the time of the bursts aren't worth a remark.
const LONG_LOOKS: f64 = 0.05;

/// Entries that a block needs for `beyond` of them to lie past the percentile, on the side that is thinner.
///
/// The median is no tail. That of a few operations is a rough value, but not a wrong one, and how rough it is shows between the
/// blocks, which are what an interval is made from: a disk that takes 8 ms a flush can be judged in bursts of 60 ms.
fn needed(quantile: f64, beyond: u64) -> u64 {
    if (quantile - 0.5).abs() < 1e-9 {
        return FEWEST_FOR_MEDIAN;
    }
    let thin = quantile.min(1.0 - quantile);
    // 1 - 0.999 is not quite 0.001: without the slack it would ask for one more.
    (beyond as f64 / thin - 1e-6).ceil() as u64
}

/// The records of the blocks that count.
fn in_blocks<'a>(records: &[&'a Record], blocks: &Blocks) -> Vec<&'a Record> {
    records.iter().copied().filter(|r| blocks.0.contains_key(&r.block)).collect()
}

fn pooled<'a>(parts: impl Iterator<Item = &'a Merged>) -> Merged {
    parts.fold(Merged::new(), |mut all, part| {
        all.add(part);
        all
    })
}

/// The share of `elapsed_ns` that is not taken up by the faster half of the entries, each of so many operations.
fn beyond_half(histogram: &hdrhistogram::Histogram<u64>, batch: u32, elapsed_ns: u64) -> Option<f64> {
    let (mut counted, mut fast, mut all) = (0, 0.0, 0.0);
    for entry in histogram.iter_recorded() {
        let (ns, count) = (histogram.median_equivalent(entry.value_iterated_to()) as f64, entry.count_at_value());
        let in_half = count.min((histogram.len() / 2).saturating_sub(counted));
        counted += count;
        fast += ns * in_half as f64 * f64::from(batch);
        all += ns * count as f64 * f64::from(batch);
    }
    // More than there was: several at a time.
    (histogram.len() > 1 && all <= elapsed_ns as f64 * AT_ONCE).then(|| 1.0 - fast / elapsed_ns as f64)
}

/// One operation after the other fills no more than the measured time, but for what a histogram rounds.
const AT_ONCE: f64 = 1.01;

#[expect(clippy::too_many_arguments, reason = "a distribution is what all of these say of one workload in one place")]
fn distribution(
    stored: &Stored,
    workload: &WorkloadPlan,
    e: &str,
    own: &Blocks,
    records: &[&Record],
    curve: Vec<OverheadAt>,
    seen: Seen,
    flags: &[Flag],
    method: Method,
) -> Distribution {
    let all = pooled(own.0.values());
    let limit = (all.quantile(0.5) * method.stall).min(all.histogram.high() as f64) as u64;
    let stalls = all.histogram.len() - all.histogram.count_between(0, limit);
    let whole = all.stated.as_ref().is_none_or(|stated| stated.percentiles.is_none());
    let smallest = own.0.values().map(|m| m.histogram.len()).min().unwrap_or(0).max(1);
    // Nobody knows the rate of what took nobody knows how long.
    let per_second = |n: u64| if all.elapsed_ns == 0 { 0.0 } else { n as f64 / (all.elapsed_ns as f64 / 1e9) };
    let done = per_second(all.operations);
    let blocks = stored.records.iter().map(|r| r.block.saturating_add(1)).max().unwrap_or(0);
    let beyond_half = beyond_half(&all.histogram, all.batch, all.elapsed_ns).filter(|_| whole && all.open.is_none());
    let open = all.open.map(|open| OpenLoop {
        service: Packed::new(&open.service),
        lateness: open.lateness,
        rate: workload.rate().unwrap_or(0) as f64,
        done,
    });
    Distribution {
        workload: workload.name.clone(),
        environment: e.into(),
        latency: Latency::of(workload),
        open,
        counters: all.counters,
        warmup_operations: all.warmup_operations,
        // A block that doesn't count has a gap of its own width.
        heat: HeatMap::of(in_blocks(records, own).into_iter(), blocks),
        batch: all.batch,
        operations: all.operations,
        cut_short: flags::cut_short(&in_blocks(records, own)),
        beyond_half,
        bytes: all.bytes,
        operations_per_second: done,
        bytes_per_second: per_second(all.bytes),
        blocks: own.0.len() as u32,
        stalls_per_million: whole.then(|| stalls as f64 / all.histogram.len().max(1) as f64 * 1e6),
        carried: (1.0 - method.beyond as f64 / smallest as f64).max(0.0),
        overhead: curve,
        seen,
        flags: flags.to_vec(),
        histogram: Packed::new(&all.histogram),
        stated: all.stated,
    }
}

/// Judges the control in each metric of a workload, and doubts the cells where it failed.
fn resolve(c: &mut Comparison, workload: &WorkloadPlan, differing: &[(String, Metric)]) {
    for metric in Metric::ALL {
        let finding = c
            .control
            .iter()
            .find(|cell| cell.workload == workload.name && cell.metric == metric)
            .and_then(|cell| cell.finding.as_ref().ok());
        let differs = differing.iter().any(|(name, other)| *name == workload.name && *other == metric);
        let mut resolution = resolution(workload, metric, finding, differs, c.method);
        if finding.is_none() && c.control.is_empty() {
            resolution.state = ControlState::Unknown(no_control(&c.run));
        }
        let widest = finding.and_then(|f| wide_interval(f, 0.99));
        if let ControlState::Failed(why) = &resolution.state {
            for cell in c.cells.iter_mut().filter(|cell| cell.workload == workload.name && cell.metric == metric) {
                doubt(cell, why, widest);
            }
        }
        c.resolution.push(resolution);
    }
}

/// Why there is no control at all, and of an import how there would be one.
fn no_control(run: &Run) -> String {
    let hint = if run.suite.starts_with("import ") {
        ": a second series of the baseline's files named `control` would be one"
    } else {
        ""
    };
    format!("there is no control{hint}")
}

/// A failed control makes a cell invalid, unless its overhead is so far out that the control's own error can't explain it.
fn doubt(cell: &mut Cell, why: &str, control: Option<(f64, f64)>) {
    let own = cell.overhead().and_then(|o| o.interval);
    let beyond = match (own, control) {
        (Some(own), Some((low, high))) => own.low > high.max(1.0 / low) || own.high < low.min(1.0 / high),
        _ => false,
    };
    let severity = if beyond { Severity::Doubt } else { Severity::Fatal };
    cell.flags.push(Flag { name: "control-failed", severity, evidence: why.to_string() });
    cell.flags.sort_by_key(|f| std::cmp::Reverse(f.severity));
    cell.verdict = verdict(&cell.flags);
}

fn wide_interval(finding: &Finding, confidence: f64) -> Option<(f64, f64)> {
    claims::widest(&finding.logs(), confidence).map(|i| (i.low.exp(), i.high.exp()))
}

/// The resolution of a metric at best, in log units: three significant digits of a histogram.
const GRAIN: f64 = 0.001;

fn resolution(
    workload: &WorkloadPlan,
    metric: Metric,
    finding: Option<&Finding>,
    differs: bool,
    method: Method,
) -> Resolution {
    let interval = finding.and_then(|f| f.overhead.interval);
    let floor = interval.as_ref().map(noise_floor);
    // The deviation of the median alone is 0 where half of the blocks tie, and nothing sees changes of 0 %.
    let visible = finding.zip(floor).and_then(|(f, floor)| {
        let sigma = robust_sigma(&f.logs())?.max(sigma(&f.logs())?) + GRAIN;
        Some(smallest_visible(sigma, f.ratios.len()).max(floor))
    });
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let state = match (finding, interval, floor) {
        (None, ..) => ControlState::Unknown("the control has no value here".into()),
        (Some(f), None, _) | (Some(f), _, None) => ControlState::Unknown(format!(
            "{} blocks give no finite interval: {FEWEST_FOR_INTERVAL} are needed",
            f.ratios.len()
        )),
        (Some(f), Some(interval), Some(floor)) => {
            let off = (f.overhead.value.ln().abs()).exp_m1();
            match wide_interval(f, 0.99) {
                Some((low, high)) if differs => ControlState::Failed(format!(
                    "the control differs from the baseline in its {}: {:.3} ({low:.3} to {high:.3})",
                    metric.name(),
                    f.overhead.value
                )),
                _ if floor > method.margin => ControlState::Coarse(format!(
                    "the control's interval is {:.3} to {:.3}: changes below {} are noise, the margin is {}",
                    interval.low,
                    interval.high,
                    percent(floor),
                    percent(method.margin)
                )),
                _ if off > method.margin / 2.0 => ControlState::Coarse(format!(
                    "the control is {} off, more than half of the margin of {}",
                    percent(off),
                    percent(method.margin)
                )),
                _ => ControlState::Sound,
            }
        }
    };
    let control = finding.map(|f| f.overhead);
    Resolution {
        workload: workload.name.clone(),
        metric,
        control,
        noise_floor: floor,
        smallest_visible: visible,
        state,
    }
}

/// Why an environment in which nothing failed has no value: its rounds are void, or it had none.
fn never_counted(stored: &Stored, environment: &str) -> String {
    let own = stored.records.iter().filter(|r| r.environment == environment);
    let rounds: BTreeSet<_> = own.map(|r| (r.workload.as_str(), r.block, r.round)).collect();
    let void = stored.voids.iter().rfind(|v| rounds.contains(&(v.workload.as_str(), v.block, v.round)));
    match void {
        Some(last) => {
            format!("all of its rounds are void ({} of them), the last because {}", rounds.len(), last.reason)
        }
        None => "the run ended before it had a turn".into(),
    }
}

fn environment(
    stored: &Stored,
    failures: &[FailureRow],
    measured: &BTreeSet<&str>,
    plan: &EnvironmentPlan,
    method: Method,
) -> Environment {
    let starts: Vec<_> = stored.starts.iter().filter(|s| s.environment == plan.name).collect();
    let mut own = failures.iter().filter(|f| f.environment == plan.name);
    let any = measured.contains(plan.name.as_str());
    let outcome = match (&plan.skipped, own.next(), any) {
        (Some(why), _, _) => Outcome::Skipped(why.clone()),
        (None, None, true) => Outcome::Measured,
        (None, None, false) => Outcome::Failed(never_counted(stored, &plan.name)),
        (None, Some(first), true) => Outcome::Partial(format!("{} ({} failures)", describe(first), own.count() + 1)),
        (None, Some(first), false) => Outcome::Failed(describe(first)),
    };
    let starts_ms: Vec<f64> =
        starts.iter().filter_map(|s| s.outcome.as_ref().ok()).map(|ns| *ns as f64 / 1e6).collect();
    let stops_ms: Vec<f64> = starts.iter().filter_map(|s| s.stop_ns).map(|ns| ns as f64 / 1e6).collect();
    let held: Vec<f64> = starts.iter().filter_map(|s| s.memory_bytes).map(|b| b as f64).collect();
    // Beside the bursts where it was looked at there: just after a start a clock may be a thousand times dearer.
    let beside =
        stored.checks.iter().filter(|c| c.environment == plan.name).filter_map(|c| c.facts.get(CLOCK)?.parse().ok());
    let mut clocks: Vec<f64> = beside.collect();
    if clocks.is_empty() {
        clocks.extend(starts.iter().filter_map(|s| Some(s.identity.as_ref()?.clock_ns)));
    }
    let middle = |values: &[f64]| median(values, method.confidence);
    Environment {
        role: match plan.name.as_str() {
            name if name == stored.run.baseline => Role::Baseline,
            CONTROL => Role::Control,
            _ => Role::Compared,
        },
        outcome,
        start_ms: middle(&starts_ms),
        starts_ms,
        stop_ms: middle(&stops_ms),
        stops_ms,
        memory_bytes: middle(&held).map(|m| m.value as u64),
        clock_ns: middle(&clocks).map(|m| m.value),
        facts: [flags::facts(&starts), connections(stored, &plan.name)].concat(),
        headlines: Vec::new(),
        beside: Vec::new(),
        flags: flags::of_environment(&stored.run, plan, &starts),
        hints: Vec::new(),
        plan: plan.clone(),
    }
}

/// How connections came into an environment, by workload, where they did.
fn connections(stored: &Stored, environment: &str) -> Vec<(String, String)> {
    let own = stored.checks.iter().filter(|c| c.environment == environment);
    let came = own.filter_map(|c| Some((connection_of(&c.workload), c.facts.get(CONNECTION)?.clone())));
    came.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The fact of an environment that says how the connections of a workload came into it.
pub(crate) fn connection_of(workload: &str) -> String {
    format!("connection of {workload}")
}

/// Of work that has an end, that bursts came only so far. Those that the time limit ended have a flag of their own.
fn beginning(stored: &Stored, workload: &str) -> Option<String> {
    let whole = stored.checks.iter().filter(|c| c.workload == workload).find_map(|c| c.facts.get(WHOLE)?.parse().ok());
    let bursts = stored.records.iter().filter(|r| r.workload == workload).filter_map(|r| r.outcome.as_ref().ok());
    let (whole, least) = (whole?, bursts.filter(|sample| !sample.cut_short).map(|sample| sample.operations).min()?);
    (least < whole).then(|| {
        format!(
            "{workload}: bursts of {least} of the {whole} operations that there are say nothing of the rest; set operations={whole} to \
             have all of them in each"
        )
    })
}

fn describe(failure: &FailureRow) -> String {
    let place = failure.workload.as_deref().unwrap_or("start");
    format!("{place}, block {}: {}", failure.block, failure.message)
}

fn headlines(cells: &[Cell], workloads: &[WorkloadPlan], environment: &str) -> Vec<Headline> {
    let primary = |c: &&Cell| c.environment == environment && c.metric.leads(&c.workload, workloads);
    let headline = |c: &Cell| Headline {
        workload: c.workload.clone(),
        metric: c.metric,
        overhead: c.overhead(),
        verdict: c.verdict,
    };
    cells.iter().filter(primary).map(headline).collect()
}

/// Remarks on the run as a whole, and the reasons why it is invalid.
fn remark(c: &mut Comparison, stored: &Stored) {
    let share = c.voids.len() as f64 / c.rounds_begun.max(1) as f64;
    if share > c.method.void_limit {
        c.invalid.push(format!(
            "{} of {} rounds are void ({:.0} %, at most {:.0} % may be): this machine was too restless",
            c.voids.len(),
            c.rounds_begun,
            100.0 * share,
            100.0 * c.method.void_limit
        ));
    }
    if c.distributions.iter().all(|d| d.environment != c.run.baseline) {
        c.invalid
            .push(format!("the baseline `{}` has no finished block: there is nothing to compare with", c.run.baseline));
    }
    if c.blocks < FEWEST_FOR_INTERVAL {
        let blocks = if c.blocks == 1 { "1 block gives".to_string() } else { format!("{} blocks give", c.blocks) };
        c.remarks.push(format!("{blocks} no finite interval: {FEWEST_FOR_INTERVAL} are needed"));
    }
    match (c.ending, &c.stopped) {
        (_, Some(why)) => c.remarks.push(why.clone()),
        (Ending::Complete, None) => {}
        (Ending::Interrupted, None) => {
            c.remarks.push(format!("interrupted: {} of {} blocks have bursts", c.blocks, c.run.blocks));
        }
        (Ending::Unfinished, None) => c.remarks.push("still running, or killed: what was finished counts".into()),
    }
    let unsaid = |r: &Record| r.outcome.as_ref().is_ok_and(|s| s.drawn.is_none());
    let own = |r: &Record| c.run.workloads.iter().any(|w| w.name == r.workload && !w.is_imported());
    if stored.records.iter().any(|r| unsaid(r) && own(r)) {
        c.remarks.push(
            "stored before bursts said what they draw: where operations are drawn at random, the baseline drew other operations than \
             the rest"
                .into(),
        );
    }
    let beginnings = c.run.workloads.iter().filter_map(|w| beginning(stored, &w.name));
    c.remarks.extend(beginnings.collect::<Vec<_>>());
    if let Some(share) = super::seen::looks(&stored.records).filter(|share| *share > LONG_LOOKS) {
        c.remarks.push(format!(
            "the host's counters were read for {:.1} % of the time of the bursts, beside them and in none: longer bursts make that less",
            100.0 * share
        ));
    }
    if let Some(evidence) = &c.run.nested {
        c.remarks.push(format!("the host is itself a guest: {evidence}"));
    }
    if let Some((_, container)) = c.run.host.iter().find(|(name, _)| name == "container") {
        let (kind, evidence) = container.split_once(": ").unwrap_or((container, "by its marks"));
        c.remarks.push(format!("the host is itself a container ({kind}): {evidence}"));
    }
}

#[cfg(test)]
mod tests;
