//! One connection with its socket: what clients' connections and backends' have
//! in common.
//!
//! It holds what is known of the socket, the beginning of a frame that has not
//! come whole, and what is measured of either end's progress.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use event_loop::Readiness;
use h2_wire::connection::{Connection, Flood, Flushed, MAX_SLICES};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::keys::CallKey;
use super::secure::{Got, Secure};
use super::sweep::exceeds;
use crate::metrics::Ending;

/// Output beyond which nothing more is read from a remote that does not read
/// either: its PINGs and resets would grow it without bound.
const CHOKED_BYTES: usize = 1 << 20;

/// A connection and its socket.
pub(super) struct Endpoint {
    pub(super) http: Connection<CallKey>,
    socket: OwnedFd,
    /// The TLS session between the two, if there is one.
    secure: Option<Box<Secure>>,
    /// The rest of the output is the last, and what the remote still sends is
    /// thrown away.
    pub(super) is_ending: bool,
    /// The beginning of a frame that has not come whole.
    rest: Vec<u8>,
    pub(super) ready: Readiness,
    /// It is in the thread's list of those with something to write.
    pub(super) is_dirty: bool,
    /// It is in the thread's list of those with more to read.
    pub(super) is_queued: bool,
    /// When bytes last came, in milliseconds of the thread's clock.
    heard_ms: u64,
    /// When [`Connection::ping`] was last called.
    pinged_ms: u64,
    /// Since when a frame or a header block is incomplete.
    partial_since_ms: Option<u64>,
    /// Bytes written since the last sweep.
    wrote_bytes: u64,
    /// Since when output has been waiting without enough progress.
    stalled_since_ms: Option<u64>,
    /// What the kernel said when the socket broke.
    error: Option<Errno>,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes of the scratch buffer are input now.
    Input(usize),
    /// Nothing now.
    Nothing,
    /// The remote is gone, or will send no more.
    End,
}

/// What became of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of it was written.
    All,
    /// The kernel took less.
    Some,
    /// The remote is gone.
    Broken,
}

impl Endpoint {
    pub(super) fn new(
        http: Connection<CallKey>,
        socket: OwnedFd,
        secure: Option<Box<Secure>>,
        now_ms: u64,
    ) -> Self {
        Self {
            http,
            socket,
            secure,
            is_ending: false,
            rest: Vec::new(),
            ready: Readiness::default(),
            is_dirty: false,
            is_queued: false,
            heard_ms: now_ms,
            pinged_ms: 0,
            partial_since_ms: None,
            wrote_bytes: 0,
            stalled_since_ms: None,
            error: None,
        }
    }

    /// Whether a read is worth a try.
    pub(super) fn can_read(&self) -> bool {
        self.ready.readable && self.http.output_len() < CHOKED_BYTES
    }

    /// Puts the incomplete frame and what the kernel has behind it into
    /// `scratch`.
    pub(super) fn receive(&mut self, scratch: &mut [u8], now_ms: u64) -> Received {
        let start = self.rest.len();
        scratch[..start].copy_from_slice(&self.rest);
        if self.secure.is_some() {
            return self.receive_secure(scratch, now_ms);
        }
        let room = &mut scratch[start..];
        let length = room.len();
        let result =
            retry_on_intr(|| rustix::net::recv(&self.socket, &mut *room, RecvFlags::empty()));
        match result.map(|(received, _)| received) {
            Ok(0) => {
                self.ready.readable = false;
                Received::End
            }
            Ok(received) => {
                self.ready.read(received, length);
                self.heard_ms = now_ms;
                self.rest.clear();
                Received::Input(start + received)
            }
            Err(Errno::AGAIN) => {
                self.ready.emptied();
                Received::Nothing
            }
            Err(errno) => {
                self.ready.readable = false;
                self.error = Some(errno);
                Received::End
            }
        }
    }

    /// The same under TLS.
    #[cold]
    fn receive_secure(&mut self, scratch: &mut [u8], now_ms: u64) -> Received {
        let start = self.rest.len();
        let Some(secure) = &mut self.secure else { return Received::Nothing };
        let got = secure.read(self.socket.as_fd(), &mut scratch[start..]);
        // More may wait in the session, so only an empty read proves anything.
        self.ready.readable = matches!(got, Got::Bytes(_));
        match got {
            Got::Bytes(bytes) => {
                self.heard_ms = now_ms;
                self.rest.clear();
                Received::Input(start + bytes)
            }
            Got::Nothing => {
                self.ready.emptied();
                Received::Nothing
            }
            Got::End => Received::End,
        }
    }

    /// Whether HTTP/2 may be spoken: at once, or after TLS has shaken hands.
    pub(super) fn is_ready(&self) -> bool {
        self.secure.as_ref().is_none_or(|secure| secure.is_ready())
    }

    /// What went wrong under HTTP/2, if something did.
    pub(super) fn failure(&self) -> Option<String> {
        let secure = self.secure.as_ref().and_then(|secure| secure.failure());
        let error = || Some(std::io::Error::from(self.error?).to_string());
        secure.map(str::to_owned).or_else(error)
    }

    /// Whether there is something to be written.
    pub(super) fn wants_write(&self) -> bool {
        match &self.secure {
            None => self.http.wants_write(),
            Some(secure) => secure.wants_write() || secure.is_ready() && self.http.wants_write(),
        }
    }

