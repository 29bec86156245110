//! What the proxy reads in a request's headers, changes in them, and the header
//! lists of the answers it gives itself.

use std::net::SocketAddr;

use h2_wire::grpc::{
    self, BACKEND_HEADER, BACKEND_QUEUED_TRAILER, BACKEND_TIME_TRAILER, TimeoutText, percent_encode,
};
use h2_wire::hpack::{Field, HeaderList, Name};

use crate::config::DownstreamLimits;
use crate::failure::{Answer, Failure};
use crate::metrics::Outcome;
use crate::planes::Shared;

/// Whether a request's headers are within the limits. Pseudo-headers are not
/// counted: they are no headers to whoever sets the limit.
pub(super) fn is_within(list: &HeaderList, limits: &DownstreamLimits) -> bool {
    if list.size() > limits.max_header_list_bytes as usize {
        return false;
    }
    list.len() <= limits.max_headers
        || list.iter().filter(|field| !field.class.is_pseudo()).count() <= limits.max_headers
}

/// Whether a request is a gRPC call. CONNECT never is.
pub(super) fn is_grpc(list: &HeaderList) -> bool {
    list.contains(Name::Path) && list.value_of(Name::ContentType).is_some_and(grpc::is_grpc)
}

/// Checks of a request what can be checked without a backend, and gives its deadline.
///
/// # Errors
/// Why it is refused.
pub(super) fn check(
    list: &HeaderList,
    is_grpc: bool,
    shared: &Shared,
    now_ns: u64,
) -> Result<Option<u64>, Failure> {
    let config = &shared.config;
    if !is_within(list, &config.downstream) {
        return Err(Failure::HeadersTooLarge);
    }
    if list.contains(Name::Via) && shared.via.is_in(list.iter()) {
        return Err(Failure::Loop);
    }
    if !is_grpc {
        let is_served = config.calls.forward_http && list.contains(Name::Path);
        return if is_served { Ok(None) } else { Err(Failure::NotGrpc) };
    }
    let Some(timeout) = list.value_of(Name::GrpcTimeout) else { return Ok(None) };
    let timeout = grpc::parse_timeout(timeout).ok_or(Failure::MalformedTimeout)?;
    let timeout = timeout.min(config.calls.max_deadline);
    Ok(Some(now_ns.saturating_add(timeout.as_nanos() as u64)))
}

/// What a backend has taken of an attempt.
pub(super) struct Took {
    pub(super) whole: TimeoutText,
    /// What of it was spent waiting, where that is asked for.
    pub(super) queued: Option<TimeoutText>,
}

/// The header that `name_backends` adds to the head of a response.
pub(super) fn backend_name(name: &str) -> Field<'_> {
    Field::new(BACKEND_HEADER.as_bytes(), name.as_bytes())
}

/// What `name_backends` adds to the end of a response. It differs from call to
/// call, and would only push others out of the client's table.
pub(super) fn backend_times(took: &Took) -> impl Iterator<Item = Field<'_>> + Clone {
    let queued = took.queued.as_ref().map(|time| timed(BACKEND_QUEUED_TRAILER, time));
    [timed(BACKEND_TIME_TRAILER, &took.whole)].into_iter().chain(queued)
}

fn timed<'a>(name: &'static str, time: &'a TimeoutText) -> Field<'a> {
    let (name, value) = (name.as_bytes(), time.as_bytes());
    Field { name, value, class: Name::HighCardinality, never_indexed: false }
}

/// Whether a list names an authority, in either way (RFC 9113, section 8.3.1).
pub(super) fn names_authority(list: &HeaderList) -> bool {
    list.contains(Name::Authority) || list.contains(Name::Host)
}

/// What has to be changed in a request on its way to a backend.
pub(super) struct Changes {
    /// What remains of the deadline.
    pub(super) timeout: Option<TimeoutText>,
    /// An authority for a request that names none (RFC 9113, section 8.3.1,
    /// lets `host` stand in for one).
    pub(super) authority: Option<String>,
}

impl Changes {
    pub(super) fn of(list: &HeaderList, timeout: Option<TimeoutText>, address: SocketAddr) -> Self {
        Self { timeout, authority: (!names_authority(list)).then(|| address.to_string()) }
    }

    /// The changed fields. Headers that belong to one hop of HTTP/1.1 can't be
    /// among them: HTTP/2 forbids them, and a list with one is malformed.
    pub(super) fn apply<'a>(
        &'a self,
        list: &'a HeaderList,
    ) -> impl Iterator<Item = Field<'a>> + 'a {
        let authority = self.authority.as_deref().map(str::as_bytes);
        let authority = authority.map(|value| Field::new(b":authority", value));
        let kept = list.iter().map(|mut field| {
            if let (Name::GrpcTimeout, Some(timeout)) = (field.class, &self.timeout) {
                field.value = timeout.as_bytes();
            }
            field
        });
        authority.into_iter().chain(kept)
    }
}

