//! From clock to histogram: the only code of ours that runs between two operations of a burst.
//!
//! One clock reading ends an operation and begins the next, so nothing is timed twice and nothing falls between. A lap
//! allocates nothing, calls nothing but the clock, and touches one bucket of a histogram that was there before.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::protocol::{BurstPlan, Sample};

/// Largest latency that is told apart, nanoseconds: one minute.
pub const HIGHEST_NS: u64 = 60_000_000_000;

/// The monotonic clock of the environment, nanoseconds since an unknown moment.
///
/// `clock_gettime` directly rather than [`std::time::Instant`]: the same clock, through the vDSO where there is one, without the
/// checked arithmetic of seconds and nanoseconds on each difference.
#[inline]
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; CLOCK_MONOTONIC exists wherever this is compiled for.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Times the operations of a burst. Everything it needs is allocated before the burst starts.
#[derive(Debug)]
pub struct Stopwatch {
    histogram: Histogram<u64>,
    plan: BurstPlan,
    /// Start of the part that runs: warm-up or measured.
    begun: u64,
    /// End of the last operation or batch.
    previous: u64,
    /// Operations of the part that runs.
    done: u64,
    /// Operations that this part is to have.
    target: u64,
    in_batch: u32,
    bytes: u64,
    warmup_done: u64,
    warmup_ns: u64,
    measuring: bool,
    running: bool,
    cut_short: bool,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopwatch {
    /// A stopwatch whose histogram reaches from 1 ns to [`HIGHEST_NS`] with three significant digits.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit");
        let plan = BurstPlan { operations: 0, warmup: 0, batch: 1, limit_ns: u64::MAX };
        Self {
            histogram,
            plan,
            begun: 0,
            previous: 0,
            done: 0,
            target: 0,
            in_batch: 0,
            bytes: 0,
            warmup_done: 0,
            warmup_ns: 0,
            measuring: false,
            running: false,
            cut_short: false,
        }
    }

    /// Makes ready for a burst; the clock doesn't run yet.
    pub fn arm(&mut self, plan: BurstPlan) {
        // Writes every bucket, so that no page of the histogram is touched for the first time within a burst.
        self.histogram.reset();
        self.plan = plan;
        self.plan.batch = plan.batch.max(1);
        self.measuring = plan.warmup == 0;
        self.target = if self.measuring { plan.operations } else { plan.warmup };
        self.running = plan.operations > 0;
        (self.done, self.in_batch, self.bytes, self.cut_short) = (0, 0, 0, false);
        (self.warmup_done, self.warmup_ns) = (0, 0);
    }

    /// Operations that the burst will do at most, the warm-up included: for what must be laid out in advance.
    pub fn planned(&self) -> u64 {
        self.plan.warmup.saturating_add(self.plan.operations)
    }

    /// Starts the clock: the first operation begins now.
    #[inline]
    pub fn start(&mut self) {
        self.begun = now();
        self.previous = self.begun;
    }

    /// Whether another operation is to be done.
    #[inline]
    pub fn running(&self) -> bool {
        self.running
    }

    /// Whether the operation now to be done is the last planned of the warm-up or of the measured part: where work is
    /// buffered, it has to wait until all before it has arrived. A burst that the limit ends early has no such operation:
    /// see [`Stopwatch::settle`].
    #[inline]
    pub fn closing(&self) -> bool {
        self.done + 1 >= self.target
    }

    /// An operation that moved `bytes` bytes has ended, and the next one begins: one clock reading serves both.
    #[inline]
    pub fn lap(&mut self, bytes: u64) {
        self.done += 1;
        self.bytes += bytes;
        self.in_batch += 1;
        if self.in_batch < self.plan.batch && self.done < self.target {
            return;
        }
        let now = now();
        if self.measuring {
            // A clock that runs backwards gives 0, which is recorded as the smallest latency and seen in the sum.
            let spent = now.saturating_sub(self.previous);
            let count = u64::from(self.in_batch);
            // The division is dear, and a batch of one doesn't need it.
            let each = if count == 1 { spent } else { (spent + count / 2) / count };
            self.histogram.saturating_record(each.max(1));
        }
        self.in_batch = 0;
        self.previous = now;
        let spent = now.saturating_sub(self.begun);
        if self.done >= self.target || spent >= self.plan.limit_ns {
            self.turn(now, spent);
        }
    }

    /// From warm-up to measuring, or from measuring to the end.
    #[cold]
    fn turn(&mut self, now: u64, spent: u64) {
        if self.measuring {
            self.cut_short = self.done < self.target;
            self.running = false;
        } else {
            (self.warmup_done, self.warmup_ns) = (self.done, spent);
            self.begun = now;
            (self.done, self.bytes, self.measuring) = (0, 0, true);
            self.target = self.plan.operations;
        }
    }