    /// Keeps what is not a whole frame yet. `consumed` says whether anything
    /// before it was.
    pub(super) fn keep(&mut self, rest: &[u8], consumed: bool, now_ms: u64) {
        self.rest.extend_from_slice(rest);
        if self.http.is_in_block() {
            self.partial_since_ms.get_or_insert(now_ms);
        } else if rest.is_empty() {
            self.partial_since_ms = None;
        } else if consumed || self.partial_since_ms.is_none() {
            self.partial_since_ms = Some(now_ms);
        }
    }

    /// How long a frame or a header block has been incomplete.
    pub(super) fn partial_ms(&self, now_ms: u64) -> u64 {
        self.partial_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }

    /// Writes what there is, and reports what of the waiting went with it.
    pub(super) fn flush(&mut self, flushed: &mut Vec<Flushed<CallKey>>) -> Written {
        if self.secure.is_some() {
            return self.flush_secure(flushed);
        }
        loop {
            self.http.pump(flushed);
            let wanted = self.http.output_len();
            if wanted == 0 {
                return Written::All;
            }
            if !self.ready.writable {
                // It may take long, and what it shares is waited for.
                self.http.settle_output();
                return Written::Some;
            }
            match retry_on_intr(|| self.write()) {
                Ok((sent, tried)) => {
                    self.wrote_bytes += sent as u64;
                    self.ready.wrote(sent, tried);
                    self.http.wrote(sent);
                }
                Err(Errno::AGAIN) => self.ready.writable = false,
                Err(errno) => {
                    self.error.get_or_insert(errno);
                    return Written::Broken;
                }
            }
        }
    }

    /// The same under TLS.
    #[cold]
    fn flush_secure(&mut self, flushed: &mut Vec<Flushed<CallKey>>) -> Written {
        let Some(secure) = &mut self.secure else { return Written::All };
        loop {
            if self.ready.writable {
                match secure.drain(self.socket.as_fd()) {
                    Ok((written, is_all)) => {
                        self.wrote_bytes += written as u64;
                        self.ready.writable = is_all;
                    }
                    Err(_) => return Written::Broken,
                }
            }
            if secure.wants_write() || !secure.is_ready() {
                self.http.settle_output();
                return Written::Some;
            }
            self.http.pump(flushed);
            if self.http.output_len() == 0 {
                return Written::All;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.http.output_slices(&mut slices);
            let encrypted = secure.encrypt(&slices[..count]);
            if encrypted == 0 {
                return Written::Broken;
            }
            self.http.wrote(encrypted);
        }
    }

    /// One system call; gives how many bytes were written, and how many were
    /// to be.
    fn write(&self) -> Result<(usize, usize), Errno> {
        if self.http.is_output_plain() {
            let output = self.http.output();
            let sent = rustix::net::send(&self.socket, output, SendFlags::NOSIGNAL)?;
            return Ok((sent, output.len()));
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = self.http.output_slices(&mut slices);
        let slices = &slices[..count];
        let tried = slices.iter().map(|slice| slice.len()).sum();
        let mut control = SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL;
        let sent = rustix::net::sendmsg(&self.socket, slices, &mut control, flags)?;
        Ok((sent, tried))
    }

    /// Looks whether the remote takes what waits for its socket or for the
    /// connection's window; gives how long it has taken less than `least_bytes`
    /// from one look to the next, counted from the first look that found
    /// something waiting. A drip is no progress.
    pub(super) fn stalled_ms(&mut self, now_ms: u64, least_bytes: u64) -> u64 {
        let wrote_bytes = std::mem::take(&mut self.wrote_bytes);
        let sent_bytes = self.http.take_sent_bytes();
        let is_held = self.secure.as_ref().is_some_and(|secure| secure.wants_write());
        let has_output = self.http.output_len() > 0 || is_held;
        let is_socket_stalled = has_output && wrote_bytes < least_bytes;
        let is_window_stalled = self.http.is_window_awaited() && sent_bytes < least_bytes;
        if !is_socket_stalled && !is_window_stalled {
            self.stalled_since_ms = None;
            return 0;
        }
        now_ms.saturating_sub(*self.stalled_since_ms.get_or_insert(now_ms))
    }

    /// Asks a remote that has been `silent` for too long for a sign of life.
    /// Whether it was asked and has not answered within `patience`.
    pub(super) fn is_dead(&mut self, silent: Duration, patience: Duration, now_ms: u64) -> bool {
        let for_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        if self.http.is_ping_outstanding() {
            return self.heard_ms <= self.pinged_ms && exceeds(for_ms(self.pinged_ms), patience);
        }
        if exceeds(for_ms(self.heard_ms), silent) {
            self.pinged_ms = now_ms;
            self.http.ping();
        }
        false
    }

    /// What the remote's mistake is in the counts.
    pub(super) fn ending(&self) -> Ending {
        match self.http.flooded() {
            Some(Flood::Control | Flood::Stray) => Ending::ControlFlood,
            Some(Flood::Reset) => Ending::ResetFlood,
            None => Ending::Protocol,
        }
    }

    /// Passes an end on.
    pub(super) fn end(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.end(self.socket.as_fd());
        }
        // Fails only when the remote is gone already.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// The error of the socket, for a connection that was being made.
    pub(super) fn take_error(&self) -> Option<Errno> {
        match rustix::net::sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => None,
            Ok(Err(errno)) | Err(errno) => Some(errno),
        }
    }

    /// Gives back the memory that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.http.shrink();
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
