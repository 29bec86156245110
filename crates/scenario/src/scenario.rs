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
use measure::{
    answer::Answer,
    record::{Network, Tls},
};
use serde::Serialize;

use crate::{
    backends::Backend,
    channel::{Channel, ConnectionAge, StreamLimits},
    claim::Claim,
    command::Servers,
    fault::{self, Fault},
    fleet::Fleet,
    link::Links,
    load::{Arrivals, Length, Load, Pace, Profile},
    placement::{NodeRoles, Placement},
    precision::Precision,
    service::Service,
    settings::ProxySettings,
    sizes::Sizes,
    sweep::{is_same, short_key},
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

/// A setting and the values it takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// The key: `load.connections`.
    pub key: String,
    /// Its values in the file's order; never empty, none twice.
    pub points: Vec<Point>,
}

/// One value of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The value as written: `64`, `16KiB`, `p2c`.
    pub value: String,
    /// The value as a number where it is one: bytes, nanoseconds, calls per
    /// second, fractions, or plain.
    pub number: Option<f64>,
    /// The scenario with that value in force.
    #[serde(skip)]
    pub scenario: Box<Scenario>,
}

impl Sweep {
    /// The key's last part, by which claims name points: `connections`.
    pub fn short_key(&self) -> &str {
        short_key(&self.key)
    }

    /// Whether a claim that names a point by this key means this sweep.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == self.key || name == self.short_key()
    }

    /// The point with a value, however it is written.
    pub fn point(&self, value: &str) -> Option<&Point> {
        self.points.iter().find(|point| is_same(&point.value, value))
    }
}

/// Keys of a load that may be swept while its calls are those of a trace.
const SWEPT_BESIDE: [&str; 3] = ["load.connections", "load.streams", "load.connection_calls"];

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

    /// Whether the lab puts a tap before each server: where nothing else tells from which of
    /// them an answer comes.
    pub fn has_taps(&self) -> bool {
        let is_untold = |service: &Service| service.identity.is_none();
        self.servers.are_own() && self.service.as_ref().is_some_and(is_untold)
    }

    /// The same scenario with the calls of a trace in place of its own: their times, from the
    /// first to the last, and their sizes where it has them.
    ///
    /// # Errors
    /// In a sentence, when the scenario sweeps or searches what the trace decides.
    pub fn replaying(&self, trace: &Trace) -> Result<Self, String> {
        let mut scenario = self.clone();
        if scenario.load.search.is_some() {
            return Err(format!(
                "scenario {} searches for the highest rate, and {} has its own; name one without \
                 [load.search]",
                self.name,
                trace.file()
            ));
        }
        if let Some(sweep) = &mut scenario.sweep {
            if sweep.key.starts_with("load.") && !SWEPT_BESIDE.contains(&sweep.key.as_str()) {
                return Err(format!(
                    "scenario {} sweeps {}, which {} decides; name one that does not",
                    self.name,
                    sweep.key,
                    trace.file()
                ));
            }
            for point in &mut sweep.points {
                *point.scenario = point.scenario.replaying(trace)?;
            }
        }
        let load = &mut scenario.load;
        let arrivals = Arrivals::Trace { trace: trace.clone(), speed: 1.0 };
        load.pace = Pace::Open { arrivals, profile: Profile::Flat };
        // To the last call, which is in it.
        let whole = Duration::from_secs_f64(trace.length_s()) + Duration::from_nanos(1);
        (load.length, load.warm_up, load.closed_twin) =
            (Length::Duration(whole), Duration::ZERO, false);
        let (requests, responses) =
            (load.request_bytes.mean_bytes(), load.response_bytes.mean_bytes());
        let listed = |bytes| Sizes::Listed { file: trace.file().to_owned(), bytes };
        if let Some(bytes) = trace.sizes(|call| call.request_bytes, requests) {
            load.request_bytes = listed(bytes);
        }
        if let Some(bytes) = trace.sizes(|call| call.response_bytes, responses) {
            load.response_bytes = listed(bytes);
        }
        Ok(scenario)
    }
}
