//! A FIFO queue in front of `concurrency` equal servers, without clock or
//! sockets: time is passed in, and completions come out.
//!
//! A server that finishes takes the next waiting call at its *scheduled*
//! finish and not at the moment somebody noticed it. Timers fire tens of
//! microseconds late and busy runtimes later still; were the lateness added to
//! every service, a backend of 100 µs calls would lose a third of its capacity
//! to it, and no queueing formula would describe it.
//!
//! A call that is cancelled while it waits leaves the queue. One that is
//! cancelled in service keeps its server until its finish: handlers rarely
//! notice in the middle of their work that nobody waits for it any more, and a
//! cancellation that gave capacity back would make a backend faster the more
//! its clients despair.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    num::NonZeroUsize,
};

/// Names a call in the queue, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A call whose service is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// What was handed in with the call.
    pub payload: T,
    /// From the arrival to the start of service.
    pub queued_ns: u64,
    /// From the start of service to its end.
    pub service_ns: u64,
    /// When the service ended, by schedule.
    pub finished_ns: u64,
}

/// The queue and its servers. `T` is what belongs to a call and comes back
/// with its completion.
#[derive(Debug)]
pub struct Queue<T> {
    concurrency: usize,
    max_waiting: usize,
    speed: f64,
    now_ns: u64,
    next_ticket: u64,
    in_service: BinaryHeap<Reverse<InService<T>>>,
    /// By ticket, so that a cancelled call is found; the first is served next.
    waiting: BTreeMap<Ticket, Waiting<T>>,
    /// Finished, and not yet collected by [`Queue::expire`].
    done: VecDeque<Done<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    payload: T,
    arrived_ns: u64,
    demand_ns: u64,
}

#[derive(Debug)]
struct InService<T> {
    ticket: Ticket,
    done: Done<T>,
}

impl<T> InService<T> {
    /// Who finishes first; of those that finish together, who came first.
    fn order(&self) -> (u64, Ticket) {
        (self.done.finished_ns, self.ticket)
    }
}

impl<T> PartialEq for InService<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for InService<T> {}

impl<T> PartialOrd for InService<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for InService<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl<T> Queue<T> {
    /// An empty queue with idle servers at speed 1 that holds at most
    /// `max_waiting` calls beside those in service.
    pub fn new(concurrency: NonZeroUsize, max_waiting: usize) -> Self {
        Self {
            concurrency: concurrency.get(),
            max_waiting,
            speed: 1.0,
            now_ns: 0,
            next_ticket: 0,
            in_service: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            done: VecDeque::new(),
        }
    }

    /// A call arrives that will need a server for `demand_ns` at speed 1.
    ///
    /// # Errors
    /// Gives `payload` back when as many calls wait as may.
    pub fn arrive(&mut self, now_ns: u64, demand_ns: u64, payload: T) -> Result<Ticket, T> {
        self.advance(now_ns);
        let call = Waiting { payload, arrived_ns: self.now_ns, demand_ns };
        let ticket = Ticket(self.next_ticket);
        if self.in_service.len() < self.concurrency {
            self.start(ticket, call, self.now_ns);
        } else if self.waiting.len() < self.max_waiting {
            self.waiting.insert(ticket, call);
        } else {
            return Err(call.payload);
        }
        self.next_ticket += 1;
        Ok(ticket)
    }

    /// Takes a call out that waits. One that is in service or over is left
    /// alone.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting.remove(&ticket).map(|call| call.payload)
    }

    /// Changes how fast the servers work: 0.5 makes a call take twice its
    /// demand. Calls in service keep the finish they were given. `speed` must
    /// be positive and finite.
    pub(crate) fn set_speed(&mut self, now_ns: u64, speed: f64) {
        debug_assert!(speed.is_finite() && speed > 0.0, "speed is {speed}");
        // What starts before this moment starts at the old speed.
        self.advance(now_ns);
        self.speed = speed;
    }

    /// When [`Queue::expire`] will next have something to give; at once, if
    /// that lies in the past.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let collected = self.done.front().map(|done| done.finished_ns);
        collected.or_else(|| self.in_service.peek().map(|Reverse(call)| call.done.finished_ns))
    }

    /// Moves all calls that are over at `now_ns` to `done`, in the order in
    /// which they finished.
    pub fn expire(&mut self, now_ns: u64, done: &mut Vec<Done<T>>) {
        self.advance(now_ns);
        done.extend(self.done.drain(..));
    }

    /// Calls that wait for a server.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Servers at work.
    pub fn busy(&self) -> usize {
        self.in_service.len()
    }

    /// Plays everything that happens up to `now_ns`. Time that runs backwards
    /// (two threads read the clock and took the lock in the other order)
    /// counts as no time.
    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some(Reverse(first)) = self.in_service.peek()
            && first.done.finished_ns <= self.now_ns
        {
            let Some(Reverse(InService { done, .. })) = self.in_service.pop() else { return };
            let free_at_ns = done.finished_ns;
            self.done.push_back(done);
            if let Some((ticket, next)) = self.waiting.pop_first() {
                self.start(ticket, next, free_at_ns);
            }
        }
    }

    fn start(&mut self, ticket: Ticket, call: Waiting<T>, at_ns: u64) {
        // Float to integer saturates, which is what an absurd demand deserves.
        let service_ns = (call.demand_ns as f64 / self.speed).round() as u64;
        let done = Done {
            payload: call.payload,
            queued_ns: at_ns.saturating_sub(call.arrived_ns),
            service_ns,
            finished_ns: at_ns.saturating_add(service_ns),
        };
        self.in_service.push(Reverse(InService { ticket, done }));
    }
}

#[cfg(test)]
mod tests;
