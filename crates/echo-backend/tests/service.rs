//! The backend as its clients see it: what it serves, and how its connections
//! and the backend itself end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use balance::{LOAD_REPORT_TRAILER, LoadReport};
use echo_backend::Config;
use echo_proto::v1::{EchoRequest, EchoResponse};
use testkit::{
    await_that,
    lab::{EchoBackend, client},
    peer::{End, Peer, Seen},
    process::Process,
    wire::{self, block, code},
    within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

fn request(sequence: u64) -> EchoRequest {
    EchoRequest { sequence, payload: b"abc".to_vec(), response_bytes: 5, response_count: 0 }
}

fn check(response: &EchoResponse, sequence: u64) {
    assert_eq!(response.sequence, sequence);
    assert_eq!(response.payload, b"abcab");
    assert_eq!(response.backend, "b");
}

async fn channel(backend: &EchoBackend) -> tonic::transport::Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", backend.addr())).unwrap();
    within("a connection", endpoint.connect()).await.unwrap()
}

/// A report needs a tenth of a second to have seen something.
#[tokio::test]
async fn calls_say_how_high_the_load_is_and_health_checks_what_a_probe_asks() {
    let mut config = Config::new("b");
    config.reports_load = true;
    config.queue.service_time = "constant:2ms".parse().unwrap();
    let backend = EchoBackend::start_with(config);
    let mut client = client(backend.addr()).await;
    let report = |trailers: &tonic::metadata::MetadataMap| {
        let value = trailers.as_ref().get(LOAD_REPORT_TRAILER)?.as_bytes().to_vec();
        Some(LoadReport::from_trailer(&value).unwrap())
    };
    let reported = within("a report", async {
        loop {
            let requests = tokio_stream::iter([request(1)]);
            let mut responses = client.bidi(requests).await.unwrap().into_inner();
            check(&responses.message().await.unwrap().unwrap(), 1);
            let trailers = responses.trailers().await.unwrap().unwrap();
            if let Some(report) = report(&trailers) {
                return report;
            }
        }
    })
    .await;
    let LoadReport { application_utilization, calls_per_second, .. } = reported;
    // One call after the other, each of which takes two milliseconds and a bit.
    assert!(calls_per_second > 0.0 && calls_per_second < 510.0, "{reported:?}");
    let busy = application_utilization / calls_per_second;
    assert!((busy / 2e-3 - 1.0).abs() < 1e-6 && reported.probe.is_none(), "{reported:?}");
    let mut health = HealthClient::new(channel(&backend).await);
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    let probe = report(answer.metadata()).unwrap().probe.unwrap();
    assert_eq!((probe.in_flight, probe.latency_ns), (0, 2_000_000));
}

#[tokio::test]
async fn all_four_kinds_of_call_are_answered_and_counted() {
    let backend = EchoBackend::start("b");
    let mut client = client(backend.addr()).await;
    check(&client.unary(request(1)).await.unwrap().into_inner(), 1);

    let many = EchoRequest { response_count: 3, ..request(2) };
    let mut responses = client.server_stream(many).await.unwrap().into_inner();
    for _ in 0..3 {
        check(&within("a response", responses.message()).await.unwrap().unwrap(), 2);
    }
    assert!(within("the end", responses.message()).await.unwrap().is_none());

    let requests = tokio_stream::iter((0..5).map(request));
    check(&client.client_stream(requests).await.unwrap().into_inner(), 4);

    let requests = tokio_stream::iter((0..5).map(request));
    let mut responses = client.bidi(requests).await.unwrap().into_inner();
    for sequence in 0..5 {
        check(&within("a response", responses.message()).await.unwrap().unwrap(), sequence);
    }
    assert!(within("the end", responses.message()).await.unwrap().is_none());

    let succeeded = || backend.counters().methods().map(|method| method.succeeded.get());
    await_that("four calls to be counted", || succeeded() == [1; 4]).await;
    assert_eq!((backend.counters().started(), backend.counters().in_flight()), (4, 0));
}

