//! One call, from the client's headers to the backend's.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use balance::{PickInput, SplitMix64, hash_bytes};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::again::{Again, Budgeted};
use super::connection::Lease;
use super::held::Sent;
use super::log::Notes;
use super::pool::{Pool, Tally, Unavailable};
use super::request_body::{Request as ReplayableRequest, RequestBody};
use super::response_body::{ResponseBody, status_headers};
use crate::circuit::{CircuitCounters, Limit};
use crate::failure::{Answer, Failure, Progress, answer, code};
use crate::grpc;
use crate::metrics::{GuardCounters, Outcome, ProxyCounters};
use crate::planes::Shared;
use crate::tls::counters::TlsCounters;
use crate::upstreams::{InFlight, Offered, Upstream, UpstreamSet};

/// What the calls of one thread share.
pub(super) struct Thread {
    pub(super) shared: Arc<Shared>,
    counters: ProxyCounters,
    pub(super) guard_counters: GuardCounters,
    circuit_counters: CircuitCounters,
    pub(super) again: Arc<Again>,
    tally: Arc<Tally>,
    pub(super) tls_counters: TlsCounters,
    /// By the address of the `Upstream`, which the pool keeps alive.
    pools: Mutex<HashMap<usize, Arc<Pool>>>,
    /// The set that `pools` follows.
    version: AtomicU64,
    chance: Mutex<SplitMix64>,
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        Self {
            counters: ProxyCounters::register(&shared.config.metrics),
            guard_counters: GuardCounters::register(&shared.config.metrics),
            circuit_counters: CircuitCounters::register(&shared.config.metrics),
            again: Arc::new(Again::new(&shared.config.metrics)),
            tally: Arc::default(),
            tls_counters: TlsCounters::register(&shared.config.metrics),
            shared,
            pools: Mutex::new(HashMap::new()),
            version: AtomicU64::new(0),
            chance: Mutex::new(SplitMix64::new(seed)),
        }
    }

    /// Answers one request. An error is the code to reset the stream with.
    pub(super) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<ResponseBody>, h2::Error> {
        let (head, body) = request.into_parts();
        let notes = Arc::new(Notes::default());
        let mut entry = self.log_entry(&head, peer, &notes);
        if is_malformed(&head) {
            return Err(h2::Reason::PROTOCOL_ERROR.into());
        }
        let is_grpc = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| grpc::is_grpc(value.as_bytes()));
        let result = match self.admit(&head, is_grpc) {
            Ok(deadline) => {
                let call = Call::new(&self, (head, body), deadline, is_grpc, notes);
                match deadline {
                    Some(at) => timeout_at(at, call.run()).await.unwrap_or(Err(Failure::Deadline)),
                    None => call.run().await,
                }
            }
            Err(failure) => Err(failure),
        };
        let result = result.or_else(|failure| {
            self.counters.count_rejection(&failure);
            if let Some(entry) = &mut entry {
                entry.failed(&failure);
            }
            render(answer(&failure, is_grpc, Progress::BeforeHeaders))
        });
        result.map(|mut response| {
            if let Some(mut entry) = entry {
                entry.head(&response);
                response.body_mut().log = Some(entry);
            }
            response
        })
    }

    /// Checks what can be checked without a backend, and gives the deadline.
    fn admit(
        &self,
        head: &http::request::Parts,
        is_grpc: bool,
    ) -> Result<Option<Instant>, Failure> {
        let config = &self.shared.config;
        let limits = &config.downstream;
        if head.headers.len() > limits.max_headers
            || header_list_bytes(head) > limits.max_header_list_bytes as usize
        {
            return Err(Failure::HeadersTooLarge);
        }
        if !is_grpc {
            return if config.calls.forward_http { Ok(None) } else { Err(Failure::NotGrpc) };
        }
        let Some(timeout) = head.headers.get("grpc-timeout") else { return Ok(None) };
        let timeout = grpc::parse_timeout(timeout.as_bytes()).ok_or(Failure::MalformedTimeout)?;
        Ok(Some(Instant::now() + timeout.min(config.calls.max_deadline)))
    }

    pub(super) fn random(&self) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Follows a change of the backends: those that left give their connections
    /// up, once the calls on them have ended. That it happens with the next call
    /// leaves the connections of an idle thread open.
    fn follow(&self, set: &UpstreamSet) {
        if self.version.swap(set.version(), Ordering::Relaxed) == set.version() {
            return;
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| {
            let stays = set.upstreams().iter().any(|kept| Arc::ptr_eq(kept, pool.upstream()));
            if !stays {
                pool.retire();
            }
            stays
        });
    }

    fn pool(&self, upstream: &Arc<Upstream>) -> Arc<Pool> {
        let key = Arc::as_ptr(upstream) as usize;
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool::new(
            Arc::clone(upstream),
            &self.shared,
            Arc::clone(&self.tally),
            (self.tls_counters.clone(), self.guard_counters.clone()),
            self.random(),
        ));
        pools.insert(key, Arc::clone(&pool));
        pool
    }
}

