//! The backends of a running proxy: who they are, who is picked, and what each
//! has in flight. All threads and data planes share one [`Upstreams`]; the
//! connections to the backends are each data plane's own. Who changes them is
//! `crate::fleet`.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use balance::{
    Backend, BalanceError, Balancer, LoadReport, PickInput, PolicyKind, Probe, Tried, Tuning, Zones,
};
use serve::Metrics;
use tokio::sync::{Notify, mpsc};

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

/// The backends at one moment: a balancer, and the backends by its indices.
#[derive(Debug)]
pub struct UpstreamSet {
    /// Differs between any two sets of one proxy.
    version: u64,
    /// `None` when there is no backend.
    balancer: Option<Balancer>,
    upstreams: Vec<Arc<Upstream>>,
    /// Where picks say whom to probe, under a policy that goes by probes.
    prober: Option<mpsc::Sender<Wanted>>,
}

/// A backend that is to be probed.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The set that it was picked from, and its index there.
    pub(crate) version: u64,
    pub(crate) index: usize,
    pub(crate) upstream: Arc<Upstream>,
}

/// Probes that may wait to be sent.
const PROBES_WAITING: usize = 1_024;

impl UpstreamSet {
    /// The backends, in the order they were given.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// What tells it from the sets before and after it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The backend for the next call, with its index for `tried`. `None` when
    /// none is both available and untried.
    pub fn pick(&self, input: &PickInput, tried: &Tried) -> Option<(usize, &Arc<Upstream>)> {
        let index = self.balancer.as_ref()?.pick(input, tried)?;
        if let Some(prober) = &self.prober {
            self.probe(prober, input);
        }
        Some((index, &self.upstreams[index]))
    }

    /// Has those probed that go with a pick.
    #[cold]
    fn probe(&self, prober: &mpsc::Sender<Wanted>, input: &PickInput) {
        let Some(balancer) = &self.balancer else { return };
        let mut probed = Vec::new();
        balancer.to_probe(input, &mut probed);
        for index in probed {
            let (version, upstream) = (self.version, Arc::clone(&self.upstreams[index]));
            // Where too many wait it is left out.
            let _ = prober.try_send(Wanted { version, index, upstream });
        }
    }
}

/// The backends that a call was offered to. They are known by their indices,
/// which mean others once the set has changed: then the call begins anew.
#[derive(Debug, Default)]
pub struct Offered {
    version: u64,
    tried: Tried,
}

impl Offered {
    /// Those of this set.
    #[inline]
    pub fn of(&mut self, set: &UpstreamSet) -> &Tried {
        if self.version != set.version {
            self.version = set.version;
            self.tried = Tried::default();
        }
        &self.tried
    }

    /// Adds one of the set that was asked for last.
    pub fn insert(&mut self, index: usize) {
        self.tried.insert(index);
    }
}

/// The current backends of a proxy. Reading takes no lock; a change swaps the
/// whole set, and calls that picked from the old one finish on it.
#[derive(Debug)]
pub struct Upstreams {
    policy: PolicyKind,
    tuning: Tuning,
    zones: Option<Zones>,
    /// What the first turn is drawn with.
    seed: u64,
    current: ArcSwap<UpstreamSet>,
    versions: AtomicU64,
    epoch: Instant,
    prober: Option<mpsc::Sender<Wanted>>,
    /// Whom to probe, until a task does it.
    wanted: Mutex<Option<mpsc::Receiver<Wanted>>>,
}

impl Upstreams {
    /// The first turn of a policy that takes turns is drawn with `seed`.
    ///
    /// # Errors
    /// When the policy can't balance over these backends.
    pub fn new(
        (policy, tuning, zones): (PolicyKind, Tuning, Option<Zones>),
        upstreams: &[Arc<Upstream>],
        seed: u64,
    ) -> Result<Self, BalanceError> {
        let backends = backends(upstreams);
        let balancer = Some(Balancer::zoned(policy, tuning, zones.clone(), backends, seed)?);
        let probes = policy.uses_probes().then(|| mpsc::channel(PROBES_WAITING));
        let (prober, wanted) = probes.unzip();
        let upstreams = upstreams.to_vec();
        let set = UpstreamSet { version: 1, balancer, upstreams, prober: prober.clone() };
        let current = ArcSwap::from_pointee(set);
        let versions = AtomicU64::new(1);
        let (epoch, wanted) = (Instant::now(), Mutex::new(wanted));
        Ok(Self { policy, tuning, zones, seed, current, versions, epoch, prober, wanted })
    }

