//! Whether a backend may be given work, and how much: a pure state that is told
//! the time.
//!
//! A backend is left out for one of three reasons that come and go apart: an
//! operator drained it, a health check failed, or what it was given failed
//! (ejection). One that comes back, and one that is new, warms up: its share
//! grows with time, since a process that has just started is slow and a full
//! share would meet it cold.

use std::{num::NonZeroU32, time::Duration};

/// An ejection is doubled each time that it is repeated, up to this many times.
const DOUBLINGS: u32 = 4;

/// When failures in a row take a backend out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that eject a backend.
    pub failures: NonZeroU32,
    /// For how long the first time; each repetition doubles it, up to 16 times
    /// as long.
    pub time: Duration,
    /// The longest that it may become.
    pub time_max: Duration,
}

impl Ejection {
    /// Without a bound but the sixteenfold.
    pub fn new(failures: NonZeroU32, time: Duration) -> Self {
        Self { failures, time, time_max: Duration::MAX }
    }
}

/// How the share of a backend grows that is new or came back (Envoy's slow
/// start): after a part `t` of the window it is `t ^ (1 / aggression)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long it takes to the whole share.
    pub window: Duration,
    /// 1 for a straight line; more begins faster, less slower. Above zero.
    pub aggression: f64,
    /// The share to begin with, from 0 to 1: without any, it would never be
    /// learned whether the backend works.
    pub least: f64,
}

impl SlowStart {
    /// A straight line from a tenth, which are Envoy's defaults.
    pub fn over(window: Duration) -> Self {
        Self { window, aggression: 1.0, least: 0.1 }
    }
}

/// The health of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    is_drained: bool,
    is_unhealthy: bool,
    failures: u32,
    ejections: u32,
    ejected_until_ms: Option<u64>,
    /// Since when it has been given connections again.
    since_ms: u64,
}

impl Health {
    /// That of a backend that comes at `now_ms`; one of those that the proxy
    /// starts with came long ago.
    pub fn new(now_ms: Option<u64>) -> Self {
        Self { since_ms: now_ms.map_or(0, |now_ms| now_ms.max(1)), ..Self::default() }
    }

    /// Whether no reason stands against it.
    pub fn is_available(&self) -> bool {
        !self.is_drained && !self.is_unhealthy && self.ejected_until_ms.is_none()
    }

    /// Whether an operator drained it.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether its health check fails.
    pub fn is_unhealthy(&self) -> bool {
        self.is_unhealthy
    }

    /// Whether it is ejected.
    pub fn is_ejected(&self) -> bool {
        self.ejected_until_ms.is_some()
    }

    /// What an operator says.
    pub fn set_drained(&mut self, is_drained: bool, now_ms: u64) {
        let before = *self;
        self.is_drained = is_drained;
        self.warm_up_if_back(before, now_ms);
    }

    /// What the health check says. A backend that passes it is let back in even
    /// if it was ejected: the check has seen more than time passing.
    pub fn set_healthy(&mut self, is_healthy: bool, now_ms: u64) {
        let before = *self;
        if is_healthy && self.is_unhealthy {
            self.ejected_until_ms = None;
            self.failures = 0;
        }
        self.is_unhealthy = !is_healthy;
        self.warm_up_if_back(before, now_ms);
    }

