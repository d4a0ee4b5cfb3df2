//! The arithmetic of uncertainty: the Hodges-Lehmann estimate with the exact signed-rank interval, and what stands beside it.
//!
//! Inputs are one value per block: the logarithm of a ratio, or a difference. Blocks are few (5 to 30) and their
//! distribution is unknown, so everything that decides rests on ranks and the exact null distribution; only symmetry is
//! assumed. Bootstrap intervals are too narrow at such sizes and are not used.
//!
//! Source: Hollander, Wolfe & Chicken, *Nonparametric Statistical Methods*, 3rd ed., chapter 3.

use statrs::distribution::{ContinuousCDF, FisherSnedecor, Normal, StudentsT};

/// Fewer values have no finite interval at 95 %: the smallest tail of the signed-rank distribution is too large.
pub const FEWEST_FOR_INTERVAL: u32 = 6;

/// From here on the normal approximation replaces the exact distribution: at n = 60 the two agree to three digits.
const EXACT_UP_TO: usize = 60;

/// Ratio of the standard deviation of normal values to their median absolute deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// A value with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The best single figure.
    pub value: f64,
    /// Where the truth lies; `None` where there are too few blocks for a finite interval.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// Carries the value and both ends of the interval through an increasing function, such as `exp`.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Estimate {
        let interval = self.interval.map(|i| Interval { low: f(i.low), high: f(i.high), ..i });
        Estimate { value: f(self.value), interval }
    }
}

/// Both ends of an interval and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// As asked for, 0..1; the exact coverage is at least this.
    pub confidence: f64,
}

