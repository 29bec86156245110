//! Choosing a backend, the limits on connections, and the end of the proxy.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    time::Duration,
};

use balance::PolicyKind;
use common::{
    Backend, DeadAddress, Proxy, Seen, SilentAddress, await_that, config, end, expect_bytes, fill,
    pass, see,
};
use l4_proxy::DataPlane;

common::on_every_plane! {
    silence_in_both_directions_together_is_what_counts_as_idle,
    a_peer_that_does_not_read_stops_the_one_that_sends,
    a_drain_takes_no_more_and_lets_what_is_open_finish,
    what_outlives_the_drain_is_reset,
    bytes_are_counted_each_way,
}

/// Opens connections one by one and counts where each arrives.
fn spread(proxy: &Proxy, backends: &[Backend], connections: usize) -> Vec<usize> {
    let mut counts = vec![0; backends.len()];
    let mut open = Vec::new();
    for _ in 0..connections {
        let client = proxy.connect();
        let mut arrived = None;
        await_that("the connection at some backend", || {
            let found = backends.iter().enumerate();
            arrived = found.filter_map(|(i, backend)| Some((i, backend.try_accept()?))).next();
            arrived.is_some()
        });
        let (index, backend) = arrived.unwrap();
        counts[index] += 1;
        open.push((client, backend));
    }
    counts
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

#[test]
fn round_robin_gives_each_backend_the_same_over_all_threads() {
    let backends = [(); 4].map(|()| Backend::start());
    let mut config = config(DataPlane::Auto, &addresses(&backends));
    config.threads = NonZeroUsize::new(3).unwrap();
    let proxy = Proxy::start(config);
    assert_eq!(spread(&proxy, &backends, 40), [10; 4]);
}

#[test]
fn every_policy_serves_and_hash_policies_keep_a_client_together() {
    for policy in PolicyKind::ALL {
        let backends = [(); 3].map(|()| Backend::start());
        let mut config = config(DataPlane::Auto, &addresses(&backends));
        config.policy = policy;
        let counts = spread(&Proxy::start(config), &backends, 12);
        assert_eq!(counts.iter().sum::<usize>(), 12, "{policy}");
        if matches!(policy, PolicyKind::RingHash | PolicyKind::Maglev) {
            assert!(counts.contains(&12), "{policy}: {counts:?}");
        }
        if policy == PolicyKind::LeastLoaded {
            assert_eq!(counts, [4; 3], "{policy}");
        }
    }
}

#[test]
fn a_dead_backend_costs_its_connections_nothing_but_time() {
    let dead = DeadAddress::new();
    let alive = Backend::start();
    let proxy = Proxy::start(config(DataPlane::Auto, &[dead.address, alive.address]));
    for _ in 0..10 {
        let mut client = proxy.connect();
        client.write_all(b"early").unwrap();
        expect_bytes(&mut alive.accept(), b"early");
    }
    let of = |name: &str, address| format!("{name}{{backend=\"{address}\"}}");
    // Three in a row, and it is left out for a while.
    assert!(proxy.metric(&of("l4_backend_connect_failures_total", dead.address)) >= 3.0);
    assert!(proxy.metric(&of("l4_backend_ejections_total", dead.address)) >= 1.0);
    assert_eq!(proxy.metric(&of("l4_backend_connections_total", alive.address)), 10.0);
    proxy.await_metric(&of("l4_backend_connections_open", dead.address), 0.0);
}

#[test]
fn a_backend_that_does_not_accept_in_time_is_passed_over() {
    let silent = SilentAddress::new();
    let alive = Backend::start();
    let mut config = config(DataPlane::Auto, &[silent.address, alive.address]);
    config.connect_timeout = Duration::from_millis(50);
    let proxy = Proxy::start(config);
    for _ in 0..4 {
        let mut client = proxy.connect();
        pass(&mut client, &mut alive.accept(), b"served all the same");
    }
    assert!(proxy.metric("l4_backend_connect_failures_total") >= 2.0);
}

#[test]
fn a_client_is_reset_when_no_backend_accepts() {
    let dead = [DeadAddress::new(), DeadAddress::new()];
    let proxy = Proxy::start(config(DataPlane::Auto, &[dead[0].address, dead[1].address]));
    assert_eq!(see(&mut proxy.connect(), 1), Seen::Reset);
    proxy.await_metric("l4_connections_ended_total{end=\"no_backend\"}", 1.0);
    assert_eq!(proxy.metric("l4_backend_connect_failures_total"), 2.0);
}

#[test]
fn connections_beyond_the_cap_are_reset_and_places_come_back() {
    let target = Backend::start();
    let mut config = config(DataPlane::Auto, &[target.address]);
    config.max_connections = 2;
    let proxy = Proxy::start(config);
    let mut held: Vec<_> = (0..2).map(|_| (proxy.connect(), target.accept())).collect();
    for _ in 0..20 {
        assert_eq!(see(&mut proxy.connect(), 1), Seen::Reset);
    }
    assert_eq!(proxy.metric("l4_connections_shed_total{reason=\"connection_limit\"}"), 20.0);
    assert_eq!(proxy.metric("l4_connections_open"), 2.0);
    let (client, backend) = &mut held[0];
    pass(client, backend, b"who was there first is served on");
    drop(held.pop());
    proxy.await_metric("l4_connections_open", 1.0);
    pass(&mut proxy.connect(), &mut target.accept(), b"and the next one in");
}

fn silence_in_both_directions_together_is_what_counts_as_idle(plane: DataPlane) {
    let target = Backend::start();
    let mut config = config(plane, &[target.address]);
    config.idle_timeout = Some(Duration::from_millis(300));
    let proxy = Proxy::start(config);
    // It accepts and never answers.
    let (mut idle, mut idle_backend) = (proxy.connect(), target.accept());
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    let mut idle_is_over = false;
    while !idle_is_over {
        // One direction is enough to keep a connection.
        pass(&mut client, &mut backend, b"tick");
        idle_is_over = proxy.metric("l4_connections_ended_total{end=\"idle\"}") > 0.0;
    }
    assert_eq!(see(&mut idle, 1), Seen::End);
    assert_eq!(see(&mut idle_backend, 1), Seen::End);
    pass(&mut backend, &mut client, b"still there");
    assert_eq!(proxy.metric("l4_connections_open"), 1.0);
}

fn a_peer_that_does_not_read_stops_the_one_that_sends(plane: DataPlane) {
    const LENGTH: usize = 64 << 20;
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    // What fits is what the sockets of both connections hold, and one buffer.
    let written = fill(&mut client, LENGTH).unwrap();
    assert!(written < LENGTH, "nobody read, and all {LENGTH} bytes were taken");
    // The other direction is not held up by it.
    pass(&mut backend, &mut client, b"meanwhile");
    end(&client);
    let mut read = Vec::new();
    backend.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), written);
    assert!(read.iter().all(|byte| *byte == 0x5a));
}