#[tokio::test]
async fn a_client_stream_without_a_request_is_refused() {
    let backend = EchoBackend::start("b");
    let mut client = client(backend.addr()).await;
    let status = client.client_stream(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_is_served_and_ends_with_the_drain() {
    let mut backend = EchoBackend::start("b");
    let mut health = HealthClient::new(channel(&backend).await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "layerlab.echo.v1.Echo"] {
        let answer = health.check(ask(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(health.check(ask("other")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    let first = within("a status", watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    backend.server().trigger().drain();
    let last = within("a status", watch.message()).await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(within("the end", watch.message()).await.unwrap().is_none());
    backend.server_mut().ended().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let backend = EchoBackend::start("b");
    let mut reflection = ServerReflectionClient::new(channel(&backend).await);
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("layerlab.echo.v1.Echo".to_owned()),
    ];
    let stream = tokio_stream::iter(requests.map(ask));
    let mut answers = reflection.server_reflection_info(stream).await.unwrap().into_inner();
    let listed = within("an answer", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = listed.message_response else {
        panic!("a list of services was expected, and not {listed:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"layerlab.echo.v1.Echo"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let file = within("an answer", answers.message()).await.unwrap().unwrap();
    assert!(matches!(file.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
}

#[tokio::test]
async fn calls_beyond_the_queue_are_refused_and_late_ones_given_up() {
    let mut config = Config::new("b");
    config.queue.service_time = "constant:1h".parse().unwrap();
    config.queue.max_waiting = 1;
    let backend = EchoBackend::start_with(config);
    let client = client(backend.addr()).await;
    let call = |timeout: Duration| {
        let mut client = client.clone();
        let mut request = Request::new(request(1));
        request.set_timeout(timeout);
        tokio::spawn(async move { client.unary(request).await })
    };
    // One is in service and one waits, for as long as the test may take.
    let held = [call(Duration::from_secs(3600)), call(Duration::from_secs(3600))];
    await_that("two calls to be there", || backend.counters().in_flight() == 2).await;
    let status = within("a refusal", call(Duration::from_secs(3600))).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // A raw client, so that it is the backend that sees the deadline pass. The
    // place of a call that was given up is free again.
    held.iter().for_each(tokio::task::JoinHandle::abort);
    await_that("both to be gone", || backend.counters().in_flight() == 0).await;
    let mut raw = Peer::client(backend.addr(), &[]).await;
    let mut fields = wire::grpc_fields(wire::UNARY);
    fields.push(("grpc-timeout".to_owned(), "50m".to_owned()));
    let head = wire::headers(1, &block(&fields), false);
    raw.send(&[head, wire::data(1, &wire::message(&[]), true)].concat()).await.unwrap();
    assert_eq!(raw.message(1).await.grpc_status(), Some("4"));
}

fn aging(age: Duration, grace: Duration) -> EchoBackend {
    let mut config = Config::new("b");
    config.connections.max_connection_age = Some(age);
    config.connections.max_connection_age_grace = grace;
    EchoBackend::start_with(config)
}

/// Opens a bidi stream and has its first response.
async fn open_stream(raw: &mut Peer) {
    raw.send(&wire::headers(1, &block(&wire::grpc_fields(wire::BIDI)), false)).await.unwrap();
    raw.send(&wire::data(1, &wire::message(&[]), false)).await.unwrap();
    assert!(matches!(raw.next_on(1).await, Seen::Headers { .. }));
    assert!(matches!(raw.next_on(1).await, Seen::Data { .. }));
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_its_calls_finish() {
    let backend = aging(Duration::from_millis(100), Duration::from_secs(600));
    let mut raw = Peer::client(backend.addr(), &[]).await;
    open_stream(&mut raw).await;
    let go_away = raw.next_that("GOAWAY", |seen| matches!(seen, Seen::GoAway { .. })).await;
    assert!(matches!(go_away, Seen::GoAway { code: code::NO_ERROR, .. }), "{go_away:?}");
    for _ in 0..5 {
        raw.send(&wire::data(1, &wire::message(&[]), false)).await.unwrap();
        assert!(matches!(raw.next_on(1).await, Seen::Data { .. }));
    }
    raw.send(&wire::data(1, &[], true)).await.unwrap();
    let rest = raw.message(1).await;
    assert_eq!((rest.grpc_status(), rest.end), (Some("0"), Some(End::Whole)));
    assert_eq!(raw.closed().await, Some(code::NO_ERROR));
    assert_eq!(backend.counters().aged.get(), 1);
    // Another connection is welcome.
    client(backend.addr()).await.unary(request(1)).await.unwrap();
}

#[tokio::test]
async fn a_call_that_outlives_the_grace_is_cut() {
    let backend = aging(Duration::from_secs(1), Duration::from_millis(100));
    let mut raw = Peer::client(backend.addr(), &[]).await;
    open_stream(&mut raw).await;
    raw.closed().await;
    await_that("the call to be cancelled", || backend.counters().bidi.cancelled.get() == 1).await;
}

#[tokio::test]
async fn a_drain_loses_no_call() {
    let mut config = Config::new("b");
    config.queue.service_time = "constant:2ms".parse().unwrap();
    let mut backend = EchoBackend::start_with(config);
    let client = client(backend.addr()).await;
    let mut calls = tokio::task::JoinSet::new();
    for sequence in 0..50 {
        let mut client = client.clone();
        calls.spawn(async move { client.unary(request(sequence)).await });
    }
    let mut streaming = client.clone();
    let (sender, requests) = mpsc::channel(1);
    let stream = streaming.bidi(ReceiverStream::new(requests)).await.unwrap();
    let mut responses = stream.into_inner();
    // All are there, and all but a few wait in the queue.
    await_that("the calls to be there", || backend.counters().started() == 51).await;
    backend.server().trigger().drain();
    while let Some(result) = within("a call", calls.join_next()).await {
        result.unwrap().unwrap();
    }
    sender.send(request(7)).await.unwrap();
    check(&within("a response", responses.message()).await.unwrap().unwrap(), 7);
    assert!(backend.server().is_running());
    drop(sender);
    assert!(within("the end", responses.message()).await.unwrap().is_none());
    backend.server_mut().ended().await;
}

#[tokio::test]
async fn a_drain_that_is_terminated_cuts_what_is_left() {
    let mut backend = EchoBackend::start("b");
    let mut raw = Peer::client(backend.addr(), &[]).await;
    open_stream(&mut raw).await;
    backend.server().trigger().drain();
    raw.next_that("GOAWAY", |seen| matches!(seen, Seen::GoAway { .. })).await;
    backend.server().trigger().terminate();
    backend.server_mut().ended().await;
    raw.closed().await;
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let process = Process::start(env!("CARGO_BIN_EXE_echo-backend"), &[]);
    let mut client = client(process.addr()).await;
    for sequence in 0..3 {
        within("a call", client.unary(request(sequence))).await.unwrap();
        process.hang_up();
    }
    within("a call", client.unary(request(3))).await.unwrap();
}
