//! How connections come in, and what the shutdown does to them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_loop::{Accepted, Acceptor, reset_on_close};

use super::client::Client;
use super::secure::Secure;
use super::shutdown::Stage;
use super::worker::Worker;
use crate::planes::{ConnectionPlace, Shared};
use crate::tls::counters::TlsCounters;

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
                        // Whoever comes to the listener's queue now is reset.
                        self.acceptor = None;
                    }
                    return Ok(());
                }
                Accepted::Aborted => self.shared.accept_counters.errors.inc(),
                Accepted::Shed => self.shared.accept_counters.shed_no_descriptor.inc(),
                Accepted::Exhausted => {
                    self.shared.accept_counters.errors.inc();
                    return Ok(acceptor.pause(&self.poller, self.now_ns)?);
                }
                Accepted::Broken(errno) => return Err(errno.into()),
            }
        }
        // The listener is level-triggered: who still waits is reported again.
        Ok(())
    }

    fn admit(&mut self, socket: OwnedFd, remote: SocketAddr) {
        let Some(place) = ConnectionPlace::take(&self.shared) else {
            self.shared.accept_counters.shed_over_limit.inc();
            return reset_on_close(&socket);
        };
        self.shared.accept_counters.accepted.inc();
        let Ok(secure) = self.secure_client() else { return reset_on_close(&socket) };
        let places = (place, self.shares.join(remote.ip()));
        let client = Client::new((socket, remote), secure, places, &self.downstream, self.now_ms());
        let key = self.clients.insert(client);
        let endpoint = &self.clients.live(key).endpoint;
        if self.poller.add(endpoint, key.to_token(false)).is_err() {
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

    pub(super) fn on_shutdown(&mut self) -> io::Result<()> {
        let stage = self.shutdown.stage();
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
        let is_accepting = |acceptor: &Acceptor| acceptor.resumes_ns().is_none();
        self.is_draining && self.acceptor.as_ref().is_some_and(is_accepting)
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
