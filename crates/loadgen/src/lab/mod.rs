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
mod fleet;
pub(crate) mod guard;
mod machine;
pub(crate) mod meter;
pub(crate) mod network;
mod page;
pub(crate) mod placement;
pub(crate) mod ports;
mod probe;
mod process;
pub(crate) mod quota;
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

pub(crate) use certificates::{Certificates, private_folder};
pub(crate) use disturbance::Watch;
use error::Obituary;
pub(crate) use error::{LabError, LaunchError};
pub(crate) use fault::{Faults, Means};
use fleet::{Fleet, Surroundings};
use generator::client::Trust;
use measure::record::{LinksRecord, MachineCost, ProcessCost, ProcessRole, Side};
use meter::Meter;
pub(crate) use network::{Addresses, BalancerAddress, Network};
use network::{Namespace, Place};
use probe::{NotReady, Port};
pub(crate) use process::{Launch, Process};
use quota::Quota;
pub(crate) use reach::{Way, reach, resolve};
use rustix::process::Signal;
use scenario::Ready;
use tap::{Tap, TapSetup};

use crate::service::OwnService;

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
    fleet: Fleet,
    /// Where backends are called.
    backend_addresses: Vec<SocketAddr>,
    /// Where their servers listen: elsewhere, where there are taps.
    server_addresses: Vec<SocketAddr>,
    outside: Option<Outside>,
    /// What holds the proxy, and so behind it.
    quota: Option<Quota>,
    /// Last, so that processes end before their namespaces are let go.
    network: Network,
}

