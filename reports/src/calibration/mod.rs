//! What a machine can see, before anything is measured on it: its noise from block to block, its regimes, its clocks.

#[cfg(test)]
pub(crate) mod example;
pub mod regime;
mod text;

use serde::{Deserialize, Serialize};

use crate::comparison::{Comparison, Metric};
use crate::statistics::{FEWEST_FOR_INTERVAL, expected_half_width, robust_sigma, sigma, smallest_visible};
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

/// All that was found about a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// [`SCHEMA`].
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
    /// How long one of them took, seconds; `None` where none was done.
    pub seconds_a_block: Option<f64>,
    /// Of each workload, in order.
    pub workloads: Vec<Floor>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cited {
    /// UTC, RFC 3339.
    pub at: String,
    /// The suite whose work was done.
    pub suite: String,
    /// When it was, and what the machine sees.
    pub cited: String,
}

/// The noise of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Floor {
    /// Its name.
    pub workload: String,
    /// The figure to look at first.
    pub metric: String,
    /// Blocks that counted.
    pub blocks: u32,
    /// Standard deviation of the log ratio of two copies, from block to block; `None` for too few blocks.
    pub spread: Option<f64>,
    /// What is seen in [`TIMES`]; empty for too few blocks.
    pub sees: Vec<Sight>,
}

/// What a run of so long can see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sight {
    /// How long it takes.
    pub seconds: u32,
    /// Blocks that it has then, with one box that costs nothing.
    pub blocks: u32,
    /// Half the width of an interval, relative; `None` where there are too few blocks for one.
    pub half_width: Option<f64>,
    /// The smallest change that is seen four times in five, relative.
    pub change: Option<f64>,
}

/// What it costs to ask what time it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clocks {
    /// Where the kernel's clocks have their time from; `None` where it doesn't say.
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

/// The noise of each workload of a run in which `copy` is the baseline once more, and a block took so long.
#[must_use]
pub fn floors(c: &Comparison, copy: &str, seconds_a_block: Option<f64>) -> Vec<Floor> {
    c.run
        .workloads
        .iter()
        .map(|workload| {
            let metric = Metric::primary(workload);
            let finding = c.cell(&workload.name, copy, metric).and_then(|cell| cell.finding.as_ref().ok());
            let logs = finding.map(crate::comparison::Finding::logs).unwrap_or_default();
            let spread = spread(&logs);
            let sees = spread
                .zip(seconds_a_block)
                .map(|(spread, block)| TIMES.map(|time| Sight::of(spread, block, time)).to_vec());
            Floor {
                workload: workload.name.clone(),
                metric: metric.name().into(),
                blocks: logs.len() as u32,
                spread,
                sees: sees.unwrap_or_default(),
            }
        })
        .collect()
}

/// As a control is judged by: the larger of two deviations, since half of the blocks may tie.
fn spread(logs: &[f64]) -> Option<f64> {
    (logs.len() >= FEWEST_FOR_INTERVAL as usize).then_some(())?;
    Some(robust_sigma(logs)?.max(sigma(logs)?) + GRAIN)
}

impl Sight {
    fn of(spread: f64, seconds_a_block: f64, seconds: u32) -> Self {
        let blocks = (f64::from(seconds) / seconds_a_block) as u32;
        let half_width = (blocks >= FEWEST_FOR_INTERVAL).then(|| expected_half_width(spread, blocks as usize));
        let change = half_width.map(|half| smallest_visible(spread, blocks as usize).max(half));
        Self { seconds, blocks, half_width, change }
    }
}

/// What later runs on this machine say: when it was calibrated, with which suite, and what it sees.
#[must_use]
pub fn cited(at: &str, suite: &str, workloads: &[Floor], doubtful: bool) -> String {
    let day = at.split('T').next().unwrap_or_default();
    let seen = |floor: &'_ Floor| Some((floor.sees.get(CITED)?.change?, floor.workload.clone()));
    let mut all: Vec<(f64, String)> = workloads.iter().filter_map(seen).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let minutes = TIMES[CITED] / 60;
    let Some((worst, workload)) = all.last() else {
        return format!("on {day} with {suite}: too short to say what is seen in {minutes} minutes");
    };
    let median = all[all.len() / 2].0;
    let doubt = if doubtful { "; other runs were beside it" } else { "" };
    format!(
        "on {day} with {suite}: sees {} in {minutes} minutes here ({} in {workload}){doubt}",
        text::percent(median),
        text::percent(*worst)
    )
}

#[cfg(test)]
mod tests {
    use super::example::example;
    use super::*;
    use crate::comparison::{Method, compare};
    use crate::example::{Example, stored};

    #[test]
    fn more_time_sees_less() {
        let sights = TIMES.map(|time| Sight::of(0.05, 4.0, time));
        assert_eq!(sights.map(|s| s.blocks), [15, 75, 450]);
        assert!(sights[0].change > sights[1].change && sights[1].change > sights[2].change, "{sights:?}");
        assert!(sights.iter().all(|s| s.change >= s.half_width));
        let short = Sight::of(0.05, 15.0, 60);
        assert_eq!((short.blocks, short.half_width, short.change), (4, None, None), "four blocks have no interval");
    }

    #[test]
    fn a_copy_of_few_blocks_says_nothing_and_one_of_many_what_its_ratios_are() {
        let of = |blocks| {
            floors(&compare(&Example { blocks, ..Example::default() }.build(), Method::default()), "runc", Some(2.0))
        };
        assert!(of(5).iter().all(|floor| floor.spread.is_none() && floor.sees.is_empty()));
        let all = of(8);
        let commit = all.iter().find(|floor| floor.workload == "sqlite/commit").unwrap();
        assert_eq!((commit.blocks, commit.sees.len()), (8, TIMES.len()));
        assert!(commit.spread.unwrap() > GRAIN);
    }

    #[test]
    fn a_later_run_cites_the_day_and_what_is_seen() {
        let workloads = example().workloads;
        let of = |workloads: &[Floor], doubtful| cited("2026-11-26T08:00:00Z", "quick", workloads, doubtful);
        let words = of(&workloads, false);
        assert_eq!(words, "on 2026-11-26 with quick: sees 2.6 % in 5 minutes here (2.6 % in disk/fsync)");
        assert!(of(&workloads, true).ends_with("; other runs were beside it"));
        assert!(of(&workloads[1..2], false).ends_with("too short to say what is seen in 5 minutes"));
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
