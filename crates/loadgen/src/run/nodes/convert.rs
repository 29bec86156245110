//! What is sent between coordinator and agents, from and to the types of the lab.

use std::{
    net::SocketAddr,
    path::{Component, Path, PathBuf},
};

use agents::wire;
use generator::client::Seen;
use measure::{
    calllog::{CallLog, Entry, Outcome, UNKNOWN_BACKEND},
    fold::Folded,
    nodes::NodeTrial,
    record::{Disturbance, FaultRecord, MachineCost, ProcessCost, ProcessRole, Side, TrialOutcome},
};
use scenario::Setting;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    lab::{BalancerAddress, LabError, Part, ProxyLaunch},
    run::{
        course::without_paths,
        load::Workers,
        trial::{Measured, Then},
    },
};

/// Characters of the longest message of an error that is passed on.
const MESSAGE_CHARACTERS: usize = 4_096;

/// Something was sent that is none of what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent {0} that can't be read")]
pub(super) struct Unreadable(pub(super) &'static str);

/// What a node measured of a trial, its logs apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PartMeasured {
    pub(super) outcome: TrialOutcome,
    pub(super) ended_ns: u64,
    pub(super) processes: Vec<ProcessCost>,
    pub(super) machine: MachineCost,
    pub(super) faults: Vec<FaultRecord>,
    pub(super) disturbance: Option<Disturbance>,
    /// Of each of its logs, as all that follows.
    pub(super) calls: Vec<u64>,
    pub(super) balancers: Vec<u16>,
    pub(super) lost: Vec<u64>,
    pub(super) late_ns: u64,
    pub(super) last_done_ns: u64,
    /// Of what the lab did not start, by the numbers in its logs.
    pub(super) backend_ids: Vec<String>,
    /// Whether it is left alone.
    pub(super) left_alone: bool,
}

fn json<T: Serialize>(value: &T) -> String {
    // Types of the record are made of texts, numbers, lists and maps by text.
    serde_json::to_string(value).unwrap_or_default()
}

fn read<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, Unreadable> {
    serde_json::from_str(json).map_err(|_| Unreadable(what))
}

/// What a node measured, for the coordinator.
pub(super) fn measured_to_wire(
    measured: &Measured,
    late_ns: u64,
    backend_ids: Vec<String>,
) -> wire::Measured {
    let disturbance = measured.disturbance.as_ref();
    wire::Measured {
        outcome_json: json(&measured.outcome),
        ended_ns: measured.ended_ns,
        processes_json: json(&measured.processes),
        machine_json: json(&measured.machine),
        faults_json: json(&measured.faults),
        disturbance_json: disturbance.map(json).unwrap_or_default(),
        calls: measured.logs.iter().map(|log| log.entries().len() as u64).collect(),
        balancers: measured.logs.iter().map(|log| log.balancer().into()).collect(),
        lost: measured.logs.iter().map(CallLog::lost).collect(),
        late_ns,
        last_done_ns: measured.last_done_ns,
        backend_ids,
        left_alone: measured.then == Then::End,
    }
}

pub(super) fn measured_of_wire(measured: &wire::Measured) -> Result<PartMeasured, Unreadable> {
    let disturbance = Some(&measured.disturbance_json).filter(|json| !json.is_empty());
    let balancers = measured.balancers.iter().map(|&number| u16::try_from(number));
    let balancers: Result<Vec<u16>, _> = balancers.collect();
    let balancers = balancers.ok().filter(|all| all.len() == measured.calls.len());
    let balancers = balancers.ok_or(Unreadable("balancers"));
    Ok(PartMeasured {
        outcome: read("an outcome", &measured.outcome_json)?,
        ended_ns: measured.ended_ns,
        processes: read("costs of processes", &measured.processes_json)?,
        machine: read("the cost of a machine", &measured.machine_json)?,
        faults: read("faults", &measured.faults_json)?,
        disturbance: disturbance.map(|json| read("a disturbance", json)).transpose()?,
        calls: measured.calls.clone(),
        balancers: balancers?,
        lost: measured.lost.clone(),
        late_ns: measured.late_ns,
        last_done_ns: measured.last_done_ns,
        backend_ids: measured.backend_ids.clone(),
        left_alone: measured.left_alone,
    })
}

