//! The backends of a running proxy: who they are, who is picked, and what each
//! has in flight. All threads and data planes share one [`Upstreams`]; the
//! connections to the backends are each data plane's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use balance::{Backend, BalanceError, Balancer, PickInput, PolicyKind, Tried};

use crate::config::BackendConfig;

/// One backend.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    backend: Arc<Backend>,
}

impl Upstream {
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

    /// Counts a call on it until the guard is finished or dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.backend.begin();
        InFlight { upstream: Arc::clone(self), observed: None }
    }

    fn is(&self, config: &BackendConfig) -> bool {
        self.addr == config.addr
            && self.name() == config.name
            && self.backend.weight() == config.weight
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
    /// response says more about the call than about the backend. A call that
    /// failed records nothing, or failing fast would look like speed.
    pub fn observe(&mut self, now_ns: u64, latency_ns: u64) {
        self.observed = Some((now_ns, latency_ns));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (now_ns, latency_ns) = match self.observed {
            Some((now_ns, latency_ns)) => (now_ns, Some(latency_ns)),
            None => (0, None),
        };
        self.upstream.backend.finish(now_ns, latency_ns);
    }
}

/// The backends at one moment: a balancer, and the backends by its indices.
#[derive(Debug)]
pub struct UpstreamSet {
    balancer: Balancer,
    upstreams: Vec<Arc<Upstream>>,
}

impl UpstreamSet {
    /// The backends, in the order they were given.
    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The backend for the next call, with its index for `tried`. `None` when
    /// none is both available and untried.
    pub fn pick(&self, input: &PickInput, tried: &Tried) -> Option<(usize, &Arc<Upstream>)> {
        let index = self.balancer.pick(input, tried)?;
        Some((index, &self.upstreams[index]))
    }
}

/// The current backends of a proxy. Reading takes no lock; a change swaps the
/// whole set, and calls that picked from the old one finish on it.
#[derive(Debug)]
pub struct Upstreams {
    policy: PolicyKind,
    current: ArcSwap<UpstreamSet>,
    epoch: Instant,
}

impl Upstreams {
    /// # Errors
    /// When the policy can't balance over these backends.
    pub fn new(policy: PolicyKind, backends: &[BackendConfig]) -> Result<Self, BalanceError> {
        let set = build(policy, backends, &[])?;
        Ok(Self { policy, current: ArcSwap::from_pointee(set), epoch: Instant::now() })
    }

    /// The backends now.
    pub fn current(&self) -> Guard<Arc<UpstreamSet>> {
        self.current.load()
    }

    /// Makes these the backends. One that stays as it was keeps its load, its
    /// latency and its connections.
    ///
    /// # Errors
    /// When the policy can't balance over them; then nothing changes.
    pub fn replace(&self, backends: &[BackendConfig]) -> Result<(), BalanceError> {
        let set = build(self.policy, backends, &self.current().upstreams)?;
        self.current.store(Arc::new(set));
        Ok(())
    }

    /// Nanoseconds since the proxy began: the clock of all policies.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

fn build(
    policy: PolicyKind,
    backends: &[BackendConfig],
    existing: &[Arc<Upstream>],
) -> Result<UpstreamSet, BalanceError> {
    let upstreams: Vec<_> = backends
        .iter()
        .map(|config| match existing.iter().find(|upstream| upstream.is(config)) {
            Some(upstream) => Arc::clone(upstream),
            None => Arc::new(Upstream {
                addr: config.addr,
                backend: Arc::new(Backend::new(config.name.clone(), config.weight)),
            }),
        })
        .collect();
    let balanced = upstreams.iter().map(|upstream| Arc::clone(&upstream.backend)).collect();
    Ok(UpstreamSet { balancer: Balancer::new(policy, balanced)?, upstreams })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: PickInput = PickInput { random: 0, now_ns: 0, key: None };

    fn configs(ports: &[u16]) -> Vec<BackendConfig> {
        ports.iter().map(|&port| BackendConfig::new(([127, 0, 0, 1], port).into())).collect()
    }

    #[test]
    fn a_call_is_in_flight_until_its_guard_goes() {
        let upstreams = Upstreams::new(PolicyKind::RoundRobin, &configs(&[1])).unwrap();
        let set = upstreams.current();
        let (_, upstream) = set.pick(&INPUT, &Tried::default()).unwrap();
        let first = upstream.begin();
        let mut second = upstream.begin();
        second.observe(5, 10);
        assert_eq!(upstream.backend().in_flight(), 2);
        drop(first);
        drop(second);
        assert_eq!(upstream.backend().in_flight(), 0);
    }

    #[test]
    fn a_backend_that_stays_keeps_its_load_over_a_change() {
        let upstreams = Upstreams::new(PolicyKind::RoundRobin, &configs(&[1, 2])).unwrap();
        let kept = Arc::clone(&upstreams.current().upstreams()[1]);
        let call = kept.begin();
        upstreams.replace(&configs(&[2, 3])).unwrap();
        let set = upstreams.current();
        assert!(Arc::ptr_eq(&kept, &set.upstreams()[0]));
        assert_eq!(set.upstreams()[0].backend().in_flight(), 1);
        drop(call);
        assert_eq!(kept.backend().in_flight(), 0);
    }

    #[test]
    fn a_change_that_cannot_be_balanced_changes_nothing() {
        let upstreams = Upstreams::new(PolicyKind::RoundRobin, &configs(&[1])).unwrap();
        assert_eq!(upstreams.replace(&[]), Err(BalanceError::NoBackend));
        assert!(upstreams.replace(&configs(&[2, 2])).is_err());
        assert_eq!(upstreams.current().upstreams()[0].addr().port(), 1);
    }

    #[test]
    fn a_backend_that_was_tried_is_left_out() {
        let upstreams = Upstreams::new(PolicyKind::RoundRobin, &configs(&[1, 2])).unwrap();
        let set = upstreams.current();
        let mut tried = Tried::default();
        let (first, _) = set.pick(&INPUT, &tried).unwrap();
        tried.insert(first);
        let (second, _) = set.pick(&INPUT, &tried).unwrap();
        assert_ne!(first, second);
        tried.insert(second);
        assert!(set.pick(&INPUT, &tried).is_none());
    }
}
