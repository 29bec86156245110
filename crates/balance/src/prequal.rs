//! By probes that are made ahead of calls: cold before hot, and of the cold ones the fastest.
//!
//! Prequal (Wydrowski et al., NSDI 2024). With each pick a few backends, drawn by chance, are
//! asked how many calls they hold and what such a call takes there now. The answers go into
//! a small pool, and picks are made from what is in it: no call waits for a probe, and what
//! is known is not what this balancer has counted itself but what the backend holds from
//! everyone. A probe whose count is above a quantile of the counts seen lately is hot. While
//! any is cold, the cold one with the least latency is picked; else the one with the fewest
//! calls ("hot-cold lexicographic"). Counts are a signal that leads, latencies one that lags.
//!
//! A pool would be worn out by picks that all like the same probe, so a probe counts one
//! call more after each use, serves a limited number of picks, and ages out; and with each
//! pick one probe goes, the oldest and the worst in turn. With fewer than two left, a pick
//! is made by chance.
//!
//! Left out: probing while there are no calls, and the paper's special treatment of backends
//! that fail at once; here their calls cost what they do until one succeeds, as with the
//! other policies (`failures`).
//!
//! The pool is under a lock, which is held for a look at sixteen entries. It is the one
//! policy that takes any.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    Backend, PickInput,
    chance::{next_word, unit},
    pick::{Candidates, Policy, Probe},
    random::Wheel,
    tuning::{ProbeRule, nanos},
};

/// With fewer probes a pick is made by chance.
const POOL_MIN: usize = 2;
/// Counts of calls that the quantile is taken of.
const COUNTS: usize = 64;
/// How much the number of picks that a probe serves exceeds what keeps the pool filled
/// (the paper's delta).
const REUSE_MARGIN: f64 = 1.0;

#[derive(Debug)]
pub(crate) struct Prequal {
    rule: ProbeRule,
    wheel: Wheel,
    /// Picks that a probe serves.
    uses: f64,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    entries: Vec<Entry>,
    /// Counts of calls in the latest answers, in a ring.
    counts: Vec<u32>,
    next_count: usize,
    /// A probe with more calls is hot; `None` where all are.
    hot_above: Option<u32>,
    /// Parts of a probe that are yet to be sent, and to be removed.
    to_send: f64,
    to_remove: f64,
    /// Whether the oldest is removed next, or else the worst.
    removes_oldest: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    backend: usize,
    probe: Probe,
    came_ns: u64,
    uses_left: u32,
}

