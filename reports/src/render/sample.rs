//! Comparisons written down by hand: what the renderers' tests draw.

use hdrhistogram::Histogram;

use crate::comparison::{
    Cell, Claim, Comparison, ControlState, Distribution, Environment, FailureRow, Finding, Flag, Headline, HeatMap,
    Hint, Insertions, Latency, Method, Metric, OpenLoop, Outcome, OverheadAt, Resolution, Role, Seen, Severity,
    Verdict, Withheld,
};
use crate::record::{CONTROL, EnvironmentPlan, Step, Void, WorkloadPlan};
use crate::statistics::{Estimate, Interval};

/// Overheads by name of environment, for environments of the samples.
const COSTS: [(&str, f64); 10] = [
    ("bare", 1.0),
    (CONTROL, 1.003),
    ("runc", 1.03),
    ("gvisor", 3.1),
    ("qemu", 9.4),
    ("qemu-unsafe", 0.41),
    ("chroot", 1.001),
    ("namespaces", 1.012),
    ("bubblewrap", 1.06),
    ("podman", 1.35),
];

/// The example's plan without the work of making up its rows.
fn example() -> crate::record::Run {
    crate::example::Example { blocks: 0, rounds: 2, seed: 1 }.build().run
}

/// The example run, with numbers.
pub fn comparison() -> Comparison {
    of(example())
}

/// Nine environments and eight workloads.
pub fn large() -> Comparison {
    let mut run = example();
    for (name, _) in &COSTS[6..] {
        let plan = EnvironmentPlan { name: (*name).into(), runner: (*name).into(), ..run.environments[2].clone() };
        run.environments.insert(2, plan);
    }
    for name in ["disk/randread", "disk/randwrite"] {
        let plan = WorkloadPlan { name: name.into(), ..run.workloads[3].clone() };
        run.workloads.insert(4, plan);
    }
    of(run)
}

/// Text of somebody who wants to break a report.
pub fn hostile() -> Comparison {
    const NASTY: &str = "<script>alert('x')</script>|\"a\",`b`\n\u{1b}[31m](http://evil.example)=1";
    let mut run = example();
    run.suite = NASTY.into();
    run.command = NASTY.into();
    run.id = NASTY.into();
    run.suite_toml = NASTY.into();
    run.host.push((NASTY.into(), NASTY.into()));
    run.nested = Some(NASTY.into());
    run.labels.insert(NASTY.into(), NASTY.into());
    run.pinning = NASTY.into();
    for plan in &mut run.environments {
        plan.version = Some(NASTY.into());
        plan.data_path = NASTY.into();
        plan.programs.iter_mut().for_each(|program| program.path = NASTY.into());
        plan.settings.insert(NASTY.into(), NASTY.into());
        if plan.skipped.is_some() {
            plan.skipped = Some(NASTY.into());
        }
    }
    run.environments[3].name = NASTY.into();
    run.workloads[2].name = NASTY.into();
    run.workloads[2].about = NASTY.into();
    let mut c = of(run);
    for failure in &mut c.failures {
        failure.message = NASTY.into();
    }
    c.voids[0].reason = NASTY.into();
    c.invalid.push(NASTY.into());
    c.remarks.push(NASTY.into());
    for cell in &mut c.cells {
        for flag in &mut cell.flags {
            flag.evidence = NASTY.into();
        }
    }
    for environment in &mut c.environments {
        for hint in &mut environment.hints {
            (hint.workloads, hint.evidence, hint.change) = (vec![NASTY.into()], NASTY.into(), NASTY.into());
        }
        environment.facts.push((NASTY.into(), NASTY.into()));
    }
    c.cells[0].finding = Err(Withheld::Failed(NASTY.into()));
    c
}

