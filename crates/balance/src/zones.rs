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
//! [`ZoneLayout`] says where clients are, and which balancers they come to.
//!
//! Source: Envoy, *Zone aware routing*; its `zone_aware_lb_config`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

use crate::{
    Backend, PickInput, Probe, Spread, Tried,
    chance::{next_word, unit},
    pick::{Candidates, Place, Policy},
};

/// How often the parts of the backends are looked at, in nanoseconds.
const UPDATE_NS: u64 = 100_000_000;

/// How far zones are heeded; the default is Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneRouting {
    /// The part of the picks, in percent, that goes by zones (`routing_enabled`).
    pub percent: u32,
    /// With fewer backends than these zones are not heeded (`min_cluster_size`).
    pub backends_min: usize,
}

impl Default for ZoneRouting {
    fn default() -> Self {
        Self { percent: 100, backends_min: 6 }
    }
}

/// Where the balancers are, of which one picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// Its zone.
    pub own: usize,
    /// Balancers, or what they are given, in each zone.
    pub balancers: Vec<u32>,
    /// How far it heeds them.
    pub routing: ZoneRouting,
}

/// Which zones clients are in, and which balancers they come to: those of their own zone.
///
/// Clients fill one zone after the other. Balancers are in the zones that have clients, in
/// turn. A zone without a balancer has its clients come to all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ZoneLayout {
    clients: Vec<u32>,
}

impl ZoneLayout {
    /// With so many clients in each zone. There is at least one zone with at least one.
    pub fn new(clients: Vec<u32>) -> Self {
        Self { clients }
    }

    /// Clients spread over as many zones, as evenly as they can be. There are no fewer clients
    /// than zones.
    pub fn even(zones: u32, clients: u32) -> Self {
        let upto = |zone: u32| u64::from(clients) * u64::from(zone) / u64::from(zones);
        // The part of a number of 32 bits.
        Self::new((0..zones).map(|zone| (upto(zone + 1) - upto(zone)) as u32).collect())
    }

    /// Clients in each zone.
    pub fn clients(&self) -> &[u32] {
        &self.clients
    }

    /// The zone of a client, by its number.
    pub fn of_client(&self, client: u32) -> usize {
        self.place(client).0
    }

    /// The zone of a balancer, by its number.
    pub fn of_balancer(&self, number: u32) -> usize {
        let count = self.with_clients().count().max(1);
        self.with_clients().nth(number as usize % count).unwrap_or(0)
    }

    /// The balancer, of `balancers` and from zero, that a client comes to. There is at least
    /// one.
    pub fn balancer(&self, client: u32, balancers: u32, spread: Spread, seed: u64) -> u32 {
        let (zone, rank) = self.place(client);
        let zones = self.with_clients().count() as u32;
        let turn = self.with_clients().position(|one| one == zone).unwrap_or(0) as u32;
        if turn >= balancers {
            return spread.balancer(client, balancers, seed);
        }
        let here = (balancers - turn).div_ceil(zones);
        turn + zones * spread.balancer(rank, here, seed)
    }

    /// How many clients come to the balancers of each zone; to themselves, where there are no
    /// balancers.
    pub fn asked_in(&self, balancers: u32, spread: Spread, seed: u64) -> Vec<u32> {
        let every_zone_has_one = balancers as usize >= self.with_clients().count();
        if balancers == 0 || every_zone_has_one {
            return self.clients.clone();
        }
        let mut asked = vec![0; self.clients.len()];
        for client in 0..self.clients.iter().sum::<u32>() {
            asked[self.of_balancer(self.balancer(client, balancers, spread, seed))] += 1;
        }
        asked
    }

    fn with_clients(&self) -> impl Iterator<Item = usize> {
        self.clients.iter().enumerate().filter(|(_, count)| **count > 0).map(|(zone, _)| zone)
    }

    /// A client's zone, and its number there.
    fn place(&self, client: u32) -> (usize, u32) {
        let mut rank = client;
        for (zone, &count) in self.clients.iter().enumerate() {
            if rank < count {
                return (zone, rank);
            }
            rank -= count;
        }
        (self.clients.len().saturating_sub(1), rank)
    }
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
    /// Whether calls with one key belong together.
    goes_by_key: bool,
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
        goes_by_key: bool,
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
        Ok(Self { zones, whole, parts, bounds, next_update_ns: AtomicU64::new(0), goes_by_key })
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

