//! The waterfall: from the baseline's cost to the environment's, a bar for each step, each beginning where the one before it ended.

use anyhow::Result;

use super::{Anchor, Area, Ink, LABEL, Place, QUIET, Surface, Type, bar, fitted, line, picture, width_of, write};
use crate::comparison::Verdict;
use crate::explain::{Ladder, Rung, told};
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
    let rungs: Vec<(&Rung, f64)> =
        ladder.rungs.iter().filter_map(|rung| Some((rung, *rung.cost.as_ref().ok()?))).collect();
    if rungs.len() < 2 {
        return Ok(None);
    }
    let height = TOP + ROW * rungs.len() as f64 + AXIS;
    let told = rungs.iter().map(|(rung, cost)| format!("{} {}", rung.change, units::duration(*cost)));
    let title = format!("Cost from rung to rung in {}: {}", ladder.workload, told.collect::<Vec<_>>().join(", "));
    let size = (WIDTH as u32, height.ceil() as u32);
    picture(place, &title, size, |area| draw(area, &rungs)).map(Some)
}

fn draw(area: &Area<impl Surface>, rungs: &[(&Rung, f64)]) -> Result<()> {
    let names = rungs.iter().map(|(rung, _)| width_of(&rung.change, LABEL.size) + 14.0).fold(NAMES.0, f64::max);
    let names = names.min(NAMES.1);
    let most = rungs.iter().map(|(_, cost)| *cost).fold(0.0, f64::max).max(1.0);
    let at = |cost: f64| names + (WIDTH - FIGURES - names) * cost / most;
    let bottom = TOP + ROW * rungs.len() as f64;
    for share in [0.0, 0.5, 1.0] {
        let x = at(most * share);
        line(area, (x, TOP), (x, bottom), if share == 0.0 { Ink::Base } else { Ink::Grid }, 1.0)?;
        write(area, (x, bottom + 12.0), Anchor::Middle, QUIET, &units::duration((most * share).round()))?;
    }
    let mut before = 0.0;
    for (i, (rung, cost)) in rungs.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let clear = rung.verdict == Verdict::Trusted && rung.step.as_ref().is_none_or(told);
        let kind = Type { ink: if clear { Ink::Text } else { Ink::Muted }, ..LABEL };
        write(area, (0.0, y), Anchor::Start, kind, &fitted(&rung.change, LABEL.size, names - 8.0))?;
        let ink = match rung.step {
            None => Ink::Base,
            Some(_) if !clear => Ink::Muted,
            Some(step) if step.value < 0.0 => Ink::Series(2),
            Some(_) => Ink::Mark,
        };
        // A hair of it at least: a step that is there must be seen.
        let (from, to) = (at(f64::min(before, *cost)), at(f64::max(before, *cost)));
        bar(area, (from, y - 7.0), (to.max(from + 1.0), y + 7.0), ink)?;
        if i + 1 < rungs.len() {
            line(area, (at(*cost), y + 7.0), (at(*cost), y + ROW - 7.0), Ink::Base, 0.8)?;
        }
        let figure = match rung.step {
            None => units::duration(*cost),
            Some(step) => units::signed(units::duration(step.value)),
        };
        let share = rung.share.map_or_else(String::new, |share| format!("  {}", units::percent(share)));
        write(area, (WIDTH - FIGURES + 16.0, y), Anchor::Start, kind, &format!("{figure}{share}"))?;
        before = *cost;
    }
    Ok(())
}
