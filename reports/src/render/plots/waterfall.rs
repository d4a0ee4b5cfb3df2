//! The waterfall: from the baseline's cost upward, a bar for each step, as long as the step and beginning where the one before it ended.

use anyhow::Result;

use super::{Anchor, Area, Ink, LABEL, Place, QUIET, Surface, Type, bar, fitted, line, picture, width_of, write};
use crate::comparison::Verdict;
use crate::explain::{Ladder, Rung};
use crate::render::markup::Markup;
use crate::render::units;

const WIDTH: f64 = 640.0;
const ROW: f64 = 22.0;
/// The least and the most room for the names of steps.
const NAMES: (f64, f64) = (70.0, 220.0);
/// Room for the figures.
const FIGURES: f64 = 130.0;
const TOP: f64 = 6.0;
const AXIS: f64 = 24.0;

/// A ladder as a picture; `None` where fewer than two of its rungs have figures.
///
/// # Errors
/// When the picture can't be drawn.
pub fn waterfall(place: Place, ladder: &Ladder) -> Result<Option<Markup>> {
    let bars = bars(ladder);
    if bars.len() < 2 {
        return Ok(None);
    }
    let height = TOP + ROW * bars.len() as f64 + AXIS;
    let told = bars.iter().map(|bar| format!("{} {}", bar.rung.change, units::duration(bar.to)));
    let title = format!("Cost from rung to rung in {}: {}", ladder.workload, told.collect::<Vec<_>>().join(", "));
    let size = (WIDTH as u32, height.ceil() as u32);
    picture(place, &title, size, |area| draw(area, ladder, &bars)).map(Some)
}

/// A rung as a bar: the baseline's from 0, any other's over its step. Nanoseconds.
struct Bar<'a> {
    rung: &'a Rung,
    from: f64,
    to: f64,
}

fn bars(ladder: &Ladder) -> Vec<Bar<'_>> {
    let there = ladder.rungs.iter().filter_map(|rung| Some((rung, *rung.cost.as_ref().ok()?)));
    there.map(|(rung, to)| Bar { rung, from: rung.step.map_or(0.0, |step| to - step.value), to }).collect()
}

fn draw(area: &Area<impl Surface>, ladder: &Ladder, bars: &[Bar]) -> Result<()> {
    let names = bars.iter().map(|bar| width_of(&bar.rung.change, LABEL.size) + 14.0).fold(NAMES.0, f64::max);
    let names = names.min(NAMES.1);
    let most = bars.iter().map(|bar| bar.to).fold(0.0, f64::max).max(1.0);
    // Below 0 where what the steps give back is more than the pooled figure that they begin at.
    let least = bars.iter().map(|bar| bar.to).fold(0.0, f64::min);
    let at = |cost: f64| names + (WIDTH - FIGURES - names) * (cost - least) / (most - least);
    let bottom = TOP + ROW * bars.len() as f64;
    for share in [0.0, 0.5, 1.0] {
        let x = at(most * share);
        line(area, (x, TOP), (x, bottom), if share == 0.0 { Ink::Base } else { Ink::Grid }, 1.0)?;
        write(area, (x, bottom + 12.0), Anchor::Middle, QUIET, &units::duration((most * share).round()))?;
    }
    for (i, Bar { rung, from, to }) in bars.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let clear = rung.verdict == Verdict::Trusted && rung.step.as_ref().is_none_or(|step| ladder.clear(step));
        let kind = Type { ink: if clear { Ink::Text } else { Ink::Muted }, ..LABEL };
        write(area, (0.0, y), Anchor::Start, kind, &fitted(&rung.change, LABEL.size, names - 8.0))?;
        let ink = match rung.step {
            None => Ink::Base,
            Some(_) if !clear => Ink::Muted,
            Some(step) if step.value < 0.0 => Ink::Series(2),
            Some(_) => Ink::Mark,
        };
        // A hair of it at least: a step that is there must be seen.
        let (left, right) = (at(from.min(*to)), at(from.max(*to)));
        bar(area, (left, y - 7.0), (right.max(left + 1.0), y + 7.0), ink)?;
        if i + 1 < bars.len() {
            line(area, (at(*to), y + 7.0), (at(*to), y + ROW - 7.0), Ink::Base, 0.8)?;
        }
        let figure = match rung.step {
            None => units::duration(*to),
            Some(step) => units::signed(units::duration(step.value)),
        };
        let share = rung.share.map_or_else(String::new, |share| format!("  {}", units::percent(share)));
        write(area, (WIDTH - FIGURES + 16.0, y), Anchor::Start, kind, &format!("{figure}{share}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{explain, tests::both};

    #[test]
    fn every_bar_is_as_long_as_its_step_and_begins_where_the_last_one_ended() {
        let mut c = both();
        // A rung that is left out leaves no gap.
        for left_out in [false, true] {
            if left_out {
                c.environments.retain(|e| e.plan.name != "vm-ide");
            }
            let ladder = explain(&c).expect("a ladder").ladders.remove(0);
            let bars = bars(&ladder);
            assert_eq!(bars.len(), if left_out { 3 } else { 4 });
            assert!(bars[0].from == 0.0 && bars[0].rung.step.is_none());
            for pair in bars.windows(2) {
                let [before, bar] = pair else { unreachable!("two") };
                let step = bar.rung.step.expect("known").value;
                assert!((bar.to - bar.from - step).abs() < 1e-6 && (bar.from - before.to).abs() < 1e-6, "{step}");
            }
        }
    }
}
