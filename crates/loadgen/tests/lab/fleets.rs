//! Several balancers from outside: who comes to which, what they are told, what each costs,
//! and peers with settings of the scenario's.

use measure::{
    folder::Run,
    record::{ProcessRole, TrialRecord},
};

use crate::common::{Home, SMALL};

/// The trials of `small` with these settings of its own.
fn trials_of(home: &Home, text: &str, arguments: &[&str]) -> Vec<TrialRecord> {
    home.scenario("small", text);
    let ran = home.run(&[&["--scenario", "small"], arguments].concat());
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    let folder = home.runs("small").pop().expect("there is a run");
    Run::open(&folder).expect("it can be read").trials
}

fn calls(per_backend: &[u64]) -> u64 {
    per_backend.iter().sum()
}

#[test]
fn balancers_share_the_connections_and_each_is_told_of_a_backend() {
    let home = Home::new();
    let faults = "[[fault]]\nat = \"20%\"\naction = \"add\"\nbackend = 1\n";
    let text = SMALL.replace("300ms", "3s").replace("connections = 2", "connections = 6");
    let text = format!("{text}{faults}");
    let arguments = ["--peers", "l4,l7", "--set", "balance.balancers=3"];
    for trial in trials_of(&home, &text, &arguments) {
        let names: Vec<String> = (0..3).map(|index| format!("{}-{index}", trial.peer)).collect();
        let ids: Vec<&str> = trial.balancers.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, names);
        // Two connections each, all alike, but for the order in which calls are dealt.
        let each: Vec<u64> = trial.balancers.iter().map(|one| calls(&one.per_backend)).collect();
        assert_eq!(each.iter().sum::<u64>(), trial.counts.ok);
        assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 4, "{each:?}");
        let costs = trial.processes.iter().filter(|cost| cost.role == ProcessRole::Proxy);
        let costs: Vec<&str> = costs.map(|cost| cost.name.as_str()).collect();
        assert_eq!(costs, names);
        assert!(trial.faults[0].seen, "every balancer has heard: {:?}", trial.faults);
        if trial.peer == "l7" {
            assert!(
                trial.balancers.iter().all(|one| one.per_backend[1] > 0),
                "{:?}",
                trial.balancers
            );
        }
    }
    assert!(home.left_behind().is_empty());
    let page = home.runs("small")[0].join("report.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("id=\"balancers\"") && page.contains("l7-2"));
}

#[test]
fn a_hash_gives_some_balancers_more_and_a_proxy_runs_on_so_many_threads() {
    let home = Home::new();
    let text = SMALL.replace("connections = 2", "connections = 5");
    let arguments = [
        "--peers",
        "l7",
        "--set",
        "balance.balancers=2",
        "--set",
        "balance.spread=hash",
        "--set",
        "balance.threads=2",
    ];
    let trial = trials_of(&home, &text, &arguments).remove(0);
    let each: Vec<u64> = trial.balancers.iter().map(|one| calls(&one.per_backend)).collect();
    assert_eq!(each.iter().sum::<u64>(), trial.counts.ok);
    assert!(each[0].abs_diff(each[1]) > trial.counts.ok / 10, "five don't halve: {each:?}");
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let command = &run.record.peers[0].command;
    assert!(command.windows(2).any(|two| two == ["--threads", "2"]), "{command:?}");
    assert_eq!(run.record.load.fleet.threads, 2);
}

#[test]
fn each_balancer_and_each_client_uses_its_own_subset() {
    let home = Home::new();
    let text =
        SMALL.replace("count = 2", "count = 6").replace("connections = 2", "connections = 3");
    for subsetting in ["random", "aperture"] {
        let subsetting = format!("balance.subsetting={subsetting}");
        let arguments = [
            "--peers",
            "l7,client-lookaside",
            "--set",
            "balance.balancers=3",
            "--set",
            "balance.subset=2",
            "--set",
            &subsetting,
        ];
        let trials = trials_of(&home, &text, &arguments);
        for one in &trials[0].balancers {
            let used = one.per_backend.iter().filter(|calls| **calls > 0).count();
            assert_eq!(used, 2, "{subsetting}: {one:?}");
        }
        let used = |trial: &TrialRecord| trial.backends.iter().filter(|one| one.calls > 0).count();
        // Three clients choose as three balancers do.
        assert_eq!(used(&trials[0]), used(&trials[1]), "{subsetting}");
        if !subsetting.ends_with("random") {
            assert_eq!(used(&trials[0]), 6, "{subsetting}");
        }
    }
}

#[test]
fn a_proxy_with_settings_is_a_peer_of_its_own() {
    let home = Home::new();
    let text = SMALL
        .replace("count = 2", "count = 2\n[[backends.override]]\nindex = 0\nfailures = \"100%\"")
        .replace("[run]", "[settings.again]\nretry_on = [\"internal\"]\n[run]");
    // Few enough that the budget of retries has room for them.
    let text = text.replace("400/s", "100/s").replace("300ms", "1s");
    let trials = trials_of(&home, &text, &["--peers", "l7,l7@again"]);
    let failed = |trial: &TrialRecord| trial.counts.failed.iter().map(|one| one.calls).sum::<u64>();
    assert!(failed(&trials[0]).abs_diff(trials[0].counts.scheduled / 2) <= 2);
    assert_eq!(trials[1].peer, "l7@again");
    // A burst of them may be more than that all the same.
    assert!(failed(&trials[1]) * 4 < failed(&trials[0]), "{:?}", trials[1].counts);
    let ran = home.run(&["--scenario", "small", "--peers", "l7@once"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("[settings.once]"), "{}", ran.said());
    let ran = home.run(&["--scenario", "small", "--peers", "l4@again,l7"]);
    assert!(ran.said().contains("can't be told `retry_on`"), "{}", ran.said());
}
