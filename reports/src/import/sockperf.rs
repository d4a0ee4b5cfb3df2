//! What sockperf's client prints, or its `--full-log`: a summary with some percentiles, or every message.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use workloads::Resource;
use workloads::protocol::Sample;

use super::spread::{Spread, pack};
use super::{Output, Part};
use crate::comparison::Stated;
use crate::render::escape::one_line;

/// The line with which its output begins.
const BEGIN: &str = "== version #";

/// The runs in a text.
pub(super) fn outputs(text: &str) -> anyhow::Result<Vec<Output>> {
    let plain = without_colours(text);
    let starts: Vec<usize> = plain.match_indices(BEGIN).map(|(at, _)| at).collect();
    let runs: Vec<&str> = match starts.as_slice() {
        [] | [_] => vec![plain.as_str()],
        several => {
            let ends = several[1..].iter().copied().chain([plain.len()]);
            several.iter().zip(ends).map(|(start, end)| &plain[*start..end]).collect()
        }
    };
    runs.into_iter().map(output).collect()
}

/// It prints for terminals, into files too.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |all, part| {
        let rest = part.strip_prefix('[').and_then(|codes| codes.split_once('m')).map_or(part, |(_, rest)| rest);
        all + rest
    })
}

fn output(text: &str) -> anyhow::Result<Output> {
    let version = between(text, BEGIN, " ==").map_or_else(|| "sockperf".into(), |v| format!("sockperf {}", v.trim()));
    let (part, seconds) = if text.contains("[Valid Duration]") {
        latency(text)?
    } else if text.contains("Message Rate is") {
        throughput(text)?
    } else {
        let error = text.lines().find(|line| line.contains("ERROR")).map(one_line);
        bail!("it has no results of sockperf's client: {}", error.as_deref().unwrap_or("no `[Valid Duration]`"));
    };
    Ok(Output {
        version: one_line(&version),
        time: None,
        hosts: Vec::new(),
        place: between(text, "IP = ", "\n").map(one_line),
        command: between(text, "following parameters: ", "\n").map(one_line),
        seconds,
        parts: vec![part],
        left_out: Vec::new(),
    })
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after).map_or(rest, |(found, _)| found))
}

/// The number that follows a text.
fn number(text: &str, before: &str) -> anyhow::Result<f64> {
    let (_, rest) = text.split_once(before).with_context(|| format!("`{before}` is missing"))?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().with_context(|| format!("no number follows `{before}`"))
}

fn ns(us: f64) -> u64 {
    (us * 1e3).round() as u64
}

/// Ping-pong and under-load: one latency a message. Its summary doesn't say which of both it was.
fn latency(text: &str) -> anyhow::Result<(Part, f64)> {
    let valid = between(text, "[Valid Duration]", "\n").unwrap_or_default();
    let (seconds, operations) = (number(valid, "RunTime=")?, number(valid, "ReceivedMessages=")? as u64);
    ensure!(operations > 0 && seconds > 0.0, "no message came back");
    let (mode, mean) = match number(text, "avg-latency=") {
        Ok(mean) => ("latency", mean),
        Err(_) => ("round-trip", number(text, "avg-rtt=").context("nor is `avg-latency=` there")?),
    };
    let (min, max) = (ns(number(text, "<MIN> observation =")?), ns(number(text, "<MAX> observation =")?));
    let mut spread = Spread::default();
    let rows = rows(text);
    let printed = if rows.is_empty() {
        let listed = percentiles(text)?;
        spread.percentiles(&listed, operations, min, max)?;
        Some(Stated::printed(listed.iter().map(|(percentile, _)| *percentile)))
    } else {
        rows.iter().for_each(|ns| spread.record(*ns, 1));
        None
    };
    let stated =
        Stated { latencies: operations, sum_ns: mean * 1e3 * operations as f64, longest_ns: max, percentiles: printed };
    let mut facts = stated.facts();
    facts.extend(spread.falls.map(|what| ("percentiles-not-monotonic".to_string(), what)));
    if rows.is_empty() {
        let why = "it has a few percentiles: what lies between them isn't known; --full-log has every message";
        facts.insert("from-percentiles".into(), why.into());
    } else if rows.len() as u64 != operations {
        let what = format!("{} messages are listed of {operations}", rows.len());
        facts.insert("bins-incomplete".into(), what);
    }
    let sample = Sample {
        operations,
        elapsed_ns: (seconds * 1e9) as u64,
        batch: 1,
        histogram: pack(&spread.histogram)?,
        counters: counters(text),
        ..Sample::default()
    };
    let about = match mode {
        "latency" => "Measured by sockperf: half of a message's round trip",
        _ => "Measured by sockperf: a message's round trip",
    };
    Ok((part(mode, about, sample, facts, false), seconds))
}

