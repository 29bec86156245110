//! A scenario's load as plans for the generator's threads.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use balance::{Chooser, PolicyKind, Zones};
use generator::{
    client::{
        BackendAt, Backends, Backoff, Balanced, CallKind, CallShape, ClientKind, ConnectOptions,
        Destination, Discovery, Lengths, Resolver, ServiceShape, Shape, Trust,
    },
    clock::{Pacer, monotonic_ns},
    load::{Closed, Load, Numbers, Open},
    names::NameServer,
    rate::RateCurve,
    schedule::{self, Limit, Process, Schedule},
    worker::{Clients, Origin, Place, Plan},
};
use measure::record::LoopMode;
use rand_distr::{Distribution as _, OpenClosed01, StandardNormal};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use scenario::{Arrivals, Client, Layer, Length, Pace, Profile, Scenario, Sizes, TracedCall};

use super::{
    driven,
    trial::{Attempt, Workers},
};
use crate::{
    lab::{
        Lab, LabError, environment,
        network::Namespace,
        placement::{Cpus, pin_this_thread},
    },
    peers::{ReadyPeer, tuning},
};

/// Calls a second that memory is set aside for where the backends decide how
/// many there are.
const CLOSED_LOOP_RATE: f64 = 30_000.0;
/// Sizes that are drawn before a trial; calls beyond have them again.
const DRAWN_SIZES: usize = 1 << 14;
/// Most calls that memory is set aside and touched for before a trial; more
/// than that only cost a reallocation now and then.
const MOST_EXPECTED_CALLS: f64 = 4e6;

/// The seed of a repeat: all chance of its trials comes from it.
pub(crate) fn seed_of_repeat(seed: u64, repeat: u32) -> u64 {
    SplitMix64::seed_from_u64(seed ^ u64::from(repeat).rotate_left(32)).next_u64()
}

/// Open or closed loop.
pub(crate) fn mode(scenario: &Scenario) -> LoopMode {
    match scenario.load.pace {
        Pace::Open { .. } => LoopMode::Open,
        Pace::Closed { .. } => LoopMode::Closed,
    }
}

/// Generator threads: one for each CPU of its own. Where it has none of its own,
/// half of all: the others are for those who are measured.
pub(crate) fn workers(cpus: u32, own: usize, connections: u32) -> u32 {
    let wanted = if own > 0 { u32::try_from(own).unwrap_or(cpus) } else { cpus / 2 };
    wanted.clamp(1, connections)
}

/// A plan for each generator thread of a trial.
pub(super) fn plans(
    attempt: &Attempt<'_>,
    lab: &Lab,
    trust: Option<&Arc<Trust>>,
) -> Result<Vec<Plan>, LabError> {
    let Attempt { trial, cpus, .. } = attempt;
    let scenario = trial.scenario;
    let names = driven::names(attempt, lab)?;
    let (seed, own) = (attempt.seed(), &cpus.generator);
    let all = workers(environment::cpus(), own.len(), scenario.load.connections);
    let all = Workers { first: 0, count: all, of: all };
    let share = attempt.here.map_or(all, |here| here.workers);
    let workers = share.of;
    let plans = (share.first..share.first + share.count)
        .map(|worker| Plan {
            clients: clients(attempt, lab, trust, names.as_ref(), (worker, workers)),
            shape: shape(attempt),
            messages: match scenario.service {
                // Each has one number, by which it was made.
                Some(_) => 1,
                None => scenario.load.messages.into(),
            },
            origins: connections_of(scenario, worker, workers)
                .map(|client| origin(scenario, lab, client, seed))
                .collect(),
            streams: scenario.load.streams,
            load: load(scenario, worker, share, seed),
            give_up_ns: nanos(attempt.give_up()),
            expected_calls: expected_calls(scenario, workers),
            place: place(own.clone(), lab.client_namespace()),
            pacer: pacer(scenario, cpus),
        })
        .collect();
    Ok(plans)
}

/// Where the generator's threads run and make their connections.
fn place(cpus: Vec<u32>, namespace: Option<Arc<Namespace>>) -> Place {
    Arc::new(move || {
        pin_this_thread(&cpus)?;
        namespace.as_ref().map_or(Ok(()), |namespace| namespace.enter())
    })
}

