//! Transfers of blocks of one file, at random or in sequence, by one engine or another: what [`super::access`] does.
//!
//! With several operations in flight no two may touch the same block, or nobody could say what it should hold: at random each
//! slot of the queue has blocks of its own (those whose number leaves its own number when divided by the depth), and in sequence
//! a write waits for one that is still busy with the same block.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use rand_pcg::Pcg64Mcg;

use super::blocks::{self, Aligned, Filled, Pool};
use super::queue::{self, Queue};
use crate::content::{self, Digest};
use crate::settings::{Amount, Bytes, Setting, SettingError, Value as _};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared};

/// Operations that the check value covers.
const CHECKED: u64 = 16;
/// How long a probe of io_uring may take.
const PROBE: Duration = Duration::from_secs(10);
/// How long what is in flight at the end of a burst may take: a throttled device is slow, the harness's own deadline is nearer.
const DRAIN: Duration = Duration::from_secs(300);

crate::words! {
    /// How the kernel is asked.
    pub(super) enum Engine {
        /// A system call an operation.
        Psync = "psync",
        /// A queue.
        IoUring = "io_uring",
    }
}

/// The setting `size`.
pub(super) const SIZE: Setting = Setting::new("size", Amount::KIND)
    .with_bounds(4096..=1 << 40)
    .with_default("16MiB")
    .with_about("Bytes of the file, written in full before; or a multiple of the environment's memory");

crate::settings! {
    /// The file.
    pub(super) struct Extent {
        size: Amount as SIZE,
        /// Bytes that an operation moves
        block: Bytes = "4KiB" in 512..=16 << 20,
    }
}

crate::settings! {
    /// How its blocks are moved.
    pub(super) struct Manner {
        /// Past the page cache, with O_DIRECT; where that is refused it is an error
        direct: bool = true,
        /// How the kernel is asked: a system call an operation, or a queue; where io_uring is refused it is an error
        engine: Engine = "psync",
        /// Operations that a job has in flight at a time; more than 1 needs engine = io_uring
        depth: u32 = 1 in 1..=1024,
    }
}

impl Manner {
    pub(super) fn check(&self) -> Result<(), SettingError> {
        let Self { engine, depth, .. } = *self;
        if engine == Engine::Psync && depth != 1 {
            return Err(SettingError::Conflict(format!(
                "engine = psync has one operation of a job in flight, and depth is {depth}: set depth = 1 and more jobs, or \
                 engine = io_uring"
            )));
        }
        Ok(())
    }
}

/// The operations of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// The workload.
    pub name: &'static str,
    /// A purpose of random numbers.
    pub stream: u64,
    /// One block after the other, rather than any.
    pub sequential: bool,
    /// Percent of its operations that read; the others write.
    pub reads: u64,
}

/// Room for the file, and memory for what is in flight and for the version of each block.
pub(super) fn needs(pattern: Pattern, extent: &Extent, manner: &Manner, memory: u64) -> Needs {
    let (size, block) = (extent.size.of(memory), extent.block.0);
    let (depth, bodies) = (u64::from(manner.depth), blocks::bodies(block as usize, manner.depth) as u64);
    let versions = if pattern.reads < 100 { size / block * 8 } else { 0 };
    Needs { disk: size, memory: versions + depth * block * (1 + bodies) + (2 << 20) + blocks::HUGE as u64 }
}

/// One operation.
#[derive(Debug, Clone, Copy, Default)]
struct Operation {
    number: u64,
    read: bool,
}

/// The operations of a burst, in order.
struct Walk {
    choice: Pcg64Mcg,
    /// Percent that read.
    reads: u64,
    order: Order,
}

enum Order {
    /// Blocks `first + k * stride`, for any k below `count`.
    Random { first: u64, stride: u64, count: u64 },
    /// The next is `at`, and after the last of `count` comes the first.
    Sequential { at: u64, count: u64 },
}

impl Walk {
    /// See [`Prepared::drawn`].
    fn drawn(&self) -> u64 {
        content::state(&self.choice)
    }

    #[inline]
    fn next(&mut self) -> Operation {
        let number = match &mut self.order {
            Order::Random { first, stride, count } => *first + content::below(&mut self.choice, *count) * *stride,
            Order::Sequential { at, count } => {
                let number = *at;
                *at = if number + 1 == *count { 0 } else { number + 1 };
                number
            }
        };
        let read = match self.reads {
            0 => false,
            100 => true,
            percent => content::below(&mut self.choice, 100) < percent,
        };
        Operation { number, read }
    }
}

