//! What is absurd: every number of a scenario has bounds, and they stand here.
//!
//! What one machine can't hold may still be simulated; what the lab itself takes is
//! checked before a run.
//!
//! The bounds are generous. They keep out slips of the finger (a zero, a
//! million connections), not experiments. The JSON Schema and the checks read
//! the same constants.

use std::{fmt, time::Duration};

use units::duration;

use crate::error::Problem;

/// Bounds of a number, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds<T> {
    /// The smallest value taken.
    pub min: T,
    /// The largest value taken.
    pub max: T,
}

const fn bounds<T>(min: T, max: T) -> Bounds<T> {
    Bounds { min, max }
}

/// Backends in a scenario.
pub const BACKENDS: Bounds<u32> = bounds(1, 10_000);
/// Servers in a backend's queue.
pub(crate) const CONCURRENCY: Bounds<u32> = bounds(1, 65_536);
/// Weight of a backend.
pub const WEIGHT: Bounds<u32> = bounds(1, 1_000);
/// The CPU time that a proxy may use, in cores.
pub(crate) const PROXY_QUOTA: Bounds<f64> = bounds(0.01, 64.0);
/// Speed factor of a backend.
pub(crate) const SPEED: Bounds<f64> = bounds(0.001, 1_000.0);
/// How many times slower or faster a fault makes a backend.
pub(crate) const SPEED_FACTOR: Bounds<f64> = bounds(1.0, 1_000.0);
/// Service time, and each part of a mixed one.
pub(crate) const SERVICE_TIME: Bounds<Duration> =
    bounds(Duration::from_micros(1), Duration::from_secs(60));
/// Shape of a log-normal service time.
pub(crate) const SIGMA: Bounds<f64> = bounds(0.01, 4.0);
/// Age at which a backend closes a connection, and the grace after that.
pub(crate) const CONNECTION_AGE: Bounds<Duration> =
    bounds(Duration::from_millis(10), Duration::from_secs(3_600));
/// Channels of each client.
pub(crate) const CHANNELS: Bounds<u32> = bounds(1, 64);
/// TCP connections of a channel to one address.
pub const MAX_CONNECTIONS: Bounds<u32> = bounds(1, 100);
/// Between two resolutions of a name by one client.
pub(crate) const RESOLVE_INTERVAL: Bounds<Duration> =
    bounds(Duration::ZERO, Duration::from_secs(3_600));
/// The pause after a first failed attempt to connect.
pub(crate) const INITIAL_BACKOFF: Bounds<Duration> =
    bounds(Duration::from_millis(1), Duration::from_secs(120));
/// How long a client hears nothing before it asks, and how long it then waits.
pub(crate) const KEEPALIVE: Bounds<Duration> =
    bounds(Duration::from_millis(1), Duration::from_secs(7_200));
/// How long a server of the user's own may take to be ready.
pub(crate) const READY_WITHIN: Bounds<Duration> =
    bounds(Duration::from_millis(100), Duration::from_secs(600));
/// Balancers that share the connections.
pub(crate) const BALANCERS: Bounds<u32> = bounds(1, 10_000);
/// Threads of a balancer.
pub(crate) const BALANCER_THREADS: Bounds<u32> = bounds(1, 256);
/// Zones.
pub const ZONES: Bounds<u32> = bounds(1, 100);
/// Zones with links between them: one for each two.
pub(crate) const LINKED_ZONES: Bounds<u32> = bounds(2, 12);
/// Backends in a zone, and its part of the client connections.
pub(crate) const IN_ZONE: Bounds<u32> = bounds(0, 10_000);
/// Backends from which on zones are heeded.
pub(crate) const ZONE_MIN_BACKENDS: Bounds<u32> = bounds(1, 10_000);
/// Failures in a row that eject a backend.
pub(crate) const FAILURES: Bounds<u32> = bounds(1, 10_000);
/// Times that a proxy is set to.
pub(crate) const PROXY_TIME: Bounds<Duration> =
    bounds(Duration::from_millis(1), Duration::from_secs(600));
