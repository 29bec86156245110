//! Prints what is simulated beside what is known, as the table in the crate's
//! documentation has it: `scripts/bench.sh truth simulate`. The first argument is the part
//! of the full length, the second a word that cases have to have in their names.
//!
//! Exit code 1 when a figure is off by more than 1 % and what is known lies outside of the
//! 95 % interval over the seeds, or an order is not as it is known.

#![allow(clippy::expect_used, reason = "an example may panic")]

#[path = "../tests/known/mod.rs"]
mod known;

use std::process::ExitCode;

use known::{Case, Wanted};
use measure::statistics::interval::over_trials;

const SEEDS: u64 = 8;
const WITHIN: f64 = 0.01;

fn main() -> ExitCode {
    let part = std::env::args().nth(1).and_then(|part| part.parse().ok()).unwrap_or(1.0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("| simulated | figure | source | known | simulated | off | |");
    println!("|---|---|---|---|---|---|---|");
    let mut all_hold = true;
    let word = std::env::args().nth(2).unwrap_or_default();
    let is_asked = |case: &Case| (part >= 0.1 || !case.is_long) && case.name.contains(&word);
    for case in known::all().into_iter().filter(is_asked) {
        let seeds: Vec<u64> = (1..=SEEDS).collect();
        let values = simulate::in_parallel(&seeds, threads, |seed| (case.simulate)(part, *seed));
        all_hold &= print(&case, &values);
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn print(case: &Case, values: &[f64]) -> bool {
    let estimate = over_trials(values, 0.95).expect("there are seeds");
    let mean = estimate.centre;
    let half = mean * estimate.relative_half_width().unwrap_or(f64::INFINITY);
    let (known, off, holds) = match case.wanted {
        Wanted::Value(value) => {
            let off = mean / value - 1.0;
            let holds = off.abs() <= WITHIN || (mean - value).abs() <= half;
            let off = format!("{:+.2} % (± {:.2})", 100.0 * off, 100.0 * half / value);
            (format!("{value:.4}"), off, holds)
        }
        Wanted::Above(least) => (format!("above {least}"), String::new(), mean > least),
        Wanted::Below(most) => (format!("below {most}"), String::new(), mean < most),
    };
    let verdict = if holds { "" } else { "**missed**" };
    let Case { name, figure, source, .. } = case;
    println!("| {name} | {figure} | {source} | {known} | {mean:.4} | {off} | {verdict} |");
    holds
}