/// A call that was admitted and has no response yet.
pub(super) struct Call<'a> {
    pub(super) thread: &'a Thread,
    head: http::request::Parts,
    pub(super) body: ReplayableRequest,
    pub(super) deadline: Option<Instant>,
    pub(super) is_grpc: bool,
    hash_key: Option<u64>,
    pub(super) notes: Arc<Notes>,
    pub(super) tried: Mutex<Offered>,
}

/// Which body an attempt sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The request as it comes, from its start.
    Request,
    /// What is kept of a whole request, beside another attempt.
    Copy,
}

impl<'a> Call<'a> {
    fn new(
        thread: &'a Thread,
        (head, body): (http::request::Parts, Incoming),
        deadline: Option<Instant>,
        is_grpc: bool,
        notes: Arc<Notes>,
    ) -> Self {
        let bound_bytes = thread.shared.config.calls.replay_buffer_bytes;
        let body = ReplayableRequest::new(body, bound_bytes, Arc::clone(&notes));
        let name = thread.shared.config.hash_header.as_ref();
        let value = name.and_then(|name| head.headers.get(name));
        let hash_key = value.map(|value| hash_bytes(value.as_bytes()));
        let tried = Mutex::default();
        Self { thread, head, body, deadline, is_grpc, hash_key, notes, tried }
    }

    /// Offers the call to backends until one answers or it must fail.
    async fn run(self) -> Result<Response<ResponseBody>, Failure> {
        let mut last = None;
        let mut budgeted = None;
        while self.notes.attempts() < self.max_attempts() {
            let Some((index, pool)) = self.pick(last.as_ref()) else { break };
            if last.is_some() {
                self.thread.counters.retries.inc();
            }
            match self.attempt_hedged(index, &pool, budgeted.take()).await {
                Ok(response) => return Ok(response),
                Err(Broken::Final(failure, _)) => return Err(failure),
                Err(Broken::Later(pause, place, outcome)) => {
                    self.note_tried(index);
                    tokio::time::sleep(pause).await;
                    budgeted = Some(place);
                    last = Some(Broken::Unprocessed(Failure::NoBackend, outcome));
                }
                Err(retriable) => {
                    self.note_tried(index);
                    last = Some(retriable);
                }
            }
        }
        Err(last.map_or(Failure::NoBackend, Broken::failure))
    }

    pub(super) fn max_attempts(&self) -> u32 {
        self.thread.shared.config.calls.max_attempts
    }

