//! Payloads to borrowed frames, with every rule of RFC 9113, section 6 that needs no state.
//!
//! Nothing is copied: fragments, DATA and debug data are slices of the input. A self-dependent
//! priority is *not* refused here, because the header block behind it still has to go through the
//! decoder; the connection refuses it afterwards.

use super::{HEAD_LEN, Head, LARGEST_STREAM_ID, flags, kind};
use crate::error::{Error, Reason};

/// One frame, borrowing its payload from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Payload of a message (section 6.1).
    Data {
        /// The stream, never 0.
        stream: u32,
        /// The payload without padding.
        payload: &'a [u8],
        /// Pad length field and padding, in bytes: part of flow control.
        padding: u32,
        /// The sender's last frame on this stream.
        end_stream: bool,
    },
    /// The first part of a header block (section 6.2).
    Headers {
        /// The stream, never 0.
        stream: u32,
        /// The fragment without padding and priority.
        fragment: &'a [u8],
        /// The deprecated priority fields, if present.
        priority: Option<Priority>,
        /// The sender's last frame on this stream, but for CONTINUATION.
        end_stream: bool,
        /// No CONTINUATION follows.
        end_headers: bool,
    },
    /// A deprecated priority signal (section 6.3).
    Priority {
        /// The stream, never 0.
        stream: u32,
        /// What it asks for.
        priority: Priority,
    },
    /// An immediate end of a stream (section 6.4).
    RstStream {
        /// The stream, never 0.
        stream: u32,
        /// The sender's reason.
        reason: Reason,
    },
    /// The sender's configuration (section 6.5).
    Settings {
        /// This acknowledges ours; it carries no values then.
        ack: bool,
        /// Identifier and value pairs, in order.
        values: SettingsIter<'a>,
    },
    /// Announcement of a pushed stream (section 6.6).
    PushPromise {
        /// The stream it belongs to, never 0.
        stream: u32,
        /// The stream that is promised.
        promised: u32,
        /// The fragment without padding.
        fragment: &'a [u8],
        /// No CONTINUATION follows.
        end_headers: bool,
    },
    /// A round-trip probe (section 6.7).
    Ping {
        /// This answers ours.
        ack: bool,
        /// Bytes to be sent back as they are.
        payload: [u8; 8],
    },
    /// The sender takes no more streams (section 6.8).
    GoAway {
        /// The highest stream the sender has or may have worked on.
        last_stream: u32,
        /// The sender's reason.
        reason: Reason,
        /// Text for people.
        debug: &'a [u8],
    },
    /// Flow-control credit (section 6.9).
    WindowUpdate {
        /// The stream, or 0 for the connection.
        stream: u32,
        /// Bytes of credit, at least 1.
        increment: u32,
    },
    /// The next part of a header block (section 6.10).
    Continuation {
        /// The stream, never 0.
        stream: u32,
        /// The fragment.
        fragment: &'a [u8],
        /// The block is complete.
        end_headers: bool,
    },
    /// A type this crate does not know, to be ignored (section 4.1).
    Unknown {
        /// The head as read.
        head: Head,
        /// The payload as read.
        payload: &'a [u8],
    },
}

/// The priority fields of HEADERS and PRIORITY frames (section 5.3.2, deprecated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The stream depended on.
    pub dependency: u32,
    /// Whether the dependency is exclusive.
    pub exclusive: bool,
    /// The weight as on the wire, one less than its meaning.
    pub weight: u8,
}

/// The values of a SETTINGS frame, as `(identifier, value)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsIter<'a>(&'a [[u8; 6]]);

impl SettingsIter<'_> {
    /// How many values are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for SettingsIter<'_> {
    type Item = (u16, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[i0, i1, v0, v1, v2, v3], rest) = self.0.split_first()?;
        self.0 = rest;
        Some((u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3])))
    }
}

/// Reads the frame at the start of `input`, if it is there whole.
///
/// Returns the frame and its size with the head, in bytes. A frame longer than `max_frame_size`
/// is a connection error before its payload is waited for, so that it is never buffered; RFC 9113,
/// section 5.4.1 lets every stream error be one.
///
/// # Errors
/// Any broken rule of section 6, with the scope and the code the RFC gives it.
pub fn parse(input: &[u8], max_frame_size: u32) -> Result<Option<(Frame<'_>, usize)>, Error> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
    let head = Head::parse(head);
    if head.length > max_frame_size {
        return Err(frame_size("frame above SETTINGS_MAX_FRAME_SIZE"));
    }
    let length = head.length as usize;
    match rest.get(..length) {
        Some(payload) => Ok(Some((parse_payload(head, payload)?, HEAD_LEN + length))),
        None => Ok(None),
    }
}

/// Reads a payload; `payload` must be the `head.length` bytes behind the head.
///
/// # Errors
/// Any broken rule of section 6, with the scope and the code the RFC gives it.
#[inline]
pub(crate) fn parse_payload(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    match head.kind {
        kind::DATA => data(head, payload),
        kind::HEADERS => headers(head, payload),
        kind::PRIORITY => priority(head, payload),
        kind::RST_STREAM => rst_stream(head, payload),
        kind::SETTINGS => settings(head, payload),
        kind::PUSH_PROMISE => push_promise(head, payload),
        kind::PING => ping(head, payload),
        kind::GOAWAY => go_away(head, payload),
        kind::WINDOW_UPDATE => window_update(head, payload),
        kind::CONTINUATION => continuation(head, payload),
        _ => Ok(Frame::Unknown { head, payload }),
    }
}

