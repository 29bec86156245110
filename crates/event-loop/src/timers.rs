//! The moments that a thread has to wake at.
//!
//! A sorted tree and not a timer wheel: setting and clearing happen a few times
//! in the life of what waits, where their 100 ns don't show, and firing is
//! exact. Activity must not move a timer, or each message would cost two
//! operations on the tree: who has been active looks at the time when the timer
//! fires, and sets it again.

use std::collections::BTreeSet;

/// All moments of one thread, in whatever unit its clock counts.
#[derive(Debug)]
pub struct Timers<T> {
    by_time: BTreeSet<(u64, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> Timers<T> {
    /// Sets a moment for `due`, beside others that it may have.
    pub fn set(&mut self, at: u64, due: T) {
        self.by_time.insert((at, due));
    }

    /// Takes back what was set.
    pub fn clear(&mut self, at: u64, due: T) {
        self.by_time.remove(&(at, due));
    }

    /// Sets the only moment of an owner that keeps it in `slot`, in place of an
    /// earlier one; or only takes that back.
    pub fn replace(&mut self, slot: &mut Option<u64>, at: Option<u64>, due: T) {
        if let Some(before) = std::mem::replace(slot, at) {
            self.clear(before, due);
        }
        if let Some(at) = at {
            self.set(at, due);
        }
    }

    /// Takes one that is due.
    #[inline]
    pub fn pop(&mut self, now: u64) -> Option<T> {
        let (at, due) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        Some(due)
    }

    /// When the next is due.
    #[inline]
    pub fn next_at(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_order_and_only_once() {
        let mut timers = Timers::default();
        timers.set(30, 'c');
        timers.set(10, 'a');
        timers.set(20, 'b');
        timers.clear(30, 'c');
        assert_eq!(timers.next_at(), Some(10));
        assert_eq!(timers.pop(9), None);
        assert_eq!([timers.pop(40), timers.pop(40)], [Some('a'), Some('b')]);
        assert_eq!((timers.pop(40), timers.next_at()), (None, None));
    }

    #[test]
    fn an_owner_of_one_moment_has_one() {
        let (mut timers, mut slot) = (Timers::default(), None);
        timers.replace(&mut slot, Some(10), ());
        timers.replace(&mut slot, Some(20), ());
        assert_eq!((slot, timers.pop(10), timers.next_at()), (Some(20), None, Some(20)));
        timers.replace(&mut slot, None, ());
        assert_eq!((slot, timers.next_at()), (None, None));
    }
}
