//! Calls that go well: everything a client sends reaches a backend, and
//! everything the backend answers reaches the client.

use std::{num::NonZeroU32, time::Duration};

use echo_proto::v1::{EchoRequest, EchoResponse};
use h2_wire::grpc::{BACKEND_HEADER, BACKEND_QUEUED_TRAILER, BACKEND_TIME_TRAILER, parse_timeout};
use l7_proxy::DataPlane;
use testkit::{
    lab::{Lab, client, l7_config, start_l7},
    negative::{ok_trailers, response_head},
    on_each_data_plane,
    peer::{End, Fields, Message, Peer, RawServer, field},
    wire::{self, block},
    within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request,
    metadata::{MetadataMap, MetadataValue},
};

use crate::common::{Wires, call, echo};

/// A payload whose bytes tell where they belong.
fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 31 % 251) as u8).collect()
}

fn check(response: &EchoResponse, request: &EchoRequest) {
    assert_eq!(response.sequence, request.sequence);
    assert_eq!(response.payload.len(), request.payload.len());
    assert!(response.payload == request.payload, "the payload changed on its way");
}

#[test]
fn all_four_kinds_of_call_pass() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 2);
        let mut client = lab.client().await;
        let requests: Vec<_> = (0..50).map(|index| echo(index, payload(100))).collect();

        let unary = client.unary(requests[0].clone()).await.unwrap().into_inner();
        check(&unary, &requests[0]);

        let many = EchoRequest { response_count: 50, ..requests[1].clone() };
        let mut responses = client.server_stream(many).await.unwrap().into_inner();
        for _ in 0..50 {
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            check(&response, &requests[1]);
        }
        assert!(within("the end", responses.message()).await.unwrap().is_none());

        let stream = tokio_stream::iter(requests.clone());
        let last = client.client_stream(stream).await.unwrap().into_inner();
        check(&last, &requests[49]);

        let stream = tokio_stream::iter(requests.clone());
        let mut responses = client.bidi(stream).await.unwrap().into_inner();
        for request in &requests {
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            check(&response, request);
        }
        assert!(within("the end", responses.message()).await.unwrap().is_none());
    });
}

#[test]
fn each_response_comes_before_the_next_request() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let (sender, requests) = mpsc::channel(1);
        let mut responses = within("headers", client.bidi(ReceiverStream::new(requests)))
            .await
            .unwrap()
            .into_inner();
        for sequence in 0..200 {
            let request = echo(sequence, payload(20));
            sender.send(request.clone()).await.unwrap();
            let response = within("a response", responses.message()).await.unwrap().unwrap();
            check(&response, &request);
        }
        drop(sender);
        assert!(within("the end", responses.message()).await.unwrap().is_none());
    });
}

#[test]
fn large_messages_pass_in_both_directions() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let client = lab.client().await;
        let calls = (0..4).map(|sequence| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let request = echo(sequence, payload((4 << 20) + sequence as usize));
                let response = client.unary(request.clone()).await.unwrap().into_inner();
                check(&response, &request);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            within("a large call", call).await.unwrap();
        }
    });
}

#[test]
fn many_calls_at_once_on_one_connection_pass() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 3);
        let client = lab.client().await;
        let mut calls = tokio::task::JoinSet::new();
        for sequence in 0..500 {
            let mut client = client.clone();
            calls.spawn(async move {
                let request = echo(sequence, payload(sequence as usize));
                let response = client.unary(request.clone()).await.unwrap().into_inner();
                check(&response, &request);
            });
        }
        while let Some(result) = within("a call", calls.join_next()).await {
            result.unwrap();
        }
        assert_eq!(lab.calls_started(), 500);
    });
}

/// Metadata that every header encoder has to get right: repeated keys, an empty
/// value, one longer than a byte can count, and binary values.
fn metadata() -> Fields {
    let fields = [
        ("x-text", "plain"),
        ("x-empty", ""),
        ("x-twice", "one"),
        ("x-twice", "two"),
        ("x-data-bin", "AAECAwT/"),
        ("x-data-bin", "3q2+7w"),
        ("x-punctuation", "a,b;c=\"d\" %25 ~"),
    ];
    let mut fields: Fields =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    fields.push(("x-long".to_owned(), "l".repeat(5000)));
    fields
}

