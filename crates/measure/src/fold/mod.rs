//! Call logs to the figures of a trial.
//!
//! A call belongs to the measured window by its *due* time: the load offered in
//! the window is what is judged, however long its answers take. Only
//! [`Counts::completed_in_window`] goes by the end instead, since that is the
//! work the window's CPU time was spent on. One file, since it is one accumulator: what a call
//! adds to it, and what its sums become.

mod groups;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::groups::{Backend, Group, Second, count, empty_tenth, merge_tenth};
use crate::{
    calllog::{CallLog, Entry, FailureKind, Outcome},
    histogram::{self, MAX_NS, Values},
    record::{
        BackendRecord, BalancerRecord, Counts, LoopMode, SecondRecord, TenthRecord, TrialRecord,
        ZoneRecord,
    },
};

const NS_PER_S: u64 = 1_000_000_000;
/// Length of one of [`Folded::tenths`].
const NS_PER_TENTH: u64 = NS_PER_S / 10;

/// The measured window, in nanoseconds since the trial's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond in it.
    pub start_ns: u64,
    /// First nanosecond after it.
    pub end_ns: u64,
}

impl Window {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.end_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    pub(crate) fn holds(&self, time_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&time_ns)
    }
}

/// What a fold needs to know besides the calls.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The measured window: what calls that were due in it say.
    pub window: Window,
    /// The window over which CPU time was read: calls that ended in it are what it
    /// was spent on. It is the measured one, and what was cut off that as warm-up.
    pub spent: Window,
    /// Ids of the backends by index.
    pub backend_ids: &'a [String],
    /// Names of the balancers by index, where several share the connections.
    pub balancers: &'a [String],
    /// Names of the zones by index, where clients are in some.
    pub zones: &'a [String],
    /// Open or closed loop: decides where latency counts from.
    pub mode: LoopMode,
    /// Whether a proxy stood between client and backends.
    pub through_proxy: bool,
    /// What answers tell of the time that a call spent in its backend.
    pub times: Times,
    /// Whether service times are wanted of each backend apart: of those that are not the
    /// lab's own nothing else says how they differ.
    pub by_backend: bool,
}

impl Setting<'_> {
    /// In which stretch of a length since the window's start a call ended.
    fn slot_of(&self, entry: &Entry, length_ns: u64) -> u32 {
        let elapsed = entry.done_ns.saturating_sub(self.window.start_ns) / length_ns;
        u32::try_from(elapsed).unwrap_or(u32::MAX)
    }
}

/// What is told of the time that a call spends in a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Nothing.
    Unknown,
    /// Its sum, of which nobody knows what was spent in a queue: it stands as service
    /// time. Zero where it was not seen.
    Whole,
    /// The time in its queue, and that in service.
    Apart,
    /// The same, found from when calls came to the backend and went. One that went before
    /// its turn has no time in service, and its whole time stands as that in the queue.
    Found,
}

/// A time of a call that is kept of all calls together.
#[derive(Clone, Copy)]
enum Span {
    Latency,
    LatencySent,
    LatencyWire,
    ReceiptDelay,
    Lateness,
    Queued,
    Service,
    InBackend,
    Overhead,
}

/// How many they are.
const SPANS: usize = Span::Overhead as usize + 1;

/// Everything in a trial's record that stems from its calls. Parts of several
/// generator processes merge exactly: merging equals folding together. One that comes from
/// another process is to be looked at with [`Folded::is_over`] first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folded {
    counts: Counts,
    saturated: u64,
    out_of_turn: u64,
    /// By [`Span`].
    spans: [Values; SPANS],
    backends: Vec<Backend>,
    balancers: Vec<Group>,
    zones: Vec<Group>,
    /// Those in which a call ended.
    seconds: BTreeMap<u32, Second>,
    tenths: BTreeMap<u32, TenthRecord>,
}

/// Folds the logs of one trial's workers.
pub fn fold<'a>(logs: impl IntoIterator<Item = &'a CallLog>, setting: &Setting<'_>) -> Folded {
    let mut folded = Folded::of(setting);
    for log in logs {
        let origin = Origin { balancer: log.balancer().into(), zone: log.zone().into() };
        for entry in log.entries() {
            folded.add(entry, origin, setting);
        }
    }
    folded
}