fn a_drain_takes_no_more_and_lets_what_is_open_finish(plane: DataPlane) {
    let target = Backend::start();
    let mut proxy = Proxy::start(config(plane, &[target.address]));
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    proxy.trigger.drain();
    await_that("new connections to be refused", || TcpStream::connect(proxy.address).is_err());
    // Those that came before the acceptor closed are served, and end here.
    while target.try_accept().is_some() {}
    pass(&mut client, &mut backend, b"unhurried");
    assert!(proxy.is_running());
    drop(client);
    assert_eq!(see(&mut backend, 1), Seen::End);
    drop(backend);
    await_that("the proxy to end", || {
        let _ = target.try_accept();
        !proxy.is_running()
    });
    proxy.join().unwrap();
}

fn what_outlives_the_drain_is_reset(plane: DataPlane) {
    let target = Backend::start();
    let mut proxy = Proxy::start(config(plane, &[target.address]));
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    proxy.trigger.drain();
    proxy.trigger.terminate();
    assert_eq!(see(&mut client, 1), Seen::Reset);
    assert_eq!(see(&mut backend, 1), Seen::Reset);
    proxy.join().unwrap();
}

#[test]
fn a_listener_without_a_shared_port_serves_several_threads_too() {
    let backends = [Backend::start()];
    let mut config = config(DataPlane::Auto, &addresses(&backends));
    config.threads = NonZeroUsize::new(2).unwrap();
    let options = serve::BindOptions::default();
    let listener = serve::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let proxy = Proxy::start_on(listener, config);
    assert_eq!(spread(&proxy, &backends, 10), [10]);
}

#[test]
fn backends_that_cannot_be_balanced_over_are_an_error() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for backends in [vec![], vec![address, address]] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error =
            Proxy::start_on(listener, config(DataPlane::Auto, &backends)).join().unwrap_err();
        assert!(matches!(error, l4_proxy::Error::Backends(_)), "{error}");
    }
}

fn bytes_are_counted_each_way(plane: DataPlane) {
    let target = Backend::start();
    let proxy = Proxy::start(config(plane, &[target.address]));
    let (mut client, mut backend) = (proxy.connect(), target.accept());
    pass(&mut client, &mut backend, &[1; 1_000]);
    pass(&mut backend, &mut client, &[2; 30]);
    proxy.await_metric("l4_bytes_total{direction=\"to_backend\"}", 1_000.0);
    proxy.await_metric("l4_bytes_total{direction=\"to_client\"}", 30.0);
    let counts: BTreeMap<_, _> = [("accepted", 1.0), ("open", 1.0)].into();
    for (name, value) in counts {
        let name = if name == "open" { "l4_connections_open" } else { "l4_connections_accepted" };
        assert_eq!(proxy.metric(name), value);
    }
}
