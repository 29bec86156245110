//! Words that the decision's sentences share.

use measure::{format, statistics::interval};

use crate::{findings::Sentence, model::PeerView};

impl Sentence {
    /// A space, where something stands before.
    pub(super) fn start(self) -> Self {
        if self.0.is_empty() { self } else { self.text(" ") }
    }

    /// A ratio in words with its interval: `88 times lower (71–110 times)`.
    pub(super) fn ratio(self, ratio: &interval::Estimate) -> Self {
        let ends = ratio.interval.map(|interval| (interval.low, interval.high));
        let (said, range) = format::change_by(ratio.centre, ends);
        let sentence = self.figure(said);
        match range {
            Some(range) => sentence.qualified(range),
            None => sentence,
        }
    }

    /// A ratio as a factor with its interval: `3.10 times (2.80–3.40)`.
    pub(super) fn times(self, ratio: &interval::Estimate) -> Self {
        let sentence = self.figure(format!("{} times", format::factor(ratio.centre)));
        match ratio.interval {
            Some(ends) => sentence.qualified(factors(ends.low, ends.high)),
            None => sentence,
        }
    }

    /// The ends of a ratio's interval, said to be that of `what`.
    pub(super) fn ends(self, ratio: &interval::Estimate, what: &str) -> Self {
        match ratio.interval {
            Some(ends) => self.qualified(format!("{what} {}", factors(ends.low, ends.high))),
            None => self,
        }
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