fn borrowed(fields: &Fields) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The fields that are metadata here, in their order.
fn only_metadata(fields: &Fields) -> Fields {
    let mut fields: Fields =
        fields.iter().filter(|(name, _)| name.starts_with("x-")).cloned().collect();
    // Only the order of equal names means something.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

#[test]
fn metadata_passes_byte_for_byte_in_headers_and_trailers() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        let metadata = metadata();
        let expected = only_metadata(&metadata);
        // More than once: tables and caches of both sides come into play.
        let (mut backend, mut stream, mut fields) = wires.begin_with(&borrowed(&metadata)).await;
        for round in 0..4 {
            assert_eq!(only_metadata(&fields), expected);
            assert_eq!(field(&fields, ":method"), Some("POST"));
            assert_eq!(field(&fields, ":path"), Some(wire::UNARY));
            assert_eq!(field(&fields, ":scheme"), Some("http"));
            assert_eq!(field(&fields, ":authority"), Some("test"));
            assert_eq!(field(&fields, "content-type"), Some("application/grpc"));
            assert_eq!(field(&fields, "te"), Some("trailers"));
            let mut head = borrowed(&metadata);
            head.splice(0..0, [(":status", "200"), ("content-type", "application/grpc")]);
            let mut trailers = borrowed(&metadata);
            trailers.push(("grpc-status", "0"));
            let response = [
                wire::headers(stream, &block(&head), false),
                wire::data(stream, &wire::message(b"m"), false),
                wire::headers(stream, &block(&trailers), true),
            ];
            backend.send(&response.concat()).await.unwrap();
            let answer = wires.client.message(2 * round + 1).await;
            assert_eq!(answer.end, Some(End::Whole));
            assert_eq!(answer.body, wire::message(b"m"));
            let [head, trailers] = &answer.heads[..] else { panic!("head and trailers") };
            assert_eq!(field(head, ":status"), Some("200"));
            assert_eq!(only_metadata(head), expected);
            assert_eq!(only_metadata(trailers), expected);
            assert_eq!(field(trailers, "grpc-status"), Some("0"));
            if round < 3 {
                let next = call(2 * round + 3, &borrowed(&metadata));
                wires.client.send(&next).await.unwrap();
                (stream, fields, _) = backend.next_headers().await;
            }
        }
    });
}

/// A tonic client, and the backend's end of its call.
#[test]
fn a_client_library_reads_metadata_and_status_details() {
    on_each_data_plane(async |plane| {
        let server = RawServer::start().await;
        let l7 = start_l7(l7_config(plane, &[server.addr()]));
        let mut client = client(l7.addr()).await;
        let mut request = Request::new(EchoRequest::default());
        request.metadata_mut().insert("x-text", "sent".parse().unwrap());
        request.metadata_mut().insert_bin("x-data-bin", MetadataValue::from_bytes(&[0, 255, 7]));
        let answers = async {
            let mut backend = server.accept(&[]).await;
            let (stream, fields, _) = backend.next_headers().await;
            assert_eq!(field(&fields, "x-text"), Some("sent"));
            assert_eq!(field(&fields, "x-data-bin"), Some("AP8H"));
            let trailers = [("grpc-status", "0"), ("x-tail", "tail"), ("x-tail-bin", "AQI")];
            let head =
                [(":status", "200"), ("content-type", "application/grpc"), ("x-head-bin", "/w==")];
            let response = [
                wire::headers(stream, &block(&head), false),
                wire::data(stream, &wire::message(&[]), false),
                wire::headers(stream, &block(&trailers), true),
            ];
            backend.send(&response.concat()).await.unwrap();
            backend
        };
        let both = async { tokio::join!(client.unary(request), answers) };
        let (response, mut backend) = within("a call", both).await;
        let response = response.unwrap();
        let metadata = response.metadata();
        assert_eq!(metadata.get("x-tail").unwrap(), "tail");
        assert_eq!(metadata.get_bin("x-tail-bin").unwrap().to_bytes().unwrap().as_ref(), [1, 2]);
        assert_eq!(metadata.get_bin("x-head-bin").unwrap().to_bytes().unwrap().as_ref(), [255]);

        // The three places a status can stand in: alone, and behind messages.
        for (with_head, with_message) in [(false, false), (true, false), (true, true)] {
            let answers = async {
                let (stream, _, _) = backend.next_headers().await;
                let status = [
                    ("grpc-status", "9"),
                    ("grpc-message", "50%25 of %C3%A4%0A"),
                    ("grpc-status-details-bin", "CAkSAWE"),
                ];
                let mut response = Vec::new();
                if with_head {
                    response.extend(response_head(stream));
                    if with_message {
                        response.extend(wire::data(stream, &wire::message(&[]), false));
                    }
                    response.extend(wire::headers(stream, &block(&status), true));
                } else {
                    let mut alone = vec![(":status", "200"), ("content-type", "application/grpc")];
                    alone.extend(status);
                    response.extend(wire::headers(stream, &block(&alone), true));
                }
                backend.send(&response).await.unwrap();
            };
            let call = async {
                let mut responses =
                    client.server_stream(EchoRequest::default()).await?.into_inner();
                while responses.message().await?.is_some() {}
                Ok::<_, tonic::Status>(())
            };
            let (result, ()) = within("a call", async { tokio::join!(call, answers) }).await;
            let status = result.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(status.message(), "50% of \u{e4}\n");
            assert_eq!(status.details(), [8, 9, 18, 1, b'a']);
        }
    });
}

