//! A scenario that was checked: types that can't be wrong.
//!
//! Every value is within its bounds, alternatives are decided, defaults are
//! filled in. The generator and the lab work from these types alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use balance::PolicyKind;
pub use measure::record::{Network, Tls};
use measure::{answer::Answer, figure::Figure};
use serde::{Serialize, Serializer};

use crate::{
    channel::{Channel, StreamLimits},
    claim::Claim,
    command::{ServerText, Servers},
    fault,
    fleet::Fleet,
    link::Links,
    quantity::duration_as_text,
    search::Search,
    service::Service,
    service_time::ServiceTime,
    settings::ProxySettings,
    sizes::Sizes,
    sweep::Sweep,
    trace::Trace,
    zones::Zones,
};

/// One question, and what to measure to answer it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name: the file's stem.
    pub name: String,
    /// The question, in one sentence.
    pub question: String,
    /// What a reader takes home from the answer.
    pub learned: Option<String>,
    /// What decides the question, and the sentences that answer it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What traffic crosses.
    pub network: Network,
    /// Links that take time.
    #[serde(skip_serializing_if = "Links::is_empty")]
    pub links: Links,
    /// Which side of the balancer speaks TLS.
    pub tls: Tls,
    /// The backends behind every peer; never empty.
    pub backends: Vec<Backend>,
    /// Whose servers they are.
    pub servers: Servers,
    /// When backends close connections for their age; `None` for never.
    pub connection_age: Option<ConnectionAge>,
    /// How many calls a connection may carry, where that is limited.
    pub stream_limits: StreamLimits,
    /// How clients keep connections and learn of backends.
    pub channel: Channel,
    /// The user's own service; `None` for the lab's echo service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The calls that are made.
    pub load: Load,
    /// What happens to backends while the load runs, in order of time.
    pub faults: Vec<Fault>,
    /// Which CPUs each part runs on.
    pub placement: Placement,
    /// Which nodes each part is on, in a run on several.
    #[serde(skip_serializing_if = "NodeRoles::is_unset")]
    pub nodes: NodeRoles,
    /// The CPU time that the balancer may use, in cores; `None` for what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_quota: Option<f64>,
    /// How balancers pick.
    pub policy: PolicyKind,
    /// How many balancers there are.
    pub fleet: Fleet,
    /// Zones of backends, clients and balancers; `None` where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Zones>,
    /// Settings that peers are listed with, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, ProxySettings>,
    /// Names of the peers compared, in order; never empty, no name twice.
    pub peers: Vec<String>,
    /// Trials of each peer; at least one.
    pub repeats: u32,
    /// Most trials that are measured again because they were disturbed; `None` for a
    /// quarter of those planned.
    pub max_disturbed: Option<u32>,
    /// When to go on repeating after that; `None` for not at all.
    pub precision: Option<Precision>,
    /// Seed of all chance in the run.
    pub seed: u64,
    /// What must come out.
    pub claims: Vec<Claim>,
    /// The setting that is swept; the rest of the scenario is then that of the
    /// sweep's first point.
    pub sweep: Option<Sweep>,
}

/// How well figures have to be known before the repeats end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Precision {
    /// Figures, each with the half width of its interval as a fraction of it.
    pub within: Vec<(Figure, f64)>,
    /// When to stop all the same, counted from the start of the run.
    #[serde(serialize_with = "duration_as_text")]
    pub budget: Duration,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    /// Its id: `b0`, `b1`, ...; it stands in every response.
    pub id: String,
    /// Servers in its queue: calls it works on at once. `None` for a server of the user's
    /// own of which that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long a server works on a call, at speed 1.
    pub service_time: ServiceTime,
    /// Speed factor: 0.2 serves five times slower.
    pub speed: f64,
    /// Weight in policies that know weights.
    pub weight: u32,
    /// The part of its calls that fail at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: f64,
    /// Additions to its environment, where it is a server of the user's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, ServerText>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(part: &f64) -> bool {
    *part == 0.0
}

