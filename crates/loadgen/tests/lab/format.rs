//! The format of peers, by its proof: a proxy that the lab has never heard of is
//! added with files alone, and compared with the lab's own.

use std::fs;

use crate::common::{Home, SMALL};

/// What somebody writes who has a proxy of their own: here a shell script, which
/// the lab knows as little as it knows any other program.
const PEER: &str = r#"
title = "A proxy in a script"
layer = "l4"
description = "Somebody's own, which takes its settings from a file."

find = ["env:SCRIPT_PROXY", "path:sh"]
install = "apt-get install dash"
command = ["{program}", "{config}"]
version_command = ["{program}", "-c", "echo script proxy 4.2"]
config = ["start.sh", "members.toml"]
stop_signal = "int"

[policies]
round_robin = "--policy round_robin"
least_loaded = "--policy least_loaded --eject-after 0"

[reload]
signal = "hup"
lists = "http://{admin}/backends"

[environment]
GREETING = "listening at {listen_host} port {listen_port}"
"#;

const START: &str = r#"# Settings are shell words, as the policy is.
echo "$GREETING"
exec {loadgen} l4-proxy --listen {listen} {policy} --threads 1 \
    --backends-file {dir}/members.toml --admin-listen {admin}
"#;

const MEMBERS: &str = r#"{each backend}
[[backend]]
address = "{addr}"
weight = {weight}
{end}
"#;

fn home_with_proxy() -> Home {
    let home = Home::new();
    home.peer("script", PEER);
    let folder = home.path("scenarios/peers/script");
    fs::write(folder.join("start.sh"), START).unwrap();
    fs::write(folder.join("members.toml"), MEMBERS).unwrap();
    home
}

#[test]
fn a_proxy_is_added_by_writing_files() {
    let home = home_with_proxy();
    let listed = home.run(&["peers"]);
    assert!(listed.stdout.contains("script proxy 4.2"), "{}", listed.said());
    home.scenario("small", &SMALL.replace("l4.backends_used", "script.backends_used"));
    let ran = home.run(&["--scenario", "small", "--peers", "script,script:least_loaded,l7"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, trial.counts.scheduled, "{}", trial.peer);
        assert!(trial.backends.iter().all(|backend| backend.calls > 0), "{}", trial.peer);
        assert!(trial.processes.iter().any(|process| process.name == trial.peer));
    }
    let setup = &run.record.peers[1];
    assert_eq!(setup.version.as_deref(), Some("script proxy 4.2"));
    assert!(setup.config_files["start.sh"].contains("--policy least_loaded --eject-after 0"));
    assert!(setup.config_files["members.toml"].contains("127.0.0.1:"));
    assert!(home.left_behind().is_empty());
}

#[test]
fn it_is_told_of_backends_that_come_and_go_as_its_files_say() {
    let home = home_with_proxy();
    let faults = "[[fault]]\nat = \"20%\"\naction = \"add\"\nbackend = 1\n\
                  [[fault]]\nat = \"40%\"\naction = \"remove\"\nbackend = 0\n";
    let text = SMALL.replace("300ms", "4s").replace("connections = 2", "connections = 1");
    // Each connection ends after some calls, so that there are new ones to place;
    // not after few, since one is made after the other, and a busy machine is slow.
    let text = text.replace("streams = 16", "streams = 16\nconnection_calls = 100");
    home.scenario("small", &format!("{text}{faults}"));
    for peer in ["script", "l4"] {
        let ran = home.run(&["--scenario", "small", "--peers", peer]);
        assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
        let run = measure::folder::Run::open(&home.runs("small").pop().unwrap()).unwrap();
        let trial = &run.trials[0];
        let seen: Vec<_> = trial.faults.iter().map(|fault| (&*fault.action, fault.seen)).collect();
        assert_eq!(seen, [("add", true), ("remove", true)], "{}", ran.said());
        assert_eq!(trial.counts.ok, trial.counts.scheduled, "{peer}: {:?}", trial.counts);
        assert!(trial.backends.iter().all(|backend| backend.calls > 0), "{peer}");
    }
}

#[test]
fn a_peer_that_can_not_be_told_is_left_out_with_the_reason() {
    let home = home_with_proxy();
    let (deaf, _) = PEER.split_once("[reload]").unwrap();
    home.peer("script", deaf);
    let fault = "[[fault]]\nat = \"50%\"\naction = \"remove\"\nbackend = 1\n";
    home.scenario("small", &format!("{SMALL}{fault}"));
    let ran = home.run(&["--scenario", "small", "--peers", "script,direct"]);
    assert!(
        ran.stderr.contains("left out script") && ran.stderr.contains("[reload]"),
        "{}",
        ran.said()
    );
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.left_out[0].peer, "script");
}
