//! What must hold of the headers of any request; see [`crate::fuzzing`].

use std::net::SocketAddr;
use std::time::Duration;

use h2_wire::hpack::{Decoder, Encoder, EncoderOptions, ListLimits, Name, Outcome};
use h2_wire::message;

use super::headers::{self, Changes};
use crate::config::DownstreamLimits;
use h2_wire::grpc;

const LIMITS: ListLimits = ListLimits { max_fields: 100, max_bytes: 16 * 1024 };

/// A header block of a request, with `left` microseconds of a deadline: a backend is
/// sent every field as it came, in its order, but for the timeout and an authority
/// that was missing. Of a response, the status is read.
pub(crate) fn request_headers(block: &[u8], left: u8) {
    let mut decoder = Decoder::new(LIMITS);
    if decoder.decode(block) != Ok(Outcome::Complete) {
        return;
    }
    let list = decoder.list();
    if message::check_response(list).is_ok() {
        assert!((100..=999).contains(&headers::status(list)));
    }
    if message::check_request(list).is_err() {
        return;
    }
    let limits = DownstreamLimits { max_headers: usize::from(left), ..DownstreamLimits::default() };
    let regular = list.iter().filter(|field| !field.name.starts_with(b":")).count();
    assert_eq!(headers::is_within(list, &limits), regular <= limits.max_headers);

    // A timeout is only ever written where one was read.
    let asked = list.value_of(Name::GrpcTimeout).and_then(grpc::parse_timeout);
    let timeout = asked.map(|asked| {
        let left = asked.min(Duration::from_micros(u64::from(left)));
        grpc::format_timeout(left)
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 7));
    let changes = Changes::of(list, timeout, address);
    let mut sent = Vec::new();
    Encoder::new(EncoderOptions::default()).encode(changes.apply(list), &mut sent);

    let more = ListLimits { max_fields: 101, max_bytes: 17 * 1024 };
    let mut backend = Decoder::new(more);
    assert_eq!(backend.decode(&sent), Ok(Outcome::Complete));
    assert_eq!(message::check_request(backend.list()), Ok(()));
    let is_named = headers::names_authority(list);
    let mut arrived = backend.list().iter();
    if !is_named {
        let first = arrived.next().map(|field| (field.name.to_vec(), field.value.to_vec()));
        assert_eq!(first, Some((b":authority".to_vec(), b"127.0.0.1:7".to_vec())));
    }
    assert_eq!(arrived.len(), list.len());
    for (came, arrived) in list.iter().zip(arrived) {
        let value = match (came.class, &timeout) {
            (Name::GrpcTimeout, Some(timeout)) => timeout.as_bytes(),
            _ => came.value,
        };
        assert_eq!((arrived.name, arrived.value), (came.name, value));
        // Credentials are kept out of tables also where the client did not ask for it.
        assert!(arrived.never_indexed || !came.never_indexed);
    }
}
