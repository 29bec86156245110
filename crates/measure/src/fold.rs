//! Call logs to the figures of a trial.
//!
//! A call belongs to the measured window by its *due* time: the load offered in
//! the window is what is judged, however long its answers take. Only
//! [`Counts::completed_in_window`] goes by the end instead, since that is the
//! work the window's CPU time was spent on.

use std::{borrow::Cow, collections::BTreeMap};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    calllog::{CallLog, Entry, FailureKind, Outcome},
    histogram::{self, HistogramError, HistogramRecord, MAX_NS, new_histogram, record},
    record::{
        BackendRecord, BalancerRecord, Counts, FailureCount, LoopMode, SecondRecord, Side,
        TenthRecord, ZoneRecord,
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

/// Everything in a trial's record that stems from its calls. Parts of several
/// generator processes merge exactly: merging equals folding together.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    scheduled: u64,
    sent: u64,
    ok: u64,
    unfinished: u64,
    completed_in_window: u64,
    saturated: u64,
    failed: BTreeMap<(Side, Cow<'static, str>), u64>,
    latency: Histogram<u64>,
    latency_sent: Histogram<u64>,
    latency_wire: Histogram<u64>,
    receipt_delay: Histogram<u64>,
    lateness: Histogram<u64>,
    queued: Histogram<u64>,
    service: Histogram<u64>,
    in_backend: Histogram<u64>,
    overhead: Histogram<u64>,
    /// Calls that each backend served, whenever they were due.
    with_warm_up: Vec<u64>,
    out_of_turn: u64,
    backends: Vec<Histogram<u64>>,
    /// Service times of those that have some, where they are wanted.
    services: BTreeMap<usize, Histogram<u64>>,
    balancers: Vec<Group>,
    zones: Vec<Group>,
    seconds: BTreeMap<u32, Second>,
    tenths: BTreeMap<u32, TenthRecord>,
}

#[derive(Clone, Debug, PartialEq)]
struct Second {
    failed: u64,
    ok_after: u64,
    failed_after: u64,
    per_backend: Vec<u64>,
    latency: Histogram<u64>,
}

impl Second {
    fn empty(backends: usize) -> Self {
        Self {
            failed: 0,
            ok_after: 0,
            failed_after: 0,
            per_backend: vec![0; backends],
            latency: new_histogram(),
        }
    }

    fn record(&self, second: u32) -> SecondRecord {
        SecondRecord {
            second,
            ok: self.latency.len(),
            failed: self.failed,
            ok_after: self.ok_after,
            failed_after: self.failed_after,
            per_backend: self.per_backend.clone(),
            latency: HistogramRecord::from_histogram(&self.latency),
        }
    }
}

/// A part of the clients: those of a balancer, or of a zone.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    failed: u64,
    per_backend: Vec<u64>,
    latency: Histogram<u64>,
}

impl Group {
    fn empty(backends: usize) -> Self {
        Self { failed: 0, per_backend: vec![0; backends], latency: new_histogram() }
    }

