//! The bootstrap intervals of [`super::interval`], beside which Student's was
//! chosen. All take two values or more, all finite, and a level between 0 and 1.

use super::{
    chance::Chance,
    interval::{Interval, mean, variance},
    special::{normal_cdf, normal_quantile},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;

/// The percentile interval of the mean.
pub(super) fn percentile(values: &[f64], level: f64, seed: u64) -> Interval {
    let means = resampled(values, seed, |sample| Some(mean(sample)));
    let low = (1.0 - level) / 2.0;
    Interval { low: sorted_at(&means, low), high: sorted_at(&means, 1.0 - low), level }
}

/// Efron's BCa interval of the mean.
pub(super) fn bca(values: &[f64], level: f64, seed: u64) -> Interval {
    let means = resampled(values, seed, |sample| Some(mean(sample)));
    let centre = mean(values);
    let below = means.iter().filter(|&&mean| mean < centre).count() as f64;
    let equal = means.iter().filter(|&&mean| mean == centre).count() as f64;
    let share = ((below + equal / 2.0) / means.len() as f64).clamp(1e-4, 1.0 - 1e-4);
    let bias = normal_quantile(share);
    // The acceleration, from leaving each value out; of a mean, its skew.
    let cubes: f64 = values.iter().map(|value| (value - centre).powi(3)).sum();
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let at = |p: f64| {
        let z = bias + normal_quantile(p);
        sorted_at(&means, normal_cdf(bias + z / (1.0 - acceleration * z)))
    };
    Interval { low: at((1.0 - level) / 2.0), high: at(f64::midpoint(1.0, level)), level }
}

/// The studentised bootstrap.
pub(super) fn studentised(values: &[f64], level: f64, seed: u64) -> Interval {
    let (centre, n) = (mean(values), values.len() as f64);
    let error = (variance(values) / n).sqrt();
    // A resample of equal values has no t; it is drawn and left out.
    let scores = resampled(values, seed, |sample| {
        let error = (variance(sample) / n).sqrt();
        (error > 0.0).then(|| (mean(sample) - centre) / error)
    });
    if scores.is_empty() {
        return Interval { low: centre, high: centre, level };
    }
    let low = (1.0 - level) / 2.0;
    Interval {
        low: centre - error * sorted_at(&scores, 1.0 - low),
        high: centre - error * sorted_at(&scores, low),
        level,
    }
}

/// A statistic of resamples with replacement, sorted.
fn resampled(values: &[f64], seed: u64, statistic: impl Fn(&[f64]) -> Option<f64>) -> Vec<f64> {
    let mut chance = Chance::new(seed);
    let mut sample = vec![0.0; values.len()];
    let mut found: Vec<_> = (0..RESAMPLES)
        .filter_map(|_| {
            sample.iter_mut().for_each(|slot| *slot = values[chance.below(values.len())]);
            statistic(&sample)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    found
}

fn sorted_at(sorted: &[f64], p: f64) -> f64 {
    let place = (p * (sorted.len() + 1) as f64).round() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}
