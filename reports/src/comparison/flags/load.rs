//! Whether operations in open loop came as they were to come.

use super::{Case, flag};
use crate::comparison::{Flag, Severity, quantile};

/// A generator that is late by more than this share of a response time can be what is seen in it.
const LATE: f64 = 0.1;

/// Fewer than this share of the asked rate is not the rate that was asked for.
const REACHED: f64 = 0.95;

/// The generator began operations so late that its own lateness could be what response times show.
///
/// A response time is the generator's lateness, or the wait for the operation before, and then the service. So the latest
/// hundredth of the beginnings can move no more than that hundredth of the response times: like is compared with like, p50
/// with p50 and p99 with p99, rather than the tail of the one with the middle of the other.
pub(super) fn late_generator(case: &Case) -> Option<Flag> {
    let open = case.merged.open.as_ref().filter(|open| !open.lateness.is_empty())?;
    let share = |q: f64| (quantile(&open.lateness, q) / quantile(&case.merged.histogram, q).max(1.0), q);
    let (share, q) = [0.5, 0.9, 0.99].map(share).into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    (share > LATE).then(|| {
        let name = (100.0 * q).round();
        let evidence = format!(
            "the generator began its operations late by {:.1} µs at p{name}, {:.0} % of the response time of {:.1} µs",
            quantile(&open.lateness, q) / 1e3,
            100.0 * share,
            quantile(&case.merged.histogram, q) / 1e3
        );
        flag("late-generator", Severity::Doubt, evidence)
    })
}

/// The environment does fewer operations than arrive: they queue, and response times grow as long as the burst lasts.
pub(super) fn rate_not_reached(case: &Case) -> Option<Flag> {
    let rate = case.workload.rate()? as f64;
    let (operations, elapsed_ns) = (case.merged.operations, case.merged.elapsed_ns);
    if operations == 0 || elapsed_ns == 0 {
        return None;
    }
    let done = operations as f64 * 1e9 / elapsed_ns as f64;
    // Random arrivals are not exactly as many as were asked for: three standard deviations of their number.
    let chance = case.workload.settings.get("arrivals").is_some_and(|a| a == "poisson");
    let room = if chance { 3.0 / (operations as f64).sqrt() } else { 0.0 };
    (done < rate * (REACHED - room)).then(|| {
        let evidence = format!(
            "{done:.0} of {rate:.0} operations per second were done ({:.0} %): what waits grows, and so do response times, with the length of the burst",
            100.0 * done / rate
        );
        flag("rate-not-reached", Severity::Doubt, evidence)
    })
}
