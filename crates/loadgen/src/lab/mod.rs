//! The lab: the processes of a trial, and what they cost.
//!
//! Every peer, ours or not, takes the same way: a network and addresses, launch
//! through the [`guard`], a readiness probe with a real call, cost readings, and
//! the end. A balancer in the kernel is launched and probed like the others; what
//! it has not got is a process to bill.

mod certificates;
pub(crate) mod cost;
mod disturbance;
pub(crate) mod environment;
mod error;
mod fault;
pub(crate) mod guard;
mod machine;
pub(crate) mod meter;
pub(crate) mod names;
pub(crate) mod network;
mod page;
pub(crate) mod placement;
pub(crate) mod ports;
mod probe;
mod process;
mod reach;
pub(crate) mod reaper;
mod tap;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) use certificates::Certificates;
pub(crate) use disturbance::Watch;
use error::Obituary;
pub(crate) use error::{LabError, LaunchError};
pub(crate) use fault::{Faults, Means};
use measure::record::{MachineCost, ProcessCost, ProcessRole, Side};
use meter::Meter;
pub(crate) use network::{Addresses, Network};
use network::{Namespace, Place};
use probe::{NotReady, Port};
pub(crate) use process::{Launch, Process};
pub(crate) use reach::{Way, reach};
use rustix::process::Signal;
use scenario::Ready;
use tap::{Tap, TapSetup};

use crate::{drive::client::Trust, service::OwnService};

/// How long processes of the lab and proxies may take from their start to a call that
/// succeeds, beside what calls take by themselves.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call may take on a machine that does other things too, beside the
/// service time.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a start is tried when a port was taken in between.
const START_ATTEMPTS: usize = 3;

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
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where it answers questions about itself.
    pub(crate) admin: SocketAddr,
    /// Addresses of all backends.
    pub(crate) backends: &'a [SocketAddr],
    /// Indices of those it is to know.
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
    pub(crate) balancer: bool,
    pub(crate) generator: bool,
}

impl Part {
    /// All of it.
    pub(crate) fn whole(backends: usize) -> Self {
        Self { backends: vec![true; backends], balancer: true, generator: true }
    }
}

/// What a trial needs started. The closures are given addresses, because ports
/// are chosen anew for each trial and each attempt.
pub(crate) struct Setup<'a> {
    pub(crate) part: Part,
    pub(crate) network: scenario::Network,
    /// Whether there is a name that stands for the backends, for clients that resolve one.
    pub(crate) has_name: bool,
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
    pub(crate) backend: &'a dyn Fn(&BackendPlace<'_>) -> Result<Launch, LaunchError>,
    /// `None` where there is no tap before a backend.
    pub(crate) tap: Option<&'a TapSetup<'a>>,
    /// `None` for a peer without a process.
    pub(crate) proxy: Option<&'a ProxySetup<'a>>,
}

impl Setup<'_> {
    fn backend_port(&self, address: SocketAddr) -> Port<'_> {
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
    fn proxy_port(&self, address: SocketAddr) -> Port<'_> {
        self.port_of_ours(address, self.to_balancer.as_deref())
    }

    fn tap_port(&self, address: SocketAddr) -> Port<'_> {
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

/// How fast a backend works.
#[derive(Clone, Copy, Debug)]
struct Speed {
    now: f64,
    at_first: f64,
}

/// What somebody else started: a balancer, or a service.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    /// What it is called beside other peers.
    pub(crate) name: String,
    /// What calls name it by.
    pub(crate) authority: String,
    /// What that stands for now; never empty.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What reads its cost, where anything does.
    pub(crate) meters: Vec<Meter>,
}

/// The running processes of one trial.
#[derive(Debug)]
pub(crate) struct Lab {
    part: Part,
    /// `None` for those on other nodes.
    backends: Vec<Option<Process>>,
    /// Before each backend, where nothing else tells from which an answer comes.
    taps: Vec<Tap>,
    /// How each backend was started, to start it again.
    launches: Vec<Launch>,
    /// Backends that are gone because a fault ended them.
    ended_by_fault: Vec<bool>,
    /// Backends that were started again, whose costs are those of two processes.
    restarted: Vec<bool>,
    /// How fast each backend works now, and did when it was started.
    speeds: Vec<Speed>,
    /// Which backends there are to choose from now.
    members: Vec<bool>,
    /// Where logs go.
    dir: PathBuf,
    /// `None` also where the kernel is the proxy.
    proxy: Option<Process>,
    /// Where backends are called.
    backend_addresses: Vec<SocketAddr>,
    /// Where their servers listen: elsewhere, where there are taps.
    server_addresses: Vec<SocketAddr>,
    proxy_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    /// Commands that told the proxy of other backends.
    reloads: Vec<Process>,
    proxy_launch: Option<ProxyLaunch>,
    outside: Option<Outside>,
    /// Last, so that processes end before their namespaces are let go.
    network: Network,
}

