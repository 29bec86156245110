//! One connection to a backend, in the eyes of those who put calls on it: its
//! places, what its backend says of it, and what is held of the calls there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper::client::conn::http2::SendRequest;
use tokio::sync::{Notify, mpsc, watch};

use super::frame_walk::Observer;
use super::held::{Kept, Resets};
use super::request_body::RequestBody;
use super::tap::Question;
use crate::config::UpstreamLimits;
use crate::metrics::GuardCounters;

/// One connection.
pub(super) struct Connection {
    /// Set once, when the connection is ready.
    sender: OnceLock<SendRequest<RequestBody>>,
    stage: watch::Sender<Stage>,
    /// Told when the first SETTINGS arrive.
    settings: Notify,
    /// Calls on it, and calls that wait for it to be ready.
    leases: AtomicU32,
    limit: AtomicU32,
    /// Our own bound, which SETTINGS can only lower.
    cap: u32,
    leaving: AtomicBool,
    /// Told when the last call of a connection that leaves has ended.
    over: Notify,
    resets: Resets,
    /// Where calls go whose reset is held back, and how many are there.
    keeper: mpsc::UnboundedSender<Kept>,
    kept: AtomicU32,
    /// Streams that either side has reset.
    worn: AtomicU32,
    max_worn: u32,
    counters: GuardCounters,
}

#[derive(Clone, Debug)]
enum Stage {
    Connecting,
    Ready,
    Failed(String),
}

impl Connection {
    /// One that is being made, and what comes to its keeper.
    pub(super) fn new(
        limits: &UpstreamLimits,
        counters: GuardCounters,
    ) -> (Self, mpsc::UnboundedReceiver<Kept>) {
        let cap = limits.backend_max_streams;
        let (keeper, kept) = mpsc::unbounded_channel();
        let connection = Self {
            sender: OnceLock::new(),
            stage: watch::Sender::new(Stage::Connecting),
            settings: Notify::new(),
            leases: AtomicU32::new(0),
            limit: AtomicU32::new(cap.min(limits.backend_assumed_streams)),
            cap,
            leaving: AtomicBool::new(false),
            over: Notify::new(),
            resets: Resets::new(limits.backend_max_unseen_resets, counters.held_resets.clone()),
            keeper,
            kept: AtomicU32::new(0),
            worn: AtomicU32::new(0),
            max_worn: limits.backend_max_resets,
            counters,
        };
        (connection, kept)
    }

    /// A place on it, if it has one.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let is_closed = || self.sender.get().is_some_and(SendRequest::is_closed);
        let has_place = self.leases.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed);
        if !has_place || self.is_leaving() || is_closed() {
            return None;
        }
        self.leases.fetch_add(1, Ordering::Relaxed);
        Some(Lease::new(Arc::clone(self)))
    }

    pub(super) fn is_within_limit(&self) -> bool {
        self.leases.load(Ordering::Relaxed) <= self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// It takes no more calls, and is over when it has none.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.over.notify_one();
    }

    /// Waits until it leaves and has no call, but for those that nobody waits
    /// for.
    pub(super) async fn over(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }

    fn is_over(&self) -> bool {
        self.is_leaving()
            && self.leases.load(Ordering::Relaxed) <= self.kept.load(Ordering::Relaxed)
    }

    fn notify_if_over(&self) {
        if self.is_over() {
            self.over.notify_one();
        }
    }

    /// Waits for the first SETTINGS.
    pub(super) async fn greeted(&self) {
        self.settings.notified().await;
    }

    /// Whether it can send.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.get().is_some()
    }

    /// What its backend is asked through.
    pub(super) fn question(&self) -> Arc<Question> {
        self.resets.question()
    }

    /// Hands over a call that nobody waits for. After the connection's end it
    /// is dropped.
    pub(super) fn keep(&self, call: Kept) {
        let _ = self.keeper.send(call);
    }

    pub(super) fn note_kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.notify_if_over();
    }

    pub(super) fn note_let_go(&self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) async fn ready(&self) -> Result<(), String> {
        if self.sender.get().is_some() {
            return Ok(());
        }
        let mut stage = self.stage.subscribe();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Connecting)).await;
        match settled.as_deref() {
            Ok(Stage::Failed(reason)) => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    pub(super) fn become_ready(&self, sender: SendRequest<RequestBody>) {
        // Set once: only the task that runs the connection comes here.
        let _ = self.sender.set(sender);
        self.stage.send_replace(Stage::Ready);
    }

    pub(super) fn fail(&self, reason: String) {
        self.stage.send_replace(Stage::Failed(reason));
    }
}

impl Observer for Connection {
    fn settings(&self, max_concurrent_streams: Option<u32>) {
        // A later SETTINGS without the parameter leaves it as it was.
        if max_concurrent_streams.is_some() || self.sender.get().is_none() {
            let allowed = max_concurrent_streams.unwrap_or(u32::MAX);
            self.limit.store(allowed.min(self.cap), Ordering::Relaxed);
        }
        self.settings.notify_one();
    }

