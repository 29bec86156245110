//! The backends of a scenario: how many, how they work, and which differ.

use std::{collections::BTreeMap, sync::Arc};

use balance::{Balancer, PolicyKind};
use serde::Serialize;

use crate::{
    bounds::{self, Bounds, within},
    command::{ServerText, check_environment},
    error::Problem,
    quantity::PercentText,
    service_time::ServiceTime,
    wire::{BackendOverrideWire, BackendsWire},
};

const DEFAULT_BACKENDS: u32 = 4;
const DEFAULT_CONCURRENCY: u32 = 8;

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    /// Its id: `b0`, `b1`, ...; it stands in every response.
    pub id: String,
    /// Servers in its queue: calls it works on at once. `None` for a server of the user's
    /// own of which that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long a server works on a call, at speed 1.
    pub service_time: ServiceTime,
    /// Speed factor: 0.2 serves five times slower.
    pub speed: f64,
    /// Weight in policies that know weights.
    pub weight: u32,
    /// The part of its calls that fail at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: f64,
    /// Additions to its environment, where it is a server of the user's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, ServerText>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(part: &f64) -> bool {
    *part == 0.0
}

impl Backend {
    /// The most calls per second it can serve; `None` when its service takes
    /// no time.
    pub fn capacity(&self) -> Option<f64> {
        let mean_s = self.service_time.mean_ns() / 1e9;
        let servers = self.concurrency.filter(|_| mean_s > 0.0)?;
        Some(f64::from(servers) * self.speed / mean_s)
    }
}

fn count_of(wire: &BackendsWire) -> Result<u32, Problem> {
    let Some(addresses) = &wire.addresses else {
        let count = wire.count.unwrap_or(DEFAULT_BACKENDS);
        return within("backends.count", count, bounds::BACKENDS, "backends");
    };
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    if wire.count.is_some_and(|written| written != count) {
        let message = format!("there are {count} in `backends.addresses`; take this out");
        return Err(Problem::new("backends.count", message));
    }
    within("backends.addresses", count, bounds::BACKENDS, "backends")
}

/// Every backend, those that differ too.
pub(crate) fn check_backends(wire: &BackendsWire) -> Result<Vec<Backend>, Problem> {
    let count = count_of(wire)?;
    let are_own = wire.command.is_some() || wire.addresses.is_some();
    let concurrency = wire.concurrency.or((!are_own).then_some(DEFAULT_CONCURRENCY));
    let bounded = |servers| within("backends.concurrency", servers, bounds::CONCURRENCY, "servers");
    let concurrency = concurrency.map(bounded).transpose()?;
    let service_time = wire.service_time.unwrap_or(ServiceTime::None);
    let failures = wire.failures.map_or(0.0, |PercentText(part)| part);
    let backend = |index| Backend {
        id: format!("b{index}"),
        concurrency,
        service_time,
        speed: 1.0,
        weight: 1,
        failures,
        environment: BTreeMap::new(),
    };
    let mut backends: Vec<Backend> = (0..count).map(backend).collect();
    for (position, different) in wire.overrides.iter().enumerate() {
        let key = format!("backends.override[{position}]");
        if wire.overrides[..position].iter().any(|earlier| earlier.index == different.index) {
            let message = format!("backend {} is overridden twice", different.index);
            return Err(Problem::new(format!("{key}.index"), message));
        }
        let indices = Bounds { min: 0, max: count - 1 };
        let index = within(&format!("{key}.index"), different.index, indices, "a backend")?;
        apply(&key, different, &mut backends[index as usize])?;
    }
    Ok(backends)
}

fn apply(key: &str, different: &BackendOverrideWire, backend: &mut Backend) -> Result<(), Problem> {
    if let Some(speed) = different.speed {
        backend.speed = within(&format!("{key}.speed"), speed, bounds::SPEED, "a speed factor")?;
    }
    if let Some(weight) = different.weight {
        backend.weight = within(&format!("{key}.weight"), weight, bounds::WEIGHT, "a weight")?;
    }
    if let Some(concurrency) = different.concurrency {
        let key = format!("{key}.concurrency");
        let servers = within(&key, concurrency, bounds::CONCURRENCY, "servers")?;
        backend.concurrency = Some(servers);
    }
    backend.service_time = different.service_time.unwrap_or(backend.service_time);
    backend.failures = different.failures.map_or(backend.failures, |PercentText(part)| part);
    backend.environment = check_environment(&format!("{key}.environment"), &different.environment)?;
    Ok(())
}

/// Policies have limits of their own on weights; the balancer itself knows them.
pub(crate) fn check_policy(
    key: &str,
    policy: PolicyKind,
    backends: &[Backend],
) -> Result<(), Problem> {
    let backends = backends
        .iter()
        .map(|backend| Arc::new(balance::Backend::new(backend.id.as_str(), backend.weight)))
        .collect();
    Balancer::new(policy, backends, 0)
        .map(|_| ())
        .map_err(|error| Problem::new(key, error.to_string()))
}
