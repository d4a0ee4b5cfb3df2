//! The latencies of jobs, added up into one histogram, and what speaks against them.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Map, Value};
use workloads::protocol::Sample;
use workloads::stopwatch::HIGHEST_NS;

/// Latencies between two percentiles are spread over so many steps at most.
const STEPS: u64 = 64;

/// fio's bins are a 64th of an octave wide, and a percentile is the middle of one: it may lie so much above the largest latency.
const BIN: f64 = 1.0 / 64.0;

/// One direction of all jobs of a name, added up.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) histogram: Histogram<u64>,
    pub(super) operations: u64,
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
    /// Adds what a job says of one direction; `job` is all that it says.
    pub(super) fn add(
        &mut self,
        direction: &str,
        job: &Map<String, Value>,
        fields: &Map<String, Value>,
    ) -> anyhow::Result<()> {
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
    pub(super) fn percentiles(&mut self, percentiles: &[(f64, u64)], n: u64, min: u64, max: u64) -> anyhow::Result<()> {
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

    pub(super) fn sample(&self, concurrency: u32) -> anyhow::Result<Sample> {
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

    /// Doubts about the data, by the name of the flag.
    pub(super) fn facts(&self, concurrency: u32) -> BTreeMap<String, String> {
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
fn longest(job: &Map<String, Value>) -> anyhow::Result<u64> {
    let of = |direction: &str| job.get(direction).and_then(|f| f.get("runtime")?.as_u64());
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
