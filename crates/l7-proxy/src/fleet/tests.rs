use balance::{PickInput, PolicyKind, Tried};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};
use serve::health::Checked as _;

use super::*;
use crate::metrics::Outcome;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn spec(port: u16) -> BackendSpec {
    BackendSpec::new(address(port))
}

fn fleet(ports: &[u16]) -> Fleet {
    fleet_with(ports, |_| {})
}

fn fleet_with(ports: &[u16], change: impl FnOnce(&mut Config)) -> Fleet {
    let backends = ports.iter().map(|port| BackendConfig::new(address(*port))).collect();
    let mut config = Config::new(backends, PolicyKind::RoundRobin);
    config.seed = 0;
    change(&mut config);
    Fleet::new(&config).unwrap()
}

fn named(texts: [&str; 2]) -> Result<Fleet, BalanceError> {
    let backends = texts.iter().map(|text| text.parse().unwrap()).collect();
    Fleet::new(&Config::new(backends, PolicyKind::P2c))
}

/// The ports of the backends that calls are given to, in order.
fn picked(fleet: &Fleet) -> Vec<u16> {
    let set = fleet.upstreams().current();
    let mut tried = Tried::default();
    let mut ports = Vec::new();
    let input = PickInput { random: 0, now_ns: 0, key: None };
    while let Some((index, upstream)) = set.pick(&input, &tried) {
        tried.insert(index);
        ports.push(upstream.addr().port());
    }
    ports.sort_unstable();
    ports
}

#[test]
fn backends_come_drain_return_and_go() {
    let fleet = fleet(&[1]);
    fleet.add(spec(2)).unwrap();
    assert_eq!(picked(&fleet), [1, 2]);
    fleet.set_draining(address(1), true).unwrap();
    assert_eq!(picked(&fleet), [2]);
    assert_eq!(fleet.list()[0].state, BackendState::Draining);
    fleet.set_draining(address(2), true).unwrap();
    assert!(picked(&fleet).is_empty(), "a drained backend is no last resort");
    fleet.set_draining(address(1), false).unwrap();
    assert_eq!(picked(&fleet), [1]);
    fleet.remove(address(1)).unwrap();
    assert!(picked(&fleet).is_empty());
    assert_eq!(fleet.remove(address(2)), Err(ChangeError::Last));
    assert_eq!(fleet.remove(address(1)), Err(ChangeError::Unknown(address(1))));
    assert_eq!(fleet.add(spec(2)), Err(ChangeError::Exists(address(2))));
}

#[test]
fn a_backend_that_stays_keeps_its_load_and_its_name() {
    let fleet = named(["127.0.0.1:1,name=a", "127.0.0.1:2,name=b"]).unwrap();
    let kept = Arc::clone(&fleet.upstreams().current().upstreams()[1]);
    let call = kept.begin();
    let heavy = BackendSpec { weight: NonZeroU32::new(5).unwrap(), ..spec(2) };
    let replaced = fleet.replace(&[heavy.clone(), spec(3)]).unwrap();
    assert_eq!(replaced, Replaced { added: 1, removed: 1, changed: 1 });
    let list = fleet.list();
    assert_eq!((list[0].in_flight, list[0].name.as_deref()), (1, Some("b")));
    assert_eq!((&list[0].spec, list[1].name.as_deref()), (&heavy, None));
    drop(call);
    assert_eq!(fleet.list()[0].in_flight, 0);
    assert_eq!(fleet.replace(&[heavy, spec(3)]).unwrap(), Replaced::default());
}

#[test]
fn a_drained_backend_stays_drained_when_the_list_is_replaced() {
    let fleet = fleet(&[1, 2]);
    fleet.set_draining(address(1), true).unwrap();
    fleet.replace(&[spec(1), spec(2), spec(3)]).unwrap();
    assert_eq!(picked(&fleet), [2, 3]);
}

