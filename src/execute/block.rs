//! One block: every environment is started afresh, does its part of each workload, and is ended; the unit of replication.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::time::Duration;

use reports::record::{Checked, Failure, Start, Step};
use runners::session::SessionError;
use workloads::agent::CLOCK;
use workloads::protocol::{BurstPlan, Identity, Sample, Task};
use workloads::{Check, PeerAddress, Resource};

use super::believe::believe;
use super::decide::{self, Draw, Whole};
use super::execution::Execution;
use super::round::Course;
use super::seat::{AT_A_TIME, Facts, Seat, Site, Started};
use super::tenant::Tenant;
use crate::plan::PlannedWorkload;

/// For a ping or an identity.
const EXCHANGE: Duration = Duration::from_secs(20);

/// An environment that failed to start so many times in a row is given up.
const GIVE_UP: u32 = 2;

/// A workload with void rounds is prepared again so many times in a block,
const VISITS: u32 = 2;
/// and then has so many rounds for each that it owes.
const TRIES: u32 = 2;

/// Exchanges of stamps after a start, for a clock fit that does not hang on one of them.
const FIRST_PINGS: usize = 5;

/// One block: the sessions that are up in it, and what came of the workload that is under way.
pub struct Block<'b, 'a, S: Site> {
    pub(super) run: &'b mut Execution<'a, S>,
    pub(super) number: u32,
    /// In the order of their starts.
    pub(super) sessions: Vec<Live<S::Seat>>,
    /// Of the workload under way, by environment.
    checks: BTreeMap<usize, Checked>,
}

/// A session of the block.
pub struct Live<S> {
    /// Its environment's number in the plan.
    pub(super) environment: usize,
    pub(super) seat: S,
    /// How long it took to start.
    start: Duration,
    /// The cost of a clock reading in it, nanoseconds.
    pub(super) clock_ns: f64,
    /// How much there is to do of the workload under way, where that has an end.
    pub(super) whole: Option<Whole>,
    peer: Option<PeerAddress>,
    state: State,
    /// Who works beside its bursts.
    pub(super) tenant: Option<Tenant<S>>,
}

/// How far a session can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is up, but takes no part in the workload under way, or not any more.
    Idle,
    /// The workload is prepared in it, and nothing has failed since.
    Ready,
    /// Nothing: it ended, or said something that makes no sense.
    Over,
}

impl<S> Live<S> {
    /// Hands on the result of a step. After a failure the session takes no further part in the workload; after a fatal one, in
    /// the block.
    pub(super) fn after<T>(&mut self, step: Result<T, SessionError>) -> Result<T, SessionError> {
        match &step {
            Ok(_) => {}
            Err(e) if e.is_fatal() => self.state = State::Over,
            Err(_) => self.state = State::Idle,
        }
        step
    }
}

impl<S: Seat> Live<S> {
    /// A burst that is not of a round.
    pub(super) fn pass(&mut self, plan: BurstPlan, deadline: Duration) -> Result<Sample, SessionError> {
        let (sample, took) = self.seat.burst(plan, deadline)?;
        believe(sample, &plan, took)
    }
}

impl<S: Site> Drop for Block<'_, '_, S> {
    fn drop(&mut self) {
        self.end_all();
    }
}

impl<'b, 'a, S: Site> Block<'b, 'a, S> {
    /// Starts, measures and ends.
    ///
    /// # Errors
    /// When the store can't be written or the host's own operations fail; the sessions are ended then too.
    pub fn carry_out(run: &'b mut Execution<'a, S>, number: u32) -> anyhow::Result<()> {
        run.forecast.begin(run.site.elapsed());
        let mut block = Self { run, number, sessions: Vec::new(), checks: BTreeMap::new() };
        block.start_all()?;
        block.step_done();
        let courses = block.workloads()?;
        block.retry(courses)?;
        block.store_clocks()?;
        block.say("ending");
        block.end_each()?;
        block.run.forecast.end(block.run.site.elapsed());
        Ok(())
    }

