//! Where the warm-up ends: from the series of a trial, not from a guess.
//!
//! Two ways that fail differently. MSER-5 (K. P. White, *Simulation* 69, 1997)
//! cuts where the mean of what is left is surest, and finds slow approaches to the
//! steady state as well as jumps. Pettitt's rank test (*Applied Statistics* 28,
//! 1979) finds the one place where the level changes, can't be misled by a few
//! outliers, and gives a p-value.
//!
//! A series has one value for each of equal intervals, such as the mean latency of
//! every 100 ms. Left out: cutting; the caller turns an index into a time.

use super::{drift::trend_of_correlated, independence::batch_means};

/// Values that MSER-5 joins to one.
const MSER_BATCH: usize = 5;

/// What a series says of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmUp {
    /// Steady from this index on; 0 when it was from the start.
    Settled {
        /// Values to cut off.
        cut: usize,
    },
    /// What the best cut within the first half leaves still has a trend.
    NotSettled,
}

/// Means that what is left is joined to, before it is tested for a trend.
const TREND_VALUES: usize = 30;
/// The p-value below which what is left is said to have a trend. The cut is chosen
/// from the same values, so small p-values are commoner than they say: of a
/// hundred steady trials about one is accused, and not one of five hundred.
const TREND_P: f64 = 0.002;

/// The end of the warm-up by MSER-5: the cut d, in steps of five values, that
/// makes Σ_{i > d} (z_i - mean)² / (n - d)² least, z being means of five.
///
/// Cuts go up to half of the series. White takes a best cut in the second half as
/// a sign that the series is not steady; of white noise that is so every tenth
/// time, so here what is left is tested for a trend instead.
///
/// At least 50 values are needed to tell; `None` below, or when a value is not
/// finite. Values past the last whole five are not looked at.
pub(crate) fn mser5(series: &[f64]) -> Option<WarmUp> {
    if series.len() < 10 * MSER_BATCH || series.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let batches: Vec<f64> = series
        .chunks_exact(MSER_BATCH)
        .map(|five| five.iter().sum::<f64>() / MSER_BATCH as f64)
        .collect();
    let n = batches.len();
    // From the end, so that mean and squares of each rest follow from the one
    // before (Welford's update).
    let (mut mean, mut squares) = (0.0, 0.0);
    let mut best = (f64::INFINITY, 0);
    for (i, value) in batches.iter().enumerate().rev() {
        let left = (n - i) as f64;
        let off = value - mean;
        mean += off / left;
        squares += off * (value - mean);
        let error = squares / (left * left);
        // An equal error further left is a longer rest, and wins.
        if i <= n / 2 && error <= best.0 {
            best = (error, i);
        }
    }
    let cut = best.1;
    let rest = batch_means(&batches[cut..], TREND_VALUES.min(n - cut))?;
    let steady = trend_of_correlated(&rest).is_none_or(|trend| trend.p_value >= TREND_P);
    Some(if steady { WarmUp::Settled { cut: cut * MSER_BATCH } } else { WarmUp::NotSettled })
}

/// Where the level of a series changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value after the change.
    pub index: usize,
    /// The chance of a change as marked if all values were alike and independent;
    /// approximate, and too large rather than too small.
    pub p_value: f64,
    /// Median after over median before, the size of the effect; `None` when the
    /// one before is zero.
    pub ratio: Option<f64>,
}

