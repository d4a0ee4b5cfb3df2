//! `tarebench doctor`: what can run here, what can't and how to fix it, and how quiet this machine is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use reports::calibration::Cited;
use runners::fingerprint;
use runners::host::turn::Turn;
use runners::host::{Host, Resources};
use runners::leftovers;
use runners::machine::Machine;
use runners::machine::concerns::Concern;
use runners::probe::{self, Probe};
use runners::stage::disk::{Disk, check_data_dir};
use runners::{Made, Runner};
use serde::{Serialize, Serializer};
use workloads::Resource;
use workloads::canary::{Canaries, NO_DISK_NS};
use workloads::settings::Settings;

use crate::cli;
use crate::commands::{calibrate, print};
use crate::execute::set_up::open_host;
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;

/// How long each kind of small operation is watched to see how quiet the machine is.
const WATCH: Duration = Duration::from_millis(700);

/// All that `doctor` finds out: for people in words, for programs as it stands.
#[derive(Debug, Serialize)]
struct Findings {
    schema: &'static str,
    runners: Vec<Probed>,
    /// In the order to show them.
    #[serde(serialize_with = "as_map")]
    host: Vec<(String, String)>,
    /// By the name of the resource.
    quiet: BTreeMap<&'static str, Quiet>,
    /// What the kernel says of the machine, and where that is in the way.
    machine: Vec<Concern>,
    /// What it was calibrated to, the newest first.
    calibrations: Vec<Cited>,
    /// Why nobody knows, where the store can't be read.
    unread: Option<String>,
    warnings: Vec<String>,
}

/// A runner with the answer of its probe.
#[derive(Debug, Serialize)]
struct Probed {
    name: &'static str,
    #[serde(flatten)]
    probe: Probe,
    /// Every program of the engine's name on this host, the one that is taken first.
    programs: Vec<Program>,
}

/// One of several that a host may have of an engine.
#[derive(Debug, Serialize)]
struct Program {
    path: PathBuf,
    version: Option<String>,
}

fn programs(runner: &dyn Runner) -> Vec<Program> {
    let all = runner.program().map(|program| program.versions()).unwrap_or_default();
    all.into_iter().map(|(path, version)| Program { path, version }).collect()
}

