//! Service times: how long one of a backend's servers works on a call.
//!
//! The text form is shared with the backend's `--service-time` flag, so that a
//! scenario's distribution can be tried by hand.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use units::duration;

use crate::bounds;

/// The forms, for error messages and the schema.
const FORMS: &str = "none, constant:D, exponential:D, lognormal:D,sigma=S or bimodal:D1,D2,P%";

/// The distribution of a backend's service time, at speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// The backend answers at once; its queue is never used.
    None,
    /// Every call takes the same time.
    Constant(Duration),
    /// Memoryless, as in M/M/c.
    Exponential {
        /// Its mean.
        mean: Duration,
    },
    /// Skewed to the right, as request times in the wild are.
    Lognormal {
        /// Its mean (not its median).
        mean: Duration,
        /// Standard deviation of its logarithm.
        sigma: f64,
    },
    /// Mice and elephants.
    Bimodal {
        /// What most calls take.
        common: Duration,
        /// What the rest takes.
        rare: Duration,
        /// Share of the rest, in percent; between 0 and 100, both excluded.
        rare_percent: f64,
    },
}

impl ServiceTime {
    /// The mean in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        let ns = |duration: Duration| duration.as_nanos() as f64;
        match *self {
            Self::None => 0.0,
            Self::Constant(time) | Self::Exponential { mean: time } => ns(time),
            Self::Lognormal { mean, .. } => ns(mean),
            Self::Bimodal { common, rare, rare_percent } => {
                let share = rare_percent / 100.0;
                ns(common) * (1.0 - share) + ns(rare) * share
            }
        }
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |duration: &Duration| duration::format(*duration);
        match self {
            Self::None => f.write_str("none"),
            Self::Constant(time) => write!(f, "constant:{}", text(time)),
            Self::Exponential { mean } => write!(f, "exponential:{}", text(mean)),
            Self::Lognormal { mean, sigma } => write!(f, "lognormal:{},sigma={sigma}", text(mean)),
            Self::Bimodal { common, rare, rare_percent } => {
                write!(f, "bimodal:{},{},{rare_percent}%", text(common), text(rare))
            }
        }
    }
}

impl FromStr for ServiceTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, parameters) = match text.trim().split_once(':') {
            Some((name, parameters)) => {
                (name.trim(), parameters.split(',').map(str::trim).collect())
            }
            None => (text.trim(), Vec::new()),
        };
        match (name, parameters.as_slice()) {
            ("none", []) => Ok(Self::None),
            ("constant", [time]) => Ok(Self::Constant(time_of(text, time)?)),
            ("exponential", [mean]) => Ok(Self::Exponential { mean: time_of(text, mean)? }),
            ("lognormal", [mean, sigma]) => {
                Ok(Self::Lognormal { mean: time_of(text, mean)?, sigma: sigma_of(text, sigma)? })
            }
            ("bimodal", [common, rare, percent]) => Ok(Self::Bimodal {
                common: time_of(text, common)?,
                rare: time_of(text, rare)?,
                rare_percent: percent_of(text, percent)?,
            }),
            _ => Err(format!("`{text}` is no service time; write {FORMS}")),
        }
    }
}

fn time_of(whole: &str, text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|reason| format!("in `{whole}`, {reason}"))?;
    let bounds::Bounds { min, max } = bounds::SERVICE_TIME;
    if (min..=max).contains(&time) {
        return Ok(time);
    }
    let (min, max) = (duration::format(min), duration::format(max));
    Err(format!("in `{whole}`, {text} is out of bounds; service times go from {min} to {max}"))
}

fn sigma_of(whole: &str, text: &str) -> Result<f64, String> {
    let bounds::Bounds { min, max } = bounds::SIGMA;
    text.strip_prefix("sigma=")
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|sigma| (min..=max).contains(sigma))
        .ok_or_else(|| {
            format!("in `{whole}`, expected sigma=S with S from {min} to {max}, found `{text}`")
        })
}

fn percent_of(whole: &str, text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|percent| *percent > 0.0 && *percent < 100.0)
        .ok_or_else(|| {
            format!("in `{whole}`, expected a percentage between 0% and 100%, found `{text}`")
        })
}

impl<'de> Deserialize<'de> for ServiceTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ServiceTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a service time in quotes: {FORMS}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for ServiceTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ServiceTime {
    fn schema_name() -> Cow<'static, str> {
        "ServiceTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": format!("How long a server works on a call: {FORMS}."),
            "pattern": r"^(none|constant:[^,]+|exponential:[^,]+|lognormal:[^,]+, *sigma=[0-9.]+|bimodal:[^,]+,[^,]+,[^,%]+%)$",
            "examples": ["none", "constant:1ms", "exponential:4ms", "lognormal:4ms,sigma=1", "bimodal:1ms,50ms,2%"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "none",
            "constant:250us",
            "exponential:4ms",
            "lognormal:4ms,sigma=0.5",
            "bimodal:1ms,50ms,2.5%",
        ] {
            let service_time: ServiceTime = text.parse().unwrap();
            assert_eq!(service_time.to_string(), text);
        }
    }

    #[test]
    fn the_mean_of_a_mixture_is_weighted() {
        let mixed: ServiceTime = "bimodal:1ms,101ms,10%".parse().unwrap();
        assert_eq!(mixed.mean_ns(), 11_000_000.0);
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, expected) in [
            ("gaussian:4ms", "is no service time; write none, constant:D"),
            ("none:4ms", "is no service time"),
            ("exponential", "is no service time"),
            ("exponential:4", "no unit"),
            ("exponential:0ms", "service times go from 1us to 1m"),
            ("constant:2m", "service times go from 1us to 1m"),
            ("lognormal:4ms,sigma=0", "sigma=S with S from 0.01 to 4"),
            ("lognormal:4ms,0.5", "expected sigma=S"),
            ("bimodal:1ms,2ms,100%", "between 0% and 100%"),
            ("bimodal:1ms,2ms,NaN%", "between 0% and 100%"),
        ] {
            let message = text.parse::<ServiceTime>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
