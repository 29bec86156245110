//! One trial on several nodes, step by step.

use std::time::Duration;

use agents::{
    coordinator::Node,
    offset::Offset,
    wire::{self, begin::Which, reply, step},
};
use generator::clock::monotonic_ns;
use jiff::Timestamp;
use measure::{
    fold::Folded,
    nodes::NodeTrial,
    record::{ProcessRole, Side, TrialOutcome, TrialRecord},
    steadiness::{Asked, Unasked},
};
use scenario::Pace;

use super::{
    Nodes,
    bills::Bills,
    convert::{self, PartMeasured},
    fleet::{Broken, Fleet, out_of_turn},
};
use crate::{
    interrupt,
    lab::{LabError, Launch, Part, ProxyLaunch, placement::Cpus},
    run::{
        doubts,
        load::Workers,
        trial::{Attempt, Done, Measured, RunTrial, Then, Trial, TrialProgress},
    },
};

/// From when all nodes are ready to the first call: time for the last of them to hear of it.
const LEAD: Duration = Duration::from_millis(100);

/// How far the rate that was sent may be from the one asked for, where calls are counted
/// by the nodes: of so many, chance is far less.
const OTHER_RATE: f64 = 0.02;

/// What was measured, the fold of it where nodes made that, and how the balancer was
/// started.
type WhatCame = (Measured, Option<Folded>, Option<ProxyLaunch>);

