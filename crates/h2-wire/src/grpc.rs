//! The little of gRPC that whoever moves its calls must know: which requests are gRPC, the
//! `grpc-timeout` header, the escaping of `grpc-message`, and where a message
//! ends. Everything here works on bytes, so that anyone can use it
//! whatever its header and body types are. It never looks into a message.
//!
//! Source: `doc/PROTOCOL-HTTP2.md` of github.com/grpc/grpc, here called the
//! gRPC spec.

use std::time::Duration;

/// The header of a response that has its backend's name, where the L7 proxy was told to
/// add it (`--name-backends`).
pub const BACKEND_HEADER: &str = "x-layerlab-backend";
/// The trailer that has the backend's time, which [`parse_timeout`] reads.
pub const BACKEND_TIME_TRAILER: &str = "x-layerlab-backend-time";

/// The trailer that has what a call waited at its backend before it was served, where that
/// is known (`line` of the L7 proxy). The whole of its time there says that no
/// server can have been free for it.
pub const BACKEND_QUEUED_TRAILER: &str = "x-layerlab-backend-queued";

/// The status codes that the proxy itself can end a call with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The call's deadline passed.
    DeadlineExceeded = 4,
    /// The request's headers are over the limits.
    ResourceExhausted = 8,
    /// The request breaks the gRPC spec.
    Internal = 13,
    /// No backend could take the call, or the one that had it is gone.
    Unavailable = 14,
}

impl Status {
    /// The value of the `grpc-status` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "4",
            Self::ResourceExhausted => "8",
            Self::Internal => "13",
            Self::Unavailable => "14",
        }
    }
}

/// Whether a request with this `content-type` is a gRPC call: the type is
/// `application/grpc`, alone or followed by `+format` or by parameters. This
/// leaves out `application/grpc-web`, which is framed differently.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    match content_type.get(..GRPC.len()) {
        Some(start) if start.eq_ignore_ascii_case(GRPC) => {
            matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
        }
        _ => false,
    }
}

/// Parses a `grpc-timeout`: one to eight digits and a unit. `None` when it is
/// malformed.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A `grpc-timeout` value, held inline so that writing one allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutText {
    bytes: [u8; 9],
    start: u8,
}

impl TimeoutText {
    /// The value as it goes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// Writes a duration as a `grpc-timeout`, in the finest unit whose count has at
/// most eight digits, rounded down: a backend must not believe that it has
/// longer than the client waits. A positive duration never becomes zero, and
/// one beyond 99,999,999 hours becomes that.
pub fn format_timeout(timeout: Duration) -> TimeoutText {
    const LARGEST: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    let units: [(u128, u8); 6] = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60_000_000_000, b'M'),
        (3_600_000_000_000, b'H'),
    ];
    let (mut count, unit) = units
        .into_iter()
        .map(|(size, unit)| (nanos / size, unit))
        .find(|&(count, _)| count <= LARGEST)
        .unwrap_or((LARGEST, b'H'));
    let mut text = TimeoutText { bytes: [0; 9], start: 8 };
    text.bytes[8] = unit;
    loop {
        text.start -= 1;
        text.bytes[usize::from(text.start)] = b'0' + (count % 10) as u8;
        count /= 10;
        if count == 0 {
            return text;
        }
    }
}

