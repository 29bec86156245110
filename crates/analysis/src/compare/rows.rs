//! Figures of two sides, row by row: centres, intervals and what they say.

use measure::{
    figure::{Figure, Figures},
    folder::Run,
    statistics::{
        interval::{over_trials, ratio_of_runs},
        median,
        signed_rank::{centre_of_pairs, ratio_by_ranks},
    },
};

use super::{
    LEAST_TRIALS, LEVEL, Row,
    compared::{Compared, Moves},
    pairs::{OfTrial, in_pairs, values_of},
};
use crate::{model::Model, verdict::Verdict};

/// How the trials of the two sides stand to each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// They were made at different times, and moved as said.
    Apart(Moves),
    /// They were made in turn, and those of a repeat are compared with each other.
    Interleaved,
}

/// What a change has to be beyond, and how surely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) tolerance: f64,
    pub(super) how: How,
    /// Level of the interval that has to lie beyond it.
    pub(super) level: f64,
}

/// The rows of runs that measured the same points.
pub(super) fn of_trials(
    before: &Run,
    after: &Run,
    compared: &[Compared],
    asked: Asked,
) -> Vec<Row> {
    let models = [before, after].map(|run| Model::new(&run.record, &run.trials));
    let mut rows = Vec::new();
    for peer in &before.record.peers {
        // Trials at different points of a sweep are different questions.
        for point in points_of(before) {
            let mut trials =
                [before, after].map(|run| OfTrial::all(run, &peer.name, point.as_deref()));
            let is_apart = matches!(asked.how, How::Apart(_));
            if !is_apart {
                trials = in_pairs(trials);
            }
            let figures =
                trials.map(|all| all.into_iter().map(|one| one.figures).collect::<Vec<_>>());
            if figures.iter().any(Vec::is_empty) {
                continue;
            }
            let name = match &point {
                Some(point) => format!("{} at {point}", peer.name),
                None => peer.name.clone(),
            };
            // What disturbs the machine disturbs both sides of a repeat.
            let is_in_doubt = |figure| {
                is_apart
                    && models
                        .iter()
                        .any(|model| is_in_doubt(model, &peer.name, point.as_deref(), figure))
            };
            for compared in compared {
                let values = values_of(&figures, compared.figure, is_apart);
                let row = row(&name, compared, &values, asked);
                rows.extend(row.map(|row| Row { in_doubt: is_in_doubt(compared.figure), ..row }));
            }
            rows.extend(failures(&name, &figures));
        }
    }
    rows
}

/// Whether warnings put a figure of a peer in doubt, at a point or in all of a run.
fn is_in_doubt(model: &Model<'_>, peer: &str, point: Option<&str>, figure: Figure) -> bool {
    let at_point = model.sweep.iter().flat_map(|sweep| &sweep.points);
    let mut at_point = at_point.filter(|one| Some(one.value) == point);
    let model = at_point.next().map_or(model, |point| &point.model);
    model.peers.iter().any(|view| view.name == peer && view.is_in_doubt(figure))
}

/// The points of a run; one without a value where no setting differs.
pub(super) fn points_of(run: &Run) -> Vec<Option<String>> {
    match &run.record.sweep {
        Some(sweep) => sweep.points.iter().map(|point| Some(point.value.clone())).collect(),
        None => vec![None],
    }
}

