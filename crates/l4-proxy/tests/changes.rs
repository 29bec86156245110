//! Backends that come, go, fill up, fail and recover while the proxy runs, and
//! connections that have had their time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{io::Write, net::TcpStream, num::NonZeroU32, time::Duration};

use common::{Backend, DeadAddress, Proxy, Seen, await_that, config, expect_bytes, pass, see};
use l4_proxy::{
    BackendConfig, Config, DataPlane,
    config::{Ejection, HealthCheck, HealthConfig},
};
use serve::admin::{BackendSpec, BackendState, ChangeError, Replaced};

fn one(target: &Backend) -> Config {
    config(DataPlane::Auto, &[target.address])
}

fn ended(end: &str) -> String {
    format!("l4_connections_ended_total{{end=\"{end}\"}}")
}

#[test]
fn an_added_backend_gets_connections_and_a_removed_one_keeps_those_it_has() {
    let (first, second) = (Backend::start(), Backend::start());
    let proxy = Proxy::start(one(&first));
    let (mut client, mut backend) = (proxy.connect(), first.accept());
    let backends = proxy.backends();
    backends.add(BackendSpec::new(second.address)).unwrap();
    let both = [proxy.connect(), proxy.connect()];
    let accepted = (first.accept(), second.accept());
    backends.remove(first.address).unwrap();
    for _ in 0..4 {
        let mut client = proxy.connect();
        pass(&mut client, &mut second.accept(), b"to the one that is left");
    }
    assert!(first.try_accept().is_none());
    pass(&mut client, &mut backend, b"and the old connection lives on");
    assert_eq!(backends.remove(second.address), Err(ChangeError::Last));
    assert_eq!(backends.remove(first.address), Err(ChangeError::Unknown(first.address)));
    assert_eq!(
        backends.add(BackendSpec::new(second.address)),
        Err(ChangeError::Exists(second.address))
    );
    drop((both, accepted));
}

#[test]
fn a_drained_backend_gets_no_more_until_it_is_active_again() {
    let (first, second) = (Backend::start(), Backend::start());
    let proxy = Proxy::start(config(DataPlane::Auto, &[first.address, second.address]));
    proxy.backends().set_draining(first.address, true).unwrap();
    assert_eq!(proxy.backends().list()[0].state, BackendState::Draining);
    let held: Vec<_> = (0..4).map(|_| (proxy.connect(), second.accept())).collect();
    assert!(first.try_accept().is_none());
    assert_eq!(proxy.backends().list()[1].in_flight, 4);
    proxy.backends().set_draining(first.address, false).unwrap();
    let _more = [proxy.connect(), proxy.connect()];
    let _both = (first.accept(), second.accept());
    drop(held);
}

#[test]
fn weights_change_while_connections_are_open() {
    let (first, second) = (Backend::start(), Backend::start());
    let proxy = Proxy::start(config(DataPlane::Auto, &[first.address, second.address]));
    let held = [proxy.connect(), proxy.connect()];
    let accepted = (first.accept(), second.accept());
    proxy.backends().set_weight(first.address, NonZeroU32::new(3).unwrap()).unwrap();
    let clients: Vec<TcpStream> = (0..8).map(|_| proxy.connect()).collect();
    let ours: Vec<_> = (0..6).map(|_| first.accept()).collect();
    let theirs: Vec<_> = (0..2).map(|_| second.accept()).collect();
    let list = proxy.backends().list();
    assert_eq!((list[0].spec.weight.get(), list[0].in_flight, list[1].in_flight), (3, 7, 3));
    drop((held, accepted, clients, ours, theirs));
    await_that("nothing to be in flight", || {
        proxy.backends().list().iter().all(|backend| backend.in_flight == 0)
    });
}

