//! TLS under a connection: rustls' session between the socket and HTTP/2.
//!
//! The session is driven by the same edges as plain sockets and never waits.
//! What it has encrypted and the socket has not taken is bounded
//! ([`CIPHERTEXT_BYTES`]); all other output stays where HTTP/2 counts it. Plain
//! connections pay a comparison for it in a read and in a write.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use serve::Counter;

use crate::tls::H2;

/// Encrypted bytes that may wait for the socket.
const CIPHERTEXT_BYTES: usize = 64 << 10;

/// The session of one connection.
pub(super) struct Secure {
    session: Connection,
    /// The handshake is over, and HTTP/2 was agreed on.
    is_ready: bool,
    failure: Option<String>,
    ok: Counter,
    failed: Counter,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(usize),
    Nothing,
    End,
}

impl Secure {
    /// The server's end; handshakes are counted in `ok` and `failed`.
    pub(super) fn server(
        config: Arc<ServerConfig>,
        ok: Counter,
        failed: Counter,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(ServerConnection::new(config)?.into(), ok, failed))
    }

    /// The client's end.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        ok: Counter,
        failed: Counter,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into(), ok, failed))
    }

    fn new(mut session: Connection, ok: Counter, failed: Counter) -> Self {
        session.set_buffer_limit(Some(CIPHERTEXT_BYTES));
        Self { session, is_ready: false, failure: None, ok, failed }
    }

    /// Whether HTTP/2 may be spoken.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// What went wrong, if something did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether encrypted bytes wait for the socket.
    pub(super) fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Reads what was sent to us, as far as it is there.
    pub(super) fn read(&mut self, socket: BorrowedFd<'_>, room: &mut [u8]) -> Got {
        loop {
            match self.session.reader().read(room) {
                // The remote has said that it ends.
                Ok(0) => return Got::End,
                Ok(bytes) => return Got::Bytes(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return self.fail(error.to_string()),
            }
            match self.session.read_tls(&mut Wire(socket)) {
                Ok(0) => return self.fail("it was closed".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
                Err(error) => return self.fail(error.to_string()),
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that says what was wrong; nobody waits for it.
                let _ = self.session.write_tls(&mut Wire(socket));
                return self.fail(error.to_string());
            }
            if !self.is_ready && !self.session.is_handshaking() {
                if self.session.alpn_protocol() != Some(H2) {
                    self.session.send_close_notify();
                    let _ = self.session.write_tls(&mut Wire(socket));
                    return self.fail("it did not agree on HTTP/2 (ALPN)".to_owned());
                }
                self.is_ready = true;
                self.ok.inc();
            }
        }
    }

    fn fail(&mut self, reason: String) -> Got {
        if !self.is_ready && self.failure.is_none() {
            self.failed.inc();
            self.failure = Some(reason);
        }
        Got::End
    }

    /// Writes encrypted bytes until none wait or the socket takes no more. Gives
    /// how many it took.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(super) fn drain(&mut self, socket: BorrowedFd<'_>) -> io::Result<(usize, bool)> {
        let mut written = 0;
        while self.session.wants_write() {
            match self.session.write_tls(&mut Wire(socket)) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((written, false));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((written, true))
    }

    /// Encrypts as much as may wait; gives how many bytes.
    pub(super) fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> usize {
        // It only fails where a session could not encrypt, and then it takes
        // nothing.
        self.session.writer().write_vectored(slices).unwrap_or_default()
    }

    /// Says that nothing follows.
    pub(super) fn end(&mut self, socket: BorrowedFd<'_>) {
        self.session.send_close_notify();
        let _ = self.drain(socket);
    }
}

/// A socket as rustls wants it.
struct Wire<'a>(BorrowedFd<'a>);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let received = retry_on_intr(|| rustix::net::recv(self.0, &mut *room, RecvFlags::empty()));
        received.map(|(bytes, _)| bytes).map_err(io::Error::from)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = || -> Result<usize, Errno> {
            let mut control = SendAncillaryBuffer::default();
            rustix::net::sendmsg(self.0, slices, &mut control, SendFlags::NOSIGNAL)
        };
        retry_on_intr(send).map_err(io::Error::from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
