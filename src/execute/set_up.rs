//! The ground of a run: the host is looked at, the environments are probed, and each that works here gets its stage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use reports::record::{EnvironmentPlan, Neighbour, OTHER_RUN, Run, TUNED, UNSEEN_RUN, WorkloadPlan};
use runners::fingerprint;
use runners::host::turn::{NoTurn, Turn};
use runners::host::{Host, Pinned, Resources, allowed_cpus};
use runners::machine::Machine;
use runners::machine::tune::{Knobs, Tuned};
use runners::probe::{self, Probe};
use runners::programs::Programs;
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::disk::{check_data_dir, room_for_neighbours};
use runners::stage::evidence::{self, Witness};
use runners::stage::network::OwnLink;
use runners::stage::peer::PeerProcess;
use runners::stage::shared::Shared;
use workloads::Resource;
use workloads::canary::Canaries;
use workloads::evidence::{Evidence, Idle};
use workloads::facts::{DataFacts, Keeper, Network};
use workloads::protocol::Identity;
use workloads::settings::Settings;

use super::seat::{Site, Started};
use crate::exit::{Coded, Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::{Environment, Plan, PlannedWorkload, Tenant};
use crate::run_id::{new_id, now};

/// How long the peer may take to say its address.
const PEER: Duration = Duration::from_secs(10);

/// How often it is looked whether another run is over.
const WAIT: Duration = Duration::from_millis(100);

/// From launch to the agent's first frame: a guest under emulation on a busy machine stays far below.
const START: Duration = Duration::from_secs(30);

/// How long nothing of ours runs before a round of durable writes, to see how often others flush the disk.
const IDLE: Duration = Duration::from_millis(2);

/// The part of a measurement that its plan leaves open.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where all environments keep their data.
    pub data_dir: &'a Path,
    /// Accept a data directory in memory.
    pub allow_memory: bool,
    /// Don't wait for another run that measures here.
    pub beside: bool,
    /// Settings of the kernel that are changed for the time of the run.
    pub tune: Option<Knobs>,
    /// The command that measures the same again.
    pub command: String,
    /// Names of the run.
    pub labels: BTreeMap<String, String>,
}

/// This host, made ready for a plan; everything is released when it is dropped.
#[derive(Debug)]
pub struct HostSite {
    /// The host's own small operations; their file lies in the first stage, so they go before it.
    canaries: Canaries,
    /// What they ping over.
    _link: Option<OwnLink>,
    /// The far end, where a workload has one.
    peer: Option<PeerProcess>,
    /// Of the plan's environments, in their order, and then of their neighbours; `None` for those that aren't available.
    grounds: Vec<Option<Ground>>,
    programs: Programs,
    /// Put back when nothing is measured any more, and as long as the journal says how.
    _tuned: Option<Tuned>,
    shared: Arc<Shared>,
    /// Until everything of the run is gone: the next one of this process must see all CPUs.
    _pinned: Pinned,
    /// Given back when everything else is gone.
    _turn: Option<Turn>,
    began: Instant,
}

/// An environment that works here, with what its sessions stand on.
#[derive(Debug)]
struct Ground {
    environment: Environment,
    /// It looks into the stage's network namespace, so it goes first.
    witness: Witness,
    stage: Stage,
}

impl Site for HostSite {
    type Seat = Session;

    fn available(&self, environment: usize) -> bool {
        self.grounds[environment].is_some()
    }

    fn start(&mut self, environment: usize) -> anyhow::Result<Started<Session>> {
        let ground = self.grounds[environment].as_mut().expect("only available environments are started");
        let Environment { runner, settings, .. } = &ground.environment;
        // What an engine wants made beforehand, be it a bundle, a disk image or a container, is part of the start.
        let began = Instant::now();
        let launch = ground.stage.launch(*runner, settings)?;
        let made = began.elapsed();
        self.programs.unchanged(&launch.programs)?;
        let peer = launch.path.peer_address(self.peer.as_ref().map(|process| process.port));
        // What a probe has accepted must not be refused here.
        let session = Session::start(launch, START.max(runner.start_deadline()))?;
        let (took, hello, memory_bytes) = (made + session.start, session.hello.clone(), session.memory());
        Ok(Started { seat: session, peer, took, hello, memory_bytes })
    }