/// Escapes a message for the `grpc-message` header: printable ASCII but `%` is
/// kept, every other byte of the UTF-8 becomes `%XX`.
pub fn percent_encode(message: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = String::with_capacity(message.len());
    for &byte in message.as_bytes() {
        if matches!(byte, 0x20..=0x7e) && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push(char::from(HEX[usize::from(byte >> 4)]));
            escaped.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
    escaped
}

/// Follows the length prefixes of a stream of gRPC messages, to tell whether
/// the bytes so far end on a message boundary. That decides how a stream whose
/// backend died is ended: after a whole message a status can still be given,
/// inside one only a reset is honest.
#[derive(Clone, Debug, Default)]
pub struct MessageScanner {
    prefix: [u8; 5],
    /// Bytes of the prefix seen so far; a full prefix is at once turned into
    /// `message_bytes_left`.
    prefix_len: u8,
    message_bytes_left: u32,
}

impl MessageScanner {
    /// Takes the next bytes of the stream.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.message_bytes_left > 0 {
                let skipped = bytes.len().min(self.message_bytes_left as usize);
                self.message_bytes_left -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            let have = usize::from(self.prefix_len);
            let taken = bytes.len().min(self.prefix.len() - have);
            self.prefix[have..have + taken].copy_from_slice(&bytes[..taken]);
            self.prefix_len += taken as u8;
            bytes = &bytes[taken..];
            if usize::from(self.prefix_len) == self.prefix.len() {
                let [_compressed, length @ ..] = self.prefix;
                self.message_bytes_left = u32::from_be_bytes(length);
                self.prefix_len = 0;
            }
        }
    }

    /// Whether the bytes so far are whole messages, or none.
    pub fn is_on_boundary(&self) -> bool {
        self.prefix_len == 0 && self.message_bytes_left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_is_told_from_its_neighbours() {
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=x"] {
            assert!(is_grpc(grpc.as_bytes()), "{grpc}");
        }
        for other in ["", "application/grpc-web", "application/grpc-web+proto", "text/html"] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn timeouts_parse_in_every_unit() {
        let cases = [
            ("2H", Duration::from_secs(7_200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
            ("0S", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text.as_bytes()), Some(expected), "{text}");
        }
        for malformed in ["", "S", "1", "123456789S", "-1S", "1 S", "1s", "1.5S", "1SS"] {
            assert_eq!(parse_timeout(malformed.as_bytes()), None, "{malformed}");
        }
    }

    #[test]
    fn timeouts_are_written_in_the_finest_unit_that_fits() {
        let cases = [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(100_000_000), "1666666M"),
            (Duration::MAX, "99999999H"),
        ];
        for (timeout, expected) in cases {
            assert_eq!(format_timeout(timeout).as_bytes(), expected.as_bytes(), "{timeout:?}");
        }
    }

    #[test]
    fn messages_are_escaped_as_the_spec_says() {
        assert_eq!(percent_encode("plain text, kept"), "plain text, kept");
        assert_eq!(percent_encode("100%\nü"), "100%25%0A%C3%BC");
    }

    #[test]
    fn an_empty_message_ends_on_a_boundary() {
        let mut scanner = MessageScanner::default();
        assert!(scanner.is_on_boundary());
        scanner.advance(&[0, 0, 0, 0]);
        assert!(!scanner.is_on_boundary());
        scanner.advance(&[0]);
        assert!(scanner.is_on_boundary());
    }

    proptest! {
        #[test]
        fn a_written_timeout_is_never_longer_and_hardly_shorter(nanos in 1_u64..) {
            let timeout = Duration::from_nanos(nanos);
            let parsed = parse_timeout(format_timeout(timeout).as_bytes()).unwrap();
            prop_assert!(parsed <= timeout);
            prop_assert!(!parsed.is_zero());
            // Eight digits: the error is below one part in a million, apart
            // from minutes and hours, whose steps are coarser.
            prop_assert!((timeout - parsed).as_secs_f64() <= timeout.as_secs_f64() * 1e-4);
        }

        #[test]
        fn parsing_never_panics(value in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse_timeout(&value);
            let _ = is_grpc(&value);
        }

        #[test]
        fn boundaries_do_not_depend_on_how_the_bytes_are_cut(
            lengths in proptest::collection::vec(0_usize..40, 0..8),
            cut in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            let mut boundaries = vec![0];
            for length in lengths {
                bytes.push(1);
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend(std::iter::repeat_n(0xff, length));
                boundaries.push(bytes.len());
            }
            let mut scanner = MessageScanner::default();
            let mut fed = 0;
            for chunk in bytes.chunks(cut) {
                scanner.advance(chunk);
                fed += chunk.len();
                prop_assert_eq!(scanner.is_on_boundary(), boundaries.contains(&fed));
            }
        }
    }
}
