//! A figure over trials, and one peer's beside another's.
//!
//! The figure is the median over the trials, which is what `[expect]` and the JSON
//! say too, qualified by an interval that [`measure::statistics::interval`] makes of
//! them. Two peers are compared repeat by repeat, since what slowed the machine in
//! one repeat slowed both: that is where the interval of their ratio or difference comes
//! from. The ratio and the difference themselves are those of the two medians, so that
//! figures that stand beside each other add up; an interval that does not hold them is
//! widened until it does, and that is the one that is judged.

pub use measure::statistics::interval::Difference;
use measure::{
    figure::Figure,
    statistics::{
        interval::{self, over_trials, ratio_paired},
        median,
    },
};

/// The chance that an interval holds what it is about.
pub const LEVEL: f64 = 0.95;
/// The level as it is written.
pub const LEVEL_TEXT: &str = "95 %";
/// Fewest repeats for an interval: that of two is Student's too, and so wide that
/// it misleads more than it tells.
pub(crate) const FEWEST_REPEATS: usize = 3;
/// A figure over the trials of a peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median over the trials.
    pub value: f64,
    /// Where the true value lies with the chance [`LEVEL`]; `None` with fewer than
    /// `FEWEST_REPEATS` trials.
    pub interval: Option<(f64, f64)>,
    /// The lowest trial.
    pub lowest: f64,
    /// The highest trial.
    pub highest: f64,
    /// How many trials have the figure.
    pub trials: usize,
}

impl Estimate {
    /// Over the trials' values; `None` without any.
    pub fn over(values: &[f64]) -> Option<Self> {
        let value = median(values)?;
        let interval = (values.len() >= FEWEST_REPEATS)
            .then(|| over_trials(values, LEVEL)?.interval)
            .flatten()
            // Around the centre of lopsided trials an interval can lie beside
            // their median. Widening it costs no certainty.
            .map(|interval| (interval.low.min(value), interval.high.max(value)));
        Some(Self {
            value,
            interval,
            lowest: values.iter().copied().reduce(f64::min)?,
            highest: values.iter().copied().reduce(f64::max)?,
            trials: values.len(),
        })
    }

    /// A figure over the trials' values, with an interval that reaches no further than the
    /// figure can; `None` without any.
    pub fn of(figure: Figure, values: &[f64]) -> Option<Self> {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let estimate = Self::over(&values)?;
        Some(match figure.is_part_of_a_whole() {
            true => estimate.within_a_whole(),
            false => estimate.not_negative(),
        })
    }

    /// The same around another value, its interval widened to hold it.
    pub fn around(self, value: f64) -> Self {
        let interval = self.interval.map(|(low, high)| (low.min(value), high.max(value)));
        Self { value, interval, ..self }
    }

    /// Whether every trial of the one lies on the same side of every trial of
    /// the other: for counts, which chance does not blur.
    pub(crate) fn apart_from(&self, other: &Self) -> bool {
        self.highest < other.lowest || other.highest < self.lowest
    }

    /// How large it is, whatever its sign.
    pub fn magnitude(self) -> Self {
        if self.value >= 0.0 {
            return self;
        }
        Self {
            value: -self.value,
            interval: self.interval.map(|(low, high)| (-high, -low)),
            lowest: -self.highest,
            highest: -self.lowest,
            ..self
        }
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            value: self.value * factor,
            interval: self.interval.map(|(low, high)| (low * factor, high * factor)),
            lowest: self.lowest * factor,
            highest: self.highest * factor,
            ..self
        }
    }

    /// The same with its interval cut to what no figure is below. An interval around
    /// values of which some are zero may reach further.
    pub fn not_negative(self) -> Self {
        let interval = self.interval.map(|(low, high)| (low.max(0.0), high));
        Self { interval, ..self }
    }

    /// The same with its interval cut to what a part of a whole can be.
    pub(crate) fn within_a_whole(self) -> Self {
        let interval = self.interval.map(|(low, high)| (low.max(0.0), high.min(1.0)));
        Self { interval, ..self }
    }
}

/// A figure of one peer beside another's, repeat by repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    /// Own median over the other's; `None` when a value is zero.
    pub ratio: Option<interval::Estimate>,
    /// Own median minus the other's; `None` when no repeat has both.
    pub difference: Option<Estimate>,
    /// Whether they differ significantly, and which way.
    pub significant: Difference,
}

impl Beside {
    /// From values of the same repeats.
    pub fn of(own: &[f64], other: &[f64]) -> Self {
        let differences: Vec<f64> = own.iter().zip(other).map(|(a, b)| a - b).collect();
        let medians = median(own).zip(median(other));
        let ratio = ratio_paired(own, other, LEVEL)
            .zip(medians)
            .map(|(ratio, (own, other))| centred(ratio, own / other));
        let difference = Estimate::over(&differences)
            .zip(medians)
            .map(|(estimate, (own, other))| estimate.around(own - other));
        let significant = match ratio {
            _ if own.len() < FEWEST_REPEATS => Difference::TooFew,
            None => Difference::NotSignificant,
            Some(ratio) => ratio.against(1.0),
        };
        Self { ratio, difference, significant }
    }
}

