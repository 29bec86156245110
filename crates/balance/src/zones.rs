//! Zone-aware choice with spill-over, as Envoy computes it.
//!
//! A balancer keeps to the backends of its own zone as far as that leaves all backends with
//! the same load. Where a zone has a smaller part of the backends than of the balancers, its
//! balancers send what is too much to zones that have a larger one, in proportion to how
//! much larger it is. Within a zone the policy picks. With few backends zones are not
//! heeded; with none left in a zone, any zone's are picked from.
//!
//! Parts of the balancers are taken as they were said to be: a balancer does not see the
//! others, and Envoy learns of them as of a cluster of backends. Parts of the backends are
//! those that may be picked now, by their weights.
//!
//! Source: Envoy, *Zone aware routing*; its `zone_aware_lb_config`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Backend, PickInput, Probe, Tried,
    chance::{next_word, unit},
    policy::{Candidates, Policy},
    round_robin::Place,
};

/// Fewer backends are not worth zones (`min_cluster_size`).
const BACKENDS_MIN: usize = 6;
/// How often the parts of the backends are looked at, in nanoseconds.
const UPDATE_NS: u64 = 100_000_000;

/// Where the balancers are, of which one picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// Its zone.
    pub own: usize,
    /// Balancers, or what they are given, in each zone.
    pub balancers: Vec<u32>,
}

impl Zones {
    /// The part of its calls that a balancer sends to each zone, where `backends` is what
    /// the zones have to serve with.
    pub fn shares(&self, backends: &[u64]) -> Vec<f64> {
        let sum: u64 = backends.iter().sum();
        let all: u64 = self.balancers.iter().copied().map(u64::from).sum();
        let has =
            |zone: usize| backends.get(zone).map_or(0.0, |part| *part as f64 / sum.max(1) as f64);
        let asks = |zone: usize| {
            self.balancers.get(zone).map_or(0.0, |part| f64::from(*part) / all.max(1) as f64)
        };
        let zones = 0..backends.len().max(self.own + 1);
        let kept =
            if asks(self.own) > 0.0 { (has(self.own) / asks(self.own)).min(1.0) } else { 0.0 };
        let room = |zone: usize| (has(zone) - asks(zone)).max(0.0);
        let rooms: f64 = zones.clone().map(room).sum();
        let share = |zone: usize| match zone {
            own if own == self.own => kept,
            _ if kept >= 1.0 => 0.0,
            other if rooms > 0.0 => (1.0 - kept) * room(other) / rooms,
            // There is no backend.
            _ => 0.0,
        };
        zones.map(share).collect()
    }
}

/// A policy of its own for each zone, and one for all backends together.
#[derive(Debug)]
pub(crate) struct ZoneAware {
    zones: Zones,
    whole: Box<dyn Policy>,
    parts: Vec<Part>,
    /// Bits of the f64 up to which a draw falls into each zone.
    bounds: Vec<AtomicU64>,
    next_update_ns: AtomicU64,
}

/// The backends of a zone; none has no policy.
#[derive(Debug)]
struct Part {
    policy: Option<Box<dyn Policy>>,
    backends: Vec<Arc<Backend>>,
    /// Their indices in the whole list.
    indices: Vec<usize>,
}

impl ZoneAware {
    /// `policy` makes one over a list.
    ///
    /// # Errors
    /// As `policy`.
    pub(crate) fn new<E>(
        zones: Zones,
        backends: &[Arc<Backend>],
        policy: impl Fn(&[Arc<Backend>]) -> Result<Box<dyn Policy>, E>,
    ) -> Result<Self, E> {
        let count = backends.iter().map(|backend| backend.zone() + 1).max().unwrap_or(0);
        let part = |zone| {
            let is_here = |(_, backend): &(usize, &Arc<Backend>)| backend.zone() == zone;
            let here = backends.iter().enumerate().filter(is_here);
            let (indices, backends): (Vec<_>, Vec<_>) =
                here.map(|(index, backend)| (index, Arc::clone(backend))).unzip();
            let policy = (!backends.is_empty()).then(|| policy(&backends)).transpose()?;
            Ok(Part { policy, backends, indices })
        };
        let parts = (0..count).map(part).collect::<Result<Vec<_>, E>>()?;
        let bounds = parts.iter().map(|_| AtomicU64::new(0)).collect();
        let whole = policy(backends)?;
        Ok(Self { zones, whole, parts, bounds, next_update_ns: AtomicU64::new(0) })
    }

