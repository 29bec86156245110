//! What the reader must know before believing the answer: doubts, and notes.

use measure::{
    figure::Figure,
    format,
    record::{Layer, LoopMode, RunOutcome, TrialOutcome, Verdict},
};

use super::{Pair, Sentence};
use crate::{
    doubts::{Doubts, tells_failures},
    model::{Affected, Model, PeerView, TrialView},
    theory::placement,
};

/// Most peers and points of which it is said how many calls were lost.
const MOST_LOSSES: usize = 6;

/// What puts figures in doubt that the answer rests on.
pub(super) fn doubts(model: &Model<'_>) -> Vec<Sentence> {
    let of_answer = warned(model).into_iter().filter(|doubt| doubt.aside(model).is_none());
    of_answer.map(|doubt| doubt.says).chain(strays(model)).collect()
}

/// Something that puts figures in doubt.
struct Doubt<'a> {
    affected: Affected,
    /// Whose figures; of all where there are none.
    peers: Vec<&'a str>,
    says: Sentence,
}

impl Doubt<'_> {
    /// Why it does not concern the answer; `None` where it does, as it does where the scenario
    /// has no sentence of its own for what came out.
    fn aside(&self, model: &Model<'_>) -> Option<String> {
        let answer = model.run.answer.as_ref().filter(|_| super::asked(model).is_some())?;
        let is_told = |figure: &Figure| self.affected.holds(*figure) && answer.shows(*figure);
        if !Figure::ALL.iter().any(is_told) {
            let figures = self.affected.words().to_lowercase();
            return Some(format!(" The answer does not use {figures}."));
        }
        let is_aside = !self.peers.is_empty() && !self.peers.iter().any(|one| answer.is_about(one));
        is_aside.then(|| format!(" The answer is not about {}.", format::list(&self.peers)))
    }
}

/// What puts none of them in doubt.
pub(super) fn notes(model: &Model<'_>, pair: Option<&Pair<'_, '_>>) -> Vec<Sentence> {
    let mut notes = Vec::new();
    notes.extend(outcome(model));
    notes.extend(failed_trials(model));
    notes.extend(disturbed_trials(model));
    // A search goes where calls are lost, and says so rate by rate; an answer may tell it.
    if model.run.search.is_none() && !tells_failures(&model.run) {
        notes.extend(lost_calls(model));
    }
    // Of targets it is not known where they balance.
    let known = |peer: &PeerView<'_>| peer.layer() != Some(Layer::External);
    // Nor is it amiss where the scenario asks of other things, as of policies.
    let is_answered = super::asked(model).is_some();
    if pair.is_none() && !is_answered && model.measured().any(known) {
        notes.push(Sentence::default().text(
            "This run does not compare balancing calls with balancing connections, since it does not \
             have figures for a peer of each kind.",
        ));
    }
    notes.extend(model.on_wire_note().map(|note| Sentence::default().text(&note)));
    notes.extend(few_repeats(model));
    notes.extend(closed_loop(model));
    notes.extend(failed_claims(model));
    let asides = warned(model).into_iter().filter_map(|doubt| {
        let aside = doubt.aside(model)?;
        Some(doubt.says.text(&aside))
    });
    notes.extend(asides);
    notes
}

/// Trials in which connections were dealt otherwise than in turn: their shares, and what
/// follows from them, are not those of the policy.
fn strays(model: &Model<'_>) -> Vec<Sentence> {
    // Channels that differ from point to point open other connections than the load says.
    if model.sweep.as_ref().is_some_and(|sweep| sweep.is_of_channels()) {
        return Vec::new();
    }
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
            .text(" of the calls, and would have got ")
            .figure(format::share(due))
            .text(
                " if connections are placed round robin: a connection without calls took a turn, \
                 so this trial does not show the policy alone.",
            )
    })
    .collect()
}

fn outcome(model: &Model<'_>) -> Option<Sentence> {
    let whole = |trial: &&TrialView<'_>| trial.record.outcome != TrialOutcome::Interrupted;
    let trials = model.peers.iter().flat_map(|peer| &peer.trials).filter(whole).count();
    let ran = format!("{trials} {} complete", plural(trials, "trial is", "trials are"));
    let text = match model.run.outcome {
        RunOutcome::Complete if model.measured().next().is_none() => {
            "No trial produced figures, so there is no answer.".to_owned()
        }
        RunOutcome::Complete => return None,
        RunOutcome::Interrupted => {
            format!("The run was interrupted; {ran}, and the figures are from those.")
        }
        RunOutcome::Running => {
            format!("The run is still going or was killed; {ran}, and the figures are from those.")
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
            .text(" not included in any figure.")
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
            .text(" disturbed by other work on the machine. ")
            .text(plural(replaced, "It was", "They were"))
            .text(" measured again and ")
            .text(plural(replaced, "is", "are"))
            .text(" not included in any figure.")
    })
}

