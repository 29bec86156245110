//! Probes of backends, for a policy that picks by them.
//!
//! A probe is a unary call that every gRPC server knows, `grpc.health.v1.Health/Check`; what
//! is wanted of the answer is the load report in its trailers (gRFC A51), with the calls
//! that the backend holds and what one takes there as the named metrics `in_flight` and
//! `latency_s`. Backends that send none are picked by chance.
//!
//! Data planes know nothing of it: a pick says which backends are to be probed, and this
//! module's task asks them over connections of its own and puts the answers into the pool.
//! So a probe never stands in the way of a call, and where too many wait they are dropped:
//! the pool is then picked from for a little longer.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use balance::{LOAD_REPORT_TRAILER, LoadReport, Probe};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version, header};
use serve::{Counter, Metrics, Shutdown, tls::ClientSide};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, mpsc::error::TrySendError},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    tls::Tls,
    upstreams::{Upstreams, Wanted},
};

/// Probes that may be under way to one backend, and wait to be.
const AT_ONCE: usize = 64;
/// Between an attempt to connect that failed and the next.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A gRPC message without content.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// What a prober's tasks share.
#[derive(Debug)]
struct Shared {
    upstreams: Arc<Upstreams>,
    tls: Arc<Tls>,
    /// After this an answer is of no use.
    patience: Duration,
    answered: Counter,
    failed: Counter,
}

/// Probes as picks ask for it, until the proxy is told to end.
pub(crate) async fn run(
    mut wanted: mpsc::Receiver<Wanted>,
    upstreams: Arc<Upstreams>,
    tls: Arc<Tls>,
    metrics: &Metrics,
    mut shutdown: Shutdown,
) {
    let count = |result| {
        let help = "Probes of backends for the policy, by whether a load report came of them.";
        metrics.counter("l7_probes_total", help, &[("result", result)])
    };
    let (answered, failed) = (count("answered"), count("failed"));
    let patience = upstreams.tuning().probes.age;
    let shared = Arc::new(Shared { upstreams, tls, patience, answered, failed });
    let (mut backends, mut version) = (HashMap::new(), 0);
    // Ended with this set, however this future ends.
    let mut tasks = JoinSet::new();
    loop {
        let next = tokio::select! {
            () = shutdown.terminated() => return,
            next = wanted.recv() => next,
        };
        let Some(next) = next else { return };
        if next.version != version {
            version = next.version;
            let current = shared.upstreams.current();
            let there: HashSet<_> = current.upstreams().iter().map(|one| one.addr()).collect();
            backends.retain(|addr, _| there.contains(addr));
        }
        let addr = next.upstream.addr();
        let backend = backends.entry(addr).or_insert_with(|| {
            let (sender, wanted) = mpsc::channel(AT_ONCE);
            tasks.spawn(probe_backend(addr, wanted, Arc::clone(&shared)));
            sender
        });
        if let Err(TrySendError::Full(_)) = backend.try_send(next) {
            shared.failed.inc();
        }
        while tasks.try_join_next().is_some() {}
    }
}

/// Probes one backend for as long as it is there.
async fn probe_backend(addr: SocketAddr, mut wanted: mpsc::Receiver<Wanted>, shared: Arc<Shared>) {
    while let Some(first) = wanted.recv().await {
        let tls = shared.tls.client(addr.ip());
        match timeout(shared.patience, connect(addr, tls)).await {
            Ok(Ok((sender, driver))) => {
                let asks = ask_all(first, &mut wanted, sender, &shared);
                // Whichever ends first: nobody asks any more, or the connection is gone.
                tokio::select! {
                    () = asks => {}
                    _ = driver => {}
                }
            }
            Ok(Err(_)) | Err(_) => {
                shared.failed.inc();
                sleep(CONNECT_PAUSE).await;
            }
        }
    }
}

/// Sends probes over a connection, each as it is wanted.
async fn ask_all(
    first: Wanted,
    wanted: &mut mpsc::Receiver<Wanted>,
    sender: SendRequest<Bytes>,
    shared: &Arc<Shared>,
) {
    let mut asks = JoinSet::new();
    let mut next = Some(first);
    while let Some(one) = next {
        if asks.len() < AT_ONCE {
            asks.spawn(ask(one, sender.clone(), Arc::clone(shared)));
        } else {
            shared.failed.inc();
        }
        next = wanted.recv().await;
        while asks.try_join_next().is_some() {}
    }
}

async fn ask(wanted: Wanted, sender: SendRequest<Bytes>, shared: Arc<Shared>) {
    let is_tls = shared.tls.client(wanted.upstream.addr().ip()).is_some();
    let answer = timeout(shared.patience, probe(wanted.upstream.addr(), is_tls, sender)).await;
    match answer {
        Ok(Ok(Some(probe))) => {
            shared.answered.inc();
            shared.upstreams.probed(wanted.version, wanted.index, probe);
        }
        Ok(Ok(None) | Err(_)) | Err(_) => shared.failed.inc(),
    }
}

/// One probe; `None` where the answer says nothing of load.
async fn probe(
    addr: SocketAddr,
    is_tls: bool,
    sender: SendRequest<Bytes>,
) -> Result<Option<Probe>, h2::Error> {
    let scheme = if is_tls { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{addr}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(());
    // An address makes a URI.
    let Ok(request) = request else { return Ok(None) };
    let (response, mut request) = sender.ready().await?.send_request(request, false)?;
    request.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
    let mut body = response.await?.into_body();
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    let trailers = body.trailers().await?;
    let report = trailers.as_ref().and_then(|trailers| trailers.get(LOAD_REPORT_TRAILER));
    let report = report.and_then(|report| LoadReport::from_trailer(report.as_bytes()));
    Ok(report.and_then(|report| report.probe))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Driver = h2::client::Connection<Box<dyn Stream>, Bytes>;

async fn connect(
    addr: SocketAddr,
    tls: Option<ClientSide>,
) -> io::Result<(SendRequest<Bytes>, Driver)> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(side) => Box::new(serve::tls::connect(stream, side).await?),
    };
    h2::client::handshake(stream).await.map_err(io::Error::other)
}
