//! What a scenario expects, judged by the trials.
//!
//! A claim about how calls were spread has to hold in every trial; one about
//! something noisy, on the medians over trials ([`Scope`]). In a sweep a
//! claim that names no point has to hold at each. A claim that can't be judged is
//! never counted as held.

use measure::{
    figure::{Figures, Scope},
    record::{Expectation, SearchRecord, TrialRecord, Verdict},
    statistics::median,
    summary::{is_measured, saturation},
};
use scenario::{Claim, ClaimOutcome, MissingValue, PointName, Subject, is_same};

/// A trial with its figures.
struct Judged<'a> {
    record: &'a TrialRecord,
    figures: Figures,
}

/// One outcome of a claim, at a point where there are some.
struct Judgement<'a> {
    point: Option<&'a str>,
    outcome: ClaimOutcome,
}

/// Whether a trial of each peer and at each point that a claim names was run.
pub(crate) fn was_run(claim: &Claim, trials: &[TrialRecord]) -> bool {
    claim.peers().all(|peer| trials.iter().any(|trial| trial.peer == peer))
        && claim.points().all(|point| trials.iter().any(|trial| is_at(trial, point)))
}

fn is_at(trial: &TrialRecord, point: &PointName) -> bool {
    trial.point.as_deref().is_some_and(|value| is_same(value, &point.value))
}

/// Judges all claims by the trials of a run, and by what its search found.
pub(crate) fn judge(
    claims: &[Claim],
    search: Option<&SearchRecord>,
    trials: &[TrialRecord],
) -> Vec<Expectation> {
    let judged: Vec<Judged<'_>> = trials
        .iter()
        .filter(|trial| is_measured(trial))
        .map(|record| Judged { record, figures: Figures::of_trial(record) })
        .collect();
    claims.iter().map(|claim| judge_one(claim, search, trials, &judged)).collect()
}

fn judge_one(
    claim: &Claim,
    search: Option<&SearchRecord>,
    trials: &[TrialRecord],
    judged: &[Judged<'_>],
) -> Expectation {
    let expectation = |verdict, detail| Expectation { claim: claim.to_string(), verdict, detail };
    let absent = claim.peers().find(|peer| !trials.iter().any(|trial| trial.peer == *peer));
    if let Some(peer) = absent {
        return expectation(Verdict::NotJudged, format!("{peer} was not run"));
    }
    let absent = claim.points().find(|point| !trials.iter().any(|trial| is_at(trial, point)));
    if let Some(point) = absent {
        return expectation(Verdict::NotJudged, format!("{point} was not run"));
    }
    match judgements(claim, search, trials, judged) {
        Err(missing) => expectation(Verdict::NotJudged, missing.to_string()),
        Ok(outcomes) if outcomes.is_empty() => {
            let peer = &claim.subject().peer;
            expectation(Verdict::NotJudged, format!("no trial of {peer} ended well"))
        }
        Ok(outcomes) => {
            let held = outcomes.iter().all(|one| one.outcome.holds);
            let verdict = if held { Verdict::Held } else { Verdict::Failed };
            expectation(verdict, detail(claim, &outcomes))
        }
    }
}

/// All outcomes of a claim: at the point it names or else at each, and there in
/// each trial or on the median.
fn judgements<'a>(
    claim: &Claim,
    search: Option<&SearchRecord>,
    trials: &'a [TrialRecord],
    judged: &[Judged<'_>],
) -> Result<Vec<Judgement<'a>>, MissingValue> {
    if claim.scope() == Scope::WholeRun {
        let value = |subject: &Subject| Some(saturation(search?, &subject.peer)?.rate);
        let outcome = claim.check(&value)?;
        return Ok(vec![Judgement { point: None, outcome }]);
    }
    let mut points: Vec<Option<&str>> = Vec::new();
    for trial in trials {
        let named = claim.subject().point.as_ref();
        let point = trial.point.as_deref();
        if named.is_none_or(|named| is_at(trial, named)) && !points.contains(&point) {
            points.push(point);
        }
    }
    let mut outcomes = Vec::new();
    for point in points {
        let at_point = match claim.scope() {
            Scope::EveryTrial => in_every_trial(claim, point, judged)?,
            Scope::MedianOverTrials | Scope::WholeRun => {
                vec![on_the_median(claim, point, judged)?]
            }
        };
        outcomes.extend(at_point.into_iter().map(|outcome| Judgement { point, outcome }));
    }
    Ok(outcomes)
}

