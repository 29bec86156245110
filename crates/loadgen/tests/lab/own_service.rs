//! A service that the lab knows nothing of. Here it is the lab's own echo service,
//! started by the test: only what it says of itself, and what the flags or the scenario
//! say of it, are used.

use std::{
    env, fs,
    io::{self, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
};

use measure::{folder::Run, warning::Warning};

use crate::common::{Home, Server};

const ECHO: &str = "layerlab.echo.v1.Echo";

/// A scenario that calls the echo service in all ways; what differs is appended.
const SERVICE: &str = r#"
question = "Does a service of somebody else answer?"
[load]
loop = "open"
connections = 2
rate = "400/s"
calls = 200
warm_up = "0s"
[run]
repeats = 1
"#;

fn scenario(home: &Home, service: &str) {
    home.scenario("own", &format!("{SERVICE}{service}"));
}

#[test]
fn a_quick_try_needs_no_scenario() {
    let server = Server::start(&["echo-backend", "--id", "alpha"]);
    let home = Home::new();
    let data = r#"{"sequence": {{ seq() }}, "payload": "AAEC"}"#;
    let ran = home.run(&[
        "--target",
        &server.address,
        "--reflection",
        "--method",
        "Echo/Unary",
        "--data",
        data,
        "--metadata",
        "authorization: Bearer s3cret",
        "--short",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let folder = &home.runs("quick")[0];
    let run = Run::open(folder).unwrap();
    let service = run.record.load.service.unwrap();
    assert_eq!((service.methods[0].method.as_str(), service.identity), ("Echo/Unary", None));
    let trial = &run.trials[0];
    assert!(trial.counts.ok > 50 && trial.counts.ok == trial.counts.scheduled);
    // Nothing tells which backend it was, and nothing is made up.
    assert!(trial.backends.is_empty() && trial.queued.count == 0);
    assert!(run.record.warnings.contains(&Warning::SharesUnknown));
    let said = fs::read_to_string(folder.join("run.json")).unwrap();
    assert!(said.contains("authorization") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_mix_of_all_kinds_of_calls_is_checked_and_attributed() {
    let backends = ["alpha", "beta"].map(|id| Server::start(&["echo-backend", "--id", id]));
    let flags = backends.iter().map(|backend| format!("--backend={}", backend.address));
    let flags: Vec<String> = flags.collect();
    let proxy = Server::start(&["l7-proxy", "--threads=1", &flags[0], &flags[1]]);
    let home = Home::new();
    scenario(
        &home,
        r#"
[service]
reflection = true
[[service.call]]
method = "layerlab.echo.v1.Echo/Unary"
weight = 3
request = '{"payload": "YWJj", "responseBytes": 3, "sequence": {{ int(1, 9) }}}'
expect.fields = { "$.payload" = "YWJj" }
[[service.call]]
method = "layerlab.echo.v1.Echo/ServerStream"
request = '{"response_count": 3}'
[[service.call]]
method = "layerlab.echo.v1.Echo/ClientStream"
messages = 3
pause = "1ms"
[[service.call]]
method = "layerlab.echo.v1.Echo/Bidi"
messages = 4
responses = 2
deadline = "10s"
[expect]
claims = ["target.error_rate == 0%"]
"#,
    );
    let ran = home.run(&["--scenario", "own", "--target", &proxy.address]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("own")[0]).unwrap();
    assert_eq!(run.trials[0].counts.ok, 200, "{:?}", run.trials[0].counts);
    assert_eq!(run.record.load.service.unwrap().methods.len(), 4);
}

#[test]
fn what_is_wrong_is_told_before_anything_is_measured() {
    let server = Server::start(&["echo-backend", "--id", "alpha"]);
    let home = Home::new();
    let check = |service: &str, target: &str, code: i32, told: &[&str]| {
        scenario(&home, service);
        let ran = home.run(&["--scenario", "own", "--target", target]);
        assert_eq!(ran.code, Some(code), "{}", ran.said());
        for part in told {
            assert!(ran.said().contains(part), "{part}: {}", ran.said());
        }
        assert!(home.runs("own").is_empty(), "nothing was measured");
    };
    let call = |rest: &str| {
        format!(
            "[service]\nreflection = true\n[[service.call]]\nmethod = \"{ECHO}/Unary\"\n{rest}\n"
        )
    };
    let there = server.address.as_str();
    check("[service]\n", there, 2, &["own.toml:11: service: the interface is missing"]);
    check("[service]\nreflection = true\n", there, 2, &["own.toml:11: service.call", "missing"]);
    check(&call("deadline = \"0s\""), there, 2, &["own.toml:15: service.call[0].deadline"]);
    check(&call("weigth = 1"), there, 2, &["own.toml:15", "did you mean `weight`"]);
    check(
        "[service]\nproto = [\"missing.proto\"]\n[[service.call]]\nmethod = \"A/B\"\n",
        there,
        2,
        &["own.toml:12: service.proto: cannot read", "missing.proto"],
    );
    let broken = home.path("scenarios/broken.proto");
    fs::write(broken, "syntax = \"proto3\";\nmessage A { strin a = 1; }\n").unwrap();
    check(
        "[service]\nproto = [\"broken.proto\"]\n[[service.call]]\nmethod = \"A/B\"\n",
        there,
        2,
        &["own.toml:12: service.proto: broken.proto:2:13"],
    );
    let told = ["own.toml:15: service.call[0].request", "no such field; did you mean `payload`?"];
    check(&call("request = '{\"paylod\": \"\"}'"), there, 2, &told);
    let told = ["own.toml:15: service.call[0].metadata", "`te`"];
    check(&call("metadata = { te = \"x\" }"), there, 2, &told);
    let told = ["own.toml:15: service.call[0].metadata", "variable NOT_SET_ANYWHERE is not set"];
    check(&call("metadata = { x = \"{{ env('NOT_SET_ANYWHERE') }}\" }"), there, 2, &told);
    let told = ["no method is called `Echo/Unery`", "did you mean"];
    check(
        "[service]\nreflection = true\n[[service.call]]\nmethod = \"Echo/Unery\"\n",
        there,
        2,
        &told[..1],
    );
    let told = [&format!("{ECHO}/Unary: found status OK, expected NOT_FOUND")[..]];
    check(&call("expect.status = \"NOT_FOUND\""), there, 3, &told);
    let told = ["lacks what `expect.fields` asks for"];
    check(&call("expect.fields = { \"$.backend\" = \"omega\" }"), there, 3, &told);
    let large = Server::start(&["echo-backend", "--max-message-bytes", "33554432"]);
    let told = ["message length too large", "the limit is: 16777216 bytes"];
    check(&call("request = '{\"responseBytes\": 17000000}'"), &large.address, 3, &told);
}

#[test]
fn what_answers_and_is_no_grpc_is_told() {
    let home = Home::new();
    scenario(&home, "[service]\nreflection = true\n[[service.call]]\nmethod = \"A/B\"\n");
    for (greeting, told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "it speaks HTTP/1"),
        (b"\x15\x03\x01\0\x02\x02\x46", "it speaks TLS"),
        (b"", "it closes the connection, or says nothing"),
    ] {
        let address = greeter(greeting, false);
        let ran = home.run(&["--scenario", "own", "--target", &address]);
        assert_eq!(ran.code, Some(3), "{}", ran.said());
        assert!(ran.said().contains(told), "{}", ran.said());
    }
    // One that says nothing, and stays.
    let ran = home.run(&["--scenario", "own", "--target", &greeter(b"", true)]);
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.said().contains("or says nothing"), "{}", ran.said());
    for (flags, told) in [
        (&["--scenario", "own"][..], "--target"),
        (&["--scenario", "own", "--ca", "ca.pem"], "--ca: it is for a --target"),
        // No file of the user's is at fault here.
        (
            &["--target", "127.0.0.1:1", "--method", "A/B"],
            "error: the flags: service: the interface",
        ),
    ] {
        let ran = home.run(flags);
        assert_eq!(ran.code, Some(2), "{}", ran.said());
        assert!(ran.said().contains(told), "{}", ran.said());
    }
}

/// Listens, and greets everybody who connects. It ends with the test's process.
fn greeter(greeting: &'static [u8], stays: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.write_all(greeting);
            kept.extend(stays.then_some(socket));
        }
    });
    address
}

