//! Connections to backends: how many are made and when, who waits for a place on
//! one, and what a backend can do with them that is not good for anybody.
//!
//! What a data plane does not do stands in [`exceptions`], by name and with its
//! reason.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use l7_proxy::Config;
use serve::admin::BackendSpec;
use testkit::{
    await_that,
    lab::{EchoBackend, l7_config, start_l7, start_l7_fleet},
    negative::{Case, NegativeServer, ok_response, response_head},
    on_each_data_plane,
    peer::{End, Peer, RawServer, Seen},
    wire::{self, code, setting},
    within,
};

use crate::common::{Wires, call, open};

/// What each data plane does otherwise.
mod exceptions {
    use l7_proxy::DataPlane;

    /// Over hyper a call waits at the backend that was picked for it.
    pub(crate) fn waits_for_one_backend(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2 numbers its streams from 1, whatever the flag says; how many are left is
    /// counted by it.
    pub(crate) fn numbers_its_streams_from_1(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// hyper asks by its own clock, and hides what a GOAWAY says beside its
    /// code.
    pub(crate) fn asks_by_its_own_clock(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// h2's client has bounds of its own on some of these, and none on others.
    pub(crate) fn has_h2_s_bounds_on_backends(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }

    /// hyper's calls take places in no order that anybody could share out.
    pub(crate) fn has_no_shares(plane: DataPlane) -> bool {
        plane == DataPlane::Hyper
    }
}

fn streams(count: u32) -> impl Iterator<Item = u32> {
    (1..2 * count).step_by(2)
}

/// A backend that takes one call at a time on each connection, and far more
/// calls than it may have connections: they wait for each other.
#[test]
fn calls_beyond_what_a_backend_allows_wait_for_a_place() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::MaxStreams).await;
        let l7 = start_l7(l7_config(plane, &[backend.addr()]));
        let mut client = Peer::client(l7.addr(), &[]).await;
        let calls: Vec<u8> = streams(600).flat_map(|stream| call(stream, &[])).collect();
        client.send(&calls).await.unwrap();
        for stream in streams(600) {
            assert_eq!(client.message(stream).await.grpc_status(), Some("0"), "stream {stream}");
        }
        assert_eq!(backend.record().calls(), 600);
        assert_eq!(backend.record().streams_too_many(), 0);
        assert!(backend.record().connections() <= 16);
    });
}

/// A backend that allows no streams for a while is asked over one connection,
/// and gets its calls when it allows some.
#[test]
fn calls_wait_while_a_backend_allows_no_streams() {
    on_each_data_plane(async |plane| {
        let bound = |config: &mut Config| config.circuit.backend_max_pending = 200;
        let mut wires = Wires::start_with(plane, bound).await;
        wires.client.send(&call(1, &[("grpc-timeout", "200m")])).await.unwrap();
        let mut backend = wires.server.accept(&[(setting::MAX_CONCURRENT_STREAMS, 0)]).await;
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("4"), "its deadline holds");
        let waiting: Vec<u32> = streams(201).skip(1).collect();
        let calls: Vec<u8> = waiting.iter().flat_map(|stream| call(*stream, &[])).collect();
        wires.client.send(&calls).await.unwrap();
        wires.client.send(&call(1_001, &[])).await.unwrap();
        let refused = wires.client.message(1_001).await;
        assert_eq!((refused.grpc_status(), refused.end), (Some("14"), Some(End::Whole)));
        let message = refused.trailer("grpc-message").unwrap();
        assert!(message.contains("(backend-max-pending)"), "{message}");
        // One that its client takes back leaves its place in the queue.
        wires.client.send(&wire::reset(3, code::CANCEL)).await.unwrap();
        wires.client.send(&call(1_003, &[])).await.unwrap();
        wires.client.round_trip().await;
        assert_eq!(wires.l7.metric("l7_backend_connects_total"), 1.0, "no storm");
        backend.send(&wire::settings(&[(setting::MAX_CONCURRENT_STREAMS, 100)])).await.unwrap();
        for _ in 0..200 {
            let (stream, _, _) = backend.next_headers().await;
            backend.send(&ok_response(stream)).await.unwrap();
        }
        for stream in waiting.into_iter().skip(1).chain([1_003]) {
            let answer = wires.client.message(stream).await;
            assert_eq!(answer.grpc_status(), Some("0"), "stream {stream}");
        }
    });
}

