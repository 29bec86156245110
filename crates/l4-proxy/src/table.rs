//! The backends in groups, with a balancer over each; made anew whenever
//! membership or a weight changes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use balance::{
    BalanceError, Balancer, Ejection, PickInput, PolicyKind, Tried, Tuning, ZoneRouting, Zones,
};
use serve::zones::ZoneConfig;

use crate::{
    config::Config,
    upstreams::{Lease, Upstream},
};

/// What a table is told about giving backends out.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: PolicyKind,
    /// What the first turn is drawn with.
    pub(crate) seed: u64,
    pub(crate) slow_start: Option<Duration>,
    pub(crate) ejection: Option<Ejection>,
    /// Where the proxies are; `None` where zones are not looked at.
    pub(crate) zones: Option<Arc<ZoneConfig>>,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            policy: config.policy,
            seed: config.seed,
            slow_start: config.slow_start,
            ejection: config.ejection,
            zones: config.zones.clone().map(Arc::new),
        }
    }

    /// Zones as the policies take them.
    fn zones(&self) -> Option<Zones> {
        let zones = self.zones.as_deref()?;
        let routing = ZoneRouting { percent: zones.percent, backends_min: zones.backends_min };
        Some(Zones { own: zones.own, balancers: zones.proxies.clone(), routing })
    }
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
    /// When ejections and shares were last looked through.
    refreshed_ms: AtomicU64,
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
    /// A table that takes the place of the one before: a group that is the same
    /// stays, and in one that is not turns go on from where they are.
    pub(crate) fn new(
        rules: &Rules,
        upstreams: &[Arc<Upstream>],
        before: Option<&Self>,
    ) -> Result<Self, BalanceError> {
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
            .map(|(name, upstreams)| {
                let before = before.and_then(|before| before.groups.get(&name));
                Ok((name, Group::new(rules, upstreams, before)?))
            })
            .collect::<Result<_, BalanceError>>()?;
        Ok(Self { groups })
    }

    pub(crate) fn group(&self, name: Option<&str>) -> Option<Arc<Group>> {
        // The map's keys are owned, and a connection comes by once.
        self.groups.get(&name.map(str::to_owned)).cloned()
    }
}

