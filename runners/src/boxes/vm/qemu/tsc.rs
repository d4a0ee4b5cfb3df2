//! How fast the host's time stamp counter runs. QEMU's emulation hands it to the guest as it is, so a guest that can't
//! measure its own can be told.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough that the readings at both ends (about 100 ns) cost less than 10 parts per million.
const SPAN: Duration = Duration::from_millis(20);

/// Ticks per millisecond; measured once, which takes [`SPAN`].
pub fn khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let (from, begun) = reading();
        std::thread::sleep(SPAN);
        let (to, ended) = reading();
        let nanoseconds = (ended - begun).as_nanos() as f64;
        (to.wrapping_sub(from) as f64 * 1e6 / nanoseconds).round() as u64
    })
}

/// Counter and clock at the same moment: the closest of several pairs, since anything may come between the two.
fn reading() -> (u64, Instant) {
    let pairs = (0..32).map(|_| {
        let before = ticks();
        let now = Instant::now();
        let apart = ticks().wrapping_sub(before);
        (apart, before.wrapping_add(apart / 2), now)
    });
    let (_, counter, now) = pairs.min_by_key(|(apart, ..)| *apart).expect("32 is not none");
    (counter, now)
}

fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction; it reads a counter and touches no memory.
    let ticks = unsafe { std::arch::x86_64::_rdtsc() };
    // Elsewhere QEMU makes the guest's counter out of nanoseconds.
    #[cfg(not(target_arch = "x86_64"))]
    let ticks = {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    };
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_twice() {
        let first = khz() as f64;
        let ((from, begun), ()) = (reading(), std::thread::sleep(SPAN));
        let (to, ended) = reading();
        let second = (to - from) as f64 * 1e6 / (ended - begun).as_nanos() as f64;
        assert!((first / second - 1.0).abs() < 0.001, "{first} and {second} kHz");
        assert!(first > 100_000.0, "{first} kHz is less than any CPU with a constant rate has");
    }
}