/// A call whose backend is full takes the first place that any backend has.
#[test]
fn a_place_at_another_backend_is_as_good() {
    on_each_data_plane(async |plane| {
        if exceptions::waits_for_one_backend(plane) {
            return;
        }
        let servers = [RawServer::start().await, RawServer::start().await];
        let mut config = l7_config(plane, &servers.each_ref().map(RawServer::addr));
        config.upstream.backend_max_connections = 1;
        let l7 = start_l7(config);
        let mut client = Peer::client(l7.addr(), &[]).await;
        client
            .send(&[call(1, &[]), call(3, &[]), call(5, &[]), call(7, &[])].concat())
            .await
            .unwrap();
        let mut stuck = servers[0].accept(&[(setting::MAX_CONCURRENT_STREAMS, 1)]).await;
        let mut other = servers[1].accept(&[(setting::MAX_CONCURRENT_STREAMS, 1)]).await;
        // It keeps its call for as long as the test runs.
        stuck.next_headers().await;
        let mut served = Vec::new();
        for _ in 0..3 {
            let (stream, _, _) = other.next_headers().await;
            other.send(&ok_response(stream)).await.unwrap();
            let what = "an answer";
            let is_answer = |seen: &Seen| matches!(seen, Seen::Headers { ends: true, .. });
            let Seen::Headers { stream, .. } = client.next_that(what, is_answer).await else {
                panic!("the client's connection ended");
            };
            served.push(stream);
        }
        served.dedup();
        assert_eq!(served.len(), 3, "{served:?}");
    });
}

/// A connection whose stream identifiers are used up ends with its last call,
/// and another takes its place, as often as it takes.
#[test]
fn a_connection_without_identifiers_is_replaced() {
    on_each_data_plane(async |plane| {
        // Two before 2^31-1, which is left out.
        let first = (1 << 31) - 5;
        let mut wires = Wires::start_with(plane, |config| {
            config.upstream.backend_first_stream = first;
            config.upstream.backend_max_connections = 1;
        })
        .await;
        let first = if exceptions::numbers_its_streams_from_1(plane) { 1 } else { first };
        wires.client.send(&[open(1, &[]), call(3, &[])].concat()).await.unwrap();
        let mut old = wires.server.accept(&[]).await;
        assert_eq!(old.next_headers().await.0, first);
        assert_eq!(old.next_headers().await.0, first + 2);
        for stream in [5, 9, 13] {
            wires.client.send(&[call(stream, &[]), call(stream + 2, &[])].concat()).await.unwrap();
            let mut new = wires.server.accept(&[]).await;
            for (here, there) in [(stream, first), (stream + 2, first + 2)] {
                assert_eq!(new.next_headers().await.0, there);
                new.send(&ok_response(there)).await.unwrap();
                assert_eq!(wires.client.message(here).await.grpc_status(), Some("0"));
            }
            new.closed().await;
        }
        wires.client.send(&wire::data(1, &wire::message(&[]), true)).await.unwrap();
        old.send(&[ok_response(first), ok_response(first + 2)].concat()).await.unwrap();
        for stream in [1, 3] {
            assert_eq!(wires.client.message(stream).await.grpc_status(), Some("0"));
        }
        old.closed().await;
    });
}

/// A backend that speaks HTTP/2 and goes away at once is as bad as one that
/// can't be reached, and gets pauses as long.
#[test]
fn a_connection_that_served_nothing_is_followed_by_a_pause() {
    on_each_data_plane(async |plane| {
        let server = RawServer::start().await;
        let l7 = start_l7(l7_config(plane, &[server.addr()]));
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let leaving = tokio::spawn(async move {
            loop {
                let mut peer = server.accept(&[]).await;
                count.fetch_add(1, Ordering::Relaxed);
                // The proxy may have closed it already.
                let _ = peer.send(&wire::go_away(0, code::NO_ERROR)).await;
            }
        });
        let mut client = Peer::client(l7.addr(), &[]).await;
        for stream in streams(300) {
            client.send(&call(stream, &[])).await.unwrap();
            let answer = client.message(stream).await;
            assert_eq!((answer.grpc_status(), answer.end), (Some("14"), Some(End::Whole)));
        }
        leaving.abort();
        // One more with each pause, which grow; and there is one a call without.
        let made = made.load(Ordering::Relaxed);
        assert!((2..50).contains(&made), "{made} connections for 300 calls");
    });
}

