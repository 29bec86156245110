//! Repeats added until a figure is sure enough: what the stopping costs.
//!
//! Who looks at the interval after every repeat and stops as soon as it is narrow
//! stops early when the first repeats agree by luck, and then the interval is too
//! narrow. Of 95 % intervals that were to reach ± 5 % within 20 repeats, these
//! shares held the truth (20,000 seeded simulations each):
//!
//! | repeats at first | trials vary by 2 % | 5 % | 10 % |
//! |---|---|---|---|
//! | 3 | 95 % | 92 % | 90 % |
//! | 5 | 95 % | 94 % | 92 % |
//! | 8 | 95 % | 95 % | 94 % |
//! | 3, asking for [`level_to_ask`] | 98 % | 96 % | 96 % |
//!
//! So both the decision to stop and the interval shown are taken at a higher
//! level, which costs a fifth to a third more repeats.
//!
//! Where it has to be known whether two sides differ, within a budget of time and with
//! next to no false finding, an error is spent look by look: [`Spending`].
//!
//! That, and the ranks of [`super::signed_rank`], stand against Student's interval of the same
//! pairs with the error shared evenly among 14 looks, as it was before. Simulated on a machine
//! with phases that slow CPU by half and p99 to three times, which the lab sees nothing of, pairs that
//! vary by 10 % (standard deviation of the logarithm; ratios of peers on a shared virtual
//! machine of two cores varied by 4 to 24 %), and for p99 a stall in one trial of twenty. 180
//! repeats, of two figures 5 % are looked for at 99.5 % (600 comparisons each,
//! `scripts/bench.sh truth power`):
//!
//! | so it is | found by ranks | after repeats (median) | found by Student | after |
//! |---|---|---|---|---|
//! | CPU 5 % more | 99 % | 95 | 72 % | 158 |
//! | the same, and the lab sees the phases | 100 % | 95 | 72 % | 158 |
//! | p99 10 % more | 100 % | 68 | 23 % | 180 |
//! | equal CPU: said to differ, said to be the same | 0, 96 % | 133 | 0, 43 % | 180 |
//! | equal p99: said to differ, said to be the same | 0.2, 73 % | 180 | 0, 0 % | 180 |
//!
//! Where pairs vary by 4 % a CPU of 5 % more is found in all, after 35 repeats; where they vary by 14 %
//! in 73 of 100, and by 20 % in 39: then it takes a longer budget.

/// The chance of a false finding, spent over the looks at pairs that are added until a
/// difference is known or the time is up.
///
/// How much may be spent follows how much of the time is gone (K. Lan, D. DeMets, *Biometrika*
/// 70, 1983), by its square (K. Kim, D. DeMets, *Biometrika* 74, 1987): early looks are for
/// what is plain, and most is left for the last one, which sees the most. The sum of what was spent bounds the chance
/// that any look finds what is not there, without a word on how looks depend on each other.
/// That gives away what their dependence would allow for, about one repeat of twenty, and
/// holds for few pairs and any noise.
#[derive(Clone, Copy, Debug)]
pub struct Spending {
    error: f64,
    spent: f64,
}

impl Spending {
    /// For all looks together to be at `level`, as 0.995.
    pub fn new(level: f64) -> Self {
        Self { error: 1.0 - level, spent: 0.0 }
    }

    /// What a look may err by that is made when `fraction` of the time is gone. What looks
    /// before it left is in it.
    pub fn spend(&mut self, fraction: f64) -> f64 {
        let due = self.error * fraction.clamp(0.0, 1.0).powi(2);
        let error = (due - self.spent).max(0.0);
        self.spent += error;
        error
    }
}

/// The level to ask of an interval that is looked at after every repeat, so that
/// it holds the truth with the chance `level` when repeats have stopped: 0.98 for
/// 0.95.
pub fn level_to_ask(level: f64) -> f64 {
    1.0 - 0.4 * (1.0 - level)
}

/// After how many pairs they are looked at: each time after two fifths more, so that little
/// time is lost once it is known, from the first on that can say anything.
pub fn looks() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(FIRST_LOOK), |pairs| Some(pairs + pairs * 2 / 5))
        .take_while(|&pairs| pairs <= MOST_PAIRS)
}

/// A tenth of what fits into 20 minutes at two short trials a pair.
const FIRST_LOOK: usize = 18;
/// Beyond, what is not known will not be.
pub const MOST_PAIRS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{chance::Chance, interval::over_trials};

    /// The share of intervals that hold the truth, and the mean number of repeats.
    fn stopped(level: f64, first: usize, spread: f64) -> (f64, f64) {
        let mut chance = Chance::new(13);
        let (mut held, mut repeats) = (0, 0);
        let rounds = 4_000;
        for _ in 0..rounds {
            let mut values = Vec::new();
            let interval = loop {
                values.push((spread * chance.normal()).exp());
                if values.len() < first {
                    continue;
                }
                let estimate = over_trials(&values, level).unwrap();
                if values.len() == 20 || estimate.relative_half_width().unwrap() <= 0.05 {
                    break estimate.interval.unwrap();
                }
            };
            held += u32::from(interval.holds(1.0));
            repeats += values.len();
        }
        (f64::from(held) / f64::from(rounds), repeats as f64 / f64::from(rounds))
    }

    #[test]
    fn intervals_that_decide_when_to_stop_have_to_ask_for_more() {
        for spread in [0.05, 0.1] {
            let (plain, _) = stopped(0.95, 3, spread);
            assert!(plain < 0.935, "{spread}: {plain}");
            let (asked, _) = stopped(level_to_ask(0.95), 3, spread);
            assert!((0.945..0.975).contains(&asked), "{spread}: {asked}");
        }
        let (plain, repeats) = stopped(0.95, 3, 0.02);
        assert!(plain > 0.94 && repeats < 4.0, "{plain} {repeats}");
    }

    #[test]
    fn looks_together_spend_no_more_than_there_is() {
        let mut spending = Spending::new(0.995);
        let spent = [0.1, 0.3, 0.2, 0.6, 1.0, 1.3].map(|fraction| spending.spend(fraction));
        assert!((spent.iter().sum::<f64>() - 0.005).abs() < 1e-12, "{spent:?}");
        assert!((spent[0] - 0.005 * 0.01).abs() < 1e-12, "{spent:?}");
        assert!(spent[4] > 0.6 * 0.005, "most is for the last look: {spent:?}");
        assert_eq!((spent[2], spent[5]), (0.0, 0.0), "time does not go back, nor beyond");
    }

    #[test]
    fn looks_are_few_and_far_between() {
        let looks: Vec<_> = looks().collect();
        assert_eq!(looks[..5], [18, 25, 35, 49, 68]);
        assert!(looks.len() < 15 && looks.last().is_some_and(|&last| last > MOST_PAIRS / 2));
    }
}
