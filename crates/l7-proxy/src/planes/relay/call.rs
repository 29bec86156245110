//! One call, from the client's headers to the end of both sides, as data.

use std::rc::Rc;
use std::time::Duration;

use balance::LOAD_REPORT_TRAILER;
use h2_wire::connection::StreamKey;
use h2_wire::grpc::{MessageScanner, format_timeout};
use h2_wire::hpack::{HeaderList, Name};

use super::headers::Took;
use super::keys::{CallKey, ClientKey, LinkKey, PoolKey};
use super::shares::Held;
use crate::failure::{Answer, Failure, Progress};
use crate::line::{Line, Turn};
use crate::metrics::BackendCounters;
use crate::upstreams::{InFlight, Offered};

/// A call that was admitted. It is kept in a box that is used again for a later
/// call, with the memory that its request has grown.
#[derive(Default)]
pub(super) struct Call {
    pub(super) client: ClientKey,
    pub(super) stream: StreamKey,
    pub(super) is_grpc: bool,
    /// When its head came, in nanoseconds of the thread's clock.
    pub(super) begun_ns: u64,
    /// In nanoseconds of the thread's clock.
    pub(super) deadline_ns: Option<u64>,
    /// What the hash policies keep together.
    pub(super) hash_key: Option<u64>,
    pub(super) request: Request,
    pub(super) attempts: u32,
    /// The backend of the last attempt.
    pub(super) pool: PoolKey,
    pub(super) tried: Offered,
    /// How the last attempt broke, and whether the backend surely had not
    /// looked at the call.
    pub(super) last: Option<(Failure, bool)>,
    /// A backend that was too full for it, and may have a place later.
    pub(super) full: Option<PoolKey>,
    /// The attempt in progress.
    pub(super) attempt: Option<Attempt>,
    /// Another attempt in progress, of a call that is hedged. Events of its
    /// connection make it the first of the two.
    pub(super) other: Option<Box<Attempt>>,
    /// When the next attempt, or the hedge, is due.
    pub(super) due: Option<(u64, Due)>,
    /// The next attempt comes out of the retry budget, and holds its place.
    pub(super) holds_budget: bool,
    pub(super) response: Response,
}

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Its deadline.
    Deadline(CallKey),
    /// Its next attempt, after a pause.
    Retry(CallKey),
    /// Its second attempt, unless its first has an answer by then.
    Hedge(CallKey),
}

/// Largest request, and largest text of headers, that a call keeps its memory for,
/// in bytes.
const KEPT_BYTES: usize = 32 << 10;
const KEPT_HEADER_BYTES: usize = 4 << 10;

impl Call {
    /// Where the attempt in progress is.
    #[inline]
    pub(super) fn place(&self) -> Option<Place> {
        self.attempt.as_ref().map(|attempt| attempt.place)
    }

    /// The backend that the attempt is at, or was last.
    pub(super) fn pool_of_attempt(&self) -> PoolKey {
        self.attempt.as_ref().map_or(self.pool, |attempt| attempt.pool)
    }

    /// Counts the attempt at another backend. The rest of it stays as it is.
    pub(super) fn move_attempt(&mut self, to: Attempt) {
        self.pool = to.pool;
        if let Some(attempt) = &mut self.attempt {
            let Attempt { pool, index, in_flight, counters, .. } = to;
            (attempt.pool, attempt.index) = (pool, index);
            (attempt.in_flight, attempt.counters) = (in_flight, counters);
        }
    }

    /// The name of the backend that the attempt is at.
    pub(super) fn backend_name(&self) -> String {
        let name = |attempt: &Attempt| attempt.in_flight.upstream().name().to_owned();
        self.attempt.as_ref().map_or_else(String::new, name)
    }

    /// Makes it a new call with headers that are yet to be set. To be called when
    /// the old one is over, so that it pins no more than a new one needs.
    pub(super) fn renew(&mut self) {
        let mut headers = std::mem::take(&mut self.request.headers);
        let mut kept = std::mem::take(&mut self.request.kept);
        headers.clear();
        headers.shrink_to(KEPT_HEADER_BYTES);
        kept.clear();
        if kept.capacity() > KEPT_BYTES {
            kept = Vec::new();
        }
        *self =
            Self { request: Request { headers, kept, ..Request::default() }, ..Self::default() };
    }
}

/// What came from the client, and what has become of it.
#[derive(Default)]
pub(super) struct Request {
    /// Its headers, until the response begins.
    pub(super) headers: HeaderList,
    /// Its bytes so far, while they are kept for another attempt.
    pub(super) kept: Vec<u8>,
    /// `kept` is whole: another attempt can start over.
    pub(super) is_replayable: bool,
    /// The client has ended it.
    pub(super) is_ended: bool,
    /// Trailers, which no gRPC request has.
    pub(super) trailers: Option<Box<HeaderList>>,
    /// Bytes that came, that the client got its credit back for, and that the
    /// attempt in progress has passed on.
    pub(super) received: u64,
    pub(super) credited: u64,
    pub(super) passed: u64,
    /// The memory of what is kept that was charged to the client's connection and
    /// to the thread.
    pub(super) charged: usize,
}

impl Request {
    /// Takes note of bytes passed on. Returns those that the client can have
    /// its credit back for: bytes that are sent a second time were credited
    /// the first time.
    pub(super) fn pass(&mut self, bytes: u64) -> u32 {
        self.passed += bytes;
        // Two attempts of a hedged call may pass on the same bytes.
        let credit = self.passed.min(self.received).saturating_sub(self.credited);
        self.credited += credit;
        // Never more than a window, which has 31 bits.
        credit as u32
    }

