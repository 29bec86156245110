//! A run's record as it stands before the first trial.

use std::collections::BTreeMap;

use balance::PolicyKind;
use jiff::Timestamp;
use measure::record::{
    BackendSetup, FORMAT_VERSION, FleetSetup, Layer, LeftOut, LinkSetup, LoadSetup, MethodSetup,
    PeerSetup, PointSetup, RateProfile, RunOutcome, RunRecord, SearchRecord, ServiceSetup,
    SubsetSetup, SweepSetup,
};
use scenario::{Length, Link, LinkSettings, Pace, Profile, Scenario, Sizes};
use units::duration::nanos;

use super::{
    Request, doubts, load,
    points::{Point, SEARCHED_KEY},
    trial::utc,
};
use crate::{
    lab::{environment, placement::Cpus},
    peers::ReadyPeer,
};

/// Describes the run: what was asked, on what, which peers.
pub(super) fn run_record(
    request: &Request,
    points: &[Point],
    peers: &[ReadyPeer],
    left_out: Vec<LeftOut>,
    started: Timestamp,
    cpus: &Cpus,
) -> RunRecord {
    let scenario = &request.scenario;
    let environment = environment::describe(cpus.recorded());
    let is_external = peers.iter().any(|ready| ready.external.is_some());
    let load = load_setup(scenario, is_external);
    RunRecord {
        format: FORMAT_VERSION,
        scenario: scenario.name.clone(),
        question: scenario.question.clone(),
        learned: scenario.learned.clone(),
        answer: scenario.answer.clone(),
        answered: None,
        doubts: Vec::new(),
        resolved: resolved(scenario, is_external),
        overrides: request.overrides.clone(),
        started_utc: utc(started),
        elapsed_s: None,
        seed: scenario.seed,
        // Those the lab did not start are known once they have answered.
        backends: if is_external { Vec::new() } else { backends(scenario) },
        network: scenario.network,
        links: scenario.links.iter().map(link_setup).collect(),
        sweep: sweep_setup(scenario, points, is_external),
        search: scenario.load.search.as_ref().map(|search| SearchRecord {
            slo: search.slo.iter().map(ToString::to_string).collect(),
            resolution: search.resolution,
            results: Vec::new(),
        }),
        peers: peers.iter().map(|ready| peer_setup(ready, scenario)).collect(),
        proxy_quota: scenario.proxy_quota,
        left_out,
        twins: Vec::new(),
        simulation: None,
        predictions: None,
        warnings: doubts::of_start(&load, &environment),
        load,
        environment,
        cluster: None,
        outcome: RunOutcome::Running,
        trials: None,
        expectations: Vec::new(),
    }
}

fn link_setup(link: &Link) -> LinkSetup {
    let LinkSettings { delay, jitter, loss, rate, limit, reorder } = link.settings;
    LinkSetup {
        between: link.between.names(),
        delay_ns: nanos(delay),
        jitter_ns: nanos(jitter),
        loss,
        rate_bits: rate,
        limit,
        reorder,
    }
}

/// What a scenario says of balancers and backends that the lab starts, and so nothing of those
/// that are there already.
const OF_THE_LAB: [&str; 13] = [
    "backends",
    "connection_age",
    "fleet",
    "links",
    "network",
    "nodes",
    "peers",
    "placement",
    "policy",
    "proxy_quota",
    "servers",
    "settings",
    "stream_limits",
];

/// The scenario as it was run: without what only the lab's echo service has, where others
/// are called or started.
fn resolved(scenario: &Scenario, is_external: bool) -> serde_json::Value {
    // A checked scenario is made of texts and numbers; it always fits.
    let mut resolved = serde_json::to_value(scenario).unwrap_or_default();
    let leave_out = |of: Option<&mut serde_json::Value>, keys: &[&str]| {
        let table = of.and_then(serde_json::Value::as_object_mut);
        table.into_iter().for_each(|table| table.retain(|key, _| !keys.contains(&key.as_str())));
    };
    if scenario.service.is_some() {
        let keys = ["call", "messages", "request_bytes", "response_bytes"];
        leave_out(resolved.get_mut("load"), &keys);
    }
    if is_external {
        leave_out(Some(&mut resolved), &OF_THE_LAB);
    }
    if scenario.servers.are_own() {
        let backends = resolved.get_mut("backends").and_then(serde_json::Value::as_array_mut);
        for backend in backends.into_iter().flatten() {
            leave_out(Some(backend), &["service_time", "speed"]);
        }
    }
    resolved
}

/// The backends as the record has them.
pub(super) fn backends(scenario: &Scenario) -> Vec<BackendSetup> {
    let setup = if scenario.servers.are_own() { own_setup } else { backend_setup };
    let zone = |index| Some(scenario.zones.as_ref()?.of_backend(index).to_owned());
    let all = scenario.backends.iter().enumerate();
    all.map(|(index, backend)| BackendSetup { zone: zone(index), ..setup(backend) }).collect()
}

fn backend_setup(backend: &scenario::Backend) -> BackendSetup {
    BackendSetup {
        id: backend.id.clone(),
        concurrency: backend.concurrency.unwrap_or(0),
        service_time: backend.service_time.to_string(),
        service_mean_ns: backend.service_time.mean_ns(),
        speed: backend.speed,
        weight: backend.weight,
        zone: None,
    }
}