/// An interval of a ratio whose ends are further apart than this leaves open what matters.
const WIDE: f64 = 1.5;

impl Beside {
    /// Whether the repeats tell a difference.
    pub(crate) fn is_significant(&self) -> bool {
        matches!(self.significant, Difference::Less | Difference::Greater)
    }

    /// The ends of the ratio's interval; `None` with too few repeats for one.
    pub(crate) fn ends(&self) -> Option<(f64, f64)> {
        self.ratio.filter(|_| self.significant != Difference::TooFew)?.ends()
    }

    /// The same where the repeats tell no difference because they leave much open, rather
    /// than because there is little.
    pub fn open_ends(&self) -> Option<(f64, f64)> {
        self.ends().filter(|(low, high)| !self.is_significant() && *high > WIDE * low)
    }
}

/// An estimate around another centre, its interval widened to hold it.
pub(crate) fn centred(estimate: interval::Estimate, centre: f64) -> interval::Estimate {
    let widen = |ends: interval::Interval| interval::Interval {
        low: ends.low.min(centre),
        high: ends.high.max(centre),
        ..ends
    };
    interval::Estimate { centre, interval: estimate.interval.map(widen), ..estimate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_the_middle_with_its_interval() {
        assert_eq!(Estimate::over(&[]), None);
        let two = Estimate::over(&[1.0, 2.0]).unwrap();
        assert_eq!((two.interval, two.trials), (None, 2));
        let estimate = Estimate::over(&[9.5, 10.4, 11.0, 10.0, 10.9]).unwrap();
        assert_eq!((estimate.value, estimate.lowest, estimate.highest), (10.4, 9.5, 11.0));
        // scipy.stats.t.interval of the logarithms of five like values.
        let (low, high) = estimate.interval.unwrap();
        assert!((9.0..10.0).contains(&low) && (10.9..11.6).contains(&high), "{low} {high}");
        let other = Estimate::over(&[12.0, 19.0]).unwrap();
        assert!(estimate.apart_from(&other) && other.apart_from(&estimate));
        assert!(!estimate.apart_from(&Estimate::over(&[10.9, 19.0]).unwrap()));
        let skewed =
            Estimate::over(&[[1.0; 14], [1.0; 14].map(|v| v * 9.0)].concat()[..20]).unwrap();
        assert_eq!(skewed.interval.map(|(low, high)| low <= 1.0 && high >= 1.0), Some(true));
        let share = Estimate::of(Figure::MaxShare, &[0.5, 0.75, 1.0, f64::NAN]).unwrap();
        assert_eq!(share.interval.map(|(_, high)| high), Some(1.0));
    }

    #[test]
    fn figures_beside_each_other_add_up() {
        // The median of the differences is 16.4, and their mean ratio 1.35.
        let (own, other) = ([64.5, 61.7, 80.0], [45.3, 45.3, 30.0]);
        let beside = Beside::of(&own, &other);
        let [a, b] = [own, other].map(|values| Estimate::over(&values).unwrap().value);
        let difference = beside.difference.unwrap();
        assert!((difference.value - (a - b)).abs() < 1e-9, "{difference:?}");
        let ratio = beside.ratio.unwrap();
        assert!((ratio.centre - a / b).abs() < 1e-9, "{ratio:?}");
        let ends = ratio.interval.unwrap();
        assert!(ends.low <= ratio.centre && ratio.centre <= ends.high);
    }

    #[test]
    fn a_want_of_repeats_is_not_taken_for_no_difference() {
        let open = Beside::of(&[149.0, 12.0, 160.0], &[17.7, 18.0, 17.0]);
        assert_eq!(open.significant, Difference::NotSignificant);
        assert!(open.open_ends().is_some_and(|(low, high)| low < 1.0 && high > 8.0));
        let alike = Beside::of(&[1.01, 0.99, 1.0], &[1.0, 1.0, 1.0]);
        assert_eq!((alike.significant, alike.open_ends()), (Difference::NotSignificant, None));
    }

    #[test]
    fn peers_are_told_apart_repeat_by_repeat() {
        // The machine was slow in the second repeat; the ratio is not.
        let (own, other) = ([1.10, 2.22, 1.09], [1.0, 2.0, 1.0]);
        assert_eq!(Beside::of(&own, &other).significant, Difference::Greater);
        assert_eq!(Beside::of(&other, &own).significant, Difference::Less);
        assert_eq!(Beside::of(&own[..2], &other[..2]).significant, Difference::TooFew);
        assert_eq!(Beside::of(&own, &[1.2, 2.0, 1.1]).significant, Difference::NotSignificant);
        assert_eq!(Beside::of(&own, &[0.0, 2.0, 1.0]).significant, Difference::NotSignificant);
        assert_eq!(
            Beside::of(&[], &[]),
            Beside { ratio: None, difference: None, significant: Difference::TooFew }
        );
    }
}
