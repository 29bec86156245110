//! One that is idle, by chance; where none is, any by chance.
//!
//! Join-idle-queue (Lu et al. 2011) keeps what it knows of load to one bit: whether a
//! backend has anything to do. A balancer that hears of idle backends as they become so
//! needs no look at load when a call comes. Ours counts what it has handed out itself, so
//! that one is idle that has nothing of *this* balancer's; in a fleet a backend may be
//! busy with others' calls. How far that matters is what `simulate` shows, where backends
//! can also report it themselves.

use std::sync::Arc;

use crate::{
    Backend, PickInput,
    pick::{Candidates, Policy},
    random::Wheel,
};

#[derive(Debug)]
pub(crate) struct JoinIdleQueue {
    wheel: Wheel,
}

impl JoinIdleQueue {
    pub(crate) fn new(backends: &[Arc<Backend>]) -> Self {
        Self { wheel: Wheel::new(backends) }
    }
}

impl Policy for JoinIdleQueue {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let is_idle = |index: usize| candidates.backends[index].is_idle(input.now_ns);
        let idle = self.wheel.draw_where(candidates, input.random, is_idle);
        idle.or_else(|| self.wheel.draw(candidates, input.random))
    }
}
