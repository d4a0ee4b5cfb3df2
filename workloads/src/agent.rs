//! The agent: runs inside an environment, answers one request at a time, and is silent while a burst is timed.
//!
//! Nothing that a request says, and nothing that a workload does, ends the agent: it answers `Failed` and goes on. Only
//! `Bye` or the end of the channel does, and then what it has made in the data directory is removed.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::content::mix;
use crate::durability::{Way, Writer};
use crate::facts::WHOLE;
use crate::load::{Load, Pace};
use crate::parcel::Arrived;
use crate::protocol::{self, BurstPlan, FrameError, Piece, Request, Response, Task};
use crate::stopwatch::{self, Gate, Stopwatch};
use crate::workload::{Check, Needs, Place, Prepared, Workload};
use crate::{content, identity, registry};

/// The directory of the prepared workload, within the data directory.
const WORK: &str = "work";

/// Files of the host for the workload that is prepared next, within the data directory.
const PARCEL: &str = "parcel";

/// Operations of a burst at most, warm-up included: enough for a day, and no sum of them overflows.
const MAX_OPERATIONS: u64 = 1 << 40;

/// Operations per clock reading at most.
const MAX_BATCH: u32 = 1 << 20;

/// Serves requests until `Bye` or until the channel closes. `data` is the data directory as seen inside.
///
/// # Errors
/// When the channel can't be read or written.
pub fn serve(input: &mut impl BufRead, out: &mut impl Write, data: &Path) -> anyhow::Result<()> {
    let mut agent = Agent::new(data);
    protocol::send(out, 0, 0, &Response::Hello(identity::hello()), stopwatch::now)?;
    loop {
        let (request, received) = match protocol::receive::<Request>(input, stopwatch::now) {
            Ok(message) => message,
            Err(FrameError::Closed) => return Ok(()),
            Err(FrameError::Io(e)) => return Err(e).context("the agent can't read its channel"),
            Err(damaged) => {
                // Which request it was can't be known: 0, the number that no request has.
                let body = Response::Failed { message: damaged.to_string() };
                protocol::send(out, 0, stopwatch::now(), &body, stopwatch::now)?;
                continue;
            }
        };
        let body = agent.answer(request.body);
        protocol::send(out, request.id, received, &body, stopwatch::now)?;
        if matches!(body, Response::Bye) {
            return Ok(());
        }
    }
}

struct Agent<'a> {
    data: &'a Path,
    active: Option<ActiveWorkload>,
    /// What has come of a parcel, until the next workload is prepared.
    parcel: Option<Arrived>,
    /// The writer whose items are acknowledged, with its directory, which goes after it.
    writing: Option<(Writer, Directory)>,
    /// One for each job; made when first needed and kept.
    watches: Vec<Stopwatch>,
}

/// A workload that is ready to run, with its directory.
struct ActiveWorkload {
    /// The jobs. Dropped before the directory is: fields go in order.
    jobs: Vec<Job>,
    /// Operations that are in flight at a time, over all jobs.
    concurrency: u32,
    /// Whether operations promise that their data survives a loss of power.
    durable: bool,
    _directory: Directory,
}

/// One worker of a workload.
struct Job {
    prepared: Box<dyn Prepared>,
    pace: Option<Pace>,
}

impl Job {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.prepared.burst(watch)?;
        anyhow::ensure!(
            !watch.running(),
            "the workload ended its burst after {} of {} operations",
            watch.operations(),
            watch.planned()
        );
        Ok(())
    }
}

impl ActiveWorkload {
    /// One timed pass of all jobs; the operations of the plan are shared out among them.
    fn burst(&mut self, plan: BurstPlan, watches: &mut Vec<Stopwatch>) -> anyhow::Result<protocol::Sample> {
        let jobs = self.jobs.len();
        watches.resize_with(watches.len().max(jobs), Stopwatch::new);
        let watches = &mut watches[..jobs];
        let share = |operations: u64| operations.div_ceil(jobs as u64);
        let plan = BurstPlan { operations: share(plan.operations), warmup: share(plan.warmup), ..plan };
        for (job, watch) in self.jobs.iter().zip(watches.iter_mut()) {
            watch.arm_paced(plan, job.pace.map(|pace| (pace, plan.number)));
        }
        match (self.jobs.as_mut_slice(), &mut *watches) {
            // No thread: what the work leaves with the thread it runs on stays the same from burst to burst.
            ([job], [watch]) => job.burst(watch)?,
            (jobs, watches) => burst_together(jobs, watches)?,
        }
        let mut sample = Stopwatch::sample_of(watches)?;
        sample.concurrency = self.concurrency;
        for (job, watch) in self.jobs.iter_mut().zip(watches.iter()) {
            if self.durable {
                let writes = job.prepared.durable_writes(watch.operations());
                sample.durable_writes = Some(sample.durable_writes.unwrap_or(0) + writes);
            }
            sample.drawn = Some(sample.drawn.unwrap_or(0).rotate_left(1) ^ job.prepared.drawn());
            for (name, count) in job.prepared.counters() {
                *sample.counters.entry(name).or_default() += count;
            }
        }
        Ok(sample)
    }

