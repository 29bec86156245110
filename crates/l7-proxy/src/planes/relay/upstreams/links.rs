//! How connections to backends begin and end.

use std::sync::Arc;

use event_loop::connect;
use h2_wire::connection::{Connection, StreamKey};
use h2_wire::{Error, Reason};
use rustix::io::Errno;

use super::Upstreams;
use crate::failure::Failure;
use crate::planes::relay::endpoint::Endpoint;
use crate::planes::relay::io::{Io, Side};
use crate::planes::relay::keys::{CallKey, LinkKey, PoolKey};
use crate::planes::relay::link::{Link, Pool, Stage};
use crate::planes::relay::secure::Secure;
use crate::planes::relay::sweep::Look;
use crate::planes::relay::targets::Moment;
use crate::tls::counters::TlsCounters;

/// The part of a connection's streams that may be waiting for their resets only.
const HELD_SHARE: usize = 4;

/// Why a connection ended whose other end said no more.
pub(crate) const CLOSED: &str = "it was closed";

/// A connection that has ended.
pub(crate) struct Lost {
    pub(crate) pool: PoolKey,
    /// The calls that were on it, and whether the backend may have looked at
    /// them.
    pub(crate) calls: Vec<(CallKey, bool)>,
}

impl Upstreams {
    /// Begins to make a connection.
    pub(super) fn open_link(
        &mut self,
        key: PoolKey,
        io: &Io,
        moment: Moment,
    ) -> Result<(), Failure> {
        self.connect(key, io, moment.now_ns).map_err(|errno| {
            let reason = std::io::Error::from(errno).to_string();
            let backend = self.pools.live(key).upstream.name().to_owned();
            self.note_unconnected(key, &reason, moment);
            Failure::Connect { backend, reason }
        })
    }

    fn connect(&mut self, key: PoolKey, io: &Io, now_ns: u64) -> Result<(), Errno> {
        let pool = self.pools.live(key);
        let socket = connect(pool.upstream.addr(), None)?;
        let secure = self.secure(pool).map_err(|_| Errno::INVAL)?;
        let http = Connection::new(Arc::clone(&self.options));
        let endpoint = Endpoint::new(http, socket, secure, now_ns / 1_000_000);
        let timeout = self.shared.config.upstream.connect_timeout;
        let connect_by_ns = now_ns + timeout.as_nanos() as u64;
        let doublings = pool.upstream.ping_doublings();
        let link = self.links.insert(Link::new(endpoint, key, connect_by_ns, doublings));
        if let Err(errno) = io.watch(Side::Link(link), &self.links.live(link).endpoint) {
            self.links.remove(link);
            return Err(errno);
        }
        self.pools.live_mut(key).links.push(link);
        self.timers.set(connect_by_ns, link);
        Ok(())
    }

    /// A new session of TLS with a backend, where it is spoken.
    fn secure(&self, pool: &Pool) -> Result<Option<Box<Secure>>, rustls::Error> {
        let Some((config, name)) = self.shared.tls.client(pool.upstream.addr().ip()) else {
            return Ok(None);
        };
        let TlsCounters { backends_ok: ok, backends_failed: failed, .. } = self.tls.clone();
        Secure::client(config, name, ok, failed).map(|secure| Some(Box::new(secure)))
    }

    fn note_unconnected(&mut self, key: PoolKey, reason: &str, moment: Moment) {
        let pool = self.pools.live_mut(key);
        let backend = pool.upstream.name();
        tracing::warn!(backend, reason, "connection to backend refused");
        pool.counters.connects_failed.inc();
        pool.upstream.note_failure(moment.now_ns);
        let limits = &self.shared.config.upstream;
        pool.backoff.fail(moment.now_ns, limits, moment.random, reason.to_owned());
    }

