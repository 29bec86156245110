//! One call, from the client's headers to the backend's.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use balance::{PickInput, hash_bytes};
use h2_wire::{grpc, hpack::Field};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    access_log::{CallStats, Entry},
    attempt::{Attempt, Broken, Next, broken},
    headers::{absolute, header_list_bytes, is_malformed, render},
    local::Count,
    pool::{Pool, Pools},
    replay_body::{self, Replay, ReplayBody},
    response_body::ResponseBody,
    thread::Thread,
};
use crate::{
    failure::{Failure, Progress, answer},
    metrics::Outcome,
    planes::Shared,
    upstreams::{Offered, Upstream},
};

/// Answers the calls of one thread.
pub(super) struct Calls {
    pub(super) thread: Rc<Thread>,
    pools: Pools,
}

impl Calls {
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        Self { thread: Rc::new(Thread::new(shared, seed)), pools: Pools::default() }
    }

    /// Answers one request. An error is the code to reset the stream with.
    pub(super) async fn serve(
        self: Rc<Self>,
        request: Request<Incoming>,
        remote: SocketAddr,
    ) -> Result<Response<ResponseBody>, h2::Error> {
        let (head, body) = request.into_parts();
        let stats = Rc::new(CallStats::default());
        let mut entry = Entry::begin(&self.thread, &head, remote, &stats);
        if is_malformed(&head) {
            return Err(h2::Reason::PROTOCOL_ERROR.into());
        }
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes()));
        let result = match self.admit(&head, is_grpc) {
            Ok(deadline) => {
                let config = &self.thread.shared.config;
                let key = config.hash_header.as_ref().and_then(|name| head.headers.get(name));
                let received = Rc::clone(&stats.request_bytes);
                let call = Call {
                    thread: &self.thread,
                    pools: &self.pools,
                    hash_key: key.map(|value| hash_bytes(value.as_bytes())),
                    head,
                    body: Replay::shared(body, config.calls.replay_buffer_bytes, received),
                    deadline,
                    is_grpc,
                    stats,
                    tried: RefCell::default(),
                };
                match deadline {
                    Some(at) => timeout_at(at, call.run()).await.unwrap_or(Err(Failure::Deadline)),
                    None => call.run().await,
                }
            }
            Err(failure) => Err(failure),
        };
        let mut response = result.or_else(|failure| {
            self.thread.counters.count_rejection(&failure);
            if let Some(entry) = &mut entry {
                entry.failed(&failure);
            }
            render(answer(&failure, is_grpc, Progress::BeforeHeaders))
        })?;
        if let Some(mut entry) = entry {
            entry.head(&response);
            response.body_mut().log = Some(entry);
        }
        Ok(response)
    }

    /// Checks what can be checked without a backend, and gives the deadline.
    fn admit(
        &self,
        head: &http::request::Parts,
        is_grpc: bool,
    ) -> Result<Option<Instant>, Failure> {
        let config = &self.thread.shared.config;
        let limits = &config.downstream;
        if head.headers.len() > limits.max_headers
            || header_list_bytes(head) > limits.max_header_list_bytes as usize
        {
            return Err(Failure::HeadersTooLarge);
        }
        let mut via = head.headers.get_all(header::VIA).iter();
        if via.any(|via| self.thread.shared.via.is_in([Field::new(b"via", via.as_bytes())])) {
            return Err(Failure::Loop);
        }
        if !is_grpc {
            return if config.calls.forward_http { Ok(None) } else { Err(Failure::NotGrpc) };
        }
        let Some(timeout) = head.headers.get("grpc-timeout") else { return Ok(None) };
        let timeout = grpc::parse_timeout(timeout.as_bytes()).ok_or(Failure::MalformedTimeout)?;
        Ok(Some(Instant::now() + timeout.min(config.calls.max_deadline)))
    }
}

/// A call that was admitted and has no response yet.
pub(super) struct Call<'a> {
    pub(super) thread: &'a Rc<Thread>,
    pools: &'a Pools,
    head: http::request::Parts,
    pub(super) body: replay_body::Shared<Incoming>,
    pub(super) deadline: Option<Instant>,
    pub(super) is_grpc: bool,
    hash_key: Option<u64>,
    pub(super) stats: Rc<CallStats>,
    pub(super) tried: RefCell<Offered>,
}

