//! A response's bytes on their way to the client, and how they end: with the
//! backend's trailers, or with what the failure table says when the backend or
//! the deadline cut them short.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::Reason;
use h2_wire::grpc::{MessageScanner, Status, percent_encode};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    access_log::Entry,
    attempt::{Attempt, broken},
    local::OpenCall,
    replay_body::Shared,
};
use crate::{
    failure::{Answer, Failure, Progress, answer},
    metrics::Outcome,
};

/// The body of every response the proxy gives.
pub(super) struct ResponseBody {
    /// `None` for an answer without a body, and after the end.
    streaming: Option<Box<Streaming>>,
    /// Writes its line when the response is over.
    pub(super) log: Option<Entry>,
    /// Its connection is not idle until the response is over.
    _call: Option<OpenCall>,
}

struct Streaming {
    backend: Incoming,
    request: Shared<Incoming>,
    attempt: Attempt,
    deadline: Option<Pin<Box<Sleep>>>,
    is_grpc: bool,
    status: StatusCode,
    messages: MessageScanner,
}

impl ResponseBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { streaming: None, log: None, _call: None }
    }

    /// The same, which keeps `call` to its end.
    pub(super) fn with(self, call: OpenCall) -> Self {
        Self { _call: Some(call), ..self }
    }

    /// The body of a backend's response, given its head. A response that is a
    /// head alone ends the attempt here.
    pub(super) fn new(
        head: &http::response::Parts,
        backend: Incoming,
        request: Shared<Incoming>,
        mut attempt: Attempt,
        deadline: Option<Instant>,
        is_grpc: bool,
    ) -> Self {
        if backend.is_end_stream() {
            let last = Some(&head.headers);
            attempt.end(outcome(is_grpc, head.status, last), last);
            request.borrow_mut().close();
            return Self::empty();
        }
        let streaming = Streaming {
            backend,
            request,
            attempt,
            deadline: deadline.map(|at| Box::pin(sleep_until(at))),
            is_grpc,
            status: head.status,
            messages: MessageScanner::default(),
        };
        Self { streaming: Some(Box::new(streaming)), ..Self::empty() }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let Some(streaming) = &mut this.streaming else { return Poll::Ready(None) };
        let (frame, is_last) = ready!(streaming.poll(cx));
        if let Some(log) = &mut this.log {
            if let Some(Ok(frame)) = &frame {
                log.frame(frame);
            }
            log.outcome(streaming.attempt.outcome);
        }
        if is_last {
            this.streaming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.streaming.is_none()
    }
}

/// What comes next of a response, and whether it is its end.
type Step = (Option<Result<Frame<Bytes>, h2::Error>>, bool);

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.attempt.outcome = Some(Outcome::Deadline);
            return Poll::Ready((Some(self.fail(&Failure::Deadline)), true));
        }
        let frame = match ready!(Pin::new(&mut self.backend).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            None => {
                self.attempt.outcome = Some(outcome(self.is_grpc, self.status, None));
                return Poll::Ready((None, true));
            }
            Some(Err(error)) => {
                let broken = broken(&error, self.attempt.pool.name());
                self.attempt.outcome = Some(broken.outcome);
                return Poll::Ready((Some(self.fail(&broken.failure)), true));
            }
        };
        if let Some(data) = frame.data_ref() {
            self.messages.advance(data);
        }
        // No gRPC response ends with data.
        let is_last = frame.is_trailers() || self.backend.is_end_stream();
        if is_last {
            let last = frame.trailers_ref();
            self.attempt.end(outcome(self.is_grpc, self.status, last), last);
        }
        Poll::Ready((Some(Ok(frame)), is_last))
    }

    /// What the client gets instead of the rest.
    fn fail(&self, failure: &Failure) -> Result<Frame<Bytes>, h2::Error> {
        let progress = if self.messages.is_on_boundary() {
            Progress::OnBoundary
        } else {
            Progress::InsideMessage
        };
        match answer(failure, self.is_grpc, progress) {
            Answer::Trailers { status, message } => {
                Ok(Frame::trailers(status_headers(status, &message)))
            }
            Answer::Reset { code } => Err(Reason::from(code).into()),
            // The table gives nothing else once headers have been sent.
            Answer::TrailersOnly { .. } | Answer::Http { .. } => Err(Reason::INTERNAL_ERROR.into()),
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.request.borrow_mut().close();
    }
}

/// The headers that carry a status: trailers, or the end of a response that is
/// trailers only.
pub(super) fn status_headers(status: Status, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert("grpc-status", HeaderValue::from_static(status.as_str()));
    // The escaped text is printable ASCII, so it is always a header value.
    if let Ok(message) = HeaderValue::try_from(percent_encode(message)) {
        headers.insert("grpc-message", message);
    }
    headers
}

/// How a response that came to its end is counted, given the headers that
/// ended it.
pub(super) fn outcome(is_grpc: bool, status: StatusCode, last: Option<&HeaderMap>) -> Outcome {
    if is_grpc {
        let status = last.and_then(|headers| headers.get("grpc-status"));
        Outcome::of_grpc(status.map(HeaderValue::as_bytes))
    } else {
        Outcome::of_http(status.as_u16())
    }
}