/// Five blocks: no finite intervals, percentiles without enough operations, interrupted.
pub fn short() -> Comparison {
    let mut c = comparison();
    c.blocks = 5;
    c.ending = crate::record::Ending::Interrupted;
    for cell in c.cells.iter_mut().chain(&mut c.control) {
        cell.blocks = 5;
        if let Ok(finding) = &mut cell.finding {
            finding.overhead.interval = None;
            finding.difference.interval = None;
        }
    }
    for resolution in &mut c.resolution {
        resolution.noise_floor = None;
        resolution.smallest_visible = None;
        resolution.state = ControlState::Unknown("5 blocks; 6 needed".into());
    }
    c
}

fn cost(environment: &str, w: usize) -> f64 {
    let base = COSTS.iter().find(|(name, _)| *name == environment).map_or(2.0, |(_, cost)| *cost);
    // Some workloads feel a box more than others.
    base.powf(0.4 + 0.25 * w as f64)
}

fn around(value: f64, share: f64) -> Estimate {
    let half = value.abs() * share;
    let interval = Interval { low: value - half, high: value + 1.1 * half, confidence: 0.95 };
    Estimate { value, interval: Some(interval) }
}

fn of(run: crate::record::Run) -> Comparison {
    let mut c = Comparison {
        ending: crate::record::Ending::Complete,
        stopped: None,
        seconds: Some(96.4),
        method: Method::default(),
        blocks: run.blocks,
        environments: Vec::new(),
        cells: Vec::new(),
        control: Vec::new(),
        distributions: Vec::new(),
        resolution: Vec::new(),
        insertions: Vec::new(),
        voids: vec![Void {
            block: 2,
            round: 1,
            workload: run.workloads[1].name.clone(),
            reason: "canary 3.4 ms, median 0.2 ms".into(),
        }],
        rounds_begun: 97,
        failures: Vec::new(),
        forgets: None,
        invalid: Vec::new(),
        labels: Default::default(),
        remarks: vec!["the host is itself a guest (kvm-clock)".into()],
        run,
    };
    let run = c.run.clone();
    for (w, workload) in run.workloads.iter().enumerate() {
        for plan in run.environments.iter().filter(|e| e.skipped.is_none()) {
            c.distributions.push(distribution(workload, plan, w));
            if workload.kind() == "sqlite/insertions" && plan.name != CONTROL {
                c.insertions.push(insertions(workload, plan, w));
            }
            if plan.name == run.baseline {
                continue;
            }
            for metric in Metric::ALL {
                let cell = cell(workload, plan, w, metric);
                if plan.name == CONTROL { c.control.push(cell) } else { c.cells.push(cell) }
            }
        }
        for metric in Metric::ALL {
            c.resolution.push(Resolution {
                workload: workload.name.clone(),
                metric,
                control: Some(around(1.003, 0.012 + 0.004 * w as f64)),
                noise_floor: Some(0.012 + 0.004 * w as f64),
                smallest_visible: Some(0.018 + 0.006 * w as f64),
                state: ControlState::Sound,
            });
        }
    }
    crate::comparison::claim(&mut c);
    // A failure in one environment only.
    let (workload, unlucky) = (run.workloads[4].name.clone(), run.environments[4].name.clone());
    let message = "the connection was reset by the guest\nConnection reset by peer (os error 104)";
    for cell in c.cells.iter_mut().filter(|cell| cell.workload == workload && cell.environment == unlucky) {
        cell.finding = Err(Withheld::Failed(message.into()));
    }
    c.failures.push(FailureRow {
        environment: unlucky,
        workload: Some(workload),
        block: 3,
        round: Some(1),
        step: Step::Burst,
        message: message.into(),
    });
    c.environments = run.environments.iter().map(|plan| environment(&c, plan)).collect();
    c
}

