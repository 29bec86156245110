//! `[backends]` and `[[fault]]` as they are written.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    bounds,
    quantity::{DurationText, PercentText},
    service_time::ServiceTime,
};

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

/// What shows that a server is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// A call like those of the load succeeds.
    #[default]
    Call,
    /// `grpc.health.v1.Health/Check` says SERVING for the server as a whole.
    Health,
    /// It accepts a TCP connection.
    Tcp,
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
    /// It is stopped (SIGSTOP): connections stay open, nothing is answered.
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
