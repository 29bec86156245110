//! The warnings of a run by what they mean for its figures: some are what the scenario is
//! for, some are only worth knowing, and some put named figures in doubt.

use measure::{
    answer::Quantity,
    figure::Figure,
    record::{LoopMode, RunRecord, TrialRecord},
    warning::Warning,
};

use crate::{
    once::each_once,
    overload,
    peer::{Affected, PeerView, TrialView, in_order},
};

/// Below this mean latency it is much of it when a call finds the one before it still
/// there.
const SHORT_NS: f64 = 500_000.0;

/// What a warning means for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The scenario is made to show it.
    Expected,
    /// It is worth knowing, and puts nothing in doubt.
    Note,
    /// It puts figures in doubt.
    Invalidates(Affected),
}

/// What raised a warning, as a reader has to know it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Other work on the machine, whichever peer was measured.
    Machine,
    /// The generator could not make the calls as they were asked for.
    Generator,
    /// What was measured.
    Trial,
}

/// A warning's meaning in a trial of a peer. Long, since it is one list of rules, of which the
/// first that fits holds.
pub fn meaning(
    warning: &Warning,
    run: &RunRecord,
    peer: &PeerView<'_>,
    trial: Option<&TrialRecord>,
) -> Meaning {
    use Meaning::{Expected, Invalidates, Note};
    let mode = run.load.mode;
    let is_faulted = trial.is_some_and(|trial| !trial.faults.is_empty());
    // Where connections fall may overload one trial and not the next.
    let is_behind = trial.is_some_and(|trial| mode == LoopMode::Open && overload::is_behind(trial));
    match warning.itself() {
        // A queue that grows is the finding, and so is all that follows from it.
        Warning::UnfinishedCalls { .. }
        | Warning::DriftWithinTrial { .. }
        | Warning::DriftBetweenRepeats { .. }
        | Warning::DependentRepeats { .. }
        | Warning::OtherRate { .. }
            if peer.overload.is_some() || is_behind =>
        {
            Expected
        }
        Warning::FailedCalls { .. }
        | Warning::DriftWithinTrial { .. }
        | Warning::UnfinishedCalls { .. }
            if is_faulted =>
        {
            Expected
        }
        // The median over the trials is one of those that stayed where they were.
        Warning::DriftWithinTrial { .. } if !is_of_half(peer) => Note,
        Warning::FailedCalls { .. } if tells_failures(run) => Expected,
        // So few that percentiles are the same with them and without.
        Warning::FailedCalls { failed, sent } if failed * 1_000 <= *sent => Note,
        // Callers that wait keep as many calls out as there is CPU for.
        Warning::GeneratorStarved { .. } | Warning::CpuSaturated { .. }
            if mode == LoopMode::Closed =>
        {
            Note
        }
        // Calls that come in clumps wait for each other, which shows where they are short.
        Warning::Clumped { .. } if trial.is_some_and(|one| one.latency.mean < SHORT_NS) => {
            Invalidates(Affected::Latency)
        }
        // A build leaves it high for minutes. What the machine did while a trial ran is known.
        Warning::HighLoadAverage { .. } if is_watched(peer) => Note,
        Warning::FewCalls { .. }
        | Warning::Clumped { .. }
        | Warning::WarmUpExtended { .. }
        | Warning::ExternalTarget { .. }
        | Warning::SharesUnknown
        | Warning::OutOfTurn { .. }
        // The interval over the repeats is as wide as they differ.
        | Warning::DriftBetweenRepeats { .. }
        | Warning::SharedMachine { .. }
        | Warning::StartSkew { .. }
        | Warning::SharedCpus { .. } => Note,
        Warning::UnoptimisedBuild { .. } => Invalidates(Affected::Cost),
        Warning::LogFull { .. }
        | Warning::FaultNotSeen { .. }
        | Warning::ClientExhausted { .. } => Invalidates(Affected::All),
        _ => Invalidates(Affected::Latency),
    }
}

/// Whether latency drifted in at least half of the trials of a peer.
fn is_of_half(peer: &PeerView<'_>) -> bool {
    let counted = peer.trials.iter().filter(|trial| !trial.record.is_replaced());
    let drifted = counted.clone().filter(|trial| {
        let is_drift = |one: &Warning| matches!(one.itself(), Warning::DriftWithinTrial { .. });
        trial.record.warnings.iter().any(is_drift)
    });
    2 * drifted.count() >= counted.count()
}

/// Whether it was watched what other work took from the trials of a peer.
fn is_watched(peer: &PeerView<'_>) -> bool {
    peer.trials.iter().all(|trial| trial.record.disturbance.is_some())
}

/// Whether the answer of a run tells how many calls failed.
pub(crate) fn tells_failures(run: &RunRecord) -> bool {
    run.answer.as_ref().is_some_and(|answer| {
        let is_of_failures = |own| matches!(own, Quantity::Lost | Quantity::LostOver);
        answer.figure == Figure::ErrorRate || answer.quantities().any(is_of_failures)
    })
}

