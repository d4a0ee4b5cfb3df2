//! HdrHistogram's own files: logs of intervals (`.hlog`), and tables of percentiles (`.hgrm`).
//!
//! Neither says in which unit its values are. Where a comment has a word for it that counts, else it must be told.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry};
use workloads::Resource;
use workloads::protocol::Sample;
use workloads::stopwatch::HIGHEST_NS;

use super::spread::{Spread, pack};
use super::{Output, Part, Unit};
use crate::comparison::{Metric, Stated};
use crate::render::escape::one_line;

/// Percentiles of a table that lie between two lines are as good as printed where those differ by no more.
const SAME: f64 = 1.01;

/// The run in a text.
pub(super) fn outputs(text: &str, unit: Option<Unit>) -> anyhow::Result<Vec<Output>> {
    let unit = unit.or_else(|| told(text));
    let unit = unit.context("its values have no unit: say --unit ns, us or ms")?;
    let tables = text.lines().any(is_head);
    let parts = if tables { tables_of(text, unit)? } else { intervals(text, unit)? };
    ensure!(!parts.is_empty(), "it has no latencies");
    let seconds = parts.iter().filter_map(|p| p.outcome.as_ref().ok()).map(|s| s.elapsed_ns as f64 / 1e9);
    Ok(vec![Output {
        version: "HdrHistogram".into(),
        time: None,
        hosts: Vec::new(),
        place: None,
        command: None,
        seconds: seconds.fold(0.0, f64::max),
        parts,
        left_out: Vec::new(),
    }])
}

/// The unit that a comment has.
fn told(text: &str) -> Option<Unit> {
    let comments = text.lines().filter(|line| line.starts_with('#'));
    let of = |line: &str| Unit::ALL.into_iter().find(|unit| line.contains(unit.word()));
    comments.filter(|line| !line.starts_with("#[M") && !line.starts_with("#[B")).find_map(of)
}

fn part(name: &str, sample: Sample, facts: BTreeMap<String, String>) -> Part {
    Part {
        workload: format!("hdr/{name}"),
        about: format!("Latencies of a histogram of HdrHistogram: {name}"),
        options: BTreeMap::new(),
        resource: Resource::Processor,
        durable: false,
        direct: false,
        streams: false,
        // Nobody knows whether a schedule said how much was done: the latency is what to look at.
        paced: true,
        outcome: Ok(sample),
        facts,
    }
}

fn sample(spread: &Spread, seconds: f64) -> anyhow::Result<Sample> {
    Ok(Sample {
        operations: spread.histogram.len(),
        elapsed_ns: (seconds * 1e9) as u64,
        batch: 1,
        histogram: pack(&spread.histogram)?,
        ..Sample::default()
    })
}

/// Flags that any of both may raise.
fn doubts(spread: &Spread, longest_ns: u64) -> Vec<(String, String)> {
    let mut doubts = Vec::new();
    if spread.zeros > 0 {
        let what = format!("{} of {} operations took 0", spread.zeros, spread.histogram.len());
        doubts.push(("zero-latency".into(), what));
    }
    if longest_ns > HIGHEST_NS {
        let what = format!("the largest latency is {:.3} s: percentiles are cut at 60 s", longest_ns as f64 / 1e9);
        doubts.push(("saturated".into(), what));
    }
    doubts.extend(spread.falls.clone().map(|what| ("percentiles-not-monotonic".into(), what)));
    doubts
}

/// The intervals of a tag, added up.
#[derive(Default)]
struct Series {
    spread: Spread,
    seconds: f64,
    sum_ns: f64,
    longest_ns: u64,
}

fn intervals(text: &str, unit: Unit) -> anyhow::Result<Vec<Part>> {
    let mut series: BTreeMap<String, Series> = BTreeMap::new();
    // Java's head of the columns is a line that the format has no word for.
    let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('"')).collect();
    let rows = rows.join("\n") + "\n";
    let mut nth = 0;
    for entry in IntervalLogIterator::new(rows.as_bytes()) {
        let entry = entry.map_err(|_| anyhow::anyhow!("after {nth} intervals it is no log of HdrHistogram"))?;
        let LogEntry::Interval(interval) = entry else { continue };
        nth += 1;
        let histogram = histogram(&interval).with_context(|| format!("interval {nth}"))?;
        let tag = interval.tag().map_or_else(|| "latency".into(), |tag| one_line(tag.as_str()));
        let own = series.entry(tag).or_default();
        own.seconds += interval.duration().as_secs_f64();
        own.longest_ns = own.longest_ns.max(unit.ns(histogram.max()));
        for bucket in histogram.iter_recorded() {
            let value = histogram.median_equivalent(bucket.value_iterated_to());
            let value = if bucket.value_iterated_to() == 0 { 0 } else { value };
            own.sum_ns += unit.ns(value) as f64 * bucket.count_at_value() as f64;
            own.spread.record(unit.ns(value), bucket.count_at_value());
        }
    }
    let used = series.into_iter().filter(|(_, own)| !own.spread.histogram.is_empty());
    used.map(|(tag, own)| {
        let stated = Stated {
            latencies: own.spread.histogram.len(),
            sum_ns: own.sum_ns,
            longest_ns: own.longest_ns,
            percentiles: None,
        };
        let facts = stated.facts().into_iter().chain(doubts(&own.spread, own.longest_ns)).collect();
        Ok(part(&tag, sample(&own.spread, own.seconds)?, facts))
    })
    .collect()
}