/// Whether a trial is of a subject: of its peer, and at the point it names or else
/// at the one that is looked at.
fn is_of(trial: &TrialRecord, subject: &Subject, point: Option<&str>) -> bool {
    trial.peer == subject.peer
        && match &subject.point {
            Some(named) => is_at(trial, named),
            None => trial.point.as_deref() == point,
        }
}

fn on_the_median(
    claim: &Claim,
    point: Option<&str>,
    judged: &[Judged<'_>],
) -> Result<ClaimOutcome, MissingValue> {
    claim.check(&|subject: &Subject| {
        let of_subject = judged.iter().filter(|trial| is_of(trial.record, subject, point));
        let values: Vec<f64> =
            of_subject.filter_map(|trial| trial.figures.get(subject.figure)).collect();
        median(&values)
    })
}

/// One outcome a repeat. A claim about two peers compares trials of the same
/// repeat, which had the same calls to make.
fn in_every_trial(
    claim: &Claim,
    point: Option<&str>,
    judged: &[Judged<'_>],
) -> Result<Vec<ClaimOutcome>, MissingValue> {
    let of_subject = judged.iter().filter(|trial| is_of(trial.record, claim.subject(), point));
    of_subject
        .map(|left| {
            claim.check(&|subject: &Subject| {
                let trial = judged.iter().find(|trial| {
                    is_of(trial.record, subject, point) && trial.record.repeat == left.record.repeat
                })?;
                trial.figures.get(subject.figure)
            })
        })
        .collect()
}

/// The figures a claim was judged by. Of several, the ones that say most: the first
/// that failed, or else the nearest to failing.
fn detail(claim: &Claim, outcomes: &[Judgement<'_>]) -> String {
    let show = |value: f64| claim.subject().figure.show(value);
    let margin = |one: &Judgement<'_>| (one.outcome.left - one.outcome.right).abs();
    let telling = outcomes
        .iter()
        .find(|one| !one.outcome.holds)
        .or_else(|| outcomes.iter().min_by(|a, b| margin(a).total_cmp(&margin(b))));
    let Some(Judgement { point, outcome: telling }) = telling else { return String::new() };
    let against = match claim.term() {
        scenario::Term::Number(_) => String::new(),
        scenario::Term::Relative { .. } => format!(" against {}", show(telling.right)),
    };
    // A claim that names its point has it before the reader's eyes.
    let at = match point.filter(|_| claim.subject().point.is_none()) {
        Some(point) => format!(" at {point}"),
        None => String::new(),
    };
    let count = outcomes.len();
    let which = match (claim.scope(), telling.holds, count) {
        (Scope::WholeRun, ..) => " over all".to_owned(),
        (Scope::MedianOverTrials, _, 1) => " on the median".to_owned(),
        (Scope::MedianOverTrials, true, _) => format!(" on the median, at worst of {count} points"),
        (Scope::EveryTrial, _, 1) => String::new(),
        (Scope::EveryTrial, true, _) => format!(" at worst in {count} trials"),
        (scope, false, _) => {
            let failed = outcomes.iter().filter(|one| !one.outcome.holds).count();
            let what = if scope == Scope::EveryTrial { "trials" } else { "points" };
            format!("; failed in {failed} of {count} {what}")
        }
    };
    format!("{}{against}{at}{which}", show(telling.left))
}

#[cfg(test)]
mod tests {
    use measure::record::{BackendRecord, Counts, Side, TrialOutcome};

    use super::*;

    fn trial(peer: &str, repeat: u32, calls: [u64; 2]) -> TrialRecord {
        let backend = |(id, &calls): (&str, &u64)| BackendRecord {
            id: id.to_owned(),
            weight: 1,
            calls,
            calls_with_warm_up: None,
            latency: Default::default(),
            service: None,
        };
        let ok = calls.iter().sum();
        TrialRecord {
            measured_s: 1.0,
            counts: Counts { scheduled: ok, sent: ok, ok, ..Counts::default() },
            backends: ["b0", "b1"].into_iter().zip(&calls).map(backend).collect(),
            ..TrialRecord::blank(peer, repeat, 0)
        }
    }

    fn verdict(claim: &str, trials: &[TrialRecord]) -> (Verdict, String) {
        let judged = judge(&[claim.parse().unwrap()], None, trials).remove(0);
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
        let mut cut = trial("l4", 1, [9, 1]);
        cut.outcome = TrialOutcome::Interrupted;
        let whole = trial("l4", 0, [10, 0]);
        assert_eq!(verdict("l4.max_share == 100%", &[whole, cut.clone()]).0, Verdict::Held);
        assert_eq!(verdict("l4.max_share == 100%", &[cut]).0, Verdict::NotJudged);
        let (verdict, detail) = verdict("l4.max_share == 100%", &[trial("l7", 0, [1, 1])]);
        assert_eq!((verdict, detail.as_str()), (Verdict::NotJudged, "l4 was not run"));
    }

    #[test]
    fn a_claim_holds_at_its_point_or_at_all() {
        let at = |point: &str, peer: &str, calls| TrialRecord {
            point: Some(point.to_owned()),
            ..trial(peer, 0, calls)
        };
        let trials = [
            at("1", "l4", [10, 0]),
            at("64", "l4", [6, 4]),
            at("1", "l7", [5, 5]),
            at("64", "l7", [5, 5]),
        ];
        let held = |claim: &str| verdict(claim, &trials);
        assert_eq!(held("l4[connections=64].max_share < 70%").0, Verdict::Held);
        let (failed, detail) = held("l4.max_share < 70%");
        assert_eq!(failed, Verdict::Failed);
        assert_eq!(detail, "100 % at 1; failed in 1 of 2 trials");
        assert_eq!(held("l7.max_share == 50%").0, Verdict::Held);
        // The other side is of the same point, unless it names its own.
        assert_eq!(held("l4[connections=1].max_share == 2 * l7.max_share").0, Verdict::Held);
        let fixed = "l4[connections=64].max_share < 0.7 * l4[connections=1].max_share";
        assert_eq!(held(fixed).0, Verdict::Held);
        let (unknown, detail) = held("l4[connections=8].max_share < 70%");
        assert_eq!((unknown, &*detail), (Verdict::NotJudged, "connections=8 was not run"));
        let claim = |text: &str| text.parse::<Claim>().unwrap();
        assert!(was_run(&claim("l4[connections=64].max_share < 70%"), &trials));
        assert!(!was_run(&claim("l4[connections=8].max_share < 70%"), &trials));
    }

    #[test]
    fn what_a_search_found_is_judged_once() {
        let result = |peer: &str, held| measure::record::SearchResult {
            peer: peer.to_owned(),
            repeat: 0,
            held,
            failed: Some(1_100.0),
            limit: measure::record::SearchLimit::Peer,
        };
        let search = SearchRecord {
            slo: Vec::new(),
            resolution: 0.1,
            results: vec![result("l4", Some(500.0)), result("l7", Some(1_000.0))],
        };
        let trials = [trial("l4", 0, [1, 1]), trial("l7", 0, [1, 1])];
        let claims = [
            "l7.saturation_rate > 1.5 * l4.saturation_rate".parse().unwrap(),
            "l4.saturation_rate > 600/s".parse().unwrap(),
        ];
        let verdicts: Vec<Verdict> =
            judge(&claims, Some(&search), &trials).iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts, [Verdict::Held, Verdict::Failed]);
        let without = judge(&claims[1..], None, &trials).remove(0);
        assert_eq!(without.verdict, Verdict::NotJudged);
    }
}
