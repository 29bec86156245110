//! What is doubtful about a trial or a run: pure functions of what was measured,
//! each bound with its reason.

use measure::{
    calllog::FailureKind,
    figure::Figures,
    fold::Folded,
    histogram::quantile,
    nodes::{NodeSetup, NodeTrial},
    record::{
        Environment, FaultRecord, LinkRecord, LoadSetup, MachineCost, ProcessRole, TrialOutcome,
        TrialRecord,
    },
    statistics::{drift::between_repeats, independence::neighbours},
    steadiness::{Asked, Steadiness, Unasked},
    summary::is_measured,
    warning::Warning,
};
use scenario::Scenario;

/// Lateness that 99 % of an open loop's calls have to stay within. A kernel
/// that schedules the generator among others wakes it within a fraction of a
/// millisecond; more than one is the generator's own queue.
const LATENESS_BOUND_US: f64 = 1_000.0;
/// How far off the median of pings through a link may be: this, and a twentieth.
const LINK_BOUND_NS: u64 = 200_000;
const LINK_BOUND_PART: u64 = 20;
/// Share of the trial that the generator may wait for a CPU. Where it shares a core
/// with the backends it waits for them now and then; a quarter of the time is more
/// than turns between two that both get what they need.
const STARVED_BOUND: f64 = 0.25;
/// Share of CPU time given to other guests above which timings are coloured.
const STEAL_BOUND: f64 = 0.02;
/// Share of the machine above which latency is the machine's.
const BUSY_BOUND: f64 = 0.95;
/// Share of the calls that may seem to be answered before their turn: answers pass each other
/// between a server and its tap, of which 1.2 % were seen on a machine without a CPU to spare.
/// A server with twice the servers that were said has ten times as many at two thirds of its load.
const OUT_OF_TURN_BOUND: f64 = 0.03;
/// Calls above which ten lie beyond the 99th percentile.
const CALLS_WANTED: u64 = 1_000;
/// How far the median may wander between repeats that have too few seconds to be
/// tested.
const DRIFT_BOUND: f64 = 1.5;
/// How far it may wander where the seconds within each repeat say how much is
/// chance, and the p-value that goes with it.
const TESTED_DRIFT_BOUND: f64 = 1.2;
const DRIFT_P: f64 = 0.001;
/// The p-value below which repeats in a row are said to be alike.
const DEPENDENT_P: f64 = 0.001;
/// What the name of a generator begins with that is one of several: the node's follows.
pub(super) const GENERATOR_ON: &str = "generator-";
/// Load average per CPU above which the machine was busy before we came.
const LOAD_BOUND: f64 = 0.7;

/// The doubts about one trial. `lost` calls found no room in the log; `open`
/// says whether calls followed a schedule.
pub(super) fn of_trial(
    record: &TrialRecord,
    folded: &Folded,
    lost: u64,
    open: bool,
) -> Vec<Warning> {
    let counts = &record.counts;
    let mut doubts = Vec::new();
    let lateness_p99_us = folded.lateness_ns(0.99) as f64 / 1e3;
    if open && lateness_p99_us > LATENESS_BOUND_US {
        doubts.push(Warning::GeneratorLimited { lateness_p99_us, bound_us: LATENESS_BOUND_US });
    }
    doubts.extend(starved(record));
    match record.nodes.as_slice() {
        [] => doubts.extend(of_machine(&record.machine)),
        nodes => doubts.extend(nodes.iter().flat_map(|node| {
            of_machine(&node.machine).into_iter().map(|warning| on_node(&node.name, warning))
        })),
    }
    doubts.extend(disturbed(record));
    if counts.ok < CALLS_WANTED {
        doubts.push(Warning::FewCalls { calls: counts.ok, wanted: CALLS_WANTED });
    }
    let failed: u64 = counts.failed.iter().map(|failure| failure.calls).sum();
    if failed > 0 {
        doubts.push(Warning::FailedCalls { failed, sent: counts.sent });
    }
    let own = [FailureKind::NoPort, FailureKind::NoDescriptor].map(FailureKind::name);
    for failure in counts.failed.iter().filter(|failure| own.contains(&&*failure.what)) {
        let (calls, what) = (failure.calls, failure.what.clone());
        doubts.push(Warning::ClientExhausted { calls, what });
    }
    if counts.unfinished > 0 && record.outcome == TrialOutcome::Complete {
        let (unfinished, scheduled) = (counts.unfinished, counts.scheduled);
        doubts.push(Warning::UnfinishedCalls { unfinished, scheduled });
    }
    let (calls, of) = (folded.out_of_turn(), record.in_backend.count);
    if calls as f64 > OUT_OF_TURN_BOUND * of as f64 {
        doubts.push(Warning::OutOfTurn { calls, of });
    }
    if folded.saturated() > 0 {
        doubts.push(Warning::HistogramSaturated { values: folded.saturated() });
    }
    if lost > 0 {
        doubts.push(Warning::LogFull { lost });
    }
    doubts.extend(record.links.iter().flat_map(|links| &links.links).filter_map(off));
    doubts
}

