//! The bytes of a connection: a socket, or TLS on one.
//!
//! Both are driven by readiness and never wait in a read or a write, so that one
//! task moves both directions. In plain text a read and a write pay a comparison
//! for there being TLS.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice, Read, Write},
};

use rustls::ClientConnection;
use serve::tls;
use tokio::net::TcpStream;

use super::stamped::Stamped;
use crate::client::Trust;

/// What a link's bytes go over.
pub(super) enum Socket {
    Plain(Stamped),
    Secure(Box<Secure>),
}

/// A session of TLS on a socket.
pub(super) struct Secure {
    socket: Stamped,
    session: RefCell<ClientConnection>,
    /// Bytes that are decrypted may be left: the socket would not tell of them.
    has_more: Cell<bool>,
}

impl Socket {
    /// Takes a connection that was just made, and shakes hands on it where TLS is
    /// to be spoken.
    pub(super) async fn over(socket: TcpStream, trust: Option<&Trust>) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let Some(trust) = trust else { return Ok(Self::Plain(Stamped::new(socket))) };
        let (socket, session) = tls::connect(socket, trust.wire.clone()).await?.into_inner();
        let socket = Stamped::new(socket);
        let (session, has_more) = (RefCell::new(session), Cell::new(true));
        Ok(Self::Secure(Box::new(Secure { socket, session, has_more })))
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stamped) => stamped.socket().readable().await,
            Self::Secure(secure) if secure.has_more.get() => Ok(()),
            Self::Secure(secure) => secure.socket.socket().readable().await,
        }
    }

    /// Waits until there may be room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stamped) => stamped.socket().writable().await,
            Self::Secure(secure) => secure.socket.socket().writable().await,
        }
    }

    /// Reads what is there; `WouldBlock` where nothing is.
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stamped) => stamped.try_read(room),
            Self::Secure(secure) => secure.read(room),
        }
    }

    /// When the last of what was read came in, by the monotonic clock; `None` where the
    /// kernel doesn't tell.
    pub(super) fn arrived_ns(&self) -> Option<u64> {
        match self {
            Self::Plain(stamped) => stamped.arrived_ns(),
            Self::Secure(secure) => secure.socket.arrived_ns(),
        }
    }

    /// Takes what the socket, or the session before it, has room for.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stamped) => stamped.socket().try_write(bytes),
            Self::Secure(secure) => secure.write(bytes),
        }
    }

    /// Whether everything that was taken has left; `WouldBlock` where the socket
    /// has no room for it yet.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secure(secure) => secure.flush(),
        }
    }
}

impl Secure {
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Zero is an end that the server has announced.
                read => {
                    self.has_more.set(true);
                    return read;
                }
            }
            self.has_more.set(false);
            if session.read_tls(&mut Raw(&self.socket))? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Encrypts as much as may wait for the socket, after what waits already.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        self.session.borrow_mut().writer().write(bytes)
    }

    fn flush(&self) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            session.write_tls(&mut Raw(&self.socket))?;
        }
        Ok(())
    }
}

impl Drop for Secure {
    /// Says that nothing follows, as far as the socket has room.
    fn drop(&mut self) {
        self.session.borrow_mut().send_close_notify();
        let _ = self.flush();
    }
}

/// A socket as rustls wants it.
struct Raw<'a>(&'a Stamped);

impl Read for Raw<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.socket().try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.socket().try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
