//! A plan being carried out: what lasts longer than a block, and the way of its rows into the store.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use reports::record::{Checked, Record, Start, Stored, Void};
use reports::store::Store;
use workloads::evidence::ClockFit;

use super::forecast::Forecast;
use super::progress::Progress;
use super::resume::Before;
use super::seat::Site;
use super::stop::Over;
use crate::estimate::Estimate;
use crate::exit::{Exit, OrExit};
use crate::plan::Plan;

/// A plan being carried out.
pub struct Execution<'a, S> {
    pub(super) plan: &'a Plan,
    pub(super) rows: Rows<'a>,
    pub(super) site: S,
    pub(super) progress: Progress,
    /// Operations per clock reading, by workload.
    pub(super) batches: HashMap<String, u32>,
    /// In a row, by environment.
    pub(super) failed_starts: Vec<u32>,
    pub(super) forecast: Forecast,
    voids: Voids,
}

impl<'a, S: Site> Execution<'a, S> {
    /// Ready to begin.
    pub fn new(plan: &'a Plan, rows: Rows<'a>, before: Before, site: S, progress: Progress) -> Self {
        let failed_starts = vec![0; plan.environments.len()];
        let available: Vec<usize> =
            (0..failed_starts.len()).filter(|environment| site.available(*environment)).collect();
        let forecast = Forecast::new(&Estimate::of(plan, &available), plan.suite.blocks.saturating_sub(before.blocks));
        Self { plan, rows, site, progress, batches: before.batches, failed_starts, forecast, voids: Voids::default() }
    }

    /// Shows the step under way, of which so much is done.
    pub fn show(&self, step: impl Display, part: f64) {
        let now = self.site.elapsed();
        self.progress.show(format!("{step}{}", self.voids), now, self.forecast.left(now, part));
    }

    /// Counts a void round.
    pub fn void(&mut self, void: &Void) {
        self.voids.count(void);
    }

    /// Says which rounds were void, when all are done.
    pub fn tell_voids(&self) {
        self.voids.lines().for_each(|line| self.progress.warn(line));
    }

    /// The budget, where it is spent, so that no further block may begin.
    pub fn spent(&self) -> Option<Duration> {
        self.plan.suite.budget.filter(|budget| self.site.elapsed() > *budget)
    }

    /// The environments that can be started here, by their numbers in the plan.
    pub fn available(&self) -> Vec<usize> {
        (0..self.plan.environments.len()).filter(|environment| self.site.available(*environment)).collect()
    }

    /// An environment's name in reports.
    pub fn name(&self, environment: usize) -> &'a str {
        &self.plan.environments[environment].name
    }
}

/// The void rounds of a run, by workload in the order of their first: how many, and why the first was.
#[derive(Debug, Default)]
struct Voids(Vec<(String, u32, String)>);

impl Voids {
    fn count(&mut self, void: &Void) {
        match self.0.iter_mut().find(|(workload, ..)| *workload == void.workload) {
            Some((_, count, _)) => *count += 1,
            None => self.0.push((void.workload.clone(), 1, void.reason.clone())),
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(workload, count, reason)| match count {
            1 => format!("{workload}: a round is void: {reason}"),
            _ => format!("{workload}: {count} rounds are void; of the first: {reason}"),
        })
    }
}

/// As it stands behind a step: empty where there are none.
impl Display for Voids {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.0.iter().map(|(_, count, _)| count).sum() {
            0 => Ok(()),
            1 => write!(f, ", 1 round void"),
            voids => write!(f, ", {voids} rounds void"),
        }
    }
}

/// The rows of the run in its store. Where they can't be written, the run ends with the store's exit code.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    store: &'a Store,
    run: &'a str,
}

impl<'a> Rows<'a> {
    /// Those of a run that the store knows.
    pub fn of(run: &'a str, store: &'a Store) -> Self {
        Self { store, run }
    }

    /// Keeps a start.
    pub fn start(&self, start: &Start) -> anyhow::Result<()> {
        self.store.start(self.run, start).or_exit(Exit::Store)
    }

    /// Keeps a round that is over, or what was done of it.
    pub fn round(&self, bursts: &[Record], void: Option<&Void>) -> anyhow::Result<()> {
        self.store.round(self.run, bursts, void).or_exit(Exit::Store)
    }

    /// Keeps a check.
    pub fn check(&self, checked: &Checked) -> anyhow::Result<()> {
        self.store.check(self.run, checked).or_exit(Exit::Store)
    }

    /// Adds the clock's fit to a start.
    pub fn clock(&self, block: u32, environment: &str, fit: &ClockFit) -> anyhow::Result<()> {
        self.store.clock(self.run, block, environment, fit).or_exit(Exit::Store)
    }

    /// Adds to a start how long it took to end what was started.
    pub fn stop(&self, block: u32, environment: &str, took: Duration) -> anyhow::Result<()> {
        self.store.stop(self.run, block, environment, took.as_nanos() as u64).or_exit(Exit::Store)
    }

    /// Keeps how the run ended.
    pub fn finish(&self, over: &Over, seconds: f64) -> anyhow::Result<()> {
        self.store.finish(self.run, over.ending, over.stopped.as_deref(), seconds).or_exit(Exit::Store)
    }

    /// All of them, as they stand in the store.
    pub fn load(&self) -> anyhow::Result<Stored> {
        self.store.load(self.run).or_exit(Exit::Store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn void_rounds_are_counted_and_said_once_for_each_workload() {
        let mut voids = Voids::default();
        assert_eq!(voids.to_string(), "");
        for (round, workload) in [(3, "disk/fsync"), (1, "net/rr"), (7, "disk/fsync")] {
            let reason = format!("rough in {round}");
            voids.count(&Void { block: 0, round, workload: workload.into(), reason });
        }
        assert_eq!(voids.to_string(), ", 3 rounds void");
        let lines = ["disk/fsync: 2 rounds are void; of the first: rough in 3", "net/rr: a round is void: rough in 1"];
        assert!(voids.lines().eq(lines));
    }
}
