//! Changing the backends while the proxy runs.
//!
//! A change makes a new set and puts it in place of the old one in one step;
//! threads look at it for each call. What changes nothing, such as a list that is
//! written again, makes none. A backend that is drained is no longer in
//! the set, one that is removed is forgotten as well; either way the calls it
//! has go on, and a data plane closes its connections when they have none left.
//! One that is unhealthy or ejected stays in the set and keeps its connections,
//! but is not picked; what brings that about is in [`outliers`].

mod outliers;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use balance::{Backend, BalanceError, Balancer, Health, SlowStart, ZoneRouting, Zones, subset};
use serve::{
    Counter, Metrics,
    admin::{BackendSpec, BackendState, BackendStatus, Backends, ChangeError, Replaced},
    zones::ZoneConfig,
};

use crate::{
    config::{BackendConfig, Config},
    health::{EjectionSettings, MembershipSettings},
    upstreams::{Tally, Upstream, Upstreams, Watch},
};

/// The backends of a running proxy.
#[derive(Debug)]
pub(crate) struct Fleet {
    upstreams: Arc<Upstreams>,
    metrics: Metrics,
    ejection: EjectionSettings,
    membership: MembershipSettings,
    slow_start: Option<SlowStart>,
    zones: Option<ZoneConfig>,
    watch: Arc<Watch>,
    counts: outliers::OutlierCounts,
    /// In the order in which they were added. Held while a change is made, so
    /// that changes come one after the other.
    members: Mutex<Vec<Member>>,
}

#[derive(Debug)]
struct Member {
    upstream: Arc<Upstream>,
    /// The zone it is said to be in.
    zone: Option<String>,
    health: Health,
    /// Other proxies' business: the subset leaves it out.
    is_outside: bool,
    /// Its counts when the current interval of ejection began.
    before: Tally,
    ejections: Counter,
    checks_passed: Counter,
    checks_failed: Counter,
}

impl Fleet {
    /// # Errors
    /// When the policy can't balance over these backends, or two have the same
    /// address.
    pub(crate) fn new(config: &Config) -> Result<Self, BalanceError> {
        let (backends, metrics) = (&config.backends, &config.metrics);
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = backends.iter().find(|one| !seen.insert(one.addr)) {
            return Err(BalanceError::Duplicate(twice.addr.to_string()));
        }
        let streak = config.ejection.streak().map_or(0, NonZeroU32::get);
        let watch = Arc::new(Watch { streak, ..Watch::default() });
        let all: Vec<_> = backends.iter().map(|one| Upstream::new(one, &watch)).collect();
        for (upstream, backend) in all.iter().zip(backends) {
            move_to(config.zones.as_ref(), upstream, backend.zone.as_deref());
        }
        let policy = (config.policy, config.tuning, config.zones.as_ref().map(balance_zones));
        let upstreams = Upstreams::new(policy, &all, config.seed)?;
        let fleet = Self {
            upstreams: Arc::new(upstreams),
            metrics: metrics.clone(),
            ejection: config.ejection.clone(),
            membership: config.membership.clone(),
            slow_start: config.membership.slow_start(),
            zones: config.zones.clone(),
            watch,
            counts: outliers::OutlierCounts::register(metrics),
            members: Mutex::default(),
        };
        let join = |(upstream, one): (_, &BackendConfig)| {
            fleet.join(upstream, one.zone.clone(), Health::new(None))
        };
        let mut members: Vec<_> = all.into_iter().zip(backends).map(join).collect();
        if config.membership.subset().is_some() {
            // A part of them makes a set whenever all of them did.
            let _ = fleet.publish(&mut members);
        }
        *fleet.lock() = members;
        Ok(fleet)
    }

    /// What the threads pick from.
    pub(crate) fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    fn now_ms(&self) -> u64 {
        self.upstreams.now_ns() / 1_000_000
    }

    fn join_new(&self, config: &BackendConfig) -> Member {
        let health = Health::new(Some(self.now_ms()));
        self.join(Upstream::new(config, &self.watch), config.zone.clone(), health)
    }

