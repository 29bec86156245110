//! Runs with trials that start no process: their order, when there are enough of them,
//! and what becomes of those that went wrong.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use measure::{
    folder::Run,
    histogram::{HistogramRecord, new_histogram, record},
    record::{Counts, Disturbance, RunOutcome, SearchLimit, Side, TrialOutcome, Verdict},
    steadiness::Steadiness,
};
use scenario::{Layer, Peer, ScenarioSource};
use tempfile::TempDir;

use super::*;
use crate::{
    exit,
    lab::{Launch, placement::Cpus},
    run::{
        Request, describe, doubts,
        trial::{Done, TrialProgress},
    },
};

/// How long a trial of the fake takes.
const EACH: Duration = Duration::from_secs(1);

/// A lab without processes. Its trials say what `script` makes of them.
struct Fake {
    now: Duration,
    /// Trials after which the user asks to stop.
    stop_after: usize,
    trials: usize,
    script: Box<dyn FnMut(&Trial<'_>) -> TrialRecord>,
    /// What its trials mean for those after them, if they fail.
    then: Then,
    /// The trial in which a node is lost.
    lost: Option<u32>,
}

impl Fake {
    fn new(script: impl FnMut(&Trial<'_>) -> TrialRecord + 'static) -> Self {
        Self {
            now: Duration::ZERO,
            stop_after: usize::MAX,
            trials: 0,
            script: Box::new(script),
            then: Then::GoOn,
            lost: None,
        }
    }
}

impl RunTrial for Fake {
    fn run(&mut self, trial: &Trial<'_>, on_progress: &mut dyn FnMut(TrialProgress)) -> Done {
        on_progress(TrialProgress::Starting);
        self.now += EACH;
        self.trials += 1;
        let record = (self.script)(trial);
        let then = if self.lost == Some(trial.order) { Then::Again } else { self.then };
        Done { record, proxy: Some(launch(&trial.dir)), then }
    }

    fn is_interrupted(&self) -> bool {
        self.trials >= self.stop_after
    }

