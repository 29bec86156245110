//! What a client gets when something breaks, row by row as `failure` has it,
//! and the cases of gRPC's negative interop tests.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use testkit::{
    await_that,
    lab::{Lab, Server, l7_config, start_l7},
    negative::{Case, NegativeServer, ok_response, response_head},
    on_each_data_plane,
    peer::{End, Message, Peer, RawServer, Seen, field},
    wire::{self, block, code, setting},
    within,
};

use crate::common::{Wires, call, open};

/// Asserts that an answer is a response that is trailers only, and gives its
/// message.
fn trailers_only<'a>(answer: &'a Message, status: &str) -> &'a str {
    assert_eq!(answer.end, Some(End::Whole), "{answer:?}");
    assert_eq!(answer.heads.len(), 1, "{answer:?}");
    assert!(answer.body.is_empty());
    assert_eq!(answer.head(":status"), Some("200"));
    assert_eq!(answer.head("content-type"), Some("application/grpc"));
    assert_eq!(answer.grpc_status(), Some(status), "{answer:?}");
    answer.trailer("grpc-message").unwrap()
}

/// An address where nobody listens; the socket keeps it from others.
fn dead_address() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// A GET that is no gRPC.
fn get(stream: u32) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    wire::headers(stream, &block(&fields), true)
}

#[test]
fn a_refused_connection_is_unavailable_and_says_so() {
    on_each_data_plane(async |plane| {
        let (_socket, addr) = dead_address();
        let mut config = l7_config(plane, &[addr]);
        config.calls.forward_http = true;
        let l7 = start_l7(config);
        let mut raw = Peer::client(l7.addr(), &[]).await;
        raw.send(&call(1, &[])).await.unwrap();
        let answer = raw.message(1).await;
        let message = trailers_only(&answer, "14");
        assert!(message.contains("connecting to backend") && message.contains(&addr.to_string()));
        assert!(message.to_lowercase().contains("connection refused"), "{message}");
        // The rest after a failure changes nothing of the answer.
        raw.send(&call(3, &[])).await.unwrap();
        assert!(trailers_only(&raw.message(3).await, "14").contains("connecting to backend"));
        raw.send(&get(5)).await.unwrap();
        assert_eq!(raw.message(5).await.head(":status"), Some("502"));
    });
}

#[test]
fn a_backend_that_never_speaks_is_given_up() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::NeverSpeak).await;
        let mut config = l7_config(plane, &[backend.addr()]);
        config.upstream.connect_timeout = Duration::from_millis(100);
        let l7 = start_l7(config);
        let mut raw = Peer::client(l7.addr(), &[]).await;
        raw.send(&call(1, &[])).await.unwrap();
        let answer = raw.message(1).await;
        assert!(trailers_only(&answer, "14").contains("connecting to backend"), "{answer:?}");
        assert_eq!(backend.record().calls(), 0);
    });
}

/// A backend that speaks something else than HTTP/2.
#[test]
fn a_backend_that_speaks_another_protocol_is_unavailable() {
    on_each_data_plane(async |plane| {
        let server = RawServer::start().await;
        let mut config = l7_config(plane, &[server.addr()]);
        config.upstream.connect_timeout = Duration::from_secs(5);
        let l7 = start_l7(config);
        let mut raw = Peer::client(l7.addr(), &[]).await;
        raw.send(&call(1, &[])).await.unwrap();
        let mut backend = server.accept_silent().await;
        backend.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        backend.finish().await;
        trailers_only(&raw.message(1).await, "14");
    });
}

#[test]
fn full_backends_are_unavailable_and_say_so() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        let mut config = l7_config(plane, &[backend.addr()]);
        config.upstream.backend_max_connections = 2;
        config.upstream.backend_max_streams = 3;
        config.circuit.backend_max_pending = 6;
        config.calls.forward_http = true;
        let l7 = start_l7(config);
        let mut raw = Peer::client(l7.addr(), &[]).await;
        for stream in (1..=11).step_by(2) {
            raw.send(&call(stream, &[])).await.unwrap();
        }
        await_that("six calls at the backend", || backend.record().calls() == 6).await;
        // As many may wait for a place.
        let waiting: Vec<u8> = (21..=31).step_by(2).flat_map(|id| call(id, &[])).collect();
        raw.send(&waiting).await.unwrap();
        raw.send(&call(33, &[])).await.unwrap();
        assert!(trailers_only(&raw.message(33).await, "14").contains("(backend-max-pending)"));
        raw.send(&get(35)).await.unwrap();
        assert_eq!(raw.message(35).await.head(":status"), Some("503"));
        assert_eq!(backend.record().connections(), 2);
        // A place that becomes free is used again.
        raw.send(&wire::reset(1, code::CANCEL)).await.unwrap();
        await_that("the reset to arrive", || backend.record().resets() == 1).await;
        raw.send(&call(37, &[])).await.unwrap();
        await_that("a seventh call", || backend.record().calls() == 7).await;
    });
}

