//! A host that follows a script: every environment answers at once, and fails where it is told to. No time passes but the
//! script's own, which goes on by a second with each burst.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use runners::session::{SessionError, Tail};
use workloads::evidence::{ClockFit, Evidence, Idle};
use workloads::parcel::Parcel;
use workloads::protocol::{BurstPlan, Hello, Identity, PILOTS, Sample, Task};
use workloads::stopwatch::HIGHEST_NS;
use workloads::{Check, Resource};

use super::super::seat::{Facts, Seat, Site, Started};

/// Flushes of an idle disk.
pub const IDLE: Idle = Idle { events: 3, ns: 1000 };

/// What it takes to end an environment.
pub const STOP: Duration = Duration::from_millis(2);

/// The environments of every script, in the order of their numbers.
pub const ENVIRONMENTS: [&str; 3] = ["bare", "control", "box"];

/// The name of whoever works beside them.
pub const NEIGHBOUR: &str = "neighbour";

/// An operation takes so long in every environment, nanoseconds.
const OPERATION: u64 = 10_000;

/// The steps of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    Start,
    Identify,
    Ping,
    Prepare,
    Burst,
    Verify,
    Release,
}

/// What is done beside a burst and what is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Look,
    Begin,
    Burst,
    End,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The environment ends.
    Dies,
    /// The agent says why it can't, and goes on.
    Refuses,
}

/// When a signal comes, counted in steps of all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// While this step waits for its answer.
    In(usize),
    /// After this step has its answer.
    After(usize),
}

/// What a box makes of its sample.
pub type Lie = fn(&mut Sample);

/// The course of a run; its clones are the same script.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Mutex<Story>>);

