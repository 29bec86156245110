//! Calls that were taken back and whose reset a backend can't bear yet.
//!
//! hyper resets a stream as soon as the future of its response is dropped, or
//! its request's body fails. So when [`Unseen`] says that a reset has to wait,
//! neither happens: the future goes to the task that carries the connection,
//! which [keeps](Keeper) it until the reset may go, and the body is silent
//! until then. In h2's eyes the stream is open all the while, so that it counts
//! among the connection's streams, and what the backend sends on it meanwhile
//! is taken like any other response: the call then needs no reset, or only of
//! what is left of it.
//!
//! A held call costs no more than one in flight. It has its place on the
//! connection, and stands in the backend's load as before, so that there are
//! never more of them than the connection has places. What has come of its
//! request is let go of, and with it the room in its client's connection window;
//! a hedge, which sends a copy of the request, may still send it.
//!
//! A call that is taken back before hyper has put it on the connection never
//! gets there, and nothing has to be reset.
//!
//! Left out: resets that the backend's own mistakes call forth, which h2 sends,
//! and those of calls whose response has begun. It has looked at those streams.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use serve::Counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::Lease;
use super::request_body::{Request as ReplayableRequest, RequestBody};
use super::tap::Question;
use super::unseen::{Next, Unseen};
use crate::upstreams::{InFlight, Upstream};

/// The resets of one connection.
#[derive(Debug)]
pub(super) struct Resets {
    unseen: Mutex<Unseen>,
    question: Arc<Question>,
    held: Counter,
}

impl Resets {
    pub(super) fn new(most_unseen: u32, held: Counter) -> Self {
        Self { unseen: Mutex::new(Unseen::new(most_unseen)), question: Arc::default(), held }
    }

    /// What the backend is asked through.
    pub(super) fn question(&self) -> Arc<Question> {
        Arc::clone(&self.question)
    }

    /// A call goes onto the connection: its order there.
    pub(super) fn begin(&self) -> u64 {
        self.with(|unseen| unseen.begin())
    }

    /// Whether the call may be reset. If not it is held back from now on.
    pub(super) fn may_reset(&self, order: u64) -> bool {
        self.poll_reset_with(order, None).is_ready()
    }

    /// The same; whoever asks is woken when it may.
    pub(super) fn poll_reset(&self, order: u64, cx: &Context<'_>) -> Poll<()> {
        self.poll_reset_with(order, Some(cx))
    }

    fn poll_reset_with(&self, order: u64, cx: Option<&Context<'_>>) -> Poll<()> {
        let (next, is_new) = self.with(|unseen| {
            let held = unseen.held();
            if unseen.may_reset(order) {
                return (None, false);
            }
            if let Some(cx) = cx {
                unseen.wake_when_released(order, cx);
            }
            (Some(unseen.next()), unseen.held() > held)
        });
        let Some(next) = next else { return Poll::Ready(()) };
        if is_new {
            self.held.inc();
        }
        self.act(next);
        Poll::Pending
    }

    /// The head of the response to a call came.
    pub(super) fn on_head(&self, order: u64) {
        self.act(self.with(|unseen| unseen.on_head(order)));
    }

    /// The backend is being asked, behind so many streams.
    pub(super) fn on_asked(&self, streams: u64) {
        self.with(|unseen| unseen.on_asked(streams));
    }

    pub(super) fn on_answer(&self) {
        self.act(self.with(Unseen::on_answer));
    }

    /// The call is over.
    pub(super) fn forget(&self, order: u64) {
        self.with(|unseen| unseen.forget(order));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Unseen) -> T) -> T {
        // No code under the lock can leave the state half changed.
        act(&mut self.unseen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Done without the lock: what is woken may come back at once.
    fn act(&self, next: Next) {
        for waker in next.released {
            waker.wake();
        }
        if next.ask {
            self.question.ask();
        }
    }
}

type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;
type PendingAnswer = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A call that was given to hyper and has no response yet. Dropping it takes the
/// call back.
pub(super) struct Sent {
    /// `None` when it has resolved.
    answer: Option<PendingAnswer>,
    lease: Arc<Lease>,
    upstream: Arc<Upstream>,
    /// What its body reads from, if that is the request as it comes.
    source: Option<ReplayableRequest>,
}

impl Sent {
    pub(super) fn new(
        answer: impl Future<Output = Answer> + Send + 'static,
        lease: Arc<Lease>,
        upstream: Arc<Upstream>,
        source: Option<ReplayableRequest>,
    ) -> Self {
        Self { answer: Some(Box::pin(answer)), lease, upstream, source }
    }
}

impl Future for Sent {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let answer = ready!(answer.as_mut().poll(cx));
        self.answer = None;
        if answer.is_ok() {
            self.lease.note_head();
        }
        Poll::Ready(answer)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        if !self.lease.hold_back() {
            return;
        }
        if let Some(source) = self.source.take() {
            source.let_go();
        }
        self.lease.connection().keep(Kept::new(answer, &self.lease, &self.upstream));
    }
}

/// A call that nobody waits for, and whose reset is held back.
pub(super) struct Kept {
    // Dropped first, which resets the stream before its place is free.
    answer: PendingAnswer,
    lease: Arc<Lease>,
    /// The backend may be at work on it.
    _in_flight: InFlight,
}

impl Kept {
    fn new(answer: PendingAnswer, lease: &Arc<Lease>, upstream: &Arc<Upstream>) -> Self {
        lease.connection().note_kept();
        Self { answer, lease: Arc::clone(lease), _in_flight: upstream.begin() }
    }

    /// Waits until the call may be reset, or needs no reset, and drops it.
    async fn end(mut self) {
        let lease = &self.lease;
        tokio::select! {
            biased;
            answer = &mut self.answer => if answer.is_ok() {
                lease.note_head();
            },
            () = poll_fn(|cx| lease.poll_reset(cx)) => {}
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lease.connection().note_let_go();
    }
}

/// Keeps the calls of one connection whose reset is held back. Dropping it
/// resets them all, so that is done when nobody else has a call there.
pub(super) struct Keeper {
    /// As many as have a place on the connection, at most.
    calls: mpsc::UnboundedReceiver<Kept>,
    tasks: JoinSet<()>,
}

impl Keeper {
    pub(super) fn new(calls: mpsc::UnboundedReceiver<Kept>) -> Self {
        Self { calls, tasks: JoinSet::new() }
    }

    /// Does so until it is dropped. What has come is not lost when this is.
    pub(super) async fn keep(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(call) = self.calls.recv() => {
                    self.tasks.spawn(call.end());
                }
                Some(_) = self.tasks.join_next() => {}
                else => pending().await,
            }
        }
    }
}
