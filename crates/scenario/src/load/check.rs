//! `[load]` from what is written to what can't be wrong.

use std::{path::Path, time::Duration};

use measure::record::{Network, Tls};
use units::{duration, format_size};

use super::{Arrivals, Length, Load, Pace, Pacer, Profile, Skew};
use crate::{
    bounds::{self, time_within, within},
    client::Client,
    error::Problem,
    precision::DEFAULT_BUDGET,
    quantity::{DurationText, PercentText, RateText},
    search::Search,
    sizes::Sizes,
    trace::{Trace, TracedCall, check_trace},
    wire::{
        ArrivalsWire, CallKind, LoadWire, LoopWire, PacerWire, ProfileWire, SearchWire, SkewWire,
    },
};

const DEFAULT_RESOLUTION: f64 = 0.05;
const DEFAULT_STREAMS: u32 = 100;
const DEFAULT_WARM_UP: Duration = Duration::from_secs(1);
const DEFAULT_MESSAGES: u32 = 10;
/// What messages have unless something is said of them.
const DEFAULT_BYTES: u32 = 32;

/// One check a key, and what contradicts it.
pub(crate) fn check_load(wire: &LoadWire, folder: &Path) -> Result<Load, Problem> {
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
    let warm_up = time_within("load.warm_up", warm_up, bounds::WARM_UP, "a warm-up")?;
    let (pacer, closed_twin) = (check_pacer(wire)?, check_closed_twin(wire)?);
    let (call, messages) = check_call(wire)?;
    let deadline =
        |DurationText(time)| time_within("load.deadline", time, bounds::DEADLINE, "a deadline");
    let deadline = wire.deadline.map(deadline).transpose()?;
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
        client: wire.client.unwrap_or(Client::Wire),
        pacer,
        closed_twin,
        call,
        messages,
        deadline,
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
    let call = wire.call.unwrap_or(CallKind::Unary);
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
    let budget = time_within("load.search.budget", budget, bounds::DURATION, "a budget")?;
    Ok(Search {
        slo: wire.slo.iter().enumerate().map(objective).collect::<Result<_, _>>()?,
        resolution,
        budget,
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
            let bounds = bounds::THINK_TIME;
            let think_time = time_within("load.think_time", think_time, bounds, "a think time")?;
            Ok(Pace::Closed { think_time })
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
            let part = |key: &str, time| time_within(key, time, bounds::BURST, "a part of a burst");
            Ok(Profile::Bursts {
                on: part("load.profile.on", *on)?,
                off: part("load.profile.off", *off)?,
            })
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
            let (left, bounds) = (left.unwrap_or_default(), bounds::DURATION);
            let left = time_within("load.arrivals", left, bounds, "a trace of a duration")?;
            Ok(Length::Duration(left))
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
            let bounds = bounds::DURATION;
            Ok(Length::Duration(time_within("load.duration", duration, bounds, "a duration")?))
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

/// Checks the sizes of requests or responses (`key`), which a column of a trace may tell.
fn check_sizes(
    key: &str,
    given: &Option<Sizes>,
    load: &LoadWire,
    folder: &Path,
    trace: Option<&Trace>,
    column: impl Fn(&TracedCall) -> Option<u32>,
) -> Result<Sizes, Problem> {
    let key = format!("load.{}", if given.is_some() { key } else { "payload" });
    if let Some(sizes) = given.as_ref().or(load.payload.as_ref()) {
        return sizes.clone().read(folder).map_err(|reason| Problem::new(key, reason));
    }
    let traced = trace.and_then(|trace| {
        let bytes = trace.sizes(column, DEFAULT_BYTES)?;
        Some(Sizes::Listed { file: trace.file().to_owned(), bytes })
    });
    match traced {
        Some(Sizes::Listed { file, bytes })
            if bytes.iter().max() > Some(&bounds::PAYLOAD_BYTES.max) =>
        {
            let most = format_size(bounds::PAYLOAD_BYTES.max);
            let message = format!("{file} has messages of more than {most}, the largest payload");
            Err(Problem::new("load.arrivals", message))
        }
        Some(traced) => Ok(traced),
        None => Ok(Sizes::Constant(DEFAULT_BYTES)),
    }
}

/// What a scenario must not have for a real client to make its calls.
pub(crate) fn check_client(
    load: &Load,
    network: Network,
    tls: Tls,
    has_service: bool,
) -> Result<(), Problem> {
    if !load.client.is_program() {
        return Ok(());
    }
    let refusals = [
        (network != Network::Loopback, "the loopback"),
        (tls != Tls::None, "plain text"),
        (has_service, "the lab's echo service"),
        (load.call != CallKind::Unary, "unary calls"),
        (load.deadline.is_some(), "calls without a deadline"),
        (load.connection_calls.is_some(), "connections that live as long as they can"),
    ];
    match refusals.into_iter().find(|(is_so, _)| *is_so) {
        Some((_, only)) => {
            let name = load.client.name();
            let message = format!("`{name}` is a real client, which is for {only}; use `wire`");
            Err(Problem::new("load.client", message))
        }
        None => Ok(()),
    }
}
