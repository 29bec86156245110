//! What came out, in sentences made from the data.
//!
//! Each sentence is a list of pieces, so that a page can mark a peer's name
//! and the terminal can print it plainly. A sentence calls one peer better than
//! another only where the interval of their ratio, repeat by repeat, leaves no
//! doubt; where it does, there is no significant difference, and the sentence says so. With
//! too few repeats for an interval it states both figures and draws no conclusion.

mod answer;
mod peer;
pub(crate) mod search;
mod sentence;
mod state;
pub(crate) mod sweep;

use measure::{figure::Figure, format, record::Layer};
pub use sentence::{Piece, Sentence};

use crate::{
    model::{Difference, Estimate, Model, PeerView},
    overload::Overload,
};

/// What a report says first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The answer, in two or three sentences.
    pub answer: Vec<Sentence>,
    /// One sentence a peer.
    pub peers: Vec<Sentence>,
    /// What puts figures in doubt.
    pub doubts: Vec<Sentence>,
    /// What is worth knowing and puts no figure in doubt: trials that failed or were measured
    /// again, calls that were lost, too few repeats.
    pub notes: Vec<Sentence>,
}

impl Findings {
    /// What a run says.
    pub fn of(model: &Model<'_>) -> Self {
        let mut findings = Self::of_figures(model);
        if model.run.simulation.is_some() {
            let said = findings.answer.iter_mut().chain(&mut findings.peers);
            said.for_each(|sentence| {
                sentence.0.insert(0, Piece::Text("Simulated: ".to_owned()));
            });
        }
        findings
    }

    fn of_figures(model: &Model<'_>) -> Self {
        let pair = Pair::of(model);
        let (doubts, notes) = (state::doubts(model), state::notes(model, pair.as_ref()));
        if let Some(swept) = &model.sweep {
            let of_peer = |peer| sweep::of_peer(model, swept, peer);
            return Self {
                answer: lead(model, || sweep::answer(model, swept, pair.as_ref())),
                peers: model.peers.iter().map(of_peer).collect(),
                doubts,
                notes,
            };
        }
        Self {
            answer: lead(model, || answer(model, pair.as_ref())),
            peers: model
                .peers
                .iter()
                .map(|peer| peer::sentence(model, peer, pair.as_ref()))
                .collect(),
            doubts,
            notes,
        }
    }

    /// The answer in plain text; none where there is nothing to answer with.
    pub fn plain_answer(&self) -> Option<String> {
        let said: Vec<String> = self.answer.iter().map(Sentence::plain).collect();
        (!said.is_empty()).then(|| said.join(" "))
    }

    /// The doubts in plain text.
    pub fn plain_doubts(&self) -> Vec<String> {
        self.doubts.iter().map(Sentence::plain).collect()
    }
}

/// The sentence that a scenario has for what came out; none where it has none.
pub(crate) fn asked(model: &Model<'_>) -> Option<Sentence> {
    answer::of(model)
}

/// Which peer of those that decide could not be measured, and why.
fn not_measurable(model: &Model<'_>) -> Option<Sentence> {
    let decisive = &model.run.answer.as_ref()?.peers;
    let left = model.run.left_out.iter().find(|left| decisive.contains(&left.peer))?;
    let reason = left.reason.trim_end_matches('.');
    let sentence = Sentence::default().text("The question can't be answered here: ");
    Some(sentence.figure(&left.peer).text(&format!(" was left out ({reason}).")))
}

/// What is said first: what the scenario has for it, or else what the figures of two peers
/// come to.
fn lead(model: &Model<'_>, by_default: impl FnOnce() -> Vec<Sentence>) -> Vec<Sentence> {
    let missing = not_measurable(model);
    let said = asked(model).map_or_else(by_default, |asked| vec![asked]);
    missing.into_iter().chain(said).collect()
}

