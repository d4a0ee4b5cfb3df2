//! From what was typed to what will happen: every name looked up, every setting checked, nothing touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use runners::Runner;
use workloads::Workload;
use workloads::load::{Common, Load};
use workloads::parcel::{Brought, Parcel};
use workloads::settings::{Kind, Setting, Settings, did_you_mean};

use crate::cli::Selection;
use crate::suite::{Entry, LONGEST_NAME, Suite, Typed, fitted};
use reports::record::CONTROL;

/// An environment that will run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name in reports.
    pub name: String,
    /// The way it is isolated.
    pub runner: &'static dyn Runner,
    /// Complete and checked.
    pub settings: Settings,
    /// Who works beside it while it is measured.
    pub neighbour: Option<Box<Tenant>>,
}

/// A neighbour that will work.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its box, by a name that no environment has.
    pub environment: Environment,
    /// The environment of the suite that its box is like.
    pub like: String,
    /// Its work.
    pub workload: PlannedWorkload,
    /// The environment that is the same without it.
    pub without: String,
}

/// A workload that will run.
#[derive(Debug, Clone)]
pub struct PlannedWorkload {
    /// Its name in reports.
    pub name: String,
    /// The work.
    pub workload: &'static dyn Workload,
    /// Complete and checked.
    pub settings: Settings,
    /// How long its bursts are: what it is set to, else what the suite says.
    pub length: Length,
    /// Bytes that it writes to the data directory at most, as far as it says.
    pub data: u64,
    /// How long an environment may take to make it ready or to check it.
    pub patience: Duration,
    /// Files of this host that every environment is sent, where it needs any.
    pub parcel: Option<Arc<Parcel>>,
    /// About how many operations all of it has, where it has an end.
    pub whole: Option<u64>,
}

/// How long the bursts of a workload are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// On the baseline.
    pub burst: Duration,
    /// A slower environment's ends after this.
    pub burst_max: Duration,
    /// A fixed number of operations, whatever time they take.
    pub operations: Option<u64>,
    /// Operations that arrive per second; `None` in closed loop.
    pub rate: Option<u64>,
}

/// Everything that will be done, resolved and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The suite after everything on the command line was applied.
    pub suite: Suite,
    /// The baseline first, its control second, then the others.
    pub environments: Vec<Environment>,
    /// In order.
    pub workloads: Vec<PlannedWorkload>,
    /// Of all order and all content.
    pub seed: u64,
}

impl Plan {
    /// The number under which a host knows the box of an environment's neighbour: behind those of all environments.
    pub fn tenant(&self, environment: usize) -> usize {
        self.environments.len() + environment
    }

    /// Resolves a selection.
    ///
    /// # Errors
    /// For every name or value that is not known, with the nearest that is.
    pub fn resolve(selection: &Selection) -> anyhow::Result<Self> {
        let mut suite = Suite::load(&selection.suite)?;
        if !selection.environments.is_empty() {
            let baseline = suite.environments.iter().find(|e| e.name == suite.baseline).cloned();
            let mut chosen: Vec<Entry> = baseline.into_iter().collect();
            for text in selection.environments.iter().filter(|text| *text != CONTROL) {
                let entry = choose(text, &suite.environments, &chosen, LONGEST_NAME)?;
                // Two that are called the same and aren't are told below.
                if !chosen.contains(&entry) {
                    chosen.push(entry);
                }
            }
            keeps_neighbours(&chosen, &suite.environments)?;
            suite.environments = chosen;
            suite.explains = None;
        }
        if !selection.scope.workloads.is_empty() {
            let mut chosen = Vec::new();
            for text in selection.scope.workloads.iter().flat_map(|text| named(text)) {
                chosen.push(choose(text, &suite.workloads, &chosen, usize::MAX)?);
            }
            suite.workloads = chosen;
        }
        if let Some(blocks) = selection.scope.blocks {
            suite.blocks = blocks;
        }
        let seed = selection.scope.seed.unwrap_or_else(fresh_seed);
        Self::of(suite, seed)
    }

