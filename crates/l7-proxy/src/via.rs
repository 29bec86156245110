//! The proxy's entry in `via`, by which it knows a request that has come through
//! it before (RFC 9110, section 7.6.3).
//!
//! A proxy that is its own backend, or a backend's backend, would make one call
//! into thousands: each pass gives the call as many attempts again. A pseudonym
//! that no other process has tells such a request from one that has come through
//! another proxy of the same make.

use h2_wire::hpack::{Field, Name};

/// The entry of one running proxy.
#[derive(Debug)]
pub(crate) struct Via {
    entry: String,
}

/// What comes before the pseudonym: the version of the protocol that the request
/// came in.
const VERSION: &str = "2 ";

impl Via {
    /// An entry whose pseudonym is drawn by chance.
    pub(crate) fn new(random: u64) -> Self {
        Self { entry: format!("{VERSION}l7-proxy-{random:016x}") }
    }

    /// The field that is added to each request.
    pub(crate) fn field(&self) -> Field<'_> {
        let value = self.entry.as_bytes();
        Field { name: b"via", value, class: Name::Via, never_indexed: false }
    }

    /// Whether the entry is among these fields. Proxies on the way may have put
    /// entries into one field, or others behind it.
    pub(crate) fn is_in<'a>(&self, fields: impl IntoIterator<Item = Field<'a>>) -> bool {
        let pseudonym = &self.entry.as_bytes()[VERSION.len()..];
        let mut values =
            fields.into_iter().filter(|field| field.class == Name::Via).map(|field| field.value);
        values.any(|value| {
            let parts = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
            value.split(parts).any(|part| part == pseudonym)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_has_come_through_is_known_by_the_proxy_s_own_entry_alone() {
        let via = Via::new(0xabc);
        assert_eq!(via.field().value, b"2 l7-proxy-0000000000000abc");
        let cases: [(&[&[u8]], bool); 6] = [
            (&[], false),
            (&[b"2 l7-proxy-0000000000000abc"], true),
            (&[b"1.1 a, 2 l7-proxy-0000000000000abc (note),1.1 b"], true),
            (&[b"2 edge", b"HTTP/2 l7-proxy-0000000000000abc"], true),
            (&[b"2 l7-proxy-0000000000000abd"], false),
            (&[b"2 x-l7-proxy-0000000000000abc"], false),
        ];
        for (values, expected) in cases {
            let fields = values.iter().map(|value| Field::new(b"via", value));
            assert_eq!(via.is_in(fields), expected, "{values:?}");
        }
        let elsewhere = Field::new(b"x-via", b"2 l7-proxy-0000000000000abc");
        assert!(!via.is_in([elsewhere]));
    }
}
