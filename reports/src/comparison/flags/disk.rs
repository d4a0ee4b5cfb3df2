//! Whether the disk was what the workload thinks it was.

use workloads::Resource;
use workloads::canary::NO_DISK_NS;
use workloads::evidence::Evidence;
use workloads::facts::{Flushes, Keeper, Kernel};
use workloads::protocol::{Identity, Sample};

use super::counts::{Counts, FEW, Verdict};
use super::{Case, flag};
use crate::comparison::seen::per_operation;
use crate::comparison::{Flag, Severity, quantile};
use crate::record::{CONTROL, EnvironmentPlan, Record, Stored};
use crate::statistics::median;

/// Where a device counts fewer flushes than one in so many of its writes, nobody flushed: others that use it add some, and of a
/// durable write of a megabyte the device makes a dozen.
const WRITES_OF_A_FLUSH: u64 = 200;

/// So many writes of the device tell: of fewer nobody can say that a flush should have been among them.
const ENOUGH_WRITES: u64 = 100;

/// Why nothing that the baseline flushed outlives a loss of power, in runs that have durable work: then it isn't net, and no
/// other environment can be told by it. The data's own ground says so, or the host's small writes, which are too fast for any disk,
/// or its device, which has a cache and saw no flush.
pub(in crate::comparison) fn baseline_forgets(stored: &Stored) -> Option<String> {
    let run = &stored.run;
    let durable = |name: &str| run.workloads.iter().any(|w| w.name == name && w.durable && !w.is_imported());
    if !run.workloads.iter().any(|w| durable(&w.name)) {
        return None;
    }
    let plan = run.environments.iter().find(|e| e.name == run.baseline)?;
    let stated = plan.data.forgets.clone();
    stated.or_else(|| fast_canary(stored)).or_else(|| no_flushes(stored, durable))
}

fn fast_canary(stored: &Stored) -> Option<String> {
    let on_disk = |name: &str| stored.run.workloads.iter().any(|w| w.name == name && w.resource == Resource::Disk);
    let looks = stored.records.iter().filter(|r| on_disk(&r.workload));
    let mut looks: Vec<u64> =
        looks.flat_map(|r| [r.canary.before_ns, r.canary.after_ns]).filter(|ns| *ns > 0).collect();
    looks.sort_unstable();
    let median = *looks.get(looks.len() / 2)?;
    (median < NO_DISK_NS).then(|| {
        let us = median as f64 / 1e3;
        format!("the host itself writes 4 KiB and has them flushed in {us:.1} µs, and no disk is as fast")
    })
}

fn no_flushes(stored: &Stored, durable: impl Fn(&str) -> bool) -> Option<String> {
    let run = &stored.run;
    // Without a cache, or where nobody says that there is one, the kernel has no flush to send.
    let cached = |(name, value): &(String, String)| name == "device write cache" && value == "write back";
    let own = |r: &&Record| r.environment == run.baseline && durable(&r.workload);
    let counts =
        stored.records.iter().filter(own).filter_map(|r| r.evidence.device_writes.zip(r.evidence.device_flushes));
    let (writes, flushes) = counts.fold((0, 0), |sum, (writes, flushes)| (sum.0 + writes, sum.1 + flushes));
    let none = writes >= ENOUGH_WRITES && flushes * WRITES_OF_A_FLUSH < writes;
    (none && run.host.iter().any(cached)).then(|| {
        format!("the host's device has a write cache, and beside {writes} writes of the baseline's durable work it saw {flushes} flushes")
    })
}

/// The baseline promises durability and keeps nothing.
pub(super) fn baseline_not_durable(case: &Case) -> Option<Flag> {
    if !case.workload.durable || case.is_imported() {
        return None;
    }
    let why = case.forgets?;
    Some(flag("baseline-not-durable", Severity::Fatal, why.to_string()))
}

/// An operation that reads less from the device than this, bytes, reads from a cache.
const LEAST_BYTES: f64 = 2048.0;

/// The data lies in memory: its runner says so, or the file system that is seen inside is one in memory.
pub(super) fn memory_disk(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Disk {
        return None;
    }
    let kind = case.starts().find_map(|s| Some(s.identity.as_ref()?.file_system.as_str())).unwrap_or("nothing known");
    // A sandbox may lay a file system of its own over the host's, under whatever name.
    let stated = case.plan.data.keeper == Keeper::Memory;
    if !stated && !matches!(kind, "tmpfs" | "ramfs" | "rootfs") {
        return None;
    }
    let severity = if case.workload.durable { Severity::Fatal } else { Severity::Doubt };
    let kept = if stated { ", which is kept in memory or in a file that is never flushed" } else { "" };
    Some(flag("memory-disk", severity, format!("the data directory is on {kind} as seen inside{kept}")))
}

