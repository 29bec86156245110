//! How long a call occupies a server, as the models need it: moments, and the
//! mean of the time cut off at a limit.

use std::sync::Arc;

use crate::{Error, measured::Measured, model::positive, special::normal_cdf};

/// A distribution of service times, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// Always the same.
    Constant {
        /// Every call's service time.
        value_s: f64,
    },
    /// Exponential.
    Exponential {
        /// Its mean.
        mean_s: f64,
    },
    /// Lognormal.
    Lognormal {
        /// Its mean (not its median).
        mean_s: f64,
        /// Standard deviation of its logarithm; may be zero.
        sigma: f64,
    },
    /// One of two times.
    Bimodal {
        /// The common time.
        common_s: f64,
        /// The rare time.
        rare_s: f64,
        /// The share of calls that take the rare time, from 0 to 1.
        rare_share: f64,
    },
    /// As it was measured.
    Measured(Arc<Measured>),
}

impl Service {
    /// Refuses parameters that are no distribution.
    ///
    /// # Errors
    /// When a time is not positive, sigma is negative or above 5, or the share is
    /// not from 0 to 1.
    pub fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Constant { value_s: mean_s } | Self::Exponential { mean_s } => {
                positive("the service time", mean_s)?;
            }
            Self::Lognormal { mean_s, sigma } => {
                positive("the service time", mean_s)?;
                if !(0.0..=5.0).contains(&sigma) {
                    return Err(Error::TooLarge { what: "sigma", value: sigma, limit: 5.0 });
                }
            }
            Self::Bimodal { common_s, rare_s, rare_share } => {
                positive("the common service time", common_s)?;
                positive("the rare service time", rare_s)?;
                if !(0.0..=1.0).contains(&rare_share) {
                    let what = "the share of rare calls";
                    return Err(Error::TooLarge { what, value: rare_share, limit: 1.0 });
                }
            }
            // Its times are positive.
            Self::Measured(_) => {}
        }
        Ok(())
    }

    /// The distribution on a server that is `speed` times as fast.
    #[must_use]
    pub fn at_speed(self, speed: f64) -> Self {
        match self {
            Self::Constant { value_s } => Self::Constant { value_s: value_s / speed },
            Self::Exponential { mean_s } => Self::Exponential { mean_s: mean_s / speed },
            Self::Lognormal { mean_s, sigma } => Self::Lognormal { mean_s: mean_s / speed, sigma },
            Self::Bimodal { common_s, rare_s, rare_share } => {
                Self::Bimodal { common_s: common_s / speed, rare_s: rare_s / speed, rare_share }
            }
            Self::Measured(measured) => measured.at_speed(speed).into(),
        }
    }

    /// E\[S\] in seconds.
    pub fn mean_s(&self) -> f64 {
        match *self {
            Self::Constant { value_s: mean_s }
            | Self::Exponential { mean_s }
            | Self::Lognormal { mean_s, .. } => mean_s,
            Self::Bimodal { common_s, rare_s, rare_share } => {
                common_s * (1.0 - rare_share) + rare_s * rare_share
            }
            Self::Measured(ref measured) => measured.mean_s(),
        }
    }

    /// E\[S²\] in square seconds.
    pub fn second_moment(&self) -> f64 {
        match *self {
            Self::Constant { value_s } => value_s * value_s,
            Self::Exponential { mean_s } => 2.0 * mean_s * mean_s,
            Self::Lognormal { mean_s, sigma } => mean_s * mean_s * (sigma * sigma).exp(),
            Self::Bimodal { common_s, rare_s, rare_share } => {
                common_s * common_s * (1.0 - rare_share) + rare_s * rare_s * rare_share
            }
            Self::Measured(ref measured) => measured.second_moment(),
        }
    }

    /// P(S <= x).
    pub fn cdf(&self, x_s: f64) -> f64 {
        if x_s < 0.0 {
            return 0.0;
        }
        let step = |at: f64| f64::from(u8::from(x_s >= at));
        match *self {
            Self::Constant { value_s } => step(value_s),
            Self::Exponential { mean_s } => -(-x_s / mean_s).exp_m1(),
            Self::Lognormal { mean_s, sigma: 0.0 } => step(mean_s),
            Self::Lognormal { mean_s, sigma } => {
                normal_cdf((x_s / mean_s).ln() / sigma + sigma / 2.0)
            }
            Self::Bimodal { common_s, rare_s, rare_share } => {
                step(common_s) * (1.0 - rare_share) + step(rare_s) * rare_share
            }
            Self::Measured(ref measured) => measured.cdf(x_s),
        }
    }

    /// E[min(S, x)] in seconds: the integral of P(S > u) from 0 to x. Over the
    /// mean it is the distribution of what is left of a service under way when a
    /// call comes.
    pub(crate) fn limited_mean_s(&self, x_s: f64) -> f64 {
        if x_s <= 0.0 {
            return 0.0;
        }
        match *self {
            Self::Constant { value_s } => x_s.min(value_s),
            Self::Exponential { mean_s } => -mean_s * (-x_s / mean_s).exp_m1(),
            Self::Lognormal { mean_s, sigma: 0.0 } => x_s.min(mean_s),
            Self::Lognormal { mean_s, sigma } => {
                let z = (x_s / mean_s).ln() / sigma;
                mean_s * normal_cdf(z - sigma / 2.0) + x_s * normal_cdf(-z - sigma / 2.0)
            }
            Self::Bimodal { common_s, rare_s, rare_share } => {
                x_s.min(common_s) * (1.0 - rare_share) + x_s.min(rare_s) * rare_share
            }
            Self::Measured(ref measured) => measured.limited_mean_s(x_s),
        }
    }

    /// The letter of Kendall's notation, or a word.
    pub(crate) fn letter(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "D",
            Self::Exponential { .. } => "M",
            Self::Lognormal { .. } => "lognormal",
            Self::Bimodal { .. } => "bimodal",
            Self::Measured(_) => "as measured",
        }
    }
}

