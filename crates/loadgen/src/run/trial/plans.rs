//! The load of a trial as plans for the generator's threads: who calls whom, and with what.

use std::sync::Arc;

use balance::{Chooser, PolicyKind, Zones};
use generator::{
    client::{
        BackendAt, Backends, Backoff, Balanced, CallShape, ClientKind, ConnectOptions, Destination,
        Discovery, Resolver, ServiceShape, Shape, Trust,
    },
    clock::{Pacer, monotonic_ns},
    names::NameServer,
    worker::{Clients, Origin, Place, Plan},
};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use scenario::{Client, Layer, Scenario};
use units::duration::nanos;

use super::{Attempt, driven, give_up_after};
use crate::{
    lab::{
        Lab, LabError, environment,
        network::Namespace,
        placement::{Cpus, pin_this_thread},
    },
    peers::{ReadyPeer, tuning},
    run::load::{Workers, connections_of, expected_calls, lengths, load, workers},
};

/// A plan for each generator thread of a trial.
pub(super) fn plans(
    attempt: &Attempt<'_>,
    lab: &Lab,
    trust: Option<&Arc<Trust>>,
) -> Result<Vec<Plan>, LabError> {
    let Attempt { trial, cpus, .. } = attempt;
    let scenario = trial.scenario;
    let names = driven::names(attempt, lab)?;
    let own = &cpus.generator;
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
                .map(|client| origin(attempt, lab, client))
                .collect(),
            devices: lab.client_devices().into_iter().map(Arc::from).collect(),
            streams: scenario.load.streams,
            load: load(scenario, worker, share, attempt.seed()),
            give_up_ns: nanos(give_up_after(scenario)),
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
        device: None,
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
            let all = numbers.map(|client| destination(attempt, lab, client));
            Clients::Own(options(scenario, peer, trust, seed), all.collect())
        }
    }
}

/// Where a client's calls come from, and through.
fn origin(attempt: &Attempt<'_>, lab: &Lab, client: u32) -> Origin {
    let scenario = attempt.trial.scenario;
    Origin {
        balancer: match scenario.channel.count {
            1 => attempt.balancer(lab, client),
            // Its channels come to several.
            _ => 0,
        },
        // There are a hundred at most.
        zone: scenario.zones.as_ref().map_or(0, |zones| zones.layout().of_client(client) as u16),
    }
}

/// Where a client's calls go, on all of its channels.
fn destination(attempt: &Attempt<'_>, lab: &Lab, client: u32) -> Destination {
    let count = attempt.trial.scenario.channel.count;
    let channel = |number| channel(attempt, lab, client * count + number);
    match count {
        1 => channel(0),
        more => Destination::Channels((0..more).map(channel).collect()),
    }
}

/// Where the calls of a channel go, which is the one of this number in all.
fn channel(attempt: &Attempt<'_>, lab: &Lab, number: u32) -> Destination {
    let (scenario, peer) = (attempt.trial.scenario, attempt.trial.peer);
    if let Some(outside) = lab.outside() {
        let (authority, addresses) = (outside.authority.clone(), outside.addresses.clone());
        return Destination::One(Resolver::named(authority, addresses, number as usize));
    }
    if let Some(address) = attempt.balancer_address(lab, number) {
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
    if peer.policy(scenario) == PolicyKind::PickFirst {
        let (addresses, first) = (addresses.to_vec(), number as usize);
        let first = Resolver::first(addresses, members, discovery, first, monotonic_ns());
        return Destination::One(first);
    }
    Destination::Balanced(balanced(attempt, lab, discovery, number))
}

/// How a client balances the calls of a channel itself.
fn balanced(attempt: &Attempt<'_>, lab: &Lab, discovery: Discovery, number: u32) -> Balanced {
    let (scenario, peer) = (attempt.trial.scenario, attempt.trial.peer);
    let servers = scenario.backends.iter().zip(lab.backend_addresses()).enumerate();
    let backends = servers.map(|(index, (backend, &address))| BackendAt {
        address,
        id: backend.id.clone(),
        weight: backend.weight,
        zone: scenario.zones.as_ref().map_or(0, |zones| zones.backends()[index]),
    });
    let of = scenario.load.connections * scenario.channel.count;
    let own = Chooser { number, of, salt: scenario.seed };
    let subset = scenario.fleet.subset.map(|subset| (subset, own));
    let seed = SplitMix64::seed_from_u64(attempt.seed() ^ u64::from(number)).next_u64();
    // In zones a client has one channel, of the client's own number.
    let zones = scenario.zones.as_ref().zip(peer.zone_routing(scenario));
    let zones = zones.map(|(zones, routing)| Zones {
        own: zones.layout().of_client(number),
        balancers: zones.layout().clients().to_vec(),
        routing,
    });
    Balanced {
        policy: peer.policy(scenario),
        backends: backends.collect(),
        members: lab.members(),
        discovery,
        subset,
        zones,
        tuning: tuning(),
        seed,
    }
}

fn shape(attempt: &Attempt<'_>) -> Shape {
    let scenario = attempt.trial.scenario;
    let backends = match &attempt.trial.peer.external {
        Some(external) => Backends::Seen(external.discovered()),
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
        kind: load.call,
        messages: load.messages,
        payload,
        requests,
        responses,
        deadline: load.deadline,
        backends,
    }))
}
