//! One direction of a connection: bytes from a source to a sink.
//!
//! The thread's scratch buffer is read into and written from at once, so a
//! connection at rest owns no buffer. Only what the sink does not take is kept
//! in a buffer of its own, and until that is gone nothing more is read: the
//! source's window fills and its sender waits. That is all the backpressure
//! there is, and it needs no further bound.

use crate::io::Io;
use crate::side::{Received, Side};

/// Reads a direction may do before the other connections of the thread get
/// their turn. With a scratch buffer of 64 KiB this is 1 MiB.
const READS_PER_TURN: usize = 16;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    waiting: Option<Box<Held>>,
    stage: Stage,
    /// Bytes that the sink's socket took.
    delivered_bytes: u64,
}

/// Bytes that were read and not yet taken by the sink.
#[derive(Debug)]
struct Held {
    buffer: Vec<u8>,
    start: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source's end was read; it is passed on after what is waiting.
    Ending,
    /// Nothing more will be moved.
    Done,
}

/// Why a direction stopped moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// Until one of the sockets has an event.
    ForEvent,
    /// It had its share of the thread; there is more to do at once.
    ForOthers,
}

impl Flow {
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether bytes wait for the sink.
    pub(crate) fn is_blocked(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// Moves what can be moved now. Failures of either socket are noted in its
    /// [`Side`].
    pub(crate) fn pump(&mut self, source: &mut Side, sink: &mut Side, io: &mut Io) -> Paused {
        for _ in 0..READS_PER_TURN {
            if !self.flush(sink, io) {
                return Paused::ForEvent;
            }
            match self.stage {
                Stage::Open if source.readable => self.copy_once(source, sink, io),
                Stage::Open | Stage::Done => return Paused::ForEvent,
                Stage::Ending => {
                    sink.end();
                    self.stage = Stage::Done;
                    return Paused::ForEvent;
                }
            }
        }
        Paused::ForOthers
    }

    fn copy_once(&mut self, source: &mut Side, sink: &mut Side, io: &mut Io) {
        match source.receive(&mut io.scratch) {
            Received::Bytes(length) => {
                let sent = sink.send(&io.scratch[..length]);
                self.delivered_bytes += sent as u64;
                if sent < length {
                    let mut buffer = io.spare.take();
                    buffer.extend_from_slice(&io.scratch[sent..length]);
                    self.waiting = Some(Box::new(Held { buffer, start: 0 }));
                }
            }
            Received::End => self.stage = Stage::Ending,
            Received::Nothing => {}
        }
    }

    /// Sends what is waiting. Whether nothing waits any more.
    fn flush(&mut self, sink: &mut Side, io: &mut Io) -> bool {
        if sink.is_broken() {
            // Nobody is left to take it; the break is passed on as a reset.
            self.waiting = None;
            self.stage = Stage::Done;
        }
        let Some(held) = &mut self.waiting else { return true };
        if !sink.writable {
            return false;
        }
        let sent = sink.send(&held.buffer[held.start..]);
        self.delivered_bytes += sent as u64;
        held.start += sent;
        if held.start < held.buffer.len() {
            return false;
        }
        if let Some(held) = self.waiting.take() {
            io.spare.give(held.buffer);
        }
        true
    }
}
