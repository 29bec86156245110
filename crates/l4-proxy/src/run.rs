//! Starting the threads, ending them, and what lies between a caller's
//! asynchronous world and theirs.

use std::{
    collections::HashSet,
    io,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
};

use balance::BalanceError;
use event_loop::Acceptor;
use rustix::net::sockopt;
use serve::{BindOptions, Shutdown, admin::Backends, health, json_lines::Writer};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    config::Config,
    connection_log::ConnectionLog,
    counts::Counts,
    error::Error,
    fleet::Fleet,
    shared::{Command, Shared},
    table::{Rules, Table},
    upstreams::Upstream,
    worker::Worker,
};

/// A proxy that is set up and does not serve yet.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    shared: Arc<Shared>,
    fleet: Arc<Fleet>,
}

impl Proxy {
    /// Sets a proxy up.
    ///
    /// # Errors
    /// When the backends can't be balanced over, or descriptors are missing.
    pub fn new(config: Config) -> Result<Self, Error> {
        let metrics = &config.metrics;
        let mut seen = HashSet::new();
        if let Some(twice) = config.backends.iter().find(|one| !seen.insert(one.address)) {
            return Err(BalanceError::Duplicate(twice.address.to_string()).into());
        }
        let members: Vec<_> =
            config.backends.iter().map(|one| Upstream::new(one, metrics, None)).collect();
        let rules = Rules::of(&config);
        let table = Table::new(&rules, &members, None)?;
        let shared = Arc::new(Shared::new(&config, table).map_err(Error::Start)?);
        register_gauges(&config, &shared);
        let (metrics, close) = (config.metrics.clone(), config.close_drained);
        let fleet = Arc::new(Fleet::new(Arc::clone(&shared), metrics, rules, close, members));
        Ok(Self { config, shared, fleet })
    }

    /// Its backends, to be seen and changed while it runs.
    pub fn backends(&self) -> Arc<dyn Backends> {
        Arc::clone(&self.fleet) as Arc<dyn Backends>
    }

    /// Serves `listener` until `shutdown` says otherwise, and returns when
    /// every connection has ended.
    ///
    /// The bytes are moved by [`Config::threads`] threads of the proxy's own;
    /// the future only waits for them, and checks the backends' health. When
    /// the listener has SO_REUSEPORT, each further thread gets a listener of
    /// its own on the same address, otherwise all share the one given. When
    /// `shutdown` drains, no more connections are taken and those that are
    /// open may finish; when it terminates, what is left is reset. Dropping
    /// the future terminates too.
    ///
    /// # Errors
    /// When the listener or a thread can't be set up or breaks later. No
    /// client or backend can cause one.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
        let Self { config, shared, fleet } = self;
        let acceptors = acceptors(listener, &config).map_err(Error::Listener)?;
        let (threads, mut ended) =
            Threads::start(&shared, acceptors, &config).map_err(Error::Start)?;
        // Ended with this set, however this future ends.
        let mut checks = JoinSet::new();
        if let Some(health) = config.health.clone() {
            checks.spawn(health::watch(fleet, health, shutdown.clone()));
        }
        let (mut drain, mut termination) = (shutdown.clone(), shutdown);
        let mut is_draining = false;
        loop {
            tokio::select! {
                result = ended.recv() => match result {
                    // All threads have ended and been counted.
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Err(Error::Thread(error)),
                },
                () = drain.draining(), if !is_draining => {
                    is_draining = true;
                    tracing::info!("drain started");
                    threads.tell(|| Command::Drain);
                }
                () = termination.terminated() => {
                    tracing::info!("drain ended by force");
                    threads.tell(|| Command::Terminate);
                    break;
                }
            }
        }
        // Joins the threads: by now they end without waiting for anybody.
        drop(threads);
        tracing::info!("drained");
        Ok(())
    }
}

/// Sets a proxy up and runs it: [`Proxy::new`] and [`Proxy::run`] in one, for
/// those who don't change its backends.
///
/// # Errors
/// As these two.
pub async fn run(listener: TcpListener, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    Proxy::new(config)?.run(listener, shutdown).await
}

fn register_gauges(config: &Config, shared: &Arc<Shared>) {
    let gauge = |name, help, value: fn(&Shared) -> usize| {
        let weak = Arc::downgrade(shared);
        let read = move || weak.upgrade().map_or(0.0, |shared| value(&shared) as f64);
        config.metrics.gauge_fn(name, help, &[], read);
    };
    gauge("l4_connections_open", "Connections open now.", Shared::open);
    gauge("l4_pipes_open", "Pipes for splicing that exist now.", |shared| shared.pipes.open());
}

/// One acceptor for each thread.
fn acceptors(listener: TcpListener, config: &Config) -> io::Result<Vec<Acceptor>> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let has_own = sockopt::socket_reuseport(&listener)?;
    let mut listeners = vec![listener];
    while listeners.len() < config.threads.get() {
        listeners.push(if has_own {
            serve::bind(address, BindOptions { reuse_port: true, ..BindOptions::default() })?
        } else {
            listeners[0].try_clone()?
        });
    }
    let acceptor = |listener| Ok(Acceptor::new(listener, config.keepalive)?);
    listeners.into_iter().map(acceptor).collect()
}

/// The running threads. Dropping them cuts their connections off and waits
/// for their end.
struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Ends once the threads, which have the logs, are joined.
    _log_writer: Option<Writer>,
}

impl Threads {
    /// Starts a thread for each acceptor. The receiver gives one result a thread
    /// and then ends.
    fn start(
        shared: &Arc<Shared>,
        acceptors: Vec<Acceptor>,
        config: &Config,
    ) -> io::Result<(Self, mpsc::Receiver<io::Result<()>>)> {
        let (end, ended) = mpsc::channel(acceptors.len());
        let start = || ConnectionLog::start(io::stdout(), &config.metrics);
        let (log, _log_writer) = config.log_connections.then(start).transpose()?.unzip();
        let mut threads = Self { shared: Arc::clone(shared), handles: Vec::new(), _log_writer };
        for (me, acceptor) in acceptors.into_iter().enumerate() {
            let counts = Counts::register(&config.metrics);
            let seed = seed();
            let worker = Worker::new(Arc::clone(shared), me, acceptor, counts, log.clone(), seed)?;
            let end = end.clone();
            let name = format!("l4-{me}");
            threads.handles.push(std::thread::Builder::new().name(name).spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| worker.run()));
                // A panic has told the rest on standard error.
                let result = result.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
                // The channel has room for one result a thread.
                let _ = end.try_send(result);
            })?);
        }
        Ok((threads, ended))
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in self.shared.threads.mailboxes() {
            mailbox.send(command());
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.tell(|| Command::Terminate);
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

/// Different in each thread and each process: proxies that draw the same
/// numbers would pile onto the same backends.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
