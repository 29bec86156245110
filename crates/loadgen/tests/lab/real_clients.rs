//! Clients that are programs: how they are found and started, what they are told, and what
//! becomes of what they say. Here they are shell scripts, which make no call at all.

use std::fs;

use measure::{
    folder::Run,
    record::{Side, TrialOutcome},
};

use crate::common::Home;

const CLIENT: &str = r#"
title = "A client in a script"
find = ["path:sh"]
install = "writing it"
command = ["{program}", "{folder}/client.sh"]
version_command = ["{program}", "-c", "echo 4.2.1"]
"#;

/// Answers every call at once, as if from each of two backends in turn.
const PROGRAM: &str = r#"
read -r hello
echo "$hello" >&2
echo ready
while read -r word client slot sequence sizes; do
    echo "done $client $slot 0 b$((sequence % 2)) 0 0"
done
"#;

fn home(program: &str) -> Home {
    let home = Home::new();
    let folder = home.path("scenarios/clients/grpcio");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("client.toml"), CLIENT).unwrap();
    fs::write(folder.join("client.sh"), program).unwrap();
    home
}

fn arguments(peers: &str) -> [&str; 6] {
    ["--scenario", "small", "--peers", peers, "--set", "load.client=grpcio"]
}

#[test]
fn a_program_is_told_which_calls_to_make_and_says_what_came_of_them() {
    let home = home(PROGRAM);
    let ran = home.run(&arguments("client-dns,client-lookaside,l4"));
    let folder = home.runs("small").pop().unwrap();
    let run = Run::open(&folder).unwrap();
    assert_eq!(run.record.load.client, "grpcio 4.2.1", "{}", ran.said());
    // The lab can't tell it of backends.
    assert_eq!(run.record.left_out.len(), 1, "{}", ran.said());
    assert_eq!(run.record.left_out[0].peer, "client-lookaside");
    assert_eq!(run.trials.len(), 2);
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, trial.counts.scheduled, "{}", ran.said());
        assert!(trial.backends.iter().all(|backend| backend.calls > 0), "{}", trial.peer);
    }
    let told = |trial: &str| {
        let log = folder.join("logs").join(trial).join("grpcio-0.log");
        fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
    };
    let dns = told("000-client-dns-r0");
    assert!(dns.contains("\"policy\":\"round_robin\""), "{dns}");
    assert!(dns.contains("dns://127.0.0.1:") && dns.contains("/backends.layerlab.test:"), "{dns}");
    assert!(dns.contains("\"resolve_interval_ms\":30000"), "{dns}");
    let l4 = told("001-l4-r0");
    assert!(l4.contains("ipv4:127.0.0.1:") && l4.contains("\"policy\":\"pick_first\""), "{l4}");
    assert!(home.left_behind().is_empty());
}

#[test]
fn a_program_that_ends_early_fails_the_trial_and_says_where_to_look() {
    let home = home("exit 3\n");
    let ran = home.run(&arguments("l4"));
    let run = Run::open(&home.runs("small").pop().unwrap()).unwrap();
    let TrialOutcome::Failed { side, message } = &run.trials[0].outcome else {
        panic!("{}", ran.said());
    };
    assert_eq!(*side, Side::Client);
    assert!(message.contains("client grpcio: it ended before it was ready"), "{message}");
    assert!(home.left_behind().is_empty());
}

#[test]
fn a_client_that_is_not_installed_is_refused_with_how_to_get_it() {
    let home = home(PROGRAM);
    let without = CLIENT.replace("echo 4.2.1", "echo no such module >&2");
    fs::write(home.path("scenarios/clients/grpcio/client.toml"), without).unwrap();
    let ran = home.run(&arguments("l4"));
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("no such module; to get it: writing it"), "{}", ran.said());
    let ran =
        home.run(&["--scenario", "small", "--set", "load.client=grpcio", "--set", "tls=both"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("which is for plain text"), "{}", ran.said());
}
