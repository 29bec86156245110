//! Whole scenario texts: what comes of a good one, and what is said of each
//! kind of bad one.

use std::time::Duration;

use balance::PolicyKind;
use scenario::{
    Arrivals, CallKind, Channel, Client, ConnectionAge, Ends, Error, Fault, FaultAction, Keepalive,
    Length, LinkSettings, Pace, Placement, Profile, Scenario, ScenarioSource, ServiceTime, Setting,
    Sizes, StreamLimits, Tls,
};

const GOOD: &str = r#"question = "Who serves one flooded connection?"
learned = "One backend does."
[backends]
count = 3
concurrency = 2
service_time = "exponential:4ms"
max_connection_age = "10s"
[[backends.override]]
index = 2
speed = 0.2
weight = 3
[load]
loop = "open"
connections = 2
streams = 256
arrivals = "constant"
rate = "3000/s"
duration = "5s"
warm_up = "500ms"
call = "bidi"
messages = 7
request_bytes = "16KiB"
response_bytes = 64
[balance]
policy = "p2c"
[run]
peers = ["l7", "direct"]
repeats = 5
seed = 9
[short]
duration = "500ms"
warm_up = "0s"
repeats = 1
[expect]
claims = ["l4.max_share == 100%", "l7.latency_p99 < 0.2 * l4.latency_p99"]
"#;

const SMALL: &str = "question = \"?\"\n[load]\nloop = \"closed\"\nconnections = 1\ncalls = 10\n";

fn peers() -> Vec<String> {
    ["client-lookaside", "direct", "l4", "l7"].map(str::to_owned).to_vec()
}

fn parse(text: &str) -> Result<ScenarioSource, Error> {
    ScenarioSource::parse("s", "s.toml", text, &peers())
}

fn resolve(text: &str) -> Scenario {
    parse(text).unwrap().resolve(false, &[]).unwrap()
}

#[test]
fn every_key_arrives() {
    let scenario = resolve(GOOD);
    assert_eq!(scenario.name, "s");
    assert_eq!(scenario.learned.as_deref(), Some("One backend does."));
    assert_eq!(scenario.backends.len(), 3);
    let (first, last) = (&scenario.backends[0], &scenario.backends[2]);
    assert_eq!((first.id.as_str(), first.concurrency), ("b0", Some(2)));
    assert_eq!((first.speed, first.weight), (1.0, 1));
    assert_eq!((last.speed, last.weight), (0.2, 3));
    assert_eq!(last.service_time, ServiceTime::Exponential { mean: Duration::from_millis(4) });
    assert_eq!(first.capacity(), Some(500.0));
    assert_eq!(scenario.capacity(), Some(1_100.0));
    let age = ConnectionAge { max: Duration::from_secs(10), grace: Duration::from_secs(5) };
    assert_eq!(scenario.connection_age, Some(age));
    let load = &scenario.load;
    assert_eq!(
        load.pace,
        Pace::Open { arrivals: Arrivals::Constant { rate: 3_000.0 }, profile: Profile::Flat }
    );
    assert_eq!((load.connections, load.streams), (2, 256));
    assert_eq!(load.length, Length::Duration(Duration::from_secs(5)));
    assert_eq!(load.warm_up, Duration::from_millis(500));
    assert_eq!((load.call, load.messages), (CallKind::Bidi, 7));
    let sizes = (&Sizes::Constant(16_384), &Sizes::Constant(64));
    assert_eq!((&load.request_bytes, &load.response_bytes), sizes);
    assert_eq!(scenario.policy, PolicyKind::P2c);
    assert_eq!(scenario.peers, ["l7", "direct"]);
    assert_eq!((scenario.repeats, scenario.seed), (5, 9));
    assert_eq!(scenario.claims[0].to_string(), "l4.max_share == 100%");
    assert_eq!(scenario.trial_duration(), Some(Duration::from_millis(5_500)));
}

