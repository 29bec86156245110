//! A scenario file as it is written: what serde reads and the JSON Schema
//! describes. Nothing here is checked against anything else; the checked types
//! are in [`crate::scenario`].

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use balance::{PolicyKind, Spread, Subsetting};
use measure::answer::Answer;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;

use crate::{
    bounds,
    command::Ready,
    quantity::{BitRateText, DurationText, PercentText, RateText},
    scenario::{Network, Tls},
    service_time::ServiceTime,
    settings::ProxySettingsWire,
    sizes::Sizes,
};

/// A layerlab scenario: one question, and what to measure to answer it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "layerlab scenario")]
pub(crate) struct ScenarioWire {
    /// The question this scenario asks, in one sentence.
    pub(crate) question: String,
    /// What a reader takes home from the answer: one paragraph.
    #[schemars(example = "An L4 balancer spreads connections, and calls only as they do.")]
    pub(crate) learned: Option<String>,
    /// What decides the question, and the sentence that answers it in each outcome. A
    /// scenario without one is answered by shares, tail latency and CPU.
    #[schemars(example = serde_json::json!({
        "figure": "latency_p99",
        "peers": ["l7", "l4"],
        "less": "Behind L7 the p99 was {l7.latency_p99}, {change} than behind L4."
    }))]
    pub(crate) answer: Option<Answer>,
    /// What traffic crosses: `loopback` unless given, or `namespaces`.
    pub(crate) network: Option<Network>,
    /// Links between client, balancer and backends that take time, lose packets or have a rate,
    /// where each has a network namespace of its own.
    #[serde(default, rename = "link")]
    pub(crate) links: Vec<LinkWire>,
    /// Which side of the balancer speaks TLS: `none` unless given, or `client`,
    /// `backend` or `both`. Peers that pass connections on can do `none` and `both`.
    pub(crate) tls: Option<Tls>,
    /// The backends behind every peer.
    #[serde(default)]
    pub(crate) backends: BackendsWire,
    /// How clients keep connections and learn of backends.
    #[serde(default)]
    pub(crate) channel: ChannelWire,
    /// Your own service, called in place of the lab's echo service.
    pub(crate) service: Option<ServiceWire>,
    /// When calls are made: identical for every peer.
    pub(crate) load: LoadWire,
    /// How balancers pick.
    #[serde(default)]
    pub(crate) balance: BalanceWire,
    /// Zones that backends and clients are in; none unless given.
    pub(crate) zones: Option<ZonesWire>,
    /// Sets of settings of proxies, by names of your own: a peer has those of
    /// `[settings.retries]` as `l7@retries`.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, ProxySettingsWire>,
    /// Which peers are compared, and how often.
    #[serde(default)]
    pub(crate) run: RunWire,
    /// What happens to backends while the load runs.
    #[serde(default, rename = "fault")]
    pub(crate) faults: Vec<FaultWire>,
    /// Which CPUs each part runs on.
    #[serde(default)]
    pub(crate) placement: PlacementWire,
    /// Which nodes each part is on, in a run on several (`--on`).
    #[serde(default)]
    pub(crate) nodes: NodesWire,
    /// When enough has been measured.
    pub(crate) precision: Option<PrecisionWire>,
    /// A setting that is tried at several values, each for every peer.
    pub(crate) sweep: Option<SweepWire>,
    /// What replaces the settings above in a run of a few seconds (`--short`).
    #[serde(default)]
    pub(crate) short: ShortWire,
    /// What must come out.
    #[serde(default)]
    pub(crate) expect: ExpectWire,
}

/// A link between two of client, balancer and backends. What it does, it does to packets in
/// each direction, in the words of netem (tc-netem(8)); what is not given is as fast as the
/// machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkWire {
    /// Its two ends: `client`, `balancer`, `backends`, or one of the backends by its id, which
    /// goes before what is said of all. Between `client` and `backends` it is a way of its own,
    /// that leads by no balancer; unless there is one, all go through where the balancer is.
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

