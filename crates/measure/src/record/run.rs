//! A run: what was asked, on what, which peers, and how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::FORMAT_VERSION;
use super::{
    links::LinkSetup,
    setup::{BackendSetup, LoadSetup, Network, PeerSetup},
    trial::{Counts, TrialRecord},
};
use crate::{
    answer::Answer, histogram::HistogramRecord, machine::Environment, nodes::Cluster,
    prediction::Sealed, simulation::Simulation, warning::Warning,
};

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
    /// What puts figures in doubt that the answer rests on, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
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
    pub(crate) fn backends_of(&self, trial: &TrialRecord) -> &[BackendSetup] {
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
        let warnings =
            self.warnings.iter().filter(|one| one.point().is_none_or(|own| own == value));
        Self {
            load: point.load.clone(),
            backends: point.backends.clone(),
            sweep: None,
            search: None,
            warnings: warnings.cloned().collect(),
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
