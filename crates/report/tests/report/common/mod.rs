//! A run that never was: three peers, four backends, three repeats, simulated
//! call by call from a seed, so that its records are like life and always the
//! same.
#![allow(dead_code, reason = "an example uses a part of it")]

#[allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]
pub(crate) mod decided;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    path::{Path, PathBuf},
};

use measure::{
    calculator::{Calculator, Cell, Choice, Cost, Setting, Way},
    folder::{FolderError, Run, RunFolder},
    histogram::{HistogramRecord, new_histogram, record},
    record::*,
    warning::Warning,
};
use rand_distr::{Distribution, StandardUniform};
use rand_xoshiro::{SplitMix64, rand_core::SeedableRng};

pub(crate) const BACKENDS: usize = 4;
const SERVERS: usize = 8;
const SERVICE_NS: f64 = 4e6;
const RATE: f64 = 3_200.0;
const WINDOW_NS: u64 = 3_000_000_000;
const STREAMS: usize = 256;
/// How long responses lie there before the generator sees them.
const RECEIPT_NS: u64 = 15_000;

/// What tells the peers of the fixture apart.
struct Kind {
    name: &'static str,
    title: &'static str,
    layer: Layer,
    /// The one backend a connection is sent to; `None` for one a call.
    pinned: Option<usize>,
    /// Added to each call on the way, in nanoseconds.
    hop_ns: f64,
    /// CPU of the proxy per call: user and system, in nanoseconds.
    cpu: Option<(f64, f64)>,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "direct",
        title: "no balancer",
        layer: Layer::None,
        pinned: Some(0),
        hop_ns: 0.0,
        cpu: None,
    },
    Kind {
        name: "l4",
        title: "layerlab L4 proxy",
        layer: Layer::L4,
        pinned: Some(2),
        hop_ns: 45_000.0,
        cpu: Some((520.0, 1_730.0)),
    },
    Kind {
        name: "l7",
        title: "layerlab L7 proxy",
        layer: Layer::L7,
        pinned: None,
        hop_ns: 130_000.0,
        cpu: Some((8_900.0, 5_300.0)),
    },
];

/// The whole run: `single-conn-flood`.
pub(crate) fn run() -> Run {
    let mut trials = Vec::new();
    for repeat in 0..3 {
        let mut order: Vec<usize> = (0..KINDS.len()).collect();
        if repeat % 2 == 1 {
            order.reverse();
        }
        for index in order {
            trials.push(trial(&KINDS[index], repeat, trials.len() as u32));
        }
    }
    Run { record: run_record(), trials }
}

/// The same run with a backend killed and started again, as an L7 balancer and a
/// client would take it.
pub(crate) fn faulted() -> Run {
    let mut run = run();
    run.record.scenario = "backend-crash".into();
    run.record.question = "One of four backends is killed and comes back: who notices?".into();
    for trial in &mut run.trials {
        let fault = |action: &str, planned_s: f64, seen: bool| FaultRecord {
            action: action.into(),
            backend: "b1".into(),
            planned_s,
            done_s: planned_s + 0.002,
            seen,
        };
        trial.faults = vec![fault("kill", 0.9, true), fault("start", 2.0, trial.repeat != 1)];
        for second in &mut trial.series {
            if trial.peer == "l7" && second.second == 1 {
                let lost = std::mem::take(&mut second.per_backend[1]);
                for (index, part) in [(0, lost / 3), (2, lost / 3), (3, lost - lost / 3 * 2)] {
                    second.per_backend[index] += part;
                }
            }
        }
        trial.tenths = tenths(&trial.series);
        if trial.peer == "l7" {
            trial.tenths[9].per_backend = vec![84, 0, 83, 83];
            for (index, backend) in trial.backends.iter_mut().enumerate() {
                backend.calls = trial.series.iter().map(|second| second.per_backend[index]).sum();
            }
        }
        if trial.peer == "l4" {
            let what = "UNAVAILABLE".to_owned();
            trial.counts.failed = vec![FailureCount { side: Side::Proxy, what, calls: 3 }];
            trial.tenths[9].failed = 3;
        }
    }
    run
}

/// Whole seconds of the window, each cut into ten alike.
fn tenths(series: &[SecondRecord]) -> Vec<TenthRecord> {
    let seconds = series.iter().take(WINDOW_NS as usize / 1_000_000_000);
    let cut = |second: &SecondRecord| TenthRecord {
        per_backend: second.per_backend.iter().map(|calls| calls / 10).collect(),
        failed: 0,
    };
    seconds.flat_map(|second| std::iter::repeat_n(cut(second), 10)).collect()
}