impl Backend {
    /// The most calls per second it can serve; `None` when its service takes
    /// no time.
    pub fn capacity(&self) -> Option<f64> {
        let mean_s = self.service_time.mean_ns() / 1e9;
        let servers = self.concurrency.filter(|_| mean_s > 0.0)?;
        Some(f64::from(servers) * self.speed / mean_s)
    }
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

/// The load: identical for every peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// What makes calls due.
    pub pace: Pace,
    /// Client connections.
    pub connections: u32,
    /// Most calls in flight per connection.
    pub streams: u32,
    /// Connections that carry more than the others; `None` when all are alike.
    pub skew: Option<Skew>,
    /// Calls after which a connection is closed and another made; `None` for
    /// connections that live as long as the trial.
    pub connection_calls: Option<u32>,
    /// How long the measured part of a trial is.
    pub length: Length,
    /// How long the load runs before it is measured.
    #[serde(serialize_with = "duration_as_text")]
    pub warm_up: Duration,
    /// The gRPC client that makes the calls.
    pub client: Client,
    /// How the generator waits for the next call to be due.
    pub pacer: Pacer,
    /// Whether each peer's load is made once more in a closed loop.
    pub closed_twin: bool,
    /// Kind of call.
    pub call: CallKind,
    /// Messages in each direction that streams; 1 for unary calls.
    pub messages: u32,
    /// How long a call of the echo service may take; `None` for as long as it likes.
    #[serde(serialize_with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Payload of a request message.
    pub request_bytes: Sizes,
    /// Payload of a response message.
    pub response_bytes: Sizes,
    /// The search over rates, if there is one.
    pub search: Option<Search>,
}

fn optional_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&units::duration::format(*duration)),
        None => serializer.serialize_none(),
    }
}

impl Load {
    /// Payload that a call moves in both directions together, in bytes; the mean, where
    /// calls differ.
    pub fn payload_bytes(&self) -> u64 {
        let messages = u64::from(self.messages);
        let mean = |sizes: &Sizes| u64::from(sizes.mean_bytes());
        let (request, response) = (mean(&self.request_bytes), mean(&self.response_bytes));
        match self.call {
            CallKind::Unary => request + response,
            CallKind::ServerStream => request + messages * response,
            CallKind::ClientStream => messages * request + response,
            CallKind::Bidi => messages * (request + response),
        }
    }
}

/// Connections that are not alike: few carry much, and many little.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Skew {
    /// How many connections are heavy: the first ones. At least one, and at least
    /// one is not.
    pub heavy: u32,
    /// The part of all calls that the heavy ones carry together, between 0 and 1.
    pub share: f64,
}

/// What makes calls due.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Pace {
    /// A schedule that does not wait for responses.
    Open {
        /// The arrival process, with its rate over all connections.
        arrivals: Arrivals,
        /// How that rate changes.
        profile: Profile,
    },
    /// The end of the call before on the same stream.
    Closed {
        /// Pause between the end of a call and the next one on its stream.
        #[serde(serialize_with = "duration_as_text")]
        think_time: Duration,
    },
}

/// The arrival process of an open loop. Rates are calls per second over all
/// connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "process")]
pub enum Arrivals {
    /// Calls at equal distances.
    Constant {
        /// Calls per second.
        rate: f64,
    },
    /// Calls independent of each other: exponential gaps.
    Poisson {
        /// Calls per second, on average.
        rate: f64,
    },
    /// Calls as they were recorded.
    Trace {
        /// The record.
        trace: Trace,
        /// How many times as fast.
        speed: f64,
    },
}

impl Arrivals {
    /// Its name in scenario files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "constant",
            Self::Poisson { .. } => "poisson",
            Self::Trace { .. } => "trace",
        }
    }

    /// What is replayed, and how many times as fast.
    pub fn trace(&self) -> Option<(&Trace, f64)> {
        match self {
            Self::Trace { trace, speed } => Some((trace, *speed)),
            Self::Constant { .. } | Self::Poisson { .. } => None,
        }
    }

    /// Calls per second before any profile; of a trace, on average.
    pub fn rate(&self) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => *rate,
            Self::Trace { trace, speed } => trace.calls().len() as f64 / trace.length_s() * speed,
        }
    }
}

impl Pace {
    /// Calls per second, averaged over the measured part; `None` for a closed
    /// loop.
    pub fn mean_rate(&self) -> Option<f64> {
        match self {
            Self::Open { arrivals, profile } => Some(arrivals.rate() * profile.mean_factor()),
            Self::Closed { .. } => None,
        }
    }
}

/// How the rate of an open loop changes over the measured part. Rates are
/// multiples of the arrival process's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Profile {
    /// Not at all.
    Flat,
    /// Evenly from 1 to this.
    Ramp {
        /// The factor at the end.
        to: f64,
    },
    /// One factor after the other, each for an equal part.
    Steps {
        /// The factors; the first is 1.
        factors: Vec<f64>,
    },
    /// 1 for a while, 0 for a while, and again.
    Bursts {
        /// How long calls come.
        #[serde(serialize_with = "duration_as_text")]
        on: Duration,
        /// How long none come.
        #[serde(serialize_with = "duration_as_text")]
        off: Duration,
    },
}