/// Folds calls that are handed over one by one as they end, each with the number of the zone
/// that it came from, and kept nowhere: those of a simulation, whose memory is that of the
/// calls under way.
pub fn fold_as_they_end(
    setting: &Setting<'_>,
    make_calls: impl FnOnce(&mut dyn FnMut(&Entry, usize)),
) -> Folded {
    let mut folded = Folded::of(setting);
    make_calls(&mut |entry, zone| folded.add(entry, Origin { balancer: 0, zone }, setting));
    folded
}

/// Where a call came from, and through.
#[derive(Clone, Copy)]
struct Origin {
    balancer: usize,
    zone: usize,
}

impl Folded {
    fn of(setting: &Setting<'_>) -> Self {
        let backends = setting.backend_ids.len();
        Self {
            counts: Counts::default(),
            saturated: 0,
            out_of_turn: 0,
            spans: Default::default(),
            backends: vec![Backend::default(); backends],
            balancers: vec![Group::empty(backends); setting.balancers.len()],
            zones: vec![Group::empty(backends); setting.zones.len()],
            seconds: BTreeMap::new(),
            tenths: BTreeMap::new(),
        }
    }

    fn add(&mut self, entry: &Entry, origin: Origin, setting: &Setting<'_>) {
        if let Outcome::Served { backend, .. } = entry.outcome {
            self.counts.completed_in_window += u64::from(setting.spent.holds(entry.done_ns));
            if let Some(backend) = self.backends.get_mut(usize::from(backend)) {
                backend.with_warm_up += 1;
            }
        }
        if !setting.window.holds(entry.due_ns) {
            return;
        }
        self.counts.scheduled += 1;
        let lateness = entry.sent_ns.saturating_sub(entry.ready_ns);
        if entry.outcome == Outcome::NotSent {
            self.counts.unfinished += 1;
            // What waited for a stream until the end is not the generator's doing; what
            // it never got to is.
            if lateness > 0 {
                self.record_bounded(Span::Lateness, lateness);
            }
            return;
        }
        self.counts.sent += 1;
        self.record_bounded(Span::Lateness, lateness);
        match entry.outcome {
            Outcome::Served { backend, queued, service } => {
                self.add_times(entry, usize::from(backend), (queued.get(), service.get()), setting);
                self.add_served(entry, (origin, usize::from(backend)), setting);
            }
            Outcome::Failed(kind) => {
                self.groups(origin).for_each(|group| group.failed += 1);
                self.add_failed(entry, kind, setting);
            }
            Outcome::Unfinished | Outcome::NotSent => self.counts.unfinished += 1,
        }
    }

    /// The balancer and the zone, where there are several.
    fn groups(&mut self, origin: Origin) -> impl Iterator<Item = &mut Group> {
        let balancer = self.balancers.get_mut(origin.balancer);
        balancer.into_iter().chain(self.zones.get_mut(origin.zone))
    }

    /// What is told of a served call's time in its backend.
    fn add_times(
        &mut self,
        entry: &Entry,
        backend: usize,
        (queued_ns, service_ns): (u64, u64),
        setting: &Setting<'_>,
    ) {
        let (whole_known, parts_known) = match setting.times {
            Times::Unknown => (false, false),
            Times::Whole => (service_ns > 0, false),
            Times::Apart => (true, true),
            // What the client ended first was not seen at all.
            Times::Found => (queued_ns + service_ns > 0, service_ns > 0),
        };
        if !whole_known {
            return;
        }
        let in_backend_ns = queued_ns + service_ns;
        self.record(Span::InBackend, in_backend_ns);
        let whole_ns = entry.done_ns.saturating_sub(entry.ready_ns);
        self.record(Span::Overhead, whole_ns.saturating_sub(in_backend_ns));
        self.out_of_turn += u64::from(setting.times == Times::Found && !parts_known);
        if parts_known {
            self.record_bounded(Span::Queued, queued_ns);
        }
        if parts_known || setting.times == Times::Whole {
            self.record_bounded(Span::Service, service_ns);
        }
        if parts_known
            && setting.by_backend
            && let Some(backend) = self.backends.get_mut(backend)
        {
            backend.service.get_or_insert_default().record(service_ns);
        }
    }

