//! How a client that balances its calls learns which backends there are.
//!
//! Under xDS or with a lookaside balancer somebody tells it of each change. Over DNS nobody
//! does. gRPC's resolver asks once, when the channel starts, and again only when the channel
//! requests it, which is when a connection was lost or sent away, or could not be made; what
//! is requested within the minimum interval after the last resolution is done at its end
//! (`PollingResolver::MaybeStartResolvingLocked` of grpc-core, `resolver-dns.ts` of grpc-js,
//! `internal/resolver/dns` of grpc-go, all with 30 s; grpc/grpc 12295). The time to live of
//! the records plays no part.
//!
//! Left out: the time that a resolution takes, and failed ones. The lab's name always
//! resolves, to all backends that have joined and not left, whether they run or not.

use std::time::Duration;

/// Who tells a client of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Somebody, at once.
    Lookaside,
    /// A name, when it is resolved.
    Dns {
        /// The least time between two resolutions.
        interval: Duration,
    },
}

/// A name as one client knows it. Backends go by their indices, times are nanoseconds of
/// the monotonic clock.
#[derive(Debug)]
pub(super) struct Name {
    discovery: Discovery,
    /// What a resolution would give now.
    answer: Vec<usize>,
    /// What the last one gave; never empty.
    known: Vec<usize>,
    resolved_ns: u64,
    /// How often it was resolved after the first time.
    resolutions: usize,
    /// When it is resolved next, if that was asked for.
    due_ns: Option<u64>,
}

impl Name {
    /// As it is resolved for the first time; `members` is not empty.
    pub(super) fn new(discovery: Discovery, members: Vec<usize>, now_ns: u64) -> Self {
        Self {
            discovery,
            answer: members.clone(),
            known: members,
            resolved_ns: now_ns,
            resolutions: 0,
            due_ns: None,
        }
    }

    /// The backends that the client knows.
    pub(super) fn known(&self) -> &[usize] {
        &self.known
    }

    /// How often it was resolved after the first time.
    pub(super) fn resolutions(&self) -> usize {
        self.resolutions
    }

    /// The name stands for these backends from now on. Says whether the client hears of it
    /// at once.
    pub(super) fn change(&mut self, members: &[usize]) -> bool {
        members.clone_into(&mut self.answer);
        self.discovery == Discovery::Lookaside && self.learn()
    }

    /// The channel wants the name resolved. Returns when to call [`Name::resolve`], unless
    /// that is planned already.
    pub(super) fn request(&mut self, now_ns: u64) -> Option<u64> {
        let Discovery::Dns { interval } = self.discovery else { return None };
        if self.due_ns.is_some() {
            return None;
        }
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let due_ns = now_ns.max(self.resolved_ns.saturating_add(interval_ns));
        self.due_ns = Some(due_ns);
        Some(due_ns)
    }

    /// Resolves the name if that was requested and its time has come. Says whether the
    /// client knows other backends now.
    pub(super) fn resolve(&mut self, now_ns: u64) -> bool {
        let Some(due_ns) = self.due_ns.filter(|&due_ns| due_ns <= now_ns) else { return false };
        (self.due_ns, self.resolved_ns) = (None, due_ns);
        self.resolutions += 1;
        self.learn()
    }

    fn learn(&mut self) -> bool {
        // A name that stands for nothing is not believed.
        if self.answer.is_empty() || self.answer == self.known {
            return false;
        }
        self.known.clone_from(&self.answer);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DNS: Discovery = Discovery::Dns { interval: Duration::from_secs(30) };

    #[test]
    fn a_name_is_resolved_when_it_is_requested_and_no_sooner_than_the_interval() {
        let mut name = Name::new(DNS, vec![0, 1], SECOND);
        assert!(!name.change(&[0, 1, 2]));
        assert!(!name.resolve(100 * SECOND), "nobody has requested it");
        // Within the interval it waits for its end, however often it is requested.
        assert_eq!(name.request(5 * SECOND), Some(31 * SECOND));
        assert_eq!(name.request(6 * SECOND), None);
        assert!(!name.resolve(30 * SECOND));
        assert_eq!(name.known(), [0, 1]);
        assert!(name.resolve(31 * SECOND));
        assert_eq!(name.known(), [0, 1, 2]);
        // After it, at once.
        assert_eq!(name.request(80 * SECOND), Some(80 * SECOND));
        assert!(!name.resolve(80 * SECOND), "the answer is the same");
        assert_eq!(name.request(81 * SECOND), Some(110 * SECOND));
    }

    #[test]
    fn who_is_told_resolves_nothing() {
        let mut name = Name::new(Discovery::Lookaside, vec![0], 0);
        assert!(name.change(&[0, 1]) && !name.change(&[1, 0][..0]));
        assert_eq!(name.known(), [0, 1]);
        assert_eq!(name.request(SECOND), None);
    }
}
