//! The latencies of jobs, added up into one histogram, and what speaks against them.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};
use workloads::protocol::Sample;

use super::job::Job;
use crate::comparison::Stated;
use crate::import::spread::{Spread, pack};

/// fio's bins end here, nanoseconds: in the last one is everything that is longer.
const FIO_HIGHEST_NS: u64 = 1 << 34;

/// Bins may lack one in so many latencies: fio prints a report while jobs go on counting.
const LACK: u64 = 1000;

/// One direction of all jobs of a name, added up.
#[derive(Debug)]
pub(super) struct Sum {
    spread: Spread,
    pub(super) operations: u64,
    /// Operations of jobs that took no time.
    pub(super) too_short: u64,
    bytes: u64,
    /// Of the longest job of each phase, milliseconds: within a phase they ran side by side.
    runtime_ms: u64,
    /// Operations that were in flight at a time, at most; `None` where the file doesn't say it.
    in_flight: Option<u64>,
    stated: Stated,
    /// Jobs of which there are bins.
    exact: bool,
    /// Why there are no latencies.
    absent: Option<String>,
    /// The latencies are total ones, submission included.
    total: bool,
    /// Latencies of which bins were printed, and how many of them are in a bin.
    binned: (u64, u64),
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            spread: Spread::default(),
            operations: 0,
            too_short: 0,
            bytes: 0,
            runtime_ms: 0,
            in_flight: Some(0),
            stated: Stated { latencies: 0, sum_ns: 0.0, longest_ns: 0, percentiles: None },
            exact: true,
            absent: None,
            total: false,
            binned: (0, 0),
        }
    }
}

/// What fio says of the latencies of a job in one direction.
enum Told<'a> {
    /// Bins or percentiles, of completion or (`total`) from submission on.
    Spread { fields: &'a Map<String, Value>, key: &'static str, total: bool },
    /// Mean, smallest and largest.
    Moments { fields: &'a Map<String, Value>, key: &'static str },
    /// Nothing, and why.
    Nothing(&'static str),
}

impl Sum {
    /// Adds what jobs that ran side by side say of one direction.
    pub(super) fn phase(&mut self, direction: &str, jobs: &[&Job]) -> anyhow::Result<()> {
        let (mut longest, mut in_flight) = (0, Some(0_u64));
        for job in jobs {
            // Old versions have no `sync`, and some engines no `trim`.
            let Some(fields) = job.fields.get(direction) else { continue };
            let fields = fields.as_object().context("it is not an object")?;
            let runtime = self.job(direction, job, fields)?;
            if runtime > 0 {
                longest = longest.max(runtime);
                in_flight = in_flight.zip(job.in_flight()).map(|(sum, own)| sum.saturating_add(own));
            }
        }
        self.runtime_ms = self.runtime_ms.saturating_add(longest);
        self.in_flight = self.in_flight.zip(in_flight).map(|(most, own)| most.max(own));
        Ok(())
    }

    /// Adds a job, and says how long it ran; 0 where it did nothing that counts.
    fn job(&mut self, direction: &str, job: &Job, fields: &Map<String, Value>) -> anyhow::Result<u64> {
        let operations = count(fields, "total_ios")?;
        if operations == 0 {
            return Ok(0);
        }
        // What is flushed moves no bytes and has no runtime of its own.
        let (bytes, runtime) = match direction {
            "sync" => (0, job.longest_ms()),
            _ => (count(fields, "io_bytes")?, count(fields, "runtime")?),
        };
        if runtime == 0 {
            self.too_short = self.too_short.saturating_add(operations);
            return Ok(0);
        }
        match told(direction, fields)? {
            Told::Spread { fields, key, total } => {
                self.latency(fields, operations).with_context(|| format!("`{key}`"))?;
                self.total |= total;
            }
            Told::Moments { fields, key } => {
                let moments = Moments::of(fields, operations).with_context(|| format!("`{key}`"))?;
                self.moments(&moments, Some(Default::default()));
            }
            Told::Nothing(why) => {
                self.absent.get_or_insert_with(|| format!("{operations} operations and no latency: {why}"));
            }
        }
        self.operations = self.operations.saturating_add(operations);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(runtime)
    }