#[test]
fn a_deadline_is_status_4() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::NeverAnswer).await;
        let l7 = start_l7(l7_config(plane, &[backend.addr()]));
        let mut raw = Peer::client(l7.addr(), &[]).await;
        raw.send(&call(1, &[("grpc-timeout", "50m")])).await.unwrap();
        assert!(trailers_only(&raw.message(1).await, "4").contains("deadline"));
        await_that("the backend's stream to be reset", || backend.record().resets() == 1).await;
    });
}

/// Headers over each of the two limits, and just under them.
#[test]
fn headers_over_a_limit_exhaust_a_resource() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        let value = "v".repeat(1_000);
        let names: Vec<_> = (0..200).map(|index| format!("x-{index}")).collect();
        let many =
            |count: usize| names.iter().take(count).map(|name| (name.as_str(), "")).collect();
        let large = |count: usize| {
            names.iter().take(count).map(|name| (name.as_str(), value.as_str())).collect()
        };
        let cases: [(Vec<(&str, &str)>, bool); 4] =
            [(many(90), true), (many(101), false), (large(14), true), (large(17), false)];
        for (stream, (fields, fits)) in (1..).step_by(2).zip(cases) {
            raw.send(&call(stream, &fields)).await.unwrap();
            let answer = raw.message(stream).await;
            if fits {
                assert_eq!(answer.grpc_status(), Some("0"), "{} fields", fields.len());
            } else {
                assert!(trailers_only(&answer, "8").contains("headers"));
            }
        }
        assert_eq!(lab.calls_started(), 2);
        assert_eq!(lab.l7.metric("l7_rejected_total{reason=\"headers_too_large\"}"), 2.0);
        // Not gRPC: the HTTP status that fits.
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
        fields.extend(many(101));
        raw.send(&wire::headers(9, &block(&fields), true)).await.unwrap();
        assert_eq!(raw.message(9).await.head(":status"), Some("431"));
    });
}

/// How far the response has come when the backend's connection breaks.
#[test]
fn a_backend_that_dies_gives_a_status_where_one_can_be_given() {
    on_each_data_plane(async |plane| {
        // Before headers. Whether the backend acted on the call is unknown, so
        // it is not sent again.
        let mut wires = Wires::start(plane).await;
        let (backend, _, _) = wires.begin().await;
        drop(backend);
        assert!(trailers_only(&wires.client.message(1).await, "14").contains("broke"));

        // On a boundary: after the head, after a message, after two.
        for messages in 0..3 {
            let mut wires = Wires::start(plane).await;
            let (mut backend, stream, _) = wires.begin().await;
            let mut bytes = response_head(stream);
            for _ in 0..messages {
                bytes.extend(wire::data(stream, &wire::message(b"whole"), false));
            }
            backend.send(&bytes).await.unwrap();
            backend.finish().await;
            let answer = wires.client.message(1).await;
            assert_eq!(answer.end, Some(End::Whole), "{messages} messages: {answer:?}");
            assert_eq!(answer.grpc_status(), Some("14"));
            assert_eq!(answer.heads.len(), 2);
            assert_eq!(answer.body, wire::message(b"whole").repeat(messages));
            assert!(answer.trailer("grpc-message").unwrap().contains("broke"));
        }

        // Inside a message: inside its prefix, and inside its bytes.
        for length in [1, 4, 5, 7] {
            let mut wires = Wires::start(plane).await;
            let (mut backend, stream, _) = wires.begin().await;
            let part = wire::data(stream, &wire::message(b"whole")[..length], false);
            backend.send(&[response_head(stream), part].concat()).await.unwrap();
            backend.finish().await;
            let answer = wires.client.message(1).await;
            assert_eq!(answer.end, Some(End::Reset(code::INTERNAL_ERROR)), "{length} bytes");
        }
    });
}

/// A response that ends without trailers, or a connection that dies after the
/// end of one: not the proxy's to judge.
#[test]
fn a_whole_response_is_whole_whatever_happens_to_its_connection() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let (mut backend, stream, _) = wires.begin().await;
        backend.send(&ok_response(stream)).await.unwrap();
        drop(backend);
        let answer = wires.client.message(1).await;
        assert_eq!((answer.grpc_status(), answer.end), (Some("0"), Some(End::Whole)));
    });
}

