//! The plot of a trend: the overhead of every environment from run to run, with the changes.

use anyhow::Result;
use plotters::prelude::*;

use super::{Anchor, Ink, LABEL, LogAxis, Place, QUIET, fitted, line, log_ticks, picture, px, spread, write};
use crate::render::markup::Markup;
use crate::render::units;
use crate::trend::{Series, Trend};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
/// Room for the names at the ends of the lines.
const RIGHT: f64 = 130.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;

/// The series of one workload.
///
/// # Errors
/// When plotters fails.
pub fn plot(place: Place, t: &Trend, workload: &str, series: &[&Series]) -> Result<Markup> {
    let changes = series.iter().map(|s| s.changes.len()).sum::<usize>();
    let title = format!(
        "Overhead in {workload} over {} runs, in {} environments, with {changes} changes",
        t.runs.len(),
        series.len()
    );
    let values = || series.iter().flat_map(|s| s.points.iter().map(|(_, overhead)| overhead.value));
    let (low, high) = values().fold((1.0f64, 1.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let axis = LogAxis { low: low / 1.05, high: high * 1.05, from: HEIGHT - BOTTOM, to: TOP };
    let last = t.runs.len().saturating_sub(1).max(1) as f64;
    let at = |run: usize| LEFT + (WIDTH - LEFT - RIGHT) * run as f64 / last;
    picture(place, &title, (WIDTH as u32, HEIGHT as u32), |area| {
        for tick in log_ticks(axis.low, axis.high, 6) {
            let y = axis.at(tick);
            line(area, (LEFT, y), (WIDTH - RIGHT, y), Ink::Grid, 1.0)?;
            write(area, (LEFT - 6.0, y), Anchor::End, QUIET, &units::ratio(tick, None))?;
        }
        line(area, (LEFT, axis.at(1.0)), (WIDTH - RIGHT, axis.at(1.0)), Ink::Base, 1.0)?;
        for (run, anchor) in [(0, Anchor::Start), (t.runs.len().saturating_sub(1), Anchor::End)] {
            let day = t.runs.get(run).map_or("", |night| night.started.get(..10).unwrap_or(""));
            if run > 0 || t.runs.len() == 1 || matches!(anchor, Anchor::Start) {
                write(area, (at(run), HEIGHT - 12.0), anchor, QUIET, day)?;
            }
        }
        for (run, _) in t.runs.iter().enumerate().filter(|(_, night)| night.accepted.is_some()) {
            let (x, y) = (at(run), HEIGHT - BOTTOM + 2.0);
            let corners = vec![(px(x), px(y)), (px(x - 4.0), px(y + 7.0)), (px(x + 4.0), px(y + 7.0))];
            area.draw(&Polygon::new(corners, Ink::Base.token().filled()))?;
        }
        for (nth, s) in series.iter().enumerate() {
            let ink = Ink::Series(nth);
            for change in &s.changes {
                let x = (at(change.last) + at(change.first)) / 2.0;
                line(area, (x, TOP), (x, HEIGHT - BOTTOM), ink, 1.0)?;
            }
            let points =
                s.points.iter().map(|(run, overhead)| (px(at(*run)), px(axis.at(overhead.value)))).collect::<Vec<_>>();
            area.draw(&PathElement::new(points, ink.token().stroke_width(px(1.5).unsigned_abs())))?;
        }
        let ends: Vec<f64> = series.iter().map(|s| s.points.last().map_or(1.0, |(_, o)| axis.at(o.value))).collect();
        // In the order of their heights: names are moved apart and never past each other.
        let mut order: Vec<usize> = (0..series.len()).collect();
        order.sort_by(|a, b| ends[*a].total_cmp(&ends[*b]));
        let heights = spread(&order.iter().map(|i| ends[*i]).collect::<Vec<_>>(), 14.0, TOP + 4.0, HEIGHT - BOTTOM);
        for (i, y) in order.into_iter().zip(heights) {
            let name = fitted(&series[i].environment, LABEL.size, RIGHT - 12.0);
            let ink = Ink::Series(i);
            write(area, (WIDTH - RIGHT + 6.0, y), Anchor::Start, super::Type { ink, ..LABEL }, &name)?;
        }
        Ok(())
    })
}