/// The doubts about the faults of a trial that ran its whole length. One that was due and
/// never carried out, such as the start of a backend that had not ended yet, is in no record.
pub(super) fn of_faults(scenario: &Scenario, record: &TrialRecord) -> Vec<Warning> {
    let mut seen: Vec<_> = record.faults.iter().filter(|fault| fault.seen).collect();
    let mut doubts = Vec::new();
    for fault in &scenario.faults {
        let action = fault.action.name();
        let backend = &scenario.backends[fault.backend as usize].id;
        let is_it = |one: &&FaultRecord| one.action == action && one.backend == *backend;
        match seen.iter().position(is_it) {
            Some(index) => drop(seen.swap_remove(index)),
            None => doubts.push(Warning::FaultNotSeen {
                action: action.to_owned(),
                backend: backend.clone(),
            }),
        }
    }
    doubts
}

/// Beyond how far off pings through a link tell more than that the kernel takes its time.
fn off(link: &LinkRecord) -> Option<Warning> {
    let bound_ns = LINK_BOUND_NS + link.asked_ns / LINK_BOUND_PART + link.jitter_ns;
    let is_off = link.answered == 0 || link.ping_p50_ns.abs_diff(link.asked_ns) > bound_ns;
    let ms = |ns: u64| ns as f64 / 1e6;
    is_off.then(|| Warning::LinkOff {
        between: link.between.join(" and "),
        asked_ms: ms(link.asked_ns),
        took_ms: (link.answered > 0).then(|| ms(link.ping_p50_ns)),
    })
}

/// Lateness alone doesn't tell: a generator that is late to read answers has no free
/// stream to be late with.
fn starved(record: &TrialRecord) -> impl Iterator<Item = Warning> {
    let generators = record.processes.iter().filter(|one| one.role == ProcessRole::Generator);
    generators.filter_map(|generator| {
        let share = generator.waited_ns as f64 / 1e9 / (record.measured_s + record.cut_s);
        let warning = (share > STARVED_BOUND).then_some(Warning::GeneratorStarved { share })?;
        Some(match generator.name.strip_prefix(GENERATOR_ON) {
            Some(node) => on_node(node, warning),
            None => warning,
        })
    })
}

fn on_node(node: &str, warning: Warning) -> Warning {
    Warning::OnNode { node: node.to_owned(), warning: Box::new(warning) }
}

fn busy_before(environment: &Environment) -> Option<Warning> {
    let (cpus, load_average) = (environment.cpus, environment.load_average_1m);
    let is_busy = load_average > LOAD_BOUND * f64::from(cpus);
    is_busy.then_some(Warning::HighLoadAverage { load_average, cpus })
}

/// What is doubtful about a node before anything is run on it.
pub(super) fn of_node(node: &NodeSetup) -> Option<Warning> {
    busy_before(&node.environment).map(|warning| on_node(&node.name, warning))
}

/// How far apart nodes may have started, where that matters: by more than the mean gap
/// between two calls of a schedule, or than a millisecond where there is none.
pub(super) fn of_start_skew(nodes: &[NodeTrial], rate: Option<f64>) -> Option<Warning> {
    // Of two that are off to opposite sides.
    let mut off: Vec<u64> =
        nodes.iter().map(|node| node.clock_uncertainty_ns + node.late_ns).collect();
    off.sort_unstable();
    let skew_us = off.iter().rev().take(2).sum::<u64>() as f64 / 1e3;
    let bound_us = rate.map_or(1_000.0, |rate| 1e6 / rate);
    (skew_us > bound_us).then_some(Warning::StartSkew { skew_us, bound_us })
}

