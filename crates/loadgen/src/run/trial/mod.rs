//! One trial: a peer under the scenario's load, from the start of its processes
//! to a record.
//!
//! A trial always ends in a record. What went wrong stands in it, with the side
//! it went wrong on, and the run goes on.

mod drive;
mod driven;
mod plans;
mod record;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agents::agent::Signals;
use generator::client::{Identity, Trust};
use jiff::Timestamp;
use measure::{
    calllog::CallLog,
    nodes::NodeTrial,
    record::{
        Disturbance, FaultRecord, LinksRecord, MachineCost, ProcessCost, Side, TrialOutcome,
        TrialRecord,
    },
};
use scenario::{Layer, Length, Ready, Scenario};
use units::duration::nanos;

pub(crate) use self::record::{Windows, tenths, weigh};
use super::{
    load::{self, Workers},
    setup,
};
use crate::{
    interrupt,
    lab::{
        BackendPlace, Certificates, Lab, LabError, LaunchError, Part, ProxyLaunch, READY_TIMEOUT,
        Setup, Site, placement::Cpus,
    },
    peers::{ReadyClient, ReadyPeer},
    service::OwnService,
};

/// How long calls may take after the last one was due, at least.
const LEAST_GRACE: Duration = Duration::from_secs(5);

/// What is to be run.
pub(crate) struct Trial<'a> {
    pub(crate) scenario: &'a Scenario,
    /// The point of the sweep that the scenario is, if it is one.
    pub(crate) point: Option<&'a str>,
    pub(crate) peer: &'a ReadyPeer,
    pub(crate) repeat: u32,
    pub(crate) order: u32,
    /// Where its processes write.
    pub(crate) dir: PathBuf,
}

impl Trial<'_> {
    /// How many balancers the lab starts.
    pub(super) fn balancers(&self) -> usize {
        if self.peer.is_started() { self.scenario.fleet.balancers as usize } else { 0 }
    }

    /// Says in its record what it was, and when.
    pub(super) fn describe(&self, record: &mut TrialRecord, started: Timestamp) {
        record.started_utc = utc(started);
        record.point = self.point.map(str::to_owned);
        record.payload_bytes = self.scenario.load.payload_bytes();
    }
}

/// A look at a trial that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TrialProgress {
    /// Processes are being started.
    Starting,
    /// The load runs.
    Running {
        /// Since the first call was due.
        elapsed: Duration,
        /// Calls that ended so far.
        ended: u64,
    },
}

/// A trial's record, and how its proxy was started.
pub(crate) struct Done {
    pub(crate) record: TrialRecord,
    pub(crate) proxy: Option<ProxyLaunch>,
    pub(crate) then: Then,
}

/// What a trial that went wrong means for those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    GoOn,
    /// A backend did not start, which every trial needs. Where it never did, it is no use
    /// to go on.
    EndIfFirst,
    /// A node was lost, which says nothing of the peer: it is to be repeated.
    Again,
    /// What is driven must not be called any more, or nothing is left to run trials on.
    End,
}

/// What a run needs from outside: trials, and whether there is time for more of them.
/// Tests have one that starts no process and keeps its own time.
pub(crate) trait RunTrial {
    /// Runs a trial; `look` is told how it goes.
    fn run(&mut self, trial: &Trial<'_>, on_progress: &mut dyn FnMut(TrialProgress)) -> Done;

    /// Whether the user asked to stop.
    fn is_interrupted(&self) -> bool;

    /// Time since the run began.
    fn elapsed(&self) -> Duration;
}

/// Runs trials with processes of their own.
pub(super) struct Processes<'a> {
    /// The user's own service, where that is called.
    service: Option<&'a OwnService>,
    /// The real clients that the run has.
    clients: Vec<ReadyClient>,
    /// What they speak TLS with, where they do.
    certificates: Option<Certificates>,
    /// Where they run.
    cpus: Cpus,
    /// The share of calls that may fail at what the lab did not start.
    max_errors: f64,
    began: Instant,
}

impl<'a> Processes<'a> {
    pub(super) fn new(
        service: Option<&'a OwnService>,
        clients: Vec<ReadyClient>,
        certificates: Option<Certificates>,
        cpus: Cpus,
        max_errors: f64,
    ) -> Self {
        Self { service, clients, certificates, cpus, max_errors, began: Instant::now() }
    }
}

