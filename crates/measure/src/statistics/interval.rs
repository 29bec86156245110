//! How far off a figure may be: intervals over trials, for a figure of one peer
//! and for the ratio of two, and what can be told from them.
//!
//! A trial gives one value, and trials are few: 3 to 20. That decides the method.
//! These are the shares, in percent, of 95 % intervals of the mean logarithm that
//! held the true one, in seeded simulations (20,000 intervals for Student's, 2,000
//! for the others), with trials from a normal distribution that varies by 10 %,
//! and from a lognormal one with sigma 0.5, as tail quantiles have it:
//!
//! | method | normal, n = 3 | 5 | 10 | 20 | lognormal, n = 3 | 5 | 10 | 20 |
//! |---|---|---|---|---|---|---|---|---|
//! | Percentile | 75.3 | 84.0 | 89.8 | 92.8 | 75.2 | 84.0 | 90.0 | 93.2 |
//! | Bca | 72.6 | 83.9 | 89.6 | 92.5 | 72.9 | 84.0 | 89.7 | 93.0 |
//! | BootstrapT | 84.8 | 94.8 | 94.4 | 94.7 | 83.9 | 94.7 | 94.3 | 94.9 |
//! | Student | 95.0 | 95.0 | 94.9 | 95.0 | 95.1 | 95.0 | 95.1 | 95.1 |
//!
//! The percentile and BCa bootstraps (B. Efron, R. Tibshirani, *An Introduction to
//! the Bootstrap*, 1993, chapters 13 and 14) can't see past the few values they
//! draw from, and hold the truth far less often than they say. The bootstrap-t
//! (chapter 12) does from n = 5, at a price: with five normal values its interval
//! is 1.3 times as wide as Student's in the median, and over twice as wide in one
//! case of eight, when resamples are all but constant. Student's interval on the
//! logarithms is right at every n, is exact for lognormal values, and for values
//! that vary by 10 % can't be told from exact. So Student's is what
//! [`over_trials`] and the ratios use, and the bootstraps were left out.
//!
//! At n = 3 the interval is right too, and wide: 2.5 standard deviations of a
//! trial to either side, against 1.2 at n = 5 and 0.5 at n = 20. At n = 2 it is 9,
//! which tells nothing but says so.
//!
//! On a machine that others use, trials are not alike: in a phase of steal or of a busy
//! neighbour all are slower by half, and such phases last for several trials. Simulated
//! with phases that hold a fifth of the time and five trials each, runs of 2 peers and 5
//! to 20 repeats (6,000 runs each, `scripts/bench.sh truth coverage`), with disturbed trials
//! measured again as the lab does it, these shares of 95 % intervals hold the truth:
//!
//! | interval | about | n = 5 | 10 | 20 |
//! |---|---|---|---|---|
//! | of a figure | the calm machine | 95.3 | 94.8 | 94.6 |
//! | of a ratio, repeat by repeat | the calm machine | 94.4 | 94.9 | 95.2 |
//! | of a ratio, where the lab sees no phases | all hours | 96.2 | 96.5 | 96.6 |
//! | of a figure, where the lab sees no phases | all hours | 50 | 57 | 54 |
//!
//! The first two are those of runs in which the trials to spare were enough, 57 to 64 of 100;
//! the others say that they are in doubt. So the interval of a figure speaks of the machine
//! while it is calm, and never of another hour. A ratio of two peers speaks of both.
//!
//! The centre is the geometric mean where all values are positive, since ratios
//! and the skew of latencies are made for it; for values that vary by a tenth it
//! is within half a percent of the mean and of the median. Where a value is zero
//! or negative it is the mean, and the interval is Student's own.

use super::special::student_quantile;

/// An interval that holds the true value with the chance `level`, as far as trials
/// are alike and independent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The chance, as 0.95.
    pub level: f64,
}

/// A figure over trials, in the unit of its values; of a ratio, without unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The centre of the values.
    pub centre: f64,
    /// Where the true centre lies; `None` with a single value.
    pub interval: Option<Interval>,
    /// How many values, or pairs, it rests on.
    pub trials: usize,
}

