//! What was said of a run before it was measured: figures with their prediction intervals,
//! sealed by a hash and a time before the first trial.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{figure::Figure, simulation::Calibration};

/// Predictions, and by what they are known to be those that were made: the hash and the
/// time stand in `run.json`, which is written before the first trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// When they were written, RFC 3339 in UTC.
    pub sealed_utc: String,
    /// SHA-256 of `predictions.json`, in hexadecimal digits.
    pub sha256: String,
    /// What the file says; [`crate::folder::Run::open`] reads it.
    #[serde(skip)]
    pub predictions: Predictions,
}

/// What a run folder's `predictions.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "layerlab predictions")]
pub struct Predictions {
    /// [`crate::record::FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// The measured run that times were taken from. What goes beyond it stands with the
    /// points.
    pub calibration: Calibration,
    /// What the scenario has and the simulation has not, each in a sentence.
    pub leaves_out: Vec<String>,
    /// Simulations of each peer and point with each repeat's times, each with its seed.
    pub seeds: u32,
    /// The chance with which a figure is to lie inside its interval, as 0.95.
    pub level: f64,
    /// Trials whose mean is predicted.
    pub repeats: u32,
    /// What is predicted of each peer and point.
    pub points: Vec<PredictedPoint>,
}

/// What is predicted of a peer at a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedPoint {
    /// Name of the peer.
    pub peer: String,
    /// The value of the setting that differs between points; none in a run of one setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// In which way this goes beyond what was measured in the calibration, each in a
    /// sentence; empty where it doesn't.
    pub extrapolated: Vec<String>,
    /// The figures.
    pub figures: Vec<Predicted>,
}

/// A figure that was predicted, in its own unit: nanoseconds, calls per second, fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Predicted {
    /// Which.
    pub figure: Figure,
    /// The mean over the trials to come.
    pub value: f64,
    /// Lower end of its prediction interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}