/// The most likely place of one change of level, by Pettitt's rank test. It is
/// robust: an outlier counts for no more than its rank.
///
/// `None` with fewer than 8 values, or when one is not finite.
pub(crate) fn change_point(series: &[f64]) -> Option<ChangePoint> {
    let ranks = super::ranks(series).filter(|ranks| ranks.len() >= 8)?;
    let n = ranks.len() as f64;
    let (mut sum, mut most, mut index) = (0.0, 0.0, 0);
    for (i, rank) in ranks.iter().enumerate().take(ranks.len() - 1) {
        // U_t = 2 Σ_{i <= t} r_i - t (n + 1).
        sum += 2.0 * rank - (n + 1.0);
        if f64::abs(sum) > most {
            (most, index) = (f64::abs(sum), i + 1);
        }
    }
    let p_value = (2.0 * (-6.0 * most * most / (n * n * n + n * n)).exp()).min(1.0);
    if index == 0 {
        return Some(ChangePoint { index, p_value, ratio: Some(1.0) });
    }
    let (before, after) = series.split_at(index);
    let before = crate::statistics::median(before)?;
    let after = crate::statistics::median(after)?;
    let ratio = (before != 0.0).then(|| after / before);
    Some(ChangePoint { index, p_value, ratio })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    fn noise(seed: u64, length: usize) -> Vec<f64> {
        let mut chance = Chance::new(seed);
        (0..length).map(|_| 100.0 + 5.0 * chance.normal()).collect()
    }

    #[test]
    fn a_slow_start_is_cut_and_a_steady_one_is_kept() {
        let (mut accused, mut lost) = (0, 0);
        for seed in 0..200 {
            let steady = noise(seed, 300);
            match mser5(&steady).unwrap() {
                WarmUp::Settled { cut } => lost += cut,
                WarmUp::NotSettled => accused += 1,
            }
            let mut slow = steady;
            for (i, value) in slow.iter_mut().enumerate() {
                *value += 200.0 * (-(i as f64) / 15.0).exp();
            }
            // At 40 the start is still 3 standard deviations above the level.
            match mser5(&slow).unwrap() {
                WarmUp::Settled { cut } => assert!(cut >= 35, "seed {seed}: {cut}"),
                WarmUp::NotSettled => accused += 1,
            }
        }
        assert!(accused <= 8, "{accused} of 400 accused");
        assert!(lost <= 3_000, "steady values lost: {lost} of 60000");
    }

    /// Means of intervals that are short against the queue's memory.
    #[test]
    fn a_queue_that_wanders_is_seldom_accused() {
        let mut chance = Chance::new(12);
        let mut accused = 0;
        for _ in 0..300 {
            let mut value = 0.0;
            let series: Vec<f64> = (0..300)
                .map(|_| {
                    value = 0.8 * value + chance.normal();
                    100.0 + value
                })
                .collect();
            accused += u32::from(mser5(&series) == Some(WarmUp::NotSettled));
        }
        assert!(accused <= 15, "{accused} of 300 accused");
    }

    #[test]
    fn what_never_settles_is_told() {
        let rising: Vec<f64> =
            noise(1, 200).iter().zip(0..).map(|(v, i)| v + f64::from(i)).collect();
        assert_eq!(mser5(&rising), Some(WarmUp::NotSettled));
        assert_eq!(mser5(&noise(1, 49)), None);
        assert_eq!(mser5(&[f64::NAN; 60]), None);
        assert_eq!(mser5(&[7.0; 60]), Some(WarmUp::Settled { cut: 0 }));
    }

    #[test]
    fn a_jump_is_found_in_spite_of_outliers() {
        let mut series = noise(2, 120);
        series[40..].iter_mut().for_each(|value| *value += 20.0);
        series[10] = 1e9;
        series[90] = 0.0;
        let change = change_point(&series).unwrap();
        assert!((38..=42).contains(&change.index), "{change:?}");
        assert!(change.p_value < 1e-6 && (change.ratio.unwrap() - 1.2).abs() < 0.05, "{change:?}");
    }

    #[test]
    fn pettitt_s_statistic_is_right() {
        // By hand: ranks 1 to 4 then 5 to 8; U_4 = 2 (1 + 2 + 3 + 4) - 4 · 9 = -16,
        // so p = 2 exp(-6 · 256 / (512 + 64)).
        let change = change_point(&[1.0, 3.0, 2.0, 4.0, 8.0, 6.0, 7.0, 5.0]).unwrap();
        assert_eq!(change.index, 4);
        assert!((change.p_value - 2.0 * (-1536.0_f64 / 576.0).exp()).abs() < 1e-12);
        assert_eq!(change_point(&[1.0; 7]), None);
        assert_eq!(change_point(&[1.0; 9]).unwrap().p_value, 1.0);
    }

    #[test]
    fn alike_values_are_seldom_called_changed() {
        let found = (0..2_000)
            .filter(|&seed| change_point(&noise(seed, 60)).unwrap().p_value < 0.05)
            .count();
        assert!(found <= 100, "{found} of 2000");
    }

    proptest! {
        #[test]
        fn neither_panics_and_units_do_not_matter(series in prop::collection::vec(0.0..1e9_f64, 0..150)) {
            let scaled: Vec<_> = series.iter().map(|value| value * 1024.0).collect();
            prop_assert_eq!(mser5(&series), mser5(&scaled));
            if let Some(change) = change_point(&series) {
                prop_assert!(change.index < series.len());
                prop_assert_eq!(change_point(&scaled).map(|other| other.index), Some(change.index));
            }
        }
    }
}
