//! Whether the arrivals were what was asked for: the rate, and for Poisson
//! arrivals the gaps.
//!
//! Times and gaps may be in any unit, the same for all of a call's arguments. A
//! trial has so many calls that a clock of a microsecond's resolution is enough
//! to reject any model. Test some thousands of neighbouring gaps rather than all,
//! and look at the size of the effect.

use super::special::{gamma_q, normal_two_sided};

/// The Anderson-Darling test of gaps against an exponential distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AndersonDarling {
    /// A², which weighs deviations in both tails most.
    pub statistic: f64,
    /// The chance of a statistic at least as large from exponential gaps.
    pub p_value: f64,
    /// The largest distance between the gaps' distribution and the exponential
    /// one, from 0 to 1 (Kolmogorov's): the size of the effect.
    pub distance: f64,
}

/// Tests gaps against the exponential distribution whose rate is theirs.
///
/// The p-value is by the formulas of R. D'Agostino and M. Stephens, *Goodness-of-
/// Fit Techniques* (1986), section 4.9, for A² (1 + 0.6 / n); good to about a
/// tenth of itself. `None` with fewer than 5 gaps, when one is negative or
/// not finite, or when all are zero.
pub fn exponential(gaps: &[f64]) -> Option<AndersonDarling> {
    let sum: f64 = gaps.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return None;
    }
    let n = gaps.len() as f64;
    let (statistic, distance) = anderson_darling(gaps, n / sum)?;
    let a = statistic * (1.0 + 0.6 / n);
    let p_value = if a < 0.26 {
        1.0 - (-12.2204 + 67.459 * a - 110.3 * a * a).exp()
    } else if a < 0.51 {
        1.0 - (-6.1327 + 20.218 * a - 18.663 * a * a).exp()
    } else if a < 0.95 {
        (0.9209 - 3.353 * a + 0.3 * a * a).exp()
    } else if a < 10.03 {
        (0.731 - 3.009 * a + 0.15 * a * a).exp()
    } else {
        0.0
    };
    Some(AndersonDarling { statistic, p_value: p_value.clamp(0.0, 1.0), distance })
}

/// A² and Kolmogorov's distance to the exponential distribution of a rate.
fn anderson_darling(gaps: &[f64], rate: f64) -> Option<(f64, f64)> {
    if gaps.len() < 5 || gaps.iter().any(|gap| !(*gap >= 0.0 && gap.is_finite())) {
        return None;
    }
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let (mut sum, mut distance) = (0.0, 0.0_f64);
    for (i, gap) in sorted.iter().enumerate() {
        let (below, i) = (-(-rate * gap).exp_m1(), i as f64);
        // ln F of this gap and ln(1 - F) = -rate · gap of its mirror image.
        let log_below = below.max(f64::MIN_POSITIVE).ln();
        sum += (2.0 * i + 1.0) * log_below - (2.0 * (n - i) - 1.0) * rate * gap;
        distance = distance.max((i + 1.0) / n - below).max(below - i / n);
    }
    Some((-n - sum / n, distance))
}

/// How many calls were sent, beside how many were asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateCheck {
    /// Sent over asked: the size of the effect.
    pub ratio: f64,
    /// The chance of a number at least as far off, to either side, from Poisson
    /// arrivals of the rate that was asked for. Constant arrivals are to be judged
    /// by the ratio alone.
    pub p_value: f64,
}

