//! A thread's part in accepting connections and opening those to backends.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use event_loop::{Accepted, Key, connect, reset_on_close};
use rand_xoshiro::rand_core::Rng;
use rustix::io::Errno;

use super::Worker;
use crate::{
    connection::{Connection, Which},
    counts::End,
    greeting::Stage,
    lifetime::{Lifetime, millis},
    shared::{Command, Incoming, Place},
    table::Lacking,
};

/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

impl Worker {
    pub(super) fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(acceptor) = &mut self.acceptor else { return Ok(()) };
            match acceptor.accept() {
                Accepted::Connection(socket, address) => self.admit(socket, address),
                Accepted::Nobody => {
                    if self.is_draining {
                        self.stop_listening();
                    }
                    return Ok(());
                }
                Accepted::Aborted => self.counts.accept_errors.inc(),
                Accepted::Shed => self.counts.shed_descriptors.inc(),
                Accepted::Exhausted => {
                    self.counts.accept_errors.inc();
                    self.io.pipes.close_idle();
                    return Ok(acceptor.pause(&self.poller, self.now_ns)?);
                }
                Accepted::Broken(errno) => return Err(errno.into()),
            }
        }
        // The listener is level-triggered: who still waits is reported again.
        Ok(())
    }

    pub(super) fn admit(&mut self, socket: OwnedFd, address: SocketAddr) {
        let thread = self.shared.threads.deal(self.me);
        let Some(place) = Place::take(&self.shared, thread) else {
            self.counts.shed_limit.inc();
            return reset_on_close(&socket);
        };
        self.counts.accepted.inc();
        let incoming = Incoming { socket, address, place };
        if thread == self.me {
            self.serve(incoming);
        } else {
            self.shared.threads.mailbox(thread).send(Command::Serve(incoming));
        }
    }

    pub(super) fn serve(&mut self, incoming: Incoming) {
        let Incoming { socket, address, place } = incoming;
        let first = self.shared.options.greetings.first();
        let life = Lifetime::new(self.now_ms(), &self.shared.limits, self.chance.next_u64());
        let connection = Connection::new(socket, address, place, first, life);
        let key = self.connections.insert(connection);
        let connection = self.connections.live_mut(key);
        let token = key.to_token(Which::Client.to_bit());
        if self.poller.add(connection.client(), token).is_err() {
            return self.close(key, End::LocalFault);
        }
        if first != Stage::Done {
            let at_ms = self.now_ns / 1_000_000 + millis(self.shared.greeting_timeout);
            self.timers.replace(&mut connection.deadline_ms, Some(at_ms), key);
        }
        self.step(key);
    }

    pub(super) fn find_backend(&mut self, key: Key<Connection>, group: Option<&str>) {
        let Some(group) = self.shared.table.load().group(group) else {
            return self.close(key, End::NoBackend);
        };
        self.connections.live_mut(key).set_group(group);
        self.connect(key);
    }

    /// Counts that the leased backend did not accept.
    pub(super) fn count_failure(&mut self, key: Key<Connection>) {
        let now_ms = self.now_ms();
        if let Some(lease) = self.connections.live(key).lease() {
            lease.count_failure(self.shared.ejection, now_ms);
        }
    }

    /// Begins to connect to the next backend; those that fail at once are
    /// passed over.
    pub(super) fn connect(&mut self, key: Key<Connection>) {
        loop {
            let connection = self.connections.live_mut(key);
            let leased = connection.lease_next(self.chance.next_u64(), self.now_ns);
            let address = match leased {
                Ok(address) => address,
                Err(_) if connection.was_refused_late() => {
                    return self.close(key, End::BackendReset);
                }
                Err(Lacking::Backend) => return self.close(key, End::NoBackend),
                Err(Lacking::Room) => return self.close(key, End::BackendsFull),
            };
            match connect(address, self.shared.keepalive) {
                Ok(socket) => {
                    let upstream = connection.connecting(socket);
                    let token = key.to_token(Which::Upstream.to_bit());
                    if self.poller.add(upstream, token).is_err() {
                        return self.close(key, End::LocalFault);
                    }
                    let timeout_ms = millis(self.shared.connect_timeout);
                    let at_ms = self.now_ns / 1_000_000 + timeout_ms;
                    return self.timers.replace(&mut connection.deadline_ms, Some(at_ms), key);
                }
                // Another backend's socket would meet the same shortage.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // Those that come next have more use for them.
                    self.io.pipes.close_idle();
                    return self.close(key, End::LocalFault);
                }
                Err(_) => self.count_failure(key),
            }
        }
    }
}
