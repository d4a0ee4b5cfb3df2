//! From a plan to rows in a store: the host is looked at, stages are made, the lab runs, everything is released.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use reports::record::{Ending, EnvironmentPlan, Run, Stored, WorkloadPlan};
use reports::store::Store;
use runners::disk::check_data_dir;
use runners::fingerprint;
use runners::host::Host;
use runners::peer::PeerProcess;
use runners::probe::{self, Probe};
use runners::stage::Stage;
use workloads::canary::Canaries;
use workloads::facts::{DataFacts, Network};
use workloads::settings::Settings;

use crate::execute::{Bench, Lab};
use crate::exit::{Coded, Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::{Environment, Plan};

/// How long the peer may take to say its address.
const PEER: Duration = Duration::from_secs(10);

/// What a measurement is told beside its plan.
#[derive(Debug)]
pub struct Order<'a> {
    /// Where all environments keep their data.
    pub data_dir: &'a Path,
    /// Accept a data directory in memory.
    pub allow_memory: bool,
    /// The command that measures the same again.
    pub command: String,
    /// Names of the run.
    pub labels: BTreeMap<String, String>,
}

/// Measures, and gives back the rows as they stand in the store. After an interruption they are what was finished.
///
/// # Errors
/// When the host does not allow it, the baseline can't run, or the store can't be written; with the exit code.
pub fn measure(plan: &Plan, order: Order, store: &Store, interrupt: &Interrupt) -> anyhow::Result<Stored> {
    let began = Instant::now();
    check_data_dir(order.data_dir, order.allow_memory).or_exit(Exit::Host)?;
    let data = order.data_dir.canonicalize().context("can't find the data directory").or_exit(Exit::Host)?;
    clean_leftovers();
    let host = open_host(plan, interrupt)?;
    let probes = probes(plan, &host, &data);
    if let Some(exit) = interrupt.exit() {
        return Err(Coded { exit, error: anyhow::anyhow!("ended before anything was measured") }.into());
    }
    if !probes[0].usable() {
        let because = format!("the baseline {} can't run here: {}", plan.suite.baseline, why_not(&probes[0]));
        return Err(Coded { exit: Exit::NothingMeasured, error: anyhow::anyhow!(because) }.into());
    }
    let peer = start_peer(plan, &host)?;
    let mut run = describe(order, plan, &host, &data);
    host.pin_harness().or_exit(Exit::Host)?;
    let stages = stages(plan, &host, &data, &probes, &mut run)?;
    // In the baseline's directory, which is removed with everything else of the run, even after a kill.
    let own = stages[0].as_ref().context("the baseline could not be set up").or_exit(Exit::NothingMeasured)?.data();
    let canaries = Canaries::new(own).or_exit(Exit::Host)?;
    store.begin(&run).or_exit(Exit::Store)?;
    let bench = Bench { host, stages, peer, canaries };
    let ending = Lab::new(plan, &run.id, store, bench).run();
    // Even after an error the rows that exist are a run: say how it ended, then report the error.
    let ended = store.finish(&run.id, *ending.as_ref().unwrap_or(&Ending::Interrupted), began.elapsed().as_secs_f64());
    ending?;
    ended.or_exit(Exit::Store)?;
    store.load(&run.id).or_exit(Exit::Store)
}

/// A new id: seconds since 1970 and the process id in base 36, so that ids sort by time until 2038 and are easy to type.
pub fn new_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{}{}", base36(seconds, 6), base36(u64::from(std::process::id()), 2))
}

fn base36(mut number: u64, digits: usize) -> String {
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    String::from_utf8(text).expect("digits are ASCII")
}

fn open_host(plan: &Plan, interrupt: &Interrupt) -> anyhow::Result<Arc<Host>> {
    let binary = std::env::current_exe().context("can't find our own binary").or_exit(Exit::Host)?;
    let mut host = Host::new(&new_id(), &binary, plan.suite.resources).or_exit(Exit::Host)?;
    host.interrupt = Arc::clone(&interrupt.flag);
    Ok(Arc::new(host))
}

/// What killed runs left behind is removed before anything is measured.
fn clean_leftovers() {
    let left = runners::leftovers::find();
    for leftover in &left {
        eprintln!("removing what a killed run left behind: {leftover}");
    }
    if let Err(e) = runners::leftovers::clean(&left) {
        eprintln!("warning: {e:#}");
    }
}