/// A node's part of a fold.
pub(super) fn folded_to_wire(folded: &Folded) -> wire::Folded {
    wire::Folded { part_json: json(folded) }
}

pub(super) fn folded_of_wire(sent: &wire::Folded, backends: usize) -> Result<Folded, Unreadable> {
    let what = "a fold";
    let folded: Folded = read(what, &sent.part_json)?;
    if folded.is_over(backends) { Ok(folded) } else { Err(Unreadable(what)) }
}

/// What went wrong on a node, for the coordinator.
pub(super) fn failed_to_wire(error: &LabError) -> wire::Failed {
    let message: String = error.to_string().chars().take(MESSAGE_CHARACTERS).collect();
    wire::Failed { side_json: json(&error.side()), message }
}

pub(super) fn side_of_wire(failed: &wire::Failed) -> Side {
    read("a side", &failed.side_json).unwrap_or(Side::Lab)
}

pub(super) fn part_to_wire(part: &Part, workers: Workers, shares_machine: bool) -> wire::Part {
    let indices = |all: &[bool]| {
        let here = (0_u32..).zip(all).filter(|(_, is_here)| **is_here);
        here.map(|(index, _)| index).collect()
    };
    wire::Part {
        backends: indices(&part.backends),
        balancers: indices(&part.balancers),
        first_worker: workers.first,
        workers: workers.count,
        all_workers: workers.of,
        shares_machine,
    }
}

pub(super) fn part_of_wire(
    part: &wire::Part,
    (backends, balancers): (usize, usize),
) -> Result<(Part, Workers), Unreadable> {
    let workers = Workers { first: part.first_worker, count: part.workers, of: part.all_workers };
    let end = workers.first.checked_add(workers.count);
    if workers.of == 0 || end.is_none_or(|end| end > workers.of) {
        return Err(Unreadable("workers"));
    }
    let here = |what, count, indices: &[u32]| {
        let mut here = vec![false; count];
        for &index in indices {
            *here.get_mut(index as usize).ok_or(Unreadable(what))? = true;
        }
        Ok(here)
    };
    let part = Part {
        backends: here("a backend", backends, &part.backends)?,
        balancers: here("a balancer", balancers, &part.balancers)?,
        generator: part.workers > 0,
    };
    Ok((part, workers))
}

pub(super) fn settings_to_wire(settings: &[Setting]) -> Vec<wire::Setting> {
    let setting = |setting: &Setting| wire::Setting {
        key: setting.key().to_owned(),
        value: setting.document(),
        origin: setting.origin().to_owned(),
    };
    settings.iter().map(setting).collect()
}

pub(super) fn settings_of_wire(settings: &[wire::Setting]) -> Result<Vec<Setting>, Unreadable> {
    let setting = |sent: &wire::Setting| {
        let setting = Setting::from_document(&sent.key, &sent.value, &sent.origin);
        setting.ok_or(Unreadable("a setting"))
    };
    settings.iter().map(setting).collect()
}

/// Where a file goes below a folder: nowhere else, whatever its path says.
pub(super) fn below(folder: &Path, path: &str) -> Result<PathBuf, Unreadable> {
    let path = Path::new(path);
    let mut components = path.components();
    let is_plain = components.all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !is_plain {
        return Err(Unreadable("the path of a file"));
    }
    Ok(folder.join(path))
}

/// Addresses of the balancers.
pub(super) fn balancer_addresses(serve: &wire::Serve) -> Result<Vec<BalancerAddress>, Unreadable> {
    let both = addresses(&serve.balancers)?.into_iter().zip(addresses(&serve.admins)?);
    Ok(both.map(|(listen, admin)| BalancerAddress { listen, admin }).collect())
}

pub(super) fn addresses(texts: &[String]) -> Result<Vec<SocketAddr>, Unreadable> {
    texts.iter().map(|text| address(text)).collect()
}

