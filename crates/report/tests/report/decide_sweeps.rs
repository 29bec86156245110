//! What sweeps and searches decide: where something turns, and how much it is.

use crate::common::decided::{decide, finding, situation};
use analysis::decide::Status;
use measure::{folder::Run, record::ZoneRecord};

#[test]
fn connections_turn_where_both_sides_are_told() {
    let mut run = crate::common::swept();
    let decision = decide(std::slice::from_ref(&run));
    let one = situation(&decision, "connection-sweep");
    let sentence = one.finding.sentence.plain();
    // 29 % and 40 % of the calls instead of 25 %.
    assert_eq!(one.finding.status, Status::Conclusive, "{sentence}");
    assert!(
        sentence.contains("share is more than 10 % higher than l7's even at 256"),
        "{sentence}"
    );
    crate::common::keep_repeats(&mut run, 2);
    let decision = decide(&[run]);
    let one = situation(&decision, "connection-sweep");
    assert_eq!(one.finding.status, Status::Inconclusive, "{}", one.finding.sentence.plain());

    // At the last point L4 is as good as L7 by both.
    let mut run = crate::common::swept();
    let l7: Vec<_> = crate::common::trials_of(&run, "l7").cloned().collect();
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l4") {
        if trial.point.as_deref() == Some("256") {
            let same = l7.iter().find(|one| one.repeat == trial.repeat && one.point == trial.point);
            trial.latency = same.unwrap().latency.clone();
            trial.backends = same.unwrap().backends.clone();
        }
    }
    let decision = decide(&[run]);
    let one = situation(&decision, "connection-sweep");
    let sentence = one.finding.sentence.plain();
    assert_eq!(one.finding.status, Status::Conclusive, "{sentence}");
    assert!(
        sentence.contains(
            "l4's p99 is within 10 % of l7's from 256 connections on, and higher up to 16 \
             connections."
        ),
        "{sentence}"
    );
    finding(&decision.answer, "connection-sweep");
    // Each point is a load of its own, with a break-even of its own.
    assert_eq!(decision.runs.len(), 3);
    let even: Vec<&str> = decision.break_even.iter().map(|one| &*one.connections_text).collect();
    assert_eq!(even.len(), 3, "{even:?}");
    assert!(report::decide::html(&decision).contains("connection-sweep"));
}

/// The sweep as one over something else.
fn swept_over(key: &str, scenario: &str, unit: &str) -> Run {
    let mut run = crate::common::named(crate::common::swept(), scenario);
    let mut renamed = Vec::new();
    let sweep = run.record.sweep.as_mut().unwrap();
    sweep.key = key.into();
    for point in &mut sweep.points {
        let value = format!("{}{unit}", point.value);
        renamed.push((point.value.clone(), value.clone()));
        point.value = value;
    }
    for trial in &mut run.trials {
        let at = renamed.iter().find(|(old, _)| Some(old) == trial.point.as_ref());
        trial.point = at.map(|(_, new)| new.clone());
    }
    run
}

#[test]
fn cost_over_payload_and_rate_is_told_point_by_point() {
    let mut run = swept_over("load.payload", "payload-sweep", "KiB");
    let decision = decide(std::slice::from_ref(&run));
    let sentence = situation(&decision, "payload-sweep").finding.sentence.plain();
    assert!(sentence.contains("more than twice as much even there"), "{sentence}");
    // From the second point on L7 costs what L4 does.
    let l4: Vec<_> = crate::common::trials_of(&run, "l4").cloned().collect();
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l7") {
        if trial.point.as_deref() != Some("1KiB") {
            let same = l4.iter().find(|one| one.repeat == trial.repeat && one.point == trial.point);
            trial.processes = same.unwrap().processes.clone();
        }
    }
    let decision = decide(std::slice::from_ref(&run));
    let one = situation(&decision, "payload-sweep");
    let sentence = one.finding.sentence.plain();
    assert_eq!(one.finding.status, Status::Conclusive, "{sentence}");
    assert!(
        sentence.contains("less than twice as much from 16 B on, and more up to 1 B"),
        "{sentence}"
    );
    crate::common::keep_repeats(&mut run, 2);
    let decision = decide(&[run]);
    assert_eq!(situation(&decision, "payload-sweep").finding.status, Status::Inconclusive);

    let mut rates = swept_over("load.rate", "cost-of-l7", "/s");
    let decision = decide(std::slice::from_ref(&rates));
    let one = situation(&decision, "cost-of-l7");
    let sentence = one.finding.sentence.plain();
    assert_eq!(one.finding.status, Status::Conclusive, "{sentence}");
    assert!(
        sentence.contains("more CPU per call than l4's at 1.00/s") && sentence.contains("256/s."),
        "{sentence}"
    );
    // The table of costs is read at the highest rate.
    assert!(decision.costs.unwrap().evidence.point.unwrap().ends_with("256/s"));
    crate::common::keep_repeats(&mut rates, 2);
    let decision = decide(&[rates]);
    assert_eq!(situation(&decision, "cost-of-l7").finding.status, Status::Inconclusive);
}

