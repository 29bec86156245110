//! One thread: its event loop, which takes what happens to those who know what
//! it means, and has done what they decide.
//!
//! An own loop over epoll and not tasks on a runtime, for what it saves at a
//! microsecond or two per call: in each turn every socket that has something
//! is read once, all frames found go straight into the output of the
//! connections they belong to, and then each of those is written once. A call
//! costs its share of these system calls, no task, no wake-up, no channel.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use event_loop::{ACCEPTOR, Accepted, Acceptor, EventFlags, Threads, WAKER};
use h2_wire::connection::Flushed;
use h2_wire::hpack::HeaderList;
use h2_wire::{Error, Reason};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::call::{Call, CallKey};
use super::calls::{Broken, Calls, Effect, Moment};
use super::clients::{ClientKey, Clients};
use super::endpoint::{Endpoint, Received, Written};
use super::io::{Io, Side};
use super::link::LinkKey;
use super::options::Sweep;
use super::shutdown::{ShutdownWatch, Stage};
use super::upstreams::{CLOSED, Upstreams};
use crate::failure::Failure;
use crate::metrics::{Ending, GuardCounters, Outcome};
use crate::planes::{Incoming, Shared, Thread};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Reads from one connection before others get their turn.
const READS_PER_TURN: usize = 4;
/// Reads from a connection that broke while it was written to.
const FINAL_READS: usize = 64;

/// The state of one thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    acceptor: Option<Acceptor>,
    threads: Arc<Threads<Incoming>>,
    /// This one's index among them.
    me: usize,
    shutdown: ShutdownWatch,
    is_draining: bool,
    is_over: bool,
    pub(super) io: Io,
    pub(super) clients: Clients,
    pub(super) calls: Calls,
    pub(super) upstreams: Upstreams,
    /// Calls that wait until their clients hold fewer places, and how many
    /// places were taken when they were looked at last.
    pub(super) held_back: VecDeque<CallKey>,
    pub(super) held_back_at: u32,
    pub(super) sweep: Sweep,
    pub(super) chance: SplitMix64,
    pub(super) guard: GuardCounters,
    /// Trailers that the backend's time is added to; kept for its memory.
    pub(super) timed_trailers: HeaderList,
    pub(super) now_ns: u64,
}

/// The connection, if it has not ended.
fn endpoint<'a>(
    clients: &'a mut Clients,
    upstreams: &'a mut Upstreams,
    side: Side,
) -> Option<&'a mut Endpoint> {
    match side {
        Side::Client(key) => clients.all.get_mut(key).map(|client| &mut client.endpoint),
        Side::Link(key) => upstreams.links.get_mut(key).map(|link| &mut link.endpoint),
    }
}