impl Call<'_> {
    /// Offers the call to backends until one answers or it must fail.
    async fn run(self) -> Result<Response<ResponseBody>, Failure> {
        let mut last = None;
        let mut may_repeat = false;
        let mut budgeted = None;
        while self.stats.attempts.get() < self.max_attempts() {
            let Some((index, pool)) = self.pick(may_repeat) else { break };
            // One that has outgrown what is kept of it is not sent again.
            let Some(body) = Replay::attempt(&self.body) else { break };
            if last.is_some() {
                self.thread.counters.retries.inc();
            }
            let broken = match self.attempt_hedged(index, &pool, body, budgeted.take()).await {
                Ok(response) => return Ok(response),
                Err(broken) => broken,
            };
            self.tried.borrow_mut().insert(index);
            may_repeat = !matches!(broken.next, Next::Elsewhere);
            match broken.next {
                Next::Elsewhere | Next::Anywhere => {}
                Next::Nothing => return Err(broken.failure),
                Next::Later(pause, place) => {
                    sleep(pause).await;
                    budgeted = Some(place);
                }
            }
            last = Some(broken.failure);
        }
        Err(last.unwrap_or(Failure::NoBackend))
    }

    pub(super) fn max_attempts(&self) -> u32 {
        self.thread.shared.config.calls.max_attempts
    }

    /// The backend for the next attempt.
    fn pick(&self, may_repeat: bool) -> Option<(usize, Rc<Pool>)> {
        self.pick_untried().or_else(|| {
            // Every backend was tried, and the last has not looked at the call:
            // another of its connections may take it.
            may_repeat.then(|| self.tried.take())?;
            self.pick_untried()
        })
    }

    /// A backend that was not tried.
    pub(super) fn pick_untried(&self) -> Option<(usize, Rc<Pool>)> {
        let thread = self.thread;
        let upstreams = &thread.shared.upstreams;
        let set = upstreams.current();
        self.pools.follow(&set);
        let (random, now_ns) = (thread.random(), upstreams.now_ns());
        let input = PickInput { random, now_ns, key: self.hash_key };
        let picked = set.pick(&input, self.tried.borrow_mut().of(&set));
        picked.map(|(index, upstream)| (index, self.pools.of(upstream, &thread.shared)))
    }

    pub(super) async fn attempt(
        &self,
        pool: &Rc<Pool>,
        body: ReplayBody<Incoming>,
        budgeted: Option<Count>,
    ) -> Result<Response<ResponseBody>, Broken> {
        self.stats.attempts.set(self.stats.attempts.get() + 1);
        self.stats.backend.replace(Some(Arc::clone(&pool.upstream)));
        let in_flight = Rc::clone(&self.thread.attempts);
        let mut attempt = Attempt {
            in_flight: pool.upstream.begin(),
            pool: Rc::clone(pool),
            worn: self.thread.guard_counters.worn_connections.clone(),
            sent: None,
            deadline: self.deadline,
            _places: (in_flight, budgeted),
            outcome: None,
        };
        let result = match self.send(pool, &mut attempt, body).await {
            Ok(response) => self.keep_back(response),
            Err(broken) => Err(self.after_failure(broken)),
        };
        let response = result.inspect_err(|broken| attempt.outcome = Some(broken.outcome))?;
        if let Some((sent_at, _)) = &attempt.sent {
            let latency_ns = sent_at.elapsed().as_nanos() as u64;
            attempt.in_flight.observe(pool.now_ns(), latency_ns);
        }
        // No other attempt will be made.
        self.body.borrow_mut().is_replayable = false;
        let (head, body) = response.into_parts();
        let request = Rc::clone(&self.body);
        let body = ResponseBody::new(&head, body, request, attempt, self.deadline, self.is_grpc);
        Ok(Response::from_parts(head, body))
    }

    /// There is no place for the call, for this reason.
    fn unsent(&self, failure: Failure) -> Broken {
        let mut next = Next::Elsewhere;
        if let Failure::CircuitOpen { limit, .. } = failure {
            self.thread.circuit_counters.count(limit);
            if !limit.spares_others() {
                next = Next::Nothing;
            }
        }
        Broken { failure, outcome: Outcome::Unsent, next }
    }

    /// Puts the call on a connection and waits for the response's headers.
    async fn send(
        &self,
        pool: &Rc<Pool>,
        attempt: &mut Attempt,
        body: ReplayBody<Incoming>,
    ) -> Result<Response<Incoming>, Broken> {
        let lease = pool.lease(self.thread).await.map_err(|failure| self.unsent(failure))?;
        let request = self.request(&pool.upstream, body)?;
        let mut sender = lease.sender();
        let (_, lease) = attempt.sent.insert((Instant::now(), lease));
        let response = sender.try_send_request(request).await.map_err(|mut error| {
            if error.take_message().is_some() {
                let failure = Failure::BackendBroke { backend: pool.name() };
                Broken { failure, outcome: Outcome::Broken, next: Next::Anywhere }
            } else {
                broken(error.error(), pool.name())
            }
        })?;
        lease.places().has_served = true;
        Ok(response)
    }

    fn request(
        &self,
        upstream: &Upstream,
        body: ReplayBody<Incoming>,
    ) -> Result<Request<ReplayBody<Incoming>>, Broken> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = absolute(&self.head.uri, &self.head.headers, upstream);
        *request.headers_mut() = self.head.headers.clone();
        if let Ok(via) = HeaderValue::from_bytes(self.thread.shared.via.field().value) {
            request.headers_mut().append(header::VIA, via);
        }
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (failure, outcome) = (Failure::Deadline, Outcome::Deadline);
                return Err(Broken { failure, outcome, next: Next::Nothing });
            }
            // Digits and a letter are always a header value.
            if let Ok(left) = HeaderValue::from_bytes(grpc::format_timeout(left).as_bytes()) {
                request.headers_mut().insert("grpc-timeout", left);
            }
        }
        Ok(request)
    }
}
