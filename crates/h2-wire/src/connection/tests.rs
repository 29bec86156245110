//! Two of our own ends against each other, and one against raw frames. What the `h2` crate makes
//! of our bytes is tested in `tests/`.

mod unacknowledged;

use super::*;
use crate::{
    error::{Error, Reason},
    frame::{Frame, LARGEST_STREAM_ID, parse},
    hpack::{EncoderOptions, Field},
};

type Conn = Connection<u32>;

fn options(role: Role) -> Options {
    Options { max_streams: 3, ..Options::new(role) }
}

fn end(options: Options) -> Conn {
    Connection::new(Arc::new(options))
}

const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "here")];

fn fields<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Field<'a>> {
    pairs.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes()))
}

/// An event without its borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request(StreamKey, bool),
    OverLimit(StreamKey),
    Response(u32, bool),
    Informational(u32),
    Trailers(u32),
    Data(u32, Vec<u8>, bool),
    Reset(u32, Reason),
    Broken(u32, Reason),
    Settings,
    Acknowledged,
    GoAway(u32, Reason),
    DrainAcknowledged,
    PingAcknowledged,
}

fn seen(event: Event<'_, u32>) -> Seen {
    match event {
        Event::Request { key, over_limit: true, .. } => Seen::OverLimit(key),
        Event::Request { key, end_stream, .. } => Seen::Request(key, end_stream),
        Event::Response { user, end_stream, .. } => Seen::Response(user, end_stream),
        Event::Informational { user, .. } => Seen::Informational(user),
        Event::Trailers { user, .. } => Seen::Trailers(user),
        Event::Data { user, payload, end_stream, .. } => {
            Seen::Data(user, payload.to_vec(), end_stream)
        }
        Event::Reset { user, reason } => Seen::Reset(user, reason),
        Event::Broken { user, reason } => Seen::Broken(user, reason),
        Event::Settings => Seen::Settings,
        Event::Acknowledged => Seen::Acknowledged,
        Event::GoAway { last_stream, reason, .. } => Seen::GoAway(last_stream, reason),
        Event::DrainAcknowledged => Seen::DrainAcknowledged,
        Event::PingAcknowledged => Seen::PingAcknowledged,
    }
}

/// Reads all of `input`. Streams that are opened are known by their identifiers.
fn read(connection: &mut Conn, mut input: &[u8]) -> Result<Vec<Seen>, Error> {
    let mut found = Vec::new();
    loop {
        let Read { consumed, event } = connection.read(input)?;
        input = &input[consumed..];
        let Some(event) = event else {
            assert!(input.is_empty(), "{} bytes left", input.len());
            return Ok(found);
        };
        if let Event::Request { key, .. } = event {
            connection.set_user(key, key.id());
        }
        found.push(seen(event));
    }
}

/// Hands over all output of one end to the other.
fn pass(from: &mut Conn, to: &mut Conn) -> Vec<Seen> {
    from.pump(&mut Vec::new());
    let bytes = from.output().to_vec();
    from.wrote(bytes.len());
    read(to, &bytes).expect("well-formed")
}

/// A client and a server that have greeted each other.
fn pair(client: Options, server: Options) -> (Conn, Conn) {
    let (mut client, mut server) = (end(client), end(server));
    assert_eq!(pass(&mut client, &mut server), [Seen::Settings]);
    assert_eq!(pass(&mut server, &mut client), [Seen::Settings, Seen::Acknowledged]);
    assert_eq!(pass(&mut client, &mut server), [Seen::Acknowledged]);
    (client, server)
}

fn default_pair() -> (Conn, Conn) {
    pair(options(Role::Client), options(Role::Server))
}

/// A server that was greeted by a raw client, with its greeting thrown away.
fn raw_server(options: Options) -> Conn {
    let mut server = end(options);
    let mut hello = PREFACE.to_vec();
    frame::settings(&mut hello, &[]);
    frame::settings_ack(&mut hello);
    assert_eq!(read(&mut server, &hello), Ok(vec![Seen::Settings, Seen::Acknowledged]));
    server.wrote(server.output().len());
    server
}

/// A client that has had a server's SETTINGS.
fn raw_client(options: Options) -> Conn {
    let mut client = end(options);
    let mut hello = Vec::new();
    frame::settings(&mut hello, &[]);
    read(&mut client, &hello).expect("SETTINGS are fine");
    client
}

