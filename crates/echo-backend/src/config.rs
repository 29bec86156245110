//! What a backend is told: who it is, how it queues, and its bounds.

use std::{fmt, num::NonZeroUsize, str::FromStr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use serve::Metrics;

use crate::service_time::ServiceTime;

/// Everything [`crate::run`] needs besides a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// The id that every response carries.
    pub id: String,
    /// The queue and its servers.
    pub queue: QueueConfig,
    /// Whether each call's trailers say what load there is, as gRPC's backend metrics
    /// (ORCA).
    pub reports_load: bool,
    /// What a connection may cost, and how long it may live.
    pub connections: ConnectionConfig,
    /// What connections are secured with, by [`serve::tls`]; `None` for plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where the backend counts.
    pub metrics: Metrics,
}

impl Config {
    /// A backend that answers at once, with all bounds at their defaults.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            queue: QueueConfig::default(),
            reports_load: false,
            connections: ConnectionConfig::default(),
            tls: None,
            metrics: Metrics::new(),
        }
    }
}

/// The queue and its servers.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Servers, which is calls in service at once.
    pub concurrency: NonZeroUsize,
    /// How long a call occupies a server at speed 1.
    pub service_time: ServiceTime,
    /// How fast the servers work at the start; it can change while they do.
    pub speed: Speed,
    /// The seed of the service times; the id is mixed in, so backends that
    /// share a seed differ.
    pub seed: u64,
    /// Calls that may wait; further ones fail with RESOURCE_EXHAUSTED.
    pub max_waiting: usize,
    /// The part of the calls, from 0 to 1, that fail with INTERNAL in place of being served.
    pub failures: f64,
}

impl Default for QueueConfig {
    /// One server, no service time, and 100,000 places in the queue.
    fn default() -> Self {
        Self {
            concurrency: NonZeroUsize::MIN,
            service_time: ServiceTime::None,
            speed: Speed::ONE,
            seed: 0,
            max_waiting: 100_000,
            failures: 0.0,
        }
    }
}

/// Bounds of connections. Each stands under the same name on the command line.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Connections open at once; further ones are accepted and closed.
    pub max_connections: usize,
    /// Streams (calls) that run on one connection at once; announced to the
    /// client, which then holds calls back.
    pub max_streams: u32,
    /// Bytes of one message, either way.
    pub max_message_bytes: usize,
    /// Bytes of a call's headers, uncompressed (SETTINGS_MAX_HEADER_LIST_SIZE).
    pub max_header_list_bytes: u32,
    /// Flow-control window of a stream. Wide enough that a message of 1 MiB
    /// waits for no window update.
    pub stream_window_bytes: u32,
    /// Flow-control window of a connection.
    pub connection_window_bytes: u32,
    /// Bytes of response that wait for one stream's client to read them.
    pub max_send_buffer_bytes: usize,
    /// Streams reset by the client that may wait to be forgotten; more of them
    /// end the connection (CVE-2023-44487).
    pub max_pending_reset_streams: usize,
    /// Streams reset for the client's own protocol errors before the
    /// connection is ended (CVE-2025-8671).
    pub max_local_reset_streams: usize,
    /// A new connection that stays silent for this long is closed.
    pub first_byte_timeout: Duration,
    /// How long a client may take to shake hands where TLS is spoken. What it can
    /// send until then, rustls bounds (a message of 64 KiB).
    pub tls_handshake_timeout: Duration,
    /// A PING goes out when nothing was read for this long; `None` sends none.
    pub keepalive_interval: Option<Duration>,
    /// How long a PING may stay unanswered.
    pub keepalive_timeout: Duration,
    /// A connection older than this (give or take a tenth) is told to go away
    /// and closed when its calls are done; `None` lets it live.
    pub max_connection_age: Option<Duration>,
    /// How long the calls of such a connection may take.
    pub max_connection_age_grace: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_streams: 1024,
            max_message_bytes: 16 * 1024 * 1024,
            max_header_list_bytes: 16 * 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
            max_send_buffer_bytes: 1024 * 1024,
            max_pending_reset_streams: 64,
            max_local_reset_streams: 1024,
            first_byte_timeout: Duration::from_secs(30),
            tls_handshake_timeout: Duration::from_secs(10),
            keepalive_interval: Some(Duration::from_secs(60)),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(10),
        }
    }
}

/// How fast a backend's servers work: 1 as configured, 0.2 five times slower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(f64);

impl Speed {
    /// As configured.
    pub const ONE: Self = Self(1.0);
    /// The slowest that can be asked for; frozen is what SIGSTOP is for.
    pub const MIN: f64 = 0.0001;
    /// The fastest that can be asked for.
    pub const MAX: f64 = 10_000.0;

    /// A speed, if it lies within bounds.
    pub fn new(factor: f64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&factor).then_some(Self(factor))
    }

    /// The factor.
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no speed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no speed; write a factor from {min} to {max}, as in 0.2 for five times slower",
    min = Speed::MIN,
    max = Speed::MAX
)]
pub struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let factor = text.trim().parse().ok();
        factor.and_then(Self::new).ok_or_else(|| SpeedError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_positive_and_bounded() {
        assert_eq!("0.2".parse::<Speed>().unwrap().factor(), 0.2);
        for bad in ["0", "-1", "NaN", "inf", "1e9", "fast", ""] {
            let message = bad.parse::<Speed>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{bad}`")) && message.contains("0.2"), "{message}");
        }
    }
}