/// Calls that failed or had no response: percentiles say nothing of them.
fn lost_calls(model: &Model<'_>) -> Option<Sentence> {
    let lost: Vec<Sentence> = match &model.sweep {
        None => model.peers.iter().filter_map(|peer| lost_by(peer, "")).collect(),
        // Those of different points are never put together.
        Some(sweep) => {
            let at = |peer: &PeerView<'_>| {
                let all = sweep.of_peer(&peer.name).into_iter();
                let said = all.filter_map(|(point, peer)| {
                    lost_by(peer, &format!(" at {}", sweep.shown(point)))
                });
                said.collect::<Vec<_>>()
            };
            model.peers.iter().flat_map(at).collect()
        }
    };
    let more = lost.len().saturating_sub(MOST_LOSSES);
    let mut sentence = Sentence::default();
    for one in lost.into_iter().take(MOST_LOSSES) {
        let opening = if sentence.0.is_empty() { "Of " } else { "; of " };
        sentence = sentence.text(opening).followed_by(one);
    }
    if more > 0 {
        sentence = sentence.text(&format!("; and so on, {more} more in the table below"));
    }
    (!sentence.0.is_empty()).then(|| sentence.text(". Latencies are those of the rest."))
}

/// How many of a peer's calls failed or had no response.
fn lost_by(peer: &PeerView<'_>, at: &str) -> Option<Sentence> {
    let scheduled = peer.sum(|figures| figures.scheduled);
    let part = |calls: u64| {
        format!("{} ({})", format::count(calls), format::share(calls as f64 / scheduled as f64))
    };
    let lost = [
        (peer.sum(|figures| figures.failed), " failed"),
        (peer.sum(|figures| figures.unfinished), " had no response by the end of the trial"),
    ];
    let lost: Vec<_> = lost.into_iter().filter(|(calls, _)| *calls > 0).collect();
    if lost.is_empty() || scheduled == 0 {
        return None;
    }
    let mut sentence = Sentence::default().figure(format::count(scheduled)).text(" calls with ");
    sentence = sentence.peer(peer).text(at).text(", ");
    for (index, (calls, how)) in lost.into_iter().enumerate() {
        sentence = sentence.text(if index > 0 { " and " } else { "" });
        sentence = sentence.figure(part(calls)).text(how);
    }
    Some(sentence)
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
        "Each peer was measured only {often}, so there are no confidence intervals, and a difference \
         may be chance. Repeat with --repeats 3 or more."
    )))
}

fn closed_loop(model: &Model<'_>) -> Option<Sentence> {
    (model.run.load.mode == LoopMode::Closed).then(|| {
        Sentence::default().text(
            "The loop is closed: calls wait for each other, so latency counts from the sending and \
             leaves out how long the calls of an open loop would have waited. Don't compare it with \
             that of an open loop.",
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
        parts.push(format!("{failed} did not hold"));
    }
    if open > 0 {
        parts.push(format!("{open} could not be judged"));
    }
    let sentence = Sentence::default().text("Of ").figure(claims.len().to_string());
    Some(sentence.text(&format!(" expectations, {}.", parts.join(" and "))))
}

/// What warnings put in doubt: the machine in a line or two, and each other cause in one.
fn warned<'a>(model: &'a Model<'_>) -> Vec<Doubt<'a>> {
    let doubts = Doubts::of(&model.run, &model.peers, |peer, point| model.at_point(peer, point));
    let in_trials = |what: &str, trials: usize, advice: &str| {
        (trials > 0).then(|| {
            let says = Sentence::default()
                .text("Latencies are in doubt: ")
                .text(what)
                .text(" in ")
                .figure(format!("{trials} of {}", doubts.trials))
                .text(plural(doubts.trials, " trial. ", " trials. "))
                .text(advice);
            Doubt { affected: Affected::Latency, peers: Vec::new(), says }
        })
    };
    let unquiet =
        in_trials("the machine was not quiet", doubts.unquiet, "Stop other work and run again.");
    let not_as_asked = in_trials(
        "the generator could not keep to the schedule",
        doubts.not_as_asked,
        "Lower the rate, or use a machine with more cores.",
    );
    let others = doubts.others.into_iter().map(|(warning, affected, peers)| {
        let whose =
            if peers.is_empty() { String::new() } else { format!(" of {}", format::list(&peers)) };
        let text = format!("{}{whose} are in doubt. {warning}", affected.words());
        Doubt { affected, peers, says: Sentence::default().text(&text) }
    });
    unquiet.into_iter().chain(not_as_asked).chain(others).collect()
}

/// The word for the number.
fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}