/// What a link takes, one way, and its jitter.
pub(crate) const LINK_DELAY: Bounds<Duration> = bounds(Duration::ZERO, Duration::from_millis(500));
/// The part of a link's packets that is lost.
pub(crate) const LINK_LOSS: Bounds<f64> = bounds(0.0, 0.5);
/// Bits per second of a link.
pub(crate) const LINK_RATE: Bounds<u64> = bounds(8_000, 100_000_000_000);
/// Packets that a link holds in each direction.
pub(crate) const LINK_LIMIT: Bounds<u32> = bounds(1, 1_000_000);
/// Client connections.
pub const CONNECTIONS: Bounds<u32> = bounds(1, 1_000_000);
/// Calls in flight per connection.
pub const STREAMS: Bounds<u32> = bounds(1, 100_000);
/// Calls in flight over all connections.
pub const IN_FLIGHT: Bounds<u64> = bounds(1, 1_000_000_000);
/// Heavy connections; fewer than there are.
pub(crate) const HEAVY: Bounds<u32> = bounds(1, 999_999);
/// The part of all calls that heavy connections carry.
pub(crate) const HEAVY_SHARE: Bounds<f64> = bounds(0.01, 0.99);
/// Calls after which a connection is closed.
pub(crate) const CONNECTION_CALLS: Bounds<u32> = bounds(1, 1_000_000_000);
/// Calls per second over all connections.
pub const RATE: Bounds<f64> = bounds(0.1, 10_000_000.0);
/// Each part of a burst.
pub const BURST: Bounds<Duration> = bounds(Duration::from_millis(10), Duration::from_secs(600));
/// Think time of a closed loop.
pub(crate) const THINK_TIME: Bounds<Duration> = bounds(Duration::ZERO, Duration::from_secs(600));
/// Length of the measured part of a trial.
pub const DURATION: Bounds<Duration> =
    bounds(Duration::from_millis(100), Duration::from_secs(3_600));
/// Length of the measured part of a trial in calls.
pub const CALLS: Bounds<u64> = bounds(1, 1_000_000_000);
/// Length of the warm-up.
pub const WARM_UP: Bounds<Duration> = bounds(Duration::ZERO, Duration::from_secs(600));
/// How often a call of the user's service is made, beside others.
pub(crate) const CALL_WEIGHT: Bounds<u32> = bounds(1, 1_000_000);
/// How long a call of the user's service may take, and the pause between requests.
pub(crate) const DEADLINE: Bounds<Duration> =
    bounds(Duration::from_micros(1), Duration::from_secs(3_600));
/// Messages in a streaming call.
pub(crate) const MESSAGES: Bounds<u32> = bounds(1, 100_000);
/// Payload of a message in bytes.
pub const PAYLOAD_BYTES: Bounds<u32> = bounds(0, 8 << 20);
/// Half the width of an interval, as a fraction of the figure.
pub(crate) const PRECISION: Bounds<f64> = bounds(0.001, 1.0);
/// Trials of each peer.
pub const REPEATS: Bounds<u32> = bounds(1, 1_000);
/// Trials that are measured again.
pub(crate) const MAX_DISTURBED: Bounds<u32> = bounds(0, 1_000);
/// Values of a sweep.
pub(crate) const SWEEP_POINTS: Bounds<u32> = bounds(1, 32);
/// How near to each other a search brings the highest rate that holds and the
/// lowest that doesn't, as a fraction.
pub(crate) const RESOLUTION: Bounds<f64> = bounds(0.01, 1.0);
/// Seeds; TOML has no larger integers.
pub(crate) const SEED: Bounds<u64> = bounds(0, i64::MAX as u64);

/// The value, if it is within its bounds. `what` completes the sentence
/// "expected ... from 1 to 5".
pub(crate) fn within<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    bounds: Bounds<T>,
    what: &str,
) -> Result<T, Problem> {
    let Bounds { min, max } = bounds;
    // Written so that NaN is refused.
    if value >= min && value <= max {
        return Ok(value);
    }
    Err(Problem::new(key, format!("found {value}, expected {what} from {min} to {max}")))
}

/// Likewise of a duration.
pub(crate) fn time_within(
    key: &str,
    value: Duration,
    bounds: Bounds<Duration>,
    what: &str,
) -> Result<Duration, Problem> {
    let Bounds { min, max } = bounds;
    let bounds = Bounds { min: Time(min), max: Time(max) };
    within(key, Time(value), bounds, what).map(|time| time.0)
}

/// A duration that shows as people write it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}
