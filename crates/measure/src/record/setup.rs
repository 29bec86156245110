//! What was set up: backends, the network, the load and the peers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One backend as the scenario set it up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendSetup {
    /// The id it puts into each response.
    pub id: String,
    /// Servers in its queue; zero for a backend that the lab did not start and
    /// knows by its answers alone.
    pub concurrency: u32,
    /// Service-time distribution, as written in the scenario.
    pub service_time: String,
    /// Mean service time in nanoseconds at speed 1; zero for `none`.
    pub service_mean_ns: f64,
    /// Speed factor: 0.2 is five times slower.
    pub speed: f64,
    /// Weight in policies that know weights.
    pub weight: u32,
    /// Its zone; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What traffic between client, balancer and backends crosses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// One loopback that all share: nothing to set up, and a balancer's second
    /// hop costs about nothing.
    #[default]
    Loopback,
    /// A network namespace each for the client, the balancer and every backend,
    /// joined by veth links, as the pods of a node are. Needs root, or a kernel
    /// that gives user namespaces to anyone.
    Namespaces,
}

impl Network {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Namespaces => "namespaces",
        }
    }
}

/// What load a trial offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSetup {
    /// Whether calls follow a schedule or each other.
    pub mode: LoopMode,
    /// Arrival process of an open loop (`poisson`, `constant`, ...).
    pub arrivals: Option<String>,
    /// Calls per second over all connections; open loop only.
    pub rate: Option<f64>,
    /// Think time between calls of one stream slot; closed loop only.
    pub think_time_ns: u64,
    /// Client connections.
    pub connections: u32,
    /// Most calls in flight per connection.
    pub streams: u32,
    /// The service that was called in place of the lab's echo service. Of what follows
    /// up to `response_bytes`, a trial of it has nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSetup>,
    /// Kind of call: `unary`, `server_stream`, `client_stream`, `bidi`.
    pub call: String,
    /// Messages per streaming call; 1 for unary.
    pub messages: u32,
    /// Payload of a request message in bytes; the mean, where they differ.
    pub request_bytes: u32,
    /// Payload of a response message in bytes; the mean, where they differ.
    pub response_bytes: u32,
    /// How sizes of requests are drawn (`lognormal:2KiB,sigma=1`), or the file that they
    /// are from (`file:calls.csv`); none where they are all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sizes: Option<String>,
    /// Likewise of responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_sizes: Option<String>,
    /// Policy the balancers were asked for.
    pub policy: String,
    /// How many balancers there were, and who came to which; one with one thread in records
    /// from before there was a choice.
    #[serde(default, skip_serializing_if = "FleetSetup::is_one")]
    pub fleet: FleetSetup,
    /// The gRPC client that made the calls (`tonic`, `wire`).
    pub client: String,
    /// Which side of the balancer spoke TLS; `none` in records from before there was a
    /// choice.
    #[serde(default)]
    pub tls: Tls,
    /// How the rate of an open loop changes over the measured window; none where it
    /// does not. [`LoadSetup::rate`] is the mean then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<RateProfile>,
}

/// The balancers of a peer that has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetSetup {
    /// How many shared the client connections.
    pub balancers: u32,
    /// Threads of each.
    pub threads: u32,
    /// How connections were spread over them: `round_robin`, `hash`.
    pub spread: String,
    /// To which backends each of them, or each client that balanced itself, was limited;
    /// none where to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetSetup>,
}

/// A limit on the backends that a balancer knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubsetSetup {
    /// To how many.
    pub size: u32,
    /// How these were chosen: `random`, `aperture`.
    pub subsetting: String,
}

impl Default for FleetSetup {
    fn default() -> Self {
        Self { balancers: 1, threads: 1, spread: "round_robin".to_owned(), subset: None }
    }
}

impl FleetSetup {
    /// Whether it is one balancer with one thread, which knows all backends.
    pub fn is_one(&self) -> bool {
        *self == Self::default()
    }
}

/// A service that is not the lab's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSetup {
    /// The methods called, each with how often, beside the others.
    pub methods: Vec<MethodSetup>,
    /// What tells the backend of an answer: `header x-served-by`, `tap before each
    /// backend`. None where nothing does: then which backend served a call is not known.
    pub identity: Option<String>,
}

/// A method that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MethodSetup {
    /// As the scenario names it: `shop.v1.Orders/Place`.
    pub method: String,
    /// How often, beside the others.
    pub weight: u32,
}

/// How the rate of an open loop changes over the measured window. Rates are calls per
/// second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RateProfile {
    /// Evenly from one rate to another.
    Ramp {
        /// The rate at the start.
        from: f64,
        /// The rate at the end.
        to: f64,
        /// The window's planned length in seconds.
        over_s: f64,
    },
    /// One rate after the other, each for an equal part.
    Steps {
        /// The rates.
        rates: Vec<f64>,
        /// The window's planned length in seconds.
        over_s: f64,
    },
    /// A rate for a while, nothing for a while, and again.
    Bursts {
        /// The rate while calls come.
        rate: f64,
        /// How long they come, in seconds.
        on_s: f64,
        /// How long none come, in seconds.
        off_s: f64,
    },
}

/// Which side of the balancer speaks TLS.
///
/// Where nothing terminates it in between, as without a balancer or through an L4 one,
/// client and backend speak it with each other: on both sides, or on none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// None: HTTP/2 in plain text (h2c).
    #[default]
    None,
    /// The clients' side: the balancer terminates it.
    Client,
    /// The backends' side: the balancer encrypts.
    Backend,
    /// Both: an L7 balancer terminates it and re-encrypts, an L4 balancer passes it
    /// through.
    Both,
}

impl Tls {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Both => "both",
        }
    }

    /// Whether clients speak it.
    pub fn of_clients(self) -> bool {
        matches!(self, Self::Client | Self::Both)
    }

    /// Whether backends speak it.
    pub fn of_backends(self) -> bool {
        matches!(self, Self::Backend | Self::Both)
    }
}

/// Open or closed loop. Their latencies answer different questions and never
/// share a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoopMode {
    /// Calls are sent on a schedule that does not wait for responses.
    Open,
    /// Each stream slot sends its next call when the last one ended.
    Closed,
}

/// Where in the stack a peer balances.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// No balancer: each connection goes to one backend in turn.
    None,
    /// Connections are balanced.
    L4,
    /// Calls are balanced by a proxy.
    L7,
    /// Calls are balanced by the client itself.
    Client,
    /// The lab did not start what stands there, and does not know what it balances.
    External,
}

/// How clients that balance by themselves learn which backends there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// They resolve a name, as gRPC does: when they start, and again once a connection
    /// was lost, sent away or could not be made.
    Dns,
    /// Somebody tells them of each change at once, as xDS or a lookaside balancer does.
    Lookaside,
}

/// One peer as it was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerSetup {
    /// Its name (`l4`, `envoy-l7`).
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Its layer.
    pub layer: Layer,
    /// How clients learn of backends where they balance; none at other layers, and in
    /// records from before there was a choice, in which they were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// Whether the kernel is the balancer: then the command only set it up, and
    /// no process shows what it costs.
    #[serde(default)]
    pub in_kernel: bool,
    /// What its version command printed; `None` for a peer without a process.
    pub version: Option<String>,
    /// The command line as run in the first trial; empty without a process.
    pub command: Vec<String>,
    /// Configuration files as rendered in the first trial, by file name.
    pub config_files: BTreeMap<String, String>,
}