impl Prequal {
    pub(crate) fn new(backends: &[Arc<Backend>], rule: ProbeRule) -> Self {
        // In the paper there are far more backends than places in the pool. Where each has a
        // place, an answer replaces the one before, and nothing wears the pool out.
        let outside = 1.0 - rule.pool as f64 / backends.len() as f64;
        let removed = if outside > 0.0 { rule.removed } else { 0.0 };
        let filling = outside * rule.sent - removed;
        let uses = if filling > 0.0 { (1.0 + REUSE_MARGIN) / filling } else { rule.pool as f64 };
        let uses = uses.clamp(1.0, rule.pool.max(1) as f64);
        let rule = ProbeRule { removed, ..rule };
        Self { rule, wheel: Wheel::new(backends), uses, pool: Mutex::default() }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // No code under the lock can leave the pool half changed.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy for Prequal {
    fn pick(&self, candidates: &Candidates<'_>, input: &PickInput) -> Option<usize> {
        let pool = &mut *self.pool();
        let oldest_ns = input.now_ns.saturating_sub(nanos(self.rule.age));
        pool.entries.retain(|entry| entry.came_ns >= oldest_ns);
        let eligible = |entry: &&Entry| candidates.is_eligible(entry.backend);
        if pool.entries.iter().filter(eligible).count() < POOL_MIN {
            return self.wheel.draw(candidates, input.random);
        }
        let cost = |entry: &Entry| pool.cost(entry, candidates.backends, input.now_ns);
        let costs = pool.entries.iter().enumerate().filter(|(_, entry)| eligible(entry));
        let best = costs.map(|(place, entry)| (place, cost(entry)));
        let (place, _) = best.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let picked = pool.entries[place].backend;
        pool.take_use(place);
        pool.remove_worn(self.rule.removed, candidates.backends, input.now_ns);
        Some(picked)
    }

    fn to_probe(&self, candidates: &Candidates<'_>, input: &PickInput, probed: &mut Vec<usize>) {
        let wanted = {
            let mut pool = self.pool();
            pool.to_send += self.rule.sent;
            let whole = pool.to_send.floor();
            pool.to_send -= whole;
            whole as usize
        };
        let mut word = next_word(input.random);
        while probed.len() < wanted {
            let is_new = |index| !probed.contains(&index);
            let Some(index) = self.wheel.draw_where(candidates, word, is_new) else { return };
            probed.push(index);
            word = next_word(word);
        }
    }

    fn probed(&self, index: usize, probe: Probe, input: &PickInput) {
        let fraction = u32::from(unit(input.random) < self.uses.fract());
        let uses_left = self.uses as u32 + fraction;
        let entry = Entry { backend: index, probe, came_ns: input.now_ns, uses_left };
        self.pool().add(entry, &self.rule);
    }
}

impl Pool {
    fn add(&mut self, entry: Entry, rule: &ProbeRule) {
        // What is known of one backend is one entry: two would be used twice.
        self.entries.retain(|other| other.backend != entry.backend);
        if self.entries.len() >= rule.pool.max(1) {
            self.remove_oldest();
        }
        self.entries.push(entry);
        let count = entry.probe.in_flight;
        if self.counts.len() < COUNTS {
            self.counts.push(count);
        } else {
            self.counts[self.next_count] = count;
            self.next_count = (self.next_count + 1) % COUNTS;
        }
        let rank = (rule.hot_quantile * self.counts.len() as f64).ceil() as usize;
        self.hot_above = rank.checked_sub(1).map(|rank| {
            let mut counts = self.counts.clone();
            let last = counts.len() - 1;
            *counts.select_nth_unstable(rank.min(last)).1
        });
    }

    /// Smaller is better: a cold probe by its latency, and any hot one after all of those, by
    /// its calls.
    fn cost(&self, entry: &Entry, backends: &[Arc<Backend>], now_ns: u64) -> Cost {
        let Probe { in_flight, latency_ns } = entry.probe;
        let tries = backends[entry.backend].tries(now_ns);
        let calls = (f64::from(in_flight) + 1.0) * tries;
        let is_hot = self.hot_above.is_none_or(|most| calls - 1.0 > f64::from(most));
        Cost { is_hot, value: if is_hot { calls } else { latency_ns as f64 * tries } }
    }

    /// A call is sent by a probe, which its backend holds from then on.
    fn take_use(&mut self, place: usize) {
        let entry = &mut self.entries[place];
        entry.probe.in_flight = entry.probe.in_flight.saturating_add(1);
        entry.uses_left = entry.uses_left.saturating_sub(1);
        if entry.uses_left == 0 {
            self.entries.remove(place);
        }
    }

    fn remove_worn(&mut self, each: f64, backends: &[Arc<Backend>], now_ns: u64) {
        self.to_remove += each;
        while self.to_remove >= 1.0 {
            self.to_remove -= 1.0;
            if self.removes_oldest {
                self.remove_oldest();
            } else {
                let costs = self.entries.iter().map(|entry| self.cost(entry, backends, now_ns));
                let worst = costs.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
                if let Some((place, _)) = worst {
                    self.entries.remove(place);
                }
            }
            self.removes_oldest = !self.removes_oldest;
        }
    }

    fn remove_oldest(&mut self) {
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.came_ns);
        if let Some((place, _)) = oldest {
            self.entries.remove(place);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    is_hot: bool,
    value: f64,
}

impl Cost {
    fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.is_hot.cmp(&other.is_hot).then(self.value.total_cmp(&other.value))
    }
}