    fn recognise(&mut self, environment: usize, identity: &Identity) {
        let ground = self.grounds[environment].as_mut().expect("only available environments are started");
        ground.witness.recognise(identity);
    }

    fn canary(&mut self, resource: Resource) -> anyhow::Result<u64> {
        let canaries = &mut self.canaries;
        self.shared.host.on_cpus_of_work(|| canaries.measure(resource))?
    }

    fn idle_flushes(&self) -> Vec<Option<Idle>> {
        let witnesses: Vec<_> = self.grounds.iter().map(|g| g.as_ref().map(|ground| &ground.witness)).collect();
        evidence::idle_flushes(&witnesses, IDLE)
    }

    fn watch<T>(&self, environment: usize, burst: impl FnOnce() -> T) -> (T, Evidence) {
        let witness = &self.grounds[environment].as_ref().expect("only available environments work").witness;
        let began = Instant::now();
        let before = witness.snapshot();
        let first = began.elapsed();
        let done = burst();
        let ended = Instant::now();
        let evidence = witness.since(&before);
        let looks_ns = Some((first + ended.elapsed()).as_nanos() as u64);
        (done, Evidence { looks_ns, ..evidence })
    }

    fn interrupted(&self) -> bool {
        self.shared.host.interrupt.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Makes this host ready for a plan, and says in the run's own row what it is and what each environment stands on.
///
/// # Errors
/// When the host does not allow it, or the baseline can't run; with the exit code.
pub fn set_up(plan: &Plan, options: Options, interrupt: &Interrupt) -> anyhow::Result<(Run, HostSite)> {
    let disk = check_data_dir(options.data_dir, options.allow_memory).or_exit(Exit::Host)?;
    if let Some(why) = disk.forgets() {
        tell!("warning: nothing in the data directory is durable: {why}");
    }
    let data = options.data_dir.canonicalize().context("can't find the data directory").or_exit(Exit::Host)?;
    let (turn, doubt) = take_turn(options.beside, interrupt)?;
    clean_leftovers(&data);
    let shared = open_host(plan.suite.resources, interrupt)?;
    shared.check_link_limits().or_exit(Exit::Host)?;
    let tuned = options.tune.as_ref().map(|knobs| tune(knobs, &shared.host, turn.is_some())).transpose()?;
    let mut asking = Asking { shared: &shared, data: &data, known: Vec::new() };
    for (environment, what) in needed(plan) {
        let probe = asking.of(environment);
        ended(interrupt)?;
        if !probe.usable() {
            let because = format!("{what} can't run here: {}", why_not(&probe));
            return Err(Coded { exit: Exit::NothingMeasured, error: anyhow::anyhow!(because) }.into());
        }
    }
    let probes: Vec<Probe> = plan.environments.iter().map(|e| asking.of(e)).collect();
    ended(interrupt)?;
    let peer = start_peer(plan, &shared)?;
    let mut run = describe(options, plan, &shared.host, &data);
    run.host.extend(tuned.as_ref().map(|tuned| (TUNED.to_string(), tuned.words())));
    run.host.extend(doubt);
    let pinned = shared.host.pin_harness().or_exit(Exit::Host)?;
    let mut programs = Programs::default();
    let grounds = grounds(plan, &shared, &data, &probes, &mut programs, &mut run)?;
    // In the baseline's directory, which is removed with everything else of the run, even after a kill.
    let baseline = grounds[0].as_ref().context("the baseline could not be set up").or_exit(Exit::NothingMeasured)?;
    let mut canaries = Canaries::new(baseline.stage.data()).or_exit(Exit::Host)?;
    // Over loopback nothing is seen of what a link goes through.
    let mut link = if peer.is_some() { shared.own_link().or_exit(Exit::Host)? } else { None };
    if let Some(sockets) = link.as_mut().and_then(|link| link.sockets.take()) {
        canaries.ping_over(sockets).or_exit(Exit::Host)?;
    }
    let began = Instant::now();
    Ok((
        run,
        HostSite {
            canaries,
            _link: link,
            peer,
            grounds,
            programs,
            _tuned: tuned,
            shared,
            _pinned: pinned,
            _turn: turn,
            began,
        },
    ))
}

/// A fact of the host: its name and its words.
type Fact = (String, String);

/// Waits until no other run measures on this host, and says so; with `beside` it goes on, and a fact of the host says beside
/// whom. So it does where nobody can say whether there is one.
///
/// # Errors
/// When the user ends the wait, with the exit code.
pub fn take_turn(beside: bool, interrupt: &Interrupt) -> anyhow::Result<(Option<Turn>, Option<Fact>)> {
    let mut said = None;
    loop {
        let other = match Turn::take() {
            Ok(turn) => return Ok((Some(turn), None)),
            Err(NoTurn::Unseen(because)) => {
                let words = format!("whether another run is measuring on this host can't be seen: {because}");
                tell!("warning: {words}");
                return Ok((None, Some((UNSEEN_RUN.to_string(), words))));
            }
            Err(NoTurn::Taken(other)) => other,
        };
        if beside {
            let words = format!("{other} was measuring on this host when this one began");
            return Ok((None, Some((OTHER_RUN.to_string(), words))));
        }
        if said != Some(other) {
            tell!(
                "{other} is measuring on this host; waiting until it ends (--beside doesn't wait, and flags the run)"
            );
            said = Some(other);
        }
        if let Some(exit) = interrupt.exit() {
            return Err(Coded { exit, error: anyhow::anyhow!("ended while it waited for {other}") }.into());
        }
        std::thread::sleep(WAIT);
    }
}

/// Tunes the machine for the time of a run, and says so.
///
/// # Errors
/// Where another run may be measuring, which would be tuned with it, and where nothing can be tuned; with the exit code.
fn tune(knobs: &Knobs, host: &Host, alone: bool) -> anyhow::Result<Tuned> {
    let other = || {
        anyhow::anyhow!(
            "another run may be measuring on this host, and --tune would change the machine under it: wait for it, or go without --tune"
        )
    };
    alone.then_some(()).ok_or_else(other).or_exit(Exit::Host)?;
    let tuned = Tuned::begin(Machine::here(), &host.journal, knobs).or_exit(Exit::Host)?;
    tell!("tuned until the end of the run: {}", tuned.words());
    Ok(tuned)
}

/// The host under a new id, held to the resources, that a signal interrupts; with what its stages will share.
///
/// # Errors
/// When our own binary can't be found or the host can't be used, with the exit code.
pub fn open_host(resources: Resources, interrupt: &Interrupt) -> anyhow::Result<Arc<Shared>> {
    let binary = std::env::current_exe().context("can't find our own binary").or_exit(Exit::Host)?;
    let there = allowed_cpus().context("can't see which CPUs we may use").or_exit(Exit::Host)?.len();
    enough_cpus(resources.cpus, there).or_exit(Exit::Usage)?;
    let mut host = Host::new(&new_id(), &binary, resources).or_exit(Exit::Host)?;
    host.interrupt = Arc::clone(&interrupt.flag);
    interrupt.will_leave(&host.id);
    Ok(Shared::new(Arc::new(host)))
}

/// Refuses more CPUs than there are: a guest would get them all the same, and no other environment.
fn enough_cpus(wanted: u32, there: usize) -> anyhow::Result<()> {
    let may = if there == 1 { "there is 1 that".to_string() } else { format!("there are {there} that") };
    anyhow::ensure!(
        wanted as usize <= there,
        "the suite asks for {wanted} CPUs, and {may} we may use: set resources = {{ cpus = {there}, .. }} or fewer"
    );
    Ok(())
}

/// Removes the leftovers of killed runs before anything is measured.
pub fn clean_leftovers(data: &Path) {
    let left = runners::leftovers::find(data);
    for leftover in &left {
        tell!("removing what a killed run left behind: {leftover}");
    }
    if let Err(e) = runners::leftovers::clean(&left) {
        tell!("warning: {e:#}");
    }
}

/// The probes of environments: the first of a kind asks, the others share its answer.
struct Asking<'a> {
    shared: &'a Arc<Shared>,
    data: &'a Path,
    known: Vec<(String, Probe)>,
}

impl Asking<'_> {
    fn of(&mut self, environment: &Environment) -> Probe {
        let Environment { name, runner, settings, .. } = environment;
        let key = format!("{} {settings}", runner.name());
        if let Some((_, probe)) = self.known.iter().find(|(k, _)| *k == key) {
            return probe.clone();
        }
        tell!("looking whether {name} works here");
        let probe = probe::probe_cached(*runner, settings, self.shared, self.data);
        self.known.push((key, probe.clone()));
        probe
    }
}

