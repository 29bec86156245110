//! Backends and proxies that come and go while calls run: what was promised to
//! end without a lost call does.

use std::{
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use serve::{BindOptions, Shutdown, listen::bind_many};
use testkit::{
    await_that,
    lab::{EchoBackend, Lab, client, l4_config, l7_config, start_l4, start_l7},
    on_each_data_plane,
    peer::{Peer, Seen},
    process::Process,
    wire, within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::common::{Wires, call, echo, load::Load};

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

/// A rolling restart, three times over: each backend drains in turn and comes
/// back on its port.
#[test]
fn backends_that_drain_and_return_cost_no_call() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start(plane, 3);
        let load = Load::start(&lab.client().await, 16);
        load.advance(200).await;
        for round in 0..3 {
            for index in 0..lab.backends.len() {
                let addr = lab.backends[index].addr();
                lab.backends[index].server().trigger().drain();
                lab.backends[index].server_mut().ended().await;
                load.advance(100).await;
                let config = echo_backend::Config::new(format!("b{index} again {round}"));
                lab.backends[index] = EchoBackend::start_at(addr, config);
                let counters = lab.backends[index].counters().clone();
                await_that("the backend to serve again", || counters.started() > 0).await;
            }
        }
        let failures = load.stop().await;
        assert!(failures.is_empty(), "{} failed: {}", failures.len(), failures[0]);
    });
}

/// A backend that is killed, its sockets closed by the kernel: the calls in flight
/// on it fail, each with a status, and no other; the others have its share at
/// once, and it has its own again when it is back.
#[test]
fn a_backend_that_is_killed_costs_the_calls_it_has_and_no_other() {
    const WORKERS: usize = 16;
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start_with(plane, 3, |config| {
            config.upstream.backoff_max = Duration::from_millis(50);
        });
        let mut client = lab.client().await;
        let mut held = Vec::new();
        for _ in 0..6 {
            let (sender, requests) = mpsc::channel(1);
            let mut responses =
                client.bidi(ReceiverStream::new(requests)).await.unwrap().into_inner();
            sender.send(echo(0, vec![1])).await.unwrap();
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            held.push((response.backend == "b0", sender, responses));
        }
        assert_eq!(held.iter().filter(|(is_doomed, ..)| *is_doomed).count(), 2);
        for round in 0..3 {
            let load = Load::start(&client, WORKERS);
            load.advance(100).await;
            let addr = lab.backends[0].addr();
            drop(lab.backends.remove(0));
            load.advance(200).await;
            let failures = load.stop().await;
            // One call at a time of each worker can have been there.
            assert!(failures.len() <= WORKERS, "{} failed", failures.len());
            for status in failures {
                let is_proper = [Code::Unavailable, Code::Internal].contains(&status.code());
                assert!(is_proper, "{status}");
            }
            let started = |lab: &Lab| -> Vec<_> {
                lab.backends.iter().map(|backend| backend.counters().started()).collect()
            };
            let before = started(&lab);
            for sequence in 0..40 {
                client.unary(echo(sequence, vec![1])).await.unwrap();
            }
            let shares: Vec<_> =
                started(&lab).iter().zip(before).map(|(now, before)| now - before).collect();
            assert!(shares.iter().sum::<u64>() == 40 && shares.iter().all(|share| *share >= 10));
            let config = echo_backend::Config::new(format!("again {round}"));
            lab.backends.insert(0, EchoBackend::start_at(addr, config));
            let counters = lab.backends[0].counters().clone();
            within("it to serve again", async {
                while counters.started() == 0 {
                    client.unary(echo(0, vec![1])).await.unwrap();
                }
            })
            .await;
            let before = started(&lab);
            for sequence in 0..30 {
                client.unary(echo(sequence, vec![1])).await.unwrap();
            }
            let shares = started(&lab).into_iter().zip(before).map(|(now, before)| now - before);
            assert_eq!(shares.collect::<Vec<_>>(), [10; 3]);
        }
        for (is_doomed, sender, mut responses) in held {
            if is_doomed {
                let status = within("the call to fail", responses.message()).await.unwrap_err();
                assert_eq!(status.code(), Code::Unavailable, "{status}");
            } else {
                sender.send(echo(1, vec![1])).await.unwrap();
                within("a response", responses.message()).await.unwrap().unwrap();
                drop(sender);
                assert!(within("the end", responses.message()).await.unwrap().is_none());
            }
        }
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

/// The kernel has taken these connections and the proxy has not: closing a
/// listener would reset those in its queue.
#[test]
fn connections_that_wait_to_be_accepted_are_served_in_a_drain() {
    const CLIENTS: usize = 300;
    serve::limits::raise_open_files().unwrap();
    on_each_data_plane(async |plane| {
        for threads in [1, 3] {
            let backend = EchoBackend::start("b0");
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            let listeners = bind_many(any, threads, BindOptions::default()).unwrap();
            let addr = listeners[0].local_addr().unwrap();
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                let mut client = Peer::client(addr, &[]).await;
                client.send(&call(1, &[])).await.unwrap();
                clients.push(client);
            }
            let (trigger, shutdown) = Shutdown::channel();
            trigger.drain();
            let config = l7_config(plane, &[backend.addr()]);
            let proxy = tokio::spawn(l7_proxy::run(listeners, config, shutdown));
            for client in &mut clients {
                assert_eq!(client.message(1).await.grpc_status(), Some("0"));
                assert_eq!(client.closed().await, Some(0), "told by GOAWAY");
            }
            within("the drain", proxy).await.unwrap().unwrap();
        }
    });
}

