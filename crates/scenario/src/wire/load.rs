//! `[load]` as it is written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;

use crate::{
    bounds,
    client::Client,
    quantity::{DurationText, PercentText, RateText},
    sizes::Sizes,
};

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
    pub(crate) client: Option<Client>,
    /// How the generator waits for the next call to be due: asleep (`timer`), or
    /// awake for the last moment (`spin`), which is true to some microseconds and
    /// costs a share of its core. Unless given, `spin` where the generator has
    /// cores of its own. Open loop only.
    pub(crate) pacer: Option<PacerWire>,
    /// Whether the load is made once more, for each peer, by callers that wait for
    /// each answer: a closed loop, to show what it leaves out. Open loop only.
    pub(crate) closed_twin: Option<bool>,
    /// Kind of call; `unary` unless given.
    pub(crate) call: Option<CallKind>,
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

/// Kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CallWire")]
pub enum CallKind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many of both, each request answered in turn.
    Bidi,
}

impl CallKind {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::ClientStream => "client_stream",
            Self::Bidi => "bidi",
        }
    }
}
