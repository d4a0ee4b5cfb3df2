//! Runs a plan: blocks with fresh starts, rounds in random order, every record in the store as soon as it exists.

pub mod progress;
pub mod rounds;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reports::record::{Checked, Ending, Failure, Record, Start, Step, Void};
use reports::store::Store;
use runners::evidence::Witness;
use runners::host::Host;
use runners::peer::PeerProcess;
use runners::session::{Session, SessionError};
use runners::stage::Stage;
use workloads::Far;
use workloads::agent::CLOCK;
use workloads::canary::Canaries;
use workloads::evidence::Canary;
use workloads::protocol::{BurstPlan, Sample, Task};

use crate::plan::{Plan, Work};
use progress::Progress;
use rounds::Watched;

/// From launch to the agent's first frame: a guest under emulation on a busy machine stays far below.
const START: Duration = Duration::from_secs(30);
/// For preparing, verifying and releasing a workload.
const STEP: Duration = Duration::from_secs(60);
/// For a ping or an identity.
const EXCHANGE: Duration = Duration::from_secs(20);
/// An environment that failed to start so many times in a row is given up.
const GIVE_UP: u32 = 2;
/// Rounds may be replaced until this many times the planned number have been tried in a block.
const MOST_ROUNDS: u32 = 2;

/// A purpose of random numbers, so that no two draw the same.
const ORDER_OF_STARTS: u64 = 1;
const ORDER_OF_ROUNDS: u64 = 2;

/// What a plan needs from the host, and what is released when it ends.
#[derive(Debug)]
pub struct Bench {
    /// The host's own small operations; their file lies in the first stage, so they go before it.
    pub canaries: Canaries,
    /// The far end, where a workload has one.
    pub peer: Option<PeerProcess>,
    /// Of the plan's environments, in their order; `None` for those that aren't available.
    pub stages: Vec<Option<Stage>>,
    /// Who we are and what interrupts us.
    pub host: Arc<Host>,
}

/// A plan being carried out.
pub struct Lab<'a> {
    plan: &'a Plan,
    run: &'a str,
    store: &'a Store,
    bench: Bench,
    /// Of the stages, in their order.
    witnesses: Vec<Option<Witness>>,
    progress: Progress,
    /// Operations per clock reading, by workload.
    batches: HashMap<String, u32>,
    failed_starts: Vec<u32>,
    began: Instant,
}

/// A session up in the present block.
struct Live {
    environment: usize,
    session: Session,
    peer: Option<Far>,
    clock_ns: f64,
    /// Of no more use: it ended, or said something that makes no sense.
    over: bool,
}

impl Live {
    /// What a step gave, with a note when the session is of no more use after it.
    fn noting<T>(&mut self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        self.over |= result.as_ref().is_err_and(SessionError::is_fatal);
        result
    }
}

impl<'a> Lab<'a> {
    /// Ready to begin.
    pub fn new(plan: &'a Plan, run: &'a str, store: &'a Store, mut bench: Bench) -> Self {
        let witnesses: Vec<_> = bench.stages.iter_mut().map(|stage| stage.as_mut().map(Stage::witness)).collect();
        let available = witnesses.iter().flatten().count() as u64;
        let bursts = u64::from(plan.suite.blocks) * u64::from(plan.suite.rounds) * plan.works.len() as u64 * available;
        Self {
            plan,
            run,
            store,
            failed_starts: vec![0; bench.stages.len()],
            bench,
            witnesses,
            progress: Progress::new(bursts),
            batches: HashMap::new(),
            began: Instant::now(),
        }
    }

    /// All blocks, or as many as there was time for.
    ///
    /// # Errors
    /// When the store can't be written. What fails in an environment is a row, not an error.
    pub fn run(mut self) -> anyhow::Result<Ending> {
        for block in 0..self.plan.suite.blocks {
            if self.interrupted() || (block > 0 && self.over_budget()) {
                self.progress.finish();
                return Ok(Ending::Interrupted);
            }
            self.block(block)?;
        }
        self.progress.finish();
        Ok(if self.interrupted() { Ending::Interrupted } else { Ending::Complete })
    }

    fn interrupted(&self) -> bool {
        self.bench.host.interrupt.load(Ordering::Relaxed)
    }

    fn over_budget(&self) -> bool {
        self.plan.suite.budget.is_some_and(|budget| self.began.elapsed() > budget)
    }

    fn name(&self, environment: usize) -> &str {
        &self.plan.environments[environment].name
    }