impl Group {
    fn new(
        rules: &Rules,
        upstreams: Vec<Arc<Upstream>>,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, BalanceError> {
        if let Some(zones) = &rules.zones {
            for upstream in &upstreams {
                upstream.backend().set_zone(zones.number(upstream.zone()));
            }
        }
        let backends: Vec<_> =
            upstreams.iter().map(|upstream| Arc::clone(upstream.backend())).collect();
        let balancer = match before {
            Some(before) if before.balancer.is_over(&backends) => return Ok(Arc::clone(before)),
            Some(before) => before.balancer.over(backends)?,
            None => {
                let (policy, zones) = (rules.policy, rules.zones());
                Balancer::zoned(policy, Tuning::default(), zones, backends, rules.seed)?
            }
        };
        let rules = rules.clone();
        Ok(Arc::new(Self { rules, balancer, upstreams, refreshed_ms: AtomicU64::new(0) }))
    }

    /// Leases the next backend to a connection and adds it to `tried`.
    pub(crate) fn lease(&self, input: &PickInput, tried: &mut Tried) -> Result<Lease, Lacking> {
        self.refresh(input.now_ns / 1_000_000);
        let pick = |tried: &Tried| self.balancer.pick(input, tried);
        let pick_anyone = |tried: &Tried| self.balancer.pick_anyone(input, tried);
        let mut lacking = Lacking::Backend;
        // Rather one that seems dead than none, for the checks may be wrong and a
        // connection that fails here would have failed anyway.
        let leased = self
            .lease_but(&[], tried, &mut lacking, pick)
            .or_else(|| self.lease_but(&self.drained(), tried, &mut lacking, pick_anyone));
        leased.ok_or(lacking)
    }

    /// The same, of those that are picked without these; full ones are passed
    /// over.
    fn lease_but(
        &self,
        left_out: &[usize],
        tried: &mut Tried,
        lacking: &mut Lacking,
        pick: impl Fn(&Tried) -> Option<usize>,
    ) -> Option<Lease> {
        let mut passed_over = tried.clone();
        left_out.iter().for_each(|index| passed_over.insert(*index));
        while let Some(index) = pick(&passed_over) {
            passed_over.insert(index);
            if let Some(lease) = self.upstreams[index].lease() {
                tried.insert(index);
                return Some(lease);
            }
            *lacking = Lacking::Room;
        }
        None
    }

    fn drained(&self) -> Vec<usize> {
        let is_drained = |index: &usize| self.upstreams[*index].snapshot().health.is_drained();
        (0..self.upstreams.len()).filter(is_drained).collect()
    }

    /// Ends ejections whose time is over, and lets the shares of those that are
    /// warming up grow. Once a millisecond is enough, and a long list is not
    /// walked for each connection.
    fn refresh(&self, now_ms: u64) {
        if self.refreshed_ms.swap(now_ms, Ordering::Relaxed) == now_ms {
            return;
        }
        for upstream in &self.upstreams {
            // Looked at without the lock first, since mostly nobody is out.
            if !upstream.backend().is_available() {
                let rule = self.rules.ejection;
                if upstream.change(|health| health.readmit(rule, now_ms)) {
                    tracing::info!(backend = upstream.name(), "backend readmitted");
                }
            }
            if self.rules.slow_start.is_some() && upstream.backend().is_available() {
                upstream.warm_up(self.rules.slow_start, now_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use clap::Parser as _;
    use rand_xoshiro::{
        SplitMix64,
        rand_core::{Rng, SeedableRng},
    };
    use serve::Metrics;

    use super::*;

    const RULES: Rules = Rules {
        policy: PolicyKind::RoundRobin,
        seed: 0,
        slow_start: None,
        ejection: None,
        zones: None,
    };

    fn upstreams(texts: &[&str]) -> Vec<Arc<Upstream>> {
        let metrics = Metrics::new();
        texts.iter().map(|text| Upstream::new(&text.parse().unwrap(), &metrics, None)).collect()
    }

    fn group(rules: Rules, upstreams: &[Arc<Upstream>]) -> Arc<Group> {
        Table::new(&rules, upstreams, None).unwrap().group(None).unwrap()
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
            upstream.change(|health| health.set_healthy(false, 0));
        }
        let mut tried = Tried::default();
        assert!(group.lease(&input(200), &mut tried).is_ok());
        assert!(group.lease(&input(200), &mut tried).is_ok());
        assert!(group.lease(&input(200), &mut tried).is_err());
    }

    /// The ports of the next backends, each for a connection of its own.
    fn ports(table: &Table, count: usize) -> Vec<u16> {
        let group = table.group(None).unwrap();
        let lease = |_| group.lease(&input(0), &mut Tried::default()).unwrap();
        (0..count).map(lease).map(|lease| lease.upstream().address.port()).collect()
    }

    #[test]
    fn a_table_of_the_same_list_is_the_same_and_one_of_another_goes_on() {
        let five = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"];
        let upstreams = upstreams(&five);
        let mut table = Table::new(&RULES, &upstreams[..4], None).unwrap();
        for port in (1..=4).cycle().take(50) {
            let same = Table::new(&RULES, &upstreams[..4], Some(&table)).unwrap();
            assert!(Arc::ptr_eq(&same.group(None).unwrap(), &table.group(None).unwrap()));
            table = same;
            assert_eq!(ports(&table, 1), [port]);
        }
        // The turn was the third one's.
        let table = Table::new(&RULES, &upstreams, Some(&table)).unwrap();
        assert_eq!(ports(&table, 6), [3, 4, 5, 1, 2, 3]);
        let table = Table::new(&RULES, &upstreams[..4], Some(&table)).unwrap();
        assert_eq!(ports(&table, 4), [4, 1, 2, 3]);
    }

    #[test]
    fn backends_that_seem_dead_share_by_their_weights_when_no_other_is_left() {
        let upstreams = upstreams(&["127.0.0.1:1", "127.0.0.1:2,weight=2", "127.0.0.1:3"]);
        let table = Table::new(&RULES, &upstreams, None).unwrap();
        upstreams[0].change(|health| health.set_drained(true, 0));
        for upstream in &upstreams[1..] {
            upstream.change(|health| health.set_healthy(false, 0));
        }
        let ports = ports(&table, 300);
        assert_eq!(ports.iter().filter(|port| **port == 2).count(), 200);
        assert_eq!(ports.iter().filter(|port| **port == 3).count(), 100);
    }

    #[test]
    fn a_drained_backend_gets_nothing_even_if_no_other_is_left() {
        let upstreams = upstreams(&["127.0.0.1:1"]);
        let group = group(RULES, &upstreams);
        upstreams[0].change(|health| health.set_drained(true, 0));
        assert!(group.lease(&input(0), &mut Tried::default()).is_err());
    }

    #[test]
    fn a_new_backend_begins_with_a_small_share() {
        let metrics = Metrics::new();
        let old = Upstream::new(&"127.0.0.1:1".parse().unwrap(), &metrics, None);
        let new = Upstream::new(&"127.0.0.1:2".parse().unwrap(), &metrics, Some(1_000));
        let rules = Rules { slow_start: Some(Duration::from_secs(10)), ..RULES };
        let group = group(rules, &[old, Arc::clone(&new)]);
        let mut chance = SplitMix64::seed_from_u64(1);
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
        new.change(|health| health.set_drained(true, 0));
    }

    #[test]
    fn a_backend_that_is_warming_up_is_better_than_none() {
        let new = Upstream::new(&"127.0.0.1:2".parse().unwrap(), &Metrics::new(), Some(0));
        let rules = Rules { slow_start: Some(Duration::from_secs(10)), ..RULES };
        let group = group(rules, &[new]);
        assert!((0..50).all(|_| group.lease(&input(0), &mut Tried::default()).is_ok()));
    }

    /// Six backends in two zones, and a proxy that is in the second.
    #[test]
    fn connections_stay_in_the_zone_of_the_proxy() {
        let texts = (1..=6)
            .map(|port| format!("127.0.0.1:{port},zone={}", if port < 4 { "a" } else { "b" }));
        let texts: Vec<String> = texts.collect();
        let upstreams = upstreams(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let flags = ["", "--zone=b", "--zone-proxies=a=1,b=1"];
        let zones = Zoned::try_parse_from(flags).unwrap().args.config().unwrap();
        let rules = Rules { zones: zones.map(Arc::new), ..RULES };
        let table = Table::new(&rules, &upstreams, None).unwrap();
        let mut chosen = ports(&table, 30);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen, [4, 5, 6]);
        // A table that takes its place keeps to them too, and few backends are not worth it.
        let fewer = Table::new(&rules, &upstreams[..5], Some(&table)).unwrap();
        assert!(ports(&fewer, 30).iter().any(|port| *port < 4));
    }

    #[derive(clap::Parser)]
    struct Zoned {
        #[command(flatten)]
        args: serve::zones::ZoneArgs,
    }

    #[test]
    fn groups_are_apart() {
        let upstreams = upstreams(&["127.0.0.1:1", "127.0.0.1:2,group=web"]);
        let table = Table::new(&RULES, &upstreams, None).unwrap();
        for (name, port) in [(None, 1), (Some("web"), 2)] {
            let group = table.group(name).unwrap();
            let lease = group.lease(&input(0), &mut Tried::default()).unwrap();
            assert_eq!(lease.upstream().address.port(), port);
        }
        assert!(table.group(Some("other")).is_none());
    }
}