    fn elapsed(&self) -> Duration {
        self.now
    }
}

/// A proxy of this trial, on a port of its own.
fn launch(dir: &Path) -> ProxyLaunch {
    let config = dir.join("proxy.conf");
    ProxyLaunch {
        launch: Launch::new("proxy", vec!["proxy".to_owned(), config.display().to_string()], &[]),
        files: vec![(config, "listen\n".to_owned())],
        in_kernel: false,
        reload: None,
        members: Vec::new(),
    }
}

/// What the observer was told, in a word each.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Observer for Events {
    fn on(&mut self, event: Event<'_>) {
        let text = match event {
            Event::Note(text) => text.to_owned(),
            Event::Planned { trials, .. } => format!("planned {trials}"),
            Event::Added { trials, .. } => format!("added {trials}"),
            Event::SearchBegins { .. } => "search".to_owned(),
            Event::Found(result) => format!("found {}", result.peer),
            Event::TrialBegins { name, repeat } => format!("{name} {repeat}"),
            Event::Simulated { .. } | Event::Progress(_) | Event::TrialEnds(_) => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

/// A run of a scenario by `fake`, in a folder that is there as long as the first value.
fn run(keys: &str, peers: &[&str], mut fake: Fake) -> (TempDir, Finished, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let events = Events::default();
    let finished = run_in(home.path(), keys, peers, &mut fake, &mut events.clone());
    let events = events.0.lock().unwrap().clone();
    (home, finished, events)
}

fn run_in(
    home: &Path,
    keys: &str,
    peers: &[&str],
    bench: &mut dyn RunTrial,
    observer: &mut dyn Observer,
) -> Finished {
    let peers: Vec<String> = peers.iter().map(|&peer| peer.to_owned()).collect();
    let text = format!("question = \"Fake?\"\n{keys}\n[run]\npeers = {peers:?}\nrepeats = 2\n");
    let source = ScenarioSource::parse("fake", "fake.toml", &text, &peers).unwrap();
    let scenario = source.resolve(false, &[]).unwrap();
    let ready = |name: &String| ReadyPeer {
        peer: Peer {
            name: name.clone(),
            policy: None,
            settings: None,
            title: name.clone(),
            layer: Layer::None,
            discovery: None,
            description: String::new(),
            process: None,
        },
        program: None,
        version: None,
        external: None,
    };
    let request = Request::new(source, scenario, Vec::new(), home.to_owned());
    let started = Timestamp::UNIX_EPOCH;
    let folder = RunFolder::create(home, "fake", "then").unwrap();
    folder.write_scenario(&text).unwrap();
    let points = crate::run::points::planned(&request.scenario);
    let peers: Vec<ReadyPeer> = peers.iter().map(ready).collect();
    let cpus = Cpus::default();
    let course = Course {
        scenario: &request.scenario,
        record: describe::run_record(&request, &points, &peers, Vec::new(), started, &cpus),
        points,
        peers,
        local_paths: vec![(folder.path().display().to_string(), "<run>")],
        folder,
        trials: Vec::new(),
        planned: 0,
        spare: 0,
        lost: Vec::new(),
        bench,
        observer,
    };
    course.run(started)
}

const LOAD: &str =
    "[load]\nloop = \"open\"\nconnections = 1\nrate = \"100/s\"\nduration = \"1s\"\n";

/// A trial with a hundred calls that took `latency_ns` each.
fn measured(trial: &Trial<'_>, latency_ns: u64) -> TrialRecord {
    let mut histogram = new_histogram();
    for _ in 0..100 {
        record(&mut histogram, latency_ns);
    }
    TrialRecord {
        measured_s: 1.0,
        point: trial.point.map(str::to_owned),
        counts: Counts { scheduled: 100, sent: 100, ok: 100, ..Counts::default() },
        latency: HistogramRecord::from_histogram(&histogram),
        ..TrialRecord::blank(&trial.peer.peer.name, trial.repeat, trial.order)
    }
}

fn with_claim(keys: &str, claim: &str) -> String {
    format!("{keys}[expect]\nclaims = [\"{claim}\"]\n")
}

fn order(finished: &Finished) -> Vec<(&str, Option<&str>, u32)> {
    let trials = finished.trials.iter();
    trials.map(|trial| (trial.peer.as_str(), trial.point.as_deref(), trial.repeat)).collect()
}

#[test]
fn trials_go_there_and_back_and_are_kept_in_that_order() {
    let keys = format!("{LOAD}[sweep]\nkey = \"load.connections\"\nvalues = [1, 4]\n");
    let (_home, finished, events) =
        run(&keys, &["a", "b"], Fake::new(|trial| measured(trial, 1_000)));
    let there = [("a", "1"), ("b", "1"), ("a", "4"), ("b", "4")];
    let back = there.iter().rev().map(|&(peer, point)| (peer, Some(point), 1));
    let expected: Vec<_> =
        there.iter().map(|&(peer, point)| (peer, Some(point), 0)).chain(back).collect();
    assert_eq!(order(&finished), expected);
    assert_eq!(events[..2], ["planned 8", "a[connections=1] 0"]);
    assert_eq!(finished.record.outcome, RunOutcome::Complete);
    assert_eq!(finished.exit_code(true), exit::FINE);
    let kept = Run::open(&finished.folder).unwrap();
    assert_eq!(kept.trials, finished.trials);
    assert_eq!(kept.record.outcome, RunOutcome::Complete);
}

/// A trial of which others took a part of the samples.
fn disturbed(trial: &Trial<'_>, part: u32) -> TrialRecord {
    let seen = Disturbance { samples: 100, disturbed: part, ..Disturbance::default() };
    TrialRecord { disturbance: Some(seen), ..measured(trial, 9_000) }
}

#[test]
fn a_disturbed_trial_is_measured_again_in_its_repeat_and_is_in_no_figure() {
    let script = |trial: &Trial<'_>| match trial.order {
        1 => disturbed(trial, 11),
        3 => disturbed(trial, 10),
        _ => measured(trial, 1_000),
    };
    let keys = LOAD;
    let (_home, finished, events) = run(keys, &["a", "b"], Fake::new(script));
    let ran: Vec<_> =
        order(&finished).into_iter().map(|(peer, _, repeat)| (peer, repeat)).collect();
    assert_eq!(ran, [("a", 0), ("b", 0), ("b", 0), ("b", 1), ("a", 1)]);
    assert!(events.contains(&"added 1".to_owned()), "{events:?}");
    let replaced: Vec<bool> = finished.trials.iter().map(TrialRecord::is_replaced).collect();
    assert_eq!(replaced, [false, true, false, false, false], "a tenth is within the bound");
    assert_eq!(finished.record.outcome, RunOutcome::Complete);
    let kept = Run::open(&finished.folder).unwrap();
    assert_eq!(kept.trials, finished.trials);
}

#[test]
fn where_all_trials_are_disturbed_they_count_once_enough_were_measured_again() {
    let all = |trial: &Trial<'_>| disturbed(trial, 90);
    let (_home, finished, _) = run(LOAD, &["a", "b"], Fake::new(all));
    let replaced = finished.trials.iter().filter(|trial| trial.is_replaced()).count();
    assert_eq!((finished.trials.len(), replaced), (5, 1), "a quarter of four");
    let judged = finished.trials.iter().filter(|trial| measure::summary::is_measured(trial));
    assert_eq!(judged.count(), 4);
}

#[test]
fn how_a_peer_was_started_is_kept_once_and_names_no_place() {
    let (_home, finished, _) = run(LOAD, &["a"], Fake::new(|trial| measured(trial, 1_000)));
    let peer = &finished.record.peers[0];
    assert_eq!(peer.command, ["proxy", "<run>/logs/000-a-r0/proxy.conf"]);
    assert_eq!(peer.config_files["proxy.conf"], "listen\n");
}

#[test]
fn a_run_fails_for_speed_where_nothing_else_failed() {
    let run_with = |claim: &str| {
        let keys = with_claim(LOAD, claim);
        run(&keys, &["a"], Fake::new(|trial| measured(trial, 1_000))).1
    };
    let fast = run_with("a.latency_p50 < 1ns");
    assert_eq!((fast.exit_code(false), fast.fails_for_speed()), (exit::EXPECTATION_FAILED, true));
    let lost = run_with("a.error_rate > 50%");
    assert_eq!((lost.exit_code(false), lost.fails_for_speed()), (exit::EXPECTATION_FAILED, false));
    let fine = run_with("a.latency_p50 < 1s");
    assert_eq!((fine.exit_code(false), fine.fails_for_speed()), (exit::FINE, false));
}

#[test]
fn a_failed_trial_is_kept_and_the_run_goes_on() {
    let failed = |trial: &Trial<'_>| match trial.order {
        1 => TrialRecord {
            outcome: TrialOutcome::Failed { side: Side::Proxy, message: "gone".to_owned() },
            ..TrialRecord::blank("b", trial.repeat, trial.order)
        },
        _ => measured(trial, 1_000),
    };
    let keys = with_claim(LOAD, "b.latency_p50 < 1s");
    let (_home, finished, _) = run(&keys, &["a", "b"], Fake::new(failed));
    assert_eq!(order(&finished).len(), 4);
    assert_eq!(finished.record.outcome, RunOutcome::Complete);
    assert_eq!(finished.exit_code(false), exit::LAB_FAILED);
    assert!(finished.failure.is_none(), "the run itself went well");
    assert_eq!(finished.record.expectations[0].verdict, Verdict::Held, "by the other repeat");
}

#[test]
fn a_trial_whose_node_was_lost_is_run_again_at_the_end() {
    let fake = Fake::new(|trial| match trial.order {
        1 => TrialRecord {
            outcome: TrialOutcome::Failed { side: Side::Lab, message: "n1 is lost".to_owned() },
            ..TrialRecord::blank("b", trial.repeat, trial.order)
        },
        _ => measured(trial, 1_000),
    });
    let fake = Fake { lost: Some(1), ..fake };
    let keys = with_claim(LOAD, "b.latency_p50 < 1s");
    let (_home, finished, _) = run(&keys, &["a", "b"], fake);
    let last = order(&finished).pop().unwrap();
    assert_eq!((order(&finished).len(), last), (5, ("b", None, 0)));
    assert!(finished.trials[1].is_replaced());
    assert_eq!(finished.record.outcome, RunOutcome::Complete);
    assert_eq!(finished.exit_code(false), exit::FINE);
}

#[test]
fn a_backend_that_never_starts_ends_the_run_and_so_does_a_target_to_be_left_alone() {
    let failed_from = |first: u32, then| {
        let fake = Fake::new(move |trial| {
            if trial.order < first {
                return measured(trial, 1_000);
            }
            let message = "b0 exited with code 1".to_owned();
            TrialRecord {
                outcome: TrialOutcome::Failed { side: Side::Backend, message },
                ..TrialRecord::blank(&trial.peer.peer.name, trial.repeat, trial.order)
            }
        });
        run(LOAD, &["a", "b"], Fake { then, ..fake })
    };
    let (_home, finished, _) = failed_from(0, Then::EndIfFirst);
    assert_eq!(finished.trials.len(), 1, "every other one would end like it");
    assert!(!finished.has_figures());
    let failure = finished.failure.unwrap();
    assert_eq!(failure.code, exit::LAB_FAILED);
    assert!(failure.message.starts_with("b0 exited with code 1; its log is in "));
    let (_home, finished, _) = failed_from(1, Then::EndIfFirst);
    assert_eq!(finished.trials.len(), 4, "it can be started");
    assert!(finished.failure.is_none() && finished.has_figures());
    let (_home, finished, _) = failed_from(1, Then::End);
    assert_eq!(finished.trials.len(), 2, "it must not be called again");
    assert!(finished.failure.unwrap().message.starts_with("b: b0 exited"));
    assert_eq!(finished.record.outcome, RunOutcome::Interrupted);
}

#[test]
fn ctrl_c_ends_the_run_and_keeps_what_was_measured() {
    let fake = Fake {
        stop_after: 3,
        ..Fake::new(|trial| match trial.order {
            2 => {
                TrialRecord { outcome: TrialOutcome::Interrupted, ..measured(trial, 9_000_000_000) }
            }
            _ => measured(trial, 1_000),
        })
    };
    let keys = with_claim(LOAD, "b.latency_max < 1s");
    let (_home, finished, _) = run(&keys, &["a", "b"], fake);
    assert_eq!(order(&finished), [("a", None, 0), ("b", None, 0), ("b", None, 1)]);
    assert_eq!(finished.record.outcome, RunOutcome::Interrupted);
    assert_eq!(finished.exit_code(false), exit::INTERRUPTED);
    assert_eq!(finished.record.expectations[0].verdict, Verdict::Held, "a cut trial has no figure");
    assert_eq!(Run::open(&finished.folder).unwrap().trials.len(), 3);
}

#[test]
fn ctrl_c_before_the_first_trial_leaves_a_run_without_trials() {
    let fake = Fake { stop_after: 0, ..Fake::new(|trial| measured(trial, 1_000)) };
    let (_home, finished, _) = run(LOAD, &["a"], fake);
    assert!(finished.trials.is_empty());
    assert_eq!(finished.exit_code(false), exit::INTERRUPTED);
    assert_eq!(Run::open(&finished.folder).unwrap().record.outcome, RunOutcome::Interrupted);
}

#[test]
fn repeats_are_added_to_all_peers_until_figures_are_known() {
    let keys =
        format!("{LOAD}[precision]\nbudget = \"60s\"\nwithin = {{ latency_p50 = \"5%\" }}\n");
    // The second trial of `a` is an outlier, which takes repeats to outweigh.
    let script = |trial: &Trial<'_>| {
        let is_outlier = (trial.peer.peer.name.as_str(), trial.repeat) == ("a", 1);
        measured(trial, if is_outlier { 1_100_000 } else { 1_000_000 })
    };
    let (_home, finished, events) = run(&keys, &["a", "b"], Fake::new(script));
    let trials_of = |peer| finished.trials.iter().filter(|trial| trial.peer == peer).count();
    assert!(trials_of("a") > 2, "{}", trials_of("a"));
    assert_eq!(trials_of("a"), trials_of("b"), "repeats stay pairs");
    assert!(events.contains(&"added 2".to_owned()));
    let unmet = |warning: &Warning| matches!(warning, Warning::PrecisionNotReached { .. });
    assert!(!finished.record.warnings.iter().any(unmet));
}

#[test]
fn repeats_end_with_the_budget_and_what_is_missing_is_said() {
    let keys = format!("{LOAD}[precision]\nbudget = \"5s\"\nwithin = {{ latency_p50 = \"1%\" }}\n");
    let script =
        |trial: &Trial<'_>| measured(trial, 1_000_000 + u64::from(trial.order % 3) * 500_000);
    let (_home, finished, _) = run(&keys, &["a"], Fake::new(script));
    assert_eq!(finished.trials.len(), 5, "a second each");
    let unmet: Vec<_> = finished
        .record
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::PrecisionNotReached { peer, figure, .. } => Some((&**peer, &**figure)),
            _ => None,
        })
        .collect();
    assert_eq!(unmet, [("a", "latency_p50")]);
}

