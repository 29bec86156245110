//! The door: taking connections out of the kernel's queue, also when there are
//! no descriptors left to take them with.
//!
//! `accept(2)` that fails for want of descriptors leaves the connection in the
//! queue, so that a plain loop would spin. The door keeps one spare descriptor
//! to take such a connection and reset it, and where that is no help it asks to
//! be left closed for a moment.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

/// How long the door stays closed when the system is out of something. Long
/// against a turn of the loop, short against a client's patience.
pub(super) const REST_NS: u64 = 50_000_000;

const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket and the means to turn connections away.
pub(super) struct Door {
    listener: TcpListener,
    /// Held only to be given up when descriptors run out.
    spare: Option<File>,
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub(super) enum Knock {
    Connection(OwnedFd),
    /// The queue is empty.
    Nobody,
    /// One connection died in the queue; go on with the next.
    Died,
    /// No descriptor was left: one connection was reset instead.
    Shed,
    /// The system is out of something: close for [`REST_NS`].
    Exhausted,
    /// The listener itself is broken.
    Broken(Errno),
}

impl Door {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, spare: open_spare() }
    }

    /// Takes one connection out of the queue.
    pub(super) fn answer(&mut self) -> Knock {
        match accept_with(&self.listener, ACCEPTED) {
            Ok(socket) => Knock::Connection(socket),
            Err(Errno::AGAIN) => Knock::Nobody,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => {
                self.shed()
            }
            // Linux reports errors of a connection that is still in the queue
            // as errors of accept(2); only these are about the listener.
            Err(
                errno @ (Errno::BADF
                | Errno::FAULT
                | Errno::INVAL
                | Errno::NOTSOCK
                | Errno::OPNOTSUPP),
            ) => Knock::Broken(errno),
            Err(_) => Knock::Died,
        }
    }

    fn shed(&mut self) -> Knock {
        if self.spare.take().is_none() {
            self.spare = open_spare();
            return Knock::Exhausted;
        }
        let knock = match accept_with(&self.listener, ACCEPTED) {
            Ok(socket) => {
                turn_away(socket);
                Knock::Shed
            }
            Err(Errno::AGAIN) => Knock::Nobody,
            Err(_) => Knock::Exhausted,
        };
        self.spare = open_spare();
        knock
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Closes a connection with a reset: its client learns at once that it is not
/// served, and no port stays in TIME_WAIT on either side.
pub(super) fn turn_away(socket: OwnedFd) {
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    #[test]
    fn the_spare_descriptor_resets_one_connection_and_is_taken_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = Door::new(listener);
        assert!(matches!(door.answer(), Knock::Nobody));
        let mut client = TcpStream::connect(address).unwrap();
        assert!(matches!(door.shed(), Knock::Shed));
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(door.shed(), Knock::Nobody), "the spare serves again");
    }
}
