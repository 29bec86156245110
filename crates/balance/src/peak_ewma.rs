//! The lower expected latency, of two drawn by chance.
//!
//! Finagle's Peak EWMA: a moving average of latency that jumps up at once to a
//! higher observation and decays slowly, multiplied by the calls in flight plus
//! one. It reacts to a backend that turns slow before its queue shows it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Backend, PickInput,
    p2c::better_of_two,
    policy::{Candidates, Policy},
    random::Wheel,
};

/// Time in which an observation loses all but 1/e of its influence; Finagle's
/// default.
const DECAY_NS: f64 = 10e9;
/// Assumed latency of a backend that has calls in flight but has answered none
/// yet: high enough that it isn't flooded before it has shown what it can do,
/// as in Finagle.
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
        let elapsed = now_ns.saturating_sub(self.updated_ns.swap(now_ns, Ordering::Relaxed));
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let next = if latency > average {
            latency
        } else {
            let kept = (-(elapsed as f64) / DECAY_NS).exp();
            average * kept + latency * (1.0 - kept)
        };
        self.average.store(next.to_bits(), Ordering::Relaxed);
    }

    /// The average as of now: a backend that has not answered for long is
    /// trusted again little by little.
    pub(crate) fn at(&self, now_ns: u64) -> f64 {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let elapsed = now_ns.saturating_sub(self.updated_ns.load(Ordering::Relaxed));
        average * (-(elapsed as f64) / DECAY_NS).exp()
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
        better_of_two(&self.wheel, candidates, input.random, |backend| cost(backend, input.now_ns))
    }
}

/// Expected latency of one more call, per unit of weight.
fn cost(backend: &Backend, now_ns: u64) -> f64 {
    let in_flight = f64::from(backend.in_flight());
    let latency = backend.latency().at(now_ns);
    // A backend nobody has asked yet costs nothing, so that it is tried.
    let expected = if latency == 0.0 && in_flight > 0.0 { PENALTY_NS } else { latency };
    expected * (in_flight + 1.0) / f64::from(backend.weight())
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
            backend.begin();
            backend.finish(SECOND, Some(latency_ns));
        }
        assert!(cost(&slow, SECOND) > cost(&fast, SECOND));
        assert_eq!(cost(&new, SECOND), 0.0);
        new.begin();
        assert!(cost(&new, SECOND) > cost(&slow, SECOND), "one try at a time");
    }
}