    /// Makes a backend a member, and shows it in the metrics.
    fn join(&self, upstream: Arc<Upstream>, zone: Option<String>, health: Health) -> Member {
        move_to(self.zones.as_ref(), &upstream, zone.as_deref());
        let labels: &[(&str, &str)] = &[("backend", upstream.name())];
        let gauge = |name, help, value: fn(&Upstream, u64) -> f64| {
            let (upstream, upstreams) = (Arc::downgrade(&upstream), Arc::clone(&self.upstreams));
            let read = move || {
                upstream.upgrade().map_or(0.0, |upstream| value(&upstream, upstreams.now_ns()))
            };
            self.metrics.gauge_fn(name, help, labels, read);
        };
        gauge(
            "l7_backend_calls_in_flight",
            "Calls a backend holds now, over all threads.",
            |upstream, _| f64::from(upstream.backend().in_flight()),
        );
        gauge(
            "l7_backend_latency_ewma_seconds",
            "Latency of a backend as the policies see it: rises at once, falls slowly.",
            |upstream, now_ns| upstream.backend().latency_ns(now_ns).unwrap_or(0.0) / 1e9,
        );
        gauge(
            "l7_backend_available",
            "Whether a backend is given calls: 0 while it is drained, unhealthy or ejected.",
            |upstream, _| f64::from(u8::from(upstream.backend().is_available())),
        );
        let check = |result| {
            self.metrics.counter(
                "l7_backend_health_checks_total",
                "Health checks of a backend.",
                &[("backend", upstream.name()), ("result", result)],
            )
        };
        let (checks_passed, checks_failed) = (check("passed"), check("failed"));
        let ejections = self.metrics.counter(
            "l7_backend_ejections_total",
            "Times a backend was left out for what became of its calls.",
            labels,
        );
        Member {
            upstream,
            zone,
            health,
            is_outside: false,
            before: Tally::default(),
            ejections,
            checks_passed,
            checks_failed,
        }
    }

    /// Puts a set of these backends in place of the one that is there.
    fn publish(&self, members: &mut [Member]) -> Result<(), ChangeError> {
        self.choose_subset(members);
        let used = members.iter().filter(|member| member.is_used());
        let upstreams: Vec<_> = used.map(|member| Arc::clone(&member.upstream)).collect();
        // Before they can be picked, so that one that is new begins with a small
        // share.
        self.settle(members, self.now_ms());
        self.watch.wake.notify_one();
        tracing::info!(backends = upstreams.len(), "list of backends changed");
        self.upstreams.publish(&upstreams).map_err(invalid)
    }

    fn choose_subset(&self, members: &mut [Member]) {
        let Some((size, proxy)) = self.membership.subset() else { return };
        let is_active = |index: &usize| !members[*index].health.is_drained();
        let active: Vec<_> = (0..members.len()).filter(is_active).collect();
        let names = active.iter().map(|index| members[*index].upstream.name());
        let chosen: Vec<_> =
            subset(names, size, proxy).into_iter().map(|place| active[place]).collect();
        for (index, member) in members.iter_mut().enumerate() {
            member.is_outside = chosen.binary_search(&index).is_err();
        }
    }

