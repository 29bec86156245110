//! A scenario's load as plans for the generator's threads.

use std::time::Duration;

use balance::SplitMix64;
use measure::record::LoopMode;
use scenario::{Arrivals, Layer, Length, Pace, Scenario};

use crate::{
    drive::{
        client::{Balanced, CallKind, CallShape, ClientKind, Destination},
        load::{Closed, Load, Open},
        schedule::{Limit, Process, Schedule},
        worker::Plan,
    },
    lab::{Lab, environment},
    peers::ReadyPeer,
};

/// Calls a second that memory is set aside for where the backends decide how
/// many there are.
const CLOSED_LOOP_RATE: f64 = 30_000.0;
/// Most calls that memory is set aside and touched for before a trial; more
/// than that only cost a reallocation now and then.
const MOST_EXPECTED_CALLS: f64 = 4e6;

/// The seed of a repeat: all chance of its trials comes from it.
pub(crate) fn seed_of_repeat(seed: u64, repeat: u32) -> u64 {
    SplitMix64::new(seed ^ u64::from(repeat).rotate_left(32)).next_u64()
}

/// Open or closed loop.
pub(crate) fn mode(scenario: &Scenario) -> LoopMode {
    match scenario.load.pace {
        Pace::Open { .. } => LoopMode::Open,
        Pace::Closed { .. } => LoopMode::Closed,
    }
}

/// Generator threads. Half of the cores at most: the others are for those who
/// are measured.
pub(crate) fn workers(cpus: u32, connections: u32) -> u32 {
    (cpus / 2).clamp(1, connections)
}

/// A plan for each generator thread.
pub(super) fn plans(
    scenario: &Scenario,
    peer: &ReadyPeer,
    lab: &Lab,
    seed: u64,
    give_up: Duration,
) -> Vec<Plan> {
    let workers = workers(environment::cpus(), scenario.load.connections);
    (0..workers)
        .map(|worker| Plan {
            client: ClientKind::Tonic,
            shape: shape(scenario),
            destinations: connections_of(scenario, worker, workers)
                .map(|connection| destination(scenario, peer, lab, connection, seed))
                .collect(),
            streams: scenario.load.streams,
            load: load(scenario, worker, workers, seed),
            give_up_ns: nanos(give_up),
            expected_calls: expected_calls(scenario, workers),
        })
        .collect()
}

/// Connections are dealt to workers in turn, as [`Open`] does it.
fn connections_of(scenario: &Scenario, worker: u32, workers: u32) -> impl Iterator<Item = u32> {
    (worker..scenario.load.connections).step_by(workers as usize)
}

fn destination(
    scenario: &Scenario,
    peer: &ReadyPeer,
    lab: &Lab,
    connection: u32,
    seed: u64,
) -> Destination {
    if peer.peer.layer != Layer::Client {
        return Destination::One(lab.target(connection as usize));
    }
    let backends = scenario
        .backends
        .iter()
        .enumerate()
        .map(|(index, backend)| (lab.target(index), backend.id.clone(), backend.weight))
        .collect();
    let seed = SplitMix64::new(seed ^ u64::from(connection)).next_u64();
    Destination::Balanced(Balanced { policy: scenario.policy, backends, seed })
}

fn shape(scenario: &Scenario) -> CallShape {
    let load = &scenario.load;
    // Bytes that compress and repeat as little as real payloads do.
    let mut chance = SplitMix64::new(scenario.seed);
    let payload = (0..load.request_bytes).map(|_| chance.next_u64() as u8).collect();
    CallShape {
        kind: match load.call {
            scenario::CallKind::Unary => CallKind::Unary,
            scenario::CallKind::ServerStream => CallKind::ServerStream,
            scenario::CallKind::ClientStream => CallKind::ClientStream,
            scenario::CallKind::Bidi => CallKind::Bidi,
        },
        messages: load.messages,
        payload,
        response_bytes: load.response_bytes,
        backend_ids: scenario.backends.iter().map(|backend| backend.id.clone()).collect(),
    }
}

fn load(scenario: &Scenario, worker: u32, workers: u32, seed: u64) -> Load {
    let load = &scenario.load;
    let warm_up_ns = nanos(load.warm_up);
    let limit = match load.length {
        Length::Duration(duration) => Limit::Until { end_ns: warm_up_ns + nanos(duration) },
        Length::Calls(calls) => Limit::Calls { calls },
    };
    match &load.pace {
        Pace::Open { arrivals } => {
            let (process, rate) = match *arrivals {
                Arrivals::Constant { rate } => (Process::Constant, rate),
                Arrivals::Poisson { rate } => (Process::Poisson, rate),
            };
            let schedule = Schedule::new(process, rate, load.connections, warm_up_ns, limit, seed);
            Load::Open(Open::new(schedule, worker, workers))
        }
        Pace::Closed { think_time } => {
            let connections = connections_of(scenario, worker, workers).count();
            let connections = u32::try_from(connections).unwrap_or(u32::MAX);
            let seed = seed ^ u64::from(worker);
            let think_ns = nanos(*think_time);
            Load::Closed(Closed::new(connections, load.streams, think_ns, warm_up_ns, limit, seed))
        }
    }
}

fn expected_calls(scenario: &Scenario, workers: u32) -> usize {
    let load = &scenario.load;
    let rate = match &load.pace {
        Pace::Open { arrivals } => arrivals.mean_rate() * 1.1,
        Pace::Closed { .. } => CLOSED_LOOP_RATE,
    };
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

    #[test]
    fn cores_are_left_to_those_who_are_measured() {
        assert_eq!(workers(1, 64), 1);
        assert_eq!(workers(2, 64), 1);
        assert_eq!(workers(8, 64), 4);
        assert_eq!(workers(8, 3), 3);
    }

    #[test]
    fn repeats_differ_and_can_be_repeated() {
        assert_eq!(seed_of_repeat(1, 0), seed_of_repeat(1, 0));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(1, 1));
        assert_ne!(seed_of_repeat(1, 0), seed_of_repeat(2, 0));
    }
}
