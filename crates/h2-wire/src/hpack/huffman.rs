//! The static Huffman code of RFC 7541, appendix B.
//!
//! The code is canonical: codes of one length are consecutive numbers in symbol order, and shorter
//! codes come first. So only the code *lengths* are written down, and both tables are computed
//! from them at compile time.
//!
//! Decoding looks up ten bits at a time and gets up to two symbols; header text is made of codes
//! of 5 to 8 bits. The table is 4 KiB, small enough to stay in the first-level cache between
//! calls, which the usual 64 KiB-and-more byte-wise automata don't. Codes above ten bits take a
//! comparison per code length, made possible by the code being canonical.

use super::DecodeError;

/// Bits of the code of each symbol; the last is EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

const LONGEST: usize = 30;
const EOS: u16 = 256;

/// Bits looked up at once.
const STEP_BITS: u32 = 10;

/// Everything that follows from [`LENGTHS`].
struct Canonical {
    /// The code of each symbol, right-aligned.
    codes: [u32; 257],
    /// Symbols by code.
    symbols: [u16; 257],
    /// By length: the first code, right-aligned.
    first_code: [u32; LONGEST + 1],
    /// By length: the position in `symbols` of the first code's symbol.
    first_symbol: [u16; LONGEST + 1],
    /// By length: one past the last code, left-aligned in 32 bits.
    limit: [u32; LONGEST + 1],
}

const CANONICAL: Canonical = canonical();

const fn canonical() -> Canonical {
    let mut made = Canonical {
        codes: [0; 257],
        symbols: [0; 257],
        first_code: [0; LONGEST + 1],
        first_symbol: [0; LONGEST + 1],
        limit: [0; LONGEST + 1],
    };
    let mut code: u32 = 0;
    let mut placed = 0;
    let mut length = 1;
    while length <= LONGEST {
        code <<= 1;
        made.first_code[length] = code;
        made.first_symbol[length] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                made.codes[symbol] = code;
                made.symbols[placed] = symbol as u16;
                code += 1;
                placed += 1;
            }
            symbol += 1;
        }
        // At 30 bits the last code is all ones, and the limit wraps to the largest number.
        made.limit[length] = ((code as u64) << (32 - length)).saturating_sub(1) as u32;
        length += 1;
    }
    made
}

/// What the next ten bits hold: one symbol, two, or none (a longer code).
#[derive(Clone, Copy)]
struct Entry {
    symbols: [u8; 2],
    /// How many symbols: 0, 1 or 2.
    count: u8,
    /// Bits of the first symbol in the low half, of all of them in the high half.
    bits: u8,
}

impl Entry {
    #[inline]
    const fn first_bits(self) -> u32 {
        (self.bits & 0xf) as u32
    }

    #[inline]
    const fn all_bits(self) -> u32 {
        (self.bits >> 4) as u32
    }
}

static STEPS: [Entry; 1 << STEP_BITS] = steps();

const fn steps() -> [Entry; 1 << STEP_BITS] {
    let mut table = [Entry { symbols: [0; 2], count: 0, bits: 0 }; 1 << STEP_BITS];
    let mut index = 0;
    while index < table.len() {
        let word = (index as u32) << (32 - STEP_BITS);
        if let Some((first, first_bits)) = short_symbol(word, STEP_BITS) {
            table[index] =
                Entry { symbols: [first, 0], count: 1, bits: (first_bits | first_bits << 4) as u8 };
            if let Some((second, bits)) = short_symbol(word << first_bits, STEP_BITS - first_bits) {
                table[index] = Entry {
                    symbols: [first, second],
                    count: 2,
                    bits: (first_bits | (first_bits + bits) << 4) as u8,
                };
            }
        }
        index += 1;
    }
    table
}

/// The symbol at the top of `word`, if its code fits into `bits`.
const fn short_symbol(word: u32, bits: u32) -> Option<(u8, u32)> {
    match symbol_of_at_least(word, 5) {
        (symbol, length) if length <= bits => Some((symbol as u8, length)),
        _ => None,
    }
}

