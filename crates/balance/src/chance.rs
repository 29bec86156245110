//! Hashing and draws that are the same on every machine. A generator is the caller's: a
//! policy is given words of chance, and derives from each what more it needs.

/// SplitMix64's finaliser: a bijection that spreads each bit over all.
#[inline]
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A stable hash of `bytes` for hash keys: eight bytes at a time, each mixed.
/// Stable over machines and versions, since two proxies must agree on it; not
/// keyed, so a client that chooses its key can choose its backend.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let seeded = mix(bytes.len() as u64 ^ 0x6c61_7965_726c_6162);
    bytes.chunks(8).fold(seeded, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash.rotate_left(5) ^ u64::from_le_bytes(word))
    })
}

/// A second independent word from the first.
#[inline]
pub(crate) fn next_word(word: u64) -> u64 {
    mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Maps 64 random bits to a number from 0 to below 1.
#[inline]
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Maps 64 random bits to `0..bound` without a division (Lemire, *Fast Random
/// Integer Generation in an Interval*, 2019). The bias is below `bound / 2^64`.
#[inline]
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::{
        SplitMix64,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    #[test]
    fn hashes_are_frozen() {
        // Two proxies of different versions must agree on these.
        assert_eq!(hash_bytes(b""), mix(0x6c61_7965_726c_6162));
        assert_eq!(hash_bytes(b"127.0.0.1:5001"), hash_bytes(b"127.0.0.1:5001"));
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"a\0"));
        assert_ne!(hash_bytes(b"abcdefgh1"), hash_bytes(b"1abcdefgh"));
    }

    #[test]
    fn below_is_even() {
        let mut chance = SplitMix64::seed_from_u64(1);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[below(chance.next_u64(), 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
    }
}
