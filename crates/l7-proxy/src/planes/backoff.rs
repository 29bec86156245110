//! When the next attempt to connect to a backend may be made.

use std::time::Duration;

use serve::backoff::pause;

use crate::config::UpstreamLimits;

/// The pause that one thread keeps after failures of one backend.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    rest: Option<(u64, String)>,
}

impl Backoff {
    /// While it is too early to try again: for how long, and why the last failed.
    pub(super) fn rest(&self, now_ns: u64) -> Option<(Duration, &str)> {
        let (until_ns, reason) = self.rest.as_ref().filter(|(until_ns, _)| now_ns < *until_ns)?;
        Some((Duration::from_nanos(until_ns - now_ns), reason))
    }

    /// A connection could not be made.
    pub(super) fn fail(
        &mut self,
        now_ns: u64,
        limits: &UpstreamLimits,
        random: u64,
        reason: String,
    ) {
        let pause = pause(self.failures, limits.backoff_min, limits.backoff_max, random);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now_ns + pause.as_nanos() as u64, reason));
    }

    /// The same for a connection that was made and ended before it had served a
    /// call. Once may be the fault of a call that was on it, or a moment that
    /// the backend restarted in; no pause follows.
    pub(super) fn fail_unproven(
        &mut self,
        now_ns: u64,
        limits: &UpstreamLimits,
        random: u64,
        reason: String,
    ) {
        if self.failures == 0 {
            self.failures = 1;
        } else {
            self.fail(now_ns, limits, random, reason);
        }
    }

    /// A connection has served a call.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_connects_during_the_rest() {
        let limits = UpstreamLimits::default();
        let mut backoff = Backoff::default();
        let rest = |backoff: &Backoff, now_ns| backoff.rest(now_ns).map(|(_, why)| why.to_owned());
        assert_eq!(rest(&backoff, 0), None);
        backoff.fail(0, &limits, u64::MAX / 2, "refused".to_owned());
        assert_eq!(rest(&backoff, 99_000_000).as_deref(), Some("refused"));
        assert_eq!(rest(&backoff, 101_000_000), None);
        backoff.clear();
        assert_eq!(rest(&backoff, 0), None);
    }

    #[test]
    fn connections_that_end_unused_are_made_at_once_only_the_first_time() {
        let limits = UpstreamLimits::default();
        let mut backoff = Backoff::default();
        let mut end = |now_ns| {
            backoff.fail_unproven(now_ns, &limits, u64::MAX / 2, "it went away".to_owned());
            [now_ns, now_ns + 159_000_000].map(|now_ns| backoff.rest(now_ns).is_some())
        };
        assert_eq!(end(0), [false, false]);
        assert_eq!(end(1), [true, true]);
        assert_eq!(end(1_000_000_000), [true, true], "they grow");
    }
}
