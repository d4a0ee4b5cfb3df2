//! `tarebench doctor`: what can run here, what can't and how to fix it, and how quiet this machine is.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use runners::fingerprint;
use runners::host::Resources;
use runners::leftovers;
use runners::probe::{self, Probe};
use runners::stage::disk::check_data_dir;
use serde_json::json;
use workloads::Resource;
use workloads::canary::Canaries;
use workloads::settings::Settings;

use crate::cli;
use crate::commands::print;
use crate::execute::set_up::open_host;
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;

/// How long each kind of small operation is watched to see how quiet the machine is.
const WATCH: Duration = Duration::from_millis(700);

/// Probes every runner anew, looks at the host, and removes leftovers where asked.
pub fn run(args: cli::Doctor) -> anyhow::Result<Exit> {
    let interrupt = Interrupt::listen()?;
    let left = leftovers::find();
    if args.clean {
        return clean(&left);
    }
    let host = open_host(Resources::new(1, 512 << 20), &interrupt)?;
    let data_dir = args.data_dir.canonicalize().context("can't find the data directory").or_exit(Exit::Host)?;
    let mut rows = Vec::new();
    for runner in runners::registry::RUNNERS {
        if let Some(exit) = interrupt.exit() {
            return Ok(exit);
        }
        let settings = Settings::resolve(runner.settings(), &Default::default())?;
        let probe = probe::probe(*runner, &settings, &host, &data_dir);
        if !args.json {
            print(&row(runner.name(), &probe))?;
        }
        rows.push((runner.name(), probe));
    }
    let (quiet, mut warnings) = quiet(&args.data_dir);
    warnings.extend(check_data_dir(&args.data_dir, false).err().map(|e| format!("{e:#}")));
    warnings.extend(
        left.iter().map(|l| format!("a killed run left something behind: {l}; `tarebench doctor --clean` removes it")),
    );
    if !host.privileged {
        warnings.push("not root: no links of our own to the peer, no limits on CPU and memory, and fewer runners; `sudo tarebench doctor` shows the difference".into());
    }
    if !host.static_binary {
        warnings.push("this binary is dynamic and can only measure `bare`; build it with plain `cargo build --release`, which makes a static one".into());
    }
    warnings.extend(fingerprint::warnings());
    let facts = fingerprint::facts(&args.data_dir);
    if args.json {
        let runners: Vec<_> = rows
            .iter()
            .map(|(name, p)| json!({"name": name, "verdict": p.verdict, "version": p.version, "because": p.because, "fix": p.fix, "seconds": p.seconds}))
            .collect();
        let facts: serde_json::Map<_, _> = facts.into_iter().map(|(k, v)| (k, v.into())).collect();
        let value = json!({"schema": "tarebench.doctor/1", "runners": runners, "host": facts, "quiet": quiet, "warnings": warnings});
        print(&(serde_json::to_string_pretty(&value)? + "\n"))?;
    } else {
        print(&text(&facts, &quiet, &warnings)?)?;
    }
    Ok(Exit::Done)
}

fn clean(left: &[leftovers::Leftover]) -> anyhow::Result<Exit> {
    if left.is_empty() {
        print("nothing of ours is left behind\n")?;
    }
    leftovers::clean(left).or_exit(Exit::Host)?;
    for leftover in left {
        print(&format!("removed {leftover}\n"))?;
    }
    Ok(Exit::Done)
}

fn row(name: &str, probe: &Probe) -> String {
    let mut row = format!(
        "{name:<16} {:<9} {:>6.2} s  {}\n",
        probe.verdict,
        probe.seconds,
        probe.version.as_deref().unwrap_or("")
    );
    for (label, text) in [("because", &probe.because), ("fix", &probe.fix)] {
        if let Some(text) = text {
            row.push_str(&format!("{label:>16}: {}\n", text.replace('\n', "\n                  ")));
        }
    }
    row
}

/// Small operations of the host itself, again and again: their median and spread, and what to say of it.
fn quiet(dir: &Path) -> (serde_json::Value, Vec<String>) {
    let mut canaries = match Canaries::new(dir) {
        Ok(canaries) => canaries,
        Err(e) => {
            return (json!({}), vec![format!("can't measure how quiet the machine is in {}: {e:#}", dir.display())]);
        }
    };
    let mut quiet = serde_json::Map::new();
    let mut warnings = Vec::new();
    for (name, resource) in
        [("processor", Resource::Processor), ("disk", Resource::Disk), ("network", Resource::Network)]
    {
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < WATCH {
            match canaries.measure(resource) {
                Ok(ns) => seen.push(ns),
                Err(e) => {
                    warnings.push(format!("{name}: {e:#}"));
                    break;
                }
            }
        }
        seen.sort_unstable();
        if let (Some(low), Some(high)) = (seen.get(seen.len() / 10), seen.get(seen.len() * 9 / 10)) {
            let median = seen[seen.len() / 2];
            quiet.insert(name.into(), json!({"median_ns": median, "p10_ns": low, "p90_ns": high, "times": seen.len()}));
            if *high > 2 * *low {
                warnings.push(format!("{name}: the host's own small operations vary from {:.1} to {:.1} us within a second; expect wide intervals and void rounds", *low as f64 / 1e3, *high as f64 / 1e3));
            }
        }
    }
    (quiet.into(), warnings)
}

fn text(facts: &[(String, String)], quiet: &serde_json::Value, warnings: &[String]) -> anyhow::Result<String> {
    let mut out = String::from("\nhost\n");
    for (name, value) in facts {
        writeln!(out, "  {name:<18} {value}")?;
    }
    writeln!(out, "\nhow quiet it is (the host's own small operations, median and the middle 80 %)")?;
    for (name, seen) in quiet.as_object().into_iter().flatten() {
        let us = |key: &str| seen[key].as_f64().unwrap_or(f64::NAN) / 1e3;
        writeln!(out, "  {name:<18} {:.2} us ({:.2} to {:.2})", us("median_ns"), us("p10_ns"), us("p90_ns"))?;
    }
    if !warnings.is_empty() {
        writeln!(out, "\nwarnings")?;
    }
    for warning in warnings {
        writeln!(out, "  {warning}")?;
    }
    Ok(out)
}
