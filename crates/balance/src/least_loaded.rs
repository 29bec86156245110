//! The fewest in flight per unit of weight, over all backends.
//!
//! Join the shortest queue. The walk starts at a random backend, so that equal
//! loads are shared: a fixed start would send every call of an idle system to
//! the first backend.

use crate::{
    PickInput,
    chance::below,
    policy::{Candidates, Policy},
};

#[derive(Debug)]
pub(crate) struct LeastLoaded;

impl Policy for LeastLoaded {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let count = candidates.backends.len();
        let start = below(input.random, count as u64) as usize;
        let mut best: Option<(usize, f64)> = None;
        for index in (start..count).chain(0..start) {
            if !candidates.is_eligible(index) {
                continue;
            }
            let load = candidates.backends[index].load();
            if best.is_none_or(|(_, least)| load < least) {
                best = Some((index, load));
            }
        }
        best.map(|(index, _)| index)
    }
}