/// Direct I/O was asked for and the page cache took part.
pub(super) fn not_direct(case: &Case) -> Option<Flag> {
    if !case.workload.direct {
        return None;
    }
    if let Some(word) = case.facts("direct").find(|f| matches!(*f, "refused" | "false")) {
        return Some(flag("not-direct", Severity::Doubt, format!("direct I/O: {word}")));
    }
    let resident = case.facts("resident").filter_map(|f| f.parse::<f64>().ok()).max_by(f64::total_cmp)?;
    (resident > 0.05).then(|| {
        let evidence = format!("{:.0} % of the file's pages were in the page cache after direct I/O", 100.0 * resident);
        flag("not-direct", Severity::Doubt, evidence)
    })
}

/// The host's disk under an environment's data: where it was watched, and its runner doesn't know, as the agent called it.
pub(in crate::comparison) fn below<'a>(
    plan: &'a EnvironmentPlan,
    mut identities: impl Iterator<Item = &'a Identity>,
    records: &[&Record],
) -> Option<&'a str> {
    let data = &plan.data;
    let told = data.keeper != Keeper::Memory && data.kernel != Kernel::Guest && watched(records);
    data.device.as_deref().or_else(|| if told { identities.find_map(|i| i.device.as_deref()) } else { None })
}

fn watched(records: &[&Record]) -> bool {
    records.iter().any(|r| r.evidence.device_writes.is_some())
}

/// The disk under this environment's data, and the one under the baseline's.
fn disks<'a>(case: &'a Case) -> (Option<&'a str>, Option<&'a str>) {
    let base = case.baseline_plan().and_then(|plan| plan.data.device.as_deref());
    (below(case.plan, case.starts().filter_map(|s| s.identity.as_ref()), case.records), base)
}

/// Its data lie on another disk than the baseline's.
pub(super) fn other_disk(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Disk || case.is_imported() {
        return None;
    }
    let (Some(own), Some(base)) = disks(case) else { return None };
    (own != base).then(|| {
        let evidence = format!("its data lie on {own}, the baseline's on {base}: two disks are compared as well");
        flag("other-disk", Severity::Doubt, evidence)
    })
}

/// No counter of the host's tells what became of its writes: it lies on a file system that has no disk of its own (an overlay,
/// btrfs), or in a box that was there before us and whose disk isn't known here.
pub(super) fn unwatched_disk(case: &Case) -> Option<Flag> {
    let promises = case.workload.durable || case.workload.direct;
    if !promises || case.is_imported() || case.plan.data.keeper == Keeper::Memory || watched(case.records) {
        return None;
    }
    let place = if case.plan.data_path.is_empty() { "a disk that isn't known" } else { &case.plan.data_path };
    let evidence =
        format!("nobody can watch the disk under its data ({place}): only times tell whether writes reach it");
    Some(flag("unwatched-disk", Severity::Note, evidence))
}

/// Operations that promise durability ended before the device had the data. Counters of the host's device speak first. Where they
/// accuse nobody, a guest's own disk does that takes no flushes: those that the device saw were then somebody else's. How fast it is
/// says something only where counters leave it open.
pub(super) fn fsync_not_durable(case: &Case) -> Option<Flag> {
    if !case.workload.durable || case.is_baseline() {
        return None;
    }
    let fatal = |evidence| Some(flag("fsync-not-durable", Severity::Fatal, evidence));
    let (flushes, few_flushes) = counted(case, "flushes", |e| e.device_flushes, 0.1);
    let (_, few_writes) = counted(case, "writes", |e| e.device_writes, 0.5);
    if let Some(evidence) = few_flushes.or_else(|| guests_view(case)) {
        return fatal(evidence);
    }
    if flushes == Some(Verdict::Enough) {
        return None;
    }
    if let Some(evidence) = few_writes {
        return fatal(evidence);
    }
    // Time alone tells where it is the same disk, and of others nothing; of the baseline's second copy it tells of the disk's moods.
    let is_control = case.plan.name == CONTROL;
    let same = matches!(disks(case), (Some(own), Some(base)) if own == base);
    let timed = same
        && !is_control
        && !case.merged.histogram.is_empty()
        && !case.baseline.histogram.is_empty()
        && every_operation_lasts(case);
    let (own, base) = (quantile(case.merged.service(), 0.5), quantile(case.baseline.service(), 0.5));
    // The device is the same, so a durable operation shouldn't take half as long from inside. But a disk has its moods, and one
    // that is in two of them by turns has condemned an honest box: without a count it stays a doubt.
    (timed && own < 0.5 * base).then(|| {
        let evidence = format!("a median of {:.1} µs where the host itself needs {:.1} µs", own / 1e3, base / 1e3);
        flag("fsync-not-durable", Severity::Doubt, evidence)
    })
}