/// The backends.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendsWire {
    /// How many; 4 unless given.
    #[schemars(range(min = bounds::BACKENDS.min, max = bounds::BACKENDS.max))]
    pub(crate) count: Option<u32>,
    /// Servers in each backend's queue: how many calls it works on at once; 8
    /// unless given. Of servers of your own it says how many they work on; it is not known
    /// unless given. A tap then tells the time in service from the
    /// wait before it.
    #[schemars(range(min = bounds::CONCURRENCY.min, max = bounds::CONCURRENCY.max))]
    pub(crate) concurrency: Option<u32>,
    /// How long a server works on a call; `none` unless given.
    pub(crate) service_time: Option<ServiceTime>,
    /// The part of the calls that fail at once, with the status INTERNAL; none unless given.
    pub(crate) failures: Option<PercentText>,
    /// Servers of your own in place of the lab's: the program and its arguments. In each
    /// of them `{port}`, `{host}`, `{addr}` (both), `{id}` (`b0`), `{index}` (from zero),
    /// and under TLS `{tls_cert}` and `{tls_key}`, stand for the server's own. For servers
    /// that talk to each other, `{cluster_addr}` is a second address of its own, and
    /// `{cluster_addr.0}` that of the first server.
    #[schemars(example = json!(["python3", "server.py", "--port", "{port}"]))]
    pub(crate) command: Option<Vec<String>>,
    /// Servers of your own that run already, and that the peers are put before: `HOST:PORT` of
    /// each. There are then as many backends.
    #[schemars(example = json!(["10.0.0.7:50051", "10.0.0.8:50051"]))]
    pub(crate) addresses: Option<Vec<String>>,
    /// Additions to the environment of servers that are started, with the same placeholders. What
    /// the lab itself was started with they have as well.
    #[serde(default)]
    #[schemars(example = env_example())]
    pub(crate) environment: BTreeMap<String, String>,
    /// The folder these servers run in, as seen from the scenario's file; the file's own
    /// folder unless given.
    #[schemars(example = "../server")]
    pub(crate) folder: Option<PathBuf>,
    /// What shows that one of these servers is ready: a `call` like those of the load that
    /// succeeds, SERVING as its `health` (`grpc.health.v1`), or a connection over `tcp`;
    /// `call` unless given. The way through a balancer is always shown by a call.
    pub(crate) ready: Option<Ready>,
    /// How long each of these servers may take to be ready; `30s` unless given.
    #[schemars(example = "60s")]
    pub(crate) ready_within: Option<DurationText>,
    /// Age at which backends close a connection (with 10 % of jitter); never
    /// unless given.
    pub(crate) max_connection_age: Option<DurationText>,
    /// How long calls may go on after that; `5s` unless given.
    pub(crate) max_connection_age_grace: Option<DurationText>,
    /// Calls that a connection to a backend may carry at a time, which the backend announces
    /// (SETTINGS_MAX_CONCURRENT_STREAMS); more than any scenario has unless given.
    #[schemars(range(min = bounds::STREAMS.min, max = bounds::STREAMS.max))]
    pub(crate) max_concurrent_streams: Option<u32>,
    /// Backends that differ from the others.
    #[serde(default, rename = "override")]
    pub(crate) overrides: Vec<BackendOverrideWire>,
}

/// One backend that differs from the others.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendOverrideWire {
    /// Which one, from zero.
    pub(crate) index: u32,
    /// Its speed: 0.2 serves five times slower; 1 unless given.
    #[schemars(range(min = bounds::SPEED.min, max = bounds::SPEED.max))]
    pub(crate) speed: Option<f64>,
    /// Its weight in policies that know weights; 1 unless given.
    #[schemars(range(min = bounds::WEIGHT.min, max = bounds::WEIGHT.max))]
    #[schemars(example = 3)]
    pub(crate) weight: Option<u32>,
    /// Servers in its queue.
    #[schemars(range(min = bounds::CONCURRENCY.min, max = bounds::CONCURRENCY.max))]
    #[schemars(example = 2)]
    pub(crate) concurrency: Option<u32>,
    /// Its service time, before its speed is applied.
    pub(crate) service_time: Option<ServiceTime>,
    /// The part of its calls that fail.
    pub(crate) failures: Option<PercentText>,
    /// Additions to its environment, where `backends.command` starts it.
    #[serde(default)]
    #[schemars(example = env_example())]
    pub(crate) environment: BTreeMap<String, String>,
}