    fn record(&mut self, span: Span, value_ns: u64) {
        self.spans[span as usize].record(value_ns);
    }

    /// Records a value, and counts it where it is longer than a histogram holds.
    fn record_bounded(&mut self, span: Span, value_ns: u64) {
        self.saturated += u64::from(value_ns > MAX_NS);
        self.record(span, value_ns);
    }

    fn add_served(
        &mut self,
        entry: &Entry,
        (origin, backend): (Origin, usize),
        setting: &Setting<'_>,
    ) {
        let since_sent = entry.done_ns.saturating_sub(entry.sent_ns);
        let latency = match setting.mode {
            LoopMode::Open => entry.done_ns.saturating_sub(entry.due_ns),
            LoopMode::Closed => since_sent,
        };
        self.counts.ok += 1;
        self.record_bounded(Span::Latency, latency);
        self.record(Span::LatencySent, since_sent);
        if let Some(on_wire) = entry.on_wire {
            self.record(Span::LatencyWire, on_wire.took_ns());
            let delay = entry.done_ns.saturating_sub(on_wire.arrived_ns());
            self.record(Span::ReceiptDelay, delay);
        }
        let second = self.second_of(entry, setting);
        second.calls.serve(backend, latency);
        second.ok_after += u64::from(entry.done_ns >= setting.window.end_ns);
        if let Some(backend) = self.backends.get_mut(backend) {
            backend.latency.record(latency);
        }
        self.groups(origin).for_each(|group| group.serve(backend, latency));
        count(&mut self.tenth_of(entry, setting).per_backend, backend);
    }

    fn add_failed(&mut self, entry: &Entry, kind: FailureKind, setting: &Setting<'_>) {
        self.counts.add_failed(kind.side(setting.through_proxy), kind.name(), 1);
        let second = self.second_of(entry, setting);
        second.calls.failed += 1;
        second.failed_after += u64::from(entry.done_ns >= setting.window.end_ns);
        self.tenth_of(entry, setting).failed += 1;
    }

    fn second_of(&mut self, entry: &Entry, setting: &Setting<'_>) -> &mut Second {
        let second = self.seconds.entry(setting.slot_of(entry, NS_PER_S));
        second.or_insert_with(|| Second::empty(setting.backend_ids.len()))
    }

    fn tenth_of(&mut self, entry: &Entry, setting: &Setting<'_>) -> &mut TenthRecord {
        let tenth = self.tenths.entry(setting.slot_of(entry, NS_PER_TENTH));
        tenth.or_insert_with(|| empty_tenth(setting.backend_ids.len()))
    }

    /// Adds the calls of another part of the same trial.
    ///
    /// # Panics
    /// When the two parts were folded over different lists of backends.
    pub fn merge(&mut self, other: &Self) {
        let backends = self.backends.len();
        assert_eq!(backends, other.backends.len(), "parts of different trials");
        self.counts.merge(&other.counts);
        self.saturated += other.saturated;
        self.out_of_turn += other.out_of_turn;
        self.spans.iter_mut().zip(&other.spans).for_each(|(own, theirs)| own.merge(theirs));
        self.backends.iter_mut().zip(&other.backends).for_each(|(own, theirs)| own.merge(theirs));
        let groups = self.balancers.iter_mut().chain(&mut self.zones);
        let others = other.balancers.iter().chain(&other.zones);
        groups.zip(others).for_each(|(own, theirs)| own.merge(theirs));
        for (&at, theirs) in &other.seconds {
            self.seconds.entry(at).or_insert_with(|| Second::empty(backends)).merge(theirs);
        }
        for (&at, theirs) in &other.tenths {
            merge_tenth(self.tenths.entry(at).or_insert_with(|| empty_tenth(backends)), theirs);
        }
    }

