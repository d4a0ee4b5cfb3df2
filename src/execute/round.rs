//! The rounds of one workload in one block: how long its bursts are, and every environment's turn.

use std::time::Duration;

use reports::record::{Failure, Record, Step, Void};
use runners::session::SessionError;
use workloads::evidence::Canary;
use workloads::protocol::{BurstPlan, Sample};

use super::believe::believe;
use super::block::Block;
use super::decide::{self, Draw, Watched};
use super::seat::{Seat, Site};
use crate::exit::{Exit, OrExit};
use crate::plan::{PATIENCE, PlannedWorkload};

/// How far the rounds of a workload have come in a block.
#[derive(Debug)]
pub struct Course {
    /// Its place in the plan.
    pub(super) workload: usize,
    /// What every burst of the block does, once a pilot has said it.
    burst: Option<BurstPlan>,
    /// The number of the next round.
    next: u32,
    /// Rounds that don't count and have no other in their place yet.
    pub(super) void: u32,
    /// Looks so far at the host's own operations.
    canaries: Vec<u64>,
}

impl Course {
    /// Of a workload that has not begun.
    pub fn new(workload: usize) -> Self {
        Self { workload, burst: None, next: 0, void: 0, canaries: Vec::new() }
    }

    /// Whether there was a round.
    pub fn begun(&self) -> bool {
        self.next > 0
    }
}

impl<S: Site> Block<'_, '_, S> {
    /// A short pass in every environment. That of the baseline (or, where it has none, of the first that has) sizes the bursts,
    /// and the others do what it did, so that all have the same behind them when the rounds begin. The bursts stay `None` where
    /// nobody is ready, or nobody any more.
    pub(super) fn pilots(&mut self, workload: &PlannedWorkload, course: &mut Course) {
        let mut ready = self.ready();
        ready.sort_by_key(|at| self.sessions[*at].environment);
        let mut plan = decide::pilot(workload.length.burst);
        let mut passes = Vec::new();
        for at in ready {
            let session = &mut self.sessions[at];
            let pass = session.pass(plan, workload.patience);
            match session.after(pass) {
                Ok(pass) => {
                    if passes.is_empty() {
                        plan = decide::pilot_after(&pass, workload.length);
                    }
                    passes.push((pass, session.clock_ns));
                }
                Err(SessionError::Interrupted) => return,
                Err(e) => self.failed(at, workload, Step::Burst, &e),
            }
        }
        // Rounds that are done again do what the others of their block did.
        if let (Some((first, _)), None) = (passes.first(), course.burst) {
            let batch = self.batch(workload, &passes);
            course.burst = Some(decide::plan_burst(first, workload.length, batch));
        }
    }

    /// Operations per clock reading. The first block decides for all: entries of one histogram must mean the same.
    fn batch(&mut self, workload: &PlannedWorkload, pilots: &[(Sample, f64)]) -> u32 {
        if let Some(batch) = self.run.batches.get(&workload.name) {
            return *batch;
        }
        // In open loop, and with several at a time, every operation has a moment of its own.
        let batchable = workload.workload.batchable() && workload.length.rate.is_none();
        let batch = if batchable { decide::batch(pilots, workload.length) } else { 1 };
        log::info!("{}: {batch} operations per clock reading", workload.name);
        self.run.batches.insert(workload.name.clone(), batch);
        batch
    }

    /// So many rounds.
    pub(super) fn rounds(&mut self, workload: &PlannedWorkload, course: &mut Course, count: u32) -> anyhow::Result<()> {
        let Some(burst) = course.burst else { return Ok(()) };
        for _ in 0..count {
            if self.ready().is_empty() || self.run.site.interrupted() {
                break;
            }
            let (round, seed) = (course.next, self.run.plan.seed);
            course.next += 1;
            let order = decide::order(&self.ready(), seed, Draw::Rounds(course.workload), self.number, round);
            let watched = self.round(round, &order, workload, burst)?;
            course.canaries.extend(watched.iter().flat_map(|w| w.canaries));
            let median = decide::median(&course.canaries);
            if let Some(reason) = median.and_then(|median| decide::void_reason(&watched, median)) {
                course.void += 1;
                self.run.progress.warn(format!("{}: round void: {reason}", workload.name));
                let workload = workload.name.clone();
                self.run.rows.void(&Void { block: self.number, round, workload, reason })?;
            }
        }
        Ok(())
    }

    /// One burst in each of the sessions of `order`. An interruption ends the round before the burst that it broke off.
    fn round(
        &mut self,
        number: u32,
        order: &[usize],
        workload: &PlannedWorkload,
        burst: BurstPlan,
    ) -> anyhow::Result<Vec<Watched>> {
        let mut watched = Vec::new();
        let burst = BurstPlan { number: u64::from(number), ..burst };
        // The canary after one burst is the canary before the next: nothing but the record's write lies between.
        let mut before = self.canary(workload)?;
        for (position, at) in order.iter().enumerate() {
            let session = &mut self.sessions[*at];
            let deadline = Duration::from_nanos(burst.limit_ns) * 3 + PATIENCE;
            let (outcome, evidence) = self.run.site.watch(session.environment, || session.seat.burst(burst, deadline));
            let outcome = session.after(outcome);
            let environment = self.run.name(session.environment).to_string();
            let after = self.canary(workload)?;
            let canary = Canary { before_ns: before, after_ns: after };
            before = after;
            // Not before the canary, which is to see the moment after the burst.
            let outcome = outcome.and_then(|(sample, took)| believe(sample, &burst, took));
            let outcome = match self.sessions[*at].after(outcome) {
                Err(SessionError::Interrupted) => break,
                Ok(sample) => {
                    let canaries = [canary.before_ns, canary.after_ns];
                    watched.push(Watched { environment: environment.clone(), canaries, evidence: evidence.clone() });
                    Ok(sample)
                }
                Err(e) => {
                    self.run.progress.warn(format!("{} in {environment} failed: {e}", workload.name));
                    Err(Failure { step: Step::Burst, message: e.to_string() })
                }
            };
            self.run.rows.record(&Record {
                block: self.number,
                round: number,
                position: position as u32,
                workload: workload.name.clone(),
                environment,
                outcome,
                canary,
                evidence,
            })?;
            self.run.progress.advance();
        }
        Ok(watched)
    }

    fn canary(&mut self, workload: &PlannedWorkload) -> anyhow::Result<u64> {
        self.run.site.canary(workload.workload.resource()).or_exit(Exit::Host)
    }
}
