//! When backends are left out because they are not well, and how they come back:
//! the flags. Active checks are `serve`'s, the decisions are `balance`'s, and
//! `crate::fleet` puts them together.
//!
//! The knobs of ejection and their defaults are Envoy's outlier detection's. What
//! differs: all of it is off without `--eject`; an ejection that is repeated
//! becomes twice as long instead of one base time longer; UNIMPLEMENTED is no
//! failure of a backend, since any client can ask for a method that there is not.

use std::{num::NonZeroU32, time::Duration};

use balance::{Ejection, SlowStart, outlier::SuccessRateRule};
use clap::value_parser;
use serve::duration;

/// When a backend is ejected for what became of its calls.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Ejection")]
pub struct EjectionSettings {
    /// Leave backends out for a while whose calls fail. A call fails on its
    /// backend's side when it breaks or is reset, its deadline passes, its
    /// connection can't be made, or its answer is 5xx or gRPC's UNKNOWN,
    /// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE or DATA_LOSS. Without this flag
    /// the other ones here do nothing.
    #[arg(long)]
    pub eject: bool,

    /// Failures in a row, over all threads, that eject a backend at once; 0
    /// never does.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub eject_after: u32,

    /// For how long; each repetition doubles it.
    #[arg(long, value_name = "DURATION", default_value = "30s",
          value_parser = duration::parse_positive)]
    pub eject_for: Duration,

    /// The longest that it may become, or 16 times the first.
    #[arg(long, value_name = "DURATION", default_value = "300s",
          value_parser = duration::parse_positive)]
    pub eject_for_max: Duration,

    /// The backends that may be ejected at once, in percent; one may be in any
    /// case, unless this is 0.
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
          value_parser = value_parser!(u32).range(0..=100))]
    pub eject_max_percent: u32,

    /// How often success rates are compared, and an ejection of before is
    /// forgiven.
    #[arg(long, value_name = "DURATION", default_value = "10s",
          value_parser = duration::parse_positive)]
    pub eject_interval: Duration,

    /// Standard deviations that a backend's success rate within an interval must
    /// be below the mean of all to eject it; 0 never does.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.9, value_parser = not_negative)]
    pub eject_success_rate_deviations: f64,

    /// Backends with enough calls for their success rates to be compared.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub eject_success_rate_backends: usize,

    /// Calls within an interval that are enough.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub eject_success_rate_calls: u64,
}

impl EjectionSettings {
    /// Failures in a row that eject; `None` for never.
    pub fn streak(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.eject_after).filter(|_| self.eject)
    }

    /// How long an ejection takes.
    pub fn ejection(&self) -> Ejection {
        Ejection {
            failures: NonZeroU32::new(self.eject_after).unwrap_or(NonZeroU32::MAX),
            time: self.eject_for,
            time_max: self.eject_for_max,
        }
    }

    /// When a success rate stands out; `None` for never.
    pub(crate) fn success_rate(&self) -> Option<SuccessRateRule> {
        let rule = SuccessRateRule {
            deviations: self.eject_success_rate_deviations,
            min_backends: self.eject_success_rate_backends,
            min_calls: self.eject_success_rate_calls,
        };
        (self.eject && rule.deviations > 0.0).then_some(rule)
    }
}

/// How a backend comes back, which there are, and what is done when too few are
/// left.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Backends")]
pub struct MembershipSettings {
    /// When fewer than this percentage of the backends is well, those that are
    /// not are given calls too: the load of all would take the rest down. Drained
    /// ones don't count and get none. 0 never does.
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = value_parser!(u32).range(0..=100))]
    pub panic_threshold: u32,

    /// Give a backend that is new or came back less than its share at first,
    /// growing over this time [default: the whole share at once].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub slow_start: Option<Duration>,

    /// How the share grows: 1 evenly, more faster at first, less slower.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub slow_start_aggression: f64,

    /// The share that it begins with, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10,
          value_parser = value_parser!(u32).range(1..=100))]
    pub slow_start_min_percent: u32,

    /// Use only so many of the backends, chosen by --subset-id: many proxies
    /// before many backends need not all be connected to all.
    #[arg(long, value_name = "N", requires = "subset_id",
          value_parser = value_parser!(u32).range(1..))]
    pub subset_size: Option<u32>,

    /// Which of the proxies this is, in any words. The same words and the same
    /// backends always give the same subset.
    #[arg(long, value_name = "TEXT", requires = "subset_size")]
    pub subset_id: Option<String>,
}

impl MembershipSettings {
    /// How the share of a backend grows that is new or came back.
    pub fn slow_start(&self) -> Option<SlowStart> {
        self.slow_start.map(|window| SlowStart {
            window,
            aggression: self.slow_start_aggression,
            least: f64::from(self.slow_start_min_percent) / 100.0,
        })
    }

    /// The size of the subset, and who it is for.
    pub fn subset(&self) -> Option<(usize, &str)> {
        Some((self.subset_size? as usize, self.subset_id.as_deref()?))
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number, as in 1.5".to_owned())?;
    if number.is_finite() { Ok(number) } else { Err("it must be finite".to_owned()) }
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    number(text).and_then(|number| {
        if number >= 0.0 { Ok(number) } else { Err("it must not be below zero".to_owned()) }
    })
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).and_then(|number| {
        if number > 0.0 { Ok(number) } else { Err("it must be above zero".to_owned()) }
    })
}
