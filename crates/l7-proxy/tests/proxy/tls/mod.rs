//! TLS on both sides, over both data planes: calls that pass, peers that are
//! turned away, and files that change.

mod ends;

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use ends::{Front, client_config, server_config, shake};
use l7_proxy::{Config, DataPlane};
use serve::{
    admin::BackendState,
    health::{HealthCheck, HealthConfig},
};
use testkit::{
    await_that,
    certs::{Authority, Pair},
    lab::{EchoBackend, Server, client, l7_config, start_l7, start_l7_fleet},
    on_each_data_plane,
    peer::{Message, Peer},
    within,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{call, echo};

/// The flags that make a proxy speak TLS to clients.
fn to_clients(config: &mut Config, pair: &Pair) {
    config.tls.tls_cert = Some(pair.cert.clone());
    config.tls.tls_key = Some(pair.key.clone());
}

/// A proxy with TLS on its clients' side, over a backend in plain text.
fn front_proxy(
    plane: DataPlane,
    backend: &EchoBackend,
    pair: &Pair,
    change: impl FnOnce(&mut Config),
) -> Server {
    let mut config = l7_config(plane, &[backend.addr()]);
    to_clients(&mut config, pair);
    change(&mut config);
    start_l7(config)
}

/// The answer to a call through a proxy whose backend is at `backend`.
async fn answer_over(
    plane: DataPlane,
    backend: SocketAddr,
    change: impl FnOnce(&mut Config),
) -> (Message, Server) {
    let mut config = l7_config(plane, &[backend]);
    change(&mut config);
    let l7 = start_l7(config);
    let mut raw = Peer::client(l7.addr(), &[]).await;
    raw.send(&call(1, &[])).await.unwrap();
    let answer = raw.message(1).await;
    (answer, l7)
}

#[test]
fn calls_pass_under_tls_on_both_sides() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let (ours, theirs) = (authority.sign("proxy"), authority.sign("backend"));
        let backend = EchoBackend::start("b");
        let front = Front::out_of_tls(backend.addr(), server_config(&theirs, &["h2"], None)).await;
        let mut config = l7_config(plane, &[front.addr()]);
        to_clients(&mut config, &ours);
        config.tls.backend_tls_ca = Some(authority.ca());
        let l7 = start_l7(config);
        let tunnel =
            Front::into_tls(l7.addr(), client_config(&authority.ca(), &["h2"], None)).await;
        let mut calls = client(tunnel.addr()).await;
        for (sequence, bytes) in [0, 1, 1_000, 20_000, 3 << 20].into_iter().enumerate() {
            let request = echo(sequence as u64, vec![sequence as u8; bytes]);
            let response = within("a call", calls.unary(request)).await.unwrap().into_inner();
            assert_eq!(response.payload.len(), bytes);
        }
        let many: Vec<_> = (0..200).map(|sequence| echo(sequence, vec![3; 2_000])).collect();
        let responses = calls.bidi(tokio_stream::iter(many)).await.unwrap();
        let mut responses = responses.into_inner();
        for sequence in 0..200 {
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            assert_eq!(response.sequence, sequence);
        }
        for side in ["client", "backend"] {
            let series = format!("l7_tls_handshakes_total{{side=\"{side}\",result=\"ok\"}}");
            let other = format!("l7_tls_handshakes_total{{result=\"ok\",side=\"{side}\"}}");
            let count = l7.metric(&series) + l7.metric(&other);
            assert_eq!(count, 1.0, "{}", l7.metrics_text());
        }
    });
}

#[test]
fn many_clients_at_once_are_served() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let backend = EchoBackend::start("b");
        let l7 = front_proxy(plane, &backend, &authority.sign("proxy"), |_| {});
        let config = client_config(&authority.ca(), &["h2"], None);
        let tunnel = Front::into_tls(l7.addr(), config).await;
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..20 {
            let addr = tunnel.addr();
            clients.spawn(async move {
                let mut calls = client(addr).await;
                for sequence in 0..20 {
                    let request = echo(sequence, vec![number; 5_000]);
                    within("a call", calls.unary(request)).await.unwrap();
                }
            });
        }
        while let Some(result) = clients.join_next().await {
            result.unwrap();
        }
    });
}

