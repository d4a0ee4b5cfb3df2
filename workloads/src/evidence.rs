//! The host's view of a burst: plain data, collected by the runners and judged by the reports.

use serde::{Deserialize, Serialize};

/// Differences over one burst, as seen by the host. A counter that can't be read is `None`, never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Over how long the counters were read, nanoseconds of the host.
    pub wall_ns: Option<u64>,
    /// CPU time of everything in the environment (its cgroup), nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Of it what was outside the kernel, nanoseconds, guests included. The kernel looks at each of its ticks what runs, so one burst
    /// says little, and only the sum of many tells.
    #[serde(default)]
    pub cpu_user_ns: Option<u64>,
    /// Of it what was the kernel's, nanoseconds; by ticks too.
    #[serde(default)]
    pub cpu_system_ns: Option<u64>,
    /// Of the time outside the kernel what guests ran on the CPU itself, nanoseconds; by ticks too. `None` also where a process went
    /// meanwhile.
    #[serde(default)]
    pub cpu_guest_ns: Option<u64>,
    /// CPU time of all other environments of the run, whose sessions are up as well, nanoseconds.
    #[serde(default)]
    pub bystanders_ns: Option<u64>,
    /// CPU time that the work's CPUs spent on anything but the environment, nanoseconds. The kernel counts
    /// it in ticks of 10 ms, so that one burst says little, may be below zero, and only their sum tells.
    #[serde(default)]
    pub neighbours_ns: Option<i64>,
    /// How often the environment's cgroup was throttled.
    pub throttled: Option<u64>,
    /// For how long it was stopped by that, nanoseconds; of several CPUs the sum.
    #[serde(default)]
    pub throttled_ns: Option<u64>,
    /// Periods of the quota that began; `None` too where there is no quota.
    #[serde(default)]
    pub quota_periods: Option<u64>,
    /// Pages of files that the environment's cgroup holds in the host's page cache when the burst is over, bytes.
    #[serde(default)]
    pub cache_bytes: Option<u64>,
    /// Those of them that processes have mapped, as a machine does whose memory is a file, bytes.
    #[serde(default)]
    pub mapped_bytes: Option<u64>,
    /// Memory held by its processes when the burst is over, bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// How often its threads were given a CPU; `None` too where a thread went meanwhile.
    #[serde(default)]
    pub context_switches: Option<u64>,
    /// Packets that its own link carried, both ways.
    #[serde(default)]
    pub packets: Option<u64>,
    /// Share of the host's CPU time stolen by a hypervisor below, 0..1; `None` too where the host is a guest and nothing was ever
    /// reported stolen.
    pub steal: Option<f64>,
    /// Share of the burst in which some task waited for I/O (PSI `some`), 0..1.
    pub pressure_io: Option<f64>,
    /// Share of the burst in which some task waited for a CPU (PSI `some`), 0..1.
    pub pressure_cpu: Option<f64>,
    /// Reads completed by the device under the data directory.
    pub device_reads: Option<u64>,
    /// Bytes read from that device.
    pub device_bytes_read: Option<u64>,
    /// Writes completed by that device.
    pub device_writes: Option<u64>,
    /// Flushes completed by that device.
    pub device_flushes: Option<u64>,
    /// Bytes written to that device.
    pub device_bytes_written: Option<u64>,
    /// How much later than asked for the harness itself woke up as it waited, nanoseconds: it was stopped with all the rest, or
    /// had no CPU. Runs that were stored before it was looked at don't have it.
    #[serde(default)]
    pub overslept_ns: Option<u64>,
    /// Flushes that the device under the data completed just before the round, while nothing of ours ran.
    pub idle_flushes: Option<Idle>,
    /// How long the looks at the counters took, before the burst and after it, nanoseconds of the host.
    #[serde(default)]
    pub looks_ns: Option<u64>,
    /// What the environment's neighbour did meanwhile, where it has one.
    #[serde(default)]
    pub neighbour: Option<Beside>,
}

/// Work of a neighbour beside a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Operations.
    pub operations: u64,
    /// Over how long, nanoseconds of the host.
    pub ns: u64,
    /// CPU time of its box; `None` where it can't be read.
    pub cpu_ns: Option<u64>,
}

/// Events that came while nothing of ours ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// How many.
    pub events: u64,
    /// Over how long, nanoseconds.
    pub ns: u64,
}

/// A measurement of the host itself just before or after a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Median of the small operations before the burst, nanoseconds.
    pub before_ns: u64,
    /// Median of the small operations after the burst, nanoseconds.
    pub after_ns: u64,
}

/// How guest time runs against host time over one block, fitted from the stamps of all exchanges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockFit {
    /// Drift of the guest's monotonic clock against the host's, parts per million; `None` where the span was too short to tell.
    pub drift_ppm: Option<f64>,
    /// Half-width of the drift, parts per million: half the shortest round trips over the span.
    pub uncertainty_ppm: Option<f64>,
    /// Largest residual from the fit that round trips can't explain, nanoseconds: a jump.
    pub jump_ns: u64,
}
