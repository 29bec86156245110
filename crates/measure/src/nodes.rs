//! What stands in a record of the nodes that a run was made on, where those are several.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::{Environment, MachineCost};

/// The nodes of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// What started an agent on each: `local`, `slurm`.
    pub engine: String,
    /// The nodes, in their order.
    pub nodes: Vec<NodeSetup>,
}

/// One node, and what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeSetup {
    /// What it is called in the record: `n0`.
    pub name: String,
    /// Its host name.
    pub host: String,
    /// Which machine it is on, from zero: nodes may share one.
    pub machine: u32,
    /// What it did.
    pub roles: Vec<NodeRole>,
    /// The machine and its software.
    pub environment: Environment,
}

/// What a node does in a trial.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// The balancer runs there.
    Balancer,
    /// Backends run there.
    Backends,
    /// It makes load.
    Generator,
}

impl NodeRole {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Backends => "backends",
            Self::Generator => "generator",
        }
    }
}

impl Cluster {
    /// How many machines the nodes are on.
    pub fn machines(&self) -> usize {
        self.nodes.iter().map(|node| node.machine).collect::<BTreeSet<u32>>().len()
    }
}

/// What one node did in a trial, and its clock beside the coordinator's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTrial {
    /// [`NodeSetup::name`].
    pub name: String,
    /// How far its monotonic clock was ahead of the coordinator's before the trial, in
    /// nanoseconds. Such clocks count from when a machine was started, so it may be days.
    pub clock_offset_ns: i64,
    /// How far from that it may have been, to either side.
    pub clock_uncertainty_ns: u64,
    /// How fast it ran ahead from before the trial to after it, in parts per million; zero
    /// where that is less than what the uncertainties explain.
    pub clock_drift_ppm: f64,
    /// By how much it heard too late of the time at which the load was to start.
    pub late_ns: u64,
    /// Calls in its logs, those of the warm-up too.
    pub calls: u64,
    /// What its whole machine spent during the measured window.
    pub machine: MachineCost,
}
