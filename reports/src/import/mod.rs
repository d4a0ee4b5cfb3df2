//! Measurements of other programs, as runs of ours: what they say is kept, and what they don't is said to be unknown.

mod fio;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use workloads::facts::{DataFacts, Network};
use workloads::{Check, Resource};

use crate::record::{Checked, Ending, EnvironmentPlan, FIO, Record, Run, Stored, WorkloadPlan};

/// An output file under the name of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    name: String,
    path: PathBuf,
}

impl Named {
    /// From `FILE`, whose stem is then the name, or `NAME=FILE`.
    ///
    /// # Errors
    /// When the name can't be one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
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

/// The run that these outputs of fio make, the first of them the baseline; several of one name are its blocks.
///
/// # Errors
/// When there is no file, or one of them can't be read or is no intact output of fio.
pub fn fio(files: &[Named], id: String, started: String) -> anyhow::Result<Stored> {
    let mut outputs = Vec::new();
    for named in files {
        outputs.push(fio::read(&named.path).with_context(|| format!("can't import {}", named.path.display()))?);
    }
    let mut stored = empty(files, &outputs, id, started)?;
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
fn empty(files: &[Named], outputs: &[fio::Output], id: String, started: String) -> anyhow::Result<Stored> {
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
        id,
        started,
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
        stopped: None,
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
        paced: false,
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
        programs: Vec::new(),
    }
}

/// Facts of fio and of its host, file by file.
fn host(files: &[Named], outputs: &[fio::Output]) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut blocks: BTreeMap<&str, u32> = BTreeMap::new();
    for (named, output) in files.iter().zip(outputs) {
        let block = blocks.entry(&named.name).or_default();
        *block += 1;
        let file = format!("{} block {block}", named.name);
        facts.push((format!("{file}: fio"), output.version.clone()));
        facts.extend(output.hostname.clone().map(|name| (format!("{file}: host"), name)));
        facts.extend(output.time.clone().map(|time| (format!("{file}: time"), time)));
        facts.extend(output.command.clone().map(|words| (format!("{file}: options"), words)));
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
