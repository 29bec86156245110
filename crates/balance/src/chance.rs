//! Hashing and pseudo-random numbers that are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood, *Fast Splittable Pseudorandom Number
/// Generators*, 2014): tiny, fast, and good enough to pick backends and draw
/// arrival gaps. Not for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }
}

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

/// Maps 64 random bits to `0..bound` without a division (Lemire, *Fast Random
/// Integer Generation in an Interval*, 2019). The bias is below `bound / 2^64`.
#[inline]
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
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
    fn splitmix_matches_the_published_sequence() {
        // From the reference implementation with seed 1234567.
        let mut chance = SplitMix64::new(1_234_567);
        let expected =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| chance.next_u64()), expected);
    }

    #[test]
    fn below_is_even() {
        let mut chance = SplitMix64::new(1);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[below(chance.next_u64(), 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
    }
}
