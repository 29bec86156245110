//! One thread: its event loop, which takes what happens to those who know what
//! it means, and has done what they decide.
//!
//! An own loop over epoll and not tasks on a runtime, for what it saves at a
//! microsecond or two per call: in each turn every socket that has something
//! is read once, all frames found go straight into the output of the
//! connections they belong to, and then each of those is written once. A call
//! costs its share of these system calls, no task, no wake-up, no channel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use event_loop::{ACCEPTOR, Accepted, Acceptor, EventFlags, Threads, WAKER};
use h2_wire::connection::Flushed;

use super::endpoint::{Received, Written};
use super::io::{Io, Side};
use super::router::Router;
use super::shutdown::{ShutdownWatch, Stage};
use super::sweep::Sweep;
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
    shared: Arc<Shared>,
    router: Router,
    acceptor: Option<Acceptor>,
    threads: Arc<Threads<Incoming>>,
    /// This one's index among them.
    me: usize,
    shutdown: ShutdownWatch,
    is_draining: bool,
    is_over: bool,
    sweep: Sweep,
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
        let wakers = [shutdown.as_fd(), threads.mailbox(me).as_fd()];
        let io = Io::new(&acceptor, wakers, frame_bytes_max)?;
        Ok(Self {
            router: Router::new(&shared, io, seed),
            acceptor: Some(acceptor),
            threads,
            me,
            shutdown,
            is_draining: false,
            is_over: false,
            sweep: Sweep::of(config, shared.upstreams.now_ns()),
            shared,
        })
    }

    /// Serves until the shutdown is over.
    ///
    /// # Errors
    /// When epoll or the listener breaks, which no remote can cause.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.router.follow_set();
        self.on_shutdown();
        let mut events = Vec::with_capacity(EVENTS);
        while !(self.is_over || self.is_drained()) {
            self.router.io.poller.wait(&mut events, self.sleep())?;
            self.router.begin_turn();
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
                if self.router.io.chunks.are_used_up() {
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

    fn sleep(&self) -> Option<Duration> {
        if !self.router.io.ready.is_empty() || self.empties_queue() {
            return Some(Duration::ZERO);
        }
        let sweep_ns = self.router.has_connections().then_some(self.sweep.next_ns);
        let resumes_ns = self.acceptor.as_ref().and_then(Acceptor::resumes_ns);
        let all = [self.router.next_at(), sweep_ns, resumes_ns];
        let next_ns = all.into_iter().flatten().min()?;
        Some(Duration::from_nanos(next_ns.saturating_sub(self.shared.upstreams.now_ns())))
    }

    fn on_event(&mut self, token: u64, flags: EventFlags) -> io::Result<()> {
        match token {
            ACCEPTOR => self.accept()?,
            WAKER => {
                self.on_shutdown();
                for incoming in self.threads.mailbox(self.me).take() {
                    self.router.admit(incoming, self.is_draining);
                }
            }
            _ => {
                let side = Side::from_token(token);
                // An event before this one may have ended the connection.
                if let Some((endpoint, _)) = self.router.endpoint(side) {
                    endpoint.ready.note(flags);
                    self.serve(side);
                }
            }
        }
        Ok(())
    }

    fn on_time(&mut self) -> io::Result<()> {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume_if_due(&self.router.io.poller, self.router.now_ns)?;
        }
        self.router.on_time();
        if let Some(look) = self.sweep.begin(self.router.now_ns) {
            self.router.sweep(look);
        }
        Ok(())
    }
}

/// Connections of either kind.
impl Worker {
    /// Reads from a connection, and remembers it for later when its share of
    /// this turn is used up.
    fn serve(&mut self, side: Side) {
        if self.shared.config.calls.name_backends {
            // What a backend takes is told, so a turn is too coarse.
            self.router.now_ns = self.shared.upstreams.now_ns();
        }
        for _ in 0..READS_PER_TURN {
            // What was read may have ended it.
            let Some((endpoint, _)) = self.router.endpoint(side) else { return };
            if !endpoint.can_read() {
                break;
            }
            self.read(side);
        }
        // As above.
        let Some((endpoint, io)) = self.router.endpoint(side) else { return };
        io.queue_if_readable(side, endpoint);
        if endpoint.ready.writable {
            self.router.on_writable(side);
        }
    }

