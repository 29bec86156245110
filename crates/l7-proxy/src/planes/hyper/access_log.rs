//! Lines of the access log: what is noted while a call runs, and the line that
//! is written when it is over, however that comes about.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use serve::json_lines::now_unix_ms;

use super::thread::Thread;
use crate::{
    access_log::{AccessLog, Line},
    failure::Failure,
    metrics::Outcome,
    upstreams::Upstream,
};

/// What the parts of a call count and note for its line.
#[derive(Debug, Default)]
pub(super) struct CallStats {
    /// Attempts made.
    pub(super) attempts: Cell<u32>,
    /// Bytes of the request's body that came.
    pub(super) request_bytes: Rc<Cell<u64>>,
    /// The backend of the last attempt.
    pub(super) backend: RefCell<Option<Arc<Upstream>>>,
}

/// A line that is written when it is dropped.
pub(super) struct Entry {
    log: AccessLog,
    line: Line,
    stats: Rc<CallStats>,
    begun: Instant,
}

impl Entry {
    /// The line of a call that has begun, if it is in the share that is logged.
    pub(super) fn begin(
        thread: &Thread,
        head: &http::request::Parts,
        remote: SocketAddr,
        stats: &Rc<CallStats>,
    ) -> Option<Self> {
        let log = thread.shared.access_log.as_ref();
        let log = log.filter(|log| log.draws(thread.random()))?.clone();
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let path = Line::path_of(path.as_bytes());
        let line = Line {
            remote: Some(remote),
            path,
            outcome: Outcome::Cancelled.name(),
            ..Line::default()
        };
        Some(Self { log, line, stats: Rc::clone(stats), begun: Instant::now() })
    }

    /// The call failed before a backend's head came.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.outcome(Some(match failure {
            Failure::Deadline => Outcome::Deadline,
            Failure::BackendReset { .. } => Outcome::Reset,
            Failure::BackendBroke { .. } => Outcome::Broken,
            _ => Outcome::Unsent,
        }));
    }

    /// The client gets this head.
    pub(super) fn head(&mut self, response: &Response<impl Body>) {
        self.line.http_status = Some(response.status().as_u16());
        self.status(response.headers());
        // One that goes on is cancelled until it has ended.
        if response.body().is_end_stream() && self.line.outcome == Outcome::Cancelled.name() {
            let is_ok = self.line.grpc_status.is_none_or(|status| status == 0);
            self.outcome(Some(if is_ok { Outcome::Ok } else { Outcome::Error }));
        }
    }

    /// The client gets this frame.
    pub(super) fn frame(&mut self, frame: &Frame<Bytes>) {
        self.line.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(trailers) = frame.trailers_ref() {
            self.status(trailers);
        }
    }

    /// The attempt ended in this way, if it did.
    pub(super) fn outcome(&mut self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.line.outcome = outcome.name();
        }
    }

    fn status(&mut self, fields: &HeaderMap) {
        let value = fields.get("grpc-status").and_then(|value| value.to_str().ok());
        self.line.grpc_status = value.and_then(|value| value.parse().ok());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let backend = self.stats.backend.take();
        line.time_unix_ms = now_unix_ms();
        line.attempts = self.stats.attempts.get();
        line.backend = backend.map(|upstream| upstream.name().to_owned());
        if line.attempts == 0 {
            line.outcome = "rejected";
        }
        line.request_bytes = self.stats.request_bytes.get();
        line.duration_us = self.begun.elapsed().as_micros() as u64;
        self.log.write(line);
    }
}
