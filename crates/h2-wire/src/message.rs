//! The rules for whole header lists: what makes a request, a response or trailers well-formed
//! (RFC 9113, sections 8.1 to 8.3).
//!
//! A list made a summary while it was filled, so that checking it here is a few operations on bits,
//! however long it is.

use crate::hpack::{HeaderList, Name};

const REQUEST: u32 = Name::Method.bit() | Name::Scheme.bit() | Name::Path.bit();
const REQUEST_PSEUDO: u32 = REQUEST | Name::Authority.bit();
const PSEUDO: u32 = REQUEST_PSEUDO | Name::Status.bit() | Name::UnknownPseudo.bit();

/// What a response's status says of its place in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// 1xx: another response follows.
    Informational,
    /// The response itself.
    Final,
}

/// Checks the head of a request.
///
/// # Errors
/// The rule that makes it malformed; a stream error of type PROTOCOL_ERROR.
pub fn check_request(list: &HeaderList) -> Result<(), &'static str> {
    let summary = list.summary();
    if let Some(fault) = summary.fault {
        return Err(fault);
    }
    let pseudo = summary.seen & PSEUDO;
    if summary.repeated & PSEUDO != 0 {
        return Err("repeated pseudo-header field");
    }
    if pseudo & !REQUEST_PSEUDO != 0 {
        return Err("pseudo-header field that no request has");
    }
    if list.value_of(Name::Method) == Some(b"CONNECT") {
        // Section 8.5: an authority, and neither scheme nor path.
        if pseudo != Name::Method.bit() | Name::Authority.bit() {
            return Err("CONNECT with a scheme or path, or without an authority");
        }
        return Ok(());
    }
    if pseudo & REQUEST != REQUEST {
        return Err("request without method, scheme or path");
    }
    if list.value_of(Name::Path) == Some(b"*") && list.value_of(Name::Method) != Some(b"OPTIONS") {
        return Err("a :path of * with a method other than OPTIONS");
    }
    // Section 8.3.1: servers that believe one or the other would read different requests.
    if let (Some(authority), Some(host)) =
        (list.value_of(Name::Authority), list.value_of(Name::Host))
        && !authority.eq_ignore_ascii_case(host)
    {
        return Err("host that differs from :authority");
    }
    Ok(())
}

/// Checks the head of a response.
///
/// # Errors
/// The rule that makes it malformed; a stream error of type PROTOCOL_ERROR.
pub fn check_response(list: &HeaderList) -> Result<ResponseKind, &'static str> {
    let summary = list.summary();
    if let Some(fault) = summary.fault {
        return Err(fault);
    }
    if summary.seen & PSEUDO != Name::Status.bit() || summary.repeated & PSEUDO != 0 {
        return Err("response with pseudo-header fields other than one :status");
    }
    match list.value_of(Name::Status) {
        // 101 belongs to HTTP/1.1 (section 8.6).
        Some(b"101") => Err("status 101"),
        Some([b'1', b'0'..=b'9', b'0'..=b'9']) => Ok(ResponseKind::Informational),
        Some([b'2'..=b'9', b'0'..=b'9', b'0'..=b'9']) => Ok(ResponseKind::Final),
        _ => Err("malformed :status"),
    }
}

/// Checks trailers.
///
/// # Errors
/// The rule that makes them malformed; a stream error of type PROTOCOL_ERROR.
pub(crate) fn check_trailers(list: &HeaderList) -> Result<(), &'static str> {
    let summary = list.summary();
    match summary.fault {
        Some(fault) => Err(fault),
        None if summary.seen & PSEUDO != 0 => Err("pseudo-header field in trailers"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Field;

    fn list(fields: &[(&str, &str)]) -> HeaderList {
        fields.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect()
    }

    const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

    #[test]
    fn a_request_has_each_of_its_pseudo_fields_once() {
        assert_eq!(check_request(&list(&GET)), Ok(()));
        for left_out in 0..3 {
            let mut fields = GET.to_vec();
            fields.remove(left_out);
            assert!(check_request(&list(&fields)).is_err(), "without {left_out}");
        }
        for extra in [
            (":path", "/"),
            (":status", "200"),
            (":protocol", "x"),
            ("connection", "close"),
            ("te", "gzip"),
            ("A", "b"),
        ] {
            let fields = [&GET[..], &[extra]].concat();
            assert!(check_request(&list(&fields)).is_err(), "{extra:?}");
        }
        for path in ["", "*"] {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
            assert!(check_request(&list(&fields)).is_err(), "{path:?}");
        }
        let options = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")];
        assert_eq!(check_request(&list(&options)), Ok(()));
    }

    #[test]
    fn host_must_not_contradict_the_authority() {
        let request = |host| list(&[&GET[..], &[(":authority", "a:1"), ("host", host)]].concat());
        assert_eq!(check_request(&request("A:1")), Ok(()));
        assert!(check_request(&request("b:1")).is_err());
    }

    #[test]
    fn connect_has_an_authority_and_no_more() {
        let connect = [(":method", "CONNECT"), (":authority", "a:1")];
        assert_eq!(check_request(&list(&connect)), Ok(()));
        assert!(check_request(&list(&connect[..1])).is_err());
        assert!(check_request(&list(&[&connect[..], &[(":path", "/")]].concat())).is_err());
    }

    #[test]
    fn a_response_has_a_status_of_three_digits() {
        use ResponseKind::{Final, Informational};
        for (status, kind) in [("200", Final), ("599", Final), ("103", Informational)] {
            assert_eq!(check_response(&list(&[(":status", status)])), Ok(kind));
        }
        for status in ["", "20", "2000", "0200", "abc", "099", "101"] {
            assert!(check_response(&list(&[(":status", status)])).is_err(), "{status}");
        }
        assert!(check_response(&list(&[])).is_err());
        assert!(check_response(&list(&[(":status", "200"), ("x", "a\u{1}b")])).is_err());
        assert!(check_response(&list(&[(":status", "200"), (":path", "/")])).is_err());
        assert!(check_response(&list(&[(":status", "200"), (":status", "200")])).is_err());
    }

    #[test]
    fn trailers_have_no_pseudo_fields() {
        assert_eq!(check_trailers(&list(&[("grpc-status", "0")])), Ok(()));
        assert!(check_trailers(&list(&[(":status", "200")])).is_err());
        assert!(check_trailers(&list(&[("upgrade", "x")])).is_err());
    }
}