/// Events of the device held against the baseline's, and in words where they are too few.
fn counted(
    case: &Case,
    events: &str,
    count: fn(&Evidence) -> Option<u64>,
    least: f64,
) -> (Option<Verdict>, Option<String>) {
    let (Some(own), Some(base)) = (Counts::of(case.records, count), Counts::of(case.baseline_records, count)) else {
        return (None, None);
    };
    let verdict = own.against(&base, least);
    let few = (verdict == Some(Verdict::Few)).then(|| {
        let idle =
            own.idle_per_second().map_or_else(String::new, |rate| format!("; {rate:.0} a second come by themselves"));
        let (own, base) = (own.each(), base.each());
        format!("{own:.3} {events} of the host's device per durable write, the baseline needs {base:.3}{idle}")
    });
    (verdict, few)
}

/// Whether every operation is a durable write, so that the median is one's.
fn every_operation_lasts(case: &Case) -> bool {
    let all = |s: &Sample| s.operations.saturating_add(s.warmup_operations);
    let mut samples = case.records.iter().filter_map(|r| r.outcome.as_ref().ok());
    samples.all(|s| s.durable_writes.is_none_or(|writes| writes >= all(s)))
}

/// A guest whose disk takes no flushes. Where every write is on the disk before it is done, that is as it should be.
fn guests_view(case: &Case) -> Option<String> {
    if case.plan.data.flushes == Flushes::WrittenThrough {
        return None;
    }
    let identity = case.starts().find_map(|s| s.identity.as_ref())?;
    if identity.virtio_flush == Some(false) {
        return Some("the guest's virtio disk doesn't offer flushes".into());
    }
    let device = identity.device.as_deref()?;
    // What a host's own kernel says of a disk is no guest's view, though it may be a guest itself.
    let guest = case.plan.data.kernel == Kernel::Guest && device.starts_with("vd");
    (guest && identity.write_cache.as_deref() == Some("write through"))
        .then(|| format!("`{device}` says `write through` in the guest, so its fsync sends no flush"))
}

/// Faster than the disk that it stands on.
pub(super) fn implausible(case: &Case) -> Option<Flag> {
    if case.is_baseline() || case.is_imported() || !(case.workload.durable || case.workload.direct) {
        return None;
    }
    let interval = case.overhead?.interval?;
    (interval.high < 0.8).then(|| {
        let what = if case.workload.durable { "durable writes" } else { "direct I/O" };
        let evidence =
            format!("{what} in {:.2} to {:.2} of the time that the host itself needs", interval.low, interval.high);
        flag("implausible", Severity::Doubt, evidence)
    })
}

/// Work that bare metal's device did and this environment's never saw: a cache below did it, the host's page cache above all.
pub(super) fn cache_unequal(case: &Case) -> Option<Flag> {
    if case.workload.resource != Resource::Disk || case.is_baseline() || case.is_imported() {
        return None;
    }
    let evidence = unseen_reads(case).or_else(|| unseen_direct_writes(case))?;
    Some(flag("cache-unequal", Severity::Doubt, evidence))
}

/// What a burst's operation causes at the host's device, own and the baseline's: of the median burst, since the device counts for
/// everybody, and what others do while one burst runs is no cache of the next.
fn each(case: &Case, count: fn(&Record) -> Option<u64>) -> Option<(f64, f64)> {
    let typical = |records: &[&Record]| {
        let bursts: Vec<f64> = records.iter().filter_map(|record| per_operation([*record], count)).collect();
        median(&bursts, 0.95).map(|median| median.value)
    };
    Some((typical(case.records)?, typical(case.baseline_records)?))
}

/// Bytes tell, since one kernel asks for more at a time than another; of runs that don't have them, the reads of direct I/O.
fn unseen_reads(case: &Case) -> Option<String> {
    let (what, places, least, (own, base)) = match each(case, |r| r.evidence.device_bytes_read) {
        Some(both) => ("bytes read from", 0, LEAST_BYTES, both),
        None if case.workload.direct => ("reads of", 3, 0.5, each(case, |r| r.evidence.device_reads)?),
        None => return None,
    };
    (base > least && own < FEW * base)
        .then(|| format!("{own:.places$} {what} the host's device per operation, the baseline needs {base:.places$}"))
}

/// A monitor that opens no file with O_DIRECT takes its guest's direct writes into the host's page cache.
fn unseen_direct_writes(case: &Case) -> Option<String> {
    let (own, base) = each(case, |r| r.evidence.device_writes)?;
    (case.workload.direct && base > 0.5 && own < FEW * base)
        .then(|| format!("{own:.3} writes of the host's device per operation, the baseline needs {base:.3}"))
}
