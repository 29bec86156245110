//! A TCP socket that tells when the kernel took in what was read from it.
//!
//! The kernel stamps each segment as the network device hands it over
//! (`SO_TIMESTAMPING` with software stamps, the kernel's `timestamping.rst`), and a read
//! reports the stamp of the last segment that it took bytes from. Two segments that wait
//! for one read therefore share the later stamp: a response is never said to have come
//! earlier than it did, and later only by what lies between the two.
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
use tokio::{io::Interest, net::TcpStream};

use crate::clock::{monotonic_ns, nanos};

/// Reads after which the distance between the two clocks is taken anew: they drift
/// apart only where somebody sets the time of day.
const READS_A_LOOK: u32 = 256;

/// Room for the one control message that is asked for: three time stamps and a head.
#[repr(align(8))]
struct Control([u8; 96]);

/// A socket, and when what was read from it came in.
pub(super) struct Stamped {
    socket: TcpStream,
    /// What the clock of time stamps is ahead of the monotonic one by; `None` where the
    /// kernel makes no time stamps.
    ahead_ns: Option<Cell<u64>>,
    reads: Cell<u32>,
    arrived_ns: Cell<Option<u64>>,
}

impl Stamped {
    /// Asks for time stamps. A kernel that makes none is no error.
    pub(super) fn new(socket: TcpStream) -> Self {
        let flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        let is_stamped = setsockopt(&socket.as_fd(), Timestamping, &flags).is_ok();
        Self {
            ahead_ns: is_stamped.then(|| Cell::new(ahead_ns())),
            socket,
            reads: Cell::new(0),
            arrived_ns: Cell::new(None),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// When the last of what was read came in, by the monotonic clock; `None` where that
    /// is not known.
    pub(super) fn arrived_ns(&self) -> Option<u64> {
        self.arrived_ns.get()
    }

    /// Reads what is there; `WouldBlock` where nothing is.
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match &self.ahead_ns {
            Some(ahead) => self.socket.try_io(Interest::READABLE, || self.receive(room, ahead)),
            None => self.socket.try_read(room),
        }
    }

    fn receive(&self, room: &mut [u8], ahead: &Cell<u64>) -> io::Result<usize> {
        let mut control = Control([0; 96]);
        let mut slices = [IoSliceMut::new(room)];
        let fd = self.socket.as_raw_fd();
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
            ahead.set(ahead_ns());
        }
        self.arrived_ns.set(stamp.and_then(|stamp_ns| stamp_ns.checked_sub(ahead.get())));
        Ok(received.bytes)
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

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    /// What is read says when it came: after it was sent, and before it was read, however
    /// long it lay there.
    #[tokio::test]
    async fn what_is_read_says_when_it_came() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let client = Stamped::new(client);
        assert_eq!(client.arrived_ns(), None, "nothing was read");
        // The kernel begins to stamp a while after the first socket has asked for it.
        let mut stamps = 0;
        while client.ahead_ns.is_some() && stamps < 3 {
            let before = monotonic_ns();
            server.write_all(b"abc").await.unwrap();
            client.socket().readable().await.unwrap();
            let mut room = [0; 8];
            let read = client.try_read(&mut room).unwrap();
            assert_eq!(&room[..read], b"abc");
            if let Some(arrived) = client.arrived_ns() {
                // The two clocks are compared by reading them.
                assert!(arrived + 2_000 >= before, "{arrived} before {before}");
                assert!(arrived <= monotonic_ns() + 2_000, "{arrived}");
                stamps += 1;
            }
            assert_eq!(client.try_read(&mut room).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}
