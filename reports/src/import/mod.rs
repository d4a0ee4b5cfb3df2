//! Measurements of other programs, as runs of ours: what they say is kept, and what they don't is said to be unknown.

mod fio;
mod hdr;
mod iperf3;
mod sockperf;
mod spread;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use workloads::facts::{DataFacts, Network};
use workloads::protocol::Sample;
use workloads::{Check, Resource};

use crate::record::{
    Checked, Ending, EnvironmentPlan, FIO, Failure, HDR, IPERF3, Record, Run, SOCKPERF, Stored, WorkloadPlan,
};

/// What an option is called among the facts of a check: it follows this.
pub(crate) const OPTION: &str = "option: ";

/// So many operations nobody has measured in one run: a billion a second for a week are fewer.
const MOST: u64 = 1 << 50;

/// Whose output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// fio's `json` and `json+`.
    Fio(JobNames),
    /// What sockperf's client prints, and its full log.
    Sockperf,
    /// iperf3's JSON.
    Iperf3,
    /// HdrHistogram's logs and tables, with the unit of their values where it is told.
    Hdr(Option<Unit>),
}

/// How much of its jobs' names is taken from a file of fio's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobNames {
    /// All.
    Whole,
    /// Without what the names of all jobs of the file begin with.
    Short,
}

/// The unit of somebody's latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 3] = [Unit::Ns, Unit::Us, Unit::Ms];

    fn name(self) -> &'static str {
        match self {
            Unit::Ns => "ns",
            Unit::Us => "us",
            Unit::Ms => "ms",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Unit::Ns => "nanoseconds",
            Unit::Us => "microseconds",
            Unit::Ms => "milliseconds",
        }
    }

    /// Nanoseconds of one.
    fn factor(self) -> f64 {
        match self {
            Unit::Ns => 1.0,
            Unit::Us => 1e3,
            Unit::Ms => 1e6,
        }
    }

    fn ns(self, value: u64) -> u64 {
        value.saturating_mul(self.factor() as u64)
    }
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Fio(_) => FIO,
            Program::Sockperf => SOCKPERF,
            Program::Iperf3 => IPERF3,
            Program::Hdr(_) => HDR,
        }
    }

    /// The runs that a text has.
    fn outputs(self, text: &str) -> anyhow::Result<Vec<Output>> {
        match self {
            Program::Fio(names) => fio::outputs(text, names),
            Program::Sockperf => sockperf::outputs(text),
            Program::Iperf3 => iperf3::outputs(text),
            Program::Hdr(unit) => hdr::outputs(text, unit),
        }
    }
}

/// One run of another program.
#[derive(Debug, Clone, PartialEq)]
struct Output {
    /// `fio-3.33`.
    version: String,
    /// When it ended, in its own words.
    time: Option<String>,
    /// Names of the hosts, where it measured on others.
    hosts: Vec<String>,
    /// Where it worked, as given.
    place: Option<String>,
    /// Options as they were given.
    command: Option<String>,
    /// How long it took.
    seconds: f64,
    /// What it measured.
    parts: Vec<Part>,
    /// What is in it and was left out, and why.
    left_out: Vec<String>,
}

/// What becomes a workload.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// `fio/<job>-<direction>`.
    workload: String,
    /// One sentence.
    about: String,
    /// Options that hold for it.
    options: BTreeMap<String, String>,
    /// The resource that it leans on.
    resource: Resource,
    /// An operation promises durability.
    durable: bool,
    /// It promises to go round the page cache.
    direct: bool,
    /// Bytes per second are the figure to look at.
    streams: bool,
    /// A schedule said how much was done, or may have.
    paced: bool,
    /// The sample, or the program's error.
    outcome: Result<Sample, Failure>,
    /// What it says of its latencies, and doubts about them by the name of the flag.
    facts: BTreeMap<String, String>,
}

/// An output file under the name of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    name: String,
    path: PathBuf,
}

