//! Changing the backends while the proxy runs.
//!
//! A change makes a new table and puts it in place of the old one in one step;
//! threads look the table up for each new connection. Connections that are
//! under way keep the backend they have, in either table. A list that is written
//! again unchanged, as it is when the watch of a file begins, changes nothing.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use balance::{Backend, BalanceError, Balancer};
use serve::{
    Metrics,
    admin::{BackendSpec, BackendState, BackendStatus, Backends, ChangeError, Replaced},
    health::Checked,
};

use crate::{
    config::BackendConfig,
    proxy_protocol,
    shared::{Command, Shared},
    table::{Rules, Table},
    upstreams::Upstream,
};

/// The backends of a running proxy.
#[derive(Debug)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    metrics: Metrics,
    rules: Rules,
    close_drained: bool,
    /// In the order in which they were added. Held while a change is made, so
    /// that changes come one after the other.
    members: Mutex<Vec<Arc<Upstream>>>,
}

impl Fleet {
    pub(crate) fn new(
        shared: Arc<Shared>,
        metrics: Metrics,
        rules: Rules,
        close_drained: bool,
        members: Vec<Arc<Upstream>>,
    ) -> Self {
        Self { shared, metrics, rules, close_drained, members: Mutex::new(members) }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.now_ns() / 1_000_000
    }

    /// Puts a table over these backends in place of the one that is there.
    fn publish(&self, members: &[Arc<Upstream>]) -> Result<(), ChangeError> {
        let before = self.shared.table.load();
        let table = Table::new(&self.rules, members, Some(&before)).map_err(invalid)?;
        tracing::info!(backends = members.len(), "list of backends changed");
        self.shared.table.store(Arc::new(table));
        Ok(())
    }

    /// Lets go of a backend that is drained or no longer listed.
    fn retire(&self, upstream: &Arc<Upstream>) {
        if self.close_drained {
            for mailbox in self.shared.threads.mailboxes() {
                mailbox.send(Command::Retire(Arc::clone(upstream)));
            }
        }
    }

    /// Also makes the labels free for a backend that comes back one day.
    fn forget(&self, upstream: &Arc<Upstream>) {
        self.metrics.remove_labelled("backend", upstream.name());
        self.retire(upstream);
    }

