//! `tarebench import`: measurements of other programs, put into the store as if they were our own runs.

mod fio;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use reports::comparison::{Method, compare};
use reports::record::{Checked, Ending, EnvironmentPlan, FIO, Record, Run, Stored, WorkloadPlan};
use reports::store::Store;
use workloads::facts::{DataFacts, Network};
use workloads::{Check, Resource};

use crate::cli;
use crate::commands::{print, report};
use crate::exit::{Exit, OrExit};
use crate::run_id::{new_id, now};

/// Reads every file before the store is opened, and stores all rows or none.
pub fn run(args: cli::Import) -> anyhow::Result<Exit> {
    let cli::Source::Fio(args) = args.source;
    let stored = stored(&args).or_exit(Exit::Usage)?;
    let store = Store::open(&args.store.store).or_exit(Exit::Store)?;
    store.import(&stored).or_exit(Exit::Store)?;
    let stored = store.load(&stored.run.id).or_exit(Exit::Store)?;
    let comparison = compare(&stored, Method::default());
    print(&summary(&comparison))?;
    let terminal = reports::render::find("terminal").expect("the terminal is a format");
    print(&String::from_utf8_lossy(&report::bytes(&comparison, terminal)?))?;
    let id = &stored.run.id;
    eprintln!(
        "run {id} is in {}; `tarebench report {id} --format html -o report.html` draws it",
        args.store.store.display()
    );
    Ok(if stored.records.iter().any(|r| r.outcome.is_err()) { Exit::SomeFailed } else { Exit::Done })
}

/// A line for each workload and environment: the report compares, and one environment alone has nothing to be compared with.
fn summary(c: &reports::comparison::Comparison) -> String {
    use reports::comparison::quantile;
    use reports::render::units;
    let line = |d: &reports::comparison::Distribution| {
        let at = |q: f64| {
            if d.histogram.is_empty() { units::NONE.into() } else { units::duration(quantile(&d.histogram, q)) }
        };
        let flags: Vec<&str> = d.flags.iter().map(|f| f.name).collect();
        let flags = if flags.is_empty() { String::new() } else { format!("  ({})", flags.join(", ")) };
        format!(
            "{} in {}: {} operations, p50 {}, p99 {}{flags}\n",
            d.workload,
            d.environment,
            units::count(d.operations),
            at(0.5),
            at(0.99)
        )
    };
    c.distributions.iter().map(line).collect::<String>() + "\n"
}

/// An output file under the name of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: String,
    path: PathBuf,
}

impl Named {
    /// `FILE` or `NAME=FILE`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let whole = Path::new(text);
        let (name, path) = match text.split_once('=') {
            // A file whose own name has an equals sign is meant as it stands.
            Some((name, path)) if !whole.exists() => (name.to_string(), PathBuf::from(path)),
            _ => (whole.file_stem().unwrap_or_default().to_string_lossy().into_owned(), whole.to_path_buf()),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 40 || !name.chars().all(fits) {
            bail!(
                "`{name}` can't name the environment of {}: up to 40 letters, digits, `-`, `_` and `.`; write NAME={}",
                path.display(),
                path.display()
            );
        }
        Ok(Self { name, path })
    }
}