/// What an interval says of A beside B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A is less.
    Less,
    /// A is greater.
    Greater,
    /// No significant difference in these trials. That is not to say that there is
    /// none: see how wide the interval is.
    NotSignificant,
    /// There are too few trials to tell chance from difference.
    TooFew,
}

impl Interval {
    /// Whether it holds a value.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Of an interval of a ratio: how far the true ratio has to lie from a bound, as a
    /// factor, for nine of ten such intervals to lie wholly beyond that.
    pub fn detectable_factor(&self) -> f64 {
        let half = (self.high / self.low).ln() / 2.0;
        let (ten, own) = (student_quantile(MANY_DEGREES, 0.9), f64::midpoint(1.0, self.level));
        // The interval reaches as many standard errors as its level asks for.
        (half * (1.0 + ten / student_quantile(MANY_DEGREES, own))).exp()
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { low: f(self.low), high: f(self.high), ..self }
    }
}

impl Estimate {
    /// How the estimate stands to a value: to 1, for a ratio A / B.
    pub fn against(&self, value: f64) -> Difference {
        match self.interval {
            Some(interval) if interval.high < value => Difference::Less,
            Some(interval) if interval.low > value => Difference::Greater,
            _ => Difference::NotSignificant,
        }
    }

    /// The ends of the interval.
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.interval.map(|interval| (interval.low, interval.high))
    }

    /// Half the interval's width over the centre: 0.05 is ± 5 %. `None` without an
    /// interval or with a centre of zero.
    pub fn relative_half_width(&self) -> Option<f64> {
        let interval = self.interval?;
        let half = (interval.high - interval.low) / 2.0;
        (self.centre != 0.0).then(|| half / self.centre.abs())
    }

    pub(super) fn exp(self) -> Self {
        let interval = self.interval.map(|interval| interval.map(f64::exp));
        Self { centre: self.centre.exp(), interval, ..self }
    }
}

/// The centre of one figure over trials, one value a trial.
///
/// `None` without a value, or when one is not finite, or unless 0 < level < 1.
pub fn over_trials(values: &[f64], level: f64) -> Option<Estimate> {
    match logarithms(values) {
        Some(logs) => Some(student(&logs, level)?.exp()),
        None => student(values, level),
    }
}

/// The ratio A / B of two peers from interleaved trials: `a[i]` and `b[i]` are of
/// the same repeat, so whatever slowed the machine in that repeat slowed both, and
/// drops out.
///
/// `None` unless both have the same number of values, all positive and finite.
pub fn ratio_paired(a: &[f64], b: &[f64], level: f64) -> Option<Estimate> {
    if a.len() != b.len() {
        return None;
    }
    let logs: Vec<_> = logarithms(a)?.into_iter().zip(logarithms(b)?).map(|(a, b)| a - b).collect();
    Some(student(&logs, level)?.exp())
}

/// The ratio A / B of figures from two runs made at different times.
///
/// The trials of a run share the machine as it was in those minutes, so they vary
/// less among themselves than runs do. `moves` is what a run as a whole moves by: the
/// standard deviation of its logarithm, about the relative deviation. It can't be seen
/// within two runs and has to be known from others; its variance is added for each run,
/// as that of a random effect (S. R. Searle and others, *Variance Components*, 1992,
/// chapter 3). With 0 this is Welch's interval (B. L. Welch,
/// *Biometrika* 34, 1947).
///
/// `None` unless all values are positive and finite, and `moves` is not negative. The
/// interval is `None` unless both sides have two values.
pub fn ratio_of_runs(a: &[f64], b: &[f64], moves: f64, level: f64) -> Option<Estimate> {
    let (a, b) = (logarithms(a)?, logarithms(b)?);
    if !is_level(level) || !moves.is_finite() || moves < 0.0 {
        return None;
    }
    let trials = a.len().min(b.len());
    let centre = mean(&a) - mean(&b);
    if trials < 2 {
        return Some(Estimate { centre: centre.exp(), interval: None, trials });
    }
    let part = |values: &[f64]| (variance(values) / values.len() as f64, values.len() as f64 - 1.0);
    let ((var_a, df_a), (var_b, df_b)) = (part(&a), part(&b));
    let var = var_a + var_b + 2.0 * moves * moves;
    // What is known beforehand has no degrees of freedom to lose (Satterthwaite).
    let estimated = var_a * var_a / df_a + var_b * var_b / df_b;
    let degrees = if estimated > 0.0 { var * var / estimated } else { MANY_DEGREES };
    let half = student_quantile(degrees.min(MANY_DEGREES), f64::midpoint(1.0, level)) * var.sqrt();
    let interval = Some(Interval { low: centre - half, high: centre + half, level });
    Some(Estimate { centre, interval, trials }.exp())
}

