//! The backend under TLS: calls that pass, clients that are turned away, and
//! handshakes that don't come to an end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use echo_backend::Config;
use serve::tls::{ClientSide, Named, client_config, connect, server_config, server_name};
use testkit::{await_that, certs::Authority, lab::EchoBackend, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// More than a client may send before its handshake is over, several times.
const FLOOD_BYTES: usize = 16 << 20;

fn config(authority: &Authority) -> Config {
    let pair = authority.sign("backend");
    let named = |path| Named { flag: "--tls-cert", path };
    let server = server_config(named(&pair.cert), named(&pair.key), None).unwrap();
    Config { tls: Some(Arc::new(server)), ..Config::new("b") }
}

fn side(ca: &Path) -> ClientSide {
    let config = client_config(Named { flag: "--ca", path: ca }, None).unwrap();
    (Arc::new(config), server_name("--name", "localhost").unwrap())
}

async fn is_serving(addr: SocketAddr, ca: &Path) -> std::io::Result<bool> {
    let asked = serve::grpc_health::is_serving(addr, "", Some(side(ca)));
    within("an answer", asked).await
}

/// A call is one of gRPC's health checks: they are served as all others are.
#[tokio::test]
async fn calls_pass_and_strangers_are_told_apart() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let backend = EchoBackend::start_with(config(&authority));
    assert!(is_serving(backend.addr(), &authority.ca()).await.unwrap());
    assert_eq!(backend.counters().handshakes_ok.get(), 1);
    // The client does not trust it, and says so.
    is_serving(backend.addr(), &stranger.ca()).await.unwrap_err();
    // No TLS; and TLS without HTTP/2.
    let clear = serve::grpc_health::is_serving(backend.addr(), "", None);
    within("a refusal", clear).await.unwrap_err();
    let (client, name) = side(&authority.ca());
    let mut client = (*client).clone();
    client.alpn_protocols.clear();
    let stream = TcpStream::connect(backend.addr()).await.unwrap();
    let shaken = within("a handshake", connect(stream, (Arc::new(client), name))).await;
    assert!(shaken.unwrap_err().to_string().contains("ALPN"));
    let failed = || backend.counters().handshakes_failed.get();
    await_that("three refusals to be counted", || failed() == 3).await;
    assert!(is_serving(backend.addr(), &authority.ca()).await.unwrap());
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    let authority = Authority::new();
    let mut config = config(&authority);
    config.connections.tls_handshake_timeout = Duration::from_millis(50);
    let backend = EchoBackend::start_with(config);
    let mut halfway = TcpStream::connect(backend.addr()).await.unwrap();
    // The head of a record that does not come whole.
    halfway.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut rest = Vec::new();
    within("the end", halfway.read_to_end(&mut rest)).await.unwrap();
    let failed = || backend.counters().handshakes_failed.get();
    await_that("it to be counted", || failed() == 1).await;
    assert!(is_serving(backend.addr(), &authority.ca()).await.unwrap());
}

/// A ClientHello that claims 16 MiB and keeps coming: it is refused long before it
/// is all there.
#[tokio::test]
async fn a_handshake_without_end_is_not_gathered() {
    let authority = Authority::new();
    let mut config = config(&authority);
    config.connections.tls_handshake_timeout = Duration::from_secs(3_600);
    let backend = EchoBackend::start_with(config);
    let mut stream = TcpStream::connect(backend.addr()).await.unwrap();
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let mut sent = 0;
    let ended = async {
        while sent < FLOOD_BYTES {
            if stream.write_all(&record).await.is_err() {
                break;
            }
            sent += record.len();
        }
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut rest).await;
    };
    within("the end", ended).await;
    let failed = || backend.counters().handshakes_failed.get();
    await_that("it to be counted", || failed() == 1).await;
    assert!(is_serving(backend.addr(), &authority.ca()).await.unwrap());
}
