//! The cases: the four kinds of call, metadata, sizes, endings, deadlines,
//! cancellation, windows, failures of the backend, and requests that are wrong.

use h2_wire::hpack::{Encoder, EncoderOptions, Field};
use testkit::{
    replay::Step,
    script::{Act, CALL},
    wire::{self, block, code, flag, kind, setting},
};

use super::{Case, bytes::*};

pub(crate) fn all() -> Vec<Case> {
    let groups =
        [kinds(), metadata(), sizes(), codings(), statuses(), lengths(), endings(), broken()];
    let more = [refusals(), windows(), malformed()];
    groups.into_iter().chain(more).flatten().collect()
}

fn kinds() -> Vec<Case> {
    let messages = |count: usize| (0..count).flat_map(|_| message(50)).collect::<Vec<_>>();
    vec![
        Case::new("a unary call")
            .exchange(call(1, "a", &[]))
            .plan("a", answer(&[20]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a server stream of many messages")
            .exchange(call(1, "a", &[]))
            .plan("a", answer(&[100; 200]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a client stream")
            .send(open(1, "a", &[]))
            .send(body(1, &messages(30), false))
            .exchange(body(1, &messages(30), true))
            .plan("a", answer(&[20]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a bidirectional stream, message by message")
            .send([open(1, "a", &[]), body(1, &message(10), false)].concat())
            .step(Step::AwaitBytes(1, 15))
            .send(body(1, &message(1_000), false))
            .step(Step::AwaitBytes(1, 1_020))
            .exchange(body(1, &message(3), true))
            .plan("a", echo())
            .ends("1 grpc 0", "a whole"),
        Case::new("a request whose end is an empty frame")
            .send([open(1, "a", &[]), body(1, &message(10), false)].concat())
            .exchange(body(1, &[], true))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("ten calls at once")
            .send((0..10).flat_map(|n| call(2 * n + 1, &format!("{n}"), &[])).collect())
            .step(Step::AwaitEnd(1))
            .with_each(10, |case, n| {
                case.plan(&format!("{n}"), answer(&[n])).step(Step::AwaitEnd(2 * n as u32 + 1))
            })
            .ends(
                "1 grpc 0, 3 grpc 0, 5 grpc 0, 7 grpc 0, 9 grpc 0, 11 grpc 0, 13 grpc 0, 15 grpc 0, 17 grpc 0, 19 grpc 0",
                "0 whole, 1 whole, 2 whole, 3 whole, 4 whole, 5 whole, 6 whole, 7 whole, 8 whole, 9 whole",
            ),
    ]
}

impl Case {
    fn with_each(self, count: usize, change: impl Fn(Self, usize) -> Self) -> Self {
        (0..count).fold(self, change)
    }
}

fn metadata() -> Vec<Case> {
    let response = [
        ("x-one", "1"),
        ("x-many", "a"),
        ("x-other", "-"),
        ("x-many", "b"),
        ("x-bytes-bin", "AAEC/f7/,BBBB"),
        ("x-empty", ""),
        ("x-latin", "gr\u{fc}n"),
    ];
    vec![
        Case::new("request metadata, repeated, binary and empty")
            .exchange(call(1, "a", &response))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("trace context")
            .exchange(call(
                1,
                "a",
                &[
                    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                    ("tracestate", "congo=t61rcWkgMzE"),
                    ("tracestate", "rojo=00f067aa0ba902b7"),
                    ("baggage", "user=1"),
                ],
            ))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("response metadata in the head and in the trailers")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, head(&response), trailers("0", &response)])
            .ends("1 grpc 0", "a whole"),
        Case::new("cookies in crumbs")
            .exchange(call(1, "a", &[("cookie", "a=1"), ("cookie", "b=2")]))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("hop and forwarding headers that HTTP/2 knows")
            .exchange(call(1, "a", &[("x-forwarded-for", "10.0.0.1"), ("via", "2 edge")]))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a request without an authority")
            .exchange({
                let list: Vec<_> = request_fields("a", &[]);
                let list: Vec<_> =
                    list.into_iter().filter(|(name, _)| name != ":authority").collect();
                [wire::headers(1, &block(&list), false), body(1, &message(1), true)].concat()
            })
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a host in place of an authority")
            .exchange({
                let list: Vec<_> = request_fields("a", &[("host", "named.example")]);
                let list: Vec<_> =
                    list.into_iter().filter(|(name, _)| name != ":authority").collect();
                [wire::headers(1, &block(&list), false), body(1, &message(1), true)].concat()
            })
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole")
            .hyper(
                "1 grpc 0",
                "a whole",
                "hyper's client needs an authority and makes one of `host`; relay leaves both as they are",
            ),
        Case::new("request trailers")
            .send([open(1, "a", &[]), body(1, &message(9), false)].concat())
            .exchange(wire::headers(1, &block(&[("x-last", "1"), ("x-sum-bin", "AAE=")]), true))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
    ]
}

fn sizes() -> Vec<Case> {
    vec![
        Case::new("empty messages")
            .exchange([open(1, "a", &[]), body(1, &message(0), true)].concat())
            .plan("a", answer(&[0, 0, 0]))
            .ends("1 grpc 0", "a whole"),
        Case::new("no message at all")
            .exchange(wire::headers(1, &block(&request_fields("a", &[])), true))
            .plan("a", answer(&[]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a request of 4 MiB")
            .exchange([open(1, "a", &[]), body(1, &message(4 << 20), true)].concat())
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a response of 4 MiB")
            .exchange(call(1, "a", &[]))
            .plan("a", answer(&[4 << 20]))
            .ends("1 grpc 0", "a whole"),
        Case::new("1 MiB both ways at once")
            .exchange([open(1, "a", &[]), body(1, &message(1 << 20), true)].concat())
            .plan("a", echo())
            .ends("1 grpc 0", "a whole"),
        Case::new("a message in pieces of one byte")
            .exchange({
                let bytes = message(60);
                let pieces = bytes.iter().flat_map(|byte| wire::data(1, &[*byte], false));
                [open(1, "a", &[]), pieces.collect(), body(1, &[], true)].concat()
            })
            .plan("a", echo())
            .ends("1 grpc 0", "a whole"),
        Case::new("padded frames")
            .exchange({
                let list = block(&request_fields("a", &[]));
                let padded = [&[3][..], &list, &[0; 3]].concat();
                let flags = flag::END_HEADERS | flag::PADDED;
                let head = wire::frame(kind::HEADERS, flags, 1, &padded);
                let padded = [&[200][..], &message(30), &[0; 200]].concat();
                let data = wire::frame(kind::DATA, flag::END_STREAM | flag::PADDED, 1, &padded);
                [head, data].concat()
            })
            .plan("a", echo())
            .ends("1 grpc 0", "a whole"),
    ]
}

/// The same request, in the codings that HPACK has for it.
fn codings() -> Vec<Case> {
    let encoded = |huffman: bool| {
        let mut encoder = Encoder::new(EncoderOptions { max_table_bytes: 4_096, huffman });
        let mut bytes = Vec::new();
        for (stream, name) in [(1, "a"), (3, "b"), (5, "c")] {
            let list = request_fields(name, &[("x-long", "a value that is worth a place")]);
            let mut block = Vec::new();
            let fields =
                list.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes()));
            encoder.encode(fields, &mut block);
            bytes.extend(wire::headers(stream, &block, false));
            bytes.extend(body(stream, &message(3), true));
        }
        bytes
    };
    let three = |case: Case| {
        ["a", "b", "c"]
            .into_iter()
            .fold(case, |case, name| case.plan(name, answer(&[2])))
            .step(Step::AwaitEnd(1))
            .step(Step::AwaitEnd(3))
            .step(Step::AwaitEnd(5))
            .ends("1 grpc 0, 3 grpc 0, 5 grpc 0", "a whole, b whole, c whole")
    };
    vec![
        three(Case::new("fields from the dynamic table").send(encoded(false))),
        three(Case::new("fields in Huffman code").send(encoded(true))),
        Case::new("a block in several frames, and a priority")
            .exchange({
                let list = block(&request_fields("a", &[("x-pad", &"p".repeat(3_000))]));
                let (first, rest) = list.split_at(100);
                let (second, third) = rest.split_at(1_000);
                let first = [&[0, 0, 0, 0, 15][..], first].concat();
                [
                    wire::frame(kind::HEADERS, flag::PRIORITY, 1, &first),
                    wire::frame(kind::CONTINUATION, 0, 1, second),
                    wire::frame(kind::CONTINUATION, flag::END_HEADERS, 1, third),
                    body(1, &message(1), true),
                ]
                .concat()
            })
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a table that is emptied in between")
            .send({
                let list = wire::indexed_literal("x-kept", "value");
                let fields = |name| block(&request_fields(name, &[]));
                let first = [fields("a"), list].concat();
                let second =
                    [wire::table_size_update(0), wire::table_size_update(4_096), fields("b")];
                [
                    wire::headers(1, &first, false),
                    body(1, &message(1), true),
                    wire::headers(3, &second.concat(), false),
                    body(3, &message(1), true),
                ]
                .concat()
            })
            .plan("a", answer(&[1]))
            .plan("b", answer(&[1]))
            .step(Step::AwaitEnd(1))
            .step(Step::AwaitEnd(3))
            .ends("1 grpc 0, 3 grpc 0", "a whole, b whole"),
    ]
}

fn statuses() -> Vec<Case> {
    let details = [("grpc-message", "100%25 wrong"), ("grpc-status-details-bin", "CAUSBG5vcGU=")];
    vec![
        Case::new("trailers only")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, trailers_only("5", &details)])
            .ends("1 grpc 5", "a whole"),
        Case::new("trailers only, before the request has ended")
            .send([open(1, "a", &[]), body(1, &message(9), false)].concat())
            .step(Step::AwaitEnd(1))
            .plan("a", vec![Act::AwaitBytes(14), trailers_only("7", &[])])
            .ends("1 grpc 7", "a reset 0")
            .hyper("1 grpc 7", "a reset 8", "hyper drops the request's body, which is CANCEL"),
        Case::new("a status after messages")
            .exchange(call(1, "a", &[]))
            .plan(
                "a",
                vec![Act::AwaitEnd, head(&[]), Act::Data(message(9)), trailers("13", &details)],
            )
            .ends("1 grpc 13", "a whole"),
        Case::new("a response without a status")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, head(&[]), Act::EndData(message(9))])
            .ends("1 http 200", "a whole"),
        Case::new("an HTTP error in place of gRPC")
            .exchange(call(1, "a", &[]))
            .plan(
                "a",
                vec![
                    Act::AwaitEnd,
                    bare_head(&[(":status", "503"), ("content-type", "text/plain")]),
                    Act::EndData(b"busy".to_vec()),
                ],
            )
            .ends("1 http 503", "a whole"),
        Case::new("an answer before the request, which then goes on")
            .send(open(1, "a", &[]))
            .step(Step::AwaitHead(1))
            .exchange(body(1, &message(9), true))
            .plan(
                "a",
                vec![
                    head(&[("x-early", "1")]),
                    Act::AwaitEnd,
                    Act::Data(message(3)),
                    trailers("0", &[]),
                ],
            )
            .ends("1 grpc 0", "a whole"),
        Case::new("an informational response")
            .exchange(call(1, "a", &[]))
            .plan("a", {
                let mut plan = vec![bare_head(&[(":status", "103"), ("link", "</a>")])];
                plan.extend(answer(&[3]));
                plan
            })
            .ends("1 grpc 0", "a whole")
            .hyper("1 grpc 0", "a whole", "hyper's client keeps 1xx responses to itself"),
    ]
}

