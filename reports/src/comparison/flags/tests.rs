//! Each flag is raised by a case made for it, and not by the same case put right.

use std::collections::BTreeMap;

use workloads::evidence::{ClockFit, Evidence, Idle};
use workloads::facts::{Flushes, Keeper, Network};

use crate::comparison::{Cell, Flag, Method, Metric, Severity, Verdict, compare};
use crate::example::{Example, histogram, stored};
use crate::record::{CONTROL, Record, Start, Stored};
use crate::statistics::{Estimate, Interval};

/// The example, in which `qemu` is honest.
fn honest() -> Stored {
    Example { blocks: 6, ..Example::default() }.build()
}

fn cell(stored: &Stored, workload: &str, environment: &str) -> Cell {
    // Only what the cell is made of: reading every histogram for every assertion would take half a minute.
    let mut only = stored.clone();
    only.run.workloads.retain(|w| w.name == workload);
    only.run.environments.retain(|e| e.name == environment || e.name == only.run.baseline);
    only.records
        .retain(|r| r.workload == workload && (r.environment == environment || r.environment == only.run.baseline));
    let c = compare(&only, Method::default());
    c.cell(workload, environment, Metric::P50).expect("a cell of the example").clone()
}

fn found(stored: &Stored, workload: &str, environment: &str, name: &str) -> Option<Flag> {
    cell(stored, workload, environment).flags.into_iter().find(|f| f.name == name)
}

fn starts(stored: &mut Stored, environment: &str, change: impl Fn(&mut Start)) {
    stored.starts.iter_mut().filter(|s| s.environment == environment).for_each(change);
}

fn identity(stored: &mut Stored, environment: &str, change: impl Fn(&mut workloads::protocol::Identity)) {
    starts(stored, environment, |s| change(s.identity.as_mut().expect("the example has identities")));
}

fn records(stored: &mut Stored, workload: &str, environment: &str, change: impl Fn(&mut Record)) {
    stored.records.iter_mut().filter(|r| r.workload == workload && r.environment == environment).for_each(change);
}

fn evidence(stored: &mut Stored, workload: &str, environment: &str, change: impl Fn(&mut Evidence)) {
    records(stored, workload, environment, |r| change(&mut r.evidence));
}

fn plan(stored: &mut Stored, environment: &str, change: impl Fn(&mut crate::record::EnvironmentPlan)) {
    stored.run.environments.iter_mut().filter(|e| e.name == environment).for_each(change);
}

fn direct(stored: &mut Stored, workload: &str) {
    stored.run.workloads.iter_mut().filter(|w| w.name == workload).for_each(|w| (w.direct, w.durable) = (true, false));
}

/// Makes all latencies of a workload in an environment these.
fn latencies(stored: &mut Stored, workload: &str, environment: &str, ns: u64) {
    records(stored, workload, environment, |r| {
        if let Ok(sample) = &mut r.outcome {
            sample.histogram = histogram(std::iter::repeat_n(ns, sample.operations as usize));
            sample.elapsed_ns = ns * sample.operations + 1000;
        }
    });
}

#[test]
fn an_honest_environment_has_only_notes() {
    let mut stored = honest();
    for (workload, environment) in [("sqlite/commit", "runc"), ("disk/fsync", "qemu"), ("net/rr", "gvisor")] {
        let cell = cell(&stored, workload, environment);
        assert!(cell.flags.iter().all(|f| f.severity == Severity::Note), "{:?}", cell.flags);
        assert_eq!(cell.verdict, Verdict::Trusted);
    }
    assert!(found(&stored, "net/rr", "qemu", "emulated-cpu").is_some());
    assert!(found(&stored, "net/rr", "runc", "emulated-cpu").is_none());
    assert!(found(&stored, "net/rr", "runc", "nested").is_some());
    stored.run.nested = None;
    assert!(found(&stored, "net/rr", "runc", "nested").is_none());
}

#[test]
fn memory_disk() {
    let mut stored = honest();
    assert!(found(&stored, "disk/fsync", "runc", "memory-disk").is_none());
    identity(&mut stored, "runc", |i| i.file_system = "tmpfs".into());
    assert_eq!(found(&stored, "disk/fsync", "runc", "memory-disk").map(|f| f.severity), Some(Severity::Fatal));
    assert!(found(&stored, "net/rr", "runc", "memory-disk").is_none());
    identity(&mut stored, "runc", |i| i.file_system = "overlay".into());
    assert!(found(&stored, "disk/fsync", "runc", "memory-disk").is_none(), "an overlay of the host is on its disk");
    identity(&mut stored, "gvisor", |i| i.file_system = "overlay".into());
    plan(&mut stored, "gvisor", |e| e.data.keeper = Keeper::Memory);
    assert!(found(&stored, "disk/fsync", "gvisor", "memory-disk").is_some());
}

