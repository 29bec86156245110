//! One trial, simulated: the record of it, as a measured one has it.

use measure::{
    calllog::Entry,
    fold::{Setting, Times, Window, fold_as_they_end},
    record::{FaultRecord, TrialRecord},
};
use scenario::{Length, Scenario};
use simulate::SetupError;
use units::duration::nanos;

use super::convert::{self, Conditions};
use crate::{
    peers::ReadyPeer,
    run::{
        doubts, load,
        order::Turn,
        points::Point,
        trial::{tenths, weigh},
    },
};

/// Simulates a peer at a point once. Calls, services and picks follow from the seed of the
/// repeat: calls are due when the lab's would be, and take the same service behind every
/// peer. Long because it fills in two records.
///
/// # Errors
/// When it is none that can be simulated.
pub(super) fn simulate(
    point: &Point,
    peer: &ReadyPeer,
    conditions: &Conditions,
    turn: Turn,
    order: u32,
) -> Result<TrialRecord, SetupError> {
    let scenario = &point.scenario;
    let setup = convert::setup(scenario, peer, conditions);
    let seed = load::seed_of_repeat(scenario.seed, turn.repeat);
    let ids: Vec<String> = scenario.backends.iter().map(|backend| backend.id.clone()).collect();
    let window = window(scenario);
    let zones = convert::zone_names(scenario, conditions);
    let setting = Setting {
        window,
        spent: window,
        backend_ids: &ids,
        balancers: &[],
        zones: &zones,
        times: Times::Apart,
        by_backend: scenario.servers.are_own(),
        mode: load::mode(scenario),
        through_proxy: peer.stands_between(),
    };
    let layout = convert::layout(scenario, conditions);
    let mut last_ns = window.start_ns;
    let mut ended = Ok(simulate::Ended::default());
    let folded = fold_as_they_end(&setting, |sink| {
        let mut sink = |entry: &Entry, connection| {
            last_ns = last_ns.max(entry.done_ns);
            sink(entry, layout.as_ref().map_or(0, |layout| layout.of_client(connection)));
        };
        ended = simulate::run(&setup, &mut convert::arrivals(scenario, seed), seed, &mut sink);
    });
    ended?;
    // A length in calls ends with the last of them.
    let end_ns = if window.end_ns == u64::MAX { last_ns } else { window.end_ns };
    let measured_s = Window { end_ns, ..window }.seconds();
    let faults = faults(scenario, measured_s);
    let mut record = TrialRecord {
        point: point.value.clone(),
        warm_up_s: scenario.load.warm_up.as_secs_f64(),
        measured_s,
        payload_bytes: scenario.load.payload_bytes(),
        zones: folded.zones(&zones, &convert::zones_of_backends(scenario, conditions)),
        tenths: tenths(&folded, Window { end_ns, ..window }, &faults),
        faults,
        ..folded.complete(TrialRecord::blank(&peer.peer.name, turn.repeat, order), &ids)
    };
    weigh(&mut record.backends, scenario);
    record.warnings = doubts::of_trial(&record, &folded, 0, true);
    Ok(record)
}

/// The measured window; of a length in calls it has no end.
fn window(scenario: &Scenario) -> Window {
    let warm_up = scenario.load.warm_up;
    let end_ns = match scenario.load.length {
        Length::Duration(duration) => nanos(warm_up + duration),
        Length::Calls(_) => u64::MAX,
    };
    Window { start_ns: nanos(warm_up), end_ns }
}

/// In a simulation everything happens when it is planned.
fn faults(scenario: &Scenario, measured_s: f64) -> Vec<FaultRecord> {
    let record = |fault: &scenario::Fault| FaultRecord {
        action: fault.action.name().to_owned(),
        backend: scenario.backends[fault.backend as usize].id.clone(),
        planned_s: fault.at * measured_s,
        done_s: fault.at * measured_s,
        seen: true,
    };
    scenario.faults.iter().map(record).collect()
}