/// Those without which nothing can be told, each with a word for it. They are asked first: nobody waits for a dozen others to hear no.
fn needed(plan: &Plan) -> Vec<(&Environment, String)> {
    let find = |name: &str| plan.environments.iter().find(|e| e.name == name);
    let baseline = find(&plan.suite.baseline).map(|e| (e, format!("the baseline {}", e.name)));
    let last = plan.suite.explains.as_ref().and_then(|explains| find(explains.rungs.last()?));
    baseline.into_iter().chain(last.map(|e| (e, format!("{}, which is to be explained,", e.name)))).collect()
}

/// An error where the user has ended it: a probe that was cut short says nothing.
fn ended(interrupt: &Interrupt) -> anyhow::Result<()> {
    match interrupt.exit() {
        Some(exit) => Err(Coded { exit, error: anyhow::anyhow!("ended before anything was measured") }.into()),
        None => Ok(()),
    }
}

fn start_peer(plan: &Plan, shared: &Arc<Shared>) -> anyhow::Result<Option<PeerProcess>> {
    let tenants = plan.environments.iter().filter_map(|e| Some(&e.neighbour.as_ref()?.workload));
    if plan.workloads.iter().chain(tenants).all(|w| w.workload.peer().is_none()) {
        return Ok(None);
    }
    PeerProcess::start(shared, PEER)
        .context("can't start the far end of the network workloads")
        .or_exit(Exit::Host)
        .map(Some)
}