/// Every peer keeps the objective up to a rate of its own.
fn saturates(trial: &Trial<'_>) -> TrialRecord {
    let highest = if trial.peer.peer.name == "a" { 210.0 } else { 820.0 };
    let rate = trial.scenario.load.pace.mean_rate().unwrap();
    measured(trial, if rate <= highest { 1_000_000 } else { 900_000_000 })
}

const SEARCH: &str =
    "[load.search]\nslo = [\"p50 < 10ms\"]\nresolution = \"10%\"\nbudget = \"100s\"\n";

#[test]
fn a_search_finds_the_edge_of_every_peer_in_turns() {
    let keys = with_claim(&format!("{LOAD}{SEARCH}"), "b.saturation_rate > 3 * a.saturation_rate");
    let (_home, finished, events) = run(&keys, &["a", "b"], Fake::new(saturates));
    let search = finished.record.search.as_ref().unwrap();
    let found: Vec<(&str, u32)> =
        search.results.iter().map(|result| (result.peer.as_str(), result.repeat)).collect();
    assert_eq!(found, [("a", 0), ("b", 0), ("a", 1), ("b", 1)]);
    for (result, edge) in search.results.iter().zip([210.0, 820.0, 210.0, 820.0]) {
        let (held, failed) = (result.held.unwrap(), result.failed.unwrap());
        assert!(held <= edge && edge < failed && failed / held < 1.11, "{result:?}");
        assert_eq!(result.limit, SearchLimit::Peer);
    }
    let peers: Vec<&str> = finished.trials.iter().map(|trial| trial.peer.as_str()).collect();
    assert_eq!(peers[..4], ["a", "b", "b", "a"], "peers take turns");
    let points = &finished.record.sweep.as_ref().unwrap().points;
    assert!(points.is_sorted_by(|a, b| a.number < b.number), "each rate once, in order");
    assert!(finished.trials.iter().all(|trial| trial.point.is_some()));
    assert_eq!(events[0], "search");
    assert_eq!(finished.exit_code(true), exit::FINE);
}

