//! The fewest calls in flight of d backends chosen by chance out of n: join the
//! shortest queue when d = n, the power of two choices when d = 2, random
//! picking when d = 1. n equal backends with c servers of rate μ each, Poisson
//! arrivals of rate λ over all of them, exponential service.
//!
//! There is no closed form for finite n. For a few backends the numbers in
//! flight, sorted, are a Markov chain small enough to be solved: every state up
//! to a cap is kept, and the cap is raised until it turns away fewer than one
//! call in a million. For many backends there are [`bounds`] here and the
//! limit in [`crate::choices`].
//!
//! Assumes that whoever picks sees the true numbers in flight. Several pickers
//! that each know only their own calls do worse.

use crate::{
    Error, Model,
    chain::{Chain, count_states, position_chances},
    gim::{Gaps, GiMc},
    mmc::MMc,
    model::{at_most, positive, settles},
    special::{poisson_at_least, poisson_below, poisson_pmf},
};

/// Most backends that are looked at; from about ten on the states are too many.
const MAX_BACKENDS: usize = 64;
/// Most states of the chain.
const MAX_STATES: usize = 60_000;
/// The share of calls that the cap may turn away.
const MOST_LOST: f64 = 1e-6;
/// The share of calls that is accepted when the next cap has too many states.
const TOLERATED_LOST: f64 = 2e-5;

/// The model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortest {
    backends: u32,
    servers: u32,
    choices: u32,
    utilisation: f64,
    service_rate: f64,
    /// The chance that an arriving call joins a backend that has i calls.
    joins: Vec<f64>,
}

/// The least and the most that [`Shortest`] with d = n can take on average: one
/// queue for all servers, since no server there idles while a call waits, and
/// round robin, the best of all policies that don't look (A. Ephremides, P.
/// Varaiya, J. Walrand, *A simple dynamic routing problem*, 1980, which also
/// shows that the shortest queue is the best of those that do).
///
/// # Errors
/// When a figure is not positive, or λ >= n c μ.
pub fn bounds(
    backends: u32,
    servers: u32,
    arrival_rate: f64,
    service_rate: f64,
) -> Result<(MMc, GiMc), Error> {
    let n = positive("the number of backends", f64::from(backends))?;
    let lower = MMc::new(arrival_rate, service_rate, backends.saturating_mul(servers))?;
    let gaps = Gaps::Erlang { stages: backends };
    let upper = GiMc::new(gaps, arrival_rate / n, service_rate, servers)?;
    Ok((lower, upper))
}

impl Shortest {
    /// `arrival_rate` is λ over all backends, `service_rate` is μ of one server,
    /// both per second; `choices` is at most `backends`.
    ///
    /// # Errors
    /// When a figure is not positive, when λ >= n c μ, or when the chain has too
    /// many states: more than about ten backends, or fewer close to full load.
    pub fn new(
        backends: u32,
        servers: u32,
        choices: u32,
        arrival_rate: f64,
        service_rate: f64,
    ) -> Result<Self, Error> {
        let n = positive("the number of backends", f64::from(backends))?;
        let c = positive("the number of servers", f64::from(servers))?;
        at_most("the number of backends", backends as usize, MAX_BACKENDS)?;
        positive("the number of choices", f64::from(choices))?;
        at_most("the number of choices", choices as usize, backends as usize)?;
        let lambda = positive("the arrival rate", arrival_rate)?;
        let mu = positive("the service rate", service_rate)?;
        let utilisation = settles(lambda / (n * c * mu))?;
        let joined = position_chances(backends as usize, choices as usize);
        let mut cap = servers as usize + 5;
        let mut solved: Option<(f64, Vec<f64>)> = None;
        loop {
            let states = count_states(backends as usize, cap);
            if states > MAX_STATES {
                if let Some((lost, joins)) = solved
                    && lost < TOLERATED_LOST
                {
                    return Ok(Self {
                        backends,
                        servers,
                        choices,
                        utilisation,
                        service_rate,
                        joins,
                    });
                }
                at_most("the number of states", states, MAX_STATES)?;
            }
            let chain = Chain { n: backends as usize, c: servers as usize, cap, lambda, mu };
            let (lost, joins) = chain.joins(&joined);
            if lost < MOST_LOST {
                return Ok(Self { backends, servers, choices, utilisation, service_rate, joins });
            }
            solved = Some((lost, joins));
            cap += (cap / 5).max(2);
        }
    }
}

impl Model for Shortest {
    fn name(&self) -> String {
        let queues = if self.servers == 1 {
            format!("{} M/1 queues", self.backends)
        } else {
            format!("{} M/{} queues", self.backends, self.servers)
        };
        match self.choices {
            d if d == self.backends => format!("shortest of {queues}"),
            2 => format!("power of two choices among {queues}"),
            d => format!("fewest of {d} choices among {queues}"),
        }
    }

    fn utilisation(&self) -> f64 {
        self.utilisation
    }

