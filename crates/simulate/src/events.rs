//! What is to happen, in order of time.
//!
//! A binary heap of two words an event. It holds one event for each call that is in
//! service or under way and a few for connections and balancers, so thousands; a
//! calendar queue wins beyond that and loses on bursts.

use std::{cmp::Reverse, collections::BinaryHeap};

/// What an event is about, with the index of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A call comes to its balancer.
    Pick,
    /// A call comes to its backend.
    Arrive,
    /// The service of a call is over.
    Finish,
    /// An answer comes to the balancer.
    Pass,
    /// An answer comes to the client.
    Done,
    /// A stream of a connection was freed.
    Free,
    /// A call of a closed loop is due on a connection.
    Due,
    /// A connection to a backend is at its end.
    Age,
    /// A balancer hears who the backends are.
    Told,
    /// The next of the faults happens.
    Fault,
    /// All backends report their load.
    Report,
}

/// An event: when, what, whose, and a stamp by which one that is about something that is
/// gone, and whose place another one took, is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) at_ns: u64,
    pub(crate) stamp: u16,
    pub(crate) kind: Kind,
    pub(crate) index: u32,
}

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<Event>>,
}

impl Events {
    #[inline]
    pub(crate) fn push(&mut self, at_ns: u64, kind: Kind, index: u32, stamp: u16) {
        self.heap.push(Reverse(Event { at_ns, stamp, kind, index }));
    }

    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(event)| event.at_ns)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse(event)| event)
    }
}
