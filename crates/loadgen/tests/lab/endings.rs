//! Whatever happens to the lab, no process is left, and what was measured is
//! kept.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Home, SMALL};
use measure::{
    folder::Run,
    record::{RunOutcome, Side, TrialOutcome},
};
use nix::sys::signal::Signal;

/// Long enough to be interrupted in.
fn long() -> String {
    SMALL.replace("300ms", "20s").replace("repeats = 1", "repeats = 2")
}

/// Waits until an L4 proxy of ours is there.
fn wait_for_a_proxy(home: &Home) {
    wait_for_proxies(home, 1);
}

/// Waits until so many have been there, at a time or one after the other.
fn wait_for_proxies(home: &Home, count: usize) {
    let is_proxy = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).nth(1) == Some(b"l4-proxy")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = HashSet::new();
    while seen.len() < count {
        seen.extend(home.left_behind().into_iter().filter(is_proxy));
        assert!(Instant::now() < deadline, "waited in vain for {count} proxies");
        thread::yield_now();
    }
}

#[test]
fn a_lab_that_is_killed_leaves_nobody() {
    let home = Home::new();
    home.scenario("small", &SMALL.replace("repeats = 1", "repeats = 50"));
    let mut started = home.start(&["--scenario", "small", "--peers", "l7,l4"]);
    // The second trial's processes are there or on their way.
    started.wait_for("[1/100]");
    assert!(!home.left_behind().is_empty());
    started.signal(Signal::SIGKILL);
    started.end();
    assert!(home.is_empty_within(Duration::from_secs(2)), "{:?}", home.left_behind());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.outcome, RunOutcome::Running);
    assert!(!run.trials.is_empty());
}

/// A master that is killed tells its workers nothing; the lab does, however it ends.
#[test]
fn workers_end_with_the_lab_as_well() {
    let home = Home::new();
    home.peer("forking", FORKING);
    home.scenario("small", &long());
    let started = home.start(&["--scenario", "small", "--peers", "forking"]);
    wait_for_a_proxy(&home);
    started.signal(Signal::SIGKILL);
    started.end();
    assert!(home.is_empty_within(Duration::from_secs(20)), "{:?}", home.left_behind());

    home.scenario("once", SMALL);
    let ran = home.run(&["--scenario", "once", "--peers", "forking"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(home.left_behind().is_empty(), "{:?}", home.left_behind());
}

/// So do the runs that a comparison makes.
#[test]
fn a_comparison_that_is_killed_leaves_nobody() {
    let home = Home::new();
    home.scenario("long", &long());
    let program = env!("CARGO_BIN_EXE_loadgen");
    let scenario = home.path("scenarios/long.toml").display().to_string();
    let compare = ["compare", "--rerun", &scenario, program, program, "--", "--peers", "l4"];
    let started = home.start(&compare);
    wait_for_a_proxy(&home);
    started.signal(Signal::SIGKILL);
    started.end();
    assert!(home.is_empty_within(Duration::from_secs(20)), "{:?}", home.left_behind());
}

/// What both sides have measured is told, and the run that is under way ends.
#[test]
fn a_comparison_that_is_interrupted_tells_what_it_has() {
    let home = Home::new();
    home.scenario("small", SMALL);
    let program = env!("CARGO_BIN_EXE_loadgen");
    let scenario = home.path("scenarios/small.toml").display().to_string();
    let compare = ["compare", "--rerun", &scenario, program, program, "--", "--peers", "l4"];
    let started = home.start(&compare);
    // Both sides of the first repeat, and the one that begins the second.
    wait_for_proxies(&home, 3);
    started.signal(Signal::SIGINT);
    let ran = started.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(ran.said().contains(" of each: "), "{}", ran.said());
    assert!(ran.said().contains("proxy CPU per call"), "{}", ran.said());
    assert!(home.left_behind().is_empty(), "{:?}", home.left_behind());
}

/// A proxy that only waits for its worker, which knows nothing of the lab.
const FORKING: &str = r#"
title = "A master and a worker"
layer = "l4"
description = "For the test."
command = ["sh", "-c", "{loadgen} l4-proxy --listen {listen} --threads 1 \"$@\" & wait",
    "sh", "{each backend}--backend={addr}{end}"]
has_workers = true
[policies]
round_robin = ""
"#;

#[test]
fn an_interrupt_while_processes_start_is_a_clean_end() {
    let home = Home::new();
    home.scenario("small", &long());
    let mut started = home.start(&["--scenario", "small"]);
    started.wait_for("6 trials");
    started.signal(Signal::SIGINT);
    let ran = started.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(home.left_behind().is_empty());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.outcome, RunOutcome::Interrupted);
}

#[test]
fn an_interrupt_under_load_keeps_what_was_measured() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let home = Home::new();
        let short_then_long = SMALL.replace("repeats = 1", "repeats = 100");
        home.scenario("small", &short_then_long);
        let mut started = home.start(&["--scenario", "small", "--peers", "l4,l7"]);
        started.wait_for("[2/200]");
        started.signal(signal);
        let ran = started.end();
        assert_eq!(ran.code, Some(130), "{}", ran.said());
        assert!(ran.stdout.contains("what was measured until then is kept"), "{}", ran.said());
        assert!(home.left_behind().is_empty());
        let run = Run::open(&home.runs("small")[0]).unwrap();
        assert_eq!(run.record.outcome, RunOutcome::Interrupted);
        assert_eq!(run.trials[0].counts.ok, 120);
        assert!(home.runs("small")[0].join("report.html").is_file());
    }
}

