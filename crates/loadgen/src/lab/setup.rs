//! What a trial needs started, and what it is started with.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use generator::client::Trust;
use rustix::process::Signal;
use scenario::Ready;

use super::{Launch, LaunchError, READY_TIMEOUT, probe::Port, tap::TapSetup};
use crate::service::OwnService;

/// How long one call may take on a machine that does other things too, beside the
/// service time.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A proxy ready to be started, once its addresses are known.
#[derive(Clone, Debug)]
pub(crate) struct ProxyLaunch {
    pub(crate) launch: Launch,
    /// Configuration files to write first, by path.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether the command sets the kernel up to be the proxy, and ends.
    pub(crate) in_kernel: bool,
    /// How it is told of other backends, if it can be.
    pub(crate) reload: Option<Reload>,
    /// Indices of the backends that it is told of.
    pub(crate) members: Vec<usize>,
}

/// How a proxy is told that its files are new, and what shows that it has heard.
#[derive(Clone, Debug)]
pub(crate) struct Reload {
    pub(crate) how: ReloadHow,
    /// A page with the address of every backend it knows.
    pub(crate) lists: String,
}

/// What tells a proxy that its files are new.
#[derive(Clone, Debug)]
pub(crate) enum ReloadHow {
    /// It watches them.
    Watches,
    Signal(Signal),
    Command(Launch),
}

/// Where a proxy stands, and between whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    /// Which of so many balancers it is, from zero.
    pub(crate) number: usize,
    pub(crate) of: usize,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where it answers questions about itself.
    pub(crate) admin: SocketAddr,
    /// Addresses of all backends.
    pub(crate) backends: &'a [SocketAddr],
    /// Indices of those there are to choose from.
    pub(crate) members: &'a [usize],
    /// Where its files are.
    pub(crate) dir: &'a Path,
}

/// How a proxy is started at a site.
pub(crate) type ProxySetup<'a> = dyn Fn(&Site<'_>) -> Result<ProxyLaunch, LaunchError> + 'a;

/// A backend that is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackendPlace<'a> {
    pub(crate) index: usize,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where each of them listens for the others, if they do.
    pub(crate) cluster: &'a [SocketAddr],
}

/// What of a trial runs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which backends.
    pub(crate) backends: Vec<bool>,
    /// Which balancers, where the peer has any.
    pub(crate) balancers: Vec<bool>,
    pub(crate) generator: bool,
}

impl Part {
    /// All of it.
    pub(crate) fn whole(backends: usize, balancers: usize) -> Self {
        Self { backends: vec![true; backends], balancers: vec![true; balancers], generator: true }
    }

    /// Whether a backend is on this machine.
    pub(crate) fn has_backends(&self) -> bool {
        self.backends.contains(&true)
    }

    /// Whether a balancer is.
    pub(crate) fn has_balancers(&self) -> bool {
        self.balancers.contains(&true)
    }
}

/// What a trial needs started. The closures are given addresses, because ports
/// are chosen anew for each trial and each attempt.
pub(crate) struct Setup<'a> {
    pub(crate) part: Part,
    pub(crate) network: scenario::Network,
    /// Links that take time.
    pub(crate) links: &'a scenario::Links,
    /// Where everyone is, where there are zones.
    pub(crate) zones: Option<&'a scenario::Zones>,
    /// What all chance of the network is by.
    pub(crate) seed: u64,
    /// Whether there is a name that stands for the backends, for clients that resolve one.
    pub(crate) has_name: bool,
    /// How many balancers there are, where the peer has any.
    pub(crate) balancers: usize,
    /// How fast each backend is made to work.
    pub(crate) speeds: Vec<f64>,
    /// Which backends there are to choose from at first.
    pub(crate) members: Vec<bool>,
    /// What a backend may spend on a call that it gets alone.
    pub(crate) slow_call: Duration,
    /// The user's own service, where that is what is called.
    pub(crate) service: Option<&'a OwnService>,
    /// What shows that a backend is ready, and how long it may take to start.
    pub(crate) ready: Ready,
    pub(crate) ready_within: Duration,
    /// Whom to trust on the way to the balancer, and to backends; `None` where that is
    /// in plain text.
    pub(crate) to_balancer: Option<Arc<Trust>>,
    pub(crate) to_backends: Option<Arc<Trust>>,
    /// Ids of the backends.
    pub(crate) ids: Vec<String>,
    /// Where the user's own servers run already; `None` where `backend` says how one is
    /// started.
    pub(crate) running: Option<&'a [String]>,
    pub(crate) backend: &'a dyn Fn(&BackendPlace<'_>) -> Result<Launch, LaunchError>,
    /// `None` where there is no tap before a backend.
    pub(crate) tap: Option<&'a TapSetup<'a>>,
    /// The CPU time that the proxy may use, in cores.
    pub(crate) proxy_quota: Option<f64>,
    /// `None` for a peer without a process.
    pub(crate) proxy: Option<&'a ProxySetup<'a>>,
}

impl Setup<'_> {
    pub(super) fn backend_port(&self, address: SocketAddr) -> Port<'_> {
        Port {
            address,
            authority: None,
            trust: self.to_backends.as_deref(),
            service: self.service,
            ids: &self.ids,
            ready: self.ready,
            start_timeout: self.ready_within,
            call_timeout: CALL_TIMEOUT + self.slow_call,
        }
    }

    /// The way through a proxy is shown by a call, however its backends show that they
    /// are ready: one that accepts need not know them yet.
    pub(super) fn proxy_port(&self, address: SocketAddr) -> Port<'_> {
        self.port_of_ours(address, self.to_balancer.as_deref())
    }

    pub(super) fn tap_port(&self, address: SocketAddr) -> Port<'_> {
        self.port_of_ours(address, self.to_backends.as_deref())
    }

    fn port_of_ours<'a>(&'a self, address: SocketAddr, trust: Option<&'a Trust>) -> Port<'a> {
        Port {
            address,
            authority: None,
            trust,
            service: self.service,
            ids: &self.ids,
            ready: Ready::Call,
            start_timeout: READY_TIMEOUT,
            call_timeout: CALL_TIMEOUT + self.slow_call,
        }
    }
}