    fn go_away(&self) {
        self.leave();
    }

    /// A connection that has seen many makes way for a new one, before the
    /// backend has enough of it.
    fn reset(&self) {
        let resets = self.worn.fetch_add(1, Ordering::Relaxed) + 1;
        if resets >= self.max_worn && !self.is_leaving() {
            self.counters.worn_connections.inc();
            self.leave();
        }
    }

    fn asked(&self, opened: u64) {
        self.resets.on_asked(opened);
    }

    fn answered(&self) {
        self.resets.on_answer();
    }
}

/// A call's place on a connection, kept until the call is over both ways.
pub(super) struct Lease {
    connection: Arc<Connection>,
    /// The call's order among those of the connection, once hyper has put it
    /// there.
    order: OnceLock<u64>,
}

impl Lease {
    fn new(connection: Arc<Connection>) -> Self {
        Self { connection, order: OnceLock::new() }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the call is sent with. `None` only for a lease that was not waited
    /// for.
    pub(super) fn sender(&self) -> Option<SendRequest<RequestBody>> {
        self.connection.sender.get().cloned()
    }

    /// hyper puts the call on the connection.
    pub(super) fn note_begun(&self) {
        self.order.get_or_init(|| self.connection.resets.begin());
    }

    /// The head of the response came.
    pub(super) fn note_head(&self) {
        if let Some(order) = self.order.get() {
            self.connection.resets.on_head(*order);
        }
    }

    /// The call is taken back. Whether its reset is held back.
    pub(super) fn hold_back(&self) -> bool {
        self.order.get().is_some_and(|order| !self.connection.resets.may_reset(*order))
    }

    /// Waits until the call's stream may be reset.
    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        match self.order.get() {
            Some(order) => self.connection.resets.poll_reset(*order, cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(order) = self.order.get() {
            self.connection.resets.forget(*order);
        }
        self.connection.leases.fetch_sub(1, Ordering::Relaxed);
        self.connection.notify_if_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serve::Metrics;

    fn connection_with(limits: &UpstreamLimits) -> Arc<Connection> {
        let counters = GuardCounters::register(&Metrics::default());
        Arc::new(Connection::new(limits, counters).0)
    }

    fn connection() -> Arc<Connection> {
        connection_with(&UpstreamLimits::default())
    }

    #[test]
    fn places_follow_the_settings_and_come_back() {
        let connection = connection();
        let assumed: Vec<_> = std::iter::from_fn(|| connection.lease()).collect();
        assert_eq!(assumed.len(), 100);
        connection.settings(Some(3));
        assert!(!connection.is_within_limit());
        drop(assumed);
        let allowed: Vec<_> = std::iter::from_fn(|| connection.lease()).collect();
        assert_eq!(allowed.len(), 3);
        connection.settings(None);
        assert!(connection.lease().is_some(), "no limit in SETTINGS is no limit but ours");
    }

    #[test]
    fn a_connection_that_leaves_takes_no_call() {
        let connection = connection();
        connection.go_away();
        assert!(connection.lease().is_none());
    }

    #[test]
    fn a_connection_that_leaves_is_over_with_its_last_call() {
        let connection = connection();
        assert!(!connection.is_over(), "it stays");
        let calls = [connection.lease(), connection.lease()];
        connection.leave();
        let is_over = |kept| {
            connection.kept.store(kept, Ordering::Relaxed);
            connection.is_over()
        };
        assert_eq!([is_over(0), is_over(1), is_over(2)], [false, false, true]);
        drop(calls);
        assert!(is_over(0));
    }

    #[test]
    fn a_connection_with_many_resets_leaves() {
        let limits = UpstreamLimits { backend_max_resets: 3, ..UpstreamLimits::default() };
        let connection = connection_with(&limits);
        let leaving: Vec<_> = (0..5)
            .map(|_| {
                connection.reset();
                connection.is_leaving()
            })
            .collect();
        assert_eq!(leaving, [false, false, true, true, true]);
        assert_eq!(connection.counters.worn_connections.get(), 1);
    }

    #[test]
    fn a_call_that_hyper_has_not_begun_is_never_held() {
        let limits = UpstreamLimits { backend_max_unseen_resets: 1, ..UpstreamLimits::default() };
        let connection = connection_with(&limits);
        let [first, second, third] = [0; 3].map(|_| connection.lease().unwrap());
        first.note_begun();
        assert!(!first.hold_back());
        second.note_begun();
        assert!(second.hold_back());
        assert!(!third.hold_back());
        assert_eq!(connection.counters.held_resets.get(), 1);
        // The first was answered, and the second can go.
        first.note_head();
        assert!(!second.hold_back());
    }
}
