//! How far two clocks are apart, from messages between them.
//!
//! Four timestamps of a message and its answer bound the offset of the other clock: it
//! lies within half the round trip of the middle (Mills, RFC 5905, section 8, which has
//! the same sums). No assumption is made about the two ways being alike; the half of the
//! round trip is the bound where all of it was spent on one of them. Of several
//! exchanges the one with the shortest round trip is used, since the others were delayed
//! by more and bound the offset less.

/// A message and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When it was sent, by the clock that asks, in nanoseconds.
    pub sent_ns: u64,
    /// When it came in there, by the other clock.
    pub received_ns: u64,
    /// When the answer went out, by the other clock.
    pub answered_ns: u64,
    /// When that came in, by the clock that asks.
    pub returned_ns: u64,
}

/// How far the other clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Nanoseconds; negative where it is behind.
    pub offset_ns: i64,
    /// How far from that it may be, to either side.
    pub uncertainty_ns: u64,
    /// When it was so, by the clock that asks.
    pub at_ns: u64,
}

impl Exchange {
    /// What it says of the other clock.
    pub fn offset(&self) -> Offset {
        let away_ns = self.returned_ns.saturating_sub(self.sent_ns);
        let there_ns = self.answered_ns.saturating_sub(self.received_ns);
        let ahead = |other: u64, own: u64| i128::from(other) - i128::from(own);
        let sum = ahead(self.received_ns, self.sent_ns) + ahead(self.answered_ns, self.returned_ns);
        Offset {
            offset_ns: i64::try_from(sum / 2).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }),
            uncertainty_ns: away_ns.saturating_sub(there_ns).div_ceil(2),
            at_ns: self.sent_ns.saturating_add(away_ns / 2),
        }
    }
}

/// The offset that several exchanges bound best; `None` without any.
pub fn best(exchanges: &[Exchange]) -> Option<Offset> {
    exchanges.iter().map(Exchange::offset).min_by_key(|offset| offset.uncertainty_ns)
}

impl Offset {
    /// A time of the clock that asks, by the other one.
    pub fn convert(&self, own_ns: u64) -> u64 {
        own_ns.saturating_add_signed(self.offset_ns)
    }

    /// How fast the other clock runs ahead from `before` to `self`, in parts per million.
    /// Zero where that is less than what is not known of the two.
    pub fn drift_ppm(&self, before: &Self) -> f64 {
        let moved_ns = self.offset_ns.saturating_sub(before.offset_ns);
        let passed_ns = self.at_ns.saturating_sub(before.at_ns);
        let unknown_ns = self.uncertainty_ns.saturating_add(before.uncertainty_ns);
        if passed_ns == 0 || moved_ns.unsigned_abs() <= unknown_ns {
            return 0.0;
        }
        moved_ns as f64 / passed_ns as f64 * 1e6
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_NS: u64 = 3_600_000_000_000;

    fn exchange(
        ahead_ns: i64,
        sent_ns: u64,
        there_ns: u64,
        busy_ns: u64,
        back_ns: u64,
    ) -> Exchange {
        let received_ns = (sent_ns + there_ns).saturating_add_signed(ahead_ns);
        Exchange {
            sent_ns,
            received_ns,
            answered_ns: received_ns + busy_ns,
            returned_ns: sent_ns + there_ns + busy_ns + back_ns,
        }
    }

    #[test]
    fn a_clock_an_hour_ahead_is_read_within_half_the_round_trip() {
        let offset = exchange(HOUR_NS as i64, 500, 100_000, 7_000, 100_000).offset();
        assert_eq!(offset.offset_ns, HOUR_NS as i64);
        assert_eq!(offset.uncertainty_ns, 100_000);
        assert_eq!(offset.convert(1_000), HOUR_NS + 1_000);
    }

    #[test]
    fn the_shortest_round_trip_says_most() {
        let slow = exchange(-5_000, 1 << 40, 4_000_000, 0, 20_000);
        let fast = exchange(-5_000, 1 << 41, 30_000, 0, 40_000);
        assert_eq!(best(&[slow, fast]).unwrap(), fast.offset());
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn drift_is_what_uncertainty_does_not_explain() {
        let at = |offset_ns, at_ns| Offset { offset_ns, uncertainty_ns: 1_000, at_ns };
        assert_eq!(at(1_500, 1_000_000_000).drift_ppm(&at(0, 0)), 0.0);
        assert_eq!(at(10_000, 1_000_000_000).drift_ppm(&at(0, 0)), 10.0);
        assert_eq!(at(-10_000, 1_000_000_000).drift_ppm(&at(0, 0)), -10.0);
        assert_eq!(at(10_000, 0).drift_ppm(&at(0, 0)), 0.0);
    }

    proptest! {
        #[test]
        fn the_offset_is_within_its_bound_however_uneven_the_ways(
            ahead_ns in -1_000_000_000_000_i64..1_000_000_000_000,
            sent_ns in (1_u64 << 41)..(1 << 50),
            there_ns in 0_u64..1_000_000_000,
            busy_ns in 0_u64..1_000_000,
            back_ns in 0_u64..1_000_000_000,
        ) {
            let offset = exchange(ahead_ns, sent_ns, there_ns, busy_ns, back_ns).offset();
            prop_assert!(offset.offset_ns.abs_diff(ahead_ns) <= offset.uncertainty_ns);
        }

        /// However slow one of the two ways is: what the best of several exchanges says is
        /// wrong by half of the shortest round trip at most.
        #[test]
        fn a_link_that_is_slow_one_way_is_no_error_beyond_half_the_round_trip(
            ahead_ns in -1_000_000_000_000_i64..1_000_000_000_000,
            slower_ns in 0_u64..1_000_000_000,
            is_slow_there in any::<bool>(),
            ways in prop::collection::vec((0_u64..2_000_000, 0_u64..2_000_000), 1..16),
        ) {
            let (slow_there_ns, slow_back_ns) =
                if is_slow_there { (slower_ns, 0) } else { (0, slower_ns) };
            let sent_ns = (1_u64 << 41..).step_by(2_000_000_000);
            let exchanges: Vec<Exchange> = sent_ns
                .zip(&ways)
                .map(|(sent_ns, &(there_ns, back_ns))| {
                    let (there_ns, back_ns) = (there_ns + slow_there_ns, back_ns + slow_back_ns);
                    exchange(ahead_ns, sent_ns, there_ns, 1_000, back_ns)
                })
                .collect();
            let offset = best(&exchanges).expect("there are some");
            let shortest_ns = ways.iter().map(|(there_ns, back_ns)| there_ns + back_ns).min();
            let half_ns = (shortest_ns.unwrap_or(0) + slower_ns).div_ceil(2);
            prop_assert_eq!(offset.uncertainty_ns, half_ns);
            prop_assert!(offset.offset_ns.abs_diff(ahead_ns) <= half_ns);
        }

        #[test]
        fn whatever_another_says_is_no_panic(times in any::<[u64; 4]>()) {
            let [sent_ns, received_ns, answered_ns, returned_ns] = times;
            let exchange = Exchange { sent_ns, received_ns, answered_ns, returned_ns };
            let offset = exchange.offset();
            prop_assert!(offset.drift_ppm(&offset).abs() < 1.0);
            let _ = offset.convert(sent_ns);
        }
    }
}