    fn update_if_due(&self, now_ns: u64) {
        let relaxed = Ordering::Relaxed;
        let due_ns = self.next_update_ns.load(relaxed);
        let next_ns = now_ns.saturating_add(UPDATE_NS);
        // One thread does it.
        if now_ns < due_ns
            || self.next_update_ns.compare_exchange(due_ns, next_ns, relaxed, relaxed).is_err()
        {
            return;
        }
        let there = |part: &Part| {
            let there = part.backends.iter().filter(|backend| backend.is_available());
            there.map(|backend| u64::from(backend.weight())).sum()
        };
        let weights: Vec<u64> = self.parts.iter().map(there).collect();
        let mut upto = 0.0;
        for (bound, share) in self.bounds.iter().zip(self.zones.shares(&weights)) {
            upto += share;
            bound.store(upto.to_bits(), relaxed);
        }
    }

    /// The part that a draw falls into.
    fn part(&self, random: u64) -> Option<&Part> {
        let point = unit(next_word(!random));
        let is_in = |bound: &AtomicU64| point < f64::from_bits(bound.load(Ordering::Relaxed));
        self.parts.get(self.bounds.iter().position(is_in)?)
    }
}

impl Part {
    fn pick(&self, whole: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let mut tried = Tried::default();
        if !whole.tried.is_empty() {
            let places = self.indices.iter().enumerate();
            let known = places.filter(|(_, index)| whole.tried.contains(**index));
            known.for_each(|(place, _)| tried.insert(place));
        }
        let candidates = Candidates { backends: &self.backends, tried: &tried, who: whole.who };
        let place = self.policy.as_ref()?.pick(&candidates, input)?;
        Some(self.indices[place])
    }
}

impl Policy for ZoneAware {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        if candidates.backends.len() >= BACKENDS_MIN {
            self.update_if_due(input.now_ns);
            let part = self.part(input.random);
            if let Some(index) = part.and_then(|part| part.pick(candidates, input)) {
                return Some(index);
            }
        }
        self.whole.pick(candidates, input)
    }

    fn to_probe(&self, candidates: &Candidates<'_>, input: &PickInput, probed: &mut Vec<usize>) {
        self.whole.to_probe(candidates, input, probed);
    }

    /// Each list that the backend is in learns of it.
    fn probed(&self, index: usize, probe: Probe, input: &PickInput) {
        self.whole.probed(index, probe, input);
        for part in &self.parts {
            let place = part.indices.iter().position(|own| *own == index);
            if let (Some(place), Some(policy)) = (place, &part.policy) {
                policy.probed(place, probe, input);
            }
        }
    }

    fn place(&self) -> Option<Place> {
        self.whole.place()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_much_for_a_zone_goes_where_there_is_room() {
        let shares = |own, balancers: [u32; 3], backends: [u64; 3]| {
            Zones { own, balancers: balancers.to_vec() }.shares(&backends)
        };
        assert_eq!(shares(0, [1, 1, 1], [2, 2, 2]), [1.0, 0.0, 0.0]);
        assert_eq!(shares(0, [1, 1, 1], [12, 6, 6]), [1.0, 0.0, 0.0]);
        let [to_first, kept, none] = shares(1, [1, 1, 1], [12, 6, 6])[..] else { unreachable!() };
        assert!((to_first - 0.25).abs() < 1e-9 && (kept - 0.75).abs() < 1e-9 && none == 0.0);
        // A zone without backends sends everything away.
        assert_eq!(shares(2, [0, 0, 4], [3, 1, 0]), [0.75, 0.25, 0.0]);
    }

    proptest! {
        #[test]
        fn backends_are_loaded_alike_and_calls_stay_where_they_can(
            zones in prop::collection::vec((0_u32..9, 0_u64..9), 1..6)
                .prop_filter("some", |zones| {
                    zones.iter().any(|zone| zone.0 > 0) && zones.iter().any(|zone| zone.1 > 0)
                }),
        ) {
            let (balancers, backends): (Vec<u32>, Vec<u64>) = zones.into_iter().unzip();
            let asked = f64::from(balancers.iter().sum::<u32>());
            let has = backends.iter().sum::<u64>() as f64;
            let mut got = vec![0.0; backends.len()];
            for own in 0..balancers.len() {
                let zones = Zones { own, balancers: balancers.clone() };
                let shares = zones.shares(&backends);
                let asks = f64::from(balancers[own]) / asked;
                if asks > 0.0 {
                    prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    let most = (backends[own] as f64 / has / asks).min(1.0);
                    prop_assert!((shares[own] - most).abs() < 1e-9, "{shares:?}");
                }
                got.iter_mut().zip(shares).for_each(|(got, share)| *got += asks * share);
            }
            for (got, backends) in got.iter().zip(&backends) {
                prop_assert!((got - *backends as f64 / has).abs() < 1e-9, "{got:?}");
            }
        }
    }
}
