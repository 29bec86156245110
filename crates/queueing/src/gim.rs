//! GI/M/c: independent gaps of any distribution, exponential service of rate μ,
//! c servers, one queue.
//!
//! Round robin over k backends hands each of them every k-th call. Of a Poisson
//! stream that leaves gaps that are sums of k exponentials (E_k/M/c), of a
//! constant one longer constant gaps (D/M/c): steadier than what random picking
//! leaves, and so with shorter queues at the same load.
//!
//! With A(s) = E[exp(-s gap)], the chance σ in (0, 1) is the root of σ = A(c μ
//! (1 - σ)); those who wait do so for an exponential time of rate c μ (1 - σ).
//! Source: L. Kleinrock, *Queueing Systems*, volume 1 (1975), chapter 6; L.
//! Takács, *Introduction to the Theory of Queues* (1962), for the chance of
//! waiting with several servers.

use crate::{
    Error, Model,
    model::{at_most, positive, settles},
    wait::ExponentialWait,
};

/// Most servers: beyond, the products of the formula lose their precision.
pub(crate) const MAX_SERVERS: usize = 256;

/// How calls follow each other at a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gaps {
    /// Sums of `stages` exponentials: every `stages`-th call of a Poisson
    /// stream. 1 is the Poisson stream itself.
    Erlang {
        /// Exponentials to a gap.
        stages: u32,
    },
    /// Always the same: a constant stream, or every k-th call of one.
    Constant,
    /// What random picking leaves of a constant stream: a geometric number of
    /// equal gaps.
    ThinnedConstant {
        /// The chance that a call of the stream is kept, in (0, 1].
        kept: f64,
    },
}

impl Gaps {
    /// E[exp(-s gap)] for gaps of mean 1 / `rate`.
    fn transform(self, s: f64, rate: f64) -> f64 {
        match self {
            Self::Erlang { stages } => {
                let k = f64::from(stages);
                (-k * (s / (k * rate)).ln_1p()).exp()
            }
            Self::Constant => (-s / rate).exp(),
            Self::ThinnedConstant { kept } => {
                let one = (-s * kept / rate).exp();
                kept * one / (1.0 - (1.0 - kept) * one)
            }
        }
    }

    fn letter(self) -> String {
        match self {
            Self::Erlang { stages: 1 } => "M".to_owned(),
            Self::Erlang { stages } => format!("E_{stages}"),
            Self::Constant => "D".to_owned(),
            Self::ThinnedConstant { .. } => "Geo".to_owned(),
        }
    }

    fn check(self) -> Result<(), Error> {
        match self {
            Self::Erlang { stages } => {
                positive("the number of stages", f64::from(stages)).map(drop)
            }
            Self::Constant => Ok(()),
            Self::ThinnedConstant { kept } if kept > 1.0 => {
                Err(Error::TooLarge { what: "the chance of being kept", value: kept, limit: 1.0 })
            }
            Self::ThinnedConstant { kept } => positive("the chance of being kept", kept).map(drop),
        }
    }
}

/// The model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GiMc {
    gaps: Gaps,
    servers: u32,
    utilisation: f64,
    sigma: f64,
    law: ExponentialWait,
}

impl GiMc {
    /// `arrival_rate` is λ of the stream that reaches the backend, `service_rate`
    /// is μ of one server, both per second.
    ///
    /// # Errors
    /// When a figure is not positive, when λ >= c μ, or with more than 256
    /// servers.
    pub fn new(
        gaps: Gaps,
        arrival_rate: f64,
        service_rate: f64,
        servers: u32,
    ) -> Result<Self, Error> {
        gaps.check()?;
        let lambda = positive("the arrival rate", arrival_rate)?;
        let mu = positive("the service rate", service_rate)?;
        let c = positive("the number of servers", f64::from(servers))?;
        at_most("the number of servers", servers as usize, MAX_SERVERS)?;
        let utilisation = settles(lambda / (c * mu))?;
        let transform = |s| gaps.transform(s, lambda);
        let sigma = root(|sigma| transform(c * mu * (1.0 - sigma)));
        let law = ExponentialWait {
            chance: chance_of_waiting(transform, mu, servers, sigma),
            wait_rate: c * mu * (1.0 - sigma),
            service_rate: mu,
        };
        Ok(Self { gaps, servers, utilisation, sigma, law })
    }

    /// σ: with one server the chance that a call finds it busy. ρ for a Poisson
    /// stream, less for steadier ones.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }
}

