//! What came out, in sentences made from the data.
//!
//! Each sentence is a list of pieces, so that the page can colour a peer's name
//! and the terminal can print it plainly. A sentence compares two peers only
//! where every repeat of one lies on the same side of every repeat of the other;
//! where not, it says that the data can't tell.

mod peer;
mod state;

use measure::record::Layer;

use crate::{
    format,
    model::{Estimate, Model, PeerView},
    palette::Paint,
};

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words.
    Text(String),
    /// The name of a peer, and its colour.
    Peer(String, Paint),
    /// A figure.
    Figure(String),
    /// What qualifies the figure before it: its lowest and highest repeat.
    Range(String),
}

/// A sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence(pub Vec<Piece>);

/// What a report says first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The answer, in two or three sentences.
    pub answer: Vec<Sentence>,
    /// One sentence a peer.
    pub peers: Vec<Sentence>,
    /// What the reader must know before believing it: trials that failed,
    /// differences the data can't tell, doubts.
    pub caveats: Vec<Sentence>,
}

impl Findings {
    /// What a run says.
    pub fn of(model: &Model<'_>) -> Self {
        let pair = Pair::of(model);
        Self {
            answer: answer(model, pair.as_ref()),
            peers: model
                .peers
                .iter()
                .map(|peer| peer::sentence(model, peer, pair.as_ref()))
                .collect(),
            caveats: state::caveats(model, pair.as_ref()),
        }
    }
}

/// The two peers the answer is about: one that balances calls, against one that
/// balances connections.
pub(crate) struct Pair<'m, 'a> {
    /// The one that balances calls.
    pub(crate) calls: &'m PeerView<'a>,
    /// The one that balances connections, or does not balance at all.
    pub(crate) connections: &'m PeerView<'a>,
}

impl<'m, 'a> Pair<'m, 'a> {
    fn of(model: &'m Model<'a>) -> Option<Self> {
        let first = |layer: Layer| {
            model.measured().find(|peer| peer.setup.is_some_and(|setup| setup.layer == layer))
        };
        Some(Self {
            calls: first(Layer::L7).or_else(|| first(Layer::Client))?,
            connections: first(Layer::L4).or_else(|| first(Layer::None))?,
        })
    }
}

fn answer(model: &Model<'_>, pair: Option<&Pair<'_, '_>>) -> Vec<Sentence> {
    let Some(pair) = pair else {
        return Vec::new();
    };
    [share_answer(model, pair), tail_answer(pair), cost_answer(pair)]
        .into_iter()
        .flatten()
        .collect()
}

/// Who served the calls.
fn share_answer(model: &Model<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let (calls, connections) =
        (pair.calls.estimate("max_share")?, pair.connections.estimate("max_share")?);
    let all = model.backends.len();
    let used = pair.connections.estimate("backends_used")?;
    let mut sentence = Sentence::default();
    if !calls.apart_from(&connections) || (calls.value - connections.value).abs() < 0.01 {
        return Some(
            sentence
                .peer(pair.connections)
                .text(" and ")
                .peer(pair.calls)
                .text(" spread the calls alike: the busiest backend got ")
                .figure(format::share(connections.value))
                .text(" and ")
                .figure(format::share(calls.value))
                .text("."),
        );
    }
    if connections.low >= 1.0 && all > 1 {
        sentence = sentence
            .text("Behind ")
            .peer(pair.connections)
            .text(" one backend got ")
            .figure("100 %")
            .text(" of the calls and the other ")
            .text(&(all - 1).to_string())
            .text(" got none; behind ");
    } else {
        sentence = sentence
            .text("Behind ")
            .peer(pair.connections)
            .text(" the busiest backend got ")
            .shares(&connections)
            .text(" of the calls");
        if used.high < all as f64 {
            sentence = sentence.text(&format!(", with {} of {all} in use", used.value));
        }
        sentence = sentence.text("; behind ");
    }
    sentence = sentence.peer(pair.calls);
    let sentence = match model.even_share() {
        Some(even) if (calls.high - even).abs() < 0.01 => {
            sentence.text(" each got ").figure(format::share(calls.value)).text(".")
        }
        _ => sentence.text(" the busiest got ").shares(&calls).text("."),
    };
    Some(sentence)
}

