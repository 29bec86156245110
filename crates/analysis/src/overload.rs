//! Whether a peer was overloaded: more was offered than the backends behind it served,
//! so that its queue grew for as long as the trial lasted.
//!
//! Latencies of such a peer are the length of the trial, and its CPU per call is that of
//! other work than its neighbours did. Neither is a figure of the peer; what is one is how
//! fast it falls behind.

use measure::{
    figure::{Figure, Figures},
    record::TrialRecord,
};

use crate::estimate::Estimate;

/// A part of the offered calls that may be missing at the end of the window by chance,
/// by calls under way, or by a short disturbance.
const BEHIND: f64 = 0.05;
/// Deviations of a Poisson count that the missing calls have to exceed as well.
const DEVIATIONS: f64 = 4.0;
/// Backends whose shares are this near to each other share the load evenly.
const EVEN: f64 = 0.2;

/// How an overloaded peer falls behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// Calls a second that were offered, without those that failed.
    pub offered: Estimate,
    /// Calls a second that were served.
    pub served: Estimate,
    /// Offered over served.
    pub load: f64,
    /// Seconds that the delay of a call grows by in each second of the load, where all
    /// backends in use fall behind alike.
    pub growth: Option<f64>,
}

/// How a peer falls behind; `None` where it keeps up in half of its trials or more, and
/// in a closed loop, which offers no more than is served.
pub(crate) fn of(measured: &[(&TrialRecord, &Figures)], open_loop: bool) -> Option<Overload> {
    if !open_loop {
        return None;
    }
    let rates: Vec<(f64, f64)> = measured.iter().filter_map(|(trial, _)| rates(trial)).collect();
    let seconds = measured.iter().map(|(trial, _)| trial.measured_s).fold(0.0, f64::max);
    let behind: Vec<(f64, f64)> =
        rates.iter().copied().filter(|of| falls_behind(seconds, *of)).collect();
    if 2 * behind.len() <= rates.len() {
        return None;
    }
    let over =
        |of: fn(&(f64, f64)) -> f64| Estimate::over(&behind.iter().map(of).collect::<Vec<_>>());
    let is_even = measured.iter().all(|(_, figures)| {
        let used = figures.shares().into_iter().filter(|share| *share > 0.0);
        let (low, high) = used.fold((1.0_f64, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        high <= low * (1.0 + EVEN)
    });
    let (offered, served) = (over(|(offered, _)| *offered)?, over(|(_, served)| *served)?);
    // From the figures that are shown beside them, so that they add up.
    let load = offered.value / served.value;
    Some(Overload { offered, served, load, growth: is_even.then_some(load - 1.0) })
}

/// Whether one trial fell behind, as others of its peer may not have.
pub(crate) fn is_behind(trial: &TrialRecord) -> bool {
    rates(trial).is_some_and(|of| falls_behind(trial.measured_s, of))
}

/// Whether a figure means something of an overloaded peer: how calls were spread and
/// counted does.
pub(crate) fn is_meaningful(figure: Figure) -> bool {
    !figure.is_latency() && figure != Figure::QueuedP99 && !figure.is_cost()
}

/// Calls a second that were offered without those that failed, and that were served.
fn rates(trial: &TrialRecord) -> Option<(f64, f64)> {
    let counts = &trial.counts;
    let failed: u64 = counts.failed.iter().map(|failure| failure.calls).sum();
    let served = counts.completed_in_window as f64 / (trial.measured_s + trial.cut_s);
    let offered = counts.scheduled.saturating_sub(failed) as f64 / trial.measured_s;
    (trial.measured_s > 0.0 && served > 0.0).then_some((offered, served))
}

fn falls_behind(seconds: f64, (offered, served): (f64, f64)) -> bool {
    let missing = offered - served;
    let by_chance = DEVIATIONS * (offered / seconds).sqrt();
    missing > (BEHIND * offered).max(by_chance)
}
