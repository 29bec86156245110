//! Which calls are tried again, and when: the decisions, without the acts.
//!
//! What a backend surely has not looked at (REFUSED_STREAM, a GOAWAY that leaves
//! the call out, no connection) is always tried elsewhere, up to `max-attempts`;
//! that is no part of this module. Here is what may have been worked on: answers
//! with a status of `retry-on`, and connections that broke. Trying those again
//! turns one call into several just when backends are in trouble, so it comes
//! out of a budget: a share of the calls in flight, as Envoy's and Finagle's
//! retry budgets have it. A second attempt made ahead of any failure (a hedge;
//! Dean and Barroso, *The Tail at Scale*, 2013) comes out of the same budget.
//!
//! Never is a call tried again after a byte of a response has gone to its
//! client, nor once its request has outgrown `replay-buffer-bytes`.
//!
//! Source: gRPC's A6, client retries; its `grpc-retry-pushback-ms` is honoured.

use std::{str::FromStr, time::Duration};

use serve::{Counter, Metrics, duration};
use units::grpc::STATUS_NAMES;

use crate::failure::{Failure, code};

/// When calls are tried again although a backend may have worked on them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Retries and hedging")]
pub struct RetryPolicy {
    /// gRPC statuses, as names or numbers, separated by commas, after which a
    /// call is tried again: answers that are nothing but a status, and failures
    /// that the client would be told with one. None unless given.
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub retry_on: Vec<GrpcStatus>,

    /// Largest share of a thread's calls in flight that may be retries or
    /// hedges.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = serve::cli::share)]
    pub retry_budget: f64,

    /// Retries and hedges that a thread may always have in flight, however few
    /// calls there are.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retry_min_concurrency: u32,

    /// Longest pause before the first such retry; it doubles with each further
    /// one, and each pause is drawn from nothing to that. A backend that sends
    /// grpc-retry-pushback-ms decides for itself.
    #[arg(long, value_name = "DURATION", default_value = "25ms", value_parser = duration::parse)]
    pub retry_backoff: Duration,

    /// Bound on that pause.
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = duration::parse)]
    pub retry_backoff_max: Duration,

    /// Send a call that has no response after this time to a second backend as
    /// well: the first answer counts, and the other attempt is reset. Only for
    /// requests that are whole and kept. Off unless given.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub hedge_delay: Option<Duration>,
}

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus(u8);

impl GrpcStatus {
    /// UNAVAILABLE.
    pub const UNAVAILABLE: Self = Self(14);

    /// Reads the value of a `grpc-status` header.
    pub fn from_header(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        text.parse().ok().filter(|code| usize::from(*code) < STATUS_NAMES.len()).map(Self)
    }

    /// What a client of gRPC reads from a reset with this code ("HTTP2 Transport
    /// Mapping" of the gRPC spec).
    fn of_reset(reset: u32) -> Self {
        match reset {
            code::REFUSED_STREAM => Self(14),
            code::CANCEL => Self(1),
            code::ENHANCE_YOUR_CALM => Self(8),
            // INADEQUATE_SECURITY.
            12 => Self(7),
            _ => Self(13),
        }
    }

    /// What the client would be told of a failure. `None` for those that are
    /// about the call itself.
    pub(crate) fn of_failure(failure: &Failure) -> Option<Self> {
        match failure {
            Failure::BackendBroke { .. } => Some(Self::UNAVAILABLE),
            Failure::BackendReset { code, .. } => Some(Self::of_reset(*code)),
            _ => None,
        }
    }
}

impl FromStr for GrpcStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.trim().replace('-', "_").to_ascii_uppercase();
        let named = STATUS_NAMES.iter().position(|name| *name == wanted);
        let code = named.or_else(|| wanted.parse().ok().filter(|code| *code < STATUS_NAMES.len()));
        match code {
            Some(0) => Err("OK is no failure; a call that went well is not tried again".to_owned()),
            Some(code) => Ok(Self(code as u8)),
            None => Err(format!(
                "`{text}` is no gRPC status; write a name as in unavailable, or a number from 1 to 16"
            )),
        }
    }
}

