//! Words that the decision's sentences share.

use measure::{format, statistics::interval};

use crate::{findings::Sentence, model::PeerView};

impl Sentence {
    /// A space, where something stands before.
    pub(super) fn start(self) -> Self {
        if self.0.is_empty() { self } else { self.text(" ") }
    }

    /// A ratio as a factor with its interval: `3.10 times (2.80–3.40)`.
    pub(super) fn times(self, ratio: &interval::Estimate) -> Self {
        let range = ratio.interval.map(|ends| factors(ends.low, ends.high));
        self.figure(format!("{} times", format::factor(ratio.centre))).qualified(range)
    }

    /// The ends of a ratio's interval, said to be that of `what`.
    pub(super) fn ends(self, ratio: &interval::Estimate, what: &str) -> Self {
        let range = ratio.interval.map(|ends| factors(ends.low, ends.high));
        self.qualified(range.map(|range| format!("{what} {range}")))
    }

    /// Peers in a row: `a, b and c`.
    pub(crate) fn peers(self, peers: &[&PeerView<'_>]) -> Self {
        self.listed(peers, "")
    }

    /// What each of them has: `a's, b's and c's`.
    pub(crate) fn possessives(self, peers: &[&PeerView<'_>]) -> Self {
        self.listed(peers, "'s")
    }

    fn listed(mut self, peers: &[&PeerView<'_>], ending: &str) -> Self {
        for (index, peer) in peers.iter().enumerate() {
            if index > 0 {
                self = self.text(if index + 1 == peers.len() { " and " } else { ", " });
            }
            self = self.peer(peer).text(ending);
        }
        self
    }
}

/// A cost per call in microseconds.
pub fn micros(ns_per_call: f64) -> String {
    format::number(ns_per_call / 1e3)
}

/// Two factors around a dash.
pub(super) fn factors(low: f64, high: f64) -> String {
    format::range(format::factor(low), format::factor(high))
}