fn histogram(interval: &IntervalLogHistogram) -> anyhow::Result<Histogram<u64>> {
    let bytes = STANDARD.decode(interval.encoded_histogram()).context("its histogram is no base64")?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|e| anyhow::anyhow!("its histogram can't be read: {e}"))
}

/// The first line of a table.
fn is_head(line: &str) -> bool {
    line.contains("Value") && line.contains("Percentile") && line.contains("TotalCount")
}

/// A table as it is read.
#[derive(Default)]
struct Table {
    /// Value, share of the operations up to it, and their number.
    rows: Vec<(u64, f64, u64)>,
    mean_ns: Option<f64>,
    max_ns: Option<u64>,
}

fn tables_of(text: &str, unit: Unit) -> anyhow::Result<Vec<Part>> {
    let mut tables: Vec<Table> = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        if is_head(line) {
            tables.push(Table::default());
        }
        let Some(table) = tables.last_mut().filter(|_| !is_head(line)) else { continue };
        table.line(line, unit).with_context(|| format!("line {}", nth + 1))?;
    }
    let name = |nth: usize| if nth == 0 { "latency".to_string() } else { format!("latency-{}", nth + 1) };
    tables.into_iter().enumerate().map(|(nth, table)| table.part(&name(nth))).collect()
}

