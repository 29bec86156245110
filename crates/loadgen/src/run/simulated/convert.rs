//! A checked scenario as the simulation takes it, and what it has that the simulation
//! leaves out.

use std::time::Duration;

use balance::{ZoneLayout, ZoneRouting};
use queueing::Service;
use scenario::{
    CallKind, Discovery, Ends, FaultAction, Layer, Length, Pace, Scenario, ServiceTime, Tls,
};
use simulate::{
    Action, Backend, Distribution, Fault, Fleet, Load, LoadView, Path, Setup, ZoneDelays, Zones,
};
use units::duration::nanos;

use super::calibrate::Calibrated;
use crate::{
    peers::{ReadyPeer, tuning},
    run::{load, trial::give_up_after},
};

/// What a simulation knows beside the scenario.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// Connections of each client.
    pub(crate) connections_per_client: u32,
    /// Zones that clients and backends are in, where the scenario has none; 1 for none.
    pub(crate) zones: u32,
    /// What it takes more to another zone, one way.
    pub(crate) zone_delay: Duration,
    /// Where what balancers know of load comes from.
    pub(crate) view: LoadView,
    /// Within which time balancers hear of a change of membership.
    pub(crate) told_within: Duration,
    /// Between client and balancer, and on to the backend, one way each.
    pub(crate) delay: Duration,
    /// Times of a measured run.
    pub(crate) calibrated: Option<Calibrated>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            connections_per_client: 1,
            zones: 1,
            zone_delay: Duration::ZERO,
            view: LoadView::Own,
            told_within: Duration::ZERO,
            delay: Duration::ZERO,
            calibrated: None,
        }
    }
}

/// What is simulated of a peer.
pub(super) fn setup(scenario: &Scenario, peer: &ReadyPeer, conditions: &Conditions) -> Setup {
    let members = scenario.first_members();
    let zones = zones_of_backends(scenario, conditions);
    let numbered = zones.into_iter().zip(&scenario.backends).zip(members);
    let backends = numbered.map(|((zone, backend), is_member)| Backend {
        // There are a hundred at most.
        zone: zone as u32,
        // Checked before: all of them are said.
        servers: backend.concurrency.unwrap_or(1),
        service: service(backend, conditions),
        speed: backend.speed,
        weight: backend.weight,
        is_member,
    });
    Setup {
        backends: backends.collect(),
        layer: match peer.peer.layer {
            Layer::None => simulate::Layer::None,
            Layer::L4 => simulate::Layer::L4,
            Layer::L7 => simulate::Layer::L7,
            Layer::Client => simulate::Layer::Client,
        },
        policy: peer.policy(scenario),
        tuning: tuning(),
        fleet: fleet(scenario, peer, conditions),
        zones: layout(scenario, conditions).map(|layout| Zones {
            layout,
            routing: match scenario.zones {
                Some(_) => peer.zone_routing(scenario),
                None => Some(ZoneRouting::default()),
            },
        }),
        load: load_of(scenario, conditions),
        connection_age_ns: scenario.connection_age.map(|age| nanos(age.max)),
        path: path(scenario, peer, conditions),
        faults: faults(scenario),
    }
}

/// Where clients and balancers are: as the scenario has it, or spread over as many zones as
/// were asked for.
pub(super) fn layout(scenario: &Scenario, conditions: &Conditions) -> Option<ZoneLayout> {
    match &scenario.zones {
        Some(zones) => Some(zones.layout().clone()),
        None if conditions.zones > 1 => {
            Some(ZoneLayout::even(conditions.zones, scenario.load.connections))
        }
        None => None,
    }
}

/// Names of the zones, in the order of [`layout`].
pub(super) fn zone_names(scenario: &Scenario, conditions: &Conditions) -> Vec<String> {
    match &scenario.zones {
        Some(zones) => zones.names().to_vec(),
        None if conditions.zones > 1 => {
            (0..conditions.zones).map(|zone| format!("z{zone}")).collect()
        }
        None => Vec::new(),
    }
}

/// The zone of each backend: as the scenario has it, or one after the other.
pub(super) fn zones_of_backends(scenario: &Scenario, conditions: &Conditions) -> Vec<usize> {
    match &scenario.zones {
        Some(zones) => zones.backends().to_vec(),
        None => {
            (0..scenario.backends.len()).map(|index| index % conditions.zones as usize).collect()
        }
    }
}

/// As it was measured, where the scenario has that of the measured run.
fn service(backend: &scenario::Backend, conditions: &Conditions) -> Distribution {
    let calibrated = conditions.calibrated.as_ref();
    let written = backend.service_time.to_string();
    let measured = calibrated.and_then(|one| one.service(&backend.id, &written));
    measured.map_or_else(
        || distribution(backend.service_time),
        |measured| Distribution::Empirical(measured.clone()),
    )
}

