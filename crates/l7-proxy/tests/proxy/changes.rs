//! Backends that come, drain and go while the proxy runs and calls are made.

use std::num::NonZeroU32;

use serve::admin::{BackendSpec, BackendState, ChangeError};
use testkit::{
    await_that,
    lab::{EchoBackend, Lab},
    negative::ok_response,
    on_each_data_plane,
    peer::{Peer, RawServer, Seen},
    wire::{self, code},
    within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::common::{Wires, call, echo, load::Load, open};

fn spec(backend: &EchoBackend) -> BackendSpec {
    BackendSpec::new(backend.addr())
}

/// As a deployment does it: a new backend comes, an old one is drained, and
/// when it has nothing left it is removed and ended. Whole generations of
/// backends come and go, and no call fails.
#[test]
fn backends_are_replaced_under_load_without_a_failed_call() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 2);
        let load = Load::start(&lab.client().await, 16);
        load.advance(100).await;
        for generation in 0..6 {
            let new = EchoBackend::start(&format!("new{generation}"));
            lab.fleet.add(spec(&new)).unwrap();
            await_that("the new one to serve", || new.counters().started() > 0).await;
            let old = lab.backends.remove(0);
            lab.fleet.set_draining(old.addr(), true).unwrap();
            let state = |field: fn(&serve::admin::BackendStatus) -> u32| {
                let mut list = lab.fleet.list().into_iter();
                list.find(|one| one.spec.address == old.addr()).map(|one| field(&one))
            };
            await_that("its calls to end", || state(|one| one.in_flight) == Some(0)).await;
            await_that("its connections to end", || {
                state(|one| one.connections.unwrap()) == Some(0)
            })
            .await;
            let served = old.counters().started();
            load.advance(50).await;
            assert_eq!(old.counters().started(), served, "a drained backend gets no more");
            lab.fleet.remove(old.addr()).unwrap();
            drop(old);
            load.advance(50).await;
            lab.backends.push(new);
        }
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
        let (shown, there) = (lab.l7.metric("l7_backend_available"), lab.backends.len());
        assert_eq!(shown, there as f64, "who left is in no metric");
    });
}

/// A removal without a drain before it: the calls of that moment finish where
/// they are.
#[test]
fn a_backend_that_is_removed_under_load_costs_no_call() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 3);
        let load = Load::start(&lab.client().await, 16);
        for _ in 0..20 {
            load.advance(30).await;
            lab.fleet.remove(lab.backends[0].addr()).unwrap();
            load.advance(30).await;
            lab.fleet.add(spec(&lab.backends[0])).unwrap();
        }
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
    });
}

#[test]
fn a_stream_outlives_the_removal_of_its_backend_and_then_its_connection_ends() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let (sender, requests) = mpsc::channel(1);
        let mut responses = client.bidi(ReceiverStream::new(requests)).await.unwrap().into_inner();
        sender.send(echo(0, vec![1])).await.unwrap();
        within("a response", responses.message()).await.unwrap().unwrap();
        let other = EchoBackend::start("other");
        lab.fleet.add(spec(&other)).unwrap();
        lab.fleet.remove(lab.backends[0].addr()).unwrap();
        for sequence in 1..10 {
            let answer = client.unary(echo(sequence, vec![1])).await.unwrap().into_inner();
            assert_eq!(answer.backend, "other");
            sender.send(echo(sequence, vec![1])).await.unwrap();
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            assert_eq!(response.backend, "b0");
        }
        drop(sender);
        assert!(within("the end", responses.message()).await.unwrap().is_none());
        let old = lab.backends[0].server();
        // The data planes look after the connection with the next call or tick.
        within("the connection to end", async {
            while old.metric("echo_connections_open") > 0.0 {
                client.unary(echo(0, vec![1])).await.unwrap();
            }
        })
        .await;
    });
}

#[test]
fn a_drained_backend_returns_and_weights_are_followed() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 2);
        let mut client = lab.client().await;
        let started = |index: usize| lab.backends[index].counters().started();
        let first = lab.backends[0].addr();
        lab.fleet.set_draining(first, true).unwrap();
        assert_eq!(lab.fleet.list()[0].state, BackendState::Draining);
        for sequence in 0..10 {
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        assert_eq!((started(0), started(1)), (0, 10));
        lab.fleet.set_draining(first, false).unwrap();
        lab.fleet.set_weight(first, NonZeroU32::new(3).unwrap()).unwrap();
        for sequence in 0..40 {
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        assert_eq!((started(0), started(1)), (30, 20));
        lab.fleet.set_draining(first, true).unwrap();
        lab.fleet.set_draining(lab.backends[1].addr(), true).unwrap();
        let status = client.unary(echo(0, vec![1])).await.unwrap_err();
        assert!(status.message().contains("no backend"), "{status}");
    });
}