#[test]
fn another_disk_is_a_doubt_and_time_says_nothing_of_it() {
    let mut stored = honest();
    let flags = |stored: &Stored, environment| {
        let cell = cell(stored, "disk/fsync", environment);
        let named = cell.flags.iter().map(|f| (f.name, f.severity));
        named.filter(|(name, _)| name.contains("disk") || name.starts_with("fsync")).collect::<Vec<_>>()
    };
    assert_eq!(flags(&stored, "runc"), []);
    // A box that was there before us: its runner knows nothing, its agent knows its disk.
    plan(&mut stored, "runc", |e| e.data = Default::default());
    identity(&mut stored, "runc", |i| i.device = Some("vdb".into()));
    assert_eq!(flags(&stored, "runc"), [("other-disk", Severity::Doubt)]);
    // As fast as a disk that forgets would be, and nobody watches.
    latencies(&mut stored, "disk/fsync", "runc", 10_000);
    evidence(&mut stored, "disk/fsync", "runc", |e| *e = Evidence::default());
    assert_eq!(flags(&stored, "runc"), [("unwatched-disk", Severity::Note)]);
    assert!(found(&stored, "disk/fsync", "runc", "implausible").is_some(), "it stays a doubt");
    // On the disk of the baseline time tells, and condemns nobody.
    plan(&mut stored, "runc", |e| e.data.device = Some("vda".into()));
    assert!(flags(&stored, "runc").contains(&("fsync-not-durable", Severity::Doubt)));
    // A whole run on a file system without a disk of its own.
    for environment in ["bare", "runc"] {
        plan(&mut stored, environment, |e| e.data.device = None);
        evidence(&mut stored, "disk/fsync", environment, |e| *e = Evidence::default());
    }
    assert_eq!(flags(&stored, "runc"), [("unwatched-disk", Severity::Note)]);
}

/// The first line of the run's report, the flag of a durable cell and that of one that promises nothing.
fn first_line(stored: &Stored) -> (Option<String>, Option<Severity>, Option<Severity>) {
    let c = compare(stored, Method::default());
    let line = crate::render::words::not_durable(&c);
    let text = crate::render::find("terminal").expect("a format").renderer.render(&c).expect("drawn");
    let first = String::from_utf8_lossy(&text).lines().next().map(String::from);
    assert!(line.as_deref().is_none_or(|l| first.is_some_and(|f| l.starts_with(&f))), "it is the first line of all");
    let of = |workload| found(stored, workload, "runc", "baseline-not-durable").map(|f| f.severity);
    (line, of("disk/fsync"), of("net/rr"))
}

#[test]
fn a_baseline_on_ground_that_forgets_is_said_first() {
    let mut stored = Example { blocks: 1, ..Example::default() }.build();
    assert_eq!(first_line(&stored), (None, None, None));
    plan(&mut stored, "bare", |e| e.data.forgets = Some("overlay is mounted `volatile`".into()));
    let words = "nothing here is durable, bare included: overlay is mounted `volatile`";
    assert_eq!(first_line(&stored), (Some(words.into()), Some(Severity::Fatal), None));
    stored.run.workloads.iter_mut().for_each(|w| w.durable = false);
    assert_eq!(first_line(&stored), (None, None, None), "nothing was promised");
}

#[test]
fn a_baseline_whose_own_small_writes_are_too_fast_is_said_first() {
    let mut stored = Example { blocks: 1, ..Example::default() }.build();
    let mut canary = |resource: workloads::Resource, ns: u64| {
        let of = |name: &str| stored.run.workloads.iter().any(|w| w.name == name && w.resource == resource);
        let looks = stored.records.iter_mut().filter(|r| of(&r.workload)).map(|r| &mut r.canary);
        looks.for_each(|c| (c.before_ns, c.after_ns) = (ns, ns));
        first_line(&stored).0
    };
    assert_eq!(canary(workloads::Resource::Network, 1_500), None, "no disk is looked at beside those");
    assert_eq!(canary(workloads::Resource::Disk, 9_000), None, "a disk whose cache outlives a loss of power");
    let words = canary(workloads::Resource::Disk, 1_500).expect("no disk is as fast");
    assert!(words.contains("in 1.5 µs"), "{words}");
}

#[test]
fn a_baseline_whose_device_sees_writes_and_no_flush_is_said_first() {
    let mut stored = Example { blocks: 1, ..Example::default() }.build();
    for workload in stored.run.workloads.clone().iter().filter(|w| w.durable) {
        evidence(&mut stored, &workload.name, "bare", |e| (e.device_writes, e.device_flushes) = (Some(500), Some(1)));
    }
    assert_eq!(first_line(&stored).0, None, "nobody says that the disk has a cache");
    stored.run.host.push(("device write cache".into(), "write back".into()));
    assert!(first_line(&stored).0.is_some_and(|w| w.contains("saw ")));
    evidence(&mut stored, "disk/fsync", "bare", |e| e.device_flushes = Some(500));
    assert_eq!(first_line(&stored).0, None);
}

