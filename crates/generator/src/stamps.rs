//! When the kernel took in what is read from a socket.
//!
//! The kernel stamps each packet as the network device hands it over
//! (`SO_TIMESTAMPING` with software stamps, the kernel's `timestamping.rst`), and a read
//! reports the stamp of the last packet that it took bytes from.
//!
//! Stamps of what is sent exist as well. They come one by one through the socket's error
//! queue, at the price of a system call and of a wake-up for every request, and on
//! loopback they are within a few microseconds of the clock read before the write. So
//! that is what the sending is known by.

use std::{
    cell::Cell,
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::{
    socket::{
        ControlMessageOwned, MsgFlags, TimestampingFlag, recvmsg, setsockopt, sockopt::Timestamping,
    },
    time::TimeSpec,
};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::{monotonic_ns, nanos};

/// Reads after which the distance between the two clocks is taken anew: they drift
/// apart only where somebody sets the time of day.
const READS_A_LOOK: u32 = 256;

/// Room for the one control message that is asked for: three time stamps and a head.
#[repr(align(8))]
struct Control([u8; 96]);

/// The time stamps of one socket.
#[derive(Debug)]
pub struct Stamps {
    /// What the clock of time stamps is ahead of the monotonic one by.
    ahead_ns: Cell<u64>,
    reads: Cell<u32>,
}

impl Stamps {
    /// Asks for time stamps on what a socket receives; `None` where the kernel makes none.
    pub fn on(socket: &impl AsFd) -> Option<Self> {
        let flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        setsockopt(socket, Timestamping, &flags).ok()?;
        Some(Self { ahead_ns: Cell::new(ahead_ns()), reads: Cell::new(0) })
    }

    /// Reads what is there, and says when the last of it came in, in nanoseconds of the monotonic
    /// clock; `None` where the kernel has not said.
    ///
    /// # Errors
    /// As recv(2): `WouldBlock` where nothing is there and the socket does not wait.
    pub fn receive(
        &self,
        socket: &impl AsRawFd,
        room: &mut [u8],
    ) -> io::Result<(usize, Option<u64>)> {
        let mut control = Control([0; 96]);
        let mut slices = [IoSliceMut::new(room)];
        let fd = socket.as_raw_fd();
        let received = recvmsg::<()>(fd, &mut slices, Some(&mut control.0), MsgFlags::empty())?;
        let stamp = received.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampsns(stamps) => since_1970(stamps.system),
                _ => None,
            })
        });
        let reads = self.reads.get();
        self.reads.set(reads.wrapping_add(1));
        if reads.is_multiple_of(READS_A_LOOK) {
            self.ahead_ns.set(ahead_ns());
        }
        let arrived_ns = stamp.and_then(|stamp_ns| stamp_ns.checked_sub(self.ahead_ns.get()));
        Ok((received.bytes, arrived_ns))
    }
}

/// Zero is no time stamp.
fn since_1970(time: TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let nanos = u64::try_from(time.tv_nsec()).ok()?;
    Some(seconds * 1_000_000_000 + nanos).filter(|&ns| ns > 0)
}

/// What the real-time clock is ahead of the monotonic one by: of three looks the one
/// that took the least time, which leaves a few nanoseconds.
fn ahead_ns() -> u64 {
    let look = || {
        let before = monotonic_ns();
        let real = nanos(clock_gettime(ClockId::Realtime));
        let after = monotonic_ns();
        (after - before, real.saturating_sub(u64::midpoint(before, after)))
    };
    [look(), look(), look()].into_iter().min().map_or(0, |(_, ahead)| ahead)
}
