//! Resets of calls that a backend may not have looked at yet, and how many of
//! them there may be: the decisions. What is done about them is in
//! [`super::held`]; what it is for is told in [`crate::Config`] beside
//! `backend_max_unseen_resets`.
//!
//! Calls are named by their order on the connection, since hyper tells no
//! stream's identifier; streams are opened in that order. Two things show that a
//! call was taken up. One is a response to it, or to a later one, as a server
//! takes streams up in their order. The other is an answer to a question that
//! the backend has to answer at once: between two reads of its socket it takes
//! up one stream at least, so each answer stands for one.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Waker};

/// What a backend has not looked at, of the calls on one connection.
#[derive(Debug)]
pub(super) struct Unseen {
    /// Resets that may be under way before a call was taken up.
    most: usize,
    /// The order of the last call, which counts from one.
    begun: u64,
    /// The order of the last call that has surely been taken up, with all
    /// before it.
    taken_up: u64,
    /// Calls behind it that were reset.
    resets: BTreeSet<u64>,
    /// Calls whose reset is held back, and who waits for it.
    held: BTreeMap<u64, Vec<Waker>>,
    asked: Asked,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Not,
    /// It is to be put.
    Wanted,
    /// It was put behind this call.
    Behind(u64),
}

/// What to do after something has changed.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Next {
    /// To be woken: their resets can go.
    pub(super) released: Vec<Waker>,
    /// The backend is to be asked whether it reads.
    pub(super) ask: bool,
}

