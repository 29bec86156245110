//! What reads strangers' bytes here and not in `h2-wire`, opened for `fuzz/`. What
//! must hold for any input is checked here, so that a target is one line.

use std::time::Duration;

use balance::LoadReport;
use h2_wire::grpc::{self, MessageScanner};

use crate::{
    access_log::{Line, PATH_BYTES},
    planes,
    retry::{GrpcStatus, Pushback},
};

/// The values of the headers that the proxy reads: a timeout is written as it was
/// meant, and what is logged or sent back of a value is bounded and escaped.
pub fn header_values(bytes: &[u8]) {
    if let Some(timeout) = grpc::parse_timeout(bytes) {
        // The finest unit that fits is at least as fine as the one it came in.
        assert_eq!(grpc::parse_timeout(grpc::format_timeout(timeout).as_bytes()), Some(timeout));
        assert!((2..=9).contains(&bytes.len()));
    }
    if grpc::is_grpc(bytes) {
        assert!(bytes[..16].eq_ignore_ascii_case(b"application/grpc"));
        assert!(!bytes[16..].starts_with(b"-web"));
        assert!(grpc::is_grpc(&[bytes, b";a=b"].concat()));
    }
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok());
    let status = GrpcStatus::from_header(bytes);
    assert_eq!(status.is_some(), number.is_some_and(|number| number <= 16));
    match Pushback::from_header(Some(bytes)) {
        Pushback::After(pause) => {
            assert_eq!(number.map(Duration::from_millis), Some(pause));
        }
        never => assert_eq!(never, Pushback::Never),
    }
    if let Some(report) = LoadReport::from_trailer(bytes) {
        assert!(LoadReport::from_trailer(report.to_trailer().as_bytes()).is_some());
    }
    let path = Line::path_of(bytes);
    // A byte that is no UTF-8 becomes a character of three.
    assert!(path.len() <= PATH_BYTES * 3);
    let text = String::from_utf8_lossy(bytes);
    let escaped = grpc::percent_encode(&text);
    assert!(escaped.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
    assert_eq!(percent_decode(&escaped), text.as_bytes());
}

/// What a client makes of a `grpc-message`.
fn percent_decode(escaped: &str) -> Vec<u8> {
    let mut pieces = escaped.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        decoded.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits follow a %"));
        decoded.extend_from_slice(rest.as_bytes());
    }
    decoded
}

/// Messages of a body, cut into pieces as long as the first byte says: whether
/// their end is one of a message is what it is by looking at all of them.
pub fn message_bodies(bytes: &[u8]) {
    let Some((&cut, body)) = bytes.split_first() else { return };
    let mut boundaries = vec![0];
    let mut at = 0_usize;
    while let Some(&[_, a, b, c, d]) = body.get(at..).and_then(|rest| rest.first_chunk()) {
        at += 5 + u32::from_be_bytes([a, b, c, d]) as usize;
        boundaries.push(at);
    }
    let mut scanner = MessageScanner::default();
    let mut fed = 0;
    for piece in body.chunks(usize::from(cut).max(1)) {
        scanner.advance(piece);
        fed += piece.len();
        assert_eq!(scanner.is_on_boundary(), boundaries.contains(&fed));
    }
}

/// A header block of a request, behind a byte that says what is left of its deadline.
pub fn request_headers(bytes: &[u8]) {
    let Some((&left, block)) = bytes.split_first() else { return };
    planes::fuzzing::request_headers(block, left);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_must_hold_does(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            begun in prop::sample::select(vec![
                &b""[..], b"application/grpc", b"1234567", b"\x01\0\0\0\0\x02ab",
                b"\x05\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x07", b"\x83\x86\x84\x41\x01a",
            ]),
        ) {
            let bytes = [begun, &bytes].concat();
            super::header_values(&bytes);
            super::message_bodies(&bytes);
            super::request_headers(&bytes);
        }

        #[test]
        fn values_that_mean_something_hold(
            value in "[0-9]{1,9}[HMSmun]?|application/grpc[-+; a-z]{0,5}|-?\\+?[0-9]{1,12}",
        ) {
            super::header_values(value.as_bytes());
        }
    }
}
