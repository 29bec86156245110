//! When one peer is better than another: the thresholds, and what the intervals allow
//! to be said. Nothing here knows which peer is which layer's.

use measure::{
    figure::Figure,
    statistics::interval::{Method, mean_interval},
};

use crate::{
    estimate::{Beside, FEWEST_REPEATS, LEVEL},
    model::PeerView,
    overload,
};

/// Figures within this part of each other count as alike: what it takes to change a
/// team's mind, and what a shared machine lets one see.
pub(crate) const ALIKE: f64 = 0.10;
/// A part of lost calls below this counts as none: one call in a thousand.
pub(crate) const NEGLIGIBLE: f64 = 0.001;

/// How a figure of which less is better stands to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// Lower by more than [`ALIKE`], with the whole interval.
    Lower,
    /// Higher by more than that.
    Higher,
    /// The whole interval is within it.
    Alike,
    /// The interval holds both.
    CannotTell,
    /// Too few repeats for an interval.
    TooFew,
}

impl Stands {
    /// How a peer's figure stands to another's. One that falls behind is worse than one
    /// that keeps up, by whatever such a load would show in time.
    pub(crate) fn between(own: &PeerView<'_>, other: &PeerView<'_>, figure: Figure) -> Self {
        match (own.overload.is_some(), other.overload.is_some()) {
            (true, false) if !overload::is_told(figure) => Self::Higher,
            (false, true) if !overload::is_told(figure) => Self::Lower,
            _ => Self::of(&own.beside(other, figure)),
        }
    }

    pub(crate) fn of(beside: &Beside) -> Self {
        let Some(ratio) = beside.ratio else { return Self::CannotTell };
        let Some(interval) = ratio.interval.filter(|_| ratio.trials >= FEWEST_REPEATS) else {
            return Self::TooFew;
        };
        let (least, most) = (1.0 / (1.0 + ALIKE), 1.0 + ALIKE);
        match (interval.low, interval.high) {
            (_, high) if high < least => Self::Lower,
            (low, _) if low > most => Self::Higher,
            (low, high) if low >= least && high <= most => Self::Alike,
            _ => Self::CannotTell,
        }
    }
}

/// How the part of calls that one lost stands to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Fewer,
    More,
    /// Neither lost any worth the name, or both as many.
    Same,
    CannotTell,
}

impl Lost {
    pub(crate) fn of(own: &PeerView<'_>, other: &PeerView<'_>) -> Self {
        let (own, other) = own.paired(other, |figures| {
            Some(figures.get(Figure::ErrorRate)? + figures.get(Figure::UnfinishedRate)?)
        });
        Self::of_rates(&own, &other)
    }

    fn of_rates(own: &[f64], other: &[f64]) -> Self {
        if own.is_empty() {
            return Self::CannotTell;
        }
        if own.iter().chain(other).all(|rate| *rate <= NEGLIGIBLE) {
            return Self::Same;
        }
        let differences: Vec<f64> = own.iter().zip(other).map(|(a, b)| a - b).collect();
        match around(&differences) {
            Some((_, high)) if high < -NEGLIGIBLE => Self::Fewer,
            Some((low, _)) if low > NEGLIGIBLE => Self::More,
            Some((low, high)) if low >= -NEGLIGIBLE && high <= NEGLIGIBLE => Self::Same,
            _ => Self::CannotTell,
        }
    }
}

/// The interval of differences: Student's own, since the logarithms of a few that all
/// happen to have one sign would never hold zero.
pub(crate) fn around(differences: &[f64]) -> Option<(f64, f64)> {
    if differences.len() < FEWEST_REPEATS {
        return None;
    }
    let interval = mean_interval(differences, LEVEL, Method::Student, 0)?;
    Some((interval.low, interval.high))
}

/// Which of two peers serves better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// The one asked about.
    Own,
    /// The other.
    Other,
    /// Neither.
    Alike,
}

/// By tail latency and lost calls together; `None` where the data can't tell, or
/// where one is better in the one and worse in the other.
pub(crate) fn better(tail: Stands, lost: Lost) -> Option<Better> {
    match (tail, lost) {
        (Stands::Lower, Lost::Fewer | Lost::Same) | (Stands::Alike, Lost::Fewer) => {
            Some(Better::Own)
        }
        (Stands::Higher, Lost::More | Lost::Same) | (Stands::Alike, Lost::More) => {
            Some(Better::Other)
        }
        (Stands::Alike, Lost::Same) => Some(Better::Alike),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(own: &[f64], other: &[f64]) -> Stands {
        Stands::of(&Beside::of(own, other))
    }

    #[test]
    fn a_tenth_is_what_it_takes() {
        assert_eq!(stands(&[50.0, 51.0, 49.0], &[100.0; 3]), Stands::Lower);
        assert_eq!(stands(&[100.0; 3], &[50.0, 51.0, 49.0]), Stands::Higher);
        assert_eq!(stands(&[101.0, 100.0, 99.0], &[100.0; 3]), Stands::Alike);
        // Lower without doubt, and not by a tenth without doubt.
        assert_eq!(stands(&[91.0, 92.0, 90.0], &[100.0; 3]), Stands::CannotTell);
        assert_eq!(stands(&[50.0, 150.0, 100.0], &[100.0; 3]), Stands::CannotTell);
        assert_eq!(stands(&[50.0, 51.0], &[100.0; 2]), Stands::TooFew);
        assert_eq!(stands(&[0.0; 3], &[1.0; 3]), Stands::CannotTell);
    }

    #[test]
    fn lost_calls_are_told_by_their_difference() {
        assert_eq!(Lost::of_rates(&[0.0; 3], &[0.0, 0.0, 0.0009]), Lost::Same);
        assert_eq!(Lost::of_rates(&[0.0; 3], &[0.02, 0.021, 0.019]), Lost::Fewer);
        assert_eq!(Lost::of_rates(&[0.02, 0.021, 0.019], &[0.0; 3]), Lost::More);
        assert_eq!(Lost::of_rates(&[0.0; 3], &[0.0, 0.05, 0.001]), Lost::CannotTell);
        assert_eq!(Lost::of_rates(&[0.02; 2], &[0.0; 2]), Lost::CannotTell);
        assert_eq!(Lost::of_rates(&[], &[]), Lost::CannotTell);
    }

    #[test]
    fn better_in_one_and_worse_in_the_other_is_neither() {
        assert_eq!(better(Stands::Lower, Lost::Same), Some(Better::Own));
        assert_eq!(better(Stands::Lower, Lost::More), None);
        assert_eq!(better(Stands::Alike, Lost::More), Some(Better::Other));
        assert_eq!(better(Stands::Higher, Lost::Fewer), None);
        assert_eq!(better(Stands::Alike, Lost::Same), Some(Better::Alike));
        assert_eq!(better(Stands::Alike, Lost::CannotTell), None);
        assert_eq!(better(Stands::TooFew, Lost::Same), None);
    }
}