fn disturbed(record: &TrialRecord) -> Option<Warning> {
    let seen = record.disturbance.as_ref().filter(|seen| seen.is_beyond_bound())?;
    let ms = |ns: u64| ns as f64 / 1e6;
    Some(Warning::Disturbed {
        share: seen.share(),
        steal_ms: ms(seen.steal_ns),
        throttled_ms: ms(seen.throttled_ns),
        neighbours_ms: ms(seen.neighbours_ns),
    })
}

fn of_machine(machine: &MachineCost) -> Vec<Warning> {
    let busy_ns = machine.user_ns + machine.system_ns + machine.steal_ns;
    let all_ns = busy_ns + machine.idle_ns;
    let mut doubts = Vec::new();
    if all_ns == 0 {
        return doubts;
    }
    if machine.throttled_ns > 0 {
        doubts.push(Warning::Throttled { ms: machine.throttled_ns as f64 / 1e6 });
    }
    let share = machine.steal_ns as f64 / all_ns as f64;
    if share > STEAL_BOUND {
        doubts.push(Warning::StealTime { share });
    }
    let busy = busy_ns as f64 / all_ns as f64;
    if busy > BUSY_BOUND {
        doubts.push(Warning::CpuSaturated { busy });
    }
    doubts
}

/// Whether the trial had a steady state.
pub(super) fn of_steadiness(found: Option<Steadiness>) -> Vec<Warning> {
    let Some(found) = found else { return Vec::new() };
    let figure = || "latency p50".to_owned();
    let drift = found.drift.map(|ratio| Warning::DriftWithinTrial { figure: figure(), ratio });
    let cut_s = found.cut_ns as f64 / 1e9;
    let cut = (found.cut_ns > 0).then_some(Warning::WarmUpExtended { cut_s });
    drift.into_iter().chain(cut).collect()
}

/// Whether the calls sent are those that were asked for.
pub(super) fn of_arrivals(asked: Asked, unasked: &[Unasked]) -> Vec<Warning> {
    let warning = |found: &Unasked| match *found {
        Unasked::Rate(sent) => Warning::OtherRate { asked: asked.rate, sent },
        Unasked::Gaps(distance) => Warning::Clumped { distance },
    };
    unasked.iter().map(warning).collect()
}

/// Whether an open loop asks more of the generator than it can do.
pub(super) fn of_rate(asked_per_s: f64, usable_per_s: f64) -> Option<Warning> {
    (asked_per_s > usable_per_s)
        .then_some(Warning::GeneratorNearLimit { asked_per_s, usable_per_s })
}

/// The doubts that exist before anything was run.
pub(super) fn of_start(load: &LoadSetup, environment: &Environment) -> Vec<Warning> {
    let mut doubts = Vec::new();
    if load.service.as_ref().is_some_and(|service| service.identity.is_none()) {
        doubts.push(Warning::SharesUnknown);
    }
    let cpus = environment.cpus;
    doubts.extend(busy_before(environment));
    if environment.build_profile.ends_with("opt-level 0") {
        doubts.push(Warning::UnoptimisedBuild { profile: environment.build_profile.clone() });
    }
    if environment.placement.is_empty() {
        doubts.push(Warning::SharedCpus { cpus });
    }
    doubts
}

/// The doubts that only all trials of a peer at a point together show.
pub(super) fn of_run(
    peers: &[String],
    points: &[Option<String>],
    trials: &[TrialRecord],
) -> Vec<Warning> {
    let of_peer = |point: &Option<String>, peer: &String| {
        let measured: Vec<&TrialRecord> = trials
            .iter()
            .filter(|trial| trial.peer == *peer && trial.point == *point)
            .filter(|trial| is_measured(trial))
            .collect();
        let drift = drift_between(peer, point.as_ref(), &measured);
        drift.into_iter().chain(dependence(peer, point.as_ref(), &measured))
    };
    points
        .iter()
        .flat_map(|point| peers.iter().flat_map(move |peer| of_peer(point, peer)))
        .collect()
}

