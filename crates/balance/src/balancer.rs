//! The balancer: a policy over a fixed list of backends.

use std::{collections::HashSet, sync::Arc};

use crate::{
    Backend, PolicyKind, Tried,
    policy::{Candidates, Policy},
};

/// What a policy may use besides the backends themselves.
#[derive(Clone, Copy, Debug)]
pub struct PickInput {
    /// 64 fresh random bits.
    pub random: u64,
    /// Now, in nanoseconds of a monotonic clock; the same clock as in
    /// [`Backend::finish`].
    pub now_ns: u64,
    /// What a hash policy keeps together, from [`hash_bytes`](crate::hash_bytes).
    /// Without a key the hash policies pick by chance.
    pub key: Option<u64>,
}

/// Picks backends. One balancer serves all threads of a proxy: picking takes
/// `&self`, takes no lock and allocates nothing. A change of membership builds a
/// new balancer over the same `Arc<Backend>`s.
#[derive(Debug)]
pub struct Balancer {
    kind: PolicyKind,
    policy: Box<dyn Policy>,
    backends: Vec<Arc<Backend>>,
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

impl Balancer {
    /// Builds the policy's tables.
    ///
    /// # Errors
    /// When the list is empty, has duplicates or weights of zero, or weights
    /// that the policy cannot hold in a table of bounded size.
    pub fn new(kind: PolicyKind, backends: Vec<Arc<Backend>>) -> Result<Self, BalanceError> {
        if backends.is_empty() {
            return Err(BalanceError::NoBackend);
        }
        let mut names = HashSet::new();
        for backend in &backends {
            if backend.weight() == 0 {
                return Err(BalanceError::ZeroWeight(backend.name().to_owned()));
            }
            if !names.insert(backend.name()) {
                return Err(BalanceError::Duplicate(backend.name().to_owned()));
            }
        }
        let policy = kind.build(&backends)?;
        Ok(Self { kind, policy, backends })
    }

    /// The policy it picks by.
    pub fn policy(&self) -> PolicyKind {
        self.kind
    }

    /// The backends, by the indices that [`Balancer::pick`] returns.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Index of the backend for the next call or connection; `None` when none
    /// is both available and untried.
    pub fn pick(&self, input: &PickInput, tried: &Tried) -> Option<usize> {
        // Equal keys draw equally, so that a backend that is warming up takes
        // over one key after the other, and not a part of each one's calls.
        let key = input.key.filter(|_| self.kind.uses_key());
        let draw = Some(key.unwrap_or(input.random));
        let candidates = Candidates { backends: &self.backends, tried, draw };
        // Rather one that is warming up than none.
        self.policy
            .pick(&candidates, input)
            .or_else(|| self.policy.pick(&Candidates { draw: None, ..candidates }, input))
    }
}
