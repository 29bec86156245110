//! A run in one JSON object, for scripts (`--json`).
//!
//! In a sweep figures belong to a point: a peer has none of its own but those of the
//! whole run, and a list of points.

use std::collections::BTreeMap;

use analysis::{
    estimate,
    prediction::{Outcome, outcomes},
};
use measure::{
    figure::{Figure, Figures},
    record::{Expectation, LeftOut, RunOutcome, RunRecord, SearchRecord, TrialRecord},
    summary::{is_measured, saturation},
    warning::Warning,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::Finished;

/// Version of the summary's format.
const SUMMARY_VERSION: u32 = 1;

/// What a run came down to. Times are nanoseconds, shares are fractions.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "layerlab summary")]
pub(crate) struct Summary {
    /// Version of this format.
    format: u32,
    /// The scenario's name.
    scenario: String,
    /// The run folder.
    folder: String,
    /// How the run ended.
    outcome: RunOutcome,
    /// The key of the setting that differs between points; none in a run of one
    /// setting.
    sweep: Option<String>,
    /// What was searched for and what each repeat found, in a search.
    search: Option<SearchRecord>,
    /// The peers compared, in the scenario's order.
    peers: Vec<PeerSummary>,
    /// Peers that were asked for and could not be run.
    left_out: Vec<LeftOut>,
    /// What was predicted before the first trial, and what came of it; empty where nothing
    /// was.
    predictions: Vec<Outcome>,
    /// What was expected, judged.
    expectations: Vec<Expectation>,
    /// Doubts about the run, and about its trials.
    warnings: Vec<Doubt>,
}

/// One peer.
#[derive(Debug, Serialize, JsonSchema)]
struct PeerSummary {
    /// Its name.
    peer: String,
    /// Trials that gave figures.
    trials: usize,
    /// Calls per backend, summed over the trials.
    calls_per_backend: Vec<u64>,
    /// Its figures by name; what has no value is left out. In a sweep only those of
    /// the whole run (`saturation_rate`): the others differ from point to point.
    figures: BTreeMap<&'static str, Estimate>,
    /// The same at each point of a sweep or search that has trials of the peer; empty
    /// in a run of one setting.
    points: Vec<PointSummary>,
}

/// One peer at one point.
#[derive(Debug, Serialize, JsonSchema)]
struct PointSummary {
    /// The value, as written.
    value: String,
    /// The value as a number where it is one: bytes, nanoseconds, calls per second,
    /// fractions, or plain.
    number: Option<f64>,
    /// Trials that gave figures.
    trials: usize,
    /// Calls per backend, summed over the trials.
    calls_per_backend: Vec<u64>,
    /// Its figures by name; what has no value is left out.
    figures: BTreeMap<&'static str, Estimate>,
}

/// A figure over the trials.
#[derive(Debug, Serialize, JsonSchema)]
struct Estimate {
    /// The median over the trials.
    median: f64,
    /// The lowest trial.
    low: f64,
    /// The highest trial; of `saturation_rate`, the lowest rate at which the objective
    /// held in no repeat.
    high: f64,
    /// The 95 % interval that the report prints; none with fewer than three trials, or of
    /// a search.
    interval: Option<Interval>,
}

/// Where the true value lies with a chance of 95 %, as far as trials are alike and
/// independent: it speaks of the machine in the state it was in during the run.
#[derive(Debug, Serialize, JsonSchema)]
struct Interval {
    /// Its lower end.
    low: f64,
    /// Its upper end.
    high: f64,
}

/// A doubt, in words and as data.
#[derive(Debug, Serialize, JsonSchema)]
struct Doubt {
    /// The trial it is about; none for the run as a whole.
    trial: Option<u32>,
    /// As data.
    warning: Warning,
    /// In words, with advice.
    text: String,
}

impl Summary {
    pub(crate) fn of(finished: &Finished) -> Self {
        let Finished { folder, record, trials, .. } = finished;
        let peers =
            record.peers.iter().map(|peer| peer_summary(&peer.name, record, trials)).collect();
        let doubt = |trial, warning: &Warning| Doubt {
            trial,
            text: warning.to_string(),
            warning: warning.clone(),
        };
        let of_run = record.warnings.iter().map(|warning| doubt(None, warning));
        let of_trials = trials.iter().flat_map(|trial| {
            trial.warnings.iter().map(move |warning| doubt(Some(trial.order), warning))
        });
        Self {
            format: SUMMARY_VERSION,
            scenario: record.scenario.clone(),
            folder: folder.display().to_string(),
            outcome: record.outcome,
            sweep: record.sweep.as_ref().map(|sweep| sweep.key.clone()),
            search: record.search.clone(),
            peers,
            left_out: record.left_out.clone(),
            predictions: outcomes(record, trials),
            expectations: record.expectations.clone(),
            warnings: of_run.chain(of_trials).collect(),
        }
    }
}

fn peer_summary(name: &str, record: &RunRecord, trials: &[TrialRecord]) -> PeerSummary {
    let of_peer = |point: Option<&str>| -> Vec<Figures> {
        trials
            .iter()
            .filter(|trial| trial.peer == name && is_measured(trial))
            .filter(|trial| point.is_none() || trial.point.as_deref() == point)
            .map(Figures::of_trial)
            .collect()
    };
    let all = of_peer(None);
    let points: Vec<PointSummary> = record
        .sweep
        .iter()
        .flat_map(|sweep| &sweep.points)
        .map(|point| (point, of_peer(Some(&point.value))))
        .filter(|(_, figures)| !figures.is_empty())
        .map(|(point, figures)| PointSummary {
            value: point.value.clone(),
            number: point.number,
            trials: figures.len(),
            calls_per_backend: calls_per_backend(&figures, point.backends.len()),
            figures: estimates(&figures),
        })
        .collect();
    let backends = all.iter().map(|one| one.calls_per_backend.len()).max();
    PeerSummary {
        peer: name.to_owned(),
        trials: all.len(),
        calls_per_backend: calls_per_backend(&all, backends.unwrap_or(record.backends.len())),
        figures: if record.sweep.is_some() { of_search(record, name) } else { estimates(&all) },
        points,
    }
}

fn calls_per_backend(figures: &[Figures], backends: usize) -> Vec<u64> {
    let mut calls_per_backend = vec![0; backends];
    for one in figures {
        for (sum, calls) in calls_per_backend.iter_mut().zip(&one.calls_per_backend) {
            *sum += calls;
        }
    }
    calls_per_backend
}

fn estimates(figures: &[Figures]) -> BTreeMap<&'static str, Estimate> {
    let estimate = |figure: Figure| {
        let values: Vec<f64> = figures.iter().filter_map(|one| one.get(figure)).collect();
        let over = estimate::Estimate::of(figure, &values)?;
        let interval = over.interval.map(|(low, high)| Interval { low, high });
        let (median, low, high) = (over.value, over.lowest, over.highest);
        Some((figure.name(), Estimate { median, low, high, interval }))
    };
    Figure::ALL.iter().copied().filter_map(estimate).collect()
}

/// The one figure that trials have only together.
fn of_search(record: &RunRecord, peer: &str) -> BTreeMap<&'static str, Estimate> {
    let found = record.search.as_ref().and_then(|search| saturation(search, peer));
    let estimate = found.map(|found| Estimate {
        median: found.rate,
        low: found.low,
        // Where nothing broke it, what is known ends at what was tried.
        high: found.high.unwrap_or_else(|| found.repeats.iter().copied().fold(0.0, f64::max)),
        interval: None,
    });
    let name = Figure::SaturationRate.name();
    estimate.map(|estimate| (name, estimate)).into_iter().collect()
}
