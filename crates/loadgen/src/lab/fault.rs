//! Faults: what a scenario does to backends while the load runs.
//!
//! The lab does not believe that a signal was enough: it looks until it has seen
//! the effect, and says so in the record.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use generator::worker::Shared;
use measure::record::FaultRecord;
use rustix::process::Signal;
use scenario::{Fault, FaultAction};

use super::{
    Lab, ProxySetup, Surroundings,
    network::{Network, Place},
    process::Process,
    tap::Tap,
};

/// How long one look at a port may take.
const CHECK_TIMEOUT: Duration = Duration::from_millis(5);

/// Whom a fault may have to reach besides the backends.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    /// The generator's clients.
    pub(crate) clients: &'a Shared,
    /// How the proxy is started, from which follows what its files say.
    pub(crate) proxy: &'a ProxySetup<'a>,
}

/// The faults of a trial, as it goes on.
#[derive(Debug)]
pub(crate) struct Faults {
    planned: Vec<Fault>,
    /// The measured part, in nanoseconds of the trial's clock.
    start_ns: u64,
    length_ns: u64,
    done: Vec<Done>,
}

/// A fault that was done.
#[derive(Debug)]
struct Done {
    backend: usize,
    /// What shows that it happened; `None` when it could not be done.
    sign: Option<Sign>,
    record: FaultRecord,
}

/// What shows that a fault happened.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sign {
    /// The process is stopped.
    Stopped,
    /// The process runs.
    Running,
    /// The process is gone.
    Gone,
    /// The process runs and takes connections.
    Accepting,
    /// The process says so in its log.
    Says(String),
    /// The clients know the new list of backends.
    Acknowledged,
    /// Every balancer's page lists the backends there are for it now.
    Listed,
}

impl Faults {
    /// `planned` is in order of time.
    pub(crate) fn new(planned: &[Fault], start_ns: u64, end_ns: u64) -> Self {
        let length_ns = end_ns.saturating_sub(start_ns);
        Self { planned: planned.to_vec(), start_ns, length_ns, done: Vec::new() }
    }

    /// When the next one is due, in nanoseconds of the trial's clock.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.planned.get(self.done.len()).map(|fault| self.due_ns(fault))
    }

    fn due_ns(&self, fault: &Fault) -> u64 {
        self.start_ns + (self.length_ns as f64 * fault.at) as u64
    }

    /// Does what is due, and looks for the effects of what was done.
    pub(crate) fn poll(&mut self, lab: &mut Lab, means: Means<'_>, now_ns: u64) {
        while let Some(fault) = self.planned.get(self.done.len()).copied() {
            let backend = fault.backend as usize;
            if self.due_ns(&fault) > now_ns
                || (fault.action == FaultAction::Start && lab.is_ending(backend))
            {
                break;
            }
            let seconds = |ns: u64| ns as f64 / 1e9;
            let record = FaultRecord {
                action: fault.action.name().to_owned(),
                backend: lab.launches[backend].name.clone(),
                planned_s: seconds(self.due_ns(&fault) - self.start_ns),
                done_s: seconds(now_ns.saturating_sub(self.start_ns)),
                seen: false,
            };
            // One that fails has no effect, and that is what is recorded.
            let sign = lab.apply(fault.action, backend, means).ok();
            self.done.push(Done { backend, sign, record });
        }
        for done in self.done.iter_mut().filter(|done| !done.record.seen) {
            let sign = done.sign.as_ref();
            done.record.seen = sign.is_some_and(|sign| lab.shows(sign, done.backend, means));
        }
    }

    /// What was done, and what of it was seen.
    pub(crate) fn records(&self) -> Vec<FaultRecord> {
        self.done.iter().map(|done| done.record.clone()).collect()
    }
}

impl Lab {
    /// Whether a fault has told a backend to end and it has not yet. To start it
    /// again now would cut off the calls that it still works on.
    fn is_ending(&mut self, backend: usize) -> bool {
        self.ended_by_fault[backend] && !self.is_gone(backend)
    }

    /// Whether a backend has ended, and the tap before it.
    fn is_gone(&mut self, backend: usize) -> bool {
        let tap = self.taps.get_mut(backend).and_then(Tap::process_mut);
        let is_tap_gone = tap.is_none_or(|process| process.exited().is_some());
        is_tap_gone && self.process(backend).is_ok_and(|process| process.exited().is_some())
    }

