//! The lab: the processes of a trial, and what they cost.
//!
//! Every peer, ours or not, takes the same way: a network and addresses, launch
//! through the [`guard`], a readiness probe with a real call, cost readings, and
//! the end. A balancer in the kernel is launched and probed like the others; what
//! it has not got is a process to bill.

pub(crate) mod cost;
pub(crate) mod environment;
mod fault;
pub(crate) mod guard;
pub(crate) mod network;
pub(crate) mod placement;
mod ports;
mod probe;
mod process;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) use fault::Faults;
use measure::record::{MachineCost, ProcessCost, ProcessRole, Side};
use network::{Namespace, Network, Place};
pub(crate) use process::Launch;
use process::Process;

/// How long processes may take from their start to a call that comes back well.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a start is tried when a port was taken in between.
const START_ATTEMPTS: usize = 3;

/// Why a trial could not be run, and whose side that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabError {
    pub(crate) side: Side,
    pub(crate) message: String,
}

impl LabError {
    pub(crate) fn lab(message: impl Into<String>) -> Self {
        Self { side: Side::Lab, message: message.into() }
    }
}

/// A proxy ready to be started, once its addresses are known.
#[derive(Clone, Debug)]
pub(crate) struct ProxyLaunch {
    pub(crate) launch: Launch,
    /// Configuration files to write first, by path.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether the command sets the kernel up to be the proxy, and ends.
    pub(crate) in_kernel: bool,
}

/// What a trial needs started. The closures are given addresses, because ports
/// are chosen anew for each trial and each attempt.
pub(crate) struct Setup<'a> {
    pub(crate) network: scenario::Network,
    pub(crate) backend_ids: &'a [String],
    pub(crate) backend: &'a dyn Fn(usize, SocketAddr) -> Result<Launch, String>,
    /// `None` for a peer without a process.
    #[allow(
        clippy::type_complexity,
        reason = "one use, and its parts are named where it is built"
    )]
    pub(crate) proxy:
        Option<&'a dyn Fn(SocketAddr, &[SocketAddr], &Path) -> Result<ProxyLaunch, String>>,
}

/// The running processes of one trial.
#[derive(Debug)]
pub(crate) struct Lab {
    backends: Vec<Process>,
    /// How each backend was started, to start it again.
    launches: Vec<Launch>,
    /// Backends that are gone because a fault ended them.
    ended_by_fault: Vec<bool>,
    /// Where logs go.
    dir: PathBuf,
    /// `None` also where the kernel is the proxy.
    proxy: Option<Process>,
    backend_addresses: Vec<SocketAddr>,
    proxy_address: Option<SocketAddr>,
    proxy_launch: Option<ProxyLaunch>,
    /// Last, so that processes end before their namespaces are let go.
    network: Network,
}

impl Lab {
    /// Starts everything and waits until a call through each backend, and
    /// through the proxy, comes back well. Work files and logs go to `dir`.
    pub(crate) fn start(setup: &Setup<'_>, dir: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(dir)
            .map_err(|error| LabError::lab(format!("cannot make {}: {error}", dir.display())))?;
        let mut attempt = 1;
        loop {
            match Self::start_once(setup, dir) {
                Err(error) if attempt < START_ATTEMPTS && is_port_conflict(&error) => attempt += 1,
                other => return other,
            }
        }
    }

    fn start_once(setup: &Setup<'_>, dir: &Path) -> Result<Self, LabError> {
        let count = setup.backend_ids.len();
        let network = Network::make(setup.network, count).map_err(LabError::lab)?;
        let addresses = network
            .addresses(count)
            .map_err(|error| LabError::lab(format!("no free ports: {error}")))?;
        let mut lab = Self {
            backends: Vec::with_capacity(count),
            launches: Vec::with_capacity(count),
            ended_by_fault: vec![false; count],
            dir: dir.to_owned(),
            proxy: None,
            backend_addresses: addresses.backends.clone(),
            proxy_address: None,
            proxy_launch: None,
            network,
        };
        for (index, &address) in addresses.backends.iter().enumerate() {
            let launch = (setup.backend)(index, address).map_err(LabError::lab)?;
            lab.backends.push(lab.start_at(&launch, Place::Backend(index))?);
            lab.launches.push(launch);
        }
        for (process, &address) in lab.backends.iter_mut().zip(&addresses.backends) {
            wait_ready(process, address, Side::Backend, &lab.network)?;
        }
        if let Some(proxy) = setup.proxy {
            let proxy = proxy(addresses.balancer, &addresses.backends, dir);
            lab.start_proxy(proxy.map_err(LabError::lab)?, addresses.balancer)?;
        }
        Ok(lab)
    }

    fn start_at(&self, launch: &Launch, place: Place) -> Result<Process, LabError> {
        Process::start(launch, self.network.at(place), &self.dir)
            .map_err(|error| LabError::lab(format!("cannot start {}: {error}", launch.name)))
    }

