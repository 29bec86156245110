//! The lower expected latency, of two drawn by chance.
//!
//! Finagle's Peak EWMA: a moving average of latency that jumps up at once to a
//! higher observation and decays slowly, multiplied by the calls in flight plus
//! one. It reacts to a backend that turns slow before its queue shows it.
//!
//! Only answers teach latency. Finagle takes that of failures too, and leaves it
//! to its failure accrual to notice that a backend which fails at once is not
//! fast; here [`crate::failures`] has a part in the cost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Backend, PickInput,
    failures::kept,
    p2c::cheapest_of,
    pick::{Candidates, Policy},
    random::Wheel,
};

/// Assumed latency of a backend that has calls in flight, or failed some, but has
/// answered none yet: high enough that it isn't flooded before it has shown what
/// it can do, as in Finagle.
const PENALTY_NS: f64 = 1e9;

/// A decaying peak of latency. The two words are not read together; a reader
/// that sees one new and one old is off by one observation, which is harmless.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    /// Bits of the average in nanoseconds as f64; zero before any observation.
    average: AtomicU64,
    updated_ns: AtomicU64,
}

impl PeakEwma {
    pub(crate) fn new() -> Self {
        Self { average: AtomicU64::new(0), updated_ns: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, now_ns: u64, latency_ns: u64) {
        let latency = latency_ns as f64;
        // An answer that began long ago is learnt when it ends.
        let elapsed_ns =
            now_ns.saturating_sub(self.updated_ns.fetch_max(now_ns, Ordering::Relaxed));
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let next = if latency > average {
            latency
        } else {
            let kept = kept(elapsed_ns);
            average * kept + latency * (1.0 - kept)
        };
        self.average.store(next.to_bits(), Ordering::Relaxed);
    }

    /// Keeps the average as it is, though time has passed: a backend that only
    /// fails is not trusted again for having answered nothing.
    pub(crate) fn hold(&self, now_ns: u64) {
        self.updated_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// The average as of now: a backend that has not answered for long is
    /// trusted again little by little.
    pub(crate) fn at(&self, now_ns: u64) -> f64 {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        average * kept(now_ns.saturating_sub(self.updated_ns.load(Ordering::Relaxed)))
    }
}

#[derive(Debug)]
pub(crate) struct PeakEwmaPolicy {
    wheel: Wheel,
}

impl PeakEwmaPolicy {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        Self { wheel: Wheel::new(backends) }
    }
}

impl Policy for PeakEwmaPolicy {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        cheapest_of::<2>(&self.wheel, candidates, input.random, |backend| {
            cost(backend, input.now_ns)
        })
    }
}

/// Expected latency of one more call until one succeeds, per unit of weight.
fn cost(backend: &Backend, now_ns: u64) -> f64 {
    let (latency, load) = (backend.latency().at(now_ns), backend.load(now_ns));
    // A backend nobody has asked yet costs nothing, so that it is tried.
    let expected = if latency == 0.0 && load > 0.0 { PENALTY_NS } else { latency };
    expected * (load + 1.0 / f64::from(backend.weight()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_average_jumps_up_and_decays_slowly() {
        let ewma = PeakEwma::new();
        ewma.observe(SECOND, 1_000_000);
        ewma.observe(2 * SECOND, 50_000_000);
        assert_eq!(ewma.at(2 * SECOND), 50e6);
        ewma.observe(3 * SECOND, 1_000_000);
        let after = ewma.at(3 * SECOND);
        assert!(after > 40e6 && after < 50e6, "{after}");
        assert!(ewma.at(60 * SECOND) < 1e6);
    }

    #[test]
    fn a_slow_backend_costs_more_and_an_unasked_one_nothing() {
        let (fast, slow, new) = (Backend::new("f", 1), Backend::new("s", 1), Backend::new("n", 1));
        for (backend, latency_ns) in [(&fast, 1_000_000), (&slow, 9_000_000)] {
            backend.answered(SECOND, latency_ns);
        }
        assert!(cost(&slow, SECOND) > cost(&fast, SECOND));
        assert_eq!(cost(&new, SECOND), 0.0);
        new.begin();
        assert!(cost(&new, SECOND) > cost(&slow, SECOND), "one try at a time");
    }

    #[test]
    fn a_backend_that_only_fails_does_not_become_fast_by_it() {
        let (good, bad) = (Backend::new("g", 1), Backend::new("b", 1));
        bad.answered(SECOND, 20_000_000);
        for now_ns in (2..600).map(|second| second * SECOND) {
            good.answered(now_ns, 20_000_000);
            bad.failed(now_ns);
            assert!(cost(&bad, now_ns) > 1.3 * cost(&good, now_ns));
            assert_eq!(bad.latency_ns(now_ns), Some(20e6), "a failure teaches no speed");
        }
        let never = Backend::new("n", 1);
        never.failed(SECOND);
        assert!(cost(&never, SECOND) > 10.0 * cost(&good, SECOND));
    }
}
