//! How connections come in, and what ends the thread: the door and the bell.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::net::sockopt;

use super::bell::Stage;
use super::client::Client;
use super::door::{Knock, REST_NS, turn_away};
use super::endpoint::INTEREST;
use super::secure::Secure;
use super::worker::{DOOR, Worker};
use crate::planes::{ConnectionPlace, Shared};
use crate::tls::counters::TlsCounters;

/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

impl Worker {
    pub(super) fn on_door(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = &mut self.door else { return Ok(()) };
            match door.answer() {
                Knock::Connection(socket) => self.admit(socket),
                Knock::Nobody => {
                    if self.is_draining {
                        self.stop_listening();
                    }
                    return Ok(());
                }
                Knock::Died => self.shared.accept_counters.errors.inc(),
                Knock::Shed => self.shared.accept_counters.shed_no_descriptor.inc(),
                Knock::Exhausted => {
                    self.shared.accept_counters.errors.inc();
                    return self.close_door_for_a_moment();
                }
                Knock::Broken(errno) => return Err(errno.into()),
            }
        }
        // The door is level-triggered: who still waits is reported again.
        Ok(())
    }

    fn close_door_for_a_moment(&mut self) -> io::Result<()> {
        if let Some(door) = &self.door {
            let data = epoll::EventData::new_u64(DOOR);
            epoll::modify(&self.epoll, door, data, epoll::EventFlags::empty())?;
            self.door_opens_ns = Some(self.now_ns + REST_NS);
        }
        Ok(())
    }

    pub(super) fn open_door(&mut self) -> io::Result<()> {
        self.door_opens_ns = None;
        if let Some(door) = &self.door {
            let data = epoll::EventData::new_u64(DOOR);
            epoll::modify(&self.epoll, door, data, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd) {
        let Some(place) = ConnectionPlace::take(&self.shared) else {
            self.shared.accept_counters.shed_over_limit.inc();
            return turn_away(socket);
        };
        self.shared.accept_counters.accepted.inc();
        // It fails on a dead socket only, which its first event reports.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let Ok(secure) = self.secure_client() else { return turn_away(socket) };
        let name = rustix::net::getpeername(&socket).ok().flatten();
        let peer = name.and_then(|name| SocketAddr::try_from(name).ok());
        let share = self.shares.join(peer.map(|peer| peer.ip()));
        let places = (place, share);
        let mut client = Client::new(socket, secure, places, &self.downstream, self.now_ms());
        client.peer = peer;
        let key = self.clients.insert(client);
        let Some(client) = self.clients.get_mut(key) else { return };
        let data = epoll::EventData::new_u64(key.to_token(false));
        if epoll::add(&self.epoll, &client.endpoint, data, INTEREST).is_err() {
            self.clients.remove(key);
            return;
        }
        if self.is_draining {
            self.announce_leave(key);
        }
    }

    /// A new session of TLS, where it is spoken.
    fn secure_client(&self) -> Result<Option<Box<Secure>>, rustls::Error> {
        let Some(config) = self.shared.tls.server() else { return Ok(None) };
        let TlsCounters { clients_ok, clients_failed, .. } = self.tls_counters.clone();
        Secure::server(config, clients_ok, clients_failed).map(|secure| Some(Box::new(secure)))
    }

    pub(super) fn on_bell(&mut self) -> io::Result<()> {
        let stage = self.bell.answer();
        if stage != Stage::Running && !self.is_draining {
            self.is_draining = true;
            for key in self.clients.keys() {
                self.announce_leave(key);
            }
            self.flush();
        }
        self.is_over = stage == Stage::Terminated;
        Ok(())
    }

    /// Whether it takes what the kernel has queued, to close the listener then:
    /// those connections are served, and told at once to go.
    pub(super) fn empties_queue(&self) -> bool {
        self.is_draining && self.door.is_some() && self.door_opens_ns.is_none()
    }

    /// Closes the listener, which resets whoever is left in its queue.
    fn stop_listening(&mut self) {
        self.door = None;
        self.door_opens_ns = None;
    }
}

impl ConnectionPlace {
    /// Takes a place under the cap; `None` when the proxy is full.
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let max = shared.config.downstream.max_connections;
        let has_room = |open: usize| (open < max).then_some(open + 1);
        shared.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).ok()?;
        shared.accept_counters.open.add(1);
        Some(Self { shared: Arc::clone(shared) })
    }
}