/// HEADERS of a raw client.
fn raw_request(id: u32, end_stream: bool, more: &[(&str, &str)]) -> Vec<u8> {
    raw_headers(id, end_stream, &[&REQUEST[..], more].concat())
}

fn raw_headers(id: u32, end_stream: bool, list: &[(&str, &str)]) -> Vec<u8> {
    // Without a table, so that each block stands on its own.
    let options = EncoderOptions { max_table_bytes: 4_096, huffman: false };
    let mut block = Vec::new();
    for field in fields(list) {
        let mut field = field;
        field.never_indexed = true;
        Encoder::new(options).encode([field], &mut block);
    }
    let mut bytes = Vec::new();
    frame::headers(&mut bytes, id, &block, end_stream, 16_384);
    bytes
}

/// The frames in an output.
fn frames(connection: &Conn) -> Vec<Frame<'_>> {
    let (mut rest, mut found) = (connection.output(), Vec::new());
    while let Some((frame, length)) = parse(rest, 1 << 20).expect("well-formed") {
        found.push(frame);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    found
}

fn open(client: &mut Conn, user: u32, end_stream: bool) -> StreamKey {
    let key = client.open(user).expect("a place");
    client.send_headers(key, None, || fields(&REQUEST), end_stream);
    key
}

#[test]
fn a_call_goes_there_and_back() {
    let (mut client, mut server) = default_pair();
    let sent = open(&mut client, 7, false);
    assert_eq!(client.send_data(sent, b"question", true), 8);
    let found = pass(&mut client, &mut server);
    let Seen::Request(key, false) = found[0] else { panic!("{found:?}") };
    assert_eq!(found[1..], [Seen::Data(1, b"question".to_vec(), true)]);
    assert_eq!(server.headers().value_of(crate::hpack::Name::Path), Some(&b"/a/b"[..]));
    server.send_headers(key, None, || fields(&[(":status", "103")]), false);
    server.send_headers(key, None, || fields(&[(":status", "200")]), false);
    assert_eq!(server.send_data(key, b"answer", false), 6);
    server.send_trailers(key, &fields(&[("grpc-status", "0")]).collect());
    let expected = [
        Seen::Informational(7),
        Seen::Response(7, false),
        Seen::Data(7, b"answer".to_vec(), false),
        Seen::Trailers(7),
    ];
    assert_eq!(pass(&mut server, &mut client), expected);
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
    assert!(!client.is_open(sent) && !server.is_open(key));
}

#[test]
fn data_waits_for_windows_and_ends_in_order() {
    let mut server_options = options(Role::Server);
    server_options.stream_window_bytes = 10;
    let (mut client, mut server) = pair(options(Role::Client), server_options);
    let key = open(&mut client, 7, false);
    assert_eq!(client.send_data(key, b"0123456789abcdef", false), 10);
    assert_eq!(client.send_data(key, b"ghij", false), 0);
    client.send_trailers(key, &fields(&[("a", "b")]).collect());
    assert_eq!(client.waiting_bytes(key), 10);
    assert_eq!(client.all_waiting_bytes(), 10 + 34, "and the trailers, as the RFC counts them");
    let found = pass(&mut client, &mut server);
    let Seen::Request(there, _) = found[0] else { panic!("{found:?}") };
    assert_eq!(found[1..], [Seen::Data(1, b"0123456789".to_vec(), false)]);
    let mut moved = Vec::new();
    client.pump(&mut moved);
    assert_eq!(moved, [], "no window, no move");
    server.release_stream(there, 6);
    assert_eq!(pass(&mut server, &mut client), []);
    client.pump(&mut moved);
    assert_eq!(moved, [Flushed { user: 7, bytes: 6 }]);
    assert_eq!(pass(&mut client, &mut server), [Seen::Data(1, b"abcdef".to_vec(), false)]);
    server.release_stream(there, 10);
    pass(&mut server, &mut client);
    let rest = [Seen::Data(1, b"ghij".to_vec(), false), Seen::Trailers(1)];
    assert_eq!(pass(&mut client, &mut server), rest);
}