impl Profile {
    /// The average factor; of bursts, over many of them.
    pub fn mean_factor(&self) -> f64 {
        match self {
            Self::Flat => 1.0,
            Self::Ramp { to } => f64::midpoint(1.0, *to),
            Self::Steps { factors } => factors.iter().sum::<f64>() / factors.len() as f64,
            Self::Bursts { on, off } => on.as_secs_f64() / (*on + *off).as_secs_f64(),
        }
    }

    /// Its name in scenario files, `flat` for none.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Ramp { .. } => "ramp",
            Self::Steps { .. } => "steps",
            Self::Bursts { .. } => "bursts",
        }
    }
}

/// Something that happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// When, as a fraction of the measured part.
    pub at: f64,
    /// What happens.
    pub action: FaultAction,
    /// Index of the backend.
    pub backend: u32,
}

/// What can happen to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// It stands still (SIGSTOP): connections stay open, nothing is answered.
    Stop,
    /// It goes on (SIGCONT).
    Continue,
    /// It is gone at once (SIGKILL).
    Kill,
    /// It drains and ends (SIGTERM).
    Drain,
    /// It is started again, at its old address and as fast as at first.
    Start,
    /// It works so many times slower than before.
    SlowDown {
        /// How many times; at least 1.
        factor: f64,
    },
    /// It works so many times faster than before.
    SpeedUp {
        /// How many times; at least 1.
        factor: f64,
    },
    /// It joins: the balancer is told of it. Until then it stands by.
    Add,
    /// The balancer is told that it is no longer one of the backends. It goes on
    /// running.
    Remove,
}

impl FaultAction {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Kill => "kill",
            Self::Drain => "drain",
            Self::Start => "start",
            Self::SlowDown { .. } => "slow_down",
            Self::SpeedUp { .. } => "speed_up",
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }

    /// Whether it changes which backends there are to choose from.
    pub fn is_membership(self) -> bool {
        matches!(self, Self::Add | Self::Remove)
    }
}

/// Which nodes each part is on, by their numbers from zero; what names none is wherever
/// it usually is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeRoles {
    /// Where balancers run, in turn.
    pub balancers: Vec<u32>,
    /// Where backends run, in turn.
    pub backends: Vec<u32>,
    /// Where load is made.
    pub generators: Vec<u32>,
}

impl NodeRoles {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// Which CPUs each part runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// As the machine suggests.
    Auto,
    /// Wherever the kernel likes.
    None,
    /// On these; an empty list is any.
    Cpus {
        /// CPUs of the generator.
        generator: Vec<u32>,
        /// CPUs of the proxy.
        proxy: Vec<u32>,
        /// CPUs of the backends.
        backends: Vec<u32>,
    },
}

/// How long the measured part of a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// As long as this.
    Duration(#[serde(serialize_with = "duration_as_text")] Duration),
    /// As long as this many calls take.
    Calls(u64),
}

/// How the generator waits for the next call to be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacer {
    /// As the placement suggests: awake where the generator has cores of its own,
    /// asleep where it would take them from those who are measured.
    Auto,
    /// Asleep until then.
    Timer,
    /// Asleep until shortly before, then awake.
    Spin,
}

/// The gRPC client that makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// layerlab's own.
    Wire,
    /// tonic, a channel to each address.
    Tonic,
    /// tonic as a service uses it: by a channel to a name.
    #[serde(rename = "tonic-channel")]
    TonicChannel,
    /// gRPC for Python, on gRPC's C core.
    #[serde(rename = "grpcio")]
    Grpcio,
    /// gRPC for Node.js.
    #[serde(rename = "grpc-js")]
    GrpcJs,
    /// gRPC for Go.
    #[serde(rename = "grpc-go")]
    GrpcGo,
}

impl Client {
    /// Its name in scenario files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Tonic => "tonic",
            Self::TonicChannel => "tonic-channel",
            Self::Grpcio => "grpcio",
            Self::GrpcJs => "grpc-js",
            Self::GrpcGo => "grpc-go",
        }
    }

    /// Whether its channels have one connection to an address, whatever limits that (no gRFC
    /// A105).
    pub fn has_one_connection(self) -> bool {
        !matches!(self, Self::Wire | Self::Grpcio)
    }

    /// Whether it is a program of its own, which `scenarios/clients/` describes.
    pub fn is_program(self) -> bool {
        matches!(self, Self::Grpcio | Self::GrpcJs | Self::GrpcGo | Self::TonicChannel)
    }
}

/// Kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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