/// `content-length` (RFC 9113, section 8.1.1).
fn lengths() -> Vec<Case> {
    let plan =
        |length: &str, end: Act| vec![Act::AwaitEnd, head(&[("content-length", length)]), end];
    vec![
        Case::new("a request whose content-length is right")
            .exchange(call(1, "a", &[("content-length", "25")]))
            .plan("a", answer(&[1]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a request with less than its content-length")
            .send(open(1, "a", &[("content-length", "26")]))
            .step(Step::AwaitHead(1))
            .exchange(body(1, &message(20), true))
            .plan("a", vec![head(&[])])
            .ends("1 reset 1", "a reset 1")
            .hyper(
                "1 reset 1",
                "a reset 8",
                "hyper drops the call, which is CANCEL, whatever the client's mistake was",
            ),
        Case::new("a response whose content-length is right")
            .exchange(call(1, "a", &[]))
            .plan("a", plan("8", Act::EndData(message(3))))
            .ends("1 http 200", "a whole"),
        Case::new("a response with more than its content-length")
            .exchange(call(1, "a", &[]))
            .plan("a", plan("7", Act::EndData(message(3))))
            .ends("1 grpc 14", "a whole or a reset 1"),
        Case::new("a response with less than its content-length")
            .exchange(call(1, "a", &[]))
            .plan("a", plan("9", Act::EndData(message(3))))
            .ends("1 grpc 14", "a whole or a reset 1"),
        Case::new("trailers before content-length is reached")
            .exchange(call(1, "a", &[]))
            .plan("a", {
                let mut plan = plan("9", Act::Data(message(3)));
                plan.push(trailers("0", &[]));
                plan
            })
            .ends("1 grpc 14", "a whole or a reset 1"),
        Case::new("a head alone that promises content")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, trailers_only("0", &[("content-length", "5")])])
            .ends("1 grpc 14", "a whole or a reset 1"),
        Case::new("a head alone with a content-length of 0")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, trailers_only("5", &[("content-length", "0")])])
            .ends("1 grpc 5", "a whole"),
        Case::new("HEAD, 204 and 304 have a length and no content")
            .config(|config| config.calls.forward_http = true)
            .send({
                let request = |stream, method: &str, name: &str| {
                    let list = fields(&[
                        (":method", method),
                        (":scheme", "http"),
                        (":path", "/"),
                        (":authority", "test"),
                        (CALL, name),
                    ]);
                    wire::headers(stream, &block(&list), true)
                };
                [request(1, "HEAD", "a"), request(3, "GET", "b"), request(5, "GET", "c")].concat()
            })
            .plan(
                "a",
                vec![Act::EndHeaders(fields(&[(":status", "200"), ("content-length", "99")]))],
            )
            .plan(
                "b",
                vec![Act::EndHeaders(fields(&[(":status", "304"), ("content-length", "99")]))],
            )
            .plan("c", vec![Act::EndHeaders(fields(&[(":status", "204")]))])
            .step(Step::AwaitEnd(1))
            .step(Step::AwaitEnd(3))
            .step(Step::AwaitEnd(5))
            .ends("1 http 200, 3 http 304, 5 http 204", "a whole, b whole, c whole"),
    ]
}

