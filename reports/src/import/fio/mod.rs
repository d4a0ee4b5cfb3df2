//! fio's `json` and `json+` output: from jobs to samples with histograms.
//!
//! fio 3 counts latencies in bins of up to 1.6 % width and prints them in `json+`; `json` has only percentiles of them. What
//! comes from a file may be damaged or impossible: damage is an error that names the place, the impossible is imported and
//! becomes a flag, since people want to see it in the report.

mod sum;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};
use workloads::protocol::Sample;

use crate::record::{Failure, Step};
use sum::Sum;

/// Larger files are no output of one fio: `json+` of a hundred jobs has a few megabytes.
const LARGEST: u64 = 256 << 20;

/// One file.
#[derive(Debug, Clone)]
pub struct Output {
    /// `fio-3.33`.
    pub version: String,
    /// When fio ended, in its own words.
    pub time: Option<String>,
    /// Name of the host, where fio measured on another one.
    pub hostname: Option<String>,
    /// Files or directory that were worked on, as given.
    pub place: Option<String>,
    /// Options as they were given, of all jobs.
    pub command: Option<String>,
    /// Time of the longest job.
    pub seconds: f64,
    /// Jobs by name and direction.
    pub parts: Vec<Part>,
}

/// A job in one direction.
#[derive(Debug, Clone)]
pub struct Part {
    /// `fio/<job>-<direction>`.
    pub workload: String,
    /// Name of the job.
    pub job: String,
    /// `read`, `write`, `sync` or `trim`.
    pub direction: &'static str,
    /// Options of fio that hold for the job.
    pub options: BTreeMap<String, String>,
    /// The sample, or fio's error.
    pub outcome: Result<Sample, Failure>,
    /// Doubts about it, by the name of the flag.
    pub facts: BTreeMap<String, String>,
}

const DIRECTIONS: [&str; 4] = ["read", "write", "sync", "trim"];

/// Reads a file.
///
/// # Errors
/// When it can't be read, isn't fio's JSON, is cut off, has no jobs, or lacks a number or has one that can't be.
pub fn read(path: &Path) -> anyhow::Result<Output> {
    let about = std::fs::metadata(path).context("it can't be read")?;
    ensure!(about.is_file(), "it is not a file");
    ensure!(
        about.len() <= LARGEST,
        "it has {} MiB: more than {} MiB is not the output of one fio",
        about.len() >> 20,
        LARGEST >> 20
    );
    let bytes = std::fs::read(path).context("it can't be read")?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Output> {
    let text = std::str::from_utf8(bytes).context("it is not text: use fio's --output-format=json or json+")?;
    let root = document(text)?;
    let version = root.get("fio version").and_then(Value::as_str);
    let version = version.context("it has no `fio version`: it is JSON, but not fio's")?.to_string();
    let global = options(root.get("global options"));
    let jobs = jobs(&root)?;
    let text = |name: &str| root.get(name).and_then(Value::as_str).map(|s| s.trim().to_string());
    let mut output = Output {
        version,
        time: text("time"),
        hostname: jobs.iter().find_map(|job| job.get("hostname")?.as_str()).map(str::to_string),
        place: None,
        command: None,
        seconds: 0.0,
        parts: Vec::new(),
    };
    let mut named: Vec<(String, Vec<Job>)> = Vec::new();
    let mut told: Vec<String> = Vec::new();
    for (nth, job) in jobs.into_iter().enumerate() {
        let name = job.get("jobname").and_then(Value::as_str);
        let name = name.with_context(|| format!("job {} has no `jobname`", nth + 1))?.to_string();
        let mut all = global.clone();
        all.extend(options(job.get("job options")));
        let line = all.iter().map(|(k, v)| if v.is_empty() { format!("--{k}") } else { format!("--{k}={v}") });
        let line = line.collect::<Vec<_>>().join(" ");
        if !line.is_empty() && !told.contains(&line) {
            told.push(line);
        }
        output.place = output.place.or_else(|| all.get("filename").or_else(|| all.get("directory")).cloned());
        let job = Job { fields: job, options: all };
        output.seconds = output.seconds.max(job.fields.get("elapsed").and_then(Value::as_f64).unwrap_or(0.0));
        match named.iter_mut().find(|(other, _)| *other == name) {
            Some((_, same)) => same.push(job),
            None => named.push((name, vec![job])),
        }
    }
    output.command = (!told.is_empty()).then(|| told.join("; "));
    for (name, same) in &named {
        let parts = parts(name, same).with_context(|| format!("job `{name}`"))?;
        output.parts.extend(parts);
    }
    ensure!(!output.parts.is_empty(), "none of its {} jobs did any I/O", named.len());
    Ok(output)
}

/// The last complete JSON object: fio prints messages before it, and with `--status-interval` several, each with all there is
/// so far.
fn document(text: &str) -> anyhow::Result<Map<String, Value>> {
    let mut lines = text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    let start = lines.find(|(_, line)| line.trim_start().starts_with('{')).map(|(start, _)| start);
    let start =
        start.or_else(|| text.find('{')).context("there is no JSON in it: use fio's --output-format=json or json+")?;
    let mut last = None;
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Map<String, Value>>();
    loop {
        match values.next() {
            Some(Ok(value)) => last = Some(value),
            Some(Err(e)) if e.is_eof() => bail!("it is cut off in the middle: the JSON doesn't end"),
            Some(Err(e)) if last.is_none() => {
                return Err(e).context("it is not JSON (line and column count from its first brace)");
            }
            // Words after the end.
            Some(Err(_)) | None => return last.context("there is no JSON in it"),
        }
    }
}

/// The jobs; of a server's several clients those of each, and not their sum.
fn jobs(root: &Map<String, Value>) -> anyhow::Result<Vec<Map<String, Value>>> {
    let list = ["jobs", "client_stats"].into_iter().find_map(|key| root.get(key)?.as_array().filter(|l| !l.is_empty()));
    let list = list.context("it has no jobs: fio measured nothing")?;
    let mut jobs = Vec::new();
    for job in list {
        let job = job.as_object().context("a job in it is not an object")?;
        if job.get("jobname").and_then(Value::as_str) != Some("All clients") {
            jobs.push(job.clone());
        }
    }
    Ok(jobs)
}

fn options(value: Option<&Value>) -> BTreeMap<String, String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    value.and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect()
}

