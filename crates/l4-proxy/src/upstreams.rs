//! One backend as the proxy's threads share it: address, live load, standing
//! and counts; and a connection's lease of it.
//!
//! A connection takes the backend's lock twice or three times in its life,
//! which is nothing beside its system calls, and makes every count exact: caps
//! hold, and a change of weight loses no connection that is under way.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balance::{Backend, Ejection, SlowStart, Standing};
use serve::{Counter, Metrics};

use crate::config::BackendConfig;

/// One backend. All threads share it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    name: String,
    group: Option<String>,
    /// Connections it may hold at once.
    max_connections: Option<NonZeroU32>,
    state: Mutex<State>,
    connections: Counter,
    connect_failures: Counter,
    ejections: Counter,
}

#[derive(Debug)]
struct State {
    /// What the policies see. A change of weight puts another in its place.
    backend: Arc<Backend>,
    standing: Standing,
}

/// What may be said of a backend at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
    pub(crate) standing: Standing,
    pub(crate) connections: u64,
    pub(crate) connect_failures: u64,
}

impl Upstream {
    /// A backend that comes at `now_ms`, or was there from the beginning.
    pub(crate) fn new(config: &BackendConfig, metrics: &Metrics, now_ms: Option<u64>) -> Arc<Self> {
        let name = config.address.to_string();
        let labels: &[(&str, &str)] = &[("backend", &name)];
        let counter = |name, help| metrics.counter(name, help, labels);
        let upstream = Arc::new(Self {
            address: config.address,
            group: config.group.clone(),
            max_connections: config.max_connections,
            state: Mutex::new(State {
                backend: Arc::new(Backend::new(name.clone(), config.weight.get())),
                standing: Standing::new(now_ms),
            }),
            connections: counter(
                "l4_backend_connections_total",
                "Connections a backend has accepted.",
            ),
            connect_failures: counter(
                "l4_backend_connect_failures_total",
                "Connections a backend refused or did not accept in time.",
            ),
            ejections: counter(
                "l4_backend_ejections_total",
                "Times a backend was left out because connecting to it failed in a row.",
            ),
            name: name.clone(),
        });
        upstream.register_gauges(metrics, labels);
        upstream
    }

    fn register_gauges(self: &Arc<Self>, metrics: &Metrics, labels: &[(&str, &str)]) {
        let gauge = |name, help, value: fn(&Snapshot) -> f64| {
            let weak = Arc::downgrade(self);
            let read = move || weak.upgrade().map_or(0.0, |upstream| value(&upstream.snapshot()));
            metrics.gauge_fn(name, help, labels, read);
        };
        gauge(
            "l4_backend_connections_open",
            "Connections a backend holds now, those being opened included.",
            |snapshot| f64::from(snapshot.in_flight),
        );
        gauge(
            "l4_backend_available",
            "Whether a backend is given connections: 0 while it is drained, unhealthy or ejected.",
            |snapshot| f64::from(u8::from(snapshot.standing.is_available())),
        );
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    pub(crate) fn max_connections(&self) -> Option<NonZeroU32> {
        self.max_connections
    }

    /// What the policies see of it.
    pub(crate) fn backend(&self) -> Arc<Backend> {
        Arc::clone(&self.lock().backend)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            weight: state.backend.weight(),
            in_flight: state.backend.in_flight(),
            standing: state.standing,
            connections: self.connections.get(),
            connect_failures: self.connect_failures.get(),
        }
    }

    /// Gives it another weight. A balancer that is made from now on knows.
    pub(crate) fn reweigh(&self, weight: NonZeroU32) {
        let mut state = self.lock();
        let backend = Backend::new(self.name.clone(), weight.get());
        backend.set_available(state.standing.is_available());
        for _ in 0..state.backend.in_flight() {
            backend.begin();
        }
        state.backend = Arc::new(backend);
    }

    /// Changes its standing, and lets the policies know.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.standing);
        state.backend.set_available(state.standing.is_available());
        result
    }

    /// Leases it to a connection, unless it is full.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let state = self.lock();
        let is_full =
            self.max_connections.is_some_and(|max| state.backend.in_flight() >= max.get());
        if is_full {
            return None;
        }
        state.backend.begin();
        drop(state);
        Some(Lease { upstream: Arc::clone(self) })
    }

    pub(crate) fn warmth(&self, slow_start: Option<Duration>, now_ms: u64) -> f64 {
        let Some(window) = slow_start else { return 1.0 };
        self.lock().standing.warmth(Some(SlowStart::over(window)), now_ms)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend's share in a connection, counted as in flight there until it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    upstream: Arc<Upstream>,
}

impl Lease {
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) fn count_connected(&self) {
        self.upstream.connections.inc();
        self.upstream.change(Standing::succeeded);
    }

    /// Counts a connect that failed. Whether that ejected the backend.
    pub(crate) fn count_failure(&self, rule: Option<Ejection>, now_ms: u64) -> bool {
        self.upstream.connect_failures.inc();
        let ejected = self.upstream.change(|standing| standing.failed(rule, now_ms));
        if ejected {
            self.upstream.ejections.inc();
        }
        ejected
    }

    /// Tells the policy how long the backend took for its first byte. This is
    /// the only latency a proxy of connections can see that means something:
    /// their length is their client's affair.
    pub(crate) fn observe_latency(&self, now_ns: u64, latency_ns: u64) {
        // The interface reports latency with the end of a call. The connection
        // goes on, so it is counted as begun again.
        let state = self.upstream.lock();
        state.backend.finish(now_ns, Some(latency_ns));
        state.backend.begin();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The time is used with a latency only.
        self.upstream.lock().backend.finish(0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(text: &str) -> Arc<Upstream> {
        Upstream::new(&text.parse().unwrap(), &Metrics::new(), None)
    }

    #[test]
    fn a_lease_counts_as_in_flight_until_it_is_dropped() {
        let upstream = upstream("127.0.0.1:1");
        let lease = upstream.lease().unwrap();
        lease.observe_latency(5, 5);
        assert_eq!(upstream.snapshot().in_flight, 1);
        drop(lease);
        assert_eq!(upstream.snapshot().in_flight, 0);
    }

    #[test]
    fn a_full_backend_gives_no_lease() {
        let upstream = upstream("127.0.0.1:1,max_connections=2");
        let first = upstream.lease().unwrap();
        let _second = upstream.lease().unwrap();
        assert!(upstream.lease().is_none());
        drop(first);
        assert!(upstream.lease().is_some());
    }

    #[test]
    fn a_change_of_weight_keeps_the_load_and_the_standing() {
        let upstream = upstream("127.0.0.1:1");
        let (first, _second) = (upstream.lease().unwrap(), upstream.lease().unwrap());
        upstream.change(|standing| standing.set_drained(true, 0));
        upstream.reweigh(NonZeroU32::new(7).unwrap());
        let snapshot = upstream.snapshot();
        assert_eq!((snapshot.weight, snapshot.in_flight), (7, 2));
        assert!(!upstream.backend().is_available());
        drop(first);
        assert_eq!(upstream.snapshot().in_flight, 1);
    }
}
