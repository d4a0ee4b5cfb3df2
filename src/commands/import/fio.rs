//! fio's `json` and `json+` output, read: from jobs to samples with histograms.
//!
//! fio 3 counts latencies in bins of up to 1.6 % width and prints them in `json+`; `json` has only percentiles of them. What
//! comes from a file may be damaged or impossible: damage is an error that names the place, the impossible is imported and
//! becomes a flag, since people want to see it in the report.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use reports::record::{Failure, Step};
use serde_json::{Map, Value};
use workloads::protocol::Sample;
use workloads::stopwatch::HIGHEST_NS;

/// Larger files are no output of one fio: `json+` of a hundred jobs has a few megabytes.
const LARGEST: u64 = 256 << 20;

/// Latencies between two percentiles are spread over so many steps at most.
const STEPS: u64 = 64;

/// fio's bins are a 64th of an octave wide, and a percentile is the middle of one: it may lie so much above the largest latency.
const BIN: f64 = 1.0 / 64.0;

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
    /// What was measured, or fio's error.
    pub outcome: Result<Sample, Failure>,
    /// What speaks against it, by the name of the flag.
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
            sum.add(direction, job, fields).with_context(|| format!("`{direction}`"))?;
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

/// One direction of all jobs of a name, added up.
#[derive(Debug)]
struct Sum {
    histogram: Histogram<u64>,
    operations: u64,
    bytes: u64,
    /// Of the longest job, milliseconds: they ran side by side.
    runtime_ms: u64,
    /// fio's own sum of latencies, nanoseconds.
    latencies: f64,
    /// Largest latency, nanoseconds.
    longest: u64,
    exact: bool,
    zeros: u64,
    /// The first thing that can't be, in words.
    falls: Option<String>,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit"),
            operations: 0,
            bytes: 0,
            runtime_ms: 0,
            latencies: 0.0,
            longest: 0,
            exact: true,
            zeros: 0,
            falls: None,
        }
    }
}

impl Sum {
    fn add(&mut self, direction: &str, job: &Job, fields: &Map<String, Value>) -> anyhow::Result<()> {
        let operations = count(fields, "total_ios")?;
        if operations == 0 {
            return Ok(());
        }
        // What is flushed moves no bytes and has no runtime of its own.
        let (key, bytes, runtime) = match direction {
            "sync" => ("lat_ns", 0, longest(job)?),
            _ => ("clat_ns", count(fields, "io_bytes")?, count(fields, "runtime")?),
        };
        let old = if key == "clat_ns" && fields.contains_key("clat") { ": this fio is older than 3.0" } else { "" };
        let latency = fields.get(key).with_context(|| format!("`{key}` is missing{old}"))?;
        let latency = latency.as_object().with_context(|| format!("`{key}` is not an object"))?;
        ensure!(runtime > 0, "{operations} operations in a `runtime` of 0 ms: give the job more time");
        self.latency(latency, operations).with_context(|| format!("`{key}`"))?;
        self.operations += operations;
        self.bytes = self.bytes.saturating_add(bytes);
        self.runtime_ms = self.runtime_ms.max(runtime);
        Ok(())
    }

    fn latency(&mut self, fields: &Map<String, Value>, operations: u64) -> anyhow::Result<()> {
        let n = if fields.contains_key("N") { count(fields, "N")? } else { operations };
        ensure!(n > 0, "no latency was counted: fio ran with disable_clat=1");
        let (min, max, mean) = (count(fields, "min")?, count(fields, "max")?, number(fields, "mean")?);
        self.latencies += mean * operations as f64;
        self.longest = self.longest.max(max);
        if min > max || mean > max as f64 * 1.001 + 1.0 || mean < min as f64 * 0.999 - 1.0 {
            self.impossible(format!("smallest {min} ns, mean {mean:.0} ns, largest {max} ns"));
        }
        let bins = fields.get("bins").map(|bins| entries(bins, "bins")).transpose()?;
        match bins.filter(|bins| !bins.is_empty()) {
            Some(bins) => self.bins(&bins, min, max),
            None => {
                let percentiles = fields.get("percentile").with_context(|| {
                    format!(
                        "neither `bins` nor `percentile` of {operations} operations: fio ran with clat_percentiles=0"
                    )
                })?;
                let percentiles = entries(percentiles, "percentile")?;
                self.percentiles(&percentiles, n, min, max)
            }
        }
    }

