//! What stands between clients and backends, as it is written: `[[link]]`, `[channel]`,
//! `[balance]` and `[zones]`.

use std::collections::BTreeMap;

use balance::{PolicyKind, Spread, Subsetting};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    bounds,
    quantity::{BitRateText, DurationText, PercentText},
};

/// A link between two of client, balancer and backends. What it does, it does to packets in
/// each direction, in the words of netem (tc-netem(8)); what is not given is as fast as the
/// machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkWire {
    /// Its two ends: `client`, `balancer`, `backends`, or one of the backends by its id, which
    /// goes before what is said of all. Between `client` and `backends` it is a way of its own,
    /// that leads by no balancer; unless there is one, all go through where the balancer is.
    /// Or two of `[zones]`, `zones.a` and `zones.b`, or `zones` twice for any two: what goes from
    /// one zone to the other then crosses it too.
    pub(crate) between: [String; 2],
    /// How long a packet is under way, one way: a round trip takes twice that. None unless
    /// given.
    #[schemars(example = "5ms")]
    pub(crate) delay: Option<DurationText>,
    /// How much less or more than the delay it may be, evenly distributed; none unless given.
    /// Packets keep their order all the same.
    #[schemars(example = "500us")]
    pub(crate) jitter: Option<DurationText>,
    /// The part of the packets that is lost, each by a chance of its own; none unless given.
    #[schemars(example = "0.1%")]
    pub(crate) loss: Option<PercentText>,
    /// Bits per second, of packets with their IP headers; as many as can be unless given.
    #[schemars(example = "100mbit")]
    pub(crate) rate: Option<BitRateText>,
    /// Packets that are under way or wait for the rate at a time; more are dropped. Unless
    /// given, 1,000 and those that the rate has under way, or 20,000 without a rate.
    #[schemars(range(min = bounds::LINK_LIMIT.min, max = bounds::LINK_LIMIT.max))]
    #[schemars(example = 100)]
    pub(crate) limit: Option<u32>,
    /// Whether jitter lets packets overtake each other; `false` unless given.
    #[schemars(example = true)]
    pub(crate) reorder: Option<bool>,
}

/// How clients keep connections and learn of backends: what gRPC calls a channel.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelWire {
    /// Channels of each client, which it uses in turn; 1 unless given.
    #[schemars(range(min = bounds::CHANNELS.min, max = bounds::CHANNELS.max))]
    #[schemars(example = 4)]
    pub(crate) count: Option<u32>,
    /// TCP connections to one address that a channel may have at a time: another one is
    /// made where calls wait for a stream (gRFC A105); 1 unless given, and then calls wait.
    #[schemars(range(min = bounds::MAX_CONNECTIONS.min, max = bounds::MAX_CONNECTIONS.max))]
    #[schemars(example = 10)]
    pub(crate) max_connections: Option<u32>,
    /// The least time between two resolutions of the backends' name by one client that
    /// balances by DNS; `30s` unless given, as in gRPC.
    pub(crate) resolve_interval: Option<DurationText>,
    /// The pause of a client that balances after its first failed attempt to connect to a
    /// backend; later ones grow by 1.6 each, up to two minutes. `1s` unless given, as in
    /// gRPC.
    #[schemars(example = "100ms")]
    pub(crate) initial_backoff: Option<DurationText>,
    /// How long a client hears nothing on a connection with calls under way before it sends a
    /// PING (gRFC A8); never unless given, as in gRPC.
    #[schemars(example = "10s")]
    pub(crate) keepalive_time: Option<DurationText>,
    /// How long it then waits for any answer before it gives the connection up; `20s` unless
    /// given, as in gRPC. For `channel.keepalive_time` only.
    #[schemars(example = "20s")]
    pub(crate) keepalive_timeout: Option<DurationText>,
}

/// How balancers pick.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalanceWire {
    /// The policy; `round_robin` unless given.
    #[serde(default)]
    pub(crate) policy: PolicyKind,
    /// Calls that a client's connection to an L7 balancer may carry at a time, which the
    /// balancer announces; 1024 unless given. A balancer that can't be told is left out.
    #[schemars(range(min = bounds::STREAMS.min, max = bounds::STREAMS.max))]
    pub(crate) max_concurrent_streams: Option<u32>,
    /// Balancers, a process each, that share the client connections; 1 unless given, or one
    /// for each zone with clients. Each sees what comes to it and nothing of the others.
    #[schemars(range(min = bounds::BALANCERS.min, max = bounds::BALANCERS.max))]
    #[schemars(example = 4)]
    pub(crate) balancers: Option<u32>,
    /// Threads, or workers, of each balancer; 1 unless given, so that cost is compared per
    /// core.
    #[schemars(range(min = bounds::BALANCER_THREADS.min, max = bounds::BALANCER_THREADS.max))]
    #[schemars(example = 2)]
    pub(crate) threads: Option<u32>,
    /// How client connections are spread over several balancers; `round_robin` unless
    /// given.
    pub(crate) spread: Option<Spread>,
    /// To how many of the backends each balancer, or each client that balances itself, is
    /// limited; all of them unless given.
    #[schemars(range(min = bounds::BACKENDS.min, max = bounds::BACKENDS.max))]
    #[schemars(example = 5)]
    pub(crate) subset: Option<u32>,
    /// How these are chosen; `random` unless given. For `balance.subset` only.
    pub(crate) subsetting: Option<Subsetting>,
}

/// Zones, as those of a cloud provider. Balancers are in the zones that have clients, and
/// clients come to those of their own. Who is to keep calls within a zone is told so by
/// `zone_routing` in its settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZonesWire {
    /// How many of the backends are in each zone: the first ones in the first by its name.
    #[schemars(example = zones_example(2))]
    pub(crate) backends: BTreeMap<String, u32>,
    /// The parts of the client connections that are in each zone, in proportion to each
    /// other: the first connections in the first by its name.
    #[schemars(example = zones_example(4))]
    pub(crate) connections: BTreeMap<String, u32>,
}

fn zones_example(in_first: u32) -> BTreeMap<&'static str, u32> {
    BTreeMap::from([("a", in_first), ("b", 2), ("c", 2)])
}
