//! Whether a machine that is kept busy has one speed or two: a rate limiter, a clock rate that rises and falls, a disk with a fast part.

use serde::Serialize;

/// Slices below this say nothing.
const FEWEST: usize = 50;

/// Two speeds lie further apart than this, as a ratio.
const APART: f64 = 1.3;

/// And by so many of their own deviations: two halves of a bell are 2.7 apart, those of a flat spread 3.5.
const SEPARATE: f64 = 4.5;

/// Each has at least so much of the time.
const LEAST: f64 = 0.05;

/// What the same small operation took while it was done again and again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Watched {
    /// `processor`, `disk`.
    pub what: String,
    /// How long, seconds.
    pub seconds: f64,
    /// Median of all slices, nanoseconds.
    pub median_ns: f64,
    /// Between these lie the middle 80 % of the slices, nanoseconds.
    pub middle_ns: [f64; 2],
    /// What was seen.
    pub regime: Regime,
}

/// How many speeds there were.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Regime {
    /// Too short to say.
    Unknown,
    /// One.
    One,
    /// Two, each in spells.
    Two(Two),
}

/// Two speeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Two {
    /// Mean of the fast slices, nanoseconds.
    pub fast_ns: f64,
    /// Mean of the slow ones.
    pub slow_ns: f64,
    /// Share of the time at the slow speed.
    pub slow_share: f64,
    /// How often it changed from one to the other.
    pub changes: u32,
    /// When it first did, seconds from the begin.
    pub first_change: f64,
    /// It was fast at the begin.
    pub fast_first: bool,
}

impl Watched {
    /// Of the medians of slices that are `slice` seconds long, in the order of time.
    #[must_use]
    pub fn of(what: &str, slice: f64, medians_ns: &[f64]) -> Self {
        let mut sorted = medians_ns.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |tenth: usize| sorted.get(sorted.len() * tenth / 10).copied().unwrap_or(0.0);
        Self {
            what: what.into(),
            seconds: slice * medians_ns.len() as f64,
            median_ns: at(5),
            middle_ns: [at(1), at(9)],
            regime: regime(slice, medians_ns, &sorted),
        }
    }
}

fn regime(slice: f64, medians: &[f64], sorted: &[f64]) -> Regime {
    if medians.len() < FEWEST {
        return Regime::Unknown;
    }
    let Some(border) = border(sorted) else { return Regime::One };
    let slow: Vec<bool> = medians.iter().map(|ns| *ns > border).collect();
    let mean = |of: bool| {
        let (sum, count) = medians
            .iter()
            .zip(&slow)
            .filter(|(_, slow)| **slow == of)
            .fold((0.0, 0.0), |(s, n), (ns, _)| (s + ns, n + 1.0));
        sum / count
    };
    let changes: Vec<usize> = (1..slow.len()).filter(|at| slow[*at] != slow[at - 1]).collect();
    let slow_share = slow.iter().filter(|slow| **slow).count() as f64 / slow.len() as f64;
    // Slices that are slow by chance change as often as a coin with these odds does: no regime lasts so short.
    let by_chance = 2.0 * slow_share * (1.0 - slow_share) * (slow.len() - 1) as f64;
    if changes.len() as f64 > by_chance / 2.0 {
        return Regime::One;
    }
    Regime::Two(Two {
        fast_ns: mean(false),
        slow_ns: mean(true),
        slow_share,
        changes: changes.len() as u32,
        first_change: changes.first().map_or(0.0, |at| slice * *at as f64),
        fast_first: !slow[0],
    })
}

/// The value that parts two speeds, where there are two: the split of the logarithms that leaves least spread within its halves.
fn border(sorted: &[f64]) -> Option<f64> {
    let logs: Vec<f64> = sorted.iter().map(|ns| ns.max(1.0).ln()).collect();
    let least = ((logs.len() as f64 * LEAST).ceil() as usize).max(2);
    let mut sums = vec![(0.0, 0.0)];
    for log in &logs {
        let (sum, squares) = sums[sums.len() - 1];
        sums.push((sum + log, squares + log * log));
    }
    // Mean and squares around it of a stretch.
    let of = |from: usize, to: usize| {
        let (n, sum, squares) = ((to - from) as f64, sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
        (sum / n, (squares - sum * sum / n).max(0.0))
    };
    let within = |at: &usize| of(0, *at).1 + of(*at, logs.len()).1;
    let at = (least..=logs.len().saturating_sub(least)).min_by(|a, b| within(a).total_cmp(&within(b)))?;
    let ((low, spread_low), (high, spread_high)) = (of(0, at), of(at, logs.len()));
    let deviation = ((spread_low / at as f64 + spread_high / (logs.len() - at) as f64) / 2.0).sqrt();
    (high - low > APART.ln() && high - low > SEPARATE * deviation).then(|| sorted[at - 1])
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    const SLICE: f64 = 0.1;

    fn seen(medians: &[f64]) -> Regime {
        Watched::of("disk", SLICE, medians).regime
    }

    fn bell(rng: &mut impl Rng) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    #[test]
    fn one_speed_is_one_however_its_noise_is_spread() {
        let mut rng = Pcg64::seed_from_u64(1);
        for _ in 0..200 {
            let width = rng.random::<f64>();
            let bells: Vec<f64> = (0..200).map(|_| 1e6 * (width * bell(&mut rng) / 2.0).exp()).collect();
            assert_eq!(seen(&bells), Regime::One, "a bell of {width}");
            let flat: Vec<f64> = (0..200).map(|_| 1e6 * (2.0 * width * rng.random::<f64>()).exp()).collect();
            assert_eq!(seen(&flat), Regime::One, "flat");
            let tail: Vec<f64> = (0..200).map(|_| 1e6 * (1.0 - rng.random::<f64>().ln() * width)).collect();
            assert_eq!(seen(&tail), Regime::One, "a tail");
        }
        assert_eq!(seen(&[5e3; 200]), Regime::One, "all alike");
    }

    #[test]
    fn an_allowance_that_is_used_up_is_seen_with_its_moment() {
        let mut rng = Pcg64::seed_from_u64(2);
        let slices: Vec<f64> =
            (0..200).map(|at| if at < 120 { 1e6 } else { 2.2e6 } * (0.05 * bell(&mut rng)).exp()).collect();
        let Regime::Two(two) = seen(&slices) else { panic!("{:?}", seen(&slices)) };
        assert_eq!((two.changes, two.fast_first), (1, true));
        assert!((two.first_change - 12.0).abs() < 0.05 && (two.slow_share - 0.4).abs() < 0.01, "{two:?}");
        assert!((two.slow_ns / two.fast_ns - 2.2).abs() < 0.1, "{two:?}");
    }

    #[test]
    fn spells_are_two_speeds_and_single_slow_slices_are_noise() {
        let spells: Vec<f64> = (0..200).map(|at| if at / 20 % 2 == 0 { 1e6 } else { 2e6 }).collect();
        let Regime::Two(two) = seen(&spells) else { panic!("two") };
        assert_eq!((two.changes, two.slow_share), (9, 0.5));
        let mut rng = Pcg64::seed_from_u64(3);
        let single: Vec<f64> = (0..200).map(|_| if rng.random_bool(0.2) { 2e6 } else { 1e6 }).collect();
        assert_eq!(seen(&single), Regime::One);
    }

    #[test]
    fn a_few_seconds_are_too_short_to_say() {
        assert_eq!(seen(&[1.0; FEWEST - 1]), Regime::Unknown);
        assert_eq!(seen(&[]), Regime::Unknown);
    }
}