    /// The plan of a suite as it stands.
    ///
    /// # Errors
    /// See [`Plan::resolve`].
    pub fn of(suite: Suite, seed: u64) -> anyhow::Result<Self> {
        if !suite.environments.iter().any(|e| e.name == suite.baseline) {
            bail!(
                "the baseline `{}` is not among the environments of {}; add [environments.{}]",
                suite.baseline,
                suite.name,
                suite.baseline
            );
        }
        if suite.workloads.is_empty() {
            bail!("the suite {} has no workloads; add a table such as [workloads.\"sqlite/commit\"]", suite.name);
        }
        let mut environments = Vec::new();
        for entry in &suite.environments {
            let environment = environment(entry)?;
            if environment.name == suite.baseline {
                environments.insert(0, Environment { name: CONTROL.into(), ..environment.clone() });
                environments.insert(0, environment);
            } else if environment.name == CONTROL {
                bail!("the name `{CONTROL}` is taken: it is the baseline a second time, and is added to every run");
            } else {
                environments.push(environment);
            }
        }
        all_differ(&environments)?;
        neighbours(&suite, &mut environments)?;
        if let Some(ladder) = &suite.explains {
            let mut names = ladder.rungs.iter().chain(&ladder.alternatives);
            if let Some(name) = names.find(|name| !environments.iter().any(|e| e.name == **name)) {
                bail!("[explains] of {} names `{name}`, which is none of its environments", suite.name);
            }
            if ladder.rungs.len() < 2 || ladder.rungs[0] != suite.baseline {
                bail!(
                    "the rungs in [explains] of {} must lead from the baseline `{}` to another",
                    suite.name,
                    suite.baseline
                );
            }
        }
        let workloads =
            suite.workloads.iter().map(|entry| workload(entry, &suite)).collect::<anyhow::Result<Vec<_>>>()?;
        for (i, workload) in workloads.iter().enumerate() {
            if workloads[..i].iter().any(|w| w.name == workload.name) {
                bail!("the workload `{}` is asked for twice", workload.name);
            }
        }
        Ok(Self { suite, environments, workloads, seed })
    }
}

/// Refuses a choice of the suite's environments without those that a neighbour needs: the one that it is like, and the one that is
/// the same without it.
fn keeps_neighbours(chosen: &[Entry], all: &[Entry]) -> anyhow::Result<()> {
    for entry in chosen {
        let Some(neighbour) = &entry.neighbour else { continue };
        let like = |e: &Entry| e.name == neighbour.environment;
        let without = |e: &Entry| e.neighbour.is_none() && e.kind() == entry.kind() && e.settings == entry.settings;
        let left_out = |needed: &dyn Fn(&Entry) -> bool| {
            all.iter().find(|e| needed(e)).filter(|_| !chosen.iter().any(needed)).map(|e| e.name.as_str())
        };
        let mut names: Vec<&str> = [left_out(&like), left_out(&without)].into_iter().flatten().collect();
        names.dedup();
        if !names.is_empty() {
            let add: Vec<String> = names.iter().map(|name| format!("--env {name}")).collect();
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let (names, add) = (names.join(" and "), add.join(" "));
            bail!("`{}` has a neighbour and needs {names}, which --env left out: add {add}", entry.name);
        }
    }
    Ok(())
}

