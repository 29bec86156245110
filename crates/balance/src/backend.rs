//! One backend: its identity, its weight, and its live load.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::peak_ewma::PeakEwma;

/// A backend as policies see it. It is shared (`Arc<Backend>`) by all threads of
/// a proxy and outlives the [`Balancer`](crate::Balancer)s built over it, so that
/// its load survives a change of membership.
#[derive(Debug)]
pub struct Backend {
    name: String,
    weight: AtomicU32,
    in_flight: AtomicU32,
    available: AtomicBool,
    latency: PeakEwma,
}

impl Backend {
    /// An available backend without load. `name` is its identity for the hash
    /// policies; `weight` is its share relative to the others' and must be at
    /// least 1 for a balancer to accept it.
    pub fn new(name: impl Into<String>, weight: u32) -> Self {
        Self {
            name: name.into(),
            weight: AtomicU32::new(weight),
            in_flight: AtomicU32::new(0),
            available: AtomicBool::new(true),
            latency: PeakEwma::new(),
        }
    }

    /// Its identity.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its share relative to the others'.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Gives it another weight. The load policies know at once; the tables of
    /// the others are those of the balancer, and a new one has to be made.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Calls or connections it has been handed and that have not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it may be picked.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Makes it eligible or not: for health checks, ejection and drain.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    /// A call or connection was handed to it.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call or connection it was handed ended at `now_ns` of any monotonic
    /// clock. `latency_ns` feeds the latency policies; `None` for an end that
    /// says nothing about speed, such as a cancellation.
    pub fn finish(&self, now_ns: u64, latency_ns: Option<u64>) {
        // Saturating, so that one `finish` too many shows as a wrong zero for a
        // moment and not as four billion calls forever.
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            Some(count.saturating_sub(1))
        });
        if let Some(latency_ns) = latency_ns {
            self.latency.observe(now_ns, latency_ns);
        }
    }

    /// What the latency policies make of it, in nanoseconds at `now_ns` of the
    /// clock of [`Backend::finish`]: a moving average that rises at once and
    /// falls slowly. `None` before it has answered.
    pub fn latency_ns(&self, now_ns: u64) -> Option<f64> {
        let latency_ns = self.latency.at(now_ns);
        (latency_ns > 0.0).then_some(latency_ns)
    }

    pub(crate) fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// In-flight count per unit of weight: what the load policies compare.
    pub(crate) fn load(&self) -> f64 {
        f64::from(self.in_flight()) / f64::from(self.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_counts_what_began_and_has_not_finished() {
        let backend = Backend::new("a", 1);
        backend.begin();
        backend.begin();
        backend.finish(0, None);
        assert_eq!(backend.in_flight(), 1);
        backend.finish(0, Some(5));
        backend.finish(0, None);
        assert_eq!(backend.in_flight(), 0);
    }
}