/// What a backend's certificate can be wrong in; the call says which.
#[test]
fn backends_that_cannot_be_trusted_are_unavailable() {
    on_each_data_plane(async |plane| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let backend = EchoBackend::start("b");
        let cases = [
            ("invalid peer certificate", server_config(&stranger.sign("b"), &["h2"], None), None),
            ("xpired", server_config(&authority.sign_expired("old"), &["h2"], None), None),
            (
                "NotValidForName",
                server_config(&authority.sign("b"), &["h2"], None),
                Some("other.example"),
            ),
            ("ALPN", server_config(&authority.sign("b"), &[], None), None),
        ];
        for (what, config, name) in cases {
            let front = Front::out_of_tls(backend.addr(), config).await;
            let (answer, l7) = answer_over(plane, front.addr(), |config| {
                config.tls.backend_tls_ca = Some(authority.ca());
                config.tls.backend_tls_name = name.map(str::to_owned);
            })
            .await;
            assert_eq!(answer.grpc_status(), Some("14"), "{what}");
            let message = answer.trailer("grpc-message").unwrap();
            let is_named = message.contains(what)
                || what == "NotValidForName" && message.contains("not valid for");
            assert!(is_named, "{what}: {message}");
            assert!(l7.metrics_text().contains("failed"), "{}", l7.metrics_text());
        }
        assert_eq!(backend.counters().started(), 0);
    });
}

#[test]
fn a_backend_without_tls_is_unavailable() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let backend = EchoBackend::start("b");
        let (answer, _l7) = answer_over(plane, backend.addr(), |config| {
            config.tls.backend_tls_ca = Some(authority.ca());
        })
        .await;
        assert_eq!(answer.grpc_status(), Some("14"));
    });
}

/// Reads to the end of a connection that the proxy ends.
async fn ends(mut stream: impl tokio::io::AsyncRead + Unpin) {
    within("the end", async {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
}

#[test]
fn clients_without_tls_or_without_http2_are_turned_away() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let backend = EchoBackend::start("b");
        let l7 = front_proxy(plane, &backend, &authority.sign("proxy"), |_| {});
        let failed = || {
            let text = l7.metrics_text();
            let of_clients = text.lines().filter(|line| {
                line.starts_with("l7_tls_handshakes_total")
                    && line.contains("client")
                    && line.contains("failed")
            });
            of_clients
                .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
                .sum::<u32>()
        };
        // HTTP/2 with prior knowledge.
        let mut plain = Peer::client(l7.addr(), &[]).await;
        let _ = plain.send(&call(1, &[])).await;
        plain.closed().await;
        await_that("one to be counted", || failed() == 1).await;
        // TLS, and no word of HTTP/2.
        match shake(l7.addr(), client_config(&authority.ca(), &[], None)).await {
            Ok(stream) => ends(stream).await,
            Err(error) => panic!("TLS itself is fine: {error}"),
        }
        await_that("two to be counted", || failed() == 2).await;
        // TLS for another protocol: TLS itself refuses (RFC 7301, section 3.2).
        let other = shake(l7.addr(), client_config(&authority.ca(), &["http/1.1"], None)).await;
        if let Ok(stream) = other {
            ends(stream).await;
        }
        await_that("three to be counted", || failed() == 3).await;
        // Others are served.
        let config = client_config(&authority.ca(), &["h2"], None);
        let tunnel = Front::into_tls(l7.addr(), config).await;
        client(tunnel.addr()).await.unary(echo(1, vec![1])).await.unwrap();
    });
}

