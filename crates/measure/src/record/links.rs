//! Links between the parts of the lab that take time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A link between two parts of the lab that was not as fast as the machine: what it did to
/// packets in each direction, in the words of netem (tc-netem(8)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkSetup {
    /// Its two ends: `client`, `balancer`, `backends`, or a backend's id.
    pub between: [String; 2],
    /// How long a packet was under way, one way.
    pub delay_ns: u64,
    /// How much less or more than that, evenly distributed.
    pub jitter_ns: u64,
    /// The part of the packets that was lost, from 0 to 1.
    pub loss: f64,
    /// Bits per second, of IP packets; as many as could be where there is none.
    pub rate_bits: Option<u64>,
    /// Packets held at a time; more were dropped.
    pub limit: u32,
    /// Whether jitter let packets overtake each other.
    pub reorder: bool,
}

/// What made links take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkEngine {
    /// The kernel, on veth links.
    Netem,
    /// A process of the lab, between TUN devices.
    Relay,
}

/// The links of a trial: what came out of what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinksRecord {
    /// What made them take time.
    pub engine: LinkEngine,
    /// Each of them.
    pub links: Vec<LinkRecord>,
    /// How much later than due the relay passed packets on during the measured window: the
    /// median. None of netem, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_p50_ns: Option<u64>,
    /// Likewise, the 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_p99_ns: Option<u64>,
}

/// A link of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkRecord {
    /// Its two ends: `client`, `balancer` or a backend's id.
    pub between: [String; 2],
    /// Pings through it before the trial.
    pub pings: u32,
    /// Of those, how many were answered.
    pub answered: u32,
    /// What a ping should take there and back, in the mean.
    pub asked_ns: u64,
    /// How much less or more it may take for the jitter of both ways.
    pub jitter_ns: u64,
    /// What they took: the median. Zero where none was answered.
    pub ping_p50_ns: u64,
    /// Likewise, the 99th percentile.
    pub ping_p99_ns: u64,
    /// Packets in both directions during the measured window, where the relay counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Of those, lost by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Of those, dropped because the link held as many as it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}
