//! Scenarios that speak TLS: on which side, through whom, and who can't.

use std::path::Path;

use measure::record::Tls;

use crate::common::{Home, Ran};

/// An L4 proxy that knows backends only for connections that open with a TLS
/// ClientHello for the lab's name.
const TLS_ONLY: &str = r#"
title = "Passes TLS and nothing else"
layer = "l4"
description = "Routes by the server name."
command = [
    "{loadgen}", "l4-proxy", "--listen", "{listen}", "--threads", "1", "--control-pipe",
    "{each backend}--backend={addr},group=tls{end}", "--sni", "layerlab.test=tls",
]
[policies]
round_robin = ""
"#;

fn last_run(home: &Home) -> measure::folder::Run {
    measure::folder::Run::open(&home.runs("small").pop().unwrap()).unwrap()
}

/// All of them succeeded.
fn expect_all_calls(home: &Home, ran: &Ran) {
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    for trial in &last_run(home).trials {
        let counts = &trial.counts;
        assert!(counts.scheduled > 0 && counts.ok == counts.scheduled, "{}", ran.said());
    }
}

#[test]
fn every_peer_and_client_can_speak_tls_on_both_sides() {
    let home = Home::new();
    home.peer("tls-only", TLS_ONLY);
    for client in ["load.client=wire", "load.client=tonic"] {
        let peers = "direct,client-lookaside,l4,tls-only,l7";
        let arguments =
            ["--scenario", "small", "--peers", peers, "--set", "tls=both", "--set", client];
        let ran = home.run(&arguments);
        expect_all_calls(&home, &ran);
        let run = last_run(&home);
        assert_eq!(run.trials.len(), 5, "{}", ran.said());
        assert_eq!(run.record.load.tls, Tls::Both);
        let report = home.runs("small").pop().unwrap().join("report.html");
        assert!(std::fs::read_to_string(report).unwrap().contains("TLS on both sides."));
        let command = &run.record.peers[4].command;
        for (flag, value) in [
            ("--tls-cert", "<tls>/balancer.pem"),
            ("--tls-key", "<tls>/balancer.pem.key"),
            ("--backend-tls-ca", "<tls>/ca.pem"),
            ("--backend-tls-name", "layerlab.test"),
        ] {
            let at = command.iter().position(|word| word == flag);
            let next = at.and_then(|at| command.get(at + 1));
            assert_eq!(next.map(String::as_str), Some(value), "{command:?}");
        }
    }
    let plain = home.run(&["--scenario", "small", "--peers", "tls-only"]);
    assert_eq!(plain.code, Some(3), "without TLS it knows no backend: {}", plain.said());
    assert!(home.left_behind().is_empty());
}

#[test]
fn an_l7_balancer_can_speak_it_on_either_side() {
    let home = Home::new();
    for (tls, has, has_not) in [
        ("client", "--tls-cert", "--backend-tls-ca"),
        ("backend", "--backend-tls-ca", "--tls-cert"),
    ] {
        let tls = format!("tls={tls}");
        let ran = home.run(&["--scenario", "small", "--peers", "l7", "--set", &tls]);
        expect_all_calls(&home, &ran);
        let command = last_run(&home).record.peers[0].command.clone();
        let names = |flag: &str| command.iter().any(|word| word == flag);
        assert!(names(has) && !names(has_not), "{command:?}");
    }
}

#[test]
fn connections_are_made_again_and_large_messages_pass_under_tls() {
    let home = Home::new();
    // 40 handshakes a side, 12 large calls, 120 streams, none faster than a busy machine bears.
    for settings in [
        ["load.connection_calls=3", "load.payload=32", "load.rate=100/s", "load.duration=1200ms"],
        ["load.call=unary", "load.payload=1MiB", "load.rate=40/s", "load.duration=300ms"],
        ["load.call=bidi", "load.payload=100KiB", "load.rate=40/s", "load.duration=3s"],
    ] {
        let mut arguments = vec!["--scenario", "small", "--peers", "l4,l7", "--set", "tls=both"];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        let ran = home.run(&arguments);
        expect_all_calls(&home, &ran);
    }
}

#[test]
fn who_can_not_speak_it_there_is_refused_by_name() {
    let home = Home::new();
    let l7 = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/peers/l7/peer.toml");
    let l7 = std::fs::read_to_string(l7).unwrap();
    let deaf: String = l7.split("[tls.client]").next().unwrap().to_owned()
        + "[policies]\n"
        + l7.split("[policies]\n").nth(1).unwrap();
    home.real_peer("l7");
    std::fs::rename(home.path("scenarios/peers/l7"), home.path("scenarios/peers/deaf")).unwrap();
    home.real_peer("l7");
    home.peer("deaf", &deaf);
    for (peer, tls, expected) in [
        ("l4", "client", "l4 can't have `tls = \"client\"`: it passes bytes through"),
        ("direct", "backend", "direct can't have `tls = \"backend\"`: nothing stands between"),
        ("client-lookaside", "client", "it can do `none` and `both`"),
        ("deaf", "both", "its peer.toml has no [tls.client]"),
    ] {
        let tls = format!("tls={tls}");
        let ran = home.run(&["--scenario", "small", "--peers", peer, "--set", &tls]);
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        assert!(
            ran.stderr.contains("scenario small") && ran.stderr.contains(expected),
            "{}",
            ran.said()
        );
        assert!(home.runs("small").is_empty(), "nothing was run");
    }
    let target = ["--scenario", "small", "--set", "tls=both", "--target", "127.0.0.1:9"];
    let ran = home.run(&target);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("--set tls=none"), "{}", ran.said());
    // Of all peers there are, those that can are run.
    let ran = home.run(&["--scenario", "small", "--peers", "all", "--set", "tls=client"]);
    for peer in ["direct", "client-dns", "client-lookaside", "l4", "deaf"] {
        assert!(ran.stderr.contains(&format!("left out {peer}: ")), "{}", ran.said());
    }
    expect_all_calls(&home, &ran);
    assert_eq!(last_run(&home).record.left_out.len(), 5);
}
