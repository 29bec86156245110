//! One connection to a backend: its places, and when it ends.

use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
};

use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tokio::sync::Notify;

use super::replay_body::ReplayBody;
use crate::config::UpstreamLimits;

/// What calls are sent with.
pub(super) type Sender = SendRequest<ReplayBody<Incoming>>;

/// The last stream identifier, which is left out; a client has the odd ones, one for
/// each call (RFC 9113, section 5.1.1).
const LAST_STREAM: u32 = (1 << 31) - 1;

/// One connection.
pub(super) struct Connection {
    sender: Sender,
    places: RefCell<Places>,
    /// Told when a place may have become free.
    changed: Rc<Notify>,
    /// Told when the connection may be over.
    over: Notify,
}

impl Connection {
    pub(super) fn new(sender: Sender, limits: &UpstreamLimits, changed: Rc<Notify>) -> Self {
        let streams_left = LAST_STREAM.saturating_sub(limits.backend_first_stream) / 2;
        let places = RefCell::new(Places::new(limits, streams_left));
        Self { sender, places, changed, over: Notify::new() }
    }

    pub(super) fn places(&self) -> RefMut<'_, Places> {
        self.places.borrow_mut()
    }

    /// A place on it, if it has one.
    pub(super) fn lease(self: &Rc<Self>) -> Option<Lease> {
        let has_place = !self.sender.is_closed() && self.places().take();
        has_place.then(|| Lease(Rc::clone(self)))
    }

    /// It takes no more calls, and is over when it has none.
    pub(super) fn leave(&self) {
        self.places().is_leaving = true;
        self.over.notify_one();
    }

    /// Waits until it leaves and has no call.
    pub(super) async fn over(&self) {
        while !self.places().is_over() {
            self.over.notified().await;
        }
    }
}

/// A call's place on a connection, kept until the call is over.
pub(super) struct Lease(Rc<Connection>);

impl Lease {
    pub(super) fn places(&self) -> RefMut<'_, Places> {
        self.0.places()
    }

    /// What the call is sent with.
    pub(super) fn sender(&self) -> Sender {
        self.0.sender.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.places().taken -= 1;
        self.0.changed.notify_one();
        self.0.over.notify_one();
    }
}

/// The places of a connection.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: u32,
    /// How many the backend allows, within our own bound.
    limit: u32,
    max: u32,
    /// Calls it has yet to carry before its stream identifiers are used up.
    streams_left: u32,
    /// Calls that either side has yet to reset before it makes way for another.
    resets_left: u32,
    /// It takes no more calls: it was told to go, or is used up.
    pub(super) is_leaving: bool,
    /// A response has come on it.
    pub(super) has_served: bool,
}

impl Places {
    fn new(limits: &UpstreamLimits, streams_left: u32) -> Self {
        let (max, resets_left) = (limits.backend_max_streams, limits.backend_max_resets);
        Self { max, streams_left, resets_left, ..Self::default() }
    }

    /// The backend allows so many calls at once. True if it allowed fewer before.
    pub(super) fn allow(&mut self, allowed: usize) -> bool {
        let before = self.limit;
        self.limit = u32::try_from(allowed).unwrap_or(u32::MAX).min(self.max);
        before < self.limit
    }

    /// Whether the backend allows no call at all for now.
    pub(super) fn are_none(&self) -> bool {
        self.limit == 0
    }

    fn take(&mut self) -> bool {
        let may = !self.is_leaving && self.taken < self.limit;
        if may {
            self.taken += 1;
            self.streams_left = self.streams_left.saturating_sub(1);
            self.is_leaving = self.streams_left == 0;
        }
        may
    }

    /// A call was reset, by either side. A connection that has seen many makes way
    /// for a new one, before the backend has enough of it: true when it does now.
    pub(super) fn note_reset(&mut self) -> bool {
        self.resets_left = self.resets_left.saturating_sub(1);
        self.resets_left == 0 && !std::mem::replace(&mut self.is_leaving, true)
    }

    /// Whether it leaves and has no call.
    pub(super) fn is_over(&self) -> bool {
        self.is_leaving && self.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_settings_and_end_with_the_stream_identifiers() {
        let mut places = Places::new(&UpstreamLimits::default(), 6);
        assert!(!places.take() && places.are_none(), "before SETTINGS");
        assert!(places.allow(3));
        let taken: Vec<_> = (0..4).map(|_| places.take()).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert!(!places.allow(2) && !places.take());
        assert!(places.allow(usize::MAX));
        let taken: Vec<_> = (0..4).map(|_| places.take()).collect();
        assert_eq!(taken, [true, true, true, false], "six in all");
        assert!(places.is_leaving && !places.is_over());
    }
}
