//! A request's bytes on their way to a backend.
//!
//! They are streamed: a chunk is read from the client only when the backend's
//! connection takes it. What has been read is also kept, up to a bound, until
//! the response begins, so that a call that a backend refused can be sent to
//! another one.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame};

use super::h2_source;

/// A body that several attempts can read, one after the other.
pub(super) struct Replay<B> {
    source: B,
    /// Bytes read so far, for whoever asks.
    received: Rc<Cell<u64>>,
    /// The chunks read so far, while they are kept.
    kept: Vec<Bytes>,
    /// How many bytes more can be kept.
    room_bytes: usize,
    /// Everything read is in `kept`: another attempt can start over. If not, it
    /// holds what the current attempt has yet to read, and no other will come.
    pub(super) is_replayable: bool,
    /// The attempt that may read; those before it have failed.
    attempt: u32,
    /// Wakes the current attempt's body when the request is closed.
    waker: Option<Waker>,
    is_closed: bool,
}

/// Such a body, among those that read it.
pub(super) type Shared<B> = Rc<RefCell<Replay<B>>>;

impl<B: Body<Data = Bytes>> Replay<B> {
    /// A body that is replayable while it has at most `room_bytes`.
    pub(super) fn shared(source: B, room_bytes: usize, received: Rc<Cell<u64>>) -> Shared<B> {
        Rc::new(RefCell::new(Self {
            source,
            received,
            kept: Vec::new(),
            room_bytes,
            is_replayable: true,
            attempt: 0,
            waker: None,
            is_closed: false,
        }))
    }

    /// The body for the next attempt, if the request can still be read from its
    /// start. Bodies of earlier attempts end with an error from now on.
    pub(super) fn attempt(shared: &Shared<B>) -> Option<ReplayBody<B>> {
        let mut this = shared.borrow_mut();
        this.attempt += u32::from(this.is_replayable);
        let attempt = Some(this.attempt);
        this.is_replayable.then(|| ReplayBody { shared: Rc::clone(shared), attempt, next: 0 })
    }

    /// A body for an attempt beside the current one, if the request has come whole
    /// and is kept.
    pub(super) fn copy(shared: &Shared<B>) -> Option<ReplayBody<B>> {
        let this = shared.borrow();
        let is_whole = this.is_replayable && this.source.is_end_stream();
        is_whole.then(|| ReplayBody { shared: Rc::clone(shared), attempt: None, next: 0 })
    }

    /// The response has ended: what is left of the request goes nowhere. The
    /// backend's stream is reset if the request had not ended.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Keeps a frame that was just read, if there is room for it. Trailers, which
    /// no gRPC request has, are not kept.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.received.set(self.received.get() + bytes as u64);
        self.is_replayable &= frame.is_data() && bytes <= self.room_bytes;
        match frame.data_ref() {
            Some(chunk) if self.is_replayable => {
                self.room_bytes -= bytes;
                self.kept.push(chunk.clone());
            }
            _ => self.kept = Vec::new(),
        }
    }
}

/// One attempt's reading of the request.
pub(super) struct ReplayBody<B> {
    shared: Shared<B>,
    /// `None` for a copy, which reads only what is kept of a whole request.
    attempt: Option<u32>,
    /// The next kept chunk to read.
    next: usize,
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self { shared, attempt, next } = self.get_mut();
        let mut state = shared.borrow_mut();
        if attempt.is_some_and(|attempt| state.is_closed || state.attempt != attempt) {
            return Poll::Ready(Some(Err(Reason::CANCEL.into())));
        }
        if let Some(chunk) = state.kept.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if attempt.is_none() {
            return Poll::Ready(None);
        }
        if !state.is_replayable && !state.source.is_end_stream() {
            state.kept = Vec::new();
        }
        let frame = match Pin::new(&mut state.source).poll_frame(cx) {
            Poll::Pending => {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        if let Some(Ok(frame)) = &frame {
            state.keep(frame);
        }
        *next = state.kept.len();
        Poll::Ready(frame.map(|frame| frame.map_err(|error| reason_of(&error).into())))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.borrow();
        self.next >= state.kept.len() && (self.attempt.is_none() || state.source.is_end_stream())
    }
}

/// The code that tells a backend why the client's side of a call broke: the
/// client's own, if it reset the stream, and CANCEL if its connection is gone.
fn reason_of(error: &(dyn Error + 'static)) -> Reason {
    let reset = h2_source(error).filter(|error| error.is_reset());
    reset.and_then(h2::Error::reason).unwrap_or(Reason::CANCEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(max_bytes: usize) -> Shared<String> {
        Replay::shared("request".to_owned(), max_bytes, Rc::default())
    }

    /// The next chunk; an error is a `!`.
    fn read(body: &mut ReplayBody<String>) -> String {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => {
                String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
            }
            Poll::Ready(Some(Err(_))) => "!".to_owned(),
            Poll::Ready(None) => String::new(),
            Poll::Pending => panic!("a string never waits"),
        }
    }

    #[test]
    fn an_attempt_starts_over_and_ends_those_before() {
        let replay = replay(100);
        let mut first = Replay::attempt(&replay).unwrap();
        assert_eq!(read(&mut first), "request");
        let mut second = Replay::attempt(&replay).unwrap();
        assert_eq!(read(&mut first), "!");
        replay.borrow_mut().is_replayable = false;
        assert_eq!([read(&mut second), read(&mut second)], ["request", ""]);
        assert!(second.is_end_stream() && Replay::attempt(&replay).is_none());
        assert_eq!(replay.borrow().received.get(), 7);
    }

    #[test]
    fn what_has_outgrown_its_bound_is_read_once() {
        let replay = replay(6);
        let mut first = Replay::attempt(&replay).unwrap();
        assert!(replay.borrow().is_replayable);
        assert_eq!(read(&mut first), "request");
        assert!(
            !replay.borrow().is_replayable
                && Replay::attempt(&replay).is_none()
                && Replay::copy(&replay).is_none()
        );
    }

    #[test]
    fn a_copy_of_a_whole_request_outlives_its_original() {
        let replay = replay(100);
        let mut first = Replay::attempt(&replay).unwrap();
        assert!(Replay::copy(&replay).is_none(), "there is more to come");
        assert_eq!(read(&mut first), "request");
        let mut copy = Replay::copy(&replay).unwrap();
        replay.borrow_mut().is_replayable = false;
        assert_eq!(read(&mut first), "");
        replay.borrow_mut().close();
        assert_eq!([read(&mut first), read(&mut copy), read(&mut copy)], ["!", "request", ""]);
        assert!(copy.is_end_stream());
    }
}