/// The loop.
impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        thread: Thread,
        shutdown: ShutdownWatch,
    ) -> io::Result<Self> {
        let Thread { listener, me, all: threads, seed } = thread;
        let acceptor = Acceptor::new(listener, None)?;
        let config = &shared.config;
        let frame_bytes_max =
            config.downstream.max_frame_bytes.max(config.upstream.backend_max_frame_bytes);
        let now_ns = shared.upstreams.now_ns();
        let guard = GuardCounters::register(&config.metrics);
        Ok(Self {
            io: Io::new(
                &acceptor,
                [shutdown.as_fd(), threads.mailbox(me).as_fd()],
                frame_bytes_max,
            )?,
            acceptor: Some(acceptor),
            threads,
            me,
            shutdown,
            is_draining: false,
            is_over: false,
            clients: Clients::new(&shared, guard.clone()),
            calls: Calls::new(config),
            upstreams: Upstreams::new(&shared, guard.clone()),
            held_back: VecDeque::new(),
            held_back_at: 0,
            sweep: Sweep::of(config, now_ns),
            chance: SplitMix64::seed_from_u64(seed),
            guard,
            timed_trailers: HeaderList::new(),
            now_ns,
            shared,
        })
    }

    /// Serves until the shutdown is over.
    ///
    /// # Errors
    /// When epoll or the listener breaks, which no remote can cause.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.follow_set();
        self.on_shutdown();
        let mut events = Vec::with_capacity(EVENTS);
        while !(self.is_over || self.is_drained()) {
            self.io.poller.wait(&mut events, self.sleep())?;
            self.now_ns = self.shared.upstreams.now_ns();
            if self.upstreams.has_changed() {
                self.follow_set();
            }
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
                if self.io.chunks.are_used_up() {
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
        self.is_draining && !self.threads.is_listening() && self.threads.open_on(self.me) == 0
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// What a decision is made with.
    #[inline]
    pub(super) fn moment(&mut self) -> Moment {
        Moment { now_ns: self.now_ns, random: self.chance.next_u64() }
    }

    fn sleep(&self) -> Option<Duration> {
        if !self.io.ready.is_empty() || self.empties_queue() {
            return Some(Duration::ZERO);
        }
        let has_connections = !self.clients.all.is_empty() || !self.upstreams.links.is_empty();
        let sweep_ns = has_connections.then_some(self.sweep.next_ns);
        let resumes_ns = self.acceptor.as_ref().and_then(Acceptor::resumes_ns);
        let timers_ns = [self.calls.timers.next_at(), self.upstreams.timers.next_at()];
        let all = timers_ns.into_iter().chain([sweep_ns, resumes_ns]);
        let next_ns = all.flatten().min()?;
        Some(Duration::from_nanos(next_ns.saturating_sub(self.shared.upstreams.now_ns())))
    }

    fn on_event(&mut self, token: u64, flags: EventFlags) -> io::Result<()> {
        match token {
            ACCEPTOR => self.accept()?,
            WAKER => {
                self.on_shutdown();
                for incoming in self.threads.mailbox(self.me).take() {
                    self.admit(incoming);
                }
            }
            _ => {
                let side = Side::from_token(token);
                // An event before this one may have ended the connection.
                if let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) {
                    endpoint.ready.note(flags);
                    self.serve(side);
                }
            }
        }
        Ok(())
    }

    fn on_time(&mut self) -> io::Result<()> {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume_if_due(&self.io.poller, self.now_ns)?;
        }
        while let Some(link) = self.upstreams.timers.pop(self.now_ns) {
            let timeout = serve::duration::format(self.shared.config.upstream.connect_timeout);
            self.lose_link(link, &format!("no HTTP/2 connection within {timeout}"));
        }
        while let Some(due) = self.calls.timers.pop(self.now_ns) {
            let moment = self.moment();
            self.calls.on_due(due, &self.upstreams.targets, moment);
            self.run_effects();
        }
        self.sweep_if_due();
        Ok(())
    }

    /// Does what was decided over calls.
    #[inline]
    pub(super) fn run_effects(&mut self) {
        while let Some(effect) = self.calls.next_effect() {
            self.run_effect(effect);
        }
    }

    #[cold]
    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Attempt(call) => self.place(call),
            Effect::Hedge(call) => self.place_hedge(call),
            Effect::Reset { link, stream, reason } => {
                self.upstreams.reset(link, stream, reason, &mut self.io);
            }
            Effect::Unqueue { call, place } => self.upstreams.unqueue(call, place),
            Effect::Answer { client, stream, answer } => {
                self.clients.answer(client, stream, &answer, &mut self.io);
            }
            Effect::End { call, outcome } => self.settle(call, outcome),
        }
    }

    /// Closes the books of a call that is over.
    #[inline]
    pub(super) fn settle(&mut self, call: Box<Call>, outcome: Outcome) {
        if self.shared.access_log.is_some() {
            self.log_call(&call, outcome);
        }
        self.clients.settle(&call, &mut self.io);
        self.calls.recycle(call);
    }
}

