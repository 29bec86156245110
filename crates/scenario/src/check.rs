//! From what is written to what can't be wrong: bounds, alternatives,
//! contradictions and defaults.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use measure::{answer::Answer, figure::Scope};

use units::duration;

use crate::{
    backends::{check_backends, check_policy},
    bounds::{self, Bounds},
    channel::{check_channel, check_connection_age, check_stream_limits},
    claim::{Claim, parse_figure},
    client::check_client,
    command::check_servers,
    error::{Problem, list_of},
    fault::check_faults,
    fleet::check_fleet,
    link::check_links,
    peer::{EXTERNAL_PEER, check_name},
    quantity::{DurationText, PercentText, RateText},
    scenario::{
        Arrivals, Backend, CallKind, Client, Length, Load, NodeRoles, Pace, Pacer, Placement,
        Precision, Profile, Scenario, Skew,
    },
    search::Search,
    service::check_service,
    settings::{ProxySettings, check_settings},
    sizes::check_sizes,
    trace::{Trace, TracedCall, check_trace},
    wire::{
        ArrivalsWire, BackendsWire, CallWire, ClientWire, LoadWire, LoopWire, NodesWire, PacerWire,
        PlacementMode, PlacementWire, PrecisionWire, ProfileWire, ScenarioWire, SearchWire,
        SkewWire,
    },
    zones::check_zones,
};

const DEFAULT_BUDGET: Duration = Duration::from_secs(120);
const DEFAULT_RESOLUTION: f64 = 0.05;
const DEFAULT_STREAMS: u32 = 100;
const DEFAULT_WARM_UP: Duration = Duration::from_secs(1);
const DEFAULT_MESSAGES: u32 = 10;
const DEFAULT_PEERS: [&str; 3] = ["direct", "l4", "l7"];
const DEFAULT_REPEATS: u32 = 3;
const DEFAULT_SEED: u64 = 1;

/// Checks a scenario. `folder` is what files that it names are relative to; `known_peers`
/// are the peers there are.
pub(crate) fn check(
    name: &str,
    folder: &Path,
    wire: ScenarioWire,
    known_peers: &[String],
) -> Result<Scenario, Problem> {
    let question = check_text("question", wire.question)?;
    let learned = wire.learned.map(|text| check_text("learned", text)).transpose()?;
    let answer = wire.answer.map(|answer| check_answer(answer, known_peers)).transpose()?;
    let connection_age = check_connection_age(&wire.backends)?;
    let stream_limits = check_stream_limits(&wire.backends, &wire.balance)?;
    let backends = check_backends(&wire.backends)?;
    let tls = wire.tls.unwrap_or_default();
    let network = wire.network.unwrap_or_default();
    let servers = check_servers(&wire.backends, backends.len(), tls, network)?;
    let links = check_links(&wire.links, network, &backends)?;
    let policy = wire.balance.policy;
    check_policy("balance.policy", policy, &backends)?;
    let load = check_load(&wire.load, folder)?;
    let zones = wire.zones.as_ref();
    let zones =
        zones.map(|wire| check_zones(wire, backends.len(), load.connections)).transpose()?;
    let fleet = check_fleet(&wire.balance, zones.as_ref())?;
    check_client(&load, network, tls, wire.service.is_some())?;
    let channel = check_channel(&wire.channel, load.client)?;
    if zones.is_some() && channel.count > 1 {
        let message = "in zones each client has one channel; take this out, or `[zones]`";
        return Err(Problem::new("channel.count", message));
    }
    let service = check_service(wire.service, &wire.load)?;
    if servers.are_own() && service.as_ref().is_some_and(|service| service.identity.is_some()) {
        without_taps(&wire.backends)?;
    }
    let faults = check_faults(&wire.faults, &backends, &servers)?;
    if let (Some(_), Length::Calls(_)) = (faults.first(), load.length) {
        let message = "faults happen at a part of the duration; use `load.duration`";
        return Err(Problem::new("load.calls", message));
    }
    let placement = check_placement(&wire.placement)?;
    let nodes = check_nodes(wire.nodes)?;
    let settings = check_settings(&wire.settings, zones.is_some())?;
    let cores = |quota| within("placement.proxy_quota", quota, bounds::PROXY_QUOTA, "cores");
    let proxy_quota = wire.placement.proxy_quota.map(cores).transpose()?;
    let peers = check_peers(wire.run.peers, known_peers, &settings, &backends)?;
    let repeats = wire.run.repeats.unwrap_or(DEFAULT_REPEATS);
    let repeats = within("run.repeats", repeats, bounds::REPEATS, "trials of each peer")?;
    let bounds = bounds::MAX_DISTURBED;
    let disturbed =
        |trials| within("run.max_disturbed", trials, bounds, "trials that are measured again");
    let max_disturbed = wire.run.max_disturbed.map(disturbed).transpose()?;
    let seed = within("run.seed", wire.run.seed.unwrap_or(DEFAULT_SEED), bounds::SEED, "a seed")?;
    let claims = check_claims(&wire.expect.claims, known_peers)?;
    let precision = wire.precision.as_ref().map(check_precision).transpose()?;
    if let (Some(_), Some(_)) = (&precision, &load.search) {
        let message = "a search repeats near the edge by itself; take `[precision]` out";
        return Err(Problem::new("precision", message));
    }
    Ok(Scenario {
        name: name.to_owned(),
        question,
        learned,
        answer,
        network,
        links,
        tls,
        backends,
        servers,
        connection_age,
        stream_limits,
        channel,
        service,
        load,
        faults,
        placement,
        nodes,
        proxy_quota,
        policy,
        fleet,
        zones,
        settings,
        peers,
        repeats,
        max_disturbed,
        precision,
        seed,
        claims,
        sweep: None,
    })
}

