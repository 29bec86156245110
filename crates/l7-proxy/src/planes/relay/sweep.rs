//! What time alone brings about: halved flood counts, handshakes and frames that
//! take too long, remotes that are silent or do not read, idle connections, the
//! steps of a drain.
//!
//! All connections are looked at every now and then, instead of a timer being
//! moved with every frame. A timeout is late by one period at most, which is a
//! part of the shortest timeout there is.

use std::time::Duration;

use h2_wire::{Error, Reason};

use super::clients::{Client, ClientKey};
use super::endpoint::Endpoint;
use super::io::Side;
use super::link::{Link, LinkKey, Stage};
use super::worker::Worker;
use crate::config::{DownstreamLimits, UpstreamLimits};
use crate::metrics::Ending;

/// Less than this within the stall timeout is no progress.
const LEAST_BYTES: u64 = 1_024;

/// One look at all connections.
#[derive(Clone, Copy)]
struct Look {
    now_ms: u64,
    /// A fair share of what is progress within the stall timeout.
    least_bytes: u64,
    /// The counts of floods are halved.
    is_second: bool,
}

fn exceeds(ms: u64, limit: Duration) -> bool {
    u128::from(ms) > limit.as_millis()
}

impl Endpoint {
    /// Asks a remote that has been `silent` for too long for a sign of life.
    /// Whether it was asked and has not answered within `patience`.
    fn is_dead(&mut self, silent: Duration, patience: Duration, now_ms: u64) -> bool {
        let for_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        if self.http.is_ping_outstanding() {
            return self.heard_ms <= self.pinged_ms && exceeds(for_ms(self.pinged_ms), patience);
        }
        if exceeds(for_ms(self.heard_ms), silent) {
            self.pinged_ms = now_ms;
            self.http.ping();
        }
        false
    }
}

impl Client {
    /// What took it too long.
    fn fault(&self, limits: &DownstreamLimits, now_ms: u64) -> Option<(Error, Ending)> {
        let age_ms = now_ms.saturating_sub(self.opened_ms);
        if exceeds(age_ms, limits.handshake_timeout) && !self.endpoint.http.has_settings() {
            let error = Error::connection(Reason::PROTOCOL_ERROR, "no SETTINGS in time");
            return Some((error, Ending::HandshakeTimeout));
        }
        if exceeds(self.endpoint.partial_ms(now_ms), limits.frame_timeout) {
            let error = Error::connection(Reason::ENHANCE_YOUR_CALM, "frame not whole in time");
            return Some((error, Ending::FrameTimeout));
        }
        None
    }

    /// How long it has had no call. Memory that an idle connection does not need
    /// is given back.
    fn idle_ms(&mut self, now_ms: u64) -> u64 {
        let last_stream = self.endpoint.http.highest_peer_stream();
        let had_calls = std::mem::replace(&mut self.last_stream, last_stream) != last_stream;
        if had_calls || self.endpoint.http.open_streams() > 0 {
            self.idle_since_ms = None;
            return 0;
        }
        if self.idle_since_ms.is_none() {
            self.endpoint.shrink();
        }
        now_ms - *self.idle_since_ms.get_or_insert(now_ms)
    }
}

impl Link {
    /// Why it is lost, if it is, and how that is counted.
    fn fault(
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
}

impl Worker {
    /// Looks at all connections if it is time to.
    pub(super) fn sweep_if_due(&mut self) {
        let Some(elapsed_ms) = self.sweep.begin(self.now_ns) else { return };
        // Sweeps may be more frequent than seconds.
        self.sweep.since_halving_ms += elapsed_ms;
        let is_second = self.sweep.since_halving_ms >= 1_000;
        if is_second {
            self.sweep.since_halving_ms = 0;
        }
        let stall_ms = self.shared.config.downstream.write_stall_timeout.as_millis().max(1);
        let least_bytes = u128::from(LEAST_BYTES * elapsed_ms) / stall_ms;
        let look =
            Look { now_ms: self.now_ms(), least_bytes: (least_bytes as u64).max(1), is_second };
        for key in self.clients.all.keys() {
            self.sweep_client(key, look);
        }
        for key in self.upstreams.links.keys() {
            self.sweep_link(key, look);
        }
        self.clients.shares.prune();
        self.upstreams.retire();
    }

