//! A small home for the lab: a folder with scenarios and peers of its own, the
//! command run in it, and a mark by which every process it started is known.
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// What is waited for happens soon, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const MARK: &str = "LAYERLAB_TEST_MARK";

/// Two backends, two connections, a third of a second.
pub(crate) const SMALL: &str = r#"
question = "Does the lab work?"

[backends]
count = 2

[load]
loop = "open"
connections = 2
streams = 16
arrivals = "constant"
rate = "400/s"
duration = "300ms"
warm_up = "50ms"

[run]
peers = ["direct", "l4", "l7"]
repeats = 1
max_disturbed = 0

[expect]
claims = [
    "l4.backends_used == 2",
    "l7.spread_calls <= 2",
    "l7.error_rate == 0%",
]
"#;

/// The folder.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    mark: String,
}

impl Home {
    /// With the scenario `small` and the lab's own peers.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{count}", std::process::id());
        let home = Self { folder, mark };
        fs::create_dir_all(home.path("scenarios/peers")).unwrap();
        for name in ["direct", "client-dns", "client-lookaside", "l4", "l7"] {
            home.real_peer(name);
        }
        home.scenario("small", SMALL);
        home
    }

    /// The variable, with its value, by which processes that were started from here are known.
    pub(crate) fn mark(&self) -> String {
        format!("{MARK}={}", self.mark)
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn scenario(&self, name: &str, text: &str) {
        fs::write(self.path(&format!("scenarios/{name}.toml")), text).unwrap();
    }

    pub(crate) fn peer(&self, name: &str, text: &str) {
        let folder = self.path(&format!("scenarios/peers/{name}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("peer.toml"), text).unwrap();
    }

    /// One of the real peers, with its templates.
    pub(crate) fn real_peer(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/peers").join(name);
        let to = self.path(&format!("scenarios/peers/{name}"));
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    /// The command, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(Command::new(env!("CARGO_BIN_EXE_loadgen")), arguments)
    }

    /// A shell script that ends in the command: `"$@"`.
    pub(crate) fn shell(&self, script: &str, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_loadgen")]);
        self.wrapped(shell, arguments)
    }

    fn wrapped(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env(MARK, &self.mark)
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Starts the command; it is killed if the test forgets it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        let mut child = self.command(arguments).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Started { child, stderr }
    }

    /// An authority, and what it has signed, in files: for the server and for a client.
    pub(crate) fn certificates(&self) -> [String; 5] {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let keep = |name: &str, text: String| {
            let path = self.path(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = keep("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let cert = keep(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            [cert, keep(&format!("{name}.key"), key.serialize_pem())]
        };
        let ([server, server_key], [client, client_key]) = (sign("localhost"), sign("client"));
        [ca, server, server_key, client, client_key]
    }

    /// The run folders of a scenario, oldest first.
    pub(crate) fn runs(&self, scenario: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("results").join(scenario)) else {
            return Vec::new();
        };
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        runs.sort();
        runs
    }

    /// Processes started from here that are still there.
    pub(crate) fn left_behind(&self) -> Vec<u32> {
        let mark = self.mark();
        let is_ours = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(is_ours)
            .collect()
    }

    /// Waits until no process is left; says whether that was within `limit`.
    pub(crate) fn is_empty_within(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if self.left_behind().is_empty() {
                return true;
            }
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::yield_now();
        }
    }
}

/// Says that a test was not run, and why, past the test harness, which shows what a test
/// prints only if it fails. It is a failure with `LAYERLAB_REQUIRE_NAMESPACES=1`.
pub(crate) fn not_run(test: &str, reason: &str) {
    assert!(std::env::var_os("LAYERLAB_REQUIRE_NAMESPACES").is_none(), "{test}: {reason}");
    std::io::stderr().write_all(format!("NOT RUN: {test}: {reason}\n").as_bytes()).unwrap();
}

/// A command that ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Everything it said, for messages.
    pub(crate) fn said(&self) -> String {
        format!("code {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A command that runs.
pub(crate) struct Started {
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Started {
    /// Reads its progress until a line holds `text`, which it returns.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before it said `{text}`");
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it did not end");
            std::thread::yield_now();
        };
        let mut ran = Ran { code: status.code(), stdout: String::new(), stderr: String::new() };
        self.stderr.read_to_string(&mut ran.stderr).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut ran.stdout).unwrap();
        ran
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Already ended in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of the lab's program, run by the test. It ends with the test.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Kept open, so that the server can go on writing.
    _output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(arguments)
            .arg("--control-pipe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("listen") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "{arguments:?} did not start");
        }
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, address, _output: output }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
