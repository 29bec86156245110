//! The generator: makes the load of one trial and logs every call.
//!
//! [`schedule`] says when calls are due, [`load`] adds closed loops to that,
//! `slots` says what a connection can carry, [`client`] moves calls, and
//! [`worker`] joins them on one thread. [`Generator`] owns the threads.

pub mod client;
pub mod clock;
pub mod load;
mod members;
pub mod names;
pub mod rate;
pub mod schedule;
mod slots;
pub mod stamps;
pub mod worker;

use std::{
    io,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use client::ConnectError;
use clock::Clock;
use measure::calllog::CallLog;
use tokio::{sync::oneshot, task::LocalSet};
use worker::{Plan, Shared, Worker};

/// The profile that this crate was built in, and its optimisation level: those of all that a
/// call passes through.
pub const BUILD_PROFILE: &str = env!("LAYERLAB_BUILD_PROFILE");
/// The compiler's version.
pub const RUSTC: &str = env!("LAYERLAB_RUSTC");

/// Scheduler ticks between two looks at the sockets and the alarm. The
/// runtime's default of 61 lets a burst of calls make the next one late.
const EVENT_INTERVAL: u32 = 8;
/// How long all connections together may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Worker threads with their connections made, ready to start.
pub struct Generator {
    workers: Vec<WorkerThread>,
    shared: Arc<Shared>,
}

struct WorkerThread {
    start: Option<oneshot::Sender<Clock>>,
    thread: JoinHandle<Result<Vec<CallLog>, WorkerError>>,
}

/// Why a worker has no log to give.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It could not be made ready; [`Generator::connect`] has said why.
    #[error("a generator thread was not ready")]
    NotReady,
    /// The lab ended before the load began.
    #[error("the trial was given up before it began")]
    GivenUp,
    /// The timer that wakes it up.
    #[error("the alarm failed: {0}")]
    Alarm(io::Error),
    /// A bug, whose message is on standard error.
    #[error("a generator thread panicked")]
    Panicked,
}

impl Generator {
    /// Starts a thread for each plan and waits until all connections are made.
    pub fn connect(plans: Vec<Plan>) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared::new(plans.len()));
        let (ready_sender, ready) = mpsc::channel();
        let mut workers = Vec::with_capacity(plans.len());
        for (index, plan) in plans.into_iter().enumerate() {
            let (start, started) = oneshot::channel();
            let ready = ready_sender.clone();
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || run_worker(index, plan, shared, &ready, started))
                .map_err(|error| {
                    ConnectError::own(format!("cannot start a worker thread: {error}"))
                })?;
            workers.push(WorkerThread { start: Some(start), thread });
        }
        for _ in &workers {
            ready.recv_timeout(CONNECT_DEADLINE).map_err(|_| ConnectError {
                is_own: false,
                message: format!(
                    "the connections were not made within {} s",
                    CONNECT_DEADLINE.as_secs()
                ),
            })??;
        }
        Ok(Self { workers, shared })
    }

    /// Lets all workers start at the clock's zero.
    pub fn start(&mut self, clock: Clock) {
        for worker in &mut self.workers {
            if let Some(start) = worker.start.take() {
                // A worker that died is found out by `join`.
                let _ = start.send(clock);
            }
        }
    }

    /// Counters of the workers.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether every worker is done.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.thread.is_finished())
    }

    /// Tells the workers to end early.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the workers and returns their logs.
    pub fn join(self) -> Result<Vec<CallLog>, WorkerError> {
        let mut logs = Vec::new();
        for worker in self.workers {
            logs.extend(worker.thread.join().unwrap_or(Err(WorkerError::Panicked))?);
        }
        Ok(logs)
    }
}

fn run_worker(
    index: usize,
    plan: Plan,
    shared: Arc<Shared>,
    ready: &mpsc::Sender<Result<(), ConnectError>>,
    started: oneshot::Receiver<Clock>,
) -> Result<Vec<CallLog>, WorkerError> {
    let runtime = match (plan.place)().and_then(|()| build_runtime()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("cannot start a runtime: {error}");
            let _ = ready.send(Err(ConnectError::own(message)));
            return Err(WorkerError::NotReady);
        }
    };
    LocalSet::new().block_on(&runtime, async {
        let worker = match Worker::connect(index, plan, shared).await {
            Ok(worker) => worker,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Err(WorkerError::NotReady);
            }
        };
        let _ = ready.send(Ok(()));
        let Ok(clock) = started.await else {
            return Err(WorkerError::GivenUp);
        };
        worker.drive(clock).await.map_err(WorkerError::Alarm)
    })
}

fn build_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
}

#[cfg(test)]
mod tests;
