//! The situations a team may be in, each with the scenario that shows it, and which
//! choice the measurements support there.
//!
//! A new situation is a line in [`list`]. A run of a scenario that is not listed, or with
//! settings of its own, is judged like the others, under its own question.

mod judged;
mod list;

use measure::{
    answer::Answer,
    figure::Figure,
    record::{Discovery, Layer},
};
use schemars::JsonSchema;
use serde::Serialize;

pub use self::list::scenarios;
use self::list::{By, Entry, SITUATIONS};
use super::{
    Evidence, Finding, PEERS, Status, change, fleets, policies, run_view::RunView, sweeps,
};
use crate::{
    findings::Sentence,
    model::{Model, PeerView},
    verdict::Verdict,
};

/// A balancer to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// A proxy that balances connections.
    L4,
    /// A proxy that balances calls.
    L7,
    /// A client that balances its calls itself, over the backends that it has resolved a
    /// name to.
    ClientDns,
    /// A client that balances its calls itself, over the backends that it is told of.
    ClientLookaside,
}

impl Choice {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::L4 => "L4",
            Self::L7 => "L7",
            Self::ClientDns => "client-dns",
            Self::ClientLookaside => "client-lookaside",
        }
    }

    /// The choice that a client which balances stands for.
    pub(super) fn of_client(client: &PeerView<'_>) -> Self {
        match client.setup.and_then(|setup| setup.discovery) {
            Some(Discovery::Dns) => Self::ClientDns,
            Some(Discovery::Lookaside) | None => Self::ClientLookaside,
        }
    }
}

/// A situation, and which choices are right in it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Situation {
    /// Which situation it is.
    pub when: String,
    /// The scenario that shows it.
    pub scenario: String,
    /// The choices that the data supports; none where it can't tell.
    pub choices: Vec<Choice>,
    /// The policies that the data supports, where policies of one balancer were compared;
    /// none where it can't tell.
    pub policies: Vec<String>,
    /// Whether it asks for no choice between balancing calls and balancing connections.
    pub is_aside: bool,
    /// What decides between them, in short.
    #[schemars(with = "String")]
    pub reason: Sentence,
    /// What came out, as the scenario says it.
    pub finding: Finding,
    /// What else there is to say: cost, the client, other programs.
    #[schemars(with = "String")]
    pub details: Sentence,
    /// What to run where something is missing.
    pub command: Option<String>,
}

impl Situation {
    /// One that has nothing to say but its finding, and names no choice.
    fn new(when: String, scenario: &str, finding: Finding, command: Option<String>) -> Self {
        Self {
            when,
            scenario: scenario.to_owned(),
            choices: Vec::new(),
            policies: Vec::new(),
            is_aside: false,
            reason: finding.sentence.clone(),
            finding,
            details: Sentence::default(),
            command,
        }
    }

    /// What to choose, in words; `None` where there is nothing to choose, or no telling.
    pub fn chosen(&self) -> Option<String> {
        let choices = self.choices.iter().map(|one| one.words());
        let all: Vec<&str> = choices.chain(self.policies.iter().map(String::as_str)).collect();
        (!all.is_empty()).then(|| all.join(" or "))
    }

    /// The situation as the opening of what is said of it: with `mark` and a space, or
    /// with its own question mark, where it is a scenario's question.
    pub fn opening(&self, mark: &str) -> String {
        let mark = if self.when.ends_with('?') { "" } else { mark };
        format!("{}{mark} ", self.when)
    }
}

/// [`PEERS`], where backends come and go.
const PEERS_UNDER_CHANGE: &str = "direct,l4,l7,client-dns,client-lookaside";

