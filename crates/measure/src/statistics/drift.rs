//! Whether a figure stayed where it was: within a trial, and from repeat to
//! repeat.
//!
//! All tests go by ranks, since latencies have outliers and no known shape.
//! `trend` and [`between_repeats`] take values for independent, and neighbouring
//! values of a latency series are not: feed them means of batches that are long
//! against the queue's memory (`super::independence::batch_means`; 20 to 30 a
//! trial), or they see drift in what is only a queue. `trend_of_correlated`
//! allows for what correlation is left.

use super::{
    independence::autocorrelation,
    interval::variance,
    special::{chi_square_tail, normal_two_sided},
};
use crate::statistics::median;

/// Values at most: the pairs of more are not worth their time.
const MOST_VALUES: usize = 4_096;

/// A trend in a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Kendall's tau with the time: 1 when each value is above all before, -1 when
    /// below.
    pub tau: f64,
    /// The chance of a tau at least as far from 0 if values were alike and
    /// independent.
    pub p_value: f64,
    /// The median slope over all pairs, in the values' unit per step.
    pub slope_per_step: f64,
    /// Median of the last third over that of the first: the size of the effect.
    /// `None` when the first is zero.
    pub ratio: Option<f64>,
}

/// Tests for a trend by Mann and Kendall (H. B. Mann, *Econometrica* 13, 1945; M.
/// G. Kendall, *Rank Correlation Methods*, 1948), with the slope of Theil and Sen.
///
/// Up to ten values without ties the p-value is exact; else it is the normal
/// approximation with ties and continuity corrected. `None` with fewer than 4
/// values or more than 4096, or when one is not finite.
pub(crate) fn trend(values: &[f64]) -> Option<Trend> {
    let n = values.len();
    if !(4..=MOST_VALUES).contains(&n) || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut s = 0_i64;
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate().skip(i + 1) {
            s += i64::from(b > a) - i64::from(b < a);
            slopes.push((b - a) / (j - i) as f64);
        }
    }
    let pairs = slopes.len() as f64;
    let ties = tied(values);
    let p_value =
        if n <= 10 && ties.is_empty() { exact(s, n) } else { approximate(s, n, &ties, 1.0) };
    let third = n / 3;
    let first = median(&values[..third])?;
    let last = median(&values[n - third..])?;
    Some(Trend {
        tau: s as f64 / pairs,
        p_value,
        slope_per_step: median(&slopes)?,
        ratio: (first != 0.0).then(|| last / first),
    })
}

/// The same trend with a p-value that allows for correlated neighbours: the
/// variance of Mann and Kendall's statistic is widened by the correlation of the
/// ranks of what is left without the trend (K. H. Hamed, A. R. Rao, *Journal of
/// Hydrology* 204, 1998).
///
/// Correlation is taken to fall as r^lag, with r from the first lag and corrected
/// for what a short series hides of it (F. Marriott, J. Pope, *Biometrika* 41,
/// 1954); summing all lags as measured, as Hamed and Rao do, misses most of it. At
/// 30 values with r = 0.3, 6 % of series without a trend have p < 0.05, and 9 %
/// with r = 0.6; without the correction 14 % and 31 %.
///
/// `None` as of [`trend`], and with fewer than 10 values.
pub(crate) fn trend_of_correlated(values: &[f64]) -> Option<Trend> {
    let found = trend(values).filter(|_| values.len() >= 10)?;
    let n = values.len() as f64;
    let level: Vec<f64> = values
        .iter()
        .enumerate()
        .map(|(i, value)| value - found.slope_per_step * i as f64)
        .collect();
    // Without variation around the trend there is nothing to correlate.
    let first = super::ranks(&level).and_then(|ranks| autocorrelation(&ranks, 1));
    let Some(first) = first else { return Some(found) };
    let r = ((n * first + 2.0) / (n - 4.0)).clamp(0.0, 0.95);
    let mut power = 1.0;
    let mut weighted = 0.0;
    for lag in 1..values.len() {
        power *= r;
        let left = n - lag as f64;
        weighted += power * left * (left - 1.0) * (left - 2.0);
    }
    let widening = 1.0 + 2.0 * weighted / (n * (n - 1.0) * (n - 2.0));
    let s = (found.tau * n * (n - 1.0) / 2.0).round() as i64;
    let p_value = approximate(s, values.len(), &tied(values), widening);
    Some(Trend { p_value: p_value.max(found.p_value), ..found })
}

/// Sizes of the groups of equal values.
fn tied(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).filter(|group| group.len() > 1).map(|g| g.len() as f64).collect()
}

