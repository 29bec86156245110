//! Decisions from runs that are made up.

use std::path::PathBuf;

use analysis::decide::{Decision, Finding, Situation};
use measure::folder::Run;

/// Runs in a results folder of their own.
pub(crate) struct Results(pub(crate) tempfile::TempDir);

impl Results {
    pub(crate) fn of(runs: &[Run]) -> Self {
        let results = Self(tempfile::tempdir().unwrap());
        for run in runs {
            results.add(run);
        }
        results
    }

    pub(crate) fn add(&self, run: &Run) -> PathBuf {
        super::write(run, self.0.path()).unwrap()
    }

    pub(crate) fn page(&self) -> PathBuf {
        self.0.path().join("decision.html")
    }

    pub(crate) fn decide(&self) -> Decision {
        Decision::of(&[self.0.path().to_owned()], &self.page()).unwrap()
    }
}

pub(crate) fn decide(runs: &[Run]) -> Decision {
    Results::of(runs).decide()
}

pub(crate) fn situation<'d>(decision: &'d Decision, scenario: &str) -> &'d Situation {
    decision.situations.iter().find(|one| one.finding.id == scenario).unwrap()
}

pub(crate) fn finding<'d>(findings: &'d [Finding], id: &str) -> &'d Finding {
    let ids: Vec<&str> = findings.iter().map(|one| one.id.as_str()).collect();
    findings.iter().find(|one| one.id == id).unwrap_or_else(|| panic!("{id} of {ids:?}"))
}

/// A run in which the balancer of calls is better by any measure.
pub(crate) fn clear(scenario: &str) -> Run {
    let happens = ["backend-crash", "scale-out", "rolling-restart"].contains(&scenario);
    let mut run = super::named(if happens { super::faulted() } else { super::run() }, scenario);
    super::keep_up(&mut run);
    if happens {
        super::lose(&mut run, "l4", 0.2);
    }
    run
}
