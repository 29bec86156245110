//! The CPU time of a target (`--bill`), which the coordinator reads: at the edges of the
//! window, as an agent reads that of its processes.

use std::time::Duration;

use measure::record::{ProcessCost, ProcessRole};

use crate::{external::External, lab::cost::Reading};

/// What a target had spent at a time; `None` where a meter could not be read.
type Spent = Vec<Option<Reading>>;

/// The bills of one trial.
pub(super) struct Bills<'a> {
    target: Option<&'a External>,
    /// The window, in nanoseconds of the trial's clock; without an end where it is that of the
    /// last call.
    start_ns: u64,
    end_ns: Option<u64>,
    before: Option<Spent>,
    after: Option<Spent>,
}

impl<'a> Bills<'a> {
    pub(super) fn new(
        target: Option<&'a External>,
        (start_ns, end_ns): (u64, Option<u64>),
    ) -> Self {
        let target = target.filter(|external| !external.meters.is_empty());
        Self { target, start_ns, end_ns, before: None, after: None }
    }

    /// Reads what is due. `is_over` says that no call will be made any more.
    pub(super) fn poll(&mut self, now_ns: u64, is_over: bool) {
        let Some(target) = self.target else { return };
        if self.before.is_none() && now_ns >= self.start_ns {
            self.before = Some(read(target));
        }
        let is_due = is_over || self.end_ns.is_some_and(|end_ns| now_ns >= end_ns);
        if self.before.is_some() && self.after.is_none() && is_due {
            self.after = Some(read(target));
        }
    }

    /// How long it is until something is due.
    pub(super) fn until(&self, now_ns: u64) -> Option<Duration> {
        let edge_ns = match (self.target, &self.before, &self.after) {
            (Some(_), None, _) => Some(self.start_ns),
            (Some(_), Some(_), None) => self.end_ns,
            _ => None,
        };
        edge_ns.map(|edge_ns| Duration::from_nanos(edge_ns.saturating_sub(now_ns)))
    }

    /// What was spent between. A part of what it cost is not its cost.
    pub(super) fn costs(&self) -> Vec<ProcessCost> {
        let (Some(target), Some(before), Some(after)) = (self.target, &self.before, &self.after)
        else {
            return Vec::new();
        };
        let name = &target.target.name;
        let cost = |(before, after): (&Option<Reading>, &Option<Reading>)| {
            Some(after.as_ref()?.since(before.as_ref()?, ProcessRole::Proxy, name))
        };
        let costs: Option<Vec<ProcessCost>> = before.iter().zip(after).map(cost).collect();
        costs.unwrap_or_default()
    }
}

fn read(target: &External) -> Spent {
    target.meters.iter().map(|meter| meter.read().ok()).collect()
}
