//! What part of a backend's latest calls failed, and what that makes a call cost.
//!
//! A call that failed at once is no fast answer, and it leaves nothing in flight:
//! to a policy that goes by load or latency, a backend that fails everything is
//! the best there is. So these policies take a call for what it costs until one
//! succeeds. Where a part `r` of the calls fails, that is `1 / (1 - r)` calls, and
//! a backend's load and expected latency are so many times as high. That it is a
//! part and not a number makes it the same at one call a second and at thousands,
//! and the same for all backends when the failures are their callers'.
//!
//! Others with a penalty in the load: gRPC's weighted round robin
//! (`error_utilization_penalty`, gRFC A58) takes the part that failed as well, and
//! palantir's dialogue takes each recent failure for ten calls in flight. Finagle,
//! linkerd and Envoy leave it to failure accrual and outlier detection, which take
//! a backend out ([`Health`](crate::Health)), and go by what is left until then.

use std::sync::atomic::{AtomicU64, Ordering};

/// Time in which what was seen of a backend loses all but 1/e of its influence;
/// Finagle's default for latency.
const DECAY_NS: f64 = 10e9;
/// How much of the part is due to the last call.
const LAST_CALL: f64 = 0.25;
/// A smaller part counts as none: else a backend that failed once would never be
/// tried again beside one that is idle. From one failure to here it takes half a
/// minute, from failures only three quarters of one.
const RATE_MIN: f64 = 0.01;
/// The largest part: a call costs a hundred at most.
const RATE_MAX: f64 = 0.99;

/// How much of what was seen so long ago still counts.
pub(crate) fn kept(elapsed_ns: u64) -> f64 {
    (-(elapsed_ns as f64) / DECAY_NS).exp()
}

/// A moving average of failures. Its two words are not read together, as in
/// [`PeakEwma`](crate::peak_ewma::PeakEwma).
#[derive(Debug, Default)]
pub(crate) struct FailureRate {
    /// Bits of the part as f64.
    rate: AtomicU64,
    updated_ns: AtomicU64,
}

impl FailureRate {
    /// A call succeeded. While none fails, that is one load of a word that nobody
    /// writes.
    pub(crate) fn succeeded(&self, now_ns: u64) {
        if self.rate.load(Ordering::Relaxed) != 0 {
            self.store(self.at(now_ns) * (1.0 - LAST_CALL), now_ns);
        }
    }

    /// A call failed.
    pub(crate) fn failed(&self, now_ns: u64) {
        let rate = self.at(now_ns);
        self.store(rate + (1.0 - rate) * LAST_CALL, now_ns);
    }

    fn store(&self, rate: f64, now_ns: u64) {
        let rate = if rate < RATE_MIN { 0.0 } else { rate.min(RATE_MAX) };
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
        self.updated_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// The part as of now: a backend that was not asked for long is trusted again.
    fn at(&self, now_ns: u64) -> f64 {
        let rate = f64::from_bits(self.rate.load(Ordering::Relaxed));
        if rate == 0.0 {
            return 0.0;
        }
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns.load(Ordering::Relaxed));
        let rate = rate * kept(elapsed_ns);
        if rate < RATE_MIN { 0.0 } else { rate }
    }

    /// How many calls it takes, on average, until one succeeds.
    pub(crate) fn tries(&self, now_ns: u64) -> f64 {
        1.0 / (1.0 - self.at(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn failures_cost_more_and_successes_and_time_make_up_for_them() {
        let failures = FailureRate::default();
        failures.succeeded(SECOND);
        assert_eq!(failures.tries(SECOND), 1.0);
        failures.failed(SECOND);
        let once = failures.tries(SECOND);
        (0..3).for_each(|_| failures.failed(SECOND));
        let often = failures.tries(SECOND);
        assert!(once > 1.3 && often > 3.0, "{once} {often}");
        (0..1_000).for_each(|_| failures.failed(SECOND));
        assert!((99.0..=100.1).contains(&failures.tries(SECOND)));
        assert!(failures.tries(6 * SECOND) < 3.0, "half of it is forgotten");
        assert_eq!(failures.tries(60 * SECOND), 1.0);
        (0..20).for_each(|_| failures.succeeded(SECOND));
        assert_eq!(failures.tries(SECOND), 1.0, "and not a little more for ever");
    }

    #[test]
    fn a_part_that_fails_costs_its_part() {
        let failures = FailureRate::default();
        let mut sum = 0.0;
        for call in 0..1_000 {
            if call % 2 == 0 {
                failures.failed(0)
            } else {
                failures.succeeded(0)
            }
            sum += failures.tries(0) / 1_000.0;
        }
        assert!((1.8..2.3).contains(&sum), "every second one fails: {sum}");
    }
}
