//! What the proxy is told: its backends, its policy, and every bound it keeps.

mod limits;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use balance::{PolicyKind, Tuning};
use clap::FromArgMatches as _;
use http::HeaderName;
pub use limits::{CallLimits, DownstreamLimits, UpstreamLimits};
use serve::Metrics;
use serve::backend_flag::{BackendFlag, BackendFlagError};
use serve::health::HealthConfig;
use serve::zones::ZoneConfig;

use crate::access_log::AccessLogArgs;
use crate::circuit::CircuitLimits;
use crate::health::{EjectionSettings, MembershipSettings};
use crate::retry::RetryPolicy;
use crate::tls::TlsArgs;

/// A whole configuration. [`Config::new`] fills in the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The backends at start.
    pub backends: Vec<BackendConfig>,
    /// How a backend is picked for a call.
    pub policy: PolicyKind,
    /// Settings of single policies.
    pub tuning: Tuning,
    /// The code that moves the bytes.
    pub data_plane: DataPlane,
    /// The request header whose value is the key of the hash policies. Without
    /// it, or on a call that lacks it, they pick by chance.
    pub hash_header: Option<HeaderName>,
    /// What the first turn of `round_robin` is drawn with. Proxies with the same
    /// would send the same backend their first calls; zero is the first of the
    /// list.
    pub seed: u64,
    /// Bounds on clients' connections.
    pub downstream: DownstreamLimits,
    /// Bounds on connections to backends.
    pub upstream: UpstreamLimits,
    /// Bounds on single calls.
    pub calls: CallLimits,
    /// Bounds on what is in flight.
    pub circuit: CircuitLimits,
    /// When calls are tried again that a backend may have worked on.
    pub retry: RetryPolicy,
    /// Whether and how TLS is spoken.
    pub tls: TlsArgs,
    /// What is logged of calls.
    pub access_log: AccessLogArgs,
    /// How backends are checked; `None` for not at all.
    pub health: Option<HealthConfig>,
    /// When a backend is left out for what became of its calls.
    pub ejection: EjectionSettings,
    /// Which backends are used, and how one comes back.
    pub membership: MembershipSettings,
    /// Where it and the other proxies are; `None` where zones are not looked at.
    pub zones: Option<ZoneConfig>,
    /// Where the proxy counts what it does.
    pub metrics: Metrics,
}

/// Another one for each proxy.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

impl Config {
    /// The default configuration over these backends.
    pub fn new(backends: Vec<BackendConfig>, policy: PolicyKind) -> Self {
        Self {
            backends,
            policy,
            tuning: Tuning::default(),
            data_plane: DataPlane::default(),
            hash_header: None,
            seed: seed(),
            downstream: DownstreamLimits::default(),
            upstream: UpstreamLimits::default(),
            calls: CallLimits::default(),
            circuit: CircuitLimits::default(),
            retry: RetryPolicy::default(),
            tls: TlsArgs::default(),
            access_log: AccessLogArgs::default(),
            health: None,
            ejection: EjectionSettings::default(),
            membership: MembershipSettings::default(),
            zones: None,
            metrics: Metrics::new(),
        }
    }
}

/// The code that moves the bytes. All stand behind the same policies, limits
/// and failure mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DataPlane {
    /// hyper on h2: the reference, what most Rust teams would write. It has the
    /// bounds that hyper has settings for and no others (no rates of resets or
    /// control frames, no frame or write stall timeouts), so it is not for
    /// untrusted clients.
    Hyper,
    /// Our own, and the one to use: one event loop a thread, frames relayed
    /// without a task per call.
    #[default]
    Relay,
}

impl DataPlane {
    /// All data planes; the test-suite runs over each.
    pub const ALL: [Self; 2] = [Self::Hyper, Self::Relay];
}

/// One backend as it is written on a command line: `ADDR[,weight=N][,name=S][,zone=S]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its share relative to the others'.
    pub weight: u32,
    /// Its identity for hash policies and metrics.
    pub name: String,
    /// The zone it is in.
    pub zone: Option<String>,
}

impl BackendConfig {
    /// A backend of weight 1, named by its address, in no zone.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, weight: 1, name: addr.to_string(), zone: None }
    }
}

impl FromStr for BackendConfig {
    type Err = BackendFlagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let flag = BackendFlag::parse(text, &["weight", "name", "zone"])?;
        Ok(Self {
            addr: flag.address,
            weight: flag.number("weight")?.map_or(1, NonZeroU32::get),
            name: flag.text("name").unwrap_or_else(|| flag.address.to_string()),
            zone: flag.text("zone"),
        })
    }
}

/// Each default is written in the flag, so a parse of no flags gives them all.
macro_rules! default_from_flags {
    ($($settings:ty),*) => {$(
        impl Default for $settings {
            fn default() -> Self {
                let command = <Self as clap::Args>::augment_args(clap::Command::new(""));
                let matches = command.get_matches_from([""]);
                Self::from_arg_matches(&matches).expect("every flag has a default")
            }
        }
    )*};
}
default_from_flags!(
    DownstreamLimits,
    UpstreamLimits,
    CallLimits,
    CircuitLimits,
    RetryPolicy,
    AccessLogArgs,
    TlsArgs,
    EjectionSettings,
    MembershipSettings
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_a_default() {
        let config = Config::new(Vec::new(), PolicyKind::RoundRobin);
        assert_eq!(config.downstream.max_headers, 100);
        assert_eq!(config.downstream.max_header_list_bytes, 16_384);
        assert_eq!(config.upstream.backend_assumed_streams, 100);
        assert!(!config.calls.forward_http);
    }

    #[test]
    fn backends_are_read_as_they_are_written() {
        let addr: SocketAddr = "127.0.0.1:5001".parse().unwrap();
        assert_eq!("127.0.0.1:5001".parse(), Ok(BackendConfig::new(addr)));
        assert_eq!(
            "127.0.0.1:5001,weight=3,name=big,zone=a".parse(),
            Ok(BackendConfig {
                addr,
                weight: 3,
                name: "big".to_owned(),
                zone: Some("a".to_owned()),
            })
        );
    }
}