    pub(super) fn tried(&self) -> MutexGuard<'_, Offered> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_tried(&self, index: usize) {
        self.tried().insert(index);
    }

    /// The backend for the next attempt.
    fn pick(&self, last: Option<&Broken>) -> Option<(usize, Arc<Pool>)> {
        let picked = self.pick_untried();
        if picked.is_none() && matches!(last, Some(Broken::Unprocessed(..))) {
            // Every backend was tried, and the last has not looked at the call:
            // another of its connections may take it.
            *self.tried() = Offered::default();
            return self.pick_untried();
        }
        picked
    }

    /// A backend that was not tried.
    pub(super) fn pick_untried(&self) -> Option<(usize, Arc<Pool>)> {
        let thread = self.thread;
        let upstreams = &thread.shared.upstreams;
        let set = upstreams.current();
        thread.follow(&set);
        let (random, now_ns) = (thread.random(), upstreams.now_ns());
        let input = PickInput { random, now_ns, key: self.hash_key };
        let picked = set.pick(&input, self.tried().of(&set));
        picked.map(|(index, upstream)| (index, thread.pool(upstream)))
    }

    pub(super) async fn attempt(
        &self,
        pool: &Arc<Pool>,
        source: Source,
        budgeted: Option<Budgeted>,
    ) -> Result<Response<ResponseBody>, Broken> {
        self.notes.begin(pool.upstream());
        let in_flight = Arc::clone(&self.thread.again).begin();
        let mut attempt = Attempt::begin(pool, self.deadline, (in_flight, budgeted));
        let result = self.send(pool, &mut attempt, source).await;
        let result = match result {
            Ok(response) => self.keep_back(response),
            Err(broken) => Err(self.after_failure(broken)),
        };
        match result {
            Ok(response) => {
                attempt.observe(&self.thread.shared);
                self.body.commit();
                let (head, body) = response.into_parts();
                let request = self.body.clone();
                let body =
                    ResponseBody::new(&head, body, request, attempt, self.deadline, self.is_grpc);
                Ok(Response::from_parts(head, body))
            }
            Err(broken) => {
                attempt.outcome = Some(broken.outcome());
                Err(broken)
            }
        }
    }

    /// Whether the attempt, which is counted already, is within the limits on
    /// calls in flight.
    fn check_circuit(&self, pool: &Pool) -> Result<(), Broken> {
        let limits = &self.thread.shared.config.circuit;
        let total = || {
            let current = self.thread.shared.upstreams.current();
            current.upstreams().iter().map(|upstream| upstream.backend().in_flight()).sum()
        };
        let checked = limits.check_requests(pool.upstream().backend().in_flight(), total);
        checked.map_err(|limit| self.circuit_open(pool, limit))
    }

    fn circuit_open(&self, pool: &Pool, limit: Limit) -> Broken {
        self.thread.circuit_counters.count(limit);
        let failure = Failure::CircuitOpen { backend: pool.upstream().name().to_owned(), limit };
        if limit.spares_others() {
            Broken::Unsent(failure)
        } else {
            // Another backend is no help.
            Broken::Final(failure, Outcome::Unsent)
        }
    }

    /// Puts the call on a connection and waits for the response's headers.
    async fn send(
        &self,
        pool: &Arc<Pool>,
        attempt: &mut Attempt,
        source: Source,
    ) -> Result<Response<Incoming>, Broken> {
        let name = || pool.upstream().name().to_owned();
        self.check_circuit(pool)?;
        let lease = pool.lease().await.map_err(|unavailable| match unavailable {
            Unavailable::Circuit(limit) => self.circuit_open(pool, limit),
            Unavailable::Full => Broken::Unsent(Failure::Overload { backend: name() }),
            Unavailable::Connect(reason) => {
                Broken::Unsent(Failure::Connect { backend: name(), reason })
            }
        })?;
        let lease = Arc::new(lease);
        attempt.lease = Some(Arc::clone(&lease));
        let body = match source {
            Source::Request => self.body.attempt(Arc::clone(&lease)),
            Source::Copy => self.body.copy(Arc::clone(&lease)),
        };
        let (Some(mut sender), Some(body)) = (lease.sender(), body) else {
            // The request has outgrown what is kept of it.
            return Err(Broken::Final(
                Failure::BackendReset { backend: name(), code: code::REFUSED_STREAM },
                Outcome::Reset,
            ));
        };
        attempt.sent();
        let request = self.request(pool.upstream(), body)?;
        let answer = sender.try_send_request(request);
        let read = (source == Source::Request).then(|| self.body.clone());
        let sent = Sent::new(answer, lease, Arc::clone(pool.upstream()), read);
        sent.await.map_err(|mut error| {
            if error.take_message().is_some() {
                Broken::Unprocessed(Failure::BackendBroke { backend: name() }, Outcome::Broken)
            } else {
                broken(error.error(), pool.upstream().name())
            }
        })
    }

    fn request(
        &self,
        upstream: &Upstream,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, Broken> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = absolute(&self.head.uri, &self.head.headers, upstream);
        *request.headers_mut() = self.head.headers.clone();
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Final(Failure::Deadline, Outcome::Deadline));
            }
            request.headers_mut().insert("grpc-timeout", timeout_value(left));
        }
        Ok(request)
    }
}

