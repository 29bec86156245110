//! Nodes with clocks, links and hosts of their own.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use measure::{folder::Run, record::TrialOutcome, warning::Warning};

use super::{GONE_WITHIN, home, home_with, long, run_of, wait_for_processes};
use crate::common::{Home, Ran, not_run};

/// Time namespaces give nodes of one machine clocks that disagree by an hour.
#[test]
fn a_clock_that_is_an_hour_ahead_changes_no_figure() {
    let unshare = ["--time", "--monotonic", "3600", "--fork", "true"];
    let can = std::process::Command::new("unshare").args(unshare).output();
    if !can.is_ok_and(|output| output.status.success()) {
        let reason = "no time namespace can be made here (unshare --time)";
        return not_run("a_clock_that_is_an_hour_ahead", reason);
    }
    let home = home_with(
        "[\"unshare\", \"--time\", \"--monotonic\", \"3600\", \"--fork\", \
         \"--kill-child=KILL\", \"{loadgen}\", \"agent\", \"--join={join}\", \"--rank={node}\"]",
    );
    let own = ["--scenario", "small", "--on", "own", "--nodes", "3", "--coordinator"];
    let ran = home.run(&[&own[..], &["127.0.0.1:0"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    for trial in &run.trials {
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
        for node in &trial.nodes {
            let off_ns = node.clock_offset_ns - 3_600_000_000_000;
            assert!(off_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
        }
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Network namespaces that are joined by veth links to the first one, which routes between
/// them. They are gone when what holds them has ended.
struct Links {
    holders: Vec<Child>,
}

/// The address in the first namespace that all of them reach.
const MIDDLE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

impl Links {
    /// With so many namespaces beside the first; `None` where none can be made.
    fn new(nodes: usize) -> Option<Self> {
        let holders = (0..=nodes).map(|_| holder()).collect::<Option<Vec<_>>>()?;
        let links = Self { holders };
        let middle = format!(
            "ip link set lo up && ip address add {MIDDLE}/32 dev lo && \
             echo 1 > /proc/sys/net/ipv4/ip_forward"
        );
        let mut made = links.runs(0, &middle);
        for node in 1..=nodes {
            let (pid, net) = (links.pid(node), format!("198.18.{node}"));
            let one_end = format!(
                "ip link add v{node} type veth peer name eth0 netns {pid} && \
                 ip address add {net}.1/24 dev v{node} && ip link set v{node} up"
            );
            let other_end = format!(
                "ip link set lo up && ip address add {net}.2/24 dev eth0 && \
                 ip link set eth0 up && ip route add default via {net}.1"
            );
            made = made && links.runs(0, &one_end) && links.runs(node, &other_end);
        }
        made.then_some(links)
    }

    fn pid(&self, node: usize) -> u32 {
        self.holders[node].id()
    }

    /// Whether a script runs to a good end in a namespace.
    fn runs(&self, node: usize, script: &str) -> bool {
        let net = format!("--net=/proc/{}/ns/net", self.pid(node));
        let status = Command::new("nsenter")
            .args([&net, "--", "sh", "-c", script])
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// A process in a network namespace of its own.
fn holder() -> Option<Child> {
    let mut child = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // It answers once it is there.
    let mut answer = String::new();
    let asked = child.stdin.as_mut()?.write_all(b"there\n");
    let output = child.stdout.as_mut()?;
    let answered = asked.and_then(|()| BufReader::new(output).read_line(&mut answer));
    answered.is_ok_and(|bytes| bytes > 0).then_some(child)
}

#[test]
fn nodes_on_links_of_their_own_find_each_other() {
    let Some(links) = Links::new(3) else {
        let reason = "no network namespaces can be joined here (unshare --net, ip)";
        return not_run("nodes_on_links_of_their_own", reason);
    };
    let home = home_with(
        "[\"sh\", \"-c\", \"exec nsenter --net=$(cat node-{node}) -- \
         $0 agent --join={join} --rank={node}\", \"{loadgen}\"]",
    );
    for node in 0..3 {
        let namespace = format!("/proc/{}/ns/net", links.pid(node + 1));
        fs::write(home.path(&format!("node-{node}")), namespace).unwrap();
    }
    let script = format!("exec nsenter --net=/proc/{}/ns/net -- \"$@\"", links.pid(0));
    let coordinator = format!("{MIDDLE}:0");
    let own = ["--scenario", "small", "--on", "own", "--nodes", "3", "--coordinator", &coordinator];
    let ran = Ran::of(home.shell(&script, &own).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "small");
    for trial in &run.trials {
        assert_eq!(trial.outcome, TrialOutcome::Complete);
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
        for node in &trial.nodes {
            assert!(node.clock_offset_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
        }
    }
    // The balancer is on the first of them, and backends are on the second.
    let l7 = run.record.peers.iter().find(|peer| peer.name == "l7").unwrap();
    let listens = l7.command.iter().any(|word| word.starts_with("198.18.1.2:"));
    let calls = l7.config_files.values().any(|text| text.contains("198.18.2.2:"));
    assert!(listens && calls, "{l7:?}");
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// How long a slow link holds what goes one way.
const HELD: Duration = Duration::from_millis(20);

/// A link to the coordinator, whose address is in the file `join`, that holds what it says and
/// lets pass what it is told.
fn slow_link(home: &Home) -> SocketAddr {
    let (listener, join) = (TcpListener::bind("127.0.0.1:0").unwrap(), home.path("join"));
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for agent in listener.incoming() {
            let (agent, join) = (agent.unwrap(), fs::read_to_string(&join).unwrap());
            let coordinator = TcpStream::connect(join.trim()).unwrap();
            let both =
                |stream: &TcpStream| (stream.try_clone().unwrap(), stream.try_clone().unwrap());
            let ((mut from_agent, mut to_agent), (mut from_it, mut to_it)) =
                (both(&agent), both(&coordinator));
            thread::spawn(move || io::copy(&mut from_agent, &mut to_it));
            thread::spawn(move || {
                let mut bytes = [0; 1 << 16];
                while let Ok(count @ 1..) = from_it.read(&mut bytes) {
                    thread::sleep(HELD);
                    if to_agent.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                let _ = agent.shutdown(std::net::Shutdown::Both);
                let _ = coordinator.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_link_that_is_slow_one_way_is_no_offset_beyond_half_the_round_trip() {
    let home = home_with("[]");
    let link = slow_link(&home);
    let engine = format!(
        "title = \"T\"\ndescription = \"D\"\neach_node = true\ncommand = [\"sh\", \"-c\", \
         \"test {{node}} = 0 && exec $0 agent --join={{join}} --rank=0; echo {{join}} > join; \
         exec $0 agent --join={link} --rank=1\", \"{{loadgen}}\"]\n"
    );
    fs::write(home.path("scenarios/engines/own/engine.toml"), engine).unwrap();
    let own = ["--scenario", "small", "--on", "own", "--nodes", "2", "--peers", "l7"];
    let ran = home.run(&[&own[..], &["--coordinator", "127.0.0.1:0"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let trial = run_of(&home, "small").trials.remove(0);
    assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
    // Both have the same clock, so the whole offset is an error.
    for node in &trial.nodes {
        assert!(node.clock_offset_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
    }
    // Half the round trip and half of what one way took longer than the other are that way.
    let slow = &trial.nodes[1];
    let there_ns = i128::from(slow.clock_uncertainty_ns) + i128::from(slow.clock_offset_ns);
    assert!(there_ns + 2 >= HELD.as_nanos() as i128, "{slow:?}");
    // Calls are due every 2.5 ms, and nodes may have started further apart.
    let skew = |warning: &Warning| matches!(warning, Warning::StartSkew { .. });
    assert!(trial.warnings.iter().any(skew), "{:?}", trial.warnings);
}

const SSHD: &str = "/usr/sbin/sshd";

/// A real sshd for this user at a port of 127.0.0.1, with keys of its own; returns the file
/// of settings by which `ssh` reaches it. The listener starts an sshd for each connection, as
/// inetd does. `None` where there is no sshd.
fn sshd(home: &Home) -> Option<PathBuf> {
    let keygen = |name: &str| {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(home.path(name))
            .status();
        made.is_ok_and(|status| status.success())
    };
    // Where it confines what has no user yet, and which a service would make.
    let confined = !rustix::process::geteuid().is_root() || fs::create_dir_all("/run/sshd").is_ok();
    if !(Path::new(SSHD).is_file() && confined && keygen("host") && keygen("user")) {
        return None;
    }
    let path = |name: &str| home.path(name).display().to_string();
    let server = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nSetEnv {}\n",
        path("host"),
        path("user.pub"),
        home.mark()
    );
    fs::write(home.path("sshd_config"), server).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host_key = fs::read_to_string(home.path("host.pub")).unwrap();
    fs::write(home.path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
    let client = format!(
        "Host *\nHostName 127.0.0.1\nPort {port}\nIdentityFile {}\nIdentitiesOnly yes\n\
         UserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
        path("user"),
        path("known_hosts")
    );
    fs::write(home.path("ssh_config"), client).unwrap();
    let config = home.path("sshd_config");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = OwnedFd::from(stream.unwrap());
            let mut child = Command::new(SSHD)
                .args(["-i", "-f"])
                .arg(&config)
                .stdin(stream.try_clone().unwrap())
                .stdout(stream)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::spawn(move || child.wait());
        }
    });
    Some(home.path("ssh_config"))
}

#[test]
fn hosts_by_ssh_are_nodes() {
    let home = home();
    let Some(config) = sshd(&home) else {
        return not_run("hosts_by_ssh_are_nodes", "there is no sshd here (openssh-server)");
    };
    let program = concat!("program=", env!("CARGO_BIN_EXE_loadgen"));
    let arguments = format!("arguments=-F{}", config.display());
    let on = ["--on", "ssh", "--hosts", "one,two,three", "--coordinator", "127.0.0.1:0"];
    let with = ["--engine-set", program, "--engine-set", &arguments];
    let ran = home.run(&[&["--scenario", "small"][..], &on, &with].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "small");
    assert_eq!(run.record.cluster.unwrap().nodes.len(), 3);
    for trial in &run.trials {
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
    // Nor does anything stay on the hosts when the coordinator is lost.
    long(&home);
    let mut started = home.start(&[&["--scenario", "long"][..], &on, &with].concat());
    wait_for_processes(&home, "echo-backend", 2);
    started.child.kill().unwrap();
    started.child.wait().unwrap();
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}