/// Connections of either kind.
impl Worker {
    /// Reads from a connection, and remembers it for later when its share of
    /// this turn is used up.
    fn serve(&mut self, side: Side) {
        if self.shared.config.calls.name_backends {
            // What a backend takes is told, so a turn is too coarse.
            self.now_ns = self.shared.upstreams.now_ns();
        }
        for _ in 0..READS_PER_TURN {
            // What was read may have ended it.
            let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) else {
                return;
            };
            if !endpoint.can_read() {
                break;
            }
            self.read(side);
        }
        // As above.
        let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) else {
            return;
        };
        self.io.queue_if_readable(side, endpoint);
        if endpoint.ready.writable {
            self.on_writable(side);
        }
    }

    /// The socket takes bytes: it has room again, or has connected.
    fn on_writable(&mut self, side: Side) {
        let endpoint = match side {
            Side::Client(key) => &mut self.clients.all.live_mut(key).endpoint,
            Side::Link(key) => match self.upstreams.on_writable(key) {
                Ok(endpoint) => endpoint,
                Err(errno) => {
                    return self.lose_link(key, &io::Error::from(errno).to_string());
                }
            },
        };
        self.io.mark_if_dirty(side, endpoint);
    }

    /// Goes on with those that had more to read than their share.
    fn serve_ready(&mut self) {
        // Those that still have more are queued anew, for the next turn.
        for _ in 0..self.io.ready.len() {
            let Some(side) = self.io.ready.pop_front() else { return };
            // It may have ended since it was queued.
            if let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) {
                endpoint.is_queued = false;
                self.serve(side);
            }
        }
    }

    fn read(&mut self, side: Side) {
        let now_ms = self.now_ms();
        let mut chunk = self.io.chunks.take();
        let connection = endpoint(&mut self.clients, &mut self.upstreams, side);
        // Nobody else has the chunk, so it can be written to.
        if let (Some(endpoint), Some(room)) = (connection, Arc::get_mut(&mut chunk)) {
            match endpoint.receive(room, now_ms) {
                Received::Input(length) => self.on_input(side, &chunk, length),
                Received::Nothing => {}
                Received::End => self.on_end(side),
            }
        }
        self.io.chunks.put(chunk);
    }

    fn on_input(&mut self, side: Side, chunk: &Arc<Vec<u8>>, length: usize) {
        let (input, mut at) = (&chunk[..length], 0);
        loop {
            // An event in the input may have ended it.
            let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) else {
                return;
            };
            if endpoint.is_ending {
                return;
            }
            self.io.give_buffer(endpoint);
            match endpoint.http.read(&input[at..]) {
                Ok(read) => {
                    at += read.consumed;
                    let Some(event) = read.event else { break };
                    match side {
                        Side::Client(key) => self.on_client_event(key, event, chunk),
                        Side::Link(key) => self.on_link_event(key, event, chunk),
                    }
                    self.run_effects();
                }
                Err(error) => return self.on_error(side, &error),
            }
        }
        let now_ms = self.now_ms();
        // As above.
        let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) else {
            return;
        };
        endpoint.keep(&input[at..], at > 0, now_ms);
        self.io.after_input(side, endpoint);
        if let Side::Link(key) = side {
            self.upstreams.after_input(key);
        }
    }

    /// The remote is gone, or will send no more.
    fn on_end(&mut self, side: Side) {
        match side {
            Side::Client(key) => self.drop_client(key, CLOSED),
            Side::Link(key) => {
                let reason = self.upstreams.links.live(key).endpoint.failure();
                self.lose_link(key, reason.as_deref().unwrap_or(CLOSED));
            }
        }
    }

    /// The remote broke the rules of HTTP/2, or a bound.
    fn on_error(&mut self, side: Side, error: &Error) {
        match side {
            Side::Client(key) => {
                let ending = self.clients.ending(key);
                self.fail_client(key, error, ending);
            }
            Side::Link(key) => {
                self.upstreams.fail(key, error);
                self.lose_link(key, &error.to_string());
            }
        }
    }

    /// Writes all that has gathered. Writing one makes room for what waited,
    /// whose credit then goes out on another.
    fn flush(&mut self) {
        loop {
            self.place_waiting();
            self.run_effects();
            if self.io.dirty.is_empty() {
                return;
            }
            while let Some(side) = self.io.dirty.pop_front() {
                self.write(side);
            }
        }
    }

    fn write(&mut self, side: Side) {
        // It may have ended since it was marked.
        let Some(endpoint) = endpoint(&mut self.clients, &mut self.upstreams, side) else {
            return;
        };
        endpoint.is_dirty = false;
        let mut flushed = std::mem::take(&mut self.io.flushed);
        let written = endpoint.flush(&mut flushed);
        self.io.take_buffer(endpoint);
        self.io.queue_if_readable(side, endpoint);
        for Flushed { user, bytes } in flushed.drain(..) {
            match side {
                Side::Client(_) => self.on_response_flushed(user, bytes),
                Side::Link(_) => self.on_request_flushed(user, bytes),
            }
        }
        self.io.flushed = flushed;
        match (side, written) {
            (Side::Client(key), Written::Broken) => self.drop_client(key, CLOSED),
            (Side::Link(key), Written::Broken) => self.on_link_broken(key),
            (Side::Client(key), _) => {
                self.clients.on_written(key, written, self.now_ns / 1_000_000)
            }
            (Side::Link(key), _) => self.upstreams.close_if_over(key),
        }
    }
}

