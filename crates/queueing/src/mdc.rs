//! M/D/c: Poisson arrivals of rate λ, constant service time D, c servers, one
//! queue. M/D/1 is the case c = 1. Round robin of a Poisson stream over n
//! backends is the same model with n c servers: with equal service times calls
//! leave in the order in which they came, so a free choice of server and a turn
//! for each come to the same.
//!
//! The classical series (Erlang 1909, Crommelin 1932) alternates and loses all
//! digits at high load. Here the number waiting L is computed as the maximum of
//! the random walk S_k = Poisson(k λ D) - k c by Spitzer's identity, and the
//! waiting time from it by G. J. Franx, *A simple solution for the M/D/c waiting
//! time distribution* (Operations Research Letters 29, 2001); both have positive
//! terms only.

use crate::{
    Error, Model,
    model::{at_most, positive, settles},
    special::{poisson_at_least, poisson_pmf},
};

/// Most servers the model is computed for.
pub(crate) const MAX_SERVERS: usize = 256;
/// Highest utilisation the model is computed for: the walk's maximum takes ever
/// more steps, and no run is long enough to settle there.
const MAX_UTILISATION: f64 = 0.99;

/// The model.
#[derive(Clone, Debug, PartialEq)]
pub struct MDc {
    /// Servers over all backends that are served in turn.
    servers: u32,
    /// Backends that are served in turn.
    turns: u32,
    arrival_rate: f64,
    service_s: f64,
    /// P(L <= m), until the tail is geometric to f64's precision.
    at_most: Vec<f64>,
    /// P(L = m + 1) / P(L = m) beyond that.
    ratio: f64,
    mean_wait_s: f64,
}

impl MDc {
    /// One server.
    ///
    /// # Errors
    /// As [`MDc::new`].
    pub fn single(arrival_rate: f64, service_s: f64) -> Result<Self, Error> {
        Self::new(arrival_rate, service_s, 1)
    }

    /// `arrival_rate` is λ over all servers, per second; `service_s` is D.
    ///
    /// # Errors
    /// When a figure is not positive, when λ D >= c, or beyond 256 servers or a
    /// utilisation of 0.99.
    pub fn new(arrival_rate: f64, service_s: f64, servers: u32) -> Result<Self, Error> {
        let lambda = positive("the arrival rate", arrival_rate)?;
        let service_s = positive("the service time", service_s)?;
        let c = positive("the number of servers", f64::from(servers))?;
        at_most("the number of servers", servers as usize, MAX_SERVERS)?;
        let utilisation = settles(lambda * service_s / c)?;
        if utilisation > MAX_UTILISATION {
            let (what, limit) = ("the utilisation", MAX_UTILISATION);
            return Err(Error::TooLarge { what, value: utilisation, limit });
        }
        let ratio = decay(lambda * service_s, c);
        let waiting = number_waiting(lambda * service_s, servers, ratio);
        let last = waiting.len() - 1;
        // Σ m p_m, and of the geometric rest Σ_{i>=1} (last + i) p_last r^i.
        let inner: f64 = waiting.iter().enumerate().map(|(m, p)| m as f64 * p).sum();
        let rest = waiting[last] * ratio / (1.0 - ratio) * (last as f64 + 1.0 / (1.0 - ratio));
        let mut sum = 0.0;
        let at_most = waiting
            .iter()
            .map(|p| {
                sum += p;
                sum
            })
            .collect();
        Ok(Self {
            servers,
            turns: 1,
            arrival_rate,
            service_s,
            at_most,
            ratio,
            mean_wait_s: (inner + rest) / lambda,
        })
    }

    /// One of `turns` backends of `servers` servers each that get the calls of a
    /// Poisson stream in turn: E_k/D/c. `arrival_rate` is that of this backend.
    ///
    /// # Errors
    /// As [`MDc::new`], for the servers of all backends.
    pub(crate) fn in_turn(
        turns: u32,
        arrival_rate: f64,
        service_s: f64,
        servers: u32,
    ) -> Result<Self, Error> {
        let all = turns.saturating_mul(servers);
        Ok(Self { turns, ..Self::new(arrival_rate * f64::from(turns), service_s, all)? })
    }

