//! The forest plot: every environment's overhead with its interval, one panel per workload, all on one logarithmic axis.

use anyhow::Result;
use plotters::prelude::*;

use super::{
    Anchor, Area, HEADING, Ink, LABEL, LogAxis, Place, QUIET, Surface, Type, bar, dot, fitted, line, log_ticks,
    picture, px, width_of, write,
};
use crate::comparison::{Comparison, Metric, Role, Verdict, Withheld};
use crate::render::markup::Markup;
use crate::render::{Render, units, words};
use crate::statistics::{Estimate, Interval};

/// Width of a panel: what a phone shows, and a third of a laptop.
const WIDTH: f64 = 400.0;
const ROW: f64 = 21.0;
/// The least and the most room for the names of environments.
const NAMES: (f64, f64) = (56.0, 150.0);
/// Room for the figures.
const FIGURES: f64 = 122.0;
const AXIS: f64 = 26.0;
const TOP: f64 = 6.0;
/// Height of a panel's heading in the picture that stands alone.
const TITLE: f64 = 40.0;

/// One workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Name of the workload.
    pub workload: String,
    /// The metric, and its value on the baseline: `p50 142 µs on bare`.
    pub caption: String,
    /// The interval of the control, which can't be told from 1.
    pub band: Option<Interval>,
    /// Control first, then the environments of the suite.
    pub rows: Vec<Row>,
}

/// One environment in a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the environment.
    pub name: String,
    /// The overhead, or why there is none.
    pub overhead: Result<Estimate, String>,
    /// Shown hollow, and named in words: it does not measure what it says, or doubts are raised.
    pub verdict: Verdict,
    /// Whether a flag stands beside its figures.
    pub marked: bool,
    /// Whether it is the second baseline.
    pub control: bool,
}

/// The panels of a comparison, in the order of its workloads.
#[must_use]
pub fn panels(c: &Comparison) -> Vec<Panel> {
    c.run
        .workloads
        .iter()
        .map(|plan| {
            let metric = Metric::primary(plan);
            let cell = |name: &str| c.cell(&plan.name, name, metric);
            let rows: Vec<Row> = words::tried(c)
                .filter(|e| e.role != Role::Baseline)
                .filter_map(|e| {
                    let cell = cell(&e.plan.name)?;
                    let overhead = match &cell.finding {
                        Ok(finding) => Ok(finding.overhead),
                        Err(Withheld::Failed(_)) => Err("failed".to_owned()),
                        Err(Withheld::TooFewOperations { .. }) => Err("too few samples".to_owned()),
                        Err(Withheld::Batched { .. }) => Err("no tail".to_owned()),
                        Err(Withheld::NotStated) => Err("not stated".to_owned()),
                        Err(Withheld::NoCommonBlock) => Err("no result".to_owned()),
                    };
                    Some(Row {
                        name: c.label(&e.plan.name).to_string(),
                        overhead,
                        verdict: c.verdict(cell),
                        marked: cell.marks().next().is_some(),
                        control: e.role == Role::Control,
                    })
                })
                .collect();
            let band = c.resolution(&plan.name, metric).and_then(|r| r.control).and_then(|e| e.interval);
            let net = c
                .cells
                .iter()
                .chain(&c.control)
                .filter(|cell| cell.workload == plan.name && cell.metric == metric)
                .find_map(|cell| Some(words::figures(cell, cell.finding.as_ref().ok()?)));
            let metric = words::beside::short_metric(plan);
            let caption = match net {
                Some([net, ..]) => format!("{metric} {net} on {}", c.run.baseline),
                None => metric.to_owned(),
            };
            Panel { workload: plan.name.clone(), caption, band, rows }
        })
        .filter(|panel| !panel.rows.is_empty())
        .collect()
}

/// Axis and columns, the same in all panels so that they can be compared at a glance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Left end of the axis, below 1.
    low: f64,
    /// Right end of the axis, above 1.
    high: f64,
    /// Room for the names of environments.
    names: f64,
}

/// Every interval and every name, and 1 never at the edge.
#[must_use]
pub fn scale(panels: &[Panel]) -> Scale {
    let (mut low, mut high) = (0.95f64, 1.1f64);
    let mut names = NAMES.0;
    for panel in panels {
        let ends = panel.rows.iter().filter_map(|r| r.overhead.as_ref().ok()).flat_map(|e| match e.interval {
            Some(i) => [i.low, i.high],
            None => [e.value, e.value],
        });
        for end in ends.chain(panel.band.iter().flat_map(|b| [b.low, b.high])) {
            if end.is_finite() && end > 0.0 {
                low = low.min(end);
                high = high.max(end);
            }
        }
        names = panel.rows.iter().map(|r| width_of(&r.name, LABEL.size) + 14.0).fold(names, f64::max);
    }
    // A little air, so that nothing touches the frame.
    let air = (high / low).powf(0.04);
    Scale { low: low / air, high: high * air, names: names.min(NAMES.1) }
}

