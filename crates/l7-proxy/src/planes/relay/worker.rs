//! One thread's event loop.
//!
//! An own loop over epoll and not tasks on a runtime, for what it saves at a
//! microsecond or two per call: in each turn every socket that has something
//! is read once, all frames found go straight into the output of the
//! connections they belong to, and then each of those is written once. A call
//! costs its share of these system calls, no task, no wake-up, no channel.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use balance::SplitMix64;
use event_loop::{ACCEPTOR, Acceptor, Arena, BufferPool, EventFlags, Poller, Timers, WAKER};
use h2_wire::connection::{Moved, Options};
use h2_wire::hpack::HeaderList;

use super::call::{Call, CallKey};
use super::client::{Client, ClientKey};
use super::endpoint::{BUFFER_BYTES_MAX, Chunks, Endpoint};
use super::options::{self, ResponseShares, Sweep};
use super::pool::{Link, LinkKey, Pool, PoolKey};
use super::shares::Shares;
use super::shutdown::ShutdownWatch;
use crate::circuit::CircuitCounters;
use crate::metrics::{GuardCounters, ProxyCounters};
use crate::planes::Shared;
use crate::retry::RetryCounters;
use crate::tls::counters::TlsCounters;
use crate::upstreams::UpstreamSet;

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Reads from one connection before others get their turn.
const READS_PER_TURN: usize = 4;
/// Bytes read at once, beyond the largest frame.
const SCRATCH_BYTES: usize = 64 << 10;

/// A connection of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client(ClientKey),
    Link(LinkKey),
}

/// What is due. Only what needs its exact moment is here. What may be late by a
/// part of itself (idleness, stalls, signs of life) is looked at in a sweep over
/// all connections instead, which costs nothing per frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A call's deadline.
    Call(CallKey),
    /// The time for an attempt to connect.
    Connect(LinkKey),
    /// A call's next attempt, after a pause.
    Retry(CallKey),
    /// A call's second attempt, unless its first has an answer by then.
    Hedge(CallKey),
}