#[test]
fn what_tls_adds_is_told_of_client_balancer_and_backends_together() {
    let mut run = swept_over("tls", "tls-price", "");
    let sentence = |run: &Run| {
        let decision = decide(std::slice::from_ref(run));
        let one = situation(&decision, "tls-price");
        (one.finding.status, one.finding.sentence.plain())
    };
    let (status, said) = sentence(&run);
    assert_eq!(status, Status::Inconclusive, "nothing was added: {said}");
    for trial in run.trials.iter_mut().filter(|trial| trial.point.as_deref() == Some("256")) {
        for process in &mut trial.processes {
            process.user_ns *= 2;
            process.system_ns *= 2;
        }
    }
    let (status, said) = sentence(&run);
    assert_eq!(status, Status::Conclusive, "{said}");
    assert!(
        said.starts_with("TLS added ") && said.contains("of CPU to each call behind l4"),
        "{said}"
    );
}

#[test]
fn a_search_tells_which_carries_more() {
    let mut run = crate::common::searched();
    let decision = decide(std::slice::from_ref(&run));
    let one = situation(&decision, "saturation");
    let sentence = one.finding.sentence.plain();
    assert_eq!(one.finding.status, Status::Conclusive, "{sentence}");
    assert!(sentence.contains("50 % higher"), "{sentence}");
    // The fixture's search behind L7 ended at the generator.
    assert!(sentence.contains("or more (the generator was late) behind l7"), "{sentence}");
    assert!(decision.runs[0].peers.is_empty(), "figures over all rates mean nothing");
    run.record.search.as_mut().unwrap().results.retain(|result| result.repeat < 2);
    let decision = decide(&[run]);
    assert_eq!(situation(&decision, "saturation").finding.status, Status::Inconclusive);
}

/// A sweep asks for no choice: it opens with its question and says what it found.
#[test]
fn an_answer_without_a_choice_leaves_no_gap_for_one() {
    let decision =
        decide(&[swept_over("load.rate", "cost-of-l7", "/s"), crate::common::searched()]);
    let answers: Vec<String> = decision.answer.iter().map(|one| one.sentence.plain()).collect();
    assert!(
        answers.iter().any(|sentence| sentence.starts_with("How much load each sustains")),
        "{answers:?}"
    );
    assert!(answers.iter().all(|sentence| !sentence.contains(": .")), "{answers:?}");
}

/// What can't be told at some rates stands in a sentence of its own.
#[test]
fn rates_at_which_nothing_can_be_told_are_named() {
    let mut run = swept_over("load.rate", "cost-of-l7", "/s");
    let first = run.trials[0].point.clone();
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l4" && trial.point == first) {
        // Far more in one repeat, and far less in the others.
        for process in &mut trial.processes {
            let factor = if trial.repeat == 0 { 9 } else { 1 };
            process.user_ns = process.user_ns / 3 * factor;
            process.system_ns = process.system_ns / 3 * factor;
        }
    }
    let sentence = situation(&decide(&[run]), "cost-of-l7").finding.sentence.plain();
    let untold = "There is no significant difference between l7's and l4's at 1.00/s.";
    assert!(sentence.contains(untold) && sentence.starts_with("l7's proxy used "), "{sentence}");
}

/// The sweep as one over a fleet, in which `l4` and `l7` are one proxy under two policies.
fn fleet(key: &str, scenario: &str) -> Run {
    let mut run = swept_over(key, scenario, "");
    let named = |name: &mut String| match name.as_str() {
        "l4" => *name = "l7:round_robin".to_owned(),
        "l7" => *name = "l7:least_loaded".to_owned(),
        _ => {}
    };
    run.record.peers.iter_mut().for_each(|peer| named(&mut peer.name));
    run.trials.iter_mut().for_each(|trial| named(&mut trial.peer));
    run
}