fn run_record() -> RunRecord {
    RunRecord {
        proxy_quota: None,
        sweep: None,
        search: None,
        format: FORMAT_VERSION,
        scenario: "single-conn-flood".into(),
        question: "One client floods one connection with calls: who serves them, and how long do \
                   they wait?"
            .into(),
        answer: None,
        answered: None,
        doubts: Vec::new(),
        learned: Some(
            "An L4 balancer chooses a backend once per connection, and gRPC sends every call of a \
             client over one connection."
                .into(),
        ),
        resolved: serde_json::json!({
            "load": { "loop": "open", "rate": "3200/s", "connections": 1, "streams": 256 },
            "balance": { "policy": "round_robin" },
        }),
        overrides: vec!["--repeats 3".into()],
        started_utc: "2026-01-02T03:04:05Z".into(),
        elapsed_s: Some(48.2),
        seed: 1,
        backends: (0..BACKENDS)
            .map(|index| BackendSetup {
                id: format!("b{index}"),
                concurrency: SERVERS as u32,
                service_time: "exponential:4ms".into(),
                service_mean_ns: SERVICE_NS,
                speed: 1.0,
                weight: 1,
                zone: None,
            })
            .collect(),
        cluster: None,
        network: Network::Loopback,
        links: Vec::new(),
        load: LoadSetup {
            service: None,
            mode: LoopMode::Open,
            arrivals: Some("poisson".into()),
            rate: Some(RATE),
            think_time_ns: 0,
            connections: 1,
            streams: STREAMS as u32,
            call: "unary".into(),
            messages: 1,
            request_bytes: 32,
            response_bytes: 32,
            request_sizes: None,
            response_sizes: None,
            policy: "round_robin".into(),
            fleet: Default::default(),
            client: "tonic".into(),
            tls: Tls::None,
            profile: None,
        },
        peers: KINDS.iter().map(peer_setup).collect(),
        left_out: vec![LeftOut {
            peer: "envoy-l7".into(),
            reason: "not installed; scripts/install-peers.sh gets it".into(),
        }],
        environment: environment(),
        outcome: RunOutcome::Complete,
        trials: None,
        expectations: expectations(),
        twins: Vec::new(),
        simulation: None,
        predictions: None,
        warnings: vec![Warning::SharedCpus { cpus: 2 }],
    }
}

fn peer_setup(kind: &Kind) -> PeerSetup {
    let command = kind.cpu.map_or_else(Vec::new, |_| {
        let words =
            ["loadgen", kind.name, "--listen", "127.0.0.1:40001", "--policy", "round_robin"];
        words.map(str::to_owned).to_vec()
    });
    let config_files = if kind.layer == Layer::L7 {
        BTreeMap::from([("proxy.toml".to_owned(), "threads = 1\n[limits]\nstreams = 100\n".into())])
    } else {
        BTreeMap::new()
    };
    PeerSetup {
        name: kind.name.into(),
        title: kind.title.into(),
        layer: kind.layer,
        discovery: None,
        in_kernel: false,
        version: kind.cpu.map(|_| "layerlab 0.1.0".into()),
        command,
        config_files,
    }
}

fn environment() -> Environment {
    Environment {
        kernel: "Linux 6.1.0".into(),
        cpu_model: "Example CPU at 2.50GHz".into(),
        cpus: 2,
        memory_bytes: 8 << 30,
        governor: None,
        load_average_1m: 0.21,
        placement: BTreeMap::new(),
        layerlab_version: "0.1.0".into(),
        git_revision: Some("0123456789ab".into()),
        build_profile: "dev, opt-level 3".into(),
        rustc: "rustc 1.95.0".into(),
        open_files_limit: 1_048_576,
        no_instructions: None,
    }
}

fn expectations() -> Vec<Expectation> {
    let claim = |claim: &str, verdict, detail: &str| Expectation {
        claim: claim.into(),
        verdict,
        detail: detail.into(),
    };
    vec![
        claim("l4.max_share == 100%", Verdict::Held, "l4.max_share was 100 % in all 3 repeats"),
        claim("l7.spread_calls <= 2", Verdict::Held, "l7.spread_calls was 1, 1, 1"),
        claim("l4.error_rate == 0%", Verdict::Failed, "l4.error_rate was 0.08 % in repeat 2"),
        claim("envoy-l7.max_share < 26%", Verdict::NotJudged, "envoy-l7 was left out"),
    ]
}

