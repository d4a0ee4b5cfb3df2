//! A plan being carried out: what lasts longer than a block, and the way of its rows into the store.

use std::collections::HashMap;
use std::time::Duration;

use reports::record::{Checked, Record, Start, Stored, Void};
use reports::store::Store;
use workloads::evidence::ClockFit;

use super::progress::Progress;
use super::resume::Before;
use super::seat::Site;
use super::stop::Over;
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
}

impl<'a, S: Site> Execution<'a, S> {
    /// Ready to begin.
    pub fn new(plan: &'a Plan, rows: Rows<'a>, before: Before, site: S, progress: Progress) -> Self {
        let failed_starts = vec![0; plan.environments.len()];
        let execution = Self { plan, rows, site, progress, batches: before.batches, failed_starts };
        let rounds = u64::from(plan.suite.blocks) * u64::from(plan.suite.rounds) * plan.workloads.len() as u64;
        execution.progress.begin(rounds * execution.available().len() as u64);
        execution
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

    /// Keeps how the run ended.
    pub fn finish(&self, over: &Over, seconds: f64) -> anyhow::Result<()> {
        self.store.finish(self.run, over.ending, over.stopped.as_deref(), seconds).or_exit(Exit::Store)
    }

    /// All of them, as they stand in the store.
    pub fn load(&self) -> anyhow::Result<Stored> {
        self.store.load(self.run).or_exit(Exit::Store)
    }
}
