//! Context of a workload's latencies: the moment they count from, service time and lateness in open loop,
//! counters, and the place in the published insertion test.

use super::super::units;
use std::collections::BTreeMap;

use crate::comparison::{
    Comparison, Distribution, Insertions, Latency, Metric, Population, Standing, connection_of, quantile,
};
use crate::record::WorkloadPlan;

/// The kind of latency of a workload: `response time`, `service time`.
#[must_use]
pub fn latency(plan: &WorkloadPlan) -> &'static str {
    match Latency::of(plan) {
        Latency::Response => "response time",
        Latency::Service => "service time",
    }
}

/// The primary metric of a workload: `time per operation`, `p50 response time`, `throughput`.
#[must_use]
pub fn metric(plan: &WorkloadPlan) -> String {
    match Metric::primary(plan) {
        Metric::Throughput if plan.streams => Metric::Throughput.name().to_owned(),
        Metric::Throughput => "time per operation".to_owned(),
        metric => format!("{} {}", metric.name(), latency(plan)),
    }
}

/// What a plus of the tare means: of an amount per second it is what there is less.
#[must_use]
pub fn plus(plan: &WorkloadPlan) -> &'static str {
    let amount = Metric::primary(plan) == Metric::Throughput && plan.streams;
    if amount { "+ is less of it, so worse" } else { "+ is worse" }
}

/// A metric beside its figures: a throughput of operations is shown as the time of one.
#[must_use]
pub fn called(plan: &WorkloadPlan, metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput if !plan.streams => "time per operation",
        metric => metric.name(),
    }
}

/// The same where there is little room: `time`, `p50 response`, `throughput`. In closed loop it goes without saying that an
/// operation counts from its own start.
#[must_use]
pub fn short_metric(plan: &WorkloadPlan) -> &'static str {
    match Metric::primary(plan) {
        Metric::Throughput if plan.streams => "throughput",
        Metric::Throughput => "time",
        _ if plan.open_loop() => "p50 response",
        _ => "p50",
    }
}

/// How the operations of an open loop come: `20 000 operations per second, poisson`.
#[must_use]
pub fn schedule(plan: &WorkloadPlan) -> Option<String> {
    let rate = plan.rate()?;
    let arrivals = plan.settings.get("arrivals").map_or_else(String::new, |a| format!(", {a}"));
    Some(format!("{} operations per second{arrivals}", units::count(rate)))
}

/// Headings of [`Beside::fields`].
pub const HEADINGS: [&str; 7] =
    ["environment", "service p50", "service p99", "late p50", "late p99", "late max", "done of asked"];

/// Service times and lateness of an environment in open loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// In the order of [`HEADINGS`]; `-` where too few operations lie beyond a percentile.
    pub fields: [String; 7],
}

/// Service times and lateness of every environment in open loop, the baseline first; empty in closed loop.
#[must_use]
pub fn beside(c: &Comparison, workload: &str) -> Vec<Beside> {
    let one = |d: &Distribution| {
        let open = d.open.as_ref()?;
        let late = |q: f64| {
            if open.lateness.is_empty() { units::NONE.into() } else { units::duration(quantile(&open.lateness, q)) }
        };
        let max =
            if open.lateness.is_empty() { units::NONE.into() } else { units::duration(open.lateness.max() as f64) };
        Some(Beside {
            fields: [
                c.label(&d.environment).to_string(),
                service(d, 0.5).map_or_else(|| units::NONE.into(), units::duration),
                service(d, 0.99).map_or_else(|| units::NONE.into(), units::duration),
                late(0.5),
                late(0.99),
                max,
                units::percent(open.done / open.rate.max(1.0)),
            ],
        })
    };
    here(c, workload).filter_map(one).collect()
}

/// A percentile of the service time, nanoseconds; `None` where the operations don't carry it.
#[must_use]
pub fn service(d: &Distribution, q: f64) -> Option<f64> {
    let carried = (q - 0.5).abs() < 1e-9 || d.carried >= q - 1e-9;
    d.service_quantile(q).filter(|_| carried)
}

fn here<'a>(c: &'a Comparison, workload: &str) -> impl Iterator<Item = &'a Distribution> {
    super::tried(c).filter_map(move |e| c.distribution(workload, &e.plan.name))
}

