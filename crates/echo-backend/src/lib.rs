//! The lab's backend: a gRPC echo service behind a real queue.
//!
//! A backend that answers at once hides what balancing is for. This one has
//! [`concurrency`](config::QueueConfig::concurrency) servers and draws a
//! service time for each call, so that imbalance costs what it costs in life:
//! calls queue. Every response says which backend served it and how long the
//! call was queued and in service, so that a client can tell the backend's
//! time from the network's and the proxy's.
//!
//! | module | what it does |
//! |---|---|
//! | [`queue`] | FIFO queue and servers, without clock or sockets |
//! | [`service_time`] | distributions, and how they are written |
//! | [`random`] | seeded chance |
//! | `station`, `timer` | the queue at work, on a timer true to the microsecond |
//! | `service`, `health`, `routes` | the gRPC services |
//! | `load` | what answers say of the backend's load |
//! | `connection`, `lingering` | HTTP/2 connections, their age and their end |
//! | [`config`], [`cli`] | what a backend is told |
//! | [`counters`] | what it counts |

pub mod cli;
pub mod config;
pub mod counters;
pub mod queue;
pub mod random;
pub mod service_time;

mod connection;
mod control;
mod health;
mod lingering;
mod load;
mod payload;
mod routes;
mod service;
mod station;

use std::{io, net::TcpListener, sync::Arc};

pub use cli::main_with;
pub use config::Config;
use config::Speed;
use connection::Connections;
use counters::Counters;
use health::HealthService;
use load::Load;
use rand_distr::{Distribution, OpenClosed01};
use routes::Routes;
use serve::{AcceptOptions, Acceptor, ConnectionLimit, Shutdown};
use service::EchoService;
use station::Station;
use tokio::task::JoinSet;

/// How far a connection's maximum age may lie from what was configured, either
/// way, as a share of it.
const AGE_JITTER: f64 = 0.1;

/// Why a backend could not run on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listening socket broke.
    #[error("the listener failed")]
    Listener(#[source] io::Error),
    /// The timer of the queue could not be made or armed.
    #[error("the service timer failed")]
    Timer(#[source] io::Error),
    /// The service's descriptors can't be served by reflection.
    #[error("the reflection service can't be built")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves on `listener`, which must be non-blocking, until `shutdown` has
/// drained: no new connections, a GOAWAY on the open ones, and the calls that
/// run are finished, or cut when it is terminated.
///
/// # Errors
/// See [`Error`]; bad input of clients is none of them.
pub async fn run(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    Backend::new(config)?.run(listener, shutdown).await
}

/// A backend that can be looked at and changed while it runs. Clones are the
/// same backend.
#[derive(Clone, Debug)]
pub struct Backend {
    config: Arc<Config>,
    station: Arc<Station>,
    counters: Counters,
}

impl Backend {
    /// A backend bound to the current tokio runtime, which needs its I/O and
    /// time drivers.
    ///
    /// # Errors
    /// When the service timer can't be made.
    pub fn new(config: Config) -> Result<Self, Error> {
        let station = Station::new(&config.queue, &config.id).map_err(Error::Timer)?;
        let station = Arc::new(station);
        let counters = Counters::register(&config.metrics);
        register_gauges(&config, &station);
        Ok(Self { config: Arc::new(config), station, counters })
    }

    /// As the function [`run`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(&self, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
        let bounds = &self.config.connections;
        let servers = self.config.queue.concurrency.get();
        let load = self.config.reports_load.then(|| Arc::new(Load::new(&self.station, servers)));
        let echo = EchoService {
            id: self.config.id.as_str().into(),
            station: Arc::clone(&self.station),
            counters: self.counters.clone(),
            max_message_bytes: bounds.max_message_bytes,
            load,
        };
        let health = HealthService { shutdown: shutdown.clone() };
        let routes = Routes::new(echo, health, bounds)?;
        let tls = self.config.tls.clone();
        let connections = Connections::new(routes, bounds.clone(), tls, self.counters.clone());
        let connections = Arc::new(connections);
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Listener)?;
        let options =
            AcceptOptions { limit: ConnectionLimit::new(bounds.max_connections), nodelay: true };
        let acceptor = Acceptor::new(listener, options, self.counters.connections.clone());
        tokio::select! {
            result = self.serve(acceptor, connections, shutdown) => result,
            error = self.station.drive() => error.map_err(Error::Timer),
        }
    }

    /// The backend's counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The backend's id.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// How fast the servers work.
    pub fn speed(&self) -> Speed {
        self.station.speed()
    }

    /// Changes how fast the servers work, from the next call they take on.
    pub(crate) fn set_speed(&self, speed: Speed) {
        self.station.set_speed(speed);
        tracing::info!(%speed, "speed changed");
    }

    async fn serve(
        &self,
        mut acceptor: Acceptor,
        connections: Arc<Connections>,
        shutdown: Shutdown,
    ) -> Result<(), Error> {
        let mut random = random::named(self.config.queue.seed, "connection age");
        // Dropping the set aborts what is left in it.
        let mut tasks = JoinSet::new();
        let mut drain = shutdown.clone();
        loop {
            tokio::select! {
                accepted = acceptor.next(&mut drain) => {
                    let Some(accepted) = accepted.map_err(Error::Listener)? else { break };
                    let uniform: f64 = OpenClosed01.sample(&mut random);
                    let age_factor = 1.0 + AGE_JITTER * (2.0 * uniform - 1.0);
                    let connections = Arc::clone(&connections);
                    tasks.spawn(connections.serve(accepted, age_factor, shutdown.clone()));
                }
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(acceptor);
        tracing::info!(connections = tasks.len(), "drain started");
        // Bounded: every connection watches for the shutdown's deadline.
        while tasks.join_next().await.is_some() {}
        tracing::info!("drained");
        Ok(())
    }
}

fn register_gauges(config: &Config, station: &Arc<Station>) {
    let gauge = |name: &str, help: &str, value: fn(&Station) -> f64| {
        let station = Arc::clone(station);
        config.metrics.gauge_fn(name, help, &[], move || value(&station));
    };
    gauge("echo_queue_waiting", "Calls that wait for a server.", |station| {
        station.occupancy().0 as f64
    });
    gauge("echo_servers_busy", "Servers at work.", |station| station.occupancy().1 as f64);
    gauge("echo_speed", "How fast the servers work; 1 is as configured.", |station| {
        station.speed().factor()
    });
}