    fn join(&self, config: &BackendConfig) -> Arc<Upstream> {
        Upstream::new(config, &self.metrics, Some(self.now_ms()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Upstream>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checked for Fleet {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().iter().map(|upstream| upstream.address).collect()
    }

    fn header(&self) -> &'static [u8] {
        self.shared.options.header_out.map_or(&[], proxy_protocol::local)
    }

    fn checked(&self, address: SocketAddr, _passed: bool, is_healthy: bool) {
        let members = self.lock();
        // It may have left while it was asked.
        let Ok(index) = find(&members, address) else { return };
        if members[index].snapshot().health.is_unhealthy() == is_healthy {
            let now_ms = self.now_ms();
            members[index].change(|health| health.set_healthy(is_healthy, now_ms));
            let backend = members[index].name();
            tracing::warn!(backend, is_healthy, "health of backend changed");
        }
    }
}

impl Backends for Fleet {
    fn list(&self) -> Vec<BackendStatus> {
        self.lock().iter().map(status).collect()
    }

    fn add(&self, spec: BackendSpec) -> Result<(), ChangeError> {
        let mut members = self.lock();
        if members.iter().any(|one| one.address == spec.address) {
            return Err(ChangeError::Exists(spec.address));
        }
        let specs: Vec<_> = members.iter().map(describe).chain([spec.clone()]).collect();
        check(&self.rules, &specs)?;
        members.push(self.join(&spec.into()));
        self.publish(&members)
    }

    fn remove(&self, address: SocketAddr) -> Result<(), ChangeError> {
        let mut members = self.lock();
        let index = find(&members, address)?;
        if members.len() == 1 {
            return Err(ChangeError::Last);
        }
        let gone = members.remove(index);
        // Fewer backends make a table whenever more did.
        let published = self.publish(&members);
        self.forget(&gone);
        published
    }

    fn set_draining(&self, address: SocketAddr, draining: bool) -> Result<(), ChangeError> {
        let members = self.lock();
        let upstream = &members[find(&members, address)?];
        let now_ms = self.now_ms();
        upstream.change(|health| health.set_drained(draining, now_ms));
        if draining {
            self.retire(upstream);
        }
        Ok(())
    }

    fn set_weight(&self, address: SocketAddr, weight: NonZeroU32) -> Result<(), ChangeError> {
        let members = self.lock();
        let index = find(&members, address)?;
        let mut specs: Vec<_> = members.iter().map(describe).collect();
        specs[index].weight = weight;
        check(&self.rules, &specs)?;
        members[index].backend().set_weight(weight.get());
        self.publish(&members)
    }

    fn replace(&self, specs: &[BackendSpec]) -> Result<Replaced, ChangeError> {
        if specs.is_empty() {
            return Err(ChangeError::Last);
        }
        let mut members = self.lock();
        check(&self.rules, specs)?;
        let mut old: BTreeMap<_, _> =
            members.drain(..).map(|upstream| (upstream.address, upstream)).collect();
        let mut replaced = Replaced::default();
        for spec in specs {
            let kept = old.remove(&spec.address);
            members.push(match kept {
                None => {
                    replaced.added += 1;
                    self.join(&spec.clone().into())
                }
                Some(kept) => {
                    let before = describe(&kept);
                    replaced.changed += usize::from(before != *spec);
                    if before == *spec {
                        kept
                    } else if (BackendSpec { weight: spec.weight, ..before }) == *spec {
                        kept.backend().set_weight(spec.weight.get());
                        kept
                    } else {
                        // A cap, a group or a zone is another for new connections only,
                        // so what it has stays with what it was.
                        self.forget(&kept);
                        self.join(&spec.clone().into())
                    }
                }
            });
        }
        replaced.removed = old.len();
        let published = self.publish(&members);
        for gone in old.values() {
            self.forget(gone);
        }
        published.map(|()| replaced)
    }
}

fn find(members: &[Arc<Upstream>], address: SocketAddr) -> Result<usize, ChangeError> {
    let position = members.iter().position(|one| one.address == address);
    position.ok_or(ChangeError::Unknown(address))
}

/// Whether a table can be made over these, before anything is changed for it.
fn check(rules: &Rules, specs: &[BackendSpec]) -> Result<(), ChangeError> {
    let mut groups: BTreeMap<Option<&str>, Vec<Arc<Backend>>> = BTreeMap::new();
    for spec in specs {
        let backend = Backend::new(spec.address.to_string(), spec.weight.get());
        groups.entry(spec.group.as_deref()).or_default().push(Arc::new(backend));
    }
    let mut groups = groups.into_values();
    groups
        .try_for_each(|backends| Balancer::new(rules.policy, backends, 0).map(drop))
        .map_err(invalid)
}

fn invalid(error: BalanceError) -> ChangeError {
    ChangeError::Invalid(error.to_string())
}

fn describe(upstream: &Arc<Upstream>) -> BackendSpec {
    status(upstream).spec
}

fn status(upstream: &Arc<Upstream>) -> BackendStatus {
    let snapshot = upstream.snapshot();
    let health = snapshot.health;
    let state = if health.is_drained() {
        BackendState::Draining
    } else if health.is_unhealthy() {
        BackendState::Unhealthy
    } else if health.is_ejected() {
        BackendState::Ejected
    } else {
        BackendState::Active
    };
    let spec = BackendSpec {
        address: upstream.address,
        // A backend's weight is never zero.
        weight: NonZeroU32::new(snapshot.weight).unwrap_or(NonZeroU32::MIN),
        max_in_flight: upstream.max_connections(),
        group: upstream.group().map(str::to_owned),
        zone: upstream.zone().map(str::to_owned),
    };
    BackendStatus {
        in_flight: snapshot.in_flight,
        total: snapshot.connections,
        failures: snapshot.connect_failures,
        ..BackendStatus::new(spec, state)
    }
}
