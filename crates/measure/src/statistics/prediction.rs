//! Where the mean of trials to come will lie, told from simulations.
//!
//! A simulation is off for two reasons that chance knows: the calls and services of the
//! trials to come are others (its seeds tell by how much), and the machine that it was
//! calibrated on is not the same in every repeat (calibrating on each repeat alone tells by
//! how much). A third, that the model is wrong, shows only beside measurements.

use super::{
    interval::{Estimate, Interval, logarithms, mean, variance},
    special::student_quantile,
};

/// The mean over `repeats` trials to come with its prediction interval, from
/// `values[c][s]`: the figure as calibrated on repeat `c` and simulated with seed `s`.
///
/// The variance of a value is that of the seeds and that between calibrations; each counts
/// once for the trials to come, whose mean is taken, and once for how well the simulations
/// know the centre. Both are known from few values, so that the interval is Student's, with
/// the degrees of freedom of F. E. Satterthwaite, *An Approximate Distribution of Estimates
/// of Variance Components*, 1946. Values that are all positive are taken as logarithms, as
/// those of trials are ([`super::interval::over_trials`]).
///
/// `None` unless there are two calibrations and two seeds, as many seeds for each
/// calibration, and all values are finite, and 0 < level < 1.
pub fn of_trials_to_come(values: &[Vec<f64>], repeats: u32, level: f64) -> Option<Estimate> {
    let seeds = values.first()?.len();
    let all: Vec<f64> = values.iter().flatten().copied().collect();
    let is_whole = values.iter().all(|row| row.len() == seeds);
    let is_finite = all.iter().all(|value| value.is_finite());
    if values.len() < 2 || seeds < 2 || repeats == 0 || !is_whole || !is_finite {
        return None;
    }
    if !(level > 0.0 && level < 1.0) {
        return None;
    }
    let rows: Option<Vec<Vec<f64>>> = values.iter().map(|row| logarithms(row)).collect();
    match rows {
        Some(rows) => Some(predict(&rows, repeats, level).exp()),
        None => Some(predict(values, repeats, level)),
    }
}

/// The next value after these with its prediction interval: by Student's t, of the
/// logarithms where all are positive.
///
/// `None` with fewer than two values, or where one is not finite, or unless 0 < level < 1.
pub fn of_one_more(values: &[f64], level: f64) -> Option<Estimate> {
    let is_finite = values.iter().all(|value| value.is_finite());
    if values.len() < 2 || !is_finite || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let one_more = |values: &[f64]| {
        let count = values.len() as f64;
        let t = student_quantile(count - 1.0, f64::midpoint(1.0, level));
        let (centre, half) = (mean(values), t * (variance(values) * (1.0 + 1.0 / count)).sqrt());
        let interval = Some(Interval { low: centre - half, high: centre + half, level });
        Estimate { centre, interval, trials: values.len() }
    };
    Some(match logarithms(values) {
        Some(logs) => one_more(&logs).exp(),
        None => one_more(values),
    })
}

fn predict(rows: &[Vec<f64>], repeats: u32, level: f64) -> Estimate {
    let (calibrations, seeds) = (rows.len() as f64, rows[0].len() as f64);
    let to_come = 1.0 / f64::from(repeats);
    let centres: Vec<f64> = rows.iter().map(|row| mean(row)).collect();
    let of_seeds: Vec<f64> = rows.iter().map(|row| variance(row)).collect();
    let by_chance = mean(&of_seeds) * (to_come + 1.0 / seeds);
    let by_machine = variance(&centres) * (to_come + 1.0 / calibrations);
    let all = by_chance + by_machine;
    let spread = by_chance.powi(2) / (seeds - 1.0) + by_machine.powi(2) / (calibrations - 1.0);
    // Where nothing varies, the degrees of freedom are of no consequence.
    let degrees = if spread > 0.0 { all * all / spread } else { 1.0 };
    let half = student_quantile(degrees, f64::midpoint(1.0, level)) * all.sqrt();
    let centre = mean(&centres);
    let interval = Some(Interval { low: centre - half, high: centre + half, level });
    Estimate { centre, interval, trials: repeats as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::chance::Chance;

    /// The share of intervals that held the mean of trials to come, where calibrations
    /// differ by `machine` and seeds by `seed`.
    fn held(calibrations: usize, machine: f64, seed: f64, repeats: u32) -> f64 {
        let mut chance = Chance::new(29);
        let rounds = 2_000;
        let holds = (0..rounds).filter(|_| {
            let seeds: Vec<f64> = (0..20).map(|_| seed * chance.normal()).collect();
            let values: Vec<Vec<f64>> = (0..calibrations)
                .map(|_| {
                    let row = machine * chance.normal();
                    seeds.iter().map(|one| (row + one).exp()).collect()
                })
                .collect();
            let trial = |_| machine * chance.normal() + seed * chance.normal();
            let come = (0..repeats).map(trial).sum::<f64>() / f64::from(repeats);
            let predicted = of_trials_to_come(&values, repeats, 0.95).unwrap();
            predicted.interval.unwrap().holds(come.exp())
        });
        holds.count() as f64 / f64::from(rounds)
    }

    #[test]
    fn trials_to_come_lie_inside_as_often_as_is_said() {
        for (calibrations, machine, seed, repeats) in
            [(3, 0.1, 0.1, 3), (5, 0.1, 0.02, 3), (5, 0.02, 0.1, 1), (10, 0.1, 0.1, 5)]
        {
            let held = held(calibrations, machine, seed, repeats);
            let case = format!("{calibrations} calibrations, {machine}, {seed}, {repeats} repeats");
            assert!((0.93..0.985).contains(&held), "{case}: {held}");
        }
    }

    #[test]
    fn one_more_lies_inside_as_often_as_is_said() {
        let mut chance = Chance::new(31);
        let rounds = 4_000;
        let holds = (0..rounds).filter(|_| {
            let mut draw = || (0.3 * chance.normal()).exp();
            let values: Vec<f64> = (0..6).map(|_| draw()).collect();
            of_one_more(&values, 0.95).unwrap().interval.unwrap().holds(draw())
        });
        let held = holds.count() as f64 / f64::from(rounds);
        assert!((0.93..0.97).contains(&held), "{held}");
        assert_eq!(of_one_more(&[1.0], 0.95), None);
        assert_eq!(of_one_more(&[1.0, f64::NAN], 0.95), None);
    }

    #[test]
    fn what_does_not_vary_is_predicted_as_it_is_and_too_little_is_told() {
        let same = of_trials_to_come(&[vec![0.25; 3], vec![0.25; 3]], 3, 0.95).unwrap();
        let interval = same.interval.unwrap();
        assert!((interval.low - 0.25).abs() < 1e-12 && (interval.high - 0.25).abs() < 1e-12);
        assert_eq!(of_trials_to_come(&[], 3, 0.95), None);
        assert_eq!(of_trials_to_come(&[vec![1.0, 2.0]], 3, 0.95), None, "one calibration");
        assert_eq!(of_trials_to_come(&[vec![1.0], vec![2.0]], 3, 0.95), None, "one seed");
        assert_eq!(of_trials_to_come(&[vec![1.0, 2.0], vec![2.0]], 3, 0.95), None);
        assert_eq!(of_trials_to_come(&[vec![1.0, f64::NAN], vec![2.0; 2]], 3, 0.95), None);
        assert_eq!(of_trials_to_come(&[vec![1.0; 2], vec![2.0; 2]], 0, 0.95), None);
    }
}
