//! Sentences about the right thing: each of these once said something else.

use analysis::{
    decide::Status,
    findings::{Findings, Sentence},
    model::Model,
};
use measure::{
    answer::Answer,
    figure::Figure,
    folder::Run,
    record::{Disturbance, Layer, LeftOut, TrialRecord},
    warning::Warning::{self, PrecisionNotReached},
};
use report::{
    drawing::Mark,
    palette::Paint,
    terminal::{self, Style},
};

use crate::common::decided::{Results, situation};

const STYLE: Style = Style { colour: false, width: 160 };

fn plain(sentences: &[Sentence]) -> String {
    sentences.iter().map(Sentence::plain).collect::<Vec<_>>().join("\n")
}

fn findings(run: &Run) -> Findings {
    Findings::of(&Model::new(&run.record, &run.trials))
}

fn answered_by(run: &mut Run, less: &str) {
    run.record.answer = Some(Answer {
        figure: Figure::LatencyP99,
        peers: ["l7".into(), "l4".into()],
        at: None,
        less: Some(less.parse().unwrap()),
        greater: None,
        alike: None,
        overloaded: None,
        always: None,
    });
}

#[test]
fn a_backend_that_was_added_was_not_killed() {
    let mut run = crate::common::faulted();
    for trial in &mut run.trials {
        trial.faults.truncate(1);
        trial.faults[0].action = "add".into();
    }
    let page = report::html(&run);
    assert!(page.contains("b1 was added while it ran, so there is no steady state to model"));
    assert!(!page.contains("b1 was killed"));
}

#[test]
fn a_backend_that_returns_behind_l4_and_gets_no_call_is_expected() {
    let expected = "connections stay where they are";
    let mut run = crate::common::faulted();
    assert!(report::html(&run).contains(expected));
    run.record.peers.retain(|peer| peer.layer == Layer::L7);
    run.trials.retain(|trial| trial.peer == "l7");
    assert!(!report::html(&run).contains(expected));
}

#[test]
fn shares_are_compared_with_what_policy_and_capacity_imply() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    run.record.backends[3].speed = 0.2;
    assert!(plain(&findings(&run).peers).contains("evenly over 4 backends"), "it takes turns");
    run.record.load.policy = "p2c".into();
    let said = plain(&findings(&run).peers);
    let expected =
        "calls by load: the slowest backend, b3, got 25.0 % of them and has 6.2 % of the capacity";
    assert!(said.contains(expected), "{said}");
    // While b1 is away the others are due its calls.
    let said = plain(&findings(&crate::common::faulted()).peers);
    assert!(!said.contains("would be even") && !said.contains("evenly over 4"), "{said}");
}

#[test]
fn streams_that_are_spread_better_and_take_longer_are_a_trade() {
    let mut run = crate::common::named(crate::common::run(), "long-streams");
    crate::common::keep_up(&mut run);
    run.record.load.call = "bidi".into();
    let latency = |peer: &str| crate::common::trials_of(&run, peer).next().unwrap().latency.clone();
    let (long, short) = (latency("l4"), latency("l7"));
    for trial in &mut run.trials {
        trial.latency = if trial.peer == "l7" { long.clone() } else { short.clone() };
    }
    let decision = Results::of(&[run]).decide();
    let one = situation(&decision, "long-streams");
    let sentence = one.finding.sentence.plain();
    assert!(
        one.choices.is_empty() && one.finding.status == Status::Conclusive,
        "{:?}",
        one.choices
    );
    assert!(
        sentence.contains("p99 of a stream was") && sentence.contains("times higher"),
        "{sentence}"
    );
    let command = one.command.as_ref().unwrap();
    assert!(!command.contains("--repeats"), "more of them would change nothing: {command}");
}

#[test]
fn latencies_under_a_quota_are_not_compared() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    let said = |run: &Run| findings(run).plain_answer().unwrap();
    assert!(said(&run).contains("One call in a hundred took"), "{}", said(&run));
    run.record.proxy_quota = Some(0.05);
    assert!(!said(&run).contains("One call in a hundred took"), "{}", said(&run));
    assert!(said(&run).contains("CPU per call"), "what it costs is told: {}", said(&run));
}

