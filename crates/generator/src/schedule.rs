//! When calls are due, and on which connection: decided before anything is sent.
//!
//! A schedule is a function of the scenario and the seed alone. Every worker
//! thread walks the whole of it and keeps the arrivals of its own connections,
//! so the load does not depend on how many threads make it, and every peer of a
//! repeat gets the same calls at the same times.
//!
//! A rate that changes is a flat one in another time: arrivals of a process of
//! rate one are mapped through the inverse of the calls expected until then
//! ([`super::rate`]), which is exact for Poisson arrivals too.
//!
//! Each connection stands for a client of its own. Poisson arrivals are dealt to
//! connections by chance, which leaves each connection with a Poisson stream
//! again; constant arrivals are dealt in turn, which keeps each one constant.

use std::sync::Arc;

use rand_distr::{Distribution, OpenClosed01};
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::rate::{Inverse, RateCurve};

const NS_PER_S: f64 = 1e9;

/// One call that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Nanoseconds since the trial's start.
    pub due_ns: u64,
    /// The connection it goes out on.
    pub connection: u32,
    /// Which call of the load it is, from zero: by that its contents are known.
    pub number: u64,
}

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The same gap between any two calls.
    Constant,
    /// Exponential gaps: callers who know nothing of each other.
    Poisson,
}

/// When a schedule, or a closed loop, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At this time after the start, warm-up included.
    Until {
        /// Nanoseconds since the trial's start.
        end_ns: u64,
    },
    /// After this many calls that were due after the warm-up.
    Calls {
        /// Calls in the measured window.
        calls: u64,
    },
}

/// Connections that carry more than the others: the first ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skew {
    /// How many; fewer than there are.
    pub heavy: u32,
    /// The part of all calls that they carry together.
    pub share: f64,
}

/// An open loop's arrivals, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    process: Process,
    inverse: Inverse,
    connections: u32,
    skew: Option<Skew>,
    /// When calls are due, where they follow a record.
    traced_ns: Option<Arc<[u64]>>,
    warm_up_ns: u64,
    limit: Limit,
    chance: SplitMix64,
    /// Index of the next arrival.
    index: u64,
    /// The last Poisson arrival in the time of a rate of one.
    last: f64,
    measured: u64,
}

impl Schedule {
    /// `rate` is over all `connections`.
    pub fn new(
        process: Process,
        rate: RateCurve,
        connections: u32,
        warm_up_ns: u64,
        limit: Limit,
        seed: u64,
    ) -> Self {
        Self {
            process,
            inverse: rate.inverse(),
            connections,
            skew: None,
            traced_ns: None,
            warm_up_ns,
            limit,
            chance: SplitMix64::seed_from_u64(seed),
            index: 0,
            last: 0.0,
            measured: 0,
        }
    }

    /// With calls that are due at these times, and go out on connections by chance.
    pub fn traced(self, traced_ns: Arc<[u64]>) -> Self {
        Self { process: Process::Poisson, traced_ns: Some(traced_ns), ..self }
    }

    /// With connections that are not alike.
    pub fn skewed(self, skew: Option<Skew>) -> Self {
        Self { skew, ..self }
    }

    /// The connection of the next arrival.
    fn next_connection(&mut self) -> u32 {
        let Some(Skew { heavy, share }) = self.skew else {
            return self.one_of(self.index, self.connections);
        };
        let light = self.connections - heavy;
        let (is_heavy, turn) = match self.process {
            Process::Constant => {
                // Of the first n calls, the whole part of n times the share.
                let heavy_before = (self.index as f64 * share) as u64;
                let is_heavy = ((self.index + 1) as f64 * share) as u64 > heavy_before;
                (is_heavy, if is_heavy { heavy_before } else { self.index - heavy_before })
            }
            Process::Poisson => (self.uniform() <= share, 0),
        };
        if is_heavy { self.one_of(turn, heavy) } else { heavy + self.one_of(turn, light) }
    }

    /// Uniform in (0, 1]: its logarithm is finite.
    fn uniform(&mut self) -> f64 {
        OpenClosed01.sample(&mut self.chance)
    }

    /// One of `count` connections: in turn, or by chance.
    fn one_of(&mut self, turn: u64, count: u32) -> u32 {
        let turn = match self.process {
            Process::Constant => turn,
            Process::Poisson => self.chance.next_u64() >> 32,
        };
        // The remainder is below `count`, which is 32 bits wide.
        (turn % u64::from(count)) as u32
    }