impl Named {
    /// From `FILE`, whose stem is then the name, or `NAME=FILE`; `-` is stdin.
    ///
    /// # Errors
    /// When the name can't be one.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let whole = Path::new(text);
        let (name, path) = match text.split_once('=') {
            // A file whose own name has an equals sign is meant as it stands.
            Some((name, path)) if !whole.exists() => (name.to_string(), PathBuf::from(path)),
            _ if text == "-" => ("stdin".to_string(), whole.to_path_buf()),
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

/// An import, ready to be stored.
#[derive(Debug)]
pub struct Imported {
    /// The rows.
    pub stored: Stored,
    /// What a reader of the command must know: what was left out, and files that aren't one block.
    pub remarks: Vec<String>,
}

/// A run of a program as a block of an environment.
struct Block<'a> {
    environment: &'a str,
    number: u32,
    output: Output,
}

/// The run that these outputs make, the first of them the baseline; several of one name are its blocks. `command` imports the same again.
///
/// # Errors
/// When there is no file, or one of them can't be read or is no intact output.
pub fn import(
    program: Program,
    files: &[Named],
    id: String,
    started: String,
    command: String,
) -> anyhow::Result<Imported> {
    let mut remarks = Vec::new();
    let mut blocks: Vec<Block> = Vec::new();
    for named in files {
        let path = named.path.display();
        let outputs = text::read(&named.path).and_then(|text| program.outputs(&text));
        let outputs = outputs.with_context(|| format!("can't import {path}"))?;
        if outputs.len() > 1 {
            remarks.push(format!("{path} has {} runs: each is a block of {}", outputs.len(), named.name));
        }
        for output in outputs {
            let of_name = || blocks.iter().filter(|b| b.environment == named.name);
            // What was measured once is one block, however often it is given.
            if let Some(same) = of_name().find(|b| b.output.parts == output.parts) {
                remarks.push(format!("{path} is block {} of {} again: left out", same.number + 1, named.name));
                continue;
            }
            for part in &output.parts {
                counts(part).with_context(|| format!("can't import {path}"))?;
            }
            remarks.extend(output.left_out.iter().map(|what| format!("{path}: {what}")));
            let number = of_name().count() as u32;
            blocks.push(Block { environment: &named.name, number, output });
        }
    }
    let mut stored = empty(program.name(), &blocks, id, started, command)?;
    remarks.extend(stored.run.environments.iter().skip(1).filter_map(|e| nothing_in_common(program, &blocks, &e.name)));
    for block in &blocks {
        for (position, part) in block.output.parts.iter().enumerate() {
            stored.records.push(record(block, position as u32, part));
            stored.checks.push(checked(program, block, part));
        }
    }
    stored.run.blocks = blocks.iter().map(|b| b.number + 1).max().unwrap_or(0);
    Ok(Imported { stored, remarks })
}

/// Why an environment stands beside the baseline and can't be compared with it.
fn nothing_in_common(program: Program, blocks: &[Block], environment: &str) -> Option<String> {
    let baseline = blocks.first()?.environment;
    let workloads = |name: &str| {
        let parts = blocks.iter().filter(|b| b.environment == name).flat_map(|b| &b.output.parts);
        parts.map(|part| part.workload.as_str()).collect::<std::collections::BTreeSet<_>>()
    };
    let (base, own) = (workloads(baseline), workloads(environment));
    if !base.is_disjoint(&own) {
        return None;
    }
    let advice = match program {
        Program::Fio(JobNames::Whole) => {
            "; where the jobs' names hold that of the environment, --short-names leaves it away"
        }
        _ => "",
    };
    Some(format!(
        "{environment} has nothing in common with {baseline}: `{}` there and `{}` here are two workloads{advice}",
        base.first()?,
        own.first()?
    ))
}

/// Refuses what nobody can have counted, which no sum of blocks would hold.
fn counts(part: &Part) -> anyhow::Result<()> {
    let Ok(sample) = &part.outcome else { return Ok(()) };
    let all = [("operations", sample.operations), ("bytes", sample.bytes), ("nanoseconds", sample.elapsed_ns)];
    match all.into_iter().find(|(what, n)| *n >= if *what == "operations" { MOST } else { MOST << 10 }) {
        Some((what, n)) => bail!("{n} {what} of {} can't be", part.workload),
        None => Ok(()),
    }
}

fn record(block: &Block, position: u32, part: &Part) -> Record {
    Record {
        block: block.number,
        round: 0,
        position,
        workload: part.workload.clone(),
        environment: block.environment.into(),
        outcome: part.outcome.clone(),
        canary: Default::default(),
        evidence: Default::default(),
    }
}

/// Nothing was checked, and the row says so; its facts are what the file says of itself, and what speaks against it.
fn checked(program: Program, block: &Block, part: &Part) -> Checked {
    let options = part.options.iter().map(|(name, value)| (format!("{OPTION}{name}"), value.clone()));
    Checked {
        block: block.number,
        workload: part.workload.clone(),
        environment: block.environment.into(),
        outcome: Ok(Check {
            value: "imported".into(),
            detail: format!("measured by {}; what it did was not checked", program.name()),
        }),
        facts: part.facts.clone().into_iter().chain(options).collect(),
    }
}

/// The run without its rows.
fn empty(program: &str, blocks: &[Block], id: String, started: String, command: String) -> anyhow::Result<Stored> {
    let mut names = std::collections::BTreeSet::new();
    let parts = blocks.iter().flat_map(|b| &b.output.parts);
    let workloads: Vec<_> = parts.filter(|p| names.insert(&p.workload)).map(|p| plan(program, p)).collect();
    let mut environments: Vec<EnvironmentPlan> = Vec::new();
    for block in blocks {
        if !environments.iter().any(|e| e.name == block.environment) {
            environments.push(environment(block));
        }
    }
    let baseline = environments.first().context("no file was named")?.name.clone();
    let run = Run {
        id,
        started,
        suite: format!("import {program}"),
        suite_toml: format!("# imported from {program}'s output: there is no suite\n"),
        seed: 0,
        blocks: 0,
        rounds: 1,
        baseline,
        command,
        binary_sha256: "unknown".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        labels: BTreeMap::new(),
        host: host(program, blocks),
        nested: None,
        workloads,
        environments,
        pinning: format!("unknown: {program} measured"),
    };
    Ok(Stored {
        run,
        ending: Ending::Complete,
        seconds: Some(blocks.iter().map(|b| b.output.seconds).sum()).filter(|seconds| *seconds > 0.0),
        stopped: None,
        starts: Vec::new(),
        records: Vec::new(),
        voids: Vec::new(),
        checks: Vec::new(),
    })
}

/// The words that import the same again; what came from a pipe is gone, and stands there as something to be put in its place.
pub fn words(program: Program, files: &[Named]) -> Vec<String> {
    let option: &[&str] = match program {
        Program::Hdr(Some(unit)) => &["--unit", unit.name()],
        Program::Fio(JobNames::Short) => &["--short-names"],
        _ => &[],
    };
    let named = files.iter().map(|n| match n.path.to_str() {
        Some("-") => format!("{}=FILE", n.name),
        _ => format!("{}={}", n.name, n.path.display()),
    });
    let words = ["tarebench", "import", program.name()].into_iter().chain(option.iter().copied()).map(String::from);
    words.chain(named).collect()
}

/// What is to be said behind these words where a file came from a pipe.
pub fn gone(files: &[Named]) -> &'static str {
    let piped = files.iter().any(|n| n.path == Path::new("-"));
    if piped { "  # FILE: what came from a pipe wasn't kept" } else { "" }
}