    /// Bins as fio counts them. A bin's value is its middle; the smallest and the largest latency are known exactly.
    fn bins(&mut self, bins: &[(f64, u64)], min: u64, max: u64) -> anyhow::Result<()> {
        let last = bins.iter().rposition(|(_, count)| *count > 0);
        let first = bins.iter().position(|(_, count)| *count > 0);
        for (i, (value, count)) in bins.iter().enumerate() {
            ensure!(value.fract() == 0.0, "the bin {value} is not a number of nanoseconds");
            let value = if min <= max { (*value as u64).clamp(min, max) } else { *value as u64 };
            let mut left = *count;
            for (end, exact) in [(first, min), (last, max)] {
                if end == Some(i) && left > 0 {
                    self.record(exact, 1);
                    left -= 1;
                }
            }
            self.record(value, left);
        }
        Ok(())
    }

    /// Percentiles only: between two of them latencies are spread evenly on a logarithmic scale, and at each of them the
    /// histogram has the value that fio has.
    fn percentiles(&mut self, percentiles: &[(f64, u64)], n: u64, min: u64, max: u64) -> anyhow::Result<()> {
        ensure!(!percentiles.is_empty(), "`percentile` is empty");
        self.exact = false;
        let all = percentiles.windows(2).find(|two| two[1].1 < two[0].1);
        if let Some([a, b]) = all {
            self.impossible(format!("p{} is {} ns and p{} is {} ns", a.0, a.1, b.0, b.1));
        }
        if let Some((p, value)) = percentiles.last().filter(|(_, value)| *value as f64 > max as f64 * (1.0 + BIN) + 1.0)
        {
            self.impossible(format!("p{p} is {value} ns and the largest latency is {max} ns"));
        }
        let (mut rank, mut from) = (0, min);
        for (percentile, value) in percentiles.iter().copied().chain([(100.0, max)]) {
            ensure!((0.0..=100.0).contains(&percentile), "there is no percentile {percentile}");
            // As fio counts: the first bin with at least this share of the operations up to its end.
            let until = ((percentile / 100.0 * n as f64).ceil() as u64).clamp(rank, n);
            self.spread(from, value, until - rank);
            (rank, from) = (until, value);
        }
        Ok(())
    }

    /// So many latencies between two values, the last of them at the upper one.
    fn spread(&mut self, from: u64, to: u64, count: u64) {
        let steps = count.min(STEPS);
        let ratio = (to.max(1) as f64 / from.max(1) as f64).ln();
        for step in 1..=steps {
            // The same number in each step but for a remainder, which goes to the last.
            let each = if step == steps { count - count / steps * (steps - 1) } else { count / steps };
            let value = if step == steps {
                to
            } else {
                (from.max(1) as f64 * (ratio * step as f64 / steps as f64).exp()) as u64
            };
            self.record(value, each);
        }
    }

    fn record(&mut self, value: u64, count: u64) {
        if value == 0 {
            self.zeros += count;
        }
        self.histogram.saturating_record_n(value.clamp(1, HIGHEST_NS), count);
    }

    fn impossible(&mut self, what: String) {
        self.falls.get_or_insert(what);
    }

    fn sample(&self, concurrency: u32) -> anyhow::Result<Sample> {
        let mut histogram = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.histogram, &mut histogram)
            .map_err(|e| anyhow::anyhow!("can't serialize a histogram: {e:?}"))?;
        Ok(Sample {
            operations: self.operations,
            bytes: self.bytes,
            elapsed_ns: self.elapsed_ns(),
            batch: 1,
            histogram,
            concurrency,
            ..Sample::default()
        })
    }

    fn elapsed_ns(&self) -> u64 {
        self.runtime_ms.saturating_mul(1_000_000)
    }

    /// What speaks against the data, by the name of the flag.
    fn facts(&self, concurrency: u32) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, evidence: String| facts.insert(name.to_string(), evidence);
        // fio's runtime is in whole milliseconds.
        let wall = (self.elapsed_ns() + 1_000_000) as f64;
        if let Some(what) = &self.falls {
            fact("percentiles-not-monotonic", what.clone());
        }
        if self.zeros > 0 {
            let all = self.histogram.len();
            fact("zero-latency", format!("{} of {all} operations took 0 ns", self.zeros));
        }
        if self.longest as f64 > wall {
            let evidence =
                format!("an operation of {:.3} s in a job of {:.3} s", self.longest as f64 / 1e9, wall / 1e9);
            fact("clock-jump", evidence);
        }
        // As many as are in flight may have begun before the ramp ended: one latency each.
        let room = f64::from(concurrency) * (wall + self.latencies / self.operations.max(1) as f64);
        if self.latencies > 1.05 * room {
            let evidence = format!(
                "the latencies add up to {:.3} s within {:.3} s with {concurrency} operations in flight",
                self.latencies / 1e9,
                wall / 1e9
            );
            fact("latency-sum", evidence);
        }
        if !self.exact {
            let (own, fios) = (self.histogram.mean(), self.latencies / self.operations.max(1) as f64);
            let evidence = format!(
                "the file has percentiles and no bins: what lies between them is spread evenly, the mean is {:.1} us where fio has {:.1} us; json+ has bins",
                own / 1e3,
                fios / 1e3
            );
            fact("from-percentiles", evidence);
        }
        facts
    }
}