impl RunTrial for Nodes<'_> {
    fn run(&mut self, trial: &Trial<'_>, on_progress: &mut dyn FnMut(TrialProgress)) -> Done {
        let started = Timestamp::now();
        on_progress(TrialProgress::Starting);
        let cpus = Cpus::default();
        let attempt = Attempt {
            trial,
            service: self.service,
            client: None,
            certificates: None,
            cpus: &cpus,
            max_errors: 1.0,
            here: None,
        };
        let mut done = match self.measure(&attempt, on_progress) {
            Ok((measured, folded, proxy)) => {
                let mut record = match folded {
                    None => attempt.record(&measured),
                    Some(folded) => record_folded(&attempt, &measured, &folded),
                };
                let rate = trial.scenario.load.pace.mean_rate();
                record.warnings.extend(doubts::of_start_skew(&record.nodes, rate));
                Done { record, proxy, then: measured.then }
            }
            Err(Broken::Interrupted) => {
                let record = TrialRecord::blank(&trial.peer.peer.name, trial.repeat, trial.order);
                let outcome = TrialOutcome::Interrupted;
                let record = TrialRecord { outcome, ..record };
                Done { record, proxy: None, then: Then::GoOn }
            }
            Err(Broken::Failed { side, message }) => {
                // Its log is on the node, and its last words are in the message.
                let is_first = trial.order == 0 && side == Side::Backend;
                let then = if is_first { Then::End } else { Then::GoOn };
                let record = attempt.failed(&LabError::OnNode { side, message });
                Done { record, proxy: None, then }
            }
            Err(Broken::Lost(lost)) => {
                let mut error = LabError::NodeLost(lost.to_string());
                let recovered = self.recover();
                let then = if recovered.is_ok() { Then::Again } else { Then::End };
                if let Err(reason) = recovered {
                    error = LabError::NodeLost(format!("{lost}; {reason}"));
                }
                Done { record: attempt.failed(&error), proxy: None, then }
            }
        };
        trial.describe(&mut done.record, started);
        done
    }

    fn is_interrupted(&self) -> bool {
        interrupt::interrupted()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Nodes<'_> {
    fn measure(
        &self,
        attempt: &Attempt<'_>,
        on_progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<WhatCame, Broken> {
        let trial = attempt.trial;
        let Some(fleet) = &self.fleet else {
            return Err(Broken::Failed { side: Side::Lab, message: "no node is left".to_owned() });
        };
        let connections = trial.scenario.load.connections;
        let parts = self.roles.parts(&self.capacity(), trial.balancers(), connections);
        let measured = self.steps(fleet, attempt, &parts, on_progress);
        if !matches!(measured, Err(Broken::Lost(_))) {
            // Whatever came of it, the next trial finds nodes without processes.
            fleet.nodes.iter().for_each(Node::stop);
            fleet.all(|_| step::What::End(wire::End {}))?;
        }
        measured
    }

    fn steps(
        &self,
        fleet: &Fleet,
        attempt: &Attempt<'_>,
        parts: &[(Part, Workers)],
        on_progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<WhatCame, Broken> {
        let trial = attempt.trial;
        fleet.nodes.iter().for_each(Node::begin);
        let begun = fleet.all(|node| step::What::Begin(self.begin(trial, &parts[node])))?;
        let serve = self.addresses(fleet, parts, begun)?;
        fleet.all(|_| step::What::Serve(serve.clone()))?;
        let balancing = fleet.all(|_| step::What::Balance(wire::Balance {}))?;
        let proxy = balancing.into_iter().find_map(launch);
        fleet.all(|_| step::What::Connect(wire::Connect {}))?;
        let before = fleet.offsets()?;
        let zero_ns = monotonic_ns() + LEAD.as_nanos() as u64;
        let start = |node: usize| wire::Start { epoch_ns: before[node].convert(zero_ns) };
        fleet.ask(|node| step::What::Start(start(node)));
        let mut bills = Bills::new(trial.peer.external.as_ref(), attempt.planned());
        let mut measured = fleet.watch(zero_ns, &mut bills, on_progress)?;
        let after = fleet.offsets()?;
        let every = one_of(&measured, self.wanted.ship_calls);
        let logs = fleet.ship(&measured, every, trial.peer.external.as_ref())?;
        let nodes = self.nodes_of(&measured, &before, &after);
        let machines: Vec<u32> = self.setups.iter().map(|node| node.machine).collect();
        convert::leave_out_partial_costs(&mut measured, parts);
        let mut merged = convert::merge(self.named(measured), logs, &machines, nodes);
        merged.processes.extend(bills.costs());
        let folded = if every > 1 { Some(fleet.fold(attempt, &merged)?) } else { None };
        Ok((merged, folded, proxy))
    }

    fn begin(&self, trial: &Trial<'_>, (part, workers): &(Part, Workers)) -> wire::Begin {
        let on_machine = self.capacity();
        let shares_machine = on_machine.iter().any(|one| one.on_machine > 1);
        let is_search = trial.scenario.load.search.is_some();
        let is_twin = trial.scenario.load.closed_twin
            && matches!(trial.scenario.load.pace, Pace::Closed { .. });
        let which = match (trial.point, trial.scenario.load.pace.mean_rate()) {
            (None, _) if is_twin => Which::Twin(true),
            (None, _) => Which::Plain(true),
            (Some(_), Some(rate)) if is_search => Which::Rate(rate),
            (Some(point), _) => Which::Point(point.to_owned()),
        };
        wire::Begin {
            which: Some(which),
            peer: trial.peer.peer.name.clone(),
            repeat: trial.repeat,
            order: trial.order,
            part: Some(convert::part_to_wire(part, *workers, shares_machine)),
        }
    }

    /// Where everybody listens, of what each node has free.
    fn addresses(
        &self,
        fleet: &Fleet,
        parts: &[(Part, Workers)],
        begun: Vec<reply::What>,
    ) -> Result<wire::Serve, Broken> {
        let mut serve = wire::Serve::default();
        let Part { backends, balancers, .. } = &parts[0].0;
        for all in [&mut serve.backends, &mut serve.tapped, &mut serve.cluster] {
            all.resize(backends.len(), String::new());
        }
        for all in [&mut serve.balancers, &mut serve.admins] {
            all.resize(balancers.len(), String::new());
        }
        for (node, reply) in begun.into_iter().enumerate() {
            let lost = || Broken::Lost(out_of_turn(&fleet.nodes[node]));
            let reply::What::Begun(wire::Begun { addresses }) = reply else { return Err(lost()) };
            let mut addresses = addresses.into_iter();
            let mut next = || addresses.next().ok_or_else(lost);
            let part = &parts[node].0;
            for index in here(&part.backends) {
                serve.backends[index] = next()?;
                serve.tapped[index] = next()?;
                serve.cluster[index] = next()?;
            }
            for index in here(&part.balancers) {
                serve.balancers[index] = next()?;
                serve.admins[index] = next()?;
            }
        }
        Ok(serve)
    }

    fn nodes_of(
        &self,
        measured: &[PartMeasured],
        before: &[Offset],
        after: &[Offset],
    ) -> Vec<NodeTrial> {
        let clocks = before.iter().zip(after);
        let parts = self.setups.iter().zip(measured).zip(clocks);
        parts
            .map(|((setup, measured), (before, after))| NodeTrial {
                name: setup.name.clone(),
                clock_offset_ns: before.offset_ns,
                clock_uncertainty_ns: before.uncertainty_ns,
                clock_drift_ppm: after.drift_ppm(before),
                late_ns: measured.late_ns,
                calls: measured.calls.iter().sum(),
                machine: measured.machine.clone(),
            })
            .collect()
    }

    /// What nodes measured, with their names where parts have to be told apart.
    fn named(&self, measured: Vec<PartMeasured>) -> Vec<PartMeasured> {
        let mut measured = measured;
        for (part, setup) in measured.iter_mut().zip(&self.setups) {
            if let TrialOutcome::Failed { message, .. } = &mut part.outcome {
                *message = format!("on {} ({}): {message}", setup.name, setup.host);
            }
            let generators =
                part.processes.iter_mut().filter(|process| process.role == ProcessRole::Generator);
            generators.for_each(|one| one.name = format!("{}{}", doubts::GENERATOR_ON, setup.name));
        }
        measured
    }
}

/// Indices of those that are on a node.
fn here(all: &[bool]) -> impl Iterator<Item = usize> {
    all.iter().enumerate().filter(|(_, is_here)| **is_here).map(|(index, _)| index)
}

/// One of how many calls is shipped, so that they are no more than `most` altogether.
fn one_of(measured: &[PartMeasured], most: u64) -> u64 {
    let calls: u64 = measured.iter().flat_map(|part| &part.calls).sum();
    calls.div_ceil(most.max(1)).max(1)
}

/// The record of calls that nodes have folded. Whether their gaps are those asked for can't
/// be told from one of so many; whether there are as many as asked for can.
fn record_folded(attempt: &Attempt<'_>, measured: &Measured, folded: &Folded) -> TrialRecord {
    let seen = attempt.windows(measured);
    let sent = folded.counts().sent as f64 / seen.window.seconds();
    let is_off = |asked: &Asked| (sent / asked.rate - 1.0).abs() > OTHER_RATE;
    let unasked = attempt.asked().filter(is_off).map(|_| Unasked::Rate(sent));
    attempt.record_folded(measured, &seen, folded, unasked.as_slice())
}

/// How the balancer was started, where this is the node's answer that has one.
fn launch(reply: reply::What) -> Option<ProxyLaunch> {
    let reply::What::Balancing(wire::Balancing { command, files }) = reply else { return None };
    let file =
        |file: wire::File| (file.path.into(), String::from_utf8_lossy(&file.content).into_owned());
    (!command.is_empty()).then(|| ProxyLaunch {
        launch: Launch::new("", command, &[]),
        files: files.into_iter().map(file).collect(),
        in_kernel: false,
        reload: None,
        // The node that runs it knows.
        members: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use agents::{calls, wire::Calls};
    use measure::calllog::{CallLog, Entry, FailureKind, OnWire, Outcome};
    use proptest::prelude::*;
    use scenario::Library;

    use super::*;
    use crate::{peers::ReadyPeer, root::Root};

    const SECOND: u64 = 1_000_000_000;
    /// Workers of each of three agents.
    const AGENTS: [usize; 3] = [2, 1, 2];

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let outcome = prop_oneof![
            8 => (0_u16..4, 0..SECOND, 0..SECOND)
                .prop_map(|(backend, queued, service)| Outcome::served(backend, queued, service)),
            1 => (1_i32..17).prop_map(|code| Outcome::Failed(FailureKind::from_status(code))),
            1 => Just(Outcome::Unfinished),
            1 => Just(Outcome::NotSent),
        ];
        let times = (0..2 * SECOND, 0..SECOND / 10, 0..SECOND / 100, 0..SECOND);
        let one = (times, outcome).prop_map(|((due_ns, waited, late, took), outcome)| {
            let (ready_ns, sent_ns) = (due_ns + waited, due_ns + waited + late);
            let on_wire = OnWire::new(sent_ns, sent_ns + took / 2);
            Entry { due_ns, ready_ns, sent_ns, done_ns: sent_ns + took, on_wire, outcome }
        });
        prop::collection::vec(one, 0..50)
    }

    fn log(entries: &[Entry]) -> CallLog {
        let mut log = CallLog::default();
        entries.iter().for_each(|&entry| log.push(entry));
        log
    }

    fn part(logs: &[CallLog]) -> PartMeasured {
        let measured = Measured {
            logs: logs.to_vec(),
            lost: 0,
            last_done_ns: 0,
            ended_ns: 3 * SECOND,
            processes: Vec::new(),
            machine: Default::default(),
            outcome: TrialOutcome::Complete,
            faults: Vec::new(),
            disturbance: None,
            links: None,
            then: Then::GoOn,
            nodes: Vec::new(),
        };
        convert::measured_of_wire(&convert::measured_to_wire(&measured, 0, Vec::new())).unwrap()
    }

    /// As an agent ships a log and the coordinator takes it in.
    fn shipped(log: &CallLog) -> CallLog {
        use prost::Message as _;
        let mut back = CallLog::default();
        for piece in calls::pieces(0, log) {
            let piece = Calls::decode(piece.encode_to_vec().as_slice()).unwrap();
            calls::append(&mut back, &piece).unwrap();
        }
        back
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Byte for byte.
        #[test]
        fn the_record_of_three_agents_is_that_of_one_process_with_the_same_logs(
            logs in prop::collection::vec(entries(), 5),
        ) {
            let library = Library::open(Root::find().scenarios()).unwrap();
            let scenario = library.find("single-conn-flood").unwrap().resolve(true, &[]).unwrap();
            let peer = library.peer("l7").unwrap();
            let peer = ReadyPeer { peer, program: None, version: None, external: None };
            let trial = Trial {
                scenario: &scenario,
                point: None,
                peer: &peer,
                repeat: 0,
                order: 0,
                dir: Default::default(),
            };
            let attempt = Attempt {
                trial: &trial,
                service: None,
                client: None,
                certificates: None,
                cpus: &Cpus::default(),
                max_errors: 1.0,
                here: None,
            };
            let logs: Vec<CallLog> = logs.iter().map(|entries| log(entries)).collect();
            let one = convert::merge(vec![part(&logs)], logs.clone(), &[0], Vec::new());
            let (mut parts, mut merged, mut first) = (Vec::new(), Vec::new(), 0);
            for count in AGENTS {
                let own = &logs[first..first + count];
                parts.push(part(own));
                merged.extend(own.iter().map(shipped));
                first += count;
            }
            let three = convert::merge(parts, merged, &[0, 1, 2], Vec::new());
            let text = |measured| serde_json::to_string(&attempt.record(measured)).unwrap();
            prop_assert_eq!(text(&three), text(&one));
            // Nor does it matter who folds.
            let seen = attempt.windows(&one);
            let mut sum = attempt.fold(&logs[..2], &seen);
            for own in [&logs[2..3], &logs[3..]] {
                let sent = convert::folded_to_wire(&attempt.fold(own, &seen));
                sum.merge(&convert::folded_of_wire(&sent, 4).unwrap());
            }
            prop_assert_eq!(sum, attempt.fold(&logs, &seen));
        }
    }
}