fn env_example() -> BTreeMap<String, String> {
    BTreeMap::from([("NAME".to_owned(), "{id}".to_owned())])
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

/// A service of your own, in place of the lab's echo service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceWire {
    /// Proto files that describe the service, beside the scenario or by path. This, a
    /// descriptor set, or reflection.
    #[schemars(length(min = 1), example = json!(["shop.proto"]))]
    pub(crate) proto: Option<Vec<String>>,
    /// Folders in which imports of the proto files are looked for; the folder of each
    /// file unless given.
    #[schemars(example = json!(["protos", "third_party"]))]
    pub(crate) include: Option<Vec<String>>,
    /// A file made by `protoc --include_imports --descriptor_set_out=FILE`.
    #[schemars(example = "shop.bin")]
    pub(crate) descriptor_set: Option<String>,
    /// Whether the service is asked for its interface, by gRPC server reflection.
    #[schemars(example = true)]
    pub(crate) reflection: Option<bool>,
    /// A CSV file with a line of names, whose columns templates take values from.
    #[schemars(example = "customers.csv")]
    pub(crate) data: Option<String>,
    /// How an answer tells which backend it comes from. Unless given, a tap of the lab's
    /// before each server that it starts tells it, and of others it is unknown.
    pub(crate) identity: Option<IdentityWire>,
    /// The calls that are made.
    #[serde(default, rename = "call")]
    pub(crate) calls: Vec<ServiceCallWire>,
}

/// Where an answer tells which backend it comes from: in a header, or in a trailer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityWire {
    /// The header's name.
    #[schemars(example = "x-served-by")]
    pub(crate) header: Option<String>,
    /// The trailer's name.
    #[schemars(example = "x-served-by")]
    pub(crate) trailer: Option<String>,
}

/// One kind of call on your service. Requests and metadata may be templates; see
/// docs/your-service.md.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceCallWire {
    /// The method: `shop.v1.Orders/Place`, or an end of that which fits one only.
    #[schemars(example = "shop.v1.Orders/Place")]
    pub(crate) method: String,
    /// How often it is made, beside the other calls; 1 unless given.
    #[schemars(range(min = bounds::CALL_WEIGHT.min, max = bounds::CALL_WEIGHT.max))]
    #[schemars(example = 3)]
    pub(crate) weight: Option<u32>,
    /// The request as JSON; the empty message unless given.
    #[schemars(example = "{\"customer\": \"{{ column('id') }}\"}")]
    pub(crate) request: Option<String>,
    /// A file with the request: `.json` holds one, `.jsonl` one on each line, which are
    /// taken in turn, and any other file one in protobuf's encoding.
    #[schemars(example = "orders.jsonl")]
    pub(crate) request_file: Option<String>,
    /// Metadata by name; values of names in `-bin` are base64.
    #[serde(default)]
    #[schemars(example = json!({ "authorization": "Bearer {{ env('TOKEN') }}" }))]
    pub(crate) metadata: BTreeMap<String, String>,
    /// How long a call may take, also told to the service as `grpc-timeout`; as long as
    /// it likes unless given.
    pub(crate) deadline: Option<DurationText>,
    /// Requests of a client or bidirectional stream; as many as the file has unless
    /// given.
    #[schemars(range(min = bounds::MESSAGES.min, max = bounds::MESSAGES.max))]
    #[schemars(example = 5)]
    pub(crate) messages: Option<u32>,
    /// Pause between two requests of a stream; none unless given.
    pub(crate) pause: Option<DurationText>,
    /// Responses with which a server or bidirectional stream is complete: the client
    /// then cancels it. The server ends it unless given.
    #[schemars(range(min = bounds::MESSAGES.min, max = bounds::MESSAGES.max))]
    #[schemars(example = 3)]
    pub(crate) responses: Option<u32>,
    /// What a call has to come back with to be successful.
    pub(crate) expect: Option<ExpectedWire>,
}

