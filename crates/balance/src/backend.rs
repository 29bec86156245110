//! One backend: its identity, its weight, and its live load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use crate::{
    chance::{hash_bytes, next_word},
    failures::FailureRate,
    load_report::LoadReport,
    peak_ewma::PeakEwma,
    weighted_round_robin::ReportedWeight,
};

/// The share of a backend that gets all that falls to it.
const WHOLE: u32 = 1 << 16;

/// A backend as policies see it. It is shared (`Arc<Backend>`) by all threads of
/// a proxy and outlives the [`Balancer`](crate::Balancer)s built over it, so that
/// its load survives a change of membership.
#[derive(Debug)]
pub struct Backend {
    name: String,
    weight: AtomicU32,
    zone: AtomicUsize,
    in_flight: AtomicU32,
    /// Of what falls to it, how much it gets, in parts of [`WHOLE`]; zero for
    /// none. One word for both, so that eligibility is one load.
    share: AtomicU32,
    /// Makes its draws differ from the other backends'.
    salt: u64,
    latency: PeakEwma,
    failures: FailureRate,
    reported: ReportedWeight,
    /// When its turns are, for the policy that takes turns.
    phase: OnceLock<u64>,
}

impl Backend {
    /// An available backend without load. `name` is its identity for the hash
    /// policies; `weight` is its share relative to the others' and must be at
    /// least 1 for a balancer to accept it.
    pub fn new(name: impl Into<String>, weight: u32) -> Self {
        let name = name.into();
        Self {
            salt: hash_bytes(name.as_bytes()),
            name,
            weight: AtomicU32::new(weight),
            zone: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            share: AtomicU32::new(WHOLE),
            latency: PeakEwma::new(),
            failures: FailureRate::default(),
            reported: ReportedWeight::new(),
            phase: OnceLock::new(),
        }
    }

    /// The same in a zone, of those that [`Zones`](crate::Zones) counts from 0 on.
    pub fn in_zone(self, zone: usize) -> Self {
        self.set_zone(zone);
        self
    }

    /// Its zone.
    pub fn zone(&self) -> usize {
        self.zone.load(Ordering::Relaxed)
    }

    /// Moves it to another zone, for balancers that are made from now on.
    pub fn set_zone(&self, zone: usize) {
        self.zone.store(zone, Ordering::Relaxed);
    }

    /// Its identity.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its share relative to the others'.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Gives it another weight. The load policies know at once; the tables of
    /// the others are those of the balancer, and a new one has to be made.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Calls or connections it has been handed and that have not ended.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it may be picked.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.share.load(Ordering::Relaxed) > 0
    }

    /// Makes it eligible or not: for health checks, ejection and drain.
    pub fn set_available(&self, available: bool) {
        self.share.store(if available { WHOLE } else { 0 }, Ordering::Relaxed);
    }

    /// Makes it eligible, but for so much only of what falls to it, from 0 to 1:
    /// for a backend that is warming up. The rest goes to the others, whatever
    /// the policy; with a hash policy whole keys do, and each comes home once.
    pub fn set_share(&self, share: f64) {
        let parts = (share.clamp(0.0, 1.0) * f64::from(WHOLE)) as u32;
        // A share that is not zero must not become it.
        let parts = parts.max(u32::from(share > 0.0));
        self.share.store(parts, Ordering::Relaxed);
    }

    /// Whether the draw falls into its share.
    #[inline]
    pub(crate) fn takes(&self, draw: u64) -> bool {
        match self.share.load(Ordering::Relaxed) {
            0 => false,
            WHOLE.. => true,
            parts => (next_word(draw ^ self.salt) >> 48) < u64::from(parts),
        }
    }

    /// A call or connection was handed to it.
    #[inline]
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call or connection it was handed ended, however it did.
    #[inline]
    pub fn finish(&self) {
        // Saturating, so that one `finish` too many shows as a wrong zero for a
        // moment and not as four billion calls forever.
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            Some(count.saturating_sub(1))
        });
    }

    /// It answered at `now_ns` of any monotonic clock, after so long.
    #[inline]
    pub fn answered(&self, now_ns: u64, latency_ns: u64) {
        self.latency.observe(now_ns, latency_ns);
        self.failures.succeeded(now_ns);
    }

    /// Something it was handed failed on its side, at `now_ns` of the clock of
    /// [`Backend::answered`]. However soon that was, it says nothing of speed; the
    /// policies that go by load or latency make it cost more.
    pub fn failed(&self, now_ns: u64) {
        self.latency.hold(now_ns);
        self.failures.failed(now_ns);
    }

    /// It reported its load, at `now_ns` of the clock of [`Backend::answered`].
    pub fn report(&self, now_ns: u64, report: &LoadReport) {
        self.reported.report(now_ns, report);
    }

    /// It was connected to anew, and may be another process than before: what it reported
    /// counts again when it has reported for a while.
    pub fn reconnected(&self) {
        self.reported.restart();
    }

    pub(crate) fn reported(&self) -> &ReportedWeight {
        &self.reported
    }

    /// What the latency policies make of it, in nanoseconds at `now_ns` of the
    /// clock of [`Backend::answered`]: a moving average that rises at once and
    /// falls slowly. `None` before it has answered.
    pub fn latency_ns(&self, now_ns: u64) -> Option<f64> {
        let latency_ns = self.latency.at(now_ns);
        (latency_ns > 0.0).then_some(latency_ns)
    }

    pub(crate) fn latency(&self) -> &PeakEwma {
        &self.latency
    }

    /// When its turns are; `first` says so when it gets the first one.
    pub(crate) fn phase(&self, first: impl FnOnce() -> u64) -> u64 {
        *self.phase.get_or_init(first)
    }

    /// Whether it has nothing in flight, and is not idle because it fails at once: less than
    /// half of what it is handed does.
    #[inline]
    pub(crate) fn is_idle(&self, now_ns: u64) -> bool {
        self.in_flight() == 0 && self.tries(now_ns) < 2.0
    }

    /// How many calls it takes there, on average, until one succeeds.
    #[inline]
    pub(crate) fn tries(&self, now_ns: u64) -> f64 {
        self.failures.tries(now_ns)
    }

    /// In-flight count per unit of weight, as if each call, and the next one, had
    /// to be made until it succeeds: what the load policies compare.
    #[inline]
    pub(crate) fn load(&self, now_ns: u64) -> f64 {
        let calls = f64::from(self.in_flight()) + 1.0;
        (calls * self.tries(now_ns) - 1.0) / f64::from(self.weight())
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
        backend.finish();
        assert_eq!(backend.in_flight(), 1);
        backend.finish();
        backend.finish();
        assert_eq!(backend.in_flight(), 0);
    }
}