    /// Goes on with those that had more to read than their share.
    fn serve_ready(&mut self) {
        // Those that still have more are queued anew, for the next turn.
        for _ in 0..self.router.io.ready.len() {
            let Some(side) = self.router.io.ready.pop_front() else { return };
            // It may have ended since it was queued.
            if let Some((endpoint, _)) = self.router.endpoint(side) {
                endpoint.is_queued = false;
                self.serve(side);
            }
        }
    }

    fn read(&mut self, side: Side) {
        let now_ms = self.router.now_ms();
        let mut chunk = self.router.io.chunks.take();
        let connection = self.router.endpoint(side);
        // Nobody else has the chunk, so it can be written to.
        if let (Some((endpoint, _)), Some(room)) = (connection, Arc::get_mut(&mut chunk)) {
            match endpoint.receive(room, now_ms) {
                Received::Input(length) => self.on_input(side, &chunk, length),
                Received::Nothing => {}
                Received::End => self.router.on_end(side),
            }
        }
        self.router.io.chunks.put(chunk);
    }

    fn on_input(&mut self, side: Side, chunk: &Arc<Vec<u8>>, length: usize) {
        let (input, mut at) = (&chunk[..length], 0);
        loop {
            // An event in the input may have ended it.
            let Some((endpoint, io)) = self.router.endpoint(side) else { return };
            if endpoint.is_ending {
                return;
            }
            io.give_buffer(endpoint);
            match endpoint.http.read(&input[at..]) {
                Ok(read) => {
                    at += read.consumed;
                    let Some(event) = read.event else { break };
                    self.router.on_event(side, event, chunk);
                }
                Err(error) => return self.router.on_error(side, &error),
            }
        }
        let now_ms = self.router.now_ms();
        // As above.
        let Some((endpoint, io)) = self.router.endpoint(side) else { return };
        endpoint.keep(&input[at..], at > 0, now_ms);
        io.after_input(side, endpoint);
        self.router.after_input(side);
    }

    fn on_link_broken(&mut self, side: Side) {
        // What it sent before it went may still be in the queue, and is worth
        // delivering.
        for _ in 0..FINAL_READS {
            // Its end may have been read.
            let Some((endpoint, _)) = self.router.endpoint(side) else { return };
            if !endpoint.can_read() {
                break;
            }
            self.read(side);
        }
        // As above.
        if self.router.endpoint(side).is_some() {
            self.router.on_end(side);
        }
    }

    /// Writes all that has gathered. Writing one makes room for what waited,
    /// whose credit then goes out on another.
    fn flush(&mut self) {
        loop {
            self.router.place_waiting();
            if self.router.io.dirty.is_empty() {
                return;
            }
            while let Some(side) = self.router.io.dirty.pop_front() {
                self.write(side);
            }
        }
    }

    fn write(&mut self, side: Side) {
        // It may have ended since it was marked.
        let Some((endpoint, io)) = self.router.endpoint(side) else { return };
        endpoint.is_dirty = false;
        let mut flushed = std::mem::take(&mut io.flushed);
        let written = endpoint.flush(&mut flushed);
        io.take_buffer(endpoint);
        io.queue_if_readable(side, endpoint);
        for Flushed { user, bytes } in flushed.drain(..) {
            self.router.on_flushed(side, user, bytes);
        }
        self.router.io.flushed = flushed;
        match (side, written) {
            (Side::Link(_), Written::Broken) => self.on_link_broken(side),
            (_, Written::Broken) => self.router.on_end(side),
            _ => self.router.on_written(side, written),
        }
    }
}

/// Clients that come, and the end.
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
                    return Ok(acceptor.pause(&self.router.io.poller, self.router.now_ns)?);
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
            self.router.admit(incoming, self.is_draining);
        } else {
            self.threads.mailbox(thread).send(incoming);
        }
    }

    fn on_shutdown(&mut self) {
        let stage = self.shutdown.stage();
        if stage != Stage::Running && !self.is_draining {
            self.is_draining = true;
            self.router.start_drain();
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
}
