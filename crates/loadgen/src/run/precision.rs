//! When enough has been measured: repeats are added until the figures a scenario
//! names are known as well as it asks.
//!
//! Looking at an interval after every repeat, and stopping when it happens to be
//! narrow, makes it hold the truth less often than it says; so it is asked at a
//! higher level while repeats go on ([`level_to_ask`]).

use measure::{
    figure::Figures,
    record::TrialRecord,
    statistics::{interval::over_trials, stopping::level_to_ask},
    summary::is_measured,
    warning::Warning,
};
use scenario::Precision;

/// Level of the intervals that are reported.
const LEVEL: f64 = 0.95;

/// Figures that are not known well enough yet at a point, as the warnings they become if
/// nothing more is measured.
pub(super) fn missing(
    precision: &Precision,
    peers: &[String],
    point: Option<&str>,
    trials: &[TrialRecord],
) -> Vec<Warning> {
    let mut missing = Vec::new();
    for peer in peers {
        let figures: Vec<Figures> = trials
            .iter()
            .filter(|trial| trial.peer == *peer && trial.point.as_deref() == point)
            .filter(|trial| is_measured(trial))
            .map(Figures::of_trial)
            .collect();
        for &(figure, wanted) in &precision.within {
            let values: Vec<f64> = figures.iter().filter_map(|one| one.get(figure)).collect();
            // A peer without the figure (the CPU of no proxy) has nothing to know.
            if values.is_empty() && !figures.is_empty() {
                continue;
            }
            let reached = over_trials(&values, level_to_ask(LEVEL))
                .and_then(|estimate| estimate.relative_half_width());
            if reached.is_none_or(|reached| reached > wanted) {
                missing.push(Warning::PrecisionNotReached {
                    peer: peer.clone(),
                    point: point.map(str::to_owned),
                    figure: figure.name().to_owned(),
                    wanted,
                    reached,
                });
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use measure::{
        figure::Figure,
        histogram::{HistogramRecord, new_histogram, record},
        record::Counts,
    };

    use super::*;

    fn trial(repeat: u32, latency_ns: u64) -> TrialRecord {
        let mut histogram = new_histogram();
        record(&mut histogram, latency_ns);
        TrialRecord {
            counts: Counts { scheduled: 1, ok: 1, ..Counts::default() },
            latency: HistogramRecord::from_histogram(&histogram),
            ..TrialRecord::blank("l7", repeat, repeat)
        }
    }

    #[test]
    fn repeats_that_agree_are_enough_and_others_are_not() {
        let precision = Precision {
            within: vec![(Figure::LatencyP99, 0.05), (Figure::ProxyCpuPerCall, 0.05)],
            budget: Duration::from_secs(1),
        };
        let peers = ["l7".to_owned()];
        let missing = |latencies: &[u64]| {
            let trials: Vec<TrialRecord> =
                (0..).zip(latencies).map(|(repeat, &ns)| trial(repeat, ns)).collect();
            missing(&precision, &peers, None, &trials).len()
        };
        assert_eq!(missing(&[1_000_000]), 1, "one trial knows nothing");
        assert_eq!(missing(&[1_000_000, 1_001_000, 1_000_000, 1_001_000]), 0);
        assert_eq!(missing(&[1_000_000, 2_000_000, 1_000_000, 2_000_000]), 1);
    }
}