    fn block(&mut self, block: u32) -> anyhow::Result<()> {
        let mut live = self.start_all(block)?;
        for (at, work) in self.plan.works.iter().enumerate() {
            if self.interrupted() {
                break;
            }
            self.work(block, at, work, &mut live)?;
        }
        for one in &mut live {
            // A last exchange makes the span of the clock fit as long as the block.
            if let Err(e) = one.session.ping(EXCHANGE) {
                log::debug!("last ping of {}: {e}", self.plan.environments[one.environment].name);
            }
            self.store.clock(self.run, block, self.name(one.environment), &one.session.clock())?;
        }
        self.progress.say(format!("block {}/{}: ending", block + 1, self.plan.suite.blocks));
        // All at once: a guest takes its time to power off, and nothing is measured now.
        std::thread::scope(|scope| {
            for one in live {
                scope.spawn(move || drop(one));
            }
        });
        Ok(())
    }

    fn start_all(&mut self, block: u32) -> anyhow::Result<Vec<Live>> {
        let available: Vec<usize> = (0..self.bench.stages.len()).filter(|i| self.bench.stages[*i].is_some()).collect();
        let mut rng = rounds::generator(self.plan.seed, ORDER_OF_STARTS, block, 0);
        let mut live = Vec::new();
        for environment in rounds::order(&available, &mut rng) {
            if self.interrupted() {
                break;
            }
            self.progress.say(format!(
                "block {}/{}: starting {}",
                block + 1,
                self.plan.suite.blocks,
                self.name(environment)
            ));
            let (start, session) = self.start(block, environment);
            if start.outcome.is_err() && self.interrupted() {
                break;
            }
            self.store.start(self.run, &start)?;
            live.extend(session);
        }
        Ok(live)
    }

    fn start(&mut self, block: u32, environment: usize) -> (Start, Option<Live>) {
        let mut start = Start {
            block,
            environment: self.name(environment).to_string(),
            outcome: Ok(0),
            memory_bytes: None,
            hello: None,
            identity: None,
            clock: None,
        };
        if self.failed_starts[environment] >= GIVE_UP {
            start.outcome =
                Err(Failure { step: Step::Start, message: format!("given up after {GIVE_UP} failed starts in a row") });
            return (start, None);
        }
        match self.launch(environment, &mut start) {
            Ok(live) => {
                self.failed_starts[environment] = 0;
                (start, Some(live))
            }
            Err(e) => {
                self.failed_starts[environment] += 1;
                let message = format!("{e:#}");
                if !self.interrupted() {
                    self.progress.warn(format!("{} did not start: {message}", self.name(environment)));
                }
                start.outcome = Err(Failure { step: Step::Start, message });
                (start, None)
            }
        }
    }

    fn launch(&mut self, environment: usize, start: &mut Start) -> anyhow::Result<Live> {
        let spec = &self.plan.environments[environment];
        let stage = self.bench.stages[environment].as_mut().expect("only environments with a stage are started");
        let launch = stage.launch(spec.runner, &spec.settings)?;
        let peer = launch.far(self.bench.peer.as_ref().map(|process| process.port));
        // What a probe has accepted must not be refused here.
        let mut session = Session::start(launch, START.max(spec.runner.start_deadline()))?;
        start.outcome = Ok(session.start.as_nanos() as u64);
        start.hello = Some(session.hello.clone());
        start.memory_bytes = session.memory();
        let identity = session.identify(EXCHANGE)?;
        let clock_ns = identity.clock_ns;
        start.identity = Some(identity);
        for _ in 0..5 {
            session.ping(EXCHANGE)?;
        }
        Ok(Live { environment, session, peer, clock_ns, over: false })
    }

