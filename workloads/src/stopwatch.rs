//! From clock to histogram: the only code of ours that runs between two operations of a burst.
//!
//! One clock reading ends an operation and begins the next, so nothing is timed twice and nothing falls between. A lap
//! allocates nothing, calls nothing but the clock, and touches one bucket of a histogram that was there before. In open
//! loop, [`Stopwatch::running`] waits for the next arrival, outside of every operation.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::load::{Arrivals, Pace};
use crate::sample::{BurstPlan, Sample};
use crate::timeline::{self, Timeline};

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

/// Before an arrival the generator stops sleeping so early and spins, nanoseconds: timers wake late, and what is late by a
/// timer's slack (50 us on Linux) would count as response time of the environment.
const SPIN_NS: u64 = 60_000;

/// A warm-up, which has a quarter of the operations, may take this part of what the measured ones may: where a box is so slow that it
/// doesn't get through, nothing is won by waiting.
const WARMUP_LIMIT: u64 = 2;

/// Where jobs wait for each other: before the warm-up, so that it is that of all of them, and again before the measured part, so
/// that nobody's is measured beside another's warm-up.
#[derive(Debug)]
pub struct Gate {
    /// Jobs that are still to come.
    missing: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    /// A gate that opens for this many.
    pub fn new(jobs: usize) -> Arc<Self> {
        Arc::new(Self { missing: Mutex::new(jobs), opened: Condvar::new() })
    }

