//! What time alone brings about: halved flood counts, handshakes and frames that
//! take too long, peers that are silent or do not read, idle connections, the
//! steps of a drain.
//!
//! All connections are looked at every now and then, instead of a timer being
//! moved with every frame. A timeout is late by one period at most, which is a
//! part of the shortest timeout there is.

use h2_wire::{Error, Reason};

use super::client::{ClientKey, LINGER};
use super::pool::{LinkKey, Stage};
use super::worker::Worker;
use crate::metrics::{Ending, Outcome};
use crate::planes::NOTICE;

/// Less than this within the stall timeout is no progress.
const LEAST_BYTES: u64 = 1_024;

impl Worker {
    /// Looks at all connections if it is time to.
    pub(super) fn sweep_if_due(&mut self) {
        if let Some(elapsed_ms) = self.sweep.begin(self.now_ns) {
            self.sweep(elapsed_ms);
        }
    }

    fn sweep(&mut self, elapsed_ms: u64) {
        // Sweeps may be more frequent than seconds.
        self.sweep.since_halving_ms += elapsed_ms;
        let is_second = self.sweep.since_halving_ms >= 1_000;
        if is_second {
            self.sweep.since_halving_ms = 0;
        }
        // A fair share of what is progress within the stall timeout.
        let least_bytes = (LEAST_BYTES * elapsed_ms / self.sweep.stall_ms.max(1)).max(1);
        for key in self.clients.keys() {
            if let Some(client) = self.clients.get_mut(key)
                && is_second
            {
                client.endpoint.http.each_second();
            }
            self.sweep_client(key, least_bytes);
        }
        for key in self.links.keys() {
            if let Some(link) = self.links.get_mut(key)
                && is_second
            {
                link.endpoint.http.each_second();
            }
            self.sweep_link(key, least_bytes);
        }
        self.shares.prune();
        for key in self.pools.keys() {
            self.retire_if_over(key);
        }
    }

