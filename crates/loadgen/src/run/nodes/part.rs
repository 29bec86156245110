//! An agent's part of a run: it does what the coordinator says, by the code that runs a
//! trial on one machine.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use agents::{
    agent::{Ended, Link},
    wire::{self, begin::Which, reply, step},
};
use generator::clock::{Clock, monotonic_ns};
use measure::{calllog::CallLog, fold::Window};
use scenario::{Placement, Scenario};

use super::{convert, prepare::Prepared};
use crate::{
    external::External,
    interrupt,
    lab::{
        Addresses, Lab, LabError, Network,
        placement::{self, Cpus},
        ports,
    },
    root::Root,
    run::{
        local_paths,
        points::{self, Point},
        trial::{Attempt, Here, Trial, Windows},
        twin,
    },
};

/// Why a trial ends early here.
enum Halt {
    /// Something went wrong, which the coordinator is to know.
    Failed(wire::Failed),
    /// The coordinator wants no more of it.
    End,
    /// So does this node's user, or there is no coordinator any more.
    Ended(Ended),
}

impl From<LabError> for Halt {
    fn from(error: LabError) -> Self {
        Self::Failed(convert::failed_to_wire(&error))
    }
}

impl From<convert::Unreadable> for Halt {
    fn from(error: convert::Unreadable) -> Self {
        Self::from(LabError::Coordinator(error.to_string()))
    }
}

/// An agent that has joined a run.
pub(crate) struct Agent<'a> {
    link: Link,
    /// Where servers of this node listen.
    address: IpAddr,
    root: &'a Root,
    prepared: Option<Prepared>,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(link: Link, address: IpAddr, root: &'a Root) -> Self {
        Self { link, address, root, prepared: None }
    }

    /// Does what the coordinator says until the run is over.
    pub(crate) fn work(mut self) -> Ended {
        loop {
            let step = match self.step() {
                Ok(step) => step,
                Err(ended) => return ended,
            };
            match step {
                step::What::Prepare(prepare) => match Prepared::of(&prepare, self.root) {
                    Ok((prepared, found)) => {
                        self.link.reply(reply::What::Prepared(found));
                        self.prepared = Some(prepared);
                    }
                    Err(failure) => {
                        let error = LabError::Coordinator(failure.message);
                        self.link.reply(reply::What::Failed(convert::failed_to_wire(&error)));
                    }
                },
                step::What::Begin(begin) => match self.trial(&begin) {
                    Ok(()) | Err(Halt::End) => self.done(),
                    Err(Halt::Failed(failed)) => self.link.reply(reply::What::Failed(failed)),
                    Err(Halt::Ended(ended)) => return ended,
                },
                // Of a trial that has failed here.
                step::What::End(_) => self.done(),
                _ => self.link.reply(reply::What::Failed(out_of_turn())),
            }
        }
    }

    fn step(&self) -> Result<step::What, Ended> {
        let step = self.link.next(interrupt::interrupted)?;
        step.ok_or(Ended { is_lost: false })
    }

    fn done(&self) {
        self.link.reply(reply::What::Done(wire::Done {}));
    }

    /// The next step of a trial, which is to be the one that `is` takes.
    fn expect<T>(&self, is: impl FnOnce(step::What) -> Option<T>) -> Result<T, Halt> {
        match self.step().map_err(Halt::Ended)? {
            step::What::End(_) => Err(Halt::End),
            step => is(step).ok_or_else(|| Halt::Failed(out_of_turn())),
        }
    }

    /// One trial, step by step. What runs when it ends early is ended with it.
    fn trial(&self, begin: &wire::Begin) -> Result<(), Halt> {
        let prepared = self.prepared.as_ref().ok_or_else(|| Halt::Failed(out_of_turn()))?;
        let (point, scenario) = scenario_of(begin, &prepared.scenario)?;
        let peer = prepared.peers.iter().find(|ready| ready.peer.name == begin.peer);
        let peer = peer.ok_or(convert::Unreadable("a peer"))?;
        let sent = begin.part.as_ref().ok_or(convert::Unreadable("a part"))?;
        let dir = prepared.folder.path().join(format!("trial-{}", begin.order));
        let trial = Trial {
            scenario: &scenario,
            point: point.as_deref(),
            peer,
            repeat: begin.repeat,
            order: begin.order,
            dir: dir.clone(),
        };
        let counts = (scenario.backends.len(), trial.balancers());
        let (part, workers) = convert::part_of_wire(sent, counts)?;
        let (signals, shares_machine) = (&**self.link.signals(), sent.shares_machine);
        signals.begin();
        let here = Here { part, workers, shares_machine, signals };
        let attempt = Attempt {
            trial: &trial,
            service: prepared.service.as_ref(),
            client: None,
            certificates: prepared.certificates.as_ref(),
            cpus: &cpus(&scenario, &here)?,
            max_errors: prepared.max_errors,
            here: Some(&here),
        };
        let ended = self.steps_of(&attempt, &here);
        // What its processes have said is told where one of them failed.
        let _ = fs::remove_dir_all(&dir);
        ended
    }

    fn steps_of(&self, attempt: &Attempt<'_>, here: &Here<'_>) -> Result<(), Halt> {
        let choose = || ports::free_addresses_at(self.address, count_of(here));
        let (own, claim) = ports::claimed(choose, Vec::clone).map_err(LabError::Ports)?;
        let addresses = own.iter().map(SocketAddr::to_string).collect();
        self.link.reply(reply::What::Begun(wire::Begun { addresses }));
        let serve = self.expect(|step| match step {
            step::What::Serve(serve) => Some(serve),
            _ => None,
        })?;
        if let Some(external) = &attempt.trial.peer.external {
            let mut lab = Lab::without_processes(&attempt.trial.dir, external.now()?);
            self.done();
            self.expect(|step| matches!(step, step::What::Balance(_)).then_some(()))?;
            self.link.reply(reply::What::Balancing(wire::Balancing::default()));
            return self.load(attempt, &mut lab);
        }
        let addresses = Addresses {
            balancers: convert::balancer_addresses(&serve)?,
            backends: convert::addresses(&serve.backends)?,
            tapped: convert::addresses(&serve.tapped)?,
            cluster: convert::addresses(&serve.cluster)?,
        };
        let of_backends = [&addresses.backends, &addresses.tapped, &addresses.cluster];
        let are_whole = of_backends.iter().all(|all| all.len() == here.part.backends.len());
        if !are_whole || addresses.balancers.len() != here.part.balancers.len() {
            return Err(convert::Unreadable("addresses").into());
        }
        attempt.with_setup(|setup| {
            let dir = &attempt.trial.dir;
            let mut lab = Lab::assemble(setup, dir, Network::Loopback, &addresses, claim)?;
            lab.start_backends(setup)?;
            self.done();
            self.expect(|step| matches!(step, step::What::Balance(_)).then_some(()))?;
            lab.start_balancers(setup, &addresses.balancers)?;
            lab.ask_service(setup)?;
            let paths = local_paths(dir, attempt.certificates);
            let started = lab.proxy_launch();
            let started = started.map(|launch| convert::launch_to_wire(launch, &paths));
            self.link.reply(reply::What::Balancing(started.unwrap_or_default()));
            self.load(attempt, &mut lab)?;
            lab.stop();
            Ok(())
        })
    }

    fn load(&self, attempt: &Attempt<'_>, lab: &mut Lab) -> Result<(), Halt> {
        self.expect(|step| matches!(step, step::What::Connect(_)).then_some(()))?;
        let generator = attempt.connect(lab)?;
        self.done();
        let epoch_ns = self.expect(|step| match step {
            step::What::Start(start) => Some(start.epoch_ns),
            _ => None,
        })?;
        let late_ns = monotonic_ns().saturating_sub(epoch_ns);
        let clock = Clock::starting_at(epoch_ns);
        let measured = attempt.drive(lab, generator, clock, &mut |_| {})?;
        let ids = attempt.trial.peer.external.as_ref().map(External::ids).unwrap_or_default();
        let sent = convert::measured_to_wire(&measured, late_ns, ids);
        self.link.reply(reply::What::Measured(sent));
        // Servers run until the last of all nodes has said what it measured.
        loop {
            match self.step().map_err(Halt::Ended)? {
                step::What::Ship(ship) => self.ship(&measured.logs, ship.every),
                step::What::Fold(fold) => {
                    let folded = attempt.fold(&measured.logs, &windows_of(&fold));
                    self.link.reply(reply::What::Folded(convert::folded_to_wire(&folded)));
                }
                step::What::End(_) => return Ok(()),
                _ => return Err(Halt::Failed(out_of_turn())),
            }
        }
    }

    /// Ships one of so many calls.
    fn ship(&self, logs: &[CallLog], every: u64) {
        for (worker, log) in (0_u32..).zip(logs) {
            if every <= 1 {
                self.link.ship(worker, log);
                continue;
            }
            let every = usize::try_from(every).unwrap_or(usize::MAX);
            let mut sample = CallLog::default();
            log.entries().iter().step_by(every).for_each(|&entry| sample.push(entry));
            self.link.ship(worker, &sample);
        }
        self.done();
    }
}

