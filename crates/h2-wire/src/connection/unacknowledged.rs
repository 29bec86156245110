//! Resets of streams that the peer has not acknowledged to have taken up, and how many of them
//! there may be.
//!
//! A server that reads many streams and their resets before it has taken up the first of them ends
//! the connection (CVE-2023-44487): `h2` does so at 20. Over a connection that carries the calls
//! of many clients, one of them could end the calls of all others that way. So only so many resets
//! are under way at once that no server minds. Those beyond are held back: their streams stay open
//! towards the peer, count as open, and what comes on them is dropped.
//!
//! Two things show that a stream was taken up. One is a response on it, or on a later one, as
//! streams are taken up in their order. The other is the acknowledgement of a SETTINGS probe, an
//! empty SETTINGS frame that has to be acknowledged at once: between two reads of its socket a
//! server takes up one stream at least, so each stands for one. A PING would do the same, but
//! servers of gRPC count PINGs that come while they send nothing, and end the connection at the
//! third.
//!
//! Left out: resets that the peer's own mistakes call forth. It has looked at those streams.

use std::collections::BTreeMap;

use super::{Connection, Role};
use crate::{error::Reason, frame, stream::StreamKey};

/// What the peer has not acknowledged.
#[derive(Default)]
pub(super) struct Unacknowledged {
    /// The highest stream that has surely been taken up, and all below it.
    taken_up: u32,
    /// Streams above it that were reset.
    resets: Vec<u32>,
    /// Streams whose reset is held back, by identifier.
    held: BTreeMap<u32, (StreamKey, Reason)>,
    /// A probe is under way, which was sent when this was the highest stream.
    probed_at: Option<u32>,
}

impl Unacknowledged {
    /// Whether the reset of the stream is held back.
    #[inline]
    pub(super) fn holds(&self, id: u32) -> bool {
        !self.held.is_empty() && self.held.contains_key(&id)
    }

    /// The stream is over.
    #[inline]
    pub(super) fn forget(&mut self, id: u32) {
        if !self.held.is_empty() {
            self.held.remove(&id);
        }
    }

    fn note_taken_up(&mut self, id: u32) {
        if id > self.taken_up {
            self.taken_up = id;
            self.resets.retain(|reset| *reset > id);
        }
    }
}

impl<T: Copy + Default> Connection<T> {
    /// How many streams are open towards the peer only, as their resets are held back.
    #[inline]
    pub fn held_resets(&self) -> usize {
        self.unacknowledged.held.len()
    }

    /// Whether a reset of the stream has to wait, which is booked if not.
    pub(super) fn has_to_hold(&mut self, id: u32) -> bool {
        let most = self.options.max_unacknowledged_resets;
        if self.options.role == Role::Server
            || most == u32::MAX
            || id <= self.unacknowledged.taken_up
        {
            return false;
        }
        if self.unacknowledged.resets.len() >= most as usize {
            return true;
        }
        self.unacknowledged.resets.push(id);
        false
    }

    /// Holds the reset of a stream back. What waits to be sent on it is dropped.
    #[cold]
    pub(super) fn hold(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        self.waiting_bytes -= stream.held_bytes();
        stream.pending = None;
        stream.is_queued = false;
        self.unacknowledged.held.entry(key.id()).or_insert((key, reason));
        self.probe_if_needed();
    }

    fn probe_if_needed(&mut self) {
        if !self.unacknowledged.held.is_empty()
            && self.unacknowledged.probed_at.is_none()
            && !self.is_failed
        {
            self.unacknowledged.probed_at = Some(self.next_stream.saturating_sub(2));
            frame::settings(self.output.bytes_mut(), &[]);
        }
    }

    /// The peer acknowledged SETTINGS that were not our first: one more stream has been taken up.
    #[cold]
    pub(super) fn on_probe_acknowledged(&mut self) {
        if let Some(highest) = self.unacknowledged.probed_at.take() {
            let next = self.unacknowledged.taken_up.saturating_add(2).min(highest);
            self.unacknowledged.note_taken_up(next);
            self.release_held();
        }
    }

    /// The head of the response on a stream came.
    #[inline]
    pub(super) fn on_head(&mut self, id: u32) {
        if id > self.unacknowledged.taken_up {
            self.unacknowledged.note_taken_up(id);
            if !self.unacknowledged.held.is_empty() {
                self.release_held();
            }
        }
    }

    /// Sends the resets that need not be held back any longer.
    #[cold]
    fn release_held(&mut self) {
        while let Some((&id, &(key, reason))) = self.unacknowledged.held.first_key_value() {
            if self.has_to_hold(id) {
                break;
            }
            self.send_reset(key, reason);
        }
        self.probe_if_needed();
    }
}
