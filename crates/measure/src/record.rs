//! The run record: what a run folder holds, as types.
//!
//! Everything a report shows is read from these records, so that a report can
//! be made again from the folder alone, on another machine, years later. The
//! format carries a version ([`FORMAT_VERSION`]); `results/README.md` documents
//! it for people. Times are nanoseconds unless the name says otherwise.
//!
//! A run folder:
//!
//! ```text
//! scenario.toml            the scenario file as run, byte for byte
//! run.json                 RunRecord: what was asked, on what, which peers
//! predictions.json         Predictions, where the run was predicted before it was measured
//! trials/000-direct-r0.json  TrialRecord: one file a trial, in the order run
//! logs/                    what the processes of each trial wrote to stderr
//! report.html, charts/     made from the files above
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Answer,
    histogram::HistogramRecord,
    nodes::{Cluster, NodeTrial},
    prediction::Sealed,
    simulation::Simulation,
    warning::Warning,
};

/// Version of the record format. A reader refuses a version it doesn't know.
pub const FORMAT_VERSION: u32 = 1;

/// A run: all trials of one scenario, and what they have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// Name of the scenario: its file's stem.
    pub scenario: String,
    /// The question the scenario asks.
    pub question: String,
    /// The paragraph of what is learned, as the scenario's author wrote it.
    pub learned: Option<String>,
    /// What decides the question, and the sentences that answer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The answer in plain text, as the run's end found it; none while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// The scenario after defaults and command-line overrides, as JSON.
    pub resolved: serde_json::Value,
    /// Command-line overrides in force, as the user wrote them (`--duration 2s`).
    pub overrides: Vec<String>,
    /// Start of the run, RFC 3339 in UTC.
    pub started_utc: String,
    /// Wall time of the whole run in seconds; `None` while it is under way.
    pub elapsed_s: Option<f64>,
    /// Seed all chance of the run derives from.
    pub seed: u64,
    /// What the backends were.
    pub backends: Vec<BackendSetup>,
    /// What traffic crossed; `loopback` in records from before there was a choice.
    #[serde(default)]
    pub network: Network,
    /// Links that took time; those of the first point in a sweep over them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkSetup>,
    /// What load was offered.
    pub load: LoadSetup,
    /// The setting that differs between trials, where one does: swept by the
    /// scenario, or the rate of a search. [`RunRecord::load`] and
    /// [`RunRecord::backends`] are then those of the first point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepSetup>,
    /// What was searched for and what was found, in a scenario with
    /// `[load.search]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
    /// The peers compared, in the scenario's order.
    pub peers: Vec<PeerSetup>,
    /// The CPU time that a control group held each proxy to, in cores, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_quota: Option<f64>,
    /// Peers asked for and left out, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// The same load made by callers that wait, where the scenario asks for that
    /// lesson; a peer each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<Twin>,
    /// What a simulation of the scenario knew; none of what was measured. With it, no
    /// figure of the run was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<Simulation>,
    /// What was predicted of the run before its first trial, where something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Sealed>,
    /// The machine and the software; the coordinator's in a run on several nodes.
    pub environment: Environment,
    /// The nodes it was made on, where those are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// How the run ended.
    pub outcome: RunOutcome,
    /// How many trials were recorded, so that one that is missing is missed; `None`
    /// while the run is under way, and in records from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<u32>,
    /// What the scenario expected, and what came out.
    pub expectations: Vec<Expectation>,
    /// Doubts about the run as a whole; those of a trial stand in its record.
    pub warnings: Vec<Warning>,
}

/// The closed-loop twin of an open-loop trial. Its latency never stands beside
/// others but to show what it leaves out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Twin {
    /// Name of the peer.
    pub peer: String,
    /// Callers, of which each has one call out at a time.
    pub callers: u32,
    /// Pause of a caller between an answer and its next call, in seconds.
    pub think_time_s: f64,
    /// Counts of its calls.
    pub counts: Counts,
    /// Latency from the sending, which is what such a caller can see.
    pub latency: HistogramRecord,
}