/// What a client of a proxy over this server gets for one call.
async fn one_call(l7: &Server) -> Message {
    let mut raw = Peer::client(l7.addr(), &[]).await;
    raw.send(&call(1, &[])).await.unwrap();
    raw.message(1).await
}

#[test]
fn negative_interop_cases_end_as_they_should() {
    on_each_data_plane(async |plane| {
        for case in Case::ALL {
            let backend = NegativeServer::start(case).await;
            let mut config = l7_config(plane, &[backend.addr()]);
            config.upstream.connect_timeout = Duration::from_millis(200);
            let l7 = start_l7(config);
            let is_silent = matches!(case, Case::NeverAnswer | Case::NeverSpeak);
            let timeout: &[_] = if is_silent { &[("grpc-timeout", "600m")] } else { &[] };
            let mut raw = Peer::client(l7.addr(), &[]).await;
            raw.send(&call(1, timeout)).await.unwrap();
            let answer = raw.message(1).await;
            let outcome = (answer.end.unwrap(), answer.grpc_status());
            let whole = |status| (End::Whole, Some(status));
            match case {
                Case::GoAway | Case::Ping | Case::MaxStreams => {
                    assert_eq!(outcome, whole("0"), "{case:?}");
                    assert_eq!(answer.body, wire::message(&[]), "{case:?}");
                }
                Case::RstAfterHeader | Case::RstDuringData | Case::RstAfterData => {
                    assert_eq!(outcome.0, End::Reset(code::CANCEL), "{case:?}");
                }
                Case::RefuseStreams => {
                    trailers_only(&answer, "14");
                    // Refused streams are offered again, and that has a bound.
                    assert_eq!(backend.record().calls(), 4, "max_attempts");
                }
                Case::NeverAnswer => assert_eq!(outcome, whole("4"), "{case:?}"),
                Case::NeverSpeak | Case::CloseOnBoundary | Case::CloseBeforeHeaders => {
                    assert_eq!(outcome, whole("14"), "{case:?}");
                }
                Case::CloseMidMessage => {
                    assert_eq!(outcome.0, End::Reset(code::INTERNAL_ERROR), "{case:?}");
                }
            }
            if case == Case::CloseBeforeHeaders {
                assert_eq!(backend.record().calls(), 1, "a call that may have run is not repeated");
            }
        }
    });
}

/// gRPC's `goaway`: the next call goes to a new connection.
#[test]
fn a_backend_that_goes_away_after_each_call_serves_them_all() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::GoAway).await;
        let l7 = start_l7(l7_config(plane, &[backend.addr()]));
        let mut raw = Peer::client(l7.addr(), &[]).await;
        for stream in (1..40).step_by(2) {
            raw.send(&call(stream, &[])).await.unwrap();
            assert_eq!(raw.message(stream).await.grpc_status(), Some("0"));
        }
        assert_eq!(backend.record().calls(), 20);
        assert_eq!(backend.record().connections(), 20);
    });
}

/// gRPC's `max_streams`: more calls than a connection may carry at once get
/// connections of their own, and none queues behind another.
#[test]
fn a_full_connection_is_joined_by_another() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let one_stream = [(setting::MAX_CONCURRENT_STREAMS, 1)];
        wires.client.send(&open(1, &[])).await.unwrap();
        let mut first = wires.server.accept(&one_stream).await;
        let (stream, _, _) = first.next_headers().await;
        // The first call holds its connection for as long as the test runs.
        let mut others = Vec::new();
        for stream in [3, 7] {
            wires.client.send(&call(stream, &[])).await.unwrap();
            let mut backend = wires.server.accept(&one_stream).await;
            let (its, _, _) = backend.next_headers().await;
            backend.send(&ok_response(its)).await.unwrap();
            assert_eq!(wires.client.message(stream).await.grpc_status(), Some("0"));
            others.push(backend);
            wires.client.send(&open(stream + 2, &[])).await.unwrap();
            // It takes the place that has become free, or a new one.
            let other = others.last_mut().unwrap();
            other.next_headers().await;
        }
        first.send(&ok_response(stream)).await.unwrap();
        wires.client.send(&wire::data(1, &wire::message(&[]), true)).await.unwrap();
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"));
    });
}

#[test]
fn a_backend_s_stream_limit_is_kept() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::MaxStreams).await;
        let l7 = start_l7(l7_config(plane, &[backend.addr()]));
        let mut raw = Peer::client(l7.addr(), &[]).await;
        let streams: Vec<u32> = (1..=80).step_by(2).collect();
        let calls: Vec<u8> = streams.iter().flat_map(|stream| call(*stream, &[])).collect();
        raw.send(&calls).await.unwrap();
        for stream in streams {
            // Sixteen connections of one stream each may all be in use, and are
            // waited for.
            assert_eq!(raw.message(stream).await.grpc_status(), Some("0"));
        }
        assert_eq!(backend.record().streams_too_many(), 0);
        assert!(backend.record().connections() <= 16);
    });
}

