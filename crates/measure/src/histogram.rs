//! HdrHistograms as they stand in a record.
//!
//! A histogram is stored whole, in the V2 compressed encoding and base64, which
//! every HdrHistogram tool reads, beside a few figures for people who open the
//! JSON. Values are nanoseconds with 3 significant digits, from 1 ns to an hour.

use std::ops::Deref;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest value kept; larger ones are counted as this one.
pub(crate) const MAX_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits.
const DIGITS: u8 = 3;

/// A histogram in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramRecord {
    /// Unit of the values: always `ns`.
    pub unit: String,
    /// Values recorded.
    pub count: u64,
    /// Smallest value; zero when there is none.
    pub min: u64,
    /// Largest value; zero when there is none.
    pub max: u64,
    /// Mean; zero when there is none.
    pub mean: f64,
    /// The histogram: HdrHistogram V2, compressed, in base64.
    pub v2: String,
}

/// A stored histogram that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole V2 HdrHistogram in base64: {0}")]
pub struct HistogramError(String);

/// An empty histogram of the lab's range and precision.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, DIGITS)
        .expect("1 ns to 1 h with 3 digits is a valid range")
}

/// Records `value_ns`, cut to the range.
pub fn record(histogram: &mut Histogram<u64>, value_ns: u64) {
    histogram.saturating_record(value_ns.max(1));
}

impl HistogramRecord {
    /// Stores a histogram.
    pub fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("writing to memory cannot fail, and the counts fit the format");
        let empty = histogram.is_empty();
        Self {
            unit: "ns".to_owned(),
            count: histogram.len(),
            min: if empty { 0 } else { histogram.min() },
            max: if empty { 0 } else { histogram.max() },
            mean: if empty { 0.0 } else { histogram.mean() },
            v2: BASE64.encode(bytes),
        }
    }

    /// Whether it can be read, and holds as many values as it says.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn check(&self) -> Result<(), HistogramError> {
        let held = self.read()?.len();
        if held == self.count {
            return Ok(());
        }
        Err(HistogramError(format!("it holds {held} values, and `count` is {}", self.count)))
    }

    fn read(&self) -> Result<Histogram<u64>, HistogramError> {
        let bytes = BASE64.decode(&self.v2).map_err(|error| HistogramError(error.to_string()))?;
        let read = Deserializer::new().deserialize(&mut bytes.as_slice());
        read.map_err(|error| HistogramError(error.to_string()))
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When the text is not what [`HistogramRecord::from_histogram`] or another
    /// HdrHistogram tool writes.
    pub fn to_histogram(&self) -> Result<Histogram<u64>, HistogramError> {
        let read = self.read()?;
        let mut histogram = new_histogram();
        // The encoding drops the upper bound where nothing was recorded; adding
        // to one of the lab's range makes all histograms alike again.
        histogram.add(&read).map_err(|error| HistogramError(error.to_string()))?;
        Ok(histogram)
    }
}

impl Default for HistogramRecord {
    fn default() -> Self {
        Self::from_histogram(&new_histogram())
    }
}

/// A histogram that goes from one process to another, as it stands in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HistogramRecord", into = "HistogramRecord")]
pub(crate) struct Values(Histogram<u64>);

