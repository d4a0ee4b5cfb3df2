//! The rounds of one workload in one block: how long its bursts are, and every environment's turn.

use std::collections::BTreeSet;
use std::time::Duration;

use reports::record::{Failure, Record, Step, Void};
use runners::session::SessionError;
use workloads::evidence::{Beside, Canary, Evidence};
use workloads::protocol::{BurstPlan, Sample};

use super::believe::believe;
use super::block::Block;
use super::decide::{self, Draw, Watched};
use super::seat::{Seat, Site};
use super::tenant::PASS;
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
    pub(super) next: u32,
    /// Rounds that are still to be done: a void one is, as long as it has no other in its place.
    pub(super) owed: u32,
    /// Looks so far at the host's own operations.
    canaries: Vec<u64>,
    /// The environments, by number, that could not be prepared for it in this block.
    pub(super) unprepared: BTreeSet<usize>,
}

impl Course {
    /// Of a workload that has not begun, and is to have so many rounds.
    pub fn new(workload: usize, rounds: u32) -> Self {
        Self { workload, burst: None, next: 0, owed: rounds, canaries: Vec::new(), unprepared: BTreeSet::new() }
    }

    /// Whether there was a round.
    pub fn begun(&self) -> bool {
        self.next > 0
    }
}

/// A burst of a round, as its session answered it.
struct Turn {
    /// Its place in the block.
    session: usize,
    outcome: Result<(Sample, Duration), SessionError>,
    canary: Canary,
    evidence: Evidence,
}

/// A burst beside a neighbour: it is worth nothing where that did not work. What the disk did for both of them is nobody's.
fn with_neighbour(
    (outcome, evidence): (Result<(Sample, Duration), SessionError>, Evidence),
    beside: Result<Beside, SessionError>,
    cpu_ns: Option<u64>,
    uses_disk: bool,
) -> (Result<(Sample, Duration), SessionError>, Evidence) {
    let outcome = match (outcome, &beside) {
        (Ok(_), Err(SessionError::Interrupted)) => Err(SessionError::Interrupted),
        (Ok(_), Err(e)) => Err(SessionError::Refused(format!("its neighbour: {e}"))),
        (outcome, _) => outcome,
    };
    let own = cpu_ns.unwrap_or(0);
    let evidence = if uses_disk { without_disk(evidence) } else { evidence };
    let evidence = Evidence {
        bystanders_ns: evidence.bystanders_ns.map(|all| all.saturating_sub(own)),
        neighbours_ns: evidence.neighbours_ns.map(|all| all - own as i64),
        neighbour: beside.ok().map(|beside| Beside { cpu_ns, ..beside }),
        ..evidence
    };
    (outcome, evidence)
}