#[test]
fn channels_and_stream_limits_are_as_in_grpc_unless_given() {
    let channel = |text: &str| resolve(text).channel;
    let unless_given = Channel {
        count: 1,
        max_connections: 1,
        resolve_interval: Duration::from_secs(30),
        initial_backoff: Duration::from_secs(1),
        keepalive: None,
    };
    assert_eq!(channel(SMALL), unless_given);
    assert_eq!(resolve(SMALL).stream_limits, StreamLimits::default());
    let given = format!(
        "{SMALL}[channel]\ncount = 3\nmax_connections = 10\nresolve_interval = \"1s\"\n\
         initial_backoff = \"50ms\"\nkeepalive_time = \"3s\"\n[backends]\nmax_concurrent_streams = 100\n[balance]\n\
         max_concurrent_streams = 128\n"
    );
    let expected = Channel {
        count: 3,
        max_connections: 10,
        resolve_interval: Duration::from_secs(1),
        initial_backoff: Duration::from_millis(50),
        keepalive: Some(Keepalive {
            time: Duration::from_secs(3),
            timeout: Duration::from_secs(20),
        }),
    };
    assert_eq!(channel(&given), expected);
    let limits = resolve(&given).stream_limits;
    assert_eq!((limits.backends, limits.balancer), (Some(100), Some(128)));
    for (text, expected) in [
        ("client = \"tonic\"\n[channel]\nmax_connections = 2\n", "one connection a channel"),
        (
            "[backends]\ncommand = [\"./x\", \"{port}\"]\nmax_concurrent_streams = 1\n",
            "servers of yours",
        ),
        ("[channel]\ncount = 0\n", "expected channels of each client from 1"),
        ("[channel]\nkeepalive_timeout = \"1s\"\n", "set `channel.keepalive_time` too"),
        (
            "[zones]\nbackends = { a = 4 }\nconnections = { a = 1 }\n[channel]\ncount = 2\n",
            "each client has one channel",
        ),
    ] {
        let error = parse(&format!("{SMALL}{text}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let scenario = resolve(SMALL);
    assert_eq!((scenario.tls, scenario.all_tls()), (Tls::None, vec![Tls::None]));
    assert_eq!(scenario.backends.len(), 4);
    assert_eq!(scenario.backends[3].service_time, ServiceTime::None);
    assert_eq!(scenario.capacity(), None);
    assert_eq!(scenario.load.pace, Pace::Closed { think_time: Duration::ZERO });
    assert_eq!(scenario.load.length, Length::Calls(10));
    assert_eq!(scenario.load.messages, 1);
    assert_eq!(scenario.peers, ["direct", "l4", "l7"]);
    assert_eq!(scenario.policy, PolicyKind::RoundRobin);
    assert_eq!(scenario.trial_duration(), None);
}

#[test]
fn tls_is_spoken_on_the_side_that_is_named() {
    let with = |tls: &str| SMALL.replace("[load]", &format!("tls = \"{tls}\"\n[load]"));
    for (tls, clients, backends) in [
        (Tls::None, false, false),
        (Tls::Client, true, false),
        (Tls::Backend, false, true),
        (Tls::Both, true, true),
    ] {
        let scenario = resolve(&with(tls.name()));
        assert_eq!((scenario.tls, scenario.all_tls()), (tls, vec![tls]));
        assert_eq!((tls.of_clients(), tls.of_backends()), (clients, backends), "{tls:?}");
        let setting = Setting::new("tls", tls.name(), "--set");
        assert_eq!(parse(SMALL).unwrap().resolve(false, &[setting]).unwrap(), scenario);
        assert_eq!(serde_json::to_value(&scenario).unwrap()["tls"], tls.name());
    }
    let error = parse(&with("clients")).unwrap_err().to_string();
    assert!(
        error.starts_with("s.toml:2: tls: unknown value `clients`; did you mean `client`?"),
        "{error}"
    );
}

#[test]
fn the_short_form_replaces_what_it_names() {
    let source = parse(GOOD).unwrap();
    let scenario = source.resolve(true, &[]).unwrap();
    assert_eq!(scenario.load.length, Length::Duration(Duration::from_millis(500)));
    assert_eq!((scenario.load.warm_up, scenario.repeats), (Duration::ZERO, 1));
    assert_eq!(scenario.load.pace, resolve(GOOD).load.pace);
}

#[test]
fn settings_replace_what_the_file_says() {
    let source = parse(SMALL).unwrap();
    let settings = [
        Setting::new("load.duration", "2s", "--duration 2s"),
        Setting::new("run.repeats", "7", "--repeats 7"),
        Setting::new("balance.policy", "maglev", "--policy maglev"),
        Setting::list("run.peers", &["l7"], "--peers l7"),
    ];
    let scenario = source.resolve(false, &settings).unwrap();
    assert_eq!(scenario.load.length, Length::Duration(Duration::from_secs(2)), "and not calls");
    assert_eq!((scenario.repeats, scenario.policy), (7, PolicyKind::Maglev));
    assert_eq!(scenario.peers, ["l7"]);
}

#[test]
fn a_wrong_setting_is_blamed_on_itself() {
    let source = parse(SMALL).unwrap();
    for (key, value, expected) in [
        (
            "load.duration",
            "0s",
            "--x: load.duration: found 0s, expected a duration from 100ms to 1h",
        ),
        ("load.duration", "5", "--x: load.duration: `5` has no unit; write \"5s\""),
        ("load.duration", "-1s", "--x: load.duration: `-1s` is negative"),
        ("load.skew.share", "40", "--x: load.skew.share: `40` has no `%`"),
        (
            "run.repeats",
            "0",
            "--x: run.repeats: found 0, expected trials of each peer from 1 to 1000",
        ),
        ("run.repeats", "many", "--x: run.repeats: found string \"many\", expected a whole number"),
        (
            "load.conections",
            "3",
            "--x: load.conections: unknown key `conections`; did you mean `connections`?",
        ),
        ("load.loop.x", "3", "--x: loop.x: `loop` holds no other keys"),
        ("lod.rate", "3", "--x: lod.rate: unknown key `lod`; did you mean `load`?"),
    ] {
        let setting = Setting::new(key, value, "--x");
        let message = source.resolve(false, &[setting]).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{key} = {value}: {message}");
    }
    let setting = Setting::list("run.peers", &["l7", "l5"], "--peers l7,l5");
    let message = source.resolve(false, &[setting]).unwrap_err().to_string();
    assert!(
        message.starts_with("--peers l7,l5: run.peers[1]: unknown peer `l5`; did you mean"),
        "{message}"
    );
    // A setting that contradicts the file points at the line it contradicts.
    let setting = Setting::new("load.loop", "open", "--loop open");
    let message = source.resolve(false, &[setting]).unwrap_err().to_string();
    assert!(message.starts_with("s.toml:2: load.rate: this key is missing"), "{message}");
}

/// Replaces one line of the good text, or takes it out.
fn with_line(line: &str, replacement: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replacen(line, replacement, 1)
}

#[test]
fn every_absurd_value_is_refused_with_its_line_and_its_bounds() {
    let cases = [
        (
            "count = 3",
            "count = 0",
            "s.toml:4: backends.count: found 0, expected backends from 1 to 10000",
        ),
        (
            "count = 3",
            "count = 2",
            "s.toml:9: backends.override[0].index: found 2, expected a backend from 0 to 1",
        ),
        (
            "concurrency = 2",
            "concurrency = 0",
            "s.toml:5: backends.concurrency: found 0, expected servers from 1 to 65536",
        ),
        (
            "\"exponential:4ms\"",
            "\"exponential:0ms\"",
            "s.toml:6: backends.service_time: in `exponential:0ms`, 0ms is out of bounds",
        ),
        (
            "\"exponential:4ms\"",
            "\"expnential:4ms\"",
            "s.toml:6: backends.service_time: `expnential:4ms` is no service time",
        ),
        (
            "max_connection_age = \"10s\"",
            "max_connection_age = \"1ms\"",
            "s.toml:7: backends.max_connection_age: found 1ms, expected an age from 10ms to 1h",
        ),
        (
            "max_connection_age =",
            "max_connection_age_grace =",
            "s.toml:7: backends.max_connection_age_grace: a grace without an age",
        ),
        (
            "speed = 0.2",
            "speed = 0",
            "s.toml:10: backends.override[0].speed: found 0, expected a speed factor from 0.001 to 1000",
        ),
        (
            "speed = 0.2",
            "speed = nan",
            "s.toml:10: backends.override[0].speed: found NaN, expected a speed factor",
        ),
        (
            "weight = 3",
            "weight = 0",
            "s.toml:11: backends.override[0].weight: found 0, expected a weight from 1 to 1000",
        ),
        (
            "loop = \"open\"",
            "loop = \"opne\"",
            "s.toml:13: load.loop: unknown value `opne`; did you mean `open`?",
        ),
        ("loop = \"open\"", "loop = \"closed\"", "s.toml:17: load.rate: belongs to an open loop"),
        (
            "loop = \"open\"",
            "loop = \"closed\"\nclosed_twin = true",
            "s.toml:14: load.closed_twin: a closed loop is its own twin",
        ),
        (
            "loop = \"open\"",
            "loop = \"closed\"\npacer = \"spin\"",
            "s.toml:14: load.pacer: a closed loop follows no schedule",
        ),
        (
            "connections = 2",
            "connections = 0",
            "s.toml:14: load.connections: found 0, expected connections from 1 to 1000000",
        ),
        ("connections = 2\n", "", "s.toml:12: load.connections: this key is missing"),
        (
            "connections = 2\nstreams = 256",
            "connections = 1000000\nstreams = 2000",
            "s.toml:15: load.streams: 1000000 connections of 2000 streams make 2000000000 calls in flight; at most 1000000000 are taken",
        ),
        (
            "streams = 256",
            "streams = 0",
            "s.toml:15: load.streams: found 0, expected calls in flight per connection from 1 to 100000",
        ),
        (
            "\"3000/s\"",
            "0",
            "s.toml:17: load.rate: found 0, expected calls per second from 0.1 to 10000000",
        ),
        (
            "\"3000/s\"",
            "inf",
            "s.toml:17: load.rate: found inf, expected calls per second from 0.1",
        ),
        ("\"3000/s\"", "\"3000/m\"", "s.toml:17: load.rate: `3000/m` has an unknown unit `/m`"),
        (
            "rate = \"3000/s\"",
            "think_time = \"1ms\"",
            "s.toml:17: load.think_time: belongs to a closed loop",
        ),
        (
            "rate = \"3000/s\"\n",
            "",
            "s.toml:12: load.rate: this key is missing: an open loop needs the rate",
        ),
        (
            "duration = \"5s\"",
            "duration = \"0s\"",
            "s.toml:18: load.duration: found 0s, expected a duration from 100ms to 1h",
        ),
        (
            "duration = \"5s\"",
            "duration = 5",
            "s.toml:18: load.duration: `5` has no unit; write \"5s\"",
        ),
        (
            "duration = \"5s\"",
            "duration = \"5 sec\"",
            "s.toml:18: load.duration: `5 sec` has an unknown unit `sec`",
        ),
        ("duration = \"5s\"", "calls = 0", "s.toml:18: load.calls: found 0, expected calls from 1"),
        (
            "duration = \"5s\"",
            "calls = 100000000",
            "s.toml:18: load.calls: 100000000 calls at 3000/s take longer than 1h",
        ),
        (
            "duration = \"5s\"",
            "duration = \"5s\"\ncalls = 10",
            "s.toml:19: load.calls: `load.duration` and `load.calls` both say",
        ),
        (
            "duration = \"5s\"\nwarm_up = \"500ms\"\n",
            "",
            "s.toml:12: load.duration: this key is missing: say how long",
        ),
        (
            "warm_up = \"500ms\"",
            "warm_up = \"2h\"",
            "s.toml:19: load.warm_up: found 2h, expected a warm-up from 0s to 10m",
        ),
        (
            "call = \"bidi\"",
            "call = \"bidirectional\"",
            "s.toml:20: load.call: unknown value `bidirectional`",
        ),
        (
            "call = \"bidi\"",
            "call = \"unary\"",
            "s.toml:21: load.messages: a unary call has one message",
        ),
        (
            "messages = 7",
            "messages = 0",
            "s.toml:21: load.messages: found 0, expected messages from 1 to 100000",
        ),
        (
            "request_bytes = \"16KiB\"",
            "request_bytes = \"9MiB\"",
            "s.toml:22: load.request_bytes: found 9MiB, expected a payload from 0B to 8MiB",
        ),
        (
            "response_bytes = 64",
            "response_bytes = -1",
            "s.toml:23: load.response_bytes: `-1` is no size",
        ),
        (
            "response_bytes = 64",
            "response_bytes = 8388609",
            "s.toml:23: load.response_bytes: found 8388609B, expected a payload from 0B to 8MiB",
        ),
        (
            "policy = \"p2c\"",
            "policy = \"p2p\"",
            "s.toml:25: balance.policy: unknown value `p2p`; did you mean `p2c`?",
        ),
        ("peers = [\"l7\", \"direct\"]", "peers = []", "s.toml:27: run.peers: the list is empty"),
        (
            "\"l7\", \"direct\"",
            "\"l7\", \"dirct\"",
            "s.toml:27: run.peers[1]: unknown peer `dirct`; did you mean `direct`?",
        ),
        ("\"l7\", \"direct\"", "\"l7\", \"l7\"", "s.toml:27: run.peers[1]: `l7` is listed twice"),
        (
            "repeats = 5",
            "repeats = 0",
            "s.toml:28: run.repeats: found 0, expected trials of each peer from 1 to 1000",
        ),
        (
            "seed = 9",
            "seed = -9",
            "s.toml:29: run.seed: found integer `-9`, expected a whole number, zero or more",
        ),
        (
            "duration = \"500ms\"",
            "duration = \"0ms\"",
            "s.toml:31: load.duration: found 0s, expected a duration from 100ms",
        ),
        (
            "duration = \"500ms\"",
            "duration = \"1s\"\ncalls = 3",
            "s.toml:32: short.calls: `short.duration` and `short.calls` both",
        ),
        (
            "l4.max_share == 100%",
            "l5.max_share == 100%",
            "s.toml:35: expect.claims[0]: unknown peer `l5`",
        ),
        (
            "0.2 * l4.latency_p99",
            "0.2 * l4.latency_p9",
            "s.toml:35: expect.claims[1]: in `l7.latency_p99 < 0.2 * l4.latency_p9`, unknown figure `latency_p9`; did you mean `latency_p90`",
        ),
        (
            "question = \"Who serves one flooded connection?\"",
            "question = \" \"",
            "s.toml:1: question: this text is empty",
        ),
        (
            "[balance]",
            "[balancing]",
            "s.toml:24: balancing: unknown key `balancing`; did you mean `balance`?",
        ),
    ];
    for (line, replacement, expected) in cases {
        let message = parse(&with_line(line, replacement)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{replacement}:\n{message}\n{expected}");
    }
}

fn with_links(links: &str) -> Result<Scenario, Error> {
    let text = SMALL.replace("[load]", &format!("network = \"namespaces\"\n{links}[load]"));
    parse(&text)?.resolve(false, &[])
}

#[test]
fn a_link_says_what_it_does_and_a_backend_s_own_goes_first() {
    let links = "[[link]]\nbetween = [\"backends\", \"balancer\"]\ndelay = \"5ms\"\n\
                 jitter = \"500us\"\nloss = \"0.5%\"\nrate = \"120mbit\"\n\
                 [[link]]\nbetween = [\"balancer\", \"b1\"]\ndelay = \"20ms\"\njitter = \"1ms\"\n\
                 limit = 50\nreorder = true\n";
    let scenario = with_links(links).unwrap();
    let ms = Duration::from_millis;
    let of = |index| *scenario.links.of(&Ends::BalancerBackend(Some(index))).unwrap();
    let jitter = Duration::from_micros(500);
    // Under way at 120 Mbit/s for 5.5 ms: 55 full packets; and 1,000 that wait.
    let (rate, limit) = (Some(120_000_000), 1_055);
    let all = LinkSettings { delay: ms(5), jitter, loss: 0.005, rate, limit, reorder: false };
    assert_eq!(of(0), all);
    let own = LinkSettings {
        delay: ms(20),
        jitter: ms(1),
        loss: 0.0,
        rate: None,
        limit: 50,
        reorder: true,
    };
    assert_eq!(of(1), own);
    assert_eq!(scenario.links.of(&Ends::ClientBalancer), None);
    assert!(!scenario.links.are_direct());
    let direct = "[[link]]\nbetween = [\"client\", \"backends\"]\ndelay = \"0s\"\n";
    let direct = with_links(direct).unwrap();
    assert!(direct.links.are_direct());
    assert!(direct.links.of(&Ends::ClientBackend(Some(3))).unwrap().is_plain());
    let json = serde_json::to_value(&scenario).unwrap();
    assert_eq!(json["links"][1]["between"], serde_json::json!(["balancer", "b1"]));
    assert_eq!(json["links"][0]["delay"], "5ms");
}

const ZONES: &str = "[zones]\nbackends = { a = 2, b = 1, c = 1 }\nconnections = { a = 1 }\n";

#[test]
fn what_crosses_from_zone_to_zone_can_take_longer() {
    let links = "[[link]]\nbetween = [\"zones\", \"zones\"]\ndelay = \"1ms\"\n\
                 [[link]]\nbetween = [\"zones.c\", \"zones.a\"]\ndelay = \"3ms\"\n";
    let scenario = with_links(&format!("{links}{ZONES}")).unwrap();
    let delay = |one, other| scenario.links.of(&Ends::zones(one, other)).unwrap().delay.as_millis();
    assert_eq!([delay("a", "b"), delay("b", "c"), delay("a", "c"), delay("c", "a")], [1, 1, 3, 3]);
    assert!(scenario.links.are_zoned() && !scenario.links.are_direct());
    assert_eq!(scenario.links.of(&Ends::ClientBalancer), None);
    let json = serde_json::to_value(&scenario).unwrap();
    assert_eq!(json["links"][0]["between"], serde_json::json!(["zones", "zones"]));
    assert_eq!(json["links"][1]["between"], serde_json::json!(["zones.a", "zones.c"]));
}

#[test]
fn zones_that_are_no_ends_of_a_link_are_refused_with_what_to_do() {
    let link = |between: &str| format!("[[link]]\nbetween = {between}\ndelay = \"1ms\"\n");
    let any = link("[\"zones\", \"zones\"]");
    let direct = link("[\"client\", \"backends\"]");
    let one = "[zones]\nbackends = { a = 4 }\nconnections = { a = 1 }\n";
    for (text, expected) in [
        (
            any.clone(),
            "link[0].between[0]: there are no zones for `zones`; write a table `[zones]`",
        ),
        (
            link("[\"zones.a\", \"zones.z\"]") + ZONES,
            "link[0].between[1]: `z` is no zone; expected `zones.` and one of a, b, c",
        ),
        (link("[\"zones.a\", \"zones.a\"]") + ZONES, "link[0].between: there is no link between"),
        (
            link("[\"zones\", \"zones.a\"]") + ZONES,
            "link[0].between: there is no link between zones and zones.a; name two zones",
        ),
        (
            link("[\"zones.a\", \"balancer\"]") + ZONES,
            "link[0].between: there is no link between zones.a and balancer; links are between",
        ),
        (link("[\"zonesa\", \"zones\"]") + ZONES, "link[0].between[0]: `zonesa` is no end of"),
        (
            any.clone() + &link("[\"zones\", \"zones\"]") + ZONES,
            "link[1].between: the link between zones and zones is set twice",
        ),
        (any.clone() + &direct + ZONES, "link[1].between: this way leads by no balancer"),
        (any.clone() + one, "link[0].between: found 1 zones, expected from 2 to 12"),
    ] {
        let message = with_links(&text).unwrap_err().to_string();
        assert!(message.starts_with("s.toml:") && message.contains(expected), "{message}");
    }
    let text = format!("network = \"namespaces\"\n{any}{ZONES}[load]\nclient = \"tonic\"");
    let message = parse(&SMALL.replace("[load]", &text)).unwrap_err().to_string();
    assert!(message.contains("link[0].between: connections of `tonic` can't be made"), "{message}");
}

#[test]
fn a_link_can_be_swept_by_its_place_in_the_list() {
    let links = "[[link]]\nbetween = [\"client\", \"balancer\"]\ndelay = \"1ms\"\n\
                 [sweep]\nkey = \"link[0].delay\"\nvalues = [\"1ms\", \"10ms\"]\n";
    let scenario = with_links(links).unwrap();
    let sweep = scenario.sweep.unwrap();
    assert_eq!(sweep.short_key(), "delay");
    let delays = sweep.points.iter().map(|point| {
        point.scenario.links.of(&Ends::ClientBalancer).map(|link| link.delay.as_millis())
    });
    assert_eq!(delays.collect::<Vec<_>>(), [Some(1), Some(10)]);
    let beyond = with_links(&links.replace("link[0].delay", "link[1].delay")).unwrap_err();
    assert!(beyond.to_string().contains("sweep.key: there is no `link[1]`"), "{beyond}");
}

#[test]
fn a_link_that_can_not_be_is_refused_with_what_to_do() {
    let ends = "between = [\"client\", \"balancer\"]\n";
    let cases = [
        (
            "between = [\"client\", \"proxy\"]\ndelay = \"1ms\"",
            "link[0].between[1]: `proxy` is no end of a link; expected `client`",
        ),
        (
            "between = [\"client\", \"b9\"]\ndelay = \"1ms\"",
            "link[0].between[1]: `b9` is no end of a link; expected `client`, `balancer`, `backends`, or one of them, `b0` to `b3`",
        ),
        (
            "between = [\"b0\", \"b1\"]\ndelay = \"1ms\"",
            "link[0].between: there is no link between b0 and b1",
        ),
        ("between = [\"client\"]\ndelay = \"1ms\"", "link[0].between: "),
        (ends, "link[0]: nothing is said of this link; set `delay`, `loss` or `rate`"),
        ("@delay = 5", "link[0].delay: `5` has no unit"),
        ("@delay = \"2s\"", "link[0].delay: found 2s, expected a time one way from 0s to 500ms"),
        ("@delay = \"1ms\"\njitter = \"2ms\"", "link[0].jitter: 2ms is more than `delay`, 1ms"),
        (
            "@loss = \"60%\"",
            "link[0].loss: found 60%, expected a part of the packets from 0% to 50%",
        ),
        ("@loss = 0.1", "link[0].loss: `0.1` has no `%`"),
        ("@rate = \"100\"", "link[0].rate: `100` has an unknown unit"),
        ("@rate = \"100bit\"", "link[0].rate: found 100bit, expected a rate from 8kbit to 100gbit"),
        ("@rate = \"1mbit\"\nlimit = 0", "link[0].limit: found 0, expected packets from 1"),
        (
            "@delay = \"1ms\"\nreorder = true",
            "link[0].reorder: packets overtake each other by jitter alone",
        ),
        (
            "@delay = \"1ms\"\njitter = \"1ms\"\nrate = \"1mbit\"\nreorder = true",
            "link[0].reorder: a rate sends one packet after the other",
        ),
        ("@delay = \"1ms\"\nlatency = \"1ms\"", "link[0].latency: unknown key `latency`"),
        (
            "@delay = \"1ms\"\n[[link]]\nbetween = [\"balancer\", \"client\"]\ndelay = \"1ms\"",
            "link[1].between: the link between client and balancer is set twice",
        ),
    ];
    for (link, expected) in cases {
        let link = link.replace('@', ends);
        let message = with_links(&format!("[[link]]\n{link}\n")).unwrap_err().to_string();
        assert!(
            message.starts_with("s.toml:") && message.contains(expected),
            "{message}\n{expected}"
        );
    }
    let loopback = SMALL.replace("[load]", &format!("[[link]]\n{ends}delay = \"1ms\"\n[load]"));
    let message = parse(&loopback).unwrap_err().to_string();
    assert!(message.contains("add `network = \"namespaces\"` above"), "{message}");
}

#[test]
fn weights_that_a_policy_cannot_take_are_refused() {
    let overrides: String = (0..64)
        .map(|index| format!("[[backends.override]]\nindex = {index}\nweight = {}\n", 1000 - index))
        .collect();
    let text = SMALL.replace("[load]", &format!("[backends]\ncount = 64\n{overrides}[load]"));
    let scenario = parse(&text).unwrap().resolve(false, &[]);
    // Whether this is too fine is the policy's say, and it has to be asked.
    let backends = (0..64_u32)
        .map(|index| std::sync::Arc::new(balance::Backend::new(format!("b{index}"), 1000 - index)));
    let built = balance::Balancer::new(PolicyKind::RoundRobin, backends.collect(), 0);
    assert_eq!(scenario.is_ok(), built.is_ok());
}

#[test]
fn a_resolved_scenario_is_written_as_json() {
    let json = serde_json::to_value(resolve(GOOD)).unwrap();
    assert_eq!(json["load"]["pace"]["arrivals"]["process"], "constant");
    assert_eq!(json["load"]["warm_up"], "500ms");
    assert_eq!(json["load"]["length"]["duration"], "5s");
    assert_eq!(json["backends"][0]["service_time"], "exponential:4ms");
    assert_eq!(json["claims"][0], "l4.max_share == 100%");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_cut_or_doubled_file_panics(cut in 0..GOOD.len(), from in 0..GOOD.len()) {
        let _ = parse(&GOOD[..cut]);
        let _ = parse(&format!("{}{}", &GOOD[..cut], &GOOD[from..]));
    }
}

fn with(tail: &str) -> Result<Scenario, Error> {
    let peers = ["direct".to_owned(), "l4".to_owned(), "l7".to_owned()];
    let source = ScenarioSource::parse("name", "name.toml", &format!("{BARE}{tail}"), &peers)?;
    source.resolve(false, &[])
}

const BARE: &str = r#"question = "What?"
[load]
loop = "open"
connections = 1
rate = "1000/s"
duration = "10s"
"#;

#[test]
fn a_rate_can_change_in_three_ways() {
    let profile = |tail: &str| match with(tail).unwrap().load.pace {
        Pace::Open { profile, .. } => profile,
        Pace::Closed { .. } => panic!("it is open"),
    };
    assert_eq!(profile(""), Profile::Flat);
    let ramp = profile("profile = { kind = \"ramp\", to = \"3000/s\" }");
    assert_eq!((&ramp, ramp.mean_factor()), (&Profile::Ramp { to: 3.0 }, 2.0));
    let steps = profile("profile = { kind = \"steps\", then = [\"2000/s\", \"500/s\"] }");
    assert_eq!(steps, Profile::Steps { factors: vec![1.0, 2.0, 0.5] });
    let bursts = profile("profile = { kind = \"bursts\", on = \"100ms\", off = \"300ms\" }");
    assert_eq!(bursts.mean_factor(), 0.25);
    for (tail, expected) in [
        ("profile = { kind = \"steps\", then = [] }", "this list is empty"),
        ("profile = { kind = \"ramp\", to = \"0/s\" }", "load.profile.to"),
        ("profile = { kind = \"bursts\", on = \"1ms\", off = \"1s\" }", "load.profile.on"),
        ("profile = { kind = \"wave\" }", "wave"),
    ] {
        let error = with(tail).unwrap_err().to_string();
        assert!(error.contains(expected), "{tail}: {error}");
    }
}

#[test]
fn speeds_change_by_factors_that_stay_within_bounds() {
    let timed = |action: &str, factor: &str| {
        let tail =
            format!("[[fault]]\nat = \"50%\"\naction = \"{action}\"\nbackend = 0\n{factor}\n");
        let text = GOOD.replace("[short]", &format!("{tail}[short]"));
        parse(&text).map(|source| source.resolve(false, &[]).unwrap().faults[0].action)
    };
    let slower = timed("slow_down", "factor = 5").unwrap();
    assert_eq!(slower, FaultAction::SlowDown { factor: 5.0 });
    assert_eq!((slower.name(), slower.speed_after(1.0, 1.0)), ("slow_down", 0.2));
    assert_eq!(timed("speed_up", "factor = 2").unwrap().speed_after(0.5, 3.0), 1.0);
    assert_eq!(FaultAction::Start.speed_after(0.1, 1.0), 1.0);
    for (action, factor, expected) in [
        ("slow_down", "", "say how many times"),
        ("slow_down", "factor = 0.5", "from 1 to 1000"),
        ("kill", "factor = 2", "`kill` has no factor"),
    ] {
        let error = timed(action, factor).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("fault[0].factor"), "{error}");
    }
    // A backend of speed 0.2 can't be slowed down a thousand times.
    let tail = "[[fault]]\nat = \"50%\"\naction = \"slow_down\"\nbackend = 2\nfactor = 900\n";
    let error = parse(&GOOD.replace("[short]", &format!("{tail}[short]"))).unwrap_err();
    assert!(error.to_string().contains("a speed in the end from 0.001"), "{error}");
    let untimed = SMALL.replace("calls = 10", "duration = \"1s\"") + tail;
    let error = parse(&untimed.replace("backend = 2", "backend = 0")).unwrap_err().to_string();
    assert!(error.contains("takes no time"), "{error}");
}

#[test]
fn backends_join_and_leave_in_an_order_that_makes_sense() {
    let with_changes = |changes: &[(&str, &str, u32)]| {
        let tail: String = changes
            .iter()
            .map(|(at, action, backend)| {
                format!("[[fault]]\nat = \"{at}\"\naction = \"{action}\"\nbackend = {backend}\n")
            })
            .collect();
        parse(&(SMALL.replace("calls = 10", "duration = \"1s\"") + &tail))
    };
    let source = with_changes(&[("60%", "remove", 0), ("30%", "add", 3), ("80%", "add", 0)]);
    let scenario = source.unwrap().resolve(false, &[]).unwrap();
    assert_eq!(scenario.first_members(), [true, true, true, false]);
    assert!(scenario.changes_membership());
    assert_eq!(resolve(SMALL).first_members(), [true; 4]);
    assert!(!resolve(SMALL).changes_membership());
    for (changes, expected) in [
        (&[("10%", "remove", 1), ("20%", "remove", 1)][..], "backend 1 is not there"),
        (&[("10%", "add", 1), ("20%", "add", 1)], "backend 1 is there already"),
        (
            &[("1%", "remove", 0), ("2%", "remove", 1), ("3%", "remove", 2), ("4%", "remove", 3)],
            "leave no backend",
        ),
        (
            &[("1%", "add", 0), ("2%", "add", 1), ("3%", "add", 2), ("4%", "add", 3)],
            "none at the start",
        ),
    ] {
        let error = with_changes(changes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn connections_may_be_unlike_and_short_lived() {
    let text =
        GOOD.replace("streams = 256", "streams = 256\nskew = { heavy = 1, share = \"60%\" }");
    let load = resolve(&text.replace("rate =", "connection_calls = 20\nrate =")).load;
    assert_eq!(load.skew, Some(scenario::Skew { heavy: 1, share: 0.6 }));
    assert_eq!(load.connection_calls, Some(20));
    let plain = resolve(GOOD).load;
    assert_eq!((plain.skew, plain.connection_calls), (None, None));
    let closed = SMALL.replace("calls = 10", "calls = 10\nskew = { heavy = 1, share = \"60%\" }");
    for (text, expected) in [
        (text.replace("heavy = 1", "heavy = 2"), "leave no light one"),
        (text.replace("60%", "100%"), "a part of all calls from"),
        (text.replace("heavy = 1", "hevy = 1"), "did you mean `heavy`?"),
        (closed, "belongs to an open loop"),
        (GOOD.replace("rate =", "connection_calls = 0\nrate ="), "load.connection_calls"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_peer_may_be_compared_under_several_policies() {
    let text = GOOD.replace("\"l7\", \"direct\"", "\"l7\", \"l7:least_loaded\"");
    let text = text.replace("l7.latency_p99 < 0.2 * l4", "l7:least_loaded.latency_p99 < 0.2 * l7");
    let scenario = resolve(&text);
    assert_eq!(scenario.peers, ["l7", "l7:least_loaded"]);
    assert_eq!(scenario.claims[1].peers().next(), Some("l7:least_loaded"));
    let error = parse(&text.replace("l7:least_loaded\"", "l7:least\"")).unwrap_err().to_string();
    assert!(error.contains("run.peers[1]") && error.contains("`least_loaded`"), "{error}");
    let error = parse(&text.replace("l7:least_loaded.", "l8:p2c.")).unwrap_err().to_string();
    assert!(error.contains("expect.claims[1]") && error.contains("unknown peer `l8`"), "{error}");
}

#[test]
fn faults_happen_in_order_to_backends_there_are() {
    let tail = "[[fault]]\nat = \"60%\"\naction = \"continue\"\nbackend = 1\n\
                [[fault]]\nat = \"50%\"\naction = \"stop\"\nbackend = 1\n";
    let faults = with(tail).unwrap().faults;
    assert_eq!(faults[0], Fault { at: 0.5, action: FaultAction::Stop, backend: 1 });
    assert_eq!(faults[1].action, FaultAction::Continue);
    for (tail, expected) in [
        ("[[fault]]\nat = \"5s\"\naction = \"kill\"\nbackend = 0", "0% to 100%"),
        ("[[fault]]\nat = \"5%\"\naction = \"kick\"\nbackend = 0", "kick"),
        ("[[fault]]\nat = \"5%\"\naction = \"kill\"\nbackend = 9", "fault[0].backend"),
    ] {
        let error = with(tail).unwrap_err().to_string();
        assert!(error.contains(expected), "{tail}: {error}");
    }
}

/// One that is stopped can't be stopped, one that is gone can't be killed.
#[test]
fn faults_find_their_backend_in_a_state_in_which_they_mean_something() {
    let timeline = |actions: &str| {
        let fault = |(index, action): (usize, &str)| {
            let (action, backend) = action.split_once('@').unwrap_or((action, "1"));
            let factor = if action.contains('_') { "factor = 2\n" } else { "" };
            format!(
                "[[fault]]\nat = \"{}%\"\naction = \"{action}\"\nbackend = {backend}\n{factor}",
                10 * (index + 1)
            )
        };
        let tail: String = actions.split(' ').enumerate().map(fault).collect();
        parse(&GOOD.replace("[short]", &format!("{tail}[short]")))
    };
    for actions in [
        "kill start kill start",
        "stop continue stop kill start",
        "drain kill start",
        "drain start slow_down",
        "stop stop@0 continue continue@0",
        "remove drain start add",
        "kill remove",
    ] {
        assert!(timeline(actions).is_ok(), "{actions}: {:?}", timeline(actions).err());
    }
    for (actions, at, expected) in [
        ("start", 0, "`start` makes no sense here: backend 1 runs at that time"),
        ("kill kill", 1, "backend 1 was killed before; `start` it first"),
        ("continue", 0, "backend 1 runs"),
        ("stop stop", 1, "backend 1 is stopped"),
        ("stop start", 1, "is stopped at that time; `continue` it first"),
        ("stop drain", 1, "is stopped"),
        ("kill stop", 1, "was killed"),
        ("kill drain", 1, "was killed"),
        ("kill slow_down", 1, "was killed"),
        ("drain drain", 1, "has been told to drain"),
        ("drain speed_up", 1, "has been told to drain"),
        ("kill start start", 2, "runs at that time"),
    ] {
        let error = timeline(actions).unwrap_err().to_string();
        assert!(error.contains(expected), "{actions}: {error}");
        let text = timeline_text(&error);
        assert!(error.contains(&format!("fault[{at}].action")), "{actions}: {error}");
        assert!(text.is_some_and(|line| line > 20), "{error}");
    }
    // By time, and not by where they stand.
    let tail = "[[fault]]\nat = \"60%\"\naction = \"kill\"\nbackend = 1\n\
                [[fault]]\nat = \"50%\"\naction = \"start\"\nbackend = 1\n";
    let error = parse(&GOOD.replace("[short]", &format!("{tail}[short]"))).unwrap_err();
    assert!(error.to_string().contains("fault[1].action"), "{error}");
}

/// The line that an error names.
fn timeline_text(error: &str) -> Option<usize> {
    error.strip_prefix("s.toml:")?.split(':').next()?.parse().ok()
}

/// Whatever is put at a key, what is said of it is said in the words of the file.
#[test]
fn no_message_has_names_of_rust_types() {
    const KEYS: &[&str] = &[
        "question",
        "tls",
        "network",
        "backends",
        "backends.count",
        "backends.service_time",
        "backends.max_connection_age",
        "backends.override",
        "load",
        "load.loop",
        "load.connections",
        "load.skew",
        "load.skew.share",
        "load.rate",
        "load.profile",
        "load.duration",
        "load.calls",
        "load.closed_twin",
        "load.payload",
        "load.search",
        "load.search.slo",
        "balance.policy",
        "run.peers",
        "run.seed",
        "fault",
        "placement.proxy",
        "precision.within",
        "sweep",
        "sweep.values",
        "short",
        "expect.claims",
    ];
    const VALUES: &[&str] = &[
        "99999999999999999999",
        "-1",
        "1.5",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "[[]]",
        "[{}]",
        "{}",
        "{ kind = 3 }",
        "{ kind = \"ramp\", to = true }",
        "2020-01-01",
    ];
    const RUST: &[&str] = &[
        "i128", "u128", "i64", "u64", "u32", "f64", "usize", "struct", "enum", "variant", "Wire",
        "sequence", "newtype", "map,", "boolean,", "visitor", "private", "untagged", "null",
    ];
    let source = parse(GOOD).unwrap();
    let mut refused = Vec::new();
    for key in KEYS {
        for value in VALUES {
            let setting = Setting::new(key, value, "--x");
            let Err(error) = source.resolve(false, &[setting]) else { continue };
            refused.push(format!("{key} = {value}: {error}"));
        }
    }
    assert!(refused.len() > 200, "{} were refused", refused.len());
    let leaks = |said: &&String| RUST.iter().any(|word| said.contains(word));
    let leaked: Vec<&String> = refused.iter().filter(leaks).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
}

#[test]
fn parts_are_placed_by_the_machine_unless_told() {
    assert_eq!(with("").unwrap().placement, Placement::Auto);
    assert_eq!(with("[placement]\nmode = \"none\"").unwrap().placement, Placement::None);
    assert_eq!(
        with("[placement]\nproxy = [1]").unwrap().placement,
        Placement::Cpus { generator: vec![], proxy: vec![1], backends: vec![] }
    );
    let error = with("[placement]\nmode = \"auto\"\nproxy = [1]").unwrap_err().to_string();
    assert!(error.contains("exclude each other"), "{error}");
}

#[test]
fn the_client_is_ours_unless_asked() {
    assert_eq!(with("").unwrap().load.client, Client::Wire);
    assert_eq!(with("client = \"tonic\"").unwrap().load.client, Client::Tonic);
}

#[test]
fn a_precision_names_figures_and_has_a_budget() {
    let precision = with("[precision.within]\nlatency_p99 = \"5%\"").unwrap().precision.unwrap();
    assert_eq!(precision.within, [(measure::figure::Figure::LatencyP99, 0.05)]);
    assert_eq!(precision.budget, Duration::from_secs(120));
    for (tail, expected) in [
        ("[precision]\nwithin = {}", "this table is empty"),
        ("[precision.within]\nlatency_p9 = \"5%\"", "latency_p9"),
        ("[precision.within]\nlatency_p99 = \"0%\"", "precision.within.latency_p99"),
        ("[precision]\nbudget = \"0s\"\nwithin = { latency_p50 = \"5%\" }", "precision.budget"),
    ] {
        let error = with(tail).unwrap_err().to_string();
        assert!(error.contains(expected), "{tail}: {error}");
    }
}