    /// Lets the measured time go on until now, after the last operation: for buffered work that only now has arrived.
    pub fn settle(&mut self) {
        self.previous = now();
    }

    /// Operations done since the burst started, the warm-up included.
    pub fn operations(&self) -> u64 {
        self.warmup_done + self.done
    }

    /// Whether the limit ended the burst before all operations were done.
    pub fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// What was measured, once the burst has ended.
    ///
    /// # Errors
    /// When the histogram can't be serialized.
    pub fn sample(&self) -> anyhow::Result<Sample> {
        let mut histogram = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.histogram, &mut histogram)
            .map_err(|e| anyhow::anyhow!("can't serialize a histogram: {e:?}"))?;
        Ok(Sample {
            operations: self.done,
            bytes: self.bytes,
            elapsed_ns: self.previous.saturating_sub(self.begun),
            warmup_operations: self.warmup_done,
            warmup_ns: self.warmup_ns,
            batch: self.plan.batch,
            cut_short: self.cut_short,
            histogram,
        })
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    fn run(plan: BurstPlan, mut work: impl FnMut()) -> (Sample, Histogram<u64>, u64) {
        let mut watch = Stopwatch::new();
        watch.arm(plan);
        let mut done = 0;
        watch.start();
        while watch.running() {
            work();
            done += 1;
            watch.lap(10);
        }
        let sample = watch.sample().expect("serializes");
        let histogram = Deserializer::new().deserialize(&mut sample.histogram.as_slice()).expect("reads back");
        assert_eq!(watch.operations(), done);
        (sample, histogram, done)
    }

    const PLAN: BurstPlan = BurstPlan { operations: 100, warmup: 20, batch: 1, limit_ns: u64::MAX };

    #[test]
    fn the_warm_up_is_done_and_discarded() {
        let (sample, histogram, done) = run(PLAN, || ());
        assert_eq!(done, 120);
        assert_eq!((sample.operations, sample.warmup_operations, sample.bytes), (100, 20, 1000));
        assert_eq!(histogram.len(), 100);
        assert!(!sample.cut_short);
    }

    #[test]
    fn latencies_add_up_to_the_elapsed_time() {
        let (sample, histogram, _) = run(PLAN, || std::thread::sleep(std::time::Duration::from_micros(50)));
        let sum: f64 =
            histogram.iter_recorded().map(|v| v.value_iterated_to() as f64 * v.count_at_value() as f64).sum();
        let ratio = sum / sample.elapsed_ns as f64;
        assert!((0.99..1.01).contains(&ratio), "the histogram has 3 digits, the sum is off by {ratio}");
    }

    #[test]
    fn a_batch_has_one_entry_and_the_last_may_be_smaller() {
        let (sample, histogram, _) = run(BurstPlan { operations: 105, warmup: 15, batch: 10, ..PLAN }, || ());
        assert_eq!((sample.operations, sample.warmup_operations, sample.batch), (105, 15, 10));
        assert_eq!(histogram.len(), 11);
    }

    #[test]
    fn the_limit_ends_a_burst_and_says_so() {
        let plan = BurstPlan { operations: 1_000_000, warmup: 0, batch: 1, limit_ns: 2_000_000 };
        let (sample, _, _) = run(plan, || std::thread::sleep(std::time::Duration::from_micros(100)));
        assert!(sample.cut_short && sample.operations < 1000, "{sample:?}");
    }

    #[test]
    fn a_plan_of_nothing_and_a_plan_of_everything_do_no_harm() {
        let (sample, histogram, done) = run(BurstPlan { operations: 0, warmup: 5, batch: 0, limit_ns: 0 }, || ());
        assert_eq!((sample.operations, histogram.len(), done), (0, 0, 0));
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: u64::MAX, warmup: u64::MAX, batch: u32::MAX, limit_ns: 1 });
        assert_eq!(watch.planned(), u64::MAX);
    }

    #[test]
    fn closing_is_said_before_the_last_operation_of_each_part() {
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 3, warmup: 2, ..PLAN });
        watch.start();
        let mut said = Vec::new();
        while watch.running() {
            said.push(watch.closing());
            watch.lap(0);
        }
        assert_eq!(said, [false, true, false, false, true]);
    }

    #[test]
    fn settling_lengthens_the_measured_time() {
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 1, warmup: 0, ..PLAN });
        watch.start();
        watch.lap(1);
        std::thread::sleep(std::time::Duration::from_millis(2));
        watch.settle();
        assert!(watch.sample().expect("serializes").elapsed_ns >= 2_000_000);
    }
}