    /// The server of a backend that runs here.
    fn process(&mut self, backend: usize) -> io::Result<&mut Process> {
        let process = self.backends[backend].as_mut();
        process.ok_or_else(|| io::Error::other("it runs on another node"))
    }

    /// Sends a signal to a backend, and first to the tap before it.
    fn signal(&mut self, backend: usize, signal: Signal) -> io::Result<()> {
        let tap = self.taps.get_mut(backend);
        tap.map_or(Ok(()), |tap| tap.signal(signal))?;
        self.process(backend)?.signal(signal)
    }

    /// Does it; returns what will show that it happened.
    fn apply(&mut self, action: FaultAction, backend: usize, means: Means<'_>) -> io::Result<Sign> {
        match action {
            FaultAction::Stop => self.signal(backend, Signal::STOP).map(|()| Sign::Stopped),
            FaultAction::Continue => self.signal(backend, Signal::CONT).map(|()| Sign::Running),
            FaultAction::Kill | FaultAction::Drain => {
                let kills = action == FaultAction::Kill;
                self.ended_by_fault[backend] = true;
                self.signal(backend, if kills { Signal::KILL } else { Signal::TERM })?;
                Ok(Sign::Gone)
            }
            FaultAction::Start => {
                if let Some(tap) = self.taps.get_mut(backend) {
                    tap.end();
                }
                // Dropping what is left of the old one ends and reaps it.
                let namespace = self.network.at(Place::Backend(backend));
                let launch = &self.launches[backend];
                let started = Process::start(launch, namespace, None, &self.dir)?;
                self.backends[backend] = Some(started);
                self.ended_by_fault[backend] = false;
                self.restarted[backend] = true;
                self.speeds[backend].now = self.speeds[backend].at_first;
                Ok(Sign::Accepting)
            }
            FaultAction::SlowDown { .. } | FaultAction::SpeedUp { .. } => {
                let speed = &mut self.speeds[backend];
                speed.now = action.speed_after(speed.now, speed.at_first);
                let now = speed.now;
                let process = self.process(backend)?;
                let line = process.send(&format!("speed {now}"))?;
                let name = process.name();
                Ok(Sign::Says(format!("{name}: command {line}: speed is {now}")))
            }
            FaultAction::Add | FaultAction::Remove => {
                self.members[backend] = action == FaultAction::Add;
                self.notify_members(means)
            }
        }
    }

    /// Tells whoever chooses which backends there are: the balancers, or the clients
    /// where there is none.
    fn notify_members(&mut self, means: Means<'_>) -> io::Result<Sign> {
        let members = self.members();
        if self.fleet.is_empty() {
            means.clients.members.set(&members);
            return Ok(Sign::Acknowledged);
        }
        let around = Surroundings {
            network: &self.network,
            backends: &self.backend_addresses,
            members: &members,
            dir: &self.dir,
            quota: self.quota.as_ref(),
        };
        self.fleet.notify(means.proxy, &around)?;
        Ok(Sign::Listed)
    }

    /// Whether a backend takes connections. Where it has a tap, that is started as soon as
    /// its server does, so that nobody is let in before.
    fn is_accepting(&mut self, backend: usize) -> bool {
        let accepts = |network: &Network, address| {
            network.run_at(Place::Backend(backend), || accepts(address)).unwrap_or(false)
        };
        if self.taps.get(backend).is_some_and(Tap::is_awaited) {
            if !accepts(&self.network, self.server_addresses[backend]) {
                return false;
            }
            // One that can't be started does not accept, which is what is recorded.
            let _ = self.start_tap(backend);
        }
        accepts(&self.network, self.backend_addresses[backend])
    }

    /// Whether a fault shows.
    fn shows(&mut self, sign: &Sign, backend: usize, means: Means<'_>) -> bool {
        let process = self.backends[backend].as_mut();
        let runs = |process: &mut Process| process.exited().is_none();
        match sign {
            Sign::Stopped => process.is_some_and(|process| process.is_stopped()),
            Sign::Running => process.is_some_and(|process| runs(process) && !process.is_stopped()),
            Sign::Gone => self.is_gone(backend),
            Sign::Accepting => process.is_some_and(runs) && self.is_accepting(backend),
            Sign::Says(line) => process.is_some_and(|process| process.has_said(line)),
            Sign::Acknowledged => means.clients.members.are_acknowledged(),
            Sign::Listed => self.fleet.lists(&self.network, &self.backend_addresses),
        }
    }
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CHECK_TIMEOUT).is_ok()
}
