//! One thread's event loop.
//!
//! An own loop over epoll and not tasks on a runtime, for what it saves at a
//! microsecond or two per call: in each turn every socket that has something
//! is read once, all frames found go straight into the output of the
//! connections they belong to, and then each of those is written once. A call
//! costs its share of these system calls, no task, no waker, no channel.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use balance::SplitMix64;
use h2_wire::connection::{Moved, Options};
use h2_wire::hpack::HeaderList;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::bell::Bell;
use super::call::Call;
use super::client::Client;
use super::door::Door;
use super::endpoint::{Chunks, Endpoint, Spare};
use super::options::{self, ResponseShares, Sweep};
use super::pool::{Link, Pool};
use super::shares::Shares;
use super::slots::{Key, Slots};
use super::timers::{Due, Timers};
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
/// Reserved tokens; no connection's token is as large.
pub(super) const DOOR: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
/// Bytes read at once, beyond the largest frame.
const SCRATCH_BYTES: usize = 64 << 10;

/// A connection of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client(Key),
    Link(Key),
}

/// The state of one thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) epoll: OwnedFd,
    pub(super) door: Option<Door>,
    /// When the door opens again, if it is closed for a moment.
    pub(super) door_opens_ns: Option<u64>,
    pub(super) bell: Bell,
    pub(super) is_draining: bool,
    pub(super) is_over: bool,
    pub(super) clients: Slots<Client>,
    pub(super) links: Slots<Link>,
    pub(super) pools: Slots<Pool>,
    pub(super) calls: Slots<Box<Call>>,
    /// Calls that wait for a place at any backend.
    pub(super) overflow: VecDeque<Key>,
    /// These, and those that wait for a connection of one.
    pub(super) pending: u32,
    /// The backends that `pools_by_index` belongs to.
    pub(super) set: Arc<UpstreamSet>,
    pub(super) pools_by_index: Vec<Key>,
    pub(super) shares: Shares,
    /// Calls that wait until their clients hold fewer places, and how many
    /// places were taken when they were looked at last.
    pub(super) held_back: VecDeque<Key>,
    pub(super) held_back_at: u32,
    pub(super) timers: Timers,
    /// Those with something to write.
    dirty: Vec<Side>,
    /// Those with more to read than their share of a turn.
    again: Vec<Side>,
    /// Memory for `dirty` and `again` while they are worked through.
    spare_dirty: Vec<Side>,
    spare_again: Vec<Side>,
    pub(super) chunks: Chunks,
    pub(super) spare: Spare,
    /// Calls that are over, for their memory.
    #[allow(clippy::vec_box, reason = "the boxes move between here and `calls`")]
    pub(super) spare_calls: Vec<Box<Call>>,
    /// Memory of requests that are kept for another attempt.
    pub(super) kept_bytes: usize,
    pub(super) answer_list: HeaderList,
    moved: Vec<Moved<Key>>,
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
    pub(super) fn new(shared: Arc<Shared>, door: Door, bell: Bell, seed: u64) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let level = epoll::EventFlags::IN;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), level)?;
        epoll::add(&epoll, &door, epoll::EventData::new_u64(DOOR), level)?;
        let config = &shared.config;
        let largest =
            config.downstream.max_frame_bytes.max(config.upstream.backend_max_frame_bytes);
        let now_ns = shared.upstreams.now_ns();
        let sweep = Sweep::of(config, now_ns);
        Ok(Self {
            epoll,
            door: Some(door),
            door_opens_ns: None,
            bell,
            is_draining: false,
            is_over: false,
            clients: Slots::new(),
            links: Slots::new(),
            pools: Slots::new(),
            calls: Slots::new(),
            overflow: VecDeque::new(),
            pending: 0,
            set: Arc::clone(&shared.upstreams.current()),
            pools_by_index: Vec::new(),
            shares: Shares::default(),
            held_back: VecDeque::new(),
            held_back_at: 0,
            timers: Timers::default(),
            dirty: Vec::new(),
            again: Vec::new(),
            spare_dirty: Vec::new(),
            spare_again: Vec::new(),
            chunks: Chunks::new(SCRATCH_BYTES + largest as usize),
            spare: Spare::default(),
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
        self.on_bell()?;
        let mut events = Vec::with_capacity(EVENTS);
        while !(self.is_over || self.is_drained()) {
            events.clear();
            let timeout = self.sleep();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.now_ns = self.shared.upstreams.now_ns();
            self.refresh_set();
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
                if self.chunks.are_used_up() {
                    self.flush();
                }
            }
            self.go_on();
            self.on_time()?;
            if self.empties_queue() {
                self.on_door()?;
            }
            self.flush();
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.is_draining && self.door.is_none() && self.clients.is_empty()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    fn sleep(&self) -> Option<Timespec> {
        if !self.again.is_empty() || self.empties_queue() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let sweep = self.has_connections().then_some(self.sweep.next_ns);
        let next_ns =
            [self.timers.next_ns(), self.door_opens_ns, sweep].into_iter().flatten().min();
        next_ns.map(|next_ns| {
            let left_ns = next_ns.saturating_sub(self.shared.upstreams.now_ns());
            Timespec {
                tv_sec: (left_ns / 1_000_000_000) as i64,
                tv_nsec: (left_ns % 1_000_000_000) as i64,
            }
        })
    }

    fn has_connections(&self) -> bool {
        !self.clients.is_empty() || !self.links.is_empty()
    }

    fn on_event(&mut self, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        match token {
            DOOR => return self.on_door(),
            BELL => return self.on_bell(),
            _ => {}
        }
        match Key::from_token(token) {
            (key, false) => {
                if let Some(client) = self.clients.get_mut(key) {
                    client.endpoint.note(flags);
                    self.serve_client(key);
                }
            }
            (key, true) => {
                if let Some(link) = self.links.get_mut(key) {
                    link.endpoint.note(flags);
                    self.serve_link(key);
                }
            }
        }
        Ok(())
    }

    /// Reads from a client's connection, and remembers it for later when its
    /// share of this turn is used up.
    fn serve_client(&mut self, key: Key) {
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
            self.again.push(Side::Client(key));
        }
        if endpoint.is_writable() && endpoint.wants_write() {
            self.touch_client(key);
        }
    }

    /// The same for a backend's connection.
    fn serve_link(&mut self, key: Key) {
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
            self.again.push(Side::Link(key));
        }
        if endpoint.is_writable() {
            self.on_link_writable(key);
        }
    }

    fn go_on(&mut self) {
        if self.again.is_empty() {
            return;
        }
        let spare = std::mem::take(&mut self.spare_again);
        let mut sides = std::mem::replace(&mut self.again, spare);
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
        self.spare_again = sides;
    }

    fn on_time(&mut self) -> io::Result<()> {
        if self.door_opens_ns.is_some_and(|opens_ns| opens_ns <= self.now_ns) {
            self.open_door()?;
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
    pub(super) fn touch_client(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.endpoint.is_dirty {
            client.endpoint.is_dirty = true;
            self.dirty.push(Side::Client(key));
        }
    }

    /// The same for a backend's connection.
    #[inline]
    pub(super) fn touch_link(&mut self, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        if !link.endpoint.is_dirty {
            link.endpoint.is_dirty = true;
            self.dirty.push(Side::Link(key));
        }
    }

    /// Lends a buffer to a connection that is about to be written to.
    #[inline]
    pub(super) fn lend(spare: &mut Spare, endpoint: &mut Endpoint) {
        if !endpoint.http.has_buffer() {
            endpoint.http.lend_buffer(spare.take());
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

    fn flush_client(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.endpoint.is_dirty = false;
        let mut moved = std::mem::take(&mut self.moved);
        let flushed = client.endpoint.flush(&mut moved);
        if let Some(buffer) = client.endpoint.http.take_buffer() {
            self.spare.give(buffer);
        }
        if client.endpoint.can_read() && !client.endpoint.is_queued {
            client.endpoint.is_queued = true;
            self.again.push(Side::Client(key));
        }
        for Moved { user, bytes } in moved.drain(..) {
            self.on_response_moved(user, bytes);
        }
        self.moved = moved;
        self.on_client_flushed(key, flushed);
    }

    fn flush_link(&mut self, key: Key) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.endpoint.is_dirty = false;
        let mut moved = std::mem::take(&mut self.moved);
        let flushed = link.endpoint.flush(&mut moved);
        if let Some(buffer) = link.endpoint.http.take_buffer() {
            self.spare.give(buffer);
        }
        if link.endpoint.can_read() && !link.endpoint.is_queued {
            link.endpoint.is_queued = true;
            self.again.push(Side::Link(key));
        }
        for Moved { user, bytes } in moved.drain(..) {
            self.on_request_moved(user, bytes);
        }
        self.moved = moved;
        self.on_link_flushed(key, flushed);
    }
}