#[test]
fn a_trial_that_is_cut_short_is_recorded_and_in_no_figure() {
    let home = Home::new();
    let claims = "claims = [\"l7.unfinished_rate == 0%\", \"l7.max_share <= 100%\"]\n";
    let (load, _) = SMALL.split_once("[expect]").unwrap();
    let slow = load.replace("count = 2", "count = 2\nservice_time = \"constant:100ms\"");
    home.scenario("small", &format!("{}[expect]\n{claims}", slow.replace("300ms", "60s")));
    let metrics = ["--metrics-listen", "127.0.0.1:0", "--json"];
    let arguments = [&["--scenario", "small", "--peers", "l7"][..], &metrics].concat();
    let mut started = home.start(&arguments);
    let line = started.wait_for("metrics of the run at http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    // Past the warm-up of 20 calls, so that there is something to keep.
    while calls_ended(&address) < 100 {
        thread::yield_now();
    }
    started.signal(Signal::SIGINT);
    let ran = started.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(ran.stderr.contains("cut short after"), "{}", ran.said());
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(summary["peers"][0]["trials"], 0, "{}", ran.said());
    for claim in summary["expectations"].as_array().unwrap() {
        assert_eq!(claim["verdict"], "not_judged", "{}", ran.said());
    }
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let trial = &run.trials[0];
    assert_eq!(trial.outcome, TrialOutcome::Interrupted);
    assert!(trial.counts.ok > 0 && trial.counts.unfinished > 0, "{:?}", trial.counts);
    let page = fs::read_to_string(home.runs("small")[0].join("report.html")).unwrap();
    assert!(page.contains("cut short; not included in any figure"));
}

/// By the run's own metrics.
fn calls_ended(address: &str) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let calls = text.lines().find(|line| line.starts_with("layerlab_calls_ended_total{"));
    calls.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let home = Home::new();
    home.scenario("small", &long());
    let mut started = home.start(&["--scenario", "small"]);
    started.wait_for("6 trials");
    started.signal(Signal::SIGINT);
    started.signal(Signal::SIGINT);
    let ran = started.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(home.is_empty_within(Duration::from_secs(2)), "{:?}", home.left_behind());
}

#[test]
fn a_proxy_that_dies_is_a_failed_trial_and_the_run_goes_on() {
    let home = Home::new();
    home.peer(
        "broken",
        r#"
title = "A proxy that ends at once"
layer = "l7"
description = "For the test."
command = ["sh", "-c", "echo no such flag >&2; exit 7", "{listen}", "{each backend}{addr}{end}"]
[policies]
round_robin = ""
"#,
    );
    let ran = home.run(&["--scenario", "small", "--peers", "broken,direct"]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("broken exited with code 7"), "{}", ran.said());
    assert!(ran.stderr.contains("no such flag"), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let sides: Vec<Option<Side>> = run
        .trials
        .iter()
        .map(|trial| match trial.outcome {
            TrialOutcome::Failed { side, .. } => Some(side),
            _ => None,
        })
        .collect();
    assert_eq!(sides, [Some(Side::Proxy), None]);
    assert!(home.left_behind().is_empty());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = Home::new();
    home.peer(
        "stubborn",
        &format!(
            r#"
title = "A proxy that wants one port"
layer = "l4"
description = "For the test."
command = ["{{loadgen}}", "l4-proxy", "--listen", "{address}", "--control-pipe",
           "--metrics-listen", "{{listen}}", "{{each backend}}--backend={{addr}}{{end}}"]
[policies]
round_robin = ""
"#
        ),
    );
    let ran = home.run(&["--scenario", "small", "--peers", "stubborn"]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains(&address.to_string()), "{}", ran.said());
    assert!(home.left_behind().is_empty());
}

#[test]
fn a_peer_that_is_missing_is_left_out_in_plain_sight() {
    let home = Home::new();
    home.peer(
        "absent",
        r#"
title = "A proxy nobody installed"
layer = "l7"
description = "For the test."
find = ["path:no-such-proxy-anywhere"]
install = "apt-get install absent"
command = ["{program}", "{listen}", "{each backend}{addr}{end}"]
[policies]
round_robin = ""
"#,
    );
    let ran = home.run(&["--scenario", "small", "--peers", "absent,direct"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stderr.contains("left out absent"), "{}", ran.said());
    assert!(ran.stderr.contains("apt-get install absent"), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.left_out[0].peer, "absent");
}

#[test]
fn a_set_that_was_interrupted_goes_on_where_it_was() {
    let home = Home::new();
    home.scenario("long", &SMALL.replace("repeats = 1", "repeats = 50"));
    let out = home.path("set");
    let folder = out.to_str().unwrap();
    let mut set = home.start(&["all", "--every", "--out", folder]);
    // Scenarios are run by name: a trial of `long` is under way.
    set.wait_for("[1/150]");
    set.signal(Signal::SIGTERM);
    let ran = set.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(ran.stderr.contains(&format!("loadgen all --resume {folder}")), "{}", ran.said());
    assert!(home.is_empty_within(Duration::from_secs(20)), "{:?}", home.left_behind());
    let runs = |scenario: &str| std::fs::read_dir(out.join(scenario)).map_or(0, Iterator::count);
    assert_eq!((runs("long"), runs("small")), (1, 0));

    home.scenario("long", SMALL);
    let resumed = home.run(&["all", "--resume", folder]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.said());
    assert_eq!((runs("long"), runs("small")), (2, 1));
    assert!(out.join("decision.html").is_file() && out.join("index.html").is_file());
    // Nothing is left to run.
    let again = home.run(&["all", "--resume", folder]);
    assert_eq!((again.code, runs("long"), runs("small")), (Some(0), 2, 1), "{}", again.said());
}
