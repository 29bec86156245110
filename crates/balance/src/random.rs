//! By chance, in proportion to weights.

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    chance::{below, next_word},
    pick::{Candidates, Policy},
};

/// Draws that may fall on backends that can't be picked before the draw is made
/// over the eligible ones alone. With half of the backends away, one pick in
/// sixteen needs the slow way.
const DRAWS: usize = 4;

#[derive(Debug)]
pub(crate) struct Random {
    wheel: Wheel,
}

impl Random {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        Self { wheel: Wheel::new(backends) }
    }
}

impl Policy for Random {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        self.wheel.draw(candidates, input.random)
    }
}

/// Weighted draws by cumulative weights.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// `bounds[i]` is the sum of the weights of backends `0..=i`.
    bounds: Vec<u64>,
    /// Whether all weigh the same, which spares the search: of hundreds of backends it
    /// costs more than all the rest of a pick.
    is_even: bool,
}

impl Wheel {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        let bounds = backends
            .iter()
            .scan(0, |sum, backend| {
                *sum += u64::from(backend.weight());
                Some(*sum)
            })
            .collect();
        let is_even = backends.iter().all(|backend| backend.weight() == backends[0].weight());
        Self { bounds, is_even }
    }

    fn at(&self, random: u64) -> usize {
        if self.is_even {
            return below(random, self.bounds.len() as u64) as usize;
        }
        let point = below(random, self.bounds.last().copied().unwrap_or(0));
        self.bounds.partition_point(|&bound| bound <= point)
    }

    /// Draws one of the candidates; `None` when there is none.
    pub(crate) fn draw(&self, candidates: &Candidates<'_>, random: u64) -> Option<usize> {
        self.draw_where(candidates, random, |_| true)
    }

    /// Draws one of the candidates that are wanted; `None` when there is none.
    #[inline]
    pub(crate) fn draw_where(
        &self,
        candidates: &Candidates<'_>,
        random: u64,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut word = random;
        for _ in 0..DRAWS {
            let index = self.at(word);
            if is_wanted(index) && candidates.is_eligible(index) {
                return Some(index);
            }
            word = next_word(word);
        }
        draw_among(candidates, word, is_wanted)
    }
}

/// A weighted draw over the backends that are eligible and wanted alone.
fn draw_among(
    candidates: &Candidates<'_>,
    random: u64,
    is_wanted: impl Fn(usize) -> bool,
) -> Option<usize> {
    let eligible = || {
        (0..candidates.backends.len())
            .filter(|&index| is_wanted(index) && candidates.is_eligible(index))
    };
    let weight = |index: usize| u64::from(candidates.backends[index].weight());
    let sum: u64 = eligible().map(weight).sum();
    if sum == 0 {
        return None;
    }
    let mut point = below(random, sum);
    for index in eligible() {
        let weight = weight(index);
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    // A backend became available or not, or got another weight, between the two
    // walks; the last one that is eligible will do.
    eligible().next_back()
}