/// Gives the environments that are to have one their neighbours.
fn neighbours(suite: &Suite, environments: &mut [Environment]) -> anyhow::Result<()> {
    let before = environments.to_vec();
    let has = |name: &str| suite.environments.iter().any(|e| e.name == name && e.neighbour.is_some());
    for entry in &suite.environments {
        let Some(neighbour) = &entry.neighbour else { continue };
        let name = &entry.name;
        if *name == suite.baseline {
            bail!("the baseline `{name}` can't have a neighbour: give it to another environment of the same runner");
        }
        let like = before.iter().find(|e| e.name == neighbour.environment && e.name != CONTROL).with_context(|| {
            let hint = did_you_mean(&neighbour.environment, suite.environments.iter().map(|e| e.name.as_str()));
            format!(
                "the neighbour of `{name}` is `{}`, which is none of the suite's environments; {hint}",
                neighbour.environment
            )
        })?;
        if has(&like.name) {
            bail!("the neighbour of `{name}` is `{}`, which has a neighbour itself: name one without", like.name);
        }
        let at = environments.iter().position(|e| e.name == *name).expect("every entry is an environment");
        let same = |e: &&Environment| {
            e.name != CONTROL
                && !has(&e.name)
                && e.runner.name() == before[at].runner.name()
                && e.settings == before[at].settings
        };
        let without = before.iter().find(same).with_context(|| {
            let runner = before[at].runner.name();
            format!("`{name}` has a neighbour, and no environment is the same without: add one of `{runner}` with the same settings")
        })?;
        check_work(name, &neighbour.settings)?;
        let work =
            Entry { name: neighbour.workload.clone(), of: None, settings: neighbour.settings.clone(), neighbour: None };
        let workload = workload(&work, suite).with_context(|| format!("the neighbour of `{name}`"))?;
        // No environment's name has a sign like this.
        let environment = Environment { name: format!("{name}+neighbour"), ..like.clone() };
        let tenant = Tenant { environment, like: like.name.clone(), workload, without: without.name.clone() };
        environments[at].neighbour = Some(Box::new(tenant));
    }
    Ok(())
}

/// Refuses what a neighbour's work can't have: it begins and ends with a burst, and arrivals are counted for all of it.
fn check_work(name: &str, settings: &BTreeMap<String, String>) -> anyhow::Result<()> {
    if let Some(key) = ["burst", "operations", "arrivals"].into_iter().find(|key| settings.contains_key(*key)) {
        bail!(
            "the neighbour of `{name}` can't have `{key}`: it works for as long as the burst beside it, and `rate` is spaced evenly; leave it out"
        );
    }
    if settings.contains_key("rate") && settings.get("jobs").is_some_and(|jobs| jobs != "1") {
        bail!("the neighbour of `{name}` has a `rate`, which one worker keeps: leave `jobs` or `rate` out");
    }
    Ok(())
}

/// What was typed: an entry of the suite by its name, else one of its own, told from those that were chosen `before`.
pub fn choose(text: &str, among: &[Entry], before: &[Entry], longest: usize) -> anyhow::Result<Entry> {
    let Typed { mut entry, derived } = Entry::parse(text)?;
    if entry.of.is_none()
        && let Some(of_suite) = among.iter().find(|e| e.name == entry.name)
    {
        return Ok(of_suite.clone());
    }
    if derived {
        let other = |e: &Entry| e.of != entry.of || e.settings != entry.settings;
        let name = fitted(&entry.name, longest, |name| before.iter().any(|e| e.name == name && other(e)));
        entry.name = name;
    }
    Ok(entry)
}

/// Several names in one word, as in `disk/fsync,net/rr`; behind a colon a comma parts settings.
fn named(text: &str) -> Vec<&str> {
    if text.contains(':') { vec![text] } else { text.split(',').collect() }
}

/// Refuses a name that two environments have.
pub fn all_differ(environments: &[Environment]) -> anyhow::Result<()> {
    let twice = environments.iter().enumerate().find(|(i, e)| environments[..*i].iter().any(|f| f.name == e.name));
    twice.map_or(Ok(()), |(_, e)| bail!("two environments are called `{}`; give one of them another name", e.name))
}

