//! What a machine can see, before anything is measured on it: its noise from block to block, its regimes, its clocks.

#[cfg(test)]
pub(crate) mod example;
pub mod regime;
mod text;

use serde::{Deserialize, Serialize};

use crate::comparison::{Comparison, Finding, Metric};
use crate::record::CONTROL;
use crate::statistics::{
    FEWEST_FOR_INTERVAL, expected_half_width, next_sigma, noise_floor, robust_sigma, sigma, smallest_visible,
};
use regime::Watched;

/// The version of the document.
pub const SCHEMA: &str = "tarebench.calibration/1";

/// The times for which it is said what can be seen, seconds.
pub const TIMES: [u32; 3] = [60, 300, 1800];

/// Which of them is the one that later runs cite.
const CITED: usize = 1;

/// The resolution of a metric at best, in log units, as in the judgement of a control.
const GRAIN: f64 = 0.001;

/// Facts of a host that tell one machine from another, and that no boot changes.
const STABLE: [&str; 7] =
    ["architecture", "cpu", "cpus", "virtualization", "data file system", "data device", "device model"];

/// So many stretches of its blocks show whether a machine drifts.
const STRETCHES: usize = 6;

/// All that was found about a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Calibration {
    /// A field keeps its name, meaning and unit for as long as this number stays; new fields may come.
    #[cfg_attr(test, schemars(extend("enum" = [SCHEMA])))]
    pub schema: String,
    /// UTC, RFC 3339.
    pub at: String,
    /// The machine, by facts that no boot changes.
    pub host: String,
    /// The suite whose work was done.
    pub suite: String,
    /// The command that measures the same again.
    pub command: String,
    /// `tarebench`'s version.
    pub version: String,
    /// Where work and harness ran, in words.
    pub pinning: String,
    /// What casts doubt on all of it, such as another run beside it.
    pub doubts: Vec<String>,
    /// Blocks that were done, each with the baseline, its control and a copy of them as the box.
    pub blocks: u32,
    /// How long one of them took, seconds; null where none was done.
    pub seconds_a_block: Option<f64>,
    /// Of each workload, in order.
    pub workloads: Vec<Floor>,
    /// Workloads of the suite of which nothing is known: not asked for, or too few blocks.
    pub unknown: Vec<String>,
    /// What the processor and the disk did while they were kept busy.
    pub watched: Vec<Watched>,
    /// What a reading costs.
    pub clocks: Clocks,
    /// Where work and harness would be better kept, with the evidence; empty where nothing is to be said.
    pub pinning_advice: Vec<String>,
    /// What later runs on this machine say of it: when, and what it sees.
    pub cited: String,
}

/// What is asked of a calibration later; the rest of its document is for those who made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cited {
    /// UTC, RFC 3339.
    pub at: String,
    /// The suite whose work was done.
    pub suite: String,
    /// When it was, and what the machine sees.
    pub cited: String,
    /// What it found of each workload.
    #[serde(skip_serializing)]
    workloads: Vec<Floor>,
    /// What casts doubt on it.
    #[serde(skip_serializing)]
    doubts: Vec<String>,
}

/// The noise of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Floor {
    /// Its name.
    pub workload: String,
    /// The figure to look at first.
    pub metric: String,
    /// Blocks that counted.
    pub blocks: u32,
    /// Standard deviation of the log ratio of two copies, from block to block; null for too few blocks.
    pub spread: Option<f64>,
    /// Half the width of the interval that these blocks had, relative; null for too few blocks.
    pub half_width: Option<f64>,
    /// What is seen in 1, 5 and 30 minutes; empty for too few blocks.
    pub sees: Vec<Sight>,
}

/// What a run of so long can see. More blocks than were looked at promise nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sight {
    /// How long it takes.
    pub seconds: u32,
    /// Blocks that it has then, with one box that costs nothing.
    pub blocks: u32,
    /// Half the width that an interval has at most, nine times in ten, relative; null where there are too few blocks for one.
    pub half_width: Option<f64>,
    /// The smallest change that is seen four times in five then, relative.
    pub change: Option<f64>,
}

/// What it costs to ask what time it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Clocks {
    /// Where the kernel's clocks have their time from; null where it doesn't say.
    pub source: Option<String>,
    /// Where else they could have it from.
    pub available: Option<String>,
    /// The clock's name and the time of a reading, nanoseconds.
    pub reading_ns: Vec<(String, f64)>,
}