/// A server of the user's own: what it does with a call is not known.
fn own_setup(backend: &scenario::Backend) -> BackendSetup {
    BackendSetup {
        service_time: "unknown".to_owned(),
        service_mean_ns: 0.0,
        ..backend_setup(backend)
    }
}

/// The load as the record has it, offered to what the lab started, or to others.
pub(super) fn load_setup(scenario: &Scenario, is_external: bool) -> LoadSetup {
    let load = &scenario.load;
    let (arrivals, rate, think_time_ns) = match &load.pace {
        Pace::Open { arrivals, profile } => {
            let name = match profile {
                Profile::Flat => arrivals.name().to_owned(),
                _ => format!("{} in {}", arrivals.name(), profile.name()),
            };
            (Some(name), load.pace.mean_rate(), 0)
        }
        Pace::Closed { think_time } => (None, None, nanos(*think_time)),
    };
    LoadSetup {
        mode: load::mode(scenario),
        profile: profile(scenario),
        arrivals,
        rate,
        think_time_ns,
        connections: load.connections,
        streams: load.streams,
        service: scenario
            .service
            .as_ref()
            .map(|service| service_setup(service, scenario.has_taps() && !is_external)),
        call: load.call.name().to_owned(),
        messages: load.messages,
        request_bytes: load.request_bytes.mean_bytes(),
        response_bytes: load.response_bytes.mean_bytes(),
        request_sizes: sizes(&load.request_bytes),
        response_sizes: sizes(&load.response_bytes),
        policy: scenario.policy.name().to_owned(),
        fleet: FleetSetup {
            balancers: scenario.fleet.balancers,
            threads: scenario.fleet.threads,
            spread: scenario.fleet.spread.name().to_owned(),
            subset: scenario.fleet.subset.map(|subset| SubsetSetup {
                size: subset.size,
                subsetting: subset.subsetting.name().to_owned(),
            }),
        },
        client: load.client.name().to_owned(),
        tls: scenario.tls,
    }
}

/// How sizes are drawn, where they are.
fn sizes(sizes: &Sizes) -> Option<String> {
    (!matches!(sizes, Sizes::Constant(_))).then(|| sizes.to_string())
}

fn service_setup(service: &scenario::Service, has_taps: bool) -> ServiceSetup {
    let method = |call: &scenario::ServiceCall| MethodSetup {
        method: call.method.clone(),
        weight: call.weight,
    };
    ServiceSetup {
        methods: service.calls.iter().map(method).collect(),
        identity: match &service.identity {
            Some(scenario::Identity::Header(name)) => Some(format!("header {name}")),
            Some(scenario::Identity::Trailer(name)) => Some(format!("trailer {name}")),
            None => has_taps.then(|| "tap before each backend".to_owned()),
        },
    }
}

/// How the rate changes, as the record has it.
fn profile(scenario: &Scenario) -> Option<RateProfile> {
    let Pace::Open { arrivals, profile } = &scenario.load.pace else { return None };
    // A profile spans a duration.
    let Length::Duration(over) = scenario.load.length else { return None };
    let (rate, over_s) = (arrivals.rate(), over.as_secs_f64());
    match profile {
        Profile::Flat => None,
        Profile::Ramp { to } => Some(RateProfile::Ramp { from: rate, to: rate * to, over_s }),
        Profile::Steps { factors } => Some(RateProfile::Steps {
            rates: factors.iter().map(|factor| rate * factor).collect(),
            over_s,
        }),
        Profile::Bursts { on, off } => {
            Some(RateProfile::Bursts { rate, on_s: on.as_secs_f64(), off_s: off.as_secs_f64() })
        }
    }
}

fn peer_setup(ready: &ReadyPeer, scenario: &Scenario) -> PeerSetup {
    // A client that keeps to one backend balances nothing.
    let keeps_to_one = ready.policy(scenario) == PolicyKind::PickFirst;
    PeerSetup {
        name: ready.peer.name.clone(),
        title: ready.peer.title.clone(),
        layer: match ready.peer.layer {
            _ if ready.external.is_some() => Layer::External,
            scenario::Layer::Client if keeps_to_one => Layer::None,
            scenario::Layer::None => Layer::None,
            scenario::Layer::L4 => Layer::L4,
            scenario::Layer::L7 => Layer::L7,
            scenario::Layer::Client => Layer::Client,
        },
        discovery: ready.peer.discovery,
        in_kernel: ready.peer.in_kernel(),
        version: ready.version.clone(),
        // Known once it was started.
        command: Vec::new(),
        config_files: BTreeMap::new(),
    }
}

/// The points as the record has them; none for a run of one setting.
pub(super) fn sweep_setup(
    scenario: &Scenario,
    points: &[Point],
    is_external: bool,
) -> Option<SweepSetup> {
    let key = match &scenario.sweep {
        Some(sweep) => sweep.key.clone(),
        None if scenario.load.search.is_some() => SEARCHED_KEY.to_owned(),
        None => return None,
    };
    let mut points: Vec<PointSetup> = points
        .iter()
        .filter_map(|point| {
            let value = point.value.clone()?;
            Some(PointSetup {
                number: scenario::number(&value),
                value,
                load: load_setup(&point.scenario, is_external),
                backends: backends(&point.scenario),
            })
        })
        .collect();
    if scenario.load.search.is_some() {
        points.sort_by(|a, b| a.number.partial_cmp(&b.number).unwrap_or(std::cmp::Ordering::Equal));
    }
    Some(SweepSetup { key, points })
}
