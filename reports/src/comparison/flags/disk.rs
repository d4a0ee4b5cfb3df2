//! Whether the disk was what the workload thinks it was.

use workloads::Resource;
use workloads::facts::{Flushes, Keeper, Kernel};

use super::{Case, flag, per_operation};
use crate::comparison::{Flag, Severity, quantile};

/// With less than this share of the baseline's flushes per operation, operations didn't wait for the device. Commits may
/// share a flush, and other writers add some, so the line is far from 1.
const FEW: f64 = 0.25;

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

/// Operations that promise durability ended before the device had the data. Counters of the host's device decide where
/// they count at all; what the guest says and how fast it is only where they don't.
pub(super) fn fsync_not_durable(case: &Case) -> Option<Flag> {
    if !case.workload.durable || case.is_baseline() {
        return None;
    }
    let fatal = |evidence| Some(flag("fsync-not-durable", Severity::Fatal, evidence));
    let flushes = (
        per_operation(case.records, |r| r.evidence.device_flushes),
        per_operation(case.baseline_records, |r| r.evidence.device_flushes),
    );
    if let (Some(own), Some(base)) = flushes
        && base > 0.1
    {
        let evidence = || format!("{own:.3} flushes of the host's device per operation, the baseline needs {base:.3}");
        return if own < FEW * base { fatal(evidence()) } else { None };
    }
    let writes = (
        per_operation(case.records, |r| r.evidence.device_writes),
        per_operation(case.baseline_records, |r| r.evidence.device_writes),
    );
    if let (Some(own), Some(base)) = writes
        && base > 0.5
        && own < FEW * base
    {
        return fatal(format!("{own:.3} writes of the host's device per operation, the baseline needs {base:.3}"));
    }
    if let Some(evidence) = guests_view(case) {
        return fatal(evidence);
    }
    let timed = !case.merged.histogram.is_empty() && !case.baseline.histogram.is_empty();
    let (own, base) = (quantile(case.merged.service(), 0.5), quantile(case.baseline.service(), 0.5));
    // The device is the same, so a durable operation can't take half as long from inside.
    (timed && own < 0.5 * base).then(|| {
        let evidence = format!("a median of {:.1} us where the host itself needs {:.1} us", own / 1e3, base / 1e3);
        flag("fsync-not-durable", Severity::Fatal, evidence)
    })
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
    if case.is_baseline() || !(case.workload.durable || case.workload.direct) {
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

/// Direct reads that the host's device never saw: a cache below the guest answered.
pub(super) fn cache_unequal(case: &Case) -> Option<Flag> {
    if !case.workload.direct || case.is_baseline() {
        return None;
    }
    let own = per_operation(case.records, |r| r.evidence.device_reads)?;
    let base = per_operation(case.baseline_records, |r| r.evidence.device_reads)?;
    (base > 0.5 && own < FEW * base).then(|| {
        let evidence = format!("{own:.3} reads of the host's device per operation, the baseline needs {base:.3}");
        flag("cache-unequal", Severity::Doubt, evidence)
    })
}