    fn mean_s(&self) -> f64 {
        let c = self.servers as usize;
        let wait: f64 =
            (c..self.joins.len()).map(|calls| self.joins[calls] * (calls - c + 1) as f64).sum();
        (wait / c as f64 + 1.0) / self.service_rate
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        if t_s < 0.0 {
            return Some(1.0);
        }
        let c = self.servers as usize;
        let law = |calls: usize| {
            let ahead = (calls + 1).saturating_sub(c) as u64;
            wait_and_service_tail(ahead, c as f64, self.service_rate * t_s)
        };
        let sum: f64 = self.joins.iter().enumerate().map(|(i, share)| share * law(i)).sum();
        Some(sum.clamp(0.0, 1.0))
    }
}

/// The chance that `ahead` departures, each of rate c, and one service of rate 1
/// take longer than `t` together.
fn wait_and_service_tail(ahead: u64, c: f64, t: f64) -> f64 {
    if c == 1.0 {
        return poisson_below(ahead + 1, t);
    }
    // Still waiting, or in service: the integral of the Erlang density times
    // exp(-(t - u)) is an Erlang distribution of rate c - 1, scaled.
    let waiting = poisson_below(ahead, c * t);
    let log_scale = ahead as f64 * (c / (c - 1.0)).ln() - t;
    let ended = poisson_at_least(ahead, (c - 1.0) * t);
    if ended <= 0.0 {
        // (c t)^m / m! is what is left of both factors when t is tiny.
        return waiting + poisson_pmf(ahead, c * t);
    }
    waiting + (log_scale + ended.ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::FewestOf;

    fn close(a: f64, b: f64, error: f64) {
        assert!((a / b - 1.0).abs() < error, "{a} is not {b}");
    }

    #[test]
    fn one_backend_and_one_choice_are_m_m_c() {
        for servers in [1, 3] {
            let c = f64::from(servers);
            let known = MMc::new(0.6 * c, 1.0, servers).unwrap();
            let alone = Shortest::new(1, servers, 1, 0.6 * c, 1.0).unwrap();
            let random = Shortest::new(3, servers, 1, 3.0 * 0.6 * c, 1.0).unwrap();
            for model in [&alone, &random] {
                close(model.mean_s(), known.mean_s(), 1e-4);
                for q in [0.1, 0.5, 0.9, 0.99] {
                    close(model.quantile_s(q).unwrap(), known.quantile_s(q).unwrap(), 1e-3);
                }
            }
        }
    }

    #[test]
    fn many_servers_are_counted_past_a_byte() {
        let alone = Shortest::new(1, 300, 1, 285.0, 1.0).unwrap();
        let known = MMc::new(285.0, 1.0, 300).unwrap();
        close(alone.mean_s(), known.mean_s(), 1e-4);
    }

    #[test]
    fn the_bounds_bound() {
        for (n, c, load) in [(2, 1, 0.5), (4, 1, 0.85), (3, 2, 0.8)] {
            let lambda = load * f64::from(n * c);
            let (lower, upper) = bounds(n, c, lambda, 1.0).unwrap();
            let model = Shortest::new(n, c, n, lambda, 1.0).unwrap();
            let means = [lower.mean_s(), model.mean_s(), upper.mean_s()];
            assert!(means.is_sorted(), "{means:?}");
        }
    }

    #[test]
    fn two_choices_tend_to_the_limit_of_many() {
        let limit = FewestOf::new(2, 0.7, 1.0).unwrap().mean_s();
        let errors: Vec<_> = [2, 4, 8]
            .map(|n| {
                let model = Shortest::new(n, 1, 2, 0.7 * f64::from(n), 1.0).unwrap();
                (model.mean_s() / limit - 1.0).abs()
            })
            .into();
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(errors[2] < 0.05, "{errors:?}");
    }

    #[test]
    fn the_law_of_one_call_agrees_between_one_server_and_nearly_one() {
        for (ahead, t) in [(0, 0.5), (1, 0.5), (3, 2.0), (20, 5.0), (5, 1e-4), (400, 1e-3)] {
            let one = wait_and_service_tail(ahead, 1.0, t);
            let nearly = wait_and_service_tail(ahead, 1.0 + 1e-7, t);
            assert!((one - nearly).abs() < 1e-5, "{ahead} {t}: {one} {nearly}");
        }
    }

    /// So that four backends are never drawn with the limit.
    #[test]
    fn the_limit_is_far_off_for_four_backends() {
        for (load, excess) in [(0.5, 0.0465), (0.7, 0.1138), (0.85, 0.2776)] {
            let limit = FewestOf::new(2, load, 1.0).unwrap().mean_s();
            let four = Shortest::new(4, 1, 2, 4.0 * load, 1.0).unwrap().mean_s();
            assert!((four / limit - 1.0 - excess).abs() < 2e-3, "{load}: {four} {limit}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert!(matches!(Shortest::new(64, 1, 2, 32.0, 1.0), Err(Error::TooLarge { .. })));
        assert!(matches!(Shortest::new(2, 1, 3, 1.0, 1.0), Err(Error::TooLarge { .. })));
        assert!(matches!(Shortest::new(2, 1, 2, 2.0, 1.0), Err(Error::Overloaded { .. })));
        assert!(Shortest::new(u32::MAX, 1, 2, 1.0, 1.0).is_err());
        assert!(Shortest::new(4, u32::MAX, 2, 1.0, 1.0).is_err());
        assert!(bounds(0, 1, 1.0, 1.0).is_err());
    }
}