/// Messages that went astray.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let of = |name: &str| {
        let count = number(text, &format!("# {name} messages =")).ok()? as u64;
        (count > 0).then(|| (name.to_string(), count))
    };
    ["dropped", "duplicated", "out-of-order"].into_iter().filter_map(of).collect()
}

fn percentiles(text: &str) -> anyhow::Result<Vec<(f64, u64)>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("---> percentile ") else { continue };
        let (percentile, us) = rest.split_once('=').with_context(|| format!("`{}` is cut off", one_line(line)))?;
        let both = percentile.trim().parse::<f64>().ok().zip(us.trim().parse::<f64>().ok());
        let (percentile, us) = both.with_context(|| format!("`{}` has no number", one_line(line)))?;
        ensure!(us.is_finite() && us >= 0.0, "`{}` is no latency", one_line(line));
        found.push((percentile, ns(us)));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(found)
}

/// Latencies of `--full-log`: number, sent, received, microseconds.
fn rows(text: &str) -> Vec<u64> {
    let row = |line: &str| {
        let fields: Vec<f64> = line.split(',').map(|f| f.trim().parse().ok()).collect::<Option<_>>()?;
        (fields.len() == 4 && fields[3] >= 0.0).then(|| ns(fields[3]))
    };
    text.lines().filter_map(row).collect()
}

fn throughput(text: &str) -> anyhow::Result<(Part, f64)> {
    let messages = number(text, "Total of ")? as u64;
    let seconds = number(text, "messages sent in ")?;
    ensure!(messages > 0 && seconds > 0.0, "no message was sent");
    // Its MB are of 2^20 bytes.
    let bytes = number(text, "BandWidth is ").map_or(0, |mb| (mb * seconds * f64::from(1 << 20)) as u64);
    let none = Stated { latencies: 0, sum_ns: 0.0, longest_ns: 0, percentiles: Some(Default::default()) };
    let mut facts = none.facts();
    facts.insert("no-latencies".into(), "sockperf throughput measures none".into());
    let sample = Sample {
        operations: messages,
        bytes,
        elapsed_ns: (seconds * 1e9) as u64,
        batch: 1,
        histogram: pack(&Spread::default().histogram)?,
        ..Sample::default()
    };
    Ok((part("throughput", "Measured by sockperf: messages sent, one way", sample, facts, true), seconds))
}