    /// The chance of waiting longer than `t_s`.
    ///
    /// For (k - 1) D <= t < k D, Franx has P(W <= t) = Σ_{j < k c} P(L <= k c -
    /// 1 - j) · P(Poisson(λ (k D - t)) = j).
    fn wait_tail(&self, t_s: f64) -> f64 {
        if t_s < 0.0 {
            return 1.0;
        }
        let k = (t_s / self.service_s).floor() + 1.0;
        let mean = self.arrival_rate * (k * self.service_s - t_s).max(0.0);
        let terms = k * f64::from(self.servers);
        // Counted as a tail, so that small chances keep their digits; the terms
        // past k c are those where the number is certain to be exceeded.
        let mut tail = if terms < 1e15 { poisson_at_least(terms as u64, mean) } else { 0.0 };
        let mut seen = 0.0;
        let mut j = 0.0;
        while j < terms && 1.0 - seen > 1e-17 {
            let weight = poisson_pmf(j as u64, mean);
            seen += weight;
            tail += weight * self.more_than(terms - 1.0 - j);
            if j > mean && weight < 1e-18 {
                break;
            }
            j += 1.0;
        }
        tail.clamp(0.0, 1.0)
    }

    /// P(L > m).
    fn more_than(&self, m: f64) -> f64 {
        let last = self.at_most.len() - 1;
        let beyond = 1.0 - self.at_most[last];
        if m <= last as f64 {
            // Summed from the far end where it is small.
            let below = 1.0 - self.at_most[m as usize];
            return below.max(beyond);
        }
        beyond * self.ratio.powf(m - last as f64)
    }
}

impl Model for MDc {
    fn name(&self) -> String {
        match self.turns {
            1 => format!("M/D/{}", self.servers),
            k => format!("E_{k}/D/{}", self.servers / k),
        }
    }

    fn utilisation(&self) -> f64 {
        self.arrival_rate * self.service_s / f64::from(self.servers)
    }

    fn mean_s(&self) -> f64 {
        self.mean_wait_s + self.service_s
    }

    fn tail(&self, t_s: f64) -> Option<f64> {
        Some(if t_s < self.service_s { 1.0 } else { self.wait_tail(t_s - self.service_s) })
    }
}

/// P(L = m) for m = 0, 1, ...: the maximum of S_k over k >= 0. `ratio` is that of
/// successive chances beyond what is returned.
///
/// Spitzer: E[z^L] = exp(-Σ_k (1/k) E[1 - z^max(S_k, 0)]). With b_j = Σ_k (1/k)
/// P(S_k = j), differentiating gives m P(L = m) = Σ_{j=1..m} j b_j P(L = m - j);
/// that all chances sum to 1 gives P(L = 0).
fn number_waiting(offered: f64, servers: u32, ratio: f64) -> Vec<f64> {
    let c = u64::from(servers);
    let length = (96 * servers as usize).clamp(384, 4096);
    let mut b = vec![0.0; length];
    for k in 1_u64.. {
        let mean = k as f64 * offered;
        let mut term = poisson_pmf(k * c, mean) / k as f64;
        // The terms fall faster than exp(-k c (ρ - 1 - ln ρ)).
        if term * mean.sqrt() < 1e-17 {
            break;
        }
        for (j, sum) in b.iter_mut().enumerate().skip(1) {
            term *= mean / (k * c + j as u64) as f64;
            *sum += term;
        }
    }
    let mut waiting = vec![1.0];
    for m in 1..length {
        let sum: f64 = (1..=m).map(|j| j as f64 * b[j] * waiting[m - j]).sum();
        waiting.push(sum / m as f64);
    }
    let whole = waiting.iter().sum::<f64>() + waiting[length - 1] * ratio / (1.0 - ratio);
    waiting.iter_mut().for_each(|share| *share /= whole);
    waiting
}

