//! The rounds of one workload in one block: how long its bursts are, and every environment's turn.

use std::time::Duration;

use reports::record::{Failure, Record, Step, Void};
use runners::session::SessionError;
use workloads::evidence::Canary;
use workloads::protocol::BurstPlan;

use super::believe::believe;
use super::block::Block;
use super::decide::{self, Draw, Watched};
use super::seat::{Seat, Site};
use crate::exit::{Exit, OrExit};
use crate::plan::{PATIENCE, PlannedWorkload};

/// Rounds may be replaced until this many times the planned number have been tried in a block.
const MOST_ROUNDS: u32 = 2;

impl<S: Site> Block<'_, '_, S> {
    /// A short pass of the baseline (or, without one, of the first that is ready) sizes the bursts of this block. `None` where
    /// nobody is ready, or nobody any more.
    pub(super) fn size_bursts(&mut self, workload: &PlannedWorkload) -> Option<BurstPlan> {
        while let Some(at) = self.ready().into_iter().min_by_key(|at| self.sessions[*at].environment) {
            let session = &mut self.sessions[at];
            let pass = session.pass(decide::short_pass(workload.length.burst, 0), workload.patience);
            match session.after(pass) {
                Ok(pilot) => {
                    let batch = self.batch(workload);
                    return Some(decide::plan_burst(&pilot, workload.length, batch));
                }
                Err(SessionError::Interrupted) => return None,
                Err(e) => self.failed(at, workload, Step::Burst, &e),
            }
        }
        None
    }

    /// Operations per clock reading. The first block decides for all: entries of one histogram must mean the same.
    fn batch(&mut self, workload: &PlannedWorkload) -> u32 {
        if let Some(batch) = self.run.batches.get(&workload.name) {
            return *batch;
        }
        let mut passes = Vec::new();
        // In open loop, and with several at a time, every operation has a moment of its own.
        let batchable = workload.workload.batchable() && workload.length.rate.is_none();
        for at in self.ready().into_iter().filter(|_| batchable) {
            let session = &mut self.sessions[at];
            // Who fails here fails again in the first round, where it is recorded.
            if let Ok(pass) = session.pass(decide::short_pass(workload.length.burst, 1), PATIENCE) {
                passes.push((pass, session.clock_ns));
            }
        }
        let batch = decide::batch(&passes, workload.length);
        log::info!("{}: {batch} operations per clock reading", workload.name);
        self.run.batches.insert(workload.name.clone(), batch);
        batch
    }

    /// As many rounds as the suite wants, those in place of void ones included.
    pub(super) fn rounds(&mut self, at: usize, workload: &PlannedWorkload, burst: BurstPlan) -> anyhow::Result<()> {
        let wanted = self.run.plan.suite.rounds;
        let (mut good, mut number) = (0, 0);
        let mut canaries = Vec::new();
        while good < wanted && number < wanted * MOST_ROUNDS && !self.ready().is_empty() && !self.run.site.interrupted()
        {
            let order = decide::order(&self.ready(), self.run.plan.seed, Draw::Rounds(at), self.number, number);
            let watched = self.round(number, &order, workload, burst)?;
            canaries.extend(watched.iter().flat_map(|w| w.canaries));
            let reason = decide::median(&canaries).and_then(|m| decide::void_reason(&watched, m));
            match reason {
                None => good += 1,
                Some(reason) => {
                    self.run.progress.warn(format!("{}: round void: {reason}", workload.name));
                    let workload = workload.name.clone();
                    self.run.rows.void(&Void { block: self.number, round: number, workload, reason })?;
                }
            }
            number += 1;
        }
        let bursts = self.run.available().len() as u64 * u64::from(wanted);
        self.run.progress.skip_to(self.number, at, self.run.plan.workloads.len(), bursts);
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