pub(super) fn of(views: &[RunView<'_>], searches: &[RunView<'_>]) -> Vec<Situation> {
    let mut all = Vec::new();
    for entry in SITUATIONS {
        let own = |one: &&RunView<'_>| one.scenario() == entry.scenario;
        let situations: Vec<Situation> = match entry.by {
            By::Search => {
                let runs = searches.iter().filter(own);
                runs.map(|one| over(entry, &[one], sweeps::of_search(one), "latency-percentiles"))
                    .collect()
            }
            By::Sweep(sentence, anchor) => swept(views, entry.scenario)
                .iter()
                .map(|points| over(entry, points, sentence(points), anchor))
                .collect(),
            By::Fleet(sentence, anchor) => swept(views, entry.scenario)
                .iter()
                .map(|points| over_fleets(entry, points, sentence(points), anchor))
                .collect(),
            by => views
                .iter()
                .filter(own)
                .filter(|one| one.point.is_none())
                .map(|one| judged(entry.when, by, one))
                .collect(),
        };
        let plain = |one: &Situation| one.finding.id == entry.scenario;
        if !situations.iter().any(plain) {
            all.push(missing(entry));
        }
        all.extend(situations);
    }
    let is_listed = |one: &RunView<'_>| scenarios().any(|name| name == one.scenario());
    let (asides, own): (Vec<_>, Vec<_>) =
        views.iter().filter(|one| !is_listed(one)).partition(|one| answers_aside(one));
    all.extend(own.into_iter().filter_map(unlisted));
    // One for all points of a run.
    let mut folders = Vec::new();
    for one in asides {
        if !folders.contains(&&one.chosen.folder) {
            folders.push(&one.chosen.folder);
            all.extend(aside(one));
        }
    }
    all
}

/// The situation of a scenario that is not listed, if it compares what is chosen between.
fn unlisted(view: &RunView<'_>) -> Option<Situation> {
    let by = match view.pair() {
        _ if view.point.is_some() => return None,
        None => {
            policies::of(view, Figure::LatencyP99)?;
            By::Policy(Figure::LatencyP99)
        }
        Some(_) if change::happens(view) => By::Change,
        Some(_) if view.model.run.load.call == "unary" => By::Tail,
        Some(_) => By::Shares,
    };
    Some(judged(&view.model.run.question, by, view))
}

/// Whether the answer of a run is about something else than the latency of balancing calls
/// beside that of balancing connections.
fn answers_aside(view: &RunView<'_>) -> bool {
    let is_of_layers = |answer: &Answer| {
        let layer = |name: &String| view.peer(name)?.layer();
        let layers = answer.peers.each_ref().map(layer);
        let is_both = layers.contains(&Some(Layer::L4)) && layers.contains(&Some(Layer::L7));
        is_both && answer.figure.is_latency() && view.point.is_none()
    };
    view.model.run.answer.as_ref().is_some_and(|answer| !is_of_layers(answer))
}

/// What a run answers to its own question, which is none of the situations.
fn aside(view: &RunView<'_>) -> Option<Situation> {
    let run = &view.chosen.run;
    let sentence = crate::findings::asked(&Model::new(&run.record, &run.trials))?;
    let (when, id) = named(&run.record.question, view);
    let evidence = Evidence { point: None, ..view.cite("answer") };
    let finding = Finding::new(&id, Status::Conclusive, sentence, vec![evidence]);
    Some(Situation { is_aside: true, ..Situation::new(when, view.scenario(), finding, None) })
}

/// The points of each swept run of a scenario.
fn swept<'s, 'a>(views: &'s [RunView<'a>], scenario: &str) -> Vec<Vec<&'s RunView<'a>>> {
    let mut runs: Vec<Vec<&'s RunView<'a>>> = Vec::new();
    for one in views.iter().filter(|one| one.scenario() == scenario && one.point.is_some()) {
        match runs.iter_mut().find(|points| points[0].chosen.folder == one.chosen.folder) {
            Some(points) => points.push(one),
            None => runs.push(vec![one]),
        }
    }
    runs
}