    fn work(&mut self, block: u32, at: usize, work: &Work, live: &mut Vec<Live>) -> anyhow::Result<()> {
        self.progress.say(format!("block {}/{}: {}", block + 1, self.plan.suite.blocks, work.name));
        let mut facts: BTreeMap<usize, Checked> = BTreeMap::new();
        let mut ready: Vec<usize> = Vec::new();
        for (i, one) in live.iter_mut().enumerate() {
            let task = Task {
                workload: work.workload.name().into(),
                settings: work.settings.clone(),
                seed: self.plan.seed,
                memory: self.bench.host.resources.memory_bytes,
                peer: one.peer,
            };
            let prepared = one.session.prepare(task, work.patience);
            match one.noting(prepared) {
                Ok(facts) => {
                    // Without the fact the identity's figure stays.
                    if let Some(ns) = facts.get(CLOCK).and_then(|ns| ns.parse().ok()) {
                        one.clock_ns = ns;
                    }
                    ready.push(i);
                }
                // Nothing of this workload was measured: there is nothing to say of it.
                Err(SessionError::Interrupted) => return Ok(()),
                Err(e) => {
                    facts.insert(one.environment, self.failed(block, work, one.environment, Step::Prepare, &e));
                }
            }
        }
        for missing in self.missing(live) {
            let message = "not running in this block".to_string();
            let failure = Failure { step: Step::Start, message };
            facts.insert(missing, self.checked(block, work, missing, Err(failure)));
        }
        if !ready.is_empty() {
            let plan = self.pilot(work, live, &mut ready, &mut facts, block);
            if let Some(plan) = plan {
                self.rounds(block, at, work, plan, live, &mut ready)?;
            }
        }
        // An interrupted session is gone: it has nothing left to be checked, and that is no failure of its own.
        if !self.interrupted() {
            self.verify(block, work, live, &ready, &mut facts);
        }
        for checked in facts.values() {
            self.store.check(self.run, checked)?;
        }
        let interrupted = self.interrupted();
        live.retain(|one| !one.over || interrupted);
        Ok(())
    }

    fn missing(&self, live: &[Live]) -> Vec<usize> {
        (0..self.bench.stages.len())
            .filter(|i| self.bench.stages[*i].is_some() && !live.iter().any(|l| l.environment == *i))
            .collect()
    }

    fn checked(
        &self,
        block: u32,
        work: &Work,
        environment: usize,
        outcome: Result<workloads::Check, Failure>,
    ) -> Checked {
        let environment = self.name(environment).to_string();
        Checked { block, workload: work.name.clone(), environment, outcome, facts: BTreeMap::new() }
    }

    fn failed(&self, block: u32, work: &Work, environment: usize, step: Step, error: &SessionError) -> Checked {
        let message = error.to_string();
        self.progress.warn(format!("{} in {} failed: {message}", work.name, self.name(environment)));
        self.checked(block, work, environment, Err(Failure { step, message }))
    }

    /// A short pass of the baseline (or, without one, of the first that is ready) sizes the bursts of this block.
    fn pilot(
        &mut self,
        work: &Work,
        live: &mut [Live],
        ready: &mut Vec<usize>,
        facts: &mut BTreeMap<usize, Checked>,
        block: u32,
    ) -> Option<BurstPlan> {
        while let Some(position) = ready.iter().enumerate().min_by_key(|(_, i)| live[**i].environment).map(|(p, _)| p) {
            let one = &mut live[ready[position]];
            let burst = one.session.burst(rounds::short_pass(work.length.burst), work.patience);
            match one.noting(burst) {
                Ok(pilot) => {
                    let batch = self.batch(work, live, ready);
                    return Some(rounds::plan_burst(&pilot, work.length, batch));
                }
                Err(SessionError::Interrupted) => return None,
                Err(e) => {
                    let environment = one.environment;
                    facts.insert(environment, self.failed(block, work, environment, Step::Burst, &e));
                    ready.remove(position);
                }
            }
        }
        None
    }

    /// Operations per clock reading. The first block decides for all: entries of one histogram must mean the same.
    fn batch(&mut self, work: &Work, live: &mut [Live], ready: &[usize]) -> u32 {
        if let Some(batch) = self.batches.get(&work.name) {
            return *batch;
        }
        let mut passes = Vec::new();
        // In open loop, and with several at a time, every operation has a moment of its own.
        let batchable = work.workload.batchable() && work.length.rate.is_none();
        for i in ready.iter().filter(|_| batchable) {
            let pass = live[*i].session.burst(rounds::short_pass(work.length.burst), STEP);
            // Who fails here fails again in the first round, where it is recorded.
            if let Ok(pass) = live[*i].noting(pass) {
                passes.push((pass, live[*i].clock_ns));
            }
        }
        let batch = rounds::batch(&passes, work.length.burst_max);
        log::info!("{}: {batch} operations per clock reading", work.name);
        self.batches.insert(work.name.clone(), batch);
        batch
    }

