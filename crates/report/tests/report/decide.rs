//! The decision: each rule speaks where the data supports it, says that it can't tell
//! where it doesn't, and names what has to be run where nothing was measured.

use crate::common::decided::{Results, clear, decide, finding, situation};
use std::{
    fs,
    path::{Path, PathBuf},
};

use analysis::decide::{Choice, Decision, Status, scenarios};
use measure::{
    answer::Answer,
    figure::Figure,
    folder::Run,
    record::{Discovery, Disturbance, FaultRecord, ProcessRole, RunOutcome, TrialRecord},
    warning::Warning,
};
use report::terminal::Style;

/// Situations that are about where something turns: of sweeps and searches.
const TURNS: [&str; 9] = [
    "connection-sweep",
    "payload-sweep",
    "cost-of-l7",
    "tls-price",
    "many-balancers",
    "many-threads",
    "subsets",
    "zones",
    "saturation",
];

/// The others.
fn choices() -> impl Iterator<Item = &'static str> {
    scenarios().filter(|name| !TURNS.contains(name))
}

#[test]
fn every_situation_speaks_where_the_data_does() {
    for scenario in choices() {
        let decision = decide(&[clear(scenario)]);
        let one = situation(&decision, scenario);
        assert_eq!(
            one.finding.status,
            Status::Conclusive,
            "{scenario}: {}",
            one.finding.sentence.plain()
        );
        assert_eq!(one.choices, [Choice::L7], "{scenario}");
        assert!(!one.finding.evidence.is_empty(), "{scenario} links to nothing");
        // The choice is not written down: with what happened exchanged it is the other.
        let mut other = clear(scenario);
        let (l4, l7) = (crate::common::named(other.clone(), scenario), &mut other);
        crate::common::give_calls(l7, "l4", "l7");
        for trial in l7.trials.iter_mut().filter(|trial| trial.peer == "l4") {
            let from =
                crate::common::trials_of(&l4, "l7").find(|one| one.repeat == trial.repeat).unwrap();
            let processes = trial.processes.clone();
            *trial = from.clone();
            trial.peer = "l4".into();
            trial.order += 50;
            trial.processes = processes;
        }
        let decision = decide(&[other]);
        assert_eq!(situation(&decision, scenario).choices, [Choice::L4], "{scenario}");
    }
}

#[test]
fn every_situation_says_when_the_data_cannot_tell() {
    for scenario in choices() {
        let mut few = clear(scenario);
        crate::common::keep_repeats(&mut few, 2);
        let decision = decide(&[few]);
        let one = situation(&decision, scenario);
        assert_eq!(one.finding.status, Status::Inconclusive, "{scenario}");
        assert!(one.choices.is_empty(), "{scenario}");
        let command = one.command.as_deref().unwrap();
        assert!(command.contains(scenario) && command.contains("--repeats 6"), "{command}");
        let first = decision.answer.iter().find(|one| one.id == scenario);
        if let Some(first) = first {
            assert!(
                first.sentence.plain().contains("the data can't tell"),
                "{}",
                first.sentence.plain()
            );
        }
    }
    // Enough repeats, and too different from each other.
    let mut noisy = clear("many-conns");
    let calm = crate::common::trials_of(&noisy, "l7").next().unwrap().clone();
    for trial in noisy.trials.iter_mut().filter(|trial| trial.peer == "l4" && trial.repeat == 0) {
        trial.latency = calm.latency.clone();
    }
    let decision = decide(&[noisy]);
    let one = situation(&decision, "many-conns");
    assert_eq!(one.finding.status, Status::Inconclusive);
    assert!(one.finding.sentence.plain().contains("is open"), "{}", one.finding.sentence.plain());
}

#[test]
fn every_situation_names_the_scenario_that_is_missing() {
    for scenario in scenarios() {
        let decision = decide(&[crate::common::named(crate::common::run(), "something-else")]);
        let one = situation(&decision, scenario);
        assert_eq!((one.finding.status, one.choices.len()), (Status::NotMeasured, 0), "{scenario}");
        let command = format!("cargo run -p loadgen -- --scenario {scenario}");
        assert_eq!(one.command.as_ref(), Some(&command));
        assert!(decision.answer.iter().all(|one| one.id != scenario), "{scenario}");
        if TURNS.contains(&scenario) {
            continue;
        }
        // Run, but without one of the two.
        let mut half = clear(scenario);
        half.trials.retain(|trial| trial.peer != "l4");
        let decision = decide(&[half]);
        let one = situation(&decision, scenario);
        assert_eq!(one.finding.status, Status::NotMeasured, "{scenario}");
        assert!(one.command.as_ref().unwrap().contains("--peers direct,l4,l7,client-dns"));
    }
}