/// Calls of each backend since it was asked before.
fn shares(lab: &Lab, before: &mut Vec<u64>) -> Vec<u64> {
    let now: Vec<_> = lab.backends.iter().map(|backend| backend.counters().started()).collect();
    let before = std::mem::replace(before, now.clone());
    now.iter()
        .zip(before.iter().chain(std::iter::repeat(&0)))
        .map(|(now, then)| now - then)
        .collect()
}

/// The same list and the same weight written before each call, and one backend
/// that comes and goes: the turn is not begun anew.
#[test]
fn a_change_carries_the_turn_over_and_no_change_is_none() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 4);
        let mut client = lab.client().await;
        let specs: Vec<_> = lab.backends.iter().map(spec).collect();
        let mut before = Vec::new();
        for sequence in 0..40 {
            lab.fleet.replace(&specs).unwrap();
            lab.fleet.set_weight(lab.backends[0].addr(), NonZeroU32::MIN).unwrap();
            lab.fleet.set_draining(lab.backends[1].addr(), false).unwrap();
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        assert_eq!(shares(&lab, &mut before), [10; 4]);
        for sequence in 0..40 {
            lab.fleet.replace(&specs[..3 + sequence as usize % 2]).unwrap();
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        let shares = shares(&lab, &mut before);
        let (least, most) = (shares[..3].iter().min(), shares[..3].iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{shares:?}");
    });
}

/// What an operator sees of a backend is what it has.
#[test]
fn the_view_of_a_backend_is_live() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let fresh = &wires.fleet.list()[0];
        assert_eq!((fresh.in_flight, fresh.total, fresh.connections), (0, 0, Some(0)));
        assert_eq!(fresh.latency_ewma_us, None);
        let (mut backend, stream, _) = wires.begin().await;
        let busy = &wires.fleet.list()[0];
        assert_eq!((busy.in_flight, busy.connections), (1, Some(1)));
        assert_eq!(wires.l7.metric("l7_backend_calls_in_flight"), 1.0);
        backend.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"));
        let fleet = &wires.fleet;
        await_that("the call to be counted", || fleet.list()[0].total == 1).await;
        let idle = &wires.fleet.list()[0];
        assert_eq!((idle.in_flight, idle.failures), (0, 0));
        assert!(idle.latency_ewma_us.unwrap() > 0.0);
        assert!(wires.l7.metric("l7_backend_latency_ewma_seconds") > 0.0);
        // One that breaks is counted as its failure.
        wires.client.send(&open(3, &[])).await.unwrap();
        backend.next_headers().await;
        drop(backend);
        assert_eq!(wires.client.message(3).await.grpc_status(), Some("14"));
        await_that("the failure to be counted", || fleet.list()[0].failures == 1).await;
        await_that("its connection to be gone", || fleet.list()[0].connections == Some(0)).await;
    });
}

/// A call that one backend refused is offered to each of the backends there are
/// by then: those of before are no longer counted as tried.
#[test]
fn a_retry_knows_the_backends_of_now() {
    on_each_data_plane(async |plane| {
        let (old, new) = (RawServer::start().await, RawServer::start().await);
        let mut wires = Wires::start(plane).await;
        let fleet = &wires.fleet;
        fleet.add(BackendSpec::new(old.addr())).unwrap();
        fleet.remove(wires.server.addr()).unwrap();
        wires.client.send(&call(1, &[])).await.unwrap();
        let mut peer: Peer = old.accept(&[]).await;
        let (stream, _, _) = peer.next_headers().await;
        fleet.add(BackendSpec::new(new.addr())).unwrap();
        fleet.remove(old.addr()).unwrap();
        assert_eq!(fleet.remove(new.addr()), Err(ChangeError::Last));
        peer.send(&wire::reset(stream, code::REFUSED_STREAM)).await.unwrap();
        let mut peer = new.accept(&[]).await;
        let (stream, _, _) = peer.next_headers().await;
        let request = peer.next_on(stream).await;
        assert!(matches!(request, Seen::Data { ends: true, .. }), "{request:?}");
        peer.send(&ok_response(stream)).await.unwrap();
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("0"));
    });
}
