//! Each backend in turn, as often as its weight says.
//!
//! A backend of weight `w` has `w` turns in each round of a clock, evenly apart:
//! stride scheduling (Waldspurger and Weihl 1995), which is what Envoy's and
//! gRPC's weighted round robin do. Between two turns of one backend every other
//! one has its share of turns, rounded up or down, so a weight of 5 among 1s is
//! spread over the round and not served in a row.
//!
//! The turns of a round are laid out once, and a pick takes the next one, in one
//! step of a counter: shares are exact over all threads together. A backend keeps the
//! times of its turns for life, so that another list of backends moves nobody who
//! stays: it goes on from the same time of the clock.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    Backend, BalanceError, PickInput,
    chance::{below, hash_bytes},
    pick::{Candidates, Place, Policy, Start, common_factor},
};

/// Most turns that are laid out. Weights such as 1 and 999,999 would need a
/// million; their difference from 1 and 65,000 is not worth a table.
const TURN_LIMIT: u64 = 65_536;

#[derive(Debug)]
pub(crate) struct RoundRobin {
    turns: Vec<Turn>,
    /// What the weights were divided by: how many of these rounds make one by
    /// the weights themselves.
    factor: u32,
    next: AtomicUsize,
    /// The next one of those that take over for who is warming up.
    next_deputy: AtomicUsize,
}

/// A turn: its time of the round, in parts of 2^64, and whose it is.
type Turn = (u64, u32);

impl RoundRobin {
    pub(crate) fn new(backends: &[Arc<Backend>], start: Start) -> Result<Self, BalanceError> {
        let factor = common_factor(backends);
        let weight = |backend: &Arc<Backend>| u64::from(backend.weight() / factor);
        let sum: u64 = backends.iter().map(weight).sum();
        if sum > TURN_LIMIT {
            return Err(BalanceError::WeightsTooFine { sum, limit: TURN_LIMIT });
        }
        let mut turns: Vec<Turn> = Vec::new();
        for (index, backend) in (0_u32..).zip(backends) {
            let weight = u128::from(weight(backend));
            let phase = u128::from(backend.phase(|| phase(index, backends)));
            turns.extend((0..weight).map(|n| ((((n << 64) + phase) / weight) as u64, index)));
        }
        turns.sort_unstable();
        let next = match start {
            // Each turn alike, and not each time: turns are not evenly apart.
            Start::Chance(random) => below(random, turns.len() as u64) as usize,
            Start::At(Place { time, factor: before }) => {
                // The same time by a clock of longer or shorter rounds.
                let time = (u128::from(time) * u128::from(factor) / u128::from(before)) as u64;
                turns.partition_point(|turn| turn.0 < time)
            }
        };
        let (next, next_deputy) = (AtomicUsize::new(next), AtomicUsize::new(next));
        Ok(Self { turns, factor, next, next_deputy })
    }

    fn turn(&self, number: usize) -> Turn {
        self.turns[number % self.turns.len()]
    }
}

/// When the first turn of a backend that is new is, as if all had the weight one:
/// they take their turns in the order of the list. The lower half of the bits
/// keeps apart the times of those that came at the same place of different lists.
fn phase(index: u32, backends: &[Arc<Backend>]) -> u64 {
    let middle = ((2 * u64::from(index) + 1) << 31) / backends.len() as u64;
    let name = backends[index as usize].name();
    middle << 32 | hash_bytes(name.as_bytes()) >> 32
}

impl Policy for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>, _input: &PickInput) -> Option<usize> {
        let index = self.take(&self.next, |index| candidates.is_there(index))?;
        if candidates.is_eligible(index) {
            return Some(index);
        }
        // Others take over for one that is warming up, in turns of their own: were
        // it the next one's turn, its own would come round the sooner, and it
        // would get back what it was not given. Where nobody can, it is its turn.
        self.take(&self.next_deputy, |index| candidates.is_eligible(index)).or(Some(index))
    }

    fn place(&self) -> Option<Place> {
        let (time, _) = self.turn(self.next.load(Ordering::Relaxed));
        Some(Place { time, factor: self.factor })
    }
}

impl RoundRobin {
    /// Takes the next turn of one that can have it, and all those before: what
    /// is left of the round is a round robin of the others by their weights. A
    /// look ahead that leaves the turns where they are would give all that falls
    /// to one that is out to the same neighbour. Where nobody can, none is taken.
    fn take(&self, next: &AtomicUsize, can: impl Fn(usize) -> bool) -> Option<usize> {
        let mut taken = None;
        let advance = |next: usize| {
            let skipped = (0..self.turns.len()).find(|skipped| {
                let index = self.turn(next.wrapping_add(*skipped)).1 as usize;
                taken = can(index).then_some(index);
                taken.is_some()
            });
            skipped.map(|skipped| next.wrapping_add(skipped + 1))
        };
        next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance).ok()?;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_by_clocks_of_other_rounds() {
        let whose = |policy: &RoundRobin, ahead: usize| {
            policy.turn(policy.next.load(Ordering::Relaxed) + ahead).1
        };
        let long = [("a", 6), ("b", 6), ("c", 12), ("d", 7)]
            .map(|(name, weight)| Arc::new(Backend::new(name, weight)));
        let short = &long[..3];
        for (from, to) in [(short, &long[..]), (&long[..], short)] {
            for random in (0..64).map(|part| part << 58) {
                let before = RoundRobin::new(from, Start::Chance(random)).unwrap();
                let after = RoundRobin::new(to, Start::At(before.place().unwrap())).unwrap();
                // Of those that are in both lists.
                let first = |policy| (0..).map(|n| whose(policy, n)).find(|index| *index < 3);
                assert_eq!(first(&before), first(&after));
            }
        }
        assert_eq!(RoundRobin::new(short, Start::Chance(0)).unwrap().turns.len(), 4);
    }
}
