//! Requests and answers, as hyper has them.

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header,
    uri::{Authority, Scheme},
};

use super::response_body::{ResponseBody, status_headers};
use crate::{failure::Answer, upstreams::Upstream};

/// hyper's client wants a scheme and an authority, which a client may have
/// left out (RFC 9113, section 8.3.1, lets `host` stand in).
pub(super) fn absolute(uri: &Uri, headers: &HeaderMap, upstream: &Upstream) -> Uri {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return uri.clone();
    }
    let mut parts = uri.clone().into_parts();
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
    parts.authority =
        parts.authority.or(host).or_else(|| Authority::try_from(upstream.addr().to_string()).ok());
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// The size of a request's headers as SETTINGS_MAX_HEADER_LIST_SIZE counts it
/// (RFC 9113, section 6.5.2): names, values, and 32 bytes for each.
pub(super) fn header_list_bytes(head: &http::request::Parts) -> usize {
    const OVERHEAD: usize = 32;
    let authority = head.uri.authority().map_or("", Authority::as_str);
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let scheme = head.uri.scheme_str().unwrap_or_default();
    let pseudo = [
        ":method",
        head.method.as_str(),
        ":scheme",
        scheme,
        ":authority",
        authority,
        ":path",
        path,
    ];
    let pseudo = pseudo.map(str::len).iter().sum::<usize>() + 4 * OVERHEAD;
    let fields = head.headers.iter();
    fields.fold(pseudo, |sum, (name, value)| sum + name.as_str().len() + value.len() + OVERHEAD)
}

/// What makes a request malformed and neither h2 nor hyper looks for: a field
/// value with a space or tab at its start or end (RFC 9113, section 8.2.1), a
/// path that is missing, and a `host` that names something else than
/// `:authority` (section 8.3.1). Two servers that read such a request differently
/// are how requests are smuggled.
pub(super) fn is_malformed(head: &http::request::Parts) -> bool {
    let is_blank_at_an_end = |value: &HeaderValue| {
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        ends.into_iter().any(|byte| matches!(byte, Some(b' ' | b'\t')))
    };
    let differs = |authority: &Authority| {
        let host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
        host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_str().as_bytes()))
    };
    let has_no_path = head.method != Method::CONNECT && head.uri.path().is_empty();
    has_no_path
        || head.headers.values().any(is_blank_at_an_end)
        || head.uri.authority().is_some_and(differs)
}

/// Puts an answer on the wire.
pub(super) fn render(answer: Answer) -> Result<Response<ResponseBody>, h2::Error> {
    let mut response = Response::new(ResponseBody::empty());
    match answer {
        Answer::TrailersOnly { status, message } | Answer::Trailers { status, message } => {
            let headers = response.headers_mut();
            *headers = status_headers(status, &message);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        Answer::Http { status } => {
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        }
        Answer::Reset { code } => return Err(h2::Reason::from(code).into()),
    }
    Ok(response)
}
