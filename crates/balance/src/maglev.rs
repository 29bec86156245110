//! The owner of the key in a Maglev table.
//!
//! Each backend fills a table of prime size in an order of its own (a
//! permutation that follows from its name), in turns as its weight says, until
//! the table is full; a key is looked up by its remainder. Shares are even to
//! within 1 % or so, better than a ring's, for a little more movement when a
//! backend leaves (Eisenbud et al. 2016, section 3.4).

use std::sync::Arc;

use crate::{
    Backend, BalanceError, PickInput,
    chance::{below, hash_bytes, next_word},
    pick::{Candidates, Policy, common_factor},
};

/// Entries of the table: the paper's small prime, at least a hundred times the
/// backends it is meant for.
const TABLE_SIZE: u64 = 65_537;
/// Most the weights may add up to: each unit of weight needs a few entries.
const WEIGHT_LIMIT: u64 = TABLE_SIZE / 8;
/// Hashes of a key that are looked up, until the owner of one can be picked. With
/// nine tenths of the owners out, one key in a thousand needs more.
const HASHES: usize = 64;
/// Marks an entry not filled yet.
const EMPTY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Maglev {
    table: Vec<u32>,
}

impl Maglev {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Result<Self, BalanceError> {
        let factor = common_factor(backends);
        let weights: Vec<u32> = backends.iter().map(|backend| backend.weight() / factor).collect();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if sum > WEIGHT_LIMIT {
            return Err(BalanceError::WeightsTooFine { sum, limit: WEIGHT_LIMIT });
        }
        Ok(Self { table: fill(backends, &weights) })
    }
}

/// A backend's own order of the table's entries: `offset`, then steps of `skip`.
/// The size is prime, so every skip visits every entry.
struct Preference {
    next: u64,
    skip: u64,
}

impl Preference {
    fn of(name: &str) -> Self {
        let hash = hash_bytes(name.as_bytes());
        Self { next: below(hash, TABLE_SIZE), skip: 1 + below(next_word(hash), TABLE_SIZE - 1) }
    }

    fn take(&mut self) -> usize {
        let entry = self.next;
        self.next = (entry + self.skip) % TABLE_SIZE;
        entry as usize
    }
}

fn fill(backends: &[Arc<Backend>], weights: &[u32]) -> Vec<u32> {
    let mut table = vec![EMPTY; TABLE_SIZE as usize];
    let mut preferences: Vec<Preference> =
        backends.iter().map(|backend| Preference::of(backend.name())).collect();
    let mut left = table.len();
    loop {
        for (index, (preference, &weight)) in preferences.iter_mut().zip(weights).enumerate() {
            for _ in 0..weight {
                let mut entry = preference.take();
                while table[entry] != EMPTY {
                    entry = preference.take();
                }
                table[entry] = index as u32;
                left -= 1;
                if left == 0 {
                    return table;
                }
            }
        }
    }
}

impl Policy for Maglev {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let key = input.key.unwrap_or(input.random);
        // The entries that follow would not do for a key whose owner can't be
        // picked: owners lie in the table in steps, so some follow one another
        // far more often than their weights say.
        let hashes = std::iter::successors(Some(key), |key| Some(next_word(*key)));
        let entries = hashes.take(HASHES).map(|key| (key % TABLE_SIZE) as usize);
        let walk = entries.chain(0..self.table.len());
        candidates.first_eligible(walk.map(|entry| self.table[entry] as usize))
    }
}
