//! What time alone brings about: halved flood counts, handshakes and frames that
//! take too long, remotes that are silent or do not read, idle connections, the
//! steps of a drain.
//!
//! All connections are looked at every now and then, instead of a timer being
//! moved with every frame. A timeout is late by one period at most, which is a
//! part of the shortest timeout there is.

use h2_wire::{Error, Reason};

use super::clients::{Client, ClientKey, LINGER};
use super::endpoint::Endpoint;
use super::link::{Link, LinkKey, Stage};
use super::options::Sweep;
use super::worker::Worker;
use crate::metrics::Ending;
use crate::planes::NOTICE;

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

/// What was found of one that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// Nothing to do.
    No,
    /// It is asked for a sign of life.
    Asked,
    /// It has not answered.
    Dead,
}

/// How long a remote may be silent, and how long it may take to answer then.
#[derive(Clone, Copy)]
struct Patience {
    silence_ms: u64,
    answer_ms: u64,
}

impl Endpoint {
    /// Asks a remote that has been silent for long for a sign of life, unless
    /// one is not `wanted`.
    fn check_silence(&mut self, patience: Patience, wanted: bool, now_ms: u64) -> Silence {
        let for_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        if self.http.is_ping_due() {
            let is_silent = self.heard_ms <= self.asked_ms;
            let is_dead = is_silent && for_ms(self.asked_ms) > patience.answer_ms;
            return if is_dead { Silence::Dead } else { Silence::No };
        }
        if !wanted || for_ms(self.heard_ms) <= patience.silence_ms {
            return Silence::No;
        }
        self.asked_ms = now_ms;
        self.http.ask_alive();
        Silence::Asked
    }
}

impl Client {
    /// What took it too long.
    fn fault(&self, sweep: &Sweep, now_ms: u64) -> Option<(Error, Ending)> {
        let age_ms = now_ms.saturating_sub(self.opened_ms);
        if age_ms > sweep.handshake_ms && !self.endpoint.http.has_settings() {
            let error = Error::connection(Reason::PROTOCOL_ERROR, "no SETTINGS in time");
            return Some((error, Ending::HandshakeTimeout));
        }
        if self.endpoint.partial_ms(now_ms) > sweep.frame_ms {
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
    /// Why it is lost, if it is. Asks for a sign of life meanwhile.
    fn fault(&mut self, sweep: &Sweep, doublings: u32, look: Look) -> Result<Silence, LinkFault> {
        let endpoint = &mut self.endpoint;
        let is_awaited = endpoint.http.is_window_awaited();
        self.exhausted_sweeps = if is_awaited { self.exhausted_sweeps + 1 } else { 0 };
        if endpoint.stalled_ms(look.now_ms, look.least_bytes) > sweep.stall_ms {
            return Err((Some(Ending::WriteStall), "it takes no bytes"));
        }
        if endpoint.partial_ms(look.now_ms) > sweep.frame_ms {
            return Err((Some(Ending::FrameTimeout), "a frame was not whole in time"));
        }
        let patience = Patience {
            silence_ms: sweep.backend_silence_ms.saturating_mul(1 << doublings),
            answer_ms: sweep.backend_answer_ms,
        };
        let has_calls = endpoint.http.open_streams() > 0;
        match endpoint.check_silence(patience, has_calls, look.now_ms) {
            Silence::Dead => Err((None, "it did not answer a PING")),
            silence => Ok(silence),
        }
    }
}

/// How a backend's connection that is lost is counted, and why it is.
type LinkFault = (Option<Ending>, &'static str);

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
        let least_bytes = (LEAST_BYTES * elapsed_ms / self.sweep.stall_ms.max(1)).max(1);
        let look = Look { now_ms: self.now_ms(), least_bytes, is_second };
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
        let client = self.clients.all.live_mut(key);
        if look.is_second {
            client.endpoint.http.each_second();
        }
        let linger_ms = LINGER.as_millis() as u64;
        let is_over = |since_ms: u64| now_ms.saturating_sub(since_ms) > linger_ms;
        if client.closing_since_ms.is_some_and(is_over) {
            return self.drop_client(key);
        }
        if client.endpoint.stalled_ms(now_ms, look.least_bytes) > self.sweep.stall_ms {
            self.guard.count(Ending::WriteStall);
            return self.drop_client(key);
        }
        if client.endpoint.is_ending {
            return;
        }
        if let Some((error, ending)) = client.fault(&self.sweep, now_ms) {
            return self.fail_client(key, &error, ending);
        }
        let Sweep { silence_ms, answer_ms, .. } = self.sweep;
        match client.endpoint.check_silence(Patience { silence_ms, answer_ms }, true, now_ms) {
            Silence::No => {}
            Silence::Asked => self.io.mark_dirty(key, &mut client.endpoint),
            Silence::Dead => return self.drop_client(key),
        }
        self.go_on_draining(key, now_ms);
        self.reset_stalled(key, look);
    }

    /// Takes the next step of a drain, and begins one for a connection that has
    /// had no call for long.
    fn go_on_draining(&mut self, key: ClientKey, now_ms: u64) {
        let client = self.clients.all.live_mut(key);
        let idle_ms = client.idle_ms(now_ms);
        if let Some(since_ms) = client.draining_since_ms {
            let waited_ms = u128::from(now_ms.saturating_sub(since_ms));
            if !client.endpoint.http.has_left() && waited_ms > NOTICE.as_millis() {
                client.endpoint.http.leave();
            }
            // Also asks again whether the last call has ended.
            self.io.mark_dirty(key, &mut client.endpoint);
        } else if idle_ms > self.sweep.idle_ms {
            self.guard.count(Ending::Idle);
            self.clients.start_drain(key, &mut self.io, now_ms);
        }
    }

    /// Resets the calls whose responses wait for a client that does not take
    /// them.
    fn reset_stalled(&mut self, key: ClientKey, look: Look) {
        let endpoint = &mut self.clients.all.live_mut(key).endpoint;
        let mut stalled = Vec::new();
        let stall_ms = self.sweep.stall_ms;
        endpoint.http.find_stalled(look.now_ms, stall_ms, look.least_bytes, &mut stalled);
        for (stream, call) in stalled {
            self.io.output(key, endpoint).reset(stream, Reason::CANCEL);
            self.guard.stalled_streams.inc();
            self.calls.cancel(call, Reason::CANCEL, self.now_ns);
        }
        self.run_effects();
    }

    fn sweep_link(&mut self, key: LinkKey, look: Look) {
        // The loss of one connection may close others of a backend that left.
        let Some(link) = self.upstreams.links.get_mut(key) else { return };
        if look.is_second {
            link.endpoint.http.each_second();
        }
        let age_ns = u128::from(self.now_ns.saturating_sub(link.ready_ns));
        let is_old = age_ns > self.shared.config.upstream.backoff_max.as_nanos();
        if link.stage == Stage::Ready && !link.is_proven && is_old {
            self.upstreams.prove(key);
        }
        let doublings = self.upstreams.ping_doublings(key);
        let link = self.upstreams.links.live_mut(key);
        match link.fault(&self.sweep, doublings, look) {
            Ok(Silence::Asked) => self.io.mark_dirty(key, &mut link.endpoint),
            Ok(_) => {}
            Err((ending, reason)) => {
                if let Some(ending) = ending {
                    self.guard.count_backend(ending);
                }
                self.lose_link(key, reason);
            }
        }
    }
}