#[test]
fn a_fleet_is_told_policy_by_policy_beside_one_balancer() {
    for (key, scenario, many, one) in [
        ("balance.balancers", "many-balancers", "256 balancers", "1 balancer"),
        ("balance.threads", "many-threads", "256 threads", "1 thread"),
    ] {
        let mut run = fleet(key, scenario);
        // With the most of them the one policy waits as long as the other always does.
        let slow: Vec<_> = crate::common::trials_of(&run, "l7:round_robin").cloned().collect();
        for trial in run.trials.iter_mut().filter(|trial| trial.peer == "l7:least_loaded") {
            if trial.point.as_deref() == Some("256") {
                let same = slow
                    .iter()
                    .find(|one| (&one.repeat, &one.point) == (&trial.repeat, &trial.point));
                trial.latency = same.unwrap().latency.clone();
            }
        }
        let decision = decide(std::slice::from_ref(&run));
        let told = situation(&decision, scenario);
        let sentence = told.finding.sentence.plain();
        assert_eq!(told.finding.status, Status::Conclusive, "{sentence}");
        let opening = format!("With {many} instead of {one}, l7:least_loaded's p50 was ");
        assert!(sentence.starts_with(&opening) && sentence.contains(" times"), "{sentence}");
        let kept = "the p50 of l7:round_robin stayed within 10 %.";
        assert!(sentence.ends_with(kept), "{sentence}");
        let details = told.details.plain();
        let best = format!("With {one}, l7:least_loaded's p50 was lowest");
        assert!(
            details.starts_with(&best) && details.contains(&format!("With {many}, ")),
            "{details}"
        );
        assert!(told.choices.is_empty(), "no layer is compared");

        crate::common::keep_repeats(&mut run, 2);
        let decision = decide(std::slice::from_ref(&run));
        let untold = situation(&decision, scenario);
        assert_eq!(untold.finding.status, Status::Inconclusive);
        let sentence = untold.finding.sentence.plain();
        assert!(sentence.contains("changed by more than 10 % is open"), "{sentence}");
        assert!(untold.command.as_ref().unwrap().contains("--repeats 6"));

        // One size alone compares nothing.
        run.trials.retain(|trial| trial.point.as_deref() == Some("1"));
        let decision = decide(&[run]);
        let untold = situation(&decision, scenario);
        assert_eq!(untold.finding.status, Status::NotMeasured);
        let command = format!("cargo run -p loadgen -- --scenario {scenario}");
        assert_eq!(untold.command, Some(command));
    }
}

#[test]
fn ways_to_choose_subsets_are_told_by_how_even_they_come_out() {
    let mut run = fleet("balance.subsetting", "subsets");
    run.trials.retain(|trial| trial.peer == "l7:round_robin");
    run.record.peers.retain(|peer| peer.name == "l7:round_robin");
    let ways = [("1", "random"), ("16", "rocksteadier"), ("256", "deterministic")];
    let way = |value: &str| ways.iter().find(|(point, _)| *point == value).unwrap().1.to_owned();
    for point in &mut run.record.sweep.as_mut().unwrap().points {
        (point.value, point.number) = (way(&point.value), None);
    }
    for trial in &mut run.trials {
        trial.point = trial.point.as_deref().map(way);
    }
    let decision = decide(std::slice::from_ref(&run));
    let told = situation(&decision, "subsets");
    let sentence = told.finding.sentence.plain();
    assert_eq!(told.finding.status, Status::Conclusive, "{sentence}");
    assert!(sentence.starts_with("The most even were deterministic subsets, with 2"), "{sentence}");
    assert!(
        sentence.contains("; with random subsets it got ")
            && sentence.contains("; with rocksteadier subsets it"),
        "{sentence}"
    );
    // All calls went to one of the four.
    assert_eq!(told.details.plain(), "With random subsets, 1 of 4 backends were used.");
    crate::common::keep_repeats(&mut run, 2);
    let untold = decide(&[run]);
    assert_eq!(situation(&untold, "subsets").finding.status, Status::Inconclusive);
}

#[test]
fn calls_that_crossed_zones_are_told_at_each_point() {
    let mut run = fleet("zones.connections.a", "zones");
    for trial in &mut run.trials {
        let calls = trial.backends.iter().map(|backend| backend.calls).collect::<Vec<_>>();
        let all: u64 = calls.iter().sum();
        let crossed = if trial.peer == "l7:round_robin" { all / 2 } else { 0 };
        trial.zones = vec![ZoneRecord {
            id: "a".into(),
            per_backend: calls,
            crossed,
            ..ZoneRecord::default()
        }];
    }
    let decision = decide(std::slice::from_ref(&run));
    let told = situation(&decision, "zones");
    let sentence = told.finding.sentence.plain();
    assert_eq!(told.finding.status, Status::Conclusive, "{sentence}");
    let first = "At client weight 1 in zone a, l7:round_robin sent 50.0 % of the calls across \
                 zones, l7:least_loaded 0 %; at client weight 16 in zone a, l7:round_robin sent \
                 50.0 %, l7:least_loaded 0 %; at client weight 256";
    assert!(sentence.starts_with(first), "{sentence}");
    let busiest = "At client weight 1 in zone a, the busiest backend got 100 % of the calls with ";
    assert!(told.details.plain().starts_with(busiest), "{}", told.details.plain());
    // Its report shows them.
    let page = report::html(&run);
    assert!(page.contains("id=\"zones\"") && page.contains("Crossed"));
    crate::common::keep_repeats(&mut run, 2);
    let untold = decide(&[run]);
    assert_eq!(situation(&untold, "zones").finding.status, Status::Inconclusive);
}