/// The machine of a run, by facts that no boot changes.
#[must_use]
pub fn host(facts: &[(String, String)]) -> String {
    let stable = facts.iter().filter(|(name, _)| STABLE.contains(&name.as_str()));
    stable.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
}

/// The noise of each workload of a run in which `copy` is the baseline once more, beside the control, and a block took so long.
#[must_use]
pub fn floors(c: &Comparison, copy: &str, seconds_a_block: Option<f64>) -> Vec<Floor> {
    c.run
        .workloads
        .iter()
        .map(|workload| {
            let metric = Metric::primary(workload);
            let finding = |copy| c.cell(&workload.name, copy, metric).and_then(|cell| cell.finding.as_ref().ok());
            let copies: Vec<&Finding> = [copy, CONTROL].into_iter().filter_map(finding).collect();
            let blocks = copies.iter().map(|finding| finding.logs().len()).min().unwrap_or(0) as u32;
            let widest = |of: fn(&Finding) -> Option<f64>| copies.iter().filter_map(|f| of(f)).reduce(f64::max);
            let seen = Seen {
                blocks,
                spread: widest(|finding| spread(&finding.logs())),
                half_width: widest(|finding| finding.overhead.interval.as_ref().map(noise_floor)),
            };
            Floor {
                workload: workload.name.clone(),
                metric: metric.name().into(),
                blocks,
                spread: seen.spread,
                half_width: seen.half_width,
                sees: seconds_a_block.map(|block| seen.sees(block)).unwrap_or_default(),
            }
        })
        .collect()
}

/// What blocks showed of copies that ought not to differ.
#[derive(Debug, Clone, Copy)]
struct Seen {
    blocks: u32,
    spread: Option<f64>,
    half_width: Option<f64>,
}

/// The largest of three deviations: half of the blocks may tie, few may be far out, and a machine may drift, so that the means
/// of stretches of its blocks lie further apart than their blocks say.
fn spread(logs: &[f64]) -> Option<f64> {
    (logs.len() >= FEWEST_FOR_INTERVAL as usize).then_some(())?;
    let length = logs.len() / STRETCHES;
    let means: Vec<f64> = logs.chunks_exact(length).map(|part| part.iter().sum::<f64>() / length as f64).collect();
    let drift = sigma(&means)? * (length as f64).sqrt();
    Some(robust_sigma(logs)?.max(sigma(logs)?).max(drift) + GRAIN)
}

impl Seen {
    fn sees(&self, seconds_a_block: f64) -> Vec<Sight> {
        let Some((spread, half_width)) = self.spread.zip(self.half_width) else { return Vec::new() };
        TIMES.map(|time| self.sight(spread, half_width, seconds_a_block, time)).to_vec()
    }

    fn sight(&self, spread: f64, seen: f64, seconds_a_block: f64, seconds: u32) -> Sight {
        let blocks = (f64::from(seconds) / seconds_a_block) as u32;
        // What wasn't looked at isn't promised: noise that comes and goes is in no root of n.
        let n = blocks.min(self.blocks) as usize;
        let sigma = next_sigma(spread, self.blocks as usize, n);
        let half_width = (blocks >= FEWEST_FOR_INTERVAL).then(|| expected_half_width(sigma, n).max(seen));
        let change = half_width.map(|half| smallest_visible(sigma, n).max(half));
        Sight { seconds, blocks, half_width, change }
    }
}

impl Floor {
    /// The smallest change that a run of the time that is cited sees.
    fn change(&self) -> Option<f64> {
        self.sees.get(CITED)?.change
    }

    /// Whether anything can be said of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.sees.is_empty()
    }
}

/// When it was, and what is seen of these workloads; of `unknown` ones nothing is.
#[must_use]
pub fn cited(at: &str, suite: &str, workloads: &[&Floor], unknown: &[&str], doubtful: bool) -> String {
    let day = at.split('T').next().unwrap_or_default();
    let minutes = TIMES[CITED] / 60;
    let mut seen: Vec<(f64, &str)> =
        workloads.iter().filter_map(|floor| Some((floor.change()?, floor.workload.as_str()))).collect();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((worst, workload)) = seen.last() else {
        return format!("on {day} with {suite}: too short to say what is seen in {minutes} minutes");
    };
    let median = seen[seen.len() / 2].0;
    let names = || workloads.iter().map(|floor| floor.workload.as_str()).collect::<Vec<_>>().join(", ");
    let (of, but) = match unknown {
        [] => (String::new(), String::new()),
        many if many.len() >= workloads.len() => (format!(", of {} alone", names()), String::new()),
        few => (String::new(), format!("; nothing is known of {}", few.join(", "))),
    };
    let doubt = if doubtful { "; other runs were beside it" } else { "" };
    format!(
        "on {day} with {suite}{of}: sees {} in {minutes} minutes here ({} in {workload}){but}{doubt}",
        text::percent(median),
        text::percent(*worst)
    )
}

