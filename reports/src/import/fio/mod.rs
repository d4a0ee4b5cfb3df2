//! fio's `json` and `json+` output: from jobs to samples with histograms.
//!
//! fio 3 counts latencies in bins of up to 1.6 % width and prints them in `json+`; `json` has only percentiles of them. What
//! comes from a file may be damaged or impossible: damage is an error that names the place, the impossible is imported and
//! becomes a flag, since people want to see it in the report. What a file doesn't say is withheld.

mod job;
mod runs;
mod sum;

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use workloads::Resource;

use super::{JobNames, Output, Part, text};
use crate::record::{Failure, Step};
use crate::render::escape::one_line;
use job::Job;
use sum::Sum;

const DIRECTIONS: [&str; 5] = ["read", "write", "sync", "trim", "mixed"];

/// Characters of a job's name: whoever has more of them has no name.
const LONGEST_NAME: usize = 200;

/// The runs of fio in a text. Of the reports that fio prints while it runs, the last of each run.
///
/// # Errors
/// When it has no JSON of fio, is cut off, has no jobs, or lacks a number or has one that can't be.
pub(super) fn outputs(text: &str, names: JobNames) -> anyhow::Result<Vec<Output>> {
    let documents = text::documents(text, "fio version", "fio").context("use fio's --output-format=json or json+")?;
    runs::last_of_each(documents).into_iter().map(|root| output(root, names)).collect()
}

fn output(mut root: Map<String, Value>, names: JobNames) -> anyhow::Result<Output> {
    let jobs = jobs(&mut root)?;
    let version = root.get("fio version").and_then(Value::as_str).context("`fio version` is no text")?;
    let major_minor = numbers(version);
    if let Some((major, _)) = major_minor.filter(|(major, _)| *major < 3) {
        anyhow::bail!(
            "{} is older than 3.0, and fio {major} counts latencies another way: measure with a newer one",
            one_line(version)
        );
    }
    let global = options(root.get("global options"));
    let text = |name: &str| root.get(name).and_then(Value::as_str).map(one_line);
    let mut output = Output {
        version: one_line(version),
        time: text("time"),
        hosts: Vec::new(),
        place: None,
        command: None,
        seconds: 0.0,
        parts: Vec::new(),
        left_out: Vec::new(),
    };
    let mut named: Vec<(String, Vec<Job>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut told, mut seen, mut hosts) = (Vec::new(), HashSet::new(), HashSet::new());
    for (nth, fields) in jobs.into_iter().enumerate() {
        let name = fields.get("jobname").and_then(Value::as_str);
        let name = printable(name.with_context(|| format!("job {} has no `jobname`", nth + 1))?);
        ensure!(
            name.chars().count() <= LONGEST_NAME,
            "job {} has a name of {} characters: no more than {LONGEST_NAME} can be",
            nth + 1,
            name.chars().count()
        );
        let mut all = global.clone();
        all.extend(options(fields.get("job options")));
        let line = all.iter().map(|(k, v)| if v.is_empty() { format!("--{k}") } else { format!("--{k}={v}") });
        let line = line.collect::<Vec<_>>().join(" ");
        if !line.is_empty() && seen.insert(line.clone()) {
            told.push(line);
        }
        output.place = output.place.or_else(|| all.get("filename").or_else(|| all.get("directory")).cloned());
        let host = fields.get("hostname").and_then(Value::as_str).map(one_line);
        output.hosts.extend(host.filter(|host| hosts.insert(host.clone())));
        output.seconds = output.seconds.max(fields.get("elapsed").and_then(Value::as_f64).unwrap_or(0.0));
        let tells = root.contains_key("global options") || fields.contains_key("job options");
        let job = Job::new(fields, all, tells && major_minor.is_none_or(|version| version >= (3, 4)));
        let place = *places.entry(name.clone()).or_insert_with(|| {
            named.push((name, Vec::new()));
            named.len() - 1
        });
        named[place].1.push(job);
    }
    output.command = (!told.is_empty()).then(|| told.join("; "));
    let jobs = named.len();
    let left_away = match names {
        JobNames::Whole => 0,
        JobNames::Short => in_common(named.iter().map(|(name, _)| name.as_str())),
    };
    for (name, same) in &named {
        parts(&name[left_away..], same, &mut output).with_context(|| format!("job `{name}`"))?;
    }
    ensure!(
        !output.parts.is_empty(),
        "none of its {jobs} jobs has anything to import: {}",
        if output.left_out.is_empty() { "they did no I/O".to_string() } else { output.left_out.join("; ") }
    );
    Ok(output)
}