#[test]
fn a_search_ends_with_its_budget_or_with_a_trial_that_failed() {
    let short = SEARCH.replace("100s", "4s");
    let (_home, finished, _) = run(&format!("{LOAD}{short}"), &["a"], Fake::new(saturates));
    assert_eq!(finished.trials.len(), 4, "a second each");
    let results = |finished: &Finished| finished.record.search.as_ref().unwrap().results.clone();
    assert_eq!(results(&finished)[0].limit, SearchLimit::Unfinished);
    assert_eq!(results(&finished).len(), 1, "there was no time for the second repeat");

    let failed = |trial: &Trial<'_>| TrialRecord {
        outcome: TrialOutcome::Failed { side: Side::Lab, message: "no port".to_owned() },
        ..TrialRecord::blank("a", trial.repeat, trial.order)
    };
    let (_home, finished, _) = run(&format!("{LOAD}{SEARCH}"), &["a"], Fake::new(failed));
    assert_eq!(finished.trials.len(), 2, "one a repeat");
    assert_eq!(results(&finished)[0].limit, SearchLimit::Unfinished);
    assert_eq!(finished.exit_code(false), exit::LAB_FAILED);
}

#[test]
fn a_disturbed_trial_is_named_and_so_are_repeats_that_disagree() {
    let disturbed = |trial: &Trial<'_>| {
        let slow = trial.repeat == 1;
        let mut record = measured(trial, if slow { 4_000_000 } else { 1_000_000 });
        if slow {
            record.warnings =
                doubts::of_steadiness(Some(Steadiness { cut_ns: 0, drift: Some(2.0) }));
        }
        record
    };
    let (_home, finished, _) = run(LOAD, &["a", "b"], Fake::new(disturbed));
    let drifted: Vec<&str> = finished
        .record
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::DriftBetweenRepeats { peer, .. } => Some(peer.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(drifted, ["a", "b"]);
    let kept = Run::open(&finished.folder).unwrap();
    let warned: Vec<bool> = kept.trials.iter().map(|trial| !trial.warnings.is_empty()).collect();
    assert_eq!(warned, [false, false, true, true]);
}

