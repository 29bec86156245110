//! Stream slots: how many calls a connection carries at once, and who waits.
//!
//! A connection carries at most `streams` calls; an arrival that finds no slot
//! free waits in the connection's own line, in order, and its waiting is part of
//! its latency (it counts from the due time). Pure: times are passed in.

use std::collections::VecDeque;

use super::schedule::Arrival;

/// A call under way, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the connection, within the worker.
    pub connection: u32,
    /// Index of the slot, within the connection.
    pub slot: u32,
}

/// When a call was due and when it could first have been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waited {
    /// When it was scheduled for.
    pub due_ns: u64,
    /// When a slot was there for it: what comes after is the generator's fault.
    pub ready_ns: u64,
    /// Which call of the load it is.
    pub number: u64,
}

/// The slots of one worker's connections.
#[derive(Debug)]
pub(crate) struct Slots {
    connections: Vec<Connection>,
    busy: u64,
    waiting: u64,
}

#[derive(Debug)]
struct Connection {
    free: Vec<u32>,
    /// Due times and numbers.
    line: VecDeque<(u64, u64)>,
}

impl Slots {
    pub(crate) fn new(connections: usize, streams: u32) -> Self {
        let connection =
            || Connection { free: (0..streams).rev().collect(), line: VecDeque::new() };
        Self {
            connections: std::iter::repeat_with(connection).take(connections).collect(),
            busy: 0,
            waiting: 0,
        }
    }

    /// A call is due on `connection`: returns the slot to send it on, or `None`
    /// when it has to wait.
    pub(crate) fn arrive(&mut self, arrival: Arrival) -> Option<(Call, Waited)> {
        let Arrival { due_ns, connection, number } = arrival;
        let place = &mut self.connections[connection as usize];
        match place.free.pop() {
            Some(slot) => {
                self.busy += 1;
                Some((Call { connection, slot }, Waited { due_ns, ready_ns: due_ns, number }))
            }
            None => {
                place.line.push_back((due_ns, number));
                self.waiting += 1;
                None
            }
        }
    }

    /// The call ended: returns what the next in line, if any, goes out with on
    /// the same slot.
    pub(crate) fn finish(&mut self, call: Call, now_ns: u64) -> Option<Waited> {
        let place = &mut self.connections[call.connection as usize];
        match place.line.pop_front() {
            Some((due_ns, number)) => {
                self.waiting -= 1;
                Some(Waited { due_ns, ready_ns: now_ns, number })
            }
            None => {
                place.free.push(call.slot);
                self.busy -= 1;
                None
            }
        }
    }

    /// Whether no call is under way or waiting.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy == 0 && self.waiting == 0
    }

    /// Due times of the calls still in line, which nobody will send any more.
    pub(crate) fn take_waiting(&mut self) -> Vec<u64> {
        self.waiting = 0;
        let lines = self.connections.iter_mut().flat_map(|place| place.line.drain(..));
        lines.map(|(due_ns, _)| due_ns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(connection: u32, due_ns: u64) -> Arrival {
        Arrival { due_ns, connection, number: due_ns }
    }

    #[test]
    fn a_full_connection_makes_its_own_calls_wait_in_order() {
        let mut slots = Slots::new(2, 1);
        let (first, _) = slots.arrive(arrival(0, 10)).unwrap();
        assert_eq!(slots.arrive(arrival(0, 20)), None);
        assert_eq!(slots.arrive(arrival(0, 30)), None);
        let (other, waited) = slots.arrive(arrival(1, 40)).unwrap();
        assert_eq!(waited, Waited { due_ns: 40, ready_ns: 40, number: 40 });

        assert_eq!(slots.finish(first, 50), Some(Waited { due_ns: 20, ready_ns: 50, number: 20 }));
        assert_eq!(slots.finish(other, 55), None);
        assert_eq!(slots.take_waiting(), vec![30]);
        assert!(!slots.is_idle());
        assert_eq!(slots.finish(first, 60), None);
        assert!(slots.is_idle());
    }

    #[test]
    fn every_slot_is_used_and_none_twice() {
        let mut slots = Slots::new(1, 8);
        let mut taken: Vec<u32> =
            (0..8).map(|due_ns| slots.arrive(arrival(0, due_ns)).unwrap().0.slot).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..8).collect::<Vec<_>>());
        assert_eq!(slots.arrive(arrival(0, 9)), None);
    }
}