/// A job as fio wrote it.
#[derive(Debug)]
struct Job {
    fields: Map<String, Value>,
    options: BTreeMap<String, String>,
}

impl Job {
    fn option(&self, name: &str) -> u64 {
        self.options.get(name).and_then(|v| v.parse().ok()).unwrap_or(1).max(1)
    }
}

/// All directions of the jobs of one name that did something, or that were to and failed.
fn parts(name: &str, jobs: &[Job]) -> anyhow::Result<Vec<Part>> {
    let failed = jobs.iter().find_map(|j| j.fields.get("error")?.as_i64().filter(|e| *e != 0));
    let mut parts = Vec::new();
    for direction in DIRECTIONS {
        let mut sum = Sum::default();
        for job in jobs {
            // Old versions have no `sync`, and some engines no `trim`.
            let Some(fields) = job.fields.get(direction) else { continue };
            let fields = fields.as_object().with_context(|| format!("`{direction}` is not an object"))?;
            sum.add(direction, &job.fields, fields).with_context(|| format!("`{direction}`"))?;
        }
        let meant = failed.is_some() && direction != "sync" && asked(jobs, direction);
        if sum.operations == 0 && !meant {
            continue;
        }
        // With group_reporting one entry stands for all jobs; without, each has its own.
        let several = jobs.first().map_or(1, |j| j.option("numjobs")).max(jobs.len() as u64);
        let depth = jobs.first().map_or(1, |j| j.option("iodepth"));
        let concurrency = several.saturating_mul(depth).min(1 << 20) as u32;
        let (outcome, facts) = match failed {
            Some(error) => {
                let message = format!(
                    "fio ended this job with error {error} ({})",
                    std::io::Error::from_raw_os_error(error as i32)
                );
                (Err(Failure { step: Step::Burst, message }), BTreeMap::new())
            }
            None => (Ok(sum.sample(concurrency)?), sum.facts(concurrency)),
        };
        parts.push(Part {
            workload: format!("fio/{name}-{direction}"),
            job: name.to_string(),
            direction,
            options: jobs.first().map(|j| j.options.clone()).unwrap_or_default(),
            outcome,
            facts,
        });
    }
    Ok(parts)
}

/// Whether a job was to work in this direction.
fn asked(jobs: &[Job], direction: &str) -> bool {
    let rw = jobs
        .first()
        .and_then(|j| j.options.get("rw").or_else(|| j.options.get("readwrite")))
        .map_or("read", String::as_str);
    match direction {
        "read" => rw.contains("read") || rw.contains("rw"),
        "write" => rw.contains("write") || rw.contains("rw"),
        _ => rw.contains(direction),
    }
}

#[cfg(test)]
mod tests;
