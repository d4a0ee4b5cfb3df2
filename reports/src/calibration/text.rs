//! A calibration for people.

use std::fmt::{self, Display, Formatter};

use super::regime::{Regime, Two, Watched};
use super::{Calibration, Floor, TIMES};

/// A share as people write it.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

impl Display for Calibration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "calibrated {} with {}; {}", self.at, self.suite, self.pinning)?;
        for doubt in &self.doubts {
            writeln!(f, "doubtful: {doubt}")?;
        }
        writeln!(
            f,
            "\nwhat is seen of one box: half an interval's width at most, nine times in ten, and the smallest change seen four times in five"
        )?;
        write!(f, "  {:<24}", "")?;
        TIMES.iter().try_for_each(|time| write!(f, " {:>18}", format!("in {} min", time / 60)))?;
        writeln!(f)?;
        self.workloads.iter().try_for_each(|floor| writeln!(f, "  {:<24} {}", floor.workload, sights(floor)))?;
        let told = |name: &&str| self.workloads.iter().any(|floor| floor.workload == **name);
        let unknown: Vec<&str> = self.unknown.iter().map(String::as_str).filter(|name| !told(name)).collect();
        if !unknown.is_empty() {
            writeln!(f, "  nothing is known of {}", unknown.join(", "))?;
        }
        match self.seconds_a_block {
            Some(seconds) => writeln!(
                f,
                "  from {} blocks of {seconds:.1} s; longer runs are promised no more than so many blocks show",
                self.blocks
            )?,
            None => writeln!(f, "  no block was done")?,
        }
        writeln!(f, "\nkept busy")?;
        self.watched.iter().try_for_each(|watched| writeln!(f, "  {:<24} {}", watched.what, seen(watched)))?;
        let source = self.clocks.source.as_deref().unwrap_or("the kernel doesn't say");
        let others = self.clocks.available.as_deref().map(|all| format!(" (of {all})")).unwrap_or_default();
        writeln!(f, "\na reading of the clock; source: {source}{others}")?;
        for (name, ns) in &self.clocks.reading_ns {
            writeln!(f, "  {name:<24} {ns:.0} ns")?;
        }
        writeln!(f, "\npinning")?;
        if self.pinning_advice.is_empty() {
            writeln!(f, "  nothing to do better is seen")?;
        }
        self.pinning_advice.iter().try_for_each(|advice| writeln!(f, "  {advice}"))
    }
}

fn sights(floor: &Floor) -> String {
    if !floor.is_known() {
        let fewest = crate::statistics::FEWEST_FOR_INTERVAL;
        return format!("too short to say: {} of at least {fewest} blocks; give it a longer --budget", floor.blocks);
    }
    let one = |sight: &super::Sight| match sight.half_width.zip(sight.change) {
        Some((half, change)) => format!("{:>18}", format!("±{}, {}", percent(half), percent(change))),
        None => format!("{:>18}", format!("{} blocks: none", sight.blocks)),
    };
    floor.sees.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn seen(watched: &Watched) -> String {
    let us = |ns: f64| format!("{:.1} µs", ns / 1e3);
    let [low, high] = watched.middle_ns.map(us);
    let figures = format!("{} ({low} to {high}) over {:.1} s", us(watched.median_ns), watched.seconds);
    match &watched.regime {
        Regime::Unknown => format!("{figures}: too short to say whether it has two speeds"),
        Regime::One => format!("{figures}: one speed"),
        Regime::Two(two) => format!(
            "{figures}: two speeds, {} and {}, {}",
            us(two.fast_ns),
            us(two.slow_ns),
            course(two, &watched.what)
        ),
    }
}

fn course(two: &Two, what: &str) -> String {
    let share = percent(two.slow_share);
    let cause = if what == "disk" {
        "a limit on I/O with an allowance for bursts, or a disk with a fast part"
    } else {
        "a clock rate that rises while it is cool, an allowance of CPU time, or a neighbour"
    };
    match (two.changes, two.fast_first) {
        (1, true) => format!(
            "slow from {:.1} s on and to the end ({share} of the time): {cause}; longer runs meet the slow one",
            two.first_change
        ),
        (1, false) => {
            format!("fast from {:.1} s on and to the end: it wakes up, or a neighbour ended", two.first_change)
        }
        (changes, _) => format!("{changes} changes, slow for {share} of the time: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::example;
    use super::*;

    #[test]
    fn it_is_said_what_is_seen_and_what_is_too_short_to_say() {
        let text = example().to_string();
        assert!(
            text.contains("  sqlite/commit                 ±1.2 %, 1.5 %      ±0.8 %, 1.0 %      ±0.8 %, 1.0 %"),
            "{text}"
        );
        assert!(text.contains("net/rr                   too short to say: 4 of at least 6 blocks"), "{text}");
        assert!(text.contains("  processor                5.0 µs (5.0 µs to 5.0 µs) over 10.0 s: one speed"), "{text}");
        assert!(text.contains("source: tsc (of tsc hpet)\n  monotonic                23 ns"), "{text}");
    }

    #[test]
    fn two_speeds_are_said_with_their_figures_and_what_makes_them() {
        let slices: Vec<f64> = (0..200).map(|at| if at < 120 { 1e6 } else { 2e6 }).collect();
        let words = seen(&Watched::of("disk", 0.1, &slices));
        assert!(
            words.contains("two speeds, 1000.0 µs and 2000.0 µs, slow from 12.0 s on")
                && words.contains("limit on I/O"),
            "{words}"
        );
        let short = seen(&Watched::of("disk", 0.1, &slices[..9]));
        assert!(short.ends_with("too short to say whether it has two speeds"), "{short}");
    }
}