fn environment(c: &Comparison, plan: &EnvironmentPlan) -> Environment {
    let role = match plan.name.as_str() {
        name if name == c.run.baseline => Role::Baseline,
        CONTROL => Role::Control,
        _ => Role::Compared,
    };
    let outcome = match &plan.skipped {
        Some(why) => Outcome::Skipped(why.clone()),
        None if c.failures.iter().any(|f| f.environment == plan.name) => {
            Outcome::Partial("burst failed, 1 failure".into())
        }
        None => Outcome::Measured,
    };
    let ran = plan.skipped.is_none();
    let headline = |w: &WorkloadPlan| {
        let metric = Metric::primary(w);
        let cell = c.cell(&w.name, &plan.name, metric)?;
        Some(Headline { workload: w.name.clone(), metric, overhead: cell.overhead(), verdict: cell.verdict })
    };
    Environment {
        role,
        outcome,
        starts_ms: if ran { vec![70.0, 74.0, 73.0, 79.0] } else { Vec::new() },
        start_ms: ran.then(|| around(74.0, 0.05)),
        stops_ms: if ran { vec![7.0, 7.4, 7.3, 7.9] } else { Vec::new() },
        stop_ms: ran.then(|| around(7.4, 0.05)),
        memory_bytes: ran.then_some(31 << 20),
        clock_ns: ran.then_some(25.0),
        facts: vec![("kernel".into(), "6.1.0".into()), ("clock source".into(), "tsc".into())],
        headlines: c.run.workloads.iter().filter_map(headline).collect(),
        beside: Vec::new(),
        flags: Vec::new(),
        hints: if role == Role::Compared && ran { vec![hint(c)] } else { Vec::new() },
        plan: plan.clone(),
    }
}

fn hint(c: &Comparison) -> Hint {
    Hint {
        name: "seccomp",
        what: "system calls pass through filters",
        workloads: vec![c.run.workloads[0].name.clone()],
        felt: false,
        evidence: "filters on its process: 1, on the baseline's: 0".into(),
        change: "no filter; now seccomp=default".into(),
    }
}

fn cell(workload: &WorkloadPlan, plan: &EnvironmentPlan, w: usize, metric: Metric) -> Cell {
    let unit = metric.unit(workload);
    let net = match metric {
        Metric::P50 => 142_000.0,
        Metric::P90 => 160_000.0,
        Metric::P99 => 410_000.0,
        Metric::P999 => 1_900_000.0,
        Metric::Mean => 155_000.0,
        Metric::Max => 8_100_000.0,
        Metric::Throughput if workload.streams => 812e6,
        Metric::Throughput => 6_450.0,
    };
    let ratio = cost(&plan.name, w);
    let gross = if unit.more_is_better() { net / ratio } else { net * ratio };
    let finding = Finding {
        net,
        gross,
        overhead: around(ratio, 0.02 + 0.01 * w as f64),
        difference: around(142_000.0 * (ratio - 1.0), 0.08),
        geometric: around(ratio * 1.001, 0.03),
        ratio_of_means: ratio * 1.002,
        ratios: (0..8).map(|b| (b, ratio * (1.0 + 0.01 * (f64::from(b) - 3.5)))).collect(),
        costs: (0..8).map(|b| (b, 142_000.0 * ratio)).collect(),
    };
    let mut flags = Vec::new();
    if plan.name == "qemu-unsafe" && workload.durable {
        let evidence = "guest flushed 520 times, the host's device 3 times";
        flags.push(Flag { name: "fsync-not-durable", severity: Severity::Fatal, evidence: evidence.into() });
    }
    if let Some(how) = &plan.emulated {
        flags.push(Flag { name: "emulated-cpu", severity: Severity::Doubt, evidence: how.clone() });
    }
    flags.push(Flag { name: "nested", severity: Severity::Note, evidence: "the host is itself a guest".into() });
    let verdict = match flags.first().map(|f| f.severity) {
        Some(Severity::Fatal) => Verdict::Invalid,
        Some(Severity::Doubt) => Verdict::Suspect,
        _ => Verdict::Trusted,
    };
    let withheld = metric == Metric::P999 && workload.durable;
    Cell {
        workload: workload.name.clone(),
        environment: plan.name.clone(),
        metric,
        unit,
        blocks: 8,
        operations: 4_160,
        finding: if withheld { Err(Withheld::TooFewOperations { have: 520, more: 49_480 }) } else { Ok(finding) },
        claim: Claim::None,
        verdict,
        flags,
    }
}

