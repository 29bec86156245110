//! The lab in network namespaces: every peer crosses real links, the kernel
//! balances as a peer among others, and nothing is left of it, whatever ends the
//! lab.
//!
//! Where the machine gives no namespaces, or has no `nft`, a test says on
//! standard error that it was not run: `scripts/check.sh` repeats that at its
//! end, and with `LAYERLAB_REQUIRE_NAMESPACES=1` it is a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use measure::{
    folder::Run,
    record::{LinkEngine, Network, ProcessRole, Side, TrialOutcome, TrialRecord},
    warning::Warning,
};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::Signal,
};

use crate::common::{Home, Ran, SMALL, not_run};

/// What is looked for shows soon, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const IN_NAMESPACES: [&str; 2] = ["--set", "network=namespaces"];
/// The user and group `nobody` of most systems.
const NOBODY: u32 = 65_534;

/// Whether the test can be run: namespaces can be made, and `nft` is there if
/// it is needed. Says so if not.
fn can_run(test: &str, home: &Home, needs_nft: bool) -> bool {
    home.real_peer("kernel-l4");
    let peers = home.run(&["peers"]).stdout;
    let missing = |line: &str| line.find("MISSING: ").map(|at| line[at + 9..].to_owned());
    let namespaces = peers.lines().find(|line| line.starts_with("network = \"namespaces\""));
    let mut reasons = vec![missing(namespaces.unwrap())];
    if needs_nft {
        let mut lines = peers.lines().skip_while(|line| !line.starts_with("kernel-l4"));
        reasons.push(missing(lines.nth(1).unwrap()));
    }
    let Some(reason) = reasons.into_iter().flatten().next() else { return true };
    not_run(test, &reason);
    false
}

fn run(home: &Home, arguments: &[&str]) -> (Ran, Run) {
    let ran = home.run(&[&["--scenario", "small"], arguments, &IN_NAMESPACES].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(home.runs("small").last().unwrap()).unwrap();
    (ran, run)
}

fn used(trial: &TrialRecord) -> usize {
    trial.backends.iter().filter(|backend| backend.calls > 0).count()
}

/// The network namespaces, other than the test's own, of processes started from
/// `home`, threads counted.
fn namespaces(home: &Home) -> BTreeSet<String> {
    let link = |path: &Path| Some(fs::read_link(path).ok()?.to_string_lossy().into_owned());
    let own = link(Path::new("/proc/self/ns/net")).unwrap();
    let mut found = BTreeSet::new();
    for pid in home.left_behind() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        found.extend(tasks.flatten().filter_map(|task| link(&task.path().join("ns/net"))));
    }
    found.remove(&own);
    found
}

/// Who holds one of these namespaces: a process that is in it, a descriptor, or
/// a mount. There is no other way for one to live on.
fn holders(namespaces: &BTreeSet<String>) -> Vec<String> {
    let is_one = |path: &Path| {
        fs::read_link(path).is_ok_and(|to| namespaces.contains(&*to.to_string_lossy()))
    };
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(tasks) = fs::read_dir(process.path().join("task")) else { continue };
        let mut places: Vec<_> = tasks.flatten().map(|task| task.path().join("ns/net")).collect();
        if let Ok(descriptors) = fs::read_dir(process.path().join("fd")) {
            places.extend(descriptors.flatten().map(|descriptor| descriptor.path()));
        }
        let held = places.iter().filter(|place| is_one(place));
        holders.extend(held.map(|place| place.display().to_string()));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let held = mounts.lines().filter(|line| namespaces.iter().any(|one| line.contains(one)));
    holders.extend(held.map(str::to_owned));
    holders
}

/// Waits until nobody holds any of them.
fn are_gone(namespaces: &BTreeSet<String>) {
    let begin = Instant::now();
    while !holders(namespaces).is_empty() {
        assert!(begin.elapsed() < PATIENCE, "left: {:?}", holders(namespaces));
        std::thread::yield_now();
    }
}