fn address(text: &str) -> Result<SocketAddr, Unreadable> {
    text.parse().map_err(|_| Unreadable("an address"))
}

/// How the balancer was started, as far as the record of the run tells it: without `paths`
/// that mean something on its node only.
pub(super) fn launch_to_wire(
    launch: &ProxyLaunch,
    paths: &[(String, &'static str)],
) -> wire::Balancing {
    let file = |(path, text): &(PathBuf, String)| wire::File {
        path: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        content: without_paths(text, paths).into_bytes(),
    };
    let command = launch.launch.command.iter();
    wire::Balancing {
        command: command.map(|word| without_paths(word, paths)).collect(),
        files: launch.files.iter().map(file).collect(),
    }
}

/// A node's log with the numbers by which the coordinator knows the backends: each knows
/// those that the lab did not start in the order in which they answered it.
pub(super) fn renumbered(log: &CallLog, ids: &[String], seen: &Seen) -> CallLog {
    let number = |id: &String| {
        let number = seen.index(id.as_bytes()).and_then(|number| u16::try_from(number).ok());
        number.unwrap_or(UNKNOWN_BACKEND)
    };
    let numbers: Vec<u16> = ids.iter().map(number).collect();
    let mut renumbered = CallLog::with_capacity(log.entries().len());
    for &entry in log.entries() {
        let outcome = match entry.outcome {
            Outcome::Served { backend, queued, service } => {
                let backend = numbers.get(usize::from(backend)).copied();
                let backend = backend.unwrap_or(UNKNOWN_BACKEND);
                Outcome::served(backend, queued.get(), service.get())
            }
            other => other,
        };
        renumbered.push(Entry { outcome, ..entry });
    }
    renumbered
}

/// The trial as a whole: logs in the order of the workers, costs of all processes, and
/// of each machine once. `machines` tells which machine each node is on.
pub(super) fn merge(
    parts: Vec<PartMeasured>,
    logs: Vec<CallLog>,
    machines: &[u32],
    nodes: Vec<NodeTrial>,
) -> Measured {
    let mut merged = Measured {
        logs,
        lost: parts.iter().flat_map(|part| &part.lost).sum(),
        last_done_ns: parts.iter().map(|part| part.last_done_ns).max().unwrap_or(0),
        ended_ns: parts.iter().map(|part| part.ended_ns).min().unwrap_or(0),
        processes: Vec::new(),
        machine: MachineCost::default(),
        outcome: TrialOutcome::Complete,
        faults: Vec::new(),
        disturbance: None,
        links: None,
        then: if parts.iter().any(|part| part.left_alone) { Then::End } else { Then::GoOn },
        nodes,
    };
    for (index, part) in parts.into_iter().enumerate() {
        // Those on one machine have all read that one.
        if machines.iter().position(|machine| *machine == machines[index]) == Some(index) {
            add_machine(&mut merged.machine, &part.machine);
        }
        merged.processes.extend(part.processes);
        part.faults.into_iter().for_each(|fault| add_fault(&mut merged.faults, fault));
        // The others were stopped because one failed.
        let is_failed = |outcome: &TrialOutcome| matches!(outcome, TrialOutcome::Failed { .. });
        if merged.outcome == TrialOutcome::Complete
            || (is_failed(&part.outcome) && !is_failed(&merged.outcome))
        {
            merged.outcome = part.outcome;
        }
        let worse = |seen: &Disturbance| {
            merged.disturbance.as_ref().is_none_or(|worst| seen.share() > worst.share())
        };
        if part.disturbance.as_ref().is_some_and(worse) {
            merged.disturbance = part.disturbance;
        }
    }
    // As on one machine, by their numbers: b2 before b10.
    merged.processes.sort_by(|one, other| {
        let key = |cost: &ProcessCost| (cost.role, cost.name.len());
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    merged
}

/// Leaves out what the balancers, the backends or the taps cost where a node can't tell what
/// its own did, as after a fault that ended one: what the others cost is not what all did.
pub(super) fn leave_out_partial_costs(measured: &mut [PartMeasured], parts: &[(Part, Workers)]) {
    type Has = fn(&Part) -> bool;
    let roles: [(ProcessRole, Has); 3] = [
        (ProcessRole::Proxy, Part::has_balancers),
        (ProcessRole::Backend, Part::has_backends),
        (ProcessRole::Tap, Part::has_backends),
    ];
    for (role, has) in roles {
        let mut nodes = measured.iter().zip(parts).filter(|(_, (part, _))| has(part));
        if nodes.any(|(part, _)| part.processes.iter().all(|cost| cost.role != role)) {
            measured.iter_mut().for_each(|part| part.processes.retain(|cost| cost.role != role));
        }
    }
}

fn add_machine(sum: &mut MachineCost, one: &MachineCost) {
    sum.user_ns += one.user_ns;
    sum.system_ns += one.system_ns;
    sum.idle_ns += one.idle_ns;
    sum.steal_ns += one.steal_ns;
    sum.throttled_ns += one.throttled_ns;
    sum.busy_source = one.busy_source;
}

/// A fault that several nodes have done, as telling clients of backends, was done when the
/// last one had, and seen when all have seen it.
fn add_fault(faults: &mut Vec<FaultRecord>, fault: FaultRecord) {
    let is_same = |known: &&mut FaultRecord| {
        (&known.action, &known.backend) == (&fault.action, &fault.backend)
            && known.planned_s == fault.planned_s
    };
    match faults.iter_mut().find(is_same) {
        Some(known) => {
            known.done_s = known.done_s.max(fault.done_s);
            known.seen &= fault.seen;
        }
        None => {
            let at = faults.partition_point(|known| known.planned_s <= fault.planned_s);
            faults.insert(at, fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::cost::Reading;

    fn fault(action: &str, planned_s: f64, done_s: f64, seen: bool) -> FaultRecord {
        FaultRecord { action: action.into(), backend: "b1".into(), planned_s, done_s, seen }
    }

    fn part(busy_ns: u64, faults: Vec<FaultRecord>) -> PartMeasured {
        PartMeasured {
            outcome: TrialOutcome::Complete,
            ended_ns: busy_ns,
            processes: Vec::new(),
            machine: MachineCost { user_ns: busy_ns, ..MachineCost::default() },
            faults,
            disturbance: None,
            calls: Vec::new(),
            balancers: Vec::new(),
            lost: Vec::new(),
            late_ns: 0,
            last_done_ns: 0,
            backend_ids: Vec::new(),
            left_alone: false,
        }
    }

    #[test]
    fn a_machine_is_billed_once_whoever_reads_it() {
        let parts = || vec![part(5, vec![]), part(6, vec![]), part(70, vec![])];
        let merged = merge(parts(), Vec::new(), &[0, 0, 1], Vec::new());
        assert_eq!((merged.machine.user_ns, merged.ended_ns), (75, 5));
        let merged = merge(parts(), Vec::new(), &[0, 1, 2], Vec::new());
        assert_eq!(merged.machine.user_ns, 81);
    }

    #[test]
    fn faults_of_all_nodes_are_in_order_and_each_is_there_once() {
        let first = vec![fault("add", 1.0, 1.2, true), fault("kill", 3.0, 3.0, true)];
        let second = vec![fault("add", 1.0, 1.1, false), fault("stop", 2.0, 2.0, true)];
        let merged = merge(vec![part(1, first), part(1, second)], Vec::new(), &[0, 1], Vec::new());
        let faults: Vec<_> = merged.faults.iter().map(|one| (&*one.action, one.done_s)).collect();
        assert_eq!(faults, [("add", 1.2), ("stop", 2.0), ("kill", 3.0)]);
        assert!(!merged.faults[0].seen, "one node has not seen it");
    }

    #[test]
    fn what_some_backends_cost_is_not_what_all_do() {
        let cost = |role, name| Reading::default().since(&Reading::default(), role, name);
        let mut measured = [part(1, vec![]), part(1, vec![]), part(1, vec![])];
        measured[0].processes = vec![cost(ProcessRole::Proxy, "l7")];
        measured[1].processes = vec![cost(ProcessRole::Backend, "b0")];
        let roles = |measured: &[PartMeasured]| -> Vec<ProcessRole> {
            measured.iter().flat_map(|part| &part.processes).map(|cost| cost.role).collect()
        };
        let workers = Workers { first: 0, count: 0, of: 1 };
        let node = |backend, balancer| {
            let (backends, balancers) = (vec![backend], vec![balancer]);
            (Part { backends, balancers, generator: false }, workers)
        };
        let parts = [node(false, true), node(true, false), node(false, false)];
        leave_out_partial_costs(&mut measured, &parts);
        assert_eq!(roles(&measured), [ProcessRole::Proxy, ProcessRole::Backend]);
        // Another node has a backend that was ended and started again.
        let parts = [node(false, true), node(true, false), node(true, false)];
        leave_out_partial_costs(&mut measured, &parts);
        assert_eq!(roles(&measured), [ProcessRole::Proxy]);
    }

    #[test]
    fn backends_are_numbered_as_the_coordinator_knows_them() {
        let mut log = CallLog::default();
        for backend in [0, 1, 9] {
            let outcome = Outcome::served(backend, 3, 4);
            let (due_ns, ready_ns, sent_ns, done_ns) = (1, 2, 3, 4);
            log.push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire: None, outcome });
        }
        let seen = Seen::of(vec!["pod-1".into()]);
        let back = renumbered(&log, &["pod-2".into(), "pod-1".into()], &seen);
        let outcomes: Vec<Outcome> = back.entries().iter().map(|entry| entry.outcome).collect();
        let expected = [1, 0, UNKNOWN_BACKEND].map(|backend| Outcome::served(backend, 3, 4));
        assert_eq!(outcomes, expected);
        assert_eq!(seen.ids(), ["pod-1", "pod-2"]);
    }

    #[test]
    fn files_stay_below_their_folder() {
        let folder = Path::new("/tmp/x");
        assert_eq!(below(folder, "l7/peer.toml").unwrap(), Path::new("/tmp/x/l7/peer.toml"));
        for path in ["", "/etc/passwd", "../x", "a/../../b", "."] {
            assert!(below(folder, path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_part_that_can_t_be_is_refused() {
        let good = wire::Part {
            backends: vec![1],
            balancers: vec![2],
            first_worker: 1,
            workers: 2,
            all_workers: 3,
            ..wire::Part::default()
        };
        let (part, workers) = part_of_wire(&good, (2, 3)).unwrap();
        assert_eq!(part.backends, [false, true]);
        assert_eq!(part.balancers, [false, false, true]);
        assert_eq!(part_to_wire(&part, workers, false), good);
        assert!(part_of_wire(&good, (1, 3)).is_err());
        assert!(part_of_wire(&good, (2, 2)).is_err());
        for (first_worker, workers, all_workers) in [(2, 2, 3), (u32::MAX, 2, 3), (0, 0, 0)] {
            let bad = wire::Part { first_worker, workers, all_workers, ..good.clone() };
            assert!(part_of_wire(&bad, (2, 3)).is_err());
        }
    }

    #[test]
    fn what_was_measured_survives_the_way() {
        let measured = merge(
            vec![part(7, vec![fault("kill", 1.0, 1.0, true)])],
            vec![CallLog::default()],
            &[0],
            Vec::new(),
        );
        let back = measured_of_wire(&measured_to_wire(&measured, 3, vec!["pod-1".into()])).unwrap();
        assert_eq!((back.ended_ns, back.late_ns, back.calls.clone()), (7, 3, vec![0]));
        assert_eq!((back.faults, back.outcome), (measured.faults, TrialOutcome::Complete));
        assert_eq!(back.backend_ids, ["pod-1"]);
        let bad = wire::Measured::default();
        assert_eq!(
            measured_of_wire(&bad).unwrap_err().to_string(),
            "it sent an outcome that can't be read"
        );
    }
}
