//! What the record of a simulated run says of the simulation: what it leaves out, and
//! where the times came from that it drew.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A simulation, as the record has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Simulation {
    /// What the scenario has and the simulation has not, each in a sentence.
    pub leaves_out: Vec<String>,
    /// The measured run that times were taken from; none where they are those that the
    /// scenario names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// What was taken from a measured run, or from a log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Calibration {
    /// Folder of the run: `<scenario>/<time>-<n>`; or the file of a log.
    pub run: String,
    /// Whether it was an access log or a trace, and no run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_log: bool,
    /// What was taken.
    pub taken: Vec<Taken>,
    /// In which way this simulation goes beyond what was measured, each in a sentence;
    /// empty where it doesn't.
    pub extrapolated: Vec<String>,
}

/// Times that were taken from a measured run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// What: `service time`, `time on the way of l7`.
    pub what: String,
    /// Where it was found, in words.
    pub from: String,
    /// How many times were seen.
    pub count: u64,
    /// Their mean in nanoseconds.
    pub mean_ns: f64,
    /// How well what is drawn fits what was measured; none where there is nothing to
    /// hold it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
}

/// How well one distribution fits another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fit {
    /// The largest difference between the two cumulative distributions, from 0 to 1
    /// (Kolmogorov and Smirnov).
    pub ks: f64,
    /// Of p50, p90, p99 and p99.9 the one that is furthest off: which, as a fraction.
    pub worst_quantile: f64,
    /// What was measured there, in nanoseconds.
    pub measured_ns: f64,
    /// What the simulation has there, in nanoseconds.
    pub simulated_ns: f64,
}