    /// The check of the only job, or one over all.
    fn verify(&mut self) -> anyhow::Result<Check> {
        if let [job] = self.jobs.as_mut_slice() {
            return job.prepared.verify();
        }
        let mut digest = content::Digest::default();
        let mut detail = String::new();
        for (number, job) in self.jobs.iter_mut().enumerate() {
            let check = job.prepared.verify().with_context(|| format!("job {number}"))?;
            digest.add(check.value.as_bytes());
            detail = check.detail;
        }
        Ok(Check { value: digest.value(), detail: format!("{} jobs, the last: {detail}", self.jobs.len()) })
    }

    /// The facts of the first job: those of the others differ in nothing but names. Each does all that there is to do.
    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.jobs[0].prepared.facts();
        let jobs = self.jobs.len() as u64;
        if jobs > 1 {
            facts.insert("jobs".into(), jobs.to_string());
            if let Some(whole) = facts.get_mut(WHOLE)
                && let Ok(each) = whole.parse::<u64>()
            {
                *whole = each.saturating_mul(jobs).to_string();
            }
        }
        facts
    }
}

/// Each job in a thread of its own; their warm-ups start together, and so do their measured parts. The first failure is what the
/// burst says.
fn burst_together(jobs: &mut [Job], watches: &mut [Stopwatch]) -> anyhow::Result<()> {
    let gates = [Gate::new(jobs.len()), Gate::new(jobs.len())];
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut outcome = Ok(());
        for (number, (job, watch)) in jobs.iter_mut().zip(watches).enumerate() {
            watch.share(gates.clone());
            let work = move || {
                let done = catch_unwind(AssertUnwindSafe(|| job.burst(watch)));
                // Whoever ended before a gate must not keep the others waiting there.
                watch.release();
                done.unwrap_or_else(|panic| resume_unwind(panic))
            };
            match std::thread::Builder::new().name(format!("job {number}")).spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                Err(e) => {
                    // Those that run already must not wait for one that never comes.
                    gates.iter().for_each(|gate| gate.open());
                    outcome = Err(e).with_context(|| format!("can't start a thread for job {number}"));
                    break;
                }
            }
        }
        for (number, thread) in threads.into_iter().enumerate() {
            let done = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            outcome = outcome.and(done.with_context(|| format!("job {number}")));
        }
        outcome
    })
}

/// A directory that is removed with all that is in it.
struct Directory(PathBuf);

