//! The lab: the processes of a trial, and what they cost.
//!
//! Every peer, ours or not, takes the same way: a network and addresses, launch
//! through the [`guard`], a readiness probe with a real call, cost readings, and
//! the end. A balancer in the kernel is launched and probed like the others; what
//! it has not got is a process to bill. One file, since all of it is the life of one [`Lab`].

mod bill;
mod certificates;
pub(crate) mod cost;
mod disturbance;
pub(crate) mod environment;
mod error;
mod fault;
mod fleet;
pub(crate) mod guard;
pub(crate) mod instructions;
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
mod ready;
pub(crate) mod reaper;
mod setup;
mod tap;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) use bill::Costs;
pub(crate) use certificates::{Certificates, private_folder};
pub(crate) use disturbance::Watch;
pub(crate) use error::{LabError, LaunchError};
pub(crate) use fault::{Faults, Means};
use fleet::{Fleet, Surroundings};
use instructions::Counters;
use measure::record::{LinksRecord, Side};
use meter::Meter;
pub(crate) use network::{Addresses, BalancerAddress, Network};
use network::{Namespace, Place};
use ports::Claim;
pub(crate) use process::{Launch, Process};
use quota::Quota;
pub(crate) use reach::{Way, reach, resolve};
use ready::{wait_ready, wait_until};
pub(crate) use setup::{
    BackendPlace, Part, ProxyLaunch, ProxySetup, Reload, ReloadHow, Setup, Site,
};
use tap::Tap;

/// How long processes of the lab and proxies may take from their start to a call that
/// succeeds, beside what calls take by themselves.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a start is tried when a port was taken in between.
const START_ATTEMPTS: usize = 3;

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
    /// What counts the instructions of the generator, and of each process that a meter reads,
    /// where anything does.
    generator_counters: Option<Counters>,
    metered_counters: Vec<Option<Counters>>,
    /// What holds the proxy, and so behind it.
    quota: Option<Quota>,
    /// After what runs in them, so that processes end before their namespaces are let go, and
    /// before other labs may have their ports.
    network: Network,
    _ports: Claim,
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
                zones: setup.zones,
                seed: setup.seed,
                dir,
            })?;
            let counts = (setup.members.len(), setup.balancers);
            let choose = || network.addresses(counts, setup.has_name);
            let shared = |addresses: &Addresses| match network {
                Network::Loopback => addresses.all().collect(),
                Network::Namespaces(_) => Vec::new(),
            };
            let (addresses, claim) = ports::claimed(choose, shared).map_err(LabError::Ports)?;
            match Self::start_once(setup, dir, network, &addresses, claim) {
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
            generator_counters: None,
            metered_counters: outside.meters.iter().map(Meter::counters).collect(),
            outside: Some(outside),
            quota: None,
            network: Network::Loopback,
            _ports: Claim::default(),
        }
    }

    fn start_once(
        setup: &Setup<'_>,
        dir: &Path,
        network: Network,
        addresses: &Addresses,
        claim: Claim,
    ) -> Result<Self, LabError> {
        let mut lab = Self::assemble(setup, dir, network, addresses, claim)?;
        lab.start_backends(setup)?;
        lab.start_balancers(setup, &addresses.balancers)?;
        lab.ask_service(setup)?;
        // Another program that has a port may have answered in place of what ended there.
        lab.unexpected_exit().map_or(Ok(lab), Err)
    }

    /// What is to be started, of which nothing runs yet. `claim` is on its addresses.
    pub(crate) fn assemble(
        setup: &Setup<'_>,
        dir: &Path,
        network: Network,
        addresses: &Addresses,
        claim: Claim,
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
        let tap = |place: BackendPlace<'_>| {
            Some((setup.tap?)(&place, addresses.backends[place.index]).map(Tap::new))
        };
        let taps: Result<Vec<Tap>, LaunchError> = places.filter_map(tap).collect();
        Ok(Self {
            part: setup.part.clone(),
            backends: (0..count).map(|_| None).collect(),
            taps: taps?,
            launches: launches?,
            ended_by_fault: vec![false; count],
            restarted: vec![false; count],
            speeds: setup.speeds.iter().map(|&now| Speed { now, at_first: now }).collect(),
            members: setup.members.clone(),
            dir: dir.to_owned(),
            fleet: Fleet::default(),
            backend_addresses: match (&running, setup.tap) {
                (Some(running), None) => running.clone(),
                _ => addresses.backends.clone(),
            },
            server_addresses,
            outside: None,
            generator_counters: None,
            metered_counters: Vec::new(),
            quota: setup.proxy_quota.map(Quota::new).transpose()?,
            network,
            _ports: claim,
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

    /// The network devices that client connections leave by, by the zones of clients.
    pub(crate) fn client_devices(&self) -> Vec<String> {
        self.network.client_devices()
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

    /// How the proxy was started; the first one, of several.
    pub(crate) fn proxy_launch(&self) -> Option<&ProxyLaunch> {
        self.fleet.first_launch()
    }

    /// Says which process is gone, if one is that should not be.
    pub(crate) fn unexpected_exit(&mut self) -> Option<LabError> {
        let backends = self
            .backends
            .iter_mut()
            .zip(&self.ended_by_fault)
            .filter(|(_, ended)| !**ended)
            .filter_map(|(process, _)| Some((Side::Backend, process.as_mut()?)));
        let taps = self.taps.iter_mut().zip(&self.ended_by_fault).filter(|(_, ended)| !**ended);
        let taps = taps.filter_map(|(tap, _)| Some((Side::Lab, tap.process_mut()?)));
        let lost = backends.chain(taps).find_map(|(side, process)| {
            process.exited().map(|_| LabError::Ended { side, exit_report: process.exit_report() })
        });
        let lost = lost.or_else(|| {
            let exit_report = self.fleet.unexpected_exit()?.exit_report();
            Some(LabError::Ended { side: Side::Proxy, exit_report })
        });
        lost.or_else(|| {
            let relay = self.network.relay_mut()?;
            relay.exited()?;
            Some(LabError::Ended { side: Side::Lab, exit_report: relay.exit_report() })
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

/// Where servers that run already are now.
fn resolve_all(authorities: &[String]) -> Result<Vec<SocketAddr>, LabError> {
    let one = |authority: &String| {
        let resolved = resolve(authority).map(|addresses| addresses[0]);
        resolved.map_err(|error| LabError::Resolve { authority: authority.clone(), error })
    };
    authorities.iter().map(one).collect()
}

fn cannot_write(path: &Path, error: io::Error) -> LabError {
    LabError::Write { path: path.to_owned(), error }
}
