//! What time alone brings about: halved flood counts, handshakes and frames that
//! take too long, remotes that are silent or do not read, idle connections, the
//! steps of a drain.
//!
//! All connections are looked at every now and then, instead of a timer being
//! moved with every frame. A timeout is late by one period at most, which is a
//! part of the shortest timeout there is. What is looked for is with the
//! connections.

use std::time::Duration;

use crate::config::Config;

/// Less than this within the stall timeout is no progress.
const LEAST_BYTES: u64 = 1_024;

/// One look at all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) now_ns: u64,
    pub(super) now_ms: u64,
    /// A fair share of what is progress within the stall timeout.
    pub(super) least_bytes: u64,
    /// The counts of floods are halved.
    pub(super) is_second: bool,
}

pub(super) fn exceeds(ms: u64, limit: Duration) -> bool {
    u128::from(ms) > limit.as_millis()
}

/// How often all connections are looked at.
pub(super) struct Sweep {
    period_ns: u64,
    stall_timeout: Duration,
    /// When they are looked at next, and when they were last.
    pub(super) next_ns: u64,
    last_ns: u64,
    /// The last look was late and was put off.
    is_put_off: bool,
    /// Since the counts of floods were halved.
    since_halving_ms: u64,
}

impl Sweep {
    /// As often as the shortest of the timeouts that a sweep looks after asks for.
    pub(super) fn of(config: &Config, now_ns: u64) -> Self {
        let (down, up) = (&config.downstream, &config.upstream);
        let timeouts = [
            down.handshake_timeout,
            down.frame_timeout,
            down.write_stall_timeout,
            down.idle_timeout,
            down.keepalive_interval,
            down.keepalive_timeout,
            up.backend_keepalive_interval,
            up.backend_keepalive_timeout,
        ];
        let shortest = timeouts.into_iter().min().unwrap_or(Duration::MAX);
        let period = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let period_ns = period.as_nanos() as u64;
        Self {
            period_ns,
            stall_timeout: down.write_stall_timeout,
            next_ns: now_ns + period_ns,
            last_ns: now_ns,
            is_put_off: false,
            since_halving_ms: 0,
        }
    }

    /// A look at all connections, if it is time for one.
    pub(super) fn begin(&mut self, now_ns: u64) -> Option<Look> {
        let elapsed_ms = self.elapsed_ms(now_ns)?;
        // Sweeps may be more frequent than seconds.
        self.since_halving_ms += elapsed_ms;
        let is_second = self.since_halving_ms >= 1_000;
        if is_second {
            self.since_halving_ms = 0;
        }
        let least_bytes =
            u128::from(LEAST_BYTES * elapsed_ms) / self.stall_timeout.as_millis().max(1);
        let least_bytes = (least_bytes as u64).max(1);
        Some(Look { now_ns, now_ms: now_ns / 1_000_000, least_bytes, is_second })
    }

    /// Gives the milliseconds since the last look at all connections, if it is
    /// time for another.
    ///
    /// While there are no connections nobody looks, and a thread that was
    /// stopped has not looked either. That time is nobody's fault: a look that
    /// is late is put off by one period, in which all that waits is read.
    fn elapsed_ms(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns < self.next_ns {
            return None;
        }
        let is_late = now_ns - self.next_ns > self.period_ns;
        let elapsed_ms = (now_ns - self.last_ns) / 1_000_000;
        self.next_ns = now_ns + self.period_ns;
        self.last_ns = now_ns;
        // Once only, or a thread whose turns are long would never look.
        self.is_put_off = is_late && !self.is_put_off;
        (!self.is_put_off).then_some(elapsed_ms)
    }
}

#[cfg(test)]
mod tests {
    use balance::PolicyKind;

    use super::*;

    #[test]
    fn a_look_that_is_late_is_put_off_once_and_charges_nobody() {
        const SECOND: u64 = 1_000_000_000;
        let mut sweep = Sweep::of(&Config::new(Vec::new(), PolicyKind::RoundRobin), 0);
        assert_eq!(sweep.elapsed_ms(SECOND - 1), None);
        assert_eq!(sweep.elapsed_ms(SECOND), Some(1_000));
        assert_eq!(sweep.elapsed_ms(400 * SECOND), None, "nobody looked for six minutes");
        assert_eq!(sweep.elapsed_ms(401 * SECOND), Some(1_000));
        // A thread that is always late looks every other time.
        assert_eq!(sweep.elapsed_ms(411 * SECOND), None);
        assert_eq!(sweep.elapsed_ms(421 * SECOND), Some(10_000));
    }

    #[test]
    fn sweeps_come_often_enough_for_the_shortest_timeout() {
        let mut config = Config::new(Vec::new(), PolicyKind::RoundRobin);
        assert_eq!(Sweep::of(&config, 0).period_ns, 1_000_000_000);
        config.downstream.frame_timeout = Duration::from_millis(200);
        assert_eq!(Sweep::of(&config, 0).period_ns, 50_000_000);
        config.downstream.frame_timeout = Duration::ZERO;
        assert_eq!(Sweep::of(&config, 0).period_ns, 10_000_000);
    }
}
