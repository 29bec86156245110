//! Calls under way, and the connections that they are on.

use std::collections::VecDeque;

/// No key, no place.
pub(crate) const NONE: u32 = u32::MAX;

/// A call from when it is due to its end. Times are nanoseconds.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) due_ns: u64,
    /// When a stream was free for it.
    pub(crate) ready_ns: u64,
    pub(crate) picked_ns: u64,
    /// When it came to the backend, for the pass through the queue that it is in.
    pub(crate) arrived_ns: u64,
    pub(crate) queued_ns: u64,
    pub(crate) service_ns: u64,
    /// Calls that it found at the backend.
    pub(crate) found: u32,
    /// What chance has in store for it, the same for all ways to send it.
    pub(crate) luck: u64,
    pub(crate) connection: u32,
    /// The connection between balancer and backend that it is tied to; of L4 and none.
    pub(crate) link: u32,
    pub(crate) backend: u32,
    /// The backend's place in the view that picked it; `NONE` before that.
    pub(crate) place: u32,
    /// Passes through the queue that are left.
    pub(crate) passes: u32,
    pub(crate) stamp: u16,
    pub(crate) is_sent: bool,
    pub(crate) is_in_backend: bool,
}

/// A probe under way, to a backend at a place of its balancer's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) view: u32,
    pub(crate) backend: u32,
    pub(crate) listed: usize,
    /// What the backend answered, once it did.
    pub(crate) answer: Option<balance::Probe>,
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) in_flight: u32,
    /// Calls that wait for a stream.
    pub(crate) waiting: VecDeque<u32>,
    /// What it leads to, where connections are balanced.
    pub(crate) link: u32,
    /// Calls on it so far.
    pub(crate) made: u32,
    /// Whose turn is next, where connections go to backends in turn.
    pub(crate) turn: u32,
}

impl Connection {
    pub(crate) fn new(index: u32) -> Self {
        Self { in_flight: 0, waiting: VecDeque::new(), link: NONE, made: 0, turn: index }
    }
}

/// A connection to a backend that a client's connection is tied to. One that was
/// replaced stays until its calls have ended.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: u32,
    pub(crate) backend: u32,
    pub(crate) place: u32,
    pub(crate) in_flight: u32,
    pub(crate) opened_ns: u64,
    pub(crate) stamp: u16,
    pub(crate) is_closing: bool,
}
