//! The list of policies.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backend, BalanceError,
    join_idle_queue::JoinIdleQueue,
    least_loaded::LeastLoaded,
    least_request::LeastRequest,
    maglev::Maglev,
    p2c::FewestOf,
    peak_ewma::PeakEwmaPolicy,
    pick::{Policy, Start},
    pick_first::PickFirst,
    prequal::Prequal,
    random::Random,
    ring_hash::{BoundedRingHash, RingHash},
    round_robin::RoundRobin,
    tuning::Tuning,
    weighted_round_robin::WeightedRoundRobin,
};

/// How a backend is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// Each in turn, as often as its weight says.
    #[default]
    RoundRobin,
    /// Each in turn, as often as the load that it reports says.
    WeightedRoundRobin,
    /// By chance, in proportion to weights.
    Random,
    /// The fewest in flight per unit of weight, over all backends.
    LeastLoaded,
    /// The fewer in flight per unit of weight, of two drawn by chance.
    P2c,
    /// The fewest in flight per unit of weight, of three drawn by chance.
    P3c,
    /// As Envoy weighs it: of two drawn by chance where all weigh the same, and else in
    /// turn, as often as weight over calls in flight says.
    LeastRequest,
    /// One with nothing in flight, by chance; where all have, any.
    JoinIdleQueue,
    /// The lower expected latency, of two drawn by chance.
    PeakEwma,
    /// The fastest of those that hold few calls, by probes that were made ahead.
    Prequal,
    /// The owner of the key on a ring of hashes.
    RingHash,
    /// The same, and where its load is above its bound, the next one on the ring.
    BoundedRingHash,
    /// The owner of the key in a Maglev table.
    Maglev,
    /// The first of the list that is available.
    PickFirst,
}

impl PolicyKind {
    /// All policies. A new one is a file, a variant and a line here and in
    /// [`PolicyKind::name`] and `build`; the tests walk this list.
    pub const ALL: [Self; 14] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::Random,
        Self::LeastLoaded,
        Self::P2c,
        Self::P3c,
        Self::LeastRequest,
        Self::JoinIdleQueue,
        Self::PeakEwma,
        Self::Prequal,
        Self::RingHash,
        Self::BoundedRingHash,
        Self::Maglev,
        Self::PickFirst,
    ];

    /// Its name in scenarios and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::Random => "random",
            Self::LeastLoaded => "least_loaded",
            Self::P2c => "p2c",
            Self::P3c => "p3c",
            Self::LeastRequest => "least_request",
            Self::JoinIdleQueue => "join_idle_queue",
            Self::PeakEwma => "peak_ewma",
            Self::Prequal => "prequal",
            Self::RingHash => "ring_hash",
            Self::BoundedRingHash => "bounded_ring_hash",
            Self::Maglev => "maglev",
            Self::PickFirst => "pick_first",
        }
    }

    /// Whether it keeps equal keys on one backend.
    pub fn uses_key(self) -> bool {
        matches!(self, Self::RingHash | Self::BoundedRingHash | Self::Maglev)
    }

    /// Whether it goes by what backends report of their load.
    #[inline]
    pub fn uses_reports(self) -> bool {
        self == Self::WeightedRoundRobin
    }

    /// Whether it has backends probed ([`Balancer::to_probe`](crate::Balancer::to_probe)).
    #[inline]
    pub fn uses_probes(self) -> bool {
        self == Self::Prequal
    }

    /// Whether it goes by what backends say of their load themselves, in one way or the
    /// other.
    pub fn asks_backends(self) -> bool {
        self.uses_reports() || self.uses_probes()
    }

    pub(crate) fn build(
        self,
        tuning: &Tuning,
        backends: &[Arc<Backend>],
        start: Start,
    ) -> Result<Box<dyn Policy>, BalanceError> {
        Ok(match self {
            Self::RoundRobin => Box::new(RoundRobin::new(backends, start)?),
            Self::WeightedRoundRobin => {
                Box::new(WeightedRoundRobin::new(backends, start, tuning.weights)?)
            }
            Self::Random => Box::new(Random::new(backends)),
            Self::LeastLoaded => Box::new(LeastLoaded),
            Self::P2c => Box::new(FewestOf::<2>::new(backends)),
            Self::P3c => Box::new(FewestOf::<3>::new(backends)),
            Self::LeastRequest => Box::new(LeastRequest::new(backends, start, tuning.request_bias)),
            Self::JoinIdleQueue => Box::new(JoinIdleQueue::new(backends)),
            Self::PeakEwma => Box::new(PeakEwmaPolicy::new(backends)),
            Self::Prequal => Box::new(Prequal::new(backends, tuning.probes)),
            Self::RingHash => Box::new(RingHash::new(backends)),
            Self::BoundedRingHash => Box::new(BoundedRingHash::new(backends, tuning.load_bound)),
            Self::Maglev => Box::new(Maglev::new(backends)?),
            Self::PickFirst => Box::new(PickFirst),
        })
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A policy name that is not on the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy `{0}`; expected one of {list}", list = names())]
pub struct UnknownPolicy(pub String);

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

fn names() -> String {
    PolicyKind::ALL.map(PolicyKind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_known_by_its_name() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json_name(kind), kind.name());
        }
        let error = "round-robin".parse::<PolicyKind>().unwrap_err().to_string();
        assert!(error.contains("round_robin"), "{error}");
    }

    /// The name serde writes, without a format crate: unit variants are strings.
    fn serde_json_name(kind: PolicyKind) -> String {
        let debug = format!("{kind:?}");
        let mut snake = String::new();
        for (index, letter) in debug.char_indices() {
            if index > 0 && letter.is_uppercase() {
                snake.push('_');
            }
            snake.extend(letter.to_lowercase());
        }
        snake
    }
}
