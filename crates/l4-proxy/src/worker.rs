//! One thread's event loop.
//!
//! An own loop over epoll and not a task per connection on a runtime, for what
//! it saves at a few microseconds per message: sockets are registered once and
//! edge-triggered, so a message costs one read, one write and its share of one
//! `epoll_wait`; there is no task queue and no second copy of the readiness
//! state.

mod accept;

use std::{io, sync::Arc, time::Duration};

use event_loop::{ACCEPTOR, Acceptor, Arena, EventFlags, Key, Poller, Timers, WAKER};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    connection::{Connection, Delivered, Step, Which},
    connection_log::ConnectionLog,
    counts::{Counts, End},
    io::Io,
    lifetime::Due,
    pipes::Pipes,
    shared::{Command, Shared},
    upstreams::{Lease, Upstream},
};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Connections of a backend that is emptied are spread over this time, so that
/// their clients don't all come back at once.
const RETIRE_WITHIN_MS: u64 = 1_000;

/// The state of one thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    me: usize,
    poller: Poller,
    acceptor: Option<Acceptor>,
    connections: Arena<Connection>,
    /// In milliseconds; one for each connection at most.
    timers: Timers<Key<Connection>>,
    io: Io,
    /// Connections with more to do at once.
    ready: Vec<Key<Connection>>,
    chance: SplitMix64,
    counts: Counts,
    log: Option<ConnectionLog>,
    now_ns: u64,
    /// Passed on in this turn and not yet counted.
    delivered: Delivered,
    is_draining: bool,
    is_terminated: bool,
}