    /// One has come, or will never come.
    fn arrive(&self) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = missing.saturating_sub(1);
        if *missing == 0 {
            self.opened.notify_all();
        }
    }

    /// Lets everybody through, whoever is still to come.
    pub fn open(&self) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        self.opened.notify_all();
    }

    fn wait(&self) {
        self.arrive();
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(missing, |missing| *missing > 0).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Times the operations of a burst. Everything it needs is allocated before the burst starts.
#[derive(Debug)]
pub struct Stopwatch {
    /// Service times: from the actual start of an operation.
    histogram: Histogram<u64>,
    /// Response times: from the intended start. Only in open loop.
    response: Histogram<u64>,
    /// How late the generator began operations that nothing held up. Only in open loop.
    lateness: Histogram<u64>,
    timeline: Timeline,
    arrivals: Option<Arrivals>,
    /// When the operation that runs should have begun.
    intended: u64,
    /// When the schedule of arrivals began.
    scheduled: u64,
    /// Where the jobs of a burst wait for each other: before the warm-up and before the measured part.
    gates: [Option<Arc<Gate>>; 2],
    /// How long it has waited at the second, nanoseconds, as far as nobody has asked yet.
    waited: u64,
    plan: BurstPlan,
    /// Start of the part that runs: warm-up or measured.
    begun: u64,
    /// End of the last operation or batch.
    previous: u64,
    /// Operations of the part that runs.
    done: u64,
    /// Operations that this part is to have.
    target: u64,
    /// How long this part may take, nanoseconds.
    limit_ns: u64,
    in_batch: u32,
    bytes: u64,
    warmup_done: u64,
    warmup_ns: u64,
    measuring: bool,
    running: bool,
    /// The warm-up has ended, and the measured part hasn't begun.
    turning: bool,
    /// Whether something comes before the next operation: an arrival in open loop, or the measured part.
    expecting: bool,
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
        let histogram = || Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit");
        let plan = BurstPlan { operations: 0, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };
        Self {
            histogram: histogram(),
            response: histogram(),
            lateness: histogram(),
            timeline: Timeline::new(),
            arrivals: None,
            intended: 0,
            scheduled: 0,
            gates: [None, None],
            waited: 0,
            plan,
            begun: 0,
            previous: 0,
            done: 0,
            target: 0,
            limit_ns: 0,
            in_batch: 0,
            bytes: 0,
            warmup_done: 0,
            warmup_ns: 0,
            measuring: false,
            running: false,
            turning: false,
            expecting: false,
            cut_short: false,
        }
    }

    /// Makes ready for a burst in closed loop; the clock doesn't run yet.
    pub fn arm(&mut self, plan: BurstPlan) {
        self.arm_paced(plan, None);
    }

    /// Makes ready for a burst whose operations arrive by a schedule, where there is one: of this pace and burst number.
    pub fn arm_paced(&mut self, plan: BurstPlan, pace: Option<(Pace, u64)>) {
        // Writes every bucket, so that no page of the histogram is touched for the first time within a burst.
        self.histogram.reset();
        self.timeline.clear();
        self.arrivals = pace.map(|(pace, burst)| Arrivals::new(pace, burst));
        if self.arrivals.is_some() {
            self.response.reset();
            self.lateness.reset();
        }
        self.gates = [None, None];
        (self.waited, self.turning, self.expecting) = (0, false, self.arrivals.is_some());
        self.plan = plan;
        self.plan.batch = plan.batch.max(1);
        self.measuring = plan.warmup == 0;
        (self.target, self.limit_ns) =
            if self.measuring { (plan.operations, plan.limit_ns) } else { (plan.warmup, plan.limit_ns / WARMUP_LIMIT) };
        self.running = plan.operations > 0;
        (self.done, self.in_batch, self.bytes, self.cut_short) = (0, 0, 0, false);
        (self.warmup_done, self.warmup_ns) = (0, 0);
    }

    /// Has the clock start together with those of other jobs, and the measured part too. To be said after arming, for one burst.
    pub fn share(&mut self, gates: [Arc<Gate>; 2]) {
        self.gates = gates.map(Some);
    }

    /// Tells the other jobs not to wait for one that ended before it was to wait for them.
    pub fn release(&mut self) {
        self.gates.iter_mut().filter_map(Option::take).for_each(|gate| gate.arrive());
    }

    /// Which burst of the block it is: what its operations are drawn from beside the seed.
    pub fn number(&self) -> u64 {
        self.plan.number
    }

    /// Operations that the burst will do at most, the warm-up included: for what must be laid out in advance.
    pub fn planned(&self) -> u64 {
        self.plan.warmup.saturating_add(self.plan.operations)
    }

    /// Starts the clock: the first operation begins now.
    #[inline]
    pub fn start(&mut self) {
        if let Some(gate) = self.gates[0].take() {
            gate.wait();
        }
        self.begun = now();
        self.previous = self.begun;
        self.scheduled = self.begun;
    }

    /// Whether another operation is to be done. In open loop it returns when that operation is to begin, and between warm-up and
    /// measured part when all jobs are through with their warm-up.
    #[inline]
    pub fn running(&mut self) -> bool {
        if self.expecting && self.running {
            self.expect();
        }
        self.running
    }

    fn expect(&mut self) {
        if self.turning {
            self.begin_measured();
        }
        if self.arrivals.is_some() {
            self.await_arrival();
        }
    }

    /// Sleeps and then spins until the next operation should begin; at once where it should have begun already.
    fn await_arrival(&mut self) {
        let Some(arrivals) = &mut self.arrivals else { return };
        self.intended = self.scheduled.saturating_add(arrivals.next_ns());
        if self.previous >= self.intended {
            // The operation before ended too late for this one. Nothing lies between the two: no clock is read.
            return;
        }
        let mut time = now();
        if self.intended > time.saturating_add(SPIN_NS) {
            sleep_until(self.intended - SPIN_NS);
            time = now();
        }
        while time < self.intended {
            std::hint::spin_loop();
            time = now();
        }
        self.previous = time;
        if self.measuring {
            self.lateness.saturating_record((time - self.intended).max(1));
        }
    }

    /// The moment from which an operation counts that is begun now and runs beside others: for [`Stopwatch::lap_since`].
    #[inline]
    pub fn mark(&self) -> u64 {
        now()
    }

    /// One of several operations in flight has ended, which began at `mark` and moved `bytes` bytes. Gives the present
    /// moment, which may serve as the mark of the operation that takes its place. In closed loop only.
    #[inline]
    pub fn lap_since(&mut self, mark: u64, bytes: u64) -> u64 {
        let now = now();
        self.done += 1;
        self.bytes += bytes;
        if self.measuring {
            self.record(now, now.saturating_sub(mark));
        }
        self.end(now);
        now
    }

    #[inline]
    fn record(&mut self, now: u64, spent: u64) {
        // A clock that runs backwards gives 0, which is recorded as the smallest latency and seen in the sum.
        self.histogram.saturating_record(spent.max(1));
        self.timeline.count(now.saturating_sub(self.begun), spent);
    }

    #[inline]
    fn record_response(&mut self, now: u64, spent: u64) {
        let response = now.saturating_sub(self.intended);
        self.histogram.saturating_record(spent.max(1));
        self.response.saturating_record(response.max(1));
        self.timeline.count(now.saturating_sub(self.begun), response);
    }

    /// An operation or a batch has ended at `now`.
    #[inline]
    fn end(&mut self, now: u64) {
        self.in_batch = 0;
        self.previous = now;
        let spent = now.saturating_sub(self.begun);
        if self.done >= self.target || spent >= self.limit_ns {
            self.turn();
        }
    }

    /// Whether the operation now to be done is the last planned of the warm-up or of the measured part: where work is
    /// buffered, it has to wait until all before it has arrived. A part that the limit ends early has no such operation:
    /// see [`Stopwatch::cut_short`] and [`Stopwatch::settle`].
    #[inline]
    pub fn closing(&self) -> bool {
        self.closing_within(1)
    }

    /// Whether the operation now to be done is one of the last `operations` of the warm-up or of the measured part: for work
    /// that is buffered in several places, each of which has to say that all has arrived.
    #[inline]
    pub fn closing_within(&self, operations: u64) -> bool {
        self.done + operations >= self.target
    }

    /// Operations that are left of the warm-up, or of the measured part: for work that asks ahead.
    #[inline]
    pub fn left(&self) -> u64 {
        self.target.saturating_sub(self.done)
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
            let spent = now.saturating_sub(self.previous);
            let count = u64::from(self.in_batch);
            // The division is dear, and a batch of one doesn't need it.
            let each = if count == 1 { spent } else { (spent + count / 2) / count };
            match self.arrivals {
                None => self.record(now, each),
                Some(_) => self.record_response(now, each),
            }
        }
        self.end(now);
    }

    /// To the end of the warm-up, or of the burst.
    #[cold]
    fn turn(&mut self) {
        self.cut_short = self.done < self.target;
        if self.measuring {
            self.running = false;
        } else {
            (self.turning, self.expecting) = (true, true);
        }
    }

    /// From the warm-up to the measured part, which begins where the warm-up has ended; with several jobs, where the last of them
    /// has. A schedule stands still while they wait.
    #[cold]
    fn begin_measured(&mut self) {
        (self.warmup_done, self.warmup_ns) = (self.done, self.previous.saturating_sub(self.begun));
        if let Some(gate) = self.gates[1].take() {
            gate.wait();
            self.waited = now().saturating_sub(self.previous);
        }
        self.begun = self.previous + self.waited;
        self.previous = self.begun;
        self.scheduled += self.waited;
        (self.done, self.bytes, self.in_batch) = (0, 0, 0);
        (self.measuring, self.turning, self.cut_short) = (true, false, false);
        (self.target, self.limit_ns) = (self.plan.operations, self.plan.limit_ns);
        self.expecting = self.arrivals.is_some();
    }

    /// Whether the next that is asked whether it is running waits for other jobs: what is in flight had better end before.
    #[inline]
    pub fn pausing(&self) -> bool {
        self.turning && self.gates[1].is_some()
    }

    /// How long it has waited for other jobs since this was last asked, nanoseconds: by so much whoever keeps moments of their own
    /// moves them.
    #[inline]
    pub fn take_wait(&mut self) -> u64 {
        std::mem::take(&mut self.waited)
    }

    /// Lets the part that runs go on until now, after its last operation: for buffered work that only now has arrived. `bytes` of
    /// it belong to no operation.
    pub fn settle(&mut self, bytes: u64) {
        self.previous = now();
        self.bytes += bytes;
    }

    /// Operations done since the burst started, the warm-up included.
    pub fn operations(&self) -> u64 {
        self.warmup_done + self.done
    }

    /// Whether the limit ended the part that ran last, warm-up or measured, before all of its operations were done.
    pub fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// The sample, once the burst has ended.
    ///
    /// # Errors
    /// When the histogram can't be serialized.
    pub fn sample(&mut self) -> anyhow::Result<Sample> {
        Self::sample_of(std::slice::from_mut(self))
    }

    /// One sample over all jobs of a burst, once it has ended: their operations added up, and the time from the start of the
    /// measured part, which they share, to the last end.
    ///
    /// # Errors
    /// When a histogram can't be serialized.
    pub fn sample_of(watches: &mut [Stopwatch]) -> anyhow::Result<Sample> {
        let add = |part: fn(&Stopwatch) -> u64| watches.iter().map(part).sum::<u64>();
        let (operations, bytes) = (add(|w| w.done), add(|w| w.bytes));
        let (warmup_operations, warmup_ns) = (add(|w| w.warmup_done), watches.iter().map(|w| w.warmup_ns).max());
        let begun = watches.iter().map(|w| w.begun).min().unwrap_or(0);
        let ended = watches.iter().map(|w| w.previous).max().unwrap_or(0);
        let paced = watches.iter().any(|w| w.arrivals.is_some());
        let histogram = merged(watches, |w| &w.histogram)?;
        let open = |part: fn(&Stopwatch) -> &Histogram<u64>| paced.then(|| merged(watches, part)).transpose();
        let (response, lateness) = (open(|w| &w.response)?, open(|w| &w.lateness)?);
        let batch = watches.first().map_or(1, |w| w.plan.batch);
        let cut_short = watches.iter().any(|w| w.cut_short);
        let entries = timeline::sum(watches.iter_mut().map(|w| w.timeline.finish()));
        Ok(Sample {
            operations,
            bytes,
            elapsed_ns: ended.saturating_sub(begun),
            warmup_operations,
            warmup_ns: warmup_ns.unwrap_or(0),
            batch,
            cut_short,
            histogram,
            response,
            lateness,
            timeline: timeline::encode(&entries),
            concurrency: watches.len() as u32,
            counters: Default::default(),
            drawn: None,
            durable_writes: None,
        })
    }
}