    fn serve(&mut self, backend: usize, latency: u64) {
        record(&mut self.latency, latency);
        if let Some(count) = self.per_backend.get_mut(backend) {
            *count += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.failed += other.failed;
        self.latency += &other.latency;
        add_each(&mut self.per_backend, &other.per_backend);
    }

    fn take(&mut self, stored: BalancerRecord) -> Result<(), HistogramError> {
        self.failed = stored.failed;
        self.per_backend = stored.per_backend;
        self.latency = stored.latency.to_histogram()?;
        Ok(())
    }

    fn record(&self, id: String) -> BalancerRecord {
        BalancerRecord {
            id,
            failed: self.failed,
            per_backend: self.per_backend.clone(),
            latency: HistogramRecord::from_histogram(&self.latency),
        }
    }
}

/// A fold on its way from one process to another, which has it back as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldedPart {
    counts: Counts,
    saturated: u64,
    /// In the order of [`Folded::all_histograms`].
    histograms: Vec<HistogramRecord>,
    with_warm_up: Vec<u64>,
    backends: Vec<HistogramRecord>,
    out_of_turn: u64,
    services: BTreeMap<usize, HistogramRecord>,
    balancers: Vec<BalancerRecord>,
    #[serde(default)]
    zones: Vec<BalancerRecord>,
    /// Those in which a call ended.
    seconds: Vec<SecondRecord>,
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
        let groups = (setting.balancers.len(), setting.zones.len());
        Self::empty(setting.backend_ids.len(), groups)
    }

    fn empty(backends: usize, (balancers, zones): (usize, usize)) -> Self {
        let groups = |count| (0..count).map(|_| Group::empty(backends)).collect();
        Self {
            scheduled: 0,
            sent: 0,
            ok: 0,
            unfinished: 0,
            completed_in_window: 0,
            saturated: 0,
            failed: BTreeMap::new(),
            latency: new_histogram(),
            latency_sent: new_histogram(),
            latency_wire: new_histogram(),
            receipt_delay: new_histogram(),
            lateness: new_histogram(),
            queued: new_histogram(),
            service: new_histogram(),
            in_backend: new_histogram(),
            overhead: new_histogram(),
            with_warm_up: vec![0; backends],
            out_of_turn: 0,
            backends: (0..backends).map(|_| new_histogram()).collect(),
            services: BTreeMap::new(),
            balancers: groups(balancers),
            zones: groups(zones),
            seconds: BTreeMap::new(),
            tenths: BTreeMap::new(),
        }
    }

    fn add(&mut self, entry: &Entry, origin: Origin, setting: &Setting<'_>) {
        if let Outcome::Served { backend, .. } = entry.outcome {
            self.completed_in_window += u64::from(setting.spent.holds(entry.done_ns));
            if let Some(calls) = self.with_warm_up.get_mut(usize::from(backend)) {
                *calls += 1;
            }
        }
        if !setting.window.holds(entry.due_ns) {
            return;
        }
        self.scheduled += 1;
        let lateness = entry.sent_ns.saturating_sub(entry.ready_ns);
        if entry.outcome == Outcome::NotSent {
            self.unfinished += 1;
            // What waited for a stream until the end is not the generator's doing; what
            // it never got to is.
            if lateness > 0 {
                self.record_as(|folded| &mut folded.lateness, lateness);
            }
            return;
        }
        self.sent += 1;
        self.record_as(|folded| &mut folded.lateness, lateness);
        match entry.outcome {
            Outcome::Served { backend, queued, service } => {
                self.add_times(entry, usize::from(backend), (queued.get(), service.get()), setting);
                self.add_served(entry, (origin, usize::from(backend)), setting);
            }
            Outcome::Failed(kind) => {
                self.groups(origin).for_each(|group| group.failed += 1);
                self.add_failed(entry, kind, setting);
            }
            Outcome::Unfinished | Outcome::NotSent => self.unfinished += 1,
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
        record(&mut self.in_backend, in_backend_ns);
        let whole_ns = entry.done_ns.saturating_sub(entry.ready_ns);
        record(&mut self.overhead, whole_ns.saturating_sub(in_backend_ns));
        self.out_of_turn += u64::from(setting.times == Times::Found && !parts_known);
        if parts_known {
            self.record_as(|folded| &mut folded.queued, queued_ns);
        }
        if parts_known || setting.times == Times::Whole {
            self.record_as(|folded| &mut folded.service, service_ns);
        }
        if parts_known && setting.by_backend {
            record(self.services.entry(backend).or_insert_with(new_histogram), service_ns);
        }
    }

    /// Records a value, and counts it where it is longer than a histogram holds.
    fn record_as(&mut self, histogram: fn(&mut Self) -> &mut Histogram<u64>, value_ns: u64) {
        self.saturated += u64::from(value_ns > MAX_NS);
        record(histogram(self), value_ns);
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
        self.ok += 1;
        self.record_as(|folded| &mut folded.latency, latency);
        record(&mut self.latency_sent, since_sent);
        if let Some(on_wire) = entry.on_wire {
            record(&mut self.latency_wire, on_wire.took_ns());
            let delay = entry.done_ns.saturating_sub(on_wire.arrived_ns());
            record(&mut self.receipt_delay, delay);
        }
        let second = self.second_of(entry, setting);
        record(&mut second.latency, latency);
        second.ok_after += u64::from(entry.done_ns >= setting.window.end_ns);
        if let Some(count) = second.per_backend.get_mut(backend) {
            *count += 1;
        }
        if let Some(histogram) = self.backends.get_mut(backend) {
            record(histogram, latency);
        }
        self.groups(origin).for_each(|group| group.serve(backend, latency));
        let tenth = self.tenth_of(entry, setting);
        if let Some(count) = tenth.per_backend.get_mut(backend) {
            *count += 1;
        }
    }

    fn add_failed(&mut self, entry: &Entry, kind: FailureKind, setting: &Setting<'_>) {
        let what = Cow::Borrowed(kind.name());
        *self.failed.entry((kind.side(setting.through_proxy), what)).or_default() += 1;
        let second = self.second_of(entry, setting);
        second.failed += 1;
        second.failed_after += u64::from(entry.done_ns >= setting.window.end_ns);
        self.tenth_of(entry, setting).failed += 1;
    }

    fn second_of(&mut self, entry: &Entry, setting: &Setting<'_>) -> &mut Second {
        let elapsed = entry.done_ns.saturating_sub(setting.window.start_ns) / NS_PER_S;
        let second = u32::try_from(elapsed).unwrap_or(u32::MAX);
        self.seconds.entry(second).or_insert_with(|| Second::empty(setting.backend_ids.len()))
    }

    fn tenth_of(&mut self, entry: &Entry, setting: &Setting<'_>) -> &mut TenthRecord {
        let elapsed = entry.done_ns.saturating_sub(setting.window.start_ns) / NS_PER_TENTH;
        let tenth = u32::try_from(elapsed).unwrap_or(u32::MAX);
        self.tenths.entry(tenth).or_insert_with(|| silent_tenth(setting.backend_ids.len()))
    }

    /// Adds the calls of another part of the same trial.
    ///
    /// # Panics
    /// When the two parts were folded over different lists of backends.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.backends.len(), other.backends.len(), "parts of different trials");
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.ok += other.ok;
        self.unfinished += other.unfinished;
        self.completed_in_window += other.completed_in_window;
        self.saturated += other.saturated;
        for (key, count) in &other.failed {
            *self.failed.entry(key.clone()).or_default() += count;
        }
        self.latency += &other.latency;
        self.latency_sent += &other.latency_sent;
        self.latency_wire += &other.latency_wire;
        self.receipt_delay += &other.receipt_delay;
        self.lateness += &other.lateness;
        self.queued += &other.queued;
        self.service += &other.service;
        self.in_backend += &other.in_backend;
        self.overhead += &other.overhead;
        add_each(&mut self.with_warm_up, &other.with_warm_up);
        self.out_of_turn += other.out_of_turn;
        for (&backend, theirs) in &other.services {
            *self.services.entry(backend).or_insert_with(new_histogram) += theirs;
        }
        for (own, theirs) in self.backends.iter_mut().zip(&other.backends) {
            *own += theirs;
        }
        let groups = self.balancers.iter_mut().chain(&mut self.zones);
        let others = other.balancers.iter().chain(&other.zones);
        groups.zip(others).for_each(|(own, theirs)| own.merge(theirs));
        for (&second, theirs) in &other.seconds {
            let own = self.seconds.entry(second);
            let own = own.or_insert_with(|| Second::empty(theirs.per_backend.len()));
            own.failed += theirs.failed;
            own.ok_after += theirs.ok_after;
            own.failed_after += theirs.failed_after;
            own.latency += &theirs.latency;
            add_each(&mut own.per_backend, &theirs.per_backend);
        }
        for (&tenth, theirs) in &other.tenths {
            let own = self.tenths.entry(tenth);
            let own = own.or_insert_with(|| silent_tenth(theirs.per_backend.len()));
            own.failed += theirs.failed;
            add_each(&mut own.per_backend, &theirs.per_backend);
        }
    }

    /// The histograms of all calls.
    fn all_histograms(&mut self) -> [&mut Histogram<u64>; 9] {
        [
            &mut self.latency,
            &mut self.latency_sent,
            &mut self.latency_wire,
            &mut self.receipt_delay,
            &mut self.lateness,
            &mut self.queued,
            &mut self.service,
            &mut self.in_backend,
            &mut self.overhead,
        ]
    }

    /// For another process.
    pub fn part(mut self) -> FoldedPart {
        let stored = |histogram: &mut Histogram<u64>| HistogramRecord::from_histogram(histogram);
        FoldedPart {
            counts: self.counts(),
            saturated: self.saturated,
            histograms: self.all_histograms().map(stored).into(),
            with_warm_up: self.with_warm_up,
            backends: self.backends.iter().map(HistogramRecord::from_histogram).collect(),
            out_of_turn: self.out_of_turn,
            services: self
                .services
                .iter()
                .map(|(&backend, own)| (backend, HistogramRecord::from_histogram(own)))
                .collect(),
            balancers: self.balancers.iter().map(|one| one.record(String::new())).collect(),
            zones: self.zones.iter().map(|one| one.record(String::new())).collect(),
            seconds: self.seconds.iter().map(|(&at, second)| second.record(at)).collect(),
            tenths: self.tenths,
        }
    }

    /// As another process made it, over so many backends.
    ///
    /// # Errors
    /// When it is none, or over other backends.
    pub fn of_part(part: FoldedPart, backends: usize) -> Result<Self, HistogramError> {
        let mut folded = Self::empty(backends, (part.balancers.len(), part.zones.len()));
        let all = folded.all_histograms();
        let seconds = part.seconds.iter().map(|second| second.per_backend.len());
        let tenths = part.tenths.values().map(|tenth| tenth.per_backend.len());
        let groups = part.balancers.iter().chain(&part.zones);
        let groups = groups.map(|one| one.per_backend.len());
        let mut lists = seconds
            .chain(tenths)
            .chain(groups)
            .chain([part.backends.len(), part.with_warm_up.len()]);
        if part.histograms.len() != all.len() || lists.any(|length| length != backends) {
            return Err(HistogramError::of_others());
        }
        for (own, stored) in all.into_iter().zip(&part.histograms) {
            *own = stored.to_histogram()?;
        }
        for (own, stored) in folded.backends.iter_mut().zip(&part.backends) {
            *own = stored.to_histogram()?;
        }
        folded.out_of_turn = part.out_of_turn;
        for (backend, stored) in part.services {
            if backend >= backends {
                return Err(HistogramError::of_others());
            }
            folded.services.insert(backend, stored.to_histogram()?);
        }
        let groups = folded.balancers.iter_mut().chain(&mut folded.zones);
        for (own, stored) in groups.zip(part.balancers.into_iter().chain(part.zones)) {
            own.take(stored)?;
        }
        for second in part.seconds {
            let SecondRecord { failed, ok_after, failed_after, per_backend, latency, .. } = second;
            let latency = latency.to_histogram()?;
            let own = Second { failed, ok_after, failed_after, per_backend, latency };
            folded.seconds.insert(second.second, own);
        }
        let counts = part.counts;
        let failed = counts.failed.into_iter();
        folded.failed = failed.map(|one| ((one.side, Cow::Owned(one.what)), one.calls)).collect();
        folded.scheduled = counts.scheduled;
        folded.sent = counts.sent;
        folded.ok = counts.ok;
        folded.unfinished = counts.unfinished;
        folded.completed_in_window = counts.completed_in_window;
        folded.saturated = part.saturated;
        folded.tenths = part.tenths;
        folded.with_warm_up = part.with_warm_up;
        Ok(folded)
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
        histogram::quantile(&self.lateness, quantile).unwrap_or(0)
    }

    /// The counts as they stand in the record.
    pub fn counts(&self) -> Counts {
        let failed = self
            .failed
            .iter()
            .map(|((side, what), &calls)| FailureCount {
                side: *side,
                what: what.clone().into_owned(),
                calls,
            })
            .collect();
        Counts {
            scheduled: self.scheduled,
            sent: self.sent,
            ok: self.ok,
            failed,
            unfinished: self.unfinished,
            completed_in_window: self.completed_in_window,
        }
    }

    /// Latency, latency from sending, lateness, queueing and service time, and
    /// the latter two together.
    pub fn histograms(&self) -> [HistogramRecord; 6] {
        [
            &self.latency,
            &self.latency_sent,
            &self.lateness,
            &self.queued,
            &self.service,
            &self.in_backend,
        ]
        .map(HistogramRecord::from_histogram)
    }

    /// Latency on the wire, and how long responses lay there before the generator took
    /// them.
    pub fn on_wire(&self) -> [HistogramRecord; 2] {
        [&self.latency_wire, &self.receipt_delay].map(HistogramRecord::from_histogram)
    }

    /// What calls spent outside of the backends.
    pub fn overhead(&self) -> HistogramRecord {
        HistogramRecord::from_histogram(&self.overhead)
    }

    /// The backends as they stand in the record, also those without a call. Their
    /// weights are the scenario's to say.
    pub fn backends(&self, ids: &[String]) -> Vec<BackendRecord> {
        ids.iter()
            .zip(self.backends.iter().zip(&self.with_warm_up).enumerate())
            .map(|(id, (index, (histogram, &with_warm_up)))| BackendRecord {
                id: id.clone(),
                weight: 1,
                calls: histogram.len(),
                calls_with_warm_up: Some(with_warm_up),
                latency: HistogramRecord::from_histogram(histogram),
                service: self.services.get(&index).map(HistogramRecord::from_histogram),
            })
            .collect()
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

    /// The series as it stands in the record, without gaps.
    pub fn series(&self) -> Vec<SecondRecord> {
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
        let silent = silent_tenth(self.backends.len());
        (0..u32::try_from(count).unwrap_or(u32::MAX))
            .map(|tenth| self.tenths.get(&tenth).unwrap_or(&silent).clone())
            .collect()
    }
}