#[test]
fn a_scenario_is_written_for_a_service_that_is_there() {
    let server = Server::start(&["echo-backend", "--id", "alpha"]);
    let home = Home::new();
    let init = |rest: &[&str]| home.run(&[&["init", "--target", &server.address], rest].concat());
    let ran = init(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.said().contains("layerlab.echo.v1.Echo/Bidi (bidirectional"), "{}", ran.said());
    let text = fs::read_to_string(home.path("unary.toml")).unwrap();
    for part in ["method = \"layerlab.echo.v1.Echo/Unary\"", "\"payload\": \"AAEC\""] {
        assert!(text.contains(part), "{text}");
    }
    // What it wrote runs as it is.
    let ran = home.run(&["--scenario", "unary.toml", "--target", &server.address, "--short"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    for method in ["ServerStream", "ClientStream", "Bidi"] {
        let ran = init(&["--method", method, "--out", "stream.toml"]);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        let ran = home.run(&["check", "stream.toml"]);
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        fs::remove_file(home.path("stream.toml")).unwrap();
    }
    let ran = init(&[]);
    assert!(ran.code == Some(2) && ran.said().contains("is there already"), "{}", ran.said());
    let ran = init(&["--method", "Unery"]);
    assert!(ran.code == Some(2) && ran.said().contains("no method is called"), "{}", ran.said());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ran = home.run(&["init", "--target", &closed]);
    assert!(ran.code == Some(3) && ran.said().contains("refused"), "{}", ran.said());
}

/// The worked example of docs/your-service.md: servers in Python, started by the lab.
#[test]
fn the_example_runs_where_python_and_grpc_are() {
    let python = env::var_os("LAYERLAB_PYTHON").unwrap_or_else(|| "python3".into());
    let imports = "import grpc, grpc_tools, grpc_health, grpc_reflection";
    let found = Command::new(&python).args(["-c", imports]).output();
    if !found.is_ok_and(|found| found.status.success()) {
        let reason = "python3 has no grpcio (examples/own-service/requirements.txt)";
        io::stderr().write_all(format!("NOT RUN: the_example: {reason}\n").as_bytes()).unwrap();
        return;
    }
    let home = Home::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/own-service");
    for file in ["orders.toml", "shop.proto", "server.py"] {
        let text = fs::read_to_string(from.join(file)).unwrap();
        let python = format!("\"{}\", \"server.py\"", python.display());
        let text = text.replace("\"python3\", \"server.py\"", &python);
        fs::write(home.path(file), text).unwrap();
    }
    let ran = home.run(&["--scenario", "orders.toml", "--short"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("orders")[0]).unwrap();
    assert_eq!(run.record.load.service.unwrap().identity.unwrap(), "header x-served-by");
    for trial in &run.trials {
        let known: u64 = trial.backends.iter().map(|backend| backend.calls).sum();
        assert_eq!((trial.backends.len(), known), (3, trial.counts.ok), "{}", trial.peer);
    }
    // Taps in place of the header, which know how many threads a server has.
    let text = fs::read_to_string(home.path("orders.toml")).unwrap();
    let text = text.replace("identity = { header = \"x-served-by\" }\n", "");
    let text = text.replace("count = 3\n", "count = 3\nconcurrency = 8\n");
    fs::write(home.path("orders.toml"), text).unwrap();
    let ran = home.run(&["--scenario", "orders.toml", "--short"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let folder = home.runs("orders").pop().unwrap();
    for trial in Run::open(&folder).unwrap().trials {
        assert_eq!((trial.service.count, trial.queued.count), (trial.counts.ok, trial.counts.ok));
        // The slow one sleeps for 25 ms in every other call and more.
        let slow = trial.backends[2].service.as_ref().map_or(0, |service| service.max);
        assert!(trial.backends[2].calls == 0 || slow > 25_000_000, "{}: {slow}", trial.peer);
    }
    let ran = home.run(&["simulate", "--like", folder.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
}
