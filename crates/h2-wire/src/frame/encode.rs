//! Frames to bytes: every function appends whole frames to a `Vec<u8>`.
//!
//! The connection appends many frames to one buffer and writes it out once a turn, so nothing here
//! returns a buffer of its own.

use super::{HEAD_LEN, Head, LARGEST_STREAM_ID, Priority, flags, kind};
use crate::error::Reason;

/// Appends a head.
#[inline]
pub fn head(out: &mut Vec<u8>, head: Head) {
    out.extend_from_slice(&head.to_bytes());
}

/// Appends one DATA frame without padding. The payload must fit the peer's frame size.
#[inline]
pub fn data(out: &mut Vec<u8>, stream: u32, payload: &[u8], end_stream: bool) {
    let flags = if end_stream { flags::END_STREAM } else { 0 };
    let length = payload.len() as u32;
    out.reserve(HEAD_LEN + payload.len());
    head(out, Head { length, kind: kind::DATA, flags, stream });
    out.extend_from_slice(payload);
}

/// Appends a header block as one HEADERS frame and as many CONTINUATION frames as
/// `max_frame_size` makes necessary.
pub fn headers(
    out: &mut Vec<u8>,
    stream: u32,
    block: &[u8],
    end_stream: bool,
    max_frame_size: u32,
) {
    let start = begin_headers(out);
    out.extend_from_slice(block);
    finish_headers(out, start, stream, end_stream, max_frame_size);
}

/// Leaves room for the head of a HEADERS frame whose block is then appended in place; returns the
/// position to hand to [`finish_headers`].
#[inline]
pub(crate) fn begin_headers(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_LEN]);
    start
}

/// Writes the head of the block that was appended since [`begin_headers`], and splits the block
/// when it is longer than a frame may be.
#[inline]
pub(crate) fn finish_headers(
    out: &mut Vec<u8>,
    start: usize,
    stream: u32,
    end_stream: bool,
    max_frame_size: u32,
) {
    let end = if end_stream { flags::END_STREAM } else { 0 };
    let length = out.len() - start - HEAD_LEN;
    if length > max_frame_size as usize {
        return split_headers(out, start, stream, end, max_frame_size as usize);
    }
    let flags = flags::END_HEADERS | end;
    let head = Head { length: length as u32, kind: kind::HEADERS, flags, stream };
    out[start..start + HEAD_LEN].copy_from_slice(&head.to_bytes());
}

/// The rare case of a block above the frame size: it is taken out again and cut up.
#[cold]
fn split_headers(out: &mut Vec<u8>, start: usize, stream: u32, end_stream: u8, max: usize) {
    let block = out.split_off(start + HEAD_LEN);
    out.truncate(start);
    let count = block.len().div_ceil(max);
    for (index, part) in block.chunks(max).enumerate() {
        let last = if index + 1 == count { flags::END_HEADERS } else { 0 };
        let (kind, flags) = match index {
            0 => (kind::HEADERS, end_stream | last),
            _ => (kind::CONTINUATION, last),
        };
        head(out, Head { length: part.len() as u32, kind, flags, stream });
        out.extend_from_slice(part);
    }
}

/// Appends a PRIORITY frame.
pub fn priority(out: &mut Vec<u8>, stream: u32, priority: Priority) {
    head(out, Head { length: 5, kind: kind::PRIORITY, flags: 0, stream });
    let exclusive = if priority.exclusive { 1 << 31 } else { 0 };
    out.extend_from_slice(&(priority.dependency & LARGEST_STREAM_ID | exclusive).to_be_bytes());
    out.push(priority.weight);
}

/// Appends a RST_STREAM frame.
pub(crate) fn rst_stream(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    head(out, Head { length: 4, kind: kind::RST_STREAM, flags: 0, stream });
    out.extend_from_slice(&reason.0.to_be_bytes());
}

/// Appends a SETTINGS frame with the given `(identifier, value)` pairs.
pub fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    head(out, Head { length: 6 * values.len() as u32, kind: kind::SETTINGS, flags: 0, stream: 0 });
    for (identifier, value) in values {
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends the acknowledgement of a SETTINGS frame.
pub fn settings_ack(out: &mut Vec<u8>) {
    head(out, Head { length: 0, kind: kind::SETTINGS, flags: flags::ACK, stream: 0 });
}

/// Appends a PING frame, or the answer to one.
pub fn ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    let flags = if ack { flags::ACK } else { 0 };
    head(out, Head { length: 8, kind: kind::PING, flags, stream: 0 });
    out.extend_from_slice(&payload);
}

/// Appends a GOAWAY frame.
pub fn go_away(out: &mut Vec<u8>, last_stream: u32, reason: Reason, debug: &[u8]) {
    head(out, Head { length: 8 + debug.len() as u32, kind: kind::GOAWAY, flags: 0, stream: 0 });
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&reason.0.to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends a WINDOW_UPDATE frame; stream 0 is the connection.
pub fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    head(out, Head { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream });
    out.extend_from_slice(&increment.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, parse, setting};

    /// Every frame in `bytes`, parsed.
    fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
        let mut found = Vec::new();
        while let Some((frame, length)) = parse(bytes, 16_384).expect("valid") {
            found.push(frame);
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty(), "trailing bytes");
        found
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        let fields = Priority { dependency: 3, exclusive: true, weight: 7 };
        data(&mut out, 1, b"hello", true);
        priority(&mut out, 5, fields);
        rst_stream(&mut out, 7, Reason::CANCEL);
        settings(&mut out, &[(setting::MAX_FRAME_SIZE, 20_000)]);
        settings_ack(&mut out);
        ping(&mut out, *b"12345678", true);
        go_away(&mut out, 9, Reason::NO_ERROR, b"bye");
        window_update(&mut out, 0, 77);
        let found = frames(&out);
        assert_eq!(
            found[0],
            Frame::Data { stream: 1, payload: b"hello", padding: 0, end_stream: true }
        );
        assert_eq!(found[1], Frame::Priority { stream: 5, priority: fields });
        assert_eq!(found[2], Frame::RstStream { stream: 7, reason: Reason::CANCEL });
        let Frame::Settings { ack: false, values } = found[3] else { panic!("not SETTINGS") };
        assert_eq!(values.collect::<Vec<_>>(), [(setting::MAX_FRAME_SIZE, 20_000)]);
        assert!(matches!(found[4], Frame::Settings { ack: true, .. }));
        assert_eq!(found[5], Frame::Ping { ack: true, payload: *b"12345678" });
        assert_eq!(
            found[6],
            Frame::GoAway { last_stream: 9, reason: Reason::NO_ERROR, debug: b"bye" }
        );
        assert_eq!(found[7], Frame::WindowUpdate { stream: 0, increment: 77 });
    }

    #[test]
    fn long_blocks_are_continued() {
        for (length, parts) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let block: Vec<u8> = (0..length).collect();
            let mut out = vec![0xee];
            headers(&mut out, 3, &block, true, 10);
            let found = frames(&out[1..]);
            assert_eq!(found.len(), parts);
            let mut joined = Vec::new();
            for (index, frame) in found.iter().enumerate() {
                let end = index + 1 == parts;
                match *frame {
                    Frame::Headers {
                        stream: 3, fragment, end_stream: true, end_headers, ..
                    } => {
                        assert_eq!((index, end), (0, end_headers));
                        joined.extend_from_slice(fragment);
                    }
                    Frame::Continuation { stream: 3, fragment, end_headers } => {
                        assert_eq!(end, end_headers);
                        joined.extend_from_slice(fragment);
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
            assert_eq!(joined, block);
        }
    }
}