#[inline]
fn data(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    let content = unpad(head, payload)?;
    Ok(Frame::Data {
        stream: head.stream,
        payload: content,
        padding: (payload.len() - content.len()) as u32,
        end_stream: head.has(flags::END_STREAM),
    })
}

fn headers(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    let mut fragment = unpad(head, payload)?;
    let mut priority = None;
    if head.has(flags::PRIORITY) {
        let (fields, rest) = fragment
            .split_first_chunk::<5>()
            .ok_or(frame_size("HEADERS too short for its priority fields"))?;
        priority = Some(priority_fields(fields));
        fragment = rest;
    }
    Ok(Frame::Headers {
        stream: head.stream,
        fragment,
        priority,
        end_stream: head.has(flags::END_STREAM),
        end_headers: head.has(flags::END_HEADERS),
    })
}

fn priority(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    let what = "PRIORITY with a length other than 5";
    let fields: &[u8; 5] = payload
        .try_into()
        .map_err(|_| Error::stream(head.stream, Reason::FRAME_SIZE_ERROR, what))?;
    Ok(Frame::Priority { stream: head.stream, priority: priority_fields(fields) })
}

fn rst_stream(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    let code: &[u8; 4] =
        payload.try_into().map_err(|_| frame_size("RST_STREAM with a length other than 4"))?;
    Ok(Frame::RstStream { stream: head.stream, reason: Reason(u32::from_be_bytes(*code)) })
}

fn settings(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_connection(head)?;
    let ack = head.has(flags::ACK);
    if ack && !payload.is_empty() {
        return Err(frame_size("SETTINGS acknowledgement with a payload"));
    }
    let (values, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(frame_size("SETTINGS with a length that is no multiple of 6"));
    }
    Ok(Frame::Settings { ack, values: SettingsIter(values) })
}

fn push_promise(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    let (promised, fragment) = unpad(head, payload)?
        .split_first_chunk::<4>()
        .ok_or(frame_size("PUSH_PROMISE too short for its stream identifier"))?;
    Ok(Frame::PushPromise {
        stream: head.stream,
        promised: u32::from_be_bytes(*promised) & LARGEST_STREAM_ID,
        fragment,
        end_headers: head.has(flags::END_HEADERS),
    })
}

fn ping(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_connection(head)?;
    let payload: &[u8; 8] =
        payload.try_into().map_err(|_| frame_size("PING with a length other than 8"))?;
    Ok(Frame::Ping { ack: head.has(flags::ACK), payload: *payload })
}

fn go_away(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_connection(head)?;
    let (fields, debug) =
        payload.split_first_chunk::<8>().ok_or(frame_size("GOAWAY too short for its fields"))?;
    let [l0, l1, l2, l3, r0, r1, r2, r3] = *fields;
    Ok(Frame::GoAway {
        last_stream: u32::from_be_bytes([l0, l1, l2, l3]) & LARGEST_STREAM_ID,
        reason: Reason(u32::from_be_bytes([r0, r1, r2, r3])),
        debug,
    })
}

fn window_update(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    let bytes: &[u8; 4] =
        payload.try_into().map_err(|_| frame_size("WINDOW_UPDATE with a length other than 4"))?;
    let increment = u32::from_be_bytes(*bytes) & LARGEST_STREAM_ID;
    if increment == 0 {
        let (reason, what) = (Reason::PROTOCOL_ERROR, "WINDOW_UPDATE with an increment of 0");
        return Err(match head.stream {
            0 => Error::connection(reason, what),
            stream => Error::stream(stream, reason, what),
        });
    }
    Ok(Frame::WindowUpdate { stream: head.stream, increment })
}

fn continuation(head: Head, payload: &[u8]) -> Result<Frame<'_>, Error> {
    on_stream(head)?;
    Ok(Frame::Continuation {
        stream: head.stream,
        fragment: payload,
        end_headers: head.has(flags::END_HEADERS),
    })
}

fn priority_fields(fields: &[u8; 5]) -> Priority {
    let [d0, d1, d2, d3, weight] = *fields;
    let word = u32::from_be_bytes([d0, d1, d2, d3]);
    Priority { dependency: word & LARGEST_STREAM_ID, exclusive: word > LARGEST_STREAM_ID, weight }
}

/// The payload without pad length and padding.
#[inline]
fn unpad(head: Head, payload: &[u8]) -> Result<&[u8], Error> {
    if !head.has(flags::PADDED) {
        return Ok(payload);
    }
    let (&pad, rest) =
        payload.split_first().ok_or(frame_size("padded frame without a pad length"))?;
    let length = rest
        .len()
        .checked_sub(usize::from(pad))
        .ok_or(Error::connection(Reason::PROTOCOL_ERROR, "padding longer than the payload"))?;
    Ok(&rest[..length])
}

