//! The parsers of what strangers send, opened for `fuzz/`. They check here what
//! must hold for any input, so that a target is one line.

use crate::{
    client_hello::{self, Hello},
    proxy_protocol::{self, HEADER_BYTES_MAX, Header},
};

/// A PROXY header: its length lies within the input and the bound, and more
/// bytes never change a verdict.
pub fn proxy_header(bytes: &[u8]) {
    let verdict = proxy_protocol::parse(bytes);
    if let Header::Whole { length, .. } = verdict {
        assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
        assert_eq!(proxy_protocol::parse(&bytes[..length]), verdict);
        assert_eq!(proxy_protocol::parse(&bytes[..length - 1]), Header::Partial);
    }
    let half = proxy_protocol::parse(&bytes[..bytes.len() / 2]);
    assert!(half == Header::Partial || half == verdict);
}

/// A ClientHello: more bytes never change a verdict.
pub fn client_hello(bytes: &[u8]) {
    let verdict = client_hello::parse(bytes);
    if let Hello::Whole { server_name: Some(name) } = &verdict {
        assert!(!name.contains(char::is_uppercase) && name.len() <= 255);
    }
    let half = client_hello::parse(&bytes[..bytes.len() / 2]);
    assert!(half == Hello::Partial || half == verdict);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_must_hold_does(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            begun in prop::sample::select(vec![
                &b""[..], b"PROXY TCP4 1.2.3.4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b"\x16\x03\x01\x01\x00",
            ]),
        ) {
            let bytes = [begun, &bytes].concat();
            super::proxy_header(&bytes);
            super::client_hello(&bytes);
        }
    }
}
