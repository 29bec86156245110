//! Sweeps and searches from outside: which trials are run, and what is kept of them.

use std::fs;

use measure::{folder::Run, record::SearchLimit};

use crate::common::{Home, SMALL};

/// The scenario with other claims.
fn with_claims(text: &str, claims: &str) -> String {
    let start = text.find("claims = [").expect("the scenario has claims");
    format!("{}claims = [{claims}]\n", &text[..start])
}

#[test]
fn every_peer_is_run_at_every_point() {
    let home = Home::new();
    let sweep = "[sweep]\nkey = \"load.connections\"\nvalues = [1, 4]\n[short]\nsweep = [4]\n";
    let text = with_claims(
        &SMALL.replace("[expect]", &format!("{sweep}[expect]")),
        "\"l4[connections=1].max_share == 100%\", \"l4[connections=4].backends_used == 2\"",
    );
    home.scenario("swept", &text);
    let ran = home.run(&["--scenario", "swept", "--peers", "direct,l4", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stderr.contains("[1/4] direct[connections=1], repeat 1"), "{}", ran.said());
    let folder = home.runs("swept").remove(0);
    let run = Run::open(&folder).unwrap();
    let trials: Vec<(&str, &str)> = run
        .trials
        .iter()
        .map(|trial| (trial.peer.as_str(), trial.point.as_deref().unwrap()))
        .collect();
    assert_eq!(trials, [("direct", "1"), ("l4", "1"), ("direct", "4"), ("l4", "4")]);
    // One connection is one backend; four are two each, whatever the chance in the load.
    let used = |index: usize| run.trials[index].backends.iter().filter(|b| b.calls > 0).count();
    assert_eq!([used(0), used(1), used(2), used(3)], [1, 1, 2, 2]);
    let points = &run.record.sweep.as_ref().unwrap().points;
    assert_eq!((points[0].load.connections, points[1].load.connections), (1, 4));
    assert!(run.trials.iter().all(|trial| trial.payload_bytes == 64));

    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(summary["sweep"], "load.connections");
    let l4 = &summary["peers"][1];
    assert!(l4["figures"].as_object().unwrap().is_empty(), "points are not pooled: {l4}");
    assert_eq!(l4["points"][1]["value"], "4");
    assert_eq!(l4["points"][0]["figures"]["max_share"]["median"], 1.0);
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("id=\"sweep-shares\""));
    assert!(folder.join("charts/sweep-shares.png").is_file());
}

#[test]
fn a_search_ends_at_what_the_backends_can_serve() {
    let home = Home::new();
    // Two servers of 20 ms: a hundred calls a second and no more, whatever the machine.
    let search = "[load.search]\nslo = [\"p50 < 400ms\"]\nresolution = \"60%\"\n[expect]";
    let text = SMALL
        .replace("count = 2", "count = 2\nconcurrency = 1\nservice_time = \"constant:20ms\"")
        .replace("duration = \"300ms\"", "duration = \"1s\"")
        .replace("[expect]", search);
    let text = with_claims(&text, "\"l7.saturation_rate < 900/s\"");
    home.scenario("searched", &text);
    let arguments =
        ["--scenario", "searched", "--peers", "l7", "--set", "load.rate=25/s", "--json"];
    let ran = home.run(&arguments);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("searched")[0]).unwrap();
    let search = run.record.search.as_ref().unwrap();
    let [found] = &search.results[..] else { panic!("{:?}", search.results) };
    let (held, failed) = (found.held.unwrap(), found.failed.unwrap());
    assert!(held >= 25.0 && failed < 900.0 && failed / held < 1.7, "{found:?}");
    assert!(!matches!(found.limit, SearchLimit::Ceiling | SearchLimit::Floor), "{found:?}");
    // Every rate that was tried is kept, as a point and as trials.
    let points = &run.record.sweep.as_ref().unwrap().points;
    assert!(points.iter().any(|point| point.number == Some(held)));
    assert!(points.is_sorted_by(|a, b| a.number < b.number));
    assert!(run.trials.iter().all(|trial| trial.point.is_some()));
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(summary["peers"][0]["figures"]["saturation_rate"]["median"], held);
}
