//! Integers with a prefix (RFC 7541, section 5.1).

use super::DecodeError;

/// The largest integer that is taken from a peer. No length or index in a header block that
/// passes the limits of this crate comes near it, and the bound keeps an integer at five bytes.
const LARGEST: u32 = 1 << 28;

/// Reads the integer whose first byte is `first` and keeps its low `prefix_bits`; further bytes
/// are taken off the front of `rest`.
///
/// # Errors
/// [`DecodeError::Truncated`] when the input ends early, [`DecodeError::Integer`] above 2^28 or
/// when more than four further bytes are used to say it.
#[inline]
pub(crate) fn decode(first: u8, prefix_bits: u32, rest: &mut &[u8]) -> Result<usize, DecodeError> {
    let mask = u8::MAX >> (8 - prefix_bits);
    let value = first & mask;
    if value < mask { Ok(usize::from(value)) } else { decode_rest(u32::from(value), rest) }
}

fn decode_rest(mut value: u32, rest: &mut &[u8]) -> Result<usize, DecodeError> {
    for shift in [0, 7, 14, 21] {
        let (&byte, tail) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = tail;
        // At most 2^28 - 1 + 255 here, so nothing overflows.
        value += u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if value < LARGEST { Ok(value as usize) } else { Err(DecodeError::Integer) };
        }
    }
    Err(DecodeError::Integer)
}

/// Appends `value` with a prefix of `prefix_bits`; `pattern` holds the bits above the prefix.
#[inline]
pub(crate) fn encode(value: usize, prefix_bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix_bits) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], prefix_bits: u32) -> (Result<usize, DecodeError>, usize) {
        let (&first, mut rest) = bytes.split_first().expect("not empty");
        let value = decode(first, prefix_bits, &mut rest);
        (value, rest.len())
    }

    #[test]
    fn the_examples_of_appendix_c_1() {
        for (value, prefix, bytes) in
            [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])]
        {
            let mut out = Vec::new();
            encode(value, prefix, 0, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, prefix), (Ok(value), 0));
        }
    }

    #[test]
    fn long_and_cut_off_integers_are_refused() {
        assert_eq!(read(&[0x1f, 0x80], 5).0, Err(DecodeError::Truncated));
        assert_eq!(read(&[0x1f, 0x80, 0x80, 0x80, 0x80, 0], 5).0, Err(DecodeError::Integer));
        assert_eq!(read(&[0x1f, 0xff, 0xff, 0xff, 0x7f], 5).0, Err(DecodeError::Integer));
    }

    proptest! {
        #[test]
        fn integers_round_trip(value in 0..LARGEST as usize, prefix in 4_u32..=8, tail: u8) {
            let mut out = Vec::new();
            encode(value, prefix, 0, &mut out);
            out.push(tail);
            prop_assert_eq!(read(&out, prefix), (Ok(value), 1));
        }
    }
}
