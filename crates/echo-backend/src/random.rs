//! Seeded chance: the same seed gives the same service times on every machine.

use rand_xoshiro::rand_core::SeedableRng;

/// A generator of pseudo-random numbers. Service times need speed and good low moments,
/// and no secrecy (D. Blackman, S. Vigna, *Scrambled linear pseudorandom number
/// generators*, 2019).
pub type Random = rand_xoshiro::Xoshiro256PlusPlus;

/// A generator for one of several that share a seed, told apart by `name`: backends
/// started alike must not draw the same service times.
pub fn named(seed: u64, name: &str) -> Random {
    // FNV-1a, which is stable over versions of the standard library.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The seed is spread over the state: seeds that differ little start far apart.
    Random::seed_from_u64(seed.rotate_left(32) ^ hash)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::Rng;

    use super::*;

    #[test]
    fn the_seed_is_the_sequence_and_the_name_changes_it() {
        let take = |mut random: Random| std::array::from_fn::<u64, 4, _>(|_| random.next_u64());
        assert_eq!(take(named(1, "b1")), take(named(1, "b1")));
        assert_ne!(take(named(1, "b1")), take(named(1, "b2")));
        assert_ne!(take(named(1, "b1")), take(named(2, "b1")));
    }
}
