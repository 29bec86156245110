//! A request's bytes on their way to a backend.
//!
//! They are streamed: a chunk is read from the client only when the backend's
//! connection takes it. What has been read is also kept, up to a bound, until
//! the response begins, so that a call that a backend refused can be sent to
//! another one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::connection::Lease;
use super::log::Notes;

/// A call's request, from which each attempt takes a body.
#[derive(Clone)]
pub(super) struct Request {
    state: Arc<Mutex<State>>,
}

/// A chunk of fewer bytes is joined with those behind it.
const SMALL_BYTES: usize = 1_024;
/// Joining stops at this size, the frame size that everybody takes.
const JOINED_BYTES: usize = 16_384;

struct State {
    /// `None` when nobody will read more of it.
    source: Option<Incoming>,
    notes: Arc<Notes>,
    /// What was read behind a joined chunk and is no chunk.
    behind: Option<Behind>,
    /// The chunks read so far, while they are kept.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    bound_bytes: usize,
    keeping: Keeping,
    /// The attempt that may read; those before it have failed.
    attempt: u32,
    /// Wakes the current attempt's body when the request is closed.
    waker: Option<Waker>,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Everything read is in `kept`: another attempt can start over.
    All,
    /// `kept` holds what the current attempt has yet to read of it, and no
    /// other attempt will come.
    Rest,
}

impl Request {
    /// A request that is replayable while it has at most `bound_bytes`.
    pub(super) fn new(source: Incoming, bound_bytes: usize, notes: Arc<Notes>) -> Self {
        let state = State {
            source: Some(source),
            notes,
            behind: None,
            kept: Vec::new(),
            kept_bytes: 0,
            bound_bytes,
            keeping: Keeping::All,
            attempt: 0,
            waker: None,
            is_closed: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The body for the next attempt, if the request can still be read from its
    /// start. Bodies of earlier attempts end with an error from now on. `lease`
    /// is kept until this body is dropped.
    pub(super) fn attempt(&self, lease: Arc<Lease>) -> Option<RequestBody> {
        let mut state = lock(&self.state);
        if state.keeping != Keeping::All {
            return None;
        }
        state.attempt += 1;
        Some(RequestBody {
            state: Arc::clone(&self.state),
            attempt: state.attempt,
            next: 0,
            copy: None,
            broken: None,
            lease,
        })
    }

    /// Whether another attempt could be made.
    pub(super) fn is_replayable(&self) -> bool {
        lock(&self.state).keeping == Keeping::All
    }

    /// Whether it has come whole and is kept.
    pub(super) fn is_whole(&self) -> bool {
        lock(&self.state).is_whole()
    }

    /// A body for an attempt beside the current one, if the request is whole.
    pub(super) fn copy(&self, lease: Arc<Lease>) -> Option<RequestBody> {
        let state = lock(&self.state);
        state.is_whole().then(|| RequestBody {
            state: Arc::clone(&self.state),
            attempt: 0,
            next: 0,
            copy: Some(state.kept.clone().into()),
            broken: None,
            lease,
        })
    }

    /// The response has begun: no other attempt will be made, and nothing more
    /// is kept.
    pub(super) fn commit(&self) {
        lock(&self.state).keeping = Keeping::Rest;
    }

    /// Nobody waits for a response any more, but the backend's stream can't be
    /// reset yet: what has come goes nowhere, and holds no room in its client's
    /// connection window. Why the client took the call back is kept.
    pub(super) fn let_go(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut state = lock(&self.state);
        let reason = loop {
            let next = match state.behind.take() {
                Some(behind) => Poll::Ready(Err(behind)),
                None => state.poll_chunk(&mut cx),
            };
            match next {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(Behind::Broken(reason))) => break reason,
                Poll::Ready(Err(Behind::Trailers(_) | Behind::End)) | Poll::Pending => {
                    break Reason::CANCEL;
                }
            }
        };
        state.source = None;
        state.kept = Vec::new();
        state.behind = Some(Behind::Broken(reason));
        state.wake();
    }

    /// The response has ended: what is left of the request goes nowhere. The
    /// backend's stream is reset if the request had not ended.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.wake();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code under the lock can leave the state half changed.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One attempt's reading of the request.
pub(super) struct RequestBody {
    state: Arc<Mutex<State>>,
    attempt: u32,
    /// The next kept chunk to read.
    next: usize,
    /// The chunks yet to be read, of a body that reads from nothing else.
    copy: Option<VecDeque<Bytes>>,
    /// Why it will end with an error, when the backend's stream may be reset.
    broken: Option<Reason>,
    lease: Arc<Lease>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        this.lease.note_begun();
        let reason = match this.broken {
            Some(reason) => reason,
            None => match ready!(this.poll_read(cx)) {
                Some(Err(reason)) => reason,
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => return Poll::Ready(None),
            },
        };
        this.broken = Some(reason);
        // With the error hyper resets the stream, which may have to wait.
        ready!(this.lease.poll_reset(cx));
        Poll::Ready(Some(Err(reason.into())))
    }

    /// hyper asks this first when it puts the call on its connection.
    fn is_end_stream(&self) -> bool {
        self.lease.note_begun();
        if let Some(copy) = &self.copy {
            return copy.is_empty();
        }
        let state = lock(&self.state);
        self.next >= state.kept.len() && state.is_read()
    }
}

impl RequestBody {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        if let Some(copy) = &mut self.copy {
            return Poll::Ready(copy.pop_front().map(|chunk| Ok(Frame::data(chunk))));
        }
        let mut state = lock(&self.state);
        if state.is_closed || state.attempt != self.attempt {
            return Poll::Ready(Some(Err(Reason::CANCEL)));
        }
        if let Some(chunk) = state.kept.get(self.next) {
            let chunk = chunk.clone();
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if state.keeping == Keeping::Rest {
            state.kept = Vec::new();
            self.next = 0;
        }
        match state.poll_source(cx) {
            Poll::Pending => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.next += state.keep(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            end => end,
        }
    }
}

/// What can stand behind a chunk besides another chunk.
enum Behind {
    Trailers(Frame<Bytes>),
    Broken(Reason),
    End,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn is_whole(&self) -> bool {
        self.keeping == Keeping::All && self.is_read()
    }

