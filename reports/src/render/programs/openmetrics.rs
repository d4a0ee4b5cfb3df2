//! A run as OpenMetrics text, for Prometheus and all that scrapes or pushes what it reads.
//!
//! The format: OpenMetrics 1.0. Base units, so latencies are seconds. Without timestamps: when the run was is for whoever scrapes
//! or pushes to say.

use anyhow::Result;

use super::{figure, series};
use crate::comparison::{Comparison, Environment, Metric, Role, Verdict, quantile};
use crate::record::WorkloadPlan;
use crate::render::{Render, escape, words};
use crate::statistics::Estimate;

/// The format `openmetrics`.
#[derive(Debug, Clone, Copy)]
pub struct OpenMetrics;

/// The quantiles of latencies, as far as the operations carry them.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

impl Render for OpenMetrics {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = String::new();
        run(c, &mut out);
        overheads(c, &mut out);
        verdicts(c, &mut out);
        latencies(c, &mut out);
        environments(c, &mut out);
        out.push_str("# EOF\n");
        Ok(out.into_bytes())
    }
}

fn run(c: &Comparison, out: &mut String) {
    family(out, "tarebench_run", "info", "", "What was run, and when.");
    let labels = labels(&[
        ("run", &c.run.id),
        ("suite", &c.run.suite),
        ("baseline", &c.run.baseline),
        ("started", &c.run.started),
        ("version", &c.run.version),
        ("ending", c.ending.name()),
    ]);
    say!(out, "tarebench_run_info{labels} 1");
}

fn overheads(c: &Comparison, out: &mut String) {
    type End = fn(&super::Series<'_>) -> Option<f64>;
    let ends: [(&str, &str, End); 3] = [
        ("tarebench_overhead_ratio", "How many times worse than the baseline; above 1 is worse.", |s| Some(s.value())),
        ("tarebench_overhead_low_ratio", "Lower end of the overhead's interval.", |s| Some(s.interval()?.low)),
        ("tarebench_overhead_high_ratio", "Upper end of the overhead's interval.", |s| Some(s.interval()?.high)),
    ];
    for (name, help, end) in ends {
        family(out, name, "gauge", "ratio", help);
        for series in series(c) {
            let Some(value) = end(&series) else { continue };
            let (workload, environment) = (&series.cell.workload, &series.cell.environment);
            let metric = figure(series.cell.metric);
            let labels = labels(&[("workload", workload), ("environment", environment), ("metric", metric)]);
            say!(out, "{name}{labels} {value}");
        }
    }
}

/// All cells to look at first, the invalid ones too: these have nothing else.
fn verdicts(c: &Comparison, out: &mut String) {
    const NAME: &str = "tarebench_verdict";
    family(out, NAME, "stateset", "", "Whether to believe the cost of a workload in an environment.");
    for plan in &c.run.workloads {
        for e in c.environments.iter().filter(|e| e.role == Role::Compared) {
            let Some(cell) = words::primary(c, &plan.name, &e.plan.name) else { continue };
            for verdict in [Verdict::Trusted, Verdict::Suspect, Verdict::Invalid] {
                let names = [("workload", plan.name.as_str()), ("environment", &e.plan.name), (NAME, verdict.name())];
                say!(out, "{NAME}{} {}", labels(&names), u8::from(c.verdict(cell) == verdict));
            }
        }
    }
}

fn latencies(c: &Comparison, out: &mut String) {
    const NAME: &str = "tarebench_latency_seconds";
    family(out, NAME, "summary", "seconds", "Latencies of all operations; in open loop response times.");
    for d in c.distributions.iter().filter(|d| !d.histogram.is_empty()) {
        let place = [("workload", d.workload.as_str()), ("environment", &d.environment), ("latency", d.latency.name())];
        let histogram = d.histogram.open();
        for q in QUANTILES.into_iter().filter(|q| *q <= d.carried && d.service_quantile(*q).is_some()) {
            let labels = labels(&[place[0], place[1], place[2], ("quantile", &q.to_string())]);
            say!(out, "{NAME}{labels} {}", quantile(&histogram, q) / 1e9);
        }
        say!(out, "{NAME}_count{} {}", labels(&place), d.histogram.len());
    }
}

fn environments(c: &Comparison, out: &mut String) {
    let labels = |name: &String| labels(&[("environment", name)]);
    let mut times = |name: &str, help: &str, of: fn(&Environment) -> Option<Estimate>| {
        family(out, name, "gauge", "seconds", help);
        for (e, ms) in c.environments.iter().filter_map(|e| Some((e, of(e)?))) {
            say!(out, "{name}{} {}", labels(&e.plan.name), ms.value / 1e3);
        }
    };
    let start = "From the first that is made for a start to the agent's first word, median.";
    times("tarebench_start_seconds", start, |e| e.start_ms);
    let stop = "From the order to go until nothing of the environment was left, median.";
    times("tarebench_stop_seconds", stop, |e| e.stop_ms);
    family(out, "tarebench_memory_bytes", "gauge", "bytes", "Memory held when idle after the start, median.");
    for e in &c.environments {
        if let Some(bytes) = e.memory_bytes {
            say!(out, "tarebench_memory_bytes{} {bytes}", labels(&e.plan.name));
        }
    }
    resolution(c, out);
}

fn resolution(c: &Comparison, out: &mut String) {
    const NAME: &str = "tarebench_smallest_visible_ratio";
    family(out, NAME, "gauge", "ratio", "The smallest relative change that this run would have seen: 0.03 is 3 %.");
    for r in &c.resolution {
        let plan = c.run.workloads.iter().find(|w| w.name == r.workload);
        let told = plan.is_some_and(|w: &WorkloadPlan| Metric::primaries(w).contains(&r.metric));
        if let Some(smallest) = r.smallest_visible.filter(|s| told && s.is_finite()) {
            let labels = self::labels(&[("workload", &r.workload), ("metric", figure(r.metric))]);
            say!(out, "{NAME}{labels} {smallest}");
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    say!(out, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        say!(out, "# UNIT {name} {unit}");
    }
    say!(out, "# HELP {name} {help}");
}

/// `{workload="net/rr",metric="p50"}`: on one line, with what ends a value escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        let value = escape::one_line(value).replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", pairs.iter().map(one).collect::<Vec<_>>().join(","))
}
