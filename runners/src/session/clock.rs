//! How an environment's clock runs against the host's, fitted from the stamps that every exchange carries.

use workloads::evidence::ClockFit;

/// The four stamps of one exchange, nanoseconds: host sent, agent received, agent sent, host received.
pub type Stamps = [u64; 4];

/// Below this span a drift drowns in the round trips, nanoseconds.
const SHORTEST_SPAN: f64 = 1e8;

/// An exchange that kept the agent busy for longer says little: drift within it looks like a round trip, nanoseconds.
const LONGEST_SERVICE: f64 = 5e6;

/// One exchange: when, how far apart the clocks were, and how uncertain that is.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// Host time of the middle, nanoseconds.
    at: f64,
    /// Guest minus host in the middle, nanoseconds.
    offset: f64,
    /// Half the round trip without the agent's own time: the offset can't be further off.
    half: f64,
    service: f64,
}

/// Fits drift and jumps. Uses the exchange with the shortest round trip in the first and in the last quarter of the span, as
/// NTP does: the shortest trip was disturbed least.
pub fn fit(stamps: &[Stamps]) -> ClockFit {
    let mut points: Vec<Point> = stamps.iter().filter_map(point).collect();
    let short = points.iter().filter(|p| p.service <= LONGEST_SERVICE).count();
    if short >= 2 {
        points.retain(|p| p.service <= LONGEST_SERVICE);
    }
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return ClockFit::default() };
    let span = last.at - first.at;
    let (begin, end) = (first.at + span / 4.0, last.at - span / 4.0);
    let best =
        |of: &dyn Fn(&&Point) -> bool| points.iter().filter(of).min_by(|a, b| a.half.total_cmp(&b.half)).copied();
    let ends = best(&|p| p.at <= begin).zip(best(&|p| p.at >= end));
    let (drift, uncertainty, base) = match ends {
        Some((a, b)) if span >= SHORTEST_SPAN => {
            let over = b.at - a.at;
            (Some((b.offset - a.offset) / over), Some((a.half + b.half) / over), a)
        }
        _ => (None, None, *first),
    };
    let slope = drift.unwrap_or(0.0);
    let bend = |a: &Point, b: &Point| (b.offset - a.offset - slope * (b.at - a.at)).abs();
    let slack = uncertainty.unwrap_or(0.0);
    let from_line = points.iter().map(|p| bend(&base, p) - p.half - base.half - slack * (p.at - base.at).abs());
    let from_neighbour = points.windows(2).map(|w| {
        let (a, b) = (&w[0], &w[1]);
        bend(a, b) - a.half - b.half - slack * (b.at - a.at).abs()
    });
    let jump = from_line.chain(from_neighbour).fold(0.0, f64::max);
    ClockFit {
        drift_ppm: drift.map(|d| d * 1e6),
        uncertainty_ppm: uncertainty.map(|u| u * 1e6),
        // Below a microsecond lies the rounding of the sums, not the guest.
        jump_ns: if jump < 1000.0 { 0 } else { jump as u64 },
    }
}

/// `None` for stamps that run backwards: what comes from an environment is not trusted.
fn point(&[sent, received, answered, back]: &Stamps) -> Option<Point> {
    if back < sent || answered < received {
        return None;
    }
    let (trip, service) = ((back - sent) as f64, (answered - received) as f64);
    let host = sent as f64 + trip / 2.0;
    let guest = received as f64 + service / 2.0;
    Some(Point { at: host, offset: guest - host, half: ((trip - service) / 2.0).max(0.0), service })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Stamps of a guest whose clock runs at `1 + drift` with an offset, over links with the given delays, microseconds.
    fn exchanges(drift: f64, offset: u64, delays: &[(u64, u64)], jump_at: usize, jump: u64) -> Vec<Stamps> {
        let mut all = Vec::new();
        for (i, (there, back)) in delays.iter().enumerate() {
            let sent = i as u64 * 50_000_000;
            let guest = |host: u64| (host as f64 * (1.0 + drift)) as u64 + offset + if i >= jump_at { jump } else { 0 };
            let arrived = sent + there * 1000;
            let answered = arrived + 10_000;
            all.push([sent, guest(arrived), guest(answered), answered + back * 1000]);
        }
        all
    }

    proptest! {
        #[test]
        fn the_true_drift_lies_within_the_uncertainty(
            drift_ppm in -2000.0..2000.0_f64,
            offset in 0..1_000_000_000_000_u64,
            delays in prop::collection::vec((5..5000_u64, 5..5000_u64), 4..60),
        ) {
            let fit = fit(&exchanges(drift_ppm * 1e-6, offset, &delays, usize::MAX, 0));
            let (drift, uncertainty) = (fit.drift_ppm.unwrap(), fit.uncertainty_ppm.unwrap());
            prop_assert!((drift - drift_ppm).abs() <= uncertainty + 0.1, "{drift_ppm}: {fit:?}");
            prop_assert_eq!(fit.jump_ns, 0);
        }

        #[test]
        fn a_jump_is_seen(
            at in 5..35_usize,
            jump in 2_000_000..1_000_000_000_u64,
            delays in prop::collection::vec((5..50_u64, 5..50_u64), 40),
        ) {
            let fit = fit(&exchanges(1e-5, 0, &delays, at, jump));
            prop_assert!(fit.jump_ns > jump / 2 && fit.jump_ns <= jump + 200_000, "{jump}: {fit:?}");
        }

        #[test]
        fn nonsense_does_not_panic(stamps in prop::collection::vec(any::<[u64; 4]>(), 0..20)) {
            fit(&stamps);
        }
    }

    #[test]
    fn too_little_to_tell_is_no_drift() {
        assert_eq!(fit(&[]), ClockFit::default());
        assert_eq!(fit(&[[0, 5, 6, 11], [100, 105, 106, 111]]).drift_ppm, None);
    }
}
