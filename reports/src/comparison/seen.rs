//! The host's counters beside the operations of a workload: where time went that the box itself doesn't see, and work that it
//! made of work.

use std::collections::BTreeMap;

use crate::record::Record;
use crate::statistics::{Estimate, hodges_lehmann};

/// What the host counted, by operation; the counters see warm-ups, so their operations count too. `None` where a counter
/// couldn't be read, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// CPU time of everything in the environment, nanoseconds: its helpers and a machine's own threads included.
    pub cpu_ns: Option<f64>,
    /// How many times that of the baseline it is, from the ratios within blocks.
    pub cpu: Option<Estimate>,
    /// Not by operation: where that time was spent; `None` too where too few ticks stand behind it.
    pub split: Option<Split>,
    /// Reads of the device under the data.
    pub reads: Option<f64>,
    /// Bytes read from it.
    pub bytes_read: Option<f64>,
    /// Writes to it.
    pub writes: Option<f64>,
    /// Bytes written to it.
    pub bytes_written: Option<f64>,
    /// Its flushes.
    pub flushes: Option<f64>,
    /// How often threads that were there from the start to the end, or began in between, were given a CPU.
    pub switches: Option<f64>,
    /// Packets on its own link, both ways.
    pub packets: Option<f64>,
    /// Not by operation: pages of files in the host's page cache after a burst, bytes, the mean.
    pub cache_bytes: Option<f64>,
    /// Not by operation: memory held by its processes after a burst, bytes, the mean.
    pub memory_bytes: Option<f64>,
    /// Not by operation: how long the looks at the counters took, as a share of the time between them.
    pub looks: Option<f64>,
}

/// Where CPU time was spent, as shares of it that add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// Outside the kernel; with that of guests where theirs is unknown.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// In guests, on the CPU itself; `None` where it couldn't be read.
    pub guest: Option<f64>,
    /// The time that these are shares of, nanoseconds.
    pub of_ns: u64,
}

/// So much CPU time tells where it was spent, nanoseconds: the kernel looks at its ticks, and at 100 Hz, the slowest, this is a hundred.
const ENOUGH_NS: u64 = 1_000_000_000;

impl Split {
    /// Over all bursts in which it could be read.
    fn of(records: &[&Record]) -> Option<Self> {
        let (mut user, mut system, mut guest) = (0, 0, Some(0));
        for evidence in records.iter().filter(|r| r.outcome.is_ok()).map(|r| &r.evidence) {
            let (Some(outside), Some(inside)) = (evidence.cpu_user_ns, evidence.cpu_system_ns) else { continue };
            (user, system) = (user + outside, system + inside);
            guest = guest.zip(evidence.cpu_guest_ns).map(|(all, own)| all + own);
        }
        let of_ns = user + system;
        // Guests are counted by process and the rest by group, each at moments of its own.
        let guest = guest.map(|guest| guest.min(user));
        let share = |ns: u64| ns as f64 / of_ns as f64;
        let split =
            || Self { user: share(user - guest.unwrap_or(0)), system: share(system), guest: guest.map(share), of_ns };
        (of_ns >= ENOUGH_NS).then(split)
    }
}

impl Seen {
    /// Beside the baseline, whose records are empty where that is what is looked at.
    pub(super) fn of(records: &[&Record], baseline: &[&Record], confidence: f64) -> Self {
        let each = |count: fn(&Record) -> Option<u64>| per_operation(records.iter().copied(), count);
        let (own, base) = (cpu_of_blocks(records), cpu_of_blocks(baseline));
        let logs: Vec<f64> = own.iter().filter_map(|(block, own)| Some((own / base.get(block)?).ln())).collect();
        // Where a counter stands still in a block there is no ratio.
        let cpu = logs.iter().all(|log| log.is_finite()).then(|| hodges_lehmann(&logs, confidence)).flatten();
        Self {
            cpu_ns: each(|r| r.evidence.cpu_ns),
            cpu: cpu.map(|ratio| ratio.map(f64::exp)),
            split: Split::of(records),
            reads: each(|r| r.evidence.device_reads),
            bytes_read: each(|r| r.evidence.device_bytes_read),
            writes: each(|r| r.evidence.device_writes),
            bytes_written: each(|r| r.evidence.device_bytes_written),
            flushes: each(|r| r.evidence.device_flushes),
            switches: each(|r| r.evidence.context_switches),
            packets: each(|r| r.evidence.packets),
            cache_bytes: held(records, |r| r.evidence.cache_bytes),
            memory_bytes: held(records, |r| r.evidence.memory_bytes),
            looks: looks(records.iter().copied()),
        }
    }
}

/// The mean of what was held after a burst, over those in which it could be read.
fn held(records: &[&Record], bytes: impl Fn(&Record) -> Option<u64>) -> Option<f64> {
    super::flags::mean(records, |r| bytes(r).map(|bytes| bytes as f64))
}

/// How long looks took beside the time between them, over the bursts of which that is known; `None` where there is none.
pub(super) fn looks<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<f64> {
    let known = records.into_iter().filter_map(|r| r.evidence.looks_ns.zip(r.evidence.wall_ns));
    let (looks, bursts) = known.fold((0, 0), |(looks, bursts), (look, burst)| (looks + look, bursts + burst));
    (bursts > 0).then(|| looks as f64 / bursts as f64)
}

fn cpu_of_blocks(records: &[&Record]) -> BTreeMap<u32, f64> {
    let blocks: BTreeMap<u32, Vec<&Record>> = records.iter().fold(BTreeMap::new(), |mut blocks, record| {
        blocks.entry(record.block).or_insert_with(Vec::new).push(*record);
        blocks
    });
    let cpu = |records: Vec<&Record>| per_operation(records, |r| r.evidence.cpu_ns);
    blocks.into_iter().filter_map(|(block, records)| Some((block, cpu(records)?))).collect()
}