/// An environment with its runner looked up and its settings checked.
pub fn environment(entry: &Entry) -> anyhow::Result<Environment> {
    let runner = runners::registry::find(entry.kind()).with_context(|| {
        let hint = did_you_mean(entry.kind(), runners::registry::RUNNERS.iter().map(|r| r.name()));
        format!("there is no runner `{}` (environment `{}`); {hint}", entry.kind(), entry.name)
    })?;
    if entry.name.is_empty()
        || entry.name.len() > LONGEST_NAME
        || !entry.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    {
        bail!("`{}` can't name an environment: up to 40 letters, digits, `-` and `_`", entry.name);
    }
    let settings = runner
        .resolve(&entry.settings)
        .with_context(|| format!("environment `{}` (runner {})", entry.name, runner.name()))?;
    Ok(Environment { name: entry.name.clone(), runner, settings, neighbour: None })
}

fn workload(entry: &Entry, suite: &Suite) -> anyhow::Result<PlannedWorkload> {
    let workload = workloads::registry::find(entry.kind()).with_context(|| {
        let hint = did_you_mean(entry.kind(), workloads::registry::WORKLOADS.iter().map(|w| w.name()));
        format!("there is no workload `{}`; {hint}", entry.kind())
    })?;
    let settings = workload.resolve(&entry.settings).with_context(|| format!("workload `{}`", entry.name))?;
    let length = length(&settings, suite);
    let needs = workload.needs(&settings, suite.resources.memory_bytes);
    let data = needs.disk.saturating_mul(Load::read(&settings).jobs.into());
    let brought = workload.brings(&settings);
    let pack = || single_files(workload.settings(), &brought).and_then(|()| Parcel::pack(&brought).map(Arc::new));
    let parcel = (!brought.is_empty()).then(pack).transpose();
    let parcel = parcel.with_context(|| format!("workload `{}`", entry.name))?;
    let sent = parcel.as_ref().map_or(0, |parcel| parcel.size / SLOWEST_CHANNEL);
    let patience = PATIENCE + Duration::from_secs(data / SLOWEST + sent);
    let whole = workload.whole(&settings);
    Ok(PlannedWorkload { name: entry.name.clone(), workload, settings, length, data, patience, parcel, whole })
}

/// Refuses a folder where one file is asked for: in the boxes it would be another thing than the workload looks for.
fn single_files(known: &[Setting], brought: &[Brought]) -> anyhow::Result<()> {
    let single = |b: &&Brought| known.iter().any(|s| s.name == b.setting && s.kind == Kind::File);
    match brought.iter().filter(single).find(|b| b.path.is_dir()) {
        Some(Brought { setting, path, .. }) => {
            bail!("`{setting}` takes one file, and {} is a folder; give the full path of the file", path.display())
        }
        None => Ok(()),
    }
}

/// How long an environment may take for a step of a workload whose data is small.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second that preparing and verifying can be expected to get through anywhere: a guest under emulation.
const SLOWEST: u64 = 2 << 20;
/// Bytes a second that a channel can be expected to carry anywhere: a serial line of a guest under emulation.
const SLOWEST_CHANNEL: u64 = 128 << 10;

/// However many operations a workload is set to do, a burst of them ends after this.
const LONGEST: Duration = Duration::from_secs(120);

fn length(settings: &Settings, suite: &Suite) -> Length {
    let Common { load, length } = Common::read(settings);
    let positive = |number: u64| Some(number).filter(|n| *n > 0);
    let own = Some(length.burst).filter(|burst| !burst.is_zero());
    let burst = own.unwrap_or(suite.burst);
    let operations = positive(length.operations);
    // As many times the burst as in the suite. A number of operations of its own means: all of them, in every environment.
    let factor = suite.burst_max.as_secs_f64() / suite.burst.as_secs_f64();
    let burst_max = if operations.is_some() { LONGEST } else { burst.mul_f64(factor) };
    Length { burst, burst_max, operations: operations.or(suite.operations), rate: positive(load.rate) }
}

