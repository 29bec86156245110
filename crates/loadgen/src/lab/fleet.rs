//! The balancers of a peer: one, or several that share the client connections.
//!
//! Each is launched and probed by itself and has a folder and addresses of its own. What
//! they are told of backends that come and go, all of them are told, and it has been
//! heard when all of them show it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use measure::record::Side;

use super::{
    LabError, ProxyLaunch, ProxySetup, ReloadHow, Setup, Site, cannot_write,
    cost::Reading,
    network::{BalancerAddress, Network, Place},
    page,
    process::Process,
    quota::Quota,
    wait_ready, wait_until,
};

/// How long each step of a look at a balancer's page may take.
const PAGE_TIMEOUT: Duration = Duration::from_millis(200);

/// The balancers of a trial; none for a peer without any.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Where each of them listens, wherever it runs.
    addresses: Vec<SocketAddr>,
    /// Those that were started here.
    balancers: Vec<Balancer>,
    /// Commands that told them of other backends.
    reloads: Vec<Process>,
}

#[derive(Debug)]
struct Balancer {
    /// Which of all it is.
    number: usize,
    at: BalancerAddress,
    /// As it was started, or as it was told last.
    launch: ProxyLaunch,
    /// `None` where the kernel is the balancer.
    process: Option<Process>,
}

/// What a fleet is started with besides how each of it is started.
pub(super) struct Surroundings<'a> {
    pub(super) network: &'a Network,
    pub(super) backends: &'a [SocketAddr],
    /// Indices of the backends that there are to choose from.
    pub(super) members: &'a [usize],
    /// What holds them to a part of the CPU time, all together.
    pub(super) quota: Option<&'a Quota>,
    /// Where logs go.
    pub(super) dir: &'a Path,
}

impl Surroundings<'_> {
    /// How balancer number `number` is started or told.
    fn launch(
        &self,
        proxy: &ProxySetup<'_>,
        (number, of): (usize, usize),
        at: BalancerAddress,
    ) -> Result<ProxyLaunch, LabError> {
        let own = self.dir.join(format!("balancer-{number}"));
        let site = Site {
            number,
            of,
            listen: at.listen,
            admin: at.admin,
            backends: self.backends,
            members: self.members,
            dir: if of == 1 { self.dir } else { &own },
        };
        Ok(proxy(&site)?)
    }
}

impl Fleet {
    /// Starts a balancer at each address of this machine's part, and waits until a call
    /// through each succeeds.
    pub(super) fn start(
        setup: &Setup<'_>,
        proxy: &ProxySetup<'_>,
        at: &[BalancerAddress],
        around: &Surroundings<'_>,
    ) -> Result<Self, LabError> {
        let addresses = at.iter().map(|at| at.listen).collect();
        let mut fleet = Self { addresses, ..Self::default() };
        let all = at.iter().zip(&setup.part.balancers).enumerate();
        for (number, (&at_its, _)) in all.filter(|(_, (_, is_here))| **is_here) {
            let launch = around.launch(proxy, (number, at.len()), at_its)?;
            fleet.balancers.push(Balancer::start(number, launch, at_its, around)?);
        }
        for balancer in &mut fleet.balancers {
            let port = setup.proxy_port(balancer.at.listen);
            match &mut balancer.process {
                Some(process) => wait_ready(process, port, Side::Proxy, around.network)?,
                None => {
                    let name = &balancer.launch.launch.name;
                    wait_until(name, || None, port, Side::Proxy, around.network)?;
                }
            }
        }
        Ok(fleet)
    }

    /// Where each of them listens.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How the first of all was started, or told last, where it runs here.
    pub(super) fn first_launch(&self) -> Option<&ProxyLaunch> {
        let first = self.balancers.first().filter(|balancer| balancer.number == 0);
        first.map(|balancer| &balancer.launch)
    }

