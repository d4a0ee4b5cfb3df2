//! The words of an explanation: a sentence for each workload, and the lines of its table.

use super::{Piece, no_interval};
use crate::comparison::Verdict;
use crate::explain::{Alternative, Explanation, Ladder, Rung, told};
use crate::render::units;
use crate::statistics::Estimate;

/// So many parts a sentence names, the largest; the table has all.
const NAMED: usize = 4;

/// The columns of a table.
pub const HEADINGS: [&str; 5] = ["rung", "cost", "step", "", "share"];

/// The heading of the lines below the rungs.
pub const ALONE: &str = "changing one alone gives back";

/// How the figures of the tables are to be read beside each other, and beside those of the cells.
pub const READING: &str = "A step is the median of the differences within blocks, and so is the whole; cost is the baseline's net with the \
                           steps so far added, so the last one need not be the gross, which is pooled as the tare is.";

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Rung, cost, step, its interval, share.
    pub fields: [String; 5],
    /// Doubts, or why there is no figure; empty mostly.
    pub remark: String,
    /// Whether it can be told from noise, and nothing is wrong with it.
    pub strong: bool,
}

/// Why it costs what it costs, in one workload.
#[must_use]
pub fn sentence(explanation: &Explanation, ladder: &Ladder) -> Vec<Piece> {
    let environment = &explanation.environment;
    let baseline = ladder.rungs.first().map_or("", |rung| rung.environment.as_str());
    let plain = |text: String| Piece::Plain(text);
    let Some(whole) = &ladder.whole else {
        let missing = ladder.rungs.iter().rev().find_map(|rung| rung.cost.as_ref().err());
        let why = missing.map_or_else(|| "there is no block to compare".to_string(), Clone::clone);
        return vec![plain(format!("{environment} can't be explained here: {why}."))];
    };
    if !ladder.clear(whole) {
        // No word of a cost: that there is one, and which sign it has, is what nobody can tell.
        let [before, after] = match whole.interval {
            Some(_) => [format!("{environment} can't be told from {baseline}: "), String::new()],
            None => [format!("{environment} against {baseline}: "), format!(", {}", no_interval(ladder.blocks))],
        };
        let after = format!("{after}, and so its parts have no shares.");
        return vec![plain(before), Piece::Strong(with_interval(whole)), plain(after)];
    }
    let Parts { named, smaller, noise } = parts(ladder);
    let mut pieces =
        vec![plain("Of ".into()), Piece::Strong(with_interval(whole)), plain(format!(" over {baseline}, "))];
    for (i, (rung, step)) in named.iter().enumerate() {
        if i > 0 {
            pieces.push(plain(", ".into()));
        }
        let doubt =
            if rung.verdict == Verdict::Trusted { String::new() } else { format!(" ({})", rung.verdict.name()) };
        pieces.push(Piece::Strong(with_interval(step)));
        pieces.push(plain(format!(" is {}{doubt}", rung.change)));
    }
    if named.is_empty() {
        pieces.push(plain("no step can be told from noise by itself".into()));
    } else if !noise.is_empty() {
        let names: Vec<&str> = noise.iter().map(|rung| rung.change.as_str()).collect();
        pieces.push(plain(format!("; not told from noise: {}", names.join(", "))));
    }
    if !smaller.is_empty() {
        let each = smaller.iter().map(|(rung, step)| format!("{} {}", rung.change, figure(step)));
        pieces.push(plain(format!("; smaller: {}", each.collect::<Vec<_>>().join(", "))));
    }
    pieces.push(plain(".".into()));
    if let Some((best, share)) = best(ladder) {
        pieces.push(plain(format!(" {} alone gives back ", best.change)));
        pieces.push(Piece::Strong(units::percent(share)));
        pieces.push(plain(".".into()));
    } else if let Some(tried) = fruitless(ladder) {
        pieces.push(plain(format!(
            " Of the {tried} that were changed alone none gives back anything that can be believed."
        )));
    }
    pieces
}

