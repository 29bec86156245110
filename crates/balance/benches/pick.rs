//! What a pick costs, per policy, over 4 and 64 backends.

use std::{hint::black_box, sync::Arc};

use balance::{Backend, Balancer, PickInput, PolicyKind, Tried};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for count in [4, 64] {
        for kind in PolicyKind::ALL {
            let backends = (0..count)
                .map(|index| Arc::new(Backend::new(format!("backend-{index}"), 1)))
                .collect();
            let Ok(balancer) = Balancer::new(kind, backends, 0) else { continue };
            let mut chance = SplitMix64::seed_from_u64(1);
            group.bench_function(BenchmarkId::new(kind.name(), count), |bencher| {
                bencher.iter(|| {
                    let random = chance.next_u64();
                    let input = PickInput { random, now_ns: 0, key: Some(random) };
                    black_box(balancer.pick(&input, &Tried::default()))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