/// Counters of a workload: `busy timeouts: bare 312, 4.10 per 1000 operations; runc ...`, a line per counter.
#[must_use]
pub fn counters(c: &Comparison, workload: &str) -> Vec<String> {
    let counted: Vec<_> = here(c, workload).map(|d| (d, told(&d.counters))).collect();
    let mut names: Vec<&str> = counted.iter().flat_map(|(_, counters)| counters.keys().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &&str| {
        let each = counted.iter().filter_map(|(d, counters)| {
            let count = *counters.get(*name)?;
            // Microseconds of a thousand operations are nanoseconds of one.
            let rate = d.per_thousand(count);
            Some(match name.ends_with(MICROSECONDS) {
                true => format!("{} {} per operation", d.environment, units::duration(rate)),
                false => {
                    format!("{} {}, {} per 1000 operations", d.environment, units::count(count), units::three(rate))
                }
            })
        });
        format!("{}: {}", counter(name), each.collect::<Vec<_>>().join("; "))
    };
    names.iter().map(line).collect()
}

/// Counters as they are told. A process that ends within a tick of the kernel's clock has all of its CPU time booked as the kernel
/// finds it then, mostly outside of the kernel: only the sum of both is known.
fn told(counters: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    let mut told: BTreeMap<&str, u64> = counters.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let parts: Vec<u64> = ["user_us", "system_us"].iter().filter_map(|part| told.remove(part)).collect();
    if !parts.is_empty() {
        told.insert("cpu_us", parts.iter().fold(0, |sum, part| sum.saturating_add(*part)));
    }
    told
}

/// How connections came into each environment: `connections: inbound, directly (bare, runc)`; `None` where none did.
#[must_use]
pub fn connections(c: &Comparison, workload: &str) -> Option<String> {
    let fact = connection_of(workload);
    let mut ways: Vec<(&str, Vec<&str>)> = Vec::new();
    for e in super::tried(c) {
        for (_, way) in e.facts.iter().filter(|(name, _)| *name == fact) {
            match ways.iter_mut().find(|(known, _)| known == way) {
                Some((_, names)) => names.push(&e.plan.name),
                None => ways.push((way, vec![&e.plan.name])),
            }
        }
    }
    let each = ways.iter().map(|(way, names)| format!("{way} ({})", names.join(", ")));
    (!ways.is_empty()).then(|| format!("connections: {}", each.collect::<Vec<_>>().join("; ")))
}

/// How the name of a counter of microseconds ends.
const MICROSECONDS: &str = "_us";

/// A counter as people call it.
fn counter(name: &str) -> &str {
    match name {
        "busy" => "busy timeouts",
        "cpu_us" => "CPU time of its processes",
        "left_behind" => "processes left behind and killed",
        other => other,
    }
}

/// The published population in one sentence, for a reader who is to be placed in it.
#[must_use]
pub fn population() -> String {
    let Population { fastest, median, slowest } = Population::PUBLISHED;
    format!(
        "the published test took from {fastest:.0} s to {slowest:.0} s, half of it {median:.0} s or less: many machines, and none of them yours"
    )
}

/// Seconds for all inserts with their interval: `6.75 s (6.31 s to 7.02 s)`.
#[must_use]
pub fn inserts(i: &Insertions) -> String {
    let seconds = |s: f64| units::duration(s * 1e9);
    match i.seconds.interval {
        Some(interval) => {
            format!("{} ({} to {})", seconds(i.seconds.value), seconds(interval.low), seconds(interval.high))
        }
        None => format!("{} (no interval)", seconds(i.seconds.value)),
    }
}

/// Where it stands, in words: `faster than half`.
#[must_use]
pub fn standing(i: &Insertions) -> String {
    match i.standing() {
        Standing::BeyondFastest => "faster than all of the published population".into(),
        Standing::FasterHalf => "faster than half of the published population".into(),
        Standing::AboutMedian => "at about its median: can't be told which half".into(),
        Standing::SlowerHalf => "slower than half of the published population".into(),
        Standing::BeyondSlowest => "slower than all of the published population".into(),
        Standing::Nowhere => format!("not placed: {}", i.disqualified.join(", ")),
    }
}

/// The basis of the times: how many inserts were done.
#[must_use]
pub fn reckoned(i: &Insertions) -> String {
    let done = units::count(i.operations);
    if i.scaled { format!("reckoned from {done} inserts") } else { format!("{done} inserts") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn latencies_say_from_when_they_count() {
        let c = sample::comparison();
        let of = |name: &str| c.run.workloads.iter().find(|w| w.name == name).map(metric).unwrap();
        assert_eq!(of("sqlite/commit"), "time per operation");
        assert_eq!(of("net/paced"), "p50 response time");
        assert_eq!(of("net/stream"), "throughput");
    }

    #[test]
    fn counters_are_totals_and_shares() {
        let lines = counters(&sample::comparison(), "sqlite/writers");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("busy timeouts: bare 20, 3.85 per 1000 operations; control 20"), "{lines:?}");
        assert!(counters(&sample::comparison(), "sqlite/commit").is_empty());
    }

    #[test]
    fn counted_time_is_that_of_an_operation() {
        let mut c = sample::comparison();
        for d in c.distributions.iter_mut().filter(|d| d.workload == "sqlite/writers") {
            (d.operations, d.warmup_operations) = (30, 10);
            d.counters.insert("user_us".into(), 30_000);
            d.counters.insert("system_us".into(), 4_600);
        }
        let lines = counters(&c, "sqlite/writers");
        assert!(lines[1].starts_with("CPU time of its processes: bare 865 µs per operation; control 865"), "{lines:?}");
    }

    #[test]
    fn service_and_lateness_stand_beside_response_times_only() {
        let c = sample::comparison();
        assert!(beside(&c, "net/rr").is_empty());
        let rows = beside(&c, "net/paced");
        assert_eq!(rows[0].fields[..4], ["bare", "142 µs", "324 µs", "1.10 µs"]);
        assert_eq!(rows[0].fields[6], "100 %");
    }

    #[test]
    fn a_percentile_that_is_not_carried_is_withheld() {
        let c = sample::comparison();
        let mut d = c.distribution("net/paced", "runc").unwrap().clone();
        d.carried = 0.9;
        assert!(service(&d, 0.99).is_none() && service(&d, 0.9).is_some() && service(&d, 0.5).is_some());
    }
}