/// Fills `list` with an answer's headers or trailers. `None` for a reset, which
/// has none.
pub(super) fn fill(list: &mut HeaderList, answer: &Answer) -> Option<()> {
    list.clear();
    match answer {
        Answer::TrailersOnly { status, message } => {
            list.push(Field::new(b":status", b"200"));
            list.push(Field::new(b"content-type", b"application/grpc"));
            list.push(Field::new(b"grpc-status", status.as_str().as_bytes()));
            list.push(Field::new(b"grpc-message", percent_encode(message).as_bytes()));
        }
        Answer::Trailers { status, message } => {
            list.push(Field::new(b"grpc-status", status.as_str().as_bytes()));
            list.push(Field::new(b"grpc-message", percent_encode(message).as_bytes()));
        }
        Answer::Http { status } => {
            list.push(Field::new(b":status", status.to_string().as_bytes()));
        }
        Answer::Reset { .. } => return None,
    }
    Some(())
}

/// The number of a checked `:status`.
pub(super) fn status(list: &HeaderList) -> u16 {
    let digits = list.value_of(Name::Status).unwrap_or_default();
    digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
}

/// How a response that ended with `last` is counted.
#[inline]
pub(super) fn outcome(is_grpc: bool, status: u16, last: Option<&HeaderList>) -> Outcome {
    if is_grpc {
        Outcome::of_grpc(last.and_then(|list| list.value_of(Name::GrpcStatus)))
    } else {
        Outcome::of_http(status)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use h2_wire::grpc::Status;

    use super::*;

    fn list(fields: &[(&str, &str)]) -> HeaderList {
        fields.iter().map(|(name, value)| Field::new(name.as_bytes(), value.as_bytes())).collect()
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7))
    }

    #[test]
    fn limits_count_headers_and_not_pseudo_headers() {
        let limits = DownstreamLimits { max_headers: 2, ..DownstreamLimits::default() };
        let fine = list(&[(":method", "POST"), (":path", "/"), ("a", "b"), ("a", "b")]);
        assert!(is_within(&fine, &limits));
        let more = list(&[(":method", "POST"), ("a", "b"), ("a", "b"), ("a", "b")]);
        assert!(!is_within(&more, &limits));
        let small = DownstreamLimits { max_header_list_bytes: 100, ..limits };
        assert!(!is_within(&fine, &small));
    }

    #[test]
    fn the_timeout_is_replaced_where_it_stands_and_an_authority_goes_first() {
        let list = list(&[(":path", "/"), ("grpc-timeout", "1S"), ("a", "b")]);
        let timeout = grpc::format_timeout(Duration::from_millis(5));
        let changes = Changes::of(&list, Some(timeout), address());
        let found: Vec<_> = changes.apply(&list).map(|field| (field.name, field.value)).collect();
        let expected: [(&[u8], &[u8]); 4] = [
            (b":authority", b"127.0.0.1:7"),
            (b":path", b"/"),
            (b"grpc-timeout", b"5000000n"),
            (b"a", b"b"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn host_is_authority_enough() {
        assert!(Changes::of(&list(&[("host", "a")]), None, address()).authority.is_none());
        assert!(Changes::of(&list(&[(":authority", "a")]), None, address()).authority.is_none());
    }

    #[test]
    fn answers_become_lists() {
        let mut found = HeaderList::new();
        let answer = Answer::TrailersOnly { status: Status::Unavailable, message: "5%".to_owned() };
        assert!(fill(&mut found, &answer).is_some());
        assert_eq!(status(&found), 200);
        assert_eq!(found.value_of(Name::GrpcMessage), Some(&b"5%25"[..]));
        assert!(fill(&mut found, &Answer::Http { status: 503 }).is_some());
        assert_eq!((status(&found), found.len()), (503, 1));
        assert!(fill(&mut found, &Answer::Reset { code: 2 }).is_none());
    }

    #[test]
    fn a_grpc_response_is_ok_by_its_status_only() {
        let ok = list(&[("grpc-status", "0")]);
        assert_eq!(outcome(true, 200, Some(&ok)), Outcome::Ok);
        let other = list(&[("grpc-status", "5")]);
        assert_eq!(outcome(true, 200, Some(&other)), Outcome::Error);
        assert_eq!(outcome(true, 200, None), Outcome::Fault);
        assert_eq!(outcome(false, 404, None), Outcome::Ok);
        assert_eq!(outcome(false, 502, None), Outcome::Fault);
    }
}