/// The steps of a ladder by what a sentence says of them.
struct Parts<'a> {
    /// The largest first.
    named: Vec<(&'a Rung, Estimate)>,
    /// Those that can be told from noise as well.
    smaller: Vec<(&'a Rung, Estimate)>,
    /// Those that can't.
    noise: Vec<&'a Rung>,
}

fn parts(ladder: &Ladder) -> Parts<'_> {
    let steps = ladder.rungs.iter().filter_map(|rung| Some((rung, rung.step?)));
    let (mut named, noise): (Vec<_>, Vec<_>) = steps.partition(|(_, step)| ladder.clear(step));
    named.sort_by(|a, b| b.1.value.abs().total_cmp(&a.1.value.abs()));
    let smaller = named.split_off(named.len().min(NAMED));
    Parts { named, smaller, noise: noise.into_iter().map(|(rung, _)| rung).collect() }
}

/// The change that gives back most, with its share; of one that is to be believed.
fn best(ladder: &Ladder) -> Option<(&Alternative, f64)> {
    let clear =
        ladder.alternatives.iter().filter(|a| a.gain.as_ref().is_ok_and(|gain| ladder.clear(gain) && gain.value > 0.0));
    clear.filter_map(|a| Some((a, a.share?))).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// How many settings were tried alone, where none of them gives back time that can be told from noise and believed.
fn fruitless(ladder: &Ladder) -> Option<String> {
    let tried = ladder.alternatives.iter().filter(|a| a.gain.is_ok()).count();
    (tried > 1 && best(ladder).is_none()).then(|| units::number_of(tried, "setting"))
}

/// The lines of the rungs, the baseline's first, then the sum.
#[must_use]
pub fn rungs(ladder: &Ladder) -> Vec<Line> {
    let mut lines = once(ladder.rungs.iter().enumerate().map(|(i, rung)| of_rung(ladder, i, rung)));
    if let Some(whole) = &ladder.whole {
        let doubted = ladder.doubted();
        let remark = if doubted == 0.0 {
            String::new()
        } else {
            format!("{} of it in steps with doubts", units::signed(units::duration(doubted)))
        };
        let share = if ladder.clear(whole) { units::percent(ladder.sum() / whole.value) } else { String::new() };
        let sum = units::signed(units::duration(ladder.sum()));
        lines.push(Line {
            fields: ["sum of the steps".into(), String::new(), sum, String::new(), share],
            remark,
            strong: true,
        });
        let share = if ladder.clear(whole) { units::percent(1.0) } else { String::new() };
        let fields = ["whole".into(), String::new(), figure(whole), range(whole), share];
        lines.push(Line { fields, remark: noise(ladder, whole), strong: ladder.clear(whole) });
    }
    lines
}

fn of_rung(ladder: &Ladder, at: usize, rung: &Rung) -> Line {
    let name =
        if at == 0 || rung.change == rung.environment { rung.change.clone() } else { format!("+ {}", rung.change) };
    let cost = rung.cost.as_ref().map_or_else(|_| units::NONE.into(), |cost| units::duration(*cost));
    let share = rung.share.map_or_else(String::new, units::percent);
    let [step, interval] = rung.step.as_ref().map_or_else(Default::default, |step| [figure(step), range(step)]);
    let remark = match &rung.cost {
        Err(why) => format!("{LEFT_OUT}{why}"),
        Ok(_) => {
            joined(rung.step.as_ref().map_or_else(String::new, |step| noise(ladder, step)), rung.verdict, &rung.doubts)
        }
    };
    let strong =
        at == 0 || rung.step.as_ref().is_some_and(|step| ladder.clear(step)) && rung.verdict == Verdict::Trusted;
    Line { fields: [name, cost, step, interval, share], remark, strong }
}

/// The lines of the alternatives, and of what is left between the two readings.
#[must_use]
pub fn alternatives(ladder: &Ladder) -> Vec<Line> {
    let mut lines = once(ladder.alternatives.iter().map(|alternative| of_alternative(ladder, alternative)));
    if let Some(left) = &ladder.interaction {
        let fields = ["only together".into(), String::new(), figure(left), range(left), String::new()];
        let remark = match noise(ladder, left) {
            noise if !noise.is_empty() => noise,
            _ if left.value > 0.0 => "interaction: more is given back when several are changed".into(),
            _ => "interaction: part of it is given back by either of several".into(),
        };
        lines.push(Line { fields, remark, strong: ladder.clear(left) });
    }
    lines
}

fn of_alternative(ladder: &Ladder, alternative: &Alternative) -> Line {
    let Alternative { change, gain, share, verdict, doubts, .. } = alternative;
    let none = || String::new();
    match gain {
        Ok(gain) => Line {
            fields: [change.clone(), none(), figure(gain), range(gain), share.map_or_else(none, units::percent)],
            remark: joined(noise(ladder, gain), *verdict, doubts),
            strong: ladder.clear(gain) && *verdict == Verdict::Trusted,
        },
        Err(why) => Line {
            fields: [change.clone(), none(), units::NONE.into(), none(), none()],
            remark: format!("{LEFT_OUT}{why}"),
            strong: false,
        },
    }
}

/// A reason for leaving something out is said once.
fn once(lines: impl Iterator<Item = Line>) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for mut line in lines {
        if line.remark.starts_with(LEFT_OUT) && all.iter().any(|before| before.remark == line.remark) {
            line.remark = "left out for the same reason".into();
        }
        all.push(line);
    }
    all
}