    /// The part that a pick falls into; `None` where it does not go by zones.
    fn part(&self, input: &PickInput) -> Option<&Part> {
        let key = input.key.filter(|_| self.goes_by_key);
        let word = next_word(!key.unwrap_or(input.random));
        let percent = self.zones.routing.percent;
        if percent < 100 && unit(next_word(word)) * 100.0 >= f64::from(percent) {
            return None;
        }
        let point = unit(word);
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
        if candidates.backends.len() >= self.zones.routing.backends_min {
            self.update_if_due(input.now_ns);
            let part = self.part(input);
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
    use crate::{Balancer, PolicyKind, Tuning};

    fn of(own: usize, balancers: &[u32]) -> Zones {
        Zones { own, balancers: balancers.to_vec(), routing: ZoneRouting::default() }
    }

    #[test]
    fn clients_come_to_balancers_of_their_zone_where_it_has_any() {
        let layout = ZoneLayout::new(vec![4, 0, 2]);
        let zones: Vec<usize> = (0..6).map(|client| layout.of_client(client)).collect();
        assert_eq!(zones, [0, 0, 0, 0, 2, 2]);
        let balancers = |of: u32| -> Vec<u32> {
            (0..6).map(|client| layout.balancer(client, of, Spread::RoundRobin, 1)).collect()
        };
        // Balancers 0 and 2 are in the first zone, 1 in the last.
        assert_eq!(balancers(3), [0, 2, 0, 2, 1, 1]);
        assert_eq!([0, 1, 2].map(|number| layout.of_balancer(number)), [0, 2, 0]);
        assert_eq!(layout.asked_in(3, Spread::RoundRobin, 1), [4, 0, 2]);
        assert_eq!(layout.asked_in(0, Spread::RoundRobin, 1), [4, 0, 2]);
        // One balancer is in the first zone, and has everything.
        assert_eq!(balancers(1), [0; 6]);
        assert_eq!(layout.asked_in(1, Spread::RoundRobin, 1), [6, 0, 0]);
        assert_eq!(ZoneLayout::even(3, 8).clients(), [2, 3, 3]);
    }

    /// Six backends in two zones, and 10,000 picks of a balancer in the first.
    fn kept(routing: ZoneRouting, policy: PolicyKind, key: impl Fn(u64) -> Option<u64>) -> usize {
        let backend = |index: usize| Backend::new(format!("b{index}"), 1).in_zone(index / 3);
        let backends: Vec<_> = (0..6).map(|index| Arc::new(backend(index))).collect();
        let zones = Some(Zones { routing, ..of(0, &[1, 1]) });
        let balancer = Balancer::zoned(policy, Tuning::default(), zones, backends, 0).unwrap();
        let pick = |number: u64| {
            let input = PickInput { random: next_word(number), now_ns: 0, key: key(number) };
            balancer.pick(&input, &Tried::default()).unwrap()
        };
        (0..10_000).filter(|number| pick(*number) < 3).count()
    }

    #[test]
    fn a_part_of_the_picks_goes_by_zones_and_few_backends_are_not_worth_them() {
        let all = ZoneRouting::default();
        assert_eq!(kept(all, PolicyKind::RoundRobin, |_| None), 10_000);
        // Four in ten stay by zones, and half of the others by the policy. Five standard
        // deviations of a fair draw are less than 230.
        let some = kept(ZoneRouting { percent: 40, ..all }, PolicyKind::RoundRobin, |_| None);
        assert!((6_770..7_230).contains(&some), "{some}");
        let few = ZoneRouting { backends_min: 7, ..all };
        assert_eq!(kept(few, PolicyKind::RoundRobin, |_| None), 5_000);
    }

    #[test]
    fn calls_with_one_key_stay_together_where_the_policy_keeps_them() {
        let half = ZoneRouting { percent: 50, ..ZoneRouting::default() };
        let of_key = |key| kept(half, PolicyKind::Maglev, move |_| Some(key));
        assert!((0..20).all(|key| [0, 10_000].contains(&of_key(key))));
        let turns = kept(half, PolicyKind::RoundRobin, |_| Some(7));
        assert!((7_270..7_730).contains(&turns), "{turns}");
    }

    #[test]
    fn what_is_too_much_for_a_zone_goes_where_there_is_room() {
        let shares =
            |own, balancers: [u32; 3], backends: [u64; 3]| of(own, &balancers).shares(&backends);
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
                let shares = of(own, &balancers).shares(&backends);
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