#[test]
fn not_direct() {
    let mut stored = honest();
    direct(&mut stored, "disk/fsync");
    for (facts, raised) in [(("resident", "0.01"), false), (("resident", "0.93"), true), (("direct", "refused"), true)]
    {
        for checked in stored.checks.iter_mut().filter(|c| c.environment == "gvisor" && c.workload == "disk/fsync") {
            checked.facts = BTreeMap::from([(facts.0.to_string(), facts.1.to_string())]);
        }
        assert_eq!(found(&stored, "disk/fsync", "gvisor", "not-direct").is_some(), raised, "{facts:?}");
    }
}

#[test]
fn fsync_by_the_counters_of_the_device() {
    let mut stored = honest();
    let flag =
        found(&stored, "disk/fsync", "qemu-unsafe", "fsync-not-durable").expect("three flushes for 500 operations");
    assert!(flag.evidence.contains("flushes of the host's device per durable write"), "{}", flag.evidence);
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none());
    // A device that counts no flushes is silent; its writes still speak.
    for environment in ["bare", "qemu"] {
        evidence(&mut stored, "disk/fsync", environment, |e| e.device_flushes = Some(0));
    }
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none());
    evidence(&mut stored, "disk/fsync", "qemu", |e| e.device_writes = Some(1));
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_some());
    // Counters that can't be read are no evidence.
    for environment in ["bare", "qemu"] {
        evidence(&mut stored, "disk/fsync", environment, |e| *e = Evidence::default());
    }
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none());
}

#[test]
fn fsync_by_the_guests_view_and_by_time() {
    let mut stored = honest();
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none());
    // Whoever flushes the device then, it isn't this guest.
    let other = stored.clone();
    identity(&mut stored, "qemu", |i| i.virtio_flush = Some(false));
    let flag = found(&stored, "disk/fsync", "qemu", "fsync-not-durable").expect("a flush can't be offered by others");
    assert_eq!(flag.evidence, "the guest's virtio disk doesn't offer flushes");
    stored = other;
    identity(&mut stored, "qemu", |i| i.write_cache = Some("write through".into()));
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_some());
    for environment in ["bare", "qemu", "runc"] {
        evidence(&mut stored, "disk/fsync", environment, |e| *e = Evidence::default());
    }
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_some());
    plan(&mut stored, "qemu", |e| e.data.flushes = Flushes::WrittenThrough);
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none(), "the guest is told the truth");
    plan(&mut stored, "qemu", |e| e.data.flushes = Flushes::Passed);
    identity(&mut stored, "qemu", |i| (i.write_cache, i.virtio_flush) = (Some("write back".into()), Some(false)));
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_some());
    assert!(found(&stored, "disk/fsync", "runc", "fsync-not-durable").is_none());
    latencies(&mut stored, "disk/fsync", "runc", 11_000);
    let flag = found(&stored, "disk/fsync", "runc", "fsync-not-durable").expect("11 us against 150 us");
    assert!(flag.evidence.starts_with("a median of 11.0 µs"), "{}", flag.evidence);
    assert_eq!(flag.severity, Severity::Doubt, "no counter says so");
    // The baseline's second copy is as honest as it is.
    evidence(&mut stored, "disk/fsync", CONTROL, |e| *e = Evidence::default());
    latencies(&mut stored, "disk/fsync", CONTROL, 11_000);
    assert!(found(&stored, "disk/fsync", CONTROL, "fsync-not-durable").is_none());
}

#[test]
fn few_of_the_operations_write_and_each_of_them_flushes() {
    let mut stored = honest();
    // Nine of ten operations read: whoever flushes for each write does so 0.1 times an operation, and the median is a read's.
    for (environment, flushes) in [("bare", 62), ("qemu", 62), ("qemu-unsafe", 0), ("runc", 62)] {
        records(&mut stored, "disk/fsync", environment, |r| {
            r.outcome.as_mut().expect("a sample").durable_writes = Some(62);
            r.evidence.device_flushes = Some(flushes);
        });
    }
    latencies(&mut stored, "disk/fsync", "runc", 11_000);
    assert!(found(&stored, "disk/fsync", "runc", "fsync-not-durable").is_none());
    assert!(found(&stored, "disk/fsync", "qemu", "fsync-not-durable").is_none());
    let flag = found(&stored, "disk/fsync", "qemu-unsafe", "fsync-not-durable").expect("it doesn't");
    assert!(flag.evidence.starts_with("0.000 flushes of the host's device per durable write"), "{}", flag.evidence);
    // A neighbour's flushes hide a liar by their rate, and not where they are known to come by themselves.
    let beside = |r: &mut Record| {
        r.evidence.wall_ns = Some(500_000_000);
        r.evidence.device_flushes = Some(50);
        r.evidence.idle_flushes = None;
    };
    records(&mut stored, "disk/fsync", "qemu-unsafe", beside);
    assert!(found(&stored, "disk/fsync", "qemu-unsafe", "fsync-not-durable").is_none(), "nobody knows of a neighbour");
    records(&mut stored, "disk/fsync", "qemu-unsafe", |r| {
        r.evidence.idle_flushes = Some(Idle { events: 10, ns: 100_000_000 });
    });
    let flag = found(&stored, "disk/fsync", "qemu-unsafe", "fsync-not-durable").expect("all are the neighbour's");
    assert!(flag.evidence.ends_with("; 100 a second come by themselves"), "{}", flag.evidence);
    // Counts that leave it open are no acquittal, but of a median that is a read's nothing follows.
    for environment in ["bare", "runc"] {
        records(&mut stored, "disk/fsync", environment, |r| r.evidence = Evidence::default());
    }
    assert!(found(&stored, "disk/fsync", "runc", "fsync-not-durable").is_none());
    records(&mut stored, "disk/fsync", "runc", |r| {
        let sample = r.outcome.as_mut().expect("a sample");
        sample.durable_writes = Some(sample.operations + sample.warmup_operations);
    });
    assert!(found(&stored, "disk/fsync", "runc", "fsync-not-durable").is_some());
}