impl Lab {
    /// Starts everything and waits until a call through each backend, and
    /// through the proxy, succeeds. Work files and logs go to `dir`.
    pub(crate) fn start(setup: &Setup<'_>, dir: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(dir).map_err(|error| cannot_write(dir, error))?;
        let mut attempt = 1;
        loop {
            let network = Network::make(&network::Plan {
                kind: setup.network,
                backends: setup.members.len(),
                links: setup.links,
                seed: setup.seed,
                dir,
            })?;
            let counts = (setup.members.len(), setup.balancers);
            let addresses = network.addresses(counts, setup.has_name);
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
            part: Part::whole(0, 0),
            backends: Vec::new(),
            taps: Vec::new(),
            launches: Vec::new(),
            ended_by_fault: Vec::new(),
            restarted: Vec::new(),
            speeds: Vec::new(),
            members: Vec::new(),
            dir: dir.to_owned(),
            fleet: Fleet::default(),
            backend_addresses: Vec::new(),
            server_addresses: Vec::new(),
            outside: Some(outside),
            quota: None,
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
        lab.start_balancers(setup, &addresses.balancers)?;
        lab.ask_service(setup)?;
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
        let running = setup.running.map(resolve_all).transpose()?;
        let server_addresses = match (&running, setup.tap) {
            (Some(running), _) => running.clone(),
            (None, Some(_)) => addresses.tapped.clone(),
            (None, None) => addresses.backends.clone(),
        };
        let cluster = addresses.cluster.as_slice();
        let places = server_addresses.iter().enumerate();
        let places = places.map(|(index, &listen)| BackendPlace { index, listen, cluster });
        let started = if running.is_some() { 0 } else { count };
        let launches: Result<Vec<Launch>, _> =
            places.clone().take(started).map(|place| (setup.backend)(&place)).collect();
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
            fleet: Fleet::default(),
            backend_addresses: match (&running, setup.tap) {
                (Some(running), None) => running.clone(),
                _ => addresses.backends.clone(),
            },
            server_addresses,
            outside: None,
            quota: setup.proxy_quota.map(Quota::new).transpose()?,
            network,
        })
    }

    /// Starts the backends that run here, and waits until each answers a call.
    pub(crate) fn start_backends(&mut self, setup: &Setup<'_>) -> Result<(), LabError> {
        if setup.running.is_some() {
            for (id, &address) in setup.ids.iter().zip(&self.server_addresses) {
                let port = setup.backend_port(address);
                wait_until(id, || None, port, Side::Backend, &self.network)?;
            }
        }
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
            if self.part.backends[index] {
                self.start_tap(index)?;
            }
        }
        for (tap, &address) in self.taps.iter_mut().zip(&self.backend_addresses) {
            let Some(process) = tap.process_mut() else { continue };
            wait_ready(process, setup.tap_port(address), Side::Lab, &self.network)?;
        }
        Ok(())
    }

    /// Starts the balancers that run here, once all backends answer.
    pub(crate) fn start_balancers(
        &mut self,
        setup: &Setup<'_>,
        addresses: &[BalancerAddress],
    ) -> Result<(), LabError> {
        let Some(proxy) = setup.proxy else { return Ok(()) };
        let members = self.members();
        let around = Surroundings {
            network: &self.network,
            backends: &self.backend_addresses,
            members: &members,
            dir: &self.dir,
            quota: self.quota.as_ref(),
        };
        self.fleet = Fleet::start(setup, proxy, addresses, &around)?;
        Ok(())
    }

    /// Asks a backend for the interface of the user's service, where nothing that was started
    /// here had to be called: the load is made of it. All backends answer.
    pub(crate) fn ask_service(&self, setup: &Setup<'_>) -> Result<(), LabError> {
        let is_unknown = setup.service.is_some_and(|service| service.calls().is_none());
        let first = setup.ids.first().zip(self.backend_addresses.first());
        let Some((id, &address)) = first.filter(|_| is_unknown) else { return Ok(()) };
        wait_until(id, || None, setup.tap_port(address), Side::Backend, &self.network)
    }

    fn start_at(&self, launch: &Launch, place: Place) -> Result<Process, LabError> {
        Process::start(launch, self.network.at(place), None, &self.dir)
            .map_err(|error| LabError::Start { name: launch.name.clone(), error })
    }

    fn start_tap(&mut self, index: usize) -> Result<(), LabError> {
        let (tap, namespace) = (&mut self.taps[index], self.network.at(Place::Backend(index)));
        tap.start(namespace, &self.dir)
            .map_err(|error| LabError::Start { name: tap.name().to_owned(), error })
    }

    /// Where each balancer listens; nowhere for a peer without any.
    pub(crate) fn balancer_addresses(&self) -> &[SocketAddr] {
        self.fleet.addresses()
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

    /// How the proxy was started; the first one, of several.
    pub(crate) fn proxy_launch(&self) -> Option<&ProxyLaunch> {
        self.fleet.first_launch()
    }

    /// The taps of this machine's backends.
    fn taps_here(&self) -> impl Iterator<Item = &Tap> {
        let taps = self.taps.iter().zip(&self.part.backends);
        taps.filter(|(_, is_here)| **is_here).map(|(tap, _)| tap)
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
        let lost = backends.chain(taps).find_map(|(side, process)| {
            process.exited().map(|_| LabError::Ended { side, obituary: process.obituary() })
        });
        let lost = lost.or_else(|| {
            let obituary = self.fleet.casualty()?.obituary();
            Some(LabError::Ended { side: Side::Proxy, obituary })
        });
        lost.or_else(|| {
            let relay = self.network.relay_mut()?;
            relay.exited()?;
            Some(LabError::Ended { side: Side::Lab, obituary: relay.obituary() })
        })
    }

    /// Has the relay of links that take time say what it did since it was last asked.
    pub(crate) fn ask_links(&mut self) {
        self.network.ask();
    }

    /// What came out of links that take time, where there are any: of pings before the trial,
    /// and between the last two times that was asked.
    pub(crate) fn links_record(&self) -> Option<LinksRecord> {
        self.network.record()
    }

    /// Reads what everything has spent so far.
    pub(crate) fn read_costs(&self) -> Costs {
        let read = |process: &Process| cost::read_tree(process.pid());
        Costs {
            generator: cost::read_self().filter(|_| self.part.generator),
            fleet: self.fleet.read_costs(),
            backends: self.backends.iter().flatten().map(read).collect(),
            taps: self.taps_here().map(|tap| tap.process().and_then(read)).collect(),
            links: self.network.relay().and_then(read),
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
        add(ProcessRole::Links, "links", before.links, after.links);
        // A part of what it cost is not its cost.
        let all = before.metered.iter().chain(&after.metered).all(Option::is_some);
        if let Some(outside) = self.outside.as_ref().filter(|_| all) {
            for (before, after) in before.metered.iter().zip(&after.metered) {
                add(ProcessRole::Proxy, &outside.name, *before, *after);
            }
        }
        // What some of them cost is not what the balancers or the backends cost: where one
        // can't be told, because it ended or was another process before, none is.
        let names = self.fleet.processes().map(Process::name);
        let fleet = (ProcessRole::Proxy, names.collect(), &before.fleet, &after.fleet);
        let names = self.backends.iter().flatten().map(Process::name);
        let backends = (ProcessRole::Backend, names.collect(), &before.backends, &after.backends);
        let names = self.taps_here().map(Tap::name);
        let taps = (ProcessRole::Tap, names.collect(), &before.taps, &after.taps);
        let parts: [(_, Vec<&str>, _, _); 3] = [fleet, backends, taps];
        for (role, names, before, after) in parts {
            let all = before.iter().chain(after).all(Option::is_some);
            let is_restarted = role != ProcessRole::Proxy && self.restarted.contains(&true);
            if !all || is_restarted {
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
        let backends = self.backends.iter_mut().flatten();
        let mut processes: Vec<&mut Process> =
            self.fleet.processes_mut().chain(taps).chain(backends).collect();
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
    fleet: Vec<Option<cost::Reading>>,
    backends: Vec<Option<cost::Reading>>,
    taps: Vec<Option<cost::Reading>>,
    links: Option<cost::Reading>,
    metered: Vec<Option<cost::Reading>>,
    machine: machine::MachineReading,
}

/// Where servers that run already are now.
fn resolve_all(authorities: &[String]) -> Result<Vec<SocketAddr>, LabError> {
    let one = |authority: &String| {
        let resolved = resolve(authority).map(|addresses| addresses[0]);
        resolved.map_err(|error| LabError::Resolve { authority: authority.clone(), error })
    };
    authorities.iter().map(one).collect()
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

fn cannot_write(path: &Path, error: io::Error) -> LabError {
    LabError::Write { path: path.to_owned(), error }
}
