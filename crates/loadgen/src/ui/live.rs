//! Metrics of the run itself while it is under way, in Prometheus' text format: for
//! a dashboard beside those of the proxies and backends.
//!
//! The endpoint has a thread of its own. What it shows is told by the thread that
//! watches a trial, some fifty times a second; the workers that make calls know
//! nothing of it.

use std::{io, net::SocketAddr, thread};

use serve::{
    BindOptions, Counter, Gauge, Metrics, Shutdown, ShutdownTrigger, http1::host::AllowedHosts,
};

use crate::run::trial::TrialProgress;

const CALLS: &str = "layerlab_calls_ended_total";
const CALLS_HELP: &str = "Calls of the generator that ended, warm-up included, by peer.";

/// The metrics of one run. Dropping it closes the endpoint.
pub(crate) struct Live {
    metrics: Metrics,
    planned: Gauge,
    done: Gauge,
    current: Option<Current>,
    _shutdown: ShutdownTrigger,
}

struct Current {
    calls: Counter,
    /// Calls of this trial that are counted already.
    counted: u64,
}

impl Live {
    /// Serves them at `address`, under `/metrics`, also by the names allowed.
    pub(crate) fn listen(
        address: SocketAddr,
        allowed: AllowedHosts,
    ) -> io::Result<(Self, SocketAddr)> {
        let listener = serve::bind(address, BindOptions::default())?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let metrics = Metrics::new();
        let (trigger, shutdown) = Shutdown::channel();
        let served = metrics.clone();
        thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.block_on(serve::serve_metrics(listener, served, allowed, shutdown));
        })?;
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let live = Self {
            planned: gauge("layerlab_trials_planned", "Trials of the run, as far as is known."),
            done: gauge("layerlab_trials_done", "Trials of the run that ended."),
            current: None,
            metrics,
            _shutdown: trigger,
        };
        Ok((live, address))
    }

    pub(super) fn planned(&self, trials: usize) {
        self.planned.set(i64::try_from(trials).unwrap_or(i64::MAX));
    }

    pub(super) fn trial_begins(&mut self, peer: &str) {
        let calls = self.metrics.counter(CALLS, CALLS_HELP, &[("peer", peer)]);
        self.current = Some(Current { calls, counted: 0 });
    }

    pub(super) fn update(&mut self, progress: &TrialProgress) {
        if let (TrialProgress::Running { ended, .. }, Some(current)) = (progress, &mut self.current)
        {
            current.calls.add(ended.saturating_sub(current.counted));
            current.counted = current.counted.max(*ended);
        }
    }

    pub(super) fn trial_ends(&mut self, done: usize) {
        self.current = None;
        self.done.set(i64::try_from(done).unwrap_or(i64::MAX));
    }
}
