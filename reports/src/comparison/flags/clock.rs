//! Whether the clock inside an environment can be believed.

use workloads::agent::{CLOCK, CLOCK_STEP};
use workloads::protocol::Identity;

use super::{Case, flag};
use crate::comparison::{Flag, Severity, quantile};
use crate::record::Start;

/// More than this many parts per million, beyond the fit's own uncertainty, is drift.
const DRIFT_PPM: f64 = 200.0;

/// Reading the clock, or its step, is a part of what was measured.
pub(super) fn coarse(case: &Case) -> Option<Flag> {
    if case.merged.histogram.is_empty() {
        return None;
    }
    // As it was beside the bursts; the first look after the start says little where a sandbox calibrates its clock later.
    let beside = |fact: &str| case.facts(fact).filter_map(|v| v.parse::<f64>().ok()).max_by(f64::total_cmp);
    let first =
        |of: fn(&Identity) -> f64| case.starts().filter_map(|s| s.identity.as_ref()).map(of).fold(0.0, f64::max);
    let cost = beside(CLOCK).unwrap_or_else(|| first(|i| i.clock_ns));
    let step = beside(CLOCK_STEP).unwrap_or_else(|| first(|i| i.clock_step_ns as f64));
    // The clock is read around the operation itself, in open loop too.
    let p50 = quantile(case.merged.service(), 0.5);
    let batch = f64::from(case.merged.batch);
    let (share, step_share) = (cost / batch / p50, step / batch / p50);
    let words = |what: &str, ns: f64, share: f64| {
        let each = if batch > 1.0 {
            format!("{batch:.0} operations of {p50:.0} ns")
        } else {
            format!("an operation of {p50:.0} ns")
        };
        format!("{what} {ns:.0} ns beside {each}: {:.1} % of the median", 100.0 * share)
    };
    if step_share > 0.1 {
        return Some(flag("clock-coarse", Severity::Doubt, words("the clock steps by", step, step_share)));
    }
    let severity = if share > 0.1 { Severity::Doubt } else { Severity::Note };
    (share > 0.01).then(|| flag("clock-coarse", severity, words("a clock reading takes", cost, share)))
}

/// The clock inside runs faster or slower than the host's.
pub(super) fn drift(starts: &[&Start]) -> Option<Flag> {
    let fits = starts.iter().filter_map(|s| Some((s.block, s.clock?)));
    let beyond = fits.filter_map(|(block, fit)| {
        let (drift, uncertainty) = (fit.drift_ppm?, fit.uncertainty_ppm?);
        (drift.abs() - uncertainty > DRIFT_PPM).then_some((block, drift, uncertainty))
    });
    let (block, drift, uncertainty) = beyond.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    let evidence = format!("{drift:+.0} ppm (within {uncertainty:.0}) against the host's clock in block {block}");
    Some(flag("clock-drift", Severity::Doubt, evidence))
}

/// The clock inside jumped by more than the tail of what was measured.
pub(super) fn jump(case: &Case) -> Option<Flag> {
    let (block, jump) = case.starts().filter_map(|s| Some((s.block, s.clock?.jump_ns))).max_by_key(|(_, ns)| *ns)?;
    let tail = if case.merged.histogram.is_empty() { 0.0 } else { case.merged.quantile(0.999) };
    (jump as f64 > tail.max(1e6)).then(|| {
        let evidence = format!("{:.1} ms in block {block} that no round trip explains", jump as f64 / 1e6);
        flag("clock-jump", Severity::Doubt, evidence)
    })
}

/// Operations that took no time: the clock stood still.
pub(super) fn zero_latency(case: &Case) -> Option<Flag> {
    let all = case.merged.service().len();
    let zero = case.merged.service().count_at(1);
    (!case.is_imported() && all > 0 && zero * 1000 > all).then(|| {
        let evidence =
            format!("{zero} of {all} entries took less than 2 ns ({:.1} %)", 100.0 * zero as f64 / all as f64);
        flag("zero-latency", Severity::Doubt, evidence)
    })
}

/// Operations can't take longer than the time that passed, times those in flight (Little's law).
///
/// Only the high side is a doubt. The sum may rightly be lower: jobs end at different times, in open loop there are pauses, and
/// some workloads record a lateness and not a duration.
pub(super) fn latency_sum(case: &Case) -> Option<Flag> {
    let merged = case.merged;
    if case.is_imported() || merged.operations == 0 {
        return None;
    }
    let (mean, several) = (merged.service().mean(), merged.overhang > 0);
    let sum = mean * merged.operations as f64;
    // What is in flight when the warm-up ends counts in full where it ends, though half of it, on average, lay before.
    let room = merged.capacity_ns + mean * merged.overhang as f64;
    // 1 % is room for the width of buckets and for batches that the end of a burst cuts; operations in flight beside each
    // other are marked and ended by separate clock readings.
    let slack = if several { 1.05 } else { 1.01 };
    (sum > slack * room).then(|| {
        let wall = merged.elapsed_ns as f64 / 1e9;
        let flight = merged.capacity_ns / merged.elapsed_ns.max(1) as f64;
        let flight = if several { format!(" with {flight:.0} operations in flight") } else { String::new() };
        let evidence = format!("the latencies add up to {:.3} s within {wall:.3} s of wall time{flight}", sum / 1e9);
        flag("latency-sum", Severity::Doubt, evidence)
    })
}