#[test]
fn the_whole_list_can_be_replaced_and_a_wrong_one_changes_nothing() {
    let targets = [(); 3].map(|()| Backend::start());
    let proxy = Proxy::start(config(DataPlane::Auto, &[targets[0].address, targets[1].address]));
    let spec = |index: usize| BackendSpec::new(targets[index].address);
    let heavy = BackendSpec { weight: NonZeroU32::new(5).unwrap(), ..spec(1) };
    let replaced = proxy.backends().replace(&[heavy.clone(), spec(2)]).unwrap();
    assert_eq!(replaced, Replaced { added: 1, removed: 1, changed: 1 });
    let names: Vec<_> = proxy.backends().list().into_iter().map(|one| one.spec).collect();
    assert_eq!(names, [heavy.clone(), spec(2)]);
    assert_eq!(proxy.backends().replace(&[]), Err(ChangeError::Last));
    let twice = proxy.backends().replace(&[spec(0), spec(0)]).unwrap_err();
    assert!(twice.to_string().contains("twice"), "{twice}");
    let names: Vec<_> = proxy.backends().list().into_iter().map(|one| one.spec).collect();
    assert_eq!(names, [heavy, spec(2)]);
    assert_eq!(proxy.metric("l4_backend_available"), 2.0, "who left is no longer counted");
}

/// What the watch of a file does at its first look, and an operator who writes
/// the same again: the turn is not begun anew.
#[test]
fn a_list_that_is_written_again_changes_nothing() {
    let targets = [(); 4].map(|()| Backend::start());
    let addresses = targets.each_ref().map(|target| target.address);
    let proxy = Proxy::start(config(DataPlane::Auto, &addresses));
    let specs = addresses.map(BackendSpec::new);
    for _ in 0..20 {
        let mut held = Vec::new();
        for _ in 0..4 {
            assert_eq!(proxy.backends().replace(&specs).unwrap(), Replaced::default());
            proxy.backends().set_weight(addresses[0], NonZeroU32::MIN).unwrap();
            held.push(proxy.connect());
            // The next one is not given a backend before this one has its.
            proxy.await_metric("l4_backend_connections_open", held.len() as f64);
        }
        let accepted: Vec<_> = targets.iter().map(Backend::accept).collect();
        assert!(targets.iter().all(|target| target.try_accept().is_none()), "one has two");
        drop((held, accepted));
        proxy.await_metric("l4_backend_connections_open", 0.0);
    }
}

#[test]
fn five_connections_follow_the_weights_wherever_the_turn_is() {
    let targets = [(); 3].map(|()| Backend::start());
    let specs = [3, 1, 1].map(|weight| NonZeroU32::new(weight).unwrap());
    let specs: Vec<_> = targets
        .iter()
        .zip(specs)
        .map(|(target, weight)| BackendSpec { weight, ..BackendSpec::new(target.address) })
        .collect();
    for seed in (0..16_u64).map(|part| part << 60) {
        let backends = specs.iter().map(|spec| spec.clone().into()).collect();
        let proxy = Proxy::start(Config { seed, ..Config::new(backends) });
        let mut held = Vec::new();
        for count in 1..=5 {
            proxy.backends().replace(&specs).unwrap();
            held.push(proxy.connect());
            proxy.await_metric("l4_backend_connections_open", f64::from(count));
        }
        let open: Vec<_> = proxy.backends().list().iter().map(|one| one.in_flight).collect();
        assert_eq!(open, [3, 1, 1], "from {seed:#x}");
    }
}

/// Whatever takes it out: here it is drained.
#[test]
fn the_share_of_a_backend_that_is_out_goes_evenly_to_the_others() {
    let targets = [(); 4].map(|()| Backend::start());
    let addresses = targets.each_ref().map(|target| target.address);
    let proxy = Proxy::start(config(DataPlane::Auto, &addresses));
    proxy.backends().set_draining(addresses[1], true).unwrap();
    let held: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
    proxy.await_metric("l4_backend_connections_open", 30.0);
    let open: Vec<_> = proxy.backends().list().iter().map(|one| one.in_flight).collect();
    assert_eq!(open, [10, 0, 10, 10]);
    drop(held);
}