    /// Every workload's rounds, and how far they came.
    fn workloads(&mut self) -> anyhow::Result<Vec<Course>> {
        let (rounds, count) = (self.run.plan.suite.rounds, self.run.plan.workloads.len());
        let mut courses = Vec::new();
        for at in 0..count {
            if self.run.site.interrupted() {
                break;
            }
            let mut course = Course::new(at, rounds);
            self.workload(&mut course, rounds)?;
            self.step_done();
            courses.push(course);
        }
        Ok(courses)
    }

    /// Void rounds are done again when all else is done, since what disturbs a machine lasts longer than a round. No more of them
    /// than were planned: a machine that is never quiet would otherwise take hours to say so. A second try is nobody's while
    /// others wait for their first.
    fn retry(&mut self, mut courses: Vec<Course>) -> anyhow::Result<()> {
        let mut left = self.run.plan.suite.rounds * courses.len() as u32;
        for _ in 0..VISITS {
            for at in 0..courses.len() {
                let waiting: u32 = courses[at + 1..].iter().map(|course| course.owed).sum();
                let course = &mut courses[at];
                let most = (TRIES * course.owed).min(left.saturating_sub(waiting));
                if most > 0 && !self.run.site.interrupted() {
                    let done = course.next;
                    self.workload(course, most)?;
                    left -= course.next - done;
                }
            }
        }
        Ok(())
    }

    /// Starts one after the other, since how long that takes is measured; then all say side by side who they are.
    fn start_all(&mut self) -> anyhow::Result<()> {
        let order = decide::order(&self.run.available(), self.run.plan.seed, Draw::Starts, self.number, 0);
        let mut rows = Vec::new();
        for environment in order {
            if self.run.site.interrupted() {
                break;
            }
            self.say(format!("starting {}", self.run.name(environment)));
            rows.push((environment, self.start(environment)));
        }
        let ask = |session: &'_ mut Live<S::Seat>| (session.environment, session.seat.identify(EXCHANGE));
        let steps = self.sessions.iter_mut().map(|session| move || ask(session)).collect();
        let mut identities: HashMap<_, _> = self.run.site.side_by_side(steps).into_iter().collect();
        for (environment, mut row) in rows {
            if let Some(identity) = identities.remove(&environment)
                && let Err(e) = self.greet(environment, identity, &mut row)
            {
                self.sessions.retain(|session| session.environment != environment);
                row.outcome = Err(self.not_started(environment, &e.into()));
            }
            // A start that was broken off is no failure of the environment's.
            if row.outcome.is_err() && self.run.site.interrupted() {
                break;
            }
            if row.outcome.is_ok() {
                self.run.failed_starts[environment] = 0;
            }
            self.run.rows.start(&row)?;
        }
        Ok(())
    }

    fn start(&mut self, environment: usize) -> Start {
        let mut start = Start {
            block: self.number,
            environment: self.run.name(environment).to_string(),
            outcome: Ok(0),
            memory_bytes: None,
            hello: None,
            identity: None,
            clock: None,
            stop_ns: None,
        };
        if self.run.failed_starts[environment] >= GIVE_UP {
            let message = format!("given up after {GIVE_UP} failed starts in a row");
            start.outcome = Err(Failure { step: Step::Start, message });
            return start;
        }
        match self.run.site.start(environment) {
            Ok(Started { seat, peer, took, hello, memory_bytes }) => {
                start.outcome = Ok(took.as_nanos() as u64);
                start.hello = Some(hello);
                start.memory_bytes = memory_bytes;
                match self.tenant(environment) {
                    Ok(tenant) => {
                        let state = State::Idle;
                        let live =
                            Live { environment, seat, start: took, clock_ns: 0.0, whole: None, peer, state, tenant };
                        self.sessions.push(live);
                    }
                    Err(e) => start.outcome = Err(self.not_started(environment, &e.context("its neighbour"))),
                }
            }
            Err(e) => start.outcome = Err(self.not_started(environment, &e)),
        }
        start
    }

