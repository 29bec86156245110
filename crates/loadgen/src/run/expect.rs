//! What a scenario expects, judged by the trials.
//!
//! A claim about how calls were spread has to hold in every trial; one about
//! something noisy, on the medians over trials ([`scenario::Scope`]). A claim
//! that can't be judged is never counted as held.

use measure::{
    record::{Expectation, TrialOutcome, TrialRecord, Verdict},
    summary::{Figures, is_measured, median},
};
use report::format;
use scenario::{Claim, ClaimOutcome, Kind, Metric, MissingValue, Scope};

/// A trial with its figures.
struct Judged<'a> {
    record: &'a TrialRecord,
    figures: Figures,
}

/// Judges all claims by the trials of a run.
pub(crate) fn judge(claims: &[Claim], trials: &[TrialRecord]) -> Vec<Expectation> {
    let judged: Vec<Judged<'_>> = trials
        .iter()
        .filter(|trial| is_measured(trial) && trial.outcome == TrialOutcome::Complete)
        .map(|record| Judged { record, figures: Figures::of_trial(record) })
        .collect();
    claims.iter().map(|claim| judge_one(claim, trials, &judged)).collect()
}

fn judge_one(claim: &Claim, trials: &[TrialRecord], judged: &[Judged<'_>]) -> Expectation {
    let expectation = |verdict, detail| Expectation { claim: claim.to_string(), verdict, detail };
    let absent = claim.peers().find(|peer| !trials.iter().any(|trial| trial.peer == *peer));
    if let Some(peer) = absent {
        return expectation(Verdict::NotJudged, format!("{peer} was not run"));
    }
    let outcomes = match claim.scope() {
        Scope::EveryTrial => in_every_trial(claim, judged),
        Scope::MedianOverTrials => {
            let value = |peer: &str, metric: Metric| {
                let of_peer = judged.iter().filter(|trial| trial.record.peer == peer);
                let values: Vec<f64> =
                    of_peer.filter_map(|trial| trial.figures.by_name(metric.name())).collect();
                median(&values)
            };
            claim.check(&value).map(|outcome| vec![outcome])
        }
    };
    match outcomes {
        Err(missing) => expectation(Verdict::NotJudged, missing.to_string()),
        Ok(outcomes) if outcomes.is_empty() => {
            let peer = &claim.subject().peer;
            expectation(Verdict::NotJudged, format!("no trial of {peer} ended well"))
        }
        Ok(outcomes) => {
            let held = outcomes.iter().all(|outcome| outcome.holds);
            let verdict = if held { Verdict::Held } else { Verdict::Failed };
            expectation(verdict, detail(claim, &outcomes))
        }
    }
}

/// One outcome a repeat. A claim about two peers compares trials of the same
/// repeat, which had the same calls to make.
fn in_every_trial(claim: &Claim, judged: &[Judged<'_>]) -> Result<Vec<ClaimOutcome>, MissingValue> {
    let of_subject = judged.iter().filter(|trial| trial.record.peer == claim.subject().peer);
    of_subject
        .map(|subject| {
            let value = |peer: &str, metric: Metric| {
                let trial = judged.iter().find(|trial| {
                    trial.record.peer == peer && trial.record.repeat == subject.record.repeat
                })?;
                trial.figures.by_name(metric.name())
            };
            claim.check(&value)
        })
        .collect()
}

/// The figures a claim was judged by. Of several trials, the one that says most:
/// the first that failed, or else the one nearest to failing.
fn detail(claim: &Claim, outcomes: &[ClaimOutcome]) -> String {
    let show = |value: f64| show(claim.subject().metric.kind(), value);
    let margin = |outcome: &ClaimOutcome| (outcome.left - outcome.right).abs();
    let telling = outcomes
        .iter()
        .find(|outcome| !outcome.holds)
        .or_else(|| outcomes.iter().min_by(|a, b| margin(a).total_cmp(&margin(b))));
    let Some(telling) = telling else { return String::new() };
    let against = match claim.term() {
        scenario::Term::Number(_) => String::new(),
        scenario::Term::Relative { .. } => format!(" against {}", show(telling.right)),
    };
    let which = match (claim.scope(), telling.holds, outcomes.len()) {
        (Scope::MedianOverTrials, ..) => " on the median".to_owned(),
        (Scope::EveryTrial, _, 1) => String::new(),
        (Scope::EveryTrial, true, trials) => format!(" at worst in {trials} trials"),
        (Scope::EveryTrial, false, trials) => {
            let failed = outcomes.iter().filter(|outcome| !outcome.holds).count();
            format!("; failed in {failed} of {trials} trials")
        }
    };
    format!("{}{against}{which}", show(telling.left))
}

fn show(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Share => format::share(value),
        Kind::Time => format::duration(value),
        Kind::Rate => format::rate(value),
        Kind::Calls | Kind::Number if value.fract() == 0.0 && value >= 0.0 => {
            format::count(value as u64)
        }
        Kind::Calls | Kind::Number => format::number(value),
    }
}

#[cfg(test)]
mod tests {
    use measure::record::{BackendRecord, Counts, Side};

    use super::*;
    use crate::run::trial::blank_record;

    fn trial(peer: &str, repeat: u32, calls: [u64; 2]) -> TrialRecord {
        let backend = |(id, &calls): (&str, &u64)| BackendRecord {
            id: id.to_owned(),
            calls,
            latency: Default::default(),
        };
        let ok = calls.iter().sum();
        TrialRecord {
            measured_s: 1.0,
            counts: Counts { scheduled: ok, sent: ok, ok, ..Counts::default() },
            backends: ["b0", "b1"].into_iter().zip(&calls).map(backend).collect(),
            ..blank_record(peer, repeat, 0)
        }
    }

    fn verdict(claim: &str, trials: &[TrialRecord]) -> (Verdict, String) {
        let judged = judge(&[claim.parse().unwrap()], trials).remove(0);
        (judged.verdict, judged.detail)
    }

    #[test]
    fn one_trial_against_it_is_enough() {
        let mut trials = vec![trial("l4", 0, [10, 0]), trial("l4", 1, [10, 0])];
        assert_eq!(verdict("l4.max_share == 100%", &trials).0, Verdict::Held);
        trials.push(trial("l4", 2, [9, 1]));
        let (verdict, detail) = verdict("l4.max_share == 100%", &trials);
        assert_eq!(verdict, Verdict::Failed);
        assert_eq!(detail, "90.0 %; failed in 1 of 3 trials");
    }

    #[test]
    fn peers_are_compared_within_a_repeat() {
        let trials = [
            trial("l4", 0, [10, 0]),
            trial("l7", 0, [9, 1]),
            trial("l4", 1, [6, 4]),
            trial("l7", 1, [5, 5]),
        ];
        assert_eq!(verdict("l7.max_share < l4.max_share", &trials).0, Verdict::Held);
    }

    #[test]
    fn what_is_not_there_is_not_judged() {
        let mut failed = trial("l4", 0, [10, 0]);
        failed.outcome = TrialOutcome::Failed { side: Side::Backend, message: "gone".into() };
        assert_eq!(verdict("l4.max_share == 100%", &[failed]).0, Verdict::NotJudged);
        let (verdict, detail) = verdict("l4.max_share == 100%", &[trial("l7", 0, [1, 1])]);
        assert_eq!((verdict, detail.as_str()), (Verdict::NotJudged, "l4 was not run"));
    }

    #[test]
    fn every_quantity_a_claim_may_name_can_be_computed() {
        for metric in Metric::ALL {
            assert!(Figures::names().any(|name| name == metric.name()), "{metric} is not computed");
        }
    }
}
