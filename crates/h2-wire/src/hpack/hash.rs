//! A fast hash for short byte strings, used to find equal ones.
//!
//! Whoever uses it compares the bytes afterwards, so a collision costs time and nothing else; and
//! the tables it serves are small enough (128 entries at 4 KiB) that made-up collisions cost
//! little. That's why it is not seeded.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(MULTIPLIER);
    (product as u64) ^ (product >> 64) as u64
}

/// Hashes `bytes`, continuing from `seed`.
#[inline]
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // The length keeps strings apart that differ in trailing zeros only.
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        state = mix(state, last_word(bytes, rest));
    }
    mix(state, MULTIPLIER)
}

/// The last bytes as one word: overlapping the ones before where there are enough, as reading
/// eight bytes at once is faster than collecting fewer.
#[inline]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(low), Some(high)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
    }
    rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn strings_of_all_lengths_differ() {
        let zeros = [0_u8; 64];
        let mut seen = HashSet::new();
        for length in 0..=64 {
            assert!(seen.insert(hash(1, &zeros[..length])), "{length} zeros");
            for place in 0..length {
                let mut text = zeros;
                text[place] = 1;
                assert!(seen.insert(hash(1, &text[..length])), "{place} of {length}");
            }
        }
    }

    #[test]
    fn the_low_bits_spread() {
        let mut buckets = [0_u32; 64];
        for number in 0..6400_u32 {
            buckets[hash(0, number.to_string().as_bytes()) as usize % 64] += 1;
        }
        assert!(buckets.iter().all(|&count| (50..200).contains(&count)), "{buckets:?}");
    }
}