/// A spinning thread is a loss to whoever shares its core.
fn pacer(scenario: &Scenario, cpus: &Cpus) -> Pacer {
    match scenario.load.pacer {
        scenario::Pacer::Timer => Pacer::Timer,
        scenario::Pacer::Spin => Pacer::Spin,
        scenario::Pacer::Auto if cpus.generator_is_alone() => Pacer::Spin,
        scenario::Pacer::Auto => Pacer::Timer,
    }
}

fn options(
    scenario: &Scenario,
    peer: &ReadyPeer,
    trust: Option<&Arc<Trust>>,
    seed: u64,
) -> ConnectOptions {
    let (load, channel) = (&scenario.load, &scenario.channel);
    let backoff = Backoff { first: channel.initial_backoff, seed };
    ConnectOptions {
        kind: if load.client == Client::Tonic { ClientKind::Tonic } else { ClientKind::Wire },
        connection_calls: load.connection_calls,
        max_connections: channel.max_connections,
        backoff: (peer.peer.layer == Layer::Client).then_some(backoff),
        keepalive: channel.keepalive,
        trust: trust.cloned(),
    }
}

/// The clients of a worker: the lab's own, or those of the program that makes the calls.
fn clients(
    attempt: &Attempt<'_>,
    lab: &Lab,
    trust: Option<&Arc<Trust>>,
    names: Option<&Arc<NameServer>>,
    (worker, workers): (u32, u32),
) -> Clients {
    let (scenario, peer, seed) = (attempt.trial.scenario, attempt.trial.peer, attempt.seed());
    let numbers = connections_of(scenario, worker, workers);
    match attempt.client {
        Some(client) => driven::clients(attempt, client, lab, names.cloned(), worker, numbers),
        None => {
            let all = numbers.map(|client| destination(scenario, peer, lab, client, seed));
            Clients::Own(options(scenario, peer, trust, seed), all.collect())
        }
    }
}

/// Connections are dealt to workers in turn, as [`Open`] does it.
fn connections_of(scenario: &Scenario, worker: u32, workers: u32) -> impl Iterator<Item = u32> {
    (worker..scenario.load.connections).step_by(workers as usize)
}

/// The balancer that a client's channel comes to, by its number in all; zero where there is one, or none.
fn balancer(scenario: &Scenario, lab: &Lab, channel: u32, seed: u64) -> u16 {
    let count = lab.balancer_addresses().len().max(1);
    // The lab starts a few dozen at most.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let spread = scenario.fleet.spread;
    let number = match &scenario.zones {
        Some(zones) => zones.layout().balancer(channel, count, spread, seed),
        None => spread.balancer(channel, count, seed),
    };
    number as u16
}

/// Where a client's calls come from, and through.
fn origin(scenario: &Scenario, lab: &Lab, client: u32, seed: u64) -> Origin {
    Origin {
        balancer: match scenario.channel.count {
            1 => balancer(scenario, lab, client, seed),
            // Its channels come to several.
            _ => 0,
        },
        // There are a hundred at most.
        zone: scenario.zones.as_ref().map_or(0, |zones| zones.layout().of_client(client) as u16),
    }
}

/// Where that one listens; `None` where there is none.
pub(super) fn balancer_address(
    scenario: &Scenario,
    lab: &Lab,
    channel: u32,
    seed: u64,
) -> Option<SocketAddr> {
    let number = balancer(scenario, lab, channel, seed);
    lab.balancer_addresses().get(usize::from(number)).copied()
}

/// Where a client's calls go, on all of its channels.
fn destination(
    scenario: &Scenario,
    peer: &ReadyPeer,
    lab: &Lab,
    client: u32,
    seed: u64,
) -> Destination {
    let count = scenario.channel.count;
    let channel = |number| channel(scenario, peer, lab, client * count + number, seed);
    match count {
        1 => channel(0),
        more => Destination::Channels((0..more).map(channel).collect()),
    }
}

