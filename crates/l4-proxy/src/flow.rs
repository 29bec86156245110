//! One direction of a connection: bytes from a source to a sink.
//!
//! The thread's scratch buffer is read into and written from at once, or a pipe
//! of the thread's is spliced into and out of at once, so a connection at rest
//! owns neither. Only what the sink does not take is kept, in a buffer or the
//! pipe it is in, and until that is gone nothing more is read: the source's
//! window fills and its sender waits. That is all the backpressure there is,
//! and it needs no further bound.

use crate::{
    config::DataPlane,
    gear::Gear,
    io::Io,
    pipes::Pipe,
    side::{Received, Side},
};

/// Reads a direction may do, and bytes it may pass on, before the other
/// connections of the thread get their turn. A splice can move as much at once
/// as many reads.
const READS_PER_TURN: usize = 16;
const BYTES_PER_TURN: u64 = 1 << 20;

/// Bytes asked for in one splice, and so the most that a pipe ever holds. Its
/// slots are mostly the nearer limit.
const SPLICE_BYTES: usize = 1 << 20;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    waiting: Option<Box<Held>>,
    stage: Stage,
    gear: Gear,
    /// Bytes that the sink's socket took.
    delivered_bytes: u64,
}

/// Bytes that were read and not yet taken by the sink.
#[derive(Debug)]
enum Held {
    Copied { buffer: Vec<u8>, start: usize },
    Piped(Pipe),
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
    /// Whether nothing was read of its source yet, not even its end.
    pub(crate) fn is_untouched(&self) -> bool {
        self.stage == Stage::Open && self.waiting.is_none() && self.delivered_bytes == 0
    }

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
    /// [`Side`]. With `is_last`, the other direction is done, and both sockets
    /// are closed when this one is, which sends the end along.
    pub(crate) fn pump(
        &mut self,
        source: &mut Side,
        sink: &mut Side,
        io: &mut Io,
        is_last: bool,
    ) -> Paused {
        let begun_bytes = self.delivered_bytes;
        for _ in 0..READS_PER_TURN {
            if !self.flush(sink, io) {
                return Paused::ForEvent;
            }
            if self.delivered_bytes - begun_bytes >= BYTES_PER_TURN {
                break;
            }
            match self.stage {
                Stage::Open if source.ready.readable => self.move_once(source, sink, io),
                Stage::Open | Stage::Done => return Paused::ForEvent,
                Stage::Ending => {
                    if !is_last {
                        sink.end();
                    }
                    self.stage = Stage::Done;
                    return Paused::ForEvent;
                }
            }
        }
        Paused::ForOthers
    }

    fn move_once(&mut self, source: &mut Side, sink: &mut Side, io: &mut Io) {
        let wants_splice = match io.plane {
            DataPlane::Copy => false,
            DataPlane::Splice => true,
            DataPlane::Auto => self.gear.is_splicing(),
        };
        // A splice stops at urgent data for good, a read passes it.
        let pipe = if wants_splice && !source.is_urgent() { io.pipes.take() } else { None };
        match pipe {
            Some(pipe) => self.splice_once(pipe, source, sink, io),
            None => self.copy_once(source, sink, io),
        }
    }

    fn copy_once(&mut self, source: &mut Side, sink: &mut Side, io: &mut Io) {
        match source.receive(&mut io.scratch) {
            Received::Bytes(length) => {
                self.gear.note(length);
                let sent = sink.send(&io.scratch[..length]);
                self.delivered_bytes += sent as u64;
                if sent < length {
                    let mut buffer = io.buffers.take();
                    buffer.extend_from_slice(&io.scratch[sent..length]);
                    self.waiting = Some(Box::new(Held::Copied { buffer, start: 0 }));
                }
            }
            Received::End => self.stage = Stage::Ending,
            Received::Nothing => {}
        }
    }

    fn splice_once(&mut self, mut pipe: Pipe, source: &mut Side, sink: &mut Side, io: &mut Io) {
        match source.splice_into(&mut pipe, SPLICE_BYTES) {
            Received::Bytes(length) => {
                self.gear.note(length);
                let sent = sink.splice_from(&mut pipe);
                self.delivered_bytes += sent as u64;
                io.spliced_bytes += sent as u64;
                if sent < length {
                    self.waiting = Some(Box::new(Held::Piped(pipe)));
                    return;
                }
            }
            Received::End => self.stage = Stage::Ending,
            Received::Nothing => {}
        }
        io.pipes.give(pipe);
    }

    /// Sends what is waiting. Whether nothing waits any more.
    fn flush(&mut self, sink: &mut Side, io: &mut Io) -> bool {
        if sink.is_broken() {
            // Nobody is left to take it; the break is passed on as a reset.
            self.waiting = None;
            self.stage = Stage::Done;
        }
        let Some(held) = &mut self.waiting else { return true };
        if !sink.ready.writable {
            return false;
        }
        let is_empty = match &mut **held {
            Held::Copied { buffer, start } => {
                let sent = sink.send(&buffer[*start..]);
                self.delivered_bytes += sent as u64;
                *start += sent;
                *start == buffer.len()
            }
            Held::Piped(pipe) => {
                let sent = sink.splice_from(pipe);
                self.delivered_bytes += sent as u64;
                io.spliced_bytes += sent as u64;
                pipe.held_bytes == 0
            }
        };
        if is_empty {
            match self.waiting.take().map(|held| *held) {
                Some(Held::Copied { buffer, .. }) => io.buffers.put(buffer),
                Some(Held::Piped(pipe)) => io.pipes.give(pipe),
                None => {}
            }
        }
        is_empty
    }
}
