//! Lines of the access log: what a call's line says, once it is over. Nothing
//! here runs where no log is asked for.

use h2_wire::hpack::{HeaderList, Name};
use rand_xoshiro::rand_core::Rng;

use super::call::{Call, Response};
use super::clients::ClientKey;
use super::worker::Worker;
use crate::access_log::{AccessLog, Line};
use crate::failure::Answer;
use crate::metrics::Outcome;
use serve::json_lines::now_unix_ms;

impl Worker {
    /// The log, if this call is in the share that is logged.
    fn drawn_log(&mut self) -> Option<AccessLog> {
        let random = self.chance.next_u64();
        self.shared.access_log.as_ref().filter(|log| log.draws(random)).cloned()
    }

    /// Logs a call that is over.
    #[cold]
    pub(super) fn log_call(&mut self, call: &Call, outcome: Outcome) {
        let Some(log) = self.drawn_log() else { return };
        // Of either, nothing but the call may be left.
        let backend =
            self.upstreams.pools.get(call.pool).map(|pool| pool.upstream.name().to_owned());
        let path = call.request.headers.value_of(Name::Path).unwrap_or_default();
        let response = &call.response;
        log.write(Line {
            time_unix_ms: now_unix_ms(),
            remote: self.clients.all.get(call.client).map(|client| client.remote),
            path: Line::path_of(path),
            backend,
            outcome: outcome.name(),
            http_status: (response.status != 0).then_some(response.status),
            grpc_status: response.grpc_status,
            request_bytes: call.request.received,
            response_bytes: response.bytes,
            duration_us: self.now_ns.saturating_sub(call.begun_ns) / 1_000,
            attempts: call.attempts,
        });
    }

    /// Logs a call that was answered without asking any backend. Its head is
    /// the last that came from the client.
    pub(super) fn log_rejection(&mut self, client: ClientKey, answer: &Answer) {
        if self.shared.access_log.is_none() {
            return;
        }
        let Some(log) = self.drawn_log() else { return };
        let from = self.clients.all.live(client);
        let mut response = Response::default();
        response.note(answer);
        let path = from.endpoint.http.headers().value_of(Name::Path).unwrap_or_default();
        log.write(Line {
            time_unix_ms: now_unix_ms(),
            remote: Some(from.remote),
            path: Line::path_of(path),
            backend: None,
            outcome: "rejected",
            http_status: Some(response.status),
            grpc_status: response.grpc_status,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            attempts: 0,
        });
    }
}

impl Response {
    /// Takes note of the status in a header block that ends a response.
    pub(super) fn note_status(&mut self, list: &HeaderList) {
        let text = list.value_of(Name::GrpcStatus).and_then(|value| str::from_utf8(value).ok());
        self.grpc_status = text.and_then(|text| text.parse().ok());
    }

    /// Takes note of an answer of our own.
    pub(super) fn note(&mut self, answer: &Answer) {
        match answer {
            Answer::TrailersOnly { status, .. } | Answer::Trailers { status, .. } => {
                self.status = 200;
                self.grpc_status = Some(*status as u32);
            }
            Answer::Http { status } => self.status = *status,
            Answer::Reset { .. } => {}
        }
    }
}
