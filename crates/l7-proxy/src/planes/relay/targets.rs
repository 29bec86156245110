//! What calls are offered to, and what is decided with.

use std::rc::Rc;
use std::sync::Arc;

use super::call::{Attempt, Place};
use super::keys::PoolKey;
use crate::metrics::BackendCounters;
use crate::upstreams::UpstreamSet;

/// What a decision is made with: nanoseconds of the thread's clock, and any
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) now_ns: u64,
    pub(super) random: u64,
}

/// The backends that calls may be given to.
pub(super) struct Targets {
    pub(super) set: Arc<UpstreamSet>,
    /// By the indices of the set.
    pub(super) list: Vec<Target>,
}

/// A backend's connections, and its counts.
pub(super) struct Target {
    pub(super) pool: PoolKey,
    pub(super) counters: Rc<BackendCounters>,
}

impl Targets {
    /// A further attempt at this backend, which counts as in flight from now on.
    pub(super) fn attempt(&self, index: usize, now_ns: u64) -> Attempt {
        let Target { pool, counters } = &self.list[index];
        Attempt {
            pool: *pool,
            index,
            in_flight: self.set.upstreams()[index].begin(),
            counters: Rc::clone(counters),
            place: Place::Nowhere,
            held: None,
            sent_ns: now_ns,
            is_budgeted: false,
            is_hedge: false,
            turn: None,
        }
    }
}
