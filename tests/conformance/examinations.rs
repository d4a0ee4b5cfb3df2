//! What is asked of every runner: it starts the agent, is the binary we sent, does a little work that verifies, survives being
//! killed in the middle, and leaves nothing behind.

use std::io::Read as _;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use runners::Runner;
use runners::host::Resources;
use runners::probe::{self, Probe};
use runners::session::{Session, SessionError};
use runners::stage::Stage;
use runners::stage::shared::Shared;
use workloads::protocol::{BurstPlan, Task};
use workloads::settings::Settings;

use crate::common::boxes::{Premises, VARIANTS, takes};
use crate::common::{Dir, eventually, must_run, shared, traces};

const PATIENCE: Duration = Duration::from_secs(60);

type Examination = fn(Scene);

/// By the name that a test ends with.
const EXAMINATIONS: &[(&str, Examination)] = &[
    ("works", works),
    ("interrupted_mid_burst", interrupted_mid_burst),
    ("engine_killed_mid_burst", engine_killed_mid_burst),
    ("harness_killed", harness_killed),
];

/// A test for every examination of every runner, on all its premises: `cloud_hypervisor::works`, `exec_lxc::works`.
pub fn all() -> Vec<Trial> {
    let mut tests = Vec::new();
    for &runner in runners::registry::RUNNERS {
        let variants = VARIANTS.iter().filter(|(of, _)| *of == runner.name());
        for premises in std::iter::once(runner.name()).chain(variants.map(|(_, name)| *name)) {
            for (name, examination) in EXAMINATIONS {
                let name = format!("{}::{name}", premises.replace('-', "_"));
                tests.push(Trial::ignorable_test(name.clone(), move || {
                    examine(&name, move || Scene::of(runner, premises).map(examination))
                }));
            }
        }
    }
    tests
}

/// In a thread of its own, which the premises may take into a network namespace for good.
fn examine(name: &str, test: impl FnOnce() -> Result<(), Skipped> + Send + 'static) -> Result<Completion, Failed> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(test).expect("a thread");
    match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
        Ok(()) => Ok(Completion::Completed),
        Err(Skipped(why)) => Ok(Completion::ignored_with(format!("SKIPPED: {why}"))),
    }
}

/// Why a runner that may be missing was not examined.
struct Skipped(String);

struct Scene {
    dir: Dir,
    /// Where the runner needs one that is there already.
    around: Premises,
    shared: Arc<Shared>,
    runner: &'static dyn Runner,
    settings: Settings,
}

impl Scene {
    /// The reason when the runner isn't available and may be missing.
    fn of(runner: &'static dyn Runner, name: &str) -> Result<Self, Skipped> {
        let dir = Dir::new();
        // Short, unique among tests that run at the same time.
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let scene = SCENES.fetch_add(1, Ordering::Relaxed);
        let id = format!("c{}{scene:x}", std::process::id() % 10_000);
        let shared = shared(&id, Resources::new(1, 512 << 20));
        let around = Premises::of(name, dir.root());
        let given: Vec<_> = around.settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let settings = Settings::of(runner.settings(), &given);
        let Probe { because, fix, .. } = match probe::probe(runner, &settings, &shared, dir.root()) {
            probe if probe.usable() => return Ok(Self { dir, around, shared, runner, settings }),
            probe => probe,
        };
        let [because, fix] = [because, fix].map(Option::unwrap_or_default);
        let why = match takes(name).filter(|_| around.settings.is_empty()) {
            Some(what) => format!("this test makes what {name} enters, which takes {what}"),
            None => format!("{name} is not available: {because}; {fix}"),
        };
        assert!(!must_run(name), "{name} must run here, but: {why}");
        Err(Skipped(why))
    }

    fn stage(&self) -> Stage {
        Stage::new(Arc::clone(&self.shared), self.runner.name(), self.dir.root()).expect("a stage")
    }

    fn session(&self, stage: &mut Stage) -> Session {
        let launch = stage.launch(self.runner, &self.settings).expect("launches");
        Session::start(launch, PATIENCE).expect("starts")
    }

    /// Everything is dropped; then nothing may be left but the named files.
    fn end(self, keeping: &[&str]) {
        let id = self.shared.host.id.clone();
        drop(self.shared);
        eventually("no trace is left", Duration::from_secs(5), || traces(&id).is_empty());
        self.dir.holds_only(keeping);
    }
}