impl Lab {
    /// Starts everything and waits until a call through each backend, and
    /// through the proxy, succeeds. Work files and logs go to `dir`.
    pub(crate) fn start(setup: &Setup<'_>, dir: &Path) -> Result<Self, LabError> {
        let mut attempt = 1;
        loop {
            let network = Network::make(setup.network, setup.members.len())?;
            let addresses = network.addresses(setup.members.len(), setup.has_name);
            let addresses = addresses.map_err(LabError::Ports)?;
            match Self::start_once(setup, dir, network, &addresses) {
                Err(LabError::Ended { .. })
                    if attempt < START_ATTEMPTS && addresses.all().any(ports::is_taken) =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// No process at all: what is driven was started by somebody else.
    pub(crate) fn without_processes(dir: &Path, outside: Outside) -> Self {
        Self {
            part: Part::whole(0),
            backends: Vec::new(),
            taps: Vec::new(),
            launches: Vec::new(),
            ended_by_fault: Vec::new(),
            restarted: Vec::new(),
            speeds: Vec::new(),
            members: Vec::new(),
            dir: dir.to_owned(),
            proxy: None,
            backend_addresses: Vec::new(),
            server_addresses: Vec::new(),
            proxy_address: None,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            reloads: Vec::new(),
            proxy_launch: None,
            outside: Some(outside),
            network: Network::Loopback,
        }
    }

    fn start_once(
        setup: &Setup<'_>,
        dir: &Path,
        network: Network,
        addresses: &Addresses,
    ) -> Result<Self, LabError> {
        let mut lab = Self::assemble(setup, dir, network, addresses)?;
        lab.start_backends(setup)?;
        lab.start_balancer(setup, addresses.balancer)?;
        Ok(lab)
    }

    /// What is to be started, of which nothing runs yet.
    pub(crate) fn assemble(
        setup: &Setup<'_>,
        dir: &Path,
        network: Network,
        addresses: &Addresses,
    ) -> Result<Self, LabError> {
        fs::create_dir_all(dir).map_err(|error| cannot_write(dir, error))?;
        let count = setup.members.len();
        let server_addresses = match setup.tap {
            Some(_) => addresses.tapped.clone(),
            None => addresses.backends.clone(),
        };
        let cluster = addresses.cluster.as_slice();
        let places = server_addresses.iter().enumerate();
        let places = places.map(|(index, &listen)| BackendPlace { index, listen, cluster });
        let launches: Result<Vec<Launch>, _> =
            places.clone().map(|place| (setup.backend)(&place)).collect();
        let taps: Result<Vec<Tap>, LaunchError> = match setup.tap {
            None => Ok(Vec::new()),
            Some(tap) => places
                .map(|place| Ok(Tap::new(tap(&place, addresses.backends[place.index])?)))
                .collect(),
        };
        Ok(Self {
            part: setup.part.clone(),
            backends: (0..count).map(|_| None).collect(),
            taps: taps?,
            launches: launches?,
            ended_by_fault: vec![false; count],
            restarted: vec![false; count],
            speeds: setup
                .speeds
                .iter()
                .map(|&speed| Speed { now: speed, at_first: speed })
                .collect(),
            members: setup.members.clone(),
            dir: dir.to_owned(),
            proxy: None,
            backend_addresses: addresses.backends.clone(),
            server_addresses,
            proxy_address: None,
            admin_address: addresses.admin,
            reloads: Vec::new(),
            proxy_launch: None,
            outside: None,
            network,
        })
    }

    /// Starts the backends that run here, and waits until each answers a call.
    pub(crate) fn start_backends(&mut self, setup: &Setup<'_>) -> Result<(), LabError> {
        for index in 0..self.launches.len() {
            if self.part.backends[index] {
                let process = self.start_at(&self.launches[index], Place::Backend(index))?;
                self.backends[index] = Some(process);
            }
        }
        for (process, &address) in self.backends.iter_mut().zip(&self.server_addresses) {
            let Some(process) = process else { continue };
            wait_ready(process, setup.backend_port(address), Side::Backend, &self.network)?;
        }
        for index in 0..self.taps.len() {
            self.start_tap(index)?;
        }
        for (tap, &address) in self.taps.iter_mut().zip(&self.backend_addresses) {
            let Some(process) = tap.process_mut() else { continue };
            wait_ready(process, setup.tap_port(address), Side::Lab, &self.network)?;
        }
        Ok(())
    }

    /// Starts the proxy, where there is one and it runs here, once all backends answer.
    pub(crate) fn start_balancer(
        &mut self,
        setup: &Setup<'_>,
        listen: SocketAddr,
    ) -> Result<(), LabError> {
        let Some(proxy) = setup.proxy else { return Ok(()) };
        if !self.part.balancer {
            self.proxy_address = Some(listen);
            return Ok(());
        }
        let proxy = proxy(&self.site(listen, &self.members()))?;
        self.start_proxy(proxy, setup.proxy_port(listen))
    }

    fn start_at(&self, launch: &Launch, place: Place) -> Result<Process, LabError> {
        Process::start(launch, self.network.at(place), &self.dir)
            .map_err(|error| LabError::Start { name: launch.name.clone(), error })
    }

    fn start_tap(&mut self, index: usize) -> Result<(), LabError> {
        let (tap, namespace) = (&mut self.taps[index], self.network.at(Place::Backend(index)));
        tap.start(namespace, &self.dir)
            .map_err(|error| LabError::Start { name: tap.name().to_owned(), error })
    }

    fn start_proxy(&mut self, proxy: ProxyLaunch, listen: Port<'_>) -> Result<(), LabError> {
        for (path, text) in &proxy.files {
            replace(path, text).map_err(|error| cannot_write(path, error))?;
        }
        if proxy.in_kernel && self.network.at(Place::Balancer).is_none() {
            return Err(LabError::NeedsNamespace(proxy.launch.name));
        }
        let mut process = self.start_at(&proxy.launch, Place::Balancer)?;
        if proxy.in_kernel {
            process.set_up()?;
            let name = &proxy.launch.name;
            wait_until(name, || None, listen, Side::Proxy, &self.network)?;
        } else {
            wait_ready(&mut process, listen, Side::Proxy, &self.network)?;
            self.proxy = Some(process);
        }
        self.proxy_address = Some(listen.address);
        self.proxy_launch = Some(proxy);
        Ok(())
    }

    /// Where the proxy listens, if there is one.
    pub(crate) fn proxy_address(&self) -> Option<SocketAddr> {
        self.proxy_address
    }

    fn site<'a>(&'a self, listen: SocketAddr, members: &'a [usize]) -> Site<'a> {
        Site {
            listen,
            admin: self.admin_address,
            backends: &self.backend_addresses,
            members,
            dir: &self.dir,
        }
    }

    /// Where each backend listens.
    pub(crate) fn backend_addresses(&self) -> &[SocketAddr] {
        &self.backend_addresses
    }

    /// Indices of the backends there are to choose from now.
    pub(crate) fn members(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, is_member)| **is_member).map(|(index, _)| index).collect()
    }

    /// The network namespace that client connections are made in; `None` for the
    /// lab's own.
    pub(crate) fn client_namespace(&self) -> Option<Arc<Namespace>> {
        self.network.client().map(Arc::clone)
    }

    /// What the lab did not start, where that is what is driven.
    pub(crate) fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.outside.iter().flat_map(|outside| &outside.meters)
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
            .filter_map(|(process, _)| Some((Side::Backend, process.as_mut()?)));
        let taps = self.taps.iter_mut().zip(&self.ended_by_fault).filter(|(_, ended)| !**ended);
        let taps = taps.filter_map(|(tap, _)| Some((Side::Lab, tap.process_mut()?)));
        let proxy = self.proxy.iter_mut().map(|process| (Side::Proxy, process));
        backends.chain(taps).chain(proxy).find_map(|(side, process)| {
            process.exited()?;
            Some(LabError::Ended { side, obituary: process.obituary() })
        })
    }

