//! The deadlines of a thread's connections.
//!
//! Each connection has at most one deadline here. Activity does not move it:
//! that would cost a tree operation for each message. When it passes, the
//! connection looks at the time of its last activity and asks for a later one,
//! so an idle timeout costs one operation per timeout instead.
//!
//! A sorted tree and not a timer wheel: setting and clearing happen once or
//! twice a connection, where their 100 ns don't show, and firing is exact.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::slots::Key;

/// A deadline that was set, kept by its owner so that it can be cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadline(Option<u64>);

/// All deadlines of one thread, in milliseconds of its clock.
#[derive(Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(u64, Key)>,
}

impl Timers {
    /// Sets the owner's only deadline, in place of an earlier one.
    pub(crate) fn set(&mut self, key: Key, deadline: &mut Deadline, at_ms: u64) {
        self.clear(key, deadline);
        self.by_time.insert((at_ms, key));
        *deadline = Deadline(Some(at_ms));
    }

    /// Clears the owner's deadline, if it has one.
    pub(crate) fn clear(&mut self, key: Key, deadline: &mut Deadline) {
        if let Some(at_ms) = deadline.0.take() {
            self.by_time.remove(&(at_ms, key));
        }
    }

    /// Takes one deadline that has passed. Its owner's [`Deadline`] is then
    /// stale, and harmless.
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<Key> {
        let (at_ms, key) = *self.by_time.first()?;
        if at_ms > now_ms {
            return None;
        }
        self.by_time.pop_first();
        Some(key)
    }

    /// How long the thread may sleep; `None` when nothing is due ever.
    pub(crate) fn sleep(&self, now_ms: u64) -> Option<Duration> {
        let (at_ms, _) = self.by_time.first()?;
        Some(Duration::from_millis(at_ms.saturating_sub(now_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    #[test]
    fn deadlines_come_in_order_of_time_and_only_once() {
        let mut slots = Slots::new();
        let keys = [(); 3].map(|()| slots.insert(()));
        let mut deadlines = [Deadline::default(); 3];
        let mut timers = Timers::default();
        for (position, at_ms) in [30, 10, 20].into_iter().enumerate() {
            timers.set(keys[position], &mut deadlines[position], at_ms);
        }
        timers.set(keys[1], &mut deadlines[1], 25);
        timers.clear(keys[0], &mut deadlines[0]);
        assert_eq!(timers.sleep(5), Some(Duration::from_millis(15)));
        assert_eq!(timers.pop(19), None);
        assert_eq!(timers.pop(40), Some(keys[2]));
        assert_eq!(timers.pop(40), Some(keys[1]));
        assert_eq!((timers.pop(40), timers.sleep(40)), (None, None));
    }
}
