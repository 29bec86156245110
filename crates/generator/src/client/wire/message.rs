//! The echo service's messages by hand: written from a prepared request, read in
//! place.
//!
//! A generator that decodes with a general library allocates a message, a
//! payload and an id for each response only to compare them. The tests hold both
//! directions to `prost`.

use crate::client::answer::Reply;

/// Bytes before each message: a compression flag and a length.
pub(super) const PREFIX_LEN: usize = 5;

/// A message that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Field numbers and wire types of `proto/echo.proto`, as tags.
mod tag {
    const VARINT: u64 = 0;
    const BYTES: u64 = 2;
    pub(super) const SEQUENCE: u64 = 1 << 3 | VARINT;
    pub(super) const PAYLOAD: u64 = 2 << 3 | BYTES;
    pub(super) const RESPONSE_BYTES: u64 = 3 << 3 | VARINT;
    pub(super) const RESPONSE_COUNT: u64 = 4 << 3 | VARINT;
    pub(super) const BACKEND: u64 = 3 << 3 | BYTES;
    pub(super) const QUEUED_NS: u64 = 4 << 3 | VARINT;
    pub(super) const SERVICE_NS: u64 = 5 << 3 | VARINT;
}

/// Requests of one shape. Where they are all of one size, everything but the number is
/// written once.
#[derive(Debug)]
pub(super) struct RequestTemplate {
    /// All fields but the sequence number, for requests of these sizes.
    rest: Vec<u8>,
    bytes: (u32, u32),
    /// What requests of other sizes are made of.
    payload: Vec<u8>,
    response_count: u32,
}

impl RequestTemplate {
    /// `bytes` are the sizes of most requests and their responses.
    pub(super) fn new(payload: &[u8], bytes: (u32, u32), response_count: u32) -> Self {
        let mut template =
            Self { rest: Vec::new(), bytes, payload: payload.to_vec(), response_count };
        let mut rest = Vec::with_capacity(bytes.0 as usize + 16);
        template.put_rest(bytes, &mut rest);
        template.rest = rest;
        template
    }

    fn put_rest(&self, (request_bytes, response_bytes): (u32, u32), rest: &mut Vec<u8>) {
        let payload = &self.payload[..request_bytes as usize];
        if !payload.is_empty() {
            put_varint(rest, tag::PAYLOAD);
            put_varint(rest, payload.len() as u64);
            rest.extend_from_slice(payload);
        }
        for (tag, value) in
            [(tag::RESPONSE_BYTES, response_bytes), (tag::RESPONSE_COUNT, self.response_count)]
        {
            if value != 0 {
                put_varint(rest, tag);
                put_varint(rest, value.into());
            }
        }
    }

    /// Replaces what is in `out` by the message numbered `sequence`, with its
    /// prefix.
    pub(super) fn write(&self, sequence: u64, bytes: (u32, u32), out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[0; PREFIX_LEN]);
        if sequence != 0 {
            put_varint(out, tag::SEQUENCE);
            put_varint(out, sequence);
        }
        if bytes == self.bytes {
            out.extend_from_slice(&self.rest);
        } else {
            self.put_rest(bytes, out);
        }
        // Payloads are bounded far below 4 GiB.
        let length = (out.len() - PREFIX_LEN) as u32;
        out[1..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads an `EchoResponse`, without its prefix.
pub(super) fn read_reply(mut bytes: &[u8]) -> Result<Reply<'_>, Malformed> {
    let mut reply = Reply::default();
    while !bytes.is_empty() {
        match take_varint(&mut bytes)? {
            tag::SEQUENCE => reply.sequence = take_varint(&mut bytes)?,
            tag::PAYLOAD => reply.payload = take_bytes(&mut bytes)?,
            tag::BACKEND => reply.backend = take_bytes(&mut bytes)?,
            tag::QUEUED_NS => reply.queued_ns = take_varint(&mut bytes)?,
            tag::SERVICE_NS => reply.service_ns = take_varint(&mut bytes)?,
            other => skip(other, &mut bytes)?,
        }
    }
    Ok(reply)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(take_varint(bytes)?).map_err(|_| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// Steps over a field that a later version of the service may send.
fn skip(tag: u64, bytes: &mut &[u8]) -> Result<(), Malformed> {
    let length = match tag & 7 {
        0 => return take_varint(bytes).map(|_| ()),
        1 => 8,
        2 => return take_bytes(bytes).map(|_| ()),
        5 => 4,
        _ => return Err(Malformed),
    };
    *bytes = bytes.get(length..).ok_or(Malformed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use echo_proto::v1::{EchoRequest, EchoResponse};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn requests_are_what_prost_reads(
            sequence: u64,
            payload in prop::collection::vec(any::<u8>(), 0..300),
            response_bytes: u32,
            response_count: u32,
            is_usual: bool,
        ) {
            let bytes = (payload.len() as u32, response_bytes);
            let most = if is_usual { bytes } else { (0, 0) };
            let template = RequestTemplate::new(&payload, most, response_count);
            let mut out = b"left over".to_vec();
            template.write(sequence, bytes, &mut out);
            prop_assert_eq!(out[0], 0);
            let length = u32::from_be_bytes([out[1], out[2], out[3], out[4]]);
            prop_assert_eq!(length as usize, out.len() - PREFIX_LEN);
            let read = EchoRequest::decode(&out[PREFIX_LEN..]).unwrap();
            let sent = EchoRequest { sequence, payload, response_bytes, response_count };
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn replies_are_what_prost_writes(
            sequence: u64,
            payload in prop::collection::vec(any::<u8>(), 0..300),
            backend in "[a-z0-9]{0,9}",
            queued_ns: u64,
            service_ns: u64,
        ) {
            let response = EchoResponse {
                sequence,
                payload: payload.clone(),
                backend: backend.clone(),
                queued_ns,
                service_ns,
            };
            let bytes = response.encode_to_vec();
            let reply = read_reply(&bytes).unwrap();
            let backend = backend.as_bytes();
            let expected = Reply { sequence, payload: &payload, backend, queued_ns, service_ns };
            prop_assert_eq!(reply, expected);
        }

        #[test]
        fn rubbish_is_refused_and_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = read_reply(&bytes);
        }
    }

    #[test]
    fn fields_nobody_knows_are_stepped_over() {
        let mut bytes = vec![0x78, 0x05];
        bytes.extend([0x79, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0x7a, 2, 9, 9]);
        bytes.extend([0x7d, 1, 2, 3, 4]);
        bytes.extend([0x08, 42]);
        assert_eq!(read_reply(&bytes).unwrap().sequence, 42);
        assert_eq!(read_reply(&[0x7b]), Err(Malformed));
        assert_eq!(read_reply(&[0x12, 5, 1]), Err(Malformed));
    }
}