/// What is to blame.
fn cause(warning: &Warning) -> Cause {
    match warning.itself() {
        Warning::StealTime { .. } | Warning::Throttled { .. } | Warning::Disturbed { .. } => {
            Cause::Machine
        }
        Warning::GeneratorLimited { .. }
        | Warning::GeneratorStarved { .. }
        | Warning::CpuSaturated { .. }
        | Warning::OtherRate { .. }
        | Warning::Clumped { .. } => Cause::Generator,
        _ => Cause::Trial,
    }
}

/// The warnings of a run that put figures in doubt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Doubts<'a> {
    /// Trials in which other work took from the machine.
    pub unquiet: usize,
    /// Other trials in which the generator could not make the calls as they were asked for.
    pub not_as_asked: usize,
    /// All trials.
    pub trials: usize,
    /// One of each other kind, with the figures and the peers in doubt; no peers where it is
    /// about all.
    pub others: Vec<(&'a Warning, Affected, Vec<&'a str>)>,
}

impl<'a> Doubts<'a> {
    /// Those of a run with these peers; `at` finds a peer as it was at a point.
    pub fn of<'p: 'a>(
        run: &'a RunRecord,
        peers: &'a [PeerView<'p>],
        at: impl Fn(&'a PeerView<'p>, Option<&str>) -> &'a PeerView<'p>,
    ) -> Self {
        let mut doubts = Self::default();
        let counted = |(_, trial): &(_, &TrialView<'_>)| !trial.record.is_replaced();
        for (peer, trial) in in_order(peers).into_iter().filter(counted) {
            let peer = at(peer, trial.record.point.as_deref());
            let mut causes = Vec::new();
            for (warning, affected) in in_trial(peer, trial.record, run) {
                match cause(warning) {
                    Cause::Trial => doubts.add(warning, affected, Some(&peer.name)),
                    of_machine => causes.push(of_machine),
                }
            }
            // Calls that are late follow from what took the machine.
            let is_unquiet = causes.contains(&Cause::Machine);
            doubts.unquiet += usize::from(is_unquiet);
            doubts.not_as_asked += usize::from(!is_unquiet && !causes.is_empty());
            doubts.trials += 1;
        }
        for warning in &run.warnings {
            let about = peers.iter().find(|peer| warning.peer() == Some(&peer.name));
            let Some(peer) = about.or(peers.first()) else { continue };
            let peer = at(peer, warning.point());
            if let Meaning::Invalidates(affected) = meaning(warning, run, peer, None) {
                doubts.add(warning, affected, warning.peer());
            }
        }
        doubts
    }

    /// How many lines they make.
    pub fn count(&self) -> usize {
        let of_machine = [self.unquiet, self.not_as_asked];
        of_machine.into_iter().filter(|trials| *trials > 0).count() + self.others.len()
    }

    fn add(&mut self, warning: &'a Warning, affected: Affected, peer: Option<&'a str>) {
        let kind = std::mem::discriminant(warning.itself());
        let same =
            |(other, ..): &&mut (&Warning, _, _)| std::mem::discriminant(other.itself()) == kind;
        match (self.others.iter_mut().find(same), peer) {
            (Some((_, _, peers)), Some(peer)) if !peers.contains(&peer) => peers.push(peer),
            (Some(_), _) => {}
            (None, peer) => self.others.push((warning, affected, peer.into_iter().collect())),
        }
    }
}

/// What puts figures of a peer in doubt, whoever is to blame.
pub(crate) fn of_peer(peer: &PeerView<'_>, run: &RunRecord) -> Vec<Affected> {
    let counted = peer.trials.iter().filter(|trial| !trial.record.is_replaced());
    let trials = counted.flat_map(|trial| in_trial(peer, trial.record, run));
    each_once(trials.chain(in_run(peer, run)).map(|(_, affected)| affected))
}

fn in_trial<'t>(
    peer: &PeerView<'_>,
    trial: &'t TrialRecord,
    run: &RunRecord,
) -> impl Iterator<Item = (&'t Warning, Affected)> {
    let of = move |warning| match meaning(warning, run, peer, Some(trial)) {
        Meaning::Invalidates(affected) => Some((warning, affected)),
        Meaning::Expected | Meaning::Note => None,
    };
    trial.warnings.iter().filter_map(of)
}

/// The warnings of the whole run that concern a peer.
fn in_run<'r>(
    peer: &PeerView<'_>,
    run: &'r RunRecord,
) -> impl Iterator<Item = (&'r Warning, Affected)> {
    let concerns = |warning: &&Warning| warning.peer().is_none_or(|name| name == peer.name);
    run.warnings.iter().filter(concerns).filter_map(|warning| {
        match meaning(warning, run, peer, None) {
            Meaning::Invalidates(affected) => Some((warning, affected)),
            Meaning::Expected | Meaning::Note => None,
        }
    })
}
