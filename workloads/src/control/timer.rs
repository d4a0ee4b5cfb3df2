//! `control/timer`: an operation is one wake-up by a timer, and what is recorded is how late it came, as cyclictest has it.
//!
//! The loop is cyclictest's: the next moment is the last one plus the interval, `clock_nanosleep` sleeps until it by the
//! monotonic clock, and the lateness is the clock's reading after waking less that moment. A wake-up so late that further
//! moments have passed skips those; they are counted as `overruns`. Where cyclictest is told nothing of priorities it runs as
//! this does, under the ordinary scheduler and with the timer slack it was given, which on Linux is 50 us and lies
//! within the lateness. (Unless told otherwise cyclictest also holds the processor out of its deeper sleep by
//! `/dev/cpu_dma_latency`; a program in a box doesn't, and `cyclictest --default-system` doesn't either.)
//!
//! So latencies here add up to far less than the time that passes, and operations per second are the interval's doing and not
//! the environment's, unless it is too slow to keep up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::content::Digest;
use crate::load::Load;
use crate::settings::{Setting, SettingError, Settings};
use crate::stopwatch::{self, Stopwatch};
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// Wake-ups that `verify` looks at.
const CHECKED: u32 = 3;

crate::settings! {
    struct Options {
        /// Time from one wake-up to the next
        interval: Duration = "1ms" in 10_000..=1_000_000_000,
        /// How late the kernel may be so as to wake for several timers at once; 0s: what the environment gives, 50us on Linux
        slack: Duration = "0s" in 0..=1_000_000_000,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Timer;

impl Workload for Timer {
    fn name(&self) -> &'static str {
        "control/timer"
    }

    fn about(&self) -> &'static str {
        "Sleeps until moments at a fixed interval: how late a timer wakes a program, as cyclictest reports it"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        match Load::read(settings).rate {
            0 => Ok(()),
            _ => Err(SettingError::Conflict(
                "control/timer keeps a schedule of its own: set interval instead of rate".into(),
            )),
        }
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn paced(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let Options { interval, slack } = Options::read(&place.settings);
        let waking = Waking { seed: place.seed, interval, slack: (!slack.is_zero()).then_some(slack), overruns: 0 };
        // A slack that the environment refuses is said now and not in the burst.
        Slack::set(waking.slack)?;
        Ok(Box::new(waking))
    }
}

struct Waking {
    seed: u64,
    interval: Duration,
    slack: Option<Duration>,
    /// Moments of the last burst that had passed before they could be slept for.
    overruns: u64,
}

impl Prepared for Waking {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let _slack = Slack::set(self.slack)?;
        let interval = self.interval.as_nanos() as u64;
        let (mut overruns, mut early) = (0, 0);
        watch.start();
        let mut next = watch.mark() + interval;
        while watch.running() {
            next += watch.take_wait();
            stopwatch::sleep_until(next);
            let now = watch.lap_since(next, 0);
            early += u64::from(now < next);
            next += interval;
            while next < now {
                next += interval;
                overruns += 1;
            }
        }
        self.overruns = overruns;
        anyhow::ensure!(early == 0, "{early} of {} wake-ups came before their time", watch.operations());
        Ok(())
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::from([("overruns".into(), self.overruns)])
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let _slack = Slack::set(self.slack)?;
        for _ in 0..CHECKED {
            let next = stopwatch::now() + self.interval.as_nanos() as u64;
            stopwatch::sleep_until(next);
            let now = stopwatch::now();
            anyhow::ensure!(now >= next, "a sleep ended {} ns before its time", next - now);
        }
        let value = Digest::new("control/timer", self.seed).value();
        Ok(Check { value, detail: format!("{CHECKED} wake-ups, none before its time") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let slack = Slack::set(self.slack).ok().and_then(|_set| slack());
        BTreeMap::from([("slack_ns".into(), slack.map_or_else(|| "unknown".into(), |ns| ns.to_string()))])
    }
}

/// Slack of the calling thread's timers while this lives; what it was before is set again on drop.
struct Slack {
    before: Option<u64>,
}

/// The calling thread's timer slack, nanoseconds; `None` where it isn't told.
#[cfg(target_os = "linux")]
fn slack() -> Option<u64> {
    // SAFETY: without arguments it only answers.
    u64::try_from(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }).ok().filter(|ns| *ns > 0)
}

#[cfg(not(target_os = "linux"))]
fn slack() -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn set_slack(ns: u64) {
    // SAFETY: it takes a number and touches no memory. Whether it was taken, `slack` says.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, ns as libc::c_ulong) };
}

#[cfg(not(target_os = "linux"))]
fn set_slack(_ns: u64) {}

impl Slack {
    fn set(wanted: Option<Duration>) -> anyhow::Result<Self> {
        let Some(wanted) = wanted.map(|time| time.as_nanos() as u64) else { return Ok(Self { before: None }) };
        let set = Self { before: slack() };
        set_slack(wanted);
        let got = slack();
        anyhow::ensure!(
            got == Some(wanted),
            "the environment refuses a timer slack of {wanted} ns (it says {}); set slack = 0s",
            got.map_or_else(|| "nothing".into(), |ns| format!("{ns} ns"))
        );
        Ok(set)
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            set_slack(before);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sample::BurstPlan;

    #[test]
    fn lateness_is_recorded_and_not_the_interval() {
        let mut waking =
            Waking { seed: 1, interval: Duration::from_millis(20), slack: Some(Duration::from_micros(1)), overruns: 0 };
        let before = slack();
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 6, warmup: 2, batch: 1, limit_ns: u64::MAX, number: 0 });
        waking.burst(&mut watch).expect("done");
        let sample = watch.sample().expect("serializes");
        assert!(sample.elapsed_ns >= 5 * 20_000_000, "the interval passes: {}", sample.elapsed_ns);
        let histogram: hdrhistogram::Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
            .deserialize(&mut sample.histogram.as_slice())
            .expect("reads");
        assert!(histogram.min() < 10_000_000, "some wake-up is not half an interval late: {}", histogram.min());
        assert_eq!(slack(), before, "the thread's slack is what it was");
    }

    #[test]
    fn moments_that_have_passed_are_skipped_and_counted() {
        // 1 ms of slack that Linux uses up where nothing else is to be woken for, against an interval of 100 us.
        let slack = Some(Duration::from_millis(20));
        let mut waking = Waking { seed: 1, interval: Duration::from_micros(10), slack, overruns: 0 };
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 20, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
        waking.burst(&mut watch).expect("done");
        assert!(waking.counters()["overruns"] > 0, "no wake-up was more than 10 us late");
    }
}
