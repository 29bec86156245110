//! One backend: what it has in flight, and what is known of how it does.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use balance::{Backend, LoadReport};
use serve::Metrics;
use tokio::sync::Notify;

use crate::{
    config::BackendConfig,
    metrics::{BackendCounters, Outcome},
};

/// Beyond these, five minutes have become more than three days.
const MAX_PING_DOUBLINGS: u32 = 10;

/// One backend.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    backend: Arc<Backend>,
    /// Failures in a row, over all threads; see [`Upstream::note`].
    streak: AtomicU32,
    /// The streak was long enough to act on, and nobody has yet.
    is_suspect: AtomicBool,
    /// How often the pause before a PING to it was doubled.
    ping_doublings: AtomicU32,
    watch: Arc<Watch>,
    counts: Mutex<Counts>,
}

/// Who wants to know of failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// How many; zero when nobody does.
    pub(crate) streak: u32,
    /// Told of each backend that had as many, and of other changes.
    pub(crate) wake: Notify,
}

/// What the threads count of a backend.
#[derive(Debug, Default)]
struct Counts {
    /// Each with a sign of whether a thread still counts there.
    shards: Vec<(BackendCounters, Weak<()>)>,
    /// It has left; who counts now counts for nobody.
    is_gone: bool,
}

/// A backend's counts over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts by how they ended, in the order of [`Outcome::ALL`].
    pub attempts: [u64; Outcome::ALL.len()],
    /// Connections that could not be made.
    pub connects_failed: u64,
    /// Connections that are open.
    pub connections: i64,
}

impl Tally {
    /// Attempts that the backend was given.
    pub fn total(&self) -> u64 {
        self.attempts.iter().sum()
    }

    /// What speaks for the backend: attempts that it answered well.
    pub fn successes(&self) -> u64 {
        self.of(true)
    }

    /// What speaks against it: attempts that failed on its side, and connections
    /// that could not be made.
    pub fn failures(&self) -> u64 {
        self.of(false) + self.connects_failed
    }

    fn of(&self, verdict: bool) -> u64 {
        let counts = Outcome::ALL.into_iter().zip(self.attempts);
        counts.filter(|(outcome, _)| outcome.verdict() == Some(verdict)).map(|(_, n)| n).sum()
    }
}

impl Upstream {
    /// A backend without load.
    pub(crate) fn new(config: &BackendConfig, watch: &Arc<Watch>) -> Arc<Self> {
        Arc::new(Self {
            addr: config.addr,
            backend: Arc::new(Backend::new(config.name.clone(), config.weight)),
            streak: AtomicU32::new(0),
            is_suspect: AtomicBool::new(false),
            ping_doublings: AtomicU32::new(0),
            watch: Arc::clone(watch),
            counts: Mutex::default(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its identity in messages and metrics.
    pub fn name(&self) -> &str {
        self.backend.name()
    }

    /// What the policies see of it.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// How often [`Upstream::slow_pings`] has doubled the pause before a PING.
    pub(crate) fn ping_doublings(&self) -> u32 {
        self.ping_doublings.load(Ordering::Relaxed)
    }

    /// The backend has had too many PINGs on a connection that was made when
    /// the pause before one had been doubled `then` times: it is doubled once
    /// more, as gRPC's guide to keepalive asks for. Once for all connections of
    /// that time.
    pub(crate) fn slow_pings(&self, then: u32) {
        let (relaxed, next) = (Ordering::Relaxed, (then + 1).min(MAX_PING_DOUBLINGS));
        // Another connection's complaint may have come first.
        let _ = self.ping_doublings.compare_exchange(then, next, relaxed, relaxed);
    }

    /// Counts a call on it until the guard is finished or dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.backend.begin();
        InFlight { upstream: Arc::clone(self), observed: None }
    }

    /// Takes note of how an attempt ended. While all goes well that is one load of
    /// a word that nobody writes, beside the address that the attempt needed
    /// anyway.
    #[inline]
    fn note(&self, now_ns: u64, outcome: Outcome) {
        match outcome.verdict() {
            Some(true) if self.streak.load(Ordering::Relaxed) > 0 => {
                self.streak.store(0, Ordering::Relaxed);
            }
            Some(false) => self.note_failure(now_ns),
            Some(true) | None => {}
        }
    }

    /// Takes note of a failure that is the backend's.
    #[cold]
    pub(crate) fn note_failure(&self, now_ns: u64) {
        self.backend.failed(now_ns);
        let wanted = self.watch.streak;
        if wanted > 0 && self.streak.fetch_add(1, Ordering::Relaxed) + 1 >= wanted {
            self.streak.store(0, Ordering::Relaxed);
            // Decided elsewhere: a data plane's thread must not wait for a lock.
            self.is_suspect.store(true, Ordering::Release);
            self.watch.wake.notify_one();
        }
    }

    /// Whether it had enough failures in a row since this was asked last.
    pub(crate) fn take_suspicion(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed) && self.is_suspect.swap(false, Ordering::Acquire)
    }

    /// Cells for a thread to count in. They are used again by the next one that
    /// asks when this one has let go of them, so that a backend that is drained
    /// every night does not leave cells behind.
    pub(crate) fn counters(&self, metrics: &Metrics) -> BackendCounters {
        let mut counts = self.counts();
        if counts.is_gone {
            // Under its label, a series of it would stay for ever.
            return BackendCounters::register(&Metrics::new(), self.name());
        }
        let token = Arc::new(());
        let weak = Arc::downgrade(&token);
        let free = counts.shards.iter_mut().find(|(_, user)| user.strong_count() == 0);
        let shard = match free {
            Some((shard, user)) => {
                *user = weak;
                shard.clone()
            }
            None => {
                let shard = BackendCounters::register(metrics, self.name());
                counts.shards.push((shard.clone(), weak));
                shard
            }
        };
        shard.held_by(token)
    }

    /// Its counts so far.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (shard, _) in &self.counts().shards {
            for (sum, count) in tally.attempts.iter_mut().zip(shard.attempts()) {
                *sum += count;
            }
            tally.connects_failed += shard.connects_failed.get();
            // The threads share this one.
            tally.connections = shard.connections.get();
        }
        tally
    }

