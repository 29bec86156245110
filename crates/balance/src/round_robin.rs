//! Each backend in turn, as often as its weight says.
//!
//! The turn is one atomic counter over a schedule that is laid out once, so
//! that shares are exact over all threads together, and a pick is one addition.
//! The schedule is nginx's smooth weighted round robin: a weight of 5 among 1s
//! is spread over the cycle and not served in a row.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    Backend, BalanceError, PickInput,
    policy::{Candidates, Policy, common_factor},
};

/// Longest cycle that is laid out. Weights such as 1 and 999,999 would need a
/// million entries; their difference from 1 and 65,000 is not worth a table.
const CYCLE_LIMIT: u64 = 65_536;

#[derive(Debug)]
pub(crate) struct RoundRobin {
    cycle: Vec<u32>,
    turn: AtomicUsize,
}

impl RoundRobin {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Result<Self, BalanceError> {
        let factor = common_factor(backends);
        let weights: Vec<i64> =
            backends.iter().map(|backend| i64::from(backend.weight() / factor)).collect();
        let sum: i64 = weights.iter().sum();
        if sum.unsigned_abs() > CYCLE_LIMIT {
            return Err(BalanceError::WeightsTooFine {
                sum: sum.unsigned_abs(),
                limit: CYCLE_LIMIT,
            });
        }
        Ok(Self { cycle: smooth_cycle(&weights, sum), turn: AtomicUsize::new(0) })
    }
}

/// Each step every backend gains its weight; the richest is served and pays the
/// sum. Over a cycle of `sum` steps each is served as often as its weight.
fn smooth_cycle(weights: &[i64], sum: i64) -> Vec<u32> {
    let mut credit = vec![0_i64; weights.len()];
    (0..sum)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(weights) {
                *credit += weight;
            }
            // The first of equals, so that the order is that of the list.
            let mut richest = 0;
            for index in 1..credit.len() {
                if credit[index] > credit[richest] {
                    richest = index;
                }
            }
            credit[richest] -= sum;
            richest as u32
        })
        .collect()
}

impl Policy for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>, _input: &PickInput) -> Option<usize> {
        let length = self.cycle.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % length;
        let index = self.cycle[turn] as usize;
        if candidates.is_eligible(index) {
            return Some(index);
        }
        // Who is next in the cycle takes the turn of one that can't. The walk
        // starts where chance would, at the turn, so that the turns of a dead
        // backend fall on its followers in the cycle; over a weighted cycle
        // these are different ones each time.
        candidates
            .first_eligible((1..length).map(|step| self.cycle[(turn + step) % length] as usize))
    }
}
