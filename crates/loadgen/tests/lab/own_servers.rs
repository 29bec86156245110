//! Servers of the user's own: started by `[backends] command`, or there already, at `[backends]
//! addresses`. For the lab a backend that it starts by its command line alone is one of them.

use std::fs;

use measure::{
    folder::Run,
    record::{ProcessRole, RunRecord, TrialRecord},
    warning::Warning,
};

use crate::common::{Home, SMALL, Server};

/// `small` with servers started by a shell, which says who it is and stays between them and
/// the lab. `keys` go into `[backends]`.
fn own(script: &str, keys: &str) -> String {
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let command = format!("count = 2\ncommand = [\"sh\", \"-c\", '''{script}''', \"{loadgen}\"]\n");
    SMALL.replace("count = 2\n", &format!("{command}{keys}\n"))
}

/// An echo service that knows its address from the command and its name from the
/// environment. The shell waits for it, as a wrapper does.
const SERVE: &str =
    "echo \"$NAME in $PWD\" && \"$0\" echo-backend --listen {addr} --id $NAME & wait";
const NAMED: &str = "environment = { NAME = \"{id}\" }";

fn ran(home: &Home, text: &str, arguments: &[&str]) -> (RunRecord, Vec<TrialRecord>) {
    home.scenario("own", text);
    let ran = home.run(&[&["--scenario", "own"], arguments].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    let run = Run::open(&home.runs("own").pop().unwrap()).unwrap();
    assert!(home.left_behind().is_empty(), "{:?}", home.left_behind());
    (run.record, run.trials)
}

#[test]
fn all_peers_stand_before_servers_of_the_users_own() {
    let home = Home::new();
    let (record, trials) = ran(&home, &own(SERVE, NAMED), &[]);
    assert_eq!(trials.len(), 3);
    for trial in &trials {
        assert_eq!(trial.counts.ok, 120, "{}", trial.peer);
        let billed: Vec<&str> = trial
            .processes
            .iter()
            .filter(|cost| cost.role == ProcessRole::Backend && cost.user_ns + cost.system_ns > 0)
            .map(|cost| cost.name.as_str())
            .collect();
        assert_eq!(billed, ["b0", "b1"], "{}", trial.peer);
    }
    let b1 = &record.backends[1];
    assert_eq!((b1.id.as_str(), b1.concurrency, b1.service_time.as_str()), ("b1", 0, "unknown"));
    let own = &record.resolved["backends"][1];
    assert!(own.get("id").is_some() && own.get("concurrency").is_none(), "{own}");
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains(home.path("scenarios").to_str().unwrap()), "a path of this machine");
    // Their logs are kept, and they ran where the scenario is.
    let folder = home.runs("own").remove(0);
    let log = fs::read_to_string(folder.join("logs/002-l7-r0/b1.log")).unwrap();
    let scenarios = home.path("scenarios").canonicalize().unwrap();
    assert_eq!(log.lines().next(), Some(&*format!("b1 in {}", scenarios.display())), "{log}");
}

#[test]
fn peers_are_put_before_servers_that_run_already() {
    let [first, second] =
        [1, 2].map(|_| Server::start(&["echo-backend", "--id=any", "--service-time=constant:1ms"]));
    let home = Home::new();
    let addresses = format!("addresses = [\"{}\", \"{}\"]\n", first.address, second.address);
    let text = SMALL.replace("count = 2\n", &addresses);
    // Nobody says who he is: the taps do.
    let (record, trials) = ran(&home, &format!("{text}{SERVICE}"), &[]);
    assert_eq!(trials.len(), 3);
    assert_eq!(record.load.service.unwrap().identity.as_deref(), Some("tap before each backend"));
    for trial in &trials {
        let calls: Vec<u64> = trial.backends.iter().map(|backend| backend.calls).collect();
        assert_eq!(calls.iter().sum::<u64>(), 120, "{}: {calls:?}", trial.peer);
        assert!(trial.peer != "l7" || calls == [60, 60], "{calls:?}");
        let billed = trial.processes.iter().filter(|cost| cost.role == ProcessRole::Backend);
        assert_eq!(billed.count(), 0, "their cost is not known");
    }
    drop(second);
    home.scenario("gone", &format!("{text}{SERVICE}"));
    let gone = home.run(&["--scenario", "gone"]);
    assert_eq!(gone.code, Some(3), "{}", gone.said());
    assert!(gone.stderr.contains("error: b1 at 127.0.0.1:"), "{}", gone.said());
    home.scenario("away", &text.replace(&first.address, "192.0.2.1:50051"));
    let away = home.run(&["--scenario", "away"]);
    assert_eq!(away.code, Some(2), "{}", away.said());
    assert!(away.stderr.contains("192.0.2.1:50051, which is not this machine"), "{}", away.said());
}

