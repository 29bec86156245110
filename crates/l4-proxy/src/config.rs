//! What the proxy is told: backends, policy, limits, timeouts.
//!
//! The types here can't hold a contradiction that the proxy would have to
//! guess about; the command line is turned into them in [`crate::cli`].

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    str::FromStr,
    time::Duration,
};

pub use balance::Ejection;
use balance::PolicyKind;
pub use serve::health::{HealthCheck, HealthConfig};
use serve::{
    Metrics,
    admin::BackendSpec,
    backend_flag::{BackendFlag, BackendFlagError},
    zones::ZoneConfig,
};

pub use crate::{
    proxy_protocol::ProxyVersion,
    routes::{SniRoute, SniRouteError},
};

/// Everything [`run`](crate::run) needs besides a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// The backends; at least one, each address once.
    pub backends: Vec<BackendConfig>,
    /// How a connection's backend is picked.
    pub policy: PolicyKind,
    /// What the first turn of `round_robin` is drawn with. Proxies with the same
    /// would send the same backend their first connections; zero is the first of
    /// the list.
    pub seed: u64,
    /// Threads that move bytes, each with its own event loop.
    pub threads: NonZeroUsize,
    /// How long one backend may take to accept before the next one is tried.
    pub connect_timeout: Duration,
    /// How long a connection may stay silent in both directions together;
    /// `None` for as long as it likes.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may become, give or take a tenth: it is then closed
    /// at its first quiet moment, when nothing moves and the backend has had the
    /// last word; `None` for as old as it likes.
    pub max_connection_age: Option<Duration>,
    /// How long such a connection may go on without a quiet moment, before it
    /// is cut off.
    pub connection_age_grace: Duration,
    /// Whether the connections of a backend that is drained or removed are
    /// closed, as if they had reached their age; otherwise they live on.
    pub close_drained: bool,
    /// How long a backend that is new or came back is given less than its
    /// share, growing evenly; `None` gives it the whole share at once.
    pub slow_start: Option<Duration>,
    /// When failed connects take a backend out; `None` for never.
    pub ejection: Option<Ejection>,
    /// Where it and the other proxies are; `None` where zones are not looked at.
    pub zones: Option<ZoneConfig>,
    /// Checks of the backends; `None` for none.
    pub health: Option<HealthConfig>,
    /// Whether every connection begins with a PROXY header, version 1 or 2.
    pub proxy_protocol_in: bool,
    /// Whether a PROXY header is sent to backends.
    pub proxy_protocol_out: Option<ProxyVersion>,
    /// Groups of backends by TLS server name. With any, every connection must
    /// begin with a ClientHello; a name without a route, and none, belongs to
    /// the backends without a group.
    pub sni: Vec<SniRoute>,
    /// How long a client may take for its PROXY header and ClientHello.
    pub greeting_timeout: Duration,
    /// Connections open at once over all threads. A connection beyond that is
    /// reset, which tells its client at once that it is not served.
    pub max_connections: usize,
    /// TCP keepalive: after this silence the kernel probes whether the peer is
    /// still there, on both sides; `None` leaves it off.
    pub keepalive: Option<Duration>,
    /// How bytes are moved.
    pub data_plane: DataPlane,
    /// Pipes open at once over all threads, for splicing; without one, bytes
    /// are copied. Each needs two descriptors, and holds up to 1 MiB of kernel
    /// memory while its receiver is slower than its sender.
    pub max_pipes: usize,
    /// Where the proxy counts.
    pub metrics: Metrics,
    /// Write a line of JSON about each connection that ended to standard
    /// output.
    pub log_connections: bool,
}