/// The kernel of a backend that hangs takes connections all the same. Nobody waits for one
/// of these while another backend is well, and everybody does where there is no other.
#[test]
fn nobody_waits_for_a_backend_that_was_lost_and_says_nothing() {
    on_each_data_plane(async |plane| {
        if exceptions::waits_for_one_backend(plane) {
            return;
        }
        let (hanging, well) = (RawServer::start().await, EchoBackend::start("well"));
        let mut config = l7_config(plane, &[hanging.addr(), well.addr()]);
        config.upstream.connect_timeout = Duration::from_secs(3_600);
        let (l7, fleet) = start_l7_fleet(config);
        let mut client = Peer::client(l7.addr(), &[]).await;
        client.send(&[call(1, &[]), call(3, &[])].concat()).await.unwrap();
        let mut lost = hanging.accept(&[]).await;
        let (there, _, _) = lost.next_headers().await;
        lost.send(&ok_response(there)).await.unwrap();
        for stream in [1, 3] {
            assert_eq!(client.message(stream).await.grpc_status(), Some("0"));
        }
        drop(lost);
        l7.await_metric("l7_backend_connections_open", |open| open == 1.0).await;
        let mut numbers = (5..).step_by(2);
        let mut calls = async |count| {
            for stream in numbers.by_ref().take(count) {
                client.send(&call(stream, &[])).await.unwrap();
                assert_eq!(client.message(stream).await.grpc_status(), Some("0"));
            }
        };
        calls(20).await;
        let mut hanging_still = hanging.accept_silent().await;
        calls(20).await;
        // It is the only one now, and whoever calls waits for it.
        fleet.remove(well.addr()).unwrap();
        let waiting = async {
            hanging_still.greet(&[]).await.unwrap();
            let (there, _, _) = hanging_still.next_headers().await;
            hanging_still.send(&ok_response(there)).await.unwrap();
        };
        tokio::join!(calls(1), waiting);
    });
}

/// A backend that is silent for long is asked, and one that has had enough of
/// that is asked half as often, on whatever connection.
#[test]
fn a_backend_that_has_had_too_many_pings_is_asked_less_often() {
    on_each_data_plane(async |plane| {
        if exceptions::asks_by_its_own_clock(plane) {
            return;
        }
        let interval = Duration::from_millis(200);
        let mut wires = Wires::start_with(plane, |config| {
            config.upstream.backend_keepalive_interval = interval;
        })
        .await;
        let is_ping = |seen: &Seen| matches!(seen, Seen::Ping(_));
        let mut stream = 1;
        for doublings in 0..3 {
            wires.client.send(&call(stream, &[])).await.unwrap();
            let mut backend = wires.server.accept(&[]).await;
            let (there, _, _) = backend.next_headers().await;
            let asked = Instant::now();
            backend.send(&response_head(there)).await.unwrap();
            assert_ne!(backend.next_that("a PING", is_ping).await, Seen::Closed);
            let silence = asked.elapsed();
            // It counts from when the proxy has read what was sent.
            assert!(silence > interval * (1 << doublings), "{silence:?} after {doublings}");
            let payload = [&there.to_be_bytes(), &11_u32.to_be_bytes()[..], b"too_many_pings"];
            let go_away = wire::frame(wire::kind::GOAWAY, 0, 0, &payload.concat());
            let trailers = testkit::negative::ok_trailers(there);
            backend.send(&[go_away, trailers].concat()).await.unwrap();
            assert_eq!(wires.client.message(stream).await.grpc_status(), Some("0"));
            stream += 2;
        }
    });
}

/// Five minutes, which gRPC's servers allow by default.
#[test]
fn by_default_backends_are_asked_as_seldom_as_grpc_wants() {
    let config = Config::new(Vec::new(), balance::PolicyKind::RoundRobin);
    assert_eq!(config.upstream.backend_keepalive_interval, Duration::from_secs(300));
}

