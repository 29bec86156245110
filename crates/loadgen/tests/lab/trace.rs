//! Loads whose calls differ in size, and loads that were recorded.

use std::fs;

use measure::{
    folder::Run,
    record::{RunRecord, TrialRecord},
};

use crate::common::Home;

/// The load is appended.
const SCENARIO: &str = r#"
question = "What do calls do that are not alike?"
[backends]
count = 2
[run]
peers = ["l7"]
repeats = 1
[expect]
claims = ["l7.error_rate == 0%"]
[load]
loop = "open"
connections = 2
"#;

fn ran(home: &Home, load: &str, arguments: &[&str]) -> (RunRecord, Vec<TrialRecord>) {
    home.scenario("own", &format!("{SCENARIO}{load}"));
    let ran = home.run(&[&["--scenario", "own"], arguments].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("own").pop().unwrap()).unwrap();
    (run.record, run.trials)
}

#[test]
fn sizes_are_drawn_or_listed_and_every_answer_has_its_own() {
    let home = Home::new();
    fs::write(home.path("scenarios/sizes.txt"), "1KiB\n0\n70000\n").unwrap();
    let load = "rate = \"400/s\"\ncalls = 150\nwarm_up = \"0s\"\n\
                request_bytes = \"lognormal:600B,sigma=1\"\nresponse_bytes = \"file:sizes.txt\"\n";
    for client in ["load.call=bidi", "load.client=tonic"] {
        let (record, trials) = ran(&home, load, &["--set", client]);
        assert_eq!(record.load.request_sizes.as_deref(), Some("lognormal:600B,sigma=1"));
        assert_eq!(record.load.response_sizes.as_deref(), Some("file:sizes.txt"));
        assert_eq!((record.load.request_bytes, record.load.response_bytes), (600, 23_674));
        assert!(trials.iter().all(|trial| trial.counts.ok == 150), "{client}");
    }
}

/// Two bursts, half a second apart.
fn trace(methods: [&str; 2]) -> String {
    let line = |index: u32| {
        let time_s = 7.0 + f64::from(index / 20) * 0.5 + f64::from(index % 20) * 0.001;
        format!("{time_s},{},{},8\n", methods[(index % 2) as usize], index * 10)
    };
    let lines: String = (0..40).map(line).collect();
    format!("time_s,method,request_bytes,response_bytes\n{lines}")
}

#[test]
fn a_trace_is_replayed_call_by_call() {
    let home = Home::new();
    fs::write(home.path("scenarios/day.csv"), trace(["/a.B/C", "/a.B/D"])).unwrap();
    let load = "arrivals = \"trace:day.csv\"\n";
    let (record, trials) = ran(&home, load, &["--set", "load.speed=0.5"]);
    assert_eq!(record.load.arrivals.as_deref(), Some("trace"));
    assert_eq!((record.load.request_bytes, record.load.response_bytes), (195, 8));
    let trial = &trials[0];
    assert_eq!((trial.counts.scheduled, trial.counts.ok), (40, 40));
    assert!((trial.measured_s - 2.0 * 0.519).abs() < 1e-6, "{}", trial.measured_s);
}

