//! How long it took after each fault until the calls were in balance again, and for how
//! long calls failed.
//!
//! What balance is changes with the fault: a backend that is dead or stopped should
//! get nothing, and the others its part. Calls are counted in bins of a tenth of a second,
//! or of as many tenths as it takes for a hundred calls in each, so that chance does not
//! pass for imbalance; in records of before tenths were kept, of a second. A bin that a
//! fault falls into is left out, and no answer is less than one bin: what happened within
//! it can't be seen.

use measure::{
    record::{FaultRecord, TrialRecord},
    statistics::{
        median,
        settling::{Settling, Tolerance, time_until_balance},
    },
};

use crate::{
    model::{Model, PeerView},
    once::each_once,
};

/// Five points off its share, and three deviations of chance, still is balance.
const TOLERANCE: Tolerance = Tolerance { absolute: 0.05, deviations: 3.0 };
/// A fault this near to the edge of a bin, in bins, is taken to be on it: the calls of so
/// short a time are a twentieth of the bin's, which the tolerance allows.
const NEARLY: f64 = 0.05;
/// Seconds of one [`measure::record::TenthRecord`].
const TENTH_S: f64 = 0.1;
/// Calls that a bin has on average.
const CALLS_PER_BIN: f64 = 100.0;

/// What became of one fault in one trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// In balance at most so many seconds later, and until the next fault.
    Seconds(f64),
    /// Not in balance before the next fault or the end.
    Never,
    /// No whole bin lies before the next fault or the end.
    TooShort,
}

/// A fault, and what became of it in each trial of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled<'a> {
    /// As the first trial has it.
    pub fault: &'a FaultRecord,
    /// Seconds from it to the next one, or to the end, in the first trial.
    pub left_s: f64,
    /// Length of the longest trial's bins in seconds: what is less can't be seen.
    pub bin_s: f64,
    /// One a trial.
    pub after: Vec<After>,
}

impl Settled<'_> {
    /// Seconds until balance in each trial that tells; infinite for never.
    pub fn times(&self) -> Vec<f64> {
        let time = |after: &After| match after {
            After::Seconds(seconds) => Some(*seconds),
            After::Never => Some(f64::INFINITY),
            After::TooShort => None,
        };
        self.after.iter().filter_map(time).collect()
    }

    /// The middle trial: one that never came into balance took longer than any other.
    pub fn middle(&self) -> Option<f64> {
        median(&self.times())
    }
}

/// All faults of a peer.
pub fn of<'a>(model: &Model<'a>, peer: &PeerView<'a>) -> Vec<Settled<'a>> {
    let trials: Vec<&'a TrialRecord> = peer.measured().map(|(record, _)| record).collect();
    let Some(first) = trials.first() else { return Vec::new() };
    let bins: Vec<Bins> = trials.iter().map(|trial| Bins::of(trial)).collect();
    let bin_s = bins.iter().map(Bins::seconds).fold(0.0, f64::max);
    first
        .faults
        .iter()
        .enumerate()
        .map(|(index, fault)| Settled {
            fault,
            left_s: until_next(first, index) - fault.done_s,
            bin_s,
            after: trials
                .iter()
                .zip(&bins)
                .map(|(trial, bins)| after(model, trial, bins, index))
                .collect(),
        })
        .collect()
}

/// Seconds from the first fault until the last call failed, over the trials in which any
/// did after it; `None` where none did, or where it was not recorded.
pub(crate) fn failing_for(peer: &PeerView<'_>) -> Option<f64> {
    let of_trial = |trial: &TrialRecord| {
        let fault = trial.faults.first()?;
        let last = trial.tenths.iter().rposition(|tenth| tenth.failed > 0)?;
        Some((last + 1) as f64 * TENTH_S - fault.done_s).filter(|seconds| *seconds > 0.0)
    };
    let times: Vec<f64> = peer.measured().filter_map(|(trial, _)| of_trial(trial)).collect();
    median(&times).map(|seconds| seconds.max(TENTH_S))
}

/// The backends that the lab took away before any call failed, in every trial of a peer in
/// which calls did: what the failures follow from. Empty where calls failed before that.
pub fn taken_before_failures<'a>(peer: &PeerView<'a>) -> Vec<&'a str> {
    let mut taken = Vec::new();
    for (trial, _) in peer.measured().filter(|(trial, _)| !trial.counts.failed.is_empty()) {
        let mut away = trial.faults.iter().filter(|fault| takes_away(&fault.action));
        let Some(first) = away.next() else { return Vec::new() };
        let failed_before = match trial.tenths.is_empty() {
            true => {
                let before = first.done_s.floor() as usize;
                trial.series.iter().take(before).any(|second| second.failed > 0)
            }
            false => {
                let before = (first.done_s / TENTH_S).floor() as usize;
                trial.tenths.iter().take(before).any(|tenth| tenth.failed > 0)
            }
        };
        if failed_before {
            return Vec::new();
        }
        taken.extend(std::iter::once(first).chain(away).map(|fault| fault.backend.as_str()));
    }
    each_once(taken)
}

