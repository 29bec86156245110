//! The load of a scenario, checked: when calls are made, of what kind, and by whom.

mod check;

use std::time::Duration;

use serde::Serialize;

pub(crate) use self::check::{check_client, check_load};
use crate::{
    client::Client,
    quantity::{duration_as_text, optional_duration_as_text},
    search::Search,
    sizes::Sizes,
    trace::Trace,
    wire::CallKind,
};

/// The load: identical for every peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// What makes calls due.
    pub pace: Pace,
    /// Client connections.
    pub connections: u32,
    /// Most calls in flight per connection.
    pub streams: u32,
    /// Connections that carry more than the others; `None` when all are alike.
    pub skew: Option<Skew>,
    /// Calls after which a connection is closed and another made; `None` for
    /// connections that live as long as the trial.
    pub connection_calls: Option<u32>,
    /// How long the measured part of a trial is.
    pub length: Length,
    /// How long the load runs before it is measured.
    #[serde(serialize_with = "duration_as_text")]
    pub warm_up: Duration,
    /// The gRPC client that makes the calls.
    pub client: Client,
    /// How the generator waits for the next call to be due.
    pub pacer: Pacer,
    /// Whether each peer's load is made once more in a closed loop.
    pub closed_twin: bool,
    /// Kind of call.
    pub call: CallKind,
    /// Messages in each direction that streams; 1 for unary calls.
    pub messages: u32,
    /// How long a call of the echo service may take; `None` for as long as it likes.
    #[serde(serialize_with = "optional_duration_as_text", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Payload of a request message.
    pub request_bytes: Sizes,
    /// Payload of a response message.
    pub response_bytes: Sizes,
    /// The search over rates, if there is one.
    pub search: Option<Search>,
}

impl Load {
    /// Payload that a call moves in both directions together, in bytes; the mean, where
    /// calls differ.
    pub fn payload_bytes(&self) -> u64 {
        let messages = u64::from(self.messages);
        let mean = |sizes: &Sizes| u64::from(sizes.mean_bytes());
        let (request, response) = (mean(&self.request_bytes), mean(&self.response_bytes));
        match self.call {
            CallKind::Unary => request + response,
            CallKind::ServerStream => request + messages * response,
            CallKind::ClientStream => messages * request + response,
            CallKind::Bidi => messages * (request + response),
        }
    }
}

/// Connections that are not alike: few carry much, and many little.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Skew {
    /// How many connections are heavy: the first ones. At least one, and at least
    /// one is not.
    pub heavy: u32,
    /// The part of all calls that the heavy ones carry together, between 0 and 1.
    pub share: f64,
}

/// What makes calls due.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub enum Pace {
    /// A schedule that does not wait for responses.
    Open {
        /// The arrival process, with its rate over all connections.
        arrivals: Arrivals,
        /// How that rate changes.
        profile: Profile,
    },
    /// The end of the call before on the same stream.
    Closed {
        /// Pause between the end of a call and the next one on its stream.
        #[serde(serialize_with = "duration_as_text")]
        think_time: Duration,
    },
}

impl Pace {
    /// Calls per second, averaged over the measured part; `None` for a closed
    /// loop.
    pub fn mean_rate(&self) -> Option<f64> {
        match self {
            Self::Open { arrivals, profile } => Some(arrivals.rate() * profile.mean_factor()),
            Self::Closed { .. } => None,
        }
    }
}

/// The arrival process of an open loop. Rates are calls per second over all
/// connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "process")]
pub enum Arrivals {
    /// Calls at equal distances.
    Constant {
        /// Calls per second.
        rate: f64,
    },
    /// Calls independent of each other: exponential gaps.
    Poisson {
        /// Calls per second, on average.
        rate: f64,
    },
    /// Calls as they were recorded.
    Trace {
        /// The record.
        trace: Trace,
        /// How many times as fast.
        speed: f64,
    },
}

impl Arrivals {
    /// Its name in scenario files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant { .. } => "constant",
            Self::Poisson { .. } => "poisson",
            Self::Trace { .. } => "trace",
        }
    }

    /// What is replayed, and how many times as fast.
    pub fn trace(&self) -> Option<(&Trace, f64)> {
        match self {
            Self::Trace { trace, speed } => Some((trace, *speed)),
            Self::Constant { .. } | Self::Poisson { .. } => None,
        }
    }

    /// Calls per second before any profile; of a trace, on average.
    pub fn rate(&self) -> f64 {
        match self {
            Self::Constant { rate } | Self::Poisson { rate } => *rate,
            Self::Trace { trace, speed } => trace.calls().len() as f64 / trace.length_s() * speed,
        }
    }
}

/// How the rate of an open loop changes over the measured part. Rates are
/// multiples of the arrival process's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Profile {
    /// Not at all.
    Flat,
    /// Evenly from 1 to this.
    Ramp {
        /// The factor at the end.
        to: f64,
    },
    /// One factor after the other, each for an equal part.
    Steps {
        /// The factors; the first is 1.
        factors: Vec<f64>,
    },
    /// 1 for a while, 0 for a while, and again.
    Bursts {
        /// How long calls come.
        #[serde(serialize_with = "duration_as_text")]
        on: Duration,
        /// How long none come.
        #[serde(serialize_with = "duration_as_text")]
        off: Duration,
    },
}

impl Profile {
    /// The average factor; of bursts, over many of them.
    pub fn mean_factor(&self) -> f64 {
        match self {
            Self::Flat => 1.0,
            Self::Ramp { to } => f64::midpoint(1.0, *to),
            Self::Steps { factors } => factors.iter().sum::<f64>() / factors.len() as f64,
            Self::Bursts { on, off } => on.as_secs_f64() / (*on + *off).as_secs_f64(),
        }
    }

    /// Its name in scenario files, `flat` for none.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Ramp { .. } => "ramp",
            Self::Steps { .. } => "steps",
            Self::Bursts { .. } => "bursts",
        }
    }
}

/// How long the measured part of a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// As long as this.
    Duration(#[serde(serialize_with = "duration_as_text")] Duration),
    /// As long as this many calls take.
    Calls(u64),
}

/// How the generator waits for the next call to be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pacer {
    /// As the placement suggests: awake where the generator has cores of its own,
    /// asleep where it would take them from those who are measured.
    Auto,
    /// Asleep until then.
    Timer,
    /// Asleep until shortly before, then awake.
    Spin,
}