#[test]
fn connections_are_spoken_of_where_they_differ() {
    let run = crate::common::swept();
    let said = plain(&findings(&run).answer);
    assert!(said.starts_with("Even at 256 connections, l4's busiest backend gets "), "{said}");
    let mut run = run;
    run.record.sweep.as_mut().unwrap().key = "balance.policy".into();
    let said = plain(&findings(&run).answer);
    assert!(
        said.starts_with("The busiest backend got 29.4 % to 100 % of the calls behind l4"),
        "{said}"
    );
}

#[test]
fn a_target_has_no_policy_and_no_backends_of_the_labs() {
    let mut run = crate::common::run();
    assert!(report::html(&run).contains("<dt>Policy</dt>"));
    run.record.peers.iter_mut().for_each(|peer| peer.layer = Layer::External);
    run.record.backends.clear();
    run.record.environment.placement =
        [("generator".to_owned(), vec![0]), ("backends".to_owned(), vec![1])].into();
    let page = report::html(&run);
    assert!(!page.contains("<dt>Policy</dt>") && !page.contains("<dt>Backends</dt>"));
    assert!(page.contains("generator on 0") && !page.contains("backends on 1"));
}

#[test]
fn a_trial_whose_connections_were_not_dealt_in_turn_is_flagged() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    crate::common::give_calls(&mut run, "l7", "l4");
    run.record.load.connections = 8;
    assert!(!plain(&findings(&run).doubts).contains("backend of l4 got"));
    let trial = run.trials.iter_mut().find(|trial| trial.peer == "l4").unwrap();
    for (backend, calls) in trial.backends.iter_mut().zip([3_911, 6_101, 3_896, 2_000]) {
        backend.calls = calls;
    }
    let said = plain(&findings(&run).doubts);
    let expected = "In repeat 1 the busiest backend of l4 got 38.4 % of the calls, and would have \
                    got 25.0 % if connections are placed round robin";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn overload_is_said_where_no_sentence_of_the_scenario_is_about_it() {
    let mut run = crate::common::run();
    answered_by(&mut run, "It was {change}.");
    run.record.answer.as_mut().unwrap().always = Some("{all.latency_p99}.".parse().unwrap());
    let said = plain(&findings(&run).answer);
    assert!(said.contains("l4 was overloaded: offered"), "{said}");
    let overloaded = "L4 was offered {l4.load} what it served.".parse().unwrap();
    run.record.answer.as_mut().unwrap().overloaded = Some(overloaded);
    assert!(plain(&findings(&run).answer).starts_with("L4 was offered 1.57 times what"));
}

#[test]
fn what_can_not_be_measured_here_is_said_first() {
    let mut run = crate::common::run();
    answered_by(&mut run, "It was {change}.");
    run.record.answer.as_mut().unwrap().peers[0] = "kernel-l4".into();
    let reason = "it needs network namespaces".to_owned();
    run.record.left_out.push(LeftOut { peer: "kernel-l4".into(), reason });
    let said = plain(&findings(&run).answer);
    let expected = "The question can't be answered here: kernel-l4 was left out (it needs network \
                    namespaces).";
    assert!(said.starts_with(expected), "{said}");
}

/// The sentence of a scenario speaks of its settings.
#[test]
fn a_run_with_settings_of_its_own_is_not_answered_by_the_scenarios_sentence() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    answered_by(&mut run, "With one connection it was {change}.");
    assert!(plain(&findings(&run).answer).starts_with("With one connection"));
    run.record.overrides = vec!["--set load.duration=5s".into()];
    assert!(plain(&findings(&run).answer).starts_with("With one connection"));
    run.record.overrides = vec!["--set load.connections=64".into()];
    assert!(!plain(&findings(&run).answer).contains("With one connection"));
}