/// The ratio of successive chances far out: 1 / τ, where τ > 1 solves λ D (τ - 1)
/// = c ln τ (H. C. Tijms, *A First Course in Stochastic Models*, 2003, 9.6.2).
fn decay(offered: f64, c: f64) -> f64 {
    let rho = offered / c;
    // With x = 1 / τ in (0, 1): g(x) = ρ (1 / x - 1) + ln x, which is zero at x =
    // 1 too, and has its minimum at ρ.
    let g = |x: f64| rho * (1.0 / x - 1.0) + x.ln();
    let (mut low, mut high) = (f64::MIN_POSITIVE.sqrt(), rho);
    for _ in 0..600 {
        let middle = f64::midpoint(low, high);
        if g(middle) > 0.0 { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Erlang's series for M/D/1, which is exact while it has digits left:
    /// P(W <= t) = (1 - ρ) Σ_{k <= t / D} (-λ (t - k D))^k / k! · exp(λ (t - k D)).
    fn erlang_series(lambda: f64, t: f64) -> f64 {
        let mut factorial = 1.0;
        let mut sum = 0.0;
        for k in 0..=(t.floor() as u32) {
            let k_f = f64::from(k);
            if k > 0 {
                factorial *= k_f;
            }
            let x = lambda * (t - k_f);
            sum += (-x).powi(k as i32) / factorial * x.exp();
        }
        (1.0 - lambda) * sum
    }

    #[test]
    fn one_server_agrees_with_erlang_s_series() {
        for lambda in [0.3, 0.5, 0.7, 0.85] {
            let model = MDc::single(lambda, 1.0).unwrap();
            for t in [0.0, 0.25, 0.5, 1.0, 1.75, 3.3, 6.0, 9.5] {
                let expected = 1.0 - erlang_series(lambda, t);
                let found = model.wait_tail(t);
                assert!((found - expected).abs() < 1e-10, "{lambda} {t}: {found} {expected}");
            }
        }
    }

    #[test]
    fn several_servers_wait_as_an_independent_computation_has_it() {
        // The embedded chain n' = max(n - c, 0) + Poisson(λ D), solved as a linear
        // system of 1200 states: mean wait, P(W > 0) and P(W > D).
        let check = |load: f64, servers: u32, mean: f64, waits: f64, waits_d: f64| {
            let model = MDc::new(load * f64::from(servers), 1.0, servers).unwrap();
            let found = [model.mean_wait_s, model.wait_tail(0.0), model.wait_tail(1.0)];
            for (found, expected) in found.into_iter().zip([mean, waits, waits_d]) {
                assert!((found / expected - 1.0).abs() < 1e-9, "{servers}: {found} {expected}");
            }
        };
        check(0.7, 2, 0.4936104624932927, 0.5653672114648015, 0.17631308497183165);
        check(0.85, 4, 0.5887663261233766, 0.6733377290469958, 0.21370417794474847);
        check(0.9, 8, 0.44997325940580196, 0.6819113654468564, 0.1444274451949924);
        check(0.5, 3, 0.08720172507709449, 0.22527317770766345, 0.009256411567961061);
    }

    #[test]
    fn the_far_tail_is_exponential_with_the_known_rate() {
        let model = MDc::single(0.85, 1.0).unwrap();
        // P(W > t + D) / P(W > t) tends to exp(-θ D) with λ (exp(θ D) - 1) = θ.
        let ratio = model.wait_tail(61.0) / model.wait_tail(60.0);
        let theta = -ratio.ln();
        assert!((0.85 * (theta.exp() - 1.0) / theta - 1.0).abs() < 1e-5, "{theta}");
    }

    #[test]
    fn the_extremes_are_refused_or_sound() {
        assert!(matches!(MDc::single(0.999, 1.0), Err(Error::TooLarge { .. })));
        assert!(matches!(MDc::single(1.0, 1.0), Err(Error::Overloaded { .. })));
        assert!(MDc::new(1.0, 1.0, 257).is_err());
        let busy = MDc::single(0.99, 1.0).unwrap();
        assert!((busy.mean_wait_s / (0.99 / (2.0 * 0.01)) - 1.0).abs() < 1e-6);
        let idle = MDc::single(1e-9, 1.0).unwrap();
        assert!(idle.wait_tail(0.0) < 2e-9);
        assert!((idle.quantile_s(0.99).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(busy.wait_tail(1e300), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn one_server_waits_as_pollaczek_and_khinchine_say(load in 0.01..0.97_f64, service in 1e-6..10_f64) {
            let model = MDc::single(load / service, service).unwrap();
            let expected = load * service / (2.0 * (1.0 - load));
            prop_assert!((model.mean_wait_s / expected - 1.0).abs() < 1e-9);
        }

        #[test]
        fn the_mean_is_the_area_under_the_tail(load in 0.3..0.9_f64, servers in 1_u32..12) {
            let model = MDc::new(load * f64::from(servers), 1.0, servers).unwrap();
            let step = 0.01;
            let area: f64 = (0..20_000).map(|i| model.wait_tail((f64::from(i) + 0.5) * step)).sum();
            prop_assert!((area * step - model.mean_wait_s).abs() < 1e-3 * model.mean_wait_s + 1e-6);
        }

        #[test]
        fn the_tail_never_rises(load in 0.05..0.97_f64, servers in 1_u32..40, from in 0.0..30_f64) {
            let model = MDc::new(load * f64::from(servers), 1.0, servers).unwrap();
            let tails: Vec<_> = (0..200).map(|i| model.wait_tail(from + f64::from(i) * 0.01)).collect();
            prop_assert!(tails.is_sorted_by(|a, b| *a >= *b - 1e-13));
        }
    }
}