impl RunRecord {
    /// The backends of a trial: those of its point, where points have their own.
    pub fn backends_of(&self, trial: &TrialRecord) -> &[BackendSetup] {
        let points = self.sweep.iter().flat_map(|sweep| &sweep.points);
        let mut of_trial = points.filter(|point| Some(&point.value) == trial.point.as_ref());
        of_trial.next().map_or(&self.backends, |point| &point.backends)
    }

    /// The record as it would stand had only one point been run: with the load and
    /// the backends of that point, and no sweep. The record itself where there is no
    /// such point.
    #[must_use]
    pub fn at_point(&self, value: &str) -> Self {
        let sweep = self.sweep.as_ref();
        let found = sweep.and_then(|sweep| sweep.points.iter().find(|point| point.value == value));
        let Some(point) = found else { return self.clone() };
        Self {
            load: point.load.clone(),
            backends: point.backends.clone(),
            sweep: None,
            search: None,
            ..self.clone()
        }
    }
}

/// A setting that differs between trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepSetup {
    /// Its key: `load.connections`.
    pub key: String,
    /// The values it took: in the scenario's order, or the rates of a search from
    /// low to high.
    pub points: Vec<PointSetup>,
}

impl SweepSetup {
    /// The key's last part, by which claims name points: `connections`.
    pub fn short_key(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(&self.key)
    }
}

/// One value of a setting that differs between trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PointSetup {
    /// The value as written; [`TrialRecord::point`] of its trials.
    pub value: String,
    /// The value as a number where it is one: bytes, nanoseconds, calls per second,
    /// fractions, or plain.
    pub number: Option<f64>,
    /// What load its trials offer.
    pub load: LoadSetup,
    /// What the backends are in its trials.
    pub backends: Vec<BackendSetup>,
}

/// A search for the highest rate at which an objective holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchRecord {
    /// What had to hold, all of it, as the scenario says it.
    pub slo: Vec<String>,
    /// How near to each other, as a fraction, the highest rate that holds and the
    /// lowest that doesn't were to come.
    pub resolution: f64,
    /// What was found, for each peer and repeat.
    pub results: Vec<SearchResult>,
}

/// What a search of one peer in one repeat found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchResult {
    /// Name of the peer.
    pub peer: String,
    /// Repeat, from zero.
    pub repeat: u32,
    /// The highest rate at which the objective held, in calls per second; none
    /// where it held at no rate that was tried.
    pub held: Option<f64>,
    /// The lowest rate at which it did not; none where it held at all.
    pub failed: Option<f64>,
    /// What ended the search.
    pub limit: SearchLimit,
}

/// What ended a search, as far as the lab can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchLimit {
    /// The objective broke, and nothing but the peer and the backends behind it
    /// is known to have broken it.
    Peer,
    /// It broke while the generator was late by itself: the peer may do better.
    Generator,
    /// It broke while all CPUs together were busy: the peer may do better on a
    /// larger machine.
    Machine,
    /// It held at the highest rate a search tries.
    Ceiling,
    /// It broke at the lowest rate a search tries.
    Floor,
    /// Time was up, or a trial failed, before the edge was found.
    Unfinished,
}

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

/// A link between two parts of the lab that was not as fast as the machine: what it did to
/// packets in each direction, in the words of netem (tc-netem(8)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkSetup {
    /// Its two ends: `client`, `balancer`, `backends`, or a backend's id.
    pub between: [String; 2],
    /// How long a packet was under way, one way.
    pub delay_ns: u64,
    /// How much less or more than that, evenly distributed.
    pub jitter_ns: u64,
    /// The part of the packets that was lost, from 0 to 1.
    pub loss: f64,
    /// Bits per second, of IP packets; as many as could be where there is none.
    pub rate_bits: Option<u64>,
    /// Packets held at a time; more were dropped.
    pub limit: u32,
    /// Whether jitter let packets overtake each other.
    pub reorder: bool,
}

/// What made links take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkEngine {
    /// The kernel, on veth links.
    Netem,
    /// A process of the lab, between TUN devices.
    Relay,
}

/// The links of a trial: what came out of what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinksRecord {
    /// What made them take time.
    pub engine: LinkEngine,
    /// Each of them.
    pub links: Vec<LinkRecord>,
    /// How much later than due the relay passed packets on during the measured window: the
    /// median. None of netem, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_p50_ns: Option<u64>,
    /// Likewise, the 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_p99_ns: Option<u64>,
}