/// How evenly the host's own small operations went.
#[derive(Debug, Serialize)]
struct Quiet {
    median_ns: u64,
    p10_ns: u64,
    p90_ns: u64,
    times: usize,
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// Probes every runner anew, looks at the host, and removes leftovers where asked.
pub fn run(args: cli::Doctor) -> anyhow::Result<Exit> {
    let interrupt = Interrupt::listen()?;
    if args.clean {
        leftovers::wait_for_starting(&args.data_dir);
    }
    let left = leftovers::find(&args.data_dir);
    if args.clean {
        return clean(&left, &args.data_dir);
    }
    // Before anything of ours has run: the load is part of it.
    let machine = Machine::here().concerns();
    let shared = open_host(Resources::new(1, 512 << 20), &interrupt)?;
    let data_dir = args.data_dir.canonicalize().context("can't find the data directory").or_exit(Exit::Host)?;
    let mut probed = Vec::new();
    for runner in runners::registry::RUNNERS {
        if let Some(exit) = interrupt.exit() {
            return Ok(exit);
        }
        let settings = Settings::resolve(&runner.all_settings(), &Default::default())?;
        let found = Probed {
            name: runner.name(),
            probe: probe::probe(*runner, &settings, &shared, &data_dir),
            programs: programs(*runner),
        };
        // Whoever watches sees each as it is known.
        if !args.json {
            print(&row(&found))?;
        }
        probed.push(found);
    }
    let (quiet, mut warnings) = quiet(&args.data_dir);
    warnings.extend(further_warnings(&args.data_dir, &left, &shared.host));
    warnings.extend(machine.iter().filter_map(|concern| concern.warning.clone()));
    let calibrations = calibrate::of_this_machine(&args.store.store, &data_dir).or_exit(Exit::Store);
    let unread = calibrations.as_ref().err().map(|e| format!("{e:#}"));
    let schema = "tarebench.doctor/1";
    let findings = Findings {
        schema,
        runners: probed,
        host: fingerprint::facts(&args.data_dir),
        quiet,
        machine,
        calibrations: calibrations.as_ref().ok().cloned().unwrap_or_default(),
        unread,
        warnings,
    };
    print(&if args.json { json(&findings)? } else { text(&findings)? })?;
    // All else was found out; a store that was named and is none is an error all the same.
    calibrations.context("can't read what this machine was calibrated to").map(|_| Exit::Done)
}

/// Everything else that stands in the way of a good measurement, and what to do about it.
fn further_warnings(data_dir: &Path, left: &[leftovers::Leftover], host: &Host) -> Vec<String> {
    let mut warnings: Vec<String> =
        check_data_dir(data_dir, false).err().map(|e| format!("{e:#}")).into_iter().collect();
    // Memory itself has been refused above.
    let disk = Disk::under(data_dir).ok().filter(|disk| !disk.is_memory());
    warnings.extend(
        disk.and_then(|disk| disk.forgets())
            .map(|why| format!("nothing in the data directory is durable: {why}; give one on a disk with --data-dir")),
    );
    warnings.extend(
        left.iter().map(|l| format!("a killed run left something behind: {l}; `tarebench doctor --clean` removes it")),
    );
    let unknown = leftovers::unknown(data_dir).into_iter();
    warnings.extend(unknown.map(|thing| format!("carries our name, and no journal says whose it is: {thing}")));
    if !host.privileged {
        warnings.push("not root: no links of our own to the peer, no limits on CPU and memory, and fewer runners; `sudo tarebench doctor` shows the difference".into());
    }
    if !host.static_binary {
        warnings.push("this binary is dynamic and can only measure `bare`; build it with plain `cargo build --release`, which makes a static one".into());
    }
    warnings.extend(fingerprint::warnings());
    warnings
}

fn clean(left: &[leftovers::Leftover], data_dir: &Path) -> anyhow::Result<Exit> {
    leftovers::clean(left).or_exit(Exit::Host)?;
    Turn::clear();
    for leftover in left {
        print(&format!("removed {leftover}\n"))?;
        for made in &leftover.made {
            if let Made::Setting(setting) = made {
                print(&format!(
                    "it had tuned the machine; put back, unless somebody else has changed it since: {setting}\n"
                ))?;
            }
        }
    }
    let unknown = leftovers::unknown(data_dir);
    for thing in &unknown {
        print(&format!("left alone, since no journal says whose it is: {thing}\n"))?;
    }
    if left.is_empty() && unknown.is_empty() {
        print(&format!("nothing of ours is left behind on this host or in {}\n", data_dir.display()))?;
    }
    Ok(Exit::Done)
}

fn row(Probed { name, probe, programs }: &Probed) -> String {
    let mut row = format!(
        "{name:<16} {:<9} {:>6.2} s  {}\n",
        probe.verdict,
        probe.seconds,
        probe.version.as_deref().unwrap_or("")
    );
    // One needs no word; of several it must be said which is meant.
    for (nth, Program { path, version }) in programs.iter().enumerate().filter(|_| programs.len() > 1) {
        let label = if nth == 0 { "taken" } else { "also there" };
        row.push_str(&format!(
            "{label:>16}: {} {}\n",
            path.display(),
            version.as_deref().unwrap_or("(says no version)")
        ));
    }
    for (label, text) in [("because", &probe.because), ("fix", &probe.fix)] {
        if let Some(text) = text {
            row.push_str(&format!("{label:>16}: {}\n", text.replace('\n', "\n                  ")));
        }
    }
    row
}

/// Small operations of the host itself, again and again: how evenly they go, and a warning where they don't.
fn quiet(dir: &Path) -> (BTreeMap<&'static str, Quiet>, Vec<String>) {
    let mut canaries = match Canaries::new(dir) {
        Ok(canaries) => canaries,
        Err(e) => {
            let warning = format!("can't measure how quiet the machine is in {}: {e:#}", dir.display());
            return (BTreeMap::new(), vec![warning]);
        }
    };
    let mut quiet = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, resource) in
        [("processor", Resource::Processor), ("disk", Resource::Disk), ("network", Resource::Network)]
    {
        let (seen, failure) = watch(&mut canaries, resource);
        warnings.extend(failure.map(|e| format!("{name}: {e:#}")));
        let Some(one) = Quiet::of(seen) else { continue };
        if resource == Resource::Disk && one.median_ns < NO_DISK_NS {
            let us = one.median_ns as f64 / 1e3;
            warnings.push(format!("disk: a write of 4 KiB and its flush take {us:.1} µs, and no disk is as fast: nothing here is durable, and what is measured on it is memory"));
        }
        if one.p90_ns > 2 * one.p10_ns {
            let [low, high] = [one.p10_ns, one.p90_ns].map(|ns| ns as f64 / 1e3);
            warnings.push(format!("{name}: the host's own small operations vary from {low:.1} to {high:.1} µs within a second; expect wide intervals and void rounds"));
        }
        quiet.insert(name, one);
    }
    (quiet, warnings)
}