fn out_of_turn() -> wire::Failed {
    convert::failed_to_wire(&LabError::Coordinator("it sent a step out of turn".to_owned()))
}

fn windows_of(fold: &wire::Fold) -> Windows {
    let window = |start_ns| Window { start_ns, end_ns: fold.end_ns };
    Windows::over(window(fold.start_ns), window(fold.spent_start_ns))
}

/// Ports that a part needs: three for each backend, and two for each balancer.
fn count_of(here: &Here<'_>) -> usize {
    let count = |all: &[bool]| all.iter().filter(|is_here| **is_here).count();
    3 * count(&here.part.backends) + 2 * count(&here.part.balancers)
}

/// The scenario of a trial, and the point of it that this is.
fn scenario_of(
    begin: &wire::Begin,
    scenario: &Scenario,
) -> Result<(Option<String>, Scenario), convert::Unreadable> {
    let no_trial = convert::Unreadable("a trial");
    match begin.which.as_ref().ok_or(no_trial.clone())? {
        Which::Plain(_) => Ok((None, scenario.clone())),
        Which::Twin(_) => Ok((None, twin::of(scenario).ok_or(no_trial)?)),
        Which::Rate(rate) => {
            let Point { value, scenario, .. } = Point::at_rate(scenario, *rate);
            Ok((value, scenario))
        }
        Which::Point(value) => {
            let mut points = points::planned(scenario).into_iter();
            let point = points.find(|point| point.value.as_ref() == Some(value));
            point.map(|point| (point.value, point.scenario)).ok_or(no_trial)
        }
    }
}

/// Where the parts of a node run. Nodes on one machine divide its CPUs as the parts would
/// without nodes; a node with one part leaves it all CPUs, unless the scenario names some.
fn cpus(scenario: &Scenario, here: &Here<'_>) -> Result<Cpus, LabError> {
    let part = &here.part;
    let parts = [part.has_balancers(), part.generator, part.has_backends()];
    let is_alone = parts.iter().filter(|is_here| **is_here).count() <= 1 && !here.shares_machine;
    match &scenario.placement {
        Placement::Auto if is_alone => Ok(Cpus::default()),
        placement => Cpus::of(placement, &placement::available())
            .map_err(|error| LabError::Coordinator(error.to_string())),
    }
}