/// A link of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRecord {
    /// Its two ends: `client`, `balancer` or a backend's id.
    pub between: [String; 2],
    /// Pings through it before the trial.
    pub pings: u32,
    /// Of those, how many were answered.
    pub answered: u32,
    /// What a ping should take there and back, in the mean.
    pub asked_ns: u64,
    /// How much less or more it may take for the jitter of both ways.
    pub jitter_ns: u64,
    /// What they took: the median. Zero where none was answered.
    pub ping_p50_ns: u64,
    /// Likewise, the 99th percentile.
    pub ping_p99_ns: u64,
    /// Packets in both directions during the measured window, where the relay counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Of those, lost by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Of those, dropped because the link held as many as it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
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

/// A peer that was asked for and did not run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Its name.
    pub peer: String,
    /// Why, and how to get it.
    pub reason: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Still under way, or its process was killed.
    Running,
    /// Every trial was run.
    Complete,
    /// Stopped by the user; the trials measured before stand.
    Interrupted,
}

/// One claim of the scenario's `[expect]`, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// The claim as written.
    pub claim: String,
    /// Whether it held, failed, or could not be judged.
    pub verdict: Verdict,
    /// The figures it was judged by, in words.
    pub detail: String,
}

/// The verdict on one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It held.
    Held,
    /// It failed.
    Failed,
    /// A figure it needs is missing: never counted as held.
    NotJudged,
}

/// The machine and the software a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Kernel name and release.
    pub kernel: String,
    /// CPU model, as the kernel names it.
    pub cpu_model: String,
    /// Logical CPUs available to the lab.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Frequency governor, where there is one.
    pub governor: Option<String>,
    /// Load average over one minute, at the start.
    pub load_average_1m: f64,
    /// Which CPUs each part was pinned to; empty when nothing was.
    pub placement: BTreeMap<String, Vec<u32>>,
    /// Version of layerlab.
    pub layerlab_version: String,
    /// Git revision of the checkout, with `-dirty` when it had changes.
    pub git_revision: Option<String>,
    /// Cargo profile layerlab was built with, and its optimisation level.
    pub build_profile: String,
    /// Version of the Rust compiler.
    pub rustc: String,
    /// Limit on open descriptors in force.
    pub open_files_limit: u64,
}