#[test]
fn implausible_and_unequal_caches() {
    let mut stored = honest();
    assert!(found(&stored, "disk/fsync", "runc", "implausible").is_none());
    assert!(found(&stored, "disk/fsync", "qemu-unsafe", "implausible").is_some());
    direct(&mut stored, "disk/fsync");
    for (environment, reads) in [("bare", 600), ("qemu", 600)] {
        evidence(&mut stored, "disk/fsync", environment, |e| {
            (e.device_reads, e.device_bytes_read) = (Some(reads), None)
        });
    }
    assert!(found(&stored, "disk/fsync", "qemu", "cache-unequal").is_none());
    evidence(&mut stored, "disk/fsync", "qemu", |e| e.device_reads = Some(4));
    assert!(found(&stored, "disk/fsync", "qemu", "cache-unequal").is_some());
    // Reads that don't promise to go round the page cache: bytes tell, since one kernel asks for more at a time than another.
    stored = honest();
    let bytes = |stored: &mut Stored, bare: u64, qemu: u64| {
        evidence(stored, "disk/fsync", "bare", |e| (e.device_reads, e.device_bytes_read) = (Some(600), Some(bare)));
        evidence(stored, "disk/fsync", "qemu", |e| (e.device_reads, e.device_bytes_read) = (Some(20), Some(qemu)));
    };
    for (bare, qemu, raised) in [
        (4 << 20, 4 << 20, false),
        (4 << 20, 3 << 20, false),
        (4 << 20, 1 << 16, true),
        // What the host itself has in its cache, or a page now and then.
        (0, 0, false),
        (4096, 0, false),
    ] {
        bytes(&mut stored, bare, qemu);
        assert_eq!(found(&stored, "disk/fsync", "qemu", "cache-unequal").is_some(), raised, "{bare} {qemu}");
    }
    // The device counts for everybody: what others read while a few of the baseline's bursts ran is nobody's cache.
    let others = |stored: &mut Stored, one_in: u32| {
        for environment in ["bare", crate::record::CONTROL] {
            evidence(stored, "disk/fsync", environment, |e| (e.device_reads, e.device_bytes_read) = (Some(0), Some(0)));
        }
        records(stored, "disk/fsync", "bare", |r| {
            if r.block % one_in == 0 {
                r.evidence.device_bytes_read = Some(1 << 30);
            }
        });
    };
    others(&mut stored, 3);
    assert!(found(&stored, "disk/fsync", crate::record::CONTROL, "cache-unequal").is_none(), "a bystander's reads");
    others(&mut stored, 1);
    assert!(found(&stored, "disk/fsync", crate::record::CONTROL, "cache-unequal").is_some(), "it reads in every burst");
    // A monitor that knows no O_DIRECT takes direct writes into the host's page cache.
    stored = honest();
    evidence(&mut stored, "disk/fsync", "bare", |e| e.device_writes = Some(600));
    evidence(&mut stored, "disk/fsync", "qemu", |e| e.device_writes = Some(0));
    assert!(found(&stored, "disk/fsync", "qemu", "cache-unequal").is_none(), "it promises nothing about caches");
    direct(&mut stored, "disk/fsync");
    let flag = found(&stored, "disk/fsync", "qemu", "cache-unequal").expect("seen");
    assert!(flag.evidence.contains(" writes of the host's device"), "{}", flag.evidence);
}

