//! Every model against a simulation of the queue it describes, event by event
//! and with a fixed seed: the judge that shares no formula with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use queueing::{
    Model, Service,
    bins::RandomPlacement,
    choices::FewestOf,
    fit::{Arrivals, Layer, Policy, Setting, fit},
};
use rand_distr::{Distribution, OpenClosed01};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

/// Chance by a seed.
struct Chance(SplitMix64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        OpenClosed01.sample(&mut self.0)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() % count as u64) as usize
    }

    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    fn service(&mut self, service: &Service) -> f64 {
        match *service {
            Service::Constant { value_s } => value_s,
            Service::Exponential { mean_s } => mean_s * self.exponential(),
            Service::Lognormal { mean_s, sigma } => {
                let normal =
                    (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
                mean_s * (sigma * normal - sigma * sigma / 2.0).exp()
            }
            Service::Bimodal { common_s, rare_s, rare_share } => {
                if self.unit() <= rare_share {
                    rare_s
                } else {
                    common_s
                }
            }
            Service::Measured(ref measured) => measured.quantile_s(self.unit()),
        }
    }
}

/// One backend: first come, first served.
struct Backend {
    /// When each server is free.
    free_s: Vec<f64>,
    /// When the calls in flight end.
    ends_s: Vec<f64>,
}

impl Backend {
    fn in_flight(&mut self, now_s: f64) -> usize {
        self.ends_s.retain(|&end_s| end_s > now_s);
        self.ends_s.len()
    }

    /// Takes a call and returns when it ends.
    fn take(&mut self, now_s: f64, service_s: f64) -> f64 {
        let first = self.free_s.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        *first = first.max(now_s) + service_s;
        let end_s = *first;
        self.ends_s.push(end_s);
        end_s
    }
}

const CALLS: usize = 1_500_000;
const WARM_UP: usize = 50_000;

/// Sojourns in seconds, sorted.
fn simulate(setting: &Setting, seed: u64) -> Vec<f64> {
    let mut chance = Chance::new(seed);
    let backends = setting.backends as usize;
    let mut all: Vec<_> = (0..backends)
        .map(|_| Backend { free_s: vec![0.0; setting.servers as usize], ends_s: Vec::new() })
        .collect();
    let service = setting.service.as_ref().unwrap();
    let mut now_s = 0.0;
    let mut sojourns = Vec::with_capacity(CALLS);
    for call in 0..CALLS + WARM_UP {
        let poisson = setting.arrivals == Arrivals::Poisson;
        now_s += if poisson { chance.exponential() } else { 1.0 } / setting.rate;
        let picked = pick(setting, &mut all, call, now_s, &mut chance);
        if setting.policy == Policy::RoundRobin || setting.policy == Policy::Random {
            all[picked].ends_s.clear();
        }
        let service_s = chance.service(service);
        let end_s = all[picked].take(now_s, service_s);
        if call >= WARM_UP {
            sojourns.push(end_s - now_s);
        }
    }
    sojourns.sort_by(f64::total_cmp);
    sojourns
}

fn pick(
    setting: &Setting,
    all: &mut [Backend],
    call: usize,
    now_s: f64,
    chance: &mut Chance,
) -> usize {
    let count = all.len();
    if matches!(setting.layer, Layer::None | Layer::L4) {
        let connections = setting.connections as usize;
        let connection = match setting.arrivals {
            Arrivals::Poisson => chance.below(connections),
            _ => call % connections,
        };
        return connection % count;
    }
    match setting.policy {
        Policy::RoundRobin => call % count,
        Policy::Random => chance.below(count),
        Policy::P2c => {
            let first = chance.below(count);
            let second = (first + 1 + chance.below(count - 1)) % count;
            let dearer = all[first].in_flight(now_s) > all[second].in_flight(now_s);
            if dearer { second } else { first }
        }
        Policy::P3c => {
            let mut drawn: Vec<usize> = (0..count).collect();
            for place in 0..count.min(3) {
                drawn.swap(place, place + chance.below(count - place));
            }
            drawn.truncate(3);
            drawn.into_iter().min_by_key(|&i| all[i].in_flight(now_s)).unwrap()
        }
        Policy::LeastLoaded => {
            let start = chance.below(count);
            (0..count)
                .map(|i| (start + i) % count)
                .min_by_key(|&i| all[i].in_flight(now_s))
                .unwrap()
        }
        Policy::Other => unreachable!("no model of it"),
    }
}