/// One trial: one peer under one load for one duration, after a warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrialRecord {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// Name of the peer.
    pub peer: String,
    /// The point of the sweep or search it belongs to ([`PointSetup::value`]);
    /// none in a run of one setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// Repeat, from zero.
    pub repeat: u32,
    /// Position in the run, from zero.
    pub order: u32,
    /// Start of the trial, RFC 3339 in UTC.
    pub started_utc: String,
    /// How it ended. A failed trial is a record too.
    pub outcome: TrialOutcome,
    /// Length of the warm-up in seconds; its calls are in no figure.
    pub warm_up_s: f64,
    /// Length of the measured window in seconds: from the first scheduled call
    /// to the window's end.
    pub measured_s: f64,
    /// Seconds after the warm-up that were not steady yet: cut off the measured
    /// window, though CPU time was read over them too.
    #[serde(default)]
    pub cut_s: f64,
    /// Payload a call moves in both directions together, in bytes; zero in records
    /// of before it was kept.
    #[serde(default)]
    pub payload_bytes: u64,
    /// Counts of the calls scheduled in the measured window.
    pub counts: Counts,
    /// Latency of calls that succeeded: from the scheduled time in an
    /// open loop, from the sending in a closed one.
    pub latency: HistogramRecord,
    /// The same calls from the moment they were sent.
    pub latency_sent: HistogramRecord,
    /// The same calls as the network saw them: from when the last byte of the request was
    /// handed to the kernel to when the kernel took in the segment that completed the
    /// response. Without calls where client or kernel don't tell, and in records from
    /// before it was known.
    #[serde(default)]
    pub latency_wire: HistogramRecord,
    /// How long responses lay with the kernel before the generator had taken them, over
    /// the same calls.
    #[serde(default)]
    pub receipt_delay: HistogramRecord,
    /// How late the generator itself sent calls (sent minus due). Waiting for a
    /// free stream slot is the load's doing and is not counted here.
    pub lateness: HistogramRecord,
    /// Time queued in the backend, as it reported. Servers other than the lab's report none;
    /// the taps before them know it where it was said how many calls a server works on.
    pub queued: HistogramRecord,
    /// Service time in the backend, as it reported; of servers behind taps that don't know
    /// the time queued, what the taps saw a call take there, in a queue or not.
    pub service: HistogramRecord,
    /// Both together, call by call: what theory knows as the sojourn time.
    #[serde(default)]
    pub in_backend: HistogramRecord,
    /// What a call spent outside of the backend, call by call: from when it could be sent
    /// to its end, without what the backend reported. In generator, network and proxy; it
    /// is what a simulation takes for the way.
    #[serde(default)]
    pub overhead: HistogramRecord,
    /// Per backend, in the order of [`RunRecord::backends`]; a backend that
    /// served no call is listed with zero.
    pub backends: Vec<BackendRecord>,
    /// Per balancer, where several shared the connections; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub balancers: Vec<BalancerRecord>,
    /// Per zone that clients are in; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneRecord>,
    /// Second by second, from the start of the measured window.
    pub series: Vec<SecondRecord>,
    /// Tenth by tenth of a second, from the start of the measured window to its end, where
    /// something was done to backends: a balance that is back sooner than a second shows in
    /// nothing coarser. Empty without faults, and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenths: Vec<TenthRecord>,
    /// What was done to backends, in order of time; empty in most scenarios.
    #[serde(default)]
    pub faults: Vec<FaultRecord>,
    /// What each process spent during the measured window.
    pub processes: Vec<ProcessCost>,
    /// What the whole machine spent during the measured window; all machines together in a
    /// run on several nodes.
    pub machine: MachineCost,
    /// What each node did, in a run on several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeTrial>,
    /// What was taken from the machine as the trial ran; none in records from before it was
    /// looked at, and in simulated ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<Disturbance>,
    /// What came out of links that take time, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<LinksRecord>,
    /// Doubts about this trial.
    pub warnings: Vec<Warning>,
}

/// What was taken from the machine during the measured window, looked at about every 10 ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disturbance {
    /// How often it was looked at.
    pub samples: u32,
    /// Of those, how often more than a quarter of the machine's CPU time had gone elsewhere.
    pub disturbed: u32,
    /// What the hypervisor gave to other guests.
    pub steal_ns: u64,
    /// How long the lab was stopped by a CPU quota.
    pub throttled_ns: u64,
    /// What was spent by others than the lab's processes; zero where the kernel counts the
    /// machine's CPU time in ticks only, and where not all of the processes are the lab's.
    pub neighbours_ns: u64,
    /// Whether the trial was measured again, so that it is in no figure.
    #[serde(default)]
    pub is_replaced: bool,
}

/// The part of the machine's CPU time from which on a sample counts as disturbed: half a
/// core of two.
const DISTURBED_SAMPLE: f64 = 0.25;
/// The part of a trial's samples from which on it counts as disturbed. A tenth is what
/// already makes the whole of a p99.
const DISTURBED_TRIAL: f64 = 0.10;

impl Disturbance {
    /// Adds a look: of `all_ns` of CPU time since the last one, what went elsewhere.
    pub fn add(&mut self, all_ns: u64, steal_ns: u64, throttled_ns: u64, neighbours_ns: u64) {
        let taken_ns = (steal_ns + throttled_ns + neighbours_ns) as f64;
        self.samples += 1;
        self.disturbed += u32::from(taken_ns > DISTURBED_SAMPLE * all_ns as f64);
        self.steal_ns += steal_ns;
        self.throttled_ns += throttled_ns;
        self.neighbours_ns += neighbours_ns;
    }

    /// The part of the samples that was disturbed.
    pub fn share(&self) -> f64 {
        f64::from(self.disturbed) / f64::from(self.samples.max(1))
    }

    /// Whether so much was taken that the trial should be measured again.
    pub fn is_beyond_bound(&self) -> bool {
        self.share() > DISTURBED_TRIAL
    }
}