const LEFT_OUT: &str = "left out: ";

/// Noise and doubts in one remark.
fn joined(noise: String, verdict: Verdict, doubts: &[&str]) -> String {
    if verdict == Verdict::Trusted {
        return noise;
    }
    let doubt = format!("{}: {}", verdict.name(), doubts.join(" "));
    if noise.is_empty() { doubt } else { format!("{noise}; {doubt}") }
}

/// Why a difference is not to be believed in; a step may be surer of itself than two copies of the baseline are of each other.
fn noise(ladder: &Ladder, estimate: &Estimate) -> String {
    match ladder.floor {
        _ if estimate.interval.is_none() => "no interval".into(),
        _ if ladder.clear(estimate) => String::new(),
        Some(floor) if told(estimate) => {
            let (time, share) = (units::duration(floor.ns), units::percent(floor.share));
            format!("below the noise floor of {time} ({share} of the baseline's time)")
        }
        _ => "can't be told from noise".into(),
    }
}

fn figure(estimate: &Estimate) -> String {
    units::signed(units::duration(estimate.value))
}

fn range(estimate: &Estimate) -> String {
    let end = |ns: f64| units::signed(units::duration(ns));
    estimate.interval.map_or_else(String::new, |i| format!("({} to {})", end(i.low), end(i.high)))
}