fn height(panel: &Panel) -> f64 {
    TOP + ROW * panel.rows.len() as f64 + AXIS
}

/// One panel as a picture of its own; the heading is the page's.
///
/// # Errors
/// When plotters fails.
pub fn panel(place: Place, panel: &Panel, scale: Scale) -> Result<Markup> {
    let title = describe(panel);
    let size = (WIDTH as u32, height(panel).ceil() as u32);
    picture(place, &title, size, |area| draw(area, (0.0, 0.0), panel, scale))
}

/// The panel for those who listen.
fn describe(panel: &Panel) -> String {
    let rows = panel.rows.iter().map(|row| match &row.overhead {
        Ok(e) => format!("{} {}", row.name, words::overhead(e)),
        Err(why) => format!("{} {why}", row.name),
    });
    format!("Overhead in {}: {}", panel.workload, rows.collect::<Vec<_>>().join(", "))
}

fn draw(area: &Area<impl Surface>, (left, top): (f64, f64), panel: &Panel, scale: Scale) -> Result<()> {
    let Scale { low, high, names } = scale;
    let axis = LogAxis { low, high, from: left + names, to: left + WIDTH - FIGURES };
    let bottom = top + TOP + ROW * panel.rows.len() as f64;
    if let Some(band) = panel.band {
        // At least a hair of it, however quiet the machine.
        let middle = (axis.at(band.low) + axis.at(band.high)) / 2.0;
        let half = ((axis.at(band.high) - axis.at(band.low)) / 2.0).max(1.0);
        bar(area, (middle - half, top), (middle + half, bottom), Ink::Band)?;
    }
    for tick in log_ticks(low, high, 5) {
        let x = axis.at(tick);
        let one = (tick - 1.0).abs() < 1e-9;
        if !one {
            line(area, (x, top), (x, bottom), Ink::Grid, 1.0)?;
        }
        write(area, (x, bottom + 13.0), Anchor::Middle, QUIET, &tick_label(tick))?;
    }
    line(area, (axis.at(1.0), top), (axis.at(1.0), bottom + 4.0), Ink::Base, 0.8)?;
    for (i, row) in panel.rows.iter().enumerate() {
        let y = top + TOP + ROW * (i as f64 + 0.5) - 2.0;
        draw_row(area, (left, y), row, axis)?;
    }
    Ok(())
}

fn draw_row(area: &Area<impl Surface>, (left, y): (f64, f64), row: &Row, axis: LogAxis) -> Result<()> {
    let quiet = row.control || row.verdict == Verdict::Invalid;
    let name = Type { ink: if quiet { Ink::Muted } else { Ink::Text }, ..LABEL };
    write(area, (left, y), Anchor::Start, name, &fitted(&row.name, LABEL.size, axis.from - left - 8.0))?;
    let figures = left + WIDTH - FIGURES + 10.0;
    let estimate = match &row.overhead {
        Ok(estimate) => estimate,
        Err(why) => return write(area, (figures, y), Anchor::Start, QUIET, why),
    };
    let ink = if quiet { Ink::Muted } else { Ink::Mark };
    let x = axis.at(estimate.value);
    if let Some(i) = estimate.interval {
        // A bar rather than whiskers: it still shows beside its mark where the interval is a pixel or two wide.
        pale(area, (axis.at(i.low), y - 5.0), (axis.at(i.high), y + 5.0), ink)?;
    }
    if !row.marked {
        line(area, (x, y - 6.5), (x, y + 6.5), ink, 2.0)?;
    } else {
        dot(area, (x, y), 4.0, ink, true)?;
    }
    let interval = estimate.interval.map(|i| (i.low, i.high));
    let value = Type { bold: !quiet, ..name };
    write(area, (figures + 38.0, y), Anchor::End, value, &units::ratio(estimate.value, interval))?;
    let rest = interval.map_or_else(|| "no interval".to_owned(), |i| units::interval(estimate.value, i));
    write(area, (figures + 44.0, y), Anchor::Start, QUIET, &rest)
}

fn pale(area: &Area<impl Surface>, from: (f64, f64), to: (f64, f64), ink: Ink) -> Result<()> {
    let style = ink.token().mix(0.4).filled();
    area.draw(&Rectangle::new([(px(from.0), px(from.1)), (px(to.0), px(to.1))], style))?;
    Ok(())
}

fn tick_label(tick: f64) -> String {
    // Ticks are round: what is left of a division must not show.
    let rounded = (tick * 1e4).round() / 1e4;
    format!("{rounded}×")
}

/// All panels in one picture with its own colours and ground, for a README or a slide.
pub(super) struct Forest<'a> {
    c: &'a Comparison,
    panels: Vec<Panel>,
    /// Panels side by side.
    columns: usize,
    width: f64,
    height: f64,
}

impl<'a> Forest<'a> {
    const GAP: f64 = 36.0;
    const MARGIN: f64 = 24.0;
    const HEAD: f64 = 58.0;
    const FOOT: f64 = 30.0;