impl Scenario {
    /// How long a trial is planned to take without its start and end; `None`
    /// when the backends decide that (a closed loop of a number of calls).
    pub fn trial_duration(&self) -> Option<Duration> {
        let measured = match (self.load.length, &self.load.pace) {
            (Length::Duration(duration), _) => duration,
            (Length::Calls(calls), Pace::Open { arrivals, .. }) => {
                Duration::from_secs_f64(calls as f64 / arrivals.rate())
            }
            (Length::Calls(_), Pace::Closed { .. }) => return None,
        };
        Some(self.load.warm_up + measured)
    }

    /// The scenario at another rate of its open loop; a closed loop has none to
    /// change.
    #[must_use]
    pub fn at_rate(&self, per_second: f64) -> Self {
        let mut scenario = self.clone();
        if let Pace::Open { arrivals, .. } = &mut scenario.load.pace {
            match arrivals {
                Arrivals::Constant { rate } | Arrivals::Poisson { rate } => *rate = per_second,
                // A search is refused a trace, and nothing else asks.
                Arrivals::Trace { .. } => {}
            }
        }
        scenario
    }

    /// How long the trials are planned to take together, without their starts and
    /// ends; `None` when the backends decide that.
    pub fn planned(&self) -> Option<Duration> {
        if let Some(search) = &self.load.search {
            return Some(search.budget);
        }
        let rounds =
            u32::try_from(self.peers.len()).unwrap_or(u32::MAX).saturating_mul(self.repeats);
        match &self.sweep {
            None => Some(self.trial_duration()?.saturating_mul(rounds)),
            Some(sweep) => sweep.points.iter().try_fold(Duration::ZERO, |sum, point| {
                let trial = point.scenario.trial_duration()?;
                Some(sum.saturating_add(trial.saturating_mul(rounds)))
            }),
        }
    }

    /// Which sides speak TLS: one answer, or one for each point of a sweep over that.
    pub fn all_tls(&self) -> Vec<Tls> {
        self.all_points().into_iter().map(|point| point.tls).collect()
    }

    /// Which backends balancers know from the start: all but those whose first
    /// change of membership is that they join.
    pub fn first_members(&self) -> Vec<bool> {
        fault::first_members(self.faults.iter(), self.backends.len())
    }

    /// What is run: the scenario itself, or one for each point of its sweep.
    pub fn all_points(&self) -> Vec<&Self> {
        match &self.sweep {
            None => vec![self],
            Some(sweep) => sweep.points.iter().map(|point| &*point.scenario).collect(),
        }
    }

    /// The files that its loads and its calls are read from, by their names in it: paths from
    /// the folder of the scenario's file. What describes a service is not among them.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for Self { load, service, .. } in self.all_points() {
            let sizes = [&load.request_bytes, &load.response_bytes].map(Sizes::file);
            let trace = match &load.pace {
                Pace::Open { arrivals, .. } => arrivals.trace().map(|(trace, _)| trace.file()),
                Pace::Closed { .. } => None,
            };
            files.extend(sizes.into_iter().flatten().chain(trace).map(PathBuf::from));
            let Some(service) = service else { continue };
            let requests = service.calls.iter().filter_map(|call| call.request.file());
            files.extend(requests.chain(service.data.as_deref()).map(PathBuf::from));
        }
        files
    }

    /// Whether the balancers have to be told of backends that come or go.
    pub fn changes_membership(&self) -> bool {
        self.faults.iter().any(|fault| fault.action.is_membership())
    }

    /// What the slowest backend rarely spends more than on a call: four times the mean,
    /// which of exponential times one in fifty exceeds. Over links that take time, with the
    /// round trips of a connection that is made for it: TCP, TLS, HTTP/2 and the call.
    pub fn slow_call(&self) -> Duration {
        let means = self.backends.iter().enumerate().map(|(index, backend)| {
            let (mut speed, mut slowest) = (backend.speed, backend.speed);
            for fault in self.faults.iter().filter(|fault| fault.backend as usize == index) {
                speed = fault.action.speed_after(speed, backend.speed);
                slowest = slowest.min(speed);
            }
            backend.service_time.mean_ns() / slowest
        });
        // Bounded far below what a duration holds: a minute at a thousandth of the speed.
        Duration::from_nanos((4.0 * means.fold(0.0, f64::max)) as u64)
            + 8 * self.links.longest_way()
    }

    /// The most calls per second all backends can serve together; `None` when
    /// service takes no time.
    pub fn capacity(&self) -> Option<f64> {
        self.backends.iter().map(Backend::capacity).sum()
    }
}
