//! A made-up run that is the same every time: what tests of the comparison, the store and the renderers work on.
//!
//! The numbers are invented, plausible and cover what reports must cope with: a skipped environment, a failed burst, a
//! void round, a disk that doesn't flush, percentiles without enough operations, arrivals by a schedule that some can't keep,
//! busy writers, an insertion test under another name. It is no measurement of anything.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use workloads::evidence::{Canary, ClockFit, Evidence, Idle};
use workloads::facts::{DataFacts, Flushes, Keeper, Kernel, Network, Program};
use workloads::inside::Inside;
use workloads::protocol::{Hello, Identity, Sample};
use workloads::stopwatch::HIGHEST_NS;
use workloads::timeline::{self, Timeline};
use workloads::{Check, Resource};

use crate::record::{
    CONTROL, Checked, Ending, EnvironmentPlan, Failure, Record, Run, Start, Step, Stored, Void, WorkloadPlan,
};

/// How much of a run to make up.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Blocks that were finished.
    pub blocks: u32,
    /// Rounds per block and workload.
    pub rounds: u32,
    /// All latencies follow from it.
    pub seed: u64,
}

impl Default for Example {
    fn default() -> Self {
        Self { blocks: 8, rounds: 2, seed: 20_261_123 }
    }
}

/// The example with its defaults.
pub fn stored() -> Stored {
    Example::default().build()
}

/// A histogram of these latencies in nanoseconds, as an agent sends it.
pub fn histogram(latencies: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit");
    latencies.into_iter().for_each(|ns| histogram.saturating_record(ns.max(1)));
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("a histogram fits into memory");
    bytes
}

/// One operation: name, resource, median on bare metal (ns), operations per burst, bytes per operation.
struct Work(&'static str, &'static str, Resource, f64, u64, u64);

const WORK: [Work; 9] = [
    Work("control/syscall", "Asks the kernel for the parent's process id.", Resource::Processor, 92.0, 26_000, 0),
    Work("sqlite/commit", "Commits one durable row to SQLite.", Resource::Disk, 310_000.0, 260, 120),
    Work("sqlite/lookup", "Reads one row of SQLite by its key.", Resource::Processor, 4_100.0, 2_600, 100),
    Work("disk/fsync", "Appends 4 KiB and makes them durable.", Resource::Disk, 150_000.0, 500, 4096),
    Work("net/rr", "Sends 64 bytes and waits for 64 in return.", Resource::Network, 21_000.0, 2_600, 128),
    Work("net/stream", "Sends as much as the path takes.", Resource::Network, 30_000.0, 800, 65_536),
    Work("net/paced", "Sends 64 bytes and waits for 64 in return.", Resource::Network, 21_000.0, 2_600, 128),
    Work("sqlite/writers", "Commits rows from several connections.", Resource::Disk, 900_000.0, 240, 120),
    Work("sqlite/inserts", "Inserts rows, each committed by itself.", Resource::Disk, 900_000.0, 60, 120),
];

/// Of [`WORK`], those whose latencies follow from dice of their own: adding one changes no other.
const LATER: usize = 6;

/// Operations of `net/paced` that arrive per second: more than an emulated CPU can do.
const RATE: u64 = 20_000;

/// Connections of `sqlite/writers`.
const WRITERS: u64 = 4;

/// Name, runner, factor for each of [`WORK`], milliseconds to start, mebibytes held.
type Place = (&'static str, &'static str, [f64; 9], f64, u64);

const PLACES: [Place; 6] = [
    ("bare", "bare", [1.0; 9], 1.9, 2),
    (CONTROL, "bare", [1.0; 9], 1.9, 2),
    ("runc", "runc", [1.02, 1.01, 1.01, 1.02, 1.06, 1.04, 1.06, 1.02, 1.01], 74.0, 9),
    ("gvisor", "gvisor", [14.0, 2.4, 1.3, 1.7, 3.4, 4.2, 1.5, 2.1, 2.4], 160.0, 41),
    ("qemu", "qemu", [9.0, 3.1, 7.5, 2.2, 8.6, 11.0, 2.6, 2.9, 3.1], 1420.0, 210),
    ("qemu-unsafe", "qemu", [9.1, 0.42, 7.4, 0.17, 8.7, 11.2, 2.7, 0.5, 0.42], 1430.0, 211),
];

