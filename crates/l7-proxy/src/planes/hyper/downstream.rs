//! Clients' connections: accept, serve, drain.

use std::{cell::Cell, io, pin::pin, rc::Rc, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serve::{AcceptOptions, Accepted, Acceptor, Shutdown};
use tokio::{
    io::{AsyncReadExt as _, join, split},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    call::Calls,
    h2_source,
    local::{LocalExecutor, OpenCall, Stream},
    thread::Thread,
};
use crate::{
    config::DownstreamLimits,
    metrics::Ending,
    planes::{NOTICE, Shared},
};

/// Bytes that a client's connection begins with (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

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
    let calls = Rc::new(Calls::new(Arc::clone(&shared), seed));
    let mut connections = JoinSet::new();
    let mut start = |accepted| {
        connections.spawn_local(connection(accepted, Rc::clone(&calls), shutdown.clone()));
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
async fn connection(accepted: Accepted, calls: Rc<Calls>, mut shutdown: Shutdown) {
    let Accepted { stream, remote, place: _place } = accepted;
    let thread = &calls.thread;
    let limits = &thread.shared.config.downstream;
    let counters = thread.guard_counters.clone();
    let handshake_by = Instant::now() + limits.handshake_timeout;
    let greeted = async {
        if !speaks(&stream, &mut shutdown).await {
            return None;
        }
        handshake(stream, thread).await
    };
    let stream = match timeout_at(handshake_by, greeted).await {
        Ok(Some(stream)) => stream,
        Ok(None) => return,
        Err(_) => return counters.count(Ending::HandshakeTimeout),
    };
    let idle_since = Rc::new(Cell::new(Instant::now()));
    let (new_until, called) = (Instant::now() + NOTICE, Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        called.notify_one();
        let (calls, call) = (Rc::clone(&calls), OpenCall(Rc::clone(&idle_since)));
        async move {
            calls.serve(request, remote).await.map(|response| response.map(|body| body.with(call)))
        }
    });
    let mut connection = pin!(builder(limits).serve_connection(TokioIo::new(stream), service));
    let draining = async {
        shutdown.draining().await;
        // As in the relay: a client that is about to make its first call makes it.
        let _ = timeout_at(new_until, called.notified()).await;
    };
    tokio::select! {
        result = connection.as_mut() => {
            // h2 found fault with the client.
            let is_breach = |error: &h2::Error| error.is_library() && error.reason().is_some();
            if result.is_err_and(|error| h2_source(&error).is_some_and(is_breach)) {
                counters.count(Ending::Protocol);
            }
            return;
        }
        () = draining => {}
        () = idle_for(limits.idle_timeout, &idle_since) => counters.count(Ending::Idle),
    }
    // hyper sends GOAWAY with the highest stream id and a PING at once, and
    // the final GOAWAY when the PING is answered. Termination drops this task.
    connection.as_mut().graceful_shutdown();
    idle_since.set(Instant::now());
    tokio::select! {
        _ = connection => {}
        // A client that has no call and does not answer is not waited for.
        () = idle_for(limits.keepalive_timeout, &idle_since) => {}
    }
}

/// Waits for the client's first byte. False when none has come for a while after the
/// drain began. A client whose connection ends without SETTINGS takes that for a
/// failure, and one from the accept queue may not have been able to speak before.
async fn speaks(stream: &TcpStream, shutdown: &mut Shutdown) -> bool {
    let mut byte = [0];
    let is_late = async {
        shutdown.draining().await;
        sleep(NOTICE).await;
    };
    tokio::select! {
        biased;
        peeked = stream.peek(&mut byte) => peeked.is_ok_and(|bytes| bytes > 0),
        () = is_late => false,
    }
}

/// Takes what comes before frames: TLS's handshake, where TLS is spoken, and
/// HTTP/2's preface.
async fn handshake(stream: TcpStream, thread: &Thread) -> Option<Box<dyn Stream>> {
    let mut stream: Box<dyn Stream> = match thread.shared.tls.server() {
        None => Box::new(stream),
        Some(config) => {
            let shaken = serve::tls::accept(stream, config).await;
            let counters = &thread.tls_counters;
            let count =
                if shaken.is_ok() { &counters.clients_ok } else { &counters.clients_failed };
            count.inc();
            Box::new(shaken.ok()?)
        }
    };
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await.ok()?;
    let (reader, writer) = split(stream);
    // hyper looks at the preface itself.
    Some(Box::new(join(io::Cursor::new(preface).chain(reader), writer)))
}

/// Waits until a connection has had no call for so long.
async fn idle_for(timeout: Duration, idle_since: &Rc<Cell<Instant>>) {
    loop {
        let now = Instant::now();
        let has_calls = Rc::strong_count(idle_since) > 1;
        let since = if has_calls { now } else { idle_since.get() };
        if since + timeout <= now {
            return;
        }
        sleep_until(since + timeout).await;
    }
}

fn builder(limits: &DownstreamLimits) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor::default());
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
