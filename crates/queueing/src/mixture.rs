//! Backends with unequal load, seen as one: each call meets one of several
//! models, with the chance that is that backend's share of the calls.
//!
//! This is what an L4 balancer makes of connections that don't divide evenly: of
//! 5 connections on 4 backends one backend has twice the load of the others,
//! and serves two fifths of all calls.

use crate::{Error, Model, model::positive};

/// The model.
#[derive(Debug)]
pub struct Mixture {
    /// Shares that sum to 1, each with its model.
    parts: Vec<(f64, Box<dyn Model>)>,
}

impl Mixture {
    /// Parts with their weights; weights need not sum to 1.
    ///
    /// # Errors
    /// When a weight is not positive, or there is no part.
    pub fn new(parts: Vec<(f64, Box<dyn Model>)>) -> Result<Self, Error> {
        let sum = positive("the sum of weights", parts.iter().map(|(weight, _)| weight).sum())?;
        let parts = parts
            .into_iter()
            .map(|(weight, model)| Ok((positive("a weight", weight)? / sum, model)))
            .collect::<Result<_, Error>>()?;
        Ok(Self { parts })
    }
}

impl Model for Mixture {
    fn name(&self) -> String {
        let mut names: Vec<_> = self
            .parts
            .iter()
            .map(|(share, model)| {
                let load = model.utilisation();
                format!("{:.0} % of calls {} at load {load:.2}", share * 100.0, model.name())
            })
            .collect();
        names.dedup();
        names.join(", ")
    }

    /// That of the busiest part, where the queue is.
    fn utilisation(&self) -> f64 {
        self.parts.iter().map(|(_, model)| model.utilisation()).fold(0.0, f64::max)
    }

    fn mean_s(&self) -> f64 {
        self.parts.iter().map(|(share, model)| share * model.mean_s()).sum()
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        self.parts.iter().map(|(share, model)| Some(share * model.tail(t_s)?)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmc::MMc;

    fn part(weight: f64, load: f64) -> (f64, Box<dyn Model>) {
        (weight, Box::new(MMc::single(load, 1.0).unwrap()))
    }

    #[test]
    fn equal_parts_are_one() {
        let one = MMc::single(0.6, 1.0).unwrap();
        let both = Mixture::new(vec![part(3.0, 0.6), part(1.0, 0.6)]).unwrap();
        assert!((both.mean_s() - one.mean_s()).abs() < 1e-12);
        assert!((both.quantile_s(0.99).unwrap() - one.quantile_s(0.99).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn unequal_parts_weigh_by_their_calls() {
        let both = Mixture::new(vec![part(0.4, 0.8), part(0.6, 0.4)]).unwrap();
        assert!((both.mean_s() - (0.4 * 5.0 + 0.6 / 0.6)).abs() < 1e-12);
        let p99 = both.quantile_s(0.99).unwrap();
        // Nearly all of the slowest hundredth is the busy part's.
        let expected = -(0.01_f64 / 0.4).ln() / 0.2;
        assert!((p99 / expected - 1.0).abs() < 0.01, "{p99} {expected}");
        assert_eq!(both.utilisation(), 0.8);
        assert!(both.name().contains("40 % of calls M/M/1 at load 0.80"), "{}", both.name());
    }

    #[test]
    fn nothing_is_no_mixture() {
        assert!(Mixture::new(Vec::new()).is_err());
        assert!(Mixture::new(vec![part(-1.0, 0.5), part(2.0, 0.5)]).is_err());
    }
}
