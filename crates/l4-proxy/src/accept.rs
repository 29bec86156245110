//! The door: taking connections out of the kernel's queue.
//!
//! Its hard part is what to do when a connection can't be taken. `accept(2)`
//! that fails for want of descriptors leaves the connection in the queue, so
//! the listener stays readable and a plain loop would spin. The door keeps one
//! spare descriptor to take such a connection and reset it, and where that is
//! no help it closes for a bounded moment.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with, sockopt};

/// How long the door stays closed when the system is out of something. Long
/// against a turn of the loop, short against a client's patience.
pub(crate) const REST_MS: u64 = 50;

const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket and the means to turn connections away.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    keepalive: Option<Duration>,
    /// Held only to be given up when descriptors run out.
    spare: Option<File>,
    /// Accepted sockets have the listener's options. Those that were in the
    /// queue before the options were set don't, until the queue has been empty
    /// once.
    inherits: bool,
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub(crate) enum Knock {
    /// A client, its options set.
    Connection(OwnedFd, SocketAddr),
    /// The queue is empty.
    Nobody,
    /// One connection died in the queue; go on with the next.
    Died,
    /// No descriptor was left: one connection was reset instead.
    Shed,
    /// The system is out of something: close for [`REST_MS`].
    Exhausted,
    /// The listener itself is broken.
    Broken(Errno),
}

impl Door {
    /// A door that gives each connection the options of
    /// [`set_options`].
    pub(crate) fn new(listener: TcpListener, keepalive: Option<Duration>) -> Result<Self, Errno> {
        set_options(&listener, keepalive)?;
        Ok(Self { listener, spare: open_spare(), keepalive, inherits: false })
    }

    /// Takes one connection out of the queue.
    pub(crate) fn answer(&mut self) -> Knock {
        match acceptfrom_with(&self.listener, ACCEPTED) {
            Ok((socket, address)) => match address.map(SocketAddr::try_from) {
                Some(Ok(address)) => {
                    if !self.inherits {
                        // It fails on a dead socket only, which its first
                        // event reports.
                        let _ = set_options(&socket, self.keepalive);
                    }
                    Knock::Connection(socket, address)
                }
                // Its peer vanished between the handshake and now.
                _ => Knock::Died,
            },
            Err(Errno::AGAIN) => {
                self.inherits = true;
                Knock::Nobody
            }
            Err(errno) => match classify(errno) {
                Failure::Connection => Knock::Died,
                Failure::Exhausted => self.shed(),
                Failure::Listener => Knock::Broken(errno),
            },
        }
    }

    fn shed(&mut self) -> Knock {
        if self.spare.take().is_none() {
            self.spare = open_spare();
            return Knock::Exhausted;
        }
        let taken = accept_with(&self.listener, ACCEPTED);
        let knock = match taken {
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
pub(crate) fn turn_away(socket: OwnedFd) {
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

/// Small writes leave at once; and, where asked for, the kernel probes a peer
/// after `keepalive` of silence, three times, and then reports it as gone. What
/// a listener is told holds for the connections that it accepts from then on.
pub(crate) fn set_options(socket: impl AsFd, keepalive: Option<Duration>) -> Result<(), Errno> {
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    let Some(idle) = keepalive else { return Ok(()) };
    let idle = idle.max(Duration::from_secs(1));
    let between = (idle / 3).max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, between)?;
    sockopt::set_tcp_keepcnt(socket, 3)
}

fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whose trouble a failed `accept` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Connection,
    Exhausted,
    Listener,
}

/// Linux reports errors of a connection that is still in the queue as errors
/// of `accept` (accept(2), "Error handling"), so only a few of them are about
/// the listener.
fn classify(errno: Errno) -> Failure {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => {
            Failure::Exhausted
        }
        Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => {
            Failure::Listener
        }
        _ => Failure::Connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    fn door() -> (Door, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (Door::new(listener, Some(Duration::from_secs(60))).unwrap(), address)
    }

    #[test]
    fn connections_have_their_options_whether_they_came_early_or_late() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let _early = TcpStream::connect(address).unwrap();
        let mut door = Door::new(listener, Some(Duration::from_secs(60))).unwrap();
        for _ in 0..2 {
            let Knock::Connection(socket, _) = door.answer() else { panic!("nobody") };
            assert!(sockopt::tcp_nodelay(&socket).unwrap());
            assert!(sockopt::socket_keepalive(&socket).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), Duration::from_secs(60));
            assert!(matches!(door.answer(), Knock::Nobody));
            assert!(door.inherits);
            drop(TcpStream::connect(address).unwrap());
        }
    }

    #[test]
    fn a_connection_is_taken_with_its_address() {
        let (mut door, address) = door();
        assert!(matches!(door.answer(), Knock::Nobody));
        let client = TcpStream::connect(address).unwrap();
        let Knock::Connection(_, peer) = door.answer() else { panic!("nobody") };
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn the_spare_descriptor_resets_one_connection_and_is_taken_back() {
        let (mut door, address) = door();
        let mut client = TcpStream::connect(address).unwrap();
        assert!(matches!(door.shed(), Knock::Shed));
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(door.shed(), Knock::Nobody), "the spare serves again");
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(classify(Errno::MFILE), Failure::Exhausted);
        assert_eq!(classify(Errno::NOMEM), Failure::Exhausted);
        assert_eq!(classify(Errno::CONNABORTED), Failure::Connection);
        assert_eq!(classify(Errno::HOSTUNREACH), Failure::Connection);
        assert_eq!(classify(Errno::BADF), Failure::Listener);
    }
}
