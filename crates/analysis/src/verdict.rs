//! When one side of a comparison is better than the other: the margins, and what the
//! intervals allow to be said. Nothing here knows which peer is which layer's.

use measure::{figure::Figure, statistics::interval::mean_interval};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    estimate::{Beside, FEWEST_REPEATS, LEVEL},
    model::PeerView,
    overload,
};

/// Figures within this part of each other count as alike: what it takes to change a
/// team's mind, and what a shared machine lets one see.
pub(crate) const ALIKE: f64 = 0.10;
/// The same as it is written.
pub(crate) const ALIKE_TEXT: &str = "10 %";
/// A part of lost calls below this counts as none: one call in a thousand.
const NEGLIGIBLE: f64 = 0.001;

/// One side of a comparison beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Worse, with the whole interval beyond the margin.
    Worse,
    /// Better, with the whole interval beyond the margin.
    Better,
    /// The whole interval lies within the margin.
    Same,
    /// The interval holds both, or there is none.
    Inconclusive,
}

impl Verdict {
    /// By the interval of what less is better of, and the margin within which it counts
    /// as the same.
    pub(crate) fn by((low, high): (f64, f64), (least, most): (f64, f64)) -> Self {
        if high < least {
            Self::Better
        } else if low > most {
            Self::Worse
        } else if low >= least && high <= most {
            Self::Same
        } else {
            Self::Inconclusive
        }
    }

    /// The same where more is better.
    pub(crate) fn reversed(self) -> Self {
        match self {
            Self::Worse => Self::Better,
            Self::Better => Self::Worse,
            Self::Same | Self::Inconclusive => self,
        }
    }

    /// A figure of which less is better, of one peer beside another's. A peer that falls
    /// behind is worse than one that keeps up, by whatever such a load would show in time.
    pub(crate) fn between(own: &PeerView<'_>, other: &PeerView<'_>, figure: Figure) -> Self {
        match (own.overload.is_some(), other.overload.is_some()) {
            (true, false) if !overload::is_meaningful(figure) => Self::Worse,
            (false, true) if !overload::is_meaningful(figure) => Self::Better,
            _ => Self::of(&own.beside(other, figure)),
        }
    }

    /// A figure of which less is better, beside another's: [`ALIKE`] is the margin.
    pub(crate) fn of(beside: &Beside) -> Self {
        match beside.ends() {
            Some(ends) => Self::by(ends, (1.0 / (1.0 + ALIKE), 1.0 + ALIKE)),
            None => Self::Inconclusive,
        }
    }

    /// The part of calls that one peer lost beside another's: the same where neither lost
    /// any worth the name.
    pub(crate) fn of_lost_calls(own: &PeerView<'_>, other: &PeerView<'_>) -> Self {
        let (own, other) = own.paired(other, |figures| {
            Some(figures.get(Figure::ErrorRate)? + figures.get(Figure::UnfinishedRate)?)
        });
        Self::of_rates(&own, &other)
    }

    fn of_rates(own: &[f64], other: &[f64]) -> Self {
        if own.is_empty() {
            return Self::Inconclusive;
        }
        if own.iter().chain(other).all(|rate| *rate <= NEGLIGIBLE) {
            return Self::Same;
        }
        match interval_of(own, other) {
            Some(interval) => Self::by(interval, (-NEGLIGIBLE, NEGLIGIBLE)),
            None => Self::Inconclusive,
        }
    }

    /// Both together, tail latency and lost calls for instance: where one is better and
    /// the other worse, or the data can't tell, neither side is.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Same, both) | (both, Self::Same) => both,
            (one, other) if one == other => one,
            _ => Self::Inconclusive,
        }
    }
}

/// Those comparisons that come out as one of the verdicts wanted.
pub(crate) fn of_verdict<T: Copy>(all: &[(T, Beside)], wanted: &[Verdict]) -> Vec<(T, Beside)> {
    all.iter().filter(|(_, beside)| wanted.contains(&Verdict::of(beside))).copied().collect()
}

/// The interval of differences, repeat by repeat: Student's own, since the logarithms of a few
/// that all happen to have one sign would never hold zero.
pub(crate) fn interval_of(own: &[f64], other: &[f64]) -> Option<(f64, f64)> {
    let differences: Vec<f64> = own.iter().zip(other).map(|(a, b)| a - b).collect();
    if differences.len() < FEWEST_REPEATS {
        return None;
    }
    let interval = mean_interval(&differences, LEVEL)?;
    Some((interval.low, interval.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(own: &[f64], other: &[f64]) -> Verdict {
        Verdict::of(&Beside::of(own, other))
    }

    #[test]
    fn a_tenth_is_what_it_takes() {
        assert_eq!(verdict(&[50.0, 51.0, 49.0], &[100.0; 3]), Verdict::Better);
        assert_eq!(verdict(&[100.0; 3], &[50.0, 51.0, 49.0]), Verdict::Worse);
        assert_eq!(verdict(&[101.0, 100.0, 99.0], &[100.0; 3]), Verdict::Same);
        // Lower without doubt, and not by a tenth without doubt.
        assert_eq!(verdict(&[91.0, 92.0, 90.0], &[100.0; 3]), Verdict::Inconclusive);
        assert_eq!(verdict(&[50.0, 150.0, 100.0], &[100.0; 3]), Verdict::Inconclusive);
        assert_eq!(verdict(&[50.0, 51.0], &[100.0; 2]), Verdict::Inconclusive, "too few");
        assert_eq!(verdict(&[0.0; 3], &[1.0; 3]), Verdict::Inconclusive);
        assert_eq!(Verdict::Better.reversed(), Verdict::Worse);
        assert_eq!(Verdict::Same.reversed(), Verdict::Same);
    }

    #[test]
    fn lost_calls_are_judged_by_their_difference() {
        let of = Verdict::of_rates;
        assert_eq!(of(&[0.0; 3], &[0.0, 0.0, 0.0009]), Verdict::Same);
        assert_eq!(of(&[0.0; 3], &[0.02, 0.021, 0.019]), Verdict::Better);
        assert_eq!(of(&[0.02, 0.021, 0.019], &[0.0; 3]), Verdict::Worse);
        assert_eq!(of(&[0.0; 3], &[0.0, 0.05, 0.001]), Verdict::Inconclusive);
        assert_eq!(of(&[0.02; 2], &[0.0; 2]), Verdict::Inconclusive);
        assert_eq!(of(&[], &[]), Verdict::Inconclusive);
    }

    #[test]
    fn better_in_one_and_worse_in_the_other_is_neither() {
        use Verdict::{Better, Inconclusive, Same, Worse};
        assert_eq!(Better.and(Same), Better);
        assert_eq!(Better.and(Worse), Inconclusive);
        assert_eq!(Same.and(Worse), Worse);
        assert_eq!(Worse.and(Better), Inconclusive);
        assert_eq!(Same.and(Same), Same);
        assert_eq!(Same.and(Inconclusive), Inconclusive);
        assert_eq!(Inconclusive.and(Inconclusive), Inconclusive);
        assert_eq!(Inconclusive.and(Better), Inconclusive);
    }
}