/// The symbol at the top of `word` and its length, known to be at least `length` bits.
#[inline]
const fn symbol_of_at_least(word: u32, mut length: usize) -> (u16, u32) {
    while word > CANONICAL.limit[length] {
        length += 1;
    }
    let offset = (word >> (32 - length)) - CANONICAL.first_code[length];
    (CANONICAL.symbols[CANONICAL.first_symbol[length] as usize + offset as usize], length as u32)
}

/// Appends the text that `input` encodes to `out`.
///
/// # Errors
/// [`DecodeError::Huffman`] when EOS occurs, or when the padding is longer than seven bits or is
/// not made of ones (section 5.2). What was decoded until then is left in `out`.
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    // The shortest code has five bits; the two extra bytes let a pair be stored without asking
    // whether its second half exists.
    let start = out.len();
    out.resize(start + input.len() * 8 / 5 + 2, 0);
    let result = decode_into(input, &mut out[start..]);
    let written = result.as_ref().map_or_else(|partial| *partial, |whole| *whole);
    out.truncate(start + written);
    result.map(drop).map_err(|_| DecodeError::Huffman)
}

/// The number of bytes written, as an error when the input is invalid.
fn decode_into(input: &[u8], out: &mut [u8]) -> Result<usize, usize> {
    let mut bits = BitReader { input, word: 0, count: 0 };
    let mut at = 0;
    loop {
        bits.refill();
        // After a refill there are more than 56 bits unless the input ends: five steps without
        // looking at the count.
        while bits.count >= STEP_BITS {
            let entry = STEPS[(bits.word >> (64 - STEP_BITS)) as usize];
            if entry.count == 0 {
                break;
            }
            out[at..at + 2].copy_from_slice(&entry.symbols);
            at += usize::from(entry.count);
            bits.skip(entry.all_bits());
        }
        if bits.count < 32 {
            bits.refill();
            if bits.count < 32 {
                return finish(bits, out, at);
            }
        }
        if STEPS[(bits.word >> (64 - STEP_BITS)) as usize].count == 0 {
            let (symbol, length) = symbol_of_at_least((bits.word >> 32) as u32, 11);
            if symbol == EOS {
                return Err(at);
            }
            out[at] = symbol as u8;
            at += 1;
            bits.skip(length);
        }
    }
}

/// The last bits, one symbol at a time: missing bits are read as ones, so that padding looks like
/// the start of EOS and a code that is cut off is longer than what is left.
fn finish(mut bits: BitReader<'_>, out: &mut [u8], mut at: usize) -> Result<usize, usize> {
    while bits.count > 0 {
        let word = bits.word | u64::MAX >> bits.count;
        let entry = STEPS[(word >> (64 - STEP_BITS)) as usize];
        let (symbol, length) = match entry.count {
            0 => symbol_of_at_least((word >> 32) as u32, 11),
            _ => (u16::from(entry.symbols[0]), entry.first_bits()),
        };
        if length > bits.count {
            let padding_is_ones = word == u64::MAX;
            return if padding_is_ones && bits.count < 8 { Ok(at) } else { Err(at) };
        }
        if symbol == EOS {
            return Err(at);
        }
        out[at] = symbol as u8;
        at += 1;
        bits.skip(length);
    }
    Ok(at)
}

/// Bits from the left, up to 64 of them at hand.
struct BitReader<'a> {
    input: &'a [u8],
    /// The bits at hand, left-aligned, zero below them.
    word: u64,
    count: u32,
}

impl BitReader<'_> {
    #[inline]
    fn refill(&mut self) {
        if let Some(next) = self.input.first_chunk::<8>() {
            let bytes = (64 - self.count) / 8;
            if bytes == 0 {
                return;
            }
            let taken = u64::from_be_bytes(*next) >> (64 - 8 * bytes);
            self.word |= taken << (64 - 8 * bytes - self.count);
            self.count += 8 * bytes;
            self.input = &self.input[bytes as usize..];
        } else {
            while self.count <= 56 {
                let Some((&byte, rest)) = self.input.split_first() else { return };
                self.word |= u64::from(byte) << (56 - self.count);
                self.count += 8;
                self.input = rest;
            }
        }
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.word <<= bits;
        self.count -= bits;
    }
}

