//! The static table (RFC 7541, appendix A) and its use by an encoder.

use super::name::Name;

/// One entry of the static table.
pub(crate) struct StaticField {
    pub(crate) name: &'static [u8],
    pub(crate) value: &'static [u8],
    pub(crate) class: Name,
}

const fn field(class: Name, name: &'static str, value: &'static str) -> StaticField {
    StaticField { name: name.as_bytes(), value: value.as_bytes(), class }
}

const fn other(name: &'static str) -> StaticField {
    field(Name::Other, name, "")
}

const fn varied(name: &'static str) -> StaticField {
    field(Name::HighCardinality, name, "")
}

/// How many entries there are; dynamic entries follow from index 62 on.
pub(crate) const STATIC_LEN: usize = 61;

/// The entries by their index less one.
pub(crate) static STATIC: [StaticField; STATIC_LEN] = [
    field(Name::Authority, ":authority", ""),
    field(Name::Method, ":method", "GET"),
    field(Name::Method, ":method", "POST"),
    field(Name::Path, ":path", "/"),
    field(Name::Path, ":path", "/index.html"),
    field(Name::Scheme, ":scheme", "http"),
    field(Name::Scheme, ":scheme", "https"),
    field(Name::Status, ":status", "200"),
    field(Name::Status, ":status", "204"),
    field(Name::Status, ":status", "206"),
    field(Name::Status, ":status", "304"),
    field(Name::Status, ":status", "400"),
    field(Name::Status, ":status", "404"),
    field(Name::Status, ":status", "500"),
    other("accept-charset"),
    field(Name::Other, "accept-encoding", "gzip, deflate"),
    other("accept-language"),
    other("accept-ranges"),
    other("accept"),
    other("access-control-allow-origin"),
    varied("age"),
    other("allow"),
    field(Name::Authorization, "authorization", ""),
    other("cache-control"),
    other("content-disposition"),
    other("content-encoding"),
    other("content-language"),
    field(Name::ContentLength, "content-length", ""),
    other("content-location"),
    other("content-range"),
    field(Name::ContentType, "content-type", ""),
    field(Name::Cookie, "cookie", ""),
    field(Name::Date, "date", ""),
    varied("etag"),
    other("expect"),
    other("expires"),
    other("from"),
    field(Name::Host, "host", ""),
    other("if-match"),
    varied("if-modified-since"),
    varied("if-none-match"),
    other("if-range"),
    other("if-unmodified-since"),
    varied("last-modified"),
    other("link"),
    varied("location"),
    other("max-forwards"),
    other("proxy-authenticate"),
    field(Name::ProxyAuthorization, "proxy-authorization", ""),
    other("range"),
    other("referer"),
    other("refresh"),
    other("retry-after"),
    other("server"),
    field(Name::SetCookie, "set-cookie", ""),
    other("strict-transport-security"),
    field(Name::ConnectionSpecific, "transfer-encoding", ""),
    field(Name::UserAgent, "user-agent", ""),
    other("vary"),
    field(Name::Via, "via", ""),
    other("www-authenticate"),
];

/// The index of the entry with this name and value.
#[inline]
pub(crate) fn find_pair(class: Name, name: &[u8], value: &[u8]) -> Option<usize> {
    let candidates = match class {
        Name::Method => 2..=3,
        Name::Path => 4..=5,
        Name::Scheme => 6..=7,
        Name::Status => 8..=14,
        Name::Other if value == b"gzip, deflate" && name == b"accept-encoding" => 16..=16,
        _ => return None,
    };
    candidates.into_iter().find(|index| STATIC[index - 1].value == value)
}

/// The lowest index of an entry with this name.
pub(crate) fn find_name(class: Name, name: &[u8]) -> Option<usize> {
    Some(match class {
        Name::Authority => 1,
        Name::Method => 2,
        Name::Path => 4,
        Name::Scheme => 6,
        Name::Status => 8,
        Name::Authorization => 23,
        Name::ContentLength => 28,
        Name::ContentType => 31,
        Name::Cookie => 32,
        Name::Date => 33,
        Name::Host => 38,
        Name::ProxyAuthorization => 49,
        Name::SetCookie => 55,
        Name::UserAgent => 58,
        Name::Via => 60,
        // Asked once for every field that enters the dynamic table: rare enough for a walk.
        Name::Other | Name::HighCardinality | Name::ConnectionSpecific => {
            1 + STATIC.iter().position(|entry| entry.name == name)?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_classified_and_found() {
        for (index, entry) in STATIC.iter().enumerate() {
            assert_eq!(entry.class, Name::classify(entry.name), "{index}");
            let by_name = find_name(entry.class, entry.name).expect("known name");
            assert_eq!(STATIC[by_name - 1].name, entry.name);
            assert!(by_name <= index + 1);
            if !entry.value.is_empty() {
                let found = find_pair(entry.class, entry.name, entry.value);
                assert_eq!(found, Some(index + 1));
            }
        }
        assert_eq!(STATIC[60].name, b"www-authenticate");
    }

    #[test]
    fn unknown_names_and_values_are_not_found() {
        assert_eq!(find_pair(Name::Status, b":status", b"418"), None);
        assert_eq!(find_pair(Name::Other, b"accept", b"gzip, deflate"), None);
        assert_eq!(find_name(Name::GrpcStatus, b"grpc-status"), None);
        assert_eq!(find_name(Name::Other, b"x-custom"), None);
    }
}