/// What a call has to come back with.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedWire {
    /// The gRPC status by its name; `OK` unless given.
    #[schemars(example = &"NOT_FOUND")]
    pub(crate) status: Option<String>,
    /// Values in every response, by paths such as `$.order.items[0].id`.
    #[serde(default)]
    #[schemars(example = json!({ "$.order.state": "PAID" }))]
    pub(crate) fields: BTreeMap<String, FieldValueWire>,
}

/// A value in a response.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected true, false, a number or a text")]
pub(crate) enum FieldValueWire {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// A text, the name of an enum's value, or bytes as base64.
    Text(String),
}

/// The load.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadWire {
    /// `open`: calls follow a schedule that does not wait for responses.
    /// `closed`: each stream makes its next call when the last one has ended.
    #[serde(rename = "loop")]
    pub(crate) mode: LoopWire,
    /// Client connections.
    #[schemars(range(min = bounds::CONNECTIONS.min, max = bounds::CONNECTIONS.max))]
    pub(crate) connections: u32,
    /// Most calls in flight per connection; 100 unless given.
    #[schemars(range(min = bounds::STREAMS.min, max = bounds::STREAMS.max))]
    pub(crate) streams: Option<u32>,
    /// Connections that carry more than the others; all are alike unless given.
    /// Open loop only.
    pub(crate) skew: Option<SkewWire>,
    /// Calls after which a connection is closed and another is made for the
    /// next; connections live as long as the trial unless given.
    #[schemars(range(min = bounds::CONNECTION_CALLS.min, max = bounds::CONNECTION_CALLS.max))]
    pub(crate) connection_calls: Option<u32>,
    /// How calls are spread in time: `poisson`, unless given; `constant`, at equal
    /// distances; or `trace:FILE`, as they were recorded in a CSV file, whose columns are
    /// `time_s`, and where they are known `method`, `request_bytes`, `response_bytes` and,
    /// for simulations, `took_s`. Open loop only.
    pub(crate) arrivals: Option<ArrivalsWire>,
    /// How many times as fast as it was recorded a trace is replayed; 1 unless given.
    #[schemars(range(min = bounds::SPEED.min, max = bounds::SPEED.max))]
    #[schemars(example = 2.5)]
    pub(crate) speed: Option<f64>,
    /// Calls per second over all connections. Open loop only.
    pub(crate) rate: Option<RateText>,
    /// How the rate changes over the measured part; it stays as it is unless
    /// given. Open loop with a duration only.
    pub(crate) profile: Option<ProfileWire>,
    /// Pause between the end of a call and the next one on its stream; none
    /// unless given. Closed loop only.
    pub(crate) think_time: Option<DurationText>,
    /// Length of the measured part of a trial. This or `calls`.
    pub(crate) duration: Option<DurationText>,
    /// Length of the measured part of a trial in calls. This or `duration`.
    #[schemars(range(min = bounds::CALLS.min, max = bounds::CALLS.max))]
    #[schemars(example = 20000)]
    pub(crate) calls: Option<u64>,
    /// How long the load runs before it is measured; `1s` unless given.
    pub(crate) warm_up: Option<DurationText>,
    /// The gRPC client that makes the calls; `wire` unless given.
    pub(crate) client: Option<ClientWire>,
    /// How the generator waits for the next call to be due: asleep (`timer`), or
    /// awake for the last moment (`spin`), which is true to some microseconds and
    /// costs a share of its core. Unless given, `spin` where the generator has
    /// cores of its own. Open loop only.
    pub(crate) pacer: Option<PacerWire>,
    /// Whether the load is made once more, for each peer, by callers that wait for
    /// each answer: a closed loop, to show what it leaves out. Open loop only.
    pub(crate) closed_twin: Option<bool>,
    /// Kind of call; `unary` unless given.
    pub(crate) call: Option<CallWire>,
    /// Messages in a streaming call; 10 unless given. Not for unary calls.
    #[schemars(range(min = bounds::MESSAGES.min, max = bounds::MESSAGES.max))]
    pub(crate) messages: Option<u32>,
    /// How long a call may take, also told to the backend as `grpc-timeout`; as long as it
    /// likes unless given.
    pub(crate) deadline: Option<DurationText>,
    /// Payload of messages in both directions; 32 bytes unless given. Sizes that differ
    /// from call to call are drawn by the seed, or taken from a file with one on each
    /// line, and are those of every peer.
    pub(crate) payload: Option<Sizes>,
    /// Payload of a request message; `load.payload` unless given, or what a trace says.
    pub(crate) request_bytes: Option<Sizes>,
    /// Payload of a response message; `load.payload` unless given, or what a trace says.
    pub(crate) response_bytes: Option<Sizes>,
    /// Search the highest rate at which an objective holds, for each peer and in
    /// each repeat, from `load.rate` on. Open loop with a duration only.
    pub(crate) search: Option<SearchWire>,
}