impl Table {
    fn line(&mut self, line: &str, unit: Unit) -> anyhow::Result<()> {
        let footer = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            let number = rest.trim_start_matches([' ', '=']);
            number.split([',', ']', ' ']).next()?.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)
        };
        if line.starts_with('#') {
            self.mean_ns = self.mean_ns.or_else(|| footer("#[Mean").map(|mean| mean * unit.factor()));
            self.max_ns = self.max_ns.or_else(|| footer("#[Max").map(|max| (max * unit.factor()).round() as u64));
            return Ok(());
        }
        let fields: Vec<&str> =
            line.split([',', ' ', '\t']).map(|f| f.trim_matches('"')).filter(|f| !f.is_empty()).collect();
        let [value, share, count, ..] = fields.as_slice() else {
            ensure!(fields.is_empty(), "`{}` is no line of a table of percentiles", one_line(line));
            return Ok(());
        };
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let (Some(value), Some(share), Ok(count)) = (number(value), number(share), count.parse()) else {
            bail!("`{}` is no line of a table of percentiles", one_line(line));
        };
        self.rows.push(((value * unit.factor()).round() as u64, share, count));
        Ok(())
    }

    fn part(self, name: &str) -> anyhow::Result<Part> {
        let mean = self.mean_ns.context("the table has no `#[Mean` below it: it is cut off")?;
        let max = self.max_ns.context("the table has no `#[Max` below it: it is cut off")?;
        let mut spread = Spread::default();
        // Beyond this one the counts of a table are no counts of the same operations.
        let total = self.rows.last().map_or(0, |row| row.2);
        let falls = self.rows.windows(2).any(|two| two[1].2 < two[0].2);
        ensure!(!falls, "`TotalCount` falls from one line to the next, or lies above the last line's {total}");
        let mut before = (0, 0.0, 0);
        for row in &self.rows {
            if row.0 < before.0 || row.1 < before.1 {
                let what = format!("p{} is {} ns and p{} is {} ns", 100.0 * before.1, before.0, 100.0 * row.1, row.0);
                spread.impossible(what);
            }
            spread.record(row.0, row.2.saturating_sub(before.2));
            before = *row;
        }
        ensure!(!spread.histogram.is_empty(), "the table is empty");
        let stated = Stated {
            latencies: spread.histogram.len(),
            sum_ns: mean * spread.histogram.len() as f64,
            longest_ns: max,
            percentiles: Some(self.known()),
        };
        let mut facts = stated.facts();
        facts.extend(doubts(&spread, max));
        let why = "it is a table of percentiles: what lies between its lines isn't known, nor how long it took";
        facts.insert("from-percentiles".into(), why.into());
        Ok(part(name, sample(&spread, 0.0)?, facts))
    }

    /// Percentiles that a line has, and those that both neighbours of agree about.
    fn known(&self) -> BTreeSet<u32> {
        let between = |q: &f64| {
            let after = self.rows.iter().position(|row| row.1 >= *q)?;
            let (above, below) = (self.rows[after].0, self.rows[after.checked_sub(1)?].0);
            (above as f64 <= below as f64 * SAME).then_some(100.0 * q)
        };
        let metrics: Vec<f64> = Metric::ALL.iter().filter_map(|metric| metric.quantile()).collect();
        let lines = self.rows.iter().map(|row| 100.0 * row.1);
        Stated::printed(lines.chain(metrics.iter().filter_map(between)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "       Value     Percentile TotalCount 1/(1-Percentile)

       0.500 0.000000000000         10           1.00
       1.000 0.500000000000        500           2.00
       2.000 0.750000000000        750           4.00
       2.010 0.950000000000        950          20.00
       9.000 1.000000000000       1000
#[Mean    =        1.250, StdDeviation   =        0.700]
#[Max     =        9.000, Total count    =         1000]
#[Buckets =           26, SubBuckets     =         2048]
";

    fn one(text: &str, unit: Option<Unit>) -> Part {
        outputs(text, unit).expect("reads").remove(0).parts.remove(0)
    }

    fn refused(text: &str, unit: Option<Unit>) -> String {
        format!("{:#}", outputs(text, unit).expect_err("refused"))
    }

    #[test]
    fn a_table_has_the_percentiles_of_its_lines_and_no_time() {
        let part = one(TABLE, Some(Unit::Ms));
        let stated = Stated::of(&part.facts).expect("stated");
        assert_eq!((stated.mean().map(f64::round), stated.max()), (Some(1_250_000.0), Some(9_000_000)));
        assert!(stated.has(0.5) && stated.has(0.9) && !stated.has(0.99), "its neighbours agree about p90 only");
        let sample = part.outcome.expect("a sample");
        let histogram = workloads::histogram::read(&sample.histogram).expect("reads back");
        assert!(histogram.equivalent(histogram.value_at_quantile(0.5), 1_000_000));
        assert_eq!((sample.operations, sample.elapsed_ns), (1000, 0));
        let falls = one(&TABLE.replace("2.010", "0.010"), Some(Unit::Ms));
        assert!(falls.facts.contains_key("percentiles-not-monotonic"));
        let two = outputs(&format!("# in microseconds\n{TABLE}{TABLE}"), None).expect("reads").remove(0);
        assert_eq!(two.parts[1].workload, "hdr/latency-2");
        assert_eq!(Stated::of(&two.parts[0].facts).and_then(|s| s.max()), Some(9000));
    }

    #[test]
    fn what_has_no_unit_or_is_damaged_is_refused() {
        assert!(refused(TABLE, None).contains("--unit"));
        assert!(refused(&TABLE.replace(" 750 ", " 7500 "), Some(Unit::Ms)).contains("`TotalCount` falls"));
        assert!(
            refused(&TABLE.replace("500\n", "500\nword\n").replace("1.000", "x"), Some(Unit::Ms)).contains("line 4")
        );
        assert!(refused(&TABLE[..TABLE.find("#[Mean").expect("there")], Some(Unit::Ms)).contains("cut off"));
        assert!(refused("Tag=a,0.0,1.0,2.0,HISTxxxx\n", Some(Unit::Ns)).contains("interval 1"));
        assert!(refused("words and words\n", Some(Unit::Ns)).contains("no log of HdrHistogram"));
        assert!(refused("#[Histogram log format version 1.3]\n", Some(Unit::Ns)).contains("no latencies"));
    }

    #[test]
    fn our_own_logs_come_back_as_they_were() {
        let c = crate::render::sample::comparison();
        let text =
            String::from_utf8(crate::render::find("hlog").expect("a format").renderer.render(&c).expect("drawn"));
        let parts = outputs(&text.expect("text"), None).expect("reads").remove(0).parts;
        let d = c.distributions.iter().find(|d| d.open.is_none()).expect("a closed loop");
        let name = format!("hdr/{}:{}:{}", d.workload, d.environment, d.latency.name());
        let part = parts.iter().find(|p| p.workload == name).unwrap_or_else(|| panic!("{name} in {parts:?}"));
        let sample = part.outcome.as_ref().expect("a sample");
        assert_eq!(workloads::histogram::read(&sample.histogram).expect("reads back"), d.histogram.open());
        assert!(sample.elapsed_ns > 0);
    }
}