/// What a backend says of another attempt, in `grpc-retry-pushback-ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Nothing.
    None,
    /// After this time.
    After(Duration),
    /// Not at all: a negative number, or something that is none.
    Never,
}

impl Pushback {
    /// Reads the header's value, if it is there.
    pub fn from_header(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::None };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
        number.map_or(Self::Never, |ms| Self::After(Duration::from_millis(u64::from(ms))))
    }
}

/// Where a call stands when an attempt at it has failed.
#[derive(Clone, Copy, Debug)]
pub struct CallState {
    /// Attempts made, the failed one included.
    pub attempts: u32,
    /// Attempts that may be made.
    pub max_attempts: u32,
    /// The request can be sent again, and nothing of a response has gone to the
    /// client.
    pub is_replayable: bool,
    /// What is left of the deadline, if there is one.
    pub left: Option<Duration>,
    /// The thread's calls in flight.
    pub calls: usize,
    /// Of its attempts, retries and hedges that came out of the budget.
    pub budgeted: usize,
}

/// What becomes of a call whose attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its client is told of the failure.
    Tell,
    /// The same, and only because the budget is used up.
    OverBudget,
    /// Another attempt is made after this time.
    TryAfter(Duration),
}

impl RetryPolicy {
    /// Whether an answer with this status is a reason to try again.
    pub fn retries(&self, status: GrpcStatus) -> bool {
        self.retry_on.contains(&status)
    }

    /// Whether one more retry or hedge fits the budget.
    pub(crate) fn has_budget(&self, calls: usize, budgeted: usize) -> bool {
        let share = (self.retry_budget * calls as f64) as usize;
        budgeted < share.max(self.retry_min_concurrency as usize)
    }

    /// Decides over a call whose attempt failed with `status`. `random` is any
    /// number.
    pub fn decide(
        &self,
        status: GrpcStatus,
        pushback: Pushback,
        state: CallState,
        random: u64,
    ) -> Verdict {
        let may_try = state.is_replayable && state.attempts < state.max_attempts;
        if !may_try || !self.retries(status) || pushback == Pushback::Never {
            return Verdict::Tell;
        }
        let pause = match pushback {
            Pushback::After(pause) => pause,
            _ => self.pause(state.attempts, random),
        };
        if state.left.is_some_and(|left| pause >= left) {
            return Verdict::Tell;
        }
        if !self.has_budget(state.calls, state.budgeted) {
            return Verdict::OverBudget;
        }
        Verdict::TryAfter(pause)
    }

    /// The pause after so many attempts: A6 draws it from nothing to a bound
    /// that grows.
    fn pause(&self, attempts: u32, random: u64) -> Duration {
        let doubled = self.retry_backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        doubled.min(self.retry_backoff_max).mul_f64(random as f64 / u64::MAX as f64)
    }
}

/// One thread's counts of retries out of the budget.
#[derive(Debug)]
pub struct RetryCounters {
    /// Retries after a status or a failure of `retry-on`.
    pub retries: Counter,
    /// Second attempts made ahead of any failure.
    pub hedges: Counter,
    /// Hedges whose answer came first.
    pub hedges_won: Counter,
    /// Retries and hedges that the budget did not allow.
    pub over_budget: Counter,
}