/// SplitMix64: enough for invented numbers.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, 0 excluded.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }
}

impl Example {
    /// Makes the run up.
    pub fn build(self) -> Stored {
        let mut dice = Dice(self.seed);
        let mut stored = Stored {
            run: self.run(),
            ending: if self.blocks < self.run().blocks { Ending::Interrupted } else { Ending::Complete },
            seconds: Some(11.25 * f64::from(self.blocks)),
            stopped: None,
            starts: Vec::new(),
            records: Vec::new(),
            voids: Vec::new(),
            checks: Vec::new(),
        };
        for block in 0..self.blocks {
            self.block(block, &mut dice, &mut stored);
        }
        stored
    }

    fn run(self) -> Run {
        let workload = |w: &Work| WorkloadPlan {
            name: w.0.into(),
            kind: match w.0 {
                "net/paced" => "net/rr",
                "sqlite/inserts" => "sqlite/insertions",
                name => name,
            }
            .into(),
            about: w.1.into(),
            settings: match w.0 {
                "sqlite/commit" => settings(&[("journal", "wal"), ("synchronous", "full")]),
                "net/paced" => settings(&[("rate", &RATE.to_string()), ("arrivals", "linear")]),
                "sqlite/writers" => settings(&[("connections", &WRITERS.to_string())]),
                _ => BTreeMap::new(),
            },
            resource: w.2,
            durable: durable(w.0),
            direct: false,
            streams: w.0 == "net/stream",
            paced: false,
        };
        let mut environments: Vec<_> = PLACES.iter().map(environment).collect();
        environments.push(EnvironmentPlan {
            version: None,
            skipped: Some(
                "crun 1.8: cgroups in hybrid mode not supported; boot with systemd.unified_cgroup_hierarchy=1".into(),
            ),
            ..environment(&("crun", "crun", [1.0; 9], 1.0, 1))
        });
        Run {
            id: "20261123-014455-3fa9".into(),
            started: "2026-11-23T01:44:55Z".into(),
            suite: "quick".into(),
            suite_toml: "baseline = \"bare\"\nblocks = 8\n".into(),
            seed: self.seed,
            blocks: self.blocks.max(8),
            rounds: self.rounds,
            baseline: "bare".into(),
            command: format!("tarebench run quick --seed {}", self.seed),
            binary_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            version: "0.1.0".into(),
            labels: settings(&[("commit", "1e21665")]),
            host: [
                ("kernel", "Linux 6.18.0"),
                ("cpu", "2 x AMD EPYC"),
                ("memory", "24 GiB"),
                ("file system", "ext4 on vda"),
                ("clock source", "tsc"),
            ]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .into(),
            nested: Some("the CPU has the hypervisor flag (KVM)".into()),
            workloads: WORK.iter().map(workload).collect(),
            environments,
            pinning: "work on CPU 0; harness and peer on CPU 1".into(),
        }
    }

    fn block(self, block: u32, dice: &mut Dice, stored: &mut Stored) {
        // What a start costs or gains for its whole life: the reason why blocks and not operations are counted.
        let offsets = PLACES.map(|_| (0.012 * dice.normal()).exp());
        for place in &PLACES {
            stored.starts.push(start(block, place, dice));
        }
        for (w, work) in WORK.iter().enumerate() {
            let mut own = Dice(self.seed ^ ((w as u64) << 40) ^ (u64::from(block) << 20));
            let dice = if w < LATER { &mut *dice } else { &mut own };
            // The disk of the example has slow blocks: ratios within a block don't care, averages over blocks do.
            let regime = if work.2 == Resource::Disk && block % 4 == 3 { 3.0 } else { 1.0 };
            let void = block == 2 && w == 1;
            for round in 0..self.rounds + u32::from(void) {
                let mut order: Vec<usize> = (0..PLACES.len()).collect();
                (1..order.len()).rev().for_each(|i| order.swap(i, (dice.next() % (i as u64 + 1)) as usize));
                for (position, e) in order.into_iter().enumerate() {
                    let median = work.3 * PLACES[e].2[w] * offsets[e] * regime;
                    stored.records.push(record(block, round, position as u32, work, &PLACES[e], median, dice));
                }
            }
            if void {
                stored.voids.push(Void {
                    block,
                    round: 0,
                    workload: work.0.into(),
                    reason: "the canary after `runc` took 3.4 times the run's median (1.02 ms against 0.30 ms)".into(),
                });
            }
            stored.checks.extend(PLACES.iter().map(|place| check(block, work, place)));
        }
    }
}