fn works(scene: Scene) {
    let mut stage = scene.stage();
    let mut values = Vec::new();
    for _ in 0..2 {
        let mut session = scene.session(&mut stage);
        let identity = session.identify(PATIENCE).expect("says who it is");
        assert_eq!(identity.binary_sha256, scene.shared.host.binary_sha256);
        assert_eq!(session.hello.version, env!("CARGO_PKG_VERSION"));
        for workload in ["sqlite/commit", "disk/fsync"] {
            session.prepare(Task::of(workload), PATIENCE).expect("prepares");
            let plan = BurstPlan { operations: 20, warmup: 5, batch: 1, limit_ns: 20_000_000_000, number: 0 };
            let sample = session.burst(plan, PATIENCE).expect("bursts");
            assert_eq!((sample.operations, sample.warmup_operations, sample.cut_short), (20, 5, false));
            assert!(sample.elapsed_ns > 0 && !sample.histogram.is_empty());
            let (check, _) = session.verify(PATIENCE).expect("verifies");
            values.push(check.value);
            session.release(PATIENCE).expect("releases");
        }
    }
    assert_eq!(values[..2], values[2..], "a second start does the same work");
    drop(stage);
    scene.end(&[]);
}

fn interrupted_mid_burst(scene: Scene) {
    let mut stage = scene.stage();
    let mut session = scene.session(&mut stage);
    session.prepare(Task::of("disk/fsync"), PATIENCE).expect("prepares");
    let flag = Arc::clone(&scene.shared.host.interrupt);
    let signal = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        flag.store(true, Ordering::Relaxed);
    });
    let plan = BurstPlan { operations: 10_000_000, warmup: 0, batch: 1, limit_ns: 50_000_000_000, number: 0 };
    let error = session.burst(plan, PATIENCE).expect_err("interrupted");
    assert!(matches!(error, SessionError::Interrupted), "{error}");
    signal.join().expect("signals");
    drop(session);
    drop(stage);
    scene.end(&[]);
}

fn engine_killed_mid_burst(scene: Scene) {
    let mut stage = scene.stage();
    let mut session = scene.session(&mut stage);
    session.prepare(Task::of("disk/fsync"), PATIENCE).expect("prepares");
    let engine = session.pid() as i32;
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine), nix::sys::signal::Signal::SIGKILL)
            .expect("the engine is ours");
    });
    let plan = BurstPlan { operations: 10_000_000, warmup: 0, batch: 1, limit_ns: 3_000_000_000, number: 0 };
    // Where the front process is only a go-between the work may end by itself: what counts is that nothing hangs or stays.
    if let Err(e) = session.burst(plan, Duration::from_secs(20)) {
        assert!(e.is_fatal(), "{e}");
    }
    killer.join().expect("kills");
    drop(session);
    drop(stage);
    scene.end(&[]);
}

/// What a harness that has ended said on stderr.
fn said(harness: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = harness.stderr.take() {
        stderr.read_to_string(&mut text).expect("text");
    }
    text
}

/// The harness itself is killed and can't clean up: `doctor --clean` does.
fn harness_killed(scene: Scene) {
    let runner = scene.runner.name();
    let mut suite = format!(
        "description = \"killed\"\nbaseline = \"bare\"\n[environments.bare]\n[workloads.\"disk/fsync\"]\n[environments.box]\nrunner = \"{runner}\"\n"
    );
    for (key, value) in &scene.around.settings {
        suite += &format!("{key} = '{value}'\n");
    }
    let suite = scene.dir.suite(&suite);
    let words = ["run", &suite, "--workload", "disk/fsync", "--blocks", "50"];
    let mut harness = scene.dir.start(&words);
    let ran = || scene.dir.run(&["list", "runs", "--json"]);
    // A box that doesn't start is waited for twice before the run goes on without it.
    eventually("two bursts are in the store", Duration::from_secs(270), || {
        let ended = harness.try_wait().expect("ours");
        assert!(ended.is_none(), "the run ended by itself: {ended:?}\n{}", said(&mut harness));
        let list: serde_json::Value = serde_json::from_str(&ran().stdout).unwrap_or_default();
        list[0]["bursts"].as_u64().is_some_and(|n| n >= 4)
    });
    harness.kill().expect("ours");
    harness.wait().expect("reaped");
    let list: serde_json::Value = serde_json::from_str(&ran().ends_with(0).stdout).expect("the store opens and lists");
    assert_eq!(list[0]["ending"], "unfinished");
    let id = list[0]["id"].as_str().expect("an id").to_string();
    scene.dir.run(&["doctor", "--clean"]).ends_with(0);
    eventually("no trace is left", Duration::from_secs(5), || traces(&id).is_empty());
    scene.dir.run(&["report", &id]).ends_with(0);
    scene.end(&["tarebench.db", &suite]);
}
