//! Whether a sample can be true: it comes out of a box, which may say anything. What was asked of it and how long it took by the
//! host's own clock are known.

use std::time::Duration;

use runners::session::SessionError;
use workloads::protocol::{BurstPlan, Sample};
use workloads::timeline::{self, SLICE_NS};

/// So much longer than by our clock a burst may have taken by the box's, as a part and beside: no clock is off by more, and
/// one that is makes every figure of the box worthless.
const CLOCK: (f64, Duration) = (0.1, Duration::from_millis(10));

/// In flight at a time; no workload has so many.
const MOST_AT_A_TIME: u32 = 1 << 16;

/// The sample, where it can be the answer to this plan that came `within` so long.
///
/// # Errors
/// [`SessionError::Unbelievable`] with what can't be.
pub fn believe(sample: Sample, plan: &BurstPlan, within: Duration) -> Result<Sample, SessionError> {
    match doubt(&sample, plan, within) {
        None => Ok(sample),
        Some(words) => Err(SessionError::Unbelievable(words)),
    }
}

fn doubt(sample: &Sample, plan: &BurstPlan, within: Duration) -> Option<String> {
    let latencies = match sample.latencies() {
        Ok(latencies) => latencies,
        Err(words) => return Some(words),
    };
    if sample.concurrency > MOST_AT_A_TIME {
        return Some(format!("it says {} operations at a time", sample.concurrency));
    }
    if sample.batch != plan.batch.max(1) {
        return Some(format!("it says {} operations per clock reading, {} were asked for", sample.batch, plan.batch));
    }
    // Those in flight at the end are counted too, and jobs share the plan out in whole operations.
    let more = u64::from(sample.concurrency);
    for (what, said, asked) in
        [("operations", sample.operations, plan.operations), ("of the warm-up", sample.warmup_operations, plan.warmup)]
    {
        if said > asked.saturating_add(more) {
            return Some(format!("it says {said} {what}, {asked} were asked for"));
        }
    }
    let done = sample.operations.saturating_add(sample.warmup_operations);
    if let Some(writes) = sample.durable_writes.filter(|writes| *writes > done) {
        return Some(format!("it says {writes} durable writes in {done} operations"));
    }
    if !sample.cut_short && sample.operations < plan.operations {
        return Some(format!(
            "it says {} operations and no cut, {} were asked for",
            sample.operations, plan.operations
        ));
    }
    let longest = (within.mul_f64(1.0 + CLOCK.0) + CLOCK.1).as_nanos();
    for (what, ns) in [("burst", sample.elapsed_ns), ("warm-up", sample.warmup_ns)] {
        if u128::from(ns) > longest {
            let said = Duration::from_nanos(ns);
            return Some(format!("it says {said:?} for a {what} whose answer was here within {within:?}"));
        }
    }
    // Every job may end with a batch that isn't full.
    let fewest = sample.operations.div_ceil(u64::from(sample.batch));
    let most = fewest.saturating_add(more);
    // As long as the burst, and a slice that has begun.
    let entries = timeline::decode(&sample.timeline).unwrap_or_default();
    if entries.last().is_some_and(|last| u64::from(last.slice) > sample.elapsed_ns / SLICE_NS + 1) {
        return Some("its timeline is longer than the burst".into());
    }
    let counted = entries.iter().map(|entry| u64::from(entry.count)).sum::<u64>();
    if counted > most {
        return Some(format!("it says {} operations, and its timeline has {counted} entries", sample.operations));
    }
    let counted = [("histogram", Some(&latencies.service)), ("response times", latencies.response.as_ref())];
    for (what, histogram) in counted {
        let entries = histogram.map_or(fewest, |h| h.len());
        if !(fewest..=most).contains(&entries) {
            return Some(format!("it says {} operations, and its {what} has {entries} entries", sample.operations));
        }
    }
    let late = latencies.lateness.map_or(0, |h| h.len());
    (late > most).then(|| format!("it says {} operations, and {late} of them were late", sample.operations))
}
