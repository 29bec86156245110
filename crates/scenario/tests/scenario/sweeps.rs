//! Sweeps and searches: which points come of them, and what is said of wrong ones.
use std::time::Duration;

use scenario::{Error, Scenario, ScenarioSource, Setting, Tls};

const SWEPT: &str = r#"question = "?"
[load]
loop = "open"
connections = 1
rate = "1000/s"
duration = "1s"
warm_up = "500ms"
request_bytes = 7
[run]
peers = ["l4", "l7"]
repeats = 3
[sweep]
key = "load.connections"
values = [1, 8, 64]
[short]
sweep = [1, 64]
repeats = 1
[expect]
claims = ["l4[connections=64].max_share < 30%", "l7.error_rate == 0%"]
"#;

const SEARCHED: &str = r#"question = "?"
[load]
loop = "open"
connections = 4
rate = "1000/s"
duration = "1s"
[load.search]
slo = ["p99 < 5ms", "error_rate < 0.1%"]
budget = "90s"
[short]
resolution = "20%"
[expect]
claims = ["l7.saturation_rate > l4.saturation_rate"]
"#;

fn parse(text: &str) -> Result<ScenarioSource, Error> {
    ScenarioSource::parse("s", "s.toml", text, &["direct", "l4", "l7"].map(str::to_owned))
}

fn resolve(text: &str, settings: &[(&str, &str)]) -> Result<Scenario, String> {
    let setting =
        |(key, value): &(&str, &str)| Setting::new(key, value, format!("--set {key}={value}"));
    let settings: Vec<Setting> = settings.iter().map(setting).collect();
    let source = parse(text).map_err(|error| error.to_string())?;
    source.resolve(false, &settings).map_err(|error| error.to_string())
}