#[test]
fn connections_of_a_drained_backend_are_closed_where_asked_for() {
    let (first, second) = (Backend::start(), Backend::start());
    let mut config = config(DataPlane::Auto, &[first.address, second.address]);
    config.close_drained = true;
    let proxy = Proxy::start(config);
    let (mut client, mut backend) = (proxy.connect(), first.accept());
    let (mut other_client, mut other) = (proxy.connect(), second.accept());
    proxy.backends().set_draining(first.address, true).unwrap();
    assert_eq!(see(&mut client, 1), Seen::End);
    assert_eq!(see(&mut backend, 1), Seen::End);
    proxy.await_metric(&ended("aged"), 1.0);
    pass(&mut other_client, &mut other, b"unconcerned");
}

#[test]
fn an_old_connection_ends_in_a_quiet_moment() {
    let target = Backend::start();
    let mut config = one(&target);
    config.max_connection_age = Some(Duration::from_millis(200));
    let proxy = Proxy::start(config);
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    assert_eq!(see(&mut client, 1), Seen::End);
    assert_eq!(see(&mut backend, 1), Seen::End);
    proxy.await_metric(&ended("aged"), 1.0);
}

/// A call that takes longer than any pause: the silence is the backend's, which
/// owes an answer.
#[test]
fn an_old_connection_ends_behind_the_answer_that_it_waits_for() {
    let target = Backend::start();
    let mut config = one(&target);
    config.max_connection_age = Some(Duration::from_millis(500));
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    client.write_all(b"a question").unwrap();
    let mut backend = target.accept();
    expect_bytes(&mut backend, b"a question");
    // How long the call takes.
    std::thread::sleep(Duration::from_secs(1));
    backend.write_all(b"an answer").unwrap();
    expect_bytes(&mut client, b"an answer");
    assert_eq!(see(&mut client, 1), Seen::End);
    assert_eq!(see(&mut backend, 1), Seen::End);
    proxy.await_metric(&ended("aged"), 1.0);
}

#[test]
fn an_old_connection_that_never_pauses_is_cut_off() {
    let target = Backend::start();
    let mut config = one(&target);
    config.max_connection_age = Some(Duration::from_millis(100));
    config.connection_age_grace = Duration::from_millis(200);
    let proxy = Proxy::start(config);
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    let reader = std::thread::spawn(move || {
        loop {
            match see(&mut backend, 64 << 10) {
                Seen::Bytes(_) => {}
                other => return other,
            }
        }
    });
    await_that("writing to fail", || client.write_all(&[1; 1_000]).is_err());
    // A writer that is kept from running for a tenth of a second pauses.
    let seen = reader.join().unwrap();
    let (aged, cut) = (proxy.metric(&ended("aged")), proxy.metric(&ended("aged_cut")));
    assert_eq!(aged + cut, 1.0);
    assert_eq!(seen == Seen::Reset, cut == 1.0, "{seen:?}");
}

#[test]
fn a_flood_past_the_caps_of_the_backends_is_reset() {
    let (first, second) = (Backend::start(), Backend::start());
    let capped = |target: &Backend, most| BackendConfig {
        max_connections: NonZeroU32::new(most),
        ..BackendConfig::new(target.address)
    };
    let proxy = Proxy::start(Config::new(vec![capped(&first, 2), capped(&second, 3)]));
    let held: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    let mut firsts: Vec<_> = (0..2).map(|_| first.accept()).collect();
    let seconds: Vec<_> = (0..3).map(|_| second.accept()).collect();
    for _ in 0..50 {
        assert_eq!(see(&mut proxy.connect(), 1), Seen::Reset);
    }
    proxy.await_metric(&ended("backends_full"), 50.0);
    // A place that comes free is given away again.
    common::reset(firsts.pop().unwrap());
    proxy.await_metric("l4_connections_open", 4.0);
    let _next = (proxy.connect(), first.accept());
    drop((held, seconds));
}

