//! Where environments stand in the published insertion test: their times on a logarithmic axis with the three points that
//! are known of its population, and nothing drawn between these.

use anyhow::Result;

use super::{Anchor, Ink, LABEL, LogAxis, Place, QUIET, Type, bar, dot, fitted, line, log_ticks, picture, write};
use crate::comparison::{Insertions, Population, Standing};
use crate::render::markup::Markup;
use crate::render::words::beside;

const WIDTH: f64 = 640.0;
const ROW: f64 = 21.0;
const NAMES: f64 = 118.0;
const FIGURES: f64 = 168.0;
const TOP: f64 = 30.0;
const AXIS: f64 = 26.0;

/// The figure of one workload.
///
/// # Errors
/// When plotters fails.
pub fn figure(place: Place, places: &[&Insertions]) -> Result<Markup> {
    let said = places.iter().map(|i| format!("{} {}, {}", i.environment, beside::inserts(i), beside::standing(i)));
    let title = format!("Seconds for 7500 inserts: {}. {}", said.collect::<Vec<_>>().join("; "), beside::population());
    let height = TOP + ROW * places.len() as f64 + AXIS;
    let Population { fastest, median, slowest } = Population::PUBLISHED;
    let ends =
        |i: &&Insertions| i.seconds.interval.map_or([i.seconds.value; 2], |interval| [interval.low, interval.high]);
    let all = || places.iter().flat_map(ends).filter(|s| *s > 0.0 && s.is_finite());
    // From the fastest to the slowest of the population, and further only where somebody is.
    let low = all().fold(fastest, f64::min) / 1.15;
    let high = all().fold(slowest, f64::max) * 1.15;
    let axis = LogAxis { low, high, from: NAMES, to: WIDTH - FIGURES };
    let bottom = height - AXIS;
    picture(place, &title, (WIDTH as u32, height.ceil() as u32), |area| {
        bar(area, (axis.at(fastest), TOP - 4.0), (axis.at(slowest), bottom), Ink::Grid)?;
        for tick in log_ticks(low, high, 7) {
            let x = axis.at(tick);
            line(area, (x, bottom), (x, bottom + 4.0), Ink::Muted, 1.0)?;
            write(area, (x, bottom + 14.0), Anchor::Middle, QUIET, &format!("{} s", (tick * 1e3).round() / 1e3))?;
        }
        line(area, (axis.at(median), TOP - 8.0), (axis.at(median), bottom), Ink::Base, 1.4)?;
        write(area, (axis.at(median), TOP - 17.0), Anchor::Middle, LABEL, &format!("median {median:.0} s"))?;
        write(area, (axis.at(fastest), TOP - 17.0), Anchor::Start, QUIET, &format!("fastest {fastest:.0} s"))?;
        write(area, (axis.at(slowest), TOP - 17.0), Anchor::End, QUIET, &format!("slowest {slowest:.0} s"))?;
        for (i, one) in places.iter().enumerate() {
            let y = TOP + ROW * (i as f64 + 0.5);
            let nowhere = one.standing() == Standing::Nowhere;
            let ink = if nowhere { Ink::Muted } else { Ink::Mark };
            let name = Type { ink: if nowhere { Ink::Muted } else { Ink::Text }, ..LABEL };
            write(area, (0.0, y), Anchor::Start, name, &fitted(&one.environment, LABEL.size, NAMES - 12.0))?;
            let [from, to] = ends(one);
            line(area, (axis.at(from), y), (axis.at(to).max(axis.at(from) + 1.0), y), ink, 2.0)?;
            dot(area, (axis.at(one.seconds.value), y), 4.0, ink, nowhere)?;
            let figure = fitted(&beside::inserts(one), 11.0, FIGURES - 14.0);
            write(area, (WIDTH, y), Anchor::End, Type { ink: name.ink, ..QUIET }, &figure)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn only_the_known_points_of_the_population_are_marked() {
        let c = sample::comparison();
        let places: Vec<_> = c.insertions.iter().collect();
        let svg = figure(Place::Page, &places).unwrap();
        let svg = svg.as_str();
        for words in [">fastest 2 s<", ">median 22 s<", ">slowest 600 s<", ">gvisor<", "not placed: fsync-not-durable"]
        {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        assert!(svg.contains("many machines"), "the title says whose population it is");
    }

    #[test]
    fn an_environment_beyond_the_population_is_still_on_the_axis() {
        let mut one = sample::comparison().insertions[0].clone();
        one.seconds = crate::statistics::Estimate { value: 0.5, interval: None };
        let svg = figure(Place::Page, &[&one]).unwrap();
        let svg = svg.as_str();
        assert!(svg.contains(">0.5 s<") || svg.contains(">1 s<"), "{svg}");
        let dot = svg.split("cx=\"").nth(1).and_then(|s| s.split('"').next()).unwrap().parse::<f64>().unwrap();
        assert!(dot > NAMES && dot < NAMES + 60.0, "{dot}");
    }
}
