//! One attempt at a call, on one backend, and how it broke.

use std::{rc::Rc, time::Duration};

use balance::LOAD_REPORT_TRAILER;
use h2::Reason;
use http::HeaderMap;
use serve::Counter;
use tokio::time::Instant;

use super::{connection::Lease, h2_source, local::Count, pool::Pool};
use crate::{failure::Failure, metrics::Outcome, upstreams::InFlight};

/// An attempt in flight. Dropping it ends it: exactly once in the backend's
/// load, and once in the counts.
pub(super) struct Attempt {
    pub(super) pool: Rc<Pool>,
    pub(super) in_flight: InFlight,
    /// Counts connections on which many calls were reset.
    pub(super) worn: Counter,
    /// When it was sent, and its place on the connection until the response has
    /// ended.
    pub(super) sent: Option<(Instant, Lease)>,
    pub(super) deadline: Option<Instant>,
    /// Its places among the thread's attempts, and among those that come out of
    /// the retry budget.
    pub(super) _places: (Count, Option<Count>),
    /// How it ended. Without one it was dropped: by the deadline, or because
    /// the client went away.
    pub(super) outcome: Option<Outcome>,
}

impl Attempt {
    /// The response has ended with these headers.
    pub(super) fn end(&mut self, outcome: Outcome, last: Option<&HeaderMap>) {
        self.outcome = Some(outcome);
        if self.pool.uses_reports()
            && let Some(report) = last.and_then(|headers| headers.get(LOAD_REPORT_TRAILER))
        {
            self.in_flight.report(self.pool.now_ns(), report.as_bytes());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        use Outcome::{Cancelled, Deadline, Refused, Reset};
        let is_late = || self.deadline.is_some_and(|at| Instant::now() >= at);
        let dropped = || if is_late() { Deadline } else { Cancelled };
        let outcome = self.outcome.unwrap_or_else(dropped);
        self.pool.counters.count(outcome);
        self.in_flight.note(self.pool.now_ns(), outcome);
        // The stream was reset, by either side.
        if let Some((_, lease)) = &self.sent
            && matches!(outcome, Cancelled | Deadline | Refused | Reset)
            && lease.places().note_reset()
        {
            self.worn.inc();
        }
    }
}

/// How an attempt broke: for the client, in the counts, and what may be done.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) failure: Failure,
    pub(super) outcome: Outcome,
    pub(super) next: Next,
}

/// What may be done about a call whose attempt broke.
#[derive(Debug)]
pub(super) enum Next {
    /// It was never on a connection; another backend can have it.
    Elsewhere,
    /// The backend said, or it is certain, that the call was not processed;
    /// another connection can have it.
    Anywhere,
    /// Whether the backend acted on it is unknown.
    Nothing,
    /// The same, but another attempt is due after a pause, for which the retry
    /// budget has kept a place.
    Later(Duration, Count),
}

/// Reads how an attempt broke from hyper's error.
pub(super) fn broken(error: &hyper::Error, backend: String) -> Broken {
    let remote = h2_source(error).filter(|error| error.is_remote());
    let reason = remote.and_then(h2::Error::reason);
    if let Some(reason) = reason.filter(|_| remote.is_some_and(h2::Error::is_reset)) {
        let failure = Failure::BackendReset { backend, code: reason.into() };
        return match reason {
            Reason::REFUSED_STREAM => {
                Broken { failure, outcome: Outcome::Refused, next: Next::Anywhere }
            }
            _ => Broken { failure, outcome: Outcome::Reset, next: Next::Nothing },
        };
    }
    let failure = Failure::BackendBroke { backend };
    match reason {
        // h2 gives GOAWAY's error to no stream but those it leaves out
        // (RFC 9113, section 6.8: they "might be retried").
        Some(_) if remote.is_some_and(h2::Error::is_go_away) => {
            Broken { failure, outcome: Outcome::Refused, next: Next::Anywhere }
        }
        _ => Broken { failure, outcome: Outcome::Broken, next: Next::Nothing },
    }
}
