//! Where a series of figures changes for good.
//!
//! ED-PELT: Haynes, Fearnhead and Eckley, *A computationally efficient nonparametric approach for changepoint detection*, Statistics
//! and Computing 27 (2017), 1293-1305. It compares whole distributions, so it needs no noise to be known, takes no outlier for a
//! change, and copes with series that have two levels. The search is PELT (Killick, Fearnhead and Eckley, JASA 107 (2012),
//! 1590-1598): exact, and in most series of linear time.

/// Fewer points than this are no level: a bad night is no change.
const SHORTEST: usize = 5;

/// A change has to explain this many times the logarithm of the number of points. Three, as in the paper, finds a change in a quarter of
/// the series of 40 nights in which there is none; five, in one of twenty.
const PENALTY: f64 = 5.0;

/// The positions at which a new level begins.
#[must_use]
pub fn changes(series: &[f64]) -> Vec<usize> {
    let n = series.len();
    if n < 2 * SHORTEST {
        return Vec::new();
    }
    let cost = Cost::of(series);
    let penalty = PENALTY * (n as f64).ln();
    // The least cost of all points before one, and where the last level before it begins.
    let (mut least, mut from) = (vec![-penalty; n + 1], vec![0; n + 1]);
    let mut candidates = vec![0];
    for end in SHORTEST..=n {
        let begun = |at: usize| least[at] + cost.of_level(at, end);
        let (best, at) =
            candidates.iter().map(|at| (begun(*at), *at)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0));
        // What is worse than this without a penalty can never be better: the inequality that PELT is named for.
        candidates.retain(|at| begun(*at) <= best + penalty);
        (least[end], from[end]) = (best + penalty, at);
        let next = end + 1 - SHORTEST;
        if next >= SHORTEST {
            candidates.push(next);
        }
    }
    let mut found: Vec<usize> =
        std::iter::successors(Some(from[n]), |at| Some(from[*at])).take_while(|at| *at > 0).collect();
    found.reverse();
    found
}

/// How badly one level fits a part of a series.
struct Cost {
    /// For each quantile and point, twice the number of values below the quantile before the point, and once those that are equal.
    below: Vec<Vec<usize>>,
    /// x ln x of the halves.
    x_ln_x: Vec<f64>,
    weight: f64,
}

impl Cost {
    fn of(series: &[f64]) -> Self {
        let n = series.len() as f64;
        let quantiles = ((4.0 * n.ln()).ceil() as usize).min(series.len());
        let mut sorted = series.to_vec();
        sorted.sort_by(f64::total_cmp);
        // Closer together in the tails, where distributions differ.
        let quantile = |i: usize| {
            let z = (2.0 * i as f64 + 1.0) / quantiles as f64 - 1.0;
            sorted[((n - 1.0) / (1.0 + (2.0 * n - 1.0).powf(-z))) as usize]
        };
        let counts = |limit: f64| {
            let one = |value: &f64| if *value < limit { 2 } else { usize::from(*value == limit) };
            let mut sum = 0;
            std::iter::once(0)
                .chain(series.iter().map(|value| {
                    sum += one(value);
                    sum
                }))
                .collect()
        };
        let x_ln_x = |halves: usize| if halves == 0 { 0.0 } else { halves as f64 / 2.0 * (halves as f64 / 2.0).ln() };
        Self {
            below: (0..quantiles).map(quantile).map(counts).collect(),
            x_ln_x: (0..=2 * series.len()).map(x_ln_x).collect(),
            weight: 2.0 * (2.0 * n - 1.0).ln() / quantiles as f64,
        }
    }

    /// Of the points from one up to another.
    fn of_level(&self, from: usize, to: usize) -> f64 {
        let all = 2 * (to - from);
        let likelihood = |below: &Vec<usize>| {
            let here = below[to] - below[from];
            self.x_ln_x[here] + self.x_ln_x[all - here] - self.x_ln_x[all]
        };
        -self.weight * self.below.iter().map(likelihood).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    fn known(name: &str) -> Vec<f64> {
        let lines = include_str!("series.txt").lines().filter(|line| !line.starts_with('#'));
        let numbers = lines.skip_while(|line| *line != name).skip(1).take_while(|line| !line.is_empty());
        numbers.flat_map(str::split_whitespace).map(|number| number.parse().expect("a number")).collect()
    }

    #[test]
    fn the_nile_changes_in_1899_and_mining_in_1892() {
        let (nile, coal) = (known("nile"), known("coal"));
        assert_eq!((nile.len(), coal.len()), (100, 112));
        assert_eq!(changes(&nile), [28]);
        assert_eq!(changes(&coal), [41]);
    }

    #[test]
    fn the_well_changes_where_people_say_it_does() {
        let well = known("well-log");
        assert_eq!(well.len(), 675);
        let people = [179, 255, 281, 311, 343, 402, 412, 422, 432, 462];
        let found = changes(&well);
        assert!(found.iter().all(|at| people.iter().any(|p| at.abs_diff(*p) <= 2)), "{found:?}");
        let named = people.iter().filter(|p| found.iter().any(|at| at.abs_diff(**p) <= 2)).count();
        assert!(named >= 8, "{found:?}");
    }

    /// Nights with this noise and now and then a bad one, the level rising by `step` in the middle.
    fn nights(n: usize, step: f64, dice: &mut Pcg64) -> Vec<f64> {
        let night = |i: usize| {
            let noise = (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
            let bad = if dice.random::<f64>() < 0.03 { 8.0 } else { 0.0 };
            noise + bad + if i >= n / 2 { step } else { 0.0 }
        };
        (0..n).map(night).collect()
    }

    #[test]
    fn nights_without_a_change_seldom_have_one_and_a_change_is_found_within_days() {
        let mut dice = Pcg64::seed_from_u64(4);
        let alarms = (0..300).filter(|_| !changes(&nights(60, 0.0, &mut dice)).is_empty()).count();
        assert!(alarms <= 18, "{alarms} of 300");
        let found = (0..100).filter(|_| {
            let found = changes(&nights(60, 3.0, &mut dice));
            found.len() == 1 && found[0].abs_diff(30) <= 2
        });
        let found = found.count();
        assert!(found >= 85, "{found} of 100");
    }

    #[test]
    fn too_few_points_and_equal_points_have_no_change() {
        assert!(changes(&[]).is_empty() && changes(&[1.0; 9]).is_empty() && changes(&[1.0; 50]).is_empty());
        assert_eq!(changes(&[&[1.0; 6][..], &[2.0; 6]].concat()), [6]);
    }
}