/// Mean and quantiles within `error` of the model's.
fn judge(model: &dyn Model, sojourns: &[f64], error: f64) {
    let mut rows = vec![("mean", model.mean_s(), mean(sojourns))];
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let measured = sojourns[(q * sojourns.len() as f64) as usize];
        rows.push((name, model.quantile_s(q).unwrap(), measured));
    }
    for (figure, theory, measured) in rows {
        let off = (measured / theory - 1.0).abs();
        assert!(off < error, "{} {figure}: theory {theory}, simulated {measured}", model.name());
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

const EXPONENTIAL: Service = Service::Exponential { mean_s: 1.0 };
const CONSTANT: Service = Service::Constant { value_s: 1.0 };

const BASE: Setting = Setting {
    backends: 4,
    alike: true,
    servers: 1,
    service: Some(EXPONENTIAL),
    arrivals: Arrivals::Poisson,
    rate: 3.2,
    connections: 4,
    layer: Layer::L7,
    policy: Policy::Random,
    balancers: 1,
};

fn check(setting: Setting) {
    let found = fit(&setting).unwrap();
    judge(found.model.as_ref(), &simulate(&setting, 1), 0.02);
}

#[test]
fn random_picking() {
    check(BASE);
    check(Setting { service: Some(CONSTANT), ..BASE });
    check(Setting { servers: 3, rate: 10.2, ..BASE });
    check(Setting { servers: 3, rate: 10.2, service: Some(CONSTANT), ..BASE });
    check(Setting { arrivals: Arrivals::Constant, ..BASE });
}

#[test]
fn round_robin() {
    let base = Setting { policy: Policy::RoundRobin, ..BASE };
    check(base.clone());
    check(Setting { rate: 2.0, ..base.clone() });
    check(Setting { service: Some(CONSTANT), ..base.clone() });
    check(Setting { servers: 3, rate: 10.2, ..base.clone() });
    check(Setting { servers: 2, rate: 6.4, service: Some(CONSTANT), ..base.clone() });
    check(Setting { arrivals: Arrivals::Constant, ..base.clone() });
}

#[test]
fn any_service_time_on_one_server() {
    let base = Setting { rate: 2.0, ..BASE };
    check(Setting {
        service: Some(Service::Lognormal { mean_s: 1.0, sigma: 0.8 }),
        ..base.clone()
    });
    let bimodal = Service::Bimodal { common_s: 0.5, rare_s: 5.5, rare_share: 0.1 };
    check(Setting { service: Some(bimodal), ..base.clone() });
}

#[test]
fn the_fewest_in_flight() {
    for policy in [Policy::P2c, Policy::P3c, Policy::LeastLoaded] {
        let base = Setting { policy, ..BASE };
        check(base.clone());
        check(Setting { rate: 2.0, ..base.clone() });
        check(Setting { backends: 3, servers: 2, rate: 4.8, ..base.clone() });
    }
}

#[test]
fn the_power_of_two_choices_among_many() {
    let setting = Setting { backends: 100, rate: 85.0, policy: Policy::P2c, ..BASE };
    let limit = FewestOf::new(2, 0.85, 1.0).unwrap();
    judge(&limit, &simulate(&setting, 2), 0.02);
}

#[test]
fn connections_that_do_not_divide_evenly() {
    let setting = Setting { layer: Layer::L4, connections: 6, rate: 2.4, ..BASE };
    check(Setting { policy: Policy::RoundRobin, ..setting.clone() });
    check(Setting { layer: Layer::None, connections: 3, rate: 2.1, ..setting.clone() });
}

#[test]
fn connections_by_chance() {
    let mut chance = Chance::new(3);
    for connections in [1, 3, 8, 64] {
        let placed = RandomPlacement::new(connections, 4).unwrap();
        let (mut max, mut idle) = (0, 0);
        let rounds = 200_000;
        for _ in 0..rounds {
            let mut counts = [0_u32; 4];
            for _ in 0..connections {
                counts[chance.below(4)] += 1;
            }
            max += counts.iter().max().unwrap();
            idle += u32::from(counts.contains(&0));
        }
        let max_share = f64::from(max) / f64::from(rounds) / f64::from(connections);
        assert!((max_share / placed.expected_max_share() - 1.0).abs() < 0.01, "{connections}");
        let idle = f64::from(idle) / f64::from(rounds);
        assert!((idle - placed.chance_of_idle()).abs() < 0.005, "{connections}");
    }
}