    pub(super) fn new(c: &'a Comparison) -> Self {
        let panels = panels(c);
        let columns = panels.len().clamp(1, if panels.len() == 4 { 2 } else { 3 });
        let height = Self::HEAD + panels.chunks(columns).map(tall).sum::<f64>() + Self::FOOT;
        let width = Self::MARGIN * 2.0 + WIDTH * columns as f64 + Self::GAP * (columns - 1) as f64;
        Self { c, panels, columns, width, height }
    }

    /// Whole pixels of width and height.
    pub(super) fn size(&self) -> (u32, u32) {
        // Pictures of pictures: sizes are far below 2^32.
        (self.width.ceil() as u32, self.height.ceil() as u32)
    }

    pub(super) fn draw(&self, area: &Area<impl Surface>) -> Result<()> {
        let Self { c, width, height, .. } = *self;
        let room = width - 2.0 * Self::MARGIN;
        bar(area, (0.0, 0.0), (width, height), Ink::Ground)?;
        let heading = Type { size: 17.0, ..HEADING };
        write(area, (Self::MARGIN, 26.0), Anchor::Start, heading, &format!("Overhead over {}", c.run.baseline))?;
        let subtitle = fitted(&subtitle(c), 12.0, room);
        write(area, (Self::MARGIN, 46.0), Anchor::Start, Type { size: 12.0, ..QUIET }, &subtitle)?;
        let scale = scale(&self.panels);
        let mut top = Self::HEAD;
        for row in self.panels.chunks(self.columns) {
            for (i, panel) in row.iter().enumerate() {
                let left = Self::MARGIN + (WIDTH + Self::GAP) * i as f64;
                write(area, (left, top + 14.0), Anchor::Start, HEADING, &panel.workload)?;
                write(area, (left + WIDTH, top + 14.0), Anchor::End, QUIET, &panel.caption)?;
                draw(area, (left, top + 26.0), panel, scale)?;
            }
            top += tall(row);
        }
        let legend =
            "logarithmic; 1× is the baseline, shaded what its twin (control) can't tell from 1; ring: read the flags";
        write(area, (Self::MARGIN, height - 18.0), Anchor::Start, QUIET, &fitted(legend, 11.0, room))
    }
}

/// Height of panels side by side, with their headings.
fn tall(row: &[Panel]) -> f64 {
    row.iter().map(height).fold(0.0, f64::max) + TITLE
}

fn forest_svg(c: &Comparison) -> Result<Markup> {
    let forest = Forest::new(c);
    let title = format!("Overhead over {} of {}", c.run.baseline, names(c));
    picture(Place::Alone, &title, forest.size(), |area| forest.draw(area))
}

fn names(c: &Comparison) -> String {
    words::compared(c).map(|e| c.label(&e.plan.name)).collect::<Vec<_>>().join(", ")
}

fn subtitle(c: &Comparison) -> String {
    let host = c.run.host.iter().take(2).map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ");
    let blocks = if c.blocks == 1 { "1 block".to_owned() } else { format!("{} blocks", c.blocks) };
    let invalid = c.invalid.first().map_or_else(String::new, |why| format!("invalid: {why} · "));
    format!("{invalid}{blocks} of fresh starts, {} · {host}", words::intervals(c))
}

/// The format `svg`.
#[derive(Debug, Clone, Copy)]
pub struct Svg;

impl Render for Svg {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        Ok(forest_svg(c)?.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn one_is_always_inside_the_range() {
        let empty = scale(&[]);
        assert!(empty.low < 1.0 && empty.high > 1.0);
        let panels = panels(&sample::comparison());
        let Scale { low, high, .. } = scale(&panels);
        for row in panels.iter().flat_map(|p| &p.rows) {
            if let Ok(Estimate { interval: Some(i), .. }) = row.overhead {
                assert!(low < i.low && i.high < high, "{row:?}");
            }
        }
    }

    #[test]
    fn the_control_comes_first_and_failures_are_named() {
        let panels = panels(&sample::comparison());
        assert!(panels[0].rows[0].control);
        let failed = panels.iter().flat_map(|p| &p.rows).filter(|r| r.overhead.is_err()).count();
        assert!(failed > 0, "the sample has a failed cell");
    }

    #[test]
    fn the_picture_alone_says_where_nothing_is_to_be_believed() {
        let mut c = sample::comparison();
        c.invalid.push("61 of 100 rounds are void".into());
        let svg = forest_svg(&c).unwrap();
        assert!(svg.as_str().contains("invalid: 61 of 100 rounds are void"), "{}", svg.as_str());
        assert!(panels(&c).iter().flat_map(|panel| &panel.rows).all(|row| row.verdict == Verdict::Invalid));
    }

    #[test]
    fn the_picture_alone_needs_nothing_else() {
        let svg = forest_svg(&sample::comparison()).unwrap();
        let svg = svg.as_str();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("<script"), "{svg}");
        assert_eq!(svg.matches("http").count(), 1, "only the name space");
    }
}
