//! The warnings of a run by what they mean for its figures: some are what the scenario is
//! for, some are only worth knowing, and some put named figures in doubt.

use measure::{
    record::{LoopMode, RunRecord, TrialRecord},
    warning::Warning,
};

use crate::peer::{Affected, PeerView, TrialView, in_order};

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
pub enum Cause {
    /// The machine, whichever peer was measured.
    Machine,
    /// What was measured.
    Trial,
}

/// A warning's meaning in a trial of a peer.
pub fn meaning(
    warning: &Warning,
    mode: LoopMode,
    peer: &PeerView<'_>,
    trial: Option<&TrialRecord>,
) -> Meaning {
    use Meaning::{Expected, Invalidates, Note};
    let is_faulted = trial.is_some_and(|trial| !trial.faults.is_empty());
    match warning.itself() {
        // A queue that grows is the finding, and so is all that follows from it.
        Warning::UnfinishedCalls { .. }
        | Warning::DriftWithinTrial { .. }
        | Warning::DriftBetweenRepeats { .. }
        | Warning::DependentRepeats { .. }
        | Warning::OtherRate { .. }
            if peer.overload.is_some() =>
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

/// Whether it was watched what other work took from the trials of a peer.
fn is_watched(peer: &PeerView<'_>) -> bool {
    peer.trials.iter().all(|trial| trial.record.disturbance.is_some())
}

/// Whether the machine is to blame, or what was measured.
pub fn cause(warning: &Warning) -> Cause {
    match warning.itself() {
        Warning::GeneratorLimited { .. }
        | Warning::GeneratorNearLimit { .. }
        | Warning::GeneratorStarved { .. }
        | Warning::HighLoadAverage { .. }
        | Warning::StealTime { .. }
        | Warning::Throttled { .. }
        | Warning::Disturbed { .. }
        | Warning::CpuSaturated { .. }
        | Warning::OtherRate { .. }
        | Warning::DriftBetweenRepeats { .. }
        | Warning::DependentRepeats { .. }
        | Warning::Clumped { .. }
        | Warning::LinkOff { .. }
        | Warning::UnoptimisedBuild { .. } => Cause::Machine,
        _ => Cause::Trial,
    }
}

/// The warnings of a run that put figures in doubt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Doubts<'a> {
    /// Trials in which the machine was not quiet.
    pub unquiet: usize,
    /// All trials.
    pub trials: usize,
    /// One of each other kind, with the figures and the peers in doubt.
    pub others: Vec<(&'a Warning, Affected, Vec<&'a str>)>,
}

impl<'a> Doubts<'a> {
    /// Those of a run with these peers.
    pub fn of(run: &RunRecord, peers: &'a [PeerView<'_>]) -> Self {
        let mut doubts = Self::default();
        let counted = |(_, trial): &(_, &TrialView<'_>)| !trial.record.is_replaced();
        for (peer, trial) in in_order(peers).into_iter().filter(counted) {
            let mut is_quiet = true;
            for (warning, affected) in in_trial(peer, trial.record, run.load.mode) {
                match cause(warning) {
                    Cause::Machine => is_quiet = false,
                    Cause::Trial => doubts.add(warning, affected, &peer.name),
                }
            }
            doubts.unquiet += usize::from(!is_quiet);
            doubts.trials += 1;
        }
        let of_run = |peer| in_run(peer, run).next().is_some();
        if doubts.unquiet == 0 && peers.iter().any(of_run) {
            doubts.unquiet = doubts.trials;
        }
        doubts
    }

    /// How many lines they make.
    pub fn count(&self) -> usize {
        usize::from(self.unquiet > 0) + self.others.len()
    }

    fn add(&mut self, warning: &'a Warning, affected: Affected, peer: &'a str) {
        let kind = std::mem::discriminant(warning);
        let same = |(other, ..): &&mut (&Warning, _, _)| std::mem::discriminant(*other) == kind;
        match self.others.iter_mut().find(same) {
            Some((_, _, peers)) if peers.contains(&peer) => {}
            Some((_, _, peers)) => peers.push(peer),
            None => self.others.push((warning, affected, vec![peer])),
        }
    }
}

/// What puts figures of a peer in doubt, whoever is to blame.
pub(crate) fn of_peer(peer: &PeerView<'_>, run: &RunRecord) -> Vec<Affected> {
    let counted = peer.trials.iter().filter(|trial| !trial.record.is_replaced());
    let trials = counted.flat_map(|trial| in_trial(peer, trial.record, run.load.mode));
    let mut all = Vec::new();
    for (_, affected) in trials.chain(in_run(peer, run)) {
        if !all.contains(&affected) {
            all.push(affected);
        }
    }
    all
}

fn in_trial<'t>(
    peer: &PeerView<'_>,
    trial: &'t TrialRecord,
    mode: LoopMode,
) -> impl Iterator<Item = (&'t Warning, Affected)> {
    let of = move |warning| match meaning(warning, mode, peer, Some(trial)) {
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
        match meaning(warning, run.load.mode, peer, None) {
            Meaning::Invalidates(affected) => Some((warning, affected)),
            Meaning::Expected | Meaning::Note => None,
        }
    })
}
