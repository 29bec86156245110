//! One thread's event loop.
//!
//! An own loop over epoll and not a task per connection on a runtime, for what
//! it saves at a few microseconds per message: sockets are registered once and
//! edge-triggered, so a message costs one read, one write and its share of one
//! `epoll_wait`; there is no waker, no task queue and no second copy of the
//! readiness state.

mod arrivals;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use balance::SplitMix64;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::accept::Door;
use crate::connection::{Connection, Step};
use crate::connection_log::ConnectionLog;
use crate::counts::{Counts, End};
use crate::io::Io;
use crate::lifetime::Due;
use crate::pipes::Pipes;
use crate::shared::{Command, Shared};
use crate::slots::{Key, Slots};
use crate::timers::Timers;
use crate::upstreams::{Lease, Upstream};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Connections of a backend that is emptied are spread over this time, so that
/// their clients don't all come back at once.
const RETIRE_WITHIN_MS: u64 = 1_000;
/// Reserved tokens; no connection's token is as large.
const DOOR: u64 = u64::MAX;
const MAILBOX: u64 = u64::MAX - 1;

/// The state of one thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    me: usize,
    epoll: OwnedFd,
    door: Option<Door>,
    /// When the door opens again, if it is closed for a moment.
    door_opens_ms: Option<u64>,
    connections: Slots<Connection>,
    timers: Timers,
    io: Io,
    /// Connections with more to do at once.
    again: Vec<Key>,
    chance: SplitMix64,
    counts: Counts,
    log: Option<ConnectionLog>,
    now_ns: u64,
    /// Passed on in this turn and not yet counted.
    to_backend_bytes: u64,
    to_client_bytes: u64,
    is_draining: bool,
    is_terminated: bool,
}

impl Worker {
    /// A thread's state; it is made where an error can still be reported.
    pub(crate) fn new(
        shared: Arc<Shared>,
        me: usize,
        door: Door,
        counts: Counts,
        log: Option<ConnectionLog>,
        seed: u64,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let pipes = Pipes::new(Arc::clone(&shared.pipes), counts.pipes_refused.clone());
        let level = epoll::EventFlags::IN;
        let mailbox = &shared.threads[me].mailbox;
        epoll::add(&epoll, mailbox, epoll::EventData::new_u64(MAILBOX), level)?;
        epoll::add(&epoll, &door, epoll::EventData::new_u64(DOOR), level)?;
        Ok(Self {
            me,
            epoll,
            door: Some(door),
            door_opens_ms: None,
            connections: Slots::new(),
            timers: Timers::default(),
            io: Io::new(shared.data_plane, pipes),
            again: Vec::new(),
            chance: SplitMix64::new(seed),
            counts,
            log,
            now_ns: shared.now_ns(),
            to_backend_bytes: 0,
            to_client_bytes: 0,
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
            events.clear();
            let timeout = self.sleep().map(timespec);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.now_ns = self.shared.now_ns();
            for event in &events {
                self.on_event(event.data.u64(), event.flags)?;
            }
            self.go_on();
            self.on_time()?;
            if self.empties_queue() {
                self.on_door()?;
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
        let is_drained = self.is_draining && !self.shared.is_listening();
        self.is_terminated || is_drained && self.shared.open_on(self.me) == 0
    }

    /// Whether it takes what the kernel has queued, to close the listener then.
    fn empties_queue(&self) -> bool {
        self.is_draining && self.door.is_some() && self.door_opens_ms.is_none()
    }

    fn sleep(&self) -> Option<Duration> {
        if !self.again.is_empty() || self.empties_queue() {
            return Some(Duration::ZERO);
        }
        let door = self
            .door_opens_ms
            .map(|opens_ms| Duration::from_millis(opens_ms.saturating_sub(self.now_ms())));
        let timers = self.timers.sleep(self.now_ms());
        [door, timers].into_iter().flatten().min()
    }

    fn on_event(&mut self, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        match token {
            DOOR => self.on_door(),
            MAILBOX => self.on_mailbox(),
            token => {
                let (key, which) = Key::from_token(token);
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.note(which, flags);
                    self.step(key);
                }
                Ok(())
            }
        }
    }

    /// Goes on with the connections that had more to do than their share.
    fn go_on(&mut self) {
        for key in std::mem::take(&mut self.again) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_queued = false;
                self.step(key);
            }
        }
    }

    fn step(&mut self, key: Key) {
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let before = connection.moved();
            let step = connection.step(&mut self.io, &self.shared.manners, self.now_ns);
            let after = connection.moved();
            self.to_backend_bytes += after.to_backend_bytes - before.to_backend_bytes;
            self.to_client_bytes += after.to_client_bytes - before.to_client_bytes;
            match step {
                Step::Wait => return,
                Step::Again => {
                    if !connection.is_queued {
                        connection.is_queued = true;
                        self.again.push(key);
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

    fn close(&mut self, key: Key, end: End) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.timers.clear(key, &mut connection.deadline);
        connection.prepare_close(end);
        self.counts.count_end(end);
        if let Some(log) = &self.log {
            log.write(&connection, end, self.now_ms());
        }
    }

    fn count_bytes(&mut self) {
        if self.to_backend_bytes > 0 {
            self.counts.to_backend_bytes.add(std::mem::take(&mut self.to_backend_bytes));
        }
        if self.to_client_bytes > 0 {
            self.counts.to_client_bytes.add(std::mem::take(&mut self.to_client_bytes));
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
        if self.door_opens_ms.is_some_and(|opens_ms| opens_ms <= now_ms) {
            self.open_door()?;
        }
        while let Some(key) = self.timers.pop(now_ms) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
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
    fn on_relaying_timer(&mut self, key: Key) {
        let now_ms = self.now_ms();
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.life.due(now_ms, &self.shared.limits) {
            Due::Now(end) => self.close(key, end),
            // A millisecond more, so that the clock's rounding down does not
            // wake the thread a moment before.
            Due::At(at_ms) => self.timers.set(key, &mut connection.deadline, at_ms + 1),
            Due::Never => self.timers.clear(key, &mut connection.deadline),
        }
    }

    /// Ends the connections that a backend has, at their next quiet moments.
    fn retire(&mut self, upstream: &Arc<Upstream>) {
        for key in self.connections.keys() {
            let at_ms = self.now_ms() + self.chance.next_u64() % RETIRE_WITHIN_MS;
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let is_its = |lease: &Lease| Arc::ptr_eq(lease.upstream(), upstream);
            if connection.is_relaying() && connection.lease().is_some_and(is_its) {
                connection.life.expire(at_ms);
                self.on_relaying_timer(key);
            }
        }
    }

    fn on_mailbox(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        for command in shared.threads[self.me].mailbox.take() {
            match command {
                Command::Serve(arrival) => self.serve(arrival),
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
        self.door_opens_ms = None;
        if self.door.take().is_some() {
            self.shared.stopped_listening();
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Longer sleeps than a day are cut into days.
    let capped = duration.min(Duration::from_secs(86_400));
    Timespec { tv_sec: capped.as_secs() as i64, tv_nsec: i64::from(capped.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_become_what_the_kernel_takes() {
        assert_eq!(timespec(Duration::from_millis(1_500)).tv_nsec, 500_000_000);
        assert_eq!(timespec(Duration::MAX).tv_sec, 86_400);
    }
}
