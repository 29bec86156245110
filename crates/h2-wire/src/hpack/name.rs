//! Field names that HTTP/2, gRPC or an encoder's policy treats apart.
//!
//! A name is classified once, when its text is first seen, and the class travels with the field:
//! through the dynamic table, through a [`HeaderList`](super::HeaderList) and into an encoder.
//! So neither the rules for messages nor the policies of the encoder nor a proxy compare strings
//! for fields that came as an index.

/// The class of a field name. Names compare in lower case only, as they travel in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// Any other name that starts with a colon, `:protocol` among them.
    UnknownPseudo,
    /// `connection`, `keep-alive`, `proxy-connection`, `transfer-encoding` and `upgrade`, which
    /// belong to HTTP/1.1 and are forbidden (RFC 9113, section 8.2.2).
    ConnectionSpecific,
    /// `te`, of which only `trailers` is allowed.
    Te,
    /// `host`
    Host,
    /// `content-length`
    ContentLength,
    /// `content-type`
    ContentType,
    /// `user-agent`
    UserAgent,
    /// `cookie`
    Cookie,
    /// `set-cookie`
    SetCookie,
    /// `authorization`
    Authorization,
    /// `proxy-authorization`
    ProxyAuthorization,
    /// `date`
    Date,
    /// `via`
    Via,
    /// `grpc-timeout`
    GrpcTimeout,
    /// `grpc-status`
    GrpcStatus,
    /// `grpc-message`
    GrpcMessage,
    /// `traceparent`
    Traceparent,
    /// `tracestate`
    Tracestate,
    /// Other names whose values rarely repeat: `age`, `etag`, `if-modified-since`,
    /// `if-none-match`, `last-modified`, `location`, `x-request-id`, `grpc-trace-bin` and the like.
    HighCardinality,
    /// Every other name.
    Other,
}

impl Name {
    /// The class of `name`.
    pub(crate) fn classify(name: &[u8]) -> Self {
        match name {
            [b':', rest @ ..] => match rest {
                b"authority" => Self::Authority,
                b"method" => Self::Method,
                b"path" => Self::Path,
                b"scheme" => Self::Scheme,
                b"status" => Self::Status,
                _ => Self::UnknownPseudo,
            },
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::ConnectionSpecific,
            b"te" => Self::Te,
            b"host" => Self::Host,
            b"content-length" => Self::ContentLength,
            b"content-type" => Self::ContentType,
            b"user-agent" => Self::UserAgent,
            b"cookie" => Self::Cookie,
            b"set-cookie" => Self::SetCookie,
            b"authorization" => Self::Authorization,
            b"proxy-authorization" => Self::ProxyAuthorization,
            b"date" => Self::Date,
            b"via" => Self::Via,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-message" => Self::GrpcMessage,
            b"traceparent" => Self::Traceparent,
            b"tracestate" => Self::Tracestate,
            b"age" | b"etag" | b"if-modified-since" | b"if-none-match" | b"last-modified"
            | b"location" | b"x-request-id" | b"x-b3-spanid" | b"x-b3-traceid"
            | b"grpc-trace-bin" | b"grpc-tags-bin" => Self::HighCardinality,
            _ => Self::Other,
        }
    }

    /// Whether the name starts with a colon.
    #[inline]
    pub const fn is_pseudo(self) -> bool {
        self as u8 <= Self::UnknownPseudo as u8
    }

