//! How calls and connections know each other. A call knows its connections and a connection its
//! calls: so keys are of names, and neither has to know what the other is.

use event_loop::Key;

/// Names what a key is of.
pub(super) enum OfCall {}
pub(super) enum OfClient {}
pub(super) enum OfLink {}
pub(super) enum OfPool {}

/// The key of a call.
pub(super) type CallKey = Key<OfCall>;

/// The key of a client's connection.
pub(super) type ClientKey = Key<OfClient>;

/// The key of a connection to a backend.
pub(super) type LinkKey = Key<OfLink>;

/// The key of all the connections of a thread to one backend.
pub(super) type PoolKey = Key<OfPool>;