/// Where the calls of a channel go, which is the one of this number in all.
fn channel(
    scenario: &Scenario,
    peer: &ReadyPeer,
    lab: &Lab,
    number: u32,
    seed: u64,
) -> Destination {
    if let Some(outside) = lab.outside() {
        let (authority, addresses) = (outside.authority.clone(), outside.addresses.clone());
        return Destination::One(Resolver::named(authority, addresses, number as usize));
    }
    if let Some(address) = balancer_address(scenario, lab, number, seed) {
        return Destination::One(Resolver::one(address));
    }
    let addresses = lab.backend_addresses();
    let members = lab.members();
    let Some(discovery) = peer.peer.discovery else {
        let turns = Resolver::turns(addresses.to_vec(), members, number as usize);
        return Destination::One(turns);
    };
    let discovery = match discovery {
        scenario::Discovery::Lookaside => Discovery::Lookaside,
        scenario::Discovery::Dns => Discovery::Dns { interval: scenario.channel.resolve_interval },
    };
    let policy = peer.policy(scenario);
    if policy == PolicyKind::PickFirst {
        let (addresses, first) = (addresses.to_vec(), number as usize);
        let first = Resolver::first(addresses, members, discovery, first, monotonic_ns());
        return Destination::One(first);
    }
    let backends = scenario
        .backends
        .iter()
        .zip(addresses)
        .enumerate()
        .map(|(index, (backend, &address))| BackendAt {
            address,
            id: backend.id.clone(),
            weight: backend.weight,
            zone: scenario.zones.as_ref().map_or(0, |zones| zones.backends()[index]),
        })
        .collect();
    let of = scenario.load.connections * scenario.channel.count;
    let own = Chooser { number, of, salt: scenario.seed };
    let subset = scenario.fleet.subset.map(|subset| (subset, own));
    let seed = SplitMix64::seed_from_u64(seed ^ u64::from(number)).next_u64();
    // In zones a client has one channel, of the client's own number.
    let zones = scenario.zones.as_ref().zip(peer.zone_routing(scenario));
    let zones = zones.map(|(zones, routing)| Zones {
        own: zones.layout().of_client(number),
        balancers: zones.layout().clients().to_vec(),
        routing,
    });
    Destination::Balanced(Balanced {
        policy,
        backends,
        members,
        discovery,
        subset,
        zones,
        tuning: tuning(),
        seed,
    })
}

fn shape(attempt: &Attempt<'_>) -> Shape {
    let scenario = attempt.trial.scenario;
    let backends = match &attempt.trial.peer.external {
        Some(external) => Backends::Seen(external.seen()),
        None => Backends::Known(scenario.backends.iter().map(|one| one.id.clone()).collect()),
    };
    if let Some((service, calls)) = attempt.service.and_then(|own| Some((own, own.calls()?))) {
        let (calls, order) = (Arc::clone(calls), service.order().cloned());
        return Shape::Service(ServiceShape::new(calls, order, attempt.identity(), backends));
    }
    let load = &scenario.load;
    // Bytes that compress and repeat as little as real payloads do.
    let mut chance = SplitMix64::seed_from_u64(scenario.seed);
    let requests = lengths(&load.request_bytes, scenario.seed ^ 1);
    let responses = lengths(&load.response_bytes, scenario.seed ^ 2);
    let payload = (0..requests.largest()).map(|_| chance.next_u64() as u8).collect();
    Shape::Echo(Arc::new(CallShape {
        kind: match load.call {
            scenario::CallKind::Unary => CallKind::Unary,
            scenario::CallKind::ServerStream => CallKind::ServerStream,
            scenario::CallKind::ClientStream => CallKind::ClientStream,
            scenario::CallKind::Bidi => CallKind::Bidi,
        },
        messages: load.messages,
        payload,
        requests,
        responses,
        deadline: load.deadline,
        backends,
    }))
}