    fn sweep_client(&mut self, key: ClientKey, least_bytes: u64) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        let over = |since_ms: u64, limit_ms: u64| now_ms.saturating_sub(since_ms) > limit_ms;
        if client.closing_since_ms.is_some_and(|since_ms| over(since_ms, LINGER.as_millis() as u64))
        {
            self.clients.remove(key);
            return;
        }
        if client.endpoint.stalled_ms(now_ms, least_bytes) > self.sweep.stall_ms {
            self.guard_counters.count(Ending::WriteStall);
            return self.drop_client(key);
        }
        if client.is_ending {
            return;
        }
        if let Some((error, ending)) = self.client_fault(key) {
            return self.fail_client(key, &error, ending);
        }
        self.keep_client_alive(key);
        self.go_on_leaving(key);
        self.reset_stalled(key, least_bytes);
    }

    /// What took a client too long.
    fn client_fault(&self, key: ClientKey) -> Option<(Error, Ending)> {
        let now_ms = self.now_ms();
        let client = self.clients.get(key)?;
        let age_ms = now_ms.saturating_sub(client.opened_ms);
        if age_ms > self.sweep.handshake_ms && !client.endpoint.http.has_settings() {
            let error = Error::connection(Reason::PROTOCOL_ERROR, "no SETTINGS in time");
            return Some((error, Ending::HandshakeTimeout));
        }
        if client.endpoint.partial_ms(now_ms) > self.sweep.frame_ms {
            let error = Error::connection(Reason::ENHANCE_YOUR_CALM, "frame not whole in time");
            return Some((error, Ending::FrameTimeout));
        }
        None
    }

    fn keep_client_alive(&mut self, key: ClientKey) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        let endpoint = &mut client.endpoint;
        if endpoint.http.is_ping_due() {
            let is_silent = endpoint.heard_ms <= endpoint.asked_ms;
            if is_silent && now_ms.saturating_sub(endpoint.asked_ms) > self.sweep.answer_ms {
                self.drop_client(key);
            }
        } else if now_ms.saturating_sub(endpoint.heard_ms) > self.sweep.silence_ms {
            endpoint.asked_ms = now_ms;
            endpoint.http.ask_alive();
            self.touch_client(key);
        }
    }

    /// Takes the next step of a drain, and begins one for a connection that has
    /// had no call for long.
    fn go_on_leaving(&mut self, key: ClientKey) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        let last_stream = client.endpoint.http.highest_peer_stream();
        let had_calls = std::mem::replace(&mut client.last_stream, last_stream) != last_stream;
        if had_calls || client.endpoint.http.open_streams() > 0 {
            client.idle_since_ms = None;
        } else if client.idle_since_ms.is_none() {
            client.idle_since_ms = Some(now_ms);
            client.endpoint.shrink();
        }
        if let Some(since_ms) = client.leaving_since_ms {
            let waited_ms = u128::from(now_ms.saturating_sub(since_ms));
            if !client.endpoint.http.has_left() && waited_ms > NOTICE.as_millis() {
                client.endpoint.http.leave();
            }
            // Also asks again whether the last call has ended.
            return self.touch_client(key);
        }
        let idle_ms = client.idle_since_ms.map_or(0, |since_ms| now_ms - since_ms);
        if idle_ms > self.sweep.idle_ms {
            self.guard_counters.count(Ending::Idle);
            self.announce_leave(key);
        }
    }

    /// Resets the calls whose responses wait for a client that does not take
    /// them.
    fn reset_stalled(&mut self, key: ClientKey, least_bytes: u64) {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut stalled = Vec::new();
        let http = &mut client.endpoint.http;
        http.find_stalled(now_ms, self.sweep.stall_ms, least_bytes, &mut stalled);
        for (stream, call) in stalled {
            if let Some(client) = self.clients.get_mut(key) {
                client.endpoint.http.reset(stream, Reason::CANCEL);
                self.guard_counters.stalled_streams.inc();
                self.touch_client(key);
            }
            self.withdraw(call, Reason::CANCEL);
            self.end_call(call, Outcome::Cancelled);
        }
    }

    fn sweep_link(&mut self, key: LinkKey, least_bytes: u64) {
        let now_ms = self.now_ms();
        let Some(link) = self.links.get_mut(key) else { return };
        let age_ns = self.now_ns.saturating_sub(link.ready_ns);
        if link.stage == Stage::Ready
            && !link.is_proven
            && u128::from(age_ns) > self.shared.config.upstream.backoff_max.as_nanos()
        {
            self.prove(key);
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let doublings = self.pools.get(link.pool).map_or(0, |pool| pool.upstream.ping_doublings());
        let endpoint = &mut link.endpoint;
        let is_awaited = endpoint.http.is_window_awaited();
        link.exhausted_sweeps = if is_awaited { link.exhausted_sweeps + 1 } else { 0 };
        if endpoint.stalled_ms(now_ms, least_bytes) > self.sweep.stall_ms {
            self.guard_counters.count_backend(Ending::WriteStall);
            return self.lose_link(key, "it takes no bytes");
        }
        if endpoint.partial_ms(now_ms) > self.sweep.frame_ms {
            self.guard_counters.count_backend(Ending::FrameTimeout);
            return self.lose_link(key, "a frame was not whole in time");
        }
        if endpoint.http.is_ping_due() {
            let is_silent = endpoint.heard_ms <= endpoint.asked_ms;
            let waited_ms = now_ms.saturating_sub(endpoint.asked_ms);
            if is_silent && waited_ms > self.sweep.backend_answer_ms {
                self.lose_link(key, "it did not answer a PING");
            }
        } else if endpoint.http.open_streams() > 0
            && now_ms.saturating_sub(endpoint.heard_ms)
                > self.sweep.backend_silence_ms.saturating_mul(1 << doublings)
        {
            endpoint.asked_ms = now_ms;
            endpoint.http.ask_alive();
            self.touch_link(key);
        }
    }
}
