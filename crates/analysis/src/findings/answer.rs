//! The answer to a scenario's question, in the sentences that the scenario has for it.

use measure::{
    answer::{Answer, Part, Quantity, Template, Whose},
    figure::Figure,
    format,
    record::RunRecord,
};

use super::{Sentence, search, sweep};
use crate::{
    estimate::{Beside, Difference, Estimate},
    model::{Model, PeerView, sweep::peer_at},
    overload, settling,
    verdict::interval_of,
};

/// The sentence for what came out; `None` where the scenario has none for it, or a peer
/// or a figure of it is missing.
pub(super) fn of(model: &Model<'_>) -> Option<Sentence> {
    let answer = model.run.answer.as_ref().filter(|_| asks_the_same(&model.run))?;
    let compared = Compared::of(model, answer);
    if compared.as_ref().is_some_and(|compared| compared.is_void(answer)) {
        return None;
    }
    let written = |template: &Template| fill(model, answer, compared.as_ref(), template);
    let chosen = compared.as_ref().and_then(|compared| compared.template(answer));
    let said = chosen.and_then(written).map(|said| match &compared {
        Some(compared) => compared.undecided(said),
        None => said,
    });
    said.or_else(|| answer.always.as_ref().and_then(written))
}

/// Settings that leave a question what it is.
const LENGTHS: [&str; 2] = ["load.duration", "load.warm_up"];

/// Whether a run asks what its scenario does: a sentence that speaks of three connections is
/// wrong where others were set.
fn asks_the_same(run: &RunRecord) -> bool {
    let changes = |set: &str| !LENGTHS.iter().any(|key| set.starts_with(key));
    !run.overrides.iter().filter_map(|one| one.strip_prefix("--set ")).any(changes)
}

/// The two peers that decide, and how the one's figure stands to the other's.
struct Compared<'m, 'a> {
    /// Both, where they have the figure in trials; a search has its own.
    peers: Option<[&'m PeerView<'a>; 2]>,
    beside: Beside,
}

impl<'m, 'a> Compared<'m, 'a> {
    fn of(model: &'m Model<'a>, answer: &Answer) -> Option<Self> {
        let [own, other] = &answer.peers;
        if answer.figure == Figure::SaturationRate {
            let search = model.run.search.as_ref()?;
            return Some(Self { peers: None, beside: search::rates_beside(search, own, other)? });
        }
        let find = |name: &str| find(model, name, answer.at.as_deref());
        let (own, other) = (find(own)?, find(other)?);
        Some(Self { peers: Some([own, other]), beside: own.beside(other, answer.figure) })
    }

    /// The sentence that the figures call for.
    fn template<'t>(&self, answer: &'t Answer) -> Option<&'t Template> {
        let is_overloaded = |peer: &PeerView<'_>| peer.overload.is_some();
        if self.peers.is_some_and(|[own, other]| is_overloaded(other) && !is_overloaded(own)) {
            return answer.overloaded.as_ref();
        }
        match self.beside.significant {
            Difference::Less => answer.less.as_ref(),
            Difference::Greater => answer.greater.as_ref(),
            Difference::NotSignificant => answer.alike.as_ref(),
            Difference::TooFew => None,
        }
    }

    /// Whether an overload leaves nothing to be said of the decisive figure.
    fn is_void(&self, answer: &Answer) -> bool {
        let Some(peers) = self.peers.filter(|_| !overload::is_meaningful(answer.figure)) else {
            return false;
        };
        match peers.map(|peer| peer.overload.is_some()) {
            [false, true] => answer.overloaded.is_none(),
            [own, other] => own || other,
        }
    }

    /// Where the repeats leave much open, that.
    fn undecided(&self, said: Sentence) -> Sentence {
        said.open_ends(&self.beside)
    }
}

fn fill(
    model: &Model<'_>,
    answer: &Answer,
    compared: Option<&Compared<'_, '_>>,
    template: &Template,
) -> Option<Sentence> {
    let mut sentence = Sentence::default();
    for part in template.parts() {
        sentence = match part {
            Part::Text(text) => sentence.text(text),
            Part::Change => change(sentence, &compared?.beside)?,
            Part::Turn => {
                let swept = model.sweep.as_ref()?;
                let [own, other] = &answer.peers;
                sentence.followed_by(sweep::turn(swept, own, other, answer.figure)?)
            }
            Part::Hole { peer, point, quantity } => {
                let point = point.as_deref();
                match peer {
                    Whose::Peer(name) => of_one(model, name, point, *quantity, sentence)?,
                    Whose::All => ranking(model, point, *quantity, sentence)?,
                    Whose::Best => best(model, point, *quantity, sentence)?,
                }
            }
        };
    }
    Some(sentence)
}

/// A quantity of one peer.
fn of_one(
    model: &Model<'_>,
    name: &str,
    point: Option<&str>,
    quantity: Quantity,
    sentence: Sentence,
) -> Option<Sentence> {
    if quantity == Quantity::Figure(Figure::SaturationRate) {
        return search::rate(model.run.search.as_ref()?, name, sentence);
    }
    let Some((from, to)) = point.and_then(|point| point.split_once("..")) else {
        return quantity_of(model, find(model, name, point)?, quantity, sentence);
    };
    let Quantity::Figure(figure) = quantity else { return None };
    let [from, to] = [from, to].map(|point| find(model, name, Some(point)));
    added(sentence, figure, to?, from?)
}