#[test]
fn clocks() {
    let mut stored = honest();
    assert!(found(&stored, "net/rr", "gvisor", "clock-coarse").is_none());
    identity(&mut stored, "gvisor", |i| i.clock_ns = 49_000.0);
    assert_eq!(found(&stored, "net/rr", "gvisor", "clock-coarse").map(|f| f.severity), Some(Severity::Doubt));
    identity(&mut stored, "gvisor", |i| (i.clock_ns, i.clock_step_ns) = (25.0, 1_000_000));
    assert!(found(&stored, "net/rr", "gvisor", "clock-coarse").is_some());

    let fit = |drift_ppm, uncertainty_ppm, jump_ns| {
        Some(ClockFit { drift_ppm: Some(drift_ppm), uncertainty_ppm: Some(uncertainty_ppm), jump_ns })
    };
    for (clock, drift, jump) in [
        (fit(-950.0, 20.0, 0), true, false),
        (fit(950.0, 800.0, 0), false, false),
        (fit(0.0, 1.0, 900_000), false, false),
        (fit(0.0, 1.0, 90_000_000), false, true),
        (None, false, false),
    ] {
        starts(&mut stored, "qemu", |s| s.clock = clock);
        assert_eq!(found(&stored, "net/rr", "qemu", "clock-drift").is_some(), drift, "{clock:?}");
        assert_eq!(found(&stored, "net/rr", "qemu", "clock-jump").is_some(), jump, "{clock:?}");
    }
}

#[test]
fn operations_without_time_and_more_time_than_passed() {
    let mut stored = honest();
    for name in ["zero-latency", "latency-sum"] {
        assert!(found(&stored, "net/rr", "runc", name).is_none(), "{name}");
    }
    latencies(&mut stored, "net/rr", "runc", 1);
    assert!(found(&stored, "net/rr", "runc", "zero-latency").is_some());
    latencies(&mut stored, "net/rr", "runc", 30_000);
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_none());
    records(&mut stored, "net/rr", "runc", |r| {
        if let Ok(sample) = &mut r.outcome {
            sample.elapsed_ns /= 2;
        }
    });
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_some());
}

#[test]
fn topology() {
    let mut stored = honest();
    assert!(found(&stored, "net/rr", "runc", "topology").is_none());
    assert_eq!(found(&stored, "net/rr", "qemu", "topology").map(|f| f.severity), Some(Severity::Note));
    assert!(found(&stored, "disk/fsync", "qemu", "topology").is_none());
    for (network, severity) in
        [(Network::UserNat, Severity::Doubt), (Network::Passt, Severity::Doubt), (Network::Loopback, Severity::Fatal)]
    {
        plan(&mut stored, "runc", |e| e.network = network);
        assert_eq!(found(&stored, "net/rr", "runc", "topology").map(|f| f.severity), Some(severity), "{network}");
    }
    plan(&mut stored, "bare", |e| e.network = Network::Loopback);
    assert_eq!(found(&stored, "net/rr", "runc", "topology").map(|f| f.severity), Some(Severity::Note));
}

#[test]
fn packets_that_go_another_way() {
    let mut stored = honest();
    let raised = |stored: &Stored, workload| found(stored, workload, "runc", "packets-missing");
    assert!(raised(&stored, "net/rr").is_none());
    for workload in ["net/rr", "net/stream"] {
        evidence(&mut stored, workload, "runc", |e| e.packets = Some(3));
    }
    let flag = raised(&stored, "net/rr").expect("its link saw next to nothing");
    assert!(flag.severity == Severity::Doubt && flag.evidence.contains("the baseline needs 1.600"), "{flag:?}");
    assert!(raised(&stored, "net/stream").is_none(), "a packet of a stream is as large as devices make it");
    evidence(&mut stored, "net/rr", "runc", |e| e.packets = None);
    assert!(raised(&stored, "net/rr").is_none(), "what can't be read is no evidence");
}

#[test]
fn a_disturbed_or_limited_environment() {
    let mut stored = honest();
    for name in ["throttled", "steal", "pressure", "fewer-operations", "unequal-resources"] {
        assert!(found(&stored, "net/rr", "runc", name).is_none(), "{name}");
    }
    evidence(&mut stored, "net/rr", "runc", |e| {
        (e.throttled, e.steal, e.pressure_cpu) = (Some(3), Some(0.03), Some(0.6));
    });
    records(&mut stored, "net/rr", "runc", |r| {
        if let Ok(sample) = &mut r.outcome {
            sample.cut_short = true;
        }
    });
    plan(&mut stored, "runc", |e| e.unequal = Some("no right to make a cgroup".into()));
    for (name, severity) in [
        ("throttled", Severity::Doubt),
        ("steal", Severity::Doubt),
        ("pressure", Severity::Note),
        ("fewer-operations", Severity::Note),
        ("unequal-resources", Severity::Doubt),
    ] {
        assert_eq!(found(&stored, "net/rr", "runc", name).map(|f| f.severity), Some(severity), "{name}");
    }
    plan(&mut stored, "runc", |e| (e.unequal, e.quota) = (None, Some("50 % of its CPU".into())));
    let throttled = found(&stored, "net/rr", "runc", "throttled").expect("said");
    assert!(throttled.severity == Severity::Note && throttled.evidence.contains("asked for"), "{throttled:?}");
    let quota = found(&stored, "net/rr", "runc", "cpu-quota").expect("said");
    assert!(quota.severity == Severity::Note && quota.evidence.contains("50 % of its CPU"), "{quota:?}");
    assert!(found(&stored, "net/rr", "runc", "unequal-resources").is_none(), "it was asked for");
    evidence(&mut stored, "net/rr", "runc", |e| *e = Evidence::default());
    let flag = found(&stored, "net/rr", "runc", "steal").expect("a guest that isn't told");
    assert!(flag.severity == Severity::Note && flag.evidence.starts_with("unknown"), "{flag:?}");
    stored.run.nested = None;
    assert!(found(&stored, "net/rr", "runc", "steal").is_none(), "what can't be read is no evidence");
}

