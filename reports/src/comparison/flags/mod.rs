//! Why a cell may be less than it looks: each flag is a pure function of rows, with its evidence in one line.
//!
//! A counter that couldn't be read is no evidence, neither for nor against. Notes leave a cell trusted, doubts make it
//! suspect, and what is fatal makes it invalid: it measures something else than it says.

mod clock;
mod counts;
mod crowd;
pub(super) mod disk;
pub(super) mod imported;
mod load;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use workloads::Resource;
use workloads::facts::Network;
use workloads::protocol::Sample;

use super::merge::Merged;
use super::seen::per_operation;
use super::{Finding, Flag, Metric, Severity};
use crate::record::{Checked, EnvironmentPlan, Record, Run, Start, Stored, WorkloadPlan};
use crate::statistics::{Estimate, Interval};

/// All that the flags of one workload in one environment are judged by.
pub(super) struct Case<'a> {
    pub stored: &'a Stored,
    pub workload: &'a WorkloadPlan,
    pub plan: &'a EnvironmentPlan,
    /// All that counts of this environment.
    pub merged: &'a Merged,
    pub records: &'a [&'a Record],
    /// Of this workload, in all environments.
    pub checks: &'a [&'a Checked],
    /// All that counts of the baseline.
    pub baseline: &'a Merged,
    pub baseline_records: &'a [&'a Record],
    /// Of the median.
    pub overhead: Option<Estimate>,
    /// Why nothing that the baseline flushed is kept, where that is so.
    pub forgets: Option<&'a str>,
}

impl Case<'_> {
    fn starts(&self) -> impl Iterator<Item = &Start> {
        self.stored.starts.iter().filter(|s| s.environment == self.plan.name)
    }

    /// Facts of the prepared workload of this name, over all blocks.
    fn facts(&self, key: &str) -> impl Iterator<Item = &str> {
        self.own_checks().filter_map(move |c| c.facts.get(key)).map(String::as_str)
    }

    /// Checks of this workload in this environment.
    fn own_checks(&self) -> impl Iterator<Item = &Checked> {
        self.checks.iter().copied().filter(|c| c.environment == self.plan.name)
    }

    /// Checks of this workload in the baseline.
    fn baseline_checks(&self) -> impl Iterator<Item = &Checked> {
        self.checks.iter().copied().filter(|c| c.environment == self.stored.run.baseline)
    }

    /// Rounds that count on both sides: its burst and the baseline's.
    fn rounds(&self) -> impl Iterator<Item = (&Record, &Record)> {
        let of = |r: &Record| (r.block, r.round);
        let baseline: BTreeMap<_, _> = self.baseline_records.iter().map(|base| (of(base), *base)).collect();
        self.records.iter().filter_map(move |own| Some((*own, *baseline.get(&of(own))?)))
    }

    /// Whether another program measured it: what it can't be accused of by our rules, it brings along as facts.
    fn is_imported(&self) -> bool {
        self.workload.is_imported()
    }

    fn is_baseline(&self) -> bool {
        self.plan.name == self.stored.run.baseline
    }

    fn baseline_plan(&self) -> Option<&EnvironmentPlan> {
        self.stored.run.environments.iter().find(|e| e.name == self.stored.run.baseline)
    }
}

fn flag(name: &'static str, severity: Severity, evidence: String) -> Flag {
    Flag { name, severity, evidence }
}

/// Every flag of one workload in one environment, those of the environment as a whole included.
pub(super) fn of(case: &Case) -> Vec<Flag> {
    let starts: Vec<&Start> = case.starts().collect();
    let mut flags = of_environment(&case.stored.run, case.plan, &starts);
    let each = [
        disk::baseline_not_durable,
        disk::memory_disk,
        disk::other_disk,
        disk::unwatched_disk,
        disk::not_direct,
        disk::fsync_not_durable,
        disk::implausible,
        disk::cache_unequal,
        clock::coarse,
        clock::jump,
        clock::zero_latency,
        clock::latency_sum,
        topology,
        packets_missing,
        throttled,
        steal,
        crowd::crowded,
        pressure,
        fewer_operations,
        other_work,
        more_written,
        load::late_generator,
        load::rate_not_reached,
    ];
    flags.extend(each.iter().filter_map(|judge| judge(case)));
    flags.extend(imported::of(case));
    flags
}

