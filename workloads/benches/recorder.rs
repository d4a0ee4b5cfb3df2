//! What we add to an operation: one lap against the clock reading in it, and what a frame costs between bursts.
//!
//! `cargo bench -p tarebench-workloads`. The aim is that a lap costs at most 40 ns more than the clock alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use workloads::protocol::{self, BurstPlan, Envelope, Response};
use workloads::stopwatch::{self, Stopwatch};

fn recorder(c: &mut Criterion) {
    let mut group = c.benchmark_group("recorder");
    group.bench_function("clock alone", |b| b.iter(stopwatch::now));
    group.bench_function("clock alone, std::time::Instant", |b| b.iter(Instant::now));
    for (name, batch) in [("lap", 1), ("lap in a batch of 16", 16)] {
        group.bench_function(name, |b| {
            b.iter_custom(|laps| {
                let mut watch = Stopwatch::new();
                watch.arm(BurstPlan { operations: laps, warmup: 0, batch, limit_ns: u64::MAX });
                watch.start();
                while watch.running() {
                    watch.lap(black_box(64));
                }
                Duration::from_nanos(watch.sample().expect("serializes").elapsed_ns)
            });
        });
    }
    group.finish();
}

fn frames(c: &mut Criterion) {
    // Latencies spread over four decades: a histogram larger than any workload gave.
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations: 2000, warmup: 0, batch: 1, limit_ns: u64::MAX });
    watch.start();
    let mut spins = 1_u64;
    while watch.running() {
        for spin in 0..spins % 20_000 {
            black_box(spin);
        }
        spins = spins * 31 % 65_537;
        watch.lap(1);
    }
    let body = Response::Sample(watch.sample().expect("serializes"));
    let mut frame = Vec::new();
    protocol::send(&mut frame, 1, 2, &body, || 3).expect("a vector takes everything");
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("histogram", |b| b.iter(|| watch.sample()));
    group.bench_function("encode", |b| {
        let mut out = Vec::with_capacity(2 * frame.len());
        b.iter(|| {
            out.clear();
            protocol::send(&mut out, 1, 2, &body, || 3)
        });
    });
    group.bench_function("decode", |b| {
        b.iter(|| protocol::read_frame::<Envelope<Response>>(&mut frame.as_slice()).expect("whole"));
    });
    group.finish();
}

criterion_group!(benches, recorder, frames);
criterion_main!(benches);