fn silent_tenth(backends: usize) -> TenthRecord {
    TenthRecord { per_backend: vec![0; backends], failed: 0 }
}

fn add_each(own: &mut [u64], theirs: &[u64]) {
    for (own, theirs) in own.iter_mut().zip(theirs) {
        *own += theirs;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calllog::OnWire;

    const WINDOW: Window = Window { start_ns: NS_PER_S, end_ns: 3 * NS_PER_S };

    fn ids() -> Vec<String> {
        vec!["b0".into(), "b1".into()]
    }

    fn setting(ids: &[String], mode: LoopMode) -> Setting<'_> {
        Setting {
            window: WINDOW,
            spent: WINDOW,
            backend_ids: ids,
            balancers: &[],
            zones: &[],
            mode,
            through_proxy: true,
            times: Times::Apart,
            by_backend: false,
        }
    }

    fn entry(due_ns: u64, outcome: Outcome) -> Entry {
        Entry {
            due_ns,
            ready_ns: due_ns + 100,
            sent_ns: due_ns + 300,
            done_ns: due_ns + 1_000_000,
            on_wire: OnWire::new(due_ns + 400, due_ns + 900_400),
            outcome,
        }
    }

    fn log(entries: &[Entry]) -> CallLog {
        let mut log = CallLog::default();
        entries.iter().for_each(|&entry| log.push(entry));
        log
    }

    #[test]
    fn a_call_belongs_to_the_window_by_its_due_time() {
        let served = Outcome::served(1, 10, 20);
        let calls = log(&[
            entry(0, served),
            entry(NS_PER_S, served),
            entry(3 * NS_PER_S - 1, served),
            entry(3 * NS_PER_S, served),
        ]);
        let ids = ids();
        let folded = fold([&calls], &setting(&ids, LoopMode::Open));
        let counts = folded.counts();
        assert_eq!((counts.scheduled, counts.ok), (2, 2));
        assert_eq!(counts.completed_in_window, 1, "the second one ended after the window");
        assert_eq!(folded.series().len(), 3);
        assert_eq!(folded.backends(&ids).iter().map(|b| b.calls).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn what_a_balancer_spread_is_known_without_the_cut_of_the_window() {
        // Due in this order, and spread in another: the second reached the balancer first.
        let calls = log(&[
            entry(NS_PER_S - 2, Outcome::served(1, 10, 20)),
            entry(NS_PER_S - 1, Outcome::served(0, 10, 20)),
            entry(NS_PER_S, Outcome::served(1, 10, 20)),
            entry(NS_PER_S + 1, Outcome::served(1, 10, 20)),
            entry(NS_PER_S + 2, Outcome::served(0, 10, 20)),
            entry(NS_PER_S + 3, Outcome::Failed(FailureKind::from_status(14))),
        ]);
        let ids = ids();
        let folded = fold([&calls], &setting(&ids, LoopMode::Open)).backends(&ids);
        let known = folded.iter().map(|one| (one.calls, one.calls_with_warm_up));
        assert_eq!(known.collect::<Vec<_>>(), [(1, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn tenths_hold_what_ended_in_them_and_are_without_gaps() {
        let failed = Outcome::Failed(FailureKind::from_status(14));
        let calls = log(&[
            entry(NS_PER_S, Outcome::served(1, 10, 20)),
            entry(NS_PER_S + 250_000_000, failed),
            entry(3 * NS_PER_S - 1, Outcome::served(0, 10, 20)),
        ]);
        let ids = ids();
        let folded = fold([&calls], &setting(&ids, LoopMode::Open));
        let tenths = folded.tenths(WINDOW);
        assert_eq!(tenths.len(), 20);
        assert_eq!(tenths[0], TenthRecord { per_backend: vec![0, 1], failed: 0 });
        assert_eq!(tenths[2], TenthRecord { per_backend: vec![0, 0], failed: 1 });
        let ended: u64 = tenths.iter().flat_map(|tenth| &tenth.per_backend).sum();
        assert_eq!(ended, 1, "the last one ended after the window");
    }

    #[test]
    fn calls_are_known_by_the_balancer_that_they_went_through() {
        let failed = Outcome::Failed(FailureKind::from_status(14));
        let served = Outcome::served(1, 10, 20);
        let (first, second) = (log(&[entry(NS_PER_S, served)]), [served, served, failed]);
        let second = second.map(|outcome| entry(NS_PER_S, outcome));
        let logs = [first, log(&second).of_balancer(1)];
        let (ids, names) = (ids(), ["l7-0", "l7-1", "l7-2"].map(str::to_owned));
        let setting = Setting { balancers: &names, ..setting(&ids, LoopMode::Open) };
        let mut folded = fold(&logs[..1], &setting);
        folded.merge(&fold(&logs[1..], &setting));
        assert_eq!(folded, fold(&logs, &setting));
        let seen: Vec<_> = folded
            .balancers(&names)
            .into_iter()
            .map(|one| (one.id, one.failed, one.per_backend, one.latency.count))
            .collect();
        let expected = [("l7-0", 0, [0, 1], 1), ("l7-1", 1, [0, 2], 2), ("l7-2", 0, [0, 0], 0)];
        let expected = expected.map(|(id, failed, per_backend, count)| {
            (id.to_owned(), failed, per_backend.to_vec(), count)
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn calls_are_known_by_the_zone_of_their_client() {
        let served = |backend| entry(NS_PER_S, Outcome::served(backend, 10, 20));
        let failed = entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14)));
        let logs = [log(&[served(0), served(0), served(1)]), log(&[served(0), failed]).of_zone(1)];
        let (ids, names) = (ids(), ["a", "b", "c"].map(str::to_owned));
        let setting = Setting { zones: &names, ..setting(&ids, LoopMode::Open) };
        let mut folded = fold(&logs[..1], &setting);
        folded.merge(&fold(&logs[1..], &setting));
        assert_eq!(folded, fold(&logs, &setting));
        assert_eq!(folded, Folded::of_part(folded.clone().part(), 2).unwrap());
        // The first backend is in `a`, and the second in `c`, where no client is.
        let seen: Vec<_> = folded
            .zones(&names, &[0, 2])
            .into_iter()
            .map(|one| (one.id, one.failed, one.per_backend, one.crossed, one.latency.count))
            .collect();
        let expected = [("a", 0, [2, 1], 1, 3), ("b", 1, [1, 0], 1, 1), ("c", 0, [0, 0], 0, 0)];
        let expected = expected.map(|(id, failed, per_backend, crossed, count)| {
            (id.to_owned(), failed, per_backend.to_vec(), crossed, count)
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn latency_counts_from_the_schedule_only_in_an_open_loop() {
        let calls = log(&[Entry {
            sent_ns: NS_PER_S + 400_000,
            ..entry(NS_PER_S, Outcome::served(0, 0, 0))
        }]);
        let ids = ids();
        let max_10_us = |mode| fold([&calls], &setting(&ids, mode)).histograms()[0].max / 10_000;
        assert_eq!(max_10_us(LoopMode::Open), 100);
        assert_eq!(max_10_us(LoopMode::Closed), 60);
    }

    /// What the generator takes to send and to look is in neither.
    #[test]
    fn the_wire_is_known_apart_from_the_generator() {
        let served = Outcome::served(0, 0, 0);
        let unknown = Entry { on_wire: None, ..entry(NS_PER_S + 1, served) };
        let failed = entry(NS_PER_S, Outcome::Failed(FailureKind::ConnectionLost));
        let ids = ids();
        let calls = log(&[entry(NS_PER_S, served), unknown, failed]);
        let [wire, receipt] = fold([&calls], &setting(&ids, LoopMode::Open)).on_wire();
        assert_eq!((wire.count, wire.max / 10_000), (1, 90));
        assert_eq!((receipt.count, receipt.max / 1_000), (1, 99));
    }

    #[test]
    fn waiting_for_a_slot_is_not_the_generators_lateness() {
        let calls = log(&[Entry {
            ready_ns: NS_PER_S + 500_000,
            sent_ns: NS_PER_S + 500_200,
            ..entry(NS_PER_S, Outcome::served(0, 0, 0))
        }]);
        let ids = ids();
        assert_eq!(fold([&calls], &setting(&ids, LoopMode::Open)).lateness_ns(1.0), 200);
    }

    #[test]
    fn what_failed_is_counted_by_side_and_kind() {
        let calls = log(&[
            entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14))),
            entry(NS_PER_S, Outcome::Failed(FailureKind::from_status(14))),
            entry(NS_PER_S, Outcome::Failed(FailureKind::WrongPayload)),
            entry(NS_PER_S, Outcome::Unfinished),
            entry(NS_PER_S, Outcome::NotSent),
        ]);
        let ids = ids();
        let counts = fold([&calls], &setting(&ids, LoopMode::Open)).counts();
        assert_eq!((counts.scheduled, counts.sent, counts.unfinished), (5, 4, 2));
        let failed: Vec<_> =
            counts.failed.iter().map(|f| (f.side, f.what.as_str(), f.calls)).collect();
        assert_eq!(failed, [(Side::Proxy, "UNAVAILABLE", 2), (Side::Backend, "wrong payload", 1)]);
    }

    #[test]
    fn times_in_a_backend_are_kept_whole() {
        let second = NS_PER_S;
        let calls = log(&[entry(NS_PER_S, Outcome::served(0, 7 * second, 30 * second))]);
        let ids = ids();
        let folded = fold([&calls], &setting(&ids, LoopMode::Open));
        let [.., queued, service, in_backend] = folded.histograms();
        let seconds = [queued, service, in_backend].map(|one| one.max / second);
        assert_eq!(seconds, [7, 30, 37]);
        assert_eq!(folded.saturated(), 0);
        let hours = log(&[entry(NS_PER_S, Outcome::served(0, 0, u64::MAX))]);
        assert_eq!(fold([&hours], &setting(&ids, LoopMode::Open)).saturated(), 1, "not in silence");
    }

    #[test]
    fn a_time_as_a_whole_is_in_no_queue_and_may_not_have_been_seen() {
        let served = |service_ns| entry(NS_PER_S, Outcome::served(0, 0, service_ns));
        let calls = log(&[served(40_000), served(0)]);
        let ids = ids();
        let setting = |times| Setting { times, ..setting(&ids, LoopMode::Open) };
        let counts = |times| {
            let folded = fold([&calls], &setting(times));
            let [.., queued, service, in_backend] = folded.histograms();
            [queued, service, in_backend, folded.overhead()].map(|one| one.count)
        };
        assert_eq!(counts(Times::Whole), [0, 1, 1, 1]);
        assert_eq!(counts(Times::Apart), [2; 4]);
        assert_eq!(counts(Times::Unknown), [0; 4]);
    }

    #[test]
    fn a_call_before_its_turn_is_counted_and_has_no_service_time() {
        let found = |backend, queued_ns, service_ns| {
            entry(NS_PER_S, Outcome::served(backend, queued_ns, service_ns))
        };
        // In turn at either backend; before its turn; and not seen, since the client ended it.
        let calls = log(&[found(0, 500, 40_000), found(1, 0, 20_000), found(1, 900, 0)]);
        let unseen = log(&[found(0, 0, 0)]);
        let ids = ids();
        let setting =
            Setting { times: Times::Found, by_backend: true, ..setting(&ids, LoopMode::Open) };
        let folded = fold([&calls, &unseen], &setting);
        let [.., queued, service, in_backend] = folded.histograms();
        assert_eq!([queued, service, in_backend].map(|one| one.count), [2, 2, 3]);
        assert_eq!(folded.out_of_turn(), 1);
        let services: Vec<u64> =
            folded.backends(&ids).iter().map(|one| one.service.as_ref().unwrap().count).collect();
        assert_eq!(services, [1, 1]);
        let mut parts = fold([&calls], &setting);
        parts.merge(&Folded::of_part(fold([&unseen], &setting).part(), 2).unwrap());
        assert_eq!(parts, folded);
    }

    #[test]
    fn what_the_generator_never_got_to_is_its_lateness() {
        let due_ns = NS_PER_S;
        let given_up = |ready_ns| Entry {
            due_ns,
            ready_ns,
            sent_ns: 9 * NS_PER_S,
            done_ns: 9 * NS_PER_S,
            on_wire: None,
            outcome: Outcome::NotSent,
        };
        let ids = ids();
        let lateness = |entry| {
            let folded = fold([&log(&[entry])], &setting(&ids, LoopMode::Open));
            let counts = folded.counts();
            assert_eq!((counts.scheduled, counts.sent, counts.unfinished), (1, 0, 1));
            folded.histograms()[2].count
        };
        assert_eq!(lateness(given_up(due_ns)), 1);
        assert_eq!(lateness(given_up(9 * NS_PER_S)), 0, "it waited for a stream until then");
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let outcome = prop_oneof![
            (0_u16..2, any::<u64>(), any::<u64>()).prop_map(|(backend, q, s)| Outcome::served(
                backend,
                q >> 8,
                s >> 8
            )),
            (1_i32..18).prop_map(|code| Outcome::Failed(FailureKind::from_status(code))),
            Just(Outcome::Unfinished),
            Just(Outcome::NotSent),
        ];
        let one = (0..4 * NS_PER_S, 0..NS_PER_S, 0..NS_PER_S, 0..5 * NS_PER_S, outcome).prop_map(
            |(due_ns, wait, late, took, outcome)| Entry {
                due_ns,
                ready_ns: due_ns + wait,
                sent_ns: due_ns + wait + late,
                done_ns: due_ns + wait + late + took,
                on_wire: OnWire::new(due_ns + wait + late, due_ns + wait + late + took / 2),
                outcome,
            },
        );
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn merging_equals_folding_together(a in entries(), b in entries()) {
            let ids = ids();
            let setting = setting(&ids, LoopMode::Open);
            let (a, b) = (log(&a), log(&b));
            let together = fold([&a, &b], &setting);
            let mut merged = fold([&a], &setting);
            merged.merge(&fold([&b], &setting));
            prop_assert_eq!(&merged, &together);
            let json = serde_json::to_string(&merged.part()).unwrap();
            let back = Folded::of_part(serde_json::from_str(&json).unwrap(), 2).unwrap();
            prop_assert_eq!(&back, &together);
            let counts = together.counts();
            let failed: u64 = counts.failed.iter().map(|failure| failure.calls).sum();
            prop_assert_eq!(counts.scheduled, counts.ok + failed + counts.unfinished);
        }
    }
}
