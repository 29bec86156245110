//! How long a call occupies a server: the distributions, how they are written
//! (`exponential:4ms`), and how they are drawn from.
//!
//! Adding one: a variant of [`ServiceTime`], its line in [`KINDS`], and its
//! arms in the three matches below; a test walks the list.

use std::{fmt, str::FromStr, time::Duration};

use rand_distr::{Distribution, Exp1, OpenClosed01, StandardNormal};
use serve::duration::{self, nanos};

use crate::random::Random;

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// No queue and no waiting: calls are answered at once.
    None,
    /// Always the same.
    Constant {
        /// Every call's service time.
        value: Duration,
    },
    /// Exponential, the memoryless one of queueing theory.
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// Lognormal: the heavy tail that services have in life.
    Lognormal {
        /// The mean (not the median).
        mean: Duration,
        /// How heavy the tail is.
        spread: Spread,
    },
    /// Two kinds of call, as with a cache that misses.
    Bimodal {
        /// The common time.
        common: Duration,
        /// The rare time.
        rare: Duration,
        /// How many calls take the rare time, in percent.
        rare_percent: f64,
    },
}

/// The spread of a lognormal distribution, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// The deviation of the logarithm.
    Sigma(f64),
    /// The 99th percentile, from which sigma follows.
    P99(Duration),
}

/// One kind of distribution, for the help text, for error messages and for the
/// test that walks them.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The word before the colon.
    pub name: &'static str,
    /// How it is written.
    pub example: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    parse: fn(&[&str]) -> Result<ServiceTime, String>,
}

/// All kinds of distribution.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "none",
        example: "none",
        about: "no queue; every call is answered at once",
        parse: parse_none,
    },
    Kind {
        name: "constant",
        example: "constant:500us",
        about: "every call takes 500 us",
        parse: parse_constant,
    },
    Kind {
        name: "exponential",
        example: "exponential:4ms",
        about: "exponential with mean 4 ms",
        parse: parse_exponential,
    },
    Kind {
        name: "lognormal",
        example: "lognormal:2ms,sigma=1",
        about: "lognormal with mean 2 ms; or p99=10ms instead of sigma",
        parse: parse_lognormal,
    },
    Kind {
        name: "bimodal",
        example: "bimodal:1ms,20ms,5%",
        about: "1 ms, and 20 ms for 5 % of the calls",
        parse: parse_bimodal,
    },
];

/// Why a text is no distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no service time: {reason}")]
pub struct ServiceTimeError {
    text: String,
    reason: String,
}

impl ServiceTime {
    /// Draws one service time at speed 1, in nanoseconds.
    pub fn sample(&self, random: &mut Random) -> u64 {
        match self {
            Self::None => 0,
            Self::Constant { value } => nanos(*value),
            Self::Exponential { mean } => scaled(*mean, Exp1.sample(random)),
            Self::Lognormal { mean, spread } => {
                let sigma = spread.sigma(*mean);
                // The mean of exp(N(mu, sigma)) is exp(mu + sigma^2 / 2).
                let normal: f64 = StandardNormal.sample(random);
                scaled(*mean, (sigma * normal - sigma * sigma / 2.0).exp())
            }
            Self::Bimodal { common, rare, rare_percent } => {
                let uniform: f64 = OpenClosed01.sample(random);
                let is_rare = uniform * 100.0 <= *rare_percent;
                nanos(if is_rare { *rare } else { *common })
            }
        }
    }

    /// The mean at speed 1, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Constant { value: mean }
            | Self::Exponential { mean }
            | Self::Lognormal { mean, .. } => mean.as_nanos() as f64,
            Self::Bimodal { common, rare, rare_percent } => {
                let share = rare_percent / 100.0;
                common.as_nanos() as f64 * (1.0 - share) + rare.as_nanos() as f64 * share
            }
        }
    }

    /// A paragraph on how distributions are written, for `--help`.
    pub fn help() -> String {
        let mut text = String::from("How long a call occupies a server:");
        for kind in KINDS {
            text.push_str(&format!("\n  {:<24} {}", kind.example, kind.about));
        }
        text
    }
}