impl Config {
    /// A configuration with defaults: `round_robin`, one thread, 5 s to
    /// connect, one hour of silence, 100,000 connections, a backend left out
    /// for 5 s after 3 failures in a row, and a data plane that follows what it
    /// sees.
    pub fn new(backends: Vec<BackendConfig>) -> Self {
        Self {
            backends,
            policy: PolicyKind::RoundRobin,
            seed: RandomState::new().hash_one(0),
            threads: NonZeroUsize::MIN,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Some(Duration::from_secs(3_600)),
            max_connection_age: None,
            connection_age_grace: Duration::from_secs(10),
            close_drained: false,
            slow_start: None,
            ejection: Some(Ejection::new(
                NonZeroU32::MIN.saturating_add(2),
                Duration::from_secs(5),
            )),
            zones: None,
            health: None,
            proxy_protocol_in: false,
            proxy_protocol_out: None,
            sni: Vec::new(),
            greeting_timeout: Duration::from_secs(5),
            max_connections: 100_000,
            keepalive: None,
            data_plane: DataPlane::Auto,
            max_pipes: 1_024,
            metrics: Metrics::new(),
            log_connections: false,
        }
    }
}

/// How bytes are moved from one socket to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPlane {
    /// Read into a buffer and written from it: cheapest for small messages.
    Copy,
    /// Moved inside the kernel, through a pipe: cheapest for large ones.
    Splice,
    /// Copies, and splices in a direction that carries large pieces.
    #[default]
    Auto,
}

impl DataPlane {
    /// All of them; the tests walk this list.
    pub const ALL: [Self; 3] = [Self::Copy, Self::Splice, Self::Auto];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no data plane's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown data plane `{0}`; expected copy, splice or auto")]
pub struct UnknownDataPlane(pub String);

impl FromStr for DataPlane {
    type Err = UnknownDataPlane;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|plane| plane.name() == name).ok_or_else(|| UnknownDataPlane(name.to_owned()))
    }
}

/// One backend: `ADDR[,weight=N][,max_connections=N][,group=NAME][,zone=NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens. The address is also its name in metrics, logs and for
    /// the hash policies.
    pub address: SocketAddr,
    /// Its share relative to the others'.
    pub weight: NonZeroU32,
    /// Connections it may hold at once; `None` for as many as come.
    pub max_connections: Option<NonZeroU32>,
    /// The group that [`Config::sni`] routes to; `None` for the one that gets
    /// everything else.
    pub group: Option<String>,
    /// The zone it is in.
    pub zone: Option<String>,
}

impl BackendConfig {
    /// A backend of weight one, without a cap, a group or a zone.
    pub fn new(address: SocketAddr) -> Self {
        let weight = NonZeroU32::MIN;
        Self { address, weight, max_connections: None, group: None, zone: None }
    }
}

impl From<BackendSpec> for BackendConfig {
    fn from(spec: BackendSpec) -> Self {
        let BackendSpec { address, weight, max_in_flight, group, zone } = spec;
        Self { address, weight, max_connections: max_in_flight, group, zone }
    }
}

impl FromStr for BackendConfig {
    type Err = BackendFlagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let flag = BackendFlag::parse(text, &["weight", "max_connections", "group", "zone"])?;
        Ok(Self {
            address: flag.address,
            weight: flag.number("weight")?.unwrap_or(NonZeroU32::MIN),
            max_connections: flag.number("max_connections")?,
            group: flag.text("group"),
            zone: flag.text("zone"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_an_address_and_options() {
        let plain: BackendConfig = "127.0.0.1:5001".parse().unwrap();
        assert_eq!(plain, BackendConfig::new("127.0.0.1:5001".parse().unwrap()));
        let weighted: BackendConfig = "[::1]:5001, weight=3".parse().unwrap();
        assert_eq!((weighted.weight.get(), weighted.address.port()), (3, 5001));
        let full: BackendConfig = "127.0.0.1:1,max_connections=9,group=api".parse().unwrap();
        assert_eq!(full.max_connections, NonZeroU32::new(9));
        assert_eq!(full.group.as_deref(), Some("api"));
    }

    #[test]
    fn every_data_plane_is_known_by_its_name() {
        for plane in DataPlane::ALL {
            assert_eq!(plane.name().parse(), Ok(plane));
        }
        let error = "sendfile".parse::<DataPlane>().unwrap_err().to_string();
        assert!(DataPlane::ALL.iter().all(|plane| error.contains(plane.name())), "{error}");
    }
}
