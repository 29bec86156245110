//! The command from outside: what it prints, keeps and exits with.

use std::{fs, path::Path};

use crate::common::{Home, SMALL};

#[test]
fn a_scenario_runs_to_its_report() {
    let home = Home::new();
    let ran = home.run(&["--scenario", "small"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    for peer in ["direct", "l4", "l7"] {
        assert!(ran.stderr.contains(&format!("{peer}, repeat 1: 120 calls")), "{}", ran.said());
    }
    assert!(ran.stdout.contains("expected 3 of 3 claims hold"), "{}", ran.said());
    assert!(!ran.stdout.contains('\x1b'), "colours in a pipe");

    let runs = home.runs("small");
    assert_eq!(runs.len(), 1);
    let run = measure::folder::Run::open(&runs[0]).unwrap();
    assert_eq!(run.trials.len(), 3);
    assert_eq!(run.record.outcome, measure::record::RunOutcome::Complete);
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, 120, "{}", trial.peer);
        assert_eq!(trial.backends.iter().map(|backend| backend.calls).sum::<u64>(), 120);
        let roles: Vec<_> = trial.processes.iter().map(|process| process.name.as_str()).collect();
        assert!(roles.contains(&"generator") && roles.contains(&"b0"), "{roles:?}");
        assert_eq!(roles.contains(&trial.peer.as_str()), trial.peer != "direct", "{roles:?}");
    }
    let command = &run.record.peers[1].command;
    assert_eq!(command[..2], ["loadgen", "l4-proxy"], "a record names no path of a machine");
    assert!(command.iter().any(|word| word == "--policy"));
    assert_eq!(fs::read_to_string(runs[0].join("scenario.toml")).unwrap(), SMALL);
    assert!(runs[0].join("report.html").is_file());
    assert!(runs[0].join("charts/shares.png").is_file());
    let index = fs::read_to_string(home.path("results/index.html")).unwrap();
    assert!(index.contains("Does the lab work?") || index.contains("small"), "{index}");
    assert!(home.left_behind().is_empty());
}

/// Measured, predicted at another rate, and measured again.
#[test]
fn a_prediction_is_sealed_before_it_is_measured() {
    let home = Home::new();
    let measured = home.run(&["--scenario", "small", "--repeats", "2"]);
    assert_eq!(measured.code, Some(0), "{}", measured.said());
    let like = home.runs("small").remove(0);
    let predict = |more: &[&str]| {
        let flags = ["predict", "--scenario", "small", "--seeds", "4", "--like"];
        home.run(&[&flags[..], &[like.to_str().unwrap()], more].concat())
    };
    let ran = predict(&["--repeats", "2", "--peers", "l4,l7:p2c"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    for said in ["predicted", "latency_p99", "figures within the calibration", "extrapolated"] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.said());
    }
    let runs = home.runs("small");
    let folder = runs.iter().find(|folder| folder.join("predictions.json").is_file()).unwrap();
    let run = measure::folder::Run::open(folder).unwrap();
    let sealed = run.record.predictions.unwrap();
    assert!(run.trials.iter().all(|trial| trial.started_utc >= sealed.sealed_utc));
    assert_eq!(sealed.predictions.points.len(), 2);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("Predicted before measuring") && page.contains(&sealed.sha256));

    let none = predict(&["--set", "backends.command=[\"sh\"]"]);
    assert_eq!(none.code, Some(2), "{}", none.said());
    assert!(home.left_behind().is_empty());
}

