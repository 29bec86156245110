//! Active health checks: each backend is asked at an interval whether it is
//! there, and left out after several failures in a row.
//!
//! The question is a [`Check`]. To open a connection and close it is all that
//! this crate can ask by itself, and a backend that accepts and never answers
//! passes; asking in gRPC is `serve`'s work, as this crate never sees HTTP.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use serve::Shutdown;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::HealthConfig;
use crate::fleet::Fleet;
use crate::upstreams::Upstream;

/// Checks at once. Beyond these, backends wait for their turn.
const CHECKS_AT_ONCE: usize = 64;

/// A question to a backend that shows whether it is well.
pub(crate) trait Check: Clone + Send + Sync + 'static {
    /// Asks; the caller bounds the time.
    fn check(&self, address: SocketAddr) -> impl Future<Output = bool> + Send;
}

/// Whether a connection can be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connects;

impl Check for Connects {
    async fn check(&self, address: SocketAddr) -> bool {
        TcpStream::connect(address).await.is_ok()
    }
}

/// Whether the gRPC health service says that it serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaysServing;

impl Check for SaysServing {
    async fn check(&self, address: SocketAddr) -> bool {
        serve::grpc_health::is_serving(address, "").await.unwrap_or(false)
    }
}

/// Verdicts in a row of one kind, and what was made of them.
#[derive(Clone, Copy, Debug)]
struct Streak {
    is_healthy: bool,
    against: u32,
}

impl Streak {
    /// Backends count as healthy until they have failed.
    const NEW: Self = Self { is_healthy: true, against: 0 };

    /// Takes a verdict. Whether it changed what is thought of the backend.
    fn note(&mut self, passed: bool, config: &HealthConfig) -> bool {
        self.against = if passed == self.is_healthy { 0 } else { self.against + 1 };
        let needed = if self.is_healthy { config.fall } else { config.rise };
        let has_changed = self.against >= needed.get();
        if has_changed {
            *self = Self { is_healthy: passed, against: 0 };
        }
        has_changed
    }
}

/// Checks all backends of the fleet until the proxy is told to end.
pub(crate) async fn watch(
    fleet: Arc<Fleet>,
    check: impl Check,
    config: HealthConfig,
    mut shutdown: Shutdown,
) {
    let mut ticks = interval(config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streaks = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.terminated() => return,
            _ = ticks.tick() => {}
        }
        let round = check_all(&fleet, &check, config, &mut streaks);
        tokio::select! {
            () = shutdown.terminated() => return,
            () = round => {}
        }
    }
}

async fn check_all(
    fleet: &Arc<Fleet>,
    check: &impl Check,
    config: HealthConfig,
    streaks: &mut HashMap<SocketAddr, Streak>,
) {
    let members = fleet.members();
    streaks.retain(|address, _| members.iter().any(|one| one.address == *address));
    let mut waiting = members.into_iter();
    let mut asked: JoinSet<(Arc<Upstream>, bool)> = JoinSet::new();
    loop {
        while asked.len() < CHECKS_AT_ONCE
            && let Some(upstream) = waiting.next()
        {
            let check = check.clone();
            asked.spawn(async move {
                let verdict = timeout(config.timeout, check.check(upstream.address)).await;
                (upstream, verdict.unwrap_or(false))
            });
        }
        let Some(answer) = asked.join_next().await else { return };
        let Ok((upstream, passed)) = answer else { continue };
        let streak = streaks.entry(upstream.address).or_insert(Streak::NEW);
        streak.note(passed, &config);
        // Always, for a backend that was replaced by one of the same address
        // knows nothing of an earlier verdict.
        let (is_healthy, now_ms) = (streak.is_healthy, fleet.now_ms());
        if upstream.snapshot().standing.is_unhealthy() == is_healthy {
            upstream.change(|standing| standing.set_healthy(is_healthy, now_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HealthCheck;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn verdicts_in_a_row_count_and_single_ones_do_not() {
        let config = HealthConfig {
            check: HealthCheck::Connect,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: NonZeroU32::new(3).unwrap(),
            rise: NonZeroU32::new(2).unwrap(),
        };
        let mut streak = Streak::NEW;
        let changes: Vec<_> =
            [false, false, true, false, false, false, false, true, false, true, true]
                .map(|passed| streak.note(passed, &config))
                .into_iter()
                .enumerate()
                .filter(|(_, changed)| *changed)
                .map(|(at, _)| at)
                .collect();
        assert_eq!(changes, [5, 10]);
        assert!(streak.is_healthy);
    }
}
