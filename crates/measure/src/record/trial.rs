//! A trial: one peer under one load, and what was measured of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{BackendSetup, PointSetup, RunRecord};
use super::{FORMAT_VERSION, links::LinksRecord};
use crate::{
    histogram::HistogramRecord,
    machine::{Disturbance, MachineCost, ProcessCost},
    nodes::NodeTrial,
    warning::Warning,
};

/// One trial: one peer under one load for one duration, after a warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

impl TrialRecord {
    /// A trial of which nothing was measured.
    pub fn blank(peer: &str, repeat: u32, order: u32) -> Self {
        let peer = peer.to_owned();
        Self { format: FORMAT_VERSION, peer, repeat, order, ..Self::default() }
    }

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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TrialOutcome {
    /// It ran its whole length.
    #[default]
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

impl Counts {
    /// Counts calls that failed in one way.
    pub(crate) fn add_failed(&mut self, side: Side, what: &str, calls: u64) {
        let found = self.failed.binary_search_by(|one| (one.side, &*one.what).cmp(&(side, what)));
        match found {
            Ok(at) => self.failed[at].calls += calls,
            Err(at) => {
                self.failed.insert(at, FailureCount { side, what: what.to_owned(), calls });
            }
        }
    }

    /// Adds those of other calls.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.ok += other.ok;
        self.unfinished += other.unfinished;
        self.completed_in_window += other.completed_in_window;
        other.failed.iter().for_each(|one| self.add_failed(one.side, &one.what, one.calls));
    }
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
