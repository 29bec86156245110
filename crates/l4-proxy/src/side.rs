//! One socket of a connection, and what is known of it.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use event_loop::{EventFlags, Readiness, reset_on_close};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvFlags, SendFlags, Shutdown},
    pipe::{SpliceFlags, splice},
};

use crate::pipes::Pipe;

/// A socket and what is known of it.
#[derive(Debug)]
pub(crate) struct Side {
    socket: OwnedFd,
    pub(crate) ready: Readiness,
    /// The kernel reported an error: reading up to it ends in a reset.
    failed: bool,
    /// A write failed: the remote is gone. What it sent before it went may still
    /// be in the queue, and is worth delivering.
    broken: bool,
    /// The remote reset the connection and nothing is left to read.
    reset: bool,
    /// The remote's end was read.
    ended: bool,
    /// The remote has sent urgent data at some time, which a splice does not get
    /// past.
    urgent: bool,
    /// The kernel reported the remote's end, which is not read yet.
    hung_up: bool,
}

/// How a splice between a socket and a pipe waits: not at all.
const SPLICE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes(usize),
    /// The remote sent its end.
    End,
    /// Nothing now, or nothing ever again: see [`Side::is_reset`].
    Nothing,
}

impl Side {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            ready: Readiness::default(),
            failed: false,
            broken: false,
            reset: false,
            ended: false,
            urgent: false,
            hung_up: false,
        }
    }

    /// Remembers what an edge said.
    pub(crate) fn note(&mut self, flags: EventFlags) {
        self.ready.note(flags);
        self.hung_up |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        self.urgent |= flags.contains(EventFlags::PRI);
        // After the remote's end nobody reads here any more, so an error would
        // go unnoticed until the next write.
        if flags.contains(EventFlags::ERR) {
            self.failed = true;
            self.reset |= self.ended;
        }
    }

    /// Whether the remote reset the connection.
    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether the kernel reported an error that reading has not reached.
    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }

    /// Whether its remote uses urgent data.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Looks at what is there without taking it.
    pub(crate) fn peek(&mut self, buffer: &mut [u8]) -> Received {
        let result =
            retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::PEEK));
        match result {
            Ok((0, _)) => Received::End,
            Ok((length, _)) => Received::Bytes(length),
            Err(Errno::AGAIN) => {
                self.ready.readable = false;
                Received::Nothing
            }
            Err(_) => {
                self.reset = true;
                Received::Nothing
            }
        }
    }

    /// Whether the remote has sent its end, though bytes may lie in front of it.
    pub(crate) fn is_ending(&self) -> bool {
        self.hung_up
    }

    /// The address of this machine that the remote connected to.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        rustix::net::getsockname(&self.socket).ok()?.try_into().ok()
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let room = buffer.len();
        let result =
            retry_on_intr(|| rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()));
        self.received(result.map(|(length, _)| length), room)
    }

    /// Draws the conclusions from a read of at most `room` bytes.
    pub(crate) fn received(&mut self, result: Result<usize, Errno>, room: usize) -> Received {
        match result {
            Ok(0) => {
                self.ready.readable = false;
                self.ended = true;
                // Once an error was reported by a write, the kernel reports
                // the end of the queue as an ordinary end.
                self.reset = self.broken;
                if self.reset { Received::Nothing } else { Received::End }
            }
            Ok(length) => {
                self.ready.read(length, room);
                Received::Bytes(length)
            }
            Err(Errno::AGAIN) => {
                self.ready.emptied();
                Received::Nothing
            }
            Err(_) => {
                self.ready.readable = false;
                self.reset = true;
                Received::Nothing
            }
        }
    }

    /// Moves what there is, at most `most` bytes, into an empty pipe.
    pub(crate) fn splice_into(&mut self, pipe: &mut Pipe, most: usize) -> Received {
        let result = retry_on_intr(|| splice(&self.socket, None, pipe.inlet(), None, most, SPLICE));
        let received = self.received(result, most);
        if let Received::Bytes(length) = received {
            // A splice also stops when the pipe has no slot left, so a short
            // one says nothing about the queue.
            self.ready.readable = true;
            pipe.held_bytes = length;
        }
        received
    }

    /// Moves what is in the pipe to the remote; the bytes that the kernel took. A
    /// splice to a remote that is gone raises SIGPIPE on some kernels, which Rust
    /// programs ignore from their start.
    pub(crate) fn splice_from(&mut self, pipe: &mut Pipe) -> usize {
        let wanted = pipe.held_bytes;
        let result =
            retry_on_intr(|| splice(pipe.outlet(), None, &self.socket, None, wanted, SPLICE));
        let sent = self.sent(result, wanted);
        pipe.held_bytes -= sent;
        sent
    }

    /// Sends what the kernel takes; fewer bytes than given when it is full or
    /// the remote is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let result = retry_on_intr(|| rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL));
        self.sent(result, bytes.len())
    }

    /// Draws the conclusions from a write of `wanted` bytes.
    pub(crate) fn sent(&mut self, result: Result<usize, Errno>, wanted: usize) -> usize {
        match result {
            Ok(length) => {
                self.ready.wrote(length, wanted);
                length
            }
            Err(Errno::AGAIN) => {
                self.ready.writable = false;
                0
            }
            Err(_) => {
                self.break_off();
                0
            }
        }
    }

    /// Whether a write has failed for good.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    fn break_off(&mut self) {
        self.ready.writable = false;
        self.broken = true;
        if self.ended {
            self.reset = true;
        } else {
            // Read what is left, up to the error.
            self.ready.expect_end();
        }
    }

    /// Passes the other side's end on.
    pub(crate) fn end(&mut self) {
        // Fails only when the remote is gone, which the next event says.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// Makes the coming close a reset: the remote learns that the stream was cut
    /// and did not end.
    pub(crate) fn reset_on_close(&self) {
        reset_on_close(&self.socket);
    }
}

impl AsFd for Side {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