#[derive(Debug, Default)]
struct Story {
    faults: Vec<(&'static str, Ask, std::ops::Range<usize>, Fault)>,
    signal: Option<Signal>,
    canaries: Vec<u64>,
    stolen: Option<f64>,
    other_work: Option<&'static str>,
    lie: Option<(&'static str, Lie)>,
    lost_canary: Option<usize>,
    stopped: Option<(&'static str, usize)>,
    absent: Option<&'static str>,
    slow: Option<&'static str>,
    prepared: Vec<&'static str>,
    steps: usize,
    bursts: usize,
    checks: usize,
    asked: BTreeMap<(&'static str, Ask), usize>,
    pilots: BTreeMap<&'static str, Vec<u64>>,
    measured: usize,
    interrupted: bool,
    now: Duration,
    up: usize,
    most_up: usize,
    /// Looks at the host, the begin and the end of what is watched, and bursts, in their order.
    order: Vec<Act>,
}

impl Script {
    /// Whenever `environment` is asked so the times of `when`, from 0, it fails.
    pub fn fails(self, environment: &'static str, ask: Ask, when: std::ops::Range<usize>, fault: Fault) -> Self {
        self.story().faults.push((environment, ask, when, fault));
        self
    }

    pub fn signal(self, signal: Signal) -> Self {
        self.story().signal = Some(signal);
        self
    }

    /// The host's own operations take so long, microseconds, one look after the other; 10 where nothing is said any more.
    pub fn canaries(self, us: &[u64]) -> Self {
        self.story().canaries = us.to_vec();
        self
    }

    /// Everything is stopped for ten seconds in this burst, from 1 over all environments, which is one of `environment`.
    pub fn stopped(self, environment: &'static str, burst: usize) -> Self {
        self.story().stopped = Some((environment, burst));
        self
    }

    /// This share of the CPU time is stolen in every burst.
    pub fn stolen(self, share: f64) -> Self {
        self.story().stolen = Some(share);
        self
    }

    /// An environment whose check value is another.
    pub fn does_other_work(self, environment: &'static str) -> Self {
        self.story().other_work = Some(environment);
        self
    }

    /// An environment whose samples of rounds say something else than what was done.
    pub fn lies(self, environment: &'static str, lie: Lie) -> Self {
        self.story().lie = Some((environment, lie));
        self
    }

    /// The host's own operations fail at this look.
    pub fn loses_canary(self, look: usize) -> Self {
        self.story().lost_canary = Some(look);
        self
    }

    /// An environment that can't be started here at all.
    pub fn lacks(self, environment: &'static str) -> Self {
        self.story().absent = Some(environment);
        self
    }

    /// An environment that takes long to start.
    pub fn starts_slowly(self, environment: &'static str) -> Self {
        self.story().slow = Some(environment);
        self
    }

    /// Who was asked to make a workload ready, in that order.
    pub fn prepared(&self) -> Vec<&'static str> {
        self.story().prepared.clone()
    }

    /// How often an environment was asked so.
    pub fn times(&self, environment: &'static str, ask: Ask) -> usize {
        self.story().asked.get(&(environment, ask)).copied().unwrap_or(0)
    }

    /// Operations of each pilot of an environment.
    pub fn pilots(&self, environment: &'static str) -> Vec<u64> {
        self.story().pilots.get(environment).cloned().unwrap_or_default()
    }

    /// All that is done around bursts, in its order.
    pub fn order(&self) -> Vec<Act> {
        self.story().order.clone()
    }

    /// Looks at the host's own operations.
    pub fn looks(&self) -> usize {
        self.story().measured
    }

    /// Bursts of rounds that gave a sample.
    pub fn bursts(&self) -> usize {
        self.story().bursts
    }

    /// Checks that were answered.
    pub fn checks(&self) -> usize {
        self.story().checks
    }

    /// How many steps there were.
    pub fn steps(&self) -> usize {
        self.story().steps
    }

    /// Sessions that have not been ended.
    pub fn up(&self) -> usize {
        self.story().up
    }

    /// The most that were up at a time.
    pub fn most_up(&self) -> usize {
        self.story().most_up
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.0.lock().expect("no test panics with the script in its hands")
    }

    fn step(&self, environment: &'static str, ask: Ask) -> Result<(), SessionError> {
        let mut story = self.story();
        let step = story.steps;
        story.steps += 1;
        let asked = story.asked.entry((environment, ask)).or_default();
        let time = *asked;
        *asked += 1;
        if ask == Ask::Prepare {
            story.prepared.push(environment);
        }
        if ask == Ask::Burst {
            story.now += Duration::from_secs(1);
            story.order.push(Act::Burst);
        }
        if story.interrupted || story.signal == Some(Signal::In(step)) {
            story.interrupted = true;
            return Err(SessionError::Interrupted);
        }
        story.interrupted = story.signal == Some(Signal::After(step));
        let fault = story.faults.iter().find(|(e, a, when, _)| *e == environment && *a == ask && when.contains(&time));
        match fault.map(|fault| fault.3) {
            None => Ok(()),
            Some(Fault::Refuses) => Err(SessionError::Refused("it can't".into())),
            Some(Fault::Dies) => Err(died()),
        }
    }
}

/// With so many entries, all the same.
pub fn histogram(entries: u64) -> Vec<u8> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 3).expect("bounds that fit");
    histogram.record_n(OPERATION, entries).expect("within the bounds");
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("in memory");
    bytes
}

/// The sample of somebody who did nothing all the time.
pub fn nothing(sample: &Sample) -> Sample {
    Sample { operations: 0, elapsed_ns: sample.elapsed_ns, histogram: histogram(0), ..sample.clone() }
}

/// The error of a session that died.
pub fn died() -> SessionError {
    SessionError::Died { what: "an answer", status: "killed".into(), tail: Tail::default() }
}

impl Site for Script {
    type Seat = Actor;

    fn available(&self, environment: usize) -> bool {
        self.story().absent != Some(ENVIRONMENTS[environment])
    }

    fn start(&mut self, environment: usize) -> anyhow::Result<Started<Actor>> {
        let environment = ENVIRONMENTS.get(environment).copied().unwrap_or(NEIGHBOUR);
        self.step(environment, Ask::Start)?;
        let mut story = self.story();
        story.up += 1;
        story.most_up = story.most_up.max(story.up);
        let took = Duration::from_millis(if story.slow == Some(environment) { 3000 } else { 5 });
        drop(story);
        let seat = Actor { environment, script: self.clone(), over: false, seed: 0 };
        Ok(Started { seat, peer: None, took, hello: Hello::default(), memory_bytes: None })
    }

    fn stop(&mut self, seat: Actor) -> Duration {
        drop(seat);
        STOP
    }

    fn recognise(&mut self, _: usize, _: &Identity) {}

    fn canary(&mut self, _: Resource) -> anyhow::Result<u64> {
        let mut story = self.story();
        anyhow::ensure!(story.lost_canary != Some(story.measured), "the canary can't sing");
        let us = story.canaries.get(story.measured).copied().unwrap_or(10);
        story.measured += 1;
        story.order.push(Act::Look);
        Ok(us * 1000)
    }