    /// Starts an environment's neighbour, where it has one, and makes its workload ready.
    fn tenant(&mut self, environment: usize) -> anyhow::Result<Option<Tenant<S::Seat>>> {
        let Some(planned) = &self.run.plan.environments[environment].neighbour else { return Ok(None) };
        let Started { mut seat, peer, .. } = self.run.site.start(self.run.plan.tenant(environment))?;
        seat.identify(EXCHANGE)?;
        let workload = &planned.workload;
        // Its operations are sent for one by one as they arrive: an agent that waits for an arrival can't be told to stop.
        let task = self.task(workload, peer);
        let task = Task { settings: task.settings.with("rate", "0"), ..task };
        make_ready(&mut seat, workload, task, workload.patience)?;
        let uses_disk = workload.workload.resource() == Resource::Disk;
        Ok(Some(Tenant::new(seat, uses_disk, workload.length.rate)))
    }

    fn task(&self, workload: &PlannedWorkload, peer: Option<PeerAddress>) -> Task {
        Task {
            workload: workload.workload.name().into(),
            settings: workload.settings.clone(),
            seed: decide::seed_of_block(self.run.plan.seed, self.number),
            memory: self.run.plan.suite.resources.memory_bytes,
            peer,
        }
    }

    fn not_started(&mut self, environment: usize, error: &anyhow::Error) -> Failure {
        self.run.failed_starts[environment] += 1;
        let message = with_way_out(format!("{error:#}"));
        if !self.run.site.interrupted() {
            self.run.progress.warn(format!("{} did not start: {message}", self.run.name(environment)));
        }
        Failure { step: Step::Start, message }
    }

    /// Hears who a session that has just started is, and how its clock runs.
    fn greet(
        &mut self,
        environment: usize,
        identity: Result<Identity, SessionError>,
        row: &mut Start,
    ) -> Result<(), SessionError> {
        let mut identity = identity?;
        self.run.site.recognise(environment, &identity);
        // Nobody else needs to know on which of its days a machine was measured.
        identity.boot_id = None;
        for session in self.sessions.iter_mut().filter(|session| session.environment == environment) {
            session.clock_ns = identity.clock_ns;
            (0..FIRST_PINGS).try_for_each(|_| session.seat.ping(EXCHANGE))?;
        }
        row.identity = Some(identity);
        Ok(())
    }

    /// Prepares a workload everywhere, has the rounds done that it owes, checks it and clears it away.
    fn workload(&mut self, course: &mut Course, most: u32) -> anyhow::Result<()> {
        let workload = &self.run.plan.workloads[course.workload];
        self.say(&workload.name);
        self.checks.clear();
        // Nothing of this workload was measured before an interruption here: there is nothing to say of it.
        if self.prepare(workload, course).is_err() {
            return Ok(());
        }
        // Who is missing in a retry has a row already that says why.
        if !course.begun() {
            self.name_missing(workload);
        }
        self.pilots(workload, course);
        self.rounds(workload, course, most)?;
        // An interrupted session is gone: it has nothing left to be checked, and that is no failure of its own.
        if !self.run.site.interrupted() && self.verify(workload).is_ok() {
            self.release(workload);
        }
        for checked in self.checks.values() {
            self.run.rows.check(checked)?;
        }
        Ok(())
    }

    /// Whoever could not be prepared for a round is not asked again for its retry: it has said why.
    fn prepare(&mut self, workload: &PlannedWorkload, course: &mut Course) -> Result<(), Interrupted> {
        let task = self.task(workload, None);
        let mut of = self.up();
        of.retain(|at| !course.unprepared.contains(&self.sessions[*at].environment));
        let prepare = |session: &mut Live<S::Seat>, deadline| {
            make_ready(&mut session.seat, workload, Task { peer: session.peer, ..task.clone() }, deadline)
        };
        for (at, prepared) in self.ask_all(&of, workload, prepare) {
            match prepared {
                Ok(facts) => {
                    let session = &mut self.sessions[at];
                    // Without the fact the identity's figure stays.
                    if let Some(ns) = facts.get(CLOCK).and_then(|ns| ns.parse().ok()) {
                        session.clock_ns = ns;
                    }
                    session.whole = Whole::of(&facts);
                    session.state = State::Ready;
                }
                Err(SessionError::Interrupted) => return Err(Interrupted),
                Err(e) => {
                    course.unprepared.insert(self.sessions[at].environment);
                    self.failed(at, workload, Step::Prepare, &e);
                }
            }
        }
        Ok(())
    }