/// Chance by a seed.
struct Chance(SplitMix64);

impl Chance {
    fn unit(&mut self) -> f64 {
        StandardUniform.sample(&mut self.0)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// One call of the simulation.
struct Call {
    due: u64,
    sent: u64,
    done: u64,
    queued: u64,
    service: u64,
    backend: usize,
}

/// Calls through queues of eight servers each, no more in flight than streams.
fn simulate(kind: &Kind, chance: &mut Chance) -> Vec<Call> {
    let mut servers: Vec<BinaryHeap<Reverse<u64>>> =
        (0..BACKENDS).map(|_| (0..SERVERS).map(|_| Reverse(0)).collect()).collect();
    let mut slots: BinaryHeap<Reverse<u64>> = (0..STREAMS).map(|_| Reverse(0)).collect();
    let mut calls = Vec::new();
    let mut due = 0.0;
    loop {
        due += chance.exponential(1e9 / RATE);
        if due as u64 >= WINDOW_NS {
            return calls;
        }
        let Reverse(slot) = slots.pop().expect("a slot is pushed for each taken");
        let sent = (due as u64).max(slot) + (2_000.0 + chance.exponential(6_000.0)) as u64;
        let backend = kind.pinned.unwrap_or(calls.len() % BACKENDS);
        let hop = 60_000.0 + kind.hop_ns + chance.exponential(20_000.0 + kind.hop_ns / 4.0);
        let arrived = sent + (hop / 2.0) as u64;
        let Reverse(free) = servers[backend].pop().expect("a server is pushed for each taken");
        let started = arrived.max(free);
        let service = chance.exponential(SERVICE_NS) as u64;
        let ended = started + service;
        servers[backend].push(Reverse(ended));
        let done = ended + (hop / 2.0) as u64;
        slots.push(Reverse(done));
        let queued = started - arrived;
        calls.push(Call { due: due as u64, sent, done, queued, service, backend });
    }
}

fn trial(kind: &Kind, repeat: u32, order: u32) -> TrialRecord {
    let mut chance =
        Chance(SplitMix64::seed_from_u64(u64::from(repeat) * 1_000 + kind.hop_ns as u64));
    let calls = simulate(kind, &mut chance);
    // Seven calls of one trial fail, so that failures are seen.
    let fails =
        |index: usize| kind.layer == Layer::L4 && repeat == 1 && index.is_multiple_of(1_300);
    let ok: Vec<&Call> =
        calls.iter().enumerate().filter(|(index, _)| !fails(*index)).map(|(_, c)| c).collect();
    let failed = (calls.len() - ok.len()) as u64;
    let completed = ok.iter().filter(|call| call.done < WINDOW_NS).count() as u64;
    let mut warnings = Vec::new();
    if kind.pinned.is_some() {
        let ratio = 4.1 + f64::from(repeat) / 10.0;
        warnings.push(Warning::DriftWithinTrial { figure: "latency p50".into(), ratio });
    }
    if failed > 0 {
        warnings.push(Warning::FailedCalls { failed, sent: calls.len() as u64 });
    }
    TrialRecord {
        point: None,
        payload_bytes: 0,
        format: FORMAT_VERSION,
        peer: kind.name.into(),
        repeat,
        order,
        started_utc: format!("2026-01-02T03:04:{:02}Z", 5 + order * 5),
        outcome: TrialOutcome::Complete,
        warm_up_s: 0.5,
        measured_s: 3.0,
        cut_s: 0.0,
        counts: Counts {
            scheduled: calls.len() as u64,
            sent: calls.len() as u64,
            ok: ok.len() as u64,
            failed: if failed > 0 {
                vec![FailureCount { side: Side::Proxy, what: "UNAVAILABLE".into(), calls: failed }]
            } else {
                Vec::new()
            },
            unfinished: 0,
            completed_in_window: completed,
        },
        latency: histogram(ok.iter().map(|call| call.done - call.due)),
        latency_sent: histogram(ok.iter().map(|call| call.done - call.sent)),
        latency_wire: histogram(
            ok.iter().map(|call| (call.done - call.sent).saturating_sub(RECEIPT_NS)),
        ),
        receipt_delay: histogram(ok.iter().map(|_| RECEIPT_NS)),
        lateness: histogram(ok.iter().map(|_| 2_000 + (chance.exponential(9_000.0)) as u64)),
        queued: histogram(ok.iter().map(|call| call.queued)),
        service: histogram(ok.iter().map(|call| call.service)),
        in_backend: histogram(ok.iter().map(|call| call.queued + call.service)),
        overhead: Default::default(),
        backends: (0..BACKENDS).map(|index| backend(index, &ok)).collect(),
        balancers: Vec::new(),
        zones: Vec::new(),
        series: series(&calls, &ok, fails),
        tenths: Vec::new(),
        faults: Vec::new(),
        nodes: Vec::new(),
        disturbance: None,
        links: None,
        processes: processes(kind, &ok, completed as f64, &mut chance),
        machine: MachineCost {
            user_ns: 1_400_000_000,
            system_ns: 900_000_000,
            idle_ns: 3_600_000_000,
            steal_ns: 12_000_000,
            throttled_ns: 0,
            busy_source: BusySource::Schedstat,
        },
        warnings,
    }
}

pub(crate) fn histogram(values: impl Iterator<Item = u64>) -> HistogramRecord {
    let mut histogram = new_histogram();
    values.for_each(|value| record(&mut histogram, value));
    HistogramRecord::from_histogram(&histogram)
}

fn backend(index: usize, ok: &[&Call]) -> BackendRecord {
    let own = || ok.iter().filter(|call| call.backend == index);
    BackendRecord {
        id: format!("b{index}"),
        weight: 1,
        calls: own().count() as u64,
        calls_with_warm_up: None,
        latency: histogram(own().map(|call| call.done - call.due)),
        service: None,
    }
}

fn series(calls: &[Call], ok: &[&Call], fails: impl Fn(usize) -> bool) -> Vec<SecondRecord> {
    let second_of = |call: &Call| (call.done / 1_000_000_000) as u32;
    let last = calls.iter().map(second_of).max().unwrap_or(0);
    (0..=last)
        .map(|second| {
            let own = || ok.iter().filter(|call| second_of(call) == second);
            let failed = calls
                .iter()
                .enumerate()
                .filter(|(index, call)| fails(*index) && second_of(call) == second);
            SecondRecord {
                second,
                ok: own().count() as u64,
                failed: failed.count() as u64,
                ok_after: 0,
                failed_after: 0,
                per_backend: (0..BACKENDS)
                    .map(|index| own().filter(|call| call.backend == index).count() as u64)
                    .collect(),
                latency: histogram(own().map(|call| call.done - call.due)),
            }
        })
        .collect()
}

fn processes(kind: &Kind, ok: &[&Call], calls: f64, chance: &mut Chance) -> Vec<ProcessCost> {
    let mut cost = |role, name: &str, calls: f64, user: f64, system: f64| {
        let noise = 1.0 + (chance.unit() - 0.5) * 0.08;
        ProcessCost {
            role,
            name: name.into(),
            user_ns: (calls * user * noise) as u64,
            system_ns: (calls * system * noise) as u64,
            voluntary_switches: (calls * 0.8) as u64,
            involuntary_switches: (calls * 0.02) as u64,
            waited_ns: 0,
            instructions: None,
            rss_bytes: 14 << 20,
            rss_peak_bytes: 15 << 20,
        }
    };
    let mut costs = vec![cost(ProcessRole::Generator, "generator", calls, 14_200.0, 9_100.0)];
    if let Some((user, system)) = kind.cpu {
        costs.push(cost(ProcessRole::Proxy, kind.name, calls, user, system));
    }
    for index in 0..BACKENDS {
        let part = ok.iter().filter(|call| call.backend == index).count() as f64 / ok.len() as f64;
        let name = format!("b{index}");
        costs.push(cost(ProcessRole::Backend, &name, calls * part, 15_800.0, 10_400.0));
    }
    costs
}

/// Writes a run as the lab does; where it went.
pub(crate) fn write(run: &Run, root: &Path) -> Result<PathBuf, FolderError> {
    let utc = run.record.started_utc.replace(['-', ':'], "");
    let folder = RunFolder::create(root, &run.record.scenario, &utc)?;
    folder.write_scenario("question = \"who serves?\"\n")?;
    folder.write_run(&run.record)?;
    let mut trials: Vec<_> = run.trials.iter().collect();
    trials.sort_by_key(|trial| trial.order);
    // Tests take trials out and put others in; a run has them without a gap.
    for (order, &trial) in (0..).zip(&trials) {
        folder.write_trial(&TrialRecord { order, ..trial.clone() })?;
    }
    Ok(folder.path().to_owned())
}

/// The run as it would be had every peer kept up with what it was offered, at the same
/// cost of a call.
pub(crate) fn keep_up(run: &mut Run) {
    for trial in &mut run.trials {
        let failed: u64 = trial.counts.failed.iter().map(|failure| failure.calls).sum();
        let completed = trial.counts.scheduled - failed;
        let more = completed as f64 / trial.counts.completed_in_window as f64;
        trial.counts.completed_in_window = completed;
        for process in &mut trial.processes {
            process.user_ns = (process.user_ns as f64 * more) as u64;
            process.system_ns = (process.system_ns as f64 * more) as u64;
        }
    }
}

/// The run under another name.
pub(crate) fn named(mut run: Run, scenario: &str) -> Run {
    run.record.scenario = scenario.into();
    run
}

/// Puts what happened to one peer's calls in the place of another's, repeat by repeat;
/// what the other's processes spent stays.
pub(crate) fn give_calls(run: &mut Run, from: &str, to: &str) {
    let given: Vec<TrialRecord> = trials_of(run, from).cloned().collect();
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == to) {
        let other = given.iter().find(|other| other.repeat == trial.repeat).expect("a repeat each");
        *trial = TrialRecord {
            peer: trial.peer.clone(),
            order: trial.order,
            processes: trial.processes.clone(),
            ..other.clone()
        };
    }
}

/// The trials of a peer.
pub(crate) fn trials_of<'r>(run: &'r Run, peer: &'r str) -> impl Iterator<Item = &'r TrialRecord> {
    run.trials.iter().filter(move |trial| trial.peer == peer)
}

/// Adds a client that balances by itself: the calls of `l7`, no proxy, and a tenth more
/// CPU of the generator than `direct`.
pub(crate) fn add_client(run: &mut Run) {
    add_client_who(run, "client-dns", Discovery::Dns);
}

/// The same under a name, and with its own way to learn of backends.
pub(crate) fn add_client_who(run: &mut Run, name: &str, discovery: Discovery) {
    let direct: Vec<TrialRecord> = trials_of(run, "direct").cloned().collect();
    let mut trials: Vec<TrialRecord> = trials_of(run, "l7").cloned().collect();
    for trial in &mut trials {
        trial.peer = name.into();
        trial.order += 100;
        trial.processes.retain(|process| process.role != ProcessRole::Proxy);
        let other =
            direct.iter().find(|other| other.repeat == trial.repeat).expect("a repeat each");
        let spent = other.processes.iter().find(|process| process.role == ProcessRole::Generator);
        let spent = spent.expect("a generator").clone();
        let calls = trial.counts.completed_in_window as f64;
        let scale = 1.1 * calls / other.counts.completed_in_window as f64;
        for process in &mut trial.processes {
            if process.role == ProcessRole::Generator {
                process.user_ns = (spent.user_ns as f64 * scale) as u64;
                process.system_ns = (spent.system_ns as f64 * scale) as u64;
            }
        }
    }
    run.trials.extend(trials);
    run.record.peers.push(PeerSetup {
        name: name.into(),
        title: name.into(),
        layer: Layer::Client,
        discovery: Some(discovery),
        in_kernel: false,
        version: None,
        command: Vec::new(),
        config_files: BTreeMap::new(),
    });
}

/// Lets a part of a peer's calls fail in each of its trials.
pub(crate) fn lose(run: &mut Run, peer: &str, part: f64) {
    for trial in run.trials.iter_mut().filter(|trial| trial.peer == peer) {
        let calls = (trial.counts.scheduled as f64 * part) as u64 + u64::from(trial.repeat);
        trial.counts.failed =
            vec![FailureCount { side: Side::Backend, what: "UNAVAILABLE".into(), calls }];
    }
}

/// Keeps the first repeats only.
pub(crate) fn keep_repeats(run: &mut Run, repeats: u32) {
    run.trials.retain(|trial| trial.repeat < repeats);
}

/// A setting swept over three values: connections that an L4 balancer spreads better
/// the more there are, while an L7 balancer is even at each.
pub(crate) fn swept() -> Run {
    let base = run();
    let mut record = base.record.clone();
    record.scenario = "connection-sweep".into();
    record.question = "From how many connections on does L4 spread calls as evenly as L7?".into();
    record.expectations.clear();
    record.load.policy = "random".into();
    let point = |connections: u32| PointSetup {
        value: connections.to_string(),
        number: Some(f64::from(connections)),
        load: LoadSetup { connections, ..record.load.clone() },
        backends: record.backends.clone(),
    };
    let values = [1_u32, 16, 256];
    record.sweep =
        Some(SweepSetup { key: "load.connections".into(), points: values.map(point).to_vec() });
    let mut trials = Vec::new();
    for (index, connections) in values.into_iter().enumerate() {
        for trial in base.trials.iter().filter(|trial| trial.peer != "direct") {
            let order = u32::try_from(trials.len()).unwrap_or(u32::MAX);
            let mut trial = TrialRecord {
                point: Some(connections.to_string()),
                payload_bytes: 64,
                order,
                warnings: Vec::new(),
                ..trial.clone()
            };
            if trial.peer == "l4" {
                spread(&mut trial, [1.0, 0.4, 0.29][index]);
            }
            trials.push(trial);
        }
    }
    record.peers.retain(|peer| peer.name != "direct");
    let mut run = Run { record, trials };
    keep_up(&mut run);
    run
}

/// Gives one backend this share of a trial's calls and the others the rest alike, with
/// a little that differs from repeat to repeat.
fn spread(trial: &mut TrialRecord, share: f64) {
    let share = (share + f64::from(trial.repeat) * 0.004).min(1.0);
    let calls = trial.counts.ok as f64;
    let others = (BACKENDS - 1) as f64;
    for (index, backend) in trial.backends.iter_mut().enumerate() {
        let part = if index == 0 { share } else { (1.0 - share) / others };
        backend.calls = (calls * part).round() as u64;
    }
}

/// A search over rates that L4 loses.
pub(crate) fn searched() -> Run {
    let mut run = swept();
    let record = &mut run.record;
    record.scenario = "saturation".into();
    record.question = "Which is the highest rate that keeps p99 below 40 ms?".into();
    let points = record.sweep.as_mut().map(|sweep| {
        sweep.key = "load.rate".into();
        &mut sweep.points
    });
    let rates = [1_000.0, 2_000.0, 4_000.0];
    let mut renamed = BTreeMap::new();
    for (point, rate) in points.into_iter().flatten().zip(rates) {
        let value = format!("{rate}/s");
        renamed.insert(std::mem::replace(&mut point.value, value.clone()), value);
        point.number = Some(rate);
        point.load.rate = Some(rate);
    }
    for trial in &mut run.trials {
        trial.point = trial.point.as_ref().and_then(|value| renamed.get(value).cloned());
    }
    let result = |peer: &str, repeat, held: f64, limit| SearchResult {
        peer: peer.into(),
        repeat,
        held: Some(held),
        failed: Some(held * 1.05),
        limit,
    };
    record.search = Some(SearchRecord {
        slo: vec!["p99 < 40ms".into(), "error_rate < 0.1%".into()],
        resolution: 0.05,
        results: (0..3)
            .flat_map(|repeat| {
                let rate = 2_000.0 * 1.05_f64.powi(repeat as i32 % 2);
                [
                    result("l4", repeat, rate, SearchLimit::Peer),
                    result("l7", repeat, 1.5 * rate, SearchLimit::Generator),
                ]
            })
            .collect(),
    });
    run
}

/// A calculator of two ways to balance: behind L4 all takes four mean service times, and
/// behind L7 half of one.
pub(crate) fn calculator() -> Calculator {
    let around = |value: f64| [0.9 * value, value, 1.1 * value];
    let choice = |peer: &str, layer, times: f64, busiest: f64| Choice {
        peer: peer.to_owned(),
        layer,
        policy: "random".to_owned(),
        ways: vec![Way { rate: Some(4_000.0), p50_ns: 0.0, mean_ns: 0.0, p99_ns: 1e5 }],
        costs: vec![
            Cost { bytes: 64, cpu_ns: around(8_000.0) },
            Cost { bytes: 2_048, cpu_ns: around(10_000.0) },
        ],
        cells: vec![
            Cell {
                mean: around(times),
                p50: around(times),
                p99: around(times),
                busiest: around(busiest),
            };
            2 * 2 * 2
        ],
    };
    Calculator {
        run: "connection-sweep/20260102T030405Z-1".to_owned(),
        service_ns: 4e6,
        concurrency: 8,
        seeds: 6,
        loads: vec![0.3, 0.9],
        backends: vec![4, 256],
        connections: vec![0.25, 64.0],
        choices: vec![choice("l4", Layer::L4, 4.0, 1.2), choice("l7", Layer::L7, 0.5, 1.0)],
        measured: vec![Setting { load: 0.5, backends: 4, connections: 16 }],
    }
}
