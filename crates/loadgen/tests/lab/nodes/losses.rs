//! What is said when a node, a server or the coordinator is lost, and what is left behind.

use std::{
    fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use measure::{
    folder::Run,
    record::{Side, TrialOutcome},
};
use nix::sys::signal::Signal;

use super::{
    GONE_WITHIN, ON_THREE, home, home_with, kill, long, run_of, wait_for_processes, without_claims,
};
use crate::common::{SMALL, not_run};

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
fn a_backend_that_is_killed_on_a_node_fails_the_trial_with_the_node_s_name() {
    let home = home();
    home.scenario("small", &SMALL.replace("300ms", "2s"));
    let only = ["--scenario", "small", "--peers", "direct"];
    let started = home.start(&[&only[..], &ON_THREE].concat());
    kill(wait_for_processes(&home, "--id=b1", 1)[0]);
    let ran = started.end();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    let TrialOutcome::Failed { side, message } = &run_of(&home, "small").trials[0].outcome else {
        panic!("{}", ran.said())
    };
    assert_eq!(*side, Side::Backend);
    assert!(message.starts_with("on n1 (") && message.contains("b1"), "{message}");
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn a_run_whose_nodes_are_lost_again_and_again_ends_with_what_it_has() {
    let home = home();
    home.scenario("small", &SMALL.replace("300ms", "60s"));
    let only = ["--scenario", "small", "--peers", "direct"];
    let started = home.start(&[&only[..], &ON_THREE].concat());
    let mut agents: Vec<u32> = Vec::new();
    for _ in 0..3 {
        // Agents are started anew each time, and lost once they have made something run.
        while wait_for_processes(&home, "agent", 3).iter().any(|agent| agents.contains(agent)) {}
        wait_for_processes(&home, "echo-backend", 2);
        agents = wait_for_processes(&home, "agent", 3);
        kill(agents[2]);
    }
    let ran = started.end();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    let expected = "nodes were lost 3 times, so the run ends here";
    assert!(ran.stderr.contains(expected), "{}", ran.said());
    assert_eq!(run_of(&home, "small").trials.len(), 3);
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Each node has a small disk of its own, in a mount namespace.
#[test]
fn a_disk_that_fills_up_on_a_node_fails_what_needs_it_and_names_the_node() {
    let home = home_with(
        "[\"unshare\", \"--mount\", \"sh\", \"-c\", \
         \"mount -t tmpfs -o size=4m none disk && \
         TMPDIR=$PWD/disk exec $0 agent --join={join} --rank={node}\", \"{loadgen}\"]",
    );
    fs::create_dir(home.path("disk")).unwrap();
    let can = home.shell("exec unshare --mount mount -t tmpfs none disk", &[]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        let reason = "no file system can be mounted here (unshare --mount)";
        return not_run("a_disk_that_fills_up", reason);
    }
    let text = without_claims().replace("300ms", "3s").replace("repeats = 1", "repeats = 2");
    let add = "[[fault]]\nat = \"90%\"\naction = \"add\"\nbackend = 1\n";
    home.scenario("small", &format!("{text}{add}"));
    let own = ["--scenario", "small", "--on", "own", "--nodes", "3", "--peers", "l7"];
    let started = home.start(&[&own[..], &["--coordinator", "127.0.0.1:0"]].concat());
    wait_for_processes(&home, "l7-proxy", 1);
    let agent = wait_for_processes(&home, "--rank=0", 1)[0];
    let disk = format!("/proc/{agent}/root{}", home.path("disk").display());
    let is_over = Arc::new(AtomicBool::new(false));
    let filling = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || keep_full(&disk, &is_over)
    });
    let ran = started.end();
    is_over.store(true, Ordering::Relaxed);
    filling.join().unwrap();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    let trials = run_of(&home, "small").trials;
    // What ran already goes on, but for the balancer's list of backends, which is a file.
    assert_eq!(trials[0].outcome, TrialOutcome::Complete);
    assert!(!trials[0].faults[0].seen, "{:?}", trials[0].faults);
    let TrialOutcome::Failed { side, message } = &trials[1].outcome else {
        panic!("{}", ran.said())
    };
    assert_eq!(*side, Side::Lab);
    assert!(message.starts_with("on n0 (") && message.contains("cannot write"), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Writes whenever there is room, however little.
fn keep_full(folder: &str, is_over: &AtomicBool) {
    let mut file = fs::File::create(format!("{folder}/full")).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        let is_full = file.write_all(&[0; 1 << 16]).is_err() && file.write_all(&[0]).is_err();
        if is_full {
            thread::yield_now();
        }
    }
}