impl Spread {
    /// The deviation of the logarithm.
    fn sigma(self, mean: Duration) -> f64 {
        match self {
            Self::Sigma(sigma) => sigma,
            // With z the normal's p99, ln(p99 / mean) = z sigma - sigma^2 / 2;
            // the smaller root is the one whose sigma grows with the tail.
            Self::P99(p99) => {
                let log_ratio = (p99.as_nanos() as f64 / mean.as_nanos() as f64).ln();
                NORMAL_P99 - (NORMAL_P99 * NORMAL_P99 - 2.0 * log_ratio).max(0.0).sqrt()
            }
        }
    }
}

fn scaled(mean: Duration, factor: f64) -> u64 {
    // Float to integer saturates.
    (mean.as_nanos() as f64 * factor).round() as u64
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |value: &Duration| duration::format(*value);
        match self {
            Self::None => f.write_str("none"),
            Self::Constant { value } => write!(f, "constant:{}", time(value)),
            Self::Exponential { mean } => write!(f, "exponential:{}", time(mean)),
            Self::Lognormal { mean, spread: Spread::Sigma(sigma) } => {
                write!(f, "lognormal:{},sigma={sigma}", time(mean))
            }
            Self::Lognormal { mean, spread: Spread::P99(p99) } => {
                write!(f, "lognormal:{},p99={}", time(mean), time(p99))
            }
            Self::Bimodal { common, rare, rare_percent } => {
                write!(f, "bimodal:{},{},{rare_percent}%", time(common), time(rare))
            }
        }
    }
}

impl FromStr for ServiceTime {
    type Err = ServiceTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| ServiceTimeError { text: text.to_owned(), reason };
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        let kind = KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            fail(format!("`{name}` is none of {}", names.join(", ")))
        })?;
        let parameters: Vec<_> = match parameters {
            "" => Vec::new(),
            listed => listed.split(',').map(str::trim).collect(),
        };
        (kind.parse)(&parameters)
            .map_err(|reason| fail(format!("{reason}; it is written as in `{}`", kind.example)))
    }
}

fn parse_none(parameters: &[&str]) -> Result<ServiceTime, String> {
    match parameters {
        [] => Ok(ServiceTime::None),
        _ => Err("it takes no value".to_owned()),
    }
}

fn parse_constant(parameters: &[&str]) -> Result<ServiceTime, String> {
    match parameters {
        [value] => Ok(ServiceTime::Constant { value: positive(value)? }),
        _ => Err("it takes one time".to_owned()),
    }
}

fn parse_exponential(parameters: &[&str]) -> Result<ServiceTime, String> {
    match parameters {
        [mean] => Ok(ServiceTime::Exponential { mean: positive(mean)? }),
        _ => Err("it takes one time, the mean".to_owned()),
    }
}

fn parse_lognormal(parameters: &[&str]) -> Result<ServiceTime, String> {
    let [mean, spread] = parameters else {
        return Err("it takes the mean and either sigma or p99".to_owned());
    };
    let mean = positive(mean)?;
    let spread = match spread.split_once('=') {
        Some(("sigma", sigma)) => Spread::Sigma(
            sigma
                .parse()
                .ok()
                .filter(|sigma| (0.0..=5.0).contains(sigma))
                .ok_or_else(|| format!("sigma is `{sigma}`, and must be from 0 to 5"))?,
        ),
        Some(("p99", p99)) => {
            let p99 = positive(p99)?;
            let ratio = p99.as_nanos() as f64 / mean.as_nanos() as f64;
            // Beyond this no sigma gives the ratio; see Spread::sigma.
            let highest = (NORMAL_P99 * NORMAL_P99 / 2.0).exp();
            if !(1.0..=highest).contains(&ratio) {
                return Err(format!(
                    "p99 is {ratio:.2} times the mean, and must be from 1 to {highest:.1} times"
                ));
            }
            Spread::P99(p99)
        }
        _ => return Err(format!("`{spread}` is neither sigma=.. nor p99=..")),
    };
    Ok(ServiceTime::Lognormal { mean, spread })
}

fn parse_bimodal(parameters: &[&str]) -> Result<ServiceTime, String> {
    let [common, rare, share] = parameters else {
        return Err("it takes two times and a share".to_owned());
    };
    let rare_percent = share
        .strip_suffix('%')
        .and_then(|percent| percent.trim_end().parse().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("the share is `{share}`, and must be from 0% to 100%"))?;
    Ok(ServiceTime::Bimodal { common: positive(common)?, rare: positive(rare)?, rare_percent })
}