    fn idle_flushes(&self) -> Vec<Option<Idle>> {
        self.story().order.push(Act::Look);
        vec![Some(IDLE); ENVIRONMENTS.len()]
    }

    fn watch<T>(&self, _: usize, burst: impl FnOnce() -> T) -> (T, Evidence) {
        self.story().order.push(Act::Begin);
        let done = burst();
        self.story().order.push(Act::End);
        (done, Evidence { steal: self.story().stolen, wall_ns: Some(60_000_000), ..Evidence::default() })
    }

    fn side_by_side<T: Send, F: FnOnce() -> T + Send>(&self, steps: Vec<F>) -> Vec<T> {
        // One after the other, so that a step has a number.
        steps.into_iter().map(|step| step()).collect()
    }

    fn interrupted(&self) -> bool {
        self.story().interrupted
    }

    fn elapsed(&self) -> Duration {
        self.story().now
    }
}

/// One session of the script.
#[derive(Debug)]
pub struct Actor {
    environment: &'static str,
    script: Script,
    over: bool,
    /// Of the workload that is prepared.
    seed: u64,
}

impl Actor {
    fn step(&mut self, ask: Ask) -> Result<(), SessionError> {
        if self.over {
            return Err(died());
        }
        let step = self.script.step(self.environment, ask);
        self.over = step.as_ref().is_err_and(SessionError::is_fatal);
        step
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.script.story().up -= 1;
    }
}

impl Seat for Actor {
    fn identify(&mut self, _: Duration) -> Result<Identity, SessionError> {
        self.step(Ask::Identify)?;
        Ok(Identity { clock_ns: 25.0, ..Identity::default() })
    }

    fn ping(&mut self, _: Duration) -> Result<(), SessionError> {
        self.step(Ask::Ping)
    }

    fn bring(&mut self, _parcel: &Parcel, _deadline: Duration) -> Result<(), SessionError> {
        Ok(())
    }

    fn prepare(&mut self, task: Task, _: Duration) -> Result<Facts, SessionError> {
        self.step(Ask::Prepare)?;
        self.seed = task.seed;
        Ok(Facts::new())
    }

    fn burst(&mut self, plan: BurstPlan, _: Duration) -> Result<(Sample, Duration), SessionError> {
        self.step(Ask::Burst)?;
        let operations = plan.operations.min(plan.limit_ns / OPERATION);
        let pilot = plan.number >= PILOTS;
        if pilot {
            self.script.story().pilots.entry(self.environment).or_default().push(operations);
        } else if self.environment != NEIGHBOUR {
            self.script.story().bursts += 1;
        }
        let drawn = workloads::content::mix(self.seed ^ workloads::content::mix(plan.number));
        let mut sample = Sample {
            operations,
            elapsed_ns: operations * OPERATION,
            batch: plan.batch,
            cut_short: operations < plan.operations,
            histogram: histogram(operations.div_ceil(u64::from(plan.batch))),
            concurrency: 1,
            drawn: Some(drawn),
            ..Sample::default()
        };
        let took = Duration::from_nanos(sample.elapsed_ns);
        if let Some((_, lie)) = self.script.story().lie.filter(|(liar, _)| *liar == self.environment && !pilot) {
            lie(&mut sample);
        }
        Ok((sample, took))
    }

    fn overslept(&self) -> Duration {
        let story = self.script.story();
        let stopped = story.stopped.is_some_and(|(who, burst)| who == self.environment && story.bursts == burst);
        Duration::from_secs(if stopped { 10 } else { 0 })
    }

    fn verify(&mut self, _: Duration) -> Result<(Check, Facts), SessionError> {
        self.step(Ask::Verify)?;
        self.script.story().checks += 1;
        let other = self.script.story().other_work == Some(self.environment);
        let value = if other { "0bad" } else { "c0de" };
        Ok((Check { value: value.into(), detail: "checked".into() }, Facts::new()))
    }

    fn release(&mut self, _: Duration) -> Result<(), SessionError> {
        self.step(Ask::Release)
    }

    fn clock(&self) -> ClockFit {
        ClockFit { drift_ppm: Some(1.0), ..ClockFit::default() }
    }
}
