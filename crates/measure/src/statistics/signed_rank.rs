//! The ratio of two sides that were measured in pairs, whatever their noise is like: the
//! Hodges–Lehmann estimate, with the interval of Wilcoxon's signed-rank test (M. Hollander,
//! D. A. Wolfe, *Nonparametric Statistical Methods*, 1999, chapter 3).
//!
//! On a machine that others use, one pair of ten has a stall under one of its sides, or a
//! phase of steal that begins between the two. Student's interval of the same pairs
//! ([`super::interval::ratio_paired`]) is as wide as the worst of them and stays so for long;
//! this one knows each pair by its rank. [`super::stopping`] shows by simulation what that is
//! worth.
//!
//! What it rests on is that the sides of a pair trade places by the toss of a coin. Between
//! equal sides the sign of each pair's logarithm is then a fair coin too, whatever the machine
//! does and however it does it to several pairs in a row, and the chance of an interval
//! without the truth is no larger than asked, exactly. Between sides that differ, their ratio has to be
//! the same in all pairs.
//!
//! The price is that few pairs can't say much: `n` of them are on one side by chance as often
//! as 2^(1 - n), so that an interval takes [`fewest_pairs`]. Where figures are compared at
//! 95 %, from five repeats, Student's is what is left.

use super::interval::{Estimate, Interval, is_level, logarithms};

/// The ratio A / B of pairs: `a[i]` and `b[i]` are of the same repeat.
///
/// `None` unless both have the same number of values, all positive and finite, and
/// 0 < level < 1. The interval is `None` with fewer than [`fewest_pairs`].
pub fn ratio_by_ranks(a: &[f64], b: &[f64], level: f64) -> Option<Estimate> {
    if a.len() != b.len() || !is_level(level) {
        return None;
    }
    let logs: Vec<_> = logarithms(a)?.into_iter().zip(logarithms(b)?).map(|(a, b)| a - b).collect();
    Some(of_values(&logs, level).exp())
}

/// The geometric centre of all values of both sides, by the same method: what the two sides
/// of [`ratio_by_ranks`] are the multiples of, by the root of the ratio and its inverse.
///
/// `None` as there.
pub fn centre_of_pairs(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let logs = logarithms(a)?.into_iter().zip(logarithms(b)?);
    let middles: Vec<_> = logs.map(|(a, b)| f64::midpoint(a, b)).collect();
    Some(middle(&mut averages(&middles)).exp())
}

/// How many pairs an interval of that level takes.
pub fn fewest_pairs(level: f64) -> usize {
    // All on one side by chance, on either one, have to be rarer than the error.
    (1.0 - (1.0 - level).log2()).ceil() as usize
}

/// The centre of values that scatter evenly around it; not empty.
fn of_values(values: &[f64], level: f64) -> Estimate {
    let mut averages = averages(values);
    let centre = middle(&mut averages);
    let tail = (1.0 - level) / 2.0;
    let interval = rejected(values.len(), tail).map(|sum| {
        let last = averages.len() - 1;
        let (low, high) = (nth(&mut averages, sum), nth(&mut averages, last - sum));
        Interval { low, high, level }
    });
    Estimate { centre, interval, trials: values.len() }
}

/// The mean of every two values, each with itself too (Walsh averages).
fn averages(values: &[f64]) -> Vec<f64> {
    let with_later = |(index, value): (usize, &f64)| {
        values[index..].iter().map(|other| f64::midpoint(*value, *other)).collect::<Vec<_>>()
    };
    values.iter().enumerate().flat_map(with_later).collect()
}

/// The median of values that are not empty; they are put into another order.
fn middle(values: &mut [f64]) -> f64 {
    let last = values.len() - 1;
    f64::midpoint(nth(values, last / 2), nth(values, last.div_ceil(2)))
}

fn nth(values: &mut [f64], index: usize) -> f64 {
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}