/// Repeats have to be of one kind: by the medians of their seconds where there are
/// enough of them, by their medians alone otherwise.
fn drift_between(peer: &str, point: Option<&String>, trials: &[&TrialRecord]) -> Option<Warning> {
    let seconds: Vec<Vec<f64>> = trials.iter().map(|trial| medians_of_seconds(trial)).collect();
    let ratio = match between_repeats(&seconds) {
        Some(found) if found.p_value < DRIFT_P => {
            found.ratio.filter(|ratio| *ratio > TESTED_DRIFT_BOUND)?
        }
        Some(_) => return None,
        None => {
            let medians = medians(trials);
            let low = medians.iter().copied().reduce(f64::min)?;
            let high = medians.iter().copied().reduce(f64::max)?;
            Some(high / low).filter(|ratio| *ratio > DRIFT_BOUND)?
        }
    };
    let (peer, figure) = (peer.to_owned(), "latency p50".to_owned());
    Some(Warning::DriftBetweenRepeats { peer, point: point.cloned(), figure, ratio })
}

/// An interval over repeats takes them for independent of each other.
fn dependence(peer: &str, point: Option<&String>, trials: &[&TrialRecord]) -> Option<Warning> {
    let found = neighbours(&medians(trials))?;
    // More unlike than chance would be no harm to an interval.
    (found.p_value < DEPENDENT_P && found.ratio < 2.0).then(|| Warning::DependentRepeats {
        peer: peer.to_owned(),
        point: point.cloned(),
        figure: "latency p50".to_owned(),
        p_value: found.p_value,
    })
}

fn medians(trials: &[&TrialRecord]) -> Vec<f64> {
    trials.iter().filter_map(|trial| Figures::of_trial(trial).latency_ns(0.5)).collect()
}

