//! Doubts about measurements of another program: those that were raised when they were read, where all of its output was at hand,
//! and those that only two files together raise. What was promised follows from the program's own options.

use std::collections::{BTreeMap, BTreeSet};

use workloads::canary::NO_DISK_NS;

use super::{Case, flag};
use crate::comparison::merge::Merged;
use crate::comparison::{Flag, Severity};
use crate::import::OPTION;
use crate::record::Checked;

/// Facts of an imported workload that are flags, with what they weigh. The fact's value is the evidence.
///
/// Percentiles that fall can't be percentiles, and bins that hold half of the operations no histogram, so nothing of them is worth
/// ranking. The others may be a few bad readings.
const FACTS: [(&str, Severity); 10] = [
    ("percentiles-not-monotonic", Severity::Fatal),
    ("bins-incomplete", Severity::Fatal),
    ("clock-jump", Severity::Doubt),
    ("latency-sum", Severity::Doubt),
    ("zero-latency", Severity::Doubt),
    ("saturated", Severity::Doubt),
    ("mixed-options", Severity::Doubt),
    ("total-latency", Severity::Note),
    ("no-latencies", Severity::Note),
    ("from-percentiles", Severity::Note),
];

/// Options that say where, how long and under which name, and not what is done.
const BESIDE: [&str; 22] = [
    "name",
    "description",
    "filename",
    "directory",
    "filename_format",
    "unlink",
    "runtime",
    "time_based",
    "ramp_time",
    "group_reporting",
    "new_group",
    "stonewall",
    "wait_for_previous",
    "output",
    "output-format",
    "status-interval",
    "eta",
    "eta-newline",
    "percentile_list",
    "write_bw_log",
    "write_lat_log",
    "write_iops_log",
];

/// What fio does where an option isn't given.
const DEFAULTS: [(&str, &str); 7] =
    [("rw", "read"), ("bs", "4k"), ("direct", "0"), ("iodepth", "1"), ("numjobs", "1"), ("sync", "0"), ("fsync", "0")];

/// A box isn't faster than this share of the time that the device needs by itself.
const FASTEST: f64 = 0.8;

/// The same of a single pair of values, whose error nobody knows.
const FASTEST_ALONE: f64 = 0.5;

/// The flags that the import found, and those that follow from both sides' files.
pub(super) fn of(case: &Case) -> Vec<Flag> {
    if !case.is_imported() {
        return Vec::new();
    }
    let one = |(name, severity): (&'static str, Severity)| {
        let mut found = case.facts(name);
        let first = found.next()?;
        let more = found.count();
        let more = if more == 0 { String::new() } else { format!("; and in {more} more blocks") };
        Some(flag(name, severity, format!("{first}{more}")))
    };
    let mut flags: Vec<Flag> = FACTS.into_iter().filter_map(one).collect();
    flags.extend(unequal(case));
    flags.extend(implausible(case));
    flags
}

/// Options that the files of the two sides give, and that differ.
fn unequal(case: &Case) -> Option<Flag> {
    let sides = case.own_checks().flat_map(|own| case.baseline_checks().map(move |base| (own, base)));
    let mut differing = sides.filter(|(own, base)| own.block == base.block);
    let evidence = differing.find_map(|(own, base)| unequal_options(&options(&own.facts), &options(&base.facts)))?;
    Some(flag("unequal-options", Severity::Doubt, format!("{evidence} (its own, the baseline's)")))
}

fn options(facts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    facts.iter().filter_map(|(name, value)| Some((name.strip_prefix(OPTION)?.to_string(), value.clone()))).collect()
}

/// Options that aren't the same in effect: `bs 128k, 4k; direct 0, 1`. Of a side that gives none nothing is known.
pub(crate) fn unequal_options(own: &BTreeMap<String, String>, base: &BTreeMap<String, String>) -> Option<String> {
    if own.is_empty() != base.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = own.keys().chain(base.keys()).map(|name| plain(name)).collect();
    let names = names.into_iter().filter(|name| !BESIDE.contains(name));
    let value = |side: &BTreeMap<String, String>, name: &str| {
        let given = side.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value.to_lowercase());
        given.unwrap_or_else(|| {
            let default = DEFAULTS.iter().find(|(key, _)| *key == name);
            default.map_or_else(|| "not given".to_string(), |(_, value)| (*value).to_string())
        })
    };
    let both = names.map(|name| (name, value(own, name), value(base, name)));
    let told: Vec<String> = both
        .filter(|(_, own, base)| amount(own) != amount(base))
        .map(|(name, own, base)| format!("{name} {own}, {base}"))
        .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// One name for what fio knows under two.
fn plain(name: &str) -> &str {
    match name {
        "readwrite" => "rw",
        "blocksize" => "bs",
        other => other,
    }
}

/// `4k` is `4096` and `4kib`.
fn amount(value: &str) -> String {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &value[digits.len()..] {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return value.to_string(),
    };
    digits.parse::<u64>().map_or_else(|_| value.to_string(), |n| n.saturating_mul(1 << shift).to_string())
}

/// Faster than any disk, or than the one that the baseline's files were measured on.
fn implausible(case: &Case) -> Option<Flag> {
    let doubt = |evidence| Some(flag("implausible", Severity::Doubt, evidence));
    if let Some(ns) = typical(case.merged).filter(|ns| case.workload.durable && *ns < NO_DISK_NS as f64) {
        return doubt(format!("a durable operation takes {ns:.0} ns, and no disk is as fast"));
    }
    let direct = |checked: &Checked| is_direct(&options(&checked.facts));
    let both = case.own_checks().all(direct) && case.baseline_checks().all(direct);
    if case.is_baseline() || !(case.workload.durable || both) {
        return None;
    }
    let what = if case.workload.durable { "durable operations" } else { "direct I/O" };
    let overhead = case.overhead?;
    match overhead.interval {
        Some(interval) if interval.high < FASTEST => {
            doubt(format!("{what} in {:.2} to {:.2} of the time that the baseline needs", interval.low, interval.high))
        }
        None if overhead.value <= FASTEST_ALONE => {
            doubt(format!("{what} in {:.2} of the time that the baseline needs", overhead.value))
        }
        _ => None,
    }
}

/// The median, and where that isn't said the mean; nanoseconds.
fn typical(merged: &Merged) -> Option<f64> {
    let stated = merged.stated.as_ref();
    let median = stated.is_none_or(|s| s.has(0.5)) && !merged.histogram.is_empty();
    if median { Some(merged.quantile(0.5)) } else { stated?.mean() }
}

/// Whether options ask to go round the page cache.
pub(crate) fn is_direct(options: &BTreeMap<String, String>) -> bool {
    let set = |name: &str, on: bool| options.get(name).is_some_and(|v| (v != "0") == on);
    set("direct", true) || set("odirect", true) || set("buffered", false)
}