/// State of an operation in flight.
#[derive(Debug)]
struct Slot {
    /// Where a read ends.
    buffer: Aligned,
    /// Where a write comes from.
    pool: Option<Pool>,
    operation: Operation,
    /// Of a write.
    version: u64,
    /// In the queue.
    busy: bool,
    /// When it began.
    mark: u64,
}

impl Slot {
    /// As many as there are operations in flight.
    fn several(depth: u32, seed: u64, block: usize, bodies: usize, reads: u64) -> Vec<Self> {
        let lengths = [if reads > 0 { block } else { 0 }, if reads < 100 { bodies * block } else { 0 }];
        let slot = |[buffer, pool]: [Aligned; 2]| {
            let pool = (reads < 100).then(|| Pool::of(seed, block, pool));
            Self { buffer, pool, operation: Operation::default(), version: 0, busy: false, mark: 0 }
        };
        Aligned::pairs(depth as usize, lengths).into_iter().map(slot).collect()
    }

    #[inline]
    fn body(&mut self, number: u64, version: u64) -> &[u8] {
        self.pool.as_mut().expect("work that writes has bodies to write").block(number, version)
    }
}

/// A file, written in full, with the engine tried.
pub(super) struct Transfer {
    pattern: Pattern,
    file: Filled,
    seed: u64,
    /// How the queue is set up; without one the engine is psync.
    setup: Option<&'static str>,
    slots: Vec<Slot>,
    /// Of each slot's pool.
    bodies: usize,
    /// The version that each block should have; empty where nothing is written.
    last: Vec<u64>,
    /// Writes since the file was filled: the version of the block written last.
    written: u64,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Transfer {
    pub(super) fn prepare(pattern: Pattern, extent: &Extent, manner: &Manner, place: &Place) -> anyhow::Result<Self> {
        let (size, block) = (extent.size.of(place.memory), extent.block.0);
        let Manner { direct, engine, depth } = *manner;
        let uring = engine == Engine::IoUring;
        let flags = if direct { libc::O_DIRECT } else { 0 };
        // Before the file, which may take its time.
        anyhow::ensure!(
            size / block.max(1) == 0 || size / block >= u64::from(depth),
            "a file of {size} bytes has fewer blocks of {block} than the {depth} that are to be in flight; set a larger size"
        );
        let setup = if uring { Some(Queue::<Slot>::new(depth)?.setup) } else { None };
        let path = place.directory.join(pattern.name.replace("disk/", "")).with_extension("dat");
        let file = Filled::create(&path, place.seed, size, block, flags)?;
        let bodies = blocks::bodies(file.block, depth);
        let slots = Slot::several(depth, place.seed, file.block, bodies, pattern.reads);
        let last = if pattern.reads < 100 { vec![0; file.blocks as usize] } else { Vec::new() };
        let mut transfer = Self { pattern, file, seed: place.seed, setup, slots, bodies, last, written: 0, drawn: 0 };
        if uring {
            transfer.probe().context("a first operation by io_uring failed")?;
        }
        Ok(transfer)
    }

    /// The operations of a burst, for each of so many slots; one for all where they go in sequence. Other places in each burst, so
    /// that no cache below learns them; the same in the same burst of any environment.
    fn walks(&self, burst: u64, slots: u64) -> Vec<Walk> {
        let (blocks, reads) = (self.file.blocks, self.pattern.reads);
        let choice = |slot: u64| content::generator(self.seed, self.pattern.stream ^ (slot << 32), burst);
        if self.pattern.sequential {
            let mut choice = choice(0);
            let at = content::below(&mut choice, blocks);
            return vec![Walk { choice, reads, order: Order::Sequential { at, count: blocks } }];
        }
        let order = |first| Order::Random { first, stride: slots, count: (blocks - first).div_ceil(slots) };
        (0..slots).map(|slot| Walk { choice: choice(slot), reads, order: order(slot) }).collect()
    }

    /// The version that a block should have.
    #[inline]
    fn version(&self, number: u64) -> u64 {
        self.last.get(number as usize).copied().unwrap_or(0)
    }

    /// One operation by a system call of its own.
    #[inline]
    fn perform(&mut self, operation: Operation) -> anyhow::Result<()> {
        let Operation { number, read } = operation;
        let expected = self.version(number);
        let slot = &mut self.slots[0];
        if read {
            self.file.read(number, slot.buffer.get_mut())?;
            return check(slot.buffer.get(), self.seed, number, expected);
        }
        let version = self.written + 1;
        self.file.write(number, slot.body(number, version))?;
        self.written = version;
        self.last[number as usize] = version;
        Ok(())
    }

    /// Puts an operation in line.
    #[inline]
    fn begin(&mut self, queue: &mut Queue<Slot>, at: usize, operation: Operation, mark: u64) {
        let length = self.file.block;
        let offset = operation.number * length as u64;
        let slot = &mut queue.kept[at];
        (slot.operation, slot.mark, slot.busy) = (operation, mark, true);
        if operation.read {
            let buffer = slot.buffer.get_mut().as_mut_ptr();
            // SAFETY: the buffer has a block's length, belongs to `kept`, and a busy slot's buffer is left alone.
            unsafe { queue.read(&self.file.file, at, buffer, length, offset) };
        } else {
            self.written += 1;
            slot.version = self.written;
            let body = slot.body(operation.number, self.written).as_ptr();
            // SAFETY: as above; the bodies belong to the slot.
            unsafe { queue.write(&self.file.file, at, body, length, offset) };
        }
    }

    /// Looks at what came of an operation in flight.
    #[inline]
    fn finish(&mut self, slot: &mut Slot, result: i32) -> anyhow::Result<()> {
        let Operation { number, read } = slot.operation;
        slot.busy = false;
        if result != self.file.block as i32 {
            return Err(self.fell_short(number, read, result));
        }
        if read {
            return check(slot.buffer.get(), self.seed, number, self.version(number));
        }
        self.last[number as usize] = slot.version;
        Ok(())
    }

    #[cold]
    fn fell_short(&self, number: u64, read: bool, result: i32) -> anyhow::Error {
        let why = if result >= 0 {
            // What follows a short write that isn't an error yet.
            anyhow::anyhow!("only {result} of {} bytes were moved; is the file system full?", self.file.block)
        } else {
            blocks::explain(std::io::Error::from_raw_os_error(-result), self.file.direct)
        };
        self.file.failed(why, read, number)
    }

    /// One operation by a queue, outside of all timing.
    fn perform_queued(&mut self, operation: Operation) -> anyhow::Result<()> {
        let mut queue = Queue::new(1)?;
        queue.kept = std::mem::take(&mut self.slots);
        self.begin(&mut queue, 0, operation, 0);
        self.end(queue, PROBE)
    }

    /// Waits until nothing of the queue is in flight, and takes the slots back.
    fn end(&mut self, mut queue: Queue<Slot>, limit: Duration) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        let drained = queue.drain(limit, |slot, result| {
            let done = self.finish(slot, result);
            if outcome.is_ok() {
                outcome = done;
            }
        });
        self.slots = queue.give_back();
        drained.and(outcome)
    }