fn with_interval(estimate: &Estimate) -> String {
    [figure(estimate), range(estimate)].join(" ").trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Floor, explain, tests::both};
    use crate::render::words::plain;
    use crate::statistics::Interval;

    #[test]
    fn the_sentence_names_the_largest_steps_and_the_best_change() {
        let explanation = explain(&both()).expect("a ladder");
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        assert!(words.starts_with("Of +5.70 µs ("), "{words}");
        let at = |part: &str| words.find(part).unwrap_or_else(|| panic!("{part} in {words}"));
        assert!(at(" is bus=ide, ") < at(" is format=qcow2, ") && at(" is format=qcow2, ") < at(" is vm. "));
        assert!(words.ends_with("bus=virtio alone gives back 65 %."), "{words}");
    }

    #[test]
    fn where_nothing_gives_anything_back_that_is_said() {
        let mut c = both();
        for cell in c.cells.iter_mut().filter(|cell| ["but-virtio", "vm-ide"].contains(&cell.environment.as_str())) {
            cell.verdict = Verdict::Invalid;
        }
        let explanation = explain(&c).expect("a ladder");
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        let none = " Of the 2 settings that were changed alone none gives back anything that can be believed.";
        assert!(words.ends_with(none), "{words}");
        let shares: Vec<String> =
            alternatives(&explanation.ladders[0]).into_iter().map(|line| line.fields[4].clone()).collect();
        assert!(shares.iter().all(String::is_empty), "what doesn't do the work has no share: {shares:?}");
    }

    #[test]
    fn without_an_interval_nothing_has_a_share() {
        let mut explanation = explain(&both()).expect("a ladder");
        let ladder = &mut explanation.ladders[0];
        ladder.blocks = 3;
        ladder.whole.as_mut().expect("known").interval = None;
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        assert!(words.contains("no finite interval (3 blocks; 6 needed), and so its parts have no shares"), "{words}");
        assert!(words.starts_with("slow against bare: +5.70 µs, no"), "{words}");
    }

    #[test]
    fn a_step_below_what_two_baselines_differ_by_is_marked_and_not_named() {
        let mut explanation = explain(&both()).expect("a ladder");
        let ladder = &mut explanation.ladders[0];
        // The format costs 2.2 µs with a close interval of its own; the engine 0.5.
        ladder.floor = Some(Floor { share: 2.5, ns: 2500.0 });
        let marked: Vec<String> = rungs(ladder).into_iter().map(|line| line.remark).take(4).collect();
        let below = "below the noise floor of 2.50 µs (250 % of the baseline's time)";
        assert_eq!(marked, ["", below, "", below]);
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        assert!(words.contains(" is bus=ide; not told from noise: vm, format=qcow2. "), "{words}");
        explanation.ladders[0].floor = Some(Floor { share: 6.0, ns: 6000.0 });
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        assert!(
            words.starts_with("slow can't be told from bare: +5.70 µs") && words.ends_with("have no shares."),
            "{words}"
        );
        explanation.ladders[0].floor = Some(Floor { share: 2.5, ns: 2500.0 });
        let strong: Vec<bool> = rungs(&explanation.ladders[0]).into_iter().map(|line| line.strong).take(4).collect();
        assert_eq!(strong, [true, false, true, false]);
    }

    #[test]
    fn of_noise_no_cost_is_claimed() {
        let mut explanation = explain(&both()).expect("a ladder");
        let whole = explanation.ladders[0].whole.as_mut().expect("known");
        whole.interval = Some(Interval { low: -500.0, high: 6000.0, confidence: 0.95 });
        let words = plain(&sentence(&explanation, &explanation.ladders[0]));
        assert!(words.starts_with("slow can't be told from bare: +5.70 µs (−500 ns to +6.00 µs), and"), "{words}");
        assert!(!words.contains("costs"), "{words}");
    }

    #[test]
    fn a_reason_is_said_once() {
        let mut explanation = explain(&both()).expect("a ladder");
        let ladder = &mut explanation.ladders[0];
        for rung in &mut ladder.rungs[1..] {
            (rung.cost, rung.step) = (Err("no kernel".into()), None);
        }
        let remarks: Vec<String> = rungs(ladder).into_iter().take(4).map(|line| line.remark).collect();
        let same = "left out for the same reason";
        assert_eq!(remarks, ["", "left out: no kernel", same, same]);
    }

    #[test]
    fn lines_have_the_sum_the_whole_and_what_comes_only_together() {
        let explanation = explain(&both()).expect("a ladder");
        let ladder = &explanation.ladders[0];
        let rungs = rungs(ladder);
        let names: Vec<&str> = rungs.iter().map(|line| line.fields[0].as_str()).collect();
        assert_eq!(names, ["bare", "vm", "+ bus=ide", "+ format=qcow2", "sum of the steps", "whole"]);
        assert!(rungs.iter().all(|line| line.remark.is_empty() && line.strong), "{rungs:?}");
        let others = alternatives(ladder);
        assert_eq!(others.last().expect("there").fields[0], "only together");
        assert!(others.last().expect("there").remark.contains("by either of several"));
    }
}