/// The flags of an environment that hold whatever the workload.
pub(super) fn of_environment(run: &Run, plan: &EnvironmentPlan, starts: &[&Start]) -> Vec<Flag> {
    let mut flags = Vec::new();
    flags.extend(plan.unequal.as_ref().map(|why| flag("unequal-resources", Severity::Doubt, why.clone())));
    flags.extend(plan.quota.as_ref().map(|quota| flag("cpu-quota", Severity::Note, format!("as asked for: {quota}"))));
    flags.extend(clock::drift(starts));
    flags.extend(plan.emulated.as_ref().map(|why| flag("emulated-cpu", Severity::Note, why.clone())));
    flags.extend(run.nested.as_ref().map(|why| flag("nested", Severity::Note, why.clone())));
    flags
}

/// Facts found inside an environment, for its fingerprint: of the first start that has them.
pub(super) fn facts(starts: &[&Start]) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<String>| facts.extend(value.map(|v| (name.to_string(), v)));
    if let Some(hello) = starts.iter().find_map(|s| s.hello.as_ref()) {
        fact("kernel", Some(hello.kernel.clone()));
        fact("cpus", Some(hello.cpus.to_string()));
        fact("memory seen", Some(format!("{} MiB", hello.memory_bytes >> 20)));
        fact("user id", Some(hello.uid.to_string()));
    }
    if let Some(identity) = starts.iter().find_map(|s| s.identity.as_ref()) {
        fact("cpu model", Some(identity.cpu_model.clone()));
        fact("hypervisor", identity.hypervisor.clone());
        fact("clock source", identity.clock_source.clone());
        fact("file system", Some(identity.file_system.clone()));
        fact("device", identity.device.clone());
        fact("write cache", identity.write_cache.clone());
        fact("virtio flush", identity.virtio_flush.map(|f| if f { "offered" } else { "not offered" }.to_string()));
        fact("kernel command line", identity.command_line.clone());
        fact("sqlite", Some(identity.sqlite.clone()));
    }
    facts
}

/// The ranks see no difference and the mean does: few blocks are far out, which is a finding of its own.
pub(super) fn heavy_tail(metric: Metric, finding: &Finding) -> Option<Flag> {
    let (ranks, mean) = (finding.overhead.interval?, finding.geometric.interval?);
    (metric != Metric::Max && ranks.contains(1.0) && !mean.contains(1.0)).then(|| {
        let evidence = format!(
            "by ranks {:.3} to {:.3}, by the mean {:.3} to {:.3}: few blocks make the difference",
            ranks.low, ranks.high, mean.low, mean.high
        );
        flag("heavy-tail", Severity::Note, evidence)
    })
}

/// The name of [`mean_apart`], which tables show though it is a note: who reads one of the two figures has to know of the other.
pub(super) const MEAN_APART: &str = "mean-apart";

/// Where the cost is so many times the median's, the two tell different stories.
pub(crate) const TWO_STORIES: f64 = 1.25;

/// The cost and the median differ by more than their intervals and the margin, in either direction, so that neither is the whole
/// story. A doubt where the limit ended most bursts of one that mostly waits: how many stops a burst has before is chance.
pub(super) fn mean_apart(cost: Estimate, median: Estimate, records: &[&Record], margin: f64) -> Option<Flag> {
    let (whole, half) = (cost.interval?, median.interval?);
    let above = whole.low > half.high && cost.value > median.value * (1.0 + margin);
    let below = whole.high < half.low && median.value > cost.value * (1.0 + margin);
    if !above && !below {
        return None;
    }
    let (cut, all) = cut_short(records);
    let by_chance = above && cost.value > TWO_STORIES * median.value && 2 * cut >= all && cut > 0;
    let severity = if by_chance { Severity::Doubt } else { Severity::Note };
    let means = match above {
        true => "its slower half, or the time between operations, weighs more than the baseline's",
        false => "its slower half, or the time between operations, weighs less than the baseline's",
    };
    let limit = if by_chance {
        format!("; {cut} of {all} bursts ended by the time limit, and how many stops fit into one is chance")
    } else {
        String::new()
    };
    let range = |e: Estimate, i: Interval| format!("{:.2} ({:.2} to {:.2})", e.value, i.low, i.high);
    let evidence = format!(
        "{} times the baseline's by all of the time, {} times by half of the operations (p50): {means}{limit}",
        range(cost, whole),
        range(median, half)
    );
    Some(flag(MEAN_APART, severity, evidence))
}

/// How many bursts the time limit ended, and how many there are.
pub(super) fn cut_short(records: &[&Record]) -> (usize, usize) {
    let cut = records.iter().filter(|r| r.outcome.as_ref().is_ok_and(|s| s.cut_short)).count();
    (cut, records.len())
}

