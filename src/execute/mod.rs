//! Carries out a plan: blocks with fresh starts, rounds in random order, every record in the store as soon as it exists.

mod block;
mod decide;
mod progress;
mod round;
mod seat;
pub mod set_up;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use reports::record::{Checked, Ending, Record, Run, Start, Stored, Void};
use reports::store::Store;
use workloads::evidence::ClockFit;

use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use block::Block;
use progress::Progress;
use seat::Site;

/// For a ping or an identity.
const EXCHANGE: Duration = Duration::from_secs(20);

/// What a measurement is told beside its plan.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where all environments keep their data.
    pub data_dir: &'a Path,
    /// Accept a data directory in memory.
    pub allow_memory: bool,
    /// The command that measures the same again.
    pub command: String,
    /// Names of the run.
    pub labels: BTreeMap<String, String>,
}

/// Measures, and gives back the rows as they stand in the store. After an interruption they are what was finished.
///
/// # Errors
/// When the host does not allow it, the baseline can't run, or the store can't be written; with the exit code.
pub fn measure(plan: &Plan, options: Options, store: &Store, interrupt: &Interrupt) -> anyhow::Result<Stored> {
    let began = Instant::now();
    let (run, site) = set_up::set_up(plan, options, interrupt)?;
    record(plan, &run, store, site, Progress::on_terminal(), began)
}

/// Carries out a plan and keeps it in the store as `run`, however it ends.
fn record(
    plan: &Plan,
    run: &Run,
    store: &Store,
    site: impl Site,
    progress: Progress,
    began: Instant,
) -> anyhow::Result<Stored> {
    store.begin(run).or_exit(Exit::Store)?;
    let ending = carry_out(plan, Rows { store, run: &run.id }, site, progress);
    // Even after an error the rows that exist are a run: say how it ended, then report the error.
    let ended = store.finish(&run.id, *ending.as_ref().unwrap_or(&Ending::Interrupted), began.elapsed().as_secs_f64());
    ending?;
    ended.or_exit(Exit::Store)?;
    store.load(&run.id).or_exit(Exit::Store)
}

/// All blocks, or as many as there was time for.
///
/// # Errors
/// When the store can't be written. What fails in an environment is a row, not an error.
fn carry_out(plan: &Plan, rows: Rows, site: impl Site, progress: Progress) -> anyhow::Result<Ending> {
    let mut execution = Execution {
        plan,
        rows,
        site,
        progress,
        batches: HashMap::new(),
        failed_starts: vec![0; plan.environments.len()],
    };
    let rounds = u64::from(plan.suite.blocks) * u64::from(plan.suite.rounds) * plan.workloads.len() as u64;
    execution.progress.begin(rounds * execution.available().len() as u64);
    let ending = execution.blocks();
    execution.progress.finish();
    ending
}

/// A plan being carried out: what lasts longer than a block.
struct Execution<'a, S> {
    plan: &'a Plan,
    rows: Rows<'a>,
    site: S,
    progress: Progress,
    /// Operations per clock reading, by workload.
    batches: HashMap<String, u32>,
    /// In a row, by environment.
    failed_starts: Vec<u32>,
}

impl<'a, S: Site> Execution<'a, S> {
    fn blocks(&mut self) -> anyhow::Result<Ending> {
        for block in 0..self.plan.suite.blocks {
            if self.site.interrupted() || (block > 0 && self.over_budget()) {
                return Ok(Ending::Interrupted);
            }
            Block::carry_out(self, block)?;
        }
        Ok(if self.site.interrupted() { Ending::Interrupted } else { Ending::Complete })
    }

    fn over_budget(&self) -> bool {
        self.plan.suite.budget.is_some_and(|budget| self.site.elapsed() > budget)
    }

    /// The environments that can be started here, by their numbers in the plan.
    fn available(&self) -> Vec<usize> {
        (0..self.plan.environments.len()).filter(|environment| self.site.available(*environment)).collect()
    }

    fn name(&self, environment: usize) -> &'a str {
        &self.plan.environments[environment].name
    }
}

/// The rows of the run in its store. Where they can't be written, the run ends with the store's exit code.
#[derive(Clone, Copy)]
struct Rows<'a> {
    store: &'a Store,
    run: &'a str,
}

impl Rows<'_> {
    fn start(&self, start: &Start) -> anyhow::Result<()> {
        self.store.start(self.run, start).or_exit(Exit::Store)
    }

    fn record(&self, record: &Record) -> anyhow::Result<()> {
        self.store.record(self.run, record).or_exit(Exit::Store)
    }

    fn void(&self, void: &Void) -> anyhow::Result<()> {
        self.store.void(self.run, void).or_exit(Exit::Store)
    }

    fn check(&self, checked: &Checked) -> anyhow::Result<()> {
        self.store.check(self.run, checked).or_exit(Exit::Store)
    }

    fn clock(&self, block: u32, environment: &str, fit: &ClockFit) -> anyhow::Result<()> {
        self.store.clock(self.run, block, environment, fit).or_exit(Exit::Store)
    }
}