#[test]
fn an_error_of_the_service_passes() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut client = lab.client().await;
        let too_large = EchoRequest { response_bytes: 1 << 30, ..EchoRequest::default() };
        let status = client.unary(too_large).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("response_bytes"), "{}", status.message());
        let unknown = wire::grpc_fields("/layerlab.echo.v1.Echo/Missing");
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        raw.send(&wire::headers(1, &block(&unknown), true)).await.unwrap();
        assert_eq!(raw.message(1).await.grpc_status(), Some("12"));
    });
}

#[test]
fn requests_that_are_not_grpc_get_an_http_status() {
    on_each_data_plane(async |plane| {
        let lab = Lab::start(plane, 1);
        let mut raw = Peer::client(lab.l7.addr(), &[]).await;
        let request = |method: &str, content_type: &str| {
            let mut fields = vec![(":method", method), (":scheme", "http"), (":path", "/")];
            fields.push((":authority", "test"));
            if !content_type.is_empty() {
                fields.push(("content-type", content_type));
            }
            block(&fields)
        };
        let cases = [("GET", ""), ("POST", "application/json"), ("POST", "application/grpc-web")];
        for (stream, (method, content_type)) in (1..).step_by(2).zip(cases) {
            raw.send(&wire::headers(stream, &request(method, content_type), true)).await.unwrap();
            let answer = raw.message(stream).await;
            assert_eq!((answer.head(":status"), answer.end), (Some("415"), Some(End::Whole)));
            assert_eq!(answer.grpc_status(), None);
        }
        assert_eq!(lab.calls_started(), 0);
    });
}

