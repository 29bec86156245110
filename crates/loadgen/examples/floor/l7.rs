//! Each call goes to the next backend, over the one connection that there is to it.

use std::{collections::HashMap, net::SocketAddr};

use h2_wire::frame::{self, HEAD_LEN, Head, PREFACE, flags, kind, setting};

use crate::Links;

/// Windows are as large as can be, so that nobody waits for an update.
const WINDOW_BYTES: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW_BYTES: u32 = 65_535;
/// What was received before the window of a connection is renewed.
const RENEW_BYTES: u32 = 1 << 30;

/// A request to the echo service, in HPACK (RFC 7541): POST, http, path, authority, content type
/// and `te`, each but the first two put into the dynamic table.
const FIRST_REQUEST: &[u8] = b"\x83\x86\x44\x1c/layerlab.echo.v1.Echo/Unary\x41\x05floor\
    \x5f\x10application/grpc\x40\x02te\x08trailers";
/// The same, from the table.
const NEXT_REQUEST: &[u8] = b"\x83\x86\xc1\xc0\xbf\xbe";
/// The head of a response: 200, and the content type.
const FIRST_HEAD: &[u8] = b"\x88\x5f\x10application/grpc";
const NEXT_HEAD: &[u8] = b"\x88\xbf";
/// Trailers: OK.
const FIRST_TRAILERS: &[u8] = b"\x40\x0bgrpc-status\x010";
/// Behind the content type, by then.
const NEXT_TRAILERS: &[u8] = b"\xbe";

/// What is known of a connection.
#[derive(Default)]
struct Side {
    /// Bytes of the client's preface that are still to come; zero of a backend.
    preface: usize,
    is_backend: bool,
    /// By half of the stream's identifier.
    calls: Vec<Call>,
    has_headers: bool,
    has_head: bool,
    has_trailers: bool,
    received: u32,
}

/// A call, as one of its two connections knows it.
#[derive(Clone, Copy, Default)]
struct Call {
    /// The other connection.
    to: usize,
    /// The call's stream there.
    stream: u32,
    has_head: bool,
}

pub(crate) struct Hop {
    backends: Vec<usize>,
    next: usize,
    sides: HashMap<usize, Side>,
}

impl Hop {
    pub(crate) fn new(links: &mut Links, backends: &[SocketAddr]) -> Self {
        let backends: Vec<usize> = backends.iter().map(|&at| links.connect(at)).collect();
        let mut sides = HashMap::new();
        for &backend in &backends {
            sides.insert(backend, Side { is_backend: true, ..Side::default() });
            let output = links.output(backend).unwrap();
            output.extend_from_slice(PREFACE);
            greet(output);
        }
        Self { backends, next: 0, sides }
    }
}

fn greet(output: &mut Vec<u8>) {
    frame::settings(output, &[(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)]);
    frame::window_update(output, 0, WINDOW_BYTES - DEFAULT_WINDOW_BYTES);
}

impl crate::Hop for Hop {
    fn accepted(&mut self, links: &mut Links, client: usize) {
        self.sides.insert(client, Side { preface: PREFACE.len(), ..Side::default() });
        greet(links.output(client).unwrap());
    }

    fn read(&mut self, links: &mut Links, from: usize, input: &mut Vec<u8>) {
        let Some(mut side) = self.sides.remove(&from) else { return };
        let mut done = side.preface.min(input.len());
        side.preface -= done;
        while let Some((head, payload)) = whole_frame(&input[done..]) {
            done += HEAD_LEN + payload.len();
            self.frame(links, (from, &mut side), head, payload);
        }
        input.drain(..done);
        self.sides.insert(from, side);
    }

    fn closed(&mut self, links: &mut Links, which: usize) {
        assert!(!self.backends.contains(&which), "a backend is gone");
        self.sides.remove(&which);
        links.all.remove(which);
    }
}

fn whole_frame(input: &[u8]) -> Option<(Head, &[u8])> {
    let head = Head::parse(input.first_chunk()?);
    Some((head, input.get(HEAD_LEN..HEAD_LEN + head.length as usize)?))
}

impl Hop {
    fn frame(
        &mut self,
        links: &mut Links,
        (from, side): (usize, &mut Side),
        head: Head,
        payload: &[u8],
    ) {
        match head.kind {
            kind::SETTINGS if !head.has(flags::ACK) => {
                frame::settings_ack(links.output(from).unwrap());
            }
            kind::PING if !head.has(flags::ACK) => {
                let payload = payload.try_into().unwrap();
                frame::ping(links.output(from).unwrap(), payload, true);
            }
            kind::HEADERS if !side.is_backend => self.request(links, (from, side), head),
            kind::HEADERS => self.response(links, side, head),
            kind::DATA => {
                side.received += head.length;
                if side.received > RENEW_BYTES {
                    let received = std::mem::take(&mut side.received);
                    frame::window_update(links.output(from).unwrap(), 0, received);
                }
                let Call { to, stream, .. } = side.calls[head.stream as usize / 2];
                let Some(output) = links.output(to) else { return };
                frame::data(output, stream, payload, head.has(flags::END_STREAM));
            }
            kind::RST_STREAM | kind::CONTINUATION => panic!("a call failed: {head:?}"),
            _ => {}
        }
    }

    fn request(&mut self, links: &mut Links, (from, side): (usize, &mut Side), head: Head) {
        let to = self.backends[self.next];
        self.next = (self.next + 1) % self.backends.len();
        let Some(backend) = self.sides.get_mut(&to) else { return };
        let stream = backend.calls.len() as u32 * 2 + 1;
        backend.calls.push(Call { to: from, stream: head.stream, has_head: false });
        side.calls.resize(head.stream as usize / 2, Call::default());
        side.calls.push(Call { to, stream, has_head: false });
        let is_first = !std::mem::replace(&mut backend.has_headers, true);
        let block = if is_first { FIRST_REQUEST } else { NEXT_REQUEST };
        headers(links, to, stream, block, head.has(flags::END_STREAM));
    }

    fn response(&mut self, links: &mut Links, side: &mut Side, head: Head) {
        let call = &mut side.calls[head.stream as usize / 2];
        let Call { to, stream, has_head } = *call;
        call.has_head = true;
        let Some(client) = self.sides.get_mut(&to) else { return };
        let is_end = head.has(flags::END_STREAM);
        let block = if is_end {
            assert!(has_head, "a call failed");
            let is_first = !std::mem::replace(&mut client.has_trailers, true);
            if is_first { FIRST_TRAILERS } else { NEXT_TRAILERS }
        } else {
            let is_first = !std::mem::replace(&mut client.has_head, true);
            match (is_first, client.has_trailers) {
                (true, _) => FIRST_HEAD,
                // The content type is the last entry of the table, or the one before.
                (false, false) => b"\x88\xbe",
                (false, true) => NEXT_HEAD,
            }
        };
        headers(links, to, stream, block, is_end);
    }
}

fn headers(links: &mut Links, to: usize, stream: u32, block: &[u8], is_end: bool) {
    let Some(output) = links.output(to) else { return };
    let end = if is_end { flags::END_STREAM } else { 0 };
    let length = block.len() as u32;
    let flags = flags::END_HEADERS | end;
    frame::head(output, Head { length, kind: kind::HEADERS, flags, stream });
    output.extend_from_slice(block);
}
