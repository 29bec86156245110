//! A run on several nodes: the coordinator's side.
//!
//! Each node runs its part of a trial by the code that runs a whole one on one machine
//! ([`part`]); the coordinator takes all of them through the same steps, merges what they
//! measured and folds it as if it had been measured here ([`convert::merge`]).
//!
//! | module | job |
//! |---|---|
//! | [`roles`] | which node does what |
//! | [`engine`] | starts and ends agents |
//! | [`fleet`] | all agents, led through the same steps |
//! | [`trial`] | one trial, step by step |
//! | [`part`] | the agent's side |
//! | [`prepare`] | what nodes have to know before the first trial |
//! | [`convert`] | what is sent, and how parts become a whole |
//! | [`files`] | the files that a scenario names, on nodes |
//! | [`bills`] | what targets cost |

mod bills;
mod convert;
mod engine;
mod files;
mod fleet;
mod part;
mod prepare;
mod roles;
mod trial;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use agents::{
    coordinator::{Coordinator, Obstacle},
    wire,
};
pub(crate) use engine::TOKEN_VARIABLE;
use engine::{Running, Start};
use fleet::Fleet;
use generator::clock::monotonic_ns;
use measure::{
    nodes::{Cluster, NodeSetup},
    record::{Environment, LeftOut, RunRecord},
    warning::Warning,
};
pub(crate) use part::Agent;
use roles::{Capacity, Roles};
use scenario::{Engine, Library, Network, Scenario, Setting};

use super::{Request, doubts};
use crate::{exit::Failure, interrupt, lab::Certificates, peers::ReadyPeer, service::OwnService};

/// Losses of nodes after which a run ends with what it has.
const MOST_LOSSES: u32 = 3;

/// What the user asked for of several nodes.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) engine: Engine,
    pub(crate) nodes: usize,
    pub(crate) hosts: Vec<String>,
    /// Where agents find the coordinator; by its host name where that is not said.
    pub(crate) coordinator: Option<(String, u16)>,
    pub(crate) join_timeout: Duration,
    /// Most calls of a trial that are shipped one by one.
    pub(crate) ship_calls: u64,
    /// From which the scenario was made, so that nodes make the same one.
    pub(crate) short: bool,
    pub(crate) settings: Vec<Setting>,
}

/// The nodes of a run, and what leads them.
pub(super) struct Nodes<'a> {
    wanted: &'a Wanted,
    /// The user's own service, where that is called.
    service: Option<&'a OwnService>,
    prepare: wire::Prepare,
    minutes: u64,
    roles: Roles,
    build: String,
    /// `None` once too many were lost.
    fleet: Option<Fleet>,
    setups: Vec<NodeSetup>,
    found: Vec<wire::Prepared>,
    losses: u32,
    began: Instant,
}

impl<'a> Nodes<'a> {
    /// Starts an agent on each node and tells all of them what will be run.
    ///
    /// # Errors
    /// When the scenario can't be run so, or the nodes are not there or not alike.
    pub(super) fn start(
        request: &'a Request,
        wanted: &'a Wanted,
        library: &Library,
        certificates: Option<&Certificates>,
    ) -> Result<Self, Failure> {
        let scenario = &request.scenario;
        check(scenario)?;
        let place = if request.targets.is_some() { Roles::of_targets } else { Roles::of };
        let roles = place(&scenario.nodes, wanted.nodes, scenario.backends.len())
            .map_err(Failure::bad_input)?;
        check_quota(scenario, &roles)?;
        let program = crate::peers::loadgen_program().map_err(Failure::lab)?;
        let build = agents::build_of(&program).map_err(Failure::lab)?;
        let mut nodes = Self {
            wanted,
            service: request.service.as_ref(),
            prepare: prepare::sent(request, wanted, library, certificates)?,
            minutes: engine::minutes(scenario.planned()),
            roles,
            build,
            fleet: None,
            setups: Vec::new(),
            found: Vec::new(),
            losses: 0,
            began: Instant::now(),
        };
        nodes.join()?;
        nodes.setups = nodes.describe()?;
        nodes.check_servers(request)?;
        Ok(nodes)
    }