/// Of the largest latency no test stands behind an interval.
pub(super) fn one_value(metric: Metric) -> Option<Flag> {
    (metric == Metric::Max).then(|| {
        let evidence = "the slowest single operation of each block, which is slower the more operations there are: net and gross are \
                        the slowest of all blocks, the overhead is of the blocks' ratios, and its interval promises nothing";
        flag("one-value", Severity::Note, evidence.into())
    })
}

/// So many times the bytes of the baseline, by operation, are worth a word.
const MORE_WRITTEN: f64 = 1.5;

/// The device was given much more to write for each operation than by the baseline; and whether most bursts show it, or few, beside
/// which somebody else may have written.
fn more_written(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Disk || !case.workload.durable || case.is_baseline() {
        return None;
    }
    let bytes = |r: &Record| r.evidence.device_bytes_written;
    let own = per_operation(case.records.iter().copied(), bytes)?;
    let base = per_operation(case.baseline_records.iter().copied(), bytes)?;
    let mut each: Vec<f64> = case.records.iter().filter_map(|r| per_operation([*r], bytes)).collect();
    each.sort_by(f64::total_cmp);
    let usual = *each.get(each.len() / 2)?;
    (base > 0.0 && own > MORE_WRITTEN * base).then(|| {
        let which = match usual > MORE_WRITTEN * base {
            true => "most of its bursts do so",
            false => "most of its bursts write no more, so that others may have written beside a few",
        };
        let evidence = format!(
            "{own:.0} bytes written to the device per operation, the baseline {base:.0}; {which} (median {usual:.0})"
        );
        flag("more-written", Severity::Note, evidence)
    })
}

/// The path to the peer is another kind of path than the baseline's.
fn topology(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Network {
        return None;
    }
    let (own, base) = (case.plan.network, case.baseline_plan()?.network);
    let (severity, evidence) = match (own, base) {
        (Network::Loopback, Network::Loopback) => {
            (Severity::Note, "the peer is reached over loopback: no device is involved".into())
        }
        (Network::Loopback, other) | (other, Network::Loopback) => {
            let evidence = format!("`{own}` against the baseline's `{base}`: loopback and {other} can't be compared");
            (Severity::Fatal, evidence)
        }
        (own, base) if own.is_user_mode() => {
            (Severity::Doubt, format!("the peer is reached over {own}, the baseline's over {base}"))
        }
        (own, base) if own != base => {
            (Severity::Note, format!("the peer is reached over {own}, the baseline's over {base}"))
        }
        _ => return None,
    };
    Some(flag("topology", severity, evidence))
}

/// Its link carries far fewer packets than the same exchanges need on the baseline's: they go another way than it says. Of a stream
/// a packet is as large as the devices make it, so there the numbers say nothing.
fn packets_missing(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Network || case.workload.streams || case.is_baseline() {
        return None;
    }
    let packets = |r: &Record| r.evidence.packets;
    let own = per_operation(case.records.iter().copied(), packets)?;
    let base = per_operation(case.baseline_records.iter().copied(), packets)?;
    (base >= 1.0 && own < counts::FEW * base).then(|| {
        let evidence = format!("{own:.3} packets on its link per operation, the baseline needs {base:.3}");
        flag("packets-missing", Severity::Doubt, evidence)
    })
}

/// The quota of the environment's cgroup stopped it.
fn throttled(case: &Case) -> Option<Flag> {
    let known: Vec<u64> = case.records.iter().filter_map(|r| r.evidence.throttled).collect();
    let hit = known.iter().filter(|t| **t > 0).count();
    (hit > 0).then(|| {
        // A quota period that ends badly now and then is the same for all; one burst in twenty is no longer now and then.
        let often = hit * 20 > known.len() && case.plan.quota.is_none();
        let severity = if often { Severity::Doubt } else { Severity::Note };
        let total: u64 = known.iter().sum();
        let wanted = if case.plan.quota.is_some() { ", as its quota was asked for" } else { "" };
        flag("throttled", severity, format!("{hit} of {} bursts, {total} times in all{wanted}", known.len()))
    })
}

/// More of the host's CPU time than this is worth a word when a hypervisor below takes it.
pub(super) const STEAL: f64 = 0.005;

