//! The list of policies, and what a policy is.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backend, BalanceError, PickInput, Tried,
    join_idle_queue::JoinIdleQueue,
    least_loaded::LeastLoaded,
    least_request::LeastRequest,
    maglev::Maglev,
    p2c::FewestOf,
    peak_ewma::PeakEwmaPolicy,
    pick_first::PickFirst,
    prequal::{Prequal, Probe},
    random::Random,
    ring_hash::{BoundedRingHash, RingHash},
    round_robin::{Place, RoundRobin},
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

/// Where a policy that takes turns begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// At any turn, by these random bits.
    Chance(u64),
    /// Where another list was left.
    At(Place),
}

impl Start {
    /// A word that differs where it begins elsewhere.
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::Chance(random) => random,
            Self::At(place) => place.time(),
        }
    }
}

/// A policy over the backends it was built for. State that picks change is
/// atomic: all threads of a proxy share one.
pub(crate) trait Policy: Send + Sync + fmt::Debug {
    /// Index of one of the candidates; `None` when there is none.
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize>;

    /// Adds the candidates that are to be probed after a pick, for a policy that goes by
    /// probes.
    fn to_probe(&self, _candidates: &Candidates<'_>, _input: &PickInput, _probed: &mut Vec<usize>) {
    }

    /// A candidate has answered a probe.
    fn probed(&self, _index: usize, _probe: Probe, _input: &PickInput) {}

    /// Whose turn it is, for a policy that takes turns.
    fn place(&self) -> Option<Place> {
        None
    }
}

/// The backends, seen through what may be picked now.
pub(crate) struct Candidates<'a> {
    pub(crate) backends: &'a [Arc<Backend>],
    pub(crate) tried: &'a Tried,
    pub(crate) who: Who,
}

/// Which backends may be picked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// Those that are available; this draw decides over those that are warming
    /// up.
    Warm(u64),
    /// Those that are available.
    Available,
    /// All of them.
    Anyone,
}

impl Candidates<'_> {
    #[inline]
    pub(crate) fn is_eligible(&self, index: usize) -> bool {
        let is_warm = match self.who {
            Who::Warm(draw) => self.backends[index].takes(draw),
            Who::Available | Who::Anyone => true,
        };
        is_warm && self.is_there(index)
    }

    /// Whether it could be picked if it were not warming up.
    #[inline]
    pub(crate) fn is_there(&self, index: usize) -> bool {
        let is_available = match self.who {
            Who::Warm(_) | Who::Available => self.backends[index].is_available(),
            Who::Anyone => true,
        };
        is_available && !self.tried.contains(index)
    }

    /// The first eligible index of a walk over `indices`.
    pub(crate) fn first_eligible(&self, indices: impl IntoIterator<Item = usize>) -> Option<usize> {
        indices.into_iter().find(|&index| self.is_eligible(index))
    }
}

/// Greatest common divisor of the weights: only their proportions matter.
pub(crate) fn common_factor(backends: &[Arc<Backend>]) -> u32 {
    fn gcd(a: u32, b: u32) -> u32 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    backends.iter().map(|backend| backend.weight()).fold(0, gcd).max(1)
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