    /// Whether the policy can balance over these, before anything is changed
    /// for it.
    fn check(&self, members: &[BackendConfig]) -> Result<(), ChangeError> {
        let backend = |one: &BackendConfig| Arc::new(Backend::new(one.name.clone(), one.weight));
        let backends = members.iter().map(backend).collect();
        Balancer::new(self.upstreams.policy(), backends, 0).map(drop).map_err(invalid)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backends for Fleet {
    fn list(&self) -> Vec<BackendStatus> {
        let now_ns = self.upstreams.now_ns();
        self.lock().iter().map(|member| member.status(now_ns)).collect()
    }

    fn add(&self, spec: BackendSpec) -> Result<(), ChangeError> {
        let config = config(&spec)?;
        let mut members = self.lock();
        if members.iter().any(|one| one.upstream.addr() == spec.address) {
            return Err(ChangeError::Exists(spec.address));
        }
        let mut configs: Vec<_> = members.iter().map(Member::config).collect();
        configs.push(config.clone());
        self.check(&configs)?;
        members.push(self.join_new(&config));
        self.publish(&mut members)
    }

    fn remove(&self, address: SocketAddr) -> Result<(), ChangeError> {
        let mut members = self.lock();
        let index = find(&members, address)?;
        if members.len() == 1 {
            return Err(ChangeError::Last);
        }
        let gone = members.remove(index);
        // Fewer backends make a set whenever more did.
        let published = self.publish(&mut members);
        gone.upstream.forget(&self.metrics);
        published
    }

    fn set_draining(&self, address: SocketAddr, draining: bool) -> Result<(), ChangeError> {
        let mut members = self.lock();
        let index = find(&members, address)?;
        members[index].health.set_drained(draining, self.now_ms());
        self.publish(&mut members)
    }

    fn set_weight(&self, address: SocketAddr, weight: NonZeroU32) -> Result<(), ChangeError> {
        let mut members = self.lock();
        let index = find(&members, address)?;
        let mut configs: Vec<_> = members.iter().map(Member::config).collect();
        configs[index].weight = weight.get();
        self.check(&configs)?;
        members[index].upstream.backend().set_weight(weight.get());
        self.publish(&mut members)
    }

    fn replace(&self, specs: &[BackendSpec]) -> Result<Replaced, ChangeError> {
        if specs.is_empty() {
            return Err(ChangeError::Last);
        }
        let mut members = self.lock();
        let mut configs = specs.iter().map(config).collect::<Result<Vec<_>, _>>()?;
        // A list knows no names, so who stays keeps the one it has.
        for config in &mut configs {
            if let Some(kept) = members.iter().find(|one| one.upstream.addr() == config.addr) {
                kept.upstream.name().clone_into(&mut config.name);
            }
        }
        self.check(&configs)?;
        let mut old = std::mem::take(&mut *members);
        let mut replaced = Replaced::default();
        for config in &configs {
            let kept = old.iter().position(|one| one.upstream.addr() == config.addr);
            members.push(if let Some(index) = kept {
                let mut member = old.swap_remove(index);
                replaced.changed += usize::from(member.config() != *config);
                member.upstream.backend().set_weight(config.weight);
                member.zone.clone_from(&config.zone);
                move_to(self.zones.as_ref(), &member.upstream, config.zone.as_deref());
                member
            } else {
                replaced.added += 1;
                self.join_new(config)
            });
        }
        replaced.removed = old.len();
        let published = self.publish(&mut members);
        for gone in old {
            gone.upstream.forget(&self.metrics);
        }
        published.map(|()| replaced)
    }
}

impl Member {
    /// Whether calls may be given to it when it is well.
    fn is_used(&self) -> bool {
        !self.health.is_drained() && !self.is_outside
    }

    fn state(&self) -> BackendState {
        if self.health.is_drained() {
            BackendState::Draining
        } else if self.is_outside {
            BackendState::Outside
        } else if self.health.is_unhealthy() {
            BackendState::Unhealthy
        } else if self.health.is_ejected() {
            BackendState::Ejected
        } else {
            BackendState::Active
        }
    }

    fn config(&self) -> BackendConfig {
        BackendConfig {
            addr: self.upstream.addr(),
            weight: self.upstream.backend().weight(),
            name: self.upstream.name().to_owned(),
            zone: self.zone.clone(),
        }
    }

    fn status(&self, now_ns: u64) -> BackendStatus {
        let upstream = &self.upstream;
        let (backend, tally) = (upstream.backend(), upstream.tally());
        let mut spec = BackendSpec::new(upstream.addr());
        // A backend's weight is never zero.
        spec.weight = NonZeroU32::new(backend.weight()).unwrap_or(NonZeroU32::MIN);
        spec.zone.clone_from(&self.zone);
        let name = upstream.name();
        BackendStatus {
            in_flight: backend.in_flight(),
            total: tally.total(),
            failures: tally.failures(),
            name: (name != spec.address.to_string()).then(|| name.to_owned()),
            connections: Some(u32::try_from(tally.connections).unwrap_or(0)),
            latency_ewma_us: backend.latency_ns(now_ns).map(|latency_ns| latency_ns / 1e3),
            ..BackendStatus::new(spec, self.state())
        }
    }
}

fn find(members: &[Member], address: SocketAddr) -> Result<usize, ChangeError> {
    let position = members.iter().position(|one| one.upstream.addr() == address);
    position.ok_or(ChangeError::Unknown(address))
}

/// A backend as this proxy knows it.
///
/// # Errors
/// When it is described with what this proxy does not have.
pub(crate) fn config(spec: &BackendSpec) -> Result<BackendConfig, ChangeError> {
    let BackendSpec { address, weight, max_in_flight, group, zone } = spec;
    let invalid = |reason| Err(ChangeError::Invalid(format!("{address}: {reason}")));
    if group.is_some() {
        return invalid("there are no groups in an L7 proxy; leave `group` out");
    }
    if max_in_flight.is_some() {
        return invalid(
            "an L7 proxy bounds the calls in flight of all backends alike, by flag; \
             leave `max_in_flight` out",
        );
    }
    let (weight, zone) = (weight.get(), zone.clone());
    Ok(BackendConfig { weight, zone, ..BackendConfig::new(*address) })
}

/// Zones as the policies take them.
fn balance_zones(config: &ZoneConfig) -> Zones {
    let ZoneConfig { percent, backends_min, .. } = *config;
    let routing = ZoneRouting { percent, backends_min };
    Zones { own: config.own, balancers: config.proxies.clone(), routing }
}

/// Lets the policies know of a backend's zone.
fn move_to(zones: Option<&ZoneConfig>, upstream: &Upstream, zone: Option<&str>) {
    if let Some(zones) = zones {
        upstream.backend().set_zone(zones.number(zone));
    }
}

fn invalid(error: BalanceError) -> ChangeError {
    ChangeError::Invalid(error.to_string())
}

#[cfg(test)]
mod tests;