#[test]
fn the_client_can_balance_by_itself() {
    let home = Home::new();
    let arguments = ["--scenario", "small", "--peers", "client-lookaside,l4", "--json"];
    let ran = home.run(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let peer = &summary["peers"][0];
    assert_eq!(peer["peer"], "client-lookaside");
    assert_eq!(peer["calls_per_backend"], serde_json::json!([60, 60]));
    // The claims about l7 say nothing, and are no failure.
    let verdicts: Vec<&str> = summary["expectations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["held", "not_judged", "not_judged"]);
}

#[test]
fn every_kind_of_call_comes_back_through_every_peer() {
    let home = Home::new();
    for call in ["server_stream", "client_stream", "bidi"] {
        let call = format!("load.call={call}");
        let arguments = ["--scenario", "small", "--set", &call, "--set", "load.messages=3"];
        let ran = home.run(&arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        for peer in ["direct", "l4", "l7"] {
            assert!(ran.stderr.contains(&format!("{peer}, repeat 1: 120 calls")), "{}", ran.said());
        }
    }
}

/// The two clients share no code below the schedule and the call log.
#[test]
fn both_clients_measure_the_same() {
    let home = Home::new();
    // A service time that can't be missed, and the same in every call.
    let text = SMALL.replace("count = 2", "count = 2\nservice_time = \"constant:20ms\"");
    home.scenario("small", &text);
    let trial = |client: &str| {
        let client = format!("load.client={client}");
        let ran = home.run(&["--scenario", "small", "--peers", "l7", "--set", &client]);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        let folder = home.runs("small").pop().unwrap();
        measure::folder::Run::open(&folder).unwrap().trials.remove(0)
    };
    let (wire, tonic) = (trial("wire"), trial("tonic"));
    assert_eq!(wire.counts.scheduled, tonic.counts.scheduled);
    assert_eq!(wire.counts.ok, tonic.counts.ok);
    assert_eq!(wire.service, tonic.service, "every call was in service for 20 ms");
    for trial in [wire, tonic] {
        let (b0, b1) = (trial.backends[0].calls, trial.backends[1].calls);
        assert!(b0.abs_diff(b1) <= 2 && b0 + b1 == 120, "{b0} and {b1}");
        assert!(trial.latency.min >= 20_000_000, "no call is faster than its service");
        assert!(trial.latency_sent.min >= 20_000_000);
    }
}

#[test]
fn what_happens_to_backends_is_seen_and_recorded() {
    let home = Home::new();
    let faults = "[[fault]]\nat = \"20%\"\naction = \"kill\"\nbackend = 1\n\
                  [[fault]]\nat = \"40%\"\naction = \"start\"\nbackend = 1\n\
                  [[fault]]\nat = \"60%\"\naction = \"stop\"\nbackend = 0\n\
                  [[fault]]\nat = \"80%\"\naction = \"continue\"\nbackend = 0\n";
    // A busy machine has a second for each of them.
    let text = SMALL.replace("300ms", "5s").replace("l7.error_rate == 0%", "l7.error_rate < 50%");
    let text = text.replace("l7.spread_calls <= 2", "l7.unfinished_rate == 0%");
    home.scenario("small", &format!("{text}{faults}"));
    let ran = home.run(&["--scenario", "small", "--peers", "l7"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    let seen: Vec<(&str, &str, bool)> = run.trials[0]
        .faults
        .iter()
        .map(|fault| (fault.action.as_str(), fault.backend.as_str(), fault.seen))
        .collect();
    let expected = [
        ("kill", "b1", true),
        ("start", "b1", true),
        ("stop", "b0", true),
        ("continue", "b0", true),
    ];
    assert_eq!(seen, expected);
    assert!(home.left_behind().is_empty());
}

/// A trial of `small` with these settings of its own, over one peer.
fn trial_of(home: &Home, text: &str, arguments: &[&str]) -> measure::record::TrialRecord {
    home.scenario("small", text);
    let ran = home.run(&[&["--scenario", "small"], arguments].concat());
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    let folder = home.runs("small").pop().unwrap();
    measure::folder::Run::open(&folder).unwrap().trials.remove(0)
}

#[test]
fn a_backend_is_slowed_down_and_says_so() {
    let home = Home::new();
    let faults = "[[fault]]\nat = \"20%\"\naction = \"slow_down\"\nbackend = 0\nfactor = 4\n\
                  [[fault]]\nat = \"60%\"\naction = \"speed_up\"\nbackend = 0\nfactor = 8\n";
    let text = SMALL.replace("300ms", "4s");
    let text = text.replace("count = 2", "count = 2\nservice_time = \"constant:4ms\"");
    let trial = trial_of(&home, &format!("{text}{faults}"), &["--peers", "l7"]);
    assert!(trial.faults.len() == 2 && trial.faults.iter().all(|fault| fault.seen));
    assert_eq!(trial.faults[0].action, "slow_down");
    // Backends report how long each call was in service.
    let service = trial.service.to_histogram().unwrap();
    let near = |value: u64, wanted: u64| value.abs_diff(wanted) <= wanted / 500;
    assert!(near(service.max(), 16_000_000), "{}", service.max());
    assert!(near(service.min(), 2_000_000), "{}", service.min());
}

#[test]
fn a_backend_joins_and_clients_hear_of_it() {
    let home = Home::new();
    let faults = "[[fault]]\nat = \"20%\"\naction = \"add\"\nbackend = 1\n\
                  [[fault]]\nat = \"40%\"\naction = \"remove\"\nbackend = 0\n";
    // Most of the trial is left for a busy machine to get round to both.
    let text = format!("{}{faults}", SMALL.replace("300ms", "4s"));
    for client in ["wire", "tonic"] {
        let client = format!("load.client={client}");
        let of_peer = |peer| trial_of(&home, &text, &["--peers", peer, "--set", &client]);
        // It balances calls over those there are: one, two, the other one.
        let trial = of_peer("client-lookaside");
        assert!(trial.faults.len() == 2 && trial.faults.iter().all(|fault| fault.seen));
        assert_eq!(trial.counts.ok, trial.counts.scheduled, "{:?}", trial.counts);
        assert!(trial.backends.iter().all(|backend| backend.calls > 0), "{client}");
        // A connection that is open notices nothing.
        let trial = of_peer("direct");
        assert!(trial.faults.iter().all(|fault| fault.seen));
        assert_eq!(trial.counts.ok, trial.counts.scheduled, "{:?}", trial.counts);
        assert_eq!(trial.backends[1].calls, 0, "{client}");
    }
}

#[test]
fn connections_end_after_their_calls_and_lose_none() {
    let home = Home::new();
    let text = SMALL.replace("connections = 2", "connections = 1\nconnection_calls = 3");
    for client in ["wire", "tonic"] {
        let client = format!("load.client={client}");
        for peer in ["direct", "client-lookaside", "l4", "l7"] {
            let trial = trial_of(&home, &text, &["--peers", peer, "--set", &client]);
            let counts = &trial.counts;
            assert_eq!(counts.ok, counts.scheduled, "{peer} with {client}: {counts:?}");
            // Each connection is a new choice: one alone would find one backend.
            assert!(trial.backends.iter().all(|backend| backend.calls > 0), "{peer} {client}");
        }
    }
}

#[test]
fn one_proxy_can_be_compared_under_several_policies() {
    let home = Home::new();
    let claims = SMALL.replace("l7.spread_calls <= 2", "l7:least_loaded.backends_used == 2");
    home.scenario("small", &claims);
    let ran =
        home.run(&["--scenario", "small", "--peers", "l7,l7:least_loaded,client-lookaside:p2c"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    let policy = |peer: usize| {
        let command = &run.record.peers[peer].command;
        let at = command.iter().position(|word| word == "--policy").unwrap();
        command[at + 1].clone()
    };
    assert_eq!((policy(0), policy(1)), ("round_robin".to_owned(), "least_loaded".to_owned()));
    assert_eq!(run.trials[2].peer, "client-lookaside:p2c");
    // A colon is none of a file name's characters everywhere.
    let ran = home.run(&["export", home.runs("small")[0].to_str().unwrap()]);
    let names: Vec<&str> = ran.stdout.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert!(names.contains(&"001-l7-least_loaded-r0.csv"), "{}", ran.said());
    assert!(!names.iter().any(|name| name.contains(':')), "{}", ran.said());
    let ran = home.run(&["--scenario", "small", "--peers", "direct:p2c"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("picks nothing"), "{}", ran.said());
}

#[test]
fn a_closed_loop_of_a_number_of_calls_makes_that_many() {
    let home = Home::new();
    let open = "loop = \"open\"\n";
    let closed =
        SMALL.replace(open, "loop = \"closed\"\n").replace("arrivals = \"constant\"\n", "");
    let closed =
        closed.replace("rate = \"400/s\"\n", "").replace("duration = \"300ms\"", "calls = 90");
    home.scenario("closed", &closed);
    let ran = home.run(&["--scenario", "closed", "--peers", "l7"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stderr.contains("l7, repeat 1: 90 calls"), "{}", ran.said());
}

#[test]
fn a_peer_without_a_call_that_succeeds_is_not_measured() {
    let home = Home::new();
    let (without_claims, _) = SMALL.split_once("[expect]").unwrap();
    // A proxy that answers the probe, and then loses its only backend for good.
    let gone = "[[fault]]\nat = \"0%\"\naction = \"kill\"\nbackend = 0\n";
    let text = without_claims.replace("count = 2", "count = 1").replace("50ms", "0s");
    let slow = text.replace("count = 1", "count = 1\nservice_time = \"constant:250ms\"");
    home.scenario("small", &format!("{slow}{gone}"));
    let ran = home.run(&["--scenario", "small", "--peers", "l7"]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(
        ran.stderr.contains("not measured: l7, repeat 1: all 120 calls failed"),
        "{}",
        ran.said()
    );
}

#[test]
fn nothing_is_sent_before_its_time_and_nothing_recorded_too_short() {
    let home = Home::new();
    let open = SMALL
        .replace("count = 2", "count = 2\nservice_time = \"constant:30ms\"")
        .replace("warm_up = \"50ms\"", "warm_up = \"0s\"");
    let closed = open
        .replace("loop = \"open\"", "loop = \"closed\"")
        .replace("arrivals = \"constant\"\n", "")
        .replace("rate = \"400/s\"\n", "");
    for text in [open, closed] {
        for client in ["load.client=wire", "load.client=tonic"] {
            let trial = trial_of(&home, &text, &["--peers", "direct", "--set", client]);
            assert!(trial.counts.ok > 0);
            // A histogram's smallest value is at most one part in a thousand below.
            let least = 30_000_000 - 30_000;
            for (name, histogram) in [("due", &trial.latency), ("sent", &trial.latency_sent)] {
                assert!(histogram.min >= least, "{client}: {} since {name}", histogram.min);
            }
        }
    }
}

#[test]
fn calls_may_take_longer_than_a_probe_usually_waits() {
    let home = Home::new();
    let text = SMALL
        .replace("count = 2", "count = 1\nconcurrency = 200\nservice_time = \"constant:4500ms\"")
        .replace("streams = 16", "streams = 200");
    let trial = trial_of(&home, &text, &["--peers", "l7"]);
    assert_eq!(trial.outcome, measure::record::TrialOutcome::Complete);
    assert_eq!(trial.counts.ok, 120, "{:?}", trial.counts);
    // Reported times beyond 4.29 s are kept whole.
    assert!(trial.service.min >= 4_495_000_000);
}

#[test]
fn a_report_is_made_again_from_the_folder_alone() {
    let home = Home::new();
    assert_eq!(home.run(&["--scenario", "small", "--peers", "l4,l7"]).code, Some(0));
    let first = home.runs("small").remove(0);
    // Somewhere else, without scenarios, as on another machine.
    let elsewhere = home.path("elsewhere");
    fs::rename(&first, &elsewhere).unwrap();
    let report = elsewhere.join("report.html");
    let before = fs::read_to_string(&report).unwrap();
    fs::remove_file(&report).unwrap();
    let ran = home.run(&["report", elsewhere.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert_eq!(fs::read_to_string(&report).unwrap(), before);
    // Of a folder that is not whole, nothing is made.
    fs::remove_file(elsewhere.join("trials/001-l7-r0.json")).unwrap();
    let path = elsewhere.to_str().unwrap();
    for arguments in [vec!["report", path], vec!["compare", path, path], vec!["decide", path]] {
        let ran = home.run(&arguments);
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        assert!(ran.stderr.contains("no file of trial 001"), "{}", ran.said());
    }
}

#[test]
fn a_decision_is_made_from_the_runs_there_are() {
    let home = Home::new();
    let nothing = home.run(&["decide", home.path("scenarios").to_str().unwrap()]);
    assert_eq!(nothing.code, Some(2), "{}", nothing.said());
    assert!(nothing.stderr.contains("no run in"), "{}", nothing.said());
    let arguments = ["--scenario", "small", "--repeats", "3", "--peers", "direct,l4,l7"];
    assert_eq!(home.run(&arguments).code, Some(0));
    let decided = home.run(&["decide"]);
    assert_eq!(decided.code, Some(0), "{}", decided.said());
    assert!(decided.stdout.contains("CPU cost of balancing, at 400/s"), "{}", decided.said());
    // Wherever lines were broken.
    let words = decided.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Not measured: single-conn-flood, few-conns"), "{}", decided.said());
    assert!(words.contains("From 1 run on"), "{}", decided.said());
    let page = fs::read_to_string(home.path("results/decision.html")).unwrap();
    assert!(page.contains("./small/"), "links to the run");
    let index = fs::read_to_string(home.path("results/index.html")).unwrap();
    assert!(index.contains("href=\"decision.html\""));
    // One run by itself, as JSON, and no page but where it is asked for.
    let run = home.runs("small").remove(0);
    let json = home.run(&["decide", run.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 1);
    assert!(!run.join("decision.html").exists());
    let elsewhere = home.path("page.html");
    let html = ["decide", run.to_str().unwrap(), "--html", elsewhere.to_str().unwrap()];
    assert_eq!(home.run(&html).code, Some(0));
    assert!(fs::read_to_string(elsewhere).unwrap().contains("./results/small/"));
}

#[test]
fn a_slower_backend_is_a_regression_and_an_equal_one_is_none() {
    let home = Home::new();
    let text = SMALL
        .replace("count = 2", "count = 2\nservice_time = \"constant:20ms\"")
        .replace("repeats = 1", "repeats = 4");
    home.scenario("small", &text);
    for slower in [None, None, Some("backends.service_time=constant:100ms")] {
        let mut arguments = vec!["--scenario", "small", "--peers", "direct"];
        arguments.extend(slower.into_iter().flat_map(|setting| ["--set", setting]));
        let ran = home.run(&arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
    }
    let runs = home.runs("small");
    let path = |index: usize| runs[index].to_str().unwrap();
    let equal = home.run(&["compare", path(0), path(1), "--tolerance", "50%"]);
    assert_eq!(equal.code, Some(0), "{}", equal.said());
    let page = home.path("compare.html");
    let worse =
        home.run(&["compare", path(0), path(2), "--html", page.to_str().unwrap(), "--json"]);
    assert_eq!(worse.code, Some(1), "{}", worse.said());
    let comparison: serde_json::Value = serde_json::from_str(&worse.stdout).unwrap();
    let p50 = &comparison["rows"][0];
    assert_eq!(
        (p50["figure"].as_str(), p50["verdict"].as_str()),
        (Some("latency p50"), Some("worse"))
    );
    assert!(fs::read_to_string(page).unwrap().contains("latency p50"));
    // The same from a file, which is all that has to be kept.
    let baseline = home.path("baseline.json");
    let baseline = baseline.to_str().unwrap();
    assert_eq!(home.run(&["export", path(0), "--baseline", baseline]).code, Some(0));
    let again = home.run(&["compare", "--baseline", baseline, path(2), "--json"]);
    assert_eq!((again.code, &again.stdout), (Some(1), &worse.stdout), "{}", again.said());
    for wrong in [vec![path(0)], vec!["--baseline", baseline, path(0), path(1)]] {
        let ran = home.run(&[&["compare"], &wrong[..]].concat());
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        assert!(ran.stderr.contains("--baseline"), "{}", ran.said());
    }
    // One trial each: nothing is known, which passes unless it must not.
    let small = ["--scenario", "small", "--peers", "direct", "--repeats", "1"];
    for _ in 0..2 {
        assert_eq!(home.run(&small).code, Some(0));
    }
    let runs = home.runs("small");
    let single = |index: usize| runs[index].to_str().unwrap();
    let unknown = ["compare", single(3), single(4)];
    let ran = home.run(&unknown);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stdout.contains("are inconclusive"), "{}", ran.said());
    let ran = home.run(&[&unknown[..], &["--fail-on-inconclusive"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    // Different scenarios ask different questions.
    home.scenario("other", &text);
    assert_eq!(home.run(&["--scenario", "other", "--peers", "direct"]).code, Some(0));
    let other = home.runs("other").remove(0);
    let ran = home.run(&["compare", path(0), other.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("`small` and `other`"), "{}", ran.said());
    for bad in [["--tolerance", "5"], ["--moves", "5%"], ["--moves", "5%,fast"]] {
        let bad = home.run(&["compare", path(0), path(1), bad[0], bad[1]]);
        assert_eq!(bad.code, Some(2), "{}", bad.said());
        assert!(bad.stderr.contains("--"), "{}", bad.said());
    }
}

#[test]
fn a_run_can_be_exported_for_other_tools() {
    let home = Home::new();
    assert_eq!(home.run(&["--scenario", "small", "--peers", "l4"]).code, Some(0));
    let run = home.runs("small").remove(0);
    let ran = home.run(&["export", run.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let names: Vec<&str> = ran.stdout.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert_eq!(names, ["summary.prom", "000-l4-r0.csv", "000-l4-r0.hlog", "000-l4-r0.hgrm"]);
    let csv = fs::read_to_string(run.join("export/000-l4-r0.csv")).unwrap();
    assert!(csv.lines().count() > 1, "{csv}");
}

#[test]
fn runs_are_never_overwritten() {
    let home = Home::new();
    for _ in 0..2 {
        let ran = home.run(&["--scenario", "small", "--peers", "direct"]);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
    }
    assert_eq!(home.runs("small").len(), 2);
}

#[test]
fn bad_input_is_one_line_and_code_2() {
    let home = Home::new();
    let file = home.path("file");
    fs::write(&file, "").unwrap();
    home.scenario("no-rate", &SMALL.replace("rate = \"400/s\"\n", ""));
    home.scenario("no-unit", &SMALL.replace("300ms", "300"));
    home.scenario("typo", &SMALL.replace("streams", "strems"));
    home.scenario("zero", &SMALL.replace("connections = 2", "connections = 0"));
    let folder = file.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["--scenario", "smal"], "did you mean `small`?"),
        (vec!["--scenario", "nowhere/x.toml"], "nowhere/x.toml"),
        (vec!["--scenario", "small", "--peers", "l8"], "--peers l8"),
        (vec!["--scenario", "small", "--duration", "soon"], "--duration soon"),
        (vec!["--scenario", "small", "--duration", "5"], "`5` has no unit"),
        (vec!["--scenario", "small", "--out", folder], "--out"),
        (vec!["--scenario", "no-rate"], "rate"),
        (vec!["--scenario", "no-unit"], "no-unit.toml:13: load.duration"),
        (vec!["--scenario", "small", "--set", "placement.proxy=[4000]"], "CPU 4000"),
        (vec!["check", "typo"], "did you mean `streams`?"),
        (vec!["check", "zero"], "zero.toml:9: load.connections"),
        (vec!["report", folder], "holds no run"),
    ] {
        let ran = home.run(&arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}\n{}", ran.said());
        let error = ran.stderr.lines().find(|line| line.starts_with("error: "));
        assert!(error.is_some_and(|line| line.contains(expected)), "{}", ran.said());
    }
    assert!(home.runs("small").is_empty(), "something was run");
}

#[test]
fn too_few_descriptors_are_found_before_anything_starts() {
    let home = Home::new();
    let output = home
        .shell(
            "ulimit -n 70; exec \"$@\"",
            &["--scenario", "small", "--set", "load.connections=40"],
        )
        .output()
        .unwrap();
    let ran = crate::common::Ran::of(output);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("ulimit -n"), "{}", ran.said());
    assert!(home.runs("small").is_empty());
}

/// The time for one repeat only: it is made, and nothing can be told of it.
#[test]
fn two_programs_are_measured_in_turn_until_the_budget_is_spent() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_loadgen");
    let scenario = home.path("scenarios/small.toml").display().to_string();
    let compare = ["compare", "--rerun", &scenario, program, program, "--budget", "1ms"];
    let figures = ["--figures", "latency_p99,throughput", "--", "--peers", "direct"];
    let ran = home.run(&[&compare[..], &figures].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stderr.contains("after 1 repeat of each: 1 of 3 figures"), "{}", ran.said());
    assert!(ran.stdout.contains("latency p99") && !ran.stdout.contains("latency p50"));
    assert!(ran.stdout.contains("measured in turn (repeats of each: 1)"), "{}", ran.said());
    let ran = home.run(&[&compare[..], &["--figures", "cpu"]].concat());
    assert!(ran.code == Some(2) && ran.stderr.contains("proxy_cpu_per_call"), "{}", ran.said());
    let ran = home.run(&["compare", "a", "b", "--detect", "5%"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--rerun"), "{}", ran.said());
}

/// As `compare --rerun` has it, which reads records only.
#[test]
fn a_run_draws_no_report_where_records_are_all_that_is_wanted() {
    let home = Home::new();
    let mut command = home.command(&["--scenario", "small", "--peers", "direct"]);
    let output = command.env("LAYERLAB_RECORDS_ONLY", "1").output().unwrap();
    let ran = crate::common::Ran::of(output);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(!ran.stdout.contains("report "), "{}", ran.said());
    let run = &home.runs("small")[0];
    assert!(run.join("run.json").exists());
    assert!(!run.join("report.html").exists() && !run.join("charts").exists());
}

/// `UPDATE_GOLDEN=1` rewrites the schemas of the results.
#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let home = Home::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (format, file) in [
        ("scenario", "scenarios/scenario.schema.json"),
        ("peer", "scenarios/peers/peer.schema.json"),
        ("engine", "scenarios/engines/engine.schema.json"),
        ("run", "results/schema/run.json"),
        ("trial", "results/schema/trial.json"),
        ("predictions", "results/schema/predictions.json"),
        ("summary", "results/schema/summary.json"),
        ("decision", "results/schema/decision.json"),
        ("comparison", "results/schema/comparison.json"),
    ] {
        let ran = home.run(&["schema", format]);
        let schema: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(schema["properties"].as_object().is_some_and(|keys| keys.len() > 4), "{format}");
        let path = root.join(file);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &ran.stdout).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), ran.stdout, "{file} is out of date");
    }
}

#[test]
fn a_claim_that_could_not_be_judged_is_said_last_and_may_count() {
    let home = Home::new();
    let arguments = ["--scenario", "small", "--peers", "direct"];
    let last = |ran: &crate::common::Ran| ran.stdout.lines().last().unwrap_or_default().to_owned();
    let ran = home.run(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(last(&ran).contains("3 of 3 could not be judged"), "{}", ran.said());
    let ran = home.run(&[&arguments[..], &["--require-all"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    assert!(last(&ran).contains("3 of 3 could not be judged"), "{}", ran.said());
    let ran = home.run(&[&arguments[..], &["--require-all", "--json"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    assert!(ran.stderr.contains("3 of 3 could not be judged"), "{}", ran.said());
}

#[test]
fn a_broken_peer_is_listed_beside_the_others() {
    let home = Home::new();
    home.peer("broken", "title = 3\n");
    let ran = home.run(&["peers"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let line = ran.stdout.lines().find(|line| line.starts_with("broken ")).unwrap();
    assert!(line.contains("BROKEN") && line.contains("peer.toml:1: title"), "{line}");
    assert!(ran.stdout.contains("direct") && ran.stdout.contains("network ="), "{}", ran.said());
}

/// Somebody who has read enough closes the pipe; a disk that is full loses what is said.
#[test]
fn output_that_nobody_reads_is_fine_and_output_that_is_lost_is_code_3() {
    let home = Home::new();
    for arguments in [&["peers"][..], &["--list"], &["schema", "run"], &["check", "small"]] {
        let mut child = home.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let ran = crate::common::Ran::of(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{arguments:?}\n{}", ran.said());
        assert_eq!(ran.stderr, "", "{arguments:?}");
        let full = home.shell("exec \"$@\" > /dev/full", arguments).output().unwrap();
        let ran = crate::common::Ran::of(full);
        assert_eq!(ran.code, Some(3), "{arguments:?}\n{}", ran.said());
        assert!(ran.stderr.contains("error: cannot write to standard output"), "{}", ran.said());
    }
}

/// A file that may not grow further is what a full disk comes to.
#[test]
fn a_full_disk_is_code_3_and_leaves_the_table_and_no_half_file() {
    let home = Home::new();
    // In blocks of 512 bytes; what the kernel would say with a signal comes as an error.
    let limited = |blocks: u32, arguments: &[&str]| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        crate::common::Ran::of(home.shell(&script, arguments).output().unwrap())
    };
    let arguments = ["--scenario", "small", "--peers", "direct,l7"];
    assert_eq!(home.run(&arguments).code, Some(0));
    let whole = home.runs("small").remove(0);
    let report = whole.join("report.html");
    let before = fs::read_to_string(&report).unwrap();
    let largest_record = fs::read_dir(whole.join("trials"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    // Room for every record, and not for the report.
    let blocks = u32::try_from((before.len() as u64 + largest_record) / 2 / 512).unwrap();
    assert!(u64::from(blocks) * 512 > 2 * largest_record, "{largest_record} of {}", before.len());

    let ran = limited(blocks, &["report", whole.to_str().unwrap()]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("report.html: "), "{}", ran.said());
    assert_eq!(fs::read_to_string(&report).unwrap(), before, "the report of before is whole");

    let ran = limited(blocks, &arguments);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("report.html: "), "{}", ran.said());
    let table = ran.stdout.lines().any(|line| line.starts_with("direct"));
    assert!(table && ran.stdout.contains("records  "), "{}", ran.said());
    let cut = home.runs("small").pop().unwrap();
    assert!(!cut.join("report.html").exists(), "half a report");
    assert_eq!(measure::folder::Run::open(&cut).unwrap().trials.len(), 2);

    // No room for any record: nothing is run.
    let ran = limited(2, &arguments);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    for folder in [&whole, &cut] {
        let left = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let unfinished: Vec<_> =
            left.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    }
    assert!(home.left_behind().is_empty());
}
