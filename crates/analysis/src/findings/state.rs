//! What the reader must know before believing the answer.

use measure::{
    format,
    record::{Layer, LoopMode, RunOutcome, TrialOutcome, Verdict},
};

use super::{Pair, Sentence};
use crate::{
    doubts::Doubts,
    model::{Model, PeerView, TrialView},
    theory::placement,
};

pub(super) fn caveats(model: &Model<'_>, pair: Option<&Pair<'_, '_>>) -> Vec<Sentence> {
    let mut caveats = Vec::new();
    caveats.extend(outcome(model));
    caveats.extend(failed_trials(model));
    caveats.extend(disturbed_trials(model));
    // A search goes where calls are lost, and says so rate by rate.
    if model.run.search.is_none() {
        caveats.extend(model.peers.iter().filter_map(lost_calls));
    }
    // Of targets it is not known where they balance.
    let known = |peer: &PeerView<'_>| peer.layer() != Some(Layer::External);
    // Nor is it amiss where the scenario asks of other things, as of policies.
    let is_answered = super::asked(model).is_some();
    if pair.is_none() && !is_answered && model.measured().any(known) {
        caveats.push(Sentence::default().text(
            "There are no figures for a peer that balances calls and one that balances \
             connections, so this run does not compare the two.",
        ));
    }
    caveats.extend(model.on_wire_note().map(|note| Sentence::default().text(&note)));
    caveats.extend(few_repeats(model));
    caveats.extend(closed_loop(model));
    caveats.extend(failed_claims(model));
    caveats.extend(strays(model));
    caveats.extend(doubts(model));
    caveats
}