/// The state of one thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) poller: Poller,
    pub(super) acceptor: Option<Acceptor>,
    pub(super) shutdown: ShutdownWatch,
    pub(super) is_draining: bool,
    pub(super) is_over: bool,
    pub(super) clients: Arena<Client>,
    pub(super) links: Arena<Link>,
    pub(super) pools: Arena<Pool>,
    pub(super) calls: Arena<Box<Call>>,
    /// Calls that wait for a place at any backend.
    pub(super) overflow: VecDeque<CallKey>,
    /// These, and those that wait for a connection of one.
    pub(super) pending: u32,
    /// The backends that `pools_by_index` belongs to.
    pub(super) set: Arc<UpstreamSet>,
    pub(super) pools_by_index: Vec<PoolKey>,
    pub(super) shares: Shares,
    /// Calls that wait until their clients hold fewer places, and how many
    /// places were taken when they were looked at last.
    pub(super) held_back: VecDeque<CallKey>,
    pub(super) held_back_at: u32,
    /// In nanoseconds.
    pub(super) timers: Timers<Due>,
    /// Those with something to write.
    dirty: Vec<Side>,
    /// Those with more to read than their share of a turn.
    ready: Vec<Side>,
    /// Memory for `dirty` and `ready` while they are worked through.
    spare_dirty: Vec<Side>,
    spare_ready: Vec<Side>,
    pub(super) chunks: Chunks,
    pub(super) buffers: BufferPool,
    /// Calls that are over, for their memory.
    #[allow(clippy::vec_box, reason = "the boxes move between here and `calls`")]
    pub(super) spare_calls: Vec<Box<Call>>,
    /// Memory of requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    pub(super) answer_list: HeaderList,
    moved: Vec<Moved<CallKey>>,
    pub(super) downstream: Arc<Options>,
    pub(super) upstream: Arc<Options>,
    pub(super) sweep: Sweep,
    pub(super) chance: SplitMix64,
    pub(super) counters: ProxyCounters,
    pub(super) guard_counters: GuardCounters,
    pub(super) circuit_counters: CircuitCounters,
    pub(super) retry_counters: RetryCounters,
    /// Attempts in flight, or about to be made, that come out of the retry
    /// budget.
    pub(super) budgeted: usize,
    pub(super) tls_counters: TlsCounters,
    /// Of what may wait for one client's connection.
    pub(super) response_shares: ResponseShares,
    pub(super) now_ns: u64,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        acceptor: Acceptor,
        shutdown: ShutdownWatch,
        seed: u64,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add_level(&shutdown, WAKER)?;
        acceptor.watch(&poller)?;
        let config = &shared.config;
        let largest =
            config.downstream.max_frame_bytes.max(config.upstream.backend_max_frame_bytes);
        let now_ns = shared.upstreams.now_ns();
        let sweep = Sweep::of(config, now_ns);
        Ok(Self {
            poller,
            acceptor: Some(acceptor),
            shutdown,
            is_draining: false,
            is_over: false,
            clients: Arena::default(),
            links: Arena::default(),
            pools: Arena::default(),
            calls: Arena::default(),
            overflow: VecDeque::new(),
            pending: 0,
            set: Arc::clone(&shared.upstreams.current()),
            pools_by_index: Vec::new(),
            shares: Shares::default(),
            held_back: VecDeque::new(),
            held_back_at: 0,
            timers: Timers::default(),
            dirty: Vec::new(),
            ready: Vec::new(),
            spare_dirty: Vec::new(),
            spare_ready: Vec::new(),
            chunks: Chunks::new(SCRATCH_BYTES + largest as usize),
            buffers: BufferPool::new(BUFFER_BYTES_MAX),
            spare_calls: Vec::new(),
            kept_bytes: 0,
            answer_list: HeaderList::new(),
            moved: Vec::new(),
            downstream: Arc::new(options::downstream(config)),
            upstream: Arc::new(options::upstream(config)),
            sweep,
            chance: SplitMix64::new(seed),
            counters: ProxyCounters::register(&config.metrics),
            guard_counters: GuardCounters::register(&config.metrics),
            circuit_counters: CircuitCounters::register(&config.metrics),
            retry_counters: RetryCounters::register(&config.metrics),
            budgeted: 0,
            tls_counters: TlsCounters::register(&config.metrics),
            response_shares: ResponseShares::of(config),
            now_ns,
            shared,
        })
    }

    /// Serves until the shutdown is over.
    ///
    /// # Errors
    /// When epoll or the listener breaks, which no peer can cause.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.make_pools();
        self.on_shutdown()?;
        let mut events = Vec::with_capacity(EVENTS);
        while !(self.is_over || self.is_drained()) {
            self.poller.wait(&mut events, self.sleep())?;
            self.now_ns = self.shared.upstreams.now_ns();
            self.refresh_set();
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
                if self.chunks.are_used_up() {
                    self.flush();
                }
            }
            self.serve_ready();
            self.on_time()?;
            if self.empties_queue() {
                self.accept()?;
            }
            self.flush();
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.is_draining && self.acceptor.is_none() && self.clients.is_empty()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    fn sleep(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.empties_queue() {
            return Some(Duration::ZERO);
        }
        let sweep = self.has_connections().then_some(self.sweep.next_ns);
        let resumes_ns = self.acceptor.as_ref().and_then(Acceptor::resumes_ns);
        let next_ns = [self.timers.next_at(), resumes_ns, sweep].into_iter().flatten().min()?;
        Some(Duration::from_nanos(next_ns.saturating_sub(self.shared.upstreams.now_ns())))
    }

    fn has_connections(&self) -> bool {
        !self.clients.is_empty() || !self.links.is_empty()
    }

    fn on_event(&mut self, token: u64, flags: EventFlags) -> io::Result<()> {
        match token {
            ACCEPTOR => return self.accept(),
            WAKER => return self.on_shutdown(),
            _ => {}
        }
        // An event before this one may have ended the connection.
        if LinkKey::bit_of_token(token) {
            let key = LinkKey::from_token(token);
            if let Some(link) = self.links.get_mut(key) {
                link.endpoint.ready.note(flags);
                self.serve_link(key);
            }
        } else {
            let key = ClientKey::from_token(token);
            if let Some(client) = self.clients.get_mut(key) {
                client.endpoint.ready.note(flags);
                self.serve_client(key);
            }
        }
        Ok(())
    }

    /// Reads from a client's connection, and remembers it for later when its
    /// share of this turn is used up.
    fn serve_client(&mut self, key: ClientKey) {
        for _ in 0..READS_PER_TURN {
            if !self.clients.get(key).is_some_and(|client| client.endpoint.can_read()) {
                break;
            }
            self.read_client(key);
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        let endpoint = &mut client.endpoint;
        if endpoint.can_read() && !endpoint.is_queued {
            endpoint.is_queued = true;
            self.ready.push(Side::Client(key));
        }
        if endpoint.ready.writable && endpoint.wants_write() {
            self.touch_client(key);
        }
    }

    /// The same for a backend's connection.
    fn serve_link(&mut self, key: LinkKey) {
        for _ in 0..READS_PER_TURN {
            if !self.links.get(key).is_some_and(|link| link.endpoint.can_read()) {
                break;
            }
            self.read_link(key);
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let endpoint = &mut link.endpoint;
        if endpoint.can_read() && !endpoint.is_queued {
            endpoint.is_queued = true;
            self.ready.push(Side::Link(key));
        }
        if endpoint.ready.writable {
            self.on_link_writable(key);
        }
    }

    fn serve_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let spare = std::mem::take(&mut self.spare_ready);
        let mut sides = std::mem::replace(&mut self.ready, spare);
        for side in sides.drain(..) {
            match side {
                Side::Client(key) => {
                    if let Some(client) = self.clients.get_mut(key) {
                        client.endpoint.is_queued = false;
                        self.serve_client(key);
                    }
                }
                Side::Link(key) => {
                    if let Some(link) = self.links.get_mut(key) {
                        link.endpoint.is_queued = false;
                        self.serve_link(key);
                    }
                }
            }
        }
        self.spare_ready = sides;
    }

    fn on_time(&mut self) -> io::Result<()> {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume_if_due(&self.poller, self.now_ns)?;
        }
        while let Some(due) = self.timers.pop(self.now_ns) {
            match due {
                Due::Call(key) => self.on_deadline(key),
                Due::Connect(key) => self.on_connect_timeout(key),
                Due::Retry(key) => self.on_retry_due(key),
                Due::Hedge(key) => self.on_hedge_due(key),
            }
        }
        self.sweep_if_due();
        Ok(())
    }
}

