//! A histogram made of what others print: values with counts, or a few percentiles.

use anyhow::ensure;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use workloads::stopwatch::HIGHEST_NS;

/// Latencies between two percentiles are spread over so many steps at most.
const STEPS: u64 = 64;

/// fio's bins are a 64th of an octave wide, and a percentile is the middle of one: it may lie so much beyond an exact end.
const BIN: f64 = 1.0 / 64.0;

/// Latencies, nanoseconds, and what speaks against them.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) histogram: Histogram<u64>,
    /// Latencies of 0 ns, which the histogram can't hold.
    pub(super) zeros: u64,
    /// The first thing that can't be, in words.
    pub(super) falls: Option<String>,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit"),
            zeros: 0,
            falls: None,
        }
    }
}

impl Spread {
    /// Percentiles only: between two of them latencies are spread evenly on a logarithmic scale, and at each of them the
    /// histogram has the value that fio has.
    pub(super) fn percentiles(&mut self, percentiles: &[(f64, u64)], n: u64, min: u64, max: u64) -> anyhow::Result<()> {
        ensure!(!percentiles.is_empty(), "`percentile` is empty");
        let all = percentiles.windows(2).find(|two| two[1].1 < two[0].1);
        if let Some([a, b]) = all {
            self.impossible(format!("p{} is {} ns and p{} is {} ns", a.0, a.1, b.0, b.1));
        }
        if let Some((p, value)) = percentiles.last().filter(|(_, value)| *value as f64 > max as f64 * (1.0 + BIN) + 1.0)
        {
            self.impossible(format!("p{p} is {value} ns and the largest latency is {max} ns"));
        }
        let below = (min as f64 * (1.0 - BIN) - 1.0).max(0.0);
        if let Some((p, value)) = percentiles.first().filter(|(_, value)| (*value as f64) < below) {
            self.impossible(format!("p{p} is {value} ns and the smallest latency is {min} ns"));
        }
        // The smallest is known exactly, as the largest is; of what can't be, the percentiles stay as they are printed.
        let first = percentiles.first().map_or(min, |(_, value)| *value);
        let (mut rank, mut from) = (u64::from(n > 1 && min <= first), min.min(first));
        self.record(min, rank);
        for (percentile, value) in percentiles.iter().copied().chain([(100.0, max)]) {
            ensure!((0.0..=100.0).contains(&percentile), "there is no percentile {percentile}");
            // As fio counts: the first bin with at least this share of the operations up to its end.
            let until = ((percentile / 100.0 * n as f64).ceil() as u64).clamp(rank, n);
            self.spread(from, value, until - rank);
            (rank, from) = (until, value);
        }
        Ok(())
    }

    /// So many latencies between two values, the last of them at the upper one.
    fn spread(&mut self, from: u64, to: u64, count: u64) {
        if to == 0 {
            self.record(0, count);
            return;
        }
        let steps = count.min(STEPS);
        let ratio = (to.max(1) as f64 / from.max(1) as f64).ln();
        for step in 1..=steps {
            // The same number in each step but for a remainder, which goes to the last.
            let each = if step == steps { count - count / steps * (steps - 1) } else { count / steps };
            let value = if step == steps {
                to
            } else {
                (from.max(1) as f64 * (ratio * step as f64 / steps as f64).exp()) as u64
            };
            self.record(value, each);
        }
    }

    /// So many latencies of this many nanoseconds.
    pub(super) fn record(&mut self, value: u64, count: u64) {
        if value == 0 {
            self.zeros += count;
        }
        self.histogram.saturating_record_n(value.clamp(1, HIGHEST_NS), count);
    }

    /// Notes what can't be.
    pub(super) fn impossible(&mut self, what: String) {
        self.falls.get_or_insert(what);
    }
}

/// As samples keep it.
pub(super) fn pack(histogram: &Histogram<u64>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let packed = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    packed.map_err(|_| anyhow::anyhow!("its counts are larger than a histogram can keep"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_operation_is_lost_between_percentiles(n in 1_u64..100_000, values in prop::collection::vec(0_u64..1_000_000, 1..8)) {
            let at = |i: usize| 100.0 * (i + 1) as f64 / (values.len() + 1) as f64;
            let list: Vec<(f64, u64)> = values.iter().enumerate().map(|(i, v)| (at(i), *v)).collect();
            let mut spread = Spread::default();
            spread.percentiles(&list, n, 1, 1_000_000).expect("valid");
            prop_assert_eq!(spread.histogram.len(), n);
        }
    }
}
