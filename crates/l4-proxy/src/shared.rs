//! What the proxy's threads share: the backends, the cap on connections, and
//! how they reach each other.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use balance::Ejection;
use event_loop::{Seat, Threads};

use crate::{
    config::{Config, DataPlane},
    greeting::Greetings,
    lifetime::Limits,
    pipes::PipeCap,
    proxy_protocol::ProxyVersion,
    table::Table,
    upstreams::Upstream,
};

/// The state of a whole proxy.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) connect_timeout: Duration,
    pub(crate) greeting_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) options: ConnectionOptions,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) data_plane: DataPlane,
    pub(crate) pipes: Arc<PipeCap>,
    pub(crate) threads: Arc<Threads<Command>>,
    max_connections: usize,
    open: AtomicUsize,
    started: Instant,
}

/// What a thread can be told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve a connection that another thread accepted.
    Serve(Incoming),
    /// Empty a backend: end its connections in their quiet moments.
    Retire(Arc<Upstream>),
    /// Accept no more, and end when the last connection has.
    Drain,
    /// Cut every connection off, and end.
    Terminate,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) socket: OwnedFd,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
}

impl Shared {
    pub(crate) fn new(config: &Config, table: Table) -> std::io::Result<Self> {
        Ok(Self {
            table: ArcSwap::from_pointee(table),
            connect_timeout: config.connect_timeout,
            greeting_timeout: config.greeting_timeout,
            limits: Limits {
                idle: config.idle_timeout,
                age: config.max_connection_age,
                grace: config.connection_age_grace,
            },
            options: ConnectionOptions {
                greetings: Greetings::new(config),
                header_out: config.proxy_protocol_out,
            },
            ejection: config.ejection,
            keepalive: config.keepalive,
            data_plane: config.data_plane,
            pipes: Arc::new(PipeCap::new(config.max_pipes)),
            threads: Arc::new(Threads::new(config.threads.get())?),
            max_connections: config.max_connections,
            open: AtomicUsize::new(0),
            started: Instant::now(),
        })
    }

    /// Nanoseconds of the clock that all threads use.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Connections open now, over all threads.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// What holds for every connection of a proxy.
#[derive(Debug)]
pub(crate) struct ConnectionOptions {
    pub(crate) greetings: Greetings,
    pub(crate) header_out: Option<ProxyVersion>,
}

/// A connection's place under the cap and in its thread's count, given back
/// when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    _seat: Seat<Command>,
}

impl Place {
    /// Takes a place for a connection on `thread`; `None` when the proxy is
    /// full.
    pub(crate) fn take(shared: &Arc<Shared>, thread: usize) -> Option<Self> {
        let max = shared.max_connections;
        let has_room = |open: usize| (open < max).then_some(open + 1);
        shared.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).ok()?;
        Some(Self { shared: Arc::clone(shared), _seat: shared.threads.seat(thread) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{config::BackendConfig, table::Rules};

    fn shared(threads: usize, max_connections: usize) -> Arc<Shared> {
        let backends = vec![BackendConfig::new("127.0.0.1:1".parse().unwrap())];
        let mut config = Config::new(backends);
        config.threads = NonZeroUsize::new(threads).unwrap();
        config.max_connections = max_connections;
        let upstream = Upstream::new(&config.backends[0], &config.metrics, None);
        let table = Table::new(&Rules::of(&config), &[upstream], None).unwrap();
        Arc::new(Shared::new(&config, table).unwrap())
    }

    #[test]
    fn the_cap_counts_over_all_threads_and_places_come_back() {
        let shared = shared(2, 2);
        let first = Place::take(&shared, 0).unwrap();
        let _second = Place::take(&shared, 1).unwrap();
        assert!(Place::take(&shared, 0).is_none());
        drop(first);
        assert_eq!(shared.open(), 1);
        assert!(Place::take(&shared, 0).is_some());
    }
}
