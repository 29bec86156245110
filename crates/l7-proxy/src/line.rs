//! What a call waited at its backend and what it was served, from when calls came to the
//! backend and went from it.
//!
//! The backend works on so many calls at once, and no server of it idles while a call waits.
//! A call then begins to be served when it comes, if a server is free; else when so many of
//! those before it have gone that one is. That is the recursion of a queue with several servers,
//! read backwards: begin = max(arrival, when a server came free), with departures that are known
//! (D. V. Lindley, *The theory of queues with a single server*, 1952; J. Kiefer and J. Wolfowitz,
//! *On the theory of queues with many servers*, 1955; N. K. Krivulin, *A recursive equations based
//! representation for the G/G/m queue*, 1994). Here calls go in and out one by one as they come and
//! go, so that nothing is kept of those that have gone.
//!
//! Calls are taken for served in order of arrival until one goes before its turn. Its place was
//! then another's, who waits still: backends that begin each call as a task of its own change
//! neighbours, and when a server was taken is known all the same. Of several servers it is the one
//! taken last. Where none was taken since the call came, the backend works on more calls than was
//! said, and what the call waited is not known.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
};

/// The calls at one backend. Times are nanoseconds of any clock, and never go back.
#[derive(Debug)]
pub struct Line {
    servers: usize,
    next: Turn,
    /// With when they came, in order of arrival.
    waiting: VecDeque<(Turn, u64)>,
    serving: HashMap<Turn, Served>,
}

/// When a call came, and when it began to be served.
#[derive(Clone, Copy, Debug)]
struct Served {
    came_ns: u64,
    began_ns: u64,
}

/// The place of a call in the order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn(u64);

impl Line {
    /// No calls at a backend with so many servers.
    pub fn new(servers: NonZeroU32) -> Self {
        Self {
            servers: servers.get() as usize,
            next: Turn::default(),
            waiting: VecDeque::new(),
            serving: HashMap::new(),
        }
    }

    /// A call comes to the backend.
    pub fn arrive(&mut self, now_ns: u64) -> Turn {
        let turn = self.next;
        self.next.0 += 1;
        if self.serving.len() < self.servers {
            self.serving.insert(turn, Served { came_ns: now_ns, began_ns: now_ns });
        } else {
            self.waiting.push_back((turn, now_ns));
        }
        turn
    }

    /// What a call that has been served waited for that, in nanoseconds; `None` where no
    /// server can have been free for it, and of one that is gone.
    pub fn waited_ns(&mut self, turn: Turn) -> Option<u64> {
        if !self.serving.contains_key(&turn) {
            self.exchange(turn)?;
        }
        let served = self.serving.get(&turn)?;
        Some(served.began_ns - served.came_ns)
    }

    /// Gives a call that waits the place of one that was taken for served since it came.
    fn exchange(&mut self, turn: Turn) -> Option<()> {
        let place = self.place(turn).ok()?;
        let (_, came_ns) = self.waiting[place];
        let since = self.serving.iter().filter(|(_, served)| served.began_ns >= came_ns);
        let (&other, &served) = since.max_by_key(|(turn, served)| (served.began_ns, **turn))?;
        self.serving.remove(&other);
        self.waiting.remove(place);
        let before = self.place(other).unwrap_or_else(|before| before);
        self.waiting.insert(before, (other, served.came_ns));
        self.serving.insert(turn, Served { came_ns, ..served });
        Some(())
    }