/// What happens at one point of a sweep is no doubt about another.
#[test]
fn an_overload_at_one_point_of_a_sweep_is_expected_there() {
    let mut run = crate::common::swept();
    let at_first = run.trials.iter_mut().filter(|trial| trial.point.as_deref() == Some("1"));
    for trial in at_first.filter(|trial| trial.peer == "l4") {
        trial.counts.completed_in_window = trial.counts.scheduled / 2;
        trial.warnings.push(Warning::DriftWithinTrial { figure: "latency p50".into(), ratio: 2.7 });
        trial.warnings.push(Warning::OtherRate { asked: 3_200.0, sent: 2_100.0 });
    }
    let said = plain(&findings(&run).doubts);
    assert!(!said.contains("in doubt"), "{said}");
    let page = report::html(&run);
    assert!(page.contains("Expected here") && !page.contains("Puts figures in doubt"));
    // Of another point, and so of none of the others.
    let far = PrecisionNotReached {
        peer: "l4".into(),
        point: Some("256".into()),
        figure: "latency_p99".into(),
        wanted: 0.05,
        reached: None,
    };
    run.record.warnings.push(far);
    let table = terminal::table(&run.record, &run.trials, STYLE);
    let in_doubt = |row: &str| {
        let line = table.lines().find(|line| line.starts_with(row)).unwrap();
        line.contains('?')
    };
    assert!(in_doubt("l4 at 256 ") && !in_doubt("l4 at 16 "), "{table}");
}

/// A run without a disturbed trial, whose generator was late, or whose repeats differ.
#[test]
fn a_machine_is_called_busy_only_where_other_work_was_seen() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    run.trials.iter_mut().for_each(|trial| trial.warnings.clear());
    run.record.warnings = vec![Warning::DriftBetweenRepeats {
        peer: "l7".into(),
        point: None,
        figure: "latency p50".into(),
        ratio: 1.58,
    }];
    let said = plain(&findings(&run).doubts);
    assert!(!said.contains("in doubt"), "its interval is as wide: {said}");
    run.trials[0].warnings.push(Warning::Clumped { distance: 0.4 });
    run.trials[0].latency.mean = 150_000.0;
    let late = Warning::GeneratorLimited { lateness_p99_us: 1_500.0, bound_us: 500.0 };
    run.trials[1].warnings.push(late);
    let said = plain(&findings(&run).doubts);
    assert!(said.contains("could not keep to the schedule in 2 of 9 trials"), "{said}");
    assert!(!said.contains("not quiet"), "{said}");
    let busy =
        Warning::Disturbed { share: 0.5, steal_ms: 0.0, throttled_ms: 0.0, neighbours_ms: 900.0 };
    run.trials[1].warnings.push(busy);
    let said = plain(&findings(&run).doubts);
    assert!(said.contains("the machine was not quiet in 1 of 9 trials"), "{said}");
    assert!(said.contains("could not keep to the schedule in 1 of 9 trials"), "{said}");
}

#[test]
fn a_trial_that_was_measured_again_puts_no_figure_in_doubt() {
    let mut run = crate::common::run();
    run.trials.iter_mut().for_each(|trial| trial.warnings.clear());
    run.record.warnings.clear();
    let mut again = run.trials[0].clone();
    again.disturbance = Some(Disturbance { is_replaced: true, ..Disturbance::default() });
    again.warnings.push(Warning::GeneratorStarved { share: 0.5 });
    again.order = 100;
    run.trials.push(again);
    // A note, and shown as one on the page, in a terminal, in a picture and in CI.
    let page = report::html(&run);
    let note = "<li class=\"note\"><b class=\"figure\">1</b> of 10 trials was disturbed";
    assert!(page.contains(note) && !page.contains("waited for a CPU"));
    assert!(!page.contains("class=\"doubt\""));
    let said = terminal::verdict(&run.record, &run.trials, STYLE);
    assert!(said.contains("\n- 1 of 10 trials was disturbed"), "{said}");
    let said = report::ci::markdown(&run.record, &run.trials);
    assert!(said.contains("### Notes\n\n- ") && !said.contains("### Doubts"), "{said}");
    assert_eq!(doubts_in_picture(&run), Vec::<String>::new());
    run.trials[0].warnings.push(Warning::GeneratorStarved { share: 0.5 });
    assert!(report::html(&run).contains("<li class=\"doubt\">Latencies are in doubt"));
    let said = terminal::verdict(&run.record, &run.trials, STYLE);
    assert!(said.contains("\n! Latencies are in doubt"), "{said}");
    assert_eq!(doubts_in_picture(&run).len(), 1);
}