impl Interval {
    /// Whether `value` lies within, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The Walsh averages `(d_j + d_k) / 2` for all `j <= k`, sorted. There are n(n+1)/2 of them.
pub fn walsh_averages(d: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(d.len() * (d.len() + 1) / 2);
    for (j, a) in d.iter().enumerate() {
        // Half of each, not half of the sum: the sum of two large values may overflow.
        averages.extend(d[j..].iter().map(|b| a / 2.0 + b / 2.0));
    }
    averages.sort_by(f64::total_cmp);
    averages
}

/// The distribution of the signed-rank sum W+ of `n` values that are as likely above zero as below: `P(W+ = w)` for
/// `w` from 0 to n(n+1)/2.
pub fn signed_rank_null(n: usize) -> Vec<f64> {
    rank_null(&(1..=n).collect::<Vec<_>>())
}

/// Likewise for any ranks, such as those of ties.
fn rank_null(ranks: &[usize]) -> Vec<f64> {
    let mut p = vec![0.0; ranks.iter().sum::<usize>() + 1];
    p[0] = 1.0;
    let mut reach = 0;
    for &rank in ranks {
        reach += rank;
        for w in (0..=reach).rev() {
            let with = if w >= rank { p[w - rank] } else { 0.0 };
            p[w] = (p[w] + with) / 2.0;
        }
    }
    p
}

/// Which Walsh average, counted from 1 at either end, bounds the interval: the smallest k with `2 P(W+ <= k) > 1 - confidence`.
/// 0 where `n` values can't give a finite interval of this confidence.
pub fn critical_rank(n: usize, confidence: f64) -> usize {
    let alpha = 1.0 - confidence;
    if n > EXACT_UP_TO {
        let (mean, sd) = signed_rank_moments(n);
        let at = mean + standard_normal().inverse_cdf(alpha / 2.0) * sd - 0.5;
        return if at < 0.0 { 0 } else { at.floor() as usize + 1 };
    }
    let mut tail = 0.0;
    signed_rank_null(n)
        .into_iter()
        .position(|p| {
            tail += p;
            2.0 * tail > alpha
        })
        .unwrap_or(0)
}

/// The Hodges-Lehmann estimate, the median of the Walsh averages, with its exact signed-rank interval; `None` without values.
pub fn hodges_lehmann(d: &[f64], confidence: f64) -> Option<Estimate> {
    let averages = walsh_averages(d);
    let value = sorted_median(&averages)?;
    let k = critical_rank(d.len(), confidence);
    let interval = (k > 0).then(|| Interval { low: averages[k - 1], high: averages[averages.len() - k], confidence });
    Some(Estimate { value, interval })
}

/// The probability of values at least this far above `margin` if their centre were `margin`: small says that the
/// centre is above. One-sided signed-rank test; zeros are dropped, ties get mid-ranks. 1 where nothing is left.
pub fn p_above(d: &[f64], margin: f64) -> f64 {
    let mut shifted: Vec<f64> = d.iter().map(|x| x - margin).filter(|x| *x != 0.0).collect();
    shifted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = shifted.len();
    if n == 0 {
        return 1.0;
    }
    let mut doubled = Vec::with_capacity(n);
    for tied in shifted.chunk_by(|a, b| a.abs() == b.abs()) {
        // Ranks first+1 ..= first+len have the mean first + (len + 1) / 2.
        let rank = 2 * doubled.len() + tied.len() + 1;
        doubled.extend(std::iter::repeat_n(rank, tied.len()));
    }
    let above: usize = shifted.iter().zip(&doubled).filter(|(x, _)| **x > 0.0).map(|(_, rank)| rank).sum();
    if n > EXACT_UP_TO {
        let mean = doubled.iter().sum::<usize>() as f64 / 4.0;
        let sd = doubled.iter().map(|r| (*r as f64 / 4.0).powi(2)).sum::<f64>().sqrt();
        return standard_normal().sf((above as f64 / 2.0 - 0.5 - mean) / sd);
    }
    // Doubled, the mid-ranks of ties are whole numbers; without ties there is nothing to double for.
    let unit = if doubled.iter().all(|rank| rank % 2 == 0) { 2 } else { 1 };
    let ranks: Vec<usize> = doubled.iter().map(|rank| rank / unit).collect();
    rank_null(&ranks)[above / unit..].iter().sum::<f64>().min(1.0)
}

/// The probability of a mean at least this far above `margin` if the true one were `margin`: Student's one-sided t test.
/// 1 for fewer than two values.
///
/// Signed ranks of n values can't fall below 2^-n whatever the effect is, so that with a hundred comparisons and eight blocks
/// no claim could ever be made; the t test has no such floor, and heavy tails make it cautious, not bold.
pub fn p_mean_above(d: &[f64], margin: f64) -> f64 {
    let n = d.len() as f64;
    let above = d.iter().sum::<f64>() / n - margin;
    match sigma(d) {
        None => 1.0,
        Some(0.0) if above > 0.0 => 0.0,
        Some(0.0) => 1.0,
        Some(sigma) => student(n - 1.0).sf(above / sigma * n.sqrt()),
    }
}

/// Probabilities adjusted for all of their family: with those below `alpha` taken as findings, the chance of any false one is
/// at most `alpha`, however they depend on each other (Holm 1979, *Scandinavian Journal of Statistics* 6, 65-70).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut adjusted, mut least) = (vec![1.0; p.len()], 0.0f64);
    for (rank, at) in order.into_iter().enumerate() {
        least = least.max(((p.len() - rank) as f64 * p[at]).min(1.0));
        adjusted[at] = least;
    }
    adjusted
}

/// Mean with Student's t interval; `None` without values, no interval for a single one.
pub fn student_mean(d: &[f64], confidence: f64) -> Option<Estimate> {
    let n = d.len() as f64;
    if d.is_empty() {
        return None;
    }
    let value = d.iter().sum::<f64>() / n;
    let interval = sigma(d).map(|sigma| {
        let t = student(n - 1.0).inverse_cdf(0.5 + confidence / 2.0);
        let half = t * sigma / n.sqrt();
        Interval { low: value - half, high: value + half, confidence }
    });
    Some(Estimate { value, interval })
}

/// How far the centre of `b` lies above that of `a`, from samples that aren't paired and whose deviations may differ: Welch's t
/// interval (Welch 1947, *Biometrika* 34, 28-35). `None` where one of them is empty; no interval where one has a single value.
pub fn welch(a: &[f64], b: &[f64], confidence: f64) -> Option<Estimate> {
    let value = mean(b)? - mean(a)?;
    let interval = error_between(a, b).map(|(error, freedom)| {
        // Two samples without any deviation have no degrees of freedom and need none.
        let half = if error > 0.0 { student(freedom).inverse_cdf(0.5 + confidence / 2.0) * error } else { 0.0 };
        Interval { low: value - half, high: value + half, confidence }
    });
    Some(Estimate { value, interval })
}

