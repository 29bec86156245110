//! The program as an operator runs it: admin API, watched file, signals, and
//! too few descriptors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Backend, await_that, bounded, expect_bytes, pass};

/// A running l4-proxy, killed with the test.
struct Program {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    started: Instant,
}

impl Program {
    /// Starts it with at most `descriptors` open files.
    fn start(descriptors: u32, flags: &[String]) -> Self {
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_l4-proxy")])
            .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--threads=1"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut value_after = |beginning: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(beginning).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        let admin = value_after("admin API on http://");
        let admin = admin.strip_suffix("/backends").unwrap().parse().unwrap();
        // Standard output is the log where there is one, and then nothing else.
        let address = if flags.contains(&"--log-connections".to_owned()) {
            value_after("listening on ")
        } else {
            let mut ready = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
            let address = ready.strip_prefix("listening on ").unwrap_or_else(|| panic!("{ready}"));
            address.trim_end().to_owned()
        };
        let address = address.parse().unwrap();
        // What it says later is not looked at, and must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, admin, started: Instant::now() }
    }

    fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect(self.address).unwrap())
    }

    /// Asks the admin API; status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = bounded(TcpStream::connect(self.admin).unwrap());
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn list(&self) -> Vec<serde_json::Value> {
        let (_, body) = self.ask("GET", "/backends", "");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["backends"].as_array().unwrap().clone()
    }

    fn metric(&self, beginning: &str) -> f64 {
        let (_, text) = self.ask("GET", "/metrics", "");
        let lines = text.lines().filter(|line| line.starts_with(beginning));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn exit_code(&mut self) -> i32 {
        let mut status = None;
        await_that("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn backend_flag(target: &Backend) -> String {
    format!("--backend={}", target.address)
}

#[test]
fn an_operator_sees_and_changes_backends_over_http() {
    let (first, second) = (Backend::start(), Backend::start());
    let program = Program::start(200, &[backend_flag(&first)]);
    let _held = (program.connect(), first.accept());
    let body = format!("{{\"address\": \"{}\", \"weight\": 2}}", second.address);
    assert_eq!(program.ask("POST", "/backends", &body).0, 201);
    assert_eq!(program.ask("POST", "/backends", &body).0, 409);
    let one = format!("/backends/{}", first.address);
    assert_eq!(program.ask("PATCH", &one, "{\"state\": \"draining\"}").0, 200);
    let list = program.list();
    assert_eq!((&list[0]["state"], &list[0]["in_flight"]), (&"draining".into(), &1.into()));
    assert_eq!((&list[1]["state"], &list[1]["weight"]), (&"active".into(), &2.into()));
    let mut client = program.connect();
    pass(&mut client, &mut second.accept(), b"to the new one");
    assert_eq!(program.ask("DELETE", &one, "").0, 200);
    assert_eq!(program.list().len(), 1);
}

#[test]
fn a_watched_file_is_the_list_of_backends() {
    let (first, second) = (Backend::start(), Backend::start());
    let name = format!("layerlab-l4-{}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    let entry = |target: &Backend| format!("[[backend]]\naddress = \"{}\"\n", target.address);
    std::fs::write(&path, entry(&first)).unwrap();
    let program = Program::start(200, &[format!("--backends-file={}", path.display())]);
    pass(&mut program.connect(), &mut first.accept(), b"as the file says");
    // Replaced by a rename, as a careful writer does it.
    let next = path.with_extension("next");
    std::fs::write(&next, format!("{}{}", entry(&first), entry(&second))).unwrap();
    std::fs::rename(&next, &path).unwrap();
    await_that("the second backend", || program.list().len() == 2);
    std::fs::write(&path, "[[backend]]\naddress = ").unwrap();
    await_that("the broken file to be noticed", || {
        program.metric("l4_backends_file_failed_total") == 1.0
    });
    assert_eq!(program.list().len(), 2, "a broken file changes nothing");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_is_no_list_is_bad_usage() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_l4-proxy"));
    let output = program.args(["--backends-file", "/nowhere.toml"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: /nowhere.toml can't be read"), "{text}");
}

#[test]
fn a_connection_that_ended_is_a_line_of_json() {
    let target = Backend::start();
    let mut program = Program::start(200, &[backend_flag(&target), "--log-connections".into()]);
    let mut client = program.connect();
    let (mut backend, port) = (target.accept(), client.local_addr().unwrap().port());
    pass(&mut client, &mut backend, b"four");
    pass(&mut backend, &mut client, b"eleven more");
    drop((client, backend));
    let mut line = String::new();
    BufReader::new(program.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["client"], format!("127.0.0.1:{port}"));
    assert_eq!(line["backend"], target.address.to_string());
    assert_eq!((&line["to_backend_bytes"], &line["to_client_bytes"]), (&4.into(), &11.into()));
    assert_eq!(line["end"], "closed");
}

#[test]
fn sigterm_drains_and_ends_well() {
    let target = Backend::start();
    let mut program = Program::start(200, &[backend_flag(&target)]);
    let (mut client, mut backend) = (program.connect(), target.accept());
    program.signal(rustix::process::Signal::TERM);
    await_that("new connections to be refused", || TcpStream::connect(program.address).is_err());
    pass(&mut client, &mut backend, b"what is open may finish");
    drop((client, backend));
    while target.try_accept().is_some() {}
    await_that("the program to end", || {
        while target.try_accept().is_some() {}
        program.child.try_wait().unwrap().is_some()
    });
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn without_descriptors_it_sheds_without_spinning_and_loses_no_connection() {
    let target = Backend::start();
    let program = Program::start(64, &[backend_flag(&target), "--data-plane=splice".into()]);
    let mut held: Vec<_> = (0..10).map(|_| (program.connect(), target.accept())).collect();
    let mut flood = Vec::new();
    for _ in 0..4 {
        // Many at once, and all of them at a time when none can be served.
        let clients: Vec<_> = (0..60).map(|_| program.connect()).collect();
        flood.extend(clients);
        while let Some(served) = target.try_accept() {
            flood.push(served);
        }
        // Those that have their descriptors go on, and copy for want of pipes.
        for (client, backend) in &mut held {
            let bytes = vec![0x5a; 100_000];
            client.write_all(&bytes).unwrap();
            expect_bytes(backend, &bytes);
            pass(backend, client, b"an answer");
        }
    }
    drop(flood);
    await_that("new connections to be served again", || {
        let _client = program.connect();
        target.try_accept().is_some()
    });
    let turned_away = program.metric("l4_connections_shed_total{reason=\"no_descriptor\"}")
        + program.metric("l4_connections_ended_total{end=\"local_fault\"}");
    assert!(turned_away > 100.0, "{turned_away}");
    // A loop that spun at the door would count hundreds of thousands.
    let errors = program.metric("l4_accept_errors_total");
    let rests = program.started.elapsed().as_millis() as f64 / 50.0 + 1.0;
    assert!(errors <= rests, "{errors} failures to accept, {rests} rests");
    assert!(program.metric("l4_pipes_refused_total") > 0.0, "none of it had to copy");
}