/// How many calls a server of the user's own works on is for a tap to know.
fn without_taps(wire: &BackendsWire) -> Result<(), Problem> {
    let different = wire.overrides.iter().position(|one| one.concurrency.is_some());
    let key = match (wire.concurrency, different) {
        (Some(_), _) => "backends.concurrency".to_owned(),
        (None, Some(position)) => format!("backends.override[{position}].concurrency"),
        (None, None) => return Ok(()),
    };
    let message = "by this a tap before each server tells service from waiting, and \
                   `service.identity` stands in place of taps; take one of them out";
    Err(Problem::new(key, message))
}

/// Whether there are as many nodes is known where they are asked for.
fn check_nodes(wire: NodesWire) -> Result<NodeRoles, Problem> {
    let list = |key: &str, nodes: Option<Vec<u32>>| match nodes {
        Some(nodes) if nodes.is_empty() => {
            let message = "this list is empty; leave it out for the usual place";
            Err(Problem::new(format!("nodes.{key}"), message))
        }
        Some(mut nodes) => {
            let count = nodes.len();
            nodes.sort_unstable();
            nodes.dedup();
            let twice = nodes.len() < count;
            let message = "a node is listed twice";
            if twice { Err(Problem::new(format!("nodes.{key}"), message)) } else { Ok(nodes) }
        }
        None => Ok(Vec::new()),
    };
    Ok(NodeRoles {
        balancers: list("balancers", wire.balancers)?,
        backends: list("backends", wire.backends)?,
        generators: list("generators", wire.generators)?,
    })
}

fn check_text(key: &str, text: String) -> Result<String, Problem> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(Problem::new(key, "this text is empty; write it for the reader of the report"));
    }
    Ok(trimmed.to_owned())
}

fn check_answer(answer: Answer, known_peers: &[String]) -> Result<Answer, Problem> {
    for name in &answer.peers {
        check_name(name, known_peers).map_err(|message| Problem::new("answer.peers", message))?;
    }
    for (key, template) in answer.templates() {
        for name in template.peers() {
            check_name(name, known_peers)
                .map_err(|message| Problem::new(format!("answer.{key}"), message))?;
        }
    }
    Ok(answer)
}