/// A thread has connections of its own to the backends, so that these tell how many threads
/// are at work. The kernel alone gives four clients to four threads one time in ten.
#[tokio::test]
async fn few_connections_keep_every_thread_at_work() {
    const THREADS: usize = 4;
    let backend = EchoBackend::start("b0");
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listeners = bind_many(any, THREADS, BindOptions::default()).unwrap();
    let addr = listeners[0].local_addr().unwrap();
    let (trigger, shutdown) = Shutdown::channel();
    let config = l7_config(l7_proxy::DataPlane::Relay, &[backend.addr()]);
    let proxy = tokio::spawn(l7_proxy::run(listeners, config, shutdown));
    let mut clients = Vec::new();
    for sequence in 0..THREADS as u64 {
        let mut client = client(addr).await;
        client.unary(echo(sequence, Vec::new())).await.unwrap();
        clients.push(client);
    }
    let at_work = backend.server().metric("echo_connections_accepted_total");
    assert_eq!(at_work, THREADS as f64);
    trigger.terminate();
    within("the end", proxy).await.unwrap().unwrap();
}

/// A client that has connected and said nothing has nothing to lose.
#[test]
fn a_silent_client_keeps_no_proxy_that_drains() {
    on_each_data_plane(async |plane| {
        let mut lab = Lab::start_with(plane, 1, |config| {
            config.downstream.handshake_timeout = Duration::from_secs(3_600);
        });
        let _silent = Peer::silent_client(lab.l7.addr()).await;
        lab.l7.await_metric("l7_connections_open", |open| open == 1.0).await;
        lab.l7.trigger().drain();
        within("the drain", lab.l7.ended()).await;
    });
}

/// One from the accept queue may not have been able to speak before.
#[test]
fn a_client_that_speaks_after_the_drain_began_is_told_to_go() {
    on_each_data_plane(async |plane| {
        loop {
            let lab = Lab::start(plane, 1);
            let addr = lab.l7.addr();
            let mut client = Peer::silent_client(addr).await;
            lab.l7.await_metric("l7_connections_open", |open| open == 1.0).await;
            let begun = Instant::now();
            lab.l7.trigger().drain();
            await_that("the listener is closed", || TcpStream::connect(addr).is_err()).await;
            let spoken = client.send(&[wire::PREFACE, &wire::settings(&[])].concat()).await;
            // Where this test was held up, the client was late, and is no case.
            if begun.elapsed() < Duration::from_millis(500) {
                spoken.unwrap();
                let is_go_away = |seen: &Seen| matches!(seen, Seen::GoAway { .. });
                let seen = client.next_that("GOAWAY", is_go_away).await;
                assert!(is_go_away(&seen), "{seen:?}");
                return;
            }
        }
    });
}

/// A channel of grpc-core loses the call that waits for a connection which says GOAWAY at once.
#[test]
fn a_new_client_makes_its_first_call_before_it_is_told_to_go() {
    on_each_data_plane(async |plane| {
        loop {
            let lab = Lab::start(plane, 1);
            let addr = lab.l7.addr();
            let begun = Instant::now();
            let mut client = Peer::client(addr, &[]).await;
            client.round_trip().await;
            lab.l7.trigger().drain();
            await_that("the listener is closed", || TcpStream::connect(addr).is_err()).await;
            client.round_trip().await;
            let is_go_away = |seen: &Seen| matches!(seen, Seen::GoAway { .. });
            let is_told = client.passed_over().any(is_go_away);
            let sent = client.send(&call(1, &[])).await;
            // Where this test was held up, the client was late, and is no case.
            if begun.elapsed() < Duration::from_millis(500) {
                assert!(!is_told);
                sent.unwrap();
                assert_eq!(client.message(1).await.grpc_status(), Some("0"));
                assert_eq!(client.closed().await, Some(0), "told by GOAWAY");
                return;
            }
        }
    });
}

/// A backend that owes a response and answers no PING any more.
#[test]
fn a_backend_that_freezes_is_given_up() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start_with(plane, |config| {
            config.upstream.backend_keepalive_interval = Duration::from_millis(100);
            config.upstream.backend_keepalive_timeout = Duration::from_millis(100);
        })
        .await;
        let (mut backend, _, _) = wires.begin().await;
        backend.is_polite = false;
        assert_eq!(wires.client.message(1).await.grpc_status(), Some("14"));
        backend.closed().await;
    });
}

#[test]
fn a_hangup_without_a_file_to_read_again_ends_nothing() {
    on_each_data_plane(async |plane| {
        let backend = EchoBackend::start("b0");
        let name = plane.to_possible_value().unwrap().get_name().to_owned();
        let args = ["--threads=1", "--data-plane", &name, "--backend", &backend.addr().to_string()]
            .map(str::to_owned);
        let proxy = Process::start(env!("CARGO_BIN_EXE_l7-proxy"), &args);
        let mut client = client(proxy.addr()).await;
        for sequence in 0..3 {
            within("a call", client.unary(echo(sequence, vec![1]))).await.unwrap();
            proxy.hang_up();
        }
        within("a call", client.unary(echo(3, vec![1]))).await.unwrap();
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
