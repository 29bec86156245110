//! A trial in formats that other tools read: series as CSV and as a histogram
//! log, the summary as Prometheus text. Whole histograms are in the record as they
//! are ([`crate::histogram`]), as base64 and as `.hgrm`.
//!
//! | function | format | read by |
//! |---|---|---|
//! | [`series_csv`] | RFC 4180 | spreadsheets, pandas, R |
//! | [`series_hlog`] | HdrHistogram log 1.3 | HistogramLogAnalyzer and its like |
//! | [`prometheus`] | text exposition format 0.0.4 | Prometheus' textfile collector, a push gateway |
//!
//! Left out: reading any of them back. The run folder is the one source.

mod prometheus;
mod series;

pub use prometheus::prometheus;
pub use series::{series_csv, series_hlog};

/// The quantiles given, by their names in CSV columns.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// A histogram of some values, as the tests of each format need it.
#[cfg(test)]
fn histogram(values: &[u64]) -> crate::histogram::HistogramRecord {
    let mut histogram = crate::histogram::new_histogram();
    values.iter().for_each(|&value| crate::histogram::record(&mut histogram, value));
    crate::histogram::HistogramRecord::from_histogram(&histogram)
}