/// In the engine's own words, and how to change it.
pub fn why_not(probe: &Probe) -> String {
    let because = probe.because.as_deref().unwrap_or("no agent answered");
    probe.fix.as_deref().map_or_else(|| because.to_string(), |fix| format!("{because}; to change that: {fix}"))
}

/// A stage for every environment that can run; what the others lack goes into the run.
fn grounds(
    plan: &Plan,
    shared: &Arc<Shared>,
    data: &Path,
    probes: &[Probe],
    programs: &mut Programs,
    run: &mut Run,
) -> anyhow::Result<Vec<Option<Ground>>> {
    let mut grounds = Vec::new();
    for ((environment, probe), row) in plan.environments.iter().zip(probes).zip(&mut run.environments) {
        row.version = probe.version.clone();
        if !probe.usable() {
            row.skipped = Some(why_not(probe));
            tell!("skipping {}: {}", environment.name, row.skipped.as_deref().unwrap_or_default());
            grounds.push(None);
            continue;
        }
        let mut stage = Stage::new(Arc::clone(shared), &environment.name, data).or_exit(Exit::Host)?;
        // One launch that is not started tells what the environment will stand on, before anything is measured.
        let launched = stage.launch(environment.runner, &environment.settings);
        match launched.and_then(|launch| Ok((programs.look_at(&launch.programs)?, launch))) {
            Ok((found, launch)) => {
                row.programs = found;
                row.network = launch.path.network;
                row.emulated = launch.emulated.clone();
                row.sandbox = launch.sandbox.clone();
                row.data = launch.data.facts.clone();
                row.data_path = launch.data.words.clone();
                row.unequal = launch.unequal.clone().or_else(|| stage.cgroup().unequal().map(str::to_string));
                row.quota = launch.quota.clone();
                let witness = stage.witness(&row.data);
                grounds.push(Some(Ground { environment: environment.clone(), stage, witness }));
            }
            Err(e) => {
                row.skipped = Some(format!("{e:#}"));
                tell!("skipping {}: {e:#}", environment.name);
                grounds.push(None);
            }
        }
    }
    // What the environments' own work writes at most has to fit beside their neighbours.
    let written = plan.workloads.iter().fold(0_u64, |sum, workload| sum.saturating_add(workload.data));
    let on_disk = grounds
        .iter()
        .zip(&run.environments)
        .filter(|(ground, row)| ground.is_some() && row.data.keeper == Keeper::Disk);
    let mut held = written.saturating_mul(on_disk.count() as u64);
    for (at, environment) in plan.environments.iter().enumerate() {
        let tenant = environment.neighbour.as_ref().filter(|_| grounds[at].is_some());
        let like =
            |name: &str| plan.environments.iter().position(|e| e.name == name).filter(|at| grounds[*at].is_some());
        let ground = match tenant.map(|tenant| {
            like(&tenant.like).with_context(|| format!("{} was skipped", tenant.like))?;
            of_tenant(tenant, shared, data, programs, &mut held)
        }) {
            None => None,
            Some(Ok(ground)) => Some(ground),
            Some(Err(e)) => {
                let why = format!("its neighbour can't work here: {e:#}");
                tell!("skipping {}: {why}", environment.name);
                run.environments[at].skipped = Some(why);
                grounds[at] = None;
                None
            }
        };
        grounds.push(ground);
    }
    Ok(grounds)
}