    /// Keeps bytes for another attempt, while they are within `bound_bytes` or
    /// there is no attempt yet to pass them on.
    pub(super) fn keep(&mut self, bytes: &[u8], bound_bytes: usize, is_passed_on: bool) {
        if !self.is_replayable {
            return;
        }
        if is_passed_on && self.kept.len() + bytes.len() > bound_bytes {
            self.drop_kept();
            self.kept = Vec::new();
            return;
        }
        self.kept.extend_from_slice(bytes);
    }

    /// No other attempt can be made any more: what was kept for one is dropped.
    pub(super) fn drop_kept(&mut self) {
        self.is_replayable = false;
        self.kept.clear();
        self.trailers = None;
    }

    /// Charges the memory that is kept to the accounts of whoever it is kept for.
    #[inline]
    pub(super) fn charge(&mut self, accounts: [&mut usize; 2]) {
        let trailers = self.trailers.as_ref().map_or(0, |list| list.size());
        let kept_bytes = self.kept.capacity() + trailers;
        if kept_bytes != self.charged {
            for account in accounts {
                *account = *account + kept_bytes - self.charged;
            }
            self.charged = kept_bytes;
        }
    }
}

/// A call's presence on a backend.
pub(super) struct Attempt {
    pub(super) pool: PoolKey,
    /// The backend's index among the backends, for the set of tried ones.
    pub(super) index: usize,
    /// Counts it as in flight until it is dropped.
    pub(super) in_flight: InFlight,
    /// Where its end is counted.
    pub(super) counters: Rc<BackendCounters>,
    pub(super) place: Place,
    /// The place that it holds at the backend.
    pub(super) held: Option<Held>,
    pub(super) sent_ns: u64,
    /// It came out of the retry budget, and holds its place there.
    pub(super) is_budgeted: bool,
    /// It was made ahead of any failure.
    pub(super) is_hedge: bool,
    /// Its place among the calls at its backend, where that is asked for.
    pub(super) turn: Option<Turn>,
}

impl Attempt {
    /// What the backend has taken until now, from the request's head on.
    pub(super) fn took(&self, line: Option<&mut Line>, now_ns: u64) -> Took {
        let whole_ns = now_ns.saturating_sub(self.sent_ns);
        let text = |ns| format_timeout(Duration::from_nanos(ns));
        // Of whom it is not known when he was served, it is all of his time.
        let queued_ns = line.zip(self.turn);
        let queued_ns = queued_ns.map(|(line, turn)| line.waited_ns(turn).unwrap_or(whole_ns));
        Took { whole: text(whole_ns), queued: queued_ns.map(text) }
    }

    /// Takes note of what the end of a response says of its backend's load.
    pub(super) fn note_report(&self, list: &HeaderList, now_ns: u64) {
        if let Some(report) = list.value_of_name(LOAD_REPORT_TRAILER.as_bytes()) {
            self.in_flight.report(now_ns, report);
        }
    }
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is yet to find a place.
    Nowhere,
    /// It waits for a connection of this pool that is being made.
    Waiting(PoolKey),
    /// It waits for a place at any backend, and is counted at this pool's.
    Overflow(PoolKey),
    /// It waits until its client holds fewer places.
    HeldBack,
    /// It is a stream of a connection.
    Stream(LinkKey, StreamKey),
}

/// What the client has got so far.
#[derive(Default)]
pub(super) struct Response {
    pub(super) has_head: bool,
    /// The HTTP status.
    pub(super) status: u16,
    /// The gRPC status that the client was told, where calls are logged.
    pub(super) grpc_status: Option<u32>,
    /// Bytes of its body.
    pub(super) bytes: u64,
    pub(super) messages: MessageScanner,
    /// The backend may send a whole window, and not only the small one that
    /// each call may have.
    pub(super) is_granted: bool,
    /// 1xx heads so far.
    pub(super) informational: u32,
}

impl Response {
    pub(super) fn progress(&self) -> Progress {
        match (self.has_head, self.messages.is_on_boundary()) {
            (false, _) => Progress::BeforeHeaders,
            (true, true) => Progress::OnBoundary,
            (true, false) => Progress::InsideMessage,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sent_again_are_not_credited_again() {
        let mut request = Request { received: 12, ..Request::default() };
        assert_eq!(request.pass(10), 10);
        request.passed = 0;
        assert_eq!(request.pass(4), 0);
        assert_eq!(request.pass(8), 2);
        assert_eq!(request.pass(12), 0, "a second attempt's");
        assert_eq!(request.credited, 12);
    }

    #[test]
    fn a_request_is_kept_up_to_its_bound_and_longer_while_nobody_has_it() {
        let mut request = Request { is_replayable: true, ..Request::default() };
        request.keep(b"12345678", 4, false);
        assert_eq!(request.kept, b"12345678");
        request.keep(b"9", 9, true);
        assert!(request.is_replayable);
        request.keep(b"0", 9, true);
        assert!(!request.is_replayable && request.kept.capacity() == 0);
    }

    #[test]
    fn what_is_kept_is_charged_once_and_taken_back() {
        let mut request = Request { is_replayable: true, ..Request::default() };
        let (mut connection, mut thread) = (5, 50);
        for bytes in [&b"12345678"[..], b"9", b""] {
            request.keep(bytes, 100, true);
            request.charge([&mut connection, &mut thread]);
            assert!(request.kept.len() <= connection - 5 && connection + 45 == thread);
        }
        request.drop_kept();
        request.kept = Vec::new();
        request.charge([&mut connection, &mut thread]);
        assert_eq!((connection, thread), (5, 50));
    }
}
