//! Curves along the percentiles, on an axis that gives every further nine the same room: latencies, and the overhead.

use anyhow::Result;
use plotters::prelude::*;

use super::{
    Anchor, Area, Ink, LABEL, LogAxis, Place, QUIET, Surface, Type, fitted, line, log_ticks, picture, px, spread, write,
};
use crate::comparison::{Comparison, Distribution, OverheadAt, Role, quantile};
use crate::render::markup::Markup;
use crate::render::{units, words};
use crate::statistics::Interval;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
/// Room for the names at the ends of the curves.
const RIGHT: f64 = 132.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Steps per nine at which a curve is looked up.
const STEPS: u32 = 24;

/// One environment's curve.
struct Curve<'a> {
    name: &'a str,
    ink: Ink,
    width: f64,
    /// Nines and value.
    points: Vec<(f64, f64)>,
    /// Nines and interval.
    bars: Vec<(f64, Interval)>,
}

/// Where curves begin: the fastest few operations say little and would take half of the height.
const FIRST: f64 = 0.1;

/// How many nines a percentile has: 0.9 is one, 0.999 is three.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

/// Percentiles that the axis names.
const NAMED: [(f64, &str); 7] =
    [(FIRST, "10"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"), (0.99999, "99.999 %")];

/// Latency along the percentiles, every environment of a workload; `None` where nothing ran.
///
/// # Errors
/// When plotters fails.
pub fn latencies(place: Place, c: &Comparison, workload: &str) -> Result<Option<Markup>> {
    let curves: Vec<Curve<'_>> = series(c, workload)
        .map(|(d, ink, width)| Curve { name: c.label(&d.environment), ink, width, points: points(d), bars: Vec::new() })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    if curves.is_empty() {
        return Ok(None);
    }
    let title = format!("Latency in {workload} by percentile: {}", listing(&curves, units::duration));
    plot(place, &title, &curves, None, units::duration).map(Some)
}

/// Overhead along the percentiles, every environment of a workload; `None` where there is none.
///
/// # Errors
/// When plotters fails.
pub fn overheads(place: Place, c: &Comparison, workload: &str) -> Result<Option<Markup>> {
    let mut curves: Vec<Curve<'_>> = series(c, workload)
        .filter(|(d, ..)| !d.overhead.is_empty())
        .map(|(d, ink, width)| Curve {
            name: c.label(&d.environment),
            ink,
            width,
            points: d
                .overhead
                .iter()
                .filter(|o| o.overhead.value > 0.0 && o.overhead.value.is_finite())
                .map(|o| (nines(o.quantile), o.overhead.value))
                .collect(),
            bars: named(&d.overhead),
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    if curves.is_empty() {
        return Ok(None);
    }
    // Intervals at the same percentile stand side by side.
    let middle = (curves.len() as f64 - 1.0) / 2.0;
    for (i, curve) in curves.iter_mut().enumerate() {
        for (x, _) in &mut curve.bars {
            *x += (i as f64 - middle) * 0.018;
        }
    }
    let label = |v: f64| format!("{}×", (v * 1e4).round() / 1e4);
    let title = format!("Overhead in {workload} by percentile: {}", listing(&curves, |v| units::ratio(v, None)));
    plot(place, &title, &curves, Some(1.0), label).map(Some)
}

/// The intervals at the percentiles that the axis names: at all of them they would be a fog.
fn named(overhead: &[OverheadAt]) -> Vec<(f64, Interval)> {
    overhead
        .iter()
        .filter(|o| NAMED.iter().any(|(q, _)| (q - o.quantile).abs() < 1e-9))
        .filter_map(|o| Some((nines(o.quantile), o.overhead.interval?)))
        .filter(|(_, i)| i.low > 0.0 && i.high.is_finite())
        .collect()
}

/// For those who listen: each environment's value at the right end.
fn listing(curves: &[Curve<'_>], label: impl Fn(f64) -> String) -> String {
    let one =
        |curve: &Curve<'_>| curve.points.last().map(|(_, value)| format!("{} up to {}", curve.name, label(*value)));
    curves.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// The distributions of a workload with colour and width; an environment keeps its colour in all plots of a report.
fn series<'a>(c: &'a Comparison, workload: &str) -> impl Iterator<Item = (&'a Distribution, Ink, f64)> {
    let place = |name: &str| words::compared(c).position(|e| e.plan.name == name);
    words::tried(c).filter_map(move |e| {
        let distribution = c.distribution(workload, &e.plan.name)?;
        let (ink, width) = match e.role {
            Role::Baseline => (Ink::Base, 2.4),
            Role::Control => (Ink::Muted, 1.2),
            Role::Compared => (Ink::Series(place(&e.plan.name).unwrap_or(0)), 1.8),
        };
        Some((distribution, ink, width))
    })
}

/// The curve as far as the operations carry it.
fn points(d: &Distribution) -> Vec<(f64, f64)> {
    if d.histogram.is_empty() {
        return Vec::new();
    }
    let histogram = d.histogram.open();
    let last = nines(d.carried.clamp(0.5, 0.999_999));
    // Of what another program printed a few percentiles are known, and nothing between them.
    if let Some(printed) = d.stated.as_ref().and_then(|stated| stated.percentiles.as_ref()) {
        let known = printed.iter().map(|p| f64::from(*p) / 1e6).filter(|q| (FIRST..1.0).contains(q));
        return known.map(|q| (nines(q), quantile(&histogram, q).max(1.0))).filter(|(x, _)| *x <= last).collect();
    }
    // A few nines of some dozens of steps.
    let steps = (last * f64::from(STEPS)).floor() as u32;
    let at = |x: f64| (x, (histogram.value_at_quantile(1.0 - 10f64.powf(-x)) as f64).max(1.0));
    let further = (1..=steps).map(|i| f64::from(i) / f64::from(STEPS)).filter(|x| *x > nines(FIRST));
    [nines(FIRST)].into_iter().chain(further).chain([last]).map(at).collect()
}

fn plot(
    place: Place,
    title: &str,
    curves: &[Curve<'_>],
    one: Option<f64>,
    label: impl Fn(f64) -> String,
) -> Result<Markup> {
    let values = || {
        let bars = curves.iter().flat_map(|c| c.bars.iter().flat_map(|(_, i)| [i.low, i.high]));
        curves.iter().flat_map(|c| c.points.iter().map(|p| p.1)).chain(bars).chain(one)
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    let air = (high / low).powf(0.05).max(1.02);
    let last = curves.iter().flat_map(|c| c.points.iter().map(|p| p.0)).fold(1.0, f64::max);
    let frame = Frame {
        y: LogAxis { low: low / air, high: high * air, from: HEIGHT - BOTTOM, to: TOP },
        last,
        right: WIDTH - RIGHT,
    };
    picture(place, title, (WIDTH as u32, HEIGHT as u32), |area| {
        grid(area, &frame, one, &label)?;
        for curve in curves.iter().rev() {
            draw(area, &frame, curve)?;
        }
        names(area, &frame, curves)
    })
}

struct Frame {
    y: LogAxis,
    last: f64,
    right: f64,
}

impl Frame {
    fn x(&self, nines: f64) -> f64 {
        let first = self::nines(FIRST);
        LEFT + (self.right - LEFT) * ((nines - first) / (self.last - first)).clamp(0.0, 1.0)
    }
}

fn grid(area: &Area<impl Surface>, frame: &Frame, one: Option<f64>, label: impl Fn(f64) -> String) -> Result<()> {
    for tick in log_ticks(frame.y.low, frame.y.high, 7) {
        let y = frame.y.at(tick);
        line(area, (LEFT, y), (frame.right, y), Ink::Grid, 1.0)?;
        write(area, (LEFT - 8.0, y), Anchor::End, QUIET, &round(&label(tick)))?;
    }
    if let Some(one) = one {
        line(area, (LEFT, frame.y.at(one)), (frame.right, frame.y.at(one)), Ink::Base, 1.2)?;
    }
    let bottom = HEIGHT - BOTTOM;
    for (quantile, name) in NAMED.iter().filter(|(q, _)| nines(*q) <= frame.last + 0.02) {
        let x = frame.x(nines(*quantile));
        line(area, (x, TOP), (x, bottom), Ink::Grid, 1.0)?;
        write(area, (x, bottom + 12.0), Anchor::Middle, QUIET, name)?;
    }
    write(area, (frame.right + 26.0, bottom + 12.0), Anchor::Start, QUIET, "percentile")
}

/// `10.0 µs` on an axis is `10 µs`.
pub(super) fn round(label: &str) -> String {
    match label.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => label.to_owned(),
    }
}

fn draw(area: &Area<impl Surface>, frame: &Frame, curve: &Curve<'_>) -> Result<()> {
    for (x, interval) in &curve.bars {
        let x = frame.x(*x);
        line(area, (x, frame.y.at(interval.low)), (x, frame.y.at(interval.high)), curve.ink, 1.0)?;
    }
    let points: Vec<(i32, i32)> = curve.points.iter().map(|(x, y)| (px(frame.x(*x)), px(frame.y.at(*y)))).collect();
    let style = curve.ink.token().stroke_width(px(curve.width).unsigned_abs());
    area.draw(&PathElement::new(points, style))?;
    Ok(())
}

/// The name of every curve at its end, moved apart where they would overlap and then tied to it by a thin line.
fn names(area: &Area<impl Surface>, frame: &Frame, curves: &[Curve<'_>]) -> Result<()> {
    let ends: Vec<(f64, f64)> =
        curves.iter().map(|c| c.points.last().map_or((0.0, 0.0), |(x, y)| (frame.x(*x), frame.y.at(*y)))).collect();
    let heights: Vec<f64> = ends.iter().map(|e| e.1).collect();
    let placed = spread(&heights, 14.0, TOP, HEIGHT - BOTTOM);
    for ((curve, (x, y)), at) in curves.iter().zip(ends).zip(placed) {
        let from = frame.right + 16.0;
        line(area, (x + 2.0, y), (from, at), curve.ink, 0.6)?;
        let kind = Type { ink: curve.ink, bold: curve.ink == Ink::Base, ..LABEL };
        write(area, (from + 4.0, at), Anchor::Start, kind, &fitted(curve.name, LABEL.size, RIGHT - 24.0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn every_nine_has_the_same_room() {
        assert!((nines(0.9) - 1.0).abs() < 1e-9);
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(1.0).is_finite());
    }

    #[test]
    fn curves_stop_where_the_operations_no_longer_carry_them() {
        let c = sample::comparison();
        let d = &c.distributions[0];
        let last = points(d).last().map(|p| p.0).unwrap();
        assert!((last - nines(d.carried)).abs() < 1e-9, "{last}");
    }

    #[test]
    fn every_environment_has_its_name_in_the_plot() {
        let c = sample::comparison();
        let workload = &c.run.workloads[0].name;
        for svg in [latencies(Place::Page, &c, workload).unwrap(), overheads(Place::Page, &c, workload).unwrap()] {
            let svg = svg.unwrap();
            let svg = svg.as_str();
            assert!(svg.contains(">gvisor</text>"), "{svg}");
            assert!(svg.contains("role=\"img\""), "{svg}");
        }
        assert_eq!(latencies(Place::Page, &c, "no/such").unwrap(), None);
    }

    #[test]
    fn axis_labels_have_no_idle_zeros() {
        assert_eq!(round("10.0 µs"), "10 µs");
        assert_eq!(round("200 µs"), "200 µs");
        assert_eq!(round("1.50 ms"), "1.5 ms");
    }
}
