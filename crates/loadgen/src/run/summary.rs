//! A run in one JSON object, for scripts (`--json`).

use measure::{
    record::{Expectation, LeftOut, RunOutcome},
    summary::{Figures, is_measured, median},
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
    /// The peers compared, in the scenario's order.
    peers: Vec<PeerSummary>,
    /// Peers that were asked for and could not be run.
    left_out: Vec<LeftOut>,
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
    /// Its figures by name; what has no value is left out.
    figures: std::collections::BTreeMap<&'static str, Estimate>,
}

/// A figure over the trials.
#[derive(Debug, Serialize, JsonSchema)]
struct Estimate {
    /// The median over the trials.
    median: f64,
    /// The lowest trial.
    low: f64,
    /// The highest trial.
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
        let Finished { folder, record, trials } = finished;
        let peers = record
            .peers
            .iter()
            .map(|peer| {
                let figures: Vec<Figures> = trials
                    .iter()
                    .filter(|trial| trial.peer == peer.name && is_measured(trial))
                    .map(Figures::of_trial)
                    .collect();
                peer_summary(&peer.name, record.backends.len(), &figures)
            })
            .collect();
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
            peers,
            left_out: record.left_out.clone(),
            expectations: record.expectations.clone(),
            warnings: of_run.chain(of_trials).collect(),
        }
    }
}

fn peer_summary(name: &str, backends: usize, figures: &[Figures]) -> PeerSummary {
    let estimate = |name: &'static str| {
        let values: Vec<f64> = figures.iter().filter_map(|one| one.by_name(name)).collect();
        let ends = |fold: fn(f64, f64) -> f64| values.iter().copied().reduce(fold);
        let estimate =
            Estimate { median: median(&values)?, low: ends(f64::min)?, high: ends(f64::max)? };
        Some((name, estimate))
    };
    let mut calls_per_backend = vec![0; backends];
    for one in figures {
        for (sum, calls) in calls_per_backend.iter_mut().zip(&one.calls_per_backend) {
            *sum += calls;
        }
    }
    PeerSummary {
        peer: name.to_owned(),
        trials: figures.len(),
        calls_per_backend,
        figures: Figures::names().filter_map(estimate).collect(),
    }
}
