//! As Envoy's least request policy picks.
//!
//! Where all weigh the same it is the fewer in flight of two drawn by chance. Where weights
//! differ it is a weighted round robin in which a backend weighs
//! `weight / (in flight + 1) ^ bias` at the moment it is picked (`active_request_bias`, 1
//! unless set; 0 is plain weighted round robin). That looks at load less than a policy that
//! compares it: calls that stay spread by the root of the weights, and not by the weights.
//!
//! Envoy keeps the turns in a heap, the earliest deadline first. Here they are a list of
//! deadlines that is looked through, since several threads pick at once: two of them may
//! give the same backend a turn, and no pick waits for another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Backend, PickInput,
    chance::{next_word, unit},
    p2c::FewestOf,
    pick::{Candidates, Place, Policy, Start},
};

#[derive(Debug)]
pub(crate) enum LeastRequest {
    Even(FewestOf<2>),
    Weighted(Deadlines),
}

impl LeastRequest {
    pub(crate) fn new(backends: &[Arc<Backend>], start: Start, bias: f64) -> Self {
        if backends.iter().all(|backend| backend.weight() == backends[0].weight()) {
            Self::Even(FewestOf::new(backends))
        } else {
            Self::Weighted(Deadlines::new(backends, start, bias))
        }
    }
}

impl Policy for LeastRequest {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        match self {
            Self::Even(two) => two.pick(candidates, input),
            Self::Weighted(deadlines) => deadlines.pick(candidates, input),
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            Self::Even(_) => None,
            Self::Weighted(deadlines) => Some(Place::at(deadlines.now.load(Ordering::Relaxed))),
        }
    }
}

/// When each backend is due next, by a clock that goes by one in the time in which a backend
/// of weight 1 has a turn.
#[derive(Debug)]
pub(crate) struct Deadlines {
    bias: f64,
    /// Bits of an f64 for each backend.
    due: Vec<AtomicU64>,
    /// The latest deadline that was met, as bits of an f64: one that was away for long does
    /// not get back what it has missed.
    now: AtomicU64,
}

impl Deadlines {
    fn new(backends: &[Arc<Backend>], start: Start, bias: f64) -> Self {
        let words =
            std::iter::successors(Some(next_word(start.word())), |word| Some(next_word(*word)));
        // At any point of its first period, or all would have their turns together.
        let first = backends.iter().zip(words).map(|(backend, word)| {
            AtomicU64::new((unit(word) / f64::from(backend.weight())).to_bits())
        });
        Self { bias, due: first.collect(), now: AtomicU64::new(0) }
    }

    fn weight(&self, backend: &Backend) -> f64 {
        let active = f64::from(backend.in_flight()) + 1.0;
        f64::from(backend.weight()) / if self.bias == 1.0 { active } else { active.powf(self.bias) }
    }

    fn pick(&self, candidates: &Candidates<'_>, _input: &PickInput) -> Option<usize> {
        let read = |cell: &AtomicU64| f64::from_bits(cell.load(Ordering::Relaxed));
        let due = self.due.iter().map(read).enumerate();
        let eligible = due.filter(|(index, _)| candidates.is_eligible(*index));
        let (index, due) = eligible.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let now = due.max(read(&self.now));
        self.now.store(now.to_bits(), Ordering::Relaxed);
        let next = now + 1.0 / self.weight(&candidates.backends[index]);
        self.due[index].store(next.to_bits(), Ordering::Relaxed);
        Some(index)
    }
}
