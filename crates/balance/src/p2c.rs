//! The fewest in flight per unit of weight, of two or three drawn by chance.
//!
//! Two choices keep the longest queue at log log n where one choice leaves it at
//! log n (Mitzenmacher 2001), and unlike a look at all backends two threads that
//! pick at once seldom herd onto the same one. A third choice shortens queues again,
//! by much less than the second.

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    chance::next_word,
    pick::{Candidates, Policy},
    random::Wheel,
};

/// Of so many choices.
#[derive(Debug)]
pub(crate) struct FewestOf<const CHOICES: usize> {
    wheel: Wheel,
}

impl<const CHOICES: usize> FewestOf<CHOICES> {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        Self { wheel: Wheel::new(backends) }
    }
}

impl<const CHOICES: usize> Policy for FewestOf<CHOICES> {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let cost = |backend: &Backend| backend.load(input.now_ns);
        cheapest_of::<CHOICES>(&self.wheel, candidates, input.random, cost)
    }
}

/// Draws so many different candidates, or all if there are fewer, and returns the one
/// that costs least.
#[inline]
pub(crate) fn cheapest_of<const CHOICES: usize>(
    wheel: &Wheel,
    candidates: &Candidates<'_>,
    random: u64,
    cost: impl Fn(&Backend) -> f64,
) -> Option<usize> {
    let mut drawn = [usize::MAX; CHOICES];
    let mut best: Option<(usize, f64)> = None;
    let mut word = random;
    for place in 0..CHOICES {
        let is_new = |index| !drawn[..place].contains(&index);
        let Some(index) = wheel.draw_where(candidates, word, is_new) else { break };
        word = next_word(word);
        drawn[place] = index;
        let its = cost(&candidates.backends[index]);
        if best.is_none_or(|(_, least)| its < least) {
            best = Some((index, its));
        }
    }
    best.map(|(index, _)| index)
}
