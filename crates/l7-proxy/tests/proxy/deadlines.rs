//! Calls that are given up: by their deadline, by the client, by the backend.

use std::time::Duration;

use h2_wire::grpc::parse_timeout;
use testkit::{
    await_that,
    lab::{EchoBackend, Lab},
    negative::response_head,
    on_each_data_plane,
    peer::{End, Peer, Seen, field},
    wire::{self, code},
    within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::common::{Wires, call, echo, open};

#[test]
fn a_deadline_is_forwarded_as_what_remains_of_it() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let (_backend, _, fields) = wires.begin_with(&[("grpc-timeout", "20S")]).await;
        let left = parse_timeout(field(&fields, "grpc-timeout").unwrap().as_bytes()).unwrap();
        assert!(!left.is_zero() && left < Duration::from_secs(20), "{left:?}");
        assert_eq!(fields.iter().filter(|(name, _)| name == "grpc-timeout").count(), 1);
    });
}

#[test]
fn a_call_without_a_deadline_gets_none() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let (_backend, _, fields) = wires.begin().await;
        assert_eq!(field(&fields, "grpc-timeout"), None);
    });
}

#[test]
fn a_long_deadline_is_capped() {
    on_each_data_plane(async |plane| {
        let cap = Duration::from_secs(60);
        let mut wires = Wires::start_with(plane, |config| config.calls.max_deadline = cap).await;
        let (_backend, _, fields) = wires.begin_with(&[("grpc-timeout", "99999999H")]).await;
        let left = parse_timeout(field(&fields, "grpc-timeout").unwrap().as_bytes()).unwrap();
        assert!(left <= cap, "{left:?}");
    });
}

#[test]
fn a_malformed_deadline_is_refused() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        for (stream, timeout) in (1..).step_by(2).zip(["1", "S", "123456789S", "-1S", "1s"]) {
            raw.send(&call(stream, &[("grpc-timeout", timeout)])).await.unwrap();
            let answer = raw.message(stream).await;
            assert_eq!(answer.grpc_status(), Some("13"), "{timeout}");
            assert!(answer.trailer("grpc-message").unwrap().contains("grpc-timeout"));
        }
        assert_eq!(lab.calls_started(), 0);
    });
}

/// The three points at which a deadline can find a response.
#[test]
fn a_deadline_ends_the_call_on_both_sides() {
    on_each_data_plane(async |plane| {
        for progress in ["before headers", "on a boundary", "inside a message"] {
            let mut wires = Wires::start(plane).await;
            let (mut backend, stream, _) = wires.begin_with(&[("grpc-timeout", "300m")]).await;
            match progress {
                "on a boundary" => {
                    let message = wire::data(stream, &wire::message(b"m"), false);
                    backend.send(&[response_head(stream), message].concat()).await.unwrap();
                }
                "inside a message" => {
                    let part = wire::data(stream, &wire::message(b"m")[..3], false);
                    backend.send(&[response_head(stream), part].concat()).await.unwrap();
                }
                _ => {}
            }
            let answer = wires.client.message(1).await;
            if progress == "inside a message" {
                assert_eq!(answer.end, Some(End::Reset(code::CANCEL)), "{progress}");
            } else {
                assert_eq!(answer.end, Some(End::Whole), "{progress}");
                assert_eq!(answer.grpc_status(), Some("4"), "{progress}");
                let heads = if progress == "before headers" { 1 } else { 2 };
                assert_eq!(answer.heads.len(), heads, "{progress}");
            }
            let reset = Seen::Reset { stream, code: code::CANCEL };
            assert_eq!(backend.next_on(stream).await, data_of_request(stream), "{progress}");
            assert_eq!(backend.next_on(stream).await, reset, "{progress}");
            wires.l7.await_metric("l7_calls_total", |calls| calls == 1.0).await;
            let deadline = wires.l7.metrics_text();
            assert!(deadline.contains("outcome=\"deadline\"} 1"), "{progress}: {deadline}");
        }
    });
}