    /// Whether it is over so many backends throughout.
    pub fn is_over(&self, backends: usize) -> bool {
        let seconds = self.seconds.values().map(|second| &second.calls);
        let groups = self.balancers.iter().chain(&self.zones).chain(seconds);
        let tenths = self.tenths.values().map(|tenth| tenth.per_backend.len());
        let mut lists = groups.map(|group| group.per_backend.len()).chain(tenths);
        self.backends.len() == backends && lists.all(|length| length == backends)
    }

    /// Values that were longer than a histogram holds.
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// Calls that were answered before their turn had come, as far as that is known.
    pub fn out_of_turn(&self) -> u64 {
        self.out_of_turn
    }

    /// The generator's lateness at a quantile, in nanoseconds.
    pub fn lateness_ns(&self, quantile: f64) -> u64 {
        histogram::quantile(&self.spans[Span::Lateness as usize], quantile).unwrap_or(0)
    }

    /// Calls by how they ended.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A trial's record with what comes of its calls, over the backends with these ids.
    pub fn complete(&self, trial: TrialRecord, ids: &[String]) -> TrialRecord {
        let stored = |span: Span| self.spans[span as usize].stored();
        TrialRecord {
            counts: self.counts.clone(),
            latency: stored(Span::Latency),
            latency_sent: stored(Span::LatencySent),
            latency_wire: stored(Span::LatencyWire),
            receipt_delay: stored(Span::ReceiptDelay),
            lateness: stored(Span::Lateness),
            queued: stored(Span::Queued),
            service: stored(Span::Service),
            in_backend: stored(Span::InBackend),
            overhead: stored(Span::Overhead),
            backends: self.backends(ids),
            series: self.series(),
            ..trial
        }
    }

    /// The backends, also those without a call. Their weights are the scenario's to say.
    fn backends(&self, ids: &[String]) -> Vec<BackendRecord> {
        let record = |(id, backend): (&String, &Backend)| BackendRecord {
            id: id.clone(),
            weight: 1,
            calls: backend.latency.len(),
            calls_with_warm_up: Some(backend.with_warm_up),
            latency: backend.latency.stored(),
            service: backend.service.as_ref().map(Values::stored),
        };
        ids.iter().zip(&self.backends).map(record).collect()
    }

    /// The balancers as they stand in the record, also those without a call.
    pub fn balancers(&self, names: &[String]) -> Vec<BalancerRecord> {
        let all = names.iter().zip(&self.balancers);
        all.map(|(name, balancer)| balancer.record(name.clone())).collect()
    }

    /// The zones of clients as they stand in the record, also those without a call.
    /// `backends` are the zones of the backends, by their numbers in `names`.
    pub fn zones(&self, names: &[String], backends: &[usize]) -> Vec<ZoneRecord> {
        let all = names.iter().zip(&self.zones).enumerate();
        let zone = |(zone, (name, group)): (usize, (&String, &Group))| {
            let BalancerRecord { id, failed, per_backend, latency } = group.record(name.clone());
            let others = backends.iter().zip(&per_backend).filter(|(at, _)| **at != zone);
            let crossed = others.map(|(_, calls)| calls).sum();
            ZoneRecord { id, failed, per_backend, crossed, latency }
        };
        all.map(zone).collect()
    }

    /// The series, without gaps.
    fn series(&self) -> Vec<SecondRecord> {
        let Some((&last, _)) = self.seconds.last_key_value() else { return Vec::new() };
        let silent = Second::empty(self.backends.len());
        (0..=last)
            .map(|second| self.seconds.get(&second).unwrap_or(&silent).record(second))
            .collect()
    }

    /// The measured window in tenths of a second, without gaps and without what ended after
    /// it.
    pub fn tenths(&self, window: Window) -> Vec<TenthRecord> {
        let count = window.end_ns.saturating_sub(window.start_ns) / NS_PER_TENTH;
        let silent = empty_tenth(self.backends.len());
        (0..u32::try_from(count).unwrap_or(u32::MAX))
            .map(|tenth| self.tenths.get(&tenth).unwrap_or(&silent).clone())
            .collect()
    }
}