    /// Whom to probe, for the one who does it; `None` unless the policy goes by probes.
    pub(crate) fn take_wanted(&self) -> Option<mpsc::Receiver<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A backend of a set, which may be gone by now, has answered a probe.
    pub(crate) fn probed(&self, version: u64, index: usize, probe: Probe) {
        let current = self.current.load();
        if let Some(balancer) = current.balancer.as_ref().filter(|_| current.version == version) {
            let now_ns = self.now_ns();
            let random = RandomState::new().hash_one(now_ns);
            balancer.probed(index, probe, &PickInput { random, now_ns, key: None });
        }
    }

    /// Settings of the policy.
    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The policy they are picked by.
    pub fn policy(&self) -> PolicyKind {
        self.policy
    }

    /// The backends now.
    pub fn current(&self) -> Guard<Arc<UpstreamSet>> {
        self.current.load()
    }

    /// Makes these the backends that calls are given to; with none, all calls
    /// fail. Where they are that already, with the same weights, nothing changes;
    /// otherwise turns go on from where they are.
    ///
    /// # Errors
    /// When the policy can't balance over them; then nothing changes.
    pub fn publish(&self, upstreams: &[Arc<Upstream>]) -> Result<(), BalanceError> {
        let backends = backends(upstreams);
        let current = self.current.load();
        let balancer = match &current.balancer {
            Some(balancer) if balancer.is_over(&backends) => return Ok(()),
            _ if backends.is_empty() => None,
            Some(balancer) => Some(balancer.over(backends)?),
            None => {
                let zones = self.zones.clone();
                Some(Balancer::zoned(self.policy, self.tuning, zones, backends, self.seed)?)
            }
        };
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let (upstreams, prober) = (upstreams.to_vec(), self.prober.clone());
        self.current.store(Arc::new(UpstreamSet { version, balancer, upstreams, prober }));
        Ok(())
    }

    /// Nanoseconds since the proxy began: the clock of all policies.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

fn backends(upstreams: &[Arc<Upstream>]) -> Vec<Arc<Backend>> {
    upstreams.iter().map(|upstream| Arc::clone(&upstream.backend)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: PickInput = PickInput { random: 0, now_ns: 0, key: None };

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
    fn the_same_backends_are_no_other_set_and_others_go_on_with_the_turn() {
        let all: Vec<_> = (1..=4).map(upstream).collect();
        let upstreams =
            Upstreams::new((PolicyKind::RoundRobin, Tuning::default(), None), &all, 0).unwrap();
        let mut served = [0; 4];
        for call in 0..40 {
            // One of them comes and goes between the calls.
            let listed = &all[..3 + call % 2];
            upstreams.publish(listed).unwrap();
            let version = upstreams.current().version();
            upstreams.publish(listed).unwrap();
            let set = upstreams.current();
            assert_eq!(set.version(), version);
            let (_, picked) = set.pick(&INPUT, &Tried::default()).unwrap();
            served[usize::from(picked.addr().port()) - 1] += 1;
        }
        let (least, most) = (served[..3].iter().min(), served[..3].iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{served:?}");
    }

    #[test]
    fn a_backend_that_was_tried_is_left_out_until_the_set_is_another() {
        let all = [upstream(1), upstream(2)];
        let upstreams =
            Upstreams::new((PolicyKind::RoundRobin, Tuning::default(), None), &all, 0).unwrap();
        let mut offered = Offered::default();
        let mut pick = || {
            let set = Arc::clone(&upstreams.current());
            let (index, picked) = set.pick(&INPUT, offered.of(&set))?;
            offered.insert(index);
            Some(picked.addr().port())
        };
        let mut ports = [pick().unwrap(), pick().unwrap()];
        ports.sort_unstable();
        assert_eq!((ports, pick()), ([1, 2], None));
        upstreams.publish(&all[1..]).unwrap();
        assert_eq!((pick(), pick()), (Some(2), None), "index 0 is another backend now");
        upstreams.publish(&[]).unwrap();
        assert_eq!(pick(), None);
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
