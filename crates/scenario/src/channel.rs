//! How clients keep connections and learn of backends, and what backends and balancers make
//! of connections: their limits, checked.

use std::time::Duration;

use serde::Serialize;

use crate::{
    bounds::{self, Bounds, time_within, within},
    client::Client,
    error::Problem,
    quantity::{DurationText, duration_as_text},
    wire::{BackendsWire, BalanceWire, ChannelWire},
};

/// How long calls on a connection may go on after its age.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// As in every gRPC library: `grpc.dns_min_time_between_resolutions_ms` of grpc-core and
/// grpc-js, `MinResolutionInterval` of grpc-go.
const DEFAULT_RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// `INITIAL_BACKOFF` of gRPC's `doc/connection-backoff.md`.
const DEFAULT_INITIAL_BACKOFF: Duration = Duration::from_secs(1);

/// `KEEPALIVE_TIMEOUT` of gRFC A8.
const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// When a client asks whether the other end of a connection is still there (gRFC A8). It asks
/// while calls are under way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    /// How long it hears nothing before it sends a PING.
    #[serde(serialize_with = "duration_as_text")]
    pub time: Duration,
    /// How long it then waits for anything before it gives the connection up.
    #[serde(serialize_with = "duration_as_text")]
    pub timeout: Duration,
}

/// How clients keep connections and learn of backends: what gRPC calls a channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Channel {
    /// Channels of each client, which it uses in turn.
    pub count: u32,
    /// TCP connections to one address that a channel may have at a time: more than one are
    /// made where calls wait for streams (gRFC A105).
    pub max_connections: u32,
    /// The least time between two resolutions of the backends' name by one client.
    #[serde(serialize_with = "duration_as_text")]
    pub resolve_interval: Duration,
    /// The pause after the first failed attempt to connect to a backend, from which later
    /// ones grow (gRPC, `doc/connection-backoff.md`).
    #[serde(serialize_with = "duration_as_text")]
    pub initial_backoff: Duration,
    /// Whether and when they ask if the other end is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
}

/// When backends close connections for their age.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ConnectionAge {
    /// The age, before jitter.
    #[serde(serialize_with = "duration_as_text")]
    pub max: Duration,
    /// How long calls may go on after that.
    #[serde(serialize_with = "duration_as_text")]
    pub grace: Duration,
}

/// How many streams (calls) a connection may carry at a time: what its server announces as
/// `SETTINGS_MAX_CONCURRENT_STREAMS` (RFC 9113, section 6.5.2). `None` for more than any
/// scenario has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StreamLimits {
    /// A connection to a backend.
    pub backends: Option<u32>,
    /// A client's connection to a balancer that reads HTTP/2.
    pub balancer: Option<u32>,
}

pub(crate) fn check_connection_age(wire: &BackendsWire) -> Result<Option<ConnectionAge>, Problem> {
    let grace_key = "backends.max_connection_age_grace";
    match (wire.max_connection_age, wire.max_connection_age_grace) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Problem::new(
            grace_key,
            "a grace without an age; set `backends.max_connection_age` too",
        )),
        (Some(DurationText(max)), grace) => {
            let grace = grace.map_or(DEFAULT_GRACE, |DurationText(grace)| grace);
            let age = |key: &str, time, what| time_within(key, time, bounds::CONNECTION_AGE, what);
            let max = age("backends.max_connection_age", max, "an age")?;
            Ok(Some(ConnectionAge { max, grace: age(grace_key, grace, "a grace")? }))
        }
    }
}

pub(crate) fn check_stream_limits(
    backends: &BackendsWire,
    balance: &BalanceWire,
) -> Result<StreamLimits, Problem> {
    let key = "backends.max_concurrent_streams";
    if backends.max_concurrent_streams.is_some()
        && (backends.command.is_some() || backends.addresses.is_some())
    {
        let message = "only the lab's own backend can be told, and `backends.command` starts \
                       servers of yours";
        return Err(Problem::new(key, message));
    }
    let limit = |key: &str, limit: Option<u32>| {
        limit.map(|limit| within(key, limit, bounds::STREAMS, "streams")).transpose()
    };
    Ok(StreamLimits {
        backends: limit(key, backends.max_concurrent_streams)?,
        balancer: limit("balance.max_concurrent_streams", balance.max_concurrent_streams)?,
    })
}

/// One check a key.
pub(crate) fn check_channel(wire: &ChannelWire, client: Client) -> Result<Channel, Problem> {
    let count = wire.count.unwrap_or(1);
    let max_connections = wire.max_connections.unwrap_or(1);
    if max_connections > 1 && client.has_one_connection() {
        let message = format!(
            "{} has one connection a channel; use `load.client = \"wire\"`, or several channels \
             (`channel.count`)",
            client.name()
        );
        return Err(Problem::new("channel.max_connections", message));
    }
    let time = |key: &str, wire: Option<DurationText>, unless_given, bounds: Bounds<Duration>| {
        let time = wire.map_or(unless_given, |DurationText(time)| time);
        time_within(&format!("channel.{key}"), time, bounds, "a time")
    };
    let keepalive = match (wire.keepalive_time, wire.keepalive_timeout) {
        (None, None) => None,
        (None, Some(_)) => {
            let message = "a wait for the answer to no PING; set `channel.keepalive_time` too";
            return Err(Problem::new("channel.keepalive_timeout", message));
        }
        (given, timeout) => Some(Keepalive {
            time: time("keepalive_time", given, Duration::ZERO, bounds::KEEPALIVE)?,
            timeout: time(
                "keepalive_timeout",
                timeout,
                DEFAULT_KEEPALIVE_TIMEOUT,
                bounds::KEEPALIVE,
            )?,
        }),
    };
    Ok(Channel {
        keepalive,
        count: within("channel.count", count, bounds::CHANNELS, "channels of each client")?,
        max_connections: within(
            "channel.max_connections",
            max_connections,
            bounds::MAX_CONNECTIONS,
            "connections to one address",
        )?,
        resolve_interval: time(
            "resolve_interval",
            wire.resolve_interval,
            DEFAULT_RESOLVE_INTERVAL,
            bounds::RESOLVE_INTERVAL,
        )?,
        initial_backoff: time(
            "initial_backoff",
            wire.initial_backoff,
            DEFAULT_INITIAL_BACKOFF,
            bounds::INITIAL_BACKOFF,
        )?,
    })
}