#[cfg(test)]
pub(crate) const EXAMPLES: [Service; 5] = [
    Service::Constant { value_s: 0.7 },
    Service::Exponential { mean_s: 1.3 },
    Service::Lognormal { mean_s: 2.0, sigma: 1.0 },
    Service::Lognormal { mean_s: 2.0, sigma: 0.0 },
    Service::Bimodal { common_s: 0.5, rare_s: 6.0, rare_share: 0.05 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limited_mean_is_the_area_under_the_tail_and_tends_to_the_mean() {
        let measured = Measured::new([(0.3, 5), (1.1, 3), (4.0, 2)]).unwrap();
        for service in EXAMPLES.into_iter().chain([measured.into()]) {
            let step = 0.0005;
            let mut area = 0.0;
            for i in 0..20_000 {
                let x = (f64::from(i) + 0.5) * step;
                area += (1.0 - service.cdf(x)) * step;
                if i % 4_000 == 3_999 {
                    let limited = service.limited_mean_s(x + step / 2.0);
                    assert!((limited - area).abs() < 1e-3, "{service:?} {x}: {limited} {area}");
                }
            }
            let far = service.limited_mean_s(1e6);
            assert!((far / service.mean_s() - 1.0).abs() < 1e-6, "{service:?}: {far}");
        }
    }

    #[test]
    fn variation_is_that_of_the_textbook() {
        let variation = |one: &Service| one.second_moment() / one.mean_s().powi(2) - 1.0;
        let variations = EXAMPLES.each_ref().map(variation);
        let expected = [0.0, 1.0, 1_f64.exp() - 1.0, 0.0];
        for (found, expected) in variations.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let faster = EXAMPLES[4].clone().at_speed(2.0);
        assert!((faster.mean_s() - EXAMPLES[4].mean_s() / 2.0).abs() < 1e-15);
        assert!((variation(&faster) - variations[4]).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for service in [
            Service::Constant { value_s: 0.0 },
            Service::Exponential { mean_s: f64::NAN },
            Service::Lognormal { mean_s: 1.0, sigma: -1.0 },
            Service::Bimodal { common_s: 1.0, rare_s: 2.0, rare_share: 1.5 },
            Service::Bimodal { common_s: 1.0, rare_s: 0.0, rare_share: 0.5 },
        ] {
            assert!(service.check().is_err(), "{service:?}");
        }
        for service in EXAMPLES {
            service.check().unwrap();
        }
    }
}