fn merged(watches: &[Stopwatch], part: fn(&Stopwatch) -> &Histogram<u64>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut write = |histogram: &Histogram<u64>| {
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(|e| anyhow::anyhow!("can't serialize a histogram: {e:?}"))
    };
    match watches {
        [one] => write(part(one))?,
        all => {
            let mut sum = Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are constants that fit");
            for watch in all {
                sum.add(part(watch)).expect("all histograms of stopwatches have the same bounds");
            }
            write(&sum)?
        }
    };
    Ok(bytes)
}

/// Sleeps until a moment of [`now`]'s clock. Wakes early for a signal; whoever calls looks at the clock again anyway.
#[cfg(target_os = "linux")]
pub(crate) fn sleep_until(at: u64) {
    let time = libc::timespec { tv_sec: (at / 1_000_000_000) as _, tv_nsec: (at % 1_000_000_000) as _ };
    // SAFETY: `time` is a valid time, and with an absolute one there is no remainder to be written.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const time, std::ptr::null_mut()) };
}

/// Sleeps until a moment of [`now`]'s clock.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sleep_until(at: u64) {
    std::thread::sleep(std::time::Duration::from_nanos(at.saturating_sub(now())));
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

    const PLAN: BurstPlan = BurstPlan { operations: 100, warmup: 20, batch: 1, limit_ns: u64::MAX, number: 0 };

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
        let plan = BurstPlan { operations: 1_000_000, warmup: 0, batch: 1, limit_ns: 2_000_000, number: 0 };
        let (sample, _, _) = run(plan, || std::thread::sleep(std::time::Duration::from_micros(100)));
        assert!(sample.cut_short && sample.operations < 1000, "{sample:?}");
    }

    #[test]
    fn a_slow_warm_up_takes_half_as_long_as_a_burst_may() {
        let nap = || std::thread::sleep(std::time::Duration::from_millis(1));
        let plan = BurstPlan { operations: 4, warmup: 1_000_000, batch: 1, limit_ns: 40_000_000, number: 0 };
        let (sample, _, _) = run(plan, nap);
        let took = std::time::Duration::from_nanos(sample.warmup_ns);
        // Less than a burst may take, however late the last nap ended.
        assert!(sample.warmup_operations <= 20 && took.as_millis() >= 20, "{sample:?}");
        assert!(!sample.cut_short && sample.operations == 4, "the burst behind it was not cut: {sample:?}");
        let (sample, _, _) = run(BurstPlan { warmup: 2, limit_ns: u64::MAX, ..plan }, nap);
        assert!(!sample.cut_short && (sample.operations, sample.warmup_operations) == (4, 2), "{sample:?}");
    }

    #[test]
    fn a_plan_of_nothing_and_a_plan_of_everything_do_no_harm() {
        let (sample, histogram, done) =
            run(BurstPlan { operations: 0, warmup: 5, batch: 0, limit_ns: 0, number: 0 }, || ());
        assert_eq!((sample.operations, histogram.len(), done), (0, 0, 0));
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: u64::MAX, warmup: u64::MAX, batch: u32::MAX, limit_ns: 1, number: 0 });
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
    fn operations_in_flight_count_from_their_own_start() {
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 2, warmup: 0, ..PLAN });
        watch.start();
        let marks = [watch.mark(), watch.mark()];
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = watch.lap_since(marks[0], 1);
        assert!(watch.running() && second > marks[1]);
        watch.lap_since(marks[1], 1);
        let sample = watch.sample().expect("serializes");
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut sample.histogram.as_slice()).expect("reads");
        assert!(histogram.min() >= 1_990_000, "both waited, though one after the other ended: {}", histogram.min());
        assert!(!watch.running() && sample.operations == 2);
    }

    #[test]
    fn a_stall_in_open_loop_is_charged_to_all_that_waited() {
        let mut watch = Stopwatch::new();
        let pace = Pace { rate: 1000, poisson: false, seed: 1, jobs: 1, job: 0 };
        watch.arm_paced(BurstPlan { operations: 40, warmup: 0, ..PLAN }, Some((pace, 0)));
        let mut done = 0;
        watch.start();
        while watch.running() {
            if done == 10 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done += 1;
            watch.lap(1);
        }
        let sample = watch.sample().expect("serializes");
        let read = |bytes: &[u8]| -> Histogram<u64> { Deserializer::new().deserialize(&mut &*bytes).expect("reads") };
        let (service, response) = (read(&sample.histogram), read(sample.response.as_deref().expect("open loop")));
        let slow = |histogram: &Histogram<u64>| histogram.count_between(2_000_000, HIGHEST_NS);
        // On a busy machine more than the one may stall; each stall makes several wait.
        assert!(slow(&service) >= 1, "one operation stalled");
        assert!(
            slow(&response) >= slow(&service) + 10,
            "those that should have begun meanwhile waited: {} against {}",
            slow(&response),
            slow(&service)
        );
        let lateness = read(sample.lateness.as_deref().expect("open loop"));
        assert!(lateness.len() <= 30, "those that waited were not late by the generator's doing: {}", lateness.len());
        assert!(sample.elapsed_ns >= 39_000_000, "the schedule holds: {}", sample.elapsed_ns);
    }

    #[test]
    fn jobs_start_together_and_one_that_fails_holds_nobody_up() {
        let gates = [Gate::new(3), Gate::new(3)];
        let mut watches: Vec<Stopwatch> = (0..3).map(|_| Stopwatch::new()).collect();
        let last = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            let last = &last;
            for (job, watch) in watches.iter_mut().enumerate() {
                watch.arm(PLAN);
                watch.share(gates.clone());
                scope.spawn(move || {
                    if job == 2 {
                        return watch.release();
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5 * job as u64));
                    last.fetch_max(now(), std::sync::atomic::Ordering::Relaxed);
                    watch.start();
                    while watch.running() {
                        watch.lap(1);
                    }
                });
            }
        });
        let last = last.into_inner();
        assert!(watches[..2].iter().all(|w| w.begun >= last), "no clock starts before everybody has come");
        let sample = Stopwatch::sample_of(&mut watches[..2]).expect("serializes");
        assert_eq!((sample.operations, sample.warmup_operations, sample.concurrency), (200, 40, 2));
        let counted: u32 = timeline::decode(&sample.timeline).expect("decodes").iter().map(|e| e.count).sum();
        assert_eq!(counted, 200);
    }

    /// Runs jobs as the agent does, each in a thread, with the watches afterwards.
    fn together(plan: BurstPlan, pace: Option<Pace>, work: impl Fn(usize, &mut Stopwatch) + Sync) -> Vec<Stopwatch> {
        let gates = [Gate::new(2), Gate::new(2)];
        let mut watches: Vec<Stopwatch> = (0..2).map(|_| Stopwatch::new()).collect();
        std::thread::scope(|scope| {
            for (job, watch) in watches.iter_mut().enumerate() {
                watch.arm_paced(plan, pace.map(|pace| (pace, 0)));
                watch.share(gates.clone());
                let work = &work;
                scope.spawn(move || {
                    work(job, watch);
                    watch.release();
                });
            }
        });
        watches
    }

    #[test]
    fn nobody_is_measured_beside_anothers_warm_up() {
        let ended = std::sync::atomic::AtomicU64::new(0);
        let mut watches = together(BurstPlan { operations: 5, warmup: 3, ..PLAN }, None, |job, watch| {
            watch.start();
            while watch.running() {
                if watch.operations() < 3 {
                    std::thread::sleep(std::time::Duration::from_millis(10 * job as u64));
                    ended.fetch_max(now(), std::sync::atomic::Ordering::Relaxed);
                }
                watch.lap(1);
            }
        });
        let ended = ended.into_inner();
        assert!(watches.iter().all(|w| w.begun >= ended), "a measured part began before {ended}");
        assert!(watches[0].waited >= 20_000_000, "{}", watches[0].waited);
        let sample = Stopwatch::sample_of(&mut watches).expect("serializes");
        let last = watches.iter().map(|w| w.previous).max().expect("two");
        assert!(sample.elapsed_ns <= last - ended, "from the gate to the last end");
        assert!(sample.warmup_ns >= 30_000_000 && (sample.operations, sample.bytes) == (10, 10), "{sample:?}");
    }

    #[test]
    fn who_fails_in_the_warm_up_holds_nobody_up() {
        let watches = together(PLAN, None, |job, watch| {
            watch.start();
            while watch.running() && !(job == 1 && watch.operations() == 5) {
                watch.lap(1);
            }
        });
        assert_eq!((watches[0].operations(), watches[1].operations()), (120, 5));
    }

    #[test]
    fn a_schedule_stands_still_while_jobs_wait_for_each_other() {
        let pace = Pace { rate: 20, poisson: false, seed: 1, jobs: 2, job: 0 };
        together(BurstPlan { operations: 1, warmup: 1, ..PLAN }, Some(pace), |job, watch| {
            watch.start();
            while watch.running() {
                // The other is late by its own doing.
                let waited = watch.measuring && job == 0;
                assert!(!waited || watch.intended >= watch.begun, "it was to begin while jobs waited");
                std::thread::sleep(std::time::Duration::from_millis(150 * job as u64));
                watch.lap(1);
            }
        });
    }

    #[test]
    fn as_much_as_many_jobs_can_see_fits_a_frame() {
        let mut random = crate::content::generator(1, 2, 3);
        let mut watches: Vec<Stopwatch> = (0..16).map(|_| Stopwatch::new()).collect();
        for watch in &mut watches {
            watch.arm_paced(PLAN, Some((Pace { rate: 1, poisson: true, seed: 1, jobs: 16, job: 0 }, 0)));
            // Ten seconds, and in each slice latencies of 40 sizes.
            for at in 0..40 * 2000 {
                let latency = 1_u64 << crate::content::below(&mut random, 36);
                let latency = latency + crate::content::below(&mut random, latency);
                watch.timeline.count(at * timeline::SLICE_NS / 40, latency);
                for histogram in [&mut watch.histogram, &mut watch.response, &mut watch.lateness] {
                    histogram.saturating_record(latency);
                }
            }
        }
        let sample = Stopwatch::sample_of(&mut watches).expect("serializes");
        let json = serde_json::to_string(&crate::protocol::Response::Sample(sample)).expect("JSON");
        assert!(json.len() < crate::protocol::MAX_FRAME, "{} bytes", json.len());
    }

    #[test]
    fn settling_lengthens_the_measured_time() {
        let mut watch = Stopwatch::new();
        watch.arm(BurstPlan { operations: 1, warmup: 0, ..PLAN });
        watch.start();
        watch.lap(1);
        std::thread::sleep(std::time::Duration::from_millis(2));
        watch.settle(5);
        let sample = watch.sample().expect("serializes");
        assert!(sample.elapsed_ns >= 2_000_000 && (sample.operations, sample.bytes) == (1, 6), "{sample:?}");
    }
}