/// A seed nobody chose: from the clock, short enough to type.
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 20) % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(environments: &str) -> anyhow::Result<Plan> {
        let text = format!("[environments.bare]\n{environments}[workloads.\"control/cpu\"]\n");
        Plan::of(Suite::parse("s.toml", &text)?, 1)
    }

    fn beside(of: &str, work: &str) -> String {
        format!(
            "[environments.box]\nrunner = \"chroot\"\nneighbour = {{ environment = \"{of}\", workload = \"{work}\" }}\n"
        )
    }

    #[test]
    fn a_neighbour_is_found_with_the_environment_that_has_none() {
        let plan = plan(&format!("[environments.chroot]\n{}", beside("bare", "disk/fsync"))).expect("resolves");
        let tenant = plan.environments[3].neighbour.as_ref().expect("it has one");
        assert_eq!((tenant.like.as_str(), tenant.without.as_str()), ("bare", "chroot"));
        assert_eq!((tenant.environment.runner.name(), tenant.workload.name.as_str()), ("bare", "disk/fsync"));
        assert!(plan.environments[..3].iter().all(|e| e.neighbour.is_none()));
    }

    #[test]
    fn what_a_neighbour_needs_is_named_where_it_was_left_out() {
        let text = format!(
            "[environments.bare]\n[environments.chroot]\n[environments.runc]\n{}",
            beside("runc", "disk/fsync")
        );
        let all = Suite::parse("s.toml", &text).expect("reads").environments;
        let [bare, chroot, runc, with] = &all[..] else { panic!("{all:?}") };
        let refused = |chosen: &[&Entry]| {
            let chosen: Vec<Entry> = chosen.iter().map(|e| (*e).clone()).collect();
            keeps_neighbours(&chosen, &all).err().map(|e| e.to_string())
        };
        let expected =
            "`box` has a neighbour and needs `runc` and `chroot`, which --env left out: add --env runc --env chroot";
        assert_eq!(refused(&[bare, with]).as_deref(), Some(expected));
        let expected = "`box` has a neighbour and needs `chroot`, which --env left out: add --env chroot";
        assert_eq!(refused(&[bare, runc, with]).as_deref(), Some(expected));
        assert_eq!(refused(&[bare, chroot, runc, with]), None);
    }

    #[test]
    fn what_can_not_be_a_neighbour_is_refused_with_what_to_do() {
        let refused = |environments: &str| format!("{:#}", plan(environments).expect_err("refused"));
        let chroot = "[environments.chroot]\n";
        let unknown = refused(&format!("{chroot}{}", beside("chrot", "disk/fsync")));
        assert!(unknown.contains("none of the suite's environments") && unknown.contains("`chroot`"), "{unknown}");
        let workload = refused(&format!("{chroot}{}", beside("bare", "disk/fsink")));
        assert!(workload.contains("the neighbour of `box`") && workload.contains("disk/fsync"), "{workload}");
        let alone = refused(&beside("bare", "disk/fsync"));
        assert!(alone.contains("no environment is the same without: add one of `chroot`"), "{alone}");
        let itself = refused(&format!("{chroot}{}", beside("box", "disk/fsync")));
        assert!(itself.contains("has a neighbour itself"), "{itself}");
        let of_baseline = "[environments.bare]\nneighbour = { environment = \"chroot\", workload = \"disk/fsync\" }\n";
        let text = format!("{of_baseline}{chroot}[workloads.\"control/cpu\"]\n");
        let suite = Suite::parse("s.toml", &text).expect("reads");
        let words = Plan::of(suite, 1).expect_err("refused").to_string();
        assert!(words.contains("the baseline `bare` can't have a neighbour"), "{words}");
    }

    #[test]
    fn a_neighbour_works_as_long_as_the_burst_and_one_worker_keeps_a_rate() {
        for (more, why) in [("burst = \"1s\"", "can't have `burst`"), ("rate = 5, jobs = 4", "which one worker keeps")]
        {
            let text = beside("bare", "disk/fsync").replace(" }", &format!(", {more} }}"));
            let words = format!("{:#}", plan(&format!("[environments.chroot]\n{text}")).expect_err("refused"));
            assert!(words.contains(why) && words.contains("leave"), "{words}");
        }
    }
}