#[test]
fn under_a_third_of_the_operations_is_a_doubt() {
    let mut stored = honest();
    for (part, severity) in [(2, Severity::Note), (4, Severity::Doubt)] {
        records(&mut stored, "net/rr", "runc", |r| {
            let sample = r.outcome.as_mut().expect("a sample");
            sample.operations /= part;
            sample.elapsed_ns /= part;
            sample.histogram = histogram(std::iter::repeat_n(20_000, sample.operations as usize));
            sample.cut_short = true;
        });
        let flag = found(&stored, "net/rr", "runc", "fewer-operations").expect("it is cut");
        assert_eq!(flag.severity, severity, "{}", flag.evidence);
        assert!(
            flag.evidence.contains("the baseline did") && flag.evidence.ends_with("in the same rounds"),
            "{flag:?}"
        );
    }
}

#[test]
fn a_warm_up_that_was_cut_is_no_burst_that_was() {
    let mut stored = honest();
    records(&mut stored, "net/rr", "runc", |r| {
        let sample = r.outcome.as_mut().expect("a sample");
        (sample.warmup_operations, sample.drawn) = (1, sample.drawn.map(|drawn| drawn + 1));
    });
    let flag = found(&stored, "net/rr", "runc", "fewer-operations").expect("its warm-ups are shorter");
    assert_eq!(flag.severity, Severity::Note);
    let words = " warm-ups ended by the time limit, and the bursts behind them begin elsewhere in the work";
    assert!(flag.evidence.ends_with(words) && !flag.evidence.contains("bursts ended"), "{flag:?}");
    // What it draws is other work for that reason, which is said.
    assert!(found(&stored, "net/rr", "runc", "other-work").is_none());
    // So it is where the baseline's was cut.
    let mut stored = honest();
    for twin in ["bare", "control"] {
        records(&mut stored, "net/rr", twin, |r| {
            let sample = r.outcome.as_mut().expect("a sample");
            (sample.warmup_operations, sample.drawn) = (1, sample.drawn.map(|drawn| drawn + 1));
        });
    }
    assert!(found(&stored, "net/rr", "runc", "other-work").is_none());
    let flag = found(&stored, "net/rr", "runc", "fewer-operations").expect("the baseline's are shorter");
    assert!(flag.evidence.contains(" warm-ups of the baseline ended by the time limit"), "{flag:?}");
}

#[test]
fn heavy_tail() {
    use crate::statistics::{Estimate, Interval};
    let c = compare(&stored(), Method::default());
    let mut finding = c.cell("net/rr", "runc", Metric::P50).expect("a cell").finding.clone().expect("numbers");
    let between = |low, high| Estimate { value: 1.1, interval: Some(Interval { low, high, confidence: 0.95 }) };
    (finding.overhead, finding.geometric) = (between(0.98, 1.03), between(1.01, 1.4));
    assert!(super::heavy_tail(Metric::Mean, &finding).is_some());
    assert!(super::heavy_tail(Metric::Max, &finding).is_none());
    finding.geometric = between(0.9, 1.4);
    assert!(super::heavy_tail(Metric::Mean, &finding).is_none());
}

#[test]
fn latencies_may_add_up_to_as_many_walls_as_there_are_operations_in_flight() {
    let mut stored = honest();
    assert!(found(&stored, "sqlite/writers", "runc", "latency-sum").is_none(), "four at a time fill four walls");
    records(&mut stored, "sqlite/writers", "runc", |r| r.outcome.as_mut().expect("a sample").concurrency = 2);
    let flag = found(&stored, "sqlite/writers", "runc", "latency-sum").expect("two can't");
    assert!(flag.severity == Severity::Doubt && flag.evidence.ends_with("with 2 operations in flight"), "{flag:?}");
    // What was in flight when the warm-up ended counts in full: a burst of few operations may exceed its walls by that.
    latencies(&mut stored, "net/rr", "runc", 1_000_000);
    records(&mut stored, "net/rr", "runc", |r| {
        let sample = r.outcome.as_mut().expect("a sample");
        (sample.concurrency, sample.operations) = (32, 64);
        sample.histogram = histogram(std::iter::repeat_n(1_000_000, 64));
        sample.elapsed_ns = 1_600_000;
    });
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_none());
    records(&mut stored, "net/rr", "runc", |r| r.outcome.as_mut().expect("a sample").elapsed_ns = 700_000);
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_some());
}