fn distribution(service_time: ServiceTime) -> Distribution {
    let s = |duration: Duration| duration.as_secs_f64();
    Distribution::Of(match service_time {
        ServiceTime::None => return Distribution::Zero,
        ServiceTime::Constant(value) => Service::Constant { value_s: s(value) },
        ServiceTime::Exponential { mean } => Service::Exponential { mean_s: s(mean) },
        ServiceTime::Lognormal { mean, sigma } => Service::Lognormal { mean_s: s(mean), sigma },
        ServiceTime::Bimodal { common, rare, rare_percent } => Service::Bimodal {
            common_s: s(common),
            rare_s: s(rare),
            rare_share: rare_percent / 100.0,
        },
    })
}

fn fleet(scenario: &Scenario, peer: &ReadyPeer, conditions: &Conditions) -> Fleet {
    let resolves = peer.peer.discovery == Some(Discovery::Dns);
    Fleet {
        balancers: scenario.fleet.balancers,
        spread: scenario.fleet.spread,
        subset: scenario.fleet.subset,
        view: conditions.view,
        told_within_ns: nanos(conditions.told_within),
        resolve_interval_ns: resolves.then(|| nanos(scenario.channel.resolve_interval)),
        salt: scenario.seed,
    }
}

fn load_of(scenario: &Scenario, conditions: &Conditions) -> Load {
    let load = &scenario.load;
    let warm_up_ns = nanos(load.warm_up);
    let (end_ns, calls) = match load.length {
        Length::Duration(duration) => (warm_up_ns + nanos(duration), u64::MAX),
        Length::Calls(calls) => (u64::MAX, calls),
    };
    Load {
        pace: match &load.pace {
            Pace::Open { .. } => simulate::Pace::Open,
            Pace::Closed { think_time } => simulate::Pace::Closed {
                think_ns: nanos(*think_time),
                end_ns,
                calls,
                counted_from_ns: warm_up_ns,
            },
        },
        connections: load.connections,
        connections_per_client: conditions.connections_per_client,
        streams: load.streams,
        connection_calls: load.connection_calls,
        passes: match load.call {
            CallKind::Unary | CallKind::ClientStream => 1,
            CallKind::ServerStream | CallKind::Bidi => load.messages,
        },
        give_up_ns: nanos(give_up_after(scenario)),
    }
}

/// As it was measured, or else as far as it was said to be.
fn path(scenario: &Scenario, peer: &ReadyPeer, conditions: &Conditions) -> Path {
    let constant = |delay: Duration| match delay {
        Duration::ZERO => Distribution::Zero,
        delay => Distribution::Of(Service::Constant { value_s: delay.as_secs_f64() }),
    };
    let between_zones = match &scenario.zones {
        Some(zones) if scenario.links.are_zoned() => {
            let delay = |one: &String, other: &String| {
                let link = scenario.links.of(&Ends::zones(one, other));
                constant(link.map_or(conditions.zone_delay, |link| link.delay))
            };
            let from = |one: &String| zones.names().iter().map(|other| delay(one, other)).collect();
            ZoneDelays::Each(zones.names().iter().map(from).collect())
        }
        _ => ZoneDelays::Any(constant(conditions.zone_delay)),
    };
    let calibrated = conditions.calibrated.as_ref();
    if let Some(half) = calibrated.and_then(|one| one.half_way(peer, scenario)) {
        let to_backend = Distribution::Empirical(half.clone());
        let between_zones = match scenario.links.are_zoned() {
            // It is in what was measured.
            true => ZoneDelays::Any(Distribution::Zero),
            false => between_zones,
        };
        return Path { to_backend, between_zones, ..Path::NONE };
    }
    let [to_balancer, to_backend] = legs(scenario, peer, conditions).map(constant);
    Path { to_balancer, to_backend, between_zones }
}

/// What it takes to the balancer, and from there or from the client to a backend: what links
/// take, or else what was said of all. Backends that are not equally far count as one that is as
/// far as they are in the mean.
fn legs(scenario: &Scenario, peer: &ReadyPeer, conditions: &Conditions) -> [Duration; 2] {
    let links = &scenario.links;
    let of = |ends: Ends| links.of(&ends).map_or(conditions.delay, |link| link.delay);
    let count = u32::try_from(scenario.backends.len()).unwrap_or(u32::MAX);
    let mean = |ends: fn(usize) -> Ends| {
        (0..scenario.backends.len()).map(|index| of(ends(index))).sum::<Duration>() / count
    };
    let to_balancer = of(Ends::ClientBalancer);
    let on_from_there = mean(|index| Ends::BalancerBackend(Some(index)));
    match peer.peer.layer {
        Layer::L4 | Layer::L7 => [to_balancer, on_from_there],
        Layer::None | Layer::Client if links.are_direct() => {
            [Duration::ZERO, mean(|index| Ends::ClientBackend(Some(index)))]
        }
        // By where the balancer would be; what was said of all is said of one leg.
        Layer::None | Layer::Client if links.iter().all(|link| link.between.are_zones()) => {
            [Duration::ZERO, conditions.delay]
        }
        Layer::None | Layer::Client => [Duration::ZERO, to_balancer + on_from_there],
    }
}

