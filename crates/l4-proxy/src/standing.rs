//! Whether a backend may be given connections, and how many: a pure state that
//! is told the time.
//!
//! A backend is left out for one of three reasons that come and go apart: an
//! operator drained it, a health check failed, or connections to it failed in a
//! row (passive ejection). One that comes back, and one that is new, warms up:
//! its share grows with time, since a process that has just started is slow and
//! a full share would meet it cold.

use std::num::NonZeroU32;
use std::time::Duration;

/// An ejection is doubled each time that it is repeated, up to this many times.
const DOUBLINGS: u32 = 4;

/// The least share of a backend that is warming up: without any, it would
/// never learn whether it works.
const LEAST_WARMTH: f64 = 0.1;

/// When connections that fail take a backend out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed connects in a row that eject a backend.
    pub failures: NonZeroU32,
    /// For how long the first time; each repetition doubles it, up to 16 times
    /// as long.
    pub time: Duration,
}

/// The state of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    is_drained: bool,
    is_unhealthy: bool,
    failures: u32,
    ejections: u32,
    ejected_until_ms: Option<u64>,
    /// Since when it has been given connections again.
    since_ms: u64,
}

impl Standing {
    /// That of a backend that comes at `now_ms`; one of those that the proxy
    /// starts with came long ago.
    pub(crate) fn new(now_ms: Option<u64>) -> Self {
        Self { since_ms: now_ms.map_or(0, |now_ms| now_ms.max(1)), ..Self::default() }
    }

    pub(crate) fn is_available(&self) -> bool {
        !self.is_drained && !self.is_unhealthy && self.ejected_until_ms.is_none()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    pub(crate) fn is_unhealthy(&self) -> bool {
        self.is_unhealthy
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until_ms.is_some()
    }

    pub(crate) fn set_drained(&mut self, is_drained: bool, now_ms: u64) {
        let before = *self;
        self.is_drained = is_drained;
        self.warm_up_if_back(before, now_ms);
    }

    /// What the health check says. A backend that passes it is let back in even
    /// if it was ejected: the check has seen more than time passing.
    pub(crate) fn set_healthy(&mut self, is_healthy: bool, now_ms: u64) {
        let before = *self;
        if is_healthy && self.is_unhealthy {
            self.ejected_until_ms = None;
            self.failures = 0;
        }
        self.is_unhealthy = !is_healthy;
        self.warm_up_if_back(before, now_ms);
    }

    /// A connect succeeded.
    pub(crate) fn connected(&mut self) {
        self.failures = 0;
        self.ejections = 0;
    }

    /// A connect failed. Whether that ejected it.
    pub(crate) fn failed(&mut self, rule: Option<Ejection>, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        let Some(rule) = rule else { return false };
        if self.ejected_until_ms.is_some() || self.failures < rule.failures.get() {
            return false;
        }
        let time_ms = u64::try_from(rule.time.as_millis()).unwrap_or(u64::MAX >> DOUBLINGS);
        let factor = 1_u64 << self.ejections.min(DOUBLINGS);
        self.ejected_until_ms = Some(now_ms.saturating_add(time_ms.saturating_mul(factor)));
        self.ejections += 1;
        true
    }

    /// Ends an ejection whose time is over. One more failure then ejects it
    /// again, and for longer. Whether anything changed.
    pub(crate) fn readmit(&mut self, rule: Option<Ejection>, now_ms: u64) -> bool {
        if self.ejected_until_ms.is_none_or(|until_ms| now_ms < until_ms) {
            return false;
        }
        let before = *self;
        self.ejected_until_ms = None;
        self.failures = rule.map_or(0, |rule| rule.failures.get() - 1);
        self.warm_up_if_back(before, now_ms);
        true
    }

    /// The share of connections it should get of those that fall to it, from
    /// just above 0 to 1.
    pub(crate) fn warmth(&self, slow_start: Option<Duration>, now_ms: u64) -> f64 {
        let Some(whole) = slow_start else { return 1.0 };
        if self.since_ms == 0 || whole.is_zero() {
            return 1.0;
        }
        let passed = Duration::from_millis(now_ms.saturating_sub(self.since_ms));
        (passed.as_secs_f64() / whole.as_secs_f64()).clamp(LEAST_WARMTH, 1.0)
    }

    fn warm_up_if_back(&mut self, before: Self, now_ms: u64) {
        if self.is_available() && !before.is_available() {
            self.since_ms = now_ms.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Option<Ejection> =
        Some(Ejection { failures: NonZeroU32::new(3).unwrap(), time: Duration::from_millis(100) });

    #[test]
    fn failures_in_a_row_eject_and_a_success_in_between_starts_over() {
        let mut standing = Standing::new(None);
        assert!(!standing.failed(RULE, 0) && !standing.failed(RULE, 0));
        standing.connected();
        assert!(!standing.failed(RULE, 0) && !standing.failed(RULE, 0));
        assert!(standing.failed(RULE, 10));
        assert!(!standing.is_available() && !standing.failed(RULE, 11), "it is out already");
        assert!(!standing.readmit(RULE, 109));
        assert!(standing.readmit(RULE, 110) && standing.is_available());
    }

    #[test]
    fn an_ejection_that_is_repeated_lasts_longer_up_to_a_bound() {
        let mut standing = Standing::new(None);
        let (mut now_ms, mut times) = (0, Vec::new());
        for _ in 0..7 {
            while !standing.failed(RULE, now_ms) {}
            let begun_ms = now_ms;
            while !standing.readmit(RULE, now_ms) {
                now_ms += 10;
            }
            times.push(now_ms - begun_ms);
        }
        assert_eq!(times, [100, 200, 400, 800, 1_600, 1_600, 1_600]);
        standing.connected();
        while !standing.failed(RULE, now_ms) {}
        assert!(standing.readmit(RULE, now_ms + 100));
    }

    #[test]
    fn reasons_come_and_go_apart() {
        let mut standing = Standing::new(None);
        standing.set_drained(true, 1);
        standing.set_healthy(false, 1);
        while !standing.failed(RULE, 1) {}
        standing.set_drained(false, 2);
        assert!(!standing.is_available());
        standing.set_healthy(true, 3);
        assert!(standing.is_available(), "a passed check ends an ejection too");
    }

    #[test]
    fn without_a_rule_nothing_is_ejected() {
        let mut standing = Standing::new(None);
        assert!((0..100).all(|_| !standing.failed(None, 0)));
    }

    #[test]
    fn who_is_new_or_back_warms_up_and_who_was_there_does_not() {
        let window = Some(Duration::from_millis(1_000));
        assert_eq!(Standing::new(None).warmth(window, 5), 1.0);
        let new = Standing::new(Some(0));
        assert_eq!(new.warmth(window, 0), LEAST_WARMTH);
        assert_eq!(new.warmth(window, 501), 0.5);
        assert_eq!(new.warmth(window, 9_000), 1.0);
        assert_eq!(new.warmth(None, 0), 1.0);
        let mut back = Standing::new(None);
        back.set_drained(true, 10);
        back.set_drained(false, 20);
        assert_eq!(back.warmth(window, 20), LEAST_WARMTH);
    }
}