    /// A read, and where the work writes a write, whose bytes are looked at: a set-up may succeed where every operation fails.
    fn probe(&mut self) -> anyhow::Result<()> {
        let refused = |e: anyhow::Error| match e.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
        {
            Some(code @ (libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
                queue::explain(std::io::Error::from_raw_os_error(code))
            }
            _ => e,
        };
        let mut right = vec![0; self.file.block];
        blocks::initial(&mut right, self.seed, 0);
        if self.pattern.reads > 0 {
            self.perform_queued(Operation { number: 0, read: true }).map_err(refused)?;
            anyhow::ensure!(
                self.slots[0].buffer.get() == right,
                "a read by io_uring gives something else than the file has; set engine = psync for all environments"
            );
        }
        if self.pattern.reads < 100 {
            self.perform_queued(Operation { number: 0, read: false }).map_err(refused)?;
            let mut found = Aligned::new(self.file.block);
            self.file.read(0, found.get_mut())?;
            anyhow::ensure!(
                found.get() == Pool::with(self.seed, self.file.block, self.bodies).block(0, self.written),
                "a write by io_uring has not arrived in the file; set engine = psync for all environments"
            );
        }
        Ok(())
    }

    /// The timed part of a burst with a queue.
    fn stream(&mut self, queue: &mut Queue<Slot>, walks: &mut [Walk], watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.file.block as u64;
        let one_walk = walks.len() == 1;
        let mut free: Vec<usize> = (0..queue.kept.len()).rev().collect();
        let mut held: Option<Operation> = None;
        watch.start();
        let mut mark = watch.mark();
        while watch.running() {
            mark += watch.take_wait();
            while let Some(&at) = free.last() {
                let operation = held.take().unwrap_or_else(|| walks[if one_walk { 0 } else { at }].next());
                if self.pattern.sequential && !operation.read && occupied(&queue.kept, operation.number) {
                    held = Some(operation);
                    break;
                }
                free.pop();
                self.begin(queue, at, operation, mark);
            }
            let handed_in = if queue.ready() { queue.submit() } else { queue.wait() };
            handed_in.map_err(queue::explain)?;
            if let Some((at, result)) = queue.next() {
                let slot = &mut queue.kept[at];
                self.finish(slot, result)?;
                mark = watch.lap_since(slot.mark, bytes);
                free.push(at);
            }
            // Other jobs are waited for: what is in flight belongs to the warm-up.
            while watch.pausing() && free.len() < queue.kept.len() {
                queue.wait().map_err(queue::explain)?;
                while let Some((at, result)) = queue.next() {
                    let slot = &mut queue.kept[at];
                    self.finish(slot, result)?;
                    mark = watch.lap_since(slot.mark, bytes);
                    free.push(at);
                }
            }
        }
        Ok(())
    }

    /// The same with one in flight, in closed loop or open.
    fn trickle(&mut self, queue: &mut Queue<Slot>, walk: &mut Walk, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let bytes = self.file.block as u64;
        watch.start();
        while watch.running() {
            self.begin(queue, 0, walk.next(), 0);
            let result = loop {
                queue.wait().map_err(queue::explain)?;
                if let Some((_, result)) = queue.next() {
                    break result;
                }
            };
            self.finish(&mut queue.kept[0], result)?;
            watch.lap(bytes);
        }
        Ok(())
    }
}

#[inline]
fn check(block: &[u8], seed: u64, number: u64, version: u64) -> anyhow::Result<()> {
    anyhow::ensure!(blocks::stamped(block, seed, number, version), "block {number} came back as something else");
    Ok(())
}

/// Whether a slot is at work on a block.
#[inline]
fn occupied(slots: &[Slot], number: u64) -> bool {
    slots.iter().any(|slot| slot.busy && slot.operation.number == number)
}

impl Prepared for Transfer {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        anyhow::ensure!(!self.slots.is_empty(), "operations of an earlier burst are in flight still; prepare afresh");
        self.file.calm()?;
        let mut walks = self.walks(watch.number(), self.slots.len() as u64);
        if self.setup.is_none() {
            let (walk, bytes) = (&mut walks[0], self.file.block as u64);
            watch.start();
            while watch.running() {
                self.perform(walk.next())?;
                watch.lap(bytes);
            }
            self.drawn = walks[0].drawn();
            return Ok(());
        }
        let mut queue = Queue::new(self.slots.len() as u32)?;
        queue.kept = std::mem::take(&mut self.slots);
        let done = match queue.kept.len() {
            1 => self.trickle(&mut queue, &mut walks[0], watch),
            _ => self.stream(&mut queue, &mut walks, watch),
        };
        let ended = self.end(queue, DRAIN);
        // Which of several slots goes on is for the device to say.
        self.drawn = if walks.len() == 1 { walks[0].drawn() } else { 0 };
        done.and(ended)
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        anyhow::ensure!(!self.slots.is_empty(), "operations of an earlier burst are in flight still; prepare afresh");
        let (seed, block) = (self.seed, self.file.block);
        // Bodies of its own, so that what was damaged in memory before writing is found as well.
        let mut pool = Pool::with(seed, block, self.bodies);
        let mut expected = |number: u64, version: u64, block: &mut [u8]| match version {
            0 => blocks::initial(block, seed, number),
            version => block.copy_from_slice(pool.block(number, version)),
        };
        let overwritten = self.last.iter().filter(|version| **version > 0).count();
        let sum = self.file.compare(|number, block| expected(number, self.version(number), block))?;
        let mut digest = Digest::new(self.pattern.name, seed);
        // The same first operations at the same places, whatever came before: their content is the check value.
        let mut walk = self.walks(0, 1).remove(0);
        if self.pattern.reads == 100 {
            digest.add(&sum.to_le_bytes());
            for _ in 0..CHECKED {
                let operation = walk.next();
                if self.setup.is_some() {
                    self.perform_queued(operation)?
                } else {
                    self.perform(operation)?
                }
                digest.add(self.slots[0].buffer.get());
            }
            let detail = format!("{} blocks of {block} bytes as written", self.file.blocks);
            return Ok(Check { value: digest.value(), detail });
        }
        // The bodies of one who has one operation in flight: the value doesn't depend on the depth.
        let mut standard = Pool::new(seed, block);
        let mut buffer = Aligned::new(block);
        for version in 1..=CHECKED {
            let number = walk.next().number;
            self.file.write_and_read(number, standard.block(number, version), &mut buffer, || Ok(()))?;
            digest.add(buffer.get());
            expected(number, self.version(number), buffer.get_mut());
            self.file.write(number, buffer.get())?;
        }
        let detail = format!("{} blocks compared, {overwritten} of them overwritten", self.file.blocks);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.file.facts();
        let engine = if self.setup.is_some() { "io_uring" } else { "psync" };
        facts.insert("engine".into(), engine.into());
        facts.insert("depth".into(), self.slots.len().to_string());
        if let Some(setup) = self.setup {
            facts.insert("io_uring_setup".into(), setup.into());
        }
        facts
    }
}
