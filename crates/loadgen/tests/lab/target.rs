//! A balancer that the lab did not start: here one that the test starts, with
//! backends of its own.

use std::net::TcpListener;

use measure::{record::Layer, warning::Warning};

use crate::common::{Home, SMALL, Server};

#[test]
fn a_balancer_that_is_there_already_is_driven() {
    let backends = ["alpha", "beta"].map(|id| Server::start(&["echo-backend", "--id", id]));
    let flags: Vec<String> =
        backends.iter().map(|backend| format!("--backend={}", backend.address)).collect();
    let proxy = Server::start(&["l7-proxy", "--threads=1", &flags[0], &flags[1]]);
    let home = Home::new();
    let claims = SMALL.replace("l7.spread_calls", "target.spread_calls");
    home.scenario("small", &claims.replace("repeats = 1", "repeats = 2"));
    let ran = home.run(&["--scenario", "small", "--target", &proxy.address, "--rate", "scenario"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    let mut ids: Vec<&str> = run.record.backends.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["alpha", "beta"], "known by their answers");
    let peer = &run.record.peers[0];
    assert_eq!((peer.name.as_str(), peer.title.as_str()), ("target", proxy.address.as_str()));
    assert_eq!((peer.layer, peer.version.as_deref()), (Layer::External, None));
    assert_eq!(run.trials.len(), 2);
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, trial.counts.scheduled);
        assert_eq!(trial.backends.len(), 2);
        // What they cost is not known, and so it is not there.
        let names: Vec<&str> = trial.processes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["generator"]);
    }
    let told = |warning: &Warning| matches!(warning, Warning::ExternalTarget { .. });
    assert!(run.record.warnings.iter().any(told));
    assert!(run.record.overrides.iter().any(|flag| flag.starts_with("--target")));
    let report = std::fs::read_to_string(home.runs("small")[0].join("report.html")).unwrap();
    assert!(report.contains("alpha") && report.contains("did not start"), "the report says so");
    assert!(home.left_behind().is_empty());
}

