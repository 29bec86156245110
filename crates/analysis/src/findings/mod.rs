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
pub(crate) use sentence::between;
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

    /// The answer, or, where there is none, the sentence of each peer.
    pub fn said(&self) -> &[Sentence] {
        if self.answer.is_empty() { &self.peers } else { &self.answer }
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

    /// A figure of both, where both have it.
    pub(crate) fn both(&self, figure: Figure) -> Option<(Estimate, Estimate)> {
        self.calls.estimate(figure).zip(self.connections.estimate(figure))
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
    let (calls, connections) = pair.both(Figure::MaxShare)?;
    let used = pair.connections.estimate(Figure::BackendsUsed)?;
    let significant = pair.calls.beside(pair.connections, Figure::MaxShare).significant;
    let reads_alike = (calls.value - connections.value).abs() < 0.01;
    let both = [pair.connections, pair.calls];
    if significant == Difference::NotSignificant && !reads_alike {
        return Some(
            Sentence::default()
                .text("There is no significant difference between how ")
                .peers(&both)
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
    if alike || reads_alike {
        return Some(
            Sentence::default()
                .peers(&both)
                .text(" spread the calls equally well: the busiest backend got ")
                .figure(format::share(connections.value))
                .text(" and ")
                .figure(format::share(calls.value))
                .text("."),
        );
    }
    let sentence = Sentence::default().text("Behind ").peer(pair.connections);
    let sentence = unevenly(&connections, &used, model.backends.len(), sentence);
    Some(evenly(model, &calls, sentence.peer(pair.calls)))
}

/// How a balancer of connections spread calls over all backends, by the busiest one, up to
/// the name of another.
fn unevenly(share: &Estimate, used: &Estimate, all: usize, sentence: Sentence) -> Sentence {
    if share.lowest >= 1.0 && all > 1 {
        return sentence
            .text(" one backend got ")
            .figure("100 %")
            .text(" of the calls and the other ")
            .text(&(all - 1).to_string())
            .text(" got none; behind ");
    }
    let sentence = sentence.text(" the busiest backend got ").shares(share).text(" of the calls");
    let some = format!(", with {} of {all} in use", used.value);
    sentence.text(if used.highest < all as f64 { &some } else { "" }).text("; behind ")
}

/// How an overloaded peer falls behind.
pub(crate) fn overloaded(peer: &PeerView<'_>, sentence: Sentence) -> Sentence {
    let Some(overload) = &peer.overload else { return sentence };
    let sentence = sentence.start().peer(peer).text(" was overloaded: ");
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

/// How long the slowest of a hundred waited; nothing where a quota stops the proxies time and
/// again, since calls then wait for the quota.
fn tail_answer(model: &Model<'_>, pair: &Pair<'_, '_>) -> Option<Sentence> {
    if model.run.proxy_quota.is_some() {
        return None;
    }
    let (calls, connections) = pair.both(Figure::LatencyP99)?;
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
    let calls = pair.calls.estimate(Figure::ProxyCpuPerCall)?;
    let Some(connections) = pair.connections.estimate(Figure::ProxyCpuPerCall) else {
        return Some(cost_of_calls(pair, &calls));
    };
    let beside = pair.calls.beside(pair.connections, Figure::ProxyCpuPerCall);
    if beside.significant == Difference::NotSignificant {
        return Some(
            Sentence::default()
                .text(
                    "There is no significant difference between their proxies' CPU time per call: ",
                )
                .durations(&connections)
                .text(" and ")
                .durations(&calls)
                .text(".")
                .open_ends(&beside),
        );
    }
    let difference = beside.difference.unwrap_or(calls);
    let word = if difference.value > 0.0 { "more" } else { "less" };
    let difference = difference.magnitude();
    let sentence = Sentence::default()
        .peer(pair.calls)
        .text("'s proxy used ")
        .durations(&difference)
        .text(&format!(" {word} CPU per call"));
    Some(sentence.carried(model, &difference).text("."))
}

/// What balancing calls costs where the cost of balancing connections is not known.
fn cost_of_calls(pair: &Pair<'_, '_>, calls: &Estimate) -> Sentence {
    let sentence = Sentence::default()
        .peer(pair.calls)
        .text("'s proxy used ")
        .durations(calls)
        .text(" of CPU per call");
    if !pair.connections.in_kernel() {
        return sentence.text(".");
    }
    let sentence = sentence
        .text("; what ")
        .peer(pair.connections)
        .text(" uses in the kernel is not billed to any process");
    let Some((calls, connections)) = pair.both(Figure::LabCpuPerCall) else {
        return sentence.text(".");
    };
    sentence
        .text(". Client, balancer and backends together used ")
        .durations(&connections)
        .text(" per call with ")
        .peer(pair.connections)
        .text(" and ")
        .durations(&calls)
        .text(" with ")
        .peer(pair.calls)
        .text(".")
}
