//! What a trial measured, as it is kept.

use generator::client::Identity;
use measure::{
    calllog::CallLog,
    fold::{Folded, Setting, Times, Window, fold},
    record::{BackendRecord, FaultRecord, LoopMode, TenthRecord, TrialOutcome, TrialRecord},
    steadiness::{self, Asked, Steadiness, Unasked},
};
use scenario::{Arrivals, Pace, Profile, Scenario};

use super::{Attempt, Measured};
use crate::run::{doubts, load, setup};

impl Attempt<'_> {
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

    /// Whether it was said of all backends how many calls they work on at once.
    fn knows_servers(&self) -> bool {
        self.trial.scenario.backends.iter().all(|backend| backend.concurrency.is_some())
    }

    /// What was measured, as it is kept.
    pub(in crate::run) fn record(&self, measured: &Measured) -> TrialRecord {
        let seen = self.windows(measured);
        let folded = self.fold(&measured.logs, &seen);
        let asked = self.asked();
        let unasked = asked.map(|asked| steadiness::unasked(&measured.logs, seen.spent, asked));
        self.record_folded(measured, &seen, &folded, &unasked.unwrap_or_default())
    }

    /// What was measured over which window, and whether it was steady. Of the logs a sample
    /// will do.
    pub(in crate::run) fn windows(&self, measured: &Measured) -> Windows {
        let spent = self.window(measured);
        let steadiness = self.steadiness(measured, spent);
        let cut_ns = steadiness.map_or(0, |found| found.cut_ns);
        let window = Window { start_ns: spent.start_ns + cut_ns, ..spent };
        Windows { window, spent, steadiness }
    }

    /// Folds logs of the trial, or of a part of it.
    pub(in crate::run) fn fold(&self, logs: &[CallLog], seen: &Windows) -> Folded {
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
    pub(in crate::run) fn record_folded(
        &self,
        measured: &Measured,
        seen: &Windows,
        folded: &Folded,
        unasked: &[Unasked],
    ) -> TrialRecord {
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
            ..folded.complete(self.blank(), &self.backend_ids())
        };
        // Of backends the lab did not start, one is as good as the other.
        if self.trial.peer.external.is_none() {
            weigh(&mut record.backends, self.trial.scenario);
        }
        let open = load::mode(self.trial.scenario) == LoopMode::Open;
        record.warnings = doubts::of_trial(&record, folded, measured.lost, open);
        record.warnings.extend(doubts::of_steadiness(seen.steadiness));
        if record.outcome == TrialOutcome::Complete {
            record.warnings.extend(doubts::of_faults(self.trial.scenario, &record));
        }
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
    pub(in crate::run) fn asked(&self) -> Option<Asked> {
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
}

/// What a look at the calls of a trial has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// What is measured: that over which CPU time was read, less what was not steady yet.
    pub(in crate::run) window: Window,
    pub(in crate::run) spent: Window,
    steadiness: Option<Steadiness>,
}

impl Windows {
    /// As somebody else has found it.
    pub(in crate::run) fn over(window: Window, spent: Window) -> Self {
        Self { window, spent, steadiness: None }
    }
}

/// Gives backends the weights they have in the scenario.
pub(crate) fn weigh(backends: &mut [BackendRecord], scenario: &Scenario) {
    for (record, backend) in backends.iter_mut().zip(&scenario.backends) {
        record.weight = backend.weight;
    }
}

/// The tenths of seconds of a trial, where something was done to backends.
pub(crate) fn tenths(folded: &Folded, window: Window, faults: &[FaultRecord]) -> Vec<TenthRecord> {
    if faults.is_empty() { Vec::new() } else { folded.tenths(window) }
}