    fn sweep_client(&mut self, key: ClientKey, look: Look) {
        let now_ms = look.now_ms;
        let limits = &self.shared.config.downstream;
        let client = self.clients.all.live_mut(key);
        if look.is_second {
            client.endpoint.http.each_second();
        }
        if client.drain.is_over(now_ms) {
            return self.drop_client(key, "drained");
        }
        let stalled_ms = client.endpoint.stalled_ms(now_ms, look.least_bytes);
        if exceeds(stalled_ms, limits.write_stall_timeout) {
            self.guard.count(Ending::WriteStall);
            return self.drop_client(key, "it takes no bytes");
        }
        if client.endpoint.is_ending {
            return;
        }
        if let Some((error, ending)) = client.fault(limits, now_ms) {
            return self.fail_client(key, &error, ending);
        }
        let (silent, patience) = (limits.keepalive_interval, limits.keepalive_timeout);
        if client.endpoint.is_dead(silent, patience, now_ms) {
            return self.drop_client(key, "it did not answer a PING");
        }
        self.go_on_draining(key, now_ms);
        self.reset_stalled(key, look);
    }

    /// Takes the next step of a drain, and begins one for a connection that has
    /// had no call for long.
    fn go_on_draining(&mut self, key: ClientKey, now_ms: u64) {
        let client = self.clients.all.live_mut(key);
        let is_idle = exceeds(client.idle_ms(now_ms), self.shared.config.downstream.idle_timeout);
        let endpoint = &mut client.endpoint;
        if client.drain.is_notice_over(now_ms) && !endpoint.http.is_drain_finished() {
            endpoint.http.finish_drain();
        }
        if client.drain.has_started() {
            // Also asks again whether the last call has ended.
            self.io.mark_dirty(Side::Client(key), endpoint);
        } else if is_idle {
            self.guard.count(Ending::Idle);
            self.clients.start_drain(key, &mut self.io, now_ms);
        } else {
            self.io.mark_if_dirty(Side::Client(key), endpoint);
        }
    }

    /// Resets the calls whose responses wait for a client that does not take
    /// them.
    fn reset_stalled(&mut self, key: ClientKey, look: Look) {
        let endpoint = &mut self.clients.all.live_mut(key).endpoint;
        let timeout = self.shared.config.downstream.write_stall_timeout;
        let stall_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut stalled = Vec::new();
        endpoint.http.find_stalled(look.now_ms, stall_ms, look.least_bytes, &mut stalled);
        for (stream, call) in stalled {
            self.io.output(Side::Client(key), endpoint).reset(stream, Reason::CANCEL);
            self.guard.stalled_streams.inc();
            self.calls.cancel(call, Reason::CANCEL, self.now_ns);
        }
        self.run_effects();
    }

    fn sweep_link(&mut self, key: LinkKey, look: Look) {
        let config = &self.shared.config;
        // The loss of one connection may close others of a backend that left.
        let Some(link) = self.upstreams.links.get_mut(key) else { return };
        if look.is_second {
            link.endpoint.http.each_second();
        }
        let pool = self.upstreams.pools.live_mut(link.pool);
        let age_ns = u128::from(self.now_ns.saturating_sub(link.ready_ns));
        let is_old = age_ns > config.upstream.backoff_max.as_nanos();
        if link.stage == Stage::Ready && !link.is_proven && is_old {
            link.is_proven = true;
            pool.backoff.clear();
        }
        let doublings = pool.upstream.ping_doublings();
        match link.fault(&config.downstream, &config.upstream, doublings, look) {
            None => self.io.mark_if_dirty(Side::Link(key), &mut link.endpoint),
            Some((ending, reason)) => {
                if let Some(ending) = ending {
                    self.guard.count_backend(ending);
                }
                self.lose_link(key, reason);
            }
        }
    }
}
