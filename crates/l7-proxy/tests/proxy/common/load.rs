//! Unary calls without a pause, for tests of what happens meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use echo_proto::v1::echo_client::EchoClient;
use testkit::{await_that, within};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::echo;

/// Calls that run until they are told to stop.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: JoinSet<Vec<tonic::Status>>,
}

impl Load {
    /// `count` workers, each with one call after the other on a shared client.
    pub(crate) fn start(client: &EchoClient<Channel>, count: usize) -> Self {
        let mut load =
            Self { is_over: Arc::default(), done: Arc::default(), workers: JoinSet::new() };
        for _ in 0..count {
            load.workers.spawn(worker(
                client.clone(),
                Arc::clone(&load.is_over),
                Arc::clone(&load.done),
            ));
        }
        load
    }

    /// Waits for so many further calls.
    pub(crate) async fn advance(&self, calls: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + calls;
        await_that("calls to be made", || self.done.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Stops. Gives the calls that failed.
    pub(crate) async fn stop(mut self) -> Vec<tonic::Status> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(failed) = within("a worker to stop", self.workers.join_next()).await {
            failures.extend(failed.unwrap());
        }
        failures
    }
}

async fn worker(
    mut client: EchoClient<Channel>,
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<tonic::Status> {
    let mut failures = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        match client.unary(echo(1, vec![5; 100])).await {
            Ok(response) => assert_eq!(response.into_inner().payload.len(), 100),
            // gRPC libraries make such a call again without saying so
            // ("transparent retry"); tonic leaves it to its user.
            Err(status) if was_never_sent(&status) => continue,
            Err(status) => failures.push(status),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

/// Whether the client's side gave the call up before a byte of it was sent: it
/// was queued when the connection went away.
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        source = error.source();
    }
    false
}