/// Methods of the trace are those of `[[service.call]]`.
#[test]
fn a_trace_says_which_method_is_called() {
    let home = Home::new();
    let path = home.path("scenarios/day.csv");
    fs::write(&path, trace(["layerlab.echo.v1.Echo/Bidi", "/layerlab.echo.v1.Echo/Unary"]))
        .unwrap();
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let own = SCENARIO.replace(
        "count = 2\n",
        &format!(
            "count = 2\ncommand = [\"{loadgen}\", \"echo-backend\", \"--listen\", \"{{addr}}\"]\n"
        ),
    );
    // Base64 has four letters for three bytes.
    let request = r#"{ "payload": "{{ text(request_bytes() // 4 * 4) }}" }"#;
    let call = |method: &str| {
        format!("[[service.call]]\nmethod = \"Echo/{method}\"\nrequest = '{request}'\n")
    };
    let calls = ["Unary", "Bidi"].map(call).concat();
    let load = format!("arrivals = \"trace:day.csv\"\n[service]\nreflection = true\n{calls}");
    home.scenario("own", &format!("{own}{load}"));
    let ran = home.run(&["--scenario", "own"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("own").pop().unwrap()).unwrap();
    assert_eq!(run.trials[0].counts.ok, 40);
    home.scenario("own", &format!("{own}{}", load.replace("Echo/Bidi", "Echo/ServerStream")));
    let ran = home.run(&["--scenario", "own"]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    let told = "day.csv calls `layerlab.echo.v1.Echo/Bidi`, which no `[[service.call]]` does";
    assert!(ran.said().contains(told), "{}", ran.said());
}

#[test]
fn what_can_not_be_replayed_is_told_with_its_line() {
    let home = Home::new();
    fs::write(home.path("scenarios/day.csv"), trace(["a.B/C", "a.B/D"])).unwrap();
    fs::write(home.path("scenarios/bad.csv"), "time_s\n1\n0\n").unwrap();
    for (load, told) in [
        ("arrivals = \"trace:none.csv\"", "own.toml:13: load.arrivals: cannot read none.csv"),
        ("arrivals = \"trace:bad.csv\"", "own.toml:13: load.arrivals: bad.csv:3: it is earlier"),
        ("arrivals = \"traces\"", "`traces` are no arrivals"),
        ("arrivals = \"trace:day.csv\"\nrate = 5", "own.toml:14: load.rate: a trace has its own"),
        ("arrivals = \"trace:day.csv\"\ncalls = 5", "own.toml:14: load.calls: a trace is"),
        ("rate = 5\ncalls = 5\nspeed = 2.0", "own.toml:15: load.speed: belongs to a trace"),
        (
            "rate = 5\ncalls = 5\npayload = \"file:no.txt\"",
            "own.toml:15: load.payload: cannot read",
        ),
    ] {
        home.scenario("own", &format!("{SCENARIO}{load}\n"));
        let ran = home.run(&["--scenario", "own"]);
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        assert!(ran.said().contains(told), "{told}: {}", ran.said());
    }
}

#[test]
fn an_access_log_becomes_a_trace() {
    let home = Home::new();
    let ours = "{\"time_unix_ms\":1700000002000,\"peer\":null,\"path\":\"/a.B/D\",\"backend\":null,\
                \"outcome\":\"ok\",\"http_status\":200,\"grpc_status\":0,\"request_bytes\":15,\
                \"response_bytes\":105,\"duration_us\":1500000,\"attempts\":1}\n\
                {\"time_unix_ms\":1700000001000,\"path\":\"/a.B/C\",\"request_bytes\":5,\
                \"response_bytes\":0,\"duration_us\":1000}\n";
    let envoy = "{\"start_time\":\"2023-11-14T22:13:20.500Z\",\"path\":\"/a.B/D\",\
                 \"bytes_received\":15,\"bytes_sent\":105,\"upstream_service_time\":\"1500\"}\n\
                 {\"start_time\":\"2023-11-14T22:13:20.999Z\",\":path\":\"/a.B/C\",\
                 \"bytes_received\":5,\"bytes_sent\":0,\"x-envoy-upstream-service-time\":1}\n\
                 {\"start_time\":\"2023-11-14T22:13:21Z\",\"path\":\"/a.B/C\",\
                 \"bytes_received\":5,\"bytes_sent\":0,\"upstream_service_time\":\"-\"}\n";
    let expected = "time_s,method,request_bytes,response_bytes,took_s\n\
                    0.000000,a.B/D,10,100,1.500000\n0.499000,a.B/C,0,0,0.001000\n";
    let of_envoy = format!("{expected}0.500000,a.B/C,0,0,\n");
    for (name, text, expected) in [("ours", ours, expected), ("envoy", envoy, &of_envoy)] {
        fs::write(home.path(&format!("{name}.json")), text).unwrap();
        let ran = home.run(&["trace", &format!("{name}.json")]);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        assert_eq!(fs::read_to_string(home.path(&format!("{name}.csv"))).unwrap(), expected);
    }
    fs::write(home.path("bad.json"), format!("{ours}GET / 200\n")).unwrap();
    let ran = home.run(&["trace", "bad.json"]);
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(ran.stderr.contains("bad.json:3: no line of an access log in JSON"), "{}", ran.said());
    // A log and its trace are alike to a simulation, which needs a scenario beside them.
    for like in ["bad.json", "none.json", "envoy.csv"] {
        let ran = home.run(&["simulate", "--like", like]);
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        let told = if like == "envoy.csv" { "--scenario NAME" } else { like };
        assert!(ran.stderr.contains(told), "{}", ran.said());
    }
}
