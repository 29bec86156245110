//! Handshakes and reloads, counted.

use serve::{Counter, Metrics};

/// The counts of TLS. Clones share them.
#[derive(Clone, Debug)]
pub struct TlsCounters {
    /// Handshakes with clients that came to HTTP/2.
    pub clients_ok: Counter,
    /// Handshakes with clients that failed: no TLS, no certificate, no HTTP/2.
    /// Those that took too long are counted with the connections that were
    /// ended.
    pub clients_failed: Counter,
    /// Handshakes with backends that came to HTTP/2.
    pub backends_ok: Counter,
    /// Handshakes with backends that failed.
    pub backends_failed: Counter,
    /// Times that changed files were taken over.
    pub reloads_ok: Counter,
    /// Times that changed files could not be used.
    pub reloads_failed: Counter,
}

impl TlsCounters {
    /// Registers the counts of one thread.
    pub fn register(metrics: &Metrics) -> Self {
        let handshakes = |side, result| {
            metrics.counter_shard(
                "l7_tls_handshakes_total",
                "TLS handshakes, by the other side and by whether HTTP/2 came of them.",
                &[("side", side), ("result", result)],
            )
        };
        let reloads = |result| {
            metrics.counter_shard(
                "l7_tls_reloads_total",
                "Changes of the TLS files, by whether they were taken over.",
                &[("result", result)],
            )
        };
        Self {
            clients_ok: handshakes("client", "ok"),
            clients_failed: handshakes("client", "failed"),
            backends_ok: handshakes("backend", "ok"),
            backends_failed: handshakes("backend", "failed"),
            reloads_ok: reloads("ok"),
            reloads_failed: reloads("failed"),
        }
    }
}