#[test]
fn a_change_that_cannot_be_made_changes_nothing() {
    let fleet = fleet(&[1, 2]);
    let before = fleet.list();
    let grouped = BackendSpec { group: Some("api".to_owned()), ..spec(3) };
    let capped = BackendSpec { max_in_flight: NonZeroU32::new(3), ..spec(3) };
    for (wrong, word) in [(grouped, "group"), (capped, "max_in_flight")] {
        let error = fleet.add(wrong.clone()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("127.0.0.1:3"), "{error}");
        assert!(fleet.replace(&[spec(1), wrong]).is_err());
    }
    assert!(fleet.replace(&[spec(1), spec(1)]).unwrap_err().to_string().contains("twice"));
    assert_eq!(fleet.replace(&[]), Err(ChangeError::Last));
    let fine = NonZeroU32::new(1_000_003).unwrap();
    let error = fleet.set_weight(address(1), fine).unwrap_err().to_string();
    assert!(error.contains("weights"), "{error}");
    assert_eq!(fleet.list(), before);
    assert!(named(["127.0.0.1:1,name=a", "127.0.0.1:1,name=b"]).is_err());
}

#[test]
fn weights_change_and_are_followed() {
    let fleet = fleet(&[1, 2]);
    fleet.set_weight(address(2), NonZeroU32::new(3).unwrap()).unwrap();
    let set = fleet.upstreams().current();
    let input = PickInput { random: 0, now_ns: 0, key: None };
    let picks = (0..8).map(|_| set.pick(&input, &Tried::default()).unwrap().1.addr().port());
    assert_eq!(picks.filter(|port| *port == 2).count(), 6);
}

#[test]
fn who_left_is_in_no_metric() {
    let fleet = fleet(&[1, 2]);
    let metrics = &fleet.metrics;
    assert!(metrics.expose().contains("l7_backend_available{backend=\"127.0.0.1:1\"} 1"));
    fleet.set_draining(address(1), true).unwrap();
    assert!(metrics.expose().contains("l7_backend_available{backend=\"127.0.0.1:1\"} 0"));
    fleet.remove(address(1)).unwrap();
    assert!(!metrics.expose().contains("127.0.0.1:1"));
}

/// What `look_after` and the rest were told of a backend.
fn fail(fleet: &Fleet, port: u16, times: usize) {
    let set = fleet.upstreams().current();
    let upstream = set.upstreams().iter().find(|one| one.addr().port() == port).unwrap();
    (0..times).for_each(|_| upstream.begin().note(0, Outcome::Fault));
}

fn ejecting(ports: &[u16], change: impl FnOnce(&mut EjectionSettings)) -> Fleet {
    fleet_with(ports, |config| {
        config.ejection.eject = true;
        config.ejection.eject_after = 3;
        change(&mut config.ejection);
    })
}

#[test]
fn failures_in_a_row_eject_for_a_time_that_grows() {
    let fleet = ejecting(&[1, 2, 3], |_| {});
    fail(&fleet, 1, 2);
    assert_eq!((fleet.look_after(0), picked(&fleet)), (None, vec![1, 2, 3]));
    fail(&fleet, 1, 1);
    assert_eq!((fleet.look_after(0), picked(&fleet)), (Some(30_000), vec![2, 3]));
    assert_eq!(fleet.list()[0].state, BackendState::Ejected);
    assert_eq!((fleet.look_after(29_999), picked(&fleet)), (Some(30_000), vec![2, 3]));
    assert_eq!((fleet.look_after(30_000), picked(&fleet)), (None, vec![1, 2, 3]));
    fail(&fleet, 1, 3);
    assert_eq!(fleet.look_after(30_000), Some(90_000), "twice as long");
    fleet.look_after(90_000);
    fleet.end_interval(90_000);
    fail(&fleet, 1, 3);
    assert_eq!(fleet.look_after(90_000), Some(150_000), "one of the two was forgiven");
    let text = fleet.metrics.expose();
    assert!(text.contains("l7_backend_ejections_total{backend=\"127.0.0.1:1\"} 3"), "{text}");
}