    /// The socket takes bytes: it has connected, or has room again.
    ///
    /// # Errors
    /// Why it could not connect.
    #[inline]
    pub(crate) fn on_writable(&mut self, key: LinkKey) -> Result<&mut Endpoint, Errno> {
        let link = self.links.live_mut(key);
        if link.stage == Stage::Connecting {
            if let Some(errno) = link.endpoint.take_error() {
                return Err(errno);
            }
            link.stage = Stage::Greeting;
        }
        Ok(&mut link.endpoint)
    }

    /// What was read from a connection has been dealt with.
    #[inline]
    pub(crate) fn after_input(&mut self, key: LinkKey) {
        self.links.live_mut(key).prune_abandoned();
        self.close_if_over(key);
    }

    /// The backend's SETTINGS have come. Whether it has another number of places
    /// than before.
    pub(crate) fn on_settings(&mut self, key: LinkKey, now_ns: u64) -> bool {
        let link = self.links.live_mut(key);
        let streams = link.endpoint.http.stream_limit() as u32;
        let pool = self.pools.live_mut(link.pool);
        if link.stage != Stage::Ready {
            link.stage = Stage::Ready;
            link.ready_ns = now_ns;
            pool.note_greeting();
            self.timers.clear(link.connect_by_ns, key);
            tracing::info!(backend = pool.upstream.name(), "connection to backend opened");
            pool.counters.connects_ok.inc();
            pool.counters.connections.add(1);
        }
        std::mem::replace(&mut pool.streams, streams) != streams
    }

    /// A call has been served: the backend is well.
    #[inline]
    pub(crate) fn on_response(&mut self, key: LinkKey) {
        let link = self.links.live_mut(key);
        if !link.is_proven {
            link.is_proven = true;
            self.pools.live_mut(link.pool).backoff.clear();
        }
    }

    /// A connection that was ready has ended. One that had not served a call is
    /// a failure as much as one that could not be made.
    fn note_end(&mut self, key: LinkKey, reason: &str, moment: Moment) {
        let link = self.links.live_mut(key);
        if std::mem::replace(&mut link.is_proven, true) {
            return;
        }
        let limits = &self.shared.config.upstream;
        let reason = format!("{reason} before it had served a call");
        let backoff = &mut self.pools.live_mut(link.pool).backoff;
        backoff.fail_unproven(moment.now_ns, limits, moment.random, reason);
    }

    /// The backend has had too many PINGs.
    #[cold]
    pub(crate) fn slow_pings(&self, key: LinkKey) {
        let link = self.links.live(key);
        self.pools.live(link.pool).upstream.slow_pings(link.ping_doublings);
    }

    /// The backend sent GOAWAY. Gives the calls that it has left out.
    pub(crate) fn on_go_away(
        &mut self,
        key: LinkKey,
        last_stream: u32,
        moment: Moment,
    ) -> Vec<CallKey> {
        let link = self.links.live_mut(key);
        link.is_draining = true;
        let (left_out, kept): (Vec<_>, Vec<_>) =
            link.endpoint.http.streams().partition(|(stream, _)| stream.id() > last_stream);
        for (stream, _) in &left_out {
            link.endpoint.http.forget(*stream);
        }
        if kept.is_empty() {
            self.note_end(key, "it went away (GOAWAY)", moment);
        }
        left_out.into_iter().map(|(_, call)| call).collect()
    }

    /// Closes a connection that takes no more calls and has none left.
    pub(crate) fn close_if_over(&mut self, key: LinkKey) {
        let link = self.links.live(key);
        if link.is_draining && link.stage == Stage::Ready && link.is_idle() {
            self.remove(key);
        }
    }

    /// The backend broke the rules of HTTP/2, or a bound: tells it so.
    pub(crate) fn fail(&mut self, key: LinkKey, error: &Error) {
        let endpoint = &mut self.links.live_mut(key).endpoint;
        self.guard.count_backend(endpoint.ending());
        endpoint.http.fail(error);
        // What the kernel takes now it gets; nobody waits for more.
        let _ = endpoint.flush(&mut Vec::new());
    }

