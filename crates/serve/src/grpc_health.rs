//! One call of `grpc.health.v1.Health/Check`, over a connection of its own.
//!
//! Written out by hand, frame by frame: the call is always the same, so its
//! headers are a constant, and of the answer only the message is needed, which
//! lies in DATA frames and needs no HPACK. That is less than setting up a
//! client library for it, and keeps HTTP/2 out of those who ask.
//!
//! What is left out: the status in the trailers. A server that says SERVING and
//! then fails the call is taken at its word.
//!
//! Source: the gRPC Health Checking Protocol; RFC 9113; RFC 7541.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::tls::{self, ClientSide};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &[u8] = b"/grpc.health.v1.Health/Check";

/// Bytes of all frames that are read before the answer must be there.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The largest frame that a peer may send that was told nothing else (RFC
/// 9113, section 4.2).
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 10;
/// Bytes of the message that is the answer.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Frame types and flags (RFC 9113, section 6).
mod frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// The only stream there is.
const STREAM: u32 = 1;

/// Asks the server at `address` whether it serves `service`; an empty name asks
/// after the server as a whole. False when it says anything else than SERVING.
/// The caller bounds the time; dropping the future closes the connection. Asked
/// under TLS where `tls` says how.
///
/// # Errors
/// When no connection can be made, or the answer is none.
pub async fn is_serving(
    address: SocketAddr,
    service: &str,
    tls: Option<ClientSide>,
) -> io::Result<bool> {
    is_serving_on(TcpStream::connect(address).await?, address, service, tls).await
}

/// The same, on a connection that was made.
pub(crate) async fn is_serving_on(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
    tls: Option<ClientSide>,
) -> io::Result<bool> {
    stream.set_nodelay(true)?;
    match tls {
        None => ask(stream, &request(address, service, Scheme::Http)).await,
        Some(side) => {
            let stream = tls::connect(stream, side).await?;
            ask(stream, &request(address, service, Scheme::Https)).await
        }
    }
}

pub(crate) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<bool> {
    send(&mut stream, request).await?;
    let mut message = Vec::new();
    let mut left = ANSWER_BYTES_MAX;
    loop {
        let frame = read_frame(&mut stream).await?;
        left = left
            .checked_sub(9 + frame.payload.len())
            .ok_or_else(|| wrong("it sends frames without an answer"))?;
        match (frame.kind, frame.stream) {
            (frame::SETTINGS, _) if frame.flags & frame::ACK == 0 => {
                send(&mut stream, &encode(frame::SETTINGS, frame::ACK, 0, &[])).await?;
            }
            (frame::PING, _) if frame.flags & frame::ACK == 0 => {
                let answer = encode(frame::PING, frame::ACK, 0, &frame.payload);
                send(&mut stream, &answer).await?;
            }
            (frame::GOAWAY, _) => return Err(wrong("it goes away")),
            (frame::RST_STREAM, STREAM) => return Err(wrong("it reset the call")),
            (frame::DATA, STREAM) => {
                message.extend_from_slice(frame.content()?);
                if let Some(answer) = parse_message(&message)? {
                    return Ok(answer);
                }
                if frame.ends_stream() {
                    return Err(wrong("its answer is cut off"));
                }
            }
            // Headers that end the call are a failure without a message.
            (frame::HEADERS, STREAM) if frame.ends_stream() => return Ok(false),
            _ => {}
        }
    }
}

/// What is written may wait in a session of TLS until it is flushed.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The request's `:scheme`, by its entry in the static table.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    Http = 6,
    Https = 7,
}

/// Everything that the client has to say.
fn request(address: SocketAddr, service: &str, scheme: Scheme) -> Vec<u8> {
    let mut call = vec![0];
    let mut body = Vec::new();
    // A longer name is no service's; it is cut, and then unknown.
    let service = &service.as_bytes()[..service.len().min(100)];
    if !service.is_empty() {
        body.extend([0x0a, service.len() as u8]);
        body.extend_from_slice(service);
    }
    call.extend((body.len() as u32).to_be_bytes());
    call.extend(body);
    [
        PREFACE,
        &encode(frame::SETTINGS, 0, 0, &[]),
        &encode(frame::HEADERS, frame::END_HEADERS, STREAM, &headers(address, scheme)),
        &encode(frame::DATA, frame::END_STREAM, STREAM, &call),
    ]
    .concat()
}

/// The header block, of static table entries and literals that are not indexed
/// (RFC 7541, sections 6.1 and 6.2.2). All lengths are below 127, one byte.
fn headers(address: SocketAddr, scheme: Scheme) -> Vec<u8> {
    let text = |text: &[u8]| [&[text.len() as u8], text].concat();
    let authority = address.to_string();
    [
        // :method POST, and the scheme
        vec![0x83, 0x80 | scheme as u8],
        [&[0x04][..], &text(PATH)].concat(),
        [&[0x01][..], &text(authority.as_bytes())].concat(),
        // content-type is entry 31.
        [&[0x0f, 0x10][..], &text(b"application/grpc")].concat(),
        [&[0x00][..], &text(b"te"), &text(b"trailers")].concat(),
    ]
    .concat()
}

fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn ends_stream(&self) -> bool {
        self.flags & frame::END_STREAM != 0
    }

    /// The payload without its padding (RFC 9113, section 6.1).
    fn content(&self) -> io::Result<&[u8]> {
        if self.flags & frame::PADDED == 0 {
            return Ok(&self.payload);
        }
        let (padding, rest) =
            self.payload.split_first().ok_or_else(|| wrong("its padding is missing"))?;
        let length = rest.len().checked_sub(usize::from(*padding));
        length.map(|length| &rest[..length]).ok_or_else(|| wrong("its padding is too long"))
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let [a, b, c, kind, flags, stream_id @ ..] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(wrong("it does not speak HTTP/2"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream_id) & (u32::MAX >> 1), payload })
}

/// Whether a `HealthCheckResponse` says SERVING; `None` when more of it is to
/// come.
fn parse_message(bytes: &[u8]) -> io::Result<Option<bool>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length > MESSAGE_BYTES_MAX {
        return Err(wrong("its answer is compressed or too large"));
    }
    let Some(message) = rest.get(..length) else { return Ok(None) };
    // Field 1 as a varint, with the value 1. Statuses are all below 128, and
    // the message has no other field.
    Ok(Some(message == [0x08, 0x01]))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Serves one connection: reads the request, and answers with these bytes.
    async fn asked(answer: Vec<u8>, service: &'static str) -> (io::Result<bool>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let expected = request(address, service, Scheme::Http).len();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; expected];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            // What the client acknowledges.
            let _ = stream.read_to_end(&mut request).await;
            request.split_off(expected)
        });
        let answer = is_serving(address, service, None).await;
        (answer, server.await.unwrap())
    }

    fn status(status: u8) -> Vec<u8> {
        encode(frame::DATA, 0, STREAM, &[0, 0, 0, 0, 2, 8, status])
    }

    fn opening() -> Vec<u8> {
        let settings = encode(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let ping = encode(frame::PING, 0, 0, b"12345678");
        let headers = encode(frame::HEADERS, frame::END_HEADERS, STREAM, &[0x88]);
        [settings, ping, headers].concat()
    }

    #[tokio::test]
    async fn serving_is_told_from_everything_else() {
        for (value, serving) in [(0, false), (1, true), (2, false), (3, false)] {
            let (answer, acknowledged) = asked([opening(), status(value)].concat(), "").await;
            assert_eq!(answer.unwrap(), serving);
            let acks = [
                encode(frame::SETTINGS, frame::ACK, 0, &[]),
                encode(frame::PING, frame::ACK, 0, b"12345678"),
            ];
            assert_eq!(acknowledged, acks.concat());
        }
        // An empty message is the default, UNKNOWN; and trailers without a
        // message are a failed call.
        let unknown = encode(frame::DATA, 0, STREAM, &[0, 0, 0, 0, 0]);
        assert!(!asked([opening(), unknown].concat(), "x").await.0.unwrap());
        let flags = frame::END_HEADERS | frame::END_STREAM;
        let failed = encode(frame::HEADERS, flags, STREAM, &[0x88]);
        assert!(!asked(failed, "x").await.0.unwrap());
    }

    #[tokio::test]
    async fn an_answer_may_come_in_pieces_with_padding() {
        let first = encode(frame::DATA, frame::PADDED, STREAM, &[3, 0, 0, 0, 0, 0, 0, 0]);
        let second = encode(frame::DATA, frame::END_STREAM, STREAM, &[2, 8, 1]);
        let (answer, _) = asked([opening(), first, second].concat(), "").await;
        assert!(answer.unwrap());
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let endless: Vec<u8> = (0..6)
            .flat_map(|_| encode(frame::SETTINGS, frame::ACK, 0, &vec![0; FRAME_BYTES_MAX]))
            .collect();
        for (answer, word) in [
            (Vec::new(), "eof"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "HTTP/2"),
            (encode(frame::GOAWAY, 0, 0, &[0; 8]), "away"),
            (encode(frame::RST_STREAM, 0, STREAM, &[0; 4]), "reset"),
            (encode(frame::DATA, frame::END_STREAM, STREAM, &[0, 0]), "cut off"),
            (encode(frame::DATA, 0, STREAM, &[1, 0, 0, 0, 2, 8, 1]), "compressed"),
            (encode(frame::DATA, 0, STREAM, &[0, 0, 1, 0, 0]), "large"),
            (encode(frame::DATA, frame::PADDED, STREAM, &[9, 0]), "padding"),
            (endless, "without an answer"),
        ] {
            let error = asked(answer, "").await.0.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_request_is_what_the_protocol_says() {
        let address = "[::1]:50051".parse().unwrap();
        let bytes = request(address, "a.B", Scheme::Https);
        let after_preface = &bytes[PREFACE.len()..];
        assert_eq!(&after_preface[..9], &[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert!(
            bytes.ends_with(&[0, 0, 10, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 5, 10, 3, b'a', b'.', b'B'])
        );
        let headers = headers(address, Scheme::Https);
        assert_eq!(headers[..2], [0x83, 0x87]);
        assert!(headers.windows(PATH.len()).any(|window| window == PATH));
        assert!(headers.len() < 127);
    }
}