fn check_load(wire: &LoadWire, folder: &Path) -> Result<Load, Problem> {
    let connections =
        within("load.connections", wire.connections, bounds::CONNECTIONS, "connections")?;
    let streams = wire.streams.unwrap_or(DEFAULT_STREAMS);
    let streams =
        within("load.streams", streams, bounds::STREAMS, "calls in flight per connection")?;
    let in_flight = u64::from(connections) * u64::from(streams);
    if in_flight > bounds::IN_FLIGHT.max {
        let message = format!(
            "{connections} connections of {streams} streams make {in_flight} calls in flight; at most {} are taken",
            bounds::IN_FLIGHT.max
        );
        return Err(Problem::new("load.streams", message));
    }
    let trace = check_trace(wire, folder)?;
    let is_traced = trace.is_some();
    let default_warm_up = if is_traced { Duration::ZERO } else { DEFAULT_WARM_UP };
    let warm_up = wire.warm_up.map_or(default_warm_up, |DurationText(warm_up)| warm_up);
    let warm_up = within("load.warm_up", Time(warm_up), bounds::WARM_UP.time(), "a warm-up")?.0;
    let (pacer, closed_twin) = (check_pacer(wire)?, check_closed_twin(wire)?);
    let (call, messages) = check_call(wire)?;
    let deadline = wire.deadline.map(|DurationText(time)| Time(time));
    let bounds = bounds::DEADLINE.time();
    let deadline =
        deadline.map(|time| within("load.deadline", time, bounds, "a deadline")).transpose()?;
    let sizes = |key: &str, size, column: fn(&TracedCall) -> Option<u32>| {
        check_sizes(key, size, wire, folder, trace.as_ref(), column)
    };
    let request_bytes = sizes("request_bytes", &wire.request_bytes, |call| call.request_bytes)?;
    let response_bytes = sizes("response_bytes", &wire.response_bytes, |call| call.response_bytes)?;
    let pace = check_pace(wire, trace)?;
    let skew = wire.skew.as_ref().map(|skew| check_skew(skew, connections, &pace)).transpose()?;
    let length = check_length(wire, &pace, warm_up)?;
    let search =
        wire.search.as_ref().map(|search| check_search(search, &pace, length)).transpose()?;
    Ok(Load {
        pace,
        connections,
        streams,
        skew,
        connection_calls: check_connection_calls(wire.connection_calls)?,
        length,
        warm_up,
        client: match wire.client {
            None | Some(ClientWire::Wire) => Client::Wire,
            Some(ClientWire::Tonic) => Client::Tonic,
            Some(ClientWire::Grpcio) => Client::Grpcio,
            Some(ClientWire::GrpcJs) => Client::GrpcJs,
            Some(ClientWire::GrpcGo) => Client::GrpcGo,
            Some(ClientWire::TonicChannel) => Client::TonicChannel,
        },
        pacer,
        closed_twin,
        call,
        messages,
        deadline: deadline.map(|time| time.0),
        request_bytes,
        response_bytes,
        search,
    })
}

fn check_closed_twin(wire: &LoadWire) -> Result<bool, Problem> {
    let wanted = wire.closed_twin.unwrap_or(false);
    if wanted && wire.mode == LoopWire::Closed {
        let message = "a closed loop is its own twin; leave `load.closed_twin` out";
        return Err(Problem::new("load.closed_twin", message));
    }
    Ok(wanted)
}

fn check_pacer(wire: &LoadWire) -> Result<Pacer, Problem> {
    match (wire.pacer, wire.mode) {
        (None, _) => Ok(Pacer::Auto),
        (Some(_), LoopWire::Closed) => {
            let message = "a closed loop follows no schedule; leave `load.pacer` out";
            Err(Problem::new("load.pacer", message))
        }
        (Some(PacerWire::Timer), LoopWire::Open) => Ok(Pacer::Timer),
        (Some(PacerWire::Spin), LoopWire::Open) => Ok(Pacer::Spin),
    }
}

fn check_skew(wire: &SkewWire, connections: u32, pace: &Pace) -> Result<Skew, Problem> {
    if !matches!(pace, Pace::Open { arrivals, .. } if arrivals.trace().is_none()) {
        let message = "belongs to an open loop without a trace, since responses pace a closed one; \
                       take it out, or change `load.loop`";
        return Err(Problem::new("load.skew", message));
    }
    let heavy =
        within("load.skew.heavy", wire.heavy, bounds::HEAVY, "connections that carry more")?;
    if heavy >= connections {
        let message = format!("{heavy} of {connections} connections leave no light one");
        return Err(Problem::new("load.skew.heavy", message));
    }
    let PercentText(share) = wire.share;
    let share = within("load.skew.share", share, bounds::HEAVY_SHARE, "a part of all calls")?;
    Ok(Skew { heavy, share })
}