fn part(mode: &str, about: &str, sample: Sample, facts: BTreeMap<String, String>, streams: bool) -> Part {
    Part {
        workload: format!("sockperf/{mode}"),
        about: about.into(),
        options: BTreeMap::new(),
        resource: Resource::Network,
        durable: false,
        direct: false,
        streams,
        // Nobody knows whether a schedule said how many messages there are: the latency is what to look at.
        paced: !streams,
        outcome: Ok(sample),
        facts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str =
        "sockperf: \u{1b}[2;35m== version #3.7-no.git == \u{1b}[0m\n[ 0] IP = 127.0.0.1  PORT = 1 # UDP
sockperf: [Total Run] RunTime=2.000 sec; Warm up time=400 msec; SentMessages=1300; ReceivedMessages=1299
sockperf: [Valid Duration] RunTime=1.500 sec; SentMessages=1000; ReceivedMessages=1000
sockperf: \u{1b}[2;35m====> avg-latency=11.480 (std-dev=101.085)\u{1b}[0m
sockperf: # dropped messages = 3; # duplicated messages = 0; # out-of-order messages = 0
sockperf: ---> <MAX> observation = 5438.248
sockperf: ---> percentile 99.000 =    7.766
sockperf: ---> percentile 50.000 =    5.262
sockperf: ---> <MIN> observation =    4.702\n";

    fn one(text: &str) -> Part {
        outputs(text).expect("reads").remove(0).parts.remove(0)
    }

    #[test]
    fn a_summary_has_its_percentiles_and_no_others() {
        let part = one(SUMMARY);
        let stated = Stated::of(&part.facts).expect("stated");
        assert!(stated.has(0.99) && !stated.has(0.9) && part.facts.contains_key("from-percentiles"));
        assert_eq!((stated.mean().map(f64::round), stated.max()), (Some(11_480.0), Some(5_438_248)));
        let sample = part.outcome.expect("a sample");
        assert_eq!((sample.operations, sample.elapsed_ns, sample.counters["dropped"]), (1000, 1_500_000_000, 3));
        let histogram = workloads::histogram::read(&sample.histogram).expect("reads back");
        assert!(histogram.equivalent(histogram.value_at_quantile(0.5), 5262));
        assert_eq!((part.workload.as_str(), part.paced), ("sockperf/latency", true));
        assert_eq!(outputs(&SUMMARY.repeat(2)).expect("reads").len(), 2);
    }

    #[test]
    fn a_full_log_has_every_message() {
        let text = SUMMARY.replace("ReceivedMessages=1000", "ReceivedMessages=2");
        let part = one(&format!("{text}------\n0, 4.07, 4.08, 5.268\n1, 4.08, 4.09, 4.787\n------\n"));
        let histogram = workloads::histogram::read(&part.outcome.expect("a sample").histogram).expect("reads back");
        assert_eq!((histogram.len(), histogram.min()), (2, 4784));
        assert!(!part.facts.contains_key("from-percentiles"), "{:?}", part.facts);
    }

    #[test]
    fn throughput_has_no_latencies_and_damage_names_the_place() {
        let text =
            "sockperf: Total of 147040 messages sent in 1.016 sec\nsockperf: Summary: Message Rate is 144732 [msg/sec]
sockperf: Summary: BandWidth is 138.027 MBps (1104.218 Mbps)\n";
        let part = one(text);
        assert!(part.streams && part.facts.contains_key("no-latencies"));
        assert_eq!(part.outcome.expect("a sample").operations, 147_040);
        let refused = |text: &str| format!("{:#}", outputs(text).expect_err("refused"));
        assert!(refused("sockperf: ERROR: Can't bind").contains("ERROR: Can't bind"));
        assert!(refused(&SUMMARY.replace("avg-latency", "avg")).contains("avg-rtt"));
        assert!(refused(&SUMMARY.replace("ReceivedMessages=1000", "ReceivedMessages=0")).contains("no message"));
        assert!(refused(&SUMMARY.replace("=    7.766", "=")).contains("has no number"));
        for wrong in ["NaN", "-7.766", "inf"] {
            let text = SUMMARY.replace("=    7.766", &format!("= {wrong}"));
            assert!(refused(&text).contains("is no latency"), "{wrong}");
        }
        let many = SUMMARY.replace("ReceivedMessages=1000", &format!("ReceivedMessages={}", 1_u64 << 62));
        let all = outputs(&many).map(|mut all| super::super::counts(&all.remove(0).parts.remove(0)));
        assert!(!matches!(all, Ok(Ok(()))));
    }
}