/// A figure of one peer; `values` are those of its trials, before and after.
fn row(peer: &str, compared: &Compared, values: &[Vec<f64>; 2], asked: Asked) -> Option<Row> {
    let [before, after] = values;
    let centre = |values: &[f64]| over_trials(values, LEVEL).map(|one| one.centre);
    let (mut centre_before, mut centre_after) = (centre(before)?, centre(after)?);
    let enough = before.len().min(after.len()) >= LEAST_TRIALS;
    let estimate = match asked.how {
        How::Apart(moves) => {
            let moves = moves.of(compared.kind, f64::min(centre_before, centre_after));
            ratio_of_runs(after, before, moves, asked.level)
        }
        How::Interleaved => ratio_by_ranks(after, before, asked.level),
    };
    if let (How::Interleaved, Some(one)) = (asked.how, estimate)
        && let Some(both) = centre_of_pairs(after, before)
    {
        (centre_before, centre_after) = (both / one.centre.sqrt(), both * one.centre.sqrt());
    }
    let interval = estimate.filter(|_| enough).and_then(|one| one.interval);
    let ends = interval.map(|one| (one.low, one.high));
    let lower_is_better = !compared.figure.more_is_better();
    let verdict = match asked.how {
        How::Apart(_) => judge(ends, asked.tolerance, lower_is_better),
        How::Interleaved => judge_interleaved(ends, asked.tolerance, lower_is_better),
    };
    // What is asked of a figure of runs made apart is to be beyond the tolerance.
    let beyond = match asked.how {
        How::Apart(_) => 1.0 + asked.tolerance,
        How::Interleaved => 1.0,
    };
    Some(Row {
        peer: peer.to_owned(),
        figure: compared.title.to_owned(),
        before: centre_before,
        after: centre_after,
        ratio: estimate.map_or(centre_after / centre_before, |one| one.centre),
        interval: ends,
        verdict,
        in_doubt: false,
        would_see: interval.map(|one| {
            let seen = beyond * one.detectable_factor();
            if lower_is_better { seen - 1.0 } else { 1.0 - 1.0 / seen }
        }),
        shown: compared.figure,
    })
}

/// What an interval of interleaved repeats says: they are the same where all of it is
/// closer to 1 than what is to be found, and differ where none of it is 1.
fn judge_interleaved(interval: Option<(f64, f64)>, detect: f64, lower_is_better: bool) -> Verdict {
    match judge(interval, detect, lower_is_better) {
        Verdict::Inconclusive => judge(interval, 0.0, lower_is_better),
        verdict => verdict,
    }
}

/// What an interval of a ratio says.
pub(super) fn judge(
    interval: Option<(f64, f64)>,
    tolerance: f64,
    lower_is_better: bool,
) -> Verdict {
    let Some((low, high)) = interval else { return Verdict::Inconclusive };
    // A tolerance of 5 % is a factor of 1.05 in either direction.
    let verdict = Verdict::by((low, high), (1.0 / (1.0 + tolerance), 1.0 + tolerance));
    if lower_is_better { verdict } else { verdict.reversed() }
}

