//! A sentence as pieces, and the words for figures in it.

use measure::{
    figure::{Figure, Unit},
    format,
    statistics::interval,
};

use crate::model::{Beside, Estimate, Mark, Model, PeerView};

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words.
    Text(String),
    /// The name of a peer, and its mark.
    Peer(String, Mark),
    /// A figure.
    Figure(String),
    /// What qualifies the figure before it: its interval.
    Range(String),
}

/// A sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence(pub Vec<Piece>);

impl serde::Serialize for Sentence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.plain())
    }
}

impl Sentence {
    /// Adds words.
    pub fn text(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.0.push(Piece::Text(text.to_owned()));
        }
        self
    }

    /// Adds a peer's name.
    pub fn peer(mut self, peer: &PeerView<'_>) -> Self {
        self.0.push(Piece::Peer(peer.name.clone(), peer.mark));
        self
    }

    /// Peers in a row: `a, b and c`.
    pub fn peers(self, peers: &[&PeerView<'_>]) -> Self {
        self.listed(peers, "")
    }

    /// What each of them has: `a's, b's and c's`.
    pub(crate) fn possessives(self, peers: &[&PeerView<'_>]) -> Self {
        self.listed(peers, "'s")
    }

    fn listed(mut self, peers: &[&PeerView<'_>], ending: &str) -> Self {
        for (index, peer) in peers.iter().enumerate() {
            self = self.text(between(index, peers.len())).peer(peer).text(ending);
        }
        self
    }

    /// Adds a figure.
    pub fn figure(mut self, figure: impl Into<String>) -> Self {
        self.0.push(Piece::Figure(figure.into()));
        self
    }

    /// A space, where something stands before.
    pub fn start(self) -> Self {
        if self.0.is_empty() { self } else { self.text(" ") }
    }

    /// Adds all of another sentence.
    pub fn followed_by(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What a cost per call comes to at a rate near the measured one.
    pub(crate) fn carried(self, model: &Model<'_>, cost: &Estimate) -> Self {
        let Some(rate) = model.carried_rate() else { return self };
        let cores = cost.value * rate / 1e9;
        let cores = if cores < 0.005 { "less than 0.01".to_owned() } else { format::number(cores) };
        self.text("; at ")
            .figure(format::rate(rate))
            .text(" that is ")
            .figure(format!("{cores} cores"))
    }

    /// Where the repeats leave open what matters, that.
    pub(crate) fn open_ends(self, beside: &Beside) -> Self {
        match beside.open_ends() {
            Some((low, high)) => self
                .text(" The ratio could be anything from ")
                .figure(format::factor(low))
                .text(" to ")
                .figure(format::factor(high))
                .text("; more repeats would narrow that down."),
            None => self,
        }
    }

    /// What qualifies the figure before, where something does; nothing where it reads as that
    /// figure.
    pub fn qualified(mut self, range: impl Into<Option<String>>) -> Self {
        let is_same = |range: &String| matches!(self.0.last(), Some(Piece::Figure(figure)) if figure == range);
        let range = range.into().filter(|range| !is_same(range));
        self.0.extend(range.map(Piece::Range));
        self
    }

    /// A ratio in words with its interval: `88 times lower (71–110 times)`.
    pub(crate) fn ratio(self, ratio: &interval::Estimate) -> Self {
        let (said, range) = format::change_by(ratio.centre, ratio.ends());
        self.figure(said).qualified(range)
    }

    /// Calls of a peer that failed or had no answer: `8 of 28,309 calls (<0.1 %)`.
    pub(crate) fn lost(self, peer: &PeerView<'_>) -> Self {
        let scheduled = format::count(peer.sum(|figures| figures.scheduled));
        match peer.lost() {
            (0, _) => self.figure(format!("none of {scheduled} calls")),
            (lost, share) => self
                .figure(format!("{} of {scheduled} calls", format::count(lost)))
                .qualified(format::share(share)),
        }
    }

    /// A figure with its interval.
    pub(crate) fn estimate(self, figure: Figure, estimate: &Estimate) -> Self {
        match figure.unit() {
            Unit::Time => self.durations(estimate),
            Unit::Share => self.shares(estimate),
            Unit::Calls | Unit::Rate | Unit::Number => self
                .figure(figure.show(estimate.value))
                .qualified(estimate.interval.map(|(low, high)| figure.show_range(low, high))),
        }
    }

    /// A time with its interval.
    pub fn durations(self, estimate: &Estimate) -> Self {
        let range = estimate.interval.map(|(low, high)| format::duration_range(low, high));
        self.figure(format::duration(estimate.value)).qualified(range)
    }

    /// A share with its interval.
    pub fn shares(self, estimate: &Estimate) -> Self {
        let range = |(low, high)| format::range(format::share(low), format::share(high));
        self.figure(format::share(estimate.value)).qualified(estimate.interval.map(range))
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

/// What stands before one of `count` things in a list.
pub(crate) fn between(index: usize, count: usize) -> &'static str {
    match index {
        0 => "",
        _ if index + 1 == count => " and ",
        _ => ", ",
    }
}
