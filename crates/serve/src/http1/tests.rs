//! The endpoint against good, bad and hostile requests.

use std::net::SocketAddr;

use proptest::prelude::*;
use tokio::net::TcpStream;

use super::*;
use crate::listen::{BindOptions, bind};
use crate::metrics::{Metrics, serve_metrics};

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
    tokio::spawn(serve(listener, limits, handler, shutdown));
    (address, trigger)
}

#[tokio::test]
async fn a_request_with_a_body_reaches_the_handler() {
    let (address, _trigger) = start(HttpLimits::default());
    let answer =
        ask(address, b"POST /speed?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n0.5").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nPOST /speed 0.5"), "{answer}");
}

#[tokio::test]
async fn bad_requests_get_the_status_that_fits() {
    let limits = HttpLimits { head_bytes: 256, body_bytes: 8, ..HttpLimits::default() };
    let (address, _trigger) = start(limits);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(400));
    let cases: [(&[u8], u16); 15] = [
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
        (b"GET / HTTP/1.1\r\nx: \xff\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nOrigin: http://page\r\n\r\n", 403),
    ];
    for (request, status) in cases.into_iter().chain([(long.as_bytes(), 431)]) {
        let answer = ask(address, request).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{}: {answer}", String::from_utf8_lossy(request));
    }
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
async fn connections_over_the_cap_are_closed() {
    let (address, _trigger) = start(HttpLimits { connections: 1, ..HttpLimits::default() });
    let mut held = TcpStream::connect(address).await.unwrap();
    held.write_all(b"GET").await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
    held.write_all(b" / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    held.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn the_endpoint_ends_with_the_server() {
    let (listener, _) = listener();
    let (trigger, shutdown) = Shutdown::channel();
    let handler = |_: &Request| Response::text(200, "");
    let server = tokio::spawn(serve(listener, HttpLimits::default(), handler, shutdown));
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
    tokio::spawn(serve_metrics(listener, metrics, shutdown));
    let answer = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("\ncalls_total 5\n"), "{answer}");
    assert!(ask(address, b"GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
    let answer = ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").await;
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