/// The name of a job with what can't be printed as Rust writes it (`\u{1b}`): two names are never the same one for that.
fn printable(name: &str) -> String {
    if one_line(name) == name && !name.contains('\\') { name.to_owned() } else { name.escape_debug().to_string() }
}

/// Bytes of the words that several names all begin with, so that something is left of each.
fn in_common<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> usize {
    let (Some(first), Some(second)) = (names.next(), names.next()) else { return 0 };
    let ends = |at: &usize| {
        std::iter::once(second).chain(names.clone()).all(|n| n.len() > *at && n.starts_with(&first[..*at]))
    };
    let words = first.match_indices(['-', '_', '.', '/', ' ']).map(|(at, _)| at + 1).filter(|at| *at < first.len());
    words.take_while(ends).last().unwrap_or(0)
}

/// Of `fio-3.33-12-gabc`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches("fio-").split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// The jobs; of a server's several clients those of each, and not their sum.
fn jobs(root: &mut Map<String, Value>) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut list = |key: &str| match root.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let (own, clients) = (list("jobs"), list("client_stats"));
    let sum = |job: &Value| job.get("jobname").and_then(Value::as_str) == Some("All clients");
    let jobs = if own.is_empty() { clients.into_iter().filter(|job| !sum(job)).collect() } else { own };
    ensure!(!jobs.is_empty(), "it has no jobs: fio measured nothing");
    let object = |job| match job {
        Value::Object(fields) => Ok(fields),
        _ => Err(anyhow::anyhow!("a job in it is not an object")),
    };
    jobs.into_iter().map(object).collect()
}

fn options(value: Option<&Value>) -> BTreeMap<String, String> {
    let text = |v: &Value| one_line(&v.as_str().map_or_else(|| v.to_string(), str::to_string));
    value.and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (one_line(k), text(v))).collect()
}

/// All directions of the jobs of one name that did something, or that were to and failed.
fn parts(name: &str, jobs: &[Job], output: &mut Output) -> anyhow::Result<()> {
    let Some(first) = jobs.first() else { return Ok(()) };
    let failed = jobs.iter().find_map(Job::error);
    let phases = job::phases(jobs);
    let unequal = unequal(jobs);
    for direction in DIRECTIONS {
        let part = |outcome, facts| Part {
            workload: format!("fio/{name}-{direction}"),
            about: format!("Measured by fio: {direction} of job {name}, completion latency"),
            options: first.options.clone(),
            resource: Resource::Disk,
            durable: direction == "sync" || direction == "write" && first.synchronous(),
            direct: first.direct(),
            streams: false,
            paced: false,
            outcome,
            facts,
        };
        if let Some(error) = failed {
            let tried = jobs.iter().any(|job| job.operations(direction) > 0);
            if tried || direction != "sync" && first.asks(direction) {
                let error = std::io::Error::from_raw_os_error(error as i32);
                let message = format!("fio ended this job with error {} ({error})", error.raw_os_error().unwrap_or(0));
                output.parts.push(part(Err(Failure { step: Step::Burst, message }), BTreeMap::new()));
            }
            continue;
        }
        let mut sum = Sum::default();
        for phase in &phases {
            sum.phase(direction, phase).with_context(|| format!("`{direction}`"))?;
        }
        if sum.too_short > 0 {
            let what =
                format!("{direction} of job `{name}` is left out: {} operations in a `runtime` of 0 ms", sum.too_short);
            output.left_out.push(what);
        }
        if sum.operations > 0 {
            let facts = sum.facts().into_iter().chain(unequal.clone()).collect();
            output.parts.push(part(Ok(sum.sample()?), facts));
        }
    }
    for job in jobs {
        for (direction, operations) in job.others() {
            let what = format!(
                "{operations} operations of `{}` in job `{name}`: not a direction that is known",
                one_line(direction)
            );
            output.left_out.push(what);
        }
    }
    Ok(())
}

/// Jobs of one name that were told to do different things are one workload by their name only.
fn unequal(jobs: &[Job]) -> Option<(String, String)> {
    let (first, rest) = jobs.split_first()?;
    let other = rest.iter().find(|job| job.options != first.options)?;
    let differing = crate::comparison::unequal_options(&first.options, &other.options);
    let evidence = format!("jobs of this name were given different options: {}", differing?);
    Some(("mixed-options".into(), evidence))
}

#[cfg(test)]
mod tests;