/// Sizes by the numbers of calls: drawn, where they are to be, before the trial.
fn lengths(sizes: &Sizes, seed: u64) -> Lengths {
    let mut chance = SplitMix64::seed_from_u64(seed);
    let mut draw = |one: &mut dyn FnMut(&mut SplitMix64) -> u32| {
        Lengths::Each((0..DRAWN_SIZES).map(|_| one(&mut chance)).collect())
    };
    match sizes {
        Sizes::Constant(bytes) => Lengths::Constant(*bytes),
        Sizes::Listed { bytes, .. } => Lengths::Each(Arc::clone(bytes)),
        Sizes::Uniform { low, high } => {
            let span = u64::from(high - low) + 1;
            // The remainder is below 2^32.
            draw(&mut |chance| low + ((chance.next_u64() >> 16) % span) as u32)
        }
        Sizes::Bimodal { common, rare, rare_percent } => draw(&mut |chance| {
            let is_rare = uniform(chance) * 100.0 <= *rare_percent;
            if is_rare { *rare } else { *common }
        }),
        Sizes::Lognormal { mean, sigma } => {
            let mu = f64::from(*mean).max(1.0).ln() - sigma * sigma / 2.0;
            let most = f64::from(scenario::bounds::PAYLOAD_BYTES.max);
            draw(&mut |chance| {
                let normal: f64 = StandardNormal.sample(chance);
                (mu + sigma * normal).exp().round().min(most) as u32
            })
        }
    }
}

/// Uniform in (0, 1].
fn uniform(chance: &mut SplitMix64) -> f64 {
    OpenClosed01.sample(chance)
}

fn load(scenario: &Scenario, worker: u32, share: Workers, seed: u64) -> Load {
    let workers = share.of;
    if let Some(schedule) = schedule(scenario, seed) {
        return Load::Open(Open::new(schedule, worker, workers));
    }
    let load = &scenario.load;
    let think_ns = match load.pace {
        Pace::Open { .. } => 0,
        Pace::Closed { think_time } => nanos(think_time),
    };
    let connections = connections_of(scenario, worker, workers).count();
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    let (warm_up_ns, limit) = (nanos(load.warm_up), dealt(limit(load), share));
    let seed = seed ^ u64::from(worker);
    let numbers = Numbers { next: worker.into(), step: workers.into() };
    let (streams, think) = (load.streams, think_ns);
    Load::Closed(Closed::new(connections, streams, think, warm_up_ns, limit, numbers, seed))
}

fn limit(load: &scenario::Load) -> Limit {
    match load.length {
        Length::Duration(duration) => Limit::Until { end_ns: nanos(load.warm_up + duration) },
        Length::Calls(calls) => Limit::Calls { calls },
    }
}

/// What of a closed loop's calls the workers of one node make. They take them from one
/// another, and nobody else's: other nodes are too far away to ask at each call.
fn dealt(limit: Limit, share: Workers) -> Limit {
    let Limit::Calls { calls } = limit else { return limit };
    let before = |worker: u32| {
        let calls = u128::from(calls) * u128::from(worker) / u128::from(share.of);
        u64::try_from(calls).unwrap_or(u64::MAX)
    };
    Limit::Calls { calls: before(share.first + share.count) - before(share.first) }
}

/// All arrivals of an open loop, in order of time; none of a closed one.
pub(super) fn schedule(scenario: &Scenario, seed: u64) -> Option<Schedule> {
    let load = &scenario.load;
    let Pace::Open { arrivals, profile } = &load.pace else { return None };
    let process = match arrivals {
        Arrivals::Constant { .. } => Process::Constant,
        Arrivals::Poisson { .. } | Arrivals::Trace { .. } => Process::Poisson,
    };
    let curve = rate_curve(arrivals.rate(), profile, load);
    let skew = load.skew.map(|skew| schedule::Skew { heavy: skew.heavy, share: skew.share });
    let (warm_up_ns, limit) = (nanos(load.warm_up), limit(load));
    let schedule = Schedule::new(process, curve, load.connections, warm_up_ns, limit, seed);
    let schedule = schedule.skewed(skew);
    Some(match arrivals.trace() {
        Some((trace, speed)) => {
            let due_ns = |call: &TracedCall| (call.at_ns as f64 / speed) as u64;
            schedule.traced(trace.calls().iter().map(due_ns).collect())
        }
        None => schedule,
    })
}

