//! Our own part of an operation: one lap against the clock reading in it, the random numbers that operations draw, and what a
//! frame costs between bursts.
//!
//! `cargo bench -p tarebench-workloads`; `scripts/bench --self` compares with an earlier revision. The aim is that a lap costs at
//! most 40 ns more than the clock alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use workloads::content::{self, Digest};
use workloads::load::{Arrivals, Pace};
use workloads::protocol::{self, BurstPlan, Envelope, Response};
use workloads::stopwatch::{self, Stopwatch};
use workloads::timeline::{self, Timeline};

/// Arrivals so close that every operation is behind its schedule: nothing is waited for.
const BEHIND: Pace = Pace { rate: 1 << 40, poisson: true, seed: 1, jobs: 1, job: 0 };

fn recorder(c: &mut Criterion) {
    let mut group = c.benchmark_group("recorder");
    group.bench_function("clock alone", |b| b.iter(stopwatch::now));
    group.bench_function("clock alone, std::time::Instant", |b| b.iter(Instant::now));
    for (name, batch) in [("lap", 1), ("lap in a batch of 16", 16)] {
        group.bench_function(name, |b| {
            b.iter_custom(|laps| {
                let mut watch = Stopwatch::new();
                watch.arm(BurstPlan { operations: laps, warmup: 0, batch, limit_ns: u64::MAX, number: 0 });
                watch.start();
                while watch.running() {
                    watch.lap(black_box(64));
                }
                Duration::from_nanos(watch.sample().expect("serializes").elapsed_ns)
            });
        });
    }
    for (name, poisson) in [("lap in open loop, Poisson", true), ("lap in open loop, linear", false)] {
        group.bench_function(name, |b| {
            b.iter_custom(|laps| {
                let mut watch = Stopwatch::new();
                let plan = BurstPlan { operations: laps, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };
                watch.arm_paced(plan, Some((Pace { poisson, ..BEHIND }, 0)));
                watch.start();
                while watch.running() {
                    watch.lap(black_box(64));
                }
                Duration::from_nanos(watch.sample().expect("serializes").elapsed_ns)
            });
        });
    }
    group.bench_function("lap_since", |b| {
        b.iter_custom(|laps| {
            let mut watch = Stopwatch::new();
            watch.arm(BurstPlan { operations: laps, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
            watch.start();
            let mut mark = watch.mark();
            while watch.running() {
                mark = watch.lap_since(mark, black_box(64));
            }
            Duration::from_nanos(watch.sample().expect("serializes").elapsed_ns)
        });
    });
    let mut arrivals = Arrivals::new(BEHIND, 0);
    group.bench_function("arrival, Poisson", |b| b.iter(|| arrivals.next_ns()));
    group.finish();
}

fn timelines(c: &mut Criterion) {
    let mut group = c.benchmark_group("timeline");
    // 10 us each, so that a slice ends after 500.
    group.bench_function("count", |b| {
        let mut line = Timeline::new();
        let mut at = 0;
        b.iter(|| {
            at += 10_000;
            line.count(black_box(at), black_box(10_000));
        });
    });
    let mut line = Timeline::new();
    for i in 0..20_000_u64 {
        line.count(i * 10_000, content::mix(i) % 1_000_000);
    }
    let entries = line.finish().to_vec();
    let bytes = timeline::encode(&entries);
    group.throughput(Throughput::Elements(entries.len() as u64));
    group.bench_function("encode", |b| b.iter(|| timeline::encode(&entries)));
    group.bench_function("decode", |b| b.iter(|| timeline::decode(&bytes).expect("whole")));
    group.finish();
}

fn contents(c: &mut Criterion) {
    let mut group = c.benchmark_group("content");
    let mut generator = content::generator(1, 2, 3);
    let mut block = [0; 4096];
    group.bench_function("generator", |b| b.iter(|| content::generator(black_box(1), 2, black_box(3))));
    group.bench_function("below", |b| b.iter(|| content::below(&mut generator, black_box(1000))));
    group.throughput(Throughput::Bytes(4096));
    group.bench_function("fill 4 KiB", |b| b.iter(|| content::fill(&mut generator, black_box(&mut block))));
    group.bench_function("digest of 4 KiB", |b| {
        b.iter(|| {
            let mut digest = Digest::new("bench", 1);
            digest.add(black_box(&block));
            digest.value()
        });
    });
    group.finish();
}

fn frames(c: &mut Criterion) {
    // Latencies spread over four decades: a histogram larger than any workload gave.
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations: 2000, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
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

criterion_group!(benches, recorder, timelines, contents, frames);
criterion_main!(benches);
