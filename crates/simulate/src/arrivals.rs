//! The simplest open loop: calls of callers who know nothing of each other, at one rate.
//! The lab has schedules of its own, which a simulation takes as well.

use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use crate::{distribution::unit, run::Arrival};

/// Poisson arrivals on connections drawn by chance.
#[derive(Clone, Debug)]
pub struct Poisson {
    gap_ns: f64,
    connections: u32,
    due_ns: f64,
    left: u64,
    chance: SplitMix64,
}

impl Poisson {
    /// So many calls at `rate` calls per second.
    pub fn new(rate: f64, connections: u32, calls: u64, seed: u64) -> Self {
        let chance = SplitMix64::seed_from_u64(!seed);
        Self { gap_ns: 1e9 / rate, connections, due_ns: 0.0, left: calls, chance }
    }
}

impl Iterator for Poisson {
    type Item = Arrival;

    #[inline]
    fn next(&mut self) -> Option<Arrival> {
        self.left = self.left.checked_sub(1)?;
        self.due_ns -= self.gap_ns * unit(self.chance.next_u64()).ln();
        let word = self.chance.next_u64() >> 32;
        let connection = ((word * u64::from(self.connections)) >> 32) as u32;
        Some(Arrival { due_ns: self.due_ns as u64, connection })
    }
}