#[test]
fn a_slow_handshake_is_ended() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let backend = EchoBackend::start("b");
        let l7 = front_proxy(plane, &backend, &authority.sign("proxy"), |config| {
            config.downstream.handshake_timeout = Duration::from_millis(100);
        });
        let silent = tokio::net::TcpStream::connect(l7.addr()).await.unwrap();
        let mut halfway = tokio::net::TcpStream::connect(l7.addr()).await.unwrap();
        // The head of a record that does not come whole.
        halfway.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        ends(silent).await;
        ends(halfway).await;
        let series = "l7_connections_ended_total{reason=\"handshake_timeout\"}";
        l7.await_metric(series, |count| count == 2.0).await;
    });
}

#[test]
fn certificates_are_asked_for_and_shown() {
    on_each_data_plane(async |plane| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let known = authority.sign("client");
        let backend = EchoBackend::start("b");
        // Asked for at the backend: the proxy shows its own.
        let theirs = server_config(&authority.sign("backend"), &["h2"], Some(&authority.ca()));
        let front = Front::out_of_tls(backend.addr(), theirs).await;
        let without = answer_over(plane, front.addr(), |config| {
            config.tls.backend_tls_ca = Some(authority.ca());
        });
        assert_eq!(without.await.0.grpc_status(), Some("14"));
        let mut config = l7_config(plane, &[front.addr()]);
        to_clients(&mut config, &authority.sign("proxy"));
        config.tls.tls_client_ca = Some(authority.ca());
        config.tls.backend_tls_ca = Some(authority.ca());
        config.tls.backend_tls_cert = Some(known.cert.clone());
        config.tls.backend_tls_key = Some(known.key.clone());
        let l7 = start_l7(config);
        // Asked for at the proxy: of its clients, only those that it knows.
        let strange = stranger.sign("client");
        for pair in [None, Some(&strange)] {
            let config = client_config(&authority.ca(), &["h2"], pair);
            // In TLS 1.3 a client learns of it with its first read.
            if let Ok(stream) = shake(l7.addr(), config).await {
                ends(stream).await;
            }
        }
        assert_eq!(backend.counters().started(), 0);
        let config = client_config(&authority.ca(), &["h2"], Some(&known));
        let tunnel = Front::into_tls(l7.addr(), config).await;
        client(tunnel.addr()).await.unary(echo(1, vec![1])).await.unwrap();
    });
}

#[test]
fn changed_files_are_taken_over_and_broken_ones_are_not() {
    on_each_data_plane(async |plane| {
        let (old, new) = (Authority::new(), Authority::new());
        let pair = old.sign("proxy");
        let backend = EchoBackend::start("b");
        let l7 = front_proxy(plane, &backend, &pair, |config| {
            config.tls.tls_reload_interval = Duration::from_millis(10);
        });
        let tunnel = Front::into_tls(l7.addr(), client_config(&old.ca(), &["h2"], None)).await;
        let mut before = client(tunnel.addr()).await;
        before.unary(echo(1, vec![1])).await.unwrap();
        // Half of a change is no change.
        let next = new.sign("proxy");
        std::fs::write(&pair.cert, "nothing of use").unwrap();
        l7.await_metric("l7_tls_reloads_total{result=\"failed\"}", |count| count >= 1.0).await;
        shake(l7.addr(), client_config(&old.ca(), &["h2"], None)).await.unwrap();
        for (from, to) in [(&next.key, &pair.key), (&next.cert, &pair.cert)] {
            std::fs::rename(from, to).unwrap();
        }
        l7.await_metric("l7_tls_reloads_total{result=\"ok\"}", |count| count >= 1.0).await;
        shake(l7.addr(), client_config(&new.ca(), &["h2"], None)).await.unwrap();
        shake(l7.addr(), client_config(&old.ca(), &["h2"], None)).await.unwrap_err();
        // Connections that there were go on.
        before.unary(echo(2, vec![1])).await.unwrap();
    });
}

