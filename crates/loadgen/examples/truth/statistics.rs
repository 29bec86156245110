//! What intervals hold and comparisons find on a machine that others use, simulated: chance
//! and arithmetic alone, so that the truth is known and a run can be made a thousand times.

use crate::{
    Plan,
    machine::{CPU, Machine, Noise, P99, Rule, Said, compare, coverage},
    table::{Row, Table},
};

/// The names of all cases.
pub(crate) const NAMES: [&str; 2] = ["coverage", "power"];

/// What is printed has to hold the truth at least, and at most, as often.
const COVERED: (f64, f64) = (0.93, 0.97);
/// Repeats that fit into the 20 minutes of a comparison, at two trials of 1.5 s each.
const REPEATS: usize = 180;
/// The figures that are compared at once.
const FIGURES: usize = 2;
/// Of a hundred comparisons of equal sides one at most may find a difference.
const BLAMED: f64 = 0.01;

/// Simulates those that are wanted.
pub(crate) fn measure(plan: &Plan, table: &mut Table) {
    if plan.wants("coverage") {
        for repeats in [5, 10, 20] {
            covered(plan, repeats, table);
        }
    }
    if plan.wants("power") {
        let seen = Noise { is_seen: true, ..CPU };
        found("CPU, 5 % more", (CPU, 1.05), Said::Higher, plan, table);
        found("the same, phases seen", (seen, 1.05), Said::Higher, plan, table);
        for own in [0.03, 0.10, 0.14] {
            let noise = Noise { own, ..CPU };
            let (right, _, repeats) = often((noise, 1.05), Said::Higher, plan, Rule::Ranks);
            let pairs = percent(own * f64::sqrt(2.0));
            table.note(&format!(
                "where pairs vary by {pairs}: {} found, after {repeats} repeats",
                percent(right)
            ));
        }
        found("p99, 10 % more", (P99, 1.10), Said::Higher, plan, table);
        for (name, noise) in [("CPU, equal", CPU), ("p99, equal", P99)] {
            found(name, (noise, 1.0), Said::Same, plan, table);
        }
    }
}

/// The shares of intervals that hold the truth, each within its population.
fn covered(plan: &Plan, repeats: usize, table: &mut Table) {
    let found = coverage(repeats, 2_000 * plan.repeats);
    let mut row = |figure: &str, known: &str, share: f64| {
        table.row(Row {
            case: format!("coverage, {repeats} repeats"),
            figure: figure.to_owned(),
            known: known.to_owned(),
            measured: percent(share),
            off: format!("{:+.1} %", (share - 0.95) * 100.0),
            bound: format!("{} to {}", percent(COVERED.0), percent(COVERED.1)),
            is_within: (COVERED.0..=COVERED.1).contains(&share),
        });
    };
    row("figure", "the calm machine's", found.figure);
    row("ratio of two peers", "1, calm machine", found.ratio);
    row("ratio, phases unseen", "1, all hours", found.ratio_all_hours);
    table.note(&format!(
        "{} of the runs said that they were disturbed beyond what was measured again, and are not \
         in the first two; of another hour the figure tells the truth {} of the time",
        percent(found.in_doubt),
        percent(found.all_hours)
    ));
}

/// The shares of comparisons that say what is wanted, and that say of equal sides that they
/// differ, and after how many repeats half of them had ended.
fn often(side: (Noise, f64), wanted: Said, plan: &Plan, rule: Rule) -> (f64, f64, usize) {
    let rounds = 100 * plan.repeats;
    let (mut right, mut blamed, mut repeats) = (0, 0, Vec::new());
    for seed in 0..rounds {
        let mut machine = Machine::new(side.0, u64::from(seed));
        let (said, after) = compare(&mut machine, side.1, 0.05, REPEATS, FIGURES, rule);
        right += u32::from(said == wanted);
        blamed += u32::from(wanted == Said::Same && matches!(said, Said::Higher | Said::Lower));
        repeats.push(after);
    }
    repeats.sort_unstable();
    let share = |of: u32| f64::from(of) / f64::from(rounds);
    (share(right), share(blamed), repeats[repeats.len() / 2])
}

/// How often a comparison says what is so.
fn found(name: &str, side: (Noise, f64), wanted: Said, plan: &Plan, table: &mut Table) {
    let (right, blamed, repeats) = often(side, wanted, plan, Rule::Ranks);
    let is_equal = wanted == Said::Same;
    table.row(Row {
        case: format!("power, {name}"),
        figure: if is_equal { "found to differ" } else { "found" }.to_owned(),
        known: if is_equal { "0 %" } else { "100 %" }.to_owned(),
        measured: percent(if is_equal { blamed } else { right }),
        off: format!("{repeats} repeats"),
        bound: if is_equal { format!("{} at most", percent(BLAMED)) } else { "95 %".to_owned() },
        is_within: if is_equal { blamed <= BLAMED } else { right >= 0.95 },
    });
    let (student, student_blamed, student_repeats) = often(side, wanted, plan, Rule::Student);
    table.note(&format!(
        "right in {} of {}; by Student's interval and looks of equal worth in {}, with {} \
         blamed, after {student_repeats} repeats",
        percent(right),
        100 * plan.repeats,
        percent(student),
        percent(student_blamed)
    ));
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