fn durable(work: &str) -> bool {
    matches!(work, "sqlite/commit" | "disk/fsync" | "sqlite/writers" | "sqlite/inserts")
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// The engine's program; the baseline has none.
fn programs(runner: &str) -> Vec<Program> {
    if runner == "bare" {
        return Vec::new();
    }
    let version = if runner == "qemu" { "7.2.9" } else { "1.0" };
    let sha256 = format!("{:064x}", runner.bytes().fold(0u128, |sum, byte| sum << 8 | u128::from(byte)));
    vec![Program {
        path: format!("/usr/bin/{runner}"),
        version: Some(version.into()),
        sha256: Some(sha256),
        script: Some(false),
    }]
}

fn environment(place: &Place) -> EnvironmentPlan {
    let vm = place.1 == "qemu";
    let cache = if place.0 == "qemu-unsafe" { "unsafe" } else { "none" };
    EnvironmentPlan {
        name: place.0.into(),
        runner: place.1.into(),
        settings: if vm { settings(&[("accel", "tcg"), ("disk.cache", cache)]) } else { BTreeMap::new() },
        version: Some(if vm { "qemu 7.2.9".into() } else { format!("{} 1.0", place.1) }),
        skipped: None,
        network: if vm { Network::Tap } else { Network::Veth },
        data: DataFacts {
            keeper: Keeper::Disk,
            flushes: if cache == "unsafe" { Flushes::Forgotten } else { Flushes::Passed },
            kernel: if vm { Kernel::Guest } else { Kernel::Host },
            device: Some("vda".into()),
            forgets: None,
        },
        emulated: vm.then(|| "QEMU's TCG translates every instruction".into()),
        sandbox: Default::default(),
        unequal: None,
        quota: None,
        data_path: if vm {
            format!("raw image on ext4 on vda, virtio-blk, cache={cache}")
        } else {
            "bind mount of ext4 on vda".into()
        },
        programs: programs(place.1),
        neighbour: None,
    }
}

fn start(block: u32, place: &Place, dice: &mut Dice) -> Start {
    let vm = place.1 == "qemu";
    Start {
        block,
        environment: place.0.into(),
        outcome: Ok((place.3 * 1e6 * (0.05 * dice.normal()).exp()) as u64),
        memory_bytes: Some(place.4 << 20),
        hello: Some(Hello {
            protocol: 1,
            version: "0.1.0".into(),
            kernel: if vm { "6.1.0-28-cloud-amd64" } else { "6.18.0" }.into(),
            cpus: 1,
            memory_bytes: 512 << 20,
            uid: 0,
            pid: if vm { 1 } else { 4711 },
        }),
        identity: Some(Identity {
            binary_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            clock_source: Some("tsc".into()),
            clock_ns: if vm { 61.0 } else { 24.0 },
            clock_step_ns: 10,
            file_system: "ext4".into(),
            device: vm.then(|| "vda".into()),
            write_cache: vm.then(|| "write back".into()),
            virtio_flush: vm.then_some(true),
            hypervisor: vm.then(|| "TCG".into()),
            cpu_model: "AMD EPYC".into(),
            command_line: None,
            sqlite: "3.51.0".into(),
            sqlite_options: vec!["THREADSAFE=1".into()],
            boot_id: None,
            inside: Inside::default(),
        }),
        // Three decimals: more would not come back from JSON to the last bit.
        clock: Some(ClockFit {
            drift_ppm: Some((dice.normal() * 1000.0).round() / 1000.0),
            uncertainty_ppm: Some(4.0),
            jump_ns: 0,
        }),
        stop_ns: Some((place.3 * 1e5) as u64),
    }
}

fn record(block: u32, round: u32, position: u32, work: &Work, place: &Place, median: f64, dice: &mut Dice) -> Record {
    let lost = place.0 == "gvisor" && work.0 == "net/stream" && block == 3 && round == 1;
    let outcome = if lost {
        Err(Failure { step: Step::Burst, message: "the burst did not end within 30 s; last words: none".into() })
    } else {
        let each = (0..work.4).map(|_| {
            let stall = if dice.uniform() < 0.0004 { 25.0 } else { 1.0 };
            (median * (0.12 * dice.normal()).exp() * stall) as u64
        });
        Ok(sample(work, place, each.collect()))
    };
    let durable = durable(work.0);
    let flushes = if place.0 == "qemu-unsafe" { 3 } else { work.4 * 5 / 4 };
    Record {
        block,
        round,
        position,
        workload: work.0.into(),
        environment: place.0.into(),
        outcome,
        canary: Canary { before_ns: 300_000 + dice.next() % 9_000, after_ns: 300_000 + dice.next() % 9_000 },
        evidence: Evidence {
            wall_ns: Some((work.4 as f64 * median * 1.5) as u64),
            cpu_ns: Some((work.4 as f64 * median * 0.4) as u64),
            cpu_user_ns: Some((work.4 as f64 * median * 0.3) as u64),
            cpu_system_ns: Some((work.4 as f64 * median * 0.1) as u64),
            cpu_guest_ns: Some(0),
            throttled: Some(0),
            throttled_ns: Some(0),
            quota_periods: None,
            cache_bytes: Some(1 << 20),
            mapped_bytes: Some(0),
            memory_bytes: Some(place.4 << 20),
            context_switches: Some(work.4 / 2),
            packets: (work.2 == Resource::Network).then_some(work.4 * 2),
            steal: Some(0.0),
            pressure_io: Some(0.01),
            pressure_cpu: Some(0.01),
            device_reads: Some(0),
            device_bytes_read: Some(0),
            device_writes: durable.then_some(work.4 * 2),
            device_flushes: durable.then_some(flushes),
            device_bytes_written: durable.then_some(work.4 * 8192),
            overslept_ns: Some(0),
            idle_flushes: durable.then_some(Idle { events: 0, ns: 2_000_000 }),
            looks_ns: None,
            neighbour: None,
            bystanders_ns: Some(0),
            neighbours_ns: Some(0),
        },
    }
}

/// The sample of a burst with these service times in nanoseconds.
fn sample(work: &Work, place: &Place, each: Vec<u64>) -> Sample {
    let writers = if work.0 == "sqlite/writers" { WRITERS } else { 1 };
    let late = if place.0 == "gvisor" { 9_000 } else { 300 };
    let (mut responses, mut lateness) = (Vec::new(), Vec::new());
    let mut counted = Timeline::new();
    let mut at = 0;
    for (i, ns) in each.iter().enumerate() {
        if work.0 == "net/paced" {
            let arrival = (i as u64 + 1) * 1_000_000_000 / RATE;
            if at < arrival {
                lateness.push(late + ns % 200);
                at = arrival + late + ns % 200;
            }
            at += ns;
            responses.push(at - arrival);
            counted.count(at, at - arrival);
        } else {
            at += ns / writers;
            counted.count(at, *ns);
        }
    }
    let open = work.0 == "net/paced";
    let busy = (PLACES.iter().position(|p| p.0 == place.0).unwrap_or(0) as u64 + 1) * 3;
    Sample {
        operations: work.4,
        bytes: work.4 * work.5,
        elapsed_ns: at + 1000,
        warmup_operations: work.4 / 4,
        warmup_ns: each.iter().sum::<u64>() / 4,
        batch: 1,
        cut_short: false,
        histogram: histogram(each),
        response: open.then(|| histogram(responses)),
        lateness: open.then(|| histogram(lateness)),
        timeline: timeline::encode(counted.finish()),
        concurrency: writers as u32,
        counters: if writers > 1 { BTreeMap::from([("busy".into(), busy)]) } else { BTreeMap::new() },
        drawn: Some(work.4),
        durable_writes: durable(work.0).then_some(work.4 + work.4 / 4),
    }
}

fn check(block: u32, work: &Work, place: &Place) -> Checked {
    Checked {
        block,
        workload: work.0.into(),
        environment: place.0.into(),
        outcome: Ok(Check { value: format!("{:016x}", work.4 * 0x9E37), detail: "all as it should be".into() }),
        facts: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_every_time() {
        assert_eq!(stored(), stored());
    }

    #[test]
    fn it_has_what_reports_must_cope_with() {
        let stored = stored();
        assert!(stored.run.environments.iter().any(|e| e.skipped.is_some()));
        assert!(stored.records.iter().any(|r| r.outcome.is_err()));
        assert!(!stored.voids.is_empty());
    }
}