    /// Adds exact figures, and which percentiles there are beside them.
    fn moments(&mut self, moments: &Moments, percentiles: Option<std::collections::BTreeSet<u32>>) {
        self.stated.add(&Stated {
            latencies: moments.n,
            sum_ns: moments.mean * moments.n as f64,
            longest_ns: moments.max,
            percentiles,
        });
        if let Some(what) = moments.impossible() {
            self.spread.impossible(what);
        }
    }

    fn latency(&mut self, fields: &Map<String, Value>, operations: u64) -> anyhow::Result<()> {
        let moments = Moments::of(fields, operations)?;
        let (n, min, max) = (moments.n, moments.min, moments.max);
        let bins = fields.get("bins").map(|bins| entries(bins, "bins")).transpose()?;
        if let Some(bins) = bins.filter(|bins| !bins.is_empty()) {
            self.moments(&moments, None);
            let counted = bins.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
            self.binned = (self.binned.0.saturating_add(n), self.binned.1.saturating_add(counted));
            return self.bins(&bins, min, max);
        }
        let percentiles = fields.get("percentile").context("neither `bins` nor `percentile`")?;
        let mut percentiles = entries(percentiles, "percentile")?;
        // Some releases fill a list that is too short up with these.
        percentiles.retain(|(percentile, _)| *percentile > 0.0);
        let listed = Stated::printed(percentiles.iter().map(|(percentile, _)| *percentile));
        self.moments(&moments, Some(listed));
        self.exact = false;
        self.spread.percentiles(&percentiles, n, min, max)
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
                    self.spread.record(exact, 1);
                    left -= 1;
                }
            }
            self.spread.record(value, left);
        }
        Ok(())
    }

    pub(super) fn sample(&self) -> anyhow::Result<Sample> {
        let none = Spread::default();
        let spread = if self.absent.is_some() { &none } else { &self.spread };
        Ok(Sample {
            operations: self.operations,
            bytes: self.bytes,
            elapsed_ns: self.elapsed_ns(),
            batch: 1,
            histogram: pack(&spread.histogram)?,
            concurrency: self.in_flight.map_or(0, |n| n.min(1 << 20) as u32),
            ..Sample::default()
        })
    }

    fn elapsed_ns(&self) -> u64 {
        self.runtime_ms.saturating_mul(1_000_000)
    }

    /// What it says of its latencies, and doubts about them by the name of the flag.
    pub(super) fn facts(&self) -> BTreeMap<String, String> {
        if let Some(why) = &self.absent {
            let nothing = Stated { latencies: 0, sum_ns: 0.0, longest_ns: 0, percentiles: Some(Default::default()) };
            return nothing.facts().into_iter().chain([("no-latencies".into(), why.clone())]).collect();
        }
        let mut facts = self.stated.facts();
        let doubts = [
            ("percentiles-not-monotonic", self.spread.falls.clone()),
            ("zero-latency", self.zero_latency()),
            ("clock-jump", self.clock_jump()),
            ("latency-sum", self.latency_sum()),
            ("bins-incomplete", self.bins_incomplete()),
            ("saturated", self.saturated()),
            ("total-latency", self.total_latency()),
            ("from-percentiles", self.interpolated()),
        ];
        facts.extend(doubts.into_iter().filter_map(|(name, evidence)| Some((name.to_string(), evidence?))));
        facts
    }

    /// fio's runtime is in whole milliseconds.
    fn wall(&self) -> f64 {
        (self.elapsed_ns() + 1_000_000) as f64
    }

    fn zero_latency(&self) -> Option<String> {
        (self.spread.zeros > 0)
            .then(|| format!("{} of {} operations took 0 ns", self.spread.zeros, self.spread.histogram.len()))
    }

    fn clock_jump(&self) -> Option<String> {
        let longest = self.stated.longest_ns as f64;
        (longest > self.wall())
            .then(|| format!("an operation of {:.3} s in a job of {:.3} s", longest / 1e9, self.wall() / 1e9))
    }

    /// As many as are in flight may have begun before the ramp ended: one latency each.
    fn latency_sum(&self) -> Option<String> {
        let in_flight = self.in_flight?;
        let room = in_flight as f64 * (self.wall() + self.stated.mean()?);
        (self.stated.sum_ns > 1.05 * room).then(|| {
            format!(
                "the latencies add up to {:.3} s within {:.3} s with {in_flight} operations in flight",
                self.stated.sum_ns / 1e9,
                self.wall() / 1e9
            )
        })
    }

    fn bins_incomplete(&self) -> Option<String> {
        let (latencies, counted) = self.binned;
        (latencies.abs_diff(counted) > latencies / LACK + 1)
            .then(|| format!("the bins hold {counted} of {latencies} latencies"))
    }

    fn saturated(&self) -> Option<String> {
        let longest = self.stated.longest_ns;
        (longest > FIO_HIGHEST_NS).then(|| {
            format!(
                "the largest latency is {:.3} s and fio's bins end at {:.1} s: percentiles are cut there, max and mean are not",
                longest as f64 / 1e9,
                FIO_HIGHEST_NS as f64 / 1e9
            )
        })
    }

    fn total_latency(&self) -> Option<String> {
        self.total.then(|| "latencies are fio's `lat`, from submission on: it printed no percentiles of `clat`".into())
    }

    fn interpolated(&self) -> Option<String> {
        (!self.exact)
            .then(|| "the file has percentiles and no bins: what lies between them isn't known; json+ has bins".into())
    }
}