/// From here on Student's distribution is the normal one for all that is asked of it.
const MANY_DEGREES: f64 = 1e4;

/// Student's interval of the mean. `None` with fewer than two values, with one that is
/// not finite, or unless 0 < level < 1.
pub fn mean_interval(values: &[f64], level: f64) -> Option<Interval> {
    student(values, level)?.interval
}

/// The mean with Student's interval.
fn student(values: &[f64], level: f64) -> Option<Estimate> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) || !is_level(level) {
        return None;
    }
    let (centre, trials) = (mean(values), values.len());
    if trials < 2 {
        return Some(Estimate { centre, interval: None, trials });
    }
    let n = trials as f64;
    let t = student_quantile(n - 1.0, f64::midpoint(1.0, level));
    let half = t * (variance(values) / n).sqrt();
    let interval = Some(Interval { low: centre - half, high: centre + half, level });
    Some(Estimate { centre, interval, trials })
}

/// Logarithms, if all values are positive and finite and there is one.
pub(super) fn logarithms(values: &[f64]) -> Option<Vec<f64>> {
    let positive = !values.is_empty() && values.iter().all(|v| *v > 0.0 && v.is_finite());
    positive.then(|| values.iter().map(|value| value.ln()).collect())
}

pub(super) fn is_level(level: f64) -> bool {
    level > 0.0 && level < 1.0
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The unbiased variance.
pub(super) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::chance::Chance;

    fn ratio_unpaired(a: &[f64], b: &[f64], level: f64) -> Option<Estimate> {
        ratio_of_runs(a, b, 0.0, level)
    }

    /// Trials' values, and the logarithm of their true centre.
    type Source = fn(&mut Chance) -> f64;
    const SOURCES: [(&str, Source, f64); 2] = [
        // The mean of ln(1 + 0.1 z) is -0.1² / 2 - 3 · 0.1⁴ / 4 and smaller terms.
        ("normal, 10 %", |chance| (1.0 + 0.1 * chance.normal()).max(1e-3), -0.005_076_5),
        ("lognormal, 0.5", |chance| (0.5 * chance.normal()).exp(), 0.0),
    ];

    /// The share of intervals on the logarithms that hold the true centre.
    fn coverage(source: Source, truth: f64, trials: usize, rounds: u32) -> f64 {
        let mut chance = Chance::new(17);
        let mut held = 0;
        for _ in 0..rounds {
            let logs: Vec<_> = (0..trials).map(|_| source(&mut chance).ln()).collect();
            let interval = mean_interval(&logs, 0.95).unwrap();
            held += u32::from(interval.holds(truth));
        }
        f64::from(held) / f64::from(rounds)
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        for (name, source, truth) in SOURCES {
            for trials in [3, 5, 8, 10, 20] {
                let held = coverage(source, truth, trials, 20_000);
                assert!((0.94..0.96).contains(&held), "{name}, n = {trials}: {held}");
            }
        }
    }

    #[test]
    fn known_answers() {
        // scipy.stats.t.interval(0.95, 4, mean, sem) of the logarithms.
        let estimate = over_trials(&[10.0, 11.0, 9.5, 10.4, 10.9], 0.95).unwrap();
        let interval = estimate.interval.unwrap();
        assert!((estimate.centre - 10.34463628404341).abs() < 1e-9);
        assert!((interval.low - 9.588700300116988).abs() < 1e-9);
        assert!((interval.high - 11.160167332359094).abs() < 1e-9);
        assert_eq!(estimate.trials, 5);
    }

    #[test]
    fn pairs_take_out_what_both_share() {
        let machine = [1.0, 1.6, 0.8, 1.3, 2.0];
        let b: Vec<_> = machine.iter().map(|slow| 100.0 * slow).collect();
        let noise = [1.10, 1.11, 1.09, 1.105, 1.095];
        let a: Vec<_> = b.iter().zip(noise).map(|(b, noise)| b * noise).collect();
        let paired = ratio_paired(&a, &b, 0.95).unwrap();
        assert!((paired.centre - 1.1).abs() < 1e-3);
        assert_eq!(paired.against(1.0), Difference::Greater);
        let unpaired = ratio_of_runs(&a, &b, 0.0, 0.95).unwrap();
        assert!((unpaired.centre - paired.centre).abs() < 1e-12);
        assert_eq!(unpaired.against(1.0), Difference::NotSignificant);
        let reverse = ratio_paired(&b, &a, 0.95).unwrap();
        assert_eq!(reverse.against(1.0), Difference::Less);
    }

    /// Two equal peers must be told apart in no more than the twentieth part of
    /// runs that a 95 % interval allows, and unequal ones nearly always.
    #[test]
    fn equal_peers_are_seldom_told_apart_and_unequal_ones_often() {
        let mut chance = Chance::new(5);
        let mut detected = |ratio: f64, paired: bool| {
            let rounds = 4_000;
            let mut detected = 0;
            for _ in 0..rounds {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                for _ in 0..5 {
                    let machine = if paired { (0.3 * chance.normal()).exp() } else { 1.0 };
                    a.push(ratio * machine * (0.02 * chance.normal()).exp());
                    b.push(machine * (0.03 * chance.normal()).exp());
                }
                let f = if paired { ratio_paired } else { ratio_unpaired };
                let verdict = f(&a, &b, 0.95).unwrap().against(1.0);
                detected += u32::from(verdict != Difference::NotSignificant);
            }
            f64::from(detected) / f64::from(rounds)
        };
        for paired in [true, false] {
            let equal = detected(1.0, paired);
            assert!((0.03..0.07).contains(&equal), "{paired}: {equal}");
            let unequal = detected(1.1, paired);
            assert!(unequal > 0.95, "{paired}: {unequal}");
        }
    }

    /// Runs on a machine that moves by a tenth from one to the next, while the trials
    /// of each agree: only who knows that may claim 95 %.
    #[test]
    fn runs_that_move_as_a_whole_are_covered_by_who_knows_it() {
        let held = |moves_known: f64| {
            let mut chance = Chance::new(23);
            let mut run = || {
                let whole = 0.1 * chance.normal();
                (0..5).map(|_| (whole + 0.02 * chance.normal()).exp()).collect::<Vec<_>>()
            };
            let rounds = 4_000;
            let holds = (0..rounds).filter(|_| {
                let (after, before) = (run(), run());
                let estimate = ratio_of_runs(&after, &before, moves_known, 0.95).unwrap();
                estimate.interval.unwrap().holds(1.0)
            });
            holds.count() as f64 / f64::from(rounds)
        };
        let (knowing, unknowing) = (held(0.1), held(0.0));
        assert!((0.93..0.97).contains(&knowing), "{knowing}");
        assert!(unknowing < 0.4, "{unknowing}");
        assert_eq!(ratio_of_runs(&[1.0, 2.0], &[1.0, 2.0], -0.1, 0.95), None);
    }

    /// What is said to be seen nine times of ten is.
    #[test]
    fn what_would_have_been_seen_is_known() {
        let mut chance = Chance::new(29);
        let mut run = |ratio: f64| -> Vec<f64> {
            (0..20).map(|_| ratio * (0.05 * chance.normal()).exp()).collect()
        };
        let (mut seen, rounds) = (0, 2_000);
        for _ in 0..rounds {
            let equal = ratio_of_runs(&run(1.0), &run(1.0), 0.0, 0.99).unwrap();
            let factor = equal.interval.unwrap().detectable_factor();
            let slower = ratio_of_runs(&run(factor), &run(1.0), 0.0, 0.99).unwrap();
            seen += u32::from(slower.against(1.0) == Difference::Greater);
        }
        let seen = f64::from(seen) / f64::from(rounds);
        assert!((0.86..0.95).contains(&seen), "{seen}");
    }

    #[test]
    fn too_little_is_told_as_such() {
        assert_eq!(over_trials(&[], 0.95), None);
        assert_eq!(over_trials(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(over_trials(&[1.0, 2.0], 1.0), None);
        let one = over_trials(&[3.0], 0.95).unwrap();
        assert_eq!((one.interval, one.relative_half_width()), (None, None));
        assert_eq!(one.against(1.0), Difference::NotSignificant);
        assert_eq!(ratio_paired(&[1.0], &[1.0, 2.0], 0.95), None);
        assert_eq!(ratio_paired(&[1.0, 0.0], &[1.0, 2.0], 0.95), None);
        assert_eq!(ratio_of_runs(&[], &[1.0], 0.0, 0.95), None);
        assert!(ratio_of_runs(&[1.0], &[1.0, 2.0], 0.0, 0.95).unwrap().interval.is_none());
        let linear = over_trials(&[-1.0, 0.0, 1.0], 0.95).unwrap();
        assert_eq!(linear.centre, 0.0);
        let same = over_trials(&[0.25; 4], 0.95).unwrap();
        assert!(same.relative_half_width().unwrap() < 1e-12);
        let same = ratio_unpaired(&[2.0; 3], &[2.0; 3], 0.95).unwrap();
        assert_eq!(same.against(1.0), Difference::NotSignificant);
        assert_eq!(mean_interval(&[1.0], 0.95), None);
        let interval = mean_interval(&[2.0; 4], 0.95).unwrap();
        assert_eq!((interval.low, interval.high), (2.0, 2.0));
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(1e-6..1e9_f64, 2..20)
    }

    proptest! {
        #[test]
        fn units_do_not_matter_and_more_certainty_is_wider(values in values(), unit in 1e-6..1e6_f64) {
            let estimate = over_trials(&values, 0.95).unwrap();
            let scaled: Vec<_> = values.iter().map(|value| value * unit).collect();
            let other = over_trials(&scaled, 0.95).unwrap();
            let (a, b) = (estimate.interval.unwrap(), other.interval.unwrap());
            prop_assert!((b.low / (a.low * unit) - 1.0).abs() < 1e-6);
            prop_assert!((b.high / (a.high * unit) - 1.0).abs() < 1e-6);
            let wider = over_trials(&values, 0.99).unwrap().interval.unwrap();
            prop_assert!(wider.low <= a.low && a.low <= estimate.centre);
            prop_assert!(estimate.centre <= a.high && a.high <= wider.high);
        }

        #[test]
        fn the_ratio_of_b_to_a_is_the_inverse(pairs in prop::collection::vec((1e-3..1e3_f64, 1e-3..1e3_f64), 2..12)) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            for f in [ratio_paired, ratio_unpaired] {
                let (one, other) = (f(&a, &b, 0.95).unwrap(), f(&b, &a, 0.95).unwrap());
                prop_assert!((one.centre * other.centre - 1.0).abs() < 1e-9);
                let (one, other) = (one.interval.unwrap(), other.interval.unwrap());
                prop_assert!((one.low * other.high - 1.0).abs() < 1e-9);
            }
        }
    }
}
