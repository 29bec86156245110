//! What a backend answers to probes: the calls it holds, and what one takes that finds as
//! many.

use std::collections::VecDeque;

use crate::Probe;

/// Calls that are remembered.
const RECENT: usize = 64;
/// Of these, the ones that the median is taken of.
const NEAREST: usize = 9;

/// Remembers what the latest calls took, each with the number of calls that it found
/// (Wydrowski et al. 2024): what a call takes depends on that number far more than on when
/// it was made.
#[derive(Clone, Debug, Default)]
pub struct LatencyMeter {
    recent: VecDeque<(u32, u64)>,
}

impl LatencyMeter {
    /// A call ended that had found `found` others at the backend.
    pub fn ended(&mut self, found: u32, latency_ns: u64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((found, latency_ns));
    }

    /// The answer to a probe that finds `in_flight` calls: the median of what the calls took
    /// that found a number near to that, in proportion where it was another number. Without
    /// the proportion, which is not in the paper, a backend that was slow and has become idle
    /// would answer what its last calls took, and never get another one; and one on which all
    /// fall would go on answering what calls took before. Zero before any ended, so that the
    /// backend is tried.
    pub fn probe(&self, in_flight: u32) -> Probe {
        let latest = self.recent.iter().rev().enumerate();
        // Of equally near ones the latest.
        let mut near: Vec<_> = latest
            .map(|(age, (found, latency_ns))| {
                let scale = (f64::from(in_flight) + 1.0) / (f64::from(*found) + 1.0);
                (found.abs_diff(in_flight), age, (*latency_ns as f64 * scale) as u64)
            })
            .collect();
        if near.len() > NEAREST {
            near.select_nth_unstable(NEAREST - 1);
            near.truncate(NEAREST);
        }
        near.sort_unstable_by_key(|(_, _, latency_ns)| *latency_ns);
        let latency_ns = near.get(near.len() / 2).map_or(0, |(_, _, latency_ns)| *latency_ns);
        Probe { in_flight, latency_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latency_is_that_of_calls_that_found_as_many() {
        let mut meter = LatencyMeter::default();
        assert_eq!(meter.probe(3), Probe { in_flight: 3, latency_ns: 0 });
        for call in 0..40 {
            let found = call % 4;
            meter.ended(found, u64::from(found) * 100 + u64::from(call % 3));
        }
        for found in 0..4 {
            let latency_ns = meter.probe(found).latency_ns;
            assert!((0..3).contains(&(latency_ns - u64::from(found) * 100)), "{latency_ns}");
        }
        // What is long ago counts no more.
        (0..64).for_each(|_| meter.ended(0, 7));
        assert_eq!([meter.probe(0), meter.probe(3)].map(|probe| probe.latency_ns), [7, 28]);
    }
}