/// A drain under TLS: GOAWAY, the end of what runs, and a proxy that ends.
#[test]
fn a_drain_loses_nothing() {
    on_each_data_plane(async |plane| {
        let authority = Authority::new();
        let backend = EchoBackend::start("b");
        let mut l7 = front_proxy(plane, &backend, &authority.sign("proxy"), |_| {});
        let config = client_config(&authority.ca(), &["h2"], None);
        let tunnel = Front::into_tls(l7.addr(), config).await;
        let mut raw = Peer::client(tunnel.addr(), &[]).await;
        raw.send(&crate::common::open(1, &[])).await.unwrap();
        raw.round_trip().await;
        l7.trigger().drain();
        raw.next_that("GOAWAY", |seen| matches!(seen, testkit::peer::Seen::GoAway { .. })).await;
        raw.send(&testkit::wire::data(1, &testkit::wire::message(&[]), true)).await.unwrap();
        assert_eq!(raw.message(1).await.grpc_status(), Some("0"));
        drop(raw);
        l7.ended().await;
    });
}

/// gRPC's health check speaks as calls do: a backend that can be trusted and serves
/// is well, one with a stranger's certificate is not.
#[test]
fn health_is_asked_under_tls() {
    on_each_data_plane(async |plane| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let backend = EchoBackend::start("b");
        let trusted = server_config(&authority.sign("backend"), &["h2"], None);
        let trusted = Front::out_of_tls(backend.addr(), trusted).await;
        let strange = server_config(&stranger.sign("backend"), &["h2"], None);
        let strange = Front::out_of_tls(backend.addr(), strange).await;
        let mut config = l7_config(plane, &[trusted.addr(), strange.addr()]);
        config.tls.backend_tls_ca = Some(authority.ca());
        config.health = Some(HealthConfig {
            timeout: Duration::from_secs(5),
            fall: NonZeroU32::MIN,
            ..HealthConfig::every(Duration::from_millis(5), HealthCheck::Grpc)
        });
        let (l7, fleet) = start_l7_fleet(config);
        await_that("the stranger to be taken out", || {
            fleet.list()[1].state == BackendState::Unhealthy
        })
        .await;
        // The other has been asked as often, and has answered.
        let of_trusted = format!(
            "l7_backend_health_checks_total{{backend=\"{}\",result=\"passed\"}}",
            trusted.addr()
        );
        l7.await_metric(&of_trusted, |checks| checks >= 2.0).await;
        assert_eq!(fleet.list()[0].state, BackendState::Active);
        let mut raw = Peer::client(l7.addr(), &[]).await;
        for call in 0..4 {
            let stream = 2 * call + 1;
            raw.send(&crate::common::call(stream, &[])).await.unwrap();
            assert_eq!(raw.message(stream).await.grpc_status(), Some("0"));
        }
    });
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let pair = authority.sign("proxy");
    let other = authority.sign("other");
    let missing = authority.ca().with_file_name("missing.pem");
    type Change<'a> = Box<dyn Fn(&mut l7_proxy::tls::TlsArgs) + 'a>;
    let cases: [(&str, Change<'_>); 4] = [
        ("--tls-cert", Box::new(|args| args.tls_cert = Some(missing.clone()))),
        ("--tls-cert", Box::new(|args| args.tls_key = Some(other.key.clone()))),
        ("--tls-client-ca", Box::new(|args| args.tls_client_ca = Some(pair.key.clone()))),
        ("--backend-tls-name", Box::new(|args| args.backend_tls_name = Some("a b".to_owned()))),
    ];
    for (flag, change) in cases {
        let mut args = l7_proxy::tls::TlsArgs {
            tls_cert: Some(pair.cert.clone()),
            tls_key: Some(pair.key.clone()),
            ..Default::default()
        };
        assert!(l7_proxy::tls::Tls::load(&args).is_ok());
        change(&mut args);
        let error = l7_proxy::tls::Tls::load(&args).unwrap_err().to_string();
        assert!(error.contains(flag), "{error}");
    }
}
