//! What a policy is, and what it picks from.

use std::{fmt, sync::Arc};

use crate::{Backend, Tried};

/// What a policy may use besides the backends themselves.
#[derive(Clone, Copy, Debug)]
pub struct PickInput {
    /// 64 fresh random bits.
    pub random: u64,
    /// Now, in nanoseconds of a monotonic clock; the same clock as in
    /// [`Backend::answered`].
    pub now_ns: u64,
    /// What a hash policy keeps together, from [`hash_bytes`](crate::hash_bytes).
    /// Without a key the hash policies pick by chance.
    pub key: Option<u64>,
}

/// Why a list of backends cannot be balanced over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    /// The list is empty.
    #[error("there is no backend to balance over")]
    NoBackend,
    /// A backend has weight zero.
    #[error("backend {0} has weight 0; weights start at 1, and a backend to leave out is removed")]
    ZeroWeight(String),
    /// Two backends have the same name.
    #[error("backend {0} is listed twice; give it a larger weight instead")]
    Duplicate(String),
    /// The weights are too uneven for an exact schedule.
    #[error(
        "the weights add up to {sum} after division by their common factor; \
         {limit} is the most that round_robin and maglev take"
    )]
    WeightsTooFine {
        /// What they add up to.
        sum: u64,
        /// The most that is taken.
        limit: u64,
    },
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
            Self::At(place) => place.time,
        }
    }
}

/// The time of the next turn, by a clock of these rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) time: u64,
    pub(crate) factor: u32,
}

impl Place {
    /// At a time of a clock that goes by no weights.
    pub(crate) fn at(time: u64) -> Self {
        Self { time, factor: 1 }
    }
}

/// What a backend answers to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Calls it holds.
    pub in_flight: u32,
    /// What a call takes that finds as many there, in nanoseconds.
    pub latency_ns: u64,
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