    /// Asks several sessions for the same step side by side: their answers with their places, in the order of the plan. Who was slow to
    /// start, as an emulated guest is, is mostly slow in all else, and is asked first: else all would wait for it at the end.
    fn ask_all<T: Send>(
        &mut self,
        of: &[usize],
        workload: &PlannedWorkload,
        ask: impl Fn(&mut Live<S::Seat>, Duration) -> Result<T, SessionError> + Sync,
    ) -> Vec<(usize, Result<T, SessionError>)> {
        let ask = &ask;
        let deadline = workload.patience * AT_A_TIME as u32;
        let mut asked: Vec<_> = self.sessions.iter_mut().enumerate().filter(|(at, _)| of.contains(at)).collect();
        asked.sort_by_key(|(_, session)| (Reverse(session.start), session.environment));
        let steps = asked
            .into_iter()
            .map(|(at, session)| {
                move || {
                    let answer = ask(session, deadline);
                    (at, session.after(answer))
                }
            })
            .collect();
        let mut answers = self.run.site.side_by_side(steps);
        answers.sort_by_key(|(at, _)| self.sessions[*at].environment);
        answers
    }

    /// An environment without a session is a row of each workload.
    fn name_missing(&mut self, workload: &PlannedWorkload) {
        let up: Vec<usize> = self.up().into_iter().map(|at| self.sessions[at].environment).collect();
        // Who ended while this workload was prepared has said so itself.
        let known = |environment: &usize| up.contains(environment) || self.checks.contains_key(environment);
        let missing: Vec<usize> = self.run.available().into_iter().filter(|e| !known(e)).collect();
        for environment in missing {
            let failure = Failure { step: Step::Start, message: "not running in this block".into() };
            self.keep(environment, workload, Err(failure), BTreeMap::new());
        }
    }

    fn verify(&mut self, workload: &PlannedWorkload) -> Result<(), Interrupted> {
        let mut expected = None;
        let ready = self.ready();
        for (at, verified) in self.ask_all(&ready, workload, |session, deadline| session.seat.verify(deadline)) {
            let environment = self.sessions[at].environment;
            match verified {
                Ok((check, facts)) => {
                    let outcome = decide::same_work(check, self.run.name(environment), &mut expected);
                    self.keep(environment, workload, outcome, facts);
                }
                Err(SessionError::Interrupted) => return Err(Interrupted),
                Err(e) => self.failed(at, workload, Step::Verify, &e),
            }
        }
        Ok(())
    }

    fn release(&mut self, workload: &PlannedWorkload) {
        let up = self.up();
        for (at, released) in self.ask_all(&up, workload, |session, deadline| session.seat.release(deadline)) {
            let session = &mut self.sessions[at];
            if session.state == State::Ready {
                session.state = State::Idle;
            }
            if let Err(e) = released {
                log::warn!("{} could not be released: {e}", workload.name);
            }
        }
    }

    /// The clock of every session, also of those that ended before the block did: what they measured until then counts.
    fn store_clocks(&mut self) -> anyhow::Result<()> {
        for session in &mut self.sessions {
            let name = &self.run.plan.environments[session.environment].name;
            // A last exchange makes the span of the clock fit as long as the block.
            if session.state != State::Over
                && let Err(e) = session.seat.ping(EXCHANGE)
            {
                log::debug!("last ping of {name}: {e}");
            }
            self.run.rows.clock(self.number, name, &session.seat.clock())?;
        }
        Ok(())
    }