/// Writing.
impl Worker {
    /// Makes sure that a client's connection is written in this turn.
    #[inline]
    pub(super) fn touch_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.endpoint.is_dirty {
            client.endpoint.is_dirty = true;
            self.dirty.push(Side::Client(key));
        }
    }

    /// The same for a backend's connection.
    #[inline]
    pub(super) fn touch_link(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.endpoint.is_dirty {
            link.endpoint.is_dirty = true;
            self.dirty.push(Side::Link(key));
        }
    }

    /// Lends a buffer to a connection that is about to be written to.
    #[inline]
    pub(super) fn lend(buffers: &mut BufferPool, endpoint: &mut Endpoint) {
        if !endpoint.http.has_buffer() {
            endpoint.http.lend_buffer(buffers.take());
        }
    }

    /// Writes all that has gathered. Writing one makes room for what waited,
    /// whose credit then goes out on another.
    pub(super) fn flush(&mut self) {
        loop {
            self.place_waiting();
            if self.dirty.is_empty() {
                return;
            }
            let spare = std::mem::take(&mut self.spare_dirty);
            let mut sides = std::mem::replace(&mut self.dirty, spare);
            for side in sides.drain(..) {
                match side {
                    Side::Client(key) => self.flush_client(key),
                    Side::Link(key) => self.flush_link(key),
                }
            }
            self.spare_dirty = sides;
        }
    }

    fn flush_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.endpoint.is_dirty = false;
        let mut moved = std::mem::take(&mut self.moved);
        let flushed = client.endpoint.flush(&mut moved);
        if let Some(buffer) = client.endpoint.http.take_buffer() {
            self.buffers.put(buffer);
        }
        if client.endpoint.can_read() && !client.endpoint.is_queued {
            client.endpoint.is_queued = true;
            self.ready.push(Side::Client(key));
        }
        for Moved { user, bytes } in moved.drain(..) {
            self.on_response_moved(user, bytes);
        }
        self.moved = moved;
        self.on_client_flushed(key, flushed);
    }

    fn flush_link(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.endpoint.is_dirty = false;
        let mut moved = std::mem::take(&mut self.moved);
        let flushed = link.endpoint.flush(&mut moved);
        if let Some(buffer) = link.endpoint.http.take_buffer() {
            self.buffers.put(buffer);
        }
        if link.endpoint.can_read() && !link.endpoint.is_queued {
            link.endpoint.is_queued = true;
            self.ready.push(Side::Link(key));
        }
        for Moved { user, bytes } in moved.drain(..) {
            self.on_request_moved(user, bytes);
        }
        self.moved = moved;
        self.on_link_flushed(key, flushed);
    }
}