/// How likely centres look as far apart as these if they are the same: Welch's two-sided test. `None` where there is no interval.
pub fn welch_p(a: &[f64], b: &[f64]) -> Option<f64> {
    let apart = (mean(b)? - mean(a)?).abs();
    let (error, freedom) = error_between(a, b)?;
    if error > 0.0 {
        return Some(2.0 * student(freedom).sf(apart / error));
    }
    Some(if apart > 0.0 { 0.0 } else { 1.0 })
}

fn mean(d: &[f64]) -> Option<f64> {
    (!d.is_empty()).then(|| d.iter().sum::<f64>() / d.len() as f64)
}

/// Standard error of the difference of two means, and its degrees of freedom by Welch and Satterthwaite.
fn error_between(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let (va, vb) = (sigma(a)?.powi(2) / a.len() as f64, sigma(b)?.powi(2) / b.len() as f64);
    let freedom = (va + vb).powi(2) / (va.powi(2) / (a.len() - 1) as f64 + vb.powi(2) / (b.len() - 1) as f64);
    Some(((va + vb).sqrt(), freedom))
}

/// One value of a series: the logarithm of a ratio, and the standard error with which it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The value.
    pub value: f64,
    /// Its own standard error; 0 where nobody knows.
    pub error: f64,
}

/// Where the next value of a series belongs, and how far off it may be by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The median of the series.
    pub centre: f64,
    /// Standard deviation of the next value around it.
    pub sigma: f64,
    /// Degrees of freedom.
    pub freedom: f64,
}

impl Prediction {
    /// How likely a value is at least this far above what was predicted.
    pub fn p_above(&self, value: f64) -> f64 {
        if self.sigma > 0.0 {
            return student(self.freedom).sf((value - self.centre) / self.sigma);
        }
        if value > self.centre { 0.0 } else { 1.0 }
    }

    /// How far `value` lies above the centre, with the interval that follows from both their errors.
    pub fn above(&self, value: f64, confidence: f64) -> Estimate {
        let half = student(self.freedom).inverse_cdf(0.5 + confidence / 2.0) * self.sigma;
        let value = value - self.centre;
        Estimate { value, interval: Some(Interval { low: value - half, high: value + half, confidence }) }
    }
}

/// Predicts the next value of a series that is known with the standard error `error`; `None` for fewer than two values.
///
/// Runs differ by more than their own errors say: that part is the variance of the series less the errors of its members, and
/// it comes on top of the next value's own error and of the centre's. The larger of the standard deviation and that of the
/// median deviation is taken: a series of two levels must not look narrow.
pub fn predict(series: &[Known], error: f64) -> Option<Prediction> {
    let values: Vec<f64> = series.iter().map(|known| known.value).collect();
    let spread = sigma(&values)?.max(robust_sigma(&values)?);
    let mut sorted = values;
    sorted.sort_by(f64::total_cmp);
    let n = series.len() as f64;
    let within = series.iter().map(|known| known.error.powi(2)).sum::<f64>() / n;
    let between = (spread.powi(2) - within).max(0.0);
    // The median of n normal values has pi/2 times the variance of their mean.
    let of_centre = spread.powi(2).max(within) * std::f64::consts::FRAC_PI_2 / n;
    let sigma = (between + error.powi(2) + of_centre).sqrt();
    Some(Prediction { centre: sorted_median(&sorted)?, sigma, freedom: n - 1.0 })
}

/// The probability that a value of the series lies below `value`, ties counted half: 1 where all do.
pub fn superiority(series: &[Known], value: f64) -> f64 {
    let below = series.iter().map(|known| match known.value.total_cmp(&value) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    });
    below.sum::<f64>() / series.len().max(1) as f64
}