    /// Whether everything has been read from the client.
    fn is_read(&self) -> bool {
        match self.behind {
            None => self.source.as_ref().is_none_or(Incoming::is_end_stream),
            Some(Behind::End) => true,
            Some(Behind::Trailers(_) | Behind::Broken(_)) => false,
        }
    }

    /// The next frame from the client, small ones joined.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        match self.behind.take() {
            None => {}
            Some(Behind::Trailers(frame)) => return Poll::Ready(Some(Ok(frame))),
            Some(Behind::Broken(reason)) => return Poll::Ready(Some(Err(reason))),
            Some(Behind::End) => {
                self.behind = Some(Behind::End);
                return Poll::Ready(None);
            }
        }
        let first = match self.poll_chunk(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(chunk)) => chunk,
            Poll::Ready(Err(Behind::Trailers(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Err(Behind::Broken(reason))) => {
                return Poll::Ready(Some(Err(reason)));
            }
            Poll::Ready(Err(Behind::End)) => return Poll::Ready(None),
        };
        if first.len() >= SMALL_BYTES || self.source.as_ref().is_none_or(Incoming::is_end_stream) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Poll::Ready(Some(Ok(Frame::data(self.join(first, cx)))))
    }

    /// Joins a small chunk with what lies ready behind it.
    fn join(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut joined: Option<BytesMut> = None;
        while joined.as_ref().is_none_or(|joined| joined.len() < JOINED_BYTES) {
            match self.poll_chunk(cx) {
                Poll::Ready(Ok(chunk)) => {
                    let joined = joined.get_or_insert_with(|| BytesMut::from(&first[..]));
                    joined.extend_from_slice(&chunk);
                }
                Poll::Ready(Err(behind)) => {
                    self.behind = Some(behind);
                    break;
                }
                // This poll has a result, so the caller comes back without
                // being woken.
                Poll::Pending => break,
            }
        }
        joined.map_or(first, BytesMut::freeze)
    }

    /// The next chunk from the client, or what is there instead of one.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Behind>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(Err(Behind::Broken(Reason::CANCEL)));
        };
        let frame = match ready!(Pin::new(source).poll_frame(cx)) {
            None => return Poll::Ready(Err(Behind::End)),
            Some(Err(error)) => return Poll::Ready(Err(Behind::Broken(reason_of(&error)))),
            Some(Ok(frame)) => frame,
        };
        if let Some(chunk) = frame.data_ref() {
            self.notes.received(chunk.len());
        }
        Poll::Ready(frame.into_data().map_err(Behind::Trailers))
    }

    /// Keeps a frame that was just read. Returns how many chunks that added.
    fn keep(&mut self, frame: &Frame<Bytes>) -> usize {
        if self.keeping != Keeping::All {
            return 0;
        }
        match frame.data_ref() {
            Some(chunk) if self.kept_bytes + chunk.len() <= self.bound_bytes => {
                self.kept_bytes += chunk.len();
                self.kept.push(chunk.clone());
                1
            }
            // Outgrown, or trailers, which no gRPC request has.
            _ => {
                self.keeping = Keeping::Rest;
                0
            }
        }
    }
}

/// The code that tells a backend why the client's side of a call broke: the
/// client's own, if it reset the stream, and CANCEL if its connection is gone.
fn reason_of(error: &hyper::Error) -> Reason {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().filter(|_| error.is_reset()).unwrap_or(Reason::CANCEL);
        }
        source = error.source();
    }
    Reason::CANCEL
}