/// A backend that sends what is of no use to anybody loses its connection, and
/// gets another.
#[test]
fn a_backend_that_floods_is_stopped() {
    on_each_data_plane(async |plane| {
        if exceptions::has_h2_s_bounds_on_backends(plane) {
            return;
        }
        type Flood = (&'static str, fn(u32) -> Vec<u8>);
        let floods: [Flood; 6] = [
            ("PING", |_| wire::ping(*b"backend!")),
            ("SETTINGS", |_| wire::settings(&[])),
            ("empty DATA", |stream| wire::data(stream, &[], false)),
            ("unknown", |_| wire::frame(0xbb, 0, 0, b"what is this")),
            ("DATA on a stream that is over", |stream| wire::data(stream - 2, b"late", false)),
            ("resets of a stream that is over", |stream| wire::reset(stream - 2, code::CANCEL)),
        ];
        for (what, frame) in floods {
            let mut wires = Wires::start_with(plane, |config| {
                config.upstream.backend_max_control_frames_per_second = 500;
                config.upstream.backend_max_stray_frames_per_second = 500;
            })
            .await;
            let (mut backend, stream, _) = wires.begin().await;
            backend.send(&ok_response(stream)).await.unwrap();
            assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"), "{what}");
            wires.client.send(&call(3, &[])).await.unwrap();
            let (stream, _, _) = backend.next_headers().await;
            backend.send(&response_head(stream)).await.unwrap();
            let flood = frame(stream).repeat(100);
            let until_closed = async {
                while backend.send(&flood).await.is_ok() {
                    backend.catch_up().await;
                }
            };
            within(what, until_closed).await;
            let reason = "l7_backend_connections_ended_total{reason=\"control_flood\"}";
            wires.l7.await_metric(reason, |count| count == 1.0).await;
            let broken = wires.client.message(3).await;
            assert_eq!(broken.grpc_status(), Some("14"), "{what}");
            wires.client.send(&call(5, &[])).await.unwrap();
            let mut backend = wires.server.accept(&[]).await;
            let (stream, _, _) = backend.next_headers().await;
            backend.send(&ok_response(stream)).await.unwrap();
            assert_eq!(wires.client.message(5).await.grpc_status(), Some("0"), "{what}");
        }
    });
}

/// What was on its way when the proxy reset its stream is no flood, however small
/// the pieces.
#[test]
fn what_a_backend_had_sent_before_a_reset_is_no_flood() {
    on_each_data_plane(async |plane| {
        if exceptions::has_h2_s_bounds_on_backends(plane) {
            return;
        }
        let mut wires = Wires::start_with(plane, |config| {
            config.upstream.backend_max_stray_frames_per_second = 100;
        })
        .await;
        let (mut backend, stream, _) = wires.begin().await;
        backend.send(&response_head(stream)).await.unwrap();
        wires.client.send(&wire::reset(1, code::CANCEL)).await.unwrap();
        let is_reset = |seen: &Seen| matches!(seen, Seen::Reset { .. });
        backend.next_that("the reset", is_reset).await;
        backend.send(&wire::data(stream, b"x", false).repeat(5_000)).await.unwrap();
        wires.client.send(&call(3, &[])).await.unwrap();
        let (stream, _, _) = backend.next_headers().await;
        backend.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(3).await.grpc_status(), Some("0"));
    });
}

