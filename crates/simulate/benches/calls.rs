//! How many calls a second are simulated on one core: 300 backends of 8 servers at a load
//! of 0.8, for each policy, and folded into a trial's figures for one of them.

use std::hint::black_box;

use balance::{PolicyKind, Tuning};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use measure::{
    calllog::Entry,
    fold::{Setting, Times, Window, fold_as_they_end},
    record::LoopMode,
};
use queueing::Service;
use simulate::{Backend, Distribution, Fleet, Layer, Load, Pace, Path, Poisson, Setup};

const CALLS: u64 = 200_000;
const BACKENDS: usize = 300;
const SERVERS: u32 = 8;
const SERVICE_S: f64 = 4e-3;

fn setup(layer: Layer, policy: PolicyKind) -> Setup {
    let backend = Backend {
        servers: SERVERS,
        service: Distribution::Of(Service::Exponential { mean_s: SERVICE_S }),
        speed: 1.0,
        weight: 1,
        is_member: true,
        zone: 0,
    };
    Setup {
        backends: vec![backend; BACKENDS],
        layer,
        policy,
        tuning: Tuning::default(),
        fleet: Fleet::ONE,
        zones: None,
        load: Load {
            pace: Pace::Open,
            connections: 2_000,
            connections_per_client: 1,
            streams: 100,
            connection_calls: None,
            passes: 1,
            give_up_ns: u64::MAX,
        },
        connection_age_ns: None,
        path: Path::NONE,
        faults: Vec::new(),
    }
}

fn arrivals() -> Poisson {
    let rate = 0.8 * BACKENDS as f64 * f64::from(SERVERS) / SERVICE_S;
    Poisson::new(rate, 2_000, CALLS, 1)
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("calls");
    group.throughput(Throughput::Elements(CALLS)).sample_size(10);
    let mut one = |name: &str, setup: &Setup| {
        group.bench_function(BenchmarkId::new("l7", name), |bencher| {
            bencher.iter(|| {
                let mut sum_ns = 0;
                let mut sink = |entry: &Entry, _| sum_ns += entry.done_ns;
                simulate::run(setup, &mut arrivals(), 1, &mut sink).expect("it is right");
                black_box(sum_ns)
            });
        });
    };
    for policy in PolicyKind::ALL {
        one(policy.name(), &setup(Layer::L7, policy));
    }
    one("l4", &setup(Layer::L4, PolicyKind::RoundRobin));
    let ids: Vec<String> = (0..BACKENDS).map(|index| format!("b{index}")).collect();
    let window = Window { start_ns: 0, end_ns: u64::MAX };
    let setting = Setting {
        window,
        spent: window,
        backend_ids: &ids,
        balancers: &[],
        zones: &[],
        times: Times::Apart,
        by_backend: false,
        mode: LoopMode::Open,
        through_proxy: true,
    };
    let p2c = setup(Layer::L7, PolicyKind::P2c);
    group.bench_function("p2c, folded", |bencher| {
        bencher.iter(|| {
            fold_as_they_end(&setting, |sink| {
                let mut sink = |entry: &Entry, _| sink(entry, 0);
                simulate::run(&p2c, &mut arrivals(), 1, &mut sink).expect("it is right");
            })
        });
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
