//! What policies can be told beside their backends.

use std::time::Duration;

/// Settings of single policies; each one's default is that of its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// When reported weights count, for `weighted_round_robin`.
    pub weights: WeightRule,
    /// How much calls in flight take from a weight, for `least_request`; not below 0.
    pub request_bias: f64,
    /// The largest load as a multiple of the even one, for `bounded_ring_hash`; above 1.
    pub load_bound: f64,
    /// How backends are probed, for `prequal`.
    pub probes: ProbeRule,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            weights: WeightRule::default(),
            request_bias: 1.0,
            load_bound: 1.25,
            probes: ProbeRule::default(),
        }
    }
}

/// When a weight that a backend reports counts (gRFC A58).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightRule {
    /// For how long a backend has to have reported before its weight counts: one that has
    /// just started says little of what it can do.
    pub blackout: Duration,
    /// For how long a weight counts after the last report.
    pub expiry: Duration,
    /// The time between two looks at the weights.
    pub update: Duration,
}

impl Default for WeightRule {
    fn default() -> Self {
        Self {
            blackout: Duration::from_secs(10),
            expiry: Duration::from_secs(180),
            update: Duration::from_secs(1),
        }
    }
}

/// How backends are probed, and what becomes of the answers (Wydrowski et al. 2024).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeRule {
    /// Probes sent for each pick, on average.
    pub sent: f64,
    /// Probes removed from the pool for each pick, on average, besides those that are used
    /// up or too old.
    pub removed: f64,
    /// Places in the pool.
    pub pool: usize,
    /// After this time a probe is too old.
    pub age: Duration,
    /// The quantile of calls in flight above which a backend is hot: with 0 only calls in
    /// flight count, with 1 only latency.
    pub hot_quantile: f64,
}

impl Default for ProbeRule {
    fn default() -> Self {
        let age = Duration::from_secs(1);
        Self { sent: 3.0, removed: 1.0, pool: 16, age, hot_quantile: 0.84 }
    }
}

/// A duration as the clock of the policies has it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
