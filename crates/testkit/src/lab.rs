//! Backends and proxies in this process, on port 0 of the loopback address.
//!
//! Each runs on a thread and a runtime of its own, so that a test's runtime can
//! be busy or gone without changing what a server does, and so that dropping a
//! server can wait for its end: nothing outlives its test.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use balance::PolicyKind;
use echo_backend::Backend;
use echo_proto::v1::echo_client::EchoClient;
use l7_proxy::DataPlane;
use serve::{BindOptions, Metrics, Shutdown, ShutdownTrigger, admin::Backends};
use tonic::transport::{Channel, Endpoint};

use crate::{PATIENCE, await_that, within};

/// The largest message that clients made here take.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A server on a thread of its own. Dropping it cuts it off and waits for its
/// end.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    trigger: ShutdownTrigger,
    metrics: Metrics,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Server {
    /// Runs `serve` on a new thread until it ends.
    fn start<F, E>(
        addr: SocketAddr,
        metrics: Metrics,
        serve: impl FnOnce(Shutdown) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), E>>,
        E: std::error::Error,
    {
        let (trigger, shutdown) = Shutdown::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(shutdown)).map_err(|error| error.to_string())
        });
        Self { addr, trigger, metrics, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What begins and ends its drain.
    pub fn trigger(&self) -> &ShutdownTrigger {
        &self.trigger
    }

    /// Whether it still serves.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until it has ended of itself, which a drain makes it do.
    ///
    /// # Panics
    /// When it failed, or does not end.
    pub async fn ended(&mut self) {
        await_that("a server to end", || !self.is_running()).await;
        self.join();
    }

    /// The sum over all series of a metric whose line begins like this; zero
    /// when there is none yet.
    ///
    /// # Panics
    /// When the exposition is malformed.
    pub fn metric(&self, beginning: &str) -> f64 {
        let text = self.metrics.expose();
        let lines = text.lines().filter(|line| line.starts_with(beginning));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// All metrics as text, for messages of failed tests.
    pub fn metrics_text(&self) -> String {
        self.metrics.expose()
    }

    /// Waits until a metric (see [`Server::metric`]) satisfies a condition.
    ///
    /// # Panics
    /// When it does not come to.
    pub async fn await_metric(&self, beginning: &str, holds: impl Fn(f64) -> bool) {
        await_that(beginning, || holds(self.metric(beginning))).await;
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let result = thread.join();
        // A second panic while unwinding would abort and hide the first.
        if !std::thread::panicking() {
            result.expect("a server panicked").expect("a server failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.trigger.terminate();
        let begun = Instant::now();
        while self.is_running() {
            if begun.elapsed() > PATIENCE {
                eprintln!("a server did not end after it was terminated");
                std::process::abort();
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        self.join();
    }
}

/// A listening socket on a free port.
fn listener() -> TcpListener {
    serve::bind((Ipv4Addr::LOCALHOST, 0).into(), BindOptions::default()).unwrap()
}

/// An echo backend.
#[derive(Debug)]
pub struct EchoBackend {
    server: Server,
    backend: Backend,
}

impl EchoBackend {
    /// A backend that answers at once.
    pub fn start(id: &str) -> Self {
        Self::start_with(echo_backend::Config::new(id))
    }

    /// A backend as configured.
    pub fn start_with(config: echo_backend::Config) -> Self {
        Self::start_on(listener(), config)
    }

    /// A backend at this address, which another one may have had before.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn start_at(addr: SocketAddr, config: echo_backend::Config) -> Self {
        Self::start_on(serve::bind(addr, BindOptions::default()).unwrap(), config)
    }

    fn start_on(listener: TcpListener, config: echo_backend::Config) -> Self {
        let addr = listener.local_addr().unwrap();
        let metrics = config.metrics.clone();
        // A backend belongs to the runtime it is made on.
        let (made, make) = mpsc::channel();
        let server = Server::start(addr, metrics, async move |shutdown| {
            let backend = Backend::new(config)?;
            made.send(backend.clone()).unwrap();
            backend.run(listener, shutdown).await
        });
        let backend = make.recv_timeout(PATIENCE).expect("the backend starts");
        Self { server, backend }
    }

    /// What runs it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What runs it, to wait for its end.
    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Its counts.
    pub fn counters(&self) -> &echo_backend::counters::Counters {
        self.backend.counters()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }
}

/// An L7 proxy of one thread: the attacker of a test and those it must not
/// harm share it.
///
/// # Panics
/// When no port is free.
pub fn start_l7(config: l7_proxy::Config) -> Server {
    start_l7_fleet(config).0
}

/// The same, with a hold on its backends.
///
/// # Panics
/// When no port is free, or the backends can't be balanced over.
pub fn start_l7_fleet(config: l7_proxy::Config) -> (Server, Arc<dyn Backends>) {
    let listener = listener();
    let addr = listener.local_addr().unwrap();
    let metrics = config.metrics.clone();
    let proxy = l7_proxy::Proxy::new(config).unwrap();
    let backends = proxy.backends();
    let serve = move |shutdown| proxy.run(vec![listener], shutdown);
    (Server::start(addr, metrics, serve), backends)
}

/// An L4 proxy.
///
/// # Panics
/// When no port is free.
pub fn start_l4(config: l4_proxy::Config) -> Server {
    let listener = listener();
    let addr = listener.local_addr().unwrap();
    let metrics = config.metrics.clone();
    Server::start(addr, metrics, move |shutdown| l4_proxy::run(listener, config, shutdown))
}

/// The default configuration of an L7 proxy over these backends, but that the
/// first call goes to the first of them.
pub fn l7_config(plane: DataPlane, backends: &[SocketAddr]) -> l7_proxy::Config {
    let backends = backends.iter().map(|addr| l7_proxy::BackendConfig::new(*addr)).collect();
    let mut config = l7_proxy::Config::new(backends, PolicyKind::RoundRobin);
    config.data_plane = plane;
    config.seed = 0;
    config
}

/// The default configuration of an L4 proxy over these backends, but that the
/// first connection goes to the first of them.
pub fn l4_config(backends: &[SocketAddr]) -> l4_proxy::Config {
    let backends = backends.iter().map(|addr| l4_proxy::BackendConfig::new(*addr)).collect();
    l4_proxy::Config { seed: 0, ..l4_proxy::Config::new(backends) }
}

/// Echo backends behind an L7 proxy.
pub struct Lab {
    /// First, so that it is dropped first: backends that go before their proxy
    /// are a test of their own.
    pub l7: Server,
    /// The proxy's backends as an operator sees and changes them.
    pub fleet: Arc<dyn Backends>,
    /// Named `b0`, `b1` and so on.
    pub backends: Vec<EchoBackend>,
}

impl Lab {
    /// `count` backends that answer at once, behind a proxy with defaults.
    pub fn start(plane: DataPlane, count: usize) -> Self {
        Self::start_with(plane, count, |_| {})
    }

    /// The same with changes to the proxy's configuration.
    pub fn start_with(
        plane: DataPlane,
        count: usize,
        change: impl FnOnce(&mut l7_proxy::Config),
    ) -> Self {
        let backends = (0..count).map(|index| EchoBackend::start(&format!("b{index}"))).collect();
        Self::over(plane, backends, change)
    }

    /// A proxy over these backends.
    pub fn over(
        plane: DataPlane,
        backends: Vec<EchoBackend>,
        change: impl FnOnce(&mut l7_proxy::Config),
    ) -> Self {
        let addrs: Vec<_> = backends.iter().map(EchoBackend::addr).collect();
        let mut config = l7_config(plane, &addrs);
        change(&mut config);
        let (l7, fleet) = start_l7_fleet(config);
        Self { l7, fleet, backends }
    }

    /// A client of the proxy, on one connection of its own.
    pub async fn client(&self) -> EchoClient<Channel> {
        client(self.l7.addr()).await
    }

    /// Calls that the backends have begun, over all of them.
    pub fn calls_started(&self) -> u64 {
        self.backends.iter().map(|backend| backend.counters().started()).sum()
    }

    /// Calls that run at the backends now.
    pub fn calls_in_flight(&self) -> i64 {
        self.backends.iter().map(|backend| backend.counters().in_flight()).sum()
    }
}

/// A tonic client: one connection, made anew when it ends.
///
/// # Panics
/// When nobody listens there.
pub async fn client(addr: SocketAddr) -> EchoClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let channel = within("a connection", endpoint.connect()).await.unwrap();
    echo_client(channel)
}

/// The echo client over a channel, with room for large messages.
pub fn echo_client(channel: Channel) -> EchoClient<Channel> {
    EchoClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}