    /// Starts agents, waits for them, and has them prepare.
    fn join(&mut self) -> Result<(), Failure> {
        let wanted = self.wanted;
        let (host, listen) = place(wanted)?;
        let coordinator = Coordinator::listen(listen, wanted.nodes, &self.build, monotonic_ns)
            .map_err(Failure::lab)?;
        let token = coordinator.token().to_string();
        let mut running = Running::start(&Start {
            engine: &wanted.engine,
            hosts: &wanted.hosts,
            nodes: wanted.nodes,
            join: (&host, coordinator.address().port()),
            token: &token,
            minutes: self.minutes,
        })?;
        let obstacle = || {
            let ended = running.ended().map(Obstacle::EngineEnded);
            ended.or_else(|| interrupt::interrupted().then_some(Obstacle::Interrupted))
        };
        let joined = coordinator.wait(wanted.nodes, wanted.join_timeout, obstacle);
        let nodes = match joined {
            Ok(nodes) => nodes,
            Err(error) => {
                running.stop();
                return Err(Failure::lab(error));
            }
        };
        let fleet = Fleet::new(nodes, running, coordinator);
        self.found = fleet.prepare(&self.prepare)?;
        self.fleet = Some(fleet);
        Ok(())
    }

    /// Whether the user's own servers can be started where backends run.
    fn check_servers(&self, request: &Request) -> Result<(), Failure> {
        let missing = |node: &usize| !self.found[*node].no_servers.is_empty();
        match self.roles.of_backends().find(missing) {
            Some(node) => Err(super::in_file(
                request,
                &format!("{} (on n{node}, {})", self.found[node].no_servers, self.host(node)),
            )),
            None => Ok(()),
        }
    }

    /// The nodes as they stand in the record.
    fn describe(&self) -> Result<Vec<NodeSetup>, Failure> {
        let mut machines: Vec<&str> = Vec::new();
        let nodes = self.fleet.iter().flat_map(|fleet| &fleet.nodes).enumerate();
        nodes
            .map(|(index, node)| {
                let hello = node.hello();
                let machine = machines.iter().position(|known| *known == hello.machine);
                let machine = machine.unwrap_or_else(|| {
                    machines.push(&hello.machine);
                    machines.len() - 1
                });
                let environment: Environment = serde_json::from_str(&hello.environment_json)
                    .map_err(|error| Failure::lab(format!("{}: {error}", hello.host)))?;
                Ok(NodeSetup {
                    name: format!("n{index}"),
                    host: hello.host.clone(),
                    machine: u32::try_from(machine).unwrap_or(u32::MAX),
                    roles: self.roles.names(index),
                    environment,
                })
            })
            .collect()
    }

    /// Puts the nodes into the record of the run, in place of what it says of a run on this
    /// machine.
    pub(super) fn describe_in(&self, record: &mut RunRecord) {
        let cluster =
            Cluster { engine: self.wanted.engine.name.clone(), nodes: self.setups.clone() };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (nodes, machines) = (number(cluster.nodes.len()), number(cluster.machines()));
        let is_of_here = |warning: &Warning| {
            matches!(warning, Warning::HighLoadAverage { .. } | Warning::SharedCpus { .. })
        };
        record.warnings.retain(|warning| !is_of_here(warning));
        if machines < nodes {
            record.warnings.push(Warning::SharedMachine { nodes, machines });
        } else {
            record.environment.placement.clear();
        }
        record.warnings.extend(cluster.nodes.iter().filter_map(doubts::of_node));
        record.cluster = Some(cluster);
    }

    /// The peers that can be run, in the versions that the nodes have.
    ///
    /// # Errors
    /// When nodes have different ones.
    pub(super) fn peers(
        &self,
        scenario: &Scenario,
        library: &Library,
    ) -> Result<(Vec<ReadyPeer>, Vec<LeftOut>), Failure> {
        let (mut ready, mut left_out) = (Vec::new(), Vec::new());
        for name in &scenario.peers {
            match self.version(name)? {
                Ok(version) => {
                    let peer = library.peer(name).map_err(Failure::bad_input)?;
                    let mut all_tls = scenario.all_tls().into_iter();
                    let speaks = all_tls.try_for_each(|tls| peer.check_tls(tls));
                    speaks.map_err(Failure::bad_input)?;
                    ready.push(ReadyPeer { peer, program: None, version, external: None });
                }
                Err(reason) => left_out.push(LeftOut { peer: name.clone(), reason }),
            }
        }
        Ok((ready, left_out))
    }