#[test]
fn streams_share_the_connection_window_in_turns() {
    let (mut client, mut server) = default_pair();
    let keys = [open(&mut client, 1, false), open(&mut client, 2, false)];
    let (first, second) = (client.send_data(keys[0], &[0; 60_000], true), keys[1]);
    assert_eq!(first, 60_000);
    assert_eq!(client.send_data(second, &[1; 50_000], true), 5_535);
    pass(&mut client, &mut server);
    let mut moved = Vec::new();
    client.pump(&mut moved);
    assert!(moved.is_empty() && client.is_window_awaited());
    server.release_connection(60_000);
    pass(&mut server, &mut client);
    client.pump(&mut moved);
    assert_eq!(moved.iter().map(|moved| moved.bytes).sum::<usize>(), 44_465);
    assert_eq!(client.open_streams(), 2, "the server has not answered");
}

#[test]
fn output_beyond_the_bound_waits_with_its_stream() {
    let mut client_options = options(Role::Client);
    client_options.output_high_bytes = 1_000;
    let (mut client, mut server) = pair(client_options, options(Role::Server));
    let key = open(&mut client, 7, false);
    assert_eq!(client.send_data(key, &[0; 2_000], false), 2_000, "one frame may pass the bound");
    assert_eq!(client.send_data(key, &[0; 2_000], true), 0);
    pass(&mut client, &mut server);
    assert_eq!(pass(&mut client, &mut server), [Seen::Data(1, vec![0; 2_000], true)]);
}

#[test]
fn small_pieces_gather_until_the_next_turn() {
    let (mut client, mut server) = default_pair();
    let keys = [open(&mut client, 7, false), open(&mut client, 8, false)];
    pass(&mut client, &mut server);
    let mut sent = 0;
    for byte in 0..100 {
        for key in keys {
            sent += client.send_data(key, &[byte], false);
        }
    }
    assert_eq!(sent, 2, "the first of each goes at once");
    let rest = (1..100).collect::<Vec<u8>>();
    let expected = [
        Seen::Data(1, vec![0], false),
        Seen::Data(3, vec![0], false),
        Seen::Data(1, rest.clone(), false),
        Seen::Data(3, rest, false),
    ];
    assert_eq!(pass(&mut client, &mut server), expected);
    assert_eq!(client.send_data(keys[0], b"next turn", true), 9);
    assert_eq!(pass(&mut client, &mut server), [Seen::Data(1, b"next turn".to_vec(), true)]);
}

