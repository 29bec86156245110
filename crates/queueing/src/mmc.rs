//! M/M/c: Poisson arrivals of rate λ, exponential service of rate μ, c servers,
//! one queue. M/M/1 is the case c = 1.
//!
//! Assumes that arrivals and service times are independent of each other and of
//! the queue. Source: L. Kleinrock, *Queueing Systems*, volume 1 (1975),
//! sections 3.2 and 3.5; A. K. Erlang (1917) for the chance of waiting.

use crate::{
    Error, Model,
    model::{at_most, positive, settles},
    wait::ExponentialWait,
};

/// Most servers a model of one backend is computed for.
pub(crate) const MAX_SERVERS: usize = 4096;

/// The chance that all c servers are busy where calls that find them so are
/// lost: Erlang's B, for offered load `a` = λ / μ. The recursion over servers is
/// stable where the formula with factorials overflows.
pub fn erlang_b(servers: u32, offered: f64) -> f64 {
    (1..=servers).fold(1.0, |blocked, c| offered * blocked / (f64::from(c) + offered * blocked))
}

/// The chance of having to wait where calls queue: Erlang's C, for offered load
/// `a` = λ / μ below the number of servers. At c or more every call waits.
fn erlang_c(servers: u32, offered: f64) -> f64 {
    let c = f64::from(servers);
    if offered >= c {
        return 1.0;
    }
    let blocked = erlang_b(servers, offered);
    c * blocked / (c - offered * (1.0 - blocked))
}

/// The model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MMc {
    servers: u32,
    utilisation: f64,
    pub(crate) law: ExponentialWait,
}

impl MMc {
    /// One server.
    ///
    /// # Errors
    /// As [`MMc::new`].
    pub fn single(arrival_rate: f64, service_rate: f64) -> Result<Self, Error> {
        Self::new(arrival_rate, service_rate, 1)
    }

    /// `arrival_rate` is λ over all servers, `service_rate` is μ of one server,
    /// both per second.
    ///
    /// # Errors
    /// When a figure is not positive, or λ >= c μ.
    pub fn new(arrival_rate: f64, service_rate: f64, servers: u32) -> Result<Self, Error> {
        let lambda = positive("the arrival rate", arrival_rate)?;
        let mu = positive("the service rate", service_rate)?;
        let c = positive("the number of servers", f64::from(servers))?;
        at_most("the number of servers", servers as usize, MAX_SERVERS)?;
        let utilisation = settles(lambda / (c * mu))?;
        let law = ExponentialWait {
            chance: erlang_c(servers, lambda / mu),
            wait_rate: c * mu - lambda,
            service_rate: mu,
        };
        Ok(Self { servers, utilisation, law })
    }
}

impl Model for MMc {
    fn name(&self) -> String {
        format!("M/M/{}", self.servers)
    }

    fn utilisation(&self) -> f64 {
        self.utilisation
    }

    fn mean_s(&self) -> f64 {
        self.law.mean_s()
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        Some(self.law.tail(t_s))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_server_is_an_exponential_of_rate_mu_less_lambda() {
        let model = MMc::single(700.0, 1_000.0).unwrap();
        assert!((model.mean_s() - 1.0 / 300.0).abs() < 1e-15);
        assert!((model.law.mean_wait_s() - 0.7 / 300.0).abs() < 1e-15);
        assert!((model.law.chance - 0.7).abs() < 1e-15);
        for q in [0.0, 0.5, 0.9, 0.99, 0.999] {
            let expected = -(1.0_f64 - q).ln() / 300.0;
            assert!((model.quantile_s(q).unwrap() - expected).abs() < 1e-12, "{q}");
        }
        assert_eq!(model.name(), "M/M/1");
    }

    #[test]
    fn erlang_s_formulas_give_the_tabled_values() {
        // Two servers at offered load 1: B = 1/5, C = 1/3 (by hand).
        assert!((erlang_b(2, 1.0) - 0.2).abs() < 1e-15);
        assert!((erlang_c(2, 1.0) - 1.0 / 3.0).abs() < 1e-15);
        // Tables of Erlang B: 10 servers block 1 % at 4.4612 erlang, 100
        // servers at 84.064.
        assert!((erlang_b(10, 4.4612) - 0.01).abs() < 1e-5);
        assert!((erlang_b(100, 84.064) - 0.01).abs() < 1e-5);
        assert_eq!(erlang_c(3, 3.0), 1.0);
    }

    #[test]
    fn two_servers_wait_as_the_textbook_has_it() {
        // W = 1 / (μ (1 - ρ²)) for two servers (Kleinrock, exercise 3.10).
        let model = MMc::new(1.5, 1.0, 2).unwrap();
        assert!((model.mean_s() - 1.0 / (1.0 - 0.5625)).abs() < 1e-12);
    }

    #[test]
    fn what_never_settles_is_refused() {
        assert_eq!(MMc::new(4.0, 1.0, 4), Err(Error::Overloaded { utilisation: 1.0 }));
        assert!(matches!(MMc::new(1.0, 0.0, 1), Err(Error::NotPositive { .. })));
        assert!(matches!(MMc::new(1.0, 1.0, 0), Err(Error::NotPositive { .. })));
    }

    proptest! {
        #[test]
        fn the_mean_is_the_area_under_the_tail(load in 0.05..0.95_f64, servers in 1_u32..40) {
            let model = MMc::new(load * f64::from(servers), 1.0, servers).unwrap();
            let step = model.mean_s() / 400.0;
            let area: f64 = (0..40_000).map(|i| model.tail((f64::from(i) + 0.5) * step).unwrap()).sum();
            prop_assert!((area * step / model.mean_s() - 1.0).abs() < 1e-3);
        }
    }
}
