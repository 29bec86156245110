//! A thread's part in accepting connections and opening those to backends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType};

use super::{DOOR, Worker};
use crate::accept::{Knock, REST_MS, set_options, turn_away};
use crate::connection::Connection;
use crate::counts::End;
use crate::greeting::Stage;
use crate::lifetime::{Lifetime, millis};
use crate::shared::{Arrival, Command, Place};
use crate::side::INTEREST;
use crate::slots::{Key, Which};
use crate::table::Lacking;

/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

impl Worker {
    pub(super) fn on_door(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = &mut self.door else { return Ok(()) };
            match door.answer() {
                Knock::Connection(socket, address) => self.admit(socket, address),
                Knock::Nobody => {
                    if self.is_draining {
                        self.stop_listening();
                    }
                    return Ok(());
                }
                Knock::Died => self.counts.accept_errors.inc(),
                Knock::Shed => self.counts.shed_descriptors.inc(),
                Knock::Exhausted => {
                    self.counts.accept_errors.inc();
                    self.io.pipes.close_spare();
                    return self.close_door_for_a_moment();
                }
                Knock::Broken(errno) => return Err(errno.into()),
            }
        }
        // The door is level-triggered: who still waits is reported again.
        Ok(())
    }

    pub(super) fn close_door_for_a_moment(&mut self) -> io::Result<()> {
        if let Some(door) = &self.door {
            let data = epoll::EventData::new_u64(DOOR);
            epoll::modify(&self.epoll, door, data, epoll::EventFlags::empty())?;
            self.door_opens_ms = Some(self.now_ms() + REST_MS);
        }
        Ok(())
    }

    pub(super) fn open_door(&mut self) -> io::Result<()> {
        self.door_opens_ms = None;
        if let Some(door) = &self.door {
            let data = epoll::EventData::new_u64(DOOR);
            epoll::modify(&self.epoll, door, data, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    pub(super) fn admit(&mut self, socket: OwnedFd, address: SocketAddr) {
        let thread = self.shared.deal(self.me);
        let Some(place) = Place::take(&self.shared, thread) else {
            self.counts.shed_limit.inc();
            return turn_away(socket);
        };
        self.counts.accepted.inc();
        let arrival = Arrival { socket, address, place };
        if thread == self.me {
            self.serve(arrival);
        } else {
            self.shared.threads[thread].mailbox.send(Command::Serve(arrival));
        }
    }

    pub(super) fn serve(&mut self, arrival: Arrival) {
        let Arrival { socket, address, place } = arrival;
        let manners = &self.shared.manners;
        let first = manners.greetings.first();
        let life = Lifetime::new(self.now_ms(), &self.shared.limits, self.chance.next_u64());
        let connection = Connection::new(socket, address, place, first, life);
        let key = self.connections.insert(connection);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let data = epoll::EventData::new_u64(key.to_token(Which::Client));
        if epoll::add(&self.epoll, connection.client(), data, INTEREST).is_err() {
            return self.close(key, End::LocalFault);
        }
        if first != Stage::Done {
            let at_ms = self.now_ns / 1_000_000 + millis(self.shared.greeting_timeout);
            self.timers.set(key, &mut connection.deadline, at_ms);
        }
        self.step(key);
    }

    pub(super) fn find_backend(&mut self, key: Key, group: Option<&str>) {
        let Some(group) = self.shared.table.load().group(group) else {
            return self.close(key, End::NoBackend);
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.set_group(group);
        }
        self.connect(key);
    }

    /// Counts that the leased backend did not accept.
    pub(super) fn count_failure(&mut self, key: Key) {
        let now_ms = self.now_ms();
        if let Some(lease) = self.connections.get_mut(key).and_then(|c| c.lease()) {
            lease.count_failure(self.shared.ejection, now_ms);
        }
    }

    /// Begins to connect to the next backend; those that fail at once are
    /// passed over.
    pub(super) fn connect(&mut self, key: Key) {
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let leased = connection.lease_next(self.chance.next_u64(), self.now_ns);
            let address = match leased {
                Ok(address) => address,
                Err(_) if connection.was_refused_late() => {
                    return self.close(key, End::BackendReset);
                }
                Err(Lacking::Backend) => return self.close(key, End::NoBackend),
                Err(Lacking::Room) => return self.close(key, End::BackendsFull),
            };
            match open_upstream(address, self.shared.keepalive) {
                Ok(socket) => {
                    let upstream = connection.connecting(socket);
                    let data = epoll::EventData::new_u64(key.to_token(Which::Upstream));
                    if epoll::add(&self.epoll, upstream, data, INTEREST).is_err() {
                        return self.close(key, End::LocalFault);
                    }
                    let timeout_ms = millis(self.shared.connect_timeout);
                    let at_ms = self.now_ns / 1_000_000 + timeout_ms;
                    return self.timers.set(key, &mut connection.deadline, at_ms);
                }
                // Another backend's socket would meet the same shortage.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // Those that come next have more use for them.
                    self.io.pipes.close_spare();
                    return self.close(key, End::LocalFault);
                }
                Err(_) => self.count_failure(key),
            }
        }
    }
}

/// A socket that is connecting to a backend.
fn open_upstream(address: SocketAddr, keepalive: Option<Duration>) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => rustix::net::AddressFamily::INET,
        SocketAddr::V6(_) => rustix::net::AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    set_options(&socket, keepalive)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;

    #[test]
    fn sockets_get_their_options() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plain = open_upstream(address, None).unwrap();
        assert!(sockopt::tcp_nodelay(&plain).unwrap());
        assert!(!sockopt::socket_keepalive(&plain).unwrap());
        let probed = open_upstream(address, Some(Duration::from_secs(30))).unwrap();
        assert!(sockopt::socket_keepalive(&probed).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&probed).unwrap(), Duration::from_secs(30));
        assert_eq!(sockopt::tcp_keepintvl(&probed).unwrap(), Duration::from_secs(10));
    }
}
