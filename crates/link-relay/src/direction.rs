//! One direction of a link: packets and the time go in, and packets come out when they are due.
//!
//! It does what the netem queueing discipline does (`net/sched/sch_netem.c`), in its order. A
//! packet is lost by chance, or else dropped where as many as the limit are held already, or
//! else becomes due:
//!
//! ```text
//! due = max(now + delay, due of the packet before it) + length / rate
//! ```
//!
//! where the delay is evenly distributed over `delay - jitter` to `delay + jitter`, as netem has
//! it where no distribution is named. So a link is a pipe: what was sent first arrives first,
//! jitter or not. With `reorder` it is not: `due = now + delay`, and a packet that draws a short
//! delay overtakes, as it does in netem without a rate.

use std::{cmp::Ordering, collections::BinaryHeap};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde::{Deserialize, Serialize};

/// What is done to packets in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How long a packet is under way, in nanoseconds.
    pub delay_ns: u64,
    /// How much less or more that may be, in nanoseconds; at most the delay.
    pub jitter_ns: u64,
    /// The part of the packets that is lost, from 0 to 1.
    pub loss: f64,
    /// Bits per second, of IP packets with their headers; `None` for no limit, and never zero.
    pub rate_bits: Option<u64>,
    /// Packets held at a time, under way and waiting for the rate together; more are dropped.
    pub limit: u32,
    /// Whether packets may overtake each other where there is jitter; of no effect with a rate.
    pub reorder: bool,
}

/// What became of packets. Those that are neither lost nor dropped were passed on, or will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that came in.
    pub packets: u64,
    /// Their bytes, with IP headers.
    pub bytes: u64,
    /// Of those packets, lost by chance.
    pub lost: u64,
    /// Of those packets, dropped for the limit.
    pub dropped: u64,
}

/// One direction, with the packets that it holds.
#[derive(Debug)]
pub struct Direction<P> {
    settings: Settings,
    random: Xoshiro256PlusPlus,
    held: BinaryHeap<Held<P>>,
    /// When the packet that was taken last is due, where order is kept.
    last_due_ns: u64,
    counts: Counts,
}

/// A packet under way.
#[derive(Debug)]
struct Held<P> {
    due_ns: u64,
    /// Which one it is, so that of two that are due at a time the first goes first.
    number: u64,
    packet: P,
}

impl<P> Direction<P> {
    /// One that holds nothing.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            held: BinaryHeap::new(),
            last_due_ns: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a packet of so many bytes at a time, which must not be before that of the packet
    /// before.
    pub fn take(&mut self, now_ns: u64, bytes: usize, packet: P) {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        if self.settings.loss > 0.0 && self.unit() < self.settings.loss {
            self.counts.lost += 1;
            return;
        }
        if self.held.len() >= self.settings.limit as usize {
            self.counts.dropped += 1;
            return;
        }
        let due_ns = self.due_of(now_ns, bytes);
        self.held.push(Held { due_ns, number: self.counts.packets, packet });
    }

    /// The next packet that is due by a time, and since when.
    pub fn due(&mut self, now_ns: u64) -> Option<(u64, P)> {
        self.next_due_ns().filter(|due_ns| *due_ns <= now_ns)?;
        self.held.pop().map(|held| (held.due_ns, held.packet))
    }

    /// When the next packet is due; `None` while there is none.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.held.peek().map(|held| held.due_ns)
    }

    /// What became of packets since this was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn due_of(&mut self, now_ns: u64, bytes: usize) -> u64 {
        let arrives_ns = now_ns + self.delay_ns();
        if self.settings.reorder && self.settings.rate_bits.is_none() {
            return arrives_ns;
        }
        self.last_due_ns = arrives_ns.max(self.last_due_ns) + self.on_the_wire_ns(bytes);
        self.last_due_ns
    }

    fn delay_ns(&mut self) -> u64 {
        let Settings { delay_ns, jitter_ns, .. } = self.settings;
        if jitter_ns == 0 {
            return delay_ns;
        }
        let more_ns = (self.unit() * 2.0 * jitter_ns as f64) as u64;
        (delay_ns + more_ns).saturating_sub(jitter_ns)
    }

    /// How long the rate takes for so many bytes.
    fn on_the_wire_ns(&self, bytes: usize) -> u64 {
        let Some(rate) = self.settings.rate_bits else { return 0 };
        bytes as u64 * 8 * 1_000_000_000 / rate
    }

    /// Evenly distributed from 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The heap's largest is what is due first.
