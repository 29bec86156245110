//! The zones that clients are in: how many of their calls stayed there, and where the others
//! went.

use measure::{
    histogram::quantile_of_all,
    record::{TrialRecord, ZoneRecord},
};

use crate::{
    model::{Model, PeerView},
    once::each_once,
};

/// The clients of one zone, over all trials of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneView<'a> {
    /// The zone.
    pub name: &'a str,
    /// Their part of all successful calls.
    pub share: f64,
    /// The part of their calls that a backend of another zone served; `None` where they had
    /// none.
    pub crossed: Option<f64>,
    /// The p99 of their calls in nanoseconds; `None` where they had none.
    pub p99_ns: Option<f64>,
    /// The part of their calls that the backends of each zone served, by the zones of
    /// [`backend_zones`].
    pub to: Vec<f64>,
}

/// The zones that backends are in, in the order of the backends.
pub fn backend_zones<'m>(model: &'m Model<'_>) -> Vec<&'m str> {
    each_once(model.run.backends.iter().filter_map(|backend| backend.zone.as_deref()))
}

/// The zones of a peer's clients; none where there are no zones, or no trial gave figures.
pub fn of<'a>(model: &Model<'a>, peer: &PeerView<'a>) -> Vec<ZoneView<'a>> {
    let trials: Vec<&TrialRecord> = peer.measured().map(|(record, _)| record).collect();
    let Some(first) = trials.first() else { return Vec::new() };
    let calls = |zone: &ZoneRecord| zone.per_backend.iter().sum::<u64>();
    let all: u64 = trials.iter().flat_map(|trial| &trial.zones).map(calls).sum();
    let names = backend_zones(model);
    let view = |(index, one): (usize, &'a ZoneRecord)| {
        let own: Vec<&ZoneRecord> =
            trials.iter().filter_map(|trial| trial.zones.get(index)).collect();
        let sum: u64 = own.iter().map(|zone| calls(zone)).sum();
        let part = |calls: u64| calls as f64 / sum.max(1) as f64;
        let latencies = own.iter().map(|zone| &zone.latency);
        let crossed: u64 = own.iter().map(|zone| zone.crossed).sum();
        let served_by = |name: &&str| {
            let is_there = |(_, at): &(&u64, &Option<String>)| at.as_deref() == Some(*name);
            let zones = model.run.backends.iter().map(|backend| &backend.zone);
            let each = own.iter().map(|zone| {
                let there = zone.per_backend.iter().zip(zones.clone()).filter(is_there);
                there.map(|(calls, _)| calls).sum::<u64>()
            });
            part(each.sum())
        };
        ZoneView {
            name: &one.id,
            share: sum as f64 / all.max(1) as f64,
            crossed: (sum > 0).then(|| part(crossed)),
            p99_ns: quantile_of_all(latencies, 0.99).map(|ns| ns as f64),
            to: names.iter().map(served_by).collect(),
        }
    };
    first.zones.iter().enumerate().map(view).collect()
}
