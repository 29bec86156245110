//! Whether calls were spread as they should have been: Pearson's chi-square test
//! of counts per backend against even or weighted shares.
//!
//! The test takes calls for independent draws. Of random picking that is so, and
//! p is evenly spread over trials. Round robin and least loaded spread calls far
//! more evenly than chance would: p close to 1. An L4 balancer draws connections
//! and not calls: p is 0 as soon as connections don't divide evenly. So p tells
//! whether the spread is that of calls drawn by chance; how uneven it is, is told
//! by [`ChiSquare::unevenness`], `jain` and `coefficient_of_variation`.

use super::special::chi_square_tail;

/// The result of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// Σ (count - expected)² / expected.
    pub statistic: f64,
    /// Backends with a weight, less one.
    pub degrees: u32,
    /// The chance of a statistic at least as large if each call were drawn by the
    /// shares, independent of the others.
    pub p_value: f64,
    /// The least of the expected counts; below 5 the p-value is rough (W. G.
    /// Cochran, *Biometrics* 10, 1954).
    pub least_expected: f64,
    /// The size of the effect, without unit: √(statistic / calls), J. Cohen's w.
    /// With even shares it is the coefficient of variation of the counts.
    pub unevenness: f64,
}

/// Tests counts against weights of any sum; a weight of zero expects no call.
///
/// `None` with fewer than two weights above zero, without a call, with other
/// lengths or with a weight that is negative or no number. A call where none was
/// expected makes the statistic infinite and p zero.
pub(crate) fn chi_square(counts: &[u64], weights: &[f64]) -> Option<ChiSquare> {
    let calls = counts.iter().sum::<u64>() as f64;
    let sum: f64 = weights.iter().sum();
    let sound = weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite();
    let used = weights.iter().filter(|weight| **weight > 0.0).count();
    if counts.len() != weights.len() || !sound || used < 2 || calls == 0.0 {
        return None;
    }
    let (mut statistic, mut least_expected) = (0.0, f64::INFINITY);
    for (&count, weight) in counts.iter().zip(weights) {
        let expected = calls * weight / sum;
        if expected > 0.0 {
            statistic += (count as f64 - expected).powi(2) / expected;
            least_expected = least_expected.min(expected);
        } else if count > 0 {
            statistic = f64::INFINITY;
        }
    }
    let degrees = u32::try_from(used - 1).ok()?;
    let p_value =
        if statistic.is_finite() { chi_square_tail(f64::from(degrees), statistic) } else { 0.0 };
    let unevenness = (statistic / calls).sqrt();
    Some(ChiSquare { statistic, degrees, p_value, least_expected, unevenness })
}

/// Jain's fairness index of the counts: 1 when all are equal, 1/n when one has
/// everything (Jain, Chiu, Hawe, *A Quantitative Measure of Fairness*, 1984).
pub(crate) fn jain(counts: &[u64]) -> Option<f64> {
    let sum: f64 = counts.iter().map(|&count| count as f64).sum();
    let squares: f64 = counts.iter().map(|&count| (count as f64).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (counts.len() as f64 * squares))
}

/// Standard deviation of the counts over their mean.
pub(crate) fn coefficient_of_variation(counts: &[u64]) -> Option<f64> {
    let n = counts.len() as f64;
    let mean = counts.iter().map(|&count| count as f64).sum::<f64>() / n;
    let variance = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum::<f64>() / n;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    fn chi_square_even(counts: &[u64]) -> Option<ChiSquare> {
        chi_square(counts, &vec![1.0; counts.len()])
    }

    #[test]
    fn known_answers() {
        // scipy.stats.chisquare.
        let even = chi_square_even(&[16, 18, 16, 14, 12, 12]).unwrap();
        assert!((even.statistic - 2.0).abs() < 1e-12);
        assert!((even.p_value - 0.849_145_036_085_461).abs() < 1e-10);
        assert_eq!(even.degrees, 5);
        let weighted = chi_square(&[315, 108, 101, 32], &[9.0, 3.0, 3.0, 1.0]).unwrap();
        // Mendel's peas: 0.470 with 3 degrees of freedom.
        assert!((weighted.statistic - 0.470_024).abs() < 1e-6);
        assert!((weighted.p_value - 0.925_426).abs() < 1e-6);
    }

    #[test]
    fn too_even_and_too_uneven_are_at_the_two_ends() {
        assert!(chi_square_even(&[1_000, 1_000, 1_000, 1_001]).unwrap().p_value > 0.999);
        let one_has_all = chi_square_even(&[4_000, 0, 0, 0]).unwrap();
        assert_eq!(one_has_all.p_value, 0.0);
        assert!((one_has_all.unevenness - 3_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_can_not_be_tested_is_not() {
        assert_eq!(chi_square_even(&[]), None);
        assert_eq!(chi_square_even(&[5]), None);
        assert_eq!(chi_square_even(&[0, 0]), None);
        assert_eq!(chi_square(&[1, 2], &[1.0]), None);
        assert_eq!(chi_square(&[1, 2], &[1.0, -1.0]), None);
        assert_eq!(chi_square(&[1, 2], &[1.0, f64::NAN]), None);
        assert_eq!(chi_square(&[1, 2], &[1.0, 0.0]), None);
        let unexpected = chi_square(&[5, 5, 1], &[1.0, 1.0, 0.0]).unwrap();
        assert_eq!((unexpected.p_value, unexpected.degrees), (0.0, 1));
    }

    #[test]
    fn random_picking_is_rejected_as_often_as_the_level_says() {
        let mut chance = Chance::new(11);
        let rounds = 4_000;
        let rejected = (0..rounds)
            .filter(|_| {
                let mut counts = [0_u64; 4];
                (0..400).for_each(|_| counts[chance.below(4)] += 1);
                chi_square_even(&counts).unwrap().p_value < 0.05
            })
            .count();
        let share = rejected as f64 / f64::from(rounds);
        assert!((0.04..0.06).contains(&share), "{share}");
    }

    proptest! {
        #[test]
        fn unevenness_is_the_coefficient_of_variation(counts in prop::collection::vec(0_u64..10_000, 2..20)) {
            prop_assume!(counts.iter().sum::<u64>() > 0);
            let test = chi_square_even(&counts).unwrap();
            let variation = coefficient_of_variation(&counts).unwrap();
            prop_assert!((test.unevenness - variation).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&test.p_value));
        }
    }

    #[test]
    fn fairness_is_one_when_even_and_one_nth_when_not() {
        assert_eq!(jain(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(jain(&[20, 0, 0, 0]), Some(0.25));
        assert_eq!(jain(&[0, 0]), None);
        assert_eq!(coefficient_of_variation(&[5, 5]), Some(0.0));
        assert_eq!(coefficient_of_variation(&[10, 0]), Some(1.0));
    }
}
