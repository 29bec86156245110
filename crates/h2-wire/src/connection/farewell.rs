//! How a connection ends: the two steps of a drain, the GOAWAY of an error. And whether the other
//! end is still there.

use super::Connection;
use crate::error::{Error, Reason};
use crate::frame::{self, LARGEST_STREAM_ID};

/// The payload of the PING that asks whether the first GOAWAY has been read.
pub(super) const DRAIN_PING: [u8; 8] = *b"drain...";

/// The payload of the PING that asks whether the peer is there.
pub(super) const ALIVE_PING: [u8; 8] = *b"alive...";

/// How far our own farewell has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// GOAWAY with the largest id: streams still come, and are served.
    Announced,
    /// GOAWAY with a last stream; later ones are not looked at.
    Since(u32),
}

impl<T: Copy + Default> Connection<T> {
    /// Begins to drain: tells the peer to open no more streams, and asks with a PING whether it
    /// has read that. Streams that come meanwhile are served (RFC 9113, section 6.8).
    pub fn announce_leave(&mut self) {
        if self.leaving == Leaving::No && !self.is_failed {
            self.leaving = Leaving::Announced;
            frame::go_away(self.output.bytes_mut(), LARGEST_STREAM_ID, Reason::NO_ERROR, b"");
            frame::ping(self.output.bytes_mut(), DRAIN_PING, false);
        }
    }

    /// Goes on draining: names the last stream that is served, to be called when the PING of
    /// [`Connection::announce_leave`] was answered or took too long.
    pub fn leave(&mut self) {
        if matches!(self.leaving, Leaving::No | Leaving::Announced) && !self.is_failed {
            self.leaving = Leaving::Since(self.highest_peer_stream);
            frame::go_away(
                self.output.bytes_mut(),
                self.highest_peer_stream,
                Reason::NO_ERROR,
                b"",
            );
        }
    }

    /// Whether it leaves, and its last stream has ended.
    pub fn is_drained(&self) -> bool {
        matches!(self.leaving, Leaving::Since(_)) && self.streams.len() == 0
    }

    /// Whether [`Connection::leave`] has been called.
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::Since(_))
    }

    /// Says goodbye for an error. Nothing but the rest of the output is to be sent after it.
    pub fn fail(&mut self, error: &Error) {
        if self.is_failed {
            return;
        }
        self.is_failed = true;
        let what = match error {
            Error::Connection { what, .. } | Error::Stream { what, .. } => what,
        };
        let last = self.highest_peer_stream;
        frame::go_away(self.output.bytes_mut(), last, error.reason(), what.as_bytes());
    }

    /// Asks whether the peer is still there; [`super::Event::Alive`] is the answer. Does nothing while an
    /// answer is due.
    pub fn ask_alive(&mut self) {
        if !self.is_ping_due && !self.is_failed {
            self.is_ping_due = true;
            frame::ping(self.output.bytes_mut(), ALIVE_PING, false);
        }
    }

    /// Whether the answer to [`Connection::ask_alive`] is due.
    pub fn is_ping_due(&self) -> bool {
        self.is_ping_due
    }
}