/// Events counted per operation, over the bursts whose counter could be read; `None` where none could.
pub(super) fn per_operation<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    count: impl Fn(&Record) -> Option<u64>,
) -> Option<f64> {
    let (mut events, mut operations) = (0_u64, 0_u64);
    for record in records {
        if let (Some(n), Ok(sample)) = (count(record), &record.outcome) {
            events = events.saturating_add(n);
            // The counters saw the warm-up too.
            operations = operations.saturating_add(sample.operations).saturating_add(sample.warmup_operations);
        }
    }
    (operations > 0).then(|| events as f64 / operations as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// A burst in each block, beside which the environment took so much CPU time.
    fn rows(cpu: impl Fn(u32) -> Option<u64>) -> Vec<Record> {
        let all = example::stored().records.into_iter();
        let mut rows: Vec<Record> = all
            .filter(|r| (r.workload.as_str(), r.environment.as_str(), r.round) == ("disk/fsync", "bare", 0))
            .collect();
        assert_eq!(rows.len(), 8);
        rows.iter_mut().for_each(|r| r.evidence.cpu_ns = cpu(r.block));
        rows
    }

    #[test]
    fn looks_are_a_share_of_the_time_between_them_and_remarked_on_where_they_are_long() {
        let of = |look: Option<u64>| {
            let mut stored = example::stored();
            for record in &mut stored.records {
                (record.evidence.looks_ns, record.evidence.wall_ns) = (look, Some(100_000_000));
            }
            let c = crate::comparison::compare(&stored, crate::comparison::Method::default());
            let remark = c.remarks.iter().find(|remark| remark.contains("counters")).cloned();
            (c.distribution("disk/fsync", "bare").expect("it ran").seen.looks, remark)
        };
        assert_eq!((of(None), of(Some(500_000))), ((None, None), (Some(0.005), None)));
        let (share, remark) = of(Some(6_000_000));
        assert_eq!(share, Some(0.06));
        assert!(remark.expect("one").starts_with("the host's counters were read for 6.0 % of the time"));
    }

    #[test]
    fn cpu_time_is_by_operation_and_held_against_the_baseline_of_its_own_block() {
        let operations = |r: &Record| r.outcome.as_ref().map(|s| s.operations + s.warmup_operations).unwrap();
        // The machine was twice as slow in every second block, for both.
        let weather = |block: u32| 1_000_000 * (1 + u64::from(block % 2));
        let (base, own) = (rows(|b| Some(weather(b))), rows(|b| Some(3 * weather(b))));
        let (base, own): (Vec<&Record>, Vec<&Record>) = (base.iter().collect(), own.iter().collect());
        let seen = Seen::of(&own, &base, 0.95);
        let ratio = seen.cpu.unwrap();
        assert!((ratio.value - 3.0).abs() < 1e-9, "{ratio:?}");
        assert!(ratio.interval.is_some_and(|i| i.high - i.low < 1e-9), "{ratio:?}");
        let expected = 4_500_000.0 / operations(own[0]) as f64;
        assert!((seen.cpu_ns.unwrap() - expected).abs() < 1e-6, "{seen:?}");
    }

    #[test]
    fn where_cpu_time_was_spent_is_told_from_a_hundred_ticks_on() {
        let of = |user: u64, system: Option<u64>, guest: Option<u64>| {
            let mut all = rows(|_| Some(1000));
            for record in &mut all {
                let e = &mut record.evidence;
                (e.cpu_user_ns, e.cpu_system_ns, e.cpu_guest_ns) = (Some(user), system, guest);
            }
            Seen::of(&all.iter().collect::<Vec<_>>(), &[], 0.95).split
        };
        const MS: u64 = 1_000_000;
        let split = of(39 * MS, Some(86 * MS), Some(14 * MS)).expect("8 bursts of 125 ms are a second");
        assert_eq!((split.user, split.system, split.guest, split.of_ns), (0.2, 0.688, Some(0.112), 1000 * MS));
        let split = of(39 * MS, Some(86 * MS), None).expect("enough");
        assert_eq!((split.user, split.guest), (0.312, None), "guests are in it");
        assert_eq!(of(38 * MS, Some(86 * MS), Some(0)), None, "too few ticks");
        assert_eq!(of(390 * MS, None, Some(0)), None, "half of it says nothing");
    }

    #[test]
    fn what_is_held_is_a_mean_and_not_by_operation() {
        let mut all = rows(|_| Some(1000));
        for (record, mib) in all.iter_mut().zip([1_u64, 3].into_iter().cycle()) {
            record.evidence.cache_bytes = Some(mib << 20);
            (record.evidence.memory_bytes, record.evidence.context_switches) = (None, None);
        }
        let seen = Seen::of(&all.iter().collect::<Vec<_>>(), &[], 0.95);
        assert_eq!((seen.cache_bytes, seen.memory_bytes, seen.switches), (Some(f64::from(2 << 20)), None, None));
    }

    #[test]
    fn what_nobody_read_is_unknown_and_not_nothing() {
        let (base, own) = (rows(|_| Some(1000)), rows(|_| None));
        let (base, own): (Vec<&Record>, Vec<&Record>) = (base.iter().collect(), own.iter().collect());
        assert_eq!(Seen::of(&own, &base, 0.95).cpu_ns, None);
        assert_eq!(Seen::of(&own, &base, 0.95).cpu, None);
        // A counter that stood still has a value and no ratio.
        let still = rows(|_| Some(0));
        let seen = Seen::of(&still.iter().collect::<Vec<_>>(), &base, 0.95);
        assert_eq!((seen.cpu_ns, seen.cpu), (Some(0.0), None));
    }
}
