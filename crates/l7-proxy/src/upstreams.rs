//! The backends of a running proxy: who they are, who is picked, and what each
//! has in flight. All threads and data planes share one [`Upstreams`]; the
//! connections to the backends are each data plane's own. Who changes them is
//! `crate::fleet`.

mod upstream;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};
use balance::{
    Backend, BalanceError, Balancer, PickInput, PolicyKind, Probe, Tried, Tuning, Zones,
};
use tokio::sync::mpsc;
pub(crate) use upstream::Watch;
pub use upstream::{InFlight, Tally, Upstream};

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
    upstreams.iter().map(|upstream| Arc::clone(upstream.backend())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendConfig;

    const INPUT: PickInput = PickInput { random: 0, now_ns: 0, key: None };

    fn upstream(port: u16) -> Arc<Upstream> {
        Upstream::new(&BackendConfig::new(([127, 0, 0, 1], port).into()), &Arc::default())
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
}