impl Worker {
    /// A thread's state; it is made where an error can still be reported.
    pub(crate) fn new(
        shared: Arc<Shared>,
        me: usize,
        acceptor: Acceptor,
        counts: Counts,
        log: Option<ConnectionLog>,
        seed: u64,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let pipes = Pipes::new(Arc::clone(&shared.pipes), counts.pipes_refused.clone());
        poller.add_level(shared.threads.mailbox(me), WAKER)?;
        acceptor.watch(&poller)?;
        Ok(Self {
            me,
            poller,
            acceptor: Some(acceptor),
            connections: Arena::default(),
            timers: Timers::default(),
            io: Io::new(shared.data_plane, pipes),
            ready: Vec::new(),
            chance: SplitMix64::seed_from_u64(seed),
            counts,
            log,
            now_ns: shared.now_ns(),
            delivered: Delivered::default(),
            is_draining: false,
            is_terminated: false,
            shared,
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When epoll or the listener breaks, which no connection can cause.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.is_over() {
            self.poller.wait(&mut events, self.sleep())?;
            self.now_ns = self.shared.now_ns();
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
            }
            self.serve_ready();
            self.on_time()?;
            if self.empties_queue() {
                self.accept()?;
            }
            self.count_bytes();
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// Whether the thread has nothing left to do: no other may pass a connection
    /// on to it either.
    fn is_over(&self) -> bool {
        let is_drained = self.is_draining && !self.shared.threads.is_listening();
        self.is_terminated || is_drained && self.shared.threads.open_on(self.me) == 0
    }

    /// Whether it takes what the kernel has queued, to close the listener then.
    fn empties_queue(&self) -> bool {
        let is_accepting = |acceptor: &Acceptor| acceptor.resumes_ns().is_none();
        self.is_draining && self.acceptor.as_ref().is_some_and(is_accepting)
    }

    fn sleep(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.empties_queue() {
            return Some(Duration::ZERO);
        }
        let resumes_ns = self.acceptor.as_ref().and_then(Acceptor::resumes_ns);
        let timer_ns = self.timers.next_at().map(|at_ms| at_ms.saturating_mul(1_000_000));
        // Compared as numbers: this is paid for by every turn.
        let next_ns = match (resumes_ns, timer_ns) {
            (None, next_ns) | (next_ns, None) => next_ns?,
            (Some(resumes_ns), Some(timer_ns)) => resumes_ns.min(timer_ns),
        };
        Some(Duration::from_nanos(next_ns.saturating_sub(self.now_ns)))
    }

    fn on_event(&mut self, token: u64, flags: EventFlags) -> io::Result<()> {
        match token {
            ACCEPTOR => self.accept(),
            WAKER => self.on_mailbox(),
            token => {
                let key = Key::from_token(token);
                // It may have ended by an event before this one.
                if let Some(connection) = self.connections.get_mut(key) {
                    let which = Which::from_bit(Key::<Connection>::bit_of_token(token));
                    connection.note(which, flags);
                    self.step(key);
                }
                Ok(())
            }
        }
    }

    /// Goes on with the connections that had more to do than their share.
    fn serve_ready(&mut self) {
        for key in std::mem::take(&mut self.ready) {
            // It may have ended since it was queued.
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_queued = false;
                self.step(key);
            }
        }
    }

    fn step(&mut self, key: Key<Connection>) {
        loop {
            // Its own deadline may end it in a step of this loop.
            let Some(connection) = self.connections.get_mut(key) else { return };
            let before = connection.delivered();
            let step = connection.step(&mut self.io, &self.shared.options, self.now_ns);
            let after = connection.delivered();
            self.delivered.to_backend_bytes += after.to_backend_bytes - before.to_backend_bytes;
            self.delivered.to_client_bytes += after.to_client_bytes - before.to_client_bytes;
            match step {
                Step::Wait => return,
                Step::Yield => {
                    if !connection.is_queued {
                        connection.is_queued = true;
                        self.ready.push(key);
                    }
                    return;
                }
                Step::Connected => self.on_relaying_timer(key),
                Step::Greeted(group) => return self.find_backend(key, group.as_deref()),
                Step::Connect => {
                    self.count_failure(key);
                    return self.connect(key);
                }
                Step::End(end) => return self.close(key, end),
            }
        }
    }

    fn close(&mut self, key: Key<Connection>, end: End) {
        // A drain may find closed what it began with.
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.timers.replace(&mut connection.deadline_ms, None, key);
        connection.prepare_close(end);
        let (client, reason) = (connection.client_address(), end.name());
        let backend = connection.lease().map(|lease| lease.upstream().name());
        tracing::debug!(%client, backend, reason, "connection ended");
        self.counts.count_end(end);
        if let Some(log) = &self.log {
            log.write(&connection, end, self.now_ms());
        }
    }

    fn count_bytes(&mut self) {
        let delivered = &mut self.delivered;
        if delivered.to_backend_bytes > 0 {
            self.counts.to_backend_bytes.add(std::mem::take(&mut delivered.to_backend_bytes));
        }
        if delivered.to_client_bytes > 0 {
            self.counts.to_client_bytes.add(std::mem::take(&mut delivered.to_client_bytes));
        }
        if self.io.spliced_bytes > 0 {
            self.counts.spliced_bytes.add(std::mem::take(&mut self.io.spliced_bytes));
        }
    }
}

/// Timers and messages.
impl Worker {
    fn on_time(&mut self) -> io::Result<()> {
        let now_ms = self.now_ms();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume_if_due(&self.poller, self.now_ns)?;
        }
        while let Some(key) = self.timers.pop(now_ms) {
            let connection = self.connections.live_mut(key);
            connection.deadline_ms = None;
            if connection.is_relaying() {
                self.on_relaying_timer(key);
            } else if connection.is_connecting() {
                self.count_failure(key);
                self.connect(key);
            } else {
                self.close(key, End::BadGreeting);
            }
        }
        Ok(())
    }

    /// Ends a connection that has had its time, or looks again later.
    fn on_relaying_timer(&mut self, key: Key<Connection>) {
        let now_ms = self.now_ms();
        let connection = self.connections.live_mut(key);
        match connection.life.due(now_ms, &self.shared.limits) {
            Due::Now(end) => self.close(key, end),
            // A millisecond more, so that the clock's rounding down does not
            // wake the thread a moment before.
            Due::At(at_ms) => {
                self.timers.replace(&mut connection.deadline_ms, Some(at_ms + 1), key);
            }
            Due::Never => self.timers.replace(&mut connection.deadline_ms, None, key),
        }
    }

    /// Ends the connections that a backend has, at their next quiet moments.
    fn retire(&mut self, upstream: &Arc<Upstream>) {
        for key in self.connections.keys() {
            let at_ms = self.now_ms() + self.chance.next_u64() % RETIRE_WITHIN_MS;
            let connection = self.connections.live_mut(key);
            let is_its = |lease: &Lease| Arc::ptr_eq(lease.upstream(), upstream);
            if connection.is_relaying() && connection.lease().is_some_and(is_its) {
                connection.life.expire(at_ms);
                self.on_relaying_timer(key);
            }
        }
    }

    fn on_mailbox(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        for command in shared.threads.mailbox(self.me).take() {
            match command {
                Command::Serve(incoming) => self.serve(incoming),
                Command::Retire(upstream) => self.retire(&upstream),
                Command::Drain => self.is_draining = true,
                Command::Terminate => {
                    self.is_terminated = true;
                    self.stop_listening();
                    for key in self.connections.keys() {
                        self.close(key, End::CutOff);
                    }
                }
            }
        }
        Ok(())
    }

    /// Closes the listener, which resets whoever is left in its queue.
    fn stop_listening(&mut self) {
        if self.acceptor.take().is_some() {
            self.shared.threads.stopped_listening();
        }
    }
}