impl Unseen {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: most as usize,
            begun: 0,
            taken_up: 0,
            resets: BTreeSet::new(),
            held: BTreeMap::new(),
            asked: Asked::Not,
        }
    }

    /// A call goes onto the connection: its order there.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Whether the call may be reset, which is booked then. If not, the reset
    /// is held back until it was asked for again and may go.
    pub(super) fn may_reset(&mut self, order: u64) -> bool {
        let may = self.has_room_for(order);
        if !may {
            self.held.entry(order).or_default();
        }
        may
    }

    /// Whom to wake when the held reset may be asked for again.
    pub(super) fn wake_when_released(&mut self, order: u64, cx: &Context<'_>) {
        if let Some(wakers) = self.held.get_mut(&order)
            && !wakers.iter().any(|waker| waker.will_wake(cx.waker()))
        {
            wakers.push(cx.waker().clone());
        }
    }

    fn has_room_for(&mut self, order: u64) -> bool {
        if order <= self.taken_up || self.resets.contains(&order) {
            return true;
        }
        let has_room = self.resets.len() < self.most;
        if has_room {
            self.resets.insert(order);
        }
        has_room
    }

    /// How many resets are held back.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The call is over.
    pub(super) fn forget(&mut self, order: u64) {
        self.held.remove(&order);
    }

    /// The head of the response to a call came.
    pub(super) fn on_head(&mut self, order: u64) -> Next {
        self.note_taken_up(order);
        self.next()
    }

    /// The question was put behind so many streams. Calls that were begun and
    /// never got a stream are counted among `begun`, so that the stream of this
    /// number has at least this order.
    pub(super) fn on_asked(&mut self, streams: u64) {
        self.asked = Asked::Behind(streams);
    }

    /// The question was answered: one more call has been taken up.
    pub(super) fn on_answer(&mut self) -> Next {
        if let Asked::Behind(last) = self.asked {
            self.asked = Asked::Not;
            self.note_taken_up(last.min(self.taken_up + 1));
        }
        self.next()
    }

    fn note_taken_up(&mut self, order: u64) {
        if order > self.taken_up {
            self.taken_up = order;
            self.resets = self.resets.split_off(&(order + 1));
        }
    }

    /// Lets go of resets that need not be held back any longer, and asks if
    /// there are others.
    pub(super) fn next(&mut self) -> Next {
        let mut next = Next::default();
        while let Some(order) = self.held.first_key_value().map(|(order, _)| *order) {
            if !self.has_room_for(order) {
                break;
            }
            next.released.extend(self.held.remove(&order).into_iter().flatten());
        }
        next.ask = !self.held.is_empty() && self.asked == Asked::Not;
        if next.ask {
            self.asked = Asked::Wanted;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls on a connection that bears `most` unseen resets.
    fn with_calls(most: u32, calls: u64) -> Unseen {
        let mut unseen = Unseen::new(most);
        for order in 1..=calls {
            assert_eq!(unseen.begin(), order);
        }
        unseen
    }

    /// Resets these calls: which may go at once.
    fn reset(unseen: &mut Unseen, orders: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let cx = Context::from_waker(Waker::noop());
        let mut gone = Vec::new();
        for order in orders {
            if unseen.may_reset(order) {
                gone.push(order);
            } else {
                unseen.wake_when_released(order, &cx);
            }
        }
        gone
    }

    /// What happens next: how many are released, and whether to ask.
    fn outcome(next: Next) -> (usize, bool) {
        (next.released.len(), next.ask)
    }

    #[test]
    fn only_so_many_go_before_the_backend_has_taken_a_call_up() {
        let mut unseen = with_calls(2, 6);
        assert_eq!(reset(&mut unseen, 1..=6), [1, 2]);
        assert_eq!(unseen.held(), 4);
        assert_eq!(outcome(unseen.next()), (0, true));
        assert_eq!(outcome(unseen.next()), (0, false), "it is asked once at a time");
        // Each answer stands for one call that was taken up.
        for left in [3, 2, 1] {
            unseen.on_asked(6);
            assert_eq!(outcome(unseen.on_answer()), (1, true));
            assert_eq!(unseen.held(), left);
        }
        unseen.on_asked(6);
        assert_eq!(outcome(unseen.on_answer()), (1, false), "nothing is left to ask for");
        assert_eq!(outcome(unseen.on_answer()), (0, false));
    }

    #[test]
    fn what_was_booked_once_may_go_however_often_it_is_asked_for() {
        let mut unseen = with_calls(1, 2);
        assert_eq!(reset(&mut unseen, [1, 1, 1]), [1, 1, 1]);
        assert!(reset(&mut unseen, [2, 2]).is_empty());
        assert_eq!(unseen.held(), 1);
        assert_eq!(outcome(unseen.next()), (0, true));
        unseen.on_asked(2);
        assert_eq!(outcome(unseen.on_answer()), (1, false), "one waits for it, and is woken once");
        assert_eq!(reset(&mut unseen, [2, 2]), [2, 2]);
        assert_eq!(unseen.held(), 0);
    }

    #[test]
    fn a_response_shows_that_all_calls_before_it_were_taken_up() {
        let mut unseen = with_calls(1, 5);
        assert_eq!(reset(&mut unseen, [1, 2, 3, 5]), [1]);
        assert_eq!(outcome(unseen.on_head(4)), (3, false), "two are seen, and there is room for 5");
        assert_eq!(reset(&mut unseen, [4]), [4], "it was taken up itself");
        assert_eq!(outcome(unseen.on_head(2)), (0, false), "that says nothing new");
    }

    #[test]
    fn an_answer_says_nothing_of_calls_behind_the_question() {
        let mut unseen = with_calls(1, 1);
        assert_eq!(outcome(unseen.on_head(1)), (0, false));
        assert_eq!((unseen.begin(), unseen.begin()), (2, 3));
        assert_eq!(reset(&mut unseen, [2, 3]), [2]);
        assert_eq!(outcome(unseen.next()), (0, true));
        // Both streams are opened after the question was put.
        unseen.on_asked(1);
        assert_eq!(outcome(unseen.on_answer()), (0, true));
        unseen.on_asked(3);
        assert_eq!(outcome(unseen.on_answer()), (1, false));
    }

    #[test]
    fn a_call_that_ended_by_itself_needs_no_reset() {
        let mut unseen = with_calls(1, 3);
        assert_eq!(reset(&mut unseen, 1..=3), [1]);
        assert_eq!(outcome(unseen.next()), (0, true));
        unseen.forget(2);
        assert_eq!(unseen.held(), 1);
        unseen.on_asked(3);
        assert_eq!(outcome(unseen.on_answer()), (1, false), "3 takes the place of 1");
        unseen.forget(3);
        assert_eq!(outcome(unseen.on_answer()), (0, false));
    }
}