/// Failures are counted, and any that were not there before are worse: a ratio to
/// nothing says nothing.
fn failures(peer: &str, figures: &[Vec<Figures>; 2]) -> Option<Row> {
    let rates = |figures: &[Figures]| -> Vec<f64> {
        figures.iter().filter_map(|one| one.get(Figure::ErrorRate)).collect()
    };
    let (before, after) = (rates(&figures[0]), rates(&figures[1]));
    let (middle_before, middle_after) = (median(&before)?, median(&after)?);
    let highest_before = before.iter().copied().fold(0.0, f64::max);
    let lowest_after = after.iter().copied().fold(f64::INFINITY, f64::min);
    let verdict = match (middle_before == middle_after, lowest_after > highest_before) {
        (true, _) => Verdict::Same,
        (false, true) => Verdict::Worse,
        (false, false) => Verdict::Inconclusive,
    };
    Some(Row {
        peer: peer.to_owned(),
        figure: "failed calls".to_owned(),
        before: middle_before,
        after: middle_after,
        ratio: f64::NAN,
        interval: None,
        verdict,
        in_doubt: false,
        would_see: None,
        shown: Figure::ErrorRate,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::compared::COMPARED, *};

    #[test]
    fn a_change_counts_when_all_of_its_interval_is_beyond_the_tolerance() {
        let judged = |low, high, lower_is_better| judge(Some((low, high)), 0.05, lower_is_better);
        let worse = |low, high| judged(low, high, true);
        assert_eq!(worse(1.06, 1.20), Verdict::Worse);
        assert_eq!(worse(1.04, 1.20), Verdict::Inconclusive);
        assert_eq!(worse(0.97, 1.04), Verdict::Same);
        assert_eq!(worse(0.80, 0.90), Verdict::Better);
        assert_eq!(judged(0.80, 0.90, false), Verdict::Worse);
        assert_eq!(judged(0.20, f64::INFINITY, false), Verdict::Inconclusive);
        assert_eq!(judge(None, 0.05, true), Verdict::Inconclusive);
    }

    /// What is shown is what was judged, however many figures share the error.
    #[test]
    fn the_interval_shown_is_the_one_judged() {
        let compared = COMPARED.iter().find(|one| one.figure == Figure::Throughput).unwrap();
        let values = [vec![100.0, 101.0, 99.0, 100.5], vec![92.0, 91.0, 93.0, 92.4]];
        let at = |level| {
            let asked = Asked { tolerance: 0.05, how: How::Apart(Moves::default()), level };
            row("l7", compared, &values, asked).unwrap()
        };
        let (alone, among_many) = (at(0.95), at(0.9999));
        assert_eq!((alone.verdict, among_many.verdict), (Verdict::Worse, Verdict::Inconclusive));
        assert!(alone.interval.unwrap().1 < 1.0 / 1.05, "{:?}", alone.interval);
        assert!(among_many.interval.unwrap().1 >= 1.0 / 1.05, "{:?}", among_many.interval);
    }

    /// A machine that is half as fast in every other repeat and stalls in one, and a side that
    /// is 4 % slower.
    #[test]
    fn sides_measured_in_turn_are_told_apart_whatever_the_machine_does() {
        let compared = COMPARED.iter().find(|one| one.figure == Figure::ProxyCpuPerCall).unwrap();
        let machine: Vec<f64> =
            (0..25).map(|repeat| [100.0, 200.0][repeat % 2] + repeat as f64).collect();
        let noise = [1.0, 1.005, 0.995, 1.002, 0.998];
        let judged = |factor: f64, detect: f64| {
            let noisy = machine.iter().zip(noise.iter().cycle());
            let mut after: Vec<f64> = noisy.map(|(one, noise)| one * noise * factor).collect();
            after[4] *= 3.0;
            let asked = Asked { tolerance: detect, how: How::Interleaved, level: 0.999 };
            row("l7", compared, &[machine.clone(), after], asked).unwrap()
        };
        assert_eq!(judged(1.0, 0.05).verdict, Verdict::Same);
        assert_eq!(judged(1.04, 0.03).verdict, Verdict::Worse);
        assert_eq!(judged(1.01, 0.05).verdict, Verdict::Same, "less than what is looked for");
        assert_eq!(judged(0.9, 0.05).verdict, Verdict::Better);
        assert_eq!(judged(1.0, 0.001).verdict, Verdict::Inconclusive);
        let row = judged(1.1, 0.05);
        assert!((row.after / row.before - row.ratio).abs() < 1e-9, "one statistic");
        assert!((100.0..225.0).contains(&row.before), "{}", row.before);
        assert!(row.would_see.is_some_and(|change| (0.001..0.03).contains(&change)));
    }

    /// Five trials that agree, in each of two runs, and CPU a third dearer in the second.
    #[test]
    fn cpu_that_moves_as_runs_do_is_no_regression_by_itself() {
        let trials = |middle: f64| (0..5).map(|i| middle * (1.0 + 0.01 * f64::from(i))).collect();
        let verdict = |figure: Figure, before: f64, moves: Moves| {
            let compared = COMPARED.iter().find(|one| one.figure == figure).unwrap();
            let asked = Asked { tolerance: 0.05, how: How::Apart(moves), level: 0.995 };
            row("l7", compared, &[trials(before), trials(1.36 * before)], asked).unwrap().verdict
        };
        let still = Moves { cpu: 0.0, latency_ns: 0.0 };
        assert_eq!(verdict(Figure::ProxyCpuPerCall, 100e3, still), Verdict::Worse);
        assert_eq!(
            verdict(Figure::ProxyCpuPerCall, 100e3, Moves::default()),
            Verdict::Inconclusive
        );
        // 25 µs are nothing to a latency of 5 ms.
        assert_eq!(verdict(Figure::LatencyP50, 5e6, Moves::default()), Verdict::Worse);
    }
}
