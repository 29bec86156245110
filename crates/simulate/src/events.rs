//! What is to happen, in order of time.
//!
//! A binary heap of two words an event. It holds one event for each call that is in
//! service or under way and a few for connections and balancers, so thousands; a
//! calendar queue wins beyond that and loses on bursts.

use std::{cmp::Reverse, collections::BinaryHeap};

/// What an event is about, with the index of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The first of the connections of a client that balances is at its end.
    ViewAge,
    /// A balancer hears who the backends are.
    Told,
    /// The next of the faults happens.
    Fault,
    /// All backends report their load.
    Report,
    /// A probe comes to a backend, or its answer to the balancer.
    Probe,
}

impl Kind {
    /// By their numbers.
    const ALL: [Self; 13] = [
        Self::Pick,
        Self::Arrive,
        Self::Finish,
        Self::Pass,
        Self::Done,
        Self::Free,
        Self::Due,
        Self::Age,
        Self::ViewAge,
        Self::Told,
        Self::Fault,
        Self::Report,
        Self::Probe,
    ];
}

/// An event: when, what, whose, and a stamp by which one that is about something that is
/// gone, and whose place another one took, is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at_ns: u64,
    pub(crate) kind: Kind,
    pub(crate) index: u32,
    pub(crate) stamp: u16,
}

/// Events to come, each as one number, the time in front: what a heap does is compare.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<u128>>,
}

impl Events {
    #[inline]
    pub(crate) fn push(&mut self, at_ns: u64, kind: Kind, index: u32, stamp: u16) {
        let what = u64::from(index) << 32 | u64::from(stamp) << 16 | kind as u64;
        self.heap.push(Reverse(u128::from(at_ns) << 64 | u128::from(what)));
    }

    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(event)| (event >> 64) as u64)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let Reverse(event) = self.heap.pop()?;
        // The lower half: what there is beside the time.
        let what = event as u64;
        Some(Event {
            at_ns: (event >> 64) as u64,
            kind: Kind::ALL[(what & 0xf) as usize],
            index: (what >> 32) as u32,
            stamp: (what >> 16) as u16,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_as_they_were() {
        let mut events = Events::default();
        for (index, kind) in (0..).zip(Kind::ALL) {
            events.push(1_000 - u64::from(index), kind, index, u16::MAX - index as u16);
        }
        assert_eq!(events.next_ns(), Some(1_001 - Kind::ALL.len() as u64));
        let mut all: Vec<Event> = std::iter::from_fn(|| events.pop()).collect();
        assert!(all.is_sorted_by_key(|event| event.at_ns));
        all.reverse();
        for (index, (event, kind)) in (0..).zip(all.into_iter().zip(Kind::ALL)) {
            let at_ns = 1_000 - u64::from(index);
            let stamp = u16::MAX - index as u16;
            assert_eq!(event, Event { at_ns, kind, index, stamp });
        }
    }
}
