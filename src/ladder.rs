//! The ladder from the baseline to an environment: which environments take it apart, by the types of its settings alone.
//!
//! A setting that chooses among words or is on or off is a factor: its other values can be listed. Paths, names and commands say
//! which box it is, numbers and sizes how much of it: those are the same on every rung, unless a number is asked for by name.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use runners::Runner;
use workloads::settings::{Kind, Setting, Settings, did_you_mean, nearest};

use crate::suite::{Entry, Explains, LONGEST_NAME, fitted, plain};

/// The most alternatives of an environment whose settings are all at their defaults. All environments of a run are up at a time.
const MOST: usize = 8;

/// No alternative for anybody: a box without a network does no network workload, and the others don't feel it.
const WITHOUT_NETWORK: (&[&str], &str) = (&["network", "net"], "none");

/// What is taken apart, and how.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The environment.
    pub environment: &'a Entry,
    /// What its costs are over.
    pub baseline: &'a Entry,
    /// The settings to begin with, in this order.
    pub order: &'a [String],
    /// The only settings to take apart; all where there are none.
    pub only: &'a [String],
    /// The environments that go by a name, for a hint to one that is mistyped.
    pub named: &'a [Entry],
    /// What settings come to on this host.
    pub here: Here,
}

/// What a runner's settings come to on a host, by [`Runner::settled`]; or why they can't work there.
pub type Here = fn(&dyn Runner, &Settings) -> anyhow::Result<Vec<(&'static str, String)>>;

impl Asked<'_> {
    /// What to say to a name that is neither a runner nor an environment.
    fn hint(&self) -> String {
        let runners = || runners::registry::RUNNERS.iter().map(|r| r.name());
        let typed = self.environment.kind();
        // With settings behind it, it was meant for a runner.
        let named = self.named.iter().filter(|_| self.environment.of.is_none()).map(|e| e.name.as_str());
        match nearest(typed, runners().chain(named)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => did_you_mean(typed, runners()),
        }
    }

    /// Refuses lists of settings that contradict themselves or each other.
    fn check(&self) -> anyhow::Result<()> {
        for (option, keys) in [("--order", self.order), ("--only", self.only)] {
            if let Some((_, key)) = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
                bail!("{option} names `{key}` twice");
            }
        }
        if let Some(key) = self.order.iter().find(|key| !self.only.is_empty() && !self.only.contains(key)) {
            bail!("--order names `{key}`, which isn't among those of --only");
        }
        Ok(())
    }
}

/// Environments for a suite, the baseline first, and what each of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// The environments.
    pub environments: Vec<Entry>,
    /// Their places.
    pub explains: Explains,
}

impl Ladder {
    /// Plans the ladder; starts nothing.
    ///
    /// # Errors
    /// When there is no such runner or setting, the environment's own settings are refused, or there is nothing to explain.
    pub fn of(asked: Asked) -> anyhow::Result<Self> {
        let entry = asked.environment;
        let runner = runners::registry::find(entry.kind())
            .with_context(|| format!("there is no runner `{}`; {}", entry.kind(), asked.hint()))?;
        let context = || format!("environment `{}` (runner {})", entry.name, runner.name());
        let settings = runner.resolve(&entry.settings).with_context(context)?;
        let factors = Factors::of(runner, &settings, asked)?;
        // Of an environment that can't run here nothing is known of other values.
        let settled = (asked.here)(runner, &settings).ok();
        let entry = &same_files(runner, entry, settled.as_deref().unwrap_or_default());
        let mut building = Building::new(runner, asked.baseline, entry)?;
        building.settled = settled.map(|settled| (asked.here, settled));
        if asked.only.is_empty() {
            building.simpler();
        }
        building.rungs(&factors.given)?;
        for factor in &factors.given {
            building.alternative(*factor, factor.default);
        }
        if building.explains.rungs.len() < 2 {
            bail!("`{}` is the baseline `{}` itself: there is nothing to explain", entry.name, asked.baseline.name);
        }
        let most = if asked.only.is_empty() { MOST } else { usize::MAX };
        building.others(&factors.free, most);
        let Building { environments, explains, .. } = building;
        Ok(Self { environments, explains })
    }
}

