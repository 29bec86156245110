//! A response's bytes on their way to the client, and how they end: with the
//! backend's trailers, or with what the failure table says when the backend or
//! the deadline cut them short.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::call::{Attempt, broken};
use super::log::Entry;
use super::request_body::Request;
use crate::failure::{Answer, Failure, Progress, answer};
use crate::grpc::{MessageScanner, Status, percent_encode};
use crate::metrics::Outcome;

/// The body of every response the proxy gives.
pub(super) struct ResponseBody {
    /// `None` for an answer without a body, and after the end.
    streaming: Option<Box<Streaming>>,
    /// Writes its line when the response is over.
    pub(super) log: Option<Entry>,
}

struct Streaming {
    backend: Incoming,
    request: Request,
    attempt: Attempt,
    deadline: Option<Pin<Box<Sleep>>>,
    is_grpc: bool,
    status: StatusCode,
    messages: MessageScanner,
}

impl ResponseBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { streaming: None, log: None }
    }

    /// The body of a backend's response, given its head. A response that is a
    /// head alone ends the attempt here.
    pub(super) fn new(
        head: &http::response::Parts,
        backend: Incoming,
        request: Request,
        mut attempt: Attempt,
        deadline: Option<Instant>,
        is_grpc: bool,
    ) -> Self {
        if backend.is_end_stream() {
            attempt.outcome = Some(outcome(is_grpc, head.status, Some(&head.headers)));
            request.close();
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
        Self { streaming: Some(Box::new(streaming)), log: None }
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
        let step = ready!(streaming.poll(cx));
        if let Some(log) = &mut this.log {
            match &step {
                Step::Data(frame) | Step::LastData(frame) | Step::Trailers(frame) => {
                    log.frame(frame)
                }
                Step::End | Step::Reset(_) => {}
            }
            log.outcome(streaming.attempt.outcome);
        }
        Poll::Ready(match step {
            Step::Data(frame) => Some(Ok(frame)),
            Step::LastData(frame) | Step::Trailers(frame) => {
                this.streaming = None;
                Some(Ok(frame))
            }
            Step::End => {
                this.streaming = None;
                None
            }
            Step::Reset(error) => {
                this.streaming = None;
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.streaming.is_none()
    }
}

/// What comes next of a response.
enum Step {
    Data(Frame<Bytes>),
    /// Data that is also the end, as no gRPC response has it.
    LastData(Frame<Bytes>),
    Trailers(Frame<Bytes>),
    End,
    Reset(h2::Error),
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.attempt.outcome = Some(Outcome::Deadline);
            return Poll::Ready(self.fail(&Failure::Deadline));
        }
        let step = match ready!(Pin::new(&mut self.backend).poll_frame(cx)) {
            Some(Ok(frame)) => self.forward(frame),
            None => {
                self.attempt.outcome = Some(outcome(self.is_grpc, self.status, None));
                Step::End
            }
            Some(Err(error)) => {
                let broken = broken(&error, self.attempt.backend_name());
                self.attempt.outcome = Some(broken.outcome());
                self.fail(&broken.failure())
            }
        };
        Poll::Ready(step)
    }

    fn forward(&mut self, frame: Frame<Bytes>) -> Step {
        if let Some(trailers) = frame.trailers_ref() {
            self.attempt.outcome = Some(outcome(self.is_grpc, self.status, Some(trailers)));
            return Step::Trailers(frame);
        }
        if self.is_grpc
            && let Some(data) = frame.data_ref()
        {
            self.messages.advance(data);
        }
        if self.backend.is_end_stream() {
            self.attempt.outcome = Some(outcome(self.is_grpc, self.status, None));
            return Step::LastData(frame);
        }
        Step::Data(frame)
    }

    fn fail(&self, failure: &Failure) -> Step {
        let progress = if self.messages.is_on_boundary() {
            Progress::OnBoundary
        } else {
            Progress::InsideMessage
        };
        match answer(failure, self.is_grpc, progress) {
            Answer::Trailers { status, message } => {
                Step::Trailers(Frame::trailers(status_headers(status, &message)))
            }
            Answer::Reset { code } => Step::Reset(h2::Reason::from(code).into()),
            // The table gives nothing else once headers have been sent.
            Answer::TrailersOnly { .. } | Answer::Http { .. } => {
                Step::Reset(h2::Reason::INTERNAL_ERROR.into())
            }
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.request.close();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_response_is_ok_by_its_status_only() {
        let status = |text: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(text))])
        };
        assert_eq!(outcome(true, StatusCode::OK, Some(&status("0"))), Outcome::Ok);
        assert_eq!(outcome(true, StatusCode::OK, Some(&status("5"))), Outcome::Error);
        assert_eq!(outcome(true, StatusCode::OK, None), Outcome::Fault);
        assert_eq!(outcome(false, StatusCode::NOT_FOUND, None), Outcome::Ok);
        assert_eq!(outcome(false, StatusCode::BAD_GATEWAY, None), Outcome::Fault);
    }

    #[test]
    fn status_headers_escape_their_message() {
        let headers = status_headers(Status::Unavailable, "50% broke\n");
        assert_eq!(headers["grpc-status"], "14");
        assert_eq!(headers["grpc-message"], "50%25 broke%0A");
    }
}