/// A search for the highest rate at which an objective holds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchWire {
    /// What has to hold, all of it: `["p99 < 5ms", "error_rate < 0.1%"]`. A call
    /// without an answer breaks it too.
    #[schemars(length(min = 1))]
    pub(crate) slo: Vec<String>,
    /// How near to each other the highest rate that holds and the lowest that
    /// doesn't have to come; `5%` unless given.
    pub(crate) resolution: Option<PercentText>,
    /// When to stop all the same, counted from the start of the run; `2m` unless
    /// given.
    pub(crate) budget: Option<DurationText>,
}

/// A setting that is tried at several values.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SweepWire {
    /// The setting: `tls`, or one by its key in [load], [backends], [balance] or
    /// [channel], as in `load.connections`.
    pub(crate) key: String,
    /// Its values. This, or a range.
    pub(crate) values: Option<Vec<ValueWire>>,
    /// The first value of a range whose values are at equal ratios.
    pub(crate) from: Option<ValueWire>,
    /// The last value of the range.
    pub(crate) to: Option<ValueWire>,
    /// How many values the range has, both ends included.
    #[schemars(range(min = 2, max = bounds::SWEEP_POINTS.max))]
    pub(crate) points: Option<u32>,
}

/// A value, as its key takes it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number or a text, as the key takes it")]
pub(crate) enum ValueWire {
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// A text: a name, or a number with its unit.
    Text(String),
}

/// Few connections that carry much, among many that carry little.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SkewWire {
    /// How many connections are heavy: the first ones.
    #[schemars(range(min = bounds::HEAVY.min, max = bounds::HEAVY.max))]
    pub(crate) heavy: u32,
    /// The part of all calls that they carry together; the rest is spread over
    /// the others.
    pub(crate) share: PercentText,
}

/// Open or closed loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoopWire {
    /// Calls follow a schedule.
    Open,
    /// Calls follow each other.
    Closed,
}

/// How calls of an open loop are spread in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArrivalsWire {
    Constant,
    Poisson,
    /// As in this file.
    Trace(String),
}

impl<'de> Deserialize<'de> for ArrivalsWire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.strip_prefix("trace:")) {
            ("constant", _) => Ok(Self::Constant),
            ("poisson", _) => Ok(Self::Poisson),
            (_, Some(file)) if !file.is_empty() => Ok(Self::Trace(file.to_owned())),
            _ => Err(de::Error::custom(format!(
                "`{text}` are no arrivals; write `poisson`, `constant` or `trace:FILE`"
            ))),
        }
    }
}

impl JsonSchema for ArrivalsWire {
    fn schema_name() -> Cow<'static, str> {
        "Arrivals".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How calls of an open loop are spread in time.",
            "type": "string",
            "pattern": "^(constant|poisson|trace:.+)$",
            "examples": ["poisson", "constant", "trace:calls.csv"],
        })
    }
}

/// How the rate of an open loop changes. The warm-up runs at the rate the
/// profile begins with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, tag = "kind")]
pub(crate) enum ProfileWire {
    /// Evenly from `load.rate` to another one.
    Ramp {
        /// The rate at the end.
        to: RateText,
    },
    /// From one rate to the next, each for an equal part of the duration.
    Steps {
        /// The rates after `load.rate`, which is the first step.
        #[schemars(example = json!(["2000/s", "4000/s"]))]
        then: Vec<RateText>,
    },
    /// `load.rate` for a while, nothing for a while, and again.
    Bursts {
        /// How long calls come.
        on: DurationText,
        /// How long none come.
        off: DurationText,
    },
}