/// How long the slowest of a hundred waited.
fn tail_answer(pair: &Pair<'_, '_>) -> Option<Sentence> {
    let (calls, connections) =
        (pair.calls.estimate("latency_p99")?, pair.connections.estimate("latency_p99")?);
    let sentence = Sentence::default();
    if !calls.apart_from(&connections) {
        return Some(
            sentence
                .text("The data can't tell their p99 apart: ")
                .durations(&connections)
                .text(" and ")
                .durations(&calls)
                .text("."),
        );
    }
    Some(
        sentence
            .text("One call in a hundred took ")
            .durations(&connections)
            .text(" or longer with ")
            .peer(pair.connections)
            .text(", and ")
            .durations(&calls)
            .text(" with ")
            .peer(pair.calls)
            .text(": ")
            .figure(format::change(connections.value, calls.value))
            .text("."),
    )
}

/// What that costs.
fn cost_answer(pair: &Pair<'_, '_>) -> Option<Sentence> {
    let calls = pair.calls.estimate("proxy_cpu_per_call");
    let connections = pair.connections.estimate("proxy_cpu_per_call");
    let sentence = Sentence::default();
    match (calls, connections) {
        (Some(calls), Some(connections)) if calls.apart_from(&connections) => {
            let (word, difference) = if calls.value > connections.value {
                ("more", calls.minus(&connections))
            } else {
                ("less", connections.minus(&calls))
            };
            Some(
                sentence
                    .peer(pair.calls)
                    .text("'s proxy spent ")
                    .durations(&difference)
                    .text(&format!(
                        " {word} CPU on each call; at a million calls a second that is "
                    ))
                    .figure(cores(difference.value))
                    .text(&format!(" {word}.")),
            )
        }
        (Some(calls), Some(connections)) => Some(
            sentence
                .text("The data can't tell their proxies' CPU time per call apart: ")
                .durations(&connections)
                .text(" and ")
                .durations(&calls)
                .text("."),
        ),
        (Some(calls), None) => Some(
            sentence
                .peer(pair.calls)
                .text("'s proxy spent ")
                .durations(&calls)
                .text(" of CPU on each call."),
        ),
        (None, _) => None,
    }
}

/// Cores that a cost per call comes to at a million calls a second.
fn cores(ns_per_call: f64) -> String {
    let cores = ns_per_call / 1e3;
    if cores < 0.05 { "less than 0.1 cores".to_owned() } else { format!("{cores:.1} cores") }
}

impl Sentence {
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.push(Piece::Text(text.to_owned()));
        self
    }

    pub(crate) fn peer(mut self, peer: &PeerView<'_>) -> Self {
        self.0.push(Piece::Peer(peer.name.clone(), peer.paint));
        self
    }

    pub(crate) fn figure(mut self, figure: impl Into<String>) -> Self {
        self.0.push(Piece::Figure(figure.into()));
        self
    }

    fn range(mut self, estimate: &Estimate, low_high: String) -> Self {
        if estimate.trials > 1 {
            self.0.push(Piece::Range(low_high));
        }
        self
    }

    /// A time with its lowest and highest repeat.
    pub(crate) fn durations(self, estimate: &Estimate) -> Self {
        let range = format::duration_range(estimate.low, estimate.high);
        self.figure(format::duration(estimate.value)).range(estimate, range)
    }

    /// A share with its lowest and highest repeat.
    pub(crate) fn shares(self, estimate: &Estimate) -> Self {
        let (low, high) = (format::share(estimate.low), format::share(estimate.high));
        let sentence = self.figure(format::share(estimate.value));
        if low == high { sentence } else { sentence.range(estimate, format!("{low} – {high}")) }
    }

    /// The sentence as plain text.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(words) => text.push_str(words),
                Piece::Peer(name, _) => text.push_str(name),
                Piece::Figure(figure) => text.push_str(figure),
                Piece::Range(range) => {
                    text.push_str(" (");
                    text.push_str(range);
                    text.push(')');
                }
            }
        }
        text
    }
}
