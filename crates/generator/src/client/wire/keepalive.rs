//! Whether the other end of a connection is still there (gRFC A8): after a silence it is asked
//! with a PING, and when nothing comes after that either, the connection is given up.
//!
//! A pure state that is told the time. While no call is under way nothing is asked, as gRPC's
//! clients do unless they are told otherwise (`KEEPALIVE_WITHOUT_CALLS`).

use scenario::Keepalive;

/// The silence of one connection. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    rule: Keepalive,
    /// When something was heard last, or a first call began.
    since_ns: u64,
    /// When a PING was sent that nothing came after.
    asked_ns: Option<u64>,
    was_idle: bool,
}

/// What a silence calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Ping,
    GiveUp,
}

impl Silence {
    pub(super) fn new(rule: Keepalive) -> Self {
        Self { rule, since_ns: 0, asked_ns: None, was_idle: true }
    }

    /// Something came.
    pub(super) fn heard(&mut self, now_ns: u64) {
        (self.since_ns, self.asked_ns) = (now_ns, None);
    }

    /// When to look again, for a connection with or without calls.
    pub(super) fn due_ns(&mut self, is_idle: bool, now_ns: u64) -> Option<u64> {
        if self.was_idle && !is_idle {
            self.heard(now_ns);
        }
        self.was_idle = is_idle;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let due_ns = match self.asked_ns {
            None => self.since_ns.saturating_add(nanos(self.rule.time)),
            Some(asked_ns) => asked_ns.saturating_add(nanos(self.rule.timeout)),
        };
        (!is_idle).then_some(due_ns)
    }

    /// What to do now; a PING is then taken to be sent.
    pub(super) fn check(&mut self, is_idle: bool, now_ns: u64) -> Next {
        match (self.due_ns(is_idle, now_ns), self.asked_ns) {
            (Some(due_ns), None) if due_ns <= now_ns => {
                self.asked_ns = Some(now_ns);
                Next::Ping
            }
            (Some(due_ns), Some(_)) if due_ns <= now_ns => Next::GiveUp,
            _ => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn silence() -> Silence {
        let (time, timeout) = (Duration::from_nanos(100), Duration::from_nanos(30));
        Silence::new(Keepalive { time, timeout })
    }

    #[test]
    fn a_silent_end_is_asked_and_then_given_up() {
        let mut silence = silence();
        assert_eq!(silence.due_ns(false, 1_000), Some(1_100));
        silence.heard(1_050);
        assert_eq!(silence.check(false, 1_100), Next::Wait);
        assert_eq!(silence.check(false, 1_150), Next::Ping);
        assert_eq!(silence.due_ns(false, 1_160), Some(1_180));
        assert_eq!(silence.check(false, 1_179), Next::Wait);
        assert_eq!(silence.check(false, 1_180), Next::GiveUp);
    }

    #[test]
    fn anything_that_comes_is_an_answer() {
        let mut silence = silence();
        silence.due_ns(false, 0);
        assert_eq!(silence.check(false, 100), Next::Ping);
        silence.heard(129);
        assert_eq!(silence.check(false, 130), Next::Wait);
        assert_eq!(silence.due_ns(false, 130), Some(229));
    }

    #[test]
    fn without_calls_nothing_is_asked_and_the_first_one_begins_the_wait() {
        let mut silence = silence();
        assert_eq!(silence.due_ns(true, 5_000), None);
        assert_eq!(silence.check(true, 5_000), Next::Wait);
        assert_eq!(silence.due_ns(false, 6_000), Some(6_100));
        // Calls that ended meanwhile end the wait for the answer too.
        assert_eq!(silence.check(false, 6_100), Next::Ping);
        assert_eq!(silence.due_ns(true, 6_110), None);
        assert_eq!(silence.due_ns(false, 6_500), Some(6_600));
    }
}
