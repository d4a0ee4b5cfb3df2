//! Doubts about measurements of another program: they were raised when they were read, where all of its output was at hand.

use super::{Case, flag};
use crate::comparison::{Flag, Severity};

/// Facts of an imported workload that are flags, with what they weigh. The fact's value is the evidence.
///
/// Percentiles that fall can't be percentiles, so nothing of them is worth ranking. The others may be a few bad readings.
const FACTS: [(&str, Severity); 5] = [
    ("percentiles-not-monotonic", Severity::Fatal),
    ("clock-jump", Severity::Doubt),
    ("latency-sum", Severity::Doubt),
    ("zero-latency", Severity::Doubt),
    ("from-percentiles", Severity::Note),
];

/// The flags that the import found.
pub(super) fn of(case: &Case) -> Vec<Flag> {
    if !case.is_imported() {
        return Vec::new();
    }
    let one = |(name, severity): (&'static str, Severity)| {
        let mut found = case.facts(name);
        let first = found.next()?;
        let more = found.count();
        let more = if more == 0 { String::new() } else { format!("; and in {more} more blocks") };
        Some(flag(name, severity, format!("{first}{more}")))
    };
    FACTS.into_iter().filter_map(one).collect()
}