/// The machine's own interfaces, and the namespaces that have names.
fn of_the_machine() -> (BTreeSet<String>, BTreeSet<String>) {
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    (names("/sys/class/net"), names("/run/netns"))
}

/// Bytes that came in by an interface of the namespace a process is in.
fn received(pid: u32, interface: &str) -> Option<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let row = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    row?.split_whitespace().next()?.parse().ok()
}

#[test]
fn every_layer_runs_in_namespaces() {
    let home = Home::new();
    if !can_run("every_layer_runs_in_namespaces", &home, false) {
        return;
    }
    let (ran, run) = run(&home, &["--peers", "direct,client-lookaside,l4,l7"]);
    assert!(ran.stdout.contains("expected 3 of 3 claims hold"), "{}", ran.said());
    assert_eq!(run.record.network, Network::Namespaces);
    assert_eq!(run.trials.len(), 4);
    for trial in &run.trials {
        assert_eq!((trial.counts.ok, used(trial)), (120, 2), "{}", trial.peer);
        let billed: Vec<_> = trial.processes.iter().map(|process| process.name.as_str()).collect();
        assert!(billed.contains(&"generator") && billed.contains(&"b1"), "{billed:?}");
    }
    for peer in &run.record.peers[2..] {
        // Backends are named in the command, or in a file beside it.
        let files = peer.config_files.values().map(String::as_str);
        let words = peer.command.iter().map(String::as_str).chain(files);
        let words = words.collect::<Vec<_>>().join(" ");
        assert!(words.contains("198.18.0.1:") && words.contains("198.18.0.10:"), "{words}");
        assert!(!words.contains("127.0.0.1"), "{words}");
    }
    assert!(home.left_behind().is_empty());
}

#[test]
fn the_kernel_balances_connections() {
    let home = Home::new();
    if !can_run("the_kernel_balances_connections", &home, true) {
        return;
    }
    for policy in ["round_robin", "random"] {
        let policy = format!("balance.policy={policy}");
        let of = |connections: &str| {
            let connections = format!("load.connections={connections}");
            let set = ["--set", &policy, "--set", &connections, "--set", "backends.count=3"];
            let (_, run) = run(&home, &[&["--peers", "kernel-l4"], &set[..]].concat());
            run
        };
        let one = of("1");
        let trial = &one.trials[0];
        // Every call's status, payload and backend was checked.
        assert_eq!((trial.counts.ok, trial.counts.scheduled), (120, 120));
        assert_eq!(used(trial), 1, "one connection, one backend: {policy}");
        // By chance, one of three stays without any of 40 once in 4 million times.
        let many = of("40");
        assert_eq!((many.trials[0].counts.ok, used(&many.trials[0])), (120, 3), "{policy}");

        let peer = &many.record.peers[0];
        assert!(peer.in_kernel && peer.config_files.contains_key("rules.nft"));
    }
    assert!(home.left_behind().is_empty());
}

#[test]
fn the_kernel_s_work_is_billed_to_the_machine() {
    let home = Home::new();
    if !can_run("the_kernel_s_work_is_billed_to_the_machine", &home, true) {
        return;
    }
    // The kernel bills the machine by the tick, of 10 ms at most: whoever has a
    // CPU then pays. A trial of a few milliseconds of work can come out at none,
    // so this one works without a pause for 50 ticks.
    let paced = "arrivals = \"constant\"\nrate = \"400/s\"\nduration = \"300ms\"";
    let heavy = SMALL.replace("\"open\"", "\"closed\"").replace(paced, "duration = \"500ms\"");
    home.scenario("small", &heavy);
    let (_, run) = run(&home, &["--peers", "kernel-l4"]);
    let trial = &run.trials[0];
    let roles: Vec<_> = trial.processes.iter().map(|process| process.role).collect();
    assert!(!roles.contains(&ProcessRole::Proxy), "there is no process to bill");
    assert!(trial.machine.user_ns + trial.machine.system_ns > 0, "{:?}", trial.machine);
}

