//! What a run tells whoever watches it: a terminal, metrics, a test.

use std::time::Duration;

use measure::record::{SearchResult, TrialRecord};

use super::trial::TrialProgress;

/// Something that happened in a run.
pub(crate) enum Event<'a> {
    /// Something that must not be missed.
    Note(&'a str),
    /// So many of the simulations are done.
    Simulated {
        done: usize,
        of: usize,
    },
    /// Trials begin; `each` is the length of one, where it is known.
    Planned {
        trials: usize,
        each: Option<Duration>,
    },
    /// More trials than were planned, and why.
    Added {
        trials: usize,
        why: &'a str,
    },
    /// A search begins: how many trials it takes is found out as it goes, and its
    /// budget is the most time it takes.
    SearchBegins {
        peers: usize,
        repeats: u32,
        budget: Duration,
    },
    /// What a search found.
    Found(&'a SearchResult),
    TrialBegins {
        name: &'a str,
        repeat: u32,
    },
    /// A look at the trial that runs.
    Progress(TrialProgress),
    TrialEnds(&'a TrialRecord),
}

/// Whoever watches a run. Simulations are told from several threads, one at a time.
pub(crate) trait Observer: Send {
    fn on(&mut self, event: Event<'_>);
}