/// The median with an interval between two of the values (sign test); `None` without values. For what isn't paired:
/// starts, memory.
pub fn median(values: &[f64], confidence: f64) -> Option<Estimate> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let value = sorted_median(&sorted)?;
    let n = sorted.len();
    // P(Binomial(n, 1/2) <= k), term by term.
    let (mut term, mut tail, mut k) = (0.5f64.powi(n as i32), 0.0, 0);
    while 2.0 * (tail + term) <= 1.0 - confidence {
        tail += term;
        term *= (n - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    let interval = (k > 0).then(|| Interval { low: sorted[k - 1], high: sorted[n - k], confidence });
    Some(Estimate { value, interval })
}

fn sorted_median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(sorted[middle - 1] / 2.0 + sorted[middle] / 2.0),
    }
}

/// Standard deviation; `None` for fewer than two.
pub fn sigma(d: &[f64]) -> Option<f64> {
    if d.len() < 2 {
        return None;
    }
    let mean = d.iter().sum::<f64>() / d.len() as f64;
    Some((d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (d.len() - 1) as f64).sqrt())
}

/// Standard deviation from the median absolute deviation: half of the values may be wild; `None` for fewer than two.
pub fn robust_sigma(d: &[f64]) -> Option<f64> {
    if d.len() < 2 {
        return None;
    }
    let mut sorted = d.to_vec();
    sorted.sort_by(f64::total_cmp);
    let centre = sorted_median(&sorted)?;
    let mut away: Vec<f64> = d.iter().map(|x| (x - centre).abs()).collect();
    away.sort_by(f64::total_cmp);
    Some(MAD_TO_SIGMA * sorted_median(&away)?)
}

/// The smallest relative change that `n` blocks of log ratios with this standard deviation show four times in five
/// (one-sided 5 %): 0.03 for 3 %. Infinite for fewer than three blocks.
pub fn smallest_visible(sigma: f64, n: usize) -> f64 {
    // (1.645 + 0.842) for level and power, times sqrt(1.05) for ranks instead of values. With the square root of n
    // instead of n - 2, simulated power is 73 % at 12 blocks; this is blocks_needed turned round.
    (2.54 * sigma / (n.saturating_sub(2) as f64).sqrt()).exp_m1()
}

/// Half the width that the interval of `n` blocks of log ratios with this standard deviation is expected to have, relative, at
/// 95 %: Student's of the coverage that the ranks of so many blocks have, which is more than 95 % for few, and a twentieth more
/// variance for ranks. Infinite where ranks give no interval.
pub fn expected_half_width(sigma: f64, n: usize) -> f64 {
    let rank = critical_rank(n, 0.95);
    if rank == 0 {
        return f64::INFINITY;
    }
    let tail = if n > EXACT_UP_TO { 0.025 } else { signed_rank_null(n)[..rank].iter().sum() };
    (student((n - 1) as f64).inverse_cdf(1.0 - tail) * sigma * (1.05 / n as f64).sqrt()).exp_m1()
}

/// What the standard deviation of the next `n` values exceeds once in ten times, where that of `seen` values was `sigma` and
/// nothing has changed: the quantile of Fisher's distribution has the uncertainty of both. Infinite for fewer than two of either.
pub fn next_sigma(sigma: f64, seen: usize, n: usize) -> f64 {
    let freedom = |n: usize| n.saturating_sub(1) as f64;
    let ratio = FisherSnedecor::new(freedom(n), freedom(seen)).map(|f| f.inverse_cdf(0.9));
    ratio.map_or(f64::INFINITY, |ratio| sigma * ratio.sqrt())
}

/// Half the width of an interval of a ratio, relative: what can't be told from 1.
pub fn noise_floor(ratio: &Interval) -> f64 {
    ((ratio.high / ratio.low).ln() / 2.0).exp_m1()
}

/// Blocks needed to show a relative change `delta` to be above `margin` with this power, at a one-sided level `alpha`;
/// `None` where `delta` is not above `margin`.
pub fn blocks_needed(sigma: f64, delta: f64, margin: f64, alpha: f64, power: f64) -> Option<u64> {
    let gap = delta.ln_1p() - margin.ln_1p();
    let z = standard_normal().inverse_cdf(1.0 - alpha) + standard_normal().inverse_cdf(power);
    (gap > 0.0).then(|| (1.05 * (z * sigma / gap).powi(2) + 2.0).ceil() as u64)
}

fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are above 0")
}

fn signed_rank_moments(n: usize) -> (f64, f64) {
    let n = n as f64;
    (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt())
}

fn standard_normal() -> Normal {
    Normal::new(0.0, 1.0).expect("these are the parameters of the standard normal distribution")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_deviation_is_as_uncertain_as_both_are() {
        // Tables of Fisher's distribution: F(0.9; 5, 5) = 3.453, F(0.9; 10, 20) = 1.937.
        assert!((next_sigma(1.0, 6, 6) - 3.453f64.sqrt()).abs() < 1e-3);
        assert!((next_sigma(2.0, 21, 11) - 2.0 * 1.937f64.sqrt()).abs() < 1e-3);
        assert_eq!((next_sigma(1.0, 1, 6), next_sigma(1.0, 6, 1)), (f64::INFINITY, f64::INFINITY));
    }

    #[test]
    fn half_widths_are_those_of_the_interval_by_ranks() {
        // Of six values the interval is their range, whose mean is 2.534 deviations (tables of the range of normal values).
        let six = expected_half_width(0.01, 6).ln_1p() / 0.01;
        assert!((six - 2.534 / 2.0).abs() < 0.05, "{six}");
        assert_eq!(expected_half_width(0.01, 5), f64::INFINITY);
        assert!(expected_half_width(0.01, 60) > expected_half_width(0.01, 61));
    }

    #[test]
    fn critical_ranks_are_those_of_the_tables() {
        for (n, k) in [(5, 0), (6, 1), (8, 4), (10, 9), (12, 14), (15, 26), (20, 53), (24, 82), (30, 138)] {
            assert_eq!(critical_rank(n, 0.95), k, "n = {n}");
        }
    }

    #[test]
    fn the_normal_approximation_continues_the_exact_ranks() {
        let exact = critical_rank(EXACT_UP_TO, 0.95);
        let approximate = critical_rank(EXACT_UP_TO + 1, 0.95);
        assert!((20..=30).contains(&(approximate - exact)), "{exact} {approximate}");
    }

    #[test]
    fn the_null_distribution_is_one() {
        for n in [1, 6, 12, 30, 60] {
            let p = signed_rank_null(n);
            assert_eq!(p.len(), n * (n + 1) / 2 + 1);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!(signed_rank_null(3), [0.125, 0.125, 0.125, 0.25, 0.125, 0.125, 0.125]);
    }

    #[test]
    fn five_values_have_no_finite_interval_and_six_have_their_range() {
        let five = hodges_lehmann(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).expect("values");
        assert_eq!((five.value, five.interval), (3.0, None));
        let six = hodges_lehmann(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.95).expect("values");
        assert_eq!(six.interval.map(|i| (i.low, i.high)), Some((1.0, 6.0)));
        assert!(hodges_lehmann(&[], 0.95).is_none());
    }

    // Hollander & Wolfe, table 3.1: depression scores of nine patients before and after a tranquilizer. R's
    // `wilcox.test(y - x, conf.int = TRUE)` gives -0.46, [-0.786, -0.010], and p = 0.01953 for "less".
    #[test]
    #[expect(clippy::approx_constant, reason = "3.14 is one of the measured scores")]
    fn a_textbook_example_comes_out_as_in_the_textbook() {
        let x = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        let y = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
        let d: Vec<f64> = y.iter().zip(x).map(|(y, x)| y - x).collect();
        let estimate = hodges_lehmann(&d, 0.95).expect("values");
        let interval = estimate.interval.expect("nine values");
        assert!((estimate.value + 0.46).abs() < 1e-9, "{estimate:?}");
        assert!((interval.low + 0.786).abs() < 1e-9 && (interval.high + 0.010).abs() < 1e-9, "{interval:?}");
        let negated: Vec<f64> = d.iter().map(|d| -d).collect();
        assert!((p_above(&negated, 0.0) - 0.01953).abs() < 1e-5, "{}", p_above(&negated, 0.0));
    }

    #[test]
    fn ties_share_their_ranks_and_zeros_are_dropped() {
        // Ranks 1.5, 1.5, 3: all above happens once in eight.
        assert!((p_above(&[1.0, 1.0, 2.0, 0.0], 0.0) - 0.125).abs() < 1e-12);
        // Ranks 2, 2, 2 with one below: W+ >= 4 in four of eight.
        assert!((p_above(&[1.0, 1.0, -1.0], 0.0) - 0.5).abs() < 1e-12);
        assert_eq!(p_above(&[0.05, 0.05], 0.05), 1.0);
    }

    #[test]
    fn welch_needs_neither_pairs_nor_equal_deviations() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        let w = welch(&a, &[6.0, 7.0, 8.0, 9.0, 10.0], 0.95).expect("values");
        // Equal deviations and sizes: Student's interval with 8 degrees of freedom, half-width 2.306 * 1.
        let interval = w.interval.expect("five values each");
        assert!((w.value - 5.0).abs() < 1e-12 && (interval.high - 7.306_004).abs() < 1e-5, "{w:?}");
        // The interval of a confidence ends where the test's probability is what it leaves out.
        let at = [1.0 + 2.306_004, 2.0 + 2.306_004, 3.0 + 2.306_004, 4.0 + 2.306_004, 5.0 + 2.306_004];
        assert!((welch_p(&a, &at).expect("five values each") - 0.05).abs() < 1e-5);
        assert_eq!(welch(&a, &[6.0], 0.95).expect("values").interval, None);
        assert_eq!(welch_p(&a, &[6.0]), None);
        assert!(welch(&a, &[], 0.95).is_none());
        let exact = welch(&[1.0, 1.0], &[2.0, 2.0], 0.95).expect("values").interval.expect("two each");
        assert_eq!((exact.low, exact.high), (1.0, 1.0));
    }

    #[test]
    fn a_prediction_holds_the_scatter_of_the_series_and_the_error_of_the_next_value() {
        let known = |value: f64, error| Known { value, error };
        let series: Vec<Known> = (0..11).map(|i| known(f64::from(i) * 0.01, 0.0)).collect();
        let narrow = predict(&series, 0.0).expect("eleven values");
        let wide = predict(&series, 0.05).expect("eleven values");
        assert!((narrow.centre - 0.05).abs() < 1e-12 && narrow.freedom == 10.0);
        assert!((wide.sigma.powi(2) - narrow.sigma.powi(2) - 0.05f64.powi(2)).abs() < 1e-12);
        assert!(narrow.p_above(0.05) > 0.49 && narrow.p_above(0.5) < 1e-4);
        // What its members' own errors explain is no difference between runs.
        let explained: Vec<Known> = series.iter().map(|k| known(k.value, 0.04)).collect();
        assert!(predict(&explained, 0.0).expect("values").sigma < narrow.sigma);
        assert!(predict(&series[..1], 0.0).is_none());
        assert_eq!(superiority(&series, 0.05), 0.5);
        assert_eq!(superiority(&series, 1.0), 1.0);
    }

    #[test]
    fn student_and_median_and_sigma_of_small_examples() {
        let t = student_mean(&[1.0, 2.0, 3.0, 4.0], 0.95).expect("values");
        assert!((t.interval.expect("four").high - 2.5 - 2.054_260).abs() < 1e-5);
        assert!(student_mean(&[1.0], 0.95).expect("one").interval.is_none());
        let m = median(&[4.0, 1.0, 3.0, 2.0, 6.0, 5.0], 0.95).expect("values");
        assert_eq!((m.value, m.interval.map(|i| (i.low, i.high))), (3.5, Some((1.0, 6.0))));
        assert_eq!(median(&[1.0], 0.95).expect("one").interval, None);
        assert_eq!(robust_sigma(&[1.0, 2.0, 3.0, 4.0, 1000.0]), Some(1.4826));
    }

    #[test]
    fn one_sided_t_of_a_textbook_sample() {
        // R: t.test(c(1, 2, 3, 4), mu = 1, alternative = "greater") gives t = 2.3238, p = 0.05141.
        assert!((p_mean_above(&[1.0, 2.0, 3.0, 4.0], 1.0) - 0.051_41).abs() < 1e-4);
        assert_eq!(
            (p_mean_above(&[2.0, 2.0], 1.0), p_mean_above(&[2.0, 2.0], 2.0), p_mean_above(&[9.0], 0.0)),
            (0.0, 1.0, 1.0)
        );
    }

    #[test]
    fn holm_adjusts_as_r_does() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") gives 0.03 0.06 0.06 0.02.
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (have, want) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((have - want).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn blocks_needed_grow_with_the_noise() {
        assert_eq!(blocks_needed(0.05, 0.05, 0.05, 0.05, 0.8), None);
        let (quiet, loud) = (blocks_needed(0.02, 0.10, 0.05, 0.05, 0.8), blocks_needed(0.05, 0.10, 0.05, 0.05, 0.8));
        assert!(quiet < loud && loud > Some(9) && loud < Some(12), "{quiet:?} {loud:?}");
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-10.0..10.0f64, 1..40)
    }

    fn near(a: Estimate, b: Estimate) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        close(a.value, b.value)
            && match (a.interval, b.interval) {
                (Some(a), Some(b)) => close(a.low, b.low) && close(a.high, b.high),
                (None, None) => true,
                _ => false,
            }
    }

    proptest! {
        #[test]
        fn moving_all_values_moves_the_estimate(d in values(), by in -5.0..5.0f64) {
            let moved: Vec<f64> = d.iter().map(|x| x + by).collect();
            let (a, b) = (hodges_lehmann(&moved, 0.95).expect("values"), hodges_lehmann(&d, 0.95).expect("values"));
            prop_assert!(near(a, b.map(|x| x + by)));
        }

        #[test]
        fn stretching_all_values_stretches_the_estimate(d in values(), by in 0.1..9.0f64) {
            let stretched: Vec<f64> = d.iter().map(|x| x * by).collect();
            let (a, b) = (hodges_lehmann(&stretched, 0.95).expect("values"), hodges_lehmann(&d, 0.95).expect("values"));
            prop_assert!(near(a, b.map(|x| x * by)));
        }

        #[test]
        fn exchanging_the_sides_mirrors_the_estimate(d in values()) {
            let negated: Vec<f64> = d.iter().map(|x| -x).collect();
            let (a, b) = (hodges_lehmann(&negated, 0.95).expect("values"), hodges_lehmann(&d, 0.95).expect("values"));
            let mirrored = b.interval.map(|i| Interval { low: -i.high, high: -i.low, ..i });
            let expected = Estimate { value: -b.value, interval: mirrored };
            prop_assert!(near(a, expected));
        }

        #[test]
        fn the_order_of_blocks_does_not_matter(d in values(), turn in 0usize..40) {
            let mut turned = d.clone();
            turned.rotate_left(turn % d.len());
            prop_assert_eq!(hodges_lehmann(&turned, 0.95), hodges_lehmann(&d, 0.95));
        }

        #[test]
        fn the_interval_holds_the_estimate_and_grows_with_confidence(d in values()) {
            let [narrow, wide] = [0.8, 0.99].map(|c| hodges_lehmann(&d, c).expect("values"));
            if let Some(n) = narrow.interval {
                prop_assert!(n.contains(narrow.value));
                if let Some(w) = wide.interval {
                    prop_assert!(w.low <= n.low && n.high <= w.high);
                }
            }
        }

        #[test]
        fn a_larger_margin_is_harder_to_exceed(d in values(), margin in -1.0..1.0f64, more in 0.0..1.0f64) {
            // Zeros that drop out change n, which may move p either way: keep clear of them.
            prop_assume!(d.iter().all(|x| *x != margin && *x != margin + more));
            let (p, q) = (p_above(&d, margin), p_above(&d, margin + more));
            prop_assert!((0.0..=1.0).contains(&p) && p <= q + 1e-12, "{} {}", p, q);
        }
    }
}