/// Peers of one program with a policy each, whose latencies are those of `l7` or `l4`.
fn with_policies(scenario: &str, policies: &[(&str, &str)]) -> Run {
    let base = clear(scenario);
    let mut run = base.clone();
    run.trials.clear();
    run.record.peers.clear();
    for (policy, like) in policies {
        let mut setup = base.record.peers.iter().find(|peer| peer.name == "l7").unwrap().clone();
        setup.name = format!("l7:{policy}");
        run.record.peers.push(setup);
        for trial in crate::common::trials_of(&base, like) {
            let order = run.trials.len() as u32;
            run.trials.push(TrialRecord { peer: format!("l7:{policy}"), order, ..trial.clone() });
        }
    }
    run
}

#[test]
fn policies_are_told_apart_where_a_run_compares_them() {
    for scenario in ["slow-backend", "elephants-and-mice", "mine"] {
        let policies = [("round_robin", "l4"), ("p2c", "l7"), ("least_loaded", "l7")];
        let run = with_policies(scenario, &policies);
        let decision = decide(std::slice::from_ref(&run));
        let one = situation(&decision, scenario);
        let sentence = one.finding.sentence.plain();
        assert_eq!(one.finding.status, Status::Conclusive, "{scenario}: {sentence}");
        assert!(
            sentence.starts_with("l7:p2c's p9") && sentence.contains("was lowest"),
            "{sentence}"
        );
        assert!(sentence.contains("l7:round_robin's") && sentence.contains("times"), "{sentence}");
        assert!(sentence.contains("within 10 % of it: l7:least_loaded"), "{sentence}");
        assert!(one.choices.is_empty(), "no layer is compared");
        assert_eq!(one.chosen().as_deref(), Some("p2c or least_loaded"));
        let mut few = run;
        crate::common::keep_repeats(&mut few, 2);
        let decision = decide(&[few]);
        let one = situation(&decision, scenario);
        assert_eq!((one.finding.status, one.chosen()), (Status::Inconclusive, None));
    }
}

#[test]
fn where_tails_are_alike_the_cheaper_one_is_right() {
    let mut alike = clear("many-conns");
    crate::common::give_calls(&mut alike, "l7", "l4");
    let decision = decide(&[alike.clone()]);
    let one = situation(&decision, "many-conns");
    assert_eq!(one.choices, [Choice::L4]);
    assert!(one.finding.sentence.plain().contains("within 10 % of each other"));
    assert!(one.reason.plain().contains("more CPU per call"));
    // With proxies that cost the same, either is right.
    let costs: Vec<_> =
        crate::common::trials_of(&alike, "l4").map(|one| one.processes.clone()).collect();
    for trial in alike.trials.iter_mut().filter(|trial| trial.peer == "l7") {
        trial.processes = costs[trial.repeat as usize].clone();
    }
    assert_eq!(situation(&decide(&[alike]), "many-conns").choices, [Choice::L4, Choice::L7]);
}

#[test]
fn a_client_that_does_as_well_is_right_too_and_its_cost_is_told() {
    let mut run = clear("single-conn-flood");
    crate::common::add_client(&mut run);
    let decision = decide(&[run.clone()]);
    let one = situation(&decision, "single-conn-flood");
    assert_eq!(one.choices, [Choice::L7, Choice::ClientDns]);
    let costs = decision.costs.unwrap();
    let client = finding(&costs.findings, "cost-of-client");
    assert_eq!(client.status, Status::Conclusive, "{}", client.sentence.plain());
    assert!(client.sentence.plain().contains("more CPU per call"), "{}", client.sentence.plain());
    let row = costs.rows.iter().find(|row| row.peer == "client-dns").unwrap();
    // A tenth of the generator's 23.3 µs.
    assert!((2_000.0..2_700.0).contains(&row.cpu_per_call_ns.unwrap().value) && row.is_clients);

    crate::common::keep_repeats(&mut run, 1);
    let costs = decide(&[run.clone()]).costs.unwrap();
    assert_eq!(finding(&costs.findings, "cost-of-client").status, Status::Inconclusive);
    run.trials.retain(|trial| trial.peer != "direct");
    let costs = decide(&[run]).costs.unwrap();
    let client = finding(&costs.findings, "cost-of-client");
    assert_eq!(client.status, Status::NotMeasured);
    assert!(client.sentence.plain().contains("--peers direct,l4,l7,client-dns"));
}

