//! The server name in a TLS ClientHello, read and passed on untouched.
//!
//! Only what routing needs is read: record and handshake framing, far enough
//! into the hello to find the server_name extension. A hello may come in any
//! number of packets and records, which clients with large keys do. With ECH
//! the name that is seen is the outer one, which is public by design and what
//! a client-facing server is to be routed by (RFC 9849). Everything else, such
//! as versions and ciphers, is the backend's to judge.
//!
//! Source: RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3.

/// The most that is read of a client before its hello must be whole, record
/// headers included. Hellos with post-quantum keys have about 2 KiB.
pub(crate) const HELLO_BYTES_MAX: usize = 16 << 10;

/// Bytes of a record in front of its content.
const RECORD_HEADER_BYTES: usize = 5;
/// Bytes of content a record may have, with room for what old remotes add.
const RECORD_BYTES_MAX: usize = (1 << 14) + 256;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// A part of a hello; more is needed.
    Partial,
    /// A whole hello, and the name in it in lower case, if it has one.
    Whole { server_name: Option<String> },
    /// No ClientHello.
    Malformed,
}

/// Reads the hello at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Hello {
    let (handshake, records) = match join_records(bytes) {
        Some(joined) => joined,
        None => return Hello::Malformed,
    };
    let Some((&kind, rest)) = handshake.split_first() else { return records.otherwise() };
    if kind != CLIENT_HELLO {
        return Hello::Malformed;
    }
    let Some((length, body)) = rest.split_first_chunk::<3>() else { return records.otherwise() };
    let length =
        usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
    if length > HELLO_BYTES_MAX {
        return Hello::Malformed;
    }
    let Some(body) = body.get(..length) else { return records.otherwise() };
    match server_name(&mut Reader(body)) {
        Some(server_name) => Hello::Whole { server_name },
        None => Hello::Malformed,
    }
}

/// How the records that are there end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Records {
    MayGoOn,
    Full,
}

impl Records {
    /// The verdict on a handshake that is not whole.
    fn otherwise(self) -> Hello {
        match self {
            Self::MayGoOn => Hello::Partial,
            Self::Full => Hello::Malformed,
        }
    }
}

/// The content of the handshake records there are, the last one perhaps cut
/// off; `None` when they are no handshake records.
fn join_records(mut bytes: &[u8]) -> Option<(Vec<u8>, Records)> {
    let records = if bytes.len() >= HELLO_BYTES_MAX { Records::Full } else { Records::MayGoOn };
    let mut content = Vec::new();
    while !bytes.is_empty() {
        // Judged from the first byte on, so that other protocols don't have to
        // wait for the timeout.
        let is_right = |at: usize, right: u8| bytes.get(at).is_none_or(|byte| *byte == right);
        if !is_right(0, HANDSHAKE) || !is_right(1, 3) {
            return None;
        }
        let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else { break };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return None;
        }
        let available = &bytes[RECORD_HEADER_BYTES..];
        content.extend_from_slice(&available[..length.min(available.len())]);
        // What follows the hello may be of another kind, and is not ours.
        if is_whole(&content) {
            break;
        }
        bytes = available.get(length..).unwrap_or_default();
    }
    Some((content, records))
}

fn is_whole(handshake: &[u8]) -> bool {
    handshake.len() >= 4
        && handshake.len() - 4
            >= usize::from(handshake[1]) << 16
                | usize::from(handshake[2]) << 8
                | usize::from(handshake[3])
}

/// The name in the body of a hello; `None` when the body is malformed.
fn server_name(hello: &mut Reader<'_>) -> Option<Option<String>> {
    let _version_and_random = hello.take(2 + 32)?;
    let _session_id = hello.vector::<1>()?;
    let _cipher_suites = hello.vector::<2>()?;
    let _compression_methods = hello.vector::<1>()?;
    if hello.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(hello.vector::<2>()?);
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()?;
        let content = extensions.vector::<2>()?;
        if kind == usize::from(SERVER_NAME) && name.is_none() {
            name = Some(host_name(&mut Reader(content))?);
        }
    }
    Some(name)
}

fn host_name(extension: &mut Reader<'_>) -> Option<String> {
    let mut names = Reader(extension.vector::<2>()?);
    while !names.0.is_empty() {
        let kind = names.number::<1>()?;
        let name = names.vector::<2>()?;
        if kind == usize::from(HOST_NAME) {
            let text = std::str::from_utf8(name).ok()?;
            let is_sound = !text.is_empty() && text.len() <= 255 && text.is_ascii();
            return is_sound.then(|| text.trim_end_matches('.').to_ascii_lowercase());
        }
    }
    None
}

