//! What it costs to know when a response came in: a read with the kernel's time stamp beside
//! a read without, of the same bytes, in turn.
//!
//! `latency_wire` takes one such read for each response that waits, so this is what it costs
//! a call at most. Reads that find several responses share it. The kernel stamps what it takes
//! in for all sockets from the moment on when the first one asks for it, so that cost is in
//! both; it is one reading of a clock for each packet.
//!
//! Seen on a virtual machine of 2 cores under a load average of 9: 2.79 µs [2.78, 2.80] and
//! 2.97 µs [2.97, 2.98] a read, a difference of 190 ns [187, 193]; unoptimised 446 ns. That is
//! beyond the 100 ns that recording a call is to stay under, for calls whose responses come
//! one by one.

#![allow(clippy::expect_used, reason = "a bench may panic")]

// Where the module finds them.
use generator::{clock, stamps};

#[allow(unused_imports, reason = "its tests are run where it belongs")]
#[path = "../src/client/wire/stamped.rs"]
mod stamped;

use std::{
    hint::black_box,
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stamped::Stamped;
use tokio::runtime::Runtime;

/// What a short response takes with its frames.
const RESPONSE: [u8; 96] = [7; 96];

/// Two ends of a connection, of which the reading one is the runtime's.
struct Pair {
    writes: TcpStream,
    reads: Stamped,
}

impl Pair {
    async fn connected() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("it listens");
        let reads = tokio::net::TcpStream::connect(at).await.expect("somebody listens");
        let (writes, _) = listener.accept().expect("somebody connects");
        writes.set_nodelay(true).expect("it is a TCP socket");
        Self { writes, reads: Stamped::new(reads) }
    }

    /// The time that a read takes of what has just been written.
    async fn read(&mut self, is_stamped: bool) -> Duration {
        let mut room = [0; 1024];
        self.writes.write_all(&RESPONSE).expect("there is room");
        self.reads.socket().readable().await.expect("it is open");
        let start = Instant::now();
        let read = match is_stamped {
            true => self.reads.try_read(&mut room),
            false => self.reads.socket().try_read(&mut room),
        };
        black_box(self.reads.arrived_ns());
        let took = start.elapsed();
        assert_eq!(read.expect("it was written"), RESPONSE.len());
        took
    }
}

fn receive(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Elements(1));
    // The median read of each kind: what else the machine does is in the others.
    let medians = |runtime: &Runtime, reads: u64| {
        runtime.block_on(async {
            let mut pair = Pair::connected().await;
            let mut took = [Vec::new(), Vec::new()];
            for read in 0..reads {
                // Each first half of the time.
                for is_stamped in [read % 2 == 0, read % 2 == 1] {
                    took[usize::from(is_stamped)].push(pair.read(is_stamped).await);
                }
            }
            took.map(|mut took| {
                let middle = took.len() / 2;
                *took.select_nth_unstable(middle).1
            })
        })
    };
    let times = |each: Duration, reads: u64| each.mul_f64(reads as f64);
    group.bench_function("plain", |bencher| {
        bencher.iter_custom(|reads| times(medians(&runtime, reads)[0], reads));
    });
    group.bench_function("stamped", |bencher| {
        bencher.iter_custom(|reads| times(medians(&runtime, reads)[1], reads));
    });
    group.bench_function("difference", |bencher| {
        bencher.iter_custom(|reads| {
            let [plain, stamped] = medians(&runtime, reads);
            times(stamped.saturating_sub(plain).max(Duration::from_nanos(1)), reads)
        });
    });
    group.finish();
}

criterion_group!(benches, receive);
criterion_main!(benches);