#[test]
fn changes_of_which_nothing_can_be_told_share_a_sentence() {
    let mut run = clear("rolling-restart");
    for trial in &mut run.trials {
        // Four faults within a tenth of a second leave none of the first three time to settle.
        let first = trial.faults[0].clone();
        trial.faults = (0..4)
            .map(|index| {
                let at = 0.2 + 0.02 * f64::from(index);
                FaultRecord { planned_s: at, done_s: at, seen: true, ..first.clone() }
            })
            .collect();
    }
    let one = decide(&[run]);
    let sentence = situation(&one, "rolling-restart");
    let sentence = format!("{}{}", sentence.finding.sentence.plain(), sentence.details.plain());
    assert_eq!(sentence.matches("balanced").count(), 2, "{sentence}");
    assert!(sentence.contains("balanced after the 3 other changes is unknown"), "{sentence}");
}

#[test]
fn a_question_needs_no_other_mark() {
    // Of a scenario that the page does not know, the question stands for the situation.
    let results = Results::of(&[clear("mine")]);
    let decision = results.decide();
    let page = report::decide::html(&decision);
    let question = &situation(&decision, "mine").when;
    assert!(question.ends_with('?') && page.contains(&format!("<b>{question} </b>")), "{question}");
    let text = report::decide::text(&decision, Style { colour: false, width: 400 });
    assert!(text.contains(question) && !text.contains("?:") && !text.contains("?."), "{text}");
}

#[test]
fn a_client_that_loses_calls_is_not_right() {
    let mut run = clear("backend-crash");
    crate::common::add_client(&mut run);
    crate::common::lose(&mut run, "client-dns", 0.1);
    let decision = decide(&[run]);
    let one = situation(&decision, "backend-crash");
    assert_eq!(one.choices, [Choice::L7]);
    assert!(
        one.details.plain().contains("client-dns, which resolves a name, did worse"),
        "{}",
        one.details.plain()
    );
}

#[test]
fn clients_are_told_apart_by_how_they_learn_of_backends() {
    let mut run = clear("scale-out");
    crate::common::add_client(&mut run);
    let decision = decide(&[run.clone()]);
    let command = situation(&decision, "scale-out").command.as_ref().unwrap();
    assert!(command.contains("--peers direct,l4,l7,client-dns,client-lookaside"), "{command}");
    crate::common::add_client_who(&mut run, "client-lookaside", Discovery::Lookaside);
    crate::common::lose(&mut run, "client-dns", 0.1);
    let decision = decide(&[run]);
    let one = situation(&decision, "scale-out");
    assert_eq!(one.choices, [Choice::L7, Choice::ClientLookaside]);
    assert_eq!(one.command, None);
    let sentence = one.details.plain();
    assert!(sentence.contains("client-dns, which resolves a name, did worse"), "{sentence}");
    assert!(
        sentence.contains("client-lookaside, which a control plane updates, did as well"),
        "{sentence}"
    );
    let page = report::decide::html(&decision);
    assert!(page.contains("<b>client-dns</b>") && page.contains("<b>client-lookaside</b>"));
}

#[test]
fn nothing_is_compared_across_an_overloaded_peer() {
    let decision = decide(&[crate::common::named(crate::common::run(), "single-conn-flood")]);
    assert!(decision.tails.is_empty() && decision.break_even.is_empty());
    let one = situation(&decision, "single-conn-flood");
    assert_eq!(one.choices, [Choice::L7]);
    let sentence = one.finding.sentence.plain();
    assert!(sentence.contains("l4 was overloaded: offered"), "{sentence}");
    assert!(
        !sentence.contains("times lower") && !one.details.plain().contains("CPU"),
        "{sentence}"
    );
    let costs = decision.costs.unwrap();
    assert_eq!(finding(&costs.findings, "l7-beside-l4").status, Status::NotMeasured);
    assert!(costs.rows.iter().find(|row| row.peer == "l4").unwrap().cpu_per_call_ns.is_none());
}

