//! Attempts after a failure that a backend may have worked on, and attempts
//! made ahead of one: the acts. What is decided is in [`crate::retry`].

use std::{pin::pin, rc::Rc};

use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use super::{
    attempt::{Broken, Next},
    call::Call,
    local::{Count, held},
    pool::Pool,
    replay_body::{Replay, ReplayBody},
    response_body::{ResponseBody, outcome},
};
use crate::{
    failure::Failure,
    retry::{CallState, GrpcStatus, Pushback, Verdict},
};

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
        let outcome = outcome(self.is_grpc, response.status(), Some(response.headers()));
        match self.retry_after(status, pushback) {
            Some(next) => Err(Broken { failure: Failure::NoBackend, outcome, next }),
            None => Ok(response),
        }
    }

    /// Turns a failure into another attempt, if one may be made.
    pub(super) fn after_failure(&self, mut broken: Broken) -> Broken {
        if matches!(broken.next, Next::Nothing)
            && let Some(status) = GrpcStatus::of_failure(&broken.failure)
            && let Some(next) = self.retry_after(status, Pushback::None)
        {
            broken.next = next;
        }
        broken
    }

    fn retry_after(&self, status: GrpcStatus, pushback: Pushback) -> Option<Next> {
        let thread = self.thread;
        let state = CallState {
            attempts: self.stats.attempts.get(),
            max_attempts: self.max_attempts(),
            is_replayable: self.is_grpc && self.body.borrow().is_replayable,
            left: self.deadline.map(|at| at.saturating_duration_since(Instant::now())),
            calls: held(&thread.attempts) as usize,
            budgeted: held(&thread.budgeted) as usize,
        };
        let policy = &thread.shared.config.retry;
        match policy.decide(status, pushback, state, thread.random()) {
            Verdict::Tell => None,
            Verdict::OverBudget => {
                thread.retry_counters.over_budget.inc();
                None
            }
            Verdict::TryAfter(pause) => {
                thread.retry_counters.retries.inc();
                Some(Next::Later(pause, Rc::clone(&thread.budgeted)))
            }
        }
    }

    /// One attempt, and a second beside it if the first has no answer in time.
    pub(super) async fn attempt_hedged(
        &self,
        index: usize,
        pool: &Rc<Pool>,
        body: ReplayBody<Incoming>,
        budgeted: Option<Count>,
    ) -> Result<Response<ResponseBody>, Broken> {
        let delay = self.thread.shared.config.retry.hedge_delay;
        let Some(delay) = delay.filter(|_| self.is_grpc) else {
            return self.attempt(pool, body, budgeted).await;
        };
        let mut first = pin!(self.attempt(pool, body, budgeted));
        tokio::select! {
            result = &mut first => return result,
            () = sleep(delay) => {}
        }
        let Some(second) = self.hedge(index) else { return first.await };
        let mut second = pin!(second);
        let (is_second, result) = tokio::select! {
            result = &mut first => (false, result),
            result = &mut second => (true, result),
        };
        // The loser is dropped, which resets it; where one fails, the other is
        // waited for.
        let (is_second, result) = match result {
            Ok(response) => (is_second, Ok(response)),
            Err(_) if is_second => (false, first.await),
            Err(_) => (true, second.await),
        };
        if is_second && result.is_ok() {
            self.thread.retry_counters.hedges_won.inc();
        }
        result
    }

    /// A second attempt, if one may be made beside the first, which is on the
    /// backend of this index.
    fn hedge(
        &self,
        first: usize,
    ) -> Option<impl Future<Output = Result<Response<ResponseBody>, Broken>>> {
        let thread = self.thread;
        if self.stats.attempts.get() >= self.max_attempts() {
            return None;
        }
        let body = Replay::copy(&self.body)?;
        self.tried.borrow_mut().insert(first);
        let (index, pool) = self.pick_untried()?;
        let (calls, budgeted) = (held(&thread.attempts), held(&thread.budgeted));
        if !thread.shared.config.retry.has_budget(calls as usize, budgeted as usize) {
            thread.retry_counters.over_budget.inc();
            return None;
        }
        self.tried.borrow_mut().insert(index);
        thread.retry_counters.hedges.inc();
        let budgeted = Some(Rc::clone(&thread.budgeted));
        Some(async move { self.attempt(&pool, body, budgeted).await })
    }
}

/// What a response that is one header block says of itself.
fn status_of(headers: &HeaderMap) -> Option<(GrpcStatus, Pushback)> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    let status = GrpcStatus::from_header(value("grpc-status")?)?;
    Some((status, Pushback::from_header(value("grpc-retry-pushback-ms"))))
}