impl RunTrial for Processes<'_> {
    fn run(&mut self, trial: &Trial<'_>, on_progress: &mut dyn FnMut(TrialProgress)) -> Done {
        let (certificates, cpus) = (self.certificates.as_ref(), &self.cpus);
        let (service, max_errors) = (self.service, self.max_errors);
        let name = trial.scenario.load.client.name();
        let client = self.clients.iter().find(|client| client.name == name);
        Attempt { trial, service, client, certificates, cpus, max_errors, here: None }
            .run(on_progress)
    }

    fn is_interrupted(&self) -> bool {
        interrupt::interrupted()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A trial with what its processes need.
pub(super) struct Attempt<'a> {
    pub(super) trial: &'a Trial<'a>,
    pub(super) service: Option<&'a OwnService>,
    /// The real client that makes the calls, where one does.
    pub(super) client: Option<&'a ReadyClient>,
    pub(super) certificates: Option<&'a Certificates>,
    pub(super) cpus: &'a Cpus,
    pub(super) max_errors: f64,
    /// `None` where all of it is done here.
    pub(super) here: Option<&'a Here<'a>>,
}

/// What of a trial is done here, where several nodes share it.
pub(super) struct Here<'a> {
    pub(super) part: Part,
    pub(super) workers: Workers,
    /// Whether other nodes are on this machine.
    pub(super) shares_machine: bool,
    /// What the coordinator wants of the trial.
    pub(super) signals: &'a Signals,
}

/// What a trial gave, before it is a record.
pub(super) struct Measured {
    /// Of each worker, in their order.
    pub(super) logs: Vec<CallLog>,
    /// Calls that found no room in them.
    pub(super) lost: u64,
    /// When it ended, by the trial's clock.
    pub(super) ended_ns: u64,
    /// When the last call had, likewise.
    pub(super) last_done_ns: u64,
    pub(super) processes: Vec<ProcessCost>,
    pub(super) machine: MachineCost,
    pub(super) outcome: TrialOutcome,
    pub(super) faults: Vec<FaultRecord>,
    pub(super) disturbance: Option<Disturbance>,
    /// What came out of links that take time.
    pub(super) links: Option<LinksRecord>,
    pub(super) then: Then,
    /// Of each node, where there are several.
    pub(super) nodes: Vec<NodeTrial>,
}

