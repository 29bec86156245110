//! One trial: a peer under the scenario's load, from the start of its processes
//! to a record.
//!
//! A trial always ends in a record. What went wrong stands in it, with the side
//! it went wrong on, and the run goes on.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use agents::agent::Signals;
use generator::{
    Generator,
    client::{Identity, Trust},
    clock::{Clock, monotonic_ns},
};
use jiff::Timestamp;
use measure::{
    calllog::CallLog,
    fold::{Folded, Setting, Times, Window, fold},
    nodes::NodeTrial,
    record::{
        BackendRecord, Disturbance, FaultRecord, LinksRecord, LoopMode, MachineCost, ProcessCost,
        Side, TenthRecord, TrialOutcome, TrialRecord,
    },
    steadiness::{self, Asked, Steadiness, Unasked},
};
use scenario::{Arrivals, Fault, FaultAction, Layer, Length, Pace, Profile, Ready, Scenario};

use super::{doubts, load, setup};
use crate::{
    interrupt,
    lab::{
        BackendPlace, Certificates, Costs, Faults, Lab, LabError, LaunchError, Means, Part,
        ProxyLaunch, READY_TIMEOUT, Setup, Site, Watch, placement::Cpus,
    },
    peers::{ReadyClient, ReadyPeer},
    service::OwnService,
};

