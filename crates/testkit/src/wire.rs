//! Frames and header blocks as bytes (RFC 9113, section 4 and 6; RFC 7541,
//! section 6). Nothing is checked: most uses are to write what is wrong.

/// What a client sends first (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 9113, section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of RFC 9113, section 6")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings.
pub mod setting {
    #![allow(missing_docs, reason = "the names are those of RFC 9113, section 6.5.2")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes.
pub mod code {
    #![allow(missing_docs, reason = "the names are those of RFC 9113, section 7")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const SETTINGS_TIMEOUT: u32 = 4;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The largest payload that everybody takes (RFC 9113, section 6.5.2).
const MAX_FRAME_BYTES: usize = 16_384;

/// A whole header block: one HEADERS frame, and CONTINUATION frames behind it
/// where the block is larger than a frame.
pub fn headers(stream: u32, block: &[u8], end_stream: bool) -> Vec<u8> {
    let end = if end_stream { flag::END_STREAM } else { 0 };
    let (first, mut rest) = block.split_at(block.len().min(MAX_FRAME_BYTES));
    let last = |rest: &[u8]| if rest.is_empty() { flag::END_HEADERS } else { 0 };
    let mut bytes = frame(kind::HEADERS, last(rest) | end, stream, first);
    while !rest.is_empty() {
        let (next, behind) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
        bytes.extend(frame(kind::CONTINUATION, last(behind), stream, next));
        rest = behind;
    }
    bytes
}

/// A DATA frame.
pub fn data(stream: u32, payload: &[u8], end_stream: bool) -> Vec<u8> {
    frame(kind::DATA, if end_stream { flag::END_STREAM } else { 0 }, stream, payload)
}

/// A RST_STREAM frame.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A SETTINGS frame.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let setting = |(id, value): &(u16, u32)| {
        [id.to_be_bytes().as_slice(), value.to_be_bytes().as_slice()].concat()
    };
    frame(kind::SETTINGS, 0, 0, &values.iter().flat_map(setting).collect::<Vec<_>>())
}

/// The acknowledgement of a SETTINGS frame.
pub fn settings_ack() -> Vec<u8> {
    frame(kind::SETTINGS, flag::ACK, 0, &[])
}

/// A PING frame.
pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, 0, 0, &payload)
}

/// The answer to a PING frame.
pub(crate) fn ping_ack(payload: [u8; 8]) -> Vec<u8> {
    frame(kind::PING, flag::ACK, 0, &payload)
}

/// A GOAWAY frame.
pub fn go_away(last_stream: u32, code: u32) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
    frame(kind::GOAWAY, 0, 0, &payload)
}

/// A WINDOW_UPDATE frame; stream 0 is the connection.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A PRIORITY frame: `stream` depends on `on`.
pub fn priority(stream: u32, on: u32) -> Vec<u8> {
    let mut payload = on.to_be_bytes().to_vec();
    payload.push(15);
    frame(kind::PRIORITY, 0, stream, &payload)
}

/// A header block of literal fields that touch no table.
pub fn block<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name.as_ref());
        text(&mut bytes, value.as_ref());
    }
    bytes
}

/// A literal field that also goes into the dynamic table.
pub fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x40];
    text(&mut bytes, name);
    text(&mut bytes, value);
    bytes
}

/// A dynamic table size update.
pub fn table_size_update(size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    integer(&mut bytes, 0x20, 5, size);
    bytes
}

/// A string without Huffman coding.
fn text(bytes: &mut Vec<u8>, text: &str) {
    integer(bytes, 0, 7, text.len());
    bytes.extend(text.as_bytes());
}

/// An integer with a prefix of `bits` (RFC 7541, section 5.1).
fn integer(bytes: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        bytes.push(first | value as u8);
        return;
    }
    bytes.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(rest as u8 | 128);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// The header fields of a gRPC request, as a client without extras sends them.
pub fn grpc_fields(path: &str) -> Vec<(String, String)> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The path of the echo service's unary call.
pub const UNARY: &str = "/layerlab.echo.v1.Echo/Unary";
/// The path of its bidirectional stream.
pub const BIDI: &str = "/layerlab.echo.v1.Echo/Bidi";
/// The path of its server stream.
pub const SERVER_STREAM: &str = "/layerlab.echo.v1.Echo/ServerStream";

/// A gRPC message: the five-byte prefix and the bytes. No bytes at all are a
/// valid message of every type.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((bytes.len() as u32).to_be_bytes());
    framed.extend(bytes);
    framed
}

/// HEADERS and DATA of a unary echo of nothing.
pub fn unary_call(stream: u32) -> Vec<u8> {
    let mut bytes = headers(stream, &block(&grpc_fields(UNARY)), false);
    bytes.extend(data(stream, &message(&[]), true));
    bytes
}
