//! A scenario file as it is written: what serde reads and the JSON Schema
//! describes. Nothing here is checked against anything else; the checked types
//! are in [`crate::scenario`].

mod backends;
mod load;
mod network;
mod service;

use std::collections::BTreeMap;

use measure::{
    answer::Answer,
    record::{Network, Tls},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::{backends::Ready, load::CallKind};
pub(crate) use self::{
    backends::{BackendOverrideWire, BackendsWire, FaultActionWire, FaultWire},
    load::{ArrivalsWire, LoadWire, LoopWire, PacerWire, ProfileWire, SearchWire, SkewWire},
    network::{BalanceWire, ChannelWire, LinkWire, ZonesWire},
    service::{ExpectedWire, FieldValueWire, IdentityWire, ServiceCallWire, ServiceWire},
};
use crate::{
    bounds,
    quantity::{DurationText, PercentText, RateText},
    settings::ProxySettingsWire,
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