/// Blocks of thousands of references to one large entry: the proxy does not copy
/// what it will not keep, and ends a connection that goes on with it.
#[test]
fn header_lists_beyond_all_bounds_are_a_flood() {
    on_each_data_plane(async |plane| {
        if exceptions::has_h2_s_bounds_on_backends(plane) {
            return;
        }
        let lab = testkit::lab::Lab::start_with(plane, 1, |config| {
            config.downstream.max_resets_per_second = 50;
        });
        let mut attacker = Peer::client(lab.l7.addr(), &[]).await;
        let large = wire::indexed_literal("x-large", &"v".repeat(3_900));
        let mut first = wire::block(&wire::grpc_fields(wire::UNARY));
        first.extend(large);
        attacker.send(&wire::headers(1, &first, true)).await.unwrap();
        // 62 is the newest entry of the dynamic table (RFC 7541, section 2.3.3).
        let references = vec![0x80 | 62; 12_000];
        let until_closed = async {
            for stream in (3..).step_by(2) {
                if attacker.send(&wire::headers(stream, &references, true)).await.is_err() {
                    break;
                }
                attacker.catch_up().await;
            }
        };
        within("the end of the connection", until_closed).await;
        let reason = "l7_connections_ended_total{reason=\"reset_flood\"}";
        lab.l7.await_metric(reason, |count| count == 1.0).await;
        let mut other = lab.client().await;
        other.unary(crate::common::echo(1, vec![1; 100])).await.unwrap();
    });
}

/// A proxy that is its own backend, or the backend of one of its backends, tells
/// so at the first pass.
#[test]
fn a_proxy_that_leads_to_itself_says_so() {
    on_each_data_plane(async |plane| {
        for others in [0, 1] {
            let (first, fleet) = start_l7_fleet(l7_config(plane, &[([127, 0, 0, 1], 1).into()]));
            let mut others: Vec<_> =
                (0..others).map(|_| start_l7(l7_config(plane, &[first.addr()]))).collect();
            let back = others.last().map_or(first.addr(), |other| other.addr());
            fleet.replace(&[BackendSpec::new(back)]).unwrap();
            let mut client = Peer::client(first.addr(), &[]).await;
            client.send(&call(1, &[("via", "2 edge")])).await.unwrap();
            let answer = client.message(1).await;
            assert_eq!(answer.grpc_status(), Some("13"), "{answer:?}");
            assert!(answer.trailer("grpc-message").unwrap().contains("proxy loop"));
            assert_eq!(first.metric("l7_rejected_total{reason=\"loop\"}"), 1.0);
            assert_eq!(first.metric("l7_calls_total"), 1.0, "one pass");
            others.clear();
        }
    });
}

/// A client that connects from this address.
async fn client_from(ip: [u8; 4], l7: SocketAddr) -> Peer {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    let mut peer = Peer::new(within("a connection", socket.connect(l7)).await.unwrap());
    peer.send(&[wire::PREFACE, &wire::settings(&[])].concat()).await.unwrap();
    peer
}

/// One client has idle streams on many connections, far more than the backends
/// have places. Others find places, from another address and from its own; and
/// what it has too many of goes on when it holds fewer.
#[test]
fn one_client_does_not_get_all_places() {
    on_each_data_plane(async |plane| {
        if exceptions::has_no_shares(plane) {
            return;
        }
        let lab = testkit::lab::Lab::start_with(plane, 1, |config| {
            config.upstream.backend_max_connections = 2;
            config.upstream.backend_max_streams = 100;
            config.circuit.client_share = 4;
        });
        let greedy_address = [127, 0, 0, 2];
        let fields = wire::block(&wire::grpc_fields(wire::BIDI));
        let mut greedy = Vec::new();
        for _ in 0..5 {
            let mut client = client_from(greedy_address, lab.l7.addr()).await;
            for stream in streams(100) {
                client.send(&wire::headers(stream, &fields, false)).await.unwrap();
            }
            client.round_trip().await;
            greedy.push(client);
        }
        await_that("most places to be taken", || lab.calls_in_flight() > 150).await;
        for address in [[127, 0, 0, 1], greedy_address] {
            let mut other = client_from(address, lab.l7.addr()).await;
            for stream in streams(50) {
                other.send(&call(stream, &[])).await.unwrap();
                assert_eq!(other.message(stream).await.grpc_status(), Some("0"), "{address:?}");
            }
        }
        // Four of five places, and one for each connection.
        let held = lab.calls_in_flight();
        assert!(held <= 165, "{held} of 200 places");
        for client in &mut greedy {
            for stream in streams(100) {
                client.send(&wire::data(stream, &[], true)).await.unwrap();
            }
        }
        for client in &mut greedy {
            for stream in streams(100) {
                let answer = client.message(stream).await;
                assert_eq!(answer.grpc_status(), Some("0"), "stream {stream}");
            }
        }
    });
}
