//! Where things stand: logarithmic axes, round ticks, and labels that keep their distance.

/// A logarithmic axis from data to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogAxis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) from: f64,
    pub(super) to: f64,
}

impl LogAxis {
    pub(super) fn at(&self, value: f64) -> f64 {
        // What has no logarithm has no place either; the edge is where a reader looks for it.
        if value.is_nan() || value <= 0.0 {
            return self.from;
        }
        let span = (self.high / self.low).ln().max(f64::MIN_POSITIVE);
        let share = ((value / self.low).ln() / span).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * share
    }
}

/// Round values within a range of positive numbers, at most `most`, as evenly spaced on a logarithmic axis as round values are.
pub(super) fn log_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let inside = |ticks: Vec<f64>| -> Vec<f64> {
        ticks.into_iter().filter(|t| *t >= low * 0.9999 && *t <= high * 1.0001).collect()
    };
    let decades = || {
        let first = low.log10().floor() as i32;
        let last = high.log10().ceil() as i32;
        first..=last
    };
    let of = |digits: &[f64]| inside(decades().flat_map(|e| digits.iter().map(move |d| d * 10f64.powi(e))).collect());
    // Under a factor of two only evenly spaced steps are close enough together.
    if high / low < 2.5 {
        for step in [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0] {
            let step = step * 10f64.powf(low.log10().floor()).max(f64::MIN_POSITIVE);
            let first = (low / step).ceil() as i64;
            let last = (high / step).floor() as i64;
            let ticks: Vec<f64> = (first..=last.min(first + 64)).map(|n| n as f64 * step).collect();
            if ticks.len() <= most && ticks.len() >= 2 {
                return ticks;
            }
        }
    }
    for digits in [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]] {
        let ticks = of(digits);
        if ticks.len() <= most {
            return ticks;
        }
    }
    let ticks = of(&[1.0]);
    let every = ticks.len().div_ceil(most.max(1));
    ticks.into_iter().step_by(every.max(1)).collect()
}

/// Moves positions apart until neighbours are `gap` from each other, staying within `low..high` where that is possible.
/// The order stays; returns the new positions in the order given.
pub(super) fn spread(positions: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_by(|a, b| positions[*a].total_cmp(&positions[*b]).then(a.cmp(b)));
    // Clusters: (members, centre). Two that overlap become one around their common centre.
    let mut clusters: Vec<(Vec<usize>, f64)> = Vec::new();
    for index in order {
        clusters.push((vec![index], positions[index]));
        while let [.., a, b] = clusters.as_slice() {
            let need = gap * (a.0.len() + b.0.len()) as f64 / 2.0;
            if b.1 - a.1 >= need {
                break;
            }
            let (members, _) = clusters.pop().expect("the pattern saw two");
            let last = clusters.last_mut().expect("the pattern saw two");
            last.0.extend(members);
            let mean = last.0.iter().map(|i| positions[*i]).sum::<f64>() / last.0.len() as f64;
            let half = gap * last.0.len() as f64 / 2.0;
            last.1 = mean.clamp((low + half).min(high - half), (high - half).max(low + half));
        }
    }
    let mut placed = vec![0.0; positions.len()];
    for (members, centre) in clusters {
        let first = centre - gap * (members.len() as f64 - 1.0) / 2.0;
        for (k, index) in members.into_iter().enumerate() {
            placed[index] = first + gap * k as f64;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(log_ticks(0.8, 25.0, 6), vec![1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(log_ticks(0.9, 3.5, 6), vec![1.0, 1.5, 2.0, 3.0]);
        assert_eq!(log_ticks(0.5, 600.0, 6), vec![1.0, 3.0, 10.0, 30.0, 100.0, 300.0]);
        let narrow = log_ticks(0.93, 1.3, 5);
        assert!(narrow.len() >= 3 && narrow.len() <= 5, "{narrow:?}");
        assert!(narrow.iter().any(|t| (t - 1.0).abs() < 1e-9), "{narrow:?}");
        assert!(log_ticks(1e-3, 1e9, 6).len() <= 6);
    }

    #[test]
    fn labels_do_not_overlap() {
        let placed = spread(&[10.0, 10.0, 11.0, 50.0, 99.0, 99.0], 12.0, 0.0, 100.0);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|w| w[1] - w[0] >= 11.99), "{placed:?}");
        assert!(sorted[0] >= 0.0 && sorted[5] <= 100.0, "{placed:?}");
        assert_eq!(spread(&[10.0, 40.0], 12.0, 0.0, 100.0), vec![10.0, 40.0]);
    }
}