fn insertions(workload: &WorkloadPlan, plan: &EnvironmentPlan, w: usize) -> Insertions {
    let disqualified = if plan.name == "qemu-unsafe" { vec!["fsync-not-durable"] } else { Vec::new() };
    Insertions {
        workload: workload.name.clone(),
        environment: plan.name.clone(),
        seconds: around(3.0 * cost(&plan.name, w), 0.05),
        operations: 960,
        scaled: true,
        disqualified,
    }
}

/// Latencies of an octave above and below `middle` (ns), with a slow spell in the third block.
fn heat(middle: f64) -> HeatMap {
    let mut counts = std::collections::BTreeMap::new();
    for column in 0..120 {
        let slow = if column / 15 == 2 { 4.0 } else { 1.0 };
        for (share, count) in [(0.7, 40), (1.0, 200), (1.4, 60), (9.0, u64::from(column % 7 == 0))] {
            let class = workloads::timeline::class((middle * slow * share) as u64);
            if count > 0 {
                *counts.entry((class, column)).or_default() += count;
            }
        }
    }
    HeatMap { blocks: 8, columns: 120, length_ns: 1_600_000_000, counts }
}

fn distribution(workload: &WorkloadPlan, plan: &EnvironmentPlan, w: usize) -> Distribution {
    let ratio = cost(&plan.name, w);
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    for i in 0..4000u32 {
        let p = (f64::from(i) + 0.5) / 4000.0;
        // Log-logistic: skewed and heavy-tailed, as latencies are.
        let ns = 142_000.0 * ratio * (p / (1.0 - p)).powf(0.18);
        histogram.saturating_record(ns as u64);
    }
    let quantiles = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
    let carried = if workload.durable { 0.99 } else { 0.999 };
    let mut lateness = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    (1..2000).for_each(|i| lateness.saturating_record(100 + i));
    let open = workload.rate().map(|rate| OpenLoop {
        service: crate::comparison::Packed::new(&histogram),
        lateness,
        rate: rate as f64,
        done: rate as f64 / ratio.max(1.0),
    });
    let counters = match workload.kind() {
        "sqlite/writers" => [("busy".to_string(), (20.0 * ratio) as u64)].into(),
        _ => Default::default(),
    };
    let at = |quantile: &f64| OverheadAt {
        quantile: *quantile,
        overhead: around(ratio * (1.0 + 0.2 * (quantile - 0.5)), 0.02 + 0.05 * quantile),
    };
    Distribution {
        cut_short: (0, 16),
        beyond_half: Some(0.63),
        workload: workload.name.clone(),
        environment: plan.name.clone(),
        latency: Latency::of(workload),
        histogram: crate::comparison::Packed::new(&histogram),
        open,
        counters,
        warmup_operations: 1_040,
        heat: Some(heat(142_000.0 * ratio)),
        batch: 1,
        operations: 4_160,
        bytes: 4_160 * 4096,
        operations_per_second: 6_450.0 / ratio,
        bytes_per_second: 812e6 / ratio,
        blocks: 8,
        stalls_per_million: Some(12.0),
        stated: None,
        carried,
        overhead: if plan.name == "bare" {
            Vec::new()
        } else {
            quantiles.iter().filter(|q| **q <= carried).map(at).collect()
        },
        seen: seen(plan, ratio, workload.durable),
        flags: Vec::new(),
    }
}

/// A made-up box takes as much more of the CPU as of the time, and nobody saw the disk of one that emulates its own.
fn seen(plan: &EnvironmentPlan, ratio: f64, durable: bool) -> Seen {
    let disk = |count: f64| plan.emulated.is_none().then_some(if durable { count } else { 0.0 });
    Seen {
        cpu_ns: Some(38_000.0 * ratio),
        cpu: (plan.name != "bare").then(|| around(ratio, 0.03)),
        split: None,
        reads: disk(0.0),
        bytes_read: disk(0.0),
        writes: disk(3.0),
        bytes_written: disk(12_288.0),
        flushes: disk(1.0),
        switches: None,
        packets: None,
        cache_bytes: None,
        memory_bytes: None,
        looks: None,
    }
}