impl Directory {
    /// Makes it empty, whatever an agent that was killed has left there.
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        remove(&path)?;
        // What is in it may be the user's own: files that were brought, and what a command makes of them.
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| {
            format!("can't make the directory {}; is the data directory there and writable?", path.display())
        })?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(e) = remove(&self.0) {
            log::warn!("{e:#}");
        }
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("can't remove the directory {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The fact that says what a clock reading costs now, nanoseconds. Some sandboxes calibrate their clock for seconds after
/// the start, so it is measured beside every workload and not only once.
pub const CLOCK: &str = "clock_ns";
/// The fact that says how far apart two different readings are at least, nanoseconds.
pub const CLOCK_STEP: &str = "clock_step_ns";

fn tell_clock(clock: &identity::Clock, facts: &mut BTreeMap<String, String>) {
    facts.insert(CLOCK.into(), format!("{:.1}", clock.cost_ns));
    facts.insert(CLOCK_STEP.into(), clock.step_ns.to_string());
}

/// The seed of a job: the run's for the first, others for the others.
fn seed_of(seed: u64, job: u32) -> u64 {
    if job == 0 { seed } else { mix(seed ^ mix(u64::from(job))) }
}

/// Below this a workload needs not say what it takes up.
const UNSAID: u64 = 64 << 20;

/// Refuses a workload that is too large for the disk or the memory, before anything of it exists.
fn check_room(workload: &dyn Workload, needs: Needs, data: &Path, memory: u64) -> anyhow::Result<()> {
    let size = bytesize::ByteSize;
    let name = workload.name();
    if needs.disk > UNSAID {
        let room = nix::sys::statvfs::statvfs(data)
            .with_context(|| format!("can't ask how much room there is in {}", data.display()))?;
        let free = room.blocks_available() as u64 * room.fragment_size() as u64;
        anyhow::ensure!(
            needs.disk <= free,
            "{name} would write {} to the data directory, which has {} free; set a smaller size",
            size(needs.disk),
            size(free)
        );
    }
    anyhow::ensure!(
        needs.memory <= UNSAID || needs.memory <= memory,
        "{name} would hold {} of memory, and the environment has {}; set a smaller size or give the suite more memory",
        size(needs.memory),
        size(memory)
    );
    Ok(())
}

impl<'a> Agent<'a> {
    fn new(data: &'a Path) -> Self {
        Self { data, active: None, parcel: None, writing: None, watches: Vec::new() }
    }

    /// Does what is asked; an error and a panic alike become `Failed`.
    fn answer(&mut self, request: Request) -> Response {
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(request)));
        let failure = match done {
            Ok(Ok(response)) => return response,
            Ok(Err(e)) => format!("{e:#}"),
            Err(panic) => {
                // What the workload was in the middle of is unknown, so it can't be used any more.
                let dropped = catch_unwind(AssertUnwindSafe(|| self.active = None));
                let again = if dropped.is_err() { ", and again while cleaning up" } else { "" };
                format!("the agent panicked: {}{again}", words(panic.as_ref()))
            }
        };
        Response::Failed { message: failure }
    }

    fn perform(&mut self, request: Request) -> anyhow::Result<Response> {
        Ok(match request {
            Request::Identify => Response::Identity(Box::new(identity::identify(self.data)?)),
            Request::Ping => Response::Pong,
            Request::Bring(piece) => {
                self.bring(&piece)?;
                Response::Kept
            }
            Request::Prepare(task) => {
                let mut facts = self.prepare(task)?;
                tell_clock(&identity::clock(), &mut facts);
                Response::Prepared(facts)
            }
            Request::Burst(plan) => Response::Sample(self.burst(plan)?),
            Request::Verify => {
                let active = self.active()?;
                let clock = identity::clock();
                let check = active.verify()?;
                let mut facts = active.facts();
                tell_clock(&clock, &mut facts);
                Response::Verified { check, facts }
            }
            Request::Release => {
                self.active = None;
                Response::Released
            }
            Request::Write { way, number } => {
                self.write(way, number)?;
                Response::Written
            }
            Request::Bye => {
                (self.active, self.writing) = (None, None);
                Response::Bye
            }
        })
    }

    fn write(&mut self, way: Way, number: u64) -> anyhow::Result<()> {
        if number == 0 {
            self.writing = None;
            let directory = Directory::create(self.data.join(way.directory()))?;
            self.writing = Some((Writer::begin(way, &directory.0)?, directory));
            return Ok(());
        }
        let (writer, _) = self.writing.as_mut().context("nobody writes; an item with number 0 has to come first")?;
        writer.write(number)
    }

    fn active(&mut self) -> anyhow::Result<&mut ActiveWorkload> {
        self.active.as_mut().context("no workload is prepared; a Prepare that succeeds has to come first")
    }

    fn bring(&mut self, piece: &Piece) -> anyhow::Result<()> {
        if piece.offset == 0 {
            // Its files would be in the way of a full disk's next workload.
            (self.active, self.parcel) = (None, None);
            self.parcel = Some(Arrived::begin(self.data.join(PARCEL))?);
        }
        self.parcel.as_mut().context("a piece of a parcel came before its first")?.add(piece.offset, &piece.bytes)
    }

    fn prepare(&mut self, task: Task) -> anyhow::Result<BTreeMap<String, String>> {
        self.active = None;
        let parcel = self.parcel.take();
        let Task { workload, settings, seed, memory, peer } = task;
        let workload = registry::find(&workload)
            .with_context(|| format!("no workload is called `{}`", workload.escape_debug()))?;
        // They came over a wire: checked again, so that no workload meets a setting it didn't declare.
        let given = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = workload.resolve(&given)?;
        let directory = Directory::create(self.data.join(WORK))?;
        let shared = directory.0.clone();
        let load = Load::read(&settings);
        let jobs = load.jobs;
        let concurrency = jobs * workload.in_flight(&settings);
        let place = |job: u32| Place {
            directory: if job == 0 { shared.clone() } else { shared.join(format!("job{job}")) },
            shared: shared.clone(),
            job,
            jobs,
            seed: seed_of(seed, job),
            settings: settings.clone(),
            memory,
            peer,
            parcel: parcel.as_ref().map(|arrived| arrived.path().to_path_buf()),
        };
        let each = workload.needs(&settings, memory);
        let all = |bytes: u64| bytes.saturating_mul(u64::from(jobs));
        check_room(workload, Needs { disk: all(each.disk), memory: all(each.memory) }, self.data, memory)?;
        let durable = workload.durable(&settings);
        let mut active = ActiveWorkload { jobs: Vec::new(), concurrency, durable, _directory: directory };
        for job in 0..jobs {
            let place = place(job);
            std::fs::create_dir_all(&place.directory)
                .with_context(|| format!("can't make the directory {}", place.directory.display()))?;
            let prepared = workload.prepare(&place).with_context(|| format!("can't prepare {}", workload.name()))?;
            active.jobs.push(Job { prepared, pace: Pace::of(&load, seed, job) });
        }
        let facts = active.facts();
        self.active = Some(active);
        Ok(facts)
    }

    fn burst(&mut self, plan: BurstPlan) -> anyhow::Result<protocol::Sample> {
        anyhow::ensure!(plan.operations > 0, "a burst needs at least one operation");
        anyhow::ensure!(
            plan.operations <= MAX_OPERATIONS && plan.warmup <= MAX_OPERATIONS,
            "a burst has at most {MAX_OPERATIONS} operations"
        );
        anyhow::ensure!((1..=MAX_BATCH).contains(&plan.batch), "a batch has from 1 to {MAX_BATCH} operations");
        let active =
            self.active.as_mut().context("no workload is prepared; a Prepare that succeeds has to come first")?;
        active.burst(plan, &mut self.watches)
    }
}

