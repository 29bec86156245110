//! One connection: TLS where it is asked for, HTTP/2 with its bounds, a maximum age, and a graceful end.
//!
//! hyper is driven directly, and not through tonic's server, whose maximum
//! age with a grace period cuts connections without a GOAWAY.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hyper::{server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{RecvFlags, recv};
use rustls::ServerConfig;
use serve::{Accepted, Shutdown, tls};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::{config::ConnectionConfig, counters::Counters, lingering::Lingering, routes::Routes};

/// What all connections of a backend share.
pub(crate) struct Connections {
    http2: Builder<TokioExecutor>,
    routes: Routes,
    bounds: ConnectionConfig,
    tls: Option<Arc<ServerConfig>>,
    counters: Counters,
}

/// What happens to a connection from outside.
enum Event {
    /// It is old enough.
    Aged,
    /// The backend drains.
    Draining,
    /// Whatever still runs on it is cut off.
    Cut,
}

impl Connections {
    pub(crate) fn new(
        routes: Routes,
        bounds: ConnectionConfig,
        tls: Option<Arc<ServerConfig>>,
        counters: Counters,
    ) -> Self {
        let mut http2 = Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .initial_stream_window_size(bounds.stream_window_bytes)
            .initial_connection_window_size(bounds.connection_window_bytes)
            .max_concurrent_streams(bounds.max_streams)
            .max_header_list_size(bounds.max_header_list_bytes)
            .max_send_buf_size(bounds.max_send_buffer_bytes)
            .max_pending_accept_reset_streams(bounds.max_pending_reset_streams)
            .max_local_error_reset_streams(bounds.max_local_reset_streams)
            .keep_alive_interval(bounds.keepalive_interval)
            .keep_alive_timeout(bounds.keepalive_timeout)
            // gRPC has no use for it, and it is a header to encode per call.
            .auto_date_header(false);
        Self { http2, routes, bounds, tls, counters }
    }

    /// Serves one connection to its end. `age_factor` spreads the maximum age,
    /// so that connections opened together don't all return at once.
    pub(crate) async fn serve(
        self: Arc<Self>,
        accepted: Accepted,
        age_factor: f64,
        mut shutdown: Shutdown,
    ) {
        let Accepted { stream, remote, place } = accepted;
        // A port probe, or a client that never speaks, costs no HTTP/2 state.
        tokio::select! {
            speaks = timeout(self.bounds.first_byte_timeout, stream.readable()) => {
                if !matches!(speaks, Ok(Ok(()))) {
                    tracing::debug!(%remote, "connection that never spoke ended");
                    return;
                }
            }
            () = shutdown.draining() => {
                // What has arrived by now is still served.
                if !has_spoken(&stream) { return }
            }
        }
        let calls = Arc::new(AtomicU64::new(0));
        let stream = Lingering::new(stream);
        match &self.tls {
            None => self.serve_http2(stream, Arc::clone(&calls), age_factor, shutdown).await,
            Some(config) => {
                let stream = self.shake_hands(stream, Arc::clone(config), &mut shutdown).await;
                let Some(stream) = stream else {
                    tracing::info!(%remote, "TLS handshake failed");
                    return;
                };
                // In a box, so that plain connections are no larger for it.
                let calls = Arc::clone(&calls);
                Box::pin(self.serve_http2(stream, calls, age_factor, shutdown)).await;
            }
        }
        let calls = calls.load(Ordering::Relaxed);
        self.counters.calls_per_connection.observe(calls as f64);
        tracing::debug!(%remote, calls, "connection ended");
        drop(place);
    }

    /// A drain does not end a handshake: it is bounded, and a call may follow.
    async fn shake_hands(
        &self,
        stream: Lingering,
        config: Arc<ServerConfig>,
        shutdown: &mut Shutdown,
    ) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let shaken = timeout(self.bounds.tls_handshake_timeout, tls::accept(stream, config));
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = shutdown.terminated() => return None,
        };
        if let Ok(Ok(stream)) = shaken {
            self.counters.handshakes_ok.inc();
            Some(stream)
        } else {
            self.counters.handshakes_failed.inc();
            None
        }
    }

    async fn serve_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        calls: Arc<AtomicU64>,
        age_factor: f64,
        mut shutdown: Shutdown,
    ) {
        let routes = self.routes.clone();
        let service = service_fn(move |request| {
            calls.fetch_add(1, Ordering::Relaxed);
            routes.respond(request)
        });
        let connection = self.http2.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let age = self.bounds.max_connection_age.map(|age| age.mul_f64(age_factor));
        let mut ending = false;
        // When the age is reached while it lives, when its grace ends after.
        let mut timer = age.and_then(|age| Instant::now().checked_add(age));
        loop {
            let event = tokio::select! {
                // Ends when the client closes, when it breaks the protocol, or
                // when the last call after the GOAWAY is done. Whose fault it
                // was shows in the calls.
                _ = connection.as_mut() => return,
                event = next_event(&mut shutdown, timer, ending) => event,
            };
            match event {
                Event::Cut => {
                    tracing::info!("calls of a connection cut off");
                    return;
                }
                Event::Aged => {
                    self.counters.aged.inc();
                    timer = Instant::now().checked_add(self.bounds.max_connection_age_grace);
                }
                Event::Draining => timer = None,
            }
            ending = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Whether bytes lie there unread. Asked of the kernel: what the runtime knows of
/// a socket it has only just taken over may be behind.
fn has_spoken(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut byte, flags), Ok((read, _)) if read > 0)
}

/// The next thing that happens to a connection. Once it is `ending`, that can
/// only be the cut: by the timer, or by the backend's own deadline.
async fn next_event(shutdown: &mut Shutdown, timer: Option<Instant>, ending: bool) -> Event {
    let expired = async {
        match timer {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    if ending {
        tokio::select! {
            () = expired => Event::Cut,
            () = shutdown.terminated() => Event::Cut,
        }
    } else {
        tokio::select! {
            () = expired => Event::Aged,
            () = shutdown.draining() => Event::Draining,
        }
    }
}
