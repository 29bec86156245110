//! The client's link against the server's end of the same connection, without
//! sockets.

mod service;

use std::sync::Arc;

use echo_proto::v1::EchoResponse;
use h2_wire::hpack::{Field, HeaderList};
use prost::Message as _;

use super::{under_way::MAX_MESSAGE_BYTES, *};
use crate::client::{Backends, CallKind, CallShape, Lengths, wire::message::PREFIX_LEN};

fn shape(kind: CallKind, messages: u32) -> Shape {
    of_payload(kind, messages, b"abc".to_vec())
}

fn of_payload(kind: CallKind, messages: u32, payload: Vec<u8>) -> Shape {
    Shape::Echo(Arc::new(CallShape {
        kind,
        messages,
        requests: Lengths::Constant(payload.len() as u32),
        payload,
        responses: Lengths::Constant(3),
        deadline: None,
        backends: Backends::Known(vec!["b0".into()]),
    }))
}

/// A client's link and the server's end of the same connection.
struct Pair {
    shape: Shape,
    origin: Origin,
    link: Link,
    server: Connection<u32>,
    /// Streams in the order in which they were opened.
    opened: Vec<StreamKey>,
    /// Bytes of requests, without heads.
    received: usize,
}

impl Pair {
    fn new(shape: Shape) -> Self {
        let options = Options::new(Role::Server);
        let mut pair = Self {
            origin: Origin::new(&shape, "host:1".to_owned(), false),
            link: Link::new(&shape),
            shape,
            server: Connection::new(options.into()),
            opened: Vec::new(),
            received: 0,
        };
        pair.send_client_bytes();
        pair.send_server_bytes();
        pair.send_client_bytes();
        pair
    }

    fn start(&mut self, slot: u32, sequence: u64) {
        let call = Call { connection: 0, slot };
        assert!(self.link.start(call, sequence, &self.origin, &self.shape));
        self.send_client_bytes();
    }

    fn send_client_bytes(&mut self) {
        self.link.pump(&self.shape);
        let bytes = self.link.http.output().to_vec();
        self.link.wrote(bytes.len(), WRITTEN_NS);
        let mut rest = &bytes[..];
        loop {
            let read = self.server.read(rest).unwrap();
            rest = &rest[read.consumed..];
            match read.event {
                None => break,
                Some(Event::Request { key, .. }) => self.opened.push(key),
                Some(Event::Data { payload, .. }) => self.received += payload.len(),
                Some(_) => {}
            }
        }
        assert!(rest.is_empty());
    }

    /// What the client makes of what the server has sent.
    fn send_server_bytes(&mut self) -> Vec<Happened> {
        self.server.pump(&mut Vec::new());
        let bytes = self.server.output().to_vec();
        self.server.wrote(bytes.len());
        let mut rest = &bytes[..];
        let mut all = Vec::new();
        loop {
            let read = self.link.read(rest, &self.shape).unwrap();
            rest = &rest[read.consumed..];
            match read.happened {
                None => break,
                Some(Happened::Nothing | Happened::Settings) => {}
                Some(happened) => all.push(happened),
            }
        }
        all
    }

    fn respond(&mut self, stream: usize, status: &[u8], end: bool) {
        let mut fields = vec![Field::new(b":status", status)];
        if end {
            fields.push(Field::new(b"grpc-status", b"5"));
        }
        self.server.send_headers(self.opened[stream], None, || fields, end);
    }

    fn finish(&mut self, stream: usize, code: &[u8]) {
        let mut list = HeaderList::new();
        list.push(Field::new(b"grpc-status", code));
        self.server.send_trailers(self.opened[stream], &list);
    }

