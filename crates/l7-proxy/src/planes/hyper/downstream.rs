//! Clients' connections: accept, serve, drain.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serve::{AcceptOptions, Accepted, Acceptor, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::call::{Thread, h2_source};
use super::guard::Guarded;
use super::wire::Wire;
use crate::config::DownstreamLimits;
use crate::metrics::Ending;
use crate::planes::Shared;

/// Serves `listener` until the shutdown is over.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    mut shutdown: Shutdown,
    seed: u64,
) -> io::Result<()> {
    let options = AcceptOptions { limit: shared.connection_limit.clone(), nodelay: true };
    let listener = TcpListener::from_std(listener)?;
    let mut acceptor = Acceptor::new(listener, options, shared.accept_counters.clone());
    let thread = Arc::new(Thread::new(Arc::clone(&shared), seed));
    let mut connections = JoinSet::new();
    let mut start = |accepted| {
        connections.spawn(connection(accepted, Arc::clone(&thread), shutdown.clone()));
        // Reaps what has ended, so that the set holds what is open.
        while connections.try_join_next().is_some() {}
    };
    let mut drain = shutdown.clone();
    while let Some(accepted) = acceptor.next(&mut drain).await? {
        start(accepted);
    }
    drop(acceptor);
    tokio::select! {
        () = shutdown.terminated() => {}
        () = async { while connections.join_next().await.is_some() {} } => {}
    }
    Ok(())
}

/// One connection's life. Its errors are the client's, and it knows them.
async fn connection(accepted: Accepted, thread: Arc<Thread>, mut shutdown: Shutdown) {
    let Accepted { stream, peer, place: _place } = accepted;
    let limits = &thread.shared.config.downstream;
    let counters = thread.guard_counters.clone();
    let Some(wire) = secure(stream, &thread).await else { return };
    let guarded = Guarded::new(wire, limits.clone(), counters.clone());
    let builder = builder(limits);
    let service =
        service_fn(move |request: Request<Incoming>| Arc::clone(&thread).serve(request, peer));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(guarded), service));
    tokio::select! {
        result = connection.as_mut() => {
            if result.is_err_and(|error| is_breach(&error)) {
                counters.count(Ending::Protocol);
            }
            return;
        }
        () = shutdown.draining() => {}
    }
    // hyper sends GOAWAY with the highest stream id and a PING at once, and
    // the final GOAWAY when the PING is answered. Termination drops this task.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Takes the handshake, where TLS is spoken. Draining does not wait for one: it
/// is bounded, and a call may follow.
async fn secure(stream: TcpStream, thread: &Thread) -> Option<Wire> {
    let Some(config) = thread.shared.tls.server() else { return Some(Wire::Plain(stream)) };
    let patience = thread.shared.config.downstream.handshake_timeout;
    match timeout(patience, Wire::accept(stream, config)).await {
        Ok(Ok(wire)) => {
            thread.tls_counters.clients_ok.inc();
            Some(wire)
        }
        Ok(Err(_)) => {
            thread.tls_counters.clients_failed.inc();
            None
        }
        Err(_) => {
            thread.guard_counters.count(Ending::HandshakeTimeout);
            None
        }
    }
}

/// Whether a connection ended because h2 found fault with the client.
fn is_breach(error: &hyper::Error) -> bool {
    h2_source(error).is_some_and(|error| error.is_library() && error.reason().is_some())
}

fn builder(limits: &DownstreamLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .adaptive_window(false)
        .auto_date_header(false)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_frame_size(limits.max_frame_bytes)
        // Beyond its limit h2 answers with a bare 431, which a gRPC client
        // can't read. So h2 gets a wider one, and the call checks the real.
        .max_header_list_size(limits.max_header_list_bytes.saturating_mul(4))
        .header_table_size(limits.header_table_bytes)
        .max_send_buf_size(limits.send_buffer_bytes)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .max_local_error_reset_streams(limits.max_error_resets)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}