/// Deadlines and cancellation.
fn endings() -> Vec<Case> {
    let begun = || open(1, "a", &[]);
    vec![
        Case::new("a deadline before the response")
            .exchange(call(1, "a", &[("grpc-timeout", "60m")]))
            .plan("a", vec![])
            .ends("1 grpc 4", "a reset 8"),
        Case::new("a deadline between messages")
            .exchange(call(1, "a", &[("grpc-timeout", "200m")]))
            .plan("a", vec![head(&[]), Act::Data(message(5))])
            .ends("1 grpc 4", "a reset 8"),
        Case::new("a deadline inside a message")
            .exchange(call(1, "a", &[("grpc-timeout", "200m")]))
            .plan("a", vec![head(&[]), Act::Data(message(50)[..30].to_vec())])
            .ends("1 reset 8", "a reset 8"),
        Case::new("a deadline that has time")
            .exchange(call(1, "a", &[("grpc-timeout", "1H")]))
            .plan("a", answer(&[5]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a deadline of nothing")
            .exchange(call(1, "a", &[("grpc-timeout", "0n")]))
            .ends("1 grpc 4", ""),
        Case::new("a malformed deadline")
            .exchange(call(1, "a", &[("grpc-timeout", "soon")]))
            .ends("1 grpc 13", ""),
        Case::new("a client that cancels before the response")
            .send([begun(), body(1, &message(9), false)].concat())
            .step(Step::RoundTrip)
            .send(call(3, "b", &[]))
            .step(Step::AwaitEnd(3))
            .send(wire::reset(1, code::CANCEL))
            .step(Step::RoundTrip)
            .plan("a", vec![])
            .plan("b", answer(&[1]))
            .ends("3 grpc 0", "a reset 8, b whole"),
        Case::new("a client that cancels between messages")
            .send(begun())
            .step(Step::AwaitBytes(1, 14))
            .send(wire::reset(1, code::CANCEL))
            .step(Step::RoundTrip)
            .plan("a", vec![head(&[]), Act::Data(message(9))])
            .ends("1 open", "a reset 8"),
        Case::new("a client that resets a whole request with another code")
            .send(call(1, "a", &[]))
            .step(Step::AwaitHead(1))
            .send(wire::reset(1, code::INTERNAL_ERROR))
            .step(Step::RoundTrip)
            .plan("a", vec![head(&[])])
            .ends("1 open", "a reset 2")
            .hyper("1 open", "a reset 8", "hyper drops the call without saying what the code was"),
    ]
}

/// Why a head, or a part of a body, may be missing before a reset.
const UNWRITTEN: &str = "h2 drops what it has not written yet of a stream that is reset";

/// Backends that fail.
fn broken() -> Vec<Case> {
    let part = || Act::Data(message(50)[..30].to_vec());
    let case = |name: &str, plan: Vec<Act>, client: &str, backend: &str| {
        Case::new(name).exchange(call(1, "a", &[])).plan("a", plan).ends(client, backend)
    };
    vec![
        case("a reset before the head", vec![Act::AwaitEnd, Act::Reset(2)], "1 reset 2", "a whole"),
        case(
            "a reset after the head",
            vec![Act::AwaitEnd, head(&[]), Act::Reset(8)],
            "1 reset 8",
            "a whole",
        )
        .hyper("1 reset 8", "a whole", UNWRITTEN),
        case(
            "a reset inside a message",
            vec![Act::AwaitEnd, head(&[]), part(), Act::Reset(11)],
            "1 reset 11",
            "a whole",
        )
        .hyper("1 reset 11", "a whole", UNWRITTEN),
        case("a close before the head", vec![Act::AwaitEnd, Act::Close], "1 grpc 14", "a whole"),
        case(
            "a close between messages",
            vec![Act::AwaitEnd, head(&[]), Act::Data(message(9)), Act::Close],
            "1 grpc 14",
            "a whole",
        ),
        case(
            "a close inside a message",
            vec![Act::AwaitEnd, head(&[]), part(), Act::Close],
            "1 reset 2",
            "a whole",
        )
        .hyper("1 reset 2", "a whole", UNWRITTEN),
        case(
            "trailers and then a reset of nothing",
            {
                let mut plan = answer(&[9]);
                plan.push(Act::Reset(code::NO_ERROR));
                plan
            },
            "1 grpc 0",
            "a whole",
        ),
        Case::new("a whole response to a part of a request, and a reset without error")
            .exchange([open(1, "a", &[]), body(1, &message(9), false)].concat())
            .plan("a", {
                let mut plan = vec![Act::AwaitBytes(14), head(&[]), Act::Data(message(9))];
                plan.extend([trailers("0", &[]), Act::Reset(code::NO_ERROR)]);
                plan
            })
            .ends("1 grpc 0", "a closed"),
        case(
            "a response without a status line",
            vec![Act::AwaitEnd, bare_head(&[("content-type", "application/grpc")])],
            "1 grpc 14",
            "a reset 1",
        ),
        case(
            "DATA before a head",
            vec![Act::AwaitEnd, Act::Data(message(3))],
            "1 grpc 14",
            "a reset 1",
        )
        .hyper("1 grpc 14", "a whole", "h2 ends the connection for it"),
        case(
            "a frame no one may send",
            vec![Act::AwaitEnd, Act::Raw(wire::frame(kind::DATA, 0, 0, b"x"))],
            "1 grpc 14",
            "a whole",
        ),
        case(
            "a response with a field that HTTP/2 forbids",
            vec![Act::AwaitEnd, head(&[("connection", "close")])],
            "1 grpc 14",
            "a reset 1",
        ),
    ]
}

/// What is tried again.
fn refusals() -> Vec<Case> {
    let refused = || vec![Act::AwaitEnd, Act::Reset(code::REFUSED_STREAM)];
    vec![
        Case::new("a refusal, and then an answer")
            .exchange(call(1, "a", &[("x-kept", "1")]))
            .plan("a", refused())
            .plan("a", answer(&[5]))
            .ends("1 grpc 0", "a whole, a whole"),
        Case::new("refusals without end")
            .exchange(call(1, "a", &[]))
            .plan("a", refused())
            .ends("1 grpc 14", "a whole, a whole, a whole, a whole"),
        Case::new("a GOAWAY that leaves the call out")
            .exchange(call(1, "a", &[]))
            .plan("a", vec![Act::AwaitEnd, Act::GoAway { leaves_out: true }])
            .plan("a", answer(&[5]))
            .ends("1 grpc 0", "a closed, a whole"),
        Case::new("a GOAWAY that lets the call end")
            .exchange(call(1, "a", &[]))
            .plan("a", {
                let mut plan = vec![Act::AwaitEnd, Act::GoAway { leaves_out: false }];
                plan.extend(answer(&[5]));
                plan
            })
            .ends("1 grpc 0", "a whole"),
        Case::new("a refusal of what has outgrown its buffer")
            .exchange([open(1, "a", &[]), body(1, &message(100_000), true)].concat())
            .plan("a", vec![Act::AwaitEnd, Act::Reset(code::REFUSED_STREAM)])
            .ends("1 grpc 14", "a whole"),
    ]
}

/// Flow control.
fn windows() -> Vec<Case> {
    vec![
        Case::new("a client whose windows are small")
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 100)])
            .exchange(call(1, "a", &[]))
            .plan("a", answer(&[5_000, 5_000]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a client that gives no window, and a call beside it")
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])
            .send([call(1, "a", &[]), call(3, "b", &[])].concat())
            .step(Step::AwaitEnd(3))
            .plan("a", answer(&[5]))
            .plan("b", vec![Act::AwaitEnd, trailers_only("5", &[])])
            .step(Step::AwaitHead(1))
            .ends("1 open, 3 grpc 5", "a whole, b whole"),
        Case::new("a window that comes late")
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])
            .send(call(1, "a", &[]))
            .step(Step::AwaitHead(1))
            .exchange(wire::window_update(1, 1_000))
            .plan("a", answer(&[5]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a window that is opened by SETTINGS")
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])
            .send(call(1, "a", &[]))
            .step(Step::AwaitHead(1))
            .exchange(wire::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]))
            .plan("a", answer(&[500]))
            .ends("1 grpc 0", "a whole"),
        Case::new("a backend whose windows are small")
            .backend_settings(&[(setting::INITIAL_WINDOW_SIZE, 64)])
            .exchange([open(1, "a", &[]), body(1, &message(5_000), true)].concat())
            .plan("a", echo())
            .ends("1 grpc 0", "a whole"),
        Case::new("a backend that takes one call at a time")
            .backend_settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)])
            .send([call(1, "a", &[]), call(3, "b", &[])].concat())
            .step(Step::AwaitEnd(1))
            .step(Step::AwaitEnd(3))
            .plan("a", answer(&[5]))
            .plan("b", answer(&[5]))
            .ends("1 grpc 0, 3 grpc 0", "a whole, b whole"),
    ]
}

