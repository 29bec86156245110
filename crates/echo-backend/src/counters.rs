//! What a backend counts: per connection and per method.

use serve::{AcceptCounters, Counter, Gauge, Histogram, Metrics};

/// The methods of the echo service, as they stand in its path.
pub(crate) const METHODS: [&str; 4] = ["Unary", "ServerStream", "ClientStream", "Bidi"];

/// Counts of one backend. Clones share them.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Connections accepted, open, and turned away.
    pub connections: AcceptCounters,
    /// Calls of each connection, counted when it closes.
    pub calls_per_connection: Histogram,
    /// Connections told to go away because of their age.
    pub aged: Counter,
    /// TLS handshakes that came to HTTP/2.
    pub handshakes_ok: Counter,
    /// TLS handshakes that did not, or not in time.
    pub handshakes_failed: Counter,
    /// Calls of `Unary`.
    pub unary: MethodCounters,
    /// Calls of `ServerStream`.
    pub server_stream: MethodCounters,
    /// Calls of `ClientStream`.
    pub client_stream: MethodCounters,
    /// Calls of `Bidi`.
    pub bidi: MethodCounters,
}

/// Counts of one method.
#[derive(Clone, Debug)]
pub struct MethodCounters {
    /// Calls begun.
    pub started: Counter,
    /// Calls that ended with status OK.
    pub succeeded: Counter,
    /// Calls that ended with another status.
    pub failed: Counter,
    /// Calls whose client went away before their end.
    pub cancelled: Counter,
    /// Calls running now.
    pub in_flight: Gauge,
}

impl Counters {
    /// Registers all counts in `metrics`.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let [unary, server_stream, client_stream, bidi] =
            METHODS.map(|method| MethodCounters::register(metrics, method));
        let handshakes = |result| {
            metrics.counter(
                "echo_tls_handshakes_total",
                "TLS handshakes, by whether HTTP/2 came of them.",
                &[("result", result)],
            )
        };
        Self {
            connections: AcceptCounters::register(metrics, "echo_connections"),
            calls_per_connection: metrics.histogram(
                "echo_connection_calls",
                "Calls of a connection, over its life.",
                &[],
                &[0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6],
            ),
            aged: metrics.counter(
                "echo_connections_aged_total",
                "Connections told to go away because they reached their maximum age.",
                &[],
            ),
            handshakes_ok: handshakes("ok"),
            handshakes_failed: handshakes("failed"),
            unary,
            server_stream,
            client_stream,
            bidi,
        }
    }

    /// The four methods' counts, in the order of the proto file.
    pub fn methods(&self) -> [&MethodCounters; 4] {
        [&self.unary, &self.server_stream, &self.client_stream, &self.bidi]
    }

    /// Calls begun, over all methods.
    pub fn started(&self) -> u64 {
        self.methods().iter().map(|method| method.started.get()).sum()
    }

    /// Calls running now, over all methods.
    pub fn in_flight(&self) -> i64 {
        self.methods().iter().map(|method| method.in_flight.get()).sum()
    }
}

impl MethodCounters {
    fn register(metrics: &Metrics, method: &str) -> Self {
        let labels = [("method", method)];
        let ended = |outcome| {
            let labels = [("method", method), ("outcome", outcome)];
            metrics.counter("echo_calls_ended_total", "Calls ended, by outcome.", &labels)
        };
        Self {
            started: metrics.counter("echo_calls_started_total", "Calls begun.", &labels),
            succeeded: ended("ok"),
            failed: ended("failed"),
            cancelled: ended("cancelled"),
            in_flight: metrics.gauge("echo_calls_in_flight", "Calls running now.", &labels),
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> CallGuard {
        self.started.inc();
        self.in_flight.add(1);
        CallGuard { counters: self.clone(), ended: false }
    }
}

/// A call that runs. Dropped without [`CallGuard::end`], it counts as
/// cancelled: that is how a task learns that its client is gone.
#[derive(Debug)]
pub(crate) struct CallGuard {
    counters: MethodCounters,
    ended: bool,
}

impl CallGuard {
    /// The call ended with OK or another status. The first end counts.
    pub(crate) fn end(&mut self, ok: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            if ok { &self.counters.succeeded } else { &self.counters.failed }.inc();
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.ended {
            self.counters.cancelled.inc();
        }
        self.counters.in_flight.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_once_or_is_cancelled() {
        let counters = Counters::register(&Metrics::new());
        let mut call = counters.unary.begin();
        assert_eq!(counters.in_flight(), 1);
        call.end(true);
        call.end(false);
        drop(call);
        drop(counters.unary.begin());
        let unary = &counters.unary;
        let ended = [&unary.succeeded, &unary.failed, &unary.cancelled].map(Counter::get);
        assert_eq!(ended, [1, 0, 1]);
        assert_eq!((counters.started(), counters.in_flight()), (2, 0));
    }
}