    fn next_due_ns(&mut self) -> f64 {
        let calls = match self.process {
            // From the index, not by adding gaps, so that rounding never drifts.
            Process::Constant => self.index as f64,
            Process::Poisson => {
                self.last -= self.uniform().ln();
                self.last
            }
        };
        self.inverse.seconds(calls) * NS_PER_S
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let due_ns = match &self.traced_ns {
            Some(times) => *times.get(usize::try_from(self.index).ok()?)?,
            None => self.next_due_ns() as u64,
        };
        match self.limit {
            Limit::Until { end_ns } if due_ns >= end_ns => return None,
            Limit::Calls { calls } if self.measured >= calls => return None,
            Limit::Until { .. } | Limit::Calls { .. } => {}
        }
        if due_ns >= self.warm_up_ns {
            self.measured += 1;
        }
        let (connection, number) = (self.next_connection(), self.index);
        self.index += 1;
        Some(Arrival { due_ns, connection, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn schedule(process: Process, limit: Limit) -> Schedule {
        Schedule::new(process, RateCurve::flat(1_000.0), 3, SECOND / 10, limit, 7)
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_dealt_in_turn() {
        let all: Vec<_> = schedule(Process::Constant, Limit::Until { end_ns: SECOND }).collect();
        assert_eq!(all.len(), 1_000);
        for (index, arrival) in all.iter().enumerate() {
            assert_eq!(arrival.due_ns, index as u64 * 1_000_000);
            assert_eq!(arrival.connection as usize, index % 3);
        }
    }

    #[test]
    fn a_trace_is_followed_call_by_call_on_connections_by_chance() {
        let times: Arc<[u64]> = [0, 5, 5, SECOND / 2, SECOND].into();
        let all: Vec<_> = schedule(Process::Constant, Limit::Until { end_ns: SECOND })
            .traced(times)
            .map(|arrival| (arrival.due_ns, arrival.number))
            .collect();
        assert_eq!(all, [(0, 0), (5, 1), (5, 2), (SECOND / 2, 3)]);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_variance_of_an_exponential() {
        let end_ns = 200 * SECOND;
        let all: Vec<_> = schedule(Process::Poisson, Limit::Until { end_ns }).collect();
        let gaps: Vec<f64> =
            all.windows(2).map(|pair| (pair[1].due_ns - pair[0].due_ns) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "mean gap is {mean} ms");
        assert!((variance - 1.0).abs() < 0.03, "variance is {variance} ms²");
        for connection in 0..3 {
            let share = all.iter().filter(|arrival| arrival.connection == connection).count()
                as f64
                / all.len() as f64;
            assert!((share - 1.0 / 3.0).abs() < 0.01, "connection {connection} has {share}");
        }
    }

    #[test]
    fn a_limit_in_calls_counts_from_the_end_of_the_warm_up() {
        for process in [Process::Constant, Process::Poisson] {
            let all: Vec<_> = schedule(process, Limit::Calls { calls: 500 }).collect();
            let measured = all.iter().filter(|arrival| arrival.due_ns >= SECOND / 10).count();
            assert_eq!(measured, 500);
        }
    }

    #[test]
    fn heavy_connections_carry_their_share_and_the_others_the_rest() {
        for process in [Process::Constant, Process::Poisson] {
            let skew = Some(Skew { heavy: 1, share: 0.6 });
            let limit = Limit::Until { end_ns: 100 * SECOND };
            let mut counts = [0_u32; 3];
            for arrival in schedule(process, limit).skewed(skew) {
                counts[arrival.connection as usize] += 1;
            }
            let shares = counts.map(|count| f64::from(count) / 100_000.0);
            for (share, wanted) in shares.into_iter().zip([0.6, 0.2, 0.2]) {
                assert!((share - wanted).abs() < 0.01, "{process:?}: {shares:?}");
            }
        }
    }

    #[test]
    fn a_rate_that_doubles_brings_twice_the_calls() {
        let curve =
            || RateCurve::flat(1_000.0).then(1.0, 1_000.0, 1_000.0).then(1.0, 2_000.0, 2_000.0);
        for process in [Process::Constant, Process::Poisson] {
            let limit = Limit::Until { end_ns: 2 * SECOND };
            let all: Vec<_> = Schedule::new(process, curve(), 3, 0, limit, 7).collect();
            let first = all.iter().filter(|arrival| arrival.due_ns < SECOND).count() as f64;
            let second = all.len() as f64 - first;
            assert!((first - 1_000.0).abs() <= 100.0, "{first}");
            assert!((second - 2_000.0).abs() <= 150.0, "{second}");
            assert!(all.windows(2).all(|pair| pair[0].due_ns <= pair[1].due_ns));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_load() {
        let make = || schedule(Process::Poisson, Limit::Until { end_ns: SECOND });
        assert!(make().eq(make()));
        let other = Schedule { chance: SplitMix64::seed_from_u64(8), ..make() };
        assert!(!make().eq(other));
    }
}