/// The normal approximation, with a variance `widening` times that of independent
/// values.
fn approximate(s: i64, n: usize, ties: &[f64], widening: f64) -> f64 {
    let term = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let variance = (term(n as f64) - ties.iter().map(|&t| term(t)).sum::<f64>()) / 18.0 * widening;
    if s == 0 || variance <= 0.0 {
        return 1.0;
    }
    normal_two_sided((s.abs() - 1) as f64 / variance.sqrt())
}

/// The exact chance of |S| or more, from the number of orders with each number of
/// inversions.
fn exact(s: i64, n: usize) -> f64 {
    let mut orders = vec![1.0];
    for k in 2..=n {
        let mut next = vec![0.0; orders.len() + k - 1];
        for (inversions, count) in orders.iter().enumerate() {
            next[inversions..inversions + k].iter_mut().for_each(|slot| *slot += count);
        }
        orders = next;
    }
    let most = (orders.len() - 1) as i64;
    let all: f64 = orders.iter().sum();
    let beyond: f64 = orders
        .iter()
        .enumerate()
        .filter(|(inversions, _)| (most - 2 * *inversions as i64).abs() >= s.abs())
        .map(|(_, count)| count)
        .sum();
    beyond / all
}

/// How repeats of one peer differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeats {
    /// The chance of repeats that differ at least as much if all values were alike
    /// and independent.
    pub p_value: f64,
    /// The highest median of a repeat over the lowest: the size of the effect.
    /// `None` when the lowest is not positive.
    pub ratio: Option<f64>,
    /// The share of the variance that lies between repeats, from 0 to 1.
    pub between_share: f64,
}

/// Tests whether repeats are of one kind, by Kruskal and Wallis (*Journal of the
/// American Statistical Association* 47, 1952). A repeat is its batch means.
///
/// `None` with fewer than two repeats, with one of fewer than 5 values, or when a
/// value is not finite.
pub fn between_repeats(repeats: &[Vec<f64>]) -> Option<Repeats> {
    if repeats.len() < 2 || repeats.iter().any(|values| values.len() < 5) {
        return None;
    }
    let all: Vec<f64> = repeats.iter().flatten().copied().collect();
    let ranks = super::ranks(&all)?;
    let n = all.len() as f64;
    let (mut sum, mut start) = (0.0, 0);
    for values in repeats {
        let ranked: f64 = ranks[start..start + values.len()].iter().sum();
        sum += ranked * ranked / values.len() as f64;
        start += values.len();
    }
    let h = 12.0 / (n * (n + 1.0)) * sum - 3.0 * (n + 1.0);
    let ties: f64 = tied(&all).iter().map(|t| t * t * t - t).sum();
    let correction = 1.0 - ties / (n * n * n - n);
    let p_value = if correction > 0.0 {
        chi_square_tail(repeats.len() as f64 - 1.0, (h / correction).max(0.0))
    } else {
        1.0
    };
    let medians: Vec<f64> = repeats.iter().filter_map(|values| median(values)).collect();
    let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let high = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Repeats {
        p_value,
        ratio: (low > 0.0).then(|| high / low),
        between_share: between_share(repeats, &all),
    })
}