    fn start_proxy(&mut self, proxy: ProxyLaunch, listen: SocketAddr) -> Result<(), LabError> {
        for (path, text) in &proxy.files {
            fs::write(path, text).map_err(|error| cannot_write(path, &error))?;
        }
        if proxy.in_kernel && self.network.at(Place::Balancer).is_none() {
            // It would change the rules of the whole machine.
            let name = &proxy.launch.name;
            return Err(LabError::lab(format!("{name} runs in a network namespace only")));
        }
        let mut process = self.start_at(&proxy.launch, Place::Balancer)?;
        if proxy.in_kernel {
            let failed = |message| LabError { side: Side::Proxy, message };
            process.set_up().map_err(failed)?;
            let name = &proxy.launch.name;
            wait_until(name, || None, listen, Side::Proxy, &self.network)?;
        } else {
            wait_ready(&mut process, listen, Side::Proxy, &self.network)?;
            self.proxy = Some(process);
        }
        self.proxy_address = Some(listen);
        self.proxy_launch = Some(proxy);
        Ok(())
    }

    /// Where client connection number `index` goes: to the proxy, or without
    /// one to each backend in turn.
    pub(crate) fn target(&self, index: usize) -> SocketAddr {
        self.proxy_address
            .unwrap_or_else(|| self.backend_addresses[index % self.backend_addresses.len()])
    }

    /// The network namespace that client connections are made in; `None` for the
    /// lab's own.
    pub(crate) fn client_namespace(&self) -> Option<Arc<Namespace>> {
        self.network.client().map(Arc::clone)
    }

    /// How the proxy was started.
    pub(crate) fn proxy_launch(&self) -> Option<&ProxyLaunch> {
        self.proxy_launch.as_ref()
    }

    /// Says which process is gone, if one is that should not be.
    pub(crate) fn casualty(&mut self) -> Option<LabError> {
        let backends = self
            .backends
            .iter_mut()
            .zip(&self.ended_by_fault)
            .filter(|(_, ended)| !**ended)
            .map(|(process, _)| (Side::Backend, process));
        let proxy = self.proxy.iter_mut().map(|process| (Side::Proxy, process));
        backends.chain(proxy).find_map(|(side, process)| {
            process.exited()?;
            Some(LabError { side, message: process.obituary() })
        })
    }

    /// Reads what everything has spent so far.
    pub(crate) fn read_costs(&self) -> Costs {
        Costs {
            generator: cost::read_self(),
            proxy: self.proxy.as_ref().and_then(|process| cost::read_tree(process.pid())),
            backends: self.backends.iter().map(|process| cost::read_tree(process.pid())).collect(),
            machine: cost::read_machine(),
        }
    }

    /// What everything spent between two readings.
    pub(crate) fn costs_between(
        &self,
        before: &Costs,
        after: &Costs,
    ) -> (Vec<ProcessCost>, MachineCost) {
        let mut costs = Vec::new();
        let mut add = |role, name: &str, before: Option<_>, after: Option<cost::Reading>| {
            if let (Some(before), Some(after)) = (before, after) {
                costs.push(after.since(&before, role, name));
            }
        };
        add(ProcessRole::Generator, "generator", before.generator, after.generator);
        if let Some(proxy) = &self.proxy {
            add(ProcessRole::Proxy, proxy.name(), before.proxy, after.proxy);
        }
        for ((process, before), after) in
            self.backends.iter().zip(&before.backends).zip(&after.backends)
        {
            add(ProcessRole::Backend, process.name(), *before, *after);
        }
        (costs, cost::machine_since(&after.machine, &before.machine))
    }

    /// Ends everything: all are asked first, then all are waited for, so that
    /// the slowest one's grace is the longest wait.
    pub(crate) fn stop(mut self) {
        let mut processes: Vec<&mut Process> =
            self.proxy.iter_mut().chain(&mut self.backends).collect();
        for process in &mut processes {
            process.ask_to_stop();
        }
        for process in &mut processes {
            process.finish();
        }
    }
}

/// One reading of everything.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    generator: Option<cost::Reading>,
    proxy: Option<cost::Reading>,
    backends: Vec<Option<cost::Reading>>,
    machine: MachineCost,
}

fn wait_ready(
    process: &mut Process,
    address: SocketAddr,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    let name = process.name().to_owned();
    let obituary = || process.exited().map(|_| process.obituary());
    wait_until(&name, obituary, address, side, network)
}

/// Waits until a call to `address` comes back well. `obituary` says how what
/// should answer there ended, if it has.
fn wait_until(
    name: &str,
    mut obituary: impl FnMut() -> Option<String> + Send,
    address: SocketAddr,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    let mut last = String::new();
    let mut ended = None;
    let probe = || {
        let gone = || {
            ended = obituary();
            ended.is_some()
        };
        probe::until_ready(address, READY_TIMEOUT, gone, &mut last)
    };
    let ready = network
        .as_client(probe)
        .map_err(|error| LabError::lab(format!("cannot call {name}: {error}")))?;
    match ready {
        probe::Ready::Yes => Ok(()),
        probe::Ready::Gone => Err(LabError { side, message: ended.unwrap_or_default() }),
        probe::Ready::TimedOut => Err(LabError {
            side,
            message: format!(
                "{name} at {address} gave no answer to a call within {} s: {last}",
                READY_TIMEOUT.as_secs()
            ),
        }),
        probe::Ready::Interrupted => Err(LabError::lab("interrupted while it started")),
    }
}

/// Somebody else took the port between its choice and the start.
fn is_port_conflict(error: &LabError) -> bool {
    let text = error.message.to_lowercase();
    text.contains("address already in use") || text.contains("address in use")
}

fn cannot_write(path: &Path, error: &io::Error) -> LabError {
    LabError::lab(format!("cannot write {}: {error}", path.display()))
}
