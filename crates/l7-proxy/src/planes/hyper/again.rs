//! Attempts after a failure that a backend may have worked on, and attempts
//! made ahead of one: the acts. What is decided is in [`crate::retry`].

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use serve::Metrics;
use tokio::time::Instant;

use super::call::{Broken, Call, Source};
use super::pool::Pool;
use super::response_body::{ResponseBody, outcome};
use crate::metrics::Outcome;
use crate::retry::{GrpcStatus, Pushback, RetryCounters, Standing, Verdict};

/// What one thread has in flight, and of that, what came out of its budget.
#[derive(Debug)]
pub(super) struct Again {
    attempts: AtomicUsize,
    budgeted: AtomicUsize,
    counters: RetryCounters,
}

impl Again {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            attempts: AtomicUsize::new(0),
            budgeted: AtomicUsize::new(0),
            counters: RetryCounters::register(metrics),
        }
    }

    /// An attempt in flight.
    pub(super) fn begin(self: Arc<Self>) -> Budgeted {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Budgeted { again: self, is_budgeted: false }
    }

    /// An attempt that comes out of the budget.
    fn take(self: Arc<Self>) -> Budgeted {
        self.budgeted.fetch_add(1, Ordering::Relaxed);
        Budgeted { again: self, is_budgeted: true }
    }
}

/// A place in one of the counts, given back on drop.
#[derive(Debug)]
pub(super) struct Budgeted {
    again: Arc<Again>,
    is_budgeted: bool,
}

impl Drop for Budgeted {
    fn drop(&mut self) {
        let again = &self.again;
        let count = if self.is_budgeted { &again.budgeted } else { &again.attempts };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Call<'_> {
    /// Passes a response's head on, unless it is an answer that is a reason to
    /// try again.
    pub(super) fn keep_back(
        &self,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, Broken> {
        if !response.body().is_end_stream() {
            return Ok(response);
        }
        let Some((status, pushback)) = status_of(response.headers()) else { return Ok(response) };
        let last = Some(response.headers());
        let outcome = outcome(self.is_grpc, response.status(), last);
        self.try_after_status(status, pushback, outcome).map_or(Ok(response), Err)
    }

    /// Turns a failure into another attempt, if one may be made.
    pub(super) fn after_failure(&self, broken: Broken) -> Broken {
        let Broken::Final(failure, outcome) = &broken else { return broken };
        let Some(status) = GrpcStatus::of_failure(failure) else { return broken };
        self.try_after_status(status, Pushback::None, *outcome).unwrap_or(broken)
    }

    fn try_after_status(
        &self,
        status: GrpcStatus,
        pushback: Pushback,
        outcome: Outcome,
    ) -> Option<Broken> {
        let (again, policy) = (&self.thread.again, &self.thread.shared.config.retry);
        let standing = Standing {
            attempts: self.notes.attempts(),
            max_attempts: self.max_attempts(),
            is_replayable: self.is_grpc && self.body.is_replayable(),
            left: self.deadline.map(|at| at.saturating_duration_since(Instant::now())),
            calls: again.attempts.load(Ordering::Relaxed),
            budgeted: again.budgeted.load(Ordering::Relaxed),
        };
        match policy.decide(status, pushback, standing, self.thread.random()) {
            Verdict::Tell => None,
            Verdict::OverBudget => {
                again.counters.over_budget.inc();
                None
            }
            Verdict::TryAfter(pause) => {
                again.counters.retries.inc();
                Some(Broken::Later(pause, Arc::clone(again).take(), outcome))
            }
        }
    }

    /// One attempt, and a second beside it if the first has no answer in time.
    pub(super) async fn attempt_hedged(
        &self,
        index: usize,
        pool: &Arc<Pool>,
        budgeted: Option<Budgeted>,
    ) -> Result<Response<ResponseBody>, Broken> {
        let delay = self.thread.shared.config.retry.hedge_delay;
        let Some(delay) = delay.filter(|_| self.is_grpc) else {
            return self.attempt(pool, Source::Request, budgeted).await;
        };
        let mut first = pin!(self.attempt(pool, Source::Request, budgeted));
        tokio::select! {
            result = &mut first => return result,
            () = tokio::time::sleep(delay) => {}
        }
        let Some(second) = self.hedge(index) else { return first.await };
        let mut second = pin!(second);
        let won = || self.thread.again.counters.hedges_won.inc();
        // The loser is dropped, which resets it; where one fails, the other is
        // waited for.
        tokio::select! {
            result = &mut first => match result {
                Ok(response) => Ok(response),
                Err(_) => second.await.inspect(|_| won()),
            },
            result = &mut second => match result {
                Ok(response) => {
                    won();
                    Ok(response)
                }
                Err(_) => first.await,
            },
        }
    }

    /// A second attempt, if one may be made beside the first, which is on the
    /// backend of this index.
    fn hedge(
        &self,
        first: usize,
    ) -> Option<impl Future<Output = Result<Response<ResponseBody>, Broken>>> {
        let again = &self.thread.again;
        let may_hedge = self.body.is_whole() && self.notes.attempts() < self.max_attempts();
        if !may_hedge {
            return None;
        }
        self.tried().insert(first);
        let (index, pool) = self.pick_untried()?;
        let policy = &self.thread.shared.config.retry;
        let calls = again.attempts.load(Ordering::Relaxed);
        if !policy.has_budget(calls, again.budgeted.load(Ordering::Relaxed)) {
            again.counters.over_budget.inc();
            return None;
        }
        self.tried().insert(index);
        again.counters.hedges.inc();
        let budgeted = Some(Arc::clone(again).take());
        Some(async move { self.attempt(&pool, Source::Copy, budgeted).await })
    }
}

/// What a response that is one header block says of itself.
fn status_of(headers: &HeaderMap) -> Option<(GrpcStatus, Pushback)> {
    let value = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    let status = GrpcStatus::from_header(value("grpc-status")?)?;
    Some((status, Pushback::from_header(value("grpc-retry-pushback-ms"))))
}
