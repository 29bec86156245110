//! The generator's clock and its alarm.
//!
//! Both use the kernel's monotonic clock in nanoseconds. The alarm is a timerfd,
//! because the runtime's own timers tick in milliseconds and a schedule of
//! thousands of calls a second needs tens of microseconds.
//!
//! A sleeping thread still wakes late, by what it takes the kernel to schedule it
//! and an idle core to start: some 50 µs on a virtual machine. With
//! [`Pacer::Spin`] the alarm is set earlier by that much, and the rest is passed
//! awake, looking at the clock and at the sockets in turn. That costs a share of a
//! core, so it is right only where the generator has one of its own.

use std::{io, time::Duration};

use serve::timer::Timer;
pub use serve::timer::{monotonic_ns, nanos};

/// A clock that starts at an epoch every thread of a trial shares.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// A clock whose zero lies at `epoch_ns` of the monotonic clock.
    pub fn starting_at(epoch_ns: u64) -> Self {
        Self { epoch_ns }
    }

    /// Nanoseconds since the epoch; zero before it.
    pub fn now_ns(self) -> u64 {
        self.at_ns(monotonic_ns())
    }

    /// A time of the monotonic clock by this one; zero before the epoch.
    pub fn at_ns(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.epoch_ns)
    }

    /// How long it is until a time of this clock, which the epoch itself may be.
    pub fn until(self, due_ns: u64) -> Duration {
        let due_ns = self.epoch_ns.saturating_add(due_ns);
        Duration::from_nanos(due_ns.saturating_sub(monotonic_ns()))
    }
}

/// How the generator waits for the next call to be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacer {
    /// Asleep until then, and late by the time it takes to wake up.
    Timer,
    /// Asleep until shortly before, then awake.
    Spin,
}

/// How long before the due time a spinning pacer wants to be awake. More than a
/// wake-up takes nearly always; what is left of it is burnt.
const SPIN_NS: u64 = 150_000;

/// An alarm for one task at a time.
#[derive(Debug)]
pub struct Alarm {
    timer: Timer,
    clock: Clock,
    pacer: Pacer,
}

impl Alarm {
    /// Must be called inside a runtime that drives I/O.
    pub fn new(clock: Clock, pacer: Pacer) -> io::Result<Self> {
        Ok(Self { timer: Timer::new()?, clock, pacer })
    }

    /// Waits until `due_ns` of the clock; at once when that has passed. Dropping
    /// the future is fine: the next call sets the alarm anew.
    pub async fn at(&self, due_ns: u64) -> io::Result<()> {
        match self.pacer {
            Pacer::Timer => self.sleep_until(due_ns).await,
            Pacer::Spin => {
                self.sleep_until(due_ns.saturating_sub(SPIN_NS)).await?;
                // Each yield lets the runtime look at the sockets, so that a
                // response is not kept waiting for the next call.
                while !self.clock.until(due_ns).is_zero() {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        }
    }

    async fn sleep_until(&self, due_ns: u64) -> io::Result<()> {
        if self.clock.until(due_ns).is_zero() {
            return Ok(());
        }
        self.timer.arm(self.clock.epoch_ns.saturating_add(due_ns))?;
        while !self.clock.until(due_ns).is_zero() {
            self.timer.fired().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_alarm_is_never_early_and_can_be_moved() {
        for pacer in [Pacer::Timer, Pacer::Spin] {
            never_early_and_movable(pacer).await;
        }
    }

    #[tokio::test]
    async fn an_alarm_at_zero_waits_for_the_epoch() {
        for pacer in [Pacer::Timer, Pacer::Spin] {
            let epoch_ns = monotonic_ns() + 3_000_000;
            let clock = Clock::starting_at(epoch_ns);
            assert!(!clock.until(0).is_zero());
            Alarm::new(clock, pacer).unwrap().at(0).await.unwrap();
            assert!(monotonic_ns() >= epoch_ns);
        }
    }

    async fn never_early_and_movable(pacer: Pacer) {
        let clock = Clock::starting_at(monotonic_ns());
        let alarm = Alarm::new(clock, pacer).unwrap();
        alarm.at(0).await.unwrap();
        for due_ns in [300_000, 900_000, 900_001] {
            alarm.at(due_ns).await.unwrap();
            assert!(clock.now_ns() >= due_ns);
        }
        // A far alarm that is given up must not hold back a near one.
        tokio::select! {
            biased;
            _ = alarm.at(u64::MAX / 4) => panic!("that alarm is centuries away"),
            () = tokio::task::yield_now() => {}
        }
        let due_ns = clock.now_ns() + 200_000;
        alarm.at(due_ns).await.unwrap();
        assert!(clock.now_ns() >= due_ns);
    }
}
