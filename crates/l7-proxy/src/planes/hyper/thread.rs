//! What the calls of one thread share.

use std::{cell::RefCell, sync::Arc};

use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::local::Count;
use crate::{
    circuit::CircuitCounters,
    metrics::{GuardCounters, ProxyCounters},
    planes::Shared,
    retry::RetryCounters,
    tls::counters::TlsCounters,
};

/// The counters of a thread, its counts, and its chance.
pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    pub(super) counters: ProxyCounters,
    pub(super) circuit_counters: CircuitCounters,
    pub(super) guard_counters: GuardCounters,
    pub(super) tls_counters: TlsCounters,
    pub(super) retry_counters: RetryCounters,
    /// Attempts in flight, and of those what came out of the retry budget.
    pub(super) attempts: Count,
    pub(super) budgeted: Count,
    /// Calls that wait, and connections, over all pools.
    pub(super) pending: Count,
    pub(super) connections: Count,
    chance: RefCell<SplitMix64>,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let metrics = &shared.config.metrics;
        Self {
            counters: ProxyCounters::register(metrics),
            circuit_counters: CircuitCounters::register(metrics),
            guard_counters: GuardCounters::register(metrics),
            tls_counters: TlsCounters::register(metrics),
            retry_counters: RetryCounters::register(metrics),
            attempts: Count::default(),
            budgeted: Count::default(),
            shared,
            pending: Count::default(),
            connections: Count::default(),
            chance: RefCell::new(SplitMix64::seed_from_u64(seed)),
        }
    }

    pub(super) fn random(&self) -> u64 {
        self.chance.borrow_mut().next_u64()
    }
}
