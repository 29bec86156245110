//! Lines of the access log: what is noted while a call runs, and the line that
//! is written when it is over, however that comes about.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};

use super::call::Thread;
use super::response_body::ResponseBody;
use crate::access_log::{AccessLog, Line, now_unix_ms};
use crate::failure::Failure;
use crate::metrics::Outcome;
use crate::upstreams::Upstream;

/// What the parts of a call tell of it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    attempts: AtomicU32,
    request_bytes: AtomicU64,
    backend: Mutex<Option<Arc<Upstream>>>,
}

impl Notes {
    /// Attempts made.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// An attempt at this backend begins.
    pub(super) fn begin(&self, upstream: &Arc<Upstream>) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        *backend = Some(Arc::clone(upstream));
    }

    /// Bytes of the request's body came.
    pub(super) fn received(&self, bytes: usize) {
        self.request_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn backend(&self) -> Option<String> {
        let backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        backend.as_ref().map(|upstream| upstream.name().to_owned())
    }
}

impl Thread {
    /// The line of a call that has begun, if it is in the share that is logged.
    pub(super) fn log_entry(
        &self,
        head: &http::request::Parts,
        peer: SocketAddr,
        notes: &Arc<Notes>,
    ) -> Option<Entry> {
        let log = self.shared.access_log.as_ref().filter(|log| log.draws(self.random()))?;
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let line = Line {
            time_unix_ms: 0,
            peer: Some(peer),
            path: Line::path_of(path.as_bytes()),
            backend: None,
            outcome: Outcome::Cancelled.name(),
            http_status: None,
            grpc_status: None,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            attempts: 0,
        };
        let (log, notes) = (log.clone(), Arc::clone(notes));
        Some(Entry { log, line, notes, begun: Instant::now() })
    }
}

/// A line that is written when it is dropped.
pub(super) struct Entry {
    log: AccessLog,
    line: Line,
    notes: Arc<Notes>,
    begun: Instant,
}

impl Entry {
    /// The call failed before a backend's head came.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let outcome = match failure {
            Failure::Deadline => Outcome::Deadline,
            Failure::BackendReset { .. } => Outcome::Reset,
            Failure::BackendBroke { .. } => Outcome::Broken,
            _ => Outcome::Unsent,
        };
        self.outcome(Some(outcome));
    }

    /// The client gets this head.
    pub(super) fn head(&mut self, response: &Response<ResponseBody>) {
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
        if let Some(data) = frame.data_ref() {
            self.line.response_bytes += data.len() as u64;
        }
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
        let mut line = self.line.clone();
        line.time_unix_ms = now_unix_ms();
        line.attempts = self.notes.attempts();
        line.backend = self.notes.backend();
        if line.attempts == 0 {
            line.outcome = "rejected";
        }
        line.request_bytes = self.notes.request_bytes.load(Ordering::Relaxed);
        line.duration_us = self.begun.elapsed().as_micros() as u64;
        self.log.write(line);
    }
}