/// What a neighbour's box stands on. That it works here at all the probe of the environment that it is like has said, or its first
/// start will.
fn of_tenant(
    tenant: &Tenant,
    shared: &Arc<Shared>,
    data: &Path,
    programs: &mut Programs,
    held: &mut u64,
) -> anyhow::Result<Ground> {
    let environment = &tenant.environment;
    let mut stage = Stage::new(Arc::clone(shared), &environment.name, data)?;
    let launch = stage.launch(environment.runner, &environment.settings)?;
    if launch.data.facts.keeper == Keeper::Disk {
        let all = held.saturating_add(tenant.workload.data);
        room_for_neighbours(data, all)?;
        *held = all;
    }
    programs.look_at(&launch.programs)?;
    let witness = stage.witness(&launch.data.facts);
    Ok(Ground { environment: environment.clone(), stage, witness })
}

fn pairs(settings: &Settings) -> BTreeMap<String, String> {
    settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn describe(options: Options, plan: &Plan, host: &Host, data: &Path) -> Run {
    Run {
        id: host.id.clone(),
        started: now(),
        suite: plan.suite.name.clone(),
        suite_toml: plan.suite.to_toml(),
        seed: plan.seed,
        blocks: plan.suite.blocks,
        rounds: plan.suite.rounds,
        baseline: plan.suite.baseline.clone(),
        command: options.command,
        binary_sha256: host.binary_sha256.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        labels: options.labels,
        host: fingerprint::facts(data),
        nested: fingerprint::nested(),
        workloads: plan.workloads.iter().map(describe_workload).collect(),
        environments: plan.environments.iter().map(describe_environment).collect(),
        pinning: host.pinning.to_string(),
    }
}

/// A workload of the plan, as its row has it.
pub fn describe_workload(w: &PlannedWorkload) -> WorkloadPlan {
    WorkloadPlan {
        name: w.name.clone(),
        kind: w.workload.name().into(),
        about: w.workload.about().into(),
        settings: pairs(&w.settings),
        resource: w.workload.resource(),
        durable: w.workload.durable(&w.settings),
        direct: w.workload.direct(&w.settings),
        streams: w.workload.streams(),
        paced: w.workload.paced(),
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
        sandbox: Default::default(),
        unequal: None,
        quota: None,
        data_path: String::new(),
        programs: Vec::new(),
        neighbour: environment.neighbour.as_ref().map(|tenant| Neighbour {
            like: tenant.like.clone(),
            workload: tenant.workload.name.clone(),
            settings: pairs(&tenant.workload.settings),
            without: tenant.without.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    #[test]
    fn what_a_run_can_not_do_without_is_asked_first() {
        let text = "baseline = \"bare\"\n[environments.bare]\n[environments.namespaces]\n[environments.runc]\n[workloads.\"control/syscall\"]\n";
        let names = |more: &str| {
            let suite = Suite::parse("mine", &format!("{text}{more}")).expect("reads");
            let plan = Plan::of(suite, 1).expect("resolves");
            needed(&plan).into_iter().map(|(e, _)| e.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["bare"]);
        assert_eq!(names("[explains]\nrungs = [\"bare\", \"namespaces\", \"runc\"]\n"), ["bare", "runc"]);
    }

    #[test]
    fn more_cpus_than_there_are_are_refused_with_their_number() {
        enough_cpus(2, 2).expect("as many as there are");
        let words = enough_cpus(99, 2).expect_err("refused").to_string();
        assert!(words.contains("99 CPUs") && words.contains("there are 2") && words.contains("cpus = 2"), "{words}");
        assert!(enough_cpus(2, 1).expect_err("refused").to_string().contains("there is 1 that"));
    }
}
