//! What the decision page's calculator answers from: a grid of simulations with the times of
//! a measured run, and what balancing was measured to cost.
//!
//! What a call spends in queues and in service grows with its service time, as long as the
//! load is the same; so the grid has times in mean service times, at loads between 0 and 1.

use schemars::JsonSchema;
use serde::Serialize;

use crate::record::Layer;

/// A value with its interval: low, value, high.
pub type Ranged = [f64; 3];

/// A grid of simulations, and how far it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Calculator {
    /// Folder of the run that times were taken from: `<scenario>/<time>-<n>`.
    pub run: String,
    /// Mean service time there, in nanoseconds.
    pub service_ns: f64,
    /// Servers of each backend, in that run and in the grid.
    pub concurrency: u32,
    /// Simulations of each cell, each with its seed.
    pub seeds: u32,
    /// Loads: offered calls over what the backends can do.
    pub loads: Vec<f64>,
    /// Numbers of backends.
    pub backends: Vec<u32>,
    /// Connections for each backend; of clients that balance by themselves, clients.
    pub connections: Vec<f64>,
    /// The ways to balance, as the run has them.
    pub choices: Vec<Choice>,
    /// The settings that were measured.
    pub measured: Vec<Setting>,
}

/// A setting that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Setting {
    /// Offered calls over what the backends can do.
    pub load: f64,
    /// Backends.
    pub backends: u32,
    /// Connections of all clients.
    pub connections: u32,
}

/// One way to balance.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Choice {
    /// The peer's name.
    pub peer: String,
    /// Its layer.
    pub layer: Layer,
    /// How it picks.
    pub policy: String,
    /// What a call spends outside of the backends, as measured at each rate.
    pub ways: Vec<Way>,
    /// CPU per call in nanoseconds, by payload of a call in bytes; empty where no process
    /// shows it.
    pub costs: Vec<Cost>,
    /// By load, then by number of backends, then by connections.
    pub cells: Vec<Cell>,
}

/// What calls spent outside of the backends, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Way {
    /// At how many calls a second; none in a closed loop.
    pub rate: Option<f64>,
    /// Half of them at most.
    pub p50_ns: f64,
    /// On average.
    pub mean_ns: f64,
    /// 99 % of them at most.
    pub p99_ns: f64,
}

/// What balancing a call cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// Payload of the call, both directions together, in bytes.
    pub bytes: u64,
    /// CPU time of the proxy per call in nanoseconds, with its 95 % interval over trials.
    pub cpu_ns: Ranged,
}

/// What came of a setting, with the 95 % prediction interval of one more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cell {
    /// Mean time in queue and service, in mean service times.
    pub mean: Ranged,
    /// Its median.
    pub p50: Ranged,
    /// Its p99.
    pub p99: Ranged,
    /// Calls of the busiest backend over an even share.
    pub busiest: Ranged,
}