/// A situation that is about where something turns.
fn over(
    entry: &Entry,
    points: &[&RunView<'_>],
    sentence: Option<sweeps::Judged>,
    anchor: &str,
) -> Situation {
    let first = points[0];
    let (when, id) = named(entry.when, first);
    let whole = Evidence { point: None, ..first.cite(anchor) };
    let (status, sentence) = sentence.unwrap_or_else(|| {
        let text = "It was run, but not with an L4 and an L7 peer at the same points.";
        (Status::NotMeasured, Sentence::default().text(text))
    });
    let command = match status {
        Status::Conclusive => None,
        Status::Inconclusive => Some(more_repeats(first)),
        Status::NotMeasured => Some(rerun(first, &format!("--peers {PEERS}"))),
    };
    let finding = Finding::new(&id, status, sentence, vec![whole]);
    Situation::new(when, entry.scenario, finding, command)
}

/// A situation that is about what a fleet makes of policies.
fn over_fleets(
    entry: &Entry,
    points: &[&RunView<'_>],
    sentence: Option<fleets::Judgement>,
    anchor: &str,
) -> Situation {
    let Some(fleets::Judgement { status, verdict, details, policies }) = sentence else {
        let text = "It was run, but no policy was measured at several points.";
        let sentence = Sentence::default().text(text);
        let unmeasured = over(entry, points, Some((Status::NotMeasured, sentence)), anchor);
        return Situation { command: missing(entry).command, ..unmeasured };
    };
    Situation { details, policies, ..over(entry, points, Some((status, verdict)), anchor) }
}

/// A situation with the settings of a run that has its own, and its name for scripts.
fn named(when: &str, view: &RunView<'_>) -> (String, String) {
    let settings = view.chosen.settings.join(", ");
    if settings.is_empty() {
        return (when.to_owned(), view.scenario().to_owned());
    }
    (format!("{when}, with {settings}"), format!("{} {settings}", view.scenario()))
}

fn missing(entry: &Entry) -> Situation {
    let command = format!("cargo run -p loadgen -- --scenario {}", entry.scenario);
    let sentence = Sentence::default().text("Not measured.");
    let finding = Finding::new(entry.scenario, Status::NotMeasured, sentence, Vec::new());
    Situation::new(entry.when.to_owned(), entry.scenario, finding, Some(command))
}

fn judged(when: &str, by: By, view: &RunView<'_>) -> Situation {
    let (when, id) = named(when, view);
    let found = |status, sentence, anchors: &[&str], command| {
        let evidence = anchors.iter().map(|anchor| view.cite(anchor)).collect();
        let finding = Finding::new(&id, status, sentence, evidence);
        Situation::new(when, view.scenario(), finding, command)
    };
    if let By::Policy(figure) = by
        && let Some(judgement) = policies::of(view, figure)
    {
        let command = (judgement.status != Status::Conclusive).then(|| more_repeats(view));
        let (status, sentence) = (judgement.status, judgement.sentence.clone());
        let found = found(status, sentence, &["latency-percentiles", "shares"], command);
        return Situation { policies: judgement.supported(), ..found };
    }
    let peers = if matches!(by, By::Change) { PEERS_UNDER_CHANGE } else { PEERS };
    let with_peers = rerun(view, &format!("--peers {peers}"));
    let Some(pair) = view.pair() else {
        let sentence = Sentence::default().text(
            "It was run, but not with both an L4 and an L7 peer, so it does not compare them.",
        );
        return found(Status::NotMeasured, sentence, &["comparison"], Some(with_peers));
    };
    let mut judged = judged::of(view, pair, by);
    let reason = judged.headline.clone();
    // What the scenario says of its outcome comes first.
    if let Some(asked) = crate::findings::asked(&view.model) {
        let headline = std::mem::replace(&mut judged.headline, asked).start();
        judged.sentence = headline.followed_by(judged.sentence);
    }
    judged.extend_to_clients(view, pair, by);
    judged.extend_to_makes(view, by);
    let (status, command) = match judged.verdict {
        Verdict::Inconclusive if !judged.is_trade => {
            (Status::Inconclusive, Some(more_repeats(view)))
        }
        _ => {
            let clients = if matches!(by, By::Change) { 2 } else { 1 };
            (Status::Conclusive, (view.clients().len() < clients).then_some(with_peers))
        }
    };
    Situation {
        choices: judged.choices,
        reason,
        details: judged.sentence,
        ..found(status, judged.headline, &judged.anchors, command)
    }
}

/// The command that runs a scenario again under its settings.
fn rerun(view: &RunView<'_>, flags: &str) -> String {
    let settings: String = view.chosen.settings.iter().map(|one| format!(" --set {one}")).collect();
    format!("cargo run -p loadgen -- --scenario {} {flags}{settings}", view.scenario())
}

/// What makes an interval narrower.
fn more_repeats(view: &RunView<'_>) -> String {
    let repeats = (view.model.repeats() * 3).max(5);
    let peers: Vec<&str> =
        view.chosen.run.record.peers.iter().map(|peer| peer.name.as_str()).collect();
    rerun(view, &format!("--peers {} --repeats {repeats}", peers.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_situation_is_told_twice() {
        let names: std::collections::BTreeSet<&str> = scenarios().collect();
        assert_eq!(names.len(), SITUATIONS.len());
    }
}