#[test]
fn a_low_sum_of_latencies_is_no_doubt() {
    let mut stored = honest();
    records(&mut stored, "net/rr", "runc", |r| r.outcome.as_mut().expect("a sample").elapsed_ns *= 3);
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_none(), "some workloads record a lateness");
}

#[test]
fn crowded_by_bystanders_neighbours_or_another_run() {
    let mut stored = honest();
    let weight = |stored: &Stored, workload| found(stored, workload, "runc", "crowded").map(|f| f.severity);
    assert_eq!(weight(&stored, "control/syscall"), None);
    // Of the time that its bursts and their warm-ups took.
    let shares = |stored: &mut Stored, workload: &str, share: f64, of: fn(&mut Evidence, f64)| {
        records(stored, workload, "runc", |r| {
            let wall = r.evidence.wall_ns.expect("the example has it") as f64;
            of(&mut r.evidence, share * wall);
        });
    };
    let bystanders: fn(&mut Evidence, f64) = |e, ns| e.bystanders_ns = Some(ns as u64);
    for (share, severity) in [(0.005, None), (0.02, Some(Severity::Note)), (0.06, Some(Severity::Doubt))] {
        shares(&mut stored, "disk/fsync", share, bystanders);
        assert_eq!(weight(&stored, "disk/fsync"), severity, "{share}");
    }
    // The kernel counts them in ticks: of 12 short bursts a sum of 10 ms says nothing, and half of a second does.
    records(&mut stored, "control/syscall", "runc", |r| r.evidence.neighbours_ns = Some(1_000_000));
    assert_eq!(weight(&stored, "control/syscall"), None);
    records(&mut stored, "control/syscall", "runc", |r| r.evidence.neighbours_ns = Some(40_000_000));
    assert_eq!(weight(&stored, "control/syscall"), Some(Severity::Doubt));
    records(&mut stored, "sqlite/commit", "runc", |r| r.evidence.neighbours_ns = Some(40_000_000));
    assert_eq!(weight(&stored, "sqlite/commit"), None, "the kernel works for the disk on the same CPU");
    stored.run.host.push((crate::record::UNSEEN_RUN.into(), "it can't be seen".into()));
    assert_eq!(weight(&stored, "sqlite/commit"), Some(Severity::Note));
    stored.run.host.push((crate::record::OTHER_RUN.into(), "process 7 was measuring".into()));
    assert_eq!(weight(&stored, "sqlite/commit"), Some(Severity::Doubt));
}

#[test]
fn late_generator() {
    let mut stored = honest();
    assert!(found(&stored, "net/paced", "runc", "late-generator").is_none(), "0.4 us of 22 us");
    let flag = found(&stored, "net/paced", "gvisor", "late-generator").expect("9 us of 40 us");
    assert!(flag.severity == Severity::Doubt && flag.evidence.contains("late by 9.1 µs at p50"), "{flag:?}");
    // A late hundredth is no matter where the slowest hundredth of the operations is slower still.
    let change = |ns: u64| {
        move |r: &mut Record| {
            let lateness = std::iter::repeat_n(300, 2560).chain(std::iter::repeat_n(ns, 40));
            r.outcome.as_mut().expect("a sample").lateness = Some(histogram(lateness));
        }
    };
    records(&mut stored, "net/paced", "runc", change(2_000));
    assert!(found(&stored, "net/paced", "runc", "late-generator").is_none());
    records(&mut stored, "net/paced", "runc", change(900_000));
    assert!(found(&stored, "net/paced", "runc", "late-generator").is_some_and(|f| f.evidence.contains("at p99")));
    assert!(found(&stored, "net/rr", "runc", "late-generator").is_none(), "there is no generator in closed loop");
}

#[test]
fn rate_not_reached() {
    let mut stored = honest();
    assert!(found(&stored, "net/paced", "runc", "rate-not-reached").is_none());
    let flag =
        found(&stored, "net/paced", "qemu", "rate-not-reached").expect("its operations take longer than the gaps");
    assert!(flag.severity == Severity::Doubt && flag.evidence.contains("of 20000 operations per second"), "{flag:?}");
    // 2 x 6 bursts of 10 operations: random arrivals are off by a quarter easily, regular ones never.
    for (arrivals, raised) in [("poisson", false), ("linear", true)] {
        let plan = stored.run.workloads.iter_mut().find(|w| w.name == "net/paced").expect("it is there");
        plan.settings.insert("arrivals".into(), arrivals.into());
        records(&mut stored, "net/paced", "runc", |r| {
            let sample = r.outcome.as_mut().expect("a sample");
            (sample.operations, sample.elapsed_ns) = (10, 600_000);
        });
        assert_eq!(found(&stored, "net/paced", "runc", "rate-not-reached").is_some(), raised, "{arrivals}");
    }
}