impl Attempt<'_> {
    fn run(&self, on_progress: &mut dyn FnMut(TrialProgress)) -> Done {
        let started = Timestamp::now();
        on_progress(TrialProgress::Starting);
        let mut done = match self.start_lab() {
            Ok(mut lab) => {
                let (record, then) = match self.measure(&mut lab, on_progress) {
                    Ok(measured) => (self.record(&measured), measured.then),
                    Err(error) => (self.failed(&error), Then::GoOn),
                };
                let proxy = lab.proxy_launch().cloned();
                lab.stop();
                Done { record, proxy, then }
            }
            Err(_) if interrupt::interrupted() => {
                let record = TrialRecord { outcome: TrialOutcome::Interrupted, ..self.blank() };
                Done { record, proxy: None, then: Then::GoOn }
            }
            Err(error) => {
                let is_backend = error.side() == Side::Backend;
                let then = if is_backend { Then::EndIfFirst } else { Then::GoOn };
                Done { record: self.failed(&error), proxy: None, then }
            }
        };
        self.trial.describe(&mut done.record, started);
        done
    }

    /// Every peer of a repeat gets the same load and the same backends.
    pub(super) fn seed(&self) -> u64 {
        load::seed_of_repeat(self.trial.scenario.seed, self.trial.repeat)
    }

    /// How answers of a user's service tell which backend they come from.
    pub(super) fn identity(&self) -> Option<Identity> {
        if self.has_taps() {
            return Some(Identity::Tap);
        }
        self.service.and_then(OwnService::identity)
    }

    fn has_taps(&self) -> bool {
        self.trial.scenario.has_taps() && self.trial.peer.external.is_none()
    }

    /// What shows that a backend of the lab's is ready: a call, where calls succeed.
    fn ready(&self) -> Ready {
        let fails = self.trial.scenario.backends.iter().any(|backend| backend.failures > 0.0);
        if fails { Ready::Health } else { Ready::Call }
    }

    fn start_lab(&self) -> Result<Lab, LabError> {
        match &self.trial.peer.external {
            Some(external) => Ok(Lab::without_processes(&self.trial.dir, external.now()?)),
            None => self.with_setup(|setup| Lab::start(setup, &self.trial.dir)),
        }
    }

    /// Does something with all that the trial needs started.
    pub(super) fn with_setup<T>(&self, work: impl FnOnce(&Setup<'_>) -> T) -> T {
        let (seed, tls) = (self.seed(), self.trial.scenario.tls);
        let own = self.trial.scenario.servers.command();
        let proxy = |site: &Site<'_>| self.proxy_at(site);
        let tap = |place: &BackendPlace<'_>, listen| {
            setup::tap(self.trial.scenario, place, listen, self.certificates, &self.cpus.backends)
        };
        let count = self.trial.scenario.backends.len();
        work(&Setup {
            part: self.here.map_or_else(
                || Part::whole(count, self.trial.balancers()),
                |here| here.part.clone(),
            ),
            network: self.trial.scenario.network,
            links: &self.trial.scenario.links,
            zones: self.trial.scenario.zones.as_ref(),
            seed,
            has_name: self.client.is_some() && self.trial.peer.peer.layer == Layer::Client,
            balancers: self.trial.balancers(),
            speeds: self.trial.scenario.backends.iter().map(|backend| backend.speed).collect(),
            members: self.trial.scenario.first_members(),
            slow_call: self.trial.scenario.slow_call(),
            service: self.service,
            ids: self.trial.scenario.backends.iter().map(|one| one.id.clone()).collect(),
            running: self.trial.scenario.servers.running(),
            ready: own.map_or_else(|| self.ready(), |own| own.ready),
            ready_within: own.map_or(READY_TIMEOUT, |own| own.ready_within),
            to_balancer: self.trust(tls.of_clients()).cloned(),
            to_backends: self.trust(tls.of_backends()).cloned(),
            backend: &|place| {
                let cpus = &self.cpus.backends;
                setup::backend(self.trial.scenario, place, seed, self.certificates, cpus)
            },
            tap: if self.has_taps() { Some(&tap) } else { None },
            proxy_quota: self.trial.scenario.proxy_quota,
            proxy: if self.trial.peer.is_started() { Some(&proxy) } else { None },
        })
    }

    /// How the peer's proxy is started at a site.
    fn proxy_at(&self, site: &Site<'_>) -> Result<ProxyLaunch, LaunchError> {
        setup::proxy(
            self.trial.peer,
            self.trial.scenario,
            site,
            self.certificates,
            &self.cpus.proxy,
        )
    }

    /// Whom those trust that connect to a side that speaks TLS, or doesn't.
    fn trust(&self, speaks: bool) -> Option<&Arc<Trust>> {
        self.certificates.filter(|_| speaks).map(Certificates::trust)
    }

    /// The planned window. A length in calls has no end that is known before.
    pub(super) fn planned(&self) -> (u64, Option<u64>) {
        let start_ns = nanos(self.trial.scenario.load.warm_up);
        let end_ns = match self.trial.scenario.load.length {
            Length::Duration(duration) => Some(start_ns + nanos(duration)),
            Length::Calls(_) => None,
        };
        (start_ns, end_ns)
    }

    /// The balancer that a client's channel comes to, by its number in all; zero where there is
    /// one, or none.
    fn balancer(&self, lab: &Lab, channel: u32) -> u16 {
        let count = lab.balancer_addresses().len().max(1);
        // The lab starts a few dozen at most.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let scenario = self.trial.scenario;
        let (spread, seed) = (scenario.fleet.spread, self.seed());
        let number = match &scenario.zones {
            Some(zones) => zones.layout().balancer(channel, count, spread, seed),
            None => spread.balancer(channel, count, seed),
        };
        number as u16
    }

    /// Where that one listens; `None` where there is none.
    fn balancer_address(&self, lab: &Lab, channel: u32) -> Option<SocketAddr> {
        let number = self.balancer(lab, channel);
        lab.balancer_addresses().get(usize::from(number)).copied()
    }

    /// Its record, in which nothing was measured.
    fn blank(&self) -> TrialRecord {
        let Trial { peer, repeat, order, .. } = self.trial;
        TrialRecord::blank(&peer.peer.name, *repeat, *order)
    }

    pub(super) fn failed(&self, error: &LabError) -> TrialRecord {
        TrialRecord { outcome: failure(error), ..self.blank() }
    }
}

fn failure(error: &LabError) -> TrialOutcome {
    TrialOutcome::Failed { side: error.side(), message: error.to_string() }
}

/// When calls without an answer are given up: as long after the last one was due as the
/// trial took until then, so that an overloaded backend gets to work its queue off, and
/// never before a call could have been served.
pub(super) fn give_up_after(scenario: &Scenario) -> Duration {
    let planned = scenario.trial_duration().unwrap_or(Duration::from_secs(3_600));
    planned + planned.max(LEAST_GRACE + scenario.slow_call())
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
