//! A TCP socket that tells when the kernel took in what was read from it.
//!
//! Two segments that wait for one read share the later stamp: a response is never said to have
//! come earlier than it did, and later only by what lies between the two.

use std::{cell::Cell, io};

use tokio::{io::Interest, net::TcpStream};

use crate::stamps::Stamps;

/// A socket, and when what was read from it came in.
pub(super) struct Stamped {
    socket: TcpStream,
    /// `None` where the kernel makes no time stamps.
    stamps: Option<Stamps>,
    arrived_ns: Cell<Option<u64>>,
}

impl Stamped {
    /// Asks for time stamps. A kernel that makes none is no error.
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { stamps: Stamps::on(&socket), socket, arrived_ns: Cell::new(None) }
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
        let Some(stamps) = &self.stamps else { return self.socket.try_read(room) };
        self.socket.try_io(Interest::READABLE, || {
            let (length, arrived_ns) = stamps.receive(&self.socket, room)?;
            self.arrived_ns.set(arrived_ns);
            Ok(length)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::clock::monotonic_ns;

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
        while client.stamps.is_some() && stamps < 3 {
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