/// Message of a panic.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Check;

    /// A workload that does what its name says.
    enum Bad {
        Panics,
        Stops,
        PanicsTwice,
    }

    impl Prepared for Bad {
        fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
            watch.start();
            watch.lap(0);
            match self {
                Bad::Stops => Ok(()),
                Bad::Panics | Bad::PanicsTwice => panic!("the disk is on fire"),
            }
        }

        fn verify(&mut self) -> anyhow::Result<Check> {
            anyhow::bail!("nothing is as it should be")
        }
    }

    impl Drop for Bad {
        fn drop(&mut self) {
            if let Bad::PanicsTwice = self {
                panic!("and it burns still");
            }
        }
    }

    fn with(bad: Bad, data: &Path) -> Agent<'_> {
        let directory = Directory::create(data.join(WORK)).expect("made");
        let jobs = vec![Job { prepared: Box::new(bad), pace: None }];
        let active = ActiveWorkload { jobs, concurrency: 1, durable: false, _directory: directory };
        Agent { active: Some(active), ..Agent::new(data) }
    }

    fn failure(agent: &mut Agent<'_>, request: Request) -> String {
        match agent.answer(request) {
            Response::Failed { message } => message,
            other => panic!("this should have failed: {other:?}"),
        }
    }

    const PLAN: BurstPlan = BurstPlan { operations: 3, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };

    #[test]
    fn a_panic_becomes_a_failure_and_its_files_go() {
        let data = tempfile::tempdir().expect("a directory");
        for (bad, words) in [
            (Bad::Panics, "the agent panicked: the disk is on fire"),
            (Bad::PanicsTwice, "the agent panicked: the disk is on fire, and again while cleaning up"),
        ] {
            let mut agent = with(bad, data.path());
            assert_eq!(failure(&mut agent, Request::Burst(PLAN)), words);
            assert!(failure(&mut agent, Request::Verify).contains("no workload is prepared"));
            assert!(matches!(agent.answer(Request::Ping), Response::Pong));
            assert!(!data.path().join(WORK).exists());
        }
    }

    #[test]
    fn a_burst_that_ends_too_early_is_a_failure() {
        let data = tempfile::tempdir().expect("a directory");
        let mut agent = with(Bad::Stops, data.path());
        let message = failure(&mut agent, Request::Burst(PLAN));
        assert_eq!(message, "the workload ended its burst after 1 of 3 operations");
        assert_eq!(failure(&mut agent, Request::Verify), "nothing is as it should be");
    }

    #[test]
    fn a_data_directory_that_is_not_there_is_named() {
        let mut agent = Agent::new(Path::new("/nonexistent"));
        let request = Request::Prepare(Task::of("control/clock"));
        let message = failure(&mut agent, request);
        assert!(message.contains("/nonexistent/work") && message.contains("is the data directory there"), "{message}");
    }
}