    /// Where a call waits, or would.
    fn place(&self, turn: Turn) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&turn, |(turn, _)| *turn)
    }

    /// A call goes: its server is free for the first of those that wait. A call that was not
    /// served leaves its place in the line. Nothing happens for one that is gone.
    pub fn leave(&mut self, turn: Turn, now_ns: u64) {
        if self.serving.remove(&turn).is_none() {
            if let Ok(place) = self.place(turn) {
                self.waiting.remove(place);
            }
            return;
        }
        if let Some((next, came_ns)) = self.waiting.pop_front() {
            self.serving.insert(next, Served { came_ns, began_ns: now_ns });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A call as a queue has it.
    #[derive(Clone, Copy, Debug)]
    struct Call {
        came_ns: u64,
        began_ns: u64,
        gone_ns: u64,
    }

    /// A queue, simulated forwards: when each of its servers is free.
    fn queue(calls: &[(u64, u64)], servers: u32) -> Vec<Call> {
        let mut free_ns = vec![0; servers as usize];
        let mut came_ns = 0;
        let serve = |(gap_ns, service_ns): &(u64, u64)| {
            came_ns += gap_ns;
            let first = free_ns.iter_mut().min().unwrap();
            let began_ns = came_ns.max(*first);
            *first = began_ns + service_ns;
            Call { came_ns, began_ns, gone_ns: *first }
        };
        calls.iter().map(serve).collect()
    }

    /// What a line says that each call waited.
    fn waits(calls: &[Call], servers: u32) -> Vec<Option<u64>> {
        // Who goes comes before who comes in the same moment.
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            events.push((call.came_ns, true, index));
            events.push((call.gone_ns, false, index));
        }
        events.sort_unstable();
        let mut line = Line::new(NonZeroU32::new(servers).unwrap());
        let (mut turns, mut waits) = (vec![None; calls.len()], vec![None; calls.len()]);
        for (at_ns, comes, index) in events {
            if comes {
                turns[index] = Some(line.arrive(at_ns));
            } else {
                let turn = turns[index].unwrap();
                waits[index] = line.waited_ns(turn);
                line.leave(turn, at_ns);
            }
        }
        assert!(line.waiting.is_empty() && line.serving.is_empty());
        waits
    }

    proptest! {
        #[test]
        fn what_calls_waited_in_a_queue_is_found_from_when_they_came_and_went(
            calls in prop::collection::vec((0..40_u64, 1..100_u64), 1..200),
            servers in 1..6_u32,
        ) {
            let served = queue(&calls, servers);
            for (call, waited) in served.iter().zip(waits(&served, servers)) {
                prop_assert_eq!(waited, Some(call.began_ns - call.came_ns));
            }
        }

        /// One server that takes any of those that wait: who is served is known in the end.
        #[test]
        fn the_order_in_which_calls_are_served_does_not_matter(
            calls in prop::collection::vec((0..40_u64, 1..100_u64, any::<u16>()), 1..100),
        ) {
            let mut came_ns = 0;
            let mut coming: Vec<(u64, u64, u16)> = Vec::new();
            for (gap_ns, service_ns, luck) in calls {
                came_ns += gap_ns;
                coming.push((came_ns, service_ns, luck));
            }
            let (mut served, mut free_ns) = (Vec::new(), 0);
            while !coming.is_empty() {
                let began_ns = coming[0].0.max(free_ns);
                let here = coming.iter().take_while(|(came_ns, ..)| *came_ns <= began_ns).count();
                let taken = usize::from(coming[0].2) % here;
                let (came_ns, service_ns, _) = coming.remove(taken);
                free_ns = began_ns + service_ns;
                served.push(Call { came_ns, began_ns, gone_ns: free_ns });
            }
            served.sort_by_key(|call| call.came_ns);
            for (call, waited) in served.iter().zip(waits(&served, 1)) {
                prop_assert_eq!(waited, Some(call.began_ns - call.came_ns));
            }
        }

        /// More servers than there are find less waiting, and no call before its turn.
        #[test]
        fn servers_that_are_not_there_pass_waiting_for_service(
            calls in prop::collection::vec((0..40_u64, 1..100_u64), 1..200),
            servers in 1..4_u32,
            more in 1..4_u32,
        ) {
            let served = queue(&calls, servers);
            for (call, waited) in served.iter().zip(waits(&served, servers + more)) {
                prop_assert!(waited.unwrap() <= call.began_ns - call.came_ns);
            }
        }
    }

    #[test]
    fn a_call_before_its_turn_shows_that_more_are_served_at_once() {
        // Two servers; the second call is short and goes first.
        let served = queue(&[(0, 100), (1, 10), (1, 10)], 2);
        let found = waits(&served, 1);
        assert_eq!(found, [Some(0), None, None]);
        assert_eq!(waits(&served, 2), [Some(0), Some(0), Some(9)]);
    }

    #[test]
    fn a_call_that_is_given_up_leaves_its_place() {
        let mut line = Line::new(NonZeroU32::MIN);
        let [first, second, third] = [0, 1, 2].map(|at_ns| line.arrive(at_ns));
        line.leave(second, 5);
        line.leave(second, 6);
        line.leave(first, 10);
        assert_eq!((line.waited_ns(second), line.waited_ns(third)), (None, Some(8)));
    }
}