#[test]
fn no_more_are_ejected_than_may_be() {
    let fleet = ejecting(&[1, 2, 3], |_| {});
    for port in [1, 2, 3] {
        fail(&fleet, port, 3);
    }
    fleet.look_after(0);
    assert_eq!(picked(&fleet), [2, 3]);
    assert!(fleet.metrics.expose().contains("\nl7_ejections_refused_total 2\n"));
    let fleet = ejecting(&[1, 2, 3], |ejection| ejection.eject_max_percent = 70);
    for port in [1, 2, 3] {
        fail(&fleet, port, 3);
    }
    fleet.look_after(0);
    // Two of three are out, which is panic: all are used.
    assert_eq!(picked(&fleet), [1, 2, 3]);
    assert!(fleet.metrics.expose().contains("\nl7_panic 1\n"));
    fleet.look_after(30_000);
    assert!(fleet.metrics.expose().contains("\nl7_panic 0\n"));
}

#[test]
fn without_the_switch_nothing_is_ejected() {
    let fleet = fleet(&[1, 2]);
    fail(&fleet, 1, 1_000);
    assert_eq!((fleet.look_after(0), picked(&fleet)), (None, vec![1, 2]));
}

#[test]
fn a_success_rate_that_stands_out_ejects() {
    let fleet = ejecting(&[1, 2, 3, 4, 5, 6], |ejection| ejection.eject_after = 0);
    let set = Arc::clone(&fleet.upstreams().current());
    let shards: Vec<_> =
        set.upstreams().iter().map(|upstream| upstream.counters(&fleet.metrics)).collect();
    let serve = |good: u64, bad: u64| {
        for (index, shard) in shards.iter().enumerate() {
            let bad = if index == 4 { bad } else { 0 };
            (0..good - bad).for_each(|_| shard.count(Outcome::Ok));
            (0..bad).for_each(|_| shard.count(Outcome::Broken));
        }
    };
    serve(99, 40);
    fleet.end_interval(10_000);
    assert_eq!(picked(&fleet).len(), 6, "too few calls to tell");
    serve(100, 40);
    fleet.end_interval(20_000);
    assert_eq!(picked(&fleet), [1, 2, 3, 4, 6]);
    serve(100, 40);
    fleet.end_interval(30_000);
    assert_eq!(fleet.look_after(50_000), None);
    assert_eq!(picked(&fleet).len(), 6, "it is out once, not twice");
}

#[test]
fn a_failing_check_takes_a_backend_out_unless_too_few_are_left() {
    let fleet = fleet(&[1, 2, 3, 4]);
    assert_eq!(fleet.addresses().len(), 4);
    for (port, left) in [(1, 3), (2, 2), (3, 4), (4, 4)] {
        fleet.checked(address(port), false, false);
        assert_eq!(picked(&fleet).len(), left, "{port} failed");
        assert_eq!(fleet.list()[usize::from(port) - 1].state, BackendState::Unhealthy);
    }
    fleet.checked(address(1), true, true);
    assert_eq!(picked(&fleet).len(), 4);
    fleet.checked(address(2), true, true);
    assert_eq!(picked(&fleet), [1, 2]);
    // A drained backend is neither asked nor counted, and gets nothing in panic.
    fleet.set_draining(address(1), true).unwrap();
    fleet.set_draining(address(2), true).unwrap();
    assert_eq!(fleet.addresses(), [address(3), address(4)]);
    assert_eq!(picked(&fleet), [3, 4]);
    fleet.checked(address(9), true, true);
}

#[test]
fn a_backend_that_is_new_or_back_warms_up() {
    let window = std::time::Duration::from_secs(10);
    let fleet = fleet_with(&[1, 2], |config| config.membership.slow_start = Some(window));
    let share = |port: u16| {
        let set = fleet.upstreams().current();
        let mut chance = SplitMix64::seed_from_u64(1);
        let picks = (0..4_000).filter(|_| {
            let input = PickInput { random: chance.next_u64(), now_ns: 0, key: None };
            set.pick(&input, &Tried::default()).unwrap().1.addr().port() == port
        });
        picks.count()
    };
    assert_eq!((fleet.look_after(0), share(1)), (None, 2_000));
    fleet.add(spec(3)).unwrap();
    let now_ms = fleet.now_ms();
    let cold = share(3);
    assert!((80..200).contains(&cold), "a tenth of a third of 4,000: {cold}");
    let next_ms = fleet.look_after(now_ms + 5_000).unwrap();
    assert_eq!(next_ms, now_ms + 5_200);
    let warm = share(3);
    assert!((560..780).contains(&warm), "half of a third: {warm}");
    assert_eq!(fleet.look_after(now_ms + 10_001), None);
    let whole = share(3);
    assert!((1_330..=1_335).contains(&whole), "{whole}");
    fleet.remove(address(3)).unwrap();
    fleet.checked(address(1), false, false);
    fleet.checked(address(1), true, true);
    let back = share(1);
    assert!((130..280).contains(&back), "a tenth of a half: {back}");
}

