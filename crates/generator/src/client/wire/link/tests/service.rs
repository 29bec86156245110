//! Calls on a user's service: what goes out, and what counts as an answer.

use std::{fs, time::Duration};

use grpc_call::{Body, CallSpec, Calls, Interface, Sources};
use measure::calllog::UNKNOWN_BACKEND;

use super::*;
use crate::client::{Identity, ServiceShape};

fn spec(method: &str) -> CallSpec {
    CallSpec {
        method: method.to_owned(),
        weight: 1,
        body: Body::Json(r#"{"payload": "YWJj"}"#.to_owned()),
        metadata: vec![("x-token".to_owned(), "t".to_owned())],
        deadline: None,
        messages: None,
        pause: Duration::ZERO,
        responses: None,
        status: 0,
        fields: Vec::new(),
    }
}

/// A pair whose client calls the echo service as one that it knows nothing of.
fn pair(spec: CallSpec, identity: Option<Identity>) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("echo.bin");
    fs::write(&file, echo_proto::FILE_DESCRIPTOR_SET).unwrap();
    let interface = Interface::from_descriptor_set(&file).unwrap();
    let sources = Sources { variable: Box::new(|_| None), random: Box::new(|| 0) };
    let calls = Calls::make(&interface, &[spec], None, sources, || 0, &[], 8).unwrap();
    let backends = Backends::Known(vec!["b0".into(), "b1".into()]);
    Pair::new(Shape::Service(ServiceShape::new(Arc::new(calls), None, identity, backends)))
}

fn served(backend: u16) -> Vec<Happened> {
    vec![over(0, Ended::Served { backend, queued_ns: 0, service_ns: 0 })]
}

fn wrong() -> Vec<Happened> {
    vec![over(0, Ended::Failed(FailureKind::WrongPayload))]
}

/// Answers the first call with messages and trailers.
fn answer(pair: &mut Pair, messages: usize, trailers: &[(&str, &str)]) -> Vec<Happened> {
    let fields = || [Field::new(b":status", b"200"), Field::new(b"x-served-by", b"b1")];
    pair.server.send_headers(pair.opened[0], None, fields, false);
    for _ in 0..messages {
        pair.server.send_data(pair.opened[0], &Pair::message(0), false);
    }
    let mut list = HeaderList::new();
    for (name, value) in trailers {
        list.push(Field::new(name.as_bytes(), value.as_bytes()));
    }
    pair.server.send_trailers(pair.opened[0], &list);
    pair.send_server_bytes()
}

#[test]
fn a_call_goes_out_as_it_was_made() {
    let mut pair = pair(CallSpec { deadline: Some(Duration::from_secs(1)), ..spec("Unary") }, None);
    pair.start(0, 5);
    let header = |name: &[u8]| pair.server.headers().value_of_name(name);
    assert_eq!(header(b":path"), Some(&b"/layerlab.echo.v1.Echo/Unary"[..]));
    assert_eq!(header(b"x-token"), Some(&b"t"[..]));
    assert_eq!(header(b"grpc-timeout"), Some(&b"1000000u"[..]));
    assert_eq!(pair.received, PREFIX_LEN + 5);
    assert_eq!(answer(&mut pair, 1, &[("grpc-status", "0")]), served(UNKNOWN_BACKEND));
}

#[test]
fn the_backend_is_told_by_a_header_or_a_trailer() {
    let ok = [("grpc-status", "0"), ("x-last", "b0")];
    let served_with = |identity, ok: &[_]| {
        let mut pair = pair(spec("Unary"), Some(identity));
        pair.start(0, 0);
        answer(&mut pair, 1, ok)
    };
    assert_eq!(served_with(Identity::Header("x-served-by".to_owned()), &ok), served(1));
    assert_eq!(served_with(Identity::Trailer("x-last".to_owned()), &ok), served(0));
    let unknown = [over(0, Ended::Failed(FailureKind::UnknownBackend))];
    assert_eq!(served_with(Identity::Header("x-other".to_owned()), &ok), unknown);
    assert_eq!(served_with(Identity::Trailer("x-last".to_owned()), &ok[..1]), unknown);
}