/// How long the job ran in any direction, milliseconds.
fn longest(job: &Job) -> anyhow::Result<u64> {
    let of = |direction: &str| job.fields.get(direction).and_then(|f| f.get("runtime")?.as_u64());
    let longest = ["read", "write", "trim"].into_iter().filter_map(of).max().filter(|ms| *ms > 0);
    longest.context("no direction of the job has a `runtime`")
}

fn number(fields: &Map<String, Value>, name: &str) -> anyhow::Result<f64> {
    let value = fields.get(name).with_context(|| format!("`{name}` is missing"))?;
    let number = value.as_f64().with_context(|| format!("`{name}` is {value}, not a number"))?;
    ensure!(number.is_finite() && number >= 0.0, "`{name}` is {value}: it can't be below 0");
    Ok(number)
}

fn count(fields: &Map<String, Value>, name: &str) -> anyhow::Result<u64> {
    whole(fields.get(name).with_context(|| format!("`{name}` is missing"))?, name)
}

fn whole(value: &Value, name: &str) -> anyhow::Result<u64> {
    if let Some(n) = value.as_u64() {
        return Ok(n);
    }
    match value.as_f64() {
        Some(n) if n < 0.0 => bail!("`{name}` is {value}: it can't be below 0"),
        Some(n) if n.fract() == 0.0 && n < 9e15 => Ok(n as u64),
        _ => bail!("`{name}` is {value}, not a whole number"),
    }
}