/// How the generator waits for the next call to be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacerWire {
    /// Asleep until then.
    Timer,
    /// Asleep until shortly before, then awake.
    Spin,
}

/// The gRPC client that makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientWire {
    /// layerlab's own: cheap enough never to be what is measured.
    Wire,
    /// tonic: what most Rust services call with.
    Tonic,
    /// gRPC for Python, on gRPC's C core: a program of its own, to see what real clients do.
    #[serde(rename = "grpcio")]
    Grpcio,
    /// gRPC for Node.js, likewise.
    #[serde(rename = "grpc-js")]
    GrpcJs,
    /// gRPC for Go, likewise.
    #[serde(rename = "grpc-go")]
    GrpcGo,
    /// tonic as a service uses it, by a channel to a name, likewise.
    #[serde(rename = "tonic-channel")]
    TonicChannel,
}

/// Kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallWire {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many of both, each request answered in turn.
    Bidi,
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

/// The run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunWire {
    /// The peers compared, by name; direct, l4 and l7 unless given.
    #[schemars(length(min = 1))]
    pub(crate) peers: Option<Vec<String>>,
    /// Trials of each peer; 3 unless given.
    #[schemars(range(min = bounds::REPEATS.min, max = bounds::REPEATS.max))]
    pub(crate) repeats: Option<u32>,
    /// Seed of all chance in the run; 1 unless given.
    #[schemars(range(min = bounds::SEED.min, max = bounds::SEED.max))]
    pub(crate) seed: Option<u64>,
    /// Most trials that are measured again because other users of the machine disturbed
    /// them; a quarter of those planned unless given. Beyond that, disturbed trials count
    /// and are marked.
    #[schemars(range(min = bounds::MAX_DISTURBED.min, max = bounds::MAX_DISTURBED.max))]
    #[schemars(example = 4)]
    pub(crate) max_disturbed: Option<u32>,
}

/// Something that happens to a backend.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultWire {
    /// When: a part of the measured duration, in percent, so that it stays right
    /// when the duration changes.
    pub(crate) at: PercentText,
    /// What happens.
    pub(crate) action: FaultActionWire,
    /// Which backend, from zero.
    pub(crate) backend: u32,
    /// How many times slower or faster than before; for `slow_down` and
    /// `speed_up`.
    #[schemars(range(min = bounds::SPEED_FACTOR.min, max = bounds::SPEED_FACTOR.max))]
    #[schemars(example = 5.0)]
    pub(crate) factor: Option<f64>,
}

/// What can happen to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultActionWire {
    /// It stands still (SIGSTOP): connections stay open, nothing is answered.
    Stop,
    /// It goes on (SIGCONT).
    Continue,
    /// It is gone at once (SIGKILL).
    Kill,
    /// It drains and ends (SIGTERM).
    Drain,
    /// It is started again, at its old address and as fast as at first; one that
    /// still drains is waited for.
    Start,
    /// It works `factor` times slower than before.
    SlowDown,
    /// It works `factor` times faster than before.
    SpeedUp,
    /// It joins: balancers are told of it, and have not known it until then.
    Add,
    /// Balancers are told that it is no longer one of the backends; it runs on.
    Remove,
}

/// When enough has been measured: repeats are added until figures are known this
/// well.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrecisionWire {
    /// Figures, by the names claims use, and how narrow the half of their 95 %
    /// interval has to be: `latency_p99 = "5%"`.
    #[schemars(example = json!({ "latency_p99": "5%" }))]
    pub(crate) within: BTreeMap<String, PercentText>,
    /// When to stop all the same, counted from the start of the run; `2m` unless
    /// given.
    pub(crate) budget: Option<DurationText>,
}

/// Which nodes each part is on, by their numbers from zero. What is not here is placed by
/// the number of nodes: from three on, the balancer is alone on the first, and half of the
/// others make load.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodesWire {
    /// Where balancers run, in turn.
    #[schemars(example = json!([0]))]
    pub(crate) balancers: Option<Vec<u32>>,
    /// Where backends run, in turn.
    #[schemars(example = json!([1, 2]))]
    pub(crate) backends: Option<Vec<u32>>,
    /// Where load is made.
    #[schemars(example = json!([3]))]
    pub(crate) generators: Option<Vec<u32>>,
}