/// The largest sum of the ranks on one side that, together with all below it, comes by fair
/// coins no more often than `tail`; `None` where even zero does.
fn rejected(pairs: usize, tail: f64) -> Option<usize> {
    // Half of the distribution, which is even around its middle.
    let most = pairs * (pairs + 1) / 4;
    let mut chance = vec![0.0; most + 1];
    chance[0] = 1.0;
    for rank in 1..=pairs {
        let reached = (rank * (rank + 1) / 2).min(most);
        for sum in (0..=reached).rev() {
            let with = sum.checked_sub(rank).map_or(0.0, |rest| chance[rest]);
            chance[sum] = f64::midpoint(chance[sum], with);
        }
    }
    let mut so_far = 0.0;
    let beyond = chance.iter().position(|chance| {
        so_far += chance;
        so_far > tail
    });
    beyond.unwrap_or(chance.len()).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::{chance::Chance, interval::ratio_paired};

    /// Hamilton's scale before and after a treatment: Hollander and Wolfe, table 3.1 and
    /// examples 3.1, 3.3 and 3.4.
    #[test]
    fn known_answers() {
        let differences = [-0.952, 0.147, -1.022, -0.430, -0.620, -0.590, -0.490, 0.080, -0.010];
        let found = of_values(&differences, 0.96);
        assert!((found.centre - -0.46).abs() < 1e-9, "{}", found.centre);
        let interval = found.interval.unwrap();
        assert!((interval.low - -0.786).abs() < 1e-9, "{}", interval.low);
        assert!((interval.high - -0.010).abs() < 1e-9, "{}", interval.high);
        // Their table A.4: of 9 pairs, 40 or more with 0.020, and 44 or more with 0.004.
        assert_eq!((rejected(9, 0.02), rejected(9, 0.004)), (Some(5), Some(1)));
        assert_eq!(rejected(9, 0.5_f64.powi(9)), Some(0));
        assert_eq!(rejected(9, 0.001), None);
    }

    #[test]
    fn an_interval_takes_as_many_pairs_as_coins() {
        for level in [0.5, 0.9, 0.95, 0.995, 0.999_9] {
            let fewest = fewest_pairs(level);
            let has_interval = |pairs: usize| {
                let (a, b): (Vec<_>, Vec<_>) = (0..pairs).map(|i| (1.1 + i as f64, 1.0)).unzip();
                ratio_by_ranks(&a, &b, level).unwrap().interval.is_some()
            };
            assert!(has_interval(fewest), "{level}: {fewest}");
            assert!(!has_interval(fewest - 1), "{level}: {fewest}");
        }
        assert_eq!(fewest_pairs(0.95), 6);
    }

    #[test]
    fn one_stall_does_not_hide_a_difference() {
        let b = [100.0; 12];
        let mut a: Vec<f64> = (0..12).map(|index| 106.0 + 0.2 * f64::from(index)).collect();
        a[3] = 900.0;
        let by_ranks = ratio_by_ranks(&a, &b, 0.99).unwrap();
        assert!((by_ranks.centre - 1.07).abs() < 0.01, "{by_ranks:?}");
        assert!(by_ranks.interval.unwrap().low > 1.05, "{by_ranks:?}");
        assert!(ratio_paired(&a, &b, 0.99).unwrap().interval.unwrap().low < 1.0);
    }

    /// By fair coins, whatever is behind them: here sizes over three orders of magnitude.
    #[test]
    fn equal_sides_are_told_apart_as_seldom_as_was_asked() {
        let mut chance = Chance::new(41);
        for (pairs, level) in [(8, 0.95), (20, 0.95), (20, 0.99)] {
            let rounds = 4_000;
            let detected = (0..rounds).filter(|_| {
                let (a, b): (Vec<_>, Vec<_>) = (0..pairs)
                    .map(|_| {
                        let apart = (3.0 * chance.exponential()).exp();
                        if chance.below(2) == 0 { (apart, 1.0) } else { (1.0, apart) }
                    })
                    .unzip();
                !ratio_by_ranks(&a, &b, level).unwrap().interval.unwrap().holds(1.0)
            });
            let detected = detected.count() as f64 / f64::from(rounds);
            // Four standard errors above, and not so few that the level is wasted.
            let error = 1.0 - level;
            let four = 4.0 * (error / f64::from(rounds)).sqrt();
            assert!(
                (0.6 * error..=error + four).contains(&detected),
                "{pairs} at {level}: {detected}"
            );
        }
    }

    #[test]
    fn too_little_is_told_as_such() {
        assert_eq!(ratio_by_ranks(&[], &[], 0.95), None);
        assert_eq!(ratio_by_ranks(&[1.0], &[1.0, 2.0], 0.95), None);
        assert_eq!(ratio_by_ranks(&[1.0, 0.0], &[1.0, 2.0], 0.95), None);
        assert_eq!(ratio_by_ranks(&[1.0], &[1.0], 1.0), None);
        assert_eq!(ratio_by_ranks(&[2.0], &[1.0], 0.95).unwrap().interval, None);
        let same = ratio_by_ranks(&[0.25; 8], &[0.25; 8], 0.95).unwrap();
        let interval = same.interval.unwrap();
        assert_eq!((same.centre, interval.low, interval.high), (1.0, 1.0, 1.0));
        assert_eq!(centre_of_pairs(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn the_ratio_of_b_to_a_is_the_inverse(pairs in prop::collection::vec((1e-3..1e3_f64, 1e-3..1e3_f64), 6..12)) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let (one, other) = (
                ratio_by_ranks(&a, &b, 0.95).unwrap(),
                ratio_by_ranks(&b, &a, 0.95).unwrap(),
            );
            prop_assert!((one.centre * other.centre - 1.0).abs() < 1e-9);
            let (own, inverse) = (one.interval.unwrap(), other.interval.unwrap());
            prop_assert!((own.low * inverse.high - 1.0).abs() < 1e-9);
            prop_assert!(own.low <= one.centre && one.centre <= own.high);
            let centre = centre_of_pairs(&a, &b).unwrap();
            prop_assert!((centre / centre_of_pairs(&b, &a).unwrap() - 1.0).abs() < 1e-9);
        }
    }
}
