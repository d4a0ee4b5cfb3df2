//! What it costs to ask each of the kernel's clocks.

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};

use super::Machine;

/// Readings of one pass.
const READINGS: u32 = 200;

/// Passes, of which the median counts.
const PASSES: usize = 31;

/// Names and clocks, the one that measures first.
#[cfg(target_os = "linux")]
const CLOCKS: [(&str, ClockId); 7] = [
    ("monotonic", ClockId::CLOCK_MONOTONIC),
    ("monotonic-raw", ClockId::CLOCK_MONOTONIC_RAW),
    ("monotonic-coarse", ClockId::CLOCK_MONOTONIC_COARSE),
    ("boottime", ClockId::CLOCK_BOOTTIME),
    ("realtime", ClockId::CLOCK_REALTIME),
    ("process-cputime", ClockId::CLOCK_PROCESS_CPUTIME_ID),
    ("thread-cputime", ClockId::CLOCK_THREAD_CPUTIME_ID),
];

#[cfg(not(target_os = "linux"))]
const CLOCKS: [(&str, ClockId); 2] = [("monotonic", ClockId::CLOCK_MONOTONIC), ("realtime", ClockId::CLOCK_REALTIME)];

/// The time of a reading of each clock that can be read, nanoseconds.
#[must_use]
pub fn reading_ns() -> Vec<(String, f64)> {
    CLOCKS.into_iter().filter_map(|(name, clock)| Some((name.to_string(), cost(clock)?))).collect()
}

fn cost(clock: ClockId) -> Option<f64> {
    clock_gettime(clock).ok()?;
    let pass = |_| {
        let began = Instant::now();
        for _ in 0..READINGS {
            let _ = std::hint::black_box(clock_gettime(clock));
        }
        began.elapsed().as_nanos() as f64 / f64::from(READINGS)
    };
    let mut passes: Vec<f64> = (0..PASSES).map(pass).collect();
    passes.sort_by(f64::total_cmp);
    Some(passes[PASSES / 2])
}

impl Machine {
    /// Where the clocks have their time from, and where else they could: as the kernel names them.
    #[must_use]
    pub fn clock_sources(&self) -> [Option<String>; 2] {
        ["current", "available"]
            .map(|which| self.read(&format!("sys/devices/system/clocksource/clocksource0/{which}_clocksource")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_is_read_in_some_time() {
        let costs = reading_ns();
        assert_eq!(costs.len(), CLOCKS.len());
        assert!(costs.iter().all(|(_, ns)| (0.1..1e6).contains(ns)), "{costs:?}");
    }
}