/// Compares `sent` calls with the rate asked for times the length of the trial.
/// `None` unless that is positive and finite.
pub(crate) fn rate_check(sent: u64, expected: f64) -> Option<RateCheck> {
    if !(expected > 0.0 && expected.is_finite()) {
        return None;
    }
    let count = sent as f64;
    // Past a million the incomplete gamma function needs many terms, and the
    // normal distribution is as good.
    let p_value = if expected > 1e6 || count > 1e6 {
        normal_two_sided((count - expected) / expected.sqrt())
    } else {
        // P(N <= count) = Q(count + 1, expected); P(N >= count) = 1 - Q(count, ..).
        let at_most = gamma_q(count + 1.0, expected);
        let at_least = if sent == 0 { 1.0 } else { 1.0 - gamma_q(count, expected) };
        (2.0 * at_most.min(at_least)).min(1.0)
    };
    Some(RateCheck { ratio: count / expected, p_value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    fn gaps(chance: &mut Chance, count: usize, rate: f64) -> Vec<f64> {
        (0..count).map(|_| chance.exponential() / rate).collect()
    }

    #[test]
    fn known_answers() {
        let gaps = [0.12, 1.3, 0.45, 0.02, 2.7, 0.9, 0.33, 0.61, 1.8, 0.05, 0.77, 0.2];
        // A² by its definition in numpy, checked against scipy.stats.anderson; the
        // distance by scipy.stats.kstest.
        let found = exponential(&gaps).unwrap();
        assert!((found.statistic - 0.20050675871597257).abs() < 1e-10, "{found:?}");
        assert!((found.distance - 0.10583671402875877).abs() < 1e-10);
    }

    #[test]
    fn exponential_gaps_are_accused_as_seldom_as_the_level_says() {
        let mut chance = Chance::new(21);
        for count in [10, 100] {
            let rounds = 4_000;
            let mut accused = 0;
            for _ in 0..rounds {
                let gaps = gaps(&mut chance, count, 3.0);
                accused += u32::from(exponential(&gaps).unwrap().p_value < 0.05);
            }
            let share = f64::from(accused) / f64::from(rounds);
            assert!((0.04..0.06).contains(&share), "{count}: {share}");
        }
    }

    #[test]
    fn other_gaps_and_rates_are_found() {
        let mut chance = Chance::new(22);
        let honest = gaps(&mut chance, 2_000, 1_000.0);
        assert!(exponential(&honest).unwrap().p_value > 0.01);
        assert!(exponential(&[0.001; 100]).unwrap().p_value < 1e-6, "constant gaps");
        let erlang: Vec<_> = honest.chunks(2).map(|pair| pair[0] + pair[1]).collect();
        assert!(exponential(&erlang).unwrap().p_value < 1e-6, "every second call");
        // A pacer that rounds to a millisecond, at a mean gap of a millisecond.
        let rounded: Vec<_> = honest.iter().map(|gap| (gap * 1e3).round() / 1e3).collect();
        let found = exponential(&rounded).unwrap();
        assert!(found.p_value < 1e-6 && found.distance > 0.2, "{found:?}");
    }

    #[test]
    fn rates_are_checked_at_every_size() {
        for expected in [0.5, 100.0, 1e5, 1e8] {
            let exact = rate_check(expected as u64, expected).unwrap();
            assert!(exact.p_value > 0.5, "{expected}: {exact:?}");
            let off = rate_check((expected * 1.5 + 20.0) as u64, expected).unwrap();
            assert!(off.p_value < 1e-3, "{expected}: {off:?}");
        }
        let (below, above) = (rate_check(999_000, 1e6), rate_check(1_000_999, 1_000_001.0 + 998.0));
        assert!((below.unwrap().p_value - 0.317).abs() < 0.01, "one standard deviation");
        assert!(above.unwrap().p_value > 0.9);
        assert_eq!(rate_check(1, 0.0), None);
        assert_eq!(rate_check(0, 20.0).unwrap().ratio, 0.0);
        assert!(rate_check(0, 20.0).unwrap().p_value < 1e-7);
    }

    #[test]
    fn what_can_not_be_tested_is_not() {
        assert_eq!(exponential(&[1.0; 4]), None);
        assert_eq!(exponential(&[0.0; 9]), None);
        assert_eq!(exponential(&[1.0, 2.0, 3.0, 4.0, -1.0]), None);
        assert_eq!(exponential(&[f64::INFINITY; 9]), None);
        // Gaps of zero, as a coarse clock has them, are finite news.
        let zeros = exponential(&[0.0, 0.0, 0.0, 1.0, 1.0]).unwrap();
        assert!(zeros.statistic.is_finite());
    }

    proptest! {
        #[test]
        fn units_do_not_matter(gaps in prop::collection::vec(1e-6..10.0_f64, 5..60), unit in 1e-3..1e3_f64) {
            let scaled: Vec<_> = gaps.iter().map(|gap| gap * unit).collect();
            let (a, b) = (exponential(&gaps).unwrap(), exponential(&scaled).unwrap());
            prop_assert!((a.statistic - b.statistic).abs() < 1e-6 * (1.0 + a.statistic));
            prop_assert!((0.0..=1.0).contains(&a.p_value) && (0.0..=1.0).contains(&a.distance));
        }
    }
}
