//! The backends in groups, with a balancer over each; made anew whenever
//! membership or a weight changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use balance::{BalanceError, Balancer, Ejection, PickInput, PolicyKind, Tried};

use crate::upstreams::{Lease, Upstream};

/// What a table is told about giving backends out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: PolicyKind,
    pub(crate) slow_start: Option<Duration>,
    pub(crate) ejection: Option<Ejection>,
}

/// The backends by group. `None` is the group of those that were given none.
#[derive(Debug)]
pub(crate) struct Table {
    groups: BTreeMap<Option<String>, Arc<Group>>,
}

/// The backends of one group and the policy over them, by the balancer's
/// indices.
#[derive(Debug)]
pub(crate) struct Group {
    rules: Rules,
    balancer: Balancer,
    upstreams: Vec<Arc<Upstream>>,
    /// When ejections were last looked through.
    readmitted_ms: AtomicU64,
}

/// Why there is no backend for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// All were tried or are drained.
    Backend,
    /// Those that are left hold as many connections as they may.
    Room,
}

impl Table {
    pub(crate) fn new(rules: Rules, upstreams: &[Arc<Upstream>]) -> Result<Self, BalanceError> {
        if upstreams.is_empty() {
            return Err(BalanceError::NoBackend);
        }
        let mut members: BTreeMap<Option<String>, Vec<Arc<Upstream>>> = BTreeMap::new();
        for upstream in upstreams {
            let group = upstream.group().map(str::to_owned);
            members.entry(group).or_default().push(Arc::clone(upstream));
        }
        let groups = members
            .into_iter()
            .map(|(name, upstreams)| Ok((name, Arc::new(Group::new(rules, upstreams)?))))
            .collect::<Result<_, BalanceError>>()?;
        Ok(Self { groups })
    }

    pub(crate) fn group(&self, name: Option<&str>) -> Option<Arc<Group>> {
        // The map's keys are owned, and a connection comes by once.
        self.groups.get(&name.map(str::to_owned)).cloned()
    }
}

impl Group {
    fn new(rules: Rules, upstreams: Vec<Arc<Upstream>>) -> Result<Self, BalanceError> {
        let backends = upstreams.iter().map(|upstream| upstream.backend()).collect();
        let balancer = Balancer::new(rules.policy, backends)?;
        Ok(Self { rules, balancer, upstreams, readmitted_ms: AtomicU64::new(0) })
    }

    /// Leases the next backend to a connection and adds it to `tried`.
    pub(crate) fn lease(&self, input: &PickInput, tried: &mut Tried) -> Result<Lease, Lacking> {
        self.readmit(input.now_ns / 1_000_000);
        let cold = self.too_cold(input);
        let mut passed_over = tried.clone();
        cold.iter().for_each(|index| passed_over.insert(*index));
        let mut lacking = Lacking::Backend;
        while let Some(index) = self.balancer.pick(input, &passed_over) {
            passed_over.insert(index);
            match self.upstreams[index].lease() {
                Some(lease) => {
                    tried.insert(index);
                    return Ok(lease);
                }
                None => lacking = Lacking::Room,
            }
        }
        // All others are gone or full: rather one that is warming up than none,
        // and rather one that seems dead than none, for the checks may be wrong
        // and a connection that fails here would have failed anyway.
        let untried = |index: &usize| !tried.contains(*index);
        let last = cold.into_iter().filter(untried).chain(self.out_of_favour(input, tried));
        for index in last.collect::<Vec<_>>() {
            match self.upstreams[index].lease() {
                Some(lease) => {
                    tried.insert(index);
                    return Ok(lease);
                }
                None => lacking = Lacking::Room,
            }
        }
        Err(lacking)
    }