    /// A connection broke, or could not be made.
    pub(crate) fn lose(&mut self, key: LinkKey, reason: &str, moment: Moment) -> Lost {
        let link = self.links.live(key);
        let (pool, was_ready) = (link.pool, link.stage == Stage::Ready);
        if !link.is_draining {
            self.pools.live_mut(pool).note_loss();
        }
        let http = &link.endpoint.http;
        let calls = http.streams().map(|(stream, call)| (call, http.was_sent(stream))).collect();
        if was_ready {
            let backend = self.pools.live(pool).upstream.name();
            tracing::warn!(backend, reason, "connection to backend lost");
            self.note_end(key, reason, moment);
        } else {
            let reason = match reason {
                CLOSED => "it was closed before its SETTINGS came",
                reason => reason,
            };
            self.note_unconnected(pool, reason, moment);
        }
        self.remove(key);
        Lost { pool, calls }
    }

    /// Takes a connection out of the books and closes it.
    pub(super) fn remove(&mut self, key: LinkKey) {
        let Some(link) = self.links.remove(key) else { return };
        let pool = self.pools.live_mut(link.pool);
        pool.links.retain(|other| *other != key);
        if link.stage == Stage::Ready {
            pool.counters.connections.sub(1);
        } else {
            self.timers.clear(link.connect_by_ns, key);
        }
    }

    /// Resets a stream on a backend's connection, if it is still open.
    ///
    /// Where too many resets are under way for a backend to bear, the stream
    /// stays open there, and in its load, until more may follow. A connection
    /// with many such streams makes way for a new one: whoever left them must
    /// not keep others waiting for a place.
    pub(crate) fn reset(&mut self, key: LinkKey, stream: StreamKey, reason: Reason, io: &mut Io) {
        // The connection may have ended, and the stream with it.
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.endpoint.http.is_open(stream) {
            return;
        }
        let http = io.output(Side::Link(key), &mut link.endpoint);
        if http.reset(stream, reason) {
            self.guard.held_resets.inc();
            if http.held_resets() > http.stream_limit() / HELD_SHARE && !link.is_draining {
                link.is_draining = true;
                self.guard.worn_connections.inc();
            }
            link.abandoned.push((stream, self.pools.live(link.pool).upstream.begin()));
        }
        self.note_reset(key);
    }

    /// Counts a stream that either side has reset. A connection that has seen
    /// many makes way for a new one, before the backend has enough of it.
    pub(crate) fn note_reset(&mut self, key: LinkKey) {
        let link = self.links.live_mut(key);
        link.resets += 1;
        if link.resets >= self.shared.config.upstream.backend_max_resets && !link.is_draining {
            link.is_draining = true;
            self.guard.worn_connections.inc();
        }
    }

    /// Looks at a connection. Gives why it is lost, if it is.
    pub(crate) fn sweep(&mut self, key: LinkKey, look: Look, io: &mut Io) -> Option<&'static str> {
        let config = &self.shared.config;
        // The loss of one connection may close others of a backend that left.
        let link = self.links.get_mut(key)?;
        if look.is_second {
            link.endpoint.http.each_second();
        }
        let pool = self.pools.live_mut(link.pool);
        let age_ns = u128::from(look.now_ns.saturating_sub(link.ready_ns));
        let is_old = age_ns > config.upstream.backoff_max.as_nanos();
        if link.stage == Stage::Ready && !link.is_proven && is_old {
            link.is_proven = true;
            pool.backoff.clear();
        }
        let doublings = pool.upstream.ping_doublings();
        let Some((ending, reason)) =
            link.fault(&config.downstream, &config.upstream, doublings, look)
        else {
            io.mark_if_dirty(Side::Link(key), &mut link.endpoint);
            return None;
        };
        if let Some(ending) = ending {
            self.guard.count_backend(ending);
        }
        Some(reason)
    }
}