fn timeout_value(left: Duration) -> HeaderValue {
    // Digits and a letter are always a header value.
    HeaderValue::from_bytes(grpc::format_timeout(left).as_bytes())
        .unwrap_or_else(|_| HeaderValue::from_static("1n"))
}

/// hyper's client wants a scheme and an authority, which a client may have
/// left out (RFC 9113, section 8.3.1, lets `host` stand in).
fn absolute(uri: &Uri, headers: &HeaderMap, upstream: &Upstream) -> Uri {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return uri.clone();
    }
    let mut parts = uri.clone().into_parts();
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.scheme = parts.scheme.or(Some(Scheme::HTTP));
    parts.authority =
        parts.authority.or(host).or_else(|| Authority::try_from(upstream.addr().to_string()).ok());
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// The size of a request's headers as SETTINGS_MAX_HEADER_LIST_SIZE counts it
/// (RFC 9113, section 6.5.2): names, values, and 32 bytes for each.
fn header_list_bytes(head: &http::request::Parts) -> usize {
    const OVERHEAD: usize = 32;
    let authority = head.uri.authority().map_or("", Authority::as_str);
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let pseudo = ":method:scheme:authority:path".len()
        + 4 * OVERHEAD
        + head.method.as_str().len()
        + head.uri.scheme_str().unwrap_or_default().len()
        + authority.len()
        + path.len();
    let fields = head.headers.iter();
    fields.fold(pseudo, |sum, (name, value)| sum + name.as_str().len() + value.len() + OVERHEAD)
}

/// What makes a request malformed and neither h2 nor hyper looks for: a field
/// value with a space or tab at its start or end (RFC 9113, section 8.2.1), a
/// path that is missing, and a `host` that names something else than
/// `:authority` (section 8.3.1). Two servers that read such a request differently
/// are how requests are smuggled.
fn is_malformed(head: &http::request::Parts) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let has_blank_end = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        is_blank(bytes.first()) || is_blank(bytes.last())
    };
    let differs = |authority: &Authority| {
        let host = head.headers.get(header::HOST);
        host.is_some_and(|host| {
            !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
        })
    };
    let has_no_path = head.method != Method::CONNECT && head.uri.path().is_empty();
    has_no_path
        || head.headers.values().any(has_blank_end)
        || head.uri.authority().is_some_and(differs)
}

