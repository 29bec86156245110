//! How long it took until backends were in balance again after a change: one
//! added, removed, slowed or come back.

/// How far from its share a backend may be and still count as in balance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// As a share of all calls: 0.05 allows 20 % to 30 % where 25 % are due.
    pub absolute: f64,
    /// And this many standard deviations of a share drawn by chance, √(s (1 - s) /
    /// calls), so that intervals with few calls aren't out of balance by bad luck.
    /// Over all backends and intervals 3 is seldom exceeded.
    pub deviations: f64,
}

/// The result: indices of intervals, which the caller turns into times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// In balance from this interval to the end.
    From(usize),
    /// Out of balance in the last interval with calls.
    Never,
}

/// The first interval from `change` on after which all shares stay within the
/// tolerance of their targets, to the end of the series.
///
/// `intervals` are calls per backend for equal intervals, `weights` the targets,
/// of any sum: those in force after the change. An interval without calls says
/// nothing and changes nothing. `None` when no interval from `change` on has
/// calls, when lengths differ, or when a weight is negative or none is positive.
pub fn time_until_balance(
    intervals: &[Vec<u64>],
    weights: &[f64],
    change: usize,
    tolerance: Tolerance,
) -> Option<Settling> {
    let sum: f64 = weights.iter().sum();
    let sound = weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite();
    let after = intervals.get(change..)?;
    if !sound || after.iter().any(|counts| counts.len() != weights.len()) {
        return None;
    }
    let mut result = None;
    for (index, counts) in after.iter().enumerate() {
        let calls = counts.iter().sum::<u64>() as f64;
        if calls == 0.0 {
            continue;
        }
        let balanced = counts.iter().zip(weights).all(|(&count, weight)| {
            let target = weight / sum;
            let chance = (target * (1.0 - target) / calls).sqrt();
            let allowed = tolerance.absolute + tolerance.deviations * chance;
            (count as f64 / calls - target).abs() <= allowed
        });
        result = match (balanced, result) {
            (false, _) => Some(Settling::Never),
            (true, Some(Settling::From(from))) => Some(Settling::From(from)),
            (true, _) => Some(Settling::From(change + index)),
        };
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    const EXACT: Tolerance = Tolerance { absolute: 0.05, deviations: 0.0 };

    #[test]
    fn balance_counts_from_where_it_lasts() {
        let even = vec![100, 100];
        let uneven = vec![150, 50];
        let none = vec![0, 0];
        let series = [&even, &uneven, &even, &uneven, &none, &even, &none, &even].map(Clone::clone);
        let from = |change| time_until_balance(&series, &[1.0, 1.0], change, EXACT);
        assert_eq!(from(0), Some(Settling::From(5)));
        assert_eq!(from(6), Some(Settling::From(7)));
        assert_eq!(from(8), None);
        assert_eq!(from(9), None);
        let ends_badly = &series[..5];
        assert_eq!(time_until_balance(ends_badly, &[1.0, 1.0], 0, EXACT), Some(Settling::Never));
        assert_eq!(time_until_balance(&series, &[3.0, 1.0], 3, EXACT), Some(Settling::Never));
        assert_eq!(
            time_until_balance(&series[3..4], &[3.0, 1.0], 0, EXACT),
            Some(Settling::From(0))
        );
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let series = [vec![1, 1]];
        for weights in [&[1.0][..], &[0.0, 0.0], &[1.0, -1.0], &[1.0, f64::NAN]] {
            assert_eq!(time_until_balance(&series, weights, 0, EXACT), None);
        }
    }

    #[test]
    fn chance_alone_is_not_out_of_balance() {
        let tolerance = Tolerance { absolute: 0.01, deviations: 4.0 };
        let mut chance = Chance::new(8);
        let series: Vec<Vec<u64>> = (0..200)
            .map(|_| {
                let mut counts = vec![0; 4];
                (0..50).for_each(|_| counts[chance.below(4)] += 1);
                counts
            })
            .collect();
        let found = time_until_balance(&series, &[1.0; 4], 0, tolerance);
        assert_eq!(found, Some(Settling::From(0)));
    }

    proptest! {
        #[test]
        fn after_the_answer_all_is_in_balance(
            series in prop::collection::vec(prop::collection::vec(0_u64..30, 3), 1..30),
            change in 0_usize..5,
        ) {
            let tolerance = Tolerance { absolute: 0.2, deviations: 0.0 };
            let Some(Settling::From(from)) = time_until_balance(&series, &[1.0; 3], change, tolerance)
            else { return Ok(()); };
            prop_assert!(from >= change);
            let later = time_until_balance(&series, &[1.0; 3], from, tolerance);
            prop_assert_eq!(later, Some(Settling::From(from)));
            for counts in &series[from..] {
                let calls = counts.iter().sum::<u64>() as f64;
                let off = |count: &u64| (*count as f64 / calls - 1.0 / 3.0).abs();
                prop_assert!(calls == 0.0 || counts.iter().all(|count| off(count) <= 0.2));
            }
        }
    }
}
