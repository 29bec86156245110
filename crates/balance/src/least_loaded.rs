//! The fewest in flight per unit of weight, over all backends.
//!
//! Join the shortest queue. Of equal ones each is picked by chance, as often as
//! its weight says: the first of a list would get every call of an idle system,
//! and the next one after a random place would get the share of a neighbour that
//! is out as well.

use crate::{
    PickInput,
    chance::{below, next_word},
    pick::{Candidates, Policy},
};

#[derive(Debug)]
pub(crate) struct LeastLoaded;

impl Policy for LeastLoaded {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        let mut random = input.random;
        // The weights of the best so far.
        let mut sum = 0;
        for (index, backend) in candidates.backends.iter().enumerate() {
            if !candidates.is_eligible(index) {
                continue;
            }
            let (load, weight) = (backend.load(input.now_ns), u64::from(backend.weight()));
            match best {
                Some((_, least)) if load > least => continue,
                Some((_, least)) if load == least => {
                    // A reservoir of one (Efraimidis and Spirakis 2006).
                    sum += weight;
                    random = next_word(random);
                    if below(random, sum) >= weight {
                        continue;
                    }
                }
                _ => sum = weight,
            }
            best = Some((index, load));
        }
        best.map(|(index, _)| index)
    }
}
