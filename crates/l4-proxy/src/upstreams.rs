//! One backend as the proxy's threads share it: address, live load, health
//! and counts; and a connection's lease of it.
//!
//! A connection takes the backend's lock twice or three times in its life,
//! which is nothing beside its system calls, and makes caps hold exactly.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use balance::{Backend, Ejection, Health, SlowStart};
use serve::{Counter, Metrics};

use crate::config::BackendConfig;

/// One backend. All threads share it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    name: String,
    group: Option<String>,
    zone: Option<String>,
    /// Connections it may hold at once.
    max_connections: Option<NonZeroU32>,
    /// What the policies see.
    backend: Arc<Backend>,
    /// Held while a lease is given, too.
    health: Mutex<Health>,
    connections: Counter,
    connect_failures: Counter,
    ejections: Counter,
}

/// What may be said of a backend at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
    pub(crate) health: Health,
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
            zone: config.zone.clone(),
            max_connections: config.max_connections,
            backend: Arc::new(Backend::new(name.clone(), config.weight.get())),
            health: Mutex::new(Health::new(now_ms)),
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
            |snapshot| f64::from(u8::from(snapshot.health.is_available())),
        );
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    pub(crate) fn max_connections(&self) -> Option<NonZeroU32> {
        self.max_connections
    }

    /// What the policies see of it.
    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            weight: self.backend.weight(),
            in_flight: self.backend.in_flight(),
            health: *self.lock(),
            connections: self.connections.get(),
            connect_failures: self.connect_failures.get(),
        }
    }

    /// Changes its health, and lets the policies know.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.lock();
        let result = change(&mut health);
        // Its share, if it has one, is for `warm_up` to say.
        if health.is_available() != self.backend.is_available() {
            self.backend.set_available(health.is_available());
        }
        result
    }

    /// Leases it to a connection, unless it is full.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        // Two threads must not both have the last place.
        let _standing = self.lock();
        let is_full = self.max_connections.is_some_and(|max| self.backend.in_flight() >= max.get());
        if is_full {
            return None;
        }
        self.backend.begin();
        Some(Lease { upstream: Arc::clone(self) })
    }

    /// Tells the policies how much of its share it is to be given.
    pub(crate) fn warm_up(&self, slow_start: Option<Duration>, now_ms: u64) {
        let health = self.lock();
        if health.is_available() {
            self.backend.set_share(health.warmth(slow_start.map(SlowStart::over), now_ms));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.upstream.change(Health::succeeded);
    }

    /// Counts a connect that failed. Whether that ejected the backend.
    pub(crate) fn count_failure(&self, rule: Option<Ejection>, now_ms: u64) -> bool {
        self.upstream.connect_failures.inc();
        self.upstream.backend.failed(now_ms * 1_000_000);
        let ejected = self.upstream.change(|health| health.failed(rule, now_ms));
        let backend = self.upstream.name();
        tracing::warn!(backend, "connection to backend refused");
        if ejected {
            tracing::warn!(backend, "backend ejected");
            self.upstream.ejections.inc();
        }
        ejected
    }

    /// Tells the policy how long the backend took for its first byte. This is
    /// the only latency a proxy of connections can see that means something:
    /// their length is their client's affair.
    pub(crate) fn observe_latency(&self, now_ns: u64, latency_ns: u64) {
        self.upstream.backend.answered(now_ns, latency_ns);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.backend.finish();
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
}
