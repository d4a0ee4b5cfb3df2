//! From clock to histogram: the only code that runs between two operations of a burst.

use std::time::Instant;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::protocol::{BurstPlan, Sample};

/// Largest latency that is told apart, nanoseconds: one minute.
pub const HIGHEST_NS: u64 = 60_000_000_000;

/// Times the operations of a burst. Everything it needs is allocated before the burst starts.
#[derive(Debug)]
pub struct Stopwatch {
    histogram: Histogram<u64>,
    plan: BurstPlan,
    begun: Instant,
    previous: Instant,
    done: u64,
    in_batch: u32,
    bytes: u64,
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
        let now = Instant::now();
        let plan = BurstPlan { operations: 1, warmup: 0, batch: 1, limit_ns: u64::MAX };
        Self {
            histogram,
            plan,
            begun: now,
            previous: now,
            done: 0,
            in_batch: 0,
            bytes: 0,
            warmup_ns: 0,
            measuring: false,
            running: false,
            cut_short: false,
        }
    }

    /// Makes ready for a burst; the clock doesn't run yet.
    pub fn arm(&mut self, plan: BurstPlan) {
        self.histogram.reset();
        self.plan = plan;
        self.plan.batch = plan.batch.max(1);
        (self.done, self.in_batch, self.bytes, self.warmup_ns) = (0, 0, 0, 0);
        (self.measuring, self.running, self.cut_short) = (plan.warmup == 0, plan.operations > 0, false);
    }

    /// Operations that the burst will do at most, the warm-up included: for what must be laid out in advance.
    pub fn planned(&self) -> u64 {
        self.plan.warmup + self.plan.operations
    }

    /// Starts the clock: the first operation begins now.
    #[inline]
    pub fn start(&mut self) {
        self.begun = Instant::now();
        self.previous = self.begun;
    }

    /// Whether another operation is to be done.
    #[inline]
    pub fn running(&self) -> bool {
        self.running
    }

    /// An operation that moved `bytes` bytes has ended, and the next one begins: one clock reading serves both.
    #[inline]
    pub fn lap(&mut self, bytes: u64) {
        self.done += 1;
        self.bytes += bytes;
        self.in_batch += 1;
        let target = if self.measuring { self.plan.operations } else { self.plan.warmup };
        if self.in_batch < self.plan.batch && self.done < target {
            return;
        }
        let now = Instant::now();
        if self.measuring {
            let each = (now - self.previous).as_nanos() as u64 / u64::from(self.in_batch);
            self.histogram.saturating_record(each.max(1));
        }
        self.in_batch = 0;
        self.previous = now;
        let spent = (now - self.begun).as_nanos() as u64;
        if self.done >= target || spent >= self.plan.limit_ns {
            self.turn(now, spent);
        }
    }

    /// From warm-up to measuring, or from measuring to the end.
    #[cold]
    fn turn(&mut self, now: Instant, spent: u64) {
        if self.measuring {
            self.cut_short = self.done < self.plan.operations;
            self.running = false;
        } else {
            self.warmup_ns = spent;
            self.plan.warmup = self.done;
            self.begun = now;
            (self.done, self.bytes, self.measuring) = (0, 0, true);
        }
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
            elapsed_ns: (self.previous - self.begun).as_nanos() as u64,
            warmup_operations: self.plan.warmup,
            warmup_ns: self.warmup_ns,
            batch: self.plan.batch,
            cut_short: self.cut_short,
            histogram,
        })
    }
}