/// Figures that fio works out of the latencies themselves.
struct Moments {
    n: u64,
    min: u64,
    max: u64,
    mean: f64,
}

impl Moments {
    fn of(fields: &Map<String, Value>, operations: u64) -> anyhow::Result<Self> {
        let n = if fields.contains_key("N") { count(fields, "N")? } else { operations };
        Ok(Self { n, min: count(fields, "min")?, max: count(fields, "max")?, mean: number(fields, "mean")? })
    }

    fn impossible(&self) -> Option<String> {
        let Self { min, max, mean, .. } = *self;
        (min > max || mean > max as f64 * 1.001 + 1.0 || mean < min as f64 * 0.999 - 1.0)
            .then(|| format!("smallest {min} ns, mean {mean:.0} ns, largest {max} ns"))
    }
}

/// The latencies to take: those of completion, and where fio was asked for percentiles of others only, the total ones.
fn told<'a>(direction: &str, fields: &'a Map<String, Value>) -> anyhow::Result<Told<'a>> {
    let keys: &[&'static str] = if direction == "sync" { &["lat_ns"] } else { &["clat_ns", "lat_ns"] };
    let mut found = Vec::new();
    for key in keys {
        let Some(value) = fields.get(*key) else { continue };
        found.push((*key, value.as_object().with_context(|| format!("`{key}` is not an object"))?));
    }
    let counted = |map: &Map<String, Value>| map.get("N").is_none_or(|n| n.as_f64() != Some(0.0));
    let filled = |map: &Map<String, Value>, name: &str| {
        map.get(name).is_some_and(|value| value.as_object().is_none_or(|entries| !entries.is_empty()))
    };
    let spread =
        |(_, map): &&(&str, &Map<String, Value>)| counted(map) && (filled(map, "bins") || filled(map, "percentile"));
    if let Some((key, fields)) = found.iter().find(spread).copied() {
        return Ok(Told::Spread { fields, key, total: direction != "sync" && key == "lat_ns" });
    }
    match found.first() {
        Some((key, fields)) if counted(fields) => Ok(Told::Moments { fields, key }),
        Some(_) => Ok(Told::Nothing("fio ran with gtod_reduce=1 or disable_clat=1")),
        None => bail!("`{}` is missing", keys[0]),
    }
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