/// The page carries all that the calculator answers from, and only where it was simulated.
#[test]
fn a_calculator_is_on_the_page_where_one_was_simulated() {
    let mut decision = decide(&[clear("single-conn-flood")]);
    assert!(!report::decide::html(&decision).contains("id=\"what-if\""));
    decision.calculator = Some(crate::common::calculator());
    let page = report::decide::html(&decision);
    for said in ["id=\"what-if\"", "Simulated, not measured", "&quot;busiest&quot;", "<noscript>"] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn cost_is_told_in_cores() {
    let decision = decide(&[clear("cost-of-l7"), clear("many-conns")]);
    let costs = decision.costs.unwrap();
    assert_eq!(costs.evidence.scenario, "cost-of-l7");
    let cost = finding(&costs.findings, "l7-beside-l4");
    assert_eq!(cost.status, Status::Conclusive);
    // 14.2 µs against 2.25 µs.
    let difference = costs.rows.iter().find(|row| row.peer == "l7").unwrap().cpu_per_call_ns;
    assert!((13_000.0..15_500.0).contains(&difference.unwrap().value));
    assert!(cost.sentence.plain().contains("cores"), "{}", cost.sentence.plain());

    let mut few = clear("cost-of-l7");
    crate::common::keep_repeats(&mut few, 1);
    let costs = decide(&[few.clone()]).costs.unwrap();
    assert_eq!(finding(&costs.findings, "l7-beside-l4").status, Status::Inconclusive);
    few.trials.retain(|trial| trial.peer != "l4");
    let costs = decide(&[few]).costs.unwrap();
    assert_eq!(finding(&costs.findings, "l7-beside-l4").status, Status::NotMeasured);
    let mut bare = clear("cost-of-l7");
    bare.trials.retain(|trial| trial.peer == "direct");
    assert!(decide(&[bare]).costs.is_none());
}

#[test]
fn what_a_core_carries_is_told_where_the_proxy_was_held_to_a_part_of_one() {
    let mut capacity = clear("capacity");
    capacity.record.proxy_quota = Some(0.05);
    let decision = decide(&[clear("cost-of-l7"), capacity]);
    let costs = decision.costs.as_ref().unwrap();
    assert_eq!(costs.evidence.scenario, "capacity");
    let carried = costs.rows.iter().find(|row| row.peer == "l7").unwrap().calls_per_core.unwrap();
    // A second over 14.2 µs.
    assert!((64_000.0..77_000.0).contains(&carried.value), "{carried:?}");
    let said = format!("where one core handles {}", measure::format::rate(carried.value));
    assert!(report::decide::html(&decision).contains(&said), "{said}");

    let decision = decide(&[clear("cost-of-l7")]);
    let rows = &decision.costs.as_ref().unwrap().rows;
    assert!(rows.iter().all(|row| row.calls_per_core.is_none()), "it had more than it could use");
    assert!(!report::decide::html(&decision).contains("one core handles"));
}

#[test]
fn the_cheapest_proxy_is_named_where_it_can_be_told() {
    let mut run = clear("cost-of-l7");
    let mut other = run.record.peers.iter().find(|peer| peer.name == "l7").unwrap().clone();
    other.name = "other-l7".into();
    run.record.peers.push(other);
    let mut trials: Vec<_> = crate::common::trials_of(&run, "l7").cloned().collect();
    for trial in &mut trials {
        trial.peer = "other-l7".into();
        trial.order += 100;
        for process in &mut trial.processes {
            process.user_ns *= 3;
            process.system_ns *= 3;
        }
    }
    run.trials.extend(trials);
    let costs = decide(&[run.clone()]).costs.unwrap();
    let cost = finding(&costs.findings, "cheapest-l7");
    assert_eq!(cost.status, Status::Conclusive);
    let text = cost.sentence.plain();
    assert!(text.starts_with("Of the L7 proxies l7 used the least"), "{text}");
    assert!(text.contains("other-l7 used 3.00 times"), "{text}");
    crate::common::keep_repeats(&mut run, 1);
    let costs = decide(&[run]).costs.unwrap();
    assert_eq!(finding(&costs.findings, "cheapest-l7").status, Status::Inconclusive);
    // One proxy alone is the cheapest of nothing.
    assert!(costs.findings.iter().all(|one| one.id != "cheapest-l4"));
}

#[test]
fn the_break_even_is_what_the_formula_says() {
    let run = clear("single-conn-flood");
    let decision = decide(std::slice::from_ref(&run));
    let one = &decision.break_even[0];
    assert_eq!(one.finding.status, Status::Conclusive, "{}", one.finding.sentence.plain());
    // One of four backends has everything: 4 · (1 − 0.25) of what the calls need.
    assert!((one.provisioned.unwrap().value - 4.0).abs() < 1e-9);
    assert!((one.wasted.unwrap().value - 3.0).abs() < 0.01);
    let cpu = |peer: &str| {
        let trials = crate::common::trials_of(&run, peer);
        let mut each: Vec<f64> = trials
            .map(|trial| {
                let proxy = trial.processes.iter().find(|one| one.role == ProcessRole::Proxy);
                let proxy = proxy.unwrap();
                (proxy.user_ns + proxy.system_ns) as f64 / trial.counts.completed_in_window as f64
            })
            .collect();
        each.sort_by(f64::total_cmp);
        each[1]
    };
    let expected = (cpu("l7") - cpu("l4")) / 3.0;
    let even = one.service_time_ns.unwrap();
    assert!((even.value / expected - 1.0).abs() < 0.05, "{even:?} {expected}");
    let (low, high) = even.interval.unwrap();
    assert!(low < even.value && even.value < high);
    // The fixture's backends spend 26 µs on answering: more than that.
    assert!(one.finding.sentence.plain().contains("it pays off with any service"));
    finding(&decision.answer, "break-even-single-conn-flood");

    let mut alike = run.clone();
    crate::common::give_calls(&mut alike, "l7", "l4");
    let decision = decide(&[alike]);
    assert_eq!(decision.break_even[0].finding.status, Status::Inconclusive);
    assert!(decision.break_even[0].service_time_ns.is_none());

    // L7 for less: nothing to earn back.
    let mut cheap = run.clone();
    for trial in cheap.trials.iter_mut().filter(|trial| trial.peer == "l7") {
        for process in trial.processes.iter_mut().filter(|one| one.role == ProcessRole::Proxy) {
            process.user_ns /= 40;
            process.system_ns /= 40;
        }
    }
    let decision = decide(&[cheap]);
    let sentence = decision.break_even[0].finding.sentence.plain();
    assert!(sentence.contains("no extra cost to recover"), "{sentence}");
    assert!(decision.break_even[0].service_time_ns.is_none());

    // The formula is of backends that are alike and stay.
    assert!(decide(&[clear("backend-crash")]).break_even.is_empty());
    let mut uneven = run;
    uneven.record.backends[0].speed = 0.2;
    assert!(decide(&[uneven]).break_even.is_empty());
}

#[test]
fn only_runs_that_can_be_trusted_are_used_and_the_others_are_named() {
    let results = Results::of(&[]);
    let mut old = clear("single-conn-flood");
    old.record.started_utc = "2026-01-01T00:00:00Z".into();
    let mut short = clear("single-conn-flood");
    short.record.started_utc = "2026-02-01T00:00:00Z".into();
    short.record.overrides.push("--short".into());
    let mut stopped = clear("single-conn-flood");
    stopped.record.started_utc = "2026-02-02T00:00:00Z".into();
    stopped.record.outcome = RunOutcome::Interrupted;
    let mut doubtful = clear("single-conn-flood");
    doubtful.record.started_utc = "2026-02-03T00:00:00Z".into();
    doubtful.record.warnings.push(Warning::HighLoadAverage { load_average: 9.0, cpus: 2 });
    let mut elsewhere = clear("many-conns");
    elsewhere.record.started_utc = "2026-01-01T00:00:00Z".into();
    elsewhere.record.environment.cpus = 64;
    let mut set = clear("single-conn-flood");
    set.record.overrides.push("--set balance.policy=p2c".into());
    // What the load average was before does not matter where trials were watched.
    let mut good = clear("single-conn-flood");
    good.record.warnings.push(Warning::HighLoadAverage { load_average: 9.0, cpus: 2 });
    for trial in &mut good.trials {
        trial.disturbance = Some(Disturbance { samples: 300, ..Disturbance::default() });
    }
    for run in [&old, &short, &stopped, &doubtful, &elsewhere, &set, &good] {
        results.add(run);
    }
    let broken = results.add(&clear("few-conns"));
    fs::write(broken.join("trials/000-direct-r0.json"), "{").unwrap();
    let unknown = results.add(&clear("few-conns"));
    fs::write(unknown.join("run.json"), "{\"format\": 99}").unwrap();

    let decision = results.decide();
    let used: Vec<(String, &str)> =
        decision.runs.iter().map(|run| (run.evidence.name(), &*run.started_utc)).collect();
    let plain = &*good.record.started_utc;
    assert_eq!(
        used,
        [
            ("single-conn-flood".to_owned(), plain),
            ("single-conn-flood with balance.policy=p2c".to_owned(), plain),
        ]
    );
    let reason = |part: &str| {
        let found = decision.left_out.iter().filter(|left| left.reason.contains(part));
        found.count()
    };
    for (part, count) in [
        ("older than the run used", 1),
        ("short form", 1),
        ("stopped before its end", 1),
        ("newer than the run used, and in doubt: the machine was busy", 1),
        ("another machine", 1),
        ("000-direct-r0.json", 1),
        ("format version 99", 1),
    ] {
        assert_eq!(reason(part), count, "{part}: {:#?}", decision.left_out);
    }
    let text = report::decide::text(&decision, Style { colour: false, width: 100 });
    for named in ["short form", "another machine", "stopped before its end"] {
        assert!(text.contains(named), "{text}");
        assert!(report::decide::html(&decision).contains(named));
    }
    let one = situation(&decision, "single-conn-flood balance.policy=p2c");
    assert!(one.when.contains("with balance.policy=p2c"));
}

#[test]
fn a_scenario_with_doubtful_runs_only_is_used_and_said_to_be() {
    let mut doubtful = clear("single-conn-flood");
    for trial in &mut doubtful.trials {
        trial.warnings.push(Warning::CpuSaturated { busy: 0.99 });
    }
    let decision = decide(&[doubtful]);
    assert_eq!(decision.runs[0].doubts.len(), 1);
    assert!(decision.answer[0].evidence[0].in_doubt);
    let doubt = decision.doubt().unwrap_or_default();
    assert!(doubt.contains("1 of 1 runs are in doubt"), "{doubt}");
    assert!(report::decide::html(&decision).contains("run in doubt"));
}

#[test]
fn what_is_no_results_folder_is_told_so() {
    let empty = tempfile::tempdir().unwrap();
    let of = |folder: &Path| {
        let page = empty.path().join("decision.html");
        Decision::of(&[folder.to_owned()], &page).unwrap_err().to_string()
    };
    assert!(of(empty.path()).contains("no run in"), "{}", of(empty.path()));
    let nowhere = empty.path().join("nowhere");
    assert!(of(&nowhere).contains("nowhere") && of(&nowhere).contains("give a results folder"));
    let mut short = clear("many-conns");
    short.record.overrides.push("--short".into());
    let results = Results::of(&[short]);
    let message = of(results.0.path());
    assert!(message.contains("none of 1 runs can be used") && message.contains("short form"));
}

#[test]
fn runs_may_be_given_one_by_one() {
    let results = Results::of(&[]);
    let flood = results.add(&clear("single-conn-flood"));
    let many = results.add(&clear("many-conns"));
    results.add(&clear("few-conns"));
    let twice = [flood.clone(), flood, many];
    let decision = Decision::of(&twice, &results.page()).unwrap();
    assert_eq!(decision.runs.len(), 2);
    assert!(decision.left_out.is_empty());
}

/// The values of an attribute in a page.
fn attributes<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let rest = page.split(name).skip(1);
    rest.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn every_link_leads_to_something_that_is_there() {
    let mut flood = clear("single-conn-flood");
    crate::common::add_client(&mut flood);
    let results = Results::of(&[flood, clear("many-conns"), clear("backend-crash")]);
    let written = report::decide::write(&results.decide(), &results.page()).unwrap();
    let page = fs::read_to_string(&written.html).unwrap();
    let links = attributes(&page, "href=\"");
    assert!(links.len() > 20, "{}", links.len());
    for link in links {
        let (file, anchor) = link.split_once('#').unwrap();
        let target = if file.is_empty() {
            page.clone()
        } else {
            fs::read_to_string(results.0.path().join(file)).unwrap()
        };
        assert!(target.contains(&format!("id=\"{anchor}\"")), "{link}");
    }
    assert_eq!(written.pngs.len(), 2);
    for png in &written.pngs {
        assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"), "{}", png.display());
    }
}

#[test]
fn the_list_of_runs_and_the_reports_link_to_the_decision_where_there_is_one() {
    let results = Results::of(&[clear("single-conn-flood"), clear("few-conns")]);
    let run = results.0.path().join("single-conn-flood/20260102T030405Z-1");
    let report = run.join("report.html");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    report::write(&run).unwrap();
    let index = report::index(results.0.path()).unwrap();
    assert!(!read(&report).contains("decision.html") && !read(&index).contains("decision.html"));
    let before = read(&report);
    report::decide::write(&results.decide(), &results.page()).unwrap();
    report::index(results.0.path()).unwrap();
    assert!(read(&report).contains("href=\"../../decision.html\""));
    assert!(read(&index).contains("href=\"decision.html\""));
    // One that is made after it links to it as well, and one elsewhere does not.
    report::write(&run).unwrap();
    assert!(read(&report).contains("href=\"../../decision.html\""));
    fs::remove_file(results.page()).unwrap();
    report::write(&run).unwrap();
    assert_eq!(read(&report), before);
}

#[test]
fn the_page_makes_no_request_and_shows_no_number_that_is_none() {
    let mut flood = clear("single-conn-flood");
    crate::common::add_client(&mut flood);
    let decision = decide(&[flood, clear("backend-crash"), clear("long-streams")]);
    let page = report::decide::html(&decision);
    assert!(page.contains("default-src 'none'") && page.len() < 2_000_000);
    let shown = &page[..page.find("<script>").unwrap()];
    assert!(!shown.contains("NaN") && !shown.contains("inf"), "a number that is none");
    let markup = &shown[shown.rfind("</style>").unwrap()..];
    for forbidden in ["src=", "http:", "https:", "<link", "<iframe", "url("] {
        assert!(!markup.contains(forbidden), "{forbidden}");
    }
    for link in attributes(markup, "href=\"") {
        assert!(link.starts_with("./") || link.starts_with('#'), "{link}");
    }
    for label in attributes(markup, "aria-label=\"").iter().filter(|label| label.len() > 60) {
        assert!(label.contains("l7") && label.chars().any(|c| c.is_ascii_digit()), "{label}");
    }
}

#[test]
fn no_name_becomes_markup_and_no_line_is_too_wide() {
    const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&<!--";
    let mut run = clear("mine");
    run.record.question = HOSTILE.into();
    run.record.environment.cpu_model = HOSTILE.into();
    run.record.overrides.push(format!("--set {HOSTILE}=1"));
    let decision = decide(&[run]);
    let page = report::decide::html(&decision);
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains("<img"));
    for width in [20, 60, 100] {
        let text = report::decide::text(&decision, Style { colour: false, width });
        for line in text.lines() {
            assert!(line.chars().count() <= width, "wider than {width}: {line:?}");
        }
    }
}

