//! A backend at work: servers, and calls that wait for one.

use std::collections::VecDeque;

use balance::{LatencyMeter, LoadMeter};

use crate::setup::Backend;

/// A backend's queue. Calls are named by their keys.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) state: State,
    pub(crate) speed: f64,
    servers: u32,
    busy: u32,
    waiting: VecDeque<u32>,
    /// What came, and what was over, while it was stopped.
    pub(crate) held: Vec<u32>,
    /// The balancer that it has told that it is idle.
    pub(crate) idle_at: Option<u32>,
    pub(crate) over: Vec<u32>,
    /// What it reports of its load, and answers to probes.
    pub(crate) load: LoadMeter,
    pub(crate) latency: LatencyMeter,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Stopped,
    Draining,
    Killed,
}

impl Station {
    pub(crate) fn of(backend: &Backend) -> Self {
        Self {
            state: State::Running,
            speed: backend.speed,
            servers: backend.servers,
            busy: 0,
            waiting: VecDeque::new(),
            held: Vec::new(),
            idle_at: None,
            over: Vec::new(),
            load: LoadMeter::new(backend.servers, 0),
            latency: LatencyMeter::default(),
        }
    }

    /// A call comes; whether a server takes it on at once.
    #[inline]
    pub(crate) fn arrive(&mut self, call: u32) -> bool {
        let is_free = self.busy < self.servers;
        if is_free {
            self.busy += 1;
        } else {
            self.waiting.push_back(call);
        }
        is_free
    }

    /// A call that a server has let go waits again.
    pub(crate) fn wait(&mut self, call: u32) {
        self.waiting.push_back(call);
    }

    /// A server is done with a call; the one that it takes on next.
    #[inline]
    pub(crate) fn finish(&mut self) -> Option<u32> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.busy -= 1;
        }
        next
    }

    /// Whether it takes new connections and calls.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Stopped)
    }

    /// Calls that it holds.
    pub(crate) fn calls(&self) -> usize {
        self.busy as usize + self.waiting.len() + self.held.len()
    }

    /// Everything that it held is gone.
    pub(crate) fn clear(&mut self) {
        self.busy = 0;
        self.waiting.clear();
        self.held.clear();
        self.over.clear();
    }
}
