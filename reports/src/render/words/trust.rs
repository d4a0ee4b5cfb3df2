//! The trust strip: how far to believe a run, in six figures.

use std::collections::BTreeSet;

use super::{no_interval, overhead};
use crate::comparison::{Comparison, ControlState, Metric, Resolution};
use crate::record::{Ending, NOT_SURE};
use crate::render::units;
use crate::statistics::FEWEST_FOR_INTERVAL;

/// How an item of the trust strip is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Read with care.
    Care,
    /// Speaks against the run.
    Bad,
}

impl Tone {
    /// A sign that needs no colour.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Tone::Good => "✓",
            Tone::Care => "!",
            Tone::Bad => "✗",
        }
    }
}

/// One fact about how far to trust a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Two words at most.
    pub label: &'static str,
    /// The figure.
    pub value: String,
    /// The words around it; may be empty.
    pub detail: String,
    /// How to take it.
    pub tone: Tone,
}

/// The trust strip: control, smallest visible change, blocks, voids, failures, ending.
#[must_use]
pub fn trust(c: &Comparison) -> Vec<Trust> {
    let mut strip = vec![control(c), visible(c), blocks(c)];
    // Whether a host was disturbed while another program measured isn't known.
    if !c.run.is_imported() {
        strip.push(voids(c));
    }
    if !c.failures.is_empty() {
        let n = c.failures.len();
        let places: BTreeSet<&str> = c.failures.iter().map(|f| f.environment.as_str()).collect();
        let detail = format!("in {}", places.into_iter().collect::<Vec<_>>().join(", "));
        strip.push(Trust { label: "failures", value: n.to_string(), detail, tone: Tone::Care });
    }
    strip.push(ending(c));
    strip
}

fn primary_resolutions(c: &Comparison) -> impl Iterator<Item = &Resolution> {
    c.run.workloads.iter().filter_map(|w| c.resolution(&w.name, Metric::primary(w)))
}

fn control(c: &Comparison) -> Trust {
    let all: Vec<_> = primary_resolutions(c).collect();
    let failed: Vec<_> = all.iter().filter(|r| matches!(r.state, ControlState::Failed(_))).collect();
    let coarse = all.iter().filter(|r| matches!(r.state, ControlState::Coarse(_))).count();
    // The pair that says least is the honest one to show: that of the widest interval or, where none has one, the furthest from 1.
    let has_interval = all.iter().any(|r| r.noise_floor.is_some());
    let off = |r: &Resolution| r.control.map_or(0.0, |e| e.value.ln().abs());
    let weight = |r: &Resolution| if has_interval { r.noise_floor.unwrap_or(0.0) } else { off(r) };
    let worst = failed.first().copied().or_else(|| all.iter().max_by(|a, b| weight(a).total_cmp(&weight(b))));
    let shown = worst.and_then(|r| r.control.map(|e| (r, e)));
    let Some((resolution, estimate)) = shown else {
        let why = all.iter().find_map(|r| match &r.state {
            ControlState::Unknown(why) => Some(why.clone()),
            _ => None,
        });
        let detail = why.unwrap_or_else(|| "no second baseline in this run".to_owned());
        return Trust { label: "control", value: "unknown".to_owned(), detail, tone: Tone::Care };
    };
    let (tone, words) = match (failed.len(), coarse) {
        (0, 0) if all.iter().all(|r| r.state == ControlState::Sound) => {
            (Tone::Good, "baselines agree everywhere".to_owned())
        }
        (0, 0) => (Tone::Care, "too few blocks to tell".to_owned()),
        (0, n) => (Tone::Care, format!("coarse in {n} of {} workloads", all.len())),
        (n, _) => (
            Tone::Bad,
            format!("baselines differ in {n} of {} workloads, here in {}", all.len(), resolution.metric.name()),
        ),
    };
    let which = match (all.len() > 1 && failed.is_empty(), has_interval) {
        (false, _) => "",
        (true, true) => ", the widest",
        (true, false) => ", the furthest from 1",
    };
    let detail = format!("{}{which}; {words}", resolution.workload);
    Trust { label: "control", value: overhead(&estimate), detail, tone }
}

fn visible(c: &Comparison) -> Trust {
    let seen: Vec<f64> = primary_resolutions(c).filter_map(|r| r.smallest_visible).collect();
    let low = seen.iter().copied().fold(f64::INFINITY, f64::min);
    let high = seen.iter().copied().fold(0.0, f64::max);
    let label = "smallest visible change";
    if seen.is_empty() {
        let detail = "needs a control and more blocks".to_owned();
        return Trust { label, value: units::NONE.to_owned(), detail, tone: Tone::Care };
    }
    let value = if units::percent(low) == units::percent(high) {
        units::percent(high)
    } else {
        format!("{} to {}", units::percent(low), units::percent(high))
    };
    let tone = if high > 2.0 * c.method.margin { Tone::Care } else { Tone::Good };
    let detail = if seen.len() > 1 { "depending on the workload" } else { "" };
    Trust { label, value, detail: detail.to_owned(), tone }
}

