//! Words that the decision's sentences share.

use measure::{format, statistics::interval};

use crate::findings::Sentence;

impl Sentence {
    /// A ratio as a factor with its interval: `3.10 times (2.80–3.40)`.
    pub(super) fn times(self, ratio: &interval::Estimate) -> Self {
        let range = ratio.ends().map(factors);
        self.figure(format!("{} times", format::factor(ratio.centre))).qualified(range)
    }

    /// The ends of a ratio's interval, said to be that of `what`.
    pub(super) fn ends(self, ratio: &interval::Estimate, what: &str) -> Self {
        let range = ratio.ends().map(factors);
        self.qualified(range.map(|range| format!("{what} {range}")))
    }
}

/// A cost per call in microseconds.
pub fn micros(ns_per_call: f64) -> String {
    format::number(ns_per_call / 1e3)
}

/// Two factors around a dash.
fn factors((low, high): (f64, f64)) -> String {
    format::range(format::factor(low), format::factor(high))
}