/// What a figure of a peer has more at one point than at another.
fn added(
    sentence: Sentence,
    figure: Figure,
    to: &PeerView<'_>,
    from: &PeerView<'_>,
) -> Option<Sentence> {
    let difference = to.beside(from, figure).difference?;
    let (own, other) = to.paired(from, |figures| figures.get(figure));
    let interval = interval_of(&own, &other);
    let difference = Estimate { interval, ..difference }.around(difference.value);
    Some(match difference.interval {
        Some((low, high)) if low <= 0.0 && high >= 0.0 => sentence
            .text("nothing significant")
            .qualified(format!("{} to {}", signed(figure, low), signed(figure, high))),
        _ if difference.value < 0.0 => sentence.text("−").estimate(figure, &difference.magnitude()),
        _ => sentence.estimate(figure, &difference),
    })
}

fn signed(figure: Figure, value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}", figure.show(value.abs()))
}

/// A measured peer, at a point of the sweep where one is named.
fn find<'m, 'a>(model: &'m Model<'a>, name: &str, point: Option<&str>) -> Option<&'m PeerView<'a>> {
    match (&model.sweep, point) {
        (Some(sweep), Some(point)) => {
            let value = point.rsplit('=').next()?;
            peer_at(sweep.points.iter().find(|point| point.value == value)?, name)
        }
        (None, None) => model.measured().find(|peer| peer.name == name),
        _ => None,
    }
}

/// How a figure stands to another, with the interval it was judged by.
fn change(sentence: Sentence, beside: &Beside) -> Option<Sentence> {
    let ratio = beside.ratio.filter(|_| beside.significant != Difference::TooFew)?;
    Some(sentence.ratio(&ratio))
}

fn quantity_of(
    model: &Model<'_>,
    peer: &PeerView<'_>,
    quantity: Quantity,
    sentence: Sentence,
) -> Option<Sentence> {
    match quantity {
        Quantity::Figure(figure) => Some(sentence.estimate(figure, &peer.estimate(figure)?)),
        Quantity::Load => {
            Some(sentence.figure(format!("{} times", format::factor(peer.overload?.load))))
        }
        Quantity::Growth => Some(sentence.figure(format::duration(peer.overload?.growth? * 1e9))),
        Quantity::Lost => Some(sentence.lost(peer)),
        Quantity::LostOver => {
            let sentence = sentence.lost(peer);
            Some(match settling::failing_for(peer) {
                Some(seconds) => sentence
                    .text(", the last one ")
                    .figure(format::duration(seconds * 1e9))
                    .text(" later"),
                None => sentence,
            })
        }
        Quantity::Balance => balance(model, peer, sentence),
    }
}

/// How long it took after the last change until calls were balanced.
fn balance(model: &Model<'_>, peer: &PeerView<'_>, sentence: Sentence) -> Option<Sentence> {
    let settled = settling::of(model, peer);
    let last = settled.last()?;
    let middle = last.middle()?;
    if middle.is_infinite() {
        let left = format::duration(last.left_s * 1e9);
        return Some(sentence.text("not within the remaining ").figure(left));
    }
    let times = last.times();
    let ends = [f64::min, f64::max].map(|end| times.iter().copied().reduce(end).unwrap_or(middle));
    let within = format::duration(middle * 1e9);
    let sentence = sentence.text("within ").figure(&within);
    let [low, high] = ends;
    let range = format::duration_range(low * 1e9, high * 1e9);
    Some(if range == within {
        sentence
    } else if high.is_infinite() {
        let never = times.iter().filter(|time| time.is_infinite()).count();
        sentence.qualified(format!("never in {never} of {} repeats", times.len()))
    } else {
        sentence.qualified(format!("{range} over the repeats"))
    })
}

/// All peers that have a figure, the best first.
fn ranked<'m, 'a>(
    model: &'m Model<'a>,
    point: Option<&str>,
    figure: Figure,
) -> Vec<(&'m PeerView<'a>, Estimate)> {
    let names = model.measured().map(|peer| peer.name.as_str());
    let mut all: Vec<_> = names
        .filter_map(|name| {
            let peer = find(model, name, point)?;
            Some((peer, peer.estimate(figure)?))
        })
        .collect();
    all.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
    if figure.more_is_better() {
        all.reverse();
    }
    all
}

fn ranking(
    model: &Model<'_>,
    point: Option<&str>,
    quantity: Quantity,
    mut sentence: Sentence,
) -> Option<Sentence> {
    let Quantity::Figure(figure) = quantity else { return None };
    let all = ranked(model, point, figure);
    for (index, (peer, estimate)) in all.iter().enumerate() {
        let between = if index == 0 { "" } else { ", " };
        sentence = sentence.text(between).peer(peer).text(" ").estimate(figure, estimate);
    }
    (!all.is_empty()).then_some(sentence)
}

/// Who is the best, and those that are not significantly worse.
fn best(
    model: &Model<'_>,
    point: Option<&str>,
    quantity: Quantity,
    sentence: Sentence,
) -> Option<Sentence> {
    let Quantity::Figure(figure) = quantity else { return None };
    let all = ranked(model, point, figure);
    let (first, value) = all.first()?;
    let sentence = sentence.peer(first).text(" with ").estimate(figure, value);
    let alike =
        |peer: &PeerView<'_>| peer.beside(first, figure).significant == Difference::NotSignificant;
    let others: Vec<&PeerView<'_>> =
        all[1..].iter().map(|(peer, _)| *peer).filter(|peer| alike(peer)).collect();
    Some(if others.is_empty() {
        sentence
    } else {
        let way = if figure.more_is_better() { "higher" } else { "lower" };
        sentence.text(&format!(", which is not significantly {way} than ")).possessives(&others)
    })
}