impl Values {
    pub(crate) fn record(&mut self, value_ns: u64) {
        record(&mut self.0, value_ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    pub(crate) fn stored(&self) -> HistogramRecord {
        HistogramRecord::from_histogram(&self.0)
    }
}

impl Default for Values {
    fn default() -> Self {
        Self(new_histogram())
    }
}

impl Deref for Values {
    type Target = Histogram<u64>;

    fn deref(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl From<Values> for HistogramRecord {
    fn from(values: Values) -> Self {
        values.stored()
    }
}

impl TryFrom<HistogramRecord> for Values {
    type Error = HistogramError;

    fn try_from(record: HistogramRecord) -> Result<Self, HistogramError> {
        record.to_histogram().map(Self)
    }
}

/// Steps of a percentile distribution from one halving of what is left to the next.
const STEPS_PER_HALF: u32 = 5;

/// The value that a part of all values stays within: the one definition of a quantile
/// of this project, whatever shows it. `None` without a value.
pub fn quantile(histogram: &Histogram<u64>, part: f64) -> Option<u64> {
    // 0.55 of 100 values is 55.00000000000001 in floating point, and would be the 56th;
    // HdrHistogram in Java takes the number before, and so does this.
    let part = if part > 0.0 { part.next_down() } else { part };
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(part))
}

/// The same over the values of several records; `None` where one can't be read.
pub fn quantile_of_all<'a>(
    records: impl IntoIterator<Item = &'a HistogramRecord>,
    part: f64,
) -> Option<u64> {
    let mut all = new_histogram();
    for record in records {
        all += record.to_histogram().ok()?;
    }
    quantile(&all, part)
}

/// The percentile distribution as HdrHistogram's tools print it (`.hgrm`), with
/// values in milliseconds.
pub fn to_hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let ms = |ns: f64| ns / 1e6;
    for part in quantile_steps() {
        let Some(value) = quantile(histogram, part) else { break };
        let within = histogram.count_between(0, value);
        let inverse = 1.0 / (1.0 - part);
        let value = ms(value as f64);
        text.push_str(&format!("{value:12.3} {part:2.12} {within:10} {inverse:14.2}\n"));
        if within == histogram.len() {
            let (whole, all) = (1.0, within);
            text.push_str(&format!("{value:12.3} {whole:2.12} {all:10}\n"));
            break;
        }
    }
    text.push_str(&format!(
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n",
        ms(if histogram.is_empty() { 0.0 } else { histogram.mean() }),
        ms(if histogram.is_empty() { 0.0 } else { histogram.stdev() }),
    ));
    text.push_str(&format!(
        "#[Max     = {:12.3}, Total count    = {:12}]\n",
        ms(histogram.max() as f64),
        histogram.len(),
    ));
    text.push_str(&format!(
        "#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.buckets(),
        2048
    ));
    text
}

/// The quantiles of a percentile distribution, without an end: 0, 0.1, ... 0.4, 0.5,
/// 0.55, ... Each is worked out by itself. The iterator of the `hdrhistogram` crate adds
/// steps up instead, and the rounding errors make of 0.9 a little more, which is the
/// value after where 0.9 of the values are a whole number.
fn quantile_steps() -> impl Iterator<Item = f64> {
    (0..).flat_map(|half| {
        (0..STEPS_PER_HALF).map(move |step| {
            let left = f64::from(2 * STEPS_PER_HALF - step) / f64::from(2 * STEPS_PER_HALF);
            1.0 - left / 2_f64.powi(half)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_the_whole_histogram() {
        let mut histogram = new_histogram();
        for value in [0, 1, 999, 1_000_000, 5_000_000_000, u64::MAX] {
            record(&mut histogram, value);
        }
        let stored = HistogramRecord::from_histogram(&histogram);
        assert!(stored.v2.starts_with("HISTF"), "the standard tools' cookie: {}", stored.v2);
        assert_eq!(stored.count, 6);
        let back = stored.to_histogram().unwrap();
        assert_eq!(back, histogram);
        assert_eq!(HistogramRecord::from_histogram(&back), stored);
    }

    #[test]
    fn an_empty_histogram_is_zeros_and_no_panic() {
        let stored = HistogramRecord::default();
        assert_eq!((stored.count, stored.min, stored.max), (0, 0, 0));
        assert!(stored.to_histogram().unwrap().is_empty());
        assert!(to_hgrm(&new_histogram()).contains("Total count"));
    }

    #[test]
    fn rubbish_is_an_error() {
        for v2 in ["", "!", "AAAA", "HISTFAAAAA=="] {
            let stored = HistogramRecord { v2: v2.into(), ..HistogramRecord::default() };
            assert!(stored.to_histogram().is_err(), "{v2}");
            assert!(stored.check().is_err(), "{v2}");
        }
        let other = HistogramRecord { count: 1, ..HistogramRecord::default() };
        assert!(other.check().unwrap_err().to_string().contains("0 values"));
    }

    #[test]
    fn a_quantile_is_the_value_of_its_rank_whatever_shows_it() {
        // Ten to a thousand values that a histogram tells apart, and every quantile that is
        // a whole number of them.
        for count in [10, 20, 100, 160, 1_000] {
            let mut histogram = new_histogram();
            (1..=count).for_each(|value| record(&mut histogram, value));
            for rank in 1..=count {
                let value = quantile(&histogram, rank as f64 / count as f64);
                assert_eq!(value, Some(rank), "{rank} of {count}");
            }
        }
        assert_eq!(quantile(&new_histogram(), 0.5), None);
        // 160 values: the 144th is what 0.9 of them stay within.
        let mut histogram = new_histogram();
        (1..=160).for_each(|value| record(&mut histogram, value * 1_000_000));
        let text = to_hgrm(&histogram);
        let mut rows = 0;
        for line in text.lines().skip(2).filter(|line| !line.starts_with('#')) {
            let fields: Vec<f64> = line.split_whitespace().map(|f| f.parse().unwrap()).collect();
            let said = quantile(&histogram, fields[1]).unwrap() as f64 / 1e6;
            assert!((fields[0] - said).abs() < 0.001, "{line}: {said} ms");
            rows += 1;
        }
        assert!(rows > 20, "{text}");
        let line = text.lines().find(|line| line.contains(" 0.900000000000 ")).unwrap();
        assert_eq!(line.split_whitespace().nth(2), Some("144"), "{line}");
    }

    #[test]
    fn hgrm_lines_rise_to_all_values() {
        let mut histogram = new_histogram();
        (1..=10_000).for_each(|value| record(&mut histogram, value * 1_000));
        let text = to_hgrm(&histogram);
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert!(last.contains("1.000000000000"), "{last}");
        assert!(last.contains("10000"), "{last}");
    }
}
