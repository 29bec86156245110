//! The closed-loop twin of an open-loop trial: the same calls, backends and faults,
//! made by callers that wait for each answer before the next call.
//!
//! It is there to be wrong. Such a generator sends nothing while the service stands
//! still, so it sees one slow call a caller where a schedule has hundreds late
//! (coordinated omission; G. Tene, *How NOT to Measure Latency*, 2015). Shown
//! beside the real figures, in a section of its own, it tells what tools of that
//! kind leave out.

use std::time::Duration;

use measure::record::{TrialRecord, Twin};
use scenario::{Pace, Scenario};

/// The scenario of the twin; `None` unless the scenario asks for one.
///
/// One caller a connection, each with a pause that makes all of them together as
/// fast as the schedule when calls take no time.
pub(super) fn of(scenario: &Scenario) -> Option<Scenario> {
    let Pace::Open { .. } = scenario.load.pace else { return None };
    // A curve is no lesson of this kind.
    let is_plain = scenario.sweep.is_none() && scenario.load.search.is_none();
    if !(is_plain && scenario.load.closed_twin) {
        return None;
    }
    let rate = scenario.load.pace.mean_rate()?;
    let mut twin = scenario.clone();
    twin.load.streams = 1;
    let pause_s = f64::from(scenario.load.connections) / rate;
    twin.load.pace = Pace::Closed { think_time: Duration::from_secs_f64(pause_s) };
    Some(twin)
}

/// What its trial comes down to.
pub(super) fn record(scenario: &Scenario, trial: &TrialRecord) -> Twin {
    let think_time_s = match scenario.load.pace {
        Pace::Closed { think_time } => think_time.as_secs_f64(),
        Pace::Open { .. } => 0.0,
    };
    Twin {
        peer: trial.peer.clone(),
        callers: scenario.load.connections,
        think_time_s,
        counts: trial.counts.clone(),
        latency: trial.latency.clone(),
    }
}
