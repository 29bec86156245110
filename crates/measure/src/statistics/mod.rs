//! Statistics: how sure one can be of a figure, and whether the assumptions it
//! rests on held.
//!
//! | module | question |
//! |---|---|
//! | [`interval`] | how far off may this figure be, and is A really less than B? |
//! | [`signed_rank`] | the same for pairs with heavy noise |
//! | [`prediction`] | where will trials to come lie? |
//! | [`stopping`] | how many repeats make it sure enough? |
//! | [`shares`] | were calls spread as they should have been? |
//! | [`warm_up`] | where did the warm-up end? |
//! | [`drift`] | did the figure stay where it was, within a trial and between repeats? |
//! | [`arrivals`] | was sent what was asked for, and were gaps as they should be? |
//! | [`independence`] | what are correlated values worth? |
//! | [`settling`] | how long until backends were in balance again? |
//!
//! All functions are pure: the same numbers in, the same numbers out.
//! Those that can't answer (too few values, no variation, something that
//! is no number) return `None`, never a guess. A p-value is the chance of data at
//! least as odd as these if the assumption held; with the many values a trial
//! has, small p-values come from deviations too small to matter, so every test
//! gives the size of the effect beside it.
//!
//! Left out: judging. Which p-value or effect becomes a [`crate::warning`] is for
//! the caller to say.

pub mod arrivals;
#[cfg(test)]
pub(crate) mod chance;
pub mod drift;
pub mod independence;
pub mod interval;
pub mod prediction;
pub mod settling;
pub mod shares;
pub mod signed_rank;
mod special;
pub mod stopping;
pub mod warm_up;

/// Ranks from 1, equal values sharing the mean of theirs; `None` when a value is
/// not finite.
fn ranks(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = (2 * start + group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&index| ranks[index] = rank);
        start += group.len();
    }
    Some(ranks)
}

/// The middle value; the mean of the middle two for an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_values_share_their_ranks() {
        let ranks = super::ranks(&[2.0, 1.0, 2.0, 5.0, 0.0, -0.0]).unwrap();
        assert_eq!(ranks, [4.5, 3.0, 4.5, 6.0, 1.5, 1.5]);
        assert_eq!(super::ranks(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(super::median(&[]), None);
        assert_eq!(super::median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(super::median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