/// Requests that are wrong, or not for us.
fn malformed() -> Vec<Case> {
    let raw = |name: &str, list: &[(&str, &str)], client: &str| {
        let bytes = wire::headers(1, &block(list), true);
        Case::new(name).exchange(bytes).ends(client, "")
    };
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "t")];
    let with = |more: &[(&'static str, &'static str)]| [&pseudo[..], more].concat();
    let grpc = ("content-type", "application/grpc");
    vec![
        raw("a request that is not gRPC", &with(&[("content-type", "text/plain")]), "1 http 415"),
        raw("a request without a type", &with(&[]), "1 http 415"),
        raw("a request without a path", &[pseudo[0], pseudo[1], pseudo[3], grpc], "1 reset 1"),
        raw("a request without path and authority", &[pseudo[0], pseudo[1], grpc], "1 reset 1"),
        raw("an upper-case field name", &with(&[grpc, ("X-Upper", "1")]), "1 reset 1").hyper(
            "1 closed",
            "",
            "h2 ends the connection for it",
        ),
        raw("a connection header", &with(&[grpc, ("connection", "close")]), "1 reset 1"),
        raw("te other than trailers", &with(&[grpc, ("te", "gzip")]), "1 reset 1"),
        raw("a pseudo-header of responses", &with(&[grpc, (":status", "200")]), "1 reset 1"),
        raw("a value that ends in a space", &with(&[grpc, ("x", "a ")]), "1 reset 1"),
        raw("two hosts", &with(&[grpc, ("host", "other")]), "1 reset 1"),
        Case::new("headers over the limit in number")
            .exchange({
                let names: Vec<_> = (0..101).map(|n| format!("x-{n}")).collect();
                let more: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
                call(1, "a", &more)
            })
            .ends("1 grpc 8", ""),
        Case::new("headers over the limit in size")
            .exchange(call(1, "a", &[("x-large", &"v".repeat(17_000))]))
            .ends("1 grpc 8", ""),
        Case::new("a second request that is wrong does not harm the first")
            .send(open(1, "a", &[]))
            .send(wire::headers(3, &block(&with(&[grpc, ("te", "gzip")])), true))
            .step(Step::AwaitEnd(3))
            .exchange(body(1, &message(2), true))
            .plan("a", answer(&[5]))
            .ends("1 grpc 0, 3 reset 1", "a whole"),
    ]
}