impl TrialRecord {
    /// Whether it was disturbed and measured again, so that it is in no figure.
    pub fn is_replaced(&self) -> bool {
        self.disturbance.as_ref().is_some_and(|disturbance| disturbance.is_replaced)
    }

    /// Every histogram in it, with its name.
    pub fn histograms(&self) -> impl Iterator<Item = (String, &HistogramRecord)> {
        let own = [
            ("latency", &self.latency),
            ("latency_sent", &self.latency_sent),
            ("latency_wire", &self.latency_wire),
            ("receipt_delay", &self.receipt_delay),
            ("lateness", &self.lateness),
            ("queued", &self.queued),
            ("service", &self.service),
            ("in_backend", &self.in_backend),
            ("overhead", &self.overhead),
        ];
        let own = own.into_iter().map(|(name, histogram)| (name.to_owned(), histogram));
        let backends = self.backends.iter();
        let backends = backends.map(|one| (format!("latency of backend {}", one.id), &one.latency));
        let balancers = self.balancers.iter();
        let balancers =
            balancers.map(|one| (format!("latency of balancer {}", one.id), &one.latency));
        let series = self.series.iter();
        let series = series.map(|one| (format!("latency of second {}", one.second), &one.latency));
        let services = self.backends.iter().filter_map(|one| {
            Some((format!("service of backend {}", one.id), one.service.as_ref()?))
        });
        own.chain(backends).chain(services).chain(balancers).chain(series)
    }
}

/// Something that was done to a backend while the load ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultRecord {
    /// What: `stop`, `continue`, `kill`, `drain` or `start`.
    pub action: String,
    /// The backend's id.
    pub backend: String,
    /// When it was planned for, in seconds from the start of the measured window.
    pub planned_s: f64,
    /// When it was done, likewise.
    pub done_s: f64,
    /// Whether the lab saw its effect: the process stopped, went on, ended, or
    /// accepted connections again.
    pub seen: bool,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TrialOutcome {
    /// It ran its whole length.
    Complete,
    /// The user stopped it. What was measured until then is kept, and is in no figure.
    Interrupted,
    /// It could not be run or did not end well.
    Failed {
        /// Whose side failed.
        side: Side,
        /// What happened, and what to do.
        message: String,
    },
}

/// Whose side a failure is on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client: it gave up, or could not send.
    Client,
    /// The proxy answered in place of a backend, or broke the connection.
    Proxy,
    /// A backend answered with an error, or wrongly.
    Backend,
    /// The lab itself.
    Lab,
}

/// Counts of a trial's calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Calls the schedule asked for in the measured window.
    pub scheduled: u64,
    /// Of those, calls that were sent.
    pub sent: u64,
    /// Of those, calls answered with status OK and the right payload.
    pub ok: u64,
    /// Of those, calls that failed, by what went wrong.
    pub failed: Vec<FailureCount>,
    /// Of those, calls still without an answer when the trial's grace ended.
    pub unfinished: u64,
    /// Calls that succeeded during the measured window and what was cut off it
    /// (`cut_s`), whenever they were scheduled: what the window's CPU time was spent on, and its throughput.
    pub completed_in_window: u64,
}

/// How many calls failed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureCount {
    /// The side at fault, as far as the client can tell.
    pub side: Side,
    /// What went wrong: a gRPC status (`UNAVAILABLE`), or `wrong payload`,
    /// `unknown backend`, `connection lost`, `no local port`, `no descriptor`.
    pub what: String,
    /// How many.
    pub calls: u64,
}

/// One backend in one trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendRecord {
    /// Its id.
    pub id: String,
    /// Its weight in policies that know weights, as in [`BackendSetup::weight`]; 1 in
    /// records of before it was kept, to which reading a run adds it.
    #[serde(default = "one")]
    pub weight: u32,
    /// Calls it served in the measured window, as the responses say.
    pub calls: u64,
    /// Calls it served from the first of the trial to its last, warm-up included. A window
    /// cuts the calls by the time at which they are due, which is not the order in which a
    /// balancer gets them; these are all that it spread. `None` in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_with_warm_up: Option<u64>,
    /// Latency of those in the window, as in [`TrialRecord::latency`].
    pub latency: HistogramRecord,
    /// Service times of those calls, as in [`TrialRecord::service`]. Of servers of the user's
    /// own, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<HistogramRecord>,
}

