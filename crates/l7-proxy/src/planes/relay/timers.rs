//! The moments a thread has to wake at.
//!
//! Only what needs its exact moment is here: deadlines of calls and attempts to
//! connect. What may be late by a part of itself (idleness, stalls, signs of
//! life) is looked at in a sweep over all connections instead, which costs
//! nothing per frame.

use std::collections::BTreeSet;

use super::slots::Key;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A call's deadline.
    Call(Key),
    /// The time for an attempt to connect.
    Connect(Key),
    /// A call's next attempt, after a pause.
    Retry(Key),
    /// A call's second attempt, unless its first has an answer by then.
    Hedge(Key),
}

/// All moments of one thread, in nanoseconds of its clock.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(u64, Due)>,
}

impl Timers {
    pub(super) fn set(&mut self, at_ns: u64, due: Due) {
        self.by_time.insert((at_ns, due));
    }

    /// Takes back what was set.
    pub(super) fn clear(&mut self, at_ns: u64, due: Due) {
        self.by_time.remove(&(at_ns, due));
    }

    /// Takes one that is due.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<Due> {
        let (at_ns, due) = *self.by_time.first()?;
        if at_ns > now_ns {
            return None;
        }
        self.by_time.pop_first();
        Some(due)
    }

    /// When the next is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ns, _)| *at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_order_and_only_once() {
        let mut timers = Timers::default();
        timers.set(30, Due::Call(Key::NONE));
        timers.set(10, Due::Connect(Key::NONE));
        timers.set(20, Due::Call(Key::NONE));
        timers.clear(30, Due::Call(Key::NONE));
        assert_eq!(timers.next_ns(), Some(10));
        assert_eq!(timers.pop(9), None);
        assert_eq!(timers.pop(40), Some(Due::Connect(Key::NONE)));
        assert_eq!(timers.pop(40), Some(Due::Call(Key::NONE)));
        assert_eq!(timers.pop(40), None);
    }
}