/// Two methods of which no answer says where it comes from.
const SERVICE: &str = r#"
[service]
reflection = true
[[service.call]]
method = "Echo/Unary"
weight = 2
[[service.call]]
method = "Echo/ServerStream"
request = '{"response_count": 3}'
responses = 1
"#;

#[test]
fn a_tap_tells_backends_apart_where_answers_do_not() {
    let home = Home::new();
    let serve = SERVE.replace("--id $NAME", "--id any --service-time constant:1ms");
    let text = own(&serve, NAMED);
    let tls = serve.replace("{addr}", "{addr} --tls-cert {tls_cert} --tls-key {tls_key}");
    let tls = format!("tls = \"both\"\n{}", own(&tls, NAMED));
    for (text, peers) in [(text, "direct,l4,l7"), (tls, "l7")] {
        let (record, trials) = ran(&home, &format!("{text}{SERVICE}"), &["--peers", peers]);
        let service = record.load.service.unwrap();
        assert_eq!(service.identity.as_deref(), Some("tap before each backend"));
        assert!(!record.warnings.contains(&Warning::SharesUnknown));
        for trial in &trials {
            let calls: Vec<u64> = trial.backends.iter().map(|backend| backend.calls).collect();
            assert_eq!(calls.iter().sum::<u64>(), 120, "{}: {calls:?}", trial.peer);
            assert!(trial.peer != "l7" || calls == [60, 60], "{calls:?}");
            // What the client ended before its server did has no time.
            let timed = trial.service.count;
            assert!((30..=100).contains(&timed), "{}: {timed}", trial.peer);
            assert!(trial.service.min >= 1_000_000, "{}", trial.service.min);
            assert_eq!((trial.queued.count, trial.overhead.count), (0, timed));
            let billed: Vec<&str> = trial
                .processes
                .iter()
                .filter(|cost| cost.role == ProcessRole::Tap)
                .map(|cost| cost.name.as_str())
                .collect();
            assert_eq!(billed, ["tap-b0", "tap-b1"], "{}", trial.peer);
        }
    }
}