/// What the summary's picture says in the colour of doubts.
fn doubts_in_picture(run: &Run) -> Vec<String> {
    let drawing = report::summary::draw(&Model::new(&run.record, &run.trials));
    let marks = drawing.groups.into_iter().flat_map(|group| group.marks);
    marks
        .filter_map(|mark| match mark {
            Mark::Text { text, font, .. } if font.paint == Paint::Bad => Some(text),
            _ => None,
        })
        .collect()
}

#[test]
fn failures_that_the_answer_tells_of_are_expected() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    crate::common::lose(&mut run, "l7", 0.2);
    run.trials.iter_mut().for_each(|trial| trial.warnings.clear());
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l7") {
        trial.warnings.push(Warning::FailedCalls { failed: 2_000, sent: 10_000 });
    }
    let said = plain(&findings(&run).doubts);
    assert!(said.contains("Latencies of l7 are in doubt. 2,000 of 10,000 calls failed"), "{said}");
    let said = plain(&findings(&run).notes);
    assert!(said.contains("(20.0 %) failed"), "{said}");
    run.record.answer = Some(Answer {
        figure: Figure::ErrorRate,
        peers: ["l7".into(), "l4".into()],
        at: None,
        less: None,
        greater: None,
        alike: None,
        overloaded: None,
        always: Some("{l7.lost} failed.".parse().unwrap()),
    });
    let Findings { doubts, notes, .. } = findings(&run);
    let said = plain(&doubts) + &plain(&notes);
    assert!(!said.contains("in doubt") && !said.contains("Latencies are those"), "{said}");
}

/// Calls of different points are never put together, lost ones neither.
#[test]
fn lost_calls_are_told_point_by_point() {
    let mut run = crate::common::swept();
    let at_last = run.trials.iter_mut().filter(|trial| trial.point.as_deref() == Some("256"));
    for trial in at_last.filter(|trial| trial.peer == "l7") {
        trial.counts.unfinished = trial.counts.scheduled / 10;
    }
    let said = plain(&findings(&run).notes);
    assert!(said.contains("calls with l7 at 256 connections, "), "{said}");
    assert!(said.contains("(10.0 %) had no response"), "{said}");
}

/// What the answer states can be looked up in the table.
#[test]
fn the_table_has_the_figures_that_the_answer_rests_on() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    let head = |run: &Run| {
        let table = terminal::table(&run.record, &run.trials, STYLE);
        table.lines().next().unwrap().to_owned()
    };
    assert!(!head(&run).contains("p90"));
    answered_by(&mut run, "It was {change}: {all.latency_p90}.");
    run.record.answer.as_mut().unwrap().figure = Figure::MinShare;
    assert!(head(&run).contains("p90") && head(&run).contains("min share"), "{}", head(&run));
    let page = report::html(&run);
    let table = &page[page.find("id=\"comparison\"").unwrap()..page.find("id=\"charts\"").unwrap()];
    assert!(table.contains("Least busy backend"));
}

/// A client that opens more connections at the stream limit has its calls on several backends.
#[test]
fn connections_that_channels_open_are_no_strays() {
    let mut run = crate::common::swept();
    run.record.load.policy = "round_robin".into();
    for point in &mut run.record.sweep.as_mut().unwrap().points {
        point.load.policy = "round_robin".into();
        point.load.connections = 1;
    }
    let strays = |run: &Run| plain(&findings(run).doubts).contains("placed round robin");
    assert!(strays(&run), "one connection, and calls on several backends");
    run.record.sweep.as_mut().unwrap().key = "channel.max_connections".into();
    assert!(!strays(&run));
}