/// Clients' connections.
impl Worker {
    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(acceptor) = &mut self.acceptor else { return Ok(()) };
            match acceptor.accept() {
                Accepted::Connection(socket, remote) => self.deal(socket, remote),
                Accepted::Nobody => {
                    if self.is_draining {
                        // Whoever comes to the listener's queue now is reset.
                        self.acceptor = None;
                        self.threads.stopped_listening();
                    }
                    return Ok(());
                }
                Accepted::Aborted => self.shared.accept_counters.errors.inc(),
                Accepted::Shed => self.shared.accept_counters.shed_no_descriptor.inc(),
                Accepted::Exhausted => {
                    self.shared.accept_counters.errors.inc();
                    return Ok(acceptor.pause(&self.io.poller, self.now_ns)?);
                }
                Accepted::Broken(errno) => return Err(errno.into()),
            }
        }
        // The listener is level-triggered: who still waits is reported again.
        Ok(())
    }

    /// Serves a connection, or passes it on to a thread that has fewer.
    fn deal(&mut self, socket: OwnedFd, remote: SocketAddr) {
        let thread = self.threads.deal(self.me);
        let incoming = Incoming { socket, remote, seat: self.threads.seat(thread) };
        if thread == self.me {
            self.admit(incoming);
        } else {
            self.threads.mailbox(thread).send(incoming);
        }
    }

    fn admit(&mut self, incoming: Incoming) {
        let now_ms = self.now_ms();
        let key = self.clients.admit(incoming, &self.io, now_ms);
        if let Some(key) = key.filter(|_| self.is_draining) {
            self.clients.start_drain(key, &mut self.io, now_ms);
        }
    }

    fn on_shutdown(&mut self) {
        let stage = self.shutdown.stage();
        if stage != Stage::Running && !self.is_draining {
            self.is_draining = true;
            let now_ms = self.now_ms();
            for key in self.clients.all.keys() {
                self.clients.start_drain(key, &mut self.io, now_ms);
            }
            self.flush();
        }
        self.is_over = stage == Stage::Terminated;
    }

    /// Whether it takes what the kernel has queued, to close the listener then:
    /// those connections are served, and told at once to go.
    fn empties_queue(&self) -> bool {
        let is_accepting = |acceptor: &Acceptor| acceptor.resumes_ns().is_none();
        self.is_draining && self.acceptor.as_ref().is_some_and(is_accepting)
    }

    /// The client's connection is gone, and its calls with it.
    pub(super) fn drop_client(&mut self, key: ClientKey, reason: &str) {
        let remote = self.clients.all.live(key).remote;
        tracing::debug!(%remote, reason, "connection of client ended");
        self.cancel_calls(key);
        self.clients.all.remove(key);
    }

    fn cancel_calls(&mut self, key: ClientKey) {
        let streams = self.clients.all.live(key).endpoint.http.streams();
        for call in streams.map(|(_, call)| call).collect::<Vec<_>>() {
            self.calls.cancel(call, Reason::CANCEL, self.now_ns);
        }
        self.run_effects();
    }

    /// Ends a client's connection for a mistake of it.
    pub(super) fn fail_client(&mut self, key: ClientKey, error: &Error, ending: Ending) {
        let remote = self.clients.all.live(key).remote;
        tracing::info!(%remote, reason = %error, "connection of client ended for its fault");
        self.clients.count(ending);
        self.cancel_calls(key);
        self.clients.fail(key, error, &mut self.io);
    }
}

/// Backends' connections.
impl Worker {
    /// A connection broke, or could not be made.
    pub(super) fn lose_link(&mut self, key: LinkKey, reason: &str) {
        let moment = self.moment();
        let lost = self.upstreams.lose(key, reason, moment);
        for (call, was_sent) in lost.calls {
            let broken = if was_sent { Broken::Final } else { Broken::Unprocessed };
            self.on_backend_broke(key, call, Outcome::Broken, broken);
        }
        self.run_effects();
        self.upstreams.retire_if_over(lost.pool);
    }

    fn on_link_broken(&mut self, key: LinkKey) {
        // What it sent before it went may still be in the queue, and is worth
        // delivering.
        for _ in 0..FINAL_READS {
            let link = self.upstreams.links.get(key);
            if !link.is_some_and(|link| link.endpoint.can_read()) {
                break;
            }
            self.read(Side::Link(key));
        }
        // Its end may have been read.
        if self.upstreams.links.get(key).is_some() {
            self.on_end(Side::Link(key));
        }
    }

    /// Follows a change of the backends.
    fn follow_set(&mut self) {
        let retired = self.upstreams.follow_set();
        self.count_places();
        for pool in retired {
            self.fail_waiting(pool, &Failure::NoBackend);
        }
        self.upstreams.retire();
    }
}
