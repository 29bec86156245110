//! Backends and proxies that come and go while calls run: what was promised to
//! end without a lost call does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::echo;
use common::load::Load;
use testkit::lab::{EchoBackend, Lab, client, l4_config, l7_config, start_l4, start_l7};
use testkit::{await_that, on_each_data_plane, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

#[test]
fn a_backend_that_is_killed_and_started_again_serves_again() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        for round in 0..3 {
            client.unary(echo(round, vec![1])).await.unwrap();
            let addr = lab.backends[0].addr();
            lab.backends.clear();
            let status = client.unary(echo(round, vec![1])).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            lab.backends.push(EchoBackend::start_at(addr, echo_backend::Config::new("again")));
            // The proxy rests a little after connecting failed.
            within("the backend to be back", async {
                while client.unary(echo(round, vec![1])).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    });
}

/// The other backends take the calls of one that is gone: connecting to it
/// fails, which is safe to try elsewhere.
#[test]
fn a_backend_that_is_gone_costs_no_new_call() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 3);
        let mut client = lab.client().await;
        for sequence in 0..6 {
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        drop(lab.backends.remove(0));
        // The proxy has seen the connection's end before calls are made, so
        // that none of them can be on it.
        lab.l7.await_metric("l7_backend_connections_open", |open| open == 2.0).await;
        for sequence in 0..30 {
            client.unary(echo(sequence, vec![1])).await.unwrap();
        }
        assert_eq!(lab.calls_started(), 4 + 30);
    });
}

#[test]
fn connections_that_backends_end_for_their_age_cost_no_call() {
    on_each_data_plane(async |plane| {
        let backends = (0..2).map(|index| {
            let mut config = echo_backend::Config::new(format!("b{index}"));
            config.connections.max_connection_age = Some(Duration::from_millis(30));
            config.connections.max_connection_age_grace = Duration::from_secs(20);
            EchoBackend::start_with(config)
        });
        let lab = Lab::over(plane, backends.collect(), |_| {});
        let load = Load::start(&lab.client().await, 16);
        let aged = || lab.backends.iter().map(|backend| backend.counters().aged.get()).sum::<u64>();
        await_that("twenty connections to age", || aged() >= 20).await;
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
    });
}

/// A rolling restart: each backend drains in turn and comes back on its port.
#[test]
fn backends_that_drain_and_return_cost_no_call() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 3);
        let load = Load::start(&lab.client().await, 16);
        load.advance(200).await;
        for index in 0..lab.backends.len() {
            let addr = lab.backends[index].addr();
            lab.backends[index].server().trigger().drain();
            lab.backends[index].server_mut().ended().await;
            load.advance(100).await;
            let config = echo_backend::Config::new(format!("b{index} again"));
            lab.backends[index] = EchoBackend::start_at(addr, config);
            let counters = lab.backends[index].counters().clone();
            await_that("the backend to serve again", || counters.started() > 0).await;
        }
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
    });
}

/// The proxy drains while another one takes over its address, as in a rolling
/// restart of proxies. The client's connection is told to go elsewhere, and
/// the client makes a new one.
#[test]
fn a_proxy_that_drains_costs_no_call() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 2);
        let addrs: Vec<_> = lab.backends.iter().map(EchoBackend::addr).collect();
        let heir = start_l7(l7_config(plane, &addrs));
        let l4 = start_l4(l4_config(&[lab.l7.addr(), heir.addr()]));
        let client = client(l4.addr()).await;
        let load = Load::start(&client, 16);
        load.advance(200).await;
        // The L4 proxy gives the connection to whichever of the two it likes, and
        // to the other one when connecting is refused.
        let first_has_it = lab.l7.metric("l7_connections_open") == 1.0;
        let mut heir = heir;
        let (leaving, staying) =
            if first_has_it { (&mut lab.l7, &heir) } else { (&mut heir, &lab.l7) };
        leaving.trigger().drain();
        leaving.ended().await;
        load.advance(200).await;
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
        assert_eq!(staying.metric("l7_connections_open"), 1.0);
    });
}

#[test]
fn a_draining_proxy_finishes_the_streams_it_has() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let (sender, requests) = mpsc::channel(1);
        let mut responses = client.bidi(ReceiverStream::new(requests)).await.unwrap().into_inner();
        sender.send(echo(0, vec![1])).await.unwrap();
        within("a response", responses.message()).await.unwrap().unwrap();
        lab.l7.trigger().drain();
        for sequence in 1..20 {
            sender.send(echo(sequence, vec![1])).await.unwrap();
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            assert_eq!(response.sequence, sequence);
        }
        assert!(lab.l7.is_running());
        drop(sender);
        assert!(within("the end", responses.message()).await.unwrap().is_none());
        within("the drain", lab.l7.ended()).await;
    });
}

#[test]
fn a_drain_is_over_when_it_is_terminated() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let (sender, requests) = mpsc::channel(1);
        let mut responses = client.bidi(ReceiverStream::new(requests)).await.unwrap().into_inner();
        sender.send(echo(0, vec![1])).await.unwrap();
        within("a response", responses.message()).await.unwrap().unwrap();
        lab.l7.trigger().drain();
        lab.l7.trigger().terminate();
        within("the end", lab.l7.ended()).await;
        within("the call to fail", responses.message()).await.unwrap_err();
        await_that("the backend to be rid of it", || lab.calls_in_flight() == 0).await;
    });
}