/// The share of a trial's calls that is due to each backend, in the order of the model's:
/// at each time its part among those that are there.
pub(crate) fn due(model: &Model<'_>, trial: &TrialRecord) -> Vec<f64> {
    let mut due = vec![0.0; model.backends.len()];
    let (mut weights, mut since_s) = (self::weights(model, trial, 0), 0.0);
    let ends = trial.faults.iter().map(|fault| fault.done_s).chain([trial.measured_s]);
    for (index, end_s) in ends.enumerate() {
        let sum: f64 = weights.iter().sum();
        let part = (end_s - since_s).max(0.0) / trial.measured_s;
        for (due, weight) in due.iter_mut().zip(&weights).filter(|_| sum > 0.0) {
            *due += part * weight / sum;
        }
        (weights, since_s) = (self::weights(model, trial, index + 1), end_s);
    }
    due
}

/// Calls per backend in equal bins.
struct Bins {
    /// The finest there are.
    fine: Vec<Vec<u64>>,
    /// Length of one of those in seconds.
    fine_s: f64,
    /// How many of them make a bin.
    size: usize,
}

impl Bins {
    fn of(trial: &TrialRecord) -> Self {
        if trial.tenths.is_empty() {
            let fine = trial.series.iter().map(|second| second.per_backend.clone()).collect();
            return Self { fine, fine_s: 1.0, size: 1 };
        }
        let calls: u64 = trial.tenths.iter().flat_map(|tenth| &tenth.per_backend).sum();
        let each = calls as f64 / trial.tenths.len() as f64;
        let size = (CALLS_PER_BIN / each.max(1.0)).ceil().max(1.0) as usize;
        let fine = trial.tenths.iter().map(|tenth| tenth.per_backend.clone()).collect();
        Self { fine, fine_s: TENTH_S, size }
    }

    fn seconds(&self) -> f64 {
        self.fine_s * self.size as f64
    }

    /// Whole bins between two times, and when the first of them begins.
    fn between(&self, from_s: f64, to_s: f64) -> (f64, Vec<Vec<u64>>) {
        let from = (from_s / self.fine_s - NEARLY).max(0.0).ceil() as usize;
        let to = ((to_s / self.fine_s + NEARLY).max(0.0).floor() as usize).min(self.fine.len());
        let fine = self.fine.get(from..to).unwrap_or_default();
        let sum = |bin: &[Vec<u64>]| {
            let backends = bin.iter().map(Vec::len).max().unwrap_or(0);
            let of = |backend| bin.iter().filter_map(|calls| calls.get(backend)).sum();
            (0..backends).map(of).collect()
        };
        (from as f64 * self.fine_s, fine.chunks_exact(self.size).map(sum).collect())
    }
}

/// When the next fault was done, or the window ended.
fn until_next(trial: &TrialRecord, index: usize) -> f64 {
    trial.faults.get(index + 1).map_or(trial.measured_s, |next| next.done_s)
}

fn after(model: &Model<'_>, trial: &TrialRecord, bins: &Bins, index: usize) -> After {
    let Some(fault) = trial.faults.get(index) else { return After::TooShort };
    let (begin_s, counts) = bins.between(fault.done_s, until_next(trial, index));
    let weights = weights(model, trial, index + 1);
    match time_until_balance(&counts, &weights, 0, TOLERANCE) {
        None => After::TooShort,
        Some(Settling::Never) => After::Never,
        Some(Settling::From(bin)) => {
            let from_s = begin_s + bin as f64 * bins.seconds();
            After::Seconds((from_s - fault.done_s).max(bins.seconds()))
        }
    }
}

/// The shares that are due once the first so many faults were done.
fn weights(model: &Model<'_>, trial: &TrialRecord, done: usize) -> Vec<f64> {
    let (done, to_come) = trial.faults.split_at(done.min(trial.faults.len()));
    let mut weights = model.fair_shares.clone();
    for (weight, id) in weights.iter_mut().zip(&model.backends) {
        let own = |fault: &&FaultRecord| fault.backend == *id;
        let is_away = match (done.iter().rev().find(own), to_come.iter().find(own)) {
            (Some(last), _) => takes_away(&last.action),
            // One that is added is not there before.
            (None, Some(first)) => first.action == "add",
            (None, None) => false,
        };
        if is_away {
            *weight = 0.0;
        }
    }
    weights
}

/// Whether a fault takes its backend away, rather than bringing it back or changing
/// it.
pub fn takes_away(action: &str) -> bool {
    matches!(action, "kill" | "stop" | "drain" | "remove")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_a_hundred_calls_each_and_begin_after_the_fault() {
        let fine = |calls| vec![vec![calls, calls]; 20];
        let bins = Bins { fine: fine(60), fine_s: TENTH_S, size: 1 };
        let (begin_s, counts) = bins.between(0.403, 1.0);
        assert!((begin_s - 0.4).abs() < 1e-9, "3 ms are next to nothing: {begin_s}");
        assert_eq!(counts, vec![vec![60, 60]; 6]);
        let sparse = Bins { size: 3, ..bins };
        let (begin_s, counts) = sparse.between(0.42, 1.2);
        assert!((begin_s - 0.5).abs() < 1e-9, "{begin_s}");
        assert_eq!(counts, vec![vec![180, 180]; 2], "what makes no whole bin is left out");
        assert_eq!(sparse.between(1.9, 3.0).1, Vec::<Vec<u64>>::new());
    }
}
