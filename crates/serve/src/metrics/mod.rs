//! Counters, gauges and histograms on atomics, and their exposition in
//! Prometheus' text format, version 0.0.4.
//!
//! Written here rather than taken from a crate because the hot path of a proxy
//! wants one relaxed add on a cache line of its own and nothing else. Looking a
//! series up takes a lock, so servers do it when a thread, connection or
//! backend begins and keep the handle.
//!
//! Source of the format: prometheus.io, "Exposition formats", text-based.

mod text;
mod value;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use value::{Counter, Gauge, Histogram};

/// The labels of one series, sorted by name.
type Labels = Vec<(String, String)>;

/// A set of metrics. Clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<String, Family>>>,
}

/// All series of one name.
#[derive(Debug)]
struct Family {
    help: String,
    kind: Kind,
    series: BTreeMap<Labels, Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

enum Series {
    /// Summed when they are read; see [`Metrics::counter_shard`].
    Counter(Vec<Counter>),
    Gauge(Gauge),
    /// Asked for its value at each exposition.
    Computed(Box<dyn Fn() -> f64 + Send + Sync>),
    Histogram(Histogram),
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counter(shards) => f.debug_tuple("Counter").field(shards).finish(),
            Self::Gauge(gauge) => f.debug_tuple("Gauge").field(gauge).finish(),
            Self::Computed(_) => f.write_str("Computed"),
            Self::Histogram(histogram) => f.debug_tuple("Histogram").field(histogram).finish(),
        }
    }
}

impl Metrics {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of this name and these labels, made when it is new. Names
    /// of counters end in `_total`.
    ///
    /// A name belongs to one kind of metric. Asking for it as another kind is
    /// a mistake in the program: it trips a debug assertion, and a release
    /// build gives a counter that is in no exposition.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        self.series(
            (name, help, Kind::Counter),
            labels,
            || Series::Counter(vec![Counter::default()]),
            |series| match series {
                Series::Counter(shards) => shards.first().cloned(),
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// A further cell of a counter; the exposition shows the sum of them. For
    /// threads that count often: sharing one cell would move its cache line
    /// between cores on every add. Call it once a thread, for a cell lives as
    /// long as the set.
    pub fn counter_shard(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        self.series(
            (name, help, Kind::Counter),
            labels,
            || Series::Counter(Vec::new()),
            |series| match series {
                Series::Counter(shards) => {
                    let shard = Counter::default();
                    shards.push(shard.clone());
                    Some(shard)
                }
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// The gauge of this name and these labels, made when it is new. Kinds are
    /// as in [`Metrics::counter`].
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        self.series(
            (name, help, Kind::Gauge),
            labels,
            || Series::Gauge(Gauge::default()),
            |series| match series {
                Series::Gauge(gauge) => Some(gauge.clone()),
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// A gauge whose value is computed at each exposition; for values that are
    /// kept elsewhere anyway. The first computation of a series stays.
    pub fn gauge_fn(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let made = || Series::Computed(Box::new(value));
        let _ = self.series((name, help, Kind::Gauge), labels, made, |_| Some(()));
    }

    /// The histogram of this name and these labels, made when it is new with
    /// the given upper bounds of its buckets, ascending. Kinds are as in
    /// [`Metrics::counter`].
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
    ) -> Histogram {
        self.series(
            (name, help, Kind::Histogram),
            labels,
            || Series::Histogram(Histogram::new(bounds)),
            |series| match series {
                Series::Histogram(histogram) => Some(histogram.clone()),
                _ => None,
            },
        )
        .unwrap_or_else(|| Histogram::new(bounds))
    }

    /// Takes out every series that has this label; for a backend that left.
    pub fn remove_labelled(&self, label: &str, value: &str) {
        for family in self.lock().values_mut() {
            family.series.retain(|labels, _| !labels.iter().any(|(l, v)| l == label && v == value));
        }
    }

    /// The set in Prometheus' text format.
    pub fn expose(&self) -> String {
        text::expose(&self.lock())
    }

    fn series<T>(
        &self,
        (name, help, kind): (&str, &str, Kind),
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Series,
        take: impl FnOnce(&mut Series) -> Option<T>,
    ) -> Option<T> {
        debug_assert!(text::is_metric_name(name), "`{name}` is no metric name");
        debug_assert!(
            labels.iter().all(|(label, _)| text::is_label_name(label)),
            "{labels:?} has a bad label name"
        );
        let mut families = self.lock();
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
        });
        debug_assert_eq!(family.kind, kind, "`{name}` is registered as another kind");
        if family.kind != kind {
            return None;
        }
        let mut labels: Labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        labels.sort();
        take(family.series.entry(labels).or_insert_with(make))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Family>> {
        // A panic under the lock can leave nothing half done that matters to
        // counters, so a poisoned lock is as good as another.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_the_same_series() {
        let metrics = Metrics::new();
        let one = metrics.counter("calls_total", "Calls.", &[("a", "1"), ("b", "2")]);
        let same = metrics.counter("calls_total", "Calls.", &[("b", "2"), ("a", "1")]);
        one.inc();
        same.add(2);
        assert_eq!(one.get(), 3);
    }

    #[test]
    fn shards_are_shown_as_their_sum() {
        let metrics = Metrics::new();
        let shards: Vec<_> =
            (0..3).map(|_| metrics.counter_shard("calls_total", "Calls.", &[])).collect();
        for (index, shard) in (1..).zip(&shards) {
            shard.add(index);
        }
        assert!(metrics.expose().contains("\ncalls_total 6\n"), "{}", metrics.expose());
    }

    #[test]
    fn a_backend_that_left_is_no_longer_shown() {
        let metrics = Metrics::new();
        for backend in ["b1", "b2"] {
            metrics.gauge("load", "Load.", &[("backend", backend)]).set(1);
        }
        metrics.remove_labelled("backend", "b1");
        let text = metrics.expose();
        assert!(!text.contains("b1") && text.contains("b2"), "{text}");
    }
}
