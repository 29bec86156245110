//! Rates that change: calls per second as a function of time, in straight pieces,
//! and its inverse: when the n-th call is expected.

/// Calls per second over time.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCurve {
    pieces: Vec<Piece>,
    /// The rate after the last piece.
    last: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    length_s: f64,
    from: f64,
    to: f64,
}

impl Piece {
    /// Calls expected in it.
    fn calls(&self) -> f64 {
        f64::midpoint(self.from, self.to) * self.length_s
    }

    /// Seconds into it at which so many calls are expected; they are not more
    /// than it has.
    fn seconds(&self, calls: f64) -> f64 {
        let slope = (self.to - self.from) / self.length_s;
        // from x + slope x^2 / 2 = calls, in the form that does not cancel out
        // for small slopes.
        let root = (self.from * self.from + 2.0 * slope * calls).max(0.0).sqrt();
        let below = self.from + root;
        if below > 0.0 { 2.0 * calls / below } else { 0.0 }
    }
}

impl RateCurve {
    /// The same rate forever, until pieces are put before it.
    pub fn flat(rate: f64) -> Self {
        Self { pieces: Vec::new(), last: rate }
    }

    /// Adds a piece in which the rate goes evenly from one value to another. The
    /// rate after the last piece is the one it ends with, or, where that is zero,
    /// the one given to [`RateCurve::flat`]: a schedule has to go on.
    pub fn then(mut self, length_s: f64, from: f64, to: f64) -> Self {
        if length_s > 0.0 {
            self.pieces.push(Piece { length_s, from, to });
            self.last = if to > 0.0 { to } else { self.last };
        }
        self
    }

    /// When so many calls are expected.
    pub fn inverse(self) -> Inverse {
        Inverse { curve: self, piece: 0, start_s: 0.0, start_calls: 0.0 }
    }
}

/// The inverse of a curve, for numbers that only grow.
#[derive(Clone, Debug)]
pub struct Inverse {
    curve: RateCurve,
    /// The piece that was asked for last, and what lies before it.
    piece: usize,
    start_s: f64,
    start_calls: f64,
}

impl Inverse {
    /// Seconds from the start at which `calls` are expected. `calls` is never
    /// less than at the call before.
    pub fn seconds(&mut self, calls: f64) -> f64 {
        while let Some(piece) = self.curve.pieces.get(self.piece) {
            let left = calls - self.start_calls;
            if left < piece.calls() {
                return self.start_s + piece.seconds(left);
            }
            self.start_s += piece.length_s;
            self.start_calls += piece.calls();
            self.piece += 1;
        }
        self.start_s + (calls - self.start_calls) / self.curve.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flat_rate_is_divided_by() {
        let mut inverse = RateCurve::flat(250.0).inverse();
        assert_eq!([0.0, 1.0, 1_000.0].map(|calls| inverse.seconds(calls)), [0.0, 0.004, 4.0]);
    }

    #[test]
    fn nothing_is_due_while_the_rate_is_zero() {
        let curve =
            RateCurve::flat(10.0).then(1.0, 10.0, 10.0).then(2.0, 0.0, 0.0).then(1.0, 10.0, 10.0);
        let mut inverse = curve.inverse();
        assert!((inverse.seconds(9.5) - 0.95).abs() < 1e-12);
        assert!((inverse.seconds(10.0) - 3.0).abs() < 1e-12);
        assert!((inverse.seconds(25.0) - 4.5).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_calls_until_the_answer_are_the_calls_asked_for(
            pieces in prop::collection::vec((0.01_f64..5.0, 0.0_f64..900.0, 0.0_f64..900.0), 0..6),
            asked in prop::collection::vec(0.0_f64..4_000.0, 1..20),
        ) {
            let mut curve = RateCurve::flat(100.0);
            for &(length_s, from, to) in &pieces {
                curve = curve.then(length_s, from, to);
            }
            let expected_until = |seconds: f64| {
                let (mut calls, mut left) = (0.0, seconds);
                for piece in &curve.pieces {
                    let part = left.min(piece.length_s);
                    let slope = (piece.to - piece.from) / piece.length_s;
                    calls += piece.from * part + slope * part * part / 2.0;
                    left -= part;
                }
                calls + left * curve.last
            };
            let mut sorted = asked;
            sorted.sort_by(f64::total_cmp);
            let mut inverse = curve.clone().inverse();
            let mut before = 0.0;
            for calls in sorted {
                let seconds = inverse.seconds(calls);
                prop_assert!(seconds >= before - 1e-9);
                prop_assert!((expected_until(seconds) - calls).abs() < 1e-6 * (1.0 + calls));
                before = seconds;
            }
        }
    }
}
