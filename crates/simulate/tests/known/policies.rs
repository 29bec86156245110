//! Orderings of policies that papers report. Their numbers are of other machines and other
//! work, and are not claimed.

use balance::{PolicyKind, ProbeRule, Tuning, WeightRule};
use queueing::Service;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use simulate::{Action, Distribution, Fault, Layer, LoadView, Path, Setup};

use super::{BACKENDS_EACH, Case, EXPONENTIAL, Figure, SERVICE_S, Wanted, setup, sojourn};

pub(super) fn all() -> Vec<Case> {
    [prequal(), probes(), varied_times(), idle_and_two_choices()].into_iter().flatten().collect()
}

/// Clients, and as many backends, of so many servers: a client makes several calls within a
/// service time, or what its probes find would be over before it has used it.
const MANY: u32 = 30;
const SERVERS: u32 = 10;
/// Neighbours take a part of a backend's machine for this long at a time.
const DISTURBED_S: f64 = 100.0 * SERVICE_S;
/// How often, and what they leave.
const DISTURBED_SHARE: f64 = 0.2;
const DISTURBED_SPEED: f64 = 0.4;

/// Weights by reports that count soon.
fn tuning(probes: ProbeRule) -> Tuning {
    let time = std::time::Duration::from_secs_f64(100.0 * SERVICE_S);
    let weights = WeightRule { blackout: time, update: time, ..WeightRule::default() };
    Tuning { weights, probes, ..Tuning::default() }
}

/// Clients that balance themselves, each by what it knows, before backends that neighbours
/// slow down now and then; the load is that of the speed they have on average. A call takes
/// a twentieth of a service time each way, and so does a probe.
fn disturbed(policy: PolicyKind, probes: ProbeRule, load: f64, calls: f64, seed: u64) -> Setup {
    let mut setup = setup(MANY, SERVERS, policy, EXPONENTIAL);
    setup.tuning = tuning(probes);
    setup.layer = Layer::Client;
    setup.load.connections = MANY;
    let leg = Distribution::Of(Service::Constant { value_s: SERVICE_S / 20.0 });
    setup.path = Path { to_backend: leg, ..Path::NONE };
    let mut chance = SplitMix64::seed_from_u64(seed);
    let lasts_s = calls * SERVICE_S / load / f64::from(MANY * SERVERS);
    let intervals = (lasts_s / DISTURBED_S) as u64 + 1;
    let mut is_slow = vec![false; MANY as usize];
    for interval in 0..intervals {
        let at_ns = (interval as f64 * DISTURBED_S * 1e9) as u64;
        for (backend, is_slow) in (0..).zip(&mut is_slow) {
            let word = chance.next_u64() >> 32;
            let becomes = (word as f64) < DISTURBED_SHARE * 2_f64.powi(32);
            if std::mem::replace(is_slow, becomes) != becomes {
                let action = Action::Speed(if becomes { DISTURBED_SPEED } else { 1.0 });
                setup.faults.push(Fault { at_ns, backend, action });
            }
        }
    }
    setup
}

/// The p99 under a policy at a part of what the disturbed backends can do.
fn disturbed_p99(policy: PolicyKind, probes: ProbeRule, load: f64, calls: f64, seed: u64) -> f64 {
    let speed = 1.0 - DISTURBED_SHARE * (1.0 - DISTURBED_SPEED);
    let setup = disturbed(policy, probes, load * speed, calls, seed);
    sojourn(&setup, load * speed, calls, seed, Figure::P99)
}

/// Prequal against other policies, as load grows.
fn prequal() -> Vec<Case> {
    let case = |other: PolicyKind, load: f64, source, is_long| Case {
        name: format!("prequal over {other}, disturbed backends, load {load}"),
        figure: "ratio of p99",
        source,
        wanted: Wanted::Below(1.0),
        is_long,
        simulate: Box::new(move |part, seed| {
            let calls = (part * 2e6).max(60_000.0);
            let p99 = |policy| disturbed_p99(policy, ProbeRule::default(), load, calls, seed);
            p99(PolicyKind::Prequal) / p99(other)
        }),
    };
    let (ramp, policies) = ("Wydrowski et al. 2024, load ramp", "Wydrowski et al. 2024, policies");
    let weighted = PolicyKind::WeightedRoundRobin;
    vec![
        case(weighted, 0.75, ramp, true),
        case(weighted, 0.83, ramp, true),
        case(weighted, 0.93, ramp, false),
        case(PolicyKind::Random, 0.7, policies, true),
        case(PolicyKind::RoundRobin, 0.7, policies, true),
        case(PolicyKind::LeastLoaded, 0.7, policies, true),
        case(PolicyKind::P2c, 0.7, policies, false),
        case(PolicyKind::P2c, 0.9, policies, true),
    ]
}

/// What becomes of Prequal with fewer probes.
fn probes() -> Vec<Case> {
    vec![Case {
        name: "prequal, three probes a call over half a probe, load 0.9".to_owned(),
        figure: "ratio of p99",
        source: "Wydrowski et al. 2024, probing rate",
        wanted: Wanted::Below(1.0),
        is_long: true,
        simulate: Box::new(move |part, seed| {
            let calls = (part * 2e6).max(60_000.0);
            let p99 = |probes| disturbed_p99(PolicyKind::Prequal, probes, 0.9, calls, seed);
            let few = ProbeRule { sent: 0.5, removed: 0.25, ..ProbeRule::default() };
            p99(ProbeRule::default()) / p99(few)
        }),
    }]
}

/// Calls that differ, over backends that do not: what is even in utilization is not even in
/// calls that wait.
fn varied_times() -> Vec<Case> {
    let case = |policy: PolicyKind| Case {
        name: format!("{policy} over weighted_round_robin, service times vary, load 0.9"),
        figure: "ratio of means",
        source: "Wydrowski et al. 2024; Mitzenmacher 2001",
        wanted: Wanted::Below(1.0),
        is_long: false,
        simulate: Box::new(move |part, seed| {
            let calls = (part * 2e6).max(30_000.0);
            let mean = |policy| {
                let mut setup = setup(100, 1, policy, EXPONENTIAL);
                setup.tuning = tuning(ProbeRule::default());
                sojourn(&setup, 0.9, calls, seed, Figure::Mean)
            };
            mean(policy) / mean(PolicyKind::WeightedRoundRobin)
        }),
    };
    vec![case(PolicyKind::P2c), case(PolicyKind::Prequal)]
}

/// Idle backends that report to one of many balancers, against a choice of two by one
/// balancer that knows all.
fn idle_and_two_choices() -> Vec<Case> {
    let case = |load: f64, wanted| Case {
        name: format!("join_idle_queue over p2c at load {load}"),
        figure: "ratio of means",
        source: "Lu et al. 2011; Mitzenmacher 2001, table 1",
        wanted,
        is_long: true,
        simulate: Box::new(move |part, seed| {
            let backends = if part < 0.1 { 300 } else { 500 };
            let mut idle = setup(backends, 1, PolicyKind::JoinIdleQueue, EXPONENTIAL);
            idle.fleet.balancers = backends / BACKENDS_EACH;
            idle.fleet.view = LoadView::IdleReported;
            idle.load.connections = idle.fleet.balancers;
            let two = setup(backends, 1, PolicyKind::P2c, EXPONENTIAL);
            let mean = |setup: &Setup| sojourn(setup, load, part * 6e6, seed, Figure::Mean);
            mean(&idle) / mean(&two)
        }),
    };
    vec![case(0.9, Wanted::Below(1.0)), case(0.99, Wanted::Above(1.0))]
}
