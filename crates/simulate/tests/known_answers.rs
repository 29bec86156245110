//! The known answers, asked shortly: a mistake in the simulation shows, and its last
//! percent is for `scripts/bench.sh truth simulate`.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod known;

use known::Wanted;

/// Of the full length.
const PART: f64 = 0.002;
const SEEDS: u64 = 1;
/// What so few calls may be off by.
const WITHIN: f64 = 0.1;

#[test]
fn what_is_known_comes_out() {
    for case in known::all().into_iter().filter(|case| !case.is_long) {
        let all = (1..=SEEDS).map(|seed| (case.simulate)(PART, seed));
        let mean = all.sum::<f64>() / SEEDS as f64;
        let holds = match case.wanted {
            Wanted::Value(value) => (mean / value - 1.0).abs() < WITHIN,
            Wanted::Above(least) => mean > least,
            Wanted::Below(most) => mean < most,
        };
        let known::Case { name, figure, source, wanted, .. } = &case;
        assert!(holds, "{name}, {figure}: {mean}, and {wanted:?} by {source}");
    }
}