/// The two peers the answer is about: one that balances calls, against one that
/// balances connections.
#[derive(Clone, Copy)]
pub struct Pair<'m, 'a> {
    /// The one that balances calls.
    pub calls: &'m PeerView<'a>,
    /// The one that balances connections, or does not balance at all.
    pub connections: &'m PeerView<'a>,
}

impl<'m, 'a> Pair<'m, 'a> {
    /// The first of each kind that was measured.
    pub fn of(model: &'m Model<'a>) -> Option<Self> {
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
    if pair.calls.overload.is_some() || pair.connections.overload.is_some() {
        let own = overloaded(pair.calls, overloaded(pair.connections, Sentence::default()));
        let pointer = Sentence::default().text(
            "Their latency and CPU per call can't be compared, since they did not do the same \
             work; cost-of-l7 and many-conns compare them under a load that both can handle.",
        );
        return share_answer(model, pair).into_iter().chain([own, pointer]).collect();
    }
    [share_answer(model, pair), tail_answer(model, pair), cost_answer(model, pair)]
        .into_iter()
        .flatten()
        .collect()
}

/// Who served the calls.
fn share_answer(model: &Model<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let (calls, connections) =
        (pair.calls.estimate(Figure::MaxShare)?, pair.connections.estimate(Figure::MaxShare)?);
    let all = model.backends.len();
    let used = pair.connections.estimate(Figure::BackendsUsed)?;
    let mut sentence = Sentence::default();
    let significant = pair.calls.beside(pair.connections, Figure::MaxShare).significant;
    if significant == Difference::NotSignificant && (calls.value - connections.value).abs() >= 0.01
    {
        return Some(
            sentence
                .text("There is no significant difference between how ")
                .peer(pair.connections)
                .text(" and ")
                .peer(pair.calls)
                .text(" spread the calls: the busiest backend got ")
                .shares(&connections)
                .text(" and ")
                .shares(&calls)
                .text("."),
        );
    }
    // Shares are counted, not sampled: where repeats are few, what each of them
    // shows is told.
    let alike = significant == Difference::TooFew && !calls.apart_from(&connections);
    if alike || (calls.value - connections.value).abs() < 0.01 {
        return Some(
            sentence
                .peer(pair.connections)
                .text(" and ")
                .peer(pair.calls)
                .text(" spread the calls equally well: the busiest backend got ")
                .figure(format::share(connections.value))
                .text(" and ")
                .figure(format::share(calls.value))
                .text("."),
        );
    }
    if connections.lowest >= 1.0 && all > 1 {
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
        if used.highest < all as f64 {
            sentence = sentence.text(&format!(", with {} of {all} in use", used.value));
        }
        sentence = sentence.text("; behind ");
    }
    sentence = sentence.peer(pair.calls);
    Some(evenly(model, &calls, sentence))
}

/// How an overloaded peer falls behind.
pub(crate) fn overloaded(peer: &PeerView<'_>, sentence: Sentence) -> Sentence {
    let Some(overload) = &peer.overload else { return sentence };
    let between = if sentence.0.is_empty() { "" } else { " " };
    let sentence = sentence.text(between).peer(peer).text(" was overloaded: ");
    falling_behind(overload, sentence).text(".")
}

/// What it was offered, what it served, and how its queue grew.
fn falling_behind(overload: &Overload, sentence: Sentence) -> Sentence {
    let sentence = sentence
        .text("offered ")
        .figure(format::rate(overload.offered.value))
        .text(", it served ")
        .figure(format::rate(overload.served.value));
    match overload.growth {
        Some(growth) => sentence
            .text("; with each second of load, calls waited ")
            .figure(format::duration(growth * 1e9))
            .text(" longer"),
        None => sentence.text("; its queue grew for as long as the load lasted"),
    }
}

/// How a balancer of calls spread them, by its busiest backend.
fn evenly(model: &Model<'_>, calls: &Estimate, sentence: Sentence) -> Sentence {
    let even = model.even_share().filter(|even| (calls.highest - even).abs() < 0.01);
    let Some(even) = even else {
        return sentence.text(" the busiest got ").shares(calls).text(".");
    };
    let (each, busiest) = (format::share(even), format::share(calls.value));
    if each == busiest {
        return sentence.text(" each got ").figure(each).text(".");
    }
    sentence
        .text(" each got about ")
        .figure(each)
        .text(" and the busiest ")
        .figure(busiest)
        .text(".")
}

/// How long the slowest of a hundred waited.
fn tail_answer(model: &Model<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let (calls, connections) =
        (pair.calls.estimate(Figure::LatencyP99)?, pair.connections.estimate(Figure::LatencyP99)?);
    let beside = pair.calls.beside(pair.connections, Figure::LatencyP99);
    let sentence = Sentence::default();
    if beside.significant == Difference::NotSignificant {
        return Some(
            sentence
                .text(&format!(
                    "There is no significant difference between their {}p99: ",
                    model.loop_word()
                ))
                .durations(&connections)
                .text(" with ")
                .peer(pair.connections)
                .text(" and ")
                .durations(&calls)
                .text(" with ")
                .peer(pair.calls)
                .text(".")
                .open_ends(&beside),
        );
    }
    let sentence = sentence
        .text(if model.open_loop() {
            "One call in a hundred took "
        } else {
            "In the closed loop, one call in a hundred took "
        })
        .durations(&connections)
        .text(" or longer with ")
        .peer(pair.connections)
        .text(", and ")
        .durations(&calls)
        .text(" with ")
        .peer(pair.calls);
    let ratio = beside.ratio.filter(|_| beside.significant != Difference::TooFew);
    Some(match ratio {
        Some(ratio) => sentence.text(": ").ratio(&ratio).text("."),
        None => sentence.text("."),
    })
}

/// What that costs.
fn cost_answer(model: &Model<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    let calls = pair.calls.estimate(Figure::ProxyCpuPerCall);
    let connections = pair.connections.estimate(Figure::ProxyCpuPerCall);
    let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
    let sentence = Sentence::default();
    match (calls, connections) {
        (Some(calls), Some(connections)) if beside.significant == Difference::NotSignificant => Some(
            sentence
                .text(
                    "There is no significant difference between their proxies' CPU time per call: ",
                )
                .durations(&connections)
                .text(" and ")
                .durations(&calls)
                .text(".")
                .open_ends(&beside),
        ),
        (Some(calls), Some(_)) => {
            let difference = beside.difference.unwrap_or(calls);
            let word = if difference.value > 0.0 { "more" } else { "less" };
            let difference = difference.magnitude();
            let sentence = sentence
                .peer(pair.calls)
                .text("'s proxy used ")
                .durations(&difference)
                .text(&format!(" {word} CPU per call"));
            Some(sentence.carried(model, &difference).text("."))
        }
        (Some(calls), None) => {
            let sentence = sentence
                .peer(pair.calls)
                .text("'s proxy used ")
                .durations(&calls)
                .text(" of CPU per call");
            if !pair.connections.in_kernel() {
                return Some(sentence.text("."));
            }
            let sentence = sentence.text("; what ").peer(pair.connections);
            let all = Figure::LabCpuPerCall;
            let of_all = (pair.connections.estimate(all), pair.calls.estimate(all));
            let sentence = sentence.text(" uses in the kernel is not billed to any process");
            let (Some(connections), Some(calls)) = of_all else {
                return Some(sentence.text("."));
            };
            Some(
                sentence
                    .text(". Client, balancer and backends together used ")
                    .durations(&connections)
                    .text(" per call with ")
                    .peer(pair.connections)
                    .text(" and ")
                    .durations(&calls)
                    .text(" with ")
                    .peer(pair.calls)
                    .text("."),
            )
        }
        (None, _) => None,
    }
}