/// What a run of these workloads says of the calibrations of its machine, the newest first: of its own suite's before all others,
/// and of those the one that knows most of them. `None` where none knows any.
#[must_use]
pub fn of_run(all: &[Cited], suite: &str, workloads: &[&str]) -> Option<String> {
    let known =
        |c: &'_ Cited| c.workloads.iter().filter(|f| f.is_known() && workloads.contains(&f.workload.as_str())).count();
    let ranked = all.iter().enumerate().filter(|(_, c)| known(c) > 0);
    let (_, best) = ranked.max_by_key(|(nth, c)| (c.suite == suite, known(c), std::cmp::Reverse(*nth)))?;
    let floor = |name: &&str| best.workloads.iter().find(|floor| floor.is_known() && floor.workload == **name);
    let floors: Vec<&Floor> = workloads.iter().filter_map(floor).collect();
    let unknown: Vec<&str> = workloads.iter().copied().filter(|name| floor(name).is_none()).collect();
    Some(cited(&best.at, &best.suite, &floors, &unknown, !best.doubts.is_empty()))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::example::example;
    use super::*;
    use crate::comparison::{Method, compare};
    use crate::example::{Example, stored};
    use crate::statistics::hodges_lehmann;

    fn seen(blocks: u32) -> Seen {
        Seen { blocks, spread: Some(0.05), half_width: Some(0.01) }
    }

    #[test]
    fn more_time_sees_less_until_it_is_more_than_was_looked_at() {
        let sights = seen(100).sees(4.0);
        assert_eq!(sights.iter().map(|s| s.blocks).collect::<Vec<_>>(), [15, 75, 450]);
        assert!(sights[0].change > sights[1].change && sights[1].change > sights[2].change, "{sights:?}");
        assert!(sights.iter().all(|s| s.change >= s.half_width));
        let of_few = seen(15).sees(4.0);
        assert_eq!(of_few[0].half_width, of_few[2].half_width, "15 blocks promise what 15 show");
        assert!(of_few[0].half_width > sights[0].half_width, "they say less of the next 15 than 100 do");
        let short = seen(100).sees(15.0)[0];
        assert_eq!((short.blocks, short.half_width, short.change), (4, None, None), "four blocks have no interval");
        let wide = Seen { half_width: Some(0.9), ..seen(100) }.sees(4.0);
        assert!(wide.iter().all(|s| s.half_width == Some(0.9)), "no less than was seen is promised");
    }

    /// The share of machines on which the next run is no wider than promised, of 6, 12 and 24 blocks.
    fn kept(looked_at: usize, noise: fn(&mut rand_pcg::Pcg64, &mut f64) -> f64) -> [f64; 3] {
        let mut dice = rand_pcg::Pcg64::seed_from_u64(7);
        let mut kept = [0.0; 3];
        let (machines, lengths) = (200, [6usize, 12, 24]);
        for _ in 0..machines {
            let mut state = 0.0;
            let mut series = |n: usize| (0..n).map(|_| noise(&mut dice, &mut state)).collect::<Vec<f64>>();
            let half = |logs: &[f64]| noise_floor(&hodges_lehmann(logs, 0.95).unwrap().map(f64::exp).interval.unwrap());
            let first = series(looked_at);
            let seen = Seen { blocks: looked_at as u32, spread: spread(&first), half_width: Some(half(&first)) };
            for (kept, n) in kept.iter_mut().zip(lengths) {
                let promise = seen.sees(60.0 / n as f64)[0].half_width.unwrap();
                *kept += f64::from(u8::from(half(&series(n)) <= promise)) / f64::from(machines);
            }
        }
        kept
    }

    fn normal(dice: &mut rand_pcg::Pcg64) -> f64 {
        (-2.0 * (1.0 - dice.random::<f64>()).ln()).sqrt() * (std::f64::consts::TAU * dice.random::<f64>()).cos()
    }

    #[test]
    fn what_is_promised_is_kept_nine_times_in_ten() {
        type Noise = fn(&mut rand_pcg::Pcg64, &mut f64) -> f64;
        let quiet: Noise = |dice, _| 0.02 * normal(dice);
        // One start in eight is an unlucky one; a machine that drifts.
        let unlucky: Noise = |dice, _| 0.02 * normal(dice) + if dice.random_range(0..8) == 0 { 0.1 } else { 0.0 };
        let drifting: Noise = |dice, state| {
            *state = 0.8 * *state + 0.02 * normal(dice);
            *state
        };
        for (name, noise, least) in [("quiet", quiet, 0.88), ("unlucky", unlucky, 0.75), ("drifting", drifting, 0.75)] {
            for looked_at in [8, 40] {
                let kept = kept(looked_at, noise);
                assert!(kept.iter().all(|kept| *kept >= least), "{name}, {looked_at} blocks: {kept:?}");
            }
        }
    }

    #[test]
    fn a_copy_of_few_blocks_says_nothing_and_one_of_many_what_its_ratios_are() {
        let of = |blocks| {
            floors(&compare(&Example { blocks, ..Example::default() }.build(), Method::default()), "runc", Some(2.0))
        };
        assert!(of(5).iter().all(|floor| floor.spread.is_none() && !floor.is_known()));
        let all = of(8);
        let commit = all.iter().find(|floor| floor.workload == "sqlite/commit").unwrap();
        assert_eq!((commit.blocks, commit.sees.len()), (8, TIMES.len()));
        assert!(commit.spread.unwrap() > GRAIN && commit.half_width.unwrap() > 0.0);
    }

    #[test]
    fn it_is_said_what_is_seen_and_of_what() {
        let workloads = example().workloads;
        let of = |workloads: &[&Floor], unknown: &[&str], doubtful| {
            cited("2026-11-26T08:00:00Z", "quick", workloads, unknown, doubtful)
        };
        let (disk, network, database) = (&workloads[0], &workloads[1], &workloads[2]);
        let words = of(&[disk, database], &[], false);
        assert_eq!(words, "on 2026-11-26 with quick: sees 5.2 % in 5 minutes here (5.2 % in disk/fsync)");
        assert!(
            of(&[disk, database], &["net/rr"], true)
                .ends_with("; nothing is known of net/rr; other runs were beside it")
        );
        assert!(
            of(&[disk], &["net/rr", "net/stream"], false)
                .starts_with("on 2026-11-26 with quick, of disk/fsync alone: sees")
        );
        assert!(of(&[network], &[], false).ends_with("too short to say what is seen in 5 minutes"));
    }

    #[test]
    fn a_run_cites_what_knows_most_of_its_workloads_and_nothing_of_others() {
        let of = |at: &str, suite: &str, names: &[&str]| {
            let all = example().workloads.into_iter().filter(|floor| names.contains(&floor.workload.as_str()));
            Cited {
                at: at.into(),
                suite: suite.into(),
                cited: String::new(),
                workloads: all.collect(),
                doubts: Vec::new(),
            }
        };
        let whole = of("2026-11-20T", "quick", &["disk/fsync", "net/rr", "sqlite/commit"]);
        let part = of("2026-11-26T", "quick", &["sqlite/commit"]);
        let other = of("2026-11-25T", "standard", &["disk/fsync", "sqlite/commit"]);
        let empty = of("2026-11-27T", "quick", &["net/rr"]);
        let all = [empty, part, other, whole];
        let says = |suite, workloads: &[&str]| of_run(&all, suite, workloads).unwrap_or_default();
        assert!(says("quick", &["disk/fsync", "sqlite/commit"]).starts_with("on 2026-11-20 with quick: sees"));
        assert!(
            says("quick", &["sqlite/commit"]).starts_with("on 2026-11-26 with quick: sees"),
            "the newest of its like"
        );
        assert!(says("standard", &["disk/fsync"]).starts_with("on 2026-11-25 with standard: sees"));
        assert!(says("mine", &["disk/fsync", "mine"]).contains(" with standard, of disk/fsync alone: sees"));
        assert_eq!((says("quick", &["net/rr"]), says("quick", &["mine"])), (String::new(), String::new()));
    }

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        crate::render::published::hold(schemars::schema_for!(Calibration), SCHEMA, "calibration.schema.json");
    }

    #[test]
    fn a_machine_is_known_by_what_no_boot_changes() {
        let mut facts = stored().run.host;
        let before = host(&facts);
        facts.push(("load".into(), "3.1".into()));
        assert_eq!(host(&facts), before);
        facts.iter_mut().find(|(name, _)| name == "cpu").unwrap().1 = "another".into();
        assert_ne!(host(&facts), before);
    }
}