#[test]
fn targets_take_turns_and_are_billed_where_they_can_be() {
    let backends = ["alpha", "beta"].map(|id| Server::start(&["echo-backend", "--id", id]));
    let flags: Vec<String> =
        backends.iter().map(|backend| format!("--backend={}", backend.address)).collect();
    let l4 = Server::start(&["l4-proxy", "--threads=1", &flags[0]]);
    let l7 = Server::start(&["l7-proxy", "--threads=1", &flags[0], &flags[1]]);
    let home = Home::new();
    let text = SMALL
        .replace("repeats = 1", "repeats = 2")
        .replace("l4.backends_used == 2", "l4.max_share == 100%")
        .replace("l7.spread_calls <= 2", "l7.max_share == 50%");
    home.scenario("small", &text);
    // By a name as well as by an address.
    let port = l7.address.rsplit(':').next().unwrap();
    let (l4_flag, l7_flag) = (format!("l4={}", l4.address), format!("l7=localhost:{port}"));
    let bill = format!("l7=pid:{}", l7.child.id());
    let ran = home.run(&[
        "--scenario",
        "small",
        "--target",
        &l4_flag,
        "--target",
        &l7_flag,
        "--bill",
        &bill,
        "--backends",
        "3",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = measure::folder::Run::open(&home.runs("small")[0]).unwrap();
    let order: Vec<&str> = run.trials.iter().map(|trial| trial.peer.as_str()).collect();
    assert_eq!(order, ["l4", "l7", "l7", "l4"]);
    assert!(run.record.peers.iter().all(|peer| peer.layer == Layer::External));
    // A gentle load: a hundred calls a second for 300 ms.
    assert!(run.record.overrides.iter().any(|flag| flag.starts_with("100/s for a --target")));
    for trial in &run.trials {
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (30, 30), "{}", trial.peer);
        let billed: Vec<&str> = trial.processes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(billed.contains(&"l7"), trial.peer == "l7", "{billed:?}");
        assert_eq!(trial.backends.len(), 3);
        assert_eq!((trial.backends[2].id.as_str(), trial.backends[2].calls), ("not seen 3", 0));
    }
    let page = std::fs::read_to_string(home.runs("small")[0].join("report.html")).unwrap();
    assert!(page.contains("not seen 3"), "an idle backend is shown");
    assert!(ran.stdout.contains("at an unknown CPU cost"), "{}", ran.said());
    assert!(!page.contains("without a proxy") && !ran.stdout.contains("without a proxy"));
}

#[test]
fn a_target_whose_calls_fail_is_left_alone() {
    // One call a second is served, one waits, and the others are turned away.
    let full = Server::start(&[
        "echo-backend",
        "--id=full",
        "--service-time=constant:1s",
        "--max-waiting=1",
    ]);
    let home = Home::new();
    home.scenario("small", &SMALL.replace("300ms", "600s").replace("repeats = 1", "repeats = 9"));
    let ran = home.run(&["--scenario", "small", "--target", &full.address, "--rate", "scenario"]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("calls failed, more than 10 %"), "{}", ran.said());
    assert_eq!(measure::folder::Run::open(&home.runs("small")[0]).unwrap().trials.len(), 1);
}

#[test]
fn nobody_elses_machine_is_called_without_being_asked_for() {
    let home = Home::new();
    // An address for documentation, where nobody is (RFC 5737).
    let ran = home.run(&["--scenario", "small", "--target", "192.0.2.1:80"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("about 35 calls to 192.0.2.1:80"), "{}", ran.said());
    assert!(ran.stderr.contains("--yes"), "{}", ran.said());
    assert!(home.runs("small").is_empty());
}

#[test]
fn a_target_that_can_not_be_used_is_one_clear_line() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let fault = "[[fault]]\nat = \"50%\"\naction = \"kill\"\nbackend = 1\n";
    home.scenario("faulty", &format!("{SMALL}{fault}"));
    for (scenario, target, code, expected) in [
        ("small", free.as_str(), 3, "no call was successful"),
        ("small", free.as_str(), 3, "Connection refused"),
        ("small", "no-such-host.invalid:80", 3, "can't be resolved"),
        ("faulty", free.as_str(), 2, "without faults"),
        ("small", "nowhere", 2, "HOST:PORT"),
    ] {
        let ran = home.run(&["--scenario", scenario, "--target", target]);
        assert_eq!(ran.code, Some(code), "{}", ran.said());
        assert!(ran.stderr.contains(expected), "{}", ran.said());
        assert!(ran.stderr.contains(target), "{}", ran.said());
        assert!(home.runs(scenario).is_empty(), "nothing was run");
    }
    let both = home.run(&["--scenario", "small", "--target", &free, "--peers", "l4"]);
    assert_eq!(both.code, Some(2), "{}", both.said());
}

#[test]
fn a_target_under_tls_is_checked_as_the_user_says() {
    let home = Home::new();
    let [ca, cert, key, client, client_key] = home.certificates();
    let backend = Server::start(&["echo-backend", "--id", "alpha"]);
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let flag = format!("--backend={}", backend.address);
    let l7 = Server::start(&[&["l7-proxy", "--threads=1", &flag][..], &tls].concat());
    let port = l7.address.rsplit(':').next().unwrap();
    let target = format!("l7=https://localhost:{port}");
    let identity = ["--cert", &client, "--key", &client_key];
    let (without_claims, _) = SMALL.split_once("[expect]").unwrap();
    home.scenario("small", without_claims);
    let run = |target: &str, flags: &[&[&str]]| {
        home.run(&[&["--scenario", "small", "--target", target][..], &flags.concat()].concat())
    };
    let trusted: &[&str] = &["--ca", &ca];
    for flags in [trusted, &["--insecure"]] {
        for client in ["load.client=wire", "load.client=tonic"] {
            let ran = run(&target, &[flags, &identity, &["--set", client]]);
            assert_eq!(ran.code, Some(0), "{}", ran.said());
        }
        let folder = home.runs("small").pop().unwrap();
        let record = measure::folder::Run::open(&folder).unwrap().record;
        let is_insecure = flags == ["--insecure"];
        let unchecked = if is_insecure { " (certificate not checked)" } else { "" };
        assert_eq!(record.peers[0].title, format!("https://localhost:{port}{unchecked}"));
        assert_eq!(record.overrides.contains(&"--insecure".to_owned()), is_insecure);
        let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
        assert_eq!(page.contains("certificate not checked"), is_insecure);
    }
    let ask = |flags: &[&[&str]]| {
        let target = format!("https://localhost:{port}");
        home.run(&[&["init", "--target", &target][..], &flags.concat()].concat())
    };
    let ran = ask(&[trusted, &identity, &["--out", "asked.toml"]]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let ran = ask(&[&identity]);
    assert!(ran.code == Some(3) && ran.stderr.contains("certificate"), "{}", ran.said());
    let (before, plain) = (home.runs("small").len(), format!("https://{}", backend.address));
    for (target, flags, code, expected) in [
        // The system's authorities know nothing of it, if there are any.
        (&target, vec![&identity[..]], 3, "certificate"),
        (&target, vec![trusted, &identity, &["--server-name", "other"]], 3, "certificate"),
        // It asks for a certificate.
        (&target, vec![trusted], 3, "no call was successful"),
        (&target, vec![&["--ca", "nowhere.pem"][..]], 2, "--ca nowhere.pem"),
        (&target, vec![trusted, &["--insecure"]], 2, "cannot be used with"),
        (&plain, vec![&["--insecure"][..]], 3, "it speaks HTTP/2 without TLS"),
        (&l7.address, vec![], 3, "without TLS"),
    ] {
        let ran = run(target, &flags);
        assert_eq!(ran.code, Some(code), "{flags:?}: {}", ran.said());
        assert!(ran.stderr.contains(expected), "{flags:?}: {}", ran.said());
    }
    assert_eq!(home.runs("small").len(), before, "nothing was run");
}