    fn rounds(
        &mut self,
        block: u32,
        at: usize,
        work: &Work,
        plan: BurstPlan,
        live: &mut [Live],
        ready: &mut Vec<usize>,
    ) -> anyhow::Result<()> {
        let wanted = self.plan.suite.rounds;
        let (mut good, mut round) = (0, 0);
        let mut canaries = Vec::new();
        while good < wanted && round < wanted * MOST_ROUNDS && !ready.is_empty() && !self.interrupted() {
            let mut rng = rounds::generator(self.plan.seed, ORDER_OF_ROUNDS + at as u64, block, round);
            let order = rounds::order(ready, &mut rng);
            let watched = self.round(block, round, work, plan, live, &order, ready)?;
            canaries.extend(watched.iter().flat_map(|w| w.canaries));
            let reason = rounds::median(&canaries).and_then(|m| rounds::void_reason(&watched, m));
            match reason {
                None => good += 1,
                Some(reason) => {
                    self.progress.warn(format!("{}: round void: {reason}", work.name));
                    self.store.void(self.run, &Void { block, round, workload: work.name.clone(), reason })?;
                }
            }
            round += 1;
        }
        self.progress.skip_to(
            block,
            at,
            self.plan.works.len(),
            self.bench.stages.iter().flatten().count() as u64 * u64::from(wanted),
        );
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the coordinates of a record are what a round is about")]
    fn round(
        &mut self,
        block: u32,
        round: u32,
        work: &Work,
        plan: BurstPlan,
        live: &mut [Live],
        order: &[usize],
        ready: &mut Vec<usize>,
    ) -> anyhow::Result<Vec<Watched>> {
        let mut watched = Vec::new();
        let resource = work.workload.resource();
        // The canary after one burst is the canary before the next: nothing but the record's write lies between.
        let mut before = self.bench.canaries.measure(resource)?;
        for (position, i) in order.iter().enumerate() {
            let one = &mut live[*i];
            let witness = self.witnesses[one.environment].as_ref().expect("a live environment has a stage");
            let snapshot = witness.snapshot();
            let outcome = one.session.burst(plan, Duration::from_nanos(plan.limit_ns) * 3 + STEP);
            let outcome = one.noting(outcome);
            let evidence = witness.since(&snapshot);
            let after = self.bench.canaries.measure(resource)?;
            if matches!(outcome, Err(SessionError::Interrupted)) {
                break;
            }
            let canary = Canary { before_ns: before, after_ns: after };
            before = after;
            let environment = self.name(one.environment).to_string();
            if outcome.is_ok() {
                let canaries = [canary.before_ns, canary.after_ns];
                watched.push(Watched { environment: environment.clone(), canaries, evidence: evidence.clone() });
            } else {
                ready.retain(|r| r != i);
            }
            let outcome: Result<Sample, Failure> = outcome.map_err(|e| {
                self.progress.warn(format!("{} in {environment} failed: {e}", work.name));
                Failure { step: Step::Burst, message: e.to_string() }
            });
            let record = Record {
                block,
                round,
                position: position as u32,
                workload: work.name.clone(),
                environment,
                outcome,
                canary,
                evidence,
            };
            self.store.record(self.run, &record)?;
            self.progress.advance();
        }
        Ok(watched)
    }

    fn verify(
        &self,
        block: u32,
        work: &Work,
        live: &mut [Live],
        ready: &[usize],
        facts: &mut BTreeMap<usize, Checked>,
    ) {
        let mut expected: Option<(String, String)> = None;
        let mut by_environment: Vec<usize> = ready.to_vec();
        by_environment.sort_by_key(|i| live[*i].environment);
        for i in by_environment {
            let one = &mut live[i];
            let name = self.plan.environments[one.environment].name.clone();
            let verified = one.session.verify(work.patience);
            match one.noting(verified) {
                Ok((check, seen)) => {
                    let outcome = match &expected {
                        Some((value, first)) if *value != check.value => {
                            let message = format!(
                                "the check value is {}, but {value} in {first}: not the same work",
                                check.value
                            );
                            Err(Failure { step: Step::Verify, message })
                        }
                        _ => Ok(check.clone()),
                    };
                    expected.get_or_insert((check.value, name));
                    let mut checked = self.checked(block, work, one.environment, outcome);
                    checked.facts = seen;
                    facts.insert(one.environment, checked);
                }
                Err(SessionError::Interrupted) => return,
                Err(e) => {
                    facts.insert(one.environment, self.failed(block, work, one.environment, Step::Verify, &e));
                }
            }
        }
        for one in live.iter_mut().filter(|l| !l.over) {
            let released = one.session.release(work.patience);
            if let Err(e) = one.noting(released) {
                log::warn!("{} could not be released: {e}", work.name);
            }
        }
    }
}