#[test]
fn twins_come_last_and_one_that_failed_is_left_out() {
    let keys = LOAD.replace("[load]\n", "[load]\nclosed_twin = true\n");
    let script = |trial: &Trial<'_>| {
        let is_twin = trial.scenario.load.pace.mean_rate().is_none();
        match (is_twin, trial.peer.peer.name.as_str()) {
            (true, "a") => TrialRecord {
                outcome: TrialOutcome::Failed { side: Side::Backend, message: "gone".to_owned() },
                ..TrialRecord::blank("a", 0, 0)
            },
            _ => measured(trial, 1_000),
        }
    };
    let (_home, finished, events) = run(&keys, &["a", "b"], Fake::new(script));
    assert_eq!(finished.trials.len(), 4, "twins are no trials");
    let twins: Vec<&str> = finished.record.twins.iter().map(|twin| twin.peer.as_str()).collect();
    assert_eq!(twins, ["b"]);
    assert_eq!(events[events.len() - 3..], ["added 2", "a, closed loop 0", "b, closed loop 0"]);
    assert_eq!(finished.exit_code(false), exit::FINE);
}

#[test]
fn a_claim_that_fails_or_a_peer_without_a_call_has_its_own_code() {
    let code = |claim: &str, counts: Counts| {
        let script = move |trial: &Trial<'_>| TrialRecord {
            counts: counts.clone(),
            ..measured(trial, 1_000_000)
        };
        let (_home, finished, _) = run(&with_claim(LOAD, claim), &["a"], Fake::new(script));
        (finished.exit_code(false), finished.unmeasured())
    };
    let all = Counts { scheduled: 100, sent: 100, ok: 100, ..Counts::default() };
    assert_eq!(code("a.latency_p50 < 1us", all.clone()).0, exit::EXPECTATION_FAILED);
    assert_eq!(code("a.latency_p50 < 1s", all), (exit::FINE, Vec::new()));
    let (none_due, said) = code("a.latency_p50 < 1s", Counts::default());
    assert_eq!(none_due, exit::EXPECTATION_FAILED, "a claim about it can't be judged");
    assert!(said[0].starts_with("a, repeat 1: no call was due"), "{said:?}");
    let lost = Counts { scheduled: 100, sent: 100, unfinished: 100, ..Counts::default() };
    assert_eq!(code("a.unfinished_rate == 100%", lost), (exit::FINE, Vec::new()));
}

#[test]
fn a_record_that_can_not_be_written_ends_the_run_and_loses_no_figure() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("fake");
    let mut fake = Fake::new(move |trial| {
        if trial.order == 1 {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        measured(trial, 1_000)
    });
    let finished = run_in(home.path(), LOAD, &["a", "b"], &mut fake, &mut Events::default());
    assert!(finished.failure.is_some());
    assert_eq!(finished.trials.len(), 2, "the one that was not written counts");
    assert_eq!(finished.record.outcome, RunOutcome::Interrupted);
}
