//! When a connection ends though both sides would go on: silence, age, or a
//! backend that is to be emptied.
//!
//! Closing connections is all that a balancer of connections can do to
//! rebalance, and it does harm: calls that are under way are lost. So one that
//! has had its time is closed at its first quiet moment, with an ordinary end:
//! when nothing has moved for a while and no answer is owed, as it is while bytes
//! went to the backend last. That may be long after the last call, for a client
//! of HTTP/2 may have acknowledged something last, so when the grace is over
//! silence is enough; one that had none is cut off.

use std::time::Duration;

use crate::counts::End;

/// Silence in both directions that counts as a quiet moment. Above the round
/// trip of common networks, so that an answer is whole by then.
const QUIET_MS: u64 = 100;

/// What ends connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Silence in both directions together.
    pub(crate) idle: Option<Duration>,
    /// Age, give or take a tenth.
    pub(crate) age: Option<Duration>,
    /// How long a connection that has had its time may go on without a quiet
    /// moment.
    pub(crate) grace: Duration,
}

/// One connection's times, in milliseconds of its thread's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) opened_ms: u64,
    /// When bytes last moved in either direction.
    pub(crate) active_ms: u64,
    /// Bytes went to the backend last, or some wait for either side to take them.
    pub(crate) is_answer_owed: bool,
    /// When it has had its time.
    expires_ms: Option<u64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It ends now.
    Now(End),
    /// Look again then.
    At(u64),
    /// Nothing ends it.
    Never,
}

impl Lifetime {
    /// `random` spreads the ends of connections that were opened together, so
    /// that their clients don't all come back at once.
    pub(crate) fn new(now_ms: u64, limits: &Limits, random: u64) -> Self {
        let jittered = |age: Duration| {
            let age_ms = millis(age);
            age_ms - age_ms / 10 + random % (age_ms / 5 + 1)
        };
        let expires_ms = limits.age.map(|age| now_ms.saturating_add(jittered(age)));
        Self { opened_ms: now_ms, active_ms: now_ms, is_answer_owed: false, expires_ms }
    }

    /// It has had its time at `at_ms`, if not before.
    pub(crate) fn expire(&mut self, at_ms: u64) {
        self.expires_ms = Some(self.expires_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    pub(crate) fn due(&self, now_ms: u64, limits: &Limits) -> Due {
        let mut next_ms = None;
        let mut look_at = |at_ms: u64| next_ms = Some(next_ms.map_or(at_ms, |n: u64| n.min(at_ms)));
        if let Some(idle) = limits.idle {
            let at_ms = self.active_ms.saturating_add(millis(idle));
            if at_ms <= now_ms {
                return Due::Now(End::Idle);
            }
            look_at(at_ms);
        }
        if let Some(expires_ms) = self.expires_ms {
            let quiet_ms = self.active_ms.saturating_add(QUIET_MS);
            let cut_ms = expires_ms.saturating_add(millis(limits.grace));
            if expires_ms > now_ms {
                look_at(expires_ms);
            } else if quiet_ms <= now_ms && (!self.is_answer_owed || cut_ms <= now_ms) {
                return Due::Now(End::Aged);
            } else if cut_ms <= now_ms {
                return Due::Now(End::AgedCut);
            } else {
                // While an answer is owed it has to be looked for.
                let next_ms = if quiet_ms > now_ms { quiet_ms } else { now_ms + QUIET_MS };
                look_at(next_ms.min(cut_ms));
            }
        }
        next_ms.map_or(Due::Never, Due::At)
    }
}

/// Milliseconds, rounded up so that a timer never fires early.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle_ms: Option<u64>, age_ms: Option<u64>, grace_ms: u64) -> Limits {
        Limits {
            idle: idle_ms.map(Duration::from_millis),
            age: age_ms.map(Duration::from_millis),
            grace: Duration::from_millis(grace_ms),
        }
    }

    #[test]
    fn silence_ends_it_and_activity_puts_that_off() {
        let limits = limits(Some(1_000), None, 0);
        let mut life = Lifetime::new(0, &limits, 0);
        assert_eq!(life.due(999, &limits), Due::At(1_000));
        life.active_ms = 500;
        assert_eq!(life.due(1_000, &limits), Due::At(1_500));
        assert_eq!(life.due(1_500, &limits), Due::Now(End::Idle));
    }

    #[test]
    fn an_old_one_ends_in_a_quiet_moment_or_after_the_grace() {
        let limits = limits(None, Some(1_000), 5_000);
        let mut life = Lifetime::new(0, &limits, 100);
        assert_eq!(life.due(0, &limits), Due::At(1_000));
        life.active_ms = 990;
        assert_eq!(life.due(1_000, &limits), Due::At(990 + QUIET_MS));
        assert_eq!(life.due(990 + QUIET_MS, &limits), Due::Now(End::Aged));
        life.active_ms = 5_990;
        assert_eq!(life.due(5_999, &limits), Due::At(6_000));
        assert_eq!(life.due(6_000, &limits), Due::Now(End::AgedCut));
    }

    #[test]
    fn one_that_is_owed_an_answer_is_not_quiet_until_the_grace_is_over() {
        let limits = limits(None, Some(1_000), 5_000);
        let mut life = Lifetime::new(0, &limits, 100);
        (life.active_ms, life.is_answer_owed) = (990, true);
        assert_eq!(life.due(1_000, &limits), Due::At(990 + QUIET_MS));
        assert_eq!(life.due(990 + QUIET_MS, &limits), Due::At(990 + 2 * QUIET_MS));
        assert_eq!(life.due(5_990, &limits), Due::At(6_000));
        assert_eq!(life.due(6_000, &limits), Due::Now(End::Aged));
        (life.active_ms, life.is_answer_owed) = (1_290, false);
        assert_eq!(life.due(1_300, &limits), Due::At(1_290 + QUIET_MS));
        assert_eq!(life.due(1_290 + QUIET_MS, &limits), Due::Now(End::Aged));
    }

    #[test]
    fn ages_are_spread_by_a_tenth_either_way() {
        let limits = limits(None, Some(1_000), 0);
        let expiry = |random| match Lifetime::new(0, &limits, random).due(0, &limits) {
            Due::At(at_ms) => at_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!((expiry(0), expiry(200)), (900, 1_100));
    }

    #[test]
    fn what_was_told_to_end_ends_and_what_was_not_lives() {
        let limits = limits(None, None, 1_000);
        let mut life = Lifetime::new(0, &limits, 0);
        assert_eq!(life.due(1 << 40, &limits), Due::Never);
        life.expire(500);
        life.expire(900);
        assert_eq!(life.due(200, &limits), Due::At(500));
    }
}