/// gRPC's `ping`: a proxy answers PINGs on connections to backends.
#[test]
fn a_backend_s_pings_are_answered() {
    on_each_data_plane(async |plane| {
        let backend = NegativeServer::start(Case::Ping).await;
        let l7 = start_l7(l7_config(plane, &[backend.addr()]));
        assert_eq!(one_call(&l7).await.grpc_status(), Some("0"));
        await_that("three answers", || backend.record().pings_answered() == 3).await;
    });
}

/// A call above the last stream of a GOAWAY was not processed, so it goes
/// elsewhere; one at or below it finishes where it is.
#[test]
fn a_goaway_sends_the_calls_it_leaves_out_elsewhere() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let calls = [call(1, &[("x-call", "1")]), call(3, &[("x-call", "3")])];
        wires.client.send(&calls.concat()).await.unwrap();
        let mut old = wires.server.accept(&[]).await;
        // Which of the two comes first is the proxy's business.
        let (first, fields, _) = old.next_headers().await;
        let stays: u32 = field(&fields, "x-call").unwrap().parse().unwrap();
        let goes = 4 - stays;
        let (second, _, _) = old.next_headers().await;
        assert!(first < second);
        old.send(&wire::go_away(first, code::NO_ERROR)).await.unwrap();
        let mut new = wires.server.accept(&[]).await;
        let (again, fields, _) = new.next_headers().await;
        assert_eq!(field(&fields, "x-call"), Some(goes.to_string().as_str()));
        let Seen::Data { payload, .. } = new.next_on(again).await else { panic!("DATA") };
        assert_eq!(payload, wire::message(&[]), "the request is repeated whole");
        new.send(&ok_response(again)).await.unwrap();
        assert_eq!(wires.client.message(goes).await.grpc_status(), Some("0"));
        old.send(&ok_response(first)).await.unwrap();
        assert_eq!(wires.client.message(stays).await.grpc_status(), Some("0"));
    });
}

/// REFUSED_STREAM goes to another backend, whatever the policy.
#[test]
fn a_refused_call_is_served_by_another_backend() {
    on_each_data_plane(async |plane| {
        let refusing = NegativeServer::start(Case::RefuseStreams).await;
        let echo = testkit::lab::EchoBackend::start("b");
        let l7 = start_l7(l7_config(plane, &[refusing.addr(), echo.addr()]));
        let mut raw = Peer::client(l7.addr(), &[]).await;
        for stream in (1..40).step_by(2) {
            raw.send(&call(stream, &[])).await.unwrap();
            assert_eq!(raw.message(stream).await.grpc_status(), Some("0"));
        }
        assert_eq!(echo.counters().started(), 20);
        let refused = refusing.record().calls();
        assert!(refused >= 10, "{refused} of 20 calls were offered to the one that refuses");
        assert_eq!(l7.metric("l7_retries_total"), f64::from(refused));
    });
}

/// A backend that breaks the protocol ends its own connection and harms no
/// other.
#[test]
fn a_backend_that_breaks_the_protocol_harms_its_calls_only() {
    on_each_data_plane(async |plane| {
        let breaches: [(&str, Vec<u8>); 5] = [
            ("DATA on stream 0", wire::data(0, b"x", false)),
            ("a window of zero", wire::window_update(0, 0)),
            ("a frame over the size", wire::frame(0, 0, 1, &vec![0; 20_000])),
            (
                "a broken header block",
                wire::headers(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], false),
            ),
            ("a push", wire::frame(wire::kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])),
        ];
        for (breach, bytes) in breaches {
            let mut wires = Wires::start(plane).await;
            let (mut backend, _, _) = wires.begin().await;
            // The proxy may close before it has read everything.
            let _ = backend.send(&bytes).await;
            assert_eq!(
                wires.client.message(1).await.grpc_status(),
                Some("14"),
                "the call meets a broken backend: {breach}"
            );
            within("the end", backend.closed()).await;
            wires.client.send(&call(3, &[])).await.unwrap();
            let mut backend = wires.server.accept(&[]).await;
            let (stream, _, _) = backend.next_headers().await;
            backend.send(&ok_response(stream)).await.unwrap();
            assert_eq!(wires.client.message(3).await.grpc_status(), Some("0"), "{breach}");
        }
    });
}