/// The environment with the files that it will take here, a kernel as it is, so that every rung has the same: another setting may choose
/// another one, and a step would be of both.
fn same_files(runner: &dyn Runner, entry: &Entry, settled: &[(&'static str, String)]) -> Entry {
    let mut entry = entry.clone();
    let table = runner.all_settings();
    let is_file = |name: &str| table.iter().any(|s| s.name == name && !can_vary(s, true));
    for (name, value) in settled.iter().filter(|(name, _)| is_file(name)) {
        entry.settings.entry((*name).to_string()).or_insert_with(|| value.clone());
    }
    entry
}

/// A setting as it is declared.
type Factor = Setting;

/// What is taken apart of a runner's settings.
#[derive(Debug)]
struct Factors {
    /// Those that are not at their default, in the order in which they are added.
    given: Vec<Factor>,
    /// Those whose other values are tried.
    free: Vec<Factor>,
}

impl Factors {
    fn of(runner: &dyn Runner, settings: &Settings, asked: Asked) -> anyhow::Result<Self> {
        let table = runner.all_settings();
        let defaults = Settings::resolve(&table, &BTreeMap::new()).context("the defaults of a runner are right")?;
        let changed = |s: &Setting| {
            let of = |all: &Settings| all.iter().find(|(key, _)| *key == s.name).map(|(_, value)| value.to_string());
            of(settings) != of(&defaults)
        };
        asked.check()?;
        for key in asked.order.iter().chain(asked.only) {
            let setting = table.iter().find(|s| s.name == *key).with_context(|| {
                let hint = match key.split_once('=') {
                    Some((name, _)) => format!("--only and --order take names of settings, as in `{name}`"),
                    None => did_you_mean(key, table.iter().map(|s| s.name)),
                };
                format!("{} has no setting `{key}`; {hint}", runner.name())
            })?;
            if !can_vary(setting, true) {
                bail!("`{key}` says which {} it is ({}), and can't be taken apart", runner.name(), setting.type_name());
            }
            if !listed(setting) && !changed(setting) {
                bail!("`{key}` is at its default, and a {} has no list of others: set it", setting.type_name());
            }
        }
        if let Some(key) = asked.order.iter().find(|key| !table.iter().any(|s| s.name == **key && changed(s))) {
            bail!("--order names `{key}`, which `{}` has at its default", asked.environment.name);
        }
        let named = |s: &Setting| asked.order.iter().chain(asked.only).any(|key| key == s.name);
        let wanted = |s: &Setting| {
            can_vary(s, named(s)) && (asked.only.is_empty() || asked.only.iter().any(|key| key == s.name))
        };
        let (mut given, mut free): (Vec<Factor>, Vec<Factor>) = table.iter().copied().filter(wanted).partition(changed);
        given.sort_by_key(|s| asked.order.iter().position(|key| key == s.name).unwrap_or(usize::MAX));
        // Where there are settings to take apart, these are the question; others are tried when they are asked for by name.
        if asked.only.is_empty() && !given.is_empty() {
            free.clear();
        }
        Ok(Self { given, free })
    }
}

/// Whether the values of a setting can be listed.
fn listed(setting: &Setting) -> bool {
    matches!(setting.kind, Kind::Choice(_) | Kind::Switch)
}

/// Whether a setting can be changed and leave the same box.
fn can_vary(setting: &Setting, asked_for: bool) -> bool {
    match setting.kind {
        Kind::Choice(_) | Kind::Switch => true,
        Kind::Number { .. } | Kind::Bytes { .. } | Kind::Amount { .. } | Kind::Duration { .. } => asked_for,
        Kind::Path | Kind::Program | Kind::File | Kind::Tree | Kind::Command(_) | Kind::Word | Kind::Address => false,
    }
}

/// Environments as they come.
struct Building<'a> {
    runner: &'static dyn Runner,
    target: &'a Entry,
    environments: Vec<Entry>,
    /// Kind and complete settings of each.
    known: Vec<String>,
    /// What is known of this host before the run, and what the environment's settings come to on it.
    settled: Option<(Here, Vec<(&'static str, String)>)>,
    explains: Explains,
}

impl<'a> Building<'a> {
    fn new(runner: &'static dyn Runner, baseline: &Entry, target: &'a Entry) -> anyhow::Result<Self> {
        let of_baseline = runners::registry::find(baseline.kind())
            .with_context(|| format!("there is no runner `{}` (the baseline `{}`)", baseline.kind(), baseline.name))?;
        let settings = of_baseline.resolve(&baseline.settings).context("the baseline's settings")?;
        let explains = Explains { rungs: vec![baseline.name.clone()], ..Explains::default() };
        let known = vec![format!("{} {settings}", of_baseline.name())];
        Ok(Self { runner, target, environments: vec![baseline.clone()], known, settled: None, explains })
    }

    /// The boxes of other runners that are on the way, as they are by default: what they cost isn't the engine's.
    fn simpler(&mut self) {
        let (all, baseline) = (self.runner.simpler(), self.environments[0].kind());
        // From another box than bare metal the way begins behind it, where it is on it, and else is not known.
        let on_the_way = match all.iter().position(|name| *name == baseline) {
            Some(at) => &all[at + 1..],
            None if baseline == BARE => all,
            None => &[],
        };
        for runner in on_the_way.iter().filter_map(|name| runners::registry::find(name)) {
            // One that needs a setting to say which box it is would be another box.
            if let Ok(name) = self.add_of(runner, runner.name(), &BTreeMap::new())
                && !self.explains.rungs.contains(&name)
            {
                self.explains.rungs.push(name);
            }
        }
    }

    /// The engine with all that is taken apart at its default, then one of them after the other.
    fn rungs(&mut self, given: &[Factor]) -> anyhow::Result<()> {
        let mut settings = self.target.settings.clone();
        given.iter().for_each(|factor| drop(settings.remove(factor.name)));
        let mut name = self.runner.name().to_string();
        for done in 0..=given.len() {
            if let Some(factor) = done.checked_sub(1).map(|at| given[at]) {
                let value = &self.target.settings[factor.name];
                settings.insert(factor.name.into(), value.clone());
                name = format!("{name}-{}", plain(value));
            }
            let own = if done == given.len() { &self.target.name } else { &name };
            match self.add(own, &settings) {
                Ok(name) if self.explains.rungs.contains(&name) => {}
                Ok(name) => self.explains.rungs.push(name),
                Err(because) if done == given.len() => bail!(because),
                Err(because) => self.explains.left_out.push(format!("the rung {name}: {because}")),
            }
        }
        Ok(())
    }

    /// Why a value is known not to work on this host.
    fn excluded(&self, settings: &BTreeMap<String, String>) -> Option<String> {
        let (here, _) = self.settled.as_ref()?;
        let resolved = self.runner.resolve(settings).ok()?;
        here(self.runner, &resolved).err().map(|because| because.to_string())
    }

    /// Whether it is what the runner chooses here by itself.
    fn chosen(&self, factor: &Factor, value: &str) -> bool {
        self.settled
            .as_ref()
            .is_some_and(|(_, settled)| settled.iter().any(|(name, word)| *name == factor.name && word == value))
    }

    /// The environment with another value of one setting; whether there is one.
    fn alternative(&mut self, factor: Factor, value: &str) -> bool {
        let mut settings = self.target.settings.clone();
        settings.insert(factor.name.into(), value.into());
        if let Some(because) = self.excluded(&settings) {
            self.leave_out(factor, value, &because);
            return false;
        }
        let name = format!("but-{}-{}", factor.name.replace(['.', '_'], "-"), plain(value));
        match self.add(&name, &settings) {
            Ok(name) if name == self.target.name || self.explains.alternatives.contains(&name) => false,
            Ok(name) => {
                self.explains.alternatives.push(name);
                true
            }
            Err(because) => {
                self.leave_out(factor, value, &because);
                false
            }
        }
    }

    /// A line for each setting: what excludes one value of it mostly excludes all.
    fn leave_out(&mut self, factor: Factor, value: &str, because: &str) {
        let begins = format!("{}=", factor.name);
        if !self.explains.left_out.iter().any(|line| line.starts_with(&begins)) {
            self.explains.left_out.push(format!("{begins}{value}: {because}"));
        }
    }

    /// One value of every setting, then a second one: so each gets its turn before there are too many.
    fn others(&mut self, free: &[Factor], most: usize) {
        let values = |factor: &Factor| {
            let used = |value: &String| {
                let set = self.target.settings.get(factor.name).map_or(factor.default, String::as_str);
                let without = WITHOUT_NETWORK.0.contains(&factor.name) && value == WITHOUT_NETWORK.1;
                // What is at `auto` stays at what that comes to, and is no alternative to anything.
                value == set || value == AUTO || without
            };
            factor.values().into_iter().filter(|value| !used(value)).collect::<Vec<_>>()
        };
        let mut all: Vec<(Factor, Vec<String>)> = free.iter().map(|factor| (*factor, values(factor))).collect();
        let mut chosen = Vec::new();
        for (factor, values) in &mut all {
            let same = values.extract_if(.., |value| self.chosen(factor, value));
            chosen.extend(same.map(|value| format!("{}={value}", factor.name)));
        }
        if !chosen.is_empty() {
            self.explains.left_out.push(format!("what it comes to here by itself: {}", chosen.join(", ")));
        }
        let turns = all.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        let (mut done, mut beyond) = (0, Vec::new());
        for turn in 0..turns {
            for (factor, values) in &all {
                let Some(value) = values.get(turn) else { continue };
                if done == most {
                    beyond.push((factor.name, value));
                } else if self.alternative(*factor, value) {
                    done += 1;
                }
            }
        }
        if !beyond.is_empty() {
            let mut names: Vec<&str> = Vec::new();
            for (name, _) in &beyond {
                if !names.contains(name) {
                    names.push(name);
                }
            }
            let pairs: Vec<String> = beyond.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.explains.left_out.push(format!(
                "{} beyond the first {most}: {} (ask for them by --only {})",
                several(beyond.len(), "value"),
                pairs.join(", "),
                names.join(",")
            ));
        }
    }

    /// The environment with these settings, a new one or one that is there; its name, or why there can't be one.
    fn add(&mut self, name: &str, settings: &BTreeMap<String, String>) -> Result<String, String> {
        self.add_of(self.runner, name, settings)
    }

    fn add_of(
        &mut self,
        runner: &dyn Runner,
        name: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<String, String> {
        let resolved = runner.resolve(settings).map_err(|e| e.to_string())?;
        let key = format!("{} {resolved}", runner.name());
        if let Some(at) = self.known.iter().position(|known| *known == key) {
            return Ok(self.environments[at].name.clone());
        }
        let own = name == self.target.name;
        let taken = |name: &str| {
            name == reports::record::CONTROL
                || (!own && name == self.target.name)
                || self.environments.iter().any(|e| e.name == name)
        };
        let name = fitted(name, LONGEST_NAME, taken);
        let (of, settings) = (Some(runner.name().to_string()), settings.clone());
        self.environments.push(Entry { name: name.clone(), of, settings, neighbour: None });
        self.known.push(key);
        Ok(name)
    }
}

/// `1 value`, `2 values`.
pub fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The runner that has nothing of a box.
const BARE: &str = "bare";

/// The word for a runner's own choice among the others.
const AUTO: &str = "auto";

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(text: &str, order: &[&str], only: &[&str]) -> anyhow::Result<Ladder> {
        on_a_host(|_, _| Ok(Vec::new()), text, order, only)
    }

    fn on_a_host(here: Here, text: &str, order: &[&str], only: &[&str]) -> anyhow::Result<Ladder> {
        over("bare", here, text, order, only)
    }

    fn over(baseline: &str, here: Here, text: &str, order: &[&str], only: &[&str]) -> anyhow::Result<Ladder> {
        let environment = Entry::parse(text)?.entry;
        let baseline = Entry::parse(baseline)?.entry;
        let [order, only] = [order, only].map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
        let named = [Entry::parse("pentium-3-server")?.entry];
        Ladder::of(Asked {
            environment: &environment,
            baseline: &baseline,
            order: &order,
            only: &only,
            named: &named,
            here,
        })
    }

    fn planned(text: &str, order: &[&str], only: &[&str]) -> Ladder {
        ladder(text, order, only).unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn set<'a>(ladder: &'a Ladder, name: &str) -> Vec<(&'a str, &'a str)> {
        let entry = ladder.environments.iter().find(|e| e.name == name).expect("there");
        entry.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    fn refused(text: &str, order: &[&str], only: &[&str]) -> String {
        format!("{:#}", ladder(text, order, only).expect_err("refused"))
    }

    #[test]
    fn settings_are_added_in_the_order_of_the_declaration_and_taken_back_one_by_one() {
        let of = planned("qemu:net=user,disk.format=qcow2,disk.bus=ide", &[], &[]);
        let target = "qemu-ide-qcow2-user";
        assert_eq!(of.explains.rungs, ["bare", "qemu", "qemu-ide", "qemu-ide-qcow2", target]);
        assert_eq!(set(&of, "qemu"), []);
        assert_eq!(set(&of, "qemu-ide-qcow2"), [("disk.bus", "ide"), ("disk.format", "qcow2")]);
        // Without its last setting it is the rung before, which there need not be twice.
        assert_eq!(of.explains.alternatives, ["but-disk-bus-virtio", "but-disk-format-raw", "qemu-ide-qcow2"]);
        assert_eq!(of.environments.len(), 7);
        assert!(of.explains.left_out.is_empty(), "{:?}", of.explains.left_out);
    }

    #[test]
    fn the_order_can_be_another_and_what_is_not_asked_for_stays() {
        let text = "qemu:net=user,disk.format=qcow2,disk.bus=ide";
        let of = planned(text, &["net"], &[]);
        assert_eq!(of.explains.rungs[1..3], ["qemu", "qemu-user"]);
        let of = planned(text, &[], &["disk.bus"]);
        assert_eq!(of.explains.rungs, ["bare", "qemu", "qemu-ide-qcow2-user"]);
        assert_eq!(set(&of, "qemu"), [("disk.format", "qcow2"), ("net", "user")]);
        assert_eq!(of.explains.alternatives, ["qemu"]);
    }

    #[test]
    fn what_names_a_box_or_says_how_much_of_it_is_on_every_rung() {
        let of = planned("qemu:disk.size=1GiB,disk.bus=ide", &[], &[]);
        assert_eq!(of.explains.rungs.len(), 3);
        assert_eq!(set(&of, "qemu"), [("disk.size", "1GiB")]);
        let of = planned("qemu:disk.size=1GiB,disk.bus=ide", &[], &["disk.size"]);
        assert_eq!(set(&of, "qemu"), [("disk.bus", "ide")]);
        let e = refused("qemu:disk.bus=ide", &[], &["kernel"]);
        assert_eq!(e, "`kernel` says which qemu it is (path), and can't be taken apart");
        let e = refused("qemu:disk.bus=ide", &[], &["disk.size"]);
        assert_eq!(e, "`disk.size` is at its default, and a bytes has no list of others: set it");
    }

    #[test]
    fn without_settings_there_are_alternatives_each_setting_in_turn() {
        let of = planned("gvisor", &[], &[]);
        assert_eq!(of.explains.rungs, ["bare", "namespaces", "runc", "gvisor"]);
        assert_eq!(of.explains.alternatives.len(), MOST);
        let first = ["but-platform-systrap", "but-network-netstack", "but-data-root"];
        assert_eq!(of.explains.alternatives[..3], first);
        let beyond = of.explains.left_out.last().expect("said");
        assert!(beyond.contains("--only") && beyond.contains("overlay=all:self"), "{beyond}");
        assert!(!of.environments.iter().any(|e| e.settings.values().any(|v| v == "auto")), "{of:?}");
        let of = planned("gvisor", &[], &["overlay"]);
        assert_eq!(of.explains.alternatives.len() + of.explains.left_out.len(), 4, "{of:?}");
    }

    #[test]
    fn simpler_boxes_are_on_the_way_unless_some_settings_alone_are_asked_for() {
        let of = planned("runc:data=overlay", &[], &[]);
        assert_eq!(of.explains.rungs, ["bare", "namespaces", "runc", "runc-overlay"]);
        assert_eq!(planned("podman", &[], &[]).explains.rungs[1..3], ["namespaces", "runc"]);
        assert_eq!(planned("runc:data=overlay", &[], &["data"]).explains.rungs, ["bare", "runc", "runc-overlay"]);
        // And from another baseline than bare metal only those behind it.
        let from = |baseline: &str, text: &str| over(baseline, |_, _| Ok(Vec::new()), text, &[], &[]);
        assert_eq!(from("namespaces", "gvisor").expect("plans").explains.rungs, ["namespaces", "runc", "gvisor"]);
        assert_eq!(from("runc", "gvisor").expect("plans").explains.rungs, ["runc", "gvisor"]);
        assert_eq!(from("qemu", "gvisor").expect("plans").explains.rungs, ["qemu", "gvisor"]);
        let e = from("runc", "runc").expect_err("refused").to_string();
        assert_eq!(e, "`runc` is the baseline `runc` itself: there is nothing to explain");
    }

    #[test]
    fn what_it_is_already_and_what_cannot_run_here_take_no_place() {
        let here: Here = |_, settings| {
            let platform = settings.iter().find(|(key, _)| *key == "platform").map(|(_, value)| value.to_string());
            if platform.as_deref() == Some("systrap") {
                bail!("no systrap");
            }
            Ok(vec![("platform", "ptrace".into()), ("network", "netstack".into())])
        };
        let of = on_a_host(here, "gvisor", &[], &[]).expect("plans").explains;
        assert_eq!(of.alternatives.len(), MOST);
        for word in ["platform-systrap", "platform-ptrace", "netstack"] {
            assert!(!of.alternatives.iter().any(|name| name.contains(word)), "{word}: {:?}", of.alternatives);
        }
        assert_eq!(of.left_out[0], "what it comes to here by itself: platform=ptrace, network=netstack");
        assert_eq!(of.left_out[1], "platform=systrap: no systrap");
        let beyond = of.left_out.last().expect("said");
        let names = beyond.split("--only ").nth(1).expect("names").trim_end_matches(')');
        for name in names.split(',') {
            assert!(beyond.contains(&format!("{name}=")), "{beyond}");
        }
    }

    #[test]
    fn every_rung_has_the_kernel_that_the_environment_takes_here() {
        let here: Here = |_, _| Ok(vec![("kernel", "/bin/sh".into())]);
        let of = on_a_host(here, "qemu:disk.bus=ide,disk.format=qcow2", &[], &[]).expect("plans");
        let kernels = |of: &Ladder| -> Vec<_> {
            of.environments.iter().skip(1).map(|e| e.settings.get("kernel").cloned()).collect()
        };
        assert!(kernels(&of).len() >= 4, "{of:?}");
        assert!(kernels(&of).iter().all(|kernel| kernel.as_deref() == Some("/bin/sh")), "{of:?}");
        let own = on_a_host(here, "qemu:disk.bus=ide,kernel=/bin/ls", &[], &[]).expect("plans");
        assert!(kernels(&own).iter().all(|kernel| kernel.as_deref() == Some("/bin/ls")), "{own:?}");
    }

    #[test]
    fn every_runner_that_needs_no_name_can_be_explained_without_starting_it() {
        for runner in runners::registry::RUNNERS.iter().filter(|r| r.resolve(&BTreeMap::new()).is_ok()) {
            let name = runner.name();
            match ladder(name, &[], &[]) {
                Ok(of) => {
                    assert_eq!(of.explains.rungs, [&["bare"], runner.simpler(), &[name]].concat());
                    let of_network = |e: &Entry| e.settings.iter().any(|(k, v)| k.starts_with("net") && v == "none");
                    assert!(!of.environments.iter().any(of_network), "{of:?}");
                }
                Err(e) => assert!(name == "bare", "{name}: {e:#}"),
            }
        }
    }

    #[test]
    fn a_rung_that_is_refused_is_left_out_and_the_others_stand() {
        // Without the machine that has no PCI there would be no bus for it.
        let of = planned("qemu:machine=pc,disk.bus=nvme", &[], &[]);
        assert_eq!(of.explains.rungs.len(), 4);
        let of = planned("qemu:data=9p,9p.cache=none", &["9p.cache"], &[]);
        assert_eq!(of.explains.rungs, ["bare", "qemu", "qemu-none-9p"]);
        assert!(of.explains.left_out[0].starts_with("the rung qemu-none: "), "{:?}", of.explains.left_out);
    }

    #[test]
    fn what_can_not_be_explained_says_why() {
        assert_eq!(refused("bare", &[], &[]), "`bare` is the baseline `bare` itself: there is nothing to explain");
        assert!(refused("gvisr", &[], &[]).contains("did you mean `gvisor`"));
        assert!(refused("qemu:disk.bus=ide", &["disk.bsu"], &[]).contains("did you mean `disk.bus`"));
        assert!(refused("gvisor", &[], &["platform=kvm"]).ends_with("take names of settings, as in `platform`"));
        let e = refused("qemu:disk.bus=ide", &["net"], &[]);
        assert_eq!(e, "--order names `net`, which `qemu-ide` has at its default");
    }

    #[test]
    fn an_environment_that_is_mistyped_is_named_and_of_a_runner_with_settings_a_runner() {
        assert!(refused("pentium-3-servr", &[], &[]).contains("did you mean `pentium-3-server`?"));
        assert!(!refused("pentium-3-servr:net=user", &[], &[]).contains("pentium-3-server`?"));
        assert!(refused("zzz", &[], &[]).contains("; there are bare, "));
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        let text = "qemu:disk.bus=ide,net=user";
        assert_eq!(refused(text, &["net", "net"], &[]), "--order names `net` twice");
        assert_eq!(refused(text, &[], &["net", "disk.bus", "net"]), "--only names `net` twice");
        let e = refused(text, &["net"], &["disk.bus"]);
        assert_eq!(e, "--order names `net`, which isn't among those of --only");
        assert!(ladder(text, &["net"], &["disk.bus", "net"]).is_ok());
    }

    #[test]
    fn one_is_one() {
        assert_eq!([several(1, "block"), several(2, "block")], ["1 block", "2 blocks"]);
    }
}