#[test]
fn round_robin_in_the_kernel_takes_turns() {
    let home = Home::new();
    if !can_run("round_robin_in_the_kernel_takes_turns", &home, true) {
        return;
    }
    // As many connections as backends: in turn, every one gets its own. By chance
    // that happens once in 65 times.
    let set = ["--set", "load.connections=6", "--set", "backends.count=6"];
    let (_, run) = run(&home, &[&["--peers", "kernel-l4"], &set[..]].concat());
    assert_eq!(used(&run.trials[0]), 6, "{:?}", run.trials[0].backends);
}

#[test]
fn traffic_crosses_links_and_nothing_is_left_of_them() {
    let test = "traffic_crosses_links_and_nothing_is_left_of_them";
    let home = Home::new();
    if !can_run(test, &home, false) {
        return;
    }
    let before = of_the_machine();
    for end in [None, Some(Signal::SIGINT), Some(Signal::SIGKILL)] {
        let repeats = if end.is_some() { "repeats = 200" } else { "repeats = 2" };
        home.scenario("small", &SMALL.replace("repeats = 1", repeats));
        let set = [&["--scenario", "small", "--peers", "l4,direct"], &IN_NAMESPACES[..]].concat();
        let started = home.start(&set);
        let begin = Instant::now();
        let mut seen = BTreeSet::new();
        // The balancer's and two backends', and the client's threads'; and a
        // backend that got calls by its link, and nothing by its loopback.
        let mut crossed = false;
        while seen.len() < 4 || !crossed {
            assert!(begin.elapsed() < PATIENCE, "{seen:?}, crossed: {crossed}");
            seen.extend(namespaces(&home));
            crossed |= home.left_behind().into_iter().any(|pid| {
                received(pid, "up").is_some_and(|bytes| bytes > 1_000)
                    && received(pid, "lo") == Some(0)
            });
        }
        if let Some(signal) = end {
            started.signal(signal);
        }
        let ran = started.end();
        match end {
            None => assert_eq!(ran.code, Some(0), "{}", ran.said()),
            Some(Signal::SIGKILL) => assert_eq!(ran.code, None, "{}", ran.said()),
            Some(_) => assert_eq!(ran.code, Some(130), "{}", ran.said()),
        }
        assert!(home.is_empty_within(PATIENCE), "{:?}", home.left_behind());
        are_gone(&seen);
        assert_eq!(of_the_machine(), before);
    }
}

