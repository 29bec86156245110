//! What time and failures bring about: ejections and their ends, panic, and shares
//! that grow. The decisions are `balance`'s; here they are fed and acted on.
//!
//! One task does it for all threads. A thread that sees a backend fail several
//! times in a row wakes it and goes on; success rates are read from the counts
//! that the threads keep anyway. So none of this costs a call anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use balance::outlier::{Sample, is_panic, low_success_rates, may_eject};
use serve::{Counter, Gauge, Metrics, Shutdown, health::Checked};

use super::{Fleet, Member, find};

/// A share that grows does so in this many steps over its window.
const STEPS: u32 = 50;
/// The shortest of them, and of all waits, in milliseconds.
const STEP_MIN_MS: u64 = 10;

/// What is counted over all backends.
#[derive(Debug)]
pub(super) struct OutlierCounts {
    refused: Counter,
    panic: Gauge,
}

impl OutlierCounts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        Self {
            refused: metrics.counter(
                "l7_ejections_refused_total",
                "Ejections that were not made, since as many backends are out as may be.",
                &[],
            ),
            panic: metrics.gauge(
                "l7_panic",
                "1 while so few backends are well that the others are used as well.",
                &[],
            ),
        }
    }
}

impl Fleet {
    /// Looks after the backends until the proxy is told to end.
    pub(crate) async fn tend(self: Arc<Self>, mut shutdown: Shutdown) {
        let interval_ms = millis(self.ejection.eject_interval);
        let mut interval_ends_ms = self.now_ms() + interval_ms;
        loop {
            let mut now_ms = self.now_ms();
            let mut next_ms = self.look_after(now_ms);
            if self.ejection.eject {
                if interval_ends_ms <= now_ms {
                    self.end_interval(now_ms);
                    now_ms = self.now_ms();
                    interval_ends_ms = now_ms + interval_ms;
                }
                next_ms = Some(next_ms.map_or(interval_ends_ms, |at| at.min(interval_ends_ms)));
            }
            let rest = async {
                match next_ms {
                    Some(at_ms) => {
                        let wait_ms = at_ms.saturating_sub(now_ms).max(STEP_MIN_MS);
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.terminated() => return,
                () = self.watch.wake.notified() => {}
                () = rest => {}
            }
        }
    }

    /// Ejects those that failed too often in a row, lets those back in whose time
    /// is over, and lets shares grow. Gives when there will be something to do
    /// again of itself.
    pub(super) fn look_after(&self, now_ms: u64) -> Option<u64> {
        let mut members = self.lock();
        for member in &mut *members {
            if member.health.readmit(None, now_ms) {
                tracing::info!(backend = member.upstream.name(), "backend readmitted");
            }
        }
        for index in 0..members.len() {
            if members[index].upstream.take_suspicion() {
                self.eject(&mut members, index, now_ms);
            }
        }
        self.settle(&mut members, now_ms)
    }

    /// Ends an interval: who stood out by its success rate is ejected, and who
    /// was not ejected is forgiven an earlier ejection.
    pub(super) fn end_interval(&self, now_ms: u64) {
        let mut members = self.lock();
        let samples: Vec<_> = members.iter_mut().map(Member::take_sample).collect();
        for member in &mut *members {
            member.health.forgive();
        }
        if let Some(rule) = self.ejection.success_rate() {
            for index in low_success_rates(&samples, rule) {
                self.eject(&mut members, index, now_ms);
            }
        }
        self.settle(&mut members, now_ms);
        drop(members);
        self.watch.wake.notify_one();
    }

    fn eject(&self, members: &mut [Member], index: usize, now_ms: u64) {
        let used = || members.iter().filter(|member| member.is_used());
        let ejected = used().filter(|member| member.health.is_ejected()).count();
        if !may_eject(ejected, used().count(), self.ejection.eject_max_percent) {
            self.counts.refused.inc();
            return;
        }
        let member = &mut members[index];
        if member.is_used() && member.health.eject(self.ejection.ejection(), now_ms) {
            member.ejections.inc();
            tracing::warn!(backend = member.upstream.name(), "backend ejected");
        }
    }

    /// Tells the policies how much each backend gets. Gives when that changes of
    /// itself.
    pub(super) fn settle(&self, members: &mut [Member], now_ms: u64) -> Option<u64> {
        let used = members.iter().filter(|member| member.is_used());
        let (mut count, mut well) = (0, 0);
        for member in used {
            count += 1;
            well += usize::from(member.health.is_available());
        }
        let panic = is_panic(well, count, self.membership.panic_threshold);
        self.counts.panic.set(i64::from(panic));
        let mut next_ms = None;
        let mut wake =
            |at_ms: u64| next_ms = Some(next_ms.map_or(at_ms, |next: u64| next.min(at_ms)));
        for member in members {
            let health = &member.health;
            let warmth = health.warmth(self.slow_start, now_ms);
            let is_given = member.is_used() && (panic || health.is_available());
            member.upstream.backend().set_share(if is_given { warmth } else { 0.0 });
            if let Some(until_ms) = health.ejected_until_ms() {
                wake(until_ms);
            }
            if let Some(slow_start) = self.slow_start
                && is_given
                && warmth < 1.0
            {
                wake(now_ms + (millis(slow_start.window) / u64::from(STEPS)).max(STEP_MIN_MS));
            }
        }
        next_ms
    }
}

impl Member {
    /// What became of its calls in the interval that ends now. One that is out
    /// does not count among those that are compared.
    fn take_sample(&mut self) -> Sample {
        let now = self.upstream.tally();
        let before = std::mem::replace(&mut self.before, now);
        if !self.is_used() || !self.health.is_available() {
            return Sample::default();
        }
        Sample {
            successes: now.successes().saturating_sub(before.successes()),
            failures: now.failures().saturating_sub(before.failures()),
        }
    }
}

impl Checked for Fleet {
    fn addresses(&self) -> Vec<SocketAddr> {
        let members = self.lock();
        members.iter().filter(|member| member.is_used()).map(|one| one.upstream.addr()).collect()
    }

    fn checked(&self, address: SocketAddr, passed: bool, is_healthy: bool) {
        let mut members = self.lock();
        // It may have left while it was asked.
        let Ok(index) = find(&members, address) else { return };
        let member = &mut members[index];
        let count = if passed { &member.checks_passed } else { &member.checks_failed };
        count.inc();
        if member.health.is_unhealthy() == is_healthy {
            let now_ms = self.now_ms();
            member.health.set_healthy(is_healthy, now_ms);
            let backend = member.upstream.name();
            tracing::warn!(backend, is_healthy, "health of backend changed");
            self.settle(&mut members, now_ms);
            drop(members);
            self.watch.wake.notify_one();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2).max(1)
}