/// The median latency of each whole second of the window.
fn medians_of_seconds(trial: &TrialRecord) -> Vec<f64> {
    let whole = trial.measured_s as usize;
    let seconds = &trial.series[..whole.min(trial.series.len())];
    seconds
        .iter()
        .filter_map(|second| second.latency.to_histogram().ok())
        .filter_map(|histogram| quantile(&histogram, 0.5))
        .map(|median| median as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use measure::{
        calllog::{CallLog, Entry, Outcome},
        fold::{Setting, Times, Window, fold},
        record::LoopMode,
    };
    use scenario::{Fault, Library};

    use super::*;
    use crate::root::Root;

    const SECOND: u64 = 1_000_000_000;

    /// A trial of six seconds whose calls are `late` by themselves and take
    /// `took` in each half.
    fn trial(late_ns: u64, took_ns: [u64; 2]) -> (TrialRecord, Folded) {
        let mut log = CallLog::default();
        for index in 0..6_000_u64 {
            let due_ns = index * SECOND / 1_000;
            log.push(Entry {
                due_ns,
                ready_ns: due_ns,
                sent_ns: due_ns + late_ns,
                done_ns: due_ns + late_ns + took_ns[usize::from(index >= 3_000)],
                on_wire: None,
                outcome: Outcome::served(0, 0, 0),
            });
        }
        let ids = ["b0".to_owned()];
        let window = Window { start_ns: 0, end_ns: 6 * SECOND };
        let mode = LoopMode::Open;
        let setting = Setting {
            window,
            spent: window,
            backend_ids: &ids,
            balancers: &[],
            zones: &[],
            mode,
            through_proxy: false,
            times: Times::Apart,
            by_backend: false,
        };
        let folded = fold([&log], &setting);
        let blank = TrialRecord { measured_s: 6.0, ..TrialRecord::blank("direct", 0, 0) };
        let record = folded.complete(blank, &ids);
        (record, folded)
    }

    fn kinds(warnings: &[Warning]) -> Vec<String> {
        warnings
            .iter()
            .map(|warning| serde_json::to_value(warning).unwrap()["kind"].as_str().unwrap().into())
            .collect()
    }

    #[test]
    fn a_quiet_trial_is_not_accused() {
        let (record, folded) = trial(50_000, [1_000_000, 1_000_000]);
        assert_eq!(of_trial(&record, &folded, 0, true), []);
    }

    #[test]
    fn a_late_generator_is_named_only_where_there_is_a_schedule() {
        let (record, folded) = trial(2_000_000, [1_000_000, 1_000_000]);
        assert_eq!(kinds(&of_trial(&record, &folded, 0, true)), ["generator_limited"]);
        assert_eq!(of_trial(&record, &folded, 0, false), []);
    }

    #[test]
    fn a_fault_that_was_never_carried_out_is_named_like_one_without_effect() {
        let library = Library::open(Root::find().scenarios()).unwrap();
        let scenario = library.find("rolling-restart").unwrap().resolve(false, &[]).unwrap();
        let (mut record, _) = trial(0, [1_000_000, 1_000_000]);
        let done = |fault: &Fault| FaultRecord {
            action: fault.action.name().to_owned(),
            backend: scenario.backends[fault.backend as usize].id.clone(),
            planned_s: fault.at * 6.0,
            done_s: fault.at * 6.0,
            seen: true,
        };
        record.faults = scenario.faults.iter().map(done).collect();
        assert_eq!(of_faults(&scenario, &record), []);
        let never = record.faults.pop().unwrap();
        record.faults[0].seen = false;
        let named = [&record.faults[0], &never].map(|fault| Warning::FaultNotSeen {
            action: fault.action.clone(),
            backend: fault.backend.clone(),
        });
        assert_eq!(of_faults(&scenario, &record), named);
    }

    #[test]
    fn a_link_is_in_doubt_where_pings_took_another_time() {
        let link = |answered, jitter_ns, ping_p50_ns| LinkRecord {
            between: ["client".to_owned(), "balancer".to_owned()],
            pings: 100,
            answered,
            asked_ns: 10_000_000,
            jitter_ns,
            ping_p50_ns,
            ping_p99_ns: ping_p50_ns,
            packets: None,
            lost: None,
            dropped: None,
        };
        // 0.2 ms, and a twentieth of 10 ms.
        assert_eq!(off(&link(100, 0, 10_600_000)), None);
        assert_eq!(off(&link(100, 500_000, 11_200_000)), None);
        for (link, took_ms) in [(link(100, 0, 10_800_000), Some(10.8)), (link(0, 0, 0), None)] {
            let between = "client and balancer".to_owned();
            assert_eq!(off(&link), Some(Warning::LinkOff { between, asked_ms: 10.0, took_ms }));
        }
    }

    #[test]
    fn a_trial_that_did_not_settle_is_named() {
        let (record, folded) = trial(0, [1_000_000, 1_000_000]);
        assert_eq!(kinds(&of_trial(&record, &folded, 3, true)), ["log_full"]);
        let steady = Steadiness { cut_ns: 0, drift: None };
        assert_eq!(of_steadiness(Some(steady)), []);
        let cut = Steadiness { cut_ns: SECOND, ..steady };
        assert_eq!(of_steadiness(Some(cut)), [Warning::WarmUpExtended { cut_s: 1.0 }]);
        let drifting = Steadiness { drift: Some(2.0), ..steady };
        assert_eq!(kinds(&of_steadiness(Some(drifting))), ["drift_within_trial"]);
    }

    #[test]
    fn what_was_not_asked_for_is_named() {
        let asked = Asked { rate: 1_000.0, poisson: true };
        let doubts = of_arrivals(asked, &[Unasked::Rate(900.0), Unasked::Gaps(0.3)]);
        assert_eq!(kinds(&doubts), ["other_rate", "clumped"]);
    }

    #[test]
    fn a_machine_that_is_taken_away_or_full_is_named() {
        let machine = |steal_ns, idle_ns| MachineCost {
            user_ns: 90,
            idle_ns,
            steal_ns,
            ..MachineCost::default()
        };
        assert_eq!(of_machine(&machine(0, 10)), []);
        assert_eq!(kinds(&of_machine(&machine(5, 0))), ["steal_time", "cpu_saturated"]);
        assert_eq!(of_machine(&MachineCost::default()), []);
    }

    #[test]
    fn repeats_that_disagree_are_named_with_their_peer() {
        let measured = |took_ns| trial(0, [took_ns, took_ns]).0;
        let peers = ["direct".to_owned()];
        let alike = [measured(1_000_000), measured(1_200_000)];
        assert_eq!(of_run(&peers, &[None], &alike), []);
        let apart = [measured(1_000_000), measured(2_000_000)];
        assert_eq!(kinds(&of_run(&peers, &[None], &apart)), ["drift_between_repeats"]);
        let at = |point: &str, trial: &TrialRecord| TrialRecord {
            point: Some(point.to_owned()),
            ..trial.clone()
        };
        let swept = [at("1", &apart[0]), at("64", &apart[1])];
        let points = ["1", "64"].map(|point| Some(point.to_owned()));
        assert_eq!(of_run(&peers, &points, &swept), [], "points differ, and may");
        // Slower and slower: each repeat is like the one before it.
        let sliding: Vec<_> = (0..16).map(|step| measured(1_000_000 + step * 10_000)).collect();
        assert_eq!(kinds(&of_run(&peers, &[None], &sliding)), ["dependent_repeats"]);
    }
}