#[test]
fn an_ejected_backend_comes_back_after_its_time() {
    let dead = DeadAddress::new();
    let alive = Backend::start();
    let mut config = config(DataPlane::Auto, &[dead.address, alive.address]);
    config.ejection = Some(Ejection::new(NonZeroU32::MIN, Duration::from_millis(50)));
    let proxy = Proxy::start(config);
    let ejections = || proxy.metric("l4_backend_ejections_total");
    await_that("it to be ejected twice", || {
        pass(&mut proxy.connect(), &mut alive.accept(), b"served all the same");
        ejections() >= 2.0
    });
    assert_eq!(proxy.backends().list()[0].state, BackendState::Ejected);
}

#[test]
fn health_checks_take_a_backend_out_and_bring_it_back() {
    let steady = Backend::start();
    let failing = Backend::start();
    let address = failing.address;
    let mut config = config(DataPlane::Auto, &[steady.address, address]);
    config.ejection = None;
    config.health = Some(HealthConfig {
        timeout: Duration::from_secs(5),
        fall: NonZeroU32::new(2).unwrap(),
        rise: NonZeroU32::new(2).unwrap(),
        ..HealthConfig::every(Duration::from_millis(20), HealthCheck::Connect)
    });
    let proxy = Proxy::start(config);
    let state = || proxy.backends().list()[1].state;
    assert_eq!(state(), BackendState::Active);
    drop(failing);
    await_that("the backend to be found unhealthy", || {
        while steady.try_accept().is_some() {}
        state() == BackendState::Unhealthy
    });
    assert_eq!(proxy.metric("l4_backend_connect_failures_total"), 0.0, "no client paid for it");
    let listener = std::net::TcpListener::bind(address).unwrap();
    await_that("the backend to be found healthy", || {
        while steady.try_accept().is_some() {}
        state() == BackendState::Active
    });
    drop(listener);
}

#[test]
fn a_backend_that_resets_before_the_first_byte_is_replaced_by_another() {
    let (first, second) = (Backend::start(), Backend::start());
    let proxy = Proxy::start(config(DataPlane::Auto, &[first.address, second.address]));
    let mut client = proxy.connect();
    common::reset(first.accept());
    let mut backend = second.accept();
    pass(&mut client, &mut backend, b"as if nothing had happened");
    // From then on there is no way back: the first byte went to this one.
    common::reset(backend);
    assert_eq!(see(&mut client, 1), Seen::Reset);
    assert!(first.try_accept().is_none());
    proxy.await_metric(&ended("backend_reset"), 1.0);
    assert_eq!(proxy.metric("l4_backend_connect_failures_total"), 1.0);
}

#[test]
fn a_client_whose_bytes_were_lost_with_a_backend_is_not_given_another() {
    let (first, second) = (Backend::start(), Backend::start());
    let proxy = Proxy::start(config(DataPlane::Auto, &[first.address, second.address]));
    let mut client = proxy.connect();
    let mut backend = first.accept();
    pass(&mut client, &mut backend, b"taken");
    common::reset(backend);
    assert_eq!(see(&mut client, 1), Seen::Reset);
    assert!(second.try_accept().is_none());
}

#[test]
fn a_backend_that_accepts_and_never_answers_holds_nobody_else_up() {
    let (silent, alive) = (Backend::start(), Backend::start());
    let mut config = config(DataPlane::Auto, &[silent.address, alive.address]);
    config.idle_timeout = Some(Duration::from_secs(1));
    let proxy = Proxy::start(config);
    let mut stuck: Vec<_> = (0..10)
        .map(|_| {
            let (mut to_silent, mut to_alive) = (proxy.connect(), proxy.connect());
            to_silent.write_all(b"anybody there?").unwrap();
            pass(&mut to_alive, &mut alive.accept(), b"at once");
            (to_silent, silent.accept())
        })
        .collect();
    // What was sent arrived, and the silence ends both sides.
    for (client, backend) in &mut stuck {
        expect_bytes(backend, b"anybody there?");
        assert_eq!(see(client, 1), Seen::End);
        assert_eq!(see(backend, 1), Seen::End);
    }
}