    /// Those that are warming up and left out this time, by chance and as often
    /// as they are cold. Decided before the pick and not after it: a policy
    /// that takes turns would come back to the one that was turned down.
    fn too_cold(&self, input: &PickInput) -> Vec<usize> {
        if self.rules.slow_start.is_none() {
            return Vec::new();
        }
        let now_ms = input.now_ns / 1_000_000;
        let is_too_cold = |index: &usize| {
            let upstream = &self.upstreams[*index];
            let warmth = upstream.warmth(self.rules.slow_start, now_ms);
            warmth < 1.0 && upstream.backend().is_available() && {
                // The policy uses the pick's own random number.
                let mut chance = balance::SplitMix64::new(input.random ^ (*index as u64 + 1));
                (chance.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 >= warmth
            }
        };
        (0..self.upstreams.len()).filter(is_too_cold).collect()
    }

    /// Those that are unhealthy or ejected and were not tried, from a random
    /// one on.
    fn out_of_favour(&self, input: &PickInput, tried: &Tried) -> Vec<usize> {
        let count = self.upstreams.len();
        let start = (input.random % count as u64) as usize;
        let is_candidate = |index: &usize| {
            let standing = self.upstreams[*index].snapshot().standing;
            !standing.is_available() && !standing.is_drained() && !tried.contains(*index)
        };
        (start..count).chain(0..start).filter(is_candidate).collect()
    }

    /// Ends ejections whose time is over. Once a millisecond is enough, and a
    /// long list is not walked for each connection.
    fn readmit(&self, now_ms: u64) {
        if self.readmitted_ms.swap(now_ms, Ordering::Relaxed) == now_ms {
            return;
        }
        for (upstream, backend) in self.upstreams.iter().zip(self.balancer.backends()) {
            // Looked at without the lock first, since mostly nobody is out.
            if !backend.is_available() {
                upstream.change(|standing| standing.readmit(self.rules.ejection, now_ms));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance::SplitMix64;
    use serve::Metrics;
    use std::num::NonZeroU32;

    const RULES: Rules = Rules { policy: PolicyKind::RoundRobin, slow_start: None, ejection: None };

    fn upstreams(texts: &[&str]) -> Vec<Arc<Upstream>> {
        let metrics = Metrics::new();
        texts.iter().map(|text| Upstream::new(&text.parse().unwrap(), &metrics, None)).collect()
    }

    fn group(rules: Rules, upstreams: &[Arc<Upstream>]) -> Arc<Group> {
        Table::new(rules, upstreams).unwrap().group(None).unwrap()
    }

    fn input(now_ms: u64) -> PickInput {
        PickInput { random: 0, now_ns: now_ms * 1_000_000, key: None }
    }

    #[test]
    fn each_backend_is_tried_once() {
        let upstreams = upstreams(&["127.0.0.1:1", "127.0.0.1:2"]);
        let group = group(RULES, &upstreams);
        let mut tried = Tried::default();
        let first = group.lease(&input(0), &mut tried).unwrap();
        let second = group.lease(&input(0), &mut tried).unwrap();
        assert_eq!(group.lease(&input(0), &mut tried).unwrap_err(), Lacking::Backend);
        assert_ne!(first.upstream().address, second.upstream().address);
    }

    #[test]
    fn full_backends_are_passed_over_and_named_as_the_reason() {
        let upstreams =
            upstreams(&["127.0.0.1:1,max_connections=1", "127.0.0.1:2,max_connections=2"]);
        let group = group(RULES, &upstreams);
        let lease = || group.lease(&input(0), &mut Tried::default());
        let held = [lease().unwrap(), lease().unwrap(), lease().unwrap()];
        assert_eq!(lease().unwrap_err(), Lacking::Room);
        drop(held);
        assert!(lease().is_ok());
    }

    #[test]
    fn an_ejected_backend_is_left_out_until_its_time_is_over_or_no_other_is_left() {
        let rule = Ejection::new(NonZeroU32::MIN, Duration::from_millis(100));
        let rules = Rules { ejection: Some(rule), ..RULES };
        let upstreams = upstreams(&["127.0.0.1:1", "127.0.0.1:2"]);
        let group = group(rules, &upstreams);
        let first = group.lease(&input(0), &mut Tried::default()).unwrap();
        assert!(first.count_failure(Some(rule), 0));
        let out = first.upstream().address;
        let picks = |now_ms| {
            (0..6)
                .map(|_| group.lease(&input(now_ms), &mut Tried::default()).unwrap())
                .filter(|lease| lease.upstream().address == out)
                .count()
        };
        assert_eq!((picks(50), picks(100)), (0, 3));
        for upstream in &upstreams {
            upstream.change(|standing| standing.set_healthy(false, 0));
        }
        let mut tried = Tried::default();
        assert!(group.lease(&input(200), &mut tried).is_ok());
        assert!(group.lease(&input(200), &mut tried).is_ok());
        assert!(group.lease(&input(200), &mut tried).is_err());
    }

    #[test]
    fn a_drained_backend_gets_nothing_even_if_no_other_is_left() {
        let upstreams = upstreams(&["127.0.0.1:1"]);
        let group = group(RULES, &upstreams);
        upstreams[0].change(|standing| standing.set_drained(true, 0));
        assert!(group.lease(&input(0), &mut Tried::default()).is_err());
    }

    #[test]
    fn a_new_backend_begins_with_a_small_share() {
        let metrics = Metrics::new();
        let old = Upstream::new(&"127.0.0.1:1".parse().unwrap(), &metrics, None);
        let new = Upstream::new(&"127.0.0.1:2".parse().unwrap(), &metrics, Some(1_000));
        let rules = Rules { slow_start: Some(Duration::from_secs(10)), ..RULES };
        let group = group(rules, &[old, Arc::clone(&new)]);
        let mut chance = SplitMix64::new(1);
        let mut share = |now_ms| {
            let picks = (0..2_000).filter(|_| {
                let input = PickInput { random: chance.next_u64(), ..input(now_ms) };
                let lease = group.lease(&input, &mut Tried::default()).unwrap();
                lease.upstream().address == new.address
            });
            picks.count()
        };
        let (cold, lukewarm, warm) = (share(1_000), share(6_000), share(11_000));
        assert!((60..140).contains(&cold), "{cold}");
        assert!((430..570).contains(&lukewarm), "{lukewarm}");
        assert_eq!(warm, 1_000);
        new.change(|standing| standing.set_drained(true, 0));
    }

    #[test]
    fn a_backend_that_is_warming_up_is_better_than_none() {
        let new = Upstream::new(&"127.0.0.1:2".parse().unwrap(), &Metrics::new(), Some(0));
        let rules = Rules { slow_start: Some(Duration::from_secs(10)), ..RULES };
        let group = group(rules, &[new]);
        assert!((0..50).all(|_| group.lease(&input(0), &mut Tried::default()).is_ok()));
    }

    #[test]
    fn groups_are_apart() {
        let upstreams = upstreams(&["127.0.0.1:1", "127.0.0.1:2,group=web"]);
        let table = Table::new(RULES, &upstreams).unwrap();
        for (name, port) in [(None, 1), (Some("web"), 2)] {
            let group = table.group(name).unwrap();
            let lease = group.lease(&input(0), &mut Tried::default()).unwrap();
            assert_eq!(lease.upstream().address.port(), port);
        }
        assert!(table.group(Some("other")).is_none());
    }
}