#[inline]
fn on_stream(head: Head) -> Result<(), Error> {
    if head.stream == 0 {
        return Err(Error::connection(
            Reason::PROTOCOL_ERROR,
            "frame of a stream on the connection itself",
        ));
    }
    Ok(())
}

#[inline]
fn on_connection(head: Head) -> Result<(), Error> {
    if head.stream != 0 {
        return Err(Error::connection(
            Reason::PROTOCOL_ERROR,
            "frame of the connection on a stream",
        ));
    }
    Ok(())
}

#[cold]
const fn frame_size(what: &'static str) -> Error {
    Error::connection(Reason::FRAME_SIZE_ERROR, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let head = Head { length: payload.len() as u32, kind, flags, stream };
        [&head.to_bytes()[..], payload].concat()
    }

    fn error(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Error {
        parse(&raw(kind, flags, stream, payload), 16_384).expect_err("must be refused")
    }

    #[test]
    fn padding_is_taken_off_and_counted() {
        let bytes = raw(kind::DATA, flags::PADDED | flags::END_STREAM, 1, b"\x03abc\0\0\0");
        let expected = Frame::Data { stream: 1, payload: b"abc", padding: 4, end_stream: true };
        assert_eq!(parse(&bytes, 16_384), Ok(Some((expected, 16))));
    }

    #[test]
    fn lengths_are_checked_with_the_scope_of_the_rfc() {
        let connection = [
            (kind::HEADERS, flags::PRIORITY, 1, &b"1234"[..]),
            (kind::DATA, flags::PADDED, 1, b""),
            (kind::RST_STREAM, 0, 1, b"123"),
            (kind::SETTINGS, 0, 0, b"1234567"),
            (kind::SETTINGS, flags::ACK, 0, b"123456"),
            (kind::PUSH_PROMISE, 0, 1, b"123"),
            (kind::PING, 0, 0, b"1234567"),
            (kind::GOAWAY, 0, 0, b"1234567"),
            (kind::WINDOW_UPDATE, 0, 1, b"12345"),
        ];
        for (kind, flags, stream, payload) in connection {
            let found = error(kind, flags, stream, payload);
            assert!(matches!(found, Error::Connection { .. }), "{kind}: {found}");
            assert_eq!(found.reason(), Reason::FRAME_SIZE_ERROR, "{kind}");
        }
        let found = error(kind::PRIORITY, 0, 5, b"1234");
        assert!(matches!(found, Error::Stream { stream: 5, reason: Reason::FRAME_SIZE_ERROR, .. }));
    }

    #[test]
    fn frames_must_be_on_the_right_stream() {
        for kind in [
            kind::DATA,
            kind::HEADERS,
            kind::PRIORITY,
            kind::RST_STREAM,
            kind::PUSH_PROMISE,
            kind::CONTINUATION,
        ] {
            assert_eq!(error(kind, 0, 0, b"12345").reason(), Reason::PROTOCOL_ERROR, "{kind}");
        }
        for kind in [kind::SETTINGS, kind::PING, kind::GOAWAY] {
            assert_eq!(error(kind, 0, 1, b"").reason(), Reason::PROTOCOL_ERROR, "{kind}");
        }
    }

    #[test]
    fn too_much_padding_is_a_protocol_error() {
        for kind in [kind::DATA, kind::HEADERS, kind::PUSH_PROMISE] {
            let found = error(kind, flags::PADDED, 1, b"\x05abcd");
            assert_eq!(found.reason(), Reason::PROTOCOL_ERROR);
        }
    }

    #[test]
    fn an_increment_of_zero_hits_what_it_was_sent_to() {
        let stream = error(kind::WINDOW_UPDATE, 0, 3, &[0x80, 0, 0, 0]);
        assert!(matches!(stream, Error::Stream { stream: 3, .. }));
        assert!(matches!(error(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), Error::Connection { .. }));
    }

    #[test]
    fn a_long_frame_is_refused_before_its_payload_is_there() {
        let head = Head { length: 16_385, kind: kind::DATA, flags: 0, stream: 1 }.to_bytes();
        assert_eq!(parse(&head, 16_384).expect_err("too long").reason(), Reason::FRAME_SIZE_ERROR);
        assert_eq!(parse(&head, 16_385), Ok(None));
        assert_eq!(parse(&head[..8], 16_384), Ok(None));
    }

    #[test]
    fn settings_are_read_in_order() {
        let bytes = raw(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]);
        let Ok(Some((Frame::Settings { ack: false, values }, _))) = parse(&bytes, 16_384) else {
            panic!("not SETTINGS");
        };
        assert_eq!(values.collect::<Vec<_>>(), [(3, 100), (4, 65_536)]);
    }

    #[test]
    fn priority_fields_come_apart() {
        let bytes = raw(kind::PRIORITY, 0, 5, &[0x80, 0, 0, 3, 200]);
        let priority = Priority { dependency: 3, exclusive: true, weight: 200 };
        let expected = Frame::Priority { stream: 5, priority };
        assert_eq!(parse(&bytes, 16_384), Ok(Some((expected, 14))));
    }
}