fn plan(program: &str, part: &Part) -> WorkloadPlan {
    WorkloadPlan {
        name: part.workload.clone(),
        kind: program.into(),
        about: part.about.clone(),
        settings: part.options.clone(),
        resource: part.resource,
        durable: part.durable,
        direct: part.direct,
        streams: part.streams,
        paced: part.paced,
    }
}

fn environment(block: &Block) -> EnvironmentPlan {
    EnvironmentPlan {
        name: block.environment.into(),
        runner: "imported".into(),
        settings: BTreeMap::new(),
        version: Some(block.output.version.clone()),
        skipped: None,
        network: Network::Unknown,
        data: DataFacts::default(),
        emulated: None,
        sandbox: Default::default(),
        unequal: None,
        quota: None,
        data_path: block.output.place.clone().unwrap_or_else(|| "unknown".into()),
        programs: Vec::new(),
        neighbour: None,
    }
}

/// Facts of the program and of its host, block by block.
fn host(program: &str, blocks: &[Block]) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    for Block { environment, number, output } in blocks {
        let mut fact = |what: &str, value: String| {
            facts.push((format!("{environment} block {}: {what}", number + 1), value));
        };
        fact(program, output.version.clone());
        if !output.hosts.is_empty() {
            fact("hosts", output.hosts.join(", "));
        }
        for (what, value) in [("time", &output.time), ("options", &output.command)] {
            if let Some(value) = value {
                fact(what, value.clone());
            }
        }
        if !output.left_out.is_empty() {
            fact("left out", output.left_out.join("; "));
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_the_unit_and_says_what_is_gone() {
        let files = ["a=x.hlog", "b=-"].map(|text| Named::parse(text).expect("fits"));
        let words = |program, files: &[Named]| words(program, files).join(" ");
        assert_eq!(words(Program::Hdr(Some(Unit::Us)), &files[..1]), "tarebench import hdr --unit us a=x.hlog");
        let fio = |names| words(Program::Fio(names), &files);
        assert_eq!(fio(JobNames::Whole), "tarebench import fio a=x.hlog b=FILE");
        assert_eq!(fio(JobNames::Short), "tarebench import fio --short-names a=x.hlog b=FILE");
        assert!(gone(&files).starts_with("  # FILE: what came from a pipe") && gone(&files[..1]).is_empty());
    }

    #[test]
    fn a_file_is_named_by_its_stem_or_by_hand() {
        let of = |text: &str| Named::parse(text).map(|n| (n.name, n.path.display().to_string()));
        assert_eq!(of("some/where/bare.json").expect("fits"), ("bare".into(), "some/where/bare.json".into()));
        assert_eq!(of("runc=a b.json").expect("fits"), ("runc".into(), "a b.json".into()));
        assert_eq!(of("-").expect("fits"), ("stdin".into(), "-".into()));
        assert_eq!(of("runc=-").expect("fits"), ("runc".into(), "-".into()));
        assert!(of("a b.json").expect_err("a blank").to_string().contains("write NAME=a b.json"));
        assert!(of("=x.json").is_err());
    }
}
