//! The endpoint against good, bad and hostile requests.

use std::net::SocketAddr;

use proptest::prelude::*;
use tokio::net::TcpStream;

use super::*;
use crate::{
    listen::{BindOptions, bind},
    metrics::Metrics,
    metrics_endpoint::serve_metrics,
};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().unwrap(), BindOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    (TcpListener::from_std(listener).unwrap(), address)
}

/// Sends `request` and gives all that came back until the server closed.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// A server that echoes method, path and body.
fn start(limits: HttpLimits) -> (SocketAddr, crate::ShutdownTrigger) {
    let (listener, address) = listener();
    let (trigger, shutdown) = Shutdown::channel();
    let handler = |request: &Request| {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        Response::text(200, format!("{} {} {body}", request.method(), request.path()))
    };
    tokio::spawn(serve(listener, limits, AllowedHosts::default(), handler, shutdown));
    (address, trigger)
}

/// The head of a request to `address`, without the empty line.
fn head(address: SocketAddr, request: &str) -> String {
    format!("{request} HTTP/1.1\r\nHost: {address}\r\n")
}

#[tokio::test]
async fn a_request_with_a_body_reaches_the_handler() {
    let (address, _trigger) = start(HttpLimits::default());
    let head = head(address, "POST /speed?x=1");
    let answer = ask(address, format!("{head}Content-Length: 3\r\n\r\n0.5").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nPOST /speed 0.5"), "{answer}");
}

#[tokio::test]
async fn bad_requests_get_the_status_that_fits() {
    let limits = HttpLimits { head_bytes: 256, body_bytes: 8, ..HttpLimits::default() };
    let (address, _trigger) = start(limits);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(400));
    let cases: [(&[u8], u16); 17] = [
        (b"nonsense\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        // Found by fuzzing: these came through as part of the path.
        (b"GET /a\rb HTTP/1.1\r\n\r\n", 400),
        (b"GET /a\0\x7f\xc2\x85 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: empty\r\n\r\n", 400),
        (b"GET / HTTP/1.0\nx: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: \xff\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n123456789", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ];
    for (request, status) in cases.into_iter().chain([(long.as_bytes(), 431)]) {
        let answer = ask(address, request).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{}: {answer}", String::from_utf8_lossy(request));
    }
}

/// What [`host`] decides, as it is seen from outside.
#[tokio::test]
async fn a_request_by_another_name_or_from_another_site_is_refused() {
    let (address, _trigger) = start(HttpLimits::default());
    for (fields, status, word) in [
        (format!("Host: {address}"), 200, "GET /"),
        (format!("Host: localhost:{}", address.port()), 200, "GET /"),
        (format!("Host: rebound.example:{}", address.port()), 421, "--admin-allowed-host"),
        (format!("Host: {address}\r\nOrigin: http://page.example"), 403, "web pages"),
        (format!("Host: {address}\r\nSec-Fetch-Site: cross-site"), 403, "web pages"),
        (format!("Host: {address}\r\nOrigin: http://{address}"), 200, "GET /"),
    ] {
        let answer = ask(address, format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
        assert!(answer.contains(word), "{fields}: {answer}");
    }
    let answer = ask(address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "no browser sends it: {answer}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_in_bounded_time() {
    let (address, _trigger) = start(HttpLimits::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    // The paused clock jumps to the deadline when nothing else can happen.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn the_oldest_connection_makes_place_for_a_new_one() {
    let (address, _trigger) = start(HttpLimits { connections: 2, ..HttpLimits::default() });
    let mut oldest = TcpStream::connect(address).await.unwrap();
    oldest.write_all(b"GET").await.unwrap();
    let mut newer = TcpStream::connect(address).await.unwrap();
    newer.write_all(b"GET").await.unwrap();
    let answer = ask(address, format!("{}\r\n", head(address, "GET /x")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(oldest.read(&mut [0]).await.unwrap_or(0), 0);
    newer.write_all(&format!("{}\r\n", head(address, "GET /x")).as_bytes()[3..]).await.unwrap();
    let mut answer = [0; 12];
    newer.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// Eight that send no whole request for each one that does, and none of them goes.
#[tokio::test]
async fn silent_and_slow_clients_lock_nobody_out() {
    let (address, _trigger) = start(HttpLimits::default());
    let mut slow = Vec::new();
    for round in 0..40 {
        for number in 0..8 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            }
            slow.push(stream);
        }
        let answer = ask(address, format!("{}\r\n", head(address, "GET /x")).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "in round {round}: {answer}");
    }
}

#[tokio::test]
async fn the_endpoint_ends_with_the_server() {
    let (listener, _) = listener();
    let (trigger, shutdown) = Shutdown::channel();
    let handler = |_: &Request| Response::text(200, "");
    let (limits, allowed) = (HttpLimits::default(), AllowedHosts::default());
    let server = tokio::spawn(serve(listener, limits, allowed, handler, shutdown));
    trigger.drain();
    trigger.terminate();
    server.await.unwrap();
}

#[tokio::test]
async fn metrics_are_served_and_nothing_else_is() {
    let (listener, address) = listener();
    let (_trigger, shutdown) = Shutdown::channel();
    let metrics = Metrics::new();
    metrics.counter("calls_total", "Calls.", &[]).add(5);
    tokio::spawn(serve_metrics(listener, metrics, AllowedHosts::default(), shutdown));
    let ask =
        async |request| ask(address, format!("{}\r\n", head(address, request)).as_bytes()).await;
    let answer = ask("GET /metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("\ncalls_total 5\n"), "{answer}");
    assert!(ask("GET /").await.starts_with("HTTP/1.1 404 "));
    let answer = ask("POST /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
}

proptest! {
    #[test]
    fn no_head_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_head(&bytes);
    }

    #[test]
    fn near_misses_do_not_panic(text in "(GET|POST) /[a-z?#]{0,4} HTTP/1\\.[01]\r\n([a-zA-Z-]{0,3}:? ?[0-9+ ]{0,3}\r\n){0,3}\r\n") {
        let _ = parse_head(text.as_bytes());
    }
}
