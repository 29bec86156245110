//! How long it took after each fault until the calls were in balance again.
//!
//! What balance is changes with the fault: a backend that is dead or stopped should
//! get nothing, and the others its part. The series has whole seconds, so the
//! second a fault falls into is left out, and an answer is an upper bound that is
//! at most a second too high.

use measure::{
    record::{FaultRecord, TrialRecord},
    statistics::settling::{Settling, Tolerance, time_until_balance},
};

use crate::model::{Model, PeerView};

/// Five points off its share, and three deviations of chance, still is balance.
const TOLERANCE: Tolerance = Tolerance { absolute: 0.05, deviations: 3.0 };

/// A fault this near to the edge of a second is taken to be on it: the calls of so
/// short a time are a twentieth of the second's, which the tolerance allows.
const NEARLY_S: f64 = 0.05;

/// What became of one fault in one trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// In balance at most so many seconds later, and until the next fault.
    Seconds(f64),
    /// Not in balance before the next fault or the end.
    Never,
    /// No whole second lies before the next fault or the end.
    TooShort,
}

/// A fault, and what became of it in each trial of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled<'a> {
    /// As the first trial has it.
    pub fault: &'a FaultRecord,
    /// One a trial.
    pub after: Vec<After>,
}

/// All faults of a peer.
pub fn of<'a>(model: &Model<'a>, peer: &PeerView<'a>) -> Vec<Settled<'a>> {
    let trials: Vec<&'a TrialRecord> = peer.measured().map(|(record, _)| record).collect();
    let Some(first) = trials.first() else { return Vec::new() };
    first
        .faults
        .iter()
        .enumerate()
        .map(|(index, fault)| Settled {
            fault,
            after: trials.iter().map(|trial| after(model, trial, index)).collect(),
        })
        .collect()
}

fn after(model: &Model<'_>, trial: &TrialRecord, index: usize) -> After {
    let Some(fault) = trial.faults.get(index) else { return After::TooShort };
    let next_s = trial.faults.get(index + 1).map_or(trial.measured_s, |next| next.done_s);
    let from = (fault.done_s - NEARLY_S).max(0.0).ceil() as usize;
    let to = (next_s + NEARLY_S).max(0.0).floor() as usize;
    let intervals: Vec<Vec<u64>> =
        trial.series.iter().take(to).map(|second| second.per_backend.clone()).collect();
    let weights = weights(model, &trial.faults[..=index]);
    match time_until_balance(&intervals, &weights, from, TOLERANCE) {
        None => After::TooShort,
        Some(Settling::Never) => After::Never,
        Some(Settling::From(second)) => After::Seconds((second as f64 - fault.done_s).max(0.0)),
    }
}

/// The shares that are due once these faults were done.
fn weights(model: &Model<'_>, faults: &[FaultRecord]) -> Vec<f64> {
    let mut weights = model.fair_shares.clone();
    for (index, id) in model.backends.iter().enumerate() {
        let last = faults.iter().rev().find(|fault| fault.backend == *id);
        if last.is_some_and(|fault| takes_away(&fault.action)) {
            weights[index] = 0.0;
        }
    }
    weights
}

/// Whether a fault takes its backend away, rather than bringing it back or changing
/// it.
pub fn takes_away(action: &str) -> bool {
    matches!(action, "kill" | "stop" | "drain" | "remove")
}