/// More calls than two servers of one call at a time can serve: nearly all of their time is
/// waiting, which servers tell by themselves where they are the lab's, and taps where it was said
/// how many calls they work on.
#[test]
fn taps_tell_service_from_waiting_as_servers_do() {
    let home = Home::new();
    let serve =
        SERVE.replace("--id $NAME", "--id $NAME --concurrency 1 --service-time constant:32ms");
    // Calls so long that a busy machine does not hold the tap up for one of them.
    let text = own(&serve, &format!("{NAMED}\nconcurrency = 1"));
    let text = text.replace("400/s", "100/s").replace("300ms", "1200ms");
    let unary = "[service]\nreflection = true\n[[service.call]]\nmethod = \"Echo/Unary\"\n";
    for text in [text.clone(), format!("{text}{unary}")] {
        let (record, trial) = ran_in_turn(&home, &text);
        let backends = &record.backends;
        assert!(backends.iter().all(|one| one.concurrency == 1 && one.service_time == "unknown"));
        let each = trial.backends.iter().map(|backend| backend.service.as_ref().unwrap().count);
        assert_eq!(each.sum::<u64>(), trial.service.count);
        assert_eq!((trial.queued.count, trial.service.count), (120, 120));
        // One after the other: what one call takes too long in a tap's eyes, the next takes less.
        assert!(trial.service.mean > 16e6, "{}", trial.service.mean);
        assert!(trial.in_backend.mean > 2.0 * trial.service.mean, "{:?}", trial.in_backend);
        let together = trial.queued.mean + trial.service.mean;
        assert!((together / trial.in_backend.mean - 1.0).abs() < 0.01, "{together}");
    }
    // What was found is what a simulation takes.
    let folder = home.runs("own").pop().unwrap();
    let folder = folder.to_str().unwrap();
    let again = home.run(&["simulate", "--like", folder]);
    assert_eq!(again.code, Some(0), "{}", again.said());
    let measured = Run::open(folder.as_ref()).unwrap();
    let simulated = Run::open(&home.runs("own").pop().unwrap()).unwrap();
    assert!(simulated.record.simulation.is_some(), "{}", again.said());
    let means = [measured, simulated].map(|run| run.trials[0].service.mean);
    assert!((means[1] / means[0] - 1.0).abs() < 0.1, "{means:?}");
}

/// Runs until no call was seen before its turn. A tap that waits for a CPU sees several answers at
/// once, and the trial then says that others had the machine.
fn ran_in_turn(home: &Home, text: &str) -> (RunRecord, TrialRecord) {
    for _ in 0..20 {
        let (record, mut trials) = ran(home, text, &["--peers", "l7"]);
        let trial = trials.remove(0);
        let has = |is: fn(&Warning) -> bool| trial.warnings.iter().any(is);
        if trial.queued.count == trial.in_backend.count {
            assert!(!has(|one| matches!(one, Warning::OutOfTurn { .. })));
            return (record, trial);
        }
        let is_excused =
            has(|one| matches!(one, Warning::Disturbed { .. } | Warning::CpuSaturated { .. }));
        assert!(is_excused, "{:?}", trial.warnings);
    }
    panic!("the machine had no time for a tap in any of 20 trials");
}

/// Two calls at once, and nobody said so.
#[test]
fn servers_that_work_on_more_than_was_said_are_found_out() {
    let home = Home::new();
    let serve = SERVE
        .replace("--id $NAME", "--id $NAME --concurrency 4 --service-time bimodal:1ms,50ms,50%");
    let text = own(&serve, &format!("{NAMED}\nconcurrency = 1"));
    let unary = "[service]\nreflection = true\n[[service.call]]\nmethod = \"Echo/Unary\"\n";
    let (_, trials) = ran(&home, &format!("{text}{unary}"), &["--peers", "l7"]);
    let found = trials[0].warnings.iter().any(|one| matches!(one, Warning::OutOfTurn { .. }));
    assert!(found, "{:?}", trials[0].warnings);
    let folder = home.runs("own").pop().unwrap();
    let again = home.run(&["simulate", "--like", folder.to_str().unwrap()]);
    assert_eq!(again.code, Some(2), "{}", again.said());
    assert!(
        again.stderr.contains("were answered before a server can have come free"),
        "{}",
        again.said()
    );
    // And where nobody says anything, that is what is asked for.
    let (_, _) = ran(&home, &format!("{}{unary}", own(&serve, NAMED)), &["--peers", "l7"]);
    let folder = home.runs("own").pop().unwrap();
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("how many calls a server works on at once is not said"));
    let again = home.run(&["simulate", "--like", folder.to_str().unwrap()]);
    assert_eq!(again.code, Some(2), "{}", again.said());
    assert!(again.stderr.contains("backends.concurrency"), "{}", again.said());
}

