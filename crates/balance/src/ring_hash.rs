//! The owner of the key on a ring of hashes.
//!
//! Each backend owns many points on a circle of 64-bit hashes, as many as its
//! weight asks for; a key belongs to the first point at or after it. When a
//! backend leaves, its keys go to the next points and no other key moves
//! (Karger et al. 1997).
//!
//! With bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018) no backend takes more than
//! a part `c` of what it would have if all loads were even: a call whose owner is full goes
//! on to the next point. So a key that is asked for more than a backend can do spreads over
//! as few others as it needs. Loads are calls in flight, and a backend's bound goes by its
//! weight. Where some can't be picked, it is their part of the ring that the others share.

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    chance::{hash_bytes, next_word},
    pick::{Candidates, Policy, common_factor},
};

/// Points per unit of weight, after division by the weights' common factor. The
/// standard deviation of a backend's share is about 1/sqrt(points): 8 %.
const POINTS_PER_WEIGHT: u64 = 160;
/// Most points on a ring; beyond it weights are scaled down.
const POINT_LIMIT: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct RingHash {
    /// Points in order, each with its owner.
    points: Vec<(u64, u32)>,
}

impl RingHash {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        let factor = u64::from(common_factor(backends));
        let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight()) / factor).sum();
        let wanted = sum.saturating_mul(POINTS_PER_WEIGHT).min(POINT_LIMIT);
        let mut points = Vec::new();
        for (index, backend) in backends.iter().enumerate() {
            let weight = u64::from(backend.weight()) / factor;
            let own = (u128::from(wanted) * u128::from(weight) / u128::from(sum)).max(1);
            let mut point = hash_bytes(backend.name().as_bytes());
            for _ in 0..own {
                points.push((point, index as u32));
                point = next_word(point);
            }
        }
        points.sort_unstable();
        Self { points }
    }
}

impl RingHash {
    /// Owners of the points, from the one that the call belongs to on.
    fn owners(&self, input: &PickInput) -> impl Iterator<Item = usize> {
        let key = input.key.unwrap_or(input.random);
        let start = self.points.partition_point(|&(point, _)| point < key);
        let walk = self.points[start..].iter().chain(&self.points[..start]);
        walk.map(|&(_, owner)| owner as usize)
    }
}

impl Policy for RingHash {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        candidates.first_eligible(self.owners(input))
    }
}

#[derive(Debug)]
pub(crate) struct BoundedRingHash {
    ring: RingHash,
    /// The largest load, as a multiple of the even one; above 1.
    bound: f64,
}

impl BoundedRingHash {
    pub(crate) fn new(backends: &[Arc<Backend>], bound: f64) -> Self {
        Self { ring: RingHash::new(backends), bound }
    }
}

impl Policy for BoundedRingHash {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let eligible =
            (0..candidates.backends.len()).filter(|index| candidates.is_eligible(*index));
        let (calls, weights) = eligible.fold((1, 0), |(calls, weights), index| {
            let backend = &candidates.backends[index];
            (calls + u64::from(backend.in_flight()), weights + u64::from(backend.weight()))
        });
        let each = self.bound * calls as f64 / weights as f64;
        let has_room = |index: &usize| {
            let backend = &candidates.backends[*index];
            f64::from(backend.in_flight()) < (each * f64::from(backend.weight())).ceil()
        };
        let with_room = candidates.first_eligible(self.ring.owners(input).filter(has_room));
        // Loads change while they are added up.
        with_room.or_else(|| self.ring.pick(candidates, input))
    }
}
