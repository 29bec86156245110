//! The payload of a response: the request's, cut or repeated to the size
//! wanted.

/// `response_bytes` bytes of `payload`, repeated from its start as needed. An
/// empty payload gives that many zero bytes. The usual echo, whose sizes are
/// equal, moves the payload and copies nothing.
pub(crate) fn resize(mut payload: Vec<u8>, response_bytes: usize) -> Vec<u8> {
    let given = payload.len();
    if given == 0 {
        return vec![0; response_bytes];
    }
    payload.truncate(response_bytes);
    if response_bytes > given {
        payload.reserve_exact(response_bytes - given);
        while payload.len() < response_bytes {
            // Doubling copies whole periods, as long as there is room.
            let more = payload.len().min(response_bytes - payload.len());
            payload.extend_from_within(..more);
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_met() {
        assert_eq!(resize(b"abc".to_vec(), 3), b"abc");
        assert_eq!(resize(b"abc".to_vec(), 2), b"ab");
        assert_eq!(resize(b"abc".to_vec(), 8), b"abcabcab");
        assert_eq!(resize(b"abc".to_vec(), 0), b"");
        assert_eq!(resize(Vec::new(), 3), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_byte_is_the_request_s(payload in prop::collection::vec(any::<u8>(), 1..40), size in 0_usize..500) {
            let resized = resize(payload.clone(), size);
            let expected: Vec<_> = payload.iter().copied().cycle().take(size).collect();
            prop_assert_eq!(resized, expected);
        }
    }
}