/// The profile over the measured part, after a warm-up at the rate it begins with.
fn rate_curve(rate: f64, profile: &Profile, load: &scenario::Load) -> RateCurve {
    let warm = RateCurve::flat(rate).then(load.warm_up.as_secs_f64(), rate, rate);
    let Length::Duration(duration) = load.length else { return RateCurve::flat(rate) };
    let duration_s = duration.as_secs_f64();
    match profile {
        Profile::Flat => RateCurve::flat(rate),
        Profile::Ramp { to } => warm.then(duration_s, rate, rate * to),
        Profile::Steps { factors } => {
            let length_s = duration_s / factors.len() as f64;
            let steps = factors.iter().map(|factor| rate * factor);
            steps.fold(warm, |curve, step| curve.then(length_s, step, step))
        }
        Profile::Bursts { on, off } => {
            let (on_s, off_s) = (on.as_secs_f64(), off.as_secs_f64());
            // Bounded: an hour of the shortest bursts are 180,000.
            let bursts = (duration_s / (on_s + off_s)).ceil() as u32;
            (0..bursts).fold(warm, |curve, _| curve.then(on_s, rate, rate).then(off_s, 0.0, 0.0))
        }
    }
}

/// Calls that a worker has to expect, with some to spare.
pub(crate) fn expected_calls(scenario: &Scenario, workers: u32) -> usize {
    let load = &scenario.load;
    let rate = load.pace.mean_rate().map_or(CLOSED_LOOP_RATE, |rate| rate * 1.1);
    let warm_up = rate * load.warm_up.as_secs_f64();
    let measured = match load.length {
        Length::Duration(duration) => rate * duration.as_secs_f64(),
        Length::Calls(calls) => calls as f64,
    };
    let calls = (warm_up + measured) / f64::from(workers);
    // At most four million, so it fits.
    calls.min(MOST_EXPECTED_CALLS) as usize + 1_000
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_belongs_to_one_worker() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let scenario = library.find("many-conns").unwrap().resolve(false, &[]).unwrap();
        let mut all: Vec<u32> =
            (0..3).flat_map(|worker| connections_of(&scenario, worker, 3)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<_>>());
    }

    /// However workers are spread over nodes, those of all make the load that one
    /// process would: the same calls at the same times on the same connections.
    #[test]
    fn what_all_nodes_send_is_what_one_process_would() {
        let library = scenario::Library::open(crate::root::Root::find().scenarios()).unwrap();
        let scenario = library.find("many-conns").unwrap().resolve(true, &[]).unwrap();
        let arrivals = |worker, of| {
            let share = Workers { first: worker, count: 1, of };
            let mut load = load(&scenario, worker, share, 7);
            let begun = std::sync::atomic::AtomicU64::new(0);
            std::iter::from_fn(move || load.take_due(u64::MAX, &begun))
                .map(|arrival| schedule::Arrival {
                    connection: arrival.connection * of + worker,
                    ..arrival
                })
                .collect::<Vec<_>>()
        };
        let one = arrivals(0, 1);
        assert!(one.len() > 100);
        for of in [2, 3, 7] {
            let mut all: Vec<_> = (0..of).flat_map(|worker| arrivals(worker, of)).collect();
            all.sort_by_key(|arrival| arrival.number);
            assert_eq!(all, one);
        }
    }

    #[test]
    fn calls_of_a_closed_loop_are_dealt_to_the_last() {
        let of = 7;
        for calls in [0, 1, 6, 1_000, u64::MAX] {
            let nodes = [(0, 2), (2, 4), (6, 1)];
            let dealt = nodes.map(|(first, count)| {
                match dealt(Limit::Calls { calls }, Workers { first, count, of }) {
                    Limit::Calls { calls } => calls,
                    Limit::Until { .. } => panic!("it is in calls"),
                }
            });
            assert_eq!(dealt.iter().sum::<u64>(), calls);
        }
    }

    #[test]
    fn cores_are_left_to_those_who_are_measured() {
        assert_eq!(workers(1, 0, 64), 1);
        assert_eq!(workers(2, 0, 64), 1);
        assert_eq!(workers(8, 0, 64), 4);
        assert_eq!(workers(8, 2, 64), 2);
        assert_eq!(workers(8, 0, 3), 3);
    }

    #[test]
    fn repeats_differ_and_can_be_repeated() {
        assert_eq!(seed_of_repeat(1, 0), seed_of_repeat(1, 0));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(1, 1));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(2, 0));
    }
}