/// The run that the files make.
fn stored(args: &cli::ImportFio) -> anyhow::Result<Stored> {
    let files = args.files.iter().map(|text| Named::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut outputs = Vec::new();
    for named in &files {
        outputs.push(fio::read(&named.path).with_context(|| format!("can't import {}", named.path.display()))?);
    }
    let mut stored = empty(&files, &outputs)?;
    let mut blocks: BTreeMap<&str, u32> = BTreeMap::new();
    for (named, output) in files.iter().zip(&outputs) {
        let block = blocks.entry(&named.name).or_default();
        for (position, part) in output.parts.iter().enumerate() {
            stored.records.push(record(*block, position as u32, &named.name, part));
            stored.checks.push(checked(*block, &named.name, part));
        }
        *block += 1;
    }
    stored.run.blocks = blocks.values().copied().max().unwrap_or(0);
    Ok(stored)
}

fn record(block: u32, position: u32, environment: &str, part: &fio::Part) -> Record {
    Record {
        block,
        round: 0,
        position,
        workload: part.workload.clone(),
        environment: environment.into(),
        outcome: part.outcome.clone(),
        canary: Default::default(),
        evidence: Default::default(),
    }
}

/// Nothing was checked, and the row says so; its facts are what speaks against the data.
fn checked(block: u32, environment: &str, part: &fio::Part) -> Checked {
    Checked {
        block,
        workload: part.workload.clone(),
        environment: environment.into(),
        outcome: Ok(Check { value: "imported".into(), detail: "measured by fio; what it did was not checked".into() }),
        facts: part.facts.clone(),
    }
}

/// The run without its rows.
fn empty(files: &[Named], outputs: &[fio::Output]) -> anyhow::Result<Stored> {
    let mut workloads: Vec<WorkloadPlan> = Vec::new();
    for part in outputs.iter().flat_map(|o| &o.parts) {
        if !workloads.iter().any(|w| w.name == part.workload) {
            workloads.push(plan(part));
        }
    }
    let mut environments: Vec<EnvironmentPlan> = Vec::new();
    for (named, output) in files.iter().zip(outputs) {
        if !environments.iter().any(|e| e.name == named.name) {
            environments.push(environment(&named.name, output));
        }
    }
    let baseline = environments.first().context("no file was named")?.name.clone();
    let words = files.iter().map(|n| format!(" {}={}", n.name, n.path.display())).collect::<String>();
    let run = Run {
        id: new_id(),
        started: now(),
        suite: "import fio".into(),
        suite_toml: "# imported from fio's output: there is no suite\n".into(),
        seed: 0,
        blocks: 0,
        rounds: 1,
        baseline,
        command: format!("tarebench import fio{words}"),
        binary_sha256: "unknown".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        labels: BTreeMap::new(),
        host: host(files, outputs),
        nested: None,
        workloads,
        environments,
        pinning: "unknown: fio measured".into(),
    };
    Ok(Stored {
        run,
        ending: Ending::Complete,
        seconds: Some(outputs.iter().map(|o| o.seconds).sum()),
        starts: Vec::new(),
        records: Vec::new(),
        voids: Vec::new(),
        checks: Vec::new(),
    })
}

fn plan(part: &fio::Part) -> WorkloadPlan {
    WorkloadPlan {
        name: part.workload.clone(),
        kind: FIO.into(),
        about: format!("Measured by fio: {} of job {}, completion latency", part.direction, part.job),
        settings: part.options.clone(),
        resource: Resource::Disk,
        // What it promised and what the host saw meanwhile is not in the file: no flag may be built on it.
        durable: false,
        direct: false,
        streams: false,
    }
}

fn environment(name: &str, output: &fio::Output) -> EnvironmentPlan {
    EnvironmentPlan {
        name: name.into(),
        runner: "imported".into(),
        settings: BTreeMap::new(),
        version: Some(output.version.clone()),
        skipped: None,
        network: Network::None,
        data: DataFacts::default(),
        emulated: None,
        unequal: None,
        data_path: output.place.clone().unwrap_or_else(|| "unknown".into()),
    }
}

/// What fio said of itself and of its host, file by file.
fn host(files: &[Named], outputs: &[fio::Output]) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut blocks: BTreeMap<&str, u32> = BTreeMap::new();
    for (named, output) in files.iter().zip(outputs) {
        let block = blocks.entry(&named.name).or_default();
        *block += 1;
        let file = format!("{} block {block}", named.name);
        facts.push((format!("{file}: fio"), output.version.clone()));
        let more = [("host", &output.hostname), ("time", &output.time), ("options", &output.command)];
        facts.extend(more.into_iter().filter_map(|(what, value)| Some((format!("{file}: {what}"), value.clone()?))));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_stem_or_by_hand() {
        let of = |text: &str| Named::parse(text).map(|n| (n.name, n.path.display().to_string()));
        assert_eq!(of("some/where/bare.json").expect("fits"), ("bare".into(), "some/where/bare.json".into()));
        assert_eq!(of("runc=a b.json").expect("fits"), ("runc".into(), "a b.json".into()));
        assert!(of("a b.json").expect_err("a blank").to_string().contains("write NAME=a b.json"));
        assert!(of("=x.json").is_err());
    }
}
