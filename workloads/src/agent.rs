//! The agent: runs inside an environment, answers one request at a time, and is silent while a burst is timed.
//!
//! Nothing that a request says, and nothing that a workload does, ends the agent: it answers `Failed` and goes on. Only
//! `Bye` or the end of the channel does, and then what it has made in the data directory is removed.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::protocol::{self, BurstPlan, FrameError, Request, Response};
use crate::settings::Settings;
use crate::stopwatch::{self, Stopwatch};
use crate::{Place, Prepared, identity, registry};

/// The directory of the prepared workload, within the data directory.
const WORK: &str = "work";

/// Operations of a burst at most, warm-up included: enough for a day, and no sum of them overflows.
const MAX_OPERATIONS: u64 = 1 << 40;

/// Operations per clock reading at most.
const MAX_BATCH: u32 = 1 << 20;

/// Serves requests until `Bye` or until the channel closes. `data` is the data directory as seen inside.
///
/// # Errors
/// When the channel can't be read or written.
pub fn serve(input: &mut impl BufRead, out: &mut impl Write, data: &Path) -> anyhow::Result<()> {
    let mut agent = Agent { data, bench: None, watch: Stopwatch::new() };
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
    bench: Option<Bench>,
    watch: Stopwatch,
}

/// A prepared workload with its directory.
struct Bench {
    /// Dropped before the directory is: fields go in order.
    prepared: Box<dyn Prepared>,
    _directory: Directory,
}

/// A directory that is removed with all that is in it.
struct Directory(PathBuf);

impl Directory {
    /// Makes it empty, whatever an agent that was killed has left there.
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        remove(&path)?;
        std::fs::create_dir(&path).with_context(|| {
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

impl Agent<'_> {
    /// Does what is asked; an error and a panic alike become `Failed`.
    fn answer(&mut self, request: Request) -> Response {
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(request)));
        let failure = match done {
            Ok(Ok(response)) => return response,
            Ok(Err(e)) => format!("{e:#}"),
            Err(panic) => {
                // What the workload was in the middle of is unknown, so it can't be used any more.
                let dropped = catch_unwind(AssertUnwindSafe(|| self.bench = None));
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
            Request::Prepare { workload, settings, seed, peer } => {
                let mut facts = self.prepare(&workload, &settings, seed, peer)?;
                tell_clock(&identity::clock(), &mut facts);
                Response::Prepared(facts)
            }
            Request::Burst(plan) => Response::Sample(self.burst(plan)?),
            Request::Verify => {
                let bench = self.bench()?;
                let clock = identity::clock();
                let check = bench.prepared.verify()?;
                let mut facts = bench.prepared.facts();
                tell_clock(&clock, &mut facts);
                Response::Verified { check, facts }
            }
            Request::Release => {
                self.bench = None;
                Response::Released
            }
            Request::Bye => {
                self.bench = None;
                Response::Bye
            }
        })
    }

    fn bench(&mut self) -> anyhow::Result<&mut Bench> {
        self.bench.as_mut().context("no workload is prepared; a Prepare that succeeds has to come first")
    }

    fn prepare(
        &mut self,
        workload: &str,
        settings: &Settings,
        seed: u64,
        peer: Option<SocketAddr>,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        self.bench = None;
        let workload =
            registry::find(workload).with_context(|| format!("no workload is called `{}`", workload.escape_debug()))?;
        // They came over a wire: checked again, so that no workload meets a setting it didn't declare.
        let given = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let settings = Settings::resolve(workload.settings(), &given)?;
        let directory = Directory::create(self.data.join(WORK))?;
        let place = Place { directory: directory.0.clone(), seed, settings, peer };
        let mut prepared = workload.prepare(&place).with_context(|| format!("can't prepare {}", workload.name()))?;
        let facts = prepared.facts();
        self.bench = Some(Bench { prepared, _directory: directory });
        Ok(facts)
    }

    fn burst(&mut self, plan: BurstPlan) -> anyhow::Result<protocol::Sample> {
        anyhow::ensure!(plan.operations > 0, "a burst needs at least one operation");
        anyhow::ensure!(
            plan.operations <= MAX_OPERATIONS && plan.warmup <= MAX_OPERATIONS,
            "a burst has at most {MAX_OPERATIONS} operations"
        );
        anyhow::ensure!((1..=MAX_BATCH).contains(&plan.batch), "a batch has from 1 to {MAX_BATCH} operations");
        let bench =
            self.bench.as_mut().context("no workload is prepared; a Prepare that succeeds has to come first")?;
        self.watch.arm(plan);
        bench.prepared.burst(&mut self.watch)?;
        anyhow::ensure!(
            !self.watch.running(),
            "the workload ended its burst after {} of {} operations",
            self.watch.operations(),
            self.watch.planned()
        );
        self.watch.sample()
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Check;

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
        Agent { data, bench: Some(Bench { prepared: Box::new(bad), _directory: directory }), watch: Stopwatch::new() }
    }

    fn failure(agent: &mut Agent<'_>, request: Request) -> String {
        match agent.answer(request) {
            Response::Failed { message } => message,
            other => panic!("this should have failed: {other:?}"),
        }
    }

    const PLAN: BurstPlan = BurstPlan { operations: 3, warmup: 0, batch: 1, limit_ns: u64::MAX };

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
        let mut agent = Agent { data: Path::new("/nonexistent"), bench: None, watch: Stopwatch::new() };
        let request =
            Request::Prepare { workload: "control/clock".into(), settings: Settings::default(), seed: 1, peer: None };
        let message = failure(&mut agent, request);
        assert!(message.contains("/nonexistent/work") && message.contains("is the data directory there"), "{message}");
    }
}