#[test]
fn a_proxy_uses_its_subset_and_another_one_when_a_backend_of_it_leaves() {
    let ports: Vec<u16> = (1..=10).collect();
    let fleet = fleet_with(&ports, |config| {
        config.membership.subset_size = Some(3);
        config.membership.subset_id = Some("proxy-1".to_owned());
    });
    let before = picked(&fleet);
    assert_eq!(before.len(), 3);
    let outside = fleet.list().into_iter().filter(|one| one.state == BackendState::Outside);
    assert_eq!(outside.count(), 7);
    fleet.set_draining(address(before[0]), true).unwrap();
    let after = picked(&fleet);
    assert_eq!(after.len(), 3);
    assert!(before[1..].iter().all(|port| after.contains(port)), "{before:?} {after:?}");
    fleet.set_draining(address(before[0]), false).unwrap();
    assert_eq!(picked(&fleet), before);
}

/// As the command line has it.
fn zones(flags: &[&str]) -> Option<ZoneConfig> {
    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: serve::zones::ZoneArgs,
    }
    let flags = ["l7-proxy"].iter().chain(flags);
    <Program as clap::Parser>::try_parse_from(flags).unwrap().args.config().unwrap()
}

/// The ports of the backends that 300 calls are given to, each for itself.
fn given_to(fleet: &Fleet) -> Vec<u16> {
    let set = fleet.upstreams().current();
    let mut chance = SplitMix64::seed_from_u64(1);
    let mut pick = |now_ns| {
        let input = PickInput { random: chance.next_u64(), now_ns, key: None };
        set.pick(&input, &Tried::default()).unwrap().1.addr().port()
    };
    let mut ports: Vec<u16> = (0..300).map(|call| pick(call * 1_000_000)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn calls_stay_in_the_zone_of_the_proxy_as_far_as_there_is_room() {
    let flags = ["--zone=a", "--zone-proxies=a=1,b=1", "--zone-min-backends=4"];
    let fleet = fleet_with(&[1, 2, 3, 4], |config| {
        config.zones = zones(&flags);
        for (index, backend) in config.backends.iter_mut().enumerate() {
            backend.zone = Some(if index < 2 { "a" } else { "b" }.to_owned());
        }
    });
    assert_eq!(given_to(&fleet), [1, 2]);
    assert_eq!(fleet.list()[2].spec.zone.as_deref(), Some("b"));
    // One moves to the other zone: half of the callers have a quarter of the backends.
    let zoned = |port, zone: &str| BackendSpec { zone: Some(zone.to_owned()), ..spec(port) };
    let moved = [zoned(1, "a"), zoned(2, "b"), zoned(3, "b"), zoned(4, "b")];
    assert_eq!(fleet.replace(&moved).unwrap().changed, 1);
    assert_eq!(given_to(&fleet), [1, 2, 3, 4]);
    assert_eq!(fleet.replace(&moved).unwrap(), Replaced::default());
    // One that comes later is known by its zone, too.
    fleet.replace(&[zoned(3, "b"), zoned(4, "b"), zoned(5, "a"), zoned(6, "a")]).unwrap();
    assert_eq!(given_to(&fleet), [5, 6]);
    // With none well at home, any zone's are better than none.
    for port in [5, 6] {
        fleet.set_draining(address(port), true).unwrap();
    }
    assert_eq!(given_to(&fleet), [3, 4]);
}