fn check_connection_calls(calls: Option<u32>) -> Result<Option<u32>, Problem> {
    let key = "load.connection_calls";
    calls.map(|calls| within(key, calls, bounds::CONNECTION_CALLS, "calls")).transpose()
}

fn check_call(wire: &LoadWire) -> Result<(CallKind, u32), Problem> {
    let call = match wire.call.unwrap_or(CallWire::Unary) {
        CallWire::Unary => CallKind::Unary,
        CallWire::ServerStream => CallKind::ServerStream,
        CallWire::ClientStream => CallKind::ClientStream,
        CallWire::Bidi => CallKind::Bidi,
    };
    let messages = match (call, wire.messages) {
        (CallKind::Unary, None) => 1,
        (CallKind::Unary, Some(_)) => {
            let message = "a unary call has one message; choose a streaming kind in `load.call`";
            return Err(Problem::new("load.messages", message));
        }
        (_, messages) => messages.unwrap_or(DEFAULT_MESSAGES),
    };
    Ok((call, within("load.messages", messages, bounds::MESSAGES, "messages")?))
}

/// The payload of one direction: its own, or that of both.
fn check_search(wire: &SearchWire, pace: &Pace, length: Length) -> Result<Search, Problem> {
    let flat = matches!(pace, Pace::Open { profile: Profile::Flat, arrivals } if arrivals.trace().is_none());
    if !flat || !matches!(length, Length::Duration(_)) {
        let message = "a search changes the rate of an open loop without a profile, and measures \
                       each for a duration; set `load.loop = \"open\"` and `load.duration`";
        return Err(Problem::new("load.search", message));
    }
    if wire.slo.is_empty() {
        let message = "this list is empty; name an objective, as in `[\"p99 < 5ms\"]`";
        return Err(Problem::new("load.search.slo", message));
    }
    let objective = |(index, text): (usize, &String)| {
        text.parse()
            .map_err(|message: String| Problem::new(format!("load.search.slo[{index}]"), message))
    };
    let resolution = wire.resolution.map_or(DEFAULT_RESOLUTION, |PercentText(part)| part);
    let key = "load.search.resolution";
    let resolution = within(key, resolution, bounds::RESOLUTION, "a part")?;
    let budget = wire.budget.map_or(DEFAULT_BUDGET, |DurationText(budget)| budget);
    let budget = within("load.search.budget", Time(budget), bounds::DURATION.time(), "a budget")?;
    Ok(Search {
        slo: wire.slo.iter().enumerate().map(objective).collect::<Result<_, _>>()?,
        resolution,
        budget: budget.0,
    })
}

fn check_pace(wire: &LoadWire, trace: Option<Trace>) -> Result<Pace, Problem> {
    let belongs = |key: &str, to: &str| {
        let message = format!("belongs to {to}; take it out, or change `load.loop`");
        Err(Problem::new(format!("load.{key}"), message))
    };
    match wire.mode {
        LoopWire::Open => {
            if wire.think_time.is_some() {
                return belongs("think_time", "a closed loop");
            }
            if let Some(trace) = trace {
                let speed =
                    within("load.speed", wire.speed.unwrap_or(1.0), bounds::SPEED, "a factor")?;
                let arrivals = Arrivals::Trace { trace, speed };
                return Ok(Pace::Open { arrivals, profile: Profile::Flat });
            }
            let Some(rate) = wire.rate else {
                let message = "this key is missing: an open loop needs the rate of its schedule";
                return Err(Problem::new("load.rate", message));
            };
            let rate = within("load.rate", rate.0, bounds::RATE, "calls per second")?;
            let arrivals = match wire.arrivals {
                Some(ArrivalsWire::Constant) => Arrivals::Constant { rate },
                // A trace has been dealt with.
                None | Some(ArrivalsWire::Poisson | ArrivalsWire::Trace(_)) => {
                    Arrivals::Poisson { rate }
                }
            };
            let profile = check_profile(wire, rate)?;
            Ok(Pace::Open { arrivals, profile })
        }
        LoopWire::Closed => {
            if wire.rate.is_some() {
                return belongs("rate", "an open loop, since the responses pace a closed one");
            }
            if wire.arrivals.is_some() {
                return belongs("arrivals", "an open loop");
            }
            if wire.profile.is_some() {
                return belongs("profile", "an open loop");
            }
            let think_time = wire.think_time.map_or(Duration::ZERO, |DurationText(time)| time);
            let bounds = bounds::THINK_TIME.time();
            let think_time = within("load.think_time", Time(think_time), bounds, "a think time")?;
            Ok(Pace::Closed { think_time: think_time.0 })
        }
    }
}

