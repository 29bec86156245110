//! What single policies can be told: the flags.

use std::time::Duration;

use balance::{ProbeRule, Tuning, WeightRule};
use clap::value_parser;
use serve::duration;

use crate::health::not_negative;

/// Settings of single policies; without effect under any other one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Policies")]
pub(crate) struct PolicySettings {
    /// weighted_round_robin: how long a backend has to have reported its load, in the
    /// trailers of its calls, before that counts. The defaults are gRPC's (gRFC A58).
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(crate) weight_blackout: Duration,

    /// weighted_round_robin: how long the last report of a backend counts.
    #[arg(long, value_name = "DURATION", default_value = "3m",
          value_parser = duration::parse_positive)]
    pub(crate) weight_expiry: Duration,

    /// weighted_round_robin: how often weights are computed; at most every 100ms.
    #[arg(long, value_name = "DURATION", default_value = "1s",
          value_parser = duration::parse_positive)]
    pub(crate) weight_update: Duration,

    /// least_request: how much calls in flight take from the weight of a backend, where
    /// weights differ; 0 for nothing.
    #[arg(long, value_name = "FACTOR", default_value_t = Tuning::default().request_bias,
          value_parser = not_negative)]
    pub(crate) request_bias: f64,

    /// bounded_ring_hash: the most that a backend may have in flight, in percent of what it
    /// would have if loads were even.
    #[arg(long, value_name = "PERCENT", default_value_t = 125,
          value_parser = value_parser!(u32).range(101..=10_000))]
    pub(crate) load_bound_percent: u32,

    /// prequal: probes for each call, on average.
    #[arg(long, value_name = "N", default_value_t = Tuning::default().probes.sent,
          value_parser = not_negative)]
    pub(crate) probes_per_call: f64,

    /// prequal: the quantile of calls in flight above which a backend is hot; with 0 only
    /// calls in flight count, with 1 only latency.
    #[arg(long, value_name = "QUANTILE", default_value_t = Tuning::default().probes.hot_quantile,
          value_parser = part)]
    pub(crate) hot_quantile: f64,
}

fn part(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|part| {
        if part <= 1.0 { Ok(part) } else { Err("it must be from 0 to 1".to_owned()) }
    })
}

impl PolicySettings {
    /// As the policies take them.
    pub(crate) fn tuning(&self) -> Tuning {
        Tuning {
            weights: WeightRule {
                blackout: self.weight_blackout,
                expiry: self.weight_expiry,
                update: self.weight_update,
            },
            request_bias: self.request_bias,
            load_bound: f64::from(self.load_bound_percent) / 100.0,
            probes: ProbeRule {
                sent: self.probes_per_call,
                hot_quantile: self.hot_quantile,
                ..ProbeRule::default()
            },
        }
    }
}
