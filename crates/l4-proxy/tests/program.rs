//! The program as an operator runs it: admin API, watched file, signals, and
//! too few descriptors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use common::{Backend, await_that, bounded, expect_bytes, pass};

/// A running l4-proxy, killed with the test.
struct Program {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    started: Instant,
    /// What it said on standard error after it was ready.
    said: Arc<Mutex<String>>,
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
        // Read all along, since it must not fill the pipe.
        let said = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push_str(&line));
        });
        Self { child, address, admin, started: Instant::now(), said }
    }

    fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect(self.address).unwrap())
    }

    /// Asks the admin API; status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_by(&self.admin.to_string(), method, path, body)
    }

    /// The same, by this name.
    fn ask_by(&self, host: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = bounded(TcpStream::connect(self.admin).unwrap());
        let fields = format!("host: {host}\r\ncontent-length: {}", body.len());
        write!(stream, "{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}").unwrap();
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
fn the_admin_api_is_known_by_its_address_and_by_what_was_allowed() {
    let target = Backend::start();
    let flags = [backend_flag(&target), "--admin-allowed-host=proxy.example".to_owned()];
    let program = Program::start(200, &flags);
    let local = format!("localhost:{}", program.admin.port());
    for (host, status) in [(local.as_str(), 200), ("proxy.example", 200), ("other.example", 421)] {
        let (found, body) = program.ask_by(host, "GET", "/backends", "");
        assert_eq!(found, status, "{host}: {body}");
    }
}

/// A file with backends of this test's own.
fn backends_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("layerlab-l4-{}-{name}.toml", std::process::id()))
}

/// An entry of it.
fn entry(target: &Backend) -> String {
    format!("[[backend]]\naddress = \"{}\"\n", target.address)
}

/// Puts a pipe that nobody writes to in the place of a file.
fn put_pipe(path: &Path) {
    let pipe = path.with_extension("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::rename(pipe, path).unwrap();
}

#[test]
fn a_pipe_in_place_of_the_file_holds_up_neither_later_edits_nor_the_end() {
    let (first, second) = (Backend::start(), Backend::start());
    let path = backends_file("pipe");
    std::fs::write(&path, entry(&first)).unwrap();
    let mut program = Program::start(200, &[format!("--backends-file={}", path.display())]);
    put_pipe(&path);
    await_that("the pipe to be noticed", || program.said.lock().unwrap().contains("it is a pipe"));
    let next = path.with_extension("next");
    std::fs::write(&next, format!("{}{}", entry(&first), entry(&second))).unwrap();
    std::fs::rename(&next, &path).unwrap();
    await_that("the second backend", || program.list().len() == 2);
    put_pipe(&path);
    await_that("the pipe to be noticed again", || {
        program.metric("l4_backends_file_failed_total") == 2.0
    });
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.exit_code(), 0);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_hangup_without_a_file_to_read_again_is_noted_and_ends_nothing() {
    let target = Backend::start();
    let mut program = Program::start(200, &[backend_flag(&target)]);
    let (mut client, mut backend) = (program.connect(), target.accept());
    program.signal(rustix::process::Signal::HUP);
    let said = Arc::clone(&program.said);
    await_that("it to say so", || said.lock().unwrap().contains("no --backends-file"));
    pass(&mut client, &mut backend, b"it goes on");
    assert!(program.child.try_wait().unwrap().is_none());
}

#[test]
fn a_watched_file_is_the_list_of_backends() {
    let (first, second) = (Backend::start(), Backend::start());
    let path = backends_file("list");
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
    // A loop that spun at the acceptor would count hundreds of thousands.
    let errors = program.metric("l4_accept_errors_total");
    let rests = program.started.elapsed().as_millis() as f64 / 50.0 + 1.0;
    assert!(errors <= rests, "{errors} failures to accept, {rests} rests");
    assert!(program.metric("l4_pipes_refused_total") > 0.0, "none of it had to copy");
}
