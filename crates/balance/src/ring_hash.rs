//! The owner of the key on a ring of hashes.
//!
//! Each backend owns many points on a circle of 64-bit hashes, as many as its
//! weight asks for; a key belongs to the first point at or after it. When a
//! backend leaves, its keys go to the next points and no other key moves
//! (Karger et al. 1997).

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    chance::{hash_bytes, next_word},
    policy::{Candidates, Policy, common_factor},
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

impl Policy for RingHash {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let key = input.key.unwrap_or(input.random);
        let start = self.points.partition_point(|&(point, _)| point < key);
        let walk = self.points[start..].iter().chain(&self.points[..start]);
        candidates.first_eligible(walk.map(|&(_, owner)| owner as usize))
    }
}
