//! The PROXY protocol, versions 1 and 2: a header in front of a connection
//! that tells who opened it.
//!
//! A header is all or nothing: whoever is told to expect one takes none other
//! for the client's address, since a client could otherwise write its own. What
//! is left out: the TLVs of version 2 (skipped), UDP and UNIX addresses (taken
//! as "unknown", which keeps the connection's own addresses).
//!
//! Source: haproxy.org, "The PROXY protocol, Versions 1 & 2".

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The most that a header may take, in bytes: version 1 has 107 at most, and
/// of version 2's 64 KiB only TLVs of unusual size would need more than this.
pub(crate) const HEADER_BYTES_MAX: usize = 2_048;

/// The longest header of version 1, its end of line included.
const V1_BYTES_MAX: usize = 107;

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of a version 2 header.
const V2_BYTES_MIN: usize = 16;

/// Which version is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl FromStr for ProxyVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err("expected v1 or v2".to_owned()),
        }
    }
}

/// Who opened a connection, and to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// A part of a header; more is needed.
    Partial,
    /// A whole header of this many bytes; no addresses where the sender speaks
    /// for itself (a health check) or knows none.
    Whole { length: usize, addresses: Option<Addresses> },
    /// No header.
    Malformed,
}

/// Reads the header at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Header {
    let signature = &V2_SIGNATURE[..bytes.len().min(V2_SIGNATURE.len())];
    if bytes.starts_with(signature) {
        // A prefix of it begins no version 1 header.
        return if bytes.len() < V2_BYTES_MIN { Header::Partial } else { parse_v2(bytes) };
    }
    parse_v1(bytes)
}

fn parse_v1(bytes: &[u8]) -> Header {
    const PREFIX: &[u8] = b"PROXY ";
    if !bytes.starts_with(&PREFIX[..bytes.len().min(PREFIX.len())]) {
        return Header::Malformed;
    }
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(feed) = line.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= V1_BYTES_MAX { Header::Malformed } else { Header::Partial };
    };
    // A line feed by itself can't be a part of anything right, whatever follows it.
    let Some(end) = feed.checked_sub(1).filter(|end| line[*end] == b'\r') else {
        return Header::Malformed;
    };
    let text = std::str::from_utf8(&line[PREFIX.len().min(end)..end]);
    match text.ok().and_then(parse_v1_fields) {
        Some(addresses) => Header::Whole { length: end + 2, addresses },
        None => Header::Malformed,
    }
}

/// The fields behind `PROXY `; `None` when they are wrong.
fn parse_v1_fields(text: &str) -> Option<Option<Addresses>> {
    let mut fields = text.split(' ');
    let family = fields.next()?;
    if family == "UNKNOWN" {
        // "the receiver must ignore anything presented before the CRLF"
        return Some(None);
    }
    let mut next = || fields.next();
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (parse_port(next()?)?, parse_port(next()?)?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    Some(Some(Addresses {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    }))
}

/// Decimal digits without a sign or leading zeroes.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn parse_v2(bytes: &[u8]) -> Header {
    let length = V2_BYTES_MIN + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let (version, command) = (bytes[12] >> 4, bytes[12] & 0x0f);
    if version != 2 || command > 1 || length > HEADER_BYTES_MAX {
        return Header::Malformed;
    }
    let address_bytes = match bytes[13] {
        0x11 => 12,
        0x21 => 36,
        // Unspecified, datagrams and UNIX sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => 0,
        _ => return Header::Malformed,
    };
    if length < V2_BYTES_MIN + address_bytes {
        return Header::Malformed;
    }
    if bytes.len() < length {
        return Header::Partial;
    }
    let is_local = command == 0;
    let block = &bytes[V2_BYTES_MIN..V2_BYTES_MIN + address_bytes];
    let addresses = if is_local { None } else { parse_v2_addresses(block) };
    Header::Whole { length, addresses }
}

fn parse_v2_addresses(block: &[u8]) -> Option<Addresses> {
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let ip = |range: std::ops::Range<usize>| -> Option<IpAddr> {
        let bytes = &block[range];
        match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        }
    };
    let width = match block.len() {
        12 => 4,
        36 => 16,
        _ => return None,
    };
    Some(Addresses {
        source: SocketAddr::new(ip(0..width)?, port(2 * width)),
        destination: SocketAddr::new(ip(width..2 * width)?, port(2 * width + 2)),
    })
}

/// Writes the header of a connection. Where one address is IPv4 and the other
/// is not, both are written as IPv6.
pub(crate) fn encode(version: ProxyVersion, addresses: Addresses) -> Vec<u8> {
    let Addresses { source, destination } = addresses;
    let (from, to) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (from @ IpAddr::V4(_), to @ IpAddr::V4(_)) => (from, to),
        (from, to) => (IpAddr::V6(as_v6(from)), IpAddr::V6(as_v6(to))),
    };
    match version {
        ProxyVersion::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let (source_port, port) = (source.port(), destination.port());
            format!("PROXY {family} {from} {to} {source_port} {port}\r\n").into_bytes()
        }
        ProxyVersion::V2 => {
            let mut bytes = V2_SIGNATURE.to_vec();
            let (family, length) = if from.is_ipv4() { (0x11, 12_u16) } else { (0x21, 36) };
            bytes.extend([0x21, family]);
            bytes.extend(length.to_be_bytes());
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(v4) => bytes.extend(v4.octets()),
                    IpAddr::V6(v6) => bytes.extend(v6.octets()),
                }
            }
            bytes.extend(source.port().to_be_bytes());
            bytes.extend(destination.port().to_be_bytes());
            bytes
        }
    }
}