/// A hypervisor below took CPU time away.
fn steal(case: &Case) -> Option<Flag> {
    let Some(mean) = mean(case.records, |r| r.evidence.steal) else {
        let unknown = case.stored.run.nested.is_some() && !case.records.is_empty() && !case.is_imported();
        let evidence = "unknown: the host is itself a guest, and the hypervisor below reports none";
        return unknown.then(|| flag("steal", Severity::Note, evidence.into()));
    };
    (mean > STEAL).then(|| {
        let severity = if mean > 0.02 { Severity::Doubt } else { Severity::Note };
        flag("steal", severity, format!("{:.1} % of the host's CPU time on average", 100.0 * mean))
    })
}

/// Tasks waited much more than beside the baseline. Often it is the environment's own doing, so this is a note.
fn pressure(case: &Case) -> Option<Flag> {
    let one = |what: &str, share: fn(&Record) -> Option<f64>| {
        let (own, base) = (mean(case.records, share)?, mean(case.baseline_records, share)?);
        let evidence =
            || format!("{what}: {:.0} % of the time, {:.0} % beside the baseline", 100.0 * own, 100.0 * base);
        (own > base + 0.2).then(evidence)
    };
    let seen: Vec<String> =
        [one("waiting for a CPU", |r| r.evidence.pressure_cpu), one("waiting for I/O", |r| r.evidence.pressure_io)]
            .into_iter()
            .flatten()
            .collect();
    (!seen.is_empty()).then(|| flag("pressure", Severity::Note, seen.join("; ")))
}

/// Too slow for the common number of operations. Under a third of them are other work than all of them: the beginning of each draw.
fn fewer_operations(case: &Case) -> Option<Flag> {
    let (cut, all) = cut_short(case.records);
    let rounds = || case.rounds().filter_map(|(own, base)| own.outcome.as_ref().ok().zip(base.outcome.as_ref().ok()));
    let early = rounds().filter(|(own, base)| own.warmup_operations < base.warmup_operations).count();
    let base_early = rounds().filter(|(own, base)| own.warmup_operations > base.warmup_operations).count();
    let (own, base) = rounds().fold((0_u64, 0_u64), |(own, base), (more, planned)| {
        (own.saturating_add(more.operations), base.saturating_add(planned.operations))
    });
    let severity = if own.saturating_mul(3) < base { Severity::Doubt } else { Severity::Note };
    let bursts = (cut > 0).then(|| {
        format!("{cut} of {all} bursts ended by the time limit: {own} operations, the baseline did {base} in the same rounds")
    });
    let warmups = [(early, ""), (base_early, " of the baseline")].into_iter().filter(|(cut, _)| *cut > 0).map(|(cut, whose)| {
        format!("{cut} of {all} warm-ups{whose} ended by the time limit, and the bursts behind them begin elsewhere in the work")
    });
    let evidence: Vec<String> = bursts.into_iter().chain(warmups).collect();
    (!evidence.is_empty()).then(|| flag("fewer-operations", severity, evidence.join("; ")))
}

/// Rounds in which it did other operations than the baseline, though both did all that were planned: each draws its own then,
/// as in runs that were stored before the harness said which burst it is.
fn other_work(case: &Case) -> Option<Flag> {
    if case.is_imported() {
        return None;
    }
    let whole = |r: &Record| r.outcome.as_ref().is_ok_and(|s| !s.cut_short);
    let (mut common, mut other, mut first) = (0, 0, None);
    for (record, base) in case.rounds().filter(|(own, base)| whole(own) && whole(base)) {
        let (Ok(own), Ok(base)) = (&record.outcome, &base.outcome) else { continue };
        // One of them was cut off, which is said elsewhere: what a burst draws and writes goes on where its warm-up ended.
        if own.warmup_operations != base.warmup_operations {
            continue;
        }
        common += 1;
        // Of rounds that don't say what they drew the run as a whole says so.
        let drawn = own.drawn.zip(base.drawn).is_some_and(|(own, base)| own != base);
        let written = own.durable_writes.zip(base.durable_writes).is_some_and(|(own, base)| own != base);
        if drawn || written || (own.operations, own.bytes) != (base.operations, base.bytes) {
            other += 1;
            first.get_or_insert_with(|| {
                let of = |s: &Sample| format!("{} operations of {} bytes", s.operations, s.bytes);
                let which = if drawn { "; other draws" } else { "" };
                format!("{}, the baseline {}{which}", of(own), of(base))
            });
        }
    }
    first.map(|first| {
        let evidence =
            format!("in {other} of {common} rounds it did other work than the baseline: the first time {first}");
        flag("other-work", Severity::Doubt, evidence)
    })
}

pub(super) fn mean(records: &[&Record], value: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
    let known: Vec<f64> = records.iter().filter_map(|r| value(r)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