/// A time that a server can take: positive, and short of an hour, beyond which
/// a slip of the unit is likelier than the wish.
fn positive(text: &str) -> Result<Duration, String> {
    let value = duration::parse(text).map_err(|error| error.to_string())?;
    if value.is_zero() {
        return Err(format!("`{text}` is zero, and `none` is the way to ask for that"));
    }
    if value > Duration::from_secs(3600) {
        return Err(format!("`{text}` is longer than an hour"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    /// Many draws, sorted.
    fn draws(text: &str) -> Vec<u64> {
        let service: ServiceTime = text.parse().unwrap();
        let mut random = Random::seed_from_u64(3);
        let mut all: Vec<_> = (0..500_000).map(|_| service.sample(&mut random)).collect();
        all.sort_unstable();
        all
    }

    fn mean(draws: &[u64]) -> f64 {
        draws.iter().map(|ns| *ns as f64).sum::<f64>() / draws.len() as f64
    }

    fn p99(draws: &[u64]) -> f64 {
        draws[draws.len() * 99 / 100] as f64
    }

    #[test]
    fn every_kind_reads_its_example_and_draws_its_mean() {
        for kind in KINDS {
            let service: ServiceTime = kind.example.parse().unwrap();
            assert_eq!(service.to_string(), kind.example, "{}", kind.name);
            let drawn = mean(&draws(kind.example));
            let stated = service.mean_ns();
            assert!((drawn - stated).abs() <= 0.02 * stated, "{}: {drawn} {stated}", kind.name);
            assert!(ServiceTime::help().contains(kind.example));
        }
    }

    #[test]
    fn tails_are_where_they_were_asked_for() {
        let drawn = p99(&draws("lognormal:2ms,p99=10ms"));
        assert!((drawn / 10e6 - 1.0).abs() < 0.03, "{drawn}");
        let drawn = p99(&draws("exponential:1ms"));
        assert!((drawn / (1e6 * 100_f64.ln()) - 1.0).abs() < 0.03, "{drawn}");
        let drawn = draws("bimodal:1ms,20ms,5%");
        let rare = drawn.iter().filter(|ns| **ns == 20_000_000).count();
        assert!((rare as f64 / drawn.len() as f64 - 0.05).abs() < 0.002);
    }

    #[test]
    fn errors_name_the_text_and_show_how_it_is_written() {
        let cases = [
            ("gamma:1ms", "none of none, constant, exponential, lognormal, bimodal"),
            ("", "none of none"),
            ("none:1ms", "takes no value"),
            ("constant", "as in `constant:500us`"),
            ("constant:5", "has no unit"),
            ("constant:0ms", "`none` is the way"),
            ("constant:2h", "longer than an hour"),
            ("exponential:1ms,2ms", "takes one time"),
            ("lognormal:1ms", "either sigma or p99"),
            ("lognormal:1ms,sigma=-1", "from 0 to 5"),
            ("lognormal:1ms,sigma=NaN", "from 0 to 5"),
            ("lognormal:1ms,p99=20ms", "must be from 1 to 15.0 times"),
            ("lognormal:1ms,width=2", "neither sigma"),
            ("bimodal:1ms,2ms,0.5", "from 0% to 100%"),
            ("bimodal:1ms,2ms,101%", "from 0% to 100%"),
        ];
        for (text, expected) in cases {
            let message = text.parse::<ServiceTime>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.contains(&format!("`{text}`")), "{message}");
        }
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        (1..3_600_000_000_000_u64).prop_map(Duration::from_nanos)
    }

    fn any_service_time() -> impl Strategy<Value = ServiceTime> {
        prop_oneof![
            Just(ServiceTime::None),
            any_time().prop_map(|value| ServiceTime::Constant { value }),
            any_time().prop_map(|mean| ServiceTime::Exponential { mean }),
            (any_time(), 0.0..5.0_f64).prop_map(|(mean, sigma)| ServiceTime::Lognormal {
                mean,
                spread: Spread::Sigma(sigma)
            }),
            (any_time(), any_time(), 0.0..=100.0_f64).prop_map(|(common, rare, rare_percent)| {
                ServiceTime::Bimodal { common, rare, rare_percent }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(service in any_service_time()) {
            prop_assert_eq!(service.to_string().parse(), Ok(service));
        }

        #[test]
        fn no_text_panics(text in "(none|constant|exponential|lognormal|bimodal)?:?[0-9a-z=,.%]{0,20}") {
            let _ = text.parse::<ServiceTime>();
        }
    }
}
