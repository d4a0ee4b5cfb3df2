//! What another program says of its latencies, where that is more than a histogram has, or less: an exact mean and maximum, and
//! no other percentiles than those that it printed. What it doesn't say is withheld.

use std::collections::{BTreeMap, BTreeSet};

/// Facts of a check that hold it.
const COUNT: &str = "stated: latencies";
const MEAN: &str = "stated: mean ns";
const MAX: &str = "stated: max ns";
const PERCENTILES: &str = "stated: percentiles";

/// What is said of the latencies of one block, or of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// How many there are; 0 where the program measured none.
    pub latencies: u64,
    /// Their sum, nanoseconds: as exact as the program's mean.
    pub sum_ns: f64,
    /// The largest, nanoseconds.
    pub longest_ns: u64,
    /// The percentiles that were printed, in millionths; `None` where all can be told.
    pub percentiles: Option<BTreeSet<u32>>,
}

fn millionths(quantile: f64) -> u32 {
    (quantile * 1e6).round() as u32
}

impl Stated {
    /// From percentiles as programs print them, 50 for the median.
    pub fn printed(percentiles: impl Iterator<Item = f64>) -> BTreeSet<u32> {
        percentiles.map(|p| millionths(p / 100.0)).collect()
    }

    /// From the facts of a check; `None` where our own histogram is all there is.
    pub fn of(facts: &BTreeMap<String, String>) -> Option<Self> {
        let latencies = facts.get(COUNT)?.parse().ok()?;
        let mean: f64 = facts.get(MEAN)?.parse().ok()?;
        let listed = |text: &String| text.split_whitespace().filter_map(|p| p.parse().ok()).collect();
        Some(Self {
            latencies,
            sum_ns: mean * latencies as f64,
            longest_ns: facts.get(MAX)?.parse().ok()?,
            percentiles: facts.get(PERCENTILES).map(listed),
        })
    }

    /// As facts of a check.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mean = self.mean().unwrap_or(0.0);
        let mut facts: BTreeMap<String, String> =
            [(COUNT, self.latencies.to_string()), (MEAN, mean.to_string()), (MAX, self.longest_ns.to_string())]
                .map(|(name, value)| (name.into(), value))
                .into();
        if let Some(printed) = &self.percentiles {
            let printed: Vec<String> = printed.iter().map(u32::to_string).collect();
            facts.insert(PERCENTILES.into(), printed.join(" "));
        }
        facts
    }

    /// Nanoseconds; `None` without a latency.
    pub fn mean(&self) -> Option<f64> {
        (self.latencies > 0).then(|| self.sum_ns / self.latencies as f64)
    }

    /// Nanoseconds; `None` without a latency.
    pub fn max(&self) -> Option<u64> {
        (self.latencies > 0).then_some(self.longest_ns)
    }

    /// Whether it has this percentile, 0.5 for the median.
    pub fn has(&self, quantile: f64) -> bool {
        self.latencies > 0 && self.percentiles.as_ref().is_none_or(|p| p.contains(&millionths(quantile)))
    }

    /// What can be said of both together.
    pub fn add(&mut self, other: &Self) {
        self.latencies = self.latencies.saturating_add(other.latencies);
        self.sum_ns += other.sum_ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.percentiles = match (self.percentiles.take(), &other.percentiles) {
            (Some(own), Some(other)) => Some(own.intersection(other).copied().collect()),
            (Some(one), None) => Some(one),
            (None, other) => other.clone(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies: u64, mean: f64, longest_ns: u64, percentiles: Option<&[f64]>) -> Stated {
        let percentiles = percentiles.map(|p| Stated::printed(p.iter().copied()));
        Stated { latencies, sum_ns: mean * latencies as f64, longest_ns, percentiles }
    }

    #[test]
    fn it_comes_back_from_facts_and_of_two_only_what_both_say_is_said() {
        let mut one = of(100, 20.5, 70, Some(&[50.0, 99.0, 99.9]));
        assert_eq!(Stated::of(&one.facts()).as_ref(), Some(&one));
        assert_eq!(Stated::of(&BTreeMap::new()), None);
        assert!(one.has(0.5) && one.has(0.999) && !one.has(0.9));
        one.add(&of(300, 10.5, 90, Some(&[50.0, 90.0])));
        assert_eq!((one.mean(), one.max()), (Some(13.0), Some(90)));
        assert!(one.has(0.5) && !one.has(0.99) && !one.has(0.9));
        let mut all = of(1, 1.0, 1, None);
        assert!(all.has(0.123));
        all.add(&one);
        assert!(all.has(0.5) && !all.has(0.123));
        let none = of(0, 0.0, 0, Some(&[]));
        assert_eq!((none.mean(), none.max(), none.has(0.5)), (None, None, false));
    }
}