/// The probe of each environment of the plan: the first of a kind asks, the others share its answer.
fn probes(plan: &Plan, host: &Arc<Host>, data: &Path) -> Vec<Probe> {
    let mut known: Vec<(String, Probe)> = Vec::new();
    plan.environments
        .iter()
        .map(|e| {
            let key = format!("{} {}", e.runner.name(), e.settings);
            if let Some((_, probe)) = known.iter().find(|(k, _)| *k == key) {
                return probe.clone();
            }
            eprintln!("looking whether {} works here", e.name);
            let probe = probe::probe_cached(e.runner, &e.settings, host, data);
            known.push((key, probe.clone()));
            probe
        })
        .collect()
}

fn start_peer(plan: &Plan, host: &Arc<Host>) -> anyhow::Result<Option<PeerProcess>> {
    if plan.works.iter().all(|w| w.workload.peer().is_none()) {
        return Ok(None);
    }
    PeerProcess::start(host, PEER)
        .context("can't start the far end of the network workloads")
        .or_exit(Exit::Host)
        .map(Some)
}

/// In the engine's own words, and how to change it.
fn why_not(probe: &Probe) -> String {
    let because = probe.because.as_deref().unwrap_or("no agent answered");
    probe.fix.as_deref().map_or_else(|| because.to_string(), |fix| format!("{because}; to change that: {fix}"))
}

/// A stage for every environment that can run; what the others lack goes into the run.
fn stages(
    plan: &Plan,
    host: &Arc<Host>,
    data: &Path,
    probes: &[Probe],
    run: &mut Run,
) -> anyhow::Result<Vec<Option<Stage>>> {
    let mut stages = Vec::new();
    for ((environment, probe), row) in plan.environments.iter().zip(probes).zip(&mut run.environments) {
        row.version = probe.version.clone();
        if !probe.usable() {
            row.skipped = Some(why_not(probe));
            eprintln!("skipping {}: {}", environment.name, row.skipped.as_deref().unwrap_or_default());
            stages.push(None);
            continue;
        }
        let mut stage = Stage::new(Arc::clone(host), &environment.name, data).or_exit(Exit::Host)?;
        // One launch that is not started tells what the environment will stand on, before anything is measured.
        match stage.launch(environment.runner, &environment.settings) {
            Ok(launch) => {
                row.network = launch.network;
                row.emulated = launch.emulated.clone();
                row.data_path = launch.data_path.clone();
                row.unequal = launch.unequal.clone().or_else(|| stage.cgroup().unequal().map(str::to_string));
                stages.push(Some(stage));
            }
            Err(e) => {
                row.skipped = Some(format!("{e:#}"));
                eprintln!("skipping {}: {e:#}", environment.name);
                stages.push(None);
            }
        }
    }
    Ok(stages)
}

fn pairs(settings: &Settings) -> BTreeMap<String, String> {
    settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn describe(order: Order, plan: &Plan, host: &Host, data: &Path) -> Run {
    Run {
        id: host.id.clone(),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        suite: plan.suite.name.clone(),
        suite_toml: plan.suite.to_toml(),
        seed: plan.seed,
        blocks: plan.suite.blocks,
        rounds: plan.suite.rounds,
        baseline: plan.suite.baseline.clone(),
        command: order.command,
        binary_sha256: host.binary_sha256.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        labels: order.labels,
        host: fingerprint::facts(data),
        nested: fingerprint::nested(),
        workloads: plan
            .works
            .iter()
            .map(|w| WorkloadPlan {
                name: w.name.clone(),
                kind: w.workload.name().into(),
                about: w.workload.about().into(),
                settings: pairs(&w.settings),
                resource: w.workload.resource(),
                durable: w.workload.durable(&w.settings),
                direct: w.workload.direct(&w.settings),
                streams: w.workload.streams(),
            })
            .collect(),
        environments: plan.environments.iter().map(describe_environment).collect(),
        pinning: host.pinning.to_string(),
    }
}

fn describe_environment(environment: &Environment) -> EnvironmentPlan {
    EnvironmentPlan {
        name: environment.name.clone(),
        runner: environment.runner.name().into(),
        settings: pairs(&environment.settings),
        version: None,
        skipped: None,
        network: Network::None,
        data: DataFacts::default(),
        emulated: None,
        unequal: None,
        data_path: String::new(),
    }
}
