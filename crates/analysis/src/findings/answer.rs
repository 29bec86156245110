//! The answer to a scenario's question, in the sentences that the scenario has for it.

use measure::{
    answer::{Answer, Part, Quantity, Template, Whose},
    figure::Figure,
    format,
};

use super::Sentence;
use crate::{
    estimate::{Beside, Difference},
    model::{Model, PeerView},
    settling::{self, After},
    sweep::peer_at,
};

/// The sentence for what came out; `None` where the scenario has none for it, or a peer
/// or a figure of it is missing.
pub(super) fn of(model: &Model<'_>) -> Option<Sentence> {
    let answer = model.run.answer.as_ref()?;
    let written = |template: &Template| fill(model, answer, template);
    let chosen = choose(model, answer).and_then(written);
    chosen.or_else(|| answer.always.as_ref().and_then(written))
}

/// The sentence that the two peers' figures call for.
fn choose<'m>(model: &Model<'_>, answer: &'m Answer) -> Option<&'m Template> {
    let [own, other] = [0, 1].map(|index| find(model, &answer.peers[index], None));
    let (own, other) = (own?, other?);
    if other.overload.is_some() && own.overload.is_none() {
        return answer.overloaded.as_ref();
    }
    match own.beside(other, answer.figure).significant {
        Difference::Less => answer.less.as_ref(),
        Difference::Greater => answer.greater.as_ref(),
        Difference::CannotTell => answer.alike.as_ref(),
        Difference::TooFew => None,
    }
}

fn fill(model: &Model<'_>, answer: &Answer, template: &Template) -> Option<Sentence> {
    let mut sentence = Sentence::default();
    for part in template.parts() {
        sentence = match part {
            Part::Text(text) => sentence.text(text),
            Part::Change => {
                let own = find(model, &answer.peers[0], None)?;
                let other = find(model, &answer.peers[1], None)?;
                change(sentence, &own.beside(other, answer.figure))?
            }
            Part::Hole { peer, point, quantity } => {
                let point = point.as_deref();
                match peer {
                    Whose::Peer(name) => {
                        quantity_of(model, find(model, name, point)?, *quantity, sentence)?
                    }
                    Whose::All => ranking(model, point, *quantity, sentence)?,
                    Whose::Best => best(model, point, *quantity, sentence)?,
                }
            }
        };
    }
    Some(sentence)
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
    let ends = ratio.interval.map(|interval| (interval.low, interval.high));
    let (said, range) = format::change_by(ratio.centre, ends);
    let sentence = sentence.figure(said);
    Some(match range {
        Some(range) => sentence.qualified(range),
        None => sentence,
    })
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
        Quantity::Balance => {
            let settled = settling::of(model, peer);
            let after = &settled.first()?.after;
            let times: Vec<f64> = after
                .iter()
                .filter_map(|after| match after {
                    After::Seconds(seconds) => Some(*seconds),
                    After::Never => Some(f64::INFINITY),
                    After::TooShort => None,
                })
                .collect();
            let middle = measure::summary::median(&times)?;
            Some(if middle.is_finite() {
                sentence.text("after ").figure(format::duration(middle * 1e9))
            } else {
                sentence.figure("never while the run lasted")
            })
        }
    }
}

/// All peers that have a figure, the lowest first.
fn ranked<'m, 'a>(
    model: &'m Model<'a>,
    point: Option<&str>,
    figure: Figure,
) -> Vec<(&'m PeerView<'a>, crate::estimate::Estimate)> {
    let names = model.measured().map(|peer| peer.name.as_str());
    let mut all: Vec<_> = names
        .filter_map(|name| {
            let peer = find(model, name, point)?;
            Some((peer, peer.estimate(figure)?))
        })
        .collect();
    all.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
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

/// Who has the least, and those that can't be told from it.
fn best(
    model: &Model<'_>,
    point: Option<&str>,
    quantity: Quantity,
    sentence: Sentence,
) -> Option<Sentence> {
    let Quantity::Figure(figure) = quantity else { return None };
    let all = ranked(model, point, figure);
    let (first, lowest) = all.first()?;
    let mut sentence = sentence.peer(first).text(" with ").estimate(figure, lowest);
    let alike =
        |peer: &PeerView<'_>| peer.beside(first, figure).significant == Difference::CannotTell;
    let others: Vec<&PeerView<'_>> =
        all[1..].iter().map(|(peer, _)| *peer).filter(|peer| alike(peer)).collect();
    for (index, peer) in others.iter().enumerate() {
        let between = if index == 0 { " (no significant difference to " } else { ", " };
        sentence = sentence.text(between).peer(peer);
    }
    Some(if others.is_empty() { sentence } else { sentence.text(")") })
}