fn without_disk(evidence: Evidence) -> Evidence {
    Evidence {
        device_reads: None,
        device_bytes_read: None,
        device_writes: None,
        device_flushes: None,
        device_bytes_written: None,
        ..evidence
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
        let (mut passes, mut whole) = (Vec::new(), None);
        for at in ready {
            let session = &mut self.sessions[at];
            let pass = session.pass(plan, workload.patience);
            match session.after(pass) {
                Ok(pass) => {
                    if passes.is_empty() {
                        plan = decide::pilot_after(&pass, workload.length);
                        whole = session.whole;
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
            course.burst = Some(decide::plan_burst(first, workload.length, whole, batch));
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

    /// The rounds that are owed, and no more than `most`. None are where nobody is there to do them.
    pub(super) fn rounds(&mut self, workload: &PlannedWorkload, course: &mut Course, most: u32) -> anyhow::Result<()> {
        let mut before = None;
        for done in 0..most {
            self.say_part(&workload.name, f64::from(done) / f64::from(most));
            let Some(burst) = course.burst.filter(|_| !self.ready().is_empty()) else {
                course.owed = 0;
                break;
            };
            if course.owed == 0 || self.run.site.interrupted() {
                break;
            }
            let number = course.next;
            course.next += 1;
            let seed = self.run.plan.seed;
            let order = decide::order(&self.ready(), seed, Draw::Rounds(course.workload), self.number, number);
            let burst = BurstPlan { number: u64::from(number), ..burst };
            let mut turns = Vec::with_capacity(order.len());
            let done = self.round(&mut turns, &order, workload, burst, before);
            let (records, watched) = self.records(workload, turns, burst);
            course.canaries.extend(decide::looks(&watched));
            let void = decide::median(&course.canaries)
                .and_then(|median| decide::void_reason(&watched, median))
                .map(|reason| Void { block: self.number, round: number, workload: workload.name.clone(), reason });
            match &void {
                Some(void) => self.run.void(void),
                None => course.owed -= 1,
            }
            self.run.rows.round(&records, void.as_ref())?;
            done?;
            // The look that ends a calm round begins the next.
            before = records.last().filter(|_| void.is_none()).map(|last| last.canary.after_ns);
        }
        Ok(())
    }

    /// One burst in each of the sessions of `order`, and nothing between two but a look at the host's own operations, which
    /// serves both: `before` is the first, where it is there already. Before durable writes the disk is watched while nothing runs. An interruption ends the round before the burst that it
    /// broke off.
    fn round(
        &mut self,
        turns: &mut Vec<Turn>,
        order: &[usize],
        workload: &PlannedWorkload,
        burst: BurstPlan,
        before: Option<u64>,
    ) -> anyhow::Result<()> {
        let durable = workload.workload.durable(&workload.settings);
        let idle = if durable { self.run.site.idle_flushes() } else { Vec::new() };
        let mut before_ns = before.map_or_else(|| self.canary(workload), Ok)?;
        let deadline = Duration::from_nanos(burst.limit_ns) * 3 + PATIENCE;
        // While a neighbour does its first pass its box rests, and a disk that is held to a rate recovers: then it must for all.
        let any = self.run.plan.environments.iter().any(|e| e.neighbour.is_some());
        let rest = if any { PASS } else { Duration::ZERO };
        for at in order {
            let session = &mut self.sessions[*at];
            let (outcome, mut evidence) = match &mut session.tenant {
                None => {
                    std::thread::sleep(rest);
                    self.run.site.watch(session.environment, || session.seat.burst(burst, deadline))
                }
                Some(tenant) => {
                    let (site, environment) = (&self.run.site, session.environment);
                    let (seat, box_of_tenant) = (&mut session.seat, self.run.plan.tenant(environment));
                    let own = || site.watch(environment, || seat.burst(burst, deadline));
                    let ((own, beside), of_tenant) = site.watch(box_of_tenant, || tenant.beside(own));
                    with_neighbour(own, beside, of_tenant.cpu_ns, tenant.uses_disk)
                }
            };
            evidence.overslept_ns = Some(session.seat.overslept().as_nanos() as u64);
            evidence.idle_flushes = idle.get(session.environment).copied().flatten();
            let outcome = session.after(outcome);
            if let Err(SessionError::Interrupted) = outcome {
                break;
            }
            let after_ns = self.canary(workload)?;
            turns.push(Turn { session: *at, outcome, canary: Canary { before_ns, after_ns }, evidence });
            before_ns = after_ns;
        }
        Ok(())
    }

    fn canary(&mut self, workload: &PlannedWorkload) -> anyhow::Result<u64> {
        self.run.site.canary(workload.workload.resource()).or_exit(Exit::Host)
    }

    /// The rows of a round that is over, and of each burst what tells whether the round counts.
    fn records(
        &mut self,
        workload: &PlannedWorkload,
        turns: Vec<Turn>,
        burst: BurstPlan,
    ) -> (Vec<Record>, Vec<Watched>) {
        let (mut records, mut watched) = (Vec::new(), Vec::new());
        for (position, turn) in turns.into_iter().enumerate() {
            let session = &mut self.sessions[turn.session];
            let environment = self.run.plan.environments[session.environment].name.clone();
            let outcome = turn.outcome.and_then(|(sample, took)| believe(sample, &burst, took));
            let outcome = match session.after(outcome) {
                Ok(sample) => {
                    let canaries = [turn.canary.before_ns, turn.canary.after_ns];
                    let evidence = turn.evidence.clone();
                    watched.push(Watched { environment: environment.clone(), canaries, evidence });
                    Ok(sample)
                }
                Err(e) => {
                    self.run.progress.warn(format!("{} in {environment} failed: {e}", workload.name));
                    Err(Failure { step: Step::Burst, message: e.to_string() })
                }
            };
            records.push(Record {
                block: self.number,
                round: burst.number as u32,
                position: position as u32,
                workload: workload.name.clone(),
                environment,
                outcome,
                canary: turn.canary,
                evidence: turn.evidence,
            });
        }
        (records, watched)
    }
}