/// From the moment all connections are made to the first call.
const LEAD_NS: u64 = 20_000_000;
/// How often the trial is looked at, and what takes the machine from it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Calls that ended before the share of those that failed is judged.
const ENOUGH_TO_JUDGE: u64 = 20;
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
pub(crate) enum Moment {
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
    fn run(&mut self, trial: &Trial<'_>, look: &mut dyn FnMut(Moment)) -> Done;

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
    fn run(&mut self, trial: &Trial<'_>, look: &mut dyn FnMut(Moment)) -> Done {
        let (certificates, cpus) = (self.certificates.as_ref(), &self.cpus);
        let (service, max_errors) = (self.service, self.max_errors);
        let name = trial.scenario.load.client.name();
        let client = self.clients.iter().find(|client| client.name == name);
        Attempt { trial, service, client, certificates, cpus, max_errors, here: None }.run(look)
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

/// Which of the workers that make a trial's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    pub(super) first: u32,
    pub(super) count: u32,
    /// Of how many.
    pub(super) of: u32,
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
    fn run(&self, look: &mut dyn FnMut(Moment)) -> Done {
        let started = Timestamp::now();
        look(Moment::Starting);
        let mut done = match self.start_lab() {
            Ok(mut lab) => {
                let (record, then) = match self.measure(&mut lab, look) {
                    Ok(measured) => (self.record(&measured), measured.then),
                    Err(error) => (self.failed(&error), Then::GoOn),
                };
                let proxy = lab.proxy_launch().cloned();
                lab.stop();
                Done { record, proxy, then }
            }
            Err(_) if interrupt::interrupted() => {
                let record = TrialRecord::blank(
                    &self.trial.peer.peer.name,
                    self.trial.repeat,
                    self.trial.order,
                );
                let record = TrialRecord { outcome: TrialOutcome::Interrupted, ..record };
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

    /// Whether it was said of all backends how many calls they work on at once.
    fn knows_servers(&self) -> bool {
        self.trial.scenario.backends.iter().all(|backend| backend.concurrency.is_some())
    }

    /// What shows that a backend of the lab's is ready: a call, where calls succeed.
    fn ready(&self) -> Ready {
        let fails = self.trial.scenario.backends.iter().any(|backend| backend.failures > 0.0);
        if fails { Ready::Health } else { Ready::Call }
    }

    /// Names of the balancers, where there are several and each client comes to one.
    fn balancer_names(&self) -> Vec<String> {
        let of = self.trial.balancers();
        let name = |number| setup::balancer_name(&self.trial.peer.peer.name, number, of);
        let is_known = of > 1 && self.trial.scenario.channel.count == 1;
        if is_known { (0..of).map(name).collect() } else { Vec::new() }
    }

    /// Names of the zones, where clients are in some.
    fn zone_names(&self) -> &[String] {
        let zones = self.trial.scenario.zones.as_ref();
        let zones = zones.filter(|_| self.trial.peer.external.is_none());
        zones.map_or(&[], scenario::Zones::names)
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

    fn measure(&self, lab: &mut Lab, look: &mut dyn FnMut(Moment)) -> Result<Measured, LabError> {
        let generator = self.connect(lab)?;
        let clock = Clock::starting_at(monotonic_ns() + LEAD_NS);
        self.drive(lab, generator, clock, look)
    }

    /// Makes the connections of the load.
    pub(super) fn connect(&self, lab: &Lab) -> Result<Generator, LabError> {
        let trust = match &self.trial.peer.external {
            Some(external) => external.trust.as_ref(),
            None => self.trust(self.trial.scenario.tls.of_clients()),
        };
        let plans = load::plans(self, lab, trust)?;
        Generator::connect(plans).map_err(|error| LabError::Connect {
            side: if error.is_own { Side::Client } else { self.next_hop() },
            error,
        })
    }

    /// Makes the load from the clock's zero on, and watches it.
    pub(super) fn drive(
        &self,
        lab: &mut Lab,
        mut generator: Generator,
        clock: Clock,
        look: &mut dyn FnMut(Moment),
    ) -> Result<Measured, LabError> {
        generator.start(clock);
        // A fault, or a reading of costs, at zero is not early either.
        thread::sleep(clock.until(0));
        let watched = self.watch(lab, &generator, clock, look);
        generator.stop();
        let logs = generator.join()?;
        let (processes, machine) = match watched.costs() {
            Some((before, after)) => lab.costs_between(&before, &after),
            None => (Vec::new(), MachineCost::default()),
        };
        Ok(Measured {
            lost: logs.iter().map(CallLog::lost).sum(),
            last_done_ns: last_done_ns(&logs),
            logs,
            ended_ns: watched.ended_ns,
            processes,
            machine,
            faults: watched.faults.records(),
            disturbance: watched.disturbance.seen(),
            links: lab.links_record(),
            outcome: watched.outcome,
            then: watched.then,
            nodes: Vec::new(),
        })
    }

    /// Whoever the generator connects to.
    fn next_hop(&self) -> Side {
        if self.trial.peer.stands_between() { Side::Proxy } else { Side::Backend }
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

    /// When calls without an answer are given up.
    pub(super) fn give_up(&self) -> Duration {
        give_up_after(self.trial.scenario)
    }

    /// Waits for the trial's end and reads the costs at the window's edges.
    fn watch(
        &self,
        lab: &mut Lab,
        generator: &Generator,
        clock: Clock,
        look: &mut dyn FnMut(Moment),
    ) -> Watched {
        let (start_ns, end_ns) = self.planned();
        let mut watched = Watched {
            before: None,
            after: None,
            ended_ns: 0,
            outcome: TrialOutcome::Complete,
            then: Then::GoOn,
            disturbance: Watch::new(self.is_alone()),
            faults: Faults::new(&self.own_faults(), start_ns, end_ns.unwrap_or(start_ns)),
        };
        loop {
            let now_ns = clock.now_ns();
            let proxy = |site: &Site<'_>| self.proxy_at(site);
            let means = Means { clients: generator.shared(), proxy: &proxy };
            watched.faults.look(lab, means, now_ns);
            watched.ended_ns = now_ns;
            let finished = self.is_finished(generator);
            if watched.before.is_none() && now_ns >= start_ns {
                watched.before = Some(lab.read_costs());
                lab.ask_links();
            }
            let over = end_ns.map_or(finished, |end_ns| now_ns >= end_ns);
            if watched.before.is_some() && watched.after.is_none() {
                watched.disturbance.look();
            }
            if watched.before.is_some() && watched.after.is_none() && over {
                watched.after = Some(lab.read_costs());
                lab.ask_links();
            }
            if self.is_given_up() {
                watched.outcome = TrialOutcome::Interrupted;
            } else if let Some(error) = lab.casualty() {
                watched.outcome = failure(&error);
            } else if let Some(message) = self.too_many_errors(generator) {
                watched.outcome = TrialOutcome::Failed { side: Side::Proxy, message };
                watched.then = Then::End;
            }
            if watched.outcome != TrialOutcome::Complete {
                // What was spent until now belongs to what was measured until now.
                if watched.after.is_none() && watched.before.is_some() {
                    watched.after = Some(lab.read_costs());
                }
                return watched;
            }
            if finished && watched.after.is_some() {
                return watched;
            }
            let ended = generator.shared().ended();
            look(Moment::Running { elapsed: Duration::from_nanos(now_ns), ended });
            thread::sleep(self.until_next_look(&watched, now_ns));
        }
    }

    /// Whether the machine does nothing but what the lab started from here.
    fn is_alone(&self) -> bool {
        self.trial.peer.external.is_none() && self.here.is_none_or(|here| !here.shares_machine)
    }

    /// Whether the load has been made: here, and on all other nodes that make some.
    fn is_finished(&self, generator: &Generator) -> bool {
        let finished = generator.is_finished();
        let Some(here) = self.here else { return finished };
        let shared = generator.shared();
        here.signals.progress(shared.ended(), shared.failed(), finished);
        finished && here.signals.is_over()
    }

    fn is_given_up(&self) -> bool {
        interrupt::interrupted() || self.here.is_some_and(|here| here.signals.is_stopped())
    }

    /// The faults that are done here: where the backend runs, or where whoever chooses
    /// among the backends is told of them.
    fn own_faults(&self) -> Vec<Fault> {
        let all = &self.trial.scenario.faults;
        let Some(Here { part, .. }) = self.here else { return all.clone() };
        let is_balanced = self.trial.peer.is_started();
        let tells = if is_balanced { part.has_balancers() } else { part.generator };
        let is_own = |fault: &&Fault| match fault.action {
            FaultAction::Add | FaultAction::Remove => tells,
            _ => part.backends[fault.backend as usize],
        };
        all.iter().filter(is_own).copied().collect()
    }

    /// Says so where more calls fail than what the lab did not start is to bear.
    fn too_many_errors(&self, generator: &Generator) -> Option<String> {
        if self.trial.peer.external.is_none() && self.trial.scenario.servers.running().is_none() {
            return None;
        }
        let (ended, failed) = (generator.shared().ended(), generator.shared().failed());
        let share = failed as f64 / ended.max(1) as f64;
        (ended >= ENOUGH_TO_JUDGE && share > self.max_errors).then(|| {
            format!(
                "{failed} of {ended} calls failed, more than {:.0} %, so it was left alone; \
                 --max-errors sets the bound",
                self.max_errors * 100.0
            )
        })
    }

    /// Short sleeps, ending at the window's edges.
    fn until_next_look(&self, watched: &Watched, now_ns: u64) -> Duration {
        let (start_ns, end_ns) = self.planned();
        let edge_ns = match (&watched.before, &watched.after) {
            (None, _) => Some(start_ns),
            (Some(_), None) => end_ns,
            (Some(_), Some(_)) => None,
        };
        // One that is due and waits for the end of another is looked at like that end.
        let due_ns = watched.faults.next_due_ns().filter(|&due_ns| due_ns > now_ns);
        let edge_ns = edge_ns.into_iter().chain(due_ns).min();
        let until = edge_ns.map(|edge_ns| Duration::from_nanos(edge_ns.saturating_sub(now_ns)));
        until.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// The window that was measured: as planned, unless the trial was cut short
    /// or its length was given in calls; then until the last call's end.
    fn window(&self, measured: &Measured) -> Window {
        let (start_ns, planned_end_ns) = self.planned();
        let complete = measured.outcome == TrialOutcome::Complete;
        let end_ns = match planned_end_ns {
            Some(end_ns) if complete => end_ns,
            Some(end_ns) => end_ns.min(measured.ended_ns),
            None => measured.last_done_ns.saturating_add(1),
        };
        Window { start_ns, end_ns: end_ns.max(start_ns) }
    }

    /// Ids of the backends by index; of those the lab did not start, as many as
    /// have answered.
    fn backend_ids(&self) -> Vec<String> {
        if self.service.is_some() && self.identity().is_none() {
            return Vec::new();
        }
        match &self.trial.peer.external {
            Some(external) => external.ids(),
            None => self.trial.scenario.backends.iter().map(|backend| backend.id.clone()).collect(),
        }
    }

    /// What was measured, as it is kept.
    pub(super) fn record(&self, measured: &Measured) -> TrialRecord {
        let seen = self.look_at(measured);
        let folded = self.fold(&measured.logs, &seen);
        let asked = self.asked();
        let unasked = asked.map(|asked| steadiness::unasked(&measured.logs, seen.spent, asked));
        self.record_folded(measured, &seen, &folded, &unasked.unwrap_or_default())
    }

    /// What was measured over which window, and whether it was steady. Of the logs a sample
    /// will do.
    pub(super) fn look_at(&self, measured: &Measured) -> Seen {
        let spent = self.window(measured);
        let steadiness = self.steadiness(measured, spent);
        let cut_ns = steadiness.map_or(0, |found| found.cut_ns);
        let window = Window { start_ns: spent.start_ns + cut_ns, ..spent };
        Seen { window, spent, steadiness }
    }

    /// Folds logs of the trial, or of a part of it.
    pub(super) fn fold(&self, logs: &[CallLog], seen: &Seen) -> Folded {
        let setting = Setting {
            window: seen.window,
            spent: seen.spent,
            backend_ids: &self.backend_ids(),
            balancers: &self.balancer_names(),
            zones: self.zone_names(),
            mode: load::mode(self.trial.scenario),
            through_proxy: self.trial.peer.stands_between(),
            times: match (self.service, self.identity()) {
                (None, _) => Times::Apart,
                (Some(_), Some(Identity::Tap)) if self.knows_servers() => Times::Found,
                (Some(_), Some(Identity::Tap)) => Times::Whole,
                (Some(_), _) => Times::Unknown,
            },
            by_backend: self.trial.scenario.servers.are_own(),
        };
        fold(logs, &setting)
    }

    /// What was measured and has been folded, as it is kept. `unasked` is what was sent
    /// and not asked for.
    pub(super) fn record_folded(
        &self,
        measured: &Measured,
        seen: &Seen,
        folded: &Folded,
        unasked: &[Unasked],
    ) -> TrialRecord {
        let blank =
            TrialRecord::blank(&self.trial.peer.peer.name, self.trial.repeat, self.trial.order);
        let mut record = TrialRecord {
            outcome: measured.outcome.clone(),
            warm_up_s: self.trial.scenario.load.warm_up.as_secs_f64(),
            measured_s: seen.window.seconds(),
            cut_s: (seen.window.start_ns - seen.spent.start_ns) as f64 / 1e9,
            balancers: folded.balancers(&self.balancer_names()),
            zones: folded.zones(
                self.zone_names(),
                self.trial.scenario.zones.as_ref().map_or(&[], scenario::Zones::backends),
            ),
            tenths: tenths(folded, seen.window, &measured.faults),
            faults: measured.faults.clone(),
            processes: measured.processes.clone(),
            machine: measured.machine.clone(),
            nodes: measured.nodes.clone(),
            disturbance: measured.disturbance.clone(),
            links: measured.links.clone(),
            ..folded.complete(blank, &self.backend_ids())
        };
        // Of backends the lab did not start, one is as good as the other.
        if self.trial.peer.external.is_none() {
            weigh(&mut record.backends, self.trial.scenario);
        }
        let open = load::mode(self.trial.scenario) == LoopMode::Open;
        record.warnings = doubts::of_trial(&record, folded, measured.lost, open);
        record.warnings.extend(doubts::of_steadiness(seen.steadiness));
        if let Some(asked) = self.asked() {
            record.warnings.extend(doubts::of_arrivals(asked, unasked));
        }
        record
    }

    /// Whether nothing happens on purpose during the trial.
    fn is_meant_to_be_steady(&self) -> bool {
        let changes = match &self.trial.scenario.load.pace {
            Pace::Open { arrivals, profile } => {
                *profile != Profile::Flat || arrivals.trace().is_some()
            }
            Pace::Closed { .. } => false,
        };
        self.trial.scenario.faults.is_empty() && !changes
    }

    fn steadiness(&self, measured: &Measured, window: Window) -> Option<Steadiness> {
        let whole = measured.outcome == TrialOutcome::Complete;
        (whole && self.is_meant_to_be_steady())
            .then(|| steadiness::steadiness(&measured.logs, window))
            .flatten()
    }

    /// What an open loop at one rate was to send.
    pub(super) fn asked(&self) -> Option<Asked> {
        match &self.trial.scenario.load.pace {
            Pace::Open { arrivals, profile: Profile::Flat } if arrivals.trace().is_none() => {
                Some(Asked {
                    rate: arrivals.rate(),
                    poisson: matches!(arrivals, Arrivals::Poisson { .. }),
                })
            }
            _ => None,
        }
    }

    pub(super) fn failed(&self, error: &LabError) -> TrialRecord {
        TrialRecord {
            outcome: failure(error),
            ..TrialRecord::blank(&self.trial.peer.peer.name, self.trial.repeat, self.trial.order)
        }
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

/// When the last call ended; zero without one.
fn last_done_ns(logs: &[CallLog]) -> u64 {
    let entries = logs.iter().flat_map(CallLog::entries);
    entries.map(|entry| entry.done_ns).max().unwrap_or(0)
}

/// What a look at the calls of a trial has found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// What is measured: that over which CPU time was read, less what was not steady yet.
    pub(super) window: Window,
    pub(super) spent: Window,
    steadiness: Option<Steadiness>,
}

impl Seen {
    /// As somebody else has found it.
    pub(super) fn over(window: Window, spent: Window) -> Self {
        Self { window, spent, steadiness: None }
    }
}

/// What was seen while a trial ran.
struct Watched {
    before: Option<Costs>,
    after: Option<Costs>,
    ended_ns: u64,
    outcome: TrialOutcome,
    then: Then,
    faults: Faults,
    disturbance: Watch,
}

impl Watched {
    fn costs(self: &Watched) -> Option<(Costs, Costs)> {
        self.before.clone().zip(self.after.clone())
    }
}

/// Gives backends the weights they have in the scenario.
pub(super) fn weigh(backends: &mut [BackendRecord], scenario: &Scenario) {
    for (record, backend) in backends.iter_mut().zip(&scenario.backends) {
        record.weight = backend.weight;
    }
}

/// The tenths of seconds of a trial, where something was done to backends.
pub(crate) fn tenths(folded: &Folded, window: Window, faults: &[FaultRecord]) -> Vec<TenthRecord> {
    if faults.is_empty() { Vec::new() } else { folded.tenths(window) }
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
