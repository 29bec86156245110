//! How much a series of neighbouring values tells: calls that waited in the same
//! queue are alike, and ten thousand of them may be worth a hundred independent
//! ones.
//!
//! Series are in the order of time, such as the latencies of a trial's calls by
//! their due time.

use super::{interval::mean, special::normal_two_sided};

/// Means of `batches` equal stretches of a series; what is left over at the end is
/// dropped. `None` unless there is a value for each batch.
pub(crate) fn batch_means(series: &[f64], batches: usize) -> Option<Vec<f64>> {
    let size = series.len().checked_div(batches).filter(|size| *size > 0)?;
    Some(series.chunks_exact(size).take(batches).map(mean).collect())
}

/// The correlation of values with those `lag` places later, from -1 to 1. Beyond
/// 2 / √n it is more than chance. `None` with fewer than lag + 3 values, without
/// variation, or when a value is not finite.
pub(crate) fn autocorrelation(series: &[f64], lag: usize) -> Option<f64> {
    if series.len() < lag.checked_add(3)? || series.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = mean(series);
    let squares: f64 = series.iter().map(|value| (value - mean).powi(2)).sum();
    let products: f64 =
        series.iter().zip(&series[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
    (squares > 0.0).then(|| products / squares)
}

/// Whether neighbours are independent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbours {
    /// Squared differences of neighbouring ranks over those from the mean rank: 2
    /// when independent, less when neighbours are alike, more when they alternate.
    pub ratio: f64,
    /// The chance of a ratio at least as far from 2 if they were.
    pub p_value: f64,
}

/// Von Neumann's ratio of the ranks (R. Bartels, *Journal of the American
/// Statistical Association* 77, 1982), which unlike that of the values holds for
/// every distribution.
///
/// The p-value is the normal approximation: good from about 10 values on, and
/// `None` below, as without variation or when a value is not finite.
pub fn neighbours(series: &[f64]) -> Option<Neighbours> {
    let ranks = super::ranks(series).filter(|ranks| ranks.len() >= 10)?;
    let n = ranks.len() as f64;
    let steps: f64 = ranks.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum();
    let middle = f64::midpoint(n, 1.0);
    let squares: f64 = ranks.iter().map(|rank| (rank - middle).powi(2)).sum();
    if squares <= 0.0 {
        return None;
    }
    let ratio = steps / squares;
    let variance = 4.0 * (n - 2.0) * (5.0 * n * n - 2.0 * n - 9.0)
        / (5.0 * n * (n + 1.0) * (n - 1.0) * (n - 1.0));
    Some(Neighbours { ratio, p_value: normal_two_sided((ratio - 2.0) / variance.sqrt()) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    /// x_i = r x_{i-1} + noise, whose correlation at lag k is r^k, and n values of
    /// which are worth n (1 - r) / (1 + r).
    fn correlated(seed: u64, r: f64, length: usize) -> Vec<f64> {
        let mut chance = Chance::new(seed);
        let mut value = chance.normal() / (1.0 - r * r).sqrt();
        (0..length)
            .map(|_| {
                value = r * value + chance.normal();
                value
            })
            .collect()
    }

    #[test]
    fn known_answers() {
        // By hand: mean 2.5, deviations -1.5 -0.5 0.5 1.5, squares 5, products at
        // lag one 0.75 - 0.25 + 0.75.
        assert!((autocorrelation(&[1.0, 2.0, 3.0, 4.0], 1).unwrap() - 0.25).abs() < 1e-12);
        // Ten in order: nine steps of 1 over 82.5.
        let rising: Vec<_> = (0..10).map(f64::from).collect();
        assert!((neighbours(&rising).unwrap().ratio - 9.0 / 82.5).abs() < 1e-12);
        assert!(neighbours(&rising).unwrap().p_value < 0.01);
        assert_eq!(batch_means(&[1.0, 3.0, 5.0, 7.0, 100.0], 2), Some(vec![2.0, 6.0]));
        assert_eq!(batch_means(&[1.0], 2), None);
        assert_eq!(batch_means(&[1.0], 0), None);
    }

    #[test]
    fn correlation_is_found_at_every_lag() {
        let series = correlated(1, 0.8, 100_000);
        for lag in [0, 1, 2, 5] {
            let expected = 0.8_f64.powi(lag);
            let found = autocorrelation(&series, lag as usize).unwrap();
            assert!((found - expected).abs() < 0.02, "{lag}: {found}");
        }
    }

    #[test]
    fn independent_neighbours_are_accused_as_seldom_as_the_level_says() {
        let mut chance = Chance::new(9);
        let accused = (0..4_000)
            .filter(|_| {
                let series: Vec<_> = (0..40).map(|_| chance.exponential().powi(3)).collect();
                neighbours(&series).unwrap().p_value < 0.05
            })
            .count();
        assert!((150..250).contains(&accused), "{accused} of 4000");
        assert!(neighbours(&correlated(2, 0.5, 200)).unwrap().p_value < 1e-4);
    }

    #[test]
    fn too_little_is_told_as_such() {
        assert_eq!(autocorrelation(&[1.0, 2.0], 0), None);
        assert_eq!(autocorrelation(&[1.0; 9], 1), None);
        assert_eq!(autocorrelation(&[1.0; 9], usize::MAX), None);
        assert_eq!(neighbours(&[1.0; 20]), None);
    }

    proptest! {
        #[test]
        fn correlation_stays_within_one(series in prop::collection::vec(-1e6..1e6_f64, 3..60), lag in 0_usize..20) {
            if let Some(found) = autocorrelation(&series, lag) {
                prop_assert!(found.abs() <= 1.0 + 1e-12);
            }
            if let Some(found) = neighbours(&series) {
                prop_assert!((0.0..=1.0).contains(&found.p_value) && found.ratio >= 0.0);
            }
        }
    }
}
