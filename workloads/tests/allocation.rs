//! A burst's laps don't allocate: a counting allocator watches the thread that does them.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use workloads::load::Pace;
use workloads::protocol::BurstPlan;
use workloads::stopwatch::Stopwatch;
use workloads::{Place, Resource, registry};

/// The system's allocator, with a count of the calls of each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the count is a thread-local number without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn laps_do_not_allocate() {
    let mut watch = Stopwatch::new();
    for batch in [1, 7] {
        watch.arm(BurstPlan { operations: 10_000, warmup: 1000, batch, limit_ns: u64::MAX, number: 0 });
        let before = CALLS.get();
        watch.start();
        while watch.running() {
            watch.lap(1);
        }
        watch.settle(0);
        assert_eq!(CALLS.get(), before, "with a batch of {batch}");
    }
    let pace = Pace { rate: 20_000, poisson: true, seed: 1, jobs: 1, job: 0 };
    watch.arm_paced(
        BurstPlan { operations: 1000, warmup: 100, batch: 1, limit_ns: u64::MAX, number: 0 },
        Some((pace, 0)),
    );
    let before = CALLS.get();
    watch.start();
    while watch.running() {
        watch.lap(1);
    }
    assert_eq!(CALLS.get(), before, "in open loop");
}

/// SQLite allocates in C, out of sight here; what is counted is what we add to it.
#[test]
fn operations_do_not_allocate_either() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let peer = workloads::peer::Listening::start(([127, 0, 0, 1], 0).into()).expect("listens");
    let mut watch = Stopwatch::new();
    for workload in registry::WORKLOADS {
        let name = workload.name();
        let directory = data.path().join(name.replace('/', "-"));
        std::fs::create_dir(&directory).expect("made");
        let settings = workload.resolve(&Default::default()).expect("defaults");
        let (shared, peer) = (directory.clone(), Some(peer.address().into()));
        let place =
            Place { directory, shared, job: 0, jobs: 1, seed: 1, settings, memory: 1 << 29, peer, parcel: None };
        let mut prepared = workload.prepare(&place).expect("prepared");
        let mut calls = [0; 2];
        for (calls, operations) in calls.iter_mut().zip([10, 50]) {
            watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
            let before = CALLS.get();
            prepared.burst(&mut watch).expect("done");
            *calls = CALLS.get() - before;
        }
        // Setting up a burst may allocate; forty operations more may not add to it.
        assert!(calls[1] <= calls[0], "{name}: {} allocations for 10 operations, {} for 50", calls[0], calls[1]);
    }
}

#[test]
fn operations_in_flight_do_not_allocate() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let given = [("engine", "io_uring"), ("depth", "16")].map(|(k, v)| (k.to_string(), v.to_string()));
    let mut watch = Stopwatch::new();
    for name in ["disk/randrw", "disk/seqwrite"] {
        let workload = registry::find(name).expect("registered");
        let settings = workload.resolve(&given.clone().into()).expect("valid");
        let (directory, shared) = (data.path().to_path_buf(), data.path().to_path_buf());
        let place =
            Place { directory, shared, job: 0, jobs: 1, seed: 1, settings, memory: 1 << 29, peer: None, parcel: None };
        let mut prepared = match workload.prepare(&place) {
            Ok(prepared) => prepared,
            Err(e) => return eprintln!("SKIPPED: no io_uring here: {e:#}"),
        };
        let calls = [100, 1000].map(|operations| {
            watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
            let before = CALLS.get();
            prepared.burst(&mut watch).expect("done");
            CALLS.get() - before
        });
        assert!(calls[1] <= calls[0], "{name}: {calls:?} allocations for 100 and 1000 operations");
    }
}

#[test]
fn a_look_of_the_canary_does_not_allocate() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut canaries = workloads::canary::Canaries::new(data.path()).expect("made");
    for resource in [Resource::Disk, Resource::Network, Resource::Processor] {
        let before = CALLS.get();
        canaries.measure(resource).expect("measured");
        assert_eq!(CALLS.get(), before, "{resource:?}");
    }
}
