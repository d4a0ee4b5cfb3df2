//! The trend on a terminal: a line for each series, and below it where it changed.

use std::fmt::Write as _;

use super::{Series, Trend};
use crate::render::escape::one_line;
use crate::render::units::ratio;

/// Columns of a sparkline.
const WIDTH: usize = 48;

/// From the lowest to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A smaller range than this fills no more of the height: noise is to look like noise.
const LEAST_RANGE: f64 = 1.1;

/// The trend as text.
#[must_use]
pub fn text(t: &Trend) -> String {
    let (first, last) = (t.runs.first(), t.runs.last());
    let span = first.zip(last).map_or(String::new(), |(a, b)| format!(", {} to {}", a.words(), b.words()));
    let mut out = one_line(&format!("{} on {}: {}{span}", t.suite, t.key.host_class(), t.count())) + "\n";
    for workload in t.workloads() {
        let metric = t
            .of_workload(workload)
            .next()
            .map_or("", |s| if s.metric.quantile().is_some() { "median" } else { "time per operation" });
        writeln!(out, "\n{}  {metric}", one_line(workload)).expect("strings take all");
        let wide = t.of_workload(workload).map(|s| s.environment.len()).max().unwrap_or(0);
        for series in t.of_workload(workload) {
            line(t, series, wide, &mut out);
        }
    }
    let changed = t.series.iter().map(|s| s.changes.len()).sum::<usize>();
    if changed == 0 {
        out += "\nno change for good in any series\n";
    }
    if let Some(words) = t.same_code() {
        out += &format!("{words}\n");
    }
    for (night, reason) in t.runs.iter().filter_map(|n| Some((n, n.accepted.as_ref()?))) {
        out += &one_line(&format!("accepted: {}: {reason}", night.words()));
        out.push('\n');
    }
    out
}

fn line(t: &Trend, series: &Series, wide: usize, out: &mut String) {
    let name = one_line(&series.environment);
    writeln!(out, "  {name:<wide$}  {:<WIDTH$}  {}", spark(series, t.runs.len()), ratio(series.now(), None))
        .expect("strings take all");
    for change in &series.changes {
        let (first, last) = (t.runs[change.first].words(), t.runs[change.last].words());
        let words = one_line(&format!("{} since {first}; before: {last}", change.words()));
        writeln!(out, "  {:wide$}    {words}", "").expect("strings take all");
    }
}

/// The series in at most [`WIDTH`] bars of its own range, each the mean of its runs' logarithms; a blank where no run has it.
fn spark(series: &Series, runs: usize) -> String {
    let columns = runs.clamp(1, WIDTH);
    let mut sums = vec![(0.0, 0u32); columns];
    for (at, overhead) in &series.points {
        let (sum, count) = &mut sums[at * columns / runs.max(1)];
        *sum += overhead.value.ln();
        *count += 1;
    }
    let means: Vec<Option<f64>> =
        sums.iter().map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count))).collect();
    let there = || means.iter().flatten().copied();
    let (low, high) = there().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), m| (l.min(m), h.max(m)));
    let range = (high - low).max(LEAST_RANGE.ln());
    let from = (low + high - range) / 2.0;
    let bar = |mean: f64| BARS[(((mean - from) / range * 8.0) as usize).min(7)];
    means.into_iter().map(|mean| mean.map_or(' ', bar)).collect()
}