fn one() -> u32 {
    1
}

/// One balancer of several in one trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BalancerRecord {
    /// Its name; that of its process ([`ProcessCost::name`]), which has its cost.
    pub id: String,
    /// Calls of its connections that failed.
    pub failed: u64,
    /// Calls of its connections that succeeded, by the backend that served them, in the
    /// order of [`RunRecord::backends`].
    pub per_backend: Vec<u64>,
    /// Latency of those calls, as in [`TrialRecord::latency`].
    pub latency: HistogramRecord,
}

/// The clients of one zone in one trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ZoneRecord {
    /// The zone.
    pub id: String,
    /// Calls of its clients that failed.
    pub failed: u64,
    /// Calls of its clients that succeeded, by the backend that served them, in the order of
    /// [`RunRecord::backends`].
    pub per_backend: Vec<u64>,
    /// Of these, calls that a backend of another zone served.
    pub crossed: u64,
    /// Latency of the calls that succeeded, as in [`TrialRecord::latency`].
    pub latency: HistogramRecord,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One second of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecondRecord {
    /// Seconds since the start of the measured window. Calls are counted in
    /// the second they ended in, so seconds after the window may appear.
    pub second: u32,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Of those that succeeded, calls that ended after the measured window; not
    /// known (zero) in records of before it was counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ok_after: u64,
    /// Of those that failed, likewise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_after: u64,
    /// Calls per backend, in the order of [`RunRecord::backends`].
    pub per_backend: Vec<u64>,
    /// Latency of the calls that succeeded.
    pub latency: HistogramRecord,
}

/// The calls that ended in one tenth of a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenthRecord {
    /// Calls that succeeded per backend, in the order of [`RunRecord::backends`].
    pub per_backend: Vec<u64>,
    /// Calls that failed.
    pub failed: u64,
}

/// What a process is in a trial.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProcessRole {
    /// The load generator.
    Generator,
    /// The peer's proxy, its whole process tree.
    Proxy,
    /// A backend.
    Backend,
    /// The relay that the lab puts before a server of the user's own, to tell from
    /// which one an answer comes.
    Tap,
    /// The relay of links that take time.
    Links,
}

/// What one process spent during the measured window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessCost {
    /// What it is.
    pub role: ProcessRole,
    /// Its name (`b0`, `l7`, `generator`).
    pub name: String,
    /// CPU time in user mode.
    pub user_ns: u64,
    /// CPU time in the kernel on its behalf.
    pub system_ns: u64,
    /// Times it gave the CPU up to wait.
    pub voluntary_switches: u64,
    /// Times the kernel took the CPU away.
    pub involuntary_switches: u64,
    /// Nanoseconds in which its threads were ready to run and had no CPU. Zero in
    /// records from before it was read.
    #[serde(default)]
    pub waited_ns: u64,
    /// Resident memory at the window's end, in bytes.
    pub rss_bytes: u64,
    /// Largest resident memory so far, in bytes.
    pub rss_peak_bytes: u64,
}

/// What the whole machine spent during the measured window, over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineCost {
    /// User mode, niced included.
    pub user_ns: u64,
    /// Kernel mode, interrupts included.
    pub system_ns: u64,
    /// Idle, waiting for I/O included.
    pub idle_ns: u64,
    /// Taken by the hypervisor for other guests.
    pub steal_ns: u64,
    /// Time the lab's control group had to pause because its CPU quota was used up;
    /// summed over CPUs. Zero without a quota.
    #[serde(default)]
    pub throttled_ns: u64,
    /// Where the sum of user and kernel mode comes from; its split is always by ticks.
    #[serde(default)]
    pub busy_source: BusySource,
}

/// How the kernel tells the CPU time of a whole machine, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BusySource {
    /// `/proc/schedstat`: nanoseconds that tasks ran, per CPU.
    Schedstat,
    /// `cpuacct.usage` of the root control group (cgroup v1): nanoseconds.
    Cpuacct,
    /// `/proc/stat`: sampled at each tick, which misses work in pieces shorter than
    /// one and is 10 to 40 % low where calls are small.
    #[default]
    Ticks,
}