/// Puts an answer on the wire.
fn render(answer: Answer) -> Result<Response<ResponseBody>, h2::Error> {
    let mut response = Response::new(ResponseBody::empty());
    match answer {
        Answer::TrailersOnly { status, message } | Answer::Trailers { status, message } => {
            let headers = response.headers_mut();
            *headers = status_headers(status, &message);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        Answer::Http { status } => {
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        }
        Answer::Reset { code } => return Err(h2::Reason::from(code).into()),
    }
    Ok(response)
}

/// An attempt in flight. Dropping it ends it: exactly once in the backend's
/// load, and once in the counts.
pub(super) struct Attempt {
    pool: Arc<Pool>,
    in_flight: InFlight,
    /// Keeps the place on the connection until the response has ended.
    lease: Option<Arc<Lease>>,
    deadline: Option<Instant>,
    sent_at: Option<Instant>,
    /// Its places among the thread's attempts, and among those that come out of
    /// the retry budget.
    _places: (Budgeted, Option<Budgeted>),
    /// How it ended. Without one it was dropped: by the deadline, or because
    /// the client went away.
    pub(super) outcome: Option<Outcome>,
}

impl Attempt {
    fn begin(
        pool: &Arc<Pool>,
        deadline: Option<Instant>,
        places: (Budgeted, Option<Budgeted>),
    ) -> Self {
        Self {
            _places: places,
            pool: Arc::clone(pool),
            in_flight: pool.upstream().begin(),
            lease: None,
            deadline,
            sent_at: None,
            outcome: None,
        }
    }

    pub(super) fn backend_name(&self) -> &str {
        self.pool.upstream().name()
    }

    fn sent(&mut self) {
        self.sent_at = Some(Instant::now());
    }

    /// The response's headers are there.
    fn observe(&mut self, shared: &Shared) {
        if let Some(sent_at) = self.sent_at {
            let latency_ns = sent_at.elapsed().as_nanos() as u64;
            self.in_flight.observe(shared.upstreams.now_ns(), latency_ns);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let is_late = || self.deadline.is_some_and(|at| Instant::now() >= at);
        let outcome = self
            .outcome
            .unwrap_or_else(|| if is_late() { Outcome::Deadline } else { Outcome::Cancelled });
        self.pool.counters().count(outcome);
        self.pool.upstream().note(outcome);
    }
}

/// How an attempt broke, and what may be done about it.
#[derive(Debug)]
pub(super) enum Broken {
    /// It was never on a connection; another backend can have it.
    Unsent(Failure),
    /// The backend said, or it is certain, that the call was not processed;
    /// another connection can have it.
    Unprocessed(Failure, Outcome),
    /// Whether the backend acted on it is unknown.
    Final(Failure, Outcome),
    /// The same, but another attempt is due after a pause, for which the retry
    /// budget has kept a place.
    Later(Duration, Budgeted, Outcome),
}

impl Broken {
    /// What it is for the client.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Unsent(failure) | Self::Unprocessed(failure, _) | Self::Final(failure, _) => {
                failure
            }
            Self::Later(..) => Failure::NoBackend,
        }
    }

    /// What it is in the counts.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unsent(_) => Outcome::Unsent,
            Self::Later(_, _, outcome)
            | Self::Unprocessed(_, outcome)
            | Self::Final(_, outcome) => *outcome,
        }
    }
}

/// Reads how an attempt broke from hyper's error.
pub(super) fn broken(error: &hyper::Error, backend: &str) -> Broken {
    let backend = backend.to_owned();
    let Some(h2_error) = h2_source(error) else {
        return Broken::Final(Failure::BackendBroke { backend }, Outcome::Broken);
    };
    match h2_error.reason() {
        // h2 gives GOAWAY's error to no stream but those it leaves out
        // (RFC 9113, section 6.8: they "might be retried").
        Some(_) if h2_error.is_go_away() && h2_error.is_remote() => {
            Broken::Unprocessed(Failure::BackendBroke { backend }, Outcome::Refused)
        }
        Some(reason) if h2_error.is_reset() && h2_error.is_remote() => {
            let failure = Failure::BackendReset { backend, code: reason.into() };
            if reason == h2::Reason::REFUSED_STREAM {
                Broken::Unprocessed(failure, Outcome::Refused)
            } else {
                Broken::Final(failure, Outcome::Reset)
            }
        }
        _ => Broken::Final(Failure::BackendBroke { backend }, Outcome::Broken),
    }
}

pub(super) fn h2_source(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