/// The profile, in multiples of the rate.
fn check_profile(wire: &LoadWire, rate: f64) -> Result<Profile, Problem> {
    let Some(profile) = &wire.profile else { return Ok(Profile::Flat) };
    if wire.calls.is_some() {
        let message = "a profile spans a duration; use `load.duration` instead of `load.calls`";
        return Err(Problem::new("load.profile", message));
    }
    let factor = |key: &str, RateText(to): RateText| {
        within(key, to, bounds::RATE, "calls per second").map(|to| to / rate)
    };
    match profile {
        ProfileWire::Ramp { to } => Ok(Profile::Ramp { to: factor("load.profile.to", *to)? }),
        ProfileWire::Steps { then } if then.is_empty() => {
            let message = "this list is empty; name at least one rate that follows `load.rate`";
            Err(Problem::new("load.profile.then", message))
        }
        ProfileWire::Steps { then } => {
            let later = then
                .iter()
                .enumerate()
                .map(|(index, to)| factor(&format!("load.profile.then[{index}]"), *to));
            let factors = std::iter::once(Ok(1.0)).chain(later).collect::<Result<_, _>>()?;
            Ok(Profile::Steps { factors })
        }
        ProfileWire::Bursts { on: DurationText(on), off: DurationText(off) } => {
            let part = |key: &str, time| {
                within(key, Time(time), bounds::BURST.time(), "a part of a burst")
                    .map(|time| time.0)
            };
            Ok(Profile::Bursts {
                on: part("load.profile.on", *on)?,
                off: part("load.profile.off", *off)?,
            })
        }
    }
}

fn check_precision(wire: &PrecisionWire) -> Result<Precision, Problem> {
    if wire.within.is_empty() {
        let message = "this table is empty; name a figure, as in `latency_p99 = \"5%\"`";
        return Err(Problem::new("precision.within", message));
    }
    let target = |(name, PercentText(width)): (&String, &PercentText)| {
        let key = format!("precision.within.{name}");
        let figure = parse_figure(name).map_err(|message| Problem::new(&key, message))?;
        if figure.scope() == Scope::WholeRun {
            let message = "no trial has this figure, so that more of them don't sharpen it";
            return Err(Problem::new(&key, message));
        }
        Ok((figure, within(&key, *width, bounds::PRECISION, "half a width")?))
    };
    let budget = wire.budget.map_or(DEFAULT_BUDGET, |DurationText(budget)| budget);
    let budget = within("precision.budget", Time(budget), bounds::DURATION.time(), "a budget")?;
    Ok(Precision {
        within: wire.within.iter().map(target).collect::<Result<_, Problem>>()?,
        budget: budget.0,
    })
}

fn check_placement(wire: &PlacementWire) -> Result<Placement, Problem> {
    let lists = [&wire.generator, &wire.proxy, &wire.backends];
    let has_lists = lists.iter().any(|list| list.is_some());
    match wire.mode {
        Some(_) if has_lists => {
            let message = "`placement.mode` and lists of CPUs exclude each other; keep one";
            Err(Problem::new("placement.mode", message))
        }
        Some(PlacementMode::None) => Ok(Placement::None),
        _ if !has_lists => Ok(Placement::Auto),
        _ => {
            let [generator, proxy, backends] = lists.map(|list| list.clone().unwrap_or_default());
            Ok(Placement::Cpus { generator, proxy, backends })
        }
    }
}