impl Model for GiMc {
    fn name(&self) -> String {
        format!("{}/M/{}", self.gaps.letter(), self.servers)
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

/// The root in (0, 1) of x = f(x) for a convex rising f with f(0) > 0 and f(1) =
/// 1, whose slope at 1 exceeds 1 because the load is below 1. Bisection, since
/// Newton's method may run into the root at 1.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0 - f64::EPSILON);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if f(middle) > middle { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Takács' chance of waiting. With α_j = A(j μ) and C_j the product of α_i / (1 -
/// α_i) up to j, it is K / (1 - σ) where 1 / K = 1 / (1 - σ) + Σ binom(c, j) /
/// (C_j (1 - α_j)) · (c (1 - α_j) - j) / (c (1 - σ) - j). All terms are positive.
fn chance_of_waiting(transform: impl Fn(f64) -> f64, mu: f64, servers: u32, sigma: f64) -> f64 {
    let c = f64::from(servers);
    let mut sum = 1.0 / (1.0 - sigma);
    // binom(c, j) / C_j, kept as a logarithm: both parts leave f64's range.
    let mut log_weight = 0.0;
    for j in 1..=servers {
        let j = f64::from(j);
        let alpha = transform(j * mu);
        log_weight += ((c - j + 1.0) / j).ln() + (1.0 - alpha).ln() - alpha.ln();
        let below = c * (1.0 - sigma) - j;
        let fraction = if below.abs() > 1e-5 * c {
            (c * (1.0 - alpha) - j) / below
        } else {
            // Close to 0 / 0. The fraction is 1 + c μ times the slope of A between
            // c μ (1 - σ) and j μ, here taken in their middle.
            let at = f64::midpoint(c * mu * (1.0 - sigma), j * mu);
            let step = 1e-4 * at;
            1.0 + c * mu * (transform(at + step) - transform(at - step)) / (2.0 * step)
        };
        sum += (log_weight - (1.0 - alpha).ln()).exp() * fraction;
    }
    (1.0 / (1.0 - sigma) / sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mmc::MMc;

    const POISSON: Gaps = Gaps::Erlang { stages: 1 };

    #[test]
    fn sigma_solves_the_textbook_s_equations() {
        // E_2/M/1 at λ = 0.5, μ = 1: σ = (1 / (1 + (1 - σ)))², that is
        // σ³ - 4 σ² + 4 σ - 1 = (σ - 1)(σ² - 3 σ + 1), so σ = (3 - √5) / 2.
        let model = GiMc::new(Gaps::Erlang { stages: 2 }, 0.5, 1.0, 1).unwrap();
        assert!((model.sigma() - (3.0 - 5_f64.sqrt()) / 2.0).abs() < 1e-12);
        // D/M/1 at load 0.5: σ = exp(-2 (1 - σ)), 0.203188 (Kleinrock 6.4).
        let model = GiMc::new(Gaps::Constant, 0.5, 1.0, 1).unwrap();
        assert!((model.sigma() - 0.203_187_869_979_979_9).abs() < 1e-12);
        assert!((model.law.chance - model.sigma()).abs() < 1e-12);
        assert_eq!(model.name(), "D/M/1");
    }

    #[test]
    fn steadier_gaps_wait_less() {
        let wait = |gaps| GiMc::new(gaps, 3.4, 1.0, 4).unwrap().law.mean_wait_s();
        let waits = [
            wait(POISSON),
            wait(Gaps::ThinnedConstant { kept: 0.25 }),
            wait(Gaps::Erlang { stages: 4 }),
            wait(Gaps::Erlang { stages: 64 }),
            wait(Gaps::Constant),
        ];
        assert!(waits.is_sorted_by(|a, b| a > b), "{waits:?}");
        let many = wait(Gaps::Erlang { stages: 1_000_000 });
        assert!((many / waits[4] - 1.0).abs() < 1e-4, "E_k becomes D: {many}");
        let kept = wait(Gaps::ThinnedConstant { kept: 1.0 });
        assert!((kept / waits[4] - 1.0).abs() < 1e-12, "nothing thinned is constant");
        let rare = wait(Gaps::ThinnedConstant { kept: 1e-7 });
        assert!((rare / waits[0] - 1.0).abs() < 1e-4, "thinned far down is Poisson");
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        assert!(GiMc::new(Gaps::Erlang { stages: 0 }, 0.5, 1.0, 1).is_err());
        assert!(GiMc::new(Gaps::ThinnedConstant { kept: 1.5 }, 0.5, 1.0, 1).is_err());
        assert!(GiMc::new(Gaps::Constant, 0.5, 1.0, 257).is_err());
        assert!(GiMc::new(Gaps::Constant, 1.0, 1.0, 1).is_err());
    }

    proptest! {
        #[test]
        fn a_poisson_stream_gives_m_m_c(load in 0.05..0.98_f64, servers in 1_u32..=256) {
            let lambda = load * f64::from(servers);
            let general = GiMc::new(POISSON, lambda, 1.0, servers).unwrap();
            let known = MMc::new(lambda, 1.0, servers).unwrap();
            prop_assert!((general.sigma() - load).abs() < 1e-9);
            let (a, b) = (general.law.chance, known.law.chance);
            prop_assert!((a - b).abs() < 1e-7, "{} {}", a, b);
            prop_assert!((general.mean_s() / known.mean_s() - 1.0).abs() < 1e-6);
        }

        /// c (1 - σ) passes through whole numbers as the load changes, where the
        /// formula is 0 / 0; the chance has to stay smooth there.
        #[test]
        fn the_chance_of_waiting_rises_smoothly_with_load(load in 0.1..0.95_f64, stages in 1_u32..9) {
            let at = |load: f64| {
                let gaps = Gaps::Erlang { stages };
                GiMc::new(gaps, load * 8.0, 1.0, 8).unwrap().law.chance
            };
            let (a, b) = (at(load), at(load + 1e-4));
            prop_assert!(a < b && b - a < 1e-3, "{} {}", a, b);
        }
    }
}
