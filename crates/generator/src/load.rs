//! What makes calls due: a schedule (open loop) or the end of the call before
//! (closed loop), behind one interface. Pure but for the one counter that the
//! workers of a closed loop share.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    iter::Peekable,
    sync::atomic::{AtomicU64, Ordering},
};

use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::schedule::{Arrival, Limit, Schedule};

/// The load one worker makes. `connection` of its arrivals counts within the
/// worker.
#[derive(Debug)]
pub enum Load {
    /// Calls are due at times that do not depend on answers.
    Open(Open),
    /// A call is due when the one before has ended.
    Closed(Closed),
}

impl Load {
    /// When the next call is due; `None` when nothing is due any more, unless a
    /// call that is under way makes it so.
    pub fn next_due_ns(&mut self) -> Option<u64> {
        match self {
            Self::Open(open) => open.arrivals.peek().map(|arrival| arrival.due_ns),
            Self::Closed(closed) => closed.due.peek().map(|Reverse((due_ns, _))| *due_ns),
        }
    }

    /// Takes the next call if it is due at `now_ns`. `begun` counts the measured
    /// calls of all workers of the trial.
    pub fn take_due(&mut self, now_ns: u64, begun: &AtomicU64) -> Option<Arrival> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        match self {
            Self::Open(open) => open.arrivals.next(),
            Self::Closed(closed) => closed.take(begun),
        }
    }

    /// A call on `connection` ended.
    pub fn ended(&mut self, connection: u32, now_ns: u64) {
        match self {
            Self::Open(_) => {}
            Self::Closed(closed) => {
                closed.due.push(Reverse((now_ns + closed.think_ns, connection)));
            }
        }
    }
}

/// The part of a schedule that falls on one worker's connections.
#[derive(Debug)]
pub struct Open {
    arrivals: Peekable<OwnShare>,
}

impl Open {
    /// Connections are dealt to workers in turn: connection `c` of the schedule
    /// belongs to worker `c % workers`.
    pub fn new(schedule: Schedule, worker: u32, workers: u32) -> Self {
        Self { arrivals: OwnShare { schedule, worker, workers }.peekable() }
    }
}

#[derive(Debug)]
struct OwnShare {
    schedule: Schedule,
    worker: u32,
    workers: u32,
}

impl Iterator for OwnShare {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let (worker, workers) = (self.worker, self.workers);
        let arrival = self.schedule.find(|arrival| arrival.connection % workers == worker)?;
        Some(Arrival { connection: arrival.connection / workers, ..arrival })
    }
}

/// Slots that each send their next call when the last one ended and its think
/// time has passed.
#[derive(Debug)]
pub struct Closed {
    due: BinaryHeap<Reverse<(u64, u32)>>,
    think_ns: u64,
    warm_up_ns: u64,
    limit: Limit,
    numbers: Numbers,
}

/// The numbers that a worker of a closed loop gives its calls.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The first.
    pub next: u64,
    /// From one call to the next.
    pub step: u64,
}

impl Closed {
    /// With a think time, first calls are spread over one think time by chance:
    /// clients that all think equally long would otherwise call in step forever.
    pub fn new(
        connections: u32,
        streams: u32,
        think_ns: u64,
        warm_up_ns: u64,
        limit: Limit,
        numbers: Numbers,
        seed: u64,
    ) -> Self {
        let mut chance = SplitMix64::seed_from_u64(seed);
        let mut first_ns = || if think_ns == 0 { 0 } else { chance.next_u64() % think_ns };
        let due = (0..connections)
            .flat_map(|connection| (0..streams).map(move |_| connection))
            .map(|connection| Reverse((first_ns(), connection)))
            .collect();
        Self { due, think_ns, warm_up_ns, limit, numbers }
    }

    fn take(&mut self, begun: &AtomicU64) -> Option<Arrival> {
        let Reverse((due_ns, connection)) = self.due.pop()?;
        let over = match self.limit {
            // By when it was due: a generator that is late still owes the call.
            Limit::Until { end_ns } => due_ns >= end_ns,
            Limit::Calls { calls } => {
                due_ns >= self.warm_up_ns && begun.fetch_add(1, Ordering::Relaxed) >= calls
            }
        };
        if over {
            // Nobody sends any more; what still thinks need not wake up.
            self.due.clear();
            return None;
        }
        let number = self.numbers.next;
        self.numbers.next += self.numbers.step;
        Some(Arrival { due_ns, connection, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the only worker.
    const ALONE: Numbers = Numbers { next: 0, step: 1 };
    use crate::{rate::RateCurve, schedule::Process};

    fn drain(load: &mut Load, now_ns: u64, begun: &AtomicU64) -> Vec<Arrival> {
        std::iter::from_fn(|| load.take_due(now_ns, begun)).collect()
    }

    #[test]
    fn workers_share_a_schedule_out_without_loss() {
        let schedule = || {
            Schedule::new(
                Process::Poisson,
                RateCurve::flat(5_000.0),
                5,
                0,
                Limit::Until { end_ns: 1_000_000_000 },
                3,
            )
        };
        let begun = AtomicU64::new(0);
        let mut merged = Vec::new();
        for worker in 0..2 {
            let mut load = Load::Open(Open::new(schedule(), worker, 2));
            merged.extend(
                drain(&mut load, u64::MAX, &begun).into_iter().map(|arrival| Arrival {
                    connection: arrival.connection * 2 + worker,
                    ..arrival
                }),
            );
        }
        merged.sort_by_key(|arrival| arrival.due_ns);
        assert_eq!(merged, schedule().collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let limit = Limit::Until { end_ns: 10_000_000 };
        let schedule = Schedule::new(Process::Constant, RateCurve::flat(1_000.0), 1, 0, limit, 0);
        let mut load = Load::Open(Open::new(schedule, 0, 1));
        let begun = AtomicU64::new(0);
        assert_eq!(drain(&mut load, 2_500_000, &begun).len(), 3);
        assert_eq!(load.next_due_ns(), Some(3_000_000));
    }

    #[test]
    fn a_closed_loop_sends_again_only_after_an_end_and_the_think_time() {
        let limit = Limit::Until { end_ns: 1_000 };
        let mut load = Load::Closed(Closed::new(2, 2, 100, 0, limit, ALONE, 1));
        let begun = AtomicU64::new(0);
        assert_eq!(drain(&mut load, 100, &begun).len(), 4);
        assert_eq!(load.next_due_ns(), None);
        load.ended(1, 150);
        assert_eq!(load.take_due(249, &begun), None);
        let next = load.take_due(250, &begun).unwrap();
        assert_eq!(next, Arrival { due_ns: 250, connection: 1, number: 4 });
        load.ended(0, 899);
        let late = load.take_due(5_000, &begun).unwrap();
        assert_eq!(late.due_ns, 999, "it was due before the end");
        load.ended(1, 950);
        assert_eq!(load.take_due(1_050, &begun), None, "the window is over");
        assert_eq!(load.next_due_ns(), None);
    }

    #[test]
    fn a_closed_loop_stops_after_the_wanted_calls_over_all_workers() {
        let begun = AtomicU64::new(0);
        let limit = Limit::Calls { calls: 5 };
        let mut sent = 0;
        for _worker in 0..2 {
            let mut load = Load::Closed(Closed::new(1, 1, 0, 10, limit, ALONE, 1));
            for now_ns in 0..20 {
                while load.take_due(now_ns, &begun).is_some() {
                    sent += u64::from(now_ns >= 10);
                    load.ended(0, now_ns + 1);
                }
            }
        }
        assert_eq!(sent, 5);
    }
}