    /// A bit of its own for sets of names.
    #[inline]
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// Whether every byte of `name` may stand in a field name: a token (RFC 9110, section 5.6.2) in
/// lower case, after one leading colon at most.
pub(crate) fn is_valid_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|&byte| TOKEN[usize::from(byte)])
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = matches!(byte,
            b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
            | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Whether `value` may be the value of a field whose name is of the class `class`: no control
/// character but tab anywhere, no space or tab at either end (RFC 9113, section 8.2.1; RFC 9110,
/// section 5.5), and what a pseudo-header field asks for besides.
pub(crate) fn is_valid_value(class: Name, value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') | (byte == 0x7f);
    let bad = value.iter().fold(false, |bad, &byte| bad | is_control(byte));
    if bad || blank(value.first()) || blank(value.last()) {
        return false;
    }
    match class {
        Name::Method | Name::Scheme | Name::Path | Name::Authority | Name::Host => {
            is_valid_target(class, value)
        }
        _ => true,
    }
}

/// Whether `value` may be that part of what a request asks for (RFC 9113, section 8.3.1). Servers
/// that take one that is malformed apart read different requests.
fn is_valid_target(class: Name, value: &[u8]) -> bool {
    let is_token = |byte: &u8| TOKEN[usize::from(byte.to_ascii_lowercase())];
    match class {
        Name::Method => !value.is_empty() && value.iter().all(is_token),
        Name::Scheme => {
            let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(is_scheme)
        }
        Name::Path => match value {
            b"*" => true,
            [b'/', ..] => !value.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'#')),
            _ => false,
        },
        // A host and a port, without userinfo.
        _ => !value.iter().any(|byte| b" \t/?#@\\".contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_in_lower_case_only() {
        assert_eq!(Name::classify(b":path"), Name::Path);
        assert_eq!(Name::classify(b":protocol"), Name::UnknownPseudo);
        assert_eq!(Name::classify(b"upgrade"), Name::ConnectionSpecific);
        assert_eq!(Name::classify(b"Upgrade"), Name::Other);
        assert!(Name::UnknownPseudo.is_pseudo());
        assert!(!Name::ConnectionSpecific.is_pseudo());
    }

    #[test]
    fn names_are_lower_case_tokens() {
        for name in [&b"te"[..], b":path", b"x-1_a.b~c"] {
            assert!(is_valid_name(name), "{name:?}");
        }
        for name in [&b""[..], b":", b"Te", b"a b", b"a:b", b"::a", b"a\0", b"\xc3\xa4", b"a\x7f"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }

    #[test]
    fn values_have_no_control_characters_and_no_blank_ends() {
        for value in [&b""[..], b"a b\tc", b"\xff\x80"] {
            assert!(is_valid_value(Name::Other, value), "{value:?}");
        }
        let bad = [&b" a"[..], b"a\t", b"a\rb", b"a\nb", b"a\0b", b"a\x01b", b"\x1f", b"a\x7fb"];
        for value in bad {
            assert!(!is_valid_value(Name::Other, value), "{value:?}");
        }
    }

    #[test]
    fn what_is_asked_for_has_the_form_that_all_servers_read_alike() {
        type Values = &'static [&'static [u8]];
        let cases: [(Name, Values, Values); 4] = [
            (Name::Method, &[b"POST", b"M-SEARCH", b"get"], &[b"", b"PO ST", b"GET/", b"\xc3"]),
            (Name::Scheme, &[b"http", b"https", b"a+b"], &[b"", b"h ttp", b"1a", b"http://"]),
            (
                Name::Path,
                &[b"/", b"/a/b?c=d&e", b"*", b"/%20", b"/\xc3\xa4"],
                &[b"", b"a", b"/a b", b"/a#b", b"*/", b"http://a/", b"?a"],
            ),
            (
                Name::Authority,
                &[b"", b"a.b:1", b"[::1]:80", b"a_b", b"%2Ftmp%2Fsock"],
                &[b"a/b", b"a b", b"me@a", b"a#", b"a?", b"a\\b"],
            ),
        ];
        for (class, good, bad) in cases {
            for value in good {
                assert!(is_valid_value(class, value), "{class:?} {}", value.escape_ascii());
            }
            for value in bad {
                assert!(!is_valid_value(class, value), "{class:?} {}", value.escape_ascii());
            }
        }
        assert!(!is_valid_value(Name::Host, b"a/b"), "host stands in for an authority");
    }
}