/// As many looks as there is time for, until one fails.
fn watch(canaries: &mut Canaries, resource: Resource) -> (Vec<u64>, Option<anyhow::Error>) {
    let began = Instant::now();
    let mut seen = Vec::new();
    while began.elapsed() < WATCH {
        match canaries.measure(resource) {
            Ok(ns) => seen.push(ns),
            Err(e) => return (seen, Some(e)),
        }
    }
    (seen, None)
}

impl Quiet {
    /// `None` where nothing was seen.
    fn of(mut seen: Vec<u64>) -> Option<Self> {
        seen.sort_unstable();
        let at = |tenth: usize| seen.get(seen.len() * tenth / 10).copied();
        Some(Self { median_ns: at(5)?, p10_ns: at(1)?, p90_ns: at(9)?, times: seen.len() })
    }
}

fn json(findings: &Findings) -> anyhow::Result<String> {
    // By way of a value, whose keys are sorted.
    Ok(serde_json::to_string_pretty(&serde_json::to_value(findings)?)? + "\n")
}

/// Everything but the runners, which have their rows by then.
fn text(findings: &Findings) -> anyhow::Result<String> {
    let mut out = String::from("\nhost\n");
    for (name, value) in &findings.host {
        writeln!(out, "  {name:<18} {value}")?;
    }
    writeln!(out, "\nhow quiet it is (the host's own small operations, median and the middle 80 %)")?;
    for (name, Quiet { median_ns, p10_ns, p90_ns, .. }) in &findings.quiet {
        let [median, low, high] = [median_ns, p10_ns, p90_ns].map(|ns| *ns as f64 / 1e3);
        writeln!(out, "  {name:<18} {median:.2} µs ({low:.2} to {high:.2})")?;
    }
    writeln!(out, "\ncalibrated")?;
    if let Some(why) = &findings.unread {
        writeln!(out, "  unknown: {why}")?;
    } else if findings.calibrations.is_empty() {
        writeln!(out, "  not yet: `tarebench calibrate` finds out what can be seen here")?;
    }
    for calibration in &findings.calibrations {
        writeln!(out, "  {}", calibration.cited)?;
    }
    if !findings.warnings.is_empty() {
        writeln!(out, "\nwarnings")?;
    }
    for warning in &findings.warnings {
        writeln!(out, "  {warning}")?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use runners::probe::Verdict;

    use super::*;

    #[test]
    fn a_store_that_can_not_be_read_is_not_taken_for_none() {
        let with = |unread: Option<&str>| {
            text(&Findings {
                schema: "",
                runners: Vec::new(),
                host: Vec::new(),
                quiet: BTreeMap::new(),
                machine: Vec::new(),
                calibrations: Vec::new(),
                unread: unread.map(String::from),
                warnings: Vec::new(),
            })
            .expect("a text")
        };
        assert!(with(Some("x.db is not a database")).ends_with("calibrated\n  unknown: x.db is not a database\n"));
        assert!(with(None).contains("  not yet: "));
    }

    #[test]
    fn of_several_programs_it_is_said_which_is_taken() {
        let program =
            |path: &str, version: Option<&str>| Program { path: path.into(), version: version.map(String::from) };
        let with = |programs| {
            let probe =
                Probe { verdict: Verdict::Works, version: Some("1.0".into()), because: None, fix: None, seconds: 0.1 };
            row(&Probed { name: "gvisor", probe, programs })
        };
        let two = with(vec![program("/usr/bin/runsc", Some("1.0")), program("/opt/runsc", None)]);
        assert!(two.contains("           taken: /usr/bin/runsc 1.0\n"), "{two}");
        assert!(two.contains("      also there: /opt/runsc (says no version)\n"), "{two}");
        assert_eq!(with(vec![program("/usr/bin/runsc", Some("1.0"))]).lines().count(), 1);
    }
}
