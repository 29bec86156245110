//! A proxy in this process, and peers whose every move the test decides.
//!
//! Sockets are blocking, with a bound on every wait: a test that waits for
//! something that never comes fails, and says what it waited for.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file is a crate of its own and uses a part of it"
)]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use l4_proxy::{BackendConfig, Config, DataPlane, Error};
use serve::{BindOptions, ShutdownTrigger, admin::Backends};
use socket2::SockRef;

/// The bound on every wait. Far above what anything takes, since the machine
/// may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that runs in this process until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) trigger: ShutdownTrigger,
    metrics: serve::Metrics,
    backends: Option<Arc<dyn Backends>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Proxy {
    pub(crate) fn start(config: Config) -> Self {
        let options =
            BindOptions { reuse_port: config.threads.get() > 1, ..BindOptions::default() };
        let listener = serve::bind((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap();
        Self::start_on(listener, config)
    }

    pub(crate) fn start_on(listener: TcpListener, config: Config) -> Self {
        Self::start_until(listener, config, serve::Shutdown::channel())
    }

    /// Starts one whose end may have begun.
    pub(crate) fn start_until(
        listener: TcpListener,
        config: Config,
        (trigger, shutdown): (ShutdownTrigger, serve::Shutdown),
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let metrics = config.metrics.clone();
        let proxy = l4_proxy::Proxy::new(config);
        let backends = proxy.as_ref().ok().map(l4_proxy::Proxy::backends);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(proxy?.run(listener, shutdown))
        });
        Self { address, trigger, metrics, backends, thread: Some(thread) }
    }

    /// Its backends, to be changed.
    pub(crate) fn backends(&self) -> &dyn Backends {
        self.backends.as_deref().unwrap()
    }

    /// A client's connection through the proxy.
    pub(crate) fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect(self.address).unwrap())
    }

    /// The sum over all series of a metric whose line begins like this, which
    /// must be there once the proxy has started.
    pub(crate) fn metric(&self, beginning: &str) -> f64 {
        let mut sum = None;
        await_that(&format!("a metric that begins with {beginning}"), || {
            let text = self.metrics.expose();
            let lines = text.lines().filter(|line| line.starts_with(beginning));
            let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            sum = lines.map(value).reduce(|a, b| a + b);
            sum.is_some()
        });
        sum.unwrap()
    }

    /// Waits until a metric has a value.
    pub(crate) fn await_metric(&self, beginning: &str, value: f64) {
        await_that(&format!("{beginning} to be {value}"), || self.metric(beginning) == value);
    }

    /// Waits for the end of `run`.
    pub(crate) fn join(&mut self) -> Result<(), Error> {
        let thread = self.thread.take().unwrap();
        await_that("the proxy to end", || thread.is_finished());
        thread.join().unwrap()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.trigger.terminate();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}

/// A backend that does nothing by itself.
pub(crate) struct Backend {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Backend {
    pub(crate) fn start() -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next connection that the proxy opened.
    pub(crate) fn accept(&self) -> TcpStream {
        let mut accepted = None;
        await_that("a connection at the backend", || {
            accepted = self.try_accept();
            accepted.is_some()
        });
        accepted.unwrap()
    }

    pub(crate) fn try_accept(&self) -> Option<TcpStream> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                Some(bounded(stream))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the backend can't accept: {error}"),
        }
    }
}

/// An address where nobody listens, and nobody will while it is held.
pub(crate) struct DeadAddress {
    _socket: socket2::Socket,
    pub(crate) address: SocketAddr,
}

impl DeadAddress {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        // Bound and not listening: connections are refused, and the port stays
        // taken.
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { _socket: socket, address }
    }
}

/// A listener whose queue is full, so that the kernel ignores further
/// connections: the one way to make a connect hang on loopback.
pub(crate) struct SilentAddress {
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
    pub(crate) address: SocketAddr,
}

impl SilentAddress {
    pub(crate) fn new() -> Self {
        let listener = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = (0..2)
            .map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok())
            .collect();
        Self { _listener: listener, _queued: queued, address }
    }
}

pub(crate) fn config(plane: DataPlane, backends: &[SocketAddr]) -> Config {
    Config {
        data_plane: plane,
        // The first connection goes to the first backend.
        seed: 0,
        ..Config::new(backends.iter().map(|address| BackendConfig::new(*address)).collect())
    }
}

/// Makes a test of each function for each data plane, which it takes as its
/// argument.
macro_rules! on_every_plane {
    ($($name:ident,)*) => {
        mod copy {
            $(#[test] fn $name() { super::$name(l4_proxy::DataPlane::Copy); })*
        }
        mod splice {
            $(#[test] fn $name() { super::$name(l4_proxy::DataPlane::Splice); })*
        }
        mod auto {
            $(#[test] fn $name() { super::$name(l4_proxy::DataPlane::Auto); })*
        }
        #[test]
        fn every_data_plane_is_tested() {
            assert_eq!(l4_proxy::DataPlane::ALL.len(), 3);
        }
    };
}
pub(crate) use on_every_plane;

pub(crate) fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Closes a socket with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn end(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Waits for a condition that another thread brings about.
pub(crate) fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What a socket shows next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// Reads once, up to `most` bytes.
pub(crate) fn see(stream: &mut TcpStream, most: usize) -> Seen {
    let mut buffer = vec![0; most];
    match stream.read(&mut buffer) {
        Ok(0) => Seen::End,
        Ok(length) => {
            buffer.truncate(length);
            Seen::Bytes(buffer)
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Seen::Reset,
        Err(error) => panic!("reading failed: {error}"),
    }
}

/// Asserts that the next bytes are these.
pub(crate) fn expect_bytes(stream: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(found, expected);
}

/// Sends bytes there and sees them arrive.
pub(crate) fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    expect_bytes(to, bytes);
}

/// Writes without waiting until the kernel takes no more for a while; the
/// bytes written. For a peer that does not read.
pub(crate) fn fill(stream: &mut TcpStream, most: usize) -> io::Result<usize> {
    let chunk = [0x5a; 64 << 10];
    let mut written = 0;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    while written < most {
        match stream.write(&chunk[..chunk.len().min(most - written)]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(written)
}
