//! Equal resources, for real: in every kind of box that works here the limits are read back from inside, and felt by the work.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Dir, must_run, shared};
use nix::unistd::geteuid;
use runners::Runner;
use runners::host::{IoLimits, Resources};
use runners::probe;
use runners::registry::RUNNERS;
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::shared::Shared;
use workloads::protocol::{BurstPlan, Sample, Task};
use workloads::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 256 << 20;
/// Writes that a box may make in a second.
const WRITES: u64 = 50;
/// Durable ones that are made: each is at least one write of the disk.
const APPENDS: u64 = 20;

/// Two jobs on a single CPU do less than this many times the work of one; on two CPUs they do twice.
const MOST: f64 = 1.5;

/// They need a runtime, a daemon or a box that the test of their conformance makes.
const NOT_ALONE: &[&str] = &["oci", "docker", "exec", "ssh"];

/// One limit of each kind, far below what any machine has.
fn resources() -> Resources {
    Resources { io: IoLimits { wiops: Some(WRITES), ..IoLimits::default() }, ..Resources::new(1, MEMORY) }
}

/// A workload with these settings, told that there is memory in plenty.
fn task(workload: &str, given: &[(&str, &str)]) -> Task {
    let known = workloads::registry::find(workload).expect("registered");
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let settings = known.resolve(&given).expect("valid");
    Task { settings, memory: 64 << 30, ..Task::of(workload) }
}

fn work(session: &mut Session, task: Task, operations: u64) -> Sample {
    session.prepare(task, PATIENCE).expect("prepares");
    let plan = BurstPlan { operations, warmup: 0, batch: 1, limit_ns: 20_000_000_000, number: 0 };
    let sample = session.burst(plan, PATIENCE).expect("bursts");
    session.release(PATIENCE).expect("releases");
    sample
}

/// Operations a second.
fn rate(session: &mut Session, jobs: &str) -> f64 {
    let sample = work(session, task("control/cpu", &[("jobs", jobs)]), 5_000);
    sample.operations as f64 / sample.elapsed_ns as f64
}

/// What one job does and what two do, the best of at least three: what else runs here can only take away, so a pair of figures
/// that makes no sense on a single CPU is taken again.
fn one_and_two(session: &mut Session) -> (f64, f64) {
    let (mut one, mut two) = (0.0_f64, 0.0_f64);
    for round in 0..12 {
        one = one.max(rate(session, "1"));
        two = two.max(rate(session, "2"));
        if round >= 2 && two < MOST * one {
            break;
        }
    }
    (one, two)
}

/// The defaults, but for a disk whose flushes do nothing: it is not held back where it doesn't write.
fn settings(runner: &dyn Runner) -> Settings {
    let given: &[_] = if runner.name() == "uml" { &[("data", "ubd-sync")] } else { &[] };
    Settings::of(runner.settings(), given)
}

fn holds(runner: &'static dyn Runner, shared: &Arc<Shared>, dir: &Dir) {
    let settings = settings(runner);
    let mut stage = Stage::new(Arc::clone(shared), runner.name(), dir.root()).expect("a stage");
    let name = runner.name();
    let launch = stage.launch(runner, &settings).expect("launches");
    let mut session = Session::start(launch, PATIENCE).unwrap_or_else(|e| panic!("{name}: {e}"));

    assert_eq!(session.hello.cpus, 1, "{name}: CPUs as seen from inside");
    let (one, two) = one_and_two(&mut session);
    assert!(two < MOST * one, "{name}: two jobs do {:.2} times the work of one, on a single CPU", two / one);

    let sample = work(&mut session, task("disk/fsync", &[]), APPENDS);
    let seconds = sample.elapsed_ns as f64 / 1e9;
    // The kernel lets a tenth of a second's writes go ahead.
    let least = APPENDS as f64 / WRITES as f64 - 0.2;
    assert!(seconds > least, "{name}: {APPENDS} durable writes took {seconds:.3} s at {WRITES} a second");

    // Either it is refused with the numbers, where the memory inside is the box's own, or the kernel ends the box.
    let error = session.prepare(task("control/memory", &[("size", "1GiB")]), PATIENCE).expect_err("too large");
    eprintln!("{name}: two jobs {:.2}x one; {APPENDS} writes {seconds:.2} s; 1 GiB of 256 MiB: {error}", two / one);
}

#[test]
fn every_box_sees_and_feels_its_limits() {
    let dir = Dir::new();
    let id = format!("lim{:x}", std::process::id() % 0xf_ffff);
    let shared = shared(&id, resources());
    if !geteuid().is_root() || shared.host.pinning.work == shared.host.pinning.harness {
        eprintln!("SKIPPED: limits need root, and two CPUs to tell one from");
        return;
    }
    let mut held = Vec::new();
    for runner in RUNNERS {
        let probe = probe::probe_cached(*runner, &settings(*runner), &shared, dir.root());
        if probe.usable() {
            holds(*runner, &shared, &dir);
            held.push(runner.name());
        } else {
            eprintln!("SKIPPED: {}: {:?}", runner.name(), probe.because);
            let alone = !NOT_ALONE.contains(&runner.name());
            assert!(!must_run(runner.name()) || !alone, "{} must run here", runner.name());
        }
    }
    assert!(held.contains(&"bare") && held.contains(&"namespaces"), "{held:?}");
    drop(shared);
    dir.holds_only(&[]);
}
