//! When to try again to connect to somebody who could not be connected to.

use std::time::Duration;

/// What each pause is longer by than the one before.
const MULTIPLIER: f64 = 1.6;
/// By what part a pause may be shorter or longer.
const JITTER: f64 = 0.2;

/// The pause after a failure that `failures` others came before: `min` at first, growing to
/// `max`, with jitter by 64 random bits (gRPC, `doc/connection-backoff.md`).
pub fn pause(failures: u32, min: Duration, max: Duration, random: u64) -> Duration {
    let growth = MULTIPLIER.powi(failures.min(64) as i32);
    let nominal = (min.as_secs_f64() * growth).min(max.as_secs_f64());
    let jitter = 1.0 - JITTER + 2.0 * JITTER * (random as f64 / u64::MAX as f64);
    Duration::from_secs_f64(nominal * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_bound_and_jitter_around_it() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let middle = u64::MAX / 2;
        let nominal: Vec<_> =
            (0..4).map(|failures| pause(failures, min, max, middle).as_millis()).collect();
        assert_eq!(nominal, [100, 160, 256, 409]);
        assert_eq!(pause(u32::MAX, min, max, middle), max);
        assert_eq!(pause(0, min, max, 0), Duration::from_millis(80));
        assert_eq!(pause(0, min, max, u64::MAX), Duration::from_millis(120));
    }
}