/// Which CPUs each part runs on: `auto` (unless given), `none`, or lists.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlacementWire {
    /// `auto` gives the proxy a core of its own where there are two, and each
    /// part its own where there are more; `none` pins nothing. With lists of CPUs
    /// below, leave it out.
    pub(crate) mode: Option<PlacementMode>,
    /// CPUs of the generator.
    #[schemars(example = json!([0]))]
    pub(crate) generator: Option<Vec<u32>>,
    /// CPUs of the proxy.
    #[schemars(example = json!([1]))]
    pub(crate) proxy: Option<Vec<u32>>,
    /// CPUs of the backends, which share them.
    #[schemars(example = json!([2, 3]))]
    pub(crate) backends: Option<Vec<u32>>,
    /// The CPU time that the proxy may use, in cores: a control group holds it to that, so
    /// that it is the proxy that runs out, and not the load or the backends. Takes root.
    #[schemars(range(min = bounds::PROXY_QUOTA.min, max = bounds::PROXY_QUOTA.max), example = 0.1)]
    pub(crate) proxy_quota: Option<f64>,
}

/// How parts are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlacementMode {
    /// By the machine.
    Auto,
    /// Not at all.
    None,
}

/// Settings of a short run.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShortWire {
    /// Replaces `load.duration` and `load.calls`.
    pub(crate) duration: Option<DurationText>,
    /// Replaces `load.calls` and `load.duration`.
    #[schemars(range(min = bounds::CALLS.min, max = bounds::CALLS.max))]
    #[schemars(example = 2000)]
    pub(crate) calls: Option<u64>,
    /// Replaces `load.warm_up`.
    pub(crate) warm_up: Option<DurationText>,
    /// Replaces `load.rate`.
    pub(crate) rate: Option<RateText>,
    /// Replaces `run.repeats`.
    #[schemars(range(min = bounds::REPEATS.min, max = bounds::REPEATS.max))]
    pub(crate) repeats: Option<u32>,
    /// Replaces the values of `[sweep]`.
    pub(crate) sweep: Option<Vec<ValueWire>>,
    /// Replaces `load.search.resolution`.
    pub(crate) resolution: Option<PercentText>,
}

/// What must come out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectWire {
    /// Claims such as `l4.max_share == 100%` or
    /// `l7.latency_p99 < 0.2 * l4.latency_p99`; in a sweep of one point, as in
    /// `l4[connections=64].max_share < 30%`, or else of all.
    #[serde(default)]
    pub(crate) claims: Vec<String>,
}

/// A raw table, for settings that replace what a file says.
pub(crate) type Table = toml::Table;

/// Reads a table that settings were put into.
pub(crate) fn from_table(table: Table) -> Result<ScenarioWire, toml::de::Error> {
    table.try_into()
}

/// A value of `[short]`, and the key it replaces.
pub(crate) struct ShortValue {
    pub(crate) key: &'static str,
    pub(crate) target: &'static str,
    pub(crate) value: toml::Value,
}

impl ShortWire {
    /// What is set.
    pub(crate) fn values(&self) -> Vec<ShortValue> {
        fn entry<T: Serialize>(
            key: &'static str,
            target: &'static str,
            value: Option<&T>,
        ) -> Option<ShortValue> {
            let value = toml::Value::try_from(value?).ok()?;
            Some(ShortValue { key, target, value })
        }
        [
            entry("duration", "load.duration", self.duration.as_ref()),
            entry("calls", "load.calls", self.calls.as_ref()),
            entry("warm_up", "load.warm_up", self.warm_up.as_ref()),
            entry("rate", "load.rate", self.rate.as_ref()),
            entry("repeats", "run.repeats", self.repeats.as_ref()),
            entry("sweep", "sweep.values", self.sweep.as_ref()),
            entry("resolution", "load.search.resolution", self.resolution.as_ref()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