/// Trials in which connections were dealt otherwise than in turn: their shares, and what
/// follows from them, are not those of the policy.
fn strays(model: &Model<'_>) -> Vec<Sentence> {
    let points = model.sweep.iter().flat_map(|sweep| &sweep.points).map(|point| &point.model);
    let models = if model.sweep.is_some() { points.collect() } else { vec![model] };
    let of_peer = |model, peer| {
        let found = placement::strays(model, peer);
        found.into_iter().map(move |(trial, share, due)| (peer, trial, share, due))
    };
    let all = models
        .into_iter()
        .flat_map(|model: &Model<'_>| model.measured().flat_map(move |peer| of_peer(model, peer)));
    all.map(|(peer, trial, share, due)| {
        let at = trial.record.point.as_ref().map_or(String::new(), |point| format!(" at {point}"));
        Sentence::default()
            .text(&format!("In repeat {}{at} the busiest backend of ", trial.record.repeat + 1))
            .peer(peer)
            .text(" got ")
            .figure(format::share(share))
            .text(" of the calls, and has ")
            .figure(format::share(due))
            .text(
                " of connections dealt in turn: a turn was taken by a connection that carried no \
                 calls, so this trial is not of the policy alone.",
            )
    })
    .collect()
}

fn outcome(model: &Model<'_>) -> Option<Sentence> {
    let whole = |trial: &&TrialView<'_>| trial.record.outcome != TrialOutcome::Interrupted;
    let trials = model.peers.iter().flat_map(|peer| &peer.trials).filter(whole).count();
    let ran = format!("{trials} {} run whole", plural(trials, "trial was", "trials were"));
    let text = match model.run.outcome {
        RunOutcome::Complete if model.measured().next().is_none() => {
            "No trial gives figures: there is no answer.".to_owned()
        }
        RunOutcome::Complete => return None,
        RunOutcome::Interrupted => {
            format!("The run was stopped before its end; {ran}, and the figures are of those.")
        }
        RunOutcome::Running => {
            format!("The run has not ended, or was killed; {ran}, and the figures are of those.")
        }
    };
    Some(Sentence::default().text(&text))
}

fn failed_trials(model: &Model<'_>) -> Option<Sentence> {
    let trials = model.trials();
    let failed = trials
        .iter()
        .filter(|(_, trial)| matches!(trial.record.outcome, TrialOutcome::Failed { .. }))
        .count();
    (failed > 0).then(|| {
        Sentence::default()
            .figure(failed.to_string())
            .text(&format!(" of {} trials failed and ", trials.len()))
            .text(plural(failed, "is", "are"))
            .text(" in no figure.")
    })
}

fn disturbed_trials(model: &Model<'_>) -> Option<Sentence> {
    let trials = model.trials();
    let replaced = trials.iter().filter(|(_, trial)| trial.record.is_replaced()).count();
    (replaced > 0).then(|| {
        Sentence::default()
            .figure(replaced.to_string())
            .text(&format!(" of {} trials ", trials.len()))
            .text(plural(replaced, "was", "were"))
            .text(" disturbed by other users of the machine. ")
            .text(plural(replaced, "It was", "They were"))
            .text(" measured again and ")
            .text(plural(replaced, "is", "are"))
            .text(" in no figure.")
    })
}

/// Calls that failed or had no answer: percentiles say nothing of them.
fn lost_calls(peer: &PeerView<'_>) -> Option<Sentence> {
    let (failed, unfinished) =
        (peer.sum(|figures| figures.failed), peer.sum(|figures| figures.unfinished));
    let scheduled = peer.sum(|figures| figures.scheduled);
    if failed + unfinished == 0 || scheduled == 0 {
        return None;
    }
    let part = |calls: u64| {
        format!("{} ({})", format::count(calls), format::share(calls as f64 / scheduled as f64))
    };
    let mut sentence = Sentence::default()
        .text("Of ")
        .figure(format::count(scheduled))
        .text(" calls with ")
        .peer(peer)
        .text(", ");
    if failed > 0 {
        sentence = sentence.figure(part(failed)).text(" failed");
    }
    if failed > 0 && unfinished > 0 {
        sentence = sentence.text(" and ");
    }
    if unfinished > 0 {
        sentence = sentence.figure(part(unfinished)).text(" had no answer by the end of the trial");
    }
    Some(sentence.text("; its latencies are those of the others."))
}

fn few_repeats(model: &Model<'_>) -> Option<Sentence> {
    if model.run.search.as_ref().is_some_and(|search| search.results.len() > 2 * model.peers.len())
    {
        return None;
    }
    let often = match model.repeats() {
        1 => "once",
        2 => "twice",
        _ => return None,
    };
    Some(Sentence::default().text(&format!(
        "Each peer was measured {often}, which is too few for intervals, so nothing tells chance \
         from difference. Small differences mean nothing; repeat with --repeats 3 or more."
    )))
}

fn closed_loop(model: &Model<'_>) -> Option<Sentence> {
    (model.run.load.mode == LoopMode::Closed).then(|| {
        Sentence::default().text(
            "The loop is closed: calls wait for each other, so latency counts from the sending and \
             leaves out what an open loop's calls would have waited. It must not be compared with \
             an open loop's.",
        )
    })
}

fn failed_claims(model: &Model<'_>) -> Option<Sentence> {
    let claims = &model.run.expectations;
    let count = |verdict: Verdict| claims.iter().filter(|claim| claim.verdict == verdict).count();
    let (failed, open) = (count(Verdict::Failed), count(Verdict::NotJudged));
    if failed + open == 0 {
        return None;
    }
    let mut parts = Vec::new();
    if failed > 0 {
        parts.push(format!("{failed} did not come out"));
    }
    if open > 0 {
        parts.push(format!("{open} could not be judged"));
    }
    let sentence = Sentence::default().text("Of ").figure(claims.len().to_string());
    Some(sentence.text(&format!(" expectations, {}.", parts.join(" and "))))
}

/// What puts figures in doubt: the machine in one line, and each other cause in one.
fn doubts(model: &Model<'_>) -> Vec<Sentence> {
    let doubts = Doubts::of(&model.run, &model.peers);
    let machine = (doubts.unquiet > 0).then(|| {
        Sentence::default()
            .text("Latencies are in doubt: the machine was not quiet in ")
            .figure(format!("{} of {}", doubts.unquiet, doubts.trials))
            .text(plural(doubts.trials, " trial", " trials"))
            .text(". Stop other work, and run again.")
    });
    let others = doubts.others.iter().map(|(warning, affected, peers)| {
        let what = format!("{} of {} are in doubt.", affected.words(), peers.join(", "));
        let text = format!("{what} {}", capitalised(&warning.to_string()));
        Sentence::default().text(&text)
    });
    machine.into_iter().chain(others).collect()
}

/// A sentence that may begin with the name of a figure.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}

/// The word for the number.
fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}
