//! The fewer in flight per unit of weight, of two drawn by chance.
//!
//! Two choices keep the longest queue at log log n where one choice leaves it at
//! log n (Mitzenmacher 2001), and unlike a look at all backends two threads that
//! pick at once seldom herd onto the same one.

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    chance::next_word,
    policy::{Candidates, Policy},
    random::Wheel,
};

#[derive(Debug)]
pub(crate) struct P2c {
    wheel: Wheel,
}

impl P2c {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        Self { wheel: Wheel::new(backends) }
    }
}

impl Policy for P2c {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        better_of_two(&self.wheel, candidates, input.random, |backend| backend.load(input.now_ns))
    }
}

/// Draws two different candidates and returns the one that costs less.
pub(crate) fn better_of_two(
    wheel: &Wheel,
    candidates: &Candidates<'_>,
    random: u64,
    cost: impl Fn(&Backend) -> f64,
) -> Option<usize> {
    let first = wheel.draw(candidates, random)?;
    let Some(second) = wheel.draw_other(candidates, next_word(random), first) else {
        return Some(first);
    };
    let dearer = cost(&candidates.backends[first]) > cost(&candidates.backends[second]);
    Some(if dearer { second } else { first })
}