/// Takes fields off the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        Some(self.take(N)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What follows a length of `N` bytes.
    fn vector<const N: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.number::<N>()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector<const N: usize>(content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - N..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector::<2>(content)].concat()
    }

    /// A hello with these extensions, without records.
    fn handshake(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(vector::<1>(&[9; 32]));
        body.extend(vector::<2>(&[0x13, 0x01, 0x13, 0x02]));
        body.extend(vector::<1>(&[0]));
        body.extend(vector::<2>(&extensions.concat()));
        [&[CLIENT_HELLO][..], &vector::<3>(&body)].concat()
    }

    fn name(host: &str) -> Vec<u8> {
        let entry = [&[HOST_NAME][..], &vector::<2>(host.as_bytes())].concat();
        extension(SERVER_NAME, &vector::<2>(&entry))
    }

    /// The handshake in records of at most `most` bytes.
    fn records(handshake: &[u8], most: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &vector::<2>(part)].concat();
        handshake.chunks(most).flat_map(record).collect()
    }

    fn named(host: &str) -> Hello {
        Hello::Whole { server_name: Some(host.to_owned()) }
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let grease = extension(0x2a2a, &[]);
        let ech = extension(0xfe0d, &[1; 300]);
        let hello = handshake(&[grease, ech, name("API.Example.com."), extension(51, &[5; 1_200])]);
        for most in [1, 2, 3, 100, 16_000] {
            let bytes = records(&hello, most);
            if bytes.len() >= HELLO_BYTES_MAX {
                continue;
            }
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Hello::Partial, "records of {most}, cut at {cut}");
            }
            assert_eq!(parse(&bytes), named("api.example.com"), "records of {most}");
            let early_data = [&bytes[..], &[23, 3, 3, 0, 1, 0]].concat();
            assert_eq!(parse(&early_data), named("api.example.com"));
        }
    }

    #[test]
    fn a_hello_may_have_no_name() {
        let without = Hello::Whole { server_name: None };
        assert_eq!(parse(&records(&handshake(&[extension(10, &[0, 0])]), 900)), without);
        let mut bare = handshake(&[]);
        // No extensions at all, as in TLS 1.2.
        bare.truncate(bare.len() - 2);
        let length = bare.len() - 4;
        bare[3] = length as u8;
        assert_eq!(parse(&records(&bare, 900)), without);
    }

    #[test]
    fn other_protocols_are_told_at_their_first_bytes() {
        for bytes in [&b"G"[..], b"PRI * HTTP/2.0", &[22, 2], &[23, 3, 1], &[22, 3, 1, 0, 0]] {
            assert_eq!(parse(bytes), Hello::Malformed, "{bytes:?}");
        }
        let server_hello = records(&[2, 0, 0, 1, 0], 900);
        assert_eq!(parse(&server_hello), Hello::Malformed);
    }

    #[test]
    fn lengths_that_point_outside_are_refused() {
        let mut hello = handshake(&[name("a.example")]);
        let at = hello.len() - 1 - "a.example".len();
        hello[at] += 1;
        assert_eq!(parse(&records(&hello, 900)), Hello::Malformed);
        let endless = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        assert_eq!(parse(&endless), Hello::Malformed);
    }

    #[test]
    fn a_hello_beyond_the_bound_is_refused() {
        // Records of a byte each: six bytes are spent on one.
        let bytes = records(&handshake(&[name("a.example"), extension(51, &[0; 4_000])]), 1);
        assert!(bytes.len() > HELLO_BYTES_MAX);
        assert_eq!(parse(&bytes[..HELLO_BYTES_MAX - 1]), Hello::Partial);
        assert_eq!(parse(&bytes[..HELLO_BYTES_MAX]), Hello::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            flips in prop::collection::vec((0_usize..200, any::<u8>()), 0..4),
        ) {
            parse(&bytes);
            parse(&records(&[&[CLIENT_HELLO, 0, 1, 0][..], &bytes].concat(), 64));
            let mut hello = records(&handshake(&[name("a.example")]), 40);
            for (at, value) in flips {
                let at = at % hello.len();
                hello[at] = value;
            }
            parse(&hello);
        }

        #[test]
        fn any_name_is_found(host in "[a-z0-9.-]{1,60}[a-z]", most in 1_usize..300) {
            let bytes = records(&handshake(&[name(&host)]), most);
            prop_assert_eq!(parse(&bytes), named(&host));
        }
    }
}