/// Numbers by number, in order of the keys.
fn entries(value: &Value, name: &str) -> anyhow::Result<Vec<(f64, u64)>> {
    let fields = value.as_object().with_context(|| format!("`{name}` is not an object"))?;
    let mut entries = Vec::new();
    for (key, value) in fields {
        let number = key.parse::<f64>().ok().filter(|k| k.is_finite() && *k >= 0.0);
        let number = number.with_context(|| format!("`{key}` in `{name}` is not a number from 0"))?;
        entries.push((number, whole(value, &format!("{name}.{key}"))?));
    }
    entries.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of one job that reads, with this latency.
    fn file(latency: &str) -> String {
        format!(
            r#"{{"fio version": "fio-3.33", "jobs": [{{"jobname": "j", "error": 0, "elapsed": 2, "job options": {{"rw": "randread"}},
            "read": {{"total_ios": 1000, "io_bytes": 4096000, "runtime": 1000, "clat_ns": {latency}}}}}]}}"#
        )
    }

    const PERCENTILES: &str = r#"{"min": 100, "max": 9000, "mean": 1000.0, "N": 1000,
        "percentile": {"1.000000": 110, "50.000000": 800, "99.000000": 4000}}"#;

    fn one(latency: &str) -> Part {
        parse(file(latency).as_bytes()).expect("reads").parts.remove(0)
    }

    fn histogram(part: &Part) -> Histogram<u64> {
        let sample = part.outcome.as_ref().expect("a sample");
        let mut bytes = sample.histogram.as_slice();
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes).expect("reads back")
    }

    fn refused(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).expect_err("refused"))
    }

    #[test]
    fn percentiles_come_back_as_they_were() {
        let part = one(PERCENTILES);
        let histogram = histogram(&part);
        assert_eq!(histogram.len(), 1000);
        for (quantile, value) in [(0.01, 110), (0.5, 800), (0.99, 4000), (1.0, 9000)] {
            assert!(histogram.equivalent(histogram.value_at_quantile(quantile), value), "{quantile}");
        }
        assert!(part.facts["from-percentiles"].contains("fio has 1.0 us"), "{:?}", part.facts);
        assert_eq!(part.facts.len(), 1);
    }

    #[test]
    fn bins_are_exact_and_so_are_both_ends() {
        let part = one(
            r#"{"min": 101, "max": 8999, "mean": 1000.0, "N": 1000, "bins": {"102": 900, "4000": 90, "9000": 10}}"#,
        );
        let histogram = histogram(&part);
        assert_eq!((histogram.len(), histogram.min()), (1000, 101));
        assert!(
            histogram.equivalent(histogram.max(), 8999)
                && histogram.equivalent(histogram.value_at_quantile(0.95), 4000)
        );
        assert!(part.facts.is_empty(), "{:?}", part.facts);
    }

    #[test]
    fn the_impossible_is_imported_and_named() {
        let falling = one(&PERCENTILES.replace("4000", "700"));
        assert_eq!(falling.facts["percentiles-not-monotonic"], "p50 is 800 ns and p99 is 700 ns");
        let zero = one(r#"{"min": 0, "max": 90, "mean": 9.0, "N": 1000, "bins": {"0": 900, "90": 100}}"#);
        assert_eq!(zero.facts["zero-latency"], "900 of 1000 operations took 0 ns");
        let jump =
            one(r#"{"min": 10, "max": 7000000000, "mean": 500000.0, "N": 1000, "bins": {"10": 999, "7000000000": 1}}"#);
        assert_eq!(jump.facts["clock-jump"], "an operation of 7.000 s in a job of 1.001 s");
        let sum = one(r#"{"min": 10, "max": 5000000, "mean": 4000000.0, "N": 1000, "bins": {"4000000": 1000}}"#);
        assert!(
            sum.facts["latency-sum"].starts_with("the latencies add up to 4.000 s within 1.001 s"),
            "{:?}",
            sum.facts
        );
    }

    #[test]
    fn what_is_damaged_is_refused_with_the_place() {
        let good = file(PERCENTILES);
        assert!(refused("fio: nothing").contains("no JSON"));
        assert!(refused(&good[..good.len() / 2]).contains("cut off"));
        assert!(refused("{]").contains("not JSON"));
        assert!(refused(r#"{"a": 1}"#).contains("not fio's"));
        assert!(refused(r#"{"fio version": "fio-3.33", "jobs": []}"#).contains("no jobs"));
        assert!(refused(&good.replace("\"jobname\"", "\"name\"")).contains("job 1 has no `jobname`"));
        assert!(
            refused(&good.replace("total_ios\": 1000", "total_ios\": -5"))
                .contains("job `j`: `read`: `total_ios` is -5")
        );
        assert!(refused(&good.replace("\"total_ios\": 1000,", "")).contains("`total_ios` is missing"));
        assert!(refused(&good.replace("\"mean\": 1000.0", "\"mean\": -1.0")).contains("`clat_ns`: `mean` is -1.0"));
        assert!(refused(&good.replace("\"800\"", "x").replace(": 800", ": \"x\"")).contains("percentile.50.000000"));
        assert!(refused(&good.replace("clat_ns", "clat")).contains("older than 3.0"));
        assert!(
            refused(&good.replace("total_ios\": 1000", "total_ios\": 0")).contains("none of its 1 jobs did any I/O")
        );
        assert!(refused(&good.replace("runtime\": 1000", "runtime\": 0")).contains("0 ms"));
    }

    #[test]
    fn words_around_the_json_and_reports_in_between_do_no_harm() {
        let good = file(PERCENTILES);
        let early = good.replace("total_ios\": 1000", "total_ios\": 400");
        let text = format!("fio: {{odd}} words\n{early}\n{good}\nfio: that was all\n");
        let part = parse(text.as_bytes()).expect("reads").parts.remove(0);
        assert_eq!(part.outcome.expect("a sample").operations, 1000);
    }

    #[test]
    fn jobs_of_a_name_are_one_and_a_failed_one_is_a_failure() {
        let good = file(PERCENTILES);
        let job = good[good.find("[{").expect("jobs") + 1..good.len() - 2].to_string();
        let two = good.replace(&job, &format!("{job}, {job}"));
        let part = parse(two.as_bytes()).expect("reads").parts.remove(0);
        assert_eq!(histogram(&part).len(), 2000);
        let sample = part.outcome.expect("a sample");
        assert_eq!((sample.operations, sample.concurrency, sample.elapsed_ns), (2000, 2, 1_000_000_000));
        let failed = parse(good.replace("\"error\": 0", "\"error\": 28").as_bytes()).expect("reads").parts.remove(0);
        assert!(failed.outcome.expect_err("a failure").message.contains("No space left"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_change_of_a_byte_makes_it_panic(at in 0_usize..300, byte in any::<u8>()) {
            let mut bytes = file(PERCENTILES).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&bytes);
        }

        #[test]
        fn no_operation_is_lost_between_percentiles(n in 1_u64..100_000, values in prop::collection::vec(0_u64..1_000_000, 1..8)) {
            let list: Vec<(f64, u64)> = values.iter().enumerate().map(|(i, v)| (100.0 * (i + 1) as f64 / (values.len() + 1) as f64, *v)).collect();
            let mut sum = Sum::default();
            sum.percentiles(&list, n, 1, 1_000_000).expect("valid");
            prop_assert_eq!(sum.histogram.len(), n);
        }
    }
}