#[test]
fn what_is_expected_decides_what_is_right() {
    let ends = |change: fn(&mut CallSpec), messages, status| {
        let mut spec = spec("Unary");
        change(&mut spec);
        let mut pair = pair(spec, None);
        pair.start(0, 0);
        answer(&mut pair, messages, &[("grpc-status", status)])
    };
    let ok = served(UNKNOWN_BACKEND);
    assert_eq!(ends(|_| {}, 0, "0"), wrong(), "a unary call has a response");
    assert_eq!(ends(|_| {}, 2, "0"), wrong(), "and only one");
    assert_eq!(ends(|_| {}, 1, "5"), vec![over(0, failed(5))]);
    assert_eq!(ends(|spec| spec.status = 5, 0, "5"), ok);
    assert_eq!(ends(|spec| spec.status = 5, 1, "0"), wrong());
    let field = |spec: &mut CallSpec, value: &str| {
        spec.fields = vec![("$.backend".to_owned(), value.into())];
    };
    assert_eq!(ends(|spec| spec.fields = vec![("$.backend".to_owned(), "b0".into())], 1, "0"), ok);
    let mut other = spec("Unary");
    field(&mut other, "b9");
    let mut pair = pair(other, None);
    pair.start(0, 0);
    assert_eq!(answer(&mut pair, 1, &[("grpc-status", "0")]), wrong());
}

#[test]
fn a_stream_may_be_complete_before_the_server_ends_it() {
    let stream = CallSpec { responses: Some(2), ..spec("ServerStream") };
    let mut pair = pair(stream, Some(Identity::Header("x-served-by".to_owned())));
    pair.start(0, 0);
    let fields = || [Field::new(b":status", b"200"), Field::new(b"x-served-by", b"b1")];
    pair.server.send_headers(pair.opened[0], None, fields, false);
    pair.server.send_data(pair.opened[0], &Pair::message(0), false);
    assert_eq!(pair.send_server_bytes(), []);
    let two = [Pair::message(0), Pair::message(0)].concat();
    pair.server.send_data(pair.opened[0], &two, false);
    assert_eq!(pair.send_server_bytes(), served(1));
    pair.send_client_bytes();
    assert!(!pair.server.is_open(pair.opened[0]), "the client has cancelled it");
}

#[test]
fn a_deadline_ends_a_call_and_no_later_one_on_its_slot() {
    let mut pair = pair(CallSpec { deadline: Some(Duration::from_secs(1)), ..spec("Unary") }, None);
    pair.start(0, 0);
    let first_ns = pair.link.next_timer_ns().unwrap();
    assert_eq!(answer(&mut pair, 1, &[("grpc-status", "0")]), served(UNKNOWN_BACKEND));
    pair.start(0, 1);
    assert_eq!(pair.link.tick(first_ns - 1, &pair.shape), None, "not due yet");
    assert_eq!(pair.link.tick(first_ns, &pair.shape), Some(Happened::Nothing));
    let second_ns = pair.link.next_timer_ns().unwrap();
    let ended = Some(over(0, failed(4)));
    assert_eq!(pair.link.tick(second_ns, &pair.shape), ended);
    assert_eq!(pair.link.next_timer_ns(), None);
}

#[test]
fn requests_of_a_stream_wait_for_their_pause() {
    let pause = Duration::from_secs(1);
    let stream = CallSpec { messages: Some(3), pause, ..spec("ClientStream") };
    let mut pair = pair(stream, None);
    pair.start(0, 0);
    for sent in 1..=3 {
        assert_eq!(pair.received, sent * (PREFIX_LEN + 5));
        if let Some(due_ns) = pair.link.next_timer_ns() {
            assert_eq!(pair.link.tick(due_ns - 1, &pair.shape), None);
            assert_eq!(pair.link.tick(due_ns, &pair.shape), Some(Happened::Nothing));
            pair.send_client_bytes();
        }
    }
    assert_eq!(pair.link.next_timer_ns(), None);
    assert_eq!(answer(&mut pair, 1, &[("grpc-status", "0")]), served(UNKNOWN_BACKEND));
}

#[test]
fn a_response_beyond_the_limit_is_not_gathered() {
    let mut pair = pair(spec("Unary"), None);
    pair.start(0, 0);
    let fields = || [Field::new(b":status", b"200")];
    pair.server.send_headers(pair.opened[0], None, fields, false);
    let announced = (MAX_MESSAGE_BYTES as u32 + 1).to_be_bytes();
    pair.server.send_data(pair.opened[0], &[&[0], &announced[..], b"abc"].concat(), false);
    assert_eq!(pair.send_server_bytes(), []);
    assert!(pair.link.calls[0].as_ref().unwrap().partial.is_empty());
    pair.finish(0, b"0");
    assert_eq!(pair.send_server_bytes(), wrong());
}
