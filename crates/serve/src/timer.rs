//! A timer true to the microsecond.
//!
//! tokio's timer counts in milliseconds, and a service time of 50 µs would
//! become 1 ms on it. A Linux timerfd sits on the kernel's high-resolution
//! timers and wakes the runtime through epoll like a socket does.

use std::{io, os::fd::OwnedFd};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds of the monotonic clock, since an arbitrary start.
#[inline]
pub fn monotonic_ns() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// A time of a clock whose fields are never negative.
#[inline]
pub fn nanos(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * NS_PER_S + time.tv_nsec.unsigned_abs()
}

/// A one-shot timer on the clock of [`monotonic_ns`].
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
}

impl Timer {
    /// A timer that is not armed, bound to the current runtime.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe for types whose descriptor may change, and an \
                      OwnedFd's never does"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { fd })
    }

    /// Makes the timer fire at `deadline_ns`, at once if that is past, instead
    /// of whenever it was armed for.
    ///
    /// # Errors
    /// None that the kernel has for a time like this.
    #[inline]
    pub fn arm(&self, deadline_ns: u64) -> io::Result<()> {
        // All zeroes would disarm it.
        let deadline_ns = deadline_ns.max(1);
        let seconds = i64::try_from(deadline_ns / NS_PER_S).unwrap_or(i64::MAX);
        let nanos = i64::try_from(deadline_ns % NS_PER_S).unwrap_or(0);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec {
            it_interval: zero,
            it_value: Timespec { tv_sec: seconds, tv_nsec: nanos },
        };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }

    /// Resolves when the timer has fired since the last call. It may also
    /// resolve for a deadline that was replaced in the meantime.
    ///
    /// # Errors
    /// When the runtime is shut down.
    #[inline]
    pub async fn fired(&self) -> io::Result<()> {
        // The descriptor is not read. epoll is edge-triggered and arming again
        // resets the count, so every expiry is an edge of its own, and the
        // read would be one system call a wake-up for nothing.
        self.fd.readable().await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_fires_after_its_deadline_each_time_and_never_before() {
        let timer = Timer::new().unwrap();
        for after_ns in [0, 1_000, 50_000, 2_000_000, 200_000] {
            let deadline_ns = monotonic_ns() + after_ns;
            timer.arm(deadline_ns).unwrap();
            timer.fired().await.unwrap();
            assert!(monotonic_ns() >= deadline_ns);
        }
    }

    #[tokio::test]
    async fn an_earlier_deadline_replaces_a_later_one() {
        let timer = Timer::new().unwrap();
        let hour = monotonic_ns() + 3600 * NS_PER_S;
        timer.arm(hour).unwrap();
        timer.arm(monotonic_ns() + 100_000).unwrap();
        timer.fired().await.unwrap();
        assert!(monotonic_ns() < hour);
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_fires_at_once() {
        let timer = Timer::new().unwrap();
        timer.arm(0).unwrap();
        timer.fired().await.unwrap();
    }
}