    /// The sessions of which something can be asked, by their place in `sessions`.
    fn up(&self) -> Vec<usize> {
        (0..self.sessions.len()).filter(|at| self.sessions[*at].state != State::Over).collect()
    }

    /// The sessions that take part in the workload under way.
    pub(super) fn ready(&self) -> Vec<usize> {
        (0..self.sessions.len()).filter(|at| self.sessions[*at].state == State::Ready).collect()
    }

    /// Keeps a step's failure as the workload's check in this environment, and says so.
    pub(super) fn failed(&mut self, at: usize, workload: &PlannedWorkload, step: Step, error: &SessionError) {
        let environment = self.sessions[at].environment;
        let message = error.to_string();
        self.run.progress.warn(format!("{} in {} failed: {message}", workload.name, self.run.name(environment)));
        self.keep(environment, workload, Err(Failure { step, message }), BTreeMap::new());
    }

    fn keep(
        &mut self,
        environment: usize,
        workload: &PlannedWorkload,
        outcome: Result<Check, Failure>,
        facts: BTreeMap<String, String>,
    ) {
        let name = self.run.name(environment).to_string();
        let workload = workload.name.clone();
        self.checks.insert(environment, Checked { block: self.number, workload, environment: name, outcome, facts });
    }

    fn say(&self, what: impl Display) {
        self.say_part(what, 0.0);
    }

    /// Shows what is under way, and that so much of it is done.
    pub(super) fn say_part(&self, what: impl Display, part: f64) {
        self.run.show(format!("block {}/{}: {what}", self.number + 1, self.run.plan.suite.blocks), part);
    }

    /// A step that the plan has an estimate for is over.
    fn step_done(&mut self) {
        self.run.forecast.step(self.run.site.elapsed());
    }

    /// Ends one session after the other, since how long that takes is measured. Of one that ended by itself it says nothing, and
    /// nobody who ends a run waits for it.
    fn end_each(&mut self) -> anyhow::Result<()> {
        while !self.run.site.interrupted()
            && let Some(mut session) = self.sessions.pop()
        {
            session.tenant.iter_mut().for_each(|tenant| tenant.release(EXCHANGE));
            let whole = session.state != State::Over;
            let took = self.run.site.stop(session.seat);
            drop(session.tenant);
            if whole && !self.run.site.interrupted() {
                self.run.rows.stop(self.number, self.run.name(session.environment), took)?;
            }
        }
        self.end_all();
        Ok(())
    }

    /// Ends all sessions at once: nothing is measured of it.
    fn end_all(&mut self) {
        std::thread::scope(|scope| {
            for session in self.sessions.drain(..) {
                // Where no thread can be made what it was to do goes at once, and the session with it.
                if let Err(e) = std::thread::Builder::new().spawn_scoped(scope, move || drop(session)) {
                    log::debug!("a session was ended without a thread of its own: {e}");
                }
            }
        });
    }
}

/// Brings what a workload needs of the host, and makes it ready.
fn make_ready(
    seat: &mut impl Seat,
    workload: &PlannedWorkload,
    task: Task,
    deadline: Duration,
) -> Result<Facts, SessionError> {
    workload.parcel.iter().try_for_each(|parcel| seat.bring(parcel, deadline))?;
    seat.prepare(task, deadline)
}

/// The run is being ended: the block does no further step.
struct Interrupted;

/// What a start failed by, and what to do where that was a limit: a probe that worked, or was remembered, needed a little less.
fn with_way_out(message: String) -> String {
    match runners::on_limit(&message) {
        Some(advice) if !message.contains(advice) => format!("{message}; {advice}"),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_met_a_limit_says_what_to_allow() {
        let told = with_way_out("can't start `x`: Too many open files (os error 24)".into());
        assert_eq!(told, "can't start `x`: Too many open files (os error 24); allow more open files: `ulimit -n`");
        assert_eq!(with_way_out(told.clone()), told);
        assert_eq!(with_way_out("died".into()), "died");
    }
}
