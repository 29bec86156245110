//! Decisions from runs that are made up.

use std::path::PathBuf;

use measure::{
    folder::{Run, RunFolder},
    record::TrialRecord,
};
use report::decide::{Decision, Finding, Situation};

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
        let utc = run.record.started_utc.replace(['-', ':'], "");
        let folder = RunFolder::create(self.0.path(), &run.record.scenario, &utc).unwrap();
        folder.write_scenario("question = \"who serves?\"\n").unwrap();
        folder.write_run(&run.record).unwrap();
        let mut trials: Vec<_> = run.trials.iter().collect();
        trials.sort_by_key(|trial| trial.order);
        // Tests take trials out and put others in; a run has them without a gap.
        for (order, &trial) in (0..).zip(&trials) {
            folder.write_trial(&TrialRecord { order, ..trial.clone() }).unwrap();
        }
        folder.path().to_owned()
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
    let mut run = super::named(super::faulted(), scenario);
    let happens = ["backend-crash", "scale-out", "rolling-restart"].contains(&scenario);
    if happens {
        super::lose(&mut run, "l4", 0.2);
    } else {
        run.trials.iter_mut().for_each(|trial| trial.faults.clear());
    }
    run
}