    /// It has left: its labels become free for one that comes back one day.
    pub(crate) fn forget(&self, metrics: &Metrics) {
        self.counts().is_gone = true;
        metrics.remove_labelled("backend", self.name());
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No code under the lock can leave the counts half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in flight on a backend. However the call ends, dropping the guard
/// ends it exactly once.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    /// When the latency was seen, and what it was, in nanoseconds.
    observed: Option<(u64, u64)>,
}

impl InFlight {
    /// Where the call is.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Records what the latency policies shall learn when the call ends: the
    /// time from sending the call to its response headers. The rest of a
    /// response says more about the call than about the backend.
    pub fn observe(&mut self, now_ns: u64, latency_ns: u64) {
        self.observed = Some((now_ns, latency_ns));
    }

    /// Takes note of what a trailer of the call says of the backend's load.
    pub fn report(&self, now_ns: u64, trailer: &[u8]) {
        // What is no report is the backend's mistake, and no reason to fail a call.
        if let Some(report) = LoadReport::from_trailer(trailer) {
            self.upstream.backend.report(now_ns, &report);
        }
    }

    /// Takes note of how the call ended. Of one that failed on the backend's side
    /// no latency is learned, or failing fast would look like speed.
    pub fn note(&mut self, now_ns: u64, outcome: Outcome) {
        if outcome.verdict() == Some(false) {
            self.observed = None;
        }
        self.upstream.note(now_ns, outcome);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let backend = &self.upstream.backend;
        backend.finish();
        if let Some((now_ns, latency_ns)) = self.observed {
            backend.answered(now_ns, latency_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(port: u16) -> Arc<Upstream> {
        Upstream::new(&BackendConfig::new(([127, 0, 0, 1], port).into()), &Arc::default())
    }

    #[test]
    fn a_call_is_in_flight_until_its_guard_goes() {
        let upstream = upstream(1);
        let first = upstream.begin();
        let mut second = upstream.begin();
        second.observe(5, 10);
        assert_eq!(upstream.backend().in_flight(), 2);
        drop(first);
        drop(second);
        assert_eq!(upstream.backend().in_flight(), 0);
        assert_eq!(upstream.backend().latency_ns(5), Some(10.0));
    }

    #[test]
    fn complaints_of_one_time_slow_pings_down_once() {
        let upstream = upstream(1);
        upstream.slow_pings(0);
        upstream.slow_pings(0);
        assert_eq!(upstream.ping_doublings(), 1);
        (0..100).for_each(|_| upstream.slow_pings(upstream.ping_doublings()));
        assert_eq!(upstream.ping_doublings(), MAX_PING_DOUBLINGS);
    }

    #[test]
    fn a_call_that_failed_teaches_no_latency() {
        let upstream = upstream(1);
        for (outcome, learned) in
            [(Outcome::Fault, None), (Outcome::Broken, None), (Outcome::Error, Some(10.0))]
        {
            let mut call = upstream.begin();
            call.observe(5, 10);
            call.note(5, outcome);
            drop(call);
            assert_eq!(upstream.backend().latency_ns(5), learned, "{outcome:?}");
        }
    }

    #[test]
    fn failures_in_a_row_ring_and_a_success_in_between_starts_over() {
        let watch = Arc::new(Watch { streak: 3, ..Watch::default() });
        let config = BackendConfig::new(([127, 0, 0, 1], 1).into());
        let upstream = Upstream::new(&config, &watch);
        for outcome in [Outcome::Fault, Outcome::Reset, Outcome::Ok, Outcome::Broken] {
            upstream.note(0, outcome);
        }
        upstream.note(0, Outcome::Deadline);
        upstream.note(0, Outcome::Cancelled);
        upstream.note(0, Outcome::Refused);
        assert!(!upstream.take_suspicion());
        upstream.note(0, Outcome::Fault);
        assert!(upstream.take_suspicion() && !upstream.take_suspicion());
        let unwatched = Upstream::new(&config, &Arc::default());
        (0..100).for_each(|_| unwatched.note_failure(0));
        assert!(!unwatched.take_suspicion());
    }

    #[test]
    fn cells_are_used_again_and_a_backend_that_left_shows_none() {
        let (metrics, upstream) = (Metrics::new(), upstream(1));
        let first = upstream.counters(&metrics);
        let second = upstream.counters(&metrics);
        first.count(Outcome::Ok);
        second.count(Outcome::Fault);
        drop(first);
        upstream.counters(&metrics).count(Outcome::Ok);
        let tally = upstream.tally();
        assert_eq!((tally.total(), tally.successes(), tally.failures()), (3, 2, 1));
        assert_eq!(upstream.counts().shards.len(), 2);
        upstream.forget(&metrics);
        second.count(Outcome::Ok);
        upstream.counters(&metrics).count(Outcome::Ok);
        assert!(!metrics.expose().contains("127.0.0.1:1"), "{}", metrics.expose());
    }
}