#[test]
fn what_happens_to_a_server_happens_to_its_tap() {
    let home = Home::new();
    let faults = [
        ("10%", "stop", 0),
        ("25%", "continue", 0),
        ("40%", "kill", 1),
        ("60%", "start", 1),
        ("80%", "drain", 0),
    ];
    let whole = own(SERVE, NAMED).replace("300ms", "8s");
    let (without_claims, _) = whole.split_once("[expect]").unwrap();
    let (_, trials) =
        ran(&home, &format!("{without_claims}{SERVICE}{}", timeline(&faults)), &["--peers", "l7"]);
    let seen: Vec<bool> = trials[0].faults.iter().map(|fault| fault.seen).collect();
    assert_eq!(seen, [true; 5], "{:?}", trials[0].faults);
    // The balancer saw who was gone: next to nothing was sent there.
    let counts = &trials[0].counts;
    assert!(counts.ok > counts.scheduled * 9 / 10, "{counts:?}");
    let log = fs::read_to_string(home.runs("own")[0].join("logs/000-l7-r0/tap-b1.log")).unwrap();
    assert_eq!(log.matches("listening on").count(), 2, "{log}");
}

/// Servers that talk to each other are told where.
#[test]
fn servers_know_each_others_addresses() {
    let home = Home::new();
    let serve =
        format!("echo \"me {{cluster_addr}} all {{cluster_addr.0}} {{cluster_addr.1}}\"; {SERVE}");
    ran(&home, &own(&serve, NAMED), &["--peers", "direct"]);
    let told = ["b0", "b1"].map(|id| {
        let log = home.runs("own")[0].join(format!("logs/000-direct-r0/{id}.log"));
        let log = fs::read_to_string(log).unwrap();
        log.lines().next().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(told[0][3..], told[1][3..]);
    assert_eq!([&told[0][1], &told[1][1]], [&told[0][3], &told[0][4]]);
    assert_ne!(told[0][1], told[1][1]);
}

fn timeline(faults: &[(&str, &str, u32)]) -> String {
    let fault = |(at, action, backend): &(&str, &str, u32)| {
        format!("[[fault]]\nat = \"{at}\"\naction = \"{action}\"\nbackend = {backend}\n")
    };
    faults.iter().map(fault).collect()
}

#[test]
fn readiness_is_seen_as_the_scenario_says() {
    let home = Home::new();
    for ready in ["health", "tcp"] {
        let text = own(SERVE, &format!("{NAMED}\nready = \"{ready}\""));
        let (_, trials) = ran(&home, &text, &["--peers", "l7"]);
        assert_eq!(trials[0].counts.ok, 120, "{ready}");
    }
}

/// Between the choice of a port and the start of its server another program takes it, and
/// answers there as the server would.
#[test]
fn a_trial_whose_port_was_taken_is_started_again() {
    let home = Home::new();
    let script = r#"
if [ $NAME = b0 ] && mkdir taken; then
  mkfifo listening
  env -u LAYERLAB_TEST_MARK setsid timeout 60 "$0" echo-backend --listen {addr} --id b0 \
    >listening 2>&1 </dev/null &
  echo $! >other.pid
  read line <listening
  exit 1
fi
[ $NAME = b1 ] || kill $(cat other.pid)
exec "$0" echo-backend --listen {addr} --id $NAME"#;
    let (_, trials) = ran(&home, &own(script, NAMED), &["--peers", "l7"]);
    assert_eq!(trials[0].counts.ok, 120);
    assert!(home.path("scenarios/other.pid").exists());
}

#[test]
fn servers_under_tls_are_given_a_certificate() {
    let home = Home::new();
    let serve = SERVE.replace("{addr}", "{addr} --tls-cert {tls_cert} --tls-key {tls_key}");
    let text =
        format!("tls = \"backend\"\n{}", own(&serve, &format!("{NAMED}\nready = \"health\"")));
    let (_, trials) = ran(&home, &text, &["--peers", "l7"]);
    assert_eq!(trials[0].counts.ok, 120);
}

#[test]
fn the_same_happens_to_them_as_to_the_labs_own() {
    let home = Home::new();
    let faults = [
        ("10%", "stop", 0),
        ("20%", "continue", 0),
        ("30%", "kill", 1),
        ("45%", "start", 1),
        ("60%", "remove", 0),
        ("70%", "drain", 0),
    ];
    let text = timeline(&faults);
    // A busy machine has a second for each of them.
    let whole = own(SERVE, NAMED).replace("300ms", "10s");
    let (without_claims, _) = whole.split_once("[expect]").unwrap();
    let text = format!("{without_claims}{text}");
    let (_, trials) = ran(&home, &text, &["--peers", "l7"]);
    let seen: Vec<(&str, bool)> =
        trials[0].faults.iter().map(|fault| (fault.action.as_str(), fault.seen)).collect();
    let expected: Vec<(&str, bool)> = faults.iter().map(|(_, action, _)| (*action, true)).collect();
    assert_eq!(seen, expected);
    // Both of its lives are in one log.
    let log = fs::read_to_string(home.runs("own")[0].join("logs/000-l7-r0/b1.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("b1 in ")).count(), 2, "{log}");
}

#[test]
fn a_server_that_can_not_be_had_is_one_clear_error() {
    let home = Home::new();
    let silent = "sleep 600 & wait; : {port}";
    let called = |service: &str| {
        format!(
            "{}[service]\n{service}\n[[service.call]]\nmethod = \"Echo/Unary\"\n",
            own(SERVE, NAMED)
        )
    };
    let identity = |header: &str| {
        called(&format!("reflection = true\nidentity = {{ header = \"{header}\" }}"))
    };
    // A relay says its own name for the server behind it.
    let relay = "\"$0\" echo-backend --listen {cluster_addr} & \"$0\" l7-proxy --listen {addr} \
                 --backend {cluster_addr},name=web --name-backends & wait";
    for (text, code, expected) in [
        // It is there, and does not do what the scenario says: that is told at once.
        (
            format!("{}expect.status = \"NOT_FOUND\"", called("reflection = true")),
            3,
            "Echo/Unary: found status OK, expected NOT_FOUND",
        ),
        (
            format!("{}expect.fields = {{ \"$.backend\" = \"x\" }}", called("reflection = true")),
            3,
            "Echo/Unary: the response lacks what `expect.fields` asks for",
        ),
        (identity("x-served-by"), 3, "the answer lacks the header `x-served-by`"),
        (
            identity("x-layerlab-backend").replace(SERVE, relay),
            3,
            "the header `x-layerlab-backend` says `web`, which is no id that the lab gave",
        ),
        // It ends at once, and says why.
        (own("echo no such table >&2; exit 4; : {port}", ""), 3, "b0 exited with code 4; its last"),
        (own("echo no such table >&2; exit 4; : {port}", ""), 3, "no such table"),
        // It never listens, and says nothing.
        (own(silent, "ready = \"tcp\"\nready_within = \"100ms\""), 3, "Connection refused"),
        (own(SERVE, "").replace("\"sh\"", "\"no-such-program\""), 2, "`no-such-program` in PATH"),
        (own(SERVE, "").replace("\"sh\"", "\"./nowhere/s\""), 2, "no program at ./nowhere/s"),
        (own(SERVE, "folder = \"nowhere\""), 2, "there is no folder"),
        (own("serve", ""), 2, "put `{port}` or `{addr}`"),
    ] {
        home.scenario("own", &text);
        let ran = home.run(&["--scenario", "own"]);
        assert_eq!(ran.code, Some(code), "{}", ran.said());
        let errors: Vec<&str> =
            ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", ran.said());
        assert!(errors[0].contains(expected), "{}", ran.said());
        let waited = errors[0].contains("was not ready within");
        assert_eq!(waited, expected == "Connection refused", "{}", ran.said());
        assert!(home.left_behind().is_empty(), "{:?}", home.left_behind());
    }
}
