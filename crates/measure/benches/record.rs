//! What measuring costs: writing one call down, which the generator does between
//! two sends, and folding a million calls, which it does after the trial.
//!
//! The hot path has a budget of 100 ns a call. The memory is set aside as the
//! generator sets it aside, and the time excludes that, as a trial's does. `make` is the
//! loop of `make_and_push` without recording: the rest is recording. What reading a
//! response's time stamp costs besides, `receive` of the crate `generator` says. Seen on
//! a virtual machine of 2 cores that others used too: 12 ns a call [11, 13] in a
//! quieter minute, 37 ns [22, 53] under a load average of 14; a million calls fold
//! in 0.46 s [0.40, 0.51] under that load.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use measure::{
    calllog::{CallLog, Entry, FailureKind, OnWire, Outcome},
    fold::{Setting, Times, Window, fold},
    record::LoopMode,
};

/// Calls per log: 64 MB, far beyond any cache, as a trial's are.
const CALLS: u64 = 1_000_000;
const BACKENDS: u64 = 4;

/// One call in a microsecond, nearly all of them served, with latencies over three
/// orders of magnitude.
fn entry(index: u64) -> Entry {
    let due_ns = index * 1_000;
    let scattered = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let took_ns = 50_000 + (scattered >> 44) * (1 + (scattered & 0xf));
    let outcome = match scattered % 1_000 {
        0 => Outcome::Failed(FailureKind::ConnectionLost),
        _ => Outcome::served((scattered % BACKENDS) as u16, took_ns / 2, took_ns / 4),
    };
    Entry {
        due_ns,
        ready_ns: due_ns,
        sent_ns: due_ns + 900,
        done_ns: due_ns + took_ns,
        on_wire: OnWire::new(due_ns + 1_400, due_ns + took_ns - 20_000),
        outcome,
    }
}

/// Pushes `calls` calls into logs that are set aside outside the time taken.
fn push(calls: u64, make: impl Fn(u64) -> Entry) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = calls;
    while left > 0 {
        let chunk = left.min(CALLS);
        let mut log = CallLog::with_capacity(chunk as usize);
        let start = Instant::now();
        for index in 0..chunk {
            log.push(black_box(make(index)));
        }
        elapsed += start.elapsed();
        black_box(&log);
        left -= chunk;
    }
    elapsed
}

/// Makes the same calls and records none of them.
fn make(calls: u64) -> Duration {
    let start = Instant::now();
    for index in 0..calls {
        black_box(entry(black_box(index % CALLS)));
    }
    start.elapsed()
}

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    let same = entry(7);
    group.bench_function("push", |bencher| {
        bencher.iter_custom(|calls| push(calls, |_| black_box(same)));
    });
    group.bench_function("make_and_push", |bencher| {
        bencher.iter_custom(|calls| push(calls, entry));
    });
    group.bench_function("make", |bencher| bencher.iter_custom(make));
    group.finish();
}

fn fold_all(criterion: &mut Criterion) {
    let mut log = CallLog::with_capacity(CALLS as usize);
    (0..CALLS).for_each(|index| log.push(entry(index)));
    let ids: Vec<String> = (0..BACKENDS).map(|index| format!("b{index}")).collect();
    let setting = Setting {
        window: Window { start_ns: 0, end_ns: CALLS * 1_000 },
        spent: Window { start_ns: 0, end_ns: CALLS * 1_000 },
        backend_ids: &ids,
        balancers: &[],
        zones: &[],
        times: Times::Apart,
        by_backend: false,
        mode: LoopMode::Open,
        through_proxy: true,
    };
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(CALLS));
    group.sample_size(10);
    group.bench_function("a_million_calls", |bencher| {
        bencher.iter(|| black_box(fold([&log], &setting)));
    });
    group.finish();
}

criterion_group!(benches, record, fold_all);
criterion_main!(benches);