    /// Something it was given went well.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.ejections = 0;
    }

    /// Something it was given failed. Whether that ejected it.
    pub fn failed(&mut self, rule: Option<Ejection>, now_ms: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        let Some(rule) = rule else { return false };
        self.failures >= rule.failures.get() && self.eject(rule, now_ms)
    }

    /// Ejects it, whatever the reason. False when it is out already.
    pub fn eject(&mut self, rule: Ejection, now_ms: u64) -> bool {
        if self.ejected_until_ms.is_some() {
            return false;
        }
        let time = rule.time.saturating_mul(1 << self.ejections.min(DOUBLINGS)).min(rule.time_max);
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until_ms = Some(now_ms.saturating_add(time_ms));
        self.ejections = self.ejections.saturating_add(1);
        true
    }

    /// It was not ejected for a while: one ejection fewer lengthens the next.
    pub fn forgive(&mut self) {
        if self.ejected_until_ms.is_none() {
            self.ejections = self.ejections.saturating_sub(1);
        }
    }

    /// When its ejection is over.
    pub fn ejected_until_ms(&self) -> Option<u64> {
        self.ejected_until_ms
    }

    /// Ends an ejection whose time is over. One more failure then ejects it
    /// again, and for longer. Whether anything changed.
    pub fn readmit(&mut self, rule: Option<Ejection>, now_ms: u64) -> bool {
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
    pub fn warmth(&self, slow_start: Option<SlowStart>, now_ms: u64) -> f64 {
        let Some(SlowStart { window, aggression, least }) = slow_start else { return 1.0 };
        let passed = Duration::from_millis(now_ms.saturating_sub(self.since_ms));
        if self.since_ms == 0 || passed >= window {
            return 1.0;
        }
        let part = passed.as_secs_f64() / window.as_secs_f64();
        part.powf(1.0 / aggression).max(least).min(1.0)
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

    const RULE: Option<Ejection> = Some(Ejection {
        failures: NonZeroU32::new(3).unwrap(),
        time: Duration::from_millis(100),
        time_max: Duration::MAX,
    });

    #[test]
    fn failures_in_a_row_eject_and_a_success_in_between_starts_over() {
        let mut health = Health::new(None);
        assert!(!health.failed(RULE, 0) && !health.failed(RULE, 0));
        health.succeeded();
        assert!(!health.failed(RULE, 0) && !health.failed(RULE, 0));
        assert!(health.failed(RULE, 10));
        assert!(!health.is_available() && !health.failed(RULE, 11), "it is out already");
        assert!(!health.readmit(RULE, 109));
        assert!(health.readmit(RULE, 110) && health.is_available());
    }

    #[test]
    fn an_ejection_that_is_repeated_lasts_longer_up_to_a_bound() {
        let mut health = Health::new(None);
        let (mut now_ms, mut times) = (0, Vec::new());
        for _ in 0..7 {
            while !health.failed(RULE, now_ms) {}
            let begun_ms = now_ms;
            while !health.readmit(RULE, now_ms) {
                now_ms += 10;
            }
            times.push(now_ms - begun_ms);
        }
        assert_eq!(times, [100, 200, 400, 800, 1_600, 1_600, 1_600]);
        health.succeeded();
        while !health.failed(RULE, now_ms) {}
        assert!(health.readmit(RULE, now_ms + 100));
    }

    #[test]
    fn reasons_come_and_go_apart() {
        let mut health = Health::new(None);
        health.set_drained(true, 1);
        health.set_healthy(false, 1);
        while !health.failed(RULE, 1) {}
        health.set_drained(false, 2);
        assert!(!health.is_available());
        health.set_healthy(true, 3);
        assert!(health.is_available(), "a passed check ends an ejection too");
    }

    #[test]
    fn without_a_rule_nothing_is_ejected() {
        let mut health = Health::new(None);
        assert!((0..100).all(|_| !health.failed(None, 0)));
    }

    #[test]
    fn who_is_new_or_back_warms_up_and_who_was_there_does_not() {
        let window = Some(SlowStart::over(Duration::from_millis(1_000)));
        assert_eq!(Health::new(None).warmth(window, 5), 1.0);
        let new = Health::new(Some(0));
        assert_eq!(new.warmth(window, 0), 0.1);
        assert_eq!(new.warmth(window, 501), 0.5);
        assert_eq!(new.warmth(window, 9_000), 1.0);
        assert_eq!(new.warmth(None, 0), 1.0);
        let mut back = Health::new(None);
        back.set_drained(true, 10);
        back.set_drained(false, 20);
        assert_eq!(back.warmth(window, 20), 0.1);
    }

    #[test]
    fn aggression_bends_the_line_and_the_least_share_cuts_it() {
        let new = Health::new(Some(0));
        let share = |aggression, least, now_ms: u64| {
            let window = Duration::from_millis(1_000);
            new.warmth(Some(SlowStart { window, aggression, least }), now_ms + 1)
        };
        assert_eq!((share(2.0, 0.1, 250), share(0.5, 0.1, 500)), (0.5, 0.25));
        assert_eq!((share(0.5, 0.3, 500), share(1.0, 0.0, 0)), (0.3, 0.0));
        assert_eq!(share(0.5, 0.1, 1_000), 1.0);
    }

    #[test]
    fn ejections_are_bounded_in_time_and_forgiven_one_by_one() {
        let rule = Ejection { time_max: Duration::from_millis(250), ..RULE.unwrap() };
        let mut health = Health::new(None);
        let mut eject = |forgiven| {
            (0..forgiven).for_each(|_| health.forgive());
            assert!(health.eject(rule, 0) && !health.eject(rule, 0));
            let until_ms = health.ejected_until_ms().unwrap();
            health.forgive();
            assert!(health.readmit(Some(rule), until_ms));
            until_ms
        };
        assert_eq!([eject(0), eject(0), eject(0)], [100, 200, 250]);
        assert_eq!([eject(2), eject(9)], [200, 100]);
    }
}