fn values(scenario: &Scenario) -> Vec<&str> {
    scenario.sweep.as_ref().unwrap().points.iter().map(|point| point.value.as_str()).collect()
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn every_point_is_a_scenario_with_its_value() {
    let scenario = resolve(SWEPT, &[]).unwrap();
    let sweep = scenario.sweep.as_ref().unwrap();
    assert_eq!((sweep.key.as_str(), sweep.short_key()), ("load.connections", "connections"));
    assert_eq!(values(&scenario), ["1", "8", "64"]);
    let connections: Vec<u32> =
        sweep.points.iter().map(|point| point.scenario.load.connections).collect();
    assert_eq!(connections, [1, 8, 64]);
    assert_eq!(sweep.points[2].number, Some(64.0));
    assert!(sweep.points[0].scenario.sweep.is_none());
    // 3 points, 2 peers and 3 repeats of 1.5 s.
    assert_eq!(scenario.planned(), Some(Duration::from_millis(27_000)));
}

#[test]
fn a_setting_at_the_swept_key_leaves_one_point() {
    assert_eq!(values(&resolve(SWEPT, &[("load.connections", "64")]).unwrap()), ["64"]);
    assert_eq!(values(&resolve(SWEPT, &[("load.connections", "5")]).unwrap()), ["5"]);
    assert_eq!(values(&resolve(SWEPT, &[("sweep.values", "[2, 4]")]).unwrap()), ["2", "4"]);
    let other = resolve(SWEPT, &[("load.streams", "7")]).unwrap();
    assert!(other.sweep.unwrap().points.iter().all(|point| point.scenario.load.streams == 7));
    let short = parse(SWEPT).unwrap().resolve(true, &[]).unwrap();
    assert_eq!(values(&short), ["1", "64"]);
}

#[test]
fn whatever_can_be_set_can_be_swept() {
    let with = |lines: &str| {
        let text = SWEPT.replace("key = \"load.connections\"\nvalues = [1, 8, 64]", lines);
        let text = text.replace("l4[connections=64].", "l4.");
        resolve(&text.replace("sweep = [1, 64]\n", ""), &[]).unwrap()
    };
    let payload = with("key = \"load.payload\"\nvalues = [\"32B\", \"1MiB\"]");
    let last = &payload.sweep.as_ref().unwrap().points[1];
    assert_eq!(last.number, Some(1_048_576.0));
    let load = &last.scenario.load;
    let mib = scenario::Sizes::Constant(1 << 20);
    assert_eq!((&load.request_bytes, &load.response_bytes), (&mib, &mib), "both directions");
    assert_eq!(load.payload_bytes(), 2 << 20);
    let policy = with("key = \"balance.policy\"\nvalues = [\"p2c\", \"maglev\"]");
    assert_eq!(policy.sweep.unwrap().points[0].number, None);
    let tls = with("key = \"tls\"\nvalues = [\"none\", \"both\"]");
    assert_eq!(tls.all_tls(), [Tls::None, Tls::Both]);
    let backends = with("key = \"backends.count\"\nfrom = 1\nto = 16\npoints = 5");
    let counts: Vec<usize> =
        backends.sweep.unwrap().points.iter().map(|p| p.scenario.backends.len()).collect();
    assert_eq!(counts, [1, 2, 4, 8, 16]);
    let rate = with("key = \"load.rate\"\nvalues = [\"500/s\", 1000]");
    let rates: Vec<Option<f64>> = rate
        .sweep
        .unwrap()
        .points
        .iter()
        .map(|point| point.scenario.load.pace.mean_rate())
        .collect();
    assert_eq!(rates, [Some(500.0), Some(1000.0)]);
}

#[test]
fn wrong_sweeps_are_told_with_their_line() {
    for (from, to, expected) in [
        (
            "key = \"load.connections\"",
            "key = \"load.conections\"",
            "s.toml:13: sweep.key: unknown key `conections`; did you mean `connections`?",
        ),
        (
            "key = \"load.connections\"",
            "key = \"run.repeats\"",
            "s.toml:13: sweep.key: `run.repeats` can't be swept; name a key of [load]",
        ),
        ("key = \"load.connections\"", "key = \"load.loop\"", "can't be swept"),
        (
            "[1, 8, 64]",
            "[1, 8, 0]",
            "s.toml:14: sweep.values[2]: found 0, expected connections from 1 to 1000000",
        ),
        (
            "[1, 8, 64]",
            "[1, \"many\", 64]",
            "s.toml:14: sweep.values[1]: found string \"many\", expected a whole number",
        ),
        ("[1, 8, 64]", "[1, 64, 1]", "s.toml:14: sweep.values[2]: `1` is listed twice"),
        ("[1, 8, 64]", "[]", "s.toml:14: sweep.values: found 0 values, expected 1 to 32"),
        ("[1, 8, 64]", "[1, true]", "expected a number or a text"),
        ("[1, 8, 64]", "[1, 8, 64]\nfrom = 2", "exclude each other"),
        ("values = [1, 8, 64]\n", "", "there are no values"),
        ("values = [1, 8, 64]\n", "from = 1\nto = 64\n", "sweep.points: this key is missing"),
        ("values = [1, 8, 64]\n", "from = 64\nto = 1\npoints = 3\n", "expected more than `64`"),
        (
            "connections=64]",
            "connections=65]",
            "`connections=65` is no point of the sweep: it tries `connections` at `1`, `8`, `64`",
        ),
        ("[connections=64]", "[streams=64]", "is no point of the sweep"),
    ] {
        let text = SWEPT.replacen(from, to, 1);
        assert_ne!(text, SWEPT, "{from}");
        let message = refusal(&text);
        assert!(message.contains(expected), "{to}: {message}");
    }
    let streams = SWEPT.replacen("request_bytes = 7", "streams = 100000\nrequest_bytes = 7", 1);
    let message = refusal(&streams.replacen("[1, 8, 64]", "[1, 8, 20000]", 1));
    let expected = "with `load.connections` at `20000`: 20000 connections of 100000 streams";
    assert!(message.contains(expected), "{message}");
    let message = resolve(SWEPT, &[("load.connections", "0")]).unwrap_err();
    assert!(message.starts_with("--set load.connections=0: "), "{message}");
    let unswept = SWEPT.replace("[sweep]\nkey = \"load.connections\"\nvalues = [1, 8, 64]\n", "");
    assert!(refusal(&unswept).contains("short.sweep: there is nothing it replaces"));
    let unswept = unswept.replace("sweep = [1, 64]\n", "");
    assert!(refusal(&unswept).contains("a point without a `[sweep]`"));
}

#[test]
fn a_search_says_what_has_to_hold() {
    let scenario = resolve(SEARCHED, &[("load.search.resolution", "10%")]).unwrap();
    assert_eq!(scenario.planned(), Some(Duration::from_secs(90)));
    let search = scenario.load.search.as_ref().unwrap();
    assert_eq!(search.resolution, 0.1);
    assert_eq!(search.slo[0].to_string(), "p99 < 5ms");
    assert_eq!(scenario.at_rate(5.0).load.pace.mean_rate(), Some(5.0));
    let short = parse(SEARCHED).unwrap().resolve(true, &[]).unwrap();
    assert_eq!(short.load.search.unwrap().resolution, 0.2);
}

#[test]
fn wrong_searches_are_told_with_their_line() {
    for (from, to, expected) in [
        (
            "\"p99 < 5ms\"",
            "\"p99 < 5\"",
            "s.toml:8: load.search.slo[0]: `latency_p99` is a time with its unit",
        ),
        ("[\"p99 < 5ms\", \"error_rate < 0.1%\"]", "[]", "this list is empty"),
        ("duration = \"1s\"", "calls = 100", "a search changes the rate of an open loop"),
        (
            "[load.search]",
            "profile = { kind = \"ramp\", to = 5 }\n[load.search]",
            "without a profile",
        ),
        (
            "[short]",
            "[precision.within]\nlatency_p99 = \"5%\"\n[short]",
            "repeats near the edge by itself",
        ),
        (
            "[short]",
            "[sweep]\nkey = \"load.rate\"\nvalues = [1]\n[short]",
            "a search chooses the rates",
        ),
    ] {
        let text = SEARCHED.replacen(from, to, 1);
        assert_ne!(text, SEARCHED, "{from}");
        let message = refusal(&text);
        assert!(message.contains(expected), "{to}: {message}");
    }
    let start = SEARCHED.find("[load.search]").unwrap();
    let end = SEARCHED.find("[expect]").unwrap();
    let without = format!("{}{}", &SEARCHED[..start], &SEARCHED[end..]);
    assert!(refusal(&without).contains("a figure of a search; add `[load.search]`"));
}
