//! What came of a run, and the exit code that says so.

use std::path::PathBuf;

use measure::record::{Expectation, RunOutcome, RunRecord, TrialOutcome, TrialRecord, Verdict};
use scenario::Claim;

use super::expect;
use crate::exit::{self, Failure};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) folder: PathBuf,
    pub(crate) record: RunRecord,
    pub(crate) trials: Vec<TrialRecord>,
    /// What was expected, in the order of the record's expectations.
    pub(crate) claims: Vec<Claim>,
    /// What ended the run early, or kept its records from being written.
    pub(crate) failure: Option<Failure>,
}

impl Finished {
    /// The exit code that says how it went. `require_all`: a claim that could not be judged
    /// counts against it, whatever the reason.
    pub(crate) fn exit_code(&self, require_all: bool) -> u8 {
        let failed = |trial: &TrialRecord| {
            matches!(trial.outcome, TrialOutcome::Failed { .. }) && !trial.is_replaced()
        };
        if self.record.outcome == RunOutcome::Interrupted {
            exit::INTERRUPTED
        } else if self.trials.iter().any(failed) {
            exit::LAB_FAILED
        } else if self.judged().any(|(claim, one)| self.is_against(claim, one))
            || (require_all && self.not_judged() > 0)
        {
            exit::EXPECTATION_FAILED
        } else if !self.unmeasured().is_empty() {
            exit::LAB_FAILED
        } else {
            exit::FINE
        }
    }

    /// Whether there is a trial that measured something.
    pub(crate) fn has_figures(&self) -> bool {
        self.trials.iter().any(|trial| !matches!(trial.outcome, TrialOutcome::Failed { .. }))
    }

    /// How many claims could not be judged.
    pub(crate) fn not_judged(&self) -> usize {
        let expectations = self.record.expectations.iter();
        expectations.filter(|one| one.verdict == Verdict::NotJudged).count()
    }

    /// What could not be measured, in a sentence each: trials in which no call was due,
    /// or none succeeded. Where a claim about the peer holds, that was expected. A search
    /// goes where calls fail; there it takes all trials of a peer.
    pub(crate) fn unmeasured(&self) -> Vec<String> {
        let is_cut = |trial: &&TrialRecord| trial.outcome != TrialOutcome::Complete;
        let whole = || self.trials.iter().filter(|trial| !is_cut(trial));
        let of_peer = |peer: &str| -> Vec<&TrialRecord> {
            let all = whole().filter(|trial| trial.peer == peer);
            let (without, with): (Vec<_>, Vec<_>) = all.partition(|trial| trial.counts.ok == 0);
            if self.record.search.is_some() && !with.is_empty() { Vec::new() } else { without }
        };
        let peers = self.record.peers.iter().map(|peer| peer.name.as_str());
        let unexpected = peers.filter(|peer| !self.is_expected_of(peer));
        let sentence = |trial: &TrialRecord| {
            let what = match (trial.counts.scheduled, most_frequent(trial)) {
                (0, _) => "no call was due in the measured window; lengthen \
                           `load.duration`, or raise the rate"
                    .to_owned(),
                (calls, Some(failure)) => format!("all {calls} calls failed, mostly {failure}"),
                (calls, None) => format!("none of {calls} calls had an answer"),
            };
            let point = trial.point.as_ref().map(|point| format!(" at {point}"));
            format!(
                "{}{}, repeat {}: {what}",
                trial.peer,
                point.unwrap_or_default(),
                trial.repeat + 1
            )
        };
        unexpected.flat_map(of_peer).map(sentence).collect()
    }

    /// Whether a claim about a peer was judged and holds.
    fn is_expected_of(&self, peer: &str) -> bool {
        self.judged()
            .filter(|(_, one)| one.verdict == Verdict::Held)
            .any(|(claim, _)| claim.peers().any(|named| named == peer))
    }

    /// Claims with what came of each.
    fn judged(&self) -> impl Iterator<Item = (&Claim, &Expectation)> {
        self.claims.iter().zip(&self.record.expectations)
    }

    /// Whether claims failed, and only such as are about how fast something was.
    pub(crate) fn fails_for_speed(&self) -> bool {
        let mut against = self.judged().filter(|(claim, one)| self.is_against(claim, one));
        self.exit_code(false) == exit::EXPECTATION_FAILED
            && against.all(|(claim, _)| claim.subject().figure.depends_on_speed())
    }

    /// A claim that can't be judged although its peers were run is as bad as one
    /// that failed; one about peers or points that were not run says nothing.
    fn is_against(&self, claim: &Claim, expectation: &Expectation) -> bool {
        match expectation.verdict {
            Verdict::Held => false,
            Verdict::Failed => true,
            Verdict::NotJudged => expect::was_run(claim, &self.trials),
        }
    }
}

/// How most of a trial's failed calls failed, and on whose side.
fn most_frequent(trial: &TrialRecord) -> Option<String> {
    let most = trial.counts.failed.iter().max_by_key(|failure| failure.calls)?;
    let side = format!("{:?}", most.side).to_lowercase();
    Some(format!("`{}` on the side of the {side}", most.what))
}
