//! Zones from outside: where clients, balancers and backends are, and how many calls cross.

use measure::{
    figure::Figures,
    folder::Run,
    record::{TrialRecord, ZoneRecord},
};

use crate::common::{Home, SMALL};

/// Two backends and a client connection in each of two zones.
fn zoned() -> String {
    let settings = "[zones]\nbackends = { a = 2, b = 2 }\nconnections = { a = 1, b = 1 }\n\
                    [settings.aware]\nzone_routing = \"100%\"\nzone_min_backends = 4\n[run]";
    SMALL.replace("count = 2", "count = 4").replace("[run]", settings)
}

fn newest(home: &Home) -> Run {
    let folder = home.runs("small").pop().expect("there is a run");
    Run::open(&folder).expect("it can be read")
}

fn calls(zone: &ZoneRecord) -> u64 {
    zone.per_backend.iter().sum()
}

fn crossed(trial: &TrialRecord) -> f64 {
    let figure = measure::figure::Figure::CrossZoneShare;
    Figures::of_trial(trial).get(figure).expect("there are zones")
}

#[test]
fn calls_stay_in_the_zone_of_their_client_where_somebody_heeds_it() {
    let home = Home::new();
    home.scenario("small", &zoned());
    let peers = "direct,l4@aware,l7,l7@aware,client-dns@aware,client-lookaside";
    let ran = home.run(&["--scenario", "small", "--peers", peers]);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    let run = newest(&home);
    let zones: Vec<_> = run.record.backends.iter().map(|one| one.zone.as_deref()).collect();
    assert_eq!(zones, [Some("a"), Some("a"), Some("b"), Some("b")]);
    assert_eq!(run.trials.len(), 6);
    for trial in &run.trials {
        let names: Vec<&str> = trial.zones.iter().map(|zone| &*zone.id).collect();
        assert_eq!(names, ["a", "b"], "{}", trial.peer);
        assert_eq!(trial.zones.iter().map(calls).sum::<u64>(), trial.counts.ok, "{}", trial.peer);
        // What crosses is what the other zone's backends served.
        let other = [&trial.zones[0].per_backend[2..], &trial.zones[1].per_backend[..2]];
        let other = other.map(|calls| calls.iter().sum::<u64>());
        assert_eq!([0, 1].map(|zone| trial.zones[zone].crossed), other, "{}", trial.peer);
        match &*trial.peer {
            "l7" | "client-lookaside" => {
                assert!((0.4..0.6).contains(&crossed(trial)), "{}", trial.peer);
            }
            // The first connection goes to the first backend, and the second to the second.
            "direct" => assert!((0.4..0.6).contains(&crossed(trial)), "{}", crossed(trial)),
            _ => assert_eq!(crossed(trial), 0.0, "{}", trial.peer),
        }
    }
    // Each zone has a balancer of its own.
    let balancers = run.trials.iter().find(|trial| trial.peer == "l7@aware").unwrap();
    let served: Vec<u64> =
        balancers.balancers.iter().map(|one| one.per_backend.iter().sum()).collect();
    assert_eq!(served, balancers.zones.iter().map(calls).collect::<Vec<_>>());
    let command = run.record.peers.iter().find(|peer| peer.name == "l4@aware").unwrap();
    let told = ["--zone", "a", "--zone-proxies", "a=1,b=1"];
    assert!(command.command.windows(4).any(|four| four == told), "{:?}", command.command);
    let page = home.runs("small")[0].join("report.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("id=\"zones\"") && page.contains("Served in b"));
}

#[test]
fn what_is_too_much_for_a_zone_crosses_in_the_lab_and_in_the_simulation_alike() {
    let home = Home::new();
    // A zone with five of six clients has half of the backends.
    let text = zoned().replace("a = 1, b = 1", "a = 5, b = 1");
    let text = text.replace("connections = 2", "connections = 6").replace("300ms", "2s");
    home.scenario("small", &text);
    let ran = home.run(&["--scenario", "small", "--peers", "l7@aware,client-dns@aware"]);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    let measured = newest(&home).trials;
    let ran =
        home.run(&["simulate", "--scenario", "small", "--peers", "l7@aware,client-dns@aware"]);
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.said());
    let simulated = newest(&home);
    assert!(simulated.record.simulation.is_some());
    for trial in measured.iter().chain(&simulated.trials) {
        // Two fifths of five sixths; five standard deviations of a fair draw are less.
        let share = crossed(trial);
        assert!((0.22..0.45).contains(&share), "{}: {share}", trial.peer);
        assert_eq!(trial.zones[1].crossed, 0, "{}: that one has room", trial.peer);
    }
    let ran = home.run(&["simulate", "--scenario", "small", "--peers", "l7", "--zones", "3"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.said().contains("has `[zones]` of its own"), "{}", ran.said());
}

#[test]
fn who_cannot_heed_zones_is_left_out_and_says_so() {
    let home = Home::new();
    home.scenario("small", &zoned());
    let ran = home.run(&["--scenario", "small", "--peers", "direct@aware,l7"]);
    let said = "direct@aware can't be told `zone_min_backends`, and has no settings";
    assert!(ran.said().contains(said), "{}", ran.said());
    let ran = home.run(&["--scenario", "small", "--set", "balance.balancers=1"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.said().contains("2 zones have clients"), "{}", ran.said());
}