fn blocks(c: &Comparison) -> Trust {
    let value = format!("{} of {}", c.blocks, c.run.blocks);
    let enough = c.blocks >= FEWEST_FOR_INTERVAL;
    let detail = match enough {
        false => no_interval(c.blocks),
        true if c.run.is_imported() => "runs of the program that measured".to_owned(),
        true => format!("{} per workload in each", rounds(c.run.rounds)),
    };
    let done = c.blocks >= c.run.blocks || (c.ending == Ending::Complete && c.stopped.is_some());
    let tone = if enough && done { Tone::Good } else { Tone::Care };
    Trust { label: "blocks", value, detail, tone }
}

fn voids(c: &Comparison) -> Trust {
    let share = if c.rounds_begun == 0 { 0.0 } else { c.voids.len() as f64 / c.rounds_begun as f64 };
    let tone = if share > c.method.void_limit {
        Tone::Bad
    } else if share > c.method.void_limit / 2.0 {
        Tone::Care
    } else {
        Tone::Good
    };
    let value = format!("{} of {}", c.voids.len(), units::count(c.rounds_begun));
    Trust { label: "void rounds", value, detail: format!("{}, dropped for all", units::percent(share)), tone }
}

fn ending(c: &Comparison) -> Trust {
    let value = c.seconds.map_or_else(|| units::NONE.to_owned(), |s| units::duration(s * 1e9));
    let (words, tone) = match c.ending {
        Ending::Complete if c.stopped.as_ref().is_some_and(|why| why.contains(NOT_SURE)) => {
            ("not sure enough", Tone::Care)
        }
        Ending::Complete if c.run.is_imported() => ("imported; the time is what its files say", Tone::Good),
        Ending::Complete => ("complete, as planned", Tone::Good),
        Ending::Interrupted => ("interrupted; what was finished counts", Tone::Care),
        Ending::Unfinished => ("unfinished, or still running", Tone::Care),
    };
    let detail = c.stopped.clone().unwrap_or_else(|| words.to_owned());
    Trust { label: "run", value, detail, tone }
}

fn rounds(n: u32) -> String {
    if n == 1 { "1 round".to_owned() } else { format!("{n} rounds") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn without_intervals_the_control_furthest_from_1_is_shown() {
        let mut c = sample::short();
        for r in &mut c.resolution {
            let value = if r.workload == c.run.workloads[1].name { 0.7 } else { 1.2 };
            r.control = Some(crate::statistics::Estimate { value, interval: None });
        }
        let control = trust(&c).remove(0);
        assert_eq!(control.value, "0.70× (no interval)");
        assert!(
            control.detail.starts_with(&format!("{}, the furthest from 1; ", c.run.workloads[1].name)),
            "{control:?}"
        );
    }

    #[test]
    fn one_workload_is_not_said_to_be_several() {
        let visible =
            |c: &Comparison| trust(c).into_iter().find(|t| t.label == "smallest visible change").unwrap().detail;
        let mut c = sample::comparison();
        assert_eq!(visible(&c), "depending on the workload");
        c.run.workloads.truncate(1);
        assert_eq!(visible(&c), "");
    }

    #[test]
    fn the_strip_takes_care_where_care_is_due() {
        let tone = |c: &Comparison, label: &str| trust(c).into_iter().find(|t| t.label == label).unwrap().tone;
        let mut c = sample::comparison();
        assert_eq!(tone(&c, "control"), Tone::Good);
        assert_eq!(tone(&c, "run"), Tone::Good);
        c.stopped = Some("stopped after 8 blocks: sure to 3%; the widest interval is 1.0 % to either side".into());
        assert_eq!(tone(&c, "run"), Tone::Good);
        c.stopped = Some(format!("all 8 blocks are done, and {NOT_SURE} 3%; no interval was looked at"));
        assert_eq!(tone(&c, "run"), Tone::Care);
        let headline = c.resolution.iter_mut().find(|r| r.metric == Metric::Throughput).unwrap();
        headline.state = ControlState::Failed("1.2 (1.1 to 1.3)".into());
        assert_eq!(tone(&c, "control"), Tone::Bad);
        let c = sample::short();
        assert_eq!((tone(&c, "control"), tone(&c, "blocks"), tone(&c, "run")), (Tone::Care, Tone::Care, Tone::Care));
    }
}
