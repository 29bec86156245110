//! Runs on several nodes, which are processes of this machine: what comes of them, what is
//! said when a node or the coordinator is lost, and what is left behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use common::{Home, SMALL, Server};
use measure::{folder::Run, nodes::NodeRole, record::TrialOutcome};
use nix::sys::signal::Signal;

/// What a lost coordinator's agents and their servers may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// A home with the engines.
fn home() -> Home {
    let home = Home::new();
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/engines");
    for name in ["local", "slurm"] {
        let to = home.path(&format!("scenarios/engines/{name}"));
        fs::create_dir_all(&to).unwrap();
        fs::copy(engines.join(name).join("engine.toml"), to.join("engine.toml")).unwrap();
    }
    home
}

/// A scenario that goes on until it is stopped.
fn long(home: &Home) {
    home.scenario("long", &SMALL.replace("300ms", "60s"));
}

/// Processes that the lab has started, by a word of their command lines.
fn processes(home: &Home, word: &str) -> Vec<u32> {
    let has_word = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    };
    home.left_behind().into_iter().filter(has_word).collect()
}

/// Waits until there are so many processes with a word in their command lines.
fn wait_for_processes(home: &Home, word: &str, count: usize) -> Vec<u32> {
    let begin = Instant::now();
    loop {
        let found = processes(home, word);
        if found.len() >= count {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{} of {count} {word}", found.len());
        std::thread::yield_now();
    }
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
}

const ON_THREE: [&str; 6] = ["--on", "local", "--nodes", "3", "--join-timeout", "60s"];

#[test]
fn three_nodes_give_one_run() {
    let home = home();
    let ran = home.run(&[&["--scenario", "small"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let folder = home.runs("small").remove(0);
    let run = Run::open(&folder).unwrap();
    let cluster = run.record.cluster.unwrap();
    assert_eq!((&*cluster.engine, cluster.nodes.len(), cluster.machines()), ("local", 3, 1));
    assert_eq!(cluster.nodes[0].roles, [NodeRole::Balancer]);
    assert_eq!(run.trials.len(), 3);
    for trial in &run.trials {
        assert_eq!(trial.outcome, TrialOutcome::Complete);
        // 400 a second for 300 ms, on one schedule.
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
        assert_eq!(trial.nodes.len(), 3);
        assert!(trial.nodes[2].calls >= 120 && trial.nodes[0].calls == 0);
        let billed: Vec<&str> = trial.processes.iter().map(|cost| &*cost.name).collect();
        assert!(billed.contains(&"generator-n2") && billed.contains(&"b1"), "{billed:?}");
        assert_eq!(billed.contains(&"l7"), trial.peer == "l7", "{billed:?}");
        // All clocks are this machine's.
        for node in &trial.nodes {
            assert!(node.clock_offset_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
        }
    }
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(html.contains("3 nodes on one machine"));
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn a_node_that_is_killed_is_the_lab_s_fault_and_its_trial_is_run_again() {
    let home = home();
    home.scenario(
        "small",
        &SMALL.replace("300ms", "2s").replace("[\"direct\", \"l4\", \"l7\"]", "[\"l7\"]"),
    );
    let started = home.start(&[&["--scenario", "small"][..], &ON_THREE].concat());
    wait_for_processes(&home, "l7-proxy", 1);
    let agents = wait_for_processes(&home, "agent", 3);
    kill(agents[1]);
    let ran = started.end();
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.trials.len(), 2);
    let TrialOutcome::Failed { side, message } = &run.trials[0].outcome else {
        panic!("{:?}", run.trials[0].outcome)
    };
    assert_eq!(*side, measure::record::Side::Lab);
    assert!(message.contains("is lost"), "{message}");
    assert!(run.trials[0].is_replaced());
    assert_eq!(run.trials[1].outcome, TrialOutcome::Complete);
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn nothing_outlives_a_coordinator_that_is_killed() {
    let home = home();
    long(&home);
    let mut started = home.start(&[&["--scenario", "long"][..], &ON_THREE].concat());
    wait_for_processes(&home, "echo-backend", 2);
    wait_for_processes(&home, "agent", 3);
    started.child.kill().unwrap();
    started.child.wait().unwrap();
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn a_server_that_is_killed_on_a_node_fails_the_trial_with_the_node_s_name() {
    let home = home();
    home.scenario(
        "small",
        &SMALL.replace("300ms", "2s").replace("[\"direct\", \"l4\", \"l7\"]", "[\"l7\"]"),
    );
    let started = home.start(&[&["--scenario", "small"][..], &ON_THREE].concat());
    let proxy = wait_for_processes(&home, "l7-proxy", 1)[0];
    kill(proxy);
    let ran = started.end();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.said().contains("on n0 ("), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn ctrl_c_ends_all_nodes_and_keeps_what_was_measured() {
    let home = home();
    long(&home);
    let started = home.start(&[&["--scenario", "long"][..], &ON_THREE].concat());
    wait_for_processes(&home, "echo-backend", 2);
    started.signal(Signal::SIGINT);
    let ran = started.end();
    assert_eq!(ran.code, Some(130), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// A home with an engine of a command of its own, for each node.
fn home_with(command: &str) -> Home {
    let home = home();
    let path = home.path("scenarios/engines/own");
    fs::create_dir_all(&path).unwrap();
    let engine =
        format!("title = \"T\"\ndescription = \"D\"\neach_node = true\ncommand = {command}\n");
    fs::write(path.join("engine.toml"), engine).unwrap();
    home
}

/// Time namespaces give nodes of one machine clocks that disagree by an hour.
#[test]
fn a_clock_that_is_an_hour_ahead_changes_no_figure() {
    let unshare = ["--time", "--monotonic", "3600", "--fork", "true"];
    let can = std::process::Command::new("unshare").args(unshare).output();
    if !can.is_ok_and(|output| output.status.success()) {
        println!("NOT RUN: no time namespace can be made here (unshare --time)");
        return;
    }
    let home = home_with(
        "[\"unshare\", \"--time\", \"--monotonic\", \"3600\", \"--fork\", \
         \"--kill-child=KILL\", \"{loadgen}\", \"agent\", \"--join={join}\", \"--rank={node}\"]",
    );
    let own = ["--scenario", "small", "--on", "own", "--nodes", "3", "--coordinator"];
    let ran = home.run(&[&own[..], &["127.0.0.1:0"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    for trial in &run.trials {
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
        for node in &trial.nodes {
            let off_ns = node.clock_offset_ns - 3_600_000_000_000;
            assert!(off_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
        }
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn a_node_that_joins_late_is_waited_for() {
    let home = home_with(
        "[\"sh\", \"-c\", \"while [ {node} = 1 ] && [ ! -e go ]; do sleep 0.05; done; \
         exec $0 agent --join={join} --rank={node}\", \"{loadgen}\"]",
    );
    let own = ["--scenario", "small", "--on", "own", "--nodes", "2", "--peers", "direct"];
    let started = home.start(&[&own[..], &["--coordinator", "127.0.0.1:0"]].concat());
    wait_for_processes(&home, "agent", 1);
    fs::write(home.path("go"), "").unwrap();
    let ran = started.end();
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.cluster.unwrap().nodes.len(), 2);
}

#[test]
fn a_node_that_can_t_write_is_named_with_the_reason() {
    let home = home_with(
        "[\"env\", \"TMPDIR=/dev/full/none\", \"{loadgen}\", \"agent\", \"--join={join}\"]",
    );
    let own = ["--scenario", "small", "--on", "own", "--nodes", "1", "--coordinator"];
    let ran = home.run(&[&own[..], &["127.0.0.1:0"]].concat());
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("/dev/full/none"), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Of more calls than are shipped, nodes fold their own.
#[test]
fn figures_of_calls_that_are_not_shipped_add_up() {
    let home = home();
    let few = ["--ship-calls", "50", "--peers", "l7"];
    let ran = home.run(&[&["--scenario", "small"][..], &ON_THREE, &few].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let trial = &run.trials[0];
    assert_eq!((trial.counts.scheduled, trial.counts.ok, trial.latency.count), (120, 120, 120));
    assert_eq!(trial.backends.iter().map(|backend| backend.calls).sum::<u64>(), 120);
}

#[test]
fn a_target_is_driven_from_all_nodes() {
    let home = home();
    let server = Server::start(&["echo-backend", "--listen=127.0.0.1:0", "--id=pod-1"]);
    let target = format!("lb={}", server.address);
    let to = ["--scenario", "small", "--target", &target, "--rate", "400/s"];
    let ran = home.run(&[&to[..], &["--on", "local", "--nodes", "2"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let trial = &run.trials[0];
    assert_eq!((trial.peer.as_str(), trial.counts.ok), ("lb", 120));
    assert_eq!((trial.backends.len(), trial.backends[0].id.as_str()), (1, "pod-1"));
    assert_eq!(trial.backends[0].calls, 120);
    assert!(trial.nodes.iter().all(|node| node.calls > 0), "{:?}", trial.nodes);
}

#[test]
fn a_node_that_never_joins_is_said_with_what_to_do() {
    let home = home();
    // An engine that starts one agent fewer than it is asked for.
    let path = home.path("scenarios/engines/lazy");
    fs::create_dir_all(&path).unwrap();
    let engine = "title = \"T\"\ndescription = \"D\"\n\
                  command = [\"{loadgen}\", \"agent\", \"--join={join}\"]\n";
    fs::write(path.join("engine.toml"), engine).unwrap();
    let lazy = ["--scenario", "small", "--on", "lazy", "--nodes", "2"];
    let to = ["--coordinator", "127.0.0.1:0", "--join-timeout", "1s"];
    let ran = home.run(&[&lazy[..], &to].concat());
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("1 of 2 agents joined within 1 s"), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn an_agent_without_a_token_or_a_coordinator_says_so() {
    let home = home();
    let join = ["agent", "--join", "127.0.0.1:9", "--join-timeout", "10ms"];
    let ran = home.run(&join);
    assert!(ran.code == Some(2) && ran.stderr.contains("LAYERLAB_TOKEN"), "{}", ran.said());
    fs::write(home.path("token"), "nonsense").unwrap();
    let ran = home.run(&[&join[..], &["--token-file", "token"]].concat());
    assert!(ran.code == Some(2) && ran.stderr.contains("no token of a run"), "{}", ran.said());
}

#[test]
fn what_can_t_be_run_on_nodes_is_refused_before_any_is_started() {
    let home = home();
    let on = ["--scenario", "small", "--on", "local"];
    for (more, expected) in [
        (vec![], "how many nodes?"),
        (vec!["--nodes", "0"], "0"),
        (vec!["--nodes", "2", "--set", "network=namespaces"], "can't be run on several nodes"),
        (vec!["--nodes", "2", "--set", "nodes.balancer=2"], "there is no node 2"),
        (vec!["--nodes", "2", "--set", "load.client=grpcio"], "are made by a program"),
        (vec!["--nodes", "2", "--hosts", "a,b"], "chooses hosts by itself"),
        (vec!["--nodes", "2", "--engine-set", "x=1"], "no option `x`"),
    ] {
        let ran = home.run(&[&on[..], &more].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains(expected), "{more:?}: {}", ran.said());
    }
    let ran = home.run(&["--scenario", "small", "--on", "slrum", "--nodes", "2"]);
    assert!(ran.stderr.contains("did you mean `slurm`?"), "{}", ran.said());
}
