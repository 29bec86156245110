//! What is kept of calls that have something in common: their backend, their balancer, their
//! clients' zone, the second that they ended in.

use serde::{Deserialize, Serialize};

use crate::{
    histogram::Values,
    record::{BalancerRecord, SecondRecord, TenthRecord},
};

/// The calls of a balancer, of a zone of clients, or of a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) failed: u64,
    pub(super) per_backend: Vec<u64>,
    pub(super) latency: Values,
}

impl Group {
    pub(super) fn empty(backends: usize) -> Self {
        Self { failed: 0, per_backend: vec![0; backends], latency: Values::default() }
    }

    pub(super) fn serve(&mut self, backend: usize, latency: u64) {
        self.latency.record(latency);
        count(&mut self.per_backend, backend);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.failed += other.failed;
        self.latency.merge(&other.latency);
        add_each(&mut self.per_backend, &other.per_backend);
    }

    pub(super) fn record(&self, id: String) -> BalancerRecord {
        let per_backend = self.per_backend.clone();
        BalancerRecord { id, failed: self.failed, per_backend, latency: self.latency.stored() }
    }
}

/// The calls that ended in a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Second {
    pub(super) calls: Group,
    /// Of those served, calls that ended after the window.
    pub(super) ok_after: u64,
    pub(super) failed_after: u64,
}

impl Second {
    pub(super) fn empty(backends: usize) -> Self {
        Self { calls: Group::empty(backends), ok_after: 0, failed_after: 0 }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.calls.merge(&other.calls);
        self.ok_after += other.ok_after;
        self.failed_after += other.failed_after;
    }

    pub(super) fn record(&self, second: u32) -> SecondRecord {
        let BalancerRecord { failed, per_backend, latency, .. } = self.calls.record(String::new());
        SecondRecord {
            second,
            ok: latency.count,
            failed,
            ok_after: self.ok_after,
            failed_after: self.failed_after,
            per_backend,
            latency,
        }
    }
}

/// A tenth of a second without a call.
pub(super) fn empty_tenth(backends: usize) -> TenthRecord {
    TenthRecord { per_backend: vec![0; backends], failed: 0 }
}

pub(super) fn merge_tenth(own: &mut TenthRecord, other: &TenthRecord) {
    own.failed += other.failed;
    add_each(&mut own.per_backend, &other.per_backend);
}

/// The calls that a backend served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Backend {
    /// Whenever they were due.
    pub(super) with_warm_up: u64,
    pub(super) latency: Values,
    /// Their service times, where there are some and they are wanted.
    pub(super) service: Option<Values>,
}

impl Backend {
    pub(super) fn merge(&mut self, other: &Self) {
        self.with_warm_up += other.with_warm_up;
        self.latency.merge(&other.latency);
        if let Some(theirs) = &other.service {
            self.service.get_or_insert_default().merge(theirs);
        }
    }
}

/// Counts a call of a backend; of one that is not known, nothing.
pub(super) fn count(per_backend: &mut [u64], backend: usize) {
    if let Some(calls) = per_backend.get_mut(backend) {
        *calls += 1;
    }
}

fn add_each(own: &mut [u64], theirs: &[u64]) {
    for (own, theirs) in own.iter_mut().zip(theirs) {
        *own += theirs;
    }
}
