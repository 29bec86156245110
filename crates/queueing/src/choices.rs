//! The fewest calls in flight of d backends chosen by chance, when there are
//! very many: each backend has one server of rate μ, each sees λ calls a second
//! on average, and service is exponential. d = 2 is the power of two choices; d
//! = 1 is random picking, and M/M/1.
//!
//! The share of backends with i calls or more is s_i = ρ^((d^i - 1) / (d - 1)),
//! for d = 2 ρ^(2^i - 1), against ρ^i for random picking. Source: N. D.
//! Vvedenskaya, R. L. Dobrushin, F. I. Karpelevich, *Queueing system with
//! selection of the shortest of two queues* (1996); M. Mitzenmacher, *The Power
//! of Two Choices in Randomized Load Balancing* (2001).
//!
//! The limit is of infinitely many backends. A few do worse, because they fill up
//! together: with two different ones chosen of four, the mean is 5, 11 and 28 %
//! above the limit at load 0.5, 0.7 and 0.85, and the p99 5, 14 and 40 %. The
//! error falls as 1 / n. [`crate::shortest`] is exact for a few, and the one to
//! hold a measurement of four backends to; the tests hold the limit to a
//! simulation of a hundred.

use crate::{
    Error, Model,
    model::{positive, settles},
    special::poisson_pmf,
};

/// The model.
#[derive(Clone, Debug, PartialEq)]
pub struct FewestOf {
    choices: u32,
    utilisation: f64,
    service_rate: f64,
    /// s_i, until it is nothing.
    shares: Vec<f64>,
}

impl FewestOf {
    /// `arrival_rate` is λ of one backend, `service_rate` its μ, both per second.
    ///
    /// # Errors
    /// When a figure is not positive, or λ >= μ.
    pub fn new(choices: u32, arrival_rate: f64, service_rate: f64) -> Result<Self, Error> {
        positive("the number of choices", f64::from(choices))?;
        let lambda = positive("the arrival rate", arrival_rate)?;
        let mu = positive("the service rate", service_rate)?;
        let rho = settles(lambda / mu)?;
        let mut shares = vec![1.0];
        let mut share: f64 = 1.0;
        // s_{i+1} = ρ s_i^d.
        while share > 1e-30 && shares.len() < 100_000 {
            share = rho * share.powi(i32::try_from(choices).unwrap_or(i32::MAX));
            shares.push(share);
        }
        Ok(Self { choices, utilisation: rho, service_rate: mu, shares })
    }

    /// The share of backends with `calls` calls or more.
    fn share_with(&self, calls: usize) -> f64 {
        self.shares.get(calls).copied().unwrap_or(0.0)
    }

    /// The chance that an arriving call joins a backend that has `calls` calls or
    /// more: s^d, since all d have to.
    fn joins(&self, calls: usize) -> f64 {
        self.share_with(calls + 1) / self.utilisation
    }
}

impl Model for FewestOf {
    fn name(&self) -> String {
        match self.choices {
            2 => "power of two choices, limit of many backends".to_owned(),
            d => format!("fewest of {d} choices, limit of many backends"),
        }
    }

    fn utilisation(&self) -> f64 {
        self.utilisation
    }

    fn mean_s(&self) -> f64 {
        // A call that joins j others takes j + 1 services on average.
        (0..self.shares.len()).map(|calls| self.joins(calls)).sum::<f64>() / self.service_rate
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        if t_s < 0.0 {
            return Some(1.0);
        }
        // j + 1 services take longer than t when at most j ended by t.
        let mean = t_s * self.service_rate;
        let sum: f64 = (0..self.shares.len())
            .map(|ended| poisson_pmf(ended as u64, mean) * self.joins(ended))
            .sum();
        Some(sum.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mmc::MMc;

    #[test]
    fn two_choices_take_the_sum_of_rho_to_the_powers_of_two_less_two() {
        // Added up by hand to four places, μ = 1.
        for (load, expected) in [(0.5, 1.2657), (0.7, 1.6145), (0.8, 1.9474), (0.9, 2.6141)] {
            let mean = FewestOf::new(2, load, 1.0).unwrap().mean_s();
            assert!((mean - expected).abs() < 1e-4, "{load}: {mean}");
        }
    }

    #[test]
    fn shares_are_those_of_the_formula() {
        let model = FewestOf::new(2, 0.9, 1.0).unwrap();
        for calls in 0..6 {
            let expected = 0.9_f64.powi(2_i32.pow(calls) - 1);
            assert!((model.share_with(calls as usize) - expected).abs() < 1e-12);
        }
        assert_eq!(model.share_with(1_000), 0.0);
    }

    #[test]
    fn the_mean_is_the_area_under_the_tail() {
        let model = FewestOf::new(2, 0.85, 1.0).unwrap();
        let area: f64 = (0..40_000).map(|i| model.tail((f64::from(i) + 0.5) * 1e-3).unwrap()).sum();
        assert!((area * 1e-3 / model.mean_s() - 1.0).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn one_choice_is_m_m_1_and_two_are_better(load in 0.05..0.95_f64) {
            let one = FewestOf::new(1, load, 1.0).unwrap();
            let two = FewestOf::new(2, load, 1.0).unwrap();
            let known = MMc::single(load, 1.0).unwrap();
            prop_assert!((one.mean_s() / known.mean_s() - 1.0).abs() < 1e-9);
            for q in [0.5, 0.9, 0.99] {
                let (a, b) = (one.quantile_s(q).unwrap(), known.quantile_s(q).unwrap());
                prop_assert!((a / b - 1.0).abs() < 1e-9, "{} {}", a, b);
                prop_assert!(two.quantile_s(q).unwrap() < a);
            }
        }
    }
}
