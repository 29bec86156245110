//! The load of a trial while it runs: connecting, watching, and when it ends.

use std::{thread, time::Duration};

use generator::{
    Generator,
    clock::{Clock, monotonic_ns},
};
use measure::{
    calllog::CallLog,
    record::{MachineCost, Side, TrialOutcome},
};
use scenario::{Fault, FaultAction};

use super::{Attempt, Here, Measured, Then, TrialProgress, failure, plans};
use crate::{
    interrupt,
    lab::{Costs, Faults, Lab, LabError, Means, Watch},
};

/// From the moment all connections are made to the first call.
const LEAD_NS: u64 = 20_000_000;
/// How often the trial is looked at, and what takes the machine from it.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Calls that ended before the share of those that failed is judged.
const ENOUGH_TO_JUDGE: u64 = 20;

impl Attempt<'_> {
    pub(super) fn measure(
        &self,
        lab: &mut Lab,
        on_progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<Measured, LabError> {
        let generator = self.connect(lab)?;
        let clock = Clock::starting_at(monotonic_ns() + LEAD_NS);
        self.drive(lab, generator, clock, on_progress)
    }

    /// Makes the connections of the load.
    pub(in crate::run) fn connect(&self, lab: &Lab) -> Result<Generator, LabError> {
        let trust = match &self.trial.peer.external {
            Some(external) => external.trust.as_ref(),
            None => self.trust(self.trial.scenario.tls.of_clients()),
        };
        let plans = plans::plans(self, lab, trust)?;
        Generator::connect(plans).map_err(|error| LabError::Connect {
            side: if error.is_own { Side::Client } else { self.next_hop() },
            error,
        })
    }

    /// Makes the load from the clock's zero on, and watches it.
    pub(in crate::run) fn drive(
        &self,
        lab: &mut Lab,
        mut generator: Generator,
        clock: Clock,
        on_progress: &mut dyn FnMut(TrialProgress),
    ) -> Result<Measured, LabError> {
        generator.start(clock);
        // A fault, or a reading of costs, at zero is not early either.
        thread::sleep(clock.until(0));
        let watched = self.watch(lab, &generator, clock, on_progress);
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
            disturbance: watched.disturbance.recorded(),
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

    /// Waits for the trial's end and reads the costs at the window's edges.
    fn watch(
        &self,
        lab: &mut Lab,
        generator: &Generator,
        clock: Clock,
        on_progress: &mut dyn FnMut(TrialProgress),
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
            let means = Means { clients: generator.shared(), proxy: &|site| self.proxy_at(site) };
            watched.faults.poll(lab, means, now_ns);
            watched.ended_ns = now_ns;
            let finished = self.is_finished(generator);
            if watched.before.is_none() && now_ns >= start_ns {
                watched.before = Some(lab.read_costs());
                lab.ask_links();
            }
            if watched.is_measuring() {
                watched.disturbance.sample();
                if end_ns.map_or(finished, |end_ns| now_ns >= end_ns) {
                    watched.after = Some(lab.read_costs());
                    lab.ask_links();
                }
            }
            if let Some((outcome, then)) = self.cut_short(lab, generator) {
                (watched.outcome, watched.then) = (outcome, then);
                // What was spent until now belongs to what was measured until now.
                if watched.is_measuring() {
                    watched.after = Some(lab.read_costs());
                }
                return watched;
            }
            if finished && watched.after.is_some() {
                return watched;
            }
            let ended = generator.shared().ended();
            on_progress(TrialProgress::Running { elapsed: Duration::from_nanos(now_ns), ended });
            thread::sleep(self.until_next_poll(&watched, now_ns));
        }
    }

    /// Why the trial ends before its time, and what follows.
    fn cut_short(&self, lab: &mut Lab, generator: &Generator) -> Option<(TrialOutcome, Then)> {
        if self.is_given_up() {
            return Some((TrialOutcome::Interrupted, Then::GoOn));
        }
        if let Some(error) = lab.unexpected_exit() {
            return Some((failure(&error), Then::GoOn));
        }
        let message = self.too_many_errors(generator)?;
        Some((TrialOutcome::Failed { side: Side::Proxy, message }, Then::End))
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
    fn until_next_poll(&self, watched: &Watched, now_ns: u64) -> Duration {
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
        until.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL)
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
    /// Whether the measured window has begun and not ended.
    fn is_measuring(&self) -> bool {
        self.before.is_some() && self.after.is_none()
    }

    fn costs(self: &Watched) -> Option<(Costs, Costs)> {
        self.before.clone().zip(self.after.clone())
    }
}

/// When the last call ended; zero without one.
fn last_done_ns(logs: &[CallLog]) -> u64 {
    let entries = logs.iter().flat_map(CallLog::entries);
    entries.map(|entry| entry.done_ns).max().unwrap_or(0)
}