    /// Reads what everything has spent so far.
    pub(crate) fn read_costs(&self) -> Costs {
        let read = |process: &Process| cost::read_tree(process.pid());
        Costs {
            generator: cost::read_self().filter(|_| self.part.generator),
            proxy: self.proxy.as_ref().and_then(read),
            backends: self.backends.iter().flatten().map(read).collect(),
            taps: self.taps.iter().map(|tap| tap.process().and_then(read)).collect(),
            metered: self.meters().map(|meter| meter.read().ok()).collect(),
            machine: machine::read_machine(),
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
        // A part of what it cost is not its cost.
        let all = before.metered.iter().chain(&after.metered).all(Option::is_some);
        if let Some(outside) = self.outside.as_ref().filter(|_| all) {
            for (before, after) in before.metered.iter().zip(&after.metered) {
                add(ProcessRole::Proxy, &outside.name, *before, *after);
            }
        }
        // What some of them cost is not what the backends cost: where one can't be
        // told, because it ended or was another process before, none is.
        let names = self.backends.iter().flatten().map(Process::name);
        let backends = (ProcessRole::Backend, names.collect(), &before.backends, &after.backends);
        let names = self.taps.iter().map(Tap::name);
        let taps = (ProcessRole::Tap, names.collect(), &before.taps, &after.taps);
        let parts: [(_, Vec<&str>, _, _); 2] = [backends, taps];
        for (role, names, before, after) in parts {
            let all = before.iter().chain(after).all(Option::is_some);
            if !all || self.restarted.contains(&true) {
                continue;
            }
            for ((name, before), after) in names.into_iter().zip(before).zip(after) {
                add(role, name, *before, *after);
            }
        }
        let own_ns = costs.iter().map(|cost| cost.user_ns + cost.system_ns).sum();
        let machine = machine::machine_since(&after.machine, &before.machine, own_ns);
        (costs, machine)
    }

    /// Ends everything: all are asked first, then all are waited for, so that
    /// the slowest one's grace is the longest wait.
    pub(crate) fn stop(mut self) {
        let taps = self.taps.iter_mut().filter_map(Tap::process_mut);
        let others = self.backends.iter_mut().flatten().chain(&mut self.reloads);
        let mut processes: Vec<&mut Process> =
            self.proxy.iter_mut().chain(taps).chain(others).collect();
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
    taps: Vec<Option<cost::Reading>>,
    metered: Vec<Option<cost::Reading>>,
    machine: machine::MachineReading,
}

fn wait_ready(
    process: &mut Process,
    port: Port<'_>,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    let name = process.name().to_owned();
    let obituary = || process.exited().map(|_| process.obituary());
    wait_until(&name, obituary, port, side, network)
}

/// Waits until a call to `port` succeeds. `obituary` says how what should answer there
/// ended, if it has.
fn wait_until(
    name: &str,
    mut obituary: impl FnMut() -> Option<Obituary> + Send,
    port: Port<'_>,
    side: Side,
    network: &Network,
) -> Result<(), LabError> {
    // Time for a second call, where the first one drew a long service time.
    let waited = port.start_timeout + 2 * port.call_timeout;
    let mut ended = None;
    let probe = || {
        let gone = || {
            ended = obituary();
            ended.is_some()
        };
        probe::until_ready(port, waited, gone)
    };
    let ready = network
        .as_client(probe)
        .map_err(|error| LabError::CannotCall { name: name.to_owned(), error })?;
    match (ready, ended) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(obituary)) => Err(LabError::Ended { side, obituary }),
        (Err(NotReady::Refused(error)), None) => {
            Err(LabError::Refused { side, name: name.to_owned(), address: port.address, error })
        }
        (Err(NotReady::TimedOut(last)), None) => Err(LabError::NoAnswer {
            side,
            name: name.to_owned(),
            address: port.address,
            waited,
            last,
        }),
        (Err(NotReady::Interrupted | NotReady::Gone), None) => Err(LabError::Interrupted),
    }
}

/// Puts a file in place of the one that is there, in one step: whoever watches it
/// never sees half of it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, text)?;
    fs::rename(&name, path)
}

fn cannot_write(path: &Path, error: io::Error) -> LabError {
    LabError::Write { path: path.to_owned(), error }
}