fn check_length(wire: &LoadWire, pace: &Pace, warm_up: Duration) -> Result<Length, Problem> {
    let whole = |trace: &Trace, speed: f64| {
        // To the last call, which is in it.
        Duration::from_secs_f64(trace.length_s() / speed) + Duration::from_nanos(1)
    };
    let left = match pace {
        Pace::Open { arrivals: Arrivals::Trace { trace, speed }, .. } => {
            Some(whole(trace, *speed).saturating_sub(warm_up))
        }
        _ => None,
    };
    match (wire.duration, wire.calls) {
        (None, None) if left.is_some() => {
            let bounds = bounds::DURATION.time();
            let left = Time(left.unwrap_or_default());
            Ok(Length::Duration(within("load.arrivals", left, bounds, "a trace of a duration")?.0))
        }
        (None, Some(_)) if left.is_some() => {
            let message = "a trace is replayed for a duration; use `load.duration`, or take it out";
            Err(Problem::new("load.calls", message))
        }
        (Some(_), Some(_)) => {
            let message = "`load.duration` and `load.calls` both say how long a trial is; keep one";
            Err(Problem::new("load.calls", message))
        }
        (None, None) => {
            let message = "this key is missing: say how long a trial is, here or in `load.calls`";
            Err(Problem::new("load.duration", message))
        }
        (Some(DurationText(duration)), None) => {
            let bounds = bounds::DURATION.time();
            Ok(Length::Duration(within("load.duration", Time(duration), bounds, "a duration")?.0))
        }
        (None, Some(calls)) => {
            let calls = within("load.calls", calls, bounds::CALLS, "calls")?;
            let longest = bounds::DURATION.max;
            match pace {
                Pace::Open { arrivals, .. }
                    if calls as f64 / arrivals.rate() > longest.as_secs_f64() =>
                {
                    let rate = arrivals.rate();
                    let longest = duration::format(longest);
                    let message = format!("{calls} calls at {rate}/s take longer than {longest}");
                    Err(Problem::new("load.calls", message))
                }
                _ => Ok(Length::Calls(calls)),
            }
        }
    }
}

fn check_peers(
    peers: Option<Vec<String>>,
    known: &[String],
    settings: &BTreeMap<String, ProxySettings>,
    backends: &[Backend],
) -> Result<Vec<String>, Problem> {
    let peers = peers.unwrap_or_else(|| DEFAULT_PEERS.map(str::to_owned).to_vec());
    if peers.is_empty() {
        let message = format!("the list is empty; name at least one of {}", list_of(known));
        return Err(Problem::new("run.peers", message));
    }
    for (index, peer) in peers.iter().enumerate() {
        let key = format!("run.peers[{index}]");
        let name = check_name(peer, known).map_err(|message| Problem::new(&key, message))?;
        if let Some(policy) = name.policy {
            check_policy(&key, policy, backends)?;
        }
        if let Some(set) = name.settings.filter(|set| !settings.contains_key(*set)) {
            let message =
                format!("there are no settings `{set}`; write a table `[settings.{set}]`");
            return Err(Problem::new(key, message));
        }
        if peers[..index].contains(peer) {
            let message =
                format!("`{peer}` is listed twice; `run.repeats` makes more trials of each");
            return Err(Problem::new(key, message));
        }
    }
    Ok(peers)
}

fn check_claims(claims: &[String], known_peers: &[String]) -> Result<Vec<Claim>, Problem> {
    let mut checked = Vec::with_capacity(claims.len());
    for (index, text) in claims.iter().enumerate() {
        let key = || format!("expect.claims[{index}]");
        let claim: Claim = text.parse().map_err(|error| Problem::new(key(), format!("{error}")))?;
        for peer in claim.peers() {
            // Peers of the library rather than of the run: a run over fewer
            // peers leaves the claims about the others unjudged.
            if peer == EXTERNAL_PEER {
                continue;
            }
            check_name(peer, known_peers).map_err(|message| Problem::new(key(), message))?;
        }
        checked.push(claim);
    }
    Ok(checked)
}

/// A duration that shows as people write it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}

impl Bounds<Duration> {
    pub(crate) fn time(self) -> Bounds<Time> {
        Bounds { min: Time(self.min), max: Time(self.max) }
    }
}

/// The value, if it is within its bounds. `what` completes the sentence
/// "expected ... from 1 to 5".
pub(crate) fn within<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    bounds: Bounds<T>,
    what: &str,
) -> Result<T, Problem> {
    let Bounds { min, max } = bounds;
    // Written so that NaN is refused.
    if value >= min && value <= max {
        return Ok(value);
    }
    Err(Problem::new(key, format!("found {value}, expected {what} from {min} to {max}")))
}