#[test]
fn the_json_has_what_the_page_has() {
    let decision = decide(&[clear("single-conn-flood"), clear("many-conns")]);
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["format"], 2);
    assert_eq!(json["answer"][0]["status"], "conclusive");
    assert!(json["answer"][0]["sentence"].as_str().unwrap().contains("L7"));
    assert_eq!(json["situations"][0]["choices"][0], "l7");
    let folder = json["answer"][0]["evidence"][0]["folder"].as_str().unwrap();
    assert_eq!(folder, "single-conn-flood/20260102T030405Z-1");
    let keys = json.as_object().unwrap();
    let schema = serde_json::to_value(schemars::schema_for!(Decision)).unwrap();
    for key in keys.keys() {
        assert!(schema["properties"][key].is_object(), "{key} is not in the schema");
    }
}

/// Something that happens to the files of trials, and what is said of it.
type Damage = (&'static str, fn(&Path));

/// Whoever reads a run reads all of it, or none.
#[test]
fn a_run_that_is_not_whole_is_refused_and_the_file_named() {
    let damages: [Damage; 4] = [
        ("no file of trial 001", |trials| fs::remove_file(first_of(trials, "001")).unwrap()),
        ("both are trial 1", |trials| {
            let copied = fs::copy(first_of(trials, "001"), trials.join("001 (copy).json"));
            assert!(copied.unwrap() > 0);
        }),
        ("latency_sent: not a whole", |trials| {
            edit(&first_of(trials, "001"), |trial| trial["latency_sent"]["v2"] = "HISTF".into());
        }),
        ("latency of second 0: not a whole", |trials| {
            edit(&first_of(trials, "001"), |trial| {
                let latency = &mut trial["series"][0]["latency"];
                latency["count"] = (latency["count"].as_u64().unwrap() + 1).into();
            });
        }),
    ];
    let results = Results::of(&[clear("few-conns")]);
    for (expected, damage) in damages {
        let broken = results.add(&clear("many-conns"));
        Run::open(&broken).unwrap();
        damage(&broken.join("trials"));
        let error = report::write(&broken).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("trials"), "{error}");
    }
    let decision = results.decide();
    assert_eq!(decision.runs.len(), 1, "that of few-conns");
    for (expected, _) in damages {
        let is_named = decision.left_out.iter().any(|left| left.reason.contains(expected));
        assert!(is_named, "{expected}: {:?}", decision.left_out);
    }
    // The last one is missed too, since the run says how many there were.
    let results = Results::of(&[]);
    let mut run = clear("few-conns");
    run.record.trials = u32::try_from(run.trials.len()).ok();
    let folder = results.add(&run);
    let last = format!("{:03}", run.trials.len() - 1);
    fs::remove_file(first_of(&folder.join("trials"), &last)).unwrap();
    let error = report::write(&folder).unwrap_err().to_string();
    assert!(error.contains(&format!("no file of trial {last}")), "{error}");
}