/// Bytes that [`encode`] will append for `text`.
#[inline]
pub fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`, padded with ones to a whole byte.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut word: u64 = 0;
    let mut count = 0;
    for &byte in text {
        let symbol = usize::from(byte);
        let length = u32::from(LENGTHS[symbol]);
        word = word << length | u64::from(CODES[symbol]);
        count += length;
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((word >> count) as u32).to_be_bytes());
        }
    }
    if count > 0 {
        let padded = word << (32 - count) | u64::from(u32::MAX >> count);
        let bytes = (padded as u32).to_be_bytes();
        out.extend_from_slice(&bytes[..count.div_ceil(8) as usize]);
    }
}

static CODES: [u32; 257] = CANONICAL.codes;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn the_computed_codes_are_those_of_the_rfc() {
        // Spot checks over all lengths of appendix B.
        for (symbol, code) in [
            (usize::from(b'0'), 0x0),
            (usize::from(b'a'), 0x3),
            (usize::from(b' '), 0x14),
            (usize::from(b':'), 0x5c),
            (usize::from(b'&'), 0xf8),
            (usize::from(b'!'), 0x3f8),
            (usize::from(b'\''), 0x7fa),
            (usize::from(b'#'), 0xffa),
            (0, 0x1ff8),
            (usize::from(b'^'), 0x3ffc),
            (usize::from(b'<'), 0x7ffc),
            (usize::from(b'\\'), 0x7fff0),
            (128, 0xfffe6),
            (153, 0x1fffdc),
            (129, 0x3fffd2),
            (1, 0x7fffd8),
            (9, 0xffffea),
            (199, 0x1ffffec),
            (192, 0x3ffffe0),
            (203, 0x7ffffde),
            (2, 0xfffffe2),
            (10, 0x3ffffffc),
            (256, 0x3fffffff),
        ] {
            assert_eq!(CANONICAL.codes[symbol], code, "symbol {symbol}");
        }
    }

    #[test]
    fn every_pair_of_symbols_round_trips() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let text = [first, second, first];
                let mut code = Vec::new();
                encode(&text, &mut code);
                assert_eq!(decoded(&code).as_deref(), Ok(&text[..]));
            }
        }
    }

    #[test]
    fn padding_must_be_short_and_of_ones() {
        assert_eq!(decoded(b"\x1f"), Ok(b"a".to_vec()));
        assert_eq!(decoded(b"\x1e"), Err(DecodeError::Huffman), "a zero in the padding");
        assert_eq!(decoded(b"\x1f\xff"), Err(DecodeError::Huffman), "eleven bits of padding");
        assert_eq!(decoded(b"\xff"), Err(DecodeError::Huffman), "eight bits of padding");
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn eos_is_refused_wherever_it_stands() {
        assert_eq!(decoded(&[0xff; 4]), Err(DecodeError::Huffman));
        assert_eq!(decoded(&[0xff; 16]), Err(DecodeError::Huffman));
        assert_eq!(decoded(b"\x1f\xff\xff\xff\xff\xff\xff\xff\xff"), Err(DecodeError::Huffman));
    }

    proptest! {
        #[test]
        fn any_text_round_trips(text: Vec<u8>, before: Vec<u8>) {
            let mut code = Vec::new();
            encode(&text, &mut code);
            prop_assert_eq!(code.len(), encoded_len(&text));
            let mut out = before.clone();
            prop_assert_eq!(decode(&code, &mut out), Ok(()));
            prop_assert_eq!(out, [before, text].concat());
        }

        #[test]
        fn any_bytes_are_decoded_as_the_oracle_does(input: Vec<u8>) {
            let mut expected = Vec::new();
            let oracle = httlib_huffman::decode(
                &input, &mut expected, httlib_huffman::DecoderSpeed::FourBits,
            );
            // The oracle takes padding of eight ones and more and EOS for fine; so it only
            // judges what we accept.
            if let Ok(text) = decoded(&input) {
                prop_assert!(oracle.is_ok());
                prop_assert_eq!(text, expected);
            }
        }
    }
}
