//! Trials of two sides that were measured in turn: which of them are a pair.

use std::collections::BTreeMap;

use measure::{
    figure::{Figure, Figures},
    folder::Run,
    record::{Disturbance, TrialRecord},
    summary::is_measured,
};

/// The figures of a trial, with what pairs it.
pub(super) struct OfTrial {
    repeat: u32,
    is_disturbed: bool,
    pub(super) figures: Figures,
}

impl OfTrial {
    /// Those of a peer.
    pub(super) fn all(run: &Run, peer: &str, point: Option<&str>) -> Vec<Self> {
        let of_peer = run.trials.iter().filter(|trial| trial.peer == peer && is_measured(trial));
        let at_point = of_peer.filter(|trial| trial.point.as_deref() == point);
        let of_trial = |trial: &TrialRecord| Self {
            repeat: trial.repeat,
            is_disturbed: is_disturbed(trial),
            figures: Figures::of_trial(trial),
        };
        at_point.map(of_trial).collect()
    }
}

fn is_disturbed(trial: &TrialRecord) -> bool {
    trial.disturbance.as_ref().is_some_and(Disturbance::is_beyond_bound)
}

/// Those of the repeats that both sides have measured, in a machine that was disturbed under
/// both or under neither. Which side it was does not count in that, so that equal sides stay
/// equal; and a machine that is never quiet has all of its repeats, as has one that was quiet
/// under one side of each.
pub(super) fn in_pairs([before, after]: [Vec<OfTrial>; 2]) -> [Vec<OfTrial>; 2] {
    let mut after: BTreeMap<u32, OfTrial> =
        after.into_iter().map(|one| (one.repeat, one)).collect();
    let both = before.into_iter().filter_map(|one| Some((after.remove(&one.repeat)?, one)));
    let (even, uneven): (Vec<_>, Vec<_>) =
        both.partition(|(other, one)| one.is_disturbed == other.is_disturbed);
    let kept = if even.is_empty() { uneven } else { even };
    let (after, before) = kept.into_iter().unzip();
    [before, after]
}

/// What is said of repeats in which only one side was disturbed.
pub(super) fn uneven(before: &Run, after: &Run) -> Option<String> {
    // Of each peer, at each point: pairs that are even, and those that are not.
    let mut pairs = BTreeMap::<_, [usize; 2]>::new();
    for one in &before.trials {
        let is_pair = |other: &&TrialRecord| {
            (&other.peer, &other.point, other.repeat) == (&one.peer, &one.point, one.repeat)
        };
        if let Some(other) = after.trials.iter().find(is_pair) {
            let is_uneven = is_disturbed(one) != is_disturbed(other);
            pairs.entry((&one.peer, &one.point)).or_default()[usize::from(is_uneven)] += 1;
        }
    }
    let left_out: usize =
        pairs.values().filter(|[even, _]| *even > 0).map(|[_, uneven]| uneven).sum();
    (left_out > 0).then(|| {
        format!(
            "Left out: {left_out} of {} pairs of trials, of which other users of the machine \
             disturbed one and not the other.",
            before.trials.len()
        )
    })
}

/// A figure in the trials of both sides; of trials in pairs, where both have it.
pub(super) fn values_of(
    [before, after]: &[Vec<Figures>; 2],
    figure: Figure,
    is_apart: bool,
) -> [Vec<f64>; 2] {
    if is_apart {
        return [before, after].map(|all| all.iter().filter_map(|one| one.get(figure)).collect());
    }
    let both = before.iter().zip(after);
    let (before, after) =
        both.filter_map(|(one, other)| Some((one.get(figure)?, other.get(figure)?))).unzip();
    [before, after]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::Comparison, *};

    /// A side that costs a fifth more, but in one repeat ten times as much, as something was
    /// done to the machine under it; and whose trial of another repeat was lost.
    #[test]
    fn what_was_disturbed_on_one_side_only_is_left_out_with_its_pair() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/example");
        let before = Run::open(Path::new(example)).unwrap();
        let mut after = before.clone();
        for trial in &mut after.trials {
            let factor = if trial.repeat == 1 { 10.0 } else { 1.2 };
            for cost in &mut trial.processes {
                cost.user_ns = (cost.user_ns as f64 * factor) as u64;
                cost.system_ns = (cost.system_ns as f64 * factor) as u64;
            }
            if trial.repeat == 1 {
                trial.disturbance =
                    Some(Disturbance { samples: 10, disturbed: 5, ..Disturbance::default() });
            }
        }
        after.trials.retain(|trial| trial.repeat != 3);
        let figures = [Figure::ProxyCpuPerCall];
        let compared = |before: &Run, after: &Run| {
            Comparison::interleaved((before, after), &figures, 0.05, 0.005).unwrap()
        };
        let found = compared(&before, &after);
        let costs = || found.rows.iter().filter(|row| row.shown == Figure::ProxyCpuPerCall);
        assert_eq!(costs().count(), 2, "of l4 and l7");
        assert!(costs().all(|row| (row.ratio - 1.2).abs() < 1e-6), "{:?}", found.rows);
        let expected = "Left out: 3 of 15 pairs of trials";
        assert!(
            found.warnings.iter().any(|line| line.starts_with(expected)),
            "{:?}",
            found.warnings
        );
        // The other way round it is the same, and where it was so under both all are in.
        let back = compared(&after, &before);
        assert!(back.rows.iter().any(|row| (row.ratio * 1.2 - 1.0).abs() < 1e-6));
        let both = compared(&after, &after);
        assert!(!both.warnings.iter().any(|line| line.starts_with("Left out")));
        // And where it was so under one side of each, as it can be in a single repeat.
        after.trials.retain(|trial| trial.repeat == 1);
        let one = compared(&before, &after);
        assert!(one.rows.iter().any(|row| (row.ratio - 10.0).abs() < 1e-6), "{:?}", one.rows);
        assert!(!one.warnings.iter().any(|line| line.starts_with("Left out")));
    }
}