impl<P> Ord for Held<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_ns, other.number).cmp(&(self.due_ns, self.number))
    }
}

impl<P> PartialOrd for Held<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Held<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<P> Eq for Held<P> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const PLAIN: Settings = Settings {
        delay_ns: 5 * MS,
        jitter_ns: 0,
        loss: 0.0,
        rate_bits: None,
        limit: 1_000,
        reorder: false,
    };

    /// Sends packets, each with its number, at times and of so many bytes; gives when each came
    /// out, in the order they did.
    fn send(link: &mut Direction<usize>, sent: &[(u64, usize)]) -> Vec<(u64, usize)> {
        let mut out = Vec::new();
        for (number, &(now_ns, bytes)) in sent.iter().enumerate() {
            while let Some(next) = link.due(now_ns) {
                out.push(next);
            }
            link.take(now_ns, bytes, number);
        }
        out.extend(std::iter::from_fn(|| link.due(u64::MAX)));
        out
    }

    #[test]
    fn a_packet_comes_out_after_the_delay_and_not_before() {
        let mut link = Direction::new(PLAIN, 1);
        assert_eq!(link.next_due_ns(), None);
        link.take(2 * MS, 100, 'a');
        link.take(3 * MS, 100, 'b');
        assert_eq!(link.next_due_ns(), Some(7 * MS));
        assert_eq!(link.due(7 * MS - 1), None);
        assert_eq!(link.due(7 * MS), Some((7 * MS, 'a')));
        assert_eq!(link.due(7 * MS), None);
        // What was due earlier is still told by when.
        assert_eq!(link.due(20 * MS), Some((8 * MS, 'b')));
        assert_eq!(link.next_due_ns(), None);
    }

    #[test]
    fn a_rate_takes_its_time_for_each_packet_and_idles_in_between() {
        // 12 Mbit/s: a packet of 1,500 bytes takes a millisecond.
        let settings = Settings { rate_bits: Some(12_000_000), ..PLAIN };
        let sent = [(0, 1_500), (0, 1_500), (0, 750), (50 * MS, 1_500)];
        let out = send(&mut Direction::new(settings, 1), &sent);
        let half = MS / 2;
        assert_eq!(out, [(6 * MS, 0), (7 * MS, 1), (7 * MS + half, 2), (56 * MS, 3)]);
    }

    #[test]
    fn what_finds_the_limit_reached_is_dropped() {
        let mut link = Direction::new(Settings { limit: 2, ..PLAIN }, 1);
        let out = send(&mut link, &[(0, 10), (0, 10), (0, 10), (5 * MS, 10)]);
        assert_eq!(out, [(5 * MS, 0), (5 * MS, 1), (10 * MS, 3)]);
        let counts = link.take_counts();
        assert_eq!(counts, Counts { packets: 4, bytes: 40, lost: 0, dropped: 1 });
        assert_eq!(link.take_counts(), Counts::default());
    }

    #[test]
    fn loss_is_by_chance_and_by_the_seed() {
        let lossy = Settings { loss: 0.1, limit: u32::MAX, ..PLAIN };
        let run = |seed| {
            let mut link = Direction::new(lossy, seed);
            let came = send(&mut link, &[(0, 1); 20_000]).into_iter().map(|(_, number)| number);
            (came.collect::<Vec<_>>(), link.take_counts())
        };
        let (came, counts) = run(7);
        assert_eq!(counts.lost as usize, 20_000 - came.len());
        // Seven standard deviations of 42.
        assert!((1_700..2_300).contains(&counts.lost), "{}", counts.lost);
        assert_eq!(run(7).0, came);
        assert_ne!(run(8).0, came);
    }

    #[test]
    fn jitter_keeps_the_order_unless_it_is_asked_to_reorder() {
        let sent: Vec<(u64, usize)> = (0..1_000).map(|at| (at * MS / 10, 100)).collect();
        let numbers = |settings| {
            let out = send(&mut Direction::new(settings, 3), &sent);
            out.into_iter().map(|(_, number)| number).collect::<Vec<_>>()
        };
        let jitter = Settings { jitter_ns: 2 * MS, limit: u32::MAX, ..PLAIN };
        let (in_order, reordered) =
            (numbers(jitter), numbers(Settings { reorder: true, ..jitter }));
        assert!(in_order.is_sorted() && !reordered.is_sorted());
        assert_eq!((in_order.len(), reordered.len()), (1_000, 1_000));
        let with_rate = Settings { reorder: true, rate_bits: Some(1_000_000_000), ..jitter };
        assert!(numbers(with_rate).is_sorted());
    }

    #[test]
    fn jitter_spreads_the_delay_evenly_to_both_sides() {
        let settings = Settings { jitter_ns: 2 * MS, reorder: true, limit: u32::MAX, ..PLAIN };
        let out = send(&mut Direction::new(settings, 5), &[(0, 1); 10_000]);
        let delays: Vec<u64> = out.into_iter().map(|(due_ns, _)| due_ns).collect();
        assert!(delays.iter().all(|delay| (3 * MS..7 * MS).contains(delay)));
        let below = |part_ns| delays.iter().filter(|delay| **delay < part_ns).count();
        // Of 10,000, five standard deviations of at most 50.
        for (part_ns, expected) in [(4 * MS, 2_500), (5 * MS, 5_000), (6 * MS, 7_500)] {
            assert!(below(part_ns).abs_diff(expected) < 250, "{part_ns}: {}", below(part_ns));
        }
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let rates = prop::option::of(8_000_u64..100_000_000_000);
        (0..10 * MS, 0.0..1.0_f64, 0.0..1.0_f64, rates, 1..50_u32, any::<bool>()).prop_map(
            |(delay_ns, part, loss, rate_bits, limit, reorder)| Settings {
                delay_ns,
                jitter_ns: (delay_ns as f64 * part) as u64,
                loss,
                rate_bits,
                limit,
                reorder,
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_is_early_or_made_up_and_a_pipe_keeps_order(
            settings in settings(),
            seed: u64,
            steps in prop::collection::vec((0..3 * MS, 20..1_500_usize), 1..100),
        ) {
            let mut now_ns = 0;
            let sent: Vec<(u64, usize)> = steps
                .into_iter()
                .map(|(pause_ns, bytes)| { now_ns += pause_ns; (now_ns, bytes) })
                .collect();
            let mut link = Direction::new(settings, seed);
            let out = send(&mut link, &sent);
            let counts = link.take_counts();
            prop_assert_eq!(counts.packets, sent.len() as u64);
            prop_assert_eq!(out.len() as u64, counts.packets - counts.lost - counts.dropped);
            prop_assert!(out.is_sorted_by_key(|(due_ns, _)| *due_ns));
            for &(due_ns, number) in &out {
                prop_assert!(due_ns >= sent[number].0 + settings.delay_ns - settings.jitter_ns);
            }
            if settings.rate_bits.is_some() || !settings.reorder {
                prop_assert!(out.is_sorted_by_key(|(_, number)| *number));
            }
            if let Some(rate) = settings.rate_bits {
                for pair in out.windows(2) {
                    let least_ns = sent[pair[1].1].1 as u64 * 8 * 1_000_000_000 / rate;
                    prop_assert!(pair[1].0 - pair[0].0 >= least_ns);
                }
            }
        }
    }
}
