//! What comes of a run on several nodes.

use std::fs;

use measure::{
    folder::Run,
    nodes::NodeRole,
    record::{ProcessRole, TrialOutcome, TrialRecord},
};

use super::{GONE_WITHIN, ON_THREE, home, home_with, run_of, without_claims};
use crate::common::{SMALL, Server};

#[test]
fn three_nodes_give_one_run() {
    let home = home();
    let ran = home.run(&[&["--scenario", "small"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let folder = home.runs("small").remove(0);
    let run = Run::open(&folder).unwrap();
    let cluster = run.record.cluster.unwrap();
    assert_eq!((&*cluster.engine, cluster.nodes.len(), cluster.machines()), ("local", 3, 1));
    assert_eq!(cluster.nodes[0].roles, [NodeRole::Balancer]);
    assert_eq!(run.trials.len(), 3);
    for trial in &run.trials {
        assert_eq!(trial.outcome, TrialOutcome::Complete);
        // 400 a second for 300 ms, on one schedule.
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
        assert_eq!(trial.nodes.len(), 3);
        assert!(trial.nodes[2].calls >= 120 && trial.nodes[0].calls == 0);
        let billed: Vec<&str> = trial.processes.iter().map(|cost| &*cost.name).collect();
        assert!(billed.contains(&"generator-n2") && billed.contains(&"b1"), "{billed:?}");
        assert_eq!(billed.contains(&"l7"), trial.peer == "l7", "{billed:?}");
        // All clocks are this machine's.
        for node in &trial.nodes {
            assert!(node.clock_offset_ns.unsigned_abs() <= node.clock_uncertainty_ns, "{node:?}");
        }
    }
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(html.contains("3 nodes on one machine"));
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Of more calls than are shipped, nodes fold their own.
#[test]
fn figures_of_calls_that_are_not_shipped_add_up() {
    let home = home();
    let few = ["--ship-calls", "50", "--peers", "l7"];
    let ran = home.run(&[&["--scenario", "small"][..], &ON_THREE, &few].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let trial = &run.trials[0];
    assert_eq!((trial.counts.scheduled, trial.counts.ok, trial.latency.count), (120, 120, 120));
    assert_eq!(trial.backends.iter().map(|backend| backend.calls).sum::<u64>(), 120);
}

#[test]
fn a_target_is_driven_from_all_nodes() {
    let home = home();
    let server = Server::start(&["echo-backend", "--listen=127.0.0.1:0", "--id=pod-1"]);
    let target = format!("lb={}", server.address);
    let to = ["--scenario", "small", "--target", &target, "--rate", "400/s"];
    let ran = home.run(&[&to[..], &["--on", "local", "--nodes", "2"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("small")[0]).unwrap();
    let trial = &run.trials[0];
    assert_eq!((trial.peer.as_str(), trial.counts.ok), ("lb", 120));
    assert_eq!((trial.backends.len(), trial.backends[0].id.as_str()), (1, "pod-1"));
    assert_eq!(trial.backends[0].calls, 120);
    assert!(trial.nodes.iter().all(|node| node.calls > 0), "{:?}", trial.nodes);
}

#[test]
fn what_can_t_be_run_on_nodes_is_refused_before_any_is_started() {
    let home = home();
    let on = ["--scenario", "small", "--on", "local"];
    for (more, expected) in [
        (vec![], "how many nodes?"),
        (vec!["--nodes", "0"], "0"),
        (vec!["--nodes", "2", "--set", "network=namespaces"], "can't be run on several nodes"),
        (vec!["--nodes", "2", "--set", "nodes.balancers=[2]"], "there is no node 2"),
        (vec!["--nodes", "2", "--set", "load.client=grpcio"], "are made by a program"),
        (vec!["--nodes", "2", "--hosts", "a,b"], "chooses hosts by itself"),
        (vec!["--nodes", "2", "--engine-set", "x=1"], "no option `x`"),
    ] {
        let ran = home.run(&[&on[..], &more].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains(expected), "{more:?}: {}", ran.said());
    }
    let ran = home.run(&["--scenario", "small", "--on", "slrum", "--nodes", "2"]);
    assert!(ran.stderr.contains("did you mean `slurm`?"), "{}", ran.said());
}

/// The names of what was billed in a role.
fn billed(trial: &TrialRecord, role: ProcessRole) -> Vec<&str> {
    let costs = trial.processes.iter().filter(|cost| cost.role == role);
    costs.map(|cost| cost.name.as_str()).collect()
}

#[test]
fn nodes_speak_tls_with_what_the_coordinator_has_made() {
    let home = home();
    let ran = home.run(&[&["--scenario", "small", "--set", "tls=both"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "small");
    assert_eq!(run.trials.len(), 3);
    for trial in &run.trials {
        assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120), "{}", trial.peer);
    }
    let command = &run.record.peers[2].command;
    let has = |flag, value| command.windows(2).any(|two| two == [flag, value]);
    assert!(has("--tls-cert", "<tls>/balancer.pem"), "{command:?}");
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn faults_are_done_where_it_counts_and_recorded_with_the_time_they_happened() {
    let home = home();
    let faults = [("20%", "kill", 1), ("40%", "start", 1), ("50%", "add", 2)];
    let fault = |(at, action, backend)| {
        format!("[[fault]]\nat = \"{at}\"\naction = \"{action}\"\nbackend = {backend}\n")
    };
    let text = without_claims().replace("300ms", "5s").replace("count = 2", "count = 3");
    home.scenario("small", &format!("{text}{}", faults.map(fault).concat()));
    let ran = home.run(&[&["--scenario", "small", "--peers", "direct,l7"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    for trial in &run_of(&home, "small").trials {
        let done = trial.faults.iter().map(|fault| (&*fault.action, &*fault.backend));
        let done: Vec<(&str, &str)> = done.collect();
        assert_eq!(done, [("kill", "b1"), ("start", "b1"), ("add", "b2")], "{}", trial.peer);
        // A server that was killed is started again once it has ended, which takes a busy
        // kernel seconds, so that the load may be over before it answers.
        let [kill, _, add] = &trial.faults[..] else { panic!("{:?}", trial.faults) };
        assert!(kill.seen && add.seen, "{}: {:?}", trial.peer, trial.faults);
        for (fault, planned_s) in trial.faults.iter().zip([1.0, 2.0, 2.5]) {
            assert_eq!(fault.planned_s, planned_s);
            assert!(fault.done_s >= planned_s, "{fault:?}");
        }
        // Of two processes, one of which is gone; the others alone are not the backends.
        assert_eq!(billed(trial, ProcessRole::Backend), [""; 0], "{}", trial.peer);
        let balancers = if trial.peer == "direct" { vec![] } else { vec![&*trial.peer] };
        assert_eq!(billed(trial, ProcessRole::Proxy), balancers);
        assert!(trial.peer != "l7" || trial.backends[2].calls > 0, "{:?}", trial.backends);
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn balancers_are_spread_over_nodes_and_each_is_told_of_a_backend() {
    let home = home();
    let text =
        without_claims().replace("300ms", "2s").replace("connections = 2", "connections = 6");
    let text = format!("{text}[[fault]]\nat = \"20%\"\naction = \"add\"\nbackend = 1\n");
    home.scenario("small", &text);
    let fleet = ["--set", "balance.balancers=3", "--set", "nodes.balancers=[0, 2]"];
    let peers = ["--peers", "l4,l7"];
    let ran = home.run(&[&["--scenario", "small"][..], &ON_THREE, &fleet, &peers].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "small");
    let cluster = run.record.cluster.unwrap();
    assert_eq!(cluster.nodes[2].roles, [NodeRole::Balancer, NodeRole::Generator]);
    assert_eq!(run.trials.len(), 2);
    for trial in &run.trials {
        let names: Vec<String> = (0..3).map(|index| format!("{}-{index}", trial.peer)).collect();
        let ids: Vec<&str> = trial.balancers.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, names);
        let calls = trial.balancers.iter().flat_map(|one| &one.per_backend).sum::<u64>();
        assert_eq!(calls, trial.counts.ok);
        assert_eq!(billed(trial, ProcessRole::Proxy), names);
        assert!(trial.faults[0].seen, "all balancers have heard: {:?}", trial.faults);
        let all_use = trial.balancers.iter().all(|one| one.per_backend[1] > 0);
        assert!(trial.peer != "l7" || all_use, "{:?}", trial.balancers);
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// `small` with servers started by a shell, which says where it runs. `keys` go into
/// `[backends]`.
fn own(script: &str, keys: &str) -> String {
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let command =
        format!("count = 2\ncommand = [\"sh\", \"-c\", \'\'\'{script}\'\'\', \"{loadgen}\"]");
    SMALL.replace("count = 2\n", &format!("{command}\n{keys}\n"))
}

const SERVE: &str = "\"$0\" echo-backend --listen {addr} --id {id}";

#[test]
fn servers_of_the_users_own_are_started_on_their_nodes() {
    let home = home();
    // They are told where the others listen for them, and run beside the scenario.
    let script = format!("echo {{cluster_addr.0}} {{cluster_addr.1}} > told-{{id}}; exec {SERVE}");
    home.scenario("own", &own(&script, "ready = \"health\""));
    let ran = home.run(&[&["--scenario", "own", "--peers", "l4,l7"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "own");
    for trial in &run.trials {
        assert_eq!(trial.counts.ok, 120, "{}", trial.peer);
        assert_eq!(billed(trial, ProcessRole::Backend), ["b0", "b1"]);
    }
    let told = ["b0", "b1"]
        .map(|id| fs::read_to_string(home.path(&format!("scenarios/told-{id}"))).unwrap());
    assert_eq!(told[0], told[1]);
    let addresses: Vec<&str> = told[0].split_whitespace().collect();
    assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{told:?}");
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

/// Files are named from the scenario's folder; calls are told apart by taps, since answers do
/// not say where they come from.
#[test]
fn calls_of_the_users_own_are_made_of_files_that_nodes_are_sent() {
    let home = home();
    let proto = "proto = [\"../data/echo.proto\"]";
    fs::create_dir(home.path("data")).unwrap();
    let echo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/echo.proto");
    fs::copy(echo, home.path("data/echo.proto")).unwrap();
    let times: String = (0..120).map(|call| format!("{}\n", f64::from(call) / 400.0)).collect();
    fs::write(home.path("data/calls.csv"), format!("time_s\n{times}")).unwrap();
    fs::write(home.path("data/request.json"), "{\"responseBytes\": 7}").unwrap();
    for (name, interface) in [("reflected", "reflection = true"), ("described", proto)] {
        let text = own(&format!("exec {SERVE}"), "ready = \"tcp\"").replace(
            "arrivals = \"constant\"\nrate = \"400/s\"\nduration = \"300ms\"\nwarm_up = \"50ms\"",
            "arrivals = \"trace:../data/calls.csv\"",
        );
        let call = "[[service.call]]\nmethod = \"layerlab.echo.v1.Echo/Unary\"\n\
                    request_file = \"../data/request.json\"";
        home.scenario(name, &format!("{text}[service]\n{interface}\n{call}\n"));
        let ran = home.run(&[&["--scenario", name][..], &ON_THREE].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.said());
        let run = run_of(&home, name);
        let service = run.record.load.service.unwrap();
        assert_eq!(service.identity.as_deref(), Some("tap before each backend"));
        assert_eq!(run.trials.len(), 3);
        for trial in &run.trials {
            let calls: Vec<u64> = trial.backends.iter().map(|backend| backend.calls).collect();
            assert_eq!((calls.iter().sum(), trial.counts.ok), (120, 120), "{}", trial.peer);
            assert!(trial.peer != "l7" || calls == [60, 60], "{calls:?}");
            assert_eq!(billed(trial, ProcessRole::Tap), ["tap-b0", "tap-b1"]);
        }
    }
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn what_own_services_lack_on_a_node_is_said_with_its_name() {
    let home = home();
    let text = SMALL.replace("count = 2", "count = 2\ncommand = [\"no-such-server\", \"{port}\"]");
    home.scenario("own", &text);
    let ran = home.run(&[&["--scenario", "own"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    let expected = "own.toml: backends.command: no program `no-such-server` in PATH; write its \
                    path, or install it (on n1, ";
    assert!(ran.stderr.contains(expected), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}

#[test]
fn servers_that_run_already_are_called_from_nodes() {
    let home = home();
    let [first, second] = [1, 2].map(|_| Server::start(&["echo-backend", "--id=any"]));
    let addresses = format!("addresses = [\"{}\", \"{}\"]\n", first.address, second.address);
    let call = "[service]\nreflection = true\n[[service.call]]\nmethod = \"Echo/Unary\"\n";
    home.scenario("there", &format!("{}{call}", SMALL.replace("count = 2\n", &addresses)));
    let ran = home.run(&[&["--scenario", "there"][..], &ON_THREE].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    for trial in &run_of(&home, "there").trials {
        assert_eq!(trial.backends.iter().map(|backend| backend.calls).sum::<u64>(), 120);
        assert_eq!(billed(trial, ProcessRole::Tap), ["tap-b0", "tap-b1"]);
        assert_eq!(billed(trial, ProcessRole::Backend), [""; 0], "their cost is not known");
    }
}

#[test]
fn a_target_of_all_nodes_is_billed_and_met_under_tls() {
    let home = home();
    let [ca, cert, key, client, client_key] = home.certificates();
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let backend = Server::start(&["echo-backend", "--id=pod"]);
    let flag = format!("--backend={}", backend.address);
    let l7 = Server::start(&[&["l7-proxy", "--threads=1", &flag][..], &tls].concat());
    let target = format!("lb=https://{}", l7.address);
    let bill = format!("lb=pid:{}", l7.child.id());
    home.scenario("small", without_claims());
    let to = ["--scenario", "small", "--target", &target, "--bill", &bill, "--rate", "400/s"];
    let met = ["--ca", &ca, "--server-name", "localhost", "--cert", &client, "--key", &client_key];
    let ran = home.run(&[&to[..], &met, &["--on", "local", "--nodes", "2"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = run_of(&home, "small");
    let trial = &run.trials[0];
    assert_eq!((trial.counts.scheduled, trial.counts.ok), (120, 120));
    assert!(trial.nodes.iter().all(|node| node.calls > 0), "{:?}", trial.nodes);
    let bill = trial.processes.iter().find(|cost| cost.role == ProcessRole::Proxy).unwrap();
    assert_eq!(bill.name, "lb");
    assert!(bill.user_ns + bill.system_ns > 0, "{bill:?}");
}

/// A peer of which each node may have another version.
#[test]
fn nodes_with_different_versions_of_a_peer_are_told_apart() {
    let home = home_with(
        "[\"env\", \"NODE_HAS={node}\", \"{loadgen}\", \"agent\", \"--join={join}\", \
         \"--rank={node}\"]",
    );
    let l4 = fs::read_to_string(home.path("scenarios/peers/l4/peer.toml")).unwrap();
    let version = "\"sh\", \"-c\", \"echo version $NODE_HAS\"";
    home.peer("l4", &l4.replace("\"{loadgen}\", \"--version\"", version));
    let own = ["--scenario", "small", "--on", "own", "--nodes", "2", "--peers", "l4"];
    let ran = home.run(&[&own[..], &["--coordinator", "127.0.0.1:0"]].concat());
    assert_eq!(ran.code, Some(2), "{}", ran.said());
    assert!(
        ran.stderr.contains("nodes have different versions of l4: version 0 on n0"),
        "{}",
        ran.said()
    );
    assert!(ran.stderr.contains("version 1 on n1"), "{}", ran.said());
    assert!(home.is_empty_within(GONE_WITHIN), "{:?}", home.left_behind());
}