/// Squares between repeats over all squares.
fn between_share(repeats: &[Vec<f64>], all: &[f64]) -> f64 {
    let whole = variance(all) * (all.len() as f64 - 1.0);
    if whole <= 0.0 {
        return 0.0;
    }
    let within: f64 =
        repeats.iter().map(|values| variance(values) * (values.len() as f64 - 1.0)).sum();
    (1.0 - within / whole).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    #[test]
    fn known_answers() {
        // scipy.stats.kendalltau, exact.
        let found = trend(&[3.1, 2.9, 3.4, 3.3, 3.8, 3.6, 4.1, 3.9]).unwrap();
        assert!((found.tau - 0.7142857142857142).abs() < 1e-12, "{found:?}");
        assert!((found.p_value - 0.014136904761904762).abs() < 1e-12, "{found:?}");
        // scipy.stats.theilslopes.
        assert!((found.slope_per_step - 0.15000000000000008).abs() < 1e-12, "{found:?}");
        // Twelve values with ties, by the formula in numpy.
        let found = trend(&[1.0, 2.0, 2.0, 3.0, 5.0, 4.0, 4.0, 6.0, 7.0, 5.0, 8.0, 2.0]).unwrap();
        assert!((found.p_value - 0.01234336035345503).abs() < 1e-12, "{found:?}");
        // scipy.stats.kruskal.
        let repeats = [
            vec![2.9, 3.0, 2.5, 2.6, 3.2],
            vec![3.8, 2.7, 4.0, 2.4, 3.3],
            vec![2.8, 3.4, 3.7, 2.2, 2.0],
        ];
        let found = between_repeats(&repeats).unwrap();
        assert!((found.p_value - 0.5433508690745).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn alike_values_drift_as_seldom_as_the_level_says() {
        let mut chance = Chance::new(3);
        for length in [8, 30] {
            let rounds = 4_000;
            let found = (0..rounds)
                .filter(|_| {
                    let values: Vec<_> = (0..length).map(|_| chance.exponential()).collect();
                    trend(&values).unwrap().p_value < 0.05
                })
                .count();
            let share = found as f64 / f64::from(rounds);
            // Eight values allow only some p-values; the next below 0.05 is 0.031.
            assert!((0.02..0.06).contains(&share), "{length}: {share}");
        }
    }

    #[test]
    fn a_drift_of_a_tenth_is_found_and_measured() {
        let mut chance = Chance::new(4);
        let values: Vec<_> =
            (0..30).map(|i| 100.0 * (1.0 + 0.01 * f64::from(i)) + 2.0 * chance.normal()).collect();
        let found = trend(&values).unwrap();
        assert!(found.p_value < 1e-6, "{found:?}");
        assert!((found.slope_per_step - 1.0).abs() < 0.2, "{found:?}");
        assert!((found.ratio.unwrap() - 1.2).abs() < 0.05, "{found:?}");
    }

    /// x_i = r x_{i-1} + noise, which wanders and has no trend.
    fn correlated(chance: &mut Chance, r: f64, length: usize) -> Vec<f64> {
        let mut value = chance.normal() / (1.0 - r * r).sqrt();
        (0..length)
            .map(|_| {
                value = r * value + chance.normal();
                value
            })
            .collect()
    }

    #[test]
    fn what_only_wanders_is_seldom_said_to_drift() {
        let mut chance = Chance::new(6);
        for (r, most) in [(0.0, 0.05), (0.3, 0.08), (0.6, 0.12)] {
            let (mut plain, mut widened) = (0, 0);
            for _ in 0..1_000 {
                let values = correlated(&mut chance, r, 30);
                plain += u32::from(trend(&values).unwrap().p_value < 0.05);
                widened += u32::from(trend_of_correlated(&values).unwrap().p_value < 0.05);
            }
            let share = f64::from(widened) / 1_000.0;
            assert!(share <= most && widened <= plain, "{r}: {share}");
        }
        let drifting: Vec<_> = correlated(&mut chance, 0.3, 30)
            .iter()
            .zip(0..)
            .map(|(value, i)| value + 0.3 * f64::from(i))
            .collect();
        assert!(trend_of_correlated(&drifting).unwrap().p_value < 1e-3);
        assert_eq!(trend_of_correlated(&[1.0; 9]), None);
    }

    #[test]
    fn repeats_that_differ_are_told_from_those_that_do_not() {
        let mut chance = Chance::new(5);
        let mut repeats = |shift: f64| -> Vec<Vec<f64>> {
            (0..4)
                .map(|repeat| {
                    let level = if repeat == 2 { 100.0 + shift } else { 100.0 };
                    (0..20).map(|_| level + 5.0 * chance.normal()).collect()
                })
                .collect()
        };
        let differ = between_repeats(&repeats(20.0)).unwrap();
        assert!(differ.p_value < 1e-6 && differ.between_share > 0.5, "{differ:?}");
        assert!((differ.ratio.unwrap() - 1.2).abs() < 0.06, "{differ:?}");
        let rounds = 1_000;
        let found =
            (0..rounds).filter(|_| between_repeats(&repeats(0.0)).unwrap().p_value < 0.05).count();
        assert!((20..80).contains(&found), "{found} of {rounds}");
    }

    #[test]
    fn too_little_is_told_as_such() {
        assert_eq!(trend(&[1.0, 2.0, 3.0]), None);
        assert_eq!(trend(&[f64::INFINITY; 9]), None);
        let flat = trend(&[5.0; 12]).unwrap();
        assert_eq!((flat.p_value, flat.tau, flat.ratio), (1.0, 0.0, Some(1.0)));
        assert_eq!(between_repeats(&[vec![1.0; 9]]), None);
        assert_eq!(between_repeats(&[vec![1.0; 9], vec![1.0; 4]]), None);
        let flat = between_repeats(&[vec![1.0; 9], vec![1.0; 9]]).unwrap();
        assert_eq!((flat.p_value, flat.between_share), (1.0, 0.0));
    }

    proptest! {
        #[test]
        fn turning_the_time_round_turns_the_trend(values in prop::collection::vec(1.0..1e6_f64, 4..40)) {
            let found = trend(&values).unwrap();
            let back: Vec<_> = values.iter().rev().copied().collect();
            let turned = trend(&back).unwrap();
            prop_assert_eq!(found.tau, -turned.tau);
            prop_assert_eq!(found.p_value, turned.p_value);
            prop_assert!((found.slope_per_step + turned.slope_per_step).abs() <= 1e-9 * found.slope_per_step.abs());
            prop_assert!((0.0..=1.0).contains(&found.p_value));
        }
    }
}