fn data_of_request(stream: u32) -> Seen {
    Seen::Data { stream, payload: wire::message(&[]), ends: true }
}

#[test]
fn a_stalled_backend_is_met_by_status_4() {
    on_each_data_plane(async |plane| {
        let mut config = echo_backend::Config::new("slow");
        config.queue.service_time = "constant:1h".parse().unwrap();
        let lab = Lab::over(plane, vec![EchoBackend::start_with(config)], |_| {});
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        for stream in [1, 3, 5] {
            raw.send(&call(stream, &[("grpc-timeout", "50m")])).await.unwrap();
        }
        for stream in [1, 3, 5] {
            assert_eq!(raw.message(stream).await.grpc_status(), Some("4"));
        }
        await_that("the backend to be idle", || lab.calls_in_flight() == 0).await;
    });
}

#[test]
fn a_client_that_resets_is_heard_by_the_backend() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let (mut backend, stream, _) = wires.begin().await;
        assert_eq!(backend.next_on(stream).await, data_of_request(stream));
        wires.client.send(&wire::reset(1, code::CANCEL)).await.unwrap();
        assert_eq!(backend.next_on(stream).await, Seen::Reset { stream, code: code::CANCEL });
        // The connections on both sides are not harmed.
        wires.client.send(&open(3, &[])).await.unwrap();
        let (stream, _, _) = backend.next_headers().await;
        backend.send(&response_head(stream)).await.unwrap();
        assert!(matches!(wires.client.next_on(3).await, Seen::Headers { .. }));
        wires.client.send(&wire::reset(3, code::CANCEL)).await.unwrap();
        assert_eq!(backend.next_on(stream).await, Seen::Reset { stream, code: code::CANCEL });
    });
}

#[test]
fn a_client_that_goes_away_is_heard_by_the_backend() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let (mut backend, stream, _) = wires.begin().await;
        assert_eq!(backend.next_on(stream).await, data_of_request(stream));
        let Wires { client, server: _server, l7: _l7, .. } = wires;
        drop(client);
        assert_eq!(backend.next_on(stream).await, Seen::Reset { stream, code: code::CANCEL });
    });
}

#[test]
fn a_dropped_call_of_a_library_is_cancelled_at_the_backend() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let (sender, requests) = mpsc::channel(1);
        let responses = client.bidi(ReceiverStream::new(requests)).await.unwrap();
        let mut responses = responses.into_inner();
        sender.send(echo(1, vec![1])).await.unwrap();
        within("a response", responses.message()).await.unwrap().unwrap();
        let bidi = &lab.backends[0].counters().bidi;
        assert_eq!(bidi.in_flight.get(), 1);
        drop((responses, sender));
        await_that("the call to be cancelled", || bidi.in_flight.get() == 0).await;
        lab.l7.await_metric("l7_calls_total", |calls| calls == 1.0).await;
        client.unary(echo(2, vec![2])).await.unwrap();
    });
}

#[test]
fn a_backend_s_reset_reaches_the_client_with_its_code() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let mut next = 1;
        let (mut backend, mut stream, _) = wires.begin().await;
        for code in
            [code::INTERNAL_ERROR, code::CANCEL, code::ENHANCE_YOUR_CALM, code::STREAM_CLOSED]
        {
            for with_head in [false, true] {
                let mut bytes = if with_head { response_head(stream) } else { Vec::new() };
                bytes.extend(wire::reset(stream, code));
                backend.send(&bytes).await.unwrap();
                let answer = wires.client.message(next).await;
                assert_eq!(answer.end, Some(End::Reset(code)));
                // A head that a reset follows at once may be swallowed by it.
                assert!(answer.heads.len() <= usize::from(with_head));
                next += 2;
                wires.client.send(&call(next, &[])).await.unwrap();
                (stream, _, _) = backend.next_headers().await;
            }
        }
    });
}
