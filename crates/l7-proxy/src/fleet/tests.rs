use super::*;
use balance::{PickInput, PolicyKind, Tried};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn spec(port: u16) -> BackendSpec {
    BackendSpec::new(address(port))
}

fn fleet(ports: &[u16]) -> Fleet {
    let configs: Vec<_> = ports.iter().map(|port| BackendConfig::new(address(*port))).collect();
    Fleet::new(PolicyKind::RoundRobin, &configs, &Metrics::new()).unwrap()
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
    let configs = ["127.0.0.1:1,name=a", "127.0.0.1:2,name=b"].map(|text| text.parse().unwrap());
    let fleet = Fleet::new(PolicyKind::RoundRobin, &configs, &Metrics::new()).unwrap();
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
    let twice = ["127.0.0.1:1,name=a", "127.0.0.1:1,name=b"].map(|text| text.parse().unwrap());
    assert!(Fleet::new(PolicyKind::P2c, &twice, &Metrics::new()).is_err());
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
    let metrics = Metrics::new();
    let configs = [1, 2].map(|port| BackendConfig::new(address(port)));
    let fleet = Fleet::new(PolicyKind::RoundRobin, &configs, &metrics).unwrap();
    assert!(metrics.expose().contains("l7_backend_available{backend=\"127.0.0.1:1\"} 1"));
    fleet.set_draining(address(1), true).unwrap();
    assert!(metrics.expose().contains("l7_backend_available{backend=\"127.0.0.1:1\"} 0"));
    fleet.remove(address(1)).unwrap();
    assert!(!metrics.expose().contains("127.0.0.1:1"));
}