#[test]
fn places_follow_settings() {
    let mut client_options = options(Role::Client);
    (client_options.max_streams, client_options.assumed_streams) = (100, 2);
    let mut client = end(client_options);
    assert_eq!(client.stream_limit(), 2);
    let mut settings = Vec::new();
    frame::settings(&mut settings, &[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    read(&mut client, &settings).expect("well-formed");
    open(&mut client, 1, true);
    assert!(client.open(2).is_none());
    settings.clear();
    frame::settings(&mut settings, &[(setting::MAX_CONCURRENT_STREAMS, 500)]);
    read(&mut client, &settings).expect("well-formed");
    assert_eq!(client.stream_limit(), 100);
    assert!(client.open(2).is_some());
}

#[test]
fn a_change_of_the_initial_window_moves_open_streams() {
    let (mut client, mut server) = default_pair();
    let key = open(&mut client, 7, false);
    assert_eq!(client.send_data(key, &[0; 100], false), 100);
    pass(&mut client, &mut server);
    let mut bytes = Vec::new();
    frame::settings(&mut bytes, &[(setting::INITIAL_WINDOW_SIZE, 50)]);
    read(&mut client, &bytes).expect("well-formed");
    assert_eq!(client.send_data(key, &[0; 10], false), 0);
    bytes.clear();
    frame::settings(&mut bytes, &[(setting::INITIAL_WINDOW_SIZE, 105)]);
    read(&mut client, &bytes).expect("well-formed");
    let mut moved = Vec::new();
    client.pump(&mut moved);
    assert_eq!(moved, [Flushed { user: 7, bytes: 5 }]);
}

#[test]
fn resets_pass_and_what_is_under_way_is_no_fault() {
    let (mut client, mut server) = default_pair();
    let key = open(&mut client, 7, false);
    pass(&mut client, &mut server);
    client.send_data(key, b"late", false);
    let late = client.output().to_vec();
    client.wrote(late.len());
    client.reset(key, Reason::CANCEL);
    assert_eq!(pass(&mut client, &mut server), [Seen::Reset(1, Reason::CANCEL)]);
    // The other way: the server resets while the client's DATA is on its way.
    let key = open(&mut client, 8, false);
    let found = pass(&mut client, &mut server);
    let Seen::Request(there, _) = found[0] else { panic!("{found:?}") };
    client.send_data(key, b"late", false);
    server.reset(there, Reason::REFUSED_STREAM);
    assert_eq!(pass(&mut client, &mut server), []);
    assert_eq!(pass(&mut server, &mut client), [Seen::Reset(8, Reason::REFUSED_STREAM)]);
}

#[test]
fn an_early_end_is_followed_by_a_reset_without_error() {
    let (mut client, mut server) = default_pair();
    open(&mut client, 7, false);
    let found = pass(&mut client, &mut server);
    let Seen::Request(key, false) = found[0] else { panic!("{found:?}") };
    server.send_headers(key, None, || fields(&[(":status", "200")]), true);
    server.reset_after_end(key, Reason::NO_ERROR);
    let expected = [Seen::Response(7, true), Seen::Reset(7, Reason::NO_ERROR)];
    assert_eq!(pass(&mut server, &mut client), expected);
    assert_eq!(server.open_streams(), 0);
}

#[test]
fn leaving_takes_two_steps() {
    let (mut client, mut server) = default_pair();
    open(&mut client, 1, true);
    server.start_drain();
    let expected = [Seen::GoAway(LARGEST_STREAM_ID, Reason::NO_ERROR)];
    assert_eq!(pass(&mut server, &mut client), expected);
    // The call and the answer to the PING.
    let found = pass(&mut client, &mut server);
    assert!(matches!(found[..], [Seen::Request(_, true), Seen::DrainAcknowledged]), "{found:?}");
    server.finish_drain();
    assert!(!server.is_drained() && server.is_drain_finished());
    assert_eq!(pass(&mut server, &mut client), [Seen::GoAway(1, Reason::NO_ERROR)]);
    // A stream that crossed the last GOAWAY is not looked at.
    open(&mut client, 2, true);
    assert_eq!(pass(&mut client, &mut server), []);
    let Seen::Request(key, _) = found[0] else { panic!() };
    server.send_headers(key, None, || fields(&[(":status", "200")]), true);
    assert!(server.is_drained());
}

#[test]
fn signs_of_life_are_asked_for_and_given() {
    let (mut client, mut server) = default_pair();
    server.ping();
    server.ping();
    assert!(server.is_ping_outstanding());
    assert_eq!(pass(&mut server, &mut client), []);
    assert_eq!(pass(&mut client, &mut server), [Seen::PingAcknowledged]);
    assert!(!server.is_ping_outstanding());
}

#[test]
fn what_has_not_left_the_output_was_not_seen() {
    let (mut client, _) = default_pair();
    let first = open(&mut client, 1, true);
    let length = client.output().len();
    let second = open(&mut client, 2, true);
    assert!(!client.was_sent(first) && !client.was_sent(second));
    client.wrote(length);
    assert!(client.was_sent(first) && !client.was_sent(second));
    client.wrote(1);
    assert!(client.was_sent(second));
}

/// What a raw client sends, and the connection error it meets.
#[test]
fn broken_rules_of_connections_have_the_code_of_the_rfc() {
    let window = |stream, increment| {
        let mut bytes = Vec::new();
        frame::window_update(&mut bytes, stream, increment);
        bytes
    };
    let reset = |stream| {
        let mut bytes = Vec::new();
        frame::rst_stream(&mut bytes, stream, Reason::CANCEL);
        bytes
    };
    let data = |stream, length| {
        let mut bytes = Vec::new();
        frame::data(&mut bytes, stream, &vec![0; length], false);
        bytes
    };
    let done = [raw_request(1, false, &[]), reset(1)].concat();
    let cases: [(&str, Vec<u8>, Reason); 10] = [
        ("DATA on an idle stream", data(5, 1), Reason::PROTOCOL_ERROR),
        ("RST_STREAM on an idle stream", reset(5), Reason::PROTOCOL_ERROR),
        ("WINDOW_UPDATE on an idle stream", window(5, 1), Reason::PROTOCOL_ERROR),
        ("an even stream", raw_request(2, true, &[]), Reason::PROTOCOL_ERROR),
        ("a window beyond the largest", window(0, LARGEST_STREAM_ID), Reason::FLOW_CONTROL_ERROR),
        (
            "DATA after a reset of its own",
            [done.clone(), data(1, 1)].concat(),
            Reason::STREAM_CLOSED,
        ),
        (
            "HEADERS on an older stream",
            [raw_request(5, false, &[]), raw_request(3, true, &[])].concat(),
            Reason::STREAM_CLOSED,
        ),
        (
            "a frame inside a block",
            {
                let mut bytes = raw_request(1, false, &[]);
                bytes[4] &= !frame::flags::END_HEADERS;
                [bytes, window(0, 1)].concat()
            },
            Reason::PROTOCOL_ERROR,
        ),
        (
            "CONTINUATION without a block",
            Head9::new(frame::kind::CONTINUATION, 1).bytes(),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "a push",
            Head9::new(frame::kind::PUSH_PROMISE, 1).with(&[0, 0, 0, 2]),
            Reason::PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, reason) in cases {
        let mut server = raw_server(options(Role::Server));
        let error = read(&mut server, &bytes).expect_err(what);
        assert!(matches!(error, Error::Connection { .. }), "{what}: {error}");
        assert_eq!(error.reason(), reason, "{what}: {error}");
        server.fail(&error);
        assert!(matches!(frames(&server).last(), Some(Frame::GoAway { .. })), "{what}");
    }
}

/// A frame without flags.
struct Head9(frame::Head);

impl Head9 {
    fn new(kind: u8, stream: u32) -> Self {
        Self(frame::Head { length: 0, kind, flags: 0, stream })
    }

    fn with(mut self, payload: &[u8]) -> Vec<u8> {
        self.0.length = payload.len() as u32;
        [&self.0.to_bytes()[..], payload].concat()
    }

    fn bytes(self) -> Vec<u8> {
        self.with(&[])
    }
}

/// What breaks one stream and leaves the connection.
#[test]
fn broken_rules_of_streams_reset_them() {
    let update = |increment: u32| {
        let mut bytes = Vec::new();
        frame::window_update(&mut bytes, 1, increment);
        bytes
    };
    let data = |bytes: &[u8], end_stream| {
        let mut out = Vec::new();
        frame::data(&mut out, 1, bytes, end_stream);
        out
    };
    let open = raw_request(1, false, &[("content-length", "3")]);
    let ended = [open.clone(), data(b"123", true)].concat();
    let cases: [(&str, Vec<u8>, Reason); 8] = [
        ("no credit", [open.clone(), update(0)].concat(), Reason::PROTOCOL_ERROR),
        (
            "too much credit",
            [open.clone(), update(LARGEST_STREAM_ID)].concat(),
            Reason::FLOW_CONTROL_ERROR,
        ),
        ("too much DATA", [open.clone(), data(b"1234", false)].concat(), Reason::PROTOCOL_ERROR),
        ("too little DATA", [open.clone(), data(b"12", true)].concat(), Reason::PROTOCOL_ERROR),
        ("DATA after the end", [ended.clone(), data(b"1", true)].concat(), Reason::STREAM_CLOSED),
        (
            "HEADERS after the end",
            [ended, raw_headers(1, true, &[("a", "b")])].concat(),
            Reason::STREAM_CLOSED,
        ),
        (
            "trailers that do not end it",
            [open.clone(), raw_headers(1, false, &[("a", "b")])].concat(),
            Reason::PROTOCOL_ERROR,
        ),
        (
            "PRIORITY on itself",
            [open, Head9::new(frame::kind::PRIORITY, 1).with(&[0, 0, 0, 1, 0])].concat(),
            Reason::PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, reason) in cases {
        let mut server = raw_server(options(Role::Server));
        let found = read(&mut server, &bytes).expect(what);
        assert_eq!(found.last(), Some(&Seen::Broken(1, reason)), "{what}");
        let expected = Frame::RstStream { stream: 1, reason };
        assert_eq!(frames(&server).last(), Some(&expected), "{what}");
        assert_eq!(server.open_streams(), 0);
        // It lives.
        let found = read(&mut server, &raw_request(3, true, &[])).expect(what);
        assert!(matches!(found[..], [Seen::Request(..)]), "{what}");
    }
}

/// A response's `content-length` has to be held (RFC 9113, section 8.1.1), unless the response has
/// no content by what it answers.
#[test]
fn responses_keep_to_their_content_length() {
    let response = |status: &'static str, parts: &[&[u8]], ends: bool, is_head: bool| {
        let mut client = raw_client(options(Role::Client));
        let stream = open(&mut client, 7, true);
        if is_head {
            client.expect_no_content(stream);
        }
        let list = [(":status", status), ("content-length", "3")];
        let mut bytes = raw_headers(1, parts.is_empty() && ends, &list);
        for (index, part) in parts.iter().enumerate() {
            frame::data(&mut bytes, 1, part, ends && index + 1 == parts.len());
        }
        if !ends {
            bytes.extend(raw_headers(1, true, &[("a", "b")]));
        }
        read(&mut client, &bytes).expect("no connection error").pop()
    };
    let broken = Some(Seen::Broken(7, Reason::PROTOCOL_ERROR));
    assert_eq!(
        response("200", &[b"1", b"23"], true, false),
        Some(Seen::Data(7, b"23".to_vec(), true))
    );
    assert_eq!(response("200", &[b"123"], false, false), Some(Seen::Trailers(7)));
    assert_eq!(response("200", &[b"12"], true, false), broken);
    assert_eq!(response("200", &[b"12"], false, false), broken);
    assert_eq!(response("200", &[], true, false), broken);
    assert_eq!(response("200", &[], true, true), Some(Seen::Response(7, true)));
    assert_eq!(response("304", &[], true, false), Some(Seen::Response(7, true)));
}

#[test]
fn malformed_requests_never_reach_the_owner() {
    for more in [&[("connection", "close")][..], &[(":path", "/")], &[("Upper", "case")]] {
        let mut server = raw_server(options(Role::Server));
        assert_eq!(read(&mut server, &raw_request(1, true, more)), Ok(vec![]));
        let reset = Frame::RstStream { stream: 1, reason: Reason::PROTOCOL_ERROR };
        assert_eq!(frames(&server), [reset]);
        assert_eq!(server.open_streams(), 0);
    }
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut server = raw_server(options(Role::Server));
    for id in [1, 3, 5] {
        read(&mut server, &raw_request(id, true, &[])).expect("within the limit");
    }
    assert_eq!(read(&mut server, &raw_request(7, true, &[])), Ok(vec![]));
    let refused = Frame::RstStream { stream: 7, reason: Reason::REFUSED_STREAM };
    assert_eq!(frames(&server), [refused]);
}

#[test]
fn a_list_over_the_limits_is_reported_and_the_tables_stay_in_step() {
    let mut server_options = options(Role::Server);
    server_options.list_limits.max_fields = 5;
    let (mut client, mut server) = pair(options(Role::Client), server_options);
    let key = client.open(1).expect("a place");
    let many: Vec<_> = [&REQUEST[..], &[("x-a", "1"), ("x-b", "2")]].concat();
    client.send_headers(key, None, || fields(&many), true);
    let found = pass(&mut client, &mut server);
    assert!(matches!(found[..], [Seen::OverLimit(_)]), "{found:?}");
    let key = client.open(2).expect("a place");
    let few = [&REQUEST[..], &[("x-b", "2")]].concat();
    client.send_headers(key, None, || fields(&few), true);
    let found = pass(&mut client, &mut server);
    assert!(matches!(found[..], [Seen::Request(_, true)]), "{found:?}");
    assert_eq!(server.headers().value_of_name(b"x-b"), Some(&b"2"[..]));
}

#[test]
fn long_blocks_come_in_parts_within_bounds() {
    let value = "v".repeat(40_000);
    let bytes = raw_request(1, true, &[("x-long", &value)]);
    let mut server_options = options(Role::Server);
    server_options.list_limits.max_bytes = 50_000;
    let mut server = raw_server(server_options.clone());
    let found = read(&mut server, &bytes).expect("within bounds");
    assert!(matches!(found[..], [Seen::Request(_, true)]), "{found:?}");
    for bounded in [
        Options { max_block_bytes: 20_000, ..server_options.clone() },
        Options { max_continuations: 1, ..server_options },
    ] {
        let error = read(&mut raw_server(bounded), &bytes).expect_err("beyond bounds");
        assert_eq!(error.reason(), Reason::ENHANCE_YOUR_CALM);
    }
}

#[test]
fn floods_end_the_connection_and_are_named() {
    let limits = FloodLimits { control_frames: 50, resets: 5, stray_frames: 10 };
    let limited = Options { floods: limits, ..options(Role::Server) };
    let mut ping = Vec::new();
    frame::ping(&mut ping, [0; 8], false);
    let mut server = raw_server(limited.clone());
    let error = read(&mut server, &ping.repeat(60)).expect_err("too many");
    assert_eq!(
        (error.reason(), server.flooded()),
        (Reason::ENHANCE_YOUR_CALM, Some(Flood::Control))
    );
    let mut server = raw_server(limited);
    let mut last = Ok(vec![]);
    for id in (1..20).step_by(2) {
        let mut bytes = raw_request(id, false, &[]);
        frame::rst_stream(&mut bytes, id, Reason::CANCEL);
        last = read(&mut server, &bytes);
        if last.is_err() {
            assert_eq!(id, 11);
            break;
        }
    }
    assert!(last.is_err());
    assert_eq!(server.flooded(), Some(Flood::Reset));
}

#[test]
fn streams_and_data_that_come_pay_for_the_frames_that_come_along() {
    let floods = FloodLimits { control_frames: 10, ..FloodLimits::UNLIMITED };
    let mut server = raw_server(Options { floods, max_streams: 1_000, ..options(Role::Server) });
    for id in (1..400).step_by(2) {
        let mut bytes = raw_request(id, false, &[]);
        frame::window_update(&mut bytes, id, 5);
        frame::window_update(&mut bytes, 0, 5);
        frame::data(&mut bytes, id, b"a", false);
        frame::ping(&mut bytes, [0; 8], false);
        read(&mut server, &bytes).expect("what honest clients send");
    }
    let mut cheap = Vec::new();
    frame::data(&mut cheap, 1, b"", false);
    let error = read(&mut server, &cheap.repeat(20)).expect_err("it pays for nothing");
    assert_eq!(error.reason(), Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn a_server_may_reset_what_was_opened_and_no_more() {
    let limits = FloodLimits { control_frames: 5, resets: 5, stray_frames: 5 };
    let limited = Options { floods: limits, max_streams: 1_000, ..options(Role::Client) };
    let mut client = raw_client(limited);
    let mut bytes = Vec::new();
    for user in 0..50 {
        let id = open(&mut client, user, true).id();
        frame::rst_stream(&mut bytes, id, Reason::CANCEL);
    }
    let found = read(&mut client, &bytes).expect("one for each");
    assert_eq!(found.len(), 50);
    let error = read(&mut client, &bytes).expect_err("another for each");
    assert_eq!((error.reason(), client.flooded()), (Reason::ENHANCE_YOUR_CALM, Some(Flood::Stray)));
}

#[test]
fn the_last_identifier_is_not_exceeded() {
    let first_stream = LARGEST_STREAM_ID - 4;
    let used = Options { first_stream, ..options(Role::Client) };
    let (mut client, _) = pair(used, options(Role::Server));
    assert_eq!(client.open(1).map(StreamKey::id), Some(first_stream));
    assert!(!client.is_used_up());
    assert_eq!(client.open(2).map(StreamKey::id), Some(first_stream + 2));
    assert!(client.is_used_up());
    assert_eq!(client.open(3), None);
}

#[test]
fn stalls_are_found_and_drips_are_no_progress() {
    let (mut client, mut server) = default_pair();
    let key = open(&mut client, 7, false);
    client.send_data(key, &[0; 65_535], false);
    client.send_data(key, &[0; 100], false);
    pass(&mut client, &mut server);
    let mut stalled = Vec::new();
    let mut drip = Vec::new();
    frame::window_update(&mut drip, 1, 1);
    // That nobody looked for long before is not this stream's to bear.
    for now_ms in (1_000_000..=1_000_100).step_by(10) {
        client.find_stalled(now_ms, 100, 5, &mut stalled);
        read(&mut client, &drip).expect("well-formed");
        client.pump(&mut Vec::new());
    }
    assert_eq!(stalled, []);
    client.find_stalled(1_000_101, 100, 5, &mut stalled);
    assert_eq!(stalled, [(key, 7)]);
}

#[test]
fn bytes_may_come_in_any_pieces() {
    let mut bytes = PREFACE.to_vec();
    frame::settings(&mut bytes, &[]);
    bytes.extend(raw_request(1, false, &[]));
    frame::data(&mut bytes, 1, b"hello", true);
    for size in 1..bytes.len() {
        let mut server = end(options(Role::Server));
        let (mut have, mut found) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            have.extend_from_slice(piece);
            loop {
                let Read { consumed, event } = server.read(&have).expect("well-formed");
                let event = event.map(seen);
                have.drain(..consumed);
                match event {
                    Some(event) => found.push(event),
                    None => break,
                }
            }
        }
        assert_eq!(found.len(), 3, "in pieces of {size}");
    }
}
