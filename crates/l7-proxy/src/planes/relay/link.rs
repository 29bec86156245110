//! The connections from one thread to one backend, as data: which there are,
//! which are to be closed, and when another may be made.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use h2_wire::connection::StreamKey;
use serve::Metrics;

use super::endpoint::Endpoint;
use super::keys::{CallKey, LinkKey, PoolKey};
use super::options::OUTPUT_HIGH_BYTES;
use super::sweep::{Look, exceeds};
use crate::config::{DownstreamLimits, UpstreamLimits};
use crate::metrics::{BackendCounters, Ending};
use crate::planes::backoff::Backoff;
use crate::upstreams::{InFlight, Upstream};

/// The connections from one thread to one backend.
pub(super) struct Pool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) counters: Rc<BackendCounters>,
    /// Its connections, oldest first.
    pub(super) links: Vec<LinkKey>,
    /// Calls that wait for a connection that is being made.
    pub(super) waiting: VecDeque<CallKey>,
    /// These, and those in the overflow that are counted here.
    pub(super) pending: u32,
    /// Streams on one connection, as far as is known.
    pub(super) streams: u32,
    pub(super) backoff: Backoff,
    /// A connection was lost, or could not be made, and none has come since.
    is_doubtful: bool,
    /// The backend is no longer in the set: its connections end with their calls.
    pub(super) is_retired: bool,
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, metrics: &Metrics, streams: u32) -> Self {
        let counters = Rc::new(upstream.counters(metrics));
        Self {
            upstream,
            counters,
            links: Vec::new(),
            waiting: VecDeque::new(),
            pending: 0,
            streams,
            backoff: Backoff::default(),
            is_doubtful: false,
            is_retired: false,
        }
    }

    /// Whether calls may wait for a connection that is being made.
    ///
    /// The kernel of a backend that hangs takes connections as before, and nothing comes on
    /// them: whoever waited for its SETTINGS would wait for as long as an attempt to connect may
    /// take. So after a loss a connection is made all the same, and calls go to other backends
    /// until it has come, as gRPC's policies pick only channels that are READY. At the first
    /// connection they do wait: all backends are new then, and whichever was ready first would
    /// get what is meant for all.
    pub(super) fn may_be_waited_for(&self) -> bool {
        !self.is_doubtful
    }

    /// A connection that took calls, or was to, is no more.
    pub(super) fn note_loss(&mut self) {
        self.is_doubtful = true;
    }

    /// The backend's SETTINGS have come on a connection.
    pub(super) fn note_greeting(&mut self) {
        self.is_doubtful = false;
    }
}

/// One connection to a backend.
pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    pub(super) pool: PoolKey,
    pub(super) stage: Stage,
    /// It takes no more calls, and is closed after the last: the backend sent
    /// GOAWAY, it ran out of stream identifiers, it has seen too many resets, or
    /// too many of them are held back.
    pub(super) is_draining: bool,
    /// Streams that either side has reset.
    pub(super) resets: u32,
    /// Streams that nobody waits for and whose resets are held back: the
    /// backend may be at work on them, so they count as in flight.
    pub(super) abandoned: Vec<(StreamKey, InFlight)>,
    /// Sweeps in a row that found calls waiting for its send window.
    exhausted_sweeps: u32,
    /// When an attempt to connect has taken too long.
    pub(super) connect_by_ns: u64,
    /// How often the pause before a PING had been doubled when it was made.
    pub(super) ping_doublings: u32,
    /// Since when it takes calls.
    pub(super) ready_ns: u64,
    /// It has served a call, or lived for as long as the longest pause between
    /// attempts to connect: the backend is well, and the next attempt may be
    /// made at once.
    pub(super) is_proven: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// TCP has not connected yet.
    Connecting,
    /// The backend's SETTINGS have not come yet: nothing says before that the
    /// other end speaks HTTP/2.
    Greeting,
    /// It takes calls.
    Ready,
}

impl Link {
    pub(super) fn new(
        endpoint: Endpoint,
        pool: PoolKey,
        connect_by_ns: u64,
        ping_doublings: u32,
    ) -> Self {
        Self {
            endpoint,
            pool,
            stage: Stage::Connecting,
            is_draining: false,
            resets: 0,
            abandoned: Vec::new(),
            exhausted_sweeps: 0,
            connect_by_ns,
            ping_doublings,
            ready_ns: 0,
            is_proven: false,
        }
    }

    /// Whether a call can be put on it now.
    pub(super) fn has_place(&self) -> bool {
        self.stage == Stage::Ready
            && !self.is_draining
            && self.exhausted_sweeps < 2
            && self.endpoint.http.can_open()
            && self.endpoint.http.output_len() < OUTPUT_HIGH_BYTES
    }

    /// Whether no call is on it.
    pub(super) fn is_idle(&self) -> bool {
        let http = &self.endpoint.http;
        http.open_streams() == http.held_resets()
    }

    /// Why it is lost, if it is, and how that is counted.
    pub(super) fn fault(
        &mut self,
        down: &DownstreamLimits,
        up: &UpstreamLimits,
        doublings: u32,
        look: Look,
    ) -> Option<(Option<Ending>, &'static str)> {
        let endpoint = &mut self.endpoint;
        let is_awaited = endpoint.http.is_window_awaited();
        self.exhausted_sweeps = if is_awaited { self.exhausted_sweeps + 1 } else { 0 };
        let stalled_ms = endpoint.stalled_ms(look.now_ms, look.least_bytes);
        if exceeds(stalled_ms, down.write_stall_timeout) {
            return Some((Some(Ending::WriteStall), "it takes no bytes"));
        }
        if exceeds(endpoint.partial_ms(look.now_ms), down.frame_timeout) {
            return Some((Some(Ending::FrameTimeout), "a frame was not whole in time"));
        }
        // One without calls need not show that it is alive.
        let has_calls = endpoint.http.open_streams() > 0 || endpoint.http.is_ping_outstanding();
        let silent = up.backend_keepalive_interval.saturating_mul(1 << doublings);
        let is_dead =
            has_calls && endpoint.is_dead(silent, up.backend_keepalive_timeout, look.now_ms);
        is_dead.then_some((None, "it did not answer a PING"))
    }

    /// Lets go of abandoned streams that have ended.
    pub(super) fn prune_abandoned(&mut self) {
        if !self.abandoned.is_empty() {
            let http = &self.endpoint.http;
            self.abandoned.retain(|(stream, _)| http.is_open(*stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendConfig;

    #[test]
    fn after_a_loss_nobody_waits_for_a_backend_until_it_has_spoken() {
        let backend = BackendConfig::new(([127, 0, 0, 1], 1).into());
        let upstream = Upstream::new(&backend, &Arc::default());
        let mut pool = Pool::new(upstream, &Metrics::new(), 100);
        assert!(pool.may_be_waited_for(), "nothing speaks against a new one");
        for _ in 0..2 {
            pool.note_loss();
            assert!(!pool.may_be_waited_for());
        }
        pool.note_greeting();
        assert!(pool.may_be_waited_for());
    }
}