    /// Their processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.balancers.iter().filter_map(|balancer| balancer.process.as_ref())
    }

    /// Their processes, and those of commands that told them something.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        let balancers = self.balancers.iter_mut();
        balancers.filter_map(|balancer| balancer.process.as_mut()).chain(&mut self.reloads)
    }

    /// The first of them that has ended.
    pub(super) fn unexpected_exit(&mut self) -> Option<&mut Process> {
        let mut processes =
            self.balancers.iter_mut().filter_map(|balancer| balancer.process.as_mut());
        processes.find_map(|process| process.exited().is_some().then_some(process))
    }

    /// What each of their processes has spent so far.
    pub(super) fn read_costs(&mut self) -> Vec<Option<Reading>> {
        let balancers = self.balancers.iter_mut();
        balancers.filter_map(|balancer| Some(balancer.process.as_mut()?.read_cost())).collect()
    }

    /// Tells all of them that run here which backends there are.
    pub(super) fn notify(
        &mut self,
        proxy: &ProxySetup<'_>,
        around: &Surroundings<'_>,
    ) -> io::Result<()> {
        let of = self.addresses.len();
        for balancer in &mut self.balancers {
            let which = (balancer.number, of);
            balancer.launch = around.launch(proxy, which, balancer.at).map_err(io::Error::other)?;
            self.reloads.extend(balancer.notify(around)?);
        }
        Ok(())
    }

    /// Whether each one's page names the backends that it was told of and no other.
    pub(super) fn lists(&self, network: &Network, backends: &[SocketAddr]) -> bool {
        self.balancers.iter().all(|balancer| balancer.lists(network, backends))
    }
}

impl Balancer {
    fn start(
        number: usize,
        launch: ProxyLaunch,
        at: BalancerAddress,
        around: &Surroundings<'_>,
    ) -> Result<Self, LabError> {
        launch.write_files().map_err(|(path, error)| cannot_write(&path, error))?;
        let namespace = around.network.at(Place::Balancer(number));
        let name = &launch.launch.name;
        if launch.in_kernel && namespace.is_none() {
            return Err(LabError::NeedsNamespace(name.clone()));
        }
        let process = Process::start(&launch.launch, namespace, around.quota, around.dir)
            .map_err(|error| LabError::Start { name: name.clone(), error })?;
        let process = if launch.in_kernel {
            process.set_up()?;
            None
        } else {
            Some(process)
        };
        Ok(Self { number, at, launch, process })
    }

    /// Tells it what its files say now; returns the command that does, where one is.
    fn notify(&mut self, around: &Surroundings<'_>) -> io::Result<Option<Process>> {
        let (Some(reload), Some(process)) = (&self.launch.reload, &mut self.process) else {
            return Err(io::Error::other("the proxy can't be told of other backends"));
        };
        self.launch.write_files().map_err(|(_, error)| error)?;
        match &reload.how {
            ReloadHow::Watches => Ok(None),
            ReloadHow::Signal(signal) => process.signal(*signal).map(|()| None),
            ReloadHow::Command(launch) => {
                let namespace = around.network.at(Place::Balancer(self.number));
                Process::start(launch, namespace, None, around.dir).map(Some)
            }
        }
    }

    fn lists(&self, network: &Network, backends: &[SocketAddr]) -> bool {
        let Some(reload) = &self.launch.reload else { return false };
        let place = Place::Balancer(self.number);
        let looked = network.run_at(place, || page::get(&reload.lists, PAGE_TIMEOUT));
        let Ok(Ok(text)) = looked else { return false };
        let mut backends = backends.iter().enumerate();
        backends.all(|(index, address)| {
            page::names(&text, *address) == self.launch.members.contains(&index)
        })
    }
}

impl ProxyLaunch {
    fn write_files(&self) -> Result<(), (PathBuf, io::Error)> {
        for (path, text) in &self.files {
            let written = path.parent().map_or(Ok(()), fs::create_dir_all);
            written.and_then(|()| replace(path, text)).map_err(|error| (path.clone(), error))?;
        }
        Ok(())
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
