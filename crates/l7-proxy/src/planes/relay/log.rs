//! Lines of the access log: what a call's line says, once it is over. Nothing
//! here runs where no log is asked for.

use h2_wire::hpack::{HeaderList, Name};
use serve::json_lines::now_unix_ms;

use super::call::{Call, Response};
use crate::access_log::Line;
use crate::failure::Answer;
use crate::metrics::Outcome;

fn of_head(head: &HeaderList, response: &Response) -> Line {
    Line {
        time_unix_ms: now_unix_ms(),
        path: Line::path_of(head.value_of(Name::Path).unwrap_or_default()),
        http_status: (response.status != 0).then_some(response.status),
        grpc_status: response.grpc_status,
        ..Line::default()
    }
}

/// What is said of a call that is over.
pub(super) fn of_call(call: &Call, outcome: Outcome, now_ns: u64) -> Line {
    Line {
        outcome: outcome.name(),
        request_bytes: call.request.received,
        response_bytes: call.response.bytes,
        duration_us: now_ns.saturating_sub(call.begun_ns) / 1_000,
        attempts: call.attempts,
        ..of_head(&call.request.headers, &call.response)
    }
}

/// What is said of a call that was answered without asking any backend.
pub(super) fn of_rejection(head: &HeaderList, answer: &Answer) -> Line {
    let mut response = Response::default();
    response.note(answer);
    Line { outcome: "rejected", ..of_head(head, &response) }
}