    /// The version of a peer where the balancer runs, or why it can't be run there. Another
    /// version on another node is a node that was not set up like the others.
    fn version(&self, peer: &str) -> Result<Result<Option<String>, String>, Failure> {
        let found = |node: usize| self.found[node].peers.iter().find(|one| one.name == peer);
        let mut version = None;
        for node in self.roles.of_balancers() {
            let Some(here) = found(node) else {
                return Err(Failure::lab(format!("n{node} knows no peer {peer}")));
            };
            if let Some(reason) = &here.missing {
                return Ok(Err(format!("on n{node}: {reason}")));
            }
            version.clone_from(&here.version);
        }
        let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
        for node in 0..self.found.len() {
            let version = found(node).filter(|one| one.missing.is_none());
            if let Some(version) = version.and_then(|one| one.version.as_deref()) {
                versions.entry(version).or_insert(node);
            }
        }
        if versions.len() > 1 {
            let each: Vec<String> = versions
                .iter()
                .map(|(version, node)| format!("{version} on n{node} ({})", self.host(*node)))
                .collect();
            return Err(Failure::bad_input(format!(
                "nodes have different versions of {peer}: {}; install the same one on all",
                each.join(", ")
            )));
        }
        Ok(Ok(version))
    }

    fn host(&self, node: usize) -> &str {
        self.setups.get(node).map_or("unknown", |setup| &setup.host)
    }

    fn capacity(&self) -> Vec<Capacity> {
        let on_machine = |machine: u32| {
            let nodes = self.setups.iter().filter(|node| node.machine == machine);
            u32::try_from(nodes.count()).unwrap_or(u32::MAX)
        };
        let capacity = |node: &NodeSetup| Capacity {
            cpus: node.environment.cpus,
            on_machine: on_machine(node.machine),
        };
        self.setups.iter().map(capacity).collect()
    }

    /// Starts anew after a node was lost. Says why not, where that is no use any more.
    fn recover(&mut self) -> Result<(), String> {
        self.fleet = None;
        self.losses += 1;
        if self.losses >= MOST_LOSSES {
            return Err(format!("nodes were lost {} times, so the run ends here", self.losses));
        }
        self.join().map_err(|failure| failure.message)
    }
}

/// Where agents are told to go, and where the coordinator listens for them.
fn place(wanted: &Wanted) -> Result<(String, SocketAddr), Failure> {
    let anywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match &wanted.coordinator {
        Some((host, port)) => {
            // An address of this machine is listened at; a name may stand for another's, as
            // a service's does, and leads here.
            let own = host.parse::<IpAddr>().map(|host| SocketAddr::new(host, *port));
            Ok((host.clone(), own.unwrap_or_else(|_| anywhere(*port))))
        }
        None if wanted.engine.each_node && !wanted.engine.needs_hosts() => {
            let loopback = Ipv4Addr::LOCALHOST;
            Ok((loopback.to_string(), SocketAddr::from((loopback, 0))))
        }
        None => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            Ok((host, anywhere(0)))
        }
    }
}

/// What can't be run on several nodes, with what can be done about it.
fn check(scenario: &Scenario) -> Result<(), Failure> {
    let reason = if scenario.network != Network::Loopback {
        "it has `network = \"namespaces\"`, which are of one machine; use network=loopback, which \
         stands for the network between the nodes"
    } else if scenario.zones.is_some() {
        "it has `[zones]`, which nodes are not told of; simulate it, or run it on one machine"
    } else if scenario.all_points().iter().any(|point| point.load.client.is_program()) {
        "its calls are made by a program, which nodes do not have; use --set load.client=wire"
    } else {
        return Ok(());
    };
    Err(Failure::bad_input(format!(
        "scenario {} can't be run on several nodes: {reason}",
        scenario.name
    )))
}

/// A quota holds the balancers of one node, and is not divided over several.
fn check_quota(scenario: &Scenario, roles: &Roles) -> Result<(), Failure> {
    let has_quota = scenario.all_points().iter().any(|point| point.proxy_quota.is_some());
    if has_quota && roles.of_balancers().count() > 1 {
        return Err(Failure::bad_input(format!(
            "scenario {}: `placement.proxy_quota` is what all balancers may use together, and \
             `nodes.balancers` has them on several nodes; name one node, or take the quota out",
            scenario.name
        )));
    }
    Ok(())
}