impl RetryCounters {
    /// Registers the counts.
    pub fn register(metrics: &Metrics) -> Self {
        let count = |name, help| metrics.counter_shard(name, help, &[]);
        Self {
            retries: count(
                "l7_status_retries_total",
                "Calls tried again after a status or failure of retry-on.",
            ),
            hedges: count("l7_hedges_total", "Second attempts made after hedge-delay."),
            hedges_won: count("l7_hedges_won_total", "Second attempts whose answer came first."),
            over_budget: count(
                "l7_retries_over_budget_total",
                "Retries and hedges that were not made because the budget was used up.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { retry_on: vec![GrpcStatus::UNAVAILABLE], ..RetryPolicy::default() }
    }

    const STATE: CallState = CallState {
        attempts: 1,
        max_attempts: 4,
        is_replayable: true,
        left: None,
        calls: 100,
        budgeted: 0,
    };

    fn decide(state: CallState, pushback: Pushback) -> Verdict {
        policy().decide(GrpcStatus::UNAVAILABLE, pushback, state, u64::MAX)
    }

    #[test]
    fn statuses_are_read_by_name_and_number() {
        for text in ["unavailable", "UNAVAILABLE", "14", " Unavailable"] {
            assert_eq!(text.parse(), Ok(GrpcStatus::UNAVAILABLE), "{text}");
        }
        assert_eq!("resource-exhausted".parse(), Ok(GrpcStatus(8)));
        for text in ["", "ok", "0", "17", "-1", "unavailible"] {
            assert!(text.parse::<GrpcStatus>().is_err(), "{text}");
        }
        assert_eq!(GrpcStatus::from_header(b"14"), Some(GrpcStatus::UNAVAILABLE));
        assert_eq!(GrpcStatus::from_header(b"0"), Some(GrpcStatus(0)));
        assert_eq!(GrpcStatus::from_header(b"99"), None);
    }

    #[test]
    fn resets_are_read_as_clients_read_them() {
        let reset =
            |code| GrpcStatus::of_failure(&Failure::BackendReset { backend: String::new(), code });
        assert_eq!(reset(code::CANCEL), Some(GrpcStatus(1)));
        assert_eq!(reset(code::INTERNAL_ERROR), Some(GrpcStatus(13)));
        assert_eq!(reset(code::ENHANCE_YOUR_CALM), Some(GrpcStatus(8)));
        assert_eq!(GrpcStatus::of_failure(&Failure::Deadline), None);
    }

    #[test]
    fn only_the_named_statuses_are_tried_again_and_within_the_bounds() {
        assert!(matches!(decide(STATE, Pushback::None), Verdict::TryAfter(_)));
        let other = policy().decide(GrpcStatus(5), Pushback::None, STATE, 0);
        assert_eq!(other, Verdict::Tell);
        for state in [
            CallState { attempts: 4, ..STATE },
            CallState { is_replayable: false, ..STATE },
            CallState { left: Some(Duration::from_millis(25)), ..STATE },
        ] {
            assert_eq!(decide(state, Pushback::None), Verdict::Tell, "{state:?}");
        }
    }

    #[test]
    fn the_budget_is_a_share_with_a_floor() {
        let policy = policy();
        assert!(policy.has_budget(100, 19) && !policy.has_budget(100, 20));
        assert!(policy.has_budget(0, 2) && !policy.has_budget(1, 3));
        let state = CallState { budgeted: 20, ..STATE };
        assert_eq!(decide(state, Pushback::None), Verdict::OverBudget);
        let none = RetryPolicy { retry_budget: 0.0, retry_min_concurrency: 0, ..policy };
        assert!(!none.has_budget(1_000_000, 0));
    }

    #[test]
    fn a_backend_may_push_back() {
        assert_eq!(Pushback::from_header(None), Pushback::None);
        for text in ["-1", "soon", "", "1.5", "99999999999"] {
            assert_eq!(Pushback::from_header(Some(text.as_bytes())), Pushback::Never, "{text}");
        }
        let second = Pushback::from_header(Some(b"1000"));
        assert_eq!(second, Pushback::After(Duration::from_secs(1)));
        assert_eq!(decide(STATE, second), Verdict::TryAfter(Duration::from_secs(1)));
        assert_eq!(decide(STATE, Pushback::Never), Verdict::Tell);
        let late = CallState { left: Some(Duration::from_millis(900)), ..STATE };
        assert_eq!(decide(late, second), Verdict::Tell);
    }

    proptest! {
        #[test]
        fn pauses_grow_and_stay_within_their_bound(attempts in 1_u32.., random: u64) {
            let policy = policy();
            let longest = policy.pause(attempts, u64::MAX);
            prop_assert!(policy.pause(attempts, random) <= longest);
            prop_assert!(longest <= policy.retry_backoff_max);
            prop_assert_eq!(policy.pause(1, u64::MAX), policy.retry_backoff);
            prop_assert!(longest <= policy.pause(attempts.saturating_add(1), u64::MAX));
        }
    }
}
