//! What was predicted of a run beside what was measured of it.

use measure::{
    figure::Figures,
    prediction::{Predicted, PredictedPoint},
    record::{RunRecord, TrialRecord},
    statistics::interval::over_trials,
    summary::is_measured,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::LEVEL;

/// How far a figure may stick out of its interval and still count as inside: what is left
/// of it by arithmetic, and by the 3 digits that histograms keep.
const ROUNDING: f64 = 1e-3;

/// A prediction and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Outcome {
    /// Name of the peer.
    pub peer: String,
    /// The value of the setting that differs between points; none in a run of one setting.
    pub point: Option<String>,
    /// In which way it goes beyond what was measured in the calibration; empty where it
    /// doesn't.
    pub extrapolated: Vec<String>,
    /// What was predicted.
    pub predicted: Predicted,
    /// The mean over the trials; none where none has the figure.
    pub measured: Option<f64>,
    /// What was measured over what was predicted, less one.
    pub error: Option<f64>,
    /// Whether what was measured lies inside the prediction interval.
    pub is_inside: Option<bool>,
}

/// How many predictions came true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Score {
    /// Figures that lie inside their prediction intervals.
    pub inside: usize,
    /// Figures that were predicted and measured.
    pub of: usize,
}

/// What came of the predictions of a run, in their order; empty where none were made.
pub fn outcomes(run: &RunRecord, trials: &[TrialRecord]) -> Vec<Outcome> {
    let points = run.predictions.iter().flat_map(|sealed| &sealed.predictions.points);
    points.flat_map(|point| of_point(point, trials)).collect()
}

fn of_point(point: &PredictedPoint, trials: &[TrialRecord]) -> Vec<Outcome> {
    let own = trials.iter().filter(|trial| trial.peer == point.peer && trial.point == point.point);
    let figures: Vec<Figures> =
        own.filter(|trial| is_measured(trial)).map(Figures::of_trial).collect();
    let outcome = |predicted: &Predicted| {
        let values: Vec<f64> = figures.iter().filter_map(|one| one.get(predicted.figure)).collect();
        let Predicted { value, low, high, .. } = *predicted;
        // The mean as a prediction takes it; the interval over trials is not asked for.
        let measured = over_trials(&values, LEVEL).map(|estimate| estimate.centre);
        let slack = ROUNDING * value.abs();
        Outcome {
            peer: point.peer.clone(),
            point: point.point.clone(),
            extrapolated: point.extrapolated.clone(),
            predicted: *predicted,
            measured,
            error: measured.filter(|_| value != 0.0).map(|measured| measured / value - 1.0),
            is_inside: measured.map(|own| (low - slack..=high + slack).contains(&own)),
        }
    };
    point.figures.iter().map(outcome).collect()
}

/// How many of the outcomes are inside: of those within what was measured in the
/// calibration, and of those beyond.
pub fn scores(outcomes: &[Outcome]) -> (Score, Score) {
    let score = |is_beyond: bool| {
        let own = outcomes.iter().filter(|one| one.extrapolated.is_empty() != is_beyond);
        own.filter_map(|one| one.is_inside).fold(Score::default(), |score, is_inside| Score {
            inside: score.inside + usize::from(is_inside),
            of: score.of + 1,
        })
    };
    (score(false), score(true))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use measure::{
        figure::Figure,
        folder::Run,
        prediction::{Predictions, Sealed},
    };

    use super::*;

    /// What the example measured of the shares behind `l7`, predicted as said.
    fn outcomes_of(peer: &str, (low, value, high): (f64, f64, f64), beyond: &[&str]) -> Outcome {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/example");
        let mut run = Run::open(&example).unwrap();
        let point = PredictedPoint {
            peer: peer.to_owned(),
            point: None,
            extrapolated: beyond.iter().map(|one| (*one).to_owned()).collect(),
            figures: vec![Predicted { figure: Figure::MaxShare, value, low, high }],
        };
        let predictions = Predictions { points: vec![point], ..Predictions::default() };
        let (sealed_utc, sha256) = (String::new(), String::new());
        run.record.predictions = Some(Sealed { sealed_utc, sha256, predictions });
        outcomes(&run.record, &run.trials).remove(0)
    }

    #[test]
    fn what_was_measured_lies_inside_or_outside() {
        let inside = outcomes_of("l7", (0.24, 0.25, 0.26), &[]);
        assert_eq!(inside.is_inside, Some(true));
        assert!(inside.error.unwrap().abs() < 0.02 && inside.measured.is_some());
        let outside = outcomes_of("l7", (0.4, 0.5, 0.6), &["more backends."]);
        assert_eq!(outside.is_inside, Some(false));
        assert!((outside.error.unwrap() + 0.5).abs() < 0.02, "{:?}", outside.error);
        let missing = outcomes_of("no-such-peer", (0.4, 0.5, 0.6), &[]);
        assert_eq!((missing.measured, missing.error, missing.is_inside), (None, None, None));
        let (within, beyond) = scores(&[inside, outside, missing]);
        assert_eq!((within, beyond), (Score { inside: 1, of: 1 }, Score { inside: 0, of: 1 }));
    }

    /// What never varies has an interval of one point, and histograms keep three digits.
    #[test]
    fn an_interval_of_one_point_allows_for_rounding() {
        assert_eq!(outcomes_of("l4", (1.0005, 1.0005, 1.0005), &[]).is_inside, Some(true));
        assert_eq!(outcomes_of("l4", (0.99, 0.99, 0.99), &[]).is_inside, Some(false));
    }
}