fn first_of(trials: &Path, order: &str) -> PathBuf {
    let files = fs::read_dir(trials).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(order);
    files.into_iter().find(is_it).unwrap()
}

fn edit(file: &Path, change: fn(&mut serde_json::Value)) {
    let mut json = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

/// A scenario that compares no layers is told by its own answer, and decides between none.
#[test]
fn what_is_no_choice_between_layers_is_told_aside() {
    let mut run = with_policies("failing-backend", &[("round_robin", "l4"), ("p2c", "l7")]);
    run.record.answer = Some(Answer {
        figure: Figure::ErrorRate,
        peers: ["l7:p2c".into(), "l7:round_robin".into()],
        at: None,
        less: None,
        greater: None,
        alike: None,
        overloaded: None,
        always: Some("{l7:p2c.lost} failed.".parse().unwrap()),
    });
    let results = Results::of(&[clear("many-conns"), run]);
    let decision = results.decide();
    let one = situation(&decision, "failing-backend");
    assert!(one.is_aside && one.choices.is_empty());
    assert!(one.finding.sentence.plain().ends_with(" failed."), "{}", one.finding.sentence.plain());
    let page = report::decide::html(&decision);
    let first = &page[..page.find("id=\"choices\"").unwrap()];
    assert!(!first.contains("says-failing-backend") && first.contains("says-many-conns"));
    assert!(page.contains("id=\"asides\""));
}

/// What a proxy does with a part of a core is no load that a tail is read from.
#[test]
fn a_proxy_that_is_held_to_a_part_of_a_core_has_no_tail_to_compare() {
    let mut run = clear("capacity");
    assert!(!decide(&[run.clone()]).tails.is_empty());
    run.record.proxy_quota = Some(0.05);
    let decision = decide(&[run]);
    assert!(decision.tails.is_empty() && decision.break_even.is_empty());
    assert!(decision.costs.is_some(), "its CPU is what is asked for");
}

/// A scatter compares what did the same work.
#[test]
fn the_scatter_leaves_out_who_was_overloaded_and_names_them() {
    let mut run = crate::common::named(crate::common::run(), "single-conn-flood");
    crate::common::add_client_who(&mut run, "client-dns", Discovery::Dns);
    let page = report::decide::html(&decide(&[run]));
    let from = page.find("What tail latency costs").unwrap();
    let picture = &page[from..from + page[from..].find("</figure>").unwrap()];
    let has = |peer: &str| picture.contains(&format!("data-peer=\"{peer}\""));
    assert!(has("l7") && has("client-dns"));
    assert!(!has("l4") && !has("direct"));
    assert!(picture.contains("overloaded: direct and l4"), "{picture}");
}
