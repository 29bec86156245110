//! The proxy as a whole: one thread for each listener, and their end.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use balance::BalanceError;
use event_loop::Threads;
use serve::{
    ConnectionLimit, Shutdown, admin::Backends, health, health::Checked, json_lines::Writer,
    tls::ClientSide,
};
use tokio::sync::oneshot;

use crate::{
    access_log::AccessLog,
    config::Config,
    fleet::Fleet,
    metrics::accept_counters,
    planes::{self, Shared, Thread},
    probing,
    tls::{Tls, TlsError, counters::TlsCounters, reload},
    via::Via,
};

/// Why the proxy could not run, or stopped early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The policy can't balance over the backends.
    #[error(transparent)]
    Balance(#[from] BalanceError),
    /// The TLS files can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log can't be written.
    #[error(transparent)]
    Log(io::Error),
    /// A thread could not start, or its listener broke.
    #[error("a proxy thread failed")]
    Thread(#[source] io::Error),
    /// A thread panicked, which is a defect of the proxy.
    #[error("a proxy thread panicked")]
    Panicked,
}

/// A proxy that is set up and does not serve yet.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    fleet: Arc<Fleet>,
    log_writer: Option<Writer>,
}

impl Proxy {
    /// Sets a proxy up.
    ///
    /// # Errors
    /// When the backends can't be balanced over, the TLS files can't be used, or
    /// the access log can't be written.
    pub fn new(config: Config) -> Result<Self, RunError> {
        let tls = Arc::new(Tls::load(&config.tls)?);
        let log = AccessLog::open(&config.access_log, &config.metrics).map_err(RunError::Log)?;
        let (access_log, log_writer) = log.unzip();
        let fleet = Arc::new(Fleet::new(&config)?);
        let shared = Arc::new(Shared {
            access_log,
            tls,
            via: Via::new(RandomState::new().hash_one(std::process::id())),
            upstreams: Arc::clone(fleet.upstreams()),
            connection_limit: ConnectionLimit::new(config.downstream.max_connections),
            accept_counters: accept_counters(&config.metrics),
            config,
        });
        Ok(Self { shared, fleet, log_writer })
    }

    /// Its backends, to be seen and changed while it runs.
    pub fn backends(&self) -> Arc<dyn Backends> {
        Arc::clone(&self.fleet) as Arc<dyn Backends>
    }

    /// Serves each listener on a thread of its own until the shutdown is over.
    ///
    /// The listeners must be non-blocking; [`serve::listen::bind_many`] gives
    /// as many as there shall be threads. Draining, the proxy accepts no more
    /// connections, tells the open ones to send no more calls (GOAWAY): at once, or where
    /// one is new, when it has made its first call or has had a second for it. It ends when
    /// their calls have ended or the shutdown is terminated.
    ///
    /// # Errors
    /// When a thread fails; the other threads are then ended too.
    pub async fn run(
        self,
        listeners: Vec<TcpListener>,
        shutdown: Shutdown,
    ) -> Result<(), RunError> {
        let Self { shared, fleet, log_writer } = self;
        // Ended with this set, however this future ends.
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(&fleet).tend(shutdown.clone()));
        if let Some(wanted) = shared.upstreams.take_wanted() {
            let (upstreams, tls) = (Arc::clone(&shared.upstreams), Arc::clone(&shared.tls));
            let (metrics, shutdown) = (shared.config.metrics.clone(), shutdown.clone());
            tasks.spawn(async move {
                probing::run(wanted, upstreams, tls, &metrics, shutdown).await;
            });
        }
        if let Some(config) = shared.config.health.clone() {
            let asked = Arc::new(Asked { fleet, tls: Arc::clone(&shared.tls) });
            tasks.spawn(health::watch(asked, config, shutdown.clone()));
        }
        let result = serve_on_threads(&shared, listeners, shutdown).await;
        tracing::info!("drained");
        // The log ends when nobody can write to it any more.
        drop(shared);
        if let Some(writer) = log_writer {
            finish(writer).await;
        }
        result
    }
}

/// The backends as they are checked: as calls are made to them, under TLS or not.
struct Asked {
    fleet: Arc<Fleet>,
    tls: Arc<Tls>,
}

impl Checked for Asked {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.fleet.addresses()
    }

    fn checked(&self, address: SocketAddr, passed: bool, is_healthy: bool) {
        self.fleet.checked(address, passed, is_healthy);
    }

    fn tls(&self, address: SocketAddr) -> Option<ClientSide> {
        self.tls.client(address.ip())
    }
}

/// Sets a proxy up and runs it: [`Proxy::new`] and [`Proxy::run`] in one, for
/// those who don't change its backends.
///
/// # Errors
/// As these two.
pub async fn run(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    Proxy::new(config)?.run(listeners, shutdown).await
}

async fn serve_on_threads(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    // The threads watch a shutdown of their own, so that one that fails can
    // end the others.
    let (trigger, inner) = Shutdown::channel();
    let all = Arc::new(Threads::new(listeners.len()).map_err(RunError::Thread)?);
    let mut threads = Vec::new();
    for (me, listener) in listeners.into_iter().enumerate() {
        let (shared, inner) = (Arc::clone(shared), inner.clone());
        let seed = RandomState::new().hash_one(me);
        let own = Thread { listener, me, all: Arc::clone(&all), seed };
        let (ended, end) = oneshot::channel();
        thread::Builder::new()
            .name(format!("l7-proxy-{me}"))
            .spawn(move || {
                let result = planes::run_thread(own, shared, inner);
                // Nobody waits for it only when `run` was dropped.
                let _ = ended.send(result);
            })
            .map_err(RunError::Thread)?;
        threads.push(end);
    }
    let mut outer = shutdown;
    let relay = async {
        outer.draining().await;
        tracing::info!("drain started");
        trigger.drain();
        outer.terminated().await;
        tracing::info!("drain ended by force");
        trigger.terminate();
        std::future::pending().await
    };
    let (config, tls) = (&shared.config, Arc::clone(&shared.tls));
    let watch = reload::watch(config.tls.clone(), tls, TlsCounters::register(&config.metrics));
    let reload = async {
        watch.await;
        std::future::pending().await
    };
    tokio::select! {
        result = join(threads) => result,
        never = relay => never,
        never = reload => never,
    }
}

/// Waits until the access log is written, unless its disk takes too long.
async fn finish(writer: Writer) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let written = async {
        while !writer.is_done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, written).await;
    writer.detach();
}

/// Waits until all threads have ended, or one has failed.
async fn join(threads: Vec<oneshot::Receiver<io::Result<()>>>) -> Result<(), RunError> {
    let mut ends = tokio::task::JoinSet::new();
    for end in threads {
        ends.spawn(end);
    }
    while let Some(end) = ends.join_next().await {
        match end {
            Ok(Ok(result)) => result.map_err(RunError::Thread)?,
            // The sender was dropped without a word: the thread unwound.
            Ok(Err(_)) | Err(_) => return Err(RunError::Panicked),
        }
    }
    Ok(())
}