#[tokio::test]
async fn a_response_names_its_backend_where_that_is_asked_for() {
    let lab = Lab::start_with(DataPlane::Relay, 2, |config| {
        config.calls.name_backends = true;
    });
    let mut client = lab.client().await;
    let name = |map: &MetadataMap| map.get(BACKEND_HEADER).unwrap().to_str().unwrap().to_owned();
    let time = |map: &MetadataMap| {
        let time = map.get(BACKEND_TIME_TRAILER).unwrap();
        parse_timeout(time.as_encoded_bytes()).unwrap()
    };
    for index in 0..20 {
        // Blocks that repeat come from memory, and those of two backends are not confused.
        let answer = client.unary(echo(index, Vec::new())).await.unwrap();
        let number = usize::from(answer.get_ref().backend == "b1");
        assert_eq!(name(answer.metadata()), lab.backends[number].addr().to_string());
        assert!(time(answer.metadata()) > Duration::ZERO);
    }
    // A head that is also the end has both.
    let empty = tokio_stream::iter(Vec::<EchoRequest>::new());
    let status = client.client_stream(empty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(!name(status.metadata()).is_empty() && time(status.metadata()) > Duration::ZERO);
}

/// What a call waited at a backend that works on one at a time is told from when calls came
/// and went; of one that goes before its turn that is all of its time.
#[tokio::test]
async fn a_response_tells_what_its_call_waited_where_that_is_asked_for() {
    let mut wires = Wires::start_with(DataPlane::Relay, |config| {
        config.calls.name_backends = true;
        config.calls.backend_servers = NonZeroU32::new(1);
    })
    .await;
    let time = |answer: &Message, name: &str| {
        parse_timeout(answer.trailer(name).unwrap().as_bytes()).unwrap()
    };
    let (mut backend, first, _) = wires.begin().await;
    wires.client.send(&[call(3, &[]), call(5, &[])].concat()).await.unwrap();
    let [second, third] = [backend.next_headers().await.0, backend.next_headers().await.0];
    // The third goes before its turn, the others in theirs.
    for (at_backend, stream, is_in_turn) in [(third, 5, false), (first, 1, true), (second, 3, true)]
    {
        let answer = [response_head(at_backend), ok_trailers(at_backend)].concat();
        backend.send(&answer).await.unwrap();
        let answer = wires.client.message(stream).await;
        let took = time(&answer, BACKEND_TIME_TRAILER);
        let queued = time(&answer, BACKEND_QUEUED_TRAILER);
        assert!(took > Duration::ZERO);
        match stream {
            1 => assert_eq!(queued, Duration::ZERO, "there was nobody before it"),
            _ => assert_eq!(queued < took, is_in_turn, "stream {stream}: {queued:?} of {took:?}"),
        }
    }
}

#[test]
fn requests_that_are_not_grpc_can_be_forwarded() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start_with(plane, |config| config.calls.forward_http = true).await;
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/x?y=z"),
            (":authority", "test"),
            ("accept", "text/plain"),
        ];
        wires.client.send(&wire::headers(1, &block(&fields), true)).await.unwrap();
        let mut backend = wires.server.accept(&[]).await;
        let (stream, got, _) = backend.next_headers().await;
        assert_eq!(field(&got, ":path"), Some("/x?y=z"));
        assert_eq!(field(&got, "accept"), Some("text/plain"));
        let head = wire::headers(stream, &block(&[(":status", "404")]), false);
        backend.send(&[head, wire::data(stream, b"not here", true)].concat()).await.unwrap();
        let answer = wires.client.message(1).await;
        assert_eq!(answer.head(":status"), Some("404"));
        assert_eq!((answer.body.as_slice(), answer.end), (&b"not here"[..], Some(End::Whole)));
    });
}

/// A backend may end its response early and then say that it does not want the
/// rest of the request (RFC 9113, section 8.1).
#[test]
fn a_reset_without_error_behind_a_whole_response_takes_nothing_away() {
    on_each_data_plane(async |plane| {
        let mut wires = Wires::start(plane).await;
        wires.client.send(&crate::common::open(1, &[])).await.unwrap();
        let mut backend = wires.server.accept(&[]).await;
        let (stream, _, ends) = backend.next_headers().await;
        assert!(!ends);
        let response = [
            response_head(stream),
            wire::data(stream, &wire::message(b"early"), false),
            ok_trailers(stream),
            wire::reset(stream, wire::code::NO_ERROR),
        ];
        backend.send(&response.concat()).await.unwrap();
        let answer = wires.client.message(1).await;
        assert_eq!(answer.body, wire::message(b"early"));
        assert_eq!((answer.grpc_status(), answer.end), (Some("0"), Some(End::Whole)));
    });
}

/// W3C trace context passes as it is: the proxy takes no part in a trace, so
/// the backend's span has to hang on the client's.
#[test]
fn trace_context_passes_unchanged() {
    on_each_data_plane(async |plane| {
        let trace = [
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "congo=t61rcWkgMzE"),
            ("tracestate", "rojo=00f067aa0ba902b7"),
        ];
        let mut wires = Wires::start(plane).await;
        let (_backend, _, fields) = wires.begin_with(&trace).await;
        let passed: Vec<_> =
            fields.iter().filter(|(name, _)| name.starts_with("trace")).cloned().collect();
        let sent = trace.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(passed, sent);
    });
}
