//! The backends as the proxy's threads share them: address, live load, counts,
//! and the balancer over them.

use std::net::SocketAddr;
use std::sync::Arc;

use balance::{Backend, BalanceError, Balancer, PickInput, PolicyKind, Tried};
use serve::{Counter, Metrics};

use crate::config::BackendConfig;

/// One backend. All threads share it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    backend: Arc<Backend>,
    connections: Counter,
    connect_failures: Counter,
}

/// The backends and the policy over them, by the balancer's indices.
#[derive(Debug)]
pub(crate) struct Table {
    balancer: Balancer,
    upstreams: Vec<Arc<Upstream>>,
}

impl Upstream {
    fn new(config: &BackendConfig, metrics: &Metrics) -> Self {
        let name = config.address.to_string();
        let labels: &[(&str, &str)] = &[("backend", &name)];
        let backend = Arc::new(Backend::new(name.clone(), config.weight.get()));
        let open = Arc::clone(&backend);
        metrics.gauge_fn(
            "l4_backend_connections_open",
            "Connections a backend holds now, those being opened included.",
            labels,
            move || f64::from(open.in_flight()),
        );
        Self {
            address: config.address,
            backend,
            connections: metrics.counter(
                "l4_backend_connections_total",
                "Connections a backend has accepted.",
                labels,
            ),
            connect_failures: metrics.counter(
                "l4_backend_connect_failures_total",
                "Connections a backend refused or did not accept in time.",
                labels,
            ),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.backend.name()
    }
}

impl Table {
    pub(crate) fn new(
        policy: PolicyKind,
        backends: &[BackendConfig],
        metrics: &Metrics,
    ) -> Result<Self, BalanceError> {
        let upstreams: Vec<_> =
            backends.iter().map(|backend| Arc::new(Upstream::new(backend, metrics))).collect();
        let backends = upstreams.iter().map(|upstream| Arc::clone(&upstream.backend)).collect();
        Ok(Self { balancer: Balancer::new(policy, backends)?, upstreams })
    }

    /// Leases the next backend to a connection and adds it to `tried`; `None`
    /// when none is left.
    pub(crate) fn lease(&self, input: &PickInput, tried: &mut Tried) -> Option<Lease> {
        let index = self.balancer.pick(input, tried)?;
        tried.insert(index);
        let upstream = Arc::clone(self.upstreams.get(index)?);
        upstream.backend.begin();
        Some(Lease { upstream })
    }
}

/// A backend's share in a connection, counted as in flight there until it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    upstream: Arc<Upstream>,
}

impl Lease {
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn count_connected(&self) {
        self.upstream.connections.inc();
    }

    pub(crate) fn count_failure(&self) {
        self.upstream.connect_failures.inc();
    }

    /// Tells the policy how long the backend took for its first byte. This is
    /// the only latency a proxy of connections can see that means something:
    /// their length is their client's affair.
    pub(crate) fn observe_latency(&self, now_ns: u64, latency_ns: u64) {
        // The interface reports latency with the end of a call. The connection
        // goes on, so it is counted as begun again.
        self.upstream.backend.finish(now_ns, Some(latency_ns));
        self.upstream.backend.begin();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The time is used with a latency only.
        self.upstream.backend.finish(0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_as_in_flight_until_it_is_dropped() {
        let backends = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let table = Table::new(PolicyKind::LeastLoaded, &backends, &Metrics::new()).unwrap();
        let input = PickInput { random: 0, now_ns: 0, key: None };
        let mut tried = Tried::default();
        let first = table.lease(&input, &mut tried).unwrap();
        let second = table.lease(&input, &mut tried).unwrap();
        assert!(table.lease(&input, &mut tried).is_none(), "both were tried");
        assert_ne!(first.upstream().address, second.upstream().address);
        first.observe_latency(5, 5);
        assert_eq!(first.upstream.backend.in_flight(), 1);
        let backend = Arc::clone(&first.upstream.backend);
        drop(first);
        assert_eq!(backend.in_flight(), 0);
    }
}
