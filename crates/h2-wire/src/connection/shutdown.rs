//! How a connection ends: the two steps of a drain, the GOAWAY of an error. And whether the other
//! end is still there.

use super::Connection;
use crate::{
    error::{Error, Reason},
    frame::{self, LARGEST_STREAM_ID},
};

/// The payload of the PING that asks whether the first GOAWAY has been read.
pub(super) const DRAIN_PING: [u8; 8] = *b"drain...";

/// The payload of the PING that asks whether the peer is there.
pub(super) const LIVENESS_PING: [u8; 8] = *b"alive...";

/// How far a drain of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// GOAWAY with the largest id: streams still come, and are served.
    Started,
    /// GOAWAY with a last stream; later ones are not looked at.
    Finished(u32),
}

impl<T: Copy + Default> Connection<T> {
    /// Begins to drain: tells the peer to open no more streams, and asks with a PING whether it
    /// has read that. Streams that come meanwhile are served (RFC 9113, section 6.8).
    pub fn start_drain(&mut self) {
        if self.drain == Drain::No && !self.is_failed {
            self.drain = Drain::Started;
            frame::go_away(self.output.bytes_mut(), LARGEST_STREAM_ID, Reason::NO_ERROR, b"");
            frame::ping(self.output.bytes_mut(), DRAIN_PING, false);
        }
    }

    /// Goes on draining: names the last stream that is served, to be called when the PING of
    /// [`Connection::start_drain`] was answered or took too long.
    pub fn finish_drain(&mut self) {
        if matches!(self.drain, Drain::No | Drain::Started) && !self.is_failed {
            self.drain = Drain::Finished(self.highest_peer_stream);
            let last = self.highest_peer_stream;
            frame::go_away(self.output.bytes_mut(), last, Reason::NO_ERROR, b"");
        }
    }

    /// Whether [`Connection::finish_drain`] has been called, and the last stream has ended.
    pub fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Finished(_)) && self.streams.len() == 0
    }

    /// Whether [`Connection::finish_drain`] has been called.
    pub fn is_drain_finished(&self) -> bool {
        matches!(self.drain, Drain::Finished(_))
    }

    /// Ends the connection for an error, with a GOAWAY that names it. Nothing but the rest of the output is to be sent after it.
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

    /// Asks with a PING whether the peer is still there; [`super::Event::PingAcknowledged`] is the
    /// answer. Does nothing while an answer is outstanding.
    pub fn ping(&mut self) {
        if !self.is_ping_outstanding && !self.is_failed {
            self.is_ping_outstanding = true;
            frame::ping(self.output.bytes_mut(), LIVENESS_PING, false);
        }
    }

    /// Whether the answer to [`Connection::ping`] is outstanding.
    pub fn is_ping_outstanding(&self) -> bool {
        self.is_ping_outstanding
    }
}