/// A doubt is about what the answer states; what else is in doubt is marked in the tables.
#[test]
fn a_doubt_that_the_answer_does_not_rest_on_is_a_note() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    run.trials.iter_mut().for_each(|trial| trial.warnings.clear());
    let drift = Warning::DriftWithinTrial { figure: "latency p50".into(), ratio: 2.6 };
    let doubt = |run: &mut Run, name: &str| {
        let own = run.trials.iter_mut().filter(|trial| trial.peer == name);
        own.for_each(|trial| trial.warnings.push(drift.clone()));
    };
    doubt(&mut run, "direct");
    assert!(plain(&findings(&run).doubts).contains("drifted"), "it has no answer of its own");
    answered_by(&mut run, "It was {change}.");
    let Findings { doubts, notes, .. } = findings(&run);
    assert_eq!(doubts, []);
    assert!(plain(&notes).contains("The answer is not about direct."), "{}", plain(&notes));
    doubt(&mut run, "l4");
    let said = plain(&findings(&run).doubts);
    assert!(said.contains("l4 are in doubt. The latency p50 drifted"), "{said}");
    let answer = run.record.answer.as_mut().unwrap();
    answer.figure = Figure::MaxShare;
    answer.less = Some("{l7.max_share} and {l4.max_share}.".parse().unwrap());
    let Findings { doubts, notes, .. } = findings(&run);
    assert_eq!(doubts, []);
    let said = plain(&notes);
    assert!(
        said.contains("drifted") && said.contains("The answer does not use latencies."),
        "{said}"
    );
    assert!(terminal::table(&run.record, &run.trials, STYLE).contains('?'));
}

/// Where connections fall is chance: one trial may put all of them on one backend.
#[test]
fn a_trial_that_was_overloaded_while_others_were_not_is_no_doubt() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    run.trials.iter_mut().for_each(|trial| trial.warnings.clear());
    let drift = Warning::DriftWithinTrial { figure: "latency p50".into(), ratio: 2.6 };
    let of_l4 = |run: &mut Run, at: usize, then: &dyn Fn(&mut TrialRecord)| {
        then(run.trials.iter_mut().filter(|trial| trial.peer == "l4").nth(at).unwrap());
    };
    of_l4(&mut run, 0, &|trial| trial.warnings.push(drift.clone()));
    assert_eq!(findings(&run).doubts, [], "the median is that of the others");
    of_l4(&mut run, 1, &|trial| trial.warnings.push(drift.clone()));
    assert!(plain(&findings(&run).doubts).contains("drifted"));
    for at in 0..2 {
        of_l4(&mut run, at, &|trial| {
            trial.counts.completed_in_window = trial.counts.scheduled / 2;
        });
    }
    assert_eq!(findings(&run).doubts, []);
}

/// In a closed loop, connections that are served sooner bring more calls.
#[test]
fn connections_of_a_closed_loop_bring_unlike_numbers_of_calls() {
    let mut run = crate::common::run();
    crate::common::keep_up(&mut run);
    crate::common::give_calls(&mut run, "l7", "l4");
    run.record.load.connections = 8;
    let strays = |run: &Run| plain(&findings(run).doubts).contains("backend of l4 got");
    let give = |run: &mut Run, calls: [u64; 4]| {
        let trial = run.trials.iter_mut().find(|trial| trial.peer == "l4").unwrap();
        for (backend, calls) in trial.backends.iter_mut().zip(calls) {
            backend.calls = calls;
        }
    };
    give(&mut run, [4_700, 4_100, 3_900, 3_100]);
    assert!(strays(&run));
    run.record.load.mode = measure::record::LoopMode::Closed;
    assert!(!strays(&run));
    give(&mut run, [3_911, 6_101, 3_896, 2_000]);
    assert!(strays(&run), "a connection more than its share");
}