/// The header of a connection that the proxy makes for itself, such as a health
/// check: its own addresses are those of the connection (section 2.2, LOCAL).
pub(crate) fn local(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn v4() -> Addresses {
        addresses("192.0.2.7:40000", "198.51.100.1:443")
    }

    fn v6() -> Addresses {
        addresses("[2001:db8::7]:1", "[2001:db8::1]:65535")
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let line = b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
        let widest = addresses("255.255.255.255:65535", "255.255.255.255:65535");
        assert_eq!(parse(line), Header::Whole { length: 56, addresses: Some(widest) });
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
            ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_BYTES_MAX);
        assert_eq!(parse(longest), Header::Whole { length: 107, addresses: None });
        assert_eq!(parse(b"PROXY UNKNOWN\r\nGET"), Header::Whole { length: 15, addresses: None });
    }

    /// Found by fuzzing: it was refused or taken by how much of it had come.
    #[test]
    fn a_line_feed_by_itself_is_refused_whatever_follows() {
        let line = b"PROXY UNKNOWN a\nb\r\n";
        assert_eq!(parse(line), Header::Malformed);
        assert_eq!(parse(&line[..16]), Header::Malformed);
        assert_eq!(parse(&line[..15]), Header::Partial);
    }

    #[test]
    fn what_is_written_is_read_and_every_part_of_it_is_partial() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for addresses in [v4(), v6()] {
                let header = encode(version, addresses);
                let length = header.len();
                for cut in 0..length {
                    assert_eq!(parse(&header[..cut]), Header::Partial, "{version:?} cut at {cut}");
                }
                let whole = Header::Whole { length, addresses: Some(addresses) };
                assert_eq!(parse(&header), whole);
                assert_eq!(parse(&[&header[..], b"behind it"].concat()), whole);
            }
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_no_addresses() {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = local(version);
            assert_eq!(parse(header), Header::Whole { length: header.len(), addresses: None });
        }
        assert_eq!(
            local(ProxyVersion::V2)[12..],
            [0x20, 0, 0, 0],
            "LOCAL, AF_UNSPEC, no addresses"
        );
    }

    #[test]
    fn addresses_of_two_families_are_written_as_one() {
        let mixed = addresses("192.0.2.7:5", "[2001:db8::1]:6");
        let expected = addresses("[::ffff:192.0.2.7]:5", "[2001:db8::1]:6");
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = encode(version, mixed);
            let Header::Whole { addresses, .. } = parse(&header) else { panic!("{header:?}") };
            assert_eq!(addresses, Some(expected));
        }
        let mapped = addresses("[::ffff:192.0.2.7]:5", "[::ffff:192.0.2.8]:6");
        assert!(encode(ProxyVersion::V1, mapped).starts_with(b"PROXY TCP4 192.0.2.7 192.0.2.8"));
    }

    #[test]
    fn malformed_headers_are_refused() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY \r\n",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Header::Malformed, "{text:?}");
        }
        let endless = [b"PROXY ".to_vec(), vec![b'x'; 200]].concat();
        assert_eq!(parse(&endless), Header::Malformed);
        let good = encode(ProxyVersion::V2, v4());
        for (at, value) in [(12, 0x11), (12, 0x22), (13, 0x13), (13, 0x41), (15, 11), (14, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(parse(&bad), Header::Malformed, "byte {at} = {value}");
        }
    }

    #[test]
    fn tlvs_are_skipped_and_local_connections_keep_their_own_addresses() {
        let mut header = encode(ProxyVersion::V2, v4());
        header[15] = 12 + 5;
        header.extend([0x01, 0, 2, b'h', b'2']);
        assert_eq!(parse(&header), Header::Whole { length: 33, addresses: Some(v4()) });
        header[12] = 0x20;
        assert_eq!(parse(&header), Header::Whole { length: 33, addresses: None });
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_usize..3) {
            let prefix: &[u8] = [&b""[..], b"PROXY ", &V2_SIGNATURE][kind];
            let bytes = [prefix, &bytes].concat();
            if let Header::Whole { length, .. } = parse(&bytes) {
                prop_assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
            }
        }

        #[test]
        fn more_bytes_never_take_a_verdict_back(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [b"PROXY TCP4 ", &bytes[..]].concat();
            let mut settled = None;
            for cut in 0..=bytes.len() {
                let verdict = parse(&bytes[..cut]);
                if let Some(settled) = settled {
                    prop_assert_eq!(verdict, settled);
                } else if verdict != Header::Partial {
                    settled = Some(verdict);
                }
            }
        }
    }
}
