//! The values themselves: atomics behind cheap handles.
//!
//! Each value has a cache line of its own (two, where the prefetcher fetches
//! pairs), so that threads counting different things don't slow each other.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// A count that only rises. Clones count into the same cell.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Padded<AtomicU64>>);

impl Counter {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count of this cell.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// A value that rises and falls. Clones move the same value.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Padded<AtomicI64>>);

impl Gauge {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.0.store(value, Ordering::Relaxed);
    }

    /// Raises the value by `n`.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Lowers the value by `n`.
    #[inline]
    pub fn sub(&self, n: i64) {
        self.0.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// A distribution in fixed buckets, for what is observed rarely (once a
/// connection, say). Latencies of single calls belong in an HdrHistogram.
/// Clones observe into the same buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bounds, ascending; a last bucket without a bound follows.
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &[f64]) -> Self {
        debug_assert!(bounds.is_sorted(), "bounds must ascend: {bounds:?}");
        Self(Arc::new(Buckets {
            bounds: bounds.to_vec(),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
        }))
    }

    /// Counts `value` in its bucket.
    #[inline]
    pub fn observe(&self, value: f64) {
        let Buckets { bounds, counts, sum } = &*self.0;
        let index = bounds.partition_point(|bound| *bound < value);
        counts[index].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always gives a value, so this can't fail.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many values were observed.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all values observed.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.0.sum.load(Ordering::Relaxed))
    }

    /// Upper bound and count (not cumulative) of each bucket; the last bound
    /// is infinite.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 1.5, 10.0, 11.0] {
            histogram.observe(value);
        }
        let counts: Vec<_> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 24.0).abs() < 1e-9);
    }

    #[test]
    fn many_threads_lose_no_count() {
        let (counter, histogram) = (Counter::default(), Histogram::new(&[1.0]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.inc();
                        histogram.observe(1.0);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 4000);
        assert!((histogram.sum() - 4000.0).abs() < 1e-9);
    }
}