#[test]
fn what_an_import_found_is_a_flag_and_our_own_rules_keep_out() {
    let mut stored = honest();
    records(&mut stored, "net/rr", "runc", |r| r.outcome.as_mut().expect("a sample").elapsed_ns /= 9);
    for checked in stored.checks.iter_mut().filter(|c| c.workload == "net/rr" && c.environment == "runc") {
        checked.facts = [("percentiles-not-monotonic".to_string(), "p50 is 8 ns and p99 is 7 ns".to_string())].into();
    }
    assert!(
        found(&stored, "net/rr", "runc", "percentiles-not-monotonic").is_none(),
        "only imported data brings flags along"
    );
    assert!(found(&stored, "net/rr", "runc", "latency-sum").is_some());
    for workload in stored.run.workloads.iter_mut().filter(|w| w.name == "net/rr") {
        workload.kind = crate::record::FIO.into();
    }
    let flag = found(&stored, "net/rr", "runc", "percentiles-not-monotonic").expect("it is imported now");
    assert_eq!(
        (flag.severity, flag.evidence.as_str()),
        (Severity::Fatal, "p50 is 8 ns and p99 is 7 ns; and in 5 more blocks")
    );
    assert!(
        found(&stored, "net/rr", "runc", "latency-sum").is_none(),
        "the import knows the sum better than a histogram"
    );
}

/// The cell of a metric, of a run in which a workload of `runc` takes so many times as long though its operations do not.
fn stopped(times: u64, cut: bool, metric: Metric) -> Cell {
    let mut stored = honest();
    records(&mut stored, "disk/fsync", "runc", |r| {
        if let Ok(sample) = &mut r.outcome {
            sample.elapsed_ns *= times;
            sample.cut_short = cut;
        }
    });
    stored.run.workloads.retain(|w| w.name == "disk/fsync");
    stored.records.retain(|r| r.workload == "disk/fsync");
    let c = compare(&stored, Method::default());
    c.cell("disk/fsync", "runc", metric).expect("a cell of the example").clone()
}

#[test]
fn a_mean_that_tells_another_story_than_the_median_is_marked() {
    let marked = |cell: &Cell| cell.marks().find(|f| f.name == "mean-apart").map(|f| (f.severity, f.evidence.clone()));
    assert_eq!(marked(&stopped(1, false, Metric::Throughput)), None);
    let cell = stopped(40, false, Metric::Throughput);
    let (severity, evidence) = marked(&cell).expect("it is");
    assert_eq!((severity, cell.verdict), (Severity::Note, Verdict::Trusted));
    assert!(evidence.starts_with('4') && evidence.contains("times by half of the operations"), "{evidence}");
    // Where the limit ended the bursts, how many stops fit into one is chance.
    let cell = stopped(40, true, Metric::Throughput);
    let (severity, evidence) = marked(&cell).expect("it is");
    assert_eq!((severity, cell.verdict), (Severity::Doubt, Verdict::Suspect));
    assert!(
        evidence.ends_with("bursts ended by the time limit, and how many stops fit into one is chance"),
        "{evidence}"
    );
    // The median is what it is.
    assert_eq!(marked(&stopped(40, true, Metric::P50)), None);
}

#[test]
fn a_mean_below_the_median_is_marked_too() {
    let estimate = |value: f64| Estimate {
        value,
        interval: Some(Interval { low: value * 0.98, high: value * 1.02, confidence: 0.95 }),
    };
    let of = |cost, median| super::mean_apart(estimate(cost), estimate(median), &[], 0.05);
    assert!(of(0.8, 1.0).expect("it is").evidence.contains("weighs less than the baseline's"));
    assert!(of(1.21, 0.98).expect("it is").evidence.contains("weighs more than the baseline's"));
    assert!(of(1.03, 1.0).is_none() && of(1.045, 1.0).is_none());
}

#[test]
fn the_largest_latency_says_that_it_is_one() {
    assert!(stopped(1, false, Metric::Max).flags.iter().any(|f| f.name == "one-value"));
    assert!(stopped(1, false, Metric::P50).flags.iter().all(|f| f.name != "one-value"));
}

#[test]
fn much_more_written_than_beside_the_baseline_is_said_with_how_many_bursts_did() {
    let written = |few: bool| {
        let mut stored = honest();
        evidence(&mut stored, "disk/fsync", "bare", |e| e.device_bytes_written = Some(1_000_000));
        records(&mut stored, "disk/fsync", "runc", |r| {
            r.evidence.device_bytes_written = Some(if few && r.block % 4 != 0 { 1_000_000 } else { 9_000_000 });
        });
        found(&stored, "disk/fsync", "runc", "more-written").expect("it is").evidence
    };
    assert!(written(false).contains("; most of its bursts do so (median "), "{}", written(false));
    assert!(written(true).contains("others may have written beside a few (median "), "{}", written(true));
    let mut stored = honest();
    evidence(&mut stored, "disk/fsync", "bare", |e| e.device_bytes_written = Some(1_000_000));
    evidence(&mut stored, "disk/fsync", "runc", |e| e.device_bytes_written = Some(1_300_000));
    assert_eq!(found(&stored, "disk/fsync", "runc", "more-written"), None);
}
