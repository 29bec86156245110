//! The time calls spent in the backends, from what those reported: queueing and
//! service, added up call by call.
//!
//! Records of the first layerlabs have a histogram of each, and not of their sum.
//! Backends serve first come, first served, and draw a call's service time without
//! looking at the queue; so how long a call waited says nothing of how long it will
//! be served, and the sum has the distribution that independent parts add up to.
//! The mean needs no such argument.

use measure::{
    figure::Figure,
    histogram::{HistogramRecord, new_histogram, quantile},
    record::TrialRecord,
};

use super::QUANTILES;
use crate::model::{Estimate, PeerView};

/// Values nearer to each other than this part of themselves count as one.
const RELATIVE: f64 = 0.005;
/// And than this part of the mean of the sum.
const ABSOLUTE: f64 = 0.002;

/// Times in nanoseconds, over the trials of a peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The mean.
    pub mean: Option<Estimate>,
    /// At each of [`QUANTILES`].
    pub quantiles: [Option<Estimate>; 3],
}

/// What calls spent in the backends.
pub fn in_backends(peer: &PeerView<'_>) -> Measured {
    let trials: Vec<[f64; 4]> =
        peer.measured().filter_map(|(record, _)| of_trial(record)).collect();
    let over = |index: usize| {
        let values: Vec<f64> = trials.iter().map(|trial| trial[index]).collect();
        Estimate::over(&values)
    };
    Measured { mean: over(0), quantiles: [over(1), over(2), over(3)] }
}

/// What calls took as a whole.
pub fn whole(peer: &PeerView<'_>) -> Measured {
    Measured {
        mean: peer.estimate(Figure::LatencyMean),
        quantiles: QUANTILES.map(|(q, _)| peer.estimate_by(|figures| figures.latency_ns(q))),
    }
}

/// Mean and quantiles of one trial.
fn of_trial(trial: &TrialRecord) -> Option<[f64; 4]> {
    if trial.in_backend.count == 0 {
        return added_up(trial);
    }
    let sum = trial.in_backend.to_histogram().ok()?;
    let [p50, p90, p99] = QUANTILES.map(|(q, _)| quantile(&sum, q).map_or(0.0, |ns| ns as f64));
    // The histogram's own mean: the one beside it in the record has been through
    // JSON, and a report made from memory has to equal one made from the folder.
    Some([sum.mean(), p50, p90, p99])
}

/// The same from the parts.
fn added_up(trial: &TrialRecord) -> Option<[f64; 4]> {
    let (queued, service) = (trial.queued.to_histogram().ok()?, trial.service.to_histogram().ok()?);
    if queued.is_empty() || service.is_empty() {
        return None;
    }
    let mean = queued.mean() + service.mean();
    let bins = |record| binned(record, mean);
    let (queued, service) = (bins(&trial.queued)?, bins(&trial.service)?);
    let mut sum = new_histogram();
    for (wait, waits) in &queued {
        for (time, times) in &service {
            sum.saturating_record_n(((wait + time) as u64).max(1), waits * times);
        }
    }
    let [p50, p90, p99] = QUANTILES.map(|(q, _)| quantile(&sum, q).map_or(0.0, |ns| ns as f64));
    Some([mean, p50, p90, p99])
}

/// A histogram's values with their counts, neighbours put together.
fn binned(histogram: &HistogramRecord, mean: f64) -> Option<Vec<(f64, u64)>> {
    let histogram = histogram.to_histogram().ok()?;
    let mut bins: Vec<(f64, u64)> = Vec::new();
    let mut start = 0.0;
    for step in histogram.iter_recorded() {
        let (value, count) = (step.value_iterated_to() as f64, step.count_since_last_iteration());
        match bins.last_mut() {
            Some((middle, counted)) if value - start <= (ABSOLUTE * mean).max(RELATIVE * value) => {
                let all = (*counted + count) as f64;
                *middle = (*middle * *counted as f64 + value * count as f64) / all;
                *counted += count;
            }
            _ => {
                start = value;
                bins.push((value, count));
            }
        }
    }
    (!bins.is_empty()).then_some(bins)
}

/// A record of values, for the tests here and beside.
#[cfg(test)]
pub(super) fn histogram_of(values: impl Iterator<Item = u64>) -> HistogramRecord {
    let mut histogram = new_histogram();
    values.for_each(|value| measure::histogram::record(&mut histogram, value));
    HistogramRecord::from_histogram(&histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_put_together_keep_their_mean_and_their_number() {
        let values = || (1..20_000_u64).map(|n| n * 500);
        let bins = binned(&histogram_of(values()), 5e6).unwrap();
        assert!(bins.len() < 600, "{}", bins.len());
        assert_eq!(bins.iter().map(|(_, count)| count).sum::<u64>(), 19_999);
        let mean = bins.iter().map(|(value, count)| value * *count as f64).sum::<f64>() / 19_999.0;
        assert!((mean / 5e6 - 1.0).abs() < 2e-3, "{mean}");
        assert!(bins.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(binned(&HistogramRecord::default(), 1.0), None);
    }
}