    fn message(sequence: u64) -> Vec<u8> {
        let response = EchoResponse {
            sequence,
            payload: b"abc".to_vec(),
            backend: "b0".into(),
            queued_ns: 1,
            service_ns: 2,
        };
        let mut bytes = vec![0; PREFIX_LEN];
        response.encode(&mut bytes).unwrap();
        let length = (bytes.len() - PREFIX_LEN) as u32;
        bytes[1..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
        bytes
    }
}

fn call(slot: u32) -> Call {
    Call { connection: 0, slot }
}

fn failed(code: i32) -> Ended {
    Ended::Failed(FailureKind::from_status(code))
}

/// A call that ended after its whole request was written.
fn over(slot: u32, ended: Ended) -> Happened {
    Happened::Ended(call(slot), ended, Some(WRITTEN_NS))
}

/// When everything in these tests is written.
const WRITTEN_NS: u64 = 5;

const SERVED: Ended = Ended::Served { backend: 0, queued_ns: 1, service_ns: 2 };

#[test]
fn calls_end_in_any_order_each_with_its_own_answer() {
    let mut pair = Pair::new(shape(CallKind::Unary, 1));
    pair.start(0, 10);
    pair.start(7, 11);
    for (stream, sequence) in [(1, 11), (0, 10)] {
        pair.respond(stream, b"200", false);
        pair.server.send_data(pair.opened[stream], &Pair::message(sequence), false);
        pair.finish(stream, b"0");
    }
    let ended = [over(7, SERVED), over(0, SERVED)];
    assert_eq!(pair.send_server_bytes(), ended);
    assert!(pair.link.is_idle());
}

/// A request counts as written when its last byte was, and not while a window holds some
/// of it back or the socket has no room.
#[test]
fn a_request_is_written_with_its_last_byte() {
    let mut pair = Pair::new(of_payload(CallKind::Unary, 1, vec![7; 100_000]));
    let written = |pair: &Pair| pair.link.calls[0].as_ref().unwrap().written_ns;
    assert!(pair.link.start(call(0), 10, &pair.origin, &pair.shape));
    let room = pair.link.http.output().len() - 1;
    pair.link.wrote(room, 1);
    pair.link.wrote(1, 2);
    assert_eq!(written(&pair), None, "the window is 65,535 bytes");
    let mut pair = Pair::new(shape(CallKind::Unary, 1));
    assert!(pair.link.start(call(0), 10, &pair.origin, &pair.shape));
    let room = pair.link.http.output().len() - 1;
    pair.link.wrote(room, 1);
    assert_eq!(written(&pair), None);
    pair.link.wrote(1, 2);
    assert_eq!(written(&pair), Some(2));
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let two = [Pair::message(10), Pair::message(10)].concat();
    for size in 1..two.len() {
        let mut pair = Pair::new(shape(CallKind::ServerStream, 2));
        pair.start(0, 10);
        pair.respond(0, b"200", false);
        for piece in two.chunks(size) {
            pair.server.send_data(pair.opened[0], piece, false);
        }
        pair.finish(0, b"0");
        let served = Ended::Served { backend: 0, queued_ns: 2, service_ns: 4 };
        assert_eq!(pair.send_server_bytes(), [over(0, served)], "pieces of {size}");
    }
}

#[test]
fn what_trailers_say_of_load_is_told_once() {
    let mut pair = Pair::new(shape(CallKind::Unary, 1));
    (0..2).for_each(|slot| pair.start(slot, 10));
    let report = LoadReport { calls_per_second: 7.0, ..LoadReport::default() };
    pair.respond(0, b"200", false);
    let text = report.to_trailer();
    let mut list = HeaderList::new();
    list.push(Field::new(b"grpc-status", b"5"));
    list.push(Field::new(LOAD_REPORT_TRAILER.as_bytes(), text.as_bytes()));
    pair.server.send_trailers(pair.opened[0], &list);
    assert_eq!(pair.send_server_bytes(), [over(0, failed(5))]);
    assert_eq!(pair.link.take_report(), Some(report));
    pair.respond(1, b"200", true);
    assert_eq!(pair.send_server_bytes(), [over(1, failed(5))]);
    assert_eq!(pair.link.take_report(), None);
}

#[test]
fn what_is_no_ok_is_a_failure_that_says_why() {
    let mut pair = Pair::new(shape(CallKind::Unary, 1));
    (0..5).for_each(|slot| pair.start(slot, 10));
    // A head that is also the end; a status after a good answer; a proxy's
    // HTTP error; a reset; an end in the middle of a message.
    pair.respond(0, b"200", true);
    pair.respond(1, b"200", false);
    pair.server.send_data(pair.opened[1], &Pair::message(10), false);
    pair.finish(1, b"13");
    pair.respond(2, b"503", false);
    pair.finish(2, b"0");
    pair.server.reset(pair.opened[3], Reason::REFUSED_STREAM);
    pair.respond(4, b"200", false);
    pair.server.send_data(pair.opened[4], &Pair::message(10)[..9], false);
    pair.finish(4, b"0");
    let wrong = Ended::Failed(FailureKind::WrongPayload);
    let mut ended = pair.send_server_bytes();
    ended.sort_by_key(|happened| match happened {
        Happened::Ended(call, ..) => call.slot,
        _ => u32::MAX,
    });
    let expected = [failed(5), failed(13), failed(14), failed(14), wrong];
    for (slot, (happened, expected)) in (0..).zip(ended.iter().zip(expected)) {
        assert_eq!(*happened, over(slot, expected));
    }
    assert_eq!(ended.len(), 5);
}

#[test]
fn calls_that_a_leaving_server_has_not_seen_are_handed_back() {
    let mut pair = Pair::new(shape(CallKind::Unary, 1));
    pair.start(0, 10);
    pair.server.finish_drain();
    // Sent before the client heard of it.
    assert!(pair.link.start(call(1), 11, &pair.origin, &pair.shape));
    let happened = pair.send_server_bytes();
    assert_eq!(happened, [Happened::Leaving, Happened::Unprocessed(call(1), 11)]);
    assert!(!pair.link.can_start());
    pair.respond(0, b"200", false);
    pair.server.send_data(pair.opened[0], &Pair::message(10), false);
    pair.finish(0, b"0");
    assert_eq!(pair.send_server_bytes(), [over(0, SERVED)]);
    assert!(pair.link.is_leaving() && pair.link.is_idle());
}

#[test]
fn a_long_stream_of_requests_waits_for_its_window_and_not_in_memory() {
    let mut pair = Pair::new(of_payload(CallKind::ClientStream, 1_000, vec![7; 1_000]));
    pair.start(0, 0);
    assert!(pair.link.http.waiting_bytes(pair.link.calls[0].as_ref().unwrap().key) < 70_000);
    let mut credited = 0;
    let whole = 1_000 * (PREFIX_LEN + 1_000);
    while pair.received < whole {
        let before = pair.received;
        // Credit for what came since the last time.
        let bytes = (before - credited) as u32;
        credited = before;
        pair.server.release_stream(pair.opened[0], bytes);
        pair.server.release_connection(bytes);
        pair.send_server_bytes();
        pair.send_client_bytes();
        assert!(pair.received > before, "it stands still at {before}");
    }
}