/// A link of 3 ms each way to the balancer, one of 6 ms from there to one of the two backends,
/// and a way between client and backends that leads by none of them.
const FAR: &str = "
[[link]]
between = [\"client\", \"balancer\"]
delay = \"3ms\"

[[link]]
between = [\"balancer\", \"b1\"]
delay = \"6ms\"
jitter = \"1ms\"
rate = \"50mbit\"

[[link]]
between = [\"client\", \"backends\"]
delay = \"1ms\"
loss = \"1%\"
";

#[test]
fn links_take_time_and_leave_nothing_behind() {
    let test = "links_take_time_and_leave_nothing_behind";
    let home = Home::new();
    if !can_run(test, &home, false) {
        return;
    }
    let peers = home.run(&["peers"]).stdout;
    let links = peers.lines().find(|line| line.starts_with("[[link]]")).unwrap();
    if let Some((_, reason)) = links.split_once("MISSING: ") {
        return not_run(test, reason);
    }
    let before = of_the_machine();
    let text = SMALL.replace("[backends]", &format!("{FAR}[backends]"));
    let text = text.replace("question", "network = \"namespaces\"\nquestion");
    home.scenario("small", &text);
    let (_, run) = run(&home, &["--peers", "direct,l4,l7"]);
    assert_eq!(run.record.links.len(), 3);
    assert_eq!((run.record.links[1].delay_ns, run.record.links[1].limit), (6_000_000, 1_029));
    let ms = |ns: u64| ns as f64 / 1e6;
    for trial in &run.trials {
        assert_eq!((trial.counts.ok, used(trial)), (120, 2), "{}", trial.peer);
        // No call is faster than its packets: there and back over each link that it crosses,
        // the nearer backend's first.
        let least = if trial.peer == "direct" { 2.0 } else { 6.0 };
        assert!(ms(trial.latency.min) >= least, "{}: {} ms", trial.peer, ms(trial.latency.min));
        let far = trial.backends[1].latency.min;
        let least = if trial.peer == "direct" { 2.0 } else { 6.0 + 10.0 };
        assert!(ms(far) >= least, "{}: {} ms to b1", trial.peer, ms(far));
        let measured = trial.links.as_ref().unwrap();
        let names: Vec<_> = measured.links.iter().map(|link| link.between.join("-")).collect();
        assert_eq!(names, ["client-balancer", "balancer-b1", "client-b0", "client-b1"]);
        for link in &measured.links {
            assert!(link.answered > 0, "{link:?}");
            // A ping is never early either.
            assert!(link.ping_p50_ns >= link.asked_ns - link.jitter_ns, "{link:?}");
        }
        if measured.engine == LinkEngine::Relay {
            let packets = |index: usize| measured.links[index].packets.unwrap();
            let is_direct = trial.peer == "direct";
            // Whoever needs a balancer goes by it, and the others don't.
            assert_eq!(packets(0) > packets(2), !is_direct, "{names:?}");
            let billed = trial.processes.iter().any(|cost| cost.role == ProcessRole::Links);
            assert!(billed && measured.late_p99_ns.is_some());
        }
    }
    assert!(home.left_behind().is_empty());

    // Whatever ends the lab ends the relay, and with it the devices.
    home.scenario("small", &text.replace("300ms", "60s"));
    for end in [Signal::SIGINT, Signal::SIGKILL] {
        let mut started = home.start(&["--scenario", "small", "--peers", "l4"]);
        started.wait_for("1 trial");
        let begin = Instant::now();
        let mut seen = BTreeSet::new();
        while seen.len() < 4 {
            assert!(begin.elapsed() < PATIENCE, "{seen:?}");
            seen.extend(namespaces(&home));
        }
        started.signal(end);
        started.end();
        assert!(home.is_empty_within(PATIENCE), "{:?}", home.left_behind());
        are_gone(&seen);
        assert_eq!(of_the_machine(), before);
    }
}

/// Three zones, the last of which has clients and no backends, and is farther from the first.
const ZONED: &str = "
network = \"namespaces\"

[zones]
backends = { a = 1, b = 1 }
connections = { a = 1, b = 1, c = 1 }

[[link]]
between = [\"zones\", \"zones\"]
delay = \"20ms\"

[[link]]
between = [\"zones.c\", \"zones.a\"]
delay = \"30ms\"

[settings.aware]
zone_routing = \"100%\"
zone_min_backends = 2
";

#[test]
fn a_call_takes_the_link_between_zones_only_where_it_crosses() {
    let test = "a_call_takes_the_link_between_zones_only_where_it_crosses";
    let home = Home::new();
    if !can_run(test, &home, false) {
        return;
    }
    let peers = home.run(&["peers"]).stdout;
    let links = peers.lines().find(|line| line.starts_with("[[link]]")).unwrap();
    if let Some((_, reason)) = links.split_once("MISSING: ") {
        return not_run(test, reason);
    }
    let (question, rest) = SMALL.trim().split_once('\n').unwrap();
    let rest = rest.split("[expect]").next().unwrap().replace("connections = 2", "connections = 3");
    home.scenario("small", &format!("{question}\n{ZONED}{rest}"));
    let (_, run) = run(&home, &["--peers", "direct,l4,l7,l7@aware,client-dns@aware"]);
    let ms = |ns: u64| ns as f64 / 1e6;
    assert_eq!(run.trials.len(), 5);
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, 120, "{}", trial.peer);
        let measured = trial.links.as_ref().unwrap();
        let links = measured.links.iter().map(|link| (link.between.join("-"), ms(link.asked_ns)));
        let expected =
            [("zones.a-zones.b", 40.0), ("zones.a-zones.c", 60.0), ("zones.b-zones.c", 40.0)];
        assert_eq!(
            links.collect::<Vec<_>>(),
            expected.map(|(name, asked)| (name.to_owned(), asked))
        );
        assert_eq!(trial.zones.len(), 3);
        for zone in &trial.zones {
            let calls: u64 = zone.per_backend.iter().sum();
            let fastest = ms(zone.latency.min);
            let told = format!("{}: zone {}, {fastest} ms", trial.peer, zone.id);
            assert!(calls > 0, "{told}");
            // The fastest of forty that stay is faster than the way that they don't take.
            assert_eq!(fastest >= 40.0, zone.crossed == calls, "{told}");
            let is_aware = trial.peer.ends_with("@aware");
            assert!(zone.crossed == 0 || zone.id == "c" || !is_aware, "{told}");
        }
        assert_eq!(trial.zones[2].crossed, trial.zones[2].per_backend.iter().sum::<u64>());
    }
    assert!(home.left_behind().is_empty());
}

#[test]
fn an_ordinary_user_has_namespaces_too() {
    let test = "an_ordinary_user_has_namespaces_too";
    let home = Home::new();
    if !can_run(test, &home, false) {
        return;
    }
    let arguments = [&["--scenario", "small", "--peers", "direct,l4"], &IN_NAMESPACES[..]].concat();
    let mut command = home.command(&arguments);
    if rustix::process::geteuid().is_root() {
        for folder in [home.path(""), home.path("scenarios")] {
            chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
        let mut look = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let can_look = look.arg("--version").uid(NOBODY).gid(NOBODY).output();
        if !can_look.is_ok_and(|looked| looked.status.success()) {
            return not_run(test, "another user can't read this build");
        }
    }
    let ran = Ran::of(command.output().unwrap());
    if ran.code == Some(3) && ran.stderr.contains("can't be had here") {
        return not_run(test, ran.stderr.trim());
    }
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert!(run.trials.iter().all(|trial| trial.counts.ok == 120), "{}", ran.said());
    assert!(home.left_behind().is_empty());
}

/// What a backend in a namespace meets is what it meets elsewhere.
#[test]
fn faults_reach_into_namespaces() {
    let home = Home::new();
    if !can_run("faults_reach_into_namespaces", &home, false) {
        return;
    }
    // A busy machine has seconds to bring the backend back within the trial.
    let faults = "[[fault]]\nat = \"5%\"\naction = \"kill\"\nbackend = 1\n\
                  [[fault]]\nat = \"15%\"\naction = \"start\"\nbackend = 1\n";
    let text = SMALL.replace("300ms", "5s").replace("l7.error_rate == 0%", "l7.error_rate < 60%");
    let text = text.replace("l7.spread_calls <= 2", "l7.unfinished_rate == 0%");
    home.scenario("small", &format!("{text}{faults}"));
    let (_, run) = run(&home, &["--peers", "l7"]);
    let seen: Vec<bool> = run.trials[0].faults.iter().map(|fault| fault.seen).collect();
    assert_eq!(seen, [true, true]);
}

const IN_KERNEL: &str = r#"
title = "Rules that are none"
layer = "l4"
description = "For the test."
in_kernel = true
command = ["sh", "-c", "echo no such table >&2; exit 1", "{listen}", "{each backend}{addr}{end}"]
[policies]
round_robin = ""
"#;

#[test]
fn rules_that_the_kernel_refuses_are_a_failed_trial() {
    let home = Home::new();
    if !can_run("rules_that_the_kernel_refuses_are_a_failed_trial", &home, false) {
        return;
    }
    home.peer("refused", IN_KERNEL);
    let arguments = ["--scenario", "small", "--peers", "refused,direct"];
    let ran = home.run(&[&arguments, &IN_NAMESPACES[..]].concat());
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("refused exited with code 1"), "{}", ran.said());
    assert!(ran.stderr.contains("no such table"), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let outcome = &run.trials[0].outcome;
    assert!(matches!(outcome, TrialOutcome::Failed { side: Side::Proxy, .. }), "{outcome:?}");
    assert_eq!(run.trials[1].counts.ok, 120);
}

#[test]
fn on_the_loopback_the_kernel_is_left_out_in_plain_sight() {
    let home = Home::new();
    home.peer("rules", IN_KERNEL);
    let ran = home.run(&["--scenario", "small", "--peers", "rules,direct"]);
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(ran.stderr.contains("left out rules"), "{}", ran.said());
    assert!(ran.stderr.contains("--set network=namespaces"), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    assert_eq!(run.record.left_out[0].peer, "rules");
    assert_eq!(run.record.network, Network::Loopback);
}

/// Which local ports there are in a namespace, and whether they are used again; `None`
/// where the thread that it is named by has ended.
fn ports_in(namespace: &Path) -> Option<String> {
    let namespace = fs::File::open(namespace).ok()?;
    let reading = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let read = |switch| fs::read_to_string(format!("/proc/sys/net/ipv4/{switch}")).unwrap();
        read("ip_local_port_range") + &read("tcp_tw_reuse")
    });
    Some(reading.join().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn ports_can_be_used_again_soon() {
    const TEST: &str = "ports_can_be_used_again_soon";
    let home = Home::new();
    if !can_run(TEST, &home, false) || !is_root(TEST) {
        return;
    }
    home.scenario("small", &SMALL.replace("300ms", "60s"));
    let mut started =
        home.start(&[&["--scenario", "small", "--peers", "l4"], &IN_NAMESPACES[..]].concat());
    started.wait_for("1 trial");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let begin = Instant::now();
    // The client's, the balancer's and those of two backends, each by a thread in it.
    // One that was only just made has the kernel's own ports at first.
    let mut inside = BTreeMap::new();
    while inside.values().filter(|ports| *ports == "10000 65535 1").count() < 4 {
        assert!(begin.elapsed() < PATIENCE, "only {inside:?}");
        for pid in home.left_behind() {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let place = task.path().join("ns/net");
                let Ok(namespace) = fs::read_link(&place) else { continue };
                if namespace != own
                    && let Some(ports) = ports_in(&place)
                {
                    inside.insert(namespace, ports);
                }
            }
        }
    }
    started.signal(Signal::SIGINT);
    assert_eq!(started.end().code, Some(130));
}

/// A namespace with so few local ports that each can be used once, made by the test.
#[test]
fn a_client_without_ports_blames_itself() {
    const TEST: &str = "a_client_without_ports_blames_itself";
    let home = Home::new();
    if !can_run(TEST, &home, false) || !is_root(TEST) {
        return;
    }
    let text = SMALL.replace("streams = 16", "streams = 16\nconnection_calls = 1");
    let (text, _) = text.split_once("[expect]").unwrap();
    home.scenario("small", text);
    for client in ["load.client=wire", "load.client=tonic"] {
        let ran = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                raise_loopback();
                fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "0").unwrap();
                fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61007").unwrap();
                home.run(&["--scenario", "small", "--peers", "direct", "--set", client])
            });
            inside.join().unwrap()
        });
        let run = Run::open(home.runs("small").last().unwrap()).unwrap();
        let trial = &run.trials[0];
        let failed: Vec<_> =
            trial.counts.failed.iter().map(|one| (one.side, one.what.as_str())).collect();
        assert_eq!(failed, [(Side::Client, "no local port")], "{client}: {}", ran.said());
        let own = |warning: &Warning| matches!(warning, Warning::ClientExhausted { .. });
        assert!(trial.warnings.iter().any(own), "{:?}", trial.warnings);
    }
}

fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_run(test, "it looks into namespaces, which only root may");
    }
    is_root
}

/// The loopback of the calling thread's namespace.
fn raise_loopback() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
        handle.link().set(up).execute().await.unwrap();
    });
}