/// The faults, at their times within the measured part.
fn faults(scenario: &Scenario) -> Vec<Fault> {
    let start_ns = nanos(scenario.load.warm_up);
    let whole_ns = match scenario.load.length {
        Length::Duration(duration) => nanos(duration),
        Length::Calls(_) => 0,
    };
    let mut speeds: Vec<f64> = scenario.backends.iter().map(|backend| backend.speed).collect();
    let fault = |fault: &scenario::Fault| {
        let index = fault.backend as usize;
        let first = scenario.backends[index].speed;
        speeds[index] = fault.action.speed_after(speeds[index], first);
        Fault {
            at_ns: start_ns + (fault.at * whole_ns as f64) as u64,
            backend: fault.backend,
            action: match fault.action {
                FaultAction::Stop => Action::Stop,
                FaultAction::Continue => Action::Continue,
                FaultAction::Kill => Action::Kill,
                FaultAction::Drain => Action::Drain,
                FaultAction::Start => Action::Start,
                FaultAction::Add => Action::Add,
                FaultAction::Remove => Action::Remove,
                FaultAction::SlowDown { .. } | FaultAction::SpeedUp { .. } => {
                    Action::Speed(speeds[index] / first)
                }
            },
        }
    };
    scenario.faults.iter().map(fault).collect()
}

/// What the scenario has and the simulation has not: one sentence for each thing.
pub(super) fn leaves_out(scenario: &Scenario, conditions: &Conditions) -> Vec<String> {
    let load = &scenario.load;
    let takes_none = |one: &scenario::Backend| one.service_time == ServiceTime::None;
    let takes_no_time = !scenario.servers.are_own() && scenario.backends.iter().any(takes_none);
    let restarts = scenario.faults.iter().any(|fault| {
        matches!(fault.action, FaultAction::Kill | FaultAction::Drain | FaultAction::Start)
    });
    let sentences = [
        (true, "CPU time, and the waiting where there is too little of it."),
        (
            conditions.delay.is_zero()
                && scenario.links.is_empty()
                && conditions.calibrated.as_ref().is_none_or(|one| !one.knows_ways()),
            "Time in the network and in proxies: latency is the time in backends and in queues.",
        ),
        (
            !scenario.links.is_empty(),
            "What a new connection takes over a distance: TCP's and TLS's round trips.",
        ),
        (
            scenario.links.iter().any(|link| {
                let settings = &link.settings;
                !settings.jitter.is_zero() || settings.loss > 0.0 || settings.rate.is_some()
            }),
            "Jitter, loss and rates of links: packets take the delay, and arrive.",
        ),
        (
            scenario.links.iter().any(|link| link.between.is_of_one_backend()),
            "That backends are not equally far: each is as far as they are in the mean.",
        ),
        (
            scenario.links.are_zoned() && conditions.calibrated.is_some(),
            "Which calls cross from zone to zone: each takes what was measured of all.",
        ),
        (takes_no_time, "The time of calls to backends whose service takes none."),
        (
            load.payload_bytes() > LARGE_PAYLOAD_BYTES,
            "Bytes, and the windows of flow control: a message of any size takes no time.",
        ),
        (scenario.all_tls().iter().any(|tls| *tls != Tls::None), "TLS: handshakes and encryption."),
        (restarts, "Retries, health checks, outlier detection, and the time of reconnecting."),
        (
            scenario.connection_age.is_some(),
            "The grace after a connection's age: calls on it end as they would.",
        ),
        (
            scenario.channel.count > 1 || scenario.channel.max_connections > 1,
            "More than one connection of a client: each has one channel, and one connection in it.",
        ),
        (
            scenario.fleet.threads > 1,
            "Threads: a balancer that counts in each of them apart counts as one here.",
        ),
        (
            scenario.settings.values().flat_map(|set| set.keys()).any(|name| !is_simulated(name)),
            "Settings of proxies other than zones, and what calls go through by them.",
        ),
        (scenario.channel.keepalive.is_some(), "Keepalive: a silent connection is kept."),
        (scenario.backends.iter().any(|one| one.failures > 0.0), "Calls that backends fail."),
        (load.deadline.is_some(), "Deadlines: calls take as long as they take."),
        (load.closed_twin, "The closed-loop twin."),
        (scenario.precision.is_some(), "Repeats until figures are precise."),
    ];
    sentences.into_iter().filter(|(has, _)| *has).map(|(_, text)| text.to_owned()).collect()
}

/// Whether a setting of proxies is simulated.
fn is_simulated(name: &str) -> bool {
    scenario::CLIENT_SETTINGS.contains(&name)
}

/// Payload that no window of usual size holds up, and that takes less time to move than
/// anything else in a call.
const LARGE_PAYLOAD_BYTES: u64 = 16 << 10;

/// All arrivals of an open loop as the lab would send them.
pub(super) fn arrivals(scenario: &Scenario, seed: u64) -> impl Iterator<Item = simulate::Arrival> {
    load::schedule(scenario, seed)
        .into_iter()
        .flatten()
        .map(|arrival| simulate::Arrival { due_ns: arrival.due_ns, connection: arrival.connection })
}
